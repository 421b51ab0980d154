#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/tcp_rules.py - does a capture look as if the server were one machine?

Usage: tcp_rules.py [--port PORT] CLIENT.pcap [DEVICE.pcap...]

CLIENT is what the client's network card saw, whole frames. The DEVICEs are what came to the devices, headers at least,
by the same clock: what is in none of them when the client gets its acknowledgment, no device had. Without them an
acknowledgment is only compared with what the client has said.

Follows each connection to PORT (default: 2049), both directions, by sequence number; the numbers may wrap around any
number of times. RULES is what it watches. Segments that overtake each other break none, and neither does one that is
said again with the same bytes: they are counted.

Prints what each connection carried and what was wrong. Exit status: 0; 1 something was wrong; 2 wrong usage.
"""

import argparse
import heapq
import sys

sys.dont_write_bytecode = True

from capture import ACK, FIN, RST, SYN, CaptureError, endpoint_text, segments

RULES = {
    "reset": "nobody resets the connection",
    "opening": "a SYN that is said again is the same, and nobody opens a connection that is open",
    "end": "the server doesn't end before the client does, and nobody says more after his end",
    "gap": "all bytes up to the last one are said",
    "bytes": "bytes that are said again are the same",
    "never said": "nobody acknowledges what the other side has not said",
    "never had": "the server acknowledges nothing that has not come to a device",
    "timestamp": "TSval is there once agreed on, and doesn't go back in what says something new",
    "window": "nobody says more than the window lets him, and nobody takes back a part of the window",
    "sack": "a SACK block is within what the other side has said",
}

MODULUS = 1 << 32


def signed(difference):
    """Of two sequence numbers or timestamps that are less than half the circle apart."""
    return (difference + MODULUS // 2) % MODULUS - MODULUS // 2


class Cover:
    """Which places of a stream are covered: intervals that don't touch each other, in order."""

    def __init__(self):
        self.parts = []

    def add(self, start, end):
        """The parts of it that were covered before."""
        if self.parts and start == self.parts[-1][1]:
            self.parts[-1] = (self.parts[-1][0], end)
            return []
        known = [(max(start, a), min(end, b)) for a, b in self.parts if a < end and start < b]
        touching = [(a, b) for a, b in self.parts if a <= end and start <= b]
        apart = [part for part in self.parts if part not in touching]
        whole = min([start] + [a for a, _ in touching]), max([end] + [b for _, b in touching])
        self.parts = sorted(apart + [whole])
        return known

    def end(self):
        """Of what is covered without a gap."""
        return self.parts[0][1] if self.parts and self.parts[0][0] <= 0 else 0


class Direction:
    """What one side says. Places count from its first byte, and never wrap around."""

    def __init__(self):
        self.origin = None      # the sequence number of place 0
        self.bytes = bytearray()
        self.cover = Cover()
        self.fin = None         # the place of the FIN
        self.farthest = 0       # place that a segment began or ended at
        self.timestamp = None   # the newest
        self.acknowledged = 0   # of the other side
        self.allowed = 0        # by the other side
        self.syn = None         # its first segment if the capture has it
        self.segments = self.said_again = self.overtaken = 0

    def place(self, sequence):
        base = len(self.bytes)
        return base + signed(sequence - self.origin - base)

    def end(self):
        """Behind the last place that takes a sequence number."""
        return len(self.bytes) + (self.fin is not None)

    def say(self, at, payload):
        """True unless other bytes were said there before."""
        if at < 0:    # from before the capture began
            at, payload = 0, payload[-at:]
        end = at + len(payload)
        known = self.cover.add(at, end)
        is_same = all(self.bytes[a:b] == payload[a - at:b - at] for a, b in known)
        self.said_again += bool(known)
        if end > len(self.bytes):
            self.bytes.extend(bytes(end - len(self.bytes)))
        self.bytes[at:end] = payload
        return is_same


class Connection:
    def __init__(self, client, watches_devices):
        self.client = client
        self.from_client, self.from_server = Direction(), Direction()
        self.came = Cover() if watches_devices else None    # from the client to any device
        self.broken = {}    # rule: [what was wrong...]

    def __str__(self):
        return f"{endpoint_text(self.client)}: {self.from_client.segments + self.from_server.segments} segments; " + \
            "; ".join(f"{len(side.bytes)} bytes from the {name}, {side.said_again} segments said again, "
                      f"{side.overtaken} overtaken"
                      for name, side in (("client", self.from_client), ("server", self.from_server)))

    def breaks(self, rule, segment, what):
        where = f"at {segment.time_ns} ns {endpoint_text(segment.source)}: " if segment else ""
        self.broken.setdefault(rule, []).append(where + what)

    def is_over(self):
        return self.from_client.fin is not None and self.from_server.fin is not None or "reset" in self.broken

    def look(self, segment, is_from_client):
        """At a segment in the order in which the client's card saw them."""
        sides = self.from_client, self.from_server
        own, other = sides if is_from_client else reversed(sides)
        own.segments += 1
        if segment.flags & RST:
            self.breaks("reset", segment, "RST")
            return
        if segment.flags & SYN:
            self._open(segment, own)
        if own.origin is None:
            own.origin = segment.sequence
        at = own.place((segment.sequence + bool(segment.flags & SYN)) % MODULUS)
        acknowledged = other.place(segment.acknowledgment) if segment.flags & ACK and other.origin is not None else None
        is_late = at < own.farthest or acknowledged is not None and acknowledged < own.acknowledged
        is_new = not is_late and (segment.length > 0 or bool(segment.flags & FIN) or
                                  acknowledged is not None and acknowledged > own.acknowledged)
        is_older = self._timestamp(segment, own, other, is_new)
        said_again = own.said_again
        self._say(segment, own, other, at)
        own.overtaken += is_late and own.said_again == said_again
        if acknowledged is not None:
            self._acknowledge(segment, own, other, acknowledged)
            self._sack(segment, other)
            self._window(segment, own, other, is_late or is_older)
            own.acknowledged = max(own.acknowledged, acknowledged)
        own.farthest = max(own.farthest, at + segment.length)

    def arrive(self, segment):
        """A segment from the client came to a device."""
        if self.from_client.origin is not None and (segment.length or segment.flags & FIN):
            at = self.from_client.place((segment.sequence + bool(segment.flags & SYN)) % MODULUS)
            self.came.add(at, at + segment.length + bool(segment.flags & FIN))

    def finish(self):
        for name, side in ("client", self.from_client), ("server", self.from_server):
            holes = [(a[1], b[0]) for a, b in zip([(0, 0)] + side.cover.parts, side.cover.parts) if a[1] < b[0]]
            for start, end in holes:
                self.breaks("gap", None, f"the {name} never said {end - start} bytes from place {start} on")

    def _open(self, segment, own):
        if own.syn is None:
            own.syn, own.origin = segment, (segment.sequence + 1) % MODULUS
            return
        own.said_again += 1
        if (segment.sequence, segment.scale, segment.timestamp is None) != \
           (own.syn.sequence, own.syn.scale, own.syn.timestamp is None):
            self.breaks("opening", segment, "another SYN than before")

    def _timestamp(self, segment, own, other, is_new):
        """Is it older than another? Then it was overtaken, unless it says something new, which the other side drops."""
        if segment.timestamp is None:
            if own.syn and other.syn and own.syn.timestamp is not None and other.syn.timestamp is not None:
                self.breaks("timestamp", segment, "no timestamp")
            return False
        ahead = 0 if own.timestamp is None else signed(segment.timestamp - own.timestamp)
        # Of half a connection each, one CPU passes an acknowledgment on while another sends: it may be a tick late, which
        # clients allow for, and without bytes nothing would be lost either.
        is_bare = segment.length == 0 and not segment.flags & (SYN | FIN | RST)
        if ahead < 0 and is_new and not (is_bare and ahead == -1):
            self.breaks("timestamp", segment, f"TSval goes back by {-ahead}")
        if ahead >= 0:
            own.timestamp = segment.timestamp
        return ahead < 0

    def _say(self, segment, own, other, at):
        end = at + segment.length
        if own.fin is not None and end + bool(segment.flags & FIN) > own.fin + 1:
            self.breaks("end", segment, "says more after its end")
        if segment.length:
            if len(segment.payload) < segment.length:
                raise CaptureError(f"a segment at {segment.time_ns} ns was cut off: capture whole frames at the client")
            if self._window_is_known() and end > own.allowed:
                self.breaks("window", segment, f"{end - own.allowed} bytes more than it may say")
            if not own.say(at, segment.payload):
                self.breaks("bytes", segment, f"other bytes than before from place {at} on")
        if segment.flags & FIN:
            own.fin = end
            if own is self.from_server and other.fin is None:
                self.breaks("end", segment, "FIN before the client's")

    def _acknowledge(self, segment, own, other, place):
        if place > other.end():
            self.breaks("never said", segment, f"acknowledges {place - other.end()} bytes that were not said")
        elif own is self.from_server and self.came and place > self.came.end():
            self.breaks("never had", segment, f"acknowledges {place - self.came.end()} bytes that came to no device")

    def _sack(self, segment, other):
        for left, right in segment.sack:
            if not 0 <= other.place(left) < other.place(right) <= other.end():
                self.breaks("sack", segment, f"SACK from place {other.place(left)} to {other.place(right)}")

    def _window_is_known(self):
        return self.from_client.syn is not None and self.from_server.syn is not None

    def _window(self, segment, own, other, is_late):
        if not self._window_is_known():
            return
        has_scale = own.syn.scale is not None and other.syn.scale is not None and not segment.flags & SYN
        unit = 1 << own.syn.scale if has_scale else 1
        edge = other.place(segment.acknowledgment) + segment.window * unit
        if not is_late and edge <= other.allowed - unit:
            self.breaks("window", segment, f"takes back {other.allowed - edge} bytes of its window")
        other.allowed = max(other.allowed, edge)


class Examination:
    def __init__(self, port, watches_devices):
        self.port = port
        self.watches_devices = watches_devices
        self.connections = []
        self.latest = {}    # by the client's and the server's end

    def look(self, segment, is_at_client):
        """At each segment of all captures, in order of time."""
        is_from_client = segment.target[1] == self.port
        if not is_from_client and segment.source[1] != self.port:
            return
        ends = (segment.source, segment.target) if is_from_client else (segment.target, segment.source)
        connection = self.latest.get(ends)
        if is_at_client:
            connection = self._opened(ends, segment, connection) or connection
            connection.look(segment, is_from_client)
        elif is_from_client and connection:
            connection.arrive(segment)

    def _opened(self, ends, segment, old):
        """The new connection if the segment is the first of one."""
        opens = segment.flags & (SYN | ACK) == SYN
        if old and not (opens and old.from_client.syn and segment.sequence != old.from_client.syn.sequence):
            return None
        if old and not old.is_over():
            old.breaks("opening", segment, "opens a connection that is open")
        self.latest[ends] = Connection(ends[0], self.watches_devices)
        self.connections.append(self.latest[ends])
        return self.latest[ends]


def marked(path, is_at_client):
    return ((segment, is_at_client) for segment in segments(path))


def examine(client_path, device_paths=(), port=2049):
    """The connections of a capture. CaptureError if a file cannot be read."""
    examination = Examination(port, bool(device_paths))
    files = [marked(client_path, True)] + [marked(path, False) for path in device_paths]
    for segment, is_at_client in heapq.merge(*files, key=lambda entry: entry[0].time_ns):
        examination.look(segment, is_at_client)
    for connection in examination.connections:
        connection.finish()
    return examination.connections


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--port", type=int, default=2049)
    parser.add_argument("client")
    parser.add_argument("device", nargs="*")
    options = parser.parse_args()
    try:
        connections = examine(options.client, options.device, options.port)
    except (CaptureError, OSError) as error:
        print(f"tcp_rules: {error}", file=sys.stderr)
        return 1
    for connection in connections:
        print(connection)
        for rule, cases in connection.broken.items():
            print(f"    {rule}: {len(cases)} times, the first: {cases[0]}")
    if not connections:
        print(f"no connection to port {options.port}")
    return 1 if not connections or any(connection.broken for connection in connections) else 0


if __name__ == "__main__":
    sys.exit(main())
