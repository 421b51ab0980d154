#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_memory.py - what clients may make the server hold, all together

If this fails, many clients that each do nothing forbidden, or somebody with ten thousand connections, take all memory of
a device: the kernel ends the daemon, and everybody's files are away. Or the bound that prevents it stops those who
behave.

All through the switch without handoffs, so that client 1's work, which is the disk's, passes the crowd at the switch.
"""

import os
import resource
import select
import struct
import sys
import time

import harness
import raw_nfs

CROWD = 10000
HALF_BYTES = 256 * 1024     # of a record of 1 MiB that each sends: ten times the bound altogether
READERS = 1000
READS = 8                   # of 1 MiB, by each, who takes none
BOUND_MIB = 512             # of the process, with the default setting
GIVEN_BACK_MIB = 200        # what may be left of it
ENTRIES = 1000000           # of a directory that is walked
LOOKUP, TOGETHER = 3, 500   # ... by so many calls at once
SEND_S = 25


def memory_mib(lab, host):
    with open(f"/proc/{lab.pid(host)}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


class Crowd:
    """Connections of client 2; each has bytes that it wants to send, and reads nothing."""

    def __init__(self, lab, count):
        self.sockets = []
        for _ in range(count):
            plain = raw_nfs.socket_in(lab.netns("client2"))
            plain.settimeout(20)
            plain.connect((lab.vip, raw_nfs.NFS_PORT))
            plain.setblocking(False)
            self.sockets.append(plain)

    def send(self, data, meanwhile):
        """As much as the server takes in SEND_S. Return: bytes"""
        left = {plain: memoryview(data) for plain in self.sockets}
        poll = select.epoll()
        by_number = {plain.fileno(): plain for plain in self.sockets}
        for number in by_number:
            poll.register(number, select.EPOLLOUT)
        until, sent = time.monotonic() + SEND_S, 0
        while left and time.monotonic() < until:
            for number, _ in poll.poll(0.1):
                plain = by_number[number]
                try:
                    count = plain.send(left[plain])
                except OSError:    # closed by the server
                    count = len(left[plain])
                sent += count
                left[plain] = left[plain][count:]
                if not left[plain]:
                    del left[plain]
                    poll.unregister(number)
            meanwhile()
        poll.close()
        return sent

    def close(self):
        for plain in self.sockets:
            plain.close()


class Witness:
    """Another client, which does some of everything now and then, and looks at the server's memory."""

    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.most = {host: 0 for host in ("switch", "disk1")}
        self.client = lab.client("client1")
        root = self.client.mount("/")
        self.disk = self.client.walk(root, "/disk0")
        self.file = self.client.create(self.disk, "witness")
        self.rounds = 0
        self.next = 0
        self.longest_s = 0

    def look(self):
        if time.monotonic() < self.next:
            return
        for host in self.most:
            self.most[host] = max(self.most[host], memory_mib(self.lab, host))
        started = time.monotonic()
        data = os.urandom(1 << 20)
        self.client.getattr(self.file)
        self.client.write(self.file, 0, data)
        if self.client.read(self.file, 0, 1 << 20) != data:
            raise AssertionError("another client reads what nobody wrote")
        self.longest_s = max(self.longest_s, time.monotonic() - started)
        self.rounds += 1
        self.next = time.monotonic() + 0.3

    def watch(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            time.sleep(0.05)

    def report(self, what):
        most = ", ".join(f"{host} {mib:.0f} MiB" for host, mib in self.most.items())
        self.test.say(f"{what}: {most}; {self.rounds} rounds of the witness, the longest {self.longest_s * 1000:.0f} ms")
        for host, mib in self.most.items():
            self.test.check(f"{what}: {host} stays below {BOUND_MIB} MiB", mib < BOUND_MIB, mib)
            self.most[host] = 0
        self.test.check(f"{what}: the other client goes on", self.rounds > 0)
        self.rounds = self.longest_s = 0


def counters(lab):
    names = ("held_bytes", "most_bytes", "waited", "turns", "closed", "refused")
    return {name: lab.counter("switch", "memory", name) for name in names}


def half_records(test, lab, witness):
    crowd = Crowd(lab, CROWD)
    record = struct.pack(">I", raw_nfs.LAST_FRAGMENT | 1 << 20) + bytes(HALF_BYTES)
    sent = crowd.send(record, witness.look)
    test.say(f"{CROWD} connections sent {sent >> 20} MiB of requests that don't end; {counters(lab)}")
    witness.watch(15)
    witness.report("half records")
    said = counters(lab)
    test.check("the bound acted", said["waited"] and said["closed"], said)
    test.check("what is counted is below the setting", said["most_bytes"] <= 256 << 20, said)
    crowd.close()


def never_read(test, lab, witness):
    crowd = Crowd(lab, READERS)
    calls = b"".join(raw_nfs.record(raw_nfs.call_body(i, raw_nfs.NFS, 3, 6, raw_nfs.opaque(
        witness.file) + struct.pack(">QI", 0, 1 << 20))) for i in range(READS))
    crowd.send(calls, witness.look)
    witness.watch(15)
    witness.report(f"{READERS} clients that ask for {READS} MiB each and take nothing")
    test.say(f"{counters(lab)}")
    crowd.close()


def given_back(test, lab):
    test.within(20, "all connections are gone", lambda: len(lab.nasctl("session", "list")) <= 3)
    test.within(20, "nothing is held", lambda: counters(lab)["held_bytes"] < 1 << 20, lambda: counters(lab))
    test.within(20, f"the memory is given back, but for {GIVEN_BACK_MIB} MiB", lambda: all(
        memory_mib(lab, host) < GIVEN_BACK_MIB for host in ("switch", "disk1")),
                lambda: [memory_mib(lab, host) for host in ("switch", "disk1")])
    test.say(f"after: {[round(memory_mib(lab, host)) for host in ('switch', 'disk1')]} MiB")


def make_files(directory):
    os.mkdir(directory)
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    for i in range(ENTRIES):
        os.mknod(f"file{i}", 0o644, dir_fd=place)
    os.close(place)


def look_up(client, directory, first):
    """TOGETHER files. Return: how many were found"""
    client.send(b"".join(raw_nfs.record(raw_nfs.call_body(number, raw_nfs.NFS, 3, LOOKUP, raw_nfs.opaque(directory) +
                                                          raw_nfs.opaque(f"file{number}".encode())))
                         for number in range(first, first + TOGETHER)))
    answers = [client.receive_record() for _ in range(TOGETHER)]
    return sum(answer[20:28] == bytes(8) for answer in answers)    # accepted, and NFS3_OK


def walk(test, lab, witness):
    """A listing of a large directory and each file's attributes, as find does it, while the crowd is connected."""
    make_files(os.path.join(lab.hosts["disk1"]["storage"], "walked"))
    crowd = Crowd(lab, CROWD)
    handle = witness.client.lookup(witness.disk, "walked")
    listed = len([name for name in witness.client.names(handle) if name.startswith("file")])
    test.check(f"{ENTRIES} entries are listed", listed == ENTRIES, listed)
    found = 0
    with lab.client("client1", timeout_s=60) as client:
        for first in range(0, ENTRIES, TOGETHER):
            found += look_up(client, handle, first)
            witness.look()
    test.check("each of them is found", found == ENTRIES, found)
    witness.report(f"a walk of {ENTRIES} files beside {CROWD} connections")
    crowd.close()


def run(test):
    resource.setrlimit(resource.RLIMIT_NOFILE, (CROWD + 500,) * 2)
    lab = test.lab("--slaves", "1", "--clients", "2", "--no-handoff")
    load = test.load(lab, "--seconds", "0", "/disk0")
    witness = Witness(test, lab)
    witness.look()
    witness.report("in peace")
    lines = len(lab.log("switch").splitlines())
    half_records(test, lab, witness)
    given_back(test, lab)
    never_read(test, lab, witness)
    given_back(test, lab)
    walk(test, lab, witness)
    test.check_load(load, "the load went on all the time without an error on one connection")
    grown = lab.log("switch").splitlines()[lines:]
    test.check(f"the log is quiet ({len(grown)} lines more)", len(grown) < 20, "\n".join(grown[:40]))
    witness.client.close()


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
