/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * RQUOTA (common/rquota.x), as rpc.rquotad: who may use how much of the file system below a path.
 *
 * A user is told about himself and his groups, root about everybody. Who asks is whom the client says: squashing is about
 * files, and an AUTH_SYS client that wants to can ask as anybody anyway. Nor is a privileged port required, whatever
 * the export says: users run quota(1) themselves.
 *
 *	decode --> path --> volume --> rights --> backend, on a worker --> reply
 *	  |         |         |           |
 *	GARBAGE  NOQUOTA    relay       EPERM
 *	_ARGS
 */
#include "config.h"

#include "common/file_service_internal.h"
#include "common/rquota_xdr.h" /* made by rpcgen from common/rquota.x */
#include "common/workers.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum rquota_number { RQUOTA_NULL, RQUOTA_GET, RQUOTA_GET_ACTIVE, RQUOTA_SET, RQUOTA_SET_ACTIVE };

enum { RESULT_BYTES = 11 * 4, BLOCK_BYTES = 1024, EXTENDED = 2 };

/* One question, while it is answered. */
struct question {
	struct work work;
	struct rpc_call *call;
	struct volume *volume;
	enum backend_quota_kind kind;
	uint32_t id;
	struct backend_quota quota;
	int err;
};

static void reply_status(struct rpc_call *call, rquota_status status)
{
	struct bytes_writer out;

	if (rpc_reply_begin(call, RESULT_BYTES, &out))
		return;
	bytes_put_be32(&out, status);
	rpc_reply_end(call, &out);
}

static uint32_t in_blocks(uint64_t bytes, uint64_t block_bytes)
{
	return (uint32_t)(bytes / block_bytes + (bytes % block_bytes != 0));
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* The block size is ours to choose, so that all numbers of blocks have room in 32 bits. */
static uint64_t block_bytes_for(const struct backend_quota *quota)
{
	uint64_t most = larger(quota->bytes, larger(quota->byte_hard, quota->byte_soft)), block_bytes = BLOCK_BYTES;

	while (most / block_bytes >= UINT32_MAX && block_bytes < 1U << 30)
		block_bytes *= 2;
	return block_bytes;
}

static uint32_t in_32_bits(uint64_t value)
{
	return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

/* A grace time that is over has a second left: 0 would say that none runs. */
static uint32_t seconds_left(uint64_t end, uint64_t now)
{
	if (!end)
		return 0;
	return end > now ? in_32_bits(end - now) : 1;
}

static void reply_quota(struct rpc_call *call, const struct backend_quota *quota)
{
	uint64_t block_bytes = block_bytes_for(quota), now = (uint64_t)time(NULL);
	struct bytes_writer out;

	if (rpc_reply_begin(call, RESULT_BYTES, &out))
		return;
	bytes_put_be32(&out, RQUOTA_OK);
	bytes_put_be32(&out, (uint32_t)block_bytes);
	bytes_put_be32(&out, true);
	bytes_put_be32(&out, in_blocks(quota->byte_hard, block_bytes));
	bytes_put_be32(&out, in_blocks(quota->byte_soft, block_bytes));
	bytes_put_be32(&out, in_blocks(quota->bytes, block_bytes));
	bytes_put_be32(&out, in_32_bits(quota->file_hard));
	bytes_put_be32(&out, in_32_bits(quota->file_soft));
	bytes_put_be32(&out, in_32_bits(quota->files));
	bytes_put_be32(&out, seconds_left(quota->byte_grace_end, now));
	bytes_put_be32(&out, seconds_left(quota->file_grace_end, now));
	rpc_reply_end(call, &out);
}

static void question_run(struct work *work)
{
	struct question *question = (struct question *)work;
	const struct backend *backend = question->volume->backend;

	question->err = backend->quota ? backend->quota(question->volume, question->kind, question->id, &question->quota)
				       : -EOPNOTSUPP;
}

static void question_done(struct work *work)
{
	struct question *question = (struct question *)work;

	if (question->err)
		reply_status(question->call, RQUOTA_NOQUOTA);
	else
		reply_quota(question->call, &question->quota);
	free(question);
}

static void ask_backend(struct file_service *service, const struct question *asked)
{
	struct question *question = malloc(sizeof(*question));

	if (!question) {
		rpc_reply_error(asked->call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
		return;
	}
	*question = *asked;
	question->work = (struct work){ .lane = question->volume, .run = question_run, .done = question_done };
	/* Directories that are the loop's have no quotas, and are no worker's business. */
	if (service->options.workers && question->volume->backend->quota &&
	    workers_submit(service->options.workers, &question->work) == 0)
		return;
	question_run(&question->work);
	question_done(&question->work);
}

static bool is_member(const struct credentials *who, uint32_t gid)
{
	for (uint32_t i = 0; i < who->group_count; i++)
		if (who->groups[i] == gid)
			return true;
	return who->gid == gid;
}

/* Whether the export lets the client's address in, from whatever port. Return: as exports_rights_at() */
static int check_export(struct exports *exports, uint32_t volume, const char *path, const struct sockaddr_storage *client)
{
	struct sockaddr_storage address = *client;
	struct export_rights rights;

	if (address.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&address)->sin6_port = 0;
	else
		((struct sockaddr_in *)&address)->sin_port = 0;
	return exports_rights_at(exports, volume, path, &address, &rights, NULL);
}

/* Return: 0; EXPORTS_UNKNOWN; -EACCES, -EINPROGRESS, -ENOMEM */
static int check_rights(const struct file_service *service, uint32_t volume, const char *path,
			const struct question *question)
{
	const struct credentials *who = &question->call->who;
	int err = check_export(service->exports, volume, path, &question->call->client);

	if (err || who->uid == 0)
		return err;
	if (question->kind == BACKEND_QUOTA_USER)
		return who->uid == question->id ? 0 : -EACCES;
	return is_member(who, question->id) ? 0 : -EACCES;
}

static void dispatch_get(struct file_service *service, struct rpc_call *call);

static void answer_from_volume(struct file_service *service, uint32_t volume, const char *path,
			       struct question *question)
{
	struct rpc_call *call = question->call;
	uint32_t node = 0;
	int err = check_rights(service, volume, path, question);

	if (err == EXPORTS_UNKNOWN && file_service_wait(service, call, dispatch_get) == 0)
		return;
	if (!err)
		err = file_service_find(service, volume, call->transport, &question->volume, &node);
	if (err == -EACCES)
		reply_status(call, RQUOTA_EPERM);
	else if (err)
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0); /* perhaps later */
	else if (!question->volume)
		file_service_relay(service, node, call);
	else
		ask_backend(service, question);
}

static void answer(struct file_service *service, const char *path, struct question *question)
{
	const struct namespace *ns = service->options.ns;
	const ns_entry *entry;
	const char *rest;

	if (!namespace_cluster(ns)) {
		rpc_reply_error(question->call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
		return;
	}
	entry = namespace_walk(ns, path, &rest);
	if (!entry || entry->volume == NAMESPACE_ROOT_VOLUME)
		reply_status(question->call, RQUOTA_NOQUOTA);
	else
		answer_from_volume(service, entry->volume, rest, question);
}

/* The two versions' arguments as one. Return: 0; -EBADMSG */
static int decode(struct rpc_call *call, ext_getquota_args *out)
{
	getquota_args of_user = { 0 };
	bool decoded;
	XDR xdr;

	xdrmem_create(&xdr, (char *)call->args.p, (u_int)call->args.left, XDR_DECODE);
	if (call->version == EXTENDED) {
		decoded = xdr_ext_getquota_args(&xdr, out);
	} else {
		decoded = xdr_getquota_args(&xdr, &of_user);
		*out = (ext_getquota_args){ .path = of_user.path, .type = BACKEND_QUOTA_USER, .id = of_user.uid };
	}
	xdr_destroy(&xdr);
	return decoded && (out->type == BACKEND_QUOTA_USER || out->type == BACKEND_QUOTA_GROUP) ? 0 : -EBADMSG;
}

static void dispatch_get(struct file_service *service, struct rpc_call *call)
{
	struct question question = { .call = call };
	char path[RQUOTA_PATH_MAX + 1];
	ext_getquota_args args = { 0 };

	if (decode(call, &args)) {
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
	} else if (!args.path.rquota_path_len || memchr(args.path.rquota_path_val, '\0', args.path.rquota_path_len)) {
		reply_status(call, RQUOTA_NOQUOTA);
	} else {
		memcpy(path, args.path.rquota_path_val, args.path.rquota_path_len);
		path[args.path.rquota_path_len] = '\0';
		question.kind = (enum backend_quota_kind)args.type;
		question.id = (uint32_t)args.id;
		answer(service, path, &question);
	}
	xdr_free((xdrproc_t)xdr_ext_getquota_args, &args);
}

void rquota_dispatch(const struct rpc_program *program, struct rpc_call *call)
{
	struct bytes_writer out;

	switch (call->procedure) {
	case RQUOTA_NULL:
		if (!rpc_reply_begin(call, 0, &out))
			rpc_reply_end(call, &out);
		break;
	case RQUOTA_GET:
	case RQUOTA_GET_ACTIVE: /* where quotas are off there is no answer to either */
		dispatch_get(program->state, call);
		break;
	case RQUOTA_SET:
	case RQUOTA_SET_ACTIVE:
		reply_status(call, RQUOTA_EPERM);
		break;
	default:
		rpc_reply_error(call, RPC_ACCEPT_PROC_UNAVAIL, 0, 0);
	}
}
