/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/placement.h"

#include <stddef.h>

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

static uint64_t placement_bytes_of(const struct placement *placement, uint32_t node)
{
	for (size_t i = 0; i < PLACEMENT_NODES_MAX; i++)
		if (placement->shares[i].node == node)
			return placement->shares[i].bytes;
	return 0;
}

uint32_t placement_note(struct placement *placement, const struct placement_policy *policy, uint32_t self,
			uint32_t node, uint64_t bytes, uint64_t now_ms)
{
	struct placement_share *share;

	placement_halve(placement, policy->window_ms, now_ms);
	share = placement_share_of(placement, node);
	share->bytes += bytes + PLACEMENT_REQUEST_BYTES;
	if (node == self || share->bytes < policy->bytes || now_ms - placement->moved_ms < policy->stay_ms)
		return 0;
	return share->bytes / 2 > placement_bytes_of(placement, self) ? node : 0;
}
