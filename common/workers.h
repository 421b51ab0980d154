/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/workers.h - threads for work that may wait for a disk
 *
 * The loop submits; a worker runs; the loop is told. Nothing else is shared between the two: while `run` runs the
 * work belongs to the worker, before and after to the loop.
 *
 * Ownership: the submitter embeds and owns the work; it must live until `done`.
 * Threads: all calls from the loop's thread; `run` is called on a worker's, `done` on the loop's.
 */
#ifndef VNAS_COMMON_WORKERS_H
#define VNAS_COMMON_WORKERS_H

#include <sys/queue.h>

enum { WORKERS_DEFAULT = 16 };

struct event_base;
struct workers;

struct work {
	STAILQ_ENTRY(work) link;
	void (*run)(struct work *work);
	void (*done)(struct work *work);
};

/* 0; -ENOMEM, -EAGAIN (no threads) */
int workers_new(struct event_base *base, unsigned int threads, struct workers **out);

/* Waits for all work, calls what `done` is outstanding, ends the threads. NULL is allowed. */
void workers_free(struct workers *workers);

void workers_submit(struct workers *workers, struct work *work);

/* Wait until everything submitted has run. Its `done` comes later, from the loop. */
void workers_drain(struct workers *workers);

#endif
