/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/bench/repair_times.c - when a daemon silences, freezes and revives connections, without asking it
 *
 * A library for LD_PRELOAD. Of each entry in a BPF map and each change of TCP_REPAIR the process makes, it writes a struct
 * repair_time to a mapped file $REPAIR_TIMES.PID: tens of nanoseconds each, where a probe in the kernel would take
 * microseconds, on a virtual machine tens of them. Where hosts are namespaces of one machine they share the clock, so the
 * files of two devices say how long a connection belonged to nobody. What does not fit any more is not written.
 */
#include <bpf/bpf.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FILE_BYTES = 64 << 20 };

enum repair_event {
	EVENT_MAP_ENTRY = 1,	 /* about to be made */
	EVENT_REPAIR_ON = 2,	 /* about to be on */
	EVENT_REPAIR_OFF = 3,	 /* is off */
};

/* tests/bench/handoff.py reads them. */
struct repair_time {
	uint64_t ns; /* CLOCK_MONOTONIC */
	uint32_t event, fd;
};

static struct repair_time *times;
static atomic_size_t used;

static int (*real_setsockopt)(int fd, int level, int name, const void *value, socklen_t len);
static int (*real_map_update)(int fd, const void *key, const void *value, __u64 flags);

__attribute__((constructor)) static void begin(void)
{
	const char *prefix = getenv("REPAIR_TIMES");
	char path[4096];
	void *place;
	int fd;

	real_setsockopt = (int (*)(int, int, int, const void *, socklen_t))dlsym(RTLD_NEXT, "setsockopt");
	real_map_update = (int (*)(int, const void *, const void *, __u64))dlsym(RTLD_NEXT, "bpf_map_update_elem");
	if (!prefix)
		return;
	snprintf(path, sizeof(path), "%s.%d", prefix, (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, FILE_BYTES))
		return;
	place = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (place != MAP_FAILED)
		times = place;
}

static void note(enum repair_event event, int fd)
{
	struct timespec now;
	size_t i;

	if (!times)
		return;
	i = atomic_fetch_add(&used, 1);
	if (i >= FILE_BYTES / sizeof(*times))
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	times[i] = (struct repair_time){
		.ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, .event = event, .fd = (uint32_t)fd };
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int is_repair = level == IPPROTO_TCP && name == TCP_REPAIR, is_on = is_repair && *(const int *)value == 1, rc;

	if (is_on)
		note(EVENT_REPAIR_ON, fd);
	rc = real_setsockopt(fd, level, name, value, len);
	if (is_repair && !is_on)
		note(EVENT_REPAIR_OFF, fd);
	return rc;
}

int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
{
	note(EVENT_MAP_ENTRY, fd);
	return real_map_update(fd, key, value, flags);
}
