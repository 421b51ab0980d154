# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/plan.py - who is in a lab, on which network, with which addresses

Takes values and returns values: the plan is one dictionary, which `lab plan` prints as JSON and the other files
of the lab act on. Touches neither the network (network.py) nor processes (daemon.py).

Inline: clients and disks on two networks, the switch between them (it does not route).
One-arm: everybody on the clients' network.

    client1 client2 taps            disk1 disk2
        |      |     |                |     |           10.77.1.0/24, fd77:1::/64   bridge clan
      ==+======+=====+==  switch  ====+=====+==         10.77.2.0/24, fd77:2::/64   bridge dlan
             clan         .1  .1     dlan

The numbers are the same in IPv4 (10.77.1.11) and IPv6 (fd77:1::11).

With VLANs, the bridges are switches that know them: the switch and the disks get both networks tagged, and have their addresses
on eth0.10 (clients') or eth0.20 (the disks' own network); clients and taps are connected untagged.
"""

import re

SWITCH, VIP = 1, 100
CLIENTS = 10                              # client1 is .11
DISKS = {"inline": 10, "one-arm": 50}     # disk1 is .11 of its own network, or .51
TAPS = 200                                # the first tap is .201
MOST = {"clients": 39, "slaves": 39, "taps": 50}

LAB_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
HOST_NAME = re.compile(r"lan|switch|disk[0-9]+|client[0-9]+")
TAP_NAME = re.compile(r"[a-z][a-z0-9-]{0,14}")    # ports of hosts have a dot in their names
BRIDGES = {1: "clan", 2: "dlan"}
VLANS = {1: 10, 2: 20}


def address(net, number):
    return f"10.77.{net}.{number}"


def address6(net, number):
    return f"fd77:{net}::{number}"


def namespace(lab, host):
    return f"vnas-{lab}-{host}"


def is_namespace_of(lab, name):
    """Unambiguous although lab names may contain dashes: the names of hosts don't."""
    prefix = namespace(lab, "")
    return name.startswith(prefix) and HOST_NAME.fullmatch(name[len(prefix):]) is not None


def _interface(net, number, ipv6, vlans, tagged):
    interface = {"bridge": BRIDGES[net], "address": address(net, number), "prefix": 24}
    if vlans:
        interface.update(vlan=VLANS[net], tagged=tagged)
    if ipv6:
        interface.update(address6=address6(net, number), prefix6=64)
    return interface


def device(interface, name):
    """Of that interface of a host, the one that has the addresses."""
    return f"{name}.{interface['vlan']}" if interface.get("tagged") else name


def _host(lab, name, role, interfaces, gateway_net=None, ipv6=False, vlans=False):
    """@interfaces: [(network, number)...], eth0 first; the last one carries what the devices say to each other."""
    net, number = interfaces[-1]
    host = {
        "role": role,
        "netns": namespace(lab, name),
        "address": address(net, number),
        "address6": address6(net, number) if ipv6 else None,
        "interfaces": {f"eth{i}": _interface(*place, ipv6, vlans, role != "client") for i, place in enumerate(interfaces)},
    }
    for i, interface in enumerate(host["interfaces"].values()):
        interface["port"] = f"{name}.{i}"
    if gateway_net is not None:
        host["gateway"] = address(gateway_net, SWITCH)
        host["gateway6"] = address6(gateway_net, SWITCH) if ipv6 else None
    return host


def make(lab, directory, storage=None, topology="inline", slaves=2, clients=1, ipv6=False, handoff=True, mtu=1500,
         cluster=True, log_level="info", data_loops=2, first_device=None, vlans=False):
    """
    @directory: the lab's own; everything it writes is below
    @storage: where the slaves' data goes instead of below @directory
    """
    inline = topology == "inline"
    disk_net = 2 if inline else 1
    hosts = {"switch": _host(lab, "switch", "master", [(1, SWITCH), (2, SWITCH)] if inline else [(1, SWITCH)],
                             ipv6=ipv6, vlans=vlans)}
    for i in range(1, slaves + 1):
        hosts[f"disk{i}"] = _host(lab, f"disk{i}", "slave", [(disk_net, DISKS[topology] + i)],
                                  disk_net if inline else None, ipv6, vlans)
    for i in range(1, clients + 1):
        hosts[f"client{i}"] = _host(lab, f"client{i}", "client", [(1, CLIENTS + i)], ipv6=ipv6, vlans=vlans)

    for name, host in hosts.items():
        if host["role"] == "client":
            continue
        host["directory"] = f"{directory}/{name}"
        for what, path in {"config": "etc/vnasd.conf", "state_dir": "state", "run_dir": "run", "bpffs": "bpf",
                           "pid_file": "pid", "log": "vnasd.log", "admin_socket": "run/admin.sock"}.items():
            host[what] = f"{directory}/{name}/{path}"
        if host["role"] == "slave":
            host["storage"] = f"{storage or directory + '/' + name + '/storage'}/{name if storage else 'disk'}"

    return {
        "name": lab,
        "directory": directory,
        "storage": storage,
        "topology": topology,
        "cluster": cluster,
        "handoff": handoff,
        "mtu": mtu,
        "log_level": log_level,
        "data_loops": data_loops,
        "first_device": first_device,
        "vlans": vlans,
        "vip": address(1, VIP),
        "vip6": address6(1, VIP) if ipv6 else None,
        "lan": namespace(lab, "lan"),
        "bridges": ["clan", "dlan"] if inline else ["clan"],
        "hosts": hosts,
        "taps": {},
    }


def add_tap(plan, name):
    """The tap's entry in the plan; the old one if there is one. None: no address is left."""
    if name not in plan["taps"]:
        number = TAPS + 1 + len(plan["taps"])
        if number > TAPS + MOST["taps"]:
            return None
        ipv6 = plan["vip6"] is not None
        plan["taps"][name] = {
            "tap": name,
            "netns": plan["lan"],
            "address": address(1, number),
            "prefix": 24,
            "address6": address6(1, number) if ipv6 else None,
            "prefix6": 64 if ipv6 else None,
            "gateway": address(1, SWITCH),
            "gateway6": address6(1, SWITCH) if ipv6 else None,
            "vip": plan["vip"],
            "vip6": plan["vip6"],
        }
    return plan["taps"][name]


def config(plan, name):
    """vnasd's configuration file on that host; common/settings.h explains the keys."""
    host = plan["hosts"][name]
    master = host["role"] == "master"
    vnas = {
        "mode": host["role"],
        "name": name,
        "state_dir": host["state_dir"],
        "run_dir": host["run_dir"],
        "bpf_dir": host["bpffs"] + "/vnas",
        "log_level": plan["log_level"],
    }
    network = {"address": host["address"], "handoff": "yes" if plan["handoff"] else "no"}
    if master:
        network["vip"] = ", ".join(filter(None, [plan["vip"], plan["vip6"]]))
        devices = [device(interface, eth) for eth, interface in host["interfaces"].items()]
        network["client_interfaces"] = devices[0]
        network["disk_interfaces"] = devices[-1]
    else:
        network["interface"] = device(host["interfaces"]["eth0"], "eth0")
    # Not "auto": the socket of the machine's own rpcbind, if one runs, can be seen from every namespace.
    nfs = {"portmapper": "builtin", "data_loops": plan["data_loops"]}
    sections = [("vnas", vnas), ("network", network), ("nfs", nfs)]
    if master and plan["first_device"]:
        sections.append(("fabric", {"first_device": plan["first_device"]}))
    if not master:
        sections.append(("volume", {"path": host["storage"]}))
    return "\n".join(f"[{title}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
                     for title, keys in sections)
