# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/bench/file_service.py - what serving files costs, beside nfs-ganesha and nginx

On disk1 of a lab serve, all at the same time and from one directory of an ext4 file system of their own: a vnasd
without a cluster, nfs-ganesha (FSAL_VFS), nginx. A client one bridge away takes turns with them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time

import harness
import measure
import network
import sites

RPC_BENCH = os.environ.get("RPC_BENCH") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "rpc_bench")
PROGRAMS = ["ganesha.nfsd", "rpcbind", "nginx", "mkfs.ext4"]
VNASD_PORT, GANESHA_PORT, GANESHA_MOUNT_PORT, NGINX_PORT = 3049, 4049, 4050, 8080
FILES = 1000
RATE = 4000    # calls per second over some connections or many
ENOUGH = 1.3    # CPU per operation over many connections, to that over two

GANESHA = """\
NFS_CORE_PARAM {{
    Protocols = 3;
    NFS_Port = {port};
    MNT_Port = {mount_port};
    mount_path_pseudo = false;
    Enable_NLM = false;
    Enable_RQUOTA = false;
    RPC_Max_Connections = 10000;
}}
EXPORT {{
    Export_Id = 1;
    Path = {path};
    Pseudo = /files;
    Protocols = 3;
    Access_Type = RW;
    Squash = No_Root_Squash;
    SecType = sys, none;
    MaxRead = 1048576;
    MaxWrite = 1048576;
    FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""

# One worker, without a log, as little work as can be.
NGINX = """\
daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.error;
events {{ }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/nginx.body;
    proxy_temp_path {directory}/nginx.proxy;
    fastcgi_temp_path {directory}/nginx.fastcgi;
    uwsgi_temp_path {directory}/nginx.uwsgi;
    scgi_temp_path {directory}/nginx.scgi;
    server {{
        listen {port};
        root {path};
    }}
}}
"""


# The servers


class FileSystem:
    """An ext4 file system in a file."""

    def __init__(self, directory, entries):
        self.image, self.path = directory + "/image", directory + "/files"
        os.makedirs(self.path)
        with open(self.image, "wb") as image:
            image.truncate(8 << 30)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", "-N", str(entries + 65536), self.image],
                       check=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.path], check=True)

    def fill(self, size, entries):
        sites.write_file(f"{self.path}/{sites.FILE}", size)
        for name in ("many", "new", "big"):
            os.mkdir(f"{self.path}/{name}")
        # nfs-ganesha's CREATE and REMOVE return before they are durable, ours don't: here the file system sees to it.
        subprocess.run(["chattr", "+D", f"{self.path}/new"], check=True)
        for name, count in (("many", FILES), ("big", entries)):
            directory = os.open(f"{self.path}/{name}", os.O_RDONLY | os.O_DIRECTORY)
            for number in range(count):
                os.mknod(f"f{number:06d}", 0o644, dir_fd=directory)
            os.close(directory)
        os.sync()

    def remove(self):
        subprocess.run(["umount", self.path], check=False)
        os.unlink(self.image)


class Peer:
    """A server of NFS. @prefix: what stands before a path in the directory, behind @export."""

    def __init__(self, name, server, port, mount_port, export, prefix):
        self.name, self.server, self.port, self.mount_port = name, server, port, mount_port
        self.export, self.prefix = export, prefix

    def resident_mib(self):
        with open(f"/proc/{self.server.pid}/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def ganesha(netns, directory, path, servers):
    """It can't start without a port mapper, which gets a /run of its own: the machine may have one."""
    config = directory + "/ganesha.conf"
    with open(config, "w", encoding="ascii") as out:
        out.write(GANESHA.format(port=GANESHA_PORT, mount_port=GANESHA_MOUNT_PORT, path=path))
    mapper = servers["rpcbind"] = sites.Server(netns, [
        "unshare", "--mount", "--propagation", "private", "sh", "-c",
        "mount -t tmpfs tmpfs /run && mkdir /run/rpcbind && exec rpcbind -f -w"], directory + "/rpcbind.log")
    mapper.must_listen(netns, 111)
    server = servers["ganesha"] = sites.Server(netns, [
        "nsenter", f"--mount=/proc/{mapper.pid}/ns/mnt", "ganesha.nfsd", "-F", "-f", config, "-L",
        directory + "/ganesha.log", "-p", "/run/ganesha.pid"], directory + "/ganesha.out")
    server.must_listen(netns, GANESHA_PORT)
    return Peer("ganesha", server, GANESHA_PORT, GANESHA_MOUNT_PORT, path, "")


def nginx(netns, directory, path, servers):
    config = directory + "/nginx.conf"
    with open(config, "w", encoding="ascii") as out:
        out.write(NGINX.format(port=NGINX_PORT, directory=directory, path=path))
    server = servers["nginx"] = sites.Server(netns, ["nginx", "-c", config], directory + "/nginx.log")
    server.must_listen(netns, NGINX_PORT)
    with open(f"/proc/{server.pid}/task/{server.pid}/children", encoding="ascii") as children:
        return int(children.read().split()[0])


class Site:
    """All of it, up and idle; a context manager."""

    def __init__(self, options):
        self.options = options
        self.lab = self.files = self.scratch = None
        self.servers = {}

    def __enter__(self):
        try:
            self._up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _up(self):
        self.lab = harness.Lab(f"bench-{os.getpid()}-files", ["--slaves", "1", "--log-level", "warn"])
        host = self.lab.hosts["disk1"]
        directory = self.scratch = tempfile.mkdtemp(prefix="vnas-bench-")    # not below /run: see ganesha()
        self.address, netns = host["address"], host["netns"]
        self.client = sites.add_near(self.lab)
        self.files = FileSystem(directory, self.options.entries)
        self.files.fill(self.options.size_bytes, self.options.entries)
        vnasd = self.servers["vnasd"] = sites.box(self.lab, "files", self.files.path, VNASD_PORT)
        self.peers = [Peer("vnasd", vnasd, VNASD_PORT, VNASD_PORT, "/", "disk0/"),
                      ganesha(netns, directory, self.files.path, self.servers)]
        self.nginx_pid = nginx(netns, directory, self.files.path, self.servers)

    def __exit__(self, *_):
        for server in reversed(self.servers.values()):
            server.stop()
        if self.files:
            self.files.remove()
        if self.scratch:
            shutil.rmtree(self.scratch)
        if self.lab:
            done = self.lab.down()
            if done.returncode:
                print(f"bench: {done.stderr.strip()}", file=sys.stderr)


# A run


class RpcBench(measure.Load):
    """rpc_bench in @netns, ready to begin; on @cpu, if one is named."""

    def __init__(self, netns, what, *options, cpu=None):
        command = ["taskset", "-c", str(cpu)] if cpu is not None else []
        super().__init__(what, netns, command + [RPC_BENCH, *map(str, options)], "ready\n")


def load_of(site, peer, operation, path, **options):
    more = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    return RpcBench(site.client, f"{peer.name}, {operation}", "--server", site.address, "--port", peer.port, "--mount-port",
                    peer.mount_port, "--export", peer.export, "--path", peer.prefix + path, "--operation", operation, *more)


class Cpu:
    """The CPU seconds of a process since this was made: utime + stime of all its threads."""

    def __init__(self, pid):
        self.pid, self.before = pid, measure.ticks(pid)

    def seconds(self):
        return (measure.ticks(self.pid) - self.before) * measure.TICK_S


def run(site, peer, operation, path, **options):
    with load_of(site, peer, operation, path, **options) as load:
        cpu = Cpu(peer.server.pid)
        load.go()
        result = load.result()
        used = cpu.seconds()
    result["cpu_us"] = used * 1e6 / result["total_operations"]
    if result["total_bytes"]:
        result["cpu_s_per_gib"] = used * measure.GIB / result["total_bytes"]
        result["mb_per_s"] = result["per_s"] * options.get("block", 4096) / 1e6
    return result


def run_nginx(site, seconds):
    """Whole files on one connection, thrown away as by rpc_bench."""
    script = (f"import socket, time\ns = socket.create_connection(('{site.address}', {NGINX_PORT}))\n"
              f"end, total = time.monotonic() + {seconds}, 0\n"
              "into = bytearray(1 << 20)\n"
              "while time.monotonic() < end:\n"
              f"    s.sendall(b'GET /{sites.FILE} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n"
              "    head = b''\n"
              "    while not head.endswith(b'\\r\\n\\r\\n'):\n"
              "        head += s.recv(1)\n"
              f"    left = {site.options.size_bytes}\n"
              "    while left:\n"
              "        got = s.recv_into(into, min(left, len(into)), socket.MSG_TRUNC)\n"
              "        assert got\n"
              "        left, total = left - got, total + got\n"
              "print(total)\n")
    cpu, started = Cpu(site.nginx_pid), time.monotonic()
    done = subprocess.run(network.enter(site.client) + [sys.executable, "-c", script], stdout=subprocess.PIPE,
                          check=True)
    total = int(done.stdout)
    return {"cpu_s_per_gib": cpu.seconds() * measure.GIB / total,
            "mb_per_s": total / (time.monotonic() - started) / 1e6}


# What is compared


WORKS = {
    # name: (unit of CPU, bar of CPU, bar of speed, operation, path, options)
    "READ of 1 MiB, 8 outstanding": ("s/GiB", 0.5, None, "read", sites.FILE, {"block": 1 << 20, "window": 8}),
    "WRITE of 1 MiB unstable, 8 outstanding, COMMIT": ("s/GiB", 0.6, None, "write", sites.FILE,
                                                       {"block": 1 << 20, "window": 8}),
    "NULL": ("us", 0.33, 2, "null", "", {"connections": 2, "window": 16}),
    "GETATTR": ("us", 0.33, 2, "getattr", "many", {"connections": 2, "window": 16, "files": FILES}),
    "LOOKUP": ("us", 0.33, 2, "lookup", "many", {"connections": 2, "window": 16, "files": FILES}),
    "ACCESS": ("us", 0.33, 2, "access", "many", {"connections": 2, "window": 16, "files": FILES}),
    "random READ of 4 KiB": ("us", 0.33, 2, "read-random", sites.FILE, {"connections": 2, "window": 16}),
    "GETATTR, one at a time": ("us", None, None, "getattr", "many", {"files": FILES}),
    "CREATE + REMOVE": ("us", 0.5, 1, "create-remove", "new", {"connections": 2, "window": 4}),
    "stable WRITE of 4 KiB": ("us", 0.5, 1, "write-stable", sites.FILE, {"connections": 2, "window": 4}),
}


def median_of(runs, key):
    return measure.median([one[key] for one in runs])


def ratio(ours, theirs):
    return ours / theirs if theirs else None


def bar(value, limit, at_least=False):
    """ "0.30 <= 0.33" or what is wrong with it. """
    if value is None or limit is None:
        return None if value is None else f"{value:.2f}"
    met = value >= limit if at_least else value <= limit
    return f"{value:.2f} {'of' if met else 'MISSES'} {limit:g}"


def compare(site, say):
    options, results = site.options, {}
    for name in options.work or WORKS:
        _, _, _, operation, path, load = WORKS[name]
        say(f"file service: {name}")
        runs = {peer.name: [] for peer in site.peers}
        for number in range(options.rounds):
            for peer in site.peers if number % 2 else reversed(site.peers):
                runs[peer.name].append(run(site, peer, operation, path, seconds=options.seconds,
                                           size=options.size_bytes, **load))
        results[name] = runs
    return results


def compare_rows(results):
    rows = [["work", "CPU", "vnasd", "ganesha", "ratio", "per s: vnasd", "ganesha", "ratio", "p50 us: vnasd", "ganesha",
             "ratio", "p99 us: vnasd", "ganesha", "ratio"]]
    for name, runs in results.items():
        unit, cpu_bar, speed_bar = WORKS[name][:3]
        latency_bar = 0.6 if name.endswith("at a time") else None
        cells = [name, unit]
        for key, limit, at_least, form in (("cpu_s_per_gib" if unit == "s/GiB" else "cpu_us", cpu_bar, False, float),
                                           ("per_s", speed_bar, True, round), ("p50_us", latency_bar, False, round),
                                           ("p99_us", latency_bar, False, round)):
            ours, theirs = (median_of(runs[peer], key) for peer in ("vnasd", "ganesha"))
            cells += [form(ours), form(theirs), bar(ratio(ours, theirs), limit, at_least)]
        rows.append(cells)
    return rows


def nginx_row(site, results):
    runs = results["nginx"] = [run_nginx(site, site.options.seconds) for _ in range(site.options.rounds)]
    ours = median_of(results["READ of 1 MiB, 8 outstanding"]["vnasd"], "cpu_s_per_gib")
    theirs = median_of(runs, "cpu_s_per_gib")
    return ["READ of 1 MiB: CPU s/GiB, to nginx with sendfile", ours, theirs, bar(ratio(ours, theirs), 1.2)]


def connection_rows(site, results):
    """The same calls per second, spread over few connections or many."""
    rows, base = [], {}
    results["connections"] = {}
    for connections in (2, 200, 5000):
        used = []
        for peer in site.peers:
            runs = [run(site, peer, "getattr", "many", files=FILES, connections=connections, rate=RATE,
                        seconds=site.options.seconds) for _ in range(site.options.rounds)]
            results["connections"][f"{peer.name} {connections}"] = runs
            used.append(median_of(runs, "cpu_us"))
        base = base or dict(zip(("ours", "theirs"), used))
        rows.append([f"GETATTR, {RATE} a second over {connections} connections: CPU us", *used,
                     bar(ratio(used[0], used[1]), None)])
        if connections > 2:
            rows.append(["... to that over 2 connections, vnasd", used[0], base["ours"],
                         bar(used[0] / base["ours"], ENOUGH)])
    return rows


def listing(site, peer):
    """One listing of the big directory, and what somebody else's GETATTRs take before it and meanwhile."""
    def getattrs(seconds):
        return load_of(site, peer, "getattr", "many", files=FILES, seconds=seconds)

    with getattrs(site.options.seconds) as idle:
        idle.go()
        idle = idle.result()
    with load_of(site, peer, "readdirplus", "big", warm_up=0, seconds=0) as load, getattrs(3600) as other:
        cpu, started = Cpu(peer.server.pid), time.monotonic()
        load.go()
        result = load.result()
        result["seconds"] = time.monotonic() - started
        result["cpu_us_per_entry"] = cpu.seconds() * 1e6 / result["entries"]
        other.process.kill()
    if result["entries"] < site.options.entries:
        raise harness.Failed(f"{peer.name}: {result['entries']} of {site.options.entries} entries were listed")
    with load_of(site, peer, "readdirplus", "big", warm_up=0, seconds=0) as load, \
            getattrs(max(1, int(result["seconds"] * 0.8))) as other:
        load.go()
        other.go()
        meanwhile = other.result()
        load.result()
    return {"entries_per_s": result["entries"] / result["seconds"], "cpu_us_per_entry": result["cpu_us_per_entry"],
            "idle_p99_us": idle["p99_us"], "p99_us": meanwhile["p99_us"],
            "p99_ratio": meanwhile["p99_us"] / idle["p99_us"]}


def listing_rows(site, results, say):
    runs = results["listing"] = {peer.name: [] for peer in site.peers}
    for number in range(site.options.listings):
        say(f"file service: listing of {site.options.entries} entries, {number + 1} of {site.options.listings}")
        for peer in site.peers:
            runs[peer.name].append(listing(site, peer))
    rows = []
    for what, key, limit, at_least in (("entries per s", "entries_per_s", 2, True),
                                       ("CPU us per entry", "cpu_us_per_entry", None, False),
                                       ("another's GETATTR meanwhile, p99 us", "p99_us", None, False)):
        ours, theirs = (median_of(runs[peer.name], key) for peer in site.peers)
        rows.append([f"READDIRPLUS of {site.options.entries}: {what}", round(ours, 2), round(theirs, 2),
                     bar(ratio(ours, theirs), limit, at_least)])
    ours, idle = (median_of(runs["vnasd"], key) for key in ("p99_us", "idle_p99_us"))
    rows.append(["... to that of vnasd when idle", ours, idle, bar(median_of(runs["vnasd"], "p99_ratio"), 2)])
    return rows


def measure_all(options, say, print_table):
    say("file service: starting a lab and its servers")
    with Site(options) as site:
        results = compare(site, say)
        print_table(f"The file service beside nfs-ganesha: medians of {options.rounds} rounds of {options.seconds} s. "
                    "CPU: of the server, per operation or GiB.\nRatio: vnasd to ganesha, and the bar if there is one",
                    compare_rows(results))
        if options.work:
            return results
        rows = [["more", "vnasd", "other", "ratio"], nginx_row(site, results)]
        if options.entries:
            rows += listing_rows(site, results, say)
        say("file service: connections")
        rows += connection_rows(site, results)
        resident = [peer.resident_mib() for peer in site.peers]
        rows.append(["resident after all this, MiB", *map(round, resident), bar(ratio(*resident), 0.2)])
        results["resident_mib"] = {peer.name: size for peer, size in zip(site.peers, resident)}
        print_table("The other is ganesha if nothing else is said", rows)
        return results


def missing():
    return next((name for name in PROGRAMS if not shutil.which(name)), None)
