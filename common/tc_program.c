/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tc_program.h"

#include "common/log.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { FILTER_HANDLE = 1 };

static int on_libbpf_line(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[LOG_LINE_MAX];

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(line, sizeof(line), format, args);
	line[strcspn(line, "\n")] = '\0';
	log_debug("bpf", "%s", line);
	return 0;
}

int tc_open(const void *elf, size_t size, const char *name, struct bpf_object **out)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = name);
	struct bpf_object *object;

	libbpf_set_print(on_libbpf_line);
	object = bpf_object__open_mem(elf, size, &opts);
	if (!object) {
		int err = -errno;

		log_err("bpf", "program=%s cannot parse the embedded object: %s", name, strerror(-err));
		return err;
	}
	*out = object;
	return 0;
}

int tc_set_constants(struct bpf_object *object, const void *value, size_t size)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata");

	if (BUG_IF(!map))
		return -ENOENT;
	return bpf_map__set_initial_value(map, value, size);
}

int tc_set_entries(struct bpf_object *object, const char *name, uint32_t entries)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, name);

	if (BUG_IF(!map))
		return -ENOENT;
	return bpf_map__set_max_entries(map, entries);
}

/* Does it outlive the program? */
static bool is_kept(const struct bpf_map *map)
{
	const char *name = bpf_map__name(map);

	return !bpf_map__is_internal(map) && isdigit((unsigned char)name[strlen(name) - 1]);
}

/* "node_flows_1" is pinned as "node_flows". */
static int pin_path(const struct bpf_map *map, const char *pin_dir, char path[static PATH_MAX])
{
	const char *name = bpf_map__name(map), *version = strrchr(name, '_');

	if (BUG_IF(!version || strlen(name) >= BPF_OBJ_NAME_LEN))
		return -EINVAL;
	if (snprintf(path, PATH_MAX, "%s/%.*s", pin_dir, (int)(version - name), name) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

static bool is_same_layout(const struct bpf_map *map, int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strcmp(info.name, bpf_map__name(map)) == 0 &&
	       info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
	       info.value_size == bpf_map__value_size(map);
}

/* Counters may grow from version to version without a new number: their entries are what must agree. */
static bool has_enough_entries(const struct bpf_map *map, int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	if (bpf_map__type(map) != BPF_MAP_TYPE_PERCPU_ARRAY)
		return true;
	return bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.max_entries == bpf_map__max_entries(map);
}

static int take_up_map(struct bpf_map *map, const char *pin_dir, bool *took_up)
{
	char path[PATH_MAX];
	int err, fd;

	err = pin_path(map, pin_dir, path);
	if (err)
		return err;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (is_same_layout(map, fd) && has_enough_entries(map, fd)) {
		err = bpf_map__reuse_fd(map, fd);
		*took_up = *took_up || !err;
	} else {
		log_warn("bpf", "map=%s was left by another version of vnasd: its contents are lost", path);
		err = unlink(path) ? -errno : 0;
	}
	close(fd);
	return err;
}

static int pin_map(struct bpf_map *map, const char *pin_dir)
{
	char path[PATH_MAX];
	int err;

	err = pin_path(map, pin_dir, path);
	if (err || access(path, F_OK) == 0)
		return err;
	return bpf_obj_pin(bpf_map__fd(map), path) ? -errno : 0;
}

static int make_pin_dir(const char *pin_dir)
{
	struct statfs fs;

	if (mkdir(pin_dir, 0700) && errno != EEXIST) {
		log_err("bpf", "directory=%s cannot be made: %s", pin_dir, strerror(errno));
		return -errno;
	}
	if (statfs(pin_dir, &fs))
		return -errno;
	if (fs.f_type != BPF_FS_MAGIC) {
		log_err("bpf", "directory=%s is not on a bpffs: mount -t bpf bpf /sys/fs/bpf", pin_dir);
		rmdir(pin_dir);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int load_failed(const struct bpf_object *object, int err)
{
	const char *hint = "";

	if (err == -EPERM)
		hint = "; the daemon needs CAP_BPF and CAP_NET_ADMIN";
	else if (err == -EINVAL || err == -ENOSYS)
		hint = "; the kernel may be too old or lack CONFIG_BPF_SYSCALL, try log level debug";
	log_err("bpf", "program=%s not loaded: %s%s", bpf_object__name(object), strerror(-err), hint);
	return err == -ENOSYS ? -EOPNOTSUPP : err;
}

int tc_load(struct bpf_object *object, const char *pin_dir, bool *took_up)
{
	struct bpf_map *map;
	int err;

	*took_up = false;
	err = make_pin_dir(pin_dir);
	if (err)
		return err;
	bpf_object__for_each_map(map, object) {
		if (!err && is_kept(map))
			err = take_up_map(map, pin_dir, took_up);
	}
	if (!err)
		err = bpf_object__load(object);
	bpf_object__for_each_map(map, object) {
		if (!err && is_kept(map))
			err = pin_map(map, pin_dir);
	}
	return err ? load_failed(object, err) : 0;
}

void tc_unpin(struct bpf_object *object, const char *pin_dir)
{
	char path[PATH_MAX];
	struct bpf_map *map;

	bpf_object__for_each_map(map, object) {
		if (is_kept(map) && !pin_path(map, pin_dir, path))
			unlink(path);
	}
	rmdir(pin_dir);
}

static struct bpf_tc_hook hook_of(const struct tc_place *place)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)place->ifindex);

	hook.attach_point = place->direction == TC_DIRECTION_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS;
	return hook;
}

int tc_attach(struct bpf_object *object, const char *program, const struct tc_place *place)
{
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = place->priority, .flags = BPF_TC_F_REPLACE);
	struct bpf_tc_hook hook = hook_of(place);
	char name[IF_NAMESIZE] = "?";
	int err;

	if_indextoname(place->ifindex, name);
	opts.prog_fd = tc_program_fd(object, program);
	if (opts.prog_fd < 0)
		return opts.prog_fd;
	err = bpf_tc_hook_create(&hook);
	if (err == 0)
		log_info("bpf", "interface=%s made a clsact qdisc", name);
	if (err == 0 || err == -EEXIST)
		err = bpf_tc_attach(&hook, &opts);
	if (err) {
		log_err("bpf", "interface=%s program=%s not attached: %s", name, program, strerror(-err));
		return err == -ENOENT ? -EOPNOTSUPP : err;
	}
	log_info("bpf", "interface=%s program=%s attached", name, program);
	return 0;
}

/* Asks the kernel for the filters at one end of clsact. Returns the descriptor of a netlink socket with the answer. */
static int request_filters(unsigned int ifindex, uint32_t end)
{
	struct {
		struct nlmsghdr header;
		struct tcmsg tc;
	} request = {
		.header.nlmsg_len = sizeof(request),
		.header.nlmsg_type = RTM_GETTFILTER,
		.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.tc.tcm_family = AF_UNSPEC,
		.tc.tcm_ifindex = (int)ifindex,
		.tc.tcm_parent = TC_H_MAKE(TC_H_CLSACT, end),
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	if (send(fd, &request, sizeof(request), 0) != sizeof(request)) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/* Whether one end of clsact is certainly without filters: the first message of the answer says it is the last. */
static bool is_end_unused(unsigned int ifindex, uint32_t end)
{
	char answer[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
	const struct nlmsghdr *first = (const struct nlmsghdr *)answer;
	int fd = request_filters(ifindex, end);
	ssize_t len;

	if (fd < 0)
		return false;
	len = recv(fd, answer, sizeof(answer), 0);
	close(fd);
	return len >= (ssize_t)sizeof(*first) && first->nlmsg_type == NLMSG_DONE;
}

void tc_detach(const struct tc_place *place)
{
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = place->priority);
	struct bpf_tc_hook hook = hook_of(place);
	char name[IF_NAMESIZE] = "?";

	if_indextoname(place->ifindex, name);
	if (bpf_tc_detach(&hook, &opts) == 0)
		log_info("bpf", "interface=%s priority=%d detached", name, place->priority);
	if (!is_end_unused(place->ifindex, TC_H_MIN_INGRESS) || !is_end_unused(place->ifindex, TC_H_MIN_EGRESS))
		return;
	hook.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS;
	if (bpf_tc_hook_destroy(&hook) == 0)
		log_info("bpf", "interface=%s removed the clsact qdisc", name);
}

static bool has_program(const struct tc_place *place, const char *prefix)
{
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = place->priority);
	struct bpf_tc_hook hook = hook_of(place);
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);
	bool found;
	int fd;

	if (bpf_tc_query(&hook, &opts))
		return false;
	fd = bpf_prog_get_fd_by_id(opts.prog_id);
	if (fd < 0)
		return false;
	found = bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strncmp(info.name, prefix, strlen(prefix)) == 0;
	close(fd);
	return found;
}

static bool is_in_use(unsigned int ifindex, const unsigned int *keep, size_t keep_count)
{
	for (size_t i = 0; i < keep_count; i++)
		if (keep[i] == ifindex)
			return true;
	return false;
}

void tc_detach_strays(const struct tc_place *place, const char *prefix, const unsigned int *keep, size_t keep_count)
{
	struct if_nameindex *interfaces = if_nameindex();
	struct tc_place stray = *place;

	for (struct if_nameindex *i = interfaces; i && i->if_index; i++) {
		stray.ifindex = i->if_index;
		if (!is_in_use(i->if_index, keep, keep_count) && has_program(&stray, prefix))
			tc_detach(&stray);
	}
	if_freenameindex(interfaces);
}

int tc_map_fd(struct bpf_object *object, const char *map)
{
	int fd = bpf_object__find_map_fd_by_name(object, map);

	BUG_IF(fd < 0);
	return fd;
}

int tc_program_fd(struct bpf_object *object, const char *program)
{
	struct bpf_program *found = bpf_object__find_program_by_name(object, program);

	if (BUG_IF(!found))
		return -ENOENT;
	return bpf_program__fd(found);
}

void tc_sum_counters(int map_fd, uint64_t *sums, uint32_t count)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *per_cpu = cpus > 0 ? calloc((size_t)cpus, sizeof(*per_cpu)) : NULL;

	for (uint32_t i = 0; i < count; i++) {
		sums[i] = 0;
		if (!per_cpu || bpf_map_lookup_elem(map_fd, &i, per_cpu))
			continue;
		for (int cpu = 0; cpu < cpus; cpu++)
			sums[i] += per_cpu[cpu];
	}
	free(per_cpu);
}

int tc_run(int program_fd, void *context, size_t len)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = context, .ctx_size_in = (__u32)len);

	return bpf_prog_test_run_opts(program_fd, &opts);
}
