/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nasctl_top.h - nasctl top: what goes on in a cluster, each second anew
 *
 * On a terminal a screen that is drawn anew with each round, until "q" or Ctrl-C; elsewhere, or with --count or --json, rounds one after
 * another. The rounds are vnasd's (master/top.h): nothing is reckoned here but what fits.
 *
 * Threads: the only one of its process.
 */
#ifndef VNAS_COMMON_NASCTL_TOP_H
#define VNAS_COMMON_NASCTL_TOP_H

#include <stdbool.h>

/**
 * nasctl_top() - perform the command
 * @socket:	as nasctl_ask()
 * @argv:	[--count ROUNDS] [--sort COLUMN]
 * @as_json:	each round an object on a line of its own
 *
 * The terminal is as it was before when this returns, also after a signal that ends it.
 *
 * Return: exit status
 */
int nasctl_top(const char *socket, int argc, char **argv, bool as_json);

#endif
