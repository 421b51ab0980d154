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


def configure(test, lab, **options):
    """Restart the switch with these in its [placement]."""
    path = os.path.join(os.path.dirname(lab.hosts["switch"]["log"]), "etc", "vnasd.conf")
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"\n\[placement\]\n(\w+ = .*\n)*", "", file.read())
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n[placement]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))
    lab.stop("switch")
    lab.start("switch")
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


def refused(lab, *words, host="switch"):
    try:
        lab.nasctl(*words, host=host)
    except daemon.DaemonError as error:
        return str(error)
    return ""


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
               refused(lab, "why", session, host="disk2"))
    test.check_load(load)
    test.check("a session that is none is refused in words", "no session" in refused(lab, "why", "1-ffff"))


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


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    by_default(test, lab)
    by_setting(test, lab)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
