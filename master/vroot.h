/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/vroot.h - the virtual root's book-keeping: the cluster's name space in SQLite
 *
 * The one door to SQLite. The master alone writes, through vroot_change(): on disk first, then in the replica in memory
 * (common/namespace.h), then published to the slaves. Also keeps the join tokens, which never leave this machine.
 *
 * Threads: the control loop's; a change waits for the disk.
 */
#ifndef VNAS_MASTER_VROOT_H
#define VNAS_MASTER_VROOT_H

#include "common/namespace.h"

#include <stdbool.h>
#include <stdint.h>

enum { VROOT_TOKEN_TEXT = 33 };

struct vroot;

/**
 * vroot_create() - a new cluster: UUID, cluster id, handle key, node 1, an empty root, nothing exported
 * @path:	of the database
 * @name:	of the cluster
 * @cluster:	out: its UUID
 *
 * Return: 0; -EEXIST if there is one already
 */
int vroot_create(const char *path, const char *name, uint8_t cluster[static NS_UUID_BYTES]);

/**
 * vroot_open() - load the name space
 * @ns:		filled; borrowed for life
 * @publish:	called after each change, with the change
 *
 * Return: 0; -ENOENT if there is no cluster here; -EBADMSG (damaged, logged); -EIO
 */
int vroot_open(const char *path, struct namespace *ns, void (*publish)(const ns_change *change, void *arg), void *arg,
	       struct vroot **out);
void vroot_close(struct vroot *vroot);

/* Put or delete one item, which may borrow from what it replaces. 0; -EIO (logged; nothing has changed); -EINVAL */
int vroot_change(struct vroot *vroot, ns_operation operation, const ns_item *item);

/* Ids that were never used and never will be again. 0; -EIO */
int vroot_next_id(struct vroot *vroot, ns_kind kind, uint64_t *id);

/**
 * vroot_make_place() - put a volume into the tree
 * @place:	absolute path; empty: the next /diskN. Missing directories above it are made
 *
 * Return: 0; -EEXIST (there is something else), -ENOTDIR (a mount point is on the way), -ENAMETOOLONG, -EINVAL, -EIO
 */
int vroot_make_place(struct vroot *vroot, uint32_t volume, const char *place);

/* Take a volume's places out of the tree, and directories that nothing is in any more. 0; -EIO */
int vroot_remove_places(struct vroot *vroot, uint32_t volume);

/* A fresh join token, valid for @lifetime_s. @pending: the node waits for approval. 0; -EIO */
int vroot_token_make(struct vroot *vroot, unsigned int lifetime_s, bool pending, char secret[static VROOT_TOKEN_TEXT]);

/* Use a token up. 0; -EACCES if unknown or used; -ETIME if expired; -EIO */
int vroot_token_use(struct vroot *vroot, const char *secret, bool *pending);

#endif
