/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/sessions.h"

#include "slave/slave.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	BUCKETS = 4096,
	MISSED_MOVED_MAX = 5, /* a report may have been on its way while the session moved */
};

struct slot {
	struct session_entry entry;
	struct slot *next; /* in its bucket */
	bool moved;	   /* to its node, which has not reported it yet */
	unsigned int missed; /* reports of its node without it */
};

struct sessions {
	struct slot *buckets[BUCKETS];
	uint64_t moves;
};

static struct slot **bucket_of(struct sessions *sessions, const struct flow_key *flow)
{
	return &sessions->buckets[flow_hash(flow) % BUCKETS];
}

/* Where the pointer to the flow's slot is, or would be. */
static struct slot **find(struct sessions *sessions, const struct flow_key *flow)
{
	struct slot **at = bucket_of(sessions, flow);

	while (*at && memcmp(&(*at)->entry.flow, flow, sizeof(*flow)) != 0)
		at = &(*at)->next;
	return at;
}

static void remove_at(struct slot **at)
{
	struct slot *slot = *at;

	*at = slot->next;
	xdr_free((xdrproc_t)xdr_scp_session, (char *)&slot->entry.info);
	free(slot);
}

static struct slot *find_or_add(struct sessions *sessions, const struct flow_key *flow)
{
	struct slot **at = find(sessions, flow);

	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (*at)
			(*at)->entry.flow = *flow;
	}
	return *at;
}

struct sessions *sessions_new(void)
{
	return calloc(1, sizeof(struct sessions));
}

void sessions_free(struct sessions *sessions)
{
	for (size_t i = 0; sessions && i < BUCKETS; i++)
		while (sessions->buckets[i])
			remove_at(&sessions->buckets[i]);
	free(sessions);
}

/*
 * A device that has given the session away may have written this before it did; or it does not know yet that the client
 * has gone, and has opened a new session by the same port. What a handoff said of a session that nobody has reported yet
 * (id 0) has the low 16 bits of the count: compare as serial numbers (RFC 1982).
 */
static bool is_outdated(const struct slot *slot, uint32_t node, const scp_session *info)
{
	const scp_session *known = &slot->entry.info;

	if (!slot->entry.node || slot->entry.node == node)
		return false;
	if (known->id && known->id != info->id)
		return info->since_ns < known->since_ns;
	return (int16_t)((uint16_t)info->handoffs - (uint16_t)known->handoffs) < 0;
}

static int report_one(struct sessions *sessions, uint32_t node, scp_session *info)
{
	struct flow_key flow;
	struct slot *slot;

	slave_flow_from_wire(&info->flow, &flow);
	slot = find_or_add(sessions, &flow);
	if (!slot)
		return -ENOMEM;
	if (is_outdated(slot, node, info))
		return 0;
	/* Of one that is new to us, its handoffs are old. */
	if (slot->entry.info.id == info->id && info->handoffs > slot->entry.info.handoffs)
		sessions->moves += info->handoffs - slot->entry.info.handoffs;
	xdr_free((xdrproc_t)xdr_scp_session, (char *)&slot->entry.info);
	slot->entry.info = *info;
	memset(info, 0, sizeof(*info));
	slot->entry.node = node;
	slot->moved = false;
	slot->missed = 0;
	return 0;
}

static void sweep(struct sessions *sessions, uint32_t node, bool (*doomed)(const struct slot *slot))
{
	for (size_t i = 0; i < BUCKETS; i++) {
		struct slot **at = &sessions->buckets[i];

		while (*at)
			if ((*at)->entry.node == node && doomed(*at))
				remove_at(at);
			else
				at = &(*at)->next;
	}
}

static bool is_missed(const struct slot *slot)
{
	return slot->missed > (slot->moved ? MISSED_MOVED_MAX : 0);
}

static bool is_any(const struct slot *slot)
{
	(void)slot;
	return true;
}

int sessions_report(struct sessions *sessions, uint32_t node, scp_sessions *report)
{
	int rc = 0;

	for (size_t i = 0; i < BUCKETS; i++)
		for (struct slot *slot = sessions->buckets[i]; slot; slot = slot->next)
			slot->missed += slot->entry.node == node;
	for (u_int i = 0; rc == 0 && i < report->sessions.sessions_len; i++)
		rc = report_one(sessions, node, &report->sessions.sessions_val[i]);
	if (rc == 0)
		sweep(sessions, node, is_missed);
	return rc;
}

/* The wire has the low 16 bits of the count: compare as serial numbers (RFC 1982). */
static bool is_late(const struct slot *slot, uint16_t transaction)
{
	return slot->entry.node && (int16_t)(transaction - (uint16_t)slot->entry.info.handoffs) < 0;
}

bool sessions_is_late(struct sessions *sessions, const struct flow_key *flow, uint16_t transaction)
{
	struct slot **at = find(sessions, flow);

	return *at && is_late(*at, transaction);
}

int sessions_moved(struct sessions *sessions, const struct flow_key *flow, uint32_t node, uint16_t transaction)
{
	struct slot *slot = find_or_add(sessions, flow);
	scp_session *info;

	if (!slot)
		return -ENOMEM;
	info = &slot->entry.info;
	if (is_late(slot, transaction))
		return -ESTALE;
	slot->entry.node = node;
	slot->moved = true;
	slot->missed = 0;
	/* Of one that nobody has reported yet, all but this one are old. */
	sessions->moves += info->id ? (uint16_t)(transaction - (uint16_t)info->handoffs) : info->handoffs != transaction;
	info->handoffs += (uint16_t)(transaction - (uint16_t)info->handoffs);
	return 0;
}

uint64_t sessions_moves(const struct sessions *sessions)
{
	return sessions->moves;
}

void sessions_forget(struct sessions *sessions, const struct flow_key *flow)
{
	struct slot **at = find(sessions, flow);

	if (*at)
		remove_at(at);
}

void sessions_forget_node(struct sessions *sessions, uint32_t node)
{
	sweep(sessions, node, is_any);
}

bool sessions_is_with(struct sessions *sessions, const struct flow_key *flow, uint32_t node)
{
	struct slot **at = find(sessions, flow);

	return *at && (*at)->entry.node == node;
}

bool sessions_any_with(const struct sessions *sessions, uint32_t node)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct slot *slot = sessions->buckets[i]; slot; slot = slot->next)
			if (slot->entry.node == node)
				return true;
	return false;
}

uint32_t sessions_holder(struct sessions *sessions, const struct flow_key *flow)
{
	struct slot **at = find(sessions, flow);

	return *at ? (*at)->entry.node : 0;
}

uint64_t sessions_id(struct sessions *sessions, const struct flow_key *flow)
{
	struct slot **at = find(sessions, flow);

	return *at ? (*at)->entry.info.id : 0;
}

const struct session_entry *sessions_find(const struct sessions *sessions, uint64_t id)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct slot *slot = sessions->buckets[i]; slot; slot = slot->next)
			if (slot->entry.info.id == id)
				return &slot->entry;
	return NULL;
}

void sessions_visit(const struct sessions *sessions, void (*visit)(const struct session_entry *entry, void *arg),
		    void *arg)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct slot *slot = sessions->buckets[i]; slot; slot = slot->next)
			visit(&slot->entry, arg);
}
