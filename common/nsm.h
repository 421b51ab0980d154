/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nsm.h - the Network Status Monitor: which clients to tell of our restart, and who told us of theirs
 *
 * Clients that ask for locks are recorded below a directory, one file each, before they get the first one. At the next
 * start they are told (SM_NOTIFY) that this server has restarted, and as long as any of them may want to have its
 * locks back, others must wait: the grace period. It is NSM_GRACE_MS long, begins when clients can be reached, and there is
 * none if no client is recorded. A client that does not answer is tried NSM_TRIES times, with more and more time between.
 *
 * The state number is odd, and another one after each start. To clients all devices are one server, so no two may
 * ever say the same: it is made of a counter, kept in the file "state", and the node id.
 *
 * As a program it answers NULL, STAT and NOTIFY; the other procedures are for the programs of one machine among
 * themselves and are refused as the protocol has it. NOTIFY is answered only when everybody was told who may hold locks of
 * that client: without an answer the client tells us again.
 *
 *	file			content
 *	state			the counter, decimal
 *	ADDRESS-HASH.client	"VIP NAME": the address by which the client knows us, what it calls itself
 *
 * Source: XNFS, chapter 11.
 *
 * Threads: the control loop's; nsm_record() from anywhere.
 */
#ifndef VNAS_COMMON_NSM_H
#define VNAS_COMMON_NSM_H

#include "common/client_call.h"
#include "common/lock_table.h"
#include "common/rpc.h"

enum {
	NSM_PROGRAM = 100024,
	NSM_GRACE_MS = 45000, /* Linux: 45 s for a lease and 5 more; its clients reclaim at once when they are told */
	NSM_REACH_MS = 300000, /* so long the grace period waits for a way to reach clients */
	NSM_TRIES = 8,	       /* after 0, 5, 10, 20 ... 320 s: eleven minutes */
};

struct nsm;

struct nsm_options {
	const char *directory; /* made if it is not there; copied */
	uint32_t self;	       /* node id, below 256 */
	struct client_call_way way;

	/* Are clients within reach, that is, is there anybody to send for us? */
	bool (*may_call)(void *arg);

	/* A client has restarted: free its locks, here and everywhere. Returns whether all devices were told. */
	bool (*on_rebooted)(const uint8_t address[static 16], const char *name, int32_t state, void *arg);
	void *arg;
};

/* Begins a new state. 0; -ENOMEM, or what the file system said */
int nsm_new(const struct nsm_options *options, uint64_t now_ms, struct nsm **out);
void nsm_free(struct nsm *nsm);

struct rpc_program nsm_program(struct nsm *nsm);

int32_t nsm_state(const struct nsm *nsm);

/**
 * nsm_record() - remember durably that a client may have locks; from any thread
 * @vip:	the address by which it knows us
 *
 * Return: 0; -ENOSPC (LOCK_CLIENTS_MAX clients are recorded), -ENOMEM, or what the file system said
 */
int nsm_record(struct nsm *nsm, const struct lock_client *client, const uint8_t vip[static 16]);

/* Whether it is recorded already; from the loop. */
bool nsm_knows(struct nsm *nsm, const struct lock_client *client);

/* Whether locks may only be reclaimed now. */
bool nsm_is_in_grace(const struct nsm *nsm);

/* Whether this client was recorded before the restart. */
bool nsm_may_reclaim(const struct nsm *nsm, const struct lock_client *client);

/**
 * nsm_tick() - go on with what takes time; every second
 * @is_used:	does this client have locks, or is it just about to? Those who have not are forgotten after a minute
 */
void nsm_tick(struct nsm *nsm, uint64_t now_ms, bool (*is_used)(const struct lock_client *client, void *arg), void *arg);

struct nsm_counters {
	uint64_t recorded; /* now */
	uint64_t notified, unreachable, rebooted;
};
const struct nsm_counters *nsm_counters(const struct nsm *nsm);

#endif
