/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/listeners.h"

#include "common/conn.h"
#include "common/service_manager.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_OF_LISTENERS "listener"

struct listeners {
	size_t count;
	int *fds; /* -1: taken */
};

int listeners_leave(struct conn_server *const *servers, size_t count)
{
	int fds[LISTENERS_MAX];
	size_t fd_count = 0;

	for (size_t i = 0; i < count; i++)
		if (servers[i])
			fd_count += conn_server_listeners(servers[i], fds + fd_count, LISTENERS_MAX - fd_count);
	return service_manager_keep(NAME_OF_LISTENERS, fds, fd_count);
}

struct listeners *listeners_inherit(void)
{
	struct listeners *listeners = calloc(1, sizeof(*listeners));

	if (listeners)
		listeners->count = service_manager_take(NAME_OF_LISTENERS, &listeners->fds);
	return listeners;
}

static bool is_same(const struct sockaddr *a, const struct sockaddr *b)
{
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)a, *b4 = (const struct sockaddr_in *)b;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a, *b6 = (const struct sockaddr_in6 *)b;

	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return a6->sin6_port == b6->sin6_port && memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
}

int listeners_take(struct listeners *listeners, const struct sockaddr *address)
{
	for (size_t i = 0; listeners && i < listeners->count; i++) {
		struct sockaddr_storage at;
		socklen_t len = sizeof(at);
		int fd = listeners->fds[i];

		if (fd < 0 || getsockname(fd, (struct sockaddr *)&at, &len) < 0 || !is_same((struct sockaddr *)&at, address))
			continue;
		listeners->fds[i] = -1;
		return fd;
	}
	return -1;
}

void listeners_free(struct listeners *listeners)
{
	if (!listeners)
		return;
	for (size_t i = 0; i < listeners->count; i++)
		if (listeners->fds[i] >= 0)
			close(listeners->fds[i]);
	free(listeners->fds);
	free(listeners);
}
