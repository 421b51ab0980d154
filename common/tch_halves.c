/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_internal.h"

#include "common/clock.h"
#include "common/loop.h"
#include "common/tch_options.h"

#include <errno.h>
#include <event2/event.h>

enum { DRAIN_POLL_MS = 1, DRAIN_POLL_SHARE = 16 };

int handoff_peer(const struct handoff *handoff, struct kernel_helper_peer *peer)
{
	const struct tch_setup *setup = &handoff->all->setup;
	bool first = handoff->machine.role == TCH_FIRST_DEVICE, to_client = handoff->machine.kind == TCH_HALF_TO_CLIENT;

	peer->part = first == to_client ? KERNEL_HELPER_RECEIVES : KERNEL_HELPER_SENDS;
	return setup->network->find_node(handoff->node, true, peer->mac, &peer->ifindex, setup->network_arg);
}

/*
 * It asks again and again: nobody tells when a client has acknowledged something. All loops stand still for each question, so a client
 * that takes its time is asked about less and less often.
 */
static void handoff_look_later(struct handoff *handoff)
{
	uint64_t shared_ms = (clock_monotonic_us() - handoff->frozen_us) / 1000;

	tch_arm(handoff->draining, DRAIN_POLL_MS + (unsigned int)(shared_ms / DRAIN_POLL_SHARE));
}

static void handoff_look_drained(evutil_socket_t fd, short what, void *arg)
{
	struct handoff *handoff = arg;
	const struct tch_setup *setup = &handoff->all->setup;
	struct loops *loops = setup->loops;
	struct tch_session session;

	(void)fd, (void)what;
	loops_pause(loops);
	if (handoff_session(handoff, &session)) {
		if (setup->server->is_drained(session.own, setup->server_arg))
			handoff_event(handoff, TCH_EV_DRAINED, 0);
		else
			handoff_look_later(handoff);
	}
	loops_continue(loops);
}

/* The second device has its half. Without ours, it is as if the client took nothing. */
void handoff_share(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct kernel_helper_peer peer;
	struct tch_session session;
	bool is_here = handoff_session(handoff, &session);
	int rc = is_here ? handoff_peer(handoff, &peer) : -ENOTCONN;

	handoff_note_live(handoff);
	if (rc == 0)
		rc = kernel_helper_share(setup->helper, session.fd, &handoff->frozen, &peer);
	if (rc == 0) {
		handoff->draining = evtimer_new(setup->base, handoff_look_drained, handoff);
		rc = handoff->draining ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		handoff_event(handoff, is_here ? TCH_EV_TIMEOUT : TCH_EV_CLOSED, rc);
		return;
	}
	handoff->is_shared = true;
	if (handoff->machine.kind == TCH_HALF_TO_DEVICES)
		setup->server->drain(session.own, setup->server_arg);
	else
		setup->server->discard(session.own, setup->server_arg);
	tch_arm(handoff->draining, 0);
}

/* With the last time stamp that the client has seen of this device. */
static int handoff_send_complete(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct kernel_helper_state last = handoff->frozen;
	uint8_t encoded[TCH_OPTIONS_MAX];
	struct tch_message message = {
		.kind = TCH_KIND_COMPLETE,
		.flags = TCH_FLAG_HND | TCH_FLAG_END,
		.id = handoff->machine.id,
		.session = handoff->session,
		.options = encoded,
	};
	int rc;

	last.timestamp = kernel_helper_last_stamp(setup->helper, &last.flow);
	rc = tch_options_encode(&last, &(struct tch_facts){ .session = handoff->session }, handoff->machine.kind, encoded);
	if (rc < 0)
		return rc;
	message.options_len = (size_t)rc;
	return setup->network->send(handoff->node, &message, setup->network_arg);
}

/* From now on this device says nothing more, and late packets follow the connection. */
void handoff_complete(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	struct kernel_helper_peer peer;
	int rc = handoff_peer(handoff, &peer);

	if (rc == 0)
		rc = kernel_helper_relay(setup->helper, &handoff->frozen.flow, peer.mac, peer.ifindex);
	if (rc == 0)
		rc = handoff_send_complete(handoff);
	if (rc == 0)
		return;
	handoff->machine.is_completing = false; /* the other device does not know of it: this one may go on */
	handoff_event(handoff, TCH_EV_PEER_LOST, rc);
}

void handoff_reclaim(struct handoff *handoff)
{
	struct tch_session session;

	if (!handoff_session(handoff, &session))
		handoff_abandon(handoff);
	else if (handoff->is_shared)
		kernel_helper_reclaim(handoff->all->setup.helper, &session.flow, &session.fixed);
	else
		handoff_unfreeze(handoff);
	handoff->is_frozen = handoff->is_shared = false;
}

/* As Complete says. It may be missing: then some packets may look old to the client, and come again. */
static uint32_t last_stamp(const struct handoff *handoff)
{
	const struct tch_message *message = handoff->message;
	enum tch_kind_of_handoff kind;
	struct kernel_helper_state last;
	struct tch_facts facts;

	if (!message || tch_options_decode(message->options, message->options_len, &last, &facts, &kind) < 0)
		return 0;
	return last.timestamp;
}

/* The client may have closed already; then the flow only has to end in peace. */
void handoff_take_over(struct handoff *handoff)
{
	const struct tch_setup *setup = &handoff->all->setup;
	const struct kernel_helper_state *half = &handoff->frozen;
	struct tch_session session;
	bool is_here = handoff_session(handoff, &session);
	int rc = 0;

	if (is_here)
		rc = kernel_helper_take_over(setup->helper, session.fd, &half->flow, &half->fixed, last_stamp(handoff));
	if (!is_here || rc < 0)
		kernel_helper_reclaim(setup->helper, &half->flow, &half->fixed);
	handoff->is_frozen = false;
	if (is_here)
		setup->server->take_over(session.own, setup->server_arg);
}

/* Our half goes without a word. The entry of its flow stays for a while, and silences what our stack has to say to late packets. */
void handoff_drop(struct handoff *handoff)
{
	struct tch_session session;

	if (!handoff_session(handoff, &session))
		return;
	relayed_linger(handoff->all, &session.flow);
	handoff->is_frozen = false;
	kernel_helper_silence(handoff->all->setup.helper, tch_surrender(handoff->all, &session));
}
