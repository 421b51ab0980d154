/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nfs3_internal.h"

/* The results of all four are the facts. */
static int put_done(struct nfs3_op *op, int err)
{
	if (!err)
		nfs3_put_facts(op);
	return err;
}

int nfs3_remove(struct nfs3_op *op)
{
	char name[NFS3_NAME_BYTES];
	int err = nfs3_name(&op->args.remove.object.name, NFS3_NAME_TAKE_AWAY, name);

	if (!err)
		err = op->volume->backend->remove(op->volume, &op->who, &op->object, name, &op->change);
	return put_done(op, err);
}

int nfs3_rmdir(struct nfs3_op *op)
{
	char name[NFS3_NAME_BYTES];
	int err = nfs3_name(&op->args.remove.object.name, NFS3_NAME_RMDIR, name);

	if (!err)
		err = op->volume->backend->rmdir(op->volume, &op->who, &op->object, name, &op->change);
	return put_done(op, err);
}

int nfs3_rename(struct nfs3_op *op)
{
	const RENAME3args *args = &op->args.rename;
	char from[NFS3_NAME_BYTES], to[NFS3_NAME_BYTES];
	int err = nfs3_name(&args->from.name, NFS3_NAME_TAKE_AWAY, from);

	if (!err)
		err = nfs3_name(&args->to.name, NFS3_NAME_TAKE_AWAY, to);
	if (!err)
		err = op->volume->backend->rename(op->volume, &op->who, &op->object, from, &op->second, to,
						  &op->change, &op->to_change);
	return put_done(op, err);
}

int nfs3_link(struct nfs3_op *op)
{
	char name[NFS3_NAME_BYTES];
	int err = nfs3_name(&op->args.link.link.name, NFS3_NAME_MAKE, name);

	if (!err)
		err = op->volume->backend->link(op->volume, &op->who, &op->object, &op->second, name, &op->after,
						&op->change);
	return put_done(op, err);
}
