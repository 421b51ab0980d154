/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/disk_scan.h - one look at all disks, with what follows at once: volumes' disks that are there are mounted
 *
 * Threads: disk_scan_run() waits for disks, and is called on a worker's. Until it returns the scan is its own.
 */
#ifndef VNAS_SLAVE_DISK_SCAN_H
#define VNAS_SLAVE_DISK_SCAN_H

#include "slave/disk_probe.h"
#include "slave/disk_record.h"

#include <limits.h>

enum disk_presence {
	DISK_UNKNOWN, /* nobody has looked */
	DISK_PRESENT, /* mounted, and works */
	DISK_FAILED,  /* mounted, and does not work, or its disk is not there any more */
	DISK_AWAY,    /* not mounted, or that can't be undone yet */
};

struct disk_volume {
	enum disk_presence presence;
	bool is_busy; /* in: being formatted: not looked at */
	bool is_left; /* in: nobody uses it any more: it may be unmounted and mounted anew */
	bool has_disk; /* its disk is here */
	dev_t number; /* of its disk, if it has one */
	int error;    /* why it is not present; -ENOTUNIQ: there is a copy of it, too */
};

struct disk_scan {
	/* in */
	struct disk_filter filter;
	char mounts[PATH_MAX]; /* the folder with a mount point for each record */
	struct disk_records records;
	size_t forgotten_count;
	uint8_t forgotten[DISK_RECORDS_MAX][UUID_BYTES]; /* of records that are no more: first of all they are unmounted */
	size_t busy_count;
	dev_t busy[DISK_PROBE_MAX]; /* disks that are being formatted: not opened, for who formats has them alone */
	/* out; of `volumes` also in: as of the last scan */
	struct disk_volume volumes[DISK_RECORDS_MAX];
	size_t count;
	struct disk_facts disks[DISK_PROBE_MAX];
};

void disk_scan_run(struct disk_scan *scan);

/* Only: do those that were present still work? Cheap; does not wake a disk that sleeps. */
bool disk_scan_check(const struct disk_scan *scan);

/* Where a volume's disk is mounted. PATH_MAX bytes */
void disk_scan_mount_point(const char *mounts, const uint8_t uuid[static UUID_BYTES], char *out);

/* A fresh file system at @directory gets what a volume needs. 0, or what the kernel said */
int disk_scan_furnish(const char *directory);

/* Below the mount point; so a disk that is not mounted is never mistaken for an empty one. */
#define DISK_VOLUME_DIRECTORY "volume"

#endif
