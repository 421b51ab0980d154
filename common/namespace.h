/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/namespace.h - the replica of the cluster's name space
 *
 * Nodes, volumes, the entries of the virtual root, exports, users, groups, classes and revocations, as every device knows them: in memory, by
 * revision, fed by a snapshot and then by changes. The master writes (master/vroot.h) and publishes; everybody else only reads.
 * Knows nothing of how it travels (scp/).
 *
 * It always agrees with itself: entries are one tree, with nothing below a mount point and no name twice in a directory;
 * no two volumes, spread directories or branches have one UUID, no two exports one path, no two users, groups or classes one name. A user's groups need not be there:
 * they may be groups of the devices.
 *
 * Ownership: what a look-up returns is borrowed until the next load or apply.
 * Threads: the control loop's; what takes a const one also that of others, between changes (namespace_set_guard()).
 */
#ifndef VNAS_COMMON_NAMESPACE_H
#define VNAS_COMMON_NAMESPACE_H

#include "common/handle.h"
#include "common/namespace_xdr.h" /* made by rpcgen from common/namespace.x */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	NAMESPACE_MASTER = 1,	  /* node id */
	NAMESPACE_ROOT_ENTRY = 1, /* entry id */
	NAMESPACE_ROOT_VOLUME = 0,
	NAMESPACE_SPREAD_FILEID = 2,
	NAMESPACE_BRANCHES_MAX = 4095, /* in a cluster's life */
};

struct namespace;

struct namespace *namespace_new(void);
void namespace_free(struct namespace *ns);

/**
 * namespace_load() - replace everything by a snapshot
 * @bytes:	XDR of struct ns_snapshot
 *
 * Return: 0; -EBADMSG if it can't be decoded or contradicts itself (the old content stays); -ENOMEM
 */
int namespace_load(struct namespace *ns, const void *bytes, size_t len);

/* What is called around every change, so that those who read on other threads don't do so meanwhile. */
struct namespace_guard {
	void (*before)(void *arg);
	void (*after)(void *arg);
	void *arg;
};

/* @guard: copied; NULL: none any more */
void namespace_set_guard(struct namespace *ns, const struct namespace_guard *guard);

/* A copy of an item with all it owns; free with namespace_item_fini(). 0; -ENOMEM; -EBADMSG. @out untouched on failure. */
int namespace_item_copy(const ns_item *item, ns_item *out);
void namespace_item_fini(ns_item *item);

/**
 * namespace_apply() - apply one change
 * @change:	borrowed; copied
 *
 * Return: 0; -ESTALE if it does not follow the revision we have (ask for a snapshot); -EBADMSG if the content would
 * contradict itself; -ENOMEM
 */
int namespace_apply(struct namespace *ns, const ns_change *change);

/**
 * namespace_snapshot() - the content as XDR
 * @bytes:	out: to be freed by the caller
 *
 * Return: 0; -ENOMEM
 */
int namespace_snapshot(const struct namespace *ns, uint8_t **bytes, size_t *len);

uint64_t namespace_revision(const struct namespace *ns);

/* NULL before the first load. */
const ns_cluster *namespace_cluster(const struct namespace *ns);
const struct handle_key *namespace_handle_key(const struct namespace *ns);

const ns_node *namespace_node(const struct namespace *ns, uint32_t id);
/* May it have sessions with the other devices? */
static inline bool namespace_is_member(const ns_node *node)
{
	return node && (node->state == NS_NODE_APPROVED || node->state == NS_NODE_DRAINING);
}

const ns_node *namespace_node_by_name(const struct namespace *ns, const char *name);
const ns_volume *namespace_volume(const struct namespace *ns, uint32_t id);
const ns_volume *namespace_volume_by_uuid(const struct namespace *ns, const uint8_t uuid[static NS_UUID_BYTES]);
const ns_entry *namespace_entry(const struct namespace *ns, uint64_t id);
const ns_entry *namespace_child(const struct namespace *ns, uint64_t parent, const char *name);
const ns_user *namespace_user(const struct namespace *ns, uint32_t uid);
const ns_user *namespace_user_by_name(const struct namespace *ns, const char *name);
const ns_group *namespace_group(const struct namespace *ns, uint32_t gid);
const ns_spread *namespace_spread(const struct namespace *ns, uint32_t id);
/* By the UUID of its volume. */
const ns_branch *namespace_branch_by_uuid(const struct namespace *ns, const uint8_t uuid[static NS_UUID_BYTES]);
const ns_group *namespace_group_by_name(const struct namespace *ns, const char *name);
/* Was this certificate of a device, by its number (common/certificates.h), taken back? */
bool namespace_is_revoked(const struct namespace *ns, uint32_t node, uint64_t number);

/* The (first) place of a volume in the tree, or NULL. */
const ns_entry *namespace_place(const struct namespace *ns, uint32_t volume);

/* Iterate in id order: *at starts at 0; NULL at the end. */
const ns_node *namespace_next_node(const struct namespace *ns, size_t *at);
const ns_volume *namespace_next_volume(const struct namespace *ns, size_t *at);
const ns_entry *namespace_next_entry(const struct namespace *ns, size_t *at);
const ns_export *namespace_next_export(const struct namespace *ns, size_t *at);
const ns_user *namespace_next_user(const struct namespace *ns, size_t *at);
const ns_group *namespace_next_group(const struct namespace *ns, size_t *at);
const ns_class *namespace_next_class(const struct namespace *ns, size_t *at);
const ns_spread *namespace_next_spread(const struct namespace *ns, size_t *at);
const ns_branch *namespace_next_branch(const struct namespace *ns, size_t *at);

/**
 * namespace_walk() - find the entry that a path of the tree leads to
 * @path:	absolute; empty and "." components are skipped
 * @rest:	out: what is left of @path behind the entry: "" or, below a mount point, a relative path; borrows @path
 *
 * Stops at a mount point. Return: the entry; NULL if there is none
 */
const ns_entry *namespace_walk(const struct namespace *ns, const char *path, const char **rest);

/**
 * namespace_path() - the path of an entry
 * @out:	NS_TEXT_MAX bytes of room
 *
 * Return: 0; -ENAMETOOLONG
 */
int namespace_path(const struct namespace *ns, const ns_entry *entry, char *out);

/* The root handle of a volume, ready for handle_encode(). */
struct handle namespace_volume_root(const ns_volume *volume);

/* The handle of a directory of the virtual root. */
struct handle namespace_entry_handle(const ns_entry *entry);

/* The handle of a spread directory itself. */
struct handle namespace_spread_handle(uint32_t spread);

uint64_t namespace_spread_fsid(const ns_spread *spread);

/* What makes the numbers of a branch's files unique in the spread directory, whose own is NAMESPACE_SPREAD_FILEID: to be xored. */
uint64_t namespace_branch_mask(const ns_branch *branch);

/* The volume's fsid, from its UUID; never 0, which is the virtual root's. */
uint64_t namespace_fsid(const ns_volume *volume);

#endif
