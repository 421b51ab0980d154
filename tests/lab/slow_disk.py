# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/slow_disk.py - a directory whose file system does not answer, or late (tests/client/hanging_files)

Environment: HANGING_FILES, the program; or CLIENTS, the directory it is in (default: next to this one).
"""

import contextlib
import os
import subprocess

import harness

PROGRAM = os.environ.get("HANGING_FILES") or os.path.join(
    os.environ.get("CLIENTS") or os.path.join(harness.HERE, "..", "client"), "hanging_files")


class SlowDisk:
    """What is in @directory hangs, is slow or goes, as it is told."""

    def __init__(self, directory):
        os.makedirs(directory)
        self.directory = directory
        self.process = subprocess.Popen([PROGRAM, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        if self.process.stdout.readline() != "ready\n":
            raise harness.Failed("hanging_files does not start")

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != word + "\n":
            raise harness.Failed(f"hanging_files does not {word}")

    def end(self):
        """It may not end as long as another mount namespace, made by somebody else meanwhile, has it mounted, too."""
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
            return
        self.process.kill()
        subprocess.run(["umount", "--lazy", self.directory], check=False)
