#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_enforcement.py - a change of exports, users and groups counts at once, on each session that is open, wherever it is

If this fails, a client goes on with rights that its administrator has taken away, or does not get those that were given, until it
mounts anew.

One client has a session of each kind there is: relayed by the switch, handed off to the disk that has the data, handed off to
another disk that relays, and datagrams. All work on one disk's files while the rights change. What each change took to be seen
by the last of them is printed.
"""

import json
import os
import sys
import time

import daemon
import harness
import raw_nfs

ACCES, ROFS = 13, 30
ROOT, USER, NOBODY = (0, 0), (1000, 1000), (65534, 65534)
PATIENCE_S = 10
STRANGER, TEAM = 23456, 34567
HASH = "$y$j9T$Nd2Qcme7YmAV1pqhWXhPt/$1sHe8S8nCz2oAC5lD/.tYx0x9nQ7JDyX9dLHhl.x1V9"
DISKS = {"disk1": 2, "disk2": 3}
ELSEWHERE = "203.0.113.0/24(rw,insecure)"


class Enforcement:
    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.storage = lab.hosts["disk1"]["storage"]
        self.directory = os.path.dirname(lab.hosts["switch"]["config"])
        os.chmod(self.storage, 0o777)
        self.address = lab.hosts["client1"]["address"]
        self.sessions = {
            "relayed by the switch": lab.client(),
            "at the disk": lab.client(),
            "relayed by another disk": lab.client(),
            "datagrams": raw_nfs.DatagramClient(lab.vip, netns=lab.netns("client1")),
        }
        self.slowest_s = 0.0
        self.place()
        first = self.sessions["relayed by the switch"]
        self.root = first.mount("/disk0")
        self.file = first.create(self.root, "file")
        os.chmod(f"{self.storage}/file", 0o666)

    def place(self):
        for what, disk in (("at the disk", "disk1"), ("relayed by another disk", "disk2")):
            client = self.sessions[what]
            client.null()
            self.test.within(PATIENCE_S, f"the session {what} is known",
                             lambda client=client: self.lab.session(*client.local))
            self.lab.nasctl("handoff", self.lab.session(*client.local)["id"], disk)
        self.check_places()

    def check_places(self):
        for what, node in (("relayed by the switch", 1), ("at the disk", DISKS["disk1"]),
                           ("relayed by another disk", DISKS["disk2"])):
            client = self.sessions[what]
            self.test.within(PATIENCE_S, f"the session {what} is at node {node}",
                             lambda client=client, node=node:
                             (self.lab.session(*client.local) or {"node": 0})["node"] == node)

    def each(self, what, change, find, expected):
        """
        After @change, find(client, name) is @expected on every session; and it was not before on any of them, or nothing
        would be seen.
        """
        before = [find(client, name) for name, client in self.sessions.items()]
        self.test.check(f"{what}: not before", expected not in before, before)
        change()
        started = time.monotonic()
        for name, client in self.sessions.items():
            took = harness.wait_until(lambda client=client, name=name: find(client, name) == expected, PATIENCE_S, 0.005)
            self.test.check(f"{what}: {name}", took is not None, find(client, name))
        took_s = time.monotonic() - started
        self.test.say(f"all of them after {1000 * took_s:.0f} ms")
        self.slowest_s = max(self.slowest_s, took_s)

    def export(self, *clients, path="/"):
        return lambda: self.lab.nasctl("export", "set", path, *clients)

    def remove(self, path):
        return lambda: self.lab.nasctl("export", "remove", path)

    def read(self, client, _):
        return raw_nfs.status_of(client.read, self.file, 0, 4)

    def write(self, client, _):
        return raw_nfs.status_of(client.write, self.file, 0, b"data")

    def owner(self, user):
        """Whose the files are that the user makes."""
        def find(client, name):
            path = f"{self.storage}/made by one {name}"
            if os.path.exists(path):
                os.remove(path)
            client.user = (*user, ())
            try:
                client.create(self.root, os.path.basename(path))
                status = os.stat(path)
                return status.st_uid, status.st_gid
            except raw_nfs.Status as status:
                return status.status
            finally:
                client.user = (0, 0, ())
        return find

    def rights(self):
        mine, network = self.address, "10.77.1.0/24"
        self.each("ro", self.export("*(ro,insecure)"), self.write, ROFS)
        self.each("rw", self.export("*(rw,insecure)"), self.write, raw_nfs.OK)
        self.each("another network", self.export(ELSEWHERE), self.read, ACCES)
        self.each("the client's network", self.export(f"{network}(rw,insecure)"), self.read, raw_nfs.OK)
        self.each("its address before its network", self.export(f"{network}(rw,insecure)", f"{mine}(ro,insecure)"),
                  self.write, ROFS)
        self.each("privileged ports only", self.export("*(rw)"), self.read, ACCES)
        self.each("any port", self.export("*(rw,insecure)"), self.read, raw_nfs.OK)

    def squashing(self):
        self.each("no_root_squash", self.export("*(rw,insecure,no_root_squash)"), self.owner(ROOT), ROOT)
        self.each("root_squash", self.export("*(rw,insecure)"), self.owner(ROOT), NOBODY)
        self.each("anonuid", self.export("*(rw,insecure,anonuid=77,anongid=78)"), self.owner(ROOT), (77, 78))
        self.each("all_squash", self.export("*(rw,insecure,all_squash,anonuid=77,anongid=78)"), self.owner(USER), (77, 78))
        self.each("another anonuid", self.export("*(rw,insecure,all_squash,anonuid=87,anongid=88)"), self.owner(USER), (87, 88))
        self.each("no_all_squash", self.export("*(rw,insecure)"), self.owner(USER), USER)

    def groups(self):
        """A user whom no device's name service knows; what groups his client names does not count."""
        with open(f"{self.storage}/team", "w", encoding="ascii") as file:
            file.write("team")
        os.chown(f"{self.storage}/team", 0, TEAM)
        os.chmod(f"{self.storage}/team", 0o640)
        team = self.sessions["at the disk"].lookup(self.root, "team")

        def read(client, _):
            client.user = (STRANGER, STRANGER, (TEAM,))
            try:
                return raw_nfs.status_of(client.read, team, 0, 4)
            finally:
                client.user = (0, 0, ())

        def nasctl(*words):
            return lambda: self.lab.nasctl(*words)

        self.each("groups of the server", self.export("*(rw,insecure,manage_gids)"), read, ACCES)
        self.each("groups of the client", self.export("*(rw,insecure)"), read, raw_nfs.OK)
        self.each("groups of the server again", self.export("*(rw,insecure,manage_gids)"), read, ACCES)
        self.lab.nasctl("group", "add", "team", "--gid", str(TEAM))
        self.lab.nasctl("user", "add", "anna", "--uid", str(STRANGER))
        self.each("a user in the group", nasctl("group", "member", "add", "team", "anna"), read, raw_nfs.OK)
        self.each("... and out of it", nasctl("group", "member", "remove", "team", "anna"), read, ACCES)
        self.each("his first group", nasctl("user", "set", "anna", "--group", "team"), read, raw_nfs.OK)
        self.each("a user who is none", nasctl("user", "remove", "anna"), read, ACCES)
        self.lab.nasctl("group", "remove", "team")
        self.export("*(rw,insecure)")()

    def refusals(self):
        """What useradd would not do. The list of users is empty all the time."""
        for words in (("user", "add", "Anna"), ("user", "add", "anna", "--uid", "0"), ("user", "add", "anna", "--uid", "-1"),
                      ("user", "add", "anna", "--group", "nobodys"), ("user", "add", "anna", "--shell", "/bin/sh"),
                      ("user", "add", "anna", "--uid"), ("user", "add", "anna", "--comment", "a:b"), ("user", "show", "anna"),
                      ("user", "passwd", "anna", HASH), ("group", "add", "1team"), ("group", "member", "add", "team", "anna")):
            try:
                self.lab.nasctl(*words)
                self.test.check(f"{' '.join(words)} is refused", False)
            except daemon.DaemonError as error:
                self.test.check(f"{' '.join(words)} is refused: {error}", True)
        self.test.check("nothing was made", not self.lab.nasctl("user", "list") and not self.lab.nasctl("group", "list"))

    def passwords(self):
        """Ids are given out once, and a hash is shown to nobody."""
        self.lab.nasctl("user", "add", "anna", "--comment", "Anna, room 7")
        before = self.lab.nasctl("user", "show", "anna")
        self.lab.nasctl("user", "passwd", "anna", HASH)
        after = self.lab.nasctl("user", "show", "anna")
        self.test.check("a password is set", (before["password"], after["password"]) == ("none", "set"), (before, after))
        self.lab.nasctl("user", "passwd", "anna", "--lock")
        self.test.check("... and locked", self.lab.nasctl("user", "show", "anna")["password"] == "locked")
        shown = str((after, self.lab.nasctl("user", "list"), self.lab.log("switch"), self.lab.log("disk1")))
        self.test.check("the hash is not shown", HASH.rsplit("$", 1)[1] not in shown)
        self.test.check("the user has a group of his own", after["group"] == "anna" and after["gid"] == after["uid"], after)
        self.lab.nasctl("user", "remove", "anna")
        self.test.check("... which goes with him", not self.lab.nasctl("group", "list"))
        self.lab.nasctl("user", "add", "bert")
        self.test.check("nobody gets his number", self.lab.nasctl("user", "show", "bert")["uid"] > after["uid"])

    def configuration(self):
        """What is exported, spoilt and imported is what it was; by a document that is wrong, nothing is changed."""
        def document():
            return self.lab.nasctl("config", "export")

        def load(content):
            path = f"{self.directory}/cluster.json"
            with open(path, "w", encoding="utf-8") as file:
                json.dump(content, file)
            return self.lab.nasctl("config", "import", path)

        self.lab.nasctl("user", "add", "carl", "--comment", "Carl")
        self.lab.nasctl("user", "passwd", "carl", HASH)
        kept = document()
        self.test.check("it has exports, users with hashes, and places", kept["exports"] and kept["volumes"][0]["places"] ==
                        ["/disk0"] and HASH in [user["password"] for user in kept["users"]], kept)
        self.lab.nasctl("user", "remove", "carl")
        self.lab.nasctl("volume", "move", "/disk1", "/elsewhere")
        self.lab.nasctl("export", "set", "/disk0", "*(ro,insecure)")
        self.each("what was exported comes again", lambda: load(kept), self.write, raw_nfs.OK)
        self.test.check("... and all else", document() == kept, (document(), kept))
        self.test.check("... once", load(kept)["changes"] == 0)
        wrong = {**kept, "exports": [], "users": [{"name": "Carl"}]}
        try:
            load(wrong)
            self.test.check("a wrong document is refused", False)
        except daemon.DaemonError as error:
            self.test.check(f"a wrong document is refused: {error}", document() == kept)

    def removal(self):
        self.each("a narrower export", self.export("*(ro,insecure)", path="/disk0"), self.write, ROFS)
        self.each("... is removed", self.remove("/disk0"), self.write, raw_nfs.OK)
        self.each("the last export is removed", self.remove("/"), self.read, ACCES)
        self.each("... and comes again", self.export("*(rw,insecure)"), self.read, raw_nfs.OK)


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    enforcement = Enforcement(test, lab)
    enforcement.rights()
    enforcement.squashing()
    enforcement.groups()
    enforcement.refusals()
    enforcement.passwords()
    enforcement.configuration()
    enforcement.removal()
    enforcement.check_places()
    test.say(f"the slowest change was in force everywhere after {1000 * enforcement.slowest_s:.0f} ms")


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
