#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_errors.py - what an administrator is told when vnasd can't start

If this fails, a mistake in the configuration or another server in the way costs an evening instead of a minute: vnasd
says nothing, too much, or not what is wrong, where, and what to do.

There is one line that names the object and what to do; vnasd ends with a status other than 0 and leaves the machine as
it was. Around that line there may be what follows from it, but not more than two.
"""

import os
import re
import socket
import subprocess
import sys
import time

import daemon
import harness
import raw_nfs
from test_leftovers import difference, machine

PATIENCE_S = 20
LINES = 3


class Configuration:
    """disk1's or the switch's, changed for a moment."""

    def __init__(self, lab, host):
        self.path = lab.hosts[host]["config"]
        with open(self.path, encoding="ascii") as file:
            self.text = file.read()

    def change(self, old, new):
        """Replace a regular expression in it."""
        changed = re.sub(old, new, self.text, count=1, flags=re.MULTILINE)
        assert changed != self.text, f"nothing to change: {old}"
        with open(self.path, "w", encoding="ascii") as out:
            out.write(changed)

    def put_back(self):
        with open(self.path, "w", encoding="ascii") as out:
            out.write(self.text)


class Failing:
    def __init__(self, test, lab):
        self.test, self.lab = test, lab

    def vnasd(self, host, *options):
        """(exit status, what it printed)"""
        entry = self.lab.hosts[host]
        done = subprocess.run(harness.network.enter(entry["netns"]) + [
            self.lab.plan["programs"]["vnasd"], f"--mode={entry['role']}", "--config", entry["config"], *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S,
            check=False)
        return done.returncode, done.stdout

    def check(self, what, host, *patterns):
        """vnasd does not start and says so in one line that matches all of @patterns."""
        before = machine(self.lab, host)
        try:
            status, said = self.vnasd(host)
        except subprocess.TimeoutExpired as error:
            self.test.check(f"{what}: vnasd gives up", False, (error.stdout or b"").decode())
            return
        complaints = [line for line in said.splitlines() if line.startswith(("err", "warn", "vnasd:"))]
        self.test.check(f"{what}: exit status {status}", status in (1, 2), said)
        fitting = [line for line in complaints if all(re.search(pattern, line) for pattern in patterns)]
        self.test.check(f"{what}: {fitting[0] if fitting else 'no line says what and where'}", fitting, said)
        self.test.check(f"{what}: no more than {LINES} lines of complaint", 0 < len(complaints) <= LINES, complaints)
        apart = difference(before, machine(self.lab, host))
        self.test.check(f"{what}: the machine is as it was", not apart, apart)


def listener(lab, host, address, port, kind=socket.SOCK_STREAM):
    sock = raw_nfs.socket_in(lab.netns(host), kind=kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def ports(failing, lab):
    for host, port, kind, word in (("switch", 2049, socket.SOCK_STREAM, "TCP port 2049"),
                                   ("switch", 2049, socket.SOCK_DGRAM, "UDP port 2049"),
                                   ("switch", 111, socket.SOCK_STREAM, "TCP port 111"),
                                   ("disk1", 2049, socket.SOCK_STREAM, "TCP port 2049"),
                                   ("disk1", 2050, socket.SOCK_STREAM, "port=2050")):
        with listener(lab, host, "0.0.0.0", port, kind):
            failing.check(f"{host}: {word} is in use", host, word, "[Aa]ddress already in use")


def configurations(failing, lab):
    for host, what, old, new, patterns in (
            ("disk1", "interface missing", "^interface = .*", "interface = eth7", ("eth7",)),
            ("switch", "client interface missing", "^client_interfaces = .*", "client_interfaces = eth7", ("eth7",)),
            ("disk1", "unknown key", "^interface = .*", "interfase = eth0", (r"vnasd\.conf:\d+: .*interfase",)),
            ("disk1", "unknown section", r"^\[nfs\]", "[nsf]", (r"vnasd\.conf:\d+: .*nsf",)),
            ("disk1", "no number", r"^\[nfs\]", "[nfs]\nport = many", (r"vnasd\.conf:\d+: .*many",)),
            ("disk1", "number out of range", r"^\[nfs\]", "[nfs]\nport = 70000", (r"vnasd\.conf:\d+: .*65535",)),
            ("disk1", "no equals sign", r"^\[nfs\]", "[nfs]\nport 2049", (r"vnasd\.conf:\d+: ",)),
            ("switch", "VIP that is none", "^vip = .*", "vip = nas.example.com", (r"vnasd\.conf:\d+: .*nas\.example",)),
            ("disk1", "state_dir below a file", "^state_dir = .*", "state_dir = /dev/null/state", ("/dev/null/state",)),
            ("disk1", "run_dir below a file", "^run_dir = .*", "run_dir = /dev/null/run", ("/dev/null/run",))):
        configuration = Configuration(lab, host)
        configuration.change(old, new)
        failing.check(f"{host}: {what}", host, *patterns)
        configuration.put_back()


def read_only_state(failing, lab):
    """Root writes anywhere but to a read-only file system."""
    state = lab.hosts["disk1"]["state_dir"]
    subprocess.run(["mount", "--bind", state, state], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", state], check=True)
        failing.check("disk1: state_dir on a read-only file system", "disk1", re.escape(state), "Read-only")
    finally:
        subprocess.run(["umount", state], check=True)


def volumes(test, failing, lab):
    """One bad volume does not take the node down."""
    configuration = Configuration(lab, "disk1")
    configuration.change(r"^path = .*", "path = /nowhere/at/all")
    at = len(lab.log("disk1"))
    lab.start("disk1")
    test.check("disk1: a volume's directory is missing: said in one line", re.search(
        r"^err .*/nowhere/at/all.*", lab.log("disk1")[at:], re.MULTILINE), lab.log("disk1")[at:])
    configuration.put_back()
    failing.check("disk1: vnasd runs already", "disk1", "lock: another vnasd")
    lab.stop("disk1")


def first_name_space(test, lab):
    """A node without a replica learns what to serve when it runs: if it can't, it goes on and tries again."""
    os.remove(os.path.join(lab.hosts["disk1"]["state_dir"], "replica"))
    at = len(lab.log("disk1"))
    with listener(lab, "disk1", "0.0.0.0", 2049):
        daemon.spawn(lab.plan, "disk1")
        test.within(10, "disk1: no replica, and the port is in use: said",
                    lambda: "this node does not serve" in lab.log("disk1")[at:], lambda: lab.log("disk1")[at:])
        time.sleep(3)    # heartbeats
        test.check("disk1: vnasd goes on", lab.pid("disk1"), lab.log("disk1")[at:])
        test.check("disk1: it is up and takes no handoffs",
                   not lab.nasctl("status", host="disk1")["handoffs"] and lab.node(2)["state"] == "up")
    lab.nasctl("export", "set", "/nowhere", "*(ro)")
    test.within(10, "disk1: the port is free and the name space changes: it serves",
                lambda: lab.nasctl("status", host="disk1")["serves"], lambda: lab.log("disk1")[at:])
    test.check("disk1: ... and takes handoffs", lab.nasctl("status", host="disk1")["handoffs"])
    lab.nasctl("export", "remove", "/nowhere")
    lab.stop("disk1")


def nasctl(test, lab):
    for host in ("switch", "disk1"):
        try:
            lab.nasctl("status", host=host)
            said = "an answer"
        except daemon.DaemonError as error:
            said = str(error)
        test.check(f"nasctl without a daemon on {host}: {said}", "can't reach vnasd at /" in said and
                   "systemctl status vnas-" in said and said.count("\n") == 1)
    said = lab.run("switch", lab.plan["programs"]["nasctl"], "--socket", "/nowhere/admin.sock", "status", check=False)
    test.check(f"nasctl with a wrong socket: {said.strip()}", "/nowhere/admin.sock" in said and "--socket" in said)


def commands(test, lab):
    """With a daemon: names and numbers that are none."""
    for words, pattern in ((["node", "show", "disk9"], "no node \"disk9\""),
                           (["session", "show", "1-ffff"], "no session"),
                           (["handoff", "nonsense", "2"], "no session"),
                           (["volume", "move", "7", "/x"], "no volume \"7\""),
                           (["volume", "add", "disk1", "/nowhere"], "/nowhere"),
                           (["volume", "move", "1", "x"], "absolute"),
                           (["export", "set", "/", "10.0.0.0/99(rw)"], "99"),
                           (["export", "set", "/", "*(wr)"], "wr"),
                           (["node", "remove", "1"], "master itself"),
                           (["cluster", "token", "--lifetime", "never"], "usage"),
                           (["frobnicate"], "frobnicate")):
        try:
            lab.nasctl(*words)
            said = "done"
        except daemon.DaemonError as error:
            said = str(error)
        test.check(f"{said}", pattern in said and "\n" not in said, said)


def run(test):
    lab = test.lab("--slaves", "1", "--clients", "1")
    commands(test, lab)
    for host in ("disk1", "switch"):
        lab.stop(host)
    failing = Failing(test, lab)
    nasctl(test, lab)
    ports(failing, lab)
    configurations(failing, lab)
    read_only_state(failing, lab)
    lab.start("switch")
    volumes(test, failing, lab)
    first_name_space(test, lab)
    lab.stop("switch")

    for host in ("switch", "disk1"):
        lab.start(host)
    test.within(10, "all corrected: health is good", lambda: lab.nasctl("status")["health"] == "good",
                lambda: lab.nasctl("status"))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
