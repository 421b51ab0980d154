# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/bench/drain.py - how long it takes until a disk node has none of its sessions any more

50 sessions of two clients on three disk nodes: some idle, some ask, some write and read in one place or in several
(tests/lab/mixed_sessions.py). Each node is drained in turn, and let have sessions again.
"""

import os
import time

import harness
import measure
import mixed_sessions

SESSIONS = 50
DISKS = ["disk1", "disk2", "disk3"]
MOST_S = 5
PATIENCE_S = 60


def nodes(lab):
    return [row["node"] for row in lab.nasctl("session", "list")]


def drain(lab, disk):
    """How many sessions went, and in how many seconds."""
    node = next(row["id"] for row in lab.nasctl("node", "list") if row["name"] == disk)
    if harness.wait_until(lambda: nodes(lab).count(node) > 0 and len(nodes(lab)) >= SESSIONS, PATIENCE_S) is None:
        raise harness.Failed(f"no session comes to {disk}")
    had, started = nodes(lab).count(node), time.monotonic()
    lab.nasctl("node", "drain", disk)
    seconds = time.monotonic() - started
    left = nodes(lab).count(node)
    lab.nasctl("node", "undrain", disk)
    if left:
        raise harness.Failed(f"{disk} still has {left} sessions")
    return {"sessions": had, "seconds": seconds}


def measure_all(options, say, print_table):
    say("drain: starting a lab")
    lab = harness.Lab(f"bench-{os.getpid()}-drain", ["--slaves", "3", "--clients", "2", "--log-level", "warn", "--first-device",
                                                     "round-robin"])
    try:
        if harness.wait_until(lambda: sum(row["first_device"] for row in lab.nasctl("node", "list")) == 3, PATIENCE_S) is None:
            raise harness.Failed("the disk nodes don't get connections")
        places = [row["place"] for row in lab.nasctl("volume", "list")]
        with mixed_sessions.MixedSessions(lab, SESSIONS, places) as sessions:
            results = [drain(lab, DISKS[i % 3]) for i in range(3 * options.rounds)]
            errors = sessions.errors
    finally:
        lab.down()
    seconds = sorted(result["seconds"] for result in results)
    judged = f"{seconds[-1]:.2f}" + (f" of {MOST_S}" if seconds[-1] <= MOST_S else f" MISSES {MOST_S}")
    print_table(f"`nasctl node drain` with {SESSIONS} sessions on three nodes, {len(results)} times",
                [["sessions of the node, most", "seconds, median", "most", "clients that saw an error"],
                 [max(result["sessions"] for result in results), measure.median(seconds), judged, len(errors)]])
    return {"drains": results, "errors": errors}
