/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, NFS clients see wrong files, wrong errors or replies that they can't parse. Results are decoded by
 * rpcgen's reading of RFC 1813 (common/nfs3.x), not by our own.
 */
#include "config.h"

#include "common/duplicate_requests.h"
#include "common/file_service.h"
#include "common/group_commit.h"
#include "common/loop.h"
#include "common/mount3_xdr.h"
#include "common/nfs3_internal.h"
#include "common/workers.h"
#include "tests/unit/fake_volume.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct namespace *ns;
static struct volume *volume;
static struct file_service *service;
static struct rpc_program programs[FILE_SERVICE_PROGRAMS + 1];
static struct rpc_server server;

/* How the next call is made. */
static const char *client;
static uint16_t client_port;
static uint32_t client_uid;
static enum rpc_transport transport;
static uint32_t client_xid;
static bool is_repeated; /* with the same xid as the one before */

static struct rpc_call last; /* its reply is freed with the next */
static uint32_t relayed_to;
static const void *relayed_reply; /* what the other device answers; NULL: it is not there */
static size_t relayed_reply_len;

static struct volume *find_volume(uint32_t id, void *arg)
{
	(void)arg;
	return id == volume->id ? volume : NULL;
}

static void relay(uint32_t node, struct rpc_call *call, void *arg)
{
	(void)arg;
	relayed_to = node;
	if (relayed_reply)
		rpc_reply_whole(call, relayed_reply, relayed_reply_len);
	else
		file_service_unreachable(call);
}

static void setup(void)
{
	struct file_service_options options = { .self = 1, .find_volume = find_volume, .relay = relay };
	size_t count;

	ns = fake_namespace_new();
	volume = fake_volume_new();
	options.ns = ns;
	service = file_service_new(&options);
	memcpy(programs, file_service_programs(service, &count), sizeof(programs[0]) * FILE_SERVICE_PROGRAMS);
	ck_assert_uint_eq(count, FILE_SERVICE_PROGRAMS);
	server = (struct rpc_server){ .programs = programs };
	client = "10.9.0.1";
	client_port = 50000;
	client_uid = 0;
	transport = RPC_TCP;
	client_xid = 0;
	is_repeated = false;
	relayed_to = 0;
	relayed_reply = NULL;
}

static void teardown(void)
{
	rpc_call_fini(&last);
	file_service_free(service);
	fake_volume_free(volume);
	namespace_free(ns);
}

static unsigned int dones;

static void on_done(struct rpc_call *call)
{
	(void)call;
	dones++;
}

static struct sockaddr_storage client_address(void)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;

	in->sin_family = AF_INET;
	in->sin_port = htons(client_port);
	inet_pton(AF_INET, client, &in->sin_addr);
	return ss;
}

/* The record is good until the next one. */
static struct rpc_call call_for(uint32_t program, uint32_t version, uint32_t procedure, const void *args, size_t len)
{
	static uint8_t record[RPC_RECORD_MAX];
	static uint32_t time_stamp; /* in the credentials: another one each time, as some clients do */
	struct bytes_writer w = bytes_writer_init(record, sizeof(record));
	const uint32_t header[] = {
		is_repeated ? client_xid : ++client_xid, 0, 2, program, version, procedure, 1, 20,
		time_stamp++, 0, client_uid, client_uid, 0, 0, 0,
	};

	for (size_t i = 0; i < sizeof(header) / sizeof(header[0]); i++)
		bytes_put_be32(&w, header[i]);
	bytes_put(&w, args, len);
	return (struct rpc_call){ .record = record, .record_len = w.written, .transport = transport,
				  .client = client_address(), .done = on_done };
}

static void send_bytes(uint32_t program, uint32_t version, uint32_t procedure, const void *args, size_t len)
{
	rpc_call_fini(&last);
	last = call_for(program, version, procedure, args, len);
	rpc_dispatch(&server, &last);
}

/* Make the call. Return: the accept status; @results: what stands behind it, until the next call */
static uint32_t call_bytes(uint32_t program, uint32_t version, uint32_t procedure, const void *args, size_t len,
			   struct bytes_reader *results)
{
	send_bytes(program, version, procedure, args, len);
	*results = bytes_reader_init(last.reply + RPC_REPLY_HEADROOM, last.reply_len);
	ck_assert_ptr_nonnull(bytes_take(results, 5 * 4));
	return bytes_get_be32(results);
}

/* Call with XDR on both sides; all of the results must be used up. */
static void call_xdr(uint32_t program, uint32_t procedure, xdrproc_t args_xdr, void *args, xdrproc_t res_xdr, void *res,
		     size_t res_size)
{
	static char bytes[RPC_RECORD_MAX];
	struct bytes_reader results;
	XDR xdr;

	xdrmem_create(&xdr, bytes, sizeof(bytes), XDR_ENCODE);
	ck_assert(args_xdr(&xdr, args));
	ck_assert_uint_eq(call_bytes(program, 3, procedure, bytes, xdr_getpos(&xdr), &results), RPC_ACCEPT_SUCCESS);
	memset(res, 0, res_size);
	xdrmem_create(&xdr, (char *)results.p, (u_int)results.left, XDR_DECODE);
	ck_assert(res_xdr(&xdr, res));
	ck_assert_uint_eq(xdr_getpos(&xdr), results.left);
}

#define NFS(number, args_type, args, res_type, res)                                                                    \
	call_xdr(NFS_PROGRAM, number, (xdrproc_t)xdr_##args_type, args, (xdrproc_t)xdr_##res_type, res, sizeof(*(res)))
#define FORGET(res_type, res) xdr_free((xdrproc_t)xdr_##res_type, res)

static uint8_t handle_memory[8][HANDLE_MAX];
static unsigned int handle_next;

static nfs_fh3 fh(const struct handle *handle)
{
	uint8_t *memory = handle_memory[handle_next++ % 8];
	size_t len = handle_encode(namespace_handle_key(ns), handle, memory);

	return (nfs_fh3){ .data = { .data_len = (u_int)len, .data_val = (char *)memory } };
}

static nfs_fh3 fh_copy(const nfs_fh3 *from)
{
	uint8_t *memory = handle_memory[handle_next++ % 8];

	memcpy(memory, from->data.data_val, from->data.data_len);
	return (nfs_fh3){ .data = { .data_len = from->data.data_len, .data_val = (char *)memory } };
}

static nfs_fh3 volume_root(void)
{
	return fh(&volume->root);
}

static nfs_fh3 entry_fh(uint64_t id)
{
	struct handle handle = namespace_entry_handle(namespace_entry(ns, id));

	return fh(&handle);
}

static nfs_fh3 other_volume(uint32_t id)
{
	struct handle handle = namespace_volume_root(namespace_volume(ns, id));

	return fh(&handle);
}

static filename3 text(const char *name)
{
	return (filename3){ .filename3_len = (u_int)strlen(name), .filename3_val = (char *)name };
}

static nfsstat3 lookup(nfs_fh3 dir, const char *name, nfs_fh3 *found)
{
	LOOKUP3args args = { .what = { .dir = dir, .name = text(name) } };
	LOOKUP3res res;
	nfsstat3 status;

	NFS(NFS3_LOOKUP, LOOKUP3args, &args, LOOKUP3res, &res);
	status = res.status;
	if (status == NFS3_OK && found)
		*found = fh_copy(&res.LOOKUP3res_u.resok.object);
	FORGET(LOOKUP3res, &res);
	return status;
}

static nfsstat3 create(nfs_fh3 dir, const char *name, createmode3 mode, nfs_fh3 *found)
{
	CREATE3args args = { .where = { .dir = dir, .name = text(name) }, .how = { .mode = mode } };
	CREATE3res res;
	nfsstat3 status;

	NFS(NFS3_CREATE, CREATE3args, &args, CREATE3res, &res);
	status = res.status;
	if (status == NFS3_OK) {
		ck_assert(res.CREATE3res_u.resok.obj.handle_follows);
		ck_assert(res.CREATE3res_u.resok.obj_attributes.attributes_follow);
		ck_assert_uint_eq(res.CREATE3res_u.resok.obj_attributes.post_op_attr_u.attributes.fsid, FAKE_FSID);
	}
	if (status == NFS3_OK && found)
		*found = fh_copy(&res.CREATE3res_u.resok.obj.post_op_fh3_u.handle);
	FORGET(CREATE3res, &res);
	return status;
}

static nfsstat3 getattr(nfs_fh3 object, fattr3 *out)
{
	GETATTR3res res;

	NFS(NFS3_GETATTR, nfs_fh3, &object, GETATTR3res, &res);
	if (out && res.status == NFS3_OK)
		*out = res.GETATTR3res_u.resok.obj_attributes;
	return res.status;
}

static nfsstat3 write_bytes(nfs_fh3 file, uint64_t offset, const void *data, uint32_t len, stable_how stable)
{
	WRITE3args args = { .file = file, .offset = offset, .count = len, .stable = stable,
			    .data = { .data_len = len, .data_val = (char *)data } };
	WRITE3res res;

	NFS(NFS3_WRITE, WRITE3args, &args, WRITE3res, &res);
	if (res.status == NFS3_OK) {
		ck_assert_uint_eq(res.WRITE3res_u.resok.count, len);
		ck_assert_uint_ge(res.WRITE3res_u.resok.committed, stable);
		ck_assert_mem_eq(res.WRITE3res_u.resok.verf, "\0\0\0\0\0\0\x56\x78", 8);
		ck_assert(res.WRITE3res_u.resok.file_wcc.before.attributes_follow);
		ck_assert(res.WRITE3res_u.resok.file_wcc.after.attributes_follow);
	}
	return res.status;
}

START_TEST(null_has_no_results)
{
	struct bytes_reader results;

	ck_assert_uint_eq(call_bytes(NFS_PROGRAM, 3, NFS3_NULL, "", 0, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(results.left, 0);
	ck_assert_uint_eq(file_service_counters(service).nfs3[NFS3_NULL], 1);
}
END_TEST

START_TEST(linux_is_told_to_use_version_3)
{
	struct bytes_reader results;

	ck_assert_uint_eq(call_bytes(NFS_PROGRAM, 4, 0, "", 0, &results), RPC_ACCEPT_PROG_MISMATCH);
	ck_assert_uint_eq(bytes_get_be32(&results), 3);
	ck_assert_uint_eq(bytes_get_be32(&results), 3);
	ck_assert_uint_eq(call_bytes(NFS_PROGRAM, 3, NFS3_PROCEDURES, "", 0, &results), RPC_ACCEPT_PROC_UNAVAIL);
}
END_TEST

/*
 * Whole calls and replies, word for word as RFC 5531 (8, 9) and RFC 1813 (3.3.1, 3.3.2, 5.2.1) spell them; rpcgen has
 * no part in it. The hashes in the handles were made with OpenSSL's SipHash. The fake volume's clock counts changes.
 */
#define HYPER(value) (uint32_t)((uint64_t)(value) >> 32), (uint32_t)(value)
#define GOLDEN_CALL(program, version, procedure)                                                                       \
	/* xid, CALL, RPC version */ 0x01020304, 0, 2, program, version, procedure,                                    \
	/* AUTH_SYS, length: stamp, "host", uid, gid, two groups */ 1, 32, 5, 4, 0x686f7374, 0, 100, 2, 7, 8,          \
	/* AUTH_NONE, length */ 0, 0
#define GOLDEN_REPLY(accept_stat) /* xid, REPLY, MSG_ACCEPTED, AUTH_NONE, length */ 0x01020304, 1, 0, 0, 0, accept_stat
#define GOLDEN_HANDLE(hash, id) /* length */ 24, 0x01020007, /* volume */ 1, HYPER(hash), HYPER(id)
#define GOLDEN_FILE GOLDEN_HANDLE(0xc315da2831df764b, 101)
#define GOLDEN_FATTR3                                                                                                  \
	/* NF3REG, mode, nlink, uid, gid */ 1, 0640, 1, 1000, 1001, /* size, used */ HYPER(5), HYPER(0),               \
	/* rdev */ 0, 0, /* fsid, fileid */ HYPER(0x1234), HYPER(101),                                                 \
	/* atime, mtime, ctime */ 21, 22, 31, 32, 5, 0
#define GOLDEN_END 0xfeedbeef
enum { GOLDEN_WORDS = 64 };

/* One after the other, on a new file. */
static const struct {
	const char *what;
	uint32_t call[GOLDEN_WORDS], reply[GOLDEN_WORDS];
} golden[] = {
	{ "SETATTR",
	  { GOLDEN_CALL(100003, 3, 2), GOLDEN_FILE, /* mode, uid, gid */ 1, 0640, 1, 1000, 1, 1001,
	    /* size */ 1, HYPER(5), /* SET_TO_CLIENT_TIME: atime, mtime */ 2, 21, 22, 2, 31, 32, /* no guard */ 0,
	    GOLDEN_END },
	  { GOLDEN_REPLY(0), /* NFS3_OK */ 0, /* before: size, mtime, ctime */ 1, HYPER(0), 3, 0, 3, 0,
	    /* after */ 1, GOLDEN_FATTR3, GOLDEN_END } },
	{ "GETATTR",
	  { GOLDEN_CALL(100003, 3, 1), GOLDEN_FILE, GOLDEN_END },
	  { GOLDEN_REPLY(0), /* NFS3_OK */ 0, GOLDEN_FATTR3, GOLDEN_END } },
	{ "MNT",
	  { GOLDEN_CALL(100005, 3, 1), /* "/disk0" */ 6, 0x2f646973, 0x6b300000, GOLDEN_END },
	  { GOLDEN_REPLY(0), /* MNT3_OK */ 0, GOLDEN_HANDLE(0xfd80e424f7a05596, 100), /* AUTH_SYS, AUTH_NONE */ 2, 1, 0,
	    GOLDEN_END } },
	{ "a version that is not served",
	  { GOLDEN_CALL(100003, 4, 0), GOLDEN_END },
	  { GOLDEN_REPLY(/* PROG_MISMATCH: from, to */ 2), 3, 3, GOLDEN_END } },
	{ "a procedure that is not there",
	  { GOLDEN_CALL(100003, 3, 22), GOLDEN_END },
	  { GOLDEN_REPLY(/* PROC_UNAVAIL */ 3), GOLDEN_END } },
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
	uint8_t record[GOLDEN_WORDS * 4], reply[GOLDEN_WORDS * 4];

	create(volume_root(), "f", GUARDED, NULL);
	for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
		struct rpc_call call = { .record = record,
					 .record_len = golden_put(golden[i].call, record),
					 .client = client_address(),
					 .done = on_done };
		size_t len = golden_put(golden[i].reply, reply);

		rpc_dispatch(&server, &call);
		ck_assert_msg(call.reply_len == len, "%s: %zu bytes", golden[i].what, call.reply_len);
		for (size_t at = 0; at < len; at++)
			ck_assert_msg(call.reply[RPC_REPLY_HEADROOM + at] == reply[at], "%s: word %zu is another",
				      golden[i].what, at / 4);
		rpc_call_fini(&call);
	}
}
END_TEST

START_TEST(garbage_is_said_for_every_procedure)
{
	struct bytes_reader results;

	for (uint32_t procedure = NFS3_GETATTR; procedure <= NFS3_COMMIT; procedure++) {
		ck_assert_uint_eq(call_bytes(NFS_PROGRAM, 3, procedure, "", 0, &results), RPC_ACCEPT_GARBAGE_ARGS);
		ck_assert_uint_eq(call_bytes(NFS_PROGRAM, 3, procedure, "\0\0\0\x41", 4, &results),
				  RPC_ACCEPT_GARBAGE_ARGS);
	}
}
END_TEST

/* Every value of the protocol can be said, and every errno value says one of them. */
static const nfsstat3 every_status[] = {
	NFS3_OK,	      NFS3ERR_PERM,	 NFS3ERR_NOENT,	     NFS3ERR_IO,	NFS3ERR_NXIO,
	NFS3ERR_ACCES,	      NFS3ERR_EXIST,	 NFS3ERR_XDEV,	     NFS3ERR_NODEV,	NFS3ERR_NOTDIR,
	NFS3ERR_ISDIR,	      NFS3ERR_INVAL,	 NFS3ERR_FBIG,	     NFS3ERR_NOSPC,	NFS3ERR_ROFS,
	NFS3ERR_MLINK,	      NFS3ERR_NAMETOOLONG, NFS3ERR_NOTEMPTY, NFS3ERR_DQUOT,	NFS3ERR_STALE,
	NFS3ERR_REMOTE,	      NFS3ERR_BADHANDLE, NFS3ERR_NOT_SYNC,   NFS3ERR_BAD_COOKIE, NFS3ERR_NOTSUPP,
	NFS3ERR_TOOSMALL,     NFS3ERR_SERVERFAULT, NFS3ERR_BADTYPE,  NFS3ERR_JUKEBOX,
};

enum { STATUSES = sizeof(every_status) / sizeof(every_status[0]) };

START_TEST(every_status_and_every_errno)
{
	bool said[STATUSES] = { false };

	for (int err = 0; err <= 200; err++) {
		nfsstat3 status = nfs3_status(-err);
		size_t at = 0;

		while (at < STATUSES && every_status[at] != status)
			at++;
		ck_assert_msg(at < STATUSES, "errno %d", err);
		ck_assert_msg(err == 0 || status != NFS3_OK, "errno %d", err);
		said[at] = true;
	}
	for (size_t at = 0; at < STATUSES; at++)
		ck_assert_msg(said[at], "nothing says %d", every_status[at]);
	ck_assert_int_eq(nfs3_status(-EUCLEAN), NFS3ERR_IO); /* unknown */
}
END_TEST

static const struct {
	int err;
	nfsstat3 status;
} translations[] = {
	{ 0, NFS3_OK },
	{ -ENOENT, NFS3ERR_NOENT },
	{ -EACCES, NFS3ERR_ACCES },
	{ -EBUSY, NFS3ERR_ACCES },
	{ -ENOTEMPTY, NFS3ERR_NOTEMPTY },
	{ -ESTALE, NFS3ERR_STALE },
	{ -EDQUOT, NFS3ERR_DQUOT },
	{ -EAGAIN, NFS3ERR_NOT_SYNC },
	{ -EBADMSG, NFS3ERR_BADHANDLE },
	{ -ENOMEM, NFS3ERR_JUKEBOX },
	{ -EOPNOTSUPP, NFS3ERR_NOTSUPP },
};

START_TEST(translation)
{
	ck_assert_int_eq(nfs3_status(translations[_i].err), translations[_i].status);
}
END_TEST

static const struct {
	const char *name;
	size_t len;
	int found, made, taken_away, rmdir;
} names[] = {
	{ "a", 1, 0, 0, 0, 0 },
	{ "...", 3, 0, 0, 0, 0 },
	{ ".a", 2, 0, 0, 0, 0 },
	{ "\xff\n", 2, 0, 0, 0, 0 },
	{ "", 0, -EINVAL, -EINVAL, -EINVAL, -EINVAL },
	{ ".", 1, 0, -EEXIST, -EINVAL, -EINVAL },
	{ "..", 2, 0, -EEXIST, -EINVAL, -EEXIST },
	{ "a/b", 3, -EINVAL, -EINVAL, -EINVAL, -EINVAL },
	{ "a\0b", 3, -EINVAL, -EINVAL, -EINVAL, -EINVAL },
	{ "\0", 1, -EINVAL, -EINVAL, -EINVAL, -EINVAL },
};

START_TEST(names_are_checked)
{
	filename3 wire = { .filename3_len = (u_int)names[_i].len, .filename3_val = (char *)names[_i].name };
	char out[NFS3_NAME_BYTES];

	ck_assert_int_eq(nfs3_name(&wire, NFS3_NAME_FIND, out), names[_i].found);
	ck_assert_int_eq(nfs3_name(&wire, NFS3_NAME_MAKE, out), names[_i].made);
	ck_assert_int_eq(nfs3_name(&wire, NFS3_NAME_TAKE_AWAY, out), names[_i].taken_away);
	ck_assert_int_eq(nfs3_name(&wire, NFS3_NAME_RMDIR, out), names[_i].rmdir);
}
END_TEST

START_TEST(the_longest_name)
{
	char long_name[300], out[NFS3_NAME_BYTES];
	filename3 wire = { .filename3_len = 255, .filename3_val = long_name };

	memset(long_name, 'x', sizeof(long_name));
	ck_assert_int_eq(nfs3_name(&wire, NFS3_NAME_FIND, out), 0);
	ck_assert_uint_eq(strlen(out), 255);
	wire.filename3_len = 256;
	ck_assert_int_eq(nfs3_name(&wire, NFS3_NAME_FIND, out), -ENAMETOOLONG);
}
END_TEST

START_TEST(a_file_from_birth_to_death)
{
	char data[] = "hello, world";
	READ3args read = { .offset = 7, .count = 100 };
	REMOVE3args remove = { .object = { .dir = volume_root(), .name = text("f") } };
	COMMIT3args commit = { 0 };
	COMMIT3res committed;
	READ3res got;
	REMOVE3res removed;
	fattr3 attributes;
	nfs_fh3 file;

	ck_assert_int_eq(create(volume_root(), "f", GUARDED, &file), NFS3_OK);
	ck_assert_int_eq(create(volume_root(), "f", GUARDED, NULL), NFS3ERR_EXIST);
	ck_assert_int_eq(create(volume_root(), "f", UNCHECKED, NULL), NFS3_OK);
	ck_assert_int_eq(write_bytes(file, 0, data, sizeof(data), UNSTABLE), NFS3_OK);
	ck_assert_uint_eq(fake_volume_bytes(volume), sizeof(data));
	ck_assert(last.moved_data);
	ck_assert_uint_eq(last.volume, 1);
	ck_assert_uint_eq(last.data_bytes, sizeof(data));
	commit.file = file;
	NFS(NFS3_COMMIT, COMMIT3args, &commit, COMMIT3res, &committed);
	ck_assert_int_eq(committed.status, NFS3_OK);
	ck_assert_mem_eq(committed.COMMIT3res_u.resok.verf, "\0\0\0\0\0\0\x56\x78", 8);
	read.file = file;
	NFS(NFS3_READ, READ3args, &read, READ3res, &got);
	ck_assert_int_eq(got.status, NFS3_OK);
	ck_assert_uint_eq(got.READ3res_u.resok.count, 6);
	ck_assert(got.READ3res_u.resok.eof);
	ck_assert_uint_eq(got.READ3res_u.resok.data.data_len, 6);
	ck_assert_str_eq(got.READ3res_u.resok.data.data_val, "world");
	ck_assert(got.READ3res_u.resok.file_attributes.attributes_follow);
	ck_assert_uint_eq(last.data_bytes, 6);
	FORGET(READ3res, &got);
	ck_assert_int_eq(getattr(file, &attributes), NFS3_OK);
	ck_assert_uint_eq(attributes.size, sizeof(data));
	ck_assert_uint_eq(attributes.type, NF3REG);
	ck_assert(!last.moved_data);
	NFS(NFS3_REMOVE, REMOVE3args, &remove, REMOVE3res, &removed);
	ck_assert_int_eq(removed.status, NFS3_OK);
	ck_assert(removed.REMOVE3res_u.resok.dir_wcc.before.attributes_follow);
	ck_assert_int_eq(getattr(file, NULL), NFS3ERR_STALE);
	ck_assert_uint_eq(file_service_counters(service).stale_handle, 1);
}
END_TEST

START_TEST(a_write_that_lies_about_its_length_is_garbage)
{
	uint8_t args[100] = { 0 };
	struct bytes_writer w = bytes_writer_init(args, sizeof(args));
	struct bytes_reader results;
	nfs_fh3 file = volume_root();

	bytes_put_be32(&w, file.data.data_len);
	bytes_put(&w, file.data.data_val, file.data.data_len);
	bytes_put_be64(&w, 0);
	bytes_put_be32(&w, 8);
	bytes_put_be32(&w, FILE_SYNC);
	bytes_put_be32(&w, 4);
	bytes_put_be32(&w, 0);
	ck_assert_uint_eq(call_bytes(NFS_PROGRAM, 3, NFS3_WRITE, args, w.written, &results), RPC_ACCEPT_GARBAGE_ARGS);
}
END_TEST

START_TEST(facts_come_with_failures)
{
	WRITE3args args = { .offset = FAKE_FILE_MAX };
	WRITE3res res;

	ck_assert_int_eq(create(volume_root(), "f", UNCHECKED, &args.file), NFS3_OK);
	NFS(NFS3_WRITE, WRITE3args, &args, WRITE3res, &res);
	ck_assert_int_eq(res.status, NFS3ERR_FBIG);
	ck_assert(res.WRITE3res_u.resfail.file_wcc.before.attributes_follow);
	ck_assert(res.WRITE3res_u.resfail.file_wcc.after.attributes_follow);
}
END_TEST

START_TEST(exclusive_create_may_be_repeated)
{
	nfs_fh3 first, again;

	ck_assert_int_eq(create(volume_root(), "f", EXCLUSIVE, &first), NFS3_OK);
	ck_assert_int_eq(create(volume_root(), "f", EXCLUSIVE, &again), NFS3_OK);
	ck_assert_mem_eq(first.data.data_val, again.data.data_val, first.data.data_len);
}
END_TEST

START_TEST(attributes_are_set_and_guarded)
{
	SETATTR3args args = { 0 };
	SETATTR3res res;
	fattr3 attributes;

	ck_assert_int_eq(create(volume_root(), "f", UNCHECKED, &args.object), NFS3_OK);
	getattr(args.object, &attributes);
	args.guard = (sattrguard3){ .check = TRUE, .sattrguard3_u.obj_ctime = attributes.ctime };
	args.new_attributes.mode = (set_mode3){ .set_it = TRUE, .set_mode3_u.mode = 0100600 };
	args.new_attributes.size = (set_size3){ .set_it = TRUE, .set_size3_u.size = 5 };
	args.new_attributes.mtime = (set_time3){ .set_it = SET_TO_CLIENT_TIME, .set_time3_u.time = { 77, 88 } };
	NFS(NFS3_SETATTR, SETATTR3args, &args, SETATTR3res, &res);
	ck_assert_int_eq(res.status, NFS3_OK);
	getattr(args.object, &attributes);
	ck_assert_uint_eq(attributes.mode, 0600);
	ck_assert_uint_eq(attributes.size, 5);
	ck_assert_uint_eq(attributes.mtime.seconds, 77);
	ck_assert_uint_eq(attributes.mtime.nseconds, 88);
	NFS(NFS3_SETATTR, SETATTR3args, &args, SETATTR3res, &res);
	ck_assert_int_eq(res.status, NFS3ERR_NOT_SYNC);
	args.new_attributes.mtime.set_time3_u.time.nseconds = 1000000000;
	NFS(NFS3_SETATTR, SETATTR3args, &args, SETATTR3res, &res);
	ck_assert_int_eq(res.status, NFS3ERR_INVAL);
}
END_TEST

/* A call as bytes, and what was answered. */
static uint8_t call_args[8192], call_answer[8192];
static size_t call_args_len, call_answer_len;

static nfsstat3 call_again(uint32_t procedure)
{
	struct bytes_reader results;

	ck_assert_uint_eq(call_bytes(NFS_PROGRAM, 3, procedure, call_args, call_args_len, &results), RPC_ACCEPT_SUCCESS);
	return (nfsstat3)bytes_get_be32(&results);
}

/* Make a call that succeeds. */
static void call_first(uint32_t procedure, xdrproc_t args_xdr, void *args)
{
	XDR xdr;

	xdrmem_create(&xdr, (char *)call_args, sizeof(call_args), XDR_ENCODE);
	ck_assert(args_xdr(&xdr, args));
	call_args_len = xdr_getpos(&xdr);
	ck_assert_int_eq(call_again(procedure), NFS3_OK);
	call_answer_len = last.reply_len;
	memcpy(call_answer, last.reply + RPC_REPLY_HEADROOM, call_answer_len);
}

/* Make it, send it again by all ways: the same answer. As a new call it draws @anew. */
static void send_twice(uint32_t procedure, xdrproc_t args_xdr, void *args, nfsstat3 anew)
{
	static const enum rpc_transport ways[] = { RPC_TCP, RPC_UDP, RPC_RELAYED };

	call_first(procedure, args_xdr, args);
	is_repeated = true;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		transport = ways[i];
		client_port++;
		ck_assert_int_eq(call_again(procedure), NFS3_OK);
		ck_assert_uint_eq(last.reply_len, call_answer_len);
		ck_assert_mem_eq(last.reply + RPC_REPLY_HEADROOM, call_answer, call_answer_len);
	}
	is_repeated = false;
	transport = RPC_TCP;
	ck_assert_int_eq(call_again(procedure), anew);
}

#define SEND_TWICE(number, type, args, anew) send_twice(number, (xdrproc_t)xdr_##type, args, anew)

START_TEST(names_are_made_once)
{
	CREATE3args create_args = { .where = { .dir = volume_root(), .name = text("f") }, .how = { .mode = GUARDED } };
	MKDIR3args mkdir = { .where = { .dir = volume_root(), .name = text("d") } };
	SYMLINK3args symlink = { .where = { .dir = volume_root(), .name = text("s") } };
	MKNOD3args mknod = { .where = { .dir = volume_root(), .name = text("p") }, .what = { .type = NF3FIFO } };
	LINK3args link = { .link = { .dir = volume_root(), .name = text("h") } };

	symlink.symlink.symlink_data = (nfspath3){ .nfspath3_len = 7, .nfspath3_val = (char *)"../some" };
	SEND_TWICE(NFS3_CREATE, CREATE3args, &create_args, NFS3ERR_EXIST);
	SEND_TWICE(NFS3_MKDIR, MKDIR3args, &mkdir, NFS3ERR_EXIST);
	SEND_TWICE(NFS3_SYMLINK, SYMLINK3args, &symlink, NFS3ERR_EXIST);
	SEND_TWICE(NFS3_MKNOD, MKNOD3args, &mknod, NFS3ERR_EXIST);
	ck_assert_int_eq(lookup(volume_root(), "f", &link.file), NFS3_OK);
	SEND_TWICE(NFS3_LINK, LINK3args, &link, NFS3ERR_EXIST);
	ck_assert_uint_eq(file_service_duplicates(service, FILE_SERVICE_CHANGES).answered, 5 * 3);
}
END_TEST

START_TEST(names_go_away_once)
{
	MKDIR3args mkdir = { .where = { .dir = volume_root(), .name = text("d") } };
	REMOVE3args rmdir = { .object = { .dir = volume_root(), .name = text("d") } };
	REMOVE3args remove = { .object = { .dir = volume_root(), .name = text("g") } };
	RENAME3args rename = { .from = { .dir = volume_root(), .name = text("f") },
			       .to = { .dir = volume_root(), .name = text("g") } };

	ck_assert_int_eq(create(volume_root(), "f", UNCHECKED, NULL), NFS3_OK);
	SEND_TWICE(NFS3_RENAME, RENAME3args, &rename, NFS3ERR_NOENT);
	SEND_TWICE(NFS3_REMOVE, REMOVE3args, &remove, NFS3ERR_NOENT);
	call_first(NFS3_MKDIR, (xdrproc_t)xdr_MKDIR3args, &mkdir);
	SEND_TWICE(NFS3_RMDIR, REMOVE3args, &rmdir, NFS3ERR_NOENT);
}
END_TEST

START_TEST(attributes_are_set_once)
{
	SETATTR3args args = { .new_attributes.mode = { .set_it = TRUE, .set_mode3_u.mode = 0600 } };
	fattr3 attributes;

	ck_assert_int_eq(create(volume_root(), "f", UNCHECKED, &args.object), NFS3_OK);
	getattr(args.object, &attributes);
	args.guard = (sattrguard3){ .check = TRUE, .sattrguard3_u.obj_ctime = attributes.ctime };
	SEND_TWICE(NFS3_SETATTR, SETATTR3args, &args, NFS3ERR_NOT_SYNC);
}
END_TEST

/* A copy of an old WRITE that comes late must not undo a later one. */
START_TEST(a_late_write_changes_nothing)
{
	WRITE3args args = { .count = 3, .stable = FILE_SYNC, .data = { .data_len = 3, .data_val = (char *)"old" } };
	READ3args read_args = { .count = 3 };
	READ3res res;
	uint32_t first_xid;

	ck_assert_int_eq(create(volume_root(), "f", UNCHECKED, &args.file), NFS3_OK);
	read_args.file = args.file;
	call_first(NFS3_WRITE, (xdrproc_t)xdr_WRITE3args, &args);
	first_xid = client_xid;
	ck_assert_int_eq(write_bytes(args.file, 0, "new", 3, FILE_SYNC), NFS3_OK);
	client_xid = first_xid;
	is_repeated = true;
	ck_assert_int_eq(call_again(NFS3_WRITE), NFS3_OK);
	ck_assert_mem_eq(last.reply + RPC_REPLY_HEADROOM, call_answer, call_answer_len);
	is_repeated = false;
	client_xid++;
	NFS(NFS3_READ, READ3args, &read_args, READ3res, &res);
	ck_assert_mem_eq(res.READ3res_u.resok.data.data_val, "new", 3);
	FORGET(READ3res, &res);
	ck_assert_uint_eq(file_service_duplicates(service, FILE_SERVICE_WRITES).answered, 1);
}
END_TEST

static void export_put(uint32_t id, const char *path, const char *clients)
{
	ns_change change = { .revision = namespace_revision(ns) + 1, .operation = NS_PUT, .item.kind = NS_EXPORT };

	change.item.ns_item_u.export_ = (ns_export){ .id = id, .path = (char *)path, .clients = (char *)clients };
	ck_assert_int_eq(namespace_apply(ns, &change), 0);
}

START_TEST(rights_are_checked_of_duplicates_too)
{
	MKDIR3args mkdir = { .where = { .dir = volume_root(), .name = text("d") } };

	call_first(NFS3_MKDIR, (xdrproc_t)xdr_MKDIR3args, &mkdir);
	is_repeated = true;
	ck_assert_int_eq(call_again(NFS3_MKDIR), NFS3_OK);
	export_put(1, "/", "10.9.0.0/16(ro,insecure)"); /* nobody may write any more */
	ck_assert_int_eq(call_again(NFS3_MKDIR), NFS3ERR_ROFS);
	client = "10.0.0.1";
	ck_assert_int_eq(call_again(NFS3_MKDIR), NFS3ERR_ACCES);
	ck_assert_uint_eq(file_service_duplicates(service, FILE_SERVICE_CHANGES).answered, 1);
}
END_TEST

START_TEST(all_kinds_of_objects)
{
	MKDIR3args mkdir = { .where = { .dir = volume_root(), .name = text("d") } };
	SYMLINK3args symlink = { .where = { .dir = volume_root(), .name = text("s") } };
	MKNOD3args mknod = { .where = { .dir = volume_root(), .name = text("p") }, .what = { .type = NF3FIFO } };
	REMOVE3args rmdir = { .object = { .dir = volume_root(), .name = text("d") } };
	READLINK3res target;
	CREATE3res made;
	REMOVE3res removed;
	nfs_fh3 object;

	NFS(NFS3_MKDIR, MKDIR3args, &mkdir, CREATE3res, &made);
	ck_assert_int_eq(made.status, NFS3_OK);
	ck_assert_uint_eq(made.CREATE3res_u.resok.obj_attributes.post_op_attr_u.attributes.type, NF3DIR);
	FORGET(CREATE3res, &made);
	symlink.symlink.symlink_data = (nfspath3){ .nfspath3_len = 7, .nfspath3_val = (char *)"../some" };
	NFS(NFS3_SYMLINK, SYMLINK3args, &symlink, CREATE3res, &made);
	ck_assert_int_eq(made.status, NFS3_OK);
	object = fh_copy(&made.CREATE3res_u.resok.obj.post_op_fh3_u.handle);
	FORGET(CREATE3res, &made);
	NFS(NFS3_READLINK, nfs_fh3, &object, READLINK3res, &target);
	ck_assert_int_eq(target.status, NFS3_OK);
	ck_assert_uint_eq(target.READLINK3res_u.resok.data.nfspath3_len, 7);
	ck_assert_mem_eq(target.READLINK3res_u.resok.data.nfspath3_val, "../some", 7);
	FORGET(READLINK3res, &target);
	NFS(NFS3_MKNOD, MKNOD3args, &mknod, CREATE3res, &made);
	ck_assert_int_eq(made.status, NFS3_OK);
	FORGET(CREATE3res, &made);
	mknod.what.type = NF3REG;
	mknod.where.name = text("q");
	NFS(NFS3_MKNOD, MKNOD3args, &mknod, CREATE3res, &made);
	ck_assert_int_eq(made.status, NFS3ERR_BADTYPE);
	FORGET(CREATE3res, &made);
	NFS(NFS3_REMOVE, REMOVE3args, &rmdir, REMOVE3res, &removed);
	ck_assert_int_eq(removed.status, NFS3ERR_ISDIR);
	NFS(NFS3_RMDIR, REMOVE3args, &rmdir, REMOVE3res, &removed);
	ck_assert_int_eq(removed.status, NFS3_OK);
}
END_TEST

START_TEST(names_move_within_a_volume_only)
{
	RENAME3args rename = { .from = { .name = text("f") }, .to = { .name = text("g") } };
	LINK3args link = { .link = { .name = text("h") } };
	RENAME3res renamed;
	LINK3res linked;

	rename.from.dir = rename.to.dir = link.link.dir = volume_root();
	ck_assert_int_eq(create(volume_root(), "f", UNCHECKED, &link.file), NFS3_OK);
	NFS(NFS3_RENAME, RENAME3args, &rename, RENAME3res, &renamed);
	ck_assert_int_eq(renamed.status, NFS3_OK);
	ck_assert(renamed.RENAME3res_u.resok.todir_wcc.after.attributes_follow);
	NFS(NFS3_LINK, LINK3args, &link, LINK3res, &linked);
	ck_assert_int_eq(linked.status, NFS3_OK);
	ck_assert_uint_eq(linked.LINK3res_u.resok.file_attributes.post_op_attr_u.attributes.nlink, 2);

	rename.to.dir = other_volume(2);
	NFS(NFS3_RENAME, RENAME3args, &rename, RENAME3res, &renamed);
	ck_assert_int_eq(renamed.status, NFS3ERR_XDEV);
	rename.to.dir = entry_fh(1);
	NFS(NFS3_RENAME, RENAME3args, &rename, RENAME3res, &renamed);
	ck_assert_int_eq(renamed.status, NFS3ERR_XDEV);
	rename.from.dir = entry_fh(3);
	NFS(NFS3_RENAME, RENAME3args, &rename, RENAME3res, &renamed);
	ck_assert_int_eq(renamed.status, NFS3ERR_ROFS);
	link.link.dir = entry_fh(1);
	NFS(NFS3_LINK, LINK3args, &link, LINK3res, &linked);
	ck_assert_int_eq(linked.status, NFS3ERR_XDEV);
	rename.to.dir.data.data_val[9] ^= 1;
	NFS(NFS3_RENAME, RENAME3args, &rename, RENAME3res, &renamed);
	ck_assert_int_eq(renamed.status, NFS3ERR_BADHANDLE);
}
END_TEST

static nfs_fh3 make_directory(nfs_fh3 dir, const char *name)
{
	MKDIR3args mkdir = { .where = { .dir = dir, .name = text(name) } };
	CREATE3res made;
	nfs_fh3 found;

	NFS(NFS3_MKDIR, MKDIR3args, &mkdir, CREATE3res, &made);
	ck_assert_int_eq(made.status, NFS3_OK);
	found = fh_copy(&made.CREATE3res_u.resok.obj.post_op_fh3_u.handle);
	FORGET(CREATE3res, &made);
	return found;
}

static nfsstat3 move(nfs_fh3 dir, const char *from, const char *to)
{
	RENAME3args rename = { .from = { .dir = dir, .name = text(from) }, .to = { .dir = dir, .name = text(to) } };
	RENAME3res renamed;

	NFS(NFS3_RENAME, RENAME3args, &rename, RENAME3res, &renamed);
	return renamed.status;
}

/* A part of a volume that another client has: who has the rest can't make it his own by moving what leads there. */
START_TEST(the_way_to_an_export_is_not_moved)
{
	nfs_fh3 root = volume_root(), home = make_directory(root, "home"), alice = make_directory(home, "alice");

	make_directory(root, "other");
	ck_assert_int_eq(move(root, "other", "still-other"), NFS3_OK);
	export_put(9, "/disk0/home/alice", "10.0.0.5");
	ck_assert_int_eq(getattr(alice, NULL), NFS3ERR_ACCES);
	ck_assert_int_eq(move(home, "alice", "bob"), NFS3ERR_ACCES);
	ck_assert_int_eq(move(root, "home", "else"), NFS3ERR_ACCES);
	ck_assert_int_eq(move(root, "still-other", "home"), NFS3ERR_ACCES);
	ck_assert_int_eq(getattr(alice, NULL), NFS3ERR_ACCES);
	make_directory(home, "alice2");
	ck_assert_int_eq(move(home, "alice2", "alice3"), NFS3_OK);
}
END_TEST

/* The device stops while it finds out where a directory is: nothing is begun any more, and the client asks elsewhere. */
START_TEST(a_search_ends_with_the_service)
{
	struct file_service_options options = { .ns = ns, .self = 1, .find_volume = find_volume };
	struct event_base *base = event_base_new();
	nfs_fh3 root = volume_root();
	uint8_t args[4 + HANDLE_MAX];
	struct bytes_writer w = bytes_writer_init(args, sizeof(args));
	size_t count;

	export_put(9, "/disk0/home", "10.0.0.5");
	file_service_free(service);
	ck_assert_int_eq(workers_new(base, 2, &options.workers), 0);
	service = file_service_new(&options);
	memcpy(programs, file_service_programs(service, &count), sizeof(programs[0]) * FILE_SERVICE_PROGRAMS);
	nfs3_put_opaque(&w, root.data.data_val, root.data.data_len);
	dones = 0;
	send_bytes(NFS_PROGRAM, 3, NFS3_FSSTAT, args, w.written);
	ck_assert_uint_eq(dones, 0);
	file_service_stop(service);
	workers_free(options.workers);
	ck_assert_uint_eq(dones, 1);
	ck_assert_uint_eq(last.reply_len, 0);
	event_base_free(base);
}
END_TEST

static nfsstat3 status_of(const struct rpc_call *call)
{
	struct bytes_reader r = bytes_reader_init(call->reply + RPC_REPLY_HEADROOM, call->reply_len);

	ck_assert_ptr_nonnull(bytes_take(&r, 6 * 4));
	return (nfsstat3)bytes_get_be32(&r);
}

static struct backend other_backend; /* a changed copy of the fake one */

static int fake_lost_place(struct volume *of, const struct handle *object, const struct handle *directory, char *path)
{
	(void)of, (void)object, (void)directory, (void)path;
	return -ESTALE;
}

static void volume_close(struct work *work)
{
	(void)work;
	fake_volume_free(volume);
}

static void volume_closed(struct work *work)
{
	(void)work;
	volume = NULL;
}

/* The place of a call's object is not found, and the volume is closed before the loop hears of it. */
START_TEST(a_search_may_end_after_its_volume)
{
	struct file_service_options options = { .ns = ns, .self = 1, .find_volume = find_volume };
	struct work close = { .lane = volume, .run = volume_close, .done = volume_closed };
	struct event_base *base = event_base_new();
	nfs_fh3 root = volume_root();
	uint8_t args[4 + HANDLE_MAX];
	struct bytes_writer w = bytes_writer_init(args, sizeof(args));
	size_t count;

	export_put(9, "/disk0/home", "10.0.0.5");
	other_backend = *volume->backend;
	other_backend.place = fake_lost_place;
	volume->backend = &other_backend;
	file_service_free(service);
	ck_assert_int_eq(workers_new(base, 2, &options.workers), 0);
	service = file_service_new(&options);
	memcpy(programs, file_service_programs(service, &count), sizeof(programs[0]) * FILE_SERVICE_PROGRAMS);
	nfs3_put_opaque(&w, root.data.data_val, root.data.data_len);
	dones = 0;
	send_bytes(NFS_PROGRAM, 3, NFS3_FSSTAT, args, w.written);
	ck_assert_int_eq(workers_submit_last(options.workers, &close), 0);
	workers_free(options.workers);
	ck_assert_uint_eq(dones, 1);
	ck_assert_ptr_null(volume);
	ck_assert_int_eq(status_of(&last), NFS3ERR_STALE);
	volume = fake_volume_new();
	event_base_free(base);
}
END_TEST

/*
 * A data loop passes on what must wait for a name. Then it is the control loop's: the data loop, which does not run here, must
 * not touch what is the control loop's when the disk has answered.
 */
START_TEST(the_work_of_a_call_that_was_passed_on_is_of_where_it_was_passed_to)
{
	struct file_service_options options = { .ns = ns, .self = 1, .find_volume = find_volume };
	struct event_base *base = event_base_new();
	nfs_fh3 root = volume_root();
	uint8_t args[4 + HANDLE_MAX];
	struct bytes_writer w = bytes_writer_init(args, sizeof(args));
	struct rpc_program part_programs[FILE_SERVICE_PROGRAMS + 1] = { 0 };
	struct rpc_server part_server = { .programs = part_programs };
	struct file_service *part;
	struct loop *control;
	struct loops *loops;
	size_t count;

	export_put(1, "/", "10.9.0.0/16(rw,insecure,manage_gids)");
	client_uid = 54321;
	file_service_free(service);
	ck_assert_int_eq(loop_new(base, &control), 0);
	ck_assert_int_eq(loops_new(1, &loops), 0);
	ck_assert_int_eq(workers_new(base, 2, &options.workers), 0);
	options.base = base;
	service = file_service_new(&options);
	memcpy(programs, file_service_programs(service, &count), sizeof(programs[0]) * FILE_SERVICE_PROGRAMS);
	server.loop = control;
	part = file_service_new_part(service, loops_at(loops, 0), &server);
	memcpy(part_programs, file_service_programs(part, &count), sizeof(programs[0]) * FILE_SERVICE_PROGRAMS);
	part_server.loop = loops_at(loops, 0);
	nfs3_put_opaque(&w, root.data.data_val, root.data.data_len);
	dones = 0;
	last = call_for(NFS_PROGRAM, 3, NFS3_FSSTAT, args, w.written);
	rpc_dispatch(&part_server, &last);
	ck_assert_uint_eq(dones, 0);
	for (int turns = 0; !dones && turns < 2000; turns++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	ck_assert_uint_eq(dones, 1);
	ck_assert_int_eq(status_of(&last), NFS3_OK);
	ck_assert_uint_eq(file_service_counters(service).nfs3[NFS3_FSSTAT], 1);
	file_service_stop(service);
	workers_free(options.workers);
	file_service_free(part);
	loops_free(loops);
	loop_free(control);
	file_service_free(service);
	service = NULL;
	event_base_free(base);
}
END_TEST

/* A disk whose first change takes until all calls are there. */
enum { GROUP = 20, GROUP_EXISTING = 3 };

static struct backend slow;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int (*fake_mkdir)(struct volume *, const struct credentials *, const struct handle *, const char *,
			 const struct backend_set *, struct backend_found *, struct backend_change *);
static unsigned int arrivals, made_alone, made_in_group, group_syncs;
static int group_error;

static int slow_mkdir(struct volume *into, const struct credentials *who, const struct handle *dir, const char *name,
		      const struct backend_set *set, struct backend_found *found, struct backend_change *dir_change)
{
	__atomic_add_fetch(&arrivals, 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	*(group_commit_is_on() ? &made_in_group : &made_alone) += 1;
	return fake_mkdir(into, who, dir, name, set, found, dir_change);
}

static int group_sync(struct volume *of, const struct handle *dir)
{
	ck_assert_mem_eq(dir->backend, of->root.backend, of->root.backend_len);
	ck_assert(!group_commit_is_on());
	ck_assert_uint_gt(made_in_group, 0);
	group_syncs++;
	return group_error;
}

/*
 * Many calls that change one directory at the same time: the first is durable by itself, the others at once; if that fails, none
 * of them has succeeded, and what failed for a reason of its own says it.
 */
START_TEST(changes_of_one_object_are_made_together)
{
	struct file_service_options options = { .ns = ns, .self = 1, .find_volume = find_volume };
	struct event_base *base = event_base_new();
	struct rpc_call calls[GROUP];
	size_t count;

	make_directory(volume_root(), "d3");
	slow = *volume->backend;
	fake_mkdir = slow.mkdir;
	slow.mkdir = slow_mkdir;
	slow.sync = group_sync;
	volume->backend = &slow;
	group_error = _i ? -EIO : 0;
	arrivals = made_alone = made_in_group = group_syncs = dones = 0;
	file_service_free(service);
	ck_assert_int_eq(workers_new(base, 4, &options.workers), 0);
	service = file_service_new(&options);
	memcpy(programs, file_service_programs(service, &count), sizeof(programs[0]) * FILE_SERVICE_PROGRAMS);

	pthread_mutex_lock(&gate);
	for (int i = 0; i < GROUP; i++) {
		char name[16];
		MKDIR3args args = { .where = { .dir = volume_root() } };
		uint8_t bytes[512];
		XDR xdr;

		snprintf(name, sizeof(name), "d%d", i);
		args.where.name = text(name);
		xdrmem_create(&xdr, (char *)bytes, sizeof(bytes), XDR_ENCODE);
		ck_assert(xdr_MKDIR3args(&xdr, &args));
		calls[i] = call_for(NFS_PROGRAM, 3, NFS3_MKDIR, bytes, xdr_getpos(&xdr));
		rpc_dispatch(&server, &calls[i]);
		while (!__atomic_load_n(&arrivals, __ATOMIC_RELAXED))
			sched_yield();
	}
	ck_assert_uint_eq(dones, 0);
	pthread_mutex_unlock(&gate);
	while (dones < GROUP)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_eq(made_alone, 1);
	ck_assert_uint_eq(made_in_group, GROUP - 1);
	ck_assert_uint_eq(group_syncs, 2);
	for (int i = 0; i < GROUP; i++) {
		nfsstat3 expected = i == GROUP_EXISTING ? NFS3ERR_EXIST : i && group_error ? NFS3ERR_IO : NFS3_OK;

		ck_assert_int_eq(status_of(&calls[i]), expected);
		rpc_call_fini(&calls[i]);
	}
	file_service_stop(service);
	workers_free(options.workers);
	event_base_free(base);
}
END_TEST

START_TEST(mount_points_are_crossed_both_ways)
{
	LOOKUP3args args = { .what = { .dir = entry_fh(1), .name = text("disk0") } };
	nfs_fh3 there = volume_root(), back;
	LOOKUP3res res;
	fattr3 attributes;

	NFS(NFS3_LOOKUP, LOOKUP3args, &args, LOOKUP3res, &res);
	ck_assert_int_eq(res.status, NFS3_OK);
	ck_assert_uint_eq(res.LOOKUP3res_u.resok.object.data.data_len, there.data.data_len);
	ck_assert_mem_eq(res.LOOKUP3res_u.resok.object.data.data_val, there.data.data_val, there.data.data_len);
	ck_assert(res.LOOKUP3res_u.resok.obj_attributes.attributes_follow);
	ck_assert_uint_eq(res.LOOKUP3res_u.resok.obj_attributes.post_op_attr_u.attributes.fsid, FAKE_FSID);
	ck_assert_uint_eq(res.LOOKUP3res_u.resok.dir_attributes.post_op_attr_u.attributes.fsid,
			  0xababababababababull);
	FORGET(LOOKUP3res, &res);

	ck_assert_int_eq(lookup(volume_root(), "..", &back), NFS3_OK);
	ck_assert_int_eq(getattr(back, &attributes), NFS3_OK);
	ck_assert_uint_eq(attributes.fileid, 1);
	ck_assert_uint_eq(attributes.fsid, 0xababababababababull);

	/* Elsewhere: the handle is known, the attributes are not. */
	args.what = (diropargs3){ .dir = entry_fh(3), .name = text("a") };
	NFS(NFS3_LOOKUP, LOOKUP3args, &args, LOOKUP3res, &res);
	ck_assert_int_eq(res.status, NFS3_OK);
	ck_assert(!res.LOOKUP3res_u.resok.obj_attributes.attributes_follow);
	FORGET(LOOKUP3res, &res);
	ck_assert_uint_eq(relayed_to, 0);
}
END_TEST

enum { OF_NFS_ACL = 0x100 }; /* of a procedure's number: it is NFSACL's */

/* One call for each procedure, whose handles are zero to start with. */
static const struct {
	uint32_t number;
	xdrproc_t args, res;
	bool modifies;
} every[] = {
	{ NFS3_GETATTR, (xdrproc_t)xdr_nfs_fh3, (xdrproc_t)xdr_GETATTR3res, false },
	{ NFS3_SETATTR, (xdrproc_t)xdr_SETATTR3args, (xdrproc_t)xdr_SETATTR3res, true },
	{ NFS3_LOOKUP, (xdrproc_t)xdr_LOOKUP3args, (xdrproc_t)xdr_LOOKUP3res, false },
	{ NFS3_ACCESS, (xdrproc_t)xdr_ACCESS3args, (xdrproc_t)xdr_ACCESS3res, false },
	{ NFS3_READLINK, (xdrproc_t)xdr_nfs_fh3, (xdrproc_t)xdr_READLINK3res, false },
	{ NFS3_READ, (xdrproc_t)xdr_READ3args, (xdrproc_t)xdr_READ3res, false },
	{ NFS3_WRITE, (xdrproc_t)xdr_WRITE3args, (xdrproc_t)xdr_WRITE3res, true },
	{ NFS3_CREATE, (xdrproc_t)xdr_CREATE3args, (xdrproc_t)xdr_CREATE3res, true },
	{ NFS3_MKDIR, (xdrproc_t)xdr_MKDIR3args, (xdrproc_t)xdr_CREATE3res, true },
	{ NFS3_SYMLINK, (xdrproc_t)xdr_SYMLINK3args, (xdrproc_t)xdr_CREATE3res, true },
	{ NFS3_MKNOD, (xdrproc_t)xdr_MKNOD3args, (xdrproc_t)xdr_CREATE3res, true },
	{ NFS3_REMOVE, (xdrproc_t)xdr_REMOVE3args, (xdrproc_t)xdr_REMOVE3res, true },
	{ NFS3_RMDIR, (xdrproc_t)xdr_REMOVE3args, (xdrproc_t)xdr_REMOVE3res, true },
	{ NFS3_RENAME, (xdrproc_t)xdr_RENAME3args, (xdrproc_t)xdr_RENAME3res, true },
	{ NFS3_LINK, (xdrproc_t)xdr_LINK3args, (xdrproc_t)xdr_LINK3res, true },
	{ NFS3_READDIR, (xdrproc_t)xdr_READDIR3args, (xdrproc_t)xdr_READDIR3res, false },
	{ NFS3_READDIRPLUS, (xdrproc_t)xdr_READDIRPLUS3args, (xdrproc_t)xdr_READDIRPLUS3res, false },
	{ NFS3_FSSTAT, (xdrproc_t)xdr_nfs_fh3, (xdrproc_t)xdr_FSSTAT3res, false },
	{ NFS3_FSINFO, (xdrproc_t)xdr_nfs_fh3, (xdrproc_t)xdr_FSINFO3res, false },
	{ NFS3_PATHCONF, (xdrproc_t)xdr_nfs_fh3, (xdrproc_t)xdr_PATHCONF3res, false },
	{ NFS3_COMMIT, (xdrproc_t)xdr_COMMIT3args, (xdrproc_t)xdr_COMMIT3res, false },
	{ OF_NFS_ACL + NFS_ACL_GETACL, (xdrproc_t)xdr_GETACL3args, (xdrproc_t)xdr_GETACL3res, false },
	{ OF_NFS_ACL + NFS_ACL_SETACL, (xdrproc_t)xdr_SETACL3args, (xdrproc_t)xdr_SETACL3res, true },
};

/* The status that @object draws; the failure must decode, whatever its facts. */
static nfsstat3 try_every(int i, nfs_fh3 object)
{
	union nfs3_args args = { .object = object };
	union {
		nfsstat3 status; /* all results begin with it */
		char room[1000];
	} res;
	nfsstat3 status;

	if (every[i].number == NFS3_RENAME)
		args.rename.to.dir = object;
	if (every[i].number == NFS3_LINK)
		args.link.link.dir = object;
	call_xdr(every[i].number < OF_NFS_ACL ? NFS_PROGRAM : NFS_ACL_PROGRAM, every[i].number % OF_NFS_ACL,
		 every[i].args, &args, every[i].res, &res, sizeof(res));
	status = res.status;
	xdr_free(every[i].res, &res);
	return status;
}

START_TEST(a_forged_handle_is_refused)
{
	nfs_fh3 object = volume_root();

	object.data.data_val[8] ^= 1;
	ck_assert_int_eq(try_every(_i, object), NFS3ERR_BADHANDLE);
	ck_assert_uint_ge(file_service_counters(service).bad_handle, 1);
	object.data.data_len = 0;
	ck_assert_int_eq(try_every(_i, object), NFS3ERR_BADHANDLE);
}
END_TEST

START_TEST(an_unknown_volume_is_stale)
{
	struct handle handle = volume->root;

	handle.volume = 99;
	ck_assert_int_eq(try_every(_i, fh(&handle)), NFS3ERR_STALE);
	transport = RPC_RELAYED; /* who sent it here has heard of it; so will we */
	ck_assert_int_eq(try_every(_i, fh(&handle)), NFS3ERR_JUKEBOX);
}
END_TEST

START_TEST(a_stranger_gets_nothing)
{
	client = "192.168.0.1";
	ck_assert_int_eq(try_every(_i, volume_root()), NFS3ERR_ACCES);
	client = "10.0.0.1"; /* from a port that is not privileged */
	ck_assert_int_eq(try_every(_i, volume_root()), NFS3ERR_ACCES);
	ck_assert_int_eq(try_every(_i, entry_fh(1)), NFS3ERR_ACCES);
	ck_assert_uint_eq(file_service_counters(service).access_denied, 3);
}
END_TEST

START_TEST(the_virtual_root_is_never_changed)
{
	nfsstat3 status = try_every(_i, entry_fh(1));

	if (every[_i].modifies)
		ck_assert_int_eq(status, NFS3ERR_ROFS);
	else
		ck_assert_int_ne(status, NFS3ERR_ROFS);
	ck_assert_uint_eq(last.volume, 0);
}
END_TEST

START_TEST(another_devices_volume_is_relayed)
{
	nfsstat3 status = try_every(_i, other_volume(2));

	/* Whatever the export says: its owner checks that. */
	ck_assert_int_eq(status, NFS3ERR_JUKEBOX); /* relay() does not reach it */
	ck_assert_uint_eq(relayed_to, 2);
	ck_assert_uint_eq(file_service_counters(service).relayed, 1);
	ck_assert_uint_eq(last.volume, 2);
	ck_assert_int_eq(last.moved_data, every[_i].number == NFS3_READ || every[_i].number == NFS3_WRITE ||
						  every[_i].number == NFS3_COMMIT);
}
END_TEST

START_TEST(a_relayed_call_is_not_relayed_again)
{
	transport = RPC_RELAYED;
	ck_assert_int_eq(try_every(_i, other_volume(2)), NFS3ERR_JUKEBOX);
	ck_assert_uint_eq(relayed_to, 0);
	ck_assert_int_eq(try_every(_i, other_volume(3)), NFS3ERR_JUKEBOX); /* ours, not open */
}
END_TEST

static nfsstat3 set_acl(nfs_fh3 object, uint32_t mask, nfs_acl_entry *entries, uint32_t count)
{
	SETACL3args args = { .object = object, .acl = { .mask = mask } };
	SETACL3res res;

	args.acl.access_count = args.acl.access.access_len = mask & NFS_ACL_ACCESS ? count : 0;
	args.acl.access.access_val = entries;
	args.acl.default_count = args.acl.default_.default__len = mask & NFS_ACL_DEFAULT ? count : 0;
	args.acl.default_.default__val = entries;
	call_xdr(NFS_ACL_PROGRAM, NFS_ACL_SETACL, (xdrproc_t)xdr_SETACL3args, &args, (xdrproc_t)xdr_SETACL3res, &res,
		 sizeof(res));
	ck_assert(res.status != NFS3_OK || res.attributes.attributes_follow);
	return res.status;
}

static GETACL3res get_acl(nfs_fh3 object, uint32_t mask)
{
	GETACL3args args = { .object = object, .mask = mask };
	GETACL3res res;

	call_xdr(NFS_ACL_PROGRAM, NFS_ACL_GETACL, (xdrproc_t)xdr_GETACL3args, &args, (xdrproc_t)xdr_GETACL3res, &res,
		 sizeof(res));
	if (res.status == NFS3_OK) {
		ck_assert(res.GETACL3res_u.resok.attributes.attributes_follow);
		ck_assert_uint_eq(res.GETACL3res_u.resok.acl.mask, mask);
	}
	return res;
}

START_TEST(acls_are_set_and_shown)
{
	nfs_acl_entry entries[] = { { 1, 0, 7 }, { 2, 1001, 6 }, { 4, 0, 5 }, { 0x10, 0, 7 }, { 0x20, 0, 0 } };
	nfs_fh3 object = volume_root();
	const nfs_acl_attributes *acl;
	GETACL3res res;

	/* Without an ACL there is what the mode says, with Sun's mask. */
	res = get_acl(object, NFS_ACL_ACCESS | NFS_ACL_DEFAULT);
	acl = &res.GETACL3res_u.resok.acl;
	ck_assert_uint_eq(acl->access_count, 4);
	ck_assert_uint_eq(acl->access.access_len, 4);
	ck_assert_uint_eq(acl->access.access_val[2].type, BACKEND_ACL_MASK);
	ck_assert_uint_eq(acl->default_count, 0);
	FORGET(GETACL3res, &res);

	ck_assert_int_eq(set_acl(object, NFS_ACL_ACCESS, entries, 5), NFS3_OK);
	ck_assert_int_eq(set_acl(object, NFS_ACL_DEFAULT, entries, 5), NFS3_OK);
	ck_assert_int_eq(set_acl(object, NFS_ACL_ACCESS, NULL, 0), NFS3_OK); /* the default one stays */
	res = get_acl(object, NFS_ACL_ACCESS_COUNT | NFS_ACL_DEFAULT);
	acl = &res.GETACL3res_u.resok.acl;
	ck_assert_uint_eq(acl->access_count, 4);
	ck_assert_uint_eq(acl->access.access_len, 0); /* only how many was asked */
	ck_assert_uint_eq(acl->default_count, 5);
	ck_assert_uint_eq(acl->default_.default__val[1].type, NFS_ACL_TYPE_DEFAULT | BACKEND_ACL_USER);
	ck_assert_uint_eq(acl->default_.default__val[1].id, 1001);
	FORGET(GETACL3res, &res);
	ck_assert_uint_eq(file_service_counters(service).nfs_acl[NFS_ACL_GETACL], 2);
}
END_TEST

START_TEST(acls_that_are_none)
{
	nfs_acl_entry entries[] = { { 1, 0, 8 } };
	SETACL3args args = { .object = volume_root(), .acl = { .mask = NFS_ACL_ACCESS, .access_count = 1 } };
	struct bytes_reader results;
	GETACL3res got;
	SETACL3res set;

	ck_assert_int_eq(set_acl(volume_root(), NFS_ACL_ACCESS, entries, 1), NFS3ERR_INVAL);
	ck_assert_int_eq(set_acl(volume_root(), 16, NULL, 0), NFS3ERR_INVAL);
	call_xdr(NFS_ACL_PROGRAM, NFS_ACL_SETACL, (xdrproc_t)xdr_SETACL3args, &args, (xdrproc_t)xdr_SETACL3res, &set,
		 sizeof(set));
	ck_assert_int_eq(set.status, NFS3ERR_INVAL); /* two counts that differ */
	got = get_acl(volume_root(), 16);
	ck_assert_int_eq(got.status, NFS3ERR_INVAL);
	got = get_acl(entry_fh(1), NFS_ACL_ACCESS);
	ck_assert_int_eq(got.status, NFS3ERR_NOTSUPP);
	client_uid = 1000;
	ck_assert_int_eq(set_acl(volume_root(), NFS_ACL_ACCESS, NULL, 0), NFS3ERR_PERM);
	ck_assert_uint_eq(call_bytes(NFS_ACL_PROGRAM, 3, NFS_ACL_NULL, "", 0, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_eq(results.left, 0);
	ck_assert_uint_eq(call_bytes(NFS_ACL_PROGRAM, 3, NFS_ACL_PROCEDURES, "", 0, &results), RPC_ACCEPT_PROC_UNAVAIL);
	ck_assert_uint_eq(call_bytes(NFS_ACL_PROGRAM, 2, 0, "", 0, &results), RPC_ACCEPT_PROG_MISMATCH);
}
END_TEST

START_TEST(squashed_root_is_nobody)
{
	nfs_fh3 file;
	fattr3 attributes;

	client = "10.0.0.1";
	client_port = 700;
	ck_assert_int_eq(create(volume_root(), "f", UNCHECKED, &file), NFS3_OK);
	ck_assert_int_eq(getattr(file, &attributes), NFS3_OK);
	ck_assert_uint_eq(attributes.uid, 65534);
	ck_assert_uint_eq(attributes.gid, 65534);
	client_uid = 1000;
	ck_assert_int_eq(write_bytes(file, 0, "x", 1, FILE_SYNC), NFS3ERR_ACCES);
}
END_TEST

/* Who asks what of which object, and what is granted. */
START_TEST(access_bits)
{
	ACCESS3args args = { .access = 0xff };
	ACCESS3res res;

	args.object = volume_root();
	NFS(NFS3_ACCESS, ACCESS3args, &args, ACCESS3res, &res);
	ck_assert_uint_eq(res.ACCESS3res_u.resok.access,
			  ACCESS3_READ | ACCESS3_LOOKUP | ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_DELETE);
	ck_assert_int_eq(create(volume_root(), "f", UNCHECKED, &args.object), NFS3_OK);
	client_uid = 1000;
	NFS(NFS3_ACCESS, ACCESS3args, &args, ACCESS3res, &res);
	ck_assert_uint_eq(res.ACCESS3res_u.resok.access, ACCESS3_READ);
	args.access = ACCESS3_MODIFY;
	NFS(NFS3_ACCESS, ACCESS3args, &args, ACCESS3res, &res);
	ck_assert_uint_eq(res.ACCESS3res_u.resok.access, 0);
	args = (ACCESS3args){ .object = entry_fh(1), .access = 0xff };
	NFS(NFS3_ACCESS, ACCESS3args, &args, ACCESS3res, &res);
	ck_assert_uint_eq(res.ACCESS3res_u.resok.access, ACCESS3_READ | ACCESS3_LOOKUP);
}
END_TEST

/* Reads a whole directory in replies of at most @count bytes; names joined by blanks. */
static nfsstat3 list(nfs_fh3 dir, uint32_t count, char *out)
{
	READDIR3args args = { .dir = dir, .count = count };
	bool end = false;

	*out = '\0';
	while (!end) {
		READDIR3res res;
		nfsstat3 status;

		NFS(NFS3_READDIR, READDIR3args, &args, READDIR3res, &res);
		status = res.status;
		ck_assert_uint_le(last.reply_len, 24 + 4 + (size_t)(status ? 100 : count));
		if (status == NFS3_OK) {
			const READDIR3resok *ok = &res.READDIR3res_u.resok;

			end = ok->reply.eof;
			memcpy(args.cookieverf, ok->cookieverf, sizeof(args.cookieverf));
			for (const entry3 *e = ok->reply.entries; e; e = e->nextentry) {
				strncat(out, e->name.filename3_val, e->name.filename3_len);
				strcat(out, " ");
				args.cookie = e->cookie;
			}
		}
		FORGET(READDIR3res, &res);
		if (status)
			return status;
	}
	return NFS3_OK;
}

START_TEST(directories_in_replies_of_any_size)
{
	char names_seen[1000], name[20];
	bool fitted = false;

	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		ck_assert_int_eq(create(volume_root(), name, UNCHECKED, NULL), NFS3_OK);
	}
	for (uint32_t count = 0; count < 600; count++) {
		nfsstat3 status = list(volume_root(), count, names_seen);

		ck_assert(status == NFS3ERR_TOOSMALL || status == NFS3_OK);
		ck_assert(!fitted || status == NFS3_OK);
		fitted = status == NFS3_OK;
		if (fitted)
			ck_assert_str_eq(names_seen,
					 ". .. file0 file1 file2 file3 file4 file5 file6 file7 file8 file9 ");
	}
	ck_assert(fitted);
	ck_assert_int_eq(list(entry_fh(1), 4096, names_seen), NFS3_OK);
	ck_assert_str_eq(names_seen, ". .. disk0 projects gone ");
	ck_assert_int_eq(list(volume_root(), UINT32_MAX, names_seen), NFS3_OK);
}
END_TEST

START_TEST(a_foreign_cookie_is_refused)
{
	READDIR3args args = { .dir = volume_root(), .cookie = 5, .count = 4096 };
	READDIR3res res;

	NFS(NFS3_READDIR, READDIR3args, &args, READDIR3res, &res);
	ck_assert_int_eq(res.status, NFS3ERR_BAD_COOKIE);
}
END_TEST

START_TEST(readdirplus_obeys_both_limits)
{
	char name[20];

	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		ck_assert_int_eq(create(volume_root(), name, UNCHECKED, NULL), NFS3_OK);
	}
	for (uint32_t max = 0; max < 3000; max += 20) {
		READDIRPLUS3args args = { .dir = volume_root(), .dircount = max / 4, .maxcount = max };
		READDIRPLUS3res res;
		size_t dir_bytes = 0;

		NFS(NFS3_READDIRPLUS, READDIRPLUS3args, &args, READDIRPLUS3res, &res);
		if (res.status == NFS3_OK) {
			for (entryplus3 *e = res.READDIRPLUS3res_u.resok.reply.entries; e; e = e->nextentry) {
				dir_bytes += 20 + (e->name.filename3_len + 3) / 4 * 4;
				ck_assert(e->name_handle.handle_follows);
			}
			ck_assert_uint_le(last.reply_len, 24 + 4 + max);
			ck_assert_uint_le(dir_bytes, max / 4);
		} else {
			ck_assert_int_eq(res.status, NFS3ERR_TOOSMALL);
			ck_assert_uint_lt(max, 500);
		}
		FORGET(READDIRPLUS3res, &res);
	}
}
END_TEST

START_TEST(readdirplus_of_the_virtual_root_stays_in_it)
{
	READDIRPLUS3args args = { .dir = entry_fh(1), .dircount = 4096, .maxcount = 4096 };
	READDIRPLUS3res res;

	NFS(NFS3_READDIRPLUS, READDIRPLUS3args, &args, READDIRPLUS3res, &res);
	ck_assert_int_eq(res.status, NFS3_OK);
	for (entryplus3 *e = res.READDIRPLUS3res_u.resok.reply.entries; e; e = e->nextentry) {
		bool is_mount_point = e->fileid == 2 || e->fileid == 5;

		ck_assert_int_eq(e->name_attributes.attributes_follow, !is_mount_point);
		ck_assert_int_eq(e->name_handle.handle_follows, !is_mount_point);
	}
	FORGET(READDIRPLUS3res, &res);
}
END_TEST

/* Of the directory above an export's root a client learns nothing that it can't have. */
START_TEST(the_directory_above_an_export_is_not_shown)
{
	READDIRPLUS3args args = { .dircount = 4096, .maxcount = 4096 };
	nfs_fh3 home = make_directory(volume_root(), "home");
	bool found_parent = false;
	READDIRPLUS3res res;

	args.dir = make_directory(home, "alice");
	export_put(1, "/", "10.0.0.0/8");
	export_put(9, "/disk0/home/alice", "10.9.0.1(insecure)");
	client = "10.9.0.1";
	ck_assert_int_eq(lookup(args.dir, "..", NULL), NFS3ERR_ACCES);
	NFS(NFS3_READDIRPLUS, READDIRPLUS3args, &args, READDIRPLUS3res, &res);
	ck_assert_int_eq(res.status, NFS3_OK);
	for (entryplus3 *e = res.READDIRPLUS3res_u.resok.reply.entries; e; e = e->nextentry) {
		bool is_parent = e->name.filename3_len == 2 && memcmp(e->name.filename3_val, "..", 2) == 0;

		found_parent |= is_parent;
		ck_assert_int_eq(e->name_attributes.attributes_follow, !is_parent);
		ck_assert_int_eq(e->name_handle.handle_follows, !is_parent);
	}
	ck_assert(found_parent);
	FORGET(READDIRPLUS3res, &res);
}
END_TEST

START_TEST(limits_of_the_file_system)
{
	nfs_fh3 object = volume_root();
	FSINFO3res info;
	FSSTAT3res stat;
	PATHCONF3res conf;

	NFS(NFS3_FSINFO, nfs_fh3, &object, FSINFO3res, &info);
	ck_assert_int_eq(info.status, NFS3_OK);
	ck_assert_uint_eq(info.FSINFO3res_u.resok.rtmax, 1024 * 1024);
	ck_assert_uint_eq(info.FSINFO3res_u.resok.wtpref, 1024 * 1024);
	ck_assert_uint_eq(info.FSINFO3res_u.resok.dtpref, 64 * 1024);
	ck_assert_uint_eq(info.FSINFO3res_u.resok.properties,
			  FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS | FSF3_CANSETTIME);
	NFS(NFS3_FSSTAT, nfs_fh3, &object, FSSTAT3res, &stat);
	ck_assert_uint_eq(stat.FSSTAT3res_u.resok.abytes, 400 * 4096);
	ck_assert_uint_eq(stat.FSSTAT3res_u.resok.afiles, 16);
	NFS(NFS3_PATHCONF, nfs_fh3, &object, PATHCONF3res, &conf);
	ck_assert_uint_eq(conf.PATHCONF3res_u.resok.name_max, 255);
	ck_assert(conf.PATHCONF3res_u.resok.no_trunc);
	transport = RPC_UDP;
	NFS(NFS3_FSINFO, nfs_fh3, &object, FSINFO3res, &info);
	ck_assert_uint_eq(info.FSINFO3res_u.resok.rtmax, NFS3_DATAGRAM_DATA_MAX);
}
END_TEST

/* Who mounts what; `handle` is the fileid that a GETATTR of it shows, 0: not asked. */
static const struct {
	const char *path, *client;
	mountstat3 status;
	uint64_t fileid;
	uint32_t relayed_to;
} mounts[] = {
	{ "/", "10.9.0.1", MNT3_OK, 1, 0 },
	{ "//.", "10.9.0.1", MNT3_OK, 1, 0 },
	{ "/projects", "10.9.0.1", MNT3_OK, 3, 0 },
	{ "/disk0", "10.9.0.1", MNT3_OK, FAKE_ROOT, 0 },
	{ "/disk0/", "10.9.0.1", MNT3_OK, FAKE_ROOT, 0 },
	{ "/disk0/d", "10.9.0.1", MNT3_OK, FAKE_ROOT + 1, 0 },
	{ "/disk0//d/./", "10.9.0.1", MNT3_OK, FAKE_ROOT + 1, 0 },
	{ "/disk0/d/..", "10.9.0.1", MNT3ERR_ACCES, 0, 0 },
	{ "/disk0/f", "10.9.0.1", MNT3ERR_NOTDIR, 0, 0 },
	{ "/disk0/f/x", "10.9.0.1", MNT3ERR_NOTDIR, 0, 0 },
	{ "/disk0/none", "10.9.0.1", MNT3ERR_NOENT, 0, 0 },
	{ "/none", "10.9.0.1", MNT3ERR_NOENT, 0, 0 },
	{ "disk0", "10.9.0.1", MNT3ERR_INVAL, 0, 0 },
	{ "", "10.9.0.1", MNT3ERR_INVAL, 0, 0 },
	{ "/projects/a", "10.9.0.1", MNT3_OK, 0, 0 }, /* no need to ask its owner */
	{ "/projects/a/below", "10.9.0.1", MNT3ERR_SERVERFAULT, 0, 2 },
	{ "/projects/a", "10.0.0.1", MNT3ERR_ACCES, 0, 0 },
	{ "/disk0", "11.0.0.1", MNT3ERR_ACCES, 0, 0 },
	{ "/", "11.0.0.1", MNT3ERR_ACCES, 0, 0 },
	{ "/gone", "10.9.0.1", MNT3_OK, 0, 0 },
	{ "/gone/below", "10.9.0.1", MNT3ERR_SERVERFAULT, 0, 0 },
};

START_TEST(mounting)
{
	MKDIR3args mkdir = { .where = { .dir = volume_root(), .name = text("d") } };
	mountpath3 path = { (u_int)strlen(mounts[_i].path), (char *)mounts[_i].path };
	CREATE3res made;
	mountres3 res;

	NFS(NFS3_MKDIR, MKDIR3args, &mkdir, CREATE3res, &made);
	FORGET(CREATE3res, &made);
	create(volume_root(), "f", UNCHECKED, NULL);
	client = mounts[_i].client;
	call_xdr(MOUNT_PROGRAM, 1, (xdrproc_t)xdr_mountpath3, &path, (xdrproc_t)xdr_mountres3, &res, sizeof(res));
	ck_assert_int_eq(res.fhs_status, mounts[_i].status);
	ck_assert_uint_eq(relayed_to, mounts[_i].relayed_to);
	if (res.fhs_status == MNT3_OK) {
		fhandle3 *handle = &res.mountres3_u.mountinfo.fhandle;
		nfs_fh3 object = { .data = { .data_len = handle->fhandle3_len, .data_val = handle->fhandle3_val } };
		fattr3 attributes = { 0 };

		ck_assert_int_eq(res.mountres3_u.mountinfo.auth_flavors.auth_flavors_val[0], RPC_AUTH_SYS);
		getattr(fh_copy(&object), &attributes);
		ck_assert_uint_eq(attributes.fileid, mounts[_i].fileid);
	}
	xdr_free((xdrproc_t)xdr_mountres3, &res);
}
END_TEST

/* The list of DUMP: "CLIENT:PATH " for each. */
static void check_dump(uint32_t version, const char *expected)
{
	struct bytes_reader results;
	mountlist3 dump = { 0 };
	char shown[256] = "";
	size_t len = 0;
	XDR xdr;

	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, version, 2, "", 0, &results), RPC_ACCEPT_SUCCESS);
	xdrmem_create(&xdr, (char *)results.p, (u_int)results.left, XDR_DECODE);
	ck_assert(xdr_mountlist3(&xdr, &dump));
	ck_assert_uint_eq(xdr_getpos(&xdr), results.left);
	for (const mountbody *at = dump.list; at; at = at->ml_next)
		len += (size_t)snprintf(shown + len, sizeof(shown) - len, "%.*s:%.*s ",
					(int)at->ml_hostname.mountname3_len, at->ml_hostname.mountname3_val,
					(int)at->ml_directory.mountpath3_len, at->ml_directory.mountpath3_val);
	ck_assert_str_eq(shown, expected);
	xdr_free((xdrproc_t)xdr_mountlist3, &dump);
}

static uint32_t mount_call(uint32_t version, uint32_t procedure, const char *path)
{
	uint8_t args[64];
	struct bytes_writer w = bytes_writer_init(args, sizeof(args));
	struct bytes_reader results;

	bytes_put_be32(&w, (uint32_t)strlen(path));
	bytes_put(&w, path, strlen(path));
	bytes_put(&w, "\0\0\0", -strlen(path) & 3);
	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, version, procedure, args, w.written, &results), RPC_ACCEPT_SUCCESS);
	return procedure == 1 ? bytes_get_be32(&results) : 0;
}

START_TEST(mounts_are_listed_until_they_end)
{
	ck_assert_uint_eq(mount_call(3, 1, "/disk0"), MNT3_OK);
	ck_assert_uint_eq(mount_call(3, 1, "/none"), MNT3ERR_NOENT);
	client = "10.9.0.2";
	ck_assert_uint_eq(mount_call(3, 1, "/"), MNT3_OK);
	ck_assert_uint_eq(mount_call(3, 1, "/projects/a"), MNT3_OK);
	check_dump(3, "10.9.0.2:/projects/a 10.9.0.2:/ 10.9.0.1:/disk0 ");
	check_dump(1, "10.9.0.2:/projects/a 10.9.0.2:/ 10.9.0.1:/disk0 ");
	mount_call(3, 3, "/disk0"); /* another's */
	mount_call(1, 3, "/");
	check_dump(3, "10.9.0.2:/projects/a 10.9.0.1:/disk0 ");
	mount_call(3, 4, "");
	check_dump(3, "10.9.0.1:/disk0 ");
}
END_TEST

/* The device that the client called lists the mount, whoever walked the path. */
START_TEST(a_relayed_mount_is_listed_if_it_was_granted)
{
	uint8_t reply[4 * 7] = { [7] = 1, [27] = MNT3ERR_NOENT };

	relayed_reply = reply;
	relayed_reply_len = sizeof(reply);
	ck_assert_uint_eq(mount_call(3, 1, "/projects/a/x"), MNT3ERR_NOENT);
	check_dump(3, "");
	reply[27] = MNT3_OK;
	ck_assert_uint_eq(mount_call(3, 1, "/projects/a/x"), MNT3_OK);
	check_dump(3, "10.9.0.1:/projects/a/x ");
	relayed_reply = NULL;
	ck_assert_uint_eq(mount_call(3, 1, "/projects/a/y"), MNT3ERR_SERVERFAULT);
	transport = RPC_RELAYED;
	ck_assert_uint_eq(mount_call(3, 1, "/disk0"), MNT3_OK);
	check_dump(3, "10.9.0.1:/projects/a/x ");
}
END_TEST

/* The call came to a data loop; the table is the control loop's. */
START_TEST(a_relayed_mount_is_listed_without_its_data_loop)
{
	uint8_t reply[4 * 7] = { [7] = 1, [27] = MNT3_OK }, args[4 + 16] = "\0\0\0\015/projects/a/x";
	struct rpc_call call;
	struct loops *loops;

	relayed_reply = reply;
	relayed_reply_len = sizeof(reply);
	ck_assert_int_eq(loops_new(1, &loops), 0);
	ck_assert_int_eq(loops_start(loops), 0);
	loops_pause(loops);
	call = call_for(MOUNT_PROGRAM, 3, 1, args, sizeof(args));
	call.home = loops_at(loops, 0);
	rpc_dispatch(&server, &call);
	check_dump(3, "10.9.0.1:/projects/a/x ");
	dones = 0;
	loops_continue(loops);
	loops_stop(loops);
	loops_open_letters(loops);
	ck_assert_uint_eq(dones, 1);
	loops_free(loops);
	rpc_call_fini(&call);
}
END_TEST

START_TEST(a_list_over_udp_fits_a_datagram)
{
	struct bytes_reader results;
	char path[1 + 2 * 600 + 1], address[INET_ADDRSTRLEN];

	for (size_t i = 0; i < sizeof(path); i++)
		path[i] = i % 2 ? '.' : '/';
	for (unsigned char i = 0; i < 100; i++) {
		uint8_t args[4 + 1000] = { 0, 0, 1000 >> 8, 1000 & 255 };

		memcpy(args + 4, path, 1000);
		snprintf(address, sizeof(address), "10.9.1.%hhu", i);
		client = address;
		ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, 3, 1, args, sizeof(args), &results), RPC_ACCEPT_SUCCESS);
		ck_assert_uint_eq(bytes_get_be32(&results), MNT3_OK);
	}
	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, 3, 2, "", 0, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_gt(results.left, 100 * 1000);
	transport = RPC_UDP;
	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, 3, 2, "", 0, &results), RPC_ACCEPT_SUCCESS);
	ck_assert_uint_gt(results.left, 50 * 1000);
	ck_assert_uint_le(results.left, 65000);
}
END_TEST

static void check_exports(uint32_t version, uint32_t procedure)
{
	struct bytes_reader results;
	exportlist3 list_of = { 0 };
	XDR xdr;

	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, version, procedure, "", 0, &results), RPC_ACCEPT_SUCCESS);
	xdrmem_create(&xdr, (char *)results.p, (u_int)results.left, XDR_DECODE);
	ck_assert(xdr_exportlist3(&xdr, &list_of));
	ck_assert_uint_eq(xdr_getpos(&xdr), results.left);
	ck_assert_mem_eq(list_of.list->ex_dir.mountpath3_val, "/", 1);
	ck_assert_uint_eq(list_of.list->ex_groups->gr_next->gr_name.mountname3_len, strlen("10.0.0.0/8"));
	ck_assert_mem_eq(list_of.list->ex_groups->gr_next->gr_name.mountname3_val, "10.0.0.0/8", 10);
	ck_assert_ptr_null(list_of.list->ex_groups->gr_next->gr_next);
	ck_assert_ptr_null(list_of.list->ex_next->ex_next);
	xdr_free((xdrproc_t)xdr_exportlist3, &list_of);
}

START_TEST(mount_versions)
{
	struct bytes_reader results;

	/* A handle of 32 bytes for NFS version 2 would be good for nothing. */
	ck_assert_uint_eq(mount_call(1, 1, "/"), MNT3ERR_ACCES);
	ck_assert_uint_eq(mount_call(2, 1, "/"), MNT3ERR_ACCES);
	check_dump(1, "");
	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, 3, 1, "\0\0\0\1", 4, &results), RPC_ACCEPT_GARBAGE_ARGS);
	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, 3, 3, "\0\0\0\1", 4, &results), RPC_ACCEPT_GARBAGE_ARGS);
	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, 3, 6, "", 0, &results), RPC_ACCEPT_PROC_UNAVAIL);
	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, 2, 7, "", 0, &results), RPC_ACCEPT_PROC_UNAVAIL);
	ck_assert_uint_eq(call_bytes(MOUNT_PROGRAM, 4, 0, "", 0, &results), RPC_ACCEPT_PROG_MISMATCH);
	check_exports(1, 5);
	check_exports(1, 6);
	check_exports(3, 5);
}
END_TEST

START_TEST(before_the_name_space_is_known_clients_wait)
{
	struct file_service_options options = { .self = 1, .find_volume = find_volume, .ns = namespace_new() };
	struct file_service *young = file_service_new(&options);
	struct rpc_program of_young[FILE_SERVICE_PROGRAMS + 1] = { 0 };
	mountpath3 path = { 1, (char *)"/" };
	nfs_fh3 object = volume_root();
	mountres3 res;
	size_t count;

	memcpy(of_young, file_service_programs(young, &count), sizeof(programs[0]) * FILE_SERVICE_PROGRAMS);
	server.programs = of_young;
	ck_assert_int_eq(getattr(object, NULL), NFS3ERR_JUKEBOX);
	call_xdr(MOUNT_PROGRAM, 1, (xdrproc_t)xdr_mountpath3, &path, (xdrproc_t)xdr_mountres3, &res, sizeof(res));
	ck_assert_int_eq(res.fhs_status, MNT3ERR_SERVERFAULT);
	file_service_free(young);
	namespace_free((struct namespace *)options.ns);
}
END_TEST

START_TEST(unreachable_knows_every_program)
{
	struct rpc_call call = { .program = NFS_PROGRAM, .procedure = NFS3_NULL, .done = on_done };

	file_service_unreachable(&call);
	ck_assert_uint_eq(call.reply[RPC_REPLY_HEADROOM + 23], RPC_ACCEPT_SYSTEM_ERR);
	call.program = MOUNT_PROGRAM;
	call.procedure = 5;
	file_service_unreachable(&call);
	ck_assert_uint_eq(call.reply[RPC_REPLY_HEADROOM + 23], RPC_ACCEPT_SYSTEM_ERR);
	call.program = RQUOTA_PROGRAM;
	file_service_unreachable(&call);
	ck_assert_uint_eq(call.reply[RPC_REPLY_HEADROOM + 23], RPC_ACCEPT_SYSTEM_ERR);
	call.program = NFS_ACL_PROGRAM;
	call.procedure = NFS_ACL_GETACL;
	file_service_unreachable(&call);
	ck_assert_uint_eq(call.reply[RPC_REPLY_HEADROOM + 23], RPC_ACCEPT_SUCCESS);
	rpc_call_fini(&call);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nfs3");
	TCase *tc = tcase_create("nfs3");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, null_has_no_results);
	tcase_add_test(tc, records_are_golden);
	tcase_add_test(tc, linux_is_told_to_use_version_3);
	tcase_add_test(tc, garbage_is_said_for_every_procedure);
	tcase_add_test(tc, every_status_and_every_errno);
	tcase_add_loop_test(tc, translation, 0, sizeof(translations) / sizeof(translations[0]));
	tcase_add_loop_test(tc, names_are_checked, 0, sizeof(names) / sizeof(names[0]));
	tcase_add_test(tc, the_longest_name);
	tcase_add_test(tc, a_file_from_birth_to_death);
	tcase_add_test(tc, a_write_that_lies_about_its_length_is_garbage);
	tcase_add_test(tc, facts_come_with_failures);
	tcase_add_test(tc, exclusive_create_may_be_repeated);
	tcase_add_test(tc, attributes_are_set_and_guarded);
	tcase_add_test(tc, names_are_made_once);
	tcase_add_test(tc, names_go_away_once);
	tcase_add_test(tc, attributes_are_set_once);
	tcase_add_test(tc, a_late_write_changes_nothing);
	tcase_add_test(tc, rights_are_checked_of_duplicates_too);
	tcase_add_test(tc, all_kinds_of_objects);
	tcase_add_test(tc, names_move_within_a_volume_only);
	tcase_add_test(tc, the_way_to_an_export_is_not_moved);
	tcase_add_test(tc, a_search_ends_with_the_service);
	tcase_add_test(tc, a_search_may_end_after_its_volume);
	tcase_add_test(tc, the_work_of_a_call_that_was_passed_on_is_of_where_it_was_passed_to);
	tcase_add_loop_test(tc, changes_of_one_object_are_made_together, 0, 2);
	tcase_add_test(tc, mount_points_are_crossed_both_ways);
	tcase_add_loop_test(tc, a_forged_handle_is_refused, 0, sizeof(every) / sizeof(every[0]));
	tcase_add_loop_test(tc, an_unknown_volume_is_stale, 0, sizeof(every) / sizeof(every[0]));
	tcase_add_loop_test(tc, a_stranger_gets_nothing, 0, sizeof(every) / sizeof(every[0]));
	tcase_add_loop_test(tc, the_virtual_root_is_never_changed, 0, sizeof(every) / sizeof(every[0]));
	tcase_add_loop_test(tc, another_devices_volume_is_relayed, 0, sizeof(every) / sizeof(every[0]));
	tcase_add_loop_test(tc, a_relayed_call_is_not_relayed_again, 0, sizeof(every) / sizeof(every[0]));
	tcase_add_test(tc, acls_are_set_and_shown);
	tcase_add_test(tc, acls_that_are_none);
	tcase_add_test(tc, squashed_root_is_nobody);
	tcase_add_test(tc, access_bits);
	tcase_add_test(tc, directories_in_replies_of_any_size);
	tcase_add_test(tc, a_foreign_cookie_is_refused);
	tcase_add_test(tc, readdirplus_obeys_both_limits);
	tcase_add_test(tc, readdirplus_of_the_virtual_root_stays_in_it);
	tcase_add_test(tc, the_directory_above_an_export_is_not_shown);
	tcase_add_test(tc, limits_of_the_file_system);
	tcase_add_loop_test(tc, mounting, 0, sizeof(mounts) / sizeof(mounts[0]));
	tcase_add_test(tc, mounts_are_listed_until_they_end);
	tcase_add_test(tc, a_relayed_mount_is_listed_if_it_was_granted);
	tcase_add_test(tc, a_relayed_mount_is_listed_without_its_data_loop);
	tcase_add_test(tc, a_list_over_udp_fits_a_datagram);
	tcase_add_test(tc, mount_versions);
	tcase_add_test(tc, before_the_name_space_is_known_clients_wait);
	tcase_add_test(tc, unreachable_knows_every_program);
	tcase_add_checked_fixture(tc, setup, teardown);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
