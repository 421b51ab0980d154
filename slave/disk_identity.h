/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/disk_identity.h - which disk is it? Serial number and model
 *
 * As udev's database has them, else as the kernel says in sysfs; of a partition, those of its disk. Reads only these, never the disk,
 * and so does not wait for one.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_SLAVE_DISK_IDENTITY_H
#define VNAS_SLAVE_DISK_IDENTITY_H

#include <stddef.h>
#include <sys/types.h>

enum { DISK_TEXT_MAX = 128 };

/* Empty: the disk does not say. Printable, without blanks at the ends. */
struct disk_identity {
	char serial[DISK_TEXT_MAX];
	char model[DISK_TEXT_MAX];
};

/* @number: of a block device */
void disk_identity_read(dev_t number, struct disk_identity *out);

/* The serial number of the disk that a directory's file system is on; empty if it is on none, or on several. */
void disk_serial_of(const char *directory, char *serial, size_t size);

#endif
