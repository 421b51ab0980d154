/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/members.h - the other devices, as this one sees them
 *
 * One common/member_state.h for each device that there was a session with, fed with what SCP hears of it and with the clock.
 * Each change is one line of the log, with its reason. Knows nothing of what follows from a change.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_MEMBERS_H
#define VNAS_SLAVE_MEMBERS_H

#include "common/member_state.h"

struct event_base;
struct members;
struct namespace;
struct scp;

enum { MEMBERS_MAX = 256 }; /* node ids */

struct members_options {
	struct event_base *base;
	const struct member_limits *limits; /* borrowed for life */
	const struct namespace *ns;	    /* for names; borrowed for life */
	void (*on_change)(uint32_t node, void *arg); /* its state is another one now */
	void *arg;
};

/* Return: NULL without memory */
struct members *members_new(const struct members_options *options);
void members_free(struct members *members);

/* Whom to ask how long a device has been silent; borrowed until it is NULL again. */
void members_set_scp(struct members *members, const struct scp *scp);

/* There is a control session with @node, or none any more: @why. */
void members_connected(struct members *members, uint32_t node);
void members_lost(struct members *members, uint32_t node, const char *why);

/* Never NULL: a device that was never heard of is down. */
const struct member_life *members_life(const struct members *members, uint32_t node);

#endif
