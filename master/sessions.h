/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/sessions.h - what the switch knows of the clients' sessions
 *
 * A table by flow, filled by the devices' reports and by changes of owner. A session's count of handoffs orders what is said of
 * it: an older word never undoes a newer one.
 *
 * Ownership: entries are borrowed until the next change of the table.
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_SESSIONS_H
#define VNAS_MASTER_SESSIONS_H

#include "common/flow.h"
#include "scp/scp_xdr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sessions;

struct session_entry {
	struct flow_key flow;
	uint32_t node;
	scp_session info; /* as last reported; id 0: not yet */
};

struct sessions *sessions_new(void);
void sessions_free(struct sessions *sessions);

/* All sessions of a device: replaces what it said before. Takes the contents of @report. 0; -ENOMEM */
int sessions_report(struct sessions *sessions, uint32_t node, scp_sessions *report);

/* Is a later handoff of the flow known than number @transaction of its session? */
bool sessions_is_late(struct sessions *sessions, const struct flow_key *flow, uint16_t transaction);

/* A handoff, number @transaction of its session, moved the flow. 0; -ESTALE: a later one is known; -ENOMEM */
int sessions_moved(struct sessions *sessions, const struct flow_key *flow, uint32_t node, uint16_t transaction);

/* How many handoffs there were, of all sessions since the table was made. */
uint64_t sessions_moves(const struct sessions *sessions);

/* The flow starts anew: a client uses its port again. */
void sessions_forget(struct sessions *sessions, const struct flow_key *flow);

/* The device is gone, and its sessions with it. */
void sessions_forget_node(struct sessions *sessions, uint32_t node);

/* Whether a session of this flow is known to be with the device. */
bool sessions_is_with(struct sessions *sessions, const struct flow_key *flow, uint32_t node);

/* Whether any session is known to be with the device. */
bool sessions_any_with(const struct sessions *sessions, uint32_t node);

/* The id of the flow's session, as last reported. 0: none */
uint64_t sessions_id(struct sessions *sessions, const struct flow_key *flow);

/* The device that the flow's session was last said to be with. 0: none */
uint32_t sessions_holder(struct sessions *sessions, const struct flow_key *flow);

const struct session_entry *sessions_find(const struct sessions *sessions, uint64_t id);
void sessions_visit(const struct sessions *sessions, void (*visit)(const struct session_entry *entry, void *arg),
		    void *arg);

#endif
