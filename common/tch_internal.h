/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tch_internal.h - what the files of TCH's shell share
 *
 *	tch.c		life of a handoff: events to the machine, what it asks for, timers, messages
 *	tch_actions.c	what is done to a session: freezing, giving, restoring, getting ready
 *	tch_negotiation.c	what both devices can: Open, its answer, and what follows from them
 *	tch_halves.c	... while two devices have a half each
 *	tch_relayed.c	flows that were given away, and asking the switch
 *	tch_so.c	the functions with the names of socket options, and requests of other devices
 *
 * The rules. Whoever looks at a session has the loops paused. A handoff is freed by the outermost handoff_event() in which it has
 * finished, so what is done to it afterwards ends there.
 */
#ifndef VNAS_COMMON_TCH_INTERNAL_H
#define VNAS_COMMON_TCH_INTERNAL_H

#include "common/tch.h"
#include "common/tch_machine.h"

#include <sys/queue.h>

struct event;
struct relayed_flow;

/* One handoff in progress, at either end. */
struct handoff {
	LIST_ENTRY(handoff) link;
	struct tch *all;
	struct tch_machine machine;
	uint64_t session;
	uint32_t node; /* the other device */
	struct event *timer;
	bool stepping, finished;
	unsigned int capabilities; /* of both: enum tch_capability. First device: 0 until Open is answered */
	bool is_negotiated;	   /* the other device has said what it can */

	/* First device; the second one's half has its flow, fixed facts and first byte here. */
	struct kernel_helper_state frozen;
	bool is_frozen; /* held, or shared: there is an entry of the flow that has to go */

	/* First device. */
	bool is_shared;
	bool is_relayed; /* packets go to the second device already */
	bool is_wanted;	       /* not only prepared */
	bool is_cancelled;
	struct event *draining; /* looks whether the client has all */
	struct event *emptying; /* quiet: looks whether little is left on its way to the client; NULL until it is needed */
	uint64_t empty_by_us;	/* monotonic clock: then it is frozen in any case */
	uint64_t updated_ms;   /* monotonic clock: last Update; 0: was never prepared */
	uint64_t predicted_ms; /* ... last tch_so_hnd() */
	uint64_t settle_by_ms; /* monotonic clock */
	uint64_t frozen_us;
	uint32_t duration_us;
	uint8_t iptos; /* of its socket, as the next */
	struct tch_timers timers;
	tch_done_fn on_done;
	void *on_done_arg;

	/* Second device: borrowed while TCH_EV_HANDOFF and TCH_EV_UPDATE are stepped. */
	const struct tch_message *message;
	int prepared_fd; /* or -1 */
};

struct tch {
	struct tch_setup setup;
	LIST_HEAD(, handoff) list;
	LIST_HEAD(, relayed_flow) relayed;
	struct tch_counters counters;
	size_t prepared; /* sockets */
	uint32_t next_id;
	bool holds_loops; /* while a message is being received */
};

/* tch.c */

void tch_arm(struct event *timer, unsigned int ms);

/* Not begun. NULL: no memory */
struct handoff *handoff_new(struct tch *tch, enum tch_role role, uint64_t id, uint64_t session, uint32_t node);

/* Steps the machine, and does what it asks for. @result: 0, or why, for the events that fail */
void handoff_event(struct handoff *handoff, enum tch_event event, int result);

/* It is wanted: as soon as its session is settled */
void handoff_begin(struct handoff *handoff);

/* Is it at the point where it can begin in earnest? */
bool handoff_is_waiting(const struct handoff *handoff);

/* In its own time: whoever walks the list has no part in it */
void handoff_cancel(struct handoff *handoff);

/* tch_actions.c */

/* @session: out. Return: whether it is here */
bool tch_find_session(const struct tch *tch, uint64_t id, struct tch_session *session);
bool handoff_session(const struct handoff *handoff, struct tch_session *session);

/* Its socket, which is the caller's from now on */
int tch_surrender(const struct tch *tch, const struct tch_session *session);

/* Nothing of what follows in a message looks at a session */
void tch_let_loops_go(struct tch *tch);

void handoff_send(struct handoff *handoff, enum tch_kind kind, uint32_t flags, int result);

void handoff_send_options(struct handoff *handoff, enum tch_kind kind, const uint8_t *options, size_t len);

/*
 * Tells the switch who may speak soon. It refuses that while it does not know that the session is here; so a prediction, which may begin
 * as soon as the session has come, is announced again when it is wanted.
 */
void handoff_announce(struct handoff *handoff);

/* The first device. */
void handoff_open(struct handoff *handoff);
void handoff_quiesce(struct handoff *handoff);

/* The session is quiet: freeze it as soon as little is on its way to the client. */
void handoff_empty(struct handoff *handoff);

void handoff_freeze(struct handoff *handoff);
void handoff_send_handoff(struct handoff *handoff);
void handoff_note_live(struct handoff *handoff);
void handoff_relay(struct handoff *handoff);
void handoff_commit(struct handoff *handoff);
void handoff_unfreeze(struct handoff *handoff);
void handoff_resume(struct handoff *handoff);
void handoff_reset(struct handoff *handoff);
void handoff_send_update(struct handoff *handoff);

/* The connection was closed while it was held: nothing of its flow may be held any more */
void handoff_abandon(struct handoff *handoff);

/* As options, what does not change while the session is served: for handoff_prepare_socket(). Return: bytes, or a negative errno value */
int handoff_sketch(const struct handoff *handoff, uint8_t options[static TCH_OPTIONS_MAX]);

/* The second device. */
void handoff_prepare_socket(struct handoff *handoff);
void handoff_restore(struct handoff *handoff);
void handoff_note_duration(struct handoff *handoff, int duration_us);
void handoff_reset_restored(struct handoff *handoff);

/* Return: the prepared socket, or -1; the caller's */
int handoff_take_prepared(struct handoff *handoff);

/* tch_negotiation.c */

/* What this device can: enum tch_capability */
unsigned int tch_capabilities(const struct tch *tch);

/* Can both devices do this? */
bool handoff_can(const struct handoff *handoff, enum tch_kind_of_handoff kind);

/* The first device asks. */
void handoff_send_open(struct handoff *handoff);

/* The second one notes what both can, and answers. Return: 0; -EBADMSG */
int handoff_heard_open(struct handoff *handoff, const struct tch_message *message);
void handoff_send_open_response(struct handoff *handoff);

/* The first one notes it, too. Return: 0; -EOPNOTSUPP if what is wanted is not among it; -EBADMSG */
int handoff_heard_open_response(struct handoff *handoff, const struct tch_message *message);

/* Which Acknowledgment is this? */
enum tch_event handoff_acknowledged(const struct handoff *handoff, const struct tch_message *message);

/* What the other device does not want to hear of. */
void handoff_leave_out(const struct handoff *handoff, struct kernel_helper_state *state, struct tch_facts *facts);

/* tch_halves.c */

/* Which part is ours, and where the other one is. @peer: out. Return: 0, or as find_node() */
int handoff_peer(const struct handoff *handoff, struct kernel_helper_peer *peer);

void handoff_share(struct handoff *handoff);
void handoff_complete(struct handoff *handoff);
void handoff_reclaim(struct handoff *handoff);
void handoff_take_over(struct handoff *handoff);
void handoff_drop(struct handoff *handoff);

/* tch_relayed.c */

/* The flow of a handoff was given away: follow it, and ask the switch */
void relayed_start(struct handoff *handoff, const struct flow_key *flow, uint16_t transaction);

/* Its entry stays for a while, and silences our stack */
void relayed_linger(struct tch *tch, const struct flow_key *flow);

/* The flow is ours again: nothing is relayed any more */
void relayed_cancel(struct tch *tch, const struct flow_key *flow);

void relayed_free(struct relayed_flow *relayed);

/* tch_so.c */

/* Of those that begin here: the handoff of a session that is under way, else a prediction of it for @node; or NULL */
struct handoff *handoff_find_first(struct tch *tch, uint64_t session, uint32_t node);

/* A device asks for a session of ours */
void tch_requested(struct tch *tch, uint32_t node, const struct tch_message *request);

#endif
