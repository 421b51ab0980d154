/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/spread.h - spread directories, as the master looks after them
 *
 * All that changes a spread directory comes here, one change of a name after the other. A branch carries it out; then the index is
 * changed (master/spread_store.h, common/spread.h), all devices are told, and when they have said that they know, the client is answered.
 * Before a branch counts on, its root is compared with the index (master/spread_check.h).
 *
 *	                 a name in use         branch, record         answer        all devices know
 *	call ---> WAITING ---------> ASKING -----------------> ASKING ------> TELLING ---------------> answered
 *	             |                                           |
 *	             +--> an error: answered                     +--> an error: answered
 *
 * What is new has its name reserved in the store before the branch is asked: after a crash of this daemon the same call goes to the same
 * branch, whose memory of calls (common/duplicate_requests.h) knows it.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_SPREAD_H
#define VNAS_MASTER_SPREAD_H

#include "common/namespace.h"
#include "common/spread_call.h"
#include "scp/scp_xdr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct master;
struct spreading;

/* A branch that could have a new entry. */
struct spread_candidate {
	uint32_t branch; /* its id */
	bool knows_room;
	uint64_t free_bytes;
	uint32_t weight;
	uint64_t entries; /* that it has */
};

/**
 * spread_choose() - which of several branches gets a new entry?
 * @candidates:	in the order of their ids; those without weight or without room are left out
 * @last:	the branch that got the last one, for the policy of turns
 *
 * Return: NULL if none can have it
 */
const struct spread_candidate *spread_choose(ns_spread_policy policy, const struct spread_candidate *candidates, size_t count,
					     uint32_t last);

/* @path: of the store. 0; -EIO, -ENOMEM (logged) */
int spreading_new(struct master *master, const char *path, struct spreading **out);

/* When the device is there: takes up what the name space and the store know. 0; -EIO, -ENOMEM */
int spreading_start(struct spreading *spreading);

/* No call is answered any more. Before the device ends. */
void spreading_stop(struct spreading *spreading);

/* NULL is allowed. */
void spreading_free(struct spreading *spreading);

/* Takes @call. */
void spreading_change(struct spreading *spreading, struct spread_call *call);

/* A device has a session with the master, or has lost it. */
void spreading_node_up(struct spreading *spreading, uint32_t node);
void spreading_node_down(struct spreading *spreading, uint32_t node);

/* A volume was offered, perhaps again. Is it a branch? Then it needs no place. */
bool spreading_offered(struct spreading *spreading, const uint8_t uuid[static NS_UUID_BYTES]);

/* SCP_SPREAD_REACHED and SCP_SPREAD_LISTING, from @node. */
void spreading_received(struct spreading *spreading, uint32_t node, uint32_t request, const scp_message *message);

#endif
