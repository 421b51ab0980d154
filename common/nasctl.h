/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nasctl.h - the administrator's command
 *
 * The same binary as vnasd, called as nasctl. Sends a command to the administration socket (common/admin.h) and prints
 * the answer for people, or as JSON. Knows the commands from their table (common/admin_commands.h) and nothing of what
 * they do.
 *
 * Threads: the only one of its process.
 */
#ifndef VNAS_COMMON_NASCTL_H
#define VNAS_COMMON_NASCTL_H

#include <jansson.h>

/* A command that nasctl performs itself, whether vnasd runs or not. */
struct nasctl_local {
	const char *command; /* "cluster init", as in common/admin_commands.h */

	/*
	 * @argv: what follows the command's words, as many as the table allows. Gives an answer as vnasd would,
	 * {"done": "..."} or {"error": "..."}; NULL: failed, and has said why.
	 */
	json_t *(*run)(int argc, char **argv);
};

/**
 * nasctl_main() - perform one command
 * @argv:	nasctl [--json] [--socket PATH] COMMAND [ARGUMENT...]; options may be anywhere before "--". --config FILE
 *		has been taken out by the caller, who knows configurations.
 * @locals:	the last has command NULL; or NULL
 *
 * Return: exit status: 0; 1 if the command failed, with a sentence on standard error; 2 if it isn't one
 */
int nasctl_main(int argc, char **argv, const struct nasctl_local *locals);

#endif
