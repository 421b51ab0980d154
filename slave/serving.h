/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/serving.h - where clients reach this device
 *
 * The listeners at the VIPs (or, without any, at every address): NFS, MOUNT, NLM and NSM over TCP and UDP, and the port mapper, our
 * own or the system's. A disk node is not asked for the port mapper: the fabric sends it connections and datagrams to NFS's port
 * only, and of datagrams those that are about its volumes.
 *
 * NFS connections are in data loops, one per core. Those answer what is about files of this device, and pass the rest on to the
 * control loop.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_SERVING_H
#define VNAS_SLAVE_SERVING_H

#include "common/conn.h"
#include "common/conn_memory.h"
#include "common/file_service.h"
#include "common/settings.h"

struct locks;
struct serving;

struct serving_options {
	uint32_t self;
	const struct conn_handlers *handlers;
	const char *const *vips; /* textual; borrowed for serving_prepare() */
	size_t vip_count;
	void *arg; /* of the handlers */
};

/*
 * @files, @locks (NLM and NSM; NULL: without), @settings: borrowed for life. NULL: no memory, or no descriptors
 *
 * serving_free() also opens what workers, which have ended before, have posted to data loops.
 */
struct serving *serving_new(struct event_base *base, const struct settings *settings, struct file_service *files,
			    struct locks *locks);
void serving_free(struct serving *serving);

/* The data loops, which run while there are connections. */
struct loops *serving_loops(struct serving *serving);

/* The programs, for relayed calls too. */
struct rpc_server *serving_rpc(struct serving *serving);

/* Make the connection server; addresses are noted. 0; -EINVAL (an address is none, logged); -ENOMEM */
int serving_prepare(struct serving *serving, const struct serving_options *options);

/* Listen. Logs what can't be had and why. 0 or a negative errno value; then nothing listens. */
int serving_listen(struct serving *serving);

/* Before a restart: who connects waits from now on; and, in the end, for the next daemon. 0, or why clients will be refused. */
void serving_stop_accepting(struct serving *serving);
int serving_leave_listeners(struct serving *serving);

/* Close all listeners and connections. The data loops are not paused; they have ended then. */
void serving_stop(struct serving *serving);

/* The NFS connections; NULL before serving_prepare(). */
struct conn_server *serving_conns(struct serving *serving);

/* What all connections hold. */
struct conn_memory_counters serving_memory(struct serving *serving);

#endif
