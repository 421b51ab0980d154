#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/packages/test_packages.py - from source to served files by our Debian packages, under a real systemd

If this fails, an administrator who does what the README says gets no cluster, an upgrade interrupts the clients, or a removal leaves
something behind or takes too much.

The packages are made from what `make dist` makes, in the folder that is given, where the base of the machines is kept, too.

Usage: tests/packages/test_packages.py DIST DIRECTORY
"""

import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lab"))

import harness
import machine as machines
import raw_nfs

UNIT = {"switch": "vnas-master", "disk1": "vnas-slave", "disk2": "vnas-slave"}
ROLE = {"switch": "vnas-switch", "disk1": "vnas-disk", "disk2": "vnas-disk"}
CONFIG = "/etc/vnas/vnasd.conf"
NEW_VERSION = "0.1.1"


def build(test, dist, directory):
    """The .deb files by the names of their packages."""
    source = os.path.join(directory, "source")
    shutil.rmtree(source, ignore_errors=True)
    os.makedirs(source)
    machines.call(["tar", "-xf", dist, "-C", source, "--strip-components=1"])
    for old in glob.glob(os.path.join(directory, "*.deb")):
        os.unlink(old)
    machines.call(["dpkg-buildpackage", "-b", "-us", "-uc", f"-j{os.cpu_count()}"], cwd=source)
    changes = glob.glob(os.path.join(directory, "*.changes"))
    done = subprocess.run(["lintian", "--fail-on", "error,warning", "--allow-root", *changes], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    test.check("lintian finds no error and no warning", done.returncode == 0, done.stdout.strip())
    shutil.rmtree(source)
    return {os.path.basename(path).split("_")[0]: path for path in glob.glob(os.path.join(directory, "*.deb"))}


def next_version(debs, directory):
    """The same again, as if there were something new in it."""
    new = {}
    os.makedirs(directory, exist_ok=True)
    for name in "vnas", "vnas-switch", "vnas-disk":
        tree = os.path.join(directory, name)
        shutil.rmtree(tree, ignore_errors=True)
        machines.call(["dpkg-deb", "-R", debs[name], tree])
        control = os.path.join(tree, "DEBIAN/control")
        with open(control, encoding="utf-8") as file:
            text = re.sub(r"^Version: .*", f"Version: {NEW_VERSION}", file.read(), flags=re.MULTILINE)
        with open(control, "w", encoding="utf-8") as file:
            file.write(re.sub(r"vnas \(>= [^)]*\), vnas \(<< [^)]*\)", f"vnas (= {NEW_VERSION})", text))
        new[name] = os.path.join(directory, name + ".deb")
        machines.call(["dpkg-deb", "-b", tree, new[name]])
        shutil.rmtree(tree)
    return new


class Site:
    def __init__(self, test, lab, base, debs):
        self.test, self.lab = test, lab
        self.debs = debs
        self.machines = {}
        self.directory = tempfile.mkdtemp(prefix="vnas-packages-")
        test.after_labs(lambda: os.rmdir(self.directory))
        for name in UNIT:
            self.boot(name, base)

    def boot(self, name, base):
        place = os.path.join(self.directory, name)
        data = os.path.join(self.directory, name + ".data")
        os.mkdir(data)
        machines.call(["mount", "-t", "tmpfs", "tmpfs", data])
        self.test.at_end(lambda: (machines.call(["umount", data]), os.rmdir(data)))
        os.mkdir(place)
        machine = machines.Machine(f"vnas-{name}", base, place, self.lab.netns(name), [(data, "/srv/data")])
        self.test.at_end(machine.end)
        self.machines[name] = machine

    def install(self, name, debs):
        """dpkg, at work."""
        machine = self.machines[name]
        for package in "vnas", ROLE[name]:
            shutil.copy(debs[package], machine.path("/root/"))
        return subprocess.Popen(machine.inside("dpkg", "-i", *("/root/" + os.path.basename(debs[package])
                                                               for package in ("vnas", ROLE[name]))),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def nasctl(self, *words):
        return json.loads(self.machines["switch"].run("nasctl", "--json", *words))

    def is_up(self, name):
        return any(row["name"] == name and row["state"] == "up" for row in self.nasctl("node", "list"))

    def journal(self, name):
        return self.machines[name].run("journalctl", "-u", UNIT[name], "-n", "20", "--no-pager", "-o", "cat", check=False)

    def main_pid(self, name):
        return self.machines[name].run("systemctl", "show", "-P", "MainPID", UNIT[name]).strip()

    def is_active(self, name):
        return self.machines[name].run("systemctl", "is-active", UNIT[name], check=False).strip() == "active"


def configure(site, name):
    plan = site.lab.plan
    if name == "switch":
        text = (f"[vnas]\nmode = master\n[network]\nvip = {site.lab.vip}\nclient_interfaces = eth0\n"
                "disk_interfaces = eth1\n")
    else:
        text = f"[vnas]\nmode = slave\n[network]\ninterface = eth0\nmaster = {plan['hosts']['switch']['address']}\n"
    text += (f"address = {site.lab.hosts[name]['address']}\n[vnas]\nname = {name}\n[nfs]\nportmapper = builtin\n"
             "[volume]\npath = /srv/data\n")
    site.machines[name].write(CONFIG, text)
    site.test.check(f"{name}: its configuration is right", "mode" in site.machines[name].run("vnasd", "--check"))


def start(site, name):
    site.machines[name].run("systemctl", "enable", "--now", UNIT[name], check=False)
    site.test.need(f"{name}: systemd says that {UNIT[name]} runs", site.is_active(name), site.journal(name))


def join_by_token(site, name):
    token = site.nasctl("cluster", "token")["command"].split()[-1]
    machine = site.machines[name]
    # It stays in the foreground.
    machine.run("systemd-run", "--quiet", "--unit=join", "vnasd", "--mode=slave", "--join", token)
    site.test.within(20, f"{name}: has joined with a token", lambda: site.is_up(name), lambda: site.nasctl("node", "list"))
    machine.run("systemctl", "stop", "join")
    start(site, name)


def join_by_asking(site, name):
    start(site, name)
    site.machines[name].run("systemctl", "restart", UNIT[name])
    row = lambda: next((row for row in site.nasctl("node", "list") if row["name"] == name), None)
    site.test.within(20, f"{name}: asks to join, also when it was started anew meanwhile", lambda: row() is not None)
    site.nasctl("node", "approve", name)
    site.test.within(20, f"{name}: has joined without a restart", lambda: site.is_up(name), lambda: site.nasctl("node", "list"))


def first_installation(site):
    test = site.test
    for name in UNIT:
        said, _ = site.install(name, site.debs).communicate()
        test.check(f"{name}: nothing runs before it is configured", not site.is_active(name), said)
    configure(site, "switch")
    site.machines["switch"].run("nasctl", "cluster", "init")
    start(site, "switch")
    for name, join in ("disk1", join_by_token), ("disk2", join_by_asking):
        configure(site, name)
        join(site, name)
    site.nasctl("export", "set", "/", "*(rw,no_root_squash,insecure)")
    test.within(20, "all are up", lambda: all(map(site.is_up, UNIT)), lambda: site.nasctl("node", "list"))


class Copy:
    """A client that writes a file block by block, as a kernel does it: who loses the connection makes another and says the same again."""

    BLOCK = 65536

    def __init__(self, site, place):
        self.site, self.written, self.lost = site, 0, 0
        self.client = None
        root = self.call(lambda client: client.mount("/"))
        self.file = self.call(lambda client: client.create(client.walk(root, place), "copy"))

    def call(self, function):
        while True:
            try:
                self.client = self.client or self.site.lab.client(timeout_s=60)
                return function(self.client)
            except (raw_nfs.ConnectionLost, OSError):
                self.lost += self.client is not None
                self.client = None
            except raw_nfs.Status as error:
                if error.status != raw_nfs.JUKEBOX:
                    raise
            time.sleep(0.1)

    def session(self):
        address, port = self.client.local
        return next(row for row in self.site.nasctl("session", "list") if row["client"] == f"{address}:{port}")

    @staticmethod
    def block(i):
        return hashlib.sha256(str(i).encode()).digest() * (Copy.BLOCK // 32)

    def go_on(self):
        data, at = self.block(self.written), self.written * self.BLOCK
        self.call(lambda client: client.write(self.file, at, data))
        self.written += 1

    def is_right(self):
        return all(self.call(lambda client, i=i: client.read(self.file, i * self.BLOCK, self.BLOCK)) == self.block(i)
                   for i in range(self.written))


class Newcomers:
    """Clients that connect, one after the other, and look at the root; a process of its own, which ends if one can't."""

    PROGRAM = """
import sys, time
import raw_nfs
while True:
    client = raw_nfs.Client(sys.argv[1], timeout_s=60)
    client.mount("/")
    client.close()
    time.sleep(0.005)
"""

    def __init__(self, site):
        self.process = subprocess.Popen(
            harness.network.enter(site.lab.hosts["client1"]["netns"]) + [sys.executable, "-c", self.PROGRAM, site.lab.vip],
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        site.test.at_end(self.end)

    def end(self):
        """What the last one complained of, if anything."""
        went_on = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        return None if went_on else self.process.stderr.read()


def upgrade_one(site, name, new, copies):
    before, begun = site.main_pid(name), [copy.written for copy in copies]
    installing = site.install(name, new)
    while installing.poll() is None or any(copy.written < at + 10 for copy, at in zip(copies, begun)):
        for copy in copies:
            copy.go_on()
    site.test.check(f"{name}: the new version runs", site.is_active(name) and site.main_pid(name) not in (before, "0"),
                    installing.stdout.read())


def upgrade(site, new):
    test = site.test
    copies = [Copy(site, place) for place in ("/disk0", "/disk1", "/disk2")]
    for node, copy in enumerate(copies, 1):
        session = copy.session()
        if session["node"] != node:
            site.nasctl("handoff", session["id"], str(node))
    test.within(5, "each device has a session of a client that copies",
                lambda: [copy.session()["node"] for copy in copies] == [1, 2, 3], lambda: site.nasctl("session", "list"))
    newcomers = Newcomers(site)
    for name in UNIT:
        upgrade_one(site, name, new, copies)
    complaint = newcomers.end()
    test.check("who connects meanwhile is served, and not refused", complaint is None, complaint)
    test.check("no client saw an error, and every byte is right", all(copy.is_right() for copy in copies))
    test.check("... all on the connections that they had", not any(copy.lost for copy in copies), [copy.lost for copy in copies])
    test.say(f"blocks written: {[copy.written for copy in copies]}")


def watchdog(site):
    pid = site.main_pid("disk2")
    site.machines["disk2"].run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT["disk2"])
    site.test.within(60, "systemd starts a daemon anew that gives no sign of life",
                     lambda: site.main_pid("disk2") not in (pid, "0") and site.is_active("disk2"))


def removal(site):
    test, machine = site.test, site.machines["disk1"]
    marker = os.path.join(site.directory, "disk1.data", "kept")
    with open(marker, "w", encoding="ascii") as out:
        out.write("data of clients\n")
    machine.run("dpkg", "--remove", ROLE["disk1"], "vnas")
    addresses = machine.run("ip", "address")
    test.check("removed: the daemon and its address are gone", site.lab.vip not in addresses, addresses)
    left = machine.run("find", "/sys/fs/bpf", "-mindepth", "1", "-name", "vnas*")
    test.check("... and what it had in the kernel", not left.strip(), left)
    test.check("... its configuration and certificates are kept", os.path.exists(machine.path(CONFIG)) and
               os.path.exists(machine.path("/var/lib/vnas/pki")))
    site.install("disk1", site.debs).communicate()
    start(site, "disk1")
    test.within(20, "installed again it is the node that it was", lambda: site.is_up("disk1"),
                lambda: site.nasctl("node", "list"))
    machine.run("dpkg", "--purge", ROLE["disk1"], "vnas")
    left = [path for path in ("/etc/vnas", "/var/lib/vnas", "/run/vnas", "/usr/sbin/vnasd", "/usr/sbin/nasctl")
            if os.path.exists(machine.path(path))]
    test.check("purged: nothing of it is left", not left, left)
    test.check("... but the clients' data", os.path.exists(marker))


def run(test):
    dist, directory = map(os.path.abspath, sys.argv[1:3])
    debs = build(test, dist, directory)
    new = next_version(debs, os.path.join(directory, "new"))
    depends = machines.call(["dpkg-deb", "-f", debs["vnas"], "Depends"]).strip()
    base = os.path.join(directory, "base")
    machines.make_base(base, depends)
    lab = test.lab("--no-cluster", "--slaves", "2", "--clients", "1")
    site = Site(test, lab, base, debs)
    first_installation(site)
    upgrade(site, new)
    watchdog(site)
    removal(site)


def also_missing():
    if len(sys.argv) != 3:
        return "DIST, which `make dist` has made, and a DIRECTORY"
    for program in "dpkg-buildpackage", "lintian", "debootstrap", "systemd-nspawn":
        if not shutil.which(program):
            return f"{program} (packages/install package)"
    return None


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, also_missing))
