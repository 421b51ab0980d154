# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/bench/isolation.py - what the clients of one disk notice when another disk of the same node is very slow

disk1 of a lab has a volume on an ext4, and one on a file system whose operations take five seconds each
(tests/client/hanging_files). Client 1 reads what the page cache has, a few thousand times a second, so that latencies are not
those of its own queue. By turns client 2 asks much of the slow volume, over many connections, or does not.
"""

import contextlib
import os
import shutil
import tempfile

import file_service
import harness
import measure
import sites
import slow_disk

DISK1 = 2
RATE = 2000
CONNECTIONS, WINDOW = 16, 16    # of client 2: more calls than there are workers
MOST = 2


def load_on(lab, client, operation, *options):
    return file_service.RpcBench(lab.hosts[client]["netns"], f"{client}, {operation}", "--server", lab.vip, "--export", "/",
                                 "--operation", operation, *options, cpu=sites.CLIENT_CPU)


def reads(lab, options):
    with load_on(lab, "client1", "read-random", "--path", f"disk0/files/{sites.FILE}", "--size", options.size_bytes, "--rate", RATE,
                 "--warm-up", 1000, "--seconds", options.seconds) as load:
        load.go()
        return load.result()


def reads_beside(lab, options, disk):
    with contextlib.ExitStack() as stack:
        stack.callback(disk.tell, "go")
        others = [stack.enter_context(load_on(lab, "client2", operation, "--path", "slow/file", "--size", 65536, "--connections",
                                              CONNECTIONS, "--window", WINDOW, "--seconds", 3600))
                  for operation in ("getattr", "read-random")]
        disk.tell("slow")
        for other in others:
            other.go()
        return reads(lab, options)


def rounds(lab, options, disk, say):
    alone, beside = [], []
    for number in range(options.rounds):
        say(f"isolation: round {number + 1} of {options.rounds}")
        alone.append(reads(lab, options))
        beside.append(reads_beside(lab, options, disk))
    return {"alone": alone, "beside": beside}


def rows_of(results):
    rows = [["READ of 4 KiB by client 1", "p50 us", "p99 us"]]
    medians = {how: [measure.median([run[key] for run in runs]) for key in ("p50_us", "p99_us")]
               for how, runs in results.items()}
    rows.append(["nobody else", *medians["alone"]])
    rows.append(["client 2 asks the slow disk", *medians["beside"]])
    ratios = [slow / fast for slow, fast in zip(medians["beside"], medians["alone"])]
    rows.append(["ratio", f"{ratios[0]:.2f}", f"{ratios[1]:.2f}" + ("" if ratios[1] <= MOST else " MISSES") + f" of {MOST}"])
    return rows


def measure_all(options, say, print_table):
    say("isolation: starting a lab")
    storage = tempfile.mkdtemp(prefix="vnas-bench-", dir="/var/tmp")
    lab = disk = None
    try:
        lab = harness.Lab(f"bench-{os.getpid()}-isolation",
                          ["--slaves", "1", "--clients", "2", "--log-level", "warn", "--storage", storage])
        top, slow = lab.hosts["disk1"]["storage"], os.path.join(lab.hosts["disk1"]["directory"], "slow")
        os.mkdir(f"{top}/files")
        sites.write_file(f"{top}/files/{sites.FILE}", options.size_bytes)
        disk = slow_disk.SlowDisk(slow)
        lab.nasctl("volume", "add", str(DISK1), slow, "/slow")
        results = rounds(lab, options, disk, say)
    finally:
        if lab:
            lab.down()
        if disk:
            disk.end()
        shutil.rmtree(storage, ignore_errors=True)
    print_table(f"Cached READs, {RATE} a second, beside {2 * CONNECTIONS * WINDOW} calls outstanding to a disk that takes 5 s for "
                f"each operation: medians of {options.rounds} rounds of {options.seconds} s", rows_of(results))
    return results
