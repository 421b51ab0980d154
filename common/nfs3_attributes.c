/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nfs3_internal.h"

#include <unistd.h>

int nfs3_getattr(struct nfs3_op *op)
{
	struct stat st;
	int err = op->volume->backend->getattr(op->volume, &op->object, &st);

	if (!err)
		nfs3_put_stat(&op->out, &st, op->volume->fsid);
	return err;
}

int nfs3_setattr(struct nfs3_op *op)
{
	const SETATTR3args *args = &op->args.setattr;
	const nfstime3 *said = &args->guard.sattrguard3_u.obj_ctime;
	struct timespec guard = { 0 };
	struct backend_set set;
	int err = nfs3_set(&args->new_attributes, &set);

	if (err)
		return err;
	if (args->guard.check)
		guard = (struct timespec){ .tv_sec = said->seconds, .tv_nsec = said->nseconds };
	err = op->volume->backend->setattr(op->volume, &op->who, &op->object, &set, args->guard.check ? &guard : NULL,
					   &op->change);
	if (!err)
		nfs3_put_facts(op);
	return err;
}

/* What the protocol's bits ask of a file or of a directory; DELETE says something of directories only. */
static const struct {
	uint32_t bit;
	int of_directory, of_file;
} access_bits[] = {
	{ ACCESS3_READ, R_OK, R_OK },
	{ ACCESS3_LOOKUP, X_OK, 0 },
	{ ACCESS3_MODIFY, W_OK, W_OK },
	{ ACCESS3_EXTEND, W_OK, W_OK },
	{ ACCESS3_DELETE, W_OK, 0 },
	{ ACCESS3_EXECUTE, 0, X_OK },
};

int nfs3_access(struct nfs3_op *op)
{
	int wanted = R_OK | X_OK | (op->rights.may_write ? W_OK : 0);
	uint32_t granted = 0;
	int allowed = 0;
	int err = op->volume->backend->access(op->volume, &op->who, &op->object, wanted, &allowed, &op->after.st);

	if (err)
		return err;
	op->after.valid = true;
	for (size_t i = 0; i < sizeof(access_bits) / sizeof(access_bits[0]); i++) {
		bool is_directory = S_ISDIR(op->after.st.st_mode);
		int needed = is_directory ? access_bits[i].of_directory : access_bits[i].of_file;

		if (needed & allowed)
			granted |= access_bits[i].bit;
	}
	nfs3_put_facts(op);
	bytes_put_be32(&op->out, granted & op->args.access.access);
	return 0;
}
