/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/rates.h"

#include "common/placement.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096, NODES_MAX = 256, SHARES_MAX = 64 };

struct share {
	uint32_t volume;
	struct rate bytes, operations;
};

/* A session, and what it did to each volume. */
struct seen {
	struct seen *next; /* in its bucket */
	uint64_t id;
	uint32_t node;
	bool is_here; /* in this round */
	size_t share_count;
	struct share shares[];
};

struct volume {
	struct volume *next; /* in its bucket */
	uint32_t id;
	struct rates_flow flow;
};

struct rates {
	struct seen *sessions[BUCKETS];
	struct volume *volumes[BUCKETS]; /* of this round */
	struct {
		struct rate operations, read_bytes, written_bytes;
	} nodes[NODES_MAX];
};

void rate_note(struct rate *rate, uint64_t counter, uint64_t at_ms)
{
	double per_s = 0;

	if (at_ms == rate->at_ms)
		return;
	if (rate->at_ms && at_ms > rate->at_ms && counter >= rate->counter)
		per_s = (double)(counter - rate->counter) * 1000 / (double)(at_ms - rate->at_ms);
	rate->per_s = per_s < RATE_MAX ? (uint64_t)per_s : RATE_MAX;
	rate->counter = counter;
	rate->at_ms = at_ms;
}

struct rates *rates_new(void)
{
	return calloc(1, sizeof(struct rates));
}

static void forget_volumes(struct rates *rates)
{
	for (size_t i = 0; i < BUCKETS; i++)
		while (rates->volumes[i]) {
			struct volume *volume = rates->volumes[i];

			rates->volumes[i] = volume->next;
			free(volume);
		}
}

/* All, or those that were not in this round. */
static void forget_sessions(struct rates *rates, bool all)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		struct seen **at = &rates->sessions[i];

		while (*at) {
			struct seen *seen = *at;

			if (all || !seen->is_here) {
				*at = seen->next;
				free(seen);
			} else {
				at = &seen->next;
			}
		}
	}
}

void rates_free(struct rates *rates)
{
	if (!rates)
		return;
	forget_sessions(rates, true);
	forget_volumes(rates);
	free(rates);
}

void rates_begin(struct rates *rates)
{
	forget_volumes(rates);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct seen *seen = rates->sessions[i]; seen; seen = seen->next)
			seen->is_here = false;
}

void rates_node(struct rates *rates, uint32_t node, const struct rates_flow *counters, uint64_t at_ms)
{
	if (node >= NODES_MAX)
		return;
	rate_note(&rates->nodes[node].operations, counters->operations, at_ms);
	rate_note(&rates->nodes[node].read_bytes, counters->read_bytes, at_ms);
	rate_note(&rates->nodes[node].written_bytes, counters->written_bytes, at_ms);
}

static struct seen **find(struct rates *rates, uint64_t id)
{
	struct seen **at = &rates->sessions[(id ^ id >> 32) % BUCKETS];

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

/* Room for the shares of @session, with what is known of them. NULL without memory */
static struct seen *find_with_room(struct rates *rates, const scp_session *session)
{
	size_t count = session->shares.shares_len < SHARES_MAX ? session->shares.shares_len : SHARES_MAX;
	struct seen **at = find(rates, session->id), *grown;
	size_t had = *at ? (*at)->share_count : 0;

	if (*at && had >= count)
		return *at;
	grown = realloc(*at, sizeof(*grown) + count * sizeof(grown->shares[0]));
	if (!grown)
		return NULL;
	if (!*at)
		memset(grown, 0, sizeof(*grown));
	memset(&grown->shares[had], 0, (count - had) * sizeof(grown->shares[0]));
	grown->id = session->id;
	grown->share_count = count;
	*at = grown;
	return grown;
}

static void add_to_volume(struct rates *rates, const struct share *share)
{
	struct volume **at = &rates->volumes[share->volume % BUCKETS];

	while (*at && (*at)->id != share->volume)
		at = &(*at)->next;
	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (!*at)
			return;
		(*at)->id = share->volume;
	}
	(*at)->flow.operations += share->operations.per_s;
	(*at)->flow.bytes += share->bytes.per_s;
}

/* A volume's share may be at another place than last time. */
static struct share *find_share(struct seen *seen, uint32_t volume, size_t expected)
{
	struct share *empty = NULL;

	if (seen->shares[expected].volume == volume)
		return &seen->shares[expected];
	for (size_t i = 0; i < seen->share_count; i++) {
		if (seen->shares[i].volume == volume && seen->shares[i].bytes.at_ms)
			return &seen->shares[i];
		if (!seen->shares[i].bytes.at_ms)
			empty = &seen->shares[i];
	}
	empty = empty ? empty : &seen->shares[expected];
	*empty = (struct share){ .volume = volume };
	return empty;
}

void rates_session(struct rates *rates, const scp_session *session, uint32_t node, uint64_t at_ms)
{
	struct seen *seen = find_with_room(rates, session);

	if (!seen)
		return;
	seen->is_here = true;
	seen->node = node;
	for (size_t i = 0; i < session->shares.shares_len && i < seen->share_count; i++) {
		const scp_volume_share *told = &session->shares.shares_val[i];
		struct share *share = find_share(seen, told->volume, i);

		rate_note(&share->bytes, told->bytes, at_ms);
		rate_note(&share->operations, told->requests, at_ms);
		add_to_volume(rates, share);
	}
}

void rates_end(struct rates *rates)
{
	forget_sessions(rates, false);
}

struct rates_flow rates_of_node(const struct rates *rates, uint32_t node)
{
	struct rates_flow flow = { 0 };

	if (node < NODES_MAX) {
		flow.operations = rates->nodes[node].operations.per_s;
		flow.read_bytes = rates->nodes[node].read_bytes.per_s;
		flow.written_bytes = rates->nodes[node].written_bytes.per_s;
	}
	return flow;
}

struct rates_flow rates_of_volume(const struct rates *rates, uint32_t volume)
{
	for (const struct volume *known = rates->volumes[volume % BUCKETS]; known; known = known->next)
		if (known->id == volume)
			return known->flow;
	return (struct rates_flow){ 0 };
}

static struct rates_busy sum_up(const struct seen *seen)
{
	struct rates_busy busy = { .session = seen->id, .node = seen->node };

	for (size_t i = 0; i < seen->share_count; i++) {
		busy.flow.bytes += seen->shares[i].bytes.per_s;
		busy.flow.operations += seen->shares[i].operations.per_s;
	}
	return busy;
}

static uint64_t weight(const struct rates_busy *busy)
{
	return busy->flow.bytes + busy->flow.operations * PLACEMENT_REQUEST_BYTES;
}

/* @out has @count, busiest first, and room for @max: a small one, so each finds its place from the end. */
static size_t insert(struct rates_busy *out, size_t count, size_t max, const struct rates_busy *busy)
{
	size_t at = count < max ? count : max;

	while (at > 0 && weight(&out[at - 1]) < weight(busy)) {
		if (at < max)
			out[at] = out[at - 1];
		at--;
	}
	if (at < max)
		out[at] = *busy;
	return count < max ? count + 1 : max;
}

size_t rates_busiest(const struct rates *rates, struct rates_busy *out, size_t max)
{
	size_t count = 0;

	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct seen *seen = rates->sessions[i]; seen; seen = seen->next) {
			struct rates_busy busy = sum_up(seen);

			if (weight(&busy) > 0)
				count = insert(out, count, max, &busy);
		}
	return count;
}
