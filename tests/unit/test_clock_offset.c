/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a clock that is right is "corrected", or one that is wrong goes unnoticed.
 */
#include "config.h"

#include "common/clock_offset.h"

#include <check.h>
#include <stdlib.h>

#define MS INT64_C(1000000)
#define S (1000 * MS)
#define EPOCH (INT64_C(1795000000) * S)

/* Our clock is @ahead_ns ahead; the question takes @there_ns, the answer @back_ns, and the other one thinks for @held_ns. */
struct way {
	int64_t ahead_ns, there_ns, held_ns, back_ns;
};

static int64_t monotonic_ns = 1000 * S;

static struct clock_exchange exchange(const struct way *way)
{
	int64_t asked_ns = monotonic_ns += S, arrived_ns = asked_ns + way->there_ns, left_ns = arrived_ns + way->held_ns;
	int64_t answered_ns = left_ns + way->back_ns;

	return (struct clock_exchange){
		.originate_ns = (uint64_t)(EPOCH + way->ahead_ns + asked_ns),
		.receive_ns = (uint64_t)(EPOCH + arrived_ns),
		.transmit_ns = (uint64_t)(EPOCH + left_ns),
		.destination_ns = (uint64_t)(EPOCH + way->ahead_ns + answered_ns),
		.asked_monotonic_ns = (uint64_t)asked_ns,
		.answered_monotonic_ns = (uint64_t)answered_ns,
	};
}

static void note(struct clock_offset *offset, struct way way)
{
	struct clock_exchange e = exchange(&way);

	ck_assert(clock_offset_note(offset, &e));
}

static struct clock_sample best(const struct clock_offset *offset)
{
	struct clock_sample sample;

	ck_assert(clock_offset_best(offset, &sample));
	return sample;
}

static const struct {
	struct way way;
	int64_t offset_ns;
	uint64_t delay_ns;
} cases[] = {
	{ { 0, MS, 0, MS }, 0, 2 * MS },
	{ { 5 * MS, MS, 0, MS }, 5 * MS, 2 * MS },
	{ { -5 * MS, MS, 0, MS }, -5 * MS, 2 * MS },
	{ { 3600 * S, MS, 50 * MS, MS }, 3600 * S, 2 * MS },
	{ { -3600 * S, MS, 50 * MS, MS }, -3600 * S, 2 * MS },
	{ { 7 * MS, 3 * MS, 0, MS }, 6 * MS, 4 * MS }, /* the error is half of what the ways differ by */
	{ { 7 * MS, 0, 0, 0 }, 7 * MS, 0 },
};

START_TEST(offset_and_delay)
{
	struct clock_offset offset = { 0 };
	struct clock_sample sample;

	ck_assert(!clock_offset_best(&offset, &sample));
	note(&offset, cases[_i].way);
	sample = best(&offset);
	ck_assert_int_eq(sample.offset_ns, cases[_i].offset_ns);
	ck_assert_uint_eq(sample.delay_ns, cases[_i].delay_ns);
}
END_TEST

START_TEST(the_fastest_of_the_last_eight_counts)
{
	struct clock_offset offset = { 0 };

	note(&offset, (struct way){ 0, MS / 2, 0, MS / 2 });
	for (int i = 0; i < CLOCK_OFFSET_SAMPLES - 1; i++) {
		note(&offset, (struct way){ 0, 9 * MS, 0, MS });
		ck_assert_int_eq(best(&offset).offset_ns, 0);
	}
	note(&offset, (struct way){ 0, 9 * MS, 0, MS }); /* the first is forgotten */
	ck_assert_int_eq(best(&offset).offset_ns, -4 * MS);
}
END_TEST

/* Whichever of the two was set: what was measured before says nothing of now. */
START_TEST(a_jump_is_seen_at_once)
{
	static const int64_t jumps_ns[] = { 3600 * S, -3600 * S, 30 * MS, -30 * MS };
	struct clock_offset offset = { 0 };

	for (int i = 0; i < 20; i++)
		note(&offset, (struct way){ 0, MS / 2, 0, MS / 2 });
	note(&offset, (struct way){ jumps_ns[_i], 2 * MS, 0, 2 * MS });
	ck_assert_int_eq(best(&offset).offset_ns, jumps_ns[_i]);
	offset.base_ns -= jumps_ns[_i]; /* as if the other one's were set: ours goes on */
	note(&offset, (struct way){ 0, 2 * MS, 0, 2 * MS });
	ck_assert_int_eq(best(&offset).offset_ns, 0);
}
END_TEST

START_TEST(what_says_nothing_is_not_taken)
{
	struct clock_offset offset = { 0 };
	struct way way = { 0, MS, 0, MS };
	struct clock_exchange e = exchange(&way);

	e.destination_ns += 3600 * S; /* our clock was set while the question was out */
	ck_assert(!clock_offset_note(&offset, &e));
	e = exchange(&way);
	e.transmit_ns = e.receive_ns - 1; /* it left before it came */
	ck_assert(!clock_offset_note(&offset, &e));
	e = exchange(&way);
	e.transmit_ns = e.receive_ns + S; /* it was held for longer than it was away */
	ck_assert(!clock_offset_note(&offset, &e));
	e = exchange(&way);
	e.receive_ns = e.transmit_ns = UINT64_MAX;
	ck_assert(!clock_offset_note(&offset, &e));
	ck_assert_uint_eq(offset.count, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("clock_offset");
	TCase *tcase = tcase_create("clock_offset");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, offset_and_delay, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tcase, the_fastest_of_the_last_eight_counts);
	tcase_add_loop_test(tcase, a_jump_is_seen_at_once, 0, 4);
	tcase_add_test(tcase, what_says_nothing_is_not_taken);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
