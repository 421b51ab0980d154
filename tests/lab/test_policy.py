#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_policy.py - when a session moves, and why

If this fails, sessions do not follow their data as the administrator has set it, or nobody can tell why they don't.
"""

import os
import re
import sys

import daemon
import harness

SWITCH, DISK1, DISK2 = 1, 2, 3


def configure(test, lab, host="switch", **options):
    """Restart it with these in its [placement]."""
    path = os.path.join(os.path.dirname(lab.hosts[host]["log"]), "etc", "vnasd.conf")
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"\n\[placement\]\n(\w+ = .*\n)*", "", file.read())
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n[placement]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))
    lab.stop(host)
    lab.start(host)
    test.within(20, "the disks are back", lambda: all(lab.node(number)["state"] == "up" for number in (DISK1, DISK2)))


def session_of(lab, load):
    """Devices report theirs each second; one on the move may be in nobody's report."""
    harness.wait_until(lambda: lab.session(load.address, load.port), 5)
    return lab.session(load.address, load.port)["id"]


def why(lab, session, host="switch"):
    """While a session moves, the switch may ask who just gave it away: {} then."""
    try:
        return lab.nasctl("why", session, host=host)
    except daemon.DaemonError:
        return {}


def figures(answer):
    return {row["criterion"]: row for row in answer["findings"]}


def by_default(test, lab):
    load = test.load(lab, "--seconds", "0", "/disk0")
    session = session_of(lab, load)
    test.within(10, "a session that works on disk1's data only moves there",
                lambda: why(lab, session).get("node") == DISK1)
    answer = why(lab, session)
    test.check("... and stays", answer.get("decision") == "stays" and answer["candidate"] == 0, answer)
    test.check("... disk1 says the same", why(lab, session, "disk1").get("decision") == "stays")
    test.check("... disk2 does not know it, and says who does", "ask the switch" in
               lab.refused("why", session, host="disk2"))
    test.check_load(load)
    test.check("a session that is none is refused in words", "no session" in lab.refused("why", "1-ffff"))


def by_setting(test, lab):
    configure(test, lab, bytes=0, elsewhere=0)
    test.check("the policy is shown", {row["option"]: row["setting"] for row in lab.nasctl("policy")}["bytes"] == "off")
    load = test.load(lab, "--seconds", "3", "/disk0", "/disk1")
    session = session_of(lab, load)
    test.within(10, "with no sum set a session has a candidate",
                lambda: why(lab, session).get("candidate") in (DISK1, DISK2))
    answer = why(lab, session)
    test.check("... and stays all the same", answer.get("decision") == "stays" and answer["node"] == SWITCH, answer)
    test.check("... the criteria are off", figures(answer)["bytes of that device's data"]["verdict"] == "off", answer)
    load.process.wait()
    test.check_load(load)

    configure(test, lab, bytes=0, elsewhere="256K", ratio=0)
    load = test.load(lab, "--seconds", "0", "/disk0", "/disk1")
    session = session_of(lab, load)
    test.within(10, "by the sum of all others' data it moves to one of them",
                lambda: lab.nasctl("session", "show", session)["handoffs"] > 0)
    test.check_load(load)


def prepared_and_by_halves(test, lab):
    """Counters are those of the switch since its restart."""
    def given(**options):
        configure(test, lab, **options)
        load = test.load(lab, "--seconds", "0", "--block", "1048576", "/disk0")
        test.within(10, f"with {options} the session moves to its data",
                    lambda: lab.counter("switch", "handoffs", "given") > 0)
        test.check_load(load)
        return {name: lab.counter("switch", "handoffs", name) for name in ("predicted", "halves")}

    never = given(prepare=0)
    test.check("... to a device that was not prepared, and all at once", not any(never.values()), never)
    always = given(bytes="16M", prepare=1, halve=1)
    test.check("... to one that was prepared", always["predicted"] > 0, always)
    test.check("... by halves, if the client has something still to acknowledge", always["halves"] > 0, always)


def write_options(lab, section, **options):
    """Replace a section of the switch's configuration."""
    path = lab.hosts["switch"]["config"]
    with open(path, encoding="utf-8") as file:
        text = re.sub(rf"\n\[{section}\]\n(\w+ = .*\n)*", "", file.read())
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + f"\n[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))


def without_restart(test, lab):
    """A session that stays by the policy of one moment goes by that of the next, in the same daemon."""
    configure(test, lab, bytes=0, elsewhere=0)
    load = test.load(lab, "--seconds", "0", "/disk0")
    session = session_of(lab, load)
    pid = lab.pid("switch")
    test.within(10, "a session stays", lambda: why(lab, session).get("decision") == "stays")
    write_options(lab, "placement", bytes="nonsense")
    test.check("a wrong file is refused, with its line", ".conf:" in lab.refused("reload"), lab.refused("reload"))
    write_options(lab, "placement", bytes="256K")
    write_options(lab, "fabric", flows=2048)
    answer = lab.nasctl("reload")
    test.check("what has changed is told, and what has not", (answer["changed"], answer["after_restart"]) ==
               (["[placement] bytes"], ["[fabric] flows"]), answer)
    test.check("... once", not lab.nasctl("reload")["changed"])
    test.check("the policy is another", {row["option"]: row["setting"] for row in lab.nasctl("policy")}["bytes"] != "off")
    test.within(10, "the session goes to its data", lambda: why(lab, session).get("node") == DISK1)
    test.check("... in the same daemon", lab.pid("switch") == pid)
    test.check_load(load)
    write_options(lab, "fabric")


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    without_restart(test, lab)
    by_default(test, lab)
    by_setting(test, lab)
    prepared_and_by_halves(test, lab)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
