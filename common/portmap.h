/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/portmap.h - where programs listen: our own port mapper, or an entry in the system's rpcbind
 *
 * As a program it answers for a fixed table: port mapper version 2 (NULL, GETPORT, DUMP) and rpcbind versions 3 and
 * 4 (NULL, GETADDR, DUMP, GETTIME, GETVERSADDR). SET and UNSET answer "no"; calls on another program's behalf
 * (CALLIT, BCAST, INDIRECT) are not available: they make amplifiers. A universal address is made from the address
 * that the call was sent to, so a client learns the VIP that it knows.
 *
 * Source: RFC 1833.
 *
 * Threads: no shared state, portmap_register() and portmap_unregister() block for at most PORTMAP_WAIT_S.
 */
#ifndef VNAS_COMMON_PORTMAP_H
#define VNAS_COMMON_PORTMAP_H

#include "common/rpc.h"

#include <stdint.h>

enum { PORTMAP_PROGRAM = 100000, PORTMAP_PORT = 111, PORTMAP_WAIT_S = 3 };

#define PORTMAP_RPCBIND_SOCKET "/run/rpcbind.sock"

/* One program that can be reached over one transport. */
struct portmap_row {
	uint32_t program; /* 0 ends the table */
	uint32_t version;
	uint32_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	uint16_t port;
};

/* What a device serves: file service at NFS_PORT and the port mapper, over TCP and UDP. */
extern const struct portmap_row portmap_services[];

/**
 * portmap_program() - the port mapper as a row of an rpc_server
 * @rows:	borrowed as long as the program is used
 */
struct rpc_program portmap_program(const struct portmap_row *rows);

/**
 * portmap_register() - tell the rpcbind of this machine where our programs are
 * @socket_path:	its local socket, PORTMAP_RPCBIND_SOCKET
 * @rows:	the port mapper's own rows are left out
 *
 * Replaces what was registered for these programs and versions. Each row is registered for IPv4 and IPv6.
 *
 * Return: 0; -ENOENT or -ECONNREFUSED if none is running; -EPERM if it refuses; -ETIMEDOUT; -EPROTO
 */
int portmap_register(const char *socket_path, const struct portmap_row *rows);

/* Take it back. Return: as portmap_register() */
int portmap_unregister(const char *socket_path, const struct portmap_row *rows);

#endif
