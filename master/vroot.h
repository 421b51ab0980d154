/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/vroot.h - the virtual root's book-keeping: the cluster's name space in SQLite
 *
 * The one door to SQLite. The master alone writes, through vroot_change(): on disk first, then in the replica in memory
 * (common/namespace.h), then published to the slaves. Also keeps the join tokens, what was decided about candidates, the
 * weights of nodes and which certificates there are, which never leave this machine.
 *
 * Threads: the control loop's; a change waits for the disk.
 */
#ifndef VNAS_MASTER_VROOT_H
#define VNAS_MASTER_VROOT_H

#include "common/certificates.h"
#include "common/namespace.h"

#include <stdbool.h>
#include <stdint.h>

enum { VROOT_TOKEN_TEXT = 33, VROOT_KEY_BYTES = 32, VROOT_CERTIFICATES_MAX = 16 };

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
 * A database of an earlier version is brought up to date first.
 *
 * Return: 0; -ENOENT if there is no cluster here; -EBADMSG (damaged, logged); -EPROTO (of a later version, logged); -EIO
 */
int vroot_open(const char *path, struct namespace *ns, void (*publish)(const ns_change *change, void *arg), void *arg,
	       struct vroot **out);
void vroot_close(struct vroot *vroot);

/* Put or delete one item, which may borrow from what it replaces. 0; -EIO (logged; nothing has changed); -EINVAL */
int vroot_change(struct vroot *vroot, ns_operation operation, const ns_item *item);

/* Call @witness before each change is made, which it may yet not be. */
void vroot_set_witness(struct vroot *vroot, void (*witness)(const ns_change *change, void *arg), void *arg);

/* Ids that were never used and never will be again; of NS_REVOCATION: numbers for certificates. 0; -EIO */
int vroot_next_id(struct vroot *vroot, ns_kind kind, uint64_t *id);

/**
 * vroot_make_place() - put a volume into the tree
 * @place:	absolute path; empty: the next /diskN. Missing directories above it are made
 *
 * Return: 0; -EEXIST (there is something else), -ENOTDIR (a mount point is on the way), -ENAMETOOLONG, -EINVAL, -EIO
 */
int vroot_make_place(struct vroot *vroot, uint32_t volume, const char *place);

/* A directory, if it is not there; missing ones above it are made. As above. */
int vroot_make_directory(struct vroot *vroot, const char *path);

/* Directories that stay when nothing is in them any more: those of which @keeps says so. NULL, as at first: none. */
void vroot_set_keeps(struct vroot *vroot, bool (*keeps)(const char *path, void *arg), void *arg);

/* Take a place out of the tree, and directories that nothing is in any more. @id: of its entry. 0; -ENOENT; -EIO */
int vroot_remove_place(struct vroot *vroot, uint64_t id);

/* The same for all places of a volume. 0; -EIO */
int vroot_remove_places(struct vroot *vroot, uint32_t volume);

/**
 * vroot_move_place() - give a place another name, in the same directory or elsewhere
 * @id:		of its entry, which stays its own
 * @place:	absolute path; missing directories above it are made
 *
 * In one change: nobody sees the volume at no place or at both.
 *
 * Return: 0; -ENOENT (no place of a volume); as vroot_make_place()
 */
int vroot_move_place(struct vroot *vroot, uint64_t id, const char *place);

/* A fresh join token, valid for @lifetime_s. @pending: the node waits for approval. 0; -EIO */
int vroot_token_make(struct vroot *vroot, unsigned int lifetime_s, bool pending, char secret[static VROOT_TOKEN_TEXT]);

/* Use a token up. 0; -EACCES if unknown or used; -ETIME if expired; -EIO */
int vroot_token_use(struct vroot *vroot, const char *secret, bool *pending);

/*
 * What was decided about a machine that applied without a token, by its key (certificates_request_key()). Goes with its node
 * when that is removed. Of rejected ones the last 1024 are kept.
 */

/* @node: out: its number; 0: rejected. 0; -ENOENT: nothing was decided; -EIO */
int vroot_candidate_get(struct vroot *vroot, const uint8_t key[static VROOT_KEY_BYTES], uint32_t *node);
int vroot_candidate_set(struct vroot *vroot, const uint8_t key[static VROOT_KEY_BYTES], uint32_t node);

/*
 * How much of the new connections nodes get, as somebody has said (nasctl node weight); goes with the node. Visits those of which
 * somebody has. 0; -EIO
 */
int vroot_weights(struct vroot *vroot, void (*visit)(uint32_t node, unsigned int weight, void *arg), void *arg);
int vroot_weight_set(struct vroot *vroot, uint32_t node, unsigned int weight);

/* All keys by which a node was let in are rejected from now on. 0; -EIO */
int vroot_candidates_reject(struct vroot *vroot, uint32_t node);

/*
 * Certificates that this master has signed, or a device has shown. Of each node the last is kept, and those before that have not expired,
 * VROOT_CERTIFICATES_MAX together. They go with their node when that is removed.
 */

/* 0; -EIO */
int vroot_certificate_put(struct vroot *vroot, const struct certificates_facts *certificate);

/* By node, of each the last first. 0; -EIO */
int vroot_certificates_visit(struct vroot *vroot, void (*visit)(const struct certificates_facts *certificate, void *arg), void *arg);

#endif
