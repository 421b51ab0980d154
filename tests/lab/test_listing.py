#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_listing.py - a large directory is listed piece by piece, wherever the client's connection is meanwhile

If this fails, a user's files are missing from a listing, so that a backup or a copy leaves them out and rm -r does not come to
its end; or some are there twice.

Client 1 lists a directory of disk1's, in pieces of all sizes. Between two pieces its connection goes to another device, which
answers or relays, or the disk node or the switch is killed and started again, or its cookie comes by another connection; and
client 2 makes names and takes others away. What was there all the time must be in the list, and nothing twice. No answer may be
longer than was asked for. The same on ext4, XFS, Btrfs and tmpfs, and, without changes, for the virtual root.
"""

import contextlib
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import daemon
import harness
import raw_nfs

FILE_SYSTEMS = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"], "tmpfs": None}
SWITCH, DISK1, DISK2 = 1, 2, 3
KEPT, GOING = 3000, 3000    # names that stay, and that go one after the other
CHANGES = 20                # between two pieces
READDIR, READDIRPLUS, TOOSMALL = 16, 17, 10005
STATUS_BYTES, HEADER_BYTES = 4, 24
PLACES = 12                 # of the virtual root
ONE_BYTES = 320             # any entry fits


class Piece:
    """The results of one READDIR or READDIRPLUS."""

    def __init__(self, body, plus):
        reply = raw_nfs.Reader(body)
        reply.bytes(HEADER_BYTES)
        self.status, self.entries, self.name_bytes, self.end = reply.u32(), [], 0, False
        if self.status:
            return
        reply.post_op_attributes()
        reply.bytes(8)
        while reply.u32():
            at = reply.at
            reply.u64()
            name, cookie = reply.opaque(), reply.u64()
            self.name_bytes += reply.at - at
            if plus:
                reply.post_op_attributes()
                if reply.u32():
                    reply.opaque()
            self.entries.append((name.decode(), cookie))
        self.end = bool(reply.u32())
        self.length = len(body) - HEADER_BYTES - STATUS_BYTES


class Lister:
    def __init__(self, lab, path, random, limits):
        """@limits: of answers and, for READDIRPLUS, of their names"""
        self.lab, self.random, self.limits = lab, random, limits
        self.connect()
        self.directory = self.client.walk(self.client.mount("/"), path)
        self.cookie, self.names, self.wrong, self.moves = 0, [], [], 0

    def connect(self):
        self.client = self.lab.client("client1", timeout_s=60)

    def anew(self):
        """As a client does whose connection was lost."""
        self.client.close()
        self.connect()

    def exchange(self, procedure, arguments):
        self.client.xid += 1
        body = raw_nfs.call_body(self.client.xid & 0xffffffff, raw_nfs.NFS, 3, procedure, arguments)
        while True:
            try:
                answer = self.client.exchange(body)
            except raw_nfs.ConnectionLost:
                self.anew()
                continue
            if struct.unpack_from(">I", answer, HEADER_BYTES)[0] != raw_nfs.JUKEBOX:
                return answer
            time.sleep(0.1)

    def piece(self):
        """Return: whether the list is at its end"""
        plus = self.random.random() < 0.5
        limit, names = (self.random.choice(some) for some in self.limits)
        arguments = raw_nfs.opaque(self.directory) + struct.pack(">Q", self.cookie) + bytes(8)
        if plus:
            arguments += struct.pack(">I", names)
        piece = Piece(self.exchange(READDIRPLUS if plus else READDIR, arguments + struct.pack(">I", limit)), plus)
        if piece.status == TOOSMALL and plus and min(limit, names) < ONE_BYTES:
            return False
        if piece.status or piece.length > limit or (plus and piece.name_bytes > names) or not (piece.entries or piece.end):
            self.wrong.append((piece.status, piece.length, limit, piece.name_bytes, names, len(piece.entries)))
            return True
        self.names += [name for name, _ in piece.entries]
        self.cookie = piece.entries[-1][1] if piece.entries else self.cookie
        return piece.end

    def go_to(self, node):
        """If it can: after a restart devices take a moment to find each other."""
        session = self.lab.session(*self.client.local)
        if session and session["node"] != node:
            with contextlib.suppress(daemon.DaemonError):
                self.lab.nasctl("handoff", session["id"], str(node))
                self.moves += 1


class Changer:
    """Client 2: takes away names that were not asked to stay, and makes others."""

    def __init__(self, lab, path):
        self.client = lab.client("client2", timeout_s=60)
        self.directory = self.client.walk(self.client.mount("/"), path)
        self.gone = 0

    def change(self):
        for _ in range(CHANGES):
            if self.gone == GOING:
                return
            self.client.remove(self.directory, f"going-{self.gone}")
            if self.gone % 3 == 0:
                self.client.create(self.directory, f"new-{self.gone}")
            self.gone += 1


def make_file_system(test, kind, directory):
    """Return: where it is mounted"""
    image, mounted = os.path.join(directory, f"{kind}.image"), os.path.join(directory, kind)
    os.mkdir(mounted)
    if FILE_SYSTEMS[kind]:
        subprocess.run(["truncate", "-s", "400M", image], check=True)
        subprocess.run(FILE_SYSTEMS[kind] + [image], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    else:
        subprocess.run(["mount", "-t", "tmpfs", "none", mounted], check=True)
    test.after_labs(lambda: subprocess.run(["umount", mounted], check=False))
    for i in range(KEPT):
        open(os.path.join(mounted, f"kept-{i}"), "w", encoding="ascii").close()
    for i in range(GOING):
        open(os.path.join(mounted, f"going-{i}"), "w", encoding="ascii").close()
    return mounted


def restart(lab, host):
    lab.kill(host)
    lab.start(host)


def check_list(test, what, lister, expected):
    names = set(lister.names)
    test.check(f"{what}: no answer is wrong or longer than was asked for", not lister.wrong, lister.wrong[:3])
    test.check(f"{what}: no name is there twice", len(names) == len(lister.names),
               [name for name in names if lister.names.count(name) > 1][:3])
    test.check(f"{what}: every name that stayed is there", expected <= names, sorted(expected - names)[:3])


def moving(test, lab, kind, seed):
    lister = Lister(lab, f"/{kind}", random.Random(f"{seed}{kind}"), ((200, 512, 4096), (20, 300, 4096)))
    changer = Changer(lab, f"/{kind}")
    pieces, ways = 0, [
        lambda: lister.go_to(SWITCH), lambda: lister.go_to(DISK1), lambda: lister.go_to(DISK2), lister.anew, lambda: None]
    while not lister.piece():
        pieces += 1
        if pieces % 3 == 0:
            changer.change()
        if pieces == 30:
            restart(lab, "disk1")
            test.within(10, "disk1 is back", lambda: lab.node(DISK1)["state"] == "up")
            changer.client.close()
            changer.client = lab.client("client2", timeout_s=60)
        else:
            lister.random.choice(ways)()
    test.check(f"{kind}: it took many pieces, and much was changed meanwhile",
               pieces > 40 and lister.moves > 3 and changer.gone > 200, (pieces, lister.moves, changer.gone))
    check_list(test, kind, lister, {f"kept-{i}" for i in range(KEPT)} | {".", ".."})
    for client in lister.client, changer.client:
        client.close()


def virtual_root(test, lab, seed):
    lister = Lister(lab, "/", random.Random(seed), ((150, 300), (40, 100)))    # one name at a time, or two
    pieces = 0
    while not lister.piece():
        pieces += 1
        if pieces == 4:
            restart(lab, "switch")
            test.within(10, "the switch is back", lambda: lab.nasctl("status")["nodes_up"] == 3)
            lister.anew()
        else:
            lister.go_to((SWITCH, DISK1, DISK2)[pieces % 3])
    test.check("the virtual root: it took several pieces", pieces > 2 and lister.moves > 1, (pieces, lister.moves))
    check_list(test, "the virtual root", lister, {".", ".."} | set(FILE_SYSTEMS) | {f"place{i}" for i in range(PLACES)})
    lister.client.close()


def missing():
    for program in filter(None, (mkfs and mkfs[0] for mkfs in FILE_SYSTEMS.values())):
        if not shutil.which(program):
            return program
    return None if os.access("/dev/loop-control", os.W_OK) else "/dev/loop-control"


def run(test):
    seed = os.environ.get("SEED") or str(int(time.time()))
    test.say(f"SEED={seed}")
    directory = tempfile.mkdtemp(prefix="vnas-listing-", dir="/var/tmp")
    test.after_labs(lambda: shutil.rmtree(directory))
    lab = test.lab("--slaves", "2", "--clients", "2")
    with lab.client() as client:
        root = client.mount("/")
        for kind in FILE_SYSTEMS:
            mounted = make_file_system(test, kind, directory)
            lab.nasctl("volume", "add", str(DISK1), mounted, f"/{kind}")
            test.within(10, f"{kind} is in the tree", lambda kind=kind: kind in client.names(root))
    for i in range(PLACES):
        place = os.path.join(lab.hosts["disk2"]["directory"], f"place{i}")
        os.mkdir(place)
        lab.nasctl("volume", "add", str(DISK2), place, f"/place{i}")
    for kind in FILE_SYSTEMS:
        moving(test, lab, kind, seed)
    virtual_root(test, lab, seed)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, missing))
