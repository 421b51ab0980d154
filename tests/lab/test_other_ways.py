#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_other_ways.py - clients whose packets don't pass the forwarding table

The switch or a disk mounts the cluster itself, or a client comes by an interface that vnasd was not told of, such as a VLAN of one
that it was. If this fails, such a client's connection is handed off, and broken, each time it moves some data.
"""

import sys

import daemon
import harness

PATIENCE_S = 10
BLOCK, BLOCKS = 1 << 16, 64    # enough to be handed off by policy
CONTENT = bytes(range(256)) * (BLOCK // 256)
SWITCH, DISK1, DISK2 = 1, 2, 3


def session_of(lab, client):
    address, port = client.local
    return lab.session(f"[{address}]" if ":" in address else address, port)


def hand_off(lab, session, node):
    """Why not; "" if it was handed off."""
    try:
        lab.nasctl("handoff", session["id"], str(node))
    except daemon.DaemonError as error:
        return str(error)
    return ""


def check_stays(test, lab, who, client, place, home):
    root = client.mount("/")
    test.within(PATIENCE_S, f"{who}: it is served", lambda: session_of(lab, client))
    session = session_of(lab, client)
    test.check("... at node {}".format(home), session["node"] == home, session)
    refused = hand_off(lab, session, DISK2 if home != DISK2 else DISK1)
    test.check("... and can't be handed off", refused, refused)
    file = client.create(client.walk(root, place), "other-way")
    for i in range(BLOCKS):
        client.write(file, i * BLOCK, CONTENT)
    test.check("what it writes on another device is relayed", client.read(file, (BLOCKS - 1) * BLOCK, BLOCK) == CONTENT)
    session = session_of(lab, client)
    test.check("it stays, on its connection", session and (session["node"], session["handoffs"]) == (home, 0), session)
    client.close()


def second_network(lab):
    """Another cable between client1 and the switch, by which the client reaches the VIP."""
    client = lab.hosts["client1"]["netns"]
    lab.run("switch", "ip", "link", "add", "other", "type", "veth", "peer", "name", "other", "netns", client)
    lab.run("switch", "ip", "link", "set", "other", "up")
    lab.run("switch", "ip", "address", "add", "10.77.9.1/24", "dev", "other")
    lab.run("client1", "ip", "link", "set", "other", "up")
    lab.run("client1", "ip", "address", "add", "10.77.9.11/24", "dev", "other")
    lab.run("client1", "ip", "route", "replace", f"{lab.vip}/32", "via", "10.77.9.1", "src", "10.77.9.11")


def run(test):
    for topology in ("inline", "one-arm"):
        lab = test.lab("--slaves", "2", "--clients", "1", "--ipv6", "--topology", topology)
        for server in (lab.vip, lab.plan["vip6"]):
            check_stays(test, lab, f"{topology}: the switch mounts {server}", lab.client("switch", server=server), "disk0",
                        SWITCH)
            check_stays(test, lab, f"{topology}: disk1 mounts {server}", lab.client("disk1", server=server), "disk1", DISK1)
        with lab.client() as client:
            client.null()
            test.within(PATIENCE_S, "an ordinary client's session is handed off", lambda: session_of(
                lab, client) and hand_off(lab, session_of(lab, client), DISK1) == "")
        second_network(lab)
        check_stays(test, lab, f"{topology}: a client by another interface", lab.client(), "disk0", SWITCH)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
