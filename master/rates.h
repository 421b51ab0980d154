/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/rates.h - how fast things go: differences of counters that only grow
 *
 * Devices tell how much they and their sessions have done, and when they said so; who looks again sees how fast that went. A counter that
 * is less than before has begun anew. Pure: the caller knows the counters and the clocks. Rounds of looks:
 *
 *	rates_begin(), then rates_node() and rates_session() for all there are, then rates_end()
 *
 * Threads: the owner's.
 */
#ifndef VNAS_MASTER_RATES_H
#define VNAS_MASTER_RATES_H

#include "scp/scp_xdr.h"

#include <stddef.h>
#include <stdint.h>

#define RATE_MAX (UINT64_C(1) << 62)

/* Of one counter. All zero: not looked at yet. */
struct rate {
	uint64_t counter, at_ms;
	uint64_t per_s; /* between the last two looks at which it had been told anew; at most RATE_MAX */
};

/* The counter was @counter at @at_ms, of the clock of whoever counts; nothing is new if that is when it was told last. */
void rate_note(struct rate *rate, uint64_t counter, uint64_t at_ms);

/* What goes through a device, a volume or a session in a second. */
struct rates_flow {
	uint64_t operations, read_bytes, written_bytes, bytes; /* `bytes`: of volumes and sessions, either way */
};

struct rates_busy {
	uint64_t session;
	uint32_t node;
	struct rates_flow flow;
};

struct rates;

/* NULL without memory */
struct rates *rates_new(void);
void rates_free(struct rates *rates);

void rates_begin(struct rates *rates);

/* @at_ms: never 0 */
void rates_node(struct rates *rates, uint32_t node, const struct rates_flow *counters, uint64_t at_ms);

/* @at_ms: of the report of its device. Without memory it is left out. */
void rates_session(struct rates *rates, const scp_session *session, uint32_t node, uint64_t at_ms);

/* Forgets sessions that were not there. */
void rates_end(struct rates *rates);

/* As of the last round; all zero for those that are unknown. Volumes: what sessions did to them. */
struct rates_flow rates_of_node(const struct rates *rates, uint32_t node);
struct rates_flow rates_of_volume(const struct rates *rates, uint32_t volume);

/* The busiest sessions, busiest first: a request weighs as in the policy of handoffs, beside its bytes. Gives how many, @max at most. */
size_t rates_busiest(const struct rates *rates, struct rates_busy *out, size_t max);

#endif
