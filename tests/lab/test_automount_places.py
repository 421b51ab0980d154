#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_automount_places.py - a volume's places in the tree change while clients use it

If this fails, an administrator who moves a disk in the tree breaks the work of those who have files of it open, or clients
go on seeing the tree as it was, or lose names from a listing that they have begun.
"""

import struct
import sys

import harness
import raw_nfs

GETATTR, READDIR = 1, 16
ATTRIBUTES_BEFORE_MTIME = 5 * 4 + 2 * 8 + 8 + 2 * 8 + 8    # RFC 1813, fattr3
PIECE_BYTES, TEXT_BYTES = 320, 16


def change_time(client, handle):
    """(mtime, ctime) as the client is told."""
    reply = client._nfs(GETATTR, raw_nfs.opaque(handle))
    reply.bytes(ATTRIBUTES_BEFORE_MTIME)
    return reply.bytes(8), reply.bytes(8)


def piece(client, directory, cookie):
    """(names, the last one's cookie, is that all?)"""
    reply = client._nfs(READDIR, raw_nfs.opaque(directory) + struct.pack(">QQI", cookie, 0, PIECE_BYTES))
    reply.post_op_attributes()
    reply.bytes(8)
    names = []
    while reply.u32():
        reply.u64()
        names.append(reply.opaque().decode())
        cookie = reply.u64()
    return names, cookie, bool(reply.u32())


def places(lab, number):
    row = next(row for row in lab.nasctl("volume", "list") if row["id"] == number)
    return [row["place"]] + [place for place in row["also_at"].split(", ") if place]


class Viewer:
    """A client that has mounted the root, with a file of a disk open; its connection is with one device."""

    def __init__(self, lab, node):
        self.client = lab.client()
        self.root = self.client.mount("/")
        self.file = self.client.create(self.client.walk(self.root, "disk0"), f"open-{node}")
        self.client.write(self.file, 0, b"before")
        if node > 1:
            harness.wait_until(lambda: lab.session(*self.client.local), 10)
            lab.nasctl("handoff", lab.session(*self.client.local)["id"], str(node))
        self.time = change_time(self.client, self.root)

    def sees(self, names):
        return sorted(self.client.names(self.root)) == sorted([".", "..", *names])

    def has_noticed(self):
        before, self.time = self.time, change_time(self.client, self.root)
        return self.time[0] != before[0] and self.time[1] != before[1]

    def can_use(self, text):
        text = text.ljust(TEXT_BYTES)
        self.client.write(self.file, 0, text)
        return self.client.read(self.file, 0, 100) == text


def look(test, viewers, what, names, text):
    for node, viewer in viewers.items():
        test.within(10, f"node {node}'s client sees {what}", lambda viewer=viewer: viewer.sees(names))
        test.check("... by the root's times", viewer.has_noticed())
        test.check("... and its open file goes on", viewer.can_use(text))


def several(test, lab, viewers):
    lab.nasctl("volume", "place", "/disk0", "/projects/a")
    look(test, viewers, "the second place's directory", ["disk0", "disk1", "projects"], b"second")
    client, root = viewers[1].client, viewers[1].root
    test.check("both places lead to the same directory",
               client.walk(root, "disk0") == client.walk(root, "projects/a"))
    test.check("the list has both", places(lab, 1) == ["/disk0", "/projects/a"], places(lab, 1))
    lab.nasctl("volume", "move", "/projects/a", "/b")
    look(test, viewers, "one of two places moved", ["disk0", "disk1", "b"], b"moved")
    lab.nasctl("volume", "unplace", "/disk0", "/disk0")
    look(test, viewers, "one of two places gone", ["disk1", "b"], b"third")
    for words, reason in ((("unplace", "1", "/b"), "only place"), (("unplace", "1", "/disk1"), "is not at /disk1"),
                          (("place", "1", "/disk1"), "something else"), (("place", "1", "/b/c"), "on the way"),
                          (("move", "1", "/disk1/x"), "on the way"), (("place", "1", "b"), "absolute")):
        said = lab.refused("volume", *words)
        test.check(f"{said}", reason in said, said)
    test.check("what was refused has changed nothing", places(lab, 1) == ["/b"] and viewers[1].sees(["disk1", "b"]))


def exported(test, lab, viewers):
    """A place that is not exported takes nobody's rights away, and gives none."""
    lab.nasctl("export", "set", "/b", "*(rw,no_root_squash,insecure)")
    lab.nasctl("export", "remove", "/")
    lab.nasctl("volume", "place", "1", "/c")
    test.check("by an unexported second place nothing changes", viewers[1].can_use(b"exported"))
    lab.nasctl("volume", "move", "1", "/disk0")
    try:
        viewers[1].client.read(viewers[1].file, 0, 1)
        test.check("at no exported place it is not readable", False)
    except raw_nfs.Status:
        test.check("at no exported place it is not readable", True)
    lab.nasctl("export", "set", "/", "*(rw,no_root_squash,insecure)")
    test.check("... and is again", viewers[1].can_use(b"again"))


def listing(test, lab, client, root):
    """Names come and go between two pieces: what stays is there once."""
    stay = [f"stay-with-a-long-name-{i:02d}" for i in range(30)]
    for name in stay:
        lab.nasctl("volume", "place", "2", "/" + name)
    for i in range(10):
        lab.nasctl("volume", "place", "2", f"/move-{i}")
    found, cookie, end, step = [], 0, False, 0
    while not end:
        names, cookie, end = piece(client, root, cookie)
        found += names
        if step < 10:
            lab.nasctl("volume", "move", f"/move-{step}", f"/moved-{step}")
            lab.nasctl("volume", "place", "2", f"/new-{step}")
        step += 1
    test.check("the listing had many pieces", step > 5, step)
    test.check("what stayed is in it once", all(found.count(name) == 1 for name in stay),
               [name for name in stay if found.count(name) != 1])
    test.check("nothing is in it twice", len(set(found)) == len(found))


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    viewers = {node: Viewer(lab, node) for node in (1, 2, 3)}
    several(test, lab, viewers)
    exported(test, lab, viewers)
    listing(test, lab, viewers[1].client, viewers[1].root)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
