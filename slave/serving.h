/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/serving.h - where clients reach this device
 *
 * The listeners at the VIPs (or, without any, at every address): NFS, MOUNT, NLM and NSM over TCP and UDP, and the port mapper, our
 * own or the system's. On a disk node only NFS over TCP: everything else is sent to the switch by the fabric.
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
	struct event_base *base;
	const struct settings *settings; /* borrowed for life */
	uint32_t self;
	const struct conn_handlers *handlers;
	const char *const *vips; /* textual; borrowed for serving_prepare() */
	size_t vip_count;
	void *arg; /* of the handlers */
};

/* @locks: NLM and NSM; NULL: without. Both are borrowed for life. */
struct serving *serving_new(struct file_service *files, struct locks *locks);
void serving_free(struct serving *serving);

/* The programs, for relayed calls too. */
struct rpc_server *serving_rpc(struct serving *serving);

/* Make the connection server; addresses are noted. 0; -EINVAL (an address is none, logged); -ENOMEM */
int serving_prepare(struct serving *serving, const struct serving_options *options);

/* Listen. Logs what can't be had and why. 0 or a negative errno value; then nothing listens. */
int serving_listen(struct serving *serving);

/* Close all listeners and connections. */
void serving_stop(struct serving *serving);

/* The NFS connections; NULL before serving_prepare(). */
struct conn_server *serving_conns(struct serving *serving);

/* What all connections hold; NULL before serving_prepare(). */
const struct conn_memory_counters *serving_memory(const struct serving *serving);

#endif
