/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, clients are sent to a device that has gone, a device that is well gets no work, or one that comes and goes
 * takes clients along each time.
 */
#include "config.h"

#include "common/member_state.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct member_limits limits = {
	.suspect_ms = 2500, .down_ms = 5000, .flaps = 3, .flap_window_ms = 60000, .hold_ms = 10000, .hold_max_ms = 50000
};

/* A device, and the clock; ticks come by themselves. */
struct device {
	struct member_life life;
	uint64_t now_ms;
	unsigned int changes; /* that were told */
};

static void step(struct device *device, enum member_event event, const char *why)
{
	device->changes += member_step(&device->life, &limits, event, device->now_ms, why);
	ck_assert_uint_eq(device->changes, device->life.changes);
}

static void pass(struct device *device, uint64_t ms, bool beats)
{
	for (uint64_t end_ms = device->now_ms + ms; device->now_ms < end_ms;) {
		device->now_ms += MEMBER_TICK_MS;
		if (beats && device->now_ms % 1000 == 0)
			step(device, MEMBER_EV_BEAT, NULL);
		step(device, MEMBER_EV_TICK, NULL);
	}
}

static void go(struct device *device)
{
	step(device, MEMBER_EV_LOST, "it was killed");
	ck_assert_int_eq(device->life.state, MEMBER_DOWN);
	ck_assert_str_eq(device->life.reason, "it was killed");
}

static void come(struct device *device, enum member_state state)
{
	step(device, MEMBER_EV_CONNECTED, NULL);
	ck_assert_int_eq(device->life.state, state);
}

static struct device new_device(void)
{
	struct device device = { .now_ms = 1000000 };

	ck_assert_int_eq(device.life.state, MEMBER_DOWN);
	come(&device, MEMBER_UP);
	return device;
}

START_TEST(who_beats_is_up)
{
	struct device device = new_device();

	pass(&device, 1000000, true);
	ck_assert_int_eq(device.life.state, MEMBER_UP);
	ck_assert_uint_eq(device.changes, 1);
	ck_assert_uint_eq(device.life.since_ms, 1000000);
}
END_TEST

START_TEST(silence_makes_suspect_then_down)
{
	struct device device = new_device();

	pass(&device, limits.suspect_ms - MEMBER_TICK_MS, false);
	ck_assert(member_gets_work(&device.life));
	pass(&device, MEMBER_TICK_MS, false);
	ck_assert_int_eq(device.life.state, MEMBER_SUSPECT);
	ck_assert_str_eq(device.life.reason, "silent for 2500 ms");
	ck_assert(!member_gets_work(&device.life));
	pass(&device, limits.down_ms - limits.suspect_ms - MEMBER_TICK_MS, false);
	ck_assert_int_eq(device.life.state, MEMBER_SUSPECT);
	pass(&device, MEMBER_TICK_MS, false);
	ck_assert_int_eq(device.life.state, MEMBER_DOWN);
	ck_assert_str_eq(device.life.reason, "silent for 5000 ms");
	pass(&device, 100000, false);
	ck_assert_uint_eq(device.changes, 3);
	step(&device, MEMBER_EV_LOST, "closed"); /* what follows from it is no news */
	ck_assert_uint_eq(device.changes, 3);
}
END_TEST

START_TEST(who_is_heard_again_is_up_again)
{
	struct device device = new_device();

	pass(&device, 3000, false);
	ck_assert_int_eq(device.life.state, MEMBER_SUSPECT);
	step(&device, MEMBER_EV_BEAT, NULL);
	ck_assert_int_eq(device.life.state, MEMBER_UP);
	ck_assert_str_eq(device.life.reason, "heard again after 3000 ms");
	pass(&device, 6000, false);
	ck_assert_int_eq(device.life.state, MEMBER_DOWN);
	step(&device, MEMBER_EV_BEAT, NULL); /* its session was not closed yet */
	ck_assert_int_eq(device.life.state, MEMBER_UP);
}
END_TEST

/* A beat that was still on its way when the session ended. */
START_TEST(without_a_session_nobody_is_heard)
{
	struct device device = new_device();

	go(&device);
	step(&device, MEMBER_EV_BEAT, NULL);
	ck_assert_int_eq(device.life.state, MEMBER_DOWN);
}
END_TEST

/* SIGSTOP, a machine that was suspended, a loop that was busy: the others were not silent, we did not listen. */
START_TEST(our_own_pause_is_nobodys_silence)
{
	struct device device = new_device();

	pass(&device, 1000, false);
	device.now_ms += 3600000;
	step(&device, MEMBER_EV_TICK, NULL);
	ck_assert_int_eq(device.life.state, MEMBER_UP);
	pass(&device, 1500, false);
	ck_assert_int_eq(device.life.state, MEMBER_SUSPECT); /* 1000 + 1500 ms */
}
END_TEST

static void flap(struct device *device, unsigned int times)
{
	for (unsigned int i = 0; i < times; i++) {
		pass(device, 2000, true);
		go(device);
		pass(device, 1000, false);
		if (i + 1 < times)
			come(device, MEMBER_UP);
	}
}

START_TEST(who_flaps_is_held_down_and_returns)
{
	struct device device = new_device();

	flap(&device, limits.flaps);
	come(&device, MEMBER_HELD_DOWN);
	ck_assert(!member_gets_work(&device.life));
	ck_assert_str_eq(device.life.reason, "it went 3 times within 60000 ms; for 10000 ms it gets no new work");
	pass(&device, limits.hold_ms - MEMBER_TICK_MS, true);
	ck_assert_int_eq(device.life.state, MEMBER_HELD_DOWN);
	pass(&device, MEMBER_TICK_MS, true);
	ck_assert_int_eq(device.life.state, MEMBER_UP);
	ck_assert_str_eq(device.life.reason, "steady for 10000 ms");
	go(&device); /* forgiven */
	come(&device, MEMBER_UP);
}
END_TEST

/* Silences count as departures, too; a way back from suspect leads to the hold. */
START_TEST(chatter_is_flapping_too)
{
	struct device device = new_device();

	for (unsigned int i = 0; i < limits.flaps; i++) {
		pass(&device, 3000, false);
		ck_assert_int_eq(device.life.state, MEMBER_SUSPECT);
		step(&device, MEMBER_EV_BEAT, NULL);
		ck_assert_int_eq(device.life.state, i + 1 < limits.flaps ? MEMBER_UP : MEMBER_HELD_DOWN);
	}
}
END_TEST

START_TEST(departures_long_ago_dont_count)
{
	struct device device = new_device();

	for (int i = 0; i < 100; i++) {
		go(&device);
		come(&device, MEMBER_UP);
		pass(&device, limits.flap_window_ms / (limits.flaps - 1), true);
	}
}
END_TEST

START_TEST(holds_grow_to_a_bound_and_are_forgotten)
{
	static const unsigned int holds_ms[] = { 10000, 20000, 40000, 50000, 50000 };
	struct device device = new_device();

	for (size_t i = 0; i < sizeof(holds_ms) / sizeof(holds_ms[0]); i++) {
		flap(&device, limits.flaps);
		come(&device, MEMBER_HELD_DOWN);
		ck_assert_uint_eq(device.life.last_hold_ms, holds_ms[i]);
		pass(&device, holds_ms[i], true);
		ck_assert_int_eq(device.life.state, MEMBER_UP);
	}
	pass(&device, limits.hold_max_ms, true);
	flap(&device, limits.flaps);
	come(&device, MEMBER_HELD_DOWN);
	ck_assert_uint_eq(device.life.last_hold_ms, limits.hold_ms);
}
END_TEST

START_TEST(a_hold_is_not_sat_out_elsewhere)
{
	struct device device = new_device();

	flap(&device, limits.flaps);
	come(&device, MEMBER_HELD_DOWN);
	pass(&device, 5000, true);
	go(&device);
	pass(&device, 1000, false);
	come(&device, MEMBER_HELD_DOWN);
	ck_assert_uint_eq(device.life.last_hold_ms, 2 * limits.hold_ms);
	pass(&device, 2 * limits.hold_ms - MEMBER_TICK_MS, true);
	ck_assert_int_eq(device.life.state, MEMBER_HELD_DOWN);
	pass(&device, MEMBER_TICK_MS, true);
	ck_assert_int_eq(device.life.state, MEMBER_UP);
}
END_TEST

/* Silence in a hold: down as anybody; and a hold does not end in silence. */
START_TEST(who_is_held_down_may_go_down)
{
	struct device device = new_device();

	flap(&device, limits.flaps);
	come(&device, MEMBER_HELD_DOWN);
	pass(&device, limits.hold_ms - 3000, true);
	pass(&device, 4000, false);
	ck_assert_int_eq(device.life.state, MEMBER_HELD_DOWN);
	pass(&device, 1000, false);
	ck_assert_int_eq(device.life.state, MEMBER_DOWN);
}
END_TEST

START_TEST(without_a_number_of_flaps_nobody_is_held_down)
{
	struct member_limits never = limits;
	struct member_life life = { 0 };

	never.flaps = 0;
	for (uint64_t now_ms = 1; now_ms < 1000; now_ms++) {
		member_step(&life, &never, MEMBER_EV_CONNECTED, now_ms, NULL);
		ck_assert_int_eq(life.state, MEMBER_UP);
		member_step(&life, &never, MEMBER_EV_LOST, now_ms, "gone");
	}
}
END_TEST

/* Each state, each event: nothing but what the drawing has, and a reason for each change. */
START_TEST(any_event_in_any_state)
{
	for (unsigned int order = 0; order < 100000; order++) {
		struct device device = { .now_ms = 1000000 };
		unsigned int dice = order * 2654435761u, changes;

		for (int i = 0; i < 12; i++, dice = dice * 1664525u + 1013904223u) {
			enum member_event event = (enum member_event)(dice >> 16) % MEMBER_NEVENTS;

			device.now_ms += dice >> 20;
			device.life.reason[0] = '\0';
			changes = device.changes;
			step(&device, event, event == MEMBER_EV_LOST ? "lost" : NULL);
			ck_assert_int_eq(device.life.reason[0] != '\0', device.changes != changes);
			if (event == MEMBER_EV_LOST)
				ck_assert_int_eq(device.life.state, MEMBER_DOWN);
			if (event == MEMBER_EV_CONNECTED)
				ck_assert_int_ne(device.life.state, MEMBER_DOWN);
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("member_state");
	TCase *tcase = tcase_create("member_state");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, who_beats_is_up);
	tcase_add_test(tcase, silence_makes_suspect_then_down);
	tcase_add_test(tcase, who_is_heard_again_is_up_again);
	tcase_add_test(tcase, without_a_session_nobody_is_heard);
	tcase_add_test(tcase, our_own_pause_is_nobodys_silence);
	tcase_add_test(tcase, who_flaps_is_held_down_and_returns);
	tcase_add_test(tcase, chatter_is_flapping_too);
	tcase_add_test(tcase, departures_long_ago_dont_count);
	tcase_add_test(tcase, holds_grow_to_a_bound_and_are_forgotten);
	tcase_add_test(tcase, a_hold_is_not_sat_out_elsewhere);
	tcase_add_test(tcase, who_is_held_down_may_go_down);
	tcase_add_test(tcase, without_a_number_of_flaps_nobody_is_held_down);
	tcase_add_test(tcase, any_event_in_any_state);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
