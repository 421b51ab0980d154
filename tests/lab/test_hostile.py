#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_hostile.py - a client that sends what no client should

If this fails, one user with a broken or malicious machine stops the file service for everybody, fills the server's
memory or its log, or gets at a file by guessing its handle.

Client 2 does it, to the switch and to disk1, while client 1 works and must not notice. How fast client 1 is meanwhile
is printed, not judged.
"""

import random
import resource
import socket
import struct
import sys
import time

import harness
import raw_nfs

IDLE = 10000
HALF_RECORDS = 200
SLOW_READERS = 30
DAEMONS = ("switch", "disk1", "disk2")
DISK1, DISK2 = 2, 3
PORTMAP_PORT, SCP_PORT = 111, 2050
CLIENTS_GATEWAY = "10.77.1.1"    # the switch's own address on the clients' side
BAD_XDR, PROGRAM_UNKNOWN, PROCEDURE_UNKNOWN = 4, 1, 3
LOG_LINES = 40    # that all this may cost; its clients can send a million of each


def memory_mib(lab, host):
    with open(f"/proc/{lab.pid(host)}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def memory(lab):
    return ", ".join(f"{host} {memory_mib(lab, host):.0f} MiB" for host in DAEMONS)


class Attack:
    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        with self.client() as client:
            self.root = client.mount("/")
            self.disk = client.walk(self.root, "/disk0")
            self.file = client.create(self.disk, "hostile")
            client.write(self.file, 0, b"x" * 4096)
        self.random = random.Random(1)

    def client(self):
        return self.lab.client("client2", timeout_s=10)

    def is_dropped(self, data):
        """The server closes such a connection."""
        with self.client() as client:
            try:
                for _ in range(2):
                    client.send(data)
                while True:
                    client.receive_record()
            except raw_nfs.ConnectionLost:
                return True
            except (TimeoutError, socket.timeout):
                return False

    def refusal(self, *call, **more):
        with self.client() as client:
            try:
                client.call(*call, **more)
                return None
            except raw_nfs.Refused as refused:
                return refused.status

    def status(self, function):
        with self.client() as client:
            try:
                function(client)
                return raw_nfs.OK
            except raw_nfs.Status as status:
                return status.status
            except raw_nfs.Refused as refused:
                return -refused.status

    def records(self):
        test = self.test
        test.check("garbage: the connection is closed", all(
            self.is_dropped(b"\x7f" + self.random.randbytes(99999)) for _ in range(20)))
        test.check("a record of 2 GiB: closed", self.is_dropped(struct.pack(">I", 0xffffffff) + bytes(100)))
        test.check("a fragment of 2 GiB: closed", self.is_dropped(struct.pack(">I", 0x7fffffff) + bytes(100)))
        test.check("4 GiB in fragments of 1 MiB: closed", self.is_dropped(
            (struct.pack(">I", 1 << 20) + bytes(1 << 20)) * 4))
        test.check("endless empty fragments: closed", self.is_dropped(bytes(4) * 100000))
        test.check("endless fragments of a byte: closed", self.is_dropped((struct.pack(">I", 1) + b"x") * 100000))
        reply = raw_nfs.record(struct.pack(">IIII", 1, 1, 0, 0))
        test.check("a record that is a reply: closed", self.is_dropped(reply))
        with self.client() as client:    # a good call in fragments of one byte is a good call
            body = raw_nfs.call_body(7, raw_nfs.NFS, 3, 0)
            client.send(b"".join(struct.pack(">I", 1) + body[i:i + 1] for i in range(len(body))) +
                        struct.pack(">I", raw_nfs.LAST_FRAGMENT))
            client.answer(7)
            test.check("a good call in many fragments is answered", True)

    def calls(self):
        test = self.test
        test.check("unknown program: PROG_UNAVAIL", self.refusal(400000, 1, 0) == PROGRAM_UNKNOWN)
        test.check("unknown version: PROG_MISMATCH", self.refusal(raw_nfs.NFS, 9, 0) == 2)
        test.check("unknown procedure: PROC_UNAVAIL", self.refusal(raw_nfs.NFS, 3, 99) == PROCEDURE_UNKNOWN)
        wrong = []
        for procedure in range(1, 22):
            good = raw_nfs.opaque(self.root)
            for arguments in (b"", good[:-1], struct.pack(">I", 65) + bytes(68), struct.pack(">I", 0xffffffff),
                              good + struct.pack(">I", 0xfffffff0)):
                status = self.call_status(procedure, arguments)
                if status is None:
                    wrong.append((procedure, arguments[:8]))
        test.check("truncated and oversized arguments of every procedure are answered or closed", not wrong, wrong)

    def call_status(self, procedure, arguments):
        """None: no answer."""
        with self.client() as client:
            try:
                return client.call(raw_nfs.NFS, 3, procedure, arguments).u32()
            except raw_nfs.Refused as refused:
                return f"refused {refused.status}"
            except raw_nfs.ConnectionLost:
                return "closed"
            except (TimeoutError, socket.timeout):
                return None

    def handles(self):
        test = self.test
        statuses = set()
        for handle in (self.file, self.root):
            for bit in range(8 * len(handle)):    # any bit: version, type, volume, MAC, the backend's part
                forged = bytearray(handle)
                forged[bit // 8] ^= 1 << bit % 8
                statuses.add(self.status_on(bytes(forged)))
            for length in range(len(handle)):
                statuses.add(self.status_on(handle[:length]))
        test.check("forged and cut handles: BADHANDLE, each", statuses == {raw_nfs.BADHANDLE}, statuses)

    def status_on(self, handle):
        if not hasattr(self, "kept"):
            self.kept = self.client()
        try:
            self.kept.getattr(handle)
            return raw_nfs.OK
        except raw_nfs.Status as status:
            return status.status

    def on_a_disk(self):
        """Garbage on a connection that was handed off."""
        client = self.client()
        client.getattr(self.file)
        session = self.lab.session(*client.local)
        self.lab.nasctl("handoff", session["id"], str(DISK1))
        client.getattr(self.file)
        try:
            client.send(b"\x7f" * 1000)
            client.receive_record()
            closed = False
        except raw_nfs.ConnectionLost:
            closed = True
        self.test.check("garbage to disk1, after a handoff: the connection is closed", closed)

    def other_ports(self):
        """What the switch has open besides: port mapper, UDP, the devices' port."""
        for port in (raw_nfs.NFS_PORT, PORTMAP_PORT):
            plain = raw_nfs.socket_in(self.lab.netns("client2"), kind=socket.SOCK_DGRAM)
            plain.connect((self.lab.vip, port))
            for length in range(0, 1400, 7):
                try:
                    plain.send(self.random.randbytes(length))
                except ConnectionRefusedError:
                    pass
            plain.close()
        for address, port in ((self.lab.vip, PORTMAP_PORT), (CLIENTS_GATEWAY, SCP_PORT)):
            for _ in range(20):
                plain = raw_nfs.socket_in(self.lab.netns("client2"))
                plain.settimeout(10)
                plain.connect((address, port))
                try:
                    plain.sendall(self.random.randbytes(3000))
                except OSError:
                    pass
                plain.close()
        self.test.check("garbage to the other ports: health is good", self.lab.nasctl("status")["health"] == "good")

    def strangers(self):
        """The devices' port is full of connections that say nothing; a device that restarts must get in."""
        sockets = []
        for _ in range(600):
            plain = raw_nfs.socket_in(self.lab.netns("client2"))
            plain.setblocking(False)
            try:
                plain.connect((CLIENTS_GATEWAY, SCP_PORT))
            except BlockingIOError:
                pass
            sockets.append(plain)
        time.sleep(0.5)
        self.lab.stop("disk2")
        self.lab.start("disk2")
        self.test.within(10, "disk2 restarts while strangers crowd the devices' port",
                         lambda: self.lab.node(DISK2)["state"] == "up", lambda: self.lab.node(DISK2))
        for plain in sockets:
            plain.close()

    def half_records(self):
        """Each the longest record that is taken, but for its last byte."""
        before = {host: memory_mib(self.lab, host) for host in DAEMONS}
        clients = []
        body = struct.pack(">I", raw_nfs.LAST_FRAGMENT | 1 << 20) + bytes((1 << 20) - 1)
        for _ in range(HALF_RECORDS):
            clients.append(self.client())
            clients[-1].send(body)
        time.sleep(0.5)
        more = max(memory_mib(self.lab, host) - before[host] for host in DAEMONS)
        self.test.say(f"{HALF_RECORDS} half records of 1 MiB: {memory(self.lab)}")
        self.test.check("half records cost no more than what was sent twice", more < 2 * HALF_RECORDS + 20, more)
        for client in clients:
            client.close()

    def never_reads(self):
        """Asks for 400 MiB on each connection and takes no answer."""
        before = {host: memory_mib(self.lab, host) for host in DAEMONS}
        with self.client() as client:
            for i in range(8):
                client.write(self.file, i << 20, bytes(1 << 20))
        clients = [self.client() for _ in range(SLOW_READERS)]
        for client in clients:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.send(b"".join(raw_nfs.record(raw_nfs.call_body(i, raw_nfs.NFS, 3, 6, raw_nfs.opaque(
                self.file) + struct.pack(">QI", (i % 8) << 20, 1 << 20))) for i in range(400)))
        started = time.monotonic()
        with self.client() as client:
            size = len(client.read(self.file, 0, 1 << 20))
        self.test.check("another client's relayed read is answered meanwhile", size == 1 << 20, size)
        self.test.say(f"... in {(time.monotonic() - started) * 1000:.0f} ms")
        time.sleep(1)
        more = {host: memory_mib(self.lab, host) - before[host] for host in DAEMONS}
        self.test.say(f"{SLOW_READERS} clients that don't read: {memory(self.lab)}")
        self.test.check("a client that does not read is not answered without end",
                        max(more.values()) < 16 * SLOW_READERS, more)
        for client in clients:
            client.close()
        self.test.within(10, "its answers are forgotten with it", lambda: all(
            memory_mib(self.lab, host) - before[host] < 100 for host in DAEMONS), lambda: memory(self.lab))

    def many(self):
        """Idle connections, then another client's call through the crowd."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (IDLE + 500,) * 2)
        before = memory_mib(self.lab, "switch")
        sockets = []
        for _ in range(IDLE):
            plain = raw_nfs.socket_in(self.lab.netns("client2"))
            plain.settimeout(20)
            plain.connect((self.lab.vip, raw_nfs.NFS_PORT))
            sockets.append(plain)
        self.test.say(f"{IDLE} idle connections: {memory(self.lab)}")
        self.test.within(10, "all are accepted", lambda: len(self.lab.nasctl("session", "list")) >= IDLE,
                         lambda: len(self.lab.nasctl("session", "list")))
        each = (memory_mib(self.lab, "switch") - before) * 1024 / IDLE
        self.test.check(f"an idle connection costs {each:.1f} KiB", each < 32)
        started = time.monotonic()
        with self.client() as client:
            client.getattr(self.root)
        self.test.say(f"one more connection and call take {(time.monotonic() - started) * 1000:.0f} ms")
        for plain in sockets:
            plain.close()
        self.test.within(10, "they are gone when closed", lambda: len(self.lab.nasctl("session", "list")) < 10,
                         lambda: len(self.lab.nasctl("session", "list")))

    def flood(self):
        """Connections that are opened, used for half a call and reset, as fast as it goes."""
        until, count = time.monotonic() + 2, 0
        while time.monotonic() < until:
            with self.client() as client:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.send(raw_nfs.record(raw_nfs.call_body(1, raw_nfs.NFS, 3, 6, raw_nfs.opaque(self.file) + bytes(
                    8) + struct.pack(">I", 4096)))[:self.random.randrange(150)])
            count += 1
        self.test.say(f"{count} connections that ended in half a call")


def rate(said):
    return said.get("operations", 0) / max(said.get("seconds", 1), 0.001)


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "2")
    calm = test.load(lab, "--seconds", "2", "/disk0")
    calm.process.wait()
    calm = test.check_load(calm, "the load in peace")
    lines = {host: len(lab.log(host).splitlines()) for host in DAEMONS}
    pids = {host: lab.pid(host) for host in DAEMONS}
    test.say(f"before: {memory(lab)}")

    load = test.load(lab, "--seconds", "0", "/disk0")
    attack = Attack(test, lab)
    attack.records()
    attack.calls()
    attack.handles()
    attack.on_a_disk()
    attack.other_ports()
    attack.never_reads()
    attack.many()
    attack.half_records()
    attack.flood()
    attack.strangers()
    said = test.check_load(load, "the load under attack ran without an error on one connection")
    test.say(f"in peace {rate(calm):.0f} operations/s, longest pause {calm.get('max_gap_us', 0) / 1000:.0f} ms; "
             f"under attack {rate(said):.0f}, {said.get('max_gap_us', 0) / 1000:.0f} ms")
    test.say(f"after: {memory(lab)}")
    for host in DAEMONS:
        test.check(f"{host}: the same daemon runs", host == "disk2" or lab.pid(host) == pids[host])
        grown = lab.log(host).splitlines()[lines[host]:]
        test.check(f"{host}: its log is quiet ({len(grown)} lines more)", len(grown) < LOG_LINES, "\n".join(grown[:60]))
        test.check(f"{host}: its memory is bounded", memory_mib(lab, host) < 500, memory_mib(lab, host))
    test.check("health is good", lab.nasctl("status")["health"] == "good", lab.nasctl("status"))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
