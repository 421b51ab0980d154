/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * READDIR and READDIRPLUS. The client says how long the results may be, status excluded:
 *
 *	attributes | verifier | entry | entry | ... | no more entries, end of directory
 *	           |          |<-------- listing ------->|<-- TAIL_BYTES -->|
 *	|<------------------------ count, maxcount ------------------------>|
 *
 * and for READDIRPLUS also how long its fileids, names and cookies may be together (dircount). An entry is written
 * only if all of it fits; results without any entry that are not the end are NFS3ERR_TOOSMALL.
 */
#include "config.h"

#include "common/nfs3_internal.h"

#include <errno.h>
#include <string.h>

enum {
	VERIFIER_BYTES = 8,
	TAIL_BYTES = 2 * 4,
	HEAD_BYTES = NFS3_POST_OP_BYTES + VERIFIER_BYTES,
	HANDLE_FIELD_MAX = 4 + 4 + HANDLE_MAX,
};

struct listing {
	struct nfs3_op *op;
	bool plus;
	size_t left;	 /* of count or maxcount, tail excluded */
	size_t dir_left; /* of dircount */
	size_t entries;
};

static size_t entry_bytes(const struct backend_entry *entry)
{
	return 8 + 4 + (strlen(entry->name) + 3) / 4 * 4 + 8;
}

static void put_plus(struct listing *listing, const struct backend_entry *entry)
{
	struct backend_found found = entry->found;
	struct nfs3_op *op = listing->op;

	if (!entry->has_found || (op->hides_parent && strcmp(entry->name, "..") == 0)) {
		bytes_put_be32(&op->out, false);
		bytes_put_be32(&op->out, false);
		return;
	}
	nfs3_leave_branch(op->volume, &found);
	nfs3_put_attributes(&op->out, &found.attributes, op->volume->fsid);
	bytes_put_be32(&op->out, true);
	nfs3_put_handle(op, &found);
}

static bool on_entry(const struct backend_entry *entry, void *arg)
{
	struct listing *listing = arg;
	struct bytes_writer *out = &listing->op->out;
	size_t start = out->written;
	size_t dir_bytes = entry_bytes(entry);
	size_t max = 4 + dir_bytes + (listing->plus ? NFS3_POST_OP_BYTES + HANDLE_FIELD_MAX : 0);

	if (max > listing->left || dir_bytes > listing->dir_left)
		return false;
	bytes_put_be32(out, true);
	bytes_put_be64(out, entry->fileid);
	nfs3_put_opaque(out, entry->name, strlen(entry->name));
	bytes_put_be64(out, entry->cookie);
	if (listing->plus)
		put_plus(listing, entry);
	listing->left -= out->written - start;
	listing->dir_left -= dir_bytes;
	listing->entries++;
	return true;
}

static uint64_t verifier_get(const cookieverf3 bytes)
{
	struct bytes_reader r = bytes_reader_init(bytes, NFS3_COOKIEVERFSIZE);

	return bytes_get_be64(&r);
}

static int list(struct listing *listing, uint64_t cookie, uint64_t verifier)
{
	struct nfs3_op *op = listing->op;
	uint8_t *attributes = nfs3_leave_attributes(&op->out);
	struct bytes_writer verifier_at = bytes_writer_init(bytes_room(&op->out, VERIFIER_BYTES), VERIFIER_BYTES);
	bool end = false;
	int err;

	err = op->volume->backend->readdir(op->volume, &op->who, &op->object, cookie, &verifier, listing->plus,
					   on_entry, listing, &end, &op->after);
	if (err)
		return err == -EINVAL && cookie ? -ESPIPE /* NFS3ERR_BAD_COOKIE */ : err;
	if (!listing->entries && !end)
		return -EMSGSIZE; /* NFS3ERR_TOOSMALL */
	bytes_put_be32(&op->out, false);
	bytes_put_be32(&op->out, end);
	bytes_put_be64(&verifier_at, verifier);
	nfs3_fill_attributes(&op->out, attributes, &op->after, op->volume->fsid);
	return 0;
}

static size_t results_max(const struct nfs3_op *op, count3 count)
{
	size_t max = nfs3_data_max(op) < NFS3_DIRECTORY_MAX ? nfs3_data_max(op) : NFS3_DIRECTORY_MAX;

	return count < max ? count : max;
}

/* The failure needs room even if the client leaves none. */
static size_t room(size_t results)
{
	return 4 + (results < HEAD_BYTES + TAIL_BYTES ? HEAD_BYTES + TAIL_BYTES : results);
}

size_t nfs3_readdir_room(struct nfs3_op *op)
{
	return room(results_max(op, op->args.readdir.count));
}

size_t nfs3_readdirplus_room(struct nfs3_op *op)
{
	return room(results_max(op, op->args.readdirplus.maxcount));
}

int nfs3_readdir(struct nfs3_op *op)
{
	const READDIR3args *args = &op->args.readdir;
	size_t max = results_max(op, args->count);
	struct listing listing = { .op = op, .dir_left = SIZE_MAX };

	if (max < HEAD_BYTES + TAIL_BYTES)
		return -EMSGSIZE;
	listing.left = max - HEAD_BYTES - TAIL_BYTES;
	return list(&listing, args->cookie, verifier_get(args->cookieverf));
}

int nfs3_readdirplus(struct nfs3_op *op)
{
	const READDIRPLUS3args *args = &op->args.readdirplus;
	size_t max = results_max(op, args->maxcount);
	struct listing listing = { .op = op, .plus = true, .dir_left = args->dircount };

	if (max < HEAD_BYTES + TAIL_BYTES)
		return -EMSGSIZE;
	listing.left = max - HEAD_BYTES - TAIL_BYTES;
	return list(&listing, args->cookie, verifier_get(args->cookieverf));
}
