/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local_internal.h"

#include "common/group_commit.h"
#include "common/log.h"
#include "common/patience.h"
#include "slave/local.h"
#include "slave/local_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* A kernel handle with room for what our handles can carry. */
union kernel_handle {
	struct file_handle handle;
	char room[sizeof(struct file_handle) + HANDLE_BACKEND_MAX];
};

static int get_handle(int fd, const char *name, int flags, struct local_root *out)
{
	union kernel_handle kernel = { .handle.handle_bytes = HANDLE_BACKEND_MAX };
	int mount_id;

	if (name_to_handle_at(fd, name, &kernel.handle, &mount_id, flags))
		return -errno;
	if (kernel.handle.handle_type < 0 || kernel.handle.handle_type > UINT16_MAX)
		return -EOVERFLOW;

	*out = (struct local_root){
		.backend_type = (uint16_t)kernel.handle.handle_type,
		.backend_len = (uint8_t)kernel.handle.handle_bytes,
	};
	memcpy(out->backend, kernel.handle.f_handle, out->backend_len);
	return 0;
}

int local_handle_get(int fd, struct local_root *out)
{
	return get_handle(fd, "", AT_EMPTY_PATH, out);
}

int local_handle_at(int dir_fd, const char *name, struct local_root *out)
{
	return get_handle(dir_fd, name, 0, out);
}

/* The kernel's struct btrfs_fid: the inode's number, the subvolume's, and so on. */
uint64_t local_subvolume_of(const struct local_root *key)
{
	uint64_t subvolume = 0;

	if (key->backend_len >= 2 * sizeof(subvolume))
		memcpy(&subvolume, key->backend + sizeof(subvolume), sizeof(subvolume));
	return subvolume;
}

uint64_t local_mask_of(const struct local_volume *local, const struct local_root *key)
{
	uint64_t subvolume = local->subvolume ? local_subvolume_of(key) : 0;

	/* Both are small numbers: the one in the other's high bits. */
	return local->volume.fileid_mask ^ (subvolume == local->subvolume ? 0 : __builtin_bswap64(subvolume));
}

static int open_by_handle(const struct local_volume *local, const struct handle *handle)
{
	union kernel_handle kernel = {
		.handle.handle_bytes = handle->backend_len,
		.handle.handle_type = handle->backend_type,
	};
	int fd;

	memcpy(kernel.handle.f_handle, handle->backend, handle->backend_len);
	fd = open_by_handle_at(local->root_fd, &kernel.handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		local_cache_shrink(local->cache);
		fd = open_by_handle_at(local->root_fd, &kernel.handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd >= 0)
		return fd;
	/* The handle is ours, its hash says so; one that this file system can't even parse is of another one. */
	return errno == EINVAL ? -ESTALE : -errno;
}

/* The object is in the cache, and still has a name: -ENOENT if not. */
static int take_from_cache(const struct local_volume *local, const struct local_root *key, struct local_object *object)
{
	struct local_cache *cache = local->cache;
	struct local_object found = { .open = local_cache_get(cache, key, &found.fd) };

	if (!found.open)
		return -ENOENT;
	if (fstat(found.fd, &found.st) || !found.st.st_nlink) {
		local_cache_forget(cache, key);
		local_cache_put(found.open);
		return -ENOENT;
	}
	found.mask = local_mask_of(local, key);
	found.st.st_ino ^= found.mask;
	*object = found;
	return 0;
}

static int open_anew(struct local_volume *local, const struct handle *handle, const struct local_root *key,
		     struct local_object *object)
{
	struct local_object opened = { .fd = open_by_handle(local, handle) };

	if (opened.fd < 0)
		return opened.fd;
	if (fstat(opened.fd, &opened.st)) {
		int rc = -errno;

		close(opened.fd);
		return rc;
	}
	/* What has no name is kept by whoever else has it open: not by us. */
	if (opened.st.st_nlink)
		opened.open = local_cache_add(local->cache, key, opened.fd);
	opened.mask = local_mask_of(local, key);
	opened.st.st_ino ^= opened.mask;
	*object = opened;
	return 0;
}

static struct local_root key_of(const struct handle *handle)
{
	struct local_root key = { .backend_type = handle->backend_type, .backend_len = handle->backend_len };

	memcpy(key.backend, handle->backend, handle->backend_len);
	return key;
}

int local_object_open(struct volume *volume, const struct handle *handle, struct local_object *object)
{
	struct local_volume *local = volume->state;
	struct local_root key;

	if (handle->type != HANDLE_LOCAL || handle->volume != volume->id || handle->backend_len > HANDLE_BACKEND_MAX)
		return -ESTALE;
	if (!patience_may_wait() && !local->is_prompt)
		return -ERESTART;
	key = key_of(handle);
	local_identity_root();
	if (!take_from_cache(local, &key, object))
		return 0;
	return patience_may_wait() ? open_anew(local, handle, &key, object) : -ERESTART;
}

void local_object_keep(struct volume *volume, const struct handle *handle, struct local_object *object)
{
	struct local_volume *local = volume->state;
	struct local_root key = key_of(handle);

	if (object->st.st_nlink)
		object->open = local_cache_add(local->cache, &key, object->fd);
}

void local_object_close(struct local_object *object)
{
	if (object->open)
		local_cache_put(object->open);
	else if (object->fd >= 0)
		close(object->fd);
	object->open = NULL;
	object->fd = -1;
}

const char *local_fd_path(int fd, char path[static LOCAL_FD_PATH_BYTES])
{
	snprintf(path, LOCAL_FD_PATH_BYTES, "/proc/self/fd/%d", fd);
	return path;
}

int local_path_told(int fd, char path[static PATH_MAX])
{
	char link[LOCAL_FD_PATH_BYTES];
	ssize_t len = readlink(local_fd_path(fd, link), path, PATH_MAX);

	if (len < 0)
		return -errno;
	if (len == PATH_MAX)
		return -ENAMETOOLONG;
	path[len] = '\0';
	return 0;
}

int local_object_reopen(const struct local_object *object, int flags)
{
	char path[LOCAL_FD_PATH_BYTES];
	int fd = open(local_fd_path(object->fd, path), flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* The kernel does not look at an ACL for the owner, nor if the group bits, which are its mask, say that it gives nothing. acl(5) */
static bool depends_on_acl(const struct local_object *object, const struct credentials *who)
{
	return object->st.st_uid != who->uid && object->st.st_mode & S_IRWXG;
}

int local_object_ask(const struct local_object *object, const struct credentials *who, int rights)
{
	bool is_about_acl = depends_on_acl(object, who), may_wait = patience_may_wait();
	int rc;

	if (is_about_acl && !may_wait && !(object->open && local_cache_knows_acl(object->open)))
		return -ERESTART;
	/* AT_EACCESS: by the thread's file system ids, which are the user's; without it, by the process's real ids. */
	rc = faccessat(object->fd, "", rights, AT_EMPTY_PATH | AT_EACCESS) ? -errno : 0;
	if (is_about_acl && may_wait && object->open)
		local_cache_note_acl(object->open);
	return rc;
}

static bool may_override(const struct local_object *object, const struct credentials *who, int flags)
{
	if (object->st.st_uid == who->uid)
		return true;
	return flags == O_RDONLY && !local_object_ask(object, who, X_OK);
}

int local_object_reopen_as(const struct local_object *object, const struct credentials *who, int flags)
{
	int fd = local_object_reopen(object, flags), rc;

	if (fd != -EACCES || !may_override(object, who, flags))
		return fd;

	/* Only opening is root's. Writing must be the user's, for quotas, reserved blocks and the setuid bit. */
	local_identity_root();
	fd = local_object_reopen(object, flags);
	rc = local_identity_assume(who);
	if (rc && fd >= 0)
		close(fd);
	return rc ? rc : fd;
}

/* Whether @who could open the file now. */
static int may_use(const struct local_object *object, const struct credentials *who, int flags)
{
	int rc = local_object_ask(object, who, flags == O_WRONLY ? W_OK : R_OK);

	return rc == -EACCES && may_override(object, who, flags) ? 0 : rc;
}

int local_object_data(const struct local_object *object, const struct credentials *who, int flags)
{
	int fd = object->open ? local_cache_data(object->open, flags) : -1, rc;

	if (fd >= 0) {
		rc = may_use(object, who, flags);
		return rc ? rc : fd;
	}
	if (!patience_may_wait())
		return -ERESTART;
	fd = local_object_reopen_as(object, who, flags);
	return fd >= 0 && object->open ? local_cache_keep_data(object->open, flags, fd) : fd;
}

void local_object_data_done(const struct local_object *object, int fd)
{
	if (!object->open)
		close(fd);
}

int local_object_need_regular(const struct local_object *object)
{
	return S_ISREG(object->st.st_mode) ? 0 : -EINVAL;
}

uint64_t local_verifier_new(void)
{
	uint64_t verifier;

	/* Can't fail or be short for 8 bytes once the kernel has its entropy; getrandom(2). */
	while (getrandom(&verifier, sizeof(verifier), 0) != sizeof(verifier))
		;
	return verifier;
}

uint64_t local_verifier_get(const struct volume *volume)
{
	return __atomic_load_n(&volume->write_verifier, __ATOMIC_SEQ_CST);
}

/*
 * The kernel tells a descriptor once of a failed write-back and marks the pages clean, so whoever hears of it tells everybody:
 * with a new verifier all clients send again what they have not yet committed. Until he has, nobody else may take
 * his own fsync(2) for a success: see local_file_sync().
 */
static int sync_failed(struct volume *volume, int rc)
{
	__atomic_store_n(&volume->write_verifier, local_verifier_new(), __ATOMIC_SEQ_CST);
	log_err("local", "volume=%u sync: %s; clients are told to repeat their uncommitted writes", volume->id,
		strerror(-rc));
	return rc;
}

int local_fd_sync(struct volume *volume, int fd, bool data_only)
{
	int rc = data_only ? fdatasync(fd) : fsync(fd);

	return rc ? sync_failed(volume, -errno) : 0;
}

int local_file_sync(struct volume *volume, const struct local_object *file, int fd, bool data_only)
{
	struct local_volume *local = volume->state;
	pthread_mutex_t *syncing = &local->syncing[file->st.st_ino % LOCAL_LOCKS];
	int rc;

	if (file->open)
		local_cache_note_sync(file->open);
	pthread_mutex_lock(syncing);
	rc = local_fd_sync(volume, fd, data_only);
	pthread_mutex_unlock(syncing);
	return rc;
}

static int sync_file_system(struct volume *volume)
{
	struct local_volume *local = volume->state;

	return syncfs(local->root_fd) ? sync_failed(volume, -errno) : 0;
}

/* What was changed before is durable with a new file: the journal of ext4 and the log of XFS keep the order of changes. */
static int sync_with_new_file(struct volume *volume)
{
	struct local_volume *local = volume->state;
	int rc, fd = openat(local->root_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0)
		return sync_file_system(volume); /* no room for a file */
	rc = local_fd_sync(volume, fd, false);
	close(fd);
	return rc;
}

/* A transaction without the data of files, which syncfs(2) would wait for, too. */
static int sync_btrfs(struct volume *volume)
{
	struct local_volume *local = volume->state;
	__u64 transaction;

	if (ioctl(local->root_fd, BTRFS_IOC_START_SYNC, &transaction) ||
	    ioctl(local->root_fd, BTRFS_IOC_WAIT_SYNC, &transaction))
		return sync_failed(volume, -errno);
	return 0;
}

/*
 * Symbolic links and special files can't be opened for fsync(2). syncfs(2), which would do everywhere, writes
 * whatever any client has written; so these clients would wait for each other. Source: tests/platform/test_metadata_order
 */
static int sync_unopenable(struct volume *volume)
{
	struct local_volume *local = volume->state;
	struct statfs fs;

	if (fstatfs(local->root_fd, &fs))
		return -errno;
	switch (fs.f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
		return sync_with_new_file(volume);
	case BTRFS_SUPER_MAGIC:
		return sync_btrfs(volume);
	default:
		return sync_file_system(volume);
	}
}

/* Any will do. A file's own that is open for writing knows of failures since then. */
static int sync_fd(const struct local_object *object)
{
	int fd = -1;

	if (object->open)
		fd = local_cache_data(object->open, O_WRONLY);
	if (fd < 0 && object->open)
		fd = local_cache_data(object->open, O_RDONLY);
	if (fd >= 0)
		return fd;
	fd = local_object_reopen(object, O_RDONLY);
	return fd >= 0 && object->open ? local_cache_keep_data(object->open, O_RDONLY, fd) : fd;
}

int local_object_sync(struct volume *volume, const struct local_object *object)
{
	int fd, rc;

	if (!S_ISREG(object->st.st_mode) && !S_ISDIR(object->st.st_mode))
		return sync_unopenable(volume);
	fd = sync_fd(object);
	if (fd < 0)
		return fd;
	rc = S_ISREG(object->st.st_mode) ? local_file_sync(volume, object, fd, false) :
					   local_fd_sync(volume, fd, false);
	local_object_data_done(object, fd);
	return rc;
}

int local_object_settle(struct volume *volume, const struct local_object *object)
{
	return group_commit_is_on() ? 0 : local_object_sync(volume, object);
}

/* Of a directory that was removed since, the changes of its entries may be still on the way. */
int local_sync(struct volume *volume, const struct handle *handle)
{
	struct local_object object;
	int rc = local_object_open(volume, handle, &object);

	if (rc == -ESTALE)
		rc = sync_unopenable(volume);
	else if (!rc) {
		rc = local_object_sync(volume, &object);
		local_object_close(&object);
	}
	local_identity_end();
	return rc;
}

void local_attributes_get(const struct local_object *object, struct backend_attributes *out)
{
	out->valid = !fstat(object->fd, &out->st);
	out->st.st_ino ^= object->mask;
}

int local_found_get(struct volume *volume, const struct local_object *object, struct backend_found *found)
{
	struct local_root kernel;
	int rc = local_handle_get(object->fd, &kernel);

	if (rc)
		return rc;
	*found = (struct backend_found){
		.handle = {
			.type = HANDLE_LOCAL,
			.volume = volume->id,
			.backend_type = kernel.backend_type,
			.backend_len = kernel.backend_len,
		},
	};
	memcpy(found->handle.backend, kernel.backend, kernel.backend_len);
	local_attributes_get(object, &found->attributes);
	return 0;
}

static bool is_root(const struct local_volume *local, const struct stat *st)
{
	return st->st_dev == local->root_dev && st->st_ino == local->root_ino;
}

/* By paths, since the user may lack the permission to walk up. A path too long to be told counts as outside. */
static bool is_inside(const struct local_volume *local, int fd)
{
	char root[PATH_MAX], path[PATH_MAX];
	size_t len;

	if (local_path_told(local->root_fd, root) || local_path_told(fd, path))
		return false;
	len = strlen(root);
	return strncmp(path, root, len) == 0 && (!path[len] || path[len] == '/' || len == 1);
}

/* glibc has no wrapper. RESOLVE_NO_XDEV: mount points are not crossed, not even by a bind mount of a file. */
static int open_entry(int dir_fd, const char *name)
{
	bool may_wait = patience_may_wait();
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | (may_wait ? 0 : RESOLVE_CACHED),
	};
	int fd = (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));

	if (fd >= 0)
		return fd;
	if (errno == EAGAIN && !may_wait)
		return -ERESTART;
	return errno == EXDEV ? -EACCES : -errno;
}

/* Most entries are in the subvolume of their directory. */
static int find_mask(const struct local_volume *local, const struct local_object *dir, struct local_object *entry)
{
	struct local_root key;
	int rc = 0;

	if (entry->st.st_dev == dir->st.st_dev)
		entry->mask = dir->mask;
	else if (local->subvolume && (rc = local_handle_get(entry->fd, &key)) == 0)
		entry->mask = local_mask_of(local, &key);
	entry->st.st_ino ^= entry->mask;
	return rc;
}

int local_object_find(struct volume *volume, const struct local_object *dir, const char *name,
		      struct local_object *object)
{
	const struct local_volume *local = volume->state;
	bool up = !strcmp(name, "..") && !is_root(local, &dir->st);
	struct local_object opened = { .fd = -1 };
	int rc;

	if (local_is_reserved(volume, dir, name))
		return -ENOENT;
	opened.fd = open_entry(dir->fd, up || strcmp(name, "..") ? name : ".");
	if (opened.fd < 0)
		return opened.fd;
	if ((up && !is_inside(local, opened.fd)) || fstat(opened.fd, &opened.st)) {
		close(opened.fd);
		return -EACCES;
	}
	rc = find_mask(local, dir, &opened);
	if (rc) {
		close(opened.fd);
		return rc;
	}
	*object = opened;
	return 0;
}

int local_begin(struct volume *volume, const struct credentials *who, const struct handle *handle,
		struct local_object *object, struct backend_attributes *after)
{
	int rc;

	after->valid = false;
	rc = local_object_open(volume, handle, object);
	if (rc)
		return rc;
	rc = local_identity_assume(who);
	return rc ? local_end(object, after, rc) : 0;
}

int local_begin_change(struct volume *volume, const struct credentials *who, const struct handle *handle,
		       struct local_object *object, struct backend_change *change)
{
	int rc;

	change->before.valid = false;
	rc = local_begin(volume, who, handle, object, &change->after);
	if (!rc)
		change->before = (struct backend_attributes){ .valid = true, .st = object->st };
	return rc;
}

static pthread_mutex_t *lock_of(struct volume *volume, const struct local_object *object)
{
	struct local_volume *local = volume->state;

	return object ? &local->changing[object->st.st_ino % LOCAL_LOCKS] : NULL;
}

/* Two in the order of their addresses, or two renames in opposite directions would wait for each other. */
void local_change_lock(struct volume *volume, const struct local_object *a, const struct local_object *b)
{
	pthread_mutex_t *one = lock_of(volume, a), *other = lock_of(volume, b);

	if (other && other < one)
		pthread_mutex_lock(other);
	pthread_mutex_lock(one);
	if (other && other > one)
		pthread_mutex_lock(other);
}

void local_change_unlock(struct volume *volume, const struct local_object *a, const struct local_object *b)
{
	pthread_mutex_t *one = lock_of(volume, a), *other = lock_of(volume, b);

	if (other && other != one)
		pthread_mutex_unlock(other);
	pthread_mutex_unlock(one);
}

void local_change_begin(struct volume *volume, const struct local_object *object, struct backend_change *change)
{
	local_change_lock(volume, object, NULL);
	local_attributes_get(object, &change->before);
}

void local_change_end(struct volume *volume, const struct local_object *object, struct backend_change *change)
{
	local_attributes_get(object, &change->after);
	local_change_unlock(volume, object, NULL);
}

int local_end(struct local_object *object, struct backend_attributes *after, int rc)
{
	local_identity_end();
	if (!after->valid)
		local_attributes_get(object, after);
	local_object_close(object);
	return rc;
}
