/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nfs3_internal.h"

_Static_assert((int)BACKEND_UNSTABLE == UNSTABLE && (int)BACKEND_DATA_SYNC == DATA_SYNC &&
		       (int)BACKEND_FILE_SYNC == FILE_SYNC,
	       "the backend's words for stability are the protocol's");

/* The data stays where it is in the record. */
bool nfs3_write_decode(struct bytes_reader *r, union nfs3_args *args)
{
	WRITE3args *write = &args->write;
	uint32_t len;

	if (!nfs3_handle_decode(r, &write->file))
		return false;
	write->offset = bytes_get_be64(r);
	write->count = bytes_get_be32(r);
	write->stable = bytes_get_be32(r);
	len = bytes_get_be32(r);
	write->data.data_len = len;
	write->data.data_val = (char *)bytes_take(r, len);
	return !r->failed && write->count == len && write->stable <= FILE_SYNC;
}

static size_t wanted_bytes(const struct nfs3_op *op)
{
	return op->args.write.count < RPC_DATA_MAX ? op->args.write.count : RPC_DATA_MAX;
}

int nfs3_write(struct nfs3_op *op)
{
	const WRITE3args *args = &op->args.write;
	enum backend_stability stability = (enum backend_stability)args->stable;
	/* Before the data: a verifier from after a loss must not vouch for what was written before it. */
	uint64_t verifier = __atomic_load_n(&op->volume->write_verifier, __ATOMIC_SEQ_CST);
	size_t written = 0;
	int err;

	/*
	 * When the backend returns, the data is as stable as `stability` says then: what the reply promises is kept
	 * before it is sent (RFC 1813, 3.3.7).
	 */
	err = op->volume->backend->write(op->volume, &op->who, &op->object, args->offset, args->data.data_val,
					 wanted_bytes(op), &stability, &written, &op->change);
	if (err)
		return err;
	nfs3_put_facts(op);
	bytes_put_be32(&op->out, (uint32_t)written);
	bytes_put_be32(&op->out, stability);
	bytes_put_be64(&op->out, verifier);
	op->call->data_bytes = (uint32_t)written;
	return 0;
}

int nfs3_commit(struct nfs3_op *op)
{
	const COMMIT3args *args = &op->args.commit;
	int err;

	/* On stable storage when the backend returns, and only then promised (RFC 1813, 3.3.21). */
	err = op->volume->backend->commit(op->volume, &op->who, &op->object, args->offset, args->count, &op->change);
	if (err)
		return err;
	nfs3_put_facts(op);
	bytes_put_be64(&op->out, __atomic_load_n(&op->volume->write_verifier, __ATOMIC_SEQ_CST));
	return 0;
}
