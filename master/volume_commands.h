/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/volume_commands.h - nasctl volume ...: volumes and their places in the tree
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_VOLUME_COMMANDS_H
#define VNAS_MASTER_VOLUME_COMMANDS_H

#include "common/admin.h"
#include "master/master.h"

/* The volume that the administrator named by number, UUID or place; or NULL, and @request was answered. */
const ns_volume *volume_commands_need(struct master *master, struct admin_request *request, const char *text);

/* A volume as a row of a table: its number, first place, node, state. Given to the caller. */
json_t *volume_commands_row(struct master *master, const ns_volume *volume);

void volume_command_list(struct admin_request *request, int argc, char **argv, void *arg);
void volume_command_add(struct admin_request *request, int argc, char **argv, void *arg);
void volume_command_remove(struct admin_request *request, int argc, char **argv, void *arg);
void volume_command_move(struct admin_request *request, int argc, char **argv, void *arg);
void volume_command_place(struct admin_request *request, int argc, char **argv, void *arg);
void volume_command_unplace(struct admin_request *request, int argc, char **argv, void *arg);

#endif
