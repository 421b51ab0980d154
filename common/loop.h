/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/loop.h - event loops: the control loop, and the data loops, which serve connections
 *
 * Each runs on a thread of its own. What is in a data loop (connections, with their events and calls) is that thread's,
 * with two ways in for others:
 *
 *	loop_post()	leaves a letter, which is opened on the loop's thread. From any thread.
 *	loop_pause()	waits until no callback of the loop runs, and lets none begin before loop_continue(). Meanwhile
 *			the control loop may do in it what the loop itself might, but for event_del(), which would wait
 *			for a callback that waits for it: event_del_noblock().
 *
 * So what all data loops read and only the control loop changes (name space, volumes) needs no lock of its own: it is changed
 * while all of them are paused. Every callback in a data loop begins with loop_enter() and ends with loop_leave(),
 * letters excepted, which are opened in between.
 *
 * Ownership: a letter is embedded by whoever posts it, and may go when it is opened.
 */
#ifndef VNAS_COMMON_LOOP_H
#define VNAS_COMMON_LOOP_H

#include <stdbool.h>
#include <sys/queue.h>

struct event_base;
struct loop;
struct loops;

struct letter {
	STAILQ_ENTRY(letter) link;
	void (*open)(struct letter *letter); /* on the thread of the loop it was posted to, in the order of posting */
};

/**
 * loop_new() - the loop that the calling thread runs, or will run
 * @base:	borrowed
 * @out:	out: free with loop_free()
 *
 * Return: 0; -ENOMEM, -EMFILE
 */
int loop_new(struct event_base *base, struct loop **out);

/* Opens what is left. NULL is allowed. */
void loop_free(struct loop *loop);

/* Of a loop of the calling thread: open what was posted, and what is meanwhile, before its turn comes. */
void loop_open_letters(struct loop *loop);

struct event_base *loop_base(struct loop *loop);

/* From any thread. */
void loop_post(struct loop *loop, struct letter *letter);

/* Does the calling thread run this loop? If it was stopped: who stopped it does. */
bool loop_is_here(const struct loop *loop);

/* Around what the loop's thread does. Nothing happens for NULL, nor for a loop of loop_new(). */
void loop_enter(struct loop *loop);
void loop_leave(struct loop *loop);

/* From the control loop's thread; they nest. Nothing happens for NULL, nor for a loop of loop_new(). */
void loop_pause(struct loop *loop);
void loop_continue(struct loop *loop);

/**
 * loops_new() - data loops, which do not run yet
 * @count:	at least one
 *
 * Return: 0; -ENOMEM, -EMFILE
 */
int loops_new(unsigned int count, struct loops **out);

/* Stops them, opens what is left. NULL is allowed. */
void loops_free(struct loops *loops);

unsigned int loops_count(const struct loops *loops);
struct loop *loops_at(struct loops *loops, unsigned int i);

/* 0; -EAGAIN: no threads. They may be stopped and started again; letters that come meanwhile are kept. */
int loops_start(struct loops *loops);
void loops_stop(struct loops *loops);

/* Of loops that are stopped. */
void loops_open_letters(struct loops *loops);

/* All of them. NULL is allowed. */
void loops_pause(struct loops *loops);
void loops_continue(struct loops *loops);

#endif
