#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/tcp_rules_test.py - does tests/lab/tcp_rules.py see what is wrong in a capture, and only that?

If this fails, a handoff that clients notice may pass for a good one. Each wrong capture is a good one with one change,
and must break one rule and no other.
"""

import os
import struct
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

import capture
import tcp_rules
from capture import ACK, FIN, RST, SYN

CLIENT, SERVER = (bytes([10, 0, 0, 2]), 801), (bytes([10, 0, 0, 1]), 2049)
CLIENT6, SERVER6 = (bytes(15) + b"\x02", 801), (bytes(15) + b"\x01", 2049)
CLIENT_ISN, SERVER_ISN = 0xffffff00, 0x7ffffff0     # both streams pass a border
WINDOW, SCALE = 100, 7
MODULUS = 1 << 32


class Wire:
    """A capture that is being made: what one side says is a line of a test."""

    def __init__(self, client=CLIENT, server=SERVER, isn=(CLIENT_ISN, SERVER_ISN), start_ns=0):
        self.ends = {True: client, False: server}
        self.isn = {True: isn[0], False: isn[1]}
        self.frames, self.time_ns = [], start_ns

    def _say(self, from_client, at=0, payload=b"", acknowledges=0, flags=ACK, timestamp="now", window=WINDOW,
             scale=None, sack=()):
        """Places count from the first byte, which is that after the SYN."""
        self.time_ns += 1_000_000
        options = b""
        if timestamp == "now":
            timestamp = self.time_ns // 1_000_000
        if timestamp is not None:
            options += struct.pack("!BBBBII", 1, 1, 8, 10, timestamp, 0)
        if scale is not None:
            options += bytes([1, 3, 3, scale])
        if sack:
            first = self.isn[not from_client] + 1
            options += bytes([1, 1, 5, 2 + 8 * len(sack)]) + b"".join(
                struct.pack("!II", (first + left) % MODULUS, (first + right) % MODULUS) for left, right in sack)
        tcp = struct.pack("!HHIIBBHHH", self.ends[from_client][1], self.ends[not from_client][1],
                          (self.isn[from_client] + 1 + at) % MODULUS,
                          (self.isn[not from_client] + 1 + acknowledges) % MODULUS if flags & ACK else 0,
                          (5 + len(options) // 4) << 4, flags, window, 0, 0)
        self._frame(from_client, tcp + options + payload)

    def client(self, *arguments, **more):
        self._say(True, *arguments, **more)

    def server(self, *arguments, **more):
        self._say(False, *arguments, **more)

    def _frame(self, from_client, tcp):
        source, target = self.ends[from_client][0], self.ends[not from_client][0]
        if len(source) == 4:
            packet = struct.pack("!HBBHHHBBH4s4s", capture.IPV4, 0x45, 0, 20 + len(tcp), 0, 0, 64, capture.TCP, 0,
                                 source, target)
        else:
            packet = struct.pack("!HIHBB16s16s", capture.IPV6, 6 << 28, len(tcp), capture.TCP, 64, source, target)
        self.frames.append((self.time_ns, bytes(12) + packet + tcp))

    def open(self, client_scale=SCALE, server_scale=SCALE, window=WINDOW << SCALE):
        self.client(-1, flags=SYN, scale=client_scale, window=window)
        self.server(-1, flags=SYN | ACK, scale=server_scale, window=window)
        self.client()
        return self

    def talk(self):
        self.client(0, b"call" * 100)
        self.server(0, b"answer" * 100, 400)
        self.client(400, acknowledges=600)
        return self

    def close(self, client=400, server=600):
        self.client(client, acknowledges=server, flags=FIN | ACK)
        self.server(server, acknowledges=client + 1, flags=FIN | ACK)
        self.client(client + 1, acknowledges=server + 1)
        return self


def pcap(frames, order="<", magic=0xa1b23c4d, unit_ns=1, kept_max=65535):
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, kept_max, capture.ETHERNET)
    for time_ns, frame in frames:
        kept = frame[:kept_max]
        out += struct.pack(order + "IIII", time_ns // 10**9, time_ns % 10**9 // unit_ns, len(kept), len(frame)) + kept
    return out


def pcapng(frames, order="<", resolution=None):
    def block(kind, body):
        body += bytes(-len(body) % 4)
        return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)

    options = b"" if resolution is None else struct.pack(order + "HHBxxx", 9, 1, resolution)
    out = block(capture.PCAPNG_SECTION, struct.pack(order + "IHHq", 0x1a2b3c4d, 1, 0, -1))
    out += block(5, b"statistics of nobody")
    out += block(capture.PCAPNG_INTERFACE, struct.pack(order + "HHI", capture.ETHERNET, 0, 65535) + options)
    for time_ns, frame in frames:
        units = time_ns // 1000 if resolution is None else time_ns
        out += block(capture.PCAPNG_PACKET,
                     struct.pack(order + "IIIII", 0, units >> 32, units % MODULUS, len(frame), len(frame)) + frame)
    return out


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def file(self, content):
        path = os.path.join(self.directory.name, str(len(os.listdir(self.directory.name))))
        with open(path, "wb") as out:
            out.write(content)
        return path

    def examine(self, wire, *devices):
        return tcp_rules.examine(self.file(pcap(wire.frames)), [self.file(pcap(device.frames)) for device in devices])

    def expect(self, wire, *rules, devices=()):
        """The last connection, and that these rules were broken in the capture."""
        connections = self.examine(wire, *devices)
        broken = {rule: cases for connection in connections for rule, cases in connection.broken.items()}
        self.assertEqual(sorted(broken), sorted(rules), broken)
        return connections[-1]


class GoodCaptures(Case):
    def test_whole_connection(self):
        connection = self.expect(Wire().open().talk().close())
        self.assertEqual(bytes(connection.from_client.bytes), b"call" * 100)
        self.assertEqual(bytes(connection.from_server.bytes), b"answer" * 100)
        self.assertEqual(connection.from_client.said_again + connection.from_server.said_again, 0)
        self.assertEqual(connection.from_client.segments, 6)

    def test_ipv6(self):
        self.assertEqual(len(self.expect(Wire(CLIENT6, SERVER6).open().talk().close()).from_client.bytes), 400)

    def test_begun_in_the_middle(self):
        wire = Wire().talk()
        wire.server(300, b"answer" * 100, 400)
        wire.server(-6, b"beforeanswer", 400)
        self.assertEqual(bytes(self.expect(wire).from_server.bytes), b"answer" * 150)

    def test_around_the_circle_many_times(self):
        side, end = tcp_rules.Direction(), 5 * MODULUS + 12
        side.origin, side.bytes = MODULUS - 5, range(end)    # as long as that many bytes
        for place in end - MODULUS // 2, end - 13, end, end + 7, end + MODULUS // 2 - 1:
            self.assertEqual(side.place((side.origin + place) % MODULUS), place)

    def test_said_again(self):
        wire = Wire().open().talk()
        wire.client(100, b"call" * 75)
        wire.client(396, b"callmore", 600)
        connection = self.expect(wire)
        self.assertEqual((connection.from_client.said_again, len(connection.from_client.bytes)), (2, 404))

    def test_overtaken(self):
        wire = Wire().open()
        wire.client(0, b"call" * 100)
        wire.server(300, b"answer" * 50, 400, timestamp=1000)
        wire.client(400, sack=[(300, 600)])
        wire.server(0, b"answer" * 50, 400, timestamp=999)
        wire.client(400, acknowledges=600)
        connection = self.expect(wire)
        self.assertEqual((connection.from_server.overtaken, connection.from_server.said_again), (1, 0))
        self.assertEqual(bytes(connection.from_server.bytes), b"answer" * 100)

    def test_overtaken_acknowledgment(self):
        wire = Wire().open()
        wire.client(0, b"call" * 100)
        wire.server(0, acknowledges=400, timestamp=1000, window=WINDOW)
        wire.server(0, acknowledges=200, timestamp=999, window=WINDOW)
        self.assertEqual(self.expect(wire).from_server.overtaken, 1)

    def test_overtaken_with_nothing_new(self):
        """A device's last acknowledgment behind the next one's first: the same, but for stamp and window."""
        wire = Wire().open()
        wire.client(0, b"call" * 100)
        wire.server(0, acknowledges=400, timestamp=1000, window=WINDOW + 1)
        wire.server(0, acknowledges=400, timestamp=999, window=WINDOW)
        self.expect(wire)

    def test_overtaken_by_a_later_acknowledgment(self):
        wire = Wire().open()
        wire.client(0, b"call" * 100)
        wire.server(600, acknowledges=400, timestamp=1000)
        wire.server(0, b"answer" * 100, 400, timestamp=999)
        self.assertEqual(self.expect(wire).from_server.overtaken, 1)

    def test_timestamps_around_the_circle(self):
        wire = Wire().open()
        wire.client(0, b"a", timestamp=2**31 - 1)
        wire.client(1, b"b", timestamp=2**32 - 2)
        wire.client(2, b"c", timestamp=1)
        self.expect(wire)

    def test_same_port_again(self):
        first = Wire().open().talk().close()
        second = Wire(isn=(7, 8), start_ns=10**9).open().talk()
        first.frames += second.frames
        self.assertEqual(len(self.examine(first)), 2)
        self.expect(first)

    def test_other_traffic(self):
        wire = Wire().open().talk()
        arp, udp = b"\x08\x06" + bytes(28), b"\x08\x00\x45" + bytes(8) + b"\x11" + bytes(30)
        fragment = b"\x08\x00\x45\x00\x00\x30\x00\x00\x20\x00\x40\x06" + bytes(30)
        wire.frames += [(10**9, bytes(12) + packet) for packet in (arp, udp, fragment)]
        other = Wire(server=(SERVER[0], 80), start_ns=10**9)
        other.client(0, b"GET", flags=RST)
        wire.frames += other.frames
        self.assertEqual(len(self.examine(wire)), 1)
        self.expect(wire)

    def test_had_by_two_devices(self):
        wire = Wire().open().talk().close()
        one, two = Wire(start_ns=3_500_000 - 10**6), Wire(start_ns=3_600_000 - 10**6)
        one.client(200, b"call" * 50)
        two.client(0, b"call" * 50)
        two.time_ns = 6_500_000 - 10**6
        two.client(400, flags=FIN | ACK)
        self.expect(wire, devices=(one, two))


class WrongCaptures(Case):
    def test_reset(self):
        for sides in "client", "server":
            wire = Wire().open().talk()
            getattr(wire, sides)(400 if sides == "client" else 600, flags=RST | ACK)
            self.expect(wire, "reset")

    def test_other_answer_to_a_syn(self):
        wire = Wire().open()
        wire.server(-1, flags=SYN | ACK, scale=SCALE + 1, window=WINDOW << SCALE)
        self.expect(wire, "opening")

    def test_two_answers_to_a_syn(self):
        wire = Wire().open()
        other = Wire(isn=(CLIENT_ISN, SERVER_ISN + 1), start_ns=10**9)
        other.server(-1, flags=SYN | ACK, scale=SCALE, window=WINDOW << SCALE)
        wire.frames += other.frames
        self.expect(wire, "opening")

    def test_opened_while_open(self):
        first = Wire().open().talk()
        first.frames += Wire(isn=(7, 8), start_ns=10**9).open().talk().frames
        self.expect(first, "opening")

    def test_end_of_the_server(self):
        wire = Wire().open().talk()
        wire.server(600, acknowledges=400, flags=FIN | ACK)
        wire.client(400, acknowledges=601, flags=FIN | ACK)
        self.expect(wire, "end")

    def test_more_after_the_end(self):
        wire = Wire().open().talk().close()
        wire.server(600, b"more", 401)
        self.expect(wire, "end")

    def test_gap(self):
        wire = Wire().open().talk()
        wire.server(601, b"answer", 400)
        self.expect(wire, "gap")

    def test_gap_at_the_start(self):
        wire = Wire().open()
        wire.client(1, b"all")
        self.expect(wire, "gap")

    def test_other_bytes(self):
        wire = Wire().open().talk()
        wire.server(594, b"answEr more", 400)
        self.expect(wire, "bytes")

    def test_other_bytes_in_a_gap(self):
        wire = Wire().open()
        wire.client(4, b"call")
        wire.client(0, b"callCall")
        self.expect(wire, "bytes")

    def test_acknowledgment_of_what_was_not_said(self):
        for side, at, beyond in ("server", 600, 401), ("client", 400, 601):
            wire = Wire().open().talk()
            getattr(wire, side)(at, acknowledges=beyond)
            self.expect(wire, "never said")

    def test_acknowledgment_of_what_no_device_had(self):
        wire, device = Wire().open().talk(), Wire(start_ns=3_500_000 - 10**6)
        device.client(0, b"call" * 99)
        self.expect(wire, "never had", devices=[device])

    def test_acknowledgment_of_what_a_device_had_later(self):
        wire, device = Wire().open().talk(), Wire(start_ns=5_500_000 - 10**6)
        device.client(0, b"call" * 100)
        self.expect(wire, "never had", devices=[device])

    def test_acknowledgment_over_a_hole(self):
        wire, device = Wire().open().talk(), Wire(start_ns=3_500_000 - 10**6)
        device.client(4, b"call" * 99)
        self.expect(wire, "never had", devices=[device])

    def test_timestamp_goes_back(self):
        wire = Wire().open().talk()
        wire.server(600, b"a", 400, timestamp=1)
        self.expect(wire, "timestamp")

    def test_timestamp_goes_back_in_acknowledgment_or_end(self):
        for timestamp, more in (998, {"acknowledges": 400}), (999, {"flags": FIN | ACK}):
            wire = Wire().open()
            wire.server(0, timestamp=1000)
            wire.client(0, b"call" * 100, flags=FIN | ACK)
            wire.server(0, timestamp=timestamp, **more)
            self.expect(wire, "timestamp")

    def test_acknowledgment_a_tick_late(self):
        wire = Wire().open()
        wire.server(0, timestamp=1000)
        wire.client(0, b"call" * 100)
        wire.server(0, acknowledges=400, timestamp=999)
        self.expect(wire)

    def test_timestamp_goes_back_after_an_overtaken_one(self):
        wire = Wire().open()
        wire.client(0, b"a", timestamp=1000)
        wire.client(0, b"a", timestamp=998)
        wire.client(1, b"b", timestamp=999)
        self.expect(wire, "timestamp")

    def test_no_timestamp(self):
        wire = Wire().open().talk()
        wire.server(600, b"a", 400, timestamp=None)
        self.expect(wire, "timestamp")

    def test_more_than_the_window(self):
        wire = Wire().open()
        wire.client(0, b"c" * ((WINDOW << SCALE) + 1))
        self.expect(wire, "window")

    def test_less_window(self):
        wire = Wire().open().talk()
        wire.server(600, acknowledges=400, window=WINDOW - 1)
        self.expect(wire, "window")

    def test_window_without_scale(self):
        wire = Wire().open().talk()
        wire.server(600, acknowledges=400, window=(WINDOW << SCALE) >> (SCALE + 1))
        self.expect(wire, "window")

    def test_scale_needs_both(self):
        wire = Wire().open(None, SCALE, WINDOW)
        wire.server()
        wire.client(0, b"c" * (WINDOW + 1))
        self.expect(wire, "window")

    def test_sack(self):
        for block in (300, 601), (-1, 10), (300, 300), (300, 299):
            wire = Wire().open().talk()
            wire.client(400, acknowledges=600, sack=[(0, 100), block])
            self.expect(wire, "sack")

    def test_every_rule(self):
        """Each name that is used is explained, and no rule is without a test."""
        with open(os.path.abspath(__file__), encoding="utf-8") as own:
            text = own.read().split("class WrongCaptures")[1]
        for rule in tcp_rules.RULES:
            self.assertIn(f'(wire, "{rule}"', text.replace("(first", "(wire"))


class Files(Case):
    def setUp(self):
        super().setUp()
        self.frames = Wire().open().talk().close().frames

    def segments(self, content):
        return [(segment.time_ns, segment.payload) for segment in capture.segments(self.file(content))]

    def test_formats(self):
        expected = self.segments(pcap(self.frames))
        self.assertEqual(expected[3], (4_000_000, b"call" * 100))
        for order in "<", ">":
            self.assertEqual(self.segments(pcap(self.frames, order)), expected)
            self.assertEqual(self.segments(pcap(self.frames, order, 0xa1b2c3d4, 1000)), expected)
            self.assertEqual(self.segments(pcapng(self.frames, order)), expected)
            self.assertEqual(self.segments(pcapng(self.frames, order, 9)), expected)

    def test_vlan(self):
        tagged = [(time_ns, frame[:12] + b"\x81\x00\x00\x07" + frame[12:]) for time_ns, frame in self.frames]
        self.assertEqual(self.segments(pcap(tagged)), self.segments(pcap(self.frames)))

    def test_padding(self):
        padded = [(time_ns, frame + b"\xff" * 6) for time_ns, frame in self.frames]
        self.assertEqual(self.segments(pcap(padded)), self.segments(pcap(self.frames)))

    def test_longer_than_ip_can_say(self):
        frame = self.frames[3][1]
        whole = [(0, frame[:16] + b"\0\0" + frame[18:])]
        self.assertEqual(self.segments(pcap(whole)), [(0, b"call" * 100)])

    def test_headers_only(self):
        segment = list(capture.segments(self.file(pcap(self.frames, kept_max=80))))[3]
        self.assertEqual((segment.length, len(segment.payload)), (400, 14))

    def test_refused(self):
        good = pcap(self.frames)
        for content in b"", b"no capture", good[:-1], good[:24 + 7], good[:20] + b"\x65" + good[21:], \
                pcap(self.frames, kept_max=50), pcapng(self.frames)[:-1]:
            with self.assertRaises(capture.CaptureError):
                list(capture.segments(self.file(content)))
        with self.assertRaises(capture.CaptureError):
            tcp_rules.examine(self.file(pcap(self.frames, kept_max=80)))


if __name__ == "__main__":
    unittest.main()
