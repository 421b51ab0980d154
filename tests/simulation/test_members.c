/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, there is an order of events after which a slave serves by a name space that the master does not have, a node that is
 * well gets no work, or one that is gone gets some.
 *
 * A master and up to 200 slaves in one process, with simulated time. Real: common/member_state.c, common/namespace.c, common/replica.c,
 * common/clock_offset.c, scp/backoff.c, on both sides. Simulated: sessions between the two, which delay messages, keep their order, lose
 * them with the session, and are found to be gone at once or by silence; daemons that stop, start, stand still; links that are cut; wall
 * clocks that jump; a master that comes back with the name space of an earlier time; changes that are lost for want of memory.
 *
 * Each run has a seed of its own, which is printed when it fails: SEED=N repeats it alone. RUNS (default 1000) says how many there are.
 *
 * Each check has been seen to fail:
 *
 *	planted bug						found by
 *	replica_change() does not look at is_in_step		IN_HISTORY
 *	replica_connected() leaves is_in_step			IN_HISTORY
 *	namespace_apply() takes what does not follow		IN_HISTORY
 *	replica_beat() never asks, ask() asks for nothing	IN_STEP
 *	tick() never ends, never suspects			SILENT_IS_DOWN
 *	tick() ends after down_ms / 5, suspects too early	BEATING_IS_UP
 *	hear() does not bring back a suspect			BEATING_IS_UP
 *	forgive_our_own_pause() does nothing			BEATING_IS_UP
 *	tick() never ends a hold, holds grow without bound	HOLD_ENDS
 *	member_step() does not tell of SUSPECT, or tells of LOST twice	ONE_LINE
 *	clock_offset_note() never forgets			CLOCK_IS_KNOWN
 *	backoff_next() goes on beyond its maximum		COMES_BACK
 */
#include "config.h"

#include "common/clock_offset.h"
#include "common/member_state.h"
#include "common/namespace.h"
#include "common/replica.h"
#include "scp/backoff.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SLAVES_MAX = 200,
	EXPORTS = 6,
	BEAT_MS = 1000,
	RUN_MS = 40000,	    /* so long things happen */
	CALM_MS = 40000,    /* then all has to be well again */
	DELAY_MAX_MS = 40,
	SLACK_MS = 2 * MEMBER_TICK_MS + 4 * DELAY_MAX_MS,
	CONTACT_MS = BEAT_MS + SLACK_MS,
	HISTORIES_MAX = 64,
	REVISIONS_MAX = 512,
	TEXT_MAX = 24,
};

static const struct member_limits limits = {
	.suspect_ms = 2500, .down_ms = 5000, .flaps = 3, .flap_window_ms = 20000, .hold_ms = 4000, .hold_max_ms = 16000
};

static unsigned long long seed, dice;
static uint64_t now_ms;

#define CHECK(name, what)                                                                                           \
	do {                                                                                                        \
		if (!(what)) {                                                                                      \
			fprintf(stderr, "SEED=%llu, at %ju ms: %s:%d: %s: not true: %s\n", seed, (uintmax_t)now_ms, \
				__FILE__, __LINE__, #name, #what);                                                  \
			abort();                                                                                    \
		}                                                                                                   \
	} while (0)

static unsigned int draw(unsigned int below)
{
	dice = dice * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(dice >> 33) % below;
}

static bool chance(unsigned int permille) { return draw(1000) < permille; }

/* What will happen: a heap by time, then by order */

enum kind {
	MASTER_BEATS, SLAVE_BEATS, MASTER_TICKS, SLAVE_TICKS, SLAVE_CONNECTS, UP_AT_MASTER, UP_AT_SLAVE, GONE_AT_MASTER, GONE_AT_SLAVE,
	BEAT_AT_MASTER, BEAT_AT_SLAVE, TIME_AT_SLAVE, SNAPSHOT_AT_SLAVE, CHANGE_AT_SLAVE, ASKED_AT_MASTER, FAULT, FAULT_ENDS
};

/* What travels: shared by all whom it is sent to. */
struct bytes {
	unsigned int users;
	size_t len;
	uint8_t *data;
};

struct event {
	uint64_t due_ms, order;
	enum kind kind;
	int slave;
	unsigned int session; /* that it belongs to */
	uint64_t value;	      /* revision; fault */
	struct bytes *bytes;
	struct clock_exchange exchange;
};

static struct event *heap;
static size_t heap_len, heap_size;
static uint64_t order;

static bool is_before(const struct event *a, const struct event *b)
{
	return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void push(struct event event)
{
	size_t at = heap_len++;

	if (heap_len > heap_size) {
		heap_size = heap_size ? 2 * heap_size : 4096;
		heap = realloc(heap, heap_size * sizeof(*heap));
		CHECK(MEMORY, heap);
	}
	event.order = order++;
	for (; at && is_before(&event, &heap[(at - 1) / 2]); at = (at - 1) / 2)
		heap[at] = heap[(at - 1) / 2];
	heap[at] = event;
}

static struct event pop(void)
{
	struct event first = heap[0], last = heap[--heap_len];
	size_t at = 0, child;

	while ((child = 2 * at + 1) < heap_len) {
		child += child + 1 < heap_len && is_before(&heap[child + 1], &heap[child]);
		if (!is_before(&heap[child], &last))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
	return first;
}

static void put_bytes(struct bytes *bytes)
{
	if (bytes && --bytes->users == 0) {
		free(bytes->data);
		free(bytes);
	}
}

/* Takes @data. */
static struct bytes *new_bytes(uint8_t *data, size_t len)
{
	struct bytes *bytes = malloc(sizeof(*bytes));

	CHECK(MEMORY, bytes);
	*bytes = (struct bytes){ .users = 1, .len = len, .data = data };
	return bytes;
}

/* The cluster */

/* One device's view of another, and what is true. */
struct view {
	struct member_life life;
	bool is_connected;
	uint64_t heard_ms, up_ms;
	uint64_t well_ms; /* since then something was heard at least every suspect_ms, by somebody who listens */
	unsigned int lines;
	enum member_state last;
};

/* When the one who judges fell asleep for the last time, and awoke: what is said meanwhile waits to be read. */
struct sleep {
	uint64_t from_ms, until_ms;
};

struct slave {
	struct namespace *ns;
	struct replica replica;
	struct view of_master, at_master;
	bool is_running, is_paused, is_cut;
	unsigned int session; /* grows; what belongs to another one is lost */
	bool is_open;	      /* there is a session, or it is under way */
	uint64_t to_master_ms, to_slave_ms; /* order on the link */
	unsigned int backoff_ms;
	uint64_t reachable_ms; /* since then nothing is in its way to the master */
	uint64_t contact_ms;   /* since then nothing is between the two sides of the session */
	uint64_t digest;
	unsigned int history;
	struct sleep sleep;
	int64_t wall_ahead_ns;
	struct clock_offset offset;
	uint64_t steady_clock_ms; /* neither clock has jumped since */
};

static struct slave slaves[SLAVES_MAX];
static int slave_count;

static struct {
	struct namespace *ns;
	bool is_running, is_paused;
	struct sleep sleep;
	unsigned int history; /* changes with each return from a backup */
	uint8_t *backup;
	size_t backup_len;
	int64_t wall_ahead_ns;
} master;

/* What the master has had, by history and revision: 0 is what never was. */
static uint64_t digests[HISTORIES_MAX][REVISIONS_MAX];
static uint64_t revision_was[8]; /* the master's, of the last steps of CONTACT_MS / 4 */

static struct {
	unsigned long runs, changes, snapshots, asked, lost, faults, held, jumps;
} sums;

static uint64_t digest_of(const struct namespace *ns)
{
	uint64_t digest = 14695981039346656037ull;
	const ns_export *export;

	for (size_t at = 0; (export = namespace_next_export(ns, &at));)
		for (const char *p = export->clients; *p; p++)
			digest = (digest ^ (uint8_t)*p) * 1099511628211ull;
	return digest ? digest : 1;
}

static unsigned int delay(void) { return 1 + draw(DELAY_MAX_MS); }

static bool is_link_open(const struct slave *slave) { return !slave->is_cut && slave->is_running && master.is_running; }

/* A cut link keeps nothing back for later: TCP would, but by then silence has ended the session, or it goes on as a delay. */
static void post(int i, bool to_master, struct event event)
{
	struct slave *slave = &slaves[i];
	uint64_t *last_ms = to_master ? &slave->to_master_ms : &slave->to_slave_ms;

	event.slave = i;
	event.session = slave->session;
	event.due_ms = now_ms + delay();
	if (event.due_ms < *last_ms)
		event.due_ms = *last_ms;
	*last_ms = event.due_ms;
	push(event);
}

static void at(uint64_t due_ms, enum kind kind, int slave)
{
	push((struct event){ .due_ms = due_ms, .kind = kind, .slave = slave, .session = slaves[slave].session });
}

/* The judgement of members, as slave/members.c feeds it */

static void step(struct view *view, enum member_event event, const char *why)
{
	enum member_state last = view->life.state;
	bool is_told;

	view->life.reason[0] = '\0';
	is_told = member_step(&view->life, &limits, event, now_ms, why);
	view->lines += is_told;
	CHECK(ONE_LINE, is_told == (view->life.state != last));
	CHECK(ONE_LINE, is_told == (view->life.reason[0] != '\0'));
	sums.held += is_told && view->life.state == MEMBER_HELD_DOWN;
}

static void hear(struct view *view)
{
	if (now_ms - view->heard_ms >= limits.suspect_ms)
		view->well_ms = now_ms;
	view->heard_ms = now_ms;
	step(view, MEMBER_EV_BEAT, NULL);
}

static void connect_view(struct view *view)
{
	view->is_connected = true;
	view->heard_ms = view->up_ms = view->well_ms = now_ms;
	step(view, MEMBER_EV_CONNECTED, NULL);
	CHECK(BEATING_IS_UP, view->life.state == MEMBER_UP || view->life.state == MEMBER_HELD_DOWN);
}

static void lose_view(struct view *view, const char *why)
{
	view->is_connected = false;
	step(view, MEMBER_EV_LOST, why);
	CHECK(SILENT_IS_DOWN, view->life.state == MEMBER_DOWN);
}

static uint64_t silence_while_awake_ms(const struct view *view, const struct sleep *sleep)
{
	if (view->heard_ms >= sleep->until_ms)
		return now_ms - view->heard_ms;
	return now_ms - sleep->until_ms + (sleep->from_ms > view->heard_ms ? sleep->from_ms - view->heard_ms : 0);
}

static void check_view(const struct view *view, const struct sleep *sleep)
{
	uint64_t awake_ms = sleep->until_ms, silence_from_ms = view->heard_ms > awake_ms ? view->heard_ms : awake_ms;
	enum member_state state = view->life.state;

	if (!view->is_connected) {
		CHECK(SILENT_IS_DOWN, state == MEMBER_DOWN);
		return;
	}
	if (now_ms - silence_from_ms > limits.down_ms + SLACK_MS)
		CHECK(SILENT_IS_DOWN, state == MEMBER_DOWN);
	if (now_ms - silence_from_ms > limits.suspect_ms + SLACK_MS)
		CHECK(SILENT_IS_DOWN, state != MEMBER_UP);
	if (silence_while_awake_ms(view, sleep) + MEMBER_LATE_MS + SLACK_MS < limits.suspect_ms)
		CHECK(BEATING_IS_UP, state == MEMBER_UP || state == MEMBER_HELD_DOWN);
	if (now_ms - view->heard_ms < limits.suspect_ms - SLACK_MS)
		CHECK(BEATING_IS_UP, state == MEMBER_UP || state == MEMBER_HELD_DOWN);
	if (now_ms - view->well_ms > limits.hold_max_ms + SLACK_MS && now_ms - view->heard_ms < limits.suspect_ms - SLACK_MS &&
	    now_ms - awake_ms > limits.hold_max_ms + SLACK_MS)
		CHECK(HOLD_ENDS, state == MEMBER_UP);
}

/* Sessions */

static void end_session(int i)
{
	struct slave *slave = &slaves[i];

	slave->session++;
	slave->is_open = false;
	slave->contact_ms = UINT64_MAX;
	slave->to_master_ms = slave->to_slave_ms = 0;
}

static void retry(int i)
{
	at(now_ms + backoff_next(&slaves[i].backoff_ms, draw(1u << 31)), SLAVE_CONNECTS, i);
}

/* One side closes; the other one hears of it, or, if it can't, finds out by silence. */
static void close_from(int i, bool by_master, const char *why)
{
	struct slave *slave = &slaves[i];
	struct view *mine = by_master ? &slave->at_master : &slave->of_master;
	struct view *other = by_master ? &slave->of_master : &slave->at_master;

	if (mine->is_connected)
		lose_view(mine, why);
	end_session(i);
	if (other->is_connected && !slave->is_cut)
		at(now_ms + delay(), by_master ? GONE_AT_SLAVE : GONE_AT_MASTER, i);
	else if (!by_master || !other->is_connected)
		retry(i);
}

static void connect_slave(int i)
{
	struct slave *slave = &slaves[i];

	if (!slave->is_running || slave->is_paused || slave->is_open)
		return;
	if (!is_link_open(slave) || master.is_paused) {
		if (slave->reachable_ms != UINT64_MAX)
			CHECK(COMES_BACK, now_ms < slave->reachable_ms);
		retry(i);
		return;
	}
	if (slave->of_master.is_connected)
		lose_view(&slave->of_master, "replaced");
	slave->session++;
	slave->is_open = true;
	slave->backoff_ms = 0;
	post(i, true, (struct event){ .kind = UP_AT_MASTER });
}

static void send_snapshot(int i)
{
	uint8_t *data;
	size_t len;

	if (chance(20)) { /* no memory */
		slaves[i].contact_ms = UINT64_MAX;
		sums.lost++;
		return;
	}
	CHECK(MEMORY, namespace_snapshot(master.ns, &data, &len) == 0);
	post(i, false, (struct event){ .kind = SNAPSHOT_AT_SLAVE, .value = master.history, .bytes = new_bytes(data, len) });
	sums.snapshots++;
}

static void up_at_master(int i)
{
	struct slave *slave = &slaves[i];

	if (slave->at_master.is_connected)
		lose_view(&slave->at_master, "replaced");
	connect_view(&slave->at_master);
	post(i, false, (struct event){ .kind = UP_AT_SLAVE });
	send_snapshot(i);
}

static void up_at_slave(int i)
{
	connect_view(&slaves[i].of_master);
	replica_connected(&slaves[i].replica);
	clock_offset_forget(&slaves[i].offset);
	slaves[i].steady_clock_ms = now_ms;
}

/* The name space */

static char *text_of(unsigned int number)
{
	static char text[TEXT_MAX];

	snprintf(text, sizeof(text), "h%u(rw)", number);
	return text;
}

static void change(void)
{
	ns_change change = { .operation = NS_PUT, .revision = namespace_revision(master.ns) + 1 };
	char path[TEXT_MAX];
	uint8_t *data = malloc(512);
	struct bytes *bytes;
	XDR xdr;

	CHECK(MEMORY, data);
	change.item.kind = NS_EXPORT;
	change.item.ns_item_u.export_.id = 1 + draw(EXPORTS);
	snprintf(path, sizeof(path), "/e%u", change.item.ns_item_u.export_.id);
	change.item.ns_item_u.export_.path = path;
	change.item.ns_item_u.export_.clients = text_of(draw(1u << 30));
	if (change.revision >= REVISIONS_MAX) {
		free(data);
		return;
	}
	CHECK(MEMORY, namespace_apply(master.ns, &change) == 0);
	digests[master.history][change.revision] = digest_of(master.ns);
	xdrmem_create(&xdr, (char *)data, 512, XDR_ENCODE);
	CHECK(MEMORY, xdr_ns_change(&xdr, &change));
	bytes = new_bytes(data, xdr_getpos(&xdr));
	for (int i = 0; i < slave_count; i++)
		if (slaves[i].at_master.is_connected && !chance(3)) {
			bytes->users++;
			post(i, false, (struct event){ .kind = CHANGE_AT_SLAVE, .value = master.history, .bytes = bytes });
		} else {
			sums.lost++;
		}
	put_bytes(bytes);
	sums.changes++;
}

static void follow(int i, enum replica_next next)
{
	struct slave *slave = &slaves[i];

	if (next == REPLICA_ASK) {
		post(i, true, (struct event){ .kind = ASKED_AT_MASTER });
		sums.asked++;
	}
	if (next == REPLICA_CHANGED)
		slave->digest = digest_of(slave->ns);
}

static void snapshot_at_slave(const struct event *event)
{
	struct slave *slave = &slaves[event->slave];
	enum replica_next next = REPLICA_NOTHING;

	CHECK(IN_HISTORY, replica_snapshot(&slave->replica, event->bytes->data, event->bytes->len, &next) == 0);
	follow(event->slave, next);
	slave->history = (unsigned int)event->value;
	if (slave->contact_ms == UINT64_MAX)
		slave->contact_ms = now_ms;
	CHECK(IN_HISTORY, slave->digest == digests[slave->history][namespace_revision(slave->ns)]);
}

/* One after the other, all of one history. */
static void change_at_slave(const struct event *event)
{
	struct slave *slave = &slaves[event->slave];
	uint64_t before = namespace_revision(slave->ns);
	enum replica_next next = replica_change(&slave->replica, event->bytes->data, event->bytes->len);

	follow(event->slave, next);
	if (next != REPLICA_CHANGED)
		return;
	CHECK(IN_HISTORY, slave->history == event->value);
	CHECK(IN_HISTORY, namespace_revision(slave->ns) == before + 1);
	CHECK(IN_HISTORY, slave->digest == digests[slave->history][before + 1]);
}

static void check_contact(const struct slave *slave)
{
	if (slave->is_paused || slave->contact_ms == UINT64_MAX || now_ms - slave->contact_ms < CONTACT_MS || now_ms - slave->sleep.until_ms < CONTACT_MS ||
	    now_ms - master.sleep.until_ms < CONTACT_MS)
		return;
	CHECK(IN_STEP, slave->history == master.history);
	CHECK(IN_STEP, namespace_revision(slave->ns) >= revision_was[7]);
	CHECK(IN_STEP, slave->digest == digests[slave->history][namespace_revision(slave->ns)]);
}

/* Clocks */

static uint64_t wall_ns(int64_t ahead_ns, uint64_t at_ms)
{
	return 1795000000ull * 1000000000 + (uint64_t)ahead_ns + at_ms * 1000000;
}

/* The question leaves now; the answer comes back with what the master's clock says on the way. */
static void ask_time(int i)
{
	struct slave *slave = &slaves[i];
	uint64_t there_ms = now_ms + 1 + draw(5), back_ms = there_ms + 1 + draw(5);
	struct event event = { .due_ms = back_ms, .kind = TIME_AT_SLAVE, .slave = i, .session = slave->session };

	event.exchange = (struct clock_exchange){
		.originate_ns = wall_ns(slave->wall_ahead_ns, now_ms),
		.receive_ns = wall_ns(master.wall_ahead_ns, there_ms),
		.transmit_ns = wall_ns(master.wall_ahead_ns, there_ms),
		.asked_monotonic_ns = now_ms * 1000000,
	};
	push(event);
}

static void time_at_slave(struct event *event)
{
	struct slave *slave = &slaves[event->slave];
	struct clock_sample best;
	int64_t error_ns;

	event->exchange.destination_ns = wall_ns(slave->wall_ahead_ns, now_ms);
	event->exchange.answered_monotonic_ns = now_ms * 1000000;
	clock_offset_note(&slave->offset, &event->exchange);
	if (!clock_offset_best(&slave->offset, &best) || now_ms - slave->steady_clock_ms < 2 * BEAT_MS)
		return;
	error_ns = best.offset_ns - (slave->wall_ahead_ns - master.wall_ahead_ns);
	CHECK(CLOCK_IS_KNOWN, (uint64_t)llabs(error_ns) <= best.delay_ns / 2 + CLOCK_OFFSET_SLACK_NS);
}

static void jump(int64_t *ahead_ns)
{
	static const int64_t jumps_s[] = { 3600, -3600, 1, -1, 86400 };

	*ahead_ns += jumps_s[draw(5)] * 1000000000;
	sums.jumps++;
}

/* Daemons */

static void start_slave(int i)
{
	struct slave *slave = &slaves[i];

	slave->is_running = true;
	slave->sleep = (struct sleep){ now_ms, now_ms };
	memset(&slave->of_master, 0, sizeof(slave->of_master));
	slave->replica = (struct replica){ .ns = slave->ns };
	slave->backoff_ms = 0;
	retry(i);
}

static void stop_slave(int i)
{
	struct slave *slave = &slaves[i];

	if (!slave->is_running)
		return;
	close_from(i, false, "stops");
	slave->is_running = false;
	if (chance(100)) { /* its file was lost */
		namespace_free(slave->ns);
		slave->ns = namespace_new();
		CHECK(MEMORY, slave->ns);
	}
}

static void stop_master(void)
{
	if (!master.is_running)
		return;
	for (int i = 0; i < slave_count; i++)
		close_from(i, true, "stops");
	master.is_running = false;
}

static void start_master(bool from_backup)
{
	master.is_running = true;
	master.sleep = (struct sleep){ now_ms, now_ms };
	for (int i = 0; i < slave_count; i++)
		memset(&slaves[i].at_master, 0, sizeof(slaves[i].at_master));
	if (!from_backup || !master.backup || master.history + 1 >= HISTORIES_MAX)
		return;
	memcpy(digests[master.history + 1], digests[master.history], sizeof(digests[0]));
	master.history++;
	CHECK(MEMORY, namespace_load(master.ns, master.backup, master.backup_len) == 0);
	memset(revision_was, 0, sizeof(revision_was));
	for (uint64_t later = namespace_revision(master.ns) + 1; later < REVISIONS_MAX; later++)
		digests[master.history][later] = 0;
}

enum fault { RESTART_SLAVE, RESTART_MASTER, RESTORE_MASTER, CUT, PAUSE_SLAVE, PAUSE_MASTER, BREAK, BACKUP, JUMP_SLAVE, JUMP_MASTER, CHANGES, FAULTS };

static void end_fault(const struct event *event)
{
	struct slave *slave = &slaves[event->slave];

	switch ((enum fault)event->value) {
	case RESTART_SLAVE:
		if (!slave->is_running)
			start_slave(event->slave);
		break;
	case RESTART_MASTER:
	case RESTORE_MASTER:
		if (!master.is_running)
			start_master(event->value == RESTORE_MASTER);
		break;
	case CUT:
		slave->is_cut = false;
		break;
	case PAUSE_SLAVE:
		if (slave->is_paused)
			slave->sleep.until_ms = now_ms;
		slave->is_paused = false;
		break;
	case PAUSE_MASTER:
		if (master.is_paused)
			master.sleep.until_ms = now_ms;
		master.is_paused = false;
		break;
	default:
		break;
	}
}

static void begin_fault(const struct event *event)
{
	int i = event->slave;
	struct slave *slave = &slaves[i];

	sums.faults++;
	switch ((enum fault)event->value) {
	case RESTART_SLAVE:
		stop_slave(i);
		break;
	case RESTART_MASTER:
	case RESTORE_MASTER:
		stop_master();
		break;
	case CUT:
		slave->is_cut = true;
		slave->contact_ms = UINT64_MAX;
		break;
	case PAUSE_SLAVE:
		if (!slave->is_paused)
			slave->sleep.from_ms = now_ms;
		slave->is_paused = true;
		break;
	case PAUSE_MASTER:
		if (!master.is_paused)
			master.sleep.from_ms = now_ms;
		master.is_paused = true;
		break;
	case BREAK:
		if (slave->is_open && slave->is_running && master.is_running)
			close_from(i, chance(500), "broken");
		break;
	case BACKUP:
		free(master.backup);
		CHECK(MEMORY, namespace_snapshot(master.ns, &master.backup, &master.backup_len) == 0);
		break;
	case JUMP_SLAVE:
		jump(&slave->wall_ahead_ns);
		slave->steady_clock_ms = now_ms;
		break;
	case JUMP_MASTER:
		jump(&master.wall_ahead_ns);
		for (int j = 0; j < slave_count; j++)
			slaves[j].steady_clock_ms = now_ms;
		break;
	case CHANGES:
		for (unsigned int n = master.is_running && !master.is_paused ? 1 + draw(4) : 0; n; n--)
			change();
		break;
	case FAULTS:
		break;
	}
}

static void plan_faults(void)
{
	unsigned int count = 10 + draw(60);

	for (unsigned int n = 0; n < count; n++) {
		enum fault fault = (enum fault)draw(FAULTS);
		uint64_t begins_ms = now_ms + draw(RUN_MS);
		uint64_t lasts_ms = chance(500) ? draw(1500) : draw(15000);
		int slave = draw(4) ? (int)draw((unsigned int)slave_count) : 0; /* some slave has it worse than others */

		push((struct event){ .due_ms = begins_ms, .kind = FAULT, .value = fault, .slave = slave });
		push((struct event){ .due_ms = begins_ms + lasts_ms, .kind = FAULT_ENDS, .value = fault, .slave = slave });
	}
}

/* Time passes */

/* As link_check() of scp/scp_link.c, which ends sessions by silence, but not for its own. */
static void beat(int i, bool by_master)
{
	struct slave *slave = &slaves[i];
	struct view *mine = by_master ? &slave->at_master : &slave->of_master;
	uint64_t awake_ms = by_master ? master.sleep.until_ms : slave->sleep.until_ms;

	if (!mine->is_connected)
		return;
	if (now_ms - mine->heard_ms > limits.down_ms && now_ms - awake_ms > 2 * BEAT_MS) {
		close_from(i, by_master, "silent");
		return;
	}
	if (by_master)
		post(i, false, (struct event){ .kind = BEAT_AT_SLAVE, .value = namespace_revision(master.ns) });
	else
		post(i, true, (struct event){ .kind = BEAT_AT_MASTER });
	if (!by_master && is_link_open(slave) && slave->is_open)
		ask_time(i);
}

static void tick(struct view *view, const struct sleep *sleep)
{
	if (view->life.changes)
		step(view, MEMBER_EV_TICK, NULL);
	check_view(view, sleep);
}

/* Whose daemon has to be awake for it. */
static bool is_masters(enum kind kind)
{
	return kind == MASTER_BEATS || kind == MASTER_TICKS || kind == UP_AT_MASTER || kind == GONE_AT_MASTER || kind == BEAT_AT_MASTER ||
	       kind == ASKED_AT_MASTER;
}

static bool is_of_session(enum kind kind)
{
	return (kind >= UP_AT_MASTER && kind <= UP_AT_SLAVE) || (kind >= BEAT_AT_MASTER && kind <= ASKED_AT_MASTER);
}

static bool is_lost(const struct event *event)
{
	const struct slave *slave = &slaves[event->slave];

	return is_of_session(event->kind) && (event->session != slave->session || !slave->is_open || !is_link_open(slave));
}

/* Beats and ticks come again; what else comes to somebody who stands still waits. */
static bool is_put_off(struct event *event)
{
	struct slave *slave = &slaves[event->slave];
	bool is_paused = is_masters(event->kind) ? master.is_paused : slave->is_paused;

	if (event->kind >= FAULT || !is_paused)
		return false;
	event->due_ms = now_ms + MEMBER_TICK_MS;
	push(*event);
	return true;
}

static void run_event(struct event *event)
{
	int i = event->slave;
	struct slave *slave = &slaves[i];

	switch (event->kind) {
	case MASTER_BEATS:
		for (int j = 0; j < slave_count && master.is_running; j++)
			beat(j, true);
		at(now_ms + BEAT_MS, MASTER_BEATS, 0);
		break;
	case SLAVE_BEATS:
		if (slave->is_running)
			beat(i, false);
		at(now_ms + BEAT_MS, SLAVE_BEATS, i);
		break;
	case MASTER_TICKS:
		memmove(revision_was + 1, revision_was, sizeof(revision_was) - sizeof(revision_was[0]));
		revision_was[0] = namespace_revision(master.ns);
		for (int j = 0; j < slave_count && master.is_running; j++) {
			tick(&slaves[j].at_master, &master.sleep);
			check_contact(&slaves[j]);
		}
		at(now_ms + MEMBER_TICK_MS, MASTER_TICKS, 0);
		break;
	case SLAVE_TICKS:
		if (slave->is_running)
			tick(&slave->of_master, &slave->sleep);
		at(now_ms + MEMBER_TICK_MS, SLAVE_TICKS, i);
		break;
	case SLAVE_CONNECTS:
		connect_slave(i);
		break;
	case UP_AT_MASTER:
		up_at_master(i);
		break;
	case UP_AT_SLAVE:
		up_at_slave(i);
		break;
	case GONE_AT_MASTER:
		if (slave->at_master.is_connected && master.is_running && !slave->is_open)
			lose_view(&slave->at_master, "closed by the peer");
		if (slave->is_running && !slave->is_open)
			retry(i);
		break;
	case GONE_AT_SLAVE:
		if (slave->of_master.is_connected && slave->is_running && !slave->is_open)
			lose_view(&slave->of_master, "closed by the peer");
		if (slave->is_running && !slave->is_open)
			retry(i);
		break;
	case BEAT_AT_MASTER:
		hear(&slave->at_master);
		break;
	case BEAT_AT_SLAVE:
		hear(&slave->of_master);
		follow(i, replica_beat(&slave->replica, event->value));
		break;
	case TIME_AT_SLAVE:
		time_at_slave(event);
		break;
	case SNAPSHOT_AT_SLAVE:
		hear(&slave->of_master);
		snapshot_at_slave(event);
		break;
	case CHANGE_AT_SLAVE:
		hear(&slave->of_master);
		change_at_slave(event);
		break;
	case ASKED_AT_MASTER:
		send_snapshot(i);
		break;
	case FAULT:
		begin_fault(event);
		break;
	case FAULT_ENDS:
		end_fault(event);
		break;
	}
}

static void run_until(uint64_t end_ms)
{
	while (heap_len && heap[0].due_ms <= end_ms) {
		struct event event = pop();

		now_ms = event.due_ms;
		if (is_lost(&event)) {
			put_bytes(event.bytes);
		} else if (!is_put_off(&event)) {
			run_event(&event);
			put_bytes(event.bytes);
		}
	}
	now_ms = end_ms;
}

/* A run */

/* As nasctl cluster init leaves it. */
static void make_name_space(void)
{
	ns_item items[2] = { { .kind = NS_CLUSTER }, { .kind = NS_ENTRY } };
	ns_snapshot snapshot = { .revision = 1, .items = { 2, items } };
	uint8_t bytes[1024];
	XDR xdr;

	items[0].ns_item_u.cluster = (ns_cluster){ .id = 1, .name = (char *)"simulated", .vips = (char *)"" };
	items[1].ns_item_u.entry = (ns_entry){ .id = NAMESPACE_ROOT_ENTRY, .parent = NAMESPACE_ROOT_ENTRY, .name = (char *)"" };
	xdrmem_create(&xdr, (char *)bytes, sizeof(bytes), XDR_ENCODE);
	CHECK(MEMORY, xdr_ns_snapshot(&xdr, &snapshot));
	CHECK(MEMORY, namespace_load(master.ns, bytes, xdr_getpos(&xdr)) == 0);
	digests[0][1] = digest_of(master.ns);
}

static void make_cluster(void)
{
	memset(digests, 0, sizeof(digests));
	memset(revision_was, 0, sizeof(revision_was));
	memset(&master, 0, sizeof(master));
	memset(slaves, 0, sizeof(slaves));
	master.ns = namespace_new();
	master.is_running = true;
	slave_count = chance(50) ? SLAVES_MAX : 1 + (int)draw(12);
	now_ms = 1000000;
	CHECK(MEMORY, master.ns);
	digests[0][0] = digest_of(master.ns);
	make_name_space();
	for (int i = 0; i < slave_count; i++) {
		slaves[i].ns = namespace_new();
		CHECK(MEMORY, slaves[i].ns);
		slaves[i].digest = digests[0][0];
		slaves[i].contact_ms = slaves[i].reachable_ms = UINT64_MAX;
		start_slave(i);
		at(now_ms + draw(BEAT_MS), SLAVE_BEATS, i);
		at(now_ms + draw(MEMBER_TICK_MS), SLAVE_TICKS, i);
	}
	at(now_ms + draw(BEAT_MS), MASTER_BEATS, 0);
	at(now_ms + draw(MEMBER_TICK_MS), MASTER_TICKS, 0);
}

static void end_cluster(void)
{
	while (heap_len)
		put_bytes(heap[--heap_len].bytes);
	for (int i = 0; i < slave_count; i++)
		namespace_free(slaves[i].ns);
	namespace_free(master.ns);
	free(master.backup);
}

/* All faults are over: everybody is there, up and in step, and has been told of each change once. */
static void check_end(void)
{
	for (int i = 0; i < slave_count; i++) {
		CHECK(COMES_BACK, slaves[i].of_master.is_connected && slaves[i].at_master.is_connected);
		CHECK(HOLD_ENDS, slaves[i].of_master.life.state == MEMBER_UP && slaves[i].at_master.life.state == MEMBER_UP);
		CHECK(IN_STEP, namespace_revision(slaves[i].ns) == namespace_revision(master.ns));
		CHECK(IN_STEP, slaves[i].digest == digest_of(master.ns));
		CHECK(ONE_LINE, slaves[i].of_master.lines == slaves[i].of_master.life.changes);
	}
}

static void run(unsigned long long with_seed)
{
	seed = dice = with_seed;
	draw(2);
	make_cluster();
	plan_faults();
	run_until(now_ms + RUN_MS + 15000);
	for (int i = 0; i < slave_count; i++)
		slaves[i].reachable_ms = now_ms + BACKOFF_MAX_MS + limits.down_ms + CONTACT_MS;
	run_until(now_ms + CALM_MS);
	check_end();
	end_cluster();
	sums.runs++;
}

int main(void)
{
	const char *only = getenv("SEED"), *runs = getenv("RUNS");
	unsigned long long count = runs ? strtoull(runs, NULL, 10) : 1000;

	if (only)
		run(strtoull(only, NULL, 10));
	for (unsigned long long i = 1; !only && i <= count; i++)
		run(i);
	printf("%lu runs: %lu changes, %lu snapshots (%lu asked for), %lu changes lost, %lu faults, %lu holds, %lu jumps\n", sums.runs,
	       sums.changes, sums.snapshots, sums.asked, sums.lost, sums.faults, sums.held, sums.jumps);
	free(heap);
	return 0;
}
