/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/examining.h - nasctl check: the whole cluster is examined
 *
 *	nasctl check ---> every device is asked for its facts (SCP_EXAMINE, slave/examiner.h)
 *	                    | all have answered, or EXAMINING_PATIENCE_MS are over
 *	                  do users or groups differ? those whose digests differ are asked for their names
 *	                    | the same
 *	                  judged (master/examination_rules.h), answered
 *
 * One examination at a time: who asks meanwhile gets the answer of the one that is under way.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_EXAMINING_H
#define VNAS_MASTER_EXAMINING_H

#include "common/admin.h"
#include "scp/scp.h"

enum { EXAMINING_PATIENCE_MS = 9000 }; /* longer than EXAMINER_PATIENCE_MS */

struct examining;
struct master;

/* @master: borrowed for life. NULL: no memory */
struct examining *examining_new(struct master *master);

/* When the device of this machine has ended. Who waits is told. NULL is allowed. */
void examining_free(struct examining *examining);

/* A device's answer: SCP_EXAMINED, or SCP_RESULT if it can't. What is no answer to us is nothing. */
void examining_received(struct examining *examining, uint32_t node, uint32_t request, const scp_message *message);
void examining_node_lost(struct examining *examining, uint32_t node);

void examining_command_check(struct admin_request *request, int argc, char **argv, void *arg);

#endif
