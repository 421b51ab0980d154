#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_clock.py - a disk whose clock is wrong, and clocks that jump by an hour

If this fails, files of one tree have times of different clocks and nobody knows, or clients lose their server because somebody has
set a clock.

Hosts of a lab share the machine's clock; with tests/time/other_clock.c each daemon has one of its own.
"""

import mmap
import os
import struct
import sys

import harness

DISK1, DISK2 = 2, 3
HOUR_NS = 3600 * 10**9
LIBRARY = os.path.join(os.environ.get("CLIENTS") or os.path.join(harness.HERE, "..", "client"), "..", "time", "other_clock.so")
WRAPPER = f"{harness.HERE}/with_clock {os.path.abspath(LIBRARY)}"


class Clock:
    """What other_clock.c maps."""

    def __init__(self, test, lab, host):
        with open(os.path.join(lab.hosts[host]["directory"], "clock"), "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 24)
        test.at_end(self.memory.close)

    def set(self, ahead_ns):
        self.memory[:8] = struct.pack("=q", ahead_ns)

    def keep(self, is_kept):
        self.memory[8:16] = struct.pack("=q", is_kept)

    def ahead_ns(self):
        return struct.unpack("=q", self.memory[:8])[0]

    def slewed_ns(self):
        return struct.unpack("=q", self.memory[16:])[0]


def is_shown(lab, node, ahead_ns, within_ns=20 * 10**6):
    def look():
        shown_us = lab.node(node)["clock_us"]
        return shown_us is not None and abs(shown_us * 1000 - ahead_ns) < within_ns
    return look


def problem(lab, name):
    return lambda: any(name in text and "clock" in text for text in lab.nasctl("status")["problems"])


def measured(test, lab, clocks):
    clocks["disk1"].keep(True)
    for ahead_ns in (0, 700 * 10**6, -250 * 10**6):
        clocks["disk1"].set(ahead_ns)
        test.within(10, f"a clock that is {ahead_ns / 1e9:+} s off is shown so", is_shown(lab, DISK1, ahead_ns),
                    lambda: lab.node(DISK1))
    test.check("that much is no problem", lab.nasctl("status")["health"] == "good", lab.nasctl("status"))
    test.check("a clock that another service keeps is left alone", clocks["disk1"].slewed_ns() == 0)


def slewed(test, lab, clocks):
    clocks["disk1"].keep(False)
    clocks["disk1"].set(300 * 10**6)
    test.within(25, "one that nobody keeps is slewed to the master's", lambda: abs(clocks["disk1"].ahead_ns()) < 20 * 10**6,
                clocks["disk1"].ahead_ns)
    test.check("... and the log says that it is", "it is slewed to the master's" in lab.log("disk1"), lab.log("disk1")[-800:])
    test.check("... no other one was", clocks["disk2"].slewed_ns() == 0 and clocks["switch"].slewed_ns() == 0)


def jumped(test, lab, clocks, host, node, load):
    for ahead_ns in (HOUR_NS, 0, -HOUR_NS, 0):
        before = load_work(lab)
        slewed_ns = clocks[host].slewed_ns()
        clocks[host].set(ahead_ns)
        seen_ns = -ahead_ns if host == "switch" else ahead_ns
        test.within(10, f"{host}'s clock jumps to {ahead_ns / HOUR_NS:+} h: it is shown",
                    is_shown(lab, node, seen_ns, 10**9), lambda: lab.node(node))
        test.within(10, "... the status says so" if ahead_ns else "... the status is good",
                    lambda: (lab.nasctl("status")["health"] == "good") == (ahead_ns == 0), lambda: lab.nasctl("status"))
        test.check("... an hour is not slewed", not ahead_ns or clocks[host].slewed_ns() == slewed_ns)
        test.within(10, "... the load goes on", lambda: load_work(lab) > before)
        test.check("... everybody is up", all(row["state"] == "up" for row in lab.nasctl("node", "list")),
                   lab.nasctl("node", "list"))
    test.check("the load has noticed nothing", load.is_running())


def load_work(lab):
    return sum(lab.counter(disk, "nfs3", "") for disk in ("disk1", "disk2"))


def alarms(lab):
    return [line for line in lab.log("switch").splitlines() if "time: " in line]


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1", environment={"VNASD_WRAPPER": WRAPPER})
    clocks = {host: Clock(test, lab, host) for host in ("switch", "disk1", "disk2")}
    clocks["disk2"].keep(True)
    load = test.load(lab, "--seconds", "0", "/disk0")
    measured(test, lab, clocks)
    slewed(test, lab, clocks)
    clocks["disk1"].keep(True)
    before = len(alarms(lab))
    jumped(test, lab, clocks, "disk1", DISK1, load)
    test.check("each jump away and back is one line of the log", len(alarms(lab)) - before == 4, alarms(lab)[before:])
    jumped(test, lab, clocks, "switch", DISK2, load)
    with lab.client() as client:
        test.check("new clients are served", client.walk(client.mount("/"), "/disk0"))
    test.check_load(load)


def also_missing():
    return None if os.access(LIBRARY, os.R_OK) else f"{LIBRARY} (make clients)"


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, also_missing))
