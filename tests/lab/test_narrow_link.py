#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_narrow_link.py - a client behind a router, whose link takes smaller packets than all others

If this fails, a user behind a tunnel hangs in the middle of a long answer as soon as his session was handed off: routers tell the VIP that
the packets are too big (ICMP), and the disk node that sends them never hears of it.

A client's namespace is the router. Inline and one-arm; the session is at the switch, at disk1, and at the switch again.
"""

import contextlib
import os
import subprocess
import sys

import harness
import network
import raw_nfs

BEHIND, ROUTER, NET, MTU = "10.99.0.2", "10.99.0.1", "10.99.0.0/24", "1280"
ANSWER_BYTES = 64 * 1024
PATIENCE_S = 10


def run_in(netns, *command):
    subprocess.run(network.enter(netns) + list(command), check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def client_behind(lab, host):
    """Its namespace. @host is the router: what it forwards to there must not be longer than MTU."""
    netns, router = f"vnas-behind-{os.getpid()}", lab.hosts[host]["netns"]
    subprocess.run(["ip", "netns", "add", netns], check=True)
    try:
        subprocess.run(["ip", "-n", router, "link", "add", "narrow", "mtu", MTU, "type", "veth", "peer", "name", "eth0",
                        "netns", netns], check=True)
        for where, interface, address in ((router, "narrow", ROUTER), (netns, "eth0", BEHIND)):
            run_in(where, "ip", "address", "add", f"{address}/24", "dev", interface)
            run_in(where, "ip", "link", "set", interface, "up")
        run_in(netns, "ip", "link", "set", "eth0", "mtu", "1500")
        run_in(netns, "ip", "route", "add", "default", "via", ROUTER)
        run_in(router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        yield f"{network.NETNS_DIR}/{netns}"
    finally:
        subprocess.run(["ip", "netns", "delete", netns], check=False)


def route_to_client(lab, topology):
    router = lab.hosts["client1"]["address"]
    run_in(lab.hosts["switch"]["netns"], "ip", "route", "add", NET, "via", router)
    run_in(lab.hosts["disk1"]["netns"], "ip", "route", "replace", NET, "via",
           router if topology == "one-arm" else lab.hosts["switch"]["address"])


def patiently(test, call):
    """Devices have just found each other."""
    results = []

    def is_done():
        try:
            results.append(call())
        except raw_nfs.Status as error:
            if error.status != raw_nfs.JUKEBOX:
                raise
        return results
    test.need("disk1 answers", harness.wait_until(is_done, PATIENCE_S) is not None)
    return results[0]


def read_at(test, lab, client, handle, where, node):
    def is_there():
        return str((lab.session(*client.local) or {}).get("node")) == node

    if not is_there():
        lab.nasctl("handoff", lab.session(*client.local)["id"], node)
        test.within(10, f"the session is at {where}", is_there)
    client.socket.settimeout(PATIENCE_S)
    try:
        data = client.read(handle, 0, ANSWER_BYTES)
    except TimeoutError:
        data = b""
    test.need(f"at {where} a long answer comes through", data == CONTENT, len(data))


CONTENT = os.urandom(ANSWER_BYTES)


def check(test, topology):
    lab = test.lab("--slaves", "1", "--clients", "1", "--topology", topology)
    route_to_client(lab, topology)
    with lab.client("client1") as near:
        disk = near.lookup(near.mount("/"), "disk0")
        handle = patiently(test, lambda: near.create(disk, "long"))
        for offset in range(0, ANSWER_BYTES, 16384):
            near.write(handle, offset, CONTENT[offset:offset + 16384])
    with client_behind(lab, "client1") as netns, raw_nfs.Client(
            lab.vip, netns, timeout_s=PATIENCE_S) as far:
        far.null()
        for where, node in (("the switch", "1"), ("disk1", "2"), ("the switch, again", "1")):
            read_at(test, lab, far, handle, where, node)
    test.check("disk1 was told by ICMP", lab.counter("switch", "fabric", "client_error") > 0)


def run(test):
    for topology in ("inline", "one-arm"):
        test.say(topology)
        check(test, topology)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
