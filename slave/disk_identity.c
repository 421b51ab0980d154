/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/disk_identity.h"

#include <ctype.h>
#include <libudev.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* What a disk says of itself may be anything. Return: is something left? */
static bool take(char out[static DISK_TEXT_MAX], const char *text)
{
	size_t len = 0;

	if (!text)
		return false;
	while (isspace((unsigned char)*text))
		text++;
	for (; *text && len < DISK_TEXT_MAX - 1; text++)
		out[len++] = isgraph((unsigned char)*text) || *text == ' ' ? *text : '_';
	while (len && out[len - 1] == ' ')
		len--;
	out[len] = '\0';
	return len > 0;
}

/* The properties are udev's, "device/..." a SCSI or NVMe device's, "serial" a virtio disk's. */
static void read_disk(struct udev_device *disk, struct disk_identity *out)
{
	(void)(take(out->serial, udev_device_get_property_value(disk, "ID_SERIAL_SHORT")) ||
	       take(out->serial, udev_device_get_property_value(disk, "ID_SCSI_SERIAL")) ||
	       take(out->serial, udev_device_get_sysattr_value(disk, "device/serial")) ||
	       take(out->serial, udev_device_get_sysattr_value(disk, "serial")));
	(void)(take(out->model, udev_device_get_property_value(disk, "ID_MODEL")) ||
	       take(out->model, udev_device_get_sysattr_value(disk, "device/model")));
}

void disk_identity_read(dev_t number, struct disk_identity *out)
{
	struct udev *udev = udev_new();
	struct udev_device *device = udev ? udev_device_new_from_devnum(udev, 'b', number) : NULL;
	struct udev_device *disk = device;

	*out = (struct disk_identity){ 0 };
	if (device && udev_device_get_devtype(device) && strcmp(udev_device_get_devtype(device), "partition") == 0)
		disk = udev_device_get_parent_with_subsystem_devtype(device, "block", "disk"); /* borrowed from its child */
	if (disk)
		read_disk(disk, out);
	if (device)
		udev_device_unref(device);
	if (udev)
		udev_unref(udev);
}

void disk_serial_of(const char *directory, char *serial, size_t size)
{
	struct disk_identity identity;
	struct stat st;

	*serial = '\0';
	if (stat(directory, &st) < 0)
		return;
	disk_identity_read(st.st_dev, &identity); /* of Btrfs, which has a device number of its own: none */
	snprintf(serial, size, "%s", identity.serial);
}
