#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_filters.py - which networks may reach which service: [filter] of vnasd.conf

If this fails, clients get in that the administrator has shut out, or those are shut out that may come in.

client1 may reach NFS and client2 may not, IPv4 and IPv6, in connections that exist (at the switch, and at a disk) and in new ones.
"""

import os
import signal
import socket
import sys

import harness
import raw_nfs

PORTMAPPER_PORT = 111
IMPATIENCE_S = 1
PATIENCE_S = 30    # a refused client's TCP sends again at longer and longer intervals


def configure(test, lab, filters):
    """Put these [filter] sections in force: {network: services}."""
    path = lab.hosts["switch"]["config"]
    with open(path, encoding="utf-8") as file:
        text = file.read().split("\n[filter]\n")[0]
    for network, services in filters.items():
        text += f"\n[filter]\nnetwork = {network}\nservices = {services}\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.kill(lab.pid("switch"), signal.SIGHUP)
    test.within(10, f"filters={len(filters)} are in force",
                lambda: len(lab.nasctl("filter", "list")) == len(filters))


def connects(lab, host, server, port):
    with raw_nfs.socket_in(lab.netns(host), socket.AF_INET6 if ":" in server else socket.AF_INET) as tcp:
        tcp.settimeout(IMPATIENCE_S)
        try:
            tcp.connect((server, port))
        except TimeoutError:
            return False
        return True


def answers_datagram(lab, host, server):
    try:
        with raw_nfs.Datagrams(server, netns=lab.netns(host), timeout_s=IMPATIENCE_S) as udp:
            return bool(udp.exchange(raw_nfs.call_body(1, raw_nfs.NFS, 3, 0)))
    except TimeoutError:
        return False


class Session:
    """A connection with one call after the other; an answer that does not come is waited for the next time."""

    def __init__(self, lab, host, server):
        self.client = lab.client(host, server, timeout_s=IMPATIENCE_S)
        self.client.null()
        self.waits = False
        self.xid = 0

    def is_served(self, patience_s=IMPATIENCE_S):
        if not self.waits:
            self.xid += 1
            self.client.send(raw_nfs.record(raw_nfs.call_body(self.xid, raw_nfs.NFS, 3, 0)))
        self.client.socket.settimeout(patience_s)
        try:
            self.client.answer(self.xid)
            self.waits = False
        except TimeoutError:
            self.waits = True
        return not self.waits


def hand_off(test, lab, session):
    def is_moved():
        row = lab.session(*session.client.local)
        return row and lab.nasctl("handoff", row["id"], "2")["node"] == 2
    test.within(10, "a session of client2 moves to the disk", is_moved)


def refused_of(lab, network):
    return next(row["refused"] for row in lab.nasctl("filter", "list") if row["network"] == network)


def wrong(test, lab):
    """A wrong file changes nothing."""
    path = lab.hosts["switch"]["config"]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("services = portmapper", "services = portmaper"))
    os.kill(lab.pid("switch"), signal.SIGHUP)
    test.within(10, "a wrong file is refused, with the line",
                lambda: "services can't be \"portmaper\"" in lab.log("switch"))
    test.check("... and changes nothing", len(lab.nasctl("filter", "list")) == 2)


def run(test):
    lab = test.lab("--slaves", "1", "--clients", "2", "--ipv6")
    servers = lab.vip, lab.plan["vip6"]
    ours = lab.hosts["client2"]["address"] + "/32", lab.hosts["client2"]["address6"] + "/128"
    sessions = {(host, server): Session(lab, host, server) for host in ("client1", "client2") for server in servers}
    moved = Session(lab, "client2", servers[0])
    hand_off(test, lab, moved)
    test.check("without filters all are served", all(session.is_served() for session in sessions.values()))
    test.check("... also at the disk", moved.is_served())
    test.check("there are no filters", lab.nasctl("filter", "list") == [])

    configure(test, lab, {"10.77.0.0/16": "nfs, portmapper", "fd77::/16": "nfs, portmapper",
                          ours[0]: "portmapper", ours[1]: "portmapper"})
    for server in servers:
        test.check(f"{server}: client1 goes on", sessions["client1", server].is_served(PATIENCE_S))
        test.check(f"{server}: client1 opens a connection", connects(lab, "client1", server, raw_nfs.NFS_PORT))
        test.check(f"{server}: client1 is answered over UDP", answers_datagram(lab, "client1", server))
        test.check(f"{server}: client2's connection is not served", not sessions["client2", server].is_served())
        test.check(f"{server}: client2 opens none", not connects(lab, "client2", server, raw_nfs.NFS_PORT))
        test.check(f"{server}: client2 is not answered over UDP", not answers_datagram(lab, "client2", server))
        test.check(f"{server}: client2 reaches the port mapper", connects(lab, "client2", server, PORTMAPPER_PORT))
    test.check("client2's connection to the disk is not served", not moved.is_served())
    for network in ours:
        test.check(f"{network}: what was refused is counted", refused_of(lab, network) > 0)
    test.check("nothing was refused to others", refused_of(lab, "10.77.0.0/16") == refused_of(lab, "fd77::/16") == 0)
    test.check("client1 can't reach SCP", not connects(lab, "client1", servers[0], 2050))
    test.within(10, "it is in the log", lambda: "reason=client_filtered " in lab.log("switch"))
    test.check("... once", lab.log("switch").count("reason=client_filtered ") == 1)

    configure(test, lab, {ours[0]: "portmapper", ours[1]: "portmapper"})
    test.check("who is in no filter reaches all", connects(lab, "client1", servers[0], 2050))
    wrong(test, lab)
    configure(test, lab, {})
    test.check("without filters all are served again, on the same connections",
               all(session.is_served(PATIENCE_S) for session in sessions.values()))
    test.check("... also at the disk", moved.is_served(PATIENCE_S))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
