/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/certificate_commands.h - nasctl certificate: who has which certificate until when; new ones, and taking back
 *
 * What is done is master/issuing.h's. Threads: the control loop's.
 */
#ifndef VNAS_MASTER_CERTIFICATE_COMMANDS_H
#define VNAS_MASTER_CERTIFICATE_COMMANDS_H

#include "common/admin.h"

#include <stdint.h>

struct master;

/* Each an admin_function; @arg: struct device. */
void certificate_command_list(struct admin_request *request, int argc, char **argv, void *arg);
void certificate_command_renew(struct admin_request *request, int argc, char **argv, void *arg);
void certificate_command_revoke(struct admin_request *request, int argc, char **argv, void *arg);

/* For node show. */
void certificate_commands_add_facts(struct master *master, uint32_t node, json_t *record);

/* For status: sentences that say what a person should do. */
void certificate_commands_add_problems(struct master *master, json_t *list);

#endif
