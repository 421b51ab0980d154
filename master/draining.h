/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/draining.h - a disk node is emptied of clients' sessions, so that it can be switched off
 *
 * `nasctl node drain` makes the node's state NS_NODE_DRAINING, which all devices see: none of them gives it a session, and it gets no
 * new connections and no datagrams. From then on each session that it has is ordered elsewhere, again each second until there is
 * none. Its volumes stay: they are relayed, until it is off. The state survives restarts; `nasctl node undrain` ends it.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_DRAINING_H
#define VNAS_MASTER_DRAINING_H

#include "common/admin.h"
#include "common/namespace.h"

struct draining;
struct master;

/* @master: borrowed for life. NULL: no memory */
struct draining *draining_new(struct master *master);
void draining_free(struct draining *draining);

/* Nodes that were being drained when the master stopped. */
void draining_start(struct draining *draining);

/* "draining" or "drained" */
const char *draining_state(struct master *master, const ns_node *node);

/* `nasctl node drain`: answered when the node has no session any more, or has still some after DRAINING_ANSWER_MS. */
void draining_drain(struct draining *draining, struct admin_request *request, const ns_node *node);

/* `nasctl node undrain` */
void draining_undrain(struct draining *draining, struct admin_request *request, const ns_node *node);

#endif
