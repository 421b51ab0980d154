/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/placing.h - this device's sessions follow their data
 *
 * Feeds the policy (common/placement.h) with what sessions do and how busy devices are, and says when one is to be handed off.
 *
 * Threads: those of connections' loops.
 */
#ifndef VNAS_SLAVE_PLACING_H
#define VNAS_SLAVE_PLACING_H

#include "common/conn.h"
#include "common/placement.h"

#include <stdint.h>

struct placing;

/* @policy: borrowed for its life. NULL: no memory */
struct placing *placing_new(const struct placement_policy *policy, uint32_t self);
void placing_free(struct placing *placing);

/* A device, or this one, said how busy it is: permille of one core. */
void placing_note_workload(struct placing *placing, uint32_t node, uint32_t permille);

/* Where a session should go. */
struct placing_advice {
	uint32_t node; /* 0: it stays */
	bool moves;    /* now; else that device should only be prepared for it */
};

/* A call of the session moved @bytes of @node's data. */
void placing_work(struct placing *placing, struct conn *conn, uint32_t node, uint64_t bytes,
		  struct placing_advice *advice);

/*
 * This device served @bytes of its data to @node, for a session that is there. Return: whether to ask for the session now; not again
 * within a second
 */
bool placing_relayed(struct placing *placing, const struct flow_key *flow, uint32_t node, uint64_t bytes);

/* What placing_work() would make of the session now. */
void placing_judge(struct placing *placing, struct conn *conn, struct placement_verdict *verdict);

const struct placement_policy *placing_policy(const struct placing *placing);

#endif
