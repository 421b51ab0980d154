#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_duplicates.py - calls that are sent again, because their answers were lost

If this fails, a program on a client is told that its file is not there when it has just removed it, that its directory
exists when it has just made it; or an old write comes late and undoes a new one.

Each call that changes something is made once, sent again in another way with the same xid, and must be answered the
same, byte for byte. As a new call it must fail: that shows that it would have failed if it had been run again.
"""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile

import harness
import raw_nfs

DISK1, DISK2 = 2, 3
EXIST, NOT_SYNC, ROFS = 17, 10002, 30
SETATTR, WRITE, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK = 2, 7, 8, 9, 10, 11, 12, 13, 14, 15
KEEP_ATTRIBUTES = struct.pack(">6I", 0, 0, 0, 0, 0, 0)
GUARDED, FIFO, FILE_SYNC = 1, 7, 2
COPIES = 50


class Call:
    """A call message that may be sent any number of times."""

    def __init__(self, what, procedure, arguments, anew=None):
        """@anew: the status that the same call draws as a new one"""
        self.what, self.procedure, self.arguments, self.anew = what, procedure, arguments, anew
        self.body = self.renew()

    def renew(self):
        """The same call with another xid."""
        return raw_nfs.call_body(int.from_bytes(os.urandom(4), "big"), raw_nfs.NFS, 3, self.procedure, self.arguments)


def status_of(reply):
    """Of a reply message: behind xid, REPLY, accepted, verifier, SUCCESS."""
    return struct.unpack_from(">I", reply, 24)[0] if len(reply) >= 28 and not any(reply[8:24]) else -1


def ctime_of(client, handle):
    return client.call(raw_nfs.NFS, 3, 1, raw_nfs.opaque(handle)).data[-8:]


class Changes:
    """Calls of all procedures that change something in a directory, each of which succeeds once."""

    def __init__(self, client, directory):
        self.client, self.directory = client, directory
        self.count = 0

    def name(self):
        self.count += 1
        return f"{os.getpid()}-{id(self)}-{self.count}"

    def place(self, name):
        return raw_nfs.opaque(self.directory) + raw_nfs.opaque(name.encode())

    def mkdir(self, name=None):
        return Call("MKDIR", MKDIR, self.place(name or self.name()) + KEEP_ATTRIBUTES, EXIST)

    def write(self, handle, data):
        return Call("WRITE", WRITE, raw_nfs.opaque(handle) + struct.pack(">QII", 0, len(data), FILE_SYNC) +
                    raw_nfs.opaque(data))

    def all(self):
        there, other, directory = self.name(), self.name(), self.name()
        handle = self.client.create(self.directory, there)
        self.client.mkdir(self.directory, directory)
        yield Call("CREATE", CREATE, self.place(self.name()) + struct.pack(">I", GUARDED) + KEEP_ATTRIBUTES, EXIST)
        yield self.mkdir()
        yield Call("SYMLINK", SYMLINK, self.place(self.name()) + KEEP_ATTRIBUTES + raw_nfs.opaque(b"target"), EXIST)
        yield Call("MKNOD", MKNOD, self.place(self.name()) + struct.pack(">I", FIFO) + KEEP_ATTRIBUTES, EXIST)
        yield Call("LINK", LINK, raw_nfs.opaque(handle) + self.place(self.name()), EXIST)
        yield Call("SETATTR", SETATTR, raw_nfs.opaque(handle) + struct.pack(">II", 1, 0o600) + KEEP_ATTRIBUTES[4:] +
                   struct.pack(">I", 1) + ctime_of(self.client, handle), NOT_SYNC)
        yield Call("RENAME", RENAME, self.place(there) + self.place(other), raw_nfs.NOENT)
        yield Call("REMOVE", REMOVE, self.place(other), raw_nfs.NOENT)
        yield Call("RMDIR", RMDIR, self.place(directory), raw_nfs.NOENT)


def send_twice(test, what, changes, first, again):
    """@first, @again: send a call message, return the reply message."""
    wrong = []
    for call in changes.all():
        answer = first(call.body)
        if status_of(answer) != raw_nfs.OK:
            wrong.append(f"{call.what}: status {status_of(answer)}")
        elif again(call.body) != answer:
            wrong.append(f"{call.what}: another answer")
        elif status_of(again(call.renew())) != call.anew:
            wrong.append(f"{call.what}: as a new call it does not fail")
    test.check(f"{what}: each call ran once and was answered alike", not wrong, ", ".join(wrong))


class Site:
    """A lab, and a client that looks at it from aside."""

    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.client = lab.client()
        self.directory = self.client.walk(self.client.mount("/"), "/disk0")
        self.changes = Changes(self.client, self.directory)

    def once(self, body):
        """Over a connection that is then lost; each comes from another port."""
        with self.lab.client() as client:
            answer = client.exchange(body)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return answer

    def move(self, client, node):
        session = self.lab.session(*client.local)
        if session["node"] == node:
            return
        self.lab.nasctl("handoff", session["id"], str(node))
        if harness.wait_until(lambda: self.lab.session(*client.local)["node"] == node, 5) is None:
            raise harness.Failed(f"the session did not move to node {node}")


def over_connections(site):
    with site.lab.client() as kept:
        send_twice(site.test, "on the same connection", site.changes, kept.exchange, kept.exchange)
    send_twice(site.test, "over a new connection, from another port", site.changes, site.once, site.once)


def over_udp(site):
    with raw_nfs.Datagrams(site.lab.vip, netns=site.lab.netns("client1")) as udp:
        send_twice(site.test, "two datagrams", site.changes, udp.exchange, udp.exchange)
        send_twice(site.test, "a datagram, then a connection", site.changes, udp.exchange, site.once)


def across_handoffs(site):
    """Relayed by the switch, answered by disk1 itself, relayed by disk2, on one connection."""
    with site.lab.client() as client:
        for before, after, what in ((1, DISK1, "relayed, then at the owner"), (DISK1, DISK2, "at the owner, then relayed"),
                                    (DISK2, 1, "relayed by another, then by the switch")):

            def first(body, node=before):
                site.move(client, node)
                return client.exchange(body)

            def again(body, node=after):
                site.move(client, node)
                return client.exchange(body)

            send_twice(site.test, f"across a handoff: {what}", site.changes, first, again)
        session = site.lab.session(*client.local)
        site.test.check("it was one connection all the time, handed off for each call", session["handoffs"] >= 3 * 9,
                        session)


def in_progress(site):
    """Copies that come while the first is still being run wait for its answer, on this connection and others."""
    test, lab = site.test, site.lab
    waited = lab.counter("disk1", "duplicate_changes", "waited")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(lab.client()) for _ in range(4)]
        answers = set()
        for _ in range(20):
            call = site.changes.mkdir()
            for client in clients:
                client.send(raw_nfs.record(call.body) * COPIES)
            answers.add(len({client.receive_record() for client in clients for _ in range(COPIES)}))
            answers.add(status_of(clients[0].exchange(call.body)))
        test.check("copies of a call in progress: all the same answer, OK", answers == {1, raw_nfs.OK}, answers)
    test.check("some of them waited", lab.counter("disk1", "duplicate_changes", "waited") > waited)


def late_write(site):
    test = site.test
    handle = site.client.create(site.directory, site.changes.name())
    old, new = site.changes.write(handle, b"old"), site.changes.write(handle, b"new")
    answer = site.once(old.body)
    test.check("a WRITE and another", status_of(answer) == status_of(site.once(new.body)) == raw_nfs.OK)
    test.check("a late copy of the first is answered as before", site.once(old.body) == answer)
    test.check("... and changes nothing", site.client.read(handle, 0, 3) == b"new")


def lost_between_devices(site):
    """The owner runs a call, its answer to the switch is lost, and so is their session."""
    test, lab = site.test, site.lab
    name = site.changes.name()
    call = site.changes.mkdir(name)
    made = os.path.join(lab.hosts["disk1"]["storage"], name)
    switch = lab.hosts["switch"]["address"]
    with lab.client(timeout_s=60) as client:
        lab.run("disk1", "ip", "route", "add", "blackhole", switch)
        try:
            client.send(raw_nfs.record(call.body))
            test.within(10, "the owner has run it", lambda: os.path.isdir(made))
            test.within(20, "their session is lost", lambda: lab.node(DISK1)["state"] != "up", lambda: lab.node(DISK1))
        finally:
            lab.run("disk1", "ip", "route", "del", "blackhole", switch)
        test.within(20, "there is a new one", lambda: lab.node(DISK1)["state"] == "up", lambda: lab.node(DISK1))
        answer = client.receive_record()
        test.check("over the next session it is answered, and OK", status_of(answer) == raw_nfs.OK, status_of(answer))
        test.check("... once, on the same connection", client.null() is None)
    test.check("as a new call it fails", status_of(site.once(call.renew())) == EXIST)


def stalled_disk(site, disk):
    """A call waits for the disk longer than a relay waits for an answer; its client gives up on the connection."""
    test, lab = site.test, site.lab
    call = site.changes.mkdir()
    log_at = len(lab.log("switch"))
    with lab.client(timeout_s=60) as kept, lab.client(timeout_s=60) as again, \
            raw_nfs.Datagrams(lab.vip, netns=lab.netns("client1"), timeout_s=60) as udp:
        site.move(again, DISK1)
        subprocess.run(["fsfreeze", "--freeze", disk], check=True)
        try:
            with lab.client() as lost:
                lost.send(raw_nfs.record(call.body))
                lost.null()    # the call before has been taken
            for client in kept, again:
                client.send(raw_nfs.record(call.body))
            udp.socket.send(call.body)
            test.within(40, "the switch has waited for an answer in vain",
                        lambda: "did not answer" in lab.log("switch")[log_at:])
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", disk], check=True)
        answers = {kept.receive_record(), again.receive_record(), udp.socket.recv(65536)}
        test.check("all who asked meanwhile get one answer, and it is OK",
                   [status_of(answer) for answer in answers] == [raw_nfs.OK], answers)
        test.check("... and their connections last", kept.null() is None and again.null() is None)
    test.check("as a new call it fails", status_of(site.once(call.renew())) == EXIST)


def withdrawn_rights(site):
    call = site.changes.mkdir()
    answer = site.once(call.body)
    site.lab.nasctl("export", "set", "/", "*(ro,insecure)")
    site.test.within(10, "a client that may write no more gets no old answer",
                     lambda: status_of(site.once(call.body)) == ROFS)
    site.lab.nasctl("export", "set", "/", "*(rw,no_root_squash,insecure)")
    site.test.within(10, "with its rights back it does", lambda: site.once(call.body) == answer)


def make_disk(test):
    """A file system that can be stalled; the path where it is mounted. None: that is not possible here."""
    directory = tempfile.mkdtemp(prefix="vnas-duplicates-")
    image, disk = os.path.join(directory, "image"), os.path.join(directory, "disk")
    os.mkdir(disk)
    test.at_end(lambda: subprocess.run(f"umount --lazy {disk}; rm {image} && rmdir {disk} {directory}", shell=True,
                                       check=False))
    done = subprocess.run(f"truncate -s 64M {image} && mkfs.ext4 -q {image} && mount -o loop {image} {disk}",
                          shell=True, check=False)
    return disk if done.returncode == 0 else None


def run(test):
    disk = make_disk(test)
    lab = test.lab("--slaves", "2", "--clients", "1", *(["--storage", disk] if disk else []))
    site = Site(test, lab)
    over_connections(site)
    over_udp(site)
    across_handoffs(site)
    in_progress(site)
    late_write(site)
    withdrawn_rights(site)
    lost_between_devices(site)
    if disk:
        stalled_disk(site, disk)
    else:
        test.say("no file system can be mounted from a file here: a stalled disk is left out")
    rows = [row for row in lab.nasctl("counters", host="disk1") if row["group"].startswith("duplicate")]
    test.say(", ".join(f"{row['group']} {row['name']} {row['value']}" for row in rows))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
