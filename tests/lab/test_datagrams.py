#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_datagrams.py - calls over UDP go to the disk that has the file, and its answers come back

If this fails, clients that mount over UDP, or lock over UDP, which many do, get no answers, or only small ones, or all of their data
passes through the switch's daemon.

In both topologies, with IPv4 and IPv6, and with datagrams that don't fit a packet. tests/platform/test_datagrams.c has the
rules packet by packet.
"""

import socket
import struct
import sys

import harness
import raw_nfs
import raw_nlm

PATIENCE_S = 20
SMALL, BIG = 512, 32768
UDP_HEADER, IP_HEADER = 8, 20
PIECE = 1024
MORE_FRAGMENTS = 0x2000
PORT = 909
READ, WRITE = "READ", "WRITE"
LOCK = "LOCK"


def content(size):
    return bytes(i * 7 % 251 for i in range(size))


class Grown:
    """By how much counters have grown since it was made."""

    def __init__(self, lab):
        self.lab = lab
        self.before = {}
        for host, group, name in (("switch", "fabric", "client_datagram"), ("switch", "fabric", "client_fragment"),
                                  ("switch", "fabric", "client_fragment_early"), ("switch", "fabric", "device_datagram"),
                                  ("switch", "fabric", "device_fragment"), ("switch", "files", "relayed"),
                                  ("disk1", "nfs3", READ), ("disk1", "nfs3", WRITE), ("disk1", "nlm", LOCK)):
            self.before[host, group, name] = self._now(host, group, name)

    def _now(self, host, group, name):
        rows = self.lab.nasctl("counters", host=host)
        return next((row["value"] for row in rows if (row["group"], row["name"]) == (group, name)), 0)

    def __call__(self, host, group, name):
        return self._now(host, group, name) - self.before[host, group, name]


def datagrams(lab, server, **more):
    return raw_nfs.DatagramClient(server, netns=lab.netns("client1"), **more)


def check_files(test, lab, server):
    """MOUNT has no handle: it is the switch's. The rest is disk1's."""
    inline = lab.plan["topology"] == "inline"
    client = datagrams(lab, server)
    root = client.mount("/disk0")
    file = client.create(root, "datagram")
    for size in (SMALL, BIG):
        grown = Grown(lab)
        client.write(file, 0, content(size))
        test.check(f"{size} bytes over UDP to {server} are read back", client.read(file, 0, size) == content(size))
        calls = grown("switch", "fabric", "client_datagram")
        pieces = grown("switch", "fabric", "client_fragment")
        test.check("the fabric sent both calls to disk1", (calls, pieces > size // 1500) == ((2, False) if size == SMALL else
                   (1, True)), (calls, pieces))
        test.check("it carried them out", (grown("disk1", "nfs3", READ), grown("disk1", "nfs3", WRITE)) == (1, 1))
        test.check("the switch's daemon relayed nothing", grown("switch", "files", "relayed") == 0)
        answers = grown("switch", "fabric", "device_datagram"), grown("switch", "fabric", "device_fragment")
        if inline:
            test.check("its answers came back by the fabric", answers[0] >= 1 and (answers[1] > size // 1500) ==
                       (size == BIG), answers)
        else:
            test.check("it answered the client directly", answers == (0, 0), answers)
    client.close()


def check_root_and_other_disk(test, lab):
    client = datagrams(lab, lab.vip)
    root = client.mount("/")
    test.check("the virtual root is answered", client.walk(root, "disk1") is not None)
    other = client.walk(root, "disk1")
    file = client.create(other, "datagram")
    client.write(file, 0, content(SMALL))
    test.check("disk2 has what was written there", client.read(client.walk(root, "disk1/datagram"), 0, SMALL) ==
               content(SMALL))
    grown = Grown(lab)
    client.null()
    test.check("a call without a handle is the switch's", grown("switch", "fabric", "client_datagram") == 0)
    client.close()


def check_same_answer_twice(test, lab):
    """The owner remembers what it answered, whichever way the call came."""
    udp = datagrams(lab, lab.vip)
    root = udp.mount("/disk0")
    body = raw_nfs.call_body(77, raw_nfs.NFS, 3, 9, raw_nfs.opaque(root) + raw_nfs.opaque(b"once") +
                             struct.pack(">IIIIIII", 1, 0o755, 0, 0, 0, 0, 0))
    udp.send_call(body)
    first = udp.receive_record()
    udp.send_call(body)
    test.check("a MKDIR that is sent twice gets one answer, twice", udp.receive_record() == first)
    with lab.client() as tcp:
        test.check("... also over TCP, by the switch", tcp.exchange(body) == first)
    udp.close()


def check_locks(test, lab, server):
    client = datagrams(lab, server)
    file = client.create(client.mount("/disk0"), "locked")
    one, two = raw_nlm.Locker(client, "one"), raw_nlm.Locker(client, "two")
    grown = Grown(lab)
    test.check("a lock over UDP is granted", one.lock(file, 1) == raw_nlm.OK)
    test.check("... by disk1 itself", grown("disk1", "nlm", LOCK) == 1 and grown("switch", "files", "relayed") == 0)
    with lab.client(server=server) as tcp:
        test.check("it excludes others, who come over TCP by the switch",
                   raw_nlm.Locker(tcp, "two").lock(file, 2) == raw_nlm.DENIED)
    test.check("... and over UDP", two.lock(file, 2) == raw_nlm.DENIED)
    test.check("TEST tells the holder", two.test(file, 2)[0] == 1)

    host = lab.hosts["client1"]
    address = host["address6"] if ":" in server else host["address"]
    peer = raw_nlm.Peer(lab.netns("client1"), address)
    test.check("who waits is told so", two.lock(file, 2, block=True) == raw_nlm.BLOCKED)
    test.check("UNLOCK", one.unlock(file, 1) == raw_nlm.OK)
    test.check("the waiter is called back", peer.serve(PATIENCE_S, lambda: peer.granted))
    test.check("... from the VIP", peer.granted and peer.granted[0][0] == server, peer.granted)
    test.check("UNLOCK of that", two.unlock(file, 2) == raw_nlm.OK)
    peer.close()
    client.close()


def fragments(source, target, payload):
    """IPv4 packets with the parts of a UDP datagram. Without a checksum."""
    datagram = struct.pack("!HHHH", PORT, raw_nfs.NFS_PORT, UDP_HEADER + len(payload), 0) + payload
    for at in range(0, len(datagram), PIECE):
        part = datagram[at:at + PIECE]
        more = MORE_FRAGMENTS if at + PIECE < len(datagram) else 0
        yield struct.pack("!BBHHHBBH4s4s", 0x45, 0, IP_HEADER + len(part), 4711, more | at // 8, 64, socket.IPPROTO_UDP, 0,
                          socket.inet_aton(source), socket.inet_aton(target)) + part


def check_out_of_order(test, lab):
    """The last fragment first: the switch gets them all, and relays the call."""
    client = datagrams(lab, lab.vip)
    file = client.create(client.mount("/disk0"), "backwards")
    grown = Grown(lab)
    address = lab.hosts["client1"]["address"]
    body = raw_nfs.call_body(78, raw_nfs.NFS, 3, 7, raw_nfs.opaque(file) + struct.pack(">QII", 0, 4096, 2) +
                             raw_nfs.opaque(content(4096)))
    answers = raw_nfs.socket_in(lab.netns("client1"), kind=socket.SOCK_DGRAM)
    answers.bind((address, PORT))
    answers.settimeout(PATIENCE_S)
    with raw_nfs.socket_in(lab.netns("client1"), socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for packet in reversed(list(fragments(address, lab.vip, body))):
            raw.sendto(packet, (lab.vip, 0))
    answer, source = answers.recvfrom(65536)
    answers.close()
    test.check("fragments that come backwards are answered", struct.unpack_from(">I", answer)[0] == 78 and
               source == (lab.vip, raw_nfs.NFS_PORT), source)
    test.check("... by way of the switch, which counts them", (grown("switch", "fabric", "client_fragment_early"), grown(
        "switch", "files", "relayed")) == (1, 1))
    test.check("the data are right", client.read(file, 0, 4096) == content(4096))
    client.close()


def check_node_dies(test, lab):
    client = datagrams(lab, lab.vip)
    root = client.mount("/disk0")
    file = client.walk(root, "datagram")
    lab.kill("disk1")

    def status():
        try:
            client.getattr(file)
            return raw_nfs.OK
        except raw_nfs.Status as error:
            return error.args[0]
        except (TimeoutError, ConnectionRefusedError):
            return None

    client.socket.settimeout(1)
    test.within(PATIENCE_S, "with disk1 dead the switch tells clients to wait",
                lambda: status() == f"status {raw_nfs.JUKEBOX}")
    lab.start("disk1")
    test.within(PATIENCE_S, "disk1 answers again", lambda: status() == raw_nfs.OK)
    client.socket.settimeout(PATIENCE_S)
    grown = Grown(lab)
    test.within(PATIENCE_S, "... itself", lambda: client.getattr(file) and grown("switch", "fabric", "client_datagram"))
    lab.kill("switch")
    test.check("... and while the switch's daemon is away", client.read(file, 0, BIG) == content(BIG))
    lab.start("switch")
    client.close()


def check_topology(test, topology):
    test.say(topology)
    lab = test.lab("--slaves", "2", "--clients", "1", "--ipv6", "--topology", topology)
    grown = Grown(lab)
    with lab.client() as client:
        handle = client.mount("/disk0")
    with datagrams(lab, lab.vip) as client:
        test.within(PATIENCE_S, "the fabric knows the volumes", lambda: client.getattr(handle) and grown(
            "switch", "fabric", "client_datagram"))
    for server in (lab.vip, lab.plan["vip6"]):
        check_files(test, lab, server)
        check_locks(test, lab, server)
    check_root_and_other_disk(test, lab)
    check_same_answer_twice(test, lab)
    check_out_of_order(test, lab)
    check_node_dies(test, lab)


def run(test):
    for topology in ("inline", "one-arm"):
        check_topology(test, topology)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
