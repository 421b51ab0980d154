/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/shifting.h - sessions leave a device that is too busy
 *
 * Carries out `[balance] busy`. Looks at each device's load once a second (master/balance.h: too busy, and for how long). When one
 * reaches the bound, a survey of its sessions is made; what they have done when it has been too busy for long enough, and whose data
 * that was of, says which of them go, SHIFTING_BUDGET at a time, and where to. Sessions that came since stay. What becomes of an order
 * shows in the next survey.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_SHIFTING_H
#define VNAS_MASTER_SHIFTING_H

#include <stddef.h>
#include <stdint.h>

enum {
	SHIFTING_BUDGET = 8, /* sessions that a device gives away, each BALANCE_AFTER_MS */
	SHIFTING_WHY_MAX = 256,
};

struct master;
struct session_entry;
struct shifting;

/* @master: borrowed for life. NULL: no memory */
struct shifting *shifting_new(struct master *master);
void shifting_free(struct shifting *shifting);

/* Each second. */
void shifting_tick(struct shifting *shifting);

/* Sessions that were ordered elsewhere, since the start. */
uint64_t shifting_count(const struct shifting *shifting);

/* For `nasctl why`: is the device of the session too busy, and what is the session to it? Return: @text */
const char *shifting_why(const struct shifting *shifting, const struct session_entry *entry, uint32_t node,
			 char text[static SHIFTING_WHY_MAX]);

#endif
