/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/conn.h - clients' TCP connections
 *
 * A connection reads records, has each answered by an rpc_server, and writes the replies in whatever order they come.
 * Everything that is needed to continue it elsewhere is in it and can be taken out (conn_export()) and put in
 * again on another device (conn_import()): that, with what the kernel knows (common/kernel_helper.h), is a session.
 *
 *	            conn_quiesce()            last call answered
 *	   SERVING -----------------> QUIESCING ------------------> QUIET --> conn_surrender() at the commit point
 *	      ^                           |                           |
 *	      +---------------------------+------ conn_resume() ------+
 *
 * Before it goes, a QUIET connection writes out what it has to say (conn_write_out()), a client willing.
 *
 * While another device has one half of a connection (the source's Fig. 7 and 8):
 *
 *	first device:	QUIET --conn_drain()--> DRAINING, or --conn_discard()--> DISCARDING --conn_surrender(), conn_resume()-->
 *	second device:	SERVING, from conn_import() of a half until conn_take_over(); one that only receives keeps its answers
 *
 * What all connections hold is bounded (common/conn_memory.h): one that must wait for others is not read meanwhile.
 *
 * In QUIESCING and QUIET nothing is read, parsed or written: the sender waits in the kernel's buffers.
 *
 * Connections are accepted in the control loop. Each then belongs to the part of the server that has fewest, and each part is in
 * a data loop of its own; without data loops the only one is in the control loop (common/loop.h).
 *
 * Ownership: a conn_server owns its connections. In the control loop a `struct conn *` is valid while the data loops are
 * paused, or until it is closed there. Keep the session id and look it up again.
 * Threads: the control loop's, for all functions. What is said of connections or takes one needs their loops paused.
 */
#ifndef VNAS_COMMON_CONN_H
#define VNAS_COMMON_CONN_H

#include "common/flow.h"
#include "common/kernel_helper.h"
#include "common/placement.h"
#include "common/rpc.h"
#include "common/tcp_statistics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CONN_SHARES_MAX = 64,
	CONN_CALLS_MAX = 256,
	CONN_OUTPUT_ENOUGH = 2 * 1024 * 1024, /* bytes of answers that wait for the client: no new call is begun */
	CONN_OUTPUT_MAX = 8 * 1024 * 1024,    /* ... with those that calls in progress will have */
	CONN_SENDING_FEW = 64 * 1024,	      /* of replies, that a handoff may carry along */
	CONN_YOUNG_MS = 10000,		      /* so long a call may be one that was sent over the connection before, or that another device had */
};

struct event_base;
struct conn;
struct conn_memory;
struct conn_server;
struct loop;
struct loops;

/* What a session did with one volume. */
struct conn_share {
	uint32_t volume;
	uint64_t bytes, requests;
};

/* The facts of a session that travel with it. */
/* Bytes that came along when the session came here the last time. */
struct conn_moved {
	uint64_t sent; /* not acknowledged by the client */
	uint64_t unsent, received;
};

struct conn_facts {
	uint64_t session; /* id: birth node << 32 | counter there; unique in the cluster */
	uint64_t since_ns; /* wall clock of the accept */
	uint64_t requests;
	uint32_t handoffs;
	uint32_t last_handoff_us;
	struct tcp_statistics statistics; /* of its earlier sockets, on all devices; not of the present one */
	struct conn_moved moved;
	size_t share_count;
	struct conn_share shares[CONN_SHARES_MAX];
};

struct conn_handlers {
	/* A connection was accepted. May fill @fixed; returns whether it can be moved. */
	bool (*on_accept)(int fd, struct kernel_helper_static *fixed, void *arg);

	/* A call was answered. For the placement of the session. On the thread of the connection's loop. */
	void (*on_work)(struct conn *conn, const struct rpc_call *call, void *arg);

	/* A connection is gone (not after conn_surrender()), perhaps for a while. In the control loop. */
	void (*on_closed)(uint64_t session, void *arg);
};

/* What a part of a server needs; all is borrowed for life. */
struct conn_part_options {
	struct loop *loop; /* a data loop; NULL: the control loop */
	struct rpc_server *rpc;
	struct conn_memory *memory; /* several servers may share it, if they are in the same loop */
};

struct conn_server_options {
	struct event_base *base; /* the control loop's */
	uint32_t self;		 /* node id, for session ids */
	const struct conn_handlers *handlers;
	void *arg;
	struct loops *loops; /* all data loops, borrowed for life; NULL: there are none */
	const struct conn_part_options *parts; /* at least one; copied */
	size_t part_count;
};

struct conn_server *conn_server_new(const struct conn_server_options *options);

/* The data loops are stopped. NULL is allowed. */
void conn_server_free(struct conn_server *server);

/**
 * conn_server_listen() - accept connections at an address; may be called for several
 *
 * Return: 0; -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ...
 */
int conn_server_listen(struct conn_server *server, const struct sockaddr *address, socklen_t len);

/* The same, at a socket that listens already, without blocking. Takes @fd, also on failure. 0; -ENOMEM */
int conn_server_listen_on(struct conn_server *server, int fd);

/* From now on who connects waits in the kernel. */
void conn_server_stop_accepting(struct conn_server *server);

/* The sockets that listen, @max at most; still the server's. Return: how many */
size_t conn_server_listeners(const struct conn_server *server, int *fds, size_t max);

/*
 * What TCP has counted (RFC 1213, group tcp) for sessions that are here or have ended here, on whatever devices they were before. Over
 * all devices each is counted once: one that moves is counted where it is, and its opening where it was accepted.
 */
struct conn_totals {
	struct tcp_statistics tcp;
	uint64_t passive_opens, established_resets;
	size_t established;
};

void conn_server_totals(struct conn_server *server, struct conn_totals *out);

struct conn *conn_find(struct conn_server *server, uint64_t session);
struct conn *conn_find_flow(struct conn_server *server, const struct flow_key *flow);

/* The connection after @conn, or the first one if it is NULL. */
struct conn *conn_next(struct conn_server *server, struct conn *conn);

/* At any time. */
size_t conn_count(const struct conn_server *server);

struct conn_facts *conn_facts(struct conn *conn);
const struct flow_key *conn_flow(const struct conn *conn);
const struct kernel_helper_static *conn_fixed(const struct conn *conn);
struct placement *conn_placement(struct conn *conn);
bool conn_is_movable(const struct conn *conn);

/* It is not movable from now on: on_accept() has said so, in an earlier run. */
void conn_stay(struct conn *conn);

int conn_fd(const struct conn *conn);

/* What conn_import() was told; 0 for an accepted connection. */
size_t conn_restored_len(const struct conn *conn);

/* Bytes of replies that the kernel has not taken yet. */
size_t conn_output_len(const struct conn *conn);

/* ... that the client has not acknowledged. */
size_t conn_sending_len(const struct conn *conn);

/**
 * conn_quiesce() - stop reading and wait until no call is in progress
 * @on_quiet:	called later, with the data loops paused, unless 0 was returned; not called if the connection closes or is resumed
 *		first
 *
 * Return: 0 if it is quiet now; -EINPROGRESS; -EALREADY if it is not SERVING
 */
int conn_quiesce(struct conn *conn, void (*on_quiet)(struct conn *conn, void *arg), void *arg);

/* Go on serving, from QUIESCING or QUIET. */
void conn_resume(struct conn *conn);

/* What the daemon (not the kernel) holds of a QUIET connection. */
struct conn_state {
	struct conn_facts facts;
	uint8_t *input; /* read, not yet a complete record */
	size_t input_len;
	uint8_t *output; /* replies, or parts, that the kernel has not taken */
	size_t output_len;
	size_t sent_len; /* conn_import() only: bytes the kernel was given as sent, but not acknowledged */
};

/*
 * Of a QUIET connection: write what the kernel takes. Return: whether all but CONN_SENDING_FEW bytes are with the client, or nothing can
 * be done about it. From the control loop, with the data loops paused
 */
bool conn_write_out(struct conn *conn);

/* Of a QUIET connection, of which another device has the half that receives: send what there is to send, read nothing. */
void conn_drain(struct conn *conn);

/* ... the half that sends: send nothing, and throw away what comes. */
void conn_discard(struct conn *conn);

/* Has the client acknowledged all that this device had to send? DRAINING, DISCARDING */
bool conn_is_drained(const struct conn *conn);

/* Which part of a connection a device serves. */
enum conn_part_served { CONN_WHOLE, CONN_RECEIVES, CONN_SENDS };

/* Is it the other device's, as far as the cluster knows? */
bool conn_is_half(const struct conn *conn);

/* A half becomes a whole: answers that were kept go out. If its client has closed meanwhile, it is closed. */
void conn_take_over(struct conn *conn);

/* Copy the state out. 0; -ENOMEM, -EMFILE (for pages). Free with conn_state_fini(). */
int conn_export(struct conn *conn, struct conn_state *out);
void conn_state_fini(struct conn_state *state);

/* Take a QUIET connection's socket away and forget the connection. Returns the descriptor: the caller's. */
int conn_surrender(struct conn *conn);

/**
 * conn_import() - go on with a session that came from another device
 * @fd:		taken on success
 * @flow:	its flow
 * @fixed:	its static facts
 * @state:	borrowed; its output is sent, its input parsed, from the next loop turn on
 * @served:	CONN_WHOLE; or the half that this device gets: it reads and answers all calls, but in CONN_RECEIVES no answer goes out,
 *		and if the client closes, conn_handlers.on_closed is told while the connection waits for conn_surrender()
 * @out:	out: the connection
 *
 * Return: 0; -ENOMEM; -EEXIST if the session is here already
 */
int conn_import(struct conn_server *server, int fd, const struct flow_key *flow,
		const struct kernel_helper_static *fixed, const struct conn_state *state, enum conn_part_served served,
		struct conn **out);

/* Close; @reset: with RST instead of FIN. */
void conn_close(struct conn *conn, bool reset);

#endif
