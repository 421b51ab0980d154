#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_first_device.py - clients' new connections go straight to disks

If this fails, clients can't connect although a server is there: because a disk has just died, because the switch's daemon is
away, or because somebody still believes in a connection that the client had before it crashed.

In both topologies, with IPv4 and IPv6. tests/platform/test_first_device.c has the rules packet by packet.
"""

import socket
import sys

import daemon
import harness
import raw_nfs

SWITCH, DISK1, DISK2 = 1, 2, 3
TCP_REPAIR = 19    # <linux/tcp.h>
PORT = 777
PATIENCE_S = 20
CONTENT = b"straight" * 100


def crash(client):
    """The client's kernel forgets the connection without a word."""
    client.socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    client.close()


def session_of(lab, client):
    address, port = client.local
    return lab.session(f"[{address}]" if ":" in address else address, port)


def node_of(test, lab, client):
    test.within(PATIENCE_S, "the session is in the list", lambda: session_of(lab, client))
    return session_of(lab, client)["node"]


def takes_new(lab):
    return [row["id"] for row in lab.nasctl("node", "list") if row["first_device"]]


def both_families(lab):
    return (lab.vip, lab.plan["vip6"])


def check_in_turn(test, lab):
    for server in both_families(lab):
        clients = [lab.client(server=server) for _ in range(4)]
        nodes = [node_of(test, lab, client) for client in clients]
        test.check(f"connections to {server} go to one disk after the other", nodes[0] != nodes[1] and
                   nodes[:2] == nodes[2:] and sorted(nodes[:2]) == [DISK1, DISK2], nodes)
        test.check("none of them was handed off", all(session_of(lab, client)["handoffs"] == 0 for client in clients))
        for client in clients:
            root = client.mount("/")
            file = client.create(client.walk(root, "disk0"), "straight")
            client.write(file, 0, CONTENT)
            test.check("a disk serves the whole tree", client.read(client.walk(root, "disk0/straight"), 0, 8192) == CONTENT)
            client.close()


def check_other_ports(test, lab):
    """The port mapper is the switch's alone."""
    with lab.client(port=111) as client:
        reply = client.call(raw_nfs.PORTMAP, 2, 0)
        test.check("the port mapper answers", reply is not None)


def hand_off(lab, client, node):
    try:
        lab.nasctl("handoff", session_of(lab, client)["id"], str(node))
    except daemon.DaemonError:
        return False
    return True


def check_handoff(test, lab):
    """A session that was opened at a disk is as good as any other."""
    client = lab.client()
    root = client.mount("/")
    started = node_of(test, lab, client)
    for node in (SWITCH, DISK1, DISK2, started):
        test.within(10, f"it moves to node {node}", lambda node=node: hand_off(lab, client, node))
        test.check("... and is served", client.getattr(root))
    client.close()


def check_client_returns(test, lab):
    host = lab.hosts["client1"]
    client = lab.client(source=(host["address"], PORT))
    client.null()
    first, old = node_of(test, lab, client), session_of(lab, client)["id"]
    crash(client)
    client = lab.client(source=(host["address"], PORT))
    root = client.mount("/")
    test.within(PATIENCE_S, "the new session is in the list", lambda: session_of(lab, client)["id"] != old)
    test.say(f"the first was at node {first}, the second is at node {session_of(lab, client)['node']}")
    test.within(PATIENCE_S, "no disk has the old session any more", lambda: old not in [
        row["id"] for disk in ("disk1", "disk2") for row in lab.nasctl("session", "list", host=disk)])
    test.check("the new one is served", client.getattr(root))
    client.close()


def connects(test, lab, count):
    """How many of so many connections are served; and at which nodes."""
    clients = []
    for _ in range(count):
        try:
            client = lab.client(timeout_s=PATIENCE_S)
            client.null()
            clients.append(client)
        except (OSError, raw_nfs.ConnectionLost) as error:
            test.say(f"a connection failed: {error}")
    harness.wait_until(lambda: all(session_of(lab, client) for client in clients), PATIENCE_S)
    nodes = {row["node"] for row in (session_of(lab, client) for client in clients) if row}
    for client in clients:
        client.close()
    return len(clients), nodes


def check_killed(test, lab):
    test.say("kill -9 of disk1's vnasd")
    lab.kill("disk1")
    if lab.plan["topology"] == "inline":
        # At once: the switch may not have heard of it, but it sees that the disk refuses.
        served, _ = connects(test, lab, 4)
        test.check("all who connect at that moment are served", served == 4, served)
    test.within(PATIENCE_S, "disk1 gets no new connections", lambda: takes_new(lab) == [DISK2], lambda: takes_new(lab))
    served, nodes = connects(test, lab, 4)
    test.check("all new connections go to disk2", served == 4 and nodes == {DISK2}, (served, nodes))
    test.say("kill -9 of disk2's vnasd, too")
    lab.kill("disk2")
    test.within(PATIENCE_S, "the switch gets new connections", lambda: takes_new(lab) == [SWITCH], lambda: takes_new(lab))
    served, nodes = connects(test, lab, 2)
    test.check("it serves them itself", served == 2 and nodes == {SWITCH}, (served, nodes))
    for disk in ("disk1", "disk2"):
        lab.start(disk)
    test.within(PATIENCE_S, "the disks come back and get new connections", lambda: takes_new(lab) == [DISK1, DISK2],
                lambda: takes_new(lab))


def check_silent(test, lab):
    """A SYN that nobody answers is given to somebody else when it comes for the third time."""
    test.say("disk1's cable is pulled")
    lab.cut("disk1")
    served, _ = connects(test, lab, 2)
    test.check("who connects before the switch has noticed is served", served == 2, served)
    test.within(PATIENCE_S, "the switch notices", lambda: takes_new(lab) == [DISK2], lambda: takes_new(lab))
    lab.heal("disk1")
    test.within(PATIENCE_S, "disk1 is back", lambda: takes_new(lab) == [DISK1, DISK2], lambda: takes_new(lab))


def check_without_master(test, lab):
    before = lab.client()
    root = before.mount("/")
    test.check("a session lives on a disk", node_of(test, lab, before) in (DISK1, DISK2))
    test.say("kill -9 of the switch's vnasd")
    lab.kill("switch")
    clients = [lab.client(timeout_s=PATIENCE_S) for _ in range(2)]
    test.check("new connections are served while the switch's daemon is away", all(
        client.getattr(client.mount("/")) for client in clients))
    there = [len(lab.nasctl("session", "list", host=disk)) for disk in ("disk1", "disk2")]
    test.check("... by the disks, in turn", min(there) >= 1 and sum(there) == 3, there)
    lab.start("switch")
    test.within(PATIENCE_S, "the disks are back in the list", lambda: takes_new(lab) == [DISK1, DISK2],
                lambda: takes_new(lab))
    test.within(PATIENCE_S, "the switch knows the sessions", lambda: all(session_of(lab, client) for client in clients))
    test.check("all go on", all(client.getattr(root) for client in clients + [before]))
    for client in clients + [before]:
        client.close()


def check_of_client(test, topology):
    lab = test.lab("--slaves", "2", "--clients", "2", "--topology", topology, "--first-device", "client")
    test.within(PATIENCE_S, "switch and disks get new connections", lambda: takes_new(lab) == [SWITCH, DISK1, DISK2],
                lambda: takes_new(lab))
    client = lab.client()
    test.check("a client that nobody knows comes to the switch", node_of(test, lab, client) == SWITCH)
    test.within(10, "it is handed to disk2", lambda: hand_off(lab, client, DISK2))
    again = lab.client()
    test.check("its next connection goes there at once", node_of(test, lab, again) == DISK2)
    test.check("... without a handoff", session_of(lab, again)["handoffs"] == 0)
    with lab.client("client2") as other:
        test.check("another client comes to the switch", node_of(test, lab, other) == SWITCH)
    client.close()
    again.close()
    lab.kill("disk2")
    test.within(PATIENCE_S, "disk2 gets no new connections", lambda: takes_new(lab) == [SWITCH, DISK1])
    with lab.client() as third:
        test.check("with disk2 away the client comes to the switch", node_of(test, lab, third) == SWITCH)


def check_topology(test, topology):
    test.say(topology)
    lab = test.lab("--slaves", "2", "--clients", "1", "--ipv6", "--topology", topology, "--first-device", "round-robin")
    test.within(PATIENCE_S, "the disks get new connections", lambda: takes_new(lab) == [DISK1, DISK2],
                lambda: takes_new(lab))
    test.check("nasctl status tells", lab.nasctl("status")["first_device"] == "round-robin")
    check_in_turn(test, lab)
    check_other_ports(test, lab)
    check_handoff(test, lab)
    check_client_returns(test, lab)
    check_killed(test, lab)
    check_silent(test, lab)
    check_without_master(test, lab)


def run(test):
    for topology in ("inline", "one-arm"):
        check_topology(test, topology)
        check_of_client(test, topology)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
