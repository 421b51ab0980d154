#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_kill_slave.py - a disk node is killed, or its cable is pulled, and comes back

If this fails, the death of one disk takes the others' files from the users, too, or is seen as an error by programs
that could have waited; or its return is not enough and clients have to mount again.

Client 1 works in /disk0 and its connection lives on disk1, which fails; client 2 works in /disk1 only (nfs_load);
client 3 looks at everything through the switch.
"""

import sys
import time

import harness
import raw_nfs

DISK1 = 2
CONTENT = b"what was written before" * 100
# A silent device is found after 5 to 6 s; the switch waits 2 to 3 s for it to come back. Then it wakes the clients up,
# whose next retransmission would be at 13 s.
PATIENCE_S = 10


class Victim:
    """A client that reconnects as kernels do: from the same port, and sends again what was not answered."""

    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.client = lab.client("client1", timeout_s=60)
        self.root = self.client.mount("/")
        self.disk = self.client.walk(self.root, "/disk0")
        self.file = self.client.create(self.disk, "kept")
        self.client.write(self.file, 0, CONTENT)
        self.resets = 0

    def reconnect(self):
        source = self.client.local
        self.client.close()
        self.client = self.lab.client("client1", timeout_s=60, source=source)
        self.resets += 1

    def call(self, function):
        """@function(client); the seconds it took, and its answer or status."""
        started = time.monotonic()
        while True:
            try:
                answer = function(self.client)
                break
            except raw_nfs.Status as error:
                answer = error.status
                break
            except raw_nfs.ConnectionLost:
                self.reconnect()
        return time.monotonic() - started, answer

    def status_of_file(self):
        answer = self.call(lambda client: client.getattr(self.file))[1]
        return answer if isinstance(answer, int) else raw_nfs.OK

    def content(self):
        return self.call(lambda client: client.read(self.file, 0, len(CONTENT)))[1]

    def live_on_disk1(self):
        address, port = self.client.local
        session = self.lab.session(address, port)
        if session["node"] != DISK1:
            self.lab.nasctl("handoff", session["id"], str(DISK1))
        self.test.within(10, "client 1's connection lives on disk1",
                         lambda: self.lab.session(address, port)["node"] == DISK1)


def status_of(client, function):
    try:
        function(client)
        return raw_nfs.OK
    except raw_nfs.Status as error:
        return error.status


def check_rest_works(test, victim, onlooker, load):
    resets = victim.resets
    took, _ = victim.call(lambda client: client.getattr(victim.root))
    test.check(f"client 1's work in the virtual root goes on after {took:.1f} s", took < PATIENCE_S, took)
    test.check("... by one reset and a new connection", victim.resets == resets + 1, victim.resets - resets)
    test.check("its files on disk1: JUKEBOX", victim.status_of_file() == raw_nfs.JUKEBOX, victim.status_of_file())
    other = victim.call(lambda client: client.walk(victim.root, "/disk1"))[1]
    took, name = victim.call(lambda client: client.create(other, "meanwhile"))
    test.check("its files on disk2 work", isinstance(name, bytes), name)
    victim.call(lambda client: client.remove(other, "meanwhile"))

    test.check("client 3, on the same connection: the virtual root", status_of(onlooker, lambda client: client.names(
        victim.root)) == raw_nfs.OK)
    test.check("... disk1: JUKEBOX", status_of(onlooker, lambda client: client.read(victim.file, 0, 10)) ==
               raw_nfs.JUKEBOX)
    test.check("... disk2", status_of(onlooker, lambda client: client.walk(victim.root, "/disk1")) == raw_nfs.OK)
    test.check("client 2's load on disk2 runs", load.is_running())


def check_reported(test, lab):
    status = lab.nasctl("status")
    test.check("status: health degraded", status["health"] == "degraded", status)
    test.check("... says which node is down", any("disk1" in text and "down" in text for text in status["problems"]),
               status)
    node = lab.node(DISK1)
    test.check(f"node list: down, and why (\"{node['reason']}\")", node["state"] == "down" and node["reason"], node)
    volumes = {row["place"]: row["state"] for row in lab.nasctl("volume", "list")}
    test.check("volume list: its volume is away", volumes == {"/disk0": "away", "/disk1": "up"}, volumes)


def check_back(test, lab, victim, onlooker):
    resets = victim.resets
    test.within(10, "the old handle of a file on disk1 is good again", lambda: victim.status_of_file() == raw_nfs.OK,
                victim.status_of_file)
    test.check("... with what was written before", victim.content() == CONTENT)
    test.check("... for client 3, too, on its old connection", status_of(onlooker, lambda client: client.read(
        victim.file, 0, 10)) == raw_nfs.OK)
    test.within(10, "status: health good", lambda: lab.nasctl("status")["health"] == "good",
                lambda: lab.nasctl("status"))
    time.sleep(1.5)    # the next report of sessions, and what comes of it
    test.check("client 1 can still write", victim.call(lambda client: client.write(victim.file, 0, CONTENT))[1] ==
               len(CONTENT))
    test.check("its connection was not reset again", victim.resets == resets, victim.resets - resets)


def idle_on_disk1(test, lab):
    client = lab.client("client3", server=lab.plan["vip6"])
    client.null()
    address, port = client.local
    session = lab.session(f"[{address}]", port)
    lab.nasctl("handoff", session["id"], str(DISK1))
    test.within(10, "an IPv6 connection lives on disk1",
                lambda: lab.session(f"[{address}]", port)["node"] == DISK1)
    return client


def is_reset(client):
    client.socket.settimeout(2)
    try:
        return client.socket.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "3", "--ipv6")
    load = test.load(lab, "--seconds", "0", "--depth", "2", "/disk1", host="client2")
    victim = Victim(test, lab)
    onlooker = lab.client("client3", timeout_s=60)
    onlooker.null()

    victim.live_on_disk1()
    test.say("kill -9 of disk1's vnasd")
    lab.kill("disk1")
    check_rest_works(test, victim, onlooker, load)
    check_reported(test, lab)
    test.say("disk1 starts again")
    lab.start("disk1")
    check_back(test, lab, victim, onlooker)

    victim.live_on_disk1()
    idle = idle_on_disk1(test, lab)
    test.say("disk1's cable is pulled")
    lab.cut("disk1")
    check_rest_works(test, victim, onlooker, load)
    test.check("client 3's idle connection (IPv6) that lived there is reset, too", is_reset(idle))
    check_reported(test, lab)
    test.say("... and put back")
    lab.heal("disk1")
    check_back(test, lab, victim, onlooker)
    victim.live_on_disk1()
    test.check("its files are served from there", victim.content() == CONTENT)

    test.check_load(load, "client 2 noticed nothing, on one connection")
    said = onlooker.getattr(victim.root)
    test.check("client 3 stayed on one connection", said is not None)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
