/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/latency.h - how long many things took, as a histogram
 *
 * Buckets are powers of two, from 16 us to 8 s: noting takes no search, and a bucket is as wide as what is in it deserves.
 *
 * Threads: no shared state; each loop has its own, and who reads adds them up.
 */
#ifndef VNAS_COMMON_LATENCY_H
#define VNAS_COMMON_LATENCY_H

#include <stddef.h>
#include <stdint.h>

enum {
	LATENCY_FIRST_BIT = 4,	/* the first bucket is up to 2^4 us */
	LATENCY_BUCKETS = 20,	/* the last one with a bound is up to 2^23 us */
};

struct latency {
	uint64_t counts[LATENCY_BUCKETS + 1]; /* by bucket, what is longer than all of them in the last */
	uint64_t sum_us;
};

/* What is in the bucket took so long at most, and longer than the one before. */
static inline uint64_t latency_bound_us(size_t bucket)
{
	return UINT64_C(1) << (LATENCY_FIRST_BIT + bucket);
}

static inline size_t latency_bucket(uint64_t us)
{
	size_t bits = us > 1 ? 64 - (size_t)__builtin_clzll(us - 1) : 0; /* 2^bits is the first power that is not less */

	if (bits <= LATENCY_FIRST_BIT)
		return 0;
	return bits - LATENCY_FIRST_BIT < LATENCY_BUCKETS ? bits - LATENCY_FIRST_BIT : LATENCY_BUCKETS;
}

static inline void latency_note(struct latency *latency, uint64_t us)
{
	latency->counts[latency_bucket(us)]++;
	latency->sum_us += us;
}

static inline void latency_add(struct latency *sum, const struct latency *more)
{
	for (size_t i = 0; i <= LATENCY_BUCKETS; i++)
		sum->counts[i] += more->counts[i];
	sum->sum_us += more->sum_us;
}

#endif
