/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tcp_repair.h - reading a TCP connection out of a socket and making a socket of it again
 *
 * Part of the kernel helper, and the one user of TCP_REPAIR. Knows nothing of packets on their way: the caller has
 * silenced the flow before tcp_repair_freeze(). Orders and traps: ../shared/handoff.md, sections 2, 3 and 5.4.
 *
 * Threads: no shared state.
 */
#ifndef VNAS_COMMON_TCP_REPAIR_H
#define VNAS_COMMON_TCP_REPAIR_H

#include "common/kernel_helper.h"

struct congestion; /* common/congestion.h */

/* Contracts as of the functions of the same name in common/kernel_helper.h. */
int tcp_repair_adopt(int fd, struct kernel_helper_static *out);

int tcp_repair_freeze(int fd, const struct flow_key *flow, const struct kernel_helper_static *fixed,
		      bool keeps_sending, struct kernel_helper_state *out);

int tcp_repair_sketch(int fd, const struct flow_key *flow, const struct kernel_helper_static *fixed,
		      struct kernel_helper_state *out);
int tcp_repair_prepare(const struct kernel_helper_state *sketch, int *fd);

/*
 * @congestion: gives it its congestion window; NULL: it begins with the kernel's
 * @prepared: or -1; closed on failure
 */
int tcp_repair_restore(const struct kernel_helper_state *state, struct congestion *congestion, int prepared, int *fd);

/* What a live socket sends from now on is stamped later than @stamp. Return: 0 or a negative errno value */
int tcp_repair_stamp_after(int fd, uint32_t stamp);

/* Back to life after a freeze, without a packet. Return: 0 or a negative errno value */
int tcp_repair_thaw(int fd);

/*
 * After the thaw, once packets may leave again: send what was refused meanwhile. If nothing is under way, no ACK would
 * set it going, only a timer after a second.
 */
void tcp_repair_push(int fd);

/* See kernel_helper_is_settled(). */
bool tcp_repair_is_settled(int fd, size_t restored_len);

/* End a frozen connection without a packet, whatever else refers to the socket (handoff.md 3.4). Closes @fd. */
void tcp_repair_silence(int fd);

/* End a frozen connection with a RST. Closes @fd. */
void tcp_repair_reset(int fd);

#endif
