/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/clock_offset.h"

#include <stdlib.h>

static uint64_t distance(int64_t a, int64_t b)
{
	return a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
}

/* Beyond this, which is the year 2116, differences would not fit. */
#define LATEST_NS (UINT64_C(1) << 62)

static bool is_plausible(const struct clock_exchange *exchange)
{
	uint64_t on_the_way_ns = exchange->answered_monotonic_ns - exchange->asked_monotonic_ns;
	int64_t by_the_wall_ns = (int64_t)(exchange->destination_ns - exchange->originate_ns);

	return exchange->destination_ns < LATEST_NS && exchange->originate_ns < LATEST_NS &&
	       exchange->transmit_ns < LATEST_NS && exchange->answered_monotonic_ns >= exchange->asked_monotonic_ns &&
	       distance(by_the_wall_ns, (int64_t)on_the_way_ns) <= CLOCK_OFFSET_SLACK_NS &&
	       exchange->transmit_ns >= exchange->receive_ns &&
	       exchange->transmit_ns - exchange->receive_ns <= on_the_way_ns + CLOCK_OFFSET_SLACK_NS;
}

/* theta and delta of RFC 5905, 8; theta's sign is the other clock's, ours is ahead by the opposite. Halves, or sums would overflow. */
static struct clock_sample take_sample(const struct clock_exchange *exchange)
{
	int64_t there_ns = (int64_t)(exchange->receive_ns - exchange->originate_ns);
	int64_t back_ns = (int64_t)(exchange->transmit_ns - exchange->destination_ns);
	uint64_t away_ns = exchange->answered_monotonic_ns - exchange->asked_monotonic_ns;
	uint64_t held_ns = exchange->transmit_ns - exchange->receive_ns;

	return (struct clock_sample){
		.offset_ns = -(there_ns / 2 + back_ns / 2),
		.delay_ns = away_ns > held_ns ? away_ns - held_ns : 0,
	};
}

static bool contradicts(const struct clock_offset *offset, const struct clock_sample *sample)
{
	struct clock_sample best;

	return clock_offset_best(offset, &best) &&
	       distance(best.offset_ns, sample->offset_ns) > best.delay_ns / 2 + sample->delay_ns / 2 + CLOCK_OFFSET_SLACK_NS;
}

bool clock_offset_note(struct clock_offset *offset, const struct clock_exchange *exchange)
{
	int64_t base_ns = (int64_t)(exchange->destination_ns - exchange->answered_monotonic_ns);
	struct clock_sample sample;

	if (!is_plausible(exchange))
		return false;
	sample = take_sample(exchange);
	if ((offset->count && distance(base_ns, offset->base_ns) > CLOCK_OFFSET_SLACK_NS) || contradicts(offset, &sample))
		clock_offset_forget(offset);
	offset->base_ns = base_ns;
	offset->samples[offset->next] = sample;
	offset->next = (offset->next + 1) % CLOCK_OFFSET_SAMPLES;
	offset->count += offset->count < CLOCK_OFFSET_SAMPLES;
	return true;
}

bool clock_offset_best(const struct clock_offset *offset, struct clock_sample *out)
{
	const struct clock_sample *best = NULL;

	for (unsigned int age = 1; age <= offset->count; age++) {
		const struct clock_sample *sample =
			&offset->samples[(offset->next + CLOCK_OFFSET_SAMPLES - age) % CLOCK_OFFSET_SAMPLES];

		if (!best || sample->delay_ns < best->delay_ns)
			best = sample;
	}
	if (best)
		*out = *best;
	return best;
}

void clock_offset_forget(struct clock_offset *offset)
{
	*offset = (struct clock_offset){ 0 };
}
