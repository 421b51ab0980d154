/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/locks.h - NLM and NSM of a device
 *
 * Puts common/nlm.h and common/nsm.h together with what they need of the cluster. The locks of a volume are in the memory
 * of the device that has it, and so are its records of clients, in <state_dir>/nsm. Clients know none of that: to them
 * there is one server, at the VIP. So
 *
 * - calls to clients are sent by the switch: its own, and those that other devices ask it for (SCP_CLIENT_CALL); the others'
 *   wait for LOCKS_ANSWER_MS at most;
 * - who hears that a client has restarted tells all devices that have volumes (SCP_CLIENT_REBOOTED), and answers the client
 *   only if there was a way to each of them: the client says it again for minutes.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_LOCKS_H
#define VNAS_SLAVE_LOCKS_H

#include "common/namespace.h"
#include "common/nlm.h"
#include "common/nsm.h"
#include "scp/scp.h"

enum { LOCKS_TICK_MS = 1000, LOCKS_ANSWER_MS = 20000, LOCKS_CALLS_MAX = 1024 };

struct event_base;
struct file_service;
struct locks;
struct workers;

struct locks_options {
	struct event_base *base;
	const struct namespace *ns; /* borrowed for life */
	struct file_service *files; /* borrowed for life */
	struct workers *workers;    /* borrowed for life */
	const char *state_dir;
	uint32_t self;
	bool is_switch;
};

/* 0; -ENOMEM, or what the file system said (logged) */
int locks_new(const struct locks_options *options, struct locks **out);

/* No call comes any more: carry out those that are with a thread. After the file service's workers have ended. */
void locks_drain(struct locks *locks);

void locks_free(struct locks *locks);

/* The sessions; borrowed. NULL: none any more. */
void locks_set_scp(struct locks *locks, struct scp *scp);

/* NLM and NSM, to be put into an rpc_server. */
struct rpc_program locks_nlm_program(struct locks *locks);
struct rpc_program locks_nsm_program(struct locks *locks);

/* The name space has changed, and volumes with it. */
void locks_follow(struct locks *locks);

/* SCP_CLIENT_CALL, SCP_CLIENT_ANSWER and SCP_CLIENT_REBOOTED as they come. */
void locks_received(struct locks *locks, uint32_t node, uint32_t request, const scp_message *message);

/* The control session with a device is gone. */
void locks_node_lost(struct locks *locks, uint32_t node);

const struct nlm *locks_nlm(const struct locks *locks);
const struct nsm *locks_nsm(const struct locks *locks);

#endif
