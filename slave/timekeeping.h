/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/timekeeping.h - this machine's clock follows the master's
 *
 * Measures how much it differs (common/clock_offset.h), and slews it if nobody else keeps it: never faster than the kernel slews,
 * never by a jump, never if it is off by more than TIMEKEEPING_SLEW_MAX_S. Knows nothing of how questions travel.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_TIMEKEEPING_H
#define VNAS_SLAVE_TIMEKEEPING_H

#include "scp/scp_xdr.h"

#include <stdbool.h>

/* The kernel slews 500 us in a second (adjtime(3)): more would take days, and is for a person to decide. */
enum { TIMEKEEPING_SLEW_MAX_S = 60 };

struct timekeeping;

/* @corrects: false: only measure. NULL without memory */
struct timekeeping *timekeeping_new(bool corrects);
void timekeeping_free(struct timekeeping *timekeeping);

/* A question to the master; each replaces the one before. */
void timekeeping_ask(struct timekeeping *timekeeping, scp_time_request *out);

/* The master's answer. One that comes late, or to no question of ours, says nothing. */
void timekeeping_answered(struct timekeeping *timekeeping, const scp_time *answer);

/* What was measured last. Return: false: nothing, or another master's */
bool timekeeping_read(const struct timekeeping *timekeeping, scp_clock *out);

/* There is no session with the master any more. */
void timekeeping_lost(struct timekeeping *timekeeping);

/* For the master: answer a question. */
void timekeeping_answer(const scp_time_request *request, uint64_t received_ns, scp_time *out);

#endif
