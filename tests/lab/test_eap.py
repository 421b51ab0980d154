#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_eap.py - who may tell the switch where a session goes, and who may speak in it

If this fails, somebody who listens on the devices' network, a client, or a disk that lost its mind takes users'
sessions away or breaks them; or each handoff waits for the switch's daemon.

What disk1 says when it gives a session away is heard on the wire and then sent again: as it was, changed, and from
elsewhere. Each refusal must be counted and logged, and change nothing. tests/platform/test_eap.c has the cases for
which one needs a key.
"""

import errno
import os
import socket
import sqlite3
import ssl
import struct
import sys
import time

import harness
import raw_nfs

PORT = 2050          # scp_port, of TCP and UDP
HELLO, EAP, EAP_REPLY = 1, 70, 71
DATAGRAM_BYTES = 76  # docs/protocol.md, EAP
MESSAGE_BYTES = 52   # of them what goes over SCP, too
OPERATION_AT, NONCE_AT, CLIENT_PORT_AT, TRANSACTION_AT, DEVICE_AT, COUNTER_AT = 0, 1, 5, 9, 16, 60
CHANGE = 0x12        # version 1, operation 2
UDP_AT = 14 + 20
PAYLOAD_AT = UDP_AT + 8
ETH_P_ALL = 3
NO_MEMBER = 77
UNUSED_PORTS = 5, 6  # of no client
FLOOD = 200
LOG_S = 3            # the switch looks each second (EAP_SERVICE_LOOK_MS)
PATIENCE_S = 15
GRACE_S = 6          # a device relays for 5 s after the switch has confirmed (TCH_GRACE_MS)
REST_S = 1.2         # after a handoff a session stays for a second


def frames(lab, host):
    """A socket that hears and sends whole frames."""
    raw = raw_nfs.socket_in(lab.netns(host), socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind(("eth0", ETH_P_ALL))
    raw.settimeout(2)
    return raw


def is_request(frame):
    return (len(frame) == PAYLOAD_AT + DATAGRAM_BYTES and frame[23] == socket.IPPROTO_UDP and
            struct.unpack_from("!H", frame, UDP_AT + 2)[0] == PORT and frame[PAYLOAD_AT] == CHANGE)


def heard(raw):
    while True:
        frame = raw.recv(2048)
        if is_request(frame):
            return frame


def changed(frame, at, value):
    """Without a checksum: else the change would be found by it, had the frame to pass an IP stack."""
    frame = bytearray(frame)
    struct.pack_into("!H", frame, UDP_AT + 6, 0)
    frame[PAYLOAD_AT + at:PAYLOAD_AT + at + len(value)] = value
    return bytes(frame)


def with_later_counter(frame):
    counter, = struct.unpack_from("!Q", frame, PAYLOAD_AT + COUNTER_AT)
    return changed(frame, COUNTER_AT, struct.pack("!Q", counter + 1000))


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def reset_of(lab, client, frame):
    """A RST to the client from the VIP, with the MAC addresses of @frame."""
    source, target = socket.inet_aton(lab.vip), socket.inet_aton(client.local[0])
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, socket.IPPROTO_TCP, 0, source, target)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    tcp = struct.pack("!HHIIBBHHH", raw_nfs.NFS_PORT, client.local[1], 1, 1, 5 << 4, 4, 0, 0, 0)
    tcp = tcp[:16] + struct.pack("!H", checksum(source + target + struct.pack("!HH", 6, len(tcp)) + tcp)) + tcp[18:]
    return frame[:12] + b"\x08\x00" + ip + tcp


def send_datagram(lab, host, payload):
    with raw_nfs.socket_in(lab.netns(host), socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(payload, (lab.hosts["switch"]["address"], PORT))


class Session:
    """A client's connection that is handed around."""

    def __init__(self, test, lab, client):
        self.test, self.lab, self.client = test, lab, client
        self.root = client.mount("/")
        test.within(10, "the session is in the list", self.row)
        self.id = self.row()["id"]

    def row(self):
        return self.lab.session(*self.client.local[:2])

    def move(self, node):
        def is_moved():
            try:
                self.lab.nasctl("handoff", self.id, str(node))
            except harness.daemon.DaemonError:
                return False
            return True
        self.test.within(10, f"node {node} takes the session", is_moved)

    def is_with(self, node):
        return self.row()["node"] == node and self.client.getattr(self.root)


def refused(test, lab, session, what, counter, send):
    """@send sends it once; the session is with disk1."""
    before = lab.counter("switch", "fabric", counter)
    send()
    test.within(10, f"{what}: counted", lambda: lab.counter("switch", "fabric", counter) == before + 1)
    test.within(PATIENCE_S, f"{what}: logged", lambda: f"reason={counter} " in lab.log("switch"))
    test.check(f"{what}: nothing moved", session.is_with(2))


def performed(test, lab, session):
    """Hears what disk1 says when it gives the session to disk2."""
    before = lab.counter("switch", "fabric", "eap_performed")
    with frames(lab, "disk1") as wire:
        session.move(3)
        frame = heard(wire)
    test.within(10, "the switch has performed a datagram",
                lambda: lab.counter("switch", "fabric", "eap_performed") > before)
    test.check("disk1 did not ask its daemon", lab.counter("disk1", "eap", "scp_asked") == 0)
    test.within(10, "the session is with disk2", lambda: session.is_with(3))
    return frame


def refusals(test, lab, session, frame):
    payload = frame[PAYLOAD_AT:]
    lab.run("client1", "ip", "route", "add", f"{lab.hosts['switch']['address']}/32", "via", lab.vip)
    with frames(lab, "disk1") as disk1, frames(lab, "disk2") as disk2:
        refused(test, lab, session, "the same again", "eap_replayed", lambda: disk1.send(frame))
        refused(test, lab, session, "with a later counter", "eap_forged", lambda: disk1.send(with_later_counter(frame)))
        refused(test, lab, session, "of another version", "eap_malformed",
                lambda: disk1.send(changed(frame, OPERATION_AT, bytes([CHANGE + 0x10]))))
        refused(test, lab, session, "from a client", "eap_stranger", lambda: send_datagram(lab, "client1", payload))
        refused(test, lab, session, "from another disk", "eap_stranger", lambda: send_datagram(lab, "disk2", payload))
        refused(test, lab, session, "from another disk with disk1's MAC", "eap_replayed", lambda: disk2.send(frame))
        lines = lab.log("switch").count("refused")
        for _ in range(FLOOD):
            disk1.send(with_later_counter(frame))
        time.sleep(LOG_S)
        test.check("many are not many lines in the log", lab.log("switch").count("refused") == lines)


def former_owner(test, lab, session):
    """disk2 had the session, and its kernel has forgotten that it is not to speak in it."""
    with frames(lab, "disk1") as wire:
        session.move(3)
        heard(wire)
    with frames(lab, "disk2") as wire:
        session.move(2)
        frame = heard(wire)
        time.sleep(GRACE_S)
        refused(test, lab, session, "disk2 resets a session that it gave away", "device_former_owner",
                lambda: wire.send(reset_of(lab, session.client, frame)))


class Member:
    """Speaks SCP with disk2's certificate, and lies."""

    def __init__(self, lab):
        pki = os.path.join(lab.hosts["disk2"]["state_dir"], "pki")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(os.path.join(pki, "ca.crt"))
        context.load_cert_chain(os.path.join(pki, "node.crt"), os.path.join(pki, "node.key"))
        plain = raw_nfs.socket_in(lab.netns("disk2"))
        plain.settimeout(5)
        plain.connect((lab.hosts["switch"]["address"], PORT))
        self.tls = context.wrap_socket(plain)
        self._send(HELLO, 0, struct.pack("!IIII", 1, 1, 0, 3) + cluster_of(lab) +
                   b"".join(map(raw_nfs.opaque, (b"liar", b"disk2", lab.hosts["disk2"]["address"].encode()))) +
                   struct.pack("!I", PORT) + bytes(8) + struct.pack("!IQ", 3, 0) + raw_nfs.opaque(b""))

    def _send(self, kind, request, body):
        self.tls.sendall(struct.pack("!4sHHIII", b"SCP1", kind, 0, request, len(body) + 4, kind) + body)

    def _receive(self, count):
        data = b""
        while len(data) < count:
            more = self.tls.recv(count - len(data))
            if not more:
                raise harness.Failed("the switch has closed the session")
            data += more
        return data

    def ask(self, message):
        """What the switch says to an EAP message: an errno value."""
        self._send(EAP, 7, raw_nfs.opaque(message))
        while True:
            _, kind, _, _, length = struct.unpack("!4sHHII", self._receive(16))
            body = self._receive(length)
            if kind == EAP_REPLY:
                return struct.unpack_from("!i", body, 8 + len(message))[0]


def cluster_of(lab):
    database = sqlite3.connect(os.path.join(lab.hosts["switch"]["state_dir"], "vroot.sqlite"), timeout=10)
    uuid, = database.execute("SELECT uuid FROM cluster").fetchone()
    database.close()
    return uuid


def message_of(frame, device, port=None):
    """disk2 wants to give the flow of @frame to @device, after all handoffs so far; or one from another port."""
    message = bytearray(frame[PAYLOAD_AT:PAYLOAD_AT + MESSAGE_BYTES])
    message[NONCE_AT:NONCE_AT + 3] = b"\0\0\3"
    struct.pack_into("!H", message, TRANSACTION_AT, 0x7f00)
    struct.pack_into("!I", message, DEVICE_AT, device)
    if port is not None:
        struct.pack_into("!H", message, CLIENT_PORT_AT, port)
    return bytes(message)


def over_scp(test, lab, session, frame):
    """
    disk2 asks for what is not its own, and says that it is disk1. The session is with disk1, and another with the switch. Asked
    again, each second, would be what is answered with another error than ESTALE.
    """
    before = lab.counter("switch", "eap", "refused_over_scp")
    lab.stop("disk2")
    member = Member(lab)
    test.check("over SCP, as another disk",
               member.ask(frame[PAYLOAD_AT:PAYLOAD_AT + MESSAGE_BYTES]) == errno.EACCES)
    test.check("over SCP, what disk1 says to have", member.ask(message_of(frame, 1)) == errno.ESTALE)
    with lab.client() as client:
        root = client.mount("/")
        test.check("over SCP, what a client has opened anew",
                   member.ask(message_of(frame, 2, client.local[1])) == errno.ESTALE)
        test.check("... and goes on with", client.getattr(root))
    port = UNUSED_PORTS[0]
    test.check("over SCP, what nobody has", member.ask(message_of(frame, 3, port)) == 0)
    test.check("... and gives to who is no member", member.ask(message_of(frame, NO_MEMBER, port)) == errno.ESTALE)
    test.check("... and has no more", member.ask(message_of(frame, 2, port)) == errno.ESTALE)
    member.tls.close()
    test.check("all are counted", lab.counter("switch", "eap", "refused_over_scp") == before + 4)
    test.check("... and logged", all(f"node=3 refused: {os.strerror(error)}" in lab.log("switch")
                                     for error in (errno.EACCES, errno.EPERM, errno.ENODEV)))
    test.check("nothing moved", session.is_with(2))
    lab.start("disk2")


def given_to_the_dead(test, lab, frame):
    """disk1 dies, and the switch takes its flows back; then disk2 says that it has given it one more."""
    def times():
        return lab.log("switch").count("node=2 has been away")

    before = times()
    lab.kill("disk1")
    test.within(10, "the switch takes the flows of the dead disk1", lambda: times() == before + 1)
    lab.stop("disk2")
    member = Member(lab)
    test.check("what it was given before is heard of later", member.ask(message_of(frame, 2, UNUSED_PORTS[1])) == 0)
    test.within(10, "... and taken, too", lambda: times() == before + 2)
    member.tls.close()


def created(client, directory):
    """A file, as soon as its disk serves: it may have been started just now."""
    for _ in range(50):
        try:
            return client.create(directory, "file")
        except raw_nfs.Status as error:
            if error.status != raw_nfs.JUKEBOX:
                raise
            time.sleep(0.1)
    raise harness.Failed("the disk does not come back")


def works(client, root, volume):
    """Enough on a disk's data to be moved there by policy."""
    file = created(client, client.walk(root, volume))
    for i in range(64):
        client.write(file, i << 16, bytes(1 << 16))


def without_daemon(test, lab, session):
    answered = lab.counter("disk1", "eap", "answered")
    time.sleep(REST_S)
    lab.kill("switch")
    lab.kill("disk2")
    lab.start("disk2")
    works(session.client, session.root, "disk1")
    test.within(10, "without a daemon the switch answers disk1",
                lambda: lab.counter("disk1", "eap", "answered") >= answered + 2)
    test.check("... which has nothing to ask over SCP", lab.counter("disk1", "eap", "scp_asked") == 0)
    answered = lab.counter("disk2", "eap", "answered")
    time.sleep(REST_S)
    works(session.client, session.root, "disk0")
    test.within(10, "... and disk2, which was restarted meanwhile",
                lambda: lab.counter("disk2", "eap", "answered") >= answered + 2)
    lab.start("switch")
    test.within(10, "the daemon knows of it when it is back", lambda: session.row() and session.is_with(2))


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    with lab.client() as client:
        session = Session(test, lab, client)
        session.move(2)
        frame = performed(test, lab, session)
        session.move(2)
        test.within(10, "the session is with disk1", lambda: session.is_with(2))
        refusals(test, lab, session, frame)
        over_scp(test, lab, session, frame)
        former_owner(test, lab, session)
        without_daemon(test, lab, session)
    given_to_the_dead(test, lab, frame)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
