/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/backend.h - what a protocol engine asks of a file system
 *
 * A backend is a table of functions that act on one volume: `pseudo` (common/pseudo.h) answers for the virtual root,
 * `local` (slave/local.h) for a directory tree of this node. Volumes of other devices are not reached through this
 * table: their calls are relayed whole (common/relay.h). Nothing here knows of RPC or NFS.
 *
 * All functions return 0 or a negative errno value; the protocol's status is made in one place, at the edge. Outputs
 * named `before` and `after` (and `dir_after`, ...) are optional facts: `valid` says whether they were had, and they are
 * filled on failure too where they could be. Other outputs are untouched on failure.
 *
 * Names are any bytes but '/' and NUL, NUL-terminated, 1 to 255 bytes; the engine has checked that and that a
 * name that creates or removes is neither "." nor "..". LOOKUP of "." and ".." does reach the backend; ".." of the
 * volume's root gives the root itself, and the engine answers for the virtual root's parent.
 *
 * Ownership: everything is borrowed for the call.
 * Threads: a backend's functions may be called from any thread that is ready to block.
 */
#ifndef VNAS_COMMON_BACKEND_H
#define VNAS_COMMON_BACKEND_H

#include "common/group_set.h"
#include "common/handle.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

enum { CREDENTIALS_GROUPS_MAX = 16 }; /* AUTH_SYS, RFC 5531, appendix A */

/* Who asks, after squashing. The kernel checks permissions with exactly this. */
struct credentials {
	uint32_t uid;
	uint32_t gid;
	uint32_t group_count;
	uint32_t groups[CREDENTIALS_GROUPS_MAX];
	const struct group_set *group_set; /* if not NULL, instead of `groups`; borrowed */
};

/* Attributes that may be missing. */
struct backend_attributes {
	bool valid;
	struct stat st;
};

/* Weak cache consistency data, RFC 1813, 2.6. */
struct backend_change {
	struct backend_attributes before;
	struct backend_attributes after;
};

/* What SETATTR and the creating operations set; RFC 1813, 2.6, sattr3. */
struct backend_set {
	bool set_mode, set_uid, set_gid, set_size;
	uint32_t mode; /* 07777 */
	uint32_t uid, gid;
	uint64_t size;
	enum backend_set_time { BACKEND_TIME_KEEP, BACKEND_TIME_SERVER, BACKEND_TIME_CLIENT } set_atime, set_mtime;
	struct timespec atime, mtime;
};

/* How CREATE treats an existing file; RFC 1813, 3.3.8. */
enum backend_create_mode { BACKEND_CREATE_UNCHECKED, BACKEND_CREATE_GUARDED, BACKEND_CREATE_EXCLUSIVE };

/* How far data must be before WRITE returns; RFC 1813, 3.3.7. */
enum backend_stability { BACKEND_UNSTABLE, BACKEND_DATA_SYNC, BACKEND_FILE_SYNC };

/* An object found or made. */
struct backend_found {
	struct handle handle;
	struct backend_attributes attributes;
};

/* One directory entry handed to a `backend_entry` function. */
struct backend_entry {
	uint64_t fileid;
	uint64_t cookie; /* continues after this entry */
	const char *name;
	/* Only when the caller asked for handles and attributes, and then still optional: */
	bool has_found;
	struct backend_found found;
};

/* Returns false when the reply is full; that entry will be asked for again. */
typedef bool (*backend_entry_fn)(const struct backend_entry *entry, void *arg);

/* The limits of a file system; RFC 1813, 3.3.20. */
struct backend_limits {
	uint32_t link_max;
	uint32_t name_max;
	uint64_t file_size_max;
	struct timespec time_delta;
	bool has_links, has_symlinks, no_truncate, chown_restricted, case_insensitive, case_preserving;
};

/* Which ACL: the one that counts, or the one that a directory gives to what is made in it. */
enum backend_acl_kind { BACKEND_ACL_ACCESS, BACKEND_ACL_DEFAULT };

enum { BACKEND_ACL_MAX = 1024 };

/* POSIX.1e draft 17, 23; the numbers are the kernel's (linux/posix_acl.h) and NFSACL's. */
enum backend_acl_tag {
	BACKEND_ACL_USER_OBJ = 0x01,
	BACKEND_ACL_USER = 0x02,
	BACKEND_ACL_GROUP_OBJ = 0x04,
	BACKEND_ACL_GROUP = 0x08,
	BACKEND_ACL_MASK = 0x10,
	BACKEND_ACL_OTHER = 0x20,
};

struct backend_acl_entry {
	enum backend_acl_tag tag;
	uint32_t permissions; /* R_OK | W_OK | X_OK */
	uint32_t id;	      /* of BACKEND_ACL_USER and BACKEND_ACL_GROUP; else 0 */
};

/* No entries: there is none. */
struct backend_acl {
	uint32_t count;
	struct backend_acl_entry entries[BACKEND_ACL_MAX]; /* by tag, then by id */
};

enum backend_quota_kind { BACKEND_QUOTA_USER, BACKEND_QUOTA_GROUP };

/* What somebody may use of a file system, and uses. A limit of 0 is none. */
struct backend_quota {
	uint64_t byte_hard, byte_soft, bytes;
	uint64_t file_hard, file_soft, files;
	uint64_t byte_grace_end, file_grace_end; /* seconds since 1970; 0: no grace time runs */
};

struct page_pipe; /* common/page_pipe.h */
struct volume;

/* A backend may lack what is said to be optional: the engine answers for it that it is not supported. */
struct backend {
	const char *name;

	int (*getattr)(struct volume *volume, const struct handle *object, struct stat *st);

	/* @guard: if not NULL, the ctime the object must have; -EAGAIN if it has another (NFS3ERR_NOT_SYNC) */
	int (*setattr)(struct volume *volume, const struct credentials *who, const struct handle *object,
		       const struct backend_set *set, const struct timespec *guard, struct backend_change *change);

	int (*lookup)(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		      struct backend_found *found, struct backend_attributes *dir_after);

	/* @allowed: out: those bits of @wanted (R_OK, W_OK, X_OK) that @who has; @st: always filled on success */
	int (*access)(struct volume *volume, const struct credentials *who, const struct handle *object, int wanted,
		      int *allowed, struct stat *st);

	/* @target: PATH_MAX bytes of room, NUL-terminated on success */
	int (*readlink)(struct volume *volume, const struct credentials *who, const struct handle *object, char *target,
			struct backend_attributes *after);

	/* @got: out: bytes read into @data, fewer than @len only at the end of file; @end: out: end of file reached */
	int (*read)(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
		    void *data, size_t len, size_t *got, bool *end, struct backend_attributes *after);

	/*
	 * The same into an empty pipe, for page_pipe_fits() @offset and @len. NULL if this backend can't.
	 */
	int (*read_pages)(struct volume *volume, const struct credentials *who, const struct handle *object,
			  uint64_t offset, struct page_pipe *pages, size_t len, size_t *got, bool *end,
			  struct backend_attributes *after);

	/* @written: out: at least 1 unless @len is 0; @stability: in: wanted, out: reached (never less) */
	int (*write)(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
		     const void *data, size_t len, enum backend_stability *stability, size_t *written,
		     struct backend_change *change);

	/* @verifier: for BACKEND_CREATE_EXCLUSIVE, 8 bytes that make a repeated call succeed; else NULL */
	int (*create)(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		      enum backend_create_mode mode, const struct backend_set *set, const uint8_t *verifier,
		      struct backend_found *found, struct backend_change *dir_change);

	int (*mkdir)(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		     const struct backend_set *set, struct backend_found *found, struct backend_change *dir_change);

	int (*symlink)(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		       const char *target, const struct backend_set *set, struct backend_found *found,
		       struct backend_change *dir_change);

	/* @type: S_IFCHR, S_IFBLK, S_IFIFO or S_IFSOCK */
	int (*mknod)(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		     mode_t type, uint32_t major, uint32_t minor, const struct backend_set *set,
		     struct backend_found *found, struct backend_change *dir_change);

	int (*remove)(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		      struct backend_change *dir_change);

	int (*rmdir)(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		     struct backend_change *dir_change);

	int (*rename)(struct volume *volume, const struct credentials *who, const struct handle *from_dir,
		      const char *from_name, const struct handle *to_dir, const char *to_name,
		      struct backend_change *from_change, struct backend_change *to_change);

	int (*link)(struct volume *volume, const struct credentials *who, const struct handle *object,
		    const struct handle *dir, const char *name, struct backend_attributes *after,
		    struct backend_change *dir_change);

	/*
	 * Entries after @cookie (0: from the start, "." and ".." included) until the directory or the caller's
	 * patience ends. @found: hand handles and attributes with each entry. @end: out: the last entry was taken.
	 * @verifier: in: the client's (0 with cookie 0), out: the directory's; -EINVAL if @cookie can't be continued
	 */
	int (*readdir)(struct volume *volume, const struct credentials *who, const struct handle *dir, uint64_t cookie,
		       uint64_t *verifier, bool found, backend_entry_fn entry, void *arg, bool *end,
		       struct backend_attributes *dir_after);

	/*
	 * Where @object is at the moment, from the volume's root, which is "", without a slash at either end. What
	 * is no directory may have several places; it is sought in @directory first, where it was found once, unless NULL.
	 * @path: PATH_MAX bytes of room. -ESTALE if it can't be told, and looking it up by its name would help
	 */
	int (*place)(struct volume *volume, const struct handle *object, const struct handle *directory, char *path);

	int (*statfs)(struct volume *volume, const struct credentials *who, const struct handle *object,
		      struct statvfs *statvfs, struct backend_attributes *after);

	int (*limits)(struct volume *volume, const struct handle *object, struct backend_limits *limits,
		      struct backend_attributes *after);

	/*
	 * A descriptor of a regular file for locks: byte ranges, any of them; closed by the caller. Open for writing unless
	 * nobody can write the file. -EACCES if @who may neither read nor write it. NULL: there are no locks here.
	 */
	int (*open_locks)(struct volume *volume, const struct credentials *who, const struct handle *object, int *fd);

	/* Everything written to the file is on stable storage on return. */
	int (*commit)(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
		      uint64_t len, struct backend_change *change);

	/*
	 * Optional. What operations on @object have changed in a group (common/group_commit.h) is on stable storage on return. If the
	 * object is gone by now, so is what was before.
	 */
	int (*sync)(struct volume *volume, const struct handle *object);

	/*
	 * Optional. Without an ACL of its own an object has the access ACL that its mode says, and no default one.
	 * -EOPNOTSUPP if the file system has no ACLs
	 */
	int (*get_acl)(struct volume *volume, const struct handle *object, enum backend_acl_kind kind,
		       struct backend_acl *acl, struct backend_attributes *after);

	/* Optional. @access, @default_acl: NULL: stays as it is; without entries: taken away */
	int (*set_acl)(struct volume *volume, const struct credentials *who, const struct handle *object,
		       const struct backend_acl *access, const struct backend_acl *default_acl,
		       struct backend_attributes *after);

	/* Optional. A negative errno value if there are no quotas of this kind, or none for this user or group */
	int (*quota)(struct volume *volume, enum backend_quota_kind kind, uint32_t id, struct backend_quota *quota);
};

/*
 * One volume that this device serves itself. The backend that opened it owns it.
 *
 * The write verifier changes exactly when unstable data may have been lost; RFC 1813, 3.3.7.
 */
struct volume {
	uint32_t id;
	uint64_t fsid;
	uint64_t write_verifier;
	struct handle root;
	uint32_t spread; /* the spread directory that this is a branch of; 0: none */
	uint64_t fileid_mask; /* of a branch; namespace_branch_mask() */
	const struct backend *backend;
	void *state; /* the backend's own */
};

#endif
