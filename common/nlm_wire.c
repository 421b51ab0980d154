/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nlm_wire.h"

#include <string.h>

/* Arguments */

static bool decode_lock(XDR *xdr, uint32_t version, nlm4_lock *out)
{
	nlm_lock narrow = { 0 };
	bool decoded;

	if (version == 4)
		return xdr_nlm4_lock(xdr, out);
	decoded = xdr_nlm_lock(xdr, &narrow);
	*out = (nlm4_lock){
		.caller_name = narrow.caller_name,
		.fh = narrow.fh,
		.oh = narrow.oh,
		.svid = narrow.svid,
		.l_offset = narrow.l_offset,
		.l_len = narrow.l_len,
	};
	return decoded;
}

static bool decode_fields(XDR *xdr, unsigned int form, uint32_t version, struct nlm_args *args)
{
	if (!xdr_nlm_opaque(xdr, &args->cookie))
		return false;
	if (form & NLM_HAS_SHARE)
		return xdr_nlm_share(xdr, &args->share) && xdr_bool(xdr, &args->reclaim);
	if (form & NLM_HAS_BLOCK && !xdr_bool(xdr, &args->block))
		return false;
	if (form & NLM_HAS_EXCLUSIVE && !xdr_bool(xdr, &args->exclusive))
		return false;
	if (!decode_lock(xdr, version, &args->lock))
		return false;
	return !(form & NLM_HAS_RECLAIM) || (xdr_bool(xdr, &args->reclaim) && xdr_int32_t(xdr, &args->state));
}

bool nlm_args_decode(const struct bytes_reader *bytes, unsigned int form, uint32_t version, struct nlm_args *args)
{
	bool decoded;
	XDR xdr;

	memset(args, 0, sizeof(*args));
	xdrmem_create(&xdr, (char *)bytes->p, (u_int)bytes->left, XDR_DECODE);
	decoded = decode_fields(&xdr, form, version, args);
	xdr_destroy(&xdr);
	return decoded;
}

void nlm_args_free(struct nlm_args *args)
{
	xdr_free((xdrproc_t)xdr_nlm_opaque, (char *)&args->cookie);
	xdr_free((xdrproc_t)xdr_nlm4_lock, (char *)&args->lock);
	xdr_free((xdrproc_t)xdr_nlm_share, (char *)&args->share);
}

/* Results */

/*
 * Versions 1 and 3 know no more than the first five; what is not among them is "no locks", as lockd has it. A deadlock is a
 * conflict with locks of others, which is "denied" (XNFS, 10, NLM_LOCK).
 */
static uint32_t status_in_version(nlm4_stats status, uint32_t version)
{
	if (version == 4 || status <= NLM4_DENIED_GRACE_PERIOD)
		return status;
	return status == NLM4_DEADLCK ? NLM4_DENIED : NLM4_DENIED_NOLOCKS;
}

static void put_opaque(struct bytes_writer *w, const void *bytes, size_t len)
{
	bytes_put_be32(w, (uint32_t)len);
	bytes_put(w, bytes, len);
	bytes_put(w, "\0\0", -len & 3);
}

static void put_offset(struct bytes_writer *w, uint32_t version, uint64_t value)
{
	if (version == 4)
		bytes_put_be64(w, value);
	else
		bytes_put_be32(w, value < UINT32_MAX ? (uint32_t)value : UINT32_MAX);
}

/* Length 0: to the end. */
static void put_range(struct bytes_writer *w, uint32_t version, uint64_t start, uint64_t end)
{
	put_offset(w, version, start);
	put_offset(w, version, end == LOCK_END ? 0 : end - start + 1);
}

static void put_holder(struct bytes_writer *w, uint32_t version, const struct lock_holder *holder)
{
	bytes_put_be32(w, holder->exclusive);
	bytes_put_be32(w, holder->svid);
	put_opaque(w, holder->oh, holder->oh_len);
	put_range(w, version, holder->start, holder->end);
}

void nlm_put_results(struct bytes_writer *w, unsigned int form, uint32_t version, const nlm_opaque *cookie,
		     nlm4_stats status, const struct lock_holder *holder)
{
	put_opaque(w, cookie->bytes.bytes_val, cookie->bytes.bytes_len);
	bytes_put_be32(w, status_in_version(status, version));
	if (form & NLM_HAS_SHARE)
		bytes_put_be32(w, 0); /* a sequence number that means nothing any more */
	else if (form & NLM_TELLS_HOLDER && status == NLM4_DENIED)
		put_holder(w, version, holder);
}

/* Call-backs */

void nlm_put_granted(struct bytes_writer *w, const struct lock_grant *grant)
{
	const struct lock_request *request = &grant->request;

	bytes_put_be32(w, NLM_COOKIE_BYTES);
	bytes_put_be64(w, grant->id);
	bytes_put_be32(w, request->exclusive);
	put_opaque(w, request->client->name, strlen(request->client->name));
	put_opaque(w, grant->caller.handle.bytes, grant->caller.handle.len);
	put_opaque(w, request->oh, request->oh_len);
	bytes_put_be32(w, request->svid);
	put_range(w, grant->caller.version, request->start, request->end);
}

nlm4_stats nlm_granted_status(const uint8_t *results, size_t len)
{
	struct bytes_reader r = bytes_reader_init(results, len);
	uint32_t cookie_len = bytes_get_be32(&r), status;

	if (cookie_len > NLM_OPAQUE_MAX)
		return NLM4_FAILED;
	bytes_take(&r, (cookie_len + 3) / 4 * 4);
	status = bytes_get_be32(&r);
	return r.failed || status > NLM4_FAILED ? NLM4_FAILED : (nlm4_stats)status;
}
