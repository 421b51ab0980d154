/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_internal.h"

#include "common/tch_options.h"

#include <errno.h>

unsigned int tch_capabilities(const struct tch *tch)
{
	unsigned int can = TCH_CAN_FULL | TCH_CAN_PREPARE | TCH_CAN_STATISTICS | TCH_CAN_TELL_COMPLETED;

	if (tch->setup.server->take_over)
		can |= TCH_CAN_HALVES;
	if (tch->setup.helper && kernel_helper_restores_congestion(tch->setup.helper))
		can |= TCH_CAN_CONGESTION;
	return can;
}

bool handoff_can(const struct handoff *handoff, enum tch_kind_of_handoff kind)
{
	return handoff->capabilities & 1u << kind;
}

static void send_capabilities(struct handoff *handoff, enum tch_kind kind, unsigned int capabilities)
{
	uint8_t options[TCH_CAPABILITIES_BYTES];
	int len = tch_capabilities_encode(capabilities, options);

	handoff_send_options(handoff, kind, options, (size_t)len);
}

/* A first device only reads the congestion window, which is always there: what becomes of it is the second one's business. */
void handoff_send_open(struct handoff *handoff)
{
	uint8_t options[TCH_CAPABILITIES_BYTES + TCH_OPTIONS_MAX];
	int len = tch_capabilities_encode(tch_capabilities(handoff->all) | TCH_CAN_CONGESTION, options);
	int sketch = handoff_sketch(handoff, options + len - 1); /* in the place of the end */

	if (sketch > 0)
		len += sketch - 1;
	else
		options[len - 1] = 0; /* what is wrong will be found when it is frozen */
	handoff_send_options(handoff, TCH_KIND_OPEN, options, (size_t)len);
}

/* @said: out: whether the other device says anything of it */
static int read_capabilities(const struct tch_message *message, unsigned int *theirs, bool *said)
{
	int rc = tch_capabilities_decode(message->options, message->options_len, theirs);

	*said = rc == 0;
	if (rc != -ENOENT)
		return rc;
	*theirs = TCH_CAN_FORMERLY;
	return 0;
}

int handoff_heard_open(struct handoff *handoff, const struct tch_message *message)
{
	unsigned int theirs;
	int rc = read_capabilities(message, &theirs, &handoff->is_negotiated);

	if (rc == 0)
		handoff->capabilities = theirs & tch_capabilities(handoff->all);
	return rc;
}

/* Who did not ask is not told. */
void handoff_send_open_response(struct handoff *handoff)
{
	if (handoff->is_negotiated)
		send_capabilities(handoff, TCH_KIND_OPEN_RESPONSE, handoff->capabilities);
	else
		handoff_send(handoff, TCH_KIND_OPEN_RESPONSE, 0, 0);
}

int handoff_heard_open_response(struct handoff *handoff, const struct tch_message *message)
{
	unsigned int wanted = handoff->is_wanted ? 1u << handoff->machine.kind : TCH_CAN_PREPARE, theirs;
	int rc = read_capabilities(message, &theirs, &handoff->is_negotiated);

	if (rc < 0)
		return rc;
	handoff->capabilities = theirs & (tch_capabilities(handoff->all) | TCH_CAN_CONGESTION);
	return handoff->capabilities & wanted ? 0 : -EOPNOTSUPP;
}

enum tch_event handoff_acknowledged(const struct handoff *handoff, const struct tch_message *message)
{
	bool is_completed = message->flags & TCH_FLAG_END;

	if (!(handoff->capabilities & TCH_CAN_TELL_COMPLETED)) /* it is the answer to what was said last */
		is_completed = handoff->machine.kind == TCH_FULL || handoff->machine.is_completing;
	return is_completed ? TCH_EV_COMPLETE_ACKNOWLEDGMENT : TCH_EV_ACKNOWLEDGMENT;
}

void handoff_leave_out(const struct handoff *handoff, struct kernel_helper_state *state, struct tch_facts *facts)
{
	if (!(handoff->capabilities & TCH_CAN_CONGESTION))
		state->congestion_window = 0;
	if (handoff->capabilities & TCH_CAN_STATISTICS)
		return;
	state->statistics = (struct tcp_statistics){ 0 };
	facts->statistics = state->statistics;
}
