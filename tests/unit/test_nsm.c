/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, clients are not told that their locks are gone with a restart, or others must wait for nobody. The
 * files are real.
 */
#include "config.h"

#include "common/nsm.h"

#include "common/clock.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALLS_MAX = 64, STAT = 1, MON = 2, UNMON = 3, NOTIFY = 6 };

static const struct lock_client one = { .address = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1 }, .name = "one" };
static const struct lock_client odd = {
	.address = { 0xfd, [15] = 1 }, .name = "../../etc/passwd \xff and more",
};
static const uint8_t vip[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = 100 };

static char directory[64];
static struct nsm *nsm;
static struct {
	struct client_call call;
	uint8_t args[CLIENT_CALL_ARGS_MAX];
	struct client_call_done done;
} calls[CALLS_MAX];
static size_t call_count;
static bool is_within_reach, are_all_told;
static int reboots;
static bool is_answered;

static void call_client(const struct client_call *call, const struct client_call_done *done, void *arg)
{
	(void)arg;
	ck_assert_uint_lt(call_count, CALLS_MAX);
	calls[call_count].call = *call;
	memcpy(calls[call_count].args, call->args, call->args_len);
	calls[call_count++].done = *done;
}

static bool may_call(void *arg)
{
	(void)arg;
	return is_within_reach;
}

static bool on_rebooted(const uint8_t address[static 16], const char *name, int32_t state, void *arg)
{
	(void)arg;
	ck_assert_mem_eq(address, one.address, 16);
	ck_assert_str_eq(name, "one");
	ck_assert_int_eq(state, 5);
	reboots++;
	return are_all_told;
}

static void start(uint64_t now_ms)
{
	struct nsm_options options = { .directory = directory, .self = 3, .way = { .call = call_client },
				       .may_call = may_call, .on_rebooted = on_rebooted };

	ck_assert_int_eq(nsm_new(&options, now_ms, &nsm), 0);
	call_count = 0;
}

static void setup(void)
{
	snprintf(directory, sizeof(directory), "/tmp/test_nsm.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	is_within_reach = are_all_told = true;
	reboots = 0;
	start(0);
}

static void teardown(void)
{
	char command[128];

	nsm_free(nsm);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	ck_assert_int_eq(system(command), 0);
}

static void restart(uint64_t now_ms)
{
	nsm_free(nsm);
	start(now_ms);
}

static bool is_used(const struct lock_client *client, void *arg)
{
	const struct lock_client *used = arg;

	return used && strcmp(client->name, used->name) == 0;
}

static void tick(uint64_t now_ms)
{
	nsm_tick(nsm, now_ms, is_used, NULL);
}

static void answer(size_t which, int result)
{
	calls[which].done.fn(calls[which].done.id, result, NULL, 0, calls[which].done.arg);
}

START_TEST(the_state_is_odd_and_never_the_same)
{
	int32_t before = nsm_state(nsm);

	ck_assert_int_eq(before % 2, 1);
	restart(0);
	ck_assert_int_gt(nsm_state(nsm), before);
	ck_assert_int_eq(nsm_state(nsm) % 2, 1);
	ck_assert(!nsm_is_in_grace(nsm));
}
END_TEST

START_TEST(recorded_clients_are_told_after_a_restart)
{
	ck_assert_int_eq(nsm_record(nsm, &one, vip), 0);
	ck_assert_int_eq(nsm_record(nsm, &one, vip), 0);
	ck_assert_int_eq(nsm_record(nsm, &odd, vip), 0);
	tick(0);
	ck_assert_uint_eq(nsm_counters(nsm)->recorded, 2);
	ck_assert(!nsm_may_reclaim(nsm, &one)); /* what it has, it has */
	restart(0);
	ck_assert(nsm_is_in_grace(nsm));
	ck_assert(nsm_may_reclaim(nsm, &one));
	ck_assert(nsm_may_reclaim(nsm, &odd));
	tick(0);
	ck_assert_uint_eq(call_count, 2);
	for (size_t i = 0; i < 2; i++) {
		ck_assert_mem_eq(calls[i].call.vip, vip, 16);
		ck_assert_uint_eq(calls[i].call.procedure, NOTIFY);
		ck_assert_mem_eq(calls[i].args, "\0\0\0\x0a" "10.0.0.100\0\0", 16); /* the name that it knows us by */
		answer(i, 0);
	}
	tick(1000000);
	ck_assert_uint_eq(call_count, 2);
	ck_assert_uint_eq(nsm_counters(nsm)->notified, 2);
}
END_TEST

START_TEST(a_silent_client_is_told_again_and_at_last_given_up)
{
	uint64_t now_ms = 0, gap_ms = 0, before_ms = 0;

	nsm_record(nsm, &one, vip);
	restart(0);
	for (int i = 0; i < NSM_TRIES; i++) {
		while (call_count == (size_t)i)
			tick(now_ms += 1000);
		ck_assert_uint_ge(now_ms - before_ms, gap_ms);
		gap_ms = i ? now_ms - before_ms : 0;
		before_ms = now_ms;
		tick(now_ms);
		ck_assert_uint_eq(call_count, i + 1);
		answer((size_t)i, -ETIMEDOUT);
	}
	tick(now_ms + 10000000);
	ck_assert_uint_eq(call_count, NSM_TRIES);
	ck_assert_uint_eq(nsm_counters(nsm)->unreachable, 1);
}
END_TEST

START_TEST(the_grace_period_begins_when_clients_can_be_reached)
{
	nsm_record(nsm, &one, vip);
	is_within_reach = false;
	restart(0);
	tick(NSM_GRACE_MS + 1);
	ck_assert(nsm_is_in_grace(nsm));
	ck_assert_uint_eq(call_count, 0);
	is_within_reach = true;
	tick(NSM_GRACE_MS + 2);
	ck_assert_uint_eq(call_count, 1);
	tick(2 * NSM_GRACE_MS + 1);
	ck_assert(nsm_is_in_grace(nsm));
	tick(2 * NSM_GRACE_MS + 2);
	ck_assert(!nsm_is_in_grace(nsm));
}
END_TEST

START_TEST(the_grace_period_ends_even_if_none_can_be_reached)
{
	nsm_record(nsm, &one, vip);
	is_within_reach = false;
	restart(0);
	tick(NSM_REACH_MS);
	tick(NSM_REACH_MS + NSM_GRACE_MS);
	ck_assert(!nsm_is_in_grace(nsm));
}
END_TEST

START_TEST(a_client_without_locks_is_forgotten)
{
	uint64_t now_ms = clock_monotonic_ms();

	nsm_record(nsm, &one, vip);
	nsm_record(nsm, &odd, vip);
	nsm_tick(nsm, now_ms + 10000000, is_used, (void *)&one);
	restart(0);
	ck_assert(nsm_may_reclaim(nsm, &one));
	ck_assert(!nsm_may_reclaim(nsm, &odd));
}
END_TEST

/* A record that somebody damaged costs that client its notice, not the server its start. */
START_TEST(a_damaged_record)
{
	char path[128];
	FILE *file;

	nsm_record(nsm, &one, vip);
	snprintf(path, sizeof(path), "%s/nonsense.client", directory);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs("nonsense", file);
	fclose(file);
	restart(0);
	ck_assert(nsm_may_reclaim(nsm, &one));
}
END_TEST

static void on_done(struct rpc_call *call)
{
	(void)call;
	is_answered = true;
}

/* Return: the words of the results, or -1 without an answer */
static int call_program(uint32_t procedure, const void *args, size_t args_len, uint32_t results[static 2])
{
	struct rpc_program programs[2] = { nsm_program(nsm) };
	struct rpc_server server = { .programs = programs };
	uint8_t record[256];
	struct bytes_writer w = bytes_writer_init(record, sizeof(record));
	struct rpc_call call = { .record = record, .done = on_done };
	struct sockaddr_in *from = (struct sockaddr_in *)&call.client;
	int words;

	for (size_t i = 0; i < 10; i++)
		bytes_put_be32(&w, ((const uint32_t[]){ 9, 0, 2, NSM_PROGRAM, 1, procedure, 0, 0, 0, 0 })[i]);
	bytes_put(&w, args, args_len);
	call.record_len = w.written;
	from->sin_family = AF_INET;
	memcpy(&from->sin_addr, one.address + 12, 4);
	is_answered = false;
	rpc_dispatch(&server, &call);
	ck_assert(is_answered);
	words = call.reply_len ? (int)(call.reply_len / 4) - 6 : -1;
	for (int i = 0; i < words && i < 2; i++) {
		struct bytes_reader r = bytes_reader_init(call.reply + RPC_REPLY_HEADROOM + 24 + 4 * i, 4);

		results[i] = bytes_get_be32(&r);
	}
	rpc_call_fini(&call);
	return words;
}

START_TEST(what_others_may_ask)
{
	static const char notify[] = "\0\0\0\3one\0\0\0\0\5";
	uint32_t results[2] = { 0 };

	ck_assert_int_eq(call_program(STAT, "\0\0\0\0", 4, results), 2);
	ck_assert_uint_eq(results[0], 1); /* we monitor nobody for others */
	ck_assert_int_eq((int)results[1], nsm_state(nsm));
	ck_assert_int_eq(call_program(MON, NULL, 0, results), 2);
	ck_assert_uint_eq(results[0], 1);
	ck_assert_int_eq(call_program(UNMON, NULL, 0, results), 1);
	ck_assert_int_eq((int)results[0], nsm_state(nsm));
	ck_assert_int_eq(call_program(NOTIFY, notify, 12, results), 0);
	ck_assert_int_eq(reboots, 1);
	are_all_told = false;
	ck_assert_int_eq(call_program(NOTIFY, notify, 12, results), -1); /* it will say so again */
	ck_assert_int_eq(reboots, 2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nsm");
	TCase *tcase = tcase_create("nsm");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, the_state_is_odd_and_never_the_same);
	tcase_add_test(tcase, recorded_clients_are_told_after_a_restart);
	tcase_add_test(tcase, a_silent_client_is_told_again_and_at_last_given_up);
	tcase_add_test(tcase, the_grace_period_begins_when_clients_can_be_reached);
	tcase_add_test(tcase, the_grace_period_ends_even_if_none_can_be_reached);
	tcase_add_test(tcase, a_client_without_locks_is_forgotten);
	tcase_add_test(tcase, a_damaged_record);
	tcase_add_test(tcase, what_others_may_ask);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
