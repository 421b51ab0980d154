/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/group_set.h"

#include <stdlib.h>
#include <string.h>

struct group_set *group_set_new(const uint32_t *groups, size_t count)
{
	static uint64_t last_serial;
	struct group_set *set;

	if (count > GROUP_SET_MAX)
		return NULL;
	set = malloc(sizeof(*set) + count * sizeof(*groups));
	if (!set)
		return NULL;
	set->serial = __atomic_add_fetch(&last_serial, 1, __ATOMIC_RELAXED);
	set->references = 1;
	set->count = (uint32_t)count;
	if (count)
		memcpy(set->groups, groups, count * sizeof(*groups));
	return set;
}

struct group_set *group_set_get(struct group_set *set)
{
	__atomic_add_fetch(&set->references, 1, __ATOMIC_RELAXED);
	return set;
}

void group_set_put(struct group_set *set)
{
	if (set && __atomic_sub_fetch(&set->references, 1, __ATOMIC_ACQ_REL) == 0)
		free(set);
}
