/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client that sends a call again has its file removed twice, or is told that what it did failed; or it
 * gets somebody else's answer; or the cache grows until the server has no memory.
 */
#include "config.h"

#include "common/duplicate_requests.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 4, AGE_MS = 1000, WHOLE = 1000 };

static struct duplicate_requests *requests;
static uint64_t now_ms;
static unsigned int dones;
static const char *client; /* of the calls that are made */

static uint64_t clock_of_test(void)
{
	return now_ms;
}

static void on_done(struct rpc_call *call)
{
	(void)call;
	dones++;
}

static struct duplicate_requests *new_with(size_t entries_max, size_t bytes_max)
{
	struct duplicate_requests_options options = {
		.entries_max = entries_max,
		.bytes_max = bytes_max,
		.age_max_ms = AGE_MS,
		.now_ms = clock_of_test,
	};

	return duplicate_requests_new(&options);
}

static void setup(void)
{
	requests = new_with(ENTRIES, 1024 * 1024);
	ck_assert_ptr_nonnull(requests);
	client = "10.0.0.1";
	now_ms = 5000;
	dones = 0;
}

static void teardown(void)
{
	duplicate_requests_free(requests);
}

static struct sockaddr_storage address(const char *text, uint16_t port)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

	if (strchr(text, ':')) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		ck_assert_int_eq(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
	} else {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		ck_assert_int_eq(inet_pton(AF_INET, text, &in->sin_addr), 1);
	}
	return ss;
}

/* A call as rpc_dispatch() hands it on. */
static struct rpc_call make_call(uint32_t xid)
{
	return (struct rpc_call){
		.transport = RPC_TCP,
		.client = address(client, 800),
		.done = on_done,
		.xid = xid,
		.program = 100003,
		.version = 3,
		.procedure = 12,
		.flavor = RPC_AUTH_SYS,
		.who = { .uid = 7, .gid = 8, .group_count = 2, .groups = { 9, 10 } },
		.args = bytes_reader_init("arguments", 9),
	};
}

static int begin(struct rpc_call *call)
{
	return duplicate_requests_begin(requests, call, WHOLE);
}

static void answer(struct rpc_call *call, uint32_t number)
{
	struct bytes_writer out;

	ck_assert_int_eq(rpc_reply_begin(call, 4, &out), 0);
	bytes_put_be32(&out, number);
	rpc_reply_end(call, &out);
}

/* The number of a call that was answered, at the end of its reply. */
static uint32_t answer_of(const struct rpc_call *call)
{
	struct bytes_reader r;

	ck_assert_uint_gt(call->reply_len, 4);
	r = bytes_reader_init(call->reply + RPC_REPLY_HEADROOM + call->reply_len - 4, 4);
	return bytes_get_be32(&r);
}

/* A call that is new, runs and is answered. */
static void run(uint32_t xid)
{
	struct rpc_call call = make_call(xid);

	ck_assert_int_eq(begin(&call), 0);
	answer(&call, xid);
	rpc_call_fini(&call);
}

/* Whether the same call would run; it is left as it was found. */
static bool is_known(uint32_t xid)
{
	struct rpc_call call = make_call(xid);
	int rc = begin(&call);

	if (rc == 0)
		rpc_reply_nothing(&call);
	else
		ck_assert_uint_eq(answer_of(&call), xid);
	rpc_call_fini(&call);
	return rc == -EALREADY;
}

START_TEST(a_duplicate_gets_the_first_answer)
{
	struct rpc_call first = make_call(1), again = make_call(1);

	ck_assert_int_eq(begin(&first), 0);
	answer(&first, 77);
	ck_assert_uint_eq(dones, 1);
	ck_assert_int_eq(begin(&again), -EALREADY);
	ck_assert_uint_eq(dones, 2);
	ck_assert_uint_eq(again.reply_len, first.reply_len);
	ck_assert_mem_eq(again.reply + RPC_REPLY_HEADROOM, first.reply + RPC_REPLY_HEADROOM, first.reply_len);
	ck_assert_uint_eq(duplicate_requests_counters(requests).answered, 1);
	rpc_call_fini(&first);
	rpc_call_fini(&again);
}
END_TEST

START_TEST(an_error_is_an_answer_too)
{
	struct rpc_call first = make_call(1), again = make_call(1);

	ck_assert_int_eq(begin(&first), 0);
	rpc_reply_error(&first, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
	ck_assert_int_eq(begin(&again), -EALREADY);
	ck_assert_uint_eq(answer_of(&again), RPC_ACCEPT_SYSTEM_ERR);
	rpc_call_fini(&first);
	rpc_call_fini(&again);
}
END_TEST

START_TEST(a_duplicate_of_a_call_in_progress_waits)
{
	struct rpc_call first = make_call(1), again[3];

	ck_assert_int_eq(begin(&first), 0);
	for (int i = 0; i < 3; i++) {
		again[i] = make_call(1);
		ck_assert_int_eq(begin(&again[i]), -EALREADY);
	}
	ck_assert_uint_eq(dones, 0);
	ck_assert_uint_eq(duplicate_requests_counters(requests).waited, 3);
	answer(&first, 5);
	ck_assert_uint_eq(dones, 4);
	for (int i = 0; i < 3; i++) {
		ck_assert_uint_eq(answer_of(&again[i]), 5);
		rpc_call_fini(&again[i]);
	}
	rpc_call_fini(&first);
	ck_assert_uint_eq(duplicate_requests_counters(requests).entries, 1);
}
END_TEST

/* No memory for an answer, say: the connection is closed, and the client asks again. */
START_TEST(no_answer_is_nothing_to_remember)
{
	struct rpc_call first = make_call(1), again = make_call(1);

	ck_assert_int_eq(begin(&first), 0);
	ck_assert_int_eq(begin(&again), -EALREADY);
	rpc_reply_nothing(&first);
	ck_assert_uint_eq(dones, 2);
	ck_assert_uint_eq(again.reply_len, 0);
	ck_assert_uint_eq(duplicate_requests_counters(requests).entries, 0);
	ck_assert_uint_eq(duplicate_requests_counters(requests).bytes, 0);
	ck_assert(!is_known(1));
	rpc_call_fini(&first);
	rpc_call_fini(&again);
}
END_TEST

/* Whatever tells two calls apart. */
static void other_client(struct rpc_call *call) { call->client = address("10.0.0.2", 800); }
static void ipv6_client(struct rpc_call *call) { call->client = address("fd00::1", 800); }
static void other_xid(struct rpc_call *call) { call->xid++; }
static void other_program(struct rpc_call *call) { call->program++; }
static void other_version(struct rpc_call *call) { call->version++; }
static void other_procedure(struct rpc_call *call) { call->procedure++; }
static void other_flavor(struct rpc_call *call) { call->flavor = RPC_AUTH_NONE; }
static void other_user(struct rpc_call *call) { call->who.uid++; }
static void other_group(struct rpc_call *call) { call->who.gid++; }
static void other_groups(struct rpc_call *call) { call->who.groups[1]++; }
static void fewer_groups(struct rpc_call *call) { call->who.group_count--; }
static void other_arguments(struct rpc_call *call) { call->args = bytes_reader_init("argumentS", 9); }
static void more_arguments(struct rpc_call *call) { call->args = bytes_reader_init("arguments\0", 10); }
static void fewer_arguments(struct rpc_call *call) { call->args.left--; }

static void (*const differences[])(struct rpc_call *call) = {
	other_client, ipv6_client,  other_xid,   other_program, other_version,	 other_procedure, other_flavor,
	other_user,   other_group, other_groups, fewer_groups,	other_arguments, more_arguments,  fewer_arguments,
};

START_TEST(another_call_is_no_duplicate)
{
	struct rpc_call other = make_call(1);

	run(1);
	differences[_i](&other);
	ck_assert_int_eq(begin(&other), 0);
	answer(&other, 2);
	rpc_call_fini(&other);
	ck_assert(is_known(1));
}
END_TEST

/* What a client may change when it sends a call again, or what the way through another device changes. */
static void other_port(struct rpc_call *call) { call->client = address("10.0.0.1", 999); }
static void mapped_address(struct rpc_call *call) { call->client = address("::ffff:10.0.0.1", 800); }
static void as_datagram(struct rpc_call *call) { call->transport = RPC_UDP; }
static void by_relay(struct rpc_call *call) { call->transport = RPC_RELAYED; }
static void unused_group(struct rpc_call *call) { call->who.groups[2] = 5; }

static void (*const ways[])(struct rpc_call *call) = {
	other_port, mapped_address, as_datagram, by_relay, unused_group,
};

START_TEST(the_way_does_not_matter)
{
	struct rpc_call again = make_call(1);

	run(1);
	ways[_i](&again);
	ck_assert_int_eq(begin(&again), -EALREADY);
	ck_assert_uint_eq(answer_of(&again), 1);
	rpc_call_fini(&again);
}
END_TEST

START_TEST(bulk_is_told_apart_by_its_length)
{
	struct rpc_call first = make_call(1), again = make_call(1), longer = make_call(1);

	ck_assert_int_eq(duplicate_requests_begin(requests, &first, 4), 0);
	answer(&first, 1);
	again.args = bytes_reader_init("arguXXXXX", 9);
	ck_assert_int_eq(duplicate_requests_begin(requests, &again, 4), -EALREADY);
	longer.args = bytes_reader_init("arguXXXXXX", 10);
	ck_assert_int_eq(duplicate_requests_begin(requests, &longer, 4), 0);
	answer(&longer, 2);
	rpc_call_fini(&first);
	rpc_call_fini(&again);
	rpc_call_fini(&longer);
}
END_TEST

START_TEST(the_oldest_answers_go_first)
{
	for (uint32_t xid = 1; xid <= ENTRIES + 2; xid++)
		run(xid);
	ck_assert_uint_eq(duplicate_requests_counters(requests).entries, ENTRIES);
	for (uint32_t xid = ENTRIES + 2; xid > 2; xid--)
		ck_assert(is_known(xid));
	ck_assert(!is_known(1)); /* asking makes room for it, so once is all */
}
END_TEST

/* Sixteen clients have one answer each, and a seventeenth sends more than there is room for. */
START_TEST(a_crowd_of_one_client_has_only_its_own_forgotten)
{
	static const char *const others[] = {
		"10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5",  "10.0.1.6",  "10.0.1.7",  "10.0.1.8",
		"fd00::1",  "fd00::2",	"fd00::3",  "fd00::4",	"10.1.0.10", "10.2.0.10", "10.3.0.10", "10.4.0.10",
	};
	enum { OTHERS = sizeof(others) / sizeof(others[0]) };
	unsigned int known = 0;

	duplicate_requests_free(requests);
	requests = new_with(4 * OTHERS, 1024 * 1024);
	for (uint32_t i = 0; i < OTHERS; i++) {
		client = others[i];
		run(i);
	}
	client = "10.0.0.1";
	for (uint32_t xid = 0; xid < 100 * OTHERS; xid++)
		run(xid);
	ck_assert_uint_eq(duplicate_requests_counters(requests).entries, 4 * OTHERS);
	ck_assert(is_known(100 * OTHERS - 1));
	for (uint32_t i = 0; i < OTHERS; i++) {
		client = others[i];
		known += is_known(i);
	}
	ck_assert_uint_ge(known, OTHERS - 5); /* as good as never do more of them hash with it */
}
END_TEST

START_TEST(calls_in_progress_stay)
{
	struct rpc_call calls[ENTRIES], more = make_call(100), again = make_call(0);

	for (uint32_t i = 0; i < ENTRIES; i++) {
		calls[i] = make_call(i);
		ck_assert_int_eq(begin(&calls[i]), 0);
	}
	ck_assert_int_eq(begin(&more), -ENOMEM); /* not run: a duplicate of it could not be told */
	ck_assert_uint_eq(duplicate_requests_counters(requests).refused, 1);
	ck_assert_int_eq(begin(&again), -EALREADY);
	for (uint32_t i = 0; i < ENTRIES; i++) {
		answer(&calls[i], i);
		rpc_call_fini(&calls[i]);
	}
	ck_assert_uint_eq(answer_of(&again), 0);
	rpc_call_fini(&again);
	ck_assert_int_eq(begin(&more), 0);
	answer(&more, 100);
	rpc_call_fini(&more);
	ck_assert(!is_known(0));
}
END_TEST

START_TEST(memory_is_bounded)
{
	struct rpc_call call = make_call(1);
	uint64_t one;

	run(1);
	one = duplicate_requests_counters(requests).bytes;
	ck_assert_uint_gt(one, call.args.left);
	duplicate_requests_free(requests);
	requests = new_with(ENTRIES, 2 * one);
	for (uint32_t xid = 1; xid <= 100; xid++) {
		run(xid);
		ck_assert_uint_le(duplicate_requests_counters(requests).bytes, 2 * one);
	}
	ck_assert_uint_eq(duplicate_requests_counters(requests).entries, 2);
	ck_assert(is_known(100));
	ck_assert(is_known(99));
}
END_TEST

START_TEST(old_answers_are_forgotten)
{
	run(1);
	now_ms += AGE_MS / 2;
	run(2);
	now_ms += AGE_MS / 2 - 1;
	ck_assert(is_known(1));
	now_ms += 1;
	ck_assert(!is_known(1));
	ck_assert(is_known(2));
	now_ms += AGE_MS;
	ck_assert(!is_known(2));
	ck_assert_uint_eq(duplicate_requests_counters(requests).entries, 0);
}
END_TEST

/* However long a disk was away. */
START_TEST(a_call_in_progress_does_not_age)
{
	struct rpc_call first = make_call(1);

	ck_assert_int_eq(begin(&first), 0);
	now_ms += 10 * AGE_MS;
	answer(&first, 1);
	rpc_call_fini(&first);
	ck_assert(is_known(1));
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(table[0])))

int main(void)
{
	Suite *suite = suite_create("duplicate_requests");
	TCase *same = tcase_create("same"), *bounds = tcase_create("bounds");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(same, setup, teardown);
	tcase_add_test(same, a_duplicate_gets_the_first_answer);
	tcase_add_test(same, an_error_is_an_answer_too);
	tcase_add_test(same, a_duplicate_of_a_call_in_progress_waits);
	tcase_add_test(same, no_answer_is_nothing_to_remember);
	tcase_add_loop_test(same, another_call_is_no_duplicate, 0, COUNT(differences));
	tcase_add_loop_test(same, the_way_does_not_matter, 0, COUNT(ways));
	tcase_add_test(same, bulk_is_told_apart_by_its_length);
	suite_add_tcase(suite, same);
	tcase_add_checked_fixture(bounds, setup, teardown);
	tcase_add_test(bounds, the_oldest_answers_go_first);
	tcase_add_test(bounds, a_crowd_of_one_client_has_only_its_own_forgotten);
	tcase_add_test(bounds, calls_in_progress_stay);
	tcase_add_test(bounds, memory_is_bounded);
	tcase_add_test(bounds, old_answers_are_forgotten);
	tcase_add_test(bounds, a_call_in_progress_does_not_age);
	suite_add_tcase(suite, bounds);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
