#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_joining.py - a disk node without a token: it waits, is shown, and is let in or not

If this fails, a machine that nobody has approved becomes a device of the cluster, or one that was approved has to be
restarted by hand, or an administrator can't see whether somebody stands between the two.

The lab's disk2 leaves the cluster and comes again as a stranger whose configuration names the master.
"""

import os
import re
import shutil
import sys

import harness

STRANGER = "disk2"


class Stranger:
    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.host = lab.hosts[STRANGER]
        with open(self.host["config"], encoding="ascii") as file:
            self.config = file.read()
        self.configure(f"master = {lab.hosts['switch']['address']}")

    def configure(self, line, section="network"):
        self.config = self.config.replace(f"[{section}]\n", f"[{section}]\n{line}\n")
        with open(self.host["config"], "w", encoding="ascii") as file:
            file.write(self.config)

    def forget(self):
        """As if new from the shop, but for what is on its disk."""
        shutil.rmtree(self.host["state_dir"])
        os.mkdir(self.host["state_dir"])

    def start(self):
        self.lab.start(STRANGER)

    def stop(self):
        self.lab.stop(STRANGER)

    def status(self):
        return self.lab.nasctl("status", host=STRANGER)


def rows(lab, state):
    return [row for row in lab.nasctl("node", "list") if row["state"] == state]


def volumes(lab):
    return {row["place"]: row["state"] for row in lab.nasctl("volume", "list")}


def waits(test, lab, stranger):
    """It is shown, with the same fingerprint at both ends, and is nothing else."""
    stranger.start()
    test.within(10, "it is in the list as pending", lambda: rows(lab, "pending"))
    row = rows(lab, "pending")[0]
    test.check("... by its name, address and serial number", row["name"] == STRANGER and
               row["address"] == stranger.host["address"] and row["serial"] == "WD-WX42", row)
    status = stranger.status()
    test.check("both ends show the same fingerprint", status["fingerprint"] == row["fingerprint"], (status, row))
    test.check("its own status says what it waits for", "nasctl node approve" in status["waits"], status)
    test.check("both logs have the fingerprint", all(row["fingerprint"] in lab.log(name)
                                                     for name in ("switch", STRANGER)))
    problems = lab.nasctl("status")["problems"]
    test.check("the master's status says what to do", any(f"nasctl node approve {STRANGER}" in text
                                                           for text in problems), problems)
    test.check("it has no node number and no volume", row["id"] is None and len(volumes(lab)) == 1, volumes(lab))
    return row["fingerprint"]


def rejected(test, lab, stranger, fingerprint):
    lab.nasctl("node", "reject", fingerprint[:9])
    test.within(10, "rejected, it is told so", lambda: "rejected" in stranger.status()["waits"], stranger.status)
    stranger.stop()
    lab.kill("switch")
    lab.start("switch")
    stranger.start()
    test.within(10, "... also after restarts of both", lambda: "rejected" in stranger.status()["waits"],
                stranger.status)
    test.check("... and is not pending", not rows(lab, "pending"), rows(lab, "pending"))
    test.check("... but still in the list", rows(lab, "rejected"))
    problems = lab.nasctl("status")["problems"]
    test.check("... and nobody is asked about it any more", not any(STRANGER in text and "approve" in text
                                                                    for text in problems), problems)
    stranger.stop()


def approved(test, lab, stranger):
    pid = lab.pid(STRANGER)
    lab.nasctl("node", "approve", STRANGER)
    test.within(10, "approved, it is up", lambda: any(row["name"] == STRANGER for row in rows(lab, "up")),
                lambda: lab.nasctl("node", "list"))
    test.within(10, "... and its volume is in the tree", lambda: len(volumes(lab)) == 2, lambda: volumes(lab))
    test.check("... without a restart of its daemon", lab.pid(STRANGER) == pid)
    test.within(10, "... which answers as a disk node", lambda: stranger.status()["role"] == "slave")
    with lab.client() as client:
        test.within(10, "... and a client finds it", lambda: client.walk(client.mount("/"), "/disk1"))
    stranger.stop()
    stranger.start()
    test.within(10, "a restart needs no approval", lambda: any(row["name"] == STRANGER for row in rows(lab, "up")))
    test.check("... and nobody waits", not rows(lab, "pending"))


def remove(lab):
    numbers = [row["id"] for row in lab.nasctl("node", "list") if row["name"] == STRANGER and row["id"]]
    for row in lab.nasctl("volume", "list"):
        if row["node"] in numbers:
            lab.nasctl("volume", "remove", str(row["id"]))
    for number in numbers:
        lab.nasctl("node", "remove", str(number))


def by_policy(test, lab, stranger):
    """Rules that do not fit, then one that does."""
    config = lab.hosts["switch"]["config"]
    with open(config, encoding="ascii") as file:
        text = file.read()
    for rules, fits in ((f"network:{stranger.host['address']}+serial:XX-*, vendor-class:other", False),
                        (f"serial:XX-*, network:{stranger.host['address']}+vendor-class:vnas-disk", True)):
        stranger.stop()
        stranger.forget()
        lab.stop("switch")
        with open(config, "w", encoding="ascii") as file:
            file.write(f"{text}[membership]\nauto_approve = {rules}\n")
        lab.start("switch")
        stranger.start()
        test.within(15, f"{rules}: {'joins' if fits else 'waits'}", lambda state="up" if fits else "pending": any(
            row["name"] == STRANGER for row in rows(lab, state)), lambda: lab.nasctl("node", "list"))
    test.check("the master says by which rule", re.search(r"joins by auto_approve = network:\S+\+vendor-class:vnas-disk$",
                                                          lab.log("switch"), re.MULTILINE))


def comes_back(test, lab, stranger):
    """Removed as it is, and plugged in again: another node, the same data at the same place."""
    lab.nasctl("volume", "move", "/disk1", "/archive")
    before = {row["place"]: row["uuid"] for row in lab.nasctl("volume", "list")}
    number = next(row["id"] for row in lab.nasctl("node", "list") if row["name"] == STRANGER)
    with lab.client() as client:
        disk = client.walk(client.mount("/"), "/archive")
        handle = client.create(disk, "kept")
        client.write(handle, 0, b"kept")
        lab.nasctl("node", "remove", STRANGER)
        stranger.stop()
        test.check("removed, its volume has its place and is away", volumes(lab).get("/archive") == "away", volumes(lab))
        test.check("... the rest is served", client.walk(client.mount("/"), "/disk0"))
        shutil.rmtree(os.path.join(stranger.host["state_dir"], "pki"))
        stranger.start()
        test.within(10, "plugged in again, it is asked about", lambda: rows(lab, "pending"))
        lab.nasctl("node", "approve", STRANGER)
        test.within(10, "approved, its volume is back", lambda: volumes(lab).get("/archive") == "up",
                    lambda: lab.nasctl("volume", "list"))
        after = {row["place"]: row["uuid"] for row in lab.nasctl("volume", "list")}
        test.check("... the same at the same place", after == before, (before, after))
        test.check("... of another node", number not in [row["id"] for row in lab.nasctl("node", "list")])
        test.within(20, "the client's handle is valid as before", lambda: is_read(client, handle))


def installed_anew(test, lab, stranger):
    """What it was is a node still, of the same name."""
    before = [row["id"] for row in lab.nasctl("node", "list")]
    stranger.stop()
    stranger.forget()
    stranger.start()
    test.within(10, "installed anew, it is asked about", lambda: rows(lab, "pending"))
    problems = lab.nasctl("status")["problems"]
    command = next(re.search(r"waits for approval: nasctl (.*)", text) for text in problems if "waits for approval" in text)
    lab.nasctl(*command.group(1).split())
    test.within(10, "... and the command that status shows lets it in, not what had the name before", lambda: any(
        row["id"] not in before for row in rows(lab, "up")), lambda: lab.nasctl("node", "list"))
    row = next(row for row in lab.nasctl("node", "list") if row["id"] and row["id"] not in before)
    test.check("... by a name that is its own", row["name"] == f"{STRANGER}-{row['id']}", row)


def is_read(client, handle):
    try:
        return client.read(handle, 0, 10) == b"kept"
    except harness.raw_nfs.Status as error:
        if error.status != harness.raw_nfs.JUKEBOX:
            raise
        return False


def no_names(test, lab):
    said = lab.refused("node", "approve", "nobody")
    test.check("who does not ask can't be approved", "nobody called" in said, said)
    said = lab.refused("node", "reject", "disk1")
    test.check("who is a member can't be rejected", "nobody called" in said, said)


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    stranger = Stranger(test, lab)
    stranger.configure("serial = WD-WX42", "vnas")
    stranger.stop()
    remove(lab)
    stranger.forget()
    no_names(test, lab)
    fingerprint = waits(test, lab, stranger)
    rejected(test, lab, stranger, fingerprint)
    stranger.forget()    # a new key
    stranger.start()
    test.within(10, "with a new key it may ask again", lambda: rows(lab, "pending"))
    test.check("... which has another fingerprint", rows(lab, "pending")[0]["fingerprint"] != fingerprint)
    approved(test, lab, stranger)
    comes_back(test, lab, stranger)
    installed_anew(test, lab, stranger)
    remove(lab)
    by_policy(test, lab, stranger)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
