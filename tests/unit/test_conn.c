/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client hangs, gets a reply twice or not at all, or gets another's; one that sends much and reads nothing
 * takes all memory; or a session that moves to another device loses what was on its way.
 *
 * Real TCP on the loopback interface; server and client take turns in one process.
 */
#include "config.h"

#include "common/conn.h"

#include "common/conn_memory.h"
#include "common/conn_moves.h"
#include "common/record.h"
#include "slave/succession.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PROGRAM = 0x20000001, SELF = 7, OTHER = 8, HEADER = 40, PATIENCE = 20000 };

/* What the program's procedures do. */
enum procedure {
	ECHO_NOW,   /* answers with its argument */
	ECHO_LATER, /* the same, when the test says so */
	NOTHING,    /* is not answered: the connection is closed */
	FILL,	    /* answers with as many bytes as its argument says */
	FILL_LATER, /* as ECHO_LATER, but says that the answer will have as many bytes as its argument says */
	QUIESCE,    /* as ECHO_NOW, but stops the connection while it is worked on */
	CLOSE,	    /* closes the connection while it is worked on, then answers */
};

static struct event_base *base;
static struct conn_memory *memory;
static struct conn_server *servers[2]; /* two devices */
static uint16_t port;
static unsigned int closed_count, work_count, quiet_count, repeatable_count;

/* The calls that wait, oldest first. */
struct waiting {
	TAILQ_ENTRY(waiting) link;
	struct rpc_call *call;
};

static TAILQ_HEAD(waiting_list, waiting) waiting;
static size_t waiting_count;

static struct conn *first_conn(void)
{
	return conn_next(servers[0], NULL);
}

static void on_quiet(struct conn *conn, void *arg)
{
	(void)conn;
	ck_assert_ptr_eq(arg, &quiet_count);
	quiet_count++;
}

static int quiesce(struct conn *conn)
{
	return conn_quiesce(conn, on_quiet, &quiet_count);
}

static void echo(struct rpc_call *call)
{
	struct bytes_writer out;

	ck_assert_int_eq(rpc_reply_begin(call, call->args.left, &out), 0);
	bytes_put(&out, call->args.p, call->args.left);
	rpc_reply_end(call, &out);
}

static void fill(struct rpc_call *call)
{
	uint32_t len = bytes_get_be32(&call->args);
	struct bytes_writer out;

	ck_assert_int_eq(rpc_reply_begin(call, len, &out), 0);
	memset(bytes_room(&out, len), 'f', len);
	rpc_reply_end(call, &out);
}

static void echo_later(struct rpc_call *call)
{
	struct waiting *one = calloc(1, sizeof(*one));

	ck_assert_int_eq(rpc_call_keep(call), 0);
	one->call = call;
	TAILQ_INSERT_TAIL(&waiting, one, link);
	waiting_count++;
}

static void dispatch(const struct rpc_program *program, struct rpc_call *call)
{
	struct bytes_reader args;

	(void)program;
	call->volume = 5;
	call->data_bytes = 10;
	repeatable_count += call->may_be_repeated;
	switch ((enum procedure)call->procedure) {
	case FILL_LATER:
		args = call->args;
		call->reply_bytes = bytes_get_be32(&args);
		echo_later(call);
		return;
	case ECHO_LATER:
		echo_later(call);
		return;
	case NOTHING:
		rpc_reply_nothing(call);
		return;
	case FILL:
		fill(call);
		return;
	case QUIESCE:
		ck_assert_int_eq(quiesce(first_conn()), -EINPROGRESS);
		break;
	case CLOSE:
		conn_close(first_conn(), false);
		break;
	case ECHO_NOW:
		break;
	}
	echo(call);
}

/* Answer the call that has waited longer than all but @number others. */
static void answer(size_t number)
{
	struct waiting *one = TAILQ_FIRST(&waiting);

	while (number--)
		one = TAILQ_NEXT(one, link);
	ck_assert_ptr_nonnull(one);
	TAILQ_REMOVE(&waiting, one, link);
	waiting_count--;
	echo(one->call);
	free(one);
}

static const struct rpc_program programs[] = {
	{ .number = PROGRAM, .version_low = 1, .version_high = 1, .name = "test", .dispatch = dispatch,
	  .long_answers = 1 << FILL | 1 << FILL_LATER },
	{ .number = 0 },
};

static struct rpc_server rpc = { .programs = programs };

static bool on_accept(int fd, struct kernel_helper_static *fixed, void *arg)
{
	(void)fd, (void)arg;
	fixed->mss_clamp = 1234;
	return true;
}

static void on_work(struct conn *conn, const struct rpc_call *call, void *arg)
{
	(void)conn, (void)arg;
	ck_assert_uint_eq(call->volume, 5);
	work_count++;
}

static void on_closed(uint64_t session, void *arg)
{
	(void)arg;
	ck_assert_uint_ne(session, 0);
	closed_count++;
}

static const struct conn_handlers handlers = { .on_accept = on_accept, .on_work = on_work, .on_closed = on_closed };

/* A port that nobody uses. */
static uint16_t free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static struct sockaddr_in listen_address(void)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void setup_bound(size_t bound)
{
	struct conn_part_options part = { .rpc = &rpc };
	struct conn_server_options options = { .self = SELF, .handlers = &handlers, .parts = &part, .part_count = 1 };
	struct sockaddr_in address;

	TAILQ_INIT(&waiting);
	base = options.base = event_base_new();
	memory = part.memory = conn_memory_new(base, NULL, bound, CONN_MEMORY_TURNS);
	servers[0] = conn_server_new(&options);
	options.self = OTHER;
	servers[1] = conn_server_new(&options);
	port = free_port();
	address = listen_address();
	ck_assert_int_eq(conn_server_listen(servers[0], (struct sockaddr *)&address, sizeof(address)), 0);
}

static void setup(void)
{
	setup_bound((size_t)256 << 20);
}

/* As little as there may be. */
static void setup_tight(void)
{
	setup_bound(conn_memory_min(CONN_MEMORY_TURNS));
}

static void teardown(void)
{
	while (waiting_count)
		answer(0);
	conn_server_free(servers[0]);
	conn_server_free(servers[1]);
	ck_assert_uint_eq(conn_memory_counters(memory)->held, 0);
	conn_memory_free(memory);
	event_base_free(base);
}

/* One turn of the loop. */
static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* Turn until it is true, or fail: what is sent on lo arrives at once. */
#define UNTIL(condition)                                                      \
	do {                                                                  \
		for (int turns_ = 0; !(condition); turns_++) {                \
			ck_assert_msg(turns_ < PATIENCE, "waited for %s", #condition); \
			turn();                                               \
			if (turns_ > 100)                                     \
				usleep(100);                                  \
		}                                                             \
	} while (0)

static void turns(int count)
{
	while (count--)
		turn();
}

/* The client */

struct client {
	int fd;
	struct record_reader input;
	uint32_t next_xid;
};

static struct client client_connect(void)
{
	struct sockaddr_in address = listen_address();
	struct client client = { .fd = socket(AF_INET, SOCK_STREAM, 0), .next_xid = 1 };
	size_t before = conn_count(servers[0]);

	ck_assert_int_eq(connect(client.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(fcntl(client.fd, F_SETFL, O_NONBLOCK), 0);
	setsockopt(client.fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	UNTIL(conn_count(servers[0]) == before + 1);
	return client;
}

static void client_close(struct client *client)
{
	close(client->fd);
	record_reader_fini(&client->input);
}

/* A call as the client sends it, record mark included. Return: its length */
static size_t make_call(uint8_t *out, uint32_t xid, enum procedure procedure, const void *args, size_t args_len)
{
	const uint32_t words[] = { xid, 0, 2, PROGRAM, 1, procedure, 0, 0, 0, 0 };
	struct bytes_writer w = bytes_writer_init(out + RECORD_MARK_BYTES, HEADER + args_len);

	record_mark_put(out, HEADER + args_len);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		bytes_put_be32(&w, words[i]);
	bytes_put(&w, args, args_len);
	return RECORD_MARK_BYTES + HEADER + args_len;
}

/* Send all, letting the server read. */
static void send_bytes(struct client *client, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t put = send(client->fd, bytes, len, MSG_NOSIGNAL);

		if (put < 0) {
			ck_assert_int_eq(errno, EAGAIN);
			turn();
			continue;
		}
		bytes += put;
		len -= (size_t)put;
	}
}

/* A call whose argument is a number. Return: its xid */
static uint32_t call(struct client *client, enum procedure procedure, uint32_t number)
{
	uint32_t xid = client->next_xid++, argument = htonl(number);
	uint8_t bytes[RECORD_MARK_BYTES + HEADER + 4];

	send_bytes(client, bytes, make_call(bytes, xid, procedure, &argument, sizeof(argument)));
	return xid;
}

/* Read what is there. Return: 0; -ENOTCONN at the end; -ECONNRESET */
static int client_read(struct client *client)
{
	for (;;) {
		size_t room;
		uint8_t *into = record_room(&client->input, 0, &room);
		ssize_t got = recv(client->fd, into, room, 0);

		record_filled(&client->input, got > 0 ? (size_t)got : 0);
		if (got == 0)
			return -ENOTCONN;
		if (got < 0)
			return errno == EAGAIN ? 0 : -errno;
	}
}

struct reply {
	uint32_t xid, status, number; /* the first four bytes of the results */
	size_t len;
};

static bool client_next(struct client *client, struct reply *reply)
{
	const uint8_t *record;
	size_t len;
	struct bytes_reader r;

	client_read(client);
	if (record_next(&client->input, RPC_RECORD_MAX, &record, &len) <= 0)
		return false;
	r = bytes_reader_init(record, len);
	reply->xid = bytes_get_be32(&r);
	ck_assert_uint_eq(bytes_get_be32(&r), 1);
	bytes_take(&r, 12);
	reply->status = bytes_get_be32(&r);
	reply->len = r.left;
	reply->number = bytes_get_be32(&r);
	record_consume(&client->input);
	return true;
}

static void expect_reply(struct client *client, uint32_t xid, uint32_t number)
{
	struct reply reply = { 0 };

	UNTIL(client_next(client, &reply));
	ck_assert_uint_eq(reply.xid, xid);
	ck_assert_uint_eq(reply.status, RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(reply.number, number);
}

static void expect_silence(struct client *client)
{
	struct reply reply;

	turns(20);
	ck_assert(!client_next(client, &reply));
}

static void expect_end(struct client *client, int how)
{
	int rc = 0;

	UNTIL((rc = client_read(client)) < 0);
	ck_assert_int_eq(rc, how);
	ck_assert_uint_eq(conn_count(servers[0]), 0);
	ck_assert_uint_eq(closed_count, 1);
}

/* Replies */

START_TEST(a_call_is_answered)
{
	struct client client = client_connect();
	struct conn_facts *facts = conn_facts(first_conn());

	expect_reply(&client, call(&client, ECHO_NOW, 42), 42);
	expect_reply(&client, call(&client, ECHO_NOW, 43), 43);
	ck_assert_uint_eq(work_count, 2);
	ck_assert_uint_eq(facts->requests, 2);
	ck_assert_uint_eq(facts->share_count, 1);
	ck_assert_uint_eq(facts->shares[0].volume, 5);
	ck_assert_uint_eq(facts->shares[0].bytes, 20);
	ck_assert_uint_eq(conn_fixed(first_conn())->mss_clamp, 1234);
	client_close(&client);
	UNTIL(closed_count == 1);
	ck_assert_uint_eq(conn_count(servers[0]), 0);
}
END_TEST

enum { PIPELINED = 10000 };

START_TEST(ten_thousand_in_a_row)
{
	struct client client = client_connect();
	struct reply reply;
	uint32_t got = 0;

	for (uint32_t i = 1; i <= PIPELINED; i++) {
		call(&client, ECHO_NOW, i);
		while (client_next(&client, &reply))
			ck_assert(reply.xid == ++got && reply.number == got);
	}
	while (got < PIPELINED) {
		UNTIL(client_next(&client, &reply));
		ck_assert(reply.xid == ++got && reply.number == got);
	}
	ck_assert_uint_eq(conn_facts(first_conn())->requests, PIPELINED);
	client_close(&client);
}
END_TEST

START_TEST(a_call_in_fragments_and_pieces)
{
	static const uint8_t cut[] = { 1, 3, 4, 17, 39 };
	uint8_t whole[RECORD_MARK_BYTES + HEADER + 4], bytes[100];
	struct client client = client_connect();
	uint32_t argument = htonl(77);

	make_call(whole, 9, ECHO_NOW, &argument, sizeof(argument));
	for (size_t i = 0; i < sizeof(cut); i++) {
		const uint8_t *payload = whole + RECORD_MARK_BYTES;
		size_t len = HEADER + 4;

		record_mark_put(bytes, cut[i]);
		bytes[0] = 0;
		memcpy(bytes + 4, payload, cut[i]);
		record_mark_put(bytes + 4 + cut[i], len - cut[i]);
		memcpy(bytes + 8 + cut[i], payload + cut[i], len - cut[i]);
		for (size_t at = 0; at < len + 8; at++) {
			send_bytes(&client, bytes + at, 1);
			turn();
		}
		expect_reply(&client, 9, 77);
	}
	client_close(&client);
}
END_TEST

START_TEST(answers_in_any_order)
{
	struct client client = client_connect();

	for (uint32_t i = 1; i <= 4; i++)
		call(&client, ECHO_LATER, 10 * i);
	UNTIL(waiting_count == 4);
	answer(2);
	expect_reply(&client, 3, 30);
	/* What comes later may be answered sooner. */
	expect_reply(&client, call(&client, ECHO_NOW, 50), 50);
	answer(0);
	expect_reply(&client, 1, 10);
	answer(1);
	answer(0);
	expect_reply(&client, 4, 40);
	expect_reply(&client, 2, 20);
	client_close(&client);
}
END_TEST

/* Ends */

START_TEST(garbage_ends_the_connection)
{
	static const uint8_t garbage[][16] = {
		{ 0x80, 0, 0, 4, 1, 2, 3, 4 },		   /* a record that is no call */
		{ 0x80, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1 }, /* a reply */
		{ 0xff, 0xff, 0xff, 0xff },		   /* two gigabytes */
		{ 'G', 'E', 'T', ' ', '/', ' ' },	   /* another protocol */
	};
	struct client client = client_connect();

	send_bytes(&client, garbage[_i], sizeof(garbage[_i]));
	UNTIL(closed_count == 1);
	client_close(&client);
}
END_TEST

START_TEST(not_answering_ends_the_connection)
{
	struct client client = client_connect();

	call(&client, ECHO_NOW, 1);
	call(&client, NOTHING, 2);
	call(&client, ECHO_NOW, 3);
	UNTIL(closed_count == 1);
	ck_assert_uint_eq(work_count, 1);
	client_close(&client);
}
END_TEST

START_TEST(closing_and_resetting)
{
	struct client client = client_connect();

	conn_close(first_conn(), _i);
	expect_end(&client, _i ? -ECONNRESET : -ENOTCONN);
	client_close(&client);
}
END_TEST

START_TEST(closed_twice_in_one_turn)
{
	struct client client = client_connect();
	struct conn *conn = first_conn();

	conn_close(conn, false);
	conn_close(conn, true);
	expect_end(&client, -ENOTCONN);
	client_close(&client);
}
END_TEST

/* Answers come after the client has gone; others' connections are not touched. */
START_TEST(closed_with_calls_in_progress)
{
	struct client client = client_connect(), other;

	for (uint32_t i = 1; i <= 3; i++)
		call(&client, ECHO_LATER, i);
	UNTIL(waiting_count == 3);
	client_close(&client);
	UNTIL(closed_count == 1);
	answer(1);
	other = client_connect();
	call(&other, ECHO_LATER, 9);
	UNTIL(waiting_count == 3);
	answer(0);
	answer(0);
	expect_silence(&other);
	answer(0);
	expect_reply(&other, 1, 9);
	ck_assert_uint_eq(work_count, 1);
	client_close(&other);
}
END_TEST

START_TEST(closed_while_it_works)
{
	struct client client = client_connect();

	call(&client, CLOSE, 1);
	call(&client, ECHO_NOW, 2);
	UNTIL(closed_count == 1);
	turns(3);
	ck_assert_uint_eq(work_count, 0);
	client_close(&client);
}
END_TEST

START_TEST(the_server_goes_with_calls_in_progress)
{
	struct client client = client_connect();

	call(&client, ECHO_LATER, 1);
	UNTIL(waiting_count == 1);
	conn_server_free(servers[0]);
	servers[0] = NULL;
	ck_assert_uint_eq(closed_count, 1);
	answer(0);
	client_close(&client);
}
END_TEST

/* Limits */

START_TEST(calls_in_progress_are_limited)
{
	struct client client = client_connect();

	for (uint32_t i = 1; i <= CONN_CALLS_MAX + 10; i++)
		call(&client, ECHO_LATER, i);
	UNTIL(waiting_count == CONN_CALLS_MAX);
	turns(20);
	ck_assert_uint_eq(waiting_count, CONN_CALLS_MAX);
	for (uint32_t i = 1; i <= 10; i++) {
		answer(0);
		expect_reply(&client, i, i);
		UNTIL(waiting_count == CONN_CALLS_MAX);
	}
	for (uint32_t i = 11; i <= CONN_CALLS_MAX + 10; i++) {
		answer(0);
		expect_reply(&client, i, i);
	}
	client_close(&client);
}
END_TEST

enum { FILL_BYTES = 256 * 1024, FILLS = 200 };

/* A client that asks for 50 MB and reads nothing. */
START_TEST(output_is_limited)
{
	struct client client = client_connect();
	struct reply reply = { 0 };

	for (int i = 0; i < FILLS; i++)
		call(&client, FILL, FILL_BYTES);
	UNTIL(conn_output_len(first_conn()) >= CONN_OUTPUT_ENOUGH);
	turns(1000);
	ck_assert_uint_le(conn_output_len(first_conn()), CONN_OUTPUT_ENOUGH + FILL_BYTES + 100);
	for (uint32_t i = 1; i <= FILLS; i++) {
		UNTIL(client_next(&client, &reply));
		ck_assert(reply.xid == i && reply.len == FILL_BYTES);
	}
	ck_assert_uint_eq(conn_output_len(first_conn()), 0);
	client_close(&client);
}
END_TEST

/*
 * A network so fast that all output goes out at once: no event will tell that there is room, and nothing more comes in. As
 * the kernel is asked for buffers that only root gets, there is nothing to see without.
 */
START_TEST(fast_output_does_not_stop)
{
	struct client client = client_connect();
	struct reply reply = { 0 };

	if (setsockopt(conn_fd(first_conn()), SOL_SOCKET, SO_SNDBUFFORCE, &(int){ 64 << 20 }, sizeof(int)) < 0)
		return;
	for (int i = 0; i < FILLS; i++)
		call(&client, FILL, FILL_BYTES);
	for (uint32_t i = 1; i <= FILLS; i++) {
		UNTIL(client_next(&client, &reply));
		ck_assert(reply.xid == i && reply.len == FILL_BYTES);
	}
	client_close(&client);
}
END_TEST

/* Answers that are still to come count as well: they may come all at once. */
START_TEST(output_to_come_is_limited)
{
	enum { CALLS = 40, BYTES = RPC_DATA_MAX, AT_ONCE = CONN_OUTPUT_MAX / BYTES };
	struct client client = client_connect();

	for (int i = 0; i < CALLS; i++)
		call(&client, FILL_LATER, BYTES);
	UNTIL(waiting_count == AT_ONCE);
	turns(100);
	ck_assert_uint_eq(waiting_count, AT_ONCE);
	for (uint32_t i = 1; i <= CALLS; i++) {
		UNTIL(waiting_count > 0);
		ck_assert_uint_le(waiting_count, AT_ONCE);
		answer(0);
		expect_reply(&client, i, BYTES);
	}
	client_close(&client);
}
END_TEST

/* Standing still */

START_TEST(a_quiet_connection_reads_nothing)
{
	struct client client = client_connect();
	uint32_t xid;

	ck_assert_int_eq(quiesce(first_conn()), 0);
	ck_assert_uint_eq(quiet_count, 0);
	ck_assert_int_eq(quiesce(first_conn()), -EALREADY);
	xid = call(&client, ECHO_NOW, 5);
	expect_silence(&client);
	conn_resume(first_conn());
	expect_reply(&client, xid, 5);
	/* And again: nothing is left of the first time. */
	ck_assert_int_eq(quiesce(first_conn()), 0);
	conn_resume(first_conn());
	conn_resume(first_conn());
	expect_reply(&client, call(&client, ECHO_NOW, 6), 6);
	client_close(&client);
}
END_TEST

START_TEST(quiet_comes_after_the_last_answer)
{
	struct client client = client_connect();

	call(&client, ECHO_LATER, 1);
	call(&client, ECHO_LATER, 2);
	UNTIL(waiting_count == 2);
	ck_assert_int_eq(quiesce(first_conn()), -EINPROGRESS);
	call(&client, ECHO_NOW, 3);
	answer(0);
	turns(5);
	ck_assert_uint_eq(quiet_count, 0);
	answer(0);
	ck_assert_uint_eq(quiet_count, 1);
	turns(20);
	ck_assert_uint_eq(work_count, 2);
	conn_resume(first_conn());
	expect_reply(&client, 1, 1);
	expect_reply(&client, 2, 2);
	expect_reply(&client, 3, 3);
	client_close(&client);
}
END_TEST

START_TEST(resumed_before_it_was_quiet)
{
	struct client client = client_connect();

	call(&client, ECHO_LATER, 1);
	UNTIL(waiting_count == 1);
	ck_assert_int_eq(quiesce(first_conn()), -EINPROGRESS);
	conn_resume(first_conn());
	answer(0);
	expect_reply(&client, 1, 1);
	expect_reply(&client, call(&client, ECHO_NOW, 2), 2);
	ck_assert_uint_eq(quiet_count, 0);
	client_close(&client);
}
END_TEST

START_TEST(closed_before_it_was_quiet)
{
	struct client client = client_connect();

	call(&client, ECHO_LATER, 1);
	UNTIL(waiting_count == 1);
	ck_assert_int_eq(quiesce(first_conn()), -EINPROGRESS);
	conn_close(first_conn(), false);
	answer(0);
	turns(3);
	ck_assert_uint_eq(quiet_count, 0);
	ck_assert_uint_eq(closed_count, 1);
	client_close(&client);
}
END_TEST

static void on_rest(void *arg)
{
	*(bool *)arg = true;
}

/*
 * Before a restart of the daemon. A connection that was at rest, and has gone, must not be counted in the place of one that still has a
 * call to answer: that one would be left behind.
 */
START_TEST(who_has_closed_does_not_rest)
{
	struct client idle = client_connect(), busy;
	struct succession *succession;
	struct conn *gone = first_conn();
	bool is_at_rest = false;

	busy = client_connect();
	call(&busy, ECHO_LATER, 1);
	UNTIL(waiting_count == 1);
	setenv("NOTIFY_SOCKET", "/nowhere", 1);
	ck_assert_int_eq(succession_begin(base, servers[0], NULL, on_rest, &is_at_rest, &succession), 0);
	turns(3);
	ck_assert_int_eq(quiesce(gone), -EALREADY); /* it has looked once */
	conn_close(gone, false);
	for (int i = 0; i < 50; i++, usleep(1000)) /* it looks again */
		turn();
	ck_assert(!is_at_rest);
	answer(0);
	UNTIL(is_at_rest);
	succession_free(succession);
	unsetenv("NOTIFY_SOCKET");
	client_close(&busy);
	client_close(&idle);
}
END_TEST

/* A handoff is decided while a request is worked on, with others behind it in the same packet. */
START_TEST(quiet_in_the_middle_of_many)
{
	uint8_t bytes[3 * (RECORD_MARK_BYTES + HEADER)];
	struct client client = client_connect();
	size_t len = 0;

	len += make_call(bytes + len, 1, ECHO_NOW, NULL, 0);
	len += make_call(bytes + len, 2, QUIESCE, NULL, 0);
	len += make_call(bytes + len, 3, ECHO_NOW, NULL, 0);
	send_bytes(&client, bytes, len);
	UNTIL(quiet_count == 1);
	turns(10);
	ck_assert_uint_eq(work_count, 2);
	conn_resume(first_conn());
	for (uint32_t xid = 1; xid <= 3; xid++)
		expect_reply(&client, xid, 0);
	client_close(&client);
}
END_TEST

/* Moving. The socket is the same; what the daemon holds goes through conn_state. */

static struct conn *move_part(struct conn *conn, struct conn_server *to, enum conn_part_served served)
{
	const struct kernel_helper_static fixed = *conn_fixed(conn);
	const struct flow_key flow = *conn_flow(conn);
	struct conn_state state;
	struct conn *moved;
	int fd;

	ck_assert_int_eq(conn_export(conn, &state), 0);
	fd = conn_surrender(conn);
	state.facts.handoffs++;
	ck_assert_int_eq(conn_import(to, fd, &flow, &fixed, &state, served, &moved), 0);
	conn_state_fini(&state);
	return moved;
}

/* As a daemon that is restarted leaves a session to the next one. */
START_TEST(who_could_not_move_can_not_afterwards)
{
	struct client client = client_connect();
	struct tch_session session;
	struct tch_carried carried = { 0 };

	expect_reply(&client, call(&client, ECHO_NOW, 1), 1);
	ck_assert_int_eq(quiesce(first_conn()), 0);
	ck_assert(conn_moves.find(conn_facts(first_conn())->session, &session, servers[0]));
	session.is_movable = _i;
	ck_assert_int_eq(conn_moves.export(session.own, &carried, servers[0]), 0);
	session.fd = conn_moves.surrender(session.own, servers[0]);
	ck_assert_int_eq(conn_moves.import(&session, &carried, TCH_FULL, servers[1]), 0);
	ck_assert_int_eq(conn_is_movable(conn_find(servers[1], session.id)), _i);
	expect_reply(&client, call(&client, ECHO_NOW, 2), 2);
	free(carried.input);
	free(carried.output);
	client_close(&client);
	UNTIL(closed_count == 1);
}
END_TEST

static struct conn *move(struct conn *conn, struct conn_server *to)
{
	return move_part(conn, to, CONN_WHOLE);
}

START_TEST(a_session_moves)
{
	struct client client = client_connect();
	struct conn *moved;
	struct flow_key flow = *conn_flow(first_conn());
	uint64_t session = conn_facts(first_conn())->session;
	uint8_t bytes[RECORD_MARK_BYTES + HEADER];

	expect_reply(&client, call(&client, ECHO_NOW, 1), 1);
	/* Half a request has been read. */
	make_call(bytes, 99, ECHO_NOW, NULL, 0);
	send_bytes(&client, bytes, 20);
	turns(5);
	ck_assert_int_eq(quiesce(first_conn()), 0);
	moved = move(first_conn(), servers[1]);
	ck_assert_uint_eq(conn_count(servers[0]), 0);
	ck_assert_uint_eq(closed_count, 0); /* it is not closed, it is elsewhere */
	ck_assert_ptr_eq(conn_find(servers[1], session), moved);
	ck_assert_ptr_eq(conn_find_flow(servers[1], &flow), moved);
	ck_assert_ptr_null(conn_find(servers[0], session));
	ck_assert_uint_eq(conn_facts(moved)->handoffs, 1);
	ck_assert_uint_eq(conn_facts(moved)->requests, 1);
	ck_assert_uint_eq(conn_fixed(moved)->mss_clamp, 1234);
	ck_assert(conn_is_movable(moved));
	send_bytes(&client, bytes + 20, sizeof(bytes) - 20);
	expect_reply(&client, 99, 0);
	ck_assert_uint_eq(conn_facts(moved)->requests, 2);
	client_close(&client);
	UNTIL(closed_count == 1);
}
END_TEST

/* Replies that the kernel has not taken, and whole requests that were not yet worked on. */
START_TEST(a_session_moves_with_what_waits)
{
	struct client client = client_connect();
	struct reply reply = { 0 };

	for (int i = 0; i < FILLS; i++)
		call(&client, FILL, FILL_BYTES);
	UNTIL(conn_output_len(first_conn()) >= CONN_OUTPUT_ENOUGH);
	ck_assert_int_eq(quiesce(first_conn()), 0);
	move(first_conn(), servers[1]);
	for (uint32_t i = 1; i <= FILLS; i++) {
		UNTIL(client_next(&client, &reply));
		ck_assert(reply.xid == i && reply.len == FILL_BYTES);
	}
	client_close(&client);
}
END_TEST

START_TEST(a_session_is_here_once)
{
	struct client client = client_connect();
	struct conn *conn = first_conn(), *second = NULL;
	struct conn_state state;

	ck_assert_int_eq(quiesce(conn), 0);
	ck_assert_int_eq(conn_export(conn, &state), 0);
	ck_assert_int_eq(conn_import(servers[0], conn_fd(conn), conn_flow(conn), conn_fixed(conn), &state, CONN_WHOLE, &second),
			 -EEXIST);
	ck_assert_ptr_null(second);
	conn_state_fini(&state);
	conn_resume(conn);
	expect_reply(&client, call(&client, ECHO_NOW, 1), 1);
	client_close(&client);
}
END_TEST

/* Halves. What the other device does is the kernel's part: see tests/platform/test_half.c. */

static struct conn *receive_half(struct conn *conn)
{
	ck_assert_int_eq(quiesce(conn), 0);
	return move_part(conn, servers[1], CONN_RECEIVES);
}

START_TEST(a_half_that_receives_keeps_its_answers)
{
	struct client client = client_connect();
	struct conn *half = receive_half(first_conn());

	ck_assert(conn_is_half(half));
	call(&client, ECHO_NOW, 1);
	call(&client, ECHO_LATER, 2);
	call(&client, ECHO_NOW, 3);
	UNTIL(waiting_count == 1 && work_count == 2);
	expect_silence(&client);
	conn_take_over(half);
	ck_assert(!conn_is_half(half));
	expect_reply(&client, 1, 1);
	expect_reply(&client, 3, 3);
	answer(0);
	expect_reply(&client, 2, 2);
	expect_reply(&client, call(&client, ECHO_NOW, 4), 4);
	client_close(&client);
	UNTIL(closed_count == 1);
}
END_TEST

/* It works as long as it may hold answers: the client waits, and the other device can still take back what was not begun. */
START_TEST(a_half_that_receives_is_bounded)
{
	struct client client = client_connect();
	struct conn *half = receive_half(first_conn());
	struct reply reply = { 0 };

	for (int i = 0; i < FILLS; i++)
		call(&client, FILL, FILL_BYTES);
	UNTIL(conn_output_len(half) >= CONN_OUTPUT_ENOUGH);
	turns(20);
	ck_assert_uint_lt(conn_output_len(half), CONN_OUTPUT_ENOUGH + 2 * FILL_BYTES);
	conn_take_over(half);
	for (uint32_t i = 1; i <= FILLS; i++) {
		UNTIL(client_next(&client, &reply));
		ck_assert(reply.xid == i && reply.len == FILL_BYTES);
	}
	client_close(&client);
}
END_TEST

/* Its socket may say nothing to the client, not even goodbye: it waits for what the two devices agree on. */
START_TEST(a_half_that_receives_hears_the_client_close)
{
	struct client client = client_connect();
	struct conn *half = receive_half(first_conn());

	call(&client, ECHO_LATER, 1);
	UNTIL(waiting_count == 1);
	client_close(&client);
	UNTIL(closed_count == 1);
	turns(5);
	answer(0);
	turns(5);
	ck_assert_uint_eq(closed_count, 1);
	ck_assert_uint_eq(conn_count(servers[1]), 1);
	close(conn_surrender(half));
	ck_assert_uint_eq(conn_count(servers[1]), 0);
	ck_assert_uint_eq(closed_count, 1);
}
END_TEST

/* The other device gives its half away before it hears that the client has gone. */
START_TEST(a_half_is_taken_over_too_late)
{
	struct client client = client_connect();
	struct conn *half = receive_half(first_conn());

	client_close(&client);
	UNTIL(closed_count == 1);
	conn_take_over(half);
	UNTIL(conn_count(servers[1]) == 0);
}
END_TEST

START_TEST(a_half_that_sends_answers)
{
	struct client client = client_connect();
	struct conn *half;

	ck_assert_int_eq(quiesce(first_conn()), 0);
	half = move_part(first_conn(), servers[1], CONN_SENDS);
	ck_assert(conn_is_half(half));
	expect_reply(&client, call(&client, ECHO_NOW, 1), 1);
	conn_take_over(half);
	ck_assert(!conn_is_half(half));
	expect_reply(&client, call(&client, ECHO_NOW, 2), 2);
	client_close(&client);
	UNTIL(closed_count == 1);
}
END_TEST

/* The first device sends what it has to send, reads nothing, and could go on from there. */
START_TEST(a_connection_drains)
{
	struct client client = client_connect();
	struct reply reply = { 0 };
	unsigned int worked;

	for (int i = 0; i < FILLS; i++)
		call(&client, FILL, FILL_BYTES);
	UNTIL(conn_output_len(first_conn()) >= CONN_OUTPUT_ENOUGH);
	ck_assert_int_eq(quiesce(first_conn()), 0);
	worked = work_count;
	ck_assert_uint_lt(worked, FILLS);
	conn_drain(first_conn());
	ck_assert(!conn_is_drained(first_conn()));
	for (uint32_t i = 1; i <= worked; i++) {
		UNTIL(client_next(&client, &reply));
		ck_assert(reply.xid == i && reply.len == FILL_BYTES);
	}
	UNTIL(conn_is_drained(first_conn()));
	expect_silence(&client);
	ck_assert_uint_eq(work_count, worked);
	conn_resume(first_conn());
	for (uint32_t i = worked + 1; i <= FILLS; i++) {
		UNTIL(client_next(&client, &reply));
		ck_assert(reply.xid == i && reply.len == FILL_BYTES);
	}
	client_close(&client);
}
END_TEST

/* Before it is frozen a connection writes out what it has, or the client would wait until another device has it. */
START_TEST(a_quiet_connection_writes_out)
{
	struct client client = client_connect();
	struct reply reply = { 0 };
	unsigned int worked;

	for (int i = 0; i < FILLS; i++)
		call(&client, FILL, FILL_BYTES);
	UNTIL(conn_output_len(first_conn()) >= CONN_OUTPUT_ENOUGH);
	ck_assert_int_eq(quiesce(first_conn()), 0);
	worked = work_count;
	ck_assert(!conn_write_out(first_conn()));
	turns(20);
	ck_assert_uint_gt(conn_output_len(first_conn()), 0); /* nobody else writes */
	for (uint32_t i = 1; i <= worked; i++) {
		UNTIL(conn_write_out(first_conn()) || client_next(&client, &reply));
		if (conn_write_out(first_conn()))
			break;
		ck_assert(reply.xid == i && reply.len == FILL_BYTES);
	}
	ck_assert(conn_write_out(first_conn()));
	ck_assert_uint_le(conn_sending_len(first_conn()), CONN_SENDING_FEW);
	ck_assert_uint_eq(conn_output_len(first_conn()), 0);
	ck_assert_uint_eq(work_count, worked);
	client_close(&client);
}
END_TEST

/* This process's own: time passes when a test says so. The wall clock may jump meanwhile; nobody's age is taken from it. */
static _Atomic int64_t later_ns;

int clock_gettime(clockid_t clock, struct timespec *out)
{
	int64_t ns;

	if (syscall(SYS_clock_gettime, clock, out))
		return -1;
	ns = out->tv_sec * INT64_C(1000000000) + out->tv_nsec + (clock == CLOCK_MONOTONIC ? later_ns : 0);
	*out = (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
	return 0;
}

/* What the other device had carried out before it failed comes once more: nobody may tell the client to try that again as new. */
START_TEST(calls_after_a_half_came_back_may_be_repeated)
{
	struct client client = client_connect();

	expect_reply(&client, call(&client, ECHO_NOW, 1), 1);
	ck_assert_uint_eq(repeatable_count, 1); /* a connection that is new */
	later_ns = CONN_YOUNG_MS * INT64_C(1000000);
	expect_reply(&client, call(&client, ECHO_NOW, 2), 2);
	ck_assert_uint_eq(repeatable_count, 1);
	ck_assert_int_eq(quiesce(first_conn()), 0);
	conn_drain(first_conn());
	conn_resume(first_conn());
	expect_reply(&client, call(&client, ECHO_NOW, 3), 3);
	ck_assert_uint_eq(repeatable_count, 2);
	client_close(&client);
}
END_TEST

/* The first device reads for nobody, or the client could send no more; and it is not the one who hears it leave. */
START_TEST(a_connection_discards)
{
	static const uint8_t bytes[64 * 1024];
	struct client client = client_connect();

	ck_assert_int_eq(quiesce(first_conn()), 0);
	conn_discard(first_conn());
	for (int i = 0; i < 256; i++)
		send_bytes(&client, bytes, sizeof(bytes));
	expect_silence(&client);
	ck_assert_uint_eq(work_count, 0);
	UNTIL(conn_is_drained(first_conn()));
	client_close(&client);
	turns(20);
	ck_assert_uint_eq(closed_count, 0);
	close(conn_surrender(first_conn()));
	ck_assert_uint_eq(conn_count(servers[0]), 0);
}
END_TEST

/* The client keeps a window of requests going while its session moves again and again. */
enum { ROAMING = 5000, WINDOW = 20 };

static struct conn *only_conn(void)
{
	struct conn *conn = conn_next(servers[0], NULL);

	return conn ? conn : conn_next(servers[1], NULL);
}

static void roam(bool *stopping)
{
	struct conn *conn = only_conn();

	ck_assert_uint_eq(conn_count(servers[0]) + conn_count(servers[1]), 1);
	if (!*stopping && rand() % 20 == 0) {
		int rc = quiesce(conn);

		ck_assert(rc == 0 || rc == -EINPROGRESS);
		quiet_count += rc == 0;
		*stopping = true;
	}
	if (*stopping && quiet_count) {
		if (rand() % 4)
			move(conn, servers[conn_count(servers[0]) ? 1 : 0]);
		else
			conn_resume(conn); /* it failed */
		quiet_count = 0;
		*stopping = false;
	}
}

START_TEST(no_request_is_lost_or_doubled)
{
	const char *given = getenv("CONN_SEED");
	unsigned int seed = given ? (unsigned int)atoi(given) : (unsigned int)time(NULL);
	struct client client = client_connect();
	uint32_t sent = 0, answered = 0;
	bool *seen = calloc(ROAMING + 1, sizeof(*seen)), stopping = false;
	struct reply reply;

	srand(seed);
	for (int turns_left = 200 * ROAMING; answered < ROAMING && turns_left > 0; turns_left--) {
		if (sent < ROAMING && sent - answered < WINDOW && rand() % 2) {
			sent++;
			call(&client, rand() % 2 ? ECHO_NOW : ECHO_LATER, sent * 3);
		}
		if (waiting_count && rand() % 3 == 0)
			answer((size_t)rand() % waiting_count);
		roam(&stopping);
		turn();
		while (client_next(&client, &reply)) {
			ck_assert_msg(reply.number == reply.xid * 3 && !seen[reply.xid], "CONN_SEED=%u: xid %u", seed,
				      reply.xid);
			seen[reply.xid] = true;
			answered++;
		}
	}
	ck_assert_msg(answered == ROAMING, "CONN_SEED=%u: only %u answers", seed, answered);
	ck_assert_uint_eq(conn_facts(only_conn())->requests, ROAMING);
	ck_assert_uint_gt(conn_facts(only_conn())->handoffs, 50);
	free(seen);
	client_close(&client);
}
END_TEST

/* Listening and finding */

START_TEST(many_connections)
{
	struct client clients[50];
	size_t count = 0;

	for (size_t i = 0; i < 50; i++)
		clients[i] = client_connect();
	for (struct conn *conn = NULL; (conn = conn_next(servers[0], conn)); count++) {
		ck_assert_uint_eq(conn_facts(conn)->session >> 32, SELF);
		ck_assert_ptr_eq(conn_find(servers[0], conn_facts(conn)->session), conn);
		ck_assert_ptr_eq(conn_find_flow(servers[0], conn_flow(conn)), conn);
	}
	ck_assert_uint_eq(count, 50);
	for (uint32_t i = 0; i < 50; i++)
		expect_reply(&clients[i], call(&clients[i], ECHO_NOW, i), i);
	for (size_t i = 0; i < 50; i++)
		client_close(&clients[i]);
	UNTIL(conn_count(servers[0]) == 0);
}
END_TEST

/* What all connections hold */

enum { CROWD = 150, RECORD_BYTES = 1 << 20 };

static const struct conn_memory_counters *counters(void)
{
	return conn_memory_counters(memory);
}

/* The first @len bytes of the longest ECHO_NOW, as far as the server takes them. Return: how many it took */
static size_t send_half(struct client *client, size_t len)
{
	static uint8_t bytes[RECORD_MARK_BYTES + HEADER + RECORD_BYTES], arguments[RECORD_BYTES];
	size_t sent = 0;

	ck_assert_uint_lt(len, sizeof(bytes));
	make_call(bytes, client->next_xid++, ECHO_NOW, arguments, sizeof(arguments));
	for (int refused = 0; sent < len && refused < 5;) {
		ssize_t put = send(client->fd, bytes + sent, len - sent, MSG_NOSIGNAL);

		turns(3);
		refused = put < 0 ? refused + 1 : 0;
		sent += put > 0 ? (size_t)put : 0;
	}
	return sent;
}

/* The longest ECHO_NOW there and back. */
static void echo_long(struct client *client)
{
	static uint8_t bytes[RECORD_MARK_BYTES + HEADER + RECORD_BYTES], arguments[RECORD_BYTES] = { 0, 0, 0, 9 };
	uint32_t xid = client->next_xid++;

	send_bytes(client, bytes, make_call(bytes, xid, ECHO_NOW, arguments, sizeof(arguments)));
	expect_reply(client, xid, 9);
}

static void crowd_connect(struct client *crowd, size_t count)
{
	for (size_t i = 0; i < count; i++)
		crowd[i] = client_connect();
}

static void crowd_close(struct client *crowd, size_t count)
{
	for (size_t i = 0; i < count; i++)
		client_close(&crowd[i]);
	UNTIL(conn_count(servers[0]) == 0);
}

/*
 * A crowd sends half requests that together are far more than the bound. What is held stays below it, and everybody else goes on:
 * with small calls at once, with the longest by a turn.
 */
START_TEST(half_records_leave_room_for_others)
{
	static struct client crowd[CROWD];
	struct client client;

	crowd_connect(crowd, CROWD);
	for (size_t i = 0; i < CROWD; i++)
		send_half(&crowd[i], RECORD_BYTES / 2);
	ck_assert_uint_le(counters()->most, conn_memory_min(CONN_MEMORY_TURNS));
	ck_assert_uint_gt(counters()->waited, 0);
	client = client_connect();
	for (uint32_t i = 1; i <= 100; i++)
		expect_reply(&client, call(&client, ECHO_NOW, i), i);
	for (int i = 0; i < 20; i++)
		echo_long(&client);
	ck_assert_uint_le(counters()->most, conn_memory_min(CONN_MEMORY_TURNS));
	client_close(&client);
	crowd_close(crowd, CROWD);
}
END_TEST

/* What nobody completes is given up, the most first; whoever goes on is not touched. */
START_TEST(half_records_are_given_up)
{
	static struct client crowd[CROWD];
	struct client client, small;

	small = client_connect();
	crowd_connect(crowd, CROWD);
	send_half(&small, 100);
	for (size_t i = 0; i < CROWD; i++)
		send_half(&crowd[i], RECORD_BYTES / 2);
	client = client_connect();
	closed_count = 0;
	for (int i = 0; i < 2 * CONN_MEMORY_STALL_TICKS; i++) {
		conn_memory_tick(memory);
		expect_reply(&client, call(&client, ECHO_NOW, 1), 1);
	}
	ck_assert_uint_gt(closed_count, 0);
	ck_assert_uint_eq(closed_count, counters()->closed);
	ck_assert_uint_le(counters()->held, conn_memory_min(CONN_MEMORY_TURNS) / 2);
	ck_assert_uint_eq(conn_count(servers[0]), CROWD + 2 - closed_count);
	echo_long(&client);
	client_close(&small);
	client_close(&client);
	crowd_close(crowd, CROWD);
}
END_TEST

/* Nobody closes who holds much while there is enough for all. */
START_TEST(nobody_is_given_up_without_need)
{
	struct client client = client_connect();

	send_half(&client, RECORD_BYTES / 2);
	for (int i = 0; i < 10 * CONN_MEMORY_STALL_TICKS; i++)
		conn_memory_tick(memory);
	ck_assert_uint_eq(conn_count(servers[0]), 1);
	ck_assert_uint_eq(counters()->waited + counters()->closed, 0);
	client_close(&client);
}
END_TEST

/* Many ask for much and take nothing: as many answers are made as there is room for. Who takes them gets each. */
START_TEST(answers_nobody_takes_leave_room_for_others)
{
	enum { CALLS = 8 };
	static struct client crowd[CROWD];
	uint32_t answers[CROWD] = { 0 };
	size_t left = (size_t)CALLS * CROWD;
	struct client client;
	struct reply reply = { 0 };

	crowd_connect(crowd, CROWD);
	for (size_t i = 0; i < CROWD; i++) {
		for (int j = 0; j < CALLS; j++)
			call(&crowd[i], FILL, RPC_DATA_MAX);
		turns(2);
	}
	turns(100);
	ck_assert_uint_le(counters()->most, conn_memory_min(CONN_MEMORY_TURNS));
	ck_assert_uint_gt(counters()->waited, 0);
	client = client_connect();
	for (uint32_t i = 1; i <= 100; i++)
		expect_reply(&client, call(&client, ECHO_NOW, i), i);
	while (left) {
		turn();
		for (size_t i = 0; i < CROWD; i++)
			while (client_next(&crowd[i], &reply)) {
				ck_assert(reply.xid == ++answers[i] && reply.len == RPC_DATA_MAX);
				left--;
			}
	}
	client_close(&client);
	crowd_close(crowd, CROWD);
}
END_TEST

/* A disk that hangs: calls in progress are counted, also those whose clients have gone, until they are answered. */
START_TEST(calls_of_those_who_left_count)
{
	enum { LEAVING = 40 };
	static struct client crowd[LEAVING];

	for (int round = 0; round < 3; round++) {
		crowd_connect(crowd, LEAVING);
		for (size_t i = 0; i < LEAVING; i++)
			call(&crowd[i], FILL_LATER, RPC_DATA_MAX);
		turns(200);
		for (size_t i = 0; i < LEAVING; i++)
			client_close(&crowd[i]);
		turns(200);
		ck_assert_uint_le(counters()->most, conn_memory_min(CONN_MEMORY_TURNS));
		ck_assert_uint_ge(counters()->held, waiting_count * RPC_DATA_MAX);
	}
	ck_assert_uint_gt(waiting_count, 0);
	while (waiting_count) {
		answer(0);
		turn();
	}
	UNTIL(conn_count(servers[0]) == 0 && counters()->held == 0);
}
END_TEST

/* Who has much in progress at a slow disk is not closed for it. */
START_TEST(who_waits_for_us_is_not_given_up)
{
	static struct client crowd[CROWD];
	size_t count;

	crowd_connect(crowd, CROWD);
	for (size_t i = 0; i < CROWD; i++)
		call(&crowd[i], FILL_LATER, RPC_DATA_MAX);
	turns(200);
	count = waiting_count;
	ck_assert_uint_gt(count, CONN_MEMORY_TURNS);
	for (int i = 0; i < CONN_MEMORY_STALL_TICKS + 10; i++) {
		conn_memory_tick(memory);
		turn();
	}
	ck_assert_uint_eq(waiting_count, count);
	ck_assert_uint_eq(conn_count(servers[0]), CROWD);
	for (size_t i = 0; i < CROWD; i++) {
		UNTIL(waiting_count > 0);
		answer(0);
		turns(3);
	}
	for (size_t i = 0; i < CROWD; i++)
		expect_reply(&crowd[i], 1, RPC_DATA_MAX);
	crowd_close(crowd, CROWD);
}
END_TEST

/* Room for connections themselves is bounded, too: the one that was idle for longest goes, and comes again when it likes. */
START_TEST(idle_connections_make_room)
{
	size_t room = conn_memory_min(CONN_MEMORY_TURNS) / 2 / 4 * 3 /
		      (CONN_MEMORY_FIXED + CONN_MEMORY_EACH) + 1;
	struct client *crowd = calloc(room, sizeof(*crowd)), client;

	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 2 * room + 100, 2 * room + 100 }) < 0) {
		free(crowd);
		return;
	}
	crowd_connect(crowd, room);
	for (int i = 0; i < 3; i++) {
		struct sockaddr_in address = listen_address();

		conn_memory_tick(memory);
		client = (struct client){ .fd = socket(AF_INET, SOCK_STREAM, 0), .next_xid = 1 };
		ck_assert_int_eq(connect(client.fd, (struct sockaddr *)&address, sizeof(address)), 0);
		ck_assert_int_eq(fcntl(client.fd, F_SETFL, O_NONBLOCK), 0);
		expect_reply(&client, call(&client, ECHO_NOW, 1), 1);
		ck_assert_uint_le(conn_count(servers[0]), room);
		client_close(&client);
		turns(3);
	}
	ck_assert_uint_gt(counters()->closed, 0);
	ck_assert_uint_eq(counters()->refused, 0);
	crowd_close(crowd, room);
	free(crowd);
}
END_TEST

/* A whole request that waits for room, in fragments, goes along as it came. */
START_TEST(who_waits_can_move)
{
	static struct client crowd[CROWD];
	uint8_t whole[RECORD_MARK_BYTES + HEADER + 4], bytes[100];
	struct client client = client_connect();
	uint32_t argument = htonl(RPC_DATA_MAX);
	uint64_t session = conn_facts(first_conn())->session, waited;

	crowd_connect(crowd, CROWD);
	for (size_t i = 0; i < CROWD; i++)
		call(&crowd[i], FILL_LATER, RPC_DATA_MAX);
	turns(200);
	waited = counters()->waited;
	make_call(whole, 9, FILL, &argument, sizeof(argument));
	record_mark_put(bytes, 10);
	bytes[0] = 0;
	memcpy(bytes + 4, whole + RECORD_MARK_BYTES, 10);
	record_mark_put(bytes + 14, HEADER + 4 - 10);
	memcpy(bytes + 18, whole + RECORD_MARK_BYTES + 10, HEADER + 4 - 10);
	send_bytes(&client, bytes, HEADER + 4 + 8);
	UNTIL(counters()->waited > waited);
	ck_assert_int_eq(quiesce(conn_find(servers[0], session)), 0);
	move(conn_find(servers[0], session), servers[1]);
	expect_silence(&client);
	for (size_t i = 0; i < CROWD; i++) {
		UNTIL(waiting_count > 0);
		answer(0);
	}
	expect_reply(&client, 9, 0x66666666);
	client_close(&client);
	crowd_close(crowd, CROWD);
}
END_TEST

/* A session that comes from another device is taken, however little is left, and goes on. */
START_TEST(a_session_comes_when_all_is_held)
{
	static struct client crowd[CROWD];
	static uint8_t output[CONN_OUTPUT_MAX];
	struct client client = client_connect();
	struct conn_state state;
	struct flow_key flow = *conn_flow(first_conn());
	struct kernel_helper_static fixed = *conn_fixed(first_conn());
	struct conn *conn;
	int fd;

	ck_assert_int_eq(quiesce(first_conn()), 0);
	ck_assert_int_eq(conn_export(first_conn(), &state), 0);
	fd = conn_surrender(first_conn());
	crowd_connect(crowd, CROWD);
	for (size_t i = 0; i < CROWD; i++)
		send_half(&crowd[i], RECORD_BYTES / 2);
	free(state.output);
	state.output = output;
	state.output_len = sizeof(output);
	ck_assert_int_eq(conn_import(servers[0], fd, &flow, &fixed, &state, CONN_WHOLE, &conn), 0);
	for (size_t got = 0; got < sizeof(output);) {
		static uint8_t bytes[1 << 16];
		ssize_t some = recv(client.fd, bytes, sizeof(bytes), 0);

		turn();
		got += some > 0 ? (size_t)some : 0;
	}
	expect_reply(&client, call(&client, ECHO_NOW, 5), 5);
	echo_long(&client);
	state.output = NULL;
	conn_state_fini(&state);
	client_close(&client);
	crowd_close(crowd, CROWD);
}
END_TEST

START_TEST(listening_can_fail)
{
	struct sockaddr_in address = listen_address();

	ck_assert_int_eq(conn_server_listen(servers[1], (struct sockaddr *)&address, sizeof(address)), -EADDRINUSE);
	address.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1 is nobody's */
	ck_assert_int_eq(conn_server_listen(servers[1], (struct sockaddr *)&address, sizeof(address)), -EADDRNOTAVAIL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("conn");
	TCase *tcase = tcase_create("conn"), *tight = tcase_create("tight");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	suite_add_tcase(suite, tight);
	tcase_add_checked_fixture(tight, setup_tight, teardown);
	tcase_set_timeout(tight, 60);
	tcase_add_test(tight, half_records_leave_room_for_others);
	tcase_add_test(tight, half_records_are_given_up);
	tcase_add_test(tight, nobody_is_given_up_without_need);
	tcase_add_test(tight, answers_nobody_takes_leave_room_for_others);
	tcase_add_test(tight, calls_of_those_who_left_count);
	tcase_add_test(tight, who_waits_for_us_is_not_given_up);
	tcase_add_test(tight, idle_connections_make_room);
	tcase_add_test(tight, who_waits_can_move);
	tcase_add_test(tight, a_session_comes_when_all_is_held);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_call_is_answered);
	tcase_add_test(tcase, ten_thousand_in_a_row);
	tcase_add_test(tcase, a_call_in_fragments_and_pieces);
	tcase_add_test(tcase, answers_in_any_order);
	tcase_add_loop_test(tcase, garbage_ends_the_connection, 0, 4);
	tcase_add_test(tcase, not_answering_ends_the_connection);
	tcase_add_loop_test(tcase, closing_and_resetting, 0, 2);
	tcase_add_test(tcase, closed_twice_in_one_turn);
	tcase_add_test(tcase, closed_with_calls_in_progress);
	tcase_add_test(tcase, closed_while_it_works);
	tcase_add_test(tcase, the_server_goes_with_calls_in_progress);
	tcase_add_test(tcase, calls_in_progress_are_limited);
	tcase_add_test(tcase, output_is_limited);
	tcase_add_test(tcase, fast_output_does_not_stop);
	tcase_add_test(tcase, output_to_come_is_limited);
	tcase_add_test(tcase, a_quiet_connection_reads_nothing);
	tcase_add_test(tcase, quiet_comes_after_the_last_answer);
	tcase_add_test(tcase, resumed_before_it_was_quiet);
	tcase_add_test(tcase, closed_before_it_was_quiet);
	tcase_add_test(tcase, who_has_closed_does_not_rest);
	tcase_add_test(tcase, quiet_in_the_middle_of_many);
	tcase_add_test(tcase, a_session_moves);
	tcase_add_loop_test(tcase, who_could_not_move_can_not_afterwards, false, true + 1);
	tcase_add_test(tcase, a_session_moves_with_what_waits);
	tcase_add_test(tcase, a_session_is_here_once);
	tcase_add_test(tcase, a_half_that_receives_keeps_its_answers);
	tcase_add_test(tcase, a_half_that_receives_is_bounded);
	tcase_add_test(tcase, a_half_that_receives_hears_the_client_close);
	tcase_add_test(tcase, a_half_is_taken_over_too_late);
	tcase_add_test(tcase, a_half_that_sends_answers);
	tcase_add_test(tcase, a_connection_drains);
	tcase_add_test(tcase, a_quiet_connection_writes_out);
	tcase_add_test(tcase, calls_after_a_half_came_back_may_be_repeated);
	tcase_add_test(tcase, a_connection_discards);
	tcase_add_test(tcase, no_request_is_lost_or_doubled);
	tcase_add_test(tcase, many_connections);
	tcase_add_test(tcase, listening_can_fail);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
