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
#include "slave/slave.h"

struct eap_service;
struct fabric;
struct master;
struct sessions;
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
void master_free(struct master *master, bool for_good);

/* Take away what a killed run left in the kernel. */
void master_remove_fabric(const struct settings *settings);

const struct slave_role *master_role(struct master *master);

/* The device's SCP runs: bring up the fabric, tell the tree what this machine has, serve. */
int master_start(struct master *master, struct slave *slave);

/* What the commands (master/commands.c) look at and change. */
struct member {
	bool known, up; /* seen since the start; has a control session */
	uint64_t since_ms; /* monotonic clock, of the last change */
	char reason[128]; /* why it is down */
	char software[64];
	uint32_t capabilities;
	scp_heartbeat beat;
	uint64_t reported_ms; /* monotonic clock, of its last report of sessions */
	bool reconciled; /* its first report of sessions was compared with the fabric */
	bool orphaned;	 /* its flows were taken back */
};

struct namespace *master_ns(struct master *master);
struct vroot *master_vroot(struct master *master);
struct fabric *master_fabric(struct master *master); /* NULL: relaying only */
struct eap_service *master_eap(struct master *master); /* NULL: the same */
struct sessions *master_sessions(struct master *master);
struct slave *master_slave(struct master *master);
const struct settings *master_settings(struct master *master);
const struct member *master_member(struct master *master, uint32_t node);
struct event_base *master_base(struct master *master);

/* The table of sessions, this machine's own brought up to date. */
void master_refresh_sessions(struct master *master);

/* The device that a flow is with, as the fabric has it; else what the sessions say. 0: unknown */
uint32_t master_flow_owner(struct master *master, const struct flow_key *flow, uint32_t otherwise);

/* A volume is offered, by any node. */
void master_offered(struct master *master, uint32_t node, const scp_volume_offer *offer);

/* SCP_RESULT, SCP_HANDOFF_RESULT and SCP_WHY_RESULT go to the commands that wait for them. */
void commands_result(uint32_t node, uint32_t request, const scp_message *message);

/* The commands of nasctl on the master; the last row has no command. */
extern const struct admin_handler master_commands[];

#endif
