/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/local_internal.h - what the files of the local backend share
 *
 *	local.c			opening and closing a volume, the table
 *	local_identity.c	acting as the client's user
 *	local_cache.c		objects that stay open
 *	local_object.c		handles, descriptors, durability: what every operation starts and ends with
 *	local_file.c		operations on one object: attributes read, data, limits
 *	local_set.c		SETATTR, and dressing new objects
 *	local_lock.c		descriptors for locks
 *	local_make.c		CREATE, MKDIR, SYMLINK, MKNOD
 *	local_place.c		where an object is
 *	local_dir.c		LOOKUP, READDIR, and changes of entries that exist
 *	local_acl.c		POSIX ACLs
 *	local_quota.c		quotas
 *
 * The shape of an operation. An object is opened by its handle as root, without being read (O_PATH); the thread
 * becomes the client's user; the object is acted upon through that descriptor, so that the kernel checks permissions
 * and no path is walked twice; the thread has root's powers again; what has changed is made durable; the attributes after
 * the operation are read; the object is closed. local_begin() and local_end() are the two ends of it. What changes entries or
 * attributes reads them before and after under a lock of the object, local_change_begin() and local_change_end(), before it
 * is made durable.
 */
#ifndef VNAS_SLAVE_LOCAL_INTERNAL_H
#define VNAS_SLAVE_LOCAL_INTERNAL_H

#include "common/backend.h"

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/stat.h>

struct local_cache; /* slave/local_cache.h */
struct local_open;
struct local_root;

enum { LOCAL_LOCKS = 1024 };

struct local_volume {
	struct volume volume;
	int root_fd; /* open for reading: open_by_handle_at(2) refuses O_PATH here */
	dev_t root_dev;
	ino_t root_ino;
	uint64_t subvolume; /* of the root, on Btrfs; else 0 */
	struct timespec time_delta; /* the least difference of two times of a file */
	bool is_prompt; /* a file system of which memory alone answers what is in memory; the loop may ask it */
	bool has_strict_atime; /* each reading of a file changes the time of its last access */
	struct local_cache *cache;
	pthread_mutex_t changing[LOCAL_LOCKS]; /* by inode number; local_change_lock() */
	pthread_mutex_t syncing[LOCAL_LOCKS];  /* so, too; local_file_sync() */
};

/* An open object: a descriptor good for *at() calls with AT_EMPTY_PATH, not for data. */
struct local_object {
	int fd;
	struct stat st; /* when the operation began; its type never changes. The inode number is unique in the volume */
	uint64_t mask;	/* what makes it so, of what is in another subvolume than the root; local_mask_of() */
	struct local_open *open; /* the cache's, and so is fd; or NULL */
};

/* --- local_identity.c --- */

/* Whom an operation acts as that needs no permission beyond the handle, and makes nothing. Known by its address. */
extern const struct credentials local_as_root;

/**
 * local_identity_assume() - let the calling thread, and no other, act as a client's user
 * @who:	after squashing; costs next to nothing if the thread acted as the same user last
 *
 * The thread then has no capability, unless the user is an unsquashed root.
 *
 * Return: 0; -EACCES if the kernel does not take the identity, and then the thread is root
 */
int local_identity_assume(const struct credentials *who);

/* The calling thread has root's powers again, for what the client's user may not. It still has the user's ids. */
void local_identity_root(void);

/*
 * The operation is over. The process's first thread is root again, as if nothing had been. Others stay what they are:
 * they do nothing but operations, each of which assumes an identity before it matters.
 */
void local_identity_end(void);

/* --- local_object.c --- */

/**
 * local_handle_get() - the kernel's name of an open object
 * @fd:		any descriptor, O_PATH too
 * @out:	untouched on failure
 *
 * Return: 0; -EOPNOTSUPP if the file system has none; -EOVERFLOW if it is longer than HANDLE_BACKEND_MAX
 */
int local_handle_get(int fd, struct local_root *out);

/* Room for local_fd_path()'s result. */
enum { LOCAL_FD_PATH_BYTES = sizeof("/proc/self/fd/-2147483648") };

/*
 * Where the kernel shows a descriptor of this process, for what can't be asked of an O_PATH descriptor itself; a thread may always
 * use its own. Returns @path.
 */
const char *local_fd_path(int fd, char path[static LOCAL_FD_PATH_BYTES]);

/* The path that the kernel tells of an open object. 0; -ENAMETOOLONG: it is too long to be told whole; -ENOENT, ... */
int local_path_told(int fd, char path[static PATH_MAX]);

/* The kernel's name of an entry of a directory, as above; a symbolic link is not followed. -ENOENT, ... */
int local_handle_at(int dir_fd, const char *name, struct local_root *out);

/*
 * Takes root's powers. -ESTALE if the object is gone or the handle is not of this volume; -ERESTART if the disk would have to
 * be asked and the thread has no patience (common/patience.h).
 */
int local_object_open(struct volume *volume, const struct handle *handle, struct local_object *object);
void local_object_close(struct local_object *object);

/* An object that was found by its name: keep it open after local_object_close(), if it is not already, and there is room. */
void local_object_keep(struct volume *volume, const struct handle *handle, struct local_object *object);

/**
 * local_object_reopen() - a descriptor for data
 * @object:	a regular file or a directory; anything else would have effects of its own when opened
 * @flags:	as for open(2)
 *
 * Return: the descriptor or a negative errno value
 */
int local_object_reopen(const struct local_object *object, int flags);

/**
 * local_object_reopen_as() - a descriptor for data, with the rights an NFS client expects
 * @object:	a regular file
 * @who:	the identity the thread has, and has afterwards
 * @flags:	O_RDONLY or O_WRONLY
 *
 * A file's owner may read and write it whatever its mode says: the client checked when the file was opened there,
 * and the mode may have changed since. Who may execute a file may read it: the client pages it in by READ.
 *
 * Return: the descriptor; -EACCES and other negative errno values
 * Source: RFC 1813, 4.4
 */
int local_object_reopen_as(const struct local_object *object, const struct credentials *who, int flags);

/*
 * Ask the kernel whether @who, who the thread is, has all of @rights (R_OK and so on). 0; -EACCES, ...; -ERESTART if that may take
 * an ACL from the disk and the thread has no patience.
 */
int local_object_ask(const struct local_object *object, const struct credentials *who, int rights);

/**
 * local_object_data() - the same, kept open with the object
 *
 * Whoever it was opened for, @who's permission is asked for each time. Return: the descriptor, to be given to
 * local_object_data_done(); as above, and -ERESTART if it is not open yet and the thread has no patience
 */
int local_object_data(const struct local_object *object, const struct credentials *who, int flags);
void local_object_data_done(const struct local_object *object, int fd);

/* 0 for a regular file; -EINVAL, which RFC 1813, 3.3.6 and 3.3.7, want for directories, too. */
int local_object_need_regular(const struct local_object *object);

/**
 * local_object_sync() - make all that is known of an object durable
 *
 * Only as root. A directory's entries are part of it. With a symbolic link or a special file, which can't be opened for
 * fsync(2), goes more: all changes of metadata before it (ext4, XFS, Btrfs), or the whole file system (others).
 */
int local_object_sync(struct volume *volume, const struct local_object *object);

/* The same for the object that an operation is about; in a group (common/group_commit.h) it is left to local_sync(). */
int local_object_settle(struct volume *volume, const struct local_object *object);

/* fsync(2) or fdatasync(2); if it fails, unstable data of any file may be lost and the write verifier changes. */
int local_fd_sync(struct volume *volume, int fd, bool data_only);

/*
 * The same for the data of a file. One at a time: a failure is told once, and when this returns 0 the write verifier already
 * tells of the failures that others were told.
 */
int local_file_sync(struct volume *volume, const struct local_object *file, int fd, bool data_only);

uint64_t local_verifier_new(void);
uint64_t local_verifier_get(const struct volume *volume);

/*
 * A Btrfs numbers the inodes of each subvolume and snapshot by themselves. Their numbers are made unique by something that is
 * bound to the subvolume for ever: programs that find a number twice take two files for one. 0 for whatever is in the
 * root's subvolume, and on other file systems.
 */
uint64_t local_mask_of(const struct local_volume *local, const struct local_root *key);
uint64_t local_subvolume_of(const struct local_root *key);

void local_attributes_get(const struct local_object *object, struct backend_attributes *out);

/* What the protocol engine wants to know of an open object. @found: untouched on failure. */
int local_found_get(struct volume *volume, const struct local_object *object, struct backend_found *found);

/**
 * local_object_find() - open an entry of a directory, with the thread's rights
 * @dir:	the directory
 * @name:	the entry; "." and ".." too
 * @object:	out: untouched on failure; closed with local_object_close()
 *
 * Never leaves the volume: ".." of its root is the root, and behind a mount point there is nothing for clients.
 *
 * Return: 0; -ERESTART as local_object_open(); -EACCES for a mount point, or if ".." is outside because somebody moved @dir out of the volume
 */
int local_object_find(struct volume *volume, const struct local_object *dir, const char *name,
		      struct local_object *object);

/**
 * local_begin() - open an object and assume an identity
 * @object:	out: to be given to local_end() if this succeeds
 * @after:	out: made invalid; local_end() fills it
 *
 * Return: 0, and then the thread has the identity of @who; on failure it is root and nothing is open
 */
int local_begin(struct volume *volume, const struct credentials *who, const struct handle *handle,
		struct local_object *object, struct backend_attributes *after);

/* The same for an operation that changes the object. */
int local_begin_change(struct volume *volume, const struct credentials *who, const struct handle *handle,
		       struct local_object *object, struct backend_change *change);

/**
 * local_change_lock() - be alone in changing entries or attributes
 * @a:		a directory, or an object that is dressed
 * @b:		another one, or the same, or NULL
 *
 * What the client is told of an object before and after an operation is to be of this operation alone, or it would take a
 * change by somebody else for its own; RFC 1813, 2.6, wcc_data. The kernel keeps its lock for as long as one call
 * lasts, so ours is around the call and the two readings. It says nothing of what programs on this machine do. Not
 * to be held while something is made durable.
 */
void local_change_lock(struct volume *volume, const struct local_object *a, const struct local_object *b);
void local_change_unlock(struct volume *volume, const struct local_object *a, const struct local_object *b);

/* Of one object: lock it and read its attributes; read its attributes and unlock it. */
void local_change_begin(struct volume *volume, const struct local_object *object, struct backend_change *change);
void local_change_end(struct volume *volume, const struct local_object *object, struct backend_change *change);

/*
 * End acting as the client's user, read the attributes unless they are there, close. Returns @rc, so that an operation can
 * end with it.
 */
int local_end(struct local_object *object, struct backend_attributes *after, int rc);

/* --- local_reserved.c --- */

/* Is this the name that is not for clients (LOCAL_RESERVED of slave/local.h), in this directory? */
bool local_is_reserved(const struct volume *volume, const struct local_object *dir, const char *name);

/* --- local_set.c --- */

static inline bool local_time_is(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool local_set_is_empty(const struct backend_set *set);

/**
 * local_set_apply() - set attributes with the thread's rights
 * @who:	the identity the thread has, and has afterwards
 *
 * Size first, because it needs another permission than the rest; owner before mode, because a change of owner clears
 * the setuid bit; times last, because all others touch them. Not yet durable on return.
 */
int local_set_apply(const struct credentials *who, const struct local_object *object, const struct backend_set *set);

/* --- the operations, as in struct backend --- */

int local_getattr(struct volume *volume, const struct handle *object, struct stat *st);
int local_setattr(struct volume *volume, const struct credentials *who, const struct handle *object,
		  const struct backend_set *set, const struct timespec *guard, struct backend_change *change);
int local_lookup(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		 struct backend_found *found, struct backend_attributes *dir_after);
int local_access(struct volume *volume, const struct credentials *who, const struct handle *object, int wanted,
		 int *allowed, struct stat *st);
int local_readlink(struct volume *volume, const struct credentials *who, const struct handle *object, char *target,
		   struct backend_attributes *after);
int local_read(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
	       void *data, size_t len, size_t *got, bool *end, struct backend_attributes *after);
int local_read_pages(struct volume *volume, const struct credentials *who, const struct handle *object,
		     uint64_t offset, struct page_pipe *pages, size_t len, size_t *got, bool *end,
		     struct backend_attributes *after);
int local_write(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
		const void *data, size_t len, enum backend_stability *stability, size_t *written,
		struct backend_change *change);
int local_create(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		 enum backend_create_mode mode, const struct backend_set *set, const uint8_t *verifier,
		 struct backend_found *found, struct backend_change *dir_change);
int local_mkdir(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		const struct backend_set *set, struct backend_found *found, struct backend_change *dir_change);
int local_symlink(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		  const char *target, const struct backend_set *set, struct backend_found *found,
		  struct backend_change *dir_change);
int local_mknod(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		mode_t type, uint32_t major, uint32_t minor, const struct backend_set *set,
		struct backend_found *found, struct backend_change *dir_change);
int local_remove(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		 struct backend_change *dir_change);
int local_rmdir(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		struct backend_change *dir_change);
int local_rename(struct volume *volume, const struct credentials *who, const struct handle *from_dir,
		 const char *from_name, const struct handle *to_dir, const char *to_name,
		 struct backend_change *from_change, struct backend_change *to_change);
int local_link(struct volume *volume, const struct credentials *who, const struct handle *object,
	       const struct handle *dir, const char *name, struct backend_attributes *after,
	       struct backend_change *dir_change);
int local_readdir(struct volume *volume, const struct credentials *who, const struct handle *dir, uint64_t cookie,
		  uint64_t *verifier, bool found, backend_entry_fn entry, void *arg, bool *end,
		  struct backend_attributes *dir_after);
int local_place(struct volume *volume, const struct handle *object, const struct handle *directory, char *path);
int local_statfs(struct volume *volume, const struct credentials *who, const struct handle *object,
		 struct statvfs *statvfs, struct backend_attributes *after);
int local_limits(struct volume *volume, const struct handle *object, struct backend_limits *limits,
		 struct backend_attributes *after);
int local_commit(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
		 uint64_t len, struct backend_change *change);
int local_sync(struct volume *volume, const struct handle *object);
int local_get_acl(struct volume *volume, const struct handle *object, enum backend_acl_kind kind,
		  struct backend_acl *acl, struct backend_attributes *after);
int local_set_acl(struct volume *volume, const struct credentials *who, const struct handle *object,
		  const struct backend_acl *access, const struct backend_acl *default_acl,
		  struct backend_attributes *after);
int local_quota(struct volume *volume, enum backend_quota_kind kind, uint32_t id, struct backend_quota *quota);
int local_open_locks(struct volume *volume, const struct credentials *who, const struct handle *object, int *fd);

#endif
