/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/user_commands.h"

#include "common/user_checks.h"
#include "master/commands_internal.h"
#include "master/master.h"
#include "master/vroot.h"
#include "slave/device_commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of the options that a command knows; NULL: not given. */
struct user_options {
	const char *uid, *gid, *group, *name, *comment;
};

static struct master *master_of(void *arg)
{
	return ((struct device *)arg)->master;
}

/* Those of a command that does not know an option are NULL in @known. */
static int take_options(struct admin_request *request, int argc, char **argv, const struct user_options *known,
			struct user_options *out)
{
	const struct {
		const char *name;
		const char *is_known, **value;
	} options[] = {
		{ "--uid", known->uid, &out->uid },
		{ "--gid", known->gid, &out->gid },
		{ "--group", known->group, &out->group },
		{ "--name", known->name, &out->name },
		{ "--comment", known->comment, &out->comment },
	};
	size_t count = sizeof(options) / sizeof(options[0]), at;

	*out = (struct user_options){ 0 };
	for (int i = 0; i < argc; i += 2) {
		for (at = 0; at < count && (!options[at].is_known || strcmp(argv[i], options[at].name) != 0); at++)
			;
		if (at == count || i + 1 == argc) {
			admin_error(request, at == count ? "\"%s\" is no option of this command; see nasctl help" :
							   "%s needs a value", argv[i]);
			return -EINVAL;
		}
		*options[at].value = argv[i + 1];
	}
	return 0;
}

/* What an administrator names by its name or number. NULL: there is none, and he was told */

static const ns_user *need_user(struct master *master, struct admin_request *request, const char *text)
{
	const ns_user *user = namespace_user_by_name(master_ns(master), text);
	char *end;
	unsigned long uid = strtoul(text, &end, 10);

	if (!user && *text && !*end && uid <= UINT32_MAX)
		user = namespace_user(master_ns(master), (uint32_t)uid);
	if (!user)
		admin_error(request, "the cluster has no user \"%s\"; nasctl user list shows its users", text);
	return user;
}

static const ns_group *need_group(struct master *master, struct admin_request *request, const char *text)
{
	const ns_group *group = namespace_group_by_name(master_ns(master), text);
	char *end;
	unsigned long gid = strtoul(text, &end, 10);

	if (!group && *text && !*end && gid <= UINT32_MAX)
		group = namespace_group(master_ns(master), (uint32_t)gid);
	if (!group)
		admin_error(request, "the cluster has no group \"%s\"; nasctl group list shows its groups", text);
	return group;
}

static bool is_member(const ns_user *user, uint32_t gid)
{
	for (u_int i = 0; i < user->groups.groups_len; i++)
		if (user->groups.groups_val[i] == gid)
			return true;
	return false;
}

/* Changes: 0, or the request was answered. */

static int change(struct master *master, struct admin_request *request, ns_operation operation, const ns_item *item)
{
	int rc = vroot_change(master_vroot(master), operation, item);

	if (rc < 0)
		admin_error(request, "nothing was changed: %s", commands_change_problem(rc));
	return rc;
}

static int put_user(struct master *master, struct admin_request *request, const ns_user *user)
{
	const ns_item item = { .kind = NS_USER, .ns_item_u.user = *user };

	return change(master, request, NS_PUT, &item);
}

static int put_group(struct master *master, struct admin_request *request, uint32_t gid, const char *name)
{
	const ns_item item = { .kind = NS_GROUP, .ns_item_u.group = { .gid = gid, .name = (char *)name } };

	return change(master, request, NS_PUT, &item);
}

static int delete_group(struct master *master, struct admin_request *request, uint32_t gid)
{
	const ns_item item = { .kind = NS_GROUP, .ns_item_u.group = { .gid = gid, .name = (char *)"" } };

	return change(master, request, NS_DELETE, &item);
}

/* @user with one group more or less; the rest is borrowed. */
static int put_membership(struct master *master, struct admin_request *request, const ns_user *user, uint32_t gid,
			  bool is_in)
{
	u_int groups[NS_USER_GROUPS_MAX + 1], count = 0;
	ns_user changed = *user;

	for (u_int i = 0; i < user->groups.groups_len; i++) {
		uint32_t other = user->groups.groups_val[i];

		if (is_in && gid < other && (!count || groups[count - 1] < gid))
			groups[count++] = gid;
		if (other != gid)
			groups[count++] = other;
	}
	if (is_in && (!count || groups[count - 1] < gid))
		groups[count++] = gid;
	if (count > NS_USER_GROUPS_MAX) {
		admin_error(request, "%s is in %d groups already, which is the most; nasctl group member remove takes him out of one", user->name, NS_USER_GROUPS_MAX);
		return -ENOSPC;
	}
	changed.groups.groups_val = groups;
	changed.groups.groups_len = count;
	return put_user(master, request, &changed);
}

/* One series for both, so that a user's own group can have his number. */
static int next_id(struct master *master, uint32_t *out)
{
	uint64_t number, id;
	int rc;

	do {
		rc = vroot_next_id(master_vroot(master), NS_USER, &number);
		id = USER_CHECKS_FIRST_ID - 1 + number;
	} while (rc == 0 && (namespace_user(master_ns(master), (uint32_t)id) ||
			     namespace_group(master_ns(master), (uint32_t)id) || id == 65534 || id == 65535));
	if (rc == 0)
		*out = (uint32_t)id;
	return rc;
}

/* The id that was asked for, or the next. 0, or the request was answered */
static int choose_id(struct master *master, struct admin_request *request, const char *text, uint32_t *out)
{
	char why[USER_CHECKS_WHY_MAX];
	int rc;

	if (text && user_checks_id(text, out, why) < 0) {
		admin_error(request, "%s", why);
		return -EINVAL;
	}
	rc = text ? 0 : next_id(master, out);
	if (rc < 0)
		admin_error(request, "no id was given out: %s", commands_change_problem(rc));
	return rc;
}

static int check_new_name(struct master *master, struct admin_request *request, const char *name, bool of_group)
{
	char why[USER_CHECKS_WHY_MAX];

	if (user_checks_name(name, why) < 0) {
		admin_error(request, "%s", why);
		return -EINVAL;
	}
	if (of_group ? namespace_group_by_name(master_ns(master), name) != NULL :
		       namespace_user_by_name(master_ns(master), name) != NULL) {
		admin_error(request, "there is a %s %s already; nasctl %s list shows them", of_group ? "group" : "user", name,
			    of_group ? "group" : "user");
		return -EEXIST;
	}
	return 0;
}

static int check_comment(struct admin_request *request, const char *comment)
{
	char why[USER_CHECKS_WHY_MAX];
	int rc = comment ? user_checks_comment(comment, why) : 0;

	if (rc < 0)
		admin_error(request, "%s", why);
	return rc;
}

/* A first group may be one of the devices', by its number. 0, or the request was answered */
static int find_first_group(struct master *master, struct admin_request *request, const char *text, uint32_t *gid)
{
	const ns_group *group = namespace_group_by_name(master_ns(master), text);
	char why[USER_CHECKS_WHY_MAX];

	if (group) {
		*gid = group->gid;
		return 0;
	}
	if (user_checks_id(text, gid, why) == 0)
		return 0;
	admin_error(request, "the cluster has no group \"%s\"; nasctl group list shows its groups, and others go by number",
		    text);
	return -ENOENT;
}

/* Showing */

static json_t *group_name(struct namespace *ns, uint32_t gid)
{
	const ns_group *group = namespace_group(ns, gid);

	return group ? admin_text(group->name) : json_sprintf("%u", gid);
}

static const char *password_state(const char *password)
{
	return !*password ? "none" : *password == '!' ? "locked" : "set";
}

/* Never with the hash. */
static json_t *user_row(struct namespace *ns, const ns_user *user)
{
	json_t *groups = json_array();

	for (u_int i = 0; i < user->groups.groups_len; i++)
		json_array_append_new(groups, group_name(ns, user->groups.groups_val[i]));
	return json_pack("{s:I, s:o, s:I, s:o, s:o, s:s, s:o}", "uid", (json_int_t)user->uid, "name", admin_text(user->name),
			 "gid", (json_int_t)user->gid, "group", group_name(ns, user->gid), "groups", groups, "password",
			 password_state(user->password), "comment", admin_text(user->comment));
}

void user_command_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct namespace *ns = master_ns(master_of(arg));
	json_t *table = admin_table("uid:Uid name:Name group:Group groups:Other_groups password:Password comment:Comment");
	const ns_user *user;

	(void)argc, (void)argv;
	for (size_t at = 0; (user = namespace_next_user(ns, &at));)
		admin_row(table, user_row(ns, user));
	admin_answer(request, table);
}

void user_command_show(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_user *user = need_user(master, request, argv[0]);

	(void)argc;
	if (user)
		admin_record(request, user_row(master_ns(master), user));
}

static json_t *members_of(struct namespace *ns, const ns_group *group)
{
	json_t *members = json_array();
	const ns_user *user;

	for (size_t at = 0; (user = namespace_next_user(ns, &at));)
		if (user->gid == group->gid || is_member(user, group->gid))
			json_array_append_new(members, admin_text(user->name));
	return members;
}

static json_t *group_row(struct namespace *ns, const ns_group *group)
{
	return json_pack("{s:I, s:o, s:o}", "gid", (json_int_t)group->gid, "name", admin_text(group->name), "members",
			 members_of(ns, group));
}

void group_command_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct namespace *ns = master_ns(master_of(arg));
	json_t *table = admin_table("gid:Gid name:Name");
	const ns_group *group;

	(void)argc, (void)argv;
	for (size_t at = 0; (group = namespace_next_group(ns, &at));)
		admin_row(table, json_pack("{s:I, s:o}", "gid", (json_int_t)group->gid, "name", admin_text(group->name)));
	admin_answer(request, table);
}

void group_command_show(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_group *group = need_group(master, request, argv[0]);

	(void)argc;
	if (group)
		admin_record(request, group_row(master_ns(master), group));
}

/* Users */

/* A group of the user's name and number. 0, or the request was answered */
static int make_own_group(struct master *master, struct admin_request *request, const char *name, uint32_t gid)
{
	struct namespace *ns = master_ns(master);

	if (namespace_group_by_name(ns, name) || namespace_group(ns, gid)) {
		admin_error(request, "there is a group %s, or one with the number %u, already; name the first group of %s "
				     "with --group", name, gid, name);
		return -EEXIST;
	}
	return put_group(master, request, gid, name);
}

static size_t count_users(struct namespace *ns)
{
	size_t count = 0;

	while (namespace_next_user(ns, &count))
		;
	return count;
}

static size_t count_groups(struct namespace *ns)
{
	size_t count = 0;

	while (namespace_next_group(ns, &count))
		;
	return count;
}

static bool has_room(struct master *master, struct admin_request *request)
{
	if (count_users(master_ns(master)) < USERS_MAX && count_groups(master_ns(master)) < USERS_MAX)
		return true;
	admin_error(request, "a cluster has at most %d users and as many groups", USERS_MAX);
	return false;
}

void user_command_add(struct admin_request *request, int argc, char **argv, void *arg)
{
	static const struct user_options known = { .uid = "", .group = "", .comment = "" };
	struct master *master = master_of(arg);
	struct user_options options;
	ns_user user = { .name = argv[0], .password = (char *)"" };

	if (take_options(request, argc - 1, argv + 1, &known, &options) < 0 || !has_room(master, request) ||
	    check_new_name(master, request, argv[0], false) < 0 || check_comment(request, options.comment) < 0 ||
	    choose_id(master, request, options.uid, &user.uid) < 0)
		return;
	if (namespace_user(master_ns(master), user.uid)) {
		admin_error(request, "the uid %u is %s's; without --uid a free one is taken", user.uid, namespace_user(master_ns(master), user.uid)->name);
		return;
	}
	user.comment = (char *)(options.comment ?: "");
	user.gid = user.uid;
	if (options.group ? find_first_group(master, request, options.group, &user.gid) < 0 :
			    make_own_group(master, request, user.name, user.gid) < 0)
		return;
	if (put_user(master, request, &user) == 0)
		admin_done(request, "%s is user %u; nasctl user passwd %s gives a password", user.name, user.uid, user.name);
}

void user_command_set(struct admin_request *request, int argc, char **argv, void *arg)
{
	static const struct user_options known = { .group = "", .name = "", .comment = "" };
	struct master *master = master_of(arg);
	const ns_user *user = need_user(master, request, argv[0]);
	struct user_options options;
	ns_user changed;

	if (!user || take_options(request, argc - 1, argv + 1, &known, &options) < 0)
		return;
	changed = *user;
	if (options.name && strcmp(options.name, user->name) != 0 &&
	    check_new_name(master, request, options.name, false) < 0)
		return;
	if (check_comment(request, options.comment) < 0 ||
	    (options.group && find_first_group(master, request, options.group, &changed.gid) < 0))
		return;
	changed.name = options.name ? (char *)options.name : user->name;
	changed.comment = options.comment ? (char *)options.comment : user->comment;
	if (put_user(master, request, &changed) == 0)
		admin_done(request, "user %u was changed", changed.uid);
}

/* Is there the group that make_own_group() made, and nobody in it? */
static bool is_own_group(struct namespace *ns, const char *name, uint32_t gid)
{
	const ns_group *group = namespace_group(ns, gid);
	const ns_user *user;

	if (!group || strcmp(group->name, name) != 0)
		return false;
	for (size_t at = 0; (user = namespace_next_user(ns, &at));)
		if (user->gid == gid || is_member(user, gid))
			return false;
	return true;
}

void user_command_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_user *user = need_user(master, request, argv[0]);
	ns_item item = { .kind = NS_USER };
	char name[NS_USER_NAME_MAX + 1];
	uint32_t uid;

	(void)argc;
	if (!user)
		return;
	uid = user->uid;
	snprintf(name, sizeof(name), "%s", user->name);
	item.ns_item_u.user = (ns_user){ .uid = uid, .name = (char *)"", .comment = (char *)"", .password = (char *)"" };
	if (change(master, request, NS_DELETE, &item) < 0 ||
	    (is_own_group(master_ns(master), name, uid) && delete_group(master, request, uid) < 0))
		return;
	admin_done(request, "%s is no user any more; the files of uid %u stay, and nobody else gets that number by himself",
		   name, uid);
}

/* nasctl has made a hash of the password already (common/nasctl_password.h). */
void user_command_passwd(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_user *user = need_user(master, request, argv[0]);
	char locked[NS_PASSWORD_MAX + 1], why[USER_CHECKS_WHY_MAX];
	bool locks = argc > 1 && strcmp(argv[1], "--lock") == 0;
	ns_user changed;

	if (!user)
		return;
	if (!locks && user_checks_password(argc > 1 ? argv[1] : "", why) < 0) {
		admin_error(request, "%s", why);
		return;
	}
	changed = *user;
	snprintf(locked, sizeof(locked), "!%.*s", NS_PASSWORD_MAX - 1, user->password + (*user->password == '!'));
	changed.password = locks ? locked : argv[1];
	if (put_user(master, request, &changed) == 0)
		admin_done(request, locks ? "the password of user %u is locked" : "user %u has a new password", changed.uid);
}

/* Groups */

void group_command_add(struct admin_request *request, int argc, char **argv, void *arg)
{
	static const struct user_options known = { .gid = "" };
	struct master *master = master_of(arg);
	struct user_options options;
	uint32_t gid;

	if (take_options(request, argc - 1, argv + 1, &known, &options) < 0 || !has_room(master, request) ||
	    check_new_name(master, request, argv[0], true) < 0 || choose_id(master, request, options.gid, &gid) < 0)
		return;
	if (namespace_group(master_ns(master), gid)) {
		admin_error(request, "the gid %u is %s's; without --gid a free one is taken", gid, namespace_group(master_ns(master), gid)->name);
		return;
	}
	if (put_group(master, request, gid, argv[0]) == 0)
		admin_done(request, "%s is group %u", argv[0], gid);
}

/* 0, or the request was answered */
static int put_all_out(struct master *master, struct admin_request *request, uint32_t gid)
{
	const ns_user *user;
	int rc = 0;

	for (size_t at = 0; rc == 0 && (user = namespace_next_user(master_ns(master), &at));)
		if (is_member(user, gid))
			rc = put_membership(master, request, user, gid, false);
	return rc;
}

void group_command_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_group *group = need_group(master, request, argv[0]);
	const ns_user *user;
	uint32_t gid;

	(void)argc;
	if (!group)
		return;
	gid = group->gid;
	for (size_t at = 0; (user = namespace_next_user(master_ns(master), &at));)
		if (user->gid == gid) {
			admin_error(request, "it is the first group of user %s; nasctl user set %s --group GROUP gives another",
				    user->name, user->name);
			return;
		}
	if (put_all_out(master, request, gid) == 0 && delete_group(master, request, gid) == 0)
		admin_done(request, "%u is no group of the cluster any more; files keep the number", gid);
}

/* All users are looked for before the first is changed. */
static void change_members(struct admin_request *request, int argc, char **argv, struct master *master, bool is_in)
{
	const ns_group *group = need_group(master, request, argv[0]);
	uint32_t gid;

	if (!group)
		return;
	gid = group->gid;
	for (int i = 1; i < argc; i++)
		if (!need_user(master, request, argv[i]))
			return;
	for (int i = 1; i < argc; i++)
		if (put_membership(master, request, need_user(master, request, argv[i]), gid, is_in) < 0)
			return;
	admin_done(request, is_in ? "they are in group %u" : "they are not in group %u any more", gid);
}

void group_command_member_add(struct admin_request *request, int argc, char **argv, void *arg)
{
	change_members(request, argc, argv, master_of(arg), true);
}

void group_command_member_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	change_members(request, argc, argv, master_of(arg), false);
}
