/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nlm_granted.h"

#include "common/clock.h"
#include "common/nlm.h"
#include "common/nlm_wire.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* A waiter that got its lock and does not know. */
struct pending {
	TAILQ_ENTRY(pending) link;
	uint64_t id;
	unsigned int tries;
	uint64_t next_ms;
	bool is_calling;
};

struct nlm_granted {
	struct client_call_way way;
	struct nlm_counters *counters;
	struct lock_table *table;
	TAILQ_HEAD(, pending) pending;
};

void nlm_granted_note(const struct lock_grant *grant, void *arg)
{
	struct nlm_granted *granted = arg;
	struct pending *pending = calloc(1, sizeof(*pending));

	if (!pending)
		return; /* the client asks again, which is the acknowledgment then */
	pending->id = grant->id;
	TAILQ_INSERT_TAIL(&granted->pending, pending, link);
}

static void pending_free(struct nlm_granted *granted, struct pending *pending)
{
	TAILQ_REMOVE(&granted->pending, pending, link);
	free(pending);
}

static struct pending *find_pending(struct nlm_granted *granted, uint64_t id)
{
	struct pending *pending;

	TAILQ_FOREACH(pending, &granted->pending, link)
		if (pending->id == id)
			break;
	return pending;
}

static void on_granted_answer(uint64_t id, int result, const uint8_t *results, size_t len, void *arg)
{
	struct nlm_granted *granted = arg;
	struct pending *pending = find_pending(granted, id);
	nlm4_stats status = result == 0 ? nlm_granted_status(results, len) : NLM4_DENIED_GRACE_PERIOD;

	if (!pending)
		return;
	pending->is_calling = false;
	pending->next_ms = clock_monotonic_ms() + NLM_GRANT_PAUSE_MS;
	granted->counters->call_backs_failed += result < 0;
	/* A client in its grace period, or out of reach, is asked again. */
	if (status == NLM4_DENIED_GRACE_PERIOD && pending->tries < NLM_GRANT_TRIES)
		return;
	pending_free(granted, pending);
	if (status == NLM4_GRANTED)
		lock_table_acknowledge(granted->table, id);
	else
		lock_table_refuse(granted->table, id);
}

static void call_back(struct nlm_granted *granted, struct pending *pending, const struct lock_grant *grant)
{
	const struct client_call_way *way = &granted->way;
	uint8_t args[NLM_GRANTED_MAX];
	struct bytes_writer w = bytes_writer_init(args, sizeof(args));
	struct client_call call = {
		.program = NLM_PROGRAM,
		.version = grant->caller.version,
		.procedure = NLM_GRANTED,
		.args = args,
	};
	struct client_call_done done = { .fn = on_granted_answer, .arg = granted, .id = pending->id };

	nlm_put_granted(&w, grant);
	call.args_len = w.written;
	memcpy(call.client, grant->request.client->address, sizeof(call.client));
	memcpy(call.vip, grant->caller.vip, sizeof(call.vip));
	pending->tries++;
	pending->is_calling = true;
	granted->counters->call_backs++;
	way->call(&call, &done, way->arg); /* may answer at once, and then @pending is gone */
}

void nlm_granted_run(struct nlm_granted *granted, uint64_t now_ms)
{
	struct pending *pending, *next;
	struct lock_grant grant;

	for (pending = TAILQ_FIRST(&granted->pending); pending; pending = next) {
		next = TAILQ_NEXT(pending, link);
		if (pending->is_calling || now_ms < pending->next_ms)
			continue;
		if (lock_table_find_grant(granted->table, pending->id, &grant))
			call_back(granted, pending, &grant);
		else
			pending_free(granted, pending); /* cancelled, unlocked, or acknowledged by asking again */
	}
}

/* Life */

struct nlm_granted *nlm_granted_new(const struct client_call_way *way, struct nlm_counters *counters)
{
	struct nlm_granted *granted = calloc(1, sizeof(*granted));

	if (!granted)
		return NULL;
	granted->way = *way;
	granted->counters = counters;
	TAILQ_INIT(&granted->pending);
	return granted;
}

void nlm_granted_free(struct nlm_granted *granted)
{
	if (!granted)
		return;
	while (!TAILQ_EMPTY(&granted->pending))
		pending_free(granted, TAILQ_FIRST(&granted->pending));
	free(granted);
}

void nlm_granted_set_table(struct nlm_granted *granted, struct lock_table *table)
{
	granted->table = table;
}
