#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_relay_only.py - a cluster that can't or may not move connections

If this fails, a site whose kernel, container or security policy forbids BPF has no file service at all, or one of
which nobody can tell why it is slower than it should be.
"""

import os
import sys

import daemon
import harness

MASTER, DISK1 = 1, 2
# For the daemons only; the lab itself makes namespaces. Without SYS_ADMIN the kernel lets no program be loaded.
NO_BPF = "setpriv --bounding-set=-bpf,-sys_admin,-perfmon --inh-caps=-bpf,-sys_admin,-perfmon"


def warnings(text):
    return [line for line in text.splitlines() if line.startswith(("warn", "err"))]


def relays(test, lab, what):
    """Everything works, and nothing moves."""
    load = test.load(lab, "--seconds", "3", "/disk0", "/disk1")
    session = lab.session(load.address, load.port)
    load.process.wait()
    said = test.check_load(load, f"{what}: the load ran without an error on one connection")
    test.say(f"{said.get('operations')} operations in {said.get('seconds')} s")
    test.check(f"{what}: its session stayed with the switch", session and session["node"] == MASTER and
               session["handoffs"] == 0, session)
    test.check(f"{what}: the switch relayed", lab.counter("switch", "files", "relayed") > 100,
               lab.counter("switch", "files", "relayed"))
    counts = [lab.counter(host, "handoffs", word) for host in ("switch", "disk1", "disk2")
              for word in ("given", "taken")]
    test.check(f"{what}: no device made or took a handoff", not any(counts), counts)


def command_is_refused(test, lab, what):
    with lab.client() as client:
        client.null()
        session = lab.session(*client.local)
        try:
            lab.nasctl("handoff", session["id"], str(DISK1))
            test.check(f"{what}: a handoff by command is refused", False)
        except daemon.DaemonError as error:
            test.check(f"{what}: a handoff by command is refused in words", "was not handed off" in str(error), error)
        test.check(f"{what}: the session goes on", client.null() is None)


def by_configuration(test):
    what = "handoff = no"
    lab = test.lab("--slaves", "2", "--clients", "1", "--no-handoff")
    relays(test, lab, what)
    status = lab.nasctl("status")
    test.check(f"{what}: the status says so", status["handoffs"] is False, status)
    test.check(f"{what}: what was asked for is no problem", status["health"] == "good", status)
    for host in ("switch", "disk1"):
        said = [line for line in warnings(lab.log(host)) if "handoff = no" in line]
        test.check(f"{what}: {host}'s log says so once", len(said) == 1, lab.log(host))
    test.check(f"{what}: there is no BPF program", "bpf" not in lab.run("switch", "tc", "filter", "show", "dev", "eth0",
                                                                         "ingress"))
    command_is_refused(test, lab, what)


def forbidden(test):
    what = "BPF forbidden"
    lab = test.lab("--slaves", "2", "--clients", "1", environment={"VNASD_WRAPPER": NO_BPF})
    relays(test, lab, what)
    status = lab.nasctl("status")
    test.check(f"{what}: the status says so", status["handoffs"] is False and status["health"] == "degraded" and
               any("relayed" in text for text in status["problems"]), status)
    for host in ("switch", "disk1"):
        said = [line for line in warnings(lab.log(host)) if "relay" in line]
        test.check(f"{what}: {host}'s log says what that means", said and "Operation not permitted" in lab.log(host),
                   lab.log(host))
        noise = [line for line in lab.log(host).splitlines() if "libbpf" in line]
        test.check(f"{what}: {host}'s log has no libbpf chatter", not noise, noise)
        test.check(f"{what}: {host} says it in few lines ({len(warnings(lab.log(host)))})",
                   len(warnings(lab.log(host))) <= 4, warnings(lab.log(host)))
    command_is_refused(test, lab, what)


def no_bpffs(test):
    """One disk node's bpf_dir is not on a bpffs: that node relays, the others go on as before."""
    what = "bpf_dir on no bpffs"
    lab = test.lab("--slaves", "2", "--clients", "1")
    lab.stop("disk2")
    host = lab.hosts["disk2"]
    with open(host["config"], encoding="ascii") as file:
        text = file.read()
    with open(host["config"], "w", encoding="ascii") as out:
        out.write(text.replace(f"{host['bpffs']}/vnas", f"{host['directory']}/nowhere"))
    log_at = len(lab.log("disk2"))
    lab.start("disk2")
    test.within(10, f"{what}: the node is up", lambda: lab.node(3)["state"] == "up", lambda: lab.node(3))
    said = warnings(lab.log("disk2")[log_at:])
    test.check(f"{what}: its log says so and what to do", any("nowhere" in line and "bpffs" in line or "mount -t bpf" in
                                                               line for line in said), said)
    test.check(f"{what}: node list says that it makes no handoffs", lab.node(3)["handoffs"] is False, lab.node(3))
    load = test.load(lab, "--seconds", "2", "/disk0", "/disk1")
    load.process.wait()
    test.check_load(load, f"{what}: the load ran without an error on one connection")
    test.check(f"{what}: disk1 took handoffs", lab.counter("disk1", "handoffs", "taken") > 0)
    test.check(f"{what}: disk2 took none", lab.counter("disk2", "handoffs", "taken") == 0)


def no_fabric(test):
    """The switch has the node program, but nothing would forward packets to a session's new owner."""
    what = "no forwarding table"
    lab = test.lab("--slaves", "2", "--clients", "1")
    lab.stop("switch")
    in_the_way = os.path.join(lab.hosts["switch"]["bpffs"], "vnas", "fabric_flows")    # where the table is pinned
    os.makedirs(in_the_way)
    lab.start("switch")
    test.within(10, f"{what}: the nodes are up", lambda: lab.nasctl("status")["nodes_up"] == 3)
    relays(test, lab, what)
    status = lab.nasctl("status")
    test.check(f"{what}: the status says so", status["handoffs"] is False and
               any(what in text for text in status["problems"]), status)
    lab.stop("switch")
    os.rmdir(in_the_way)


def run(test):
    by_configuration(test)
    forbidden(test)
    no_bpffs(test)
    no_fabric(test)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
