/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/admin_commands.h - the commands of nasctl
 *
 * One row per command: nasctl's help, its man page (tests/unit/test_nasctl.c compares) and the daemon follow it.
 */
#ifndef VNAS_COMMON_ADMIN_COMMANDS_H
#define VNAS_COMMON_ADMIN_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

struct admin_command {
	const char *name;      /* words, separated by one space */
	const char *arguments; /* WORD, [WORD] and WORD... for one or more */
	const char *help;      /* one line */
};

/* NODE: its number or name. VOLUME: its number, place or UUID. SESSION: its hexadecimal id, such as 1-2a. */
static const struct admin_command admin_commands[] = {
	{ "status", "", "show what this device is, how it fares and whom it sees" },
	{ "node list", "", "list the devices of the cluster" },
	{ "node show", "NODE", "show one device with its volumes and load" },
	{ "node approve", "NODE", "let a device that asked to join become a member" },
	{ "node remove", "NODE", "put a device out of the cluster; its data stay on its disks" },
	{ "volume list", "", "list the volumes" },
	{ "volume add", "NODE DIR [PLACE]", "serve directory DIR of a node, at PLACE or the next /diskN" },
	{ "volume remove", "VOLUME", "stop serving a volume; its data stay on the disk" },
	{ "volume move", "VOLUME PLACE", "show a volume to clients at another place of the tree" },
	{ "export list", "", "list which clients may mount what" },
	{ "export set", "PATH CLIENTS...", "say which clients may mount PATH, with which rights" },
	{ "export remove", "PATH", "take an export back" },
	{ "session list", "", "list the client sessions" },
	{ "session show", "SESSION", "show one client session" },
	{ "handoff", "SESSION NODE", "move a client session to a device" },
	{ "policy", "", "show when this device hands a session off" },
	{ "why", "SESSION", "show why a client session is where it is" },
	{ "log", "[-n LINES]", "show the last lines of the log, all that are kept or LINES" },
	{ "cluster init", "[--name NAME]", "make this machine the master of a new cluster" },
	{ "cluster token", "[--pending] [--lifetime MINUTES]", "make a token with which a device may join" },
	{ "counters", "", "show all counters" },
	{ "stop", "", "stop vnasd for good and undo what it changed on this machine" },
};

enum { ADMIN_COMMAND_COUNT = sizeof(admin_commands) / sizeof(admin_commands[0]) };

/* The command that @words begin with, and of how many words its name is; or NULL. */
const struct admin_command *admin_command_find(int count, char *const *words, int *name_words);

/* May this many arguments follow the command? */
bool admin_command_takes(const struct admin_command *command, int argc);

#endif
