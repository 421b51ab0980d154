/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, nasctl top shows load where there is none, misses it where it is, or the wrong sessions as the busiest.
 */
#include "config.h"

#include "common/placement.h"
#include "master/rates.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct rates *rates;

static void start(void)
{
	rates = rates_new();
	ck_assert_ptr_nonnull(rates);
}

static void stop(void)
{
	rates_free(rates);
}

static const struct {
	uint64_t counters[4], at_ms[4];
	size_t count;
	uint64_t per_s;
} sequences[] = {
	{ { 500 }, { 1000 }, 1, 0 },			       /* once is no rate */
	{ { 500, 1500 }, { 1000, 2000 }, 2, 1000 },	       /* a second */
	{ { 500, 1500 }, { 1000, 1500 }, 2, 2000 },	       /* half of one */
	{ { 500, 1500, 1500 }, { 1000, 2000, 2000 }, 3, 1000 }, /* not told anew */
	{ { 500, 1500, 1500 }, { 1000, 2000, 3000 }, 3, 0 },   /* nothing went on */
	{ { 500, 1500, 20 }, { 1000, 2000, 3000 }, 3, 0 },     /* the device began anew */
	{ { 500, 1500, 20, 30 }, { 1000, 2000, 3000, 4000 }, 4, 10 },
	{ { 500, 1500, 2500 }, { 5000, 6000, 3000 }, 3, 0 },   /* somebody set its clock back */
	{ { 0, UINT64_MAX }, { 1, 1001 }, 2, RATE_MAX },	       /* what a device says is not believed for ever */
};

START_TEST(rate_is_a_difference)
{
	struct rate rate = { 0 };

	for (size_t i = 0; i < sequences[_i].count; i++)
		rate_note(&rate, sequences[_i].counters[i], sequences[_i].at_ms[i]);
	ck_assert_uint_eq(rate.per_s, sequences[_i].per_s);
}
END_TEST

/* A session that has moved @bytes of volume @volume, and as many more of the next ones as there are @shares. */
static void look(uint64_t id, uint32_t node, uint32_t volume, uint64_t bytes, unsigned int shares, uint64_t at_ms)
{
	scp_volume_share list[64];
	scp_session session = { .id = id, .shares = { .shares_len = shares, .shares_val = list } };

	for (unsigned int i = 0; i < shares; i++)
		list[i] = (scp_volume_share){ .volume = volume + i, .bytes = bytes, .requests = bytes / 100 };
	rates_session(rates, &session, node, at_ms);
}

START_TEST(volumes_are_sums_of_sessions)
{
	rates_begin(rates);
	look(1, 2, 7, 1000, 1, 1000);
	look(2, 3, 7, 1000, 2, 1000);
	rates_end(rates);
	ck_assert_uint_eq(rates_of_volume(rates, 7).bytes, 0);
	rates_begin(rates);
	look(1, 2, 7, 3000, 1, 2000);
	look(2, 3, 7, 2000, 2, 2000);
	rates_end(rates);
	ck_assert_uint_eq(rates_of_volume(rates, 7).bytes, 3000);
	ck_assert_uint_eq(rates_of_volume(rates, 7).operations, 30);
	ck_assert_uint_eq(rates_of_volume(rates, 8).bytes, 1000);
	ck_assert_uint_eq(rates_of_volume(rates, 9).bytes, 0);
	/* The device of session 2 is silent: what is known of it counts, and nothing of session 1, which has ended. */
	rates_begin(rates);
	look(2, 3, 7, 2000, 2, 2000);
	rates_end(rates);
	ck_assert_uint_eq(rates_of_volume(rates, 7).bytes, 1000);
	rates_begin(rates);
	rates_end(rates);
	ck_assert_uint_eq(rates_of_volume(rates, 7).bytes, 0);
}
END_TEST

/* A session takes up a volume; the list of its volumes is in another order then. */
START_TEST(shares_may_change_places)
{
	scp_volume_share first[] = { { 5, 100, 1 } }, then[] = { { 4, 50, 1 }, { 5, 300, 3 } };
	scp_session session = { .id = 1, .shares = { 1, first } };

	rates_begin(rates);
	rates_session(rates, &session, 2, 1000);
	rates_end(rates);
	session.shares.shares_len = 2;
	session.shares.shares_val = then;
	rates_begin(rates);
	rates_session(rates, &session, 2, 2000);
	rates_end(rates);
	ck_assert_uint_eq(rates_of_volume(rates, 5).bytes, 200);
	ck_assert_uint_eq(rates_of_volume(rates, 4).bytes, 0);
	then[0].bytes += 70;
	rates_begin(rates);
	rates_session(rates, &session, 2, 3000);
	rates_end(rates);
	ck_assert_uint_eq(rates_of_volume(rates, 4).bytes, 70);
	ck_assert_uint_eq(rates_of_volume(rates, 5).bytes, 0);
}
END_TEST

START_TEST(busiest_come_first)
{
	struct rates_busy busy[10];

	for (uint64_t at_ms = 1000; at_ms <= 2000; at_ms += 1000) {
		rates_begin(rates);
		for (unsigned int id = 1; id <= 200; id++)
			look(id, 2, 7, at_ms == 1000 ? 0 : (uint64_t)(id * 37 % 200) * 1000, 1, at_ms);
		rates_end(rates);
	}
	ck_assert_uint_eq(rates_busiest(rates, busy, 10), 10);
	for (size_t i = 0; i < 10; i++) {
		ck_assert_uint_eq(busy[i].flow.bytes, (199 - i) * 1000);
		ck_assert_uint_eq(busy[i].session * 37 % 200, 199 - i);
		ck_assert_uint_eq(busy[i].node, 2);
	}
	rates_begin(rates);
	look(9, 2, 7, 0, 1, 3000); /* idle */
	rates_end(rates);
	ck_assert_uint_eq(rates_busiest(rates, busy, 10), 0);
	ck_assert_uint_eq(rates_busiest(rates, busy, 0), 0);
}
END_TEST

/* Requests that move no data are work, too. */
START_TEST(a_request_weighs_something)
{
	scp_volume_share shares[] = { { 1, 0, 0 }, { 1, 0, 0 } };
	scp_session small = { .id = 1, .shares = { 1, &shares[0] } }, large = { .id = 2, .shares = { 1, &shares[1] } };
	struct rates_busy busy[2];

	for (uint64_t at_ms = 1000; at_ms <= 2000; at_ms += 1000) {
		rates_begin(rates);
		rates_session(rates, &small, 2, at_ms);
		rates_session(rates, &large, 2, at_ms);
		rates_end(rates);
		shares[0].requests = 100;
		shares[1].bytes = 99 * PLACEMENT_REQUEST_BYTES;
	}
	ck_assert_uint_eq(rates_busiest(rates, busy, 2), 2);
	ck_assert_uint_eq(busy[0].session, 1);
	ck_assert_uint_eq(busy[1].session, 2);
}
END_TEST

START_TEST(nodes_have_their_own_clocks)
{
	const struct rates_flow before = { .operations = 10, .read_bytes = 1000, .written_bytes = 5 };
	const struct rates_flow after = { .operations = 30, .read_bytes = 1500, .written_bytes = 5 };

	rates_node(rates, 2, &before, 77000);
	rates_node(rates, 3, &before, 1000);
	rates_node(rates, 2, &after, 79000);
	rates_node(rates, 3, &after, 1500);
	ck_assert_uint_eq(rates_of_node(rates, 2).operations, 10);
	ck_assert_uint_eq(rates_of_node(rates, 2).read_bytes, 250);
	ck_assert_uint_eq(rates_of_node(rates, 2).written_bytes, 0);
	ck_assert_uint_eq(rates_of_node(rates, 3).operations, 40);
	rates_node(rates, 100000, &after, 1);
	ck_assert_uint_eq(rates_of_node(rates, 100000).operations, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rates");
	TCase *tcase = tcase_create("rates");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_loop_test(tcase, rate_is_a_difference, 0, sizeof(sequences) / sizeof(sequences[0]));
	tcase_add_test(tcase, volumes_are_sums_of_sessions);
	tcase_add_test(tcase, shares_may_change_places);
	tcase_add_test(tcase, busiest_come_first);
	tcase_add_test(tcase, a_request_weighs_something);
	tcase_add_test(tcase, nodes_have_their_own_clocks);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
