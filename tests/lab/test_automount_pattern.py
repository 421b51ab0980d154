#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_automount_pattern.py - directories by pattern: /home/*, each on the volume with the most room

If this fails, a new user's directory is put on a disk that is full, is seen half made after a crash or by those who may not see it, does
not come back with its disk, or is removed with files in it.
"""

import os
import random
import subprocess
import sys
import time

import daemon
import disk_images
import harness
import raw_nfs

ACCES, IO, NOENT, ROFS = 13, 5, 2, 30
RESERVED = ".vnas-volumes"
MAP = "\n[automount]\nnames = serial\n[map]\nplaces = /home/*\nvolume = most-room\nserial = LAB-*\n[disks]\ndevices = /dev/none\n"


def configure(lab, host, text):
    with open(lab.hosts[host]["config"], "a", encoding="utf-8") as config:
        config.write(text)


def volumes(lab):
    return {row["place"]: row for row in lab.nasctl("volume", "list")}


def made(lab):
    return {place: row for place, row in volumes(lab).items() if place.startswith("/home/")}


def room(lab, place):
    """None: its node has not told (yet)."""
    volume = volumes(lab)[place]
    return next((row["free_bytes"] for row in lab.nasctl("node", "show", str(volume["node"]))["volumes"]
                 if row["id"] == volume["id"]), None)


def seen_by_daemons(lab, place):
    """The directory of a volume, in the daemons' mount namespace."""
    return lab.mounts + volumes(lab)[place]["path"]


def on_disk(lab):
    """The names of all made directories, on both disks."""
    names = []
    for place in ("/disk-LAB-1", "/disk-LAB-2"):
        path = os.path.join(seen_by_daemons(lab, place), RESERVED)
        names += os.listdir(path) if os.path.isdir(path) else []
    return sorted(names)


def records(lab):
    lines = []
    for host in ("disk1", "disk2"):
        path = os.path.join(lab.hosts[host]["state_dir"], "made")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as record:
                lines += record.read().splitlines()
    return lines


def agree(lab):
    """What is in the tree, on the disks, and on the nodes' records is the same."""
    uuids = sorted(row["uuid"] for row in made(lab).values())
    return on_disk(lab) == uuids == sorted(line.split()[0] for line in records(lab)) and all(" made " in line for line in records(lab))


def prepare(test, lab):
    directory = os.path.join(os.path.dirname(lab.hosts["disk1"]["state_dir"]), "images")
    os.mkdir(directory)
    images = {f"disk{n}": disk_images.Image(test, directory, f"disk{n}", 100 * n) for n in (1, 2)}
    for host in ("disk1", "disk2", "switch"):
        lab.stop(host)
    configure(lab, "switch", MAP)
    for n, (host, image) in enumerate(images.items(), 1):
        image.set_serial(f"LAB-{n}")
        configure(lab, host, f"\n[disks]\ndevices = {image.loop}\nformat = empty\ntype = ext4\n")
    for host in ("switch", "disk1", "disk2"):
        lab.start(host)
    test.within(30, "two disks are volumes, of 100 and 200 MiB, whose room is known",
                lambda: {"/disk-LAB-1", "/disk-LAB-2"} <= volumes(lab).keys() and room(lab, "/disk-LAB-1") and room(lab, "/disk-LAB-2"),
                lambda: volumes(lab))
    return images


def goes_where_the_room_is(test, lab, client):
    root = client.mount("/")
    home = client.lookup(root, "home")
    test.check("/home is a directory, and empty", sorted(client.names(home)) == [".", ".."], client.names(home))
    lab.nasctl("mkdir", "/home/a")
    test.check("/home/a is on the larger disk", made(lab)["/home/a"]["node_name"] == "disk2", made(lab))
    test.check("... and clients see it at once", "a" in client.names(home))
    file = client.create(client.walk(home, "a"), "file")
    client.write(file, 0, b"kept")
    fill = os.path.join(seen_by_daemons(lab, "/disk-LAB-2"), "fill")
    with open(fill, "wb") as out:
        os.posix_fallocate(out.fileno(), 0, 150 << 20)
    test.within(15, "the larger disk has less room now", lambda: room(lab, "/disk-LAB-2") < room(lab, "/disk-LAB-1"))
    lab.nasctl("mkdir", "/home/b")
    test.check("/home/b is on the other", made(lab)["/home/b"]["node_name"] == "disk1", made(lab))
    return home, file


def said_no(test, lab, client, home):
    for words, reason in ((("mkdir", "/home/a"), "something already"), (("mkdir", "/elsewhere/a"), "no [map]"),
                          (("mkdir", "/home/.."), "absolute"), (("mkdir", "/home/a/b"), "no [map]"),
                          (("rmdir", "/home/a"), "not empty"), (("rmdir", "/home"), "no directory that"),
                          (("rmdir", "/disk-LAB-1"), "no directory that"),
                          (("volume", "remove", "/disk-LAB-1"), "take these away first")):
        said = lab.refused(*words)
        test.check(f"{' '.join(words)}: {said}", reason in said, said)
    test.check("clients can't make one themselves", raw_nfs.status_of(client.mkdir, home, "c") == ROFS, client.names(home))


def not_seen_twice(test, lab, client):
    for place in ("disk-LAB-1", "disk-LAB-2"):
        disk = client.walk(client.mount("/"), place)
        path = seen_by_daemons(lab, "/" + place)
        test.check(f"{place} does not show the directories inside", RESERVED in os.listdir(path) and RESERVED not in client.names(disk),
                   client.names(disk))
        other = client.mkdir(disk, "other")
        results = [raw_nfs.status_of(client.lookup, disk, RESERVED), raw_nfs.status_of(client.rmdir, disk, RESERVED),
                   raw_nfs.status_of(client.rename, disk, RESERVED, disk, "mine"), raw_nfs.status_of(client.rename, disk, "other", disk, RESERVED),
                   raw_nfs.status_of(client.mkdir, disk, RESERVED), raw_nfs.status_of(client.create, disk, RESERVED)]
        test.check("... nor can they be reached, moved or replaced there", results == [NOENT, NOENT, NOENT, ACCES, ACCES, ACCES], results)
        test.check("... but only there", raw_nfs.status_of(client.mkdir, other, RESERVED) == 0)


def restarted(test, lab, file):
    for host in ("disk2", "switch"):
        lab.kill(host)
        lab.start(host)
        with lab.client() as client:
            test.within(20, f"after kill -9 of {host} handles are good", lambda: raw_nfs.status_of(client.read, file, 0, 10) == 0)
            test.check("... and the file is what it was", client.read(file, 0, 10) == b"kept")
    test.within(10, "... and both are where they were", lambda: sorted(made(lab)) == ["/home/a", "/home/b"] and agree(lab), lambda: made(lab))


def away_and_back(test, lab, image, file):
    lab.stop("disk2")
    image.detach()
    backing = f"/sys/block/{os.path.basename(image.loop)}/loop/backing_file"
    test.within(20, "the disk is pulled out, when nobody on this machine looks at it", lambda: not os.path.exists(backing))
    lab.start("disk2")
    with lab.client() as client:
        test.within(20, "without its disk it is away, with a clear error", lambda: raw_nfs.status_of(client.read, file, 0, 10) == IO)
        home = client.walk(client.mount("/"), "home")
        test.check("... and listed, and the other one is not concerned",
                   {"a", "b"} <= set(client.names(home)) and client.names(client.walk(home, "b")))
        said = lab.refused("rmdir", "/home/a")
        test.check(f"... and not removed: {said}", "away" in said and "/home/a" in made(lab), said)
        image.attach()
        test.within(20, "with its disk it is back", lambda: raw_nfs.status_of(client.read, file, 0, 10) == 0)
        test.check("... as it was", client.read(file, 0, 10) == b"kept")


def removed(test, lab):
    with lab.client() as client:
        home = client.walk(client.mount("/"), "home")
        client.remove(client.walk(home, "a"), "file")
        lab.nasctl("rmdir", "/home/a")
        lab.nasctl("rmdir", "/home/b")
        test.check("removed, they are gone at once, and /home stays", sorted(client.names(home)) == [".", ".."], client.names(home))
    test.within(10, "... from the disks, too", lambda: agree(lab) and not on_disk(lab), lambda: (on_disk(lab), records(lab)))


def killed_within(test, lab, draw):
    """mkdir and rmdir, with a daemon killed at some moment."""
    for n, host in enumerate(("disk1", "switch", "disk1", "switch")):
        lab.nasctl("mkdir", f"/home/old{n}")
        commands = [subprocess.Popen(daemon.nasctl_command(lab.plan, "switch", words), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    for words in (["mkdir", f"/home/new{n}"], ["rmdir", f"/home/old{n}"])]
        time.sleep(draw.uniform(0, 0.05))
        lab.kill(host)
        lab.start(host)
        for command in commands:
            command.wait(60)
        test.within(20, f"after kill -9 of {host} tree, disks and records agree", lambda: room(lab, "/disk-LAB-1") and agree(lab),
                    lambda: (made(lab), on_disk(lab), records(lab)))
        test.check("... and nothing is anywhere else", all(place.startswith(("/home/new", "/home/old", "/disk")) for place in volumes(lab)),
                   volumes(lab))
        with lab.client() as client:
            home = client.walk(client.mount("/"), "home")
            for place in made(lab):
                name = os.path.basename(place)
                test.within(20, f"{place} can be used", lambda name=name: raw_nfs.status_of(client.walk, home, name) == 0 and
                            raw_nfs.status_of(client.remove, client.walk(home, name), "x") == NOENT)
    for place in made(lab):
        lab.nasctl("rmdir", place)
    test.within(10, "all is taken away", lambda: agree(lab) and not on_disk(lab), lambda: (on_disk(lab), records(lab)))


def run(test):
    seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
    test.say(f"SEED={seed}")
    mounts = disk_images.Mounts(test)
    lab = test.lab("--slaves", "2", "--clients", "1", environment=mounts.environment)
    lab.mounts = f"/proc/{mounts.holder.pid}/root"
    images = prepare(test, lab)
    with lab.client() as client:
        home, file = goes_where_the_room_is(test, lab, client)
        said_no(test, lab, client, home)
        not_seen_twice(test, lab, client)
    restarted(test, lab, file)
    away_and_back(test, lab, images["disk2"], file)
    removed(test, lab)
    killed_within(test, lab, random.Random(seed))


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
