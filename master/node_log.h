/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/node_log.h - nasctl log --node: another device's log, by way of the master
 *
 * The device is asked for a batch of lines behind a number (SCP_LOG_LOOK), again when the reader has read them, and each half second when
 * there are none. So what is on its way is one batch, however much it logs and however slow the reader is.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_NODE_LOG_H
#define VNAS_MASTER_NODE_LOG_H

#include "common/admin.h"
#include "scp/scp_xdr.h"

/* The command; without --node it is the master's own log. */
void node_log_command(struct admin_request *request, int argc, char **argv, void *arg);

/* What a device has answered; that it won't answer any more. */
void node_log_received(uint32_t node, uint32_t request, const scp_log_lines *lines);
void node_log_lost(uint32_t node);

#endif
