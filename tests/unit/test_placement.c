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

static const struct placement_policy policy = { .bytes = MIB, .ratio = 200, .window_ms = 500, .stay_ms = 200 };

/* A device as the policy sees it. Its session has never moved. */
struct device {
	const struct placement_policy *policy;
	struct placement placement;
	struct placement_budget budget;
	uint32_t permille[4];
	uint64_t moved_ms, queued;
};

static struct placement_verdict judge(const struct device *device, uint64_t now_ms)
{
	struct placement_situation situation = {
		.self = SELF,
		.now_ms = now_ms,
		.moved_ms = device->moved_ms,
		.queued = device->queued,
		.permille = device->permille,
		.permille_count = sizeof(device->permille) / sizeof(device->permille[0]),
		.budget = &device->budget,
	};
	struct placement_verdict verdict;

	placement_judge(&device->placement, device->policy, &situation, &verdict);
	return verdict;
}

/* A request of @node's data, and where the session goes then; 0: it stays. */
static uint32_t work(struct device *device, uint32_t node, uint64_t bytes, uint64_t now_ms)
{
	struct placement_verdict verdict;

	placement_note(&device->placement, device->policy, node, bytes, now_ms);
	verdict = judge(device, now_ms);
	return node != SELF && verdict.moves ? verdict.node : 0;
}

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
	struct device device = { .policy = &policy };
	uint32_t to = 0;

	for (size_t i = 0; i < cases[_i].count; i++) {
		const struct note *note = &cases[_i].notes[i];

		ck_assert_msg(to == 0, "%s: moved too early", cases[_i].what);
		to = work(&device, note->node, note->bytes, note->at_ms);
	}
	ck_assert_msg(to == cases[_i].to, "%s: moved to %u", cases[_i].what, to);
}
END_TEST

/* Small files: no request moves much, but there are many, and each crosses the switch. */
START_TEST(many_small_requests_move_too)
{
	struct device device = { .policy = &policy };
	int requests = 0;

	while (work(&device, OTHER, 100, 1000) == 0)
		ck_assert_int_lt(++requests, MIB / WEIGHT);
	ck_assert_int_ge(requests, MIB / (WEIGHT + 100) - 1);
}
END_TEST

/* Half of the work here, half there: moving would not help, whichever device asks. */
START_TEST(even_work_stays)
{
	struct device device = { .policy = &policy };

	for (uint64_t now_ms = 1000; now_ms < 60000; now_ms += 3) {
		ck_assert_uint_eq(work(&device, OTHER, 64 * 1024, now_ms), 0);
		ck_assert_uint_eq(work(&device, SELF, 64 * 1024, now_ms), 0);
	}
}
END_TEST

/* Old figures are halved once per window, however many windows passed at once. */
START_TEST(figures_are_halved)
{
	struct device device = { .policy = &policy };

	work(&device, SELF, 64 * MIB - WEIGHT, 1000);
	work(&device, OTHER, 0, 1000 + policy.window_ms - 1);
	ck_assert_uint_eq(device.placement.shares[0].bytes, 64 * MIB);
	work(&device, OTHER, 0, 1000 + policy.window_ms);
	ck_assert_uint_eq(device.placement.shares[0].bytes, 32 * MIB);
	work(&device, OTHER, 0, 1000 + 4 * policy.window_ms);
	ck_assert_uint_eq(device.placement.shares[0].bytes, 4 * MIB);
	work(&device, OTHER, 0, 1000 + 100000 * (uint64_t)policy.window_ms);
	ck_assert_uint_eq(device.placement.shares[0].bytes, 0);
}
END_TEST

/* More devices than there are places: who did least is forgotten, who did most is not. */
START_TEST(many_devices)
{
	struct device device = { .policy = &policy };

	work(&device, SELF, MIB, 1000);
	for (uint32_t node = 2; node < 100; node++)
		ck_assert_uint_eq(work(&device, node, 100 * node, 1001), 0);
	/* Our own figure is still known: this is not yet twice as much. */
	ck_assert_uint_eq(work(&device, 200, 2 * MIB, 1002), 0);
	ck_assert_uint_eq(work(&device, 200, MIB, 1003), 200);
}
END_TEST

/* A policy without a window (never set) does not divide by zero. */
START_TEST(no_window)
{
	struct placement_policy none = { .bytes = MIB };
	struct device device = { .policy = &none };

	ck_assert_uint_eq(work(&device, OTHER, MIB, 1000), OTHER);
}
END_TEST

/* Each criterion alone: with the others met, it decides. */
static const struct {
	const char *what;
	struct placement_policy policy;
	struct device device; /* its policy is the one above */
	uint64_t other, third, own;
	uint32_t to;
} criteria[] = {
	{ "all others' data together", { .elsewhere = 2 * MIB }, { 0 }, MIB, MIB + 1, 0, THIRD },
	{ "not enough, together", { .elsewhere = 3 * MIB }, { 0 }, MIB, MIB, 0, 0 },
	{ "neither sum set: nothing moves", { 0 }, { 0 }, 9 * MIB, 0, 0, 0 },
	{ "one of the sums is enough", { .bytes = MIB, .elsewhere = 100 * MIB }, { 0 }, 2 * MIB, 0, 0, OTHER },
	{ "any share of the whole", { .bytes = MIB }, { 0 }, 2 * MIB, 0, 50 * MIB, OTHER },
	{ "three times as much", { .bytes = MIB, .ratio = 300 }, { 0 }, 31 * MIB, 0, 10 * MIB, OTHER },
	{ "not three times as much", { .bytes = MIB, .ratio = 300 }, { 0 }, 29 * MIB, 0, 10 * MIB, 0 },
	{ "too busy", { .bytes = MIB, .workload = 10 }, { .permille = { 0, 100, 210 } }, 2 * MIB, 0, 0, 0 },
	{ "busy, but not too much", { .bytes = MIB, .workload = 10 }, { .permille = { 0, 100, 200 } }, 2 * MIB, 0, 0, OTHER },
	{ "less busy", { .bytes = MIB, .workload = 1 }, { .permille = { 0, 900, 0 } }, 2 * MIB, 0, 0, OTHER },
	{ "workload is not looked at", { .bytes = MIB }, { .permille = { 0, 0, 1000 } }, 2 * MIB, 0, 0, OTHER },
	{ "no handoff left", { .bytes = MIB, .budget = 2 }, { .budget = { 500, 2 } }, 2 * MIB, 0, 0, 0 },
	{ "one handoff left", { .bytes = MIB, .budget = 2 }, { .budget = { 500, 1 } }, 2 * MIB, 0, 0, OTHER },
	{ "a new second", { .bytes = MIB, .budget = 2 }, { .budget = { 0, 2 } }, 2 * MIB, 0, 0, OTHER },
	{ "replies wait", { .bytes = MIB, .queue = 1000 }, { .queued = 1001 }, 2 * MIB, 0, 0, 0 },
	{ "few replies wait", { .bytes = MIB, .queue = 1000 }, { .queued = 1000 }, 2 * MIB, 0, 0, OTHER },
};

START_TEST(each_criterion)
{
	struct device device = criteria[_i].device;
	struct placement_verdict verdict;

	device.policy = &criteria[_i].policy;
	placement_note(&device.placement, device.policy, SELF, criteria[_i].own, 1000);
	placement_note(&device.placement, device.policy, OTHER, criteria[_i].other, 1000);
	placement_note(&device.placement, device.policy, THIRD, criteria[_i].third, 1000);
	verdict = judge(&device, 1000);
	ck_assert_msg((verdict.moves ? verdict.node : 0) == criteria[_i].to, "%s: %s to %u", criteria[_i].what,
		      verdict.moves ? "moves" : "stays, rather than", verdict.node);
}
END_TEST

START_TEST(budget_is_per_second)
{
	struct placement_budget budget = { 0 };

	for (int i = 0; i < 3; i++)
		placement_spend(&budget, 1500);
	ck_assert_uint_eq(budget.begun, 3);
	placement_spend(&budget, 2500);
	ck_assert_uint_eq(budget.begun, 1);
}
END_TEST

START_TEST(clients_are_counted_apart)
{
	enum { CLIENTS = 3 };
	struct placement_clients *clients = placement_clients_new(CLIENTS);
	uint8_t address[16] = { 0 };

	for (uint8_t i = 0; i < CLIENTS; i++) {
		address[15] = i;
		placement_note(placement_of_client(clients, address), &policy, OTHER, i * MIB, 1000);
	}
	for (uint8_t i = 0; i < CLIENTS; i++) {
		address[15] = i;
		ck_assert_uint_eq(placement_of_client(clients, address)->shares[0].bytes, i * MIB + WEIGHT);
	}
	/* One more: who was longest away is forgotten, who was just here is not. */
	address[15] = 0;
	placement_of_client(clients, address);
	address[15] = CLIENTS;
	ck_assert_uint_eq(placement_of_client(clients, address)->shares[0].bytes, 0);
	address[15] = 0;
	ck_assert_uint_eq(placement_of_client(clients, address)->shares[0].bytes, WEIGHT);
	address[15] = 1;
	ck_assert_uint_eq(placement_of_client(clients, address)->shares[0].bytes, 0);
	placement_clients_free(clients);
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
	tcase_add_loop_test(tcase, each_criterion, 0, sizeof(criteria) / sizeof(criteria[0]));
	tcase_add_test(tcase, budget_is_per_second);
	tcase_add_test(tcase, clients_are_counted_apart);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
