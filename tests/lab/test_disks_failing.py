#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_disks_failing.py - disks that fail: in use, while they are formatted, and with the daemon that formats them

If this fails, one bad disk stops the work on all others, or does not come back; or a half-made file system is used as if it were whole.
"""

import os
import random
import signal
import sys
import time

import disk_images
import harness
from raw_nfs import status_of
from test_disks import IO, configure, disks, format_disk, state

KILLS = 8
WHILE_S = 0.05    # about what a format takes
PLACE = "disk2"    # behind those of the lab's own volumes


def fails_and_returns(test, lab, disk):
    format_disk(lab, disk)
    test.within(20, "the disk is a volume", lambda: state(lab, disk) == "volume", lambda: disks(lab))
    client = lab.client()
    root = client.mount("/")
    directory = client.lookup(root, PLACE)
    file = client.create(directory, "file")
    client.write(file, 0, b"kept")
    load = test.load(lab, "--seconds", "0", "/disk0")
    disk.tell("fail")
    test.check("a client of the disk gets a clear error", harness.wait_until(
        lambda: status_of(client.create, directory, "another") == IO, 20) is not None)
    test.within(30, "the disk is away", lambda: state(lab, disk) == "away", lambda: disks(lab))
    test.check("... all of it gives that error", {status_of(client.read, file, 0, 4), status_of(client.getattr, directory),
                                                  status_of(client.names, directory)} == {IO})
    test.check("the root and other disks are listed", {"disk0", "disk1", PLACE} <= set(client.names(root)))
    test.check("another volume of the same node is served", status_of(client.create, client.lookup(root, "disk0"), "beside") == 0)
    disk.tell("work")
    test.within(30, "it works again: it is mounted anew", lambda: state(lab, disk) == "volume", lambda: disks(lab))
    test.check("... and the handles are good as before", client.read(file, 0, 10) == b"kept")
    test.within(30, "... also for writing", lambda: status_of(client.create, directory, "again") == 0)
    test.check_load(load, "who worked on another disk noticed nothing")


def hangs_when_let_go(test, lab, disk):
    """It does not answer while it is unmounted, with something still to be written."""
    client = lab.client()
    file = client.create(client.walk(client.mount("/"), PLACE), "unwritten")
    client.write_as(file, 0, bytes(1 << 15), 0)
    disk.stall()
    said = lab.refused("volume", "remove", str(disks(lab)[disk.loop]["volume"]))
    test.check("a volume whose disk hangs is removed all the same", not said, said)
    said = lab.refused("disk", "rescan", "disk1")
    test.check("... and its node answers", not said, said)
    disk.go_on()
    test.within(30, "it is let go of when it answers again", lambda: state(lab, disk) == "holds", lambda: disks(lab))


def mkfs_fails(test, lab, tiny, disk):
    format_disk(lab, tiny)
    test.within(20, "a disk that is too small: mkfs says so", lambda: "mkfs.ext4 failed" in disks(lab)[tiny.loop]["note"],
                lambda: disks(lab))
    test.check("... and it is no volume", state(lab, tiny) in ("empty", "holds") and not disks(lab)[tiny.loop]["volume"])
    disk.tell("fail")
    said = lab.refused("disk", "format", "disk1", disk.loop, "--yes")
    test.check(f"a disk that can't be read is not empty: {said}", "can't be read" in said, said)
    disk.tell("work")


def dies_in_mkfs(test, lab, disk):
    """The disk, while it is formatted."""
    lab.nasctl("disk", "rescan", "disk1")
    test.within(10, "the disk is empty", lambda: state(lab, disk) == "empty", lambda: disks(lab))
    format_disk(lab, disk)
    disk.tell("fail")
    test.within(30, "its format ends, well or with the reason", lambda: state(lab, disk) in ("volume", "away") or
                (state(lab, disk) in ("holds", "unfinished", "empty") and disks(lab)[disk.loop]["note"]), lambda: disks(lab))
    test.check("the daemon goes on", lab.node(2)["state"] == "up")
    disk.tell("work")
    lab.nasctl("disk", "rescan", "disk1")
    test.within(30, "it is empty, offered again, or the volume that it had become",
                lambda: state(lab, disk) in ("empty", "unfinished", "volume"), lambda: disks(lab))


def killed(test, lab, disk):
    """The daemon, at any moment of a format."""
    seen = {}
    for _ in range(KILLS):
        row = disks(lab)[disk.loop]
        if row["state"] == "volume":
            lab.nasctl("volume", "remove", str(row["volume"]))
            test.need("the disk is let go of", harness.wait_until(lambda: state(lab, disk) == "holds", 20) is not None, disks(lab))
            disk_images.run("wipefs", "--all", "--quiet", disk.loop)
            lab.nasctl("disk", "rescan", "disk1")
            test.need("it is empty", harness.wait_until(lambda: state(lab, disk) == "empty", 10) is not None, disks(lab))
        format_disk(lab, disk)
        time.sleep(random.random() * WHILE_S)
        disk.stall()    # so that it is killed at this moment, and not when mkfs has long done
        os.kill(lab.pid("disk1"), signal.SIGKILL)
        disk.go_on()
        test.need("the daemon is gone", harness.wait_until(lambda: lab.pid("disk1") is None, 20) is not None)
        with open(os.path.join(lab.hosts["disk1"]["state_dir"], "disks"), encoding="ascii") as file:
            was_ready = " formatting " not in file.read()
        lab.start("disk1")
        allowed = ("volume",) if was_ready else ("empty", "unfinished")
        if not test.within(20, f"killed in a format that was {'ready' if was_ready else 'not ready'}: {' or '.join(allowed)}",
                           lambda: state(lab, disk) in allowed, lambda: disks(lab)):
            return
        seen[state(lab, disk)] = seen.get(state(lab, disk), 0) + 1
    test.say(f"found {seen}")
    if state(lab, disk) != "volume":
        format_disk(lab, disk)
    test.within(20, "and in the end it is a volume", lambda: state(lab, disk) == "volume", lambda: disks(lab))
    client = lab.client()
    test.within(10, "which is used", lambda: status_of(
        client.create, client.walk(client.mount("/"), disks(lab)[disk.loop]["place"]), "file") == 0)


def missing():
    return None if os.access(disk_images.PROGRAM, os.X_OK) else f"{disk_images.PROGRAM} (make clients)"


def run(test):
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    test.say(f"SEED={seed}")
    random.seed(seed)
    lab = test.lab("--slaves", "2", "--clients", "1", environment=disk_images.Mounts(test).environment)
    directory = os.path.join(os.path.dirname(lab.hosts["disk1"]["state_dir"]), "images")
    os.mkdir(directory)
    failing = [disk_images.FailingDisk(test, directory, f"failing-{i}", 128) for i in range(2)]
    tiny = disk_images.Image(test, directory, "tiny", 0)
    os.truncate(tiny.path, 16384)
    disk_images.run("losetup", "--set-capacity", tiny.loop)
    lab.stop("disk1")
    devices = ", ".join(image.loop for image in (*failing, tiny))
    configure(lab, "disk1", f"\n[disks]\ndevices = {devices}\n")
    lab.start("disk1")
    test.within(10, "all are offered", lambda: all(state(lab, image) == "empty" for image in (*failing, tiny)),
                lambda: disks(lab))
    fails_and_returns(test, lab, failing[0])
    hangs_when_let_go(test, lab, failing[0])
    mkfs_fails(test, lab, tiny, failing[1])
    dies_in_mkfs(test, lab, failing[1])
    killed(test, lab, failing[1])
    lab.stop("disk1")    # lets go of the disks, before the lab and they go


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, missing))
