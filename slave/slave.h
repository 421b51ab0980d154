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

#include "common/tch.h"
#include "common/namespace.h"
#include "common/placement.h"
#include "common/settings.h"
#include "scp/scp.h"
#include "slave/volumes.h"

struct disks;
struct event_base;
struct examiner;
struct file_service;
struct locks;
struct load;
struct machine;
struct made_volumes;
struct member_life;
struct rpc_call;
struct slave;
struct spread_call;
struct spread_follower;
struct spreads;

/* What the role does for the device. Each gets `arg`. */
struct slave_role {
	/* Ask the switch to give a flow to a node; answered through slave_owner_changed(). */
	void (*change_owner)(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg);

	/* Tell the switch that a node may speak in a flow of this device's soon. */
	void (*announce_owner)(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg);

	/*
	 * Have the authority sign @request for this device; answered through slave_certified(), perhaps before this returns. 0, or negative
	 * errno.
	 */
	int (*ask_certificate)(const char *request, void *arg);

	/* A client's connection was accepted here. May be NULL. */
	void (*on_accept)(int fd, void *arg);

	/* SCP: as in struct scp_handlers; on_message gets what the device does not handle itself. */
	int (*may_join)(uint32_t node, const scp_hello *hello, char *reason, size_t reason_size, void *arg);
	void (*on_up)(uint32_t node, scp_channel channel, const scp_hello *hello, void *arg);
	void (*on_down)(uint32_t node, scp_channel channel, const char *reason, void *arg);
	/* Another device is up, suspect, down or held down now: slave_member(). May be NULL. */
	void (*on_member)(uint32_t node, void *arg);
	void (*on_message)(uint32_t node, uint32_t request, const scp_message *message, void *arg);
	void (*on_enrol)(const scp_message *question, const char *peer, scp_enrol_reply *reply, void *arg);

	/* A volume was added or removed by order (SCP_VOLUME_OPEN, nasctl): offer what is new. */
	void (*on_volumes)(void *arg);

	/* A volume that the master had made is not there any more (slave/made_volumes.h): have it taken out of the tree. */
	void (*on_volume_gone)(const uint8_t uuid[static NS_UUID_BYTES], void *arg);

	/* Takes a call that changes a spread directory. NULL: the master does. */
	void (*change_spread)(struct spread_call *call, void *arg);

	/* The device ends: calls that the role keeps waiting get no answer. May be NULL. */
	void (*on_stop)(void *arg);

	/* This device's disks have changed: disks_describe(). */
	void (*on_disks)(void *arg);
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

/**
 * slave_rest() - the next run of this daemon shall take over the clients' sessions (slave/succession.h)
 * @slave:	NULL: there is none yet
 * @on_rest:	called once, later; then slave_free()
 *
 * Return: 0; a negative errno value if that is not possible: they end with this daemon
 */
int slave_rest(struct slave *slave, void (*on_rest)(void *arg), void *arg);

/* Before the first slave_follow(): no handoffs, because nothing would send a session's packets to another device. */
void slave_keep_sessions(struct slave *slave);

/*
 * The name space is known, or has changed: set up the machine and serve, the first time; open and close volumes, find
 * other devices. 0, or why it can't serve (logged).
 */
int slave_follow(struct slave *slave);

void slave_owner_changed(struct slave *slave, const struct flow_key *flow, uint32_t node, uint16_t transaction);

/* The switch has taken a flow back: tch_taken_back(). */
void slave_flow_taken_back(struct slave *slave, const struct flow_key *flow);

/* All sessions, for a report. @out: freed with xdr_free(). 0; -ENOMEM */
int slave_describe_sessions(struct slave *slave, scp_sessions *out);

/* Close those sessions: somebody else owns their flows. */
void slave_drop_flows(struct slave *slave, const scp_drop_flows *drop);

/* What the authority says to ask_certificate() of the role. */
void slave_certified(struct slave *slave, const scp_certificate *answer);

/* As renewal_order() and renewal_certificate(), slave/renewal.h. */
int slave_renew_certificate(struct slave *slave, void (*on_end)(int result, const char *why, void *arg), void *arg);
const struct certificates_facts *slave_certificate(const struct slave *slave);

struct scp *slave_scp(struct slave *slave);

/* How busy this machine is. */
void slave_load(const struct slave *slave, struct load *out);

/* How another device fares. Never NULL. */
const struct member_life *slave_member(const struct slave *slave, uint32_t node);
struct volumes *slave_volumes(struct slave *slave);
struct disks *slave_disks(struct slave *slave);
struct examiner *slave_examiner(struct slave *slave);
struct made_volumes *slave_made_volumes(struct slave *slave);
struct spreads *slave_spreads(struct slave *slave);
struct spread_follower *slave_spread_follower(struct slave *slave);

/* Have the device that owns its volume answer a call: another one, or this one, as if another had relayed it. As relay_call() */
void slave_carry(struct slave *slave, uint32_t node, struct rpc_call *call);

/* The master has removed a volume of this device: it is not offered any more, its files stay. -ENOENT */
int slave_forget_volume(struct slave *slave, const uint8_t uuid[static NS_UUID_BYTES]);
struct tch *slave_tch(struct slave *slave);

/* Hand a session of this device off as ordered; `special` 0 is a full handoff. @on_done: called unless an error was returned */
int slave_handoff(struct slave *slave, const scp_special_order *order, tch_done_fn on_done, void *arg);

/* Why a session of this device is here: the policy's figures of it now. Points into itself and to static text. */
struct slave_why {
	scp_why_result result; /* ENOENT: no such session here */
	scp_finding findings[PLACEMENT_NCRITERIA];
};

void slave_why(struct slave *slave, uint64_t session, struct slave_why *out);

/* session_look() for a session of this device */
void slave_session_look(struct slave *slave, uint64_t session, scp_session_facts *out);
const struct placement_policy *slave_policy(const struct slave *slave);
struct conn_server *slave_conns(struct slave *slave);
struct conn_memory_counters slave_memory(struct slave *slave);
/* Around a change of what data loops read, the settings for one: none of their callbacks runs in between. */
void slave_pause(struct slave *slave);
void slave_continue(struct slave *slave);
struct file_service_counters slave_file_counters(struct slave *slave);
struct conn_totals;
void slave_tcp_totals(struct slave *slave, struct conn_totals *out);
struct file_service *slave_files(struct slave *slave);
struct locks *slave_locks(struct slave *slave);
struct kernel_helper *slave_kernel_helper(struct slave *slave);
struct machine *slave_machine(struct slave *slave);
uint32_t slave_self(const struct slave *slave);

/* scp_flow to flow_key and back. */
void slave_flow_to_wire(const struct flow_key *flow, scp_flow *wire);
void slave_flow_from_wire(const scp_flow *wire, struct flow_key *flow);

#endif
