# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/bench/bench.mk - part of the one Makefile.am: how fast it is, docs/benchmarks/README.md has the story
#
# BENCH_OPTIONS are those of tests/bench/bench: make bench BENCH_OPTIONS='--rounds 9 --seconds 5'

EXTRA_PROGRAMS += tests/bench/read_load tests/bench/rpc_bench tests/bench/handoff_orders \
	tests/bench/fabric_paths tests/bench/fabric_time tests/bench/repair_times.so
tests_bench_read_load_LDADD =
tests_bench_rpc_bench_LDADD =
tests_bench_handoff_orders_LDADD = $(LIBS_ALL)
tests_bench_repair_times_so_SOURCES = tests/bench/repair_times.c
tests_bench_repair_times_so_CFLAGS = $(WARNING_CFLAGS) -std=gnu17 -fPIC
tests_bench_repair_times_so_LDFLAGS = -shared
tests_bench_repair_times_so_LDADD =

BENCH_OPTIONS =
bench_needs = tests/bench/read_load$(EXEEXT) tests/bench/rpc_bench$(EXEEXT) tests/bench/handoff_orders$(EXEEXT) \
	tests/bench/fabric_paths$(EXEEXT) tests/bench/repair_times.so tests/client/rpc_load$(EXEEXT) \
	tests/client/hanging_files$(EXEEXT)
bench: all $(bench_needs)
	VNASD=$(abs_builddir)/vnasd READ_LOAD=$(abs_builddir)/tests/bench/read_load \
		RPC_BENCH=$(abs_builddir)/tests/bench/rpc_bench HANGING_FILES=$(abs_builddir)/tests/client/hanging_files \
		HANDOFF_ORDERS=$(abs_builddir)/tests/bench/handoff_orders RPC_LOAD=$(abs_builddir)/tests/client/rpc_load \
		FABRIC_PATHS=$(abs_builddir)/tests/bench/fabric_paths \
		REPAIR_TIMES_SO=$(abs_builddir)/tests/bench/repair_times.so \
			$(srcdir)/tests/bench/bench --out $(srcdir)/docs/benchmarks $(BENCH_OPTIONS)
.PHONY: bench

EXTRA_DIST += docs/benchmarks tests/bench/bench tests/bench/sites.py tests/bench/measure.py \
	tests/bench/drain.py tests/bench/file_service.py tests/bench/handoff.py tests/bench/isolation.py tests/bench/light_client.py tests/bench/pictures.py tests/bench/spread.py
