#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_vlan.py - the switch and the disks are connected by tagged links

The configuration names the VLANs' interfaces. If this fails, sites with VLANs, which are most, have no service, or one without
handoffs; or a configuration that names the interface below breaks clients' connections.
"""

import os
import subprocess
import sys

import daemon
import harness
import raw_nfs

PATIENCE_S = 20
SIZE = 32768
DISK1, DISK2 = 2, 3


def missing():
    """What this kernel does not have."""
    netns = f"vnas-probe-{os.getpid()}"
    commands = (["ip", "netns", "add", netns],
                ["ip", "-n", netns, "link", "add", "name", "below", "type", "veth", "peer", "name", "other"],
                ["ip", "-n", netns, "link", "add", "link", "below", "name", "below.10", "type", "vlan", "id", "10"],
                ["ip", "-n", netns, "link", "add", "name", "bridge", "type", "bridge", "vlan_filtering", "1"])
    fails = [command for command in commands if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode]
    subprocess.run(["ip", "netns", "delete", netns], stderr=subprocess.DEVNULL, check=False)
    return "a kernel with VLANs (8021q, and bridges that know them)" if fails else None


def session_of(lab, client):
    return lab.session(*client.local)


def check_handoffs(test, lab):
    forwarded = lab.counter("switch", "fabric", "client_forwarded")
    client = lab.client()
    root = client.mount("/")
    test.within(PATIENCE_S, "the session is in the list", lambda: session_of(lab, client))
    for node in (DISK1, DISK2, 1, DISK1):
        lab.nasctl("handoff", session_of(lab, client)["id"], str(node))
        test.within(PATIENCE_S, f"the session moves to node {node}", lambda node=node: session_of(lab, client)["node"] == node)
        file = client.create(client.walk(root, "disk0"), "vlan")
        client.write(file, 0, bytes(range(256)) * (SIZE // 256))
        test.check("... and works", client.read(file, 0, SIZE) == bytes(range(256)) * (SIZE // 256))
    test.check("its packets are forwarded in the kernel", lab.counter("switch", "fabric", "client_forwarded") > forwarded)
    client.close()


def check_datagrams(test, lab):
    client = raw_nfs.DatagramClient(lab.vip, netns=lab.netns("client1"))
    file = client.walk(client.mount("/disk0"), "vlan")
    sent = lab.counter("switch", "fabric", "client_datagram")
    test.check("a call over UDP has its answer, in fragments", len(client.read(file, 0, SIZE)) == SIZE)
    test.check("... from disk1", lab.counter("switch", "fabric", "client_datagram") > sent)
    client.close()


def check_interface_below(test, lab):
    """Tagged frames are left to the VLAN's interface: clients are served by the switch, and not handed off."""
    config = lab.hosts["switch"]["config"]
    lab.stop("switch")
    with open(config, encoding="ascii") as file:
        text = file.read()
    with open(config, "w", encoding="ascii") as file:
        file.write(text.replace("client_interfaces = eth0.10", "client_interfaces = eth0"))
    lab.run("switch", "ip", "address", "add", f"{lab.vip}/32", "dev", "eth0.10")
    lab.start("switch")
    client = lab.client()
    root = client.mount("/")
    test.within(PATIENCE_S, "the session is in the list", lambda: session_of(lab, client))
    refused = ""
    try:
        lab.nasctl("handoff", session_of(lab, client)["id"], str(DISK1))
    except daemon.DaemonError as error:
        refused = str(error)
    test.check("with the interface below configured, it can't be handed off", refused)
    test.within(PATIENCE_S, "... but is served", lambda: client.walk(root, "disk0") is not None)
    test.check("... by the switch", session_of(lab, client)["node"] == 1)
    client.close()


def run(test):
    for topology in ("inline", "one-arm"):
        test.say(topology)
        lab = test.lab("--slaves", "2", "--clients", "1", "--vlans", "--topology", topology)
        check_handoffs(test, lab)
        check_datagrams(test, lab)
        if topology == "inline":
            check_interface_below(test, lab)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, missing))
