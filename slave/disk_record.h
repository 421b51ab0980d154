/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/disk_record.h - which disks this node has formatted
 *
 * Kept in <state_dir>/disks, one line each: UUID of the file system, "formatting" or "ready", its type. Written before a format begins, so
 * that after a crash a half-made file system is known as such by its UUID, and never taken for a volume.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_SLAVE_DISK_RECORD_H
#define VNAS_SLAVE_DISK_RECORD_H

#include "common/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DISK_RECORDS_MAX = 256 };

struct disk_record {
	uint8_t uuid[UUID_BYTES];
	bool is_ready; /* false: being formatted, or it was when the daemon died */
	char type[16];
};

struct disk_records {
	size_t count;
	struct disk_record list[DISK_RECORDS_MAX];
};

/* @out: empty if there is no file. 0; -EINVAL (a damaged line, logged); what the kernel said */
int disk_records_load(const char *path, struct disk_records *out);

/* Durable once it returns 0. */
int disk_records_save(const char *path, const struct disk_records *records);

struct disk_record *disk_records_find(struct disk_records *records, const uint8_t uuid[static UUID_BYTES]);

/* Not ready. NULL: there are too many */
struct disk_record *disk_records_add(struct disk_records *records, const uint8_t uuid[static UUID_BYTES], const char *type);
void disk_records_remove(struct disk_records *records, const uint8_t uuid[static UUID_BYTES]);

#endif
