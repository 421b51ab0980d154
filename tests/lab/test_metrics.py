#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_metrics.py - what Prometheus gets from each device

If this fails, monitoring is blind or sees other numbers than nasctl, clients can read it by default, or somebody who does can
harm the file service by it.
"""

import functools
import importlib.util
import os
import re
import resource
import shutil
import socket
import sys
import time

import daemon
import harness
import prometheus_text
import raw_nfs

HOSTS = ("switch", "disk1", "disk2")
PORT = 2051
URL = f"http://127.0.0.1:{PORT}/metrics"
FRESH_S = 1.2             # what is older is gathered anew
CONNECTIONS_MAX = 16
LORIS = 200               # connections that send a byte now and then
LORIS_S = 14              # longer than a connection lives
MEMORY_MIB = 300
MOVES = ("process/resident_bytes",)    # may go up and down between two looks


def scrape(lab, host, url=URL):
    """The text, or "" if there is no answer."""
    return lab.run(host, "curl", "--silent", "--max-time", "10", url, check=False)


def families(lab, host, url=URL):
    return prometheus_text.parse(scrape(lab, host, url))


@functools.cache
def documented():
    """{family: (its labels, "group/name" of nasctl counters or None)}, as vnas-metrics(7) has it"""
    page = os.path.join(os.path.dirname(harness.HERE), "..", "docs", "man", "vnas-metrics.7")
    with open(page, encoding="utf-8") as file:
        entries = re.findall(r"\n\.TP\n\.B (\w+)(?:\{([\w,]+)\})?\n\w+\.(?: nasctl counters: (\S+)\.)?\n", file.read())
    return {name: (labels.split(",") if labels else [], rows or None) for name, labels, rows in entries}


def rows(lab, host):
    return {f"{row['group']}/{row['name']}": row["value"] for row in lab.nasctl("counters", host=host)}


def row_of(pattern, family, end, labels):
    """Name of the row, and how many of its units are one of the metric's."""
    name = pattern.replace("*", dict(labels).get(documented()[family.name][0][0], "") if "*" in pattern else "")
    if family.kind == "histogram":
        return {"_count": (name + "_calls", 1), "_sum": (name + "_us", 10 ** 6)}.get(end, (None, None))
    return name, 10 ** 6 if "_seconds" in family.name else 1


def compare(test, lab, host):
    """Between two looks with nasctl, which agree with what was there in between."""
    pages = documented()
    time.sleep(FRESH_S)
    before = rows(lab, host)
    said = families(lab, host)
    after = rows(lab, host)
    wrong, seen = [], set()
    for family in said.values():
        pattern = pages[family.name][1]
        for (end, labels), number in family.samples.items() if pattern else ():
            name, unit = row_of(pattern, family, end, labels)
            if name is None:
                continue
            seen.add(name)
            value = round(float(number) * unit)
            if name not in MOVES and not before[name] <= value <= after[name]:
                wrong.append((name, before[name], value, after[name]))
    test.check(f"{host}: the same numbers as nasctl's", not wrong, wrong)
    test.check(f"{host}: no row is missing", seen == set(after), seen ^ set(after))
    test.check(f"{host}: calls were counted", before["process/cpu_us"] > 0 and before["scp/messages_in"] > 0, before)


def format_of(test, lab, host):
    """Read by ourselves, strictly, and by Prometheus' own library for Python."""
    from prometheus_client.parser import text_string_to_metric_families    # missing() is asked first
    time.sleep(FRESH_S)
    text = scrape(lab, host)
    said = prometheus_text.parse(text)
    theirs = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    test.check(f"{host}: Prometheus' library reads it", len(theirs) >= len(said), (len(theirs), len(said)))
    test.check(f"{host}: all of it is in vnas-metrics(7)", set(said) <= set(documented()), set(said) - set(documented()))
    wrong = [(name, labels) for name, family in said.items() for _, labels in family.samples
             if [label for label, _ in labels if label != "le"] != sorted(documented()[name][0])]
    test.check(f"{host}: with the labels that it says", not wrong, wrong)
    headers = lab.run(host, "curl", "--silent", "--dump-header", "-", "--output", "/dev/null", URL)
    test.check(f"{host}: the content type", "Content-Type: text/plain; version=0.0.4; charset=utf-8" in headers, headers)
    role = "master" if host == "switch" else "slave"
    test.check(f"{host}: who it is", [dict(labels)["role"] for _, labels in said["vnas_info"].samples] == [role])


def cluster(test, lab):
    """What only the master knows."""
    said = families(lab, "switch")
    test.check("the nodes", said["vnas_nodes"].value(state="up") == 3 and
               sum(float(number) for number in said["vnas_nodes"].samples.values()) == 3, said["vnas_nodes"].samples)
    test.check("the volumes", said["vnas_volumes"].value() == len(lab.nasctl("volume", "list")))
    test.check("... by place and node", [said["vnas_volume_up"].value(volume=row["place"], node=str(row["node"]))
                                         for row in lab.nasctl("volume", "list")] == [1, 1], said["vnas_volume_up"].samples)
    test.check("... and their room", all(float(number) > 0 for number in said["vnas_volume_free_bytes"].samples.values()) and
               len(said["vnas_volume_free_bytes"].samples) == 2, said["vnas_volume_free_bytes"].samples)
    test.check("the load of each node", len(said["vnas_node_cpu_ratio"].samples) == 3, said["vnas_node_cpu_ratio"].samples)
    expiry = said["vnas_node_certificate_expiry_timestamp_seconds"]
    test.check("until when the disks' certificates are good", len(expiry.samples) == 2 and all(
        time.time() < float(number) <= said["vnas_authority_expiry_timestamp_seconds"].value()
        for number in expiry.samples.values()), expiry.samples)
    test.check("packets that the fabric dropped, by reason", said["vnas_fabric_dropped_packets_total"].value(
        reason="client_filtered") == 0, said["vnas_fabric_dropped_packets_total"].samples)
    said = families(lab, "disk1")
    test.check("a disk node has nothing of that", not [name for name in said if name.startswith(
        ("vnas_node_up", "vnas_volume", "vnas_fabric", "vnas_nodes"))], list(said))
    lab.kill("disk2")
    test.within(20, "a node that is down is counted as such", lambda: (families(lab, "switch")["vnas_nodes"].value(
        state="down"), families(lab, "switch")["vnas_volume_up"].value(volume="/disk1", node="3")) == (1, 0))
    lab.start("disk2")
    test.within(30, "... and up again", lambda: families(lab, "switch")["vnas_nodes"].value(state="up") == 3)


def sums(lab, name):
    return sum(families(lab, host)[name].value() for host in HOSTS)


def moving(test, lab):
    """A session that moves is counted once."""
    client = lab.client()
    disk = client.walk(client.mount("/"), "/disk0")
    file = client.create(disk, "measured")
    client.write(file, 0, bytes(1 << 16))
    harness.wait_until(lambda: lab.session(*client.local), 10)
    daemon.ask(lab.plan, "switch", "handoff", lab.session(*client.local)["id"], "2")
    client.read(file, 0, 1 << 16)
    time.sleep(FRESH_S)
    latency = families(lab, "disk1")["vnas_nfs_latency_seconds"].samples
    test.check("how long a read took", float(latency["_count", (("operations", "read"),)]) >= 1 and
               float(latency["_sum", (("operations", "read"),)]) > 0, latency)
    before = sums(lab, "vnas_tcp_in_bytes"), sums(lab, "vnas_tcp_passive_opens"), sums(lab, "vnas_sessions")
    daemon.ask(lab.plan, "switch", "handoff", lab.session(*client.local)["id"], "3")
    test.within(10, "it has moved", lambda: families(lab, "disk2")["vnas_sessions"].value() == 1)
    time.sleep(FRESH_S)
    after = sums(lab, "vnas_tcp_in_bytes"), sums(lab, "vnas_tcp_passive_opens"), sums(lab, "vnas_sessions")
    test.check("a session that moves is counted once", before == after and after[0] > 1 << 16 and after[2] == 1,
               (before, after))
    test.check("its handoffs", sum(families(lab, host)["vnas_handoffs_given_total"].value() for host in HOSTS) >= 2)
    client.close()


def configure(lab, host, listen):
    with open(lab.hosts[host]["config"], "a", encoding="utf-8") as config:
        config.write(f"\n[metrics]\nlisten = {listen}\n")
    lab.stop(host)
    lab.start(host)


def places(test, lab):
    """Where it can be had."""
    clients = [(lab.vip, "the VIP"), ("10.77.1.1", "the switch's address on the clients' side")]
    for address, what in clients:
        test.check(f"not at {what}", scrape(lab, "client1", f"http://{address}:{PORT}/metrics") == "")
    address = lab.hosts["disk1"]["address"]
    test.check("not at a disk's address", scrape(lab, "switch", f"http://{address}:{PORT}/metrics") == "")
    configure(lab, "disk1", f"{address}:9100")
    test.within(20, "at a disk's address, where that is wanted", lambda: "vnas_info" in scrape(
        lab, "switch", f"http://{address}:9100/metrics"))
    test.check("... and not at loopback then", scrape(lab, "disk1") == "")
    configure(lab, "disk2", "off")
    test.within(20, "the disks are back", lambda: all(lab.node(number)["state"] == "up" for number in (2, 3)))
    test.check("nowhere, if that is wanted", scrape(lab, "disk2") == "")


def occupied(test, lab):
    """Somebody else has the port: the device serves all the same, and says so."""
    other = raw_nfs.socket_in(lab.netns("switch"))
    lab.stop("switch")
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.bind(("127.0.0.1", PORT))
    other.listen(1)
    lab.start("switch")
    test.check("a port that is taken: a line in the log", f"listen=127.0.0.1:{PORT}: Address already in use" in lab.log("switch"))
    with lab.client() as client:
        test.check("... and the device serves", bool(client.mount("/")))
    other.close()
    lab.stop("switch")
    lab.start("switch")
    test.within(20, "the disks are back", lambda: all(lab.node(number)["state"] == "up" for number in (2, 3)))


def descriptors(lab, host):
    return len(os.listdir(f"/proc/{lab.pid(host)}/fd"))


def memory_mib(lab, host):
    with open(f"/proc/{lab.pid(host)}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


class Crowd:
    """Connections to a device's metrics, from that device."""

    def __init__(self, lab, host, count):
        self.sockets = []
        for _ in range(count):
            plain = raw_nfs.socket_in(lab.netns(host))
            plain.setblocking(False)
            try:
                plain.connect(("127.0.0.1", PORT))
            except BlockingIOError:    # it waits for the others
                pass
            self.sockets.append(plain)

    def send(self, data):
        """What is taken. Return: how many took it"""
        took = 0
        for plain in self.sockets:
            try:
                plain.send(data)
                took += 1
            except OSError:
                pass
        return took

    def close(self):
        for plain in self.sockets:
            plain.close()


def long_ones(lab):
    """Requests that no reader of metrics sends. Return: those that were not answered or closed"""
    endless = b"GET /metrics HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 4000) for i in range(200))
    wrong = []
    for request in (endless, b"GET /" + b"a" * 1000000, b"GET " + b"/" * 9000 + b" HTTP/1.1\r\n\r\n", os.urandom(100000),
                    b"\r\n" * 50000, b"POST /metrics HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
                    b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"7fffffff\r\n" + bytes(100000),
                    b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n",
                    b"GET http://x/metrics HTTP/1.1\r\n\r\n", b"\0" * 10000, b"GET /metrics\0 HTTP/1.1\r\n\r\n"):
        plain = raw_nfs.socket_in(lab.netns("switch"))
        plain.settimeout(20)
        plain.connect(("127.0.0.1", PORT))
        try:
            plain.sendall(request)
            while plain.recv(65536):
                pass
        except TimeoutError:
            wrong.append(request[:40])
        except OSError:    # closed before it was sent whole
            pass
        plain.close()
    return wrong


def hostile(test, lab):
    pid, before = lab.pid("switch"), descriptors(lab, "switch")
    lines = len(lab.log("switch").splitlines())
    load = test.load(lab, "--seconds", "0", "/disk0", "/disk1")
    wrong = long_ones(lab)
    test.check("long and broken requests are answered or their connections closed", not wrong, wrong)
    crowd = Crowd(lab, "switch", LORIS)
    until, most = time.monotonic() + LORIS_S, 0
    crowd.send(b"GET /metrics HTTP/1.1\r\nX: ")
    while time.monotonic() < until:
        crowd.send(b"a")
        most = max(most, descriptors(lab, "switch"))
        time.sleep(0.2)
    test.check(f"{LORIS} slow connections: no more than {CONNECTIONS_MAX} cost a descriptor",
               CONNECTIONS_MAX <= most - before + 2 and most - before <= CONNECTIONS_MAX + 40, (before, most))
    crowd.close()
    test.within(30, "metrics can be had again", lambda: "vnas_info" in scrape(lab, "switch"))
    asked = Crowd(lab, "switch", LORIS)
    asked.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    asked.close()    # before they have read
    test.within(30, "... also after those who don't read the answer", lambda: "vnas_info" in scrape(lab, "switch"))
    test.check_load(load, "the load went on all the time without an error on one connection")
    test.within(20, "no descriptor is left", lambda: descriptors(lab, "switch") <= before + 5,
                lambda: (before, descriptors(lab, "switch")))
    test.check("the same daemon runs", lab.pid("switch") == pid)
    test.check("its memory is bounded", memory_mib(lab, "switch") < MEMORY_MIB, memory_mib(lab, "switch"))
    grown = lab.log("switch").splitlines()[lines:]
    test.check(f"its log is quiet ({len(grown)} lines more)", len(grown) < 30, "\n".join(grown[:40]))


def missing():
    if not shutil.which("curl"):
        return "curl"
    return None if importlib.util.find_spec("prometheus_client") else "python3-prometheus-client"


def run(test):
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * LORIS + 500,) * 2)
    lab = test.lab("--slaves", "2")
    for host in HOSTS:
        format_of(test, lab, host)
    moving(test, lab)
    for host in HOSTS:
        compare(test, lab, host)
    cluster(test, lab)
    hostile(test, lab)
    occupied(test, lab)
    places(test, lab)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run, missing))
