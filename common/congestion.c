/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/congestion.h"

#include "common/congestion_map.h"
#include "common/tc_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TC_EMBED(congestion_object, "common/congestion.bpf.o");

#define STRING(x) STRING_(x)
#define STRING_(x) #x

struct congestion {
	struct bpf_object *object;
	struct bpf_link *link;
	int wishes_fd;
};

/* Where cgroups of version 2 are mounted. */
static int find_hierarchy(char path[static PATH_MAX])
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	const struct mntent *mount;
	int err = -ENOENT;

	if (!mounts)
		return -errno;
	while (err && (mount = getmntent(mounts)))
		if (strcmp(mount->mnt_type, "cgroup2") == 0)
			err = (size_t)snprintf(path, PATH_MAX, "%s", mount->mnt_dir) < PATH_MAX ? 0 : -ENAMETOOLONG;
	endmntent(mounts);
	return err;
}

/* This process's place in it: the line "0::/PATH" (cgroups(7)). Appended to @path. */
static int find_place(char path[static PATH_MAX])
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX];
	size_t len = strlen(path);
	int err = -ENOENT;

	if (!file)
		return -errno;
	while (err && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		err = (size_t)snprintf(path + len, PATH_MAX - len, "%s", line + 3) < PATH_MAX - len ? 0 : -ENAMETOOLONG;
	}
	fclose(file);
	return err;
}

/* A descriptor. */
static int open_cgroup(void)
{
	char path[PATH_MAX];
	int fd, err = find_hierarchy(path);

	if (!err)
		err = find_place(path);
	if (err)
		return err;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int attach(struct congestion *congestion)
{
	struct bpf_program *program = bpf_object__find_program_by_name(congestion->object, "congestion_restore");
	int cgroup = open_cgroup(), err = 0;

	if (cgroup < 0)
		return cgroup;
	congestion->link = bpf_program__attach_cgroup(program, cgroup);
	if (!congestion->link)
		err = -errno;
	close(cgroup);
	return err;
}

int congestion_new(struct congestion **out)
{
	struct congestion *congestion = calloc(1, sizeof(*congestion));
	int err;

	if (!congestion)
		return -ENOMEM;
	err = tc_open(congestion_object, (size_t)(congestion_object_end - congestion_object), "congestion",
		      &congestion->object);
	if (!err)
		err = bpf_object__load(congestion->object);
	if (!err)
		err = attach(congestion);
	if (err) {
		congestion_free(congestion);
		return err;
	}
	congestion->wishes_fd = tc_map_fd(congestion->object, STRING(CONGESTION_WISHES));
	*out = congestion;
	return 0;
}

void congestion_free(struct congestion *congestion)
{
	if (!congestion)
		return;
	bpf_link__destroy(congestion->link);
	bpf_object__close(congestion->object);
	free(congestion);
}

int congestion_wish(struct congestion *congestion, int fd, uint32_t window)
{
	struct congestion_wish wish = { .window = window < CONGESTION_WINDOW_MAX ? window : CONGESTION_WINDOW_MAX };

	if (!congestion || !window || window == CONGESTION_WINDOW_INITIAL)
		return 0; /* most sessions never send more: three microseconds of the client's pause */
	return bpf_map_update_elem(congestion->wishes_fd, &fd, &wish, BPF_ANY);
}
