/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/user_groups.h - the groups of the cluster's users
 *
 * The master's users (common/namespace.h) as sets that a call can borrow. Those used last are kept until the name space
 * changes, so a change counts from the next call on. Users of the devices' name services are common/name_service.h's.
 *
 * A user that the cluster has is asked of nobody else: each device gives the same answer, at once, whatever its own name
 * service says and whether it answers.
 *
 * Threads: no shared state; the name space's.
 */
#ifndef VNAS_COMMON_USER_GROUPS_H
#define VNAS_COMMON_USER_GROUPS_H

#include "common/group_set.h"
#include "common/namespace.h"

#include <stdbool.h>
#include <stdint.h>

struct user_groups;

/* @ns: borrowed for its life. NULL: no memory */
struct user_groups *user_groups_new(const struct namespace *ns);

/* NULL is allowed. */
void user_groups_free(struct user_groups *users);

/**
 * user_groups_find() - the groups that a user is in
 * @without_root:	leave group 0 out
 * @out:		out: a reference, the caller's; untouched on failure
 *
 * Return: 0; -ENOENT if the cluster has no such user; -ENOMEM
 */
int user_groups_find(struct user_groups *users, uint32_t uid, bool without_root, struct group_set **out);

#endif
