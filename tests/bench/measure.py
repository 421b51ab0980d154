# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/bench/measure.py - one run of read_load, with the CPU time of the processes that have to do with it
"""

import array
import bisect
import contextlib
import json
import os
import statistics
import subprocess
import time

import daemon
import harness
import network
import sites

READ_LOAD = os.environ.get("READ_LOAD") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "read_load")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
SETTLE_S = 10


def ticks(pid):
    """utime + stime of all its threads, in clock ticks."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def run_us(pid):
    """The same from the scheduler, in microseconds."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError), \
                open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as stat:
            total += int(stat.read().split()[0])
    return total // 1000


def wakes(pid):
    """How often its threads went to sleep: once for each time that they were woken to do something."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError), \
                open(f"/proc/{pid}/task/{thread}/status", encoding="ascii", errors="replace") as status:
            total += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches:"))
    return total


class Usage:
    """What @pids, {name: process id}, used since it was made."""

    def __init__(self, pids):
        self.pids = pids
        self.before = self._now()

    def _now(self):
        return {name: {"ticks": ticks(pid), "run_us": run_us(pid), "wakes": wakes(pid)}
                for name, pid in self.pids.items()}

    def since(self):
        return {name: {what: value - self.before[name][what] for what, value in used.items()}
                for name, used in self._now().items()}


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def median(values):
    return statistics.median(values)


class Load:
    """
    A program in @netns that says @ready in a line, perhaps with more, and its figures as JSON in the last one. A context manager:
    it does not outlive its block.
    """

    PATIENCE_S = 600

    def __init__(self, name, netns, command, ready):
        self.name = name
        self.process = subprocess.Popen(network.enter(netns) + command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.said = self.process.stdout.readline()
        if not self.said.startswith(ready):
            raise harness.Failed(f"{name} does not start: {self.process.communicate()[1].strip()}")

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop(self):
        self.process.terminate()

    def result(self):
        out, err = self.process.communicate(timeout=self.PATIENCE_S)
        if self.process.returncode:
            raise harness.Failed(f"{self.name}: {err.strip()}")
        return json.loads(out.splitlines()[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


class Reader(Load):
    """read_load in @netns, connected; its READs begin with go()."""

    def __init__(self, netns, server, path, *options, port=2049):
        command = ["taskset", "-c", str(sites.CLIENT_CPU), READ_LOAD, "--server", server, "--port", str(port),
                   "--path", path, "--wait", *options]
        super().__init__("read_load", netns, command, "port ")
        self.port = int(self.said.split()[1])


class Session:
    """The switch's view of a reader's connection."""

    def __init__(self, lab, reader, host="client1"):
        self.lab = lab
        self.client = (lab.hosts[host]["address"], reader.port)
        if harness.wait_until(lambda: lab.session(*self.client), SETTLE_S, 0.02) is None:
            raise harness.Failed(f"the session of {self.client} is not in the list")
        self.id = str(self.row()["id"])

    def row(self):
        return self.lab.session(*self.client)

    def hand_off(self, node):
        """The time it took in microseconds; 0 if it was there already; None if it was refused."""
        try:
            return daemon.ask(self.lab.plan, "switch", "handoff", self.id, str(node))["duration_us"]
        except daemon.DaemonError:
            return None

    def bring_to(self, node):
        if harness.wait_until(lambda: self.hand_off(node) is not None, SETTLE_S) is None:
            raise harness.Failed(f"the session was not handed off to node {node}")
        if harness.wait_until(lambda: self.row()["node"] == node, SETTLE_S) is None:
            raise harness.Failed(f"the session is not on node {node}")


# Gaps between answers


def read_times(path):
    times = array.array("Q")
    with open(path, "rb") as file:
        times.frombytes(file.read())
    return times


def longest_gap_us(times, start_us, end_us):
    """The longest time between two answers that has something in common with [start, end]. @times: sorted."""
    first = max(bisect.bisect_right(times, start_us) - 1, 0)
    last = min(bisect.bisect_left(times, end_us), len(times) - 1)
    return max((times[i + 1] - times[i] for i in range(first, last)), default=0)


def now_us():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
