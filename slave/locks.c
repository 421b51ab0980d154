/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/locks.h"

#include "common/client_caller.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/portmap.h"
#include "common/workers.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* A call that the switch makes for us. */
struct asked {
	LIST_ENTRY(asked) link;
	uint32_t request;
	uint64_t end_ms;
	struct client_call_done done;
};

struct locks {
	struct locks_options options;
	struct workers *recorder; /* one thread, which is never a client's user as those of the file service are */
	struct nlm *nlm;
	struct nsm *nsm;
	struct client_caller *caller; /* the switch only */
	struct scp *scp;
	struct event *tick;
	LIST_HEAD(, asked) asked;
	size_t asked_count;
};

/* Calls to clients */

static void asked_end(struct locks *locks, struct asked *asked, int result, const uint8_t *results, size_t len)
{
	struct client_call_done done = asked->done;

	LIST_REMOVE(asked, link);
	locks->asked_count--;
	free(asked);
	if (done.fn)
		done.fn(done.id, result, results, len, done.arg);
}

static int send_call(struct locks *locks, uint32_t request, const struct client_call *call)
{
	scp_message message = { .type = SCP_CLIENT_CALL };
	scp_client_call *wire = &message.scp_message_u.client_call;

	memcpy(wire->client, call->client, sizeof(wire->client));
	memcpy(wire->vip, call->vip, sizeof(wire->vip));
	wire->rpc_program = call->program;
	wire->rpc_version = call->version;
	wire->rpc_procedure = call->procedure;
	wire->args.args_val = (char *)call->args;
	wire->args.args_len = (u_int)call->args_len;
	return scp_send(locks->scp, NAMESPACE_MASTER, SCP_CONTROL, request, &message);
}

/* `call` of a device that is not the switch. */
static void ask_switch(const struct client_call *call, const struct client_call_done *done, void *arg)
{
	struct locks *locks = arg;
	struct asked *asked = NULL;
	int rc = -ENOTCONN;

	if (locks->scp)
		rc = -EAGAIN;
	if (locks->scp && locks->asked_count < LOCKS_CALLS_MAX)
		asked = malloc(sizeof(*asked));
	if (asked) {
		asked->request = scp_next_request(locks->scp);
		asked->end_ms = clock_monotonic_ms() + LOCKS_ANSWER_MS;
		asked->done = *done;
		rc = send_call(locks, asked->request, call);
	}
	if (rc == 0) {
		LIST_INSERT_HEAD(&locks->asked, asked, link);
		locks->asked_count++;
		return;
	}
	free(asked);
	if (done->fn)
		done->fn(done->id, rc, NULL, 0, done->arg);
}

static void received_answer(struct locks *locks, uint32_t request, const scp_client_answer *wire)
{
	struct asked *asked;

	LIST_FOREACH(asked, &locks->asked, link)
		if (asked->request == request)
			break;
	if (asked) /* else it came too late */
		asked_end(locks, asked, -wire->result, (const uint8_t *)wire->results.results_val,
			  wire->results.results_len);
}

static void expire_asked(struct locks *locks, uint64_t now_ms)
{
	struct asked *asked, *next;

	for (asked = LIST_FIRST(&locks->asked); asked; asked = next) {
		next = LIST_NEXT(asked, link);
		if (now_ms >= asked->end_ms)
			asked_end(locks, asked, -ETIMEDOUT, NULL, 0);
	}
}

void locks_node_lost(struct locks *locks, uint32_t node)
{
	/* What ends a call may begin others, which are not sent any more. */
	while (node == NAMESPACE_MASTER && !LIST_EMPTY(&locks->asked))
		asked_end(locks, LIST_FIRST(&locks->asked), -EHOSTUNREACH, NULL, 0);
}

/* The switch's side: the answer goes to the device that asked, whose node and request are its id. */
static void on_answer(uint64_t id, int result, const uint8_t *results, size_t len, void *arg)
{
	struct locks *locks = arg;
	scp_message message = { .type = SCP_CLIENT_ANSWER };
	scp_client_answer *wire = &message.scp_message_u.client_answer;

	wire->result = -result;
	if (len > SCP_CLIENT_RESULTS_MAX)
		wire->result = EMSGSIZE;
	else if (len) {
		wire->results.results_val = (char *)results;
		wire->results.results_len = (u_int)len;
	}
	if (locks->scp)
		scp_send(locks->scp, (uint32_t)(id >> 32), SCP_CONTROL, (uint32_t)id, &message);
}

static void received_call(struct locks *locks, uint32_t node, uint32_t request, const scp_client_call *wire)
{
	struct client_call call = {
		.program = wire->rpc_program,
		.version = wire->rpc_version,
		.procedure = wire->rpc_procedure,
		.args = (const uint8_t *)wire->args.args_val,
		.args_len = wire->args.args_len,
	};
	struct client_call_done done = { .fn = on_answer, .arg = locks, .id = (uint64_t)node << 32 | request };

	memcpy(call.client, wire->client, sizeof(call.client));
	memcpy(call.vip, wire->vip, sizeof(call.vip));
	if (locks->caller)
		client_caller_call(&call, &done, locks->caller);
	else
		on_answer(done.id, -EOPNOTSUPP, NULL, 0, locks);
}

static bool may_call(void *arg)
{
	const struct locks *locks = arg;

	return locks->caller || (locks->scp && scp_is_up(locks->scp, NAMESPACE_MASTER, SCP_CONTROL));
}

/* Clients that restart */

static bool has_volumes(const struct namespace *ns, uint32_t node)
{
	const ns_volume *volume;

	for (size_t at = 0; (volume = namespace_next_volume(ns, &at));)
		if (volume->node == node)
			return true;
	return false;
}

static bool tell_device(struct locks *locks, uint32_t node, const uint8_t address[static 16], const char *name,
			int32_t state)
{
	scp_message message = { .type = SCP_CLIENT_REBOOTED };
	scp_client_rebooted *wire = &message.scp_message_u.client_rebooted;

	memcpy(wire->client, address, sizeof(wire->client));
	wire->name = (char *)name;
	wire->state = state;
	return locks->scp && scp_send(locks->scp, node, SCP_CONTROL, 0, &message) == 0;
}

static bool on_rebooted(const uint8_t address[static 16], const char *name, int32_t state, void *arg)
{
	struct locks *locks = arg;
	bool told = true;
	const ns_node *node;

	nlm_client_rebooted(locks->nlm, address, name, state);
	for (size_t at = 0; (node = namespace_next_node(locks->options.ns, &at));)
		if (node->id != locks->options.self && has_volumes(locks->options.ns, node->id))
			told &= tell_device(locks, node->id, address, name, state);
	return told;
}

void locks_received(struct locks *locks, uint32_t node, uint32_t request, const scp_message *message)
{
	const scp_client_rebooted *rebooted = &message->scp_message_u.client_rebooted;

	switch (message->type) {
	case SCP_CLIENT_CALL:
		received_call(locks, node, request, &message->scp_message_u.client_call);
		break;
	case SCP_CLIENT_ANSWER:
		received_answer(locks, request, &message->scp_message_u.client_answer);
		break;
	case SCP_CLIENT_REBOOTED:
		nlm_client_rebooted(locks->nlm, (const uint8_t *)rebooted->client, rebooted->name, rebooted->state);
		break;
	default:
		break; /* not for us */
	}
}

/* Life */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct locks *locks = arg;
	uint64_t now_ms = clock_monotonic_ms();

	(void)fd, (void)what;
	expire_asked(locks, now_ms);
	nlm_tick(locks->nlm, now_ms);
}

static int make_nsm(struct locks *locks, const struct client_call_way *way)
{
	char directory[PATH_MAX];
	struct nsm_options options = {
		.directory = directory,
		.self = locks->options.self,
		.way = *way,
		.may_call = may_call,
		.on_rebooted = on_rebooted,
		.arg = locks,
	};
	int rc;

	snprintf(directory, sizeof(directory), "%.4000s/nsm", locks->options.state_dir);
	rc = nsm_new(&options, clock_monotonic_ms(), &locks->nsm);
	if (rc < 0)
		log_err("nsm", "%s can't be used: %s; without it nobody could lock files safely", directory,
			strerror(-rc));
	return rc;
}

int locks_new(const struct locks_options *options, struct locks **out)
{
	struct locks *locks = calloc(1, sizeof(*locks));
	struct nlm_options nlm = {
		.files = options->files,
		.workers = options->workers,
		.way = { .call = ask_switch, .arg = locks },
		.on_rebooted = on_rebooted,
		.arg = locks,
	};
	int rc = -ENOMEM;

	if (!locks)
		return -ENOMEM;
	locks->options = *options;
	LIST_INIT(&locks->asked);
	if (options->is_switch) {
		locks->caller = client_caller_new(options->base, PORTMAP_PORT);
		if (!locks->caller)
			goto fail;
		nlm.way = (struct client_call_way){ .call = client_caller_call, .arg = locks->caller };
	}
	rc = make_nsm(locks, &nlm.way);
	if (rc < 0)
		goto fail;
	rc = workers_new(options->base, 1, &locks->recorder);
	if (rc < 0)
		goto fail;
	rc = -ENOMEM;
	nlm.nsm = locks->nsm;
	nlm.recorder = locks->recorder;
	locks->nlm = nlm_new(&nlm);
	locks->tick = event_new(options->base, -1, EV_PERSIST, on_tick, locks);
	if (!locks->nlm || !locks->tick)
		goto fail;
	event_add(locks->tick, &(struct timeval){ .tv_sec = LOCKS_TICK_MS / 1000 });
	*out = locks;
	return 0;
fail:
	locks_free(locks);
	return rc;
}

void locks_free(struct locks *locks)
{
	struct asked *asked;

	if (!locks)
		return;
	if (locks->tick)
		event_free(locks->tick);
	client_caller_free(locks->caller);
	while ((asked = LIST_FIRST(&locks->asked))) {
		LIST_REMOVE(asked, link);
		free(asked);
	}
	workers_free(locks->recorder);
	nlm_free(locks->nlm);
	nsm_free(locks->nsm);
	free(locks);
}

void locks_drain(struct locks *locks)
{
	workers_free(locks->recorder);
	locks->recorder = NULL;
}

void locks_set_scp(struct locks *locks, struct scp *scp)
{
	locks->scp = scp;
}

struct rpc_program locks_nlm_program(struct locks *locks)
{
	return nlm_program(locks->nlm);
}

struct rpc_program locks_nsm_program(struct locks *locks)
{
	return nsm_program(locks->nsm);
}

void locks_follow(struct locks *locks)
{
	nlm_follow_volumes(locks->nlm);
}

const struct nlm *locks_nlm(const struct locks *locks)
{
	return locks->nlm;
}

const struct nsm *locks_nsm(const struct locks *locks)
{
	return locks->nsm;
}
