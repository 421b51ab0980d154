/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/timekeeping.h"

#include "common/clock.h"
#include "common/clock_offset.h"
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>

enum {
	NS_PER_US = 1000,
	/* Below this nothing is corrected: each correction is made by samples of the last seconds. */
	TOLERANCE_NS = 2 * 1000 * 1000,
};

struct timekeeping {
	bool corrects;
	bool is_correcting;  /* the clock is in our care */
	bool was_refused;    /* by the kernel, said once */
	struct clock_offset offset;
	bool is_known;
	struct clock_sample last; /* of all times, if is_known */
	uint64_t originate_ns;	  /* of the question that is out; 0: none */
	uint64_t asked_monotonic_ns;
};

struct timekeeping *timekeeping_new(bool corrects)
{
	struct timekeeping *timekeeping = calloc(1, sizeof(*timekeeping));

	if (timekeeping)
		timekeeping->corrects = corrects;
	return timekeeping;
}

void timekeeping_free(struct timekeeping *timekeeping)
{
	free(timekeeping);
}

void timekeeping_ask(struct timekeeping *timekeeping, scp_time_request *out)
{
	timekeeping->asked_monotonic_ns = clock_ns(CLOCK_MONOTONIC);
	timekeeping->originate_ns = out->originate_ns = clock_wall_ns();
}

void timekeeping_answer(const scp_time_request *request, uint64_t received_ns, scp_time *out)
{
	*out = (scp_time){
		.originate_ns = request->originate_ns, .receive_ns = received_ns, .transmit_ns = clock_wall_ns()
	};
}

/* A time service says so to the kernel by clearing STA_UNSYNC: chrony, ntpd, systemd-timesyncd all do. */
static bool has_other_service(void)
{
	struct timex timex = { .modes = 0 };

	return adjtimex(&timex) >= 0 && !(timex.status & STA_UNSYNC);
}

static void say_once(struct timekeeping *timekeeping, int error)
{
	if (!timekeeping->was_refused)
		log_warn("time", "this machine's clock can't be corrected: %s; it is only compared with the master's",
			 strerror(error));
	timekeeping->was_refused = true;
}

/* adjtime(3): the offset is worked off by the kernel, 500 us in a second. One that was under way is replaced. */
static bool slew(struct timekeeping *timekeeping, int64_t offset_ns)
{
	struct timex timex = { .modes = ADJ_OFFSET_SINGLESHOT, .offset = (long)(-offset_ns / NS_PER_US) };

	if (adjtimex(&timex) >= 0)
		return true;
	say_once(timekeeping, errno);
	return false;
}

static void set_correcting(struct timekeeping *timekeeping, bool is_correcting)
{
	if (timekeeping->is_correcting != is_correcting)
		log_info("time", is_correcting ? "no other service keeps this machine's clock: it is slewed to the master's" :
						 "this machine's clock is not in this daemon's care (any more)");
	timekeeping->is_correcting = is_correcting;
}

/*
 * With as many samples as there can be; then new ones are taken, of the clock as it goes now. What could be the measurement's error is
 * no reason.
 */
static void correct(struct timekeeping *timekeeping)
{
	const struct clock_sample *last = &timekeeping->last;
	uint64_t off_ns = (uint64_t)llabs(last->offset_ns);
	bool may;

	if (timekeeping->offset.count < CLOCK_OFFSET_SAMPLES)
		return;
	may = timekeeping->corrects && !timekeeping->was_refused && !has_other_service();
	set_correcting(timekeeping, may && off_ns <= TIMEKEEPING_SLEW_MAX_S * UINT64_C(1000000000));
	if (!timekeeping->is_correcting || off_ns <= last->delay_ns / 2 + TOLERANCE_NS)
		return;
	if (slew(timekeeping, last->offset_ns))
		clock_offset_forget(&timekeeping->offset);
	else
		set_correcting(timekeeping, false);
}

void timekeeping_answered(struct timekeeping *timekeeping, const scp_time *answer)
{
	struct clock_exchange exchange = {
		.originate_ns = answer->originate_ns,
		.receive_ns = answer->receive_ns,
		.transmit_ns = answer->transmit_ns,
		.destination_ns = clock_wall_ns(),
		.asked_monotonic_ns = timekeeping->asked_monotonic_ns,
		.answered_monotonic_ns = clock_ns(CLOCK_MONOTONIC),
	};

	if (!timekeeping->originate_ns || answer->originate_ns != timekeeping->originate_ns)
		return;
	timekeeping->originate_ns = 0;
	if (!clock_offset_note(&timekeeping->offset, &exchange))
		return;
	timekeeping->is_known = clock_offset_best(&timekeeping->offset, &timekeeping->last);
	correct(timekeeping);
}

bool timekeeping_read(const struct timekeeping *timekeeping, scp_clock *out)
{
	if (timekeeping->is_known)
		*out = (scp_clock){
			.offset_ns = timekeeping->last.offset_ns,
			.delay_ns = timekeeping->last.delay_ns,
			.is_corrected = timekeeping->is_correcting,
		};
	return timekeeping->is_known;
}

void timekeeping_lost(struct timekeeping *timekeeping)
{
	clock_offset_forget(&timekeeping->offset);
	timekeeping->is_known = false;
	timekeeping->originate_ns = 0;
}
