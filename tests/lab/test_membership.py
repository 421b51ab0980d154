#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_membership.py - who may become a device of the cluster, and stay one

If this fails, a stranger's machine gets the users' traffic and files, or an administrator whose new disk node was
refused is not told why.

The lab's disk2 leaves the cluster and comes again and again, each time with something that must not do. Each refusal
must be in words in the logs of both sides, and must change nothing.
"""

import errno
import os
import re
import shutil
import sqlite3
import ssl
import struct
import subprocess
import sys
import time

import daemon
import harness

STRANGER, MEMBER = "disk2", "disk1"
SCP_PORT = 2050
ENROL = 10    # scp/scp.x


class Candidate:
    """vnasd on disk2, as one that was never here."""

    def __init__(self, test, lab):
        self.test, self.lab = test, lab
        self.host = lab.hosts[STRANGER]

    def forget(self):
        """An empty state directory."""
        shutil.rmtree(self.host["state_dir"])
        os.mkdir(self.host["state_dir"])

    def start(self, token=None):
        self.log_at = {name: len(self.lab.log(name)) for name in ("switch", STRANGER)}
        master = self.lab.hosts["switch"]["address"]
        daemon.spawn(self.lab.plan, STRANGER, join=f"{token}@{master}" if token else None)

    def said(self, name):
        return self.lab.log(name)[self.log_at[name]:]

    def ends(self):
        if not daemon.wait_gone(self.host, 15):
            daemon.send_signal(self.host, 9)
            daemon.wait_gone(self.host, 5)
            return False
        return True

    def is_said(self, name, pattern):
        """In one line."""
        return harness.wait_until(lambda: any(re.search(pattern, line) for line in self.said(name).splitlines()),
                                  8) is not None

    def check_said(self, what, **patterns):
        for name, pattern in patterns.items():
            name = {"master": "switch", "node": STRANGER}[name]
            self.test.check(f"{what}: {name} says so", self.is_said(name, pattern), self.said(name))


def members(lab):
    return sorted((row["id"], row["state"]) for row in lab.nasctl("node", "list"))


def token_of(lab, *options):
    return lab.nasctl("cluster", "token", *options)["token"]


def refused(test, lab, candidate, what, token, master=None, node=None):
    before = members(lab)
    candidate.forget()
    candidate.start(token)
    test.check(f"{what}: vnasd gives up", candidate.ends())
    candidate.check_said(what, **{side: text for side, text in (("master", master), ("node", node)) if text})
    test.check(f"{what}: the members are as before", members(lab) == before, members(lab))


def expire_tokens(lab):
    """As if their time had passed. The master has the file open, too; SQLite allows that."""
    database = sqlite3.connect(os.path.join(lab.hosts["switch"]["state_dir"], "vroot.sqlite"), timeout=10)
    with database:
        database.execute("UPDATE tokens SET expires_s = ?", (int(time.time()) - 60,))
    database.close()


def strangers_session(lab):
    """TLS without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = harness.raw_nfs.socket_in(lab.netns(STRANGER))
    plain.settimeout(15)
    plain.connect((lab.hosts["switch"]["address"], SCP_PORT))
    return context.wrap_socket(plain)


def xdr_text(text):
    data = text.encode()
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


def ask_to_enrol(lab, secret, name, request):
    """The result of an ENROL that vnasd would not send."""
    body = struct.pack(">I", ENROL) + xdr_text(secret) + xdr_text(name) + xdr_text(request)
    stranger = strangers_session(lab)
    stranger.sendall(b"SCP1" + struct.pack(">HHII", ENROL, 0, 1, len(body)) + body)
    answer = b""
    while len(answer) < 24:    # header, type, result
        answer += stranger.recv(4096) or bytes(24)
    stranger.close()
    return struct.unpack(">I", answer[20:24])[0]


def tokens(test, lab, candidate):
    good = token_of(lab)
    refused(test, lab, candidate, "a token that nobody made", "vnas1-" + "0" * len(good.split("-")[1]) + "-" +
            good.split("-")[2], "not enrolled: the token is unknown or was used", "not joined: .*token is unknown")
    refused(test, lab, candidate, "half a token", good[:-10], None, "not joined: .*copied whole")

    for name, request in (("disk2", "no request"), ("a name", "no request"), ("", "")):
        answer = ask_to_enrol(lab, good.split("-")[1], name, request)
        test.check("a request that is malformed is refused as such", answer == errno.EBADMSG, answer)

    candidate.forget()
    candidate.start(good)
    test.within(10, "the good token still works", lambda: len(members(lab)) == 3)
    node = max(number for number, _ in members(lab))
    test.within(10, "... and the node is up", lambda: lab.node(node)["state"] == "up")
    lab.stop(STRANGER)
    remove(lab, node)
    refused(test, lab, candidate, "a token that was used", good, "not enrolled: the token is unknown or was used",
            "not joined: .*token is unknown or was used; make a new one")

    late = token_of(lab, "--lifetime", "1")
    expire_tokens(lab)
    refused(test, lab, candidate, "a token that expired", late, "not enrolled: the token has expired",
            "not joined: .*token has expired; make a new one")


def volumes_of(lab, node):
    return [row["id"] for row in lab.nasctl("volume", "list") if row["node"] == node]


def remove(lab, node):
    for volume in volumes_of(lab, node):
        lab.nasctl("volume", "remove", str(volume))
    lab.nasctl("node", "remove", str(node))


def no_certificate(test, lab, candidate):
    """A machine that never joined, and one that talks to the devices' port without a certificate."""
    candidate.forget()
    candidate.start()
    test.check("never joined: vnasd gives up", candidate.ends())
    candidate.check_said("never joined", node="does not name the master; join with vnasd --join")

    log_at = len(lab.log("switch"))
    stranger = strangers_session(lab)
    try:    # a heartbeat's header: what only a device may send
        stranger.sendall(b"SCP1" + bytes([0, 3]) + bytes(2) + bytes(4) + bytes(4))
        answer = stranger.recv(4096)
    except OSError as error:
        answer = str(error).encode()
    stranger.close()
    test.check("no certificate: refused in words", b"malformed" in answer or b"unexpected" in answer or
               b"certificate" in answer, answer)
    test.check("no certificate: the master says so", "refused" in lab.log("switch")[log_at:],
               lab.log("switch")[log_at:])


def another_cluster(test, lab, candidate):
    """disk2 becomes a full member of a second cluster, then turns up here."""
    other = os.path.join(lab.plan["directory"], "other")
    os.makedirs(other + "/state")
    config = other + "/vnasd.conf"
    with open(config, "w", encoding="ascii") as out:
        out.write(f"[vnas]\nmode = master\nname = other\nstate_dir = {other}/state\nrun_dir = {other}/run\n"
                  f"bpf_dir = {other}/bpf\n[network]\naddress = {lab.hosts[MEMBER]['address']}\nhandoff = no\n"
                  f"scp_port = 3050\n[nfs]\n"
                  "port = 3049\nportmapper = none\n")
    programs = lab.plan["programs"]
    lab.run(MEMBER, programs["nasctl"], "--config", config, "cluster", "init", "--name", "other")
    with open(other + "/log", "wb") as log:
        master = subprocess.Popen(harness.network.enter(lab.hosts[MEMBER]["netns"]) +
                                  [programs["vnasd"], "--mode=master", "--config", config], stdin=subprocess.DEVNULL,
                                  stdout=log, stderr=log)
    test.at_end(lambda: (master.kill(), master.wait()))
    made = harness.wait_until(lambda: os.path.exists(other + "/run/admin.sock"), 10)
    with open(other + "/log", encoding="utf-8") as log:
        test.need("a second cluster starts", made is not None, log.read())
    out = lab.run(MEMBER, programs["nasctl"], "--config", config, "--json", "cluster", "token")
    foreign = re.search(r"vnas1-[0-9a-zA-Z-]+", out).group()

    refused(test, lab, candidate, "a token of another cluster", foreign, None,
            "not joined: .*not of the cluster that the token is for")
    # Join there, then point the node here.
    candidate.forget()
    daemon.spawn(lab.plan, STRANGER, join=f"{foreign}@{lab.hosts[MEMBER]['address']}:3050")
    test.within(10, "disk2 is a member there", lambda: "disk2" in lab.run(
        MEMBER, programs["nasctl"], "--config", config, "--json", "node", "list"))
    lab.kill(STRANGER)
    with open(os.path.join(candidate.host["state_dir"], "master"), "w", encoding="ascii") as out:
        out.write(lab.hosts["switch"]["address"])
    before = members(lab)
    candidate.start()
    candidate.check_said("a node of another cluster", master="another cluster", node="another cluster|certificate")
    test.check("a node of another cluster: the members are as before", members(lab) == before, members(lab))
    lab.kill(STRANGER)
    master.terminate()
    test.check("the second cluster ends", master.wait(10) == 0)


def pending(test, lab, candidate):
    candidate.forget()
    candidate.start(token_of(lab, "--pending"))
    candidate.check_said("a pending node", master="waits for approval", node="waits for approval")
    number, state = members(lab)[-1]
    test.check("a pending node: it is in the list as such", state == "pending", members(lab))
    problems = lab.nasctl("status")["problems"]
    test.check("a pending node: the status says what to do", any(f"nasctl node approve {number}" in text
                                                                  for text in problems), problems)
    test.check("a pending node: its volume is not in the tree", not volumes_of(lab, number))
    lab.nasctl("node", "approve", str(number))
    test.within(10, "approved, it joins", lambda: lab.node(number)["state"] == "up",
                lambda: lab.nasctl("node", "list"))
    test.within(10, "... with its volume", lambda: volumes_of(lab, number))
    return number


def removed(test, lab, candidate, number):
    test.within(10, f"disk1 has a session with node {number}",
                lambda: re.search(rf"node={number} channel=control .* up:", lab.log("disk1")))
    candidate.log_at = {name: len(lab.log(name)) for name in ("switch", STRANGER)}
    remove(lab, number)
    candidate.check_said("a removed node", master=f"node {number} is not a member", node="removed from the cluster")
    test.within(10, "a removed node: disk1 ends its sessions with it, too", lambda: len(re.findall(
        f"node={number} channel=.* down: .*", lab.log(MEMBER))) == 2, lambda: lab.log(MEMBER)[-1500:])
    test.check("... for this reason", re.search(f"node={number} channel=.* down: .*removed", lab.log(MEMBER)))
    candidate.check_said("a removed node comes again", node=f"node {number} is not a member of this cluster")
    test.check("a removed node: it is not in the list", number not in dict(members(lab)), members(lab))
    lab.kill(STRANGER)
    candidate.start()
    candidate.check_said("a removed node that was restarted", node=f"node {number} is not a member of this cluster")
    lab.kill(STRANGER)


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    candidate = Candidate(test, lab)
    lab.stop(STRANGER)
    remove(lab, 3)
    tokens(test, lab, candidate)
    no_certificate(test, lab, candidate)
    another_cluster(test, lab, candidate)
    number = pending(test, lab, candidate)
    removed(test, lab, candidate, number)
    with lab.client() as client:
        test.check("disk1 is still served", client.walk(client.mount("/"), "/disk0"))
    lines = len(lab.log("switch").splitlines())
    test.check(f"the master's log is readable ({lines} lines)", lines < 200, lines)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
