#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_kill_master.py - the master's daemon dies under a session that was handed off

If this fails, every user of the cluster is thrown out when the daemon of the switch crashes or is updated, or the
administrator loses sight and control of the sessions that lived through it.
"""

import sys
import time

import harness
from handoff_storm import MUST_NOT_MOVE, counters, growth, no_loss_probes

DISK1, DISK2 = 2, 3


def operations(lab):
    return lab.counter("disk1", "nfs3", "")


def there_and_back(test, lab, load, tries=20):
    """
    To disk2 and back by command. The placement policy takes the session back, too, to where its work is, and may be
    faster: then the answer is that nothing was to be done (0 us), and this is tried again.
    """
    before = lab.session(load.address, load.port)
    for _ in range(tries):
        took_us = [lab.nasctl("handoff", before["id"], str(node))["duration_us"] for node in (DISK2, DISK1)]
        if all(took_us):
            break
    test.check(f"handed off to disk2 and back by command ({took_us[0]} us, {took_us[1]} us)", all(took_us), took_us)
    test.within(10, "the session's count of handoffs has grown",
                lambda: lab.session(load.address, load.port)["handoffs"] >= before["handoffs"] + 2)


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    no_loss_probes(lab.hosts["client1"])
    load = test.load(lab, "--seconds", "0", "/disk0")
    test.within(10, "the session follows its work to disk1",
                lambda: (lab.session(load.address, load.port) or {}).get("node") == DISK1)
    session = lab.session(load.address, load.port)
    before = counters(lab.hosts["client1"]["netns"])

    test.say("kill -9 of the master's vnasd")
    lab.kill("switch")
    for second in range(3):
        start = operations(lab)
        time.sleep(1)
        done = operations(lab) - start
        test.check(f"second {second + 1} without a master: work goes on ({done} operations)", done > 0)
    test.check("the load still runs", load.is_running(), load.end() if not load.is_running() else "")
    status = lab.nasctl("status", host="disk1")
    test.check("disk1 says that its master is away", status["master"].startswith("away"), status)

    test.say("the master starts again")
    lab.start("switch")
    test.within(8, "the session list knows the session and its node",
                lambda: (lab.session(load.address, load.port) or {}).get("node") == DISK1,
                lambda: lab.nasctl("session", "list"))
    again = lab.session(load.address, load.port)
    test.check("it is the same session", again and again["id"] == session["id"], (session, again))
    test.within(8, "the cluster's health is good", lambda: lab.nasctl("status")["health"] == "good",
                lambda: lab.nasctl("status"))
    failed = lab.counter("disk1", "handoffs", "failed")
    there_and_back(test, lab, load)
    test.within(10, "the session is with its work again",
                lambda: lab.session(load.address, load.port)["node"] == DISK1)
    test.check("no handoff failed", lab.counter("disk1", "handoffs", "failed") == failed and
               lab.counter("disk1", "handoffs", "reset") == 0)
    said = test.check_load(load)
    test.say(f"{said.get('operations')} operations, longest pause {said.get('max_gap_us', 0) / 1000:.0f} ms")
    moved = growth(before, counters(lab.hosts["client1"]["netns"]), MUST_NOT_MOVE)
    test.check("the client saw no retransmission and no reset", not moved, moved)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
