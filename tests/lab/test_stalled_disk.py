#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_stalled_disk.py - one disk of a node does not answer; clients of its other disk do not notice

If this fails, one dead disk, network file system or tape library stops the whole node: nobody gets anything any more,
sessions are not handed off, and the master takes the node for dead.

disk1 serves a second volume from a file system that stops to answer (tests/client/hanging_files). Client 2 asks much of
it, from many connections; client 1 works on the other volume, and the node is administered. Nothing here depends on
time: the disk hangs until it is told to go on, and what must go on goes on before that.

A third volume is an ext4, on a disk that stops: what ext4 has in memory is asked for in the loop, which must not be drawn
into waiting for its journal.
"""

import os
import shutil
import struct
import sys
import tempfile
import time

import harness
import raw_nfs
import slow_disk
import test_power_loss

DISK1 = 2
CONNECTIONS, CALLS = 8, 10    # many more than there are workers
GETATTR, SETATTR, LOOKUP, ACCESS, READ, FSSTAT = 1, 2, 3, 4, 6, 18


def ask_all_sorts(clients, root, file):
    """CALLS calls of each client, whose answers nobody waits for."""
    for client in clients:
        for number in range(CALLS):
            procedure, arguments = [
                (GETATTR, raw_nfs.opaque(file)),
                (LOOKUP, raw_nfs.opaque(root) + raw_nfs.opaque(b"file")),
                (ACCESS, raw_nfs.opaque(file) + (0x3f).to_bytes(4, "big")),
                (READ, raw_nfs.opaque(file) + bytes(8) + (4096).to_bytes(4, "big")),
                (FSSTAT, raw_nfs.opaque(root)),
            ][number % 5]
            client.send(raw_nfs.record(raw_nfs.call_body(number + 1, raw_nfs.NFS, 3, procedure, arguments)))


def works(lab, disk0, file, handle_of_other):
    """Everything that a client does, on the volume whose disk answers. Returns what went wrong, or None."""
    with lab.client("client1") as client:
        for number in range(50):
            if client.read(file, 0, 4096) != b"x" * 4096:
                return "READ"
            if client.read(file, 0, 1 << 20) != b"x" * (1 << 20):
                return "READ of 1 MiB"
            client.getattr(file)
            if client.lookup(disk0, "cached") != file:
                return "LOOKUP"
            client.write(file, 0, b"x" * 8192)
        client.names(disk0)
        new = client.create(disk0, "new")
        client.commit(new)
        client.remove(disk0, "new")
        client.names(client.mount("/"))
        client.lookup(client.mount("/"), handle_of_other)
    return None


def send(client, xid, procedure, arguments):
    client.send(raw_nfs.record(raw_nfs.call_body(xid, raw_nfs.NFS, 3, procedure, arguments)))


def journal(test, lab, disk0, file):
    """A file's mode is changed, which waits for the journal. Then it is read: that is to change the time of its last access."""
    directory = tempfile.mkdtemp(prefix="vnas-stalled-", dir="/var/tmp")
    test.after_labs(lambda: shutil.rmtree(directory, ignore_errors=True))
    disk = test_power_loss.VolatileDisk("ext4", directory)
    test.after_labs(disk.close)
    lab.nasctl("volume", "add", str(DISK1), disk.mounted, "/stopping")
    with lab.client("client2", timeout_s=60) as client:
        root = client.mount("/")
        test.within(10, "the third volume is in the tree", lambda: "stopping" in client.names(root))
        changed = client.create(client.walk(root, "/stopping"), "changed")
        client.write(changed, 0, b"y" * 4096)
        client.read(changed, 0, 4096)
        disk.stall()
        try:
            send(client, 1, SETATTR, raw_nfs.opaque(changed) + struct.pack(">II", 1, 0o600) + bytes(5 * 4) + bytes(4))
            time.sleep(1)    # until the journal is being written
            send(client, 2, READ, raw_nfs.opaque(changed) + bytes(8) + (4096).to_bytes(4, "big"))
            wrong = works(lab, disk0, file, "stopping")
        finally:
            disk.go_on()
        test.check("ext4 waits for its journal: another one's clients go on", wrong is None, wrong)
        test.check("... and it answers afterwards", all(client.receive_record() for _ in range(2)))
    volume = next(row["id"] for row in lab.nasctl("volume", "list") if row["path"] == disk.mounted)
    lab.nasctl("volume", "remove", str(volume))


def run(test):
    lab = test.lab("--slaves", "1", "--clients", "2")
    directory = os.path.join(lab.hosts["disk1"]["directory"], "hanging")
    disk = slow_disk.SlowDisk(directory)
    test.at_end(disk.end)
    lab.nasctl("volume", "add", str(DISK1), directory, "/hanging")
    with lab.client("client1") as client:
        root = client.mount("/")
        test.within(10, "the second volume is in the tree", lambda: "hanging" in client.names(root))
        disk0, hanging = client.walk(root, "/disk0"), client.walk(root, "/hanging")
        file, hanging_file = client.create(disk0, "cached"), client.walk(hanging, "file")
        client.write(file, 0, b"x" * (1 << 20))
        test.check("the disk answers", client.read(hanging_file, 0, 16) == b"h" * 16)
    disk.tell("hang")
    clients = [lab.client("client2", timeout_s=60) for _ in range(CONNECTIONS)]
    ask_all_sorts(clients, hanging, hanging_file)
    wrong = works(lab, disk0, file, "hanging")
    test.check("the disk hangs: another one's clients go on", wrong is None, wrong)
    test.check("... and the node answers the master", lab.node(DISK1)["state"] == "up", lab.node(DISK1))
    volume = next(row["id"] for row in lab.nasctl("volume", "list") if row["path"] == directory)
    lab.nasctl("volume", "remove", str(volume))
    wrong = works(lab, disk0, file, "disk0")
    test.check("its volume is removed meanwhile: they go on", wrong is None, wrong)
    disk.tell("go")
    answers = [[client.receive_record() for _ in range(CALLS)] for client in clients]
    test.check("the disk answers again: every call has its answer", all(len(got) == CALLS for got in answers))
    for client in clients:
        client.close()
    wrong = works(lab, disk0, file, "disk0")
    test.check("and all is as before", wrong is None, wrong)
    journal(test, lab, disk0, file)


def also_missing():
    return test_power_loss.missing() if os.access(slow_disk.PROGRAM, os.X_OK) else f"{slow_disk.PROGRAM} (make clients)"


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, also_missing))
