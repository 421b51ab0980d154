#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_spread.py - a directory whose entries are on several volumes, changed by clients, with daemons killed

If this fails, what a client was told is made is not there, is there twice, or is seen by one device and not by another; two files have
one number; a name comes back after a crash, or a volume that is away takes its names along.
"""

import os
import random
import signal
import struct
import sys
import threading
import time

import daemon
import harness
import raw_nfs
import raw_nlm

PERM, ACCES, XDEV, NOTDIR, NOTEMPTY, NOTSUPP = 1, 13, 18, 20, 66, 10004
PLACES = ("/disk0", "/disk1")
DAEMONS = ("switch", "disk1", "disk2")
RQUOTA = 100011
USER = (1000, 1000, ())
PATIENCE_S = 60
KILLS = 6
WRITERS = 3
NAMES = 6                  # of each writer: small enough that names are used again and again


def branches(lab):
    return lab.nasctl("spread", "show", "/home")


def is_ready(lab):
    return [row["state"] for row in branches(lab)] == ["ready", "ready"]


def roots(lab):
    """{volume: the root of a branch, as this machine sees it}"""
    paths = {row["id"]: row["path"] for row in lab.nasctl("volume", "list")}
    return {row["volume"]: paths[row["volume"]] for row in branches(lab)}


def on_disk(lab):
    """{name: [volumes that have it]}"""
    where = {}
    for volume, path in roots(lab).items():
        for name in os.listdir(path):
            where.setdefault(name, []).append(volume)
    return where


def listed(client, home):
    return sorted(set(client.names(home)) - {".", ".."})


def knows_rooms(lab):
    return all(row["free_bytes"] for node in ("2", "3") for row in lab.nasctl("node", "show", node)["volumes"])


def prepare(test, lab):
    test.within(20, "what room there is is known", lambda: knows_rooms(lab))
    lab.nasctl("spread", "make", "/home", "--policy", "round-robin", "--mode", "1777")
    for place in PLACES:
        lab.nasctl("spread", "add", "/home", place)
    test.within(20, "/home is spread over two volumes", lambda: is_ready(lab), lambda: branches(lab))


def move(lab, client, node):
    """Has the client's session handed to a device. Its next call is answered there."""
    address, port = client.local
    if harness.wait_until(lambda: lab.session(address, port), 10) is None:
        raise harness.Failed("the session is not reported")
    row = lab.session(address, port)
    if row["node"] != node:
        lab.nasctl("handoff", str(row["id"]), str(node))


def one_file_system(test, client, home):
    """Numbers, handles, the way up."""
    made = {name: client.mkdir(home, name) for name in ("a", "b", "c", "d")}
    made["file"] = client.create(home, "file")
    made["link"] = client.symlink(home, "link", "a/x")
    made["inside"] = client.create(made["a"], "inside")
    facts = {name: client.getattr(handle) for name, handle in [*made.items(), ("/home", home)]}
    test.check("all have the directory's fsid", len({fact[2] for fact in facts.values()}) == 1, facts)
    test.check("... and numbers of their own", len({fact[3] for fact in facts.values()}) == len(facts), facts)
    test.check("LOOKUP finds what was made", all(client.lookup(home, name) == handle for name, handle in made.items() if name != "inside"))
    test.check("above an entry there is the directory", client.lookup(made["a"], "..") == home == client.lookup(made["b"], ".."))
    test.check("all are listed, once", sorted(client.names(home)) == sorted([".", "..", *"abcd", "file", "link"]), client.names(home))
    test.check("an entry can be mounted, and what is below it", client.mount("/home/a") == made["a"] and client.mount("/home") == home)
    client.write(made["file"], 0, b"content")
    test.check("a file has what was written", client.read(made["file"], 0, 100) == b"content")
    return made


def is_taken(lab):
    try:
        lab.nasctl("spread", "make", "/home")
    except daemon.DaemonError:
        return True
    return False


def said_no(test, lab, client, home, made):
    names = client.names(home)
    test.check("a place that is taken gets no directory", is_taken(lab) and len(lab.nasctl("spread", "list")) == 1)
    test.check("what is there is not made again", [raw_nfs.status_of(client.mkdir, home, name) for name in ("a", "b", "file")] == [raw_nfs.EXIST] * 3)
    test.check("what is not there is not removed", raw_nfs.status_of(client.rmdir, home, "none") == raw_nfs.status_of(client.remove, home, "none") ==
               raw_nfs.status_of(client.rename, home, "none", home, "x") == raw_nfs.NOENT)
    test.check("a directory that is not empty stays", raw_nfs.status_of(client.rmdir, home, "a") == NOTEMPTY)
    test.check("a file is no directory", raw_nfs.status_of(client.rmdir, home, "file") == NOTDIR)
    test.check("no link from elsewhere", raw_nfs.status_of(client.link, made["inside"], home, "x") == XDEV)
    test.check("nor a rename", raw_nfs.status_of(client.rename, made["a"], "inside", home, "x") == XDEV)
    test.check("the directory's mode is the administrator's", raw_nfs.status_of(client.set_mode, home, 0o700) == NOTSUPP)
    test.check("nothing has changed", client.names(home) == names, client.names(home))


def renamed(test, lab, client, home):
    where = on_disk(lab)
    same = next(name for name in "bcd" if where[name] == where["a"])
    other = next(name for name in "bcd" if where[name] != where["a"])
    handle = client.lookup(home, same)
    test.check("across volumes a rename is for the client to do", raw_nfs.status_of(client.rename, home, same, home, other) == XDEV)
    client.rename(home, same, home, "new")
    test.check("a rename keeps the handle", client.lookup(home, "new") == handle and raw_nfs.status_of(client.lookup, home, same) == raw_nfs.NOENT)
    third = client.mkdir(home, "third")
    while on_disk(lab)["third"] != on_disk(lab)["new"]:
        client.rmdir(home, "third")
        third = client.mkdir(home, "third")
    client.rename(home, "third", home, "new")
    test.check("what had the name is replaced", client.lookup(home, "new") == third and "third" not in client.names(home), client.names(home))


def as_users(test, lab, client, home):
    client.user = USER
    client.mkdir(home, "his")
    client.user = (1001, 1001, ())
    test.check("nobody removes another's entry where the sticky bit is", raw_nfs.status_of(client.rmdir, home, "his") == PERM and "his" in client.names(home))
    client.user = USER
    client.rmdir(home, "his")
    client.user = (0, 0, ())
    lab.nasctl("spread", "make", "/closed")
    lab.nasctl("spread", "add", "/closed", "/disk0")
    closed = client.lookup(client.mount("/"), "closed")
    test.within(10, "root makes entries where others may not", lambda: raw_nfs.status_of(client.mkdir, closed, "x") in (0, raw_nfs.EXIST))
    client.user = USER
    test.check("... and others don't", raw_nfs.status_of(client.mkdir, closed, "y") == ACCES and "y" not in client.names(closed), client.names(closed))
    client.user = (0, 0, ())


def seen_at_once(test, lab, home):
    """A client finds what it has done, whichever device it asks next; so does another one elsewhere."""
    with lab.client() as client, lab.client() as other:
        other.null()
        wrong = []
        for n in range(12):
            client.null()
            move(lab, client, 1 + n % 3)
            move(lab, other, 1 + (n + 1) % 3)
            client.mkdir(home, "seen")
            there = raw_nfs.status_of(other.lookup, home, "seen"), "seen" in other.names(home)
            move(lab, client, 1 + (n + 2) % 3)
            there += raw_nfs.status_of(client.lookup, home, "seen"), "seen" in client.names(home)
            client.rmdir(home, "seen")
            gone = raw_nfs.status_of(other.lookup, home, "seen"), "seen" in other.names(home), raw_nfs.status_of(client.lookup, home, "seen")
            if (there, gone) != ((0, True, 0, True), (raw_nfs.NOENT, False, raw_nfs.NOENT)):
                wrong.append((n, there, gone))
        test.check("what is answered is seen on all devices", not wrong, wrong)


def answered_once(test, lab, home):
    with lab.client() as client, lab.client() as other:
        body = raw_nfs.call_body(77, raw_nfs.NFS, 3, 9, raw_nfs.opaque(home) + raw_nfs.opaque(b"once") +
                                 struct.pack(">IIIIIII", 1, 0o755, 0, 0, 0, 0, 0))
        answers = [client.exchange(body), other.exchange(body)]
        test.check("a call that comes again gets the same answer", answers[0] == answers[1] and answers[0][24:28] == bytes(4), answers)
        client.rmdir(home, "once")


def listed_while_it_changes(test, lab, client, home):
    kept = [f"kept{n}" for n in range(150)]
    for name in kept:
        client.mkdir(home, name)
    stop, wrong = threading.Event(), []

    def change():
        with lab.client() as changer:
            while not stop.is_set():
                for n in range(20):
                    changer.create(home, f"comes{n}")
                for n in range(20):
                    changer.remove(home, f"comes{n}")

    changer = threading.Thread(target=change)
    changer.start()
    for _ in range(20):
        names = small_listing(client, home)
        if [name for name in names if name.startswith("kept")] != kept or len(set(names)) != len(names):
            wrong.append(names)
    stop.set()
    changer.join()
    test.check("a listing has all that stays, once, whatever comes and goes", not wrong, wrong[:1])
    for name in kept:
        client.rmdir(home, name)


def small_listing(client, home):
    """In many calls."""
    found, cookie, end = [], 0, False
    while not end:
        reply = client._nfs(16, raw_nfs.opaque(home) + struct.pack(">QQI", cookie, 0, 512))
        reply.post_op_attributes()
        reply.bytes(8)
        while reply.u32():
            reply.u64()
            found.append(reply.opaque().decode())
            cookie = reply.u64()
        end = reply.u32()
    return found


def away(test, lab, client, home):
    before, where = client.names(home), on_disk(lab)
    mine = next(row["volume"] for row in branches(lab) if row["node"] == 3)
    lost = next(name for name, volumes in where.items() if volumes == [mine])
    handle = client.lookup(home, lost)
    lab.stop("disk2")
    test.check("without a node its names are listed", client.names(home) == before, client.names(home))
    test.check("... and what is behind them is waited for", raw_nfs.status_of(client.getattr, client.lookup(home, lost)) == raw_nfs.JUKEBOX)
    test.check("... as is making it, removing it, renaming it",
               [raw_nfs.status_of(*call) for call in ((client.mkdir, home, lost), (client.rmdir, home, lost), (client.rename, home, lost, home, "x"))] ==
               [raw_nfs.JUKEBOX] * 3)
    for name in ("while1", "while2"):
        client.mkdir(home, name)
    test.check("what is new goes where there is somebody", all(mine not in on_disk(lab)[name] for name in ("while1", "while2")), on_disk(lab))
    lab.start("disk2")
    test.within(30, "it comes back", lambda: is_ready(lab), lambda: branches(lab))
    test.within(20, "... with what it had", lambda: raw_nfs.status_of(client.getattr, handle) == 0)
    for name in ("while1", "while2"):
        client.rmdir(home, name)


def not_listed(test, lab, client, home):
    """Who makes what is there has no branch listed, which may be long: a second such call would wait for it."""
    root = next(iter(roots(lab).values()))
    there = os.listdir(root)[0]
    os.mkdir(os.path.join(root, "behind"))
    refused = [raw_nfs.status_of(client.mkdir, home, there) for _ in range(2)]
    test.check("what both say is there is no reason to compare them", refused == [raw_nfs.EXIST] * 2 and "behind" not in client.names(home),
               (refused, client.names(home)))
    os.rmdir(os.path.join(root, "behind"))


def checked(test, lab, client, home):
    first, second = roots(lab).values()
    for path in (os.path.join(first, "planted"), os.path.join(first, "twice"), os.path.join(second, "twice")):
        os.mkdir(path)
    gone = next(name for name in os.listdir(second) if name != "twice")
    os.rename(os.path.join(second, gone), os.path.join(second, "moved"))
    lab.nasctl("volume", "check", "/home")
    rows = lab.nasctl("spread", "show", "/home")
    test.check("nasctl volume check learns what is there, and forgets what is not",
               sum(row["conflicts"] for row in rows) == 1 and {"planted", "twice", "moved"} <= set(listed(client, home)) and
               gone not in listed(client, home), (rows, listed(client, home)))
    test.check("... and says what is there twice", "name=twice is on volume" in lab.log("switch"))
    test.check("... and removes nothing", all(os.path.isdir(os.path.join(path, "twice")) for path in (first, second)))
    os.rmdir(os.path.join(second, "twice"))
    os.rename(os.path.join(second, "moved"), os.path.join(second, gone))
    os.rmdir(os.path.join(first, "planted"))
    os.rmdir(os.path.join(first, "twice"))
    rows = lab.nasctl("volume", "check", "/home")
    test.check("when somebody has mended it, all agree", sum(row["conflicts"] for row in rows) == 0 and
               listed(client, home) == sorted(on_disk(lab)), (rows, listed(client, home), on_disk(lab)))


class Writer(threading.Thread):
    """Changes names of its own, and remembers what it was told. A call is made again until it is answered."""

    def __init__(self, lab, number, seed, home):
        super().__init__()
        self.lab, self.home, self.random = lab, home, random.Random(seed)
        self.names = [f"w{number}-{n}" for n in range(NAMES)]
        self.there = {}    # name: directory?
        self.doubt = None  # the call that was not answered: (word, names)
        self.calls, self.problem = 0, ""
        self.stop = threading.Event()
        self.client = None

    def run(self):
        try:
            while not self.stop.is_set() and not self.problem:
                self.change()
        except Exception as error:    # what it finds is shown
            self.problem = repr(error)

    def choose(self):
        missing = [name for name in self.names if name not in self.there]
        if missing and (not self.there or self.random.random() < 0.5):
            return self.random.choice(["mkdir", "create"]), [self.random.choice(missing)]
        name = self.random.choice(list(self.there))
        if self.random.random() < 0.4:
            return "rename", [name, self.random.choice(missing or [name])]
        return "rmdir" if self.there[name] else "remove", [name]

    def change(self):
        word, names = self.choose()
        self.doubt = word, names
        status = self.until_answered(word, names)
        if status is None:
            return
        self.doubt = None
        self.calls += 1
        if status == XDEV and word == "rename":
            return
        if status:
            self.problem = f"{word} {names}: status {status}"
        elif word == "rename":
            self.there[names[1]] = self.there.pop(names[0])
        elif word in ("mkdir", "create"):
            self.there[names[0]] = word == "mkdir"
        else:
            del self.there[names[0]]

    def until_answered(self, word, names):
        """Its status; None if it was stopped before."""
        tries, until = 0, time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            tries += 1
            try:
                self.client = self.client or self.lab.client()
                return self.send(word, names)
            except raw_nfs.Status as error:
                # What a first try has done is in the way of the second one.
                if tries > 1 and error.status == (raw_nfs.EXIST if word in ("mkdir", "create") else raw_nfs.NOENT):
                    return 0
                if error.status != raw_nfs.JUKEBOX:
                    return error.status
            except (raw_nfs.ConnectionLost, OSError):
                self.client = None
            if self.stop.is_set():
                return None
            time.sleep(0.1)
        raise harness.Failed(f"{word} {names}: no answer within {PATIENCE_S} s")

    def send(self, word, names):
        if word == "rename":
            self.client.rename(self.home, names[0], self.home, names[1])
        else:
            getattr(self.client, word)(self.home, names[0])
        return 0

    def wrong(self, found):
        """Names that should be there and are not, or the other way, but for what the unanswered call is about."""
        doubtful = set(self.doubt[1]) if self.doubt else set()
        return (set(self.there) ^ (set(found) & set(self.names))) - doubtful


def asked_by_the_way(test, lab, home):
    """The directory is asked for what is below it, for quotas and locks, while it changes."""
    stop = threading.Event()

    def repeat(step):
        with lab.client() as client:
            while not stop.is_set():
                step(client)

    def change(client):
        for make in (client.mkdir, client.rmdir):
            for n in range(20):
                make(home, f"way{n}")

    quota = raw_nfs.opaque(b"/home") + struct.pack(">I", 1000)
    threads = [threading.Thread(target=repeat, args=(step,)) for step in (
        change,
        lambda client: client.null() or client.names(home),
        *[lambda client: raw_nfs.status_of(client.mount, "/home/./way3")] * 2,
        *[lambda client: client.call(RQUOTA, 1, 1, quota)] * 2,
        *[lambda client: raw_nlm.Locker(client, "way").lock(home, 1)] * 2,
    )]
    for thread in threads:
        thread.start()
    time.sleep(5)
    lives = [thread.is_alive() for thread in threads]
    stop.set()
    for thread in threads:
        thread.join()
    test.check("all is answered meanwhile", all(lives), lives)


def stopped(test, lab, home):
    """The master ends while a branch has not answered: the calls are made again, by its next life."""
    names = [f"stopped{n}" for n in range(4)]
    pid = lab.pid("disk1")
    os.kill(pid, signal.SIGSTOP)
    with lab.client() as client:
        for number, name in enumerate(names):
            client.send_call(raw_nfs.call_body(500 + number, raw_nfs.NFS, 3, 9, raw_nfs.opaque(home) + raw_nfs.opaque(name.encode()) +
                                               struct.pack(">IIIIIII", 1, 0o755, 0, 0, 0, 0, 0)))
        client.send_call(raw_nfs.call_body(600, raw_nfs.NFS, 3, 1, raw_nfs.opaque(home)))
        client.receive_record()    # of any of them: all have been read
        lab.stop("switch")
    os.kill(pid, signal.SIGCONT)
    lab.start("switch")
    test.within(PATIENCE_S, "when the master has ended with calls under way, it goes on", lambda: is_ready(lab), lambda: branches(lab))
    with lab.client() as client:
        for name in names:
            test.within(PATIENCE_S, f"... with {name}", lambda name=name: raw_nfs.status_of(client.mkdir, home, name) in (0, raw_nfs.EXIST))
            client.rmdir(home, name)


def killed(test, lab, draw):
    """Daemons die at any moment; then clients, index and disks say the same, and it is what was promised."""
    with lab.client() as client:
        home = client.lookup(client.mount("/"), "home")
    writers = [Writer(lab, number, draw.getrandbits(32), home) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for n in range(KILLS):
        host = DAEMONS[n % len(DAEMONS)]
        time.sleep(draw.uniform(0.2, 1.2))
        lab.kill(host)
        time.sleep(draw.uniform(0, 0.3))
        lab.start(host)
        test.within(PATIENCE_S, f"after kill -9 of {host} all is up again", lambda: is_ready(lab), lambda: branches(lab))
    time.sleep(1)
    for writer in writers:
        writer.stop.set()
    for writer in writers:
        writer.join()
    test.check("every call was answered as it had to be", not any(writer.problem for writer in writers), [writer.problem for writer in writers])
    test.check(f"... and there were many ({sum(writer.calls for writer in writers)})", sum(writer.calls for writer in writers) > 20)
    with lab.client() as client:
        test.within(PATIENCE_S, "what is listed is on the disks", lambda: listed(client, home) == sorted(on_disk(lab)),
                    lambda: (listed(client, home), on_disk(lab)))
        twice = {name: volumes for name, volumes in on_disk(lab).items() if len(volumes) > 1}
        test.check("... once", not twice, twice)
        found = listed(client, home)
        test.check("what was promised is there, and nothing else", not any(writer.wrong(found) for writer in writers),
                   [(writer.wrong(found), writer.doubt) for writer in writers])
        unusable = [name for name in found if raw_nfs.status_of(client.getattr, client.lookup(home, name))]
        test.check("... and can be used", not unusable, unusable)
        rows = lab.nasctl("volume", "check", "/home")
        test.check("... and a check finds nothing", all(row["learned"] == row["gone"] == row["conflicts"] == 0 for row in rows), rows)


def run(test):
    seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
    test.say(f"SEED={seed}")
    lab = test.lab("--slaves", "2", "--clients", "1")
    prepare(test, lab)
    with lab.client() as client:
        home = client.lookup(client.mount("/"), "home")
        made = one_file_system(test, client, home)
        said_no(test, lab, client, home, made)
        renamed(test, lab, client, home)
        as_users(test, lab, client, home)
        seen_at_once(test, lab, home)
        answered_once(test, lab, home)
        listed_while_it_changes(test, lab, client, home)
        away(test, lab, client, home)
        not_listed(test, lab, client, home)
        checked(test, lab, client, home)
    asked_by_the_way(test, lab, home)
    stopped(test, lab, home)
    killed(test, lab, random.Random(seed))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
