#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_handoff_deaths.py - a handoff stops at each of its steps, and then somebody dies

If this fails, a user whose session moves at the wrong moment waits for minutes, until his own machine gives up, instead of
going on or being reset so that it connects again; or the devices keep what is left of such a session for ever.

Usage: tests/lab/test_handoff_deaths.py [--all] [--topology inline|one-arm]

disk1 (A) hands a session to disk2 (B). A gate in A's kernel lets a number of packets with data pass between them, both ways
counted together, and no more: so the handoff stops after Open, Open Response, Handoff, Acknowledgment or Done. Then
something dies, the client makes a call, and must get its answer or a reset while it is dead. Then all comes back.

Without --all some of the combinations.
"""

import argparse
import socket
import subprocess
import sys
import threading
import time

import bpf_maps
import daemon
import harness
import network
import raw_nfs

SWITCH, A, B = "switch", "disk1", "disk2"
NODE_A, NODE_B = "2", "3"
STEPS = range(6)
HANDED = 3        # Open, Open Response, Handoff: B has what it needs to go on
GOES_ON = ("answered",)
ORDER_S = 15      # less than an order waits for a device that is there
SETTLE_S = 8      # HANDOFF_SETTLE_MS
NULL_REPLY_BYTES = 24
TCP_REPAIR = 19   # <linux/tcp.h>
STOPS_S = 0.1     # the handoff goes on until it needs a packet that does not come
SUSPECT = "that device is away"
CLOSES_S = 3      # the gate has kept a packet back, or the handoff needed no more than it let pass
OUTCOME_S = 20    # a silent device is missed after 6 s, its flows are taken back 3 s later; a client alone would take minutes
GONE_S = 200      # the switch's table is swept each 30 s; a kernel gives up a FIN that nobody acknowledges after 8 tries

BEAT_BYTES = 142  # an SCP heartbeat as an IP packet
GATE = """
table ip gate {{
	set dead {{
		type ipv4_addr
		flags dynamic
	}}
	chain link {{
		ip saddr @dead drop
		ip length < 80 accept
		ip length {beat} accept
		numgen inc mod 1000000 < {passes} accept
		add @dead {{ ip saddr }}
		add @dead {{ ip daddr }}
		drop
	}}
	chain from {{
		type filter hook input priority 0
		ip saddr {peer} jump link
	}}
	chain to {{
		type filter hook output priority 0
		ip daddr {peer} jump link
	}}
}}
"""


DEAF = """
table ip deaf {{
	chain in {{
		type filter hook input priority 0
		ip saddr {vip} drop
	}}
}}
"""


class Gate:
    """Between two hosts; open for as many packets with data, and what else comes until then. Then nothing passes."""

    def __init__(self, lab, host, peer, passes):
        self.netns = lab.hosts[host]["netns"]
        self._nft(GATE.format(passes=passes, beat=BEAT_BYTES, peer=lab.hosts[peer]["address"]))

    def _nft(self, text):
        subprocess.run(network.enter(self.netns) + ["nft", "-f", "-"], input=text, text=True, check=True)

    def has_closed(self):
        return "elements" in subprocess.run(network.enter(self.netns) + ["nft", "-n", "list", "set", "ip", "gate", "dead"],
                                            stdout=subprocess.PIPE, text=True, check=True).stdout

    def open(self):
        self._nft("delete table ip gate")


# What happens to whom, once the handoff has stopped. The link between A and B is dead already.
ENDS = {
    "nothing else": (),
    "A dies": (A,),    # after Handoff: B has the session, and the switch believes it
    "B dies": (B,),
    "both die": (A, B),
    "the switch's daemon dies": (SWITCH,),
}
SOME = [(step, end) for step in STEPS for end in ENDS if end in ("nothing else", "both die") or step in (2, 3)]


class Case:
    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.client = lab.client(timeout_s=OUTCOME_S)
        self.root = self.client.mount("/")
        self.order_ended = threading.Event()

    def is_connected(self, host, peer):
        """The daemon that runs now has both its channels to @peer."""
        life = self.lab.log(host).rpartition("main: vnas ")[2].splitlines()
        address = f" address={self.lab.hosts[peer]['address']} "
        last = {channel: [line for line in life if f" channel={channel}{address}" in line][-1:] for channel in ("control", "relay")}
        return all(lines and f"{address}up" in lines[0] for lines in last.values())

    def link_is_idle(self):
        """All that they say to begin with is said, and what an earlier gate kept back has gone."""
        return all(self.is_connected(host, peer) and all(
            line.split()[2] == "0" for line in self.lab.run(host, "ss", "-Htn", "dst", self.lab.hosts[peer]["address"]).splitlines())
            for host, peer in ((A, B), (B, A)))

    def session(self):
        return self.lab.session(*self.client.local)

    def is_at(self, node):
        return self.session() is not None and str(self.session()["node"]) == node

    def move_to_first(self):
        """Not at once when the disks have just found each other."""
        def is_there():
            try:
                self.lab.nasctl("handoff", self.session()["id"], NODE_A)
            except daemon.DaemonError:
                pass
            return self.is_at(NODE_A)
        self.test.need("the session is with A", harness.wait_until(is_there, 20, 0.2) is not None, self.session())

    def order(self, by=SWITCH, to=NODE_B):
        """Answered when the handoff has ended, one way or the other. It does not begin while a device still misses the other's beats."""
        session = self.session()["id"]

        def begins():
            try:
                daemon.ask(self.lab.plan, by, "handoff", session, to)
            except daemon.DaemonError as error:
                return SUSPECT not in str(error)
            except (OSError, ValueError):
                pass
            return True

        def run():
            harness.wait_until(begins, ORDER_S, 0.05)
            self.order_ended.set()
        threading.Thread(target=run, daemon=True).start()

    def outcome(self):
        """Of a call: "answered", "reset" or "nothing"."""
        try:
            self.client.getattr(self.root)
            return "answered"
        except raw_nfs.ConnectionLost:
            return "reset"
        except TimeoutError:
            return "nothing"

    def states(self, host):
        """Of the sockets at a device's NFS port."""
        return [line.split()[0] for line in self.lab.run(host, "ss", "-Htan", "sport", "=", ":2049").splitlines()]

    def start(self, host):
        self.lab.start(host)
        self.test.check(f"... {host} listens again", "LISTEN" in self.states(host), self.states(host))

    def run(self, step, end):
        self.move_to_first()
        self.test.need("... A and B have nothing to say", harness.wait_until(self.link_is_idle, 20, 0.01) is not None)
        gate = Gate(self.lab, A, B, step)
        self.order()
        harness.wait_until(lambda: gate.has_closed() or self.order_ended.is_set(), CLOSES_S, 0.01)
        time.sleep(STOPS_S)
        for host in ENDS[end]:
            self.lab.kill(host)
        started = time.monotonic()
        outcome = self.outcome()
        took_s = time.monotonic() - started
        self.test.check(f"{step} packets, then {end}: {outcome} after {took_s:.1f} s", outcome in (
            GOES_ON if end == "A dies" and step >= HANDED else GOES_ON + ("reset",)), outcome)
        gate.open()
        for host in ENDS[end]:
            self.start(host)
        if outcome == "answered":
            again = self.outcome()
            self.test.check("... and again when all is back" + (", or reset" if ENDS[end] else ""),
                            again == "answered" or (ENDS[end] and again == "reset"), again)
        self.client.close()
        self.test.check("... and the order was answered", self.order_ended.wait(ORDER_S))
        self.test.need("... the cluster's health is good", harness.wait_until(
            lambda: self.lab.nasctl("status")["health"] == "good", 60, 0.2) is not None, self.lab.nasctl("status"))


def make_deaf(lab):
    subprocess.run(network.enter(lab.hosts["client1"]["netns"]) + ["nft", "-f", "-"], input=DEAF.format(vip=lab.vip),
                   text=True, check=True)


def hear_again(lab):
    subprocess.run(network.enter(lab.hosts["client1"]["netns"]) + ["nft", "delete table ip deaf"], check=True)


def ghost(test, lab):
    """Nobody answers the kernel that closes the socket of a killed daemon. The next daemon listens beside it."""
    case = Case(test, lab)
    case.move_to_first()
    make_deaf(lab)
    lab.kill(A)
    test.within(10, "the kernel of a killed daemon still closes its socket", lambda: "FIN-WAIT-1" in case.states(A),
                lambda: case.states(A))
    case.start(A)
    test.check("... beside that socket", "FIN-WAIT-1" in case.states(A), case.states(A))
    hear_again(lab)
    case.client.close()


def deaf_client(test, lab):
    """
    One that takes no packet any more, so that what it was sent is never settled. It must not keep its session from moving for ever,
    or its administrator from emptying a device; and when it hears again it goes on.
    """
    case = Case(test, lab)
    case.move_to_first()
    make_deaf(lab)
    case.client.send(raw_nfs.record(raw_nfs.call_body(1, raw_nfs.NFS, 3, 0)))
    test.within(10, "deaf client: A has answered", lambda: case.session()["requests"] > 1)
    test.within(10, "... and sends its answer again", lambda: "backoff:" in lab.run(
        A, "ss", "-Htni", "dport", "=", f":{case.client.local[1]}"))
    case.order()
    test.check("... the order is not answered while there is hope that the client is", not case.order_ended.wait(SETTLE_S / 2))
    test.check("... it is answered in the end", case.order_ended.wait(3 * SETTLE_S))
    test.within(10, "... and the session has gone to B", lambda: case.is_at(NODE_B), case.session)
    hear_again(lab)
    test.check("... the client gets its answer when it hears again", len(case.client.receive_record()) == NULL_REPLY_BYTES)
    case.client.close()


def crashed_client(test, lab):
    """Its session is at a disk, and nobody says a word: it has to be gone at the end, like everything else."""
    case = Case(test, lab)
    case.move_to_first()
    case.client.socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    case.client.close()


def left(lab):
    """What no device may have when no client is connected."""
    found = {host: lab.run(host, "ss", "-Htan", "state", "connected", "exclude", "time-wait", "sport", "=",
                           ":2049").splitlines() for host in (SWITCH, A, B)}
    found |= {f"{host}, held": bpf_maps.flows(lab.hosts[host], "node_flows") for host in (SWITCH, A, B)}
    found |= {f"{host}, sessions": lab.nasctl("session", "list", host=host) for host in (SWITCH, A, B)}
    found["fabric"] = bpf_maps.flows(lab.hosts[SWITCH], "fabric_flows")
    return {what: rows for what, rows in found.items() if rows}


def run(test, options):
    lab = test.lab("--slaves", "2", "--clients", "1", "--topology", options.topology)
    for step, end in [(step, end) for step in STEPS for end in ENDS] if options.all else SOME:
        Case(test, lab).run(step, end)
    ghost(test, lab)
    deaf_client(test, lab)
    crashed_client(test, lab)
    resets = sum(lab.counter(host, "handoffs", "reset") for host in (SWITCH, A, B))
    test.say(f"{resets} sessions were reset by the devices that are alive")
    test.within(GONE_S, "nothing is left", lambda: not left(lab), lambda: left(lab))


def parse():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--topology", choices=["inline", "one-arm"], default="inline")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parse()
    sys.exit(harness.main(__file__, lambda test: run(test, chosen)))
