/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/bare_ack.h - an acknowledgment that no socket of ours sends
 *
 * For what the kernel can't be asked to say: the acknowledgment that a frozen connection still owed its client, and the
 * one that wakes up a client whose device fell silent (master/tickle.h). From the VIP, by a raw socket that sends whole datagrams:
 * such a one receives nothing, so it may stay open (raw(7), IPPROTO_RAW).
 *
 * Threads: whose the sockets are.
 */
#ifndef VNAS_COMMON_BARE_ACK_H
#define VNAS_COMMON_BARE_ACK_H

#include "common/flow.h"

#include <stdbool.h>

/* Host byte order. */
struct bare_ack {
	uint32_t sequence, acknowledgment;
	uint16_t window; /* as on the wire: scaled */
	bool resets; /* it is a RST, too */
	bool has_timestamps;
	uint32_t timestamp; /* its echo is 0, as a restored socket's is at first */
};

/* Of one network namespace. */
struct bare_ack_sockets {
	int ipv4, ipv6; /* -1: was not needed yet */
};

#define BARE_ACK_NO_SOCKETS ((struct bare_ack_sockets){ .ipv4 = -1, .ipv6 = -1 })

/**
 * bare_ack_send() - send it to the client of a flow
 * @sockets:	BARE_ACK_NO_SOCKETS at first; made as needed
 *
 * Return: 0, whether or not it arrives; -EAFNOSUPPORT if the flow is not TCP; -EPERM without CAP_NET_RAW; -EINVAL
 * if the VIP is not here
 */
int bare_ack_send(struct bare_ack_sockets *sockets, const struct flow_key *flow, const struct bare_ack *ack);

/* Closes them. May be called twice. */
void bare_ack_sockets_fini(struct bare_ack_sockets *sockets);

#endif
