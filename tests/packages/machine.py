# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/packages/machine.py - a Debian with its own systemd, in a host of a lab: what packages are installed on

The root is an overlay over a base that debootstrap has made, which all machines share and none changes; systemd-nspawn boots it
in the network namespace of the host. Knows nothing of vnas.
"""

import os
import shutil
import signal
import subprocess
import time

BOOT_S = 60


class MachineError(Exception):
    pass


def call(command, **more):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **more)
    if done.returncode:
        raise MachineError(f"{' '.join(command)}: {done.stdout.strip()[-2000:]}")
    return done.stdout


def make_base(path, depends):
    """A minimal Debian with systemd and what @depends (as in debian/control) names; kept where it is made."""
    if os.path.exists(path + ".complete"):
        return
    shutil.rmtree(path, ignore_errors=True)
    call(["debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dbus,iproute2,kmod", "bookworm", path])
    try:
        call(["chroot", path, "apt-get", "satisfy", "-q", "-y", "--no-install-recommends", depends],
             env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        call(["chroot", path, "apt-get", "clean"])
    except MachineError:
        shutil.rmtree(path)
        raise
    with open(path + ".complete", "w", encoding="ascii") as mark:
        mark.write(depends + "\n")


class Machine:
    def __init__(self, name, base, directory, netns, binds):
        """@binds: folders of this machine, as (outside, inside)"""
        self.name, self.directory = name, directory
        self.root = os.path.join(directory, "root")
        for part in ("root", "upper", "work"):
            os.makedirs(os.path.join(directory, part))
        bpf = os.path.join(directory, "bpf")
        os.mkdir(bpf)
        call(["mount", "-t", "overlay", "overlay", self.root, "-o",
              f"lowerdir={base},upperdir={directory}/upper,workdir={directory}/work"])
        call(["mount", "-t", "bpf", "bpf", bpf])
        words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--machine={name}", f"--directory={self.root}",
                 f"--network-namespace-path={netns}", "--capability=all", "--system-call-filter=@known", "--console=pipe",
                 "--boot",
                 f"--bind={bpf}:/sys/fs/bpf", "--bind=/dev/net/tun"]
        words += [f"--bind={outside}:{inside}" for outside, inside in binds]
        # It sets the sysctls of its network.
        environment = {**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
        with open(os.path.join(directory, "console"), "wb") as console:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                                            start_new_session=True, env=environment)
        self.init = self._wait_for_boot()

    def _wait_for_boot(self):
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end and self.process.poll() is None:
            for self.init in self._children():
                if self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"):
                    return self.init
            time.sleep(0.1)
        with open(os.path.join(self.directory, "console"), encoding="utf-8", errors="replace") as console:
            raise MachineError(f"{self.name} did not boot: {console.read()[-2000:]}")

    def _children(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as children:
            return list(map(int, children.read().split()))

    def inside(self, *command):
        """The words with which a command runs there."""
        return ["nsenter", f"--target={self.init}", "--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "DEBIAN_FRONTEND=noninteractive", *command]

    def run(self, *command, check=True):
        """What it printed, both channels."""
        done = subprocess.run(self.inside(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if check and done.returncode:
            raise MachineError(f"on {self.name}: {' '.join(command)}: {done.stdout.strip()[-2000:]}")
        return done.stdout

    def path(self, path):
        """Of a file inside, seen from outside."""
        return self.root + path

    def write(self, path, text):
        with open(self.path(path), "w", encoding="utf-8") as out:
            out.write(text)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for mount in (self.root, os.path.join(self.directory, "bpf")):
            subprocess.run(["umount", "--lazy", mount], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)
