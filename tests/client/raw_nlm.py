# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/client/raw_nlm.py - NLM and NSM byte by byte, both ways: a client's calls, and what a server calls it for

A Locker calls over a raw_nfs.Client; a Peer is the client's port mapper, lock manager and status monitor: sockets
that are looked at in Peer.serve() only, so a test says when the client answers.
"""

import select
import socket
import struct
import time

import raw_nfs
from raw_nfs import opaque

NLM, NSM = 100021, 100024
TEST, LOCK, CANCEL, UNLOCK, GRANTED = 1, 2, 3, 4, 5
LOCK_MSG, LOCK_RES = 7, 12
SM_NOTIFY = 6
OK, DENIED, NOLOCKS, BLOCKED, GRACE, DEADLOCK, FAILED = 0, 1, 2, 3, 4, 5, 9
PORTMAP_PORT = 111


def lock_body(name, handle, svid, offset, length):
    return (opaque(name.encode()) + opaque(handle) + opaque(f"{svid}@{name}".encode()) +
            struct.pack(">IQQ", svid, offset, length))


class Locker:
    """NLM version 4 of one client. Each call returns the status."""

    def __init__(self, client, name):
        self.client, self.name = client, name
        self.cookie = 0

    def arguments(self, flags, handle, svid, offset, length, behind=b""):
        self.cookie += 1
        return (opaque(struct.pack(">I", self.cookie)) + struct.pack(f">{len(flags)}I", *flags) +
                lock_body(self.name, handle, svid, offset, length) + behind)

    def _call(self, procedure, arguments):
        reply = self.client.call(NLM, 4, procedure, arguments)
        if reply.opaque() != struct.pack(">I", self.cookie):
            raise AssertionError("another call's cookie")
        return reply.u32(), reply

    def lock_arguments(self, handle, svid, offset=0, length=0, block=False, reclaim=False):
        return self.arguments((block, True), handle, svid, offset, length, struct.pack(">II", reclaim, 1))

    def lock(self, *arguments, **more):
        return self._call(LOCK, self.lock_arguments(*arguments, **more))[0]

    def unlock(self, handle, svid, offset=0, length=0):
        return self._call(UNLOCK, self.arguments((), handle, svid, offset, length))[0]

    def cancel(self, handle, svid, offset=0, length=0):
        return self._call(CANCEL, self.arguments((True, True), handle, svid, offset, length))[0]

    def test(self, handle, svid, offset=0, length=0):
        """None if it is free, else the holder's (svid, offset, length)."""
        status, reply = self._call(TEST, self.arguments((True,), handle, svid, offset, length))
        if status == OK:
            return None
        if status != DENIED:
            raise raw_nfs.Status(status)
        reply.u32()
        holder = reply.u32()
        reply.opaque()
        return holder, reply.u64(), reply.u64()


class Peer:
    def __init__(self, netns, address, over_tcp=False):
        """@over_tcp: the programs are there over TCP only."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.portmap = raw_nfs.socket_in(netns, family, socket.SOCK_DGRAM)
        self.portmap.bind((address, PORTMAP_PORT))
        self.over_tcp = over_tcp
        self.programs = raw_nfs.socket_in(netns, family, socket.SOCK_STREAM if over_tcp else socket.SOCK_DGRAM)
        self.programs.bind((address, 0))
        if over_tcp:
            self.programs.listen()
        self.address, self.port = self.programs.getsockname()[:2]
        self.is_silent = False
        self.granted = []     # (address it came from, svid, offset, length)
        self.notices = []     # (address it came from, name, state)
        self.results = []     # of _MSG procedures: (address it came from, cookie, status)

    def close(self):
        self.portmap.close()
        self.programs.close()

    def _granted(self, source, arguments):
        cookie = arguments.opaque()
        arguments.u32()
        for _ in range(3):
            arguments.opaque()
        self.granted.append((source, arguments.u32(), arguments.u64(), arguments.u64()))
        return opaque(cookie) + struct.pack(">I", OK)

    def _getport(self, arguments):
        """Of version 2: a port, or 0."""
        program, _, protocol = (arguments.u32() for _ in range(3))
        known = program in (NLM, NSM) and protocol == (socket.IPPROTO_TCP if self.over_tcp else socket.IPPROTO_UDP)
        return struct.pack(">I", self.port if known else 0)

    def _getaddr(self, arguments):
        """Of versions 3 and 4: a universal address (RFC 5665), or ""."""
        program, _ = arguments.u32(), arguments.u32()
        known = program in (NLM, NSM) and arguments.opaque() == (b"tcp6" if self.over_tcp else b"udp6")
        return opaque(f"{self.address}.{self.port >> 8}.{self.port & 255}".encode() if known else b"")

    def _answer(self, program, version, procedure, source, arguments):
        """The results of a call; None: no such program."""
        if program == raw_nfs.PORTMAP:
            return self._getport(arguments) if version == 2 else self._getaddr(arguments)
        if (program, procedure) == (NLM, GRANTED):
            return self._granted(source, arguments)
        if (program, procedure) == (NLM, LOCK_RES):
            self.results.append((source, arguments.opaque(), arguments.u32()))
            return b""
        if (program, procedure) == (NSM, SM_NOTIFY):
            self.notices.append((source, arguments.opaque().decode(), arguments.u32()))
            return b""
        return None

    def _reply(self, message, source):
        """The reply to a call; None: none."""
        call = raw_nfs.Reader(message)
        xid, _, _, program, version, procedure = (call.u32() for _ in range(6))
        for _ in range(2):
            call.u32()
            call.opaque()
        if self.is_silent:
            return None
        results = self._answer(program, version, procedure, source[0], call)
        return struct.pack(">IIIIII", xid, 1, 0, 0, 0, 0 if results is not None else 1) + (results or b"")

    def _serve_datagram(self, server):
        datagram, source = server.recvfrom(65536)
        reply = self._reply(datagram, source)
        if reply:
            server.sendto(reply, source)

    def _serve_connection(self, server):
        """One call; of one fragment, and what is so short comes whole."""
        connection, source = server.accept()
        with connection:
            connection.settimeout(5)
            length = struct.unpack(">I", connection.recv(4, socket.MSG_WAITALL))[0] & 0x7fffffff
            reply = self._reply(connection.recv(length, socket.MSG_WAITALL), source)
            if reply:
                connection.sendall(struct.pack(">I", 1 << 31 | len(reply)) + reply)

    def _serve_one(self, server):
        if self.over_tcp and server is self.programs:
            self._serve_connection(server)
        else:
            self._serve_datagram(server)

    def serve(self, seconds, is_enough=lambda: False):
        """Answer calls until then, or until there were enough; returns whether there were."""
        end = time.monotonic() + seconds
        while not is_enough() and time.monotonic() < end:
            for server in select.select([self.portmap, self.programs], [], [], 0.1)[0]:
                self._serve_one(server)
        return is_enough()


class Datagrams:
    """Calls over UDP, as status monitors and old clients make them."""

    def __init__(self, netns, server, port=raw_nfs.NFS_PORT, timeout_s=5.0):
        self.server = (server, port)
        self.socket = raw_nfs.socket_in(netns, kind=socket.SOCK_DGRAM)
        self.socket.settimeout(timeout_s)
        self.xid = 1

    def close(self):
        self.socket.close()

    def call(self, program, version, procedure, arguments):
        """The results; None without an answer."""
        self.xid += 1
        self.socket.sendto(raw_nfs.call_body(self.xid, program, version, procedure, arguments), self.server)
        try:
            reply = self.socket.recv(65536)
        except socket.timeout:
            return None
        if struct.unpack_from(">IIIIII", reply) != (self.xid, 1, 0, 0, 0, 0):
            raise AssertionError("not an answer to that")
        return raw_nfs.Reader(reply[24:])

    def notify(self, name, state):
        """SM_NOTIFY: this client has restarted. Whether it was answered."""
        return self.call(NSM, 1, SM_NOTIFY, opaque(name.encode()) + struct.pack(">I", state)) is not None
