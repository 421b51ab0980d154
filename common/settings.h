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

#include "common/ip_network.h"
#include "common/log.h"
#include "common/member_state.h"
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
	SETTINGS_FILTERS_MAX = 256,
	SETTINGS_MAPS_MAX = 256,
	SETTINGS_PLACES_MAX = 8,
	SETTINGS_DEVICES_MAX = 32,
	SETTINGS_DEVICE_MAX = 64,
	SETTINGS_TYPE_MAX = 16,
	SETTINGS_PLACE_MAX = 1024, /* NS_TEXT_MAX */
	SETTINGS_SERVICES_MAX = 3,
	SETTINGS_SERVICE_MAX = 16,
	SETTINGS_ADDRESS_MAX = 64,
	SETTINGS_NAME_MAX = 256,
	SETTINGS_WHY_MAX = 512,
	SETTINGS_RULES_MAX = 64,
	SETTINGS_RULE_MAX = 256,
	SETTINGS_LABEL_MAX = 65,
};

enum settings_mode { SETTINGS_MODE_UNSET, SETTINGS_MODE_MASTER, SETTINGS_MODE_SLAVE };
enum settings_first_device { SETTINGS_FIRST_SWITCH, SETTINGS_FIRST_ROUND_ROBIN, SETTINGS_FIRST_WEIGHT, SETTINGS_FIRST_LEAST_LOAD,
			     SETTINGS_FIRST_CLIENT };
enum settings_format { SETTINGS_FORMAT_ASK, SETTINGS_FORMAT_EMPTY };
enum settings_names { SETTINGS_NAMES_NUMBER, SETTINGS_NAMES_SERIAL };
enum settings_correct { SETTINGS_CORRECT_AUTO, SETTINGS_CORRECT_NO };
enum settings_portmapper { SETTINGS_PORTMAPPER_AUTO, SETTINGS_PORTMAPPER_BUILTIN, SETTINGS_PORTMAPPER_RPCBIND,
			   SETTINGS_PORTMAPPER_NONE };

struct settings_volume {
	char path[PATH_MAX];  /* a directory of this node */
	char place[PATH_MAX]; /* where in the tree; empty: the next /diskN */
};

/* What the addresses of a network may reach. */
struct settings_filter {
	struct ip_network network;
	unsigned int service_count;
	char services[SETTINGS_SERVICES_MAX][SETTINGS_SERVICE_MAX]; /* "nfs", "portmapper", "scp" */
};

/* A line of the automount map: which volumes, and their places. */
struct settings_map {
	unsigned int line;			    /* of the file, for messages */
	char uuid[SETTINGS_NAME_MAX];		    /* the volume's; empty: any */
	char serial[SETTINGS_NAME_MAX];		    /* shell pattern, of its disk's serial number; empty: any */
	char node[SETTINGS_NAME_MAX];		    /* shell pattern, of its node's name; empty: any */
	/* "most-room": each place ends in "/" and "*", and the others say which volumes may have the room; or empty */
	char volume[SETTINGS_SERVICE_MAX];
	unsigned int place_count;
	char places[SETTINGS_PLACES_MAX][SETTINGS_PLACE_MAX];
};

struct settings {
	/* [vnas] */
	enum settings_mode mode;		  /* mode = master | slave */
	char name[SETTINGS_NAME_MAX];		  /* name = HOSTNAME; default: the host's */
	char serial[SETTINGS_LABEL_MAX];	  /* serial = WD-WX42; default: what the machine's firmware says */
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
	char master[SETTINGS_ADDRESS_MAX];	  /* master = dhcp | ADDRESS: whom to ask to join, without a token (slave) */
	char vendor_class[SETTINGS_LABEL_MAX];	  /* vendor_class = vnas-disk: what it asked DHCP as (slave) */
	bool handoff;				  /* handoff = yes | no: no uses no BPF, all work is relayed */

	/* [fabric] (master) */
	/* first_device = switch | round-robin | weight | least-load | client: of a new connection */
	enum settings_first_device first_device;
	unsigned int flows;			  /* flows = 1000000: entries of the forwarding table */
	int dscp;				  /* dscp = none | 0 to 63, of packets between clients and VIPs; none: -1 */
	bool serve_first;			  /* serve_first = no | yes: they leave the switch before others */

	/* [nfs] */
	uint16_t nfs_port;			  /* port = 2049 */
	enum settings_portmapper portmapper;	  /* portmapper = auto | builtin | rpcbind | none */
	uint64_t memory;			  /* memory = 256M, of all connections together */
	unsigned int data_loops;		  /* data_loops = 0: one per core */

	/* [membership] */
	unsigned int auto_approve_count;	  /* auto_approve = network:10.0.2.0/24+serial:WD-* (master); common/admission.h */
	char auto_approve[SETTINGS_RULES_MAX][SETTINGS_RULE_MAX];
	/* suspect = 2500, down = 5000, flaps = 5, window = 60000, hold = 10000, hold_max = 300000; milliseconds */
	struct member_limits membership;
	uint32_t certificate_life_s;		  /* certificate_life = 1826d: of a device's (master) */
	uint32_t authority_life_s;		  /* authority_life = 3652d: of the cluster's own (master) */

	/* [time] */
	enum settings_correct correct;		  /* correct = auto | no: slew the clock to the master's, if nobody else keeps it */
	unsigned int clock_bound_ms;		  /* bound = 1000: a clock that differs more is said (master) */

	/* [metrics] */
	char metrics[SETTINGS_ADDRESS_MAX];	  /* listen = 127.0.0.1:2051 | off: HTTP, for Prometheus */

	/* [placement] */
	struct placement_policy placement;

	/* [balance] (master) */
	unsigned int busy_percent;		  /* busy = 0: a device that is for some seconds gives sessions away; 0: none does */

	/* [filter] sections, repeated: network = 10.0.0.0/8, services = nfs, portmapper, scp (master) */
	unsigned int filter_count;
	struct settings_filter *filters;	  /* owned */

	/* [automount] (master) */
	enum settings_names names;		  /* names = number | serial: of volumes without a place of their own */

	/* [map] sections, repeated: uuid, serial, node, volume = most-room; places = /home, /projects/a (master) */
	unsigned int map_count;
	struct settings_map *maps;		  /* owned */

	/* [disks] */
	unsigned int device_count;		  /* devices = /dev/sd[b-z], /dev/nvme*; none: all that are hardware */
	char devices[SETTINGS_DEVICES_MAX][SETTINGS_DEVICE_MAX];
	enum settings_format format;		  /* format = ask | empty: without being asked to, if nothing is on it */
	char type[SETTINGS_TYPE_MAX];		  /* type = ext4 | xfs */

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

/* As in the file. */
const char *settings_first_device_name(enum settings_first_device first_device);

/* The options that there are, in the order of the canonical form, for those who document them. False after the last. */
bool settings_option(size_t number, const char **section, const char **key);

/* Does an option count when the file is read again? Others do when vnasd is started anew. @number: as settings_option() */
bool settings_option_is_live(size_t number);

/* Is an option in one other than in the other? For a section that may be repeated: in any of them. @number: as settings_option() */
bool settings_option_differs(size_t number, const struct settings *a, const struct settings *b);

/* Put what is live of @fresh in force; what it was is in @fresh afterwards. */
void settings_take(struct settings *in_force, struct settings *fresh);

#endif
