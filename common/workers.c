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

struct workers {
	pthread_mutex_t mutex;
	pthread_cond_t has_work, is_idle;
	struct work_list waiting, finished; /* under the mutex, as all below */
	unsigned int running;
	bool stopping;

	/* The loop's. */
	pthread_t *threads;
	unsigned int thread_count;
	int wakeup; /* eventfd: there is something in `finished` */
	struct event *on_wakeup;
};

static void *worker(void *arg)
{
	struct workers *workers = arg;
	struct work *work;

	pthread_mutex_lock(&workers->mutex);
	for (;;) {
		bool first;

		while (STAILQ_EMPTY(&workers->waiting) && !workers->stopping)
			pthread_cond_wait(&workers->has_work, &workers->mutex);
		work = STAILQ_FIRST(&workers->waiting);
		if (!work)
			break;
		STAILQ_REMOVE_HEAD(&workers->waiting, link);
		workers->running++;
		pthread_mutex_unlock(&workers->mutex);
		work->run(work);
		pthread_mutex_lock(&workers->mutex);
		first = STAILQ_EMPTY(&workers->finished);
		STAILQ_INSERT_TAIL(&workers->finished, work, link);
		if (first)
			eventfd_write(workers->wakeup, 1);
		if (--workers->running == 0 && STAILQ_EMPTY(&workers->waiting))
			pthread_cond_broadcast(&workers->is_idle);
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
	pthread_cond_init(&workers->is_idle, NULL);
	STAILQ_INIT(&workers->waiting);
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
	pthread_cond_destroy(&workers->is_idle);
	pthread_mutex_destroy(&workers->mutex);
	free(workers->threads);
	free(workers);
}

void workers_submit(struct workers *workers, struct work *work)
{
	pthread_mutex_lock(&workers->mutex);
	STAILQ_INSERT_TAIL(&workers->waiting, work, link);
	pthread_cond_signal(&workers->has_work);
	pthread_mutex_unlock(&workers->mutex);
}

void workers_drain(struct workers *workers)
{
	pthread_mutex_lock(&workers->mutex);
	while (workers->running || !STAILQ_EMPTY(&workers->waiting))
		pthread_cond_wait(&workers->is_idle, &workers->mutex);
	pthread_mutex_unlock(&workers->mutex);
}
