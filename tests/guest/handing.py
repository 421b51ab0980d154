# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/guest/handing.py - handing a guest's connections around, for tests that have one in a lab with two disks

Driver orders each session to another device (1 the switch, 2 and 3 the disks) every INTERVAL_S while it is switched on.
"""

import collections
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))

import daemon

LAB = os.path.join(HERE, "..", "lab", "lab")
NODES = [1, 2, 3]
HOSTS = ["switch", "disk1", "disk2"]
INTERVAL_S = 0.05
STANDSTILL_S = 25    # lost packets cost a few seconds, a lost call 60
ABOUT_NFS = re.compile(r"\b(nfs|rpc|lockd|sunrpc|nlm|nsm)|not responding|TCP:", re.IGNORECASE)
# What the guest asked for, what loading modules says, and that an emulated machine is slow.
HARMLESS = re.compile(r"drop_caches: 3|hrtimer: interrupt took|NFS: Registering the \w+ key type|RPC: Registered |FS-Cache: |Key type \w+ registered")


class Refused(Exception):
    pass


def ask(plan, *command):
    """As nasctl does (common/admin.h), without a process for each question: the guest needs the processor."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(plan["hosts"]["switch"]["admin_socket"])
        request = json.dumps({"command": command}).encode()
        sock.sendall(struct.pack("!I", len(request)) + request)
        with sock.makefile("rb") as stream:
            stream.read(4)    # the length; the daemon closes after its answer
            answer = json.loads(stream.read())
    if "error" in answer:
        raise Refused(answer["error"])
    return answer.get("rows", answer.get("record"))


class Driver(threading.Thread):
    """Hands every session around while it is switched on, and sees whether calls are answered all the time."""

    def __init__(self, plan):
        super().__init__(daemon=True)
        self.plan = plan
        self.on, self.ended, self.problem = threading.Event(), False, None
        self.turn = threading.Lock()    # held while orders are given
        self.rounds, self.done, self.refusals, self.times_us = 0, 0, collections.Counter(), []
        self.requests, self.since, self.standstill_s = None, 0, 0

    def run(self):
        try:
            while not self.ended:
                if self.on.wait(INTERVAL_S):
                    started = time.monotonic()
                    with self.turn:
                        self.round()
                    time.sleep(max(0, started + INTERVAL_S - time.monotonic()))
        except (OSError, ValueError, KeyError, Refused) as error:
            self.problem = repr(error)

    def switch(self, is_on):
        """Returns when it is done."""
        self.requests = None
        self.on.set() if is_on else self.on.clear()
        with self.turn:
            pass

    def end(self):
        self.ended = True
        self.join(timeout=60)

    def round(self):
        if not self.on.is_set():
            return
        sessions = ask(self.plan, "session", "list")
        self.watch(sum(session["requests"] for session in sessions))
        for session in sessions:
            self.hand_off(session)
        self.rounds += 1

    def watch(self, requests):
        now = time.monotonic()
        if requests != self.requests:
            self.requests, self.since = requests, now
        self.standstill_s = max(self.standstill_s, now - self.since)
        if self.standstill_s > STANDSTILL_S:    # it would last as long as we go on
            self.on.clear()

    def hand_off(self, session):
        node = random.choice([node for node in NODES if node != session["node"]])
        try:
            answer = ask(self.plan, "handoff", session["id"], str(node))
        except Refused as error:
            self.refusals[re.sub(r"\b[0-9a-f]+-[0-9a-f]+\b", "SESSION", str(error))] += 1
            return
        if answer["duration_us"]:    # else it was there already
            self.done += 1
            self.times_us.append(answer["duration_us"])


def lab(command, options, *arguments):
    return subprocess.run([LAB, command, "--name", options.name, *arguments], stdout=subprocess.PIPE, text=True,
                          check=True).stdout


def hosts_of(plan):
    """Those with a daemon."""
    return [name for name in HOSTS if name in plan["hosts"]]


def handoff_counters(plan):
    """Of all devices together."""
    total = collections.Counter()
    for name in hosts_of(plan):
        for row in daemon.nasctl(plan, name, "counters"):
            if row["group"] == "handoffs":
                total[row["name"]] += row["value"]
    return total


# What was seen


def complaints_of_kernel(path, script):
    """Everything that it said while the script worked; before and after, what is about NFS."""
    wrong, working = [], False
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log.read().splitlines():
            if f"{script}: " in line:
                working = "begin" in line
            elif (working or ABOUT_NFS.search(line)) and not HARMLESS.search(line) \
                    and "link becomes ready" not in line: # the interface comes up when it likes
                wrong.append(line)
    return wrong


def errors_of_daemons(plan):
    wrong, warnings = [], collections.Counter()
    for name in hosts_of(plan):
        with open(plan["hosts"][name]["log"], encoding="utf-8", errors="replace") as log:
            for line in log.read().splitlines():
                if line.startswith("err"):
                    wrong.append(f"{name}: {line}")
                elif line.startswith("warn"):
                    warnings[f"{name}: {re.sub(r'[0-9a-f]*[0-9][0-9a-f]*', 'N', line)}"] += 1
    return wrong, warnings


def skip_unless_possible():
    missing = None
    if os.geteuid() != 0:
        missing = "root"
    elif not shutil.which("qemu-system-x86_64"):
        missing = "qemu-system-x86"
    elif not os.path.exists("/dev/net/tun"):
        missing = "/dev/net/tun"
    elif not os.access(daemon.programs()["vnasd"], os.X_OK):
        missing = f"{daemon.programs()['vnasd']}; build it first"
    if missing:
        print(f"skipped: needs {missing}")
        sys.exit(77)


def run_script(test, command, host_part):
    """
    Run a guest with a script that says "ok: WHAT", "FAILED: WHAT" and "host: PART". For a part host_part(PART) is called; the
    script waits until it has returned. Its exit status.
    """
    guest = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace")
    try:
        for line in map(str.rstrip, guest.stdout):
            if line.startswith("host: "):
                host_part(line.removeprefix("host: "))
                guest.stdin.write("done\n")
                guest.stdin.flush()
            elif line.startswith(("ok: ", "FAILED: ")):
                test.check(line.split(": ", 1)[1], line.startswith("ok"))
            else:
                test.say(line)
        return guest.wait()
    finally:
        guest.terminate()
        guest.wait()
