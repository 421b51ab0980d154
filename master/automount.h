/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/automount.h - which places volumes get in the tree
 *
 * By the automount map of the configuration ([map]), by what a volume's node wishes, or a name by the policy ([automount]). Also
 * remembers the serial numbers of volumes' disks, which their nodes tell; in memory, for a node tells them again.
 *
 * The places of a volume that a [map] fits are those of the [map] and no others. It is applied when a volume is offered, and to all
 * when the configuration was read.
 *
 * Ownership: borrows the settings, the virtual root and the replica for life.
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_AUTOMOUNT_H
#define VNAS_MASTER_AUTOMOUNT_H

#include "common/namespace.h"
#include "common/settings.h"

struct automount;
struct vroot;

/* What a [map] looks at, of one volume. */
struct automount_facts {
	const uint8_t *uuid;
	const char *serial; /* "" if there is none */
	const char *node;   /* its name */
	bool is_made;	    /* inside another one (slave/made_volumes.h): only a [map] that names it by its UUID means it */
};

/**
 * automount_fitting() - the [map] that counts for a volume
 *
 * Those by pattern (volume = most-room) say of no volume where it is. Return: the first that fits; NULL if none does
 */
const struct settings_map *automount_fitting(const struct settings *settings, const struct automount_facts *facts);

enum { AUTOMOUNT_NAME_MAX = 128 };

/* "/disk-SERIAL", with "_" for what does not belong in a name; "" without a serial number, which means the next /diskN */
void automount_serial_name(const char *serial, char name[static AUTOMOUNT_NAME_MAX]);

/* 0; -ENOMEM */
int automount_new(const struct settings *settings, struct vroot *vroot, const struct namespace *ns, struct automount **out);
void automount_free(struct automount *automount);

/* A node tells on which disk a volume is. "" is as if it had not. */
void automount_note_serial(struct automount *automount, const uint8_t uuid[static NS_UUID_BYTES], const char *serial);

/* Of a volume's disk, else of its node; "" if neither is known. Borrowed. */
const char *automount_serial(const struct automount *automount, const ns_volume *volume);

/**
 * automount_place() - give a volume that was offered its places
 * @volume:	its id
 * @wanted:	where its node would have it; may be empty
 *
 * One that has a place already only follows a [map]. What can't be is logged; a volume is never left without a place.
 *
 * Return: 0; -EIO
 */
int automount_place(struct automount *automount, uint32_t volume, const char *wanted);

/* The [map] that says where a volume is; NULL: whoever administers it does. */
const struct settings_map *automount_map_of(const struct automount *automount, const ns_volume *volume);

/**
 * automount_check() - could these settings' [map] sections be in force?
 * @why:	out: on failure a sentence with the section's line, SETTINGS_WHY_MAX bytes
 *
 * Changes nothing. Return: 0; -EINVAL if a place is taken by a volume that would stay there, or by directories, or if two volumes
 * would be at one place
 */
int automount_check(const struct automount *automount, const struct settings *settings, char *why);

/**
 * automount_pattern() - may a directory be made at a place?
 * @place:	absolute path
 * @map:	out: the [map] whose pattern it is of
 *
 * Return: 0; -ENOENT (no pattern is of it); -EEXIST (something is there); -EINVAL (not a good name)
 */
int automount_pattern(const struct automount *automount, const char *place, const struct settings_map **map);

/* May a volume have the room for what is made by such a @map? */
bool automount_may_have(const struct automount *automount, const struct settings_map *map, const ns_volume *volume);

/* The settings have changed, or are new: apply them to all volumes. */
void automount_apply(struct automount *automount);

#endif
