/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Calls that change a spread directory (common/spread_call.h). All of them begin with the handle of the directory and a name; RENAME has
 * two of both. Put for the first handle, and for RENAME's second one, that of a branch's root, and the rest fits as it is.
 *
 * Nor is anything else told to clients that would lead to a branch's root: its entries have the spread directory above them.
 */
#include "config.h"

#include "common/spread_call.h"

#include "common/nfs3_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RESULTS_ROOM = 1024 };

static bool is_same(const struct handle *a, const struct handle *b)
{
	return a->type == b->type && a->backend_type == b->backend_type && a->backend_len == b->backend_len &&
	       memcmp(a->backend, b->backend, a->backend_len) == 0;
}

void nfs3_leave_branch(const struct volume *volume, struct backend_found *found)
{
	if (volume->spread && found->handle.volume == volume->id && is_same(&found->handle, &volume->root))
		*found = (struct backend_found){ .handle = namespace_spread_handle(volume->spread) };
}

/* Taking it apart */

static int take_name(struct spread_call *spread, enum spread_call_kind kind, const filename3 *name, enum nfs3_name_use use)
{
	spread->kind = kind;
	return nfs3_name(name, use, spread->name);
}

static int take_apart(const struct nfs3_op *op, struct spread_call *spread)
{
	const union nfs3_args *args = &op->args;
	int err;

	if (op->call->program != NFS_PROGRAM)
		return -EOPNOTSUPP; /* an ACL */
	switch (op->call->procedure) {
	case NFS3_CREATE:
		return take_name(spread, SPREAD_CALL_MAKE, &args->create.where.name, NFS3_NAME_MAKE);
	case NFS3_MKDIR:
		return take_name(spread, SPREAD_CALL_MAKE, &args->mkdir.where.name, NFS3_NAME_MAKE);
	case NFS3_SYMLINK:
		return take_name(spread, SPREAD_CALL_MAKE, &args->symlink.where.name, NFS3_NAME_MAKE);
	case NFS3_MKNOD:
		return take_name(spread, SPREAD_CALL_MAKE, &args->mknod.where.name, NFS3_NAME_MAKE);
	case NFS3_REMOVE:
		return take_name(spread, SPREAD_CALL_REMOVE, &args->remove.object.name, NFS3_NAME_TAKE_AWAY);
	case NFS3_RMDIR:
		return take_name(spread, SPREAD_CALL_REMOVE, &args->remove.object.name, NFS3_NAME_RMDIR);
	case NFS3_RENAME:
		err = take_name(spread, SPREAD_CALL_RENAME, &args->rename.from.name, NFS3_NAME_TAKE_AWAY);
		return err ? err : nfs3_name(&args->rename.to.name, NFS3_NAME_TAKE_AWAY, spread->to);
	case NFS3_LINK:
		return -EPERM; /* the object would be the directory itself */
	case NFS3_SETATTR:
		return -EOPNOTSUPP;
	default:
		return -EINVAL; /* data of a directory */
	}
}

int nfs3_change_spread(struct nfs3_op *op)
{
	struct spread_call *spread = calloc(1, sizeof(*spread));
	const struct file_service_options *options = &op->service->options;
	int err;

	if (!spread)
		return -ENOMEM;
	err = take_apart(op, spread);
	if (!err)
		err = rpc_call_keep(op->call);
	if (err) {
		free(spread);
		return err;
	}
	spread->spread = op->object.volume;
	spread->call = op->call;
	spread->key = op->key;
	spread->service = op->service;
	spread->procedure = op->procedure;
	options->change_spread(spread, options->arg);
	return 0;
}

/* Putting it together */

static bool skip_opaque(struct bytes_reader *r)
{
	uint32_t len = bytes_get_be32(r);

	return !r->failed && len <= r->left && bytes_take(r, len + (-len & 3));
}

static void put_root(struct bytes_writer *w, const struct spread_call *spread, const struct handle *root)
{
	uint8_t bytes[HANDLE_MAX];

	nfs3_put_opaque(w, bytes, handle_encode(&spread->key, root, bytes));
}

/* One handle is replaced, and @name behind it copied. */
static bool put_object(struct bytes_writer *w, struct bytes_reader *args, const struct spread_call *spread, const struct handle *root)
{
	const uint8_t *name;

	if (!skip_opaque(args))
		return false;
	put_root(w, spread, root);
	name = args->p;
	if (!skip_opaque(args))
		return false;
	bytes_put(w, name, (size_t)(args->p - name));
	return true;
}

int spread_call_compose(const struct spread_call *spread, const struct handle *root, uint8_t **record, size_t *len)
{
	const struct rpc_call *call = spread->call;
	struct bytes_reader args = call->args;
	size_t room = call->record_len + 2 * HANDLE_MAX;
	uint8_t *bytes = malloc(room);
	struct bytes_writer w = bytes_writer_init(bytes, room);
	bool whole;

	if (!bytes)
		return -ENOMEM;
	bytes_put(&w, call->record, (size_t)(args.p - call->record));
	whole = put_object(&w, &args, spread, root);
	if (whole && spread->kind == SPREAD_CALL_RENAME)
		whole = put_object(&w, &args, spread, root);
	bytes_put(&w, args.p, args.left);
	if (!whole || w.failed) {
		free(bytes);
		return -EBADMSG;
	}
	*record = bytes;
	*len = w.written;
	return 0;
}

/* The answer */

/* Return: false: no answer of a program that has carried out the call */
static bool skip_header(struct bytes_reader *r)
{
	bytes_take(r, 4); /* xid */
	if (bytes_get_be32(r) != 1 || bytes_get_be32(r) != 0)
		return false;
	bytes_take(r, 4); /* the verifier's flavor */
	return skip_opaque(r) && bytes_get_be32(r) == RPC_ACCEPT_SUCCESS && !r->failed;
}

static uint32_t type_of(uint32_t type)
{
	static const uint32_t types[] = {
		[NF3REG] = S_IFREG, [NF3DIR] = S_IFDIR, [NF3BLK] = S_IFBLK, [NF3CHR] = S_IFCHR,
		[NF3LNK] = S_IFLNK, [NF3SOCK] = S_IFSOCK, [NF3FIFO] = S_IFIFO,
	};

	return type < sizeof(types) / sizeof(types[0]) ? types[type] : 0;
}

static bool take_handle(struct bytes_reader *r, const struct handle_key *key, struct handle *out)
{
	uint32_t len = bytes_get_be32(r);
	const uint8_t *bytes = len <= HANDLE_MAX ? bytes_take(r, len + (-len & 3)) : NULL;
	struct handle both, directory;

	if (!bytes || handle_decode(key, bytes, len, &both) < 0)
		return false;
	*out = both;
	if (both.type == HANDLE_LOCAL_IN)
		handle_split(&both, out, &directory);
	return out->type == HANDLE_LOCAL;
}

/* fattr3; RFC 1813, 2.6 */
static void take_attributes(struct bytes_reader *r, struct spread_result *out)
{
	enum { BEFORE_FILEID = NFS3_FATTR_BYTES - 4 - 8 - 3 * 8 };

	out->type = type_of(bytes_get_be32(r));
	bytes_take(r, BEFORE_FILEID);
	out->fileid = bytes_get_be64(r);
	bytes_take(r, 3 * 8);
}

/* post_op_fh3, post_op_attr. Return: false if there is not so much */
static bool take_made(struct bytes_reader *r, const struct handle_key *key, struct spread_result *out)
{
	bool has_handle, has_attributes;

	out->results = r->p;
	has_handle = bytes_get_be32(r) != 0;
	if (has_handle && !take_handle(r, key, &out->handle))
		return false;
	has_attributes = bytes_get_be32(r) != 0;
	if (has_attributes)
		take_attributes(r, out);
	out->results_len = (size_t)(r->p - out->results);
	out->has_made = has_handle && has_attributes && out->type;
	return !r->failed;
}

int spread_call_result(const struct spread_call *spread, const uint8_t *reply, size_t len, struct spread_result *out)
{
	struct bytes_reader r = bytes_reader_init(reply, len);
	struct spread_result result = { 0 };

	if (!skip_header(&r))
		return -EBADMSG;
	result.status = bytes_get_be32(&r);
	if (r.failed || (result.status == NFS3_OK && spread->kind == SPREAD_CALL_MAKE && !take_made(&r, &spread->key, &result)))
		return -EBADMSG;
	*out = result;
	return 0;
}

void spread_call_found(const struct spread_call *spread, const struct handle *made, struct spread_result *out)
{
	struct bytes_writer w = bytes_writer_init(out->own_results, sizeof(out->own_results));
	uint8_t bytes[HANDLE_MAX];

	out->status = NFS3_OK;
	bytes_put_be32(&w, true);
	nfs3_put_opaque(&w, bytes, handle_encode(&spread->key, made, bytes));
	bytes_put_be32(&w, false);
	out->results = out->own_results;
	out->results_len = w.written;
}

static void put_results(struct bytes_writer *w, const struct spread_call *spread, const struct spread_result *result,
			const struct stat *directory)
{
	const ns_spread *known = namespace_spread(spread->service->options.ns, spread->spread);
	struct backend_attributes after = { .valid = directory && known };
	int changes = spread->kind == SPREAD_CALL_RENAME ? 2 : 1;

	if (after.valid)
		after.st = *directory;
	bytes_put_be32(w, result->status);
	bytes_put(w, result->results, result->results_len);
	/* What was before is not told: nobody can say it of several volumes at one moment. */
	for (int i = 0; i < changes; i++) {
		bytes_put_be32(w, false);
		nfs3_put_attributes(w, &after, known ? namespace_spread_fsid(known) : 0);
	}
}

void spread_call_answer(struct spread_call *spread, const struct spread_result *result, const struct stat *directory)
{
	struct bytes_writer out;

	if (rpc_reply_begin(spread->call, RESULTS_ROOM, &out) == 0) {
		put_results(&out, spread, result, directory);
		rpc_reply_end(spread->call, &out);
	}
	free(spread);
}

void spread_call_fail(struct spread_call *spread, int err, const struct stat *directory)
{
	const struct spread_result result = { .status = nfs3_status(err) };

	spread_call_answer(spread, &result, directory);
}

void spread_call_drop(struct spread_call *spread)
{
	rpc_reply_nothing(spread->call);
	free(spread);
}
