#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/handoff_storm.py - the storm in handoff_storm.sh, in a lab that is up

Says what happened as one line of JSON; handoff_storm.sh has the rest of the story.
"""

import argparse
import ipaddress
import json
import os
import random
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import daemon
import network

LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lab")
NODES = ["1", "2", "3"]
MUST_NOT_MOVE = ["Tcp.RetransSegs", "Tcp.OutRsts", "Tcp.EstabResets", "Tcp.AttemptFails"]
# Not checked: they tell where a problem came from.
ALSO_SHOWN = ["TcpExt.TCPTimeouts", "TcpExt.TCPLossProbes", "TcpExt.TCPFastRetrans", "TcpExt.TCPSACKReorder",
              "TcpExt.TCPDSACKRecvSegs", "TcpExt.TCPOFOQueue", "TcpExt.PAWSEstab", "TcpExt.PAWSOldAck",
              "TcpExt.TCPChallengeACK", "Tcp.InCsumErrors", "Tcp.InErrs"]
REFUSALS_IN_A_ROW = 100
SETTLE_S = 5
PATIENCE_S = 180    # more than nfs_load's own time limit


class StormError(Exception):
    pass


# Counters of the kernel


def counters(netns):
    """{"Tcp.RetransSegs": 3, ...} of a namespace; absent ones (TcpExt has some only when a protocol is there) are 0."""
    out = subprocess.run(network.enter(netns) + ["cat", "/proc/net/snmp", "/proc/net/netstat"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    found = dict.fromkeys(MUST_NOT_MOVE + ALSO_SHOWN, 0)
    for names, values in zip(out[::2], out[1::2]):
        area = names.split(":")[0]
        found.update(zip((f"{area}.{name}" for name in names.split()[1:]), map(int, values.split()[1:])))
    return found


def growth(before, after, names):
    return {name: after[name] - before[name] for name in names if after[name] != before[name]}


# The load client


class Load:
    def __init__(self, plan, options):
        host = plan["hosts"]["client1"]
        server = plan["vip6"] if options.ipv6 else plan["vip"]
        self.address = ipaddress.ip_address(host["address6"] if options.ipv6 else host["address"])
        command = network.enter(host["netns"]) + [
            os.environ["NFS_LOAD"], "--server", server, "--seconds", "0", "--block", str(options.block),
            "--depth", str(options.depth), "/disk0", "/disk1"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line("port").split()[1])
        self._line("ready")

    def _line(self, word):
        line = self.process.stdout.readline()
        if not line.startswith(word):
            raise StormError(f"nfs_load said \"{line.strip()}\" instead of {word}")
        return line

    def is_running(self):
        return self.process.poll() is None

    def end(self):
        """Its last line and its exit status; it checks all files first."""
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
        try:
            out = self.process.communicate(timeout=PATIENCE_S)[0].strip()
        except subprocess.TimeoutExpired:
            self.process.kill()
            return {}, f"killed, it did not end in {PATIENCE_S} s"
        return json.loads(out.splitlines()[-1]) if out else {}, self.process.returncode


# Handoffs


def endpoint(text):
    address, _, port = text.rpartition(":")
    return ipaddress.ip_address(address.strip("[]")), int(port)


class Session:
    def __init__(self, plan, load):
        self.plan = plan
        self.client = (load.address, load.port)
        self.id = str(self.look()["id"])

    def look(self):
        """Its row in the switch's list of sessions, which devices fill by and by."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            for row in daemon.nasctl(self.plan, "switch", "session", "list"):
                if endpoint(row["client"]) == self.client:
                    return row
            time.sleep(0.02)
        raise StormError("the session {}:{} is not in the list".format(*self.client))

    def hand_off(self, node, kind="full"):
        """
        As `nasctl handoff`. The time it took in microseconds; 0 if it is there already: it also moves by itself, to
        its data. DaemonError when it was refused.
        """
        return daemon.ask(self.plan, "switch", "handoff", self.id, node, "--kind", kind)["duration_us"]


def storm(options, session, load, times_us, refusals):
    deadline = time.monotonic() + options.timeout
    in_a_row, last = 0, None
    while len(times_us) < options.handoffs:
        if not load.is_running():
            raise StormError("nfs_load has ended")
        if time.monotonic() > deadline:
            raise StormError(f"only {len(times_us)} handoffs in {options.timeout:g} s")
        node = random.choice([node for node in NODES if node != last])
        kind = random.choice(options.kinds.split(","))
        try:
            if kind == "predicted":
                for candidate in NODES:
                    if candidate != last:
                        session.hand_off(candidate, "prepare")
                kind = "full"
            took_us = session.hand_off(node, kind)
            if took_us:
                times_us.append(took_us)
            in_a_row, last = 0, node
            time.sleep(options.pause_ms / 1000)
        except daemon.DaemonError as error:
            refusals[str(error)] = refusals.get(str(error), 0) + 1
            in_a_row += 1
            if in_a_row == REFUSALS_IN_A_ROW:
                raise StormError(f"{in_a_row} handoffs in a row were refused, the last: {error}") from None
            time.sleep(0.001)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def no_loss_probes(host):
    """
    A tail-loss probe is sent, and counted as a retransmission, whenever an answer takes 4 ms or so, which a busy
    machine does without any loss. Without probes a lost segment is still sent again, and counted, only later.
    """
    subprocess.run(network.enter(host["netns"]) + ["sysctl", "-q", "-w", "net.ipv4.tcp_early_retrans=0"], check=True)


def run(options, plan):
    hosts = plan["hosts"]
    no_loss_probes(hosts["client1"])
    times_us, refusals, problems = [], {}, []
    load = Load(plan, options)
    before = {name: counters(host["netns"]) for name, host in hosts.items()}
    started = time.monotonic()
    try:
        session = Session(plan, load)
        counted = session.look()["handoffs"]
        storm(options, session, load, times_us, refusals)
        counted = session.look()["handoffs"] - counted
        if counted < len(times_us):
            problems.append(f"{len(times_us)} handoffs were done, but the session counted {counted}")
    except (StormError, daemon.DaemonError, OSError) as error:
        problems.append(str(error))
    seconds = time.monotonic() - started
    said, status = load.end()
    after = {name: counters(host["netns"]) for name, host in hosts.items()}

    if status or said.get("errors") != 0:
        problems.append(f"nfs_load failed with status {status}")
    if said.get("connections") != 1 or said.get("local_port") != load.port:
        problems.append("nfs_load did not stay on one connection")
    grown = growth(before["client1"], after["client1"], MUST_NOT_MOVE + ALSO_SHOWN)
    for name in MUST_NOT_MOVE:
        if grown.get(name, 0) > (options.again if name == "Tcp.RetransSegs" else 0):
            problems.append(f"client1: {name} grew by {grown[name]}")
    return {
        "ok": not problems, "problems": problems, "topology": plan["topology"], "ipv6": options.ipv6, "mtu": plan["mtu"],
        "kinds": options.kinds, "handoffs": len(times_us), "seconds": round(seconds, 3),
        "refused": sum(refusals.values()), "refusals": refusals,
        "p50_us": percentile(times_us, 0.5), "p99_us": percentile(times_us, 0.99),
        "max_us": max(times_us, default=None),
        "load": said,
        "counters": {name: growth(before[name], after[name], MUST_NOT_MOVE + ALSO_SHOWN) for name in hosts},
    }


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--name", required=True)
    parser.add_argument("--ipv6", action="store_true")
    parser.add_argument("--handoffs", type=int, default=1000)
    parser.add_argument("--block", type=int, default=65536)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--kinds", default="full", help="some of full, to-devices, to-client, predicted")
    parser.add_argument("--again", type=int, default=0, help="so many segments the client may send again")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--pause-ms", type=float, default=10)
    options = parser.parse_args()
    plan = json.loads(subprocess.run([LAB, "plan", "--name", options.name], stdout=subprocess.PIPE, check=True).stdout)
    try:
        result = run(options, plan)
    except StormError as error:
        result = {"ok": False, "problems": [str(error)]}
    print(json.dumps(result), flush=True)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
