/* SPDX-License-Identifier: (GPL-3.0-or-later OR BSD-2-Clause OR GPL-2.0) */
/*
 * common/flow.h - flows, as BPF programs and user space both see them
 *
 * A flow is one client transport session: protocol, client address and port, VIP and port. The maps keyed by it are
 * the switch's forwarding table (fabric) and every device's node table (kernel helper). Fixed-width fields only;
 * static assertions in common/flow.c tie the sizes.
 *
 * IPv4 addresses are kept IPv4-mapped (::ffff:a.b.c.d) so that one key serves both families. All addresses and ports
 * are in network byte order.
 */
#ifndef VNAS_COMMON_FLOW_H
#define VNAS_COMMON_FLOW_H

#ifdef __bpf__
#include <linux/types.h>
#else
#include <linux/types.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#endif

struct flow_key {
	__u8 client[16];
	__u8 vip[16];
	__be16 client_port;
	__be16 vip_port;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 zero[3];
};

#ifndef __bpf__
enum { FLOW_TEXT_MAX = 120, FLOW_ADDRESS_MAX = 46 };

/**
 * flow_from_sockets() - the key of a connection
 * @client:	the peer's address (getpeername)
 * @vip:	our address (getsockname)
 * @protocol:	IPPROTO_TCP or IPPROTO_UDP
 * @out:	out
 *
 * Return: 0; -EAFNOSUPPORT if an address is neither IPv4 nor IPv6
 */
int flow_from_sockets(const struct sockaddr_storage *client, const struct sockaddr_storage *vip, uint8_t protocol,
		      struct flow_key *out);

/* An address as in a flow's key, without its port. 0; -EAFNOSUPPORT */
int flow_address(const struct sockaddr_storage *address, uint8_t out[static 16]);

/* The two ends of a flow as socket addresses; an IPv4-mapped address becomes AF_INET again. */
void flow_to_sockets(const struct flow_key *flow, struct sockaddr_storage *client, struct sockaddr_storage *vip);

/* "tcp 10.0.0.2:801-10.0.0.1:2049", for logs and nasctl. Returns @text. */
const char *flow_text(const struct flow_key *flow, char text[static FLOW_TEXT_MAX]);

/* "10.0.0.2", "fd00::1". Returns @text. */
const char *flow_address_text(const __u8 address[static 16], char text[static FLOW_ADDRESS_MAX]);

/* For tables of flows (FNV-1a). Clients can make theirs collide: what they may put into a table is bounded. */
uint32_t flow_hash(const struct flow_key *flow);

/* Whether the flow's addresses are IPv4. */
int flow_is_ipv4(const struct flow_key *flow);
#endif

#endif
