/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/making.h - directories that are made where there is room: [map] with volume = most-room
 *
 * Chooses the volume, has its node make a volume inside it (slave/made_volumes.h), and sees to it that what is in the tree and what
 * nodes have agree: what was made is placed, or undone if something else is there by then; what is gone leaves the tree. Keeps nothing
 * but which orders are under way: the tree and the nodes' records are what counts.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_MAKING_H
#define VNAS_MASTER_MAKING_H

#include "common/admin.h"
#include "common/namespace.h"
#include "scp/scp_xdr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct making;
struct master;

/* A volume that could have the room. */
struct making_candidate {
	uint32_t volume;
	bool knows_room;
	uint64_t free_bytes;
};

/**
 * making_most_room() - which of several volumes has the most room?
 * @candidates:	in the order of their ids
 *
 * One whose room is not known comes after all others; of equals the first is taken. Return: NULL if none has any
 */
const struct making_candidate *making_most_room(const struct making_candidate *candidates, size_t count);

/* NULL without memory. @master: borrowed for life */
struct making *making_new(struct master *master);
void making_free(struct making *making);

/*
 * A volume was offered: is it a made one that can't have the place it was made for? Then its node is told to undo it, and it does not
 * get into the tree. What is in it is never lost: it stays where it is if it is not empty.
 */
bool making_refuses(struct making *making, uint32_t node, const scp_volume_offer *offer);

/* A node says that a made volume is not there any more: nor is it in the tree from now on, and the node may forget it. */
void making_gone(struct making *making, uint32_t node, const uint8_t uuid[static NS_UUID_BYTES]);

/* Is anything made inside this volume? */
bool making_is_inside(const struct namespace *ns, const ns_volume *volume);

/* May what is new go to this node? It is up, not suspect, not held down and not being drained. */
bool making_may_work(struct master *master, uint32_t node);

/* What room a volume has by its node's last LOAD. false: that is not known */
bool making_room(struct master *master, const ns_volume *volume, uint64_t *free_bytes);

/* Have a volume made inside another one, and tell the administrator what became of it. Takes @request. */
void making_order(struct master *master, struct admin_request *request, const ns_volume *on,
		  const uint8_t uuid[static NS_UUID_BYTES], const char *place);

/* nasctl mkdir, rmdir */
void making_command_mkdir(struct admin_request *request, int argc, char **argv, void *arg);
void making_command_rmdir(struct admin_request *request, int argc, char **argv, void *arg);

#endif
