# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/daemon.py - vnasd and nasctl on the hosts of a lab

Knows a host by its entry in the plan (plan.py). A daemon is remembered by process id and start time, so that a number
which was used again is never mistaken for it; nothing is ever ended by name.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import time

import network
import plan as planning

SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|: runtime error: |==\d+== (Invalid|Conditional)")


class DaemonError(Exception):
    """Something about one host, whose log may say more."""

    def __init__(self, host_name, message):
        super().__init__(message)
        self.host_name = host_name


def programs():
    """vnasd and nasctl: $VNASD and its neighbour, else from the build tree."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    vnasd = os.path.abspath(os.environ.get("VNASD") or os.path.join(root, "vnasd"))
    return {"vnasd": vnasd, "nasctl": os.path.join(os.path.dirname(vnasd), "nasctl"),
            "wrapper": shlex.split(os.environ.get("VNASD_WRAPPER", ""))}


# Files and directories


def prepare(plan, name):
    host = plan["hosts"][name]
    if "directory" not in host:
        return
    for directory in ("state_dir", "run_dir", "bpffs", "storage"):
        if directory in host:
            # A test may have mounted something there.
            os.makedirs(host[directory], exist_ok=directory == "storage")
    os.makedirs(os.path.dirname(host["config"]))
    with open(host["config"], "w", encoding="ascii") as out:
        out.write(planning.config(plan, name))
    subprocess.run(["mount", "-t", "bpf", "bpf", host["bpffs"]], check=True)


def unmount_all(directory):
    """What is mounted below a lab's directory, after removing what is pinned there: copies of the mount may live on."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        places = [line.split()[4] for line in mounts]
    for place in reversed(places):
        if not place.startswith(directory + "/"):
            continue
        for parent, directories, files in os.walk(place, topdown=False):
            for entry in files:
                with contextlib.suppress(OSError):    # a bpffs has two files that it does not let go
                    os.unlink(os.path.join(parent, entry))
            for entry in directories:
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.join(parent, entry))
        if subprocess.run(["umount", place], stderr=subprocess.DEVNULL, check=False).returncode:
            subprocess.run(["umount", "--lazy", place], check=True)    # somebody looks at it right now


# Processes


def _start_time(pid):
    """In clock ticks after boot; None if there is no such process or only its exit status is left."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    # One that was killed may have threads that still wait for a disk, and its locks as long as these.
    return None if fields[0] in "ZX" and threads <= 1 else int(fields[19])


def pid_of(host):
    """The running daemon's process id, or None."""
    try:
        with open(host["pid_file"], encoding="ascii") as file:
            pid, start_time = map(int, file.read().split())
    except (KeyError, FileNotFoundError, ValueError):
        return None
    return pid if _start_time(pid) == start_time else None


def spawn(plan, name, join=None):
    """vnasd in the foreground, in a session of its own, its output appended to the host's log."""
    host = plan["hosts"][name]
    command = network.enter(host["netns"]) + plan["programs"]["wrapper"] + [
        plan["programs"]["vnasd"], f"--mode={host['role']}", "--config", host["config"]]
    if join:
        command += ["--join", join]
    with open(host["log"], "ab") as log:
        pid = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True).pid
    with open(host["pid_file"], "w", encoding="ascii") as file:
        file.write(f"{pid} {_start_time(pid) or 0}\n")


def _reap():
    """Daemons that died while the one who started them is still here."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


def send_signal(host, number):
    """False: it isn't running."""
    pid = pid_of(host)
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_gone(host, patience_s):
    deadline = time.monotonic() + patience_s
    while pid_of(host) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
        _reap()
    return True


def stop_all(hosts, patience_s=10.0):
    """SIGTERM to all, SIGKILL to those that stay. The names of these."""
    stubborn = []
    for host in hosts.values():
        send_signal(host, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    for name, host in hosts.items():
        if not wait_gone(host, max(0.0, deadline - time.monotonic())):
            stubborn.append(name)
            send_signal(host, signal.SIGKILL)
            wait_gone(host, 5.0)
    return stubborn


# Talking to it


def nasctl_command(plan, name, arguments):
    host = plan["hosts"][name]
    return network.enter(host["netns"]) + [plan["programs"]["nasctl"], "--socket", host["admin_socket"], *arguments]


def nasctl(plan, name, *arguments):
    """Asks the running vnasd; its answer, a list of rows or a record."""
    return _answer(name, nasctl_command(plan, name, ["--json", *arguments]), arguments)


def ask(plan, name, *words):
    """As nasctl(), but straight to the admin socket (common/admin.h): for many questions in a row."""
    request = json.dumps({"command": words}).encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(plan["hosts"][name]["admin_socket"])
        sock.sendall(struct.pack("!I", len(request)) + request)
        with sock.makefile("rb") as stream:
            header = stream.read(4)
            text = stream.read(struct.unpack("!I", header)[0]) if len(header) == 4 else b""
    if not text:
        raise DaemonError(name, f"{' '.join(words)}: {name} ended the connection without an answer")
    answer = json.loads(text)
    if "error" in answer:
        raise DaemonError(name, f"{' '.join(words)}: {answer['error']}")
    return _inner(answer)


def initialise(plan):
    """A cluster, before its master runs."""
    host = plan["hosts"]["switch"]
    arguments = ["cluster", "init", "--name", plan["name"]]
    _answer("switch", network.enter(host["netns"]) + [plan["programs"]["nasctl"], "--config", host["config"], "--json",
                                                      *arguments], arguments)


def _answer(name, command, arguments):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False)
    said = f"nasctl {' '.join(arguments)}"
    if done.returncode:
        raise DaemonError(name, f"{said}: {(done.stderr or done.stdout).strip()}")
    try:
        answer = json.loads(done.stdout or "null")
    except ValueError:
        raise DaemonError(name, f"{said}: this is no JSON: {done.stdout.strip()}") from None
    return _inner(answer)


def _inner(answer):
    return answer.get("rows", answer.get("record", answer)) if isinstance(answer, dict) else answer


def is_listening(host):
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(host["admin_socket"])
        except OSError:
            return False
    return True


def wait_until(plan, name, patience_s, what, is_true):
    """Polls is_true(); fails at once when the daemon of @name or the switch's is gone."""
    deadline = time.monotonic() + patience_s
    while not is_true():
        for watched in {name, "switch"}:
            _reap()
            if pid_of(plan["hosts"][watched]) is None and (watched == name or what != "admin socket"):
                raise DaemonError(watched, f"{watched}: vnasd ended while waiting for {name}: {what}")
        if time.monotonic() > deadline:
            raise DaemonError(name, f"{name}: no {what} after {patience_s:g} s")
        time.sleep(0.05)


def wait_ready(plan, name, patience_s):
    wait_until(plan, name, patience_s, "admin socket", lambda: is_listening(plan["hosts"][name]))


def last_lines(path, count=20):
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return log.read().splitlines()[-count:]
    except FileNotFoundError:
        return []


def sanitizer_report(path, lines=60):
    """The part of a log that a sanitizer or valgrind wrote, from its first complaint on."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            text = log.read().splitlines()
    except FileNotFoundError:
        return []
    for i, line in enumerate(text):
        if SANITIZER.search(line):
            return text[i:i + lines]
    return []
