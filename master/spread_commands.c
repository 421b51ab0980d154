/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/spread_commands.h"

#include "common/uuid.h"
#include "master/commands_internal.h"
#include "master/making.h"
#include "master/spread_internal.h"
#include "master/volume_commands.h"
#include "master/vroot.h"
#include "slave/made_volumes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WEIGHT = 100, WEIGHT_MAX = 1000, MODE = 0755, MODE_MAX = 07777 };

static const char *const policies[] = {
	[NS_SPREAD_MOST_ROOM] = "most-room",
	[NS_SPREAD_ROUND_ROBIN] = "round-robin",
	[NS_SPREAD_WEIGHT] = "weight",
};

static const char *const states[] = {
	[SPREAD_AWAY] = "away",
	[SPREAD_TO_CHECK] = "checking",
	[SPREAD_CHECKING] = "checking",
	[SPREAD_READY] = "ready",
};

/* Who waits until branches have been checked. */
struct spread_inquiry {
	LIST_ENTRY(spread_inquiry) link;
	struct admin_request *request;
	uint32_t tree;
};

/* What is named */

static int parse_policy(const char *text, ns_spread_policy *out)
{
	for (size_t i = NS_SPREAD_MOST_ROOM; i < sizeof(policies) / sizeof(policies[0]); i++)
		if (strcmp(text, policies[i]) == 0) {
			*out = (ns_spread_policy)i;
			return 0;
		}
	return -EINVAL;
}

static int parse_number(const char *text, int base, unsigned long max, u_int *out)
{
	char *end;
	unsigned long number = strtoul(text, &end, base);

	if (!*text || *end || text[0] == '-' || number > max)
		return -EINVAL;
	*out = (u_int)number;
	return 0;
}

/* NULL: @request was answered */
static const ns_spread *need_spread(struct master *master, struct admin_request *request, const char *path)
{
	const char *rest = "";
	const ns_entry *entry = path[0] == '/' ? namespace_walk(master_ns(master), path, &rest) : NULL;
	const ns_spread *spread = entry && !*rest ? namespace_spread(master_ns(master), entry->volume) : NULL;

	if (!spread)
		admin_error(request, "%s is no spread directory; nasctl spread list shows them", path);
	return spread;
}

static void place_of(struct master *master, uint32_t id, char path[static NS_TEXT_MAX])
{
	const ns_entry *place = namespace_place(master_ns(master), id);

	path[0] = '\0';
	if (place)
		namespace_path(master_ns(master), place, path);
}

/* Showing */

static uint64_t count_entries(struct spreading *spreading, uint32_t tree, uint32_t volume)
{
	const struct spread_entry *entry;
	uint64_t count = 0;

	for (uint64_t id = 0; (entry = spread_after(spreading_index(spreading, tree), id)); id = entry->id)
		count += entry->is_there && (!volume || entry->handle.volume == volume);
	return count;
}

void spread_command_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	json_t *table = admin_table("id:Id place:Place policy:Policy mode:Mode branches:Branches entries:Entries");
	const ns_spread *spread;
	const ns_branch *branch;

	(void)argc, (void)argv;
	for (size_t at = 0; (spread = namespace_next_spread(master_ns(master), &at));) {
		char path[NS_TEXT_MAX];
		json_int_t branches = 0;

		for (size_t i = 0; (branch = namespace_next_branch(master_ns(master), &i));)
			branches += branch->spread == spread->id;
		place_of(master, spread->id, path);
		admin_row(table, json_pack("{s:I, s:o, s:s, s:o, s:I, s:I}", "id", (json_int_t)spread->id, "place", admin_text(path),
					   "policy", policies[spread->policy], "mode", json_sprintf("%04o", spread->mode), "branches",
					   branches, "entries",
					   (json_int_t)count_entries(master_spreading(master), spread->id, 0)));
	}
	admin_answer(request, table);
}

static json_t *branch_row(struct master *master, struct spreading *spreading, const ns_branch *item)
{
	const struct spread_branch *branch = spreading_branch(spreading, item->id);
	const ns_volume *volume = namespace_volume_by_uuid(master_ns(master), (const uint8_t *)item->uuid);
	const ns_volume *on = namespace_volume_by_uuid(master_ns(master), (const uint8_t *)item->on);
	char path[NS_TEXT_MAX] = "";

	if (on)
		place_of(master, on->id, path);
	return json_pack("{s:I, s:o, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:I}", "id", (json_int_t)item->id, "on", admin_text(path), "volume",
			 (json_int_t)(volume ? volume->id : 0), "node", (json_int_t)(volume ? volume->node : 0), "weight",
			 (json_int_t)item->weight, "state", !volume ? "not made" : branch ? states[branch->state] : "away", "entries",
			 (json_int_t)(volume ? count_entries(spreading, item->spread, volume->id) : 0), "learned",
			 (json_int_t)(branch ? branch->found : 0), "gone", (json_int_t)(branch ? branch->gone : 0), "conflicts",
			 (json_int_t)(branch ? branch->conflicts : 0));
}

static void show(struct master *master, struct admin_request *request, uint32_t tree)
{
	json_t *table = admin_table("id:Branch on:On volume:Volume node:Node weight:Weight state:State entries:Entries learned:Learned "
				    "gone:Gone conflicts:Conflicts");
	const ns_branch *item;

	for (size_t at = 0; (item = namespace_next_branch(master_ns(master), &at));)
		if (item->spread == tree)
			admin_row(table, branch_row(master, master_spreading(master), item));
	admin_answer(request, table);
}

void spread_command_show(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_spread *spread = need_spread(master, request, argv[0]);

	(void)argc;
	if (spread)
		show(master, request, spread->id);
}

/* Checking */

static bool is_being_checked(struct spreading *spreading, uint32_t tree)
{
	const ns_branch *item;

	for (size_t at = 0; (item = namespace_next_branch(master_ns(spreading->master), &at));) {
		const struct spread_branch *branch = item->spread == tree ? spreading_branch(spreading, item->id) : NULL;

		if (branch && (branch->state == SPREAD_TO_CHECK || branch->state == SPREAD_CHECKING))
			return true;
	}
	return false;
}

static void inquiry_free(struct spread_inquiry *inquiry)
{
	LIST_REMOVE(inquiry, link);
	free(inquiry);
}

void spread_commands_checked(struct spreading *spreading, const struct spread_branch *branch)
{
	struct spread_inquiry *inquiry, *next;

	(void)branch;
	for (inquiry = LIST_FIRST(&spreading->inquiries); inquiry; inquiry = next) {
		next = LIST_NEXT(inquiry, link);
		if (is_being_checked(spreading, inquiry->tree))
			continue;
		show(spreading->master, inquiry->request, inquiry->tree);
		inquiry_free(inquiry);
	}
}

void spread_commands_stop(struct spreading *spreading)
{
	struct spread_inquiry *inquiry;

	while ((inquiry = LIST_FIRST(&spreading->inquiries))) {
		admin_error(inquiry->request, "the daemon stops");
		inquiry_free(inquiry);
	}
}

void spread_command_check(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	struct spreading *spreading = master_spreading(master);
	const ns_spread *spread = need_spread(master, request, argv[0]);
	struct spread_inquiry *inquiry = spread ? calloc(1, sizeof(*inquiry)) : NULL;
	const ns_branch *item;

	(void)argc;
	if (!spread)
		return;
	if (!inquiry) {
		admin_error(request, "no memory");
		return;
	}
	inquiry->request = request;
	inquiry->tree = spread->id;
	for (size_t at = 0; (item = namespace_next_branch(master_ns(master), &at));) {
		struct spread_branch *branch = item->spread == spread->id ? spreading_branch(spreading, item->id) : NULL;

		if (branch && branch->state == SPREAD_READY)
			spread_check_want(spreading, branch);
	}
	LIST_INSERT_HEAD(&spreading->inquiries, inquiry, link);
	spread_commands_checked(spreading, NULL);
}

/* Making */

static int new_spread(struct master *master, ns_item *item, const char *path)
{
	ns_spread *spread = &item->ns_item_u.spread;
	uint64_t id;
	int rc = vroot_next_id(master_vroot(master), NS_VOLUME, &id);

	if (rc == 0)
		rc = uuid_make((uint8_t *)spread->uuid);
	if (rc < 0)
		return rc;
	spread->id = (u_int)id;
	/* First what is to be known of it: no client ever finds a place that leads nowhere. */
	rc = vroot_change(master_vroot(master), NS_PUT, item);
	if (rc == 0)
		rc = spreading_add_tree(master_spreading(master), spread->id);
	if (rc == 0)
		spreading_send(master_spreading(master), spread->id);
	if (rc == 0)
		rc = vroot_make_place(master_vroot(master), spread->id, path);
	if (rc < 0) {
		spreading_forget_tree(master_spreading(master), spread->id);
		vroot_change(master_vroot(master), NS_DELETE, item);
	}
	return rc;
}

void spread_command_make(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	ns_item item = { .kind = NS_SPREAD };
	ns_spread *spread = &item.ns_item_u.spread;
	int rc = 0;

	spread->policy = NS_SPREAD_MOST_ROOM;
	spread->mode = MODE;
	for (int i = 1; rc == 0 && i < argc; i += 2) {
		if (i + 1 < argc && strcmp(argv[i], "--policy") == 0)
			rc = parse_policy(argv[i + 1], &spread->policy);
		else if (i + 1 < argc && strcmp(argv[i], "--mode") == 0)
			rc = parse_number(argv[i + 1], 8, MODE_MAX, &spread->mode);
		else
			rc = -EINVAL;
	}
	if (rc < 0) {
		admin_error(request, "what follows the path is --policy most-room, round-robin or weight, and --mode with octal digits");
		return;
	}
	rc = new_spread(master, &item, argv[0]);
	if (rc < 0)
		admin_error(request, "%s is not made: %s", argv[0], rc == -EEXIST ? "there is something already" : strerror(-rc));
	else
		admin_done(request, "%s is a spread directory; nasctl spread add %s VOLUME has its entries on a volume", argv[0], argv[0]);
}

static const ns_branch *find_branch(struct master *master, uint32_t spread, const ns_volume *on)
{
	const ns_branch *item;

	for (size_t at = 0; (item = namespace_next_branch(master_ns(master), &at));)
		if (item->spread == spread && memcmp(item->on, on->uuid, NS_UUID_BYTES) == 0)
			return item;
	return NULL;
}

/* One that was begun and is not there yet has its UUID from then. */
static int put_branch(struct master *master, uint32_t spread, const ns_volume *on, u_int weight, ns_branch *out)
{
	const ns_branch *known = find_branch(master, spread, on);
	ns_item item = { .kind = NS_BRANCH };
	ns_branch *branch = &item.ns_item_u.branch;
	uint64_t id;
	int rc = 0;

	if (known) {
		*branch = *known;
	} else {
		rc = vroot_next_id(master_vroot(master), NS_BRANCH, &id);
		if (rc == 0 && id > NAMESPACE_BRANCHES_MAX)
			rc = -ENOSPC;
		if (rc == 0)
			rc = uuid_make((uint8_t *)branch->uuid);
		if (rc < 0)
			return rc;
		branch->id = (u_int)id;
		branch->spread = spread;
		memcpy(branch->on, on->uuid, sizeof(branch->on));
	}
	branch->weight = weight;
	rc = vroot_change(master_vroot(master), NS_PUT, &item);
	if (rc == 0 && !spreading_branch(master_spreading(master), branch->id))
		rc = -ENOMEM;
	*out = *branch;
	return rc;
}

void spread_command_add(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_spread *spread = need_spread(master, request, argv[0]);
	const ns_volume *on = spread ? volume_commands_need(master, request, argv[1]) : NULL;
	char path[NS_TEXT_MAX];
	ns_branch branch = { 0 };
	u_int weight = WEIGHT;
	uint32_t volume;
	int rc = argc == 2 ? 0 : -EINVAL;

	if (!on)
		return;
	if (argc == 4 && strcmp(argv[2], "--weight") == 0)
		rc = parse_number(argv[3], 10, WEIGHT_MAX, &weight);
	if (rc < 0) {
		admin_error(request, "what follows the volume is --weight, 0 to %d", WEIGHT_MAX);
		return;
	}
	if (made_volumes_is_path(on->path)) {
		admin_error(request, "volume %u is inside of another one; name that", on->id);
		return;
	}
	volume = on->id;
	place_of(master, spread->id, path);
	rc = put_branch(master, spread->id, on, weight, &branch);
	if (rc < 0)
		admin_error(request, "nothing has changed: %s", rc == -ENOSPC ? "there have been as many branches as there may be" : strerror(-rc));
	else if (namespace_volume_by_uuid(master_ns(master), (const uint8_t *)branch.uuid))
		admin_done(request, "volume %u has weight %u in %s", volume, weight, path);
	else
		making_order(master, request, namespace_volume(master_ns(master), volume), (const uint8_t *)branch.uuid, path);
}
