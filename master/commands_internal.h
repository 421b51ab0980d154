/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/commands_internal.h - what the files of the master's commands share
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_COMMANDS_INTERNAL_H
#define VNAS_MASTER_COMMANDS_INTERNAL_H

#include "common/admin.h"
#include "master/master.h"
#include "slave/device_commands.h"

static inline struct master *commands_master(void *arg)
{
	return ((struct device *)arg)->master;
}

/* The node that the administrator named by number or name; or NULL, and @request was answered. */
const ns_node *commands_need_node(struct master *master, struct admin_request *request, const char *text);

bool commands_node_is_up(struct master *master, uint32_t id);

/* Why vroot_change() has failed, and what to do: the end of a sentence. */
const char *commands_change_problem(int rc);

/* As node list says it. */
const char *commands_node_state(struct master *master, const ns_node *node);

/* Clients' sessions that are with it. */
size_t commands_node_sessions(struct master *master, uint32_t id);

/* The load of a node; the master's own in @own. NULL: unknown */
const struct load *commands_node_load(struct master *master, uint32_t id, struct load *own);

/**
 * commands_ask() - have a node do something and tell the administrator what became of it
 * @message:	answered by SCP_RESULT; borrowed
 * @done:	the sentence when all is well; copied, cut after some hundred characters
 *
 * Takes @request: it is answered by the node's result, or by why there is none.
 */
void commands_ask(struct master *master, struct admin_request *request, uint32_t node, const scp_message *message,
		  const char *done);

#endif
