#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_switch_gives_and_dies.py - the switch's daemon is killed between the Acknowledgment of a session and its commit

If this fails, a user whose session the switch had just handed to a disk node when its daemon died is reset, though the disk node has all
of it; or he waits until his own machine gives up.

A gate in the switch's kernel lets Open, Open Response and Handoff pass between the switch and disk1, and not the Acknowledgment: so disk1
has a live socket, and the switch's is frozen. Then the daemon dies, the client makes a call, and the daemon starts again. The client
must get its answer, of disk1. Once more with a disk1 that dies, too: then the client must be reset. Inline and one-arm.
"""

import sys
import threading
import time

import bpf_maps
import harness
import test_handoff_deaths as deaths

TIMES = 3
TRIES_MAX = 12   # a report may pass the gate instead of a message of the handoff
SWITCH, DISK, NODE_DISK = deaths.SWITCH, deaths.A, deaths.NODE_A


class Case(deaths.Case):
    def is_live_at_disk(self):
        return "ESTAB" in self.states(DISK)

    def stop_before_acknowledgment(self):
        """Return: the gate, and whether disk1 has the session now."""
        gate = deaths.Gate(self.lab, SWITCH, DISK, deaths.HANDED)
        self.order(SWITCH, NODE_DISK)
        time.sleep(deaths.STOPS_S)
        return gate, self.is_live_at_disk()

    def ask_meanwhile(self):
        """The client's call goes out while nobody is there. Return: how to wait for what becomes of it"""
        outcome = []
        thread = threading.Thread(target=lambda: outcome.append(self.outcome()), daemon=True)
        thread.start()
        time.sleep(deaths.STOPS_S)

        def wait():
            thread.join(deaths.OUTCOME_S + 5)
            return outcome[0] if outcome else "nothing"
        return wait


def healthy(test, lab):
    test.need("... the cluster's health is good", harness.wait_until(
        lambda: lab.nasctl("status")["health"] == "good", 60, 0.2) is not None, lambda: lab.nasctl("status"))


def one_death(test, lab, dies):
    """Return: whether the session was live at disk1 when the switch's daemon died"""
    case = Case(test, lab)
    test.need("the session is with the switch", harness.wait_until(lambda: case.is_at("1"), 20) is not None, case.session())
    gate, is_live = case.stop_before_acknowledgment()
    for host in dies:
        lab.kill(host)
    wait = case.ask_meanwhile()
    gate.open()
    for host in dies:
        lab.start(host)
    outcome = wait()
    if not is_live:
        test.say(f"the handoff was stopped before disk1 had it: {outcome}")
        test.check("... which resets it", outcome in ("reset", "answered"), outcome)
    elif DISK in dies:
        test.check("disk1 dies, too: reset", outcome == "reset", outcome)
    else:
        test.check("the client is answered", outcome == "answered", outcome)
        test.check("... by disk1", harness.wait_until(lambda: case.is_at(NODE_DISK), 10) is not None, case.session())
        test.check("... again and again", [case.outcome() for i in range(3)] == ["answered"] * 3)
    case.client.close()
    healthy(test, lab)
    return is_live


def many_deaths(test, lab, times, dies):
    seen = 0
    for i in range(TRIES_MAX):
        if seen == times:
            break
        seen += one_death(test, lab, dies)
    test.check(f"{', '.join(dies)}: it died at that very step {times} times", seen == times, seen)


def held(lab):
    return [(host, flow) for host in (SWITCH, DISK) for flow in bpf_maps.held(lab.hosts[host])]


def run(test):
    for topology in ("inline", "one-arm"):
        lab = test.lab("--slaves", "1", "--clients", "1", "--topology", topology)
        test.say(topology)
        many_deaths(test, lab, TIMES, (SWITCH,))
        many_deaths(test, lab, 1, (SWITCH, DISK))
        test.within(10, "nothing is held any more", lambda: not held(lab), lambda: held(lab))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
