/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/member_state.h - how another device fares, judged by what is heard of it
 *
 * Silence makes a device suspect, then down; one that goes and comes again and again is held down for a while, longer each
 * time. Pure: no sockets, no clock, no log. slave/members.h feeds it, and says what changes.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_MEMBER_STATE_H
#define VNAS_COMMON_MEMBER_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* Drawn in member_state.c. */
enum member_state { MEMBER_DOWN, MEMBER_UP, MEMBER_SUSPECT, MEMBER_HELD_DOWN, MEMBER_NSTATES };

enum member_event {
	MEMBER_EV_CONNECTED, /* there is a control session */
	MEMBER_EV_LOST,	     /* there is none any more */
	MEMBER_EV_BEAT,	     /* something was heard */
	MEMBER_EV_TICK,	     /* some time has passed; each MEMBER_TICK_MS */
	MEMBER_NEVENTS
};

enum {
	MEMBER_TICK_MS = 250,
	MEMBER_LATE_MS = 1000, /* a tick that comes so late: it was us who stood still */
	MEMBER_FLAPS_MAX = 32,
	MEMBER_REASON_MAX = 128,
};

/* [membership] of vnasd.conf(5). */
struct member_limits {
	unsigned int suspect_ms, down_ms; /* of silence; suspect_ms < down_ms */
	unsigned int flaps;		  /* so many departures, at most MEMBER_FLAPS_MAX; 0: never held down */
	unsigned int flap_window_ms;	  /* ... within this time */
	unsigned int hold_ms;		  /* are held down for so long, twice as long the next time, */
	unsigned int hold_max_ms;	  /* ... at most so long; and after so long without it forgiven */
};

/* All times are of one monotonic clock. All zero: a device that was never heard of. */
struct member_life {
	enum member_state state;
	bool is_connected;
	uint64_t since_ms; /* of the state */
	uint64_t heard_ms, ticked_ms;
	uint64_t departed_ms[MEMBER_FLAPS_MAX]; /* the last ones, a ring */
	unsigned int departures;		/* of all times: the next one's place in the ring */
	unsigned int counted;			/* departures before this one are forgiven */
	unsigned int last_hold_ms;
	uint64_t hold_until_ms;
	uint64_t changes;
	char reason[MEMBER_REASON_MAX]; /* of the last change, in words */
};

/**
 * member_step() - one event
 * @life:	its state moves, in this one place
 * @now_ms:	never less than at the step before
 * @why:	with MEMBER_EV_LOST: the reason in words; else NULL
 *
 * Time in which no step was taken, because this process stood still, is nobody's silence.
 *
 * Return: whether the state has changed: life->reason says why
 */
bool member_step(struct member_life *life, const struct member_limits *limits, enum member_event event, uint64_t now_ms,
		 const char *why);

/* May it get what others could do as well: new connections of clients, sessions that are handed off, datagrams? */
static inline bool member_gets_work(const struct member_life *life)
{
	return life->state == MEMBER_UP;
}

/* "up", "suspect", "down", "held down" */
const char *member_state_name(enum member_state state);

#endif
