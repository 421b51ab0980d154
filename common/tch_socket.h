/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tch_socket.h - what a server has told a socket and the next device's has to be told, too
 *
 * Threads: no shared state.
 */
#ifndef VNAS_COMMON_TCH_SOCKET_H
#define VNAS_COMMON_TCH_SOCKET_H

#include "common/tch.h"

/* Type of service, or traffic class. Return: 0 to 255; a negative errno value */
int tch_socket_iptos(int fd, const struct flow_key *flow);
int tch_socket_set_iptos(int fd, const struct flow_key *flow, uint8_t tos);

/* @out: out: untouched on failure. What is 0 in @timers stays as it is. Return: 0; a negative errno value */
int tch_socket_timers(int fd, struct tch_timers *out);
int tch_socket_set_timers(int fd, const struct tch_timers *timers);

/* Both; 0 for what can't be read. */
void tch_socket_look(int fd, const struct flow_key *flow, uint8_t *iptos, struct tch_timers *timers);

#endif
