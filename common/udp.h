/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/udp.h - ONC RPC over UDP
 *
 * One datagram is one record. A reply leaves from the address that its call was sent to: a client takes no other.
 * Replies may come later, up to UDP_CALLS_MAX at a time; calls beyond that, and replies that don't fit a datagram,
 * are dropped and counted: UDP clients ask again.
 *
 * Ownership: the server owns its calls until they are done. After udp_server_free() calls that are still out are
 * done in silence, and the last frees what is left.
 * Threads: the loop's.
 */
#ifndef VNAS_COMMON_UDP_H
#define VNAS_COMMON_UDP_H

#include "common/rpc.h"

#include <stdint.h>
#include <sys/socket.h>

enum { UDP_CALLS_MAX = 256, UDP_DATAGRAM_MAX = 65507 };

struct event_base;
struct udp_server;

struct udp_counters {
	uint64_t received, sent, dropped_busy, dropped_long, dropped_unsent;
};

/**
 * udp_server_new() - serve an address
 * @base:	the loop; borrowed
 * @address:	address and port; a wildcard serves every address of its family (:: not those of IPv4)
 * @rpc:	borrowed for life
 * @out:	out: untouched on failure
 *
 * Return: 0; -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -ENOMEM, ...
 */
int udp_server_new(struct event_base *base, const struct sockaddr *address, socklen_t address_len,
		   struct rpc_server *rpc, struct udp_server **out);

void udp_server_free(struct udp_server *server);

const struct udp_counters *udp_server_counters(const struct udp_server *server);

/* The address it is bound to; its port if that was left to the kernel. */
const struct sockaddr_storage *udp_server_address(const struct udp_server *server);

#endif
