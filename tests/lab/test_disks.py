#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_disks.py - a new disk of a disk node becomes a volume, and one that holds something does not

If this fails, somebody's data are overwritten; or a new disk stays invisible, is not found again after a restart, or takes other
disks along when it fails.
"""

import filecmp
import os
import re
import shutil
import sys

import disk_images
import harness
import raw_nfs

HELD = ("ext4", "xfs", "LVM2_member", "partitions")
IO = 5


def configure(lab, host, text):
    with open(lab.hosts[host]["config"], "a", encoding="utf-8") as config:
        config.write(text)


def disks(lab):
    return {row["device"]: row for row in lab.nasctl("disk", "list")}


def state(lab, image):
    return disks(lab).get(image.loop, {}).get("state")


def format_disk(lab, image, *more):
    return lab.nasctl("disk", "format", "disk1", image.loop, "--yes", *more)


def become_volume(test, lab, image, place):
    test.within(20, f"{image.loop} becomes a volume at {place}",
                lambda: state(lab, image) == "volume" and disks(lab)[image.loop]["place"] == place, lambda: disks(lab))


def offered(test, lab, empty, held):
    test.within(10, "the empty disk is offered, with serial number and size", lambda: state(lab, empty) == "empty",
                lambda: disks(lab))
    row = disks(lab)[empty.loop]
    test.check("... of this node", (row["node"], row["serial"], row["size_bytes"], row["smart"]) ==
               (2, "LAB-1", 400 << 20, "unknown"), row)
    for kind, image in held.items():
        before = image.content()
        test.check(f"a disk with {kind} is shown as what it is", state(lab, image) == "holds" and
                   kind in disks(lab)[image.loop]["note"], disks(lab)[image.loop])
        said = lab.refused("disk", "format", "disk1", image.loop, "--yes")
        test.check(f"... and refused: {said}", "holds" in said and kind in said, said)
        test.check("... untouched", image.content() == before)


def asked(test, lab, empty):
    said = lab.run("switch", lab.plan["programs"]["nasctl"], "--socket", os.path.join(lab.hosts["switch"]["run_dir"], "admin.sock"),
                   "disk", "format", "disk1", empty.loop, check=False)
    test.check(f"it asks first: {said.strip()}", "LAB-1" in said and "--yes" in said and state(lab, empty) == "empty", said)
    for words, reason in (((empty.loop, "--type", "btrfs"), "usage"), (("/dev/nothing", "--yes"), "has no disk"),
                          ((empty.loop, "--no"), "usage")):
        said = lab.refused("disk", "format", "disk1", *words)
        test.check(f"{said}", reason in said, said)


def used(test, lab, empty):
    format_disk(lab, empty)
    become_volume(test, lab, empty, "/disk-LAB-1")
    client = lab.client()
    root = client.mount("/")
    directory = client.lookup(root, "disk-LAB-1")
    test.check("it is empty, without the file system's own", sorted(client.names(directory)) == [".", ".."])
    file = client.create(directory, "file")
    client.write(file, 0, b"kept")
    test.check("a client writes and reads", client.read(file, 0, 10) == b"kept")
    said = lab.refused("disk", "format", "disk1", empty.loop, "--yes")
    test.check(f"a volume is not formatted: {said}", "is a volume" in said, said)
    return client, file


def restarted(test, lab, mounts, directory, empty, copy_loop, client, file):
    for what in ("kill", "stop"):
        getattr(lab, what)("disk1")
        lab.start("disk1")
        become_volume(test, lab, empty, "/disk-LAB-1")
        test.check(f"after {what} it is mounted again, and handles are good",
                   harness.wait_until(lambda: raw_nfs.status_of(client.read, file, 0, 10) == 0, 20) is not None)
    lab.stop("disk1")
    test.check("an orderly stop unmounts it", lab.hosts["disk1"]["state_dir"] + "/mnt" not in mounts.list())
    empty.detach()
    lab.start("disk1")
    test.within(10, "without its disk the volume is away", lambda: disks(lab).get("", {}).get("state") == "away", lambda: disks(lab))
    test.check("... its clients get a clear error", raw_nfs.status_of(client.read, file, 0, 10) == IO)
    test.check("... and the root is listed", "disk-LAB-1" in client.names(client.mount("/")))
    lab.stop("disk1")
    shutil.copyfile(empty.path, os.path.join(directory, "copy"))
    copy = disk_images.Image(test, directory, "copy", None, copy_loop)
    empty.attach()
    lab.start("disk1")
    test.within(10, "beside a copy of it the volume is away", lambda: {state(lab, empty), state(lab, copy)} == {"away"}, lambda: disks(lab))
    test.check("... and neither is written to", filecmp.cmp(empty.path, copy.path, shallow=False))
    copy.detach()
    become_volume(test, lab, empty, "/disk-LAB-1")
    test.check("plugged in again, the handle is good", client.read(file, 0, 10) == b"kept")


def came_and_went(test, lab, mounts, directory, loop, client):
    """While vnasd runs, and by XFS."""
    image = disk_images.Image(test, directory, "late", 400, loop)
    test.within(10, f"{image.loop} is noticed", lambda: state(lab, image) == "empty", lambda: disks(lab))
    format_disk(lab, image, "--type", "xfs")
    test.within(20, "it is a volume, by XFS", lambda: state(lab, image) == "volume", lambda: disks(lab))
    test.check("... mounted as XFS", re.search(rf"^{image.loop} \S+ xfs ", mounts.list(), re.MULTILINE), mounts.list())
    place = disks(lab)[image.loop]["place"]
    volume = disks(lab)[image.loop]["volume"]
    client.create(client.walk(client.mount("/"), place), "file")
    lab.nasctl("volume", "remove", str(volume))
    test.within(10, "removed from the cluster it is let go of, with its data",
                lambda: state(lab, image) == "holds" and "xfs" in disks(lab)[image.loop]["note"], lambda: disks(lab))
    image.detach()
    test.within(10, "pulled out it is not shown any more", lambda: len([row for row in disks(lab).values() if row["note"].startswith("xfs \"vnas\"")]) == 0,
                lambda: disks(lab))


def by_policy(test, lab, directory, loop, held):
    lab.stop("disk1")
    with open(lab.hosts["disk1"]["config"], encoding="utf-8") as config:
        text = config.read()
    with open(lab.hosts["disk1"]["config"], "w", encoding="utf-8") as config:
        config.write(text.replace("format = ask", "format = empty"))
    before = {kind: image.content() for kind, image in held.items()}
    lab.start("disk1")
    image = disk_images.Image(test, directory, "by-policy", 64, loop)
    test.within(20, "by policy an empty disk becomes a volume without a question", lambda: state(lab, image) == "volume",
                lambda: disks(lab))
    test.check("... and none that holds something", all(state(lab, image) == "holds" and image.content() == before[kind]
                                                        for kind, image in held.items()), disks(lab))


def run(test):
    mounts = disk_images.Mounts(test)
    lab = test.lab("--slaves", "1", "--clients", "1", environment=mounts.environment)
    directory = os.path.join(os.path.dirname(lab.hosts["disk1"]["state_dir"]), "images")
    os.mkdir(directory)
    empty = disk_images.Image(test, directory, "empty", 400)
    empty.set_serial("LAB-1")
    held = {kind: disk_images.Image(test, directory, kind, 400) for kind in HELD}
    for kind, image in held.items():
        image.fill(kind)
    for host in ("disk1", "switch"):
        lab.stop(host)
    configure(lab, "switch", "\n[automount]\nnames = serial\n[disks]\ndevices = /dev/none\n")
    late, by_itself, copy_loop = (disk_images.reserve() for _ in range(3))
    devices = ", ".join([empty.loop, late, by_itself, copy_loop] + [image.loop for image in held.values()])
    configure(lab, "disk1", f"\n[disks]\ndevices = {devices}\nformat = ask\n")
    for host in ("switch", "disk1"):
        lab.start(host)
    offered(test, lab, empty, held)
    asked(test, lab, empty)
    client, file = used(test, lab, empty)
    restarted(test, lab, mounts, directory, empty, copy_loop, client, file)
    came_and_went(test, lab, mounts, directory, late, client)
    by_policy(test, lab, directory, by_itself, held)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
