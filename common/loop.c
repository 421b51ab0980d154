/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/loop.h"

#include "common/log.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { LETTERS_PER_TURN = 256 }; /* then other events, and who pauses the loop, have theirs */

STAILQ_HEAD(letter_list, letter);

struct loop {
	struct event_base *base;
	pthread_t thread; /* who runs it, or has stopped it */
	bool has_turns;	  /* a data loop */
	struct letter end;

	pthread_mutex_t letters_mutex;
	struct letter_list letters; /* under it */
	struct letter_list taken;   /* were posted before those; to be opened next */
	int wakeup;		    /* eventfd: there is something in one of the two */
	struct event *on_wakeup;

	/*
	 * A mutex alone would be taken again and again by a loop that has much to do before who waits for it wakes up.
	 * So the loop stands back when it is to be paused.
	 */
	pthread_mutex_t turn, gate;
	atomic_bool is_awaited;	  /* who pauses has the gate */
	unsigned int pause_depth; /* who pauses'; 0: not paused */
};

struct loops {
	bool is_running;
	unsigned int count;
	struct loop *all[];
};

/* The data loop that this thread runs. */
static _Thread_local const struct loop *here;

/* Letters */

static struct letter *next_letter(struct loop *loop)
{
	struct letter *letter;

	if (STAILQ_EMPTY(&loop->taken)) {
		pthread_mutex_lock(&loop->letters_mutex);
		STAILQ_CONCAT(&loop->taken, &loop->letters);
		pthread_mutex_unlock(&loop->letters_mutex);
	}
	letter = STAILQ_FIRST(&loop->taken);
	if (letter)
		STAILQ_REMOVE_HEAD(&loop->taken, link);
	return letter;
}

void loop_open_letters(struct loop *loop)
{
	struct letter *letter;

	while ((letter = next_letter(loop)))
		letter->open(letter);
}

static void open_some(struct loop *loop)
{
	struct letter *letter;

	for (int i = 0; i < LETTERS_PER_TURN; i++) {
		letter = next_letter(loop);
		if (!letter)
			return;
		letter->open(letter);
	}
	eventfd_write(loop->wakeup, 1);
}

static void on_wakeup(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;
	eventfd_t count;

	(void)what;
	eventfd_read(fd, &count);
	loop_enter(loop);
	open_some(loop);
	loop_leave(loop);
}

void loop_post(struct loop *loop, struct letter *letter)
{
	bool is_first;

	pthread_mutex_lock(&loop->letters_mutex);
	is_first = STAILQ_EMPTY(&loop->letters);
	STAILQ_INSERT_TAIL(&loop->letters, letter, link);
	pthread_mutex_unlock(&loop->letters_mutex);
	if (is_first)
		eventfd_write(loop->wakeup, 1);
}

bool loop_is_here(const struct loop *loop)
{
	return here ? here == loop : pthread_equal(loop->thread, pthread_self());
}

/* Turns */

void loop_enter(struct loop *loop)
{
	if (!loop || !loop->has_turns)
		return;
	if (atomic_load_explicit(&loop->is_awaited, memory_order_relaxed)) {
		pthread_mutex_lock(&loop->gate);
		pthread_mutex_unlock(&loop->gate);
	}
	pthread_mutex_lock(&loop->turn);
}

void loop_leave(struct loop *loop)
{
	if (loop && loop->has_turns)
		pthread_mutex_unlock(&loop->turn);
}

void loop_pause(struct loop *loop)
{
	if (!loop || !loop->has_turns || loop->pause_depth++ > 0)
		return;
	pthread_mutex_lock(&loop->gate);
	atomic_store_explicit(&loop->is_awaited, true, memory_order_relaxed);
	pthread_mutex_lock(&loop->turn);
}

void loop_continue(struct loop *loop)
{
	if (!loop || !loop->has_turns || --loop->pause_depth > 0)
		return;
	atomic_store_explicit(&loop->is_awaited, false, memory_order_relaxed);
	pthread_mutex_unlock(&loop->turn);
	pthread_mutex_unlock(&loop->gate);
}

/* Life */

static int loop_make(struct event_base *base, bool has_turns, struct loop **out)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->base = base;
	loop->has_turns = has_turns;
	loop->thread = pthread_self();
	pthread_mutex_init(&loop->letters_mutex, NULL);
	pthread_mutex_init(&loop->turn, NULL);
	pthread_mutex_init(&loop->gate, NULL);
	STAILQ_INIT(&loop->letters);
	STAILQ_INIT(&loop->taken);
	loop->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wakeup >= 0)
		loop->on_wakeup = event_new(base, loop->wakeup, EV_READ | EV_PERSIST, on_wakeup, loop);
	if (!loop->on_wakeup || event_add(loop->on_wakeup, NULL) < 0) {
		int rc = loop->wakeup < 0 ? -EMFILE : -ENOMEM;

		loop_free(loop);
		return rc;
	}
	*out = loop;
	return 0;
}

int loop_new(struct event_base *base, struct loop **out)
{
	return loop_make(base, false, out);
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop_open_letters(loop);
	if (loop->on_wakeup)
		event_free(loop->on_wakeup);
	if (loop->wakeup >= 0)
		close(loop->wakeup);
	pthread_mutex_destroy(&loop->gate);
	pthread_mutex_destroy(&loop->turn);
	pthread_mutex_destroy(&loop->letters_mutex);
	free(loop);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

/* Data loops */

/* A letter, for a loop that has not begun yet would not know of event_base_loopbreak(). */
static void end_open(struct letter *letter)
{
	event_base_loopbreak(((struct loop *)((char *)letter - offsetof(struct loop, end)))->base);
}

static void *loop_run(void *arg)
{
	struct loop *loop = arg;

	here = loop;
	event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

static int data_loop_new(struct loop **out)
{
	struct event_base *base = event_base_new();
	int rc = base ? loop_make(base, true, out) : -ENOMEM;

	if (rc < 0 && base)
		event_base_free(base);
	return rc;
}

static void data_loop_free(struct loop *loop)
{
	struct event_base *base = loop->base;

	loop_free(loop);
	event_base_free(base);
}

int loops_new(unsigned int count, struct loops **out)
{
	struct loops *loops;
	int rc = 0;

	/* Not for the bases that there are: they have one thread each, and no locks. */
	if (BUG_IF(count == 0) || evthread_use_pthreads() < 0)
		return -ENOMEM;
	loops = calloc(1, sizeof(*loops) + count * sizeof(loops->all[0]));
	if (!loops)
		return -ENOMEM;
	while (rc == 0 && loops->count < count) {
		rc = data_loop_new(&loops->all[loops->count]);
		loops->count += rc == 0;
	}
	if (rc < 0) {
		loops_free(loops);
		return rc;
	}
	*out = loops;
	return 0;
}

void loops_free(struct loops *loops)
{
	if (!loops)
		return;
	loops_stop(loops);
	loops_open_letters(loops);
	while (loops->count)
		data_loop_free(loops->all[--loops->count]);
	free(loops);
}

unsigned int loops_count(const struct loops *loops)
{
	return loops->count;
}

struct loop *loops_at(struct loops *loops, unsigned int i)
{
	return loops->all[i];
}

static void stop_first(struct loops *loops, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct loop *loop = loops->all[i];

		loop->end.open = end_open;
		loop_post(loop, &loop->end);
		pthread_join(loop->thread, NULL);
		loop->thread = pthread_self();
	}
}

/* Signals are the control loop's business. */
int loops_start(struct loops *loops)
{
	sigset_t all, before;
	int rc = 0;

	if (loops->is_running)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	for (unsigned int i = 0; rc == 0 && i < loops->count; i++) {
		pthread_t thread;

		rc = -pthread_create(&thread, NULL, loop_run, loops->all[i]);
		if (rc == 0)
			loops->all[i]->thread = thread;
		else
			stop_first(loops, i);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	loops->is_running = rc == 0;
	return rc;
}

void loops_stop(struct loops *loops)
{
	if (!loops->is_running)
		return;
	stop_first(loops, loops->count);
	loops->is_running = false;
}

void loops_open_letters(struct loops *loops)
{
	for (unsigned int i = 0; i < loops->count; i++)
		loop_open_letters(loops->all[i]);
}

void loops_pause(struct loops *loops)
{
	for (unsigned int i = 0; loops && i < loops->count; i++)
		loop_pause(loops->all[i]);
}

void loops_continue(struct loops *loops)
{
	for (unsigned int i = loops ? loops->count : 0; i > 0; i--)
		loop_continue(loops->all[i - 1]);
}
