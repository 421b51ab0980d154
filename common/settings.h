/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/settings.h - the configuration file
 *
 * One INI file, every key with a default; etc/vnasd.conf shows them all. Parsed into a fresh struct and validated whole:
 * a wrong file changes nothing. settings_print() writes the canonical form, which parses back to the same.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_SETTINGS_H
#define VNAS_COMMON_SETTINGS_H

#include "common/log.h"
#include "common/placement.h"

#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	SETTINGS_VIPS_MAX = 8,
	SETTINGS_INTERFACES_MAX = 8,
	SETTINGS_VOLUMES_MAX = 256,
	SETTINGS_ADDRESS_MAX = 64,
	SETTINGS_NAME_MAX = 256,
	SETTINGS_WHY_MAX = 512,
};

enum settings_mode { SETTINGS_MODE_UNSET, SETTINGS_MODE_MASTER, SETTINGS_MODE_SLAVE };
enum settings_portmapper { SETTINGS_PORTMAPPER_AUTO, SETTINGS_PORTMAPPER_BUILTIN, SETTINGS_PORTMAPPER_RPCBIND,
			   SETTINGS_PORTMAPPER_NONE };

struct settings_volume {
	char path[PATH_MAX];  /* a directory of this node */
	char place[PATH_MAX]; /* where in the tree; empty: the next /diskN */
};

struct settings {
	/* [vnas] */
	enum settings_mode mode;		  /* mode = master | slave */
	char name[SETTINGS_NAME_MAX];		  /* name = HOSTNAME; default: the host's */
	char state_dir[PATH_MAX];		  /* state_dir = /var/lib/vnas */
	char run_dir[PATH_MAX];			  /* run_dir = /run/vnas; admin.sock is in it */
	char bpf_dir[PATH_MAX];			  /* bpf_dir = /sys/fs/bpf/vnas; must be on a bpffs */
	enum log_level log_level;		  /* log_level = err | warn | info | debug */

	/* [network] */
	unsigned int vip_count;			  /* vip = 10.0.0.1, fd00::1 (master; slaves learn it). */
	char vips[SETTINGS_VIPS_MAX][SETTINGS_ADDRESS_MAX]; /* Empty: serve at every address, no cluster */
	char address[SETTINGS_ADDRESS_MAX];	  /* address = where the other devices reach this one (SCP) */
	uint16_t scp_port;			  /* scp_port = 2050 */
	unsigned int client_interface_count;	  /* client_interfaces = eth0 (master) */
	char client_interfaces[SETTINGS_INTERFACES_MAX][IFNAMSIZ];
	unsigned int disk_interface_count;	  /* disk_interfaces = eth1; one-arm: the same (master) */
	char disk_interfaces[SETTINGS_INTERFACES_MAX][IFNAMSIZ];
	char interface[IFNAMSIZ];		  /* interface = eth0: towards the switch and the other disks (slave) */
	bool handoff;				  /* handoff = yes | no: no uses no BPF, all work is relayed */

	/* [nfs] */
	uint16_t nfs_port;			  /* port = 2049 */
	enum settings_portmapper portmapper;	  /* portmapper = auto | builtin | rpcbind | none */
	uint64_t memory;			  /* memory = 256M, of all connections together */
	unsigned int data_loops;		  /* data_loops = 0: one per core */

	/* [placement] */
	struct placement_policy placement;

	/* [volume] sections, repeated: path = DIR, place = PATH */
	unsigned int volume_count;
	struct settings_volume *volumes;	  /* owned */
};

/* Defaults everywhere. */
void settings_init(struct settings *settings);
void settings_fini(struct settings *settings);

/**
 * settings_parse() - read a file over the defaults
 * @path:	the file; for messages
 * @in:		open for reading; borrowed
 * @out:	out: to be freed with settings_fini(); untouched on failure
 * @why:	out: on failure "FILE:LINE: what is wrong; what would be right", SETTINGS_WHY_MAX bytes
 *
 * Return: 0; -EINVAL
 */
int settings_parse(const char *path, FILE *in, struct settings *out, char *why);

/* Check what only shows when all is known (mode given, interfaces of the master, ...). As settings_parse(). */
int settings_validate(const struct settings *settings, char *why);

/* The canonical form. An option without a value is shown as a comment: "#address =". */
void settings_print(const struct settings *settings, FILE *out);

/* The options that there are, in the order of the canonical form, for those who document them. False after the last. */
bool settings_option(size_t number, const char **section, const char **key);

#endif
