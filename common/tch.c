/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch.h"

#include "common/log.h"

#include <errno.h>

/*
 * First device:
 *
 *         START     Open Response     FROZEN: Handoff+Complete sent     Acknowledgment: commit point
 *    IDLE -----> OPEN -----------> ACTIVE --------------------> WAIT ----------------------> DONE
 *                  |                 |                            |
 *                  | timeout, Fail,  | timeout, lost, FREEZE_     | Fail: un-freeze, go on serving
 *                  | lost, closed    | FAILED, closed: resume     | timeout, lost: reset at both ends
 *                  v                 v                            v
 *                FAIL              FAIL (Fail received: IDLE)    FAIL
 *
 * Second device:
 *
 *         Open: Open Response sent     RESTORED: Acknowledgment sent        Done
 *    IDLE ----------> ACTIVE -----------------------------------> WAIT --------------> DONE
 *                                                                   | timeout            (lingers for a late Fail)
 *                                                                   +------------------> DONE
 *
 * In WAIT the second device serves, but does not hand the session on: the switch learns of one owner after the other, and
 * what is relayed makes no more than one detour. Done says that the switch knows.
 *
 * The flow is held from TCH_DO_FREEZE until TCH_DO_COMMIT, TCH_DO_UNFREEZE or TCH_DO_RESET. Before the commit point
 * every way out un-freezes the socket; after it none does. A timeout in WAIT is on neither side of it: the second
 * device may have spoken, so the flow is reset at both ends and the client reconnects at once.
 *
 * HALF_ACTIVE, Updates and requests by other devices belong to half and predictive handoffs, which are not built yet.
 */
#define TO(state) (1u << (state))

static const struct {
	const char *name;
	unsigned int to;
} states[TCH_NSTATES] = {
	[TCH_IDLE] = { "IDLE", TO(TCH_OPEN_STATE) | TO(TCH_ACTIVE) },
	[TCH_OPEN_STATE] = { "OPEN", TO(TCH_ACTIVE) | TO(TCH_FAIL_STATE) },
	[TCH_ACTIVE] = { "ACTIVE", TO(TCH_WAIT) | TO(TCH_FAIL_STATE) | TO(TCH_IDLE) },
	[TCH_WAIT] = { "WAIT", TO(TCH_DONE_STATE) | TO(TCH_HALF_ACTIVE) | TO(TCH_FAIL_STATE) },
	[TCH_HALF_ACTIVE] = { "HALF_ACTIVE", TO(TCH_DONE_STATE) | TO(TCH_FAIL_STATE) },
	[TCH_DONE_STATE] = { "DONE", 0 },
	[TCH_FAIL_STATE] = { "FAIL", 0 },
};

static const char *const event_names[TCH_NEVENTS] = {
	[TCH_EV_START] = "start",
	[TCH_EV_OPEN] = "Open",
	[TCH_EV_OPEN_RESPONSE] = "Open Response",
	[TCH_EV_QUIET] = "quiet",
	[TCH_EV_FROZEN] = "frozen",
	[TCH_EV_FREEZE_FAILED] = "freeze failed",
	[TCH_EV_HANDOFF] = "Handoff",
	[TCH_EV_RESTORED] = "restored",
	[TCH_EV_RESTORE_FAILED] = "restore failed",
	[TCH_EV_ACKNOWLEDGMENT] = "Acknowledgment",
	[TCH_EV_DONE] = "Done",
	[TCH_EV_FAIL] = "Fail",
	[TCH_EV_TIMEOUT] = "timeout",
	[TCH_EV_PEER_LOST] = "peer lost",
	[TCH_EV_CLOSED] = "closed",
};

const char *tch_state_name(enum tch_state state)
{
	return states[state].name;
}

const char *tch_event_name(enum tch_event event)
{
	return event_names[event];
}

static void tch_move(struct tch *tch, enum tch_state next, enum tch_event event)
{
	if (BUG_IF(!(states[tch->state].to & TO(next))))
		return;
	log_debug("tch", "tch=%jx %s -> %s on %s", (uintmax_t)tch->id, states[tch->state].name, states[next].name,
		  event_names[event]);
	tch->state = next;
}

static struct tch_out tch_fail(struct tch *tch, enum tch_event event, unsigned int actions, int result)
{
	tch_move(tch, TCH_FAIL_STATE, event);
	return (struct tch_out){ .actions = actions | TCH_DO_FINISH, .result = result };
}

/* Why a handoff ended, when the event itself does not say. */
static int failure(enum tch_event event, int result)
{
	if (result < 0)
		return result;
	switch (event) {
	case TCH_EV_TIMEOUT:
		return -ETIMEDOUT;
	case TCH_EV_PEER_LOST:
		return -EHOSTDOWN;
	case TCH_EV_CLOSED:
		return -ENOTCONN;
	default:
		return -EIO;
	}
}

static struct tch_out first_open(struct tch *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_OPEN_RESPONSE:
		tch_move(tch, TCH_ACTIVE, event);
		return (struct tch_out){ .actions = TCH_DO_QUIESCE, .timer_ms = TCH_ACTIVE_MS };
	case TCH_EV_FAIL:
		return tch_fail(tch, event, 0, failure(event, result));
	default:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL, failure(event, result));
	}
}

static struct tch_out first_active(struct tch *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_QUIET:
		return (struct tch_out){ .actions = TCH_DO_FREEZE, .timer_ms = TCH_ACTIVE_MS };
	case TCH_EV_FROZEN:
		tch_move(tch, TCH_WAIT, event);
		return (struct tch_out){ .actions = TCH_DO_SEND_HANDOFF, .timer_ms = TCH_WAIT_MS };
	case TCH_EV_FREEZE_FAILED:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL | TCH_DO_UNFREEZE | TCH_DO_RESUME, failure(event, result));
	case TCH_EV_CLOSED:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL, failure(event, result));
	case TCH_EV_FAIL:
		tch_move(tch, TCH_IDLE, event);
		return (struct tch_out){ .actions = TCH_DO_RESUME | TCH_DO_FINISH, .result = failure(event, result) };
	default:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL | TCH_DO_RESUME, failure(event, result));
	}
}

static struct tch_out first_wait(struct tch *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_ACKNOWLEDGMENT:
		tch_move(tch, TCH_DONE_STATE, event);
		return (struct tch_out){ .actions = TCH_DO_COMMIT | TCH_DO_FINISH };
	case TCH_EV_FAIL:
		return tch_fail(tch, event, TCH_DO_UNFREEZE | TCH_DO_RESUME, failure(event, result));
	default:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL | TCH_DO_RESET, failure(event, result));
	}
}

static struct tch_out second_active(struct tch *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_HANDOFF:
		return (struct tch_out){ .actions = TCH_DO_RESTORE, .timer_ms = TCH_ACTIVE_MS };
	case TCH_EV_RESTORED:
		tch_move(tch, TCH_WAIT, event);
		return (struct tch_out){ .actions = TCH_DO_SEND_ACKNOWLEDGMENT, .timer_ms = TCH_ARRIVE_MS };
	case TCH_EV_RESTORE_FAILED:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL, failure(event, result));
	case TCH_EV_FAIL:
		tch_move(tch, TCH_IDLE, event);
		return (struct tch_out){ .actions = TCH_DO_FINISH, .result = failure(event, result) };
	default:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL, failure(event, result));
	}
}

static struct tch_out second_wait(struct tch *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_FAIL:
		return tch_fail(tch, event, TCH_DO_ARRIVE | TCH_DO_RESET_RESTORED, failure(event, result));
	case TCH_EV_TIMEOUT: /* the switch is slow or away */
		tch_move(tch, TCH_DONE_STATE, event);
		return (struct tch_out){ .actions = TCH_DO_ARRIVE, .timer_ms = TCH_LINGER_MS };
	default:
		tch_move(tch, TCH_DONE_STATE, event);
		return (struct tch_out){ .actions = TCH_DO_ARRIVE | TCH_DO_FINISH };
	}
}

static struct tch_out second_done(enum tch_event event, int result)
{
	if (event == TCH_EV_FAIL)
		return (struct tch_out){ .actions = TCH_DO_RESET_RESTORED | TCH_DO_FINISH,
					 .result = failure(event, result) };
	return (struct tch_out){ .actions = TCH_DO_FINISH };
}

/* The events that mean something in each state and role; all others are late answers and change nothing. */
static unsigned int tch_expects(const struct tch *tch)
{
	const unsigned int ends = TO(TCH_EV_FAIL) | TO(TCH_EV_TIMEOUT) | TO(TCH_EV_PEER_LOST);
	bool first = tch->role == TCH_FIRST_DEVICE;

	switch (tch->state) {
	case TCH_IDLE:
		return first ? TO(TCH_EV_START) : TO(TCH_EV_OPEN);
	case TCH_OPEN_STATE:
		return first ? ends | TO(TCH_EV_OPEN_RESPONSE) | TO(TCH_EV_CLOSED) : 0;
	case TCH_ACTIVE:
		if (first)
			return ends | TO(TCH_EV_QUIET) | TO(TCH_EV_FROZEN) | TO(TCH_EV_FREEZE_FAILED) |
			       TO(TCH_EV_CLOSED);
		return ends | TO(TCH_EV_HANDOFF) | TO(TCH_EV_RESTORED) | TO(TCH_EV_RESTORE_FAILED);
	case TCH_WAIT:
		return ends | (first ? TO(TCH_EV_ACKNOWLEDGMENT) : TO(TCH_EV_DONE));
	case TCH_DONE_STATE:
		return first ? 0 : ends | TO(TCH_EV_DONE);
	case TCH_HALF_ACTIVE:
	case TCH_FAIL_STATE:
	case TCH_NSTATES:
		break;
	}
	return 0;
}

struct tch_out tch_step(struct tch *tch, enum tch_event event, int result)
{
	bool first = tch->role == TCH_FIRST_DEVICE;

	if (!(tch_expects(tch) & TO(event)))
		return (struct tch_out){ .timer_ms = UINT32_MAX };
	switch (tch->state) {
	case TCH_IDLE:
		tch_move(tch, first ? TCH_OPEN_STATE : TCH_ACTIVE, event);
		return (struct tch_out){ .actions = first ? TCH_DO_SEND_OPEN : TCH_DO_SEND_OPEN_RESPONSE,
					 .timer_ms = first ? TCH_OPEN_MS : TCH_ACTIVE_MS };
	case TCH_OPEN_STATE:
		return first_open(tch, event, result);
	case TCH_ACTIVE:
		return first ? first_active(tch, event, result) : second_active(tch, event, result);
	case TCH_WAIT:
		return first ? first_wait(tch, event, result) : second_wait(tch, event, result);
	default:
		return second_done(event, result);
	}
}
