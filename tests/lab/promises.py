# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/promises.py - clients that change files and remember what they were promised

A Writer is a client with a directory of its own, a thread, and one call at a time. Beside it stands a Tree, the model of
what the answers promise: what a stable WRITE or a COMMIT covered, and every other change that was answered, is there
whatever happens; bytes that were written, but not yet committed, may be there or not. What has become of the real
directory is compared with it byte by byte, with allowance for the one call whose answer has not come.

Source: RFC 1813, "Stable storage" (4.8), WRITE, COMMIT
"""

import copy
import os
import stat
import threading
import time

import raw_nfs

DIRECTORIES = ("left", "right")
NAMES = 10                 # of each writer, over both directories: small enough that names are used again and again
FILE_BYTES = 60000
WRITE_BYTES = 20000
RETRY_S = 0.1


class File:
    """Under one name or, after LINK, several."""

    def __init__(self, handle, mode):
        self.handle, self.mode = handle, mode
        self.durable = bytearray()
        self.pending = []     # [(offset, bytes)...], unstable, oldest first
        self.verifier = None  # of the pending writes

    def put(self, offset, data):
        """Promised bytes. They win over unstable ones that were there before."""
        end = offset + len(data)
        kept = []
        for at, old in self.pending:
            kept.append((at, old[:max(0, offset - at)]))
            kept.append((max(at, end), old[max(0, end - at):]))
        self.pending = [(at, old) for at, old in kept if old]
        self.durable.extend(bytes(max(0, end - len(self.durable))))
        self.durable[offset:end] = data

    def commit(self):
        pending, self.pending, self.verifier = self.pending, [], None
        for offset, data in pending:
            self.put(offset, data)

    def resize(self, size):
        self.pending = [(at, data[:max(0, size - at)]) for at, data in self.pending if at < size]
        del self.durable[size:]
        self.durable.extend(bytes(size - len(self.durable)))

    def size(self):
        return max([len(self.durable)] + [at + len(data) for at, data in self.pending])

    def accepts(self, content):
        """Is each byte the promised one, or one that was written later and not yet committed?"""
        if content == self.durable:
            return True
        if not len(self.durable) <= len(content) <= self.size():
            return False
        allowed = bytearray(self.durable) + bytes(len(content) - len(self.durable))
        return all(byte == allowed[i] or any(at <= i < at + len(data) and data[i - at] == byte
                                             for at, data in self.pending)
                   for i, byte in enumerate(content))


class Tree:
    """{(directory, name): a File, "directory", or ("link", target)}"""

    def __init__(self):
        self.entries = {}

    def names(self, kind):
        return [name for name, entry in self.entries.items() if isinstance(entry, kind)]


# Calls. Each: `send` makes it, and may be made again; `apply` says what its answer promises; `started` what may be there
# when it was sent. Those that fail because their first try went through are no failures (`repeated`).


class Call:
    repeated = None
    touches = ()

    def started(self, tree):
        """The trees of which the outcome is one, if there is no answer."""
        after = copy.deepcopy(tree)
        self.apply(after)
        return [tree, after]


class Create(Call):
    def __init__(self, name):
        self.name, self.mode, self.handle, self.touches = name, 0o644, None, (name,)

    def send(self, writer):
        self.handle = writer.client.create(writer.directories[self.name[0]], self.name[1])

    def apply(self, tree):
        tree.entries[self.name] = File(self.handle, self.mode)


class Mkdir(Call):
    repeated = raw_nfs.EXIST

    def __init__(self, name):
        self.name, self.touches = name, (name,)

    def send(self, writer):
        writer.client.mkdir(writer.directories[self.name[0]], self.name[1])

    def apply(self, tree):
        tree.entries[self.name] = "directory"


class Symlink(Call):
    repeated = raw_nfs.EXIST

    def __init__(self, name, target):
        self.name, self.target, self.touches = name, target, (name,)

    def send(self, writer):
        writer.client.symlink(writer.directories[self.name[0]], self.name[1], self.target)

    def apply(self, tree):
        tree.entries[self.name] = ("link", self.target)


class Link(Call):
    repeated = raw_nfs.EXIST

    def __init__(self, old, name):
        self.old, self.name = old, name

    def send(self, writer):
        writer.client.link(writer.tree.entries[self.old].handle, writer.directories[self.name[0]], self.name[1])

    def apply(self, tree):
        tree.entries[self.name] = tree.entries[self.old]


class Remove(Call):
    repeated = raw_nfs.NOENT

    def __init__(self, name, is_directory):
        self.name, self.is_directory = name, is_directory

    def send(self, writer):
        (writer.client.rmdir if self.is_directory else writer.client.remove)(
            writer.directories[self.name[0]], self.name[1])

    def apply(self, tree):
        del tree.entries[self.name]


class Rename(Call):
    repeated = raw_nfs.NOENT

    def __init__(self, old, new):
        self.old, self.new = old, new

    def send(self, writer):
        writer.client.rename(writer.directories[self.old[0]], self.old[1], writer.directories[self.new[0]], self.new[1])

    def apply(self, tree):
        # Two names of one file: nothing is done; RFC 1813, RENAME.
        if tree.entries[self.old] is not tree.entries.get(self.new):
            tree.entries[self.new] = tree.entries.pop(self.old)


class Chmod(Call):
    def __init__(self, name, mode):
        self.name, self.mode = name, mode

    def send(self, writer):
        writer.client.set_mode(writer.tree.entries[self.name].handle, self.mode)

    def apply(self, tree):
        tree.entries[self.name].mode = self.mode


class Resize(Call):
    def __init__(self, name, size):
        self.name, self.size = name, size

    def send(self, writer):
        writer.client.set_size(writer.tree.entries[self.name].handle, self.size)

    def apply(self, tree):
        tree.entries[self.name].resize(self.size)

    def started(self, tree):
        """The file may have its old size and already zeroes behind the new one."""
        half = copy.deepcopy(tree)
        file = half.entries[self.name]
        file.pending.append((self.size, bytes(max(0, file.size() - self.size))))
        return super().started(tree) + [half]


class Write(Call):
    def __init__(self, name, offset, data, stable):
        self.name, self.offset, self.data, self.stable = name, offset, data, stable
        self.verifier = None

    def send(self, writer):
        count, stable, self.verifier = writer.client.write_as(
            writer.tree.entries[self.name].handle, self.offset, self.data, self.stable)
        writer.saw_verifier(self.verifier)
        if count != len(self.data) or stable < self.stable:
            raise AssertionError(f"WRITE of {len(self.data)} bytes, stable {self.stable}: {count}, {stable}")

    def apply(self, tree):
        file = tree.entries[self.name]
        if self.stable != raw_nfs.UNSTABLE:
            file.put(self.offset, self.data)
            return
        # With several, all is to be sent again: COMMIT gives one.
        file.verifier = self.verifier if not file.pending or file.verifier == self.verifier else None
        file.pending.append((self.offset, self.data))

    def started(self, tree):
        after = copy.deepcopy(tree)
        after.entries[self.name].pending.append((self.offset, self.data))
        return [after]


class Commit(Call):
    def __init__(self, name):
        self.name = name

    def send(self, writer):
        """With another verifier the writes are made anew, before that may be called committed; RFC 1813, COMMIT."""
        file = writer.tree.entries[self.name]
        verifier = file.verifier
        while True:
            now = writer.client.commit(file.handle)
            writer.saw_verifier(now)
            if verifier == now or not file.pending:
                return
            writer.repeated_writes += len(file.pending)
            verifiers = {writer.client.write_as(file.handle, offset, data, raw_nfs.UNSTABLE)[2]
                         for offset, data in file.pending}
            verifier = verifiers.pop() if len(verifiers) == 1 else None

    def apply(self, tree):
        tree.entries[self.name].commit()


class Writer(threading.Thread):
    """
    @connect: a function that gives a new client
    @directory: the handle of where its own directory @title goes
    @random: a random.Random of its own
    """

    def __init__(self, connect, directory, title, random):
        super().__init__(daemon=True)
        self.connect, self.title, self.random = connect, title, random
        self.client = connect()
        own = self.client.mkdir(directory, title)
        self.directories = {name: self.client.mkdir(own, name) for name in DIRECTORIES}
        self.tree = Tree()
        self.lock = threading.Lock()    # of tree, in_flight and counts
        self.in_flight = None
        self.goes = threading.Event()
        self.ended = False
        self.failure = None
        self.answered = self.repeated_writes = self.reconnects = 0
        self.epoch = self.call_epoch = 0
        self.verifiers = {}    # {verifier: epochs in which it was seen}
        self.start()

    def run(self):
        try:
            while not self.ended:
                if self.goes.wait(0.1):
                    self.step()
        except Exception as error:    # to be reported by the test's own thread
            self.failure = error

    def step(self):
        with self.lock:
            if not self.goes.is_set():
                return
            call = self.choose()
            self.in_flight = call
        self.make(call)
        with self.lock:
            call.apply(self.tree)
            self.in_flight = None
            self.answered += 1

    def make(self, call):
        """As often as it takes. After a restart the server does not know what it has done before; nor may a relay."""
        epoch, is_again = self.epoch, False
        while True:
            self.call_epoch = self.epoch
            try:
                call.send(self)
                return
            except raw_nfs.ConnectionLost:
                self.reconnect()
            except raw_nfs.Status as error:
                if error.status == call.repeated and (is_again or self.epoch != epoch):
                    return
                if error.status != raw_nfs.JUKEBOX:
                    raise AssertionError(f"{type(call).__name__} {vars(call)}: {error}") from error
                time.sleep(RETRY_S)
            is_again = True

    def reconnect(self):
        self.reconnects += 1
        self.client.close()
        while True:
            try:
                self.client = self.connect()
                return
            except OSError:
                time.sleep(RETRY_S)

    def saw_verifier(self, verifier):
        """In one epoch, unless it ended between call and answer."""
        if self.epoch == self.call_epoch:
            self.verifiers.setdefault(verifier, set()).add(self.epoch)

    def choose(self):
        """The next call, at random."""
        random, tree = self.random, self.tree
        files = tree.names(File)
        free = [(directory, f"{number}") for directory in DIRECTORIES for number in range(NAMES)
                if (directory, f"{number}") not in tree.entries]
        if not files or (len(tree.entries) < NAMES and random.random() < 0.1):
            name = random.choice(free)
            return random.choice((Create(name), Create(name), Mkdir(name), Symlink(name, f"to-{random.random()}")))
        name = random.choice(files)
        offset = random.randrange(FILE_BYTES - WRITE_BYTES)
        data = random.randbytes(random.randrange(1, WRITE_BYTES))
        return random.choices((
            lambda: Write(name, offset, data, random.choice((raw_nfs.DATA_SYNC, raw_nfs.FILE_SYNC))),
            lambda: Write(name, offset, data, raw_nfs.UNSTABLE),
            lambda: Commit(name),
            lambda: Chmod(name, random.randrange(0o400, 0o1000)),
            lambda: Resize(name, random.randrange(FILE_BYTES)),
            lambda: Link(name, random.choice(free)) if free else Commit(name),
            lambda: Rename(name, random.choice(free + files)),
            self.remove_any), (6, 8, 4, 2, 2, 1, 4, 2))[0]()

    def remove_any(self):
        name = self.random.choice(list(self.tree.entries))
        return Remove(name, self.tree.entries[name] == "directory")

    # For the test's own thread

    def is_at_rest(self):
        with self.lock:
            return self.in_flight is None and not self.goes.is_set()

    def end(self):
        self.ended = True
        self.goes.set()
        self.join(30)
        self.client.close()

    def promise(self):
        """What must be there now; the lock is held. [possible Tree...], names that may be half made"""
        if self.in_flight is None:
            return [copy.deepcopy(self.tree)], ()
        return [copy.deepcopy(tree) for tree in self.in_flight.started(self.tree)], self.in_flight.touches


# What became of it


def found(directory):
    """{(directory, name): path}"""
    return {(part, entry.name): entry.path for part in DIRECTORIES
            for entry in os.scandir(os.path.join(directory, part))}


def is_kept(path, entry):
    st = os.lstat(path)
    if entry == "directory":
        return stat.S_ISDIR(st.st_mode)
    if isinstance(entry, tuple):
        return stat.S_ISLNK(st.st_mode) and os.readlink(path) == entry[1]
    if not stat.S_ISREG(st.st_mode) or stat.S_IMODE(st.st_mode) != entry.mode:
        return False
    with open(path, "rb") as file:
        return entry.accepts(file.read())


def difference(path, entry):
    """In words, for a name that is there and is not as promised."""
    st = os.lstat(path)
    said = f"mode {st.st_mode:o}, {st.st_size} bytes"
    if isinstance(entry, File):
        said += f" instead of mode {entry.mode:o}, {len(entry.durable)} to {entry.size()} bytes"
        if stat.S_ISREG(st.st_mode):
            with open(path, "rb") as file:
                wrong = [i for i, (a, b) in enumerate(zip(file.read(), entry.durable)) if a != b]
            said += f", {len(wrong)} bytes apart from {wrong[:1]}"
    return said


def broken(directory, trees, half_made):
    """The promises that the real @directory breaks, in words."""
    if not all(os.path.isdir(os.path.join(directory, part)) for part in DIRECTORIES):
        return [f"{directory} is not there, or not all of it"]
    real = found(directory)
    fitting = [tree for tree in trees if set(tree.entries) == set(real)]
    if not fitting:
        promised = " or ".join(str(sorted(tree.entries)) for tree in trees)
        return [f"{directory}: there is {sorted(real)} instead of {promised}"]
    return [f"{path}: {difference(path, fitting[0].entries[name])}" for name, path in real.items()
            if name not in half_made and not any(is_kept(path, tree.entries[name]) for tree in fitting)]
