/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/disk_commands.h - nasctl disk ...: the disks of all nodes
 *
 * Each node tells what disks it has whenever that changes (SCP_DISKS); the last word of each is kept in memory.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_DISK_COMMANDS_H
#define VNAS_MASTER_DISK_COMMANDS_H

#include "common/admin.h"
#include "scp/scp.h"

/* A node has told. @kept: what it said before, replaced by a copy of @disks, or by nothing without memory */
void disk_commands_report(scp_disks *kept, const scp_disks *disks);

void disk_command_list(struct admin_request *request, int argc, char **argv, void *arg);
void disk_command_format(struct admin_request *request, int argc, char **argv, void *arg);
void disk_command_rescan(struct admin_request *request, int argc, char **argv, void *arg);

#endif
