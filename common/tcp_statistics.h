/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tcp_statistics.h - what TCP counts, of one connection and of many
 *
 * Those of RFC 1213's counters (MIB-II, group tcp) that belong to connections. Each socket of a connection counts for itself; a
 * session that moves takes along what its earlier sockets have counted, so that one device has all of it.
 *
 * Threads: no shared state.
 */
#ifndef VNAS_COMMON_TCP_STATISTICS_H
#define VNAS_COMMON_TCP_STATISTICS_H

#include <stdbool.h>
#include <stdint.h>

struct tcp_info; /* linux/tcp.h */

struct tcp_statistics {
	uint64_t segments_in, segments_out, segments_retransmitted; /* tcpInSegs, tcpOutSegs with the others, tcpRetransSegs */
	uint64_t bytes_in, bytes_out; /* that came in order; that the client has acknowledged */
};

void tcp_statistics_from(const struct tcp_info *info, struct tcp_statistics *out);

/**
 * tcp_statistics_read() - of a socket, since it was made
 * @fd:		a TCP socket
 * @out:	out: zeros if the kernel does not say
 *
 * Return: whether the connection has been reset or has timed out
 */
bool tcp_statistics_read(int fd, struct tcp_statistics *out);

void tcp_statistics_add(struct tcp_statistics *sum, const struct tcp_statistics *more);

/* @sum must have @less in it. */
void tcp_statistics_subtract(struct tcp_statistics *sum, const struct tcp_statistics *less);

#endif
