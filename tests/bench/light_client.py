# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/bench/light_client.py - what a client that asks for little notices when another asks for twice what the disk can do

disk1 of a lab has a volume on a file system that has a few operations in progress at a time, each of five milliseconds
(tests/client/hanging_files). Client 1 reads now and then. By turns client 2 keeps so many reads outstanding that its own queue is
never empty, or does not: at least twice as many as the disk and the node's threads for that volume take. Both are in classes
(nasctl class). Client 2 is measured, too, alone and beside client 1: what is done for the one is paid by the other.
"""

import contextlib
import os
import shutil
import tempfile

import harness
import isolation
import measure
import slow_disk

DISK1 = 2
RATE = 20
WARM_UP_MS = 500
LONGER = 5    # than other parts: for a 99th percentile of few calls
AT_A_TIME = [32, 8, 1]    # as solid state disks, a small RAID and one disk do
CONNECTIONS, WINDOW = 8, 8    # of client 2
MOST = 2


def light(lab, seconds):
    return isolation.load_on(lab, "client1", "read-random", "--path", "slow/file", "--size", 65536, "--rate", RATE, "--warm-up",
                             WARM_UP_MS, "--seconds", seconds)


def heavy(lab, seconds):
    return isolation.load_on(lab, "client2", "read-random", "--path", "slow/file", "--size", 65536, "--connections", CONNECTIONS,
                             "--window", WINDOW, "--seconds", seconds)


def run(load):
    load.go()
    return load.result()


def rounds(lab, options, disk, at_a_time, say):
    results = {"light alone": [], "heavy alone": [], "light beside": [], "heavy beside": []}
    seconds = LONGER * options.seconds
    disk.tell(f"busy {at_a_time}")
    for number in range(options.rounds):
        say(f"light-client: {at_a_time} at a time, round {number + 1} of {options.rounds}")
        for name, one in (("light alone", light(lab, seconds)), ("heavy alone", heavy(lab, options.seconds))):
            with one:
                results[name].append(run(one))
        with light(lab, seconds) as one, heavy(lab, seconds + 1) as other:
            other.go()
            results["light beside"].append(run(one))
            results["heavy beside"].append(other.result())
    return results


def row_of(at_a_time, results):
    def pair(who, key):
        return [measure.median([run[key] for run in results[f"{who} {how}"]]) for how in ("alone", "beside")]

    p99 = pair("light", "p99_us")
    ratio = p99[1] / p99[0]
    judged = f" of {MOST}" if ratio <= MOST else f" MISSES {MOST}"
    return [f"{at_a_time} at a time", *pair("light", "p50_us"), *p99, f"{ratio:.2f}" + judged,
            *map(round, pair("heavy", "per_s"))]


def set_classes(lab):
    for name, client, weight in (("light", "client1", 900), ("heavy", "client2", 100)):
        lab.nasctl("class", "set", name, "--weight", str(weight), f"network={lab.hosts[client]['address']}")
    revision = lab.nasctl("status")["revision"]
    if harness.wait_until(lambda: lab.nasctl("status", host="disk1")["revision"] >= revision, 20) is None:
        raise harness.Failed("disk1 does not hear of the classes")


def measure_all(options, say, print_table):
    say("light-client: starting a lab")
    storage = tempfile.mkdtemp(prefix="vnas-bench-", dir="/var/tmp")
    lab = disk = None
    results = {}
    try:
        lab = harness.Lab(f"bench-{os.getpid()}-light-client",
                          ["--slaves", "1", "--clients", "2", "--log-level", "warn", "--storage", storage])
        slow = os.path.join(lab.hosts["disk1"]["directory"], "slow")
        disk = slow_disk.SlowDisk(slow)
        lab.nasctl("volume", "add", str(DISK1), slow, "/slow")
        set_classes(lab)
        for at_a_time in AT_A_TIME:
            results[at_a_time] = rounds(lab, options, disk, at_a_time, say)
        with contextlib.suppress(harness.Failed):
            disk.tell("go")
    finally:
        if lab:
            lab.down()
        if disk:
            disk.end()
        shutil.rmtree(storage, ignore_errors=True)
    rows = [["the disk", "p50 us alone", "beside", "p99 us alone", "beside", "ratio of p99", "other's READs/s alone", "beside"]]
    print_table(f"READs of one client, {RATE} a second, alone and beside one that has {CONNECTIONS * WINDOW} READs outstanding. Each is "
                f"several operations of 5 ms to the disk; medians of {options.rounds} rounds of {LONGER * options.seconds} s",
                rows + [row_of(at_a_time, result) for at_a_time, result in results.items()])
    return results
