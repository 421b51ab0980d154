/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local.h"

#include "slave/local_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct credentials root_user = { 0 };

bool local_is_reserved(const struct volume *volume, const struct local_object *dir, const char *name)
{
	const struct local_volume *local = volume->state;

	return strcmp(name, LOCAL_RESERVED) == 0 && dir->st.st_dev == local->root_dev && dir->st.st_ino == local->root_ino;
}

/* Somebody else's directory by that name is not ours to use: he could move what is in it. */
static bool is_ours(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* Is this the volume that is meant? Where a disk has been there may be another directory, now that it is away. */
static bool is_volume(int fd, const struct local_root *root)
{
	struct local_root found;

	return local_handle_get(fd, &found) == 0 && found.backend_type == root->backend_type &&
	       found.backend_len == root->backend_len && memcmp(found.backend, root->backend, root->backend_len) == 0;
}

/* @makes: if it is not there. Return: a descriptor of the reserved directory, or a negative errno value */
static int open_reserved(const char *path, const struct local_root *meant, bool makes)
{
	int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd, rc;

	if (root < 0 || !is_volume(root, meant)) {
		if (root >= 0)
			close(root);
		return -EIO;
	}
	rc = makes && mkdirat(root, LOCAL_RESERVED, 0700) && errno != EEXIST ? -errno : 0;
	fd = rc < 0 ? rc : openat(root, LOCAL_RESERVED, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (rc == 0 && fd < 0)
		rc = -errno;
	if (rc == 0 && !is_ours(fd))
		rc = -EPERM;
	if (rc == 0 && makes && fsync(root))
		rc = -errno;
	close(root);
	if (rc < 0 && fd >= 0)
		close(fd);
	return rc < 0 ? rc : fd;
}

static int make_in(int reserved, const char *name)
{
	int fd, rc = mkdirat(reserved, name, 0755) && errno != EEXIST ? -errno : 0;

	if (rc < 0)
		return rc;
	fd = openat(reserved, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0755) || fsync(fd) || fsync(reserved)) /* whatever the thread's umask is */
		rc = -errno;
	close(fd);
	return rc;
}

static int remove_in(int reserved, const char *name)
{
	if (unlinkat(reserved, name, AT_REMOVEDIR) && errno != ENOENT)
		return -errno;
	return fsync(reserved) ? -errno : 0;
}

int local_reserved_make(const char *path, const struct local_root *root, const char *name)
{
	int fd, rc = local_identity_assume(&root_user);

	if (rc < 0)
		return rc;
	fd = open_reserved(path, root, true);
	rc = fd < 0 ? fd : make_in(fd, name);
	if (fd >= 0)
		close(fd);
	local_identity_end();
	return rc;
}

int local_reserved_remove(const char *path, const struct local_root *root, const char *name)
{
	int fd, rc = local_identity_assume(&root_user);

	if (rc < 0)
		return rc;
	fd = open_reserved(path, root, false);
	rc = fd == -ENOENT ? 0 : fd < 0 ? fd : remove_in(fd, name);
	if (fd >= 0)
		close(fd);
	local_identity_end();
	return rc;
}
