/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/making.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/uuid.h"
#include "master/automount.h"
#include "master/commands_internal.h"
#include "master/vroot.h"
#include "slave/load.h"
#include "slave/made_volumes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum { ORDER_MS = 30000 }; /* longer than administrators are kept waiting */

/* A volume is being made for a place, which nobody else gets meanwhile. */
struct order {
	LIST_ENTRY(order) link;
	uint8_t uuid[NS_UUID_BYTES];
	char place[NS_TEXT_MAX];
	uint64_t until_ms;
};

struct making {
	struct master *master;
	LIST_HEAD(, order) orders;
};

/* Choosing */

const struct making_candidate *making_most_room(const struct making_candidate *candidates, size_t count)
{
	const struct making_candidate *best = NULL;

	for (size_t i = 0; i < count; i++) {
		const struct making_candidate *candidate = &candidates[i];

		if (candidate->knows_room && !candidate->free_bytes)
			continue;
		if (!best || (candidate->knows_room && (!best->knows_room || candidate->free_bytes > best->free_bytes)))
			best = candidate;
	}
	return best;
}

bool making_may_work(struct master *master, uint32_t id)
{
	const ns_node *node = namespace_node(master_ns(master), id);

	if (!node || node->state != NS_NODE_APPROVED || !commands_node_is_up(master, id))
		return false;
	return id == NAMESPACE_MASTER || member_gets_work(slave_member(master_slave(master), id));
}

static void read_room(const struct load *load, struct making_candidate *candidate)
{
	for (size_t i = 0; load && i < load->volume_count; i++)
		if (load->volumes[i].volume == candidate->volume && load->volumes[i].knows_room) {
			candidate->knows_room = true;
			candidate->free_bytes = load->volumes[i].free_bytes;
		}
}

static struct making_candidate candidate_of(struct master *master, const ns_volume *volume, const struct load *own)
{
	struct making_candidate candidate = { .volume = volume->id };

	read_room(volume->node == NAMESPACE_MASTER ? own : master_load(master, volume->node), &candidate);
	return candidate;
}

bool making_room(struct master *master, const ns_volume *volume, uint64_t *free_bytes)
{
	struct making_candidate candidate;
	struct load own;

	slave_load(master_slave(master), &own);
	candidate = candidate_of(master, volume, &own);
	if (candidate.knows_room)
		*free_bytes = candidate.free_bytes;
	return candidate.knows_room;
}

/* @out: the volume that shall have the room, in the name space. 0; -ENODEV: none may; -ENOSPC: none has any; -ENOMEM */
static int choose(struct master *master, const struct settings_map *map, const ns_volume **out)
{
	const struct making_candidate *best;
	struct making_candidate *candidates;
	const ns_volume *volume;
	size_t count = 0, all = 0;
	struct load own;
	int rc;

	while (namespace_next_volume(master_ns(master), &all))
		; /* counts one more than there are */
	candidates = calloc(all, sizeof(*candidates));
	if (!candidates)
		return -ENOMEM;
	slave_load(master_slave(master), &own);
	for (size_t at = 0; (volume = namespace_next_volume(master_ns(master), &at));)
		if (making_may_work(master, volume->node) && automount_may_have(master_automount(master), map, volume))
			candidates[count++] = candidate_of(master, volume, &own);
	best = making_most_room(candidates, count);
	rc = best ? 0 : count ? -ENOSPC : -ENODEV;
	if (best)
		*out = namespace_volume(master_ns(master), best->volume);
	free(candidates);
	return rc;
}

/* Orders under way */

static void forget_order(struct order *order)
{
	LIST_REMOVE(order, link);
	free(order);
}

static void forget_old_orders(struct making *making)
{
	struct order *order, *next;

	for (order = LIST_FIRST(&making->orders); order; order = next) {
		next = LIST_NEXT(order, link);
		if (clock_monotonic_ms() >= order->until_ms)
			forget_order(order);
	}
}

static struct order *find_order(struct making *making, const char *place)
{
	struct order *order;

	forget_old_orders(making);
	LIST_FOREACH(order, &making->orders, link)
		if (strcmp(order->place, place) == 0)
			return order;
	return NULL;
}

static struct order *order_new(struct making *making, const char *place)
{
	struct order *order = calloc(1, sizeof(*order));

	if (!order || uuid_make(order->uuid) < 0) {
		free(order);
		return NULL;
	}
	snprintf(order->place, sizeof(order->place), "%s", place);
	order->until_ms = clock_monotonic_ms() + ORDER_MS;
	LIST_INSERT_HEAD(&making->orders, order, link);
	return order;
}

static void order_ended(struct making *making, const uint8_t *uuid)
{
	struct order *order;

	LIST_FOREACH(order, &making->orders, link)
		if (memcmp(order->uuid, uuid, sizeof(order->uuid)) == 0) {
			forget_order(order);
			return;
		}
}

/* The tree and the nodes agree */

static int delete_volume(struct master *master, uint32_t id)
{
	ns_item item = { .kind = NS_VOLUME, .ns_item_u.volume = { .id = id, .path = (char *)"" } };
	int rc = vroot_remove_places(master_vroot(master), id);

	return rc < 0 ? rc : vroot_change(master_vroot(master), NS_DELETE, &item);
}

static void unmake(struct master *master, uint32_t node, const uint8_t *uuid)
{
	scp_message message = { .type = SCP_VOLUME_UNMAKE };

	memcpy(message.scp_message_u.volume_unmake.uuid, uuid, NS_UUID_BYTES);
	if (node == NAMESPACE_MASTER)
		made_volumes_unmake(slave_made_volumes(master_slave(master)), uuid, NULL, NULL);
	else
		scp_send(slave_scp(master_slave(master)), node, SCP_CONTROL, 0, &message);
}

bool making_refuses(struct making *making, uint32_t node, const scp_volume_offer *offer)
{
	struct master *master = making->master;
	const uint8_t *uuid = (const uint8_t *)offer->uuid;
	const ns_volume *known = namespace_volume_by_uuid(master_ns(master), uuid);
	const struct settings_map *map;
	int rc;

	if (!made_volumes_is_path(offer->path))
		return false;
	order_ended(making, uuid);
	if ((known && namespace_place(master_ns(master), known->id)) || namespace_branch_by_uuid(master_ns(master), uuid))
		return false;
	rc = automount_pattern(master_automount(master), offer->place, &map);
	if (rc == 0)
		return false;
	log_warn("automount", "node=%u path=%s was made for %s and can't be there: %s; it is removed if it is empty", node,
		 offer->path, offer->place, rc == -ENOENT ? "no [map] says so any more" : strerror(-rc));
	if (known)
		delete_volume(master, known->id);
	unmake(master, node, uuid);
	return true;
}

void making_gone(struct making *making, uint32_t node, const uint8_t uuid[static NS_UUID_BYTES])
{
	struct master *master = making->master;
	const ns_volume *volume = namespace_volume_by_uuid(master_ns(master), uuid);
	scp_message message = { .type = SCP_VOLUME_CLOSE };
	uint8_t own[NS_UUID_BYTES];

	memcpy(own, uuid, sizeof(own)); /* the one given may be gone before the end */
	memcpy(message.scp_message_u.volume_close.uuid, uuid, NS_UUID_BYTES);
	order_ended(making, uuid);
	if (volume && (volume->node != node || !made_volumes_is_path(volume->path) || namespace_branch_by_uuid(master_ns(master), uuid)))
		return; /* nobody takes away what is not his */
	if (volume && delete_volume(master, volume->id) < 0)
		return; /* it says so again at the next contact */
	if (node == NAMESPACE_MASTER)
		slave_forget_volume(master_slave(master), own);
	else
		scp_send(slave_scp(master_slave(master)), node, SCP_CONTROL, 0, &message);
}

bool making_is_inside(const struct namespace *ns, const ns_volume *volume)
{
	size_t len = strlen(volume->path);
	const ns_volume *other;

	for (size_t at = 0; (other = namespace_next_volume(ns, &at));)
		if (other->node == volume->node && strncmp(other->path, volume->path, len) == 0 && other->path[len] == '/' &&
		    made_volumes_is_path(other->path))
			return true;
	return false;
}

/* Commands */

struct own_order {
	struct admin_request *request;
	char text[256];
};

static void own_order_done(int result, const char *why, void *arg)
{
	struct own_order *own = arg;

	if (result < 0)
		admin_error(own->request, "node %d: %s", NAMESPACE_MASTER, why);
	else
		admin_done(own->request, "%s", own->text);
	free(own);
}

/* NULL: there is no memory, and that was said. */
static struct own_order *own_order_new(struct admin_request *request, const char *text)
{
	struct own_order *own = calloc(1, sizeof(*own));

	if (!own) {
		admin_error(request, "there is no memory for that now; try again later");
		return NULL;
	}
	own->request = request;
	snprintf(own->text, sizeof(own->text), "%s", text);
	return own;
}

void making_order(struct master *master, struct admin_request *request, const ns_volume *on,
		  const uint8_t uuid[static NS_UUID_BYTES], const char *place)
{
	scp_message message = { .type = SCP_VOLUME_MAKE };
	scp_volume_make *wire = &message.scp_message_u.volume_make;
	struct own_order *own;
	char done[256];

	snprintf(done, sizeof(done), "%.150s is a directory, on volume %u of node %u", place, on->id, on->node);
	if (on->node == NAMESPACE_MASTER) {
		own = own_order_new(request, done);
		if (own)
			made_volumes_make(slave_made_volumes(master_slave(master)), uuid, (const uint8_t *)on->uuid, place,
					  own_order_done, own);
		return;
	}
	memcpy(wire->uuid, uuid, sizeof(wire->uuid));
	memcpy(wire->on, on->uuid, sizeof(wire->on));
	wire->place = (char *)place;
	commands_ask(master, request, on->node, &message, done);
}

static void say_no_pattern(struct admin_request *request, const char *place, int rc)
{
	if (rc == -EEXIST)
		admin_error(request, "%s: there is something already; nasctl volume list shows the places that are taken", place);
	else if (rc == -EALREADY)
		admin_error(request, "%s: it is being made, or a node with which that was begun has not answered; try again in half a "
			    "minute", place);
	else if (rc == -ENOENT)
		admin_error(request, "%s: no [map] of the configuration says where to make it; add one with places = /DIRECTORY/* "
			    "and volume = most-room, or make a volume there with nasctl volume add", place);
	else
		admin_error(request, "%s: a directory's path is absolute, and its name has at most %d characters", place, NS_NAME_MAX);
}

static void say_no_room(struct admin_request *request, const struct settings_map *map, int rc)
{
	if (rc == -ENOSPC)
		admin_error(request, "none of the volumes that the [map] in line %u means has any room; nasctl node show tells how "
			    "full they are", map->line);
	else if (rc == -ENODEV)
		admin_error(request, "none of the volumes that the [map] in line %u means is up; nasctl volume list shows them",
			    map->line);
	else
		admin_error(request, "%s", strerror(-rc));
}

void making_command_mkdir(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	struct making *making = master_making(master);
	const struct settings_map *map;
	const ns_volume *on;
	struct order *order;
	int rc = strlen(argv[0]) < NS_TEXT_MAX ? automount_pattern(master_automount(master), argv[0], &map) : -EINVAL;

	(void)argc;
	if (rc == 0 && find_order(making, argv[0]))
		rc = -EALREADY;
	if (rc < 0) {
		say_no_pattern(request, argv[0], rc);
		return;
	}
	rc = choose(master, map, &on);
	if (rc < 0) {
		say_no_room(request, map, rc);
		return;
	}
	order = order_new(making, argv[0]);
	if (order)
		making_order(master, request, on, order->uuid, order->place);
	else
		admin_error(request, "there is no memory for that now; try again later");
}

void making_command_rmdir(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	scp_message message = { .type = SCP_VOLUME_UNMAKE };
	const char *rest = "";
	const ns_entry *entry = namespace_walk(master_ns(master), argv[0], &rest);
	const ns_volume *volume = entry && !*rest ? namespace_volume(master_ns(master), entry->volume) : NULL;
	struct own_order *own;
	char done[256];

	(void)argc;
	if (!volume || !made_volumes_is_path(volume->path)) {
		admin_error(request, "%s is no directory that nasctl mkdir has made; nasctl volume list shows what is where", argv[0]);
		return;
	}
	snprintf(done, sizeof(done), "%.200s is not there any more", argv[0]);
	if (volume->node != NAMESPACE_MASTER) {
		memcpy(message.scp_message_u.volume_unmake.uuid, volume->uuid, NS_UUID_BYTES);
		commands_ask(master, request, volume->node, &message, done);
		return;
	}
	own = own_order_new(request, done);
	if (own)
		made_volumes_unmake(slave_made_volumes(master_slave(master)), (const uint8_t *)volume->uuid, own_order_done, own);
}

/* Life */

struct making *making_new(struct master *master)
{
	struct making *making = calloc(1, sizeof(*making));

	if (!making)
		return NULL;
	making->master = master;
	LIST_INIT(&making->orders);
	return making;
}

void making_free(struct making *making)
{
	struct order *order;

	while (making && (order = LIST_FIRST(&making->orders)))
		forget_order(order);
	free(making);
}
