/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/disk_format.h - making file systems on disks, and mounting them
 *
 * Threads: each waits for a disk, and is called on a worker's.
 */
#ifndef VNAS_SLAVE_DISK_FORMAT_H
#define VNAS_SLAVE_DISK_FORMAT_H

#include "common/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct child;

/* Can it be made here? */
bool disk_format_is_type(const char *type);

/**
 * disk_format() - make a file system on a whole disk
 * @type:	"ext4" or "xfs"
 * @uuid:	which the file system will have
 * @is_ours:	overwrite what is known on it: an unfinished format. Otherwise mkfs.xfs refuses, but mkfs.ext4 does not: look before
 * @child:	by which it can be ended
 * @why:	out: on failure a sentence
 *
 * Return: 0; -EIO (mkfs failed), -ENOENT (there is no mkfs), -ECANCELED
 */
int disk_format(struct child *child, const char *device, const char *type, const uint8_t uuid[static UUID_BYTES], bool is_ours,
		char *why, size_t size);

/* Makes @directory if it is missing. 0, or what the kernel said */
int disk_mount(const char *device, const char *type, const char *directory);

/* 0, also if nothing is mounted there; -EBUSY. @at_once: whoever uses it keeps it until he has done */
int disk_unmount(const char *directory, bool at_once);

/* Is something mounted there, and which device? */
bool disk_is_mounted(const char *directory, dev_t *number);

#endif
