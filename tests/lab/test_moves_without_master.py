#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_moves_without_master.py - a session follows its work from disk to disk while the master is away

The disks hand it on without asking anybody, and tell the switch when it is back: in whatever order they come, it has to
find out who has the session now. If this fails, users are thrown out some seconds after the switch's daemon was restarted.
"""

import sys
import time

import harness
from handoff_storm import MUST_NOT_MOVE, counters, growth, no_loss_probes

DISKS = {2: "disk1", 3: "disk2", 4: "disk3"}
CYCLES = 2
MOVES = 4
GRACE_S = 6     # a device relays for 5 s after the switch has confirmed (HANDOFF_GRACE_MS)


def moves(lab):
    return sum(lab.counter(disk, "handoffs", "given") for disk in DISKS.values())


def holder(lab, client):
    """The disk that has the session; None while it moves."""
    for number, disk in DISKS.items():
        for row in lab.nasctl("session", "list", host=disk):
            if row["client"] == client:
                return number
    return None


def agrees(lab, client):
    """Does the switch send the client's packets to the disk that has the session?"""
    address, _, port = client.rpartition(":")
    session = lab.session(address, port)
    return session and session["node"] == holder(lab, client)


def without_master(test, lab, load):
    client = f"{load.address}:{load.port}"
    test.within(10, "the session is with a disk", lambda: holder(lab, client))
    lab.kill("switch")
    start = moves(lab)
    test.within(30, f"{MOVES} moves without a master", lambda: moves(lab) >= start + MOVES)
    lab.start("switch")
    test.within(8, "the switch sends packets to whoever has the session", lambda: agrees(lab, client))
    time.sleep(GRACE_S)
    test.check("the load goes on when the disks have forgotten what they gave away", load.is_running(),
               load.end() if not load.is_running() else "")
    asked = [disk for disk in DISKS.values() for line in lab.log(disk).splitlines()[-3:] if "asked again" in line]
    test.check("nobody asks the switch for ever", not asked, asked)


def run(test):
    lab = test.lab("--slaves", "3", "--clients", "1")
    no_loss_probes(lab.hosts["client1"])
    load = test.load(lab, "--seconds", "0", "--phase", "600", *(f"/disk{i}" for i in range(len(DISKS))))
    before = counters(lab.hosts["client1"]["netns"])
    for cycle in range(CYCLES):
        test.say(f"kill -9 of the master's vnasd, {cycle + 1} of {CYCLES}")
        without_master(test, lab, load)
    said = test.check_load(load)
    test.say(f"{said.get('operations')} operations, longest pause {said.get('max_gap_us', 0) / 1000:.0f} ms")
    moved = growth(before, counters(lab.hosts["client1"]["netns"]), MUST_NOT_MOVE)
    test.check("the client saw no retransmission and no reset", not moved, moved)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
