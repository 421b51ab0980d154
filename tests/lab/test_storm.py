#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_storm.py - everything at once: mixed work on many connections, handoffs all the time, and parts that die

If this fails, a user loses or doubles a change, reads wrong bytes or is thrown out of the cluster when sessions move while
machines and cables fail, or the cluster slowly fills up with what nobody uses any more.

Usage: tests/lab/test_storm.py [--seconds N] [--seed S] [--topology inline|one-arm] [--every S] [--guest] [--data-loops N]

32 connections of libnfs clients on two machines, in files of three disks. Random sessions are ordered to random devices,
every few milliseconds. First for CALM_S, in which nothing else happens, so no client may notice anything. Then for --seconds
(default: 60), while every --every seconds (default: 20) a device's daemon or the switch's is killed, or a cable is pulled,
and put back. With --guest Linux's own client works there, too.

The seed, printed, decides about faults, contents and the clients' choices.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

import bpf_maps
import daemon
import faults
import harness
import network

# What an order says behind `nasctl handoff SESSION NODE`.
KINDS = ((), ("--kind", "to-devices"), ("--kind", "to-client"), ("--kind", "prepare"))

DISKS = ["disk1", "disk2", "disk3"]
DEVICES = ["switch"] + DISKS
NODES = ["1", "2", "3", "4"]
CLIENTS = 2
CONNECTIONS = 16          # of each
DEPTH = 4
CALM_S = 8
ORDERERS = 3              # threads: a session that is not settled makes its orderer wait
PAUSE_MS = 4              # of each, on average, after an order
CALL_TIMEOUT_S = 45
GUEST_PATIENCE_S = 400    # its kernel may have to be fetched
END_S = 120               # for a load to check all it has written
GONE_S = 200              # the switch's table is swept each 30 s; a kernel gives up a FIN that nobody acknowledges after 8 tries
MEMORY_MIB = 200          # of an idle daemon; what it frees it keeps for a while
SPARE_DESCRIPTORS = 10
IDLE_PIPES = 64           # kept for the next READs (PAGE_PIPES_MAX)


# Handoffs


class Orderer(threading.Thread):
    """Orders some session to some device, again and again."""

    def __init__(self, storm, seed):
        super().__init__(daemon=True)
        self.storm, self.random = storm, random.Random(seed)
        self.moved, self.there, self.refused = 0, 0, collections.Counter()

    def run(self):
        while not self.storm.ended.is_set():
            self.storm.goes.wait(0.2)
            sessions = self.storm.sessions
            if not self.storm.goes.is_set() or not sessions:
                time.sleep(0.05)
                continue
            words = self.random.choice(sessions), self.random.choice(NODES), *self.random.choice(KINDS)
            try:
                if daemon.ask(self.storm.lab.plan, "switch", "handoff", *words)["duration_us"]:
                    self.moved += 1
                else:
                    self.there += 1
            except (daemon.DaemonError, OSError, ValueError) as error:
                self.refused[re.sub(r"\b[0-9a-f]+-[0-9a-f]+\b", "SESSION", str(error))] += 1
                time.sleep(0.02)    # the switch may be away
            time.sleep(self.random.expovariate(1000 / PAUSE_MS))


class Handoffs:
    """The orderers, and what they know of the sessions."""

    def __init__(self, lab, seed):
        self.lab = lab
        self.sessions = []
        self.goes, self.ended = threading.Event(), threading.Event()
        self.orderers = [Orderer(self, f"{seed}-{i}") for i in range(ORDERERS)]
        self.threads = self.orderers + [threading.Thread(target=self.look, daemon=True)]

    def look(self):
        while not self.ended.wait(0.3):
            try:
                self.sessions = [row["id"] for row in daemon.ask(self.lab.plan, "switch", "session", "list")]
            except (daemon.DaemonError, OSError, ValueError):
                pass

    def start(self):
        self.goes.set()
        for thread in self.threads:
            thread.start()

    def end(self):
        self.ended.set()
        for thread in self.threads:
            if thread.is_alive():
                thread.join(70)    # longer than an order may take

    def moved(self):
        return sum(orderer.moved for orderer in self.orderers)

    def __str__(self):
        refused = sum((orderer.refused for orderer in self.orderers), collections.Counter())
        return (f"{self.moved()} handoffs, {sum(orderer.there for orderer in self.orderers)} were there already, "
                f"refused: {dict(refused.most_common(8))}")


# Clients


class Load:
    """tests/client/storm_load, which is read all the time: it says what it was told, and goes on."""

    def __init__(self, lab, host, seed):
        program = os.path.join(os.path.dirname(harness.load_program()), "storm_load")
        self.host, self.events, self.said = host, [], {}
        self.ready = threading.Event()
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            network.enter(lab.hosts[host]["netns"]) + [
                program, "--server", lab.vip, "--connections", str(CONNECTIONS), "--depth", str(DEPTH),
                "--seed", str(seed), "--timeout", str(CALL_TIMEOUT_S), "--pause", "20",
                *(f"/disk{i}" for i in range(len(DISKS)))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("ready"):
                self.ready.set()
                continue
            said = json.loads(line)
            if "event" in said:
                self.events.append(said)
            else:
                self.said = said

    def is_running(self):
        return self.process.poll() is None

    def end(self):
        """What is wrong, or ''"""
        if self.is_running():
            self.process.terminate()
        try:
            status = self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = f"killed, it did not end in {END_S} s"
        self.process.wait()
        self.reader.join()
        self.errors.seek(0)
        return self.errors.read().strip() or (f"status {status}" if status else "")

    def kill(self):
        if self.is_running():
            self.process.kill()
            self.process.wait()


class Guest:
    """A virtual machine with Linux's client (tests/guest), at work until it is told to stop."""

    def __init__(self, test, lab):
        sys.path.append(os.path.join(os.path.dirname(harness.HERE), "guest"))
        import handing

        self.test, self.lab = test, lab
        self.ready, self.stop = threading.Event(), threading.Event()
        self.kernel_log = tempfile.NamedTemporaryFile()
        tap = lab.plan["taps"]["guest"] = json.loads(lab._command("tap", "guest").stdout)
        self.command = [
            os.path.join(handing.HERE, "run"), "--netns", tap["netns"], "--tap", tap["tap"],
            "--address", f"{tap['address']}/{tap['prefix']}", "--kernel-log", self.kernel_log.name, "--stdin",
            "--timeout", "1500", os.path.join(handing.HERE, "scripts", "storm.sh"), lab.vip]
        self.run_script = handing.run_script
        self.status = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.status = self.run_script(self.test, self.command, self.part)

    def part(self, _what):
        """The guest works in the background; it waits for us to end the storm."""
        self.ready.set()
        self.stop.wait()

    def end(self):
        self.stop.set()
        self.thread.join(300)
        self.test.check("the guest's script", self.status == 0, self.status)


# What must be so


def check_calm(test, lab, loads, moved):
    events = [(load.host, event) for load in loads for event in load.events]
    test.check("calm: no client noticed anything", not events, events[:3])
    test.check(f"calm: the loads run ({moved} handoffs by order)", all(load.is_running() for load in loads) and moved)
    failures = {host: lab.counter(host, "handoffs", "reset") for host in DEVICES}
    test.check("calm: no session was reset", not any(failures.values()), failures)


def frames(lab, host):
    """(parked, of these written back) since the daemon made the TAP"""
    parked = lab.counter(host, "node", "in_parked") + lab.counter(host, "node", "in_too_early")
    link, = json.loads(lab.run(host, "ip", "-s", "-j", "link", "show", "vnas-park"))
    return parked, link["stats64"]["rx"]["packets"]


def check_frames(test, lab):
    """Sessions move by themselves, too: at some moment nobody is held, and then nothing may be parked."""
    for host in DEVICES:
        test.within(10, f"calm: {host}: no frame is left in the TAP", lambda host=host: len(set(frames(lab, host))) == 1,
                    lambda host=host: frames(lab, host))


def is_excused(event, happened):
    """A connection is lost only when something has just failed, an answer forgotten only when its disk was killed."""
    if event["event"] == "connected again":
        return any(fault.covers(event["from_us"]) for fault in happened)
    disk = DISKS[int(event["dir"].removeprefix("/disk"))]
    return any(fault.forgets and fault.host == disk and fault.covers(event["from_us"], event["until_us"])
               for fault in happened)


def check_loads(test, loads, happened):
    for load in loads:
        wrong = load.end()
        test.check(f"{load.host}: every byte, status and answer was right", not wrong and load.said, wrong)
        test.say(f"{load.host}: {json.dumps(load.said)}")
        for kind in ("connected again", "ran before"):
            bad = [event for event in load.events if event["event"] == kind and not is_excused(event, happened)]
            test.check(f"{load.host}: \"{kind}\" only because of what was killed", not bad, bad[:3])
    pauses = [load.said.get("longest_us", 0) / 1e6 for load in loads]
    test.say(f"the longest that a call took: {max(pauses):.1f} s")


def check_storage(test, lab):
    left = {disk: os.listdir(lab.hosts[disk]["storage"]) for disk in DISKS}
    test.check("nothing is left on the disks", not any(left.values()), left)


def sockets(lab, host):
    """Of the service, but for those that listen, those that only remember, and those of the guest, which was switched off."""
    guests = [tap["address"] for tap in lab.plan["taps"].values()]
    out = lab.run(host, "ss", "-Htan", "sport", "=", ":2049")
    return [line for line in out.splitlines() if line.split()[0] not in ("LISTEN", "TIME-WAIT") and
            line.split()[4].rpartition(":")[0] not in guests]


def descriptors(lab, host):
    """What they are: how many"""
    directory = f"/proc/{lab.pid(host)}/fd"
    kinds = collections.Counter()
    for number in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):
            kinds[re.sub(r"[0-9]+", "N", os.readlink(os.path.join(directory, number)))] += 1
    kinds["pipe:[N]"] = max(0, kinds["pipe:[N]"] - 2 * IDLE_PIPES)
    return kinds


def descriptors_at_rest(test, lab):
    """Of all devices, when they have found each other."""
    found = {}

    def is_at_rest():
        last = dict(found)
        found.update({host: descriptors(lab, host) for host in DEVICES})
        return last == found and lab.nasctl("status")["health"] == "good"

    test.need("the cluster is at rest", harness.wait_until(is_at_rest, 20, pause_s=1) is not None, found)
    return found


def memory_mib(lab, host):
    with open(f"/proc/{lab.pid(host)}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def check_leaks(test, lab, before):
    test.within(GONE_S, "no device has a session", lambda: not any(lab.nasctl("session", "list", host=host)
                                                                  for host in DEVICES))
    for host in DEVICES:
        test.within(GONE_S, f"{host}: no socket is left", lambda host=host: not sockets(lab, host),
                    lambda host=host: sockets(lab, host))
        test.within(GONE_S, f"{host}: no flow is left in the node's map",
                    lambda host=host: not bpf_maps.flows(lab.hosts[host], "node_flows"),
                    lambda host=host: bpf_maps.flows(lab.hosts[host], "node_flows"))
        test.within(20, f"{host}: descriptors: {before[host].total()} before", lambda host=host: descriptors(
            lab, host).total() <= before[host].total() + SPARE_DESCRIPTORS,
                    lambda host=host: descriptors(lab, host) - before[host])
        test.within(20, f"{host}: memory is given back", lambda host=host: memory_mib(lab, host) < MEMORY_MIB,
                    lambda host=host: memory_mib(lab, host))
    test.within(GONE_S, "no flow is left in the switch's table",
                lambda: not bpf_maps.flows(lab.hosts["switch"], "fabric_flows"),
                lambda: bpf_maps.flows(lab.hosts["switch"], "fabric_flows"))


# The storm


def blow(test, lab, handoffs, loads, options):
    """Return: the faults that happened"""
    happened, until = [], time.monotonic() + options.seconds
    for fault in faults.sequence(random.Random(options.seed), DISKS):
        if time.monotonic() + options.every / 2 > until:
            break
        time.sleep(options.every / 4)
        test.say(f"{fault}; {handoffs.moved()} handoffs so far")
        happened.append(fault)
        fault.happen(lab)
        time.sleep(max(0, min(until, fault.from_us / 1e6 + options.every * 3 / 4) - time.monotonic()))
        if not all(load.is_running() for load in loads):
            break
    test.within(60, "the cluster's health is good", lambda: lab.nasctl("status")["health"] == "good",
                lambda: lab.nasctl("status"))
    return happened


def run(test, options):
    test.say(f"--seed {options.seed} --seconds {options.seconds} --topology {options.topology}")
    lab = test.lab("--slaves", str(len(DISKS)), "--clients", str(CLIENTS), "--topology", options.topology,
                   *(["--data-loops", str(options.data_loops)] if options.data_loops else []),
                   *(["--logs", options.logs] if options.logs else []))
    before = descriptors_at_rest(test, lab)
    guest = Guest(test, lab) if options.guest else None
    if guest:
        test.at_end(guest.stop.set)
        test.need("the guest is at work", guest.ready.wait(GUEST_PATIENCE_S))
    handoffs = Handoffs(lab, options.seed)
    test.at_end(handoffs.end)
    loads = [Load(lab, f"client{i + 1}", options.seed * CLIENTS + i) for i in range(CLIENTS)]
    for load in loads:
        test.at_end(load.kill)
    for load in loads:
        test.need(f"{load.host}: its files are written", load.ready.wait(60), load.is_running() or load.end())

    handoffs.start()
    time.sleep(CALM_S)
    handoffs.goes.clear()
    time.sleep(1.5)    # an order in progress, and the order of packets after it
    check_calm(test, lab, loads, handoffs.moved())
    check_frames(test, lab)
    handoffs.goes.set()

    happened = blow(test, lab, handoffs, loads, options)
    handoffs.end()
    test.say(str(handoffs))
    test.check("sessions were handed off all the time", handoffs.moved() > 10 * options.seconds, handoffs.moved())
    if guest:
        guest.end()
    check_loads(test, loads, happened)
    check_storage(test, lab)
    check_leaks(test, lab, before)


def parse():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--topology", choices=["inline", "one-arm"], default="inline")
    parser.add_argument("--guest", action="store_true")
    parser.add_argument("--data-loops", type=int)
    parser.add_argument("--logs", metavar="DIR", help="where vnasd's logs stay")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(3), "big")
    return options


if __name__ == "__main__":
    chosen = parse()
    sys.exit(harness.main(__file__, lambda test: run(test, chosen)))
