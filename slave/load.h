/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/load.h - how busy this machine is, and how much room its volumes have
 *
 * Each second workers read it from /proc, /sys and the file systems, for each of these may wait for a disk. What can't be
 * read, or was not for LOAD_STALE_MS, is unknown: never 0, never the figure of long ago.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_LOAD_H
#define VNAS_SLAVE_LOAD_H

#include "scp/scp_xdr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD_VOLUMES_MAX = 256, LOAD_STALE_MS = 5000 };

struct load_volume {
	uint32_t volume;
	bool knows_busy, knows_room;
	bool is_silent; /* its file system was asked, and has not answered for LOAD_STALE_MS; not told to others */
	unsigned int busy_permille; /* of the time, its block device had something to do */
	uint64_t free_bytes;	    /* for users who are not root */
	uint64_t size_bytes;
	uint64_t free_files; /* inodes; not told to others */
	uint64_t files;	     /* 0: the file system has no such bound */
};

struct load {
	bool knows_cpu, knows_temperature;
	unsigned int cpu_permille;   /* of all cores together, busy with whatever */
	int temperature_millicelsius; /* of what is hottest */
	bool knows_clock;
	scp_clock clock; /* compared with the master's */
	size_t volume_count;
	struct load_volume volumes[LOAD_VOLUMES_MAX];
};

struct load_meter;
struct workers;

/* @root: in front of "/proc" and "/sys": "" but in tests; borrowed. @workers: borrowed. NULL without memory */
struct load_meter *load_meter_new(struct workers *workers, const char *root);

/* When the workers have ended. NULL is allowed. */
void load_meter_free(struct load_meter *meter);

/* A volume to be measured from now on; again each time before load_meter_measure(), or it is not any more. @path: copied */
void load_meter_want(struct load_meter *meter, uint32_t volume, const char *path);

/* Begin to measure; to be called each second. What is still being measured is left to that. */
void load_meter_measure(struct load_meter *meter);

/* What is known now. */
void load_meter_read(const struct load_meter *meter, uint64_t now_ms, struct load *out);

/* As SCP says it. @out borrows @load and @volumes, LOAD_VOLUMES_MAX of them. */
void load_to_wire(const struct load *load, scp_load *out, scp_load_volume *volumes);
void load_from_wire(const scp_load *wire, struct load *out);

#endif
