/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, clients' sessions stay away from their data and all of it passes the switch, or sessions bounce between
 * two devices.
 */
#include "config.h"

#include "common/placement.h"

#include <check.h>
#include <stdlib.h>

enum { SELF = 1, OTHER = 2, THIRD = 3, MIB = 1024 * 1024, WEIGHT = PLACEMENT_REQUEST_BYTES };

static const struct placement_policy policy = { .bytes = MIB, .window_ms = 500, .stay_ms = 200 };

/* One line each: what is noted, in order, and after which one the session moves, and where to (0: never). */
struct note {
	uint32_t node;
	uint64_t bytes, at_ms;
};

static const struct {
	const char *what;
	uint32_t to;
	size_t count;
	struct note notes[6];
} cases[] = {
	{ "its own work", 0, 1, { { SELF, 100 * MIB, 1000 } } },
	{ "another's, enough at once", OTHER, 1, { { OTHER, MIB, 1000 } } },
	{ "another's, one byte too few", 0, 1, { { OTHER, MIB - WEIGHT - 1, 1000 } } },
	{ "a request weighs something itself", OTHER, 1, { { OTHER, MIB - WEIGHT, 1000 } } },
	{ "enough in pieces", OTHER, 2, { { OTHER, MIB / 2, 1000 }, { OTHER, MIB / 2, 1100 } } },
	{ "enough, but too slowly", 0, 3, { { OTHER, MIB / 2, 1000 }, { OTHER, MIB / 3, 2000 }, { OTHER, MIB / 2, 3000 } } },
	{ "not twice as much as here", 0, 2, { { SELF, MIB, 1000 }, { OTHER, 2 * MIB, 1001 } } },
	{ "more than twice as much as here", OTHER, 2, { { SELF, MIB, 1000 }, { OTHER, 2 * MIB + 3 * WEIGHT, 1001 } } },
	{ "what was here fades", OTHER, 2, { { SELF, 100 * MIB, 1000 }, { OTHER, MIB, 6000 } } },
	{ "two others, neither enough", 0, 2, { { OTHER, MIB / 2, 1000 }, { THIRD, MIB / 2, 1001 } } },
	{ "two others, one enough", THIRD, 3, { { OTHER, MIB / 2, 1000 }, { THIRD, MIB / 2, 1001 }, { THIRD, MIB, 1002 } } },
	{ "just moved: it stays a while", 0, 2, { { OTHER, 9 * MIB, 0 }, { OTHER, 9 * MIB, 199 } } },
	{ "it has stayed long enough", OTHER, 2, { { OTHER, 9 * MIB, 0 }, { OTHER, 9 * MIB, 200 } } },
	{ "the last word is its own work", 0, 1, { { SELF, 9 * MIB, 1000 } } },
};

START_TEST(where_it_goes)
{
	struct placement placement = { 0 };
	uint32_t to = 0;

	for (size_t i = 0; i < cases[_i].count; i++) {
		const struct note *note = &cases[_i].notes[i];

		ck_assert_msg(to == 0, "%s: moved too early", cases[_i].what);
		to = placement_note(&placement, &policy, SELF, note->node, note->bytes, note->at_ms);
	}
	ck_assert_msg(to == cases[_i].to, "%s: moved to %u", cases[_i].what, to);
}
END_TEST

/* Small files: no request moves much, but there are many, and each crosses the switch. */
START_TEST(many_small_requests_move_too)
{
	struct placement placement = { 0 };
	int requests = 0;

	while (placement_note(&placement, &policy, SELF, OTHER, 100, 1000) == 0)
		ck_assert_int_lt(++requests, MIB / WEIGHT);
	ck_assert_int_ge(requests, MIB / (WEIGHT + 100) - 1);
}
END_TEST

/* Half of the work here, half there: moving would not help, whichever device asks. */
START_TEST(even_work_stays)
{
	struct placement placement = { 0 };

	for (uint64_t now_ms = 1000; now_ms < 60000; now_ms += 3) {
		ck_assert_uint_eq(placement_note(&placement, &policy, SELF, OTHER, 64 * 1024, now_ms), 0);
		ck_assert_uint_eq(placement_note(&placement, &policy, SELF, SELF, 64 * 1024, now_ms), 0);
	}
}
END_TEST

/* Old figures are halved once per window, however many windows passed at once. */
START_TEST(figures_are_halved)
{
	struct placement placement = { 0 };

	placement_note(&placement, &policy, SELF, SELF, 64 * MIB - WEIGHT, 1000);
	placement_note(&placement, &policy, SELF, OTHER, 0, 1000 + policy.window_ms - 1);
	ck_assert_uint_eq(placement.shares[0].bytes, 64 * MIB);
	placement_note(&placement, &policy, SELF, OTHER, 0, 1000 + policy.window_ms);
	ck_assert_uint_eq(placement.shares[0].bytes, 32 * MIB);
	placement_note(&placement, &policy, SELF, OTHER, 0, 1000 + 4 * policy.window_ms);
	ck_assert_uint_eq(placement.shares[0].bytes, 4 * MIB);
	placement_note(&placement, &policy, SELF, OTHER, 0, 1000 + 100000 * (uint64_t)policy.window_ms);
	ck_assert_uint_eq(placement.shares[0].bytes, 0);
}
END_TEST

/* More devices than there are places: who did least is forgotten, who did most is not. */
START_TEST(many_devices)
{
	struct placement placement = { 0 };

	placement_note(&placement, &policy, SELF, SELF, MIB, 1000);
	for (uint32_t node = 2; node < 100; node++)
		ck_assert_uint_eq(placement_note(&placement, &policy, SELF, node, 100 * node, 1001), 0);
	/* Our own figure is still known: this is not yet twice as much. */
	ck_assert_uint_eq(placement_note(&placement, &policy, SELF, 200, 2 * MIB, 1002), 0);
	ck_assert_uint_eq(placement_note(&placement, &policy, SELF, 200, MIB, 1003), 200);
}
END_TEST

/* A policy without a window (never set) does not divide by zero. */
START_TEST(no_window)
{
	struct placement_policy none = { .bytes = MIB };
	struct placement placement = { 0 };

	ck_assert_uint_eq(placement_note(&placement, &none, SELF, OTHER, MIB, 1000), OTHER);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("placement");
	TCase *tcase = tcase_create("placement");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, where_it_goes, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tcase, many_small_requests_move_too);
	tcase_add_test(tcase, even_work_stays);
	tcase_add_test(tcase, figures_are_halved);
	tcase_add_test(tcase, many_devices);
	tcase_add_test(tcase, no_window);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
