/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nfs3_internal.h"

enum { TRANSFER_MULTIPLE = 4096, DIRECTORY_PREFERRED = 64 * 1024 };

int nfs3_fsstat(struct nfs3_op *op)
{
	struct statvfs fs;
	int err = op->volume->backend->statfs(op->volume, &op->who, &op->object, &fs, &op->after);

	if (err)
		return err;
	nfs3_put_facts(op);
	bytes_put_be64(&op->out, (uint64_t)fs.f_blocks * fs.f_frsize);
	bytes_put_be64(&op->out, (uint64_t)fs.f_bfree * fs.f_frsize);
	bytes_put_be64(&op->out, (uint64_t)fs.f_bavail * fs.f_frsize);
	bytes_put_be64(&op->out, fs.f_files);
	bytes_put_be64(&op->out, fs.f_ffree);
	bytes_put_be64(&op->out, fs.f_favail);
	bytes_put_be32(&op->out, 0); /* invarsec: may change at any time */
	return 0;
}

static void put_transfer(struct bytes_writer *out, size_t max)
{
	bytes_put_be32(out, (uint32_t)max); /* the most, and preferred */
	bytes_put_be32(out, (uint32_t)max);
	bytes_put_be32(out, TRANSFER_MULTIPLE);
}

int nfs3_fsinfo(struct nfs3_op *op)
{
	size_t max = nfs3_data_max(op);
	struct backend_limits limits;
	int err = op->volume->backend->limits(op->volume, &op->object, &limits, &op->after);

	if (err)
		return err;
	nfs3_put_facts(op);
	put_transfer(&op->out, max); /* READ */
	put_transfer(&op->out, max); /* WRITE */
	bytes_put_be32(&op->out, (uint32_t)(max < DIRECTORY_PREFERRED ? max : DIRECTORY_PREFERRED));
	bytes_put_be64(&op->out, limits.file_size_max);
	nfs3_put_time(&op->out, &limits.time_delta);
	bytes_put_be32(&op->out, FSF3_HOMOGENEOUS | FSF3_CANSETTIME | (limits.has_links ? FSF3_LINK : 0) |
					 (limits.has_symlinks ? FSF3_SYMLINK : 0));
	return 0;
}

int nfs3_pathconf(struct nfs3_op *op)
{
	struct backend_limits limits;
	int err = op->volume->backend->limits(op->volume, &op->object, &limits, &op->after);

	if (err)
		return err;
	nfs3_put_facts(op);
	bytes_put_be32(&op->out, limits.link_max);
	bytes_put_be32(&op->out, limits.name_max);
	bytes_put_be32(&op->out, limits.no_truncate);
	bytes_put_be32(&op->out, limits.chown_restricted);
	bytes_put_be32(&op->out, limits.case_insensitive);
	bytes_put_be32(&op->out, limits.case_preserving);
	return 0;
}
