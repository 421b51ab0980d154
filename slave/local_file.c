/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local_internal.h"

#include "common/group_commit.h"
#include "common/page_pipe.h"
#include "common/patience.h"
#include "slave/local_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum {
	ATIME_DAY_S = 24 * 60 * 60, /* relatime: a time of access older than that is renewed */
	ATIME_KEPT_S = 2,	    /* the clock of file systems is coarser than ours */
};

int local_getattr(struct volume *volume, const struct handle *object, struct stat *st)
{
	struct local_object opened;
	int rc = local_object_open(volume, object, &opened);

	if (rc)
		return rc;
	*st = opened.st;
	local_object_close(&opened);
	return 0;
}

/* Whether all of @right is allowed. */
static int may(const struct local_object *object, const struct credentials *who, int right, int *allowed)
{
	int rc = local_object_ask(object, who, right);

	if (!rc)
		*allowed |= right;
	return rc == -EACCES || rc == -EPERM || rc == -EROFS || rc == -ETXTBSY ? 0 : rc;
}

/*
 * What the kernel will probably allow, so that it can be asked for all of that in one call. It alone knows of ACLs
 * and of more groups than one: a wrong guess costs a call.
 */
static int likely_rights(const struct stat *st, const struct credentials *who)
{
	if (who->uid == 0)
		return R_OK | W_OK | X_OK;
	if (who->uid == st->st_uid)
		return (int)(st->st_mode >> 6 & 7);
	return (int)((who->gid == st->st_gid ? st->st_mode >> 3 : st->st_mode) & 7);
}

/*
 * A file without any execute bit can't be executed, not even by root; an ACL can't give more than the bits show.
 * access(2), acl(5)
 */
static bool may_be_executed(const struct stat *st)
{
	return S_ISDIR(st->st_mode) || st->st_mode & (S_IXUSR | S_IXGRP | S_IXOTH);
}

/* @granted: out: the bits of @wanted that the kernel allows */
static int ask_rights(const struct local_object *object, const struct credentials *who, int wanted, int *granted)
{
	static const int rights[] = { R_OK, W_OK, X_OK };
	int likely, rc = 0;

	*granted = 0;
	if (!may_be_executed(&object->st))
		wanted &= ~X_OK;
	likely = wanted & likely_rights(&object->st, who);
	if (likely)
		rc = may(object, who, likely, granted);
	for (size_t i = 0; !rc && i < sizeof(rights) / sizeof(rights[0]); i++)
		if (wanted & rights[i] & ~*granted && rights[i] != likely)
			rc = may(object, who, rights[i], granted);
	return rc;
}

int local_access(struct volume *volume, const struct credentials *who, const struct handle *object, int wanted,
		 int *allowed, struct stat *st)
{
	struct backend_attributes after;
	struct local_object opened;
	int granted, rc;

	rc = local_begin(volume, who, object, &opened, &after);
	if (rc)
		return rc;
	rc = local_end(&opened, &after, ask_rights(&opened, who, wanted, &granted));
	if (rc)
		return rc;
	*allowed = granted;
	*st = after.valid ? after.st : opened.st;
	return 0;
}

static int read_target(const struct local_object *link, char *target)
{
	char bytes[PATH_MAX];
	ssize_t len;

	if (!S_ISLNK(link->st.st_mode))
		return -EINVAL;
	len = readlinkat(link->fd, "", bytes, sizeof(bytes));
	if (len < 0)
		return -errno;
	if (len == sizeof(bytes))
		return -ENAMETOOLONG;
	memcpy(target, bytes, (size_t)len);
	target[len] = '\0';
	return 0;
}

int local_readlink(struct volume *volume, const struct credentials *who, const struct handle *object, char *target,
		   struct backend_attributes *after)
{
	struct local_object link;
	int rc;

	(void)who;
	rc = local_begin(volume, &local_as_root, object, &link, after);
	return rc ? rc : local_end(&link, after, read_target(&link, target));
}

/* Where the data goes: one of the two. */
struct destination {
	void *memory;
	struct page_pipe *pages;
	size_t len;
};

static ssize_t read_some(int fd, void *into, size_t len, uint64_t offset)
{
	struct iovec part = { into, len };
	ssize_t n = preadv2(fd, &part, 1, (off_t)offset, patience_may_wait() ? 0 : RWF_NOWAIT);

	if (n < 0)
		return !patience_may_wait() && (errno == EAGAIN || errno == EOPNOTSUPP) ? -ERESTART : -errno;
	return n;
}

/* All of [offset, offset + len) that the file has. Offsets that no file can have are past the end, as any other. */
static ssize_t read_all(const struct local_object *file, int fd, uint64_t offset, const struct destination *to)
{
	size_t got = 0, len = to->len;

	if (offset > INT64_MAX)
		return 0;
	if (len > INT64_MAX - offset)
		len = (size_t)(INT64_MAX - offset);
	while (got < len) {
		ssize_t n = read_some(fd, (char *)to->memory + got, len - got, offset + got);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		got += (size_t)n;
		/* What is at the end of the file needs no second call to say so. */
		if (offset + got == (uint64_t)file->st.st_size)
			break;
	}
	return (ssize_t)got;
}

static bool is_older(const struct timespec *one, const struct timespec *other)
{
	return one->tv_sec < other->tv_sec || (one->tv_sec == other->tv_sec && one->tv_nsec < other->tv_nsec);
}

/* As the kernel sees it with the mount option relatime; relatime_need_update(). */
static bool is_atime_due(const struct stat *st)
{
	return !is_older(&st->st_mtim, &st->st_atim) || !is_older(&st->st_ctim, &st->st_atim) ||
	       time(NULL) - st->st_atim.tv_sec >= ATIME_DAY_S;
}

/*
 * Reading changes the time of the last access now and then. For that ext4 waits until its journal is written, also if it is
 * told not to wait for the data (RWF_NOWAIT). Source: tests/lab/test_stalled_disk.py, journal()
 */
static bool may_change_atime(const struct local_volume *local, const struct local_object *file)
{
	if (file->open && local_cache_keeps_atime(file->open))
		return false;
	return local->has_strict_atime || is_atime_due(&file->st);
}

/* It is due as before, and not because of a change just now. */
static void note_atime(const struct local_volume *local, const struct local_object *file, const struct stat *after)
{
	if (file->open && !local->has_strict_atime && is_atime_due(after) && time(NULL) - after->st_atim.tv_sec >= ATIME_KEPT_S)
		local_cache_note_atime_kept(file->open);
}

static ssize_t read_file(const struct local_volume *local, const struct local_object *file, const struct credentials *who,
			 uint64_t offset, const struct destination *to)
{
	int fd, rc = local_object_need_regular(file);
	ssize_t n;

	if (rc)
		return rc;
	/* splice(2) can't be told not to wait. */
	if (!patience_may_wait() && (to->pages || may_change_atime(local, file)))
		return -ERESTART;
	fd = local_object_data(file, who, O_RDONLY);
	if (fd < 0)
		return fd;
	n = to->pages ? page_pipe_fill(to->pages, fd, offset, to->len) : read_all(file, fd, offset, to);
	local_object_data_done(file, fd);
	return n;
}

static int read_to(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
		   const struct destination *to, size_t *got, bool *end, struct backend_attributes *after)
{
	struct local_object file;
	ssize_t n;
	int rc;

	rc = local_begin(volume, who, object, &file, after);
	if (rc)
		return rc;
	n = read_file(volume->state, &file, who, offset, to);
	local_attributes_get(&file, after);
	if (n >= 0 && after->valid && patience_may_wait())
		note_atime(volume->state, &file, &after->st);
	rc = local_end(&file, after, n < 0 ? (int)n : 0);
	if (rc)
		return rc;
	*got = (size_t)n;
	/* A short read met the end. Else ask the size, with care for sums: it may also have been cut since. */
	*end = (size_t)n < to->len || !after->valid || offset >= (uint64_t)after->st.st_size ||
	       (uint64_t)n >= (uint64_t)after->st.st_size - offset;
	return 0;
}

int local_read(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
	       void *data, size_t len, size_t *got, bool *end, struct backend_attributes *after)
{
	struct destination to = { .memory = data, .len = len };

	return read_to(volume, who, object, offset, &to, got, end, after);
}

int local_read_pages(struct volume *volume, const struct credentials *who, const struct handle *object,
		     uint64_t offset, struct page_pipe *pages, size_t len, size_t *got, bool *end,
		     struct backend_attributes *after)
{
	struct destination to = { .pages = pages, .len = len };

	return read_to(volume, who, object, offset, &to, got, end, after);
}

static ssize_t write_some(int fd, uint64_t offset, const void *data, size_t len)
{
	ssize_t n;

	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return -EFBIG;
	n = pwrite(fd, data, len, (off_t)offset);
	return n < 0 ? -errno : n;
}

/*
 * The reply promises what the stability level says, so this comes first; RFC 1813, 3.3.7. If @verifier, from before the data
 * was written, is not the volume's any more, somebody else was told of a loss, which may have been one of this data.
 */
static int settle_data(struct volume *volume, const struct local_object *file, int fd, enum backend_stability stability,
		       uint64_t verifier)
{
	int rc;

	if (stability == BACKEND_UNSTABLE)
		local_cache_note_written(file->open);
	if (stability == BACKEND_UNSTABLE || (file->open && group_commit_is_on()))
		return 0;
	rc = local_file_sync(volume, file, fd, stability == BACKEND_DATA_SYNC);
	return rc || local_verifier_get(volume) == verifier ? rc : -EIO;
}

/*
 * pwritev2(2) with RWF_SYNC would do both in one call, but its errors don't tell a refused write from a failed
 * write-back, and only the second must change the write verifier.
 */
static ssize_t write_file(struct volume *volume, const struct local_object *file, const struct credentials *who,
			  uint64_t offset, const void *data, size_t len, enum backend_stability stability,
			  struct backend_change *change)
{
	uint64_t verifier = local_verifier_get(volume);
	int fd, rc = local_object_need_regular(file);
	ssize_t n;

	if (rc)
		return rc;
	fd = local_object_data(file, who, O_WRONLY);
	if (fd < 0)
		return fd;
	local_change_begin(volume, file, change);
	n = write_some(fd, offset, data, len);
	local_change_end(volume, file, change);
	if (n >= 0)
		rc = settle_data(volume, file, fd, stability, verifier);
	local_object_data_done(file, fd);
	return rc ? rc : n;
}

int local_write(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
		const void *data, size_t len, enum backend_stability *stability, size_t *written,
		struct backend_change *change)
{
	struct local_object file;
	ssize_t n;
	int rc;

	rc = local_begin_change(volume, who, object, &file, change);
	if (rc)
		return rc;
	/* Nobody has the file open afterwards, who could be told that its data got lost. */
	if (!file.open && *stability == BACKEND_UNSTABLE)
		*stability = BACKEND_DATA_SYNC;
	n = write_file(volume, &file, who, offset, data, len, *stability, change);
	rc = local_end(&file, &change->after, n < 0 ? (int)n : 0);
	if (!rc)
		*written = (size_t)n;
	return rc;
}

/*
 * The whole file, whatever the range. Anyone may commit: COMMIT knows no NFS3ERR_ACCES, and who wrote with a right
 * since lost must still learn whether the data is safe; RFC 1813, 3.3.21.
 */
int local_commit(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
		 uint64_t len, struct backend_change *change)
{
	struct local_object file;
	int rc;

	(void)who;
	(void)offset;
	(void)len;
	rc = local_begin_change(volume, &local_as_root, object, &file, change);
	if (rc)
		return rc;
	rc = local_object_need_regular(&file);
	if (!rc)
		rc = local_object_sync(volume, &file);
	rc = local_end(&file, &change->after, rc);
	change->before = change->after; /* nothing was changed, so one reading tells both */
	return rc;
}

int local_statfs(struct volume *volume, const struct credentials *who, const struct handle *object,
		 struct statvfs *statvfs, struct backend_attributes *after)
{
	struct local_object opened;
	struct statvfs facts;
	int rc;

	(void)who;
	rc = local_begin(volume, &local_as_root, object, &opened, after);
	if (rc)
		return rc;
	rc = local_end(&opened, after, fstatvfs(opened.fd, &facts) ? -errno : 0);
	if (!rc)
		*statvfs = facts;
	return rc;
}

/* The kernel does not tell its s_maxbytes. ext4 counts blocks in 32 bits, all others we know go as far as off_t. */
static uint64_t file_size_max(const struct statfs *fs)
{
	return fs->f_type == EXT4_SUPER_MAGIC ? (uint64_t)UINT32_MAX * (uint64_t)fs->f_bsize : INT64_MAX;
}

/* The C library knows ext4 and XFS, and says 127 of all others. Without a limit of its own st_nlink is one. */
static uint32_t link_max(int fd, const struct statfs *fs)
{
	long known;

	switch (fs->f_type) {
	case BTRFS_SUPER_MAGIC:
		return UINT16_MAX;
	case TMPFS_MAGIC:
		return UINT32_MAX;
	default:
		known = fpathconf(fd, _PC_LINK_MAX);
		return known < 0 || known > UINT32_MAX ? UINT32_MAX : (uint32_t)known;
	}
}

/* A directory of ext4 or f2fs may have been told to ignore case; what it can't be asked it has not. */
static bool ignores_case(const struct local_object *object)
{
	int flags = 0, fd = S_ISDIR(object->st.st_mode) ? local_object_reopen(object, O_RDONLY | O_DIRECTORY) : -1;

	if (fd < 0)
		return false;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		flags = 0;
	close(fd);
	return flags & FS_CASEFOLD_FL;
}

static int read_limits(const struct local_volume *local, const struct local_object *object, struct backend_limits *limits)
{
	struct statfs fs;

	if (fstatfs(object->fd, &fs))
		return -errno;
	*limits = (struct backend_limits){
		.link_max = link_max(object->fd, &fs),
		.name_max = (uint32_t)fs.f_namelen,
		.file_size_max = file_size_max(&fs),
		.time_delta = local->time_delta,
		.has_links = true,
		.has_symlinks = true,
		.no_truncate = true,
		.chown_restricted = true,
		.case_insensitive = ignores_case(object),
		.case_preserving = true,
	};
	return 0;
}

int local_limits(struct volume *volume, const struct handle *object, struct backend_limits *limits,
		 struct backend_attributes *after)
{
	struct local_object opened;
	int rc = local_begin(volume, &local_as_root, object, &opened, after);

	return rc ? rc : local_end(&opened, after, read_limits(volume->state, &opened, limits));
}
