/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nasctl_ask.h - nasctl's end of the administration socket
 *
 * A request, its answer, and what follows an answer that goes on (common/admin.h). Knows nothing of what they say.
 *
 * Threads: the only one of its process.
 */
#ifndef VNAS_COMMON_NASCTL_ASK_H
#define VNAS_COMMON_NASCTL_ASK_H

#include <jansson.h>

/**
 * nasctl_ask() - have vnasd perform a command
 * @socket:	path of its administration socket
 * @words:	the command and its arguments
 * @more:	out: a descriptor to read on from, if the answer goes on, the caller's; else -1
 *
 * Return: the answer, the caller's; NULL: none, and it has been said why
 */
json_t *nasctl_ask(const char *socket, int count, char *const *words, int *more);

/* What follows, when it comes; NULL: nothing any more. */
json_t *nasctl_ask_next(int more);

/* As nasctl_ask(), without a word about what is wrong. */
json_t *nasctl_ask_quietly(const char *socket, int count, char *const *words);

#endif
