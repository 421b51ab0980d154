/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/placing.h"

#include "common/clock.h"

#include <pthread.h>
#include <stdlib.h>

enum { CLIENTS_MAX = 4096, NODES_MAX = 256 };

struct placing {
	const struct placement_policy *policy;
	uint32_t self;
	pthread_mutex_t mutex; /* for what follows */
	struct placement_budget budget;
	struct placement_clients *clients;
	uint32_t permille[NODES_MAX];
};

struct placing *placing_new(const struct placement_policy *policy, uint32_t self)
{
	struct placing *placing = calloc(1, sizeof(*placing));

	if (!placing)
		return NULL;
	placing->policy = policy;
	placing->self = self;
	pthread_mutex_init(&placing->mutex, NULL);
	placing->clients = placement_clients_new(CLIENTS_MAX);
	if (!placing->clients) {
		free(placing);
		return NULL;
	}
	return placing;
}

void placing_free(struct placing *placing)
{
	if (!placing)
		return;
	placement_clients_free(placing->clients);
	pthread_mutex_destroy(&placing->mutex);
	free(placing);
}

void placing_note_workload(struct placing *placing, uint32_t node, uint32_t permille)
{
	if (node >= NODES_MAX)
		return;
	pthread_mutex_lock(&placing->mutex);
	placing->permille[node] = permille;
	pthread_mutex_unlock(&placing->mutex);
}

const struct placement_policy *placing_policy(const struct placing *placing)
{
	return placing->policy;
}

/* With the mutex, as all that asks it. What counts for this session: its own work, or its client's. Without memory its own. */
static struct placement *counts_of(struct placing *placing, struct conn *conn)
{
	struct placement *counts = NULL;

	if (placing->policy->per_client)
		counts = placement_of_client(placing->clients, conn_flow(conn)->client);
	return counts ? counts : conn_placement(conn);
}

static void judge_at(struct placing *placing, struct conn *conn, uint64_t now_ms, struct placement_verdict *verdict)
{
	struct placement_situation situation = {
		.self = placing->self,
		.now_ms = now_ms,
		.moved_ms = conn_placement(conn)->moved_ms,
		.queued = conn_output_len(conn),
		.permille = placing->permille,
		.permille_count = NODES_MAX,
		.budget = &placing->budget,
	};

	placement_judge(counts_of(placing, conn), placing->policy, &situation, verdict);
}

void placing_judge(struct placing *placing, struct conn *conn, struct placement_verdict *verdict)
{
	pthread_mutex_lock(&placing->mutex);
	judge_at(placing, conn, clock_monotonic_ms(), verdict);
	pthread_mutex_unlock(&placing->mutex);
}

static uint32_t work(struct placing *placing, struct conn *conn, uint32_t node, uint64_t bytes)
{
	struct placement_verdict verdict;
	uint64_t now_ms = clock_monotonic_ms();

	placement_note(counts_of(placing, conn), placing->policy, node, bytes, now_ms);
	if (node == placing->self)
		return 0;
	judge_at(placing, conn, now_ms, &verdict);
	if (!verdict.moves)
		return 0;
	conn_placement(conn)->moved_ms = now_ms; /* also when it fails: not again at once */
	placement_spend(&placing->budget, now_ms);
	return verdict.node;
}

uint32_t placing_work(struct placing *placing, struct conn *conn, uint32_t node, uint64_t bytes)
{
	uint32_t to;

	pthread_mutex_lock(&placing->mutex);
	to = work(placing, conn, node, bytes);
	pthread_mutex_unlock(&placing->mutex);
	return to;
}
