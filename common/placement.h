/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/placement.h - where a session's work lives, and whether it should move there
 *
 * Counts the file data of the last moments per device (metadata never counts) and decides, with hysteresis. Pure: takes
 * values and times, returns a decision; common/handoff.h acts on it.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_PLACEMENT_H
#define VNAS_COMMON_PLACEMENT_H

#include <stdint.h>

enum {
	PLACEMENT_NODES_MAX = 8,
	PLACEMENT_REQUEST_BYTES = 16 * 1024, /* what a request weighs beside its bytes */
};

struct placement_policy {
	uint64_t bytes;	       /* from one other device before a session moves there */
	unsigned int window_ms; /* figures are halved as often as this */
	unsigned int stay_ms;  /* a session stays at least this long after a move */
};

struct placement {
	uint64_t halved_ms, moved_ms; /* monotonic clock */
	struct placement_share {
		uint32_t node;
		uint64_t bytes;
	} shares[PLACEMENT_NODES_MAX];
};

/**
 * placement_note() - a request moved file data; should the session move too?
 * @placement:	of the session; all zero but moved_ms at its start on this device
 * @policy:	borrowed
 * @self:	this device's node id
 * @node:	the owner of the data
 * @bytes:	how many
 * @now_ms:	monotonic clock
 *
 * A session moves to the device that had more than @policy->bytes, and more than twice as many as this one.
 *
 * Return: the node to hand off to; 0: stay
 * Source: "Determination of whether to proceed with a handoff" (absolute, relative, one specific other device)
 */
uint32_t placement_note(struct placement *placement, const struct placement_policy *policy, uint32_t self,
			uint32_t node, uint64_t bytes, uint64_t now_ms);

#endif
