/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/service_manager.h"

#include "common/clock.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

enum {
	SIGNS = 3,		 /* of life, in the time in which one is expected */
	FDS_PER_MESSAGE = 253,	 /* SCM_MAX_FD of the kernel */
	ARRIVE_US = 5 * 1000000,
};

struct service_manager {
	struct event *watchdog;
};

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	sd_notify(0, "WATCHDOG=1");
}

static int give_signs(struct service_manager *manager, struct event_base *base, uint64_t within_us)
{
	uint64_t every_us = within_us / SIGNS;
	struct timeval every = { .tv_sec = (time_t)(every_us / 1000000), .tv_usec = (suseconds_t)(every_us % 1000000) };

	manager->watchdog = event_new(base, -1, EV_PERSIST, on_watchdog, NULL);
	return manager->watchdog && event_add(manager->watchdog, &every) == 0 ? 0 : -ENOMEM;
}

void service_manager_start(void)
{
	sd_listen_fds(0); /* sets FD_CLOEXEC on all of them */
}

int service_manager_ready(struct event_base *base, const char *status, struct service_manager **out)
{
	struct service_manager *manager = calloc(1, sizeof(*manager));
	uint64_t within_us;

	if (!manager)
		return -ENOMEM;
	if (sd_watchdog_enabled(0, &within_us) > 0 && give_signs(manager, base, within_us) < 0) {
		service_manager_free(manager);
		return -ENOMEM;
	}
	sd_notifyf(0, "READY=1\nSTATUS=%s", status);
	*out = manager;
	return 0;
}

void service_manager_reloading(void)
{
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_monotonic_us());
}

void service_manager_reloaded(void)
{
	sd_notify(0, "READY=1");
}

void service_manager_stopping(void)
{
	sd_notify(0, "STOPPING=1");
}

void service_manager_free(struct service_manager *manager)
{
	if (!manager)
		return;
	if (manager->watchdog)
		event_free(manager->watchdog);
	free(manager);
}

bool service_manager_keeps(void)
{
	return getenv("NOTIFY_SOCKET") != NULL;
}

int service_manager_keep(const char *name, const int *fds, size_t count)
{
	char state[128];
	int rc = 1;

	/* Not watched: what a client sends, or that it closes, is for the next run to find out. */
	snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	for (size_t at = 0; rc > 0 && at < count; at += FDS_PER_MESSAGE) {
		size_t left = count - at;

		rc = sd_pid_notify_with_fds(0, 0, state, fds + at,
					    (unsigned int)(left < FDS_PER_MESSAGE ? left : FDS_PER_MESSAGE));
	}
	if (rc > 0)
		rc = sd_notify_barrier(0, ARRIVE_US);
	return rc < 0 ? rc : rc == 0 ? -ENOTCONN : 0;
}

static void forget(const char *name)
{
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

size_t service_manager_take(const char *name, int **fds)
{
	char **names = NULL;
	int all = sd_listen_fds_with_names(0, &names);
	size_t count = 0;

	*fds = all > 0 ? calloc((size_t)all, sizeof(**fds)) : NULL;
	for (int i = 0; i < all; i++) {
		if (*fds && strcmp(names[i], name) == 0)
			(*fds)[count++] = SD_LISTEN_FDS_START + i;
		free(names[i]);
	}
	free(names);
	if (count)
		forget(name);
	return count;
}
