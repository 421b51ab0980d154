#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_reconnect.py - devices that lose each other and find each other again, under clients at work

If this fails, users see errors when a daemon is restarted or a cable pulled, or a disk serves by an old tree and old exports after
that.

The master's daemon, a disk's, and both are killed and started again; a disk is cut off for longer than anybody's patience. Each time
the exports change meanwhile; each disk must have that by itself after contact with its master, which takes a hundredth of a second.
tests/client/storm_load is the clients: it stops at whatever NFS does not prescribe. Clocks that jump are tests/lab/test_clock.py's.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import daemon
import harness

CUT_S = 60
DISKS = ("disk1", "disk2")


class Load:
    def __init__(self, test, lab):
        program = os.path.join(os.path.dirname(harness.load_program()), "storm_load")
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            harness.network.enter(lab.hosts["client1"]["netns"]) +
            [program, "--server", lab.vip, "--connections", "4", "--pause", "20", "--timeout", str(CUT_S + 60), "/disk0", "/disk1"],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err)
        test.at_end(self.kill)
        test.need("clients are at work", harness.wait_until(lambda: "ready" in self.said(), 30) is not None, self.wrong())

    def said(self):
        self.out.seek(0)
        return self.out.read()

    def wrong(self):
        self.err.seek(0)
        return self.err.read()

    def is_running(self):
        return self.process.poll() is None

    def kill(self):
        if self.is_running():
            self.process.kill()
        self.process.wait()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(CUT_S + 90)
        except subprocess.TimeoutExpired:
            return None


def status(lab, host):
    try:
        return daemon.ask(lab.plan, host, "status")
    except (OSError, daemon.DaemonError):
        return {}


def change(lab, number):
    lab.nasctl("export", "set", f"/e{number}", "10.0.0.0/8(ro)")


def check_right(test, lab, disks):
    """Each disk has the master's revision after contact, without being told to look."""
    for disk in disks:
        found = harness.wait_until(lambda disk=disk: status(lab, disk).get("master") == "up", 15, pause_s=0.01)
        test.check(f"{disk} has contact with its master ({found or 0:.2f} s)", found is not None, status(lab, disk))
        took = harness.wait_until(lambda disk=disk: status(lab, disk).get("revision") == status(lab, "switch").get("revision"), 10,
                                  pause_s=0.01)
        test.check(f"... and its name space {took if took is not None else -1:.2f} s later", took is not None,
                   (status(lab, disk), lab.nasctl("status")))


def check_all_is_well(test, lab, load, what):
    test.within(15, f"after {what} all is well", lambda: lab.nasctl("status")["health"] == "good", lambda: lab.nasctl("status"))
    test.need("... and no client has seen an error", load.is_running(), load.wrong())


def restart(test, lab, load, hosts, number):
    what = "a restart of " + " and ".join(hosts)
    test.say(what)
    if "switch" not in hosts:
        for host in hosts:
            lab.kill(host)
        change(lab, number)
    else:
        change(lab, number)
        for host in hosts:
            lab.kill(host)
    for host in hosts:
        lab.start(host)
    check_right(test, lab, DISKS if "switch" in hosts else hosts)
    check_all_is_well(test, lab, load, what)


def partition(test, lab, load, number):
    test.say(f"disk2 is cut off for {CUT_S} s")
    lab.cut("disk2")
    until = time.monotonic() + CUT_S
    test.within(10, "the master says that it is down", lambda: lab.node(3)["state"] == "down", lambda: lab.node(3))
    change(lab, number)
    change(lab, number + 1)
    time.sleep(max(0, until - time.monotonic()))
    lab.heal("disk2")
    check_right(test, lab, ["disk2"])
    check_all_is_well(test, lab, load, "a partition")


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    load = Load(test, lab)
    restart(test, lab, load, ["switch"], 1)
    restart(test, lab, load, ["disk1"], 2)
    restart(test, lab, load, ["switch", "disk1"], 3)
    partition(test, lab, load, 4)
    test.check("clients end without an error", load.end() == 0, load.wrong())
    events = [json.loads(line) for line in load.said().splitlines() if line.startswith('{"event"')]
    twice = [event for event in events if event["event"] == "ran before" and event["dir"] == "/disk1"]
    test.check("nothing ran twice on the disk that was not killed", not twice, twice[:3])


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
