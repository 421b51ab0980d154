#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_one_arm.py - what keeps a disk quiet that has lost a session, where the switch can't

One-arm, disks answer clients directly: the switch sees none of it and can drop none (docs/protocol.md, Fencing). If this fails, a
client hears two servers on one connection, or loses its new connection to somebody who still believes in the old one; or the
document promises more than there is.
"""

import errno
import socket
import struct
import sys
import time

import harness
import raw_nfs

DISK1 = 2
PATIENCE_S = 20
PORT = 777
TCP_AT = 34
ETH_P_IP = 0x0800
SYN, RST, ACK = 2, 4, 16
TAKEN_BACK = "node=2 has been away"


def ports_of(lab, *hosts):
    return [interface["port"] for host in hosts for interface in lab.hosts[host]["interfaces"].values()]


def part(lab, parted):
    """The switch and disk1 don't hear each other any more; both hear the client. Or they do again."""
    for port in ports_of(lab, "switch", "disk1"):
        lab.run("lan", "bridge", "link", "set", "dev", port, "isolated", "on" if parted else "off")


class Wire:
    """What reaches the client from a MAC address, as its network card sees it."""

    def __init__(self, lab, source):
        self.raw = raw_nfs.socket_in(lab.netns("client1"), socket.AF_PACKET, socket.SOCK_RAW)
        self.raw.bind(("eth0", ETH_P_IP))
        self.raw.setblocking(False)
        self.source = bytes.fromhex(mac_of(lab, source).replace(":", ""))

    def heard(self):
        """The flags of each segment of NFS since the last call."""
        flags = []
        while True:
            try:
                frame = self.raw.recv(65536)
            except BlockingIOError:
                return flags
            if frame[6:12] == self.source and frame[23] == socket.IPPROTO_TCP and struct.unpack_from(
                    "!H", frame, TCP_AT)[0] == raw_nfs.NFS_PORT:
                flags.append(frame[TCP_AT + 13])

    def close(self):
        self.raw.close()


def mac_of(lab, host):
    return lab.run(host, "ip", "-o", "link", "show", "dev", "eth0").split("link/ether ")[1].split()[0]


def session_of(lab):
    return lab.session(lab.hosts["client1"]["address"], PORT)


def connect(lab):
    """By the same port each time, which the client's kernel keeps from being used again for a second (TIME_WAIT, tcp_tw_reuse)."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return lab.client(source=(lab.hosts["client1"]["address"], PORT), timeout_s=PATIENCE_S)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > end:
                raise
            time.sleep(0.1)


def live_on_disk1(test, lab):
    client = connect(lab)
    root = client.mount("/")
    test.within(PATIENCE_S, "the session is in the list", lambda: session_of(lab))
    lab.nasctl("handoff", session_of(lab)["id"], str(DISK1))
    test.within(PATIENCE_S, "it lives on disk1", lambda: session_of(lab)["node"] == DISK1)
    return client, root


def is_answered(client, root):
    try:
        return client.getattr(root) is not None
    except raw_nfs.ConnectionLost:
        return False


def check_taken_for_dead(test, lab):
    """disk1 hears the client and is heard by it, but the switch has not heard of disk1 for a while."""
    client, root = live_on_disk1(test, lab)
    old = session_of(lab)["id"]
    wire = Wire(lab, "disk1")
    test.say("the switch and disk1 don't hear each other")
    part(lab, True)
    before = lab.log("switch").count(TAKEN_BACK)
    test.within(PATIENCE_S, "the switch takes disk1's flows back", lambda: lab.log("switch").count(TAKEN_BACK) > before)
    test.within(PATIENCE_S, "the client's connection is reset by the switch", lambda: not is_answered(client, root))
    client.close()

    client = connect(lab)
    root = client.mount("/")
    test.check("the client comes again by the same port, to the switch", client.getattr(root))
    test.check("disk1 still has the old session, of the same flow", old in [
        row["id"] for row in lab.nasctl("session", "list", host="disk1")])
    wire.heard()
    send_from_disk1(lab)
    test.within(PATIENCE_S, "what disk1 sends reaches the client: nothing is fenced", wire.heard)
    test.check("the new connection goes on: late segments have other numbers", is_answered(client, root))

    test.say("... and hear each other again")
    part(lab, False)
    test.within(PATIENCE_S, "disk1 is told, and drops the old session", lambda: old not in [
        row["id"] for row in lab.nasctl("session", "list", host="disk1")])
    test.check("the new connection goes on", is_answered(client, root))
    wire.heard()
    test.check("... and can be handed to disk1 as before", hand_to_disk1(test, lab))
    test.check("... which speaks in it", is_answered(client, root) and wire.heard())
    wire.close()
    client.close()


def hand_to_disk1(test, lab):
    test.within(PATIENCE_S, "disk1 is up", lambda: lab.node(DISK1)["state"] == "up")
    lab.nasctl("handoff", session_of(lab)["id"], str(DISK1))
    return session_of(lab)["node"] == DISK1


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def segment(lab, flags):
    """Of the flow, from the VIP to the client, with numbers that are not the connection's."""
    source, target = socket.inet_aton(lab.vip), socket.inet_aton(lab.hosts["client1"]["address"])
    tcp = struct.pack("!HHIIBBHHH", raw_nfs.NFS_PORT, PORT, 1, 1, 5 << 4, flags, 1000, 0, 0)
    tcp = tcp[:16] + struct.pack("!H", checksum(source + target + struct.pack("!HH", 6, len(tcp)) + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, socket.IPPROTO_TCP, 0, source, target)
    return ip + tcp


def send_from_disk1(lab):
    """What somebody would say who believes in the old connection."""
    with raw_nfs.socket_in(lab.netns("disk1"), socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for flags in (ACK, RST, RST | ACK):
            raw.sendto(segment(lab, flags), (lab.hosts["client1"]["address"], 0))


def check_given_away(test, lab):
    """Who gave a session away says nothing more in it: no reset, no acknowledgment, also to packets that still come to it."""
    client, root = live_on_disk1(test, lab)
    lab.nasctl("handoff", session_of(lab)["id"], "3")
    test.within(PATIENCE_S, "it lives on disk2", lambda: session_of(lab)["node"] == 3)
    wire = Wire(lab, "disk1")
    wire.heard()
    relayed = lab.counter("disk1", "node", "in_relayed")
    switch_mac, disk_mac = mac_of(lab, "switch"), mac_of(lab, "disk1")
    lab.run("client1", "ip", "neighbour", "replace", lab.vip, "lladdr", disk_mac, "dev", "eth0", "nud", "permanent")
    test.check("a call that comes to disk1 is answered", is_answered(client, root))
    lab.run("client1", "ip", "neighbour", "replace", lab.vip, "lladdr", switch_mac, "dev", "eth0", "nud", "reachable")
    test.check("... by disk2, to which it was relayed", lab.counter("disk1", "node", "in_relayed") > relayed)
    test.check("disk1 said nothing", wire.heard() == [])
    wire.close()
    client.close()


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1", "--topology", "one-arm")
    check_given_away(test, lab)
    check_taken_for_dead(test, lab)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
