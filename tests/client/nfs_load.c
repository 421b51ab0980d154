/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/client/nfs_load.c - an NFSv3 client on one TCP connection that knows what every answer must be
 *
 * Usage: nfs_load --server ADDRESS [OPTION...] DIR...
 *
 *   --seconds N     run so long; 0: until SIGINT or SIGTERM; default: 10
 *   --rounds N      ... or so many jobs (a read, a write, a commit, a chain of metadata operations)
 *   --mode MODE     mixed (default), read, write or metadata
 *   --depth D       jobs outstanding; default: 8
 *   --block BYTES   of a read or write; default: 65536
 *   --files N       in each DIR; default: 4
 *   --size BYTES    of a file, rounded up to blocks; default: 4 MiB
 *   --phase MS      nine of ten jobs are in one DIR for so long, then in the next; 0: anywhere; default: 300
 *   --seed S        of contents and choices; default: 1
 *   --timeout N     seconds without any answer that are a failure; default: 60
 *
 * DIRs are paths in the server's tree (/disk0); everything happens in a new directory in each, which is removed at
 * the end. All files are written, then jobs run at random, then all files are read again. What a block of a file
 * contains follows from seed, file, block and the number of times it was written, so that a byte which is lost, late,
 * doubled or misplaced is seen. A lost connection is a failure: there is no second one.
 *
 * Prints "port N" (its TCP port) once connected, "ready" once the files are written, and at the end one line of JSON.
 * Stops at the first wrong byte, wrong status or missing answer with a sentence about it. SIGINT and SIGTERM end the
 * run, not the check. Exit status: 0; 1 something was wrong; 2 wrong usage.
 *
 * One thread; a slot is a job that is outstanding, and its callbacks get the slot.
 */
#include "content.h"

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw-nfs.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 512, SMALL_BYTES = 100 };

enum mode { MODE_MIXED, MODE_READ, MODE_WRITE, MODE_METADATA };

struct options {
	const char *server;
	unsigned int seconds;
	uint64_t rounds; /* 0: by time */
	enum mode mode;
	unsigned int depth;
	uint32_t block_bytes;
	unsigned int files;
	uint64_t size_bytes;
	unsigned int phase_ms;
	uint64_t seed;
	unsigned int timeout_s;
	char **dirs;
	unsigned int dir_count;
};

struct block {
	uint32_t version; /* times it was written */
	bool is_busy;	  /* somebody reads or writes it, so nobody else may */
};

struct file {
	char path[PATH_BYTES];
	struct nfsfh *handle;
	struct block *blocks;
};

struct load;

struct slot {
	struct load *load;
	unsigned int number;
	unsigned char *buffer; /* block_bytes of it */

	/* A read or write: */
	struct file *file;
	struct block *block;
	uint32_t version; /* that the block has, or gets */

	/* A chain of metadata operations: */
	unsigned int step;
	char dir[PATH_BYTES];	/* D in the table */
	struct nfsfh *handle;	/* of the small file, while open */
};

/* What a slot does next is asked when it is done with one job. */
enum stage { STAGE_FILL, STAGE_RUN, STAGE_CHECK };

struct load {
	struct options options;
	struct nfs_context *nfs;
	unsigned int port;
	struct file *files; /* those of the first DIR first */
	unsigned int file_count;
	unsigned int blocks_per_file;
	struct slot *slots;
	char **work_dirs; /* in each DIR */

	enum stage stage;
	uint64_t cursor;       /* of STAGE_FILL and STAGE_CHECK: blocks that were begun */
	uint64_t stage_start_us;
	unsigned int busy_slots;
	uint64_t random;

	uint64_t start_us;
	uint64_t last_answer_us;
	uint64_t jobs;
	uint64_t chains;
	/* For the JSON: */
	uint64_t operations;
	uint64_t read_bytes;
	uint64_t written_bytes;
	uint64_t max_gap_us;
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
	printf("{\"operations\": %" PRIu64 ", \"read_bytes\": %" PRIu64 ", \"written_bytes\": %" PRIu64
	       ", \"errors\": %u, \"max_gap_us\": %" PRIu64 ", \"local_port\": %u, \"connections\": 1"
	       ", \"chains\": %" PRIu64 ", \"seconds\": %.3f}\n",
	       load->operations, load->read_bytes, load->written_bytes, load->errors, load->max_gap_us, load->port,
	       load->chains, (double)(now_us() - load->start_us) / 1e6);
	fflush(stdout);
}

/* The first thing that is wrong is the last thing that happens: what follows would only hide it. */
__attribute__((format(printf, 2, 3), noreturn)) static void wrong(struct load *load, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "nfs_load: port %u, after %.3f s: ", load->port, (double)(now_us() - load->start_us) / 1e6);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	load->errors++;
	report(load);
	exit(1);
}

/* What libnfs or the server said; @status negative. */
static const char *said(struct load *load, int status)
{
	const char *text = nfs_get_error(load->nfs);

	return text && *text ? text : strerror(-status);
}

/* ---- Contents ---- */

static uint64_t random_below(struct load *load, uint64_t limit)
{
	load->random += UINT64_C(0x9e3779b97f4a7c15);
	return content_mix(load->random) % limit;
}

static uint64_t load_key(const struct load *load, uint64_t file, uint64_t block, uint32_t version)
{
	return content_key(load->options.seed, file, block, version);
}

/*
 * Where do these eight bytes, found at @word of a block, come from? Tries older versions of that block, then the other
 * blocks as they are, then zeros. @out: a half-sentence.
 */
static void content_identify(const struct load *load, const struct slot *slot, const unsigned char *bytes, size_t word,
			     char *out, size_t out_bytes)
{
	uint64_t file = (uint64_t)(slot->file - load->files);
	uint64_t block = (uint64_t)(slot->block - slot->file->blocks);
	uint64_t found;

	memcpy(&found, bytes, sizeof(found));
	if (found == 0) {
		snprintf(out, out_bytes, "zeros");
		return;
	}
	for (uint32_t version = slot->version + 1; version > 0; version--)
		if (content_word(load_key(load, file, block, version), word) == found) {
			snprintf(out, out_bytes, "as version %" PRIu32 " has here", version);
			return;
		}
	for (unsigned int f = 0; f < load->file_count; f++)
		for (unsigned int b = 0; b < load->blocks_per_file; b++) {
			uint64_t key = load_key(load, f, b, load->files[f].blocks[b].version);

			for (size_t i = 0; i < load->options.block_bytes / CONTENT_WORD_BYTES; i++)
				if (content_word(key, i) == found) {
					snprintf(out, out_bytes, "as %s has at offset %" PRIu64, load->files[f].path,
						 (uint64_t)b * load->options.block_bytes + i * CONTENT_WORD_BYTES);
					return;
				}
		}
	snprintf(out, out_bytes, "as nothing that was ever written");
}

/* ---- Reads, writes, commits ---- */

static void next_job(struct slot *slot);

/* An answer came: every callback begins with this. */
static void answered(struct slot *slot)
{
	struct load *load = slot->load;
	uint64_t now = now_us(), gap = now - load->last_answer_us;

	if (gap > load->max_gap_us)
		load->max_gap_us = gap;
	load->last_answer_us = now;
	load->operations++;
}

static uint64_t offset_of(const struct slot *slot)
{
	return (uint64_t)(slot->block - slot->file->blocks) * slot->load->options.block_bytes;
}

static uint64_t key_of(const struct slot *slot)
{
	return load_key(slot->load, (uint64_t)(slot->file - slot->load->files),
			   (uint64_t)(slot->block - slot->file->blocks), slot->version);
}

static void check_block(struct slot *slot, const unsigned char *data)
{
	struct load *load = slot->load;
	uint32_t len = load->options.block_bytes;
	size_t at = content_check(key_of(slot), data, len), word = at / CONTENT_WORD_BYTES;
	unsigned char should[CONTENT_WORD_BYTES * 2];
	uint64_t expected;
	char origin[PATH_BYTES + 64] = "too near to the end to tell";

	if (at == len)
		return;
	expected = content_word(key_of(slot), word);
	memcpy(should, &expected, CONTENT_WORD_BYTES);
	if ((word + 1) * CONTENT_WORD_BYTES <= len)
		content_identify(load, slot, data + word * CONTENT_WORD_BYTES, word, origin, sizeof(origin));
	wrong(load, "%s: offset %" PRIu64 " (byte %zu of a read at %" PRIu64 ", version %" PRIu32
	      "): 0x%02x instead of 0x%02x; these bytes are %s",
	      slot->file->path, offset_of(slot) + at, at, offset_of(slot), slot->version, data[at],
	      should[at % CONTENT_WORD_BYTES], origin);
}

static void on_read(int status, struct nfs_context *nfs, void *data, void *private_data)
{
	struct slot *slot = private_data;
	struct load *load = slot->load;

	(void)nfs;
	answered(slot);
	if (status != (int)load->options.block_bytes)
		wrong(load, "%s: read of %" PRIu32 " bytes at %" PRIu64 ": %d: %s", slot->file->path,
		      load->options.block_bytes, offset_of(slot), status, status < 0 ? said(load, status) : "short");
	check_block(slot, data);
	load->read_bytes += (uint64_t)status;
	slot->block->is_busy = false;
	next_job(slot);
}

static void on_written(int status, struct nfs_context *nfs, void *data, void *private_data)
{
	struct slot *slot = private_data;
	struct load *load = slot->load;

	(void)nfs;
	(void)data;
	answered(slot);
	if (status != (int)load->options.block_bytes)
		wrong(load, "%s: write of %" PRIu32 " bytes at %" PRIu64 ": %d: %s", slot->file->path,
		      load->options.block_bytes, offset_of(slot), status, status < 0 ? said(load, status) : "short");
	load->written_bytes += (uint64_t)status;
	slot->block->version = slot->version;
	slot->block->is_busy = false;
	next_job(slot);
}

static void on_committed(int status, struct nfs_context *nfs, void *data, void *private_data)
{
	struct slot *slot = private_data;

	(void)nfs;
	(void)data;
	answered(slot);
	if (status)
		wrong(slot->load, "%s: commit: %s", slot->file->path, said(slot->load, status));
	next_job(slot);
}

static void must_be_queued(struct slot *slot, int result, const char *what, const char *path)
{
	if (result)
		wrong(slot->load, "%s: cannot send %s: %s", path, what, said(slot->load, -EIO));
}

static void start_read(struct slot *slot, struct file *file, struct block *block)
{
	slot->file = file;
	slot->block = block;
	slot->version = block->version;
	block->is_busy = true;
	must_be_queued(slot, nfs_pread_async(slot->load->nfs, file->handle, offset_of(slot),
					     slot->load->options.block_bytes, on_read, slot), "a read", file->path);
}

static void start_write(struct slot *slot, struct file *file, struct block *block)
{
	slot->file = file;
	slot->block = block;
	slot->version = block->version + 1;
	block->is_busy = true;
	content_fill(key_of(slot), slot->buffer, slot->load->options.block_bytes);
	must_be_queued(slot, nfs_pwrite_async(slot->load->nfs, file->handle, offset_of(slot),
					      slot->load->options.block_bytes, slot->buffer, on_written, slot),
		       "a write", file->path);
}

static void start_commit(struct slot *slot, struct file *file)
{
	slot->file = file;
	must_be_queued(slot, nfs_fsync_async(slot->load->nfs, file->handle, on_committed, slot), "a commit",
		       file->path);
}

/* ---- Chains of metadata operations: each in a directory D of its own, which is gone at the end ---- */

struct chain_step {
	const char *what;
	int (*start)(struct slot *slot, const struct chain_step *step);
	const char *from, *to; /* names in D; "" is D itself */
	int expected;	       /* status; a negative errno value */
	void (*check)(struct slot *slot, const struct chain_step *step, void *data);
};

static void on_chain(int status, struct nfs_context *nfs, void *data, void *private_data);

/* Valid until the next call with the same @buffer. */
static const char *path_in(const struct slot *slot, const char *name, char buffer[static 2 * PATH_BYTES])
{
	snprintf(buffer, 2 * PATH_BYTES, *name ? "%s/%s" : "%s%s", slot->dir, name);
	return buffer;
}

static int chain_mkdir(struct slot *slot, const struct chain_step *step)
{
	char path[2 * PATH_BYTES];

	return nfs_mkdir_async(slot->load->nfs, path_in(slot, step->from, path), on_chain, slot);
}

static int chain_create(struct slot *slot, const struct chain_step *step)
{
	char path[2 * PATH_BYTES];

	return nfs_create_async(slot->load->nfs, path_in(slot, step->from, path), O_CREAT | O_EXCL | O_RDWR, 0640,
				on_chain, slot);
}

static int chain_open(struct slot *slot, const struct chain_step *step)
{
	char path[2 * PATH_BYTES];

	return nfs_open_async(slot->load->nfs, path_in(slot, step->from, path), O_RDONLY, on_chain, slot);
}

static uint64_t small_key(const struct slot *slot)
{
	return content_mix(slot->load->options.seed + slot->number);
}

static int chain_write(struct slot *slot, const struct chain_step *step)
{
	(void)step;
	content_fill(small_key(slot), slot->buffer, SMALL_BYTES);
	return nfs_pwrite_async(slot->load->nfs, slot->handle, 0, SMALL_BYTES, slot->buffer, on_chain, slot);
}

static int chain_read(struct slot *slot, const struct chain_step *step)
{
	(void)step;
	return nfs_pread_async(slot->load->nfs, slot->handle, 0, SMALL_BYTES + 1, on_chain, slot);
}

static int chain_close(struct slot *slot, const struct chain_step *step)
{
	struct nfsfh *handle = slot->handle;

	(void)step;
	slot->handle = NULL;
	return nfs_close_async(slot->load->nfs, handle, on_chain, slot);
}

static int chain_rename(struct slot *slot, const struct chain_step *step)
{
	char from[2 * PATH_BYTES], to[2 * PATH_BYTES];

	return nfs_rename_async(slot->load->nfs, path_in(slot, step->from, from), path_in(slot, step->to, to), on_chain,
				slot);
}

static int chain_link(struct slot *slot, const struct chain_step *step)
{
	char from[2 * PATH_BYTES], to[2 * PATH_BYTES];

	return nfs_link_async(slot->load->nfs, path_in(slot, step->from, from), path_in(slot, step->to, to), on_chain,
			      slot);
}

static int chain_symlink(struct slot *slot, const struct chain_step *step)
{
	char to[2 * PATH_BYTES];

	return nfs_symlink_async(slot->load->nfs, step->from, path_in(slot, step->to, to), on_chain, slot);
}

static int chain_readlink(struct slot *slot, const struct chain_step *step)
{
	char path[2 * PATH_BYTES];

	return nfs_readlink_async(slot->load->nfs, path_in(slot, step->from, path), on_chain, slot);
}

static int chain_stat(struct slot *slot, const struct chain_step *step)
{
	char path[2 * PATH_BYTES];

	return nfs_lstat64_async(slot->load->nfs, path_in(slot, step->from, path), on_chain, slot);
}

static int chain_readdir(struct slot *slot, const struct chain_step *step)
{
	char path[2 * PATH_BYTES];

	return nfs_opendir_async(slot->load->nfs, path_in(slot, step->from, path), on_chain, slot);
}

static int chain_unlink(struct slot *slot, const struct chain_step *step)
{
	char path[2 * PATH_BYTES];

	return nfs_unlink_async(slot->load->nfs, path_in(slot, step->from, path), on_chain, slot);
}

static int chain_rmdir(struct slot *slot, const struct chain_step *step)
{
	char path[2 * PATH_BYTES];

	return nfs_rmdir_async(slot->load->nfs, path_in(slot, step->from, path), on_chain, slot);
}

static void keep_handle(struct slot *slot, const struct chain_step *step, void *data)
{
	(void)step;
	slot->handle = data;
}

static void check_small(struct slot *slot, const struct chain_step *step, void *data)
{
	size_t at = content_check(small_key(slot), data, SMALL_BYTES);

	if (at != SMALL_BYTES)
		wrong(slot->load, "%s: %s: byte %zu is wrong: 0x%02x", slot->dir, step->what, at,
		      ((unsigned char *)data)[at]);
}

static void check_stat(const struct slot *slot, const struct chain_step *step, const struct nfs_stat_64 *stat,
		       uint64_t links)
{
	if ((stat->nfs_mode & S_IFMT) != S_IFREG || (stat->nfs_mode & 07777) != 0640 || stat->nfs_size != SMALL_BYTES ||
	    stat->nfs_nlink != links)
		wrong(slot->load,
		      "%s: %s: mode %" PRIo64 ", %" PRIu64 " bytes, %" PRIu64 " links instead of %o, %d, %" PRIu64,
		      slot->dir, step->what, stat->nfs_mode, stat->nfs_size, stat->nfs_nlink, S_IFREG | 0640,
		      SMALL_BYTES, links);
}

static void check_one_link(struct slot *slot, const struct chain_step *step, void *data)
{
	check_stat(slot, step, data, 1);
}

static void check_two_links(struct slot *slot, const struct chain_step *step, void *data)
{
	check_stat(slot, step, data, 2);
}

static void check_readlink(struct slot *slot, const struct chain_step *step, void *data)
{
	if (strcmp(data, step->to) != 0)
		wrong(slot->load, "%s: %s: \"%s\" instead of \"%s\"", slot->dir, step->what, (char *)data, step->to);
}

/* step->to: the names that must be there, one letter each. */
static void check_readdir(struct slot *slot, const struct chain_step *step, void *data)
{
	struct nfsdirent *entry;
	size_t count = 0;

	while ((entry = nfs_readdir(slot->load->nfs, data))) {
		if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
			continue;
		if (strlen(entry->name) != 1 || !strchr(step->to, entry->name[0]))
			wrong(slot->load, "%s: %s: unexpected entry \"%s\"", slot->dir, step->what, entry->name);
		count++;
	}
	if (count != strlen(step->to))
		wrong(slot->load, "%s: %s: %zu entries instead of %zu", slot->dir, step->what, count, strlen(step->to));
	nfs_closedir(slot->load->nfs, data);
}

static const struct chain_step chain[] = {
	{ "mkdir D", chain_mkdir, "", NULL, 0, NULL },
	{ "mkdir D, which exists", chain_mkdir, "", NULL, -EEXIST, NULL },
	{ "create D/a", chain_create, "a", NULL, 0, keep_handle },
	{ "write D/a", chain_write, NULL, NULL, SMALL_BYTES, NULL },
	{ "close D/a", chain_close, NULL, NULL, 0, NULL },
	{ "rename D/a to D/b", chain_rename, "a", "b", 0, NULL },
	{ "stat D/a, which was renamed", chain_stat, "a", NULL, -ENOENT, NULL },
	{ "stat D/b", chain_stat, "b", NULL, 0, check_one_link },
	{ "link D/b to D/c", chain_link, "b", "c", 0, NULL },
	{ "stat D/b, which has a link", chain_stat, "b", NULL, 0, check_two_links },
	{ "symlink D/s", chain_symlink, "no/such/place", "s", 0, NULL },
	{ "readlink D/s", chain_readlink, "s", "no/such/place", 0, check_readlink },
	{ "readdir D", chain_readdir, "", "bcs", 0, check_readdir },
	{ "open D/c", chain_open, "c", NULL, 0, keep_handle },
	{ "read D/c", chain_read, NULL, NULL, SMALL_BYTES, check_small },
	{ "close D/c", chain_close, NULL, NULL, 0, NULL },
	{ "rmdir D, which is not empty", chain_rmdir, "", NULL, -ENOTEMPTY, NULL },
	{ "rename D/b over D/s", chain_rename, "b", "s", 0, NULL },
	{ "unlink D/b, which was renamed", chain_unlink, "b", NULL, -ENOENT, NULL },
	{ "unlink D/c", chain_unlink, "c", NULL, 0, NULL },
	{ "readdir D, with one left", chain_readdir, "", "s", 0, check_readdir },
	{ "unlink D/s", chain_unlink, "s", NULL, 0, NULL },
	{ "readdir D, empty", chain_readdir, "", "", 0, check_readdir },
	{ "rmdir D", chain_rmdir, "", NULL, 0, NULL },
	{ "stat D, which was removed", chain_stat, "", NULL, -ENOENT, NULL },
};

static void chain_go(struct slot *slot)
{
	const struct chain_step *step = &chain[slot->step];

	must_be_queued(slot, step->start(slot, step), step->what, slot->dir);
}

static void on_chain(int status, struct nfs_context *nfs, void *data, void *private_data)
{
	struct slot *slot = private_data;
	const struct chain_step *step = &chain[slot->step];

	(void)nfs;
	answered(slot);
	if (status != step->expected)
		wrong(slot->load, "%s: %s: %s instead of %s", slot->dir, step->what,
		      status < 0 ? said(slot->load, status) : "success",
		      step->expected < 0 ? strerror(-step->expected) : "success");
	if (step->check)
		step->check(slot, step, data);
	if (++slot->step == sizeof(chain) / sizeof(chain[0])) {
		slot->load->chains++;
		next_job(slot);
	} else {
		chain_go(slot);
	}
}

static void start_chain(struct slot *slot, unsigned int dir)
{
	struct load *load = slot->load;

	slot->step = 0;
	snprintf(slot->dir, sizeof(slot->dir), "%s/d%u", load->work_dirs[dir], slot->number);
	chain_go(slot);
}

/* ---- Which job next ---- */

static bool is_over(const struct load *load)
{
	if (must_stop)
		return true;
	if (load->options.rounds)
		return load->jobs >= load->options.rounds;
	return load->options.seconds && now_us() - load->stage_start_us >= (uint64_t)load->options.seconds * 1000000;
}

static unsigned int choose_dir(struct load *load)
{
	const struct options *options = &load->options;

	if (options->phase_ms == 0 || random_below(load, 10) == 0)
		return (unsigned int)random_below(load, options->dir_count);
	return (unsigned int)((now_us() - load->stage_start_us) / 1000 / options->phase_ms % options->dir_count);
}

/* There is one: fewer slots than blocks (read_options()). */
static struct block *choose_block(struct load *load, unsigned int dir, struct file **file)
{
	uint64_t count = (uint64_t)load->options.files * load->blocks_per_file, start = random_below(load, count);

	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = (start + i) % count;

		*file = &load->files[dir * load->options.files + at / load->blocks_per_file];
		if (!(*file)->blocks[at % load->blocks_per_file].is_busy)
			return &(*file)->blocks[at % load->blocks_per_file];
	}
	wrong(load, "no block is free in %s: a mistake in nfs_load", load->options.dirs[dir]);
}

static void start_random(struct slot *slot)
{
	struct load *load = slot->load;
	unsigned int dir = choose_dir(load);
	uint64_t dice = random_below(load, 100);
	struct file *file;
	struct block *block;

	load->jobs++;
	if (load->options.mode == MODE_METADATA || (load->options.mode == MODE_MIXED && dice >= 90)) {
		start_chain(slot, dir);
		return;
	}
	block = choose_block(load, dir, &file);
	if (load->options.mode != MODE_READ && dice < 3)
		start_commit(slot, file);
	else if (load->options.mode == MODE_WRITE || (load->options.mode == MODE_MIXED && dice < 40))
		start_write(slot, file, block);
	else
		start_read(slot, file, block);
}

static void next_job(struct slot *slot)
{
	struct load *load = slot->load;
	struct file *file = &load->files[load->cursor / load->blocks_per_file];
	struct block *block = &file->blocks[load->cursor % load->blocks_per_file];
	bool is_at_end = load->cursor == (uint64_t)load->file_count * load->blocks_per_file;

	if (load->stage == STAGE_RUN && !is_over(load)) {
		start_random(slot);
	} else if (load->stage == STAGE_RUN || is_at_end) {
		load->busy_slots--;
	} else {
		load->cursor++;
		if (load->stage == STAGE_FILL)
			start_write(slot, file, block);
		else
			start_read(slot, file, block);
	}
}

/* ---- The connection ---- */

static unsigned int local_port(struct load *load)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);

	if (getsockname(nfs_get_fd(load->nfs), (struct sockaddr *)&address, &len))
		return 0;
	/* The port is at the same place in both. */
	return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static void wait_for_answers(struct load *load)
{
	struct pollfd poller = { .fd = nfs_get_fd(load->nfs), .events = (short)nfs_which_events(load->nfs) };
	uint64_t silent_us;

	if (poll(&poller, 1, 1000) < 0 && errno != EINTR)
		wrong(load, "poll: %s", strerror(errno));
	if (nfs_service(load->nfs, poller.revents))
		wrong(load, "the connection is lost: %s", said(load, -EIO));
	silent_us = now_us() - load->last_answer_us;
	if (load->busy_slots && silent_us > (uint64_t)load->options.timeout_s * 1000000)
		wrong(load, "no answer for %u s; %u jobs outstanding, %d in the send queue", load->options.timeout_s,
		      load->busy_slots, nfs_queue_length(load->nfs));
}

static void run_stage(struct load *load, enum stage stage)
{
	load->stage = stage;
	load->cursor = 0;
	load->stage_start_us = load->last_answer_us = now_us();
	load->busy_slots = load->options.depth;
	for (unsigned int i = 0; i < load->options.depth; i++)
		next_job(&load->slots[i]);
	while (load->busy_slots)
		wait_for_answers(load);
	if (local_port(load) != load->port)
		wrong(load, "connected again, from port %u", local_port(load));
}

/* Before and after the stages there is one operation at a time, for which libnfs waits by itself, without limit. */
static void on_alarm(int number)
{
	static const char text[] = "nfs_load: no answer while preparing or cleaning up\n";

	(void)number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(3);
	_exit(1);
}

/* libnfs makes sockets that answer the last close() with a RST (SO_LINGER 0); real clients end with a FIN. */
static void close_politely(struct load *load)
{
	struct linger linger = { .l_onoff = 0 };

	if (setsockopt(nfs_get_fd(load->nfs), SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)))
		wrong(load, "SO_LINGER: %s", strerror(errno));
}

static void connect_to_server(struct load *load)
{
	int status;

	load->nfs = nfs_init_context();
	if (!load->nfs)
		wrong(load, "no memory");
	nfs_set_version(load->nfs, NFS_V3);
	nfs_set_uid(load->nfs, 0);
	nfs_set_gid(load->nfs, 0);
	nfs_set_autoreconnect(load->nfs, 0);
	nfs_set_dircache(load->nfs, 0);
	status = nfs_mount(load->nfs, load->options.server, "/");
	if (status)
		wrong(load, "%s: cannot mount /: %s", load->options.server, said(load, status));
	close_politely(load);
	load->port = local_port(load);
	printf("port %u\n", load->port);
	fflush(stdout);
}

static void make_file(struct load *load, struct file *file, unsigned int dir, unsigned int number)
{
	int status;

	file->blocks = calloc(load->blocks_per_file, sizeof(*file->blocks));
	if (!file->blocks)
		wrong(load, "no memory");
	snprintf(file->path, sizeof(file->path), "%s/file%u", load->work_dirs[dir], number);
	status = nfs_create(load->nfs, file->path, O_CREAT | O_EXCL | O_RDWR, 0640, &file->handle);
	if (status)
		wrong(load, "%s: create: %s", file->path, said(load, status));
}

static void prepare(struct load *load)
{
	const struct options *options = &load->options;
	int status;

	load->slots = calloc(options->depth, sizeof(*load->slots));
	load->files = calloc(load->file_count + 1, sizeof(*load->files)); /* one more: next_job() looks ahead */
	load->work_dirs = calloc(options->dir_count, sizeof(*load->work_dirs));
	if (!load->slots || !load->files || !load->work_dirs)
		wrong(load, "no memory");
	for (unsigned int i = 0; i < options->depth; i++) {
		load->slots[i] = (struct slot){ .load = load, .number = i };
		load->slots[i].buffer = malloc(options->block_bytes > SMALL_BYTES ? options->block_bytes : SMALL_BYTES);
		if (!load->slots[i].buffer)
			wrong(load, "no memory");
	}
	for (unsigned int dir = 0; dir < options->dir_count; dir++) {
		if (asprintf(&load->work_dirs[dir], "%s/load-%d-%u", options->dirs[dir], (int)getpid(), load->port) < 0)
			wrong(load, "no memory");
		status = nfs_mkdir(load->nfs, load->work_dirs[dir]);
		if (status)
			wrong(load, "%s: mkdir: %s", load->work_dirs[dir], said(load, status));
		for (unsigned int i = 0; i < options->files; i++)
			make_file(load, &load->files[dir * options->files + i], dir, i);
	}
}

static void clean_up(struct load *load)
{
	int status;

	for (unsigned int i = 0; i < load->file_count; i++) {
		nfs_close(load->nfs, load->files[i].handle);
		status = nfs_unlink(load->nfs, load->files[i].path);
		if (status)
			wrong(load, "%s: unlink: %s", load->files[i].path, said(load, status));
		free(load->files[i].blocks);
	}
	for (unsigned int dir = 0; dir < load->options.dir_count; dir++) {
		status = nfs_rmdir(load->nfs, load->work_dirs[dir]);
		if (status)
			wrong(load, "%s: rmdir: %s", load->work_dirs[dir], said(load, status));
		free(load->work_dirs[dir]);
	}
	if (local_port(load) != load->port)
		wrong(load, "connected again, from port %u", local_port(load));
	for (unsigned int i = 0; i < load->options.depth; i++)
		free(load->slots[i].buffer);
	free(load->slots);
	free(load->files);
	free(load->work_dirs);
	nfs_destroy_context(load->nfs);
}

/* ---- The command line ---- */

__attribute__((format(printf, 1, 2), noreturn)) static void usage(const char *format, ...)
{
	va_list args;

	fputs("nfs_load: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("\nUsage: nfs_load --server ADDRESS [--seconds N | --rounds N] [--mode mixed|read|write|metadata]\n"
	      "  [--depth D] [--block BYTES] [--files N] [--size BYTES] [--phase MS] [--seed S] [--timeout SECONDS]\n"
	      "  DIR...\n",
	      stderr);
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

static enum mode mode_of(const char *text)
{
	static const char *const names[] = { [MODE_MIXED] = "mixed", [MODE_READ] = "read", [MODE_WRITE] = "write",
					     [MODE_METADATA] = "metadata" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(text, names[i]) == 0)
			return (enum mode)i;
	usage("--mode %s: not mixed, read, write or metadata", text);
}

static void read_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "server", required_argument, NULL, 'S' }, { "seconds", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' }, { "mode", required_argument, NULL, 'm' },
		{ "depth", required_argument, NULL, 'd' },  { "block", required_argument, NULL, 'b' },
		{ "files", required_argument, NULL, 'f' },  { "size", required_argument, NULL, 'z' },
		{ "phase", required_argument, NULL, 'p' },  { "seed", required_argument, NULL, 'e' },
		{ "timeout", required_argument, NULL, 't' }, { NULL, 0, NULL, 0 },
	};
	int option, index = 0;

	*options = (struct options){ .seconds = 10, .depth = 8, .block_bytes = 65536, .files = 4, .size_bytes = 4 << 20,
				     .phase_ms = 300, .seed = 1, .timeout_s = 60 };
	while ((option = getopt_long(argc, argv, "", known, &index)) != -1) {
		const char *name = known[index].name;

		switch (option) {
		case 'S': options->server = optarg; break;
		case 's': options->seconds = (unsigned int)number(name, optarg, 0, 1000000); break;
		case 'r': options->rounds = number(name, optarg, 1, UINT64_MAX); break;
		case 'm': options->mode = mode_of(optarg); break;
		case 'd': options->depth = (unsigned int)number(name, optarg, 1, 1024); break;
		case 'b': options->block_bytes = (uint32_t)number(name, optarg, 1, 1 << 20); break;
		case 'f': options->files = (unsigned int)number(name, optarg, 1, 10000); break;
		case 'z': options->size_bytes = number(name, optarg, 1, UINT64_C(1) << 40); break;
		case 'p': options->phase_ms = (unsigned int)number(name, optarg, 0, 1000000); break;
		case 'e': options->seed = number(name, optarg, 0, UINT64_MAX); break;
		case 't': options->timeout_s = (unsigned int)number(name, optarg, 1, 100000); break;
		default: usage("wrong option");
		}
	}
	options->dirs = argv + optind;
	options->dir_count = (unsigned int)(argc - optind);
	if (!options->server)
		usage("--server missing");
	if (options->dir_count == 0)
		usage("DIR missing");
	for (unsigned int i = 0; i < options->dir_count; i++)
		if (strlen(options->dirs[i]) > PATH_BYTES / 2)
			usage("%s: too long", options->dirs[i]);
	if (options->mode == MODE_METADATA)
		options->files = 0;
	else if (options->depth > options->files * ((options->size_bytes - 1) / options->block_bytes + 1))
		usage("--depth %u: more than there are blocks in a DIR", options->depth);
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
	load.blocks_per_file = (unsigned int)((load.options.size_bytes - 1) / load.options.block_bytes + 1);
	load.file_count = load.options.dir_count * load.options.files;
	signal(SIGINT, on_stop);
	signal(SIGTERM, on_stop);
	signal(SIGALRM, on_alarm);
	signal(SIGPIPE, SIG_IGN);
	load.start_us = now_us();

	alarm(load.options.timeout_s);
	connect_to_server(&load);
	prepare(&load);
	alarm(0);
	run_stage(&load, STAGE_FILL);
	puts("ready");
	fflush(stdout);
	run_stage(&load, STAGE_RUN);
	run_stage(&load, STAGE_CHECK);
	alarm(load.options.timeout_s);
	clean_up(&load);
	report(&load);
	return 0;
}
