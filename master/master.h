/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/master.h - the switch's own part
 *
 * Owns the virtual root, the fabric, the members and the table of sessions, and gives the device that runs on the same
 * machine (slave/slave.h) its role. Every change of the name space goes out from here.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_MASTER_H
#define VNAS_MASTER_MASTER_H

#include "common/admin.h"
#include "master/fabric.h"
#include "slave/slave.h"

struct automount;
struct making;
struct chronicle;
struct spreading;
struct draining;
struct eap_service;
struct examining;
struct fabric;
struct first_device;
struct issuing;
struct joining;
struct load;
struct master;
struct sessions;
struct shifting;
struct top;
struct vroot;

/* Where a new cluster's files are, below <state_dir>. */
#define MASTER_DATABASE "vroot.sqlite"

/**
 * master_create_cluster() - `nasctl cluster init`
 * @why:	out: on failure a sentence, at least 256 bytes
 *
 * Return: 0; -EEXIST if this machine is in a cluster already
 */
int master_create_cluster(const struct settings *settings, const char *name, char *why, size_t why_size);

/* Load the virtual root into @ns. -ENOENT: no cluster here (logged, with what to do). */
int master_new(struct event_base *base, const struct settings *settings, struct namespace *ns, struct master **out);

/* The last event of this run: what is undone from here on is none. Then slave_free() and master_free(). NULL is allowed. */
void master_stopping(struct master *master, bool for_good);
void master_free(struct master *master, bool for_good);

/* Take away what a killed run left in the kernel. */
void master_remove_fabric(const struct settings *settings);

/* Put the filters of @settings in force, and no others. 0; -EOPNOTSUPP without a fabric; what the kernel said, logged */
int master_set_filters(struct master *master, const struct settings *settings);

/*
 * Could the [map] sections of @settings be in force? As automount_check(). Then, when the master's own settings have them:
 * master_follow_maps().
 */
int master_check_maps(struct master *master, const struct settings *settings, char *why);
void master_follow_maps(struct master *master);

const struct slave_role *master_role(struct master *master);

/* The device's SCP runs: bring up the fabric, tell the tree what this machine has, serve. */
int master_start(struct master *master, struct slave *slave);

/* What the commands (master/commands.c) look at and change. */
struct member {
	bool known, up; /* seen since the start; has a control session. How it fares is slave_member()'s */
	uint64_t since_ms; /* monotonic clock, of the last change */
	char software[64];
	uint32_t capabilities;
	scp_heartbeat beat;
	uint64_t reported_ms; /* monotonic clock, of its last report of sessions */
	bool clock_is_off; /* by more than [time] bound, and was not well below it since */
	bool reconciled; /* its first report of sessions was compared with the fabric */
	bool orphaned;	 /* its flows were taken back, or are just being */
	struct {
		bool is_under_way;
		struct fabric_walk walk;
		uint64_t away_ms; /* when it began */
		unsigned int flows, failed;
		int error; /* the last one's */
	} taking_back;
};

struct namespace *master_ns(struct master *master);
struct vroot *master_vroot(struct master *master);
struct automount *master_automount(struct master *master);
struct spreading *master_spreading(struct master *master);
struct making *master_making(struct master *master);
scp_disks *master_disks(struct master *master, uint32_t node); /* as the device said last */
struct fabric *master_fabric(struct master *master); /* NULL: relaying only */
struct eap_service *master_eap(struct master *master); /* NULL: the same */
struct sessions *master_sessions(struct master *master);
struct chronicle *master_chronicle(struct master *master);
struct top *master_top(struct master *master);
struct draining *master_draining(struct master *master);
struct first_device *master_first_device(struct master *master);
struct issuing *master_issuing(struct master *master);
struct shifting *master_shifting(struct master *master);
struct examining *master_examining(struct master *master);
struct joining *master_joining(struct master *master);
struct slave *master_slave(struct master *master);
const struct settings *master_settings(struct master *master);
const struct member *master_member(struct master *master, uint32_t node);
/* How busy a node is, as it last said; of one that is not up, or too old to say: NULL */
const struct load *master_load(struct master *master, uint32_t node);
struct event_base *master_base(struct master *master);

/* May this disk node get what others could do as well: sessions, new connections? */
bool master_gets_work(struct master *master, uint32_t node);

/* After a change of that: tell the fabric. */
void master_assign_connections(struct master *master);

/* Does this device get clients' new connections, as things are now? */
bool master_takes_connections(struct master *master, uint32_t node);

/* The table of sessions, this machine's own brought up to date. */
void master_refresh_sessions(struct master *master);

/* The device that a flow is with, as the fabric has it; else what the sessions say. 0: unknown */
uint32_t master_flow_owner(struct master *master, const struct flow_key *flow, uint32_t otherwise);

/* A volume is offered, by any node. */
void master_offered(struct master *master, uint32_t node, const scp_volume_offer *offer);

/* SCP_RESULT, SCP_HANDOFF_RESULT and SCP_WHY_RESULT go to the commands that wait for them. */
void commands_result(uint32_t node, uint32_t request, const scp_message *message);

/* The commands that wait for a node won't be answered by it any more. */
void commands_node_lost(uint32_t node);

/* The commands of nasctl on the master; the last row has no command. */
extern const struct admin_handler master_commands[];

#endif
