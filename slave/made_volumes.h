/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/made_volumes.h - volumes that were made by pattern, as directories inside other volumes of this node
 *
 * Each is a directory <volume>/LOCAL_RESERVED/<UUID>, which clients of that volume don't see, and a line of <state_dir>/made: its own
 * UUID, that of the volume it is on, its state, and its place. It comes and goes with the volume it is on.
 *
 *	        order            directory durable
 *	   ---------> LEAVING -----------------------> MADE: offered and served
 *	                ^ |  |                           |
 *	                | |  +---- it is not empty ----->|
 *	                | |          order               |
 *	                +-|------------------------------+
 *	                  | directory removed, or there is none; the master is told
 *	                  v
 *	               no line, when the master has taken it out of the tree (SCP_VOLUME_CLOSE)
 *
 * Each arrow is durable before what follows from it. So whatever a crash interrupts is LEAVING, and removed when the
 * master and the volume around it are there, if it is empty; a directory that holds anything never is.
 *
 * Threads: the control loop's. What waits for a disk is done by workers.
 */
#ifndef VNAS_SLAVE_MADE_VOLUMES_H
#define VNAS_SLAVE_MADE_VOLUMES_H

#include "common/namespace.h"

struct made_volumes;
struct volumes;
struct workers;

enum { MADE_VOLUMES_MAX = 65536 };

struct made_volumes_options {
	const char *state_file;
	struct workers *workers;
	struct volumes *volumes;
	void (*on_volumes)(void *arg); /* one is there to be offered and served */
	void (*on_gone)(const uint8_t uuid[static NS_UUID_BYTES], void *arg); /* the master is to be told */
	void *arg;
};

/* When all volumes are known that others may be on: what is on record waits for these. -EINVAL if the record is damaged (logged); -ENOMEM */
int made_volumes_new(const struct made_volumes_options *options, struct made_volumes **out);

/* While the workers run: nothing is begun any more, and what ends is finished by the next run. */
void made_volumes_stop(struct made_volumes *made);

/* When the workers have ended. NULL is allowed. */
void made_volumes_free(struct made_volumes *made);

/* Volumes have come: so do those on them (they go by volumes_leave()). To be called before volumes_follow(). */
void made_volumes_follow(struct made_volumes *made);

/* The master is there, or volumes have come: finish what was interrupted, as far as these have come. */
void made_volumes_resume(struct made_volumes *made);

/* @why: a sentence, if @result is an error */
typedef void (*made_volumes_done)(int result, const char *why, void *arg);

/**
 * made_volumes_make() - make a volume
 * @uuid:	of it
 * @on:		of the volume inside which it is made
 * @place:	that it wishes in the tree
 * @done:	called once, perhaps before this returns: it is on stable storage and has been offered, or why not
 */
void made_volumes_make(struct made_volumes *made, const uint8_t uuid[static NS_UUID_BYTES],
		       const uint8_t on[static NS_UUID_BYTES], const char *place, made_volumes_done done, void *arg);

/* Remove one, if it is empty. @done: as above; by then on_gone was called. -ENOTEMPTY, -ENOENT, -EIO: its disk is away, ... */
void made_volumes_unmake(struct made_volumes *made, const uint8_t uuid[static NS_UUID_BYTES], made_volumes_done done, void *arg);

/* It is not a volume of the cluster any more. What is in it stays. Nothing happens if it was never made. */
void made_volumes_forget(struct made_volumes *made, const uint8_t uuid[static NS_UUID_BYTES]);

/* Is the directory of a volume, as it was offered, that of a made one? */
bool made_volumes_is_path(const char *path);

#endif
