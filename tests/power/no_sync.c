/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/power/no_sync.c - a library to preload: making something durable does nothing and says it was done
 *
 * NO_SYNC says for what: "files", "directories", or "all". A test of durability that passes with this is no test.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static bool is_skipped(int fd)
{
	const char *what = getenv("NO_SYNC");
	struct stat st;

	if (!what || fstat(fd, &st))
		return false;
	return strcmp(what, "all") == 0 || (strcmp(what, "files") == 0 && S_ISREG(st.st_mode)) ||
	       (strcmp(what, "directories") == 0 && S_ISDIR(st.st_mode));
}

static int sync_by(const char *function, int fd)
{
	int (*real)(int);

	if (is_skipped(fd))
		return 0;
	*(void **)&real = dlsym(RTLD_NEXT, function);
	return real(fd);
}

int fsync(int fd)
{
	return sync_by("fsync", fd);
}

int fdatasync(int fd)
{
	return sync_by("fdatasync", fd);
}

int syncfs(int fd)
{
	return sync_by("syncfs", fd);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
	ssize_t (*real)(int, const struct iovec *, int, off_t, int);

	*(void **)&real = dlsym(RTLD_NEXT, "pwritev2");
	return real(fd, parts, count, offset, is_skipped(fd) ? flags & ~(RWF_SYNC | RWF_DSYNC) : flags);
}
