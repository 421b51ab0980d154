#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_capture.py - what a client's network card saw of a connection that was handed off many times

If this fails, clients could tell that there is more than one machine: a stray reset or end of connection, bytes missing or
said twice with different content, an acknowledgment of what no device had. Looks at every packet of a capture, so it
doesn't depend on what the client's kernel counts or forgives.

Usage: test_capture.py [FILE.pcap PORT]    with arguments: only examine a capture of the connection from that port
"""

import os
import random
import struct
import subprocess
import sys
import tempfile
import time

import harness
from handoff_storm import no_loss_probes

HANDOFFS = 200
NFS_PORT = 2049
FIN, SYN, RST, ACK = 1, 2, 4, 16
MODULUS = 1 << 32


def packets(path):
    """Each frame of a capture (the classic format, either byte order)."""
    with open(path, "rb") as capture:
        head = capture.read(24)
        order = "<" if head[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
        while len(record := capture.read(16)) == 16:
            _, _, kept, length = struct.unpack(order + "IIII", record)
            frame = capture.read(kept)
            if len(frame) < kept:
                return
            yield frame, length


def segments(path, port):
    """(from the client, flags, sequence, acknowledgment, payload) of the connection's TCP segments over IPv4."""
    for frame, length in packets(path):
        if frame[12:14] != b"\x08\x00" or frame[23] != 6:
            continue
        header = 14 + (frame[14] & 15) * 4
        total = struct.unpack("!H", frame[16:18])[0] or length - 14    # 0: longer than the field can say
        source, target, sequence, acknowledgment, offset, flags = struct.unpack("!HHIIBB", frame[header:header + 14])
        if {source, target} != {port, NFS_PORT}:
            continue
        start = header + (offset >> 4) * 4
        yield source == port, flags, sequence, acknowledgment, frame[start:14 + total]


class Stream:
    """One direction: its bytes as they were first said."""

    def __init__(self):
        self.first = None       # sequence number of the first byte
        self.bytes = bytearray()
        self.acknowledged = 0   # by the other side, relative
        self.said_again = 0
        self.gaps = self.different = 0

    def place(self, sequence):
        """Relative to the first byte; right as long as the two are not 2 GiB apart."""
        relative = (sequence - self.first) % MODULUS
        base = len(self.bytes)
        relative += (base - relative + MODULUS // 2) // MODULUS * MODULUS
        return relative

    def say(self, sequence, payload):
        at, end = self.place(sequence), len(self.bytes)
        if at > end:
            self.gaps += 1
            return
        known = min(end - at, len(payload))
        if known:
            self.said_again += 1
            self.different += self.bytes[at:at + known] != payload[:known]
        self.bytes += payload[known:]


class Verdict:
    def __init__(self):
        self.streams = {True: Stream(), False: Stream()}
        self.resets = self.ends = self.beyond = self.backwards = self.segments = 0

    def look(self, from_client, flags, sequence, acknowledgment, payload):
        own, other = self.streams[from_client], self.streams[not from_client]
        self.segments += 1
        if flags & SYN:
            own.first = (sequence + 1) % MODULUS
            return
        if own.first is None or other.first is None:
            return
        self.resets += bool(flags & RST)
        self.ends += bool(flags & FIN) and not from_client
        if payload:
            own.say(sequence, payload)
        if flags & ACK:
            self.acknowledge(other, acknowledgment)

    def acknowledge(self, stream, acknowledgment):
        place = stream.place(acknowledgment)
        if place > len(stream.bytes) + 1:    # a FIN takes one
            self.beyond += 1
        stream.acknowledged = max(stream.acknowledged, place)


def examine(test, path, port):
    verdict = Verdict()
    for segment in segments(path, port):
        verdict.look(*segment)
    to_client, to_server = verdict.streams[False], verdict.streams[True]
    test.check("the capture holds the connection", verdict.segments > 1000 and to_client.bytes, verdict.segments)
    test.say(f"{verdict.segments} segments; {len(to_client.bytes)} bytes to the client, {len(to_server.bytes)} from it; "
             f"said again: {to_client.said_again} and {to_server.said_again} segments")
    test.check("the client said nothing again", to_server.said_again == 0, to_server.said_again)
    test.check("no reset in either direction", verdict.resets == 0, verdict.resets)
    test.check("no end of connection from the server's side before the client's", verdict.ends <= 1, verdict.ends)
    test.check("no gap in what the server said", to_client.gaps == 0, to_client.gaps)
    test.check("no gap in what the client said", to_server.gaps == 0, to_server.gaps)
    test.check("nothing was said twice with different bytes", to_client.different + to_server.different == 0)
    test.check("nobody acknowledged what was never said", verdict.beyond == 0, verdict.beyond)


def storm(lab, load):
    done = 0
    session = harness.wait_until(lambda: lab.session(load.address, load.port), 5) is not None \
        and lab.session(load.address, load.port)["id"]
    while done < HANDOFFS and load.is_running():
        try:
            done += lab.nasctl("handoff", session, str(random.choice((1, 2, 3))))["duration_us"] > 0
        except harness.daemon.DaemonError:
            time.sleep(0.005)    # it is moving by itself
    return done


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    no_loss_probes(lab.hosts["client1"])
    directory = tempfile.TemporaryDirectory()
    test.at_end(directory.cleanup)
    path = os.path.join(directory.name, "client.pcap")
    tcpdump = subprocess.Popen(
        harness.network.enter(lab.hosts["client1"]["netns"]) +
        ["tcpdump", "-i", "eth0", "-U", "-B", "131072", "-s", "0", "-Z", "root", "-w", path, "tcp", "port", str(NFS_PORT)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    test.at_end(lambda: (tcpdump.kill(), tcpdump.wait()))
    test.need("the capture starts", any("listening" in line for line in tcpdump.stderr))
    load = test.load(lab, "--seconds", "0", "--block", "8192", "--depth", "4", "--phase", "0", "/disk0", "/disk1")
    test.check(f"{HANDOFFS} handoffs were done", storm(lab, load) == HANDOFFS)
    test.check_load(load)
    time.sleep(0.5)
    tcpdump.terminate()
    said = tcpdump.communicate()[1]
    test.check("the capture is complete", "\n0 packets dropped by kernel" in said, said)
    examine(test, path, load.port)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(harness.main(__file__, lambda test: examine(test, sys.argv[1], int(sys.argv[2]))))
    sys.exit(harness.main(__file__, run))
