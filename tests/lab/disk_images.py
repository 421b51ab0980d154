# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/disk_images.py - block devices for disk nodes: loop devices over files, and over a disk that fails when it is told to
"""

import contextlib
import fcntl
import itertools
import os
import signal
import struct
import subprocess
import zlib

import harness

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(os.environ.get("CLIENTS") or os.path.join(harness.HERE, "..", "client"))),
                       "power", "volatile_disk")
UDEV_DATABASE = "/run/udev/data"
SECTOR = 512
LOOP_CONTROL, LOOP_CTL_REMOVE = "/dev/loop-control", 0x4C81
FIRST_NUMBER, NUMBERS_EACH, PROCESSES = 64, 16, 4096
LVM_LABEL_START, LVM_CRC_START = 1, 0xf597a6cf


_numbers = itertools.count()


def reserve():
    """A loop device of our own, that `losetup --find` of others does not take while it is detached, and no lab's daemon but ours names."""
    return f"/dev/loop{FIRST_NUMBER + os.getpid() % PROCESSES * NUMBERS_EACH + next(_numbers)}"


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise harness.Failed(f"{' '.join(command)}: {done.stdout.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace").strip()


class Mounts:
    """
    A mount namespace for a lab's daemons, .environment. A new private one that anybody makes from the machine's has what is mounted there
    mounted, too, and a file system that has failed can't be mounted anew as long as one has it.
    """

    def __init__(self, test):
        self.holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep infinity"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        test.after_labs(self.end)
        if self.holder.stdout.readline() != "ready\n":
            raise harness.Failed("no mount namespace")
        self.environment = {"VNASD_WRAPPER": f"nsenter --mount=/proc/{self.holder.pid}/ns/mnt"}

    def list(self):
        with open(f"/proc/{self.holder.pid}/mounts", encoding="utf-8") as mounts:
            return mounts.read()

    def end(self):
        self.holder.kill()
        self.holder.wait()


class Image:
    """A sparse file as a block device, .loop. @mib: None: the file is there."""

    def __init__(self, test, directory, name, mib, loop=None):
        self.path, self.loop, self.entry = os.path.join(directory, name), loop or reserve(), None
        self.is_attached = False
        if mib is not None:
            with open(self.path, "wb") as file:
                file.truncate(mib << 20)
        test.after_labs(self.detach)
        self.attach()

    def attach(self):
        run("losetup", self.loop, self.path)
        self.is_attached = True

    def detach(self):
        """Pulled out; when nobody has it mounted any more."""
        if self.entry:
            os.unlink(self.entry)
            self.entry = None
        if not self.is_attached:
            return
        run("losetup", "--detach", self.loop)
        self.is_attached = False
        with contextlib.suppress(OSError), open(LOOP_CONTROL, "rb") as control:    # somebody looks at it right now: it stays, unused
            fcntl.ioctl(control, LOOP_CTL_REMOVE, int(self.loop.removeprefix("/dev/loop")))

    def set_serial(self, serial):
        """In udev's database, which has what rules found out about the device; no udevd runs in the lab."""
        number = os.stat(self.loop).st_rdev
        os.makedirs(UDEV_DATABASE, exist_ok=True)
        self.entry = os.path.join(UDEV_DATABASE, f"b{os.major(number)}:{os.minor(number)}")
        with open(self.entry, "w", encoding="ascii") as file:
            file.write(f"I:1\nE:ID_SERIAL_SHORT={serial}\n")

    def fill(self, kind):
        """Put something on it that must not be lost."""
        if kind == "partitions":
            with open(self.loop, "r+b") as device:
                device.write(partition_table())
        elif kind == "LVM2_member":
            with open(self.loop, "r+b") as device:
                device.seek(LVM_LABEL_START * SECTOR)
                device.write(lvm_label())
        else:
            run(f"mkfs.{kind}", "-q", self.loop)

    def content(self, size=1 << 20):
        with open(self.path, "rb") as file:
            return file.read(size)


def partition_table():
    """A master boot record with one Linux partition from 1 MiB on."""
    return bytes(446) + struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x83, b"\0\2\0", 2048, 2048) + bytes(48) + b"\x55\xaa"


def lvm_label():
    """A physical volume's, as pvcreate(8) writes it, without metadata (lib/format_text/layout.h of LVM2)."""
    body = struct.pack("<I", 32) + b"LVM2 001" + b"0123456789abcdefghijklmnopqrstuv" + struct.pack("<QQQQQ", 64 << 20, 1 << 20, 0, 0, 0)
    rest = (body + bytes(SECTOR))[:SECTOR - 20]
    crc = zlib.crc32(rest, LVM_CRC_START ^ 0xffffffff) ^ 0xffffffff
    return b"LABELONE" + struct.pack("<QI", LVM_LABEL_START, crc) + rest


class FailingDisk(Image):
    """A loop device over tests/power/volatile_disk."""

    def __init__(self, test, directory, name, mib):    # pylint: disable=super-init-not-called
        self.below, self.loop, self.entry = os.path.join(directory, name + "-below"), reserve(), None
        self.is_attached = False
        os.mkdir(self.below)
        self.path = os.path.join(self.below, "disk")
        self.process = subprocess.Popen([PROGRAM, self.below, str(mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        start_new_session=True)
        test.after_labs(self.end)
        if self.process.stdout.readline() != "ready\n":
            raise harness.Failed("volatile_disk did not start")
        self.attach()

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != word + "\n":
            raise harness.Failed(f"volatile_disk does not {word}")

    def stall(self):
        """No request is answered from now on."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.go_on()
        self.detach()
        self.process.stdin.close()
        self.process.wait(20)
