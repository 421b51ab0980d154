/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/members.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/namespace.h"
#include "scp/scp.h"

#include <event2/event.h>
#include <stdlib.h>

struct members {
	struct members_options options;
	const struct scp *scp; /* NULL: no sessions */
	struct event *tick;
	struct member_life lives[MEMBERS_MAX];
};

static const struct member_life unknown = { .reason = "not seen since this daemon started" };

static void say(const struct members *members, uint32_t node, enum member_state last, uint64_t lasted_ms)
{
	const struct member_life *life = &members->lives[node];
	const ns_node *known = namespace_node(members->options.ns, node);
	enum log_level level = life->state == MEMBER_UP ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
	bool is_first = life->changes == 1;

	if (is_first)
		log_write(level, "member", "node=%u name=%s is %s: %s", node, known ? known->name : "?",
			  member_state_name(life->state), life->reason);
	else
		log_write(level, "member", "node=%u name=%s is %s, was %s for %ju ms: %s", node,
			  known ? known->name : "?", member_state_name(life->state), member_state_name(last),
			  (uintmax_t)lasted_ms, life->reason);
}

static void step(struct members *members, uint32_t node, enum member_event event, uint64_t now_ms, const char *why)
{
	struct member_life *life = &members->lives[node];
	enum member_state last = life->state;
	uint64_t since_ms = life->since_ms;

	if (!member_step(life, members->options.limits, event, now_ms, why))
		return;
	say(members, node, last, now_ms - since_ms);
	members->options.on_change(node, members->options.arg);
}

/* Any byte is a sign of life: a beat may be behind a snapshot. */
static void listen_to(struct members *members, uint32_t node, uint64_t now_ms)
{
	uint64_t silence_ms = scp_silence_ms(members->scp, node);

	if (silence_ms < now_ms && now_ms - silence_ms > members->lives[node].heard_ms)
		step(members, node, MEMBER_EV_BEAT, now_ms, NULL);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct members *members = arg;
	uint64_t now_ms = clock_monotonic_ms();

	(void)fd, (void)what;
	for (uint32_t node = 0; node < MEMBERS_MAX; node++) {
		if (!members->lives[node].changes)
			continue;
		if (members->scp)
			listen_to(members, node, now_ms);
		step(members, node, MEMBER_EV_TICK, now_ms, NULL);
	}
}

struct members *members_new(const struct members_options *options)
{
	struct members *members = calloc(1, sizeof(*members));

	if (!members)
		return NULL;
	members->options = *options;
	members->tick = event_new(options->base, -1, EV_PERSIST, on_tick, members);
	if (!members->tick || event_add(members->tick, &(struct timeval){ .tv_usec = MEMBER_TICK_MS * 1000 })) {
		members_free(members);
		return NULL;
	}
	return members;
}

void members_free(struct members *members)
{
	if (!members)
		return;
	if (members->tick)
		event_free(members->tick);
	free(members);
}

void members_set_scp(struct members *members, const struct scp *scp)
{
	members->scp = scp;
}

void members_connected(struct members *members, uint32_t node)
{
	if (node < MEMBERS_MAX)
		step(members, node, MEMBER_EV_CONNECTED, clock_monotonic_ms(), NULL);
}

void members_lost(struct members *members, uint32_t node, const char *why)
{
	if (node < MEMBERS_MAX)
		step(members, node, MEMBER_EV_LOST, clock_monotonic_ms(), why);
}

const struct member_life *members_life(const struct members *members, uint32_t node)
{
	return node < MEMBERS_MAX && members->lives[node].changes ? &members->lives[node] : &unknown;
}
