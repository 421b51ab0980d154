/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/listeners.h - who connects while the daemon is restarted waits, and is not refused
 *
 * Beside clients' sessions (slave/succession.h) a daemon that is about to be restarted gives systemd the sockets at which it
 * listens. The kernel goes on taking connections there, and the next daemon, which listens at the same addresses, finds them.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_LISTENERS_H
#define VNAS_SLAVE_LISTENERS_H

#include <stddef.h>
#include <sys/socket.h>

struct conn_server;
struct listeners;

enum { LISTENERS_MAX = 16 }; /* FileDescriptorStoreMax= in systemd/vnas.service.in counts them */

/**
 * listeners_leave() - give away the sockets of these servers
 * @servers:	they have stopped accepting; NULL among them is allowed
 *
 * Return: 0; a negative errno value if nobody keeps them: clients are refused then
 */
int listeners_leave(struct conn_server *const *servers, size_t count);

/* What the daemon before has left. NULL: nothing */
struct listeners *listeners_inherit(void);

/* The socket that listens at just this address; the caller's now. -1: there is none */
int listeners_take(struct listeners *listeners, const struct sockaddr *address);

/* Closes those that nobody has taken. NULL is allowed. */
void listeners_free(struct listeners *listeners);

#endif
