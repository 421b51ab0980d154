/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/placing.h"

#include "common/clock.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS_MAX = 4096, NODES_MAX = 256, PREPARE_AGAIN_MS = 5000, REQUEST_AGAIN_MS = 1000 };

struct placing {
	const struct placement_policy *policy;
	uint32_t self;
	pthread_mutex_t mutex; /* for what follows */
	struct placement_budget budget;
	struct placement_clients *clients, *relayed;
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
	placing->relayed = placement_clients_new(CLIENTS_MAX);
	if (!placing->clients || !placing->relayed) {
		placing_free(placing);
		return NULL;
	}
	return placing;
}

void placing_free(struct placing *placing)
{
	if (!placing)
		return;
	placement_clients_free(placing->clients);
	placement_clients_free(placing->relayed);
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

static void work(struct placing *placing, struct conn *conn, uint32_t node, uint64_t bytes, struct placing_advice *advice)
{
	struct placement *own = conn_placement(conn);
	struct placement_verdict verdict;
	uint64_t now_ms = clock_monotonic_ms();

	placement_note(counts_of(placing, conn), placing->policy, node, bytes, now_ms);
	if (node == placing->self)
		return;
	judge_at(placing, conn, now_ms, &verdict);
	if (verdict.moves) {
		own->moved_ms = now_ms; /* also when it fails: not again at once */
		own->prepared = 0;
		placement_spend(&placing->budget, now_ms);
		*advice = (struct placing_advice){ .node = verdict.node, .moves = true };
	} else if (verdict.prepares &&
		   (own->prepared != verdict.node || now_ms - own->prepared_ms >= PREPARE_AGAIN_MS)) {
		own->prepared = verdict.node; /* also when it fails: then the handoff only takes longer */
		own->prepared_ms = now_ms;
		*advice = (struct placing_advice){ .node = verdict.node };
	}
}

void placing_work(struct placing *placing, struct conn *conn, uint32_t node, uint64_t bytes,
		  struct placing_advice *advice)
{
	pthread_mutex_lock(&placing->mutex);
	work(placing, conn, node, bytes, advice);
	pthread_mutex_unlock(&placing->mutex);
}

/* Counts are kept by 16 bytes, and clients have several sessions: their ports go where IPv4 addresses have zeros. */
static struct placement *relayed_of(struct placing *placing, const struct flow_key *flow)
{
	uint8_t key[16];

	memcpy(key, flow->client, sizeof(key));
	key[0] ^= (uint8_t)(ntohs(flow->client_port) >> 8);
	key[1] ^= (uint8_t)ntohs(flow->client_port);
	return placement_of_client(placing->relayed, key);
}

static uint64_t bytes_of(const struct placement *counts, uint32_t node)
{
	for (size_t i = 0; i < PLACEMENT_NODES_MAX; i++)
		if (counts->shares[i].node == node)
			return counts->shares[i].bytes;
	return 0;
}

bool placing_relayed(struct placing *placing, const struct flow_key *flow, uint32_t node, uint64_t bytes)
{
	const struct placement_policy *policy = placing->policy;
	uint64_t now_ms = clock_monotonic_ms();
	struct placement *counts;
	bool asks = false;

	if (!policy->request)
		return false;
	pthread_mutex_lock(&placing->mutex);
	counts = relayed_of(placing, flow);
	if (counts) {
		placement_note(counts, policy, node, bytes, now_ms);
		asks = bytes_of(counts, node) >= policy->request && now_ms - counts->moved_ms >= REQUEST_AGAIN_MS;
	}
	if (asks)
		counts->moved_ms = now_ms;
	pthread_mutex_unlock(&placing->mutex);
	return asks;
}
