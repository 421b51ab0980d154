#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_marking.py - NAS packets are marked and leave the switch first: dscp and serve_first of [fabric]

If this fails, clients wait for their files behind somebody's backup, or the network can't tell one from the other.

The switch's port towards the clients is made slow, and filled with datagrams that are none of NFS's business. What client1's
network card sees afterwards, in its order, says who was served first. tests/platform/test_marking.c has the bytes.
"""

import re
import socket
import struct
import sys
import threading

import harness
import raw_nfs

ETH_P_ALL = 3
BULK_PORT = 9    # discard
BULK, BULK_BYTES = 100, 1400
DSCP = 34
TOO_LONG_S = 60
TEARDOWN = "qdisc", "del", "dev", "eth0", "root"


def configure(lab, options):
    path = lab.hosts["switch"]["config"]
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"\n\[fabric\]\n(\w+ = .*\n)*", "", file.read())
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n[fabric]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))


def restart(test, lab, **options):
    configure(lab, options)
    lab.stop("switch")
    lab.start("switch")
    test.within(20, "the disk is back", lambda: lab.node(2)["state"] == "up")


class Wire:
    """What comes in at a host's network card: ("nfs" or "bulk", DSCP) of each frame, in order."""

    def __init__(self, lab, host):
        self.raw = raw_nfs.socket_in(lab.netns(host), socket.AF_PACKET, socket.SOCK_RAW)
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.raw.bind(("eth0", ETH_P_ALL))
        self.raw.settimeout(TOO_LONG_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()

    def frame(self):
        while True:
            frame, (_, _, kind, *_) = self.raw.recvfrom(2048)
            if kind == socket.PACKET_OUTGOING or frame[12:14] not in (b"\x08\x00", b"\x86\xdd"):
                continue
            is_ipv4 = frame[12] == 8
            ports = struct.unpack_from("!HH", frame, 34 if is_ipv4 else 54)
            dscp = frame[15] >> 2 if is_ipv4 else struct.unpack_from("!H", frame, 14)[0] >> 6 & 0x3f
            if raw_nfs.NFS_PORT in ports:
                return "nfs", dscp
            if BULK_PORT in ports:
                return "bulk", dscp

    def until(self, kind, count=1):
        """How many of each came until @count of @kind had come."""
        seen = {"nfs": 0, "bulk": 0}
        while seen[kind] < count:
            seen[self.frame()[0]] += 1
        return seen


def make_slow(lab):
    """500 kbit/s, and a queue in front of it that knows three priorities."""
    lab.run("switch", "tc", "qdisc", "replace", "dev", "eth0", "root", "handle", "1:", "tbf", "rate", "500kbit",
            "burst", "3000", "limit", "1000000")
    lab.run("switch", "tc", "qdisc", "replace", "dev", "eth0", "parent", "1:1", "handle", "2:", "pfifo_fast")


def fill(lab):
    target = lab.hosts["client1"]["address"], BULK_PORT
    with raw_nfs.socket_in(lab.netns("switch"), socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for _ in range(BULK):
            udp.sendto(bytes(BULK_BYTES), target)


def bulk_before_answer(lab, client):
    """How many datagrams came before the answer to a call that was made behind all of them."""
    with Wire(lab, "client1") as wire:
        fill(lab)
        call = threading.Thread(target=client.null)
        call.start()
        before = wire.until("nfs")["bulk"]
        wire.until("bulk", BULK - before)
        call.join()
    return before


def in_the_slow_lane(test, lab, serves_first):
    with lab.client(timeout_s=TOO_LONG_S) as client:
        for node in (1, 2):
            client.null()
            if node == 2:
                hand_off(lab, client)
            make_slow(lab)
            before = bulk_before_answer(lab, client)
            where = "the switch" if node == 1 else "a disk"
            if serves_first:
                test.check(f"an answer of {where} overtakes the queue", before < BULK // 2, before)
            else:
                test.check(f"without serve_first an answer of {where} waits for its turn", before == BULK, before)
            lab.run("switch", "tc", *TEARDOWN)


def marks(test, lab, dscp):
    for server in (lab.vip, lab.plan["vip6"]):
        with lab.client(server=server) as client, Wire(lab, "client1") as at_client, Wire(lab, "disk1") as at_disk:
            client.null()
            test.check(f"{server}: the switch's answers have DSCP {dscp}", at_client.frame()[1] == dscp)
            hand_off(lab, client)
            with Wire(lab, "client1") as after:
                client.null()
                test.check(f"{server}: the disk's answers, too", after.frame()[1] == dscp)
            test.check(f"{server}: and what goes to the disk", at_disk.frame()[1] == dscp)


def hand_off(lab, client):
    row = next(row for row in lab.nasctl("session", "list") if row["client"].endswith(f":{client.local[1]}"))
    lab.nasctl("handoff", row["id"], "2")


def queue(lab, interface):
    return lab.run("switch", "tc", "qdisc", "show", "dev", interface, "root").split()[1]


def run(test):
    lab = test.lab("--slaves", "1", "--clients", "1", "--ipv6")
    queues = [queue(lab, interface) for interface in ("eth0", "eth1")]
    marks(test, lab, 0)
    in_the_slow_lane(test, lab, False)
    restart(test, lab, dscp=DSCP, serve_first="yes")
    test.check("the ports' queues know priorities", queue(lab, "eth0") == queue(lab, "eth1") == "pfifo_fast")
    marks(test, lab, DSCP)
    in_the_slow_lane(test, lab, True)
    lab.stop("switch")
    test.check("the queues are what they were", [queue(lab, interface) for interface in ("eth0", "eth1")] == queues)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
