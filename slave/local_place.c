/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where an object is, for exports of parts of a volume.
 *
 * The kernel knows the path of each directory that it has opened, and tells it by /proc/self/fd. Of anything else it knows a path
 * only as long as it has walked one: after a restart, or when memory was short, an inode opened by its handle is
 * connected to nothing. Then the directory where it was found once is read until its entry is found again, as knfsd does
 * for subtree_check; that costs as much as listing it, once, for the kernel remembers. If it is not there any
 * more, the client must look its name up anew (NFS3ERR_STALE).
 *
 * An inode with several names has several places; the one in the directory of the handle counts, if there is one, else any.
 */
#include "config.h"

#include "slave/local_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCAN_BYTES = 32768 };

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/*
 * The kernel writes it behind the path of a name that was removed, though the inode may have others; and anything may be called
 * so.
 */
#define REMOVED " (deleted)"

static bool is_removed(const struct local_volume *local, int fd, const char *path)
{
	size_t len = strlen(path), mark_len = strlen(REMOVED);
	struct stat st, named;

	if (len < mark_len || strcmp(path + len - mark_len, REMOVED) != 0)
		return false;
	return fstat(fd, &st) || fstatat(local->root_fd, path, &named, AT_SYMLINK_NOFOLLOW) ||
	       !is_same(&st, &named);
}

/* Return: 0; -ESTALE if it is not inside, not there any more, or not told: something unconnected says "/" */
static int path_inside(const struct local_volume *local, int fd, char path[static PATH_MAX])
{
	char root[PATH_MAX], whole[PATH_MAX];
	size_t len;
	int rc = local_path_told(local->root_fd, root);

	if (rc == 0)
		rc = local_path_told(fd, whole);
	if (rc)
		return rc;
	len = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (strncmp(whole, root, len) != 0 || (whole[len] && whole[len] != '/'))
		return -ESTALE;
	strcpy(path, whole + len + strspn(whole + len, "/"));
	return is_removed(local, fd, path) ? -ESTALE : 0;
}

static bool is_connected(const struct local_volume *local, int fd, char path[static PATH_MAX])
{
	return path_inside(local, fd, path) == 0 && path[0];
}

/* Is @path an entry of the directory at @directory? */
static bool is_entry_of(const char *path, const char *directory)
{
	size_t len = strlen(directory);

	if (strncmp(path, directory, len) != 0 || (len && path[len] != '/'))
		return false;
	path += len + (len > 0);
	return *path && !strchr(path, '/');
}

/* The name under which a directory has an inode. Return: 0; -ESTALE */
static int name_of(int fd, ino_t inode, char name[static NAME_MAX + 1])
{
	_Alignas(struct dirent64) char bytes[SCAN_BYTES];
	ssize_t len;

	while ((len = getdents64(fd, bytes, sizeof(bytes))) > 0)
		for (ssize_t at = 0; at < len;) {
			const struct dirent64 *dirent = (const struct dirent64 *)(const void *)(bytes + at);

			if (dirent->d_ino == inode && strlen(dirent->d_name) <= NAME_MAX) {
				strcpy(name, dirent->d_name);
				return 0;
			}
			at += dirent->d_reclen;
		}
	return len < 0 ? -errno : -ESTALE;
}

/* Seeks @object in @directory, and has the kernel walk there. */
static int find_in(struct volume *volume, const struct local_object *directory, const struct local_object *object,
		   char path[static PATH_MAX])
{
	struct local_object found;
	char name[NAME_MAX + 1];
	int rc, fd = local_object_reopen(directory, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd;
	rc = name_of(fd, object->st.st_ino ^ object->mask, name);
	close(fd);
	if (rc == 0)
		rc = local_object_find(volume, directory, name, &found);
	if (rc)
		return rc;
	rc = is_same(&found.st, &object->st) ? path_inside(volume->state, found.fd, path) : -ESTALE;
	local_object_close(&found);
	return rc;
}

/* With a directory where it may be. What has one name only is where that is. */
static int place_in(struct volume *volume, const struct local_object *object, const struct handle *directory,
		    char path[static PATH_MAX])
{
	bool is_known = is_connected(volume->state, object->fd, path);
	struct local_object parent;
	char parent_path[PATH_MAX];
	int rc;

	if (is_known && object->st.st_nlink == 1)
		return 0;
	rc = local_object_open(volume, directory, &parent);
	if (rc)
		return rc;
	rc = path_inside(volume->state, parent.fd, parent_path);
	if (rc == 0 && !(is_known && is_entry_of(path, parent_path)))
		rc = find_in(volume, &parent, object, path);
	local_object_close(&parent);
	return rc;
}

static int place_of(struct volume *volume, const struct local_object *object, const struct handle *directory,
		    char path[static PATH_MAX])
{
	if (S_ISDIR(object->st.st_mode))
		return path_inside(volume->state, object->fd, path);
	if (directory)
		return place_in(volume, object, directory, path);
	return is_connected(volume->state, object->fd, path) ? 0 : -ESTALE;
}

int local_place(struct volume *volume, const struct handle *object, const struct handle *directory, char *path)
{
	struct local_object opened;
	char found[PATH_MAX];
	int rc = local_object_open(volume, object, &opened);

	if (rc)
		return rc;
	local_identity_root();
	rc = place_of(volume, &opened, directory, found);
	local_object_close(&opened);
	local_identity_end();
	if (rc == 0)
		strcpy(path, found);
	return rc;
}
