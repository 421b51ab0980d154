/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nasctl_complete.h - what may follow the words of a nasctl command: for the shells
 *
 * etc/completion asks by `nasctl complete WORD...`, so that bash and zsh know the same commands as nasctl's own table
 * (common/admin_commands.h), and nodes, volumes and the like as vnasd has them at the moment.
 *
 * Threads: the only one of its process.
 */
#ifndef VNAS_COMMON_NASCTL_COMPLETE_H
#define VNAS_COMMON_NASCTL_COMPLETE_H

#include <jansson.h>

/* What completion needs from outside. */
struct nasctl_complete {
	/* The answer to a command without arguments, the caller's; NULL: none. Says nothing to anybody. */
	json_t *(*ask)(const char *command, void *arg);

	/* One word that may follow. */
	void (*found)(const char *word, void *arg);
	void *arg;
};

/* @words: those before the one that is to be completed, borrowed */
void nasctl_complete(const struct nasctl_complete *complete, int count, char *const *words);

#endif
