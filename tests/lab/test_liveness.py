#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_liveness.py - a disk that falls silent, and one that comes and goes

If this fails, clients are sent to a disk that has just gone, or follow one that restarts all the time around with each
restart; or the administrator does not learn what state a node is in, since when and why.

tests/unit/test_member_state.c has the rules one by one.
"""

import os
import re
import signal
import sys
import time

import daemon
import harness
import raw_nfs

SWITCH, DISK1, DISK2 = 1, 2, 3
FLAPS, HOLD_MS = 3, 6000
LIMITS = f"[membership]\nflaps = {FLAPS}\nhold = {HOLD_MS}\n"
CONTENT = b"alive" * 1000


def changes(lab, node=DISK1, host="switch"):
    """The log's lines of that node's states: [(state, reason)...]"""
    return re.findall(rf"node={node} name=\S+ is (up|suspect|down|held down)(?:, was .* for \d+ ms)?: (.*)", lab.log(host))


def restart_switch(lab):
    lab.stop("switch")
    with open(lab.hosts["switch"]["config"], "a", encoding="ascii") as config:
        config.write(LIMITS)
    lab.start("switch")


def is_in(lab, state, node=DISK1):
    return lambda: lab.node(node)["state"] == state


def refusal(lab, session):
    try:
        return str(lab.nasctl("handoff", session, str(DISK1)))
    except daemon.DaemonError as error:
        return str(error)


def load(test, lab):
    test.within(10, "the list knows how busy a disk node is", lambda: isinstance(lab.node(DISK1)["cpu_permille"], int) and
                0 <= lab.node(DISK1)["cpu_permille"] <= 1000, lambda: lab.node(DISK1))
    test.check("... and the switch", isinstance(lab.node(SWITCH)["cpu_permille"], int), lab.node(SWITCH))
    row = lab.node(DISK1)
    room = os.statvfs(lab.hosts["disk1"]["storage"])
    test.within(10, "... how much room there is", lambda: lab.node(DISK1)["size_bytes"] == room.f_blocks * room.f_frsize and
                lab.node(DISK1)["free_bytes"] <= row["size_bytes"], lambda: lab.node(DISK1))
    test.check("... and no temperature that nobody has measured", row["temperature_millicelsius"] != 0, row)
    volume = lab.nasctl("node", "show", str(DISK1))["volumes"][0]
    test.check("... of each volume, too", volume["size_bytes"] == room.f_blocks * room.f_frsize, volume)


def silence(test, lab, client):
    host = lab.hosts["disk1"]
    before = len(changes(lab))
    session = lab.session(*client.local)["id"]
    daemon.send_signal(host, signal.SIGSTOP)
    test.at_end(lambda: daemon.send_signal(host, signal.SIGCONT))
    test.within(10, "a disk that stands still is suspect", is_in(lab, "suspect"), lambda: lab.node(DISK1))
    node = lab.node(DISK1)
    test.check("... it gets no new connections", not node["first_device"], node)
    test.within(10, "... disk2 says the same", lambda: changes(lab, host="disk2")[-1][0] == "suspect",
                lambda: changes(lab, host="disk2"))
    test.check("... and it gets no session", "that device is away" in refusal(lab, session), refusal(lab, session))
    test.check("... the list says why and since when", node["reason"].startswith("silent for") and
               0 <= time.time_ns() - node["since_ns"] < 5e9, node)
    test.within(10, "it is down", is_in(lab, "down"), lambda: lab.node(DISK1))
    test.within(10, "the status says so, and why", lambda: any("disk1" in text and "silent for" in text for text in
                                                              lab.nasctl("status")["problems"]), lambda: lab.nasctl("status"))
    test.within(10, "disk2 says the same", lambda: changes(lab, host="disk2")[-1][0] == "down",
                lambda: changes(lab, host="disk2"))
    daemon.send_signal(host, signal.SIGCONT)
    test.within(10, "it goes on and is up", is_in(lab, "up"), lambda: lab.node(DISK1))
    said = [state for state, _ in changes(lab)[before:]]
    test.check("each change is one line of the log", said == ["suspect", "down", "up"], changes(lab)[before:])
    test.within(10, "disk2 has seen the same", lambda: [state for state, _ in changes(lab, host="disk2")][-3:] == said,
                lambda: changes(lab, host="disk2"))


def read_again(client):
    """False: its answer is to be asked for later, for the devices are still finding each other"""
    try:
        return client.read(client.walk(client.mount("/disk0"), "alive"), 0, len(CONTENT)) == CONTENT
    except raw_nfs.Status as error:
        if error.status != raw_nfs.JUKEBOX:
            raise
        return False


def flapping(test, lab, client):
    file = client.create(client.mount("/disk0"), "alive")
    client.write(file, 0, CONTENT)
    restart_switch(lab)
    test.within(10, "the disks are back", lambda: is_in(lab, "up")() and is_in(lab, "up", DISK2)())
    before = len(changes(lab))
    for i in range(FLAPS):
        lab.kill("disk1")
        test.within(10, f"killed {i + 1} times, it is down", is_in(lab, "down"), lambda: lab.node(DISK1))
        lab.start("disk1")
        state = "up" if i + 1 < FLAPS else "held down"
        test.within(10, f"... and when it is there again {state}", is_in(lab, state), lambda: lab.node(DISK1))
    node = lab.node(DISK1)
    test.check("... which the list explains", f"it went {FLAPS} times within" in node["reason"], node)
    test.check("held down, it gets no new connections", not node["first_device"], node)
    with lab.client() as other:
        test.within(10, "... but its files are there", lambda: read_again(other))
        test.within(10, "... by relay", lambda: (lab.session(*other.local) or {}).get("node") in (SWITCH, DISK2),
                    lambda: lab.session(*other.local))
    test.within(HOLD_MS / 1000 + 5, "after the hold it is up", is_in(lab, "up"), lambda: lab.node(DISK1))
    test.check("... and gets new connections", lab.node(DISK1)["first_device"], lab.node(DISK1))
    said = [state for state, _ in changes(lab)[before:]]
    test.check("each change is one line of the log", said == ["down", "up"] * (FLAPS - 1) + ["down", "held down", "up"], said)


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1", "--first-device", "round-robin")
    test.within(10, "both disks get new connections", lambda: lab.node(DISK1)["first_device"] and
                lab.node(DISK2)["first_device"], lambda: lab.nasctl("node", "list"))
    clients = [lab.client() for _ in range(2)]
    for client in clients:
        client.mount("/")
    test.within(10, "each disk has a session", lambda: all(lab.session(*client.local) for client in clients))
    mine = next(client for client in clients if lab.session(*client.local)["node"] == DISK2)
    load(test, lab)
    silence(test, lab, mine)
    with lab.client() as client:
        flapping(test, lab, client)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
