/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/clock.h - the two clocks
 *
 * Monotonic for durations, wall for what people read. Threads: call from anywhere.
 */
#ifndef VNAS_COMMON_CLOCK_H
#define VNAS_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_wall_ns(void) { return clock_ns(CLOCK_REALTIME); }
static inline uint64_t clock_monotonic_us(void) { return clock_ns(CLOCK_MONOTONIC) / 1000; }
static inline uint64_t clock_monotonic_ms(void) { return clock_ns(CLOCK_MONOTONIC) / 1000000; }

#endif
