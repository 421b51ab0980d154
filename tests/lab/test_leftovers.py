#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_leftovers.py - what vnasd leaves on a machine

If this fails, a machine whose vnasd was stopped or removed still answers for the VIP, filters packets with programs
that nobody looks after, or keeps changed ARP settings; or a restart for an update interrupts the users.

A machine is what ip, tc, sysctl and the bpffs say. A lab with the same addresses and no daemon says how it should be.
"""

import os
import re
import sys

import harness

HOSTS = ("switch", "disk1")
# Numbers that change by themselves.
UNSTEADY = ("count", "stable_secret", "route.flush", "gc_", "max_entries", "tcp_mem", "udp_mem", "tcp_fastopen_key",
            ".vnas-park.")


def machine(lab, host):
    """{what: [lines]}"""
    qdiscs = [line.split(" refcnt")[0] for line in lab.run(host, "tc", "qdisc", "show").splitlines()]
    interfaces = [line for line in lab.run(host, "ip", "-o", "link", "show").splitlines() if ": <" in line]
    names = [line.split(":")[1].strip().split("@")[0] for line in interfaces]
    filters = []
    for name in names:
        for side in ("ingress", "egress"):
            filters += [f"{name} {side} " + re.sub(r"\[[0-9]+\].*", "", text) for text in
                        lab.run(host, "tc", "filter", "show", "dev", name, side, check=False).splitlines()
                        if " handle " in text]
    addresses = [" ".join(line.split()[1:4]) for line in lab.run(host, "ip", "-o", "addr", "show").splitlines()]
    flags = [line.split("<")[1].split(">")[0].split(",") for line in interfaces]
    links = [f"{name} {'up' if 'UP' in flag else 'down'}" for name, flag in zip(names, flags)]
    sysctls = [line for line in lab.run(host, "sysctl", "-a", "--pattern", r"^net\.ipv[46]", check=False).splitlines()
               if not any(word in line for word in UNSTEADY)]
    pins = []
    for parent, folders, files in os.walk(lab.hosts[host]["bpffs"]):
        inside = os.path.relpath(parent, lab.hosts[host]["bpffs"])
        pins += [os.path.normpath(os.path.join(inside, name)) for name in folders + files
                 if not name.endswith(".debug")]
    return {"addresses": sorted(text for text in addresses if " fe80:" not in text and "vnas-park" not in text),
            "links": sorted(links), "qdiscs": sorted(qdiscs), "filters": sorted(filters), "sysctls": sorted(sysctls),
            "routes": [line for family in ("-4", "-6") for line in lab.run(
                host, "ip", family, "route", "show", "table", "all").splitlines() if "fe80::" not in line and
                "ff00::/8" not in line],
            "rules": lab.run(host, "ip", "rule", "show").splitlines(),
            "pins": sorted(pins)}


def difference(expected, found):
    return {what: {"missing": [line for line in expected[what] if line not in found[what]],
                   "too much": [line for line in found[what] if line not in expected[what]]}
            for what in expected if expected[what] != found[what]}


def check_same(test, lab, what, expected):
    for host in HOSTS:
        apart = difference(expected[host], machine(lab, host))
        test.check(f"{what}: {host}", not apart, apart)


def changed(clean, running):
    return [what for what in clean if clean[what] != running[what]]


def start_all(test, lab):
    for host in HOSTS:
        lab.start(host)
    test.within(10, "all is up again", lambda: lab.nasctl("status")["health"] == "good", lambda: lab.nasctl("status"))


def undo(test, lab, host):
    config = lab.hosts[host]["config"]
    said = lab.run(host, lab.plan["programs"]["vnasd"], "--undo", "--config", config)
    again = lab.run(host, lab.plan["programs"]["vnasd"], "--undo", "--config", config)
    errors = [line for line in said.splitlines() + again.splitlines() if line.startswith("err")]
    test.check(f"vnasd --undo, and again: {host} complains of nothing", not errors, errors)


def run(test):
    options = ("--slaves", "1", "--clients", "1", "--ipv6")
    pattern = test.lab(*options, "--no-cluster")
    clean = {host: machine(pattern, host) for host in HOSTS}
    lab = test.lab(*options)
    running = {host: machine(lab, host) for host in HOSTS}
    for host in HOSTS:
        what = changed(clean[host], running[host])
        test.check(f"{host}: a running vnasd is seen in all of this ({', '.join(what)})",
                   {"addresses", "links", "qdiscs", "filters", "sysctls", "pins"} <= set(what), what)

    for host in reversed(HOSTS):
        lab.stop(host)
    check_same(test, lab, "after SIGTERM nothing is left", clean)
    start_all(test, lab)
    check_same(test, lab, "started again, it is as before", running)

    with lab.client() as client:
        root = client.mount("/")
        session = lab.session(*client.local)
        lab.nasctl("handoff", session["id"], "2")
        client.getattr(root)
        lab.signal("switch", "USR1")
        client.getattr(root)
        test.check("after SIGUSR1 at the switch, a session that was handed off goes on", True)
    lab.signal("disk1", "USR1")
    check_same(test, lab, "after SIGUSR1 all stays", running)
    start_all(test, lab)
    check_same(test, lab, "started again, it is the same", running)

    for host in HOSTS:
        said = lab.run(host, lab.plan["programs"]["vnasd"], "--undo", "--config", lab.hosts[host]["config"],
                       check=False)
        test.check(f"vnasd --undo while vnasd runs is refused: {host}", "another vnasd uses this directory" in said,
                   said)
    check_same(test, lab, "... and changes nothing", running)

    for host in HOSTS:
        lab.kill(host)
    check_same(test, lab, "after kill -9 all stays", running)
    for host in HOSTS:
        undo(test, lab, host)
    check_same(test, lab, "after vnasd --undo nothing is left", clean)
    start_all(test, lab)
    with lab.client() as client:
        test.check("it serves again", client.walk(client.mount("/"), "/disk0"))

    for host in reversed(HOSTS):
        lab.nasctl("stop", host=host)
        test.within(10, f"nasctl stop ends vnasd: {host}", lambda host=host: lab.pid(host) is None)
    check_same(test, lab, "after nasctl stop nothing is left", clean)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
