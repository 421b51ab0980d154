/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

bool local_set_is_empty(const struct backend_set *set)
{
	return !set->set_mode && !set->set_uid && !set->set_gid && !set->set_size &&
	       set->set_atime == BACKEND_TIME_KEEP && set->set_mtime == BACKEND_TIME_KEEP;
}

static int set_size(const struct credentials *who, const struct local_object *object, uint64_t size)
{
	int fd, rc = local_object_need_regular(object);

	if (rc)
		return rc;
	if (size > INT64_MAX)
		return -EFBIG;
	fd = local_object_reopen_as(object, who, O_WRONLY);
	if (fd < 0)
		return fd;
	rc = ftruncate(fd, (off_t)size) ? -errno : 0;
	close(fd);
	return rc;
}

static int set_owner(const struct local_object *object, const struct backend_set *set)
{
	uid_t uid = set->set_uid ? set->uid : (uid_t)-1;
	gid_t gid = set->set_gid ? set->gid : (gid_t)-1;

	/* The kernel takes these ids for "keep" and would report success. */
	if ((set->set_uid && uid == (uid_t)-1) || (set->set_gid && gid == (gid_t)-1))
		return -EINVAL;
	return fchownat(object->fd, "", uid, gid, AT_EMPTY_PATH) ? -errno : 0;
}

/* fchmod(2) refuses O_PATH descriptors. A symbolic link has no mode of its own; clients that send one mean no harm. */
static int set_mode(const struct local_object *object, uint32_t mode)
{
	char path[LOCAL_FD_PATH_BYTES];

	if (S_ISLNK(object->st.st_mode))
		return 0;
	return chmod(local_fd_path(object->fd, path), mode & 07777) ? -errno : 0;
}

/* A client's time with UTIME_NOW or UTIME_OMIT for nanoseconds would mean something else to the kernel. */
static int time_encode(enum backend_set_time how, const struct timespec *client, struct timespec *out)
{
	switch (how) {
	case BACKEND_TIME_KEEP:
		*out = (struct timespec){ .tv_nsec = UTIME_OMIT };
		return 0;
	case BACKEND_TIME_SERVER:
		*out = (struct timespec){ .tv_nsec = UTIME_NOW };
		return 0;
	case BACKEND_TIME_CLIENT:
		*out = *client;
		return client->tv_nsec < 0 || client->tv_nsec >= 1000000000 ? -EINVAL : 0;
	}
	return -EINVAL;
}

/* Whether @times says only "now", which needs no more than the permission to write. */
static bool is_only_now(const struct timespec times[2])
{
	for (int i = 0; i < 2; i++)
		if (times[i].tv_nsec != UTIME_NOW && times[i].tv_nsec != UTIME_OMIT)
			return false;
	return true;
}

/* utimensat(2) lets a writer who isn't the owner set both times to now, but not one of them, as SETATTR can ask. */
static int set_times_as_writer(const struct credentials *who, const struct local_object *object,
			       const struct timespec times[2])
{
	int rc, error;

	if (faccessat(object->fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS))
		return -errno;
	local_identity_root();
	rc = utimensat(object->fd, "", times, AT_EMPTY_PATH) ? -errno : 0;
	error = local_identity_assume(who);
	return rc ? rc : error;
}

static int set_times(const struct credentials *who, const struct local_object *object, const struct backend_set *set)
{
	struct timespec times[2];
	int rc;

	rc = time_encode(set->set_atime, &set->atime, &times[0]);
	if (!rc)
		rc = time_encode(set->set_mtime, &set->mtime, &times[1]);
	if (rc || !utimensat(object->fd, "", times, AT_EMPTY_PATH))
		return rc;
	rc = -errno;
	return rc == -EPERM && is_only_now(times) ? set_times_as_writer(who, object, times) : rc;
}

int local_set_apply(const struct credentials *who, const struct local_object *object, const struct backend_set *set)
{
	int rc = 0;

	if (set->set_size)
		rc = set_size(who, object, set->size);
	if (!rc && (set->set_uid || set->set_gid))
		rc = set_owner(object, set);
	if (!rc && set->set_mode)
		rc = set_mode(object, set->mode);
	if (!rc && (set->set_atime != BACKEND_TIME_KEEP || set->set_mtime != BACKEND_TIME_KEEP))
		rc = set_times(who, object, set);
	return rc;
}

int local_setattr(struct volume *volume, const struct credentials *who, const struct handle *object,
		  const struct backend_set *set, const struct timespec *guard, struct backend_change *change)
{
	struct local_object opened;
	int rc;

	rc = local_begin_change(volume, who, object, &opened, change);
	if (rc)
		return rc;
	local_change_begin(volume, &opened, change);
	if (guard && !local_time_is(guard, &change->before.st.st_ctim))
		rc = -EAGAIN;
	else
		rc = local_set_apply(who, &opened, set);
	local_change_end(volume, &opened, change);
	local_identity_root();
	if (!rc && !local_set_is_empty(set))
		rc = local_object_settle(volume, &opened);
	return local_end(&opened, &change->after, rc);
}
