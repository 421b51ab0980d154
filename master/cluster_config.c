/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/cluster_config.h"

#include "common/exports.h"
#include "common/log.h"
#include "common/priorities.h"
#include "common/user_checks.h"
#include "common/uuid.h"
#include "master/automount.h"
#include "master/master.h"
#include "master/user_commands.h"
#include "master/vroot.h"
#include "slave/device_commands.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROWS_MAX = 4096,	/* of what is looked for one by one */
	STEPS_PER_TURN = 16,	/* each waits for the disk */
};

/* Exporting */

static json_t *places_of(const struct namespace *ns, uint32_t volume)
{
	json_t *places = json_array();
	const ns_entry *entry;
	char path[NS_TEXT_MAX];

	for (size_t at = 0; (entry = namespace_next_entry(ns, &at));)
		if (entry->volume == volume && namespace_path(ns, entry, path) == 0)
			json_array_append_new(places, admin_text(path));
	return places;
}

static json_t *export_volumes(const struct namespace *ns)
{
	json_t *list = json_array();
	const ns_volume *volume;

	for (size_t at = 0; (volume = namespace_next_volume(ns, &at));) {
		const ns_node *node = namespace_node(ns, volume->node);
		char uuid[UUID_TEXT_MAX];

		json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o}", "uuid",
						      uuid_text((const uint8_t *)volume->uuid, uuid), "node",
						      admin_text(node ? node->name : ""), "path", admin_text(volume->path),
						      "places", places_of(ns, volume->id)));
	}
	return list;
}

static json_t *export_nodes(const struct namespace *ns)
{
	json_t *list = json_array();
	const ns_node *node;

	for (size_t at = 0; (node = namespace_next_node(ns, &at));)
		json_array_append_new(list, json_pack("{s:o, s:o, s:o}", "name", admin_text(node->name), "address",
						      admin_text(node->address), "serial", admin_text(node->serial)));
	return list;
}

static json_t *export_exports(const struct namespace *ns)
{
	json_t *list = json_array();
	const ns_export *export;

	for (size_t at = 0; (export = namespace_next_export(ns, &at));)
		json_array_append_new(list, json_pack("{s:o, s:o}", "path", admin_text(export->path), "clients",
						      admin_text(export->clients)));
	return list;
}

static json_t *export_groups(const struct namespace *ns)
{
	json_t *list = json_array();
	const ns_group *group;

	for (size_t at = 0; (group = namespace_next_group(ns, &at));)
		json_array_append_new(list, json_pack("{s:o, s:I}", "name", admin_text(group->name), "gid",
						      (json_int_t)group->gid));
	return list;
}

static json_t *export_users(const struct namespace *ns)
{
	json_t *list = json_array();
	const ns_user *user;

	for (size_t at = 0; (user = namespace_next_user(ns, &at));) {
		json_t *groups = json_array();

		for (u_int i = 0; i < user->groups.groups_len; i++)
			json_array_append_new(groups, json_integer((json_int_t)user->groups.groups_val[i]));
		json_array_append_new(list, json_pack("{s:o, s:I, s:I, s:o, s:o, s:o}", "name", admin_text(user->name),
						      "uid", (json_int_t)user->uid, "gid", (json_int_t)user->gid,
						      "groups", groups, "comment", admin_text(user->comment), "password",
						      admin_text(user->password)));
	}
	return list;
}

static json_t *export_classes(const struct namespace *ns)
{
	json_t *list = json_array();
	const ns_class *class;

	for (size_t at = 0; (class = namespace_next_class(ns, &at));)
		json_array_append_new(list, json_pack("{s:o, s:o, s:I, s:I, s:I}", "name", admin_text(class->name), "members",
						      admin_text(class->members), "weight", (json_int_t)class->weight,
						      "operations", (json_int_t)class->operations, "bytes",
						      (json_int_t)class->bytes));
	return list;
}

json_t *cluster_config_export(const struct namespace *ns)
{
	const ns_cluster *cluster = namespace_cluster(ns);

	return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "vnas_config", CLUSTER_CONFIG_VERSION, "cluster",
			 admin_text(cluster ? cluster->name : ""), "nodes", export_nodes(ns), "volumes", export_volumes(ns),
			 "exports", export_exports(ns), "groups", export_groups(ns), "users", export_users(ns),
			 "classes", export_classes(ns));
}

/* Planning */

struct planner {
	const struct namespace *ns;
	const json_t *document;
	json_t *rows; /* "users.uid": {"10001": its row ...} and the like */
	struct cluster_config_plan plan;
	char *why;
};

static int __attribute__((format(printf, 2, 3))) refuse(const struct planner *planner, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(planner->why, CLUSTER_CONFIG_WHY_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

static struct cluster_config_step *add_step(struct planner *planner)
{
	struct cluster_config_plan *plan = &planner->plan;
	struct cluster_config_step *steps;

	if ((plan->count & (plan->count - 1)) == 0) {
		steps = reallocarray(plan->steps, plan->count ? 2 * plan->count : 1, sizeof(*steps));
		if (!steps)
			return NULL;
		plan->steps = steps;
	}
	/* A kind in which there is nothing to free, until there is another. */
	plan->steps[plan->count] = (struct cluster_config_step){ .item.kind = NS_GROUP };
	return &plan->steps[plan->count++];
}

/* @item is copied. */
static int plan_change(struct planner *planner, bool is_put, const ns_item *item)
{
	struct cluster_config_step *step = add_step(planner);

	if (!step)
		return -ENOMEM;
	step->what = is_put ? CLUSTER_CONFIG_PUT : CLUSTER_CONFIG_DELETE;
	return namespace_item_copy(item, &step->item);
}

/* The objects of a section, all of which are there, and are objects. */
static int check_section(const struct planner *planner, const char *name, size_t most)
{
	const json_t *section = json_object_get(planner->document, name), *row;
	size_t i;

	if (!json_is_array(section))
		return refuse(planner, "\"%s\" is not there, or no list", name);
	if (json_array_size(section) > most)
		return refuse(planner, "\"%s\" has more than %zu members", name, most);
	json_array_foreach(section, i, row)
		if (!json_is_object(row))
			return refuse(planner, "\"%s\", number %zu: it is no object", name, i + 1);
	return 0;
}

/* What a row has for @key, as text; "" if it is neither text nor a whole number. */
static void key_of(const json_t *row, const char *key, char text[static NS_TEXT_MAX])
{
	const json_t *value = json_object_get(row, key);

	text[0] = '\0';
	if (json_is_string(value) && json_string_length(value) < NS_TEXT_MAX)
		strcpy(text, json_string_value(value));
	else if (json_is_integer(value))
		sprintf(text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
}

/* Make a table of a section's rows by @key, which no two of them may share. */
static int index_rows(const struct planner *planner, const char *section, const char *key)
{
	json_t *table = json_object(), *row;
	char text[NS_TEXT_MAX], name[32];
	size_t i;

	snprintf(name, sizeof(name), "%s.%s", section, key);
	if (!table || json_object_set_new(planner->rows, name, table) < 0)
		return -ENOMEM;
	json_array_foreach(json_object_get(planner->document, section), i, row) {
		key_of(row, key, text);
		if (!*text || json_object_get(table, text))
			return refuse(planner, "\"%s\", number %zu: \"%s\" is that of another, or not there", section, i + 1, key);
		if (json_object_set(table, text, row) < 0)
			return -ENOMEM;
	}
	return 0;
}

static const json_t *row_by_text(const struct planner *planner, const char *table, const char *text)
{
	return json_object_get(json_object_get(planner->rows, table), text);
}

static const json_t *row_by_id(const struct planner *planner, const char *table, uint32_t id)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", id);
	return row_by_text(planner, table, text);
}

/* Text of a row, "" if it is not there; what is no text has none. */
static const char *text_of(const json_t *row, const char *key)
{
	return json_string_value(json_object_get(row, key)) ?: "";
}

static int check_id(const struct planner *planner, const json_t *value, uint32_t *out, const char *what)
{
	char text[32], why[USER_CHECKS_WHY_MAX];

	snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_is_integer(value) ? json_integer_value(value) : -1);
	return user_checks_id(text, out, why) < 0 ? refuse(planner, "%s: %s", what, why) : 0;
}

static int read_group(const struct planner *planner, const json_t *row, ns_group *out)
{
	char why[USER_CHECKS_WHY_MAX];

	out->name = (char *)text_of(row, "name");
	if (user_checks_name(out->name, why) < 0)
		return refuse(planner, "a group: %s", why);
	return check_id(planner, json_object_get(row, "gid"), &out->gid, out->name);
}

static int read_memberships(const struct planner *planner, const json_t *list, ns_user *out,
			    u_int groups[static NS_USER_GROUPS_MAX])
{
	const json_t *value;
	size_t i;

	if (list && (!json_is_array(list) || json_array_size(list) > NS_USER_GROUPS_MAX))
		return refuse(planner, "%s: \"groups\" is no list of at most %d numbers", out->name, NS_USER_GROUPS_MAX);
	json_array_foreach(list, i, value) {
		int rc = check_id(planner, value, &groups[i], out->name);

		if (rc < 0)
			return rc;
		if (i && groups[i - 1] >= groups[i])
			return refuse(planner, "%s: \"groups\" does not ascend", out->name);
	}
	out->groups.groups_val = groups;
	out->groups.groups_len = (u_int)json_array_size(list);
	return 0;
}

/* Borrows from @row and @groups. */
static int read_user(const struct planner *planner, const json_t *row, ns_user *out,
		     u_int groups[static NS_USER_GROUPS_MAX])
{
	char why[USER_CHECKS_WHY_MAX];
	int rc;

	out->name = (char *)text_of(row, "name");
	out->comment = (char *)text_of(row, "comment");
	out->password = (char *)text_of(row, "password");
	if (user_checks_name(out->name, why) < 0)
		return refuse(planner, "a user: %s", why);
	if (user_checks_comment(out->comment, why) < 0)
		return refuse(planner, "%s: %s", out->name, why);
	/* "!" alone locks what never was. */
	if (*out->password && strcmp(out->password, "!") != 0 && user_checks_password(out->password, why) < 0)
		return refuse(planner, "%s: its password: %s", out->name, why);
	rc = check_id(planner, json_object_get(row, "uid"), &out->uid, out->name);
	if (rc == 0)
		rc = check_id(planner, json_object_get(row, "gid"), &out->gid, out->name);
	return rc ?: read_memberships(planner, json_object_get(row, "groups"), out, groups);
}

static int read_export(const struct planner *planner, const json_t *row, ns_export *out)
{
	char why[EXPORT_WHY_MAX];

	out->path = (char *)text_of(row, "path");
	out->clients = (char *)text_of(row, "clients");
	if (out->path[0] != '/' || strlen(out->path) >= NS_TEXT_MAX || strlen(out->clients) >= NS_TEXT_MAX)
		return refuse(planner, "the export \"%.100s\": its path is not absolute, or too long, or its clients are", out->path);
	if (exports_check(out->clients, why, sizeof(why)) < 0)
		return refuse(planner, "the export %.100s: %s", out->path, why);
	return 0;
}

static bool are_same_groups(const ns_user *a, const ns_user *b)
{
	u_int count = a->groups.groups_len;

	/* memcmp(3) takes no NULL, not even for nothing. */
	return count == b->groups.groups_len &&
	       (count == 0 || memcmp(a->groups.groups_val, b->groups.groups_val, count * sizeof(u_int)) == 0);
}

static bool is_same_user(const ns_user *a, const ns_user *b)
{
	return strcmp(a->name, b->name) == 0 && a->gid == b->gid && strcmp(a->comment, b->comment) == 0 &&
	       strcmp(a->password, b->password) == 0 && are_same_groups(a, b);
}

/* Those that go, or change their name: names must be free before others take them. */
static int plan_groups_away(struct planner *planner)
{
	const ns_group *group;
	int rc = 0;

	for (size_t at = 0; rc == 0 && (group = namespace_next_group(planner->ns, &at));) {
		const json_t *row = row_by_id(planner, "groups.gid", group->gid);
		const ns_item item = { .kind = NS_GROUP, .ns_item_u.group = *group };

		if (!row || strcmp(text_of(row, "name"), group->name) != 0)
			rc = plan_change(planner, false, &item);
	}
	return rc;
}

static int plan_groups(struct planner *planner)
{
	const json_t *row;
	size_t i;
	int rc = 0;

	json_array_foreach(json_object_get(planner->document, "groups"), i, row) {
		ns_item item = { .kind = NS_GROUP };
		const ns_group *known;

		if (rc == 0)
			rc = read_group(planner, row, &item.ns_item_u.group);
		if (rc < 0)
			return rc;
		known = namespace_group(planner->ns, item.ns_item_u.group.gid);
		if (!known || strcmp(known->name, item.ns_item_u.group.name) != 0)
			rc = plan_change(planner, true, &item);
	}
	return rc;
}

static int plan_users_away(struct planner *planner)
{
	const ns_user *user;
	int rc = 0;

	for (size_t at = 0; rc == 0 && (user = namespace_next_user(planner->ns, &at));) {
		const json_t *row = row_by_id(planner, "users.uid", user->uid);
		const ns_item item = { .kind = NS_USER, .ns_item_u.user = *user };

		if (!row || strcmp(text_of(row, "name"), user->name) != 0)
			rc = plan_change(planner, false, &item);
	}
	return rc;
}

static int plan_users(struct planner *planner)
{
	u_int groups[NS_USER_GROUPS_MAX];
	const json_t *row;
	size_t i;
	int rc = 0;

	json_array_foreach(json_object_get(planner->document, "users"), i, row) {
		ns_item item = { .kind = NS_USER };
		const ns_user *known;

		if (rc == 0)
			rc = read_user(planner, row, &item.ns_item_u.user, groups);
		if (rc < 0)
			return rc;
		known = namespace_user(planner->ns, item.ns_item_u.user.uid);
		if (!known || !is_same_user(known, &item.ns_item_u.user))
			rc = plan_change(planner, true, &item);
	}
	return rc;
}

static const ns_export *known_export(const struct namespace *ns, const char *path)
{
	const ns_export *export;

	for (size_t at = 0; (export = namespace_next_export(ns, &at));)
		if (strcmp(export->path, path) == 0)
			return export;
	return NULL;
}

static int longer_path_first(const void *a, const void *b)
{
	size_t len_a = strlen(text_of(*(json_t *const *)a, "path")), len_b = strlen(text_of(*(json_t *const *)b, "path"));

	return len_a < len_b ? 1 : len_a > len_b ? -1 : 0;
}

static int plan_export(struct planner *planner, const json_t *row)
{
	ns_item item = { .kind = NS_EXPORT };
	const ns_export *known;
	int rc = read_export(planner, row, &item.ns_item_u.export_);

	if (rc < 0)
		return rc;
	known = known_export(planner->ns, item.ns_item_u.export_.path);
	if (known && strcmp(known->clients, item.ns_item_u.export_.clients) == 0)
		return 0;
	item.ns_item_u.export_.id = known ? known->id : 0;
	return plan_change(planner, true, &item);
}

static int plan_exports(struct planner *planner)
{
	const json_t *section = json_object_get(planner->document, "exports");
	size_t count = json_array_size(section);
	const json_t **rows = calloc(count + 1, sizeof(*rows));
	const ns_export *export;
	int rc = rows ? 0 : -ENOMEM;

	for (size_t i = 0; rows && i < count; i++)
		rows[i] = json_array_get(section, i);
	if (rows)
		qsort(rows, count, sizeof(*rows), longer_path_first);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = plan_export(planner, rows[i]);
	free(rows);
	for (size_t at = 0; rc == 0 && (export = namespace_next_export(planner->ns, &at));) {
		const ns_item item = { .kind = NS_EXPORT, .ns_item_u.export_ = *export };

		if (!row_by_text(planner, "exports.path", export->path))
			rc = plan_change(planner, false, &item);
	}
	return rc;
}

static const ns_class *known_class(const struct namespace *ns, const char *name)
{
	const ns_class *class;

	for (size_t at = 0; (class = namespace_next_class(ns, &at));)
		if (strcmp(class->name, name) == 0)
			return class;
	return NULL;
}

/* A whole number of a row. 0, or refused */
static int read_count(const struct planner *planner, const json_t *row, const char *key, uint64_t least, uint64_t most,
		      uint64_t *out)
{
	const json_t *value = json_object_get(row, key);
	json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;

	if (number < (json_int_t)least || number > (json_int_t)most)
		return refuse(planner, "the class %.100s: \"%s\" is no number from %ju to %ju", text_of(row, "name"), key,
			      (uintmax_t)least, (uintmax_t)most);
	*out = (uint64_t)number;
	return 0;
}

/* Borrows from @row. */
static int read_class(const struct planner *planner, const json_t *row, ns_class *out)
{
	char name_why[USER_CHECKS_WHY_MAX], why[PRIORITIES_WHY_MAX];
	uint64_t weight = 0, operations = 0, bytes = 0;
	int rc;

	out->name = (char *)text_of(row, "name");
	out->members = (char *)text_of(row, "members");
	if (user_checks_name(out->name, name_why) < 0)
		return refuse(planner, "a class: %s", name_why);
	if (strlen(out->members) >= NS_TEXT_MAX || priorities_check(out->members, why) < 0)
		return refuse(planner, "the class %s: %s", out->name,
			      strlen(out->members) >= NS_TEXT_MAX ? "it has too many members" : why);
	rc = read_count(planner, row, "weight", 1, PRIORITIES_WEIGHT_MAX, &weight);
	rc = rc ?: read_count(planner, row, "operations", 0, PRIORITIES_LIMIT_MAX, &operations);
	rc = rc ?: read_count(planner, row, "bytes", 0, PRIORITIES_LIMIT_MAX, &bytes);
	out->weight = (u_int)weight;
	out->operations = operations;
	out->bytes = bytes;
	return rc;
}

static bool is_same_class(const ns_class *a, const ns_class *b)
{
	return strcmp(a->members, b->members) == 0 && a->weight == b->weight && a->operations == b->operations &&
	       a->bytes == b->bytes;
}

/*
 * Of classes that mean the same call the one with the lower number counts, and a new one gets the highest. So a class keeps its
 * number only if all those before it in the document do, with lower ones. @last: the number of the one before; 0: there is none; UINT_MAX:
 * it is a new one
 */
static const ns_class *class_that_stays(const struct planner *planner, const json_t *row, u_int *last)
{
	const ns_class *known = *last == UINT_MAX ? NULL : known_class(planner->ns, text_of(row, "name"));

	if (known && known->id <= *last)
		known = NULL;
	*last = known ? known->id : UINT_MAX;
	return known;
}

/* Those that the document does not have, or has in another order: their names must be free before they come again. */
static int plan_classes_away(struct planner *planner)
{
	const json_t *section = json_object_get(planner->document, "classes"), *row;
	const ns_class *class;
	int rc = 0;

	for (size_t at = 0; rc == 0 && (class = namespace_next_class(planner->ns, &at));) {
		const ns_item item = { .kind = NS_CLASS, .ns_item_u.class_ = *class };
		bool stays = false;
		u_int last = 0;
		size_t i;

		json_array_foreach(section, i, row)
			stays |= class_that_stays(planner, row, &last) == class;
		if (!stays)
			rc = plan_change(planner, false, &item);
	}
	return rc;
}

static int plan_classes(struct planner *planner)
{
	const json_t *row;
	u_int last = 0;
	size_t i;
	int rc;

	if (!json_object_get(planner->document, "classes"))
		return 0; /* it was written before there were classes, and says nothing about them */
	rc = plan_classes_away(planner);
	json_array_foreach(json_object_get(planner->document, "classes"), i, row) {
		ns_item item = { .kind = NS_CLASS };
		const ns_class *known;

		if (rc == 0)
			rc = read_class(planner, row, &item.ns_item_u.class_);
		if (rc < 0)
			return rc;
		known = class_that_stays(planner, row, &last);
		item.ns_item_u.class_.id = known ? known->id : 0;
		if (!known || !is_same_class(known, &item.ns_item_u.class_))
			rc = plan_change(planner, true, &item);
	}
	return rc;
}

static bool is_place_of(const json_t *places, const char *path)
{
	const json_t *place;
	size_t i;

	json_array_foreach(places, i, place)
		if (json_is_string(place) && strcmp(json_string_value(place), path) == 0)
			return true;
	return false;
}

static const ns_volume *volume_of(const struct planner *planner, const json_t *row)
{
	uint8_t uuid[NS_UUID_BYTES];

	return uuid_parse(text_of(row, "uuid"), uuid) == 0 ? namespace_volume_by_uuid(planner->ns, uuid) : NULL;
}

/* Places that the document does not name. */
static int plan_unplace(struct planner *planner, const ns_volume *volume, const json_t *places)
{
	const ns_entry *entry;
	char path[NS_TEXT_MAX];

	for (size_t at = 0; (entry = namespace_next_entry(planner->ns, &at));) {
		struct cluster_config_step *step;

		if (entry->volume != volume->id || namespace_path(planner->ns, entry, path) < 0 || is_place_of(places, path))
			continue;
		step = add_step(planner);
		if (!step)
			return -ENOMEM;
		step->what = CLUSTER_CONFIG_UNPLACE;
		step->entry = entry->id;
	}
	return 0;
}

static bool is_there(const struct planner *planner, const ns_volume *volume, const char *path)
{
	const char *rest;
	const ns_entry *entry = namespace_walk(planner->ns, path, &rest);

	return entry && entry->volume == volume->id && !*rest;
}

static int plan_place(struct planner *planner, const ns_volume *volume, const json_t *places)
{
	const json_t *place;
	size_t i;

	json_array_foreach(places, i, place) {
		const char *path = json_string_value(place);
		struct cluster_config_step *step;

		if (!path || path[0] != '/' || strlen(path) >= NS_TEXT_MAX)
			return refuse(planner, "a place of volume %u is no absolute path of the tree", volume->id);
		if (is_there(planner, volume, path))
			continue;
		step = add_step(planner);
		if (!step || !(step->path = strdup(path)))
			return -ENOMEM;
		step->what = CLUSTER_CONFIG_PLACE;
		step->volume = volume->id;
	}
	return 0;
}

/* All that go before the first that comes: two volumes may change places. */
static int plan_places(struct planner *planner)
{
	const json_t *section = json_object_get(planner->document, "volumes"), *row;
	const ns_volume *volume;
	size_t i;
	int rc = 0;

	json_array_foreach(section, i, row) {
		volume = volume_of(planner, row);
		if (!json_is_array(json_object_get(row, "places")))
			return refuse(planner, "\"volumes\", number %zu: \"places\" is no list", i + 1);
		planner->plan.unknown_volumes += !volume;
		if (rc == 0 && volume)
			rc = plan_unplace(planner, volume, json_object_get(row, "places"));
	}
	json_array_foreach(section, i, row)
		if (rc == 0 && (volume = volume_of(planner, row)))
			rc = plan_place(planner, volume, json_object_get(row, "places"));
	return rc;
}

static int check_document(const struct planner *planner)
{
	static const struct {
		const char *section;
		size_t most;
		const char *keys[2]; /* that no two share */
		bool is_new;	     /* documents of former versions don't have it */
	} sections[] = {
		{ "volumes", ROWS_MAX, { "uuid" }, false },
		{ "exports", ROWS_MAX, { "path" }, false },
		{ "groups", USERS_MAX, { "gid", "name" }, false },
		{ "users", USERS_MAX, { "uid", "name" }, false },
		{ "classes", PRIORITIES_MAX, { "name" }, true },
	};
	int rc = 0;

	if (json_integer_value(json_object_get(planner->document, "vnas_config")) != CLUSTER_CONFIG_VERSION)
		return refuse(planner, "\"vnas_config\" is not %d: this is no configuration that nasctl config export wrote",
			      CLUSTER_CONFIG_VERSION);
	for (size_t i = 0; rc == 0 && i < sizeof(sections) / sizeof(sections[0]); i++) {
		if (sections[i].is_new && !json_object_get(planner->document, sections[i].section))
			continue;
		rc = check_section(planner, sections[i].section, sections[i].most);
		for (size_t j = 0; rc == 0 && j < 2 && sections[i].keys[j]; j++)
			rc = index_rows(planner, sections[i].section, sections[i].keys[j]);
	}
	return rc;
}

static int make_plan(struct planner *planner)
{
	int rc = check_document(planner);

	rc = rc ?: plan_users_away(planner);
	rc = rc ?: plan_groups_away(planner);
	rc = rc ?: plan_groups(planner);
	rc = rc ?: plan_users(planner);
	rc = rc ?: plan_exports(planner);
	rc = rc ?: plan_classes(planner);
	return rc ?: plan_places(planner);
}

int cluster_config_plan_make(const char *text, const struct namespace *ns, struct cluster_config_plan *out, char *why)
{
	json_error_t error;
	json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	struct planner planner = { .ns = ns, .document = document, .rows = json_object(), .why = why };
	int rc = -ENOMEM;

	if (!document)
		rc = refuse(&planner, "line %d, column %d: %s", error.line, error.column, error.text);
	else if (planner.rows)
		rc = make_plan(&planner);
	json_decref(planner.rows);
	json_decref(document);
	if (rc == -ENOMEM)
		snprintf(why, CLUSTER_CONFIG_WHY_MAX, "no memory");
	if (rc < 0)
		cluster_config_plan_fini(&planner.plan);
	else
		*out = planner.plan;
	return rc;
}

void cluster_config_plan_fini(struct cluster_config_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		namespace_item_fini(&plan->steps[i].item);
		free(plan->steps[i].path);
	}
	free(plan->steps);
	*plan = (struct cluster_config_plan){ 0 };
}

/* Commands */

static struct master *master_of(void *arg)
{
	return ((struct device *)arg)->master;
}

void cluster_config_command_export(struct admin_request *request, int argc, char **argv, void *arg)
{
	json_t *document = cluster_config_export(master_ns(master_of(arg)));

	(void)argc, (void)argv;
	if (document)
		admin_record(request, document);
	else
		admin_error(request, "there is no memory for that now; try again later");
}

/* A new export's or class's own. */
static int number(struct vroot *vroot, ns_item *item)
{
	u_int *id = item->kind == NS_EXPORT ? &item->ns_item_u.export_.id : &item->ns_item_u.class_.id;
	uint64_t next;
	int rc;

	if ((item->kind != NS_EXPORT && item->kind != NS_CLASS) || *id)
		return 0;
	rc = vroot_next_id(vroot, item->kind, &next);
	if (rc == 0)
		*id = (u_int)next;
	return rc;
}

static int perform(struct vroot *vroot, struct cluster_config_step *step)
{
	switch (step->what) {
	case CLUSTER_CONFIG_PUT:
		return number(vroot, &step->item) ?: vroot_change(vroot, NS_PUT, &step->item);
	case CLUSTER_CONFIG_DELETE:
		return vroot_change(vroot, NS_DELETE, &step->item);
	case CLUSTER_CONFIG_PLACE:
		return vroot_make_place(vroot, step->volume, step->path);
	case CLUSTER_CONFIG_UNPLACE:
		return vroot_remove_place(vroot, step->entry);
	}
	return -EINVAL;
}

/* Under way: some steps in each turn of the loop, for there may be thousands, and others go on meanwhile. */
static struct import {
	struct master *master;
	struct admin_request *request;
	struct cluster_config_plan plan;
	size_t done;
} *under_way;

static void import_end(struct import *import, int rc)
{
	/* The [map] of the configuration file decides about the places of its volumes. */
	automount_apply(master_automount(import->master));
	log_info("config", "changes=%zu of=%zu imported", import->done, import->plan.count);
	if (rc < 0)
		admin_error(import->request, "%zu of %zu changes were made, then: %s; import again when that is mended",
			    import->done, import->plan.count, strerror(-rc));
	else
		admin_record(import->request, json_pack("{s:I, s:I}", "changes", (json_int_t)import->done, "unknown_volumes",
							(json_int_t)import->plan.unknown_volumes));
	cluster_config_plan_fini(&import->plan);
	free(import);
	under_way = NULL;
}

static void import_on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct import *import = arg;
	struct cluster_config_plan *plan = &import->plan;
	int rc = 0;

	(void)fd, (void)what;
	for (unsigned int i = 0; rc == 0 && i < STEPS_PER_TURN && import->done < plan->count; i++) {
		rc = perform(master_vroot(import->master), &plan->steps[import->done]);
		import->done += rc == 0;
	}
	if (rc == 0 && import->done < plan->count)
		rc = event_base_once(master_base(import->master), -1, EV_TIMEOUT, import_on_turn, import, &(struct timeval){ 0 }) < 0 ?
			     -ENOMEM : 0;
	if (rc < 0 || import->done == plan->count)
		import_end(import, rc);
}

void cluster_config_command_import(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	struct cluster_config_plan plan;
	char why[CLUSTER_CONFIG_WHY_MAX];
	struct import *import;

	if (argc == 0 || under_way) {
		admin_error(request, argc ? "another import is under way; try again when it has ended" :
					    "nasctl reads the configuration itself; there was none");
		return;
	}
	if (cluster_config_plan_make(argv[0], master_ns(master), &plan, why) < 0) {
		admin_error(request, "nothing has changed: %s", why);
		return;
	}
	import = calloc(1, sizeof(*import));
	if (!import) {
		cluster_config_plan_fini(&plan);
		admin_error(request, "nothing has changed: no memory");
		return;
	}
	*import = (struct import){ .master = master, .request = request, .plan = plan };
	under_way = import;
	import_on_turn(-1, 0, import);
}
