#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/test_requests.py - a device asks for a session that works on its data

If this fails, an administrator who lets the devices with the data decide finds sessions that stay where they are.
"""

import sys

import harness
from test_policy import DISK1, configure, session_of, why


def run(test):
    lab = test.lab("--slaves", "2", "--clients", "1")
    configure(test, lab, bytes=0)
    load = test.load(lab, "--seconds", "2", "/disk0")
    load.process.wait()
    test.check("the switch by itself gives no session away", lab.counter("switch", "handoffs", "given") == 0)
    test.check_load(load)

    configure(test, lab, host="disk1", request="256K")
    load = test.load(lab, "--seconds", "0", "/disk0")
    session = session_of(lab, load)
    test.within(10, "disk1 gets the session that works on its data", lambda: why(lab, session).get("node") == DISK1)
    test.check("... it has asked", lab.counter("disk1", "handoffs", "asked") > 0)
    test.check("... the switch has granted it", lab.counter("switch", "handoffs", "granted") > 0)
    test.check("... with a socket that was ready", lab.counter("disk1", "handoffs", "prepared") > 0)
    test.check_load(load)


if __name__ == "__main__":
    sys.exit(harness.main(__file__, run))
