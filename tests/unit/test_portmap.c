/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a mount without explicit ports finds no server, or a reply leaves from another address than the
 * one the client asked and is thrown away.
 */
#include "config.h"

#include "common/portmap.h"
#include "common/udp.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <rpc/rpc.h>
#include <rpc/rpcb_prot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct portmap_row rows[] = {
	{ 100003, 3, IPPROTO_TCP, 2049 },
	{ 100003, 3, IPPROTO_UDP, 2050 },
	{ 100005, 1, IPPROTO_TCP, 2051 },
	{ 100005, 3, IPPROTO_TCP, 2052 },
	{ 0 },
};

static struct sockaddr_storage endpoint(const char *address, uint16_t port)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
	} else if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
	}
	return ss;
}

static void put_text(struct bytes_writer *w, const char *text)
{
	bytes_put_be32(w, (uint32_t)strlen(text));
	bytes_put(w, text, strlen(text));
	bytes_put(w, "\0\0", -strlen(text) & 3);
}

static struct bytes_writer call_begin(uint8_t *record, size_t size, uint32_t version, uint32_t procedure)
{
	struct bytes_writer w = bytes_writer_init(record, size);
	const uint32_t header[] = { 7, 0, 2, PORTMAP_PROGRAM, version, procedure, 0, 0, 0, 0 };

	for (size_t i = 0; i < sizeof(header) / sizeof(header[0]); i++)
		bytes_put_be32(&w, header[i]);
	return w;
}

static void on_done(struct rpc_call *call)
{
	(void)call;
}

/* The reply's accept status, and @results behind it. */
static uint32_t ask(struct rpc_call *call, struct bytes_reader *results)
{
	struct rpc_program programs[] = { portmap_program(rows), { 0 } };
	struct rpc_server server = { .programs = programs };

	call->done = on_done;
	rpc_dispatch(&server, call);
	*results = bytes_reader_init(call->reply + RPC_REPLY_HEADROOM, call->reply_len);
	ck_assert_ptr_nonnull(bytes_take(results, 5 * 4));
	return bytes_get_be32(results);
}

static const struct {
	uint32_t program, version, protocol, port;
} ports[] = {
	{ 100003, 3, IPPROTO_TCP, 2049 }, { 100003, 3, IPPROTO_UDP, 2050 }, { 100005, 1, IPPROTO_TCP, 2051 },
	{ 100005, 3, IPPROTO_TCP, 2052 }, { 100005, 3, IPPROTO_UDP, 0 },
	{ 100003, 4, IPPROTO_TCP, 2049 }, /* asked there, NFS says which versions it has */
	{ 100021, 4, IPPROTO_TCP, 0 },
};

START_TEST(getport)
{
	uint8_t record[200];
	struct bytes_writer w = call_begin(record, sizeof(record), 2, 3);
	struct rpc_call call = { .record = record };
	struct bytes_reader results;

	bytes_put_be32(&w, ports[_i].program);
	bytes_put_be32(&w, ports[_i].version);
	bytes_put_be32(&w, ports[_i].protocol);
	bytes_put_be32(&w, 0);
	call.record_len = w.written;
	ck_assert_uint_eq(ask(&call, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(bytes_get_be32(&results), ports[_i].port);
	ck_assert_uint_eq(results.left, 0);
	rpc_call_fini(&call);
}
END_TEST

static const struct {
	uint32_t rpcb_version, procedure, program, version;
	const char *netid, *server, *address;
	enum rpc_transport transport;
} addresses[] = {
	{ 4, 3, 100003, 3, "tcp", "10.0.0.1", "10.0.0.1.8.1", RPC_TCP },
	{ 4, 3, 100003, 3, "udp", "10.0.0.1", "10.0.0.1.8.2", RPC_TCP },
	{ 3, 3, 100003, 3, "tcp", "::ffff:10.0.0.1", "10.0.0.1.8.1", RPC_TCP },
	{ 4, 3, 100003, 3, "tcp6", "fd00::1", "fd00::1.8.1", RPC_TCP },
	{ 4, 3, 100003, 3, "tcp6", "10.0.0.1", "", RPC_TCP },
	{ 4, 3, 100003, 3, "tcp", "fd00::1", "", RPC_TCP },
	{ 4, 3, 100003, 3, "", "10.0.0.1", "10.0.0.1.8.2", RPC_UDP },
	{ 4, 3, 100003, 3, "ticlts", "10.0.0.1", "", RPC_UDP },
	{ 4, 3, 100003, 4, "tcp", "10.0.0.1", "10.0.0.1.8.1", RPC_TCP },
	{ 4, 9, 100003, 4, "tcp", "10.0.0.1", "", RPC_TCP },
	{ 4, 9, 100005, 1, "tcp", "10.0.0.1", "10.0.0.1.8.3", RPC_TCP },
	{ 4, 3, 100021, 4, "tcp", "10.0.0.1", "", RPC_TCP },
};

START_TEST(getaddr)
{
	uint8_t record[200];
	struct bytes_writer w = call_begin(record, sizeof(record), addresses[_i].rpcb_version,
					   addresses[_i].procedure);
	struct rpc_call call = {
		.record = record,
		.transport = addresses[_i].transport,
		.server = endpoint(addresses[_i].server, 111),
	};
	struct bytes_reader results;
	size_t len = strlen(addresses[_i].address);

	bytes_put_be32(&w, addresses[_i].program);
	bytes_put_be32(&w, addresses[_i].version);
	put_text(&w, addresses[_i].netid);
	put_text(&w, "");
	put_text(&w, "");
	call.record_len = w.written;
	ck_assert_uint_eq(ask(&call, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(bytes_get_be32(&results), len);
	ck_assert_mem_eq(bytes_take(&results, len), addresses[_i].address, len);
	rpc_call_fini(&call);
}
END_TEST

/* Calls without arguments: the accept status, and how long the results are. */
static const struct {
	uint32_t version, procedure, status;
	size_t results;
} plain[] = {
	{ 2, 0, RPC_ACCEPT_SUCCESS, 0 },
	{ 4, 0, RPC_ACCEPT_SUCCESS, 0 },
	{ 2, 1, RPC_ACCEPT_SUCCESS, 4 }, /* SET and UNSET: no */
	{ 4, 2, RPC_ACCEPT_SUCCESS, 4 },
	{ 2, 3, RPC_ACCEPT_GARBAGE_ARGS, 0 },
	{ 3, 3, RPC_ACCEPT_GARBAGE_ARGS, 0 },
	{ 2, 4, RPC_ACCEPT_SUCCESS, 4 * 20 + 4 },
	{ 2, 5, RPC_ACCEPT_PROC_UNAVAIL, 0 }, /* CALLIT */
	{ 3, 5, RPC_ACCEPT_PROC_UNAVAIL, 0 },
	{ 3, 6, RPC_ACCEPT_SUCCESS, 4 },
	{ 3, 9, RPC_ACCEPT_PROC_UNAVAIL, 0 },
	{ 4, 10, RPC_ACCEPT_PROC_UNAVAIL, 0 },
};

START_TEST(plain_calls)
{
	uint8_t record[200];
	struct bytes_writer w = call_begin(record, sizeof(record), plain[_i].version, plain[_i].procedure);
	struct rpc_call call = { .record = record, .record_len = w.written };
	struct bytes_reader results;

	ck_assert_uint_eq(ask(&call, &results), plain[_i].status);
	ck_assert_uint_eq(results.left, plain[_i].results);
	rpc_call_fini(&call);
}
END_TEST

START_TEST(rpcbind_dump_is_what_libtirpc_reads)
{
	uint8_t record[200];
	struct bytes_writer w = call_begin(record, sizeof(record), 4, 4);
	struct rpc_call call = { .record = record, .record_len = w.written };
	struct bytes_reader results;
	rpcblist_ptr list = NULL;
	unsigned int count = 0;
	XDR xdr;

	ck_assert_uint_eq(ask(&call, &results), RPC_ACCEPT_SUCCESS);
	xdrmem_create(&xdr, (char *)results.p, (u_int)results.left, XDR_DECODE);
	ck_assert(xdr_rpcblist_ptr(&xdr, &list));
	ck_assert_uint_eq(xdr_getpos(&xdr), results.left);
	ck_assert_str_eq(list->rpcb_map.r_netid, "tcp");
	ck_assert_str_eq(list->rpcb_map.r_addr, "0.0.0.0.8.1");
	for (rpcblist_ptr at = list; at; at = at->rpcb_next)
		count++;
	ck_assert_uint_eq(count, 8);
	xdr_free((xdrproc_t)xdr_rpcblist_ptr, &list);
	rpc_call_fini(&call);
}
END_TEST

/*
 * Whole calls and replies, word for word: RFC 5531 (8, 9) around RFC 1833 (3, version 2; 2.1, versions 3 and 4).
 */
#define GOLDEN_CALL(version, procedure)                                                                                \
	/* xid, CALL, RPC version */ 0x01020304, 0, 2, 100000, version, procedure,                                     \
	/* AUTH_NONE, length; twice */ 0, 0, 0, 0
#define GOLDEN_REPLY(accept_stat) /* xid, REPLY, MSG_ACCEPTED, AUTH_NONE, length */ 0x01020304, 1, 0, 0, 0, accept_stat
#define GOLDEN_END 0xfeedbeef
enum { GOLDEN_WORDS = 48 };

static const struct {
	const char *what;
	uint32_t call[GOLDEN_WORDS], reply[GOLDEN_WORDS];
} golden[] = {
	{ "GETPORT",
	  { GOLDEN_CALL(2, 3), /* program, version, TCP, port */ 100003, 3, 6, 0, GOLDEN_END },
	  { GOLDEN_REPLY(0), 2049, GOLDEN_END } },
	{ "DUMP, version 2",
	  { GOLDEN_CALL(2, 4), GOLDEN_END },
	  { GOLDEN_REPLY(0), 1, 100003, 3, 6, 2049, 1, 100003, 3, 17, 2050, 1, 100005, 1, 6, 2051, 1, 100005, 3, 6, 2052,
	    /* no more */ 0, GOLDEN_END } },
	{ "GETADDR, version 3", /* "tcp", no address, no owner */
	  { GOLDEN_CALL(3, 3), 100003, 3, 3, 0x74637000, 0, 0, GOLDEN_END },
	  { GOLDEN_REPLY(0), /* "10.0.0.1.8.1" */ 12, 0x31302e30, 0x2e302e31, 0x2e382e31, GOLDEN_END } },
	{ "GETADDR, version 4, of a program that is not here",
	  { GOLDEN_CALL(4, 3), 100099, 3, 3, 0x74637000, 0, 0, GOLDEN_END },
	  { GOLDEN_REPLY(0), /* "" */ 0, GOLDEN_END } },
	{ "a version that is not served",
	  { GOLDEN_CALL(5, 0), GOLDEN_END },
	  { GOLDEN_REPLY(/* PROG_MISMATCH: from, to */ 2), 2, 4, GOLDEN_END } },
};

static size_t golden_put(const uint32_t *words, uint8_t *out)
{
	struct bytes_writer w = bytes_writer_init(out, GOLDEN_WORDS * 4);

	for (; *words != GOLDEN_END; words++)
		bytes_put_be32(&w, *words);
	return w.written;
}

START_TEST(records_are_golden)
{
	struct rpc_program programs[] = { portmap_program(rows), { 0 } };
	struct rpc_server server = { .programs = programs };
	uint8_t record[GOLDEN_WORDS * 4], reply[GOLDEN_WORDS * 4];
	struct rpc_call call = { .record = record,
				 .record_len = golden_put(golden[_i].call, record),
				 .server = endpoint("10.0.0.1", 111),
				 .done = on_done };
	size_t len = golden_put(golden[_i].reply, reply);

	rpc_dispatch(&server, &call);
	ck_assert_msg(call.reply_len == len, "%s: %zu bytes", golden[_i].what, call.reply_len);
	for (size_t at = 0; at < len; at++)
		ck_assert_msg(call.reply[RPC_REPLY_HEADROOM + at] == reply[at], "%s: word %zu is another",
			      golden[_i].what, at / 4);
	rpc_call_fini(&call);
}
END_TEST

/* Where the server is bound, and where the client asks; the answer must come from there. */
static const struct {
	const char *bound, *asked;
} sockets[] = {
	{ "127.0.0.1", "127.0.0.1" },
	{ "0.0.0.0", "127.0.0.3" },
	{ "::", "::1" },
};

START_TEST(replies_leave_from_the_address_asked)
{
	struct rpc_program programs[] = { portmap_program(rows), { 0 } };
	struct rpc_server rpc = { .programs = programs };
	struct sockaddr_storage bound = endpoint(sockets[_i].bound, 0), asked = endpoint(sockets[_i].asked, 0), from;
	socklen_t len = bound.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	struct event_base *base = event_base_new();
	struct udp_server *server;
	uint8_t record[200], reply[200];
	struct bytes_writer w = call_begin(record, sizeof(record), 2, 0);
	int fd = socket(bound.ss_family, SOCK_DGRAM, 0);
	int rc = udp_server_new(base, (struct sockaddr *)&bound, len, &rpc, &server);

	if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL)
		return; /* no IPv6 here */
	ck_assert_int_eq(rc, 0);
	((struct sockaddr_in *)&asked)->sin_port = ((const struct sockaddr_in *)udp_server_address(server))->sin_port;
	ck_assert_int_eq(sendto(fd, record, w.written, 0, (struct sockaddr *)&asked, len), w.written);
	ck_assert_int_eq(sendto(fd, "?", 1, 0, (struct sockaddr *)&asked, len), 1); /* not answered */
	/* On a busy machine a datagram takes its time, even on lo; Check limits ours. */
	while (udp_server_counters(server)->received < 2)
		event_base_loop(base, EVLOOP_ONCE);
	memset(&from, 0, sizeof(from));
	ck_assert_int_eq(recvfrom(fd, reply, sizeof(reply), 0, (struct sockaddr *)&from, &len), 24);
	ck_assert_mem_eq(&from, &asked, len);
	ck_assert_int_lt(recv(fd, reply, sizeof(reply), MSG_DONTWAIT), 0);
	ck_assert_uint_eq(udp_server_counters(server)->received, 2);
	ck_assert_uint_eq(udp_server_counters(server)->sent, 1);
	udp_server_free(server);
	event_base_free(base);
	close(fd);
}
END_TEST

static struct rpc_call *kept;

static void keep(const struct rpc_program *program, struct rpc_call *call)
{
	(void)program;
	kept = call;
}

START_TEST(a_call_may_outlive_its_server)
{
	struct rpc_program programs[] = { { .number = PORTMAP_PROGRAM, .version_high = 9, .dispatch = keep }, { 0 } };
	struct rpc_server rpc = { .programs = programs };
	struct sockaddr_storage bound = endpoint("127.0.0.1", 0);
	struct event_base *base = event_base_new();
	struct udp_server *server;
	uint8_t record[200];
	struct bytes_writer w = call_begin(record, sizeof(record), 2, 0);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	ck_assert_int_eq(udp_server_new(base, (struct sockaddr *)&bound, sizeof(struct sockaddr_in), &rpc, &server), 0);
	sendto(fd, record, w.written, 0, (const struct sockaddr *)udp_server_address(server),
	       sizeof(struct sockaddr_in));
	event_base_loop(base, EVLOOP_ONCE);
	udp_server_free(server);
	ck_assert_ptr_nonnull(kept);
	rpc_reply_error(kept, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
	event_base_free(base);
	close(fd);
}
END_TEST

START_TEST(no_rpcbind_is_said_at_once)
{
	ck_assert_int_eq(portmap_register("/nonexistent/rpcbind.sock", rows), -ENOENT);
	ck_assert_int_eq(portmap_unregister("/nonexistent/rpcbind.sock", rows), -ENOENT);
}
END_TEST

/* Answers @count calls on @listener with @answer; exits with how many were SET. */
static void play_rpcbind(int listener, uint32_t answer)
{
	int fd = accept(listener, NULL, NULL), sets = 0;
	uint32_t mark;

	while (recv(fd, &mark, 4, MSG_WAITALL) == 4) {
		uint8_t call[1000], reply[32];
		size_t len = ntohl(mark) & 0x7fffffff;
		struct bytes_writer w = bytes_writer_init(reply, sizeof(reply));

		if (len > sizeof(call) || recv(fd, call, len, MSG_WAITALL) != (ssize_t)len)
			_exit(99);
		sets += call[23] == RPCBPROC_SET;
		bytes_put_be32(&w, 0x80000000 | 28);
		bytes_put(&w, call, 4);
		bytes_put_be32(&w, 1);
		for (int i = 0; i < 4; i++)
			bytes_put_be32(&w, 0);
		bytes_put_be32(&w, answer);
		if (send(fd, reply, w.written, 0) < 0)
			_exit(98);
	}
	_exit(sets);
}

static int register_at(uint32_t answer, bool wanted, int *sets)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), status, rc;
	char dir[] = "/tmp/test_portmapXXXXXX";
	pid_t child;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", dir);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	child = fork();
	if (child == 0)
		play_rpcbind(listener, answer);
	rc = wanted ? portmap_register(address.sun_path, rows) : portmap_unregister(address.sun_path, rows);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	*sets = WEXITSTATUS(status);
	unlink(address.sun_path);
	rmdir(dir);
	close(listener);
	return rc;
}

START_TEST(registration)
{
	int sets;

	ck_assert_int_eq(register_at(true, true, &sets), 0);
	ck_assert_int_eq(sets, 8); /* four rows, two families */
	ck_assert_int_eq(register_at(false, true, &sets), -EPERM);
	ck_assert_int_eq(register_at(false, false, &sets), 0);
	ck_assert_int_eq(sets, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("portmap");
	TCase *tc = tcase_create("portmap");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, getport, 0, sizeof(ports) / sizeof(ports[0]));
	tcase_add_loop_test(tc, getaddr, 0, sizeof(addresses) / sizeof(addresses[0]));
	tcase_add_loop_test(tc, plain_calls, 0, sizeof(plain) / sizeof(plain[0]));
	tcase_add_loop_test(tc, records_are_golden, 0, sizeof(golden) / sizeof(golden[0]));
	tcase_add_test(tc, rpcbind_dump_is_what_libtirpc_reads);
	tcase_add_loop_test(tc, replies_leave_from_the_address_asked, 0, sizeof(sockets) / sizeof(sockets[0]));
	tcase_add_test(tc, a_call_may_outlive_its_server);
	tcase_add_test(tc, no_rpcbind_is_said_at_once);
	tcase_add_test(tc, registration);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
