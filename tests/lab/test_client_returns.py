#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_client_returns.py - a client crashes, and after its restart comes by the same port

NFS clients use few ports, so this is the rule. The disk that has the old connection hears nothing of the crash. If this
fails, the new connection is served for a while and then cut off, because somebody still believes in the old one.
"""

import socket
import sys
import time

import daemon
import harness
import raw_nfs

TCP_REPAIR = 19 # <linux/tcp.h>
PORT = 777
HANDOFFS = 6    # of the old session
REPORT_S = 1.5  # devices report their sessions each second
GRACE_S = 6     # a device relays for 5 s after the switch has confirmed (TCH_GRACE_MS)


def crash(client):
    """The client's kernel forgets the connection without a word."""
    client.socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    client.close()


def connect(lab):
    host = lab.hosts["client1"]
    return lab.client(source=(host["address"], PORT))


def session_of(lab):
    return lab.session(lab.hosts["client1"]["address"], PORT)


def is_handed(lab, session, node):
    try:
        lab.nasctl("handoff", session, node)
    except daemon.DaemonError:
        return False
    return True


def hand_on(lab, test, count):
    test.within(10, "the session is in the list", lambda: session_of(lab))
    session = session_of(lab)["id"]
    for i in range(count): # in a new lab, disk1 and disk2 may not know each other yet
        node = ("2", "3")[i % 2]
        test.within(10, f"node {node} takes it", lambda node=node: is_handed(lab, session, node))
    return session


def works(client, root):
    """Enough on disk1's data to be moved there by policy."""
    file = client.create(client.walk(root, "disk0"), "file")
    for i in range(64):
        client.write(file, i << 16, bytes(1 << 16))


def at_disk1(lab):
    return [row["id"] for row in lab.nasctl("session", "list", host="disk1")]


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    client = connect(lab)
    root = client.mount("/")
    old = hand_on(lab, test, HANDOFFS)
    test.check("the old connection is served at a disk", client.getattr(root))
    test.say("the client crashes")
    crash(client)

    with connect(lab) as client:
        test.check("the new connection is served", client.getattr(root))
        time.sleep(REPORT_S)
        sessions = [row["id"] for disk in ("disk1", "disk2") for row in lab.nasctl("session", "list", host=disk)]
        test.check("no disk has the old session", old not in sessions, sessions)
        works(client, root)
        test.within(10, "it follows its work to a disk", lambda: at_disk1(lab))
        test.check("it is a new session", at_disk1(lab) != [old], at_disk1(lab))
        time.sleep(GRACE_S)
        try:
            client.getattr(root)
            test.check("it goes on when the switch's daemon has forgotten that it gave it away", True)
        except raw_nfs.ConnectionLost as error:
            test.check("it goes on when the switch's daemon has forgotten that it gave it away", False, error)
        test.check("the switch knows where it is", session_of(lab)["node"] == 2, session_of(lab))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
