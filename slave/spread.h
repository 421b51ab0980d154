/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/spread.h - a device's part in spread directories
 *
 * Keeps the index (common/spread.h) in step with what the master says, and says so: only when all devices have, a client is told that its
 * change is made. And tells the master what is in the root of a branch of this device's.
 *
 * Threads: the control loop's; directories are read by workers.
 */
#ifndef VNAS_SLAVE_SPREAD_H
#define VNAS_SLAVE_SPREAD_H

#include "common/spread.h"
#include "scp/scp_xdr.h"

struct spread_follower;
struct volumes;
struct workers;

struct spread_follower_options {
	struct spreads *spreads;
	struct volumes *volumes;
	struct workers *workers;
	void (*send)(uint32_t request, const scp_message *message, void *arg); /* to the master */

	/* Has all ended that an earlier life of the master has asked for? Before, what is listed may change by it. */
	bool (*is_settled)(void *arg);
	void *arg;
};

/* NULL without memory. @options: copied */
struct spread_follower *spread_follower_new(const struct spread_follower_options *options);

/* When the workers have ended. NULL is allowed. */
void spread_follower_free(struct spread_follower *follower);

/* SCP_SPREAD_UPDATE and SCP_SPREAD_LIST, from the master. */
void spread_follower_received(struct spread_follower *follower, uint32_t request, const scp_message *message);

/**
 * spread_follower_list() - read a part of a branch's root
 * @done:	called once, later, or before this returns if it can't be read; borrows the listing
 */
void spread_follower_list(struct spread_follower *follower, const scp_spread_list *wanted,
			  void (*done)(const scp_spread_listing *listing, void *arg), void *arg);

/* Between the index and the wire. What is borrowed is so as long as the original. -EINVAL: that can't be an entry */
void spread_entry_to_wire(const struct spread_entry *entry, scp_spread_entry *wire);
int spread_entry_from_wire(const scp_spread_entry *wire, struct spread_entry *entry);

#endif
