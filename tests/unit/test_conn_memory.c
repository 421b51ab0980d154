/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client that works is starved or closed while a crowd of others only holds memory.
 *
 * The rules alone; tests/unit/test_conn.c has them with connections.
 */
#include "config.h"

#include "common/conn_memory.h"

#include <check.h>
#include <event2/event.h>
#include <stdlib.h>

enum {
	STRANGERS = 5,
	MUCH = 2 * CONN_MEMORY_EACH,
	LONG = 1024 * 1024,
	MEMORY = 2 * (CONN_MEMORY_TURNS + 1) * CONN_MEMORY_TURN, /* as little as there may be */
};

static struct event_base *base;
static struct conn_memory *memory;
static struct conn_holder hog, known, strangers[STRANGERS];
static struct conn_holder *closed;

static void on_turn(struct conn_holder *holder)
{
	(void)holder;
}

/* Nobody is really closed: who is asked for is what counts. */
static bool on_stalled(struct conn_holder *holder)
{
	if (!conn_memory_has_turn(holder))
		closed = holder;
	return false;
}

static const struct conn_holder_functions functions = { .on_turn = on_turn, .on_stalled = on_stalled };

/* The hog holds all, so that there is one turn at a time. */
static void setup(void)
{
	base = event_base_new();
	memory = conn_memory_new(base, NULL, MEMORY, CONN_MEMORY_TURNS);
	conn_memory_join(memory, &hog, &functions);
	conn_memory_hold(&hog, MEMORY);
	conn_memory_join(memory, &known, &functions);
	for (size_t i = 0; i < STRANGERS; i++)
		conn_memory_join(memory, &strangers[i], &functions);
	conn_memory_progress(&known);
	closed = NULL;
}

static void teardown(void)
{
	for (size_t i = 0; i < STRANGERS; i++)
		conn_memory_leave(&strangers[i]);
	conn_memory_leave(&known);
	conn_memory_leave(&hog);
	conn_memory_free(memory);
	event_base_free(base);
}

static void ask(struct conn_holder *holder)
{
	ck_assert(!conn_memory_ask(holder, LONG, true));
}

static void expect_turn(struct conn_holder *holder)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert(conn_memory_has_turn(holder));
	conn_memory_rest(holder, true);
}

/* The hog's client takes answers all the time. */
static void pass_time(void)
{
	for (int i = 0; i < 2 * CONN_MEMORY_STALL_TICKS; i++) {
		conn_memory_progress(&hog);
		conn_memory_tick(memory);
	}
}

START_TEST(a_known_client_does_not_stand_behind_a_crowd)
{
	for (size_t i = 0; i < STRANGERS; i++)
		ask(&strangers[i]);
	ask(&known);
	expect_turn(&known);
	expect_turn(&strangers[0]);
	ask(&known);
	expect_turn(&known);
	/* Nobody who is known waits: of the others the newest, and the oldest again. */
	expect_turn(&strangers[STRANGERS - 1]);
	expect_turn(&strangers[1]);
}
END_TEST

START_TEST(who_waits_is_not_blamed)
{
	ask(&strangers[0]);
	event_base_loop(base, EVLOOP_NONBLOCK); /* has the only turn */
	conn_memory_hold(&known, MUCH);
	ask(&known);
	pass_time();
	ck_assert_ptr_null(closed);

	/* One that could go on, and does not. */
	conn_memory_hold(&strangers[1], MUCH);
	pass_time();
	ck_assert_ptr_eq(closed, &strangers[1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("conn_memory");
	TCase *tcase = tcase_create("conn_memory");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_known_client_does_not_stand_behind_a_crowd);
	tcase_add_test(tcase, who_waits_is_not_blamed);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
