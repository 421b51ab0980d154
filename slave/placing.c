/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/placing.h"

#include "common/clock.h"
#include "common/handoff.h"

#include <stdlib.h>

enum { CLIENTS_MAX = 4096, NODES_MAX = 256 };

struct placing {
	const struct placement_policy *policy;
	uint32_t self;
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
	free(placing);
}

void placing_note_workload(struct placing *placing, uint32_t node, uint32_t permille)
{
	if (node < NODES_MAX)
		placing->permille[node] = permille;
}

const struct placement_policy *placing_policy(const struct placing *placing)
{
	return placing->policy;
}

/* What counts for this session: its own work, or its client's. Without memory its own. */
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
	judge_at(placing, conn, clock_monotonic_ms(), verdict);
}

void placing_work(struct placing *placing, struct handoffs *handoffs, struct conn *conn, uint32_t node, uint64_t bytes)
{
	struct placement_verdict verdict;
	uint64_t now_ms = clock_monotonic_ms();

	placement_note(counts_of(placing, conn), placing->policy, node, bytes, now_ms);
	if (node == placing->self)
		return;
	judge_at(placing, conn, now_ms, &verdict);
	if (!verdict.moves)
		return;
	conn_placement(conn)->moved_ms = now_ms; /* also when it fails: not again at once */
	placement_spend(&placing->budget, now_ms);
	handoff_start(handoffs, conn_facts(conn)->session, verdict.node, NULL, NULL);
}
