/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/spread_call.h - a call that changes what is in a spread directory
 *
 * NFS takes it apart, as far as that needs (common/nfs3_spread.c), and gives it to the master's side (master/spread.h), which has a branch
 * carry it out: by the same call, with the same credentials, but with the handle of the branch's root. What the branch's
 * owner answers becomes the client's answer, but for what is said of the directory.
 *
 * Ownership: who was given a call answers it once, by one of the functions below, which free it.
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_SPREAD_CALL_H
#define VNAS_COMMON_SPREAD_CALL_H

#include "common/handle.h"
#include "common/namespace.h"
#include "common/rpc.h"

struct file_service;
struct nfs3_procedure;

enum spread_call_kind { SPREAD_CALL_MAKE, SPREAD_CALL_REMOVE, SPREAD_CALL_RENAME };

struct spread_call {
	enum spread_call_kind kind;
	uint32_t spread;
	char name[NS_NAME_MAX + 1];
	char to[NS_NAME_MAX + 1]; /* RENAME */
	struct rpc_call *call;    /* kept */
	struct handle_key key;

	/* The engine's. */
	struct file_service *service;
	const struct nfs3_procedure *procedure;
};

/* What the owner of a branch has answered. */
struct spread_result {
	uint32_t status; /* nfsstat3 */
	bool has_made;	 /* the following are known, of what there is now */
	struct handle handle;
	uint32_t type; /* S_IFDIR, ... */
	uint64_t fileid;
	const uint8_t *results; /* of MAKE, up to what is said of the directory: borrows the reply, or these: */
	size_t results_len;
	uint8_t own_results[4 + 4 + HANDLE_MAX + 4];
};

/**
 * spread_call_compose() - the call message for a branch
 * @root:	of the branch
 * @record:	out: to be freed by the caller
 *
 * Return: 0; -ENOMEM; -EBADMSG: its arguments are not what they were when it was taken apart
 */
int spread_call_compose(const struct spread_call *spread, const struct handle *root, uint8_t **record, size_t *len);

/**
 * spread_call_result() - read a reply to such a message
 * @reply:	borrowed, also by @out
 *
 * Return: 0; -EBADMSG: that is none
 */
int spread_call_result(const struct spread_call *spread, const uint8_t *reply, size_t len, struct spread_result *out);

/* What was made is known from elsewhere. @out: as if the branch's owner had said so, without attributes; not to be moved */
void spread_call_found(const struct spread_call *spread, const struct handle *made, struct spread_result *out);

/* Answer as the branch's owner did. @directory: as it is now, or NULL */
void spread_call_answer(struct spread_call *spread, const struct spread_result *result, const struct stat *directory);

/* Answer with an error. */
void spread_call_fail(struct spread_call *spread, int err, const struct stat *directory);

/* Nobody can say what has become of it: the client asks again, with the same xid. */
void spread_call_drop(struct spread_call *spread);

#endif
