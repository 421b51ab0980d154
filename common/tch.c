/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { SETTLE_POLL_MS = 5 };

void tch_arm(struct event *timer, unsigned int ms)
{
	event_add(timer, &(struct timeval){ .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 });
}

bool handoff_is_waiting(const struct handoff *handoff)
{
	return handoff->machine.state == TCH_IDLE || (handoff->machine.state == TCH_ACTIVE && handoff->machine.is_prediction);
}

/* The session may go on to a third device now. */
static void handoff_arrive(struct handoff *handoff)
{
	struct handoff *next;

	LIST_FOREACH(next, &handoff->all->list, link)
		if (next->session == handoff->session && next->machine.role == TCH_FIRST_DEVICE && next->is_wanted &&
		    handoff_is_waiting(next))
			tch_arm(next->timer, 0);
}

static void handoff_free(struct handoff *handoff)
{
	int prepared = handoff_take_prepared(handoff);

	LIST_REMOVE(handoff, link);
	if (prepared >= 0)
		kernel_helper_silence(handoff->all->setup.helper, prepared);
	if (handoff->draining)
		event_free(handoff->draining);
	if (handoff->emptying)
		event_free(handoff->emptying);
	kernel_helper_state_fini(&handoff->frozen);
	event_free(handoff->timer);
	free(handoff);
}

void handoff_cancel(struct handoff *handoff)
{
	handoff->is_cancelled = true;
	tch_arm(handoff->timer, 0);
}

/* The devices that were prepared in vain. */
static void cancel_others(const struct handoff *handoff)
{
	struct handoff *other;

	LIST_FOREACH(other, &handoff->all->list, link)
		if (other->session == handoff->session && other->machine.is_prediction)
			handoff_cancel(other);
}

static void handoff_finish(struct handoff *handoff, int result)
{
	struct tch_session session;

	if (result < 0 && result != -ECANCELED)
		handoff->all->counters.failed++;
	if (result < 0 && handoff->is_wanted && handoff_session(handoff, &session))
		log_info("tch", "session=%jx stays here: node=%u: %s", (uintmax_t)handoff->session, handoff->node,
			 strerror(-result));
	if (handoff->on_done)
		handoff->on_done(handoff->session, handoff->node, result, handoff->duration_us,
				 handoff->on_done_arg);
	if (result == 0 && handoff->machine.role == TCH_FIRST_DEVICE)
		cancel_others(handoff);
	handoff->finished = true;
}

/* END if it is that of Complete. */
static void handoff_send_acknowledgment(struct handoff *handoff)
{
	handoff_send(handoff, TCH_KIND_ACKNOWLEDGMENT,
		     TCH_FLAG_SET | (handoff->machine.state == TCH_WAIT ? TCH_FLAG_END : 0), 0);
}

/* Each action once; those that end in an event come last in their step. */
static void handoff_perform(struct handoff *handoff, const struct tch_out *out, int result)
{
	unsigned int actions = out->actions;

	if (actions & TCH_DO_SEND_OPEN)
		handoff_open(handoff);
	if (actions & TCH_DO_SEND_OPEN_RESPONSE)
		handoff_send_open_response(handoff);
	if (actions & TCH_DO_TAKE_OVER)
		handoff_take_over(handoff);
	if (actions & TCH_DO_SEND_ACKNOWLEDGMENT)
		handoff_send_acknowledgment(handoff);
	if (actions & TCH_DO_COMMIT)
		handoff_commit(handoff);
	if (actions & TCH_DO_ARRIVE)
		handoff_arrive(handoff);
	if (actions & TCH_DO_SEND_FAIL)
		handoff_send(handoff, TCH_KIND_FAIL, 0, result < 0 ? result : out->result);
	if (actions & TCH_DO_DROP)
		handoff_drop(handoff);
	if (actions & TCH_DO_UNFREEZE)
		handoff_unfreeze(handoff);
	if (actions & TCH_DO_RECLAIM)
		handoff_reclaim(handoff);
	if (actions & TCH_DO_RESUME)
		handoff_resume(handoff);
	if (actions & TCH_DO_RESET)
		handoff_reset(handoff);
	if (actions & TCH_DO_RESET_RESTORED)
		handoff_reset_restored(handoff);
	if (actions & TCH_DO_FINISH)
		handoff_finish(handoff, out->result);
	if (actions & TCH_DO_QUIESCE)
		handoff_quiesce(handoff);
	if (actions & TCH_DO_FREEZE)
		handoff_freeze(handoff);
	if (actions & TCH_DO_SEND_HANDOFF)
		handoff_send_handoff(handoff);
	if (actions & TCH_DO_RESTORE)
		handoff_restore(handoff);
	if (actions & TCH_DO_SEND_UPDATE)
		handoff_send_update(handoff);
	if (actions & TCH_DO_PREPARE)
		handoff_prepare_socket(handoff);
	if (actions & TCH_DO_SHARE)
		handoff_share(handoff);
	if (actions & TCH_DO_COMPLETE)
		handoff_complete(handoff);
}

/* The handoff may be freed on return, unless an outer step is in progress. */
void handoff_event(struct handoff *handoff, enum tch_event event, int result)
{
	bool outermost = !handoff->stepping;
	struct tch_out out;

	if (handoff->finished)
		return;
	handoff->stepping = true;
	out = tch_step(&handoff->machine, event, result);
	if (out.timer_ms == 0)
		event_del(handoff->timer);
	else if (out.timer_ms != UINT32_MAX)
		tch_arm(handoff->timer, out.timer_ms);
	handoff_perform(handoff, &out, result);
	if (!outermost)
		return;
	handoff->stepping = false;
	if (handoff->finished)
		handoff_free(handoff);
}

/* The switch does not know yet that it is here. */
static bool is_arriving(const struct tch *tch, uint64_t session)
{
	const struct handoff *handoff;

	LIST_FOREACH(handoff, &tch->list, link)
		if (handoff->session == session && handoff->machine.role == TCH_SECOND_DEVICE &&
		    (handoff->machine.state == TCH_WAIT || handoff->machine.state == TCH_HALF_ACTIVE))
			return true;
	return false;
}

static bool is_settled(const struct handoff *handoff, const struct tch_session *session)
{
	return !is_arriving(handoff->all, handoff->session) &&
	       kernel_helper_is_settled(handoff->all->setup.helper, session->fd, &session->flow,
					session->restored_len);
}

/* The session is served as before until it is settled. A client that does not answer at all must not hold it for ever. */
void handoff_begin(struct handoff *handoff)
{
	struct tch_session session;

	if (!handoff_session(handoff, &session)) {
		handoff_finish(handoff, -ENOTCONN);
		handoff_free(handoff);
	} else if (!is_settled(handoff, &session) && clock_monotonic_ms() < handoff->settle_by_ms) {
		if (handoff->machine.is_prediction && clock_monotonic_ms() >= handoff->updated_ms + TCH_UPDATE_MS)
			handoff_event(handoff, TCH_EV_TIMEOUT, 0); /* sends an Update */
		else
			tch_arm(handoff->timer, SETTLE_POLL_MS);
	} else {
		if (handoff->machine.is_prediction)
			handoff_announce(handoff);
		handoff_event(handoff, TCH_EV_START, 0);
	}
}

static bool is_stale(const struct handoff *handoff)
{
	return handoff->machine.is_prediction && !handoff->is_wanted &&
	       clock_monotonic_ms() >= handoff->predicted_ms + TCH_PREDICTION_MS;
}

static void handoff_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct handoff *handoff = arg;
	struct loops *loops = handoff->all->setup.loops;

	(void)fd, (void)what;
	loops_pause(loops);
	if (handoff->is_cancelled || is_stale(handoff))
		handoff_event(handoff, TCH_EV_CANCEL, 0);
	else if (handoff->is_wanted && handoff_is_waiting(handoff))
		handoff_begin(handoff);
	else
		handoff_event(handoff, TCH_EV_TIMEOUT, 0);
	loops_continue(loops);
}

struct handoff *handoff_new(struct tch *tch, enum tch_role role, uint64_t id, uint64_t session,
				   uint32_t node)
{
	struct handoff *handoff = calloc(1, sizeof(*handoff));

	if (!handoff)
		return NULL;
	handoff->timer = evtimer_new(tch->setup.base, handoff_on_timer, handoff);
	if (!handoff->timer) {
		free(handoff);
		return NULL;
	}
	handoff->all = tch;
	handoff->machine = (struct tch_machine){ .id = id, .role = role, .state = TCH_IDLE };
	handoff->session = session;
	handoff->node = node;
	handoff->prepared_fd = -1;
	LIST_INSERT_HEAD(&tch->list, handoff, link);
	return handoff;
}

static struct handoff *handoff_find(struct tch *tch, uint64_t id, uint32_t node)
{
	struct handoff *handoff;

	LIST_FOREACH(handoff, &tch->list, link)
		if (handoff->machine.id == id && handoff->node == node)
			return handoff;
	return NULL;
}

/* What a packet says, and the flags without which it does not say it (the source's Fig. 4A). */
static const struct {
	enum tch_event event;
	uint32_t flags;
} packets[TCH_KIND_COUNT] = {
	[TCH_KIND_OPEN] = { TCH_EV_OPEN, TCH_FLAG_HND },
	[TCH_KIND_OPEN_RESPONSE] = { TCH_EV_OPEN_RESPONSE, TCH_FLAG_HND },
	[TCH_KIND_UPDATE] = { TCH_EV_UPDATE, TCH_FLAG_HND },
	[TCH_KIND_HANDOFF] = { TCH_EV_HANDOFF, TCH_FLAG_HND | TCH_FLAG_SET },
	[TCH_KIND_COMPLETE] = { TCH_EV_COMPLETE, TCH_FLAG_HND | TCH_FLAG_END },
	[TCH_KIND_ACKNOWLEDGMENT] = { TCH_EV_ACKNOWLEDGMENT, TCH_FLAG_HND },
	[TCH_KIND_DONE] = { TCH_EV_DONE, TCH_FLAG_HND | TCH_FLAG_END },
	[TCH_KIND_FAIL] = { TCH_EV_FAIL, TCH_FLAG_HND },
	[TCH_KIND_HANDOFF_COMPLETE] = { TCH_EV_HANDOFF, TCH_FLAG_HND | TCH_FLAG_SET | TCH_FLAG_END },
	[TCH_KIND_REQUEST] = { TCH_EV_OPEN, TCH_FLAG_HND }, /* it begins a handoff the other way */
};

static bool has_its_flags(const struct tch_message *message)
{
	uint32_t flags = packets[message->kind].flags;

	return (message->flags & flags) == flags;
}

/* One that comes twice changes nothing. */
static void handoff_opened(struct handoff *handoff, const struct tch_message *message)
{
	int rc = 0;

	if (handoff->machine.state == TCH_OPEN_STATE)
		rc = handoff_heard_open_response(handoff, message);
	handoff_event(handoff, rc < 0 ? TCH_EV_UNSUITED : TCH_EV_OPEN_RESPONSE, rc);
}

static void handoff_received(struct handoff *handoff, const struct tch_message *message)
{
	bool is_whole = has_its_flags(message);

	if (message->kind == TCH_KIND_DONE)
		handoff_note_duration(handoff, message->result);
	handoff->message = message;
	handoff->stepping = true; /* keeps it alive until `message` is taken back */
	if (!is_whole)
		handoff_event(handoff, TCH_EV_RESTORE_FAILED, -EBADMSG);
	else if (message->kind == TCH_KIND_OPEN_RESPONSE)
		handoff_opened(handoff, message);
	else if (message->kind == TCH_KIND_ACKNOWLEDGMENT)
		handoff_event(handoff, handoff_acknowledged(handoff, message), 0);
	else
		handoff_event(handoff, packets[message->kind].event, message->result);
	handoff->stepping = false;
	handoff->message = NULL;
	if (handoff->finished)
		handoff_free(handoff);
}

static void tch_opened(struct tch *tch, uint32_t node, const struct tch_message *message)
{
	const struct tch_setup *setup = &tch->setup;
	struct tch_message refusal = {
		.kind = TCH_KIND_FAIL,
		.flags = TCH_FLAG_HND,
		.id = message->id,
		.session = message->session,
		.result = -EOPNOTSUPP,
	};
	struct handoff *handoff = NULL;

	if (setup->helper) {
		refusal.result = -ENOMEM;
		handoff = handoff_new(tch, TCH_SECOND_DEVICE, message->id, message->session, node);
	}
	if (handoff)
		refusal.result = handoff_heard_open(handoff, message);
	if (refusal.result == 0) {
		handoff_received(handoff, message);
		return;
	}
	if (handoff)
		handoff_free(handoff);
	setup->network->send(node, &refusal, setup->network_arg);
}

/* A Handoff without its flags is answered, for its sender waits. Anything else without them is not part of a handoff. */
static bool may_be_heard(const struct tch_message *message)
{
	if (message->kind >= TCH_KIND_COUNT || !packets[message->kind].flags)
		return false;
	return has_its_flags(message) || packets[message->kind].event == TCH_EV_HANDOFF;
}

static void received(struct tch *tch, uint32_t node, const struct tch_message *message)
{
	struct handoff *handoff = handoff_find(tch, message->id, node);
	bool is_open = message->kind == TCH_KIND_OPEN, is_request = message->kind == TCH_KIND_REQUEST;

	if (!may_be_heard(message) || (!handoff && !is_open && !is_request))
		log_debug("tch", "tch=%jx from node=%u: kind %d with flags %#x means nothing here", (uintmax_t)message->id, node,
			  (int)message->kind, message->flags);
	else if (is_request)
		tch_requested(tch, node, message);
	else if (!is_open)
		handoff_received(handoff, message);
	else if (!handoff) /* else a repeated one */
		tch_opened(tch, node, message);
}

/* The loops may take their time to pause, and the client's packets need not wait for them. */
static void relay_at_once(struct tch *tch, uint32_t node, const struct tch_message *message)
{
	struct handoff *handoff = handoff_find(tch, message->id, node);

	if (handoff && message->kind == TCH_KIND_ACKNOWLEDGMENT && has_its_flags(message) && handoff->is_frozen &&
	    handoff->machine.role == TCH_FIRST_DEVICE && handoff->machine.state == TCH_WAIT &&
	    handoff_acknowledged(handoff, message) == TCH_EV_COMPLETE_ACKNOWLEDGMENT && handoff->machine.kind == TCH_FULL)
		handoff_relay(handoff);
}

/* What announces a session that is not here yet. */
static bool concerns_no_session(const struct tch_message *message)
{
	return message->kind == TCH_KIND_OPEN || message->kind == TCH_KIND_UPDATE;
}

void tch_received(struct tch *tch, uint32_t node, const struct tch_message *message)
{
	if (concerns_no_session(message)) { /* nobody need stand still */
		received(tch, node, message);
		return;
	}
	relay_at_once(tch, node, message);
	loops_pause(tch->setup.loops);
	tch->holds_loops = true;
	received(tch, node, message);
	tch_let_loops_go(tch);
}

void tch_node_lost(struct tch *tch, uint32_t node)
{
	struct handoff *handoff, *next;

	loops_pause(tch->setup.loops);
	for (handoff = LIST_FIRST(&tch->list); handoff; handoff = next) {
		next = LIST_NEXT(handoff, link);
		if (handoff->node == node)
			handoff_event(handoff, TCH_EV_PEER_LOST, 0);
	}
	loops_continue(tch->setup.loops);
}

void tch_session_quiet(struct tch *tch, uint64_t session)
{
	struct handoff *handoff = handoff_find_first(tch, session, 0);

	if (handoff)
		handoff_empty(handoff);
}

void tch_session_closed(struct tch *tch, uint64_t session)
{
	struct handoff *handoff, *next;

	/* Most that close are not about to move: for those nobody is paused. */
	for (handoff = LIST_FIRST(&tch->list); handoff; handoff = next) {
		next = LIST_NEXT(handoff, link);
		if (handoff->session != session)
			continue;
		loops_pause(tch->setup.loops);
		handoff_event(handoff, TCH_EV_CLOSED, 0);
		loops_continue(tch->setup.loops);
	}
}

const struct tch_counters *tch_counters(const struct tch *tch)
{
	return &tch->counters;
}

struct tch *tch_new(const struct tch_setup *setup)
{
	struct tch *tch = calloc(1, sizeof(*tch));

	if (!tch)
		return NULL;
	tch->setup = *setup;
	LIST_INIT(&tch->list);
	LIST_INIT(&tch->relayed);
	if (getrandom(&tch->next_id, sizeof(tch->next_id), 0) < 0)
		tch->next_id = (uint32_t)clock_monotonic_us();
	return tch;
}

/* Has the other device spoken, or may it? Of a half towards the devices it does not before it hears of Complete. */
static bool other_may_speak(const struct handoff *handoff)
{
	if (handoff->machine.role == TCH_SECOND_DEVICE || !handoff->is_frozen)
		return false;
	return handoff->machine.kind != TCH_HALF_TO_DEVICES || handoff->machine.is_completing;
}

/*
 * This device ends. Nobody is told: the other one sees the end of the session between them. Our socket goes without a word where
 * the other device may speak, and its entry stays: if the other one has the session, the switch believes that.
 */
static void handoff_give_up(struct handoff *handoff)
{
	struct tch_session session;

	if (handoff->machine.state == TCH_HALF_ACTIVE && handoff->machine.role == TCH_SECOND_DEVICE) {
		handoff_drop(handoff);
		return;
	}
	if (other_may_speak(handoff)) {
		if (handoff_session(handoff, &session))
			kernel_helper_silence(handoff->all->setup.helper, tch_surrender(handoff->all, &session));
		return;
	}
	if (handoff->is_frozen)
		handoff_reclaim(handoff);
	else if (handoff->machine.state == TCH_ACTIVE && handoff->machine.role == TCH_FIRST_DEVICE && !handoff->machine.is_prediction)
		handoff_resume(handoff); /* or it would tell who is not there any more that it is quiet */
}

void tch_free(struct tch *tch)
{
	struct relayed_flow *relayed;
	struct handoff *handoff;

	if (!tch)
		return;
	loops_pause(tch->setup.loops);
	while ((handoff = LIST_FIRST(&tch->list))) {
		handoff_give_up(handoff);
		handoff_free(handoff);
	}
	loops_continue(tch->setup.loops);
	while ((relayed = LIST_FIRST(&tch->relayed)))
		relayed_free(relayed);
	free(tch);
}
