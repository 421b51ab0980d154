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

/* What is told of a command, when it is answered, to whoever watches (admin_watch()). */
enum admin_effect {
	ADMIN_CHANGES, /* it may change something: told */
	ADMIN_QUIET,   /* it only looks, or no person says it: not told */
	ADMIN_SECRET,  /* told without its arguments, which may be passwords */
};

struct admin_command {
	const char *name;      /* words, separated by one space */
	const char *arguments; /* WORD, [WORD] and WORD... for one or more */
	const char *help;      /* one line */
	enum admin_effect effect;
};

/* NODE: its number or name. VOLUME: its number, place or UUID. SESSION: its hexadecimal id, such as 1-2a. USER, GROUP: name or number. */
static const struct admin_command admin_commands[] = {
	{ "status", "", "show what this device is, how it fares and whom it sees", ADMIN_QUIET },
	{ "node list", "", "list the devices of the cluster", ADMIN_QUIET },
	{ "node show", "NODE", "show one device with its volumes and load", ADMIN_QUIET },
	{ "node approve", "NODE", "let a device that asked to join become a member", ADMIN_CHANGES },
	{ "node reject", "NODE", "refuse a device that asks to join without a token", ADMIN_CHANGES },
	{ "node drain", "NODE", "move every session away from a device, so that it can be switched off", ADMIN_CHANGES },
	{ "node undrain", "NODE", "let a device that was drained have sessions again", ADMIN_CHANGES },
	{ "node weight", "NODE NUMBER", "how much of the new connections a disk node gets; 100 as long as nobody has said so", ADMIN_CHANGES },
	{ "node remove", "NODE", "put a device out of the cluster; its data stay on its disks", ADMIN_CHANGES },
	{ "volume list", "", "list the volumes", ADMIN_QUIET },
	{ "volume add", "NODE DIR [PLACE]", "serve directory DIR of a node, at PLACE or the next /diskN", ADMIN_CHANGES },
	{ "volume remove", "VOLUME", "stop serving a volume; its data stay on the disk", ADMIN_CHANGES },
	{ "volume move", "VOLUME PLACE", "show a volume to clients at another place of the tree", ADMIN_CHANGES },
	{ "volume place", "VOLUME PLACE", "show a volume to clients at one more place of the tree", ADMIN_CHANGES },
	{ "volume unplace", "VOLUME PLACE", "take one of a volume's places out of the tree", ADMIN_CHANGES },
	{ "volume check", "PATH", "compare a spread directory with its volumes, and have it agree with them", ADMIN_CHANGES },
	{ "spread list", "", "list the directories whose entries are on several volumes", ADMIN_QUIET },
	{ "spread show", "PATH", "show the volumes of a spread directory", ADMIN_QUIET },
	{ "spread make", "PATH [--policy POLICY] [--mode MODE]", "make a directory whose entries are on several volumes", ADMIN_CHANGES },
	{ "spread add", "PATH VOLUME [--weight N]", "have a spread directory use a volume", ADMIN_CHANGES },
	{ "mkdir", "PATH", "make a directory below a [map] by pattern, on the volume with most room", ADMIN_CHANGES },
	{ "rmdir", "PATH", "take such a directory away, if it is empty", ADMIN_CHANGES },
	{ "disk list", "", "list the disks of all nodes, and what is on them", ADMIN_QUIET },
	{ "disk format", "NODE DEVICE [--type TYPE] [--yes]", "make an empty disk a volume, of type ext4 or xfs", ADMIN_CHANGES },
	{ "disk rescan", "[NODE]", "have a node, or all, look for disks and ask what SMART says", ADMIN_CHANGES },
	{ "export list", "", "list which clients may mount what", ADMIN_QUIET },
	{ "export set", "PATH CLIENTS...", "say which clients may mount PATH, with which rights", ADMIN_CHANGES },
	{ "export remove", "PATH", "take an export back", ADMIN_CHANGES },
	{ "user list", "", "list the cluster's users", ADMIN_QUIET },
	{ "user show", "USER", "show one user and his groups", ADMIN_QUIET },
	{ "user add", "NAME [--uid UID] [--group GROUP] [--comment TEXT]", "make a user whom all devices know", ADMIN_CHANGES },
	{ "user set", "USER [--name NAME] [--group GROUP] [--comment TEXT]", "change a user", ADMIN_CHANGES },
	{ "user remove", "USER", "forget a user; his files stay", ADMIN_CHANGES },
	{ "user passwd", "USER [--lock|HASH]", "give a user a password, asked for unless its hash is given, or lock it", ADMIN_SECRET },
	{ "group list", "", "list the cluster's groups", ADMIN_QUIET },
	{ "group show", "GROUP", "show one group and its members", ADMIN_QUIET },
	{ "group add", "NAME [--gid GID]", "make a group that all devices know", ADMIN_CHANGES },
	{ "group remove", "GROUP", "forget a group; files keep its number", ADMIN_CHANGES },
	{ "group member add", "GROUP USER...", "put users into a group", ADMIN_CHANGES },
	{ "group member remove", "GROUP USER...", "take users out of a group", ADMIN_CHANGES },
	{ "class list", "", "list the classes of clients", ADMIN_QUIET },
	{ "class set", "NAME [--weight N] [--operations N] [--bytes N] MEMBER...",
	  "say which clients' work goes first, and how much of it there may be a second", ADMIN_CHANGES },
	{ "class remove", "NAME", "let the clients of a class be as all others", ADMIN_CHANGES },
	{ "config export", "", "print exports, users, groups and places as one document, with hashes of passwords", ADMIN_QUIET },
	{ "config import", "[FILE]", "make the cluster as such a document says, from FILE or standard input", ADMIN_SECRET },
	{ "top", "[--count ROUNDS] [--sort COLUMN]", "show what goes on in the cluster, each second anew", ADMIN_QUIET },
	{ "session list", "", "list the client sessions", ADMIN_QUIET },
	{ "session show", "SESSION", "show one client session", ADMIN_QUIET },
	{ "handoff", "SESSION NODE [--kind KIND]", "move a client session to a device: full, to-devices, to-client, or only prepare", ADMIN_CHANGES },
	{ "policy", "", "show when this device hands a session off", ADMIN_QUIET },
	{ "why", "SESSION", "show why a client session is where it is", ADMIN_QUIET },
	{ "log", "[-f] [-n LINES] [--level LEVEL] [--node NODE]", "show the last lines of a device's log, all that are kept or LINES, and with -f those that come", ADMIN_QUIET },
	{ "events", "[-f] [-n EVENTS] [--after EVENT] [--kind KIND]", "show what has happened in the cluster, and with -f what happens", ADMIN_QUIET },
	{ "cluster init", "[--name NAME]", "make this machine the master of a new cluster", ADMIN_CHANGES },
	{ "cluster token", "[--pending] [--lifetime MINUTES]", "make a token with which a device may join", ADMIN_CHANGES },
	{ "certificate list", "", "list the certificates of the devices and of the cluster's authority", ADMIN_QUIET },
	{ "certificate renew", "[NODE]", "give a device, all or \"authority\" a new certificate now; they get one in time by themselves", ADMIN_CHANGES },
	{ "certificate revoke", "NODE", "refuse a device's certificates, or those up to the one with this serial number", ADMIN_CHANGES },
	{ "check", "", "examine the whole cluster, and say what to do about what is found", ADMIN_QUIET },
	{ "counters", "", "show all counters", ADMIN_QUIET },
	{ "dhcp config", "[FIRST] [LAST]", "print a dnsmasq configuration that makes this switch the disks' DHCP server", ADMIN_QUIET },
	{ "dhcp master", "OPTION", "tell this disk node of the master that DHCP option 43 names, in hexadecimal", ADMIN_CHANGES },
	{ "dhcp lease add", "MAC ADDRESS [NAME] [VENDORCLASS]", "tell of an address that a DHCP server has given out", ADMIN_QUIET },
	{ "dhcp lease del", "MAC ADDRESS", "tell that a DHCP server has taken it back", ADMIN_QUIET },
	{ "dhcp lease list", "", "list the addresses that a DHCP server has given out", ADMIN_QUIET },
	{ "filter list", "", "list which networks may reach which services, and what was refused", ADMIN_QUIET },
	{ "traffic nodes", "", "show what each device has exchanged with clients", ADMIN_QUIET },
	{ "traffic clients", "", "show what each client has exchanged with the cluster", ADMIN_QUIET },
	{ "reload", "", "read the configuration file again, and show what needs a restart", ADMIN_CHANGES },
	{ "stop", "", "stop vnasd for good and undo what it changed on this machine", ADMIN_CHANGES },
};

enum { ADMIN_COMMAND_COUNT = sizeof(admin_commands) / sizeof(admin_commands[0]) };

/* The command that @words begin with, and of how many words its name is; or NULL. */
const struct admin_command *admin_command_find(int count, char *const *words, int *name_words);

/* May this many arguments follow the command? */
bool admin_command_takes(const struct admin_command *command, int argc);

#endif
