#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_certificates.py - certificates that end soon, devices that die while they renew them, and ones that are taken back

If this fails, the devices of a cluster lose each other on the day when their certificates expire, or after a power failure, or because
somebody has set a clock; or who has stolen a disk's key goes on being that disk.

tests/unit/test_certificates.c has each step of a renewal, tests/unit/test_certificate_age.c when one is due.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import time

import daemon
import harness
from test_clock import Clock, LIBRARY, WRAPPER, load_work

SWITCH, DISK1, DISK2 = 1, 2, 3
NODES = {SWITCH: "switch", DISK1: "disk1", DISK2: "disk2"}
YEARS_NS = 20 * 365 * 86400 * 10**9
SHORT_S = 12
KILLS = 8
ALL_ENDS = 12


def rows(lab, node):
    return [row for row in lab.nasctl("certificate", "list") if row["node"] == node]


def serial(lab, node):
    """Of its last certificate."""
    return rows(lab, node)[0]["serial"]


def authority(lab):
    return next(row for row in lab.nasctl("certificate", "list") if row["name"] == "authority")


def refusal(lab, *arguments):
    try:
        return str(lab.nasctl("certificate", *arguments))
    except daemon.DaemonError as error:
        return str(error)


def is_up(lab, *nodes):
    return lambda: all(lab.node(node)["state"] in ("up", "held down") for node in nodes)


def sessions_begun(lab):
    """How often devices have met, all logs together."""
    return sum(len(re.findall(r"channel=\w+ address=\S+ up:", lab.log(host))) for host in NODES.values())


def sessions_up(lab):
    """Ends of sessions between devices: two of each, control and relay between each two of three."""
    return sessions_begun(lab) - sum(len(re.findall(r"channel=\w+ address=\S+ down:", lab.log(host))) for host in NODES.values())


class Lives:
    """[membership] of the switch: what it says about certificates."""

    def __init__(self, lab):
        self.lab = lab
        with open(lab.hosts["switch"]["config"], encoding="ascii") as config:
            self.original = config.read()

    def set(self, **lives):
        with open(self.lab.hosts["switch"]["config"], "w", encoding="ascii") as config:
            config.write(self.original + "\n[membership]\n" + "".join(f"{key} = {life}\n" for key, life in lives.items()))
        self.lab.nasctl("reload")


def listed(test, lab):
    certificates = lab.nasctl("certificate", "list")
    test.check("each device has a certificate, and so has the authority", sorted(row["name"] for row in certificates) ==
               ["authority", *sorted(NODES.values())], certificates)
    test.check("... all good, and in use", all(row["state"] == "good" and row["in_use"] for row in certificates), certificates)
    own = lab.nasctl("status", host="disk1")
    test.check("... a disk node knows its own", own["certificate"] == "good" and
               own["certificate_until_ns"] == rows(lab, DISK1)[0]["valid_until_ns"], own)
    shown = lab.nasctl("node", "show", "2")
    test.check("... node show has its state and its end", shown["certificate"] == "good" and
               shown["certificate_until_ns"] == rows(lab, DISK1)[0]["valid_until_ns"], shown)


def ordered(test, lab):
    for node in NODES:
        before = serial(lab, node)
        lab.nasctl("certificate", "renew", str(node))
        now = rows(lab, node)
        test.check(f"{NODES[node]} has a new certificate when it is told to", now[0]["serial"] != before and
                   now[1]["serial"] == before and now[1]["state"] == "replaced", now)
    test.check("... its session with the master goes on by the former one", rows(lab, DISK1)[1]["in_use"], rows(lab, DISK1))


def renewed_in_time(test, lab, lives, load):
    """Certificates that end within seconds, of all devices and of the authority."""
    test.within(20, "all devices have their sessions", lambda: sessions_up(lab) == ALL_ENDS, lambda: sessions_up(lab))
    lives.set(certificate_life=f"{SHORT_S}s", authority_life=f"{SHORT_S}s")
    begun = sessions_begun(lab)
    lab.nasctl("certificate", "renew", "authority")
    lab.nasctl("certificate", "renew", "all")
    first_authority = authority(lab)["serial"]
    test.within(20, "each has one that ends soon", lambda: all(
        rows(lab, node)[0]["valid_until_ns"] < time.time_ns() + (SHORT_S + 1) * 10**9 for node in NODES),
                lambda: lab.nasctl("certificate", "list"))
    first = {node: serial(lab, node) for node in NODES}
    work = load_work(lab)
    test.within(60, "all renew theirs by themselves", lambda: all(serial(lab, node) != first[node] for node in NODES),
                lambda: lab.nasctl("certificate", "list"))
    test.within(60, "the authority renews its own", lambda: authority(lab)["serial"] != first_authority, lambda: authority(lab))
    lives.set()
    lab.nasctl("certificate", "renew", "authority")
    lab.nasctl("certificate", "renew", "all")
    test.within(20, "and all have long ones again", lambda: all(
        rows(lab, node)[0]["valid_until_ns"] > time.time_ns() + 86400 * 10**9 for node in NODES),
                lambda: lab.nasctl("certificate", "list"))
    test.check("no session between devices ended for that", sessions_begun(lab) == begun, (begun, sessions_begun(lab)))
    test.check("the client works meanwhile, and has noticed nothing", load_work(lab) > work and load.is_running())


def former_one_taken_back(test, lab):
    """As after a copy of its key has got away."""
    old = rows(lab, DISK2)[1]["serial"]
    lab.nasctl("certificate", "renew", str(DISK2))
    lab.nasctl("certificate", "revoke", rows(lab, DISK2)[1]["serial"])
    test.check("former certificates are revoked", all(row["state"] == "revoked" for row in rows(lab, DISK2)[1:]), rows(lab, DISK2))
    for host in ("switch", "disk1"):
        test.within(10, f"{host} ends the session by the former one",
                    lambda host=host: re.search(r"node=3 channel=control .* down: certificate .* was revoked", lab.log(host)))
    test.within(10, "disk2 comes by its last one at once", lambda: is_up(lab, DISK2)() and rows(lab, DISK2)[0]["in_use"],
                lambda: rows(lab, DISK2))
    return old


def killed_while_renewing(test, lab, seed):
    """At any moment: there is the old certificate or the new one, and the device is there again by it."""
    rng = random.Random(seed)
    for turn in range(KILLS):
        node = SWITCH if turn % 4 == 3 else DISK2
        host = NODES[node]
        order = subprocess.Popen(daemon.nasctl_command(lab.plan, "switch", ["certificate", "renew", str(node)]),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 0.03))
        lab.kill(host)
        order.wait()
        lab.start(host)
        if not test.check(f"{host}, killed while it renews, is there again (turn {turn})",
                          harness.wait_until(is_up(lab, DISK1, DISK2), 30) is not None, lab.nasctl("node", "list")):
            return
    lab.nasctl("certificate", "renew", str(DISK2))
    test.check("... and renews its certificate", rows(lab, DISK2)[0]["state"] == "good", rows(lab, DISK2))


def clock_jumps(test, lab, clocks, load):
    test.within(20, "all devices have their sessions", lambda: sessions_up(lab) == ALL_ENDS, lambda: sessions_up(lab))
    begun = sessions_begun(lab)
    work = load_work(lab)
    clocks["switch"].set(YEARS_NS)
    test.within(20, "the switch's clock jumps over all ends: the authority is renewed",
                lambda: authority(lab)["valid_until_ns"] > time.time_ns() + YEARS_NS, lambda: authority(lab))
    clocks["disk1"].set(YEARS_NS)
    lab.nasctl("certificate", "renew", str(DISK1))
    test.check("disk1's does: it takes a new one when it is told to", "taken the place" in lab.log("disk1").splitlines()[-1],
               lab.log("disk1")[-800:])
    test.check("... sessions go on, those of devices and the client's", sessions_begun(lab) == begun and is_up(lab, DISK1, DISK2)() and
               load.is_running() and load_work(lab) > work, (begun, sessions_begun(lab)))
    clocks["disk1"].set(0)
    clocks["switch"].set(-YEARS_NS)
    said = refusal(lab, "renew", str(DISK1))
    test.check("the switch's clock is far behind: disk1 does not take what has expired", "expired by this clock" in said, said)
    clocks["switch"].set(0)
    test.check("... and it is no problem", lab.nasctl("node", "show", str(DISK1))["certificate"] == "good" and
               not any("certificate" in text for text in lab.nasctl("status")["problems"]), lab.nasctl("status"))
    lab.kill("disk2")
    lab.start("disk2")
    test.within(20, "the switch's clock is right again: disk2, restarted, is up", is_up(lab, DISK2), lambda: lab.node(DISK2))
    lab.nasctl("certificate", "renew", "all")
    test.within(20, "all clocks are right again: all is well", lambda: lab.nasctl("status")["health"] == "good",
                lambda: lab.nasctl("status"))


def expired(test, lab, clocks):
    """disk2's clock is wrong when it starts: it starts, and needs nothing when the clock is right."""
    log_at = len(lab.log("disk1"))
    lab.kill("disk2")
    clocks["disk2"].set(3 * YEARS_NS)
    daemon.spawn(lab.plan, "disk2")
    test.within(20, "a disk whose clock is 60 years ahead says that its certificate has expired",
                lambda: "HAS EXPIRED" in lab.log("disk2"), lambda: lab.log("disk2")[-1500:])
    test.check("... it is not up, but runs", not is_up(lab, DISK2)() and lab.pid("disk2"), lab.node(DISK2))
    clocks["disk2"].set(0)
    test.within(20, "its clock is right: it is up", is_up(lab, DISK2), lambda: lab.log("disk2")[-1500:])
    test.within(20, "... with disk1, too", lambda: "node=3 channel=control address" in lab.log("disk1")[log_at:].rsplit("down:", 1)[-1],
                lambda: lab.log("disk1")[log_at:])


def is_refused(lab, host):
    return re.search(r"node=3 address=\S+ refused: certificate \w+ of node 3 was revoked", lab.log(host))


def taken_back(test, lab):
    at = {host: len(lab.log(host)) for host in NODES.values()}
    lab.nasctl("certificate", "revoke", "disk2")
    for host in ("switch", "disk1"):
        test.within(10, f"revoked: {host} ends its session with disk2, and says why", lambda host=host: re.search(
            "node=3 channel=control .* down: certificate .* was revoked", lab.log(host)[at[host]:]))
        test.within(15, f"... {host} refuses it when it comes again", lambda host=host: is_refused(lab, host), lambda host=host:
                    lab.log(host)[at[host]:])
    test.within(10, "... disk2 hears why", lambda: "was revoked" in lab.log("disk2")[at["disk2"]:], lambda: lab.log("disk2")[at["disk2"]:])
    problems = lab.nasctl("status")["problems"]
    test.check("... the status says what to do", any("revoked" in text and "remove it" in text for text in problems), problems)
    for host in ("switch", "disk1", "disk2"):
        at[host] = len(lab.log(host))
        lab.kill(host)
    lab.start("switch")
    for host in ("disk1", "disk2"):
        daemon.spawn(lab.plan, host)
    test.within(20, "all are restarted", is_up(lab, DISK1), lambda: lab.nasctl("node", "list"))
    for host in ("switch", "disk1"):
        test.within(20, f"{host} refuses it still", lambda host=host: re.search("refused: certificate .* revoked", lab.log(host)[at[host]:]),
                    lambda host=host: lab.log(host)[at[host]:])
    test.check("... it has no way to a new one", rows(lab, DISK2)[0]["state"] == "revoked" and not is_up(lab, DISK2)(), rows(lab, DISK2))


def comes_back(test, lab):
    """As vnasd(8) says."""
    lab.kill("disk2")
    lab.nasctl("node", "remove", str(DISK2))
    shutil.rmtree(os.path.join(lab.hosts["disk2"]["state_dir"], "pki"))
    token = lab.nasctl("cluster", "token")["token"]
    daemon.spawn(lab.plan, "disk2", join=f"{token}@{lab.hosts['switch']['address']}")
    test.within(20, "it joins as a new node, and all is well", lambda: lab.nasctl("status")["health"] == "good" and
                any(row["name"] == "disk2" and row["id"] > DISK2 for row in lab.nasctl("node", "list")), lambda: lab.nasctl("status"))


def refuses_nonsense(test, lab):
    for arguments, text in ((("revoke", "1"), "the master itself"), (("revoke", "0" * 32), "no certificate has the serial number"),
                            (("renew", "disk9"), "there is no node"), (("revoke", serial(lab, SWITCH)), "the master's own certificate")):
        said = refusal(lab, *arguments)
        test.check(f"certificate {arguments[0]}: what makes no sense is said so", text in said, said)


def run(test):
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    test.say(f"SEED={seed}")
    lab = test.lab("--slaves", "2", "--clients", "1", environment={"VNASD_WRAPPER": WRAPPER})
    clocks = {host: Clock(test, lab, host) for host in NODES.values()}
    for clock in clocks.values():
        clock.keep(True)
    lives = Lives(lab)
    load = test.load(lab, "--seconds", "0", "/disk0")
    listed(test, lab)
    ordered(test, lab)
    renewed_in_time(test, lab, lives, load)
    former_one_taken_back(test, lab)
    clock_jumps(test, lab, clocks, load)
    test.check_load(load)
    killed_while_renewing(test, lab, seed)
    expired(test, lab, clocks)
    refuses_nonsense(test, lab)
    taken_back(test, lab)
    comes_back(test, lab)


def also_missing():
    return None if os.access(LIBRARY, os.R_OK) else f"{LIBRARY} (make clients)"


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, also_missing))
