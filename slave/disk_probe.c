/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/disk_probe.h"

#include "slave/child.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <jansson.h>
#include <libudev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SMART_PATIENCE_MS = 20000, SMART_BYTES_MAX = 65536, SECTOR_BYTES = 512, AMBIGUOUS = -2, NOTHING = 1 };

/* Which there are */

static bool is_wanted(const struct disk_filter *filter, struct udev_device *device)
{
	const char *node = udev_device_get_devnode(device);
	char hardware[512];

	if (!node || strlen(node) >= DISK_DEVICE_MAX)
		return false;
	for (unsigned int i = 0; i < filter->count; i++)
		if (fnmatch(filter->patterns[i], node, FNM_PATHNAME) == 0)
			return true;
	snprintf(hardware, sizeof(hardware), "%.500s/device", udev_device_get_syspath(device));
	return !filter->count && access(hardware, F_OK) == 0;
}

static bool take(const struct disk_filter *filter, struct udev_device *device, struct disk_facts *out)
{
	const char *size = udev_device_get_sysattr_value(device, "size"), *type = udev_device_get_devtype(device);

	if (!size || !type || strcmp(type, "disk") != 0 || !is_wanted(filter, device))
		return false;
	*out = (struct disk_facts){ .bytes = strtoull(size, NULL, 10) * SECTOR_BYTES, .number = udev_device_get_devnum(device) };
	if (!out->bytes)
		return false; /* a drive without a medium, a loop device without a file */
	snprintf(out->device, sizeof(out->device), "%s", udev_device_get_devnode(device));
	disk_identity_read(out->number, &out->identity);
	return true;
}

size_t disk_enumerate(const struct disk_filter *filter, struct disk_facts *out)
{
	struct udev *udev = udev_new();
	struct udev_enumerate *enumerate = udev ? udev_enumerate_new(udev) : NULL;
	struct udev_list_entry *entry;
	size_t count = 0;

	if (!enumerate)
		goto out;
	udev_enumerate_add_match_subsystem(enumerate, "block");
	udev_enumerate_scan_devices(enumerate);
	udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(enumerate)) {
		struct udev_device *device = udev_device_new_from_syspath(udev, udev_list_entry_get_name(entry));

		if (device && count < DISK_PROBE_MAX)
			count += take(filter, device, &out[count]);
		if (device)
			udev_device_unref(device);
	}
out:
	if (enumerate)
		udev_enumerate_unref(enumerate);
	if (udev)
		udev_unref(udev);
	return count;
}

/* What is on them */

static const char *value(blkid_probe probe, const char *name)
{
	const char *text;

	return blkid_probe_lookup_value(probe, name, &text, NULL) == 0 ? text : NULL;
}

static void describe(blkid_probe probe, struct disk_facts *facts)
{
	const char *type = value(probe, "TYPE"), *table = value(probe, "PTTYPE"), *label = value(probe, "LABEL");
	const char *uuid = value(probe, "UUID"), *usage = value(probe, "USAGE");

	if (type)
		snprintf(facts->holds, sizeof(facts->holds), "%.40s%s%.60s%s", type, label ? " \"" : "", label ? label : "",
			 label ? "\"" : "");
	else
		snprintf(facts->holds, sizeof(facts->holds), "partitions (%.40s)", table ? table : "of an unknown kind");
	if (type && usage && strcmp(usage, "filesystem") == 0 && strlen(type) < sizeof(facts->type)) {
		strcpy(facts->type, type);
		if (uuid)
			uuid_parse(uuid, facts->uuid);
	}
}

static void read_signatures(int fd, struct disk_facts *facts)
{
	blkid_probe probe = blkid_new_probe();
	int rc = -1;

	if (probe && blkid_probe_set_device(probe, fd, 0, 0) == 0) {
		blkid_probe_enable_superblocks(probe, 1);
		/* What has a wrong checksum could still be repaired: it is something, too. */
		blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL |
								 BLKID_SUBLKS_USAGE | BLKID_SUBLKS_BADCSUM);
		blkid_probe_enable_partitions(probe, 1);
		rc = blkid_do_safeprobe(probe);
	}
	if (rc == 0)
		describe(probe, facts);
	else if (rc == AMBIGUOUS)
		snprintf(facts->holds, sizeof(facts->holds), "more than one thing; wipefs(8) tells which");
	else if (rc != NOTHING)
		snprintf(facts->holds, sizeof(facts->holds), "can't be read");
	blkid_free_probe(probe);
}

/* Before "nothing is known on it" counts: can it be read at all? libblkid does not tell. */
static bool is_readable(int fd, uint64_t bytes)
{
	const off_t places[] = { 0, (off_t)(bytes - SECTOR_BYTES) };
	uint8_t sector[SECTOR_BYTES];

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (pread(fd, sector, sizeof(sector), places[i]) != sizeof(sector))
			return false;
	return true;
}

void disk_probe(struct disk_facts *facts)
{
	/* Exclusively: who has mounted it, or made it a part of something, has it so, too. */
	int fd = open(facts->device, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);

	facts->is_in_use = false;
	facts->holds[0] = facts->type[0] = '\0';
	memset(facts->uuid, 0, sizeof(facts->uuid));
	if (fd < 0 && errno == EBUSY) {
		facts->is_in_use = true;
		fd = open(facts->device, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	if (fd < 0) {
		snprintf(facts->holds, sizeof(facts->holds), "can't be opened: %s", strerror(errno));
		return;
	}
	if (is_readable(fd, facts->bytes))
		read_signatures(fd, facts);
	else
		snprintf(facts->holds, sizeof(facts->holds), "can't be read");
	close(fd);
}

/* SMART */

enum disk_health disk_health_parse(const char *text, size_t len)
{
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *passed = json_object_get(json_object_get(root, "smart_status"), "passed");
	enum disk_health health = json_is_true(passed)	? DISK_HEALTH_PASSED :
				  json_is_false(passed) ? DISK_HEALTH_FAILED :
							  DISK_HEALTH_UNKNOWN;

	json_decref(root);
	return health;
}

/* Its exit status is a set of bits, some of which only say that something was to be told: the text counts. */
enum disk_health disk_health(const char *device)
{
	const char *const argv[] = { "smartctl", "--json=c", "--health", "--nocheck=standby", device, NULL };
	char *text = malloc(SMART_BYTES_MAX);
	enum disk_health health = DISK_HEALTH_UNKNOWN;
	struct child child = { 0 };

	if (text && child_run(&child, argv, SMART_PATIENCE_MS, text, SMART_BYTES_MAX) >= 0)
		health = disk_health_parse(text, strlen(text));
	free(text);
	return health;
}
