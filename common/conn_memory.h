/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/conn_memory.h - what all connections of a device hold together, and who goes on when that is much
 *
 * A connection holds requests that have not come whole, calls in progress, and replies that its client has not taken. Each may
 * hold CONN_MEMORY_EACH, which is set aside for it: small calls never wait. For more it asks before it takes, and may hold a
 * part of what is left: the more are held by all, the less by each, and something is always left for the next.
 *
 * Who may not go on is not read, so that its client waits in the kernel's buffers, and gets a *turn*: for one request with its
 * answer, however long, beyond its part. Room for so many turns is set aside, too; there are as many as there is room
 * for. A client that does not use its turn is closed, and so are, while much is held, those who have taken no answer for
 * long and hold most. A client that is closed comes again and repeats what was not answered.
 *
 *	        conn_memory_ask(): no               on_turn()
 *	GOES -----------------------> WAITS ------------------------> HAS_TURN
 *	  ^                             |                                 |
 *	  +-----------------------------+-----------------------------<---+  conn_memory_rest(): its answer was taken
 *
 * So no more is held than the bound; only sessions that come from other devices are not asked.
 *
 * Ownership: a holder is embedded by its owner, who leaves before it goes. Calls whose connection has gone keep the memory
 * alive (conn_memory_orphan()).
 * Threads: each loop has its own, for its connections. Knows no clock: it counts in ticks of CONN_MEMORY_TICK_MS, and only
 * while much is held.
 */
#ifndef VNAS_COMMON_CONN_MEMORY_H
#define VNAS_COMMON_CONN_MEMORY_H

#include "common/rpc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

enum {
	CONN_MEMORY_FIXED = 4 * 1024, /* what an idle connection takes, about */
	CONN_MEMORY_EACH = 8 * 1024,
	CONN_MEMORY_TURN = 2 * RPC_RECORD_MAX + 128 * 1024, /* the longest call, its marks, and the longest answer */
	CONN_MEMORY_TURNS = 16,
	CONN_MEMORY_TICK_MS = 250,
	CONN_MEMORY_TURN_TICKS = 12,  /* 3 s to send the request and take the answer */
	CONN_MEMORY_STALL_TICKS = 40, /* 10 s without taking an answer */
};

struct event_base;
struct loop;
struct conn_holder;
struct conn_holder_list;
struct conn_memory;

struct conn_memory_counters {
	uint64_t held;	  /* bytes now, with what is set aside */
	uint64_t most;	  /* bytes, ever */
	uint64_t waited;  /* how often a connection was not read for this */
	uint64_t turns;	  /* how many were given */
	uint64_t closed;  /* connections, because they did not let go */
	uint64_t refused; /* new ones */
};

struct conn_holder_functions {
	/* It has a turn, and should do what it can. */
	void (*on_turn)(struct conn_holder *holder);

	/* It holds, and does not let go. Return: whether it was closed; not if its client is not to blame */
	bool (*on_stalled)(struct conn_holder *holder);
};

enum conn_holder_state { CONN_HOLDER_GOES, CONN_HOLDER_WAITS, CONN_HOLDER_HAS_TURN };

/* The module's own, but for the owner's to embed. */
struct conn_holder {
	struct conn_memory *memory;
	const struct conn_holder_functions *functions;
	TAILQ_ENTRY(conn_holder) link; /* of all */
	TAILQ_ENTRY(conn_holder) wait; /* of those that wait, or of those that have a turn */
	struct conn_holder_list *waits_in;
	enum conn_holder_state state;
	size_t held;
	size_t turn_limit;	/* what it may hold in its turn */
	/* Since its client took an answer, or since it holds more than CONN_MEMORY_EACH. Those in which it waits don't count. */
	unsigned int ticks;
	unsigned int turn_ticks; /* since its turn began */
	bool is_denied;		/* it was told to wait, and nothing has changed since */
	bool is_used;		/* an answer was taken in its turn */
	bool is_known;		/* ... or ever */
};

/**
 * conn_memory_new() - for the connections of one loop
 * @loop:	a data loop, whose base it is; or NULL
 * @bound:	bytes; a smaller one than conn_memory_min() is taken as that
 * @turns:	CONN_MEMORY_TURNS at most
 *
 * Return: NULL: no memory
 */
struct conn_memory *conn_memory_new(struct event_base *base, struct loop *loop, size_t bound, unsigned int turns);

/* No holder is left. NULL is allowed. */
void conn_memory_free(struct conn_memory *memory);

/* Bytes, with which half is left when all turns are given. */
static inline size_t conn_memory_min(unsigned int turns)
{
	return 2 * (size_t)(turns + 1) * CONN_MEMORY_TURN;
}

const struct conn_memory_counters *conn_memory_counters(const struct conn_memory *memory);

/*
 * Is there a place for one more connection? If there are very many, or all is held, one that has long been idle is closed for it.
 * Sessions from other devices need not ask.
 */
bool conn_memory_admits(struct conn_memory *memory);

/* @holder: zero. It holds nothing. */
void conn_memory_join(struct conn_memory *memory, struct conn_holder *holder,
		      const struct conn_holder_functions *functions);
void conn_memory_leave(struct conn_holder *holder);

/* What it holds now, bytes. With each call: what was set aside for it is counted already. */
void conn_memory_hold_more(struct conn_holder *holder, size_t held);

static inline void conn_memory_hold(struct conn_holder *holder, size_t held)
{
	if (held <= CONN_MEMORY_EACH && holder->held <= CONN_MEMORY_EACH && !holder->is_denied)
		holder->held = held;
	else
		conn_memory_hold_more(holder, held);
}

/* Is there so much that conn_memory_ask() would say yes to this? Asking changes nothing. */
bool conn_memory_has(const struct conn_holder *holder, size_t more);

/**
 * conn_memory_ask() - may it take more?
 * @more:	bytes
 * @is_idle:	nothing of it is in progress or waits for its client: only a turn can help it on
 *
 * If not, ask again after conn_memory_waits() has become false: in its turn, or when it holds less.
 */
bool conn_memory_ask(struct conn_holder *holder, size_t more, bool is_idle);

/* Shall its client not be read? */
static inline bool conn_memory_waits(const struct conn_holder *holder)
{
	return holder->is_denied;
}

/* Bytes that it may read before it is known what they are. 0: none; conn_memory_ask() says when */
size_t conn_memory_spare(const struct conn_holder *holder);

/* Its client has taken an answer. */
static inline void conn_memory_progress(struct conn_holder *holder)
{
	holder->ticks = 0;
	holder->is_used = holder->is_known = true;
}

static inline bool conn_memory_has_turn(const struct conn_holder *holder)
{
	return holder->state == CONN_HOLDER_HAS_TURN;
}

/* It has a turn, and has done what it can for now: the turn may be over. @is_idle: as for conn_memory_ask() */
void conn_memory_rest(struct conn_holder *holder, bool is_idle);

/* It does nothing for a while: it neither waits nor has a turn. */
void conn_memory_pause(struct conn_holder *holder);

/* @held bytes belong to something whose connection has gone, until they are buried. */
void conn_memory_orphan(struct conn_memory *memory, size_t held);
void conn_memory_bury(struct conn_memory *memory, size_t held);

/* Time has passed; the loop calls it. */
void conn_memory_tick(struct conn_memory *memory);

#endif
