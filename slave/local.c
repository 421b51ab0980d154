/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local.h"

#include "slave/local_cache.h"
#include "slave/local_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

static const struct backend local_backend = {
	.name = "local",
	.getattr = local_getattr,
	.setattr = local_setattr,
	.lookup = local_lookup,
	.access = local_access,
	.readlink = local_readlink,
	.read = local_read,
	.read_pages = local_read_pages,
	.write = local_write,
	.create = local_create,
	.mkdir = local_mkdir,
	.symlink = local_symlink,
	.mknod = local_mknod,
	.remove = local_remove,
	.rmdir = local_rmdir,
	.rename = local_rename,
	.link = local_link,
	.readdir = local_readdir,
	.place = local_place,
	.statfs = local_statfs,
	.limits = local_limits,
	.commit = local_commit,
	.sync = local_sync,
	.get_acl = local_get_acl,
	.set_acl = local_set_acl,
	.quota = local_quota,
	.open_locks = local_open_locks,
};

static int root_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Others (FUSE, NFS, ...) may ask somebody who does not answer whenever they are asked anything. */
static bool is_prompt(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	return fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC ||
	       fs.f_type == TMPFS_MAGIC;
}

static bool has_strict_atime(int fd)
{
	struct statvfs fs;

	return !fstatvfs(fd, &fs) && !(fs.f_flag & (ST_NOATIME | ST_RELATIME | ST_RDONLY));
}

/* How fine times are. The kernel does not say so, but cuts off what the file system does not keep; a file without a name shows it. */
static struct timespec time_delta(int root_fd)
{
	const struct timespec finest[2] = { { .tv_nsec = 999999999 }, { .tv_nsec = 999999999 } };
	int fd = openat(root_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	struct timespec delta = { .tv_nsec = 1 };
	struct stat st;

	if (fd < 0)
		return delta;
	if (!futimens(fd, finest) && !fstat(fd, &st))
		delta = st.st_mtim.tv_nsec ? (struct timespec){ .tv_nsec = 1000000000 - st.st_mtim.tv_nsec } :
					     (struct timespec){ .tv_sec = 1 };
	close(fd);
	return delta;
}

static uint64_t subvolume_of_root(int fd, const struct handle *handle)
{
	struct local_root key = { .backend_len = handle->backend_len };
	struct statfs fs;

	memcpy(key.backend, handle->backend, handle->backend_len);
	return !fstatfs(fd, &fs) && fs.f_type == BTRFS_SUPER_MAGIC ? local_subvolume_of(&key) : 0;
}

static int root_fill(struct local_volume *local)
{
	struct volume *volume = &local->volume;
	struct local_object root = { .fd = local->root_fd };
	struct backend_found found;
	int rc = local_found_get(volume, &root, &found);

	if (rc)
		return rc;
	if (!found.attributes.valid)
		return -EIO;
	volume->root = found.handle;
	local->is_prompt = is_prompt(local->root_fd);
	local->has_strict_atime = has_strict_atime(local->root_fd);
	local->root_dev = found.attributes.st.st_dev;
	local->root_ino = found.attributes.st.st_ino;
	local->subvolume = subvolume_of_root(local->root_fd, &found.handle);
	local->time_delta = time_delta(local->root_fd);
	return 0;
}

/* Of a failure here nobody would hear any more: it changes the write verifier. */
static void sync_before_close(int fd, void *arg)
{
	struct local_object file = { .fd = fd };

	if (fstat(fd, &file.st) == 0)
		local_file_sync(arg, &file, fd, true);
}

int local_open(const char *path, uint32_t id, uint64_t fsid, struct volume **out)
{
	struct local_volume *local = calloc(1, sizeof(*local));
	int rc;

	if (!local)
		return -ENOMEM;
	local->volume = (struct volume){
		.id = id,
		.fsid = fsid,
		.write_verifier = local_verifier_new(),
		.backend = &local_backend,
		.state = local,
	};
	for (size_t i = 0; i < LOCAL_LOCKS; i++) {
		pthread_mutex_init(&local->changing[i], NULL);
		pthread_mutex_init(&local->syncing[i], NULL);
	}
	local->root_fd = root_open(path);
	local->cache = local_cache_new(sync_before_close, &local->volume);
	rc = local->root_fd < 0 ? local->root_fd : local->cache ? root_fill(local) : -ENOMEM;
	if (rc) {
		local_close(&local->volume);
		return rc;
	}
	*out = &local->volume;
	return 0;
}

int local_become_branch(struct volume *volume, const struct local_branch *branch)
{
	struct local_volume *local = volume->state;
	struct stat st;

	if (fstat(local->root_fd, &st))
		return -errno;
	if ((st.st_uid != branch->uid || st.st_gid != branch->gid) && fchown(local->root_fd, branch->uid, branch->gid))
		return -errno;
	if ((st.st_mode & 07777) != branch->mode && fchmod(local->root_fd, branch->mode))
		return -errno;
	volume->spread = branch->spread;
	volume->fsid = branch->fsid;
	volume->fileid_mask = branch->fileid_mask;
	local->root_ino ^= branch->fileid_mask;
	return 0;
}

void local_close(struct volume *volume)
{
	struct local_volume *local;

	if (!volume)
		return;
	local = volume->state;
	local_cache_free(local->cache);
	if (local->root_fd >= 0)
		close(local->root_fd);
	for (size_t i = 0; i < LOCAL_LOCKS; i++) {
		pthread_mutex_destroy(&local->changing[i]);
		pthread_mutex_destroy(&local->syncing[i]);
	}
	free(local);
}

static int probe_open(const char *path, struct volume **volume, const char **why)
{
	int rc = local_open(path, 1, 0, volume);

	switch (-rc) {
	case 0:
		break;
	case ENOENT:
		*why = "the directory does not exist; create it or correct the path";
		break;
	case ENOTDIR:
		*why = "this is not a directory; a volume is a directory, usually the top of a file system";
		break;
	case EOPNOTSUPP:
		*why = "this file system has no file handles; use ext4, XFS or Btrfs";
		break;
	case EOVERFLOW:
		*why = "the file handles of this file system are too long for NFSv3; use ext4, XFS or Btrfs";
		break;
	default:
		*why = "the directory can't be opened";
	}
	return rc;
}

/* Does the two things that need a capability. */
static int probe_capabilities(struct volume *volume, const char **why)
{
	static const struct credentials nobody = { .uid = 65534, .gid = 65534 };
	struct local_object root;
	int rc = local_object_open(volume, &volume->root, &root);

	if (rc) {
		*why = "the directory can't be opened by its handle; vnasd needs CAP_DAC_READ_SEARCH";
		return rc;
	}
	local_object_close(&root);

	rc = local_identity_assume(&nobody);
	local_identity_end();
	if (rc) {
		*why = "vnasd can't act for its clients' users; it needs CAP_SETUID and CAP_SETGID";
		return -EPERM;
	}
	return 0;
}

int local_probe(const char *path, struct local_root *root, const char **why)
{
	struct volume *volume;
	int rc = probe_open(path, &volume, why);

	if (rc)
		return rc;
	rc = probe_capabilities(volume, why);
	if (!rc) {
		*root = (struct local_root){
			.backend_type = volume->root.backend_type,
			.backend_len = volume->root.backend_len,
		};
		memcpy(root->backend, volume->root.backend, volume->root.backend_len);
	}
	local_close(volume);
	return rc;
}

void local_tidy(struct volume *volume)
{
	struct local_volume *local = volume->state;

	local_cache_tidy(local->cache);
}
