/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/packet_orders.h - the order of packets in flows that have just come to this device
 *
 * For a while a client's packets arrive by two ways: the old owner still relays some, the switch sends later ones
 * directly. The node program (common/node.bpf.c, ORDER) lets in what follows what has come in, and parks the rest; this
 * module writes those back, in the order of their bytes, when the missing ones have come. Packets that were lost before
 * they got here are not waited for longer than PACKET_ORDER_PATIENCE_MS: TCP has to know of the gap.
 *
 * Part of the kernel helper. Threads: the control loop's.
 */
#ifndef VNAS_COMMON_PACKET_ORDERS_H
#define VNAS_COMMON_PACKET_ORDERS_H

#include "common/flow.h"

#include <stdint.h>

struct event_base;
struct packet_orders;
struct park;

/* How long a flow is put in order after it came, and how long a packet waits for its turn. */
enum { PACKET_ORDER_MS = 1000, PACKET_ORDER_PATIENCE_MS = 20 };

/**
 * packet_orders_new()
 * @base, @park: borrowed for its life
 * @flows_fd:	the node program's map of flows
 * @command_fd:	node_command()
 * @out:	out: untouched on failure
 *
 * Return: 0; -ENOMEM
 */
int packet_orders_new(struct event_base *base, struct park *park, int flows_fd, int command_fd,
		      struct packet_orders **out);

/* Entries of flows stay in the map. NULL is allowed. */
void packet_orders_free(struct packet_orders *orders);

/**
 * packet_orders_start() - put a flow in order from now on; replaces its entry in the map
 * @next_sequence: the first byte that its socket has not received (host byte order)
 *
 * Return: 0; -ENOMEM or what the kernel said: then nothing has changed
 */
int packet_orders_start(struct packet_orders *orders, const struct flow_key *flow, uint32_t next_sequence);

/*
 * The same for a flow that is here already, with an entry that knows what has come in (HALF). Return: 0; -ENOENT if it has no entry
 * (any more); or as above
 */
int packet_orders_adopt(struct packet_orders *orders, const struct flow_key *flow);

/* What was parked comes in, then all later packets as they come; removes the entry. No order is no error. */
void packet_orders_end(struct packet_orders *orders, const struct flow_key *flow);

/* Think of the flow no more. What is parked of it, and its entry, are the caller's affair. */
void packet_orders_forget(struct packet_orders *orders, const struct flow_key *flow);

/* Packets were taken out of the ring: see whose turn it is. */
void packet_orders_check(struct packet_orders *orders);

#endif
