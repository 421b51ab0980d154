#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_live.py - what an administrator sees of a cluster while it lives: events, logs, load

If this fails, he looks at a screen that leaves something out, says it twice or in another order, or his looking slows the cluster down.

Followers are nasctl, run as he would.
"""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios

import daemon
import harness

READER_BYTES = 4 << 20    # what a stopped follower may cost the daemon: less than what was logged meanwhile


class Follower:
    """`nasctl --json ... -f` on the switch; what it has printed so far, an object for each line."""

    def __init__(self, lab, *words):
        host = lab.hosts["switch"]
        self.path = os.path.join(os.path.dirname(host["log"]), "follower-" + "-".join(words).replace("/", "_"))
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(daemon.nasctl_command(lab.plan, "switch", ["--json", *words]),
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True)
        self.complaint = None

    def rows(self):
        with open(self.path, encoding="utf-8") as said:
            return [json.loads(line) for line in said.read().splitlines(keepends=True) if line.endswith("\n")]

    def send_signal(self, number):
        self.process.send_signal(number)

    def end(self):
        """What it complained of."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        if self.complaint is None:
            self.complaint = self.process.communicate(timeout=20)[1]
        return self.complaint


def ask(lab, *words):
    return daemon.ask(lab.plan, "switch", *words)


def follow(test, lab, *words):
    follower = Follower(lab, *words)
    test.at_end(follower.end)
    return follower


def memory(lab, host="switch"):
    with open(f"/proc/{lab.pid(host)}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def keeps_what_is_freed(lab):
    """A daemon with AddressSanitizer does; its memory says nothing."""
    with open(f"/proc/{lab.pid('switch')}/maps", encoding="utf-8") as maps:
        return "asan" in maps.read()


def texts(rows):
    return [row["text"] for row in rows if "text" in row]


def in_order(rows, wanted):
    """Which of the wanted beginnings of texts is not there behind those before it, or, of a command, not once; "": all is well."""
    said, at = texts(rows), 0
    for piece in wanted:
        found = [i for i, text in enumerate(said) if text.startswith(piece)]
        behind = [i for i in found if i >= at]
        if not behind or ("nasctl" in piece and len(found) != 1):
            return f"{piece}: at {found}, behind {at}"
        at = behind[0] + 1
    return ""


def events(test, lab):
    follower = follow(test, lab, "events", "-f", "--after", str(ask(lab, "events", "-n", "1")[0]["id"]))
    lab.nasctl("export", "set", "/disk0", "10.1.2.3(ro)")
    lab.kill("disk1")
    test.within(20, "disk1 is gone", lambda: lab.node(2)["state"] == "down", lambda: lab.node(2))
    lab.start("disk1")
    test.within(30, "disk1 is back", lambda: lab.node(2)["state"] == "up", lambda: lab.node(2))
    lab.nasctl("node", "drain", "disk2")
    lab.nasctl("node", "undrain", "disk2")
    lab.nasctl("volume", "move", "1", "/moved")
    wanted = ["/disk0 is exported to 10.1.2.3(ro)", "uid=0 nasctl export set /disk0", "node=2 name=disk1 is down", "node=2 name=disk1 is up",
              "node=3 name=disk2 is being drained", "uid=0 nasctl node drain disk2: node 3 is drained", "node=3 name=disk2 is not drained",
              "uid=0 nasctl node undrain disk2", "volume=1 is at /moved, was at /disk0", "uid=0 nasctl volume move 1 /moved"]
    test.within(20, "a follower sees what happens in order, each thing once", lambda: not in_order(follower.rows(), wanted),
                lambda: (in_order(follower.rows(), wanted), follower.rows()))
    ids = [row["id"] for row in follower.rows()]
    test.check("... and no number is left out", ids == list(range(ids[0], ids[0] + len(ids))), ids)
    later = ask(lab, "events", "--after", str(ids[0] - 1))
    test.check("who asks later is told the same", texts(later)[:len(ids)] == texts(follower.rows())[:len(ids)], later)
    return ids[-1]


def restart(test, lab, last):
    """The next run of the daemon goes on where the last one ended, also one that was killed."""
    follower = follow(test, lab, "events", "-f")
    test.within(20, "it follows", follower.rows)
    lab.kill("switch")
    follower.process.wait(timeout=20)
    said = follower.end()
    test.check("a follower is told that the daemon has gone", "says no more" in said, said)
    lab.start("switch")
    test.within(30, "disk1 and disk2 are there again", lambda: all(lab.node(number)["state"] == "up" for number in (2, 3)),
                lambda: lab.nasctl("node", "list"))
    rows = ask(lab, "events", "--after", str(last))
    test.check("events are numbered on after a restart", rows and rows[0]["id"] == last + 1, rows)
    test.check("the restart is an event", in_order(rows, ["the master has started"]) == "", rows)
    rows = ask(lab, "events")
    test.check("those before it are kept", in_order(rows, ["volume=1 is at /moved, was at /disk0", "uid=0 nasctl volume move 1 /moved"]) == "",
               rows)


def logs(test, lab):
    follower = follow(test, lab, "log", "-f", "--level", "warn")
    lab.kill("disk2")
    test.within(20, "the log is followed", lambda: any("name=disk2 is down" in row["line"] for row in follower.rows()), follower.rows)
    lab.start("disk2")
    test.within(30, "disk2 is back", lambda: lab.node(3)["state"] == "up", lambda: lab.node(3))
    test.check("... without lines of other levels", all(row["level"] in ("err", "warn") for row in follower.rows()), follower.rows())


def logs_of_others(test, lab):
    """By way of the switch; also while that device goes and comes back, with a log that begins anew."""
    lines = lambda *words, **where: [row["line"] for row in lab.nasctl("log", "-n", "5", *words, **where)]
    test.within(20, "the switch shows what disk1 says itself", lambda: lines("--node", "disk1") == lines(host="disk1"),
                lambda: (lines("--node", "disk1"), lines(host="disk1")))
    follower = follow(test, lab, "log", "-f", "--node", "disk1")
    test.within(20, "it is followed", follower.rows)
    lab.nasctl("reload", host="disk1")
    reloaded = lambda: sum("configuration read again" in row["line"] for row in follower.rows())
    test.within(20, "a line that comes is there", lambda: reloaded() == 1, follower.rows)
    lab.kill("disk1")
    try:
        said = lab.nasctl("log", "--node", "disk1")
    except daemon.DaemonError as error:
        said = str(error)
    test.check("of one that is away it is said so", "node 2 can't be reached" in said or "node 2 has gone" in said, said)
    lab.start("disk1")
    test.within(30, "the follower sees the next run", lambda: sum("slave runs" in row["line"] for row in follower.rows()) >= 2,
                follower.rows)
    numbers = [row["number"] for row in follower.rows()]
    begins = numbers.index(0, 1)
    test.check("... from its first line on, each line once", numbers[begins:] == list(range(len(numbers) - begins))
               and numbers[:begins] == sorted(set(numbers[:begins])), numbers)
    try:
        said = lab.nasctl("log", "--node", "switch", host="disk1")
    except daemon.DaemonError as error:
        said = str(error)
    test.check("a disk node asks nobody", "only the switch" in said, said)


def stopped_readers(test, lab):
    """A terminal that was stopped by Ctrl-S, or a laptop that sleeps."""
    followers = [follow(test, lab, *words) for words in (("events", "-f"), ("log", "-f"))]
    test.within(20, "they follow", lambda: all(follower.rows() for follower in followers))
    for follower in followers:
        follower.send_signal(signal.SIGSTOP)
    lab.nasctl("export", "set", "/disk0", "10.1.2.3(ro)")
    before = memory(lab)
    for number in range(1500):
        daemon.ask(lab.plan, "switch", "export", "set", "/disk0", f"10.1.{number // 256}.{number % 256}(ro)" + " 10.2.2.2(ro)" * 20)
    grown = memory(lab) - before
    test.check(f"the daemon serves on while its followers are stopped, and grows by {grown >> 10} KiB",
               grown < READER_BYTES or keeps_what_is_freed(lab), grown)
    for follower in followers:
        follower.send_signal(signal.SIGCONT)
    last = ask(lab, "events", "-n", "1")[0]["id"]
    rows = followers[0].rows
    test.within(20, "one that goes on gets the last events", lambda: any(row.get("id") == last for row in rows()), lambda: rows()[-3:])
    missed = sum(row.get("missed", 0) for row in rows())
    ids = [row["id"] for row in rows() if "id" in row]
    test.check(f"... and is told how many it missed ({missed})", missed > 0 and ids[-1] - ids[0] + 1 == len(ids) + missed,
               (len(ids), missed, ids[0], ids[-1]))
    test.check("... each of the others once, in order", ids == sorted(set(ids)), ids)


class Terminal:
    """`nasctl top` on a terminal of its own."""

    def __init__(self, lab, lines, columns):
        self.master, self.slave = os.openpty()
        self.resize(lines, columns)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(daemon.nasctl_command(lab.plan, "switch", ["top"]), stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.set_blocking(self.master, False)
        self.said = ""

    def resize(self, lines, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def read(self):
        """All that it has written so far."""
        try:
            while part := os.read(self.master, 65536):
                self.said += part.decode("utf-8", errors="replace")
        except (BlockingIOError, OSError):    # nothing more now; or, OSError, nobody writes any more
            pass
        return self.said

    def frame(self):
        """The lines of the last whole picture."""
        pictures = self.read().split("\033[H")
        picture = next((picture for picture in reversed(pictures) if "quit" in picture), "")
        return [re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", line) for line in picture.split("\r\n")]

    def is_as_before(self):
        return termios.tcgetattr(self.slave) == self.before

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def first_node(frame):
    """The words of the first row below the title of the devices."""
    titles = [i for i, line in enumerate(frame) if line.startswith("Node ")]
    return frame[titles[0] + 1].split() if titles and len(frame) > titles[0] + 1 else []


def top(test, lab):
    place = next(row["place"] for row in lab.nasctl("volume", "list") if row["node"] == 3)
    revision = lambda host: lab.nasctl("status", host=host)["revision"]
    test.within(20, "disk2 knows the exports", lambda: revision("disk2") == revision("switch"))
    load = test.load(lab, "--seconds", "0", place)
    terminal = Terminal(lab, 40, 140)
    test.at_end(terminal.end)
    test.within(30, "top shows the device with load as the first", lambda: first_node(terminal.frame())[:2] == ["disk2", "up"],
                terminal.frame)
    test.within(20, "... and its session", lambda: any(load.address in line and "disk2" in line for line in terminal.frame()),
                terminal.frame)
    terminal.type("sss")
    test.within(20, "a key sorts by name", lambda: first_node(terminal.frame())[:1] not in ([], ["disk2"]), terminal.frame)
    terminal.resize(12, 50)
    test.within(20, "it fits a smaller terminal", lambda: len(terminal.frame()) > 2 and len(terminal.frame()) <= 12
                and max(map(len, terminal.frame())) <= 50, terminal.frame)
    test.check("meanwhile the terminal is another one", not terminal.is_as_before())
    terminal.type("\x03")
    test.within(20, "Ctrl-C ends it", lambda: terminal.process.poll() == 0, lambda: (terminal.process.poll(), terminal.read()[-200:]))
    test.check("... with the terminal as it was", terminal.is_as_before() and terminal.read().endswith("\033[?25h\033[?1049l"),
               terminal.read()[-200:])
    said = json.loads(lab.run("switch", *daemon.nasctl_command(lab.plan, "switch", ["--json", "top", "--count", "1"])))
    nodes = {node["id"]: node for node in said["nodes"]}
    test.check("rates are those of the device that works", nodes[3]["operations_per_s"] > 0 and nodes[2]["operations_per_s"] == 0, said)
    volume = next(row for row in said["volumes"] if row["place"] == place)
    test.check("... of its volume and its session", volume["moved_bytes_per_s"] > 0 and said["sessions"]
               and said["sessions"][0]["client"].startswith(load.address), said)
    test.check_load(load)


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    top(test, lab)
    last = events(test, lab)
    restart(test, lab, last)
    logs(test, lab)
    logs_of_others(test, lab)
    stopped_readers(test, lab)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
