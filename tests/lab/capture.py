# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/capture.py - the TCP segments in a capture of the wire

Reads pcap and pcapng files of Ethernet. Takes lengths from the IP header, so also frames that were cut off, and a
card's super-packets that are longer than IP can say. What is no TCP over IPv4 or IPv6 is passed over, fragments too.

Knows nothing of connections (tcp_rules.py).
"""

import ipaddress
import struct
from dataclasses import dataclass, field

FIN, SYN, RST, ACK = 1, 2, 4, 16

IPV4, IPV6, VLAN, TCP = 0x0800, 0x86dd, 0x8100, 6
ETHERNET = 1                  # LINKTYPE_ETHERNET
FRAGMENT = 0x3fff             # more fragments, or an offset
END, NOP, SCALE, SACK, TIMESTAMPS = 0, 1, 3, 5, 8

PCAP = {b"\xd4\xc3\xb2\xa1": ("<", 1000), b"\xa1\xb2\xc3\xd4": (">", 1000),
        b"\x4d\x3c\xb2\xa1": ("<", 1), b"\xa1\xb2\x3c\x4d": (">", 1)}    # byte order, nanoseconds of its unit
PCAPNG_SECTION, PCAPNG_INTERFACE, PCAPNG_PACKET = 0x0a0d0d0a, 1, 6
PCAPNG_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
PCAPNG_RESOLUTION = 9         # the option if_tsresol
NS_PER_S = 1_000_000_000


class CaptureError(Exception):
    """A file that cannot be read as a capture."""


@dataclass(slots=True)
class Segment:
    time_ns: int
    source: tuple             # (address, port)
    target: tuple
    flags: int
    sequence: int
    acknowledgment: int
    window: int               # as it stands there, without scale
    length: int               # of the payload on the wire
    payload: bytes            # shorter if the capture cut it off
    scale: int | None = None
    timestamp: int | None = None    # TSval
    sack: list = field(default_factory=list)    # [(left, right)...]


# Files


def _exactly(capture, length):
    got = capture.read(length)
    if len(got) < length:
        raise CaptureError(f"{capture.name} ends within a packet")
    return got


def _pcap(capture, order, unit_ns):
    _, _, _, _, _, link = struct.unpack(order + "HHiIII", _exactly(capture, 20))
    if link != ETHERNET:
        raise CaptureError(f"{capture.name} is of link type {link}, not Ethernet")
    while head := capture.read(16):
        if len(head) < 16:
            raise CaptureError(f"{capture.name} ends within a packet")
        seconds, units, kept, length = struct.unpack(order + "IIII", head)
        yield seconds * NS_PER_S + units * unit_ns, _exactly(capture, kept), length


def _pcapng_unit_ns(order, options):
    """Of an interface's times, as a fraction (numerator, denominator)."""
    while len(options) >= 4:
        kind, length = struct.unpack_from(order + "HH", options)
        if kind == PCAPNG_RESOLUTION and length == 1 and len(options) > 4:
            resolution = options[4]
            return NS_PER_S, 2 ** (resolution & 127) if resolution & 128 else 10 ** resolution
        options = options[4 + (length + 3) // 4 * 4:]
    return NS_PER_S, 10 ** 6


def _pcapng(capture):
    capture.seek(0)
    order, units = "<", []
    while head := capture.read(8):
        if len(head) == 8 and head[:4] == b"\x0a\x0d\x0d\x0a":
            order, units = PCAPNG_ORDER.get(capture.read(4)), []
            capture.seek(-4, 1)
        if len(head) < 8 or order is None:
            raise CaptureError(f"{capture.name} has a broken block")
        kind, length = struct.unpack(order + "II", head)
        if length < 12:
            raise CaptureError(f"{capture.name} has a block of {length} bytes")
        body = _exactly(capture, length - 8)[:-4]
        if kind == PCAPNG_INTERFACE:
            if struct.unpack_from(order + "H", body)[0] != ETHERNET:
                raise CaptureError(f"{capture.name} has an interface that is not Ethernet")
            units.append(_pcapng_unit_ns(order, body[8:]))
        elif kind == PCAPNG_PACKET:
            interface, high, low, kept, whole = struct.unpack_from(order + "IIIII", body)
            numerator, denominator = units[interface]
            yield ((high << 32) + low) * numerator // denominator, body[20:20 + kept], whole


def frames(path):
    """(nanoseconds, the frame as far as it was kept, its length on the wire) for each frame."""
    with open(path, "rb") as capture:
        magic = capture.read(4)
        if magic in PCAP:
            yield from _pcap(capture, *PCAP[magic])
        elif magic == b"\x0a\x0d\x0d\x0a":
            yield from _pcapng(capture)
        else:
            raise CaptureError(f"{path} is no capture")


# Frames


def _network(frame, length):
    """(source, target, offset of TCP, its length); None if it isn't a whole TCP packet."""
    at, kind = 14, int.from_bytes(frame[12:14], "big")
    if kind == VLAN:
        at, kind = 18, int.from_bytes(frame[16:18], "big")
    if kind == IPV4 and frame[at + 9] == TCP and not int.from_bytes(frame[at + 6:at + 8], "big") & FRAGMENT:
        header = (frame[at] & 15) * 4
        total = int.from_bytes(frame[at + 2:at + 4], "big") or length - at
        return frame[at + 12:at + 16], frame[at + 16:at + 20], at + header, total - header
    if kind == IPV6 and frame[at + 6] == TCP:
        payload = int.from_bytes(frame[at + 4:at + 6], "big") or length - at - 40
        return frame[at + 8:at + 24], frame[at + 24:at + 40], at + 40, payload
    return None


def _options(segment, options):
    while options and options[0] != END:
        if options[0] == NOP:
            options = options[1:]
            continue
        if len(options) < 2 or not 2 <= options[1] <= len(options):
            raise CaptureError(f"a segment at {segment.time_ns} ns has broken options")
        kind, value = options[0], options[2:options[1]]
        if kind == SCALE:
            segment.scale = value[0]
        elif kind == TIMESTAMPS:
            segment.timestamp = int.from_bytes(value[:4], "big")
        elif kind == SACK:
            segment.sack = list(struct.iter_unpack("!II", value))
        options = options[options[1]:]


def _segment(time_ns, frame, length):
    """IndexError or struct.error if its headers were cut off."""
    place = _network(frame, length)
    if place is None:
        return None
    source, target, at, tcp_length = place
    ports = struct.unpack_from("!HH", frame, at)
    sequence, acknowledgment, offset, flags, window = struct.unpack_from("!IIBBH", frame, at + 4)
    start = at + (offset >> 4) * 4
    if start > len(frame):
        raise IndexError
    segment = Segment(time_ns, (source, ports[0]), (target, ports[1]), flags, sequence, acknowledgment, window,
                      tcp_length - (start - at), frame[start:at + tcp_length])
    _options(segment, frame[at + 20:start])
    return segment


def segments(path):
    for frame in frames(path):
        try:
            segment = _segment(*frame)
        except (IndexError, struct.error):
            raise CaptureError(f"{path}: a frame at {frame[0]} ns was cut off within its headers") from None
        if segment:
            yield segment


def endpoint_text(endpoint):
    return f"{ipaddress.ip_address(endpoint[0])} port {endpoint[1]}"
