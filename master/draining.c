/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/draining.h"

#include "common/clock.h"
#include "common/log.h"
#include "master/commands_internal.h"
#include "master/master.h"
#include "master/sessions.h"
#include "master/vroot.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum {
	TICK_MS = 1000,
	ORDERS_MAX = 64, /* in one tick: the devices carry them out side by side */
	DRAINING_ANSWER_MS = 20000,
};

/* An administrator who waits. */
struct drain_waiter {
	LIST_ENTRY(drain_waiter) link;
	struct admin_request *request;
	uint32_t node;
	uint64_t since_ms;
};

struct draining {
	struct master *master;
	struct event *tick; /* pending while a node is being drained */
	uint32_t last; /* device that got a session */
	LIST_HEAD(, drain_waiter) waiters;
};

/* Where its sessions go: the devices that take connections, in turn; the switch, if there is none. */
static uint32_t next_device(struct draining *draining)
{
	for (uint32_t i = 1; i <= FABRIC_DEVICES_MAX; i++) {
		uint32_t id = (draining->last + i) % FABRIC_DEVICES_MAX;

		if (master_gets_work(draining->master, id)) {
			draining->last = id;
			return id;
		}
	}
	return NAMESPACE_MASTER;
}

struct round {
	struct draining *draining;
	uint32_t node;
	size_t orders;
};

/* What becomes of the order shows in the next round. */
static void order_away(const struct session_entry *entry, void *arg)
{
	struct round *round = arg;
	struct scp *scp = slave_scp(master_slave(round->draining->master));
	scp_message message = { .type = SCP_HANDOFF_ORDER };

	if (entry->node != round->node || !entry->info.id || round->orders == ORDERS_MAX)
		return;
	message.scp_message_u.handoff_order.session = entry->info.id;
	message.scp_message_u.handoff_order.node = next_device(round->draining);
	round->orders += scp_send(scp, round->node, SCP_CONTROL, scp_next_request(scp), &message) == 0;
}

/* It has said so since: what was in its last report may be old. */
static bool is_empty(struct master *master, uint32_t node, uint64_t since_ms)
{
	return !sessions_any_with(master_sessions(master), node) && master_member(master, node)->reported_ms > since_ms;
}

static size_t count_sessions(struct master *master, uint32_t node)
{
	return master_member(master, node)->beat.sessions;
}

static void waiter_end(struct drain_waiter *waiter)
{
	LIST_REMOVE(waiter, link);
	free(waiter);
}

static void answer(struct draining *draining, struct drain_waiter *waiter)
{
	struct master *master = draining->master;
	uint32_t node = waiter->node;

	if (!master_member(master, node)->up)
		admin_done(waiter->request, "node %u is away, and has no session", node);
	else if (is_empty(master, node, waiter->since_ms))
		admin_done(waiter->request, "node %u is drained: it can be switched off; clients wait for its volumes until it is back",
			   node);
	else if (clock_monotonic_ms() - waiter->since_ms < DRAINING_ANSWER_MS)
		return;
	else
		admin_error(waiter->request, "node %u still has sessions (%zu), after %d s; it goes on, nasctl session list shows them",
			    node, count_sessions(master, node), DRAINING_ANSWER_MS / 1000);
	waiter_end(waiter);
}

static void drain_round(struct draining *draining, uint32_t node)
{
	struct round round = { .draining = draining, .node = node };

	sessions_visit(master_sessions(draining->master), order_away, &round);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct draining *draining = arg;
	struct drain_waiter *waiter, *next;
	const ns_node *node;
	bool is_more = false;

	(void)fd, (void)what;
	for (size_t at = 0; (node = namespace_next_node(master_ns(draining->master), &at));) {
		if (node->state != NS_NODE_DRAINING)
			continue;
		is_more = true;
		if (master_member(draining->master, node->id)->up)
			drain_round(draining, node->id);
	}
	for (waiter = LIST_FIRST(&draining->waiters); waiter; waiter = next) {
		next = LIST_NEXT(waiter, link);
		answer(draining, waiter);
	}
	if (is_more || !LIST_EMPTY(&draining->waiters))
		event_add(draining->tick, &(struct timeval){ .tv_sec = TICK_MS / 1000 });
}

void draining_start(struct draining *draining)
{
	event_active(draining->tick, 0, 0);
}

const char *draining_state(struct master *master, const ns_node *node)
{
	return sessions_any_with(master_sessions(master), node->id) ? "draining" : "drained";
}

/* 0; -EIO, answered */
static int set_state(struct draining *draining, struct admin_request *request, const ns_node *node, ns_node_state state)
{
	ns_item item = { .kind = NS_NODE, .ns_item_u.node = *node };
	uint32_t id = node->id;
	int rc;

	item.ns_item_u.node.state = state;
	rc = vroot_change(master_vroot(draining->master), NS_PUT, &item);
	if (rc < 0) {
		admin_error(request, "node %u was not changed: %s", id, commands_change_problem(rc));
		return rc;
	}
	log_info("member", "node=%u is %s", id, state == NS_NODE_DRAINING ? "being drained" : "not drained any more");
	master_assign_connections(draining->master);
	return 0;
}

void draining_drain(struct draining *draining, struct admin_request *request, const ns_node *node)
{
	struct drain_waiter *waiter;
	uint32_t id = node->id;

	if (id == NAMESPACE_MASTER || node->state == NS_NODE_PENDING) {
		admin_error(request, id == NAMESPACE_MASTER ? "node 1 is the switch, by which all sessions come: it can't be drained" :
							      "that node has no sessions: it waits for nasctl node approve");
		return;
	}
	waiter = malloc(sizeof(*waiter));
	if (!waiter) {
		admin_error(request, "there is no memory for that now; try again later");
		return;
	}
	if (node->state != NS_NODE_DRAINING && set_state(draining, request, node, NS_NODE_DRAINING) < 0) {
		free(waiter);
		return;
	}
	*waiter = (struct drain_waiter){ .request = request, .node = id, .since_ms = clock_monotonic_ms() };
	LIST_INSERT_HEAD(&draining->waiters, waiter, link);
	draining_start(draining);
}

void draining_undrain(struct draining *draining, struct admin_request *request, const ns_node *node)
{
	uint32_t id = node->id;

	if (node->state != NS_NODE_DRAINING)
		admin_done(request, "node %u is not being drained", id);
	else if (set_state(draining, request, node, NS_NODE_APPROVED) == 0)
		admin_done(request, "node %u gets sessions again", id);
}

struct draining *draining_new(struct master *master)
{
	struct draining *draining = calloc(1, sizeof(*draining));

	if (!draining)
		return NULL;
	draining->master = master;
	draining->last = NAMESPACE_MASTER;
	LIST_INIT(&draining->waiters);
	draining->tick = evtimer_new(master_base(master), on_tick, draining);
	if (!draining->tick) {
		free(draining);
		return NULL;
	}
	return draining;
}

void draining_free(struct draining *draining)
{
	struct drain_waiter *waiter;

	if (!draining)
		return;
	while ((waiter = LIST_FIRST(&draining->waiters)))
		waiter_end(waiter);
	event_free(draining->tick);
	free(draining);
}
