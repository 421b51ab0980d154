#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_capture.py - what a client's network card saw of a connection that was handed off a thousand times, in all kinds

If this fails, clients could tell that there is more than one machine: tests/lab/tcp_rules.py has the rules. Looks at
every packet at the client and at the devices, so it doesn't depend on what a kernel counts or forgives.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time

import harness
import tcp_rules
from handoff_storm import no_loss_probes

HANDOFFS = 1000
KINDS = ["full", "to-devices", "to-client"]
PREPARED_EVERY = 5
AGAIN_MAX = HANDOFFS // 50    # what was overtaken: the rules above tell that nothing was lost
NODES = {"1": "switch", "2": "disk1", "3": "disk2"}
PAUSE_S = 0.005
SETTLE_S = 0.5
HEADERS = "192"    # bytes of a frame that hold them all
BUFFER_KIB = "131072"


class Capture:
    """tcpdump on a host's first interface."""

    def __init__(self, test, lab, host, directory, expression, frame_bytes):
        self.host = host
        self.path = os.path.join(directory, host + ".pcap")
        self.tcpdump = subprocess.Popen(
            harness.network.enter(lab.hosts[host]["netns"]) +
            ["tcpdump", "-i", "eth0", "--immediate-mode", "--nano", "-B", BUFFER_KIB, "-s", frame_bytes, "-Z", "root",
             "-w", self.path, *expression.split()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        test.at_end(self.kill)
        test.need(f"the capture at {host} starts", any("listening" in line for line in self.tcpdump.stderr))

    def kill(self):
        self.tcpdump.kill()
        self.tcpdump.wait()

    def end(self, test):
        self.tcpdump.terminate()
        said = self.tcpdump.communicate()[1]
        test.check(f"the capture at {self.host} is complete", "\n0 packets dropped by kernel" in said, said)


def chain(lab, load):
    """From node to node, round and round, in all kinds. How many handoffs were done."""
    harness.wait_until(lambda: lab.session(load.address, load.port), 5)
    session = str(lab.session(load.address, load.port)["id"])
    done, nodes, kinds = 0, itertools.cycle(NODES), itertools.cycle(KINDS + KINDS[::-1])
    while done < HANDOFFS and load.is_running():
        node = next(nodes)
        try:
            if done % PREPARED_EVERY == 0:
                harness.daemon.ask(lab.plan, "switch", "handoff", session, node, "--kind", "prepare")
            done += harness.daemon.ask(lab.plan, "switch", "handoff", session, node, "--kind",
                                       next(kinds))["duration_us"] > 0
        except harness.daemon.DaemonError:
            pass    # it is moving by itself
        time.sleep(PAUSE_S)
    return done


def examine(test, port, captures):
    paths = [capture.path for capture in captures]
    connections = [connection for connection in tcp_rules.examine(paths[0], paths[1:]) if connection.client[1] == port]
    test.need("the capture holds one connection", len(connections) == 1, len(connections))
    connection = connections[0]
    test.say(str(connection))
    for rule, sentence in tcp_rules.RULES.items():
        cases = connection.broken.get(rule, [])
        test.check(sentence, not cases, f"{len(cases)} times, the first: {cases[:1]}")
    test.check("it carried READs and WRITEs",
               min(len(connection.from_client.bytes), len(connection.from_server.bytes)) > HANDOFFS * 8192)
    again = connection.from_client.said_again
    test.check("the client said hardly anything again", again <= AGAIN_MAX, again)


def storm(test, topology):
    lab = test.lab("--slaves", "2", "--clients", "1", "--topology", topology)
    client = lab.hosts["client1"]
    no_loss_probes(client)
    directory = tempfile.TemporaryDirectory()
    test.at_end(directory.cleanup)
    captures = [Capture(test, lab, "client1", directory.name, "tcp port 2049", "0")]
    captures += [Capture(test, lab, host, directory.name, f"tcp dst port 2049 and src {client['address']}", HEADERS)
                 for host in NODES.values()]
    load = test.load(lab, "--seconds", "0", "--block", "8192", "--depth", "4", "--phase", "0", "/disk0", "/disk1")
    test.check(f"{HANDOFFS} handoffs were done", chain(lab, load) == HANDOFFS)
    test.check_load(load)
    time.sleep(SETTLE_S)
    for capture in captures:
        capture.end(test)
    examine(test, load.port, captures)


def run(test):
    for topology in "inline", "one-arm":
        test.say(topology)
        storm(test, topology)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
