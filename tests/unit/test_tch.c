/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a handoff that goes wrong leaves a client's connection frozen, or two devices speak in it at once and
 * the client reads nonsense.
 */
#include "config.h"

#include "common/tch.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NROLES = TCH_SECOND_DEVICE + 1, IGNORED = 0, WHY = -EACCES };

/* All that means something: a state's events, what follows, and what has to be done. Everything else is a late answer. */
static const struct expected {
	enum tch_role role;
	enum tch_state state;
	enum tch_event event;
	enum tch_state next;
	unsigned int actions, timer_ms;
	int result; /* with TCH_DO_FINISH, if the event does not say why */
} expectations[] = {
#define FIRST(state, event) TCH_FIRST_DEVICE, TCH_##state, TCH_EV_##event
#define SECOND(state, event) TCH_SECOND_DEVICE, TCH_##state, TCH_EV_##event
#define FAILED(actions, result) TCH_FAIL_STATE, TCH_DO_FINISH | (actions), 0, result
	{ FIRST(IDLE, START), TCH_OPEN_STATE, TCH_DO_SEND_OPEN, TCH_OPEN_MS, 0 },

	{ FIRST(OPEN_STATE, OPEN_RESPONSE), TCH_ACTIVE, TCH_DO_QUIESCE, TCH_ACTIVE_MS, 0 },
	{ FIRST(OPEN_STATE, FAIL), FAILED(0, -EIO) },
	{ FIRST(OPEN_STATE, TIMEOUT), FAILED(TCH_DO_SEND_FAIL, -ETIMEDOUT) },
	{ FIRST(OPEN_STATE, PEER_LOST), FAILED(TCH_DO_SEND_FAIL, -EHOSTDOWN) },
	{ FIRST(OPEN_STATE, CLOSED), FAILED(TCH_DO_SEND_FAIL, -ENOTCONN) },

	{ FIRST(ACTIVE, QUIET), TCH_ACTIVE, TCH_DO_FREEZE, TCH_ACTIVE_MS, 0 },
	{ FIRST(ACTIVE, FROZEN), TCH_WAIT, TCH_DO_SEND_HANDOFF, TCH_WAIT_MS, 0 },
	{ FIRST(ACTIVE, FREEZE_FAILED), FAILED(TCH_DO_SEND_FAIL | TCH_DO_UNFREEZE | TCH_DO_RESUME, -EIO) },
	{ FIRST(ACTIVE, FAIL), TCH_IDLE, TCH_DO_RESUME | TCH_DO_FINISH, 0, -EIO },
	{ FIRST(ACTIVE, TIMEOUT), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESUME, -ETIMEDOUT) },
	{ FIRST(ACTIVE, PEER_LOST), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESUME, -EHOSTDOWN) },
	{ FIRST(ACTIVE, CLOSED), FAILED(TCH_DO_SEND_FAIL, -ENOTCONN) },

	{ FIRST(WAIT, ACKNOWLEDGMENT), TCH_DONE_STATE, TCH_DO_COMMIT | TCH_DO_FINISH, 0, 0 },
	{ FIRST(WAIT, FAIL), FAILED(TCH_DO_UNFREEZE | TCH_DO_RESUME, -EIO) },
	{ FIRST(WAIT, TIMEOUT), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESET, -ETIMEDOUT) },
	{ FIRST(WAIT, PEER_LOST), FAILED(TCH_DO_SEND_FAIL | TCH_DO_RESET, -EHOSTDOWN) },

	{ SECOND(IDLE, OPEN), TCH_ACTIVE, TCH_DO_SEND_OPEN_RESPONSE, TCH_ACTIVE_MS, 0 },

	{ SECOND(ACTIVE, HANDOFF), TCH_ACTIVE, TCH_DO_RESTORE, TCH_ACTIVE_MS, 0 },
	{ SECOND(ACTIVE, RESTORED), TCH_WAIT, TCH_DO_SEND_ACKNOWLEDGMENT, TCH_ARRIVE_MS, 0 },
	{ SECOND(ACTIVE, RESTORE_FAILED), FAILED(TCH_DO_SEND_FAIL, -EIO) },
	{ SECOND(ACTIVE, FAIL), TCH_IDLE, TCH_DO_FINISH, 0, -EIO },
	{ SECOND(ACTIVE, TIMEOUT), FAILED(TCH_DO_SEND_FAIL, -ETIMEDOUT) },
	{ SECOND(ACTIVE, PEER_LOST), FAILED(TCH_DO_SEND_FAIL, -EHOSTDOWN) },

	{ SECOND(WAIT, DONE), TCH_DONE_STATE, TCH_DO_ARRIVE | TCH_DO_FINISH, 0, 0 },
	{ SECOND(WAIT, TIMEOUT), TCH_DONE_STATE, TCH_DO_ARRIVE, TCH_LINGER_MS, 0 },
	{ SECOND(WAIT, PEER_LOST), TCH_DONE_STATE, TCH_DO_ARRIVE | TCH_DO_FINISH, 0, 0 },
	{ SECOND(WAIT, FAIL), FAILED(TCH_DO_ARRIVE | TCH_DO_RESET_RESTORED, -EIO) },

	{ SECOND(DONE_STATE, DONE), TCH_DONE_STATE, TCH_DO_FINISH, 0, 0 },
	{ SECOND(DONE_STATE, TIMEOUT), TCH_DONE_STATE, TCH_DO_FINISH, 0, 0 },
	{ SECOND(DONE_STATE, PEER_LOST), TCH_DONE_STATE, TCH_DO_FINISH, 0, 0 },
	{ SECOND(DONE_STATE, FAIL), TCH_DONE_STATE, TCH_DO_RESET_RESTORED | TCH_DO_FINISH, 0, -EIO },
};

static const struct expected *expectation(enum tch_role role, enum tch_state state, enum tch_event event)
{
	for (size_t i = 0; i < sizeof(expectations) / sizeof(expectations[0]); i++)
		if (expectations[i].role == role && expectations[i].state == state && expectations[i].event == event)
			return &expectations[i];
	return NULL;
}

static void check_step(enum tch_role role, enum tch_state state, enum tch_event event)
{
	const struct expected *expected = expectation(role, state, event);
	struct tch tch = { .id = 1, .role = role, .state = state };
	struct tch_out out = tch_step(&tch, event, 0);
	char where[100];

	snprintf(where, sizeof(where), "device %d, %s in %s", role + 1, tch_event_name(event), tch_state_name(state));
	if (!expected) {
		ck_assert_msg(tch.state == state && out.actions == IGNORED && out.timer_ms == UINT32_MAX,
			      "%s is not ignored", where);
		return;
	}
	ck_assert_msg(tch.state == expected->next, "%s leads to %s", where, tch_state_name(tch.state));
	ck_assert_msg(out.actions == expected->actions, "%s does %#x", where, out.actions);
	ck_assert_msg(out.timer_ms == expected->timer_ms, "%s: timer %u", where, out.timer_ms);
	ck_assert_msg(out.result == expected->result, "%s: result %d", where, out.result);
	/* The administrator reads the reason that the event brought, if it brought one. */
	tch.state = state;
	out = tch_step(&tch, event, WHY);
	ck_assert_msg(out.result == (expected->result ? WHY : 0), "%s: result %d with a reason", where, out.result);
}

START_TEST(every_event_in_every_state)
{
	enum tch_role role = (enum tch_role)_i;

	for (enum tch_state state = 0; state < TCH_NSTATES; state++)
		for (enum tch_event event = 0; event < TCH_NEVENTS; event++)
			check_step(role, state, event);
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
	struct tch tch;
	bool freezing, frozen, quiesced, gone, finished;
	unsigned int timer_ms;
};

static unsigned int bits(unsigned int value)
{
	return (unsigned int)__builtin_popcount(value);
}

/* Perform @out, checking what must hold of every way through the machine. */
static void shell_perform(struct shell *shell, enum tch_state before, enum tch_event event, const struct tch_out *out)
{
	const unsigned int thaws = TCH_DO_COMMIT | TCH_DO_UNFREEZE | TCH_DO_RESET;
	const unsigned int ends = TCH_DO_COMMIT | TCH_DO_RESUME | TCH_DO_RESET;
	unsigned int actions = out->actions;

	/* The commit point. */
	ck_assert_int_eq(!!(actions & TCH_DO_COMMIT), before == TCH_WAIT && event == TCH_EV_ACKNOWLEDGMENT);
	/* A frozen connection is thawed once, in one way; another one never. */
	ck_assert_uint_le(bits(actions & thaws), 1);
	ck_assert(!(actions & thaws) || shell->frozen);
	/* What was stopped goes on, goes away or is reset, once. */
	ck_assert_uint_le(bits(actions & ends), 1);
	ck_assert(!(actions & ends) || shell->quiesced);
	if (actions & TCH_DO_QUIESCE)
		shell->quiesced = true;
	if (actions & thaws)
		shell->frozen = false;
	if (actions & ends)
		shell->quiesced = false;
	shell->freezing = actions & TCH_DO_FREEZE;
	if (out->timer_ms != UINT32_MAX)
		shell->timer_ms = out->timer_ms;
	shell->gone |= event == TCH_EV_CLOSED;
	shell->finished = actions & TCH_DO_FINISH;
	ck_assert_int_eq(shell->finished, shell->timer_ms == 0);
	if (shell->finished) {
		ck_assert(!shell->frozen);
		ck_assert(!shell->quiesced || shell->gone);
	}
}

static void shell_event(struct shell *shell, enum tch_event event)
{
	enum tch_state before = shell->tch.state;
	struct tch_out out;

	if (event == TCH_EV_FROZEN || event == TCH_EV_FREEZE_FAILED)
		shell->frozen = true; /* held at least */
	out = tch_step(&shell->tch, event, 0);
	if (out.actions)
		shell_perform(shell, before, event, &out);
}

/* May this happen now? Freezing is one call: nothing comes between, and nothing is frozen that was not asked for. */
static bool shell_can_see(const struct shell *shell, enum tch_event event)
{
	bool from_freezing = event == TCH_EV_FROZEN || event == TCH_EV_FREEZE_FAILED;

	return shell->freezing == from_freezing;
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
		/* QUIET can be said again and again; nothing else leads back. */
		else if (depth > 0 && memcmp(&next, &shell, sizeof(next)) != 0)
			walk(next, depth - 1);
	}
}

START_TEST(every_way_through)
{
	struct shell shell;

	memset(&shell, 0, sizeof(shell));
	shell.tch.role = (enum tch_role)_i;
	ways = 0;
	walk(shell, 8);
	ck_assert_uint_ge(ways, 8);
}
END_TEST

/*
 * Two devices and a network that loses, repeats, delays and so reorders; each may find the other lost at any time. Time
 * is simulated, in milliseconds. A run is repeated by its seed: TCH_SEED in the environment.
 */
enum { RUNS = 20000, MESSAGES_MAX = 64, END_MS = 60000 };

enum message { MESSAGE_OPEN, MESSAGE_OPEN_RESPONSE, MESSAGE_HANDOFF, MESSAGE_ACKNOWLEDGMENT, MESSAGE_DONE, MESSAGE_FAIL };

struct device {
	struct tch tch;
	unsigned int deadline_ms; /* 0: none */
	bool speaks, frozen, finished;
	bool committed, reset, was_restored, is_arriving;
};

struct simulation {
	unsigned long long seed, dice;
	unsigned int now_ms, lost_percent, twice_percent, delay_max_ms, broken_percent;
	struct device devices[NROLES];
	struct in_flight {
		enum message message;
		enum tch_role to;
		unsigned int due_ms;
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

static void put_in_flight(struct simulation *s, enum tch_role to, enum message message)
{
	ck_assert_uint_lt(s->message_count, MESSAGES_MAX);
	s->messages[s->message_count++] =
		(struct in_flight){ .message = message, .to = to, .due_ms = s->now_ms + draw(s, s->delay_max_ms + 1) };
}

static void sim_send(struct simulation *s, enum tch_role from, enum message message)
{
	enum tch_role to = from == TCH_FIRST_DEVICE ? TCH_SECOND_DEVICE : TCH_FIRST_DEVICE;

	if (chance(s, s->lost_percent))
		return;
	put_in_flight(s, to, message);
	if (chance(s, s->twice_percent))
		put_in_flight(s, to, message);
}

#define CHECK_RUN(s, what) ck_assert_msg(what, "TCH_SEED=%llu: not true: %s", (s)->seed, #what)

static void check_safety(const struct simulation *s)
{
	const struct device *first = &s->devices[TCH_FIRST_DEVICE], *second = &s->devices[TCH_SECOND_DEVICE];

	CHECK_RUN(s, !first->speaks || !second->speaks);
	CHECK_RUN(s, !first->committed || (second->was_restored && !second->reset));
	CHECK_RUN(s, !first->frozen || !first->speaks);
	CHECK_RUN(s, !first->committed || !first->reset);
	CHECK_RUN(s, !second->finished || !second->is_arriving);
}

static void sim_event(struct simulation *s, enum tch_role role, enum tch_event event);

static void sim_perform(struct simulation *s, enum tch_role role, unsigned int actions)
{
	static const struct {
		unsigned int action;
		enum message message;
	} sends[] = {
		{ TCH_DO_SEND_OPEN, MESSAGE_OPEN },
		{ TCH_DO_SEND_OPEN_RESPONSE, MESSAGE_OPEN_RESPONSE },
		{ TCH_DO_SEND_HANDOFF, MESSAGE_HANDOFF },
		{ TCH_DO_SEND_ACKNOWLEDGMENT, MESSAGE_ACKNOWLEDGMENT },
		{ TCH_DO_COMMIT, MESSAGE_DONE }, /* and the switch has confirmed */
		{ TCH_DO_SEND_FAIL, MESSAGE_FAIL },
	};
	struct device *device = &s->devices[role];

	for (size_t i = 0; i < sizeof(sends) / sizeof(sends[0]); i++)
		if (actions & sends[i].action)
			sim_send(s, role, sends[i].message);
	if (actions & (TCH_DO_COMMIT | TCH_DO_UNFREEZE | TCH_DO_RESET))
		device->frozen = false;
	if (actions & TCH_DO_UNFREEZE)
		device->speaks = true;
	device->committed |= !!(actions & TCH_DO_COMMIT);
	device->reset |= !!(actions & (TCH_DO_RESET | TCH_DO_RESET_RESTORED));
	if (actions & TCH_DO_RESET_RESTORED)
		device->speaks = false;
	if (actions & TCH_DO_ARRIVE)
		device->is_arriving = false;
	device->finished |= !!(actions & TCH_DO_FINISH);
	if (actions & TCH_DO_QUIESCE)
		sim_event(s, role, TCH_EV_QUIET);
	if (actions & TCH_DO_FREEZE) {
		device->frozen = true;
		device->speaks = false;
		sim_event(s, role, chance(s, 10) ? TCH_EV_FREEZE_FAILED : TCH_EV_FROZEN);
	}
	if (actions & TCH_DO_RESTORE) {
		bool fails = chance(s, 10);

		device->was_restored = device->is_arriving = device->speaks = !fails;
		sim_event(s, role, fails ? TCH_EV_RESTORE_FAILED : TCH_EV_RESTORED);
	}
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

static void sim_deliver(struct simulation *s, struct in_flight *message)
{
	static const enum tch_event events[] = {
		[MESSAGE_OPEN] = TCH_EV_OPEN,
		[MESSAGE_OPEN_RESPONSE] = TCH_EV_OPEN_RESPONSE,
		[MESSAGE_HANDOFF] = TCH_EV_HANDOFF,
		[MESSAGE_ACKNOWLEDGMENT] = TCH_EV_ACKNOWLEDGMENT,
		[MESSAGE_DONE] = TCH_EV_DONE,
		[MESSAGE_FAIL] = TCH_EV_FAIL,
	};

	message->delivered = true;
	sim_event(s, message->to, events[message->message]);
}

/* The session between the devices breaks: what is on its way is lost, each side hears of it when it does. */
static void sim_break(struct simulation *s)
{
	for (size_t i = 0; i < s->message_count; i++)
		s->messages[i].delivered = true;
	sim_event(s, (enum tch_role)draw(s, NROLES), TCH_EV_PEER_LOST);
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
	if (chance(s, s->broken_percent))
		sim_break(s);
	else if (timer >= 0)
		sim_event(s, (enum tch_role)timer, TCH_EV_TIMEOUT);
	else
		sim_deliver(s, next);
	return true;
}

static struct simulation sim_run(unsigned long long seed, unsigned int lost, unsigned int twice, unsigned int delay_ms,
				 unsigned int broken)
{
	struct simulation s = {
		.seed = seed,
		.dice = seed,
		.lost_percent = lost,
		.twice_percent = twice,
		.delay_max_ms = delay_ms,
		.broken_percent = broken,
		.devices = { { .tch = { .role = TCH_FIRST_DEVICE }, .speaks = true },
			     { .tch = { .role = TCH_SECOND_DEVICE } } },
	};

	sim_event(&s, TCH_FIRST_DEVICE, TCH_EV_START);
	while (sim_step(&s))
		;
	/* Whatever happened: it is over, nothing is left frozen, and the flow has one owner or is reset. */
	for (int role = 0; role < NROLES; role++)
		CHECK_RUN(&s, s.devices[role].finished || s.devices[role].tch.state == TCH_IDLE);
	CHECK_RUN(&s, !s.devices[TCH_FIRST_DEVICE].frozen);
	CHECK_RUN(&s, s.devices[TCH_FIRST_DEVICE].speaks || s.devices[TCH_SECOND_DEVICE].speaks ||
			      s.devices[TCH_FIRST_DEVICE].reset);
	return s;
}

START_TEST(never_two_speak)
{
	const char *given = getenv("TCH_SEED");
	unsigned long long seed = given ? strtoull(given, NULL, 10) : (unsigned long long)time(NULL) * 1000000;
	unsigned int moved = 0, stayed = 0, reset = 0;

	for (int run = 0; run < (given ? 1 : RUNS); run++, seed++) {
		struct simulation dice = { .dice = seed }, s;

		draw(&dice, 1);
		s = sim_run(seed, draw(&dice, 2) * draw(&dice, 40), draw(&dice, 2) * draw(&dice, 40),
			    draw(&dice, 2) ? draw(&dice, 100) : draw(&dice, 8000), draw(&dice, 2) * draw(&dice, 20));
		moved += s.devices[TCH_FIRST_DEVICE].committed;
		stayed += s.devices[TCH_FIRST_DEVICE].speaks;
		reset += s.devices[TCH_FIRST_DEVICE].reset;
	}
	printf("%u moved, %u stayed, %u reset\n", moved, stayed, reset);
	if (given)
		return;
	/* The dice are worth something: every end is seen often. */
	ck_assert_uint_gt(moved, RUNS / 20);
	ck_assert_uint_gt(stayed, RUNS / 20);
	ck_assert_uint_gt(reset, RUNS / 50);
}
END_TEST

/* A quick and faithful network: a handoff succeeds unless freezing or restoring fails. */
START_TEST(a_good_network_moves)
{
	for (unsigned long long seed = 1; seed <= 200; seed++) {
		struct simulation s = sim_run(seed, 0, 0, 10, 0);

		ck_assert_int_eq(s.devices[TCH_SECOND_DEVICE].speaks, s.devices[TCH_FIRST_DEVICE].committed);
		ck_assert_int_ne(s.devices[TCH_SECOND_DEVICE].speaks, s.devices[TCH_FIRST_DEVICE].speaks);
		ck_assert(!s.devices[TCH_FIRST_DEVICE].reset && !s.devices[TCH_SECOND_DEVICE].reset);
	}
}
END_TEST

/* The Acknowledgment is late: the client must not go on with either, and Fail reaches the second device. */
START_TEST(a_late_acknowledgment_resets_both)
{
	unsigned int late = 0;

	for (unsigned long long seed = 1; seed <= 2000; seed++) {
		struct simulation s = sim_run(seed, 0, 0, TCH_WAIT_MS, 0);
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
	tcase_add_loop_test(tcase, every_event_in_every_state, 0, NROLES);
	tcase_add_test(tcase, everything_has_a_name);
	tcase_add_loop_test(tcase, every_way_through, 0, NROLES);
	tcase_add_test(tcase, never_two_speak);
	tcase_add_test(tcase, a_good_network_moves);
	tcase_add_test(tcase, a_late_acknowledgment_resets_both);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
