/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tch_machine.h - the states of a handoff
 *
 * The pure part of common/tch.h: what a device does next, given what happened. No sockets, clocks or memory of
 * connections; common/tch.c performs what a step asks for, and feeds the results back as events.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_TCH_MACHINE_H
#define VNAS_COMMON_TCH_MACHINE_H

#include "common/tch.h"

#include <stdbool.h>
#include <stdint.h>

enum tch_role { TCH_FIRST_DEVICE, TCH_SECOND_DEVICE };

enum tch_state { TCH_IDLE, TCH_OPEN_STATE, TCH_ACTIVE, TCH_WAIT, TCH_HALF_ACTIVE, TCH_DONE_STATE, TCH_FAIL_STATE, TCH_NSTATES };

enum tch_event {
	TCH_EV_START,	       /* first device: a handoff is wanted */
	TCH_EV_PREPARE,	       /* ... may be wanted soon */
	TCH_EV_CANCEL,	       /* ... will not be wanted: another device has got the session */
	TCH_EV_OPEN,	       /* received Open, and this device can take the session */
	TCH_EV_OPEN_RESPONSE,
	TCH_EV_UNSUITED,       /* ... but the other device can't do what is wanted */
	TCH_EV_QUIET,	       /* the connection has no call in progress */
	TCH_EV_FROZEN,	       /* held, frozen and read */
	TCH_EV_FREEZE_FAILED,
	TCH_EV_UPDATE,	       /* received Update */
	TCH_EV_HANDOFF,	       /* received Handoff with Complete, or Handoff for a half */
	TCH_EV_RESTORED,       /* the connection lives here */
	TCH_EV_RESTORE_FAILED,
	TCH_EV_ACKNOWLEDGMENT, /* of Handoff */
	TCH_EV_COMPLETE_ACKNOWLEDGMENT, /* of Complete, or of Handoff and Complete */
	TCH_EV_DRAINED,	       /* the client has acknowledged all that the first device had to send */
	TCH_EV_COMPLETE,       /* received Complete: the other half comes, too */
	TCH_EV_DONE,	       /* the switch sends the client's packets here */
	TCH_EV_FAIL,	       /* received Fail */
	TCH_EV_TIMEOUT,
	TCH_EV_PEER_LOST,      /* no session with the other device any more */
	TCH_EV_CLOSED,	       /* the client's connection has closed here */
	TCH_NEVENTS
};

/* What the shell has to do, in the order of the bits. */
enum tch_action {
	TCH_DO_SEND_OPEN = 1 << 0,
	TCH_DO_SEND_OPEN_RESPONSE = 1 << 1,
	TCH_DO_QUIESCE = 1 << 2,	  /* then TCH_EV_QUIET */
	TCH_DO_FREEZE = 1 << 3,		  /* then TCH_EV_FROZEN or TCH_EV_FREEZE_FAILED */
	TCH_DO_SEND_HANDOFF = 1 << 4,
	TCH_DO_RESTORE = 1 << 5,	  /* then TCH_EV_RESTORED or TCH_EV_RESTORE_FAILED */
	TCH_DO_SEND_ACKNOWLEDGMENT = 1 << 6, /* of Complete, too, if the state is WAIT now */
	TCH_DO_COMMIT = 1 << 7,		  /* relay, tell the switch, close silently; when the switch has confirmed, send Done */
	TCH_DO_ARRIVE = 1 << 8,	  /* second device: the session may be handed on */
	TCH_DO_SEND_FAIL = 1 << 9,
	TCH_DO_UNFREEZE = 1 << 10,	  /* parked packets back into our own stack */
	TCH_DO_RESUME = 1 << 11,	  /* go on serving */
	TCH_DO_RESET = 1 << 12,		  /* reset the frozen connection at the client */
	TCH_DO_RESET_RESTORED = 1 << 13,  /* second device: reset what it restored */
	TCH_DO_FINISH = 1 << 14,	  /* report the result; forget the handoff */
	TCH_DO_SEND_UPDATE = 1 << 15,
	TCH_DO_PREPARE = 1 << 16,	  /* second device: have a socket ready */
	TCH_DO_SHARE = 1 << 17,		  /* un-freeze one half: then TCH_EV_DRAINED */
	TCH_DO_COMPLETE = 1 << 18,	  /* fall silent, then send Complete */
	TCH_DO_TAKE_OVER = 1 << 19,	  /* second device: the connection is all its own */
	TCH_DO_RECLAIM = 1 << 20,	  /* the connection is all the first device's again */
	TCH_DO_DROP = 1 << 21,		  /* second device: end its half without a packet */
};

struct tch_machine {
	uint64_t id;
	enum tch_role role;
	enum tch_state state;
	enum tch_kind_of_handoff kind; /* at the second device known with TCH_EV_HANDOFF */
	bool is_prediction;	       /* first device: prepared, but not wanted (yet) */
	bool is_completing;	       /* first device: Complete was sent in HALF_ACTIVE */
};

/* What one step asks for. */
struct tch_out {
	unsigned int actions; /* bits of enum tch_action */
	unsigned int timer_ms; /* to arm; 0: disarm; UINT32_MAX: leave (the event was ignored) */
	int result; /* with TCH_DO_FINISH: 0 or a negative errno value */
};

enum {
	TCH_OPEN_MS = 1000,
	TCH_ACTIVE_MS = 2000,
	TCH_WAIT_MS = 2000,
	TCH_ARRIVE_MS = 200, /* second device in WAIT */
	TCH_LINGER_MS = 5000,
	TCH_UPDATE_MS = 500,	/* between Updates of a prediction */
	TCH_HALF_MS = 10000,	/* first device in HALF_ACTIVE: then the client does not take what it asked for */
	TCH_HALF_LOST_MS = 60000, /* second device in HALF_ACTIVE */
};

/**
 * tch_step() - one event
 * @tch:	its state moves, in this one place, and is logged
 * @result:	for the failing events: why, a negative errno value; else 0
 *
 * Events that mean nothing in a state are ignored: they are late answers.
 * Source: Fig. 9
 */
struct tch_out tch_step(struct tch_machine *tch, enum tch_event event, int result);

const char *tch_state_name(enum tch_state state);
const char *tch_event_name(enum tch_event event);

#endif
