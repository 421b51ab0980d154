# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/bench/spread.py - how long a spread directory takes to be listed, beside a plain one of the same size

100,000 directories each: in one of disk1's, and over two branches, on disk1 and disk2. One connection, which disk1 has, lists them in turn,
by READDIR and by READDIRPLUS in pieces of 64 KiB. What counts is the time until the answers are here; reading them is the client's.
The disks are in memory (tmpfs): 200,000 directories are made and removed in seconds, and a plain directory is never faster.
"""

import os
import shutil
import struct
import tempfile
import time

import harness
import measure
import raw_nfs

ENTRIES = 100000
BYTES = 64 << 10
MOST = 1.5
PATIENCE_S = 120
DISK1 = 2


def fill(path, numbers):
    os.makedirs(path, exist_ok=True)
    for n in numbers:
        os.mkdir(os.path.join(path, f"entry-{n:06}"))


def prepare(lab):
    lab.nasctl("spread", "make", "/spread")
    for place in ("/disk0", "/disk1"):
        lab.nasctl("spread", "add", "/spread", place)
    volumes = {row["id"]: row for row in lab.nasctl("volume", "list")}
    branches = [volumes[row["volume"]]["path"] for row in lab.nasctl("spread", "show", "/spread")]
    fill(os.path.join(next(row["path"] for row in volumes.values() if row["place"] == "/disk0"), "plain"), range(ENTRIES))
    fill(branches[0], range(0, ENTRIES, 2))
    fill(branches[1], range(1, ENTRIES, 2))
    lab.nasctl("volume", "check", "/spread")
    if harness.wait_until(lambda: sum(row["entries"] for row in lab.nasctl("spread", "show", "/spread")) == ENTRIES, PATIENCE_S) is None:
        raise harness.Failed("the check does not find all entries")


def piece(client, directory, plus, cookie):
    """Seconds, and the results behind the verifier."""
    arguments = raw_nfs.opaque(directory) + struct.pack(">Q8x", cookie) + struct.pack(">II" if plus else ">I", *[BYTES] * (2 if plus else 1))
    client.xid += 1
    body = raw_nfs.call_body(client.xid, raw_nfs.NFS, 3, 17 if plus else 16, arguments)
    started = time.monotonic()
    reply = raw_nfs.Reader(client.exchange(body))
    seconds = time.monotonic() - started
    reply.bytes(24)
    status = reply.u32()
    if status:
        raise harness.Failed(f"status {status}")
    reply.post_op_attributes()
    reply.bytes(8)
    return seconds, reply


def listing(client, directory, plus):
    """Seconds that all of it takes."""
    cookie, seconds, count, end = 0, 0.0, 0, False
    while not end:
        took, reply = piece(client, directory, plus, cookie)
        seconds += took
        while reply.u32():
            reply.u64()
            reply.opaque()
            cookie = reply.u64()
            count += 1
            if plus:
                reply.post_op_attributes()
                if reply.u32():
                    reply.opaque()
        end = reply.u32()
    if count != ENTRIES + 2:
        raise harness.Failed(f"{count} entries instead of {ENTRIES + 2}")
    return seconds


def bring_to(lab, client, node):
    client.null()
    address, port = client.local
    if harness.wait_until(lambda: lab.session(address, port), PATIENCE_S) is None:
        raise harness.Failed("the session is not reported")
    lab.nasctl("handoff", str(lab.session(address, port)["id"]), str(node))


def measure_all(options, say, print_table):
    say("spread: starting a lab, and making 200000 directories")
    storage = tempfile.mkdtemp(prefix="vnas-bench-", dir="/dev/shm")
    lab = harness.Lab(f"bench-{os.getpid()}-spread", ["--slaves", "2", "--clients", "1", "--log-level", "warn", "--storage", storage])
    times = {(what, plus): [] for what in ("plain", "spread") for plus in (False, True)}
    try:
        prepare(lab)
        with lab.client(timeout_s=PATIENCE_S) as client:
            root = client.mount("/")
            directories = {"plain": client.walk(root, "disk0/plain"), "spread": client.lookup(root, "spread")}
            bring_to(lab, client, DISK1)
            for _ in range(options.rounds):
                for (what, plus), taken in times.items():
                    taken.append(listing(client, directories[what], plus))
    finally:
        lab.down()
        shutil.rmtree(storage, ignore_errors=True)
    rows = [["", "plain, s", "spread, s", "spread to plain"]]
    for plus in (False, True):
        plain, spread = (measure.median(times[what, plus]) for what in ("plain", "spread"))
        ratio = spread / plain
        judged = f"{ratio:.2f}" + (f" of {MOST}" if ratio <= MOST else f" MISSES {MOST}")
        rows.append(["READDIRPLUS" if plus else "READDIR", f"{plain:.3f}", f"{spread:.3f}", judged])
    print_table(f"Listing {ENTRIES} entries, {options.rounds} times", rows)
    return {f"{what} {'READDIRPLUS' if plus else 'READDIR'}": taken for (what, plus), taken in times.items()}
