/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Calls as a client could send them: RPC, NFS, NFSACL, MOUNT, RQUOTA and the port mapper over the virtual root
 * and a volume in memory.
 *
 * Input: byte 0 chooses the transport (bits 0 to 5: enum rpc_transport, modulo 3), the client (bit 6: 10.9.0.2 instead of
 * 10.9.0.1) and the exports (bit 7: a part of volume 1, "a", is exported to 10.9.0.2, so rights depend on the place). Then
 * records, each with its length in two bytes before it. Since no fuzzer guesses a keyed hash, a handle in the input is written as its backend part:
 * where the four bytes "\xfeHND" stand at a multiple of 4 in a record, followed by a 4-byte number N, the right
 * handle of N is put in with its length (N below 256: entry N of the virtual root; else object N - 256 + FAKE_ROOT
 * of volume 1, or, from 0x1000 on, of volume 2). All records of one input act on one volume, in order.
 *
 * Checked beside what the sanitizers see: each call is done exactly once, and a reply is no longer than its
 * transport allows.
 */
#include "config.h"

#include "common/file_service_internal.h"
#include "common/portmap.h"
#include "tests/unit/fake_volume.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS_MAX = 8, RECORD_BYTES = 8192 };
enum { CLIENT_BIT = 0x40, DIVIDED_BIT = 0x80 };

static struct volume *volume;
static struct namespace *ns;
static unsigned int done_count;

static struct volume *find_volume(uint32_t id, void *arg)
{
	(void)arg;
	return id == volume->id ? volume : NULL;
}

static void relay(uint32_t node, struct rpc_call *call, void *arg)
{
	(void)node;
	(void)arg;
	file_service_unreachable(call);
}

static void on_done(struct rpc_call *call)
{
	done_count++;
	if (call->reply_len > RPC_RECORD_MAX || (call->transport == RPC_UDP && call->reply_len > 65507))
		abort();
}

static void put_handle(struct bytes_writer *w, uint32_t number)
{
	struct handle handle = { .type = HANDLE_PSEUDO, .backend_len = 8 };
	struct bytes_writer backend = bytes_writer_init(handle.backend, 8);
	uint8_t bytes[HANDLE_MAX];
	size_t len;

	bytes_put_be64(&backend, number < 256 ? number : (number & 0xfff) - 256 + FAKE_ROOT);
	if (number >= 256) {
		handle.type = HANDLE_LOCAL;
		handle.backend_type = 7;
		handle.volume = number < 0x1000 ? 1 : 2;
	}
	len = handle_encode(namespace_handle_key(ns), &handle, bytes);
	bytes_put_be32(w, (uint32_t)len);
	bytes_put(w, bytes, len);
	bytes_put(w, "\0\0", -len & 3);
}

/* Return: the length of the record made of @input */
static size_t expand(struct bytes_reader input, uint8_t out[static RECORD_BYTES])
{
	struct bytes_writer w = bytes_writer_init(out, RECORD_BYTES);

	while (input.left >= 4) {
		const uint8_t *word = bytes_take(&input, 4);

		if (memcmp(word, "\xfeHND", 4) == 0 && input.left >= 4)
			put_handle(&w, bytes_get_be32(&input));
		else
			bytes_put(&w, word, 4);
	}
	bytes_put(&w, input.p, input.left);
	return w.written;
}

static void dispatch(struct rpc_server *server, uint8_t setting, const uint8_t *record, size_t len)
{
	struct rpc_call call = { .record = record, .record_len = len, .transport = setting % CLIENT_BIT % 3, .done = on_done };
	struct sockaddr_in *client = (struct sockaddr_in *)&call.client;

	client->sin_family = AF_INET;
	client->sin_addr.s_addr = htonl(setting & CLIENT_BIT ? 0x0a090002 : 0x0a090001); /* 10.9.0.1 may do everything */
	client->sin_port = htons(700);
	call.server = call.client;
	done_count = 0;
	rpc_dispatch(server, &call);
	if (done_count != 1)
		abort();
	rpc_call_fini(&call);
}

static void one_record(struct rpc_server *server, uint8_t setting, struct bytes_reader input)
{
	uint8_t record[RECORD_BYTES], *exact;
	size_t len = expand(input, record);

	/* In memory of its own, so that a step beyond its end is seen. */
	exact = malloc(len ? len : 1);
	if (!exact)
		abort();
	memcpy(exact, record, len);
	dispatch(server, setting, exact, len);
	free(exact);
}

static struct namespace *make_namespace(bool is_divided)
{
	struct namespace *made = fake_namespace_new();
	ns_change change = { .revision = namespace_revision(made) + 1, .operation = NS_PUT, .item.kind = NS_EXPORT };

	change.item.ns_item_u.export_ = (ns_export){ .id = 9, .path = (char *)"/disk0/a",
						     .clients = (char *)"10.9.0.2(rw,insecure)" };
	if (is_divided && namespace_apply(made, &change) < 0)
		abort();
	return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes_reader input = bytes_reader_init(data, size);
	static struct namespace *namespaces[2];
	uint8_t setting = bytes_get_u8(&input);
	bool is_divided = setting & DIVIDED_BIT;
	struct file_service_options options = { .self = 1, .find_volume = find_volume, .relay = relay };
	struct rpc_program programs[FILE_SERVICE_PROGRAMS + 2] = { 0 };
	struct rpc_server server = { .programs = programs };
	struct file_service *service;
	size_t count;

	namespaces[is_divided] = namespaces[is_divided] ? namespaces[is_divided] : make_namespace(is_divided);
	ns = namespaces[is_divided];
	volume = fake_volume_new();
	options.ns = ns;
	service = file_service_new(&options);
	if (!service)
		abort();
	memcpy(programs, file_service_programs(service, &count), FILE_SERVICE_PROGRAMS * sizeof(programs[0]));
	programs[FILE_SERVICE_PROGRAMS] = portmap_program(portmap_services);
	for (int i = 0; i < RECORDS_MAX && input.left; i++) {
		size_t len = bytes_get_be16(&input);

		len = len < input.left ? len : input.left;
		one_record(&server, setting, bytes_reader_init(bytes_take(&input, len), len));
	}
	file_service_free(service);
	fake_volume_free(volume);
	return 0;
}
