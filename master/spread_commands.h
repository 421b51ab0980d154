/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/spread_commands.h - nasctl spread, nasctl volume check
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_SPREAD_COMMANDS_H
#define VNAS_MASTER_SPREAD_COMMANDS_H

#include "common/admin.h"

/* Each an admin_function; @arg: struct device. */
void spread_command_list(struct admin_request *request, int argc, char **argv, void *arg);
void spread_command_show(struct admin_request *request, int argc, char **argv, void *arg);
void spread_command_make(struct admin_request *request, int argc, char **argv, void *arg);
void spread_command_add(struct admin_request *request, int argc, char **argv, void *arg);
void spread_command_check(struct admin_request *request, int argc, char **argv, void *arg);

#endif
