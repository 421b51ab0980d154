/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, clients of one disk wait because another does not answer, or a volume is closed while somebody uses it.
 */
#include "config.h"

#include "common/workers.h"

#include <check.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

enum { THREADS = 12, MANY = 100, HUNG_LANES = 3 };

static struct event_base *base;
static struct workers *workers;

/* Work that hangs until it is let go. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool let_go;
static unsigned int running, most_running, ran, done;

static void hang(struct work *work)
{
	(void)work;
	pthread_mutex_lock(&mutex);
	running++;
	if (running > most_running)
		most_running = running;
	while (!let_go)
		pthread_cond_wait(&changed, &mutex);
	running--;
	ran++;
	pthread_mutex_unlock(&mutex);
}

static void on_done(struct work *work)
{
	(void)work;
	done++;
}

static void release(void)
{
	pthread_mutex_lock(&mutex);
	let_go = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

static void setup(void)
{
	let_go = false;
	running = most_running = ran = done = 0;
	base = event_base_new();
	ck_assert_int_eq(workers_new(base, THREADS, &workers), 0);
}

static void teardown(void)
{
	release();
	workers_free(workers);
	event_base_free(base);
}

static void submit(struct work *work, const void *lane, void (*run)(struct work *))
{
	*work = (struct work){ .lane = lane, .run = run, .done = on_done };
	ck_assert_int_eq(workers_submit(workers, work), 0);
}

static void until_done(unsigned int count)
{
	while (done < count)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_eq(done, count);
}

static void count_run(struct work *work)
{
	(void)work;
	pthread_mutex_lock(&mutex);
	ran++;
	pthread_mutex_unlock(&mutex);
}

START_TEST(a_disk_that_hangs_holds_up_nobody_else)
{
	static struct work hung[HUNG_LANES][MANY], others[MANY];
	static int lanes[HUNG_LANES], other;

	for (int i = 0; i < HUNG_LANES; i++)
		for (int j = 0; j < MANY; j++)
			submit(&hung[i][j], &lanes[i], hang);
	for (int j = 0; j < MANY; j++)
		submit(&others[j], &other, count_run);
	until_done(MANY);
	pthread_mutex_lock(&mutex);
	ck_assert_uint_eq(ran, MANY);
	ck_assert_uint_lt(most_running, THREADS);
	pthread_mutex_unlock(&mutex);
	release();
	until_done(MANY + HUNG_LANES * MANY);
}
END_TEST

/* What is there when nothing else is may use half of the threads: a disk answers faster if it is asked more at a time. */
START_TEST(one_lane_runs_in_parallel)
{
	static struct work hung[MANY];
	static int lane;
	bool is_half = false;

	for (int j = 0; j < MANY; j++)
		submit(&hung[j], &lane, hang);
	while (!is_half) {
		pthread_mutex_lock(&mutex);
		is_half = running == THREADS / 2;
		pthread_mutex_unlock(&mutex);
	}
	release();
	until_done(MANY);
}
END_TEST

static unsigned int seen_by_last;

static void look(struct work *work)
{
	(void)work;
	pthread_mutex_lock(&mutex);
	seen_by_last = ran;
	ck_assert_uint_eq(running, 0);
	pthread_mutex_unlock(&mutex);
}

START_TEST(the_last_runs_alone_and_last)
{
	static struct work before[MANY], last;
	static int lane;

	for (int j = 0; j < MANY; j++)
		submit(&before[j], &lane, hang);
	last = (struct work){ .lane = &lane, .run = look, .done = on_done };
	ck_assert_int_eq(workers_submit_last(workers, &last), 0);
	release();
	until_done(MANY + 1);
	ck_assert_uint_eq(seen_by_last, MANY);
}
END_TEST

struct step {
	struct work work;
	unsigned int left; /* steps that follow */
};

/* Does not end before somebody has asked for the last one. */
static void step(struct work *work)
{
	struct step *this = (struct step *)work;

	hang(work);
	if (!this->left)
		return;
	this[1] = (struct step){ .work = this->work, .left = this->left - 1 };
	workers_submit_next(workers, &this[1].work);
}

/* A volume is not closed between the steps of something. */
START_TEST(what_follows_runs_before_the_last)
{
	static struct step steps[MANY];
	static struct work last;
	static int lane;

	steps[0].left = MANY - 1;
	submit(&steps[0].work, &lane, step);
	last = (struct work){ .lane = &lane, .run = look, .done = on_done };
	ck_assert_int_eq(workers_submit_last(workers, &last), 0);
	release();
	until_done(MANY + 1);
	ck_assert_uint_eq(seen_by_last, MANY);
}
END_TEST

enum { HEAVY = 1, LIGHT = 2, OF_EACH = 40 };

/* Which queues were served, in that order. */
static uint8_t served[2 * OF_EACH + 1];
static unsigned int served_count;

static void note_queue(struct work *work)
{
	pthread_mutex_lock(&mutex);
	served[served_count++] = work->queue;
	pthread_mutex_unlock(&mutex);
}

/* A lane that has one thread, which is busy; then two queues of equal length; then the thread is free. */
static void serve_two_queues(uint16_t heavy_weight, uint32_t heavy_cost, uint16_t light_weight)
{
	static struct work busy, works[2 * OF_EACH];

	workers_free(workers);
	served_count = 0;
	ck_assert_int_eq(workers_new(base, 1, &workers), 0);
	submit(&busy, NULL, hang);
	for (unsigned int i = 0; i < 2 * OF_EACH; i++) {
		bool is_heavy = i < OF_EACH;

		works[i] = (struct work){ .run = note_queue,
					  .done = on_done,
					  .queue = is_heavy ? HEAVY : LIGHT,
					  .weight = is_heavy ? heavy_weight : light_weight,
					  .cost = is_heavy ? heavy_cost : 1 };
		ck_assert_int_eq(workers_submit(workers, &works[i]), 0);
	}
	release();
	until_done(2 * OF_EACH + 1);
}

static unsigned int light_among_first(unsigned int count)
{
	unsigned int light = 0;

	for (unsigned int i = 0; i < count; i++)
		light += served[i] == LIGHT;
	return light;
}

/* Who came first with much does not keep the other waiting until all of it is done. */
START_TEST(equal_queues_take_turns)
{
	serve_two_queues(100, 1, 100);
	ck_assert_uint_ge(light_among_first(20), 9);
	ck_assert_uint_le(light_among_first(20), 11);
}
END_TEST

START_TEST(weights_divide_the_lane)
{
	serve_two_queues(10, 1, 30);
	ck_assert_uint_ge(light_among_first(40), 28);
	ck_assert_uint_le(light_among_first(40), 32);
}
END_TEST

START_TEST(what_costs_more_counts_more)
{
	serve_two_queues(100, 9, 100);
	ck_assert_uint_ge(light_among_first(40), 35);
}
END_TEST

static void submit_to(uint8_t queue, struct work *work, void (*run)(struct work *))
{
	static int lane;

	*work = (struct work){ .lane = &lane, .queue = queue, .weight = 100, .run = run, .done = on_done };
	ck_assert_int_eq(workers_submit(workers, work), 0);
}

static void until_running(unsigned int count)
{
	bool is_so = false;

	while (!is_so) {
		pthread_mutex_lock(&mutex);
		is_so = running == count;
		pthread_mutex_unlock(&mutex);
	}
}

/* Who comes now and then does not find the disk full of another's work, which nobody can overtake any more. */
START_TEST(room_is_kept_for_who_comes_now_and_then)
{
	static struct work heavy[MANY], light[2], other;
	static int lane;

	submit_to(HEAVY, &heavy[0], hang); /* a lane knows who was there as long as anybody is */
	submit_to(LIGHT, &light[0], count_run);
	until_done(1);
	for (int j = 1; j < MANY; j++)
		submit_to(HEAVY, &heavy[j], hang);
	until_running(THREADS / 4);
	submit_to(LIGHT, &light[1], hang);
	until_running(THREADS / 4 + 1);
	submit(&other, &lane, count_run); /* threads have looked for more to do */
	until_done(2);
	ck_assert_uint_eq(most_running, THREADS / 4 + 1);
	release();
	until_done(MANY + 3);
}
END_TEST

/* ... and nothing is kept when all have work waiting. */
START_TEST(nothing_is_kept_from_who_wait)
{
	static struct work heavy[MANY], light[MANY];

	for (int j = 0; j < MANY; j++) {
		submit_to(HEAVY, &heavy[j], hang);
		submit_to(LIGHT, &light[j], hang);
	}
	until_running(THREADS / 2);
	release();
	until_done(2 * MANY);
}
END_TEST

START_TEST(nothing_is_kept_from_who_is_alone)
{
	static struct work works[MANY];

	for (int j = 0; j < MANY; j++)
		submit_to(HEAVY, &works[j], hang);
	until_running(THREADS / 2);
	release();
	until_done(MANY);
}
END_TEST

START_TEST(ending_waits_for_all)
{
	static struct work all[MANY];

	for (int j = 0; j < MANY; j++)
		submit(&all[j], &all[j / 10], hang);
	release();
	workers_free(workers);
	workers = NULL;
	ck_assert_uint_eq(ran, MANY);
	ck_assert_uint_eq(done, MANY);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("workers");
	TCase *tc = tcase_create("workers");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tc);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_disk_that_hangs_holds_up_nobody_else);
	tcase_add_test(tc, one_lane_runs_in_parallel);
	tcase_add_test(tc, the_last_runs_alone_and_last);
	tcase_add_test(tc, what_follows_runs_before_the_last);
	tcase_add_test(tc, equal_queues_take_turns);
	tcase_add_test(tc, weights_divide_the_lane);
	tcase_add_test(tc, what_costs_more_counts_more);
	tcase_add_test(tc, room_is_kept_for_who_comes_now_and_then);
	tcase_add_test(tc, nothing_is_kept_from_who_wait);
	tcase_add_test(tc, nothing_is_kept_from_who_is_alone);
	tcase_add_test(tc, ending_waits_for_all);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
