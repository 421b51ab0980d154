# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/bench/handoff.py - what a handoff costs: stalls, retransmissions, how many there may be

A lab of its own, inline, with two disks. Sessions go between disk1 and disk2, ordered by tests/bench/handoff_orders as by
`nasctl handoff`; nobody is tied to a CPU. What has to be as it should is a row with a bar; what else is known stands beside it.
"""

import bisect
import contextlib
import json
import os
import shutil
import struct
import subprocess
import tempfile
import time

import file_service
import handoff_storm
import harness
import measure
import sites

DISK1, DISK2 = 2, 3    # node ids
LOAD_DIRECTORY = os.path.dirname(os.path.abspath(__file__))
ORDERS = os.environ.get("HANDOFF_ORDERS") or os.path.join(LOAD_DIRECTORY, "handoff_orders")
RPC_LOAD = os.environ.get("RPC_LOAD") or os.path.join(os.path.dirname(LOAD_DIRECTORY), "client", "rpc_load")
REPAIR_TIMES = os.environ.get("REPAIR_TIMES_SO") or os.path.join(LOAD_DIRECTORY, "repair_times.so")
PATHS = os.environ.get("FABRIC_PATHS") or os.path.join(LOAD_DIRECTORY, "fabric_paths")

CALL_BYTES, WINDOW = 128, 16
WRITTEN = "written"    # a file beside that which is read
PAUSE_US = 3000    # after each two handoffs: what is measured before one must not be the one before
RATE_SESSIONS = 4
BULK_RATE = 20
MANY_SESSIONS, MANY_SECONDS = 100, 10
TIME_MASK = (1 << 48) - 1
TCP_COUNTERS = ["Tcp.RetransSegs", "TcpExt.TCPLossProbes", "TcpExt.TCPLossProbeRecovery", "TcpExt.TCPDSACKRecvSegs",
                "TcpExt.TCPTimeouts", "TcpExt.TCPFastRetrans", "TcpExt.TCPSlowStartRetrans", "Tcp.OutRsts"]


# Handoffs by order


class Order:
    """A line of handoff_orders. @took_us: 0 if it was there already, -1 if it was refused."""

    def __init__(self, line):
        self.session, self.node, self.start_us, self.end_us, self.took_us = map(int, line.split())


def order(lab, sessions, nodes, handoffs, pause_us=0, rate=0, seconds=600, prepare=False):
    """All orders that were given; those that were done have a time."""
    command = [ORDERS, "--socket", lab.hosts["switch"]["admin_socket"], "--nodes", ",".join(map(str, nodes)), "--handoffs",
               str(handoffs), "--pause-us", str(pause_us), "--rate", str(rate), "--seconds", str(seconds), *["--prepare"][:prepare], *sessions]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode:
        raise harness.Failed(f"handoff_orders: {done.stderr.strip()}")
    return [Order(line) for line in done.stdout.splitlines()]


def done_of(orders):
    return [one for one in orders if one.took_us > 0]


def sessions_of(lab, count):
    """The ids of client1's connections, once the switch knows them all. It may still list those of an earlier load."""
    lines = lab.run("client1", "ss", "-Htn", "state", "established", "dst", f"{lab.vip}:2049").splitlines()
    clients = {line.split()[2] for line in lines}

    def found():
        return [str(row["id"]) for row in lab.nasctl("session", "list") if row["client"] in clients]

    if len(clients) != count or harness.wait_until(lambda: len(found()) == count, measure.SETTLE_S, 0.02) is None:
        raise harness.Failed(f"client1 has {len(clients)} connections, {len(found())} sessions instead of {count}")
    return found()


# Loads


class RpcLoad(measure.Load):
    """tests/client/rpc_load on client1, running; a context manager."""

    def __init__(self, lab, connections, window, times="/dev/null"):
        command = [RPC_LOAD, "--server", lab.vip, "--connections", str(connections), "--window", str(window), "--bytes",
                   str(CALL_BYTES), "--seconds", "0", "--times", times]
        super().__init__("rpc_load", lab.hosts["client1"]["netns"], command, "ports ")

    def end(self):
        self.stop()
        return self.result()


def reader(lab, options, seconds):
    return measure.Reader(lab.hosts["client1"]["netns"], lab.vip, f"/disk0/{sites.FILE}", "--seconds", str(seconds), "--size",
                          str(options.size_bytes), "--block", str(options.block), "--window", str(options.window))


def rpc_bench(lab, operation, seconds, *more, file=sites.FILE):
    return file_service.RpcBench(lab.hosts["client1"]["netns"], operation, "--server", lab.vip, "--export", "/", "--operation",
                                 operation, "--path", f"disk0/{file}", "--seconds", seconds, *more)


# What TCP had to do again


class Tcp:
    """What the client's TCP counted since this was made."""

    def __init__(self, lab):
        self.netns = lab.hosts["client1"]["netns"]
        self.before = handoff_storm.counters(self.netns)

    def since(self):
        now = handoff_storm.counters(self.netns)
        return {name: now.get(name, 0) - self.before.get(name, 0) for name in TCP_COUNTERS}


def lost(tcp):
    """Segments that were sent again and had not arrived: whoever had them already said so (DSACK, RFC 2883)."""
    return max(0, tcp["Tcp.RetransSegs"] - tcp["TcpExt.TCPDSACKRecvSegs"])


# Stalls of small calls


class Stalls:
    """Of one series: each handoff's longest time between two answers, and that of as long a time before it."""

    def __init__(self, times, orders):
        self.handed_off, self.without, self.took = [], [], []
        for one in done_of(orders):
            length_us = one.end_us - one.start_us + 1000    # the answer to us may overtake the client's
            self.took.append(one.took_us)
            self.handed_off.append(measure.longest_gap_us(times, one.start_us, one.start_us + length_us))
            self.without.append(measure.longest_gap_us(times, one.start_us - length_us, one.start_us - 1))


def times_of_calls(path):
    return [entry & TIME_MASK for entry in measure.read_times(path)]


def small_calls(lab, options, scratch):
    path = os.path.join(scratch, "times")
    with RpcLoad(lab, 1, WINDOW, path) as load:
        sessions = sessions_of(lab, 1)
        time.sleep(0.5)
        tcp = Tcp(lab)
        orders = order(lab, sessions, [DISK1, DISK2], options.handoffs, pause_us=PAUSE_US)
        counted = tcp.since()
        result = load.end()
    stalls = Stalls(times_of_calls(path), orders)
    os.unlink(path)
    return {"handoffs": len(done_of(orders)), "tcp": counted, "load": result, "stalls": vars(stalls)}


# Freeze to live


class Repair:
    """What tests/bench/repair_times wrote about the daemons of @lab, (ns, event, host) in the order of time."""

    ENTRY = struct.Struct("=QII")
    MAP_ENTRY, ON, OFF = 1, 2, 3

    def __init__(self, lab, prefix):
        self.events = []
        for host in ("disk1", "disk2"):
            with open(f"{prefix}.{lab.pid(host)}", "rb") as file:
                data = file.read()
            for ns, event, _ in self.ENTRY.iter_unpack(data):
                if not ns:
                    break
                self.events.append((ns, event, host))
        self.events.sort()

    def live_us(self, since_us):
        """From the first device's hold (its entry in the map) until the second's socket is out of repair mode."""
        other = {"disk1": "disk2", "disk2": "disk1"}
        entry, held, found = {}, {}, []
        for ns, event, host in self.events[bisect.bisect_left(self.events, (since_us * 1000, 0, "")):]:
            if event == self.MAP_ENTRY:
                entry[host] = ns
            elif event == self.ON:
                held[host] = entry.pop(host, None)
            elif held.get(other[host]):
                found.append((ns - held.pop(other[host])) / 1000)
        return found


def freeze_to_live(lab, options, prefix):
    """To devices that did not expect it, and to those that were prepared."""
    times = []
    for prepare in False, True:
        with RpcLoad(lab, 1, WINDOW):
            sessions = sessions_of(lab, 1)
            order(lab, sessions, [DISK1], 1)
            since_us = measure.now_us()
            order(lab, sessions, [DISK2, DISK1], options.handoffs, pause_us=PAUSE_US, prepare=prepare)
            time.sleep(0.1)
        times.append(Repair(lab, prefix).live_us(since_us))
    return times


# Bulk


def hand_around(lab, options, load):
    """As many handoffs as there are in the time, to disk2 and at once back to the data on disk1."""
    sessions = sessions_of(lab, 1)
    order(lab, sessions, [DISK1], 1)
    load.go()
    time.sleep(0.5)
    tcp = Tcp(lab)
    orders = order(lab, sessions, [DISK2, DISK1], options.bulk_handoffs, pause_us=PAUSE_US)
    return {"handoffs": len(done_of(orders)), "tcp": tcp.since()}


def bulk_reads(lab, options):
    with reader(lab, options, 0) as load:
        counted = hand_around(lab, options, load)
        load.stop()
        return counted | {"load": load.result()}


def bulk_writes(lab, options):
    with rpc_bench(lab, "write", 3600, "--block", 65536, "--size", options.size_bytes, "--window", options.window,
                   file=WRITTEN) as load:
        counted = hand_around(lab, options, load)
        if load.process.poll() is not None:
            load.result()    # says what was wrong
    return counted


def read_speed(lab, options, is_handed_off):
    """As long as the handoffs of options.seconds take; they may be late."""
    with reader(lab, options, 0) as load:
        sessions = sessions_of(lab, 1)
        order(lab, sessions, [DISK1], 1)
        load.go()
        count, started = 0, time.monotonic()
        if is_handed_off:
            count = len(done_of(order(lab, sessions, [DISK2, DISK1], BULK_RATE * options.seconds, rate=BULK_RATE)))
        time.sleep(max(0, started + options.seconds + 0.3 - time.monotonic()))    # its warm-up
        load.stop()
        return {"mb_per_s": load.result()["mb_per_s"], "handoffs": count}


def handed_off_while_reading(lab, options, say):
    runs = {"with": [], "without": []}
    for number in range(options.rounds):
        say(f"handoff: reads with {BULK_RATE} handoffs a second, and without: round {number + 1} of {options.rounds}")
        runs["with"].append(read_speed(lab, options, True))
        runs["without"].append(read_speed(lab, options, False))
    return runs


# How many


def handoffs_per_second(lab, options):
    with RpcLoad(lab, RATE_SESSIONS, 1):
        sessions = sessions_of(lab, RATE_SESSIONS)
        order(lab, sessions, [DISK1], RATE_SESSIONS)
        tcp = Tcp(lab)
        orders = order(lab, sessions, [DISK2, DISK1], options.handoffs)
        counted = tcp.since()
    done = done_of(orders)
    seconds = (max(one.end_us for one in done) - min(one.start_us for one in done)) / 1e6
    return {"per_s": len(done) / seconds, "handoffs": len(done), "took": [one.took_us for one in done], "tcp": counted}


# The switch's daemon beside many sessions


def ticks_of_switch(lab, seconds):
    usage = measure.Usage({"switch": lab.pid("switch")})
    time.sleep(seconds)
    return usage.since()["switch"]


def many_sessions(lab, options):
    alone = ticks_of_switch(lab, MANY_SECONDS)
    with rpc_bench(lab, "read-random", 3600, "--connections", MANY_SESSIONS, "--block", 4096, "--size",
                   options.size_bytes) as load:
        sessions = sessions_of(lab, MANY_SESSIONS)
        order(lab, sessions, [DISK1], MANY_SESSIONS)
        time.sleep(2)    # what concerns the handoffs is over
        quiet = ticks_of_switch(lab, MANY_SECONDS)
        load.go()
        time.sleep(1)
        busy = ticks_of_switch(lab, MANY_SECONDS)
        if load.process.poll() is not None:
            load.result()
    return {"no sessions": alone, "sessions that do nothing": quiet, "sessions that read": busy}


# Packets through the fabric


def fabric_paths(options):
    command = [PATHS, "--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode:
        raise harness.Failed(f"fabric_paths: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


# All of it


@contextlib.contextmanager
def a_lab(options, environment=None):
    storage = tempfile.mkdtemp(prefix="vnas-bench-", dir="/var/tmp")
    lab = None
    try:
        lab = harness.Lab(f"bench-{os.getpid()}-handoff",
                          ["--slaves", "2", "--clients", "1", "--log-level", "warn", "--storage", storage], environment)
        for file in (sites.FILE, WRITTEN):
            sites.write_file(os.path.join(lab.hosts["disk1"]["storage"], file), options.size_bytes)
        yield lab
    finally:
        if lab:
            lab.down()
        shutil.rmtree(storage, ignore_errors=True)


def in_a_lab(options, say, results):
    scratch = tempfile.mkdtemp(prefix="vnas-bench-")
    try:
        with a_lab(options) as lab:
            say(f"handoff: {options.handoffs} of a session with small calls")
            results["small"] = small_calls(lab, options, scratch)
            say(f"handoff: {options.handoffs} of {RATE_SESSIONS} sessions, as fast as they go")
            results["rate"] = handoffs_per_second(lab, options)
            say(f"handoff: {options.bulk_handoffs} of a session that reads")
            results["read"] = bulk_reads(lab, options)
            say(f"handoff: {options.bulk_handoffs} of a session that writes")
            results["write"] = bulk_writes(lab, options)
            results["reading"] = handed_off_while_reading(lab, options, say)
            say(f"handoff: the switch beside {MANY_SESSIONS} sessions")
            results["many"] = many_sessions(lab, options)
        say(f"handoff: {options.handoffs} with their moments written down")
        prefix = os.path.join(scratch, "repair")
        wrapper = {"VNASD_WRAPPER": f"env LD_PRELOAD={REPAIR_TIMES} REPAIR_TIMES={prefix}"}
        with a_lab(options, wrapper) as lab:
            results["live_us"], results["prepared_us"] = freeze_to_live(lab, options, prefix)
    finally:
        shutil.rmtree(scratch)


class Row:
    """A line of the table. @most: whether @bar is the most it may be, else the least; None: no bar."""

    def __init__(self, what, value, bar=None, most=True, unit=""):
        self.what, self.value, self.bar, self.unit = what, value, bar, unit
        self.is_met = None if bar is None else value <= bar if most else value >= bar

    def cells(self):
        def text(value):
            return None if value is None else f"{round(value, 2) if value < 10 else round(value):,} {self.unit}".strip()

        return [self.what, text(self.bar), text(self.value), {None: "", True: "met", False: "MISSED"}[self.is_met]]


def rows_of_times(name, times_us, p50_most=None, p99_most=None):
    return [Row(f"{name}, p50", measure.percentile(times_us, 0.5), p50_most, unit="us"),
            Row("... p99", measure.percentile(times_us, 0.99), p99_most, unit="us")]


def rows_of_tcp(name, series):
    tcp = series["tcp"]
    spurious = tcp["TcpExt.TCPLossProbes"] / max(1, series["handoffs"])
    return [Row(f"{name}: lost segments, in {series['handoffs']:,} handoffs", lost(tcp), 0),
            Row(f"{name}: tail-loss probes per 10,000 handoffs", spurious * 10000, 1),
            Row(f"{name}: all that was sent again", tcp["Tcp.RetransSegs"])]


def rows_of(results):
    stalls, runs, many = results["small"]["stalls"], results["reading"], results["many"]
    speeds = {how: measure.median([run["mb_per_s"] for run in runs[how]]) for how in runs}
    return [
        *rows_of_times(f"stall of {CALL_BYTES} B calls, {WINDOW} outstanding", stalls["handed_off"], 80, 250),
        *rows_of_times("... longest gap in as long a time without", stalls["without"]),
        *rows_of_times("freeze to second device live", results["live_us"], 45),
        *rows_of_times("... that was prepared", results["prepared_us"], 30),
        *rows_of_times("freeze to Acknowledgment at the first device", stalls["took"]),
        *rows_of_tcp("small calls", results["small"]), *rows_of_tcp("bulk READ", results["read"]),
        *rows_of_tcp("bulk WRITE", results["write"]),
        Row(f"handoffs per second, {RATE_SESSIONS} connections", results["rate"]["per_s"], 8000, most=False),
        Row(f"bulk READ with {BULK_RATE} handoffs a second / without", speeds["with"] / speeds["without"], 0.95, most=False),
        Row("... without", speeds["without"], unit="MB/s"),
        Row(f"switch daemon, ticks in {MANY_SECONDS} s while {MANY_SESSIONS} sessions read", many["sessions that read"]["ticks"], 0),
        *(Row(f"... its CPU time with {name}", used["run_us"] / 1000, unit="ms") for name, used in many.items()),
        *rows_of_paths(results["paths"]),
    ]


def rows_of_paths(paths):
    speeds = {name: measure.median(runs) for name, runs in paths["mb_per_s"].items()}
    fabric = speeds["fabric"]
    return [Row("through the fabric / a plain bridge", fabric / speeds["bridge"], 1.0, most=False),
            Row("through the fabric / nft DNAT", fabric / speeds["dnat"], 1.3, most=False),
            Row("through the fabric / haproxy", fabric / speeds["haproxy"], 4, most=False),
            *(Row(f"... {name}", speed, unit="MB/s") for name, speed in speeds.items()),
            *(Row(f"program {name}, per packet", used["ns"] / max(1, used["packets"]), 250, unit="ns")
              for name, used in paths["programs"].items()),
            Row(f"restoring {paths['restored']:,} sessions", paths["restore_us"] / 1000, 200, unit="ms")]


def table_of(results):
    return [["what", "bar", "here", ""], *(row.cells() for row in rows_of(results))]


def missing():
    for program in (ORDERS, RPC_LOAD, REPAIR_TIMES, PATHS):
        if not os.access(program, os.R_OK):
            return f"{program} (make bench builds it)"
    return None


def measure_all(options, say, print_table):
    results = {"load_before": os.getloadavg()[0]}
    in_a_lab(options, say, results)
    say("handoff: packets through the fabric")
    results["paths"] = fabric_paths(options)
    print_table("What a handoff costs, and the fabric", table_of(results))
    return results
