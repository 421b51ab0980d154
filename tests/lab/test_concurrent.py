#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_concurrent.py - everything at once: changes, reads, handoffs, relays, and an administrator

If this fails, what one client does breaks another's work, or the administrator's does.

Writers (promises.py) change files on both disk nodes, loads read and write there, their connections are handed from device
to device, so that each call is now local and now relayed, and exports and volumes change meanwhile. Built with
ThreadSanitizer (./check thread) vnasd must have no data race in all that: `lab down` fails if it says so.
"""

import os
import random
import sys
import threading
import time

import harness
import promises

WRITERS = 3    # on each disk
SECONDS = 10
REST_S = 30


class Connecting:
    """A thread that makes a socket is in the client's name space meanwhile: one at a time."""

    def __init__(self, lab):
        self.lab, self.lock = lab, threading.Lock()

    def __call__(self):
        with self.lock:
            return self.lab.client("client1", timeout_s=60)


def writers_on(lab, disk, seed):
    connect = Connecting(lab)
    with connect() as client:
        top = client.walk(client.mount("/"), disk)
    return [promises.Writer(connect, top, f"writer{i}", random.Random(f"{seed}{disk}{i}")) for i in range(WRITERS)]


class Administrator:
    """Hands sessions around and changes what needs no client to stop."""

    def __init__(self, lab, seed):
        self.lab, self.random = lab, random.Random(seed)
        self.handoffs = self.refused = self.changes = 0

    def hand_around(self):
        went, refused = self.lab.hand_around(self.random)
        self.handoffs += went
        self.refused += refused

    def change(self):
        self.changes += 1
        place = f"/place{self.changes % 3}"
        self.lab.nasctl("export", "set", place, f"10.78.{self.changes % 200}.0/24(ro)")
        self.lab.nasctl("export", "remove", place)
        self.lab.nasctl("counters", host=self.random.choice(("switch", "disk1", "disk2")))


def run(test):
    seed = int(os.environ.get("SEED") or time.time())
    test.say(f"SEED={seed}")
    lab = test.lab("--slaves", "2", "--clients", "2", "--data-loops", "4")
    writers = writers_on(lab, "/disk0", seed) + writers_on(lab, "/disk1", seed)
    for writer in writers:
        test.at_end(writer.end)
    loads = [test.load(lab, "--seconds", "0", "--depth", "4", disk, host="client2") for disk in ("/disk0", "/disk1")]
    for writer in writers:
        writer.goes.set()

    administrator = Administrator(lab, seed)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        administrator.hand_around()
        administrator.change()
    for writer in writers:
        writer.goes.clear()
    at_rest = harness.wait_until(lambda: all(writer.is_at_rest() or writer.failure for writer in writers), REST_S)
    test.need("every call was answered, as it should be", at_rest is not None and not any(
        writer.failure for writer in writers), [(writer.title, writer.failure, writer.in_flight) for writer in writers])

    test.say(f"{sum(writer.answered for writer in writers)} changes by {len(writers)} writers; {administrator.handoffs} "
             f"handoffs, {administrator.refused} refused; {administrator.changes} changes by the administrator")
    relayed = {host: lab.counter(host, "files", "relayed") for host in ("switch", "disk1", "disk2")}
    test.check("there were handoffs, and calls were relayed by each device", administrator.handoffs > 10 and
               all(relayed.values()), (administrator.handoffs, relayed))
    for i, writer in enumerate(writers):
        host = f"disk{1 + i // WRITERS}"
        complaints = promises.broken(os.path.join(lab.hosts[host]["storage"], writer.title), *writer.promise())
        test.check(f"{writer.title} on {host}: all that was promised is there", not complaints, "\n".join(complaints))
    test.check("no writer's connection broke", not any(writer.reconnects for writer in writers))
    for load in loads:
        test.check_load(load)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
