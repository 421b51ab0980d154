/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/clock_offset.h - how much another clock differs from ours
 *
 * As NTP measures it (RFC 5905, 8 and 10): four time stamps of a question and its answer; of the last CLOCK_OFFSET_SAMPLES the one
 * that was on its way for the least time counts. Pure: the caller reads the clocks.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_CLOCK_OFFSET_H
#define VNAS_COMMON_CLOCK_OFFSET_H

#include <stdbool.h>
#include <stdint.h>

enum {
	CLOCK_OFFSET_SAMPLES = 8,
	CLOCK_OFFSET_SLACK_NS = 10 * 1000 * 1000, /* between two samples clocks drift and are slewed; more than this is a jump */
};

/* On the wall clocks, since 1970; the monotonic one is ours. */
struct clock_exchange {
	uint64_t originate_ns, receive_ns, transmit_ns, destination_ns;
	uint64_t asked_monotonic_ns, answered_monotonic_ns;
};

struct clock_sample {
	int64_t offset_ns; /* how much our clock is ahead */
	uint64_t delay_ns; /* there and back; the error is at most half of it */
};

/* All zero: nothing is known. */
struct clock_offset {
	struct clock_sample samples[CLOCK_OFFSET_SAMPLES]; /* a ring */
	unsigned int count, next;
	int64_t base_ns; /* our wall clock less the monotonic one, at the last sample */
};

/**
 * clock_offset_note() - an exchange
 *
 * If one of the clocks was set since the last samples, these are forgotten.
 *
 * Return: false: it says nothing, because our clock was set meanwhile, or the time stamps contradict each other
 */
bool clock_offset_note(struct clock_offset *offset, const struct clock_exchange *exchange);

/* The best sample. Return: false: there is none */
bool clock_offset_best(const struct clock_offset *offset, struct clock_sample *out);

/* What was measured before counts no more: our clock is being slewed. */
void clock_offset_forget(struct clock_offset *offset);

#endif
