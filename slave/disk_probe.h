/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/disk_probe.h - what disks there are and what is on them
 *
 * Looks and never writes. Which signatures there are, of file systems, RAID, LVM, encryption, swap and partition tables, is libblkid's
 * knowledge. A disk without any is *empty*; one that can't be read, or on which libblkid finds two things at a time, is not.
 *
 * Threads: what reads a disk may wait for it, and is called on a worker's.
 */
#ifndef VNAS_SLAVE_DISK_PROBE_H
#define VNAS_SLAVE_DISK_PROBE_H

#include "common/uuid.h"
#include "slave/disk_identity.h"

#include <stdbool.h>
#include <stdint.h>

enum { DISK_DEVICE_MAX = 64, DISK_HOLDS_MAX = 160, DISK_PROBE_MAX = 256 };

enum disk_health { DISK_HEALTH_UNKNOWN, DISK_HEALTH_PASSED, DISK_HEALTH_FAILED };

struct disk_facts {
	char device[DISK_DEVICE_MAX]; /* "/dev/sdb" */
	dev_t number;
	uint64_t bytes;
	struct disk_identity identity;
	bool is_in_use;		     /* mounted, or a part of something that is in use */
	char holds[DISK_HOLDS_MAX];  /* what is on it, in words, or why that can't be said; empty: nothing known */
	char type[16];		     /* of a file system: "ext4" */
	uint8_t uuid[UUID_BYTES];    /* of a file system; else zeros */
};

struct disk_filter {
	unsigned int count; /* 0: all that are hardware, by the kernel's word */
	const char (*patterns)[DISK_DEVICE_MAX]; /* shell patterns of device names */
};

/**
 * disk_enumerate() - the whole disks of this machine that a filter lets through
 * @out:	out: as many as DISK_PROBE_MAX, by name; device, number, bytes and identity are set
 *
 * Return: how many
 */
size_t disk_enumerate(const struct disk_filter *filter, struct disk_facts *out);

/* Fill in the rest: read the disk. */
void disk_probe(struct disk_facts *facts);

/* SMART, by smartctl(8) where there is one. It may take seconds. */
enum disk_health disk_health(const char *device);

/* What `smartctl --json` wrote; anything else is DISK_HEALTH_UNKNOWN. */
enum disk_health disk_health_parse(const char *text, size_t len);

#endif
