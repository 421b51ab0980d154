/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nfs3_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

static const struct {
	int err;
	nfsstat3 status;
} statuses[] = {
	{ 0, NFS3_OK },
	{ EPERM, NFS3ERR_PERM },
	{ ENOENT, NFS3ERR_NOENT },
	{ EIO, NFS3ERR_IO },
	{ ENXIO, NFS3ERR_NXIO },
	{ EACCES, NFS3ERR_ACCES },
	{ EBUSY, NFS3ERR_ACCES },  /* a mount point on the server; JUKEBOX would have the client wait for ever */
	{ ETXTBSY, NFS3ERR_ACCES },
	{ EEXIST, NFS3ERR_EXIST },
	{ EXDEV, NFS3ERR_XDEV },
	{ ENODEV, NFS3ERR_NODEV },
	{ ENOTDIR, NFS3ERR_NOTDIR },
	{ EISDIR, NFS3ERR_ISDIR },
	{ EINVAL, NFS3ERR_INVAL },
	{ ELOOP, NFS3ERR_INVAL },  /* a symbolic link where it can't be: an object opened with O_NOFOLLOW */
	{ EFBIG, NFS3ERR_FBIG },
	{ ENOSPC, NFS3ERR_NOSPC },
	{ EROFS, NFS3ERR_ROFS },
	{ EMLINK, NFS3ERR_MLINK },
	{ ENAMETOOLONG, NFS3ERR_NAMETOOLONG },
	{ ENOTEMPTY, NFS3ERR_NOTEMPTY },
	{ EDQUOT, NFS3ERR_DQUOT },
	{ ESTALE, NFS3ERR_STALE },
	{ EREMOTE, NFS3ERR_REMOTE },
	{ EBADMSG, NFS3ERR_BADHANDLE },
	{ EAGAIN, NFS3ERR_NOT_SYNC },
	{ ESPIPE, NFS3ERR_BAD_COOKIE },
	{ EOPNOTSUPP, NFS3ERR_NOTSUPP },
	{ ENOSYS, NFS3ERR_NOTSUPP },
	{ EMSGSIZE, NFS3ERR_TOOSMALL },
	{ EFAULT, NFS3ERR_SERVERFAULT },
	{ EBADF, NFS3ERR_SERVERFAULT },
	{ EPROTOTYPE, NFS3ERR_BADTYPE },
	{ EINPROGRESS, NFS3ERR_JUKEBOX },
	{ ETIMEDOUT, NFS3ERR_JUKEBOX },
	{ ENOMEM, NFS3ERR_JUKEBOX },
	{ EMFILE, NFS3ERR_JUKEBOX },
	{ ENFILE, NFS3ERR_JUKEBOX },
};

nfsstat3 nfs3_status(int err)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (statuses[i].err == -err)
			return statuses[i].status;
	return NFS3ERR_IO;
}

int nfs3_name(const filename3 *wire, enum nfs3_name_use use, char out[static NFS3_NAME_BYTES])
{
	size_t len = wire->filename3_len;
	const char *name = wire->filename3_val;
	bool is_dot;

	if (!len)
		return -EINVAL;
	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	if (memchr(name, '/', len) || memchr(name, '\0', len))
		return -EINVAL;
	is_dot = name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'));
	if (is_dot && use != NFS3_NAME_FIND)
		return use == NFS3_NAME_MAKE || (use == NFS3_NAME_RMDIR && len == 2) ? -EEXIST : -EINVAL;
	memcpy(out, name, len);
	out[len] = '\0';
	return 0;
}

static int set_time(const set_time3 *wire, enum backend_set_time *how, struct timespec *time)
{
	const nfstime3 *said = &wire->set_time3_u.time;

	switch (wire->set_it) {
	case DONT_CHANGE:
		*how = BACKEND_TIME_KEEP;
		return 0;
	case SET_TO_SERVER_TIME:
		*how = BACKEND_TIME_SERVER;
		return 0;
	case SET_TO_CLIENT_TIME:
		if (said->nseconds >= 1000000000)
			return -EINVAL;
		*how = BACKEND_TIME_CLIENT;
		*time = (struct timespec){ .tv_sec = said->seconds, .tv_nsec = said->nseconds };
		return 0;
	}
	return -EINVAL;
}

int nfs3_set(const sattr3 *wire, struct backend_set *out)
{
	int err;

	*out = (struct backend_set){ 0 };
	out->set_mode = wire->mode.set_it;
	if (out->set_mode)
		out->mode = wire->mode.set_mode3_u.mode & 07777;
	out->set_uid = wire->uid.set_it;
	if (out->set_uid)
		out->uid = wire->uid.set_uid3_u.uid;
	out->set_gid = wire->gid.set_it;
	if (out->set_gid)
		out->gid = wire->gid.set_gid3_u.gid;
	out->set_size = wire->size.set_it;
	if (out->set_size)
		out->size = wire->size.set_size3_u.size;
	err = set_time(&wire->atime, &out->set_atime, &out->atime);
	return err ? err : set_time(&wire->mtime, &out->set_mtime, &out->mtime);
}

static ftype3 type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return NF3DIR;
	case S_IFBLK:
		return NF3BLK;
	case S_IFCHR:
		return NF3CHR;
	case S_IFLNK:
		return NF3LNK;
	case S_IFSOCK:
		return NF3SOCK;
	case S_IFIFO:
		return NF3FIFO;
	default:
		return NF3REG;
	}
}

void nfs3_put_time(struct bytes_writer *w, const struct timespec *time)
{
	bytes_put_be32(w, (uint32_t)time->tv_sec);
	bytes_put_be32(w, (uint32_t)time->tv_nsec);
}

void nfs3_put_stat(struct bytes_writer *w, const struct stat *st, uint64_t fsid)
{
	bytes_put_be32(w, type_of(st->st_mode));
	bytes_put_be32(w, st->st_mode & 07777);
	bytes_put_be32(w, (uint32_t)st->st_nlink);
	bytes_put_be32(w, st->st_uid);
	bytes_put_be32(w, st->st_gid);
	bytes_put_be64(w, (uint64_t)st->st_size);
	bytes_put_be64(w, (uint64_t)st->st_blocks * 512);
	bytes_put_be32(w, major(st->st_rdev));
	bytes_put_be32(w, minor(st->st_rdev));
	bytes_put_be64(w, fsid);
	bytes_put_be64(w, st->st_ino);
	nfs3_put_time(w, &st->st_atim);
	nfs3_put_time(w, &st->st_mtim);
	nfs3_put_time(w, &st->st_ctim);
}

void nfs3_put_attributes(struct bytes_writer *w, const struct backend_attributes *attributes, uint64_t fsid)
{
	bytes_put_be32(w, attributes->valid);
	if (attributes->valid)
		nfs3_put_stat(w, &attributes->st, fsid);
}

static void put_change(struct bytes_writer *w, const struct backend_change *change, uint64_t fsid)
{
	const struct backend_attributes *before = &change->before;

	bytes_put_be32(w, before->valid);
	if (before->valid) {
		bytes_put_be64(w, (uint64_t)before->st.st_size);
		nfs3_put_time(w, &before->st.st_mtim);
		nfs3_put_time(w, &before->st.st_ctim);
	}
	nfs3_put_attributes(w, &change->after, fsid);
}

void nfs3_put_opaque(struct bytes_writer *w, const void *bytes, size_t len)
{
	static const uint8_t zeros[3];

	bytes_put_be32(w, (uint32_t)len);
	bytes_put(w, bytes, len);
	bytes_put(w, zeros, -len & 3);
}

/* A directory's place can be found out by its own handle. */
static bool must_tell_directory(const struct nfs3_op *op, const struct backend_found *found)
{
	return op->is_divided && found->handle.type == HANDLE_LOCAL && found->attributes.valid &&
	       !S_ISDIR(found->attributes.st.st_mode);
}

void nfs3_put_handle(struct nfs3_op *op, const struct backend_found *found)
{
	const struct handle *handle = &found->handle;
	uint8_t bytes[HANDLE_MAX];
	struct handle both;

	if (must_tell_directory(op, found) && handle_join(handle, &op->object, &both) == 0)
		handle = &both;
	nfs3_put_opaque(&op->out, bytes, handle_encode(&op->key, handle, bytes));
}

void nfs3_put_facts(struct nfs3_op *op)
{
	/* Facts about a volume come from its backend: without a volume there are none. */
	uint64_t fsid = op->volume ? op->volume->fsid : 0;

	switch (op->procedure->facts) {
	case NFS3_NO_FACTS:
		break;
	case NFS3_AFTER:
		nfs3_put_attributes(&op->out, &op->after, fsid);
		break;
	case NFS3_CHANGE:
		put_change(&op->out, &op->change, fsid);
		break;
	case NFS3_TWO_CHANGES:
		put_change(&op->out, &op->change, fsid);
		put_change(&op->out, &op->to_change, fsid);
		break;
	case NFS3_AFTER_CHANGE:
		nfs3_put_attributes(&op->out, &op->after, fsid);
		put_change(&op->out, &op->change, fsid);
		break;
	}
}

uint8_t *nfs3_leave_attributes(struct bytes_writer *w)
{
	return bytes_room(w, NFS3_POST_OP_BYTES);
}

void nfs3_fill_attributes(struct bytes_writer *w, uint8_t *at, const struct backend_attributes *attributes,
			  uint64_t fsid)
{
	struct bytes_writer here = bytes_writer_init(at, NFS3_POST_OP_BYTES);

	nfs3_put_attributes(&here, attributes, fsid);
	if (!here.left)
		return;
	memmove(here.p, at + NFS3_POST_OP_BYTES, (size_t)(w->p - at) - NFS3_POST_OP_BYTES);
	w->p -= here.left;
	w->written -= here.left;
	w->left += here.left;
}

/* Opaque bytes of variable length, which stay where they are; RFC 4506, 4.10. */
static bool opaque_decode(struct bytes_reader *r, size_t max, u_int *len, char **bytes)
{
	*len = bytes_get_be32(r);
	*bytes = *len <= max ? (char *)bytes_take(r, ((size_t)*len + 3) / 4 * 4) : NULL;
	return *bytes != NULL;
}

bool nfs3_handle_decode(struct bytes_reader *r, nfs_fh3 *out)
{
	return opaque_decode(r, NFS3_FHSIZE, &out->data.data_len, &out->data.data_val);
}

static bool name_decode(struct bytes_reader *r, diropargs3 *out)
{
	return nfs3_handle_decode(r, &out->dir) &&
	       opaque_decode(r, NFS3_TEXT_MAX, &out->name.filename3_len, &out->name.filename3_val);
}

bool nfs3_object_decode(struct bytes_reader *r, union nfs3_args *args)
{
	return nfs3_handle_decode(r, &args->object);
}

bool nfs3_lookup_decode(struct bytes_reader *r, union nfs3_args *args)
{
	return name_decode(r, &args->lookup.what);
}

bool nfs3_access_decode(struct bytes_reader *r, union nfs3_args *args)
{
	if (!nfs3_handle_decode(r, &args->access.object))
		return false;
	args->access.access = bytes_get_be32(r);
	return !r->failed;
}

bool nfs3_remove_decode(struct bytes_reader *r, union nfs3_args *args)
{
	return name_decode(r, &args->remove.object);
}
