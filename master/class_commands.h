/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/class_commands.h - nasctl class: priorities among clients
 *
 * Changes go to the virtual root's database (master/vroot.h) and from there to all devices, which follow them (common/priorities.h).
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_CLASS_COMMANDS_H
#define VNAS_MASTER_CLASS_COMMANDS_H

#include "common/admin.h"

/* Each an admin_function; @arg: struct device. */
void class_command_list(struct admin_request *request, int argc, char **argv, void *arg);
void class_command_set(struct admin_request *request, int argc, char **argv, void *arg);
void class_command_remove(struct admin_request *request, int argc, char **argv, void *arg);

#endif
