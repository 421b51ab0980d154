/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nfs3_internal.h"

enum { COUNTS_BYTES = 3 * 4 }; /* count, eof, length of the data */

bool nfs3_read_decode(struct bytes_reader *r, union nfs3_args *args)
{
	READ3args *read = &args->read;

	if (!nfs3_handle_decode(r, &read->file))
		return false;
	read->offset = bytes_get_be64(r);
	read->count = bytes_get_be32(r);
	return !r->failed;
}

static size_t wanted_bytes(const struct nfs3_op *op)
{
	size_t max = nfs3_data_max(op);

	return op->args.read.count < max ? op->args.read.count : max;
}

size_t nfs3_read_room(const struct nfs3_op *op)
{
	return 4 + NFS3_POST_OP_BYTES + COUNTS_BYTES + wanted_bytes(op) + 3;
}

/* The data goes from the file straight to its place in the reply; what stands before it is filled in afterwards. */
int nfs3_read(struct nfs3_op *op)
{
	uint8_t *attributes = nfs3_leave_attributes(&op->out);
	struct bytes_writer counts = bytes_writer_init(bytes_room(&op->out, COUNTS_BYTES), COUNTS_BYTES);
	bool end = false;
	size_t got = 0;
	int err;

	err = op->volume->backend->read(op->volume, &op->who, &op->object, op->args.read.offset, op->out.p,
					wanted_bytes(op), &got, &end, &op->after);
	if (err)
		return err;
	bytes_put_be32(&counts, (uint32_t)got);
	bytes_put_be32(&counts, end);
	bytes_put_be32(&counts, (uint32_t)got);
	bytes_room(&op->out, got);
	bytes_put(&op->out, "\0\0", -got & 3);
	nfs3_fill_attributes(&op->out, attributes, &op->after, op->volume->fsid);
	op->call->data_bytes = (uint32_t)got;
	return 0;
}
