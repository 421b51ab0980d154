#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_dhcp.py - a new disk node configures itself by DHCP, with real servers and clients

If this fails, a disk box that is plugged in does not appear in the tree, or an administrator does not see that it is there.

On the lab's switch runs dnsmasq as `nasctl dhcp config` configures it, then ISC dhcpd and Kea as etc/dhcp has them. disk2 is a new
machine: no address, no certificate, an empty directory. Its DHCP client is udhcpc, then dhclient, each with the script of etc/dhcp.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import daemon
import harness
import network

NEW = "disk2"
HOOKS = os.path.join(os.path.dirname(os.path.dirname(harness.HERE)), "etc", "dhcp")
PROGRAMS = ("dnsmasq", "udhcpc", "dhclient", "dhcpd", "kea-dhcp4")
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


class Box:
    """The new machine, with a DHCP client of its own."""

    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.host = lab.hosts[NEW]
        self.directory = os.path.join(lab.plan["directory"], "dhcp")
        os.makedirs(self.directory, exist_ok=True)
        self.client = None
        test.at_end(self.unplug)
        with open(self.host["config"], encoding="ascii") as file:
            lines = [line for line in file if not line.startswith("address =")]
        with open(self.host["config"], "w", encoding="ascii") as file:
            file.write("".join(lines).replace("[network]\n", "[network]\nmaster = dhcp\n"))

    def renew(self):
        """As if from the shop."""
        if self.lab.pid(NEW):
            self.lab.stop(NEW)
        shutil.rmtree(self.host["state_dir"])
        os.mkdir(self.host["state_dir"])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.host["run_dir"], "dhcp_master"))
        self.lab.run(NEW, "ip", "address", "flush", "dev", "eth0")
        self.lab.run(NEW, "ip", "route", "flush", "dev", "eth0")

    def script(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, 0o755)
        return path

    def nasctl(self, host):
        """A nasctl that knows a host's configuration, as it is installed: scripts call it without further ado."""
        directory = os.path.join(self.directory, host["role"])
        os.makedirs(directory, exist_ok=True)
        return self.script(f"{host['role']}/nasctl", f"#!/bin/sh\nexec {self.lab.plan['programs']['nasctl']} --config "
                                                     f"{host['config']} \"$@\"\n")

    def hook(self, name, host, copy):
        """Of those who run it with an environment of their own, without the PATH to this build."""
        with open(os.path.join(HOOKS, name), encoding="ascii") as file:
            return self.script(copy, file.read().replace("nasctl dhcp", f"{self.nasctl(host)} dhcp"))

    def plug(self, kind):
        environment = {**os.environ, "PATH": f"{os.path.dirname(self.nasctl(self.host))}:{PATH}"}
        if kind == "udhcpc":
            command = ["udhcpc", "-f", "-i", "eth0", "-V", "vnas-disk", "-O", "43", "-x", f"hostname:{NEW}", "-t", "10",
                       "-T", "1", "-s", os.path.join(HOOKS, "udhcpc-script")]
        else:
            # dhclient-script reads its hooks from /etc/dhcp and writes /etc/resolv.conf: both are its own here.
            hooks = os.path.join(self.directory, "exit-hooks")
            os.makedirs(hooks, exist_ok=True)
            self.hook("dhclient-hook", self.host, "exit-hooks/vnas")
            resolv = self.script("resolv.conf", "")
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
                       f"mount --bind {hooks} /etc/dhcp/dhclient-exit-hooks.d; mount --bind {resolv} /etc/resolv.conf; "
                       f"exec dhclient -4 -d -v -cf {HOOKS}/dhclient.conf -lf {self.directory}/dhclient.leases "
                       f"-pf {self.directory}/dhclient.pid eth0"]
        with open(os.path.join(self.directory, kind + ".log"), "wb") as log:
            self.client = subprocess.Popen(network.enter(self.host["netns"]) + command, stdin=subprocess.DEVNULL,
                                           stdout=log, stderr=log, env=environment, start_new_session=True)

    def unplug(self):
        if self.client:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.client.pid, signal.SIGTERM)
            self.client.wait()
            self.client = None

    def client_log(self, kind):
        with open(os.path.join(self.directory, kind + ".log"), encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:]

    def address(self):
        found = re.search(r"inet (10\.77\.2\.\d+)", self.lab.run(NEW, "ip", "-4", "address", "show", "dev", "eth0"))
        return found and found.group(1)


class Server:
    """A DHCP server on the switch."""

    def __init__(self, test, box, kind):
        self.kind, self.box = kind, box
        self.directory = os.path.join(box.directory, kind)
        os.makedirs(self.directory, exist_ok=True)
        self.log = os.path.join(self.directory, "log")
        self.host = box.lab.hosts["switch"]
        command = getattr(self, kind)()
        environment = {**os.environ, "PATH": f"{os.path.dirname(box.nasctl(self.host))}:{PATH}", **self.more_environment()}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(network.enter(box.lab.hosts["switch"]["netns"]) + command,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                            start_new_session=True)
        test.at_end(self.stop)

    def more_environment(self):
        return {"KEA_LOCKFILE_DIR": self.directory, "KEA_PIDFILE_DIR": self.directory,
                "KEA_LOGGER_DESTINATION": "stdout"} if self.kind == "kea" else {}

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-3000:]

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def adapt(self, name):
        """One of etc/dhcp, for this lab's addresses and with the hooks as they are in the tree."""
        with open(os.path.join(HOOKS, name), encoding="ascii") as file:
            text = file.read()
        return text.replace("10.0.1.", "10.77.2.").replace("/usr/share/vnas/dhcp", HOOKS)

    def dnsmasq(self):
        text = self.box.lab.run("switch", self.box.nasctl(self.host), "dhcp", "config")
        text = re.sub(r"^dhcp-script=.*/", f"dhcp-script={HOOKS}/", text, flags=re.MULTILINE)
        return ["dnsmasq", "--keep-in-foreground", "--user=root", f"--dhcp-leasefile={self.directory}/leases", "--pid-file",
                "--log-facility=-", "--log-dhcp", f"--conf-file={self.write('conf', text)}"]

    def dhcpd(self):
        leases = self.write("leases", "")
        # The clients' network has to be known, though nobody is served there.
        text = self.adapt("dhcpd.conf") + "subnet 10.77.1.0 netmask 255.255.255.0 { }\n"
        return ["dhcpd", "-4", "-f", "-d", "--no-pid", "-user", "root", "-group", "root", "-cf", self.write("conf", text),
                "-lf", leases, "eth1"]

    def kea(self):
        text = self.adapt("kea-dhcp4.conf").replace("/var/lib/kea", self.directory)
        text = text.replace(f"{HOOKS}/kea-hook", self.box.hook("kea-hook", self.host, "kea-hook"))
        return ["kea-dhcp4", "-d", "-c", self.write("conf", text)]


def rows(lab, state):
    return [row for row in lab.nasctl("node", "list") if row["state"] == state]


def places(lab):
    return {row["place"] for row in lab.nasctl("volume", "list") if row["state"] == "up"}


def forget(lab):
    """The new machine, which is not new any more."""
    for row in lab.nasctl("node", "list"):
        if row["name"] == NEW and row["id"]:
            for volume in lab.nasctl("volume", "list"):
                if volume["node"] == row["id"]:
                    lab.nasctl("volume", "remove", str(volume["id"]))
            lab.nasctl("node", "remove", str(row["id"]))


def lease_is_shown(test, lab, box, client):
    """Before its vnasd runs: an address, and nothing else."""
    box.plug(client)
    test.within(15, f"{client} has an address", box.address, lambda: box.client_log(client))
    test.within(10, "the master shows that a vnas disk has it",
                lambda: [row["address"] for row in rows(lab, "leased")] == [box.address()],
                lambda: (lab.nasctl("node", "list"), lab.nasctl("dhcp", "lease", "list")))
    lease = lab.nasctl("dhcp", "lease", "list")
    test.check("... as what it asked, by which name", any(row["vendor_class"] == "vnas-disk" and row["address"] ==
                                                           box.address() for row in lease), lease)
    test.within(10, "the disk knows the master", lambda: os.path.exists(os.path.join(box.host["run_dir"], "dhcp_master")),
                lambda: box.client_log(client))
    with open(os.path.join(box.host["run_dir"], "dhcp_master"), encoding="ascii") as file:
        master = file.read()
    test.check("... which is the switch", master == lab.hosts["switch"]["address"], master)


def patient(function, *arguments):
    """As a real client: who is told JUKEBOX tries again."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return function(*arguments)
        except harness.raw_nfs.Status as error:
            if error.status != harness.raw_nfs.JUKEBOX or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def approved_by_hand(test, lab, box):
    lab.start(NEW)
    test.within(10, "it asks to join", lambda: [row["address"] for row in rows(lab, "pending")] == [box.address()],
                lambda: lab.nasctl("node", "list"))
    test.check("... and is not shown twice", not rows(lab, "leased"), lab.nasctl("node", "list"))
    lab.nasctl("node", "approve", NEW)
    test.within(10, "approved, it is in the tree", lambda: "/disk1" in places(lab), lambda: lab.nasctl("node", "list"))
    with lab.client() as client:
        root = client.mount("/")
        handle = patient(client.create, client.walk(root, "/disk1"), "hello")
        patient(client.write, handle, 0, b"from a new disk")
        test.check("a client reads what it wrote there", client.read(handle, 0, 100) == b"from a new disk")
    test.check("... which is on that machine", os.path.exists(os.path.join(box.host["storage"], "hello")))


def is_read(client, handle):
    try:
        return client.read(handle, 0, 100) == b"from a new disk"
    except harness.raw_nfs.Status as error:
        if error.status != harness.raw_nfs.JUKEBOX:
            raise
        return False


def away_and_back(test, lab, box):
    """Moved in the tree, drained, removed, and plugged in again with its data; a client has a file open all the time."""
    number = next(row["id"] for row in lab.nasctl("node", "list") if row["name"] == NEW)
    with lab.client() as client:
        root = client.mount("/")
        handle = client.walk(root, "/disk1/hello")
        lab.nasctl("volume", "move", "/disk1", "/archive/old")
        test.check("moved, it is at the other place", client.walk(root, "/archive/old/hello") == handle)
        test.check("... and what was open is open", is_read(client, handle))
        lab.nasctl("handoff", lab.nasctl("session", "list")[0]["id"], NEW)
        said = lab.nasctl("node", "drain", NEW)
        test.check("drained, it can be switched off", "can be switched off" in said["done"] and all(
            row["node"] != number for row in lab.nasctl("session", "list")), said)
        box.unplug()
        lab.stop(NEW)
        lab.nasctl("node", "remove", NEW)
        test.check("removed, its place is there and it is away", any(
            (row["place"], row["state"]) == ("/archive/old", "away") for row in lab.nasctl("volume", "list")))
        test.check("... and nothing else", client.walk(root, "/disk0"))
        shutil.rmtree(os.path.join(box.host["state_dir"], "pki"))
        lab.run(NEW, "ip", "address", "flush", "dev", "eth0")
        box.plug("udhcpc")
        lab.start(NEW)
        test.within(15, "plugged in again, it asks to join", lambda: rows(lab, "pending"), lambda: lab.nasctl("node", "list"))
        lab.nasctl("node", "approve", NEW)
        test.within(10, "approved, it is where it was", lambda: "/archive/old" in places(lab))
        test.within(20, "... and the client's file is open as before", lambda: is_read(client, handle))


def by_policy(test, lab, box):
    """From the plug to the tree, without anybody."""
    config = lab.hosts["switch"]["config"]
    lab.stop("switch")
    with open(config, "a", encoding="ascii") as file:
        file.write("[membership]\nauto_approve = network:10.77.2.0/24+vendor-class:vnas-disk\n")
    lab.start("switch")
    test.within(10, "the other disk is up", lambda: "/disk0" in places(lab))
    for client in ("udhcpc", "dhclient"):
        box.unplug()
        box.renew()
        forget(lab)
        lab.start(NEW)
        started = time.monotonic()
        box.plug(client)
        harness.wait_until(box.address, 30)
        leased = time.monotonic()
        joined = harness.wait_until(lambda: "/disk1" in places(lab), 30)
        test.check(f"{client}: from the plug to /disk1 by itself", joined is not None, box.client_log(client))
        test.say(f"{client}: from the plug to the lease {leased - started:.2f} s, from the lease to /disk1 "
                 f"{time.monotonic() - leased:.2f} s")


def other_server(test, lab, box, kind):
    box.unplug()
    box.renew()
    forget(lab)
    for row in lab.nasctl("dhcp", "lease", "list"):
        lab.nasctl("dhcp", "lease", "del", row["mac"], row["address"])
    server = Server(test, box, kind)
    box.plug("udhcpc")
    test.within(20, f"{kind}: udhcpc has an address", box.address, lambda: server.said() + box.client_log("udhcpc"))
    test.within(10, f"{kind}: the master shows that a vnas disk has it", lambda: [row["address"] for row in rows(
        lab, "leased")] == [box.address()], lambda: (server.said(), lab.nasctl("dhcp", "lease", "list")))
    lab.start(NEW)
    test.within(10, f"{kind}: the disk is in the tree", lambda: "/disk1" in places(lab), lambda: daemon.last_lines(
        box.host["log"]))
    server.stop()


def networkd(test, box):
    """Its hook, on leases as systemd-networkd writes them."""
    leases = os.path.join(box.directory, "netif")
    os.makedirs(leases)
    for number, option in (("2", ""), ("3", "VENDOR_SPECIFIC=01040a4d0201\n")):
        with open(os.path.join(leases, number), "w", encoding="ascii") as file:
            file.write(f"# This is private data. Do not parse.\nADDRESS=10.77.2.150\nROUTER=10.77.2.1\n{option}CLIENTID=ff\n")
    box.unplug()
    box.renew()
    box.lab.run(NEW, os.path.join(HOOKS, "networkd-hook"), leases,
                env={**os.environ, "PATH": f"{os.path.dirname(box.nasctl(box.host))}:{PATH}"})
    with open(os.path.join(box.host["run_dir"], "dhcp_master"), encoding="ascii") as file:
        test.check("networkd: its leases name the master", file.read() == "10.77.2.1")


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    box = Box(test, lab)
    forget(lab)
    box.renew()
    server = Server(test, box, "dnsmasq")
    lease_is_shown(test, lab, box, "udhcpc")
    approved_by_hand(test, lab, box)
    away_and_back(test, lab, box)
    by_policy(test, lab, box)
    server.stop()
    other_server(test, lab, box, "dhcpd")
    other_server(test, lab, box, "kea")
    networkd(test, box)


def missing():
    absent = [program for program in PROGRAMS if not shutil.which(program, path=PATH)]
    return ", ".join(absent) or None


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, missing))
