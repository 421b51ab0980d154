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
	tcase_add_test(tc, ending_waits_for_all);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
