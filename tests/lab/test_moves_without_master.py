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
ASK_S = 1.1     # a device asks each second (TCH_ASK_MS)
REST_S = 1.2    # after a handoff a session stays for a second
GRACE_S = 6     # a device relays for 5 s after the switch has confirmed (TCH_GRACE_MS)


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


def works(client, root, disk):
    """Enough on a disk's data to be moved there by policy."""
    file = client.create(client.walk(root, disk), "file")
    for i in range(64):
        client.write(file, i << 16, bytes(1 << 16))


def there_and_back(test, lab):
    """Then it rests, so that no later handoff outdates what disk2 asks for."""
    with lab.client() as client:
        name = f"{client.local[0]}:{client.local[1]}"
        root = client.mount("/")
        time.sleep(REST_S)
        works(client, root, "disk0")
        test.within(10, "the session is with disk1", lambda: holder(lab, name) == 2)
        time.sleep(REST_S)
        lab.kill("switch")
        for disk, number in (("disk1", 3), ("disk0", 2)):
            works(client, root, disk)
            test.within(10, f"without a master it goes to {DISKS[number]}", lambda: holder(lab, name) == number)
            time.sleep(REST_S)
        lab.start("switch")
        test.within(8, "the switch sends packets to disk1", lambda: agrees(lab, name))
        time.sleep(REST_S)
        before = lab.log("disk2").count("asked again")
        time.sleep(2 * ASK_S)
        test.check("disk2 does not ask for ever", lab.log("disk2").count("asked again") == before)
        test.check("the session goes on", client.getattr(root))


def run(test):
    lab = test.lab("--slaves", "3", "--clients", "1")
    no_loss_probes(lab.hosts["client1"])
    there_and_back(test, lab)
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
