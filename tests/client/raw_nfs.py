# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/client/raw_nfs.py - NFSv3 and MOUNT calls byte by byte, with the standard library only

For tests that need what a client library hides: file handles that are kept across a failure, the bare status of an
answer, records that no client would send. One connection, one call at a time; a lost connection is ConnectionLost.
"""

import ctypes
import os
import socket
import struct

NFS, MOUNT, PORTMAP = 100003, 100005, 100000
NFS_PORT = 2049
OK, NOENT, STALE, BADHANDLE, JUKEBOX = 0, 2, 70, 10001, 10008
EXIST = 17
UNSTABLE, DATA_SYNC, FILE_SYNC = 0, 1, 2
LAST_FRAGMENT = 0x80000000
CLONE_NEWNET = 0x40000000


class ConnectionLost(Exception):
    pass


class Refused(Exception):
    """An answer that is an RPC error: unknown program, arguments that can't be decoded..."""

    def __init__(self, status):
        super().__init__(f"RPC status {status}")
        self.status = status


class Status(Exception):
    """An NFS or MOUNT status other than OK."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


def status_of(function, *arguments):
    """OK, or the status with which a call of a Client ends."""
    try:
        function(*arguments)
    except Status as error:
        return error.status
    return OK


def socket_in(netns, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
    """A socket of another network namespace (the path of it; None: this one). Not for programs with threads."""
    if netns is None:
        return socket.socket(family, kind, protocol)
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", encoding="ascii") as ours, open(netns, encoding="ascii") as theirs:
        if libc.setns(theirs.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {netns}")
        try:
            return socket.socket(family, kind, protocol)
        finally:
            libc.setns(ours.fileno(), CLONE_NEWNET)


def opaque(data):
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


def call_body(xid, program, version, procedure, arguments=b"", auth=True, user=(0, 0, ())):
    credentials = struct.pack(">II", 0, 0)
    if auth:    # AUTH_SYS: stamp, machine name, uid, gid, more groups
        uid, gid, groups = user
        credentials = struct.pack(">I", 1) + opaque(struct.pack(">I", 0) + opaque(b"raw") + struct.pack(
            f">III{len(groups)}I", uid, gid, len(groups), *groups))
    return (struct.pack(">IIIIII", xid, 0, 2, program, version, procedure) + credentials + struct.pack(">II", 0, 0) +
            arguments)


def record(body):
    return struct.pack(">I", LAST_FRAGMENT | len(body)) + body


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def u32(self):
        value, = struct.unpack_from(">I", self.data, self.at)
        self.at += 4
        return value

    def u64(self):
        return self.u32() << 32 | self.u32()

    def bytes(self, count):
        value = self.data[self.at:self.at + count]
        self.at += count + -count % 4
        return value

    def opaque(self):
        return self.bytes(self.u32())

    def post_op_attributes(self):
        return self.bytes(84) if self.u32() else None

    def wcc(self):
        if self.u32():
            self.bytes(24)
        self.post_op_attributes()


class Datagrams:
    """Calls over UDP; each is sent once."""

    def __init__(self, server, netns=None, port=NFS_PORT, timeout_s=20.0):
        self.socket = socket_in(netns, socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(timeout_s)
        self.socket.connect((server, port))

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def exchange(self, body):
        self.socket.send(body)
        return self.socket.recv(65536)


class Client:
    def __init__(self, server, netns=None, port=NFS_PORT, timeout_s=20.0, source=None):
        """@source: (address, port) to come from."""
        self.socket = socket_in(netns, socket.AF_INET6 if ":" in server else socket.AF_INET)
        self.socket.settimeout(timeout_s)
        if source:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(source)
        self.socket.connect((server, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local = self.socket.getsockname()[:2]
        self.xid = int.from_bytes(os.urandom(4), "big")
        self.user = (0, 0, ())    # uid, gid, groups; None: AUTH_NONE

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Records

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ConnectionLost(str(error)) from None

    def _receive(self, count):
        data = bytearray()
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError as error:
                raise ConnectionLost(str(error)) from None
            if not more:
                raise ConnectionLost("closed by the server")
            data += more
        return bytes(data)

    def receive_record(self):
        whole, last = b"", False
        while not last:
            mark, = struct.unpack(">I", self._receive(4))
            last = mark & LAST_FRAGMENT
            whole += self._receive(mark & ~LAST_FRAGMENT)
        return whole

    # Calls

    def exchange(self, body):
        """Send a call message as it is; the reply message as it comes."""
        self.send(record(body))
        return self.receive_record()

    def send_call(self, body):
        self.send(record(body))

    def call(self, program, version, procedure, arguments=b"", auth=True):
        self.xid = (self.xid + 1) & 0xffffffff
        self.send_call(call_body(self.xid, program, version, procedure, arguments, auth and self.user is not None,
                                 self.user or (0, 0, ())))
        return self.answer(self.xid)

    def answer(self, xid):
        reply = Reader(self.receive_record())
        if (reply.u32(), reply.u32()) != (xid, 1):
            raise AssertionError("an answer to something else")
        if reply.u32():    # MSG_DENIED
            raise Refused(-1)
        reply.u32()
        reply.opaque()
        status = reply.u32()
        if status:
            raise Refused(status)
        return reply

    def _nfs(self, procedure, arguments):
        reply = self.call(NFS, 3, procedure, arguments)
        status = reply.u32()
        if status:
            raise Status(status)
        return reply

    def null(self):
        self.call(NFS, 3, 0)

    def mount(self, path):
        """The root's handle."""
        reply = self.call(MOUNT, 3, 1, opaque(path.encode()))
        status = reply.u32()
        if status:
            raise Status(status)
        return reply.opaque()

    def getattr(self, handle):
        """(type, size, fsid, fileid)"""
        reply = self._nfs(1, opaque(handle))
        kind = reply.u32()
        reply.bytes(16)
        size = reply.u64()
        reply.bytes(16)
        return kind, size, reply.u64(), reply.u64()

    def lookup(self, directory, name):
        return self._nfs(3, opaque(directory) + opaque(name.encode())).opaque()

    def walk(self, handle, path):
        for name in filter(None, path.split("/")):
            handle = self.lookup(handle, name)
        return handle

    def read(self, handle, offset, count):
        reply = self._nfs(6, opaque(handle) + struct.pack(">QI", offset, count))
        reply.post_op_attributes()
        reply.u32()
        reply.u32()
        return reply.opaque()

    def write(self, handle, offset, data):
        """FILE_SYNC. Returns how much was written."""
        reply = self._nfs(7, opaque(handle) + struct.pack(">QII", offset, len(data), 2) + opaque(data))
        reply.wcc()
        return reply.u32()

    def write_as(self, handle, offset, data, stable):
        """@stable: UNSTABLE, DATA_SYNC or FILE_SYNC. (how much was written, how stable that is, the write verifier)"""
        reply = self._nfs(7, opaque(handle) + struct.pack(">QII", offset, len(data), stable) + opaque(data))
        reply.wcc()
        return reply.u32(), reply.u32(), reply.bytes(8)

    def commit(self, handle):
        """The whole file. The write verifier."""
        reply = self._nfs(21, opaque(handle) + struct.pack(">QI", 0, 0))
        reply.wcc()
        return reply.bytes(8)

    def set_mode(self, handle, mode):
        self._nfs(2, opaque(handle) + struct.pack(">IIIIIIII", 1, mode, 0, 0, 0, 0, 0, 0))

    def set_size(self, handle, size):
        self._nfs(2, opaque(handle) + struct.pack(">IIIIQIII", 0, 0, 0, 1, size, 0, 0, 0))

    def _made(self, reply):
        return reply.opaque() if reply.u32() else None

    def create(self, directory, name):
        """UNCHECKED, mode 0644."""
        return self._made(self._nfs(8, opaque(directory) + opaque(name.encode()) +
                                    struct.pack(">IIIIIIII", 0, 1, 0o644, 0, 0, 0, 0, 0)))

    def mkdir(self, directory, name):
        return self._made(self._nfs(9, opaque(directory) + opaque(name.encode()) +
                                    struct.pack(">IIIIIII", 1, 0o755, 0, 0, 0, 0, 0)))

    def symlink(self, directory, name, target):
        return self._made(self._nfs(10, opaque(directory) + opaque(name.encode()) + struct.pack(
            ">IIIIII", 0, 0, 0, 0, 0, 0) + opaque(target.encode())))

    def rmdir(self, directory, name):
        self._nfs(13, opaque(directory) + opaque(name.encode()))

    def rename(self, from_directory, from_name, to_directory, to_name):
        self._nfs(14, opaque(from_directory) + opaque(from_name.encode()) + opaque(to_directory) +
                  opaque(to_name.encode()))

    def link(self, handle, directory, name):
        self._nfs(15, opaque(handle) + opaque(directory) + opaque(name.encode()))

    def remove(self, directory, name):
        self._nfs(12, opaque(directory) + opaque(name.encode()))

    def names(self, directory):
        found, cookie, verifier, end = [], 0, bytes(8), False
        while not end:
            reply = self._nfs(16, opaque(directory) + struct.pack(">Q", cookie) + verifier + struct.pack(">I", 65536))
            reply.post_op_attributes()
            verifier = reply.bytes(8)
            while reply.u32():
                reply.u64()
                found.append(reply.opaque().decode())
                cookie = reply.u64()
            end = reply.u32()
        return found


class DatagramClient(Client):
    """The same calls over UDP; each is sent once."""

    def __init__(self, server, netns=None, port=NFS_PORT, timeout_s=20.0):
        self.socket = socket_in(netns, socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(timeout_s)
        self.socket.connect((server, port))
        self.local = self.socket.getsockname()[:2]
        self.xid = int.from_bytes(os.urandom(4), "big")
        self.user = (0, 0, ())

    def send_call(self, body):
        self.socket.send(body)

    def receive_record(self):
        return self.socket.recv(65536)
