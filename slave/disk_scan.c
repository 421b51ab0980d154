/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/disk_scan.h"

#include "slave/disk_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MARK "vnas"

static const char mark_text[] = "The directory " DISK_VOLUME_DIRECTORY " of this file system is a volume of vnas.\n";

void disk_scan_mount_point(const char *mounts, const uint8_t uuid[static UUID_BYTES], char *out)
{
	char text[UUID_TEXT_MAX];

	snprintf(out, PATH_MAX, "%.4000s/%s", mounts, uuid_text(uuid, text));
}

static int open_mark(const char *directory, int flags)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%.4080s/" MARK, directory);
	fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : fd;
}

int disk_scan_furnish(const char *directory)
{
	char path[PATH_MAX];
	int fd, rc = 0;

	snprintf(path, sizeof(path), "%.4080s/" DISK_VOLUME_DIRECTORY, directory);
	if (mkdir(path, 0755) < 0)
		return -errno;
	fd = open_mark(directory, O_CREAT | O_WRONLY | O_TRUNC);
	if (fd < 0)
		return fd;
	if (write(fd, mark_text, sizeof(mark_text) - 1) != sizeof(mark_text) - 1)
		rc = -EIO;
	if (rc == 0 && syncfs(fd) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/*
 * A file system that has shut itself down after an error says so to whoever synchronizes a file (ext4, XFS), or has become
 * read-only (ext4 of older kernels). Nothing is written by that.
 */
static int check(const char *directory)
{
	struct statvfs statvfs;
	int fd = open_mark(directory, O_RDONLY), rc = 0;

	if (fd < 0)
		return fd;
	if (fsync(fd) < 0)
		rc = -errno;
	else if (fstatvfs(fd, &statvfs) < 0)
		rc = -errno;
	else if (statvfs.f_flag & ST_RDONLY)
		rc = -EROFS;
	close(fd);
	return rc;
}

bool disk_scan_check(const struct disk_scan *scan)
{
	char directory[PATH_MAX];

	for (size_t i = 0; i < scan->records.count; i++) {
		disk_scan_mount_point(scan->mounts, scan->records.list[i].uuid, directory);
		if (scan->volumes[i].presence == DISK_PRESENT && check(directory) < 0)
			return false;
	}
	return true;
}

static struct disk_facts *find_number(struct disk_scan *scan, dev_t number)
{
	for (size_t i = 0; i < scan->count; i++)
		if (scan->disks[i].number == number)
			return &scan->disks[i];
	return NULL;
}

/* From @disk on. */
static struct disk_facts *find_uuid(struct disk_scan *scan, const uint8_t *uuid, struct disk_facts *disk)
{
	for (; disk < scan->disks + scan->count; disk++)
		if (memcmp(disk->uuid, uuid, UUID_BYTES) == 0)
			return disk;
	return NULL;
}

static void set(struct disk_volume *volume, enum disk_presence presence, const struct disk_facts *disk, int error)
{
	volume->presence = presence;
	volume->has_disk = disk != NULL;
	volume->number = disk ? disk->number : 0;
	volume->error = error;
}

/* It is not mounted. */
static void fetch(struct disk_scan *scan, const struct disk_record *record, struct disk_volume *volume, const char *directory)
{
	struct disk_facts *disk = find_uuid(scan, record->uuid, scan->disks);
	int rc = -ENODEV;

	if (disk && find_uuid(scan, record->uuid, disk + 1))
		rc = -ENOTUNIQ; /* which of them is the copy? What is written to the wrong one is lost */
	else if (disk)
		rc = disk_mount(disk->device, record->type, directory);
	if (rc == 0) {
		rc = check(directory);
		if (rc < 0)
			disk_unmount(directory, true);
		disk_probe(disk); /* it is in use now */
	}
	set(volume, rc == 0 ? DISK_PRESENT : DISK_AWAY, disk, rc);
}

static void look_for(struct disk_scan *scan, const struct disk_record *record, struct disk_volume *volume)
{
	char directory[PATH_MAX];
	struct disk_facts *disk = NULL;
	dev_t number = 0;
	int rc = -ENODEV;

	disk_scan_mount_point(scan->mounts, record->uuid, directory);
	if (!disk_is_mounted(directory, &number)) {
		if (record->is_ready)
			fetch(scan, record, volume, directory);
		return;
	}
	disk = find_number(scan, number);
	if (disk)
		rc = check(directory);
	if (rc == 0 && record->is_ready) {
		set(volume, DISK_PRESENT, disk, 0);
		return;
	}
	if (record->is_ready && !volume->is_left) {
		set(volume, DISK_FAILED, disk, rc);
		return;
	}
	/* A new mount while somebody has files of the old one open would only show that again. */
	rc = disk_unmount(directory, !disk || !record->is_ready);
	if (disk)
		disk_probe(disk);
	if (rc == 0 && record->is_ready)
		fetch(scan, record, volume, directory);
	else
		set(volume, DISK_AWAY, disk, rc);
}

static bool is_busy(const struct disk_scan *scan, dev_t number)
{
	for (size_t i = 0; i < scan->busy_count; i++)
		if (scan->busy[i] == number)
			return true;
	return false;
}

/* It takes as long as the disk takes for what is still to be written. */
static void let_go(const struct disk_scan *scan)
{
	char directory[PATH_MAX];

	for (size_t i = 0; i < scan->forgotten_count; i++) {
		disk_scan_mount_point(scan->mounts, scan->forgotten[i], directory);
		disk_unmount(directory, true);
	}
}

void disk_scan_run(struct disk_scan *scan)
{
	let_go(scan);
	scan->count = disk_enumerate(&scan->filter, scan->disks);
	for (size_t i = 0; i < scan->count; i++) {
		if (is_busy(scan, scan->disks[i].number))
			snprintf(scan->disks[i].holds, sizeof(scan->disks[i].holds), "what is just being formatted");
		else
			disk_probe(&scan->disks[i]);
	}
	for (size_t i = 0; i < scan->records.count; i++)
		if (!scan->volumes[i].is_busy)
			look_for(scan, &scan->records.list[i], &scan->volumes[i]);
}
