/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/power/volatile_disk.c - a disk with a write cache, whose power can be cut as often as one likes
 *
 * Usage: volatile_disk DIRECTORY MIB
 *
 * Mounts at DIRECTORY a file system (FUSE) of one file, "disk", of MIB mebibytes: for a loop device. Two images of it are
 * kept in memory: what was written, and what a flush has since made durable. A disk that loses its power keeps all of
 * the second and any part of the rest, so:
 *
 *	snapshot SEED PATH	on standard input: writes to the sparse file PATH what such a disk may hold now. Of the
 *				blocks written since the last flush each is there or not, by a coin that SEED throws.
 *
 *	fail, work		each request fails from now on; or none does any more
 *
 * Each prints its word when it is done; snapshot "snapshot KEPT/UNFLUSHED" in blocks. The moment is one moment: no write and no flush is half in it, and nobody
 * is stopped. What a file system has not yet sent to the disk is not in it either, as it should be.
 *
 * Prints "ready" first. Ends with standard input or by a signal, and unmounts; the loop device should be gone by then.
 * Exit status: 0; 1 it failed; 2 wrong usage.
 */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	BLOCK_BYTES = 4096, /* what a disk writes whole or not at all */
	MIB_MAX = 4096,
	COMMAND_MAX = 4200,
	DISK_INODE = FUSE_ROOT_ID + 1,
};

static const char disk_name[] = "disk";

enum block_state { NEVER_WRITTEN, DURABLE, UNFLUSHED };

static struct {
	size_t bytes;
	uint8_t *written, *durable;
	uint8_t *states; /* enum block_state of each block */
	bool fails;
} disk;

static void *zeroes(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static bool disk_init(size_t bytes)
{
	disk.bytes = bytes;
	disk.written = zeroes(bytes);
	disk.durable = zeroes(bytes);
	disk.states = zeroes(bytes / BLOCK_BYTES);
	return disk.written && disk.durable && disk.states;
}

static void disk_put(size_t offset, const void *data, size_t len)
{
	memcpy(disk.written + offset, data, len);
	for (size_t block = offset / BLOCK_BYTES; block * BLOCK_BYTES < offset + len; block++)
		disk.states[block] = UNFLUSHED;
}

static void disk_flush(void)
{
	for (size_t block = 0; block < disk.bytes / BLOCK_BYTES; block++) {
		if (disk.states[block] != UNFLUSHED)
			continue;
		memcpy(disk.durable + block * BLOCK_BYTES, disk.written + block * BLOCK_BYTES, BLOCK_BYTES);
		disk.states[block] = DURABLE;
	}
}

/* Snapshots */

struct snapshot {
	int fd;
	uint64_t coin; /* the state of a xorshift generator, never 0 */
	size_t kept, unflushed;
};

static bool coin_says_yes(uint64_t *coin)
{
	*coin ^= *coin << 13;
	*coin ^= *coin >> 7;
	*coin ^= *coin << 17;
	return *coin >> 63;
}

static int snapshot_block(struct snapshot *snapshot, size_t block)
{
	const uint8_t *from = disk.durable;

	if (disk.states[block] == NEVER_WRITTEN)
		return 0;
	if (disk.states[block] == UNFLUSHED) {
		snapshot->unflushed++;
		if (coin_says_yes(&snapshot->coin)) {
			snapshot->kept++;
			from = disk.written;
		}
	}
	return pwrite(snapshot->fd, from + block * BLOCK_BYTES, BLOCK_BYTES, (off_t)(block * BLOCK_BYTES)) ==
	       BLOCK_BYTES ? 0 : -1;
}

static int snapshot_take(struct snapshot *snapshot)
{
	if (ftruncate(snapshot->fd, (off_t)disk.bytes))
		return -1;
	for (size_t block = 0; block < disk.bytes / BLOCK_BYTES; block++)
		if (snapshot_block(snapshot, block))
			return -1;
	return 0;
}

static void snapshot_command(uint64_t seed, const char *path)
{
	struct snapshot snapshot = { .coin = (seed ^ 0x9e3779b97f4a7c15) | 1 };

	snapshot.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (snapshot.fd < 0 || snapshot_take(&snapshot) || close(snapshot.fd)) {
		perror(path);
		exit(1);
	}
	printf("snapshot %zu/%zu\n", snapshot.kept, snapshot.unflushed);
}

/* The file system */

static bool attributes(fuse_ino_t inode, struct stat *st)
{
	*st = (struct stat){ .st_ino = inode, .st_nlink = 1 };
	if (inode == FUSE_ROOT_ID)
		st->st_mode = S_IFDIR | 0700;
	else if (inode == DISK_INODE)
		st->st_mode = S_IFREG | 0600;
	else
		return false;
	st->st_size = inode == DISK_INODE ? (off_t)disk.bytes : 0;
	return true;
}

static void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = DISK_INODE, .attr_timeout = 1, .entry_timeout = 1 };

	if (parent != FUSE_ROOT_ID || strcmp(name, disk_name) != 0) {
		fuse_reply_err(request, ENOENT);
		return;
	}
	attributes(DISK_INODE, &entry.attr);
	fuse_reply_entry(request, &entry);
}

static void on_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file __attribute__((unused)))
{
	struct stat st;

	if (attributes(inode, &st))
		fuse_reply_attr(request, &st, 1);
	else
		fuse_reply_err(request, ENOENT);
}

/* No page cache of this file: it would be a second write cache, above the one that matters. */
static void on_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
	if (inode != DISK_INODE) {
		fuse_reply_err(request, EISDIR);
		return;
	}
	file->direct_io = 1;
	fuse_reply_open(request, file);
}

static bool is_inside(size_t len, off_t offset)
{
	return offset >= 0 && (size_t)offset <= disk.bytes && len <= disk.bytes - (size_t)offset;
}

static void on_read(fuse_req_t request, fuse_ino_t inode __attribute__((unused)), size_t len, off_t offset,
		    struct fuse_file_info *file __attribute__((unused)))
{
	if (disk.fails)
		fuse_reply_err(request, EIO);
	else if (is_inside(len, offset))
		fuse_reply_buf(request, (const char *)disk.written + offset, len);
	else if (is_inside(0, offset))
		fuse_reply_buf(request, (const char *)disk.written + offset, disk.bytes - (size_t)offset);
	else
		fuse_reply_buf(request, NULL, 0);
}

static void on_write(fuse_req_t request, fuse_ino_t inode __attribute__((unused)), const char *data, size_t len,
		     off_t offset, struct fuse_file_info *file __attribute__((unused)))
{
	if (disk.fails || !is_inside(len, offset)) {
		fuse_reply_err(request, disk.fails ? EIO : ENOSPC);
		return;
	}
	disk_put((size_t)offset, data, len);
	fuse_reply_write(request, len);
}

static void on_fsync(fuse_req_t request, fuse_ino_t inode __attribute__((unused)),
		     int data_only __attribute__((unused)), struct fuse_file_info *file __attribute__((unused)))
{
	if (!disk.fails)
		disk_flush();
	fuse_reply_err(request, disk.fails ? EIO : 0);
}

static const struct fuse_lowlevel_ops operations = {
	.lookup = on_lookup,
	.getattr = on_getattr,
	.open = on_open,
	.read = on_read,
	.write = on_write,
	.fsync = on_fsync,
};

/* Commands and requests come to one thread, so that each sees the disk between two others. */

static bool serve_request(struct fuse_session *session, struct fuse_buf *buffer)
{
	int got = fuse_session_receive_buf(session, buffer);

	if (got == -EINTR || got == -EAGAIN)
		return true;
	if (got <= 0)
		return false;
	fuse_session_process_buf(session, buffer);
	return true;
}

static bool serve_command(void)
{
	char line[COMMAND_MAX], *end;
	uint64_t seed;

	if (!fgets(line, sizeof(line), stdin))
		return false;
	line[strcspn(line, "\n")] = '\0';
	if (strcmp(line, "fail") == 0 || strcmp(line, "work") == 0) {
		disk.fails = line[0] == 'f';
		puts(line);
		return true;
	}
	if (strncmp(line, "snapshot ", 9) != 0)
		return false;
	seed = strtoull(line + 9, &end, 10);
	if (*end != ' ')
		return false;
	snapshot_command(seed, end + 1);
	return true;
}

static void serve(struct fuse_session *session)
{
	struct pollfd polled[] = { { .fd = fuse_session_fd(session), .events = POLLIN },
				   { .fd = STDIN_FILENO, .events = POLLIN } };
	struct fuse_buf buffer = { .mem = NULL };
	bool goes_on = true;

	while (goes_on && !fuse_session_exited(session)) {
		if (poll(polled, 2, -1) < 0)
			continue; /* a signal: libfuse has made the session exited */
		if (polled[0].revents)
			goes_on = serve_request(session, &buffer);
		if (goes_on && polled[1].revents)
			goes_on = serve_command();
	}
	free(buffer.mem);
}

static int mount_and_serve(char *program, const char *directory)
{
	char *words[] = { program, "-ofsname=volatile_disk", NULL };
	struct fuse_args arguments = FUSE_ARGS_INIT(2, words);
	struct fuse_session *session = fuse_session_new(&arguments, &operations, sizeof(operations), NULL);
	int status = 1;

	if (!session)
		return 1;
	if (fuse_set_signal_handlers(session))
		goto out;
	if (fuse_session_mount(session, directory))
		goto out_signals;
	puts("ready");
	serve(session);
	fuse_session_unmount(session);
	status = 0;
out_signals:
	fuse_remove_signal_handlers(session);
out:
	fuse_session_destroy(session);
	return status;
}

int main(int argc, char **argv)
{
	long mib = argc == 3 ? strtol(argv[2], NULL, 10) : 0;

	if (mib < 1 || mib > MIB_MAX) {
		fputs("usage: volatile_disk DIRECTORY MIB\n", stderr);
		return 2;
	}
	setvbuf(stdin, NULL, _IONBF, 0); /* else a second command could hide from poll() */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!disk_init((size_t)mib << 20)) {
		perror("volatile_disk");
		return 1;
	}
	return mount_and_serve(argv[0], argv[1]);
}
