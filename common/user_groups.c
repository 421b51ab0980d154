/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/user_groups.h"

#include <errno.h>
#include <stdlib.h>

enum { SLOTS = 1024 };

/* Two users of one slot take it from each other: that costs them a small allocation for each call. */
struct slot {
	uint32_t uid;
	uint64_t revision; /* of the name space when these were made */
	struct group_set *groups[2]; /* by without_root; NULL: not asked for yet */
};

struct user_groups {
	const struct namespace *ns;
	struct slot slots[SLOTS];
};

struct user_groups *user_groups_new(const struct namespace *ns)
{
	struct user_groups *users = calloc(1, sizeof(*users));

	if (users)
		users->ns = ns;
	return users;
}

static void slot_clear(struct slot *slot)
{
	group_set_put(slot->groups[false]);
	group_set_put(slot->groups[true]);
	*slot = (struct slot){ 0 };
}

void user_groups_free(struct user_groups *users)
{
	if (!users)
		return;
	for (size_t i = 0; i < SLOTS; i++)
		slot_clear(&users->slots[i]);
	free(users);
}

static struct group_set *make(const ns_user *user, bool without_root)
{
	uint32_t groups[NS_USER_GROUPS_MAX + 1];
	size_t count = 0;

	if (user->gid || !without_root)
		groups[count++] = user->gid;
	for (u_int i = 0; i < user->groups.groups_len; i++)
		if (user->groups.groups_val[i] || !without_root)
			groups[count++] = user->groups.groups_val[i];
	return group_set_new(groups, count);
}

int user_groups_find(struct user_groups *users, uint32_t uid, bool without_root, struct group_set **out)
{
	struct slot *slot = &users->slots[uid % SLOTS];
	uint64_t revision = namespace_revision(users->ns);
	const ns_user *user;

	if (slot->uid != uid || slot->revision != revision || !slot->groups[without_root]) {
		user = namespace_user(users->ns, uid);
		if (!user)
			return -ENOENT;
		if (slot->uid != uid || slot->revision != revision)
			slot_clear(slot);
		slot->uid = uid;
		slot->revision = revision;
		slot->groups[without_root] = make(user, without_root);
		if (!slot->groups[without_root])
			return -ENOMEM;
	}
	*out = group_set_get(slot->groups[without_root]);
	return 0;
}
