# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/faults.py - what is killed in a lab during a test, when, and what that excuses

A Fault begins and ends once, and knows from when to when clients may have noticed it, in microseconds of CLOCK_MONOTONIC.
Which ones come in which order, and how long each lasts, follows from a random.Random alone.
"""

import time

# A device that is silent is missed after 5 to 6 s, its flows are taken back within 3 s, clients are woken up and connect.
AFTERMATH_S = 12
PAUSES_S = (0, 0.5, 2, 7)    # shorter and longer than what a peer's silence and the switch's patience last


def now_us():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


class Fault:
    what = None
    forgets = False    # which calls the host has answered

    def __init__(self, host, pause_s):
        self.host, self.pause_s = host, pause_s
        self.from_us = self.until_us = None

    def __str__(self):
        return f"{self.what} of {self.host} for {self.pause_s:g} s"

    def happen(self, lab):
        self.from_us = now_us()
        self.begin(lab)
        time.sleep(self.pause_s)
        self.end(lab)
        self.until_us = now_us()

    def covers(self, from_us, until_us=None):
        """Could what lasted from @from_us to @until_us come of it?"""
        end = (self.until_us or now_us()) + AFTERMATH_S * 1000000
        return from_us <= end and (until_us or from_us) >= self.from_us


class Kill(Fault):
    what = "kill -9"
    forgets = True

    def begin(self, lab):
        lab.kill(self.host)

    def end(self, lab):
        lab.start(self.host)


class Cut(Fault):
    what = "cut"

    def begin(self, lab):
        lab.cut(self.host)

    def end(self, lab):
        lab.heal(self.host)


def sequence(random, disks):
    """Without an end: a device, the switch's daemon, a link, in another order each time."""
    while True:
        kinds = [lambda: (Kill, random.choice(disks)), lambda: (Kill, "switch"),
                 lambda: (Cut, random.choice(disks + ["switch"]))]
        random.shuffle(kinds)
        for kind in kinds:
            fault, host = kind()
            yield fault(host, random.choice(PAUSES_S))
