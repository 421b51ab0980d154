/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Calls to the lock manager and the status monitor as clients could send them, and what clients answer to call-backs.
 *
 * Input: records, each with its length in two bytes before it; in a record
 *
 *	offset	bytes
 *	0	1	bits 0-1: the client; bit 2: NSM instead of NLM; bits 3-4: transport; bit 5: a minute passes before;
 *			bit 6: the device restarts before, and clients may get their locks back
 *	1	1	version
 *	2	1	procedure
 *	3	1	length of the answer to the call-backs that this call draws
 *	4		that answer (results of RPC), then the call's arguments
 *
 * Where the four bytes "\xfeHND" stand at a multiple of 4 in the arguments, followed by a 4-byte number N, the right handle
 * of object N modulo 4 of volume 1 is put in with its length, since no fuzzer guesses a keyed hash; with bit 2 of N it
 * tells its directory, too. Object 2 is exported to the second client, so rights of the others depend on the place. The
 * answers are also read as whole datagrams and as a port mapper's.
 *
 * Checked beside what the sanitizers see: each call is done exactly once, and when all clients have restarted
 * nothing is locked.
 */
#include "config.h"

#include "common/client_caller.h"
#include "common/clock.h"
#include "common/file_service.h"
#include "common/log.h"
#include "common/nlm.h"
#include "common/nsm.h"
#include "tests/unit/fake_volume.h"

#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORDS_MAX = 16, RECORD_BYTES = 8192, CLIENTS = 4, PENDING_MAX = 64, MINUTE_MS = 60000 };
enum { NSM_BIT = 4, MINUTE_BIT = 32, RESTART_BIT = 64 };

/* What a restart makes anew. */
struct device {
	struct file_service *files;
	struct nsm *nsm;
	struct rpc_program programs[3];
	struct rpc_server server;
};

static struct volume *volume;
static struct namespace *ns;
static struct nlm *nlm;
static unsigned int done_count;
static struct client_call_done pending[PENDING_MAX];
static size_t pending_count;

static struct volume *find_volume(uint32_t id, void *arg)
{
	(void)arg;
	return id == volume->id ? volume : NULL;
}

static void on_done(struct rpc_call *call)
{
	(void)call;
	done_count++;
}

static void call_client(const struct client_call *call, const struct client_call_done *done, void *arg)
{
	(void)arg;
	if (call->args_len > CLIENT_CALL_ARGS_MAX)
		abort();
	if (pending_count < PENDING_MAX)
		pending[pending_count++] = *done;
	else if (done->fn)
		done->fn(done->id, -1, NULL, 0, done->arg);
}

static void answer_pending(const uint8_t *answer, size_t len)
{
	size_t count = pending_count;

	pending_count = 0;
	for (size_t i = 0; i < count; i++)
		if (pending[i].fn)
			pending[i].fn(pending[i].id, len ? 0 : -1, answer, len, pending[i].arg);
}

static bool may_call(void *arg)
{
	(void)arg;
	return true;
}

static bool on_rebooted(const uint8_t address[static 16], const char *name, int32_t state, void *arg)
{
	(void)arg;
	nlm_client_rebooted(nlm, address, name, state);
	return true;
}

/* A part of volume 1 is the second client's. */
static struct namespace *divided_namespace(void)
{
	struct namespace *divided = fake_namespace_new();
	ns_change change = { .revision = namespace_revision(divided) + 1, .operation = NS_PUT, .item.kind = NS_EXPORT };

	change.item.ns_item_u.export_ = (ns_export){ .id = 9, .path = (char *)"/disk0/b",
						     .clients = (char *)"10.9.0.2(rw,insecure)" };
	if (namespace_apply(divided, &change) < 0)
		abort();
	return divided;
}

static void put_handle(struct bytes_writer *w, uint32_t number)
{
	struct handle handle = { .type = HANDLE_LOCAL, .volume = 1, .backend_type = 7, .backend_len = 8 };
	struct bytes_writer backend = bytes_writer_init(handle.backend, 8);
	struct handle both;
	uint8_t bytes[HANDLE_MAX];
	size_t len;

	bytes_put_be64(&backend, number % 4 + FAKE_ROOT);
	if (number & 4 && handle_join(&handle, &volume->root, &both) == 0)
		handle = both;
	len = handle_encode(namespace_handle_key(ns), &handle, bytes);
	bytes_put_be32(w, (uint32_t)len);
	bytes_put(w, bytes, len);
	bytes_put(w, "\0\0", -len & 3);
}

static void expand(struct bytes_reader input, struct bytes_writer *w)
{
	while (input.left >= 4) {
		const uint8_t *word = bytes_take(&input, 4);

		if (memcmp(word, "\xfeHND", 4) == 0 && input.left >= 4)
			put_handle(w, bytes_get_be32(&input));
		else
			bytes_put(w, word, 4);
	}
	bytes_put(w, input.p, input.left);
}

static void set_client(struct sockaddr_storage *out, uint8_t number)
{
	struct sockaddr_in *client = (struct sockaddr_in *)out;

	client->sin_family = AF_INET;
	client->sin_addr.s_addr = htonl(0x0a090001u + number % CLIENTS);
	client->sin_port = htons(700);
}

static void dispatch(struct rpc_server *server, uint8_t flags, const uint8_t *record, size_t len)
{
	struct rpc_call call = { .record = record, .record_len = len, .transport = flags / 8 % 3, .done = on_done };

	set_client(&call.client, flags);
	call.server = call.client;
	done_count = 0;
	rpc_dispatch(server, &call);
	if (done_count != 1)
		abort();
	rpc_call_fini(&call);
}

static char directory[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void remove_directory(void)
{
	nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct nsm *make_nsm(uint64_t now_ms)
{
	struct nsm_options options = { .directory = directory, .self = 1, .way = { .call = call_client },
				       .may_call = may_call, .on_rebooted = on_rebooted };
	struct nsm *nsm;

	if (!directory[0]) {
		/* In memory where that is possible: records are synced. */
		snprintf(directory, sizeof(directory), "%s/fuzz_nlm.XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
		if (!mkdtemp(directory))
			abort();
		atexit(remove_directory);
	}
	if (nsm_new(&options, now_ms, &nsm) < 0)
		abort();
	return nsm;
}

static void device_start(struct device *device, uint64_t now_ms)
{
	struct nlm_options locks = { .files = device->files, .way = { .call = call_client }, .on_rebooted = on_rebooted };

	device->nsm = locks.nsm = make_nsm(now_ms);
	nlm = nlm_new(&locks);
	if (!nlm)
		abort();
	device->programs[0] = nlm_program(nlm);
	device->programs[1] = nsm_program(device->nsm);
	device->server.programs = device->programs;
	pending_count = 0;
}

static void device_stop(struct device *device)
{
	answer_pending(NULL, 0);
	nlm_free(nlm);
	nsm_free(device->nsm);
}

static void one_record(struct device *device, struct bytes_reader input, uint64_t *now_ms)
{
	uint8_t record[RECORD_BYTES], *exact, flags = bytes_get_u8(&input);
	struct bytes_writer w = bytes_writer_init(record, sizeof(record));
	uint32_t version = bytes_get_u8(&input), procedure = bytes_get_u8(&input);
	size_t answer_len = bytes_get_u8(&input);
	const uint8_t *answer, *results;
	uint16_t port;

	answer_len = answer_len < input.left ? answer_len : input.left;
	answer = bytes_take(&input, answer_len);
	if (flags & MINUTE_BIT)
		*now_ms += MINUTE_MS;
	if (flags & RESTART_BIT) {
		device_stop(device);
		device_start(device, *now_ms);
	}
	for (size_t i = 0; i < 10; i++)
		bytes_put_be32(&w, ((const uint32_t[]){ 7, 0, 2, flags & NSM_BIT ? NSM_PROGRAM : NLM_PROGRAM, version,
							procedure, 0, 0, 0, 0 })[i]);
	expand(input, &w);
	exact = malloc(w.written); /* in memory of its own, so that a step beyond its end is seen */
	if (!exact)
		abort();
	memcpy(exact, record, w.written);
	dispatch(&device->server, flags, exact, w.written);
	free(exact);
	nlm_tick(nlm, *now_ms);
	answer_pending(answer, answer_len);
	if (answer_len) {
		size_t len;

		client_caller_parse_reply(7, answer, answer_len, &results, &len);
		client_caller_parse_port(answer, answer_len, flags & 1, &port);
	}
}

/* Everybody restarts. */
static void check_empty(void)
{
	const struct lock_table_counters *counters = nlm_table_counters(nlm);
	uint8_t address[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [13] = 9 };

	for (uint8_t i = 1; i <= CLIENTS; i++) {
		address[15] = i;
		nlm_client_rebooted(nlm, address, "", NLM_NO_STATE);
	}
	if (counters->clients || counters->entries || counters->files || counters->waiters)
		abort();
}

/* What was recorded, so that the next input does not begin with it. */
static void forget_all(void)
{
	nlm_tick(nlm, UINT64_MAX / 4);
	answer_pending(NULL, 0);
	for (int i = 0; i <= NSM_TRIES; i++) {
		nlm_tick(nlm, UINT64_MAX / 2 + (uint64_t)i * UINT32_MAX);
		answer_pending((const uint8_t *)"\0\0\0\0\0\0\0\0", 8);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes_reader input = bytes_reader_init(data, size);
	struct file_service_options options = { .self = 1, .find_volume = find_volume };
	struct credentials root = { 0 };
	struct backend_set set = { .set_mode = true, .mode = 0666 };
	struct backend_found found;
	struct backend_change change;
	struct device device = { 0 };
	uint64_t now_ms = clock_monotonic_ms();

	log_open(LOG_LEVEL_ERR); /* restarts are said */
	ns = ns ? ns : divided_namespace();
	volume = fake_volume_new();
	volume->backend->create(volume, &root, &volume->root, "a", BACKEND_CREATE_GUARDED, &set, NULL, &found, &change);
	volume->backend->create(volume, &root, &volume->root, "b", BACKEND_CREATE_GUARDED, &set, NULL, &found, &change);
	options.ns = ns;
	device.files = file_service_new(&options);
	if (!device.files)
		abort();
	device_start(&device, now_ms);
	for (int i = 0; i < RECORDS_MAX && input.left; i++) {
		size_t len = bytes_get_be16(&input);

		len = len < input.left ? len : input.left;
		one_record(&device, bytes_reader_init(bytes_take(&input, len), len), &now_ms);
	}
	answer_pending(NULL, 0);
	check_empty();
	forget_all();
	device_stop(&device);
	file_service_free(device.files);
	fake_volume_free(volume);
	return 0;
}
