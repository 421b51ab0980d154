/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, clients can't talk to us at all, or a malformed call reaches a program.
 */
#include "config.h"

#include "common/rpc.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRAM = 77, ECHO = 1, NOTHING = 2, TOO_MUCH = 3, WHOLE = 4 };

static void echo(struct rpc_call *call)
{
	struct bytes_writer out;

	ck_assert_int_eq(rpc_reply_begin(call, call->args.left, &out), 0);
	bytes_put(&out, call->args.p, call->args.left);
	rpc_reply_end(call, &out);
}

static void too_much(struct rpc_call *call)
{
	struct bytes_writer out;

	ck_assert_int_eq(rpc_reply_begin(call, 4, &out), 0);
	bytes_put_be64(&out, 1);
	rpc_reply_end(call, &out);
}

static struct rpc_call seen; /* as the program saw it */

static void dispatch(const struct rpc_program *program, struct rpc_call *call)
{
	seen = *call;
	ck_assert_uint_eq(program->number, PROGRAM);
	switch (call->procedure) {
	case ECHO:
		echo(call);
		break;
	case NOTHING:
		rpc_reply_nothing(call);
		break;
	case TOO_MUCH:
		too_much(call);
		break;
	case WHOLE:
		rpc_reply_whole(call, "abcdefgh", 8);
		break;
	default:
		rpc_reply_error(call, RPC_ACCEPT_PROC_UNAVAIL, 0, 0);
	}
}

static const struct rpc_program programs[] = {
	{ .number = PROGRAM, .version_low = 3, .version_high = 4, .name = "test", .dispatch = dispatch,
	  .long_answers = 1 << WHOLE },
	{ 0 },
};

static unsigned int done_count;

static void on_done(struct rpc_call *call)
{
	(void)call;
	done_count++;
}

/* Words of a message: a call is written and a reply is read as these. */
static size_t words_put(const uint32_t *words, size_t count, uint8_t *out)
{
	struct bytes_writer w = bytes_writer_init(out, count * 4);

	for (size_t i = 0; i < count; i++)
		bytes_put_be32(&w, words[i]);
	return w.written;
}

#define XID 0x01020304
#define WORDS_MAX 40
#define AUTH_NONE_TWICE 0, 0, 0, 0
#define ACCEPTED(...) XID, 1, 0, 0, 0, __VA_ARGS__
#define COUNT(words) (sizeof(words) / sizeof(words[0]))

/* `call` ends with END. An empty reply: no answer at all. */
#define END 0xfeedbeef
static const struct {
	const char *what;
	uint32_t call[WORDS_MAX], reply[WORDS_MAX];
} cases[] = {
	{ "echo", { XID, 0, 2, PROGRAM, 3, ECHO, AUTH_NONE_TWICE, 42, END }, { ACCEPTED(0, 42, END) } },
	{ "no arguments", { XID, 0, 2, PROGRAM, 4, ECHO, AUTH_NONE_TWICE, END }, { ACCEPTED(0, END) } },
	{ "unknown program", { XID, 0, 2, 78, 3, ECHO, AUTH_NONE_TWICE, END }, { ACCEPTED(1, END) } },
	{ "version too low", { XID, 0, 2, PROGRAM, 2, ECHO, AUTH_NONE_TWICE, END }, { ACCEPTED(2, 3, 4, END) } },
	{ "version too high", { XID, 0, 2, PROGRAM, 5, ECHO, AUTH_NONE_TWICE, END }, { ACCEPTED(2, 3, 4, END) } },
	{ "unknown procedure", { XID, 0, 2, PROGRAM, 3, 9, AUTH_NONE_TWICE, END }, { ACCEPTED(3, END) } },
	{ "results too long", { XID, 0, 2, PROGRAM, 3, TOO_MUCH, AUTH_NONE_TWICE, END }, { ACCEPTED(5, END) } },
	{ "no answer", { XID, 0, 2, PROGRAM, 3, NOTHING, AUTH_NONE_TWICE, END }, { END } },
	{ "made elsewhere",
	  { XID, 0, 2, PROGRAM, 3, WHOLE, AUTH_NONE_TWICE, END },
	  { 0x61626364, 0x65666768, END } },
	{ "RPC version 3", { XID, 0, 3, PROGRAM, 3, ECHO, AUTH_NONE_TWICE, END }, { XID, 1, 1, 0, 2, 2, END } },
	{ "a reply", { XID, 1, 0, 0, 0, 0, 0, 0, 0, 0, END }, { END } },
	{ "empty", { END }, { END } },
	{ "cut in the header", { XID, 0, 2, PROGRAM, END }, { END } },
	{ "cut in the credentials", { XID, 0, 2, PROGRAM, 3, ECHO, 0, 8, 1, END }, { END } },
	{ "cut before the verifier", { XID, 0, 2, PROGRAM, 3, ECHO, 0, 0, END }, { END } },
	{ "credentials too long", { XID, 0, 2, PROGRAM, 3, ECHO, 0, 401, 0, 0, END }, { XID, 1, 1, 1, 1, END } },
	{ "verifier too long", { XID, 0, 2, PROGRAM, 3, ECHO, 0, 0, 0, 401, END }, { XID, 1, 1, 1, 3, END } },
	{ "RPCSEC_GSS", { XID, 0, 2, PROGRAM, 3, ECHO, 6, 0, 0, 0, END }, { XID, 1, 1, 1, 1, END } },
	{ "AUTH_SYS", /* stamp, "abc", uid, gid, two groups */
	  { XID, 0, 2, PROGRAM, 3, ECHO, 1, 32, 5, 3, 0x61626300, 1000, 100, 2, 7, 8, 0, 0, 42, END },
	  { ACCEPTED(0, 42, END) } },
	{ "AUTH_SYS, name too long", { XID, 0, 2, PROGRAM, 3, ECHO, 1, 16, 5, 256, 0, 0, 0, 0, END },
	  { XID, 1, 1, 1, 1, END } },
	{ "AUTH_SYS, cut", { XID, 0, 2, PROGRAM, 3, ECHO, 1, 16, 5, 0, 1, 1, 0, 0, END }, { XID, 1, 1, 1, 1, END } },
	{ "AUTH_SYS, 17 groups",
	  { XID, 0, 2, PROGRAM, 3, ECHO, 1, 88, 5, 0, 1, 1, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
	    17, 0, 0, END },
	  { XID, 1, 1, 1, 1, END } },
};

static size_t length(const uint32_t *words)
{
	size_t count = 0;

	while (words[count] != END)
		count++;
	return count;
}

START_TEST(calls_and_replies)
{
	struct rpc_server server = { .programs = programs };
	uint8_t record[WORDS_MAX * 4], reply[WORDS_MAX * 4];
	struct rpc_call call = {
		.record = record,
		.record_len = words_put(cases[_i].call, length(cases[_i].call), record),
		.done = on_done,
	};
	size_t reply_len = words_put(cases[_i].reply, length(cases[_i].reply), reply);

	done_count = 0;
	rpc_dispatch(&server, &call);
	ck_assert_msg(done_count == 1, "%s: done %u times", cases[_i].what, done_count);
	ck_assert_msg(call.reply_len == reply_len, "%s: %zu bytes", cases[_i].what, call.reply_len);
	if (reply_len)
		ck_assert_msg(memcmp(call.reply + RPC_REPLY_HEADROOM, reply, reply_len) == 0, "%s", cases[_i].what);
	rpc_call_fini(&call);
}
END_TEST

static void dispatch_words(const uint32_t *words)
{
	struct rpc_server server = { .programs = programs };
	uint8_t record[WORDS_MAX * 4];
	struct rpc_call call = { .record = record, .record_len = words_put(words, length(words), record),
				 .done = on_done };

	rpc_dispatch(&server, &call);
	rpc_call_fini(&call);
}

/* What a transport may ask before it begins a call: a mistake lets answers in for which there is no memory. */
START_TEST(long_answers_are_foreseen)
{
	static const struct rpc_server server = { .programs = programs };
	static const struct {
		uint32_t call[WORDS_MAX];
		bool is_long;
	} known[] = {
		{ { XID, 0, 2, PROGRAM, 3, WHOLE, AUTH_NONE_TWICE, END }, true },
		{ { XID, 0, 2, PROGRAM, 3, ECHO, AUTH_NONE_TWICE, END }, false },
		{ { XID, 0, 2, PROGRAM, 3, 32 + WHOLE, AUTH_NONE_TWICE, END }, false },
		{ { XID, 0, 2, PROGRAM + 1, 3, WHOLE, AUTH_NONE_TWICE, END }, false },
		{ { XID, 0, 2, PROGRAM, 3, END }, true }, /* its first fragment ends before it is known */
		{ { END }, true },
	};
	uint8_t record[WORDS_MAX * 4];

	for (size_t i = 0; i < COUNT(known); i++) {
		size_t len = words_put(known[i].call, length(known[i].call), record);

		ck_assert_int_eq(rpc_answers_long(&server, record, len), known[i].is_long);
	}
}
END_TEST

START_TEST(credentials_reach_the_program)
{
	static const uint32_t sys[] = { XID, 0, 2, PROGRAM, 3, ECHO, 1, 28, 5, 0, 1000, 100, 2, 7, 8, 0, 0, END };
	static const uint32_t none[] = { XID, 0, 2, PROGRAM, 3, ECHO, AUTH_NONE_TWICE, END };

	dispatch_words(sys);
	ck_assert_uint_eq(seen.flavor, RPC_AUTH_SYS);
	ck_assert_uint_eq(seen.who.uid, 1000);
	ck_assert_uint_eq(seen.who.gid, 100);
	ck_assert_uint_eq(seen.who.group_count, 2);
	ck_assert_uint_eq(seen.who.groups[1], 8);
	dispatch_words(none);
	ck_assert_uint_eq(seen.flavor, RPC_AUTH_NONE);
	ck_assert_uint_eq(seen.who.uid, 65534);
	ck_assert_uint_eq(seen.who.group_count, 0);
}
END_TEST

/* A transport that uses its structs again keeps the memory of replies, which may differ in length. */
START_TEST(memory_of_a_reply_is_used_again)
{
	static const uint32_t words[] = { XID, 0, 2, PROGRAM, 3, ECHO, AUTH_NONE_TWICE, END };
	struct rpc_server server = { .programs = programs };
	uint8_t record[WORDS_MAX * 4];
	struct rpc_call call = { .record = record, .record_len = words_put(words, length(words), record),
				 .done = on_done };
	struct bytes_writer out;
	uint8_t *reply;

	rpc_dispatch(&server, &call);
	ck_assert_uint_eq(call.reply_len, 24);
	reply = call.reply;
	rpc_dispatch(&server, &call);
	ck_assert_ptr_eq(call.reply, reply);
	ck_assert_int_eq(rpc_reply_begin(&call, 100000, &out), 0);
	memset(bytes_room(&out, 100000), 'x', 100000);
	rpc_reply_end(&call, &out);
	ck_assert_uint_eq(call.reply_len, 24 + 100000);
	rpc_call_fini(&call);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rpc");
	TCase *tc = tcase_create("rpc");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, calls_and_replies, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tc, credentials_reach_the_program);
	tcase_add_test(tc, long_answers_are_foreseen);
	tcase_add_test(tc, memory_of_a_reply_is_used_again);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
