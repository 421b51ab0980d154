/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tch.h - the Transport Connection Handoff protocol: messages and states
 *
 * The pure part: what a device does next, given what happened. Messages as values, the state machine of Fig. 9, and the
 * codec of the options of Fig. 4B. No sockets, clocks or memory of connections; the shell around it is
 * common/handoff.h, the kernel's side common/kernel_helper.h.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_TCH_H
#define VNAS_COMMON_TCH_H

#include "common/conn.h"
#include "common/kernel_helper.h"

#include <stddef.h>
#include <stdint.h>

/* The packets: Open, Open Response, and Message with its kinds. Numbers are those of the wire (scp/scp.x). */
enum tch_kind {
	TCH_KIND_OPEN = 1,
	TCH_KIND_OPEN_RESPONSE = 2,
	TCH_KIND_UPDATE = 3,
	TCH_KIND_HANDOFF = 4,
	TCH_KIND_COMPLETE = 5,
	TCH_KIND_ACKNOWLEDGMENT = 6,
	TCH_KIND_DONE = 7,
	TCH_KIND_FAIL = 8,
	TCH_KIND_HANDOFF_COMPLETE = 9, /* Handoff and Complete in one packet */
	TCH_KIND_COUNT
};

/* Flags of the first embodiment, carried as bits. */
enum tch_flags { TCH_FLAG_HND = 1, TCH_FLAG_SET = 2, TCH_FLAG_END = 4 };

enum { TCH_OPTIONS_MAX = 4096 };

/* A packet between two devices. Memory is the sender's or the receiver's; nothing here owns it. */
struct tch_message {
	enum tch_kind kind;
	uint32_t flags;
	uint64_t id; /* of the handoff: first device's node id << 32 | its counter */
	uint64_t session;
	int result; /* TCH_KIND_FAIL: a negative errno value; TCH_KIND_DONE: freeze to acknowledgment in microseconds */
	const uint8_t *options;
	size_t options_len;
	const uint8_t *sent, *unsent, *received;
	size_t sent_len, unsent_len, received_len;
};

enum tch_role { TCH_FIRST_DEVICE, TCH_SECOND_DEVICE };

enum tch_state { TCH_IDLE, TCH_OPEN_STATE, TCH_ACTIVE, TCH_WAIT, TCH_HALF_ACTIVE, TCH_DONE_STATE, TCH_FAIL_STATE, TCH_NSTATES };

enum tch_event {
	TCH_EV_START,	       /* first device: a handoff is wanted */
	TCH_EV_OPEN,	       /* received Open, and this device can take the session */
	TCH_EV_OPEN_RESPONSE,
	TCH_EV_QUIET,	       /* the connection has no call in progress */
	TCH_EV_FROZEN,	       /* held, frozen and read */
	TCH_EV_FREEZE_FAILED,
	TCH_EV_HANDOFF,	       /* received Handoff with Complete */
	TCH_EV_RESTORED,       /* the connection lives here */
	TCH_EV_RESTORE_FAILED,
	TCH_EV_ACKNOWLEDGMENT,
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
	TCH_DO_SEND_ACKNOWLEDGMENT = 1 << 6,
	TCH_DO_COMMIT = 1 << 7,		  /* relay, tell the switch, close silently; when the switch has confirmed, send Done */
	TCH_DO_ARRIVE = 1 << 8,	  /* second device: the session may be handed on */
	TCH_DO_SEND_FAIL = 1 << 9,
	TCH_DO_UNFREEZE = 1 << 10,	  /* parked packets back into our own stack */
	TCH_DO_RESUME = 1 << 11,	  /* go on serving */
	TCH_DO_RESET = 1 << 12,		  /* reset the frozen connection at the client */
	TCH_DO_RESET_RESTORED = 1 << 13,  /* second device: reset what it restored */
	TCH_DO_FINISH = 1 << 14,	  /* report the result; forget the handoff */
};

struct tch {
	uint64_t id;
	enum tch_role role;
	enum tch_state state;
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
};

/**
 * tch_step() - one event
 * @tch:	its state moves, in this one place, and is logged
 * @result:	for the failing events: why, a negative errno value; else 0
 *
 * Events that mean nothing in a state are ignored: they are late answers.
 * Source: Fig. 9
 */
struct tch_out tch_step(struct tch *tch, enum tch_event event, int result);

const char *tch_state_name(enum tch_state state);
const char *tch_event_name(enum tch_event event);

/**
 * tch_options_encode() - a session's facts as options
 * @state:	the kernel's; its queues travel beside the options
 * @facts:	the daemon's
 * @out:	TCH_OPTIONS_MAX bytes of room
 *
 * Return: bytes; -ENOSPC
 * Source: Fig. 4B: endpoint option (kind 255, boxes 470-474), update option (kind 254, boxes 480-484); the rest in the
 * same form, docs/protocol.md lists them
 */
int tch_options_encode(const struct kernel_helper_state *state, const struct conn_facts *facts,
		       uint8_t out[static TCH_OPTIONS_MAX]);

/**
 * tch_options_decode() - and back
 * @state, @facts: out: the parts that options carry; untouched on failure
 *
 * Unknown options are stepped over ("unrecognized options ... are to be discarded"), the first of a kind counts.
 *
 * Return: 0; -ENOENT if the endpoint or update option is missing; -EBADMSG if an option runs past @len or has a
 * wrong length or value
 */
int tch_options_decode(const uint8_t *options, size_t len, struct kernel_helper_state *state, struct conn_facts *facts);

#endif
