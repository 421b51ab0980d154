/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/workers.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

STAILQ_HEAD(work_list, work);

/* Exists while there is work in it. */
struct lane {
	TAILQ_ENTRY(lane) link;
	const void *key;
	struct work_list waiting;
	unsigned int running;
};

TAILQ_HEAD(lane_list, lane);

struct workers {
	pthread_mutex_t mutex;
	pthread_cond_t has_work;
	struct lane_list lanes; /* under the mutex, as all up to `stopping`; who was served last is last */
	unsigned int running;
	struct work_list finished;
	bool stopping;
	unsigned int threads_max; /* never changes */

	/* The loop's. */
	pthread_t *threads;
	unsigned int thread_count; /* started */
	int wakeup; /* eventfd: there is something in `finished` */
	struct event *on_wakeup;
};

static struct lane *lane_get(struct workers *workers, const void *key)
{
	struct lane *lane;

	TAILQ_FOREACH(lane, &workers->lanes, link)
		if (lane->key == key)
			return lane;
	lane = calloc(1, sizeof(*lane));
	if (!lane)
		return NULL;
	lane->key = key;
	STAILQ_INIT(&lane->waiting);
	TAILQ_INSERT_TAIL(&workers->lanes, lane, link);
	return lane;
}

/*
 * A lane may have as many threads as are left. So one that hangs takes half of them, the next one a quarter, and there is
 * something left for a few more, whoever came first. Source: Choudhury and Hahne, "Dynamic queue length thresholds for
 * shared-memory packet switches" (1998), with a factor of one
 */
static bool may_run(const struct workers *workers, const struct lane *lane)
{
	const struct work *first = STAILQ_FIRST(&lane->waiting);

	if (!first || (first->is_last && lane->running))
		return false;
	return lane->running < workers->threads_max - workers->running;
}

static struct lane *next_lane(struct workers *workers)
{
	struct lane *lane;

	TAILQ_FOREACH(lane, &workers->lanes, link)
		if (may_run(workers, lane))
			return lane;
	return NULL;
}

/* The first work of a lane. */
static struct work *take_work(struct workers *workers, struct lane *lane)
{
	struct work *work = STAILQ_FIRST(&lane->waiting);

	STAILQ_REMOVE_HEAD(&lane->waiting, link);
	lane->running++;
	workers->running++;
	TAILQ_REMOVE(&workers->lanes, lane, link);
	TAILQ_INSERT_TAIL(&workers->lanes, lane, link);
	return work;
}

static void finish(struct workers *workers, struct lane *lane, struct work *work)
{
	bool first = STAILQ_EMPTY(&workers->finished);

	STAILQ_INSERT_TAIL(&workers->finished, work, link);
	if (first)
		eventfd_write(workers->wakeup, 1);
	lane->running--;
	workers->running--;
	if (!lane->running && STAILQ_EMPTY(&lane->waiting)) {
		TAILQ_REMOVE(&workers->lanes, lane, link);
		free(lane);
	}
}

static void *worker(void *arg)
{
	struct workers *workers = arg;

	pthread_mutex_lock(&workers->mutex);
	for (;;) {
		struct lane *lane;
		struct work *work;

		while (!(lane = next_lane(workers)) && !(workers->stopping && TAILQ_EMPTY(&workers->lanes)))
			pthread_cond_wait(&workers->has_work, &workers->mutex);
		if (!lane)
			break;
		work = take_work(workers, lane);
		if (next_lane(workers)) /* what ended may have made room for more than one */
			pthread_cond_signal(&workers->has_work);
		pthread_mutex_unlock(&workers->mutex);
		work->run(work);
		pthread_mutex_lock(&workers->mutex);
		finish(workers, lane, work);
		if (workers->stopping)
			pthread_cond_broadcast(&workers->has_work);
	}
	pthread_mutex_unlock(&workers->mutex);
	return NULL;
}

static void finish_all(struct workers *workers)
{
	struct work_list finished = STAILQ_HEAD_INITIALIZER(finished);
	struct work *work;

	pthread_mutex_lock(&workers->mutex);
	STAILQ_CONCAT(&finished, &workers->finished);
	pthread_mutex_unlock(&workers->mutex);
	while ((work = STAILQ_FIRST(&finished))) {
		STAILQ_REMOVE_HEAD(&finished, link);
		work->done(work);
	}
}

static void on_wakeup(evutil_socket_t fd, short what, void *arg)
{
	eventfd_t count;

	(void)what;
	eventfd_read(fd, &count);
	finish_all(arg);
}

/* Signals are the loop's business. */
static int start_threads(struct workers *workers, unsigned int count)
{
	sigset_t all, before;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	while (rc == 0 && workers->thread_count < count) {
		rc = -pthread_create(&workers->threads[workers->thread_count], NULL, worker, workers);
		workers->thread_count += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

int workers_new(struct event_base *base, unsigned int threads, struct workers **out)
{
	struct workers *workers = calloc(1, sizeof(*workers));
	int rc = -ENOMEM;

	if (!workers)
		return -ENOMEM;
	pthread_mutex_init(&workers->mutex, NULL);
	pthread_cond_init(&workers->has_work, NULL);
	TAILQ_INIT(&workers->lanes);
	workers->threads_max = threads;
	STAILQ_INIT(&workers->finished);
	workers->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	workers->threads = calloc(threads, sizeof(*workers->threads));
	if (workers->wakeup >= 0)
		workers->on_wakeup = event_new(base, workers->wakeup, EV_READ | EV_PERSIST, on_wakeup, workers);
	if (workers->threads && workers->on_wakeup && event_add(workers->on_wakeup, NULL) == 0)
		rc = start_threads(workers, threads);
	if (rc < 0) {
		workers_free(workers);
		return rc;
	}
	*out = workers;
	return 0;
}

void workers_free(struct workers *workers)
{
	if (!workers)
		return;
	pthread_mutex_lock(&workers->mutex);
	workers->stopping = true;
	pthread_cond_broadcast(&workers->has_work);
	pthread_mutex_unlock(&workers->mutex);
	for (unsigned int i = 0; i < workers->thread_count; i++)
		pthread_join(workers->threads[i], NULL);
	finish_all(workers);
	if (workers->on_wakeup)
		event_free(workers->on_wakeup);
	if (workers->wakeup >= 0)
		close(workers->wakeup);
	pthread_cond_destroy(&workers->has_work);
	pthread_mutex_destroy(&workers->mutex);
	free(workers->threads);
	free(workers);
}

static int submit(struct workers *workers, struct work *work, bool is_last)
{
	struct lane *lane;

	work->is_last = is_last;
	pthread_mutex_lock(&workers->mutex);
	lane = lane_get(workers, work->lane);
	if (lane) {
		STAILQ_INSERT_TAIL(&lane->waiting, work, link);
		if (may_run(workers, lane))
			pthread_cond_signal(&workers->has_work);
	}
	pthread_mutex_unlock(&workers->mutex);
	return lane ? 0 : -ENOMEM;
}

int workers_submit(struct workers *workers, struct work *work)
{
	return submit(workers, work, false);
}

int workers_submit_last(struct workers *workers, struct work *work)
{
	return submit(workers, work, true);
}
