/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, quota(1) on a client shows wrong numbers, none, or somebody else's. Where the numbers come from is tested
 * in test_local.c.
 */
#include "config.h"

#include "common/file_service_internal.h"
#include "common/rquota_xdr.h"
#include "tests/unit/fake_volume.h"
#include "tests/unit/golden_hex.h"

#include <arpa/inet.h>
#include <check.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

enum { ALICE = 1000, BOB = 1001, GET = 1, GET_ACTIVE = 2, SET = 3, REFUSED = 100 };

static struct namespace *ns;
static struct volume *volume;
static struct file_service *service;
static struct rpc_server server;
static struct rpc_call last;
static uint32_t relayed_to;
static struct event_base *base;
static bool is_done;

/* These take the place of the C library's in this program: every host is 192.0.2.1, or nobody knows. */
static int lookup_error;
static struct sockaddr_in host_address = { .sin_family = AF_INET };
static struct addrinfo host = { .ai_family = AF_INET, .ai_addr = (struct sockaddr *)&host_address };

int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints, struct addrinfo **found)
{
	(void)name, (void)port, (void)hints;
	inet_pton(AF_INET, "192.0.2.1", &host_address.sin_addr);
	*found = &host;
	return lookup_error;
}

void freeaddrinfo(struct addrinfo *found)
{
	(void)found;
}

static struct volume *find_volume(uint32_t id, void *arg)
{
	(void)arg;
	return id == volume->id ? volume : NULL;
}

static void relay(uint32_t node, struct rpc_call *call, void *arg)
{
	(void)arg;
	relayed_to = node;
	file_service_unreachable(call);
}

static void setup(void)
{
	struct file_service_options options = { .self = 1, .find_volume = find_volume, .relay = relay };
	static struct rpc_program programs[FILE_SERVICE_PROGRAMS + 1];
	size_t count;

	base = event_base_new();
	options.base = base;
	lookup_error = 0;
	options.ns = ns = fake_namespace_new();
	volume = fake_volume_new();
	service = file_service_new(&options);
	memcpy(programs, file_service_programs(service, &count), sizeof(programs[0]) * FILE_SERVICE_PROGRAMS);
	server.programs = programs;
	relayed_to = 0;
}

static void teardown(void)
{
	rpc_call_fini(&last);
	file_service_free(service);
	fake_volume_free(volume);
	namespace_free(ns);
	event_base_free(base);
}

static void on_done(struct rpc_call *call)
{
	(void)call;
	is_done = true;
}

struct asker {
	const char *address;
	uint16_t port;
	uint32_t uid, gid, group;
};

/* Return: what stands behind the accept status, or REFUSED + that status */
static uint32_t call(const struct asker *asker, uint32_t version, uint32_t procedure, const void *args, size_t len,
		     struct bytes_reader *results)
{
	static uint8_t record[2048];
	struct bytes_writer w = bytes_writer_init(record, sizeof(record));
	const uint32_t header[] = { 1, 0, 2, RQUOTA_PROGRAM, version, procedure, RPC_AUTH_SYS, 24, 0, 0, asker->uid,
				    asker->gid, 1, asker->group, 0, 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&last.client;
	uint32_t accepted;

	rpc_call_fini(&last);
	for (size_t i = 0; i < sizeof(header) / sizeof(header[0]); i++)
		bytes_put_be32(&w, header[i]);
	bytes_put(&w, args, len);
	last = (struct rpc_call){ .record = record, .record_len = w.written, .done = on_done };
	in->sin_family = AF_INET;
	in->sin_port = htons(asker->port);
	inet_pton(AF_INET, asker->address, &in->sin_addr);
	is_done = false;
	rpc_dispatch(&server, &last);
	while (!is_done)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	*results = bytes_reader_init(last.reply + RPC_REPLY_HEADROOM, last.reply_len);
	bytes_take(results, 5 * 4);
	accepted = bytes_get_be32(results);
	if (accepted)
		return REFUSED + accepted;
	return bytes_get_be32(&(struct bytes_reader){ results->p, results->left, false });
}

static uint32_t ask(const struct asker *asker, const char *path, int kind, uint32_t id, struct bytes_reader *results)
{
	ext_getquota_args args = { { (u_int)strlen(path), (char *)path }, kind, (int)id };
	char bytes[1200];
	XDR xdr;

	xdrmem_create(&xdr, bytes, sizeof(bytes), XDR_ENCODE);
	ck_assert(xdr_ext_getquota_args(&xdr, &args));
	return call(asker, 2, GET, bytes, xdr_getpos(&xdr), results);
}

static const struct {
	const char *what, *path;
	struct asker asker;
	int kind;
	uint32_t id, status;
} questions[] = {
	{ "one's own", "/disk0", { "10.9.0.1", 40000, ALICE, 100, 50 }, BACKEND_QUOTA_USER, ALICE, RQUOTA_OK },
	{ "below the volume's root", "/disk0/home/alice", { "10.9.0.1", 40000, ALICE, 100, 50 }, 0, ALICE, RQUOTA_OK },
	{ "from an export for privileged ports only", "/disk0", { "10.0.0.1", 40000, ALICE, 100, 50 }, 0, ALICE, RQUOTA_OK },
	{ "another's", "/disk0", { "10.9.0.1", 700, BOB, 100, 50 }, BACKEND_QUOTA_USER, ALICE, RQUOTA_EPERM },
	{ "root's", "/disk0", { "10.9.0.1", 700, ALICE, 100, 50 }, BACKEND_QUOTA_USER, 0, RQUOTA_EPERM },
	{ "anybody's, by root", "/disk0", { "10.0.0.1", 700, 0, 0, 0 }, BACKEND_QUOTA_USER, ALICE, RQUOTA_OK },
	{ "nobody's", "/disk0", { "10.9.0.1", 700, BOB, 100, 50 }, BACKEND_QUOTA_USER, BOB, RQUOTA_NOQUOTA },
	{ "one's group's", "/disk0", { "10.9.0.1", 700, ALICE, 100, 50 }, BACKEND_QUOTA_GROUP, 100, RQUOTA_NOQUOTA },
	{ "another of one's groups'", "/disk0", { "10.9.0.1", 700, ALICE, 100, 50 }, 1, 50, RQUOTA_NOQUOTA },
	{ "another group's", "/disk0", { "10.9.0.1", 700, ALICE, 100, 50 }, BACKEND_QUOTA_GROUP, 51, RQUOTA_EPERM },
	{ "of the virtual root", "/", { "10.9.0.1", 700, 0, 0, 0 }, BACKEND_QUOTA_USER, ALICE, RQUOTA_NOQUOTA },
	{ "without a path", "", { "10.9.0.1", 700, 0, 0, 0 }, BACKEND_QUOTA_USER, ALICE, RQUOTA_NOQUOTA },
	{ "of nothing", "/none", { "10.9.0.1", 700, 0, 0, 0 }, BACKEND_QUOTA_USER, ALICE, RQUOTA_NOQUOTA },
	{ "by a stranger", "/disk0", { "192.168.0.1", 700, 0, 0, 0 }, BACKEND_QUOTA_USER, ALICE, RQUOTA_EPERM },
	{ "a kind that there is not", "/disk0", { "10.9.0.1", 700, 0, 0, 0 }, 2, 0, REFUSED + RPC_ACCEPT_GARBAGE_ARGS },
	{ "of a disk that is away", "/gone", { "10.9.0.1", 700, 0, 0, 0 }, 0, 0, REFUSED + RPC_ACCEPT_SYSTEM_ERR },
};

static void export_to_host(void)
{
	ns_change change = { .revision = namespace_revision(ns) + 1, .operation = NS_PUT, .item.kind = NS_EXPORT };

	change.item.ns_item_u.export_ = (ns_export){ .id = 9, .path = (char *)"/disk0", .clients = (char *)"host.example" };
	ck_assert_int_eq(namespace_apply(ns, &change), 0);
}

/* The first call of a client finds nothing known of its host. */
START_TEST(a_question_waits_for_a_name)
{
	struct asker asker = { "192.0.2.1", 700, ALICE, 100, 50 }, other = { "192.0.2.2", 700, ALICE, 100, 50 };
	struct bytes_reader results;

	export_to_host();
	ck_assert_uint_eq(ask(&asker, "/disk0", BACKEND_QUOTA_USER, ALICE, &results), RQUOTA_OK);
	ck_assert_uint_eq(ask(&other, "/disk0", BACKEND_QUOTA_USER, ALICE, &results), RQUOTA_EPERM);
}
END_TEST

/* That the name server is away does not mean that the client may not ask. */
START_TEST(a_question_of_who_is_not_known_is_not_refused)
{
	struct asker asker = { "192.0.2.1", 700, ALICE, 100, 50 };
	struct bytes_reader results;

	lookup_error = EAI_AGAIN;
	export_to_host();
	ck_assert_uint_eq(ask(&asker, "/disk0", BACKEND_QUOTA_USER, ALICE, &results), REFUSED + RPC_ACCEPT_SYSTEM_ERR);
}
END_TEST

START_TEST(who_may_ask_what)
{
	struct bytes_reader results;
	uint32_t status = ask(&questions[_i].asker, questions[_i].path, questions[_i].kind, questions[_i].id, &results);

	ck_assert_msg(status == questions[_i].status, "%s: %u", questions[_i].what, status);
	ck_assert_uint_eq(relayed_to, 0);
}
END_TEST

static const struct asker root = { "10.9.0.1", 700, 0, 0, 0 };

START_TEST(the_volumes_owner_is_asked)
{
	struct bytes_reader results;

	ck_assert_uint_eq(ask(&root, "/projects/a/b", 0, ALICE, &results), REFUSED + RPC_ACCEPT_SYSTEM_ERR);
	ck_assert_uint_eq(relayed_to, 2);
}
END_TEST

START_TEST(version_1_and_the_bytes)
{
	static const char args[] = "\0\0\0\6/disk0\0\0\0\0\3\xe8";
	struct bytes_reader results;

	ck_assert_uint_eq(call(&root, 1, GET, args, sizeof(args) - 1, &results), RQUOTA_OK);
	golden_hex_check("rquota_ok", results.p, results.left);
	ck_assert_uint_eq(call(&root, 1, GET_ACTIVE, args, sizeof(args) - 1, &results), RQUOTA_OK);
	ck_assert_uint_eq(call(&root, 1, SET, args, sizeof(args) - 1, &results), RQUOTA_EPERM);
	ck_assert_uint_eq(results.left, 4);
	ck_assert_uint_eq(call(&root, 1, GET, args, 8, &results), REFUSED + RPC_ACCEPT_GARBAGE_ARGS);
	ck_assert_uint_eq(call(&root, 1, 5, "", 0, &results), REFUSED + RPC_ACCEPT_PROC_UNAVAIL);
	ck_assert_uint_eq(call(&root, 3, GET, "", 0, &results), REFUSED + RPC_ACCEPT_PROG_MISMATCH);
	call(&root, 1, 0, "", 0, &results);
	ck_assert_uint_eq(results.left, 0);
}
END_TEST

static int large_quota(struct volume *of, enum backend_quota_kind kind, uint32_t id, struct backend_quota *quota)
{
	(void)of, (void)kind, (void)id;
	*quota = (struct backend_quota){ .byte_hard = 1ULL << 50, .bytes = (1ULL << 49) + 1, .file_hard = 1ULL << 40,
					 .byte_grace_end = UINT64_MAX, .file_grace_end = 1 };
	return 0;
}

/* A petabyte has more blocks of 1024 bytes than 32 bits can count. */
START_TEST(large_numbers_have_large_blocks)
{
	struct backend large = *volume->backend;
	struct bytes_reader results;
	getquota_result result = { 0 };
	const rquota *quota = &result.getquota_result_u.quota;
	XDR xdr;

	large.quota = large_quota;
	volume->backend = &large;
	ck_assert_uint_eq(ask(&root, "/disk0", 0, ALICE, &results), RQUOTA_OK);
	xdrmem_create(&xdr, (char *)results.p, (u_int)results.left, XDR_DECODE);
	ck_assert(xdr_getquota_result(&xdr, &result));
	ck_assert_uint_eq(xdr_getpos(&xdr), results.left);
	ck_assert_uint_eq((uint64_t)quota->block_hard * (uint64_t)quota->block_bytes, 1ULL << 50);
	ck_assert_uint_eq(quota->blocks, quota->block_hard / 2 + 1); /* a started block is one */
	ck_assert_uint_eq(quota->file_hard, UINT32_MAX);
	ck_assert_uint_eq(quota->block_seconds_left, UINT32_MAX);
	ck_assert_uint_eq(quota->file_seconds_left, 1); /* it is over */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rquota");
	TCase *tc = tcase_create("rquota");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, a_question_waits_for_a_name);
	tcase_add_test(tc, a_question_of_who_is_not_known_is_not_refused);
	tcase_add_loop_test(tc, who_may_ask_what, 0, sizeof(questions) / sizeof(questions[0]));
	tcase_add_test(tc, the_volumes_owner_is_asked);
	tcase_add_test(tc, version_1_and_the_bytes);
	tcase_add_test(tc, large_numbers_have_large_blocks);
	tcase_add_checked_fixture(tc, setup, teardown);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
