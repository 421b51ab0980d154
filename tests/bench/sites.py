# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/bench/sites.py - what is compared: labs (tests/lab), and in them clients and servers that no lab has

    client1 == clan == switch == dlan == disk1, disk2     the lab "inline"
               wlan == plain  == dlan
    wired   == wlan                                       the same path, a plain bridge in the switch's place
    near    ========================= dlan                the shortest path

Wired and near send to disk1 what they send to the VIP, by a neighbour entry that never changes: disk1 has the VIP, and
answers them directly. On disk1 a second vnasd serves an equal file at the disk's own address, without a cluster; it is
what haproxy on the switch stands in front of.

In the lab "one-arm" all hosts are on clan, and client2 has such a neighbour entry, too.
"""

import array
import json
import os
import subprocess
import sys
import time

import daemon
import harness
import network
import plan as planning

FILE = "bench"
SECOND_PORT, HAPROXY_PORT = 3049, 12049
SERVER_CPU, CLIENT_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
NEAR, WIRED, PLAIN = 91, 92, 93    # numbers of clients, so that `lab down` takes their namespaces for the lab's

HAPROXY = """\
global
    maxconn 64
defaults
    mode tcp
    option splice-auto
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen nfs
    bind {listen}:{port}
    server disk1 {server}:{server_port}
"""

BOX = """\
[vnas]
mode = master
name = {name}
state_dir = {directory}/state
run_dir = {directory}/run
[network]
scp_port = {scp_port}
handoff = no
[nfs]
port = {port}
portmapper = none
[volume]
path = {volume}
"""


def write_file(path, size):
    """Every 8 bytes are their own offset, as read_load expects; in the page cache afterwards."""
    words = array.array("Q", range(0, size, 8))
    if sys.byteorder == "little":
        words.byteswap()
    with open(path, "wb") as out:
        words.tofile(out)


# Hosts that a lab has not


def _ip(netns, *lines):
    subprocess.run(["ip", "-n", netns, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def _plug(lab, number, bridge, interface):
    netns = planning.namespace(lab.name, f"client{number}")
    port = f"client{number}.{interface[-1]}"
    _ip(lab.plan["lan"], f"link add {port} type veth peer name {interface} netns {netns}",
        f"link set {port} master {bridge} up")
    _ip(netns, f"link set {interface} up")


def _take_in_on(netns, cpu):
    """The CPU that takes packets in is the same for all connections, not drawn for each as in other labs."""
    subprocess.run(["ip", "netns", "exec", netns, "sh", "-c", 'for file in /sys/class/net/*/queues/rx-*/rps_cpus; do '
                    f'echo {1 << cpu:x} >"$file"; done'], check=True)


def run_on(pid, cpu):
    """All threads of it."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {cpu})


def _new_netns(lab, number):
    netns = planning.namespace(lab.name, f"client{number}")
    subprocess.run(["ip", "netns", "add", netns], check=True)
    _ip(netns, "link set lo up")
    return netns


def vip_is_at(lab, netns, host):
    """What is sent to the VIP from @netns goes to @host."""
    out = subprocess.run(["ip", "-n", lab.hosts[host]["netns"], "-j", "link", "show", "eth0"], stdout=subprocess.PIPE,
                         check=True).stdout
    mac = json.loads(out)[0]["address"]
    _ip(netns, f"route replace {lab.vip}/32 dev eth0",
        f"neighbour replace {lab.vip} lladdr {mac} nud permanent dev eth0")


def add_near(lab):
    netns = _new_netns(lab, NEAR)
    _plug(lab, NEAR, "dlan", "eth0")
    _ip(netns, f"address add {planning.address(2, NEAR)}/24 dev eth0")
    vip_is_at(lab, netns, "disk1")
    return netns


def add_wired(lab):
    _ip(lab.plan["lan"], "link add wlan type bridge forward_delay 0 stp_state 0 mcast_snooping 0", "link set wlan up")
    plain = _new_netns(lab, PLAIN)
    _plug(lab, PLAIN, "wlan", "eth0")
    _plug(lab, PLAIN, "dlan", "eth1")
    _ip(plain, "link add plain type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
        "link set eth0 master plain", "link set eth1 master plain", "link set plain up")
    netns = _new_netns(lab, WIRED)
    _plug(lab, WIRED, "wlan", "eth0")
    _ip(netns, f"address add {planning.address(2, WIRED)}/24 dev eth0")
    vip_is_at(lab, netns, "disk1")
    return netns


# Servers that a lab has not


class Server:
    """A process that runs in a namespace until stop()."""

    def __init__(self, netns, command, log):
        with open(log, "wb") as out:
            self.process = subprocess.Popen(network.enter(netns) + command, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out)
        self.log = log

    @property
    def pid(self):
        return self.process.pid

    def must_listen(self, netns, port):
        command = network.enter(netns) + ["ss", "-Hltn", f"sport = {port}"]
        if harness.wait_until(lambda: subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout, 20) is None:
            raise harness.Failed(f"nobody listens at port {port}: {' '.join(daemon.last_lines(self.log, 5))}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def box(lab, name, volume, port):
    """A vnasd without cluster on disk1 that serves @volume: one box, at all its addresses, at a port of its own."""
    netns, directory = lab.hosts["disk1"]["netns"], f"{lab.hosts['disk1']['directory']}/{name}"
    programs = lab.plan["programs"]
    config = directory + "/vnasd.conf"
    os.makedirs(directory)
    with open(config, "w", encoding="ascii") as out:
        out.write(BOX.format(name=name, directory=directory, volume=volume, port=port, scp_port=port + 1))
    nasctl = network.enter(netns) + [programs["nasctl"], "--config", config]
    subprocess.run(nasctl + ["cluster", "init", "--name", name], stdout=subprocess.DEVNULL, check=True)
    server = Server(netns, [programs["vnasd"], "--mode=master", "--config", config], directory + "/log")
    try:
        server.must_listen(netns, port)
        export = nasctl + ["export", "set", "/", "*(rw,no_root_squash,insecure)"]
        if harness.wait_until(lambda: subprocess.run(export, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                                     check=False).returncode == 0, 20) is None:
            raise harness.Failed(f"vnasd does not export: {' '.join(daemon.last_lines(server.log, 5))}")
    except BaseException:
        server.stop()
        raise
    return server


def second_server(lab, size):
    volume = lab.hosts["disk1"]["directory"] + "/second-disk"
    os.makedirs(volume)
    write_file(f"{volume}/{FILE}", size)
    return box(lab, "second", volume, SECOND_PORT)


def haproxy(lab):
    host = lab.hosts["switch"]
    config = host["directory"] + "/haproxy.cfg"
    with open(config, "w", encoding="ascii") as out:
        out.write(HAPROXY.format(listen=planning.address(1, planning.SWITCH), port=HAPROXY_PORT,
                                 server=lab.hosts["disk1"]["address"], server_port=SECOND_PORT))
    server = Server(host["netns"], ["haproxy", "-db", "-f", config], host["directory"] + "/haproxy.log")
    try:
        server.must_listen(host["netns"], HAPROXY_PORT)
    except BaseException:
        server.stop()
        raise
    return server


# All of it


class Sites:
    """Everything that is compared, up and idle; a context manager."""

    def __init__(self, size):
        self.size = size
        self.labs, self.servers = {}, {}

    def __enter__(self):
        try:
            self._up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _lab(self, name, *options):
        lab = self.labs[name] = harness.Lab(f"bench-{os.getpid()}-{name}", options)
        write_file(os.path.join(lab.hosts["disk1"]["storage"], FILE), self.size)
        return lab

    def _up(self):
        inline = self._lab("inline", "--slaves", "2", "--log-level", "warn")
        one_arm = self._lab("one-arm", "--topology", "one-arm", "--slaves", "1", "--clients", "2",
                            "--log-level", "warn")
        self._lab("relay", "--no-handoff", "--slaves", "1", "--log-level", "warn")
        self.near, self.wired = add_near(inline), add_wired(inline)
        self.one_arm_direct = one_arm.hosts["client2"]["netns"]
        vip_is_at(one_arm, self.one_arm_direct, "disk1")
        self.servers["second"] = second_server(inline, self.size)
        self.servers["haproxy"] = haproxy(inline)
        self._divide()
        time.sleep(1)    # what starts has work to do

    def _divide(self):
        """
        The server of disk1's file has one CPU, the clients and the network another. Else it is drawn for each
        connection who shares with whom, and throughput is one of two values, one nearly twice the other. Daemons that
        only stand in the middle may run anywhere.
        """
        for lab in self.labs.values():
            run_on(lab.pid("disk1"), SERVER_CPU)
            for netns in network.namespaces(lab.name):
                _take_in_on(netns, CLIENT_CPU)
        run_on(self.servers["second"].pid, SERVER_CPU)

    def __exit__(self, *_):
        for server in self.servers.values():
            server.stop()
        for lab in self.labs.values():
            done = lab.down()
            if done.returncode:
                print(f"bench: {done.stderr.strip()}", file=sys.stderr)
