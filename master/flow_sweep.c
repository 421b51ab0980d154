/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/flow_sweep.h"

#include <stdlib.h>
#include <string.h>

struct collecting {
	struct flow_sweep fresh;
	size_t capacity;
	bool (*may_be_dead)(const struct fabric_flow *flow, void *arg);
	void *arg;
};

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct flow_key));
}

static bool collect(const struct fabric_flow *flow, void *arg)
{
	struct collecting *collecting = arg;
	struct flow_sweep *fresh = &collecting->fresh;

	if (!collecting->may_be_dead(flow, collecting->arg))
		return true;
	if (fresh->suspect_count == collecting->capacity) {
		size_t capacity = collecting->capacity ? 2 * collecting->capacity : 64;
		struct flow_key *suspects = reallocarray(fresh->suspects, capacity, sizeof(*suspects));

		if (!suspects)
			return false; /* the rest in the next sweep */
		fresh->suspects = suspects;
		collecting->capacity = capacity;
	}
	fresh->suspects[fresh->suspect_count++] = flow->flow;
	return true;
}

size_t flow_sweep_run(struct flow_sweep *sweep, struct fabric *fabric,
		      bool (*may_be_dead)(const struct fabric_flow *flow, void *arg), void *arg)
{
	struct collecting collecting = { .may_be_dead = may_be_dead, .arg = arg };
	size_t removed = 0;

	fabric_flows(fabric, collect, &collecting);
	for (size_t i = 0; i < collecting.fresh.suspect_count; i++) {
		const struct flow_key *flow = &collecting.fresh.suspects[i];

		if (sweep->suspects &&
		    bsearch(flow, sweep->suspects, sweep->suspect_count, sizeof(*flow), compare)) {
			fabric_flow_remove(fabric, flow);
			removed++;
		}
	}
	flow_sweep_fini(sweep);
	*sweep = collecting.fresh;
	if (sweep->suspects)
		qsort(sweep->suspects, sweep->suspect_count, sizeof(*sweep->suspects), compare);
	return removed;
}

void flow_sweep_fini(struct flow_sweep *sweep)
{
	free(sweep->suspects);
	*sweep = (struct flow_sweep){ 0 };
}
