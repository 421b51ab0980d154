/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, what was answered as done is undone after a power failure.
 *
 * A file system on a loop device, changed through the local backend. The power fails: what the disk has at that moment is
 * copied, the copy is mounted, and must show each change that the backend has returned from. That a change which
 * nobody made durable is missing from the copy shows that the test would notice.
 */
#include "config.h"

#include "slave/local.h"
#include "tests/platform/netns.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TIME = 1234567890, NANOSECONDS = 987654321, OWNER = 4711, COMMAND_MAX = 512 };

/* Nothing becomes durable by itself within the time of the test. */
static const struct {
	const char *type, *make, *options, *copy_options;
} file_systems[] = {
	{ "ext4", "mkfs.ext4 -q -F", "loop,commit=600", "loop" },
	{ "xfs", "mkfs.xfs -q -f", "loop", "loop,nouuid" },
	{ "btrfs", "mkfs.btrfs -q -f", "loop,commit=600", "loop" },
};

static char directory[] = "/tmp/vnas-metadata-order-XXXXXX"; /* where the test works: `image` is mounted at `disk` */
static struct volume *volume;

/* Return: whether it was done */
__attribute__((format(printf, 1, 2))) static bool shell(const char *format, ...)
{
	char command[COMMAND_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	return system(command) == 0;
}

static void clean_up(void)
{
	shell("umount -q disk; umount -q copy; rm -r %s", directory);
}

/* Objects that can be set but not opened for fsync(2). */
static const char *const unopenable[] = { "link", "fifo", "socket", "device" };

enum { UNOPENABLE = sizeof(unopenable) / sizeof(unopenable[0]) };

static const struct credentials root_user;

static void make_unopenable(struct handle made[static UNOPENABLE])
{
	static const mode_t types[UNOPENABLE] = { 0, S_IFIFO, S_IFSOCK, S_IFCHR };
	const struct backend_set none = { 0 };
	struct backend_change change;
	struct backend_found found;

	for (int i = 0; i < UNOPENABLE; i++) {
		CHECK_OK(types[i] ? volume->backend->mknod(volume, &root_user, &volume->root, unopenable[i], types[i], 1,
							   3, &none, &found, &change) :
				    volume->backend->symlink(volume, &root_user, &volume->root, unopenable[i], "x",
							     &none, &found, &change));
		made[i] = found.handle;
	}
}

static void set_unopenable(const struct handle objects[static UNOPENABLE])
{
	struct backend_set set = {
		.set_uid = true,
		.uid = OWNER,
		.set_mtime = BACKEND_TIME_CLIENT,
		.mtime = { .tv_sec = TIME, .tv_nsec = NANOSECONDS },
	};
	struct backend_change change;

	for (int i = 0; i < UNOPENABLE; i++)
		CHECK_OK(volume->backend->setattr(volume, &root_user, &objects[i], &set, NULL, &change));
}

static void lose_power(const char *copy_options)
{
	CHECK(shell("cp --sparse=always image image-copy"));
	local_close(volume);
	CHECK(shell("umount disk")); /* two of the same UUID can't be mounted at once */
	CHECK(shell("mount -o %s image-copy copy", copy_options));
}

static bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static bool is_set(const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "copy/%s", name);
	return lstat(path, &st) == 0 && st.st_uid == OWNER && st.st_mtim.tv_sec == TIME &&
	       st.st_mtim.tv_nsec == NANOSECONDS;
}

/* Return: whether this kind can be tested here */
static bool test_file_system(const char *type, const char *make, const char *options, const char *copy_options)
{
	struct handle objects[UNOPENABLE];

	if (!shell("truncate -s 400M image && %s image >make.log 2>&1 && mount -o %s image disk 2>mount.log", make,
		   options)) {
		printf("%s: left out: it can't be made, or not be mounted from a file here\n", type);
		return false;
	}
	CHECK_OK(local_open("disk", 1, 1, &volume));
	make_unopenable(objects);
	set_unopenable(objects);
	CHECK(symlink("x", "disk/forgotten") == 0);
	lose_power(copy_options);
	for (int i = 0; i < UNOPENABLE; i++)
		if (!is_set(unopenable[i]))
			fail("%s: what SETATTR did to a %s is lost", type, unopenable[i]);
	CHECK(!is_there("copy/forgotten"));
	CHECK(shell("umount copy && rm image image-copy"));
	printf("ok: %s\n", type);
	return true;
}

int main(void)
{
	int tested = 0;

	if (geteuid() || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		skip("no mounts allowed here: %s", strerror(errno));
	CHECK(mkdtemp(directory) && chdir(directory) == 0 && mkdir("disk", 0700) == 0 && mkdir("copy", 0700) == 0);
	atexit(clean_up);
	for (size_t i = 0; i < sizeof(file_systems) / sizeof(file_systems[0]); i++)
		tested += test_file_system(file_systems[i].type, file_systems[i].make, file_systems[i].options,
					   file_systems[i].copy_options);
	if (!tested)
		skip("no file system can be mounted from a file here");
	return 0;
}
