/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/uplink.h - a disk node and its master
 *
 * The slave's role functions (slave/slave.h): keeps the session with the master, the replica of the name space (also in
 * <state_dir>/replica, so that a node serves while the master is down), the key of EAP datagrams (<state_dir>/eap_key), offers volumes, reports sessions, asks for
 * changes of owner.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_UPLINK_H
#define VNAS_SLAVE_UPLINK_H

#include "slave/slave.h"

struct eap_client_counters;
struct uplink;

enum { UPLINK_REPORT_MS = 1000 };

/* What was asked of the switch over SCP. */
struct uplink_eap_counters {
	uint64_t asked, answered;
	uint64_t answer_us; /* sum of the times from question to answer */
};

/**
 * uplink_new() - find the master and load the replica
 * @ns:		filled from the replica file, if there is one; borrowed for life
 * @master:	"ADDRESS[:PORT]" of the master after joining, kept in <state_dir>/master; NULL: the one kept
 *
 * Return: 0; -ENOENT if no master is known (logged)
 */
int uplink_new(struct event_base *base, const struct settings *settings, struct namespace *ns, const char *master,
	       struct uplink **out);
void uplink_free(struct uplink *uplink);

const struct slave_role *uplink_role(struct uplink *uplink);

/* Start to talk for this device, whose SCP runs. */
int uplink_start(struct uplink *uplink, struct slave *slave);

/* EAP: asked by datagrams (slave/eap_client.h), and over SCP. */
const struct eap_client_counters *uplink_eap_datagrams(const struct uplink *uplink);
const struct uplink_eap_counters *uplink_eap_over_scp(const struct uplink *uplink);

/* What `nasctl status` says on a disk node: whether the master is there. */
bool uplink_is_up(const struct uplink *uplink);

#endif
