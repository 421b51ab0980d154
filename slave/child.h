/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/child.h - another program, run to its end
 *
 * Its output is kept, as far as there is room. It dies when the thread that runs it does, so with the daemon, whatever ends that.
 *
 * Threads: child_run() is called on a worker's, child_kill() on any.
 */
#ifndef VNAS_SLAVE_CHILD_H
#define VNAS_SLAVE_CHILD_H

#include <stdatomic.h>
#include <stddef.h>
#include <sys/types.h>

struct child {
	_Atomic pid_t pid; /* 0: not now */
	_Atomic int is_ended; /* by child_kill(): it does not begin any more, either */
};

/**
 * child_run() - run a program of /usr/sbin or /sbin
 * @argv:	NULL at its end; argv[0] without a folder
 * @timeout_ms:	after which it is killed; -1: never
 * @output:	out: what it wrote, both channels, ended by NUL; also on failure
 *
 * Return: its exit status; -ENOENT if there is no such program; -ETIME; -ECANCELED by child_kill(); -EINTR if a signal ended it; what
 * the kernel said
 */
int child_run(struct child *child, const char *const argv[], int timeout_ms, char *output, size_t size);

void child_kill(struct child *child);

#endif
