# SPDX-License-Identifier: GPL-3.0-or-later
# tests/tests.mk - part of the one Makefile.am: what `make check` runs
