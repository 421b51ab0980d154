/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local_internal.h"

#include "common/log.h"

#include <errno.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

const struct credentials local_as_root = { .uid = 0, .gid = 0 };

static _Thread_local bool is_client;

/*
 * The ids of file access belong to a thread in the kernel. glibc's setgroups() would change all threads, as
 * POSIX wants it for processes; setfsuid() and setfsgid() are bare system calls. With an fsuid other than 0 the kernel
 * takes the capabilities that override permissions from the thread's effective set, and gives them back with 0;
 * capabilities(7), "Effect of user ID changes on capabilities".
 */
static long thread_setgroups(size_t count, const uint32_t *groups)
{
	return syscall(SYS_setgroups, count, groups);
}

/* setfsuid() does not say that it failed, and going on as root would be the worst of all answers: ask. */
static bool is_identity(uint32_t uid, uint32_t gid)
{
	return (uint32_t)setfsuid((uid_t)-1) == uid && (uint32_t)setfsgid((gid_t)-1) == gid;
}

int local_identity_assume(const struct credentials *who)
{
	if (who->uid == 0 && who->gid == 0)
		return 0;
	if (BUG_IF(is_client) || BUG_IF(who->group_count > CREDENTIALS_GROUPS_MAX))
		return -EACCES;

	is_client = true;
	if (!thread_setgroups(who->group_count, who->groups)) {
		setfsgid(who->gid);
		setfsuid(who->uid);
		if (is_identity(who->uid, who->gid))
			return 0;
	}
	local_identity_drop();
	return -EACCES;
}

void local_identity_drop(void)
{
	if (!is_client)
		return;
	setfsuid(0);
	setfsgid(0);
	thread_setgroups(0, NULL);
	is_client = false;
}
