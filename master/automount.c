/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/automount.h"

#include "common/log.h"
#include "common/uuid.h"
#include "master/vroot.h"
#include "slave/made_volumes.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct disk {
	LIST_ENTRY(disk) link;
	uint8_t uuid[NS_UUID_BYTES]; /* of the volume */
	char serial[SETTINGS_NAME_MAX];
};

struct automount {
	const struct settings *settings;
	struct vroot *vroot;
	const struct namespace *ns;
	LIST_HEAD(, disk) disks; /* one per volume at most */
};

/* Deciding */

static bool fits(const char *pattern, const char *text)
{
	return !*pattern || (*text && fnmatch(pattern, text, 0) == 0);
}

static bool map_fits(const struct settings_map *map, const struct automount_facts *facts)
{
	uint8_t uuid[NS_UUID_BYTES];

	if (facts->is_made && !*map->uuid)
		return false;
	if (*map->uuid && (uuid_parse(map->uuid, uuid) < 0 || memcmp(uuid, facts->uuid, sizeof(uuid)) != 0))
		return false;
	return fits(map->serial, facts->serial) && fits(map->node, facts->node);
}

const struct settings_map *automount_fitting(const struct settings *settings, const struct automount_facts *facts)
{
	for (unsigned int i = 0; i < settings->map_count; i++)
		if (!*settings->maps[i].volume && map_fits(&settings->maps[i], facts))
			return &settings->maps[i];
	return NULL;
}

void automount_serial_name(const char *serial, char name[static AUTOMOUNT_NAME_MAX])
{
	int head = *serial ? snprintf(name, AUTOMOUNT_NAME_MAX, "/disk-%s", serial) : 0;

	if (!head)
		name[0] = '\0';
	for (char *p = head ? name + 1 : name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
			*p = '_';
}

static bool map_has(const struct settings_map *map, const char *place)
{
	for (unsigned int i = 0; map && i < map->place_count; i++)
		if (strcmp(map->places[i], place) == 0)
			return true;
	return false;
}

/* Serial numbers */

static struct disk *find_disk(const struct automount *automount, const uint8_t *uuid)
{
	struct disk *disk;

	LIST_FOREACH(disk, &automount->disks, link)
		if (memcmp(disk->uuid, uuid, sizeof(disk->uuid)) == 0)
			return disk;
	return NULL;
}

/* Only those of volumes that are in the tree, or are just about to be, are kept: a member can't fill this machine's memory. */
static void forget_gone(struct automount *automount)
{
	struct disk *disk, *next;

	for (disk = LIST_FIRST(&automount->disks); disk; disk = next) {
		next = LIST_NEXT(disk, link);
		if (namespace_volume_by_uuid(automount->ns, disk->uuid))
			continue;
		LIST_REMOVE(disk, link);
		free(disk);
	}
}

void automount_note_serial(struct automount *automount, const uint8_t uuid[static NS_UUID_BYTES], const char *serial)
{
	struct disk *disk = find_disk(automount, uuid);

	if (!disk && !*serial)
		return;
	if (!disk) {
		forget_gone(automount);
		disk = calloc(1, sizeof(*disk));
		if (!disk)
			return; /* its name does not tell it, then */
		memcpy(disk->uuid, uuid, sizeof(disk->uuid));
		LIST_INSERT_HEAD(&automount->disks, disk, link);
	}
	snprintf(disk->serial, sizeof(disk->serial), "%s", serial);
}

const char *automount_serial(const struct automount *automount, const ns_volume *volume)
{
	const struct disk *disk = find_disk(automount, (const uint8_t *)volume->uuid);
	const ns_node *node = namespace_node(automount->ns, volume->node);

	if (disk && disk->serial[0])
		return disk->serial;
	return node ? node->serial : "";
}

static struct automount_facts facts_of(const struct automount *automount, const ns_volume *volume)
{
	const ns_node *node = namespace_node(automount->ns, volume->node);

	return (struct automount_facts){
		.uuid = (const uint8_t *)volume->uuid,
		.serial = automount_serial(automount, volume),
		.node = node ? node->name : "",
		.is_made = made_volumes_is_path(volume->path),
	};
}

static const struct settings_map *map_in(const struct automount *automount, const struct settings *settings,
					 const ns_volume *volume)
{
	const struct automount_facts facts = facts_of(automount, volume);

	return automount_fitting(settings, &facts);
}

const struct settings_map *automount_map_of(const struct automount *automount, const ns_volume *volume)
{
	return map_in(automount, automount->settings, volume);
}

/* Patterns: a directory, "/" and "*" */

/* The directory that a pattern is of, without "/" and "*". */
static void directory_of(const char *pattern, char out[static SETTINGS_PLACE_MAX])
{
	snprintf(out, SETTINGS_PLACE_MAX, "%.*s", (int)(strlen(pattern) - strlen("/*")), pattern);
}

/* Call @visit for each directory of a pattern until it returns something else than 0, and return that. */
static int each_directory(const struct settings *settings,
			  int (*visit)(const struct settings_map *map, const char *directory, void *arg), void *arg)
{
	char directory[SETTINGS_PLACE_MAX];
	int rc = 0;

	for (unsigned int i = 0; i < settings->map_count; i++)
		for (unsigned int j = 0; rc == 0 && *settings->maps[i].volume && j < settings->maps[i].place_count; j++) {
			directory_of(settings->maps[i].places[j], directory);
			rc = visit(&settings->maps[i], directory, arg);
		}
	return rc;
}

static int is_this(const struct settings_map *map, const char *directory, void *arg)
{
	(void)map;
	return strcmp(directory, arg) == 0;
}

/* Directories of patterns stay, also empty. */
static bool keeps(const char *path, void *arg)
{
	const struct automount *automount = arg;

	return each_directory(automount->settings, is_this, (void *)path) != 0;
}

static int make_directory(const struct settings_map *map, const char *directory, void *arg)
{
	struct automount *automount = arg;
	int rc = vroot_make_directory(automount->vroot, directory);

	if (rc < 0)
		log_warn("automount", "%s can't be a directory, as line %u of the configuration says: %s", directory, map->line,
			 strerror(-rc));
	return 0;
}

struct wanted {
	const char *place;
	const struct settings_map *map;
};

static int is_above(const struct settings_map *map, const char *directory, void *arg)
{
	struct wanted *wanted = arg;
	size_t len = strlen(directory);
	const char *name = wanted->place + len + 1;

	if (strncmp(wanted->place, directory, len) != 0 || wanted->place[len] != '/' || !*name || strchr(name, '/'))
		return 0;
	wanted->map = map;
	return 1;
}

int automount_pattern(const struct automount *automount, const char *place, const struct settings_map **map)
{
	struct wanted wanted = { .place = place };
	const char *name = strrchr(place, '/'), *rest;

	if (!name || strlen(name + 1) > NS_NAME_MAX || strpbrk(place, "\n") || strcmp(name, "/.") == 0 || strcmp(name, "/..") == 0)
		return -EINVAL;
	if (!each_directory(automount->settings, is_above, &wanted))
		return -ENOENT;
	if (namespace_walk(automount->ns, place, &rest))
		return -EEXIST;
	*map = wanted.map;
	return 0;
}

bool automount_may_have(const struct automount *automount, const struct settings_map *map, const ns_volume *volume)
{
	const struct automount_facts facts = facts_of(automount, volume);

	return !facts.is_made && map_fits(map, &facts);
}

/* Checking */

static int __attribute__((format(printf, 2, 3))) refuse(char *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, SETTINGS_WHY_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

/* Will what is in the tree at this entry be gone when the settings are in force? */
static bool makes_way(const struct automount *automount, const struct settings *settings, const ns_entry *entry,
		      uint32_t volume)
{
	const ns_volume *there = namespace_volume(automount->ns, entry->volume);
	const struct settings_map *map = there ? map_in(automount, settings, there) : NULL;
	char path[NS_TEXT_MAX];

	if (entry->volume == volume)
		return true; /* it moves, or is where it belongs */
	return map && namespace_path(automount->ns, entry, path) == 0 && !map_has(map, path);
}

/* Does a directory hold a place that stays? */
static const ns_entry *holds(const struct automount *automount, const struct settings *settings, const ns_entry *dir,
			     uint32_t volume)
{
	const ns_entry *entry, *above;

	for (size_t at = 0; (entry = namespace_next_entry(automount->ns, &at));) {
		if (entry->volume == NAMESPACE_ROOT_VOLUME || makes_way(automount, settings, entry, volume))
			continue;
		for (above = entry; above->id != NAMESPACE_ROOT_ENTRY; above = namespace_entry(automount->ns, above->parent))
			if (above->id == dir->id)
				return entry;
	}
	return NULL;
}

static int check_place(const struct automount *automount, const struct settings *settings, uint32_t volume,
		       const struct settings_map *map, const char *place, char *why)
{
	const char *rest;
	const ns_entry *entry = namespace_walk(automount->ns, place, &rest);
	char path[NS_TEXT_MAX] = "";

	if (!entry)
		return 0;
	if (entry->volume == NAMESPACE_ROOT_VOLUME)
		entry = holds(automount, settings, entry, volume);
	if (!entry || makes_way(automount, settings, entry, volume))
		return 0;
	namespace_path(automount->ns, entry, path);
	return refuse(why, "line %u: volume %u can't be at %.150s, for volume %u is at %.150s; move it with nasctl volume move, "
		      "or with a [map] of its own", map->line, volume, place, entry->volume, path);
}

/* @first: of all volumes, the one with the lowest id that @map fits */
static int check_volume(const struct automount *automount, const struct settings *settings, const ns_volume *volume,
			const struct settings_map *map, uint32_t first, char *why)
{
	if (first != volume->id)
		return refuse(why, "line %u: this [map] fits the volumes %u and %u, which can't be at one place; name one by its uuid",
			      map->line, first, volume->id);
	for (unsigned int i = 0; i < map->place_count; i++) {
		int rc = check_place(automount, settings, volume->id, map, map->places[i], why);

		if (rc < 0)
			return rc;
	}
	return 0;
}

struct checking {
	const struct automount *automount;
	const struct settings *settings;
	char *why;
};

/* What is a volume now, and stays, can't be a directory. */
static int check_directory(const struct settings_map *map, const char *directory, void *arg)
{
	const struct checking *checking = arg;
	const struct automount *automount = checking->automount;
	const char *rest;
	const ns_entry *entry = namespace_walk(automount->ns, directory, &rest);

	if (!entry || makes_way(automount, checking->settings, entry, NAMESPACE_ROOT_VOLUME))
		return 0;
	return refuse(checking->why, "line %u: %.150s can't be a directory, for volume %u is there; move it with nasctl volume move",
		      map->line, directory, entry->volume);
}

int automount_check(const struct automount *automount, const struct settings *settings, char *why)
{
	struct checking checking = { automount, settings, why };
	uint32_t first[SETTINGS_MAPS_MAX] = { 0 };
	const ns_volume *volume;

	for (size_t at = 0; (volume = namespace_next_volume(automount->ns, &at));) {
		const struct settings_map *map = map_in(automount, settings, volume);
		int rc;

		if (!map)
			continue;
		if (!first[map - settings->maps])
			first[map - settings->maps] = volume->id;
		rc = check_volume(automount, settings, volume, map, first[map - settings->maps], why);
		if (rc < 0)
			return rc;
	}
	return each_directory(settings, check_directory, &checking);
}

/* Applying */

static bool is_lacking(const struct automount *automount, uint32_t volume, const struct settings_map *map)
{
	for (unsigned int i = 0; i < map->place_count; i++) {
		const char *rest;
		const ns_entry *entry = namespace_walk(automount->ns, map->places[i], &rest);

		if (!entry || entry->volume != volume || *rest)
			return true;
	}
	return false;
}

static void make_places(struct automount *automount, uint32_t volume, const struct settings_map *map, bool is_last_try)
{
	for (unsigned int i = 0; i < map->place_count; i++) {
		int rc = vroot_make_place(automount->vroot, volume, map->places[i]);

		if (rc < 0 && is_last_try)
			log_warn("automount", "volume=%u can't be at %s, as line %u of the configuration says: %s", volume,
				 map->places[i], map->line, strerror(-rc));
	}
}

static void remove_others(struct automount *automount, uint32_t volume, const struct settings_map *map)
{
	const ns_entry *entry;
	char path[NS_TEXT_MAX];

	for (size_t at = 0; (entry = namespace_next_entry(automount->ns, &at));) {
		if (entry->volume != volume || namespace_path(automount->ns, entry, path) < 0 || map_has(map, path))
			continue;
		if (vroot_remove_place(automount->vroot, entry->id) < 0)
			return;
		log_info("automount", "volume=%u is not at %s any more", volume, path);
		at = 0; /* the list has changed */
	}
}

static int make_default_place(struct automount *automount, uint32_t id)
{
	const ns_volume *volume = namespace_volume(automount->ns, id);
	char name[AUTOMOUNT_NAME_MAX] = "";
	int rc;

	if (volume && automount->settings->names == SETTINGS_NAMES_SERIAL)
		automount_serial_name(automount_serial(automount, volume), name);
	rc = vroot_make_place(automount->vroot, id, name);
	if (rc == -EIO || rc == 0)
		return rc;
	log_warn("automount", "volume=%u can't be at %s: %s; it gets the next /diskN", id, name, strerror(-rc));
	return vroot_make_place(automount->vroot, id, "");
}

/* Will one of its places be free? If not, the volume had better stay where it is. */
static bool has_prospects(const struct automount *automount, uint32_t volume, const struct settings_map *map)
{
	char why[SETTINGS_WHY_MAX];

	for (unsigned int i = 0; i < map->place_count; i++)
		if (check_place(automount, automount->settings, volume, map, map->places[i], why) == 0)
			return true;
	return false;
}

enum { MAKE, REMOVE, MAKE_AGAIN, PHASES };

/* Its place is that of its spread directory. */
static bool is_branch(const struct automount *automount, const ns_volume *volume)
{
	return namespace_branch_by_uuid(automount->ns, (const uint8_t *)volume->uuid);
}

/*
 * First what is free, so that a volume that only moves is never nowhere; then away from where volumes don't belong, so that they
 * can change places with each other; then the rest.
 */
static void apply_to(struct automount *automount, const ns_volume *volume, int phase)
{
	const struct settings_map *map = automount_map_of(automount, volume);
	uint32_t id = volume->id;

	if (!map)
		return;
	if (phase == REMOVE && has_prospects(automount, id, map))
		remove_others(automount, id, map);
	else if (phase != REMOVE && is_lacking(automount, id, map))
		make_places(automount, id, map, phase == MAKE_AGAIN);
	if (phase == MAKE_AGAIN && !namespace_place(automount->ns, id) && !is_branch(automount, volume))
		make_default_place(automount, id);
}

void automount_apply(struct automount *automount)
{
	const ns_volume *volume;

	for (int phase = 0; phase < PHASES; phase++)
		for (size_t at = 0; (volume = namespace_next_volume(automount->ns, &at));)
			apply_to(automount, volume, phase);
	each_directory(automount->settings, make_directory, automount);
}

static int place_new(struct automount *automount, uint32_t id, const char *wanted)
{
	int rc;

	if (!*wanted)
		return make_default_place(automount, id);
	rc = vroot_make_place(automount->vroot, id, wanted);
	if (rc == -EIO || rc == 0)
		return rc;
	log_warn("automount", "volume=%u can't be at %s: %s; nasctl volume move changes that", id, wanted, strerror(-rc));
	return make_default_place(automount, id);
}

int automount_place(struct automount *automount, uint32_t id, const char *wanted)
{
	const ns_volume *volume = namespace_volume(automount->ns, id);
	const struct settings_map *map = volume ? automount_map_of(automount, volume) : NULL;

	if (!volume)
		return -ENOENT;
	if (is_branch(automount, volume))
		return 0;
	if (map && is_lacking(automount, id, map))
		make_places(automount, id, map, false);
	if (map && is_lacking(automount, id, map))
		automount_apply(automount);
	else if (map)
		remove_others(automount, id, map);
	return namespace_place(automount->ns, id) ? 0 : place_new(automount, id, wanted);
}

/* Life */

int automount_new(const struct settings *settings, struct vroot *vroot, const struct namespace *ns, struct automount **out)
{
	struct automount *automount = calloc(1, sizeof(*automount));

	if (!automount)
		return -ENOMEM;
	automount->settings = settings;
	automount->vroot = vroot;
	automount->ns = ns;
	LIST_INIT(&automount->disks);
	vroot_set_keeps(vroot, keeps, automount);
	*out = automount;
	return 0;
}

void automount_free(struct automount *automount)
{
	struct disk *disk;

	while (automount && (disk = LIST_FIRST(&automount->disks))) {
		LIST_REMOVE(disk, link);
		free(disk);
	}
	free(automount);
}
