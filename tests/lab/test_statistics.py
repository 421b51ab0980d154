#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_statistics.py - what the devices have counted of TCP, beside what the client has

If this fails, an administrator who adds up the devices of a cluster sees traffic, connections or resets twice that happened once, or
not at all, because a session has moved.
"""

import socket
import struct
import sys

import daemon
import harness

HOSTS = ("switch", "disk1", "disk2")
NODES = (2, 3, 1, 3, 2, 1, 2, 3, 2, 1)
CALLS = 20


class Counted:
    """Of the client's socket: struct tcp_info of linux/tcp.h."""

    def __init__(self, client):
        info = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        acknowledged, self.received, self.segments_out, self.segments_in = struct.unpack_from("=QQII", info, 120)
        self.sent = acknowledged - 1    # Linux counts the SYN of whoever opens


def totals(lab):
    """{name: sum over all devices}"""
    found = {}
    for host in HOSTS:
        for row in lab.nasctl("counters", host=host):
            if row["group"] == "tcp":
                found[row["name"]] = found.get(row["name"], 0) + row["value"]
    return found


def difference(after, before):
    return {name: after[name] - before[name] for name in after}


def hand_off(lab, client, node):
    session = lab.session(*client.local)
    if session["node"] == node:
        return
    daemon.ask(lab.plan, "switch", "handoff", str(session["id"]), str(node))
    if harness.wait_until(lambda: (lab.session(*client.local) or {}).get("node") == node, 10) is None:
        raise harness.Failed(f"the session is not on node {node}")


def calls(client):
    for _ in range(CALLS):
        client.call(100003, 3, 0)


def compare(test, lab, what, client, before):
    """Once the last acknowledgments have come."""
    test.within(10, f"{what}: bytes are counted once", lambda: all(
        difference(totals(lab), before)[ours] == theirs for ours, theirs in
        (("bytes_in", Counted(client).sent), ("bytes_out", Counted(client).received))),
        lambda: (difference(totals(lab), before), vars(Counted(client))))
    now, counted = difference(totals(lab), before), Counted(client)
    test.check(f"{what}: no segment twice, most of them at all",
               counted.segments_out / 2 < now["segments_in"] <= counted.segments_out, (now, vars(counted)))
    test.check(f"{what}: opened once, not reset, and there", (now["passive_opens"], now["established_resets"],
                                                              now["established"]) == (1, 0, 1), now)


def shown(lab, client):
    return lab.nasctl("session", "show", lab.session(*client.local)["id"])


def show(test, lab, client):
    """All that the client has sent and got, wherever the session was."""
    test.within(10, "session show: all bytes of the session", lambda: (
        shown(lab, client)["tcp"]["in_bytes"], shown(lab, client)["tcp"]["out_bytes"]) ==
        (Counted(client).sent, Counted(client).received), lambda: (shown(lab, client), vars(Counted(client))))
    answer = shown(lab, client)
    test.check("... its congestion window and segments", answer["tcp"]["congestion_window"] >= 10 and
               answer["tcp"]["segment_bytes"] > 1000 and answer["tcp"]["segments_in"] > CALLS, answer)
    test.check("... of a quiet session nothing but itself has moved", answer["moved"]["received_bytes"] == 0 and
               answer["handoff"] == {"state": "IDLE", "node": 0}, answer)


def moved(test, lab):
    before = totals(lab)
    with lab.client() as client:
        if harness.wait_until(lambda: lab.session(*client.local), 10) is None:
            raise harness.Failed("the session is not in the list")
        calls(client)
        compare(test, lab, "before it moves", client, before)
        for node in NODES:
            hand_off(lab, client, node)
            calls(client)
            if node in NODES[:3]:
                show(test, lab, client)
        test.check("it has moved", lab.session(*client.local)["handoffs"] >= len(NODES) - 1, lab.session(*client.local))
        compare(test, lab, f"after {len(NODES)} handoffs", client, before)
        counted = Counted(client)
    test.within(10, "it has ended", lambda: difference(totals(lab), before)["established"] == 0)
    now = difference(totals(lab), before)
    # The client's FIN has a sequence number, which Linux counts as a byte.
    test.check("what ended stays counted", (now["bytes_in"] - counted.sent, now["bytes_out"]) in ((0, counted.received),
                                                                                                (1, counted.received)),
               (now, vars(counted)))
    test.check("its end was no reset", now["established_resets"] == 0, now)


def reset(test, lab):
    before = totals(lab)
    client = lab.client()
    client.call(100003, 3, 0)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    test.within(10, "a client's RST is counted", lambda: difference(totals(lab), before)["established_resets"] == 1,
                lambda: difference(totals(lab), before))


def run(test):
    lab = test.lab("--slaves", "2")
    moved(test, lab)
    reset(test, lab)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
