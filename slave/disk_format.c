/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/disk_format.h"

#include "common/stored_file.h"
#include "slave/child.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum { ARGUMENTS_MAX = 16, OUTPUT_MAX = 4096 };

struct maker {
	const char *type;
	const char *arguments[8]; /* of mkfs.TYPE; ended by NULL */
	const char *force;	  /* overwrite what is there */
	const char *uuid_option, *uuid_prefix;
};

/* Without discarding all blocks first, which takes minutes on some disks. */
static const struct maker makers[] = {
	{ "ext4", { "-q", "-E", "nodiscard", "-L", "vnas", NULL }, "-F", "-U", "" },
	{ "xfs", { "-q", "-K", "-L", "vnas", NULL }, "-f", "-m", "uuid=" },
};

static const struct maker *find_maker(const char *type)
{
	for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++)
		if (strcmp(makers[i].type, type) == 0)
			return &makers[i];
	return NULL;
}

bool disk_format_is_type(const char *type)
{
	return find_maker(type) != NULL;
}

/* Its last line is what a program complains of in the end. */
static const char *last_line(char *text)
{
	size_t len = strlen(text);
	char *newline;

	while (len && strchr(" \t\r\n", text[len - 1]))
		text[--len] = '\0';
	newline = strrchr(text, '\n');
	return newline ? newline + 1 : text;
}

int disk_format(struct child *child, const char *device, const char *type, const uint8_t uuid[static UUID_BYTES], bool is_ours,
		char *why, size_t size)
{
	const struct maker *maker = find_maker(type);
	const char *argv[ARGUMENTS_MAX];
	char program[32], option[UUID_TEXT_MAX + 8], text[UUID_TEXT_MAX], output[OUTPUT_MAX];
	size_t count = 0;
	int rc;

	if (!maker)
		return -EINVAL;
	snprintf(program, sizeof(program), "mkfs.%s", type);
	argv[count++] = program;
	for (size_t i = 0; maker->arguments[i]; i++)
		argv[count++] = maker->arguments[i];
	if (is_ours)
		argv[count++] = maker->force;
	snprintf(option, sizeof(option), "%s%s", maker->uuid_prefix, uuid_text(uuid, text));
	argv[count++] = maker->uuid_option;
	argv[count++] = option;
	argv[count++] = device;
	argv[count] = NULL;
	rc = child_run(child, argv, -1, output, sizeof(output));
	if (rc == 0)
		return 0;
	if (rc == -ENOENT)
		snprintf(why, size, "there is no %s on this node; install it", program);
	else if (rc == -ECANCELED)
		snprintf(why, size, "the daemon stopped meanwhile");
	else
		snprintf(why, size, "%s failed: %s", program, output[0] ? last_line(output) : rc < 0 ? strerror(-rc) : "it did not say why");
	return rc == -ENOENT || rc == -ECANCELED ? rc : -EIO;
}

/* Clients' files are no programs, devices or ways to another user here. */
int disk_mount(const char *device, const char *type, const char *directory)
{
	int rc = stored_file_make_directory(directory);

	if (rc < 0)
		return rc;
	return mount(device, directory, type, MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL) < 0 ? -errno : 0;
}

int disk_unmount(const char *directory, bool at_once)
{
	if (umount2(directory, UMOUNT_NOFOLLOW | (at_once ? MNT_DETACH : 0)) == 0 || errno == EINVAL || errno == ENOENT)
		return 0;
	return -errno;
}

bool disk_is_mounted(const char *directory, dev_t *number)
{
	char above[PATH_MAX];
	struct stat st, above_st;

	snprintf(above, sizeof(above), "%.4000s/..", directory);
	if (stat(directory, &st) < 0)
		return errno == EIO; /* of a file system that has failed, not even that can be asked */
	if (stat(above, &above_st) < 0 || st.st_dev == above_st.st_dev)
		return false;
	*number = st.st_dev;
	return true;
}
