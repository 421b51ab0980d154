/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, clients misread what became of their locks, never hear that they got one, or get one during the grace
 * period that is somebody else's. Results and call-backs are decoded by rpcgen's reading of common/nlm.x.
 */
#include "config.h"

#include "common/clock.h"
#include "common/file_service.h"
#include "common/nlm.h"
#include "common/nlm_xdr.h"
#include "common/nsm.h"
#include "common/workers.h"
#include "tests/unit/fake_volume.h"
#include "tests/unit/golden_hex.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEST = 1, LOCK, CANCEL, UNLOCK, GRANTED, TEST_MSG, LOCK_MSG, LOCK_RES = 12, SHARE = 20, UNSHARE, NM_LOCK, FREE_ALL };
enum { CALLS_MAX = 64, FILE_ID = FAKE_ROOT + 1 };

static struct namespace *ns;
static struct volume *volume;
static struct file_service *files;
static struct nsm *nsm;
static struct nlm *nlm;
static struct rpc_program programs[2];
static struct rpc_server server = { .programs = programs };
static char directory[] = "/tmp/test_nlm.XXXXXX", made[sizeof(directory)];
static uint32_t relayed_to;
static struct event_base *loop;
static struct workers *workers; /* NULL: files are opened in the loop */

static struct rpc_call last;
static bool is_answered;

/* The calls to clients, and what they are answered. */
static struct {
	struct client_call call;
	uint8_t args[CLIENT_CALL_ARGS_MAX];
	struct client_call_done done;
} calls[CALLS_MAX];
static size_t call_count;

static struct rebooted {
	uint8_t address[16];
	char name[64];
	int32_t state;
	int count;
} rebooted;

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
	return true;
}

static bool on_rebooted(const uint8_t address[static 16], const char *name, int32_t state, void *arg)
{
	(void)arg;
	memcpy(rebooted.address, address, 16);
	snprintf(rebooted.name, sizeof(rebooted.name), "%s", name);
	rebooted.state = state;
	rebooted.count++;
	return true;
}

static void start(void)
{
	struct nsm_options monitor = { .directory = made, .self = 1, .way = { .call = call_client }, .may_call = may_call,
				       .on_rebooted = on_rebooted };
	struct nlm_options options = { .files = files, .workers = workers, .way = { .call = call_client },
				       .on_rebooted = on_rebooted };

	ck_assert_int_eq(nsm_new(&monitor, clock_monotonic_ms(), &nsm), 0);
	options.nsm = nsm;
	nlm = nlm_new(&options);
	ck_assert_ptr_nonnull(nlm);
	programs[0] = nlm_program(nlm);
}

static void stop(void)
{
	nlm_free(nlm);
	nsm_free(nsm);
}

static void setup(void)
{
	struct file_service_options options = { .self = 1, .find_volume = find_volume, .relay = relay };
	struct credentials root = { 0 };
	struct backend_set set = { .set_mode = true, .mode = 0644 };
	struct backend_found found;
	struct backend_change change;

	snprintf(made, sizeof(made), "%s", directory);
	ck_assert_ptr_nonnull(mkdtemp(made));
	ns = fake_namespace_new();
	volume = fake_volume_new();
	options.ns = ns;
	files = file_service_new(&options);
	ck_assert_int_eq(volume->backend->create(volume, &root, &volume->root, "file", BACKEND_CREATE_GUARDED, &set, NULL,
						 &found, &change), 0);
	call_count = 0;
	relayed_to = 0;
	memset(&rebooted, 0, sizeof(rebooted));
	start();
}

static void teardown(void)
{
	char command[128];

	workers_free(workers);
	workers = NULL;
	rpc_call_fini(&last);
	stop();
	if (loop)
		event_base_free(loop);
	loop = NULL;
	file_service_free(files);
	fake_volume_free(volume);
	namespace_free(ns);
	snprintf(command, sizeof(command), "rm -r %s", made);
	ck_assert_int_eq(system(command), 0);
}

/* The arguments of one call, as a client sees them. */
struct arguments {
	const char *client, *name;
	uint32_t svid;
	bool block, exclusive, reclaim;
	uint64_t offset, len;
	uint32_t volume, file; /* 0: volume 1, the file */
	bool with_directory;   /* as handles are in a volume of which exports are parts */
	uint32_t mode, access;
};

static size_t encode_handle(const struct arguments *what, uint8_t out[static HANDLE_MAX])
{
	struct handle handle = { .type = HANDLE_LOCAL, .volume = what->volume ? what->volume : 1, .backend_type = 7,
				 .backend_len = 8 };
	struct bytes_writer w = bytes_writer_init(handle.backend, 8);

	bytes_put_be64(&w, what->file ? what->file : FILE_ID);
	if (what->with_directory) {
		struct handle file = handle;

		ck_assert_int_eq(handle_join(&file, &volume->root, &handle), 0);
	}
	return handle_encode(namespace_handle_key(ns), &handle, out);
}

static bool encode_lock(XDR *xdr, uint32_t version, const struct arguments *what)
{
	uint8_t fh[HANDLE_MAX];
	nlm_lock narrow = {
		.caller_name = (char *)(what->name ? what->name : "client"),
		.fh.bytes = { .bytes_len = (u_int)encode_handle(what, fh), .bytes_val = (char *)fh },
		.oh.bytes = { .bytes_len = 3, .bytes_val = (char *)"own" },
		.svid = what->svid,
		.l_offset = (uint32_t)what->offset,
		.l_len = (uint32_t)what->len,
	};
	nlm4_lock wide = { narrow.caller_name, narrow.fh, narrow.oh, narrow.svid, what->offset, what->len };

	return version == 4 ? xdr_nlm4_lock(xdr, &wide) : xdr_nlm_lock(xdr, &narrow);
}

static void encode(XDR *xdr, uint32_t version, uint32_t procedure, const struct arguments *what)
{
	nlm_opaque cookie = { { .bytes_len = 4, .bytes_val = (char *)"cook" } };
	uint32_t base = procedure >= TEST_MSG && procedure < LOCK_RES ? procedure - 5 : procedure;
	bool_t block = what->block, exclusive = what->exclusive, reclaim = what->reclaim;
	uint8_t fh[HANDLE_MAX];
	nlm_share share = {
		.caller_name = (char *)(what->name ? what->name : "client"),
		.fh.bytes = { .bytes_len = (u_int)encode_handle(what, fh), .bytes_val = (char *)fh },
		.oh.bytes = { .bytes_len = 3, .bytes_val = (char *)"own" },
		.mode = what->mode,
		.access = what->access,
	};
	int32_t state = 3;

	ck_assert(xdr_nlm_opaque(xdr, &cookie));
	if (procedure == SHARE || procedure == UNSHARE) {
		ck_assert(xdr_nlm_share(xdr, &share) && xdr_bool(xdr, &reclaim));
		return;
	}
	if (base == LOCK || base == CANCEL || base == NM_LOCK)
		ck_assert(xdr_bool(xdr, &block));
	if (base != UNLOCK)
		ck_assert(xdr_bool(xdr, &exclusive));
	ck_assert(encode_lock(xdr, version, what));
	if (base == LOCK || base == NM_LOCK)
		ck_assert(xdr_bool(xdr, &reclaim) && xdr_int32_t(xdr, &state));
}

static void on_done(struct rpc_call *call)
{
	(void)call;
	is_answered = true;
}

static void set_address(struct sockaddr_storage *out, const char *text, uint16_t port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)out;

	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	inet_pton(AF_INET, text, &in->sin_addr);
}

/* Return: the accept status, or -1 without an answer; @results: behind it, until the next call */
static int call_bytes(const char *client, uint32_t version, uint32_t procedure, const void *args, size_t len,
		      struct bytes_reader *results)
{
	static uint8_t record[RPC_RECORD_MAX];
	struct bytes_writer w = bytes_writer_init(record, sizeof(record));
	const uint32_t header[] = { 7, 0, 2, NLM_PROGRAM, version, procedure, 1, 20, 0, 0, 0, 0, 0, 0, 0 };

	rpc_call_fini(&last);
	for (size_t i = 0; i < sizeof(header) / sizeof(header[0]); i++)
		bytes_put_be32(&w, header[i]);
	bytes_put(&w, args, len);
	last = (struct rpc_call){ .record = record, .record_len = w.written, .done = on_done };
	set_address(&last.client, client ? client : "10.9.0.1", 700);
	set_address(&last.server, "10.9.9.9", 2049);
	is_answered = false;
	rpc_dispatch(&server, &last);
	while (!is_answered && workers)
		ck_assert_int_ne(event_base_loop(loop, EVLOOP_ONCE), -1);
	ck_assert(is_answered);
	if (!last.reply_len)
		return -1;
	*results = bytes_reader_init(last.reply + RPC_REPLY_HEADROOM, last.reply_len);
	ck_assert_ptr_nonnull(bytes_take(results, 5 * 4));
	return (int)bytes_get_be32(results);
}

static int call(uint32_t version, uint32_t procedure, const struct arguments *what, struct bytes_reader *results)
{
	static char bytes[4096];
	XDR xdr;

	xdrmem_create(&xdr, bytes, sizeof(bytes), XDR_ENCODE);
	encode(&xdr, version, procedure, what);
	return call_bytes(what->client, version, procedure, bytes, xdr_getpos(&xdr), results);
}

/* The status in the results, which begin with the call's cookie. */
static uint32_t status_in(struct bytes_reader *results)
{
	ck_assert_uint_eq(bytes_get_be32(results), 4);
	ck_assert_mem_eq(bytes_take(results, 4), "cook", 4);
	return bytes_get_be32(results);
}

static uint32_t status(uint32_t version, uint32_t procedure, const struct arguments *what)
{
	struct bytes_reader results;
	uint32_t found;

	ck_assert_int_eq(call(version, procedure, what, &results), RPC_ACCEPT_SUCCESS);
	found = status_in(&results);
	if (procedure == SHARE || procedure == UNSHARE)
		bytes_get_be32(&results);
	ck_assert(!results.failed);
	if (procedure != TEST)
		ck_assert_uint_eq(results.left, 0);
	return found;
}

static void answer_granted(size_t which, int result, uint32_t said)
{
	struct bytes_reader args = bytes_reader_init(calls[which].args, calls[which].call.args_len);
	uint8_t bytes[16];
	struct bytes_writer w = bytes_writer_init(bytes, sizeof(bytes));

	bytes_put_be32(&w, bytes_get_be32(&args));
	bytes_put(&w, bytes_take(&args, 8), 8);
	bytes_put_be32(&w, said);
	calls[which].done.fn(calls[which].done.id, result, bytes, w.written, calls[which].done.arg);
}

/* A part of volume 1 that is another client's: then rights in the volume depend on the place. */
static void divide_volume(const char *path, const char *clients)
{
	ns_change change = { .revision = namespace_revision(ns) + 1, .operation = NS_PUT, .item.kind = NS_EXPORT };

	change.item.ns_item_u.export_ = (ns_export){ .id = 9, .path = (char *)path, .clients = (char *)clients };
	ck_assert_int_eq(namespace_apply(ns, &change), 0);
}

static pthread_t place_thread;

/* As in a volume whose kernel has forgotten where files are. */
static int forgetful_place(struct volume *of, const struct handle *object, const struct handle *found_in, char *path)
{
	place_thread = pthread_self();
	if (!found_in || found_in->backend_len != of->root.backend_len ||
	    memcmp(found_in->backend, of->root.backend, found_in->backend_len) != 0)
		return -ESTALE;
	strcpy(path, object->backend[7] == FILE_ID ? "file" : "elsewhere");
	return 0;
}

static const struct backend *with_forgetful_place(void)
{
	static struct backend forgetful;

	forgetful = *volume->backend;
	forgetful.place = forgetful_place;
	return &forgetful;
}

static const struct arguments mine = { .client = "10.9.0.1", .name = "one", .svid = 1, .exclusive = true, .offset = 10,
				       .len = 10 };
static const struct arguments others = { .client = "10.9.0.2", .name = "two", .svid = 7, .exclusive = true, .offset = 15,
					 .len = 10 };

static const uint32_t versions[] = { 1, 3, 4 };

START_TEST(lock_test_unlock)
{
	uint32_t version = versions[_i];
	struct bytes_reader results;

	ck_assert_uint_eq(status(version, TEST, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(version, LOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(version, LOCK, &others), NLM4_DENIED);
	ck_assert_int_eq(call(version, TEST, &others, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(status_in(&results), NLM4_DENIED);
	if (version == 4) {
		nlm4_holder holder = { 0 };
		XDR xdr;

		xdrmem_create(&xdr, (char *)results.p, (u_int)results.left, XDR_DECODE);
		ck_assert(xdr_nlm4_holder(&xdr, &holder));
		ck_assert_uint_eq(xdr_getpos(&xdr), results.left);
		ck_assert(holder.exclusive && holder.svid == 1 && holder.l_offset == 10 && holder.l_len == 10);
		ck_assert_mem_eq(holder.oh.bytes.bytes_val, "own", 3);
		xdr_free((xdrproc_t)xdr_nlm4_holder, (char *)&holder);
	}
	ck_assert_uint_eq(status(version, UNLOCK, &others), NLM4_GRANTED); /* what one has not */
	ck_assert_uint_eq(status(version, LOCK, &others), NLM4_DENIED);
	ck_assert_uint_eq(status(version, UNLOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(version, LOCK, &others), NLM4_GRANTED);
	ck_assert_uint_eq(nlm_table_counters(nlm)->entries, 1);
}
END_TEST

/* One line each: a call that does not reach the table, and its status in versions 4 and 3. */
static const struct {
	const char *what;
	struct arguments arguments;
	uint32_t status, status_before_4;
} refused[] = {
	{ "no such file", { .file = 9999 }, NLM4_STALE_FH, NLM4_DENIED_NOLOCKS },
	{ "a directory", { .file = FAKE_ROOT }, NLM4_FAILED, NLM4_DENIED_NOLOCKS },
	{ "no such volume", { .volume = 77 }, NLM4_STALE_FH, NLM4_DENIED_NOLOCKS },
	{ "a volume whose disk is away", { .volume = 3 }, NLM4_DENIED_GRACE_PERIOD, NLM4_DENIED_GRACE_PERIOD },
	{ "a client of no export", { .client = "192.0.2.1" }, NLM4_FAILED, NLM4_DENIED_NOLOCKS },
	{ "a name with two lines", { .name = "a\nb" }, NLM4_FAILED, NLM4_DENIED_NOLOCKS },
};

START_TEST(what_is_refused)
{
	ck_assert_msg(status(4, LOCK, &refused[_i].arguments) == refused[_i].status, "%s", refused[_i].what);
	ck_assert_msg(status(3, LOCK, &refused[_i].arguments) == refused[_i].status_before_4, "%s", refused[_i].what);
	ck_assert_uint_eq(nlm_table_counters(nlm)->entries, 0);
	ck_assert_uint_eq(nlm_table_counters(nlm)->files, 0);
}
END_TEST

static const struct {
	uint64_t offset, len;
	uint32_t status;
	uint64_t told_len; /* by TEST; 0: to the end */
} ranges[] = {
	{ 0, 0, NLM4_GRANTED, 0 },
	{ 1, 1, NLM4_GRANTED, 1 },
	{ INT64_MAX, 0, NLM4_GRANTED, 0 },
	{ INT64_MAX, 1, NLM4_GRANTED, 0 },
	{ 5, UINT64_MAX, NLM4_GRANTED, 0 },
	{ 5, INT64_MAX - 6, NLM4_GRANTED, INT64_MAX - 6 },
	{ (uint64_t)INT64_MAX + 1, 0, NLM4_FBIG, 0 },
	{ UINT64_MAX, 1, NLM4_FBIG, 0 },
};

START_TEST(which_bytes)
{
	struct arguments what = mine, other = others;
	struct bytes_reader results;

	what.offset = ranges[_i].offset;
	what.len = ranges[_i].len;
	ck_assert_uint_eq(status(4, LOCK, &what), ranges[_i].status);
	if (ranges[_i].status)
		return;
	other.offset = what.offset;
	other.len = 1;
	ck_assert_int_eq(call(4, TEST, &other, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(status_in(&results), NLM4_DENIED);
	bytes_take(&results, 2 * 4 + 4 + 4);
	ck_assert_uint_eq(bytes_get_be64(&results), what.offset);
	ck_assert_uint_eq(bytes_get_be64(&results), ranges[_i].told_len);
}
END_TEST

START_TEST(a_waiter_is_called_back)
{
	uint32_t version = versions[_i];
	struct arguments waiter = others;
	static const char *const golden[] = { "nlm_granted_v1", "nlm_granted_v3", "nlm_granted_v4" };

	waiter.block = true;
	ck_assert_uint_eq(status(version, LOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(version, LOCK, &waiter), NLM4_BLOCKED);
	ck_assert_uint_eq(call_count, 0);
	ck_assert_uint_eq(status(version, UNLOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(call_count, 1);
	ck_assert_uint_eq(calls[0].call.program, NLM_PROGRAM);
	ck_assert_uint_eq(calls[0].call.version, version);
	ck_assert_uint_eq(calls[0].call.procedure, GRANTED);
	ck_assert_mem_eq(calls[0].call.client + 12, "\x0a\x09\x00\x02", 4);
	ck_assert_mem_eq(calls[0].call.vip + 12, "\x0a\x09\x09\x09", 4);
	golden_hex_check(golden[_i], calls[0].args, calls[0].call.args_len);
	answer_granted(0, 0, NLM4_GRANTED);
	nlm_tick(nlm, clock_monotonic_ms() + 100000);
	ck_assert_uint_eq(call_count, 1);
	ck_assert_uint_eq(status(version, LOCK, &mine), NLM4_DENIED);
}
END_TEST

/* One file by two handles is one file, and a client that is called finds the one that it knows. */
START_TEST(a_handle_with_its_directory)
{
	struct arguments waiter = others;
	uint8_t handle[HANDLE_MAX];
	size_t len;

	waiter.block = true;
	waiter.with_directory = true;
	len = encode_handle(&waiter, handle);
	ck_assert_uint_eq(status(4, LOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(4, LOCK, &waiter), NLM4_BLOCKED);
	ck_assert_uint_eq(status(4, UNLOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(call_count, 1);
	ck_assert_ptr_nonnull(memmem(calls[0].args, calls[0].call.args_len, handle, len));
}
END_TEST

/* Rights by the place: of the clients in the part of another, and of the file that nobody has looked up lately. */
START_TEST(a_part_of_a_volume)
{
	struct arguments part = mine, told = mine;
	uint32_t version = versions[_i];

	volume->backend = with_forgetful_place();
	told.with_directory = true;
	divide_volume("/disk0/file", "10.9.0.2(rw,insecure)");
	ck_assert_uint_eq(status(version, LOCK, &told), version == 4 ? NLM4_FAILED : NLM4_DENIED_NOLOCKS);
	ck_assert_uint_eq(nlm_table_counters(nlm)->entries, 0);
	part.client = "10.9.0.2";
	part.with_directory = true;
	ck_assert_uint_eq(status(version, LOCK, &part), NLM4_GRANTED);
	ck_assert_uint_eq(status(version, UNLOCK, &told), NLM4_GRANTED); /* rights or not */
	divide_volume("/disk0/other", "10.9.0.2(rw,insecure)");
	ck_assert_uint_eq(status(version, TEST, &told), NLM4_DENIED);
	ck_assert_uint_eq(status(version, LOCK, &mine), version == 4 ? NLM4_STALE_FH : NLM4_DENIED_NOLOCKS);
}
END_TEST

/* The loop does not wait for the disk; and a _MSG, which is answered before, has rights, too. */
START_TEST(a_place_is_sought_by_a_worker)
{
	struct arguments told = mine;
	const uint32_t procedure = _i ? LOCK_MSG : LOCK;
	struct bytes_reader results;

	volume->backend = with_forgetful_place();
	told.with_directory = true;
	divide_volume("/disk0/other", "10.9.0.2(rw,insecure)");
	stop();
	loop = event_base_new();
	ck_assert_int_eq(workers_new(loop, 2, &workers), 0);
	start();
	place_thread = pthread_self();
	if (procedure == LOCK)
		ck_assert_uint_eq(status(4, LOCK, &told), NLM4_GRANTED);
	else
		ck_assert_int_eq(call(4, LOCK_MSG, &told, &results), RPC_ACCEPT_SUCCESS);
	while (!nlm_table_counters(nlm)->entries)
		ck_assert_int_ne(event_base_loop(loop, EVLOOP_ONCE), -1);
	ck_assert(!pthread_equal(place_thread, pthread_self()));
	ck_assert_uint_eq(call_count, procedure == LOCK_MSG);
}
END_TEST

/* The device stops while a place is sought: nothing is begun that no worker would do any more. */
START_TEST(a_search_ends_with_the_service)
{
	struct arguments told = mine;
	struct bytes_reader results;

	volume->backend = with_forgetful_place();
	told.with_directory = true;
	divide_volume("/disk0/other", "10.9.0.2(rw,insecure)");
	stop();
	loop = event_base_new();
	ck_assert_int_eq(workers_new(loop, 2, &workers), 0);
	start();
	ck_assert_int_eq(call(4, LOCK_MSG, &told, &results), RPC_ACCEPT_SUCCESS);
	file_service_stop(files);
	workers_free(workers);
	workers = NULL;
	ck_assert_uint_eq(call_count, 1);
	ck_assert_uint_eq(nlm_table_counters(nlm)->entries, 0);
}
END_TEST

START_TEST(a_call_back_is_repeated_and_at_last_given_up)
{
	struct arguments waiter = others, next = others;
	uint64_t now_ms = clock_monotonic_ms();

	waiter.block = next.block = true;
	next.svid = 8;
	ck_assert_uint_eq(status(4, LOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(4, LOCK, &waiter), NLM4_BLOCKED);
	ck_assert_uint_eq(status(4, LOCK, &next), NLM4_BLOCKED);
	ck_assert_uint_eq(status(4, UNLOCK, &mine), NLM4_GRANTED);
	for (int i = 0; i < NLM_GRANT_TRIES; i++) {
		ck_assert_uint_eq(call_count, i + 1);
		ck_assert_uint_eq(status(4, LOCK, &mine), NLM4_DENIED);
		nlm_tick(nlm, now_ms + 1000000); /* not while one is on its way */
		ck_assert_uint_eq(call_count, i + 1);
		answer_granted((size_t)i, i % 2 ? -ETIMEDOUT : 0, NLM4_DENIED_GRACE_PERIOD);
		nlm_tick(nlm, now_ms);
		now_ms += 1000000;
		nlm_tick(nlm, now_ms);
	}
	ck_assert_uint_eq(call_count, NLM_GRANT_TRIES + 1); /* the next one */
	answer_granted(NLM_GRANT_TRIES, 0, NLM4_DENIED); /* does not want it any more */
	ck_assert_uint_eq(status(4, LOCK, &mine), NLM4_GRANTED);
}
END_TEST

START_TEST(a_cancelled_waiter_is_not_called_back)
{
	struct arguments waiter = others;

	waiter.block = true;
	ck_assert_uint_eq(status(4, LOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(4, LOCK, &waiter), NLM4_BLOCKED);
	ck_assert_uint_eq(status(4, CANCEL, &waiter), NLM4_GRANTED);
	ck_assert_uint_eq(status(4, CANCEL, &waiter), NLM4_DENIED);
	ck_assert_uint_eq(status(4, UNLOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(call_count, 0);
	ck_assert_uint_eq(nlm_table_counters(nlm)->entries, 0);
}
END_TEST

START_TEST(who_would_wait_for_ever_is_told)
{
	uint32_t version = versions[_i];
	struct arguments first = mine, second = others;

	first.offset = first.len = 10;
	second.offset = 20;
	first.block = second.block = true;
	ck_assert_uint_eq(status(version, LOCK, &first), NLM4_GRANTED);
	ck_assert_uint_eq(status(version, LOCK, &second), NLM4_GRANTED);
	first.offset = 20;
	ck_assert_uint_eq(status(version, LOCK, &first), NLM4_BLOCKED);
	second.offset = 10;
	ck_assert_uint_eq(status(version, LOCK, &second), version == 4 ? NLM4_DEADLCK : NLM4_DENIED);
	second.offset = 20;
	ck_assert_uint_eq(status(version, UNLOCK, &second), NLM4_GRANTED);
	ck_assert_uint_eq(call_count, 1);
}
END_TEST

/* The answer says nothing, the results come by a call. */
START_TEST(messages)
{
	struct bytes_reader results;

	ck_assert_int_eq(call(4, LOCK_MSG, &mine, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(results.left, 0);
	ck_assert_uint_eq(call_count, 1);
	ck_assert_uint_eq(calls[0].call.procedure, LOCK_RES);
	golden_hex_check("nlm_lock_res_v4", calls[0].args, calls[0].call.args_len);
	ck_assert_int_eq(call(4, TEST_MSG, &others, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(call_count, 2);
	golden_hex_check("nlm_test_res_v4", calls[1].args, calls[1].call.args_len);
}
END_TEST

START_TEST(shares_and_free_all)
{
	struct arguments share = { .name = "dos", .mode = NLM_SHARE_WRITE, .access = NLM_SHARE_READ };
	struct arguments other = { .name = "two", .client = "10.9.0.2", .access = NLM_SHARE_WRITE };
	struct bytes_reader results;
	nlm_notify notify = { .name = (char *)"dos" };
	char bytes[64];
	XDR xdr;

	ck_assert_uint_eq(status(3, SHARE, &share), NLM4_GRANTED);
	ck_assert_uint_eq(status(3, NM_LOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(3, SHARE, &other), NLM4_DENIED);
	ck_assert_uint_eq(status(3, UNSHARE, &share), NLM4_GRANTED);
	ck_assert_uint_eq(status(3, SHARE, &other), NLM4_GRANTED);
	ck_assert_uint_eq(status(3, UNSHARE, &other), NLM4_GRANTED);
	xdrmem_create(&xdr, bytes, sizeof(bytes), XDR_ENCODE);
	ck_assert(xdr_nlm_notify(&xdr, &notify));
	ck_assert_int_eq(call_bytes("10.9.0.1", 3, FREE_ALL, bytes, xdr_getpos(&xdr), &results), RPC_ACCEPT_SUCCESS);
	ck_assert_int_eq(rebooted.count, 1);
	ck_assert_str_eq(rebooted.name, "dos");
	ck_assert_mem_eq(rebooted.address + 12, "\x0a\x09\x00\x01", 4);
	/* Whoever was told does this. */
	nlm_client_rebooted(nlm, rebooted.address, "one", rebooted.state);
	ck_assert_uint_eq(nlm_table_counters(nlm)->entries, 0);
}
END_TEST

START_TEST(a_restarted_client_loses_its_locks_once)
{
	uint8_t address[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [13] = 9, [15] = 1 };

	ck_assert_uint_eq(status(4, LOCK, &mine), NLM4_GRANTED);
	nlm_client_rebooted(nlm, address, "one", 5);
	ck_assert_uint_eq(nlm_table_counters(nlm)->entries, 0);
	ck_assert_uint_eq(status(4, LOCK, &mine), NLM4_GRANTED);
	nlm_client_rebooted(nlm, address, "one", 5); /* the notice again: our answer was lost */
	ck_assert_uint_eq(nlm_table_counters(nlm)->entries, 1);
	nlm_client_rebooted(nlm, address, "one", 7);
	ck_assert_uint_eq(nlm_table_counters(nlm)->entries, 0);
}
END_TEST

START_TEST(after_a_restart_only_reclaims)
{
	struct arguments reclaim = mine, stranger = others;
	uint64_t now_ms = clock_monotonic_ms();

	reclaim.reclaim = stranger.reclaim = true;
	ck_assert_uint_eq(status(4, LOCK, &reclaim), NLM4_DENIED_GRACE_PERIOD); /* there was no restart */
	ck_assert_uint_eq(status(4, LOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(4, LOCK, &reclaim), NLM4_GRANTED); /* it has it */
	stop();
	start();
	ck_assert(nsm_is_in_grace(nsm));
	ck_assert_uint_eq(status(4, LOCK, &others), NLM4_DENIED_GRACE_PERIOD);
	ck_assert_uint_eq(status(4, TEST, &others), NLM4_DENIED_GRACE_PERIOD);
	ck_assert_uint_eq(status(4, LOCK, &stranger), NLM4_DENIED_GRACE_PERIOD); /* it had none to reclaim */
	nlm_tick(nlm, now_ms);
	ck_assert_uint_eq(call_count, 1);
	ck_assert_uint_eq(calls[0].call.program, NSM_PROGRAM);
	golden_hex_check("nsm_notify", calls[0].args, calls[0].call.args_len);
	ck_assert_uint_eq(status(4, LOCK, &reclaim), NLM4_GRANTED);
	nlm_tick(nlm, now_ms + NSM_GRACE_MS + 1);
	ck_assert(!nsm_is_in_grace(nsm));
	ck_assert_uint_eq(status(4, LOCK, &others), NLM4_DENIED);
	ck_assert_uint_eq(status(4, UNLOCK, &mine), NLM4_GRANTED);
	ck_assert_uint_eq(status(4, LOCK, &others), NLM4_GRANTED);
}
END_TEST

/* A server whose clients had no locks keeps nobody waiting. */
START_TEST(no_grace_without_clients)
{
	ck_assert_uint_eq(status(4, NM_LOCK, &mine), NLM4_GRANTED); /* "not monitored" is its name */
	stop();
	start();
	ck_assert(!nsm_is_in_grace(nsm));
	ck_assert_uint_eq(status(4, LOCK, &others), NLM4_GRANTED);
}
END_TEST

START_TEST(a_volume_elsewhere_is_relayed)
{
	struct arguments elsewhere = { .volume = 2 };
	struct bytes_reader results;

	ck_assert_uint_eq(status(4, LOCK, &elsewhere), NLM4_DENIED_GRACE_PERIOD); /* and its owner is not there */
	ck_assert_uint_eq(relayed_to, 2);
	elsewhere.reclaim = true; /* told to wait, a client would give it up */
	ck_assert_int_eq(call(4, LOCK, &elsewhere, &results), -1);
}
END_TEST

/* The device has just started, and the disk is not there yet: nobody loses a lock by asking for it too early. */
START_TEST(a_reclaim_is_not_told_to_wait)
{
	struct arguments early = { .volume = 3, .reclaim = true };
	struct bytes_reader results;

	ck_assert_int_eq(call(4, LOCK, &early, &results), -1);
	ck_assert_int_eq(call(1, LOCK, &early, &results), -1);
	ck_assert_int_eq(call(3, SHARE, &early, &results), -1);
	ck_assert_int_eq(call(4, LOCK_MSG, &early, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(call_count, 0); /* no results */
	early.reclaim = false;
	ck_assert_uint_eq(status(4, LOCK, &early), NLM4_DENIED_GRACE_PERIOD);
}
END_TEST

START_TEST(procedures_that_are_not_there)
{
	struct bytes_reader results;

	ck_assert_int_eq(call_bytes(NULL, 2, 0, NULL, 0, &results), RPC_ACCEPT_PROG_MISMATCH);
	ck_assert_int_eq(call_bytes(NULL, 1, SHARE, NULL, 0, &results), RPC_ACCEPT_PROC_UNAVAIL);
	ck_assert_int_eq(call_bytes(NULL, 4, 17, NULL, 0, &results), RPC_ACCEPT_PROC_UNAVAIL);
	ck_assert_int_eq(call_bytes(NULL, 4, 24, NULL, 0, &results), RPC_ACCEPT_PROC_UNAVAIL);
	ck_assert_int_eq(call_bytes(NULL, 4, LOCK, "\0\0", 2, &results), RPC_ACCEPT_GARBAGE_ARGS);
	ck_assert_int_eq(call_bytes(NULL, 4, 0, NULL, 0, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(status(4, GRANTED, &mine), NLM4_DENIED); /* we wait for nobody */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nlm");
	TCase *tcase = tcase_create("nlm");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, lock_test_unlock, 0, 3);
	tcase_add_loop_test(tcase, what_is_refused, 0, sizeof(refused) / sizeof(refused[0]));
	tcase_add_loop_test(tcase, which_bytes, 0, sizeof(ranges) / sizeof(ranges[0]));
	tcase_add_loop_test(tcase, a_waiter_is_called_back, 0, 3);
	tcase_add_test(tcase, a_handle_with_its_directory);
	tcase_add_loop_test(tcase, a_part_of_a_volume, 0, 3);
	tcase_add_loop_test(tcase, a_place_is_sought_by_a_worker, 0, 2);
	tcase_add_test(tcase, a_search_ends_with_the_service);
	tcase_add_test(tcase, a_call_back_is_repeated_and_at_last_given_up);
	tcase_add_test(tcase, a_cancelled_waiter_is_not_called_back);
	tcase_add_loop_test(tcase, who_would_wait_for_ever_is_told, 0, 3);
	tcase_add_test(tcase, messages);
	tcase_add_test(tcase, shares_and_free_all);
	tcase_add_test(tcase, a_restarted_client_loses_its_locks_once);
	tcase_add_test(tcase, after_a_restart_only_reclaims);
	tcase_add_test(tcase, no_grace_without_clients);
	tcase_add_test(tcase, a_volume_elsewhere_is_relayed);
	tcase_add_test(tcase, a_reclaim_is_not_told_to_wait);
	tcase_add_test(tcase, procedures_that_are_not_there);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
