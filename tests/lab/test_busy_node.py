#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_busy_node.py - sessions leave a disk node that is too busy, if they can do as well elsewhere

If this fails, a disk node that has too much to do goes on carrying other nodes' data, or sends away those who need it.

How busy the hosts are is said by this test (tests/lab/with_load). Sessions at disk1 work on its own volume, pass it on their way to
disk2's, or do nothing, when it becomes busy. tests/unit/test_balance.c has the rules by themselves.
"""

import os
import sys
import threading
import time

import harness
import mixed_sessions

DISK1, DISK2, DISK3 = 2, 3, 4
WRAPPER = f"{harness.HERE}/with_load"
BUSY, LITTLE = 95, 10    # percent
BOUND = 80
WORKING, PASSING, IDLE = 4, 6, 6
PATIENCE_S = 60
TICK_S = 0.1
IS_IDLE, ASKS, WRITES = 0, 1, 2    # mixed_sessions.Session's kinds


class Stat(threading.Thread):
    """/proc/stat of each host: @percent says how busy it is."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.files = {name: os.open(f"{host['directory']}/stat", os.O_WRONLY) for name, host in lab.hosts.items()
                      if "directory" in host}
        self.percent = dict.fromkeys(self.files, LITTLE)
        self.counts = {name: [0, 0] for name in self.files}
        self.stop = threading.Event()

    def run(self):
        while not self.stop.wait(TICK_S):
            for name, file in self.files.items():
                busy, idle = self.counts[name]
                self.counts[name] = [busy + self.percent[name], idle + 100 - self.percent[name]]
                os.pwrite(file, b"cpu %012d 0 0 %012d 0 0 0 0 0 0\n" % tuple(self.counts[name]), 0)

    def end(self):
        self.stop.set()
        self.join()


class BusyNode:
    def __init__(self, test):
        self.test, self.stop = test, threading.Event()
        self.lab = test.lab("--slaves", "3", "--clients", "1", environment={"VNASD_WRAPPER": WRAPPER})
        self.stat = Stat(self.lab)
        self.stat.start()
        test.at_end(self.stat.end)
        volumes = {row["node"]: row["place"] for row in self.lab.nasctl("volume", "list")}
        self.working = self.sessions(WORKING, WRITES, volumes[DISK1])
        self.passing = self.sessions(PASSING, ASKS, volumes[DISK2])
        self.idle = self.sessions(IDLE, IS_IDLE, volumes[DISK3])
        self.all = self.working + self.passing + self.idle

    def sessions(self, count, kind, place):
        sessions = [mixed_sessions.Session(self.lab, "client1", number * mixed_sessions.KINDS + kind, [place], self.stop)
                    for number in range(count)]
        for session in sessions:
            session.start()
            session.ready.wait()
        self.test.at_end(self.end)
        return sessions

    def end(self):
        self.stop.set()
        for session in self.all:
            session.join()

    def rows(self, sessions):
        rows = {row["client"]: row for row in self.lab.nasctl("session", "list")}
        return [rows.get("{}:{}".format(*session.client.local)) for session in sessions]

    def nodes(self, sessions):
        return [row and row["node"] for row in self.rows(sessions)]

    def configure(self, busy):
        with open(self.lab.hosts["switch"]["config"], "a", encoding="ascii") as config:
            config.write(f"[balance]\nbusy = {busy}\n")
        self.lab.nasctl("reload")

    def to_disk1(self):
        self.test.within(PATIENCE_S, "all sessions are known", lambda: all(self.rows(self.all)))
        for row in self.rows(self.all):
            self.lab.nasctl("handoff", row["id"], "disk1")
        self.test.within(PATIENCE_S, "they are at disk1", lambda: self.nodes(self.all) == [DISK1] * len(self.all),
                         lambda: self.nodes(self.all))

    def why(self, session):
        return self.lab.nasctl("why", self.rows([session])[0]["id"])["leaves_a_busy_node"]

    def cpu(self, node):
        return (self.lab.node(node)["cpu_permille"] or 0) / 10

    def nothing_happens(self):
        """For longer than it takes until a busy node gives. Not how long: that nothing moves."""
        time.sleep(8)
        return self.nodes(self.all) == [DISK1] * len(self.all)

    def run(self):
        test = self.test
        self.to_disk1()
        test.check("nasctl why says that nobody is to leave", "busy = 0" in self.why(self.idle[0]), self.why(self.idle[0]))
        self.configure(BOUND)
        test.within(PATIENCE_S, "disk1 says how busy it is", lambda: abs(self.cpu(DISK1) - LITTLE) <= 1, lambda: self.cpu(DISK1))
        test.check("who is not busy keeps its sessions", self.nothing_happens(), self.nodes(self.all))
        self.stat.percent = dict.fromkeys(self.stat.percent, BUSY)
        test.within(PATIENCE_S, "all nodes are busy", lambda: "busy, and may be" in self.why(self.idle[0]) and
                    self.cpu(DISK2) > BOUND and self.cpu(DISK3) > BOUND, lambda: self.why(self.idle[0]))
        test.check("who is as busy as all keeps its sessions", self.nothing_happens(), self.nodes(self.all))
        for host in ("switch", "disk2", "disk3"):
            self.stat.percent[host] = LITTLE
        test.within(PATIENCE_S, "those that pass disk1 go where they work", lambda: self.nodes(self.passing) == [DISK2] * PASSING,
                    lambda: self.nodes(self.passing))
        test.within(PATIENCE_S, "those that do nothing go, too", lambda: DISK1 not in self.nodes(self.idle),
                    lambda: self.nodes(self.idle))
        test.check("... most of them to the one that has fewest", self.nodes(self.idle).count(DISK3) >= IDLE // 2, self.nodes(self.idle))
        test.check("those that work there stay", self.nodes(self.working) == [DISK1] * WORKING, self.nodes(self.working))
        test.within(PATIENCE_S, "... and it is said why", lambda: "its work is here" in self.why(self.working[0]),
                    lambda: self.why(self.working[0]))
        before = self.nodes(self.all)
        self.stat.percent = {host: BUSY if host in ("disk2", "disk3") else LITTLE for host in self.stat.percent}
        test.within(PATIENCE_S, "now the others are busy", lambda: self.cpu(DISK2) > BOUND and self.cpu(DISK1) < BOUND)
        time.sleep(8)
        test.check("who was moved stays for a while", self.nodes(self.all) == before, (before, self.nodes(self.all)))
        shifted = self.lab.counter("switch", "balance", "sessions_shifted")
        test.check("each was counted once", shifted == PASSING + IDLE, shifted)
        test.check("no client saw an error", not [session.error for session in self.all if session.error],
                   [session.error for session in self.all if session.error][:3])


def run(test):
    BusyNode(test).run()


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
