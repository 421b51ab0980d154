/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local_internal.h"

#include "common/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A directory in which something is being made, and what the thread's umask was. */
struct site {
	struct local_object dir;
	mode_t umask;
};

/* What MKDIR, SYMLINK and MKNOD make. */
struct model {
	const char *name;
	mode_t mode; /* with type */
	dev_t device;
	const char *target;
};

/*
 * The client has applied its user's umask; ours must not interfere. A umask belongs to the process, unless a thread
 * asks for its own; unshare(2), CLONE_FS.
 */
static int umask_clear(mode_t *old)
{
	static _Thread_local bool is_own;

	if (!is_own && unshare(CLONE_FS))
		return -errno;
	is_own = true;
	*old = umask(0);
	return 0;
}

static int site_begin(struct volume *volume, const struct credentials *who, const struct handle *dir,
		      struct site *site, struct backend_change *change)
{
	int rc = local_begin_change(volume, who, dir, &site->dir, change);

	if (rc)
		return rc;
	rc = umask_clear(&site->umask);
	if (rc)
		return local_end(&site->dir, &change->after, rc);
	local_change_begin(volume, &site->dir, change);
	return 0;
}

/*
 * The reply promises that the new object and its entry are on stable storage. @has_attributes: they were
 * set in a step of their own, which the directory's sync need not cover.
 */
static int site_end(struct volume *volume, struct site *site, const struct local_object *made, bool has_attributes,
		    struct backend_change *change, int rc)
{
	local_change_end(volume, &site->dir, change);
	umask(site->umask);
	local_identity_root();
	if (!rc && has_attributes)
		rc = local_object_sync(volume, made);
	if (!rc)
		rc = local_object_settle(volume, &site->dir);
	return local_end(&site->dir, &change->after, rc);
}

/* Without a mode from the client an object is its owner's alone. */
static mode_t mode_of(const struct backend_set *set, mode_t otherwise)
{
	return set->set_mode ? set->mode & 07777 : otherwise;
}

/*
 * What is still to be set on a new object: not the mode, which it was made with. As in knfsd, owner and group are only
 * for root; some clients send them with every call.
 */
static struct backend_set rest_of(const struct backend_set *set, const struct credentials *who)
{
	struct backend_set rest = *set;

	rest.set_mode = false;
	rest.set_size = set->set_size && set->size > 0;
	rest.set_uid = set->set_uid && who->uid == 0;
	rest.set_gid = set->set_gid && who->uid == 0;
	return rest;
}

static int make_entry(int dir_fd, const struct model *model)
{
	int failed;

	switch (model->mode & S_IFMT) {
	case S_IFDIR:
		failed = mkdirat(dir_fd, model->name, model->mode & 07777);
		break;
	case S_IFLNK:
		failed = symlinkat(model->target, dir_fd, model->name);
		break;
	default:
		failed = mknodat(dir_fd, model->name, model->mode, model->device);
	}
	return failed ? -errno : 0;
}

static int make_and_set(struct volume *volume, const struct credentials *who, const struct local_object *dir,
			const struct model *model, const struct backend_set *rest, struct local_object *made)
{
	int rc = local_is_reserved(volume, dir, model->name) ? -EACCES : make_entry(dir->fd, model);

	if (!rc)
		rc = local_object_find(volume, dir, model->name, made);
	return rc ? rc : local_set_apply(who, made, rest);
}

static int make(struct volume *volume, const struct credentials *who, const struct handle *dir,
		const struct model *model, const struct backend_set *set, struct backend_found *found,
		struct backend_change *dir_change)
{
	struct backend_set rest = rest_of(set, who);
	struct local_object made = { .fd = -1 };
	struct backend_found facts;
	struct site site;
	int rc;

	rc = site_begin(volume, who, dir, &site, dir_change);
	if (rc)
		return rc;
	rc = make_and_set(volume, who, &site.dir, model, &rest, &made);
	if (!rc)
		rc = local_found_get(volume, &made, &facts);
	rc = site_end(volume, &site, &made, !local_set_is_empty(&rest), dir_change, rc);
	local_object_close(&made);
	if (!rc)
		*found = facts;
	return rc;
}

int local_mkdir(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		const struct backend_set *set, struct backend_found *found, struct backend_change *dir_change)
{
	struct model model = { .name = name, .mode = S_IFDIR | mode_of(set, 0700) };

	return make(volume, who, dir, &model, set, found, dir_change);
}

int local_symlink(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		  const char *target, const struct backend_set *set, struct backend_found *found,
		  struct backend_change *dir_change)
{
	struct model model = { .name = name, .mode = S_IFLNK, .target = target };

	return make(volume, who, dir, &model, set, found, dir_change);
}

int local_mknod(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		mode_t type, uint32_t major, uint32_t minor, const struct backend_set *set,
		struct backend_found *found, struct backend_change *dir_change)
{
	struct model model = { .name = name, .mode = type | mode_of(set, 0600) };

	*dir_change = (struct backend_change){ 0 };
	if (type == S_IFCHR || type == S_IFBLK)
		model.device = makedev(major, minor);
	else if (type != S_IFIFO && type != S_IFSOCK)
		return -EINVAL;
	return make(volume, who, dir, &model, set, found, dir_change);
}

/* --- CREATE --- */

struct creation {
	const char *name;
	enum backend_create_mode mode;
	const struct backend_set *set;
	struct backend_set rest; /* what is set in a step after creating; the verifier, if exclusive */
};

/*
 * An exclusive CREATE leaves its verifier in the times, where a repeated call finds it; the client sets the real ones
 * next. As seconds with a sign, of which every file system we know keeps 32 bits.
 */
static struct backend_set verifier_encode(const uint8_t *verifier)
{
	struct bytes_reader r = bytes_reader_init(verifier, 8);

	return (struct backend_set){
		.set_mtime = BACKEND_TIME_CLIENT,
		.mtime.tv_sec = (int32_t)bytes_get_be32(&r),
		.set_atime = BACKEND_TIME_CLIENT,
		.atime.tv_sec = (int32_t)bytes_get_be32(&r),
	};
}

static bool has_verifier(const struct stat *st, const struct backend_set *verifier)
{
	return st->st_size == 0 && local_time_is(&st->st_mtim, &verifier->mtime) &&
	       local_time_is(&st->st_atim, &verifier->atime);
}

/* Made and opened in one step, so that what is dressed next is what was made, whatever happens to the name. */
static int create_new(const struct local_object *dir, const struct creation *creation, const struct credentials *who,
		      struct local_object *file)
{
	mode_t mode = creation->mode == BACKEND_CREATE_EXCLUSIVE ? 0600 : mode_of(creation->set, 0600);

	file->fd = openat(dir->fd, creation->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (file->fd < 0)
		return -errno;
	if (fstat(file->fd, &file->st))
		return -errno;
	file->mask = dir->mask; /* it is in the directory's subvolume */
	file->st.st_ino ^= file->mask;
	return local_set_apply(who, file, &creation->rest);
}

/* Of the attributes of an UNCHECKED call only the size matters to a file that exists, as in knfsd. */
static int accept_existing(struct volume *volume, const struct local_object *dir, struct creation *creation,
			   const struct credentials *who, struct local_object *file)
{
	int rc = local_object_find(volume, dir, creation->name, file);

	if (rc)
		return rc;
	if (!S_ISREG(file->st.st_mode))
		return -EEXIST;
	if (creation->mode == BACKEND_CREATE_EXCLUSIVE)
		return has_verifier(&file->st, &creation->rest) ? 0 : -EEXIST;
	creation->rest = (struct backend_set){ .set_size = creation->set->set_size, .size = creation->set->size };
	return local_set_apply(who, file, &creation->rest);
}

static int create_or_accept(struct volume *volume, const struct local_object *dir, struct creation *creation,
			    const struct credentials *who, struct local_object *file)
{
	int rc = -ENOENT;

	if (local_is_reserved(volume, dir, creation->name))
		return -EACCES;
	/* A name that is there for the first step and gone for the second was removed in between: begin again. */
	for (int tries = 0; tries < 5 && rc == -ENOENT; tries++) {
		rc = create_new(dir, creation, who, file);
		if (rc == -EEXIST && creation->mode != BACKEND_CREATE_GUARDED)
			rc = accept_existing(volume, dir, creation, who, file);
	}
	return rc;
}

int local_create(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		 enum backend_create_mode mode, const struct backend_set *set, const uint8_t *verifier,
		 struct backend_found *found, struct backend_change *dir_change)
{
	struct creation creation = {
		.name = name,
		.mode = mode,
		.set = set,
		.rest = mode == BACKEND_CREATE_EXCLUSIVE ? verifier_encode(verifier) : rest_of(set, who),
	};
	struct local_object file = { .fd = -1 };
	struct backend_found facts;
	struct site site;
	int rc;

	rc = site_begin(volume, who, dir, &site, dir_change);
	if (rc)
		return rc;
	rc = create_or_accept(volume, &site.dir, &creation, who, &file);
	if (!rc)
		rc = local_found_get(volume, &file, &facts);
	rc = site_end(volume, &site, &file, !local_set_is_empty(&creation.rest), dir_change, rc);
	local_object_close(&file);
	if (!rc)
		*found = facts;
	return rc;
}
