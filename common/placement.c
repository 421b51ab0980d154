/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/placement.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum { SECOND_MS = 1000, CLIENT_BUCKETS = 256 };

static void placement_halve(struct placement *placement, unsigned int window_ms, uint64_t now_ms)
{
	uint64_t windows = (now_ms - placement->halved_ms) / (window_ms ? window_ms : 1);

	if (windows == 0)
		return;
	for (size_t i = 0; i < PLACEMENT_NODES_MAX; i++)
		placement->shares[i].bytes = windows < 64 ? placement->shares[i].bytes >> windows : 0;
	placement->halved_ms = now_ms;
}

/* The node's share, or the smallest one to take over. */
static struct placement_share *placement_share_of(struct placement *placement, uint32_t node)
{
	struct placement_share *least = &placement->shares[0];

	for (size_t i = 0; i < PLACEMENT_NODES_MAX; i++) {
		struct placement_share *share = &placement->shares[i];

		if (share->node == node)
			return share;
		if (share->bytes < least->bytes)
			least = share;
	}
	*least = (struct placement_share){ .node = node };
	return least;
}

void placement_note(struct placement *placement, const struct placement_policy *policy, uint32_t node, uint64_t bytes,
		    uint64_t now_ms)
{
	placement_halve(placement, policy->window_ms, now_ms);
	placement_share_of(placement, node)->bytes += bytes + PLACEMENT_REQUEST_BYTES;
}

/* The verdict */

struct sums {
	uint64_t here, elsewhere, most;
	uint32_t node; /* that has most, of the others */
};

static struct sums placement_sum(struct placement placement, const struct placement_policy *policy,
				 const struct placement_situation *situation)
{
	struct sums sums = { 0 };

	placement_halve(&placement, policy->window_ms, situation->now_ms);
	for (size_t i = 0; i < PLACEMENT_NODES_MAX; i++) {
		const struct placement_share *share = &placement.shares[i];

		if (share->node == situation->self) {
			sums.here += share->bytes;
			continue;
		}
		sums.elsewhere += share->bytes;
		if (share->node && share->bytes > sums.most) {
			sums.most = share->bytes;
			sums.node = share->node;
		}
	}
	return sums;
}

static uint64_t percent_of(uint64_t part, uint64_t whole)
{
	if (whole == 0)
		return part ? UINT64_MAX : 0;
	return part < UINT64_MAX / 100 ? part * 100 / whole : part / whole * 100;
}

static unsigned int workload_of(const struct placement_situation *situation, uint32_t node)
{
	return node < situation->permille_count ? situation->permille[node] / 10 : 0;
}

static unsigned int budget_spent(const struct placement_budget *budget, uint64_t now_ms)
{
	return now_ms - budget->since_ms < SECOND_MS ? budget->begun : 0;
}

static struct placement_finding at_least(uint64_t have, uint64_t limit)
{
	return (struct placement_finding){ have, limit, limit, have >= limit };
}

static struct placement_finding more_than(uint64_t have, uint64_t limit)
{
	return (struct placement_finding){ have, limit, limit, have > limit };
}

static struct placement_finding at_most(uint64_t have, uint64_t limit)
{
	return (struct placement_finding){ have, limit, limit, have <= limit };
}

static bool is_enough(const struct placement_finding findings[static PLACEMENT_NCRITERIA])
{
	const struct placement_finding *one = &findings[PLACEMENT_ONE_DEVICE], *all = &findings[PLACEMENT_ELSEWHERE];

	return (one->is_used && one->is_met) || (all->is_used && all->is_met);
}

static bool is_part(const struct placement_finding *finding, unsigned int percent)
{
	return finding->is_used && percent_of(finding->have, finding->limit) >= percent;
}

static bool may_become_enough(const struct placement_finding findings[static PLACEMENT_NCRITERIA], unsigned int percent)
{
	return percent && (is_part(&findings[PLACEMENT_ONE_DEVICE], percent) ||
			   is_part(&findings[PLACEMENT_ELSEWHERE], percent));
}

void placement_judge(const struct placement *placement, const struct placement_policy *policy,
		     const struct placement_situation *situation, struct placement_verdict *verdict)
{
	struct sums sums = placement_sum(*placement, policy, situation);
	unsigned int here = workload_of(situation, situation->self), there = workload_of(situation, sums.node);
	struct placement_finding *findings = verdict->findings;

	findings[PLACEMENT_ONE_DEVICE] = at_least(sums.most, policy->bytes);
	findings[PLACEMENT_ELSEWHERE] = at_least(sums.elsewhere, policy->elsewhere);
	findings[PLACEMENT_RATIO] = more_than(percent_of(sums.most, sums.here), policy->ratio);
	findings[PLACEMENT_WORKLOAD] = at_most(there > here ? there - here : 0, policy->workload);
	findings[PLACEMENT_STAY] = at_least(situation->now_ms - situation->moved_ms, policy->stay_ms);
	findings[PLACEMENT_BUDGET] =
		at_most(budget_spent(situation->budget, situation->now_ms), policy->budget ? policy->budget - 1 : 0);
	findings[PLACEMENT_BUDGET].is_used = policy->budget;
	findings[PLACEMENT_QUEUE] = at_most(situation->queued, policy->queue);
	verdict->node = sums.node;
	verdict->prepares = sums.node && may_become_enough(findings, policy->prepare);
	verdict->moves = sums.node && is_enough(findings);
	for (int i = PLACEMENT_RATIO; i < PLACEMENT_NCRITERIA; i++)
		verdict->moves &= !findings[i].is_used || findings[i].is_met;
}

void placement_spend(struct placement_budget *budget, uint64_t now_ms)
{
	if (now_ms - budget->since_ms >= SECOND_MS)
		*budget = (struct placement_budget){ .since_ms = now_ms };
	budget->begun++;
}

static const struct {
	const char *name, *unit;
} criteria[PLACEMENT_NCRITERIA] = {
	[PLACEMENT_ONE_DEVICE] = { "bytes of that device's data", "B" },
	[PLACEMENT_ELSEWHERE] = { "bytes of all other devices' data", "B" },
	[PLACEMENT_RATIO] = { "its data against this device's", "%" },
	[PLACEMENT_WORKLOAD] = { "it is busier by, of one core", "%" },
	[PLACEMENT_STAY] = { "time since the last move", "ms" },
	[PLACEMENT_BUDGET] = { "handoffs begun in this second", "/s" },
	[PLACEMENT_QUEUE] = { "replies that wait", "B" },
};

const char *placement_criterion_name(enum placement_criterion criterion)
{
	return criteria[criterion].name;
}

const char *placement_criterion_unit(enum placement_criterion criterion)
{
	return criteria[criterion].unit;
}

/* Clients */

struct client {
	LIST_ENTRY(client) in_bucket;
	TAILQ_ENTRY(client) in_use; /* the longest away first */
	uint8_t address[16];
	struct placement placement;
};

struct placement_clients {
	size_t count, max;
	LIST_HEAD(bucket, client) buckets[CLIENT_BUCKETS];
	TAILQ_HEAD(, client) use;
};

struct placement_clients *placement_clients_new(size_t clients_max)
{
	struct placement_clients *clients = calloc(1, sizeof(*clients));

	if (!clients)
		return NULL;
	clients->max = clients_max;
	for (size_t i = 0; i < CLIENT_BUCKETS; i++)
		LIST_INIT(&clients->buckets[i]);
	TAILQ_INIT(&clients->use);
	return clients;
}

void placement_clients_free(struct placement_clients *clients)
{
	struct client *client;

	while (clients && (client = TAILQ_FIRST(&clients->use))) {
		TAILQ_REMOVE(&clients->use, client, in_use);
		free(client);
	}
	free(clients);
}

/* Clients choose their addresses within their networks only, and the list is short: no keyed hash. */
static struct bucket *bucket_of(struct placement_clients *clients, const uint8_t address[static 16])
{
	unsigned int hash = 0;

	for (size_t i = 0; i < 16; i++)
		hash = hash * 31 + address[i];
	return &clients->buckets[hash % CLIENT_BUCKETS];
}

/* A new one, or the one that was longest away, out of all lists. */
static struct client *client_make_room(struct placement_clients *clients)
{
	struct client *client = NULL;

	if (clients->count < clients->max)
		client = malloc(sizeof(*client));
	if (client) {
		clients->count++;
		return client;
	}
	client = TAILQ_FIRST(&clients->use);
	if (client) {
		TAILQ_REMOVE(&clients->use, client, in_use);
		LIST_REMOVE(client, in_bucket);
	}
	return client;
}

struct placement *placement_of_client(struct placement_clients *clients, const uint8_t address[static 16])
{
	struct bucket *bucket = bucket_of(clients, address);
	struct client *client;

	LIST_FOREACH(client, bucket, in_bucket)
		if (memcmp(client->address, address, 16) == 0)
			break;
	if (client) {
		TAILQ_REMOVE(&clients->use, client, in_use);
	} else {
		client = client_make_room(clients);
		if (!client)
			return NULL;
		*client = (struct client){ 0 };
		memcpy(client->address, address, 16);
		LIST_INSERT_HEAD(bucket, client, in_bucket);
	}
	TAILQ_INSERT_TAIL(&clients->use, client, in_use);
	return &client->placement;
}
