/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nfs3_internal.h"
#include "common/page_pipe.h"

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

/* What is long is not copied, if the transport can do without and there is a pipe for it. */
static bool may_use_pages(const struct nfs3_op *op, size_t len)
{
	return op->call->takes_pages && op->volume->backend->read_pages && len >= PAGE_PIPE_MIN &&
	       page_pipe_fits(op->args.read.offset, len);
}

size_t nfs3_read_room(struct nfs3_op *op)
{
	size_t len = wanted_bytes(op);

	if (may_use_pages(op, len))
		op->pages = page_pipe_get();
	return 4 + NFS3_POST_OP_BYTES + COUNTS_BYTES + (op->pages ? 0 : len + 3);
}

/* The data goes from the file straight to its place in the reply, or stays where it is. */
static int read_data(struct nfs3_op *op, size_t *got, bool *end)
{
	const struct backend *backend = op->volume->backend;
	uint64_t offset = op->args.read.offset;
	size_t len = wanted_bytes(op);

	if (op->pages)
		return backend->read_pages(op->volume, &op->who, &op->object, offset, op->pages, len, got, end,
					   &op->after);
	return backend->read(op->volume, &op->who, &op->object, offset, op->out.p, len, got, end, &op->after);
}

static void pass_data_on(struct nfs3_op *op, size_t got)
{
	if (op->pages) {
		op->call->pages = op->pages;
		op->pages = NULL;
		return;
	}
	bytes_room(&op->out, got);
	bytes_put(&op->out, "\0\0", -got & 3);
}

/* What stands before the data is filled in afterwards. */
int nfs3_read(struct nfs3_op *op)
{
	uint8_t *attributes = nfs3_leave_attributes(&op->out);
	struct bytes_writer counts = bytes_writer_init(bytes_room(&op->out, COUNTS_BYTES), COUNTS_BYTES);
	bool end = false;
	size_t got = 0;
	int err = read_data(op, &got, &end);

	if (err) {
		page_pipe_put(op->pages);
		op->pages = NULL;
		return err;
	}
	bytes_put_be32(&counts, (uint32_t)got);
	bytes_put_be32(&counts, end);
	bytes_put_be32(&counts, (uint32_t)got);
	pass_data_on(op, got);
	nfs3_fill_attributes(&op->out, attributes, &op->after, op->volume->fsid);
	op->call->data_bytes = (uint32_t)got;
	return 0;
}
