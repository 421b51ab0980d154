/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, one disk node drowns in clients while another is idle; or sessions wander about between devices for ever.
 */
#include "config.h"

#include "master/balance.h"

#include <check.h>
#include <stdlib.h>

enum { A = 2, B = 3, C = 4, BOUND = 900, RELIEF = BOUND - BALANCE_RELIEF_PERMILLE, SECOND = 1000 };

static uint32_t turns[BALANCE_TURNS_MAX];

static size_t count_of(uint32_t device, size_t first, size_t count)
{
	size_t sum = 0;

	for (size_t i = first; i < count; i++)
		sum += turns[i] == device;
	return sum;
}

/* New connections */

static const struct {
	const char *what;
	unsigned int weights[3]; /* of A, B, C; 0: not there */
	size_t turns, of_a, of_b, of_c;
} weights[] = {
	{ "nobody", { 0 }, 0, 0, 0, 0 },
	{ "one", { 100 }, 1, 1, 0, 0 },
	{ "two alike", { 100, 100 }, 2, 1, 1, 0 },
	{ "1 to 3", { 100, 300 }, 4, 1, 3, 0 },
	{ "3 to 1", { 300, 100 }, 4, 3, 1, 0 },
	{ "1 to 2 to 3", { 10, 20, 30 }, 6, 1, 2, 3 },
	{ "no common divisor", { 3, 5, 7 }, 15, 3, 5, 7 },
	{ "more than fit: as near as it gets", { 997, 1000 }, 1024, 511, 513, 0 },
};

START_TEST(turns_by_weight)
{
	struct balance_device devices[3];
	size_t count = 0;

	for (uint32_t i = 0; i < 3; i++)
		if (weights[_i].weights[i])
			devices[count++] = (struct balance_device){ .device = A + i, .weight = weights[_i].weights[i] };
	count = balance_by_weight(devices, count, turns);
	ck_assert_msg(count == weights[_i].turns, "%s: %zu turns", weights[_i].what, count);
	ck_assert_uint_eq(count_of(A, 0, count), weights[_i].of_a);
	ck_assert_uint_eq(count_of(B, 0, count), weights[_i].of_b);
	ck_assert_uint_eq(count_of(C, 0, count), weights[_i].of_c);
}
END_TEST

/* Not first all of one, then all of another. */
START_TEST(turns_are_spread)
{
	const struct balance_device devices[] = { { .device = A, .weight = 300 }, { .device = B, .weight = 200 },
						  { .device = C, .weight = 100 } };
	size_t count = balance_by_weight(devices, 3, turns);

	ck_assert_uint_eq(count, 6);
	for (size_t i = 0; i < count; i += 3) {
		ck_assert_uint_ge(count_of(A, i, i + 3), 1);
		ck_assert_uint_ge(count_of(B, i, i + 3), 1);
	}
}
END_TEST

static const struct {
	const char *what;
	struct balance_device a, b;
	size_t of_b; /* of the first hundred */
} loads[] = {
	{ "alike", { A, 100, 0, 0 }, { B, 100, 0, 0 }, 50 },
	{ "one has fifty already", { A, 100, 50, 0 }, { B, 100, 0, 0 }, 75 },
	{ "one has two hundred already", { A, 100, 200, 0 }, { B, 100, 0, 0 }, 100 },
	{ "one is three quarters idle, the other a quarter", { A, 100, 0, 750 }, { B, 100, 0, 250 }, 75 },
	{ "one is as busy as can be, or says nothing", { A, 100, 0, 1000 }, { B, 100, 0, 0 }, 96 },
	{ "... and has nothing to do: still not all go to the other", { A, 100, 0, 1000 }, { B, 100, 1000, 0 }, 47 },
	{ "one is three times as large", { A, 100, 0, 0 }, { B, 300, 0, 0 }, 75 },
	{ "so many as are never there", { A, 1, 1ull << 40, 1000 }, { B, 1000, 0, 0 }, 100 },
};

START_TEST(turns_by_load)
{
	const struct balance_device devices[] = { loads[_i].a, loads[_i].b };
	size_t count = balance_by_load(devices, 2, turns), of_b = count_of(B, 0, 100);

	ck_assert_uint_eq(count, BALANCE_TURNS_MAX);
	ck_assert_msg(of_b + 1 >= loads[_i].of_b && of_b <= loads[_i].of_b + 1, "%s: %zu", loads[_i].what, of_b);
}
END_TEST

START_TEST(nobody_to_get_connections)
{
	ck_assert_uint_eq(balance_by_load(NULL, 0, turns), 0);
}
END_TEST

/* However many there are and whatever they say of themselves, every turn is somebody's who is there. */
START_TEST(turns_of_many)
{
	struct balance_device devices[255];

	for (uint32_t i = 0; i < 255; i++)
		devices[i] = (struct balance_device){ .device = i + 1, .weight = BALANCE_WEIGHT_MAX, .sessions = 1000000 };
	ck_assert_uint_eq(balance_by_load(devices, 255, turns), BALANCE_TURNS_MAX);
	for (size_t i = 0; i < BALANCE_TURNS_MAX; i++)
		ck_assert(turns[i] >= 1 && turns[i] <= 255);
	ck_assert_uint_eq(balance_by_weight(devices, 255, turns), 255);
}
END_TEST

/* Sessions that are there. One line each: how busy a device was, each second from the first on, and in which it gives ('!'). */
static const struct {
	const char *what;
	const char *busy;  /* '9': at the bound; '8': between; '0': below what relieves */
	const char *gives; /* '!' where it gives */
} watches[] = {
	{ "never", "00000000000000", ".............." },
	{ "nearly, for ever", "88888888888888", ".............." },
	{ "not long enough", "99999089999909", ".............." },
	{ "a short break begins the time anew", "9998999999", "........." "!" },
	{ "long enough", "999999", ".....!" },
	{ "and not again at once", "99999999999", ".....!....!" },
	{ "somewhat less is not relief", "99999988888", ".....!....!" },
	{ "relief", "9999990888888888", ".....!.........." },
};

START_TEST(watched)
{
	struct balance_watch watch = { 0 };

	for (size_t i = 0; watches[_i].busy[i]; i++) {
		char is = watches[_i].busy[i];
		bool gives = balance_watch(&watch, is == '9' ? BOUND : is == '8' ? BOUND - 1 : RELIEF - 1, BOUND, (i + 1) * SECOND);

		ck_assert_msg(gives == (watches[_i].gives[i] == '!'), "%s: second %zu", watches[_i].what, i);
	}
}
END_TEST

static const struct {
	struct balance_session session;
	enum balance_reason reason;
} reasons[] = {
	{ { .elsewhere = 1 }, BALANCE_PASSES },
	{ { .here = 10, .elsewhere = 11 }, BALANCE_PASSES },
	{ { .here = 10, .elsewhere = 10 }, BALANCE_MIXED },
	{ { .here = 30, .elsewhere = 10 }, BALANCE_MIXED },
	{ { .here = 31, .elsewhere = 10 }, BALANCE_WORKS_HERE },
	{ { .here = 1 }, BALANCE_WORKS_HERE },
	{ { 0 }, BALANCE_IDLE },
	{ { .elsewhere = 1, .was_shifted = true }, BALANCE_SHIFTED },
};

START_TEST(what_a_session_is)
{
	ck_assert_int_eq(balance_reason_of(&reasons[_i].session), reasons[_i].reason);
}
END_TEST

START_TEST(every_reason_has_words)
{
	for (int reason = 0; reason < BALANCE_NREASONS; reason++)
		ck_assert_ptr_nonnull(balance_reason_text(reason));
}
END_TEST

static const struct {
	const char *what;
	uint32_t owner;
	struct balance_device a, b;
	uint32_t target;
} targets[] = {
	{ "the one that it works for", B, { A, 100, 0, 0 }, { B, 100, 10, 500 }, B },
	{ "... unless that is busy, too", B, { A, 100, 0, 0 }, { B, 100, 0, RELIEF }, A },
	{ "nobody in particular: the one with fewest", 0, { A, 100, 5, 0 }, { B, 100, 4, 0 }, B },
	{ "... or that is more idle", 0, { A, 100, 5, 100 }, { B, 100, 5, 600 }, A },
	{ "all are busy", 0, { A, 100, 0, 1000 }, { B, 100, 0, RELIEF }, 0 },
	{ "one that may get nothing", C, { A, 100, 5, 0 }, { B, 100, 4, 0 }, B },
};

START_TEST(where_it_goes)
{
	const struct balance_session session = { .owner = targets[_i].owner };
	const struct balance_device devices[] = { targets[_i].a, targets[_i].b };
	uint32_t target = balance_target(&session, devices, 2, BOUND);

	ck_assert_msg(target == targets[_i].target, "%s: %u", targets[_i].what, target);
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(table[0])))

int main(void)
{
	Suite *suite = suite_create("balance");
	TCase *tcase = tcase_create("balance");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, turns_by_weight, 0, COUNT(weights));
	tcase_add_test(tcase, turns_are_spread);
	tcase_add_loop_test(tcase, turns_by_load, 0, COUNT(loads));
	tcase_add_test(tcase, nobody_to_get_connections);
	tcase_add_test(tcase, turns_of_many);
	tcase_add_loop_test(tcase, watched, 0, COUNT(watches));
	tcase_add_loop_test(tcase, what_a_session_is, 0, COUNT(reasons));
	tcase_add_test(tcase, every_reason_has_words);
	tcase_add_loop_test(tcase, where_it_goes, 0, COUNT(targets));
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
