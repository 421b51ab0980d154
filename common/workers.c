/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/workers.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

STAILQ_HEAD(work_list, work);

enum {
	SHARE = 1 << 20,
	ABOUT_MS = 5000, /* whoever has come is expected to come again for so long */
};

/*
 * What waits in a lane, of one weight. `served` is the work done, divided by the weight: whoever has least is next. A queue that was
 * empty begins where the one is that was served last. Source: Goyal, Vin and Cheng, "Start-time Fair Queueing" (1997)
 */
struct queue {
	struct work_list waiting;
	uint64_t served;
	uint64_t came_ms; /* the last one with a weight; monotonic clock */
	unsigned int running;
};

/* Exists while there is work in it. */
struct lane {
	TAILQ_ENTRY(lane) link;
	const void *key;
	size_t waiting;
	uint64_t served; /* by who was served last */
	struct queue queues[WORKERS_QUEUES];
	struct work *last; /* runs when there is nothing else; or NULL */
	unsigned int running;
};

TAILQ_HEAD(lane_list, lane);

struct thread {
	LIST_ENTRY(thread) link;
	struct workers *workers;
	pthread_t id;
	pthread_cond_t wake;
	bool is_idle; /* in the list; under the mutex */
};

LIST_HEAD(thread_list, thread);

struct workers {
	pthread_mutex_t mutex;
	struct lane_list lanes; /* under the mutex, as all up to `stopping`; who was served last is last */
	unsigned int running;
	struct thread_list idle; /* who became idle last is first: what it needs is still in the caches */
	unsigned int woken;	 /* threads that are not idle any more, and have not yet looked for work */
	bool stopping;
	unsigned int threads_max; /* never changes */

	/* The control loop's. */
	struct thread *threads;
	unsigned int thread_count; /* started */
	struct loop *home;	   /* of work that names none */
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
	for (size_t i = 0; i < WORKERS_QUEUES; i++)
		STAILQ_INIT(&lane->queues[i].waiting);
	TAILQ_INSERT_TAIL(&workers->lanes, lane, link);
	return lane;
}

/*
 * A lane may have as many threads as are left. So one that hangs takes half of them, the next one a quarter, and there is
 * something left for a few more, whoever came first. Source: Choudhury and Hahne, "Dynamic queue length thresholds for
 * shared-memory packet switches" (1998), with a factor of one
 */
static bool has_room(const struct workers *workers, const struct lane *lane)
{
	return lane->running < workers->threads_max - workers->running;
}

/* Somebody else comes here now and then, and finds the disk as @queue leaves it. */
static bool is_alone(const struct lane *lane, const struct queue *queue)
{
	uint64_t now_ms = clock_monotonic_ms();

	for (const struct queue *other = lane->queues; other < lane->queues + WORKERS_QUEUES; other++)
		if (other != queue && other->came_ms && STAILQ_EMPTY(&other->waiting) && now_ms - other->came_ms < ABOUT_MS)
			return false;
	return true;
}

/*
 * The order in which work is begun is not all: what has been begun is a queue, too, in the disk. So nobody has more than half of the threads
 * that the lane may have, while somebody else is about who has nothing waiting. When all have, nothing is kept back.
 */
static bool is_kept_back(const struct workers *workers, const struct lane *lane, const struct queue *queue)
{
	unsigned int left = workers->threads_max - (workers->running - lane->running);

	/* Of what is left for it a lane can have half: see may_run(). */
	return queue->running >= (left + 3) / 4 && !is_alone(lane, queue);
}

/* The queue whose turn it is. NULL: nothing waits, or may begin */
static struct queue *next_queue(const struct workers *workers, struct lane *lane)
{
	struct queue *next = NULL;

	for (struct queue *queue = lane->queues; lane->waiting && queue < lane->queues + WORKERS_QUEUES; queue++)
		if (!STAILQ_EMPTY(&queue->waiting) && (!next || queue->served < next->served) &&
		    !is_kept_back(workers, lane, queue))
			next = queue;
	return next;
}

static bool may_run(const struct workers *workers, struct lane *lane)
{
	if (!has_room(workers, lane))
		return false;
	return lane->waiting ? next_queue(workers, lane) != NULL : lane->last && !lane->running;
}

static struct lane *next_lane(struct workers *workers)
{
	struct lane *lane;

	TAILQ_FOREACH(lane, &workers->lanes, link)
		if (may_run(workers, lane))
			return lane;
	return NULL;
}

static void queue_add(struct lane *lane, struct work *work)
{
	struct queue *queue = &lane->queues[work->queue];

	if (STAILQ_EMPTY(&queue->waiting) && queue->served < lane->served)
		queue->served = lane->served;
	STAILQ_INSERT_TAIL(&queue->waiting, work, link);
	if (work->weight)
		queue->came_ms = clock_monotonic_ms();
	lane->waiting++;
}

static struct work *queue_take(struct lane *lane, struct queue *queue)
{
	struct work *work = STAILQ_FIRST(&queue->waiting);

	STAILQ_REMOVE_HEAD(&queue->waiting, link);
	lane->waiting--;
	queue->running++;
	lane->served = queue->served;
	queue->served += (work->cost ? work->cost : 1) * (uint64_t)SHARE / (work->weight ? work->weight : 1);
	return work;
}

/* The next work of a lane. @queue: out: whose it was; NULL: the last one's */
static struct work *take_work(struct workers *workers, struct lane *lane, struct queue **queue)
{
	struct work *work = lane->last;

	*queue = next_queue(workers, lane);
	if (*queue)
		work = queue_take(lane, *queue);
	else
		lane->last = NULL;
	lane->running++;
	workers->running++;
	TAILQ_REMOVE(&workers->lanes, lane, link);
	TAILQ_INSERT_TAIL(&workers->lanes, lane, link);
	return work;
}

static void finish(struct workers *workers, struct lane *lane, struct queue *queue)
{
	if (queue)
		queue->running--;
	lane->running--;
	workers->running--;
	if (!lane->running && !lane->waiting && !lane->last) {
		TAILQ_REMOVE(&workers->lanes, lane, link);
		free(lane);
	}
}

static void letter_open(struct letter *letter)
{
	struct work *work = (struct work *)((char *)letter - offsetof(struct work, letter));

	work->done(work);
}

/* The work may be gone when this returns. */
void workers_send_home(struct workers *workers, struct work *work)
{
	work->letter.open = letter_open;
	loop_post(work->home ? work->home : workers->home, &work->letter);
}

static void thread_call(struct thread *thread)
{
	LIST_REMOVE(thread, link);
	thread->is_idle = false;
	thread->workers->woken++;
}

/*
 * An idle thread for what may run now, if there is need of one: the caller wakes it when it has let go of the
 * mutex, for which the two would only wait. One at a time is enough: it takes some work, and calls the next for the
 * rest. So nobody is woken for work that a thread takes which has just become free.
 */
static struct thread *call_thread(struct workers *workers)
{
	struct thread *thread = workers->woken ? NULL : LIST_FIRST(&workers->idle);

	if (!thread || !next_lane(workers))
		return NULL;
	thread_call(thread);
	return thread;
}

static void wake(struct thread *thread)
{
	if (thread)
		pthread_cond_signal(&thread->wake);
}

static void wake_all(struct workers *workers)
{
	struct thread *thread;

	while ((thread = LIST_FIRST(&workers->idle))) {
		thread_call(thread);
		wake(thread);
	}
}

/* Return: a lane with something to do, or NULL: the end */
static struct lane *wait_for_work(struct thread *self)
{
	struct workers *workers = self->workers;
	struct lane *lane;

	while (!(lane = next_lane(workers)) && !(workers->stopping && TAILQ_EMPTY(&workers->lanes))) {
		self->is_idle = true;
		LIST_INSERT_HEAD(&workers->idle, self, link);
		while (self->is_idle)
			pthread_cond_wait(&self->wake, &workers->mutex);
		workers->woken--;
	}
	return lane;
}

static void run(struct thread *self, struct lane *lane)
{
	struct workers *workers = self->workers;
	struct queue *queue;
	struct work *work = take_work(workers, lane, &queue);
	struct thread *next = call_thread(workers); /* what ended may have made room for more than one */

	pthread_mutex_unlock(&workers->mutex);
	wake(next);
	work->run(work);
	workers_send_home(workers, work);
	pthread_mutex_lock(&workers->mutex);
	finish(workers, lane, queue);
	if (workers->stopping)
		wake_all(workers);
}

static void *worker(void *arg)
{
	struct thread *self = arg;
	struct lane *lane;

	pthread_mutex_lock(&self->workers->mutex);
	while ((lane = wait_for_work(self)))
		run(self, lane);
	pthread_mutex_unlock(&self->workers->mutex);
	return NULL;
}

/* Signals are the loop's business. */
static int start_threads(struct workers *workers, unsigned int count)
{
	sigset_t all, before;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	while (rc == 0 && workers->thread_count < count) {
		struct thread *thread = &workers->threads[workers->thread_count];

		thread->workers = workers;
		pthread_cond_init(&thread->wake, NULL);
		rc = -pthread_create(&thread->id, NULL, worker, thread);
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
	TAILQ_INIT(&workers->lanes);
	LIST_INIT(&workers->idle);
	workers->threads_max = threads;
	workers->threads = calloc(threads, sizeof(*workers->threads));
	if (workers->threads)
		rc = loop_new(base, &workers->home);
	if (rc == 0)
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
	wake_all(workers);
	pthread_mutex_unlock(&workers->mutex);
	for (unsigned int i = 0; i < workers->thread_count; i++)
		pthread_join(workers->threads[i].id, NULL);
	for (unsigned int i = 0; i < workers->thread_count; i++)
		pthread_cond_destroy(&workers->threads[i].wake);
	loop_free(workers->home);
	pthread_mutex_destroy(&workers->mutex);
	free(workers->threads);
	free(workers);
}

static int submit(struct workers *workers, struct work *work, bool is_last)
{
	struct thread *thread = NULL;
	struct lane *lane;

	pthread_mutex_lock(&workers->mutex);
	lane = lane_get(workers, work->lane);
	if (lane) {
		if (is_last)
			lane->last = work;
		else
			queue_add(lane, work);
		thread = call_thread(workers);
	}
	pthread_mutex_unlock(&workers->mutex);
	wake(thread);
	return lane ? 0 : -ENOMEM;
}

int workers_submit(struct workers *workers, struct work *work)
{
	return submit(workers, work, false);
}

void workers_submit_next(struct workers *workers, struct work *work)
{
	struct lane *lane;

	pthread_mutex_lock(&workers->mutex);
	lane = lane_get(workers, work->lane);
	if (!BUG_IF(!lane || !lane->running))
		queue_add(lane, work);
	pthread_mutex_unlock(&workers->mutex);
}

int workers_submit_last(struct workers *workers, struct work *work)
{
	return submit(workers, work, true);
}
