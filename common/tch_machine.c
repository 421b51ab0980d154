/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_machine.h"

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
 * An Open Response by which the other device can't do what is wanted (UNSUITED) ends it as a timeout in OPEN does. An Acknowledgment
 * says what it is of: one of Handoff that comes late is none of Complete.
 *
 * In WAIT the second device serves, but does not hand the session on: the switch learns of one owner after the other, and
 * what is relayed makes no more than one detour. Done says that the switch knows.
 *
 * The flow is held from TCH_DO_FREEZE until TCH_DO_COMMIT, TCH_DO_UNFREEZE or TCH_DO_RESET. Before the commit point
 * every way out un-freezes the socket; after it none does. A timeout in WAIT is on neither side of it: the second
 * device may have spoken, so the flow is reset at both ends and the client reconnects at once.
 *
 * Half handoffs. The second device has one half from the Acknowledgment of Handoff on, the other one after Complete.
 *
 *	first device:	WAIT --Acknowledgment: shares--> HALF_ACTIVE --DRAINED: falls silent, Complete--> (the same)
 *			--Acknowledgment: commits--> DONE
 *	second device:	ACTIVE --RESTORED: Acknowledgment--> HALF_ACTIVE --Complete: takes over, Acknowledgment--> WAIT --> DONE
 *
 * Towards the devices (Fig. 7) the second device does not speak before Complete: until then the first one can always go on
 * by itself. Towards the client (Fig. 8) it speaks from its Acknowledgment on, so that is the commit point.
 *
 * Predictions. OPEN and ACTIVE as above, but ACTIVE lasts, kept up by Updates, until START makes a handoff of it, or CANCEL
 * ends it. Several devices may be prepared for one session.
 */
#define TO(state) (1u << (state))

static const struct {
	const char *name;
	unsigned int to;
} states[TCH_NSTATES] = {
	[TCH_IDLE] = { "IDLE", TO(TCH_OPEN_STATE) | TO(TCH_ACTIVE) },
	[TCH_OPEN_STATE] = { "OPEN", TO(TCH_ACTIVE) | TO(TCH_FAIL_STATE) },
	[TCH_ACTIVE] = { "ACTIVE", TO(TCH_WAIT) | TO(TCH_HALF_ACTIVE) | TO(TCH_FAIL_STATE) | TO(TCH_IDLE) },
	[TCH_WAIT] = { "WAIT", TO(TCH_DONE_STATE) | TO(TCH_HALF_ACTIVE) | TO(TCH_FAIL_STATE) },
	[TCH_HALF_ACTIVE] = { "HALF_ACTIVE", TO(TCH_WAIT) | TO(TCH_DONE_STATE) | TO(TCH_FAIL_STATE) },
	[TCH_DONE_STATE] = { "DONE", 0 },
	[TCH_FAIL_STATE] = { "FAIL", 0 },
};

static const char *const event_names[TCH_NEVENTS] = {
	[TCH_EV_START] = "start",
	[TCH_EV_PREPARE] = "prepare",
	[TCH_EV_CANCEL] = "cancel",
	[TCH_EV_OPEN] = "Open",
	[TCH_EV_OPEN_RESPONSE] = "Open Response",
	[TCH_EV_UNSUITED] = "unsuited",
	[TCH_EV_QUIET] = "quiet",
	[TCH_EV_FROZEN] = "frozen",
	[TCH_EV_FREEZE_FAILED] = "freeze failed",
	[TCH_EV_UPDATE] = "Update",
	[TCH_EV_HANDOFF] = "Handoff",
	[TCH_EV_RESTORED] = "restored",
	[TCH_EV_RESTORE_FAILED] = "restore failed",
	[TCH_EV_ACKNOWLEDGMENT] = "Acknowledgment",
	[TCH_EV_COMPLETE_ACKNOWLEDGMENT] = "Acknowledgment of Complete",
	[TCH_EV_DRAINED] = "drained",
	[TCH_EV_COMPLETE] = "Complete",
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

static void tch_move(struct tch_machine *tch, enum tch_state next, enum tch_event event)
{
	if (BUG_IF(!(states[tch->state].to & TO(next))))
		return;
	log_debug("tch", "tch=%jx %s -> %s on %s", (uintmax_t)tch->id, states[tch->state].name, states[next].name,
		  event_names[event]);
	tch->state = next;
}

static struct tch_out tch_fail(struct tch_machine *tch, enum tch_event event, unsigned int actions, int result)
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
	case TCH_EV_CANCEL:
		return -ECANCELED;
	case TCH_EV_UNSUITED:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

static const struct tch_out nothing = { .timer_ms = UINT32_MAX };

static struct tch_out first_idle(struct tch_machine *tch, enum tch_event event)
{
	tch_move(tch, TCH_OPEN_STATE, event);
	tch->is_prediction = event == TCH_EV_PREPARE;
	return (struct tch_out){ .actions = TCH_DO_SEND_OPEN, .timer_ms = TCH_OPEN_MS };
}

static struct tch_out first_open(struct tch_machine *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_OPEN_RESPONSE:
		tch_move(tch, TCH_ACTIVE, event);
		if (tch->is_prediction)
			return (struct tch_out){ .actions = TCH_DO_SEND_UPDATE, .timer_ms = TCH_UPDATE_MS };
		return (struct tch_out){ .actions = TCH_DO_QUIESCE, .timer_ms = TCH_ACTIVE_MS };
	case TCH_EV_START:
		tch->is_prediction = false;
		return nothing;
	case TCH_EV_FAIL:
		return tch_fail(tch, event, 0, failure(event, result));
	default:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL, failure(event, result));
	}
}

/* Nothing has been stopped yet. */
static struct tch_out first_predicting(struct tch_machine *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_TIMEOUT:
		return (struct tch_out){ .actions = TCH_DO_SEND_UPDATE, .timer_ms = TCH_UPDATE_MS };
	case TCH_EV_START:
		tch->is_prediction = false;
		return (struct tch_out){ .actions = TCH_DO_QUIESCE, .timer_ms = TCH_ACTIVE_MS };
	case TCH_EV_FAIL:
		tch_move(tch, TCH_IDLE, event);
		return (struct tch_out){ .actions = TCH_DO_FINISH, .result = failure(event, result) };
	default:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL, failure(event, result));
	}
}

static struct tch_out first_active(struct tch_machine *tch, enum tch_event event, int result)
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

static struct tch_out first_commit(struct tch_machine *tch, enum tch_event event)
{
	tch_move(tch, TCH_DONE_STATE, event);
	return (struct tch_out){ .actions = TCH_DO_COMMIT | TCH_DO_FINISH };
}

static struct tch_out first_wait(struct tch_machine *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_COMPLETE_ACKNOWLEDGMENT:
		return first_commit(tch, event);
	case TCH_EV_ACKNOWLEDGMENT:
		tch_move(tch, TCH_HALF_ACTIVE, event);
		return (struct tch_out){ .actions = TCH_DO_SHARE, .timer_ms = TCH_HALF_MS };
	case TCH_EV_FAIL:
		return tch_fail(tch, event, TCH_DO_UNFREEZE | TCH_DO_RESUME, failure(event, result));
	default:
		if (tch->kind == TCH_HALF_TO_DEVICES) /* the other one is silent in any case */
			return tch_fail(tch, event, TCH_DO_SEND_FAIL | TCH_DO_UNFREEZE | TCH_DO_RESUME,
					failure(event, result));
		return tch_fail(tch, event, TCH_DO_SEND_FAIL | TCH_DO_RESET, failure(event, result));
	}
}

static struct tch_out first_complete(struct tch_machine *tch)
{
	tch->is_completing = true;
	return (struct tch_out){ .actions = TCH_DO_COMPLETE, .timer_ms = TCH_WAIT_MS };
}

/* The second device does not speak, and if it ever hears of Complete it knows that it must not. */
static struct tch_out first_half_to_devices(struct tch_machine *tch, enum tch_event event, int result)
{
	const unsigned int goes_on = TCH_DO_RECLAIM | TCH_DO_RESUME;

	if (event == TCH_EV_FAIL)
		return tch_fail(tch, event, goes_on, failure(event, result));
	return tch_fail(tch, event, TCH_DO_SEND_FAIL | (tch->is_completing ? TCH_DO_RESET : goes_on), failure(event, result));
}

/* The second device speaks: nothing leads back. That it fails means that its connection has ended, and it still has to say so. */
static struct tch_out first_half_to_client(struct tch_machine *tch, enum tch_event event, int result)
{
	if (event == TCH_EV_FAIL)
		return tch_fail(tch, event, TCH_DO_COMMIT, failure(event, result));
	if (event == TCH_EV_TIMEOUT && !tch->is_completing)
		return first_complete(tch);
	return tch_fail(tch, event, TCH_DO_SEND_FAIL | TCH_DO_RESET, failure(event, result));
}

static struct tch_out first_half(struct tch_machine *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_DRAINED:
		return tch->is_completing ? nothing : first_complete(tch);
	case TCH_EV_COMPLETE_ACKNOWLEDGMENT:
		return tch->is_completing ? first_commit(tch, event) : nothing;
	case TCH_EV_CLOSED:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL | TCH_DO_RECLAIM, failure(event, result));
	default:
		return tch->kind == TCH_HALF_TO_DEVICES ? first_half_to_devices(tch, event, result) :
							  first_half_to_client(tch, event, result);
	}
}

static struct tch_out second_active(struct tch_machine *tch, enum tch_event event, int result)
{
	switch (event) {
	case TCH_EV_UPDATE:
		return (struct tch_out){ .actions = TCH_DO_PREPARE, .timer_ms = TCH_ACTIVE_MS };
	case TCH_EV_HANDOFF:
		return (struct tch_out){ .actions = TCH_DO_RESTORE, .timer_ms = TCH_ACTIVE_MS };
	case TCH_EV_RESTORED:
		if (tch->kind != TCH_FULL) {
			tch_move(tch, TCH_HALF_ACTIVE, event);
			return (struct tch_out){ .actions = TCH_DO_SEND_ACKNOWLEDGMENT, .timer_ms = TCH_HALF_LOST_MS };
		}
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

static struct tch_out second_half(struct tch_machine *tch, enum tch_event event, int result)
{
	bool speaks = tch->kind == TCH_HALF_TO_CLIENT;

	switch (event) {
	case TCH_EV_COMPLETE:
		tch_move(tch, TCH_WAIT, event);
		return (struct tch_out){ .actions = TCH_DO_TAKE_OVER | TCH_DO_SEND_ACKNOWLEDGMENT,
					 .timer_ms = TCH_ARRIVE_MS };
	case TCH_EV_CLOSED:
		return tch_fail(tch, event, TCH_DO_SEND_FAIL | (speaks ? TCH_DO_TAKE_OVER : TCH_DO_DROP),
				failure(event, result));
	default:
		return tch_fail(tch, event, speaks ? TCH_DO_RESET_RESTORED : TCH_DO_DROP, failure(event, result));
	}
}

static struct tch_out second_wait(struct tch_machine *tch, enum tch_event event, int result)
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
static unsigned int first_expects(const struct tch_machine *tch)
{
	const unsigned int ends = TO(TCH_EV_FAIL) | TO(TCH_EV_TIMEOUT) | TO(TCH_EV_PEER_LOST) | TO(TCH_EV_CLOSED);

	switch (tch->state) {
	case TCH_IDLE:
		return TO(TCH_EV_START) | TO(TCH_EV_PREPARE);
	case TCH_OPEN_STATE:
		return ends | TO(TCH_EV_OPEN_RESPONSE) | TO(TCH_EV_UNSUITED) | (tch->is_prediction ? TO(TCH_EV_START) | TO(TCH_EV_CANCEL) : 0);
	case TCH_ACTIVE:
		if (tch->is_prediction)
			return ends | TO(TCH_EV_START) | TO(TCH_EV_CANCEL);
		return ends | TO(TCH_EV_QUIET) | TO(TCH_EV_FROZEN) | TO(TCH_EV_FREEZE_FAILED);
	case TCH_WAIT:
		return (ends & ~TO(TCH_EV_CLOSED)) |
		       (tch->kind == TCH_FULL ? TO(TCH_EV_COMPLETE_ACKNOWLEDGMENT) : TO(TCH_EV_ACKNOWLEDGMENT));
	case TCH_HALF_ACTIVE:
		return ends | TO(TCH_EV_COMPLETE_ACKNOWLEDGMENT) | TO(TCH_EV_DRAINED);
	default:
		return 0;
	}
}

static unsigned int second_expects(const struct tch_machine *tch)
{
	const unsigned int ends = TO(TCH_EV_FAIL) | TO(TCH_EV_TIMEOUT) | TO(TCH_EV_PEER_LOST);

	switch (tch->state) {
	case TCH_IDLE:
		return TO(TCH_EV_OPEN);
	case TCH_ACTIVE:
		return ends | TO(TCH_EV_UPDATE) | TO(TCH_EV_HANDOFF) | TO(TCH_EV_RESTORED) | TO(TCH_EV_RESTORE_FAILED);
	case TCH_HALF_ACTIVE:
		return ends | TO(TCH_EV_COMPLETE) | TO(TCH_EV_CLOSED);
	case TCH_WAIT:
	case TCH_DONE_STATE:
		return ends | TO(TCH_EV_DONE);
	default:
		return 0;
	}
}

static struct tch_out first_step(struct tch_machine *tch, enum tch_event event, int result)
{
	switch (tch->state) {
	case TCH_IDLE:
		return first_idle(tch, event);
	case TCH_OPEN_STATE:
		return first_open(tch, event, result);
	case TCH_ACTIVE:
		return tch->is_prediction ? first_predicting(tch, event, result) : first_active(tch, event, result);
	case TCH_WAIT:
		return first_wait(tch, event, result);
	default:
		return first_half(tch, event, result);
	}
}

static struct tch_out second_step(struct tch_machine *tch, enum tch_event event, int result)
{
	switch (tch->state) {
	case TCH_IDLE:
		tch_move(tch, TCH_ACTIVE, event);
		return (struct tch_out){ .actions = TCH_DO_SEND_OPEN_RESPONSE | TCH_DO_PREPARE, .timer_ms = TCH_ACTIVE_MS };
	case TCH_ACTIVE:
		return second_active(tch, event, result);
	case TCH_HALF_ACTIVE:
		return second_half(tch, event, result);
	case TCH_WAIT:
		return second_wait(tch, event, result);
	default:
		return second_done(event, result);
	}
}

struct tch_out tch_step(struct tch_machine *tch, enum tch_event event, int result)
{
	bool first = tch->role == TCH_FIRST_DEVICE;

	if (!((first ? first_expects(tch) : second_expects(tch)) & TO(event)))
		return nothing;
	return first ? first_step(tch, event, result) : second_step(tch, event, result);
}
