#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_exports.py - who may do what where, on sessions that are open all the time

If this fails, a client reads or changes what its administrator has not given it, or loses what was given.

Three clients keep one connection each while the exports change. All rules are tried twice: while the switch relays, and
after the sessions were handed off to the disk. The name service of all daemons is in files of the test's own.
"""

import os
import subprocess
import sys
import tempfile

import harness
import raw_nfs

ACCES, ROFS = 13, 30
NOWHERE = "203.0.113.1(ro)"
USER, STRANGER, TEAM = 1000, 1001, 5000
DISK1 = 2

WRAPPER = """\
#!/bin/sh
cd {directory}
for file in hosts nsswitch.conf netgroup passwd group; do
	[ -e /etc/$file ] || : > /etc/$file
	mount --bind $file /etc/$file || exit 1
done
exec "$@"
"""


def write_file(path, text, mode=0o644):
    with open(path, "w", encoding="ascii") as out:
        out.write(text)
    os.chmod(path, mode)


def name_service(test):
    """A command that runs another with the names of this test: the machine's own files are left alone."""
    directory = tempfile.mkdtemp(prefix="vnas-exports-", dir="/tmp")
    test.at_end(lambda: subprocess.run(["rm", "-r", directory], check=True))
    write_file(f"{directory}/hosts", "127.0.0.1 localhost\n10.77.1.11 alpha.lab.test alpha\n10.77.1.12 beta.lab.test\n")
    write_file(f"{directory}/nsswitch.conf", "hosts: files\nnetgroup: files\npasswd: files\ngroup: files\n")
    write_file(f"{directory}/netgroup", "trusted (alpha.lab.test,,) (beta,,)\n")
    write_file(f"{directory}/passwd", f"root:x:0:0::/:/bin/sh\nuser:x:{USER}:{USER}::/:/bin/sh\n")
    write_file(f"{directory}/group", "root:x:0:\n" + f"team:x:{TEAM}:user\n" +
               "".join(f"group{i}:x:{6000 + i}:user\n" for i in range(20)))
    write_file(f"{directory}/wrapper", WRAPPER.format(directory=directory), 0o755)
    return f"unshare --mount {directory}/wrapper"


def outcome(function, *arguments):
    """0 or the status."""
    try:
        function(*arguments)
        return raw_nfs.OK
    except raw_nfs.Status as status:
        return status.status


class Exports:
    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.storage = lab.hosts["disk1"]["storage"]
        self.address = {name: lab.hosts[name]["address"] for name in ("client1", "client2", "client3")}
        self.how = ""
        self.make_files()
        self.clients = {name: lab.client(name) for name in self.address}
        self.disk = self.clients["client1"].mount("/disk0")
        self.look_up()

    def make_files(self):
        for name, mode in ((".", 0o777), ("home", 0o777), ("home/inner", 0o777), ("other", 0o777)):
            os.makedirs(f"{self.storage}/{name}", exist_ok=True)
            os.chmod(f"{self.storage}/{name}", mode)
        for name, mode in (("open", 0o666), ("secret", 0o600), ("team", 0o640), ("home/file", 0o666),
                           ("home/open", 0o666), ("other/file", 0o666)):
            write_file(f"{self.storage}/{name}", name, mode)
        os.chown(f"{self.storage}/team", 0, TEAM)

    def look_up(self):
        client = self.clients["client1"]
        self.handles = {name: client.walk(self.disk, name) for name in (
            "open", "secret", "team", "home", "home/file", "other/file")}

    def export(self, path, *clients):
        self.lab.nasctl("export", "set", path, *clients)

    def known(self, what):
        """The disk has heard of the last change: the switch says when it has sent it, not when it has come."""
        revision = self.lab.nasctl("status")["revision"]
        self.test.need(f"{what}: the disk knows", harness.wait_until(
            lambda: self.lab.nasctl("status", host="disk1")["revision"] >= revision, 10) is not None)

    def check(self, what, name, expected, function, *arguments):
        found = outcome(function, *arguments)
        self.test.check(f"{self.how}{what}: {name}", found == expected, f"{found} instead of {expected}")

    def each(self, clients, read, write):
        """What reading and writing an open file comes to on each of the sessions."""
        self.export("/", *clients)
        self.known(" ".join(clients))
        for (name, client), may_read, may_write in zip(self.clients.items(), read, write):
            self.check(" ".join(clients), f"{name} reads", may_read, client.read, self.handles["open"], 0, 4)
            self.check(" ".join(clients), f"{name} writes", may_write, client.write, self.handles["open"], 0, b"data")

    def addresses(self):
        one, two = self.address["client1"], self.address["client2"]
        ok = [raw_nfs.OK] * 3
        self.each(["*(rw,insecure)"], ok, ok)
        self.each(["*(ro,insecure)"], ok, [ROFS] * 3)
        self.each([NOWHERE], [ACCES] * 3, [ACCES] * 3)
        self.each(["*(ro,insecure)", f"{one}(rw,insecure)"], ok, [0, ROFS, ROFS])
        self.each(["10.77.1.0/24(rw,insecure)", f"{two}(ro,insecure)"], ok, [0, ROFS, 0])
        self.each([f"{one}/32(rw,insecure)", "10.77.1.0/255.255.255.0(ro,insecure)"], ok, [0, ROFS, ROFS])
        self.each(["-rw,insecure", one, f"{two}(ro)"], [0, 0, ACCES], [0, ROFS, ACCES])
        self.each(["*(rw)"], [ACCES] * 3, [ACCES] * 3)    # from ports above 1023

    def names(self):
        ok = [raw_nfs.OK] * 3
        self.each(["alpha.lab.test(rw,insecure)", "*(ro,insecure)"], ok, [0, ROFS, ROFS])
        self.each(["*.LAB.test(rw,insecure)", "*(ro,insecure)"], ok, [0, 0, ROFS])
        self.each(["?eta.*(rw,insecure)"], [ACCES, 0, ACCES], [ACCES, 0, ACCES])
        self.each(["[a-b]*.lab.test(ro,insecure)"], [0, 0, ACCES], [ROFS, ROFS, ACCES])
        self.each(["@trusted(rw,insecure)"], [0, 0, ACCES], [0, 0, ACCES])
        self.each(["nobody.knows.this(rw,insecure)", "*(ro,insecure)"], ok, [ROFS] * 3)

    def create(self, client, name):
        """The owner of a new file, as the disk has it."""
        path = f"{self.storage}/{name}"
        if os.path.exists(path):
            os.remove(path)
        client.create(self.disk, name)
        status = os.stat(path)
        return status.st_uid, status.st_gid

    def owner(self, what, user, expected):
        client = self.clients["client1"]
        client.user = user
        found = self.create(client, "made")
        self.test.check(f"{self.how}{what}: {user} makes a file of {expected}", found == expected, found)
        client.user = (0, 0, ())

    def squashing(self):
        client = self.clients["client1"]
        self.export("/", "*(rw,insecure)")
        self.known("root_squash")
        self.check("root_squash", "root reads what is root's", ACCES, client.read, self.handles["secret"], 0, 4)
        self.owner("root_squash", (0, 0, ()), (65534, 65534))
        self.owner("root_squash", (USER, USER, ()), (USER, USER))
        self.owner("root_squash", None, (65534, 65534))
        self.export("/", "*(rw,insecure,no_root_squash,anonuid=77,anongid=78)")
        self.known("no_root_squash")
        self.check("no_root_squash", "root reads what is root's", raw_nfs.OK, client.read, self.handles["secret"], 0, 4)
        self.owner("no_root_squash", (0, 0, ()), (0, 0))
        self.owner("no_root_squash", (0xffffffff, 0xffffffff, ()), (77, 78))
        self.owner("no_root_squash: AUTH_NONE", None, (77, 78))
        self.export("/", "*(rw,insecure,all_squash,anonuid=77,anongid=78)")
        self.known("all_squash")
        self.owner("all_squash", (USER, USER, ()), (77, 78))
        self.owner("all_squash", (0, 0, ()), (77, 78))

    def team(self, what, user, expected):
        client = self.clients["client1"]
        client.user = user
        self.check(what, f"{user} reads the team's file", expected, client.read, self.handles["team"], 0, 4)
        client.user = (0, 0, ())

    def groups(self):
        self.export("/", "*(rw,insecure)")
        self.known("groups of the client")
        self.team("groups of the client", (USER, USER, ()), ACCES)
        self.team("groups of the client", (STRANGER, STRANGER, (TEAM,)), raw_nfs.OK)
        self.export("/", "*(rw,insecure,manage_gids)")
        self.known("manage_gids")
        self.team("manage_gids", (USER, USER, ()), raw_nfs.OK)
        self.team("manage_gids", (STRANGER, STRANGER, (TEAM,)), ACCES)
        self.team("manage_gids: the first group is the client's", (STRANGER, TEAM, ()), raw_nfs.OK)

    def privileged_port(self):
        self.export("/", "*(rw)")
        self.known("secure")
        with self.lab.client("client1", source=(self.address["client1"], 777)) as client:
            self.check("secure", "port 777", raw_nfs.OK, client.read, self.handles["open"], 0, 4)

    def subtree(self):
        """Only /disk0/home, and only client 1 may write there."""
        one, two = self.clients["client1"], self.clients["client2"]
        self.export("/", "*(rw,insecure)")
        self.known("handles that tell no directory")
        self.look_up()
        home, file, other = self.handles["home"], self.handles["home/file"], self.handles["other/file"]
        self.export("/", NOWHERE)
        self.export("/disk0/home", f"{self.address['client1']}(rw,insecure)", f"{self.address['client2']}(ro,insecure)")
        self.known("/disk0/home")
        for what, status, function, *arguments in (
                ("client1 mounts it", 0, one.mount, "/disk0/home"),
                ("client1 mounts below", 0, one.mount, "/disk0/home//./inner"),
                ("client1 mounts the way out", ACCES, one.mount, "/disk0/home/../other"),
                ("client1 mounts the volume", ACCES, one.mount, "/disk0"),
                ("client3 mounts it", ACCES, self.clients["client3"].mount, "/disk0/home"),
                ("client1 writes inside", 0, one.write, file, 0, b"x"),
                ("client2 writes inside", ROFS, two.write, file, 0, b"x"),
                ("client2 reads inside", 0, two.read, file, 0, 1),
                ("client3 reads inside", ACCES, self.clients["client3"].read, file, 0, 1),
                ("client1 reads outside", ACCES, one.read, other, 0, 1),
                ("client1 looks at the volume's root", ACCES, one.getattr, self.disk),
                ("client1 goes down", 0, one.lookup, home, "inner"),
                ("client1 goes up and out", ACCES, one.lookup, home, ".."),
                ("client1 goes up inside", 0, one.lookup, one.lookup(home, "inner"), "..")):
            self.check("subtree", what, status, function, *arguments)
        self.moves(one, home)
        self.lab.nasctl("export", "remove", "/disk0/home")

    def moves(self, client, home):
        """A handle tells what a file is, and not where: that may change."""
        found = client.lookup(home, "open")
        self.check("subtree", "a file that was looked up", 0, client.read, found, 0, 1)
        os.rename(f"{self.storage}/home/open", f"{self.storage}/other/open")
        status = outcome(client.read, found, 0, 1)
        self.test.check(f"{self.how}subtree: ... and moved out", status in (ACCES, raw_nfs.STALE), status)
        os.rename(f"{self.storage}/other/open", f"{self.storage}/home/inner/open")
        self.check("subtree", "... and to another place inside", 0, client.read,
                   client.lookup(client.lookup(home, "inner"), "open"), 0, 1)
        os.rename(f"{self.storage}/home/inner/open", f"{self.storage}/home/open")
        self.check("subtree", "... and back", 0, client.read, found, 0, 1)
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
            drop.write("2")    # the kernel forgets where inodes are
        self.check("subtree", "... which the kernel has forgotten", 0, client.read, found, 0, 1)

    def list(self):
        """As showmount -e prints it."""
        self.export("/", "*(ro)", "alpha.lab.test(rw)", "10.77.0.0/255.255.0.0", "@trusted(rw,insecure)")
        reply = self.clients["client1"].call(raw_nfs.MOUNT, 3, 5)
        found = {}
        while reply.u32():
            path, clients = reply.opaque().decode(), []
            while reply.u32():
                clients.append(reply.opaque().decode())
            found[path] = clients
        self.test.check("showmount -e", found == {"/": ["alpha.lab.test", "10.77.0.0/16", "@trusted", "*"]}, found)

    def all(self, how):
        self.how = f"{how}: "
        self.addresses()
        self.names()
        self.squashing()
        self.groups()
        self.privileged_port()
        self.subtree()
        self.export("/", "*(rw,insecure)")
        self.known("all again")

    def hand_off(self):
        for name, client in self.clients.items():
            session = self.lab.session(*client.local)["id"]
            self.lab.nasctl("handoff", session, "disk1")
            self.test.within(10, f"{name}'s session is at the disk",
                             lambda client=client: self.lab.session(*client.local)["node"] == DISK1,
                             lambda client=client: self.lab.session(*client.local))


def run(test):
    lab = test.lab("--slaves", "1", "--clients", "3", environment={"VNASD_WRAPPER": name_service(test)})
    exports = Exports(test, lab)
    exports.all("relayed")
    exports.hand_off()
    exports.all("at the disk")
    exports.list()


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
