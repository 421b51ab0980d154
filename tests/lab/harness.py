# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/harness.py - what the tests of a whole system have in common: a lab each, checks that are counted, the load

    def run(test):
        lab = test.lab("--clients", "2")
        test.check("all is well", lab.nasctl("status")["health"] == "good")

    sys.exit(harness.main(__file__, run))

Prints each check, at the end "N passed, N failed", and the logs' last lines when something failed. Exit status: 0; 1
something failed; 77 without root, vnasd or nfs_load. Labs are taken down whatever happens.

Environment: the lab's; CLIENTS, the folder with nfs_load (default: tests/client).
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.path.join(HERE, "lab")
sys.path.append(os.path.join(os.path.dirname(HERE), "client"))

import daemon
import network
import raw_nfs

LOAD_PATIENCE_S = 90
LOG_LINES = 15


class Failed(Exception):
    """The rest of a test makes no sense any more."""


def wait_until(is_true, patience_s, pause_s=0.05):
    """The seconds that it took; None when it never became true."""
    started = time.monotonic()
    while not is_true():
        if time.monotonic() - started > patience_s:
            return None
        time.sleep(pause_s)
    return time.monotonic() - started


class Lab:
    def __init__(self, name, options, environment=None):
        self.name = name
        self.environment = {**os.environ, **(environment or {})}
        done = self._command("up", *options, check=False)
        if done.returncode:
            raise Failed(f"lab up {' '.join(options)}: {done.stderr.strip()}")
        self.plan = json.loads(done.stdout)
        self.hosts = self.plan["hosts"]
        self.vip = self.plan["vip"]

    def _command(self, word, *arguments, check=True):
        done = subprocess.run([LAB, word, "--name", self.name, *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                              env=self.environment)
        if check and done.returncode:
            raise Failed(f"lab {word} {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def kill(self, host):
        self._command("kill", host)

    def signal(self, host, name):
        self._command("kill", host, "--signal", name)
        if not daemon.wait_gone(self.hosts[host], 20):
            raise Failed(f"{host}: vnasd still runs 20 s after SIG{name}")

    def stop(self, host):
        self._command("stop", host)

    def start(self, host):
        self._command("start", host)

    def cut(self, host):
        self._command("cut", host)

    def heal(self, host):
        self._command("heal", host)

    def down(self):
        return self._command("down", check=False)

    def pid(self, host):
        return daemon.pid_of(self.hosts[host])

    def netns(self, host):
        return os.path.join(network.NETNS_DIR, self.hosts[host]["netns"])

    def run(self, host, *command, check=True, **more):
        """What it printed, both channels."""
        netns = self.plan["lan"] if host == "lan" else self.hosts[host]["netns"]
        done = subprocess.run(network.enter(netns) + list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, **more)
        if check and done.returncode:
            raise Failed(f"on {host}: {' '.join(command)}: {done.stdout.strip()}")
        return done.stdout

    def nasctl(self, *arguments, host="switch"):
        """Its answer; daemon.DaemonError when it was an error."""
        return daemon.nasctl(self.plan, host, *arguments)

    def refused(self, *arguments, host="switch"):
        """What nasctl says against it; "" when it does as it is told."""
        try:
            self.nasctl(*arguments, host=host)
        except daemon.DaemonError as error:
            return str(error)
        return ""

    def node(self, number):
        return next(row for row in self.nasctl("node", "list") if row["id"] == number)

    def counter(self, host, group, name):
        rows = self.nasctl("counters", host=host)
        return sum(row["value"] for row in rows if row["group"] == group and row["name"].startswith(name))

    def session(self, address, port):
        """The row of the session list; None if there is no such session."""
        return next((row for row in self.nasctl("session", "list") if row["client"] == f"{address}:{port}"), None)

    def hand_around(self, random):
        """Order each session to another device. How many (went, did not: it is on its way already, or has just gone)"""
        went = refused = 0
        sessions = daemon.ask(self.plan, "switch", "session", "list")
        nodes = [row["id"] for row in daemon.ask(self.plan, "switch", "node", "list") if row["state"] == "up"]
        for session in sessions:
            others = [node for node in nodes if node != session["node"]]
            try:
                if others:
                    daemon.ask(self.plan, "switch", "handoff", session["id"], str(random.choice(others)))
                    went += 1
            except daemon.DaemonError:
                refused += 1
        return went, refused

    def log(self, host):
        with open(self.hosts[host]["log"], encoding="utf-8", errors="replace") as log:
            return log.read()

    def client(self, host="client1", server=None, **more):
        return raw_nfs.Client(server or self.vip, netns=self.netns(host), **more)

    def load(self, *arguments, host="client1"):
        return Load(self, host, arguments)


class Load:
    """tests/client/nfs_load on a client, from "ready" on."""

    def __init__(self, lab, host, arguments):
        self.address = lab.hosts[host]["address"]
        self.process = subprocess.Popen(
            network.enter(lab.hosts[host]["netns"]) + [load_program(), "--server", lab.vip, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port = int(self._line("port").split()[1])
        self._line("ready")

    def _line(self, word):
        line = self.process.stdout.readline()
        if not line.startswith(word):
            raise Failed(f"nfs_load said \"{line.strip()}\" instead of {word}: {self.process.communicate()[1]}")
        return line

    def is_running(self):
        return self.process.poll() is None

    def end(self):
        """(its last line, what is wrong or ""); it checks all files first."""
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
        try:
            out, err = self.process.communicate(timeout=LOAD_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            return {}, f"it did not end in {LOAD_PATIENCE_S} s"
        said = json.loads(out.strip().splitlines()[-1]) if out.strip() else {}
        return said, err.strip() or ("" if self.process.returncode == 0 else f"status {self.process.returncode}")

    def kill(self):
        if self.is_running():
            self.process.kill()
            self.process.communicate()


def load_program():
    return os.path.join(os.environ.get("CLIENTS") or os.path.join(os.path.dirname(HERE), "client"), "nfs_load")


class Test:
    def __init__(self, name):
        self.name = name
        self.passed = self.failed = 0
        self.labs = []
        self.clean_ups = []
        self.late_clean_ups = []
        self.started = time.monotonic()

    def say(self, text):
        print(f"     {time.monotonic() - self.started:6.2f} s  {text}", flush=True)

    def check(self, what, is_true, detail=""):
        if is_true:
            self.passed += 1
        else:
            self.failed += 1
        more = f": {detail}" if detail != "" and not is_true else ""
        print(f"{'ok  ' if is_true else 'FAIL'} {time.monotonic() - self.started:6.2f} s  {what}{more}", flush=True)
        return is_true

    def need(self, what, is_true, detail=""):
        """A check without which there is no way on."""
        if not self.check(what, is_true, detail):
            raise Failed("given up")

    def within(self, seconds, what, is_true, detail=lambda: ""):
        took = wait_until(is_true, seconds)
        return self.check(f"{what}, within {seconds:g} s" + (f" ({took:.1f} s)" if took is not None else ""),
                          took is not None, detail() if took is None else "")

    def at_end(self, function):
        """Before the labs are taken down."""
        self.clean_ups.append(function)

    def after_labs(self, function):
        """When they are down."""
        self.late_clean_ups.append(function)

    def lab(self, *options, environment=None):
        number = f"-{len(self.labs) + 1}" if self.labs else ""
        lab = Lab(f"{self.name.removeprefix('test_').replace('_', '-')}-{os.getpid()}{number}", options, environment)
        self.labs.append(lab)
        return lab

    def load(self, lab, *arguments, host="client1"):
        load = lab.load(*arguments, host=host)
        self.at_end(load.kill)
        return load

    def check_load(self, load, what="the load ran without an error on one connection"):
        said, wrong = load.end()
        self.check(what, not wrong and said.get("errors") == 0 and said.get("connections") == 1, wrong or said)
        return said

    def finish(self):
        if self.failed:
            for lab in self.labs:
                for name, host in lab.hosts.items():
                    if "log" in host:
                        print(f"--- {name}: the last lines of its log", *daemon.last_lines(host["log"], LOG_LINES),
                              sep="\n")
        for function in reversed(self.clean_ups):
            function()
        for lab in self.labs:
            done = lab.down()
            if done.returncode:
                self.check("the lab goes down", False, done.stderr.strip())
        for function in reversed(self.late_clean_ups):
            function()
        print(f"{self.name}: {self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0


def missing():
    if os.geteuid():
        return "root"
    for program in (daemon.programs()["vnasd"], daemon.programs()["nasctl"], load_program()):
        if not os.access(program, os.X_OK):
            return f"{program} (build it, or set VNASD or CLIENTS)"
    return None


def main(path, run, also_missing=lambda: None):
    """@also_missing: what else this test needs and has not, in words"""
    name = os.path.basename(path).removesuffix(".py")
    what = missing() or also_missing()
    if what:
        print(f"{name}: needs {what}", file=sys.stderr)
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    test = Test(name)
    try:
        run(test)
    except Failed as error:
        test.check("goes on", False, error)
    except Exception:    # a bug in the test, or an answer that nobody expected: as bad as a failed check
        test.check("goes on", False, traceback.format_exc())
    finally:
        status = test.finish()
    return status
