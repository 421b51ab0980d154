#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_balance.py - work is spread over the disk nodes: new connections, and sessions that have to go

If this fails, one disk node has all the clients while others have none, or who empties a node for repair cuts its clients.

tests/unit/test_balance.c has the rules by themselves; how long a drain takes is measured by make bench.
"""

import sys
import time

import harness
import mixed_sessions

SWITCH, DISK1, DISK2 = 1, 2, 3
CONNECTIONS = 200
BEFORE = 150    # that disk1 has when the 200 come
ROUND, ROUNDS, BEAT_S = 20, 8, 1.1    # a device's load is told each second
SLACK = 5    # a SYN that comes again, seconds later on a busy machine, is another turn
PATIENCE_S = 30
LOADS, SMALL = 6, 44


def takes_new(lab):
    return [row["id"] for row in lab.nasctl("node", "list") if row["first_device"]]


def spread(lab):
    """How many sessions each node has."""
    nodes = [row["node"] for row in lab.nasctl("session", "list")]
    return {node: nodes.count(node) for node in set(nodes)}


def connect(test, lab, count, host="client1"):
    """So many connections, in use; how many more sessions each node has then."""
    before, clients = spread(lab), []
    test.at_end(lambda: [client.close() for client in clients])
    for _ in range(count):
        clients.append(lab.client(host))
        clients[-1].null()
    test.within(PATIENCE_S, f"{count} more sessions are known", lambda: sum(spread(lab).values()) >= sum(before.values()) + count,
                lambda: spread(lab))
    return {node: sessions - before.get(node, 0) for node, sessions in spread(lab).items()}


def disks(test, policy, expected=(DISK1, DISK2)):
    lab = test.lab("--slaves", "2", "--clients", "2", "--first-device", policy)
    test.within(PATIENCE_S, f"{policy}: the nodes get new connections", lambda: takes_new(lab) == list(expected),
                lambda: takes_new(lab))
    return lab


def near(got, node, wanted):
    return abs(got.get(node, 0) - wanted) <= SLACK


def given(lab):
    """New connections that the disks were given, by the fabric's own count."""
    return [lab.node(disk)["connections_given"] for disk in (DISK1, DISK2)]


def check_weight(test):
    lab = disks(test, "weight")
    lab.nasctl("node", "weight", "disk2", "300")
    lab.kill("switch")
    lab.start("switch")
    test.within(PATIENCE_S, "the switch was restarted", lambda: takes_new(lab) == [DISK1, DISK2])
    test.check("... and knows the weights", [lab.node(disk)["weight"] for disk in (DISK1, DISK2)] == [100, 300])
    got = connect(test, lab, CONNECTIONS)
    test.check("connections are given 1 to 3", near(got, DISK1, CONNECTIONS // 4) and near(got, DISK2, CONNECTIONS * 3 // 4), got)
    before = given(lab)
    test.check("... and counted", sum(before) >= CONNECTIONS and abs(before[0] - CONNECTIONS // 4) <= SLACK, before)
    lab.nasctl("node", "drain", "disk2")
    connect(test, lab, 20)
    test.check("one that is drained gets none", given(lab)[0] >= before[0] + 20 and given(lab)[1] == before[1], given(lab))
    lab.down()


def check_one_that_has_less(test, lab):
    """It gets most, unless it is reported to be the busier one just then: all of a lab's nodes are on one machine."""
    rounds = []
    for _ in range(ROUNDS):
        rounds.append(connect(test, lab, ROUND).get(DISK2, 0))
        if rounds[-1] >= ROUND * 3 // 4:
            break
        time.sleep(BEAT_S)
    test.check(f"the one that has less gets most of {ROUND}", rounds[-1] >= ROUND * 3 // 4, rounds)


def check_least_load(test):
    lab = disks(test, "least-load")
    lab.nasctl("node", "drain", "disk2")
    got = connect(test, lab, BEFORE)
    test.check(f"disk1 alone gets {BEFORE} connections", got == {DISK1: BEFORE}, got)
    lab.nasctl("node", "undrain", "disk2")
    test.within(PATIENCE_S, "disk2 is there again", lambda: takes_new(lab) == [DISK1, DISK2])
    check_one_that_has_less(test, lab)
    lab.down()


def check_last(test):
    lab = disks(test, "client", (SWITCH, DISK1, DISK2))
    client = lab.client()
    test.at_end(client.close)
    client.null()
    test.within(PATIENCE_S, "its session is known", lambda: lab.session(*client.local))
    lab.nasctl("handoff", lab.session(*client.local)["id"], "disk2")
    got = connect(test, lab, CONNECTIONS)
    test.check("a client's connections go where its work was last", near(got, DISK2, CONNECTIONS), got)
    lab.kill("switch")
    lab.start("switch")
    test.within(PATIENCE_S, "the switch was restarted", lambda: takes_new(lab) == [SWITCH, DISK1, DISK2])
    test.within(PATIENCE_S, "... and knows the sessions", lambda: spread(lab).get(DISK2, 0) >= CONNECTIONS, lambda: spread(lab))
    got = connect(test, lab, 20)
    test.check("... and where they go", got.get(DISK2, 0) >= 20, got)
    got = connect(test, lab, 20, "client2")
    test.check("those of a client that nobody knows go to the switch", got.get(SWITCH, 0) >= 20, got)
    lab.down()


def with_node(lab, number):
    return [row["id"] for row in lab.nasctl("session", "list") if row["node"] == number]


def check_drain(test):
    lab = test.lab("--slaves", "3", "--clients", "2", "--first-device", "round-robin")
    test.within(PATIENCE_S, "the nodes get new connections", lambda: len(takes_new(lab)) == 3, lambda: takes_new(lab))
    places = [row["place"] for row in lab.nasctl("volume", "list")]
    loads = [test.load(lab, "--seconds", "0", "--depth", "2", "--size", "262144", "--seed", str(number), *places[number % 3:],
                       host=f"client{number % 2 + 1}") for number in range(LOADS)]
    sessions = mixed_sessions.MixedSessions(lab, SMALL, places)
    test.at_end(sessions.close)
    test.within(PATIENCE_S, f"{LOADS + SMALL} sessions are on three nodes", lambda: sum(spread(lab).values()) >= LOADS + SMALL and
                len([node for node, count in spread(lab).items() if count > 5]) >= 3, lambda: spread(lab))
    test.say(f"sessions: {spread(lab)}")
    said = lab.nasctl("node", "drain", "disk1")
    test.check("the node is drained", "can be switched off" in said["done"], said)
    test.check("... has no session", not with_node(lab, DISK1), spread(lab))
    calls = sessions.calls
    test.within(PATIENCE_S, "clients go on", lambda: sessions.calls > calls + SMALL)
    test.check("... on the other nodes", not with_node(lab, DISK1), spread(lab))
    lab.nasctl("node", "undrain", "disk1")
    test.within(PATIENCE_S, "undrained, sessions come back to their data", lambda: with_node(lab, DISK1), lambda: spread(lab))
    sessions.close()
    test.check("no client saw an error", not sessions.errors, sessions.errors[:3])
    for load in loads:
        said, wrong = load.end()
        test.check("a load ran without an error on one connection",
                   not wrong and said.get("errors") == 0 and said.get("connections") == 1, wrong or said)


def run(test):
    check_weight(test)
    check_least_load(test)
    check_last(test)
    check_drain(test)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
