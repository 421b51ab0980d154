/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/group_set.h - the groups that this server knows a user to be in
 *
 * AUTH_SYS has room for 16 groups. Where an export says so, those that the client names are replaced by a set that is
 * looked up here (common/name_service.h). A set never changes; it is shared by counted references, and its serial
 * number is never another set's, so that two sets are the same if their serials are.
 *
 * Threads: any.
 */
#ifndef VNAS_COMMON_GROUP_SET_H
#define VNAS_COMMON_GROUP_SET_H

#include <stddef.h>
#include <stdint.h>

enum { GROUP_SET_MAX = 65536 }; /* NGROUPS_MAX of Linux */

struct group_set {
	uint64_t serial; /* from 1 */
	uint32_t references;
	uint32_t count;
	uint32_t groups[];
};

/* A set with one reference, the caller's; NULL: no memory, or more than GROUP_SET_MAX. @groups is copied. */
struct group_set *group_set_new(const uint32_t *groups, size_t count);

struct group_set *group_set_get(struct group_set *set);

/* NULL is allowed. */
void group_set_put(struct group_set *set);

#endif
