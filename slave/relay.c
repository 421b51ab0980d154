/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/relay.h"

#include "common/clock.h"
#include "common/file_service.h"
#include "common/flow.h"
#include "common/log.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum {
	BUCKETS = 256,
	NODES = 256,
	/*
	 * Calls and answers on their way between us and one device; above that calls wait here. SCP drops what is more than
	 * 64 MiB, and it would be everybody's answers, not only those of the client that asked for too much.
	 */
	ON_THE_WAY_MAX = 32 * 1024 * 1024,
	SAY_AGAIN_MS = 1000,
};

/* A call of ours that another device is answering, or will be asked to. */
struct relay_out {
	LIST_ENTRY(relay_out) link;
	TAILQ_ENTRY(relay_out) wait; /* unless it was sent */
	bool sent;
	bool runs_once;    /* file_service_runs_once() */
	bool is_awaited;   /* file_service_is_awaited() */
	bool may_have_run; /* it was sent, now or earlier, perhaps by another device */
	size_t bytes; /* of the call and its answer */
	struct relay *relay;
	uint32_t node, request;
	struct rpc_call *call;
	struct event *timer;
};

/* A call of another device that we are answering. */
struct relay_in {
	struct rpc_call call;
	struct relay *relay;
	LIST_ENTRY(relay_in) link;
	struct flow_key flow; /* without what a relayed call does not tell */
	uint32_t node, request;
	uint32_t life; /* of the node: relay_node_began() */
	uint8_t record[];
};

struct relay {
	struct event_base *base;
	struct rpc_server *rpc;
	struct scp *scp;
	LIST_HEAD(relay_bucket, relay_out) out[BUCKETS]; /* by request number */
	LIST_HEAD(, relay_in) in;
	relay_served_fn on_served;
	void *on_served_arg;
	TAILQ_HEAD(, relay_out) waiting;
	size_t on_the_way[NODES];
	uint32_t lives[NODES];
	struct event *on_room;
	unsigned int unanswered; /* since it was said last */
	uint64_t said_ms;
};

static void relay_on_room(evutil_socket_t fd, short what, void *arg);

struct relay *relay_new(struct event_base *base, struct rpc_server *rpc)
{
	struct relay *relay = calloc(1, sizeof(*relay));

	if (!relay)
		return NULL;
	relay->on_room = event_new(base, -1, 0, relay_on_room, relay);
	if (!relay->on_room) {
		free(relay);
		return NULL;
	}
	relay->base = base;
	relay->rpc = rpc;
	for (size_t i = 0; i < BUCKETS; i++)
		LIST_INIT(&relay->out[i]);
	LIST_INIT(&relay->in);
	TAILQ_INIT(&relay->waiting);
	return relay;
}

void relay_set_scp(struct relay *relay, struct scp *scp)
{
	relay->scp = scp;
}

static void out_free(struct relay_out *out)
{
	struct relay *relay = out->relay;

	LIST_REMOVE(out, link);
	if (out->sent)
		relay->on_the_way[out->node % NODES] -= out->bytes;
	else
		TAILQ_REMOVE(&relay->waiting, out, wait);
	if (!TAILQ_EMPTY(&relay->waiting))
		event_active(relay->on_room, 0, 0);
	event_free(out->timer);
	free(out);
}

static void call_unreachable(struct rpc_call *call, bool is_open)
{
	if (is_open)
		rpc_reply_nothing(call);
	else
		file_service_unreachable(call);
}

/* Nobody can say whether it was run, and it must not run again; or there is nothing else to say. */
static bool out_is_open(const struct relay_out *out)
{
	return out->is_awaited || (out->runs_once && out->may_have_run);
}

static void out_unreachable(struct relay_out *out)
{
	struct rpc_call *call = out->call;
	bool is_open = out_is_open(out);

	out_free(out);
	call_unreachable(call, is_open);
}

static void count_unanswered(struct relay *relay, const struct relay_out *out)
{
	uint64_t now_ms = clock_monotonic_ms();

	relay->unanswered++;
	if (!relay->said_ms || now_ms - relay->said_ms >= SAY_AGAIN_MS) {
		log_warn("relay", "node=%u did not answer calls=%u, the last of program %u procedure %u, within %d ms",
			 out->node, relay->unanswered, out->call->program, out->call->procedure, RELAY_TIMEOUT_MS);
		relay->unanswered = 0;
		relay->said_ms = now_ms;
	}
}

static void relay_ask(struct relay *relay, struct relay_out *out);

static void out_on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct relay_out *out = arg;

	(void)fd, (void)what;
	if (out->sent)
		count_unanswered(out->relay, out);
	if (out->sent && (out->runs_once || out->is_awaited))
		relay_ask(out->relay, out); /* its disk is slow; or the call is lost */
	else
		out_unreachable(out);
}

void relay_free(struct relay *relay)
{
	struct relay_in *in;

	if (!relay)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (!LIST_EMPTY(&relay->out[i]))
			out_unreachable(LIST_FIRST(&relay->out[i]));
	LIST_FOREACH(in, &relay->in, link)
		in->relay = NULL;
	event_free(relay->on_room);
	free(relay);
}

static int relay_send(struct relay *relay, struct relay_out *out)
{
	const struct rpc_call *call = out->call;
	scp_message message = { .type = SCP_RELAY_CALL };
	scp_relay_call *wire = &message.scp_message_u.relay_call;
	struct flow_key flow;

	if (flow_from_sockets(&call->client, &call->server, 0, &flow) < 0)
		return -EAFNOSUPPORT;
	memcpy(wire->client, flow.client, sizeof(wire->client));
	memcpy(wire->server, flow.vip, sizeof(wire->server));
	wire->client_port = ntohs(flow.client_port);
	wire->record.record_val = (char *)call->record;
	wire->record.record_len = (u_int)call->record_len;
	return scp_send(relay->scp, out->node, SCP_RELAY, out->request, &message);
}

/* One call alone may always be on its way, however long it is. */
static bool relay_has_room(const struct relay *relay, const struct relay_out *out)
{
	size_t on_the_way = relay->on_the_way[out->node % NODES];

	if (!scp_is_up(relay->scp, out->node, SCP_RELAY))
		return false;
	return on_the_way == 0 || on_the_way + out->bytes <= ON_THE_WAY_MAX;
}

static void relay_ask(struct relay *relay, struct relay_out *out)
{
	if (relay_send(relay, out) < 0) {
		out_unreachable(out);
		return;
	}
	out->may_have_run = true;
	event_add(out->timer, &(struct timeval){ .tv_sec = RELAY_TIMEOUT_MS / 1000 });
}

static void relay_start(struct relay *relay, struct relay_out *out)
{
	out->sent = true;
	relay->on_the_way[out->node % NODES] += out->bytes;
	relay_ask(relay, out);
}

/* Its session is lost, and perhaps the answer with it. It waits for the next one, as long as it would for the answer. */
static void relay_wait_again(struct relay *relay, struct relay_out *out)
{
	if (out->sent) {
		out->sent = false;
		relay->on_the_way[out->node % NODES] -= out->bytes;
		TAILQ_INSERT_TAIL(&relay->waiting, out, wait);
	}
	event_add(out->timer, &(struct timeval){ .tv_sec = RELAY_TIMEOUT_MS / 1000 });
}

/* An event, so that no answer is given while somebody walks through the calls. */
static void relay_on_room(evutil_socket_t fd, short what, void *arg)
{
	struct relay *relay = arg;
	struct relay_out *out, *next;

	(void)fd, (void)what;
	for (out = TAILQ_FIRST(&relay->waiting); out; out = next) {
		next = TAILQ_NEXT(out, wait);
		if (scp_is_up(relay->scp, out->node, SCP_RELAY))
			event_del(out->timer); /* the session came; now it waits for room */
		if (!relay_has_room(relay, out))
			continue;
		TAILQ_REMOVE(&relay->waiting, out, wait);
		relay_start(relay, out);
	}
}

/* A device that is there gets its relay session within moments: worth waiting, a client told JUKEBOX waits for 5 s. */
static bool relay_may_reach(const struct relay *relay, uint32_t node)
{
	return scp_is_up(relay->scp, node, SCP_RELAY) || scp_is_up(relay->scp, node, SCP_CONTROL);
}

void relay_call(struct relay *relay, uint32_t node, struct rpc_call *call)
{
	bool runs_once = file_service_runs_once(call), is_awaited = file_service_is_awaited(call);
	bool is_open = is_awaited || (runs_once && call->may_be_repeated), has_room;
	struct relay_out *out;
	int rc = 0;

	if (!relay->scp || (!is_open && !relay_may_reach(relay, node))) {
		call_unreachable(call, is_open);
		return;
	}
	out = calloc(1, sizeof(*out));
	if (out)
		out->timer = evtimer_new(relay->base, out_on_timeout, out);
	if (!out || !out->timer) {
		free(out);
		call_unreachable(call, is_open);
		return;
	}
	out->relay = relay;
	out->node = node;
	out->call = call;
	out->request = scp_next_request(relay->scp);
	out->bytes = call->record_len + call->reply_bytes;
	LIST_INSERT_HEAD(&relay->out[out->request % BUCKETS], out, link);
	out->runs_once = runs_once;
	out->is_awaited = is_awaited;
	out->may_have_run = is_open;
	has_room = relay_has_room(relay, out);
	if (!has_room || runs_once || is_awaited)
		rc = rpc_call_keep(call);
	if (rc == 0 && has_room) {
		relay_start(relay, out);
		return;
	}
	TAILQ_INSERT_TAIL(&relay->waiting, out, wait);
	if (rc < 0)
		out_unreachable(out);
	else if (!scp_is_up(relay->scp, node, SCP_RELAY))
		event_add(out->timer,
			  &(struct timeval){ .tv_sec = (is_open ? RELAY_TIMEOUT_MS : RELAY_CONNECT_MS) / 1000 });
}

void relay_node_found(struct relay *relay)
{
	if (!TAILQ_EMPTY(&relay->waiting))
		event_active(relay->on_room, 0, 0);
}

void relay_node_lost(struct relay *relay, uint32_t node)
{
	struct relay_out *out, *next;

	for (size_t i = 0; i < BUCKETS; i++)
		for (out = LIST_FIRST(&relay->out[i]); out; out = next) {
			next = LIST_NEXT(out, link);
			if (out->node != node)
				continue;
			if (out_is_open(out))
				relay_wait_again(relay, out);
			else
				out_unreachable(out);
		}
}

static void relay_answered(struct relay *relay, uint32_t node, uint32_t request, const scp_relay_reply *reply)
{
	struct relay_out *out;
	struct rpc_call *call;

	LIST_FOREACH(out, &relay->out[request % BUCKETS], link)
		if (out->request == request && out->node == node)
			break;
	if (!out)
		return; /* it came too late */
	if (reply->result != 0 || reply->record.record_len == 0) {
		out_unreachable(out);
		return;
	}
	call = out->call;
	out_free(out);
	rpc_reply_whole(call, reply->record.record_val, reply->record.record_len);
}

/* The owner's side. */

void relay_node_began(struct relay *relay, uint32_t node)
{
	relay->lives[node % NODES]++;
}

bool relay_is_settled(const struct relay *relay, uint32_t node)
{
	const struct relay_in *in;

	LIST_FOREACH(in, &relay->in, link)
		if (in->node == node && in->life != relay->lives[node % NODES])
			return false;
	return true;
}

static void in_done(struct rpc_call *call)
{
	struct relay_in *in = call->transport_state;
	scp_message message = { .type = SCP_RELAY_REPLY };
	scp_relay_reply *wire = &message.scp_message_u.relay_reply;

	if (call->reply_len == 0)
		wire->result = EBADMSG;
	wire->record.record_val = (char *)call->reply + RPC_REPLY_HEADROOM;
	wire->record.record_len = (u_int)call->reply_len;
	if (in->relay) {
		LIST_REMOVE(in, link);
		if (call->moved_data && in->relay->on_served)
			in->relay->on_served(in->node, &in->flow, call->data_bytes, in->relay->on_served_arg);
		if (in->relay->scp)
			scp_send(in->relay->scp, in->node, SCP_RELAY, in->request, &message);
	}
	rpc_call_fini(call);
	free(in);
}

void relay_on_served(struct relay *relay, relay_served_fn on_served, void *arg)
{
	relay->on_served = on_served;
	relay->on_served_arg = arg;
}

static void relay_serve(struct relay *relay, uint32_t node, uint32_t request, const scp_relay_call *wire)
{
	struct relay_in *in = calloc(1, sizeof(*in) + wire->record.record_len);

	if (!in)
		return; /* the caller's time-out answers */
	in->flow.client_port = htons((uint16_t)wire->client_port);
	memcpy(in->flow.client, wire->client, sizeof(in->flow.client));
	memcpy(in->flow.vip, wire->server, sizeof(in->flow.vip));
	memcpy(in->record, wire->record.record_val, wire->record.record_len);
	in->relay = relay;
	in->node = node;
	in->request = request;
	in->life = relay->lives[node % NODES];
	in->call = (struct rpc_call){
		.record = in->record,
		.record_len = wire->record.record_len,
		.transport = RPC_RELAYED,
		.done = in_done,
		.transport_state = in,
	};
	flow_to_sockets(&in->flow, &in->call.client, &in->call.server);
	LIST_INSERT_HEAD(&relay->in, in, link);
	rpc_dispatch(relay->rpc, &in->call);
}

void relay_received(struct relay *relay, uint32_t node, uint32_t request, const scp_message *message)
{
	if (message->type == SCP_RELAY_CALL)
		relay_serve(relay, node, request, &message->scp_message_u.relay_call);
	else if (message->type == SCP_RELAY_REPLY)
		relay_answered(relay, node, request, &message->scp_message_u.relay_reply);
}
