/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/tch_options.h"
#include "common/tch_socket.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PREPARED_MAX = 1024,
	EMPTY_POLL_US = 200, /* nobody tells when a client has acknowledged something */
	EMPTY_MAX_US = 20000, /* a client that takes its time must not hold it */
};

bool tch_find_session(const struct tch *tch, uint64_t id, struct tch_session *session)
{
	return tch->setup.server->find(id, session, tch->setup.server_arg);
}

bool handoff_session(const struct handoff *handoff, struct tch_session *session)
{
	return tch_find_session(handoff->all, handoff->session, session);
}

int tch_surrender(const struct tch *tch, const struct tch_session *session)
{
	return tch->setup.server->surrender(session->own, tch->setup.server_arg);
}

static void send_message(struct handoff *handoff, struct tch_message *message)
{
	const struct tch_setup *setup = &handoff->all->setup;

	message->flags |= TCH_FLAG_HND;
	message->id = handoff->machine.id;
	message->session = handoff->session;
	if (setup->network->send(handoff->node, message, setup->network_arg) < 0)
		log_debug("tch", "tch=%jx not sent: node=%u is away", (uintmax_t)handoff->machine.id, handoff->node);
}

void handoff_send(struct handoff *handoff, enum tch_kind kind, uint32_t flags, int result)
{
	struct tch_message message = { .kind = kind, .flags = flags, .result = result };

	send_message(handoff, &message);
}

void handoff_send_options(struct handoff *handoff, enum tch_kind kind, const uint8_t *options, size_t len)
{
	struct tch_message message = { .kind = kind, .options = options, .options_len = len };

	send_message(handoff, &message);
}

void handoff_announce(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct tch_session session;

	if (setup->network->announce_owner && handoff_session(handoff, &session))
		setup->network->announce_owner(&session.flow, handoff->node, (uint16_t)(session.handoffs + 1),
					       setup->network_arg);
}

/* Long before the other device speaks: it takes two more messages until it can. */
void handoff_open(struct handoff *handoff)
{
	handoff_announce(handoff);
	handoff_send_open(handoff);
}

void handoff_quiesce(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct tch_session session;
	int rc = handoff_session(handoff, &session) ?
			 setup->server->quiesce(session.own, handoff->all, setup->server_arg) : -ENOENT;

	if (rc == 0)
		handoff_empty(handoff);
	else if (rc != -EINPROGRESS)
		handoff_event(handoff, TCH_EV_CLOSED, 0);
}

static bool is_empty(const struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct tch_session session;

	if (!setup->server->write_out || handoff->machine.kind != TCH_FULL || !handoff_session(handoff, &session))
		return true;
	return setup->server->write_out(session.own, setup->server_arg) || clock_monotonic_us() >= handoff->empty_by_us;
}

static void handoff_look_empty(struct handoff *handoff)
{
	if (handoff->emptying && !is_empty(handoff))
		event_add(handoff->emptying, &(struct timeval){ .tv_usec = EMPTY_POLL_US });
	else
		handoff_event(handoff, TCH_EV_QUIET, 0);
}

static void handoff_on_emptying(evutil_socket_t fd, short what, void *arg)
{
	struct handoff *handoff = arg;
	struct loops *loops = handoff->all->setup.loops;

	(void)fd, (void)what;
	loops_pause(loops);
	handoff_look_empty(handoff);
	loops_continue(loops);
}

/* The client goes on receiving meanwhile. Frozen at once, it would wait until all that has been copied to the other device. */
void handoff_empty(struct handoff *handoff)
{
	handoff->empty_by_us = clock_monotonic_us() + EMPTY_MAX_US;
	if (!handoff->emptying && !is_empty(handoff))
		handoff->emptying = evtimer_new(handoff->all->setup.base, handoff_on_emptying, handoff);
	handoff_look_empty(handoff);
}

void handoff_freeze(struct handoff *handoff)
{
	struct kernel_helper *helper = handoff->all->setup.helper;
	struct tch_session session;
	int rc;

	if (!handoff_session(handoff, &session)) {
		handoff_event(handoff, TCH_EV_CLOSED, 0);
		return;
	}
	tch_socket_look(session.fd, &session.flow, &handoff->iptos, &handoff->timers);
	/* A client that came back by the same port: the grace time of its old connection must not end this hold. */
	relayed_cancel(handoff->all, &session.flow);
	handoff->frozen_us = clock_monotonic_us();
	rc = kernel_helper_hold(helper, &session.flow);
	if (rc == 0) {
		handoff->is_frozen = true;
		rc = kernel_helper_freeze(helper, session.fd, &session.flow, &session.fixed,
					  handoff->machine.kind == TCH_HALF_TO_DEVICES, &handoff->frozen);
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

/* What the second device begins with. If this one goes on sending, it begins behind all that. */
static struct kernel_helper_state state_to_give(const struct handoff *handoff, struct tch_carried *carried)
{
	struct kernel_helper_state give = handoff->frozen;

	if (handoff->machine.kind == TCH_HALF_TO_DEVICES) {
		give.send_unacknowledged += (uint32_t)(give.sent_len + give.unsent_len + carried->output_len);
		give.sent_len = give.unsent_len = carried->output_len = 0;
	}
	return give;
}

static int handoff_send_state(struct handoff *handoff, struct tch_carried *carried)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct kernel_helper_state give = state_to_give(handoff, carried), *frozen = &give;
	bool is_full = handoff->machine.kind == TCH_FULL;
	uint8_t encoded[TCH_OPTIONS_MAX];
	struct tch_message message = {
		.kind = is_full ? TCH_KIND_HANDOFF_COMPLETE : TCH_KIND_HANDOFF,
		.flags = TCH_FLAG_HND | TCH_FLAG_SET | (is_full ? TCH_FLAG_END : 0),
		.id = handoff->machine.id,
		.session = handoff->session,
		.options = encoded,
		.sent = frozen->sent,
		.sent_len = frozen->sent_len,
		.unsent_len = frozen->unsent_len + carried->output_len,
		.received_len = carried->input_len + frozen->received_len,
	};
	uint8_t *unsent, *received;
	int rc = -ENOMEM;

	carried->facts.handoffs++;
	carried->facts.iptos = handoff->iptos;
	carried->facts.timers = handoff->timers;
	handoff_leave_out(handoff, &give, &carried->facts);
	rc = tch_options_encode(frozen, &carried->facts, handoff->machine.kind, encoded);
	if (rc < 0)
		return rc;
	message.options_len = (size_t)rc;
	unsent = join(frozen->unsent, frozen->unsent_len, carried->output, carried->output_len);
	received = join(carried->input, carried->input_len, frozen->received, frozen->received_len);
	message.unsent = unsent;
	message.received = received;
	rc = unsent && received ? setup->network->send(handoff->node, &message, setup->network_arg) : -ENOMEM;
	free(unsent);
	free(received);
	return rc;
}

void handoff_send_handoff(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct tch_carried carried = { 0 };
	struct tch_session session;
	int rc = handoff_session(handoff, &session) ?
			 setup->server->export(session.own, &carried, setup->server_arg) : -ENOENT;

	if (rc == 0)
		rc = handoff_send_state(handoff, &carried);
	free(carried.input);
	free(carried.output);
	/* Nothing left this device, so it is as if the other one had said no. */
	if (rc < 0)
		handoff_event(handoff, TCH_EV_FAIL, rc);
}

void handoff_abandon(struct handoff *handoff)
{
	if (handoff->is_frozen)
		kernel_helper_forget(handoff->all->setup.helper, &handoff->frozen.flow);
	handoff->is_frozen = false;
}

/* The second device has what it was to get. */
void handoff_note_live(struct handoff *handoff)
{
	handoff->duration_us = (uint32_t)(clock_monotonic_us() - handoff->frozen_us);
}

/* What is parked, and late packets, follow the connection. */
void handoff_relay(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	unsigned int ifindex;
	uint8_t mac[6];
	int rc;

	if (handoff->is_relayed)
		return;
	rc = setup->network->find_node(handoff->node, false, mac, &ifindex, setup->network_arg);
	if (rc == 0)
		rc = kernel_helper_relay(setup->helper, &handoff->frozen.flow, mac, ifindex);
	if (rc < 0) /* Packets parked here are lost; the client sends them again, to the new owner. */
		log_warn("tch", "tch=%jx can't relay to node=%u: %s", (uintmax_t)handoff->machine.id, handoff->node,
			 strerror(-rc));
	handoff->is_relayed = true;
}

/* The second device speaks now. Late packets follow it; the switch may take its time. */
void handoff_commit(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct flow_key flow = handoff->frozen.flow;
	struct tch_session session;
	uint16_t transaction;

	if (!handoff->is_shared)
		handoff_note_live(handoff);
	if (!handoff_session(handoff, &session)) {
		handoff_abandon(handoff);
		return;
	}
	handoff_relay(handoff);
	handoff->all->counters.given++;
	handoff->all->counters.halves += handoff->machine.kind != TCH_FULL;
	handoff->all->counters.predicted += handoff->updated_ms != 0;
	handoff->all->counters.last_us = handoff->duration_us;
	handoff->all->counters.sum_us += handoff->duration_us;
	transaction = (uint16_t)(session.handoffs + 1);
	kernel_helper_silence(setup->helper, tch_surrender(handoff->all, &session));
	handoff->is_frozen = false;
	relayed_start(handoff, &flow, transaction);
}

void handoff_unfreeze(struct handoff *handoff)
{
	struct tch_session session;

	if (handoff_session(handoff, &session) && handoff->is_frozen)
		kernel_helper_release(handoff->all->setup.helper, session.fd, &session.flow);
	else
		handoff_abandon(handoff);
	handoff->is_frozen = false;
}

int handoff_sketch(const struct handoff *handoff, uint8_t options[static TCH_OPTIONS_MAX])
{
	struct tch_facts facts = { .session = handoff->session };
	struct kernel_helper_state sketch;
	struct tch_session session;
	int rc = -ENOTCONN;

	if (handoff_session(handoff, &session))
		rc = kernel_helper_sketch(handoff->all->setup.helper, session.fd, &session.flow, &session.fixed, &sketch);
	return rc < 0 ? rc : tch_options_encode(&sketch, &facts, TCH_FULL, options);
}

void handoff_send_update(struct handoff *handoff)
{
	uint8_t options[TCH_OPTIONS_MAX];
	int rc = handoff_sketch(handoff, options);

	handoff->updated_ms = clock_monotonic_ms();
	if (handoff->is_wanted)
		tch_arm(handoff->timer, 0);
	if (!(handoff->capabilities & TCH_CAN_PREPARE)) /* it was wanted before that was known */
		return;
	if (rc < 0)
		handoff_event(handoff, TCH_EV_CLOSED, rc);
	else
		handoff_send_options(handoff, TCH_KIND_UPDATE, options, (size_t)rc);
}

/* Without a prepared socket it only takes longer. */
void handoff_prepare_socket(struct handoff *handoff)
{
	const struct tch_message *message = handoff->message;
	struct tch *tch = handoff->all;
	enum tch_kind_of_handoff kind;
	struct kernel_helper_state sketch;
	struct tch_facts facts;

	if (handoff->prepared_fd >= 0 || tch->prepared >= PREPARED_MAX)
		return;
	if (tch_options_decode(message->options, message->options_len, &sketch, &facts, &kind) < 0 ||
	    kernel_helper_prepare(tch->setup.helper, &sketch, &handoff->prepared_fd) < 0)
		return;
	handoff->frozen.flow = sketch.flow;
	tch->prepared++;
	tch->counters.prepared++;
}

int handoff_take_prepared(struct handoff *handoff)
{
	int fd = handoff->prepared_fd;

	if (fd >= 0)
		handoff->all->prepared--;
	handoff->prepared_fd = -1;
	return fd;
}

void handoff_resume(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct tch_session session;

	if (handoff_session(handoff, &session))
		setup->server->resume(session.own, setup->server_arg);
}

void handoff_reset(struct handoff *handoff)
{
	struct tch_session session;

	handoff->all->counters.reset++;
	if (!handoff_session(handoff, &session) || !handoff->is_frozen) {
		handoff_abandon(handoff);
		return;
	}
	log_warn("tch", "tch=%jx session=%jx reset: node=%u may have taken it and does not answer",
		 (uintmax_t)handoff->machine.id, (uintmax_t)handoff->session, handoff->node);
	handoff->is_frozen = false;
	kernel_helper_reset(handoff->all->setup.helper, tch_surrender(handoff->all, &session), &session.flow);
}

static int handoff_restore_socket(struct handoff *handoff, const struct kernel_helper_state *kernel, int *fd)
{
	struct kernel_helper *helper = handoff->all->setup.helper;
	struct kernel_helper_peer peer;
	int rc = 0;

	if (handoff->machine.kind != TCH_FULL)
		rc = handoff_peer(handoff, &peer);
	if (rc < 0)
		return rc;
	*fd = handoff_take_prepared(handoff);
	if (*fd >= 0 && memcmp(&handoff->frozen.flow, &kernel->flow, sizeof(kernel->flow)) != 0) {
		kernel_helper_silence(helper, *fd); /* it is bound to where another connection would be */
		*fd = -1;
	}
	if (handoff->machine.kind == TCH_FULL)
		return kernel_helper_restore(helper, kernel, fd);
	handoff->frozen.flow = kernel->flow;
	handoff->frozen.fixed = kernel->fixed;
	return kernel_helper_restore_half(helper, kernel, &peer, fd);
}

static int handoff_import(struct handoff *handoff, const struct kernel_helper_state *kernel,
			  const struct tch_facts *facts)
{
	const struct tch_setup *setup = &handoff->all->setup;
	const struct tch_message *message = handoff->message;
	const struct tch_carried carried = {
		.facts = *facts,
		.input = (uint8_t *)message->received,
		.input_len = message->received_len,
		.output = (uint8_t *)message->unsent,
		.output_len = message->unsent_len,
	};
	struct tch_session session;
	int rc;

	if (tch_find_session(handoff->all, facts->session, &session))
		return -EEXIST;
	session = (struct tch_session){
		.id = facts->session,
		.flow = kernel->flow,
		.fixed = kernel->fixed,
		.restored_len = kernel->sent_len,
		.handoffs = facts->handoffs,
		.is_movable = true,
		.is_half = handoff->machine.kind != TCH_FULL,
	};
	rc = handoff_restore_socket(handoff, kernel, &session.fd);
	if (rc < 0)
		return rc;
	relayed_cancel(handoff->all, &kernel->flow);
	tch_socket_set_iptos(session.fd, &session.flow, facts->iptos);
	rc = setup->server->import(&session, &carried, handoff->machine.kind, setup->server_arg);
	if (rc < 0) {
		kernel_helper_forget(setup->helper, &kernel->flow);
		kernel_helper_silence(setup->helper, session.fd);
		return rc;
	}
	handoff->is_frozen = handoff->machine.kind != TCH_FULL;
	return 0;
}

void tch_let_loops_go(struct tch *tch)
{
	if (tch->holds_loops)
		loops_continue(tch->setup.loops);
	tch->holds_loops = false;
}

void handoff_restore(struct handoff *handoff)
{
	const struct tch_message *message = handoff->message;
	struct kernel_helper_state kernel;
	struct tch_session session;
	struct tch_facts facts;
	int rc = tch_options_decode(message->options, message->options_len, &kernel, &facts, &handoff->machine.kind);
	bool is_full = handoff->machine.kind == TCH_FULL;

	if (rc == 0 && (facts.session != handoff->session || is_full != (message->kind == TCH_KIND_HANDOFF_COMPLETE)))
		rc = -EBADMSG;
	if (rc == 0 && !handoff_can(handoff, handoff->machine.kind))
		rc = -EOPNOTSUPP;
	if (rc == 0) {
		kernel.sent = (uint8_t *)message->sent; /* borrowed */
		kernel.sent_len = message->sent_len;
		rc = handoff_import(handoff, &kernel, &facts);
	}
	if (rc == 0)
		handoff->all->counters.taken++;
	else
		log_warn("tch", "tch=%jx session=%jx from node=%u not restored: %s", (uintmax_t)handoff->machine.id,
			 (uintmax_t)handoff->session, handoff->node, strerror(-rc));
	if (rc == 0 && handoff_session(handoff, &session))
		tch_socket_set_timers(session.fd, &facts.timers);
	if (rc == 0 && handoff->machine.kind != TCH_HALF_TO_DEVICES) /* before the session says more: or it comes too late */
		kernel_helper_acknowledge(handoff->all->setup.helper, &kernel);
	tch_let_loops_go(handoff->all);
	handoff_event(handoff, rc < 0 ? TCH_EV_RESTORE_FAILED : TCH_EV_RESTORED, rc);
}

/* The first device says how long it took. */
void handoff_note_duration(struct handoff *handoff, int duration_us)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct tch_session session;

	if (duration_us > 0 && setup->server->note_duration && handoff_session(handoff, &session))
		setup->server->note_duration(session.own, (uint32_t)duration_us, setup->server_arg);
}

void handoff_reset_restored(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct tch_session session;

	if (handoff_session(handoff, &session))
		setup->server->close(session.own, true, setup->server_arg);
	handoff_abandon(handoff);
}
