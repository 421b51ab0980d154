/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client never hears that it got a lock or that the server restarted. Client and port mapper are real
 * sockets of this process.
 */
#include "config.h"

#include "common/client_caller.h"

#include "common/conn.h"
#include "common/conn_memory.h"
#include "common/udp.h"

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRAM = 100021, CALL_VERSION = 4, PROCEDURE = 5 };

static const uint8_t loopback[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 };
static const uint8_t other_loopback[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 2 };

static struct event_base *base;
static struct udp_server *udp;
static struct conn_server *tcp;
static struct conn_memory *memory;
static struct client_caller *caller;
static uint16_t port, told_port, told_tcp_port; /* of our client's sockets; what its port mapper says */
static uint32_t portmap_calls, program_calls, ignored; /* the first of them are not answered */
static uint32_t from_address;
static enum rpc_transport transport;
static bool is_mute; /* takes calls, and never answers */
static struct rpc_call *muted;

static int answers, answered_result;
static uint8_t answered[16];
static size_t answered_len;

static void reply_number(struct rpc_call *call, uint32_t number)
{
	struct bytes_writer out;

	ck_assert_int_eq(rpc_reply_begin(call, 4, &out), 0);
	bytes_put_be32(&out, number);
	rpc_reply_end(call, &out);
}

static void on_portmap(const struct rpc_program *program, struct rpc_call *call)
{
	struct bytes_reader r = call->args;
	uint32_t protocol;

	(void)program;
	ck_assert_uint_eq(call->procedure, 3);
	ck_assert_uint_eq(bytes_get_be32(&r), PROGRAM);
	ck_assert_uint_eq(bytes_get_be32(&r), CALL_VERSION);
	protocol = bytes_get_be32(&r);
	ck_assert(protocol == IPPROTO_UDP || protocol == IPPROTO_TCP);
	if (portmap_calls++ < ignored)
		rpc_reply_nothing(call);
	else
		reply_number(call, protocol == IPPROTO_UDP ? told_port : told_tcp_port);
}

static void on_program(const struct rpc_program *program, struct rpc_call *call)
{
	(void)program;
	ck_assert_uint_eq(call->procedure, PROCEDURE);
	ck_assert_uint_eq(call->args.left, 4);
	ck_assert_mem_eq(call->args.p, "args", 4);
	from_address = ntohl(((struct sockaddr_in *)&call->client)->sin_addr.s_addr);
	transport = call->transport;
	if (program_calls++ < ignored)
		rpc_reply_nothing(call);
	else if (is_mute)
		muted = call;
	else
		reply_number(call, 4711);
}

static const struct rpc_program programs[] = {
	{ .number = 100000, .version_low = 2, .version_high = 2, .dispatch = on_portmap },
	{ .number = PROGRAM, .version_low = CALL_VERSION, .version_high = CALL_VERSION, .dispatch = on_program },
	{ 0 },
};
static struct rpc_server server = { .programs = programs };

static void setup(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	base = event_base_new();
	ck_assert_int_eq(udp_server_new(base, (struct sockaddr *)&address, sizeof(address), &server, &udp), 0);
	port = told_port = ntohs(((const struct sockaddr_in *)udp_server_address(udp))->sin_port);
	caller = client_caller_new(base, port);
	told_tcp_port = 0;
	portmap_calls = program_calls = ignored = 0;
	is_mute = false;
	answers = 0;
}

static bool on_accept(int fd, struct kernel_helper_static *fixed, void *arg)
{
	(void)fd, (void)fixed, (void)arg;
	return false; /* it stays here */
}

static void on_work(struct conn *conn, const struct rpc_call *call, void *arg)
{
	(void)conn, (void)call, (void)arg;
}

static void on_closed(uint64_t session, void *arg)
{
	(void)session, (void)arg;
}

/* From now on the client's program listens on TCP only. */
static void turn_to_tcp(void)
{
	static const struct conn_handlers handlers = { .on_accept = on_accept, .on_work = on_work, .on_closed = on_closed };
	struct conn_part_options part = { .rpc = &server };
	struct conn_server_options options = {
		.base = base,
		.self = 1,
		.handlers = &handlers,
		.parts = &part,
		.part_count = 1,
	};
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	memory = part.memory = conn_memory_new(base, NULL, 0, 1);
	tcp = conn_server_new(&options);
	for (told_tcp_port = port; told_tcp_port; told_tcp_port++) {
		address.sin_port = htons(told_tcp_port);
		if (conn_server_listen(tcp, (struct sockaddr *)&address, sizeof(address)) == 0)
			break;
	}
	ck_assert_uint_ne(told_tcp_port, 0);
	told_port = 0;
}

static void teardown(void)
{
	client_caller_free(caller);
	if (muted)
		rpc_reply_nothing(muted);
	muted = NULL;
	if (tcp)
		conn_server_free(tcp);
	tcp = NULL;
	conn_memory_free(memory);
	memory = NULL;
	if (udp)
		udp_server_free(udp);
	event_base_free(base);
}

static void on_answer(uint64_t id, int result, const uint8_t *results, size_t len, void *arg)
{
	ck_assert_uint_eq(id, 12345);
	ck_assert_ptr_eq(arg, &answers);
	answers++;
	answered_result = result;
	answered_len = len;
	if (len)
		memcpy(answered, results, len < sizeof(answered) ? len : sizeof(answered));
	if (base)
		event_base_loopbreak(base);
}

static void start_call(const uint8_t vip[static 16])
{
	struct client_call call = { .program = PROGRAM, .version = CALL_VERSION, .procedure = PROCEDURE,
				    .args = (const uint8_t *)"args", .args_len = 4 };
	struct client_call_done done = { .fn = on_answer, .arg = &answers, .id = 12345 };

	memcpy(call.client, loopback, 16);
	memcpy(call.vip, vip, 16);
	client_caller_call(&call, &done, caller);
}

START_TEST(a_call_leaves_from_the_vip_and_is_answered)
{
	start_call(other_loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answers, 1);
	ck_assert_int_eq(answered_result, 0);
	ck_assert_uint_eq(answered_len, 4);
	ck_assert_mem_eq(answered, "\0\0\x12\x67", 4);
	ck_assert_uint_eq(from_address, 0x7f000002);
	ck_assert_uint_eq(portmap_calls, 1);
	ck_assert_uint_eq(program_calls, 1);
}
END_TEST

START_TEST(what_is_lost_is_sent_again)
{
	ignored = 1;
	start_call(loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, 0);
	ck_assert_uint_ge(portmap_calls, 2);
	ck_assert_uint_ge(program_calls, 2);
}
END_TEST

START_TEST(a_silent_client_is_given_up)
{
	ignored = 1000;
	start_call(loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, -ETIMEDOUT);
	ck_assert_uint_eq(portmap_calls, CLIENT_CALLER_TRIES);
}
END_TEST

START_TEST(a_program_that_is_not_there)
{
	told_port = 0;
	start_call(loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, -ENOENT);
	ck_assert_uint_eq(portmap_calls, 2); /* it might be there over TCP */
	ck_assert_uint_eq(program_calls, 0);
}
END_TEST

START_TEST(a_program_that_is_there_over_tcp_only)
{
	turn_to_tcp();
	start_call(other_loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, 0);
	ck_assert_uint_eq(answered_len, 4);
	ck_assert_mem_eq(answered, "\0\0\x12\x67", 4);
	ck_assert_int_eq(transport, RPC_TCP);
	ck_assert_uint_eq(from_address, 0x7f000002);
	ck_assert_uint_eq(program_calls, 1);
}
END_TEST

/* ... and the port mapper listens on TCP as well, at its port of UDP. */
static void turn_port_mapper_to_tcp(void)
{
	turn_to_tcp();
	for (int i = 0; told_tcp_port != port && i < 20; i++) { /* somebody else on this machine had it over TCP */
		teardown();
		setup();
		turn_to_tcp();
	}
	ck_assert_uint_eq(told_tcp_port, port);
}

/* Neither it nor the port mapper is there over UDP. */
START_TEST(a_client_over_tcp_only)
{
	turn_port_mapper_to_tcp();
	udp_server_free(udp);
	udp = NULL;
	start_call(other_loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, 0);
	ck_assert_mem_eq(answered, "\0\0\x12\x67", 4);
	ck_assert_int_eq(transport, RPC_TCP);
	ck_assert_uint_eq(from_address, 0x7f000002);
	ck_assert_uint_eq(portmap_calls, 1);
	ck_assert_uint_eq(program_calls, 1);
}
END_TEST

/* ... or its firewall says nothing to what comes over UDP. */
START_TEST(a_port_mapper_that_is_silent_over_udp)
{
	turn_port_mapper_to_tcp();
	ignored = CLIENT_CALLER_TRIES;
	program_calls = ignored;
	start_call(loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, 0);
	ck_assert_uint_eq(portmap_calls, CLIENT_CALLER_TRIES + 1);
}
END_TEST

START_TEST(a_program_that_does_not_answer_over_tcp)
{
	turn_to_tcp();
	is_mute = true;
	start_call(loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, -ETIMEDOUT);
	ck_assert_uint_eq(program_calls, 1);
}
END_TEST

/* The client closes the connection instead of answering. */
START_TEST(a_program_that_hangs_up)
{
	turn_to_tcp();
	ignored = 1;
	start_call(loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, -ECONNRESET);
}
END_TEST

START_TEST(a_port_of_tcp_where_nothing_listens)
{
	turn_to_tcp();
	conn_server_free(tcp);
	tcp = NULL;
	start_call(loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, -ECONNREFUSED);
	ck_assert_uint_eq(program_calls, 0);
}
END_TEST

/* A call over TCP that is on its way when the service ends. */
START_TEST(a_connection_ends_with_the_caller)
{
	turn_to_tcp();
	is_mute = true;
	start_call(loopback);
	while (!program_calls)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(answers, 0);
}
END_TEST

START_TEST(a_client_without_a_port_mapper)
{
	udp_server_free(udp);
	udp = NULL;
	start_call(loopback);
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, -ECONNREFUSED);
}
END_TEST

START_TEST(an_address_that_is_not_ours)
{
	static const uint8_t strange[16] = { [10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 1 };

	start_call(strange);
	ck_assert_int_eq(answers, 0); /* later */
	event_base_dispatch(base);
	ck_assert_int_eq(answered_result, -EADDRNOTAVAIL);
}
END_TEST

START_TEST(so_many_at_once)
{
	ignored = 1000000;
	for (int i = 0; i < CLIENT_CALLER_CALLS_MAX; i++)
		start_call(loopback);
	ck_assert_int_eq(answers, 0);
	start_call(loopback);
	ck_assert_int_eq(answers, 1);
	ck_assert_int_eq(answered_result, -EAGAIN);
}
END_TEST

/* What rpcbind says, and the port in it; 0: none. */
static const struct {
	const char *universal;
	uint16_t port;
} universals[] = {
	{ "10.0.0.1.8.1", 2049 }, { "::1.0.111", 111 }, { "fe80::1.255.255", 65535 }, { "", 0 },
	{ "10.0.0.1.0.0", 0 },	  { "::1.256.1", 0 },	{ "8.1", 0 },		      { "::1.8.", 0 },
	{ "::1.8.1x", 0 },	  { "nonsense", 0 },
};

START_TEST(ports_in_universal_addresses)
{
	uint8_t bytes[64];
	struct bytes_writer w = bytes_writer_init(bytes, sizeof(bytes));
	size_t len = strlen(universals[_i].universal);
	uint16_t found = 0;
	int rc;

	bytes_put_be32(&w, (uint32_t)len);
	bytes_put(&w, universals[_i].universal, len);
	bytes_put(&w, "\0\0", -len & 3);
	rc = client_caller_parse_port(bytes, w.written, true, &found);
	ck_assert_msg((rc == 0) == (universals[_i].port != 0) && found == universals[_i].port, "\"%s\": %d, %u",
		      universals[_i].universal, rc, found);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_caller");
	TCase *tcase = tcase_create("client_caller");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_call_leaves_from_the_vip_and_is_answered);
	tcase_add_test(tcase, what_is_lost_is_sent_again);
	tcase_add_test(tcase, a_silent_client_is_given_up);
	tcase_add_test(tcase, a_program_that_is_not_there);
	tcase_add_test(tcase, a_program_that_is_there_over_tcp_only);
	tcase_add_test(tcase, a_client_over_tcp_only);
	tcase_add_test(tcase, a_port_mapper_that_is_silent_over_udp);
	tcase_add_test(tcase, a_program_that_does_not_answer_over_tcp);
	tcase_add_test(tcase, a_program_that_hangs_up);
	tcase_add_test(tcase, a_port_of_tcp_where_nothing_listens);
	tcase_add_test(tcase, a_connection_ends_with_the_caller);
	tcase_add_test(tcase, a_client_without_a_port_mapper);
	tcase_add_test(tcase, an_address_that_is_not_ours);
	tcase_add_test(tcase, so_many_at_once);
	tcase_add_loop_test(tcase, ports_in_universal_addresses, 0, sizeof(universals) / sizeof(universals[0]));
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
