/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/slave.h - a device that serves files
 *
 * Puts together what a device is, on a disk node and on the switch alike: connections, file service, volumes, relay,
 * handoffs, the kernel helper, and SCP. What differs by role comes as a table of functions: on a disk node
 * slave/uplink.h asks the master over SCP, on the switch master/master.h is at hand.
 *
 * Ownership: the slave owns its parts; what an accessor returns is borrowed.
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_SLAVE_H
#define VNAS_SLAVE_SLAVE_H

#include "common/handoff.h"
#include "common/namespace.h"
#include "common/placement.h"
#include "common/settings.h"
#include "scp/scp.h"
#include "slave/volumes.h"

struct event_base;
struct file_service;
struct locks;
struct machine;
struct slave;

/* What the role does for the device. Each gets `arg`. */
struct slave_role {
	/* Ask the switch to give a flow to a node; answered through slave_owner_changed(). */
	void (*change_owner)(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg);

	/* Tell the switch that a node may speak in a flow of this device's soon. */
	void (*announce_owner)(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg);

	/* A client's connection was accepted here. May be NULL. */
	void (*on_accept)(int fd, void *arg);

	/* SCP: as in struct scp_handlers; on_message gets what the device does not handle itself. */
	int (*may_join)(uint32_t node, const scp_hello *hello, char *reason, size_t reason_size, void *arg);
	void (*on_up)(uint32_t node, scp_channel channel, const scp_hello *hello, void *arg);
	void (*on_down)(uint32_t node, scp_channel channel, const char *reason, void *arg);
	void (*on_message)(uint32_t node, uint32_t request, const scp_message *message, void *arg);
	void (*on_enrol)(const scp_enrol *enrol, const char *peer, scp_enrol_reply *reply, void *arg);

	/* A volume was added or removed by order (SCP_VOLUME_OPEN, nasctl): offer what is new. */
	void (*on_volumes)(void *arg);
	void *arg;
};

struct slave_options {
	struct event_base *base;
	const struct settings *settings; /* borrowed for life */
	struct namespace *ns;		 /* borrowed for life */
	uint32_t self;
	uint8_t cluster[16];
	const struct slave_role *role;
};

/* Opens the volumes of the state file and the configuration. Nothing listens yet. */
int slave_new(const struct slave_options *options, struct slave **out);

/* @for_good: undo what was changed on this machine. */
void slave_free(struct slave *slave, bool for_good);

/* Take away what a killed run left in the kernel: programs, maps, the parking TAP. */
void slave_remove_kernel_helper(struct event_base *base, const struct settings *settings);

/* Listen for other devices and hold sessions with them. -EADDRINUSE, ... (logged) */
int slave_start_scp(struct slave *slave);

/* Before the first slave_follow(): no handoffs, because nothing would send a session's packets to another device. */
void slave_keep_sessions(struct slave *slave);

/*
 * The name space is known, or has changed: set up the machine and serve, the first time; open and close volumes, find
 * other devices. 0, or why it can't serve (logged).
 */
int slave_follow(struct slave *slave);

void slave_owner_changed(struct slave *slave, const struct flow_key *flow, uint32_t node, uint16_t transaction);

/* All sessions, for a report. @out: freed with xdr_free(). 0; -ENOMEM */
int slave_describe_sessions(struct slave *slave, scp_sessions *out);

/* Close those sessions: somebody else owns their flows. */
void slave_drop_flows(struct slave *slave, const scp_drop_flows *drop);

struct scp *slave_scp(struct slave *slave);
struct volumes *slave_volumes(struct slave *slave);
struct handoffs *slave_handoffs(struct slave *slave);

/* Why a session of this device is here: the policy's figures of it now. Points into itself and to static text. */
struct slave_why {
	scp_why_result result; /* ENOENT: no such session here */
	scp_finding findings[PLACEMENT_NCRITERIA];
};

void slave_why(struct slave *slave, uint64_t session, struct slave_why *out);
const struct placement_policy *slave_policy(const struct slave *slave);
struct conn_server *slave_conns(struct slave *slave);
struct conn_memory_counters slave_memory(struct slave *slave);
struct file_service_counters slave_file_counters(struct slave *slave);
struct file_service *slave_files(struct slave *slave);
struct locks *slave_locks(struct slave *slave);
struct kernel_helper *slave_kernel_helper(struct slave *slave);
struct machine *slave_machine(struct slave *slave);
uint32_t slave_self(const struct slave *slave);

/* scp_flow to flow_key and back. */
void slave_flow_to_wire(const struct flow_key *flow, scp_flow *wire);
void slave_flow_from_wire(const scp_flow *wire, struct flow_key *flow);

#endif
