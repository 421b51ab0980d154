/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nlm.h - the Network Lock Manager: versions 1, 3 and 4
 *
 * Between the wire and the table of locks (common/lock_table.h). A call names a file by its handle, so it is answered
 * where the volume is: elsewhere it is relayed whole, like an NFS call.
 *
 *	decode --> handle --> volume --> rights --> open (worker) --> table --> reply, or a _RES call
 *	              |          |        |    ^         |                |
 *	          STALE_FH  GRACE_PERIOD  |    |   STALE_FH, FAILED,    DENIED, BLOCKED, ...
 *	                    (ask again)   |    |   NOLOCKS (not recorded)
 *	                         |        v    |
 *	                         |      place (worker), if an export leads into the volume
 *	                         +--> relay: the owner answers
 *
 * On a worker the file's place is found, if the client's rights depend on it, and then the file is opened with those rights;
 * then, if it is new, the client is recorded durably (common/nsm.h) by another that stays root; the table is the loop's.
 * Calls for one file are carried out in the order in which they came, however long each of them was with workers: a
 * CANCEL never overtakes its LOCK.
 *
 * A waiter that got its lock is called back (GRANTED; common/nlm_granted.h) until it answers, NLM_GRANT_TRIES times, with
 * NLM_GRANT_PAUSE_MS between. After that the lock goes to the next: the client asks for it again by itself, if it still
 * wants it. What is on the wire: common/nlm_wire.h.
 *
 * Offsets are those that files can have: a lock that begins beyond 2^63 - 1 is NLM4_FBIG, one that ends there has no end.
 *
 * Ownership: borrows what is in its options for life.
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_NLM_H
#define VNAS_COMMON_NLM_H

#include "common/client_call.h"
#include "common/lock_table.h"
#include "common/rpc.h"

enum {
	NLM_PROGRAM = 100021,
	NLM_PROCEDURES = 24,
	NLM_CALLS_MAX = 4096, /* with workers; beyond that clients are told to ask again */
	NLM_GRANT_TRIES = 6,
	NLM_GRANT_PAUSE_MS = 5000,
	NLM_NO_STATE = 0,
	NLM_REBOOTS_KEPT = 1024,
};

struct event_base;
struct file_service;
struct nlm;
struct nsm;
struct workers;

struct nlm_options {
	struct file_service *files;
	struct nsm *nsm;
	struct workers *workers;  /* open files, as the client; NULL: in the loop */
	struct workers *recorder; /* writes records, as root; NULL: in the loop */
	struct client_call_way way;

	/* FREE_ALL: as on_rebooted() of struct nsm_options. */
	bool (*on_rebooted)(const uint8_t address[static 16], const char *name, int32_t state, void *arg);
	void *arg;
};

struct nlm_counters {
	uint64_t calls[NLM_PROCEDURES];
	uint64_t granted, denied, blocked, call_backs, call_backs_failed, freed_clients;
};

/* NULL: no memory. */
struct nlm *nlm_new(const struct nlm_options *options);

/* All locks are gone, the kernel's too. No call may be with a worker any more. */
void nlm_free(struct nlm *nlm);

struct rpc_program nlm_program(struct nlm *nlm);

/* Every second: call-backs, waiters for what local processes hold, and nsm_tick(). */
void nlm_tick(struct nlm *nlm, uint64_t now_ms);

/*
 * A client has restarted: whatever it had is free. It says so until it is answered, so the same state again is old
 * news, and must not cost it the locks that it has taken since. NLM_NO_STATE: it says so for the first time.
 */
void nlm_client_rebooted(struct nlm *nlm, const uint8_t address[static 16], const char *name, int32_t state);

/* Volumes came or went: locks in those that are not here any more are gone. */
void nlm_follow_volumes(struct nlm *nlm);

/* Answer a call whose volume's owner can't be reached: the client asks again later. */
void nlm_unreachable(struct rpc_call *call);

const struct nlm_counters *nlm_counters(const struct nlm *nlm);

/* As XNFS calls it; of those without a procedure, the number. @procedure: less than NLM_PROCEDURES */
const char *nlm_procedure_name(size_t procedure);
const struct lock_table_counters *nlm_table_counters(const struct nlm *nlm);

#endif
