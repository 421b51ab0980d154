# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/bench/bench.mk - part of the one Makefile.am: how fast it is, docs/benchmarks/README.md has the story
#
# BENCH_OPTIONS are those of tests/bench/bench: make bench BENCH_OPTIONS='--rounds 9 --seconds 5'

EXTRA_PROGRAMS += tests/bench/read_load tests/bench/rpc_bench
tests_bench_read_load_LDADD =
tests_bench_rpc_bench_LDADD =

BENCH_OPTIONS =
bench: all tests/bench/read_load$(EXEEXT) tests/bench/rpc_bench$(EXEEXT) tests/client/hanging_files$(EXEEXT)
	VNASD=$(abs_builddir)/vnasd READ_LOAD=$(abs_builddir)/tests/bench/read_load \
		RPC_BENCH=$(abs_builddir)/tests/bench/rpc_bench HANGING_FILES=$(abs_builddir)/tests/client/hanging_files \
		$(srcdir)/tests/bench/bench $(BENCH_OPTIONS)
.PHONY: bench

EXTRA_DIST += docs/benchmarks tests/bench/bench tests/bench/sites.py tests/bench/measure.py \
	tests/bench/file_service.py tests/bench/isolation.py
