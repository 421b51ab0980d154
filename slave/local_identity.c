/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Acting as a client's user. In the kernel a thread has credentials of its own: ids for file access and effective
 * capabilities. Changing either costs about a microsecond, and the four changes that make another user of a thread cost
 * more than the whole rest of a GETATTR. Hence three states, with the cheapest way between them:
 *
 *	          assume()                    assume() of the same user
 *	  ROOT ---------------> CLIENT <--------------------- RAISED
 *	   ^                     |  |                            ^
 *	   |  end(), first thread|  | root()                     |
 *	   +---------------------+  +----------------------------+
 *
 *	ROOT	root's ids and powers, as the thread was started
 *	CLIENT	the client's ids; no effective capability at all, so that nothing is allowed but what the kernel allows
 *		that user: no reserved blocks and no more than the quota (CAP_SYS_RESOURCE), no override of modes
 *		(CAP_DAC_*, CAP_FOWNER), no setuid bit that survives a write (CAP_FSETID), no devices (CAP_MKNOD)
 *	RAISED	the client's ids with root's powers: to open by a handle and to sync. It makes no file that has a name
 *
 * The process's first thread, which has all else to do, ends each operation as ROOT (supplementary groups may stay; they mean
 * nothing to root). Others, workers and data loops, do beside operations only what any user may with descriptors that are
 * open: they stay who they were, and the next operation of the same user changes nothing. What `me` remembers is checked
 * against the kernel's own answer each time, which costs a tenth of a change; only this file writes either.
 *
 * An unsquashed root of a client keeps all powers, CAP_SYS_RESOURCE and CAP_MKNOD among them, as knfsd lets it
 * (CAP_NFSD_SET, nfsd_setuser()).
 */
#include "config.h"

#include "slave/local_internal.h"

#include "common/group_set.h"
#include "common/log.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

const struct credentials local_as_root = { .uid = 0, .gid = 0 };

struct powers {
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
};

static _Thread_local struct {
	bool is_known;	    /* the rest is filled */
	bool is_first;	    /* the process's first thread */
	bool is_powerless;  /* CLIENT */
	bool knows_groups;  /* not those that the thread was started with */
	struct powers all;  /* as it was started */
	uint32_t uid, gid;
	uint32_t group_count;
	uint32_t groups[CREDENTIALS_GROUPS_MAX];
	uint64_t group_set; /* serial of the group_set that took the place of `groups`, or 0 */
} me;

static int powers_get(struct powers *out)
{
	struct __user_cap_header_struct self = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capget, &self, out->sets) ? -errno : 0;
}

static int powers_set(const struct powers *powers)
{
	struct __user_cap_header_struct self = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capset, &self, powers->sets) ? -errno : 0;
}

static void get_to_know(void)
{
	if (me.is_known)
		return;
	if (BUG_IF(powers_get(&me.all)))
		return;
	me.is_first = getpid() == gettid();
	me.is_known = true;
}

static bool lower(void)
{
	struct powers none = me.all;

	if (me.is_powerless)
		return true;
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		none.sets[i].effective = 0;
	me.is_powerless = powers_set(&none) == 0;
	return me.is_powerless;
}

void local_identity_root(void)
{
	if (me.is_powerless && !BUG_IF(powers_set(&me.all)))
		me.is_powerless = false;
}

/* setfsuid() does not say that it failed, and going on as somebody else would be the worst of all answers: ask. */
static bool is_present(uint32_t uid, uint32_t gid)
{
	return (uint32_t)setfsuid((uid_t)-1) == uid && (uint32_t)setfsgid((gid_t)-1) == gid;
}

static bool has_groups_of(const struct credentials *who)
{
	if (!me.knows_groups || me.group_set != (who->group_set ? who->group_set->serial : 0))
		return false;
	return me.group_set || (me.group_count == who->group_count &&
				memcmp(me.groups, who->groups, who->group_count * sizeof(who->groups[0])) == 0);
}

/*
 * glibc's setgroups() would change all threads, as POSIX wants it for processes; setfsuid() and setfsgid() are bare
 * system calls.
 */
static bool take_groups(const struct credentials *who)
{
	const struct group_set *set = who->group_set;

	if (has_groups_of(who))
		return true;
	me.knows_groups = false;
	if (syscall(SYS_setgroups, set ? set->count : who->group_count, set ? set->groups : who->groups))
		return false;
	me.group_set = set ? set->serial : 0;
	me.group_count = who->group_count;
	memcpy(me.groups, who->groups, sizeof(me.groups));
	me.knows_groups = true;
	return true;
}

static void take_ids(uint32_t uid, uint32_t gid)
{
	if (me.gid != gid)
		setfsgid(gid);
	if (me.uid != uid)
		setfsuid(uid);
	me.uid = uid;
	me.gid = gid;
}

static bool is_same(const struct credentials *who)
{
	return me.uid == who->uid && me.gid == who->gid && has_groups_of(who);
}

static bool become(const struct credentials *who)
{
	bool is_root = who->uid == 0;

	if (is_root || !is_same(who))
		local_identity_root();
	if (!take_groups(who))
		return false;
	take_ids(who->uid, who->gid);
	return is_present(who->uid, who->gid) && (is_root || lower());
}

/* Root's ids and powers. setfsuid(2) also gives back what it took: capabilities(7), "Effect of user ID changes". */
static void be_root(void)
{
	me.uid = me.gid = 0;
	setfsgid(0);
	setfsuid(0);
	if (powers_set(&me.all) == 0)
		me.is_powerless = false;
	BUG_IF(me.is_powerless || !is_present(0, 0));
}

int local_identity_assume(const struct credentials *who)
{
	get_to_know();
	if (who == &local_as_root) {
		local_identity_root();
		return 0;
	}
	if (BUG_IF(!me.is_known || who->group_count > CREDENTIALS_GROUPS_MAX))
		return -EACCES;
	if (become(who))
		return 0;
	be_root();
	return -EACCES;
}

void local_identity_end(void)
{
	if (me.is_first && (me.uid || me.gid || me.is_powerless))
		be_root();
}
