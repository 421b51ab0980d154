/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/replica.h - following the master's name space
 *
 * What a slave does with what its master says of it: the snapshot with which each session begins, changes, and the revision in
 * heartbeats. Within a session messages come in order, so a beat of another revision than ours says that something has not
 * come. Revisions of different histories (a master that was restored from a backup) may be equal: only a snapshot of the same
 * session makes changes count. Knows nothing of how messages travel, and of what follows from a change.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_REPLICA_H
#define VNAS_COMMON_REPLICA_H

#include "common/namespace.h"

enum { REPLICA_PATIENCE_BEATS = 10 }; /* after so many a snapshot that was asked for is asked for again */

/* All zero but for ns: no session. */
struct replica {
	struct namespace *ns;  /* borrowed for life */
	bool is_in_step;       /* with the master of this session */
	unsigned int waiting;  /* beats left to wait for a snapshot; 0: none is under way */
};

enum replica_next {
	REPLICA_NOTHING,
	REPLICA_CHANGED, /* the name space is another one now */
	REPLICA_ASK,	 /* for a snapshot */
};

/* A session with the master begins. It sends a snapshot by itself. */
void replica_connected(struct replica *replica);

/* Return: 0, and what is to be done; -EBADMSG, -ENOMEM: it can't be used, what was stays, and it is asked for again later */
int replica_snapshot(struct replica *replica, const void *bytes, size_t len, enum replica_next *next);

/* @bytes: XDR of an ns_change. One that can't be used, or does not follow what we have, is answered by REPLICA_ASK. */
enum replica_next replica_change(struct replica *replica, const void *bytes, size_t len);

/* A heartbeat of the master: it has @revision. */
enum replica_next replica_beat(struct replica *replica, uint64_t revision);

#endif
