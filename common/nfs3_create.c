/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nfs3_internal.h"

#include <errno.h>
#include <string.h>

/* The results of all four. */
static int put_found(struct nfs3_op *op, int err, const struct backend_found *found)
{
	if (err)
		return err;
	bytes_put_be32(&op->out, true);
	nfs3_put_handle(op, found);
	nfs3_put_attributes(&op->out, &found->attributes, op->volume->fsid);
	nfs3_put_facts(op);
	return 0;
}

int nfs3_create(struct nfs3_op *op)
{
	static const enum backend_create_mode modes[] = {
		[UNCHECKED] = BACKEND_CREATE_UNCHECKED,
		[GUARDED] = BACKEND_CREATE_GUARDED,
		[EXCLUSIVE] = BACKEND_CREATE_EXCLUSIVE,
	};
	const createhow3 *how = &op->args.create.how;
	const uint8_t *verifier = NULL;
	struct backend_found found = { 0 };
	struct backend_set set = { 0 };
	char name[NFS3_NAME_BYTES];
	int err = nfs3_name(&op->args.create.where.name, NFS3_NAME_MAKE, name);

	if (!err && how->mode == EXCLUSIVE)
		verifier = (const uint8_t *)how->createhow3_u.verf;
	else if (!err)
		err = nfs3_set(&how->createhow3_u.obj_attributes, &set);
	if (!err)
		err = op->volume->backend->create(op->volume, &op->who, &op->object, name, modes[how->mode], &set,
						  verifier, &found, &op->change);
	return put_found(op, err, &found);
}

int nfs3_mkdir(struct nfs3_op *op)
{
	const MKDIR3args *args = &op->args.mkdir;
	struct backend_found found = { 0 };
	struct backend_set set;
	char name[NFS3_NAME_BYTES];
	int err = nfs3_name(&args->where.name, NFS3_NAME_MAKE, name);

	if (!err)
		err = nfs3_set(&args->attributes, &set);
	if (!err)
		err = op->volume->backend->mkdir(op->volume, &op->who, &op->object, name, &set, &found, &op->change);
	return put_found(op, err, &found);
}

static int target_text(const nfspath3 *wire, char out[static PATH_MAX])
{
	size_t len = wire->nfspath3_len;

	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	if (!len || memchr(wire->nfspath3_val, '\0', len))
		return -EINVAL;
	memcpy(out, wire->nfspath3_val, len);
	out[len] = '\0';
	return 0;
}

int nfs3_symlink(struct nfs3_op *op)
{
	const SYMLINK3args *args = &op->args.symlink;
	struct backend_found found = { 0 };
	struct backend_set set;
	char name[NFS3_NAME_BYTES], target[PATH_MAX];
	int err = nfs3_name(&args->where.name, NFS3_NAME_MAKE, name);

	if (!err)
		err = target_text(&args->symlink.symlink_data, target);
	if (!err)
		err = nfs3_set(&args->symlink.symlink_attributes, &set);
	if (!err)
		err = op->volume->backend->symlink(op->volume, &op->who, &op->object, name, target, &set, &found,
						   &op->change);
	return put_found(op, err, &found);
}

/* Takes the union apart: the type for mknod(2), the attributes, the device number (0, 0 if none). */
static int node_parse(const mknoddata3 *what, mode_t *type, const sattr3 **attributes, specdata3 *device)
{
	*device = (specdata3){ 0 };
	*attributes = &what->mknoddata3_u.pipe_attributes;
	switch (what->type) {
	case NF3CHR:
	case NF3BLK:
		*type = what->type == NF3CHR ? S_IFCHR : S_IFBLK;
		*attributes = &what->mknoddata3_u.device.dev_attributes;
		*device = what->mknoddata3_u.device.spec;
		return 0;
	case NF3SOCK:
		*type = S_IFSOCK;
		return 0;
	case NF3FIFO:
		*type = S_IFIFO;
		return 0;
	default:
		return -EPROTOTYPE; /* NFS3ERR_BADTYPE */
	}
}

int nfs3_mknod(struct nfs3_op *op)
{
	const MKNOD3args *args = &op->args.mknod;
	struct backend_found found = { 0 };
	const sattr3 *attributes;
	struct backend_set set;
	char name[NFS3_NAME_BYTES];
	specdata3 device;
	mode_t type;
	int err = nfs3_name(&args->where.name, NFS3_NAME_MAKE, name);

	if (!err)
		err = node_parse(&args->what, &type, &attributes, &device);
	if (!err)
		err = nfs3_set(attributes, &set);
	if (!err)
		err = op->volume->backend->mknod(op->volume, &op->who, &op->object, name, type, device.specdata1,
						 device.specdata2, &set, &found, &op->change);
	return put_found(op, err, &found);
}
