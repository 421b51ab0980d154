/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/service_manager.h - what systemd is told, if it has started us (sd_notify(3)): that the service is ready, reloads, stops, and
 * that it is alive (WatchdogSec=); and what it keeps for us over a restart (FileDescriptorStoreMax=)
 *
 * The sign of life comes from the control loop. It tells of the data loops, too: who hangs in one of them stops the control loop when
 * that pauses them, which it does about once a second.
 */
#ifndef VNAS_COMMON_SERVICE_MANAGER_H
#define VNAS_COMMON_SERVICE_MANAGER_H

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct service_manager;

/* Before any child is made: it shall not inherit what service_manager_take() will give. */
void service_manager_start(void);

/**
 * service_manager_ready() - this daemon serves from now on; signs of life follow, if they are asked for
 * @base:	borrowed
 * @status:	one line for `systemctl status`
 * @out:	out: free with service_manager_free()
 *
 * Not under systemd: nothing happens, and all is well.
 *
 * Return: 0; -ENOMEM
 */
int service_manager_ready(struct event_base *base, const char *status, struct service_manager **out);

/* Between them a daemon reads its configuration again (Type=notify-reload of later systemds). */
void service_manager_reloading(void);
void service_manager_reloaded(void);

void service_manager_stopping(void);

/* No more signs of life. NULL is allowed. */
void service_manager_free(struct service_manager *manager);

/* Would service_manager_keep() be of any use? */
bool service_manager_keeps(void);

/**
 * service_manager_keep() - give descriptors to the next run of this service
 * @name:	without colons; several calls may use the same
 * @fds:	the caller's still: they are copied. What happens at their other ends does not matter to who keeps them
 *
 * They have arrived when this returns.
 *
 * Return: 0; -ENOTCONN if nobody keeps them; what the socket said
 */
int service_manager_keep(const char *name, const int *fds, size_t count);

/**
 * service_manager_take() - what an earlier run has given away under this name; nobody else has them then
 * @fds:	out: free with free(3), after closing each; NULL if there are none
 *
 * Return: how many
 */
size_t service_manager_take(const char *name, int **fds);

#endif
