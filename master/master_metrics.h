/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/master_metrics.h - what the switch counts: as a device, of the fabric and of the cluster
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_MASTER_METRICS_H
#define VNAS_MASTER_MASTER_METRICS_H

#include "common/metrics.h"

struct master;

void master_metrics_put(struct master *master, struct metrics *metrics);

#endif
