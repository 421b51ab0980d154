/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/handoff.h - moving sessions between devices
 *
 * The shell around the TCH state machine (common/tch.h): performs what a step asks for, on connections (common/conn.h) and in
 * the kernel (common/kernel_helper.h), and feeds the results back as events. Also keeps the flows that this device
 * still relays after it gave them away, and asks the switch (EAP) until it has confirmed the change of owner.
 *
 * Knows no role: how a message reaches another device and how the switch is asked come as functions.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_HANDOFF_H
#define VNAS_COMMON_HANDOFF_H

#include "common/conn.h"
#include "common/tch.h"

#include <stddef.h>
#include <stdint.h>

struct event_base;
struct handoffs;

enum {
	HANDOFF_GRACE_MS = 5000,
	HANDOFF_ASK_MS = 1000,
	/*
	 * Longest wait for kernel_helper_is_settled(). A restored socket sends the last lost packet again after 1 s and the
	 * others 3 s later; if it were moved sooner, they would begin to wait anew.
	 */
	HANDOFF_SETTLE_MS = 8000,
	HANDOFF_SETTLE_POLL_MS = 5,
};

struct handoff_functions {
	/* Send to a device. 0; -ENOTCONN */
	int (*send)(uint32_t node, const struct tch_message *message, void *arg);

	/* May a session be handed to this device, and where is it? 0; -EHOSTDOWN, -EOPNOTSUPP */
	int (*find_node)(uint32_t node, uint8_t mac[static 6], unsigned int *ifindex, void *arg);

	/*
	 * Ask the switch to give the flow to @node. @transaction counts the session's handoffs. Answered, now or later, or
	 * never, through handoffs_confirmed().
	 */
	void (*change_owner)(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg);

	/*
	 * Tell the switch that @node may speak in the flow soon, before it is the owner. Not answered, nor waited for. May be
	 * NULL.
	 */
	void (*announce_owner)(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg);
};

struct handoffs_options {
	struct event_base *base;
	uint32_t self;
	struct kernel_helper *helper; /* NULL: this device makes and takes no handoffs */
	struct conn_server *conns;
	struct loops *loops; /* of the connections: paused by all that looks at one; NULL: there are none */
	const struct handoff_functions *functions;
	void *arg;
};

struct handoff_counters {
	uint64_t given, taken, failed, reset;
	uint64_t last_us, sum_us; /* freeze to acknowledgment, of those given */
};

struct handoffs *handoffs_new(const struct handoffs_options *options);
void handoffs_free(struct handoffs *handoffs);

/* How a handoff ended: @result 0 or a negative errno value; @duration_us from freeze to acknowledgment. */
typedef void (*handoff_done_fn)(uint64_t session, uint32_t node, int result, uint32_t duration_us, void *arg);

/**
 * handoff_start() - hand a session of this device off
 * @on_done:	called once unless an error was returned; may be NULL
 *
 * Begins at once; or when the session has arrived here, if it is just being handed to this device; or when packets to the
 * client that were lost have been sent again (kernel_helper_is_settled()).
 *
 * Return: 0; -ENOENT (no such session here), -EALREADY (being handed off), -EOPNOTSUPP (no kernel helper here or there,
 * or the connection can't be moved), -EHOSTDOWN (no session with that device), -EINVAL (it is this device)
 */
int handoff_start(struct handoffs *handoffs, uint64_t session, uint32_t node, handoff_done_fn on_done, void *arg);

/* A message of the protocol came from a device. */
void handoffs_received(struct handoffs *handoffs, uint32_t node, const struct tch_message *message);

/* The session with a device is gone. */
void handoffs_node_lost(struct handoffs *handoffs, uint32_t node);

/* A connection of this device has closed. */
void handoffs_conn_closed(struct handoffs *handoffs, uint64_t session);

/* The switch has changed the flow's owner as asked, or knows of a later one. An answer to an earlier question is ignored. */
void handoffs_confirmed(struct handoffs *handoffs, const struct flow_key *flow, uint32_t node, uint16_t transaction);

const struct handoff_counters *handoffs_counters(const struct handoffs *handoffs);

#endif
