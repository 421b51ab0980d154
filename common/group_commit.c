/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/group_commit.h"

static _Thread_local bool is_on_here;

bool group_commit_is_on(void)
{
	return is_on_here;
}

bool group_commit_set(bool is_on)
{
	bool before = is_on_here;

	is_on_here = is_on;
	return before;
}
