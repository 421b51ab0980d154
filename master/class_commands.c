/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/class_commands.h"

#include "common/priorities.h"
#include "common/user_checks.h"
#include "master/commands_internal.h"
#include "master/master.h"
#include "master/vroot.h"
#include "slave/device_commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct master *master_of(void *arg)
{
	return ((struct device *)arg)->master;
}

static const ns_class *find_class(struct namespace *ns, const char *name)
{
	const ns_class *class;

	for (size_t at = 0; (class = namespace_next_class(ns, &at));)
		if (strcmp(class->name, name) == 0)
			return class;
	return NULL;
}

void class_command_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	json_t *table = admin_table("name:Class weight:Weight operations:Operations/s bytes:Bytes/s members:Members");
	const ns_class *class;

	(void)argc, (void)argv;
	for (size_t at = 0; (class = namespace_next_class(master_ns(master_of(arg)), &at));)
		admin_row(table, json_pack("{s:o, s:I, s:I, s:I, s:o}", "name", admin_text(class->name), "weight",
					   (json_int_t)class->weight, "operations", (json_int_t)class->operations, "bytes",
					   (json_int_t)class->bytes, "members", admin_text(class->members)));
	admin_answer(request, table);
}

/* 0; -EINVAL */
static int read_number(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || value < least || value > most)
		return -EINVAL;
	*out = value;
	return 0;
}

/* An option and its value at argv[0]. 0: it is none; 1: taken; -EINVAL: answered */
static int take_option(struct admin_request *request, int argc, char **argv, ns_class *out)
{
	uint64_t weight = out->weight;
	const struct {
		const char *name;
		uint64_t least, most, *value;
	} options[] = {
		{ "--weight", 1, PRIORITIES_WEIGHT_MAX, &weight },
		{ "--operations", 0, PRIORITIES_LIMIT_MAX, (uint64_t *)&out->operations },
		{ "--bytes", 0, PRIORITIES_LIMIT_MAX, (uint64_t *)&out->bytes },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (strcmp(argv[0], options[i].name) != 0)
			continue;
		if (argc < 2 || read_number(argv[1], options[i].least, options[i].most, options[i].value) < 0) {
			admin_error(request, "%s takes a number from %ju to %ju", argv[0], (uintmax_t)options[i].least,
				    (uintmax_t)options[i].most);
			return -EINVAL;
		}
		out->weight = (u_int)weight;
		return 1;
	}
	return 0;
}

/* A user of the cluster may be named. */
static int add_member(struct master *master, char *members, const char *word)
{
	const ns_user *user = strncmp(word, "user=", 5) == 0 ? namespace_user_by_name(master_ns(master), word + 5) : NULL;
	size_t len = strlen(members), room = NS_TEXT_MAX - len;
	const char *blank = len ? " " : "";
	int more = user ? snprintf(members + len, room, "%suser=%u", blank, user->uid) :
			  snprintf(members + len, room, "%s%s", blank, word);

	return (size_t)more < room ? 0 : -ENAMETOOLONG;
}

/* 0, or the request was answered. @members: NS_TEXT_MAX bytes */
static int read_class(struct master *master, struct admin_request *request, int argc, char **argv, ns_class *out)
{
	char why[PRIORITIES_WHY_MAX];

	for (int i = 0; i < argc; i++) {
		int taken = take_option(request, argc - i, argv + i, out);

		if (taken < 0)
			return taken;
		i += taken;
		if (!taken && (strchr(argv[i], ' ') || add_member(master, out->members, argv[i]) < 0)) {
			admin_error(request, "\"%.100s\" is no member of a class, or there are too many; members are network=10.0.0.0/8, "
				    "user=UID and export=/PATH", argv[i]);
			return -EINVAL;
		}
	}
	if (priorities_check(out->members, why) == 0)
		return 0;
	admin_error(request, "%s", why);
	return -EINVAL;
}

/* A new one's number. 0, or the request was answered */
static int new_number(struct master *master, struct admin_request *request, u_int *out)
{
	size_t count = 0;
	uint64_t id;

	while (namespace_next_class(master_ns(master), &count))
		;
	if (count >= PRIORITIES_MAX) {
		admin_error(request, "there are %d classes, which is the most; nasctl class list shows them", PRIORITIES_MAX);
		return -ENOSPC;
	}
	if (vroot_next_id(master_vroot(master), NS_CLASS, &id) < 0) {
		admin_error(request, "nothing has changed: %s", commands_change_problem(-EIO));
		return -EIO;
	}
	*out = (u_int)id;
	return 0;
}

void class_command_set(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_class *known = find_class(master_ns(master), argv[0]);
	char members[NS_TEXT_MAX] = "", why[USER_CHECKS_WHY_MAX];
	ns_item item = { .kind = NS_CLASS };
	ns_class *class = &item.ns_item_u.class_;
	int rc;

	if (user_checks_name(argv[0], why) < 0) {
		admin_error(request, "%s", why);
		return;
	}
	*class = (ns_class){ .name = argv[0], .members = members, .weight = PRIORITIES_WEIGHT };
	if (read_class(master, request, argc - 1, argv + 1, class) < 0)
		return;
	if (known)
		class->id = known->id;
	else if (new_number(master, request, &class->id) < 0)
		return;
	rc = vroot_change(master_vroot(master), NS_PUT, &item);
	if (rc < 0)
		admin_error(request, "nothing has changed: %s", commands_change_problem(rc));
	else
		admin_done(request, "class %s has weight %u; %d is that of all others", argv[0], class->weight, PRIORITIES_WEIGHT);
}

void class_command_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_class *known = find_class(master_ns(master), argv[0]);
	ns_item item = { .kind = NS_CLASS };
	int rc;

	(void)argc;
	if (!known) {
		admin_error(request, "there is no class \"%s\"; nasctl class list shows them", argv[0]);
		return;
	}
	item.ns_item_u.class_ = (ns_class){ .id = known->id, .name = (char *)"", .members = (char *)"" };
	rc = vroot_change(master_vroot(master), NS_DELETE, &item);
	if (rc < 0)
		admin_error(request, "nothing has changed: %s", commands_change_problem(rc));
	else
		admin_done(request, "class %s is gone; its clients are as all others", argv[0]);
}
