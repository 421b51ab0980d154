/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a handoff that goes wrong leaves a client's connection frozen, or two devices speak in it at once and
 * the client reads nonsense.
 */
#include "config.h"

#include "common/tch_machine.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NROLES = TCH_SECOND_DEVICE + 1, IGNORED = 0, WHY = -EACCES };

/* Kinds of handoffs, and what else a device knows of one: sets, each bit of `phases` one of NPHASES. */
enum {
	FULL = 1 << TCH_FULL,
	TO_DEVICES = 1 << TCH_HALF_TO_DEVICES,
	TO_CLIENT = 1 << TCH_HALF_TO_CLIENT,
	HALVES = TO_DEVICES | TO_CLIENT,
	ANY_KIND = FULL | HALVES,
	PREDICTION = 1, /* of a phase's number */
	COMPLETING = 2,
	NPHASES = 4,
	WANTED = 1 << 0 | 1 << COMPLETING,
	PREDICTED = 1 << PREDICTION | 1 << (PREDICTION | COMPLETING),
	BEFORE_COMPLETE = 1 << 0 | 1 << PREDICTION,
	AFTER_COMPLETE = 1 << COMPLETING | 1 << (PREDICTION | COMPLETING),
	ANY_PHASE = WANTED | PREDICTED,
};

/* All that means something: a state's events, what follows, and what has to be done. Everything else is a late answer. */
static const struct expected {
	enum tch_role role;
	enum tch_state state;
	enum tch_event event;
	unsigned int kinds, phases;
	enum tch_state next;
	unsigned int actions, timer_ms;
	int result; /* with TCH_DO_FINISH, if the event does not say why */
} expectations[] = {
#define FIRST_OF(kinds, phases, state, event) TCH_FIRST_DEVICE, TCH_##state, TCH_EV_##event, kinds, phases
#define FIRST(state, event) FIRST_OF(ANY_KIND, ANY_PHASE, state, event)
#define SECOND_OF(kinds, state, event) TCH_SECOND_DEVICE, TCH_##state, TCH_EV_##event, kinds, ANY_PHASE
#define SECOND(state, event) SECOND_OF(ANY_KIND, state, event)
#define FAILED(actions, result) TCH_FAIL_STATE, TCH_DO_FINISH | (actions), 0, result
#define GOES_ON (TCH_DO_RECLAIM | TCH_DO_RESUME)
	{ FIRST(IDLE, START), TCH_OPEN_STATE, TCH_DO_SEND_OPEN, TCH_OPEN_MS, 0 },
	{ FIRST(IDLE, PREPARE), TCH_OPEN_STATE, TCH_DO_SEND_OPEN, TCH_OPEN_MS, 0 },

	{ FIRST_OF(ANY_KIND, WANTED, OPEN_STATE, OPEN_RESPONSE), TCH_ACTIVE, TCH_DO_QUIESCE, TCH_ACTIVE_MS, 0 },
	{ FIRST_OF(ANY_KIND, PREDICTED, OPEN_STATE, OPEN_RESPONSE), TCH_ACTIVE, TCH_DO_SEND_UPDATE, TCH_UPDATE_MS, 0 },
	{ FIRST_OF(ANY_KIND, PREDICTED, OPEN_STATE, START), TCH_OPEN_STATE, IGNORED, UINT32_MAX, 0 },
	{ FIRST_OF(ANY_KIND, PREDICTED, OPEN_STATE, CANCEL), FAILED(TCH_DO_SEND_FAIL, -ECANCELED) },
	{ FIRST(OPEN_STATE, UNSUITED), FAILED(TCH_DO_SEND_FAIL, -EOPNOTSUPP) },
	{ FIRST(OPEN_STATE, FAIL), FAILED(0, -EIO) },
	{ FIRST(OPEN_STATE, TIMEOUT), FAILED(TCH_DO_SEND_FAIL, -ETIMEDOUT) },
	{ FIRST(OPEN_STATE, PEER_LOST), FAILED(TCH_DO_SEND_FAIL, -EHOSTDOWN) },
	{ FIRST(OPEN_STATE, CLOSED), FAILED(TCH_DO_SEND_FAIL, -ENOTCONN) },

	{ FIRST_OF(ANY_KIND, PREDICTED, ACTIVE, TIMEOUT), TCH_ACTIVE, TCH_DO_SEND_UPDATE, TCH_UPDATE_MS, 0 },
	{ FIRST_OF(ANY_KIND, PREDICTED, ACTIVE, START), TCH_ACTIVE, TCH_DO_QUIESCE, TCH_ACTIVE_MS, 0 },
	{ FIRST_OF(ANY_KIND, PREDICTED, ACTIVE, CANCEL), FAILED(TCH_DO_SEND_FAIL, -ECANCELED) },
	{ FIRST_OF(ANY_KIND, PREDICTED, ACTIVE, FAIL), TCH_IDLE, TCH_DO_FINISH, 0, -EIO },
	{ FIRST_OF(ANY_KIND, PREDICTED, ACTIVE, PEER_LOST), FAILED(TCH_DO_SEND_FAIL, -EHOSTDOWN) },
	{ FIRST_OF(ANY_KIND, PREDICTED, ACTIVE, CLOSED), FAILED(TCH_DO_SEND_FAIL, -ENOTCONN) },

	{ FIRST_OF(ANY_KIND, WANTED, ACTIVE, QUIET), TCH_ACTIVE, TCH_DO_FREEZE, TCH_ACTIVE_MS, 0 },
	{ FIRST_OF(ANY_KIND, WANTED, ACTIVE, FROZEN), TCH_WAIT, TCH_DO_SEND_HANDOFF, TCH_WAIT_MS, 0 },
	{ FIRST_OF(ANY_KIND, WANTED, ACTIVE, FREEZE_FAILED),
	  FAILED(TCH_DO_SEND_FAIL | TCH_DO_UNFREEZE | TCH_DO_RESUME, -EIO) },
	{ FIRST_OF(ANY_KIND, WANTED, ACTIVE, FAIL), TCH_IDLE, TCH_DO_RESUME | TCH_DO_FINISH, 0, -EIO },
	{ FIRST_OF(ANY_KIND, WANTED, ACTIVE, TIMEOUT), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESUME, -ETIMEDOUT) },
	{ FIRST_OF(ANY_KIND, WANTED, ACTIVE, PEER_LOST), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESUME, -EHOSTDOWN) },
	{ FIRST_OF(ANY_KIND, WANTED, ACTIVE, CLOSED), FAILED(TCH_DO_SEND_FAIL, -ENOTCONN) },

	{ FIRST_OF(FULL, ANY_PHASE, WAIT, COMPLETE_ACKNOWLEDGMENT), TCH_DONE_STATE, TCH_DO_COMMIT | TCH_DO_FINISH, 0, 0 },
	{ FIRST_OF(HALVES, ANY_PHASE, WAIT, ACKNOWLEDGMENT), TCH_HALF_ACTIVE, TCH_DO_SHARE, TCH_HALF_MS, 0 },
	{ FIRST(WAIT, FAIL), FAILED(TCH_DO_UNFREEZE | TCH_DO_RESUME, -EIO) },
	{ FIRST_OF(FULL | TO_CLIENT, ANY_PHASE, WAIT, TIMEOUT), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESET, -ETIMEDOUT) },
	{ FIRST_OF(FULL | TO_CLIENT, ANY_PHASE, WAIT, PEER_LOST), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESET, -EHOSTDOWN) },
	{ FIRST_OF(TO_DEVICES, ANY_PHASE, WAIT, TIMEOUT),
	  FAILED(TCH_DO_SEND_FAIL | TCH_DO_UNFREEZE | TCH_DO_RESUME, -ETIMEDOUT) },
	{ FIRST_OF(TO_DEVICES, ANY_PHASE, WAIT, PEER_LOST),
	  FAILED(TCH_DO_SEND_FAIL | TCH_DO_UNFREEZE | TCH_DO_RESUME, -EHOSTDOWN) },

	{ FIRST_OF(HALVES, BEFORE_COMPLETE, HALF_ACTIVE, DRAINED), TCH_HALF_ACTIVE, TCH_DO_COMPLETE, TCH_WAIT_MS, 0 },
	{ FIRST_OF(HALVES, AFTER_COMPLETE, HALF_ACTIVE, COMPLETE_ACKNOWLEDGMENT), TCH_DONE_STATE,
	  TCH_DO_COMMIT | TCH_DO_FINISH, 0, 0 },
	{ FIRST_OF(HALVES, ANY_PHASE, HALF_ACTIVE, CLOSED), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RECLAIM, -ENOTCONN) },

	{ FIRST_OF(TO_DEVICES, ANY_PHASE, HALF_ACTIVE, FAIL), FAILED(GOES_ON, -EIO) },
	{ FIRST_OF(TO_DEVICES, BEFORE_COMPLETE, HALF_ACTIVE, TIMEOUT), FAILED(TCH_DO_SEND_FAIL | GOES_ON, -ETIMEDOUT) },
	{ FIRST_OF(TO_DEVICES, BEFORE_COMPLETE, HALF_ACTIVE, PEER_LOST), FAILED(TCH_DO_SEND_FAIL | GOES_ON, -EHOSTDOWN) },

	{ FIRST_OF(TO_CLIENT, ANY_PHASE, HALF_ACTIVE, FAIL), FAILED(TCH_DO_COMMIT, -EIO) },
	{ FIRST_OF(TO_CLIENT, BEFORE_COMPLETE, HALF_ACTIVE, TIMEOUT), TCH_HALF_ACTIVE, TCH_DO_COMPLETE, TCH_WAIT_MS, 0 },
	{ FIRST_OF(TO_CLIENT, BEFORE_COMPLETE, HALF_ACTIVE, PEER_LOST),
	  FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESET, -EHOSTDOWN) },

	{ FIRST_OF(HALVES, AFTER_COMPLETE, HALF_ACTIVE, TIMEOUT), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESET, -ETIMEDOUT) },
	{ FIRST_OF(HALVES, AFTER_COMPLETE, HALF_ACTIVE, PEER_LOST), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESET, -EHOSTDOWN) },

	{ SECOND(IDLE, OPEN), TCH_ACTIVE, TCH_DO_SEND_OPEN_RESPONSE | TCH_DO_PREPARE, TCH_ACTIVE_MS, 0 },

	{ SECOND(ACTIVE, UPDATE), TCH_ACTIVE, TCH_DO_PREPARE, TCH_ACTIVE_MS, 0 },
	{ SECOND(ACTIVE, HANDOFF), TCH_ACTIVE, TCH_DO_RESTORE, TCH_ACTIVE_MS, 0 },
	{ SECOND_OF(FULL, ACTIVE, RESTORED), TCH_WAIT, TCH_DO_SEND_ACKNOWLEDGMENT, TCH_ARRIVE_MS, 0 },
	{ SECOND_OF(HALVES, ACTIVE, RESTORED), TCH_HALF_ACTIVE, TCH_DO_SEND_ACKNOWLEDGMENT, TCH_HALF_LOST_MS, 0 },
	{ SECOND(ACTIVE, RESTORE_FAILED), FAILED(TCH_DO_SEND_FAIL, -EIO) },
	{ SECOND(ACTIVE, FAIL), TCH_IDLE, TCH_DO_FINISH, 0, -EIO },
	{ SECOND(ACTIVE, TIMEOUT), FAILED(TCH_DO_SEND_FAIL, -ETIMEDOUT) },
	{ SECOND(ACTIVE, PEER_LOST), FAILED(TCH_DO_SEND_FAIL, -EHOSTDOWN) },

	/* A second device that has said nothing to the client goes in silence, whoever has spoken ends what the client knows of. */
	{ SECOND_OF(HALVES, HALF_ACTIVE, COMPLETE), TCH_WAIT, TCH_DO_TAKE_OVER | TCH_DO_SEND_ACKNOWLEDGMENT, TCH_ARRIVE_MS, 0 },
	{ SECOND_OF(TO_DEVICES, HALF_ACTIVE, CLOSED), FAILED(TCH_DO_SEND_FAIL | TCH_DO_DROP, -ENOTCONN) },
	{ SECOND_OF(TO_DEVICES, HALF_ACTIVE, FAIL), FAILED(TCH_DO_DROP, -EIO) },
	{ SECOND_OF(TO_DEVICES, HALF_ACTIVE, TIMEOUT), FAILED(TCH_DO_DROP, -ETIMEDOUT) },
	{ SECOND_OF(TO_DEVICES, HALF_ACTIVE, PEER_LOST), FAILED(TCH_DO_DROP, -EHOSTDOWN) },
	{ SECOND_OF(TO_CLIENT, HALF_ACTIVE, CLOSED), FAILED(TCH_DO_SEND_FAIL | TCH_DO_TAKE_OVER, -ENOTCONN) },
	{ SECOND_OF(TO_CLIENT, HALF_ACTIVE, FAIL), FAILED(TCH_DO_RESET_RESTORED, -EIO) },
	{ SECOND_OF(TO_CLIENT, HALF_ACTIVE, TIMEOUT), FAILED(TCH_DO_RESET_RESTORED, -ETIMEDOUT) },
	{ SECOND_OF(TO_CLIENT, HALF_ACTIVE, PEER_LOST), FAILED(TCH_DO_RESET_RESTORED, -EHOSTDOWN) },

	{ SECOND(WAIT, DONE), TCH_DONE_STATE, TCH_DO_ARRIVE | TCH_DO_FINISH, 0, 0 },
	{ SECOND(WAIT, TIMEOUT), TCH_DONE_STATE, TCH_DO_ARRIVE, TCH_LINGER_MS, 0 },
	{ SECOND(WAIT, PEER_LOST), TCH_DONE_STATE, TCH_DO_ARRIVE | TCH_DO_FINISH, 0, 0 },
	{ SECOND(WAIT, FAIL), FAILED(TCH_DO_ARRIVE | TCH_DO_RESET_RESTORED, -EIO) },

	{ SECOND(DONE_STATE, DONE), TCH_DONE_STATE, TCH_DO_FINISH, 0, 0 },
	{ SECOND(DONE_STATE, TIMEOUT), TCH_DONE_STATE, TCH_DO_FINISH, 0, 0 },
	{ SECOND(DONE_STATE, PEER_LOST), TCH_DONE_STATE, TCH_DO_FINISH, 0, 0 },
	{ SECOND(DONE_STATE, FAIL), TCH_DONE_STATE, TCH_DO_RESET_RESTORED | TCH_DO_FINISH, 0, -EIO },
};

static const struct expected *expectation(const struct tch_machine *tch, unsigned int phase, enum tch_event event)
{
	for (size_t i = 0; i < sizeof(expectations) / sizeof(expectations[0]); i++)
		if (expectations[i].role == tch->role && expectations[i].state == tch->state &&
		    expectations[i].event == event && expectations[i].kinds & 1u << tch->kind &&
		    expectations[i].phases & 1u << phase)
			return &expectations[i];
	return NULL;
}

/* A half that is only received or only sent makes no sense of a full handoff. */
static bool is_possible(const struct tch_machine *tch)
{
	return tch->state != TCH_HALF_ACTIVE || tch->kind != TCH_FULL;
}

static void check_step(const struct tch_machine *before, unsigned int phase, enum tch_event event)
{
	const struct expected *expected = expectation(before, phase, event);
	struct tch_machine tch = *before;
	struct tch_out out = tch_step(&tch, event, 0);
	char where[100];

	snprintf(where, sizeof(where), "device %d, kind %d, phase %u, %s in %s", before->role + 1, before->kind, phase,
		 tch_event_name(event), tch_state_name(before->state));
	if (!expected) {
		ck_assert_msg(memcmp(&tch, before, sizeof(tch)) == 0 && out.actions == IGNORED &&
				      out.timer_ms == UINT32_MAX,
			      "%s is not ignored", where);
		return;
	}
	ck_assert_msg(tch.state == expected->next, "%s leads to %s", where, tch_state_name(tch.state));
	ck_assert_msg(out.actions == expected->actions, "%s does %#x", where, out.actions);
	ck_assert_msg(out.timer_ms == expected->timer_ms, "%s: timer %u", where, out.timer_ms);
	ck_assert_msg(out.result == expected->result, "%s: result %d", where, out.result);
	ck_assert_msg(tch.is_prediction == (event == TCH_EV_PREPARE || (before->is_prediction && event != TCH_EV_START)),
		      "%s: is_prediction %d", where, tch.is_prediction);
	ck_assert_msg(tch.is_completing == (before->is_completing || out.actions & TCH_DO_COMPLETE),
		      "%s: is_completing %d", where, tch.is_completing);
	/* The administrator reads the reason that the event brought, if it brought one. */
	tch = *before;
	out = tch_step(&tch, event, WHY);
	ck_assert_msg(out.result == (expected->result ? WHY : 0), "%s: result %d with a reason", where, out.result);
}

START_TEST(every_event_in_every_state)
{
	unsigned int phase = (unsigned int)_i % NPHASES, kind = (unsigned int)_i / NPHASES % TCH_NKINDS;
	struct tch_machine tch;

	memset(&tch, 0, sizeof(tch)); /* compared as bytes */
	tch.id = 1;
	tch.role = (enum tch_role)((unsigned int)_i / NPHASES / TCH_NKINDS);
	tch.kind = (enum tch_kind_of_handoff)kind;
	tch.is_prediction = phase & PREDICTION;
	tch.is_completing = phase & COMPLETING;
	for (tch.state = 0; tch.state < TCH_NSTATES; tch.state++)
		for (enum tch_event event = 0; event < TCH_NEVENTS && is_possible(&tch); event++)
			check_step(&tch, phase, event);
}
END_TEST

START_TEST(everything_has_a_name)
{
	for (enum tch_state state = 0; state < TCH_NSTATES; state++)
		ck_assert_ptr_nonnull(tch_state_name(state));
	for (enum tch_event event = 0; event < TCH_NEVENTS; event++)
		ck_assert_ptr_nonnull(tch_event_name(event));
}
END_TEST

/* What a device has done to its connection so far, as the shell would have. */
struct shell {
	struct tch_machine tch;
	bool freezing, frozen, quiesced, gone, finished;
	bool shared;		      /* the first device's half */
	bool restoring, half, speaks; /* the second device's */
	unsigned int timer_ms;
};

static unsigned int bits(unsigned int value)
{
	return (unsigned int)__builtin_popcount(value);
}

/* From here on nothing leads back. */
static bool is_commit_point(const struct tch_machine *before, enum tch_event event)
{
	if (before->state == TCH_WAIT)
		return before->kind == TCH_FULL && event == TCH_EV_COMPLETE_ACKNOWLEDGMENT;
	if (before->state != TCH_HALF_ACTIVE)
		return false;
	return (before->is_completing && event == TCH_EV_COMPLETE_ACKNOWLEDGMENT) ||
	       (before->kind == TCH_HALF_TO_CLIENT && event == TCH_EV_FAIL); /* the other one has ended it */
}

static void first_performs(struct shell *shell, const struct tch_machine *before, enum tch_event event, unsigned int actions)
{
	const unsigned int thaws = TCH_DO_COMMIT | TCH_DO_UNFREEZE | TCH_DO_RESET | TCH_DO_RECLAIM;
	const unsigned int ends = TCH_DO_COMMIT | TCH_DO_RESUME | TCH_DO_RESET;

	ck_assert_int_eq(!!(actions & TCH_DO_COMMIT), is_commit_point(before, event));
	ck_assert(!(actions & TCH_DO_SHARE) || (shell->frozen && before->kind != TCH_FULL));
	ck_assert(!(actions & TCH_DO_COMPLETE) || (shell->shared && !before->is_completing));
	/* A frozen connection is thawed once, in one way, and one that is shared ends in one way; another one never. */
	ck_assert_uint_le(bits(actions & thaws), 1);
	ck_assert(!(actions & thaws) || shell->frozen || shell->shared);
	ck_assert(!(actions & TCH_DO_UNFREEZE) || shell->frozen);
	ck_assert(!(actions & TCH_DO_RECLAIM) || shell->shared);
	/* What was stopped goes on, goes away or is reset, once. */
	ck_assert_uint_le(bits(actions & ends), 1);
	ck_assert(!(actions & ends) || shell->quiesced);
	/* Whoever has let the other one speak does not speak again; nor who has said so, unless the other one says no. */
	if (actions & TCH_DO_RESUME && shell->shared) {
		ck_assert_int_eq(before->kind, TCH_HALF_TO_DEVICES);
		ck_assert(!before->is_completing || event == TCH_EV_FAIL);
	}
	if (actions & TCH_DO_QUIESCE)
		shell->quiesced = true;
	if (actions & (thaws | TCH_DO_SHARE))
		shell->frozen = shell->shared = false;
	if (actions & TCH_DO_SHARE)
		shell->shared = true;
	if (actions & ends)
		shell->quiesced = false;
	shell->freezing = actions & TCH_DO_FREEZE;
	if (actions & TCH_DO_FINISH) {
		ck_assert(!shell->frozen && !shell->shared);
		ck_assert(!shell->quiesced || shell->gone);
	}
}

static void second_performs(struct shell *shell, const struct tch_machine *before, enum tch_event event, unsigned int actions)
{
	/* What is restored is acknowledged at once, and what was taken over. */
	ck_assert_int_eq(!!(actions & TCH_DO_SEND_ACKNOWLEDGMENT), event == TCH_EV_RESTORED || event == TCH_EV_COMPLETE);
	/* A half becomes a whole, or ends; without a word, if it has never spoken. */
	ck_assert_uint_le(bits(actions & (TCH_DO_TAKE_OVER | TCH_DO_DROP | TCH_DO_RESET_RESTORED)), 1);
	ck_assert(!(actions & TCH_DO_TAKE_OVER) || shell->half);
	ck_assert(!(actions & TCH_DO_DROP) || (shell->half && !shell->speaks));
	ck_assert(!(actions & TCH_DO_RESET_RESTORED) || shell->speaks);
	if (event == TCH_EV_RESTORED) {
		shell->half = before->kind != TCH_FULL;
		shell->speaks = before->kind != TCH_HALF_TO_DEVICES;
	}
	if (actions & TCH_DO_TAKE_OVER)
		shell->speaks = true;
	if (actions & (TCH_DO_TAKE_OVER | TCH_DO_DROP | TCH_DO_RESET_RESTORED))
		shell->half = false;
	shell->restoring = actions & TCH_DO_RESTORE;
	ck_assert(!(actions & TCH_DO_FINISH) || !shell->half);
}

static void shell_event(struct shell *shell, enum tch_event event)
{
	const struct tch_machine before = shell->tch;
	struct tch_out out;

	if (event == TCH_EV_FROZEN || event == TCH_EV_FREEZE_FAILED)
		shell->frozen = true; /* held at least */
	out = tch_step(&shell->tch, event, 0);
	if (!out.actions)
		return;
	if (out.timer_ms != UINT32_MAX)
		shell->timer_ms = out.timer_ms;
	shell->gone |= event == TCH_EV_CLOSED;
	if (before.role == TCH_FIRST_DEVICE)
		first_performs(shell, &before, event, out.actions);
	else
		second_performs(shell, &before, event, out.actions);
	shell->finished = out.actions & TCH_DO_FINISH;
	ck_assert_int_eq(shell->finished, shell->timer_ms == 0);
}

/* May this happen now? Freezing is one call, as restoring is: nothing comes between, and none happens that was not asked for. */
static bool shell_can_see(const struct shell *shell, enum tch_event event)
{
	bool from_freezing = event == TCH_EV_FROZEN || event == TCH_EV_FREEZE_FAILED;
	bool from_restoring = event == TCH_EV_RESTORED || event == TCH_EV_RESTORE_FAILED;

	return shell->freezing == from_freezing && shell->restoring == from_restoring;
}

static unsigned int ways;

static void walk(struct shell shell, int depth)
{
	for (enum tch_event event = 0; event < TCH_NEVENTS; event++) {
		struct shell next = shell;

		if (!shell_can_see(&shell, event))
			continue;
		shell_event(&next, event);
		if (next.finished)
			ways++;
		/* Some can be said again and again; nothing else leads back. */
		else if (depth > 0 && memcmp(&next, &shell, sizeof(next)) != 0)
			walk(next, depth - 1);
	}
}

START_TEST(every_way_through)
{
	struct shell shell;

	memset(&shell, 0, sizeof(shell));
	shell.tch.role = (enum tch_role)(_i / TCH_NKINDS);
	shell.tch.kind = (enum tch_kind_of_handoff)(_i % TCH_NKINDS);
	ways = 0;
	walk(shell, 10);
	ck_assert_uint_ge(ways, 8);
}
END_TEST

/*
 * Two devices and a network that loses, repeats, delays and so reorders; each may find the other lost at any time. Halves count on
 * what the session between devices promises: it keeps the order, and loses nothing but when it breaks, of which both hear. Time
 * is simulated, in milliseconds. A run is repeated by its seed: TCH_SEED in the environment.
 */
enum { RUNS = 20000, MESSAGES_MAX = 64, END_MS = 200000, DECISION_MS = 5000, CLIENT_MS = 12000 };

struct device {
	struct tch_machine tch;
	unsigned int deadline_ms; /* 0: none */
	bool speaks, frozen, half, finished, gone;
	bool committed, reset, was_restored, is_arriving;
};

/* How a run is to be. */
struct conditions {
	enum tch_kind_of_handoff kind;
	bool is_predicted, is_session;
	unsigned int lost_percent, twice_percent, delay_max_ms, broken_percent, closes_percent;
};

struct simulation {
	unsigned long long seed, dice;
	unsigned int now_ms;
	struct conditions conditions;
	bool is_broken; /* one device has heard of it */
	bool has_closed;
	struct device devices[NROLES];
	struct in_flight {
		enum tch_event event;
		enum tch_role to;
		unsigned int due_ms;
		bool is_local; /* happens on the device itself */
		bool delivered;
	} messages[MESSAGES_MAX];
	size_t message_count;
};

static unsigned int draw(struct simulation *s, unsigned int below)
{
	s->dice = s->dice * 6364136223846793005ull + 1442695040888963407ull;
	return below ? (unsigned int)(s->dice >> 33) % below : 0;
}

static bool chance(struct simulation *s, unsigned int percent)
{
	return draw(s, 100) < percent;
}

static struct in_flight *put_in_flight(struct simulation *s, enum tch_role to, enum tch_event event, unsigned int due_ms)
{
	struct in_flight *message = &s->messages[s->message_count++];

	ck_assert_uint_lt(s->message_count, MESSAGES_MAX);
	*message = (struct in_flight){ .event = event, .to = to, .due_ms = due_ms };
	return message;
}

static void will_happen(struct simulation *s, enum tch_role role, enum tch_event event, unsigned int within_ms)
{
	put_in_flight(s, role, event, s->now_ms + draw(s, within_ms))->is_local = true;
}

static unsigned int arrival(struct simulation *s, enum tch_role to)
{
	unsigned int due_ms = s->now_ms + draw(s, s->conditions.delay_max_ms + 1);

	for (size_t i = 0; i < s->message_count && s->conditions.is_session; i++)
		if (s->messages[i].to == to && !s->messages[i].is_local && s->messages[i].due_ms > due_ms)
			due_ms = s->messages[i].due_ms;
	return due_ms;
}

static void sim_send(struct simulation *s, enum tch_role from, enum tch_event message)
{
	enum tch_role to = from == TCH_FIRST_DEVICE ? TCH_SECOND_DEVICE : TCH_FIRST_DEVICE;

	if (s->is_broken || chance(s, s->conditions.lost_percent))
		return;
	put_in_flight(s, to, message, arrival(s, to));
	if (chance(s, s->conditions.twice_percent))
		put_in_flight(s, to, message, arrival(s, to));
}

#define CHECK_RUN(s, what) ck_assert_msg(what, "TCH_SEED=%llu: not true: %s", (s)->seed, #what)

static void check_safety(const struct simulation *s)
{
	const struct device *first = &s->devices[TCH_FIRST_DEVICE], *second = &s->devices[TCH_SECOND_DEVICE];

	CHECK_RUN(s, !first->speaks || !second->speaks);
	CHECK_RUN(s, !first->committed || (second->was_restored && !second->reset));
	CHECK_RUN(s, !first->committed || second->speaks || s->has_closed);
	CHECK_RUN(s, !first->frozen || !first->speaks);
	CHECK_RUN(s, !first->committed || !first->reset);
	CHECK_RUN(s, !second->finished || !second->is_arriving);
}

static void sim_event(struct simulation *s, enum tch_role role, enum tch_event event);

static void sim_send_all(struct simulation *s, enum tch_role role, unsigned int actions)
{
	static const struct {
		unsigned int action;
		enum tch_event message;
	} sends[] = {
		{ TCH_DO_SEND_OPEN, TCH_EV_OPEN },
		{ TCH_DO_SEND_OPEN_RESPONSE, TCH_EV_OPEN_RESPONSE },
		{ TCH_DO_SEND_UPDATE, TCH_EV_UPDATE },
		{ TCH_DO_SEND_HANDOFF, TCH_EV_HANDOFF },
		{ TCH_DO_COMPLETE, TCH_EV_COMPLETE },
		{ TCH_DO_COMMIT, TCH_EV_DONE }, /* and the switch has confirmed */
		{ TCH_DO_SEND_FAIL, TCH_EV_FAIL },
	};

	if (actions & TCH_DO_SEND_ACKNOWLEDGMENT)
		sim_send(s, role, s->devices[role].tch.state == TCH_WAIT ? TCH_EV_COMPLETE_ACKNOWLEDGMENT :
									    TCH_EV_ACKNOWLEDGMENT);
	for (size_t i = 0; i < sizeof(sends) / sizeof(sends[0]); i++)
		if (actions & sends[i].action)
			sim_send(s, role, sends[i].message);
}

/* What the kernel does: who speaks, what is frozen, who has a half. */
static void sim_obey(struct device *device, unsigned int actions)
{
	const unsigned int ends_half =
		TCH_DO_COMMIT | TCH_DO_RESET | TCH_DO_RECLAIM | TCH_DO_TAKE_OVER | TCH_DO_DROP | TCH_DO_RESET_RESTORED;

	if (actions & (TCH_DO_COMMIT | TCH_DO_UNFREEZE | TCH_DO_RESET | TCH_DO_SHARE))
		device->frozen = false;
	if (actions & TCH_DO_SHARE)
		device->half = true;
	if (actions & ends_half)
		device->half = false;
	if (actions & (TCH_DO_UNFREEZE | TCH_DO_RECLAIM | TCH_DO_TAKE_OVER) ||
	    (actions & TCH_DO_SHARE && device->tch.kind == TCH_HALF_TO_DEVICES))
		device->speaks = !device->gone;
	if (actions & (TCH_DO_COMPLETE | TCH_DO_RESET | TCH_DO_RESET_RESTORED | TCH_DO_DROP))
		device->speaks = false;
	device->committed |= !!(actions & TCH_DO_COMMIT);
	device->reset |= !!(actions & (TCH_DO_RESET | TCH_DO_RESET_RESTORED));
	if (actions & TCH_DO_ARRIVE)
		device->is_arriving = false;
	device->finished |= !!(actions & TCH_DO_FINISH);
}

static void sim_restore(struct simulation *s, struct device *device)
{
	bool fails = chance(s, 10);

	device->tch.kind = s->conditions.kind;
	device->was_restored = !fails;
	device->is_arriving = !fails && device->tch.kind == TCH_FULL;
	device->half = !fails && device->tch.kind != TCH_FULL;
	device->speaks = !fails && device->tch.kind != TCH_HALF_TO_DEVICES;
	sim_event(s, TCH_SECOND_DEVICE, fails ? TCH_EV_RESTORE_FAILED : TCH_EV_RESTORED);
}

static void sim_perform(struct simulation *s, enum tch_role role, unsigned int actions)
{
	struct device *device = &s->devices[role];

	sim_send_all(s, role, actions);
	sim_obey(device, actions);
	if (actions & TCH_DO_QUIESCE)
		sim_event(s, role, TCH_EV_QUIET);
	if (actions & TCH_DO_FREEZE) {
		device->frozen = true;
		device->speaks = false;
		sim_event(s, role, chance(s, 10) ? TCH_EV_FREEZE_FAILED : TCH_EV_FROZEN);
	}
	if (actions & TCH_DO_RESTORE)
		sim_restore(s, device);
	if (actions & TCH_DO_SHARE && chance(s, 10))
		sim_event(s, role, TCH_EV_TIMEOUT); /* the kernel says no */
	else if (actions & TCH_DO_SHARE)
		will_happen(s, role, TCH_EV_DRAINED, CLIENT_MS);
}

static void sim_event(struct simulation *s, enum tch_role role, enum tch_event event)
{
	struct device *device = &s->devices[role];
	struct tch_out out;

	if (device->finished)
		return; /* forgotten: its messages find nobody */
	out = tch_step(&device->tch, event, 0);
	if (out.timer_ms != UINT32_MAX)
		device->deadline_ms = out.timer_ms ? s->now_ms + out.timer_ms : 0;
	sim_perform(s, role, out.actions);
	check_safety(s);
}

/* The client closes. Nobody sees it in a frozen connection, nor after it was reset. */
static void sim_close(struct simulation *s, enum tch_role role)
{
	struct device *device = &s->devices[role];

	if (device->frozen || (!device->speaks && !device->half))
		return;
	s->has_closed = true;
	device->gone = true;
	device->speaks = false;
	sim_event(s, role, TCH_EV_CLOSED);
}

static void sim_deliver(struct simulation *s, struct in_flight *message)
{
	message->delivered = true;
	if (message->event == TCH_EV_PEER_LOST)
		s->is_broken = false;
	if (message->event == TCH_EV_CLOSED)
		sim_close(s, message->to);
	else
		sim_event(s, message->to, message->event);
}

/* The session between the devices breaks: what is on its way is lost, each side hears of it when it does. */
static void sim_break(struct simulation *s)
{
	enum tch_role hears = (enum tch_role)draw(s, NROLES);

	if (s->is_broken)
		return;
	for (size_t i = 0; i < s->message_count; i++)
		s->messages[i].delivered |= !s->messages[i].is_local;
	s->is_broken = s->conditions.is_session;
	if (s->is_broken)
		will_happen(s, hears == TCH_FIRST_DEVICE ? TCH_SECOND_DEVICE : TCH_FIRST_DEVICE, TCH_EV_PEER_LOST, 3000);
	sim_event(s, hears, TCH_EV_PEER_LOST);
}

/* The next thing that happens. False: nothing ever will. */
static bool sim_step(struct simulation *s)
{
	struct in_flight *next = NULL;
	unsigned int at = END_MS;
	int timer = -1;

	for (size_t i = 0; i < s->message_count; i++)
		if (!s->messages[i].delivered && s->messages[i].due_ms < at) {
			next = &s->messages[i];
			at = next->due_ms;
		}
	for (int role = 0; role < NROLES; role++)
		if (s->devices[role].deadline_ms && s->devices[role].deadline_ms <= at) {
			timer = role;
			at = s->devices[role].deadline_ms;
		}
	if (at == END_MS)
		return false;
	s->now_ms = at;
	if (chance(s, s->conditions.broken_percent))
		sim_break(s);
	else if (timer >= 0)
		sim_event(s, (enum tch_role)timer, TCH_EV_TIMEOUT);
	else
		sim_deliver(s, next);
	return true;
}

static void check_end(const struct simulation *s)
{
	const struct device *first = &s->devices[TCH_FIRST_DEVICE], *second = &s->devices[TCH_SECOND_DEVICE];

	/* Whatever happened: it is over, nothing is left frozen or shared, and the flow has one owner or is reset. */
	for (int role = 0; role < NROLES; role++)
		CHECK_RUN(s, s->devices[role].finished || s->devices[role].tch.state == TCH_IDLE);
	CHECK_RUN(s, !first->frozen && !first->half && !second->half);
	CHECK_RUN(s, first->speaks || second->speaks || first->reset || second->reset || s->has_closed);
}

static struct simulation sim_run(unsigned long long seed, const struct conditions *conditions)
{
	struct simulation s = {
		.seed = seed,
		.dice = seed,
		.conditions = *conditions,
		.devices = { { .tch = { .role = TCH_FIRST_DEVICE, .kind = conditions->kind }, .speaks = true },
			     { .tch = { .role = TCH_SECOND_DEVICE } } },
	};

	sim_event(&s, TCH_FIRST_DEVICE, conditions->is_predicted ? TCH_EV_PREPARE : TCH_EV_START);
	if (conditions->is_predicted)
		will_happen(&s, TCH_FIRST_DEVICE, chance(&s, 80) ? TCH_EV_START : TCH_EV_CANCEL, DECISION_MS);
	if (chance(&s, conditions->closes_percent))
		will_happen(&s, (enum tch_role)draw(&s, NROLES), TCH_EV_CLOSED, CLIENT_MS);
	while (sim_step(&s))
		;
	check_end(&s);
	return s;
}

static struct conditions some_conditions(struct simulation *dice)
{
	struct conditions conditions = {
		.kind = (enum tch_kind_of_handoff)draw(dice, TCH_NKINDS),
		.is_predicted = chance(dice, 30),
		.delay_max_ms = draw(dice, 2) ? draw(dice, 100) : draw(dice, 8000),
		.broken_percent = draw(dice, 2) * draw(dice, 20),
	};

	conditions.is_session = conditions.kind != TCH_FULL || chance(dice, 30);
	if (conditions.is_session) {
		conditions.closes_percent = draw(dice, 2) * draw(dice, 60);
	} else {
		conditions.lost_percent = draw(dice, 2) * draw(dice, 40);
		conditions.twice_percent = draw(dice, 2) * draw(dice, 40);
	}
	return conditions;
}

START_TEST(never_two_speak)
{
	const char *given = getenv("TCH_SEED");
	unsigned long long seed = given ? strtoull(given, NULL, 10) : (unsigned long long)time(NULL) * 1000000;
	unsigned int moved[TCH_NKINDS] = { 0 }, stayed[TCH_NKINDS] = { 0 }, reset[TCH_NKINDS] = { 0 };

	for (int run = 0; run < (given ? 1 : RUNS); run++, seed++) {
		struct simulation dice = { .dice = seed }, s;
		struct conditions conditions;

		draw(&dice, 1);
		conditions = some_conditions(&dice);
		s = sim_run(seed, &conditions);
		moved[conditions.kind] += s.devices[TCH_FIRST_DEVICE].committed;
		stayed[conditions.kind] += s.devices[TCH_FIRST_DEVICE].speaks;
		reset[conditions.kind] += s.devices[TCH_FIRST_DEVICE].reset;
	}
	for (int kind = 0; kind < TCH_NKINDS; kind++) {
		printf("kind %d: %u moved, %u stayed, %u reset\n", kind, moved[kind], stayed[kind], reset[kind]);
		if (given)
			continue;
		/* The dice are worth something: every end is seen often. */
		ck_assert_uint_gt(moved[kind], RUNS / 80);
		ck_assert_uint_gt(stayed[kind], RUNS / 80);
		ck_assert_uint_gt(reset[kind], RUNS / 500);
	}
}
END_TEST

/* A quick and faithful network: a handoff succeeds unless freezing, restoring or sharing fails. */
START_TEST(a_good_network_moves)
{
	struct conditions conditions = { .kind = (enum tch_kind_of_handoff)_i, .is_session = true, .delay_max_ms = 10 };
	unsigned int moved = 0, reset = 0;

	for (unsigned long long seed = 1; seed <= 200; seed++) {
		struct simulation s = sim_run(seed, &conditions);
		const struct device *first = &s.devices[TCH_FIRST_DEVICE], *second = &s.devices[TCH_SECOND_DEVICE];

		ck_assert_int_eq(second->speaks, first->committed);
		ck_assert_int_ne(second->speaks, first->speaks);
		moved += first->committed;
		reset += first->reset || second->reset;
	}
	ck_assert_uint_gt(moved, 80);
	ck_assert_uint_eq(reset, 0);
}
END_TEST

/* The Acknowledgment is late: the client must not go on with either, and Fail reaches the second device. */
START_TEST(a_late_acknowledgment_resets_both)
{
	const struct conditions conditions = { .kind = TCH_FULL, .delay_max_ms = TCH_WAIT_MS };
	unsigned int late = 0;

	for (unsigned long long seed = 1; seed <= 2000; seed++) {
		struct simulation s = sim_run(seed, &conditions);
		const struct device *first = &s.devices[TCH_FIRST_DEVICE], *second = &s.devices[TCH_SECOND_DEVICE];

		if (!first->reset)
			continue;
		late++;
		ck_assert(!second->speaks);
		ck_assert_int_eq(second->reset, second->was_restored);
	}
	ck_assert_uint_gt(late, 20);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tch");
	TCase *tcase = tcase_create("tch");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, every_event_in_every_state, 0, NROLES * TCH_NKINDS * NPHASES);
	tcase_add_test(tcase, everything_has_a_name);
	tcase_add_loop_test(tcase, every_way_through, 0, NROLES * TCH_NKINDS);
	tcase_add_test(tcase, never_two_speak);
	tcase_add_loop_test(tcase, a_good_network_moves, 0, TCH_NKINDS);
	tcase_add_test(tcase, a_late_acknowledgment_resets_both);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
