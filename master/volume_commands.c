/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/volume_commands.h"

#include "common/uuid.h"
#include "master/automount.h"
#include "master/commands_internal.h"
#include "master/load_rows.h"
#include "master/making.h"
#include "master/vroot.h"
#include "slave/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ns_volume *find_volume(struct master *master, const char *text)
{
	struct namespace *ns = master_ns(master);
	uint8_t uuid[NS_UUID_BYTES];
	const ns_entry *entry;
	const char *rest;
	char *end;
	unsigned long id = strtoul(text, &end, 10);

	if (*text && !*end)
		return namespace_volume(ns, (uint32_t)id);
	if (uuid_parse(text, uuid) == 0)
		return namespace_volume_by_uuid(ns, uuid);
	entry = text[0] == '/' ? namespace_walk(ns, text, &rest) : NULL;
	return entry && entry->volume && !*rest ? namespace_volume(ns, entry->volume) : NULL;
}

const ns_volume *volume_commands_need(struct master *master, struct admin_request *request, const char *text)
{
	const ns_volume *volume = find_volume(master, text);

	if (!volume)
		admin_error(request, "there is no volume \"%s\"; nasctl volume list shows them", text);
	return volume;
}

/* The places of a volume but the first, with ", " between them. */
static json_t *other_places(struct namespace *ns, uint32_t volume)
{
	const ns_entry *entry, *first = namespace_place(ns, volume);
	char path[NS_TEXT_MAX], *text = NULL;
	json_t *result;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (size_t at = 0; (entry = namespace_next_entry(ns, &at));)
		if (entry->volume == volume && entry != first && namespace_path(ns, entry, path) == 0)
			fprintf(out, "%s%s", ftell(out) > 0 ? ", " : "", path);
	fclose(out);
	result = admin_text(text ? text : "");
	free(text);
	return result;
}

json_t *volume_commands_row(struct master *master, const ns_volume *volume)
{
	struct namespace *ns = master_ns(master);
	const ns_entry *place = namespace_place(ns, volume->id);
	const ns_node *node = namespace_node(ns, volume->node);
	char uuid[UUID_TEXT_MAX], path[NS_TEXT_MAX] = "";

	if (place)
		namespace_path(ns, place, path);
	return json_pack("{s:I, s:o, s:o, s:I, s:o, s:o, s:s, s:s}", "id", (json_int_t)volume->id, "place",
			 admin_text(path), "also_at", other_places(ns, volume->id), "node", (json_int_t)volume->node,
			 "node_name", admin_text(node ? node->name : "removed"), "path", admin_text(volume->path),
			 "state", node ? commands_node_is_up(master, node->id) ? "up" : "away" : "away", "uuid",
			 uuid_text((const uint8_t *)volume->uuid, uuid));
}

/* The same, but no branch of a spread directory; NULL: @request was answered. */
static const ns_volume *need_whole(struct master *master, struct admin_request *request, const char *text)
{
	const ns_volume *volume = volume_commands_need(master, request, text);

	if (!volume || !namespace_branch_by_uuid(master_ns(master), (const uint8_t *)volume->uuid))
		return volume;
	admin_error(request, "volume %u is a part of a spread directory; nasctl spread list shows these", volume->id);
	return NULL;
}

/* The same, whose places may be changed by hand; NULL: @request was answered. */
static const ns_volume *need_free_volume(struct master *master, struct admin_request *request, const char *text)
{
	const ns_volume *volume = need_whole(master, request, text);
	const struct settings_map *map = volume ? automount_map_of(master_automount(master), volume) : NULL;

	if (!map)
		return volume;
	admin_error(request, "the places of volume %u are said by [map] in line %u of the configuration; change it there, then "
		    "systemctl reload vnas", volume->id, map->line);
	return NULL;
}

void volume_command_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	json_t *table = admin_table("id:Volume place:Place also_at:Also_at node:Node node_name:Name path:Directory state:State "
				    "free_bytes:Free uuid:UUID");
	const ns_volume *volume;

	(void)argc, (void)argv;
	for (size_t at = 0; (volume = namespace_next_volume(master_ns(master), &at));) {
		json_t *row = volume_commands_row(master, volume);
		struct load own;

		if (row)
			load_rows_set_volume(row, commands_node_load(master, volume->node, &own), volume->id);
		admin_row(table, row);
	}
	admin_answer(request, table);
}

static void volume_add_here(struct master *master, struct admin_request *request, const char *path, const char *place)
{
	struct slave *slave = master_slave(master);
	char why[512];

	if (volumes_add(slave_volumes(slave), path, place, why, sizeof(why)) < 0) {
		admin_error(request, "%s", why);
		return;
	}
	master_role(master)->on_volumes(master);
	admin_done(request, "%s of node 1 is a volume; nasctl volume list shows its place", path);
}

void volume_command_add(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_node *node = commands_need_node(master, request, argv[0]);
	scp_message message = { .type = SCP_VOLUME_OPEN };
	const char *place = argc > 2 ? argv[2] : "";
	char done[128];

	if (!node)
		return;
	if (place[0] && place[0] != '/') {
		admin_error(request, "the place \"%s\" is not an absolute path of the tree, like /projects/a", place);
		return;
	}
	if (node->id == NAMESPACE_MASTER) {
		volume_add_here(master, request, argv[1], place);
		return;
	}
	snprintf(done, sizeof(done), "%.60s of node %u is a volume; nasctl volume list shows its place", argv[1], node->id);
	message.scp_message_u.volume_open.path = argv[1];
	message.scp_message_u.volume_open.place = (char *)place;
	commands_ask(master, request, node->id, &message, done);
}

void volume_command_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_volume *volume = need_whole(master, request, argv[0]);
	scp_message message = { .type = SCP_VOLUME_CLOSE };
	ns_item item = { .kind = NS_VOLUME };
	uint32_t id, node;
	int rc;

	(void)argc;
	if (!volume)
		return;
	if (making_is_inside(master_ns(master), volume)) {
		admin_error(request, "volume %u has directories that nasctl mkdir has made; take these away first, by nasctl rmdir", volume->id);
		return;
	}
	id = volume->id;
	node = volume->node;
	memcpy(message.scp_message_u.volume_close.uuid, volume->uuid, NS_UUID_BYTES);
	item.ns_item_u.volume = (ns_volume){ .id = id, .path = (char *)"" };
	rc = vroot_remove_places(master_vroot(master), id);
	if (rc == 0)
		rc = vroot_change(master_vroot(master), NS_DELETE, &item);
	if (rc < 0) {
		admin_error(request, "volume %u was not removed: %s", id, commands_change_problem(rc));
		return;
	}
	if (node == NAMESPACE_MASTER)
		slave_forget_volume(master_slave(master), (uint8_t *)message.scp_message_u.volume_close.uuid);
	else
		scp_send(slave_scp(master_slave(master)), node, SCP_CONTROL, 0, &message);
	admin_done(request, "volume %u is not served any more; its data stay where they are", id);
}

static const char *place_problem(int rc)
{
	switch (rc) {
	case -EEXIST:
		return "something else is there; nasctl volume list shows the places that are taken";
	case -ENOTDIR:
		return "a volume is on the way; places can't be inside volumes";
	case -EINVAL:
		return "a place is an absolute path other than /, like /projects/a";
	default:
		return commands_change_problem(rc);
	}
}


/* The place that was named, if it is this volume's. */
static const ns_entry *find_place(struct master *master, const char *text, uint32_t volume)
{
	const char *rest;
	const ns_entry *entry = text[0] == '/' ? namespace_walk(master_ns(master), text, &rest) : NULL;

	return entry && entry->volume == volume && !*rest ? entry : NULL;
}

static size_t count_places(struct namespace *ns, uint32_t volume)
{
	const ns_entry *entry;
	size_t count = 0;

	for (size_t at = 0; (entry = namespace_next_entry(ns, &at));)
		count += entry->volume == volume;
	return count;
}

void volume_command_place(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_volume *volume = need_free_volume(master, request, argv[0]);
	uint32_t id;
	int rc;

	(void)argc;
	if (!volume)
		return;
	id = volume->id;
	rc = vroot_make_place(master_vroot(master), id, argv[1][0] ? argv[1] : "/");
	if (rc < 0)
		admin_error(request, "volume %u can't be at %s: %s", id, argv[1], place_problem(rc));
	else
		admin_done(request, "volume %u is at %s, too", id, argv[1]);
}

void volume_command_unplace(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_volume *volume = need_free_volume(master, request, argv[0]);
	const ns_entry *entry;
	uint32_t id;
	int rc;

	if (!volume)
		return;
	id = volume->id;
	entry = find_place(master, argv[argc - 1], id);
	if (!entry) {
		admin_error(request, "volume %u is not at %s; nasctl volume list shows where it is", id, argv[argc - 1]);
		return;
	}
	if (count_places(master_ns(master), id) == 1) {
		admin_error(request, "%s is the only place of volume %u; nasctl volume remove %u ends its serving", argv[argc - 1],
			    id, id);
		return;
	}
	rc = vroot_remove_place(master_vroot(master), entry->id);
	if (rc < 0)
		admin_error(request, "volume %u is still at %s: %s", id, argv[argc - 1], commands_change_problem(rc));
	else
		admin_done(request, "volume %u is not at %s any more", id, argv[argc - 1]);
}

/* Its other places go when it was not named by one of them. */
static int move(struct master *master, uint32_t id, const ns_entry *named, const char *place)
{
	struct vroot *vroot = master_vroot(master);
	const ns_entry *entry = named ? named : namespace_place(master_ns(master), id);
	uint64_t kept;
	int rc;

	if (!entry)
		return vroot_make_place(vroot, id, place);
	kept = entry->id;
	rc = vroot_move_place(vroot, kept, place);
	if (named)
		return rc;
	for (size_t at = 0; rc == 0 && (entry = namespace_next_entry(master_ns(master), &at));)
		if (entry->volume == id && entry->id != kept) {
			rc = vroot_remove_place(vroot, entry->id);
			at = 0; /* the list has changed */
		}
	return rc;
}

void volume_command_move(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_volume *volume = need_free_volume(master, request, argv[0]);
	uint32_t id;
	int rc;

	(void)argc;
	if (!volume)
		return;
	id = volume->id;
	rc = move(master, id, find_place(master, argv[0], id), argv[1][0] ? argv[1] : "/");
	if (rc < 0)
		admin_error(request, "volume %u can't be at %s: %s", id, argv[1], place_problem(rc));
	else
		admin_done(request, "volume %u is at %s", id, argv[1]);
}
