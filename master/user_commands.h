/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/user_commands.h - nasctl user and nasctl group: the users that the cluster has of its own
 *
 * Changes go to the virtual root's database (master/vroot.h) and from there to all devices, which look groups up in their
 * replica (common/user_groups.h). Ids are given out once: nobody gets the files of a user who was removed.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_USER_COMMANDS_H
#define VNAS_MASTER_USER_COMMANDS_H

#include "common/admin.h"

enum { USERS_MAX = 65536 }; /* and as many groups */

/* Each an admin_function; @arg: struct device. */
void user_command_list(struct admin_request *request, int argc, char **argv, void *arg);
void user_command_show(struct admin_request *request, int argc, char **argv, void *arg);
void user_command_add(struct admin_request *request, int argc, char **argv, void *arg);
void user_command_set(struct admin_request *request, int argc, char **argv, void *arg);
void user_command_remove(struct admin_request *request, int argc, char **argv, void *arg);
void user_command_passwd(struct admin_request *request, int argc, char **argv, void *arg);
void group_command_list(struct admin_request *request, int argc, char **argv, void *arg);
void group_command_show(struct admin_request *request, int argc, char **argv, void *arg);
void group_command_add(struct admin_request *request, int argc, char **argv, void *arg);
void group_command_remove(struct admin_request *request, int argc, char **argv, void *arg);
void group_command_member_add(struct admin_request *request, int argc, char **argv, void *arg);
void group_command_member_remove(struct admin_request *request, int argc, char **argv, void *arg);

#endif
