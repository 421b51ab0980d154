/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/tch_options.h"
#include "common/tch_socket.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct handoff *handoff_find_first(struct tch *tch, uint64_t session, uint32_t node)
{
	struct handoff *handoff, *found = NULL;

	LIST_FOREACH(handoff, &tch->list, link) {
		if (handoff->session != session || handoff->machine.role != TCH_FIRST_DEVICE || handoff->is_cancelled)
			continue;
		if (handoff->is_wanted)
			return handoff;
		if (handoff->node == node)
			found = handoff;
	}
	return found;
}

static size_t count_predictions(const struct tch *tch, uint64_t session)
{
	const struct handoff *handoff;
	size_t count = 0;

	LIST_FOREACH(handoff, &tch->list, link)
		count += handoff->session == session && handoff->machine.is_prediction;
	return count;
}

/* Can it be done at all, and is it not being done? @handoff: out: what was prepared, or NULL */
static int check_start(struct tch *tch, uint64_t id, uint32_t node, bool is_special, struct handoff **handoff)
{
	const struct tch_setup *setup = &tch->setup;
	struct tch_session session;
	unsigned int ifindex;
	uint8_t mac[6];

	if (!tch_find_session(tch, id, &session))
		return -ENOENT;
	if (node == setup->self)
		return -EINVAL;
	if (!setup->helper || !session.is_movable)
		return -EOPNOTSUPP;
	*handoff = handoff_find_first(tch, id, node);
	if ((*handoff && (*handoff)->is_wanted) || session.is_half)
		return -EALREADY;
	return setup->network->find_node(node, is_special, mac, &ifindex, setup->network_arg);
}

static struct handoff *first_new(struct tch *tch, uint64_t session, uint32_t node)
{
	uint64_t id = (uint64_t)tch->setup.self << 32 | tch->next_id++;

	return handoff_new(tch, TCH_FIRST_DEVICE, id, session, node);
}

static int start(struct tch *tch, uint64_t session, uint32_t node, enum tch_kind_of_handoff kind,
		 tch_done_fn on_done, void *arg)
{
	struct handoff *handoff;
	int rc = check_start(tch, session, node, kind != TCH_FULL, &handoff);

	if (rc == 0 && !(tch_capabilities(tch) & 1u << kind))
		rc = -EOPNOTSUPP;
	if (rc == 0 && handoff && handoff->capabilities && !handoff_can(handoff, kind))
		rc = -EOPNOTSUPP;
	if (rc < 0)
		return rc;
	if (!handoff)
		handoff = first_new(tch, session, node);
	if (!handoff)
		return -ENOMEM;
	handoff->machine.kind = kind;
	handoff->is_wanted = true;
	handoff->on_done = on_done;
	handoff->on_done_arg = arg;
	handoff->settle_by_ms = clock_monotonic_ms() + TCH_SETTLE_MS;
	if (handoff_is_waiting(handoff))
		handoff_begin(handoff);
	return 0;
}

int tch_so_set(struct tch *tch, uint64_t session, uint32_t node, enum tch_kind_of_handoff kind, tch_done_fn on_done,
	       void *arg)
{
	int rc;

	loops_pause(tch->setup.loops);
	rc = start(tch, session, node, kind, on_done, arg);
	loops_continue(tch->setup.loops);
	return rc;
}

static int prepare(struct tch *tch, uint64_t session, uint32_t node)
{
	struct handoff *handoff;
	int rc = check_start(tch, session, node, true, &handoff);

	if (rc == -EALREADY || count_predictions(tch, session) >= TCH_CANDIDATES_MAX)
		return -EBUSY;
	if (rc < 0)
		return rc;
	if (handoff) {
		handoff->predicted_ms = clock_monotonic_ms();
		return 0;
	}
	handoff = first_new(tch, session, node);
	if (!handoff)
		return -ENOMEM;
	handoff->predicted_ms = clock_monotonic_ms();
	handoff_event(handoff, TCH_EV_PREPARE, 0);
	return 0;
}

static int unprepare(struct tch *tch, uint64_t session, uint32_t node)
{
	struct handoff *handoff = handoff_find_first(tch, session, node);

	if (!handoff || handoff->node != node || handoff->is_wanted)
		return -ENOENT;
	handoff_cancel(handoff);
	return 0;
}

int tch_so_hnd(struct tch *tch, uint64_t session, uint32_t node, bool open)
{
	int rc;

	loops_pause(tch->setup.loops);
	rc = open ? prepare(tch, session, node) : unprepare(tch, session, node);
	loops_continue(tch->setup.loops);
	return rc;
}

int tch_so_timer(struct tch *tch, uint64_t id, const struct tch_timers *set, struct tch_timers *get)
{
	struct tch_session session;
	int rc = -ENOENT;

	loops_pause(tch->setup.loops);
	if (tch_find_session(tch, id, &session))
		rc = set ? tch_socket_set_timers(session.fd, set) : 0;
	if (rc == 0 && get)
		rc = tch_socket_timers(session.fd, get);
	loops_continue(tch->setup.loops);
	return rc;
}

int tch_so_iptos(struct tch *tch, uint64_t id, int tos)
{
	struct tch_session session;
	int rc = -ENOENT;

	if (tos < -1 || tos > UINT8_MAX)
		return -EINVAL;
	loops_pause(tch->setup.loops);
	if (tch_find_session(tch, id, &session))
		rc = tos < 0 ? 0 : tch_socket_set_iptos(session.fd, &session.flow, (uint8_t)tos);
	if (rc == 0)
		rc = tch_socket_iptos(session.fd, &session.flow);
	loops_continue(tch->setup.loops);
	return rc;
}

/* What concerns a session most: that it is being handed off, that it has just come, that it may be handed off. */
static const struct handoff *find_standing(const struct tch *tch, uint64_t session)
{
	const struct handoff *handoff, *found = NULL;

	LIST_FOREACH(handoff, &tch->list, link) {
		if (handoff->session == session && handoff->is_wanted)
			return handoff;
		if (handoff->session == session && (!found || found->machine.is_prediction))
			found = handoff;
	}
	return found;
}

static int look_standing(const struct tch *tch, uint64_t id, struct tch_standing *out)
{
	const struct handoff *handoff = find_standing(tch, id);
	struct tch_standing standing = { .state = tch_state_name(TCH_IDLE) };
	struct tch_session session;
	int rc;

	if (!tch_find_session(tch, id, &session))
		return -ENOENT;
	if (!tch->setup.helper)
		return -EOPNOTSUPP;
	if (handoff) {
		standing.state = tch_state_name(handoff->machine.state);
		standing.node = handoff->node;
		standing.is_first = handoff->machine.role == TCH_FIRST_DEVICE;
		standing.is_wanted = !handoff->machine.is_prediction;
		standing.kind = handoff->machine.kind;
		standing.capabilities = handoff->capabilities;
	}
	rc = kernel_helper_sketch(tch->setup.helper, session.fd, &session.flow, &session.fixed, &standing.sketch);
	if (rc == 0)
		*out = standing;
	return rc;
}

int tch_so_state(struct tch *tch, uint64_t session, struct tch_standing *out)
{
	int rc;

	loops_pause(tch->setup.loops);
	rc = look_standing(tch, session, out);
	loops_continue(tch->setup.loops);
	return rc;
}

/* The entry that holds it stays for a while, and silences what our stack has to say to a client that goes on. */
static int end_silently(struct tch *tch, const struct tch_session *session)
{
	const struct handoff *handoff = find_standing(tch, session->id);
	int rc;

	if (!tch->setup.helper)
		return -EOPNOTSUPP;
	if (handoff && !handoff->machine.is_prediction && handoff->machine.state != TCH_IDLE)
		return -EBUSY;
	relayed_cancel(tch, &session->flow);
	rc = kernel_helper_hold(tch->setup.helper, &session->flow);
	if (rc < 0)
		return rc;
	kernel_helper_silence(tch->setup.helper, tch_surrender(tch, session));
	relayed_linger(tch, &session->flow);
	tch_session_closed(tch, session->id);
	return 0;
}

int tch_so_terminate(struct tch *tch, uint64_t id, enum tch_end how)
{
	struct tch_session session;
	int rc = 0;

	loops_pause(tch->setup.loops);
	if (!tch_find_session(tch, id, &session))
		rc = -ENOENT;
	else if (how == TCH_END_SILENT)
		rc = end_silently(tch, &session);
	else
		tch->setup.server->close(session.own, true, tch->setup.server_arg);
	loops_continue(tch->setup.loops);
	return rc;
}

static void answer_request(const struct tch *tch, uint32_t node, const struct tch_message *request, int result)
{
	const struct tch_setup *setup = &tch->setup;
	struct tch_message answer = {
		.kind = result < 0 ? TCH_KIND_FAIL : TCH_KIND_DONE,
		.flags = TCH_FLAG_HND | (result < 0 ? 0 : TCH_FLAG_END),
		.id = request->id,
		.session = request->session,
		.result = result,
	};

	setup->network->send(node, &answer, setup->network_arg);
}

/* Fig. 9: "the handoff type automatically is changed to predictive and an ACTIVE state is assumed". Then it is wanted at once. */
static int grant(struct tch *tch, uint32_t node, const struct tch_message *request)
{
	const struct tch_setup *setup = &tch->setup;
	enum tch_kind_of_handoff kind;
	struct kernel_helper_state state;
	struct tch_session session;
	struct tch_facts facts;
	int rc = tch_options_decode(request->options, request->options_len, &state, &facts, &kind);

	if (rc < 0)
		return rc;
	if (!setup->server->find_flow(&state.flow, &session, setup->server_arg))
		return -ENOENT;
	rc = prepare(tch, session.id, node);
	return rc < 0 ? rc : start(tch, session.id, node, TCH_FULL, NULL, NULL);
}

void tch_requested(struct tch *tch, uint32_t node, const struct tch_message *request)
{
	int rc = grant(tch, node, request);

	if (rc < 0)
		tch->counters.denied++;
	else
		tch->counters.granted++;
	if (rc < 0)
		log_debug("tch", "node=%u asks for a session and does not get it: %s", node, strerror(-rc));
	answer_request(tch, node, request, rc);
}

int tch_request(struct tch *tch, const struct flow_key *flow, uint32_t first_device)
{
	const struct tch_setup *setup = &tch->setup;
	struct kernel_helper_state sketch = { .flow = *flow };
	uint8_t encoded[TCH_OPTIONS_MAX], mac[6];
	struct tch_message message = {
		.kind = TCH_KIND_REQUEST,
		.flags = TCH_FLAG_HND,
		.id = (uint64_t)setup->self << 32 | tch->next_id++,
		.options = encoded,
	};
	unsigned int ifindex;
	int rc = -EOPNOTSUPP;

	if (setup->helper)
		rc = setup->network->find_node(first_device, true, mac, &ifindex, setup->network_arg);
	if (rc == 0)
		rc = tch_options_encode(&sketch, &(struct tch_facts){ .session = 0 }, TCH_FULL, encoded);
	if (rc < 0)
		return rc;
	message.options_len = (size_t)rc;
	tch->counters.asked++;
	return setup->network->send(first_device, &message, setup->network_arg);
}
