#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_traffic.py - who exchanges how much with clients: nasctl traffic

If this fails, an administrator looks for load where there is none, or bills the wrong department.

The client's own kernel knows what its connection has sent and got (TCP_INFO). The switch must say the same, before and after
the session has moved, and must not forget it when its daemon is killed.
"""

import socket
import struct
import sys

import daemon
import harness

HEADERS = 20 + 20 + 12    # IPv4, TCP, timestamps
SYN_OPTIONS = 8           # a SYN has that many bytes more
BLOCK = 64 * 1024
# struct tcp_info of linux/tcp.h: offset and format
SEGMENTS_OUT, SEGMENTS_IN, BYTES_RECEIVED, BYTES_SENT = (136, "I"), (140, "I"), (128, "Q"), (200, "Q")
FIELDS = "received_packets", "received_bytes", "sent_packets", "sent_bytes"


def tcp_info(client, what):
    at, kind = what
    return struct.unpack_from(kind, client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), at)[0]


def moved_by(client):
    """What the switch should have seen of it, as FIELDS."""
    out, back = tcp_info(client, SEGMENTS_OUT), tcp_info(client, SEGMENTS_IN)
    return (out, out * HEADERS + SYN_OPTIONS + tcp_info(client, BYTES_SENT),
            back, back * HEADERS + SYN_OPTIONS + tcp_info(client, BYTES_RECEIVED))


def of_client(lab, host):
    rows = lab.nasctl("traffic", "clients")
    row = next((row for row in rows if row["client"] == lab.hosts[host]["address"]), None)
    return tuple(row[field] for field in FIELDS) if row else (0, 0, 0, 0)


def of_nodes(lab):
    return {row["node"]: tuple(row[field] for field in FIELDS) for row in lab.nasctl("traffic", "nodes")}


def total(sums):
    return tuple(sum(column) for column in zip(*sums))


def work(client, name):
    file = client.create(client.walk(client.mount("/"), "disk0"), name)
    for i in range(8):
        client.write(file, i * BLOCK, bytes(BLOCK))
    for i in range(8):
        client.read(file, i * BLOCK, BLOCK)


def agrees(test, lab, client, what):
    test.within(10, f"{what}: the switch says of the client what its own kernel says",
                lambda: of_client(lab, "client1") == moved_by(client),
                lambda: f"{of_client(lab, 'client1')}, not {moved_by(client)}")
    # Asked one after the other: a late acknowledgment may come in between.
    test.within(10, f"{what}: the sums of the devices are those of the clients",
                lambda: total(of_nodes(lab).values()) == of_client(lab, "client1"), lambda: of_nodes(lab))


def all_is_acknowledged(lab, session):
    shown = lab.nasctl("session", "show", session)
    return all(shown[end]["unacknowledged_bytes"] == 0 and not shown[end]["closed"]
               for end in ("from_client", "to_client"))


def refused(lab, host):
    try:
        lab.nasctl("traffic", "nodes", host=host)
    except daemon.DaemonError as error:
        return str(error)
    return ""


def run(test):
    lab = test.lab("--slaves", "1", "--clients", "1")
    test.check("nobody has moved anything yet", lab.nasctl("traffic", "clients") == [])
    with lab.client() as client:
        client.null()
        agrees(test, lab, client, "at the switch")
        test.check("the disk has moved nothing", of_nodes(lab)[2] == (0, 0, 0, 0), of_nodes(lab))
        session = lab.session(*client.local[:2])["id"]
        lab.nasctl("handoff", session, "2")
        work(client, "file")
        agrees(test, lab, client, "after a handoff")
        shown = lab.nasctl("session", "show", session)
        test.check("session show: how many bytes each end has sent",
                   (shown["from_client"]["sent_bytes"], shown["to_client"]["sent_bytes"]) ==
                   (tcp_info(client, BYTES_SENT), tcp_info(client, BYTES_RECEIVED)), shown)
        test.within(10, "session show: all has been acknowledged", lambda: all_is_acknowledged(lab, session))
        at_disk = of_nodes(lab)[2]
        test.check("the disk has moved the data, both ways", min(at_disk[1], at_disk[3]) > 8 * BLOCK, at_disk)
        lab.kill("switch")
        client.getattr(client.mount("/"))
        lab.start("switch")
        agrees(test, lab, client, "after a restart of the switch's daemon")
    test.check("a disk refuses in words", "not" in refused(lab, "disk1"), refused(lab, "disk1"))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
