#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_locks.py - locks of two clients, wherever their connections are and whoever restarts

If this fails, two programs on two machines write the same file at once, each sure that it is alone; or they wait for a
lock that nobody has.

The files are in /disk0, which is disk1's, and /disk1, which is disk2's. Locks are asked for at the VIP, so they are relayed
until the connection is handed to a disk node.
"""

import fcntl
import os
import sys

import harness
import raw_nlm
from raw_nlm import BLOCKED, DEADLOCK, DENIED, FAILED, GRACE, OK

DISK1, DISK2 = 2, 3
PATIENCE_S = 10
GRACE_S = 45


class Side:
    """One client: its NFS and NLM connections, and what the server calls it for."""

    def __init__(self, test, lab, host, ipv6=False, **peer):
        self.test, self.lab, self.host = test, lab, host
        self.vip = lab.plan["vip6"] if ipv6 else lab.vip
        self.address = lab.hosts[host]["address6" if ipv6 else "address"]
        self.peer = raw_nlm.Peer(lab.netns(host), self.address, **peer)
        test.at_end(self.peer.close)
        self.connect()

    def connect(self):
        self.client = self.lab.client(self.host, self.vip, source=(self.address, 0))
        self.locker = raw_nlm.Locker(self.client, self.host)

    def move_to(self, node):
        address, port = self.client.local
        self.lab.nasctl("handoff", self.lab.session(address, port)["id"], str(node))
        self.test.within(10, f"{self.host}'s connection is with node {node}",
                         lambda: self.lab.session(address, port)["node"] == node)


def check_conflict(test, one, two, file):
    test.check("client 1 locks", one.locker.lock(file, 1, 10, 20) == OK)
    test.check("client 2 sees whose it is", two.locker.test(file, 2, 0, 0) == (1, 10, 20))
    test.check("... and does not get it", two.locker.lock(file, 2, 15, 1) == DENIED)
    test.check("... but what is beside it", two.locker.lock(file, 2, 30, 1) == OK)
    two.locker.unlock(file, 2)
    test.check("client 1 unlocks", one.locker.unlock(file, 1) == OK)


def check_called(test, one, other, how, file):
    """@other waits for a lock of client 1's, and is called from the VIP that it knows."""
    one.locker.lock(file, 1)
    test.check(f"{how}: a client waits", other.locker.lock(file, 2, 5, 6, block=True) == BLOCKED)
    other.peer.granted.clear()
    one.locker.unlock(file, 1)
    test.check("... and is called", other.peer.serve(PATIENCE_S, lambda: other.peer.granted))
    test.check("... from the VIP", other.peer.granted == [(other.vip, 2, 5, 6)], other.peer.granted)
    other.peer.serve(1)    # the answer is on its way
    test.check("... once", len(other.peer.granted) == 1, other.peer.granted)
    test.check("... and has it", one.locker.test(file, 1) == (2, 5, 6))
    other.locker.unlock(file, 2)


def check_blocking(test, lab, one, two, file):
    one.locker.lock(file, 1)
    test.check("client 2 waits for client 1's lock", two.locker.lock(file, 2, block=True) == BLOCKED)
    one.locker.unlock(file, 1)
    test.need("... and is called when it is free", two.peer.serve(PATIENCE_S, lambda: two.peer.granted))
    test.check("... from the VIP, with what it asked for", two.peer.granted == [(lab.vip, 2, 0, 0)], two.peer.granted)
    test.check("client 1 sees it", one.locker.test(file, 1) == (2, 0, 0))
    two.locker.unlock(file, 2)

    one.locker.lock(file, 1)
    two.locker.lock(file, 2, block=True)
    test.check("client 2 does not want to wait any more", two.locker.cancel(file, 2) == OK)
    one.locker.unlock(file, 1)
    test.check("... and nobody has it", one.locker.test(file, 3) is None)

    two.peer.granted.clear()
    one.locker.lock(file, 1)
    two.locker.lock(file, 2, block=True)
    two.peer.is_silent = True
    one.locker.unlock(file, 1)
    two.peer.serve(2)
    test.check("client 2 does not answer: it has the lock all the same", one.locker.lock(file, 1) == DENIED)
    two.peer.is_silent = False
    test.check("... and is called again", two.peer.serve(30, lambda: two.peer.granted))
    two.locker.unlock(file, 2)


def check_deadlock(test, one, two, file):
    one.locker.lock(file, 1, 0, 1)
    two.locker.lock(file, 2, 1, 1)
    two.peer.granted.clear()
    test.check("client 2 waits for client 1", two.locker.lock(file, 2, 0, 1, block=True) == BLOCKED)
    test.check("client 1 must not wait for client 2", one.locker.lock(file, 1, 1, 1, block=True) == DEADLOCK)
    one.locker.unlock(file, 1)
    test.check("... and when it gives up, client 2 goes on", two.peer.serve(PATIENCE_S, lambda: two.peer.granted))
    two.locker.unlock(file, 2)


def check_local(test, lab, one, file, name):
    path = os.path.join(lab.hosts["disk1"]["storage"], name)
    one.locker.lock(file, 1, 10, 10)
    with open(path, "r+b") as opened:
        try:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 15)
            test.check("a local process is kept out", False)
        except BlockingIOError:
            test.check("a local process is kept out", True)
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 50)
        test.check("... and keeps clients out", one.locker.lock(file, 1, 50, 1) == DENIED)
        test.check("... who may wait", one.locker.lock(file, 1, 50, 1, block=True) == BLOCKED)
    one.peer.granted.clear()
    test.check("... until it ends", one.peer.serve(PATIENCE_S, lambda: one.peer.granted))
    one.locker.unlock(file, 1)


def check_datagrams(test, lab, one, file):
    datagrams = raw_nlm.Datagrams(lab.netns("client1"), lab.vip)
    test.at_end(datagrams.close)
    reply = datagrams.call(raw_nlm.NLM, 4, raw_nlm.LOCK_MSG, one.locker.lock_arguments(file, 5))
    test.check("LOCK_MSG over UDP is taken", reply is not None and not reply.data)
    test.check("... and answered by a call", one.peer.serve(PATIENCE_S, lambda: one.peer.results))
    test.check("... from the VIP", one.peer.results and one.peer.results[0][0] == lab.vip and
               one.peer.results[0][2] == OK, one.peer.results)
    one.locker.unlock(file, 5)


def check_handoff(test, one, two, file):
    one.locker.lock(file, 1)
    one.move_to(DISK1)
    test.check("after a handoff client 1 has its lock", two.locker.lock(file, 2) == DENIED)
    test.check("... and unlocks over the moved connection", one.locker.unlock(file, 1) == OK)
    test.check("... and client 2 gets it", two.locker.lock(file, 2) == OK)
    two.move_to(DISK2)
    test.check("client 2 unlocks by way of a third device", two.locker.unlock(file, 2) == OK)
    test.check("... and client 1 gets it", one.locker.lock(file, 1) == OK)
    one.locker.unlock(file, 1)


def check_master_restart(test, lab, one, two, file):
    two.locker.lock(file, 2)
    lab.kill("switch")
    lab.start("switch")
    one.connect()
    test.within(PATIENCE_S, "the switch is back and asks disk1, where client 2 has its lock",
                lambda: one.locker.lock(file, 1) == DENIED)
    test.check("client 2's connection has lived", two.locker.unlock(file, 2) == OK)
    two.connect()


def check_told(test, other, how, file, offset):
    """A restarted node has told @other, who reclaims."""
    test.check(f"{how}: a client is told of the restart", other.peer.serve(30, lambda: other.peer.notices))
    test.check("... by the VIP that it knows", [notice[:2] for notice in other.peer.notices] == [(other.vip, other.vip)],
               other.peer.notices)
    test.check("... and reclaims", other.locker.lock(file, 4, offset, 1, reclaim=True) == OK)
    other.locker.unlock(file, 4)


def check_node_restart(test, lab, one, two, others, file, elsewhere):
    one.peer.notices.clear()
    test.check("client 1 has a lock on disk1", one.locker.lock(file, 1, 0, 1000) == OK)
    for at, other in enumerate(others.values()):
        other.connect()
        other.peer.notices.clear()
        test.check("... and another a lock beside it", other.locker.lock(file, 4, 1000 + at, 1) == OK)
    lab.kill("disk1")
    test.check("disk1 is dead: later", two.locker.lock(file, 2) == GRACE)
    test.check("disk2's files can be locked", two.locker.lock(elsewhere, 2) == OK)
    lab.start("disk1")
    test.need("disk1 is back: client 1 is told", one.peer.serve(30, lambda: one.peer.notices))
    source, name, state = one.peer.notices[0]
    test.check("... by the VIP, which goes by its address", (source, name) == (lab.vip, lab.vip), one.peer.notices[0])
    test.check("... with an odd number", state % 2 == 1, state)
    test.check("client 2 must wait on disk1", two.locker.lock(file, 2) == GRACE)
    test.check("... not on disk2", two.locker.lock(elsewhere, 3, 5, 5) == DENIED)
    stranger = raw_nlm.Locker(two.client, "stranger")
    test.check("... and who had no lock has none to reclaim", stranger.lock(file, 2, reclaim=True) == GRACE)
    for at, (how, other) in enumerate(others.items()):
        check_told(test, other, how, file, 1000 + at)
    test.check("client 1 reclaims", one.locker.lock(file, 1, 0, 1000, reclaim=True) == OK)
    test.check("... also what it has elsewhere and never lost", two.locker.lock(elsewhere, 2, reclaim=True) == OK)
    test.within(GRACE_S + 15, "when the time is over, client 2 sees client 1's lock",
                lambda: two.locker.lock(file, 2) == DENIED)
    one.locker.unlock(file, 1)
    test.check("... and gets it when that is gone", two.locker.lock(file, 2) == OK)
    two.locker.unlock(file, 2)
    two.locker.unlock(elsewhere, 2)


def forget_names():
    """As after a restart of the machine: the kernel does not know where inodes are."""
    os.sync()
    for _ in range(4):    # what was used lately is spared at first
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
            drop.write("2")


def check_part_of_volume(test, lab, one, two):
    """/disk0/part is client 1's; whether a lock is in it depends on where its file is."""
    one.connect(), two.connect()
    disk = one.client.walk(one.client.mount("/"), "/disk0")
    part = one.client.mkdir(disk, "part")
    one.client.set_mode(part, 0o777)
    lab.nasctl("export", "set", "/disk0/part", f"{one.lab.hosts['client1']['address']}(rw,insecure,all_squash)")
    test.within(10, "handles tell their directory", lambda: len(one.client.create(part, "locked")) > len(part))
    file = one.client.lookup(part, "locked")
    outside = two.client.lookup(disk, "locked")
    test.check("client 1 locks in its part", one.locker.lock(file, 1) == OK)
    test.check("client 2 does not", two.locker.lock(file, 2, 5, 5) == FAILED)
    test.check("... but outside of it", two.locker.lock(outside, 2) == OK)
    one.peer.notices.clear()
    lab.kill("disk1")
    forget_names()
    lab.start("disk1")
    test.need("disk1 is back: client 1 is told", one.peer.serve(30, lambda: one.peer.notices))
    status = one.locker.lock(file, 1, reclaim=True)
    test.check("... and reclaims in its part", status == OK, status)
    test.within(GRACE_S + 15, "when the time is over, others are denied", lambda: one.locker.lock(file, 3) == DENIED)
    test.check("... and unlocks", one.locker.unlock(file, 1) == OK)
    test.check("client 2 still does not lock there", two.locker.lock(file, 2, 5, 5) == FAILED)
    lab.nasctl("export", "remove", "/disk0/part")


def check_client_restart(test, lab, one, two, file, elsewhere):
    datagrams = raw_nlm.Datagrams(lab.netns("client1"), lab.vip)
    test.at_end(datagrams.close)
    one.locker.lock(file, 1)
    one.locker.lock(elsewhere, 1)
    test.check("client 1 tells the VIP that it has restarted", datagrams.notify("client1.example.org", 9))
    test.within(10, "... and its lock on disk1 is free", lambda: two.locker.lock(file, 2) == OK)
    test.within(10, "... and that on disk2", lambda: two.locker.lock(elsewhere, 2) == OK)
    test.check("client 1 says so again", datagrams.notify("client2", 9))
    test.check("... or that it is client 2: that has its locks", two.locker.test(file, 3) == (2, 0, 0))
    lab.kill("disk2")
    test.check("while a node is away there is no answer", not datagrams.notify("client1", 11))
    lab.start("disk2")
    test.within(PATIENCE_S, "... and when it is back there is one", lambda: datagrams.notify("client1", 11))


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "3", "--ipv6")
    one, two = Side(test, lab, "client1"), Side(test, lab, "client2")
    others = {
        "IPv6": Side(test, lab, "client2", ipv6=True),
        "over TCP only": Side(test, lab, "client3", over_tcp=True),
        "over TCP only, IPv6": Side(test, lab, "client3", ipv6=True, over_tcp=True),
    }
    root = one.client.mount("/")
    file = one.client.create(one.client.walk(root, "/disk0"), "locked")
    elsewhere = one.client.create(one.client.walk(root, "/disk1"), "locked")
    check_conflict(test, one, two, file)
    check_blocking(test, lab, one, two, file)
    for how, other in others.items():
        check_called(test, one, other, how, file)
    check_deadlock(test, one, two, file)
    check_local(test, lab, one, file, "locked")
    check_datagrams(test, lab, one, file)
    check_handoff(test, one, two, file)
    check_master_restart(test, lab, one, two, file)
    check_node_restart(test, lab, one, two, others, file, elsewhere)
    check_client_restart(test, lab, one, two, file, elsewhere)
    check_part_of_volume(test, lab, one, two)
    test.check("nothing is left", all(lab.counter(host, "locks", "entries") <= 2 for host in ("disk1", "disk2")))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
