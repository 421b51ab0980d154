/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/session_look.h - what the device that has a session can tell of its connection
 *
 * TCP's counters since the client connected, on all devices that had the session; the socket's congestion window as it is now; what came
 * along with the last handoff; and whether another one is under way.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_SESSION_LOOK_H
#define VNAS_SLAVE_SESSION_LOOK_H

#include "scp/scp_xdr.h"

struct conn_server;
struct loops;
struct tch;

/**
 * session_look() - a session of this device
 * @tch:	NULL: there are no handoffs
 * @out:	out: borrows static text; result: ENOENT if it is not here
 */
void session_look(struct conn_server *conns, struct loops *loops, struct tch *tch, uint64_t session,
		  scp_session_facts *out);

#endif
