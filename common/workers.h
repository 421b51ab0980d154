/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/workers.h - threads for work that may wait for a disk
 *
 * The loop submits; a worker runs; the loop is told. Nothing else is shared between the two: while `run` runs the
 * work belongs to the worker, before and after to the loop.
 *
 * Work has a lane: the volume it is about. A lane may have as many threads as are left for others: a disk that does not
 * answer keeps its own clients waiting and nobody else's. With 32 threads that holds for five such disks at a time.
 *
 * Ownership: the submitter embeds and owns the work; it must live until `done`.
 * Threads: all calls from the loop's thread; `run` is called on a worker's, `done` on the loop's.
 */
#ifndef VNAS_COMMON_WORKERS_H
#define VNAS_COMMON_WORKERS_H

#include <stdbool.h>
#include <sys/queue.h>

enum { WORKERS_DEFAULT = 32 };

struct event_base;
struct workers;

struct work {
	STAILQ_ENTRY(work) link;
	const void *lane; /* only compared; NULL is one, too */
	bool is_last;	  /* workers_submit_last() */
	void (*run)(struct work *work);
	void (*done)(struct work *work);
};

/* 0; -ENOMEM, -EAGAIN (no threads) */
int workers_new(struct event_base *base, unsigned int threads, struct workers **out);

/* Waits for all work, calls what `done` is outstanding, ends the threads. NULL is allowed. */
void workers_free(struct workers *workers);

/* 0; -ENOMEM */
int workers_submit(struct workers *workers, struct work *work);

/*
 * Submit work that runs alone in its lane, when everything that was submitted there before has run: what ends a lane. 0;
 * -ENOMEM
 */
int workers_submit_last(struct workers *workers, struct work *work);

#endif
