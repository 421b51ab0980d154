/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_internal.h"

#include "common/log.h"
#include "common/loop.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

/* A flow given away, still relayed by our kernel. */
struct relayed_flow {
	LIST_ENTRY(relayed_flow) link;
	struct tch *all;
	struct flow_key flow;
	uint64_t id, session;
	uint32_t node, duration_us;
	uint16_t transaction;
	bool confirmed;
	struct event *timer;
};

void relayed_free(struct relayed_flow *relayed)
{
	LIST_REMOVE(relayed, link);
	event_free(relayed->timer);
	free(relayed);
}

static struct relayed_flow *relayed_find(struct tch *tch, const struct flow_key *flow)
{
	struct relayed_flow *relayed;

	LIST_FOREACH(relayed, &tch->relayed, link)
		if (memcmp(&relayed->flow, flow, sizeof(*flow)) == 0)
			return relayed;
	return NULL;
}

static void relayed_ask(struct relayed_flow *relayed)
{
	const struct tch_setup *setup = &relayed->all->setup;

	/* The answer may come before the call returns and arm the grace time: so arm first. */
	tch_arm(relayed->timer, TCH_ASK_MS);
	setup->network->change_owner(&relayed->flow, relayed->node, relayed->transaction, setup->network_arg);
}

/* The client came back by the same port, and to us. What the switch was asked for must not happen to its new connection. */
static bool relayed_is_ours(const struct relayed_flow *relayed)
{
	const struct tch_setup *setup = &relayed->all->setup;
	struct tch_session session;
	bool is_ours;

	loops_pause(setup->loops);
	is_ours = setup->server->find_flow(&relayed->flow, &session, setup->server_arg);
	loops_continue(setup->loops);
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
	kernel_helper_forget(relayed->all->setup.helper, &relayed->flow);
	relayed_free(relayed);
}

void relayed_cancel(struct tch *tch, const struct flow_key *flow)
{
	struct relayed_flow *relayed = relayed_find(tch, flow);

	if (relayed)
		relayed_free(relayed);
}

void tch_taken_back(struct tch *tch, const struct flow_key *flow)
{
	relayed_cancel(tch, flow);
	if (tch->setup.helper)
		kernel_helper_forget(tch->setup.helper, flow);
}

void tch_unclaimed(struct tch *tch, void (*on_flow)(const struct flow_key *flow, void *arg), void *arg)
{
	if (tch->setup.helper)
		kernel_helper_release_inherited(tch->setup.helper, on_flow, arg);
}

bool tch_claimed(struct tch *tch, const struct flow_key *flow, uint32_t node)
{
	const struct tch_setup *setup = &tch->setup;
	unsigned int ifindex;
	uint8_t mac[6];

	if (!setup->helper || setup->network->find_node(node, false, mac, &ifindex, setup->network_arg) < 0 ||
	    kernel_helper_relay_inherited(setup->helper, flow, mac, ifindex) < 0)
		return false;
	relayed_linger(tch, flow);
	return true;
}

static struct relayed_flow *relayed_new(struct tch *tch, const struct flow_key *flow)
{
	struct relayed_flow *relayed = calloc(1, sizeof(*relayed));

	relayed_cancel(tch, flow);
	if (relayed)
		relayed->timer = evtimer_new(tch->setup.base, relayed_on_timer, relayed);
	if (!relayed || !relayed->timer) {
		/* The kernel goes on relaying; only the entry will stay, and a lost answer is not asked again. */
		log_err("tch", "no memory to follow a flow that was shared or given away");
		free(relayed);
		return NULL;
	}
	relayed->all = tch;
	relayed->flow = *flow;
	LIST_INSERT_HEAD(&tch->relayed, relayed, link);
	return relayed;
}

void relayed_start(struct handoff *handoff, const struct flow_key *flow, uint16_t transaction)
{
	struct relayed_flow *relayed = relayed_new(handoff->all, flow);

	if (!relayed)
		return;
	relayed->id = handoff->machine.id;
	relayed->session = handoff->session;
	relayed->node = handoff->node;
	relayed->duration_us = handoff->duration_us;
	relayed->transaction = transaction;
	relayed_ask(relayed);
}

void relayed_linger(struct tch *tch, const struct flow_key *flow)
{
	struct relayed_flow *relayed = relayed_new(tch, flow);

	if (!relayed)
		return;
	relayed->confirmed = true;
	tch_arm(relayed->timer, TCH_GRACE_MS);
}

static void relayed_send_done(const struct relayed_flow *relayed)
{
	const struct tch_setup *setup = &relayed->all->setup;
	struct tch_message message = {
		.kind = TCH_KIND_DONE,
		.flags = TCH_FLAG_HND | TCH_FLAG_END,
		.id = relayed->id,
		.session = relayed->session,
		.result = (int)relayed->duration_us,
	};

	setup->network->send(relayed->node, &message, setup->network_arg);
}

void tch_confirmed(struct tch *tch, const struct flow_key *flow, uint32_t node, uint16_t transaction)
{
	struct relayed_flow *relayed = relayed_find(tch, flow);

	if (!relayed || relayed->node != node || relayed->transaction != transaction || relayed->confirmed)
		return;
	relayed->confirmed = true;
	tch_arm(relayed->timer, TCH_GRACE_MS);
	relayed_send_done(relayed);
}
