/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local_internal.h"

#include "slave/local_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LISTING_BYTES = 32768 }; /* what the C library reads at a time; on the stack */

int local_lookup(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		 struct backend_found *found, struct backend_attributes *dir_after)
{
	struct local_object parent, child;
	int rc = local_begin(volume, who, dir, &parent, dir_after);

	if (rc)
		return rc;
	rc = local_object_find(volume, &parent, name, &child);
	if (!rc) {
		rc = local_found_get(volume, &child, found);
		if (!rc)
			local_object_keep(volume, &found->handle, &child); /* who looks for it means to use it */
		local_object_close(&child);
	}
	return local_end(&parent, dir_after, rc);
}

/* The end of a change of a directory's entries: durable before the reply. */
static int end_change(struct volume *volume, struct local_object *dir, struct backend_change *change, int rc)
{
	local_identity_root();
	if (!rc)
		rc = local_object_settle(volume, dir);
	return local_end(dir, &change->after, rc);
}

/*
 * The last name of a large file takes its blocks along, which takes time. As long as the object is open it stays, so that
 * the directory is not locked for it. Return: a descriptor, or -1: nothing to keep
 */
static int keep_object(const struct local_object *dir, const char *name)
{
	return openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

/* @rc: whether it lost its name. Then it must not stay open in our cache: its space is wanted back. */
static void let_go(struct volume *volume, int kept, int rc)
{
	struct local_volume *local = volume->state;
	struct local_root key;

	if (kept < 0)
		return;
	if (!rc && !local_handle_get(kept, &key))
		local_cache_forget(local->cache, &key);
	close(kept);
}

static int remove_entry(struct volume *volume, const struct credentials *who, const struct handle *dir,
			const char *name, int flags, struct backend_change *dir_change)
{
	struct local_object parent;
	int kept, rc = local_begin_change(volume, who, dir, &parent, dir_change);

	if (rc)
		return rc;
	if (local_is_reserved(volume, &parent, name))
		return local_end(&parent, &dir_change->after, -ENOENT);
	kept = keep_object(&parent, name);
	local_change_begin(volume, &parent, dir_change);
	rc = unlinkat(parent.fd, name, flags) ? -errno : 0;
	local_change_end(volume, &parent, dir_change);
	let_go(volume, kept, rc);
	return end_change(volume, &parent, dir_change, rc);
}

int local_remove(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		 struct backend_change *dir_change)
{
	return remove_entry(volume, who, dir, name, 0, dir_change);
}

int local_rmdir(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		struct backend_change *dir_change)
{
	return remove_entry(volume, who, dir, name, AT_REMOVEDIR, dir_change);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static int rename_entry(struct volume *volume, const struct local_object *from, const char *from_name,
			const struct local_object *to, const char *to_name, struct backend_change *from_change,
			struct backend_change *to_change)
{
	int kept = keep_object(to, to_name), rc;

	local_change_lock(volume, from, to);
	local_attributes_get(from, &from_change->before);
	local_attributes_get(to, &to_change->before);
	rc = renameat(from->fd, from_name, to->fd, to_name) ? -errno : 0;
	local_attributes_get(from, &from_change->after);
	local_attributes_get(to, &to_change->after);
	local_change_unlock(volume, from, to);
	let_go(volume, kept, rc);
	return rc;
}

/* With @to open: the new entry is made durable first, so that a crash may leave both names but never none. */
static int rename_to(struct volume *volume, const struct credentials *who, const struct handle *from_dir,
		     const char *from_name, const struct local_object *to, const char *to_name,
		     struct backend_change *from_change, struct backend_change *to_change)
{
	struct local_object from;
	int rc = local_begin_change(volume, who, from_dir, &from, from_change);

	if (rc)
		return rc;
	if (local_is_reserved(volume, &from, from_name))
		return local_end(&from, &from_change->after, -ENOENT);
	if (local_is_reserved(volume, to, to_name))
		return local_end(&from, &from_change->after, -EACCES);
	rc = rename_entry(volume, &from, from_name, to, to_name, from_change, to_change);
	local_identity_root();
	if (!rc && !is_same(&from.st, &to->st))
		rc = local_object_sync(volume, to);
	return end_change(volume, &from, from_change, rc);
}

int local_rename(struct volume *volume, const struct credentials *who, const struct handle *from_dir,
		 const char *from_name, const struct handle *to_dir, const char *to_name,
		 struct backend_change *from_change, struct backend_change *to_change)
{
	struct local_object to;
	int rc;

	from_change->before.valid = from_change->after.valid = false;
	rc = local_begin_change(volume, &local_as_root, to_dir, &to, to_change);
	if (rc)
		return rc;
	rc = rename_to(volume, who, from_dir, from_name, &to, to_name, from_change, to_change);
	return local_end(&to, &to_change->after, rc);
}

/*
 * AT_EMPTY_PATH would need a capability that the client's user has not; the way through /proc needs none. What
 * fs.protected_hardlinks forbids to local users (-EPERM) it forbids to clients.
 */
static int link_entry(const struct local_object *object, const struct local_object *dir, const char *name)
{
	char path[LOCAL_FD_PATH_BYTES];

	return linkat(AT_FDCWD, local_fd_path(object->fd, path), dir->fd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

int local_link(struct volume *volume, const struct credentials *who, const struct handle *object,
	       const struct handle *dir, const char *name, struct backend_attributes *after,
	       struct backend_change *dir_change)
{
	struct local_object source, parent;
	int rc;

	dir_change->before.valid = dir_change->after.valid = false;
	rc = local_begin(volume, &local_as_root, object, &source, after);
	if (rc)
		return rc;
	rc = local_begin_change(volume, who, dir, &parent, dir_change);
	if (!rc) {
		local_change_begin(volume, &parent, dir_change);
		rc = local_is_reserved(volume, &parent, name) ? -EACCES : link_entry(&source, &parent, name);
		local_change_end(volume, &parent, dir_change);
		rc = end_change(volume, &parent, dir_change, rc);
	}
	return local_end(&source, after, rc);
}

/* --- READDIR --- */

struct listing {
	struct volume *volume;
	const struct local_object *dir;
	bool wants_found;
	backend_entry_fn entry;
	void *arg;
};

/* Left out when it fails: gone, a mount point, or a directory that may be read but not searched. */
static bool entry_find(const struct listing *listing, const char *name, struct backend_found *found)
{
	struct local_object child;
	int rc = local_object_find(listing->volume, listing->dir, name, &child);

	if (rc)
		return false;
	rc = local_found_get(listing->volume, &child, found);
	local_object_close(&child);
	return !rc;
}

/* A subvolume's entry has the number of the subvolume, and what is above its root is in another one: ask. */
static uint64_t ask_fileid(const struct listing *listing, const struct dirent64 *dirent)
{
	struct local_object child;
	uint64_t fileid;

	if (local_object_find(listing->volume, listing->dir, dirent->d_name, &child))
		return dirent->d_ino ^ listing->dir->mask;
	fileid = child.st.st_ino;
	local_object_close(&child);
	return fileid;
}

static uint64_t fileid_of(const struct listing *listing, const struct dirent64 *dirent)
{
	const struct local_volume *local = listing->volume->state;

	return local->subvolume && dirent->d_type == DT_DIR ? ask_fileid(listing, dirent) : dirent->d_ino ^ listing->dir->mask;
}

static bool entry_give(const struct listing *listing, const struct dirent64 *dirent)
{
	struct local_volume *local = listing->volume->state;
	struct backend_entry entry = {
		.fileid = fileid_of(listing, dirent),
		.cookie = (uint64_t)dirent->d_off,
		.name = dirent->d_name,
	};

	if (!strcmp(dirent->d_name, "..") && listing->dir->st.st_ino == local->root_ino)
		entry.fileid = local->root_ino;
	if (listing->wants_found)
		entry.has_found = entry_find(listing, dirent->d_name, &entry.found);
	return listing->entry(&entry, listing->arg);
}

/*
 * The caller's function runs with the client's identity: it may fill a reply, but not come back to this volume.
 *
 * Return: 1 if the directory ended, 0 if the caller has enough, or a negative errno value
 */
static int list(const struct listing *listing, int fd)
{
	_Alignas(struct dirent64) char bytes[LISTING_BYTES];
	ssize_t len;

	while ((len = getdents64(fd, bytes, sizeof(bytes))) > 0)
		for (ssize_t at = 0; at < len;) {
			const struct dirent64 *dirent = (const struct dirent64 *)(const void *)(bytes + at);

			if (!local_is_reserved(listing->volume, listing->dir, dirent->d_name) && !entry_give(listing, dirent))
				return 0;
			at += dirent->d_reclen;
		}
	return len < 0 ? -errno : 1;
}

/*
 * A cookie is the file system's own position (d_off), which ext4, XFS and Btrfs keep valid across restarts and when
 * entries come and go, and tmpfs since Linux 6.6. So one verifier, 0, is good for ever, and what the client sends for it is
 * of no interest.
 */
static int list_from(const struct listing *listing, uint64_t cookie)
{
	int fd, rc;

	if (cookie > INT64_MAX)
		return -EINVAL;
	if (!S_ISDIR(listing->dir->st.st_mode))
		return -ENOTDIR;
	fd = local_object_reopen(listing->dir, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	rc = cookie && lseek(fd, (off_t)cookie, SEEK_SET) < 0 ? -errno : list(listing, fd);
	close(fd);
	return rc;
}

int local_readdir(struct volume *volume, const struct credentials *who, const struct handle *dir, uint64_t cookie,
		  uint64_t *verifier, bool found, backend_entry_fn entry, void *arg, bool *end,
		  struct backend_attributes *dir_after)
{
	struct listing listing = { .volume = volume, .wants_found = found, .entry = entry, .arg = arg };
	struct local_object opened;
	int rc;

	rc = local_begin(volume, who, dir, &opened, dir_after);
	if (rc)
		return rc;
	listing.dir = &opened;
	rc = list_from(&listing, cookie);
	local_end(&opened, dir_after, 0);
	if (rc < 0)
		return rc;
	*verifier = 0;
	*end = rc == 1;
	return 0;
}
