/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/conn_memory.h"

#include "common/log.h"
#include "common/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
	PART = 4,		 /* a connection may hold one part in so many of what is left */
	IDLE_LOOKS = 16,	 /* connections among which one that was idle for long is looked for */
	TICKS_BETWEEN_LINES = 240, /* a minute */
	NEWCOMERS_BYTES = CONN_MEMORY_TURN,
};

TAILQ_HEAD(conn_holder_list, conn_holder);

struct conn_memory {
	struct loop *loop;
	size_t bound; /* but for turns and newcomers */
	unsigned int turns_max;
	struct conn_memory_counters counters;
	struct conn_holder_list all, turns;
	struct conn_holder_list known, strangers; /* who wait */
	size_t count, turn_count;
	size_t orphans;	  /* calls */
	bool is_freed;	  /* by its owner */
	unsigned int turn; /* counts those given, for who has the next */
	struct event *on_tick, *on_room;
	unsigned int ticks_since_line;
	uint64_t closed_in_line; /* counters.closed, as the last line said */
};

static size_t turns_bytes(const struct conn_memory *memory)
{
	return (size_t)memory->turns_max * CONN_MEMORY_TURN;
}

static size_t set_aside(size_t held)
{
	return CONN_MEMORY_FIXED + (held > CONN_MEMORY_EACH ? held : CONN_MEMORY_EACH);
}

/* Enough is held that those who don't let go are looked for. */
static bool is_tight(const struct conn_memory *memory)
{
	return memory->counters.held > memory->bound - memory->bound / 4;
}

static void watch(struct conn_memory *memory)
{
	static const struct timeval tick = { .tv_usec = CONN_MEMORY_TICK_MS * 1000 };

	if (!evtimer_pending(memory->on_tick, NULL))
		evtimer_add(memory->on_tick, &tick);
}

/* What those who have a turn may still take. */
static size_t promised(const struct conn_memory *memory)
{
	const struct conn_holder *holder;
	size_t sum = 0;

	TAILQ_FOREACH(holder, &memory->turns, wait)
		if (!holder->is_used && holder->held < holder->turn_limit)
			sum += holder->turn_limit - holder->held;
	return sum;
}

/* The first one needs no room, but that calls whose connections have gone end: else it would not be the last. */
static bool has_turn_to_give(const struct conn_memory *memory)
{
	if (TAILQ_EMPTY(&memory->known) && TAILQ_EMPTY(&memory->strangers))
		return false;
	if (memory->turn_count == 0 && memory->orphans == 0)
		return true;
	return memory->counters.held + promised(memory) + CONN_MEMORY_TURN <= memory->bound + turns_bytes(memory);
}

/* Not at once: whoever has given room is in the middle of something. */
static void give_turns_soon(struct conn_memory *memory)
{
	if (has_turn_to_give(memory) && !evtimer_pending(memory->on_room, NULL))
		evtimer_add(memory->on_room, &(struct timeval){ 0 });
}

static void charge(struct conn_memory *memory, size_t more, size_t less)
{
	struct conn_memory_counters *counters = &memory->counters;

	counters->held += more;
	counters->held -= less;
	if (counters->held > counters->most)
		counters->most = counters->held;
	if (less > more)
		give_turns_soon(memory);
	else if (is_tight(memory))
		watch(memory);
}

/* Turns */

static void leave_list(struct conn_holder *holder)
{
	struct conn_memory *memory = holder->memory;

	if (holder->state == CONN_HOLDER_WAITS) {
		TAILQ_REMOVE(holder->waits_in, holder, wait);
	} else if (holder->state == CONN_HOLDER_HAS_TURN) {
		TAILQ_REMOVE(&memory->turns, holder, wait);
		memory->turn_count--;
		give_turns_soon(memory);
	}
	holder->state = CONN_HOLDER_GOES;
}

static void give_turn(struct conn_holder *holder)
{
	struct conn_memory *memory = holder->memory;

	leave_list(holder);
	holder->state = CONN_HOLDER_HAS_TURN;
	TAILQ_INSERT_TAIL(&memory->turns, holder, wait);
	memory->turn_count++;
	memory->counters.turns++;
	holder->turn_limit = holder->held + CONN_MEMORY_TURN;
	holder->turn_ticks = 0;
	holder->is_denied = holder->is_used = false;
	watch(memory);
	holder->functions->on_turn(holder);
}

/*
 * One whose client has taken answers before, then another one: a crowd that only waits to waste its turns is no queue that an honest
 * client has to stand in to its end. Of the others the one that has waited longest, then the one that has come last, for
 * the same reason.
 */
static struct conn_holder *next_in_turn(struct conn_memory *memory)
{
	unsigned int turn = memory->turn++;

	if (TAILQ_EMPTY(&memory->strangers) || (turn % 2 == 0 && !TAILQ_EMPTY(&memory->known)))
		return TAILQ_FIRST(&memory->known);
	return turn % 4 < 2 ? TAILQ_FIRST(&memory->strangers) : TAILQ_LAST(&memory->strangers, conn_holder_list);
}

static void on_room(evutil_socket_t fd, short what, void *arg)
{
	struct conn_memory *memory = arg;

	(void)fd, (void)what;
	loop_enter(memory->loop);
	for (unsigned int i = 0; i < memory->turns_max && has_turn_to_give(memory); i++)
		give_turn(next_in_turn(memory));
	give_turns_soon(memory);
	loop_leave(memory->loop);
}

static size_t limit_without_turn(const struct conn_holder *holder)
{
	const struct conn_memory *memory = holder->memory;
	size_t held = memory->counters.held, part = held < memory->bound ? (memory->bound - held) / PART : 0;

	return part > CONN_MEMORY_EACH ? part : CONN_MEMORY_EACH;
}

bool conn_memory_has(const struct conn_holder *holder, size_t more)
{
	bool has_turn = holder->state == CONN_HOLDER_HAS_TURN && !holder->is_used;

	return holder->held + more <= limit_without_turn(holder) ||
	       (has_turn && holder->held + more <= holder->turn_limit);
}

bool conn_memory_ask(struct conn_holder *holder, size_t more, bool is_idle)
{
	if (conn_memory_has(holder, more)) {
		if (holder->state == CONN_HOLDER_WAITS)
			leave_list(holder);
		return true;
	}
	if (holder->state == CONN_HOLDER_HAS_TURN && holder->is_used && is_idle)
		leave_list(holder); /* the turn is over */
	if (!holder->is_denied)
		holder->memory->counters.waited++;
	holder->is_denied = true;
	if (is_idle && holder->state == CONN_HOLDER_GOES) {
		holder->state = CONN_HOLDER_WAITS;
		holder->waits_in = holder->is_known ? &holder->memory->known : &holder->memory->strangers;
		TAILQ_INSERT_TAIL(holder->waits_in, holder, wait);
		watch(holder->memory);
		give_turns_soon(holder->memory);
	}
	return false;
}

size_t conn_memory_spare(const struct conn_holder *holder)
{
	size_t limit = limit_without_turn(holder);

	if (holder->held < limit)
		return limit - holder->held;
	return holder->state == CONN_HOLDER_HAS_TURN && !holder->is_used ? CONN_MEMORY_EACH : 0;
}

void conn_memory_rest(struct conn_holder *holder, bool is_idle)
{
	if ((is_idle && holder->held <= CONN_MEMORY_EACH) ||
	    (holder->is_used && holder->held <= limit_without_turn(holder)))
		leave_list(holder);
}

void conn_memory_pause(struct conn_holder *holder)
{
	leave_list(holder);
	holder->is_denied = false;
}

/* Holding */

void conn_memory_hold_more(struct conn_holder *holder, size_t held)
{
	size_t before = holder->held;

	if (held == before)
		return;
	if (before <= CONN_MEMORY_EACH && held > CONN_MEMORY_EACH)
		holder->ticks = 0;
	if (held < before && holder->state != CONN_HOLDER_WAITS)
		holder->is_denied = false;
	holder->held = held;
	charge(holder->memory, set_aside(held), set_aside(before));
}

void conn_memory_orphan(struct conn_memory *memory, size_t held)
{
	memory->orphans++;
	charge(memory, held, 0);
}

static void free_if_alone(struct conn_memory *memory)
{
	if (memory->is_freed && !memory->orphans)
		free(memory);
}

void conn_memory_bury(struct conn_memory *memory, size_t held)
{
	memory->orphans--;
	if (memory->is_freed)
		free_if_alone(memory);
	else
		charge(memory, 0, held);
}

/* Those who don't let go */

static bool close_stalled(struct conn_holder *holder)
{
	struct conn_memory *memory = holder->memory;

	if (!holder->functions->on_stalled(holder))
		return false;
	memory->counters.closed++;
	return true;
}

static bool is_stalled(const struct conn_holder *holder)
{
	return holder->state != CONN_HOLDER_HAS_TURN && holder->held > CONN_MEMORY_EACH &&
	       holder->ticks >= CONN_MEMORY_STALL_TICKS;
}

/* Of the stalled, those who hold no less than they do on the average, until it is enough; the others at the next ticks. */
static void close_greatest(struct conn_memory *memory)
{
	struct conn_holder *holder, *next;
	size_t held = 0, count = 0;

	TAILQ_FOREACH(holder, &memory->all, link) {
		if (is_stalled(holder)) {
			held += holder->held;
			count++;
		}
	}
	for (holder = TAILQ_FIRST(&memory->all); holder && count && is_tight(memory); holder = next) {
		next = TAILQ_NEXT(holder, link);
		if (is_stalled(holder) && holder->held >= held / count)
			close_stalled(holder);
	}
}

static void end_turns(struct conn_memory *memory)
{
	struct conn_holder *holder, *next;

	for (holder = TAILQ_FIRST(&memory->turns); holder; holder = next) {
		next = TAILQ_NEXT(holder, wait);
		if (++holder->turn_ticks >= CONN_MEMORY_TURN_TICKS)
			close_stalled(holder);
	}
}

/* At once, then once a minute. */
static void log_closed(struct conn_memory *memory)
{
	const struct conn_memory_counters *counters = &memory->counters;

	if (memory->ticks_since_line < TICKS_BETWEEN_LINES)
		memory->ticks_since_line++;
	if (memory->ticks_since_line < TICKS_BETWEEN_LINES || counters->closed == memory->closed_in_line)
		return;
	log_warn("conn", "closed=%" PRIu64 " connections that held much and did not go on; connections=%zu held=%" PRIu64
		 " bound=%zu: nasctl counters tells how it goes on", counters->closed - memory->closed_in_line,
		 memory->count, counters->held, memory->bound);
	memory->ticks_since_line = 0;
	memory->closed_in_line = counters->closed;
}

void conn_memory_tick(struct conn_memory *memory)
{
	struct conn_holder *holder;

	TAILQ_FOREACH(holder, &memory->all, link)
		holder->ticks += holder->state != CONN_HOLDER_WAITS; /* that is our fault, not its client's */
	end_turns(memory);
	if (is_tight(memory))
		close_greatest(memory);
	log_closed(memory);
	give_turns_soon(memory);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct conn_memory *memory = arg;

	(void)fd, (void)what;
	loop_enter(memory->loop);
	conn_memory_tick(memory);
	if (is_tight(memory) || memory->turn_count || !TAILQ_EMPTY(&memory->known) || !TAILQ_EMPTY(&memory->strangers))
		watch(memory);
	loop_leave(memory->loop);
}

/* Coming and going */

/* One of the next few in the list, which goes round. */
static struct conn_holder *longest_idle(struct conn_memory *memory)
{
	struct conn_holder *found = NULL;

	for (int i = 0; i < IDLE_LOOKS && !TAILQ_EMPTY(&memory->all); i++) {
		struct conn_holder *holder = TAILQ_FIRST(&memory->all);

		TAILQ_REMOVE(&memory->all, holder, link);
		TAILQ_INSERT_TAIL(&memory->all, holder, link);
		if (!found || holder->ticks > found->ticks)
			found = holder;
	}
	return found;
}

bool conn_memory_admits(struct conn_memory *memory)
{
	struct conn_holder *idle;

	if (memory->count * set_aside(0) <= memory->bound - memory->bound / 4 &&
	    memory->counters.held + set_aside(0) <= memory->bound + turns_bytes(memory) + NEWCOMERS_BYTES)
		return true;
	idle = longest_idle(memory);
	if (idle && close_stalled(idle))
		return true;
	memory->counters.refused++;
	return false;
}

void conn_memory_join(struct conn_memory *memory, struct conn_holder *holder,
		      const struct conn_holder_functions *functions)
{
	*holder = (struct conn_holder){ .memory = memory, .functions = functions };
	TAILQ_INSERT_TAIL(&memory->all, holder, link);
	memory->count++;
	charge(memory, set_aside(0), 0);
}

void conn_memory_leave(struct conn_holder *holder)
{
	struct conn_memory *memory = holder->memory;

	leave_list(holder);
	TAILQ_REMOVE(&memory->all, holder, link);
	memory->count--;
	charge(memory, 0, set_aside(holder->held));
}

struct conn_memory *conn_memory_new(struct event_base *base, struct loop *loop, size_t bound, unsigned int turns)
{
	struct conn_memory *memory = calloc(1, sizeof(*memory));
	size_t least = conn_memory_min(turns);

	if (!memory)
		return NULL;
	memory->loop = loop;
	memory->turns_max = turns;
	TAILQ_INIT(&memory->all);
	TAILQ_INIT(&memory->known);
	TAILQ_INIT(&memory->strangers);
	TAILQ_INIT(&memory->turns);
	memory->bound = (bound < least ? least : bound) - turns_bytes(memory) - NEWCOMERS_BYTES;
	memory->ticks_since_line = TICKS_BETWEEN_LINES;
	memory->on_tick = evtimer_new(base, on_tick, memory);
	memory->on_room = evtimer_new(base, on_room, memory);
	if (!memory->on_tick || !memory->on_room) {
		conn_memory_free(memory);
		return NULL;
	}
	return memory;
}

void conn_memory_free(struct conn_memory *memory)
{
	if (!memory)
		return;
	BUG_IF(memory->count != 0);
	if (memory->on_tick)
		event_free(memory->on_tick);
	if (memory->on_room)
		event_free(memory->on_room);
	memory->is_freed = true;
	free_if_alone(memory);
}

const struct conn_memory_counters *conn_memory_counters(const struct conn_memory *memory)
{
	return &memory->counters;
}
