#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_drain.py - a disk node is emptied of sessions before it is switched off

If this fails, an administrator who drains a node and switches it off cuts clients' connections, or sessions wander back to
the node while he is at it.

Loads read and write files of disk1 and disk2, which takes their sessions there; with 20 idle sessions at disk1. Then disk1 is drained.
"""

import sys

import daemon
import harness

IDLE = 20


def with_node(lab, number):
    return [row["id"] for row in lab.nasctl("session", "list") if row["node"] == number]


def state(lab, number):
    return lab.node(number)["state"]


def run(test):
    lab = test.lab("--slaves", "3", "--clients", "2")
    disk1 = next(row["id"] for row in lab.nasctl("node", "list") if row["name"] == "disk1")
    place = next(row["place"] for row in lab.nasctl("volume", "list") if row["node"] == disk1)
    loads = [test.load(lab, "--seconds", "0", place, host=host) for host in ("client1", "client2")]
    idle = [lab.client() for _ in range(IDLE)]
    for client in idle:
        test.at_end(client.close)
        client.mount("/")
        client.null()
    test.within(10, "the loads' sessions are with disk1", lambda: len(with_node(lab, disk1)) >= 2, lambda: lab.nasctl(
        "session", "list"))
    for row in lab.nasctl("session", "list"):
        if row["node"] != disk1:
            try:
                lab.nasctl("handoff", row["id"], "disk1")
            except daemon.DaemonError as error:
                test.say(str(error))
    test.within(10, "idle sessions, too", lambda: len(with_node(lab, disk1)) >= IDLE, lambda: lab.nasctl("session", "list"))

    said = lab.nasctl("node", "drain", "disk1")
    test.check("drained, it is said so", "can be switched off" in said["done"], said)
    test.check("... and true", not with_node(lab, disk1), lab.nasctl("session", "list"))
    test.check("... and shown", state(lab, disk1) == "drained", lab.node(disk1))
    # Each says each second what it has.
    nodes = lambda: {row["node"] for row in lab.nasctl("session", "list")}
    test.within(10, "sessions were spread over the others", lambda: len(nodes()) > 1, nodes)
    try:
        lab.nasctl("handoff", lab.nasctl("session", "list")[0]["id"], "disk1")
        refused = ""
    except daemon.DaemonError as error:
        refused = str(error)
    test.check("nothing is handed to it", refused)
    before = [load.is_running() for load in loads]
    # The loads' data is all there: their sessions would be back by now.
    harness.wait_until(lambda: with_node(lab, disk1), 3)
    test.check("no session comes back, although its data is used", not with_node(lab, disk1) and all(before),
               lab.nasctl("session", "list"))
    lab.kill("switch")
    lab.start("switch")
    test.within(15, "after a restart of the master it is still drained", lambda: state(lab, disk1) == "drained",
                lambda: lab.node(disk1))

    lab.nasctl("node", "undrain", "disk1")
    test.within(15, "undrained, sessions come back to their data", lambda: len(with_node(lab, disk1)) >= 2,
                lambda: lab.nasctl("session", "list"))
    for load in loads:
        said, wrong = load.end()
        test.check("a load ran without an error", not wrong and said.get("errors") == 0, wrong or said)
    for words, pattern in ((("node", "drain", "1"), "switch"), (("node", "drain", "nobody"), "no node")):
        try:
            lab.nasctl(*words)
            said = ""
        except daemon.DaemonError as error:
            said = str(error)
        test.check(f"refused: {said}", pattern in said)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
