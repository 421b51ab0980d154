/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/time/other_clock.c - a library to preload: a process whose wall clock is its own
 *
 * OTHER_CLOCK is a file of three 64-bit numbers: how much the clock is ahead of the machine's, in ns; whether a time service is said
 * to keep it; and what slewing has changed so far, in ns. Whoever writes the first one sets the clock. Hosts of a lab share the
 * machine's clock; slewing it would be real, so that happens here, at once.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000, NS_PER_US = 1000 };

static struct other_clock {
	_Atomic int64_t ahead_ns, is_kept, slewed_ns;
} *other;

static int (*real_clock_gettime)(clockid_t clock, struct timespec *out);

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("OTHER_CLOCK");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *mapped = fd >= 0 ? mmap(NULL, sizeof(*other), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

	real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	if (mapped == MAP_FAILED)
		abort(); /* a test that goes on without would prove nothing */
	other = mapped;
	close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
	int rc = real_clock_gettime(clock, out);
	int64_t ns;

	if (rc || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) || !other)
		return rc;
	ns = out->tv_sec * (int64_t)NS_PER_S + out->tv_nsec + other->ahead_ns;
	out->tv_sec = ns / NS_PER_S;
	out->tv_nsec = ns % NS_PER_S;
	return 0;
}

time_t time(time_t *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	*out = (struct timeval){ .tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / NS_PER_US };
	return 0;
}

int adjtimex(struct timex *timex)
{
	if (timex->modes == ADJ_OFFSET_SINGLESHOT) {
		other->slewed_ns += timex->offset * NS_PER_US;
		other->ahead_ns += timex->offset * NS_PER_US;
	}
	timex->status = other->is_kept ? 0 : STA_UNSYNC;
	return other->is_kept ? TIME_OK : TIME_ERROR;
}
