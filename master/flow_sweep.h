/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/flow_sweep.h - entries of the forwarding table that nobody speaks for
 *
 * The fabric sees most connections end (FIN, RST) and collects their entries. Some ends pass it by: a reset that a device sends
 * to the client directly, a client that vanished. An entry whose flow no device has reported in two sweeps in a row is
 * removed.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_FLOW_SWEEP_H
#define VNAS_MASTER_FLOW_SWEEP_H

#include "master/fabric.h"

enum { FLOW_SWEEP_MS = 30000 };

struct flow_sweep {
	struct flow_key *suspects; /* of the last sweep, sorted */
	size_t suspect_count;
};

/**
 * flow_sweep_run() - one sweep
 * @sweep:	all zero before the first
 * @may_be_dead: whether the devices' reports, all recent, speak for this flow's end; else it is left alone
 *
 * Return: how many entries were removed
 */
size_t flow_sweep_run(struct flow_sweep *sweep, struct fabric *fabric,
		      bool (*may_be_dead)(const struct fabric_flow *flow, void *arg), void *arg);

void flow_sweep_fini(struct flow_sweep *sweep);

#endif
