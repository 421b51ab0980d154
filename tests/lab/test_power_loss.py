#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_power_loss.py - the power fails, or vnasd is killed, while clients write

If this fails, a user loses what the server had said was safe: a file that was saved, renamed or removed is not, or is
half there, after a power failure.

Writers (promises.py) change files on a disk node whose file system lies on a disk with a write cache
(tests/power/volatile_disk.c). Again and again the moment is kept in which the power might fail: what each writer has been
promised, and an image of what the disk would then hold. Afterwards each image is mounted as after a power failure, and
every promise of its moment must have been kept. Without fsync(2) (tests/power/no_sync.c) the same test must fail.

The writers' calls come to the disk node over connections that were handed off to it and stay, that are handed to and fro
all the time, or that the switch keeps while it relays.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import harness
import promises

FILE_SYSTEMS = {    # mkfs and its options; the disk's size in MiB; how many moments
    "ext4": (["mkfs.ext4", "-q", "-E", "nodiscard", "-J", "size=8"], 64, 24),
    "xfs": (["mkfs.xfs", "-q", "-K"], 320, 12),    # fewer: its recovery takes a second
    "btrfs": (["mkfs.btrfs", "-q", "--nodiscard"], 256, 16),
}
WAYS = ("at the disk", "handed around", "relayed")
WRITERS = 5
KILLS = 4    # after five a device is held down, and gets no connections ([membership] flaps)
REST_S, MOUNT_S = 10, 10
MUTANT_TRIES = 5
HANDOFF_PAUSE_S = 0.05


def programs():
    clients = os.environ.get("CLIENTS") or os.path.join(os.path.dirname(harness.HERE), "client")
    directory = os.path.join(os.path.dirname(os.path.abspath(clients)), "power")
    return {name: os.path.join(directory, name) for name in ("volatile_disk", "no_sync.so")}


def run_quietly(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode:
        raise harness.Failed(f"{' '.join(command)}: {done.stdout.strip()}")
    return done.stdout.strip()


class VolatileDisk:
    """tests/power/volatile_disk, a loop device over it, a file system on that, mounted at .mounted"""

    def __init__(self, kind, directory):
        mkfs, mib, self.moments = FILE_SYSTEMS[kind]
        self.kind, self.directory = kind, directory
        self.below, self.mounted = os.path.join(directory, "below"), os.path.join(directory, "mounted")
        self.loop, self.is_mounted = None, False
        os.mkdir(self.below)
        os.mkdir(self.mounted)
        self.process = subprocess.Popen([programs()["volatile_disk"], self.below, str(mib)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, start_new_session=True)
        if self.process.stdout.readline() != "ready\n":
            raise harness.Failed("volatile_disk did not start")
        self.loop = run_quietly("losetup", "--find", "--show", os.path.join(self.below, "disk"))
        run_quietly(*mkfs, self.loop)
        run_quietly("mount", "-t", kind, self.loop, self.mounted)
        self.is_mounted = True

    def snapshot(self, path, seed):
        """(kept, unflushed) blocks"""
        self.process.stdin.write(f"snapshot {seed} {path}\n")
        self.process.stdin.flush()
        return tuple(map(int, self.process.stdout.readline().split()[1].split("/")))

    def stall(self):
        """No request is answered from now on."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        if self.is_mounted:
            run_quietly("umount", self.mounted)
            self.is_mounted = False
        if self.loop:
            run_quietly("losetup", "--detach", self.loop)
            self.loop = None
        self.process.stdin.close()
        self.process.wait(20)


class Moment:
    """An instant at which the power might have failed."""

    def __init__(self, number, crowd):
        self.number, self.crowd = number, crowd
        self.image = os.path.join(crowd.directory, f"image-{number}")

    def keep(self):
        """No writer learns of an answer meanwhile; vnasd and the file system go on."""
        writers = self.crowd.writers
        with contextlib.ExitStack() as locks:
            for writer in writers:
                locks.enter_context(writer.lock)
            self.promised = {writer.title: writer.promise() for writer in writers}
            self.in_flight = sum(writer.in_flight is not None for writer in writers)
            self.kept, self.unflushed = self.crowd.disk.snapshot(self.image, self.number + 1)

    def mount(self, place):
        """XFS and btrfs mount no second copy, and the one before stays as long as another mount namespace has it."""
        def mounts():
            with contextlib.suppress(harness.Failed):
                run_quietly("mount", "-t", self.crowd.disk.kind, "-o", "loop", self.image, place)
                return True
        if harness.wait_until(mounts, MOUNT_S) is None:
            run_quietly("mount", "-t", self.crowd.disk.kind, "-o", "loop", self.image, place)

    def broken(self):
        """The promises that were broken, in words. Takes the image."""
        place = os.path.join(self.crowd.directory, "after")
        os.makedirs(place, exist_ok=True)
        self.mount(place)
        try:
            below = os.path.join(place, self.crowd.below)
            return [f"moment {self.number}: {complaint}" for title, (trees, half_made) in self.promised.items()
                    for complaint in promises.broken(os.path.join(below, title), trees, half_made)]
        finally:
            run_quietly("umount", place)
            os.remove(self.image)


class Mover(threading.Thread):
    """Hands all sessions to and fro."""

    def __init__(self, lab, seed):
        super().__init__(daemon=True)
        self.lab, self.random = lab, random.Random(seed)
        self.went, self.ended, self.failure = 0, threading.Event(), None
        self.start()

    def run(self):
        try:
            while not self.ended.wait(HANDOFF_PAUSE_S):
                self.went += self.lab.hand_around(self.random)[0]
        except Exception as error:    # to be reported by the test's own thread
            self.failure = error

    def end(self):
        self.ended.set()
        self.join(30)


class Crowd:
    """A lab with one disk node, the disk below it, and writers."""

    def __init__(self, test, kind, way="at the disk", environment=None):
        self.test, self.way, self.random = test, way, random.Random(test.seed)
        self.directory = tempfile.mkdtemp(prefix=f"vnas-power-{kind}-", dir="/var/tmp")
        test.after_labs(lambda: shutil.rmtree(self.directory, ignore_errors=True))
        self.disk = VolatileDisk(kind, self.directory)
        test.after_labs(self.disk.close)
        self.lab = test.lab("--slaves", "1", "--clients", "1", "--storage", self.disk.mounted,
                            *(["--no-handoff"] if way == "relayed" else []), environment=environment)
        self.below = os.path.relpath(self.lab.hosts["disk1"]["storage"], self.disk.mounted)
        self.connecting = threading.Lock()    # a thread that makes a socket is in the client's name space meanwhile
        self.writers = []
        with self.connect() as client:
            top = client.walk(client.mount("/"), "/disk0")
        for i in range(WRITERS):
            self.writers.append(promises.Writer(self.connect, top, f"writer{i}", random.Random(f"{test.seed}/{i}")))
        self.mover = Mover(self.lab, test.seed) if way == "handed around" else None
        test.at_end(self.end)

    def connect(self):
        with self.connecting:
            return self.lab.client("client1", timeout_s=60)

    def go(self, writers):
        for writer in writers:
            writer.goes.set()

    def rest(self):
        for writer in self.writers:
            writer.goes.clear()
        if harness.wait_until(lambda: all(writer.is_at_rest() or writer.failure for writer in self.writers), REST_S,
                              0.001) is None:
            raise harness.Failed(f"not answered for {REST_S} s: " + ", ".join(
                f"{writer.title} ({writer.client.local[1]}): {type(writer.in_flight).__name__}"
                for writer in self.writers if not writer.is_at_rest()))
        self.check_alive()

    def check_alive(self):
        for writer in self.writers:
            if writer.failure:
                raise harness.Failed(f"{writer.title}: {writer.failure!r}")

    def end(self):
        """The connections have come the way that they should."""
        mover, self.mover = self.mover, None
        if mover:
            mover.end()
        writers, self.writers = self.writers, []
        if writers:
            self.check_way(mover)
        for writer in writers:
            writer.end()

    def check_way(self, mover):
        taken, relayed = self.lab.counter("disk1", "handoffs", "taken"), self.lab.counter("switch", "files", "relayed")
        fits = {"at the disk": taken > 0, "relayed": relayed > 0 and taken == 0,
                "handed around": mover and mover.went > WRITERS and relayed > 0 and not mover.failure}
        self.test.check(f"{self.disk.kind}: connections were {self.way}", fits[self.way],
                        (taken, relayed, mover and (mover.went, mover.failure)))

    def answered(self):
        return sum(writer.answered for writer in self.writers)

    def moments(self):
        """
        By turns with all of them at work, each waiting for an answer, and with one that has just got its last: nobody
        else's work makes durable by the way what that one was promised.
        """
        kept = []
        for number in range(self.disk.moments):
            moment = Moment(number, self)
            if number % 2:
                self.rest()
                self.go([self.random.choice(self.writers)])
                time.sleep(self.random.uniform(0, 0.05))
                self.rest()
            else:
                self.go(self.writers)
                time.sleep(self.random.uniform(0, 0.2))
            moment.keep()
            kept.append(moment)
        self.rest()
        return kept

    def losses(self):
        """Keep moments; then look at them, up to the first with losses. (moments, complaints)"""
        moments = self.moments()
        answered = self.answered()
        self.end()
        self.lab.stop("disk1")
        self.disk.close()
        complaints = next(filter(None, (moment.broken() for moment in moments)), [])
        self.test.say(f"{self.disk.kind}: {answered} calls answered; {len(moments)} moments, "
                      f"{sum(moment.in_flight for moment in moments)} calls in flight, "
                      f"{sum(moment.unflushed for moment in moments)} blocks not flushed, "
                      f"{sum(moment.kept for moment in moments)} of them kept")
        return moments, complaints


def power(test, kind, way):
    moments, complaints = Crowd(test, kind, way).losses()
    test.check(f"{kind}, {way}: what was promised is there after a power failure at any of {len(moments)} moments",
               not complaints, "\n".join(complaints[:10]))


def mutant(test, what):
    """
    The test of the test. Whether something is lost at a moment is chance: an fsync of one file may write another's
    directory by the way. For directories one moment in five shows it, so that 24 show none once in some hundred runs.
    """
    environment = {"VNASD_WRAPPER": f"env LD_PRELOAD={programs()['no_sync.so']} NO_SYNC={what}"}
    complaints = []
    for _ in range(MUTANT_TRIES):
        complaints = complaints or Crowd(test, "ext4", environment=environment).losses()[1]
    test.check(f"with an fsync that does nothing for {what} this test finds losses", complaints)
    test.say(f"as: {complaints[0] if complaints else ''}")


def kills(test, way):
    """vnasd alone is killed, at any time. What it had written is safe with the kernel, but no client may rely on that."""
    crowd = Crowd(test, "ext4", way)
    for _ in range(KILLS):
        crowd.go(crowd.writers)
        time.sleep(crowd.random.uniform(0.1, 0.6))
        crowd.lab.kill("disk1")
        for writer in crowd.writers:
            writer.epoch += 1
        crowd.lab.start("disk1")
    time.sleep(1)
    crowd.rest()
    test.say(f"{way}, {KILLS} times kill -9: {crowd.answered()} calls answered, "
             f"{sum(writer.repeated_writes for writer in crowd.writers)} writes repeated for another verifier")
    for writer in crowd.writers:
        complaints = promises.broken(os.path.join(crowd.disk.mounted, crowd.below, writer.title), *writer.promise())
        test.check(f"{way}: {writer.title}: all that was promised is there after {KILLS} times kill -9", not complaints,
                   "\n".join(complaints))
    lives = [life for writer in crowd.writers for life in writer.verifiers.values()]
    test.check("no write verifier was seen in two lives of vnasd", all(len(life) == 1 for life in lives), lives)
    test.check("a client that heard of another verifier sent its writes again",
               sum(writer.repeated_writes for writer in crowd.writers) > 0)
    crowd.end()


def missing():
    for program in programs().values():
        if not os.access(program, os.R_OK):
            return f"{program} (make clients)"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(device, os.W_OK):
            return device
    return None


def run(test):
    test.seed = int(os.environ.get("SEED") or time.time())
    test.say(f"SEED={test.seed}")
    for kind in FILE_SYSTEMS:
        power(test, kind, "at the disk")
    for way in WAYS:
        if way != "at the disk":
            power(test, "ext4", way)
        kills(test, way)
    for what in ("all", "files", "directories"):
        mutant(test, what)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, missing))
