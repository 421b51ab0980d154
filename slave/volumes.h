/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/volumes.h - the volumes of this node
 *
 * Directories that this node offers, each with a UUID that stays its own, kept in <state_dir>/volumes (one line each:
 * UUID, place, path), and those that the master has given an id and that are open and served.
 *
 * Ownership: a `struct volume *` is borrowed until the next volumes_follow() or volumes_forget().
 * Threads: the control loop's; volumes_find() also that of data loops.
 */
#ifndef VNAS_SLAVE_VOLUMES_H
#define VNAS_SLAVE_VOLUMES_H

#include "common/namespace.h"
#include "slave/local.h"

#include <limits.h>
#include <stdbool.h>

struct loops;
struct volumes;
struct workers;

struct volume_offer {
	uint8_t uuid[NS_UUID_BYTES];
	char path[PATH_MAX];
	char place[NS_TEXT_MAX]; /* wanted place in the tree; empty: the next /diskN */
	struct local_root root; /* backend_len 0: the directory is not there now */
	char serial[NS_NAME_MAX + 1]; /* of the disk that it is on; empty: it has none */
};

/* @state_file: read, and written whenever it changes. 0; -EINVAL (damaged, logged) or what the kernel said */
int volumes_open(const char *state_file, struct volumes **out);
void volumes_close(struct volumes *volumes);

/*
 * Who uses volumes. One that is not served any more is closed by a worker, when nothing uses it, and not waited for. NULL, as
 * at first: nothing uses it any more. @loops: which find volumes beside the control loop; or NULL
 */
void volumes_use(struct volumes *volumes, struct workers *workers, struct loops *loops);

/* Have the workers close what was not used for some seconds; to be called each second. */
void volumes_tidy(struct volumes *volumes);

/**
 * volumes_add() - offer a directory
 * @place:	may be empty
 * @why:	out: on failure a sentence, at least 256 bytes
 *
 * Return: 0, also if it was offered already; or why not, as local_probe()
 */
int volumes_add(struct volumes *volumes, const char *path, const char *place, char *why, size_t why_size);

/*
 * Volumes on disks of their own (slave/disks.h), and those inside other volumes (slave/made_volumes.h): the records of these keep
 * them, not this one. Until volumes_arrived() such a volume is not offered, and its clients wait.
 */
int volumes_expect(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES], const char *path);

/* Where it would be in the tree, if it has no place yet. Nothing happens to a volume that is not expected. */
void volumes_wish(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES], const char *place);

/* Its directory is there, perhaps again. The caller has it served: volumes_follow(). @why: as volumes_add() */
int volumes_arrived(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES], const char *path, char *why, size_t why_size);

/* Its disk has gone: it is closed, and volumes_has_left() until volumes_arrived(). The same for such volumes inside it. */
void volumes_leave(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES]);

/* By the volume's id in the name space. Also from data loops. */
bool volumes_has_left(const struct volumes *volumes, const struct namespace *ns, uint32_t id);

/* No longer offered; the files stay. -ENOENT */
int volumes_forget(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES]);

/* Iterate over what is offered: *at starts at 0; NULL at the end. */
const struct volume_offer *volumes_next(const struct volumes *volumes, size_t *at);

/* The one with this UUID, or NULL. */
const struct volume_offer *volumes_offer(const struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES]);

/* Open what the name space says is ours and is not open; close what is not ours any more. */
void volumes_follow(struct volumes *volumes, const struct namespace *ns, uint32_t self);

/* The open volume with this id, or NULL. */
struct volume *volumes_find(struct volumes *volumes, uint32_t id);

#endif
