/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a connection is used by two threads at once, one core does the work of all, or a handoff takes a connection
 * that is still being served; or a device that has one half of a connection speaks in the other.
 *
 * Real TCP on the loopback interface: the clients and the control loop are the test's thread, the data loops have their own.
 */
#include "config.h"

#include "common/conn.h"

#include "common/conn_memory.h"
#include "common/loop.h"
#include "common/record.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOOPS = 2, CLIENTS = 6, PROGRAM = 0x20000001, SELF = 7, CALL = 44, MESSAGE = 28, PATIENCE = 20000 };

enum procedure {
	ECHO,	 /* answers with its argument, in the data loop */
	ECHO_ON, /* the same, in the control loop */
	HOLD,	 /* as ECHO, when the test says so */
	FILL,	 /* answers with 1 MiB */
};

static struct event_base *base;
static struct loop *control;
static struct loops *loops;
static struct conn_server *server;
static struct rpc_server control_rpc, data_rpc[LOOPS];
static struct conn_memory *memory[LOOPS];
static struct sockaddr_in address;

static atomic_uint answered_in[LOOPS], passed, worked, worked_elsewhere;
static struct rpc_call *_Atomic held;
static unsigned int quiet_count, closed_count;
static uint64_t last_closed;

static void echo(struct rpc_call *call)
{
	struct bytes_writer out;

	ck_assert_int_eq(rpc_reply_begin(call, call->args.left, &out), 0);
	bytes_put(&out, call->args.p, call->args.left);
	rpc_reply_end(call, &out);
}

static void fill(struct rpc_call *call)
{
	struct bytes_writer out;

	ck_assert_int_eq(rpc_reply_begin(call, RPC_DATA_MAX, &out), 0);
	memset(bytes_room(&out, RPC_DATA_MAX), 'f', RPC_DATA_MAX);
	rpc_reply_end(call, &out);
}

static void dispatch(const struct rpc_program *program, struct rpc_call *call)
{
	unsigned int own = (unsigned int)(uintptr_t)program->state;

	call->volume = own + 1;
	if (call->procedure == ECHO_ON) {
		rpc_pass_on(call, &control_rpc);
		return;
	}
	answered_in[own] += loop_is_here(loops_at(loops, own));
	if (call->procedure == ECHO || call->procedure == FILL) {
		(call->procedure == ECHO ? echo : fill)(call);
		return;
	}
	ck_assert_int_eq(rpc_call_keep(call), 0);
	held = call;
}

static void dispatch_passed(const struct rpc_program *program, struct rpc_call *call)
{
	(void)program;
	passed += loop_is_here(control);
	echo(call);
}

static struct rpc_program programs[LOOPS + 1][2] = {
	{ { .number = PROGRAM, .version_low = 1, .version_high = 1, .name = "test", .dispatch = dispatch, .state = (void *)0 } },
	{ { .number = PROGRAM, .version_low = 1, .version_high = 1, .name = "test", .dispatch = dispatch, .state = (void *)1 } },
	{ { .number = PROGRAM, .version_low = 1, .version_high = 1, .name = "test", .dispatch = dispatch_passed } },
};

static bool on_accept(int fd, struct kernel_helper_static *fixed, void *arg)
{
	(void)fd, (void)fixed, (void)arg;
	ck_assert(loop_is_here(control));
	return true;
}

static void on_work(struct conn *conn, const struct rpc_call *call, void *arg)
{
	(void)conn, (void)arg;
	worked++;
	worked_elsewhere += !loop_is_here(loops_at(loops, call->volume - 1));
}

static void on_closed(uint64_t session, void *arg)
{
	(void)arg;
	ck_assert(loop_is_here(control));
	last_closed = session;
	closed_count++;
}

static const struct conn_handlers handlers = { .on_accept = on_accept, .on_work = on_work, .on_closed = on_closed };

static void listen_somewhere(void)
{
	address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	for (uint16_t port = 20000; port; port++) {
		address.sin_port = htons(port);
		if (conn_server_listen(server, (struct sockaddr *)&address, sizeof(address)) == 0)
			return;
	}
	ck_abort_msg("no free port");
}

static void setup(void)
{
	struct conn_part_options parts[LOOPS];
	struct conn_server_options options = {
		.self = SELF,
		.handlers = &handlers,
		.parts = parts,
		.part_count = LOOPS,
	};

	base = options.base = event_base_new();
	ck_assert_int_eq(loop_new(base, &control), 0);
	ck_assert_int_eq(loops_new(LOOPS, &loops), 0);
	options.loops = loops;
	control_rpc = (struct rpc_server){ .programs = programs[LOOPS], .loop = control };
	for (unsigned int i = 0; i < LOOPS; i++) {
		struct loop *loop = loops_at(loops, i);

		memory[i] = conn_memory_new(loop_base(loop), loop, 0, 1);
		data_rpc[i] = (struct rpc_server){ .programs = programs[i], .loop = loop };
		parts[i] = (struct conn_part_options){ .loop = loop, .rpc = &data_rpc[i], .memory = memory[i] };
	}
	server = conn_server_new(&options);
	ck_assert_ptr_nonnull(server);
	listen_somewhere();
	ck_assert_int_eq(loops_start(loops), 0);
}

static void teardown(void)
{
	loops_stop(loops);
	loops_open_letters(loops);
	loop_open_letters(control);
	conn_server_free(server);
	for (unsigned int i = 0; i < LOOPS; i++) {
		ck_assert_uint_eq(conn_memory_counters(memory[i])->held, 0);
		conn_memory_free(memory[i]);
	}
	loop_free(control);
	loops_free(loops);
	event_base_free(base);
}

/* Turn the control loop until it is true, or fail. */
#define UNTIL(condition)                                                               \
	do {                                                                           \
		for (int turns_ = 0; !(condition); turns_++) {                         \
			ck_assert_msg(turns_ < PATIENCE, "waited for %s", #condition); \
			event_base_loop(base, EVLOOP_NONBLOCK);                        \
			usleep(100);                                                   \
		}                                                                      \
	} while (0)

static int client_connect(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	size_t before = conn_count(server);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	UNTIL(conn_count(server) == before + 1);
	return fd;
}

static void call(int fd, uint32_t number, enum procedure procedure)
{
	const uint32_t words[] = { number, 0, 2, PROGRAM, 1, procedure, 0, 0, 0, 0, number };
	uint8_t bytes[RECORD_MARK_BYTES + CALL];
	struct bytes_writer w = bytes_writer_init(bytes + RECORD_MARK_BYTES, CALL);

	record_mark_put(bytes, CALL);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		bytes_put_be32(&w, words[i]);
	ck_assert_int_eq(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
}

static bool is_there(int fd)
{
	uint8_t bytes[RECORD_MARK_BYTES + MESSAGE];

	return recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT) == sizeof(bytes);
}

/* The answer carries the call's xid, and its argument. */
static void expect_answer(int fd, uint32_t number)
{
	uint8_t bytes[RECORD_MARK_BYTES + MESSAGE];
	struct bytes_reader r = bytes_reader_init(bytes + RECORD_MARK_BYTES, MESSAGE);

	UNTIL(is_there(fd));
	ck_assert_int_eq(recv(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	ck_assert_uint_eq(bytes_get_be32(&r), number);
	bytes_take(&r, MESSAGE - 8);
	ck_assert_uint_eq(bytes_get_be32(&r), number);
}

/* 0: none has arrived in its loop */
static uint64_t first_session(void)
{
	struct conn *conn;
	uint64_t session;

	loops_pause(loops);
	conn = conn_next(server, NULL);
	session = conn ? conn_facts(conn)->session : 0;
	loops_continue(loops);
	return session;
}

static int client_connect_alone(uint64_t *session)
{
	int fd = client_connect();

	UNTIL((*session = first_session()));
	return fd;
}

START_TEST(each_loop_has_its_share)
{
	int fds[CLIENTS];

	for (uint32_t i = 0; i < CLIENTS; i++) {
		fds[i] = client_connect();
		call(fds[i], i, ECHO);
		expect_answer(fds[i], i);
	}
	for (unsigned int i = 0; i < LOOPS; i++)
		ck_assert_uint_eq(answered_in[i], CLIENTS / LOOPS);
	ck_assert_uint_eq(worked, CLIENTS);
	ck_assert_uint_eq(worked_elsewhere, 0);
	for (uint32_t i = 0; i < CLIENTS; i++)
		close(fds[i]);
	UNTIL(conn_count(server) == 0);
	UNTIL(closed_count == CLIENTS);
}
END_TEST

START_TEST(what_is_passed_on_comes_back)
{
	int fd = client_connect();

	for (uint32_t i = 0; i < 100; i++)
		call(fd, i, ECHO_ON);
	for (uint32_t i = 0; i < 100; i++)
		expect_answer(fd, i);
	ck_assert_uint_eq(passed, 100);
	ck_assert_uint_eq(worked_elsewhere, 0);
	close(fd);
}
END_TEST

static void on_quiet(struct conn *conn, void *arg)
{
	ck_assert(loop_is_here(control));
	ck_assert_uint_eq(conn_facts(conn)->session, *(uint64_t *)arg);
	quiet_count++;
}

/* Return: as conn_quiesce() */
static int quiesce(uint64_t *session)
{
	int rc;

	loops_pause(loops);
	rc = conn_quiesce(conn_find(server, *session), on_quiet, session);
	loops_continue(loops);
	return rc;
}

static void resume(uint64_t session)
{
	loops_pause(loops);
	conn_resume(conn_find(server, session));
	loops_continue(loops);
}

START_TEST(the_control_loop_is_told_when_a_connection_is_quiet)
{
	uint64_t session;
	int fd = client_connect_alone(&session);

	call(fd, 1, HOLD);
	UNTIL(held);
	ck_assert_int_eq(quiesce(&session), -EINPROGRESS);
	call(fd, 2, ECHO);
	echo(held); /* on this thread: its answer finds its way home */
	UNTIL(quiet_count == 1);
	expect_answer(fd, 1);
	usleep(20000);
	ck_assert(!is_there(fd));
	resume(session);
	expect_answer(fd, 2);
	ck_assert_uint_eq(quiet_count, 1);
	close(fd);
}
END_TEST

START_TEST(a_connection_that_was_taken_away_is_left_alone)
{
	uint64_t session;
	int fd = client_connect_alone(&session), taken;

	ck_assert_int_eq(quiesce(&session), 0);
	call(fd, 1, ECHO);
	loops_pause(loops);
	taken = conn_surrender(conn_find(server, session));
	loops_continue(loops);
	usleep(20000);
	ck_assert_uint_eq(answered_in[0] + answered_in[1], 0);
	ck_assert_uint_eq(closed_count, 0);
	ck_assert_uint_eq(conn_count(server), 0);
	close(taken);
	close(fd);
}
END_TEST

static size_t output_len(uint64_t session)
{
	size_t len;

	loops_pause(loops);
	len = conn_output_len(conn_find(server, session));
	loops_continue(loops);
	return len;
}

/* Until the client's window and the socket are full. */
static void fill_up(int fd, uint64_t session)
{
	size_t before;

	do {
		before = output_len(session);
		call(fd, 1, FILL);
		usleep(20000);
	} while (before == 0 || output_len(session) > before);
}

/* The socket takes more at the very moment at which the connection is quieted: it belongs to the handoff already. */
START_TEST(a_quiet_connection_writes_no_more)
{
	static uint8_t taken[4 << 20];
	uint64_t session;
	int fd = client_connect_alone(&session);
	size_t before;

	fill_up(fd, session);
	loops_pause(loops);
	while (recv(fd, taken, sizeof(taken), MSG_DONTWAIT) > 0)
		usleep(1000);
	usleep(20000);
	ck_assert_int_eq(conn_quiesce(conn_find(server, session), on_quiet, &session), 0);
	before = conn_output_len(conn_find(server, session));
	ck_assert_uint_gt(before, 0);
	loops_continue(loops);
	usleep(20000);
	ck_assert_uint_eq(output_len(session), before);
	close(fd);
}
END_TEST

/* Their calls come while they are closed, quieted, resumed: nothing of it may meet. */
START_TEST(the_control_loop_may_interfere_at_any_time)
{
	for (uint32_t i = 0; i < 300; i++) {
		uint64_t session;
		int fd = client_connect_alone(&session);

		for (uint32_t n = 0; n < 20; n++)
			call(fd, n, n % 3 ? ECHO : ECHO_ON);
		if (quiesce(&session) == 0)
			resume(session);
		loops_pause(loops);
		conn_close(conn_find(server, session), i % 2);
		loops_continue(loops);
		ck_assert_uint_eq(last_closed, session);
		close(fd);
	}
	UNTIL(conn_count(server) == 0);
	ck_assert_uint_eq(closed_count, 300);
}
END_TEST

START_TEST(they_end_with_calls_in_progress)
{
	int fd = client_connect();

	call(fd, 1, HOLD);
	UNTIL(held);
	loops_stop(loops);
	conn_close(conn_next(server, NULL), false);
	echo(held);
	close(fd);
}
END_TEST

/* Halves: what a connection does of which another device has the other part (common/tch.h). */

/* A connection that a device elsewhere had. @client: out: the client's end */
static uint64_t import_half(enum conn_part_served part, int *client)
{
	struct conn_state state = { .facts = { .session = (uint64_t)SELF << 32 | 99 } };
	struct kernel_helper_static fixed = { 0 };
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct flow_key flow = { .protocol = IPPROTO_TCP };
	socklen_t len = sizeof(own);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd;
	struct conn *conn;

	*client = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&own, sizeof(own)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&own, &len), 0);
	ck_assert_int_eq(connect(*client, (struct sockaddr *)&own, sizeof(own)), 0);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	close(listener);
	loops_pause(loops);
	ck_assert_int_eq(conn_import(server, fd, &flow, &fixed, &state, part, &conn), 0);
	loops_continue(loops);
	return state.facts.session;
}

static int surrender(uint64_t session)
{
	int fd;

	loops_pause(loops);
	fd = conn_surrender(conn_find(server, session));
	loops_continue(loops);
	return fd;
}

static bool is_drained(uint64_t session)
{
	bool drained;

	loops_pause(loops);
	drained = conn_is_drained(conn_find(server, session));
	loops_continue(loops);
	return drained;
}

START_TEST(a_half_that_receives_keeps_its_answers)
{
	int client;
	uint64_t session = import_half(CONN_RECEIVES, &client);

	call(client, 1, ECHO);
	call(client, 2, ECHO_ON);
	UNTIL(answered_in[0] + answered_in[1] == 1 && passed == 1);
	usleep(20000);
	ck_assert(!is_there(client));
	loops_pause(loops);
	conn_take_over(conn_find(server, session));
	loops_continue(loops);
	expect_answer(client, 1);
	expect_answer(client, 2);
	call(client, 3, ECHO);
	expect_answer(client, 3);
	ck_assert_uint_eq(worked_elsewhere, 0);
	close(client);
	UNTIL(conn_count(server) == 0);
}
END_TEST

/* The other device ends it in the client's eyes; this one only says so. */
START_TEST(a_half_whose_client_closes_waits)
{
	int client, fd;
	uint64_t session = import_half(CONN_RECEIVES, &client);

	close(client);
	UNTIL(closed_count == 1);
	ck_assert_uint_eq(last_closed, session);
	ck_assert_uint_eq(conn_count(server), 1);
	fd = surrender(session);
	ck_assert_uint_eq(conn_count(server), 0);
	close(fd);
}
END_TEST

START_TEST(who_drains_sends_and_reads_nothing)
{
	static uint8_t filled[RPC_DATA_MAX];
	uint64_t session;
	int client = client_connect_alone(&session), rc;
	size_t got = 0;

	call(client, 1, FILL);
	UNTIL(answered_in[0] + answered_in[1] == 1);
	rc = quiesce(&session);
	UNTIL(rc == 0 || quiet_count == 1);
	loops_pause(loops);
	conn_drain(conn_find(server, session));
	loops_continue(loops);
	call(client, 2, ECHO);
	ck_assert(!is_drained(session));
	while (got < RECORD_MARK_BYTES + MESSAGE - 4 + RPC_DATA_MAX) {
		ssize_t len = recv(client, filled, sizeof(filled), 0);

		ck_assert_int_gt(len, 0);
		got += (size_t)len;
	}
	UNTIL(is_drained(session));
	usleep(20000);
	ck_assert_uint_eq(answered_in[0] + answered_in[1], 1);
	resume(session); /* the other device has failed: what came meanwhile is still there */
	expect_answer(client, 2);
	close(client);
}
END_TEST

START_TEST(who_discards_throws_away)
{
	uint64_t session;
	int client = client_connect_alone(&session), fd;

	ck_assert_int_eq(quiesce(&session), 0);
	loops_pause(loops);
	conn_discard(conn_find(server, session));
	loops_continue(loops);
	for (uint32_t i = 0; i < 1000; i++)
		call(client, i, ECHO);
	UNTIL(is_drained(session));
	fd = surrender(session);
	ck_assert_uint_eq(answered_in[0] + answered_in[1], 0);
	ck_assert(!is_there(client));
	close(fd);
	close(client);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("conn_loops");
	TCase *tc = tcase_create("conn_loops");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, each_loop_has_its_share);
	tcase_add_test(tc, what_is_passed_on_comes_back);
	tcase_add_test(tc, the_control_loop_is_told_when_a_connection_is_quiet);
	tcase_add_test(tc, a_connection_that_was_taken_away_is_left_alone);
	tcase_add_test(tc, a_quiet_connection_writes_no_more);
	tcase_add_test(tc, the_control_loop_may_interfere_at_any_time);
	tcase_add_test(tc, a_half_that_receives_keeps_its_answers);
	tcase_add_test(tc, a_half_whose_client_closes_waits);
	tcase_add_test(tc, who_drains_sends_and_reads_nothing);
	tcase_add_test(tc, who_discards_throws_away);
	tcase_add_test(tc, they_end_with_calls_in_progress);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
