#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_classes.py - priorities among clients: limits, on sessions that are open, wherever they are

If this fails, a client that was limited goes on as before, another is limited in its place, or a limited one gets errors.

Weights are tests/unit/test_workers.c's: what they do depends on what waits. Here is that classes reach the devices, and that who is
over a limit waits: never less than the limit says, whatever else the machine does.
"""

import json
import sys
import tempfile
import threading
import time

import harness
import raw_nfs

OPERATIONS, CALLS, BURST = 50, 100, 5
BLOCK, BYTES_A_SECOND, BLOCKS = 32768, 262144, 16


def took(function, count):
    started = time.monotonic()
    for _ in range(count):
        function()
    return time.monotonic() - started


class Classes:
    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.limited, self.other = lab.client("client1"), lab.client("client2")
        self.datagrams = raw_nfs.DatagramClient(lab.vip, netns=lab.netns("client1"))
        test.need("the disk answers", harness.wait_until(self.make_file, 20) is not None)

    def make_file(self):
        """Told to try again, a client tries again: on a busy machine the devices may just be meeting."""
        try:
            self.file = self.limited.create(self.limited.mount("/disk0"), "file")
            return self.limited.write(self.file, 0, bytes(BLOCK)) == BLOCK
        except raw_nfs.Status:
            return False

    def known(self):
        revision = self.lab.nasctl("status")["revision"]
        self.test.need("the disk knows", harness.wait_until(
            lambda: self.lab.nasctl("status", host="disk1")["revision"] >= revision, 10) is not None)

    def hand_off(self):
        session = self.lab.session(*self.limited.local)["id"]
        self.lab.nasctl("handoff", session, "disk1")

    def getattr(self, client):
        return lambda: client.getattr(self.file)

    def limit(self, how, client):
        least = (CALLS - BURST - 1) / OPERATIONS
        seconds = took(self.getattr(client), CALLS)
        self.test.check(f"{how}: {CALLS} calls take {least:g} s at least", seconds >= least, f"{seconds:.2f} s")

    def operations(self):
        network = self.lab.hosts["client1"]["address"] + "/32"
        self.lab.nasctl("class", "set", "slow", "--operations", str(OPERATIONS), f"network={network}")
        self.known()
        self.limit("relayed", self.limited)
        self.limit("datagrams", self.datagrams)
        self.hand_off()
        self.limit("at the disk", self.limited)

    def others(self):
        """Who is in no class goes on meanwhile."""
        self.lab.nasctl("class", "set", "slow", "--operations", "5", f"network={self.lab.hosts['client1']['address']}")
        self.known()
        made = []
        thread = threading.Thread(target=lambda: [made.append(self.limited.getattr(self.file)) for _ in range(20)])
        thread.start()
        took(self.getattr(self.other), CALLS)
        self.test.check(f"another client has made {CALLS} calls before the limited one 20", len(made) < 20, len(made))
        thread.join()
        self.test.check("... which gets its answers, too", len(made) == 20)

    def bytes(self):
        """A class of the export is replaced: the operations of the one before don't count any more."""
        self.lab.nasctl("class", "set", "slow", "--bytes", str(BYTES_A_SECOND), "--weight", "10", "export=/disk0")
        self.known()
        least = (BLOCKS - 2) * BLOCK / BYTES_A_SECOND - 0.1
        seconds = took(lambda: self.limited.read(self.file, 0, BLOCK), BLOCKS)
        self.test.check(f"{BLOCKS} blocks take {least:g} s at least", seconds >= least, f"{seconds:.2f} s")

    def backup(self):
        """Gone and made again from the cluster's configuration."""
        before = self.lab.nasctl("class", "list")
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(self.lab.nasctl("config", "export"), file)
            file.flush()
            self.lab.nasctl("class", "remove", "slow")
            self.lab.nasctl("config", "import", file.name)
        self.test.check("a class comes back with the configuration", self.lab.nasctl("class", "list") == before,
                        self.lab.nasctl("class", "list"))

    def removed(self):
        self.test.check("it is listed", [(row["name"], row["weight"], row["bytes"]) for row in
                                         self.lab.nasctl("class", "list")] == [("slow", 10, BYTES_A_SECOND)])
        self.backup()
        self.lab.nasctl("class", "remove", "slow")
        self.known()
        self.test.check("... and gone", not self.lab.nasctl("class", "list"))
        least = BLOCKS * BLOCK / BYTES_A_SECOND
        self.test.within(10, "nobody waits any more",
                         lambda: took(lambda: self.limited.read(self.file, 0, BLOCK), BLOCKS) < least / 2)


def run(test):
    lab = test.lab("--slaves", "1", "--clients", "2")
    classes = Classes(test, lab)
    classes.operations()
    classes.others()
    classes.bytes()
    classes.removed()


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
