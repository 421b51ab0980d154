#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_automount_map.py - the automount map in the switch's configuration

If this fails, disks are not where the administrator's map says, a mistake in it takes volumes out of the tree while clients use
them, or commands and map contradict each other.
"""

import os
import signal
import sys

import daemon
import harness


def configure(lab, text):
    """Replace the sections behind the lab's own, and have the switch read its configuration again."""
    path = lab.hosts["switch"]["config"]
    with open(path, encoding="utf-8") as file:
        kept = file.read().split("\n#map\n")[0]
    with open(path, "w", encoding="utf-8") as file:
        file.write(kept + "\n#map\n" + text)
    os.kill(lab.pid("switch"), signal.SIGHUP)
    return kept.count("\n") + 3    # the number of the text's first line


def tree(lab):
    places = {}
    for row in lab.nasctl("volume", "list"):
        places[row["id"]] = {row["place"], *filter(None, row["also_at"].split(", "))}
    return places


def in_force(test, lab, what, text, wanted):
    configure(lab, text)
    test.within(10, what, lambda: tree(lab) == wanted, lambda: tree(lab))


def refused(test, lab, what, text, said):
    before, at = tree(lab), len(lab.log("switch"))
    line = configure(lab, text)
    test.within(10, f"{what}: refused", lambda: "nothing has changed" in lab.log("switch")[at:], lambda: lab.log("switch")[at:])
    test.check("... with the line and the reason", said.format(line) in lab.log("switch")[at:], lab.log("switch")[at:])
    test.check("... and nothing has changed", tree(lab) == before, tree(lab))


def by_hand(test, lab, *words):
    try:
        lab.nasctl("volume", *words)
        test.check(f"volume {' '.join(words)} is refused", False)
    except daemon.DaemonError as error:
        test.check(f"{error}", "[map] in line" in str(error), str(error))


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    client = lab.client()
    root = client.mount("/")
    file = client.create(client.walk(root, "disk0"), "file")
    client.write(file, 0, b"text")
    uuid = next(row["uuid"] for row in lab.nasctl("volume", "list") if row["id"] == 2)

    in_force(test, lab, "a volume goes to the places of its node",
             "[map]\nplaces = /home, /projects/a\nnode = disk1\n", {1: {"/home", "/projects/a"}, 2: {"/disk1"}})
    test.within(10, "clients see that", lambda: sorted(client.names(root)) == [".", "..", "disk1", "home", "projects"])
    test.check("... and their open files go on", client.read(file, 0, 10) == b"text")
    by_hand(test, lab, "move", "1", "/x")
    by_hand(test, lab, "place", "/home", "/x")
    by_hand(test, lab, "unplace", "1", "/home")
    refused(test, lab, "a place that is taken", "[map]\nplaces = /home, /disk1\nnode = disk1\n",
            "line {}: volume 1 can't be at /disk1")
    refused(test, lab, "a pattern that fits two", "[map]\nplaces = /home\nnode = disk?\n",
            "line {}: this [map] fits the volumes 1 and 2")
    refused(test, lab, "a wrong line", "[map]\nplaces = /home/a*\nnode = disk1\n", "places can't be \"/home/a*\"")
    in_force(test, lab, "two volumes change places", f"[map]\nplaces = /disk1\nnode = disk1\n[map]\nplaces = /home\nuuid = {uuid}\n",
             {1: {"/disk1"}, 2: {"/home"}})
    test.check("open files go on", client.read(file, 0, 10) == b"text")
    lab.stop("switch")
    with open(lab.hosts["switch"]["config"], "a", encoding="utf-8") as config:
        config.write("\n[automount]\nnames = serial\n")
    with open(lab.hosts["switch"]["config"], encoding="utf-8") as config:
        text = config.read()
    with open(lab.hosts["switch"]["config"], "w", encoding="utf-8") as config:
        config.write(text.replace("places = /disk1", "places = /moved/while/away"))
    lab.start("switch")
    test.within(10, "a map that changed while the switch was away is in force",
                lambda: tree(lab) == {1: {"/moved/while/away"}, 2: {"/home"}}, lambda: tree(lab))
    in_force(test, lab, "without a map all stays where it is", "", {1: {"/moved/while/away"}, 2: {"/home"}})
    lab.nasctl("volume", "move", "1", "/disk0")
    test.check("... and commands may move it again", tree(lab)[1] == {"/disk0"}, tree(lab))
    with lab.client() as again:
        test.check("the file's handle is good all the time", again.read(file, 0, 10) == b"text")


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
