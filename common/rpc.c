/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/rpc.h"

#include "common/log.h"
#include "common/page_pipe.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* RFC 5531, 8.2, 9 and appendix A */
enum { MESSAGE_CALL = 0, MESSAGE_REPLY = 1, RPC_MESSAGE_VERSION = 2 };
enum { REPLY_ACCEPTED = 0, REPLY_DENIED = 1 };
enum { DENIED_RPC_MISMATCH = 0, DENIED_AUTH_ERROR = 1 };
enum { AUTH_BAD_CREDENTIALS = 1, AUTH_BAD_VERIFIER = 3 };
enum { AUTH_BODY_MAX = 400, MACHINE_NAME_MAX = 255, NOBODY = 65534 };

enum {
	ACCEPTED_BYTES = 6 * 4, /* xid, message type, accepted, verifier (flavor, length), accept status */
	ERROR_BYTES = 2 * 4,	/* the two versions of a mismatch */
};

static struct rpc_call *letter_call(struct letter *letter)
{
	return (struct rpc_call *)((char *)letter - offsetof(struct rpc_call, letter));
}

static void done_open(struct letter *letter)
{
	struct rpc_call *call = letter_call(letter);

	call->done(call);
}

static void rpc_done(struct rpc_call *call, size_t message_len)
{
	void (*on_reply)(struct rpc_call *, void *) = call->on_reply;

	call->reply_len = message_len;
	call->on_reply = NULL; /* the transport may use the struct for another call */
	if (on_reply)
		on_reply(call, call->on_reply_arg);
	if (call->home && !loop_is_here(call->home)) {
		call->letter.open = done_open;
		loop_post(call->home, &call->letter);
	} else {
		call->done(call); /* the call may be gone now */
	}
}

static uint8_t *padded(struct bytes_reader *r, size_t len)
{
	return (uint8_t *)bytes_take(r, (len + 3) / 4 * 4);
}

/* Room for a message of @max bytes, in what is there if it is enough. 0; -ENOMEM */
static int reply_reserve(struct rpc_call *call, size_t max)
{
	size_t room = RPC_REPLY_HEADROOM + max;

	page_pipe_put(call->pages);
	call->pages = NULL;
	if (call->reply_room >= room)
		return 0;
	free(call->reply);
	call->reply = malloc(room);
	call->reply_room = call->reply ? room : 0;
	return call->reply ? 0 : -ENOMEM;
}

/* On -ENOMEM the call is done, unanswered. */
static int message_begin(struct rpc_call *call, size_t max, struct bytes_writer *out)
{
	if (reply_reserve(call, max)) {
		rpc_done(call, 0);
		return -ENOMEM;
	}
	*out = bytes_writer_init(call->reply + RPC_REPLY_HEADROOM, max);
	bytes_put_be32(out, call->xid);
	bytes_put_be32(out, MESSAGE_REPLY);
	return 0;
}

static void put_accepted(struct bytes_writer *out, enum rpc_accept status)
{
	bytes_put_be32(out, REPLY_ACCEPTED);
	bytes_put_be32(out, RPC_AUTH_NONE);
	bytes_put_be32(out, 0);
	bytes_put_be32(out, status);
}

int rpc_reply_begin(struct rpc_call *call, size_t results_max, struct bytes_writer *out)
{
	struct bytes_writer header;

	if (reply_reserve(call, ACCEPTED_BYTES + results_max)) {
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
		return -ENOMEM;
	}
	header = bytes_writer_init(call->reply + RPC_REPLY_HEADROOM, ACCEPTED_BYTES);
	bytes_put_be32(&header, call->xid);
	bytes_put_be32(&header, MESSAGE_REPLY);
	put_accepted(&header, RPC_ACCEPT_SUCCESS);
	*out = bytes_writer_init(header.p, results_max);
	return 0;
}

void rpc_reply_end(struct rpc_call *call, const struct bytes_writer *out)
{
	if (BUG_IF(out->failed)) {
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
		return;
	}
	rpc_done(call, ACCEPTED_BYTES + out->written);
}

void rpc_reply_error(struct rpc_call *call, enum rpc_accept status, uint32_t low, uint32_t high)
{
	struct bytes_writer out;

	if (message_begin(call, ACCEPTED_BYTES + ERROR_BYTES, &out))
		return;
	put_accepted(&out, status);
	if (status == RPC_ACCEPT_PROG_MISMATCH) {
		bytes_put_be32(&out, low);
		bytes_put_be32(&out, high);
	}
	rpc_done(call, out.written);
}

/* A message of another RPC version; RFC 5531, 9. */
static void deny_version(struct rpc_call *call)
{
	struct bytes_writer out;

	if (message_begin(call, 6 * 4, &out))
		return;
	bytes_put_be32(&out, REPLY_DENIED);
	bytes_put_be32(&out, DENIED_RPC_MISMATCH);
	bytes_put_be32(&out, RPC_MESSAGE_VERSION);
	bytes_put_be32(&out, RPC_MESSAGE_VERSION);
	rpc_done(call, out.written);
}

static void deny_credentials(struct rpc_call *call, uint32_t why)
{
	struct bytes_writer out;

	if (message_begin(call, 5 * 4, &out))
		return;
	bytes_put_be32(&out, REPLY_DENIED);
	bytes_put_be32(&out, DENIED_AUTH_ERROR);
	bytes_put_be32(&out, why);
	rpc_done(call, out.written);
}

void rpc_reply_copy(struct rpc_call *call, const void *message, size_t len)
{
	call->reply_len = 0;
	if (reply_reserve(call, len))
		return;
	memcpy(call->reply + RPC_REPLY_HEADROOM, message, len);
	call->reply_len = len;
}

void rpc_reply_copied(struct rpc_call *call)
{
	if (call->reply_len)
		rpc_done(call, call->reply_len);
	else
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
}

void rpc_reply_whole(struct rpc_call *call, const void *message, size_t len)
{
	rpc_reply_copy(call, message, len);
	rpc_reply_copied(call);
}

void rpc_reply_nothing(struct rpc_call *call)
{
	rpc_done(call, 0);
}

int rpc_call_keep(struct rpc_call *call)
{
	if (call->kept)
		return 0;
	if (call->give_record && (call->kept = call->give_record(call)))
		return 0;
	call->kept = malloc(call->record_len);
	if (!call->kept)
		return -ENOMEM;
	memcpy(call->kept, call->record, call->record_len);
	if (call->args.p)
		call->args.p = call->kept + (call->args.p - call->record);
	call->record = call->kept;
	return 0;
}

void rpc_call_drop(struct rpc_call *call)
{
	free(call->kept);
	call->kept = NULL;
	call->record = NULL;
}

void rpc_call_fini(struct rpc_call *call)
{
	group_set_put(call->group_set);
	call->group_set = NULL;
	rpc_call_drop(call);
	page_pipe_put(call->pages);
	call->pages = NULL;
	free(call->reply);
	call->reply = NULL;
	call->reply_len = call->reply_room = 0;
}

/* AUTH_SYS, RFC 5531, appendix A. Return: 0; -EBADMSG */
static int credentials_parse(struct bytes_reader body, struct credentials *who)
{
	struct credentials said = { 0 };
	uint32_t name_len;

	bytes_get_be32(&body); /* stamp */
	name_len = bytes_get_be32(&body);
	if (name_len > MACHINE_NAME_MAX)
		return -EBADMSG;
	padded(&body, name_len);
	said.uid = bytes_get_be32(&body);
	said.gid = bytes_get_be32(&body);
	said.group_count = bytes_get_be32(&body);
	if (said.group_count > CREDENTIALS_GROUPS_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < said.group_count; i++)
		said.groups[i] = bytes_get_be32(&body);
	if (body.failed)
		return -EBADMSG;
	*who = said;
	return 0;
}

/* The opaque_auth at the cursor; what is longer than the standard allows fails the cursor's owner, not the cursor. */
static struct bytes_reader auth_body(struct bytes_reader *r, uint32_t *flavor, bool *too_long)
{
	uint32_t len;
	const uint8_t *body;

	*flavor = bytes_get_be32(r);
	len = bytes_get_be32(r);
	*too_long = len > AUTH_BODY_MAX;
	if (*too_long)
		return bytes_reader_init(NULL, 0);
	body = padded(r, len);
	return bytes_reader_init(body, body ? len : 0);
}

static int authenticate(struct rpc_call *call, struct bytes_reader *r)
{
	struct bytes_reader body;
	uint32_t flavor, verifier_flavor;
	bool too_long;

	body = auth_body(r, &flavor, &too_long);
	if (too_long)
		return AUTH_BAD_CREDENTIALS;
	auth_body(r, &verifier_flavor, &too_long);
	if (too_long)
		return AUTH_BAD_VERIFIER;
	call->flavor = flavor;
	call->who = (struct credentials){ .uid = NOBODY, .gid = NOBODY };
	if (flavor == RPC_AUTH_SYS && !r->failed && credentials_parse(body, &call->who))
		return AUTH_BAD_CREDENTIALS;
	if (flavor != RPC_AUTH_NONE && flavor != RPC_AUTH_SYS)
		return AUTH_BAD_CREDENTIALS;
	return 0;
}

static void route(struct rpc_server *server, struct rpc_call *call)
{
	for (const struct rpc_program *program = server->programs; program->number; program++) {
		if (program->number != call->program)
			continue;
		if (call->version < program->version_low || call->version > program->version_high)
			rpc_reply_error(call, RPC_ACCEPT_PROG_MISMATCH, program->version_low, program->version_high);
		else
			program->dispatch(program, call);
		return;
	}
	rpc_reply_error(call, RPC_ACCEPT_PROG_UNAVAIL, 0, 0);
}

bool rpc_answers_long(const struct rpc_server *server, const uint8_t *record, size_t len)
{
	struct bytes_reader r = bytes_reader_init(record, len);
	uint32_t program, procedure;

	bytes_take(&r, 3 * 4); /* xid, message type, RPC version */
	program = bytes_get_be32(&r);
	bytes_get_be32(&r); /* version */
	procedure = bytes_get_be32(&r);
	if (r.failed)
		return true; /* in more fragments than one: who knows */
	for (const struct rpc_program *p = server->programs; p->number; p++)
		if (p->number == program)
			return procedure < 32 && p->long_answers & 1u << procedure;
	return false;
}

void rpc_dispatch(struct rpc_server *server, struct rpc_call *call)
{
	struct bytes_reader r = bytes_reader_init(call->record, call->record_len);
	uint32_t type, rpc_version;
	int denied;

	if (!call->home)
		call->home = server->loop;
	call->xid = bytes_get_be32(&r);
	type = bytes_get_be32(&r);
	rpc_version = bytes_get_be32(&r);
	if (!r.failed && type == MESSAGE_CALL && rpc_version != RPC_MESSAGE_VERSION) {
		deny_version(call);
		return;
	}
	call->program = bytes_get_be32(&r);
	call->version = bytes_get_be32(&r);
	call->procedure = bytes_get_be32(&r);
	denied = authenticate(call, &r);
	if (r.failed || type != MESSAGE_CALL) {
		rpc_reply_nothing(call);
		return;
	}
	if (denied) {
		deny_credentials(call, (uint32_t)denied);
		return;
	}
	call->args = r;
	route(server, call);
}

/* Passing on */

static void passed_open(struct letter *letter)
{
	struct rpc_call *call = letter_call(letter);

	rpc_dispatch(call->passed_to, call);
}

void rpc_send_on(struct rpc_call *call)
{
	call->is_passing = false;
	if (!call->passed_to)
		return;
	call->letter.open = passed_open;
	loop_post(call->passed_to->loop, &call->letter);
}

void rpc_pass_on(struct rpc_call *call, struct rpc_server *to)
{
	if (rpc_call_keep(call) < 0) {
		rpc_reply_nothing(call);
		return;
	}
	call->passed_to = to;
	if (!call->is_passing)
		rpc_send_on(call);
}
