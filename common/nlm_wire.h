/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nlm_wire.h - arguments and results of NLM, in versions 1, 3 and 4
 *
 * The engine (common/nlm.h) thinks in version 4. The others have offsets of 32 bits and fewer statuses, and nothing else
 * that matters. Which procedure has what is said by bits, so that one function reads and one writes them all.
 *
 * Source: common/nlm.x.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_NLM_WIRE_H
#define VNAS_COMMON_NLM_WIRE_H

#include "common/bytes.h"
#include "common/client_call.h"
#include "common/lock_table.h"
#include "common/nlm_xdr.h" /* made by rpcgen from common/nlm.x */

/* XNFS, 14.4 */
enum nlm_number {
	NLM_NULL,
	NLM_TEST,
	NLM_LOCK,
	NLM_CANCEL,
	NLM_UNLOCK,
	NLM_GRANTED,
	NLM_TEST_MSG,
	NLM_LOCK_MSG,
	NLM_CANCEL_MSG,
	NLM_UNLOCK_MSG,
	NLM_GRANTED_MSG,
	NLM_TEST_RES,
	NLM_LOCK_RES,
	NLM_CANCEL_RES,
	NLM_UNLOCK_RES,
	NLM_GRANTED_RES,
	NLM_SHARE = 20,
	NLM_UNSHARE,
	NLM_NM_LOCK,
	NLM_FREE_ALL,
};

/* What a procedure has in its arguments, beside cookie and lock, and in its results. */
enum nlm_form {
	NLM_HAS_BLOCK = 1,
	NLM_HAS_EXCLUSIVE = 2,
	NLM_HAS_RECLAIM = 4,
	NLM_HAS_SHARE = 8,     /* instead of a lock */
	NLM_TELLS_HOLDER = 16, /* if it is denied */
};

enum {
	NLM_COOKIE_BYTES = 8, /* of ours */
	NLM_RESULTS_MAX = 4 + NLM_OPAQUE_MAX + 4 + 3 * 4 + NLM_OPAQUE_MAX + 2 * 8,
	NLM_GRANTED_MAX = 4 + NLM_COOKIE_BYTES + 4 + 4 + LOCK_NAME_MAX + 1 + 4 + LOCK_FILE_ID_MAX + 4 + LOCK_OH_MAX +
			  4 + 2 * 8,
};

_Static_assert(NLM_RESULTS_MAX <= (int)CLIENT_CALL_ARGS_MAX && NLM_GRANTED_MAX <= (int)CLIENT_CALL_ARGS_MAX,
	       "there is room");

/* The arguments of all procedures; a field that a procedure does not have is zero. */
struct nlm_args {
	nlm_opaque cookie;
	bool_t block, exclusive, reclaim;
	nlm4_lock lock;
	nlm_share share;
	int32_t state;
};

/**
 * nlm_args_decode() - read the arguments of a call
 * @form:	NLM_* bits of its procedure
 * @args:	out; free with nlm_args_free(), also on failure
 *
 * Return: false if they are none, or there is no memory
 */
bool nlm_args_decode(const struct bytes_reader *bytes, unsigned int form, uint32_t version, struct nlm_args *args);
void nlm_args_free(struct nlm_args *args);

/* The results of a call: NLM_RESULTS_MAX bytes at most. @holder: of NLM_TELLS_HOLDER; else it may be NULL */
void nlm_put_results(struct bytes_writer *w, unsigned int form, uint32_t version, const nlm_opaque *cookie,
		     nlm4_stats status, const struct lock_holder *holder);

/* The arguments of NLM_GRANTED: NLM_GRANTED_MAX bytes at most. The grant's id is the cookie. */
void nlm_put_granted(struct bytes_writer *w, const struct lock_grant *grant);

/* What a client says to NLM_GRANTED: cookie, status. Return: its status, or NLM4_FAILED if that can't be read */
nlm4_stats nlm_granted_status(const uint8_t *results, size_t len);

#endif
