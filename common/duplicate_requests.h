/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/duplicate_requests.h - the duplicate request cache
 *
 * A client that misses an answer sends its call again, with the same xid: over a new connection, to another device, or
 * as a second datagram. A call that changes something must not run twice then: a second REMOVE would find nothing and say
 * so, and a second WRITE might undo what came after the first. So answers are remembered for a while. A duplicate gets
 * the answer of the first call, byte for byte; one that comes while the first is still in progress waits for it.
 *
 * The cache belongs to the device that runs the call, the owner of its volume: that is the same device whichever way the
 * call came (directly, relayed, before or after a handoff). It knows nothing of what a call does, nor of rights: whoever
 * asks it has checked that the client may still make the call.
 *
 *	            begin: unknown                 its reply
 *	   (none) -----------------> in progress ------------> answered -----> (none): room is needed, or it is too old
 *	                                 ^                        ^
 *	          begin: the call waits -+                        +- begin: the call is answered
 *
 * Calls in progress stay. If there is no room for another, the oldest answer goes of those clients that have most: a client that
 * sends many calls does not have another's answers forgotten. Clients are counted together by a hash of their addresses, so
 * a few suffer with it.
 *
 * Two calls are the same if these are: client's address, xid, program, version, procedure, credentials, length and
 * checksum of the arguments. The client's port is not among them, because a client may reconnect from another one; nor
 * is the transport, which a relayed call does not tell.
 *
 * Source: RFC 1813, 4.5; Juszczak, "Improving the Performance and Correctness of an NFS Server" (1989)
 *
 * Ownership: calls are their transports'; a call is borrowed until it is done. Remembered answers are copies.
 * Threads: calls come from any loop's; one that waits is answered by whoever answers the first.
 */
#ifndef VNAS_COMMON_DUPLICATE_REQUESTS_H
#define VNAS_COMMON_DUPLICATE_REQUESTS_H

#include "common/rpc.h"

#include <stddef.h>
#include <stdint.h>

struct duplicate_requests;

struct duplicate_requests_options {
	size_t entries_max; /* calls in progress and answers */
	size_t bytes_max;   /* of memory for all of them */
	uint64_t age_max_ms;
	uint64_t (*now_ms)(void);
};

struct duplicate_requests_counters {
	uint64_t answered; /* duplicates, from memory */
	uint64_t waited;   /* duplicates of calls in progress */
	uint64_t refused;  /* calls, because too many are in progress */
	uint64_t entries;  /* now */
	uint64_t bytes;	   /* now */
};

/* NULL: no memory */
struct duplicate_requests *duplicate_requests_new(const struct duplicate_requests_options *options);

/* No call may be in progress. NULL is allowed. */
void duplicate_requests_free(struct duplicate_requests *requests);

/**
 * duplicate_requests_begin() - is this call a duplicate?
 * @call:	parsed; its arguments and credentials are as they came
 * @checked:	bytes of the arguments that the checksum is made of; fewer than there are, if the rest is bulk
 *
 * Sets the call's `on_reply` if it is new: however the call is answered, the answer is remembered. Being told
 * to answer nothing is no answer: a duplicate then runs.
 *
 * Return: 0 if it is new: run it; -EALREADY if it is a duplicate: it was answered (so it may be gone), or will be;
 * -ENOMEM if it could not be remembered, so must not run; -EAFNOSUPPORT if the client is neither IPv4 nor IPv6
 */
int duplicate_requests_begin(struct duplicate_requests *requests, struct rpc_call *call, size_t checked);

struct duplicate_requests_counters duplicate_requests_counters(struct duplicate_requests *requests);

#endif
