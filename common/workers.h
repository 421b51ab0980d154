/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/workers.h - threads for work that may wait for a disk
 *
 * A loop submits; a worker runs; the loop is told. Nothing else is shared between the two: while `run` runs the
 * work belongs to the worker, before and after to the loop.
 *
 * Work has a lane: the volume it is about. A lane may have as many threads as are left for others: a disk that does not
 * answer keeps its own clients waiting and nobody else's. With 32 threads that holds for five such disks at a time.
 *
 * A lane has queues, which are served in proportion to their weights: of two with work waiting, one of twice the weight has twice as much
 * done. What a queue did not use while it was empty is not saved up. Work of one queue is begun in the order of its coming. And while
 * somebody comes to another queue now and then, but has nothing waiting, one queue has at most half of the lane's threads: what has been
 * begun can't be overtaken any more. Only work with a weight counts as somebody.
 *
 * Ownership: the submitter embeds and owns the work; it must live until `done`.
 * Threads: work is submitted from any loop's; workers_new() and workers_free() are called from the control loop's. `run` is called
 * on a worker's, `done` on that of the work's home (common/loop.h).
 */
#ifndef VNAS_COMMON_WORKERS_H
#define VNAS_COMMON_WORKERS_H

#include "common/loop.h"

#include <stdint.h>
#include <sys/queue.h>

enum { WORKERS_DEFAULT = 32, WORKERS_QUEUES = 16 };

struct event_base;
struct workers;

struct work {
	STAILQ_ENTRY(work) link;
	struct letter letter;
	struct loop *home; /* NULL: the control loop */
	const void *lane;  /* only compared; NULL is one, too */
	uint8_t queue;	   /* in its lane, below WORKERS_QUEUES */
	uint16_t weight;   /* of the queue; 0 is 1, and nobody's */
	uint32_t cost;	   /* how much of the lane's time it may take, compared with others; 0 is 1 */
	void (*run)(struct work *work);
	void (*done)(struct work *work);
};

/* 0; -ENOMEM, -EAGAIN (no threads) */
int workers_new(struct event_base *base, unsigned int threads, struct workers **out);

/* Waits for all work, calls what `done` is outstanding in the control loop, ends the threads. NULL is allowed. */
void workers_free(struct workers *workers);

/* 0; -ENOMEM */
int workers_submit(struct workers *workers, struct work *work);

/*
 * From `run`, on the worker's thread: work in the same lane that follows from what runs. It can't fail, and wakes
 * nobody: the thread looks for work itself when `run` has returned.
 */
void workers_submit_next(struct workers *workers, struct work *work);

/*
 * From `run`, on the worker's thread: other work has been done with this one, and was never submitted, or not taken. Its `done` is
 * called.
 */
void workers_send_home(struct workers *workers, struct work *work);

/*
 * Submit work that runs alone in its lane, when everything else that was submitted there has run, and what followed
 * from it: what ends a lane, so nothing is submitted there by any loop afterwards. 0; -ENOMEM
 */
int workers_submit_last(struct workers *workers, struct work *work);

#endif
