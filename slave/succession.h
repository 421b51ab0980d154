/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/succession.h - clients' sessions outlive a restart of the daemon
 *
 * A daemon that is about to be restarted (a new version is installed, say) brings its connections to rest, as before a handoff,
 * writes down what it holds of each, and gives that and the sockets to systemd, which gives them to the next daemon. The
 * kernel acknowledges and keeps meanwhile what clients send.
 *
 *	old	succession_begin() ... on_rest() ... succession_leave()
 *	new	succession_enter()
 *
 * What does not rest in time (a call that waits for a disk, a session that is being handed off) is closed, as all are without systemd.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_SUCCESSION_H
#define VNAS_SLAVE_SUCCESSION_H

#include <stddef.h>
#include <stdint.h>

struct conn_server;
struct event_base;
struct loops;
struct succession;

enum {
	SUCCESSION_REST_MS = 2000,
	SUCCESSION_SESSIONS_MAX = 16384, /* FileDescriptorStoreMax= in systemd/vnas.service.in is that, one, and LISTENERS_MAX */
};

/**
 * succession_begin() - let the calls in progress end, and begin no others
 * @conns:	borrowed for life
 * @loops:	the data loops that the connections are in, borrowed for life; NULL: there are none
 * @on_rest:	called once, later: all rest, or SUCCESSION_REST_MS are over
 *
 * Return: 0; -ENOTCONN if nobody would keep the sockets; -ENOMEM
 */
int succession_begin(struct event_base *base, struct conn_server *conns, struct loops *loops, void (*on_rest)(void *arg), void *arg,
		     struct succession **out);

/* Give away what rests. Return: how many sessions; a negative errno value if they can't be kept: they are closed then, or with the rest */
int succession_leave(struct succession *succession);

/* NULL is allowed. */
void succession_free(struct succession *succession);

/* Take up what an earlier daemon has left, if it has. The data loops are paused meanwhile. Logs how many. */
void succession_enter(struct conn_server *conns, struct loops *loops);

/* What is written down of one session. Of both, `flow` and `fixed` are of the kernel's part, the rest of the server's. */
struct tch_carried;
struct tch_session;

enum { SUCCESSION_RECORD_FIXED = 24 }; /* beside options, input and output */

/* Bytes that succession_encode() writes at most. */
size_t succession_encoded_max(const struct tch_carried *carried);

/* Return: bytes; -ENOSPC */
long succession_encode(const struct tch_session *session, const struct tch_carried *carried, uint8_t *out, size_t room);

/**
 * succession_decode() - and back
 * @carried:	out: its input and output point into @bytes
 *
 * Return: bytes read; -EBADMSG: it is not what succession_encode() writes
 */
long succession_decode(const uint8_t *bytes, size_t len, struct tch_session *session, struct tch_carried *carried);

#endif
