#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_check.py - nasctl check finds each thing that is broken on a machine, and nothing in a healthy cluster

If this fails, an administrator is told that all is well while clients wait, or has to mend what is not broken.

Each host has a clock and users of its own (with_clock, with_passwd).
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
from concurrent import futures

import daemon
import harness
import network
from test_clock import LIBRARY, Clock

WRAPPER = f"{harness.HERE}/with_passwd {harness.HERE}/with_clock {os.path.abspath(LIBRARY)}"
PATIENCE_S = 30
DESCRIPTORS = 22869    # for the default of [nfs] memory
LISTEN = """
import socket, sys
tcp = socket.socket()
tcp.bind((sys.argv[1], int(sys.argv[2])))
tcp.listen()
print("ready", flush=True)
sys.stdin.read()
"""


def examine(lab, *options):
    """(exit status, what it printed)"""
    done = subprocess.run(daemon.nasctl_command(lab.plan, "switch", [*options, "check"]), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def rows(lab):
    status, out = examine(lab, "--json")
    found = json.loads(out)
    bad = any(row["severity"] != "note" for row in found)
    if status != (1 if bad else 0):
        raise harness.Failed(f"exit status {status}: {out}")
    return found


def findings(lab):
    return {(row["severity"], row["examination"], row["node_name"]) for row in rows(lab)}


def allowed(lab):
    """What is so on this machine, whoever tests: a container may forbid more descriptors."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= DESCRIPTORS:
        return set()
    return {("note", "limits", name) for name, host in lab.hosts.items() if "config" in host}


class Examiner:
    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.allowed = allowed(lab)

    def finds(self, what, *wanted):
        """The same for a machine that is busy: what has just changed may take some seconds to be seen."""
        seen = []

        def is_so():
            seen[:] = rows(self.lab)
            return {(row["severity"], row["examination"], row["node_name"]) for row in seen} - self.allowed == set(wanted)
        self.test.within(PATIENCE_S, what, is_so, lambda: seen)

    @contextlib.contextmanager
    def broken(self, what, host, command, remedy, *wanted):
        """Breaks with one command of the shell, and mends with another."""
        self.lab.run(host, "sh", "-c", command)
        self.finds(what, *wanted)
        try:
            yield
        finally:
            self.lab.run(host, "sh", "-c", remedy)

    def breaks(self, *arguments):
        with self.broken(*arguments):
            pass


def sysctls(examiner):
    for host in ("disk1", "switch"):
        examiner.breaks(f"a strict reverse path filter on {host}", host, "sysctl -qw net/ipv4/conf/all/rp_filter=1",
                        "sysctl -qw net/ipv4/conf/all/rp_filter=0", ("error", "reverse path", host))
    examiner.breaks("ARP answers for all addresses", "disk1",
                    "sysctl -qw net/ipv4/conf/all/arp_ignore=0 net/ipv4/conf/eth0/arp_ignore=0",
                    "sysctl -qw net/ipv4/conf/all/arp_ignore=1 net/ipv4/conf/eth0/arp_ignore=1", ("error", "arp", "disk1"))
    examiner.breaks("ARP requests in the name of a VIP", "disk2",
                    "sysctl -qw net/ipv4/conf/all/arp_announce=0 net/ipv4/conf/eth0/arp_announce=0",
                    "sysctl -qw net/ipv4/conf/all/arp_announce=2 net/ipv4/conf/eth0/arp_announce=2", ("error", "arp", "disk2"))
    examiner.breaks("outgoing connections may take our ports", "disk1", "sysctl -qw net/ipv4/ip_local_port_range='1024 60999'",
                    "sysctl -qw net/ipv4/ip_local_port_range='32768 60999'", ("warning", "local ports", "disk1"))
    examiner.breaks("... but not if they are reserved", "disk1",
                    "sysctl -qw net/ipv4/ip_local_port_range='1024 60999' net/ipv4/ip_local_reserved_ports=2049-2050",
                    "sysctl -qw net/ipv4/ip_local_port_range='32768 60999' net/ipv4/ip_local_reserved_ports=")
    examiner.breaks("a switch that routes", "switch", "sysctl -qw net/ipv4/ip_forward=1", "sysctl -qw net/ipv4/ip_forward=0",
                    ("note", "forwarding", "switch"))


def interfaces(examiner, lab):
    examiner.breaks("a small MTU, which packets of the others don't pass", "disk1", "ip link set eth0 mtu 1400",
                    "ip link set eth0 mtu 1500", ("error", "mtu", "disk1"), ("error", "paths", "disk2"))
    examiner.breaks("a cable between switch and disk that takes only short packets", "lan", "ip link set disk1.0 mtu 1400",
                    "ip link set disk1.0 mtu 1500", ("error", "paths", "disk1"), ("error", "paths", "disk2"))
    examiner.breaks("a disk without the VIP", "disk1", f"ip address del {lab.vip}/32 dev lo", f"ip address add {lab.vip}/32 dev lo",
                    ("error", "vips", "disk1"))
    examiner.breaks("a disk that has it on its cable", "disk1", f"ip address add {lab.vip}/32 dev eth0",
                    f"ip address del {lab.vip}/32 dev eth0", ("error", "vips", "disk1"))
    examiner.breaks("another machine among the clients that has the VIP", "client1", f"ip address add {lab.vip}/32 dev eth0",
                    f"ip address del {lab.vip}/32 dev eth0", ("error", "duplicates", "switch"))
    examiner.breaks("two disks that can't reach each other", "lan",
                    "bridge link set dev disk1.0 isolated on; bridge link set dev disk2.0 isolated on",
                    "bridge link set dev disk1.0 isolated off; bridge link set dev disk2.0 isolated off",
                    ("error", "members", "disk2"))


def ports(examiner, lab):
    for host, port in (("disk1", 2049), ("switch", 111)):
        listener = subprocess.Popen(network.enter(lab.hosts[host]["netns"]) + [
            sys.executable, "-c", LISTEN, lab.hosts[host]["address"], str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with listener:
            listener.stdout.readline()
            examiner.finds(f"another program at port {port} of {host}", ("warning", "ports", host))
            listener.stdin.close()
            listener.wait()


class Users:
    """Those of a host."""

    def __init__(self, lab, host):
        self.path = os.path.join(lab.hosts[host]["directory"], "passwd")
        with open(self.path, encoding="utf-8") as file:
            self.own = file.read()

    def have(self, *users):
        lines = "".join(f"{name}:x:{uid}:100::/:/bin/sh\n" for name, uid in users)
        with open(self.path, "w", encoding="utf-8") as file:    # the same file: it is mounted
            file.write(self.own + lines)


def ids(test, examiner, lab):
    users = {host: Users(lab, host) for host in ("switch", "disk1", "disk2")}
    for host in users:
        users[host].have(("alice", 7001), ("bob", 7002))
    examiner.finds("users that are the same everywhere are nothing to be told")
    users["disk2"].have(("alice", 7001), ("bob", 7003))
    examiner.finds("a user with another number", ("warning", "ids", "disk2"))
    row = next(row for row in rows(lab) if row["examination"] == "ids")
    test.check("... is named with both", "bob is 7003 here, 7002 on switch" in row["finding"], row)
    users["disk2"].have(("alice", 7001))
    examiner.finds("a user whom one device does not know", ("note", "ids", "disk2"))
    lab.nasctl("export", "set", "/", "*(rw,no_root_squash,insecure,manage_gids)")
    examiner.finds("... is worse where its groups count", ("warning", "ids", "disk2"))
    lab.nasctl("user", "add", "bob", "--uid", "7002")
    examiner.finds("... and no more when the cluster knows him")
    lab.nasctl("user", "remove", "bob")
    for host in users:
        users[host].have()


def clocks(examiner, lab, test):
    clock = {host: Clock(test, lab, host) for host in ("switch", "disk1", "disk2")}
    for host in clock:
        clock[host].keep(True)
    examiner.finds("a healthy cluster has no findings")
    clock["disk1"].set(5 * 10**9)
    examiner.finds("a clock that is wrong", ("error", "time", "disk1"))
    clock["disk1"].set(0)
    examiner.finds("... and is right again")
    clock["switch"].keep(False)
    examiner.finds("a switch without a time service", ("note", "time", "switch"))
    clock["switch"].keep(True)


def printed(test, lab):
    status, out = examine(lab)
    test.check("for people it ends with a sum", out.splitlines()[-1].endswith("0 errors, 0 warnings, "
               f"{len(rows(lab))} notes") and "of 3 devices" in out and status == 0, out)
    with futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: findings(lab), range(5)))
    test.check("who asks at the same time is answered the same", all(answer == answers[0] for answer in answers), answers)


def away(examiner, lab):
    lab.kill("disk2")
    examiner.finds("a disk that is down", ("error", "devices", "disk2"))
    lab.start("disk2")
    examiner.finds("... and up again")


def inline(test):
    lab = test.lab("--slaves", "2", "--clients", "1", environment={"VNASD_WRAPPER": WRAPPER})
    examiner = Examiner(test, lab)
    clocks(examiner, lab, test)
    printed(test, lab)
    sysctls(examiner)
    interfaces(examiner, lab)
    ports(examiner, lab)
    ids(test, examiner, lab)
    away(examiner, lab)
    load = test.load(lab, "--seconds", "1", "/disk0")
    test.check_load(load, "clients are served as before")


def one_arm(test):
    lab = test.lab("--topology", "one-arm", "--slaves", "1", "--clients", "1", "--ipv6", environment={"VNASD_WRAPPER": WRAPPER})
    examiner = Examiner(test, lab)
    for host in ("switch", "disk1"):
        Clock(test, lab, host).keep(True)
    examiner.finds("one-arm, a healthy cluster has no findings")
    examiner.breaks("a disk that answers ARP for the VIP", "disk1",
                    "sysctl -qw net/ipv4/conf/all/arp_ignore=0 net/ipv4/conf/eth0/arp_ignore=0",
                    "sysctl -qw net/ipv4/conf/all/arp_ignore=1 net/ipv4/conf/eth0/arp_ignore=1",
                    ("error", "arp", "disk1"), ("error", "duplicates", "disk1"))
    examiner.finds("... and is quiet again")


def run(test):
    inline(test)
    one_arm(test)


def also_missing():
    return None if os.access(LIBRARY, os.R_OK) else f"{LIBRARY} (make clients)"


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, also_missing))
