/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/device_metrics.h - what every device counts
 *
 * Gathers it from the device's parts. The master adds what only it knows (master/master_metrics.h).
 *
 * Threads: the control loop's; data loops are paused for a moment.
 */
#ifndef VNAS_SLAVE_DEVICE_METRICS_H
#define VNAS_SLAVE_DEVICE_METRICS_H

#include "common/metrics.h"

struct slave;
struct uplink;

/* @uplink: NULL on the switch, which asks nobody who owns a flow */
void device_metrics_put(struct slave *slave, const struct uplink *uplink, struct metrics *metrics);

#endif
