/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/client/storm_load.c - many NFSv3 connections that repeat what was not answered, and see what was done twice
 *
 * Usage: storm_load --server ADDRESS [OPTION...] DIR...
 *
 *   --connections N   default: 16
 *   --depth D         calls outstanding on each; default: 4
 *   --seed S          of contents and choices; default: 1
 *   --timeout N       seconds without the answer to a call that are a failure; default: 60
 *   --pause MS        at most, between two jobs; default: 0
 *
 * As a hard mount does, a lost connection is opened again and every call without an answer sent again, with the same xid;
 * a call answered JUKEBOX is made again later. Runs until SIGINT or SIGTERM, then checks and removes all that it made.
 *
 * A slot makes one call at a time, in directories of its own, one in each DIR (a path that can be mounted). So it knows what
 * must be there after each answer, and every answer of a procedure that changes something tells a first run from a second
 * one: names are used again and again, for things that exist and then don't. What a block of a file contains follows from
 * seed, slot, DIR, block and how often it was written.
 *
 * Prints "ready" once all files are written, at the end one line of JSON, and meanwhile what may be right or wrong, which who
 * knows what was killed must decide, as a line of JSON each; times are microseconds of CLOCK_MONOTONIC:
 *
 *   {"event": "connected again", "from_us": lost, "until_us": connected, "slot": its first, "why": libnfs says}
 *   {"event": "ran before", "from_us": first sent, "until_us": answered, "slot": N, "dir": DIR, "what": call}: the answer
 *       is that of a second run. A server that was killed has forgotten the first one's.
 *
 * Stops at the first wrong byte, wrong status or missing answer with a sentence about it. Exit status: 0; 1 something was
 * wrong; 2 wrong usage. One thread.
 */
#include "content.h"

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	PORT = 2049,
	BLOCK_BYTES = 65536,
	BLOCKS = 4,
	SMALL_BYTES = 100,
	LIST_BYTES = 4096,
	HANDLE_BYTES = 64,
	CONNECT_US = 3000000,	/* then another try */
	RECONNECT_US = 100000,	/* before the next try */
	JUKEBOX_US = 200000,	/* as long as the server asks for */
};

struct options {
	const char *server;
	unsigned int connections, depth, timeout_s, pause_ms;
	uint64_t seed;
	char **dirs;
	unsigned int dir_count;
};

struct handle {
	unsigned int len;
	char data[HANDLE_BYTES];
};

struct block {
	uint32_t version; /* times it was written */
	bool is_unstable; /* and not committed since; with this verifier: */
	char verifier[NFS3_WRITEVERFSIZE];
};

/* A slot's part of one DIR. */
struct place {
	struct handle volume, dir, file, small;
	struct block blocks[BLOCKS];
};

struct load;
struct step;

struct slot {
	struct load *load;
	struct connection *connection;
	unsigned int number;
	struct place *places; /* one for each DIR */
	unsigned int at;      /* the DIR where it works */
	char name[32];	      /* of its directories */
	char buffer[BLOCK_BYTES];
	enum { STAGE_SET_UP, STAGE_RUN, STAGE_CHECK, STAGE_DONE } stage;
	unsigned int job; /* of STAGE_SET_UP and STAGE_CHECK, which have a fixed number */

	/* The job: a chain of steps, each a call. */
	const struct step *step;
	unsigned int steps_left;
	uint32_t block;
	uint32_t offset, len; /* of a read in its block */
	stable_how stable;

	/* The call. */
	bool is_sent;
	uint32_t xid;
	uint64_t verifier; /* of an exclusive create: stays when the xid does not */
	uint64_t first_us; /* when it was sent first, also with another xid; 0: not yet */
	uint64_t not_before_us;
	unsigned int times_sent;
};

enum { FIRST_RUN_ONLY = -1 };

struct step {
	const char *what;
	int (*send)(struct slot *slot, const struct step *step);
	const char *from, *to; /* names in the slot's directory */
	nfsstat3 expected;
	int again; /* what a second run would answer; FIRST_RUN_ONLY: the same as the first, or it is no change */
	void (*check)(struct slot *slot, const struct step *step, const void *reply);
};

struct connection {
	struct load *load;
	struct rpc_context *rpc; /* NULL: none */
	struct slot *slots;	 /* `depth` of them */
	bool is_connected, is_closing, was_connected;
	uint64_t deadline_us; /* of connecting, or until the next try */
	uint64_t lost_us; /* 0: it is not */
	char lost_why[200];
	char refused_why[200]; /* a call, in this turn; also when its connection is lost */
};

struct load {
	struct options options;
	struct connection *connections;
	struct slot *slots;
	unsigned int slot_count;
	struct pollfd *pollers;
	uint64_t random;
	uint32_t next_xid;
	bool is_ready;
	uint64_t start_us;

	/* For the JSON: */
	uint64_t calls, chains, read_bytes, written_bytes, sent_again, jukeboxes, ran_before, connected_again, rewritten;
	uint64_t longest_us; /* from a call to its answer */
	unsigned int errors;
};

static volatile sig_atomic_t must_stop;

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void report(const struct load *load)
{
	printf("{\"calls\": %" PRIu64 ", \"chains\": %" PRIu64 ", \"read_bytes\": %" PRIu64 ", \"written_bytes\": %" PRIu64
	       ", \"sent_again\": %" PRIu64 ", \"jukeboxes\": %" PRIu64 ", \"ran_before\": %" PRIu64
	       ", \"connected_again\": %" PRIu64 ", \"rewritten\": %" PRIu64 ", \"longest_us\": %" PRIu64
	       ", \"errors\": %u}\n",
	       load->calls, load->chains, load->read_bytes, load->written_bytes, load->sent_again, load->jukeboxes,
	       load->ran_before, load->connected_again, load->rewritten, load->longest_us, load->errors);
	fflush(stdout);
}

__attribute__((format(printf, 2, 3), noreturn)) static void wrong(struct load *load, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "storm_load: after %.3f s: ", (double)(now_us() - load->start_us) / 1e6);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	load->errors++;
	report(load);
	exit(1);
}

static uint64_t random_below(struct load *load, uint64_t limit)
{
	load->random += UINT64_C(0x9e3779b97f4a7c15);
	return content_mix(load->random) % limit;
}

static struct place *place_of(const struct slot *slot)
{
	return &slot->places[slot->at];
}

static const char *dir_of(const struct slot *slot)
{
	return slot->load->options.dirs[slot->at];
}

/* "DIR/NAME: WHAT" of the slot's present call, for messages; one at a time. */
static const char *call_of(const struct slot *slot)
{
	static char text[400];

	snprintf(text, sizeof(text), "%s/%s: %s%s%s%s%s (xid %08" PRIx32 ", sent %u times)", dir_of(slot), slot->name,
		 slot->step->what, slot->step->from ? " " : "", slot->step->from ? slot->step->from : "",
		 slot->step->to ? " to " : "", slot->step->to ? slot->step->to : "", slot->xid, slot->times_sent);
	return text;
}

static nfs_fh3 fh3(const struct handle *handle)
{
	return (nfs_fh3){ .data = { .data_len = handle->len, .data_val = (char *)handle->data } };
}

static void keep(struct slot *slot, struct handle *out, const char *data, unsigned int len)
{
	if (len > sizeof(out->data))
		wrong(slot->load, "%s: a handle of %u bytes", call_of(slot), len);
	out->len = len;
	memcpy(out->data, data, len);
}

static diropargs3 in_dir(const struct slot *slot, const char *name)
{
	return (diropargs3){ .dir = fh3(&place_of(slot)->dir), .name = (char *)name };
}

/* ---- Sending: once more with the same result, if need be ---- */

static void on_reply(struct rpc_context *rpc, int status, void *data, void *private_data);

static int send_mount(struct slot *slot, const struct step *step)
{
	(void)step;
	return rpc_mount3_mnt_async(slot->connection->rpc, on_reply, (char *)dir_of(slot), slot);
}

static int send_mkdir(struct slot *slot, const struct step *step)
{
	MKDIR3args args = { .where = in_dir(slot, step->from) };

	return rpc_nfs3_mkdir_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_make_own(struct slot *slot, const struct step *step)
{
	MKDIR3args args = { .where = { .dir = fh3(&place_of(slot)->volume), .name = slot->name } };

	(void)step;
	return rpc_nfs3_mkdir_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_find_own(struct slot *slot, const struct step *step)
{
	LOOKUP3args args = { .what = { .dir = fh3(&place_of(slot)->volume), .name = slot->name } };

	(void)step;
	return rpc_nfs3_lookup_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_remove_own(struct slot *slot, const struct step *step)
{
	RMDIR3args args = { .object = { .dir = fh3(&place_of(slot)->volume), .name = slot->name } };

	(void)step;
	return rpc_nfs3_rmdir_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_exclusive(struct slot *slot, const struct step *step)
{
	CREATE3args args = { .where = in_dir(slot, step->from), .how = { .mode = EXCLUSIVE } };

	memcpy(args.how.createhow3_u.verf, &slot->verifier, sizeof(slot->verifier));
	return rpc_nfs3_create_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_guarded(struct slot *slot, const struct step *step)
{
	CREATE3args args = { .where = in_dir(slot, step->from), .how = { .mode = GUARDED } };

	args.how.createhow3_u.g_obj_attributes.mode = (set_mode3){ .set_it = 1, .set_mode3_u = { .mode = 0640 } };
	return rpc_nfs3_create_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_lookup(struct slot *slot, const struct step *step)
{
	LOOKUP3args args = { .what = in_dir(slot, step->from) };

	return rpc_nfs3_lookup_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_link(struct slot *slot, const struct step *step)
{
	LINK3args args = { .file = fh3(&place_of(slot)->small), .link = in_dir(slot, step->to) };

	return rpc_nfs3_link_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_symlink(struct slot *slot, const struct step *step)
{
	SYMLINK3args args = { .where = in_dir(slot, step->from) };

	args.symlink.symlink_data = (char *)"no/such/place";
	return rpc_nfs3_symlink_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_rename(struct slot *slot, const struct step *step)
{
	RENAME3args args = { .from = in_dir(slot, step->from), .to = in_dir(slot, step->to) };

	return rpc_nfs3_rename_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_remove(struct slot *slot, const struct step *step)
{
	REMOVE3args args = { .object = in_dir(slot, step->from) };

	return rpc_nfs3_remove_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_rmdir(struct slot *slot, const struct step *step)
{
	RMDIR3args args = { .object = in_dir(slot, step->from) };

	return rpc_nfs3_rmdir_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_getattr(struct slot *slot, const struct step *step)
{
	GETATTR3args args = { .object = fh3(&place_of(slot)->small) };

	(void)step;
	return rpc_nfs3_getattr_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_list(struct slot *slot, const struct step *step)
{
	READDIRPLUS3args args = { .dir = fh3(&place_of(slot)->dir), .dircount = LIST_BYTES, .maxcount = LIST_BYTES };

	(void)step;
	return rpc_nfs3_readdirplus_async(slot->connection->rpc, on_reply, &args, slot);
}

static uint64_t small_key(const struct slot *slot)
{
	return content_key(slot->load->options.seed, slot->number, BLOCKS, slot->at);
}

static int send_write_small(struct slot *slot, const struct step *step)
{
	WRITE3args args = { .file = fh3(&place_of(slot)->small), .count = SMALL_BYTES, .stable = FILE_SYNC };

	(void)step;
	content_fill(small_key(slot), (unsigned char *)slot->buffer, SMALL_BYTES);
	args.data.data_len = SMALL_BYTES;
	args.data.data_val = slot->buffer;
	return rpc_nfs3_write_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_read_small(struct slot *slot, const struct step *step)
{
	READ3args args = { .file = fh3(&place_of(slot)->small), .count = SMALL_BYTES + 1 };

	(void)step;
	return rpc_nfs3_read_async(slot->connection->rpc, on_reply, &args, slot);
}

static uint64_t block_key(const struct slot *slot, uint32_t version)
{
	return content_key(slot->load->options.seed, (uint64_t)slot->number * slot->load->options.dir_count + slot->at,
			   slot->block, version);
}

static int send_write(struct slot *slot, const struct step *step)
{
	WRITE3args args = { .file = fh3(&place_of(slot)->file), .offset = (uint64_t)slot->block * BLOCK_BYTES,
			    .count = BLOCK_BYTES, .stable = slot->stable };

	(void)step;
	content_fill(block_key(slot, place_of(slot)->blocks[slot->block].version + 1), (unsigned char *)slot->buffer,
		     BLOCK_BYTES);
	args.data.data_len = BLOCK_BYTES;
	args.data.data_val = slot->buffer;
	return rpc_nfs3_write_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_read(struct slot *slot, const struct step *step)
{
	READ3args args = { .file = fh3(&place_of(slot)->file),
			   .offset = (uint64_t)slot->block * BLOCK_BYTES + slot->offset, .count = slot->len };

	(void)step;
	return rpc_nfs3_read_async(slot->connection->rpc, on_reply, &args, slot);
}

static int send_commit(struct slot *slot, const struct step *step)
{
	COMMIT3args args = { .file = fh3(&place_of(slot)->file) };

	(void)step;
	return rpc_nfs3_commit_async(slot->connection->rpc, on_reply, &args, slot);
}

/* ---- What the answers must be ---- */

static void keep_volume(struct slot *slot, const struct step *step, const void *reply)
{
	const mountres3 *res = reply;

	(void)step;
	keep(slot, &place_of(slot)->volume, res->mountres3_u.mountinfo.fhandle.fhandle3_val,
	     res->mountres3_u.mountinfo.fhandle.fhandle3_len);
}

static void keep_found(struct slot *slot, struct handle *out, const LOOKUP3res *res)
{
	const nfs_fh3 *found = &res->LOOKUP3res_u.resok.object;

	keep(slot, out, found->data.data_val, found->data.data_len);
}

static void keep_dir(struct slot *slot, const struct step *step, const void *reply)
{
	(void)step;
	keep_found(slot, &place_of(slot)->dir, reply);
}

static void keep_file(struct slot *slot, const struct step *step, const void *reply)
{
	(void)step;
	keep_found(slot, &place_of(slot)->file, reply);
}

static void keep_small(struct slot *slot, const struct step *step, const void *reply)
{
	(void)step;
	keep_found(slot, &place_of(slot)->small, reply);
}

static void check_links(struct slot *slot, const void *reply, unsigned int links)
{
	const fattr3 *attributes = &((const GETATTR3res *)reply)->GETATTR3res_u.resok.obj_attributes;

	if (attributes->type != NF3REG || attributes->nlink != links || attributes->size != SMALL_BYTES ||
	    (attributes->mode & 07777) != 0640)
		wrong(slot->load, "%s: type %d, mode %o, %u links, %" PRIu64 " bytes instead of %u links, %d bytes",
		      call_of(slot), (int)attributes->type, attributes->mode, attributes->nlink, attributes->size, links,
		      SMALL_BYTES);
}

static void check_one_link(struct slot *slot, const struct step *step, const void *reply)
{
	(void)step;
	check_links(slot, reply, 1);
}

static void check_two_links(struct slot *slot, const struct step *step, const void *reply)
{
	(void)step;
	check_links(slot, reply, 2);
}

/* step->to: the names that must be there, one letter each. */
static void check_list(struct slot *slot, const struct step *step, const void *reply)
{
	const READDIRPLUS3resok *res = &((const READDIRPLUS3res *)reply)->READDIRPLUS3res_u.resok;
	size_t count = 0;

	for (const entryplus3 *entry = res->reply.entries; entry; entry = entry->nextentry) {
		if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
			continue;
		if (strlen(entry->name) != 1 || !strchr(step->to, entry->name[0]))
			wrong(slot->load, "%s: unexpected entry \"%s\"", call_of(slot), entry->name);
		count++;
	}
	if (count != strlen(step->to) || !res->reply.eof)
		wrong(slot->load, "%s: %zu entries instead of %zu", call_of(slot), count, strlen(step->to));
}

static void check_bytes(struct slot *slot, const READ3resok *res, uint64_t key, size_t offset, size_t len)
{
	size_t at;

	if (res->count != len || res->data.data_len != len)
		wrong(slot->load, "%s: %u bytes instead of %zu", call_of(slot), res->count, len);
	at = content_check_from(key, offset, (unsigned char *)res->data.data_val, len);
	if (at != len)
		wrong(slot->load, "%s: block %" PRIu32 " version %" PRIu32 ": byte %zu is wrong: 0x%02x", call_of(slot),
		      slot->block, place_of(slot)->blocks[slot->block].version, offset + at,
		      (unsigned char)res->data.data_val[at]);
}

static void check_small(struct slot *slot, const struct step *step, const void *reply)
{
	(void)step;
	check_bytes(slot, &((const READ3res *)reply)->READ3res_u.resok, small_key(slot), 0, SMALL_BYTES);
}

static void check_read(struct slot *slot, const struct step *step, const void *reply)
{
	(void)step;
	check_bytes(slot, &((const READ3res *)reply)->READ3res_u.resok,
		    block_key(slot, place_of(slot)->blocks[slot->block].version), slot->offset, slot->len);
	slot->load->read_bytes += slot->len;
}

static void check_small_written(struct slot *slot, const struct step *step, const void *reply)
{
	const WRITE3resok *res = &((const WRITE3res *)reply)->WRITE3res_u.resok;

	(void)step;
	if (res->count != SMALL_BYTES || res->committed != FILE_SYNC)
		wrong(slot->load, "%s: %u bytes, committed %d", call_of(slot), res->count, (int)res->committed);
}

static void check_written(struct slot *slot, const struct step *step, const void *reply)
{
	const WRITE3resok *res = &((const WRITE3res *)reply)->WRITE3res_u.resok;
	struct block *block = &place_of(slot)->blocks[slot->block];

	(void)step;
	if (res->count != BLOCK_BYTES || res->committed < slot->stable)
		wrong(slot->load, "%s: %u bytes, committed %d instead of %d", call_of(slot), res->count,
		      (int)res->committed, (int)slot->stable);
	block->version++;
	block->is_unstable = res->committed == UNSTABLE;
	memcpy(block->verifier, res->verf, sizeof(block->verifier));
	slot->load->written_bytes += BLOCK_BYTES;
}

/* What was written before a restart of the server stays unstable, and is written again. */
static void check_committed(struct slot *slot, const struct step *step, const void *reply)
{
	const COMMIT3resok *res = &((const COMMIT3res *)reply)->COMMIT3res_u.resok;

	(void)step;
	for (unsigned int i = 0; i < BLOCKS; i++) {
		struct block *block = &place_of(slot)->blocks[i];

		if (block->is_unstable && memcmp(block->verifier, res->verf, sizeof(block->verifier)) == 0)
			block->is_unstable = false;
	}
}

/* ---- Jobs ---- */

#define OF(steps) (steps), sizeof(steps) / sizeof((steps)[0])

static const struct step set_up[] = {
	{ "mount", send_mount, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, keep_volume },
	{ "mkdir of its own", send_make_own, NULL, NULL, NFS3_OK, NFS3ERR_EXIST, NULL },
	{ "lookup of its own", send_find_own, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, keep_dir },
	{ "exclusive create", send_exclusive, "f", NULL, NFS3_OK, FIRST_RUN_ONLY, NULL },
	{ "lookup", send_lookup, "f", NULL, NFS3_OK, FIRST_RUN_ONLY, keep_file },
};

static const struct step clean_up[] = {
	{ "list", send_list, NULL, "f", NFS3_OK, FIRST_RUN_ONLY, check_list },
	{ "remove", send_remove, "f", NULL, NFS3_OK, NFS3ERR_NOENT, NULL },
	{ "list", send_list, NULL, "", NFS3_OK, FIRST_RUN_ONLY, check_list },
	{ "rmdir of its own", send_remove_own, NULL, NULL, NFS3_OK, NFS3ERR_NOENT, NULL },
};

/* From the slot's file alone, f, to the same. A call that came late or twice leaves a name too many or too few. */
static const struct step chain[] = {
	{ "exclusive create", send_exclusive, "a", NULL, NFS3_OK, FIRST_RUN_ONLY, NULL },
	{ "guarded create", send_guarded, "b", NULL, NFS3_OK, NFS3ERR_EXIST, NULL },
	{ "guarded create of what exists", send_guarded, "b", NULL, NFS3ERR_EXIST, FIRST_RUN_ONLY, NULL },
	{ "exclusive create of what exists", send_exclusive, "b", NULL, NFS3ERR_EXIST, FIRST_RUN_ONLY, NULL },
	{ "lookup", send_lookup, "b", NULL, NFS3_OK, FIRST_RUN_ONLY, keep_small },
	{ "write", send_write_small, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, check_small_written },
	{ "link b", send_link, NULL, "c", NFS3_OK, NFS3ERR_EXIST, NULL },
	{ "attributes", send_getattr, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, check_two_links },
	{ "rename", send_rename, "b", "d", NFS3_OK, NFS3ERR_NOENT, NULL },
	{ "list", send_list, NULL, "facd", NFS3_OK, FIRST_RUN_ONLY, check_list },
	{ "rename over a file", send_rename, "d", "a", NFS3_OK, NFS3ERR_NOENT, NULL },
	{ "lookup of what was renamed", send_lookup, "d", NULL, NFS3ERR_NOENT, FIRST_RUN_ONLY, NULL },
	{ "attributes", send_getattr, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, check_two_links },
	{ "read", send_read_small, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, check_small },
	{ "remove", send_remove, "a", NULL, NFS3_OK, NFS3ERR_NOENT, NULL },
	{ "attributes", send_getattr, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, check_one_link },
	{ "mkdir", send_mkdir, "e", NULL, NFS3_OK, NFS3ERR_EXIST, NULL },
	{ "symlink", send_symlink, "s", NULL, NFS3_OK, NFS3ERR_EXIST, NULL },
	{ "list", send_list, NULL, "fces", NFS3_OK, FIRST_RUN_ONLY, check_list },
	{ "remove", send_remove, "c", NULL, NFS3_OK, NFS3ERR_NOENT, NULL },
	{ "attributes of what was removed", send_getattr, NULL, NULL, NFS3ERR_STALE, FIRST_RUN_ONLY, NULL },
	{ "rmdir", send_rmdir, "e", NULL, NFS3_OK, NFS3ERR_NOENT, NULL },
	{ "remove", send_remove, "s", NULL, NFS3_OK, NFS3ERR_NOENT, NULL },
	{ "list", send_list, NULL, "f", NFS3_OK, FIRST_RUN_ONLY, check_list },
};

static const struct step write_block[] = {
	{ "write", send_write, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, check_written },
};
static const struct step read_block[] = { { "read", send_read, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, check_read } };
static const struct step commit_file[] = {
	{ "commit", send_commit, NULL, NULL, NFS3_OK, FIRST_RUN_ONLY, check_committed },
};

static void send_call(struct slot *slot)
{
	struct load *load = slot->load;
	struct connection *connection = slot->connection;

	rpc_set_next_xid(connection->rpc, slot->xid);
	if (slot->step->send(slot, slot->step))
		wrong(load, "%s: cannot be sent: %s", call_of(slot), rpc_get_error(connection->rpc));
	slot->is_sent = true;
	if (slot->times_sent++)
		load->sent_again++;
	if (!slot->first_us)
		slot->first_us = now_us();
}

static void begin_call(struct slot *slot, uint64_t not_before_us)
{
	slot->xid = slot->load->next_xid++;
	slot->verifier = content_mix(slot->load->options.seed + slot->xid);
	slot->first_us = 0;
	slot->times_sent = 0;
	slot->is_sent = false;
	slot->not_before_us = not_before_us;
}

static void begin_job(struct slot *slot, const struct step *steps, size_t count)
{
	uint64_t pause_us = (uint64_t)slot->load->options.pause_ms * 1000;

	slot->step = steps;
	slot->steps_left = (unsigned int)count;
	begin_call(slot, slot->stage == STAGE_RUN && pause_us ? now_us() + random_below(slot->load, pause_us) : 0);
}

static void begin_write(struct slot *slot, unsigned int block, stable_how stable)
{
	slot->block = block;
	slot->stable = stable;
	begin_job(slot, OF(write_block));
}

static void begin_read(struct slot *slot, unsigned int block, uint32_t offset, uint32_t len)
{
	slot->block = block;
	slot->offset = offset;
	slot->len = len;
	begin_job(slot, OF(read_block));
}

/* Written before the last commit, with another verifier: the server may have lost it. -1: none */
static int lost_block(const struct slot *slot)
{
	const struct place *place = place_of(slot);

	if (slot->step != commit_file)
		return -1;
	for (int i = 0; i < BLOCKS; i++)
		if (place->blocks[i].is_unstable)
			return i;
	return -1;
}

static void random_job(struct slot *slot)
{
	struct load *load = slot->load;
	uint64_t dice = random_below(load, 100);
	unsigned int block = (unsigned int)random_below(load, BLOCKS);
	uint32_t offset = (uint32_t)random_below(load, BLOCK_BYTES / CONTENT_WORD_BYTES) * CONTENT_WORD_BYTES;

	if (random_below(load, 10) == 0)
		slot->at = (unsigned int)random_below(load, load->options.dir_count);
	if (dice < 20) {
		begin_read(slot, block, 0, BLOCK_BYTES);
	} else if (dice < 40) {
		begin_read(slot, block, offset, 1 + (uint32_t)random_below(load, BLOCK_BYTES - offset));
	} else if (dice < 70) {
		begin_write(slot, block, (stable_how)random_below(load, FILE_SYNC + 1));
	} else if (dice < 80) {
		begin_job(slot, OF(commit_file));
	} else {
		load->chains++;
		begin_job(slot, OF(chain));
	}
}

/* Each DIR: set up, and write the blocks. */
static bool next_of_set_up(struct slot *slot)
{
	unsigned int job = slot->job % (BLOCKS + 1);

	if (slot->job == slot->load->options.dir_count * (BLOCKS + 1))
		return false;
	slot->at = slot->job++ / (BLOCKS + 1);
	if (job == 0)
		begin_job(slot, OF(set_up));
	else
		begin_write(slot, job - 1, UNSTABLE);
	return true;
}

/* Each DIR: read all blocks, and clean up. */
static bool next_of_check(struct slot *slot)
{
	unsigned int job = slot->job % (BLOCKS + 1);

	if (slot->job == slot->load->options.dir_count * (BLOCKS + 1))
		return false;
	slot->at = slot->job++ / (BLOCKS + 1);
	if (job < BLOCKS)
		begin_read(slot, job, 0, BLOCK_BYTES);
	else
		begin_job(slot, OF(clean_up));
	return true;
}

static void next_job(struct slot *slot)
{
	int lost = lost_block(slot);

	if (lost >= 0) {
		slot->load->rewritten++;
		begin_write(slot, (unsigned int)lost, FILE_SYNC);
		return;
	}
	if (slot->stage == STAGE_SET_UP && !next_of_set_up(slot))
		slot->stage = STAGE_RUN;
	if (slot->stage == STAGE_RUN && must_stop) {
		slot->stage = STAGE_CHECK;
		slot->job = 0;
	}
	if (slot->stage == STAGE_RUN)
		random_job(slot);
	else if (slot->stage == STAGE_CHECK && !next_of_check(slot))
		slot->stage = STAGE_DONE;
}

static void note_ran_before(struct slot *slot)
{
	slot->load->ran_before++;
	printf("{\"event\": \"ran before\", \"from_us\": %" PRIu64 ", \"until_us\": %" PRIu64
	       ", \"slot\": %u, \"dir\": \"%s\", \"what\": \"%s\"}\n",
	       slot->first_us, now_us(), slot->number, dir_of(slot), call_of(slot));
	fflush(stdout);
}

static void answered(struct slot *slot, const void *reply)
{
	const struct step *step = slot->step;
	struct load *load = slot->load;
	nfsstat3 status = *(const nfsstat3 *)reply; /* the first in every result, also of MNT */
	uint64_t took_us = now_us() - slot->first_us;

	if (took_us > load->longest_us)
		load->longest_us = took_us;
	slot->is_sent = false;
	if (status == NFS3ERR_JUKEBOX) {
		load->jukeboxes++;
		slot->xid = load->next_xid++;
		slot->not_before_us = now_us() + JUKEBOX_US;
		return;
	}
	load->calls++;
	if ((int)status == step->again && status != step->expected)
		note_ran_before(slot);
	else if (status != step->expected)
		wrong(load, "%s: status %d (%s) instead of %d", call_of(slot), (int)status, nfsstat3_to_str(status),
		      (int)step->expected);
	else if (step->check)
		step->check(slot, step, reply);
	if (--slot->steps_left == 0) {
		next_job(slot);
	} else {
		slot->step++;
		begin_call(slot, 0);
	}
}

static void on_reply(struct rpc_context *rpc, int status, void *data, void *private_data)
{
	struct slot *slot = private_data;

	(void)rpc;
	if (status == RPC_STATUS_SUCCESS)
		answered(slot, data);
	else if (status == RPC_STATUS_ERROR && !slot->connection->is_closing)
		snprintf(slot->connection->refused_why, sizeof(slot->connection->refused_why), "%s",
			 (const char *)data);
}

/* ---- Connections ---- */

static void close_connection(struct connection *connection)
{
	connection->is_closing = true; /* its calls are told so now */
	rpc_destroy_context(connection->rpc);
	connection->is_closing = connection->is_connected = false;
	connection->rpc = NULL;
}

static void lose_connection(struct connection *connection, const char *why)
{
	struct load *load = connection->load;

	if (!connection->lost_us) {
		connection->lost_us = now_us();
		snprintf(connection->lost_why, sizeof(connection->lost_why), "%s", why);
	}
	for (unsigned int i = 0; i < load->options.depth; i++)
		connection->slots[i].is_sent = false;
	close_connection(connection);
	connection->deadline_us = now_us() + RECONNECT_US;
}

static void note_connected_again(struct connection *connection)
{
	connection->load->connected_again++;
	printf("{\"event\": \"connected again\", \"from_us\": %" PRIu64 ", \"until_us\": %" PRIu64
	       ", \"slot\": %u, \"why\": \"%s\"}\n",
	       connection->lost_us, now_us(), connection->slots[0].number, connection->lost_why);
	fflush(stdout);
}

static void on_connected(struct rpc_context *rpc, int status, void *data, void *private_data)
{
	struct connection *connection = private_data;

	(void)rpc, (void)data;
	if (status != RPC_STATUS_SUCCESS)
		return; /* rpc_service() says so, too */
	if (connection->was_connected)
		note_connected_again(connection);
	connection->is_connected = connection->was_connected = true;
	connection->lost_us = 0;
}

static void open_connection(struct connection *connection)
{
	struct load *load = connection->load;
	struct rpc_context *rpc = rpc_init_context();

	if (!rpc)
		wrong(load, "no memory");
	rpc_set_auth(rpc, libnfs_authunix_create("storm", 0, 0, 0, NULL));
	connection->rpc = rpc;
	connection->deadline_us = now_us() + CONNECT_US;
	if (rpc_connect_async(rpc, load->options.server, PORT, on_connected, connection))
		lose_connection(connection, rpc_get_error(rpc));
}

static void send_what_waits(struct connection *connection, uint64_t now)
{
	struct load *load = connection->load;

	for (unsigned int i = 0; i < load->options.depth; i++) {
		struct slot *slot = &connection->slots[i];

		if (slot->stage == STAGE_DONE)
			continue;
		if (slot->first_us && now > slot->first_us + (uint64_t)load->options.timeout_s * 1000000)
			wrong(load, "%s: no answer for %u s; connection %s", call_of(slot), load->options.timeout_s,
			      connection->is_connected ? "up" : connection->lost_why);
		if (connection->is_connected && !slot->is_sent && now >= slot->not_before_us)
			send_call(slot);
	}
}

static void serve_connection(struct connection *connection, int events)
{
	uint64_t now = now_us();
	char why[sizeof(connection->lost_why)];

	if (!connection->rpc) {
		if (now >= connection->deadline_us)
			open_connection(connection);
		return;
	}
	connection->refused_why[0] = '\0';
	if (events && rpc_service(connection->rpc, events)) {
		snprintf(why, sizeof(why), "%s", rpc_get_error(connection->rpc));
		/* An answer to a call that was answered already: the server has run it, or sent its answer, twice. */
		if (strstr(why, "No matching pdu") || strstr(why, "garbage pdu"))
			wrong(connection->load, "connection of slot %u: %s", connection->slots[0].number, why);
		lose_connection(connection, why[0] ? why : "closed by the server");
	} else if (connection->refused_why[0]) {
		wrong(connection->load, "a call was refused: %s", connection->refused_why);
	} else if (!connection->is_connected && now >= connection->deadline_us) {
		lose_connection(connection, "could not connect");
	}
	if (connection->rpc)
		send_what_waits(connection, now);
}

static bool is_done(const struct load *load)
{
	for (unsigned int i = 0; i < load->slot_count; i++)
		if (load->slots[i].stage != STAGE_DONE)
			return false;
	return true;
}

static void note_ready(struct load *load)
{
	for (unsigned int i = 0; i < load->slot_count; i++)
		if (load->slots[i].stage == STAGE_SET_UP)
			return;
	load->is_ready = true;
	puts("ready");
	fflush(stdout);
}

static void turn(struct load *load)
{
	unsigned int count = load->options.connections;

	for (unsigned int i = 0; i < count; i++) {
		struct rpc_context *rpc = load->connections[i].rpc;

		load->pollers[i] = (struct pollfd){ .fd = rpc ? rpc_get_fd(rpc) : -1,
						    .events = rpc ? (short)rpc_which_events(rpc) : 0 };
	}
	if (poll(load->pollers, count, 20) < 0 && errno != EINTR)
		wrong(load, "poll: %s", strerror(errno));
	for (unsigned int i = 0; i < count; i++)
		serve_connection(&load->connections[i], load->pollers[i].revents);
	if (!load->is_ready)
		note_ready(load);
}

/* ---- Begin and end ---- */

static void prepare(struct load *load)
{
	const struct options *options = &load->options;

	load->slot_count = options->connections * options->depth;
	load->slots = calloc(load->slot_count, sizeof(*load->slots));
	load->connections = calloc(options->connections, sizeof(*load->connections));
	load->pollers = calloc(options->connections, sizeof(*load->pollers));
	if (!load->slots || !load->connections || !load->pollers)
		wrong(load, "no memory");
	/* A server that lives longer than we do may know the xids of who came from here before. */
	if (getrandom(&load->next_xid, sizeof(load->next_xid), 0) < 0)
		wrong(load, "getrandom: %s", strerror(errno));
	for (unsigned int i = 0; i < load->slot_count; i++) {
		struct slot *slot = &load->slots[i];

		slot->load = load;
		slot->connection = &load->connections[i / options->depth];
		slot->number = i;
		slot->places = calloc(options->dir_count, sizeof(*slot->places));
		if (!slot->places)
			wrong(load, "no memory");
		snprintf(slot->name, sizeof(slot->name), "storm-%d-%u", (int)getpid(), i);
		next_job(slot);
	}
	for (unsigned int i = 0; i < options->connections; i++) {
		load->connections[i].load = load;
		load->connections[i].slots = &load->slots[i * options->depth];
	}
}

/* libnfs would end its connections with a RST; real clients end with a FIN. */
static void finish(struct load *load)
{
	struct linger linger = { .l_onoff = 0 };

	for (unsigned int i = 0; i < load->options.connections; i++) {
		struct connection *connection = &load->connections[i];

		if (connection->rpc) {
			setsockopt(rpc_get_fd(connection->rpc), SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
			close_connection(connection);
		}
	}
	for (unsigned int i = 0; i < load->slot_count; i++)
		free(load->slots[i].places);
	free(load->slots);
	free(load->connections);
	free(load->pollers);
}

__attribute__((format(printf, 1, 2), noreturn)) static void usage(const char *format, ...)
{
	va_list args;

	fputs("storm_load: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("\nUsage: storm_load --server ADDRESS [--connections N] [--depth D] [--seed S] [--timeout SECONDS]\n"
	      "  [--pause MS] DIR...\n", stderr);
	exit(2);
}

static uint64_t number(const char *name, const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < least || value > most)
		usage("--%s %s: not a number from %" PRIu64 " to %" PRIu64, name, text, least, most);
	return value;
}

static void read_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "server", required_argument, NULL, 'S' },  { "connections", required_argument, NULL, 'c' },
		{ "depth", required_argument, NULL, 'd' },   { "seed", required_argument, NULL, 'e' },
		{ "timeout", required_argument, NULL, 't' }, { "pause", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	int option, index = 0;

	*options = (struct options){ .connections = 16, .depth = 4, .seed = 1, .timeout_s = 60 };
	while ((option = getopt_long(argc, argv, "", known, &index)) != -1) {
		const char *name = known[index].name;

		switch (option) {
		case 'S': options->server = optarg; break;
		case 'c': options->connections = (unsigned int)number(name, optarg, 1, 1000); break;
		case 'd': options->depth = (unsigned int)number(name, optarg, 1, 64); break;
		case 'e': options->seed = number(name, optarg, 0, UINT64_MAX); break;
		case 't': options->timeout_s = (unsigned int)number(name, optarg, 1, 100000); break;
		case 'p': options->pause_ms = (unsigned int)number(name, optarg, 0, 100000); break;
		default: usage("wrong option");
		}
	}
	options->dirs = argv + optind;
	options->dir_count = (unsigned int)(argc - optind);
	if (!options->server)
		usage("--server missing");
	if (options->dir_count == 0)
		usage("DIR missing");
}

static void on_stop(int number)
{
	(void)number;
	must_stop = 1;
}

int main(int argc, char **argv)
{
	struct load load = { .errors = 0 };

	read_options(argc, argv, &load.options);
	load.random = load.options.seed;
	load.start_us = now_us();
	signal(SIGINT, on_stop);
	signal(SIGTERM, on_stop);
	signal(SIGPIPE, SIG_IGN);
	prepare(&load);
	while (!is_done(&load))
		turn(&load);
	finish(&load);
	report(&load);
	return 0;
}
