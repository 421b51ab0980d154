#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_snmp.py - nodes, volumes and sessions in net-snmp's snmpd

If this fails, an SNMP manager does not see the cluster, sees what is not so, or not by the names that VNAS-MIB gives.

Real: snmpd with etc/snmp/vnas-snmp, snmpwalk and snmpget with etc/snmp/VNAS-MIB.txt. Debian does not have the modules of the IETF that
every MIB imports, so what VNAS-MIB needs of them is written below.
"""

import os
import re
import shutil
import subprocess
import sys

import harness
import network

SNMP = os.path.join(os.path.dirname(os.path.dirname(harness.HERE)), "etc", "snmp")
BASE = ".1.3.6.1.4.1.8072.9999.9999.2050"
PORT = 1161
REFRESH_S = 5
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
STATES = {"up": "up", "down": "down"}
# Values of which two looks differ by nature.
MOVING = ("vnasNodeCpu", "vnasNodeTemperature", "vnasNodeClock", "vnasVolumeFree", "vnasVolumeBusy")
MODULES = {
    "SNMPv2-SMI": """SNMPv2-SMI DEFINITIONS ::= BEGIN
        org OBJECT IDENTIFIER ::= { iso 3 }
        dod OBJECT IDENTIFIER ::= { org 6 }
        internet OBJECT IDENTIFIER ::= { dod 1 }
        private OBJECT IDENTIFIER ::= { internet 4 }
        enterprises OBJECT IDENTIFIER ::= { private 1 }
        END""",
    "SNMPv2-TC": """SNMPv2-TC DEFINITIONS ::= BEGIN
        TruthValue ::= TEXTUAL-CONVENTION STATUS current DESCRIPTION "" SYNTAX INTEGER { true(1), false(2) }
        END""",
    "SNMP-FRAMEWORK-MIB": """SNMP-FRAMEWORK-MIB DEFINITIONS ::= BEGIN
        SnmpAdminString ::= TEXTUAL-CONVENTION DISPLAY-HINT "255t" STATUS current DESCRIPTION "" SYNTAX OCTET STRING (SIZE (0..255))
        END""",
    "HCNUM-TC": """HCNUM-TC DEFINITIONS ::= BEGIN
        CounterBasedGauge64 ::= TEXTUAL-CONVENTION STATUS current DESCRIPTION "" SYNTAX Counter64
        END""",
}

# A nasctl of which nobody knows what it says.
STRANGE = """#!/bin/sh
case $2 in
status) cat ;;
node) echo broken ;;
*) exit 1 ;;
esac <<'END'
{"role": "master", "cluster": "a\\nget\\u00e4\\u0000%s", "health": "good", "sessions": 5000000000}
END
"""


class Agent:
    """snmpd on a host of the lab, and those who ask it there."""

    def __init__(self, test, lab, host, socket=None, options=""):
        self.lab, self.host = lab, host
        self.directory = os.path.join(lab.plan["directory"], f"snmp-{host}")
        self.mibs = os.path.join(self.directory, "mibs")
        os.makedirs(self.mibs, exist_ok=True)
        for name, text in MODULES.items():
            with open(os.path.join(self.mibs, name), "w", encoding="ascii") as file:
                file.write(text + "\n")
        self.nasctl = os.path.join(os.path.dirname(os.path.abspath(os.environ.get("VNASD", "vnasd"))), "nasctl")
        socket = socket or os.path.join(lab.hosts[host]["run_dir"], "admin.sock")
        self.configure(f"rocommunity public 127.0.0.1\npass_persist {BASE} {SNMP}/vnas-snmp --nasctl {self.nasctl} "
                       f"--socket {socket} {options}\n")
        self.process = None
        test.at_end(self.end)
        self.begin()

    def configure(self, text):
        with open(os.path.join(self.directory, "snmpd.conf"), "w", encoding="ascii") as file:
            file.write(text)

    def begin(self):
        environment = {**os.environ, "PATH": PATH, "SNMP_PERSISTENT_DIR": self.directory}
        with open(os.path.join(self.directory, "snmpd.log"), "w", encoding="ascii") as log:
            self.process = subprocess.Popen(
                network.enter(self.lab.hosts[self.host]["netns"]) +
                ["snmpd", "-f", "-Lo", "-C", "-c", os.path.join(self.directory, "snmpd.conf"), f"udp:127.0.0.1:{PORT}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)

    def say(self, program, *words):
        return self.lab.run(self.host, program, "-v2c", "-c", "public", "-t", "2", "-r", "9", *words, check=False,
                            env={**os.environ, "PATH": PATH, "SNMP_PERSISTENT_DIR": self.directory})

    def numbers(self, program, oid):
        """As OIDs and types: {OID: "TYPE: value"}"""
        said = self.say(program, "-m", "", "-On", f"127.0.0.1:{PORT}", oid)
        return dict(re.findall(r"^(\.[0-9.]+) = (.*)$", said, re.MULTILINE))

    def names(self, oid="VNAS-MIB::vnas"):
        """By the MIB's names: {"vnasNodeName.2": "disk1"}"""
        said = self.say("snmpwalk", "-M", f"{self.mibs}:{SNMP}", "-m", "VNAS-MIB", "-OQsU", f"127.0.0.1:{PORT}", oid)
        return {name: value.strip('"') for name, value in re.findall(r"^(\w+[.0-9]*) = (.*)$", said, re.MULTILINE)}

    def is_there(self):
        return f"{BASE}.1.1.0" in self.numbers("snmpget", f"{BASE}.1.1.0")


def expected(lab):
    """What nasctl says, by the MIB's names."""
    status = lab.nasctl("status")
    objects = {"vnasRunning.0": "true", "vnasRole.0": "master", "vnasClusterName.0": status["cluster"],
               "vnasHealth.0": status["health"], "vnasProblemCount.0": str(len(status["problems"])),
               "vnasNodeCount.0": str(status["nodes"]), "vnasNodesUp.0": str(status["nodes_up"]),
               "vnasVolumeCount.0": str(status["volumes"]), "vnasSessionCount.0": str(status["sessions"])}
    for row in lab.nasctl("node", "list"):
        objects.update({f"vnasNodeName.{row['id']}": row["name"], f"vnasNodeAddress.{row['id']}": row["address"],
                        f"vnasNodeState.{row['id']}": STATES[row["state"]],
                        f"vnasNodeSessions.{row['id']}": str(row["sessions"])})
    for row in lab.nasctl("volume", "list"):
        objects.update({f"vnasVolumePlace.{row['id']}": row["place"], f"vnasVolumeNode.{row['id']}": str(row["node"]),
                        f"vnasVolumeState.{row['id']}": row["state"], f"vnasVolumeSize.{row['id']}": str(row["size_bytes"])})
    for row in lab.nasctl("session", "list"):
        index = ".".join(str(int(part, 16)) for part in row["id"].split("-"))
        objects.update({f"vnasSessionClient.{index}": row["client"], f"vnasSessionNode.{index}": str(row["node"]),
                        f"vnasSessionHandoffs.{index}": str(row["handoffs"]),
                        f"vnasSessionRequests.{index}": str(row["requests"]),
                        f"vnasSessionBytes.{index}": str(row["bytes"]),
                        f"vnasSessionLastHandoff.{index}": str(row["last_handoff_us"])})
    return objects


def seen(agent):
    return {name: value for name, value in agent.names().items() if name.split(".")[0] not in MOVING}


def differences(lab, agent):
    wanted, said = expected(lab), seen(agent)
    return {name: (wanted.get(name), said.get(name)) for name in set(wanted) | set(said) if wanted.get(name) != said.get(name)}


def everything(test, lab, agent):
    with lab.client() as client:
        disk = client.walk(client.mount("/"), "/disk0")
        client.write(client.create(disk, "walked"), 0, bytes(5000))
        harness.wait_until(lambda: lab.session(*client.local), 10)
        lab.nasctl("handoff", lab.session(*client.local)["id"], "2")
        test.within(30, "a walk by the names of VNAS-MIB has what nasctl has", lambda: not differences(lab, agent),
                    lambda: differences(lab, agent))
        said = agent.names()
        test.check("... with a session that has moved", [value for name, value in said.items()
                                                         if name.startswith("vnasSessionHandoffs")] == ["1"], said)
        test.check("... and the room of each volume", sum(name.startswith("vnasVolumeFree") and int(value) > 0
                                                           for name, value in said.items()) == 2, said)
    test.within(30, "a session that has ended is gone", lambda: not [name for name in agent.names() if "Session" in name and
                                                                    not name.endswith(("vnasSessionCount.0", "Sessions.1", "Sessions.2", "Sessions.3"))])


def types(test, agent):
    """What the agent sends is what the MIB says it is."""
    with open(os.path.join(SNMP, "VNAS-MIB.txt"), encoding="ascii") as file:
        mib = file.read()
    tables = {"vnasObjects": "1", "vnasNodeEntry": "1.10.1", "vnasVolumeEntry": "1.11.1", "vnasSessionEntry": "1.12.1"}
    words = {"TruthValue": "INTEGER", "INTEGER": "INTEGER", "Integer32": "INTEGER", "SnmpAdminString": "STRING", "Gauge32": "Gauge32",
             "Counter32": "Counter32", "Counter64": "Counter64", "CounterBasedGauge64": "Counter64"}
    objects = re.findall(r"\n\w+ OBJECT-TYPE\n +SYNTAX +(\w+).*\n(?: +UNITS.*\n)? +MAX-ACCESS +read-only\n(?:.*\n)*?"
                         r" +::= \{ (\w+) (\d+) \}", mib)
    wanted = {f"{BASE}.{tables[parent]}.{number}": words[syntax] for syntax, parent, number in objects}
    wrong, known = {}, set()
    for oid, value in agent.numbers("snmpwalk", BASE).items():
        column = next((column for column in wanted if oid.startswith(column + ".")), None)
        known.add(column)
        kind = "STRING" if value.startswith(('"', "STRING")) else value.split(":")[0]
        if column is None or kind != wanted[column]:
            wrong[oid] = (value, wanted.get(column))
    test.check("types are those of VNAS-MIB", not wrong, wrong)
    missing_ones = {oid for oid in set(wanted) - known if not oid.startswith((f"{BASE}.1.12.1", f"{BASE}.1.10.1.7"))}
    test.check("nothing of it is missing", not missing_ones and len(wanted) > 20, missing_ones)


def single(test, agent):
    said = agent.numbers("snmpget", f"{BASE}.1.2.0")
    test.check("one object", said == {f"{BASE}.1.2.0": "INTEGER: 1"}, said)
    for oid in (f"{BASE}.1.2", f"{BASE}.1.2.0.0", f"{BASE}.1.10.1.2.77", f"{BASE}.1.10.1.1.1", f"{BASE}.1.99.0", f"{BASE}.4294967295"):
        said = agent.numbers("snmpget", oid)
        test.check(f"no object {oid.removeprefix(BASE)}", "No Such" in said.get(oid, ""), said)
    said = agent.say("snmpset", "-m", "", "-On", f"127.0.0.1:{PORT}", f"{BASE}.1.2.0", "i", "2")
    test.check("nothing can be set", "noAccess" in said or "notWritable" in said or "authorizationError" in said, said)


def directly(test, lab):
    """What snmpd never says."""
    program = subprocess.run([sys.executable, f"{SNMP}/vnas-snmp", "--nasctl", "/nowhere"], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=20, check=False,
                             input=f"PING\nget\nx.y\ngetnext\n\nnonsense\nget\n{BASE}.1.1.0\ngetnext\n{BASE}\nset\n{BASE}.1.1.0\ninteger 1\nget\n-1\n")
    lines = program.stdout.splitlines()
    test.check("broken questions are answered", lines == [
        "PONG", "NONE", "NONE", "NONE", f"{BASE}.1.1.0", "integer", "2", f"{BASE}.1.1.0", "integer", "2", "not-writable", "NONE"] and
        not program.stderr, (lines, program.stderr))
    strange = os.path.join(lab.plan["directory"], "strange")
    with open(strange, "w", encoding="utf-8") as file:
        file.write(STRANGE)
    os.chmod(strange, 0o755)
    program = subprocess.run([sys.executable, f"{SNMP}/vnas-snmp", "--nasctl", strange], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=20, check=False,
                             input=f"get\n{BASE}.1.3.0\nget\n{BASE}.1.9.0\n")
    lines = program.stdout.splitlines()
    test.check("names are one line, and numbers in their range", lines == [
        f"{BASE}.1.3.0", "string", "a?getä?%s", f"{BASE}.1.9.0", "gauge", "4294967295"] and not program.stderr, (lines, program.stderr))


def without_daemon(test, lab, agent):
    lab.stop("switch")
    test.within(REFRESH_S + 15, "without vnasd: that it does not run", lambda: agent.names() == {
        "vnasRunning.0": "false", "vnasRole.0": "unknown", "vnasHealth.0": "unknown"}, agent.names)
    lab.start("switch")
    test.within(REFRESH_S + 25, "... and all again", lambda: not differences(lab, agent), lambda: differences(lab, agent))


def on_a_disk(test, lab):
    agent = Agent(test, lab, "disk1", options=f"--base {BASE}")
    test.within(30, "disk1: snmpd answers", agent.is_there)
    said = agent.names()
    test.check("disk1: is a slave, with its sessions", said["vnasRole.0"] == "slave" and said["vnasSessionCount.0"] == "0" and
               said["vnasRunning.0"] == "true", said)
    agent.end()


def missing():
    for program, package in (("snmpd", "snmpd"), ("snmpwalk", "snmp")):
        if not shutil.which(program, path=PATH):
            return f"{program} (package {package})"
    return None


def run(test):
    lab = test.lab("--slaves", "2")
    agent = Agent(test, lab, "switch")
    test.within(30, "snmpd answers", agent.is_there)
    everything(test, lab, agent)
    types(test, agent)
    single(test, agent)
    directly(test, lab)
    on_a_disk(test, lab)
    without_daemon(test, lab, agent)
    agent.end()


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, missing))
