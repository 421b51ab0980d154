/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/top.h - nasctl top: what goes on in the cluster now, each second
 *
 * While somebody looks, counters are looked at each second (master/rates.h); all who look are shown the same round, as one record:
 * devices, volumes, the busiest sessions, and handoffs. While nobody looks it costs nothing.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_TOP_H
#define VNAS_MASTER_TOP_H

#include "common/admin.h"

struct master;
struct top;

/* NULL without memory */
struct top *top_new(struct master *master);

/* When the admin is gone. NULL is allowed. */
void top_free(struct top *top);

/* nasctl top. Answers with a record that has no "round" yet, and goes on with rounds. */
void top_command(struct admin_request *request, int argc, char **argv, void *arg);

#endif
