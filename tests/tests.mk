# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/tests.mk - part of the one Makefile.am: what `make check` runs
#
# A test is one source file, linked with everything: a new one needs its name in one of these lists. Exit status 77 says
# that something it needs is missing here.

LDADD = tests/libtests.a libvnas.a libxdr.a $(LIBS_ALL) $(CHECK_LIBS)

# What tests share; each takes what it calls.
check_LIBRARIES = tests/libtests.a
tests_libtests_a_SOURCES = tests/fuzz/frame.c tests/fuzz/frame.h tests/fuzz/frame_switch.c \
	tests/fuzz/frame_switch.h tests/fuzz/replay.c \
	tests/platform/cluster.c tests/platform/cluster.h tests/platform/connection.c tests/platform/connection.h \
	tests/platform/load.c tests/platform/load.h tests/platform/netns.c tests/platform/netns.h \
	tests/unit/fake_volume.c tests/unit/fake_volume.h tests/unit/golden_hex.h

# By hand, or by tests/lab and tests/guest.
EXTRA_PROGRAMS = tests/client/rpc_load tests/client/nfs_load tests/client/storm_load tests/client/posix_suite tests/client/hanging_files \
	tests/client/file_lock \
	tests/time/other_clock.so tests/power/no_sync.so tests/power/volatile_disk
tests_client_nfs_load_SOURCES = tests/client/nfs_load.c tests/client/content.c tests/client/content.h
tests_client_nfs_load_CFLAGS = $(AM_CFLAGS) $(NFS_CFLAGS)
tests_client_nfs_load_LDADD = $(NFS_LIBS)
tests_client_storm_load_SOURCES = tests/client/storm_load.c tests/client/content.c tests/client/content.h
tests_client_storm_load_CFLAGS = $(AM_CFLAGS) $(NFS_CFLAGS)
tests_client_storm_load_LDADD = $(NFS_LIBS)
# These run in a guest, where no shared library is.
tests_client_posix_suite_CFLAGS = -std=gnu17 $(WARNING_CFLAGS)
tests_client_posix_suite_LDFLAGS = -static
tests_client_posix_suite_LDADD =
tests_client_file_lock_CFLAGS = -std=gnu17 $(WARNING_CFLAGS)
tests_client_file_lock_LDFLAGS = -static
tests_client_file_lock_LDADD =
tests_time_other_clock_so_SOURCES = tests/time/other_clock.c
tests_time_other_clock_so_CFLAGS = $(WARNING_CFLAGS) -std=gnu17 -fPIC
tests_time_other_clock_so_LDFLAGS = -shared
tests_time_other_clock_so_LDADD =
tests_power_no_sync_so_SOURCES = tests/power/no_sync.c
tests_power_no_sync_so_CFLAGS = $(WARNING_CFLAGS) -fPIC
tests_power_no_sync_so_LDFLAGS = -shared
tests_power_no_sync_so_LDADD =
tests_client_hanging_files_CFLAGS = $(AM_CFLAGS) $(FUSE_CFLAGS)
tests_client_hanging_files_LDADD = $(FUSE_LIBS)
tests_power_volatile_disk_CFLAGS = $(AM_CFLAGS) $(FUSE_CFLAGS)
tests_power_volatile_disk_LDADD = $(FUSE_LIBS)
# The programs' own rules don't say that they need what is made first.
clients: $(BUILT_SOURCES)
	@$(MAKE) $(AM_MAKEFLAGS) $(EXTRA_PROGRAMS)
.PHONY: clients

if HAVE_CHECK
AM_CFLAGS += $(CHECK_CFLAGS)
UNIT_TESTS = \
	tests/unit/test_admin tests/unit/test_automount tests/unit/test_balance tests/unit/test_candidates tests/unit/test_certificate_age tests/unit/test_certificates tests/unit/test_cluster_config tests/unit/test_conn tests/unit/test_conn_loops tests/unit/test_conn_memory \
	tests/unit/test_dhcp tests/unit/test_disks tests/unit/test_duplicate_requests tests/unit/test_eap \
	tests/unit/test_events tests/unit/test_examination tests/unit/test_exports tests/unit/test_flow tests/unit/test_handle tests/unit/test_identity tests/unit/test_ip_network \
	tests/unit/test_load tests/unit/test_local tests/unit/test_log tests/unit/test_loop tests/unit/test_machine tests/unit/test_member_state tests/unit/test_metrics tests/unit/test_mount_table \
	tests/unit/test_name_service tests/unit/test_namespace tests/unit/test_nasctl tests/unit/test_nfs3 tests/unit/test_nfs_acl \
	tests/unit/test_output tests/unit/test_workers \
	tests/unit/test_client_caller tests/unit/test_clock_offset tests/unit/test_lock_table tests/unit/test_nlm tests/unit/test_nsm \
	tests/unit/test_placement tests/unit/test_portmap tests/unit/test_priorities tests/unit/test_pseudo tests/unit/test_rates tests/unit/test_record tests/unit/test_relay \
	tests/unit/test_replica tests/unit/test_rpc tests/unit/test_rquota tests/unit/test_scp tests/unit/test_scp_message tests/unit/test_sessions \
	tests/unit/test_settings tests/unit/test_siphash tests/unit/test_spread tests/unit/test_stored_file tests/unit/test_tch \
	tests/unit/test_succession tests/unit/test_tch_options tests/unit/test_tls_stream tests/unit/test_user_checks tests/unit/test_user_groups tests/unit/test_uuid tests/unit/test_volumes \
	tests/unit/test_vroot
endif

FUZZERS = \
	tests/fuzz/fuzz_certificates tests/fuzz/fuzz_dhcp_option \
	tests/fuzz/fuzz_admin tests/fuzz/fuzz_cluster_config tests/fuzz/fuzz_eap tests/fuzz/fuzz_examination tests/fuzz/fuzz_exports tests/fuzz/fuzz_fabric tests/fuzz/fuzz_fabric_eap \
	tests/fuzz/fuzz_fabric_filter \
	tests/fuzz/fuzz_handle tests/fuzz/fuzz_namespace tests/fuzz/fuzz_nlm tests/fuzz/fuzz_node \
	tests/fuzz/fuzz_record tests/fuzz/fuzz_rpc tests/fuzz/fuzz_scp \
	tests/fuzz/fuzz_settings tests/fuzz/fuzz_smart tests/fuzz/fuzz_tch_message tests/fuzz/fuzz_tch_options

# It defines the functions of common/kernel_helper.h, common/conn.h and of libevent itself: libvnas.a's are not linked.
SIMULATION_TESTS = tests/simulation/test_members tests/simulation/test_simulation

PLATFORM_TESTS = tests/platform/test_congestion tests/platform/test_datagrams tests/platform/test_echo_example tests/platform/test_eap tests/platform/test_fabric tests/platform/test_fabric_frames tests/platform/test_first_device tests/platform/test_half tests/platform/test_half_packets tests/platform/test_handoff tests/platform/test_large_table tests/platform/test_marking tests/platform/test_metadata_order \
	tests/platform/test_repair_socket tests/platform/test_track

SCRIPT_TESTS = tests/check_headers tests/check_includes tests/check_includes_test tests/check_docs tests/check_map tests/check_python tests/lab/tcp_rules_test.py \
	tests/model/check_handoff tests/unit/test_completion tests/unit/test_local_file_systems

# tests/platform/test_echo_example runs it.
EXAMPLES = docs/examples/echo_server
docs_examples_echo_server_SOURCES = docs/examples/echo_server.c docs/examples/devices.c docs/examples/devices.h

PROGRAM_TESTS = $(UNIT_TESTS) $(SIMULATION_TESTS) $(FUZZERS) $(PLATFORM_TESTS)
check_PROGRAMS = $(PROGRAM_TESTS) $(EXAMPLES)
dist_check_SCRIPTS = $(SCRIPT_TESTS)
TESTS = $(PROGRAM_TESTS) $(SCRIPT_TESTS)
# A test of Check's has a minute instead of 4 s, which a machine that is busy with other things does not always give it.
AM_TESTS_ENVIRONMENT = CK_DEFAULT_TIMEOUT=$${CK_DEFAULT_TIMEOUT:-60}; export CK_DEFAULT_TIMEOUT; \
	CC='$(CC)'; CPPFLAGS='$(AM_CPPFLAGS) $(CPPFLAGS) $(AM_CFLAGS)'; export CC CPPFLAGS;

# The fuzzers with libFuzzer's main() instead of replay.c's, each for FUZZ_SECONDS on its corpus:
#	./configure --enable-fuzzing CC=clang --enable-asan --enable-ubsan && make check-fuzz
# What is found is left in this directory, new inputs in tests/fuzz/found/. Those of BPF programs end with 77 without root.
FUZZ_SECONDS = 20
if FUZZING
fuzz: $(BUILT_SOURCES)
	@$(MAKE) $(AM_MAKEFLAGS) $(FUZZERS:=.libfuzzer)
%.libfuzzer: %.$(OBJEXT) tests/libtests.a libvnas.a libxdr.a
	$(AM_V_CCLD)$(LINK) -fsanitize=fuzzer $^ $(LIBS_ALL)
else
fuzz:
	@echo "fuzz: configure with --enable-fuzzing CC=clang --enable-asan --enable-ubsan" >&2; exit 1
endif
check-fuzz: fuzz
	@set -e; for fuzzer in $(FUZZERS); do \
		name=$${fuzzer##*/fuzz_}; $(MKDIR_P) tests/fuzz/found/$$name; echo "fuzz_$$name: $(FUZZ_SECONDS) s"; \
		$$fuzzer.libfuzzer -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 -print_final_stats=1 \
			-artifact_prefix=fuzz_$$name- tests/fuzz/found/$$name $(srcdir)/tests/fuzz/corpus/$$name || [ $$? = 77 ]; \
	done
.PHONY: fuzz check-fuzz

CLEANFILES += $(FUZZERS:=.libfuzzer)
EXTRA_DIST += tests/fuzz/corpus tests/golden tests/lab/capture.py tests/lab/tcp_rules.py tests/model/half.pml tests/model/handoff.pml \
	common/may_include scp/may_include slave/may_include master/may_include
