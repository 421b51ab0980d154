/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 *	              connected                        silent for suspect_ms
 *	DOWN ---------------------------------> UP -------------------------> SUSPECT
 *	 ^ ^|                                  ^ |  <------------------------- |  | |
 *	 | ||                                  | |   heard again               |  | |
 *	 | |+-------------------------> HELD_DOWN|   lost                      |  | |
 *	 | |  connected, but it flaps   ^   |  <-|-----------------------------+  | |
 *	 | +----------------------------|---+    |   heard again, but it flaps    | |
 *	 |    lost, silent for down_ms  |        |                                | |
 *	 +------------------------------+--------+--------------------------------+ |
 *	                                |              lost, silent for down_ms     |
 *
 * HELD_DOWN -> UP when the hold is over and the device was heard within suspect_ms.
 *
 * It has *departed* when it leaves UP, and when it is lost while it is held down. It *flaps* when it has departed `flaps` times
 * within flap_window_ms. A hold is counted from when the device is there again: being away does not wear it off. After a
 * hold its departures are forgiven; that there was a hold, only after hold_max_ms.
 */
#include "config.h"

#include "common/member_state.h"

#include "common/log.h"

#include <stdio.h>
#include <string.h>

#define TO(state) (1u << (state))

static const struct {
	const char *name;
	unsigned int to;
} states[MEMBER_NSTATES] = {
	[MEMBER_DOWN] = { "down", TO(MEMBER_UP) | TO(MEMBER_HELD_DOWN) },
	[MEMBER_UP] = { "up", TO(MEMBER_SUSPECT) | TO(MEMBER_DOWN) },
	[MEMBER_SUSPECT] = { "suspect", TO(MEMBER_UP) | TO(MEMBER_HELD_DOWN) | TO(MEMBER_DOWN) },
	[MEMBER_HELD_DOWN] = { "held down", TO(MEMBER_UP) | TO(MEMBER_DOWN) },
};

const char *member_state_name(enum member_state state)
{
	return states[state].name;
}

static void member_move(struct member_life *life, enum member_state next, uint64_t now_ms)
{
	if (BUG_IF(!(states[life->state].to & TO(next))))
		return;
	life->state = next;
	life->since_ms = now_ms;
	life->changes++;
}

#define SAY(life, ...) snprintf((life)->reason, sizeof((life)->reason), __VA_ARGS__)

static void note_departure(struct member_life *life, uint64_t now_ms)
{
	life->departed_ms[life->departures++ % MEMBER_FLAPS_MAX] = now_ms;
}

/* Departures that count against it now. */
static unsigned int count_flaps(const struct member_life *life, const struct member_limits *limits, uint64_t now_ms)
{
	unsigned int known = life->departures - life->counted, flaps = 0;

	if (known > MEMBER_FLAPS_MAX)
		known = MEMBER_FLAPS_MAX;
	for (unsigned int i = 1; i <= known; i++)
		flaps += now_ms - life->departed_ms[(life->departures - i) % MEMBER_FLAPS_MAX] < limits->flap_window_ms;
	return flaps;
}

static unsigned int next_hold_ms(const struct member_life *life, const struct member_limits *limits, uint64_t now_ms)
{
	if (!life->last_hold_ms || now_ms >= life->hold_until_ms + limits->hold_max_ms)
		return limits->hold_ms;
	return life->last_hold_ms > limits->hold_max_ms / 2 ? limits->hold_max_ms : 2 * life->last_hold_ms;
}

static void begin_hold(struct member_life *life, const struct member_limits *limits, unsigned int flaps, uint64_t now_ms)
{
	life->last_hold_ms = next_hold_ms(life, limits, now_ms);
	life->hold_until_ms = now_ms + life->last_hold_ms;
	SAY(life, "it went %u times within %u ms; for %u ms it gets no new work", flaps, limits->flap_window_ms,
	    life->last_hold_ms);
	member_move(life, MEMBER_HELD_DOWN, now_ms);
}

/* It is there (again). Who was lost in a hold is held anew. */
static void come_back(struct member_life *life, const struct member_limits *limits, enum member_event event, uint64_t now_ms)
{
	unsigned int flaps = count_flaps(life, limits, now_ms);

	if (limits->flaps && (flaps >= limits->flaps || now_ms < life->hold_until_ms)) {
		begin_hold(life, limits, flaps, now_ms);
		return;
	}
	if (event == MEMBER_EV_CONNECTED)
		SAY(life, "connected");
	else
		SAY(life, "heard again after %ju ms", (uintmax_t)(now_ms - life->heard_ms));
	member_move(life, MEMBER_UP, now_ms);
}

static void be_lost(struct member_life *life, uint64_t now_ms, const char *why)
{
	if (life->state == MEMBER_UP || life->state == MEMBER_HELD_DOWN)
		note_departure(life, now_ms);
	SAY(life, "%s", why);
	member_move(life, MEMBER_DOWN, now_ms);
}

static void be_suspect(struct member_life *life, uint64_t now_ms)
{
	note_departure(life, now_ms);
	SAY(life, "silent for %ju ms", (uintmax_t)(now_ms - life->heard_ms));
	member_move(life, MEMBER_SUSPECT, now_ms);
}

static void end_hold(struct member_life *life, uint64_t now_ms)
{
	life->counted = life->departures;
	SAY(life, "steady for %ju ms", (uintmax_t)(now_ms - life->since_ms));
	member_move(life, MEMBER_UP, now_ms);
}

static void tick(struct member_life *life, const struct member_limits *limits, uint64_t now_ms)
{
	uint64_t silence_ms = now_ms - life->heard_ms;
	char why[MEMBER_REASON_MAX];

	switch (life->state) {
	case MEMBER_UP:
	case MEMBER_SUSPECT:
	case MEMBER_HELD_DOWN:
		if (silence_ms >= limits->down_ms) {
			snprintf(why, sizeof(why), "silent for %ju ms", (uintmax_t)silence_ms);
			be_lost(life, now_ms, why);
		} else if (life->state == MEMBER_UP && silence_ms >= limits->suspect_ms) {
			be_suspect(life, now_ms);
		} else if (life->state == MEMBER_HELD_DOWN && now_ms >= life->hold_until_ms &&
			   silence_ms < limits->suspect_ms) {
			end_hold(life, now_ms);
		}
		break;
	case MEMBER_DOWN:
	case MEMBER_NSTATES:
		break; /* being away longer changes nothing */
	}
}

static void hear(struct member_life *life, const struct member_limits *limits, enum member_event event, uint64_t now_ms)
{
	/* In the other two it is as it was: a hold ends by the clock. */
	if (life->state == MEMBER_SUSPECT || life->state == MEMBER_DOWN)
		come_back(life, limits, event, now_ms);
	life->heard_ms = now_ms;
}

/* What was sent to us while we stood still is still to be read. */
static void forgive_our_own_pause(struct member_life *life, uint64_t now_ms)
{
	uint64_t last_ms = life->ticked_ms > life->heard_ms ? life->ticked_ms : life->heard_ms;

	if (life->is_connected && now_ms - last_ms > MEMBER_LATE_MS)
		life->heard_ms += now_ms - last_ms;
}

bool member_step(struct member_life *life, const struct member_limits *limits, enum member_event event, uint64_t now_ms,
		 const char *why)
{
	uint64_t changes = life->changes;

	switch (event) {
	case MEMBER_EV_CONNECTED:
		life->is_connected = true;
		life->ticked_ms = now_ms;
		hear(life, limits, event, now_ms);
		break;
	case MEMBER_EV_BEAT:
		if (life->is_connected) /* else it is an echo of a session that has ended */
			hear(life, limits, event, now_ms);
		break;
	case MEMBER_EV_LOST:
		life->is_connected = false;
		if (life->state != MEMBER_DOWN)
			be_lost(life, now_ms, why);
		break;
	case MEMBER_EV_TICK:
		forgive_our_own_pause(life, now_ms);
		life->ticked_ms = now_ms;
		tick(life, limits, now_ms);
		break;
	case MEMBER_NEVENTS:
		break;
	}
	return life->changes != changes;
}
