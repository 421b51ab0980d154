# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/network.py - the network of a lab: namespaces, bridges, veth pairs, taps

Every interface is made inside the lab's namespaces; the machine's own network never sees one. Knows nothing of
vnasd (daemon.py).
"""

import os
import signal
import subprocess
import time

import plan as planning

NETNS_DIR = "/run/netns"

# An address is usable at once, and nothing is sent that nobody asked for. The switch must not route: what it
# forwards, the fabric does.
QUIET = ["net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"]
for key in ("accept_dad", "dad_transmits", "accept_ra", "autoconf", "router_solicitations"):
    QUIET += [f"net.ipv6.conf.{scope}.{key}=0" for scope in ("all", "default")]


class NetworkError(Exception):
    pass


def _call(command, text=None):
    """Inherits the lab's lock, so that what we started is done before the next one starts even if we are killed."""
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          close_fds=False)
    if done.returncode:
        raise NetworkError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _ip(netns, lines):
    """Several commands of ip(8) in one namespace by one process."""
    _call(["ip", "-n", netns, "-batch", "-"], "".join(line + "\n" for line in lines))


def enter(netns):
    """
    The words before a command that is to run in @netns.

    Not "ip netns exec": that one also makes a new mount namespace, in which what is pinned in a bpffs, and what is
    mounted later, is a matter of luck. The price: /sys/class/net is the machine's own.
    """
    return ["nsenter", f"--net={NETNS_DIR}/{netns}"]


def exists(netns):
    return os.path.exists(f"{NETNS_DIR}/{netns}")


def _namespace_add(netns, settings):
    _call(["ip", "netns", "add", netns])
    _call(enter(netns) + ["sysctl", "-q", "-w"] + settings)


def _bridge(name, mtu, vlans):
    filtering = "vlan_filtering 1 vlan_default_pvid 0" if vlans else ""
    return [f"link add {name} mtu {mtu} type bridge forward_delay 0 stp_state 0 mcast_snooping 0 {filtering}",
            f"link set {name} up"]


def _admit(netns, port, vlan, tagged):
    """To a bridge that knows VLANs."""
    _call(["bridge", "-n", netns, "vlan", "add", "dev", port, "vid", str(vlan)] + ([] if tagged else ["pvid", "untagged"]))


def _plug(host, mtu):
    return [line for name, interface in host["interfaces"].items() for line in (
        f"link add {interface['port']} mtu {mtu} type veth peer name {name} mtu {mtu} netns {host['netns']}",
        f"link set {interface['port']} master {interface['bridge']} up")]


def _addresses(host):
    lines = ["link set lo up"]
    for eth, interface in host["interfaces"].items():
        name = planning.device(interface, eth)
        lines.append(f"link set {eth} up")
        if name != eth:
            lines += [f"link add link {eth} name {name} type vlan id {interface['vlan']}", f"link set {name} up"]
        lines += [f"address add {interface['address']}/{interface['prefix']} dev {name}"]
        if "address6" in interface:
            lines.append(f"address add {interface['address6']}/{interface['prefix6']} dev {name} nodad")
    lines += [f"route add default via {host[key]}" for key in ("gateway", "gateway6") if host.get(key)]
    return lines


def _keep_order(netns):
    """
    A veth pair takes packets in on the CPU they were sent from, so that a connection whose process moves to another
    CPU overtakes itself: seen as retransmissions without loss. Choose the CPU by a hash of the connection, as cards do.
    """
    mask = format((1 << min(os.cpu_count() or 1, 32)) - 1, "x")
    # "ip netns exec", since that gives the namespace's own /sys/class/net
    _call(["ip", "netns", "exec", netns, "sh", "-c",
           f'for file in /sys/class/net/*/queues/rx-*/rps_cpus; do echo {mask} >"$file"; done'])


def up(plan):
    _namespace_add(plan["lan"], ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"])
    _ip(plan["lan"], ["link set lo up"] + [line for name in plan["bridges"] for line in _bridge(
        name, plan["mtu"], plan["vlans"])])
    for host in plan["hosts"].values():
        _namespace_add(host["netns"], QUIET)
        _ip(plan["lan"], _plug(host, plan["mtu"]))
        for interface in host["interfaces"].values():
            if plan["vlans"]:
                _admit(plan["lan"], interface["port"], interface["vlan"], interface["tagged"])
        _ip(host["netns"], _addresses(host))
        _keep_order(host["netns"])
    _keep_order(plan["lan"])


def tap_up(plan, tap):
    """Also if it is there already."""
    try:
        _ip(plan["lan"], [f"tuntap add dev {tap['tap']} mode tap"])
    except NetworkError as error:
        if "busy" not in str(error):
            raise
    _ip(plan["lan"], [f"link set {tap['tap']} mtu {plan['mtu']} master {planning.BRIDGES[1]} up"])
    if plan["vlans"]:
        _admit(plan["lan"], tap["tap"], planning.VLANS[1], False)
    _keep_order(plan["lan"])


def link(plan, host, state):
    """@state: "up", or "down": no carrier at the host, nothing passes in either direction."""
    interfaces = plan["hosts"][host]["interfaces"].values()
    _ip(plan["lan"], [f"link set {interface['port']} {state}" for interface in interfaces])


def is_cut(plan, host):
    ports = [interface["port"] for interface in plan["hosts"][host]["interfaces"].values()]
    out = _call(["ip", "-n", plan["lan"], "-o", "link", "show", "up"])
    return not all(f" {port}@" in out for port in ports)


def namespaces(lab):
    try:
        return sorted(name for name in os.listdir(NETNS_DIR) if planning.is_namespace_of(lab, name))
    except FileNotFoundError:
        return []


def _ancestors():
    pids, pid = set(), os.getpid()
    while pid > 1:
        pids.add(pid)
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            pid = int(stat.read().rpartition(")")[2].split()[1])
    return pids


def _processes(netns):
    return {int(pid) for pid in _call(["ip", "netns", "pids", netns]).split()} - _ancestors()


def end_processes(lab, patience_s=3.0):
    """SIGKILL to all that runs in the lab's namespaces; a namespace lives as long as a process is in it."""
    deadline = time.monotonic() + patience_s
    while True:
        left = set().union(*(_processes(netns) for netns in namespaces(lab)))
        if not left or time.monotonic() > deadline:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)


def down(lab):
    """Needs no plan. The interfaces go with their namespaces."""
    end_processes(lab)
    for netns in namespaces(lab):
        _call(["ip", "netns", "delete", netns])
