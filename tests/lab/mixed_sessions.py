# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/mixed_sessions.py - many sessions of clients, some idle, some busy, and what went wrong with them

    with mixed_sessions.MixedSessions(lab, 44, ["/disk0", "/disk1"]) as sessions: ...
    sessions.errors    # sentences; none if no client saw anything wrong

A thread each: they do little, one call after the other, and look at every answer. Being told to come again (JUKEBOX) is no error.
"""

import threading

import raw_nfs

JUKEBOX = 10008
PAUSE_S = 0.1
BLOCK = 4096
KINDS = 4


class Session(threading.Thread):
    """By its number: idle; asks for attributes; writes and reads in one place, or in one after the other."""

    def __init__(self, lab, host, number, places, stop):
        super().__init__(daemon=True)
        self.lab, self.host, self.number, self.places, self.stop = lab, host, number, places, stop
        self.client = lab.client(host)
        self.files = []
        self.ready = threading.Event()
        self.calls = 0
        self.error = None

    def patiently(self, function, *arguments):
        while True:
            try:
                self.calls += 1
                return function(*arguments)
            except raw_nfs.Status as status:
                if status.status != JUKEBOX or self.stop.wait(PAUSE_S):
                    raise

    def make_files(self):
        root = self.patiently(self.client.mount, "/")
        kind, home = self.number % KINDS, self.number // KINDS % len(self.places)
        for place in self.places if kind == 3 else [self.places[home]] if kind else []:
            directory = self.patiently(self.client.walk, root, place)
            self.files.append(self.patiently(self.client.create, directory, f"session{self.number}"))

    def work(self, turn):
        if not self.files:
            self.client.null()
            return
        file, content = self.files[turn % len(self.files)], (b"%08d%08d" % (self.number, turn)) * (BLOCK // 16)
        if self.number % KINDS == 1:
            self.patiently(self.client.getattr, file)
            return
        self.patiently(self.client.write, file, 0, content)
        if self.patiently(self.client.read, file, 0, BLOCK) != content:
            raise AssertionError("a block is not what was written")

    def run(self):
        try:
            self.make_files()
            self.ready.set()
            turn = 0
            while not self.stop.wait(PAUSE_S if self.files else 10 * PAUSE_S):
                self.work(turn)
                turn += 1
        except Exception as error:
            if not self.stop.is_set():
                self.error = f"session {self.number} of {self.host}, from port {self.client.local[1]}: {error!r}"
        finally:
            self.ready.set()
            self.client.close()


class MixedSessions:
    def __init__(self, lab, count, places):
        self.stop = threading.Event()
        clients = [name for name, host in lab.hosts.items() if host["role"] == "client"]
        self.sessions = [Session(lab, clients[number % len(clients)], number, places, self.stop) for number in range(count)]
        for session in self.sessions:
            session.start()
        for session in self.sessions:
            session.ready.wait()

    @property
    def errors(self):
        return [session.error for session in self.sessions if session.error]

    @property
    def calls(self):
        return sum(session.calls for session in self.sessions)

    def close(self):
        self.stop.set()
        for session in self.sessions:
            session.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
