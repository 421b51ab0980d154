/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/flow_sweep.h - entries of the forwarding table that nobody speaks for
 *
 * The fabric sees most connections end (FIN, RST) and collects their entries. Some ends pass it by: a reset that a device sends
 * to the client directly, a client that vanished. An entry whose flow no device has reported in two sweeps in a row is
 * removed. A sweep goes through the table in parts, and remembers so many suspects at most that it is quick with them; the rest
 * is for later sweeps.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_FLOW_SWEEP_H
#define VNAS_MASTER_FLOW_SWEEP_H

#include "master/fabric.h"

enum { FLOW_SWEEP_MS = 30000, FLOW_SWEEP_SUSPECTS_MAX = 32768 };

struct flow_suspects {
	struct flow_key *flows; /* of the last sweep: sorted */
	size_t count, capacity;
};

struct flow_sweep {
	struct flow_suspects last, fresh;
	struct fabric_walk walk;
};

/**
 * flow_sweep_part() - a part of a sweep
 * @sweep:	all zero before the first
 * @may_be_dead: whether the devices' reports, all recent, speak for this flow's end; else it is left alone
 * @removed:	counts up
 *
 * Return: whether the sweep has ended
 */
bool flow_sweep_part(struct flow_sweep *sweep, struct fabric *fabric,
		     bool (*may_be_dead)(const struct fabric_flow *flow, void *arg), void *arg, size_t *removed);

void flow_sweep_fini(struct flow_sweep *sweep);

#endif
