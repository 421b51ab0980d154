/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/handoff.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

/* One handoff in progress, at either end. */
struct handoff {
	LIST_ENTRY(handoff) link;
	struct handoffs *all;
	struct tch tch;
	uint64_t session;
	uint32_t node; /* the other device */
	struct event *timer;
	bool stepping, finished;

	/* First device. */
	struct kernel_helper_state frozen;
	bool is_frozen;
	uint64_t settle_by_ms; /* monotonic clock */
	uint64_t frozen_us;
	uint32_t duration_us;
	handoff_done_fn on_done;
	void *on_done_arg;

	/* Second device: borrowed while TCH_EV_HANDOFF is stepped. */
	const struct tch_message *message;
};

/* A flow given away, still relayed by our kernel. */
struct relayed_flow {
	LIST_ENTRY(relayed_flow) link;
	struct handoffs *all;
	struct flow_key flow;
	uint64_t id, session;
	uint32_t node, duration_us;
	uint16_t transaction;
	bool confirmed;
	struct event *timer;
};

struct handoffs {
	struct handoffs_options options;
	LIST_HEAD(, handoff) list;
	LIST_HEAD(, relayed_flow) relayed;
	struct handoff_counters counters;
	uint32_t next_id;
};

static void handoff_event(struct handoff *handoff, enum tch_event event, int result);

static void timer_arm(struct event *timer, unsigned int ms)
{
	event_add(timer, &(struct timeval){ .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 });
}

/* Flows given away */

static void relayed_free(struct relayed_flow *relayed)
{
	LIST_REMOVE(relayed, link);
	event_free(relayed->timer);
	free(relayed);
}

static struct relayed_flow *relayed_find(struct handoffs *handoffs, const struct flow_key *flow)
{
	struct relayed_flow *relayed;

	LIST_FOREACH(relayed, &handoffs->relayed, link)
		if (memcmp(&relayed->flow, flow, sizeof(*flow)) == 0)
			return relayed;
	return NULL;
}

static void relayed_ask(struct relayed_flow *relayed)
{
	const struct handoffs_options *options = &relayed->all->options;

	/* The answer may come before the call returns and arm the grace time: so arm first. */
	timer_arm(relayed->timer, HANDOFF_ASK_MS);
	options->functions->change_owner(&relayed->flow, relayed->node, relayed->transaction, options->arg);
}

/* The client came back by the same port, and to us. What the switch was asked for must not happen to its new connection. */
static bool relayed_is_ours(const struct relayed_flow *relayed)
{
	const struct handoffs_options *options = &relayed->all->options;
	bool is_ours;

	loops_pause(options->loops);
	is_ours = conn_find_flow(options->conns, &relayed->flow);
	loops_continue(options->loops);
	return is_ours;
}

static void relayed_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct relayed_flow *relayed = arg;

	(void)fd, (void)what;
	if (!relayed->confirmed && !relayed_is_ours(relayed)) {
		relayed_ask(relayed);
		return;
	}
	kernel_helper_forget(relayed->all->options.helper, &relayed->flow);
	relayed_free(relayed);
}

/* The flow is ours again: nothing is relayed any more. */
static void relayed_cancel(struct handoffs *handoffs, const struct flow_key *flow)
{
	struct relayed_flow *relayed = relayed_find(handoffs, flow);

	if (relayed)
		relayed_free(relayed);
}

static void relayed_start(struct handoff *handoff, const struct flow_key *flow, uint16_t transaction)
{
	struct relayed_flow *relayed = calloc(1, sizeof(*relayed));
	struct handoffs *handoffs = handoff->all;

	relayed_cancel(handoffs, flow);
	if (relayed)
		relayed->timer = evtimer_new(handoffs->options.base, relayed_on_timer, relayed);
	if (!relayed || !relayed->timer) {
		/* The kernel goes on relaying; only the entry will stay, and a lost answer is not asked again. */
		log_err("tch", "no memory to follow a flow that was given to node=%u", handoff->node);
		free(relayed);
		return;
	}
	relayed->all = handoffs;
	relayed->flow = *flow;
	relayed->id = handoff->tch.id;
	relayed->session = handoff->session;
	relayed->node = handoff->node;
	relayed->duration_us = handoff->duration_us;
	relayed->transaction = transaction;
	LIST_INSERT_HEAD(&handoffs->relayed, relayed, link);
	relayed_ask(relayed);
}

static void relayed_send_done(const struct relayed_flow *relayed)
{
	const struct handoffs_options *options = &relayed->all->options;
	struct tch_message message = {
		.kind = TCH_KIND_DONE,
		.flags = TCH_FLAG_HND | TCH_FLAG_END,
		.id = relayed->id,
		.session = relayed->session,
		.result = (int)relayed->duration_us,
	};

	options->functions->send(relayed->node, &message, options->arg);
}

void handoffs_confirmed(struct handoffs *handoffs, const struct flow_key *flow, uint32_t node, uint16_t transaction)
{
	struct relayed_flow *relayed = relayed_find(handoffs, flow);

	if (!relayed || relayed->node != node || relayed->transaction != transaction || relayed->confirmed)
		return;
	relayed->confirmed = true;
	timer_arm(relayed->timer, HANDOFF_GRACE_MS);
	relayed_send_done(relayed);
}

/* Actions */

static struct conn *handoff_conn(const struct handoff *handoff)
{
	return conn_find(handoff->all->options.conns, handoff->session);
}

static void handoff_send(struct handoff *handoff, enum tch_kind kind, uint32_t flags, int result)
{
	const struct handoffs_options *options = &handoff->all->options;
	struct tch_message message = {
		.kind = kind,
		.flags = TCH_FLAG_HND | flags,
		.id = handoff->tch.id,
		.session = handoff->session,
		.result = result,
	};

	if (options->functions->send(handoff->node, &message, options->arg) < 0)
		log_debug("tch", "tch=%jx not sent: node=%u is away", (uintmax_t)handoff->tch.id, handoff->node);
}

/* Long before the other device speaks: it takes two more messages until it can. */
static void handoff_open(struct handoff *handoff)
{
	const struct handoffs_options *options = &handoff->all->options;
	struct conn *conn = handoff_conn(handoff);

	if (conn && options->functions->announce_owner)
		options->functions->announce_owner(conn_flow(conn), handoff->node,
						   (uint16_t)(conn_facts(conn)->handoffs + 1), options->arg);
	handoff_send(handoff, TCH_KIND_OPEN, 0, 0);
}

static void on_quiet(struct conn *conn, void *arg)
{
	(void)conn;
	handoff_event(arg, TCH_EV_QUIET, 0);
}

static void handoff_quiesce(struct handoff *handoff)
{
	struct conn *conn = handoff_conn(handoff);
	int rc = conn ? conn_quiesce(conn, on_quiet, handoff) : -ENOENT;

	if (rc == 0)
		handoff_event(handoff, TCH_EV_QUIET, 0);
	else if (rc != -EINPROGRESS)
		handoff_event(handoff, TCH_EV_CLOSED, 0);
}

static void handoff_freeze(struct handoff *handoff)
{
	struct kernel_helper *helper = handoff->all->options.helper;
	struct conn *conn = handoff_conn(handoff);
	int rc;

	if (!conn) {
		handoff_event(handoff, TCH_EV_CLOSED, 0);
		return;
	}
	/* A client that came back by the same port: the grace time of its old connection must not end this hold. */
	relayed_cancel(handoff->all, conn_flow(conn));
	handoff->frozen_us = clock_monotonic_us();
	rc = kernel_helper_hold(helper, conn_flow(conn));
	if (rc == 0) {
		handoff->is_frozen = true;
		rc = kernel_helper_freeze(helper, conn_fd(conn), conn_flow(conn), conn_fixed(conn), &handoff->frozen);
	}
	handoff_event(handoff, rc < 0 ? TCH_EV_FREEZE_FAILED : TCH_EV_FROZEN, rc);
}

static uint8_t *join(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	uint8_t *both = malloc(a_len + b_len + 1);

	if (!both)
		return NULL;
	if (a_len)
		memcpy(both, a, a_len);
	if (b_len)
		memcpy(both + a_len, b, b_len);
	return both;
}

static int handoff_send_state(struct handoff *handoff, struct conn_state *state)
{
	const struct handoffs_options *options = &handoff->all->options;
	const struct kernel_helper_state *frozen = &handoff->frozen;
	uint8_t encoded[TCH_OPTIONS_MAX];
	struct tch_message message = {
		.kind = TCH_KIND_HANDOFF_COMPLETE,
		.flags = TCH_FLAG_HND | TCH_FLAG_SET | TCH_FLAG_END,
		.id = handoff->tch.id,
		.session = handoff->session,
		.options = encoded,
		.sent = frozen->sent,
		.sent_len = frozen->sent_len,
		.unsent_len = frozen->unsent_len + state->output_len,
		.received_len = state->input_len + frozen->received_len,
	};
	uint8_t *unsent, *received;
	int rc = -ENOMEM;

	state->facts.handoffs++;
	rc = tch_options_encode(frozen, &state->facts, encoded);
	if (rc < 0)
		return rc;
	message.options_len = (size_t)rc;
	unsent = join(frozen->unsent, frozen->unsent_len, state->output, state->output_len);
	received = join(state->input, state->input_len, frozen->received, frozen->received_len);
	message.unsent = unsent;
	message.received = received;
	rc = unsent && received ? options->functions->send(handoff->node, &message, options->arg) : -ENOMEM;
	free(unsent);
	free(received);
	return rc;
}

static void handoff_send_handoff(struct handoff *handoff)
{
	struct conn *conn = handoff_conn(handoff);
	struct conn_state state;
	int rc = conn ? conn_export(conn, &state) : -ENOENT;

	if (rc == 0) {
		rc = handoff_send_state(handoff, &state);
		conn_state_fini(&state);
	}
	/* Nothing left this device, so it is as if the other one had said no. */
	if (rc < 0)
		handoff_event(handoff, TCH_EV_FAIL, rc);
}

/* The connection was closed while it was frozen: nobody of ours speaks in the flow, so nothing of it may be held. */
static void handoff_abandon(struct handoff *handoff)
{
	if (handoff->is_frozen)
		kernel_helper_forget(handoff->all->options.helper, &handoff->frozen.flow);
	handoff->is_frozen = false;
}

/* The second device speaks now. Late packets follow it; the switch may take its time. */
static void handoff_commit(struct handoff *handoff)
{
	const struct handoffs_options *options = &handoff->all->options;
	struct conn *conn = handoff_conn(handoff);
	struct flow_key flow = handoff->frozen.flow;
	unsigned int ifindex;
	uint8_t mac[6];
	uint16_t transaction;
	int rc;

	handoff->duration_us = (uint32_t)(clock_monotonic_us() - handoff->frozen_us);
	if (!conn) {
		handoff_abandon(handoff);
		return;
	}
	rc = options->functions->find_node(handoff->node, mac, &ifindex, options->arg);
	if (rc == 0)
		rc = kernel_helper_relay(options->helper, &flow, mac, ifindex);
	if (rc < 0) /* Packets parked here are lost; the client sends them again, to the new owner. */
		log_warn("tch", "tch=%jx can't relay to node=%u: %s", (uintmax_t)handoff->tch.id, handoff->node,
			 strerror(-rc));
	handoff->all->counters.given++;
	handoff->all->counters.last_us = handoff->duration_us;
	handoff->all->counters.sum_us += handoff->duration_us;
	transaction = (uint16_t)(conn_facts(conn)->handoffs + 1);
	kernel_helper_silence(options->helper, conn_surrender(conn));
	handoff->is_frozen = false;
	relayed_start(handoff, &flow, transaction);
}

static void handoff_unfreeze(struct handoff *handoff)
{
	struct conn *conn = handoff_conn(handoff);

	if (conn && handoff->is_frozen)
		kernel_helper_release(handoff->all->options.helper, conn_fd(conn), conn_flow(conn));
	else
		handoff_abandon(handoff);
	handoff->is_frozen = false;
}

static void handoff_resume(struct handoff *handoff)
{
	struct conn *conn = handoff_conn(handoff);

	if (conn)
		conn_resume(conn);
}

static void handoff_reset(struct handoff *handoff)
{
	struct conn *conn = handoff_conn(handoff);
	struct flow_key flow;

	handoff->all->counters.reset++;
	if (!conn || !handoff->is_frozen) {
		handoff_abandon(handoff);
		return;
	}
	log_warn("tch", "tch=%jx session=%jx reset: node=%u may have taken it and does not answer",
		 (uintmax_t)handoff->tch.id, (uintmax_t)handoff->session, handoff->node);
	flow = *conn_flow(conn);
	handoff->is_frozen = false;
	kernel_helper_reset(handoff->all->options.helper, conn_surrender(conn), &flow);
}

static int handoff_import(struct handoff *handoff, const struct kernel_helper_state *kernel,
			  const struct conn_facts *facts)
{
	const struct handoffs_options *options = &handoff->all->options;
	const struct tch_message *message = handoff->message;
	struct conn_state state = {
		.facts = *facts,
		.input = (uint8_t *)message->received,
		.input_len = message->received_len,
		.output = (uint8_t *)message->unsent,
		.output_len = message->unsent_len,
		.sent_len = message->sent_len,
	};
	struct conn *conn;
	int fd, rc;

	if (conn_find(options->conns, facts->session))
		return -EEXIST;
	rc = kernel_helper_restore(options->helper, kernel, &fd);
	if (rc < 0)
		return rc;
	relayed_cancel(handoff->all, &kernel->flow);
	rc = conn_import(options->conns, fd, &kernel->flow, &kernel->fixed, &state, &conn);
	if (rc < 0) {
		kernel_helper_forget(options->helper, &kernel->flow);
		kernel_helper_silence(options->helper, fd);
	}
	return rc;
}

static void handoff_restore(struct handoff *handoff)
{
	const struct tch_message *message = handoff->message;
	struct kernel_helper_state kernel;
	struct conn_facts facts;
	int rc = tch_options_decode(message->options, message->options_len, &kernel, &facts);

	if (rc == 0 && facts.session != handoff->session)
		rc = -EBADMSG;
	if (rc == 0) {
		kernel.sent = (uint8_t *)message->sent; /* borrowed */
		kernel.sent_len = message->sent_len;
		rc = handoff_import(handoff, &kernel, &facts);
	}
	if (rc == 0)
		handoff->all->counters.taken++;
	else
		log_warn("tch", "tch=%jx session=%jx from node=%u not restored: %s", (uintmax_t)handoff->tch.id,
			 (uintmax_t)handoff->session, handoff->node, strerror(-rc));
	handoff_event(handoff, rc < 0 ? TCH_EV_RESTORE_FAILED : TCH_EV_RESTORED, rc);
	if (rc == 0)
		kernel_helper_acknowledge(handoff->all->options.helper, &kernel);
}

/* The first device says how long it took. */
static void handoff_note_duration(struct handoff *handoff, int duration_us)
{
	struct conn *conn = handoff_conn(handoff);

	if (conn && duration_us > 0)
		conn_facts(conn)->last_handoff_us = (uint32_t)duration_us;
}

/* The session may go on to a third device now. */
static void handoff_arrive(struct handoff *handoff)
{
	struct handoff *next;

	LIST_FOREACH(next, &handoff->all->list, link)
		if (next->session == handoff->session && next->tch.role == TCH_FIRST_DEVICE &&
		    next->tch.state == TCH_IDLE)
			timer_arm(next->timer, 0);
}

static void handoff_reset_restored(struct handoff *handoff)
{
	struct conn *conn = handoff_conn(handoff);

	if (conn)
		conn_close(conn, true);
}

static void handoff_free(struct handoff *handoff)
{
	LIST_REMOVE(handoff, link);
	kernel_helper_state_fini(&handoff->frozen);
	event_free(handoff->timer);
	free(handoff);
}

static void handoff_finish(struct handoff *handoff, int result)
{
	struct conn *conn = handoff_conn(handoff);

	if (result < 0)
		handoff->all->counters.failed++;
	if (result < 0 && conn && handoff->tch.role == TCH_FIRST_DEVICE)
		log_info("tch", "session=%jx stays here: node=%u: %s", (uintmax_t)handoff->session, handoff->node,
			 strerror(-result));
	if (handoff->on_done)
		handoff->on_done(handoff->session, handoff->node, result, handoff->duration_us,
				 handoff->on_done_arg);
	handoff->finished = true;
}

/* Each action once, in the order of enum tch_action; those that end in an event come last in their step. */
static void handoff_perform(struct handoff *handoff, const struct tch_out *out, int result)
{
	unsigned int actions = out->actions;

	if (actions & TCH_DO_SEND_OPEN)
		handoff_open(handoff);
	if (actions & TCH_DO_SEND_OPEN_RESPONSE)
		handoff_send(handoff, TCH_KIND_OPEN_RESPONSE, 0, 0);
	if (actions & TCH_DO_SEND_ACKNOWLEDGMENT)
		handoff_send(handoff, TCH_KIND_ACKNOWLEDGMENT, TCH_FLAG_SET, 0);
	if (actions & TCH_DO_COMMIT)
		handoff_commit(handoff);
	if (actions & TCH_DO_ARRIVE)
		handoff_arrive(handoff);
	if (actions & TCH_DO_SEND_FAIL)
		handoff_send(handoff, TCH_KIND_FAIL, 0, result < 0 ? result : out->result);
	if (actions & TCH_DO_UNFREEZE)
		handoff_unfreeze(handoff);
	if (actions & TCH_DO_RESUME)
		handoff_resume(handoff);
	if (actions & TCH_DO_RESET)
		handoff_reset(handoff);
	if (actions & TCH_DO_RESET_RESTORED)
		handoff_reset_restored(handoff);
	if (actions & TCH_DO_FINISH)
		handoff_finish(handoff, out->result);
	if (actions & TCH_DO_QUIESCE)
		handoff_quiesce(handoff);
	if (actions & TCH_DO_FREEZE)
		handoff_freeze(handoff);
	if (actions & TCH_DO_SEND_HANDOFF)
		handoff_send_handoff(handoff);
	if (actions & TCH_DO_RESTORE)
		handoff_restore(handoff);
}

/* The handoff may be freed on return, unless an outer step is in progress. */
static void handoff_event(struct handoff *handoff, enum tch_event event, int result)
{
	bool outermost = !handoff->stepping;
	struct tch_out out;

	if (handoff->finished)
		return;
	handoff->stepping = true;
	out = tch_step(&handoff->tch, event, result);
	if (out.timer_ms == 0)
		event_del(handoff->timer);
	else if (out.timer_ms != UINT32_MAX)
		timer_arm(handoff->timer, out.timer_ms);
	handoff_perform(handoff, &out, result);
	if (!outermost)
		return;
	handoff->stepping = false;
	if (handoff->finished)
		handoff_free(handoff);
}

/* The switch does not know yet that it is here. */
static bool is_arriving(const struct handoffs *handoffs, uint64_t session)
{
	const struct handoff *handoff;

	LIST_FOREACH(handoff, &handoffs->list, link)
		if (handoff->session == session && handoff->tch.role == TCH_SECOND_DEVICE &&
		    handoff->tch.state == TCH_WAIT)
			return true;
	return false;
}

static bool is_settled(const struct handoff *handoff, const struct conn *conn)
{
	return !is_arriving(handoff->all, handoff->session) &&
	       kernel_helper_is_settled(handoff->all->options.helper, conn_fd(conn), conn_flow(conn),
					conn_restored_len(conn));
}

/* The session is served as before until it is settled. A client that does not answer at all must not hold it for ever. */
static void handoff_begin(struct handoff *handoff)
{
	struct conn *conn = handoff_conn(handoff);

	if (!conn) {
		handoff_finish(handoff, -ENOTCONN);
		handoff_free(handoff);
	} else if (!is_settled(handoff, conn) && clock_monotonic_ms() < handoff->settle_by_ms) {
		timer_arm(handoff->timer, HANDOFF_SETTLE_POLL_MS);
	} else {
		handoff_event(handoff, TCH_EV_START, 0);
	}
}

static void handoff_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct handoff *handoff = arg;
	struct loops *loops = handoff->all->options.loops;

	(void)fd, (void)what;
	loops_pause(loops);
	if (handoff->tch.state == TCH_IDLE)
		handoff_begin(handoff);
	else
		handoff_event(handoff, TCH_EV_TIMEOUT, 0);
	loops_continue(loops);
}

/* Starting and receiving */

static struct handoff *handoff_new(struct handoffs *handoffs, enum tch_role role, uint64_t id, uint64_t session,
				   uint32_t node)
{
	struct handoff *handoff = calloc(1, sizeof(*handoff));

	if (!handoff)
		return NULL;
	handoff->timer = evtimer_new(handoffs->options.base, handoff_on_timer, handoff);
	if (!handoff->timer) {
		free(handoff);
		return NULL;
	}
	handoff->all = handoffs;
	handoff->tch = (struct tch){ .id = id, .role = role, .state = TCH_IDLE };
	handoff->session = session;
	handoff->node = node;
	LIST_INSERT_HEAD(&handoffs->list, handoff, link);
	return handoff;
}

static int start(struct handoffs *handoffs, uint64_t session, uint32_t node, handoff_done_fn on_done, void *arg)
{
	const struct handoffs_options *options = &handoffs->options;
	struct conn *conn = conn_find(options->conns, session);
	struct handoff *handoff;
	unsigned int ifindex;
	uint8_t mac[6];
	int rc;

	if (!conn)
		return -ENOENT;
	if (node == options->self)
		return -EINVAL;
	if (!options->helper || !conn_is_movable(conn))
		return -EOPNOTSUPP;
	LIST_FOREACH(handoff, &handoffs->list, link)
		if (handoff->session == session && handoff->tch.role == TCH_FIRST_DEVICE)
			return -EALREADY;
	rc = options->functions->find_node(node, mac, &ifindex, options->arg);
	if (rc < 0)
		return rc;
	handoff = handoff_new(handoffs, TCH_FIRST_DEVICE, (uint64_t)options->self << 32 | handoffs->next_id++, session,
			      node);
	if (!handoff)
		return -ENOMEM;
	handoff->on_done = on_done;
	handoff->on_done_arg = arg;
	handoff->settle_by_ms = clock_monotonic_ms() + HANDOFF_SETTLE_MS;
	handoff_begin(handoff);
	return 0;
}

int handoff_start(struct handoffs *handoffs, uint64_t session, uint32_t node, handoff_done_fn on_done, void *arg)
{
	int rc;

	loops_pause(handoffs->options.loops);
	rc = start(handoffs, session, node, on_done, arg);
	loops_continue(handoffs->options.loops);
	return rc;
}

static struct handoff *handoff_find(struct handoffs *handoffs, uint64_t id, uint32_t node)
{
	struct handoff *handoff;

	LIST_FOREACH(handoff, &handoffs->list, link)
		if (handoff->tch.id == id && handoff->node == node)
			return handoff;
	return NULL;
}

static void handoffs_opened(struct handoffs *handoffs, uint32_t node, const struct tch_message *message)
{
	const struct handoffs_options *options = &handoffs->options;
	struct tch_message refusal = {
		.kind = TCH_KIND_FAIL,
		.flags = TCH_FLAG_HND,
		.id = message->id,
		.session = message->session,
		.result = -EOPNOTSUPP,
	};
	struct handoff *handoff = NULL;

	if (options->helper) {
		refusal.result = -ENOMEM;
		handoff = handoff_new(handoffs, TCH_SECOND_DEVICE, message->id, message->session, node);
	}
	if (handoff)
		handoff_event(handoff, TCH_EV_OPEN, 0);
	else
		options->functions->send(node, &refusal, options->arg);
}

static void received(struct handoffs *handoffs, uint32_t node, const struct tch_message *message)
{
	static const enum tch_event events[TCH_KIND_COUNT] = {
		[TCH_KIND_OPEN_RESPONSE] = TCH_EV_OPEN_RESPONSE,
		[TCH_KIND_ACKNOWLEDGMENT] = TCH_EV_ACKNOWLEDGMENT,
		[TCH_KIND_DONE] = TCH_EV_DONE,
		[TCH_KIND_FAIL] = TCH_EV_FAIL,
		[TCH_KIND_HANDOFF_COMPLETE] = TCH_EV_HANDOFF,
	};
	struct handoff *handoff = handoff_find(handoffs, message->id, node);

	if (message->kind == TCH_KIND_OPEN) {
		if (!handoff) /* else a repeated one */
			handoffs_opened(handoffs, node, message);
		return;
	}
	if (!handoff || message->kind >= TCH_KIND_COUNT || !events[message->kind]) {
		log_debug("tch", "tch=%jx from node=%u: kind %d means nothing here", (uintmax_t)message->id, node,
			  (int)message->kind);
		return;
	}
	if (message->kind == TCH_KIND_DONE)
		handoff_note_duration(handoff, message->result);
	handoff->message = message;
	handoff->stepping = true; /* keeps it alive until `message` is taken back */
	handoff_event(handoff, events[message->kind], message->result);
	handoff->stepping = false;
	handoff->message = NULL;
	if (handoff->finished)
		handoff_free(handoff);
}

void handoffs_received(struct handoffs *handoffs, uint32_t node, const struct tch_message *message)
{
	loops_pause(handoffs->options.loops);
	received(handoffs, node, message);
	loops_continue(handoffs->options.loops);
}

void handoffs_node_lost(struct handoffs *handoffs, uint32_t node)
{
	struct handoff *handoff, *next;

	loops_pause(handoffs->options.loops);
	for (handoff = LIST_FIRST(&handoffs->list); handoff; handoff = next) {
		next = LIST_NEXT(handoff, link);
		if (handoff->node == node)
			handoff_event(handoff, TCH_EV_PEER_LOST, 0);
	}
	loops_continue(handoffs->options.loops);
}

void handoffs_conn_closed(struct handoffs *handoffs, uint64_t session)
{
	struct handoff *handoff, *next;

	/* Most that close are not about to move: for those nobody is paused. */
	for (handoff = LIST_FIRST(&handoffs->list); handoff; handoff = next) {
		next = LIST_NEXT(handoff, link);
		if (handoff->session != session || handoff->tch.role != TCH_FIRST_DEVICE)
			continue;
		loops_pause(handoffs->options.loops);
		handoff_event(handoff, TCH_EV_CLOSED, 0);
		loops_continue(handoffs->options.loops);
	}
}

const struct handoff_counters *handoffs_counters(const struct handoffs *handoffs)
{
	return &handoffs->counters;
}

struct handoffs *handoffs_new(const struct handoffs_options *options)
{
	struct handoffs *handoffs = calloc(1, sizeof(*handoffs));

	if (!handoffs)
		return NULL;
	handoffs->options = *options;
	LIST_INIT(&handoffs->list);
	LIST_INIT(&handoffs->relayed);
	if (getrandom(&handoffs->next_id, sizeof(handoffs->next_id), 0) < 0)
		handoffs->next_id = (uint32_t)clock_monotonic_us();
	return handoffs;
}

void handoffs_free(struct handoffs *handoffs)
{
	struct relayed_flow *relayed;
	struct handoff *handoff;

	if (!handoffs)
		return;
	loops_pause(handoffs->options.loops);
	while ((handoff = LIST_FIRST(&handoffs->list))) {
		if (!handoff->is_frozen)
			handoff_resume(handoff); /* or it would tell who is not there any more that it is quiet */
		handoff_unfreeze(handoff);
		handoff_free(handoff);
	}
	loops_continue(handoffs->options.loops);
	while ((relayed = LIST_FIRST(&handoffs->relayed)))
		relayed_free(relayed);
	free(handoffs);
}
