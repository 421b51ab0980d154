/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/flow_sweep.h"

#include <stdlib.h>
#include <string.h>

struct sweeping {
	struct flow_sweep *sweep;
	struct fabric *fabric;
	bool (*may_be_dead)(const struct fabric_flow *flow, void *arg);
	void *arg;
	size_t removed;
};

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct flow_key));
}

static bool was_suspect(const struct flow_sweep *sweep, const struct flow_key *flow)
{
	return sweep->last.count && bsearch(flow, sweep->last.flows, sweep->last.count, sizeof(*flow), compare);
}

static bool make_room(struct flow_suspects *suspects)
{
	size_t capacity = suspects->capacity ? 2 * suspects->capacity : 64;
	struct flow_key *flows;

	if (suspects->count < suspects->capacity)
		return true;
	if (capacity > FLOW_SWEEP_SUSPECTS_MAX)
		return false;
	flows = reallocarray(suspects->flows, capacity, sizeof(*flows));
	if (!flows)
		return false;
	suspects->flows = flows;
	suspects->capacity = capacity;
	return true;
}

static bool look_at(const struct fabric_flow *flow, void *arg)
{
	struct sweeping *sweeping = arg;
	struct flow_suspects *fresh = &sweeping->sweep->fresh;

	if (!sweeping->may_be_dead(flow, sweeping->arg))
		return true;
	if (was_suspect(sweeping->sweep, &flow->flow)) {
		fabric_flow_remove(sweeping->fabric, &flow->flow);
		sweeping->removed++;
	} else if (make_room(fresh)) {
		fresh->flows[fresh->count++] = flow->flow;
	}
	return true;
}

/* The suspects of this sweep are those of the last one, the next time. */
static void end_sweep(struct flow_sweep *sweep)
{
	free(sweep->last.flows);
	sweep->last = sweep->fresh;
	sweep->fresh = (struct flow_suspects){ 0 };
	if (sweep->last.count)
		qsort(sweep->last.flows, sweep->last.count, sizeof(*sweep->last.flows), compare);
}

bool flow_sweep_part(struct flow_sweep *sweep, struct fabric *fabric,
		     bool (*may_be_dead)(const struct fabric_flow *flow, void *arg), void *arg, size_t *removed)
{
	struct sweeping sweeping = { .sweep = sweep, .fabric = fabric, .may_be_dead = may_be_dead, .arg = arg };
	bool is_end = fabric_flows_part(fabric, &sweep->walk, look_at, &sweeping);

	*removed += sweeping.removed;
	if (is_end)
		end_sweep(sweep);
	return is_end;
}

void flow_sweep_fini(struct flow_sweep *sweep)
{
	free(sweep->last.flows);
	free(sweep->fresh.flows);
	*sweep = (struct flow_sweep){ 0 };
}
