/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, an answer never reaches its connection, or the control loop changes what a data loop is just reading.
 */
#include "config.h"

#include "common/loop.h"

#include <check.h>
#include <event2/event.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOOPS = 3, POSTERS = 4, LETTERS = 5000, CHANGES = 2000 };

static struct event_base *base;
static struct loop *control;
static struct loops *loops;

static void setup(void)
{
	base = event_base_new();
	ck_assert_int_eq(loop_new(base, &control), 0);
	ck_assert_int_eq(loops_new(LOOPS, &loops), 0);
}

static void teardown(void)
{
	loops_free(loops);
	loop_free(control);
	event_base_free(base);
}

/* Letters */

struct numbered {
	struct letter letter;
	struct loop *to;
	unsigned int poster, number;
};

static struct numbered letters[POSTERS][LETTERS];
static unsigned int next_number[POSTERS];
static atomic_uint opened;
static atomic_bool out_of_order, elsewhere;

static void open_numbered(struct letter *letter)
{
	struct numbered *numbered = (struct numbered *)letter;

	if (numbered->number != next_number[numbered->poster]++)
		out_of_order = true;
	if (!loop_is_here(numbered->to))
		elsewhere = true;
	opened++;
}

static void *post_all(void *arg)
{
	struct numbered *own = arg;

	for (unsigned int i = 0; i < LETTERS; i++)
		loop_post(own[i].to, &own[i].letter);
	return NULL;
}

static void post_to(struct loop *to)
{
	pthread_t posters[POSTERS];

	for (unsigned int i = 0; i < POSTERS; i++) {
		for (unsigned int n = 0; n < LETTERS; n++)
			letters[i][n] = (struct numbered){
				.letter.open = open_numbered,
				.to = to,
				.poster = i,
				.number = n,
			};
		ck_assert_int_eq(pthread_create(&posters[i], NULL, post_all, letters[i]), 0);
	}
	for (unsigned int i = 0; i < POSTERS; i++)
		pthread_join(posters[i], NULL);
}

static void wait_until_opened(unsigned int count)
{
	for (int i = 0; i < 10000 && opened < count; i++)
		usleep(1000);
	ck_assert_uint_eq(opened, count);
	ck_assert(!out_of_order);
	ck_assert(!elsewhere);
}

START_TEST(letters_are_opened_in_their_loop_and_order)
{
	ck_assert_int_eq(loops_start(loops), 0);
	post_to(loops_at(loops, 1));
	wait_until_opened(POSTERS * LETTERS);
}
END_TEST

START_TEST(letters_to_the_control_loop_are_opened_when_it_runs)
{
	post_to(control);
	ck_assert_uint_eq(opened, 0);
	for (int turns = 0; turns < POSTERS * LETTERS && opened < POSTERS * LETTERS; turns++)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_NONBLOCK), 0);
	ck_assert_uint_eq(opened, POSTERS * LETTERS);
	ck_assert(!out_of_order && !elsewhere);
}
END_TEST

static void note_opened(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	*(unsigned int *)arg = opened;
}

/* Calls that clients have passed on by the thousand do not keep a heartbeat waiting. */
START_TEST(other_events_have_their_turn_among_many_letters)
{
	unsigned int opened_before = POSTERS * LETTERS;

	post_to(control);
	ck_assert_int_eq(event_base_once(base, -1, EV_TIMEOUT, note_opened, &opened_before, &(struct timeval){ .tv_usec = 1 }), 0);
	usleep(20000); /* its clock is a coarse one */
	ck_assert_int_eq(event_base_loop(base, EVLOOP_NONBLOCK), 0);
	ck_assert_uint_lt(opened_before, POSTERS * LETTERS);
	loop_open_letters(control);
	ck_assert_uint_eq(opened, POSTERS * LETTERS);
	ck_assert(!out_of_order && !elsewhere);
}
END_TEST

/* What a worker still has to say is not lost, and the same thread may say it that has stopped the loops. */
START_TEST(letters_to_a_stopped_loop_are_kept)
{
	ck_assert_int_eq(loops_start(loops), 0);
	loops_stop(loops);
	post_to(loops_at(loops, 0));
	ck_assert_uint_eq(opened, 0);
	loops_open_letters(loops);
	wait_until_opened(POSTERS * LETTERS);
}
END_TEST

START_TEST(loops_may_be_started_again)
{
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(loops_start(loops), 0);
		loops_stop(loops);
	}
	post_to(loops_at(loops, 2));
	ck_assert_int_eq(loops_start(loops), 0);
	wait_until_opened(POSTERS * LETTERS);
}
END_TEST

/* Pausing */

static unsigned int both[2]; /* the same, whenever a data loop looks */
static atomic_bool differed, enough;
static atomic_uint looks;

struct looker {
	struct letter letter;
	struct loop *loop;
};

/* Keeps its loop as busy as it can be: then it is hard to pause. */
static void look(struct letter *letter)
{
	struct looker *looker = (struct looker *)letter;

	if (both[0] != both[1])
		differed = true;
	looks++;
	if (!enough)
		loop_post(looker->loop, &looker->letter);
}

START_TEST(what_changes_in_a_pause_changes_at_once)
{
	static struct looker lookers[LOOPS]; /* some are opened after this */

	ck_assert_int_eq(loops_start(loops), 0);
	for (unsigned int i = 0; i < LOOPS; i++) {
		lookers[i] = (struct looker){ .letter.open = look, .loop = loops_at(loops, i) };
		loop_post(lookers[i].loop, &lookers[i].letter);
	}
	for (unsigned int i = 0; i < CHANGES; i++) {
		loops_pause(loops);
		loop_pause(loops_at(loops, 0)); /* they nest */
		both[0]++;
		sched_yield();
		loop_continue(loops_at(loops, 0));
		both[1]++;
		loops_continue(loops);
	}
	enough = true;
	loops_stop(loops);
	ck_assert(!differed);
	ck_assert_uint_gt(looks, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("loop");
	TCase *tc = tcase_create("loop");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, letters_are_opened_in_their_loop_and_order);
	tcase_add_test(tc, letters_to_the_control_loop_are_opened_when_it_runs);
	tcase_add_test(tc, other_events_have_their_turn_among_many_letters);
	tcase_add_test(tc, letters_to_a_stopped_loop_are_kept);
	tcase_add_test(tc, loops_may_be_started_again);
	tcase_add_test(tc, what_changes_in_a_pause_changes_at_once);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
