/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/group_commit.h - does this thread make several changes durable at once?
 *
 * Usually a backend makes durable what it changes before it returns. Between two calls of group_commit_set() a thread carries
 * out several operations whose calls begin with the same object, none of them is answered yet, and the thread calls the
 * backend's sync() of that object afterwards. So what makes that object durable, and nothing else, may be left to sync().
 *
 * A backend that knows nothing of this is only slower; it is the one that has a sync() that must know.
 *
 * Threads: each has its own.
 */
#ifndef VNAS_COMMON_GROUP_COMMIT_H
#define VNAS_COMMON_GROUP_COMMIT_H

#include <stdbool.h>

bool group_commit_is_on(void);

/* Return: how it was */
bool group_commit_set(bool is_on);

#endif
