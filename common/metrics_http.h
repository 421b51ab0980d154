/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/metrics_http.h - metrics for Prometheus, over HTTP
 *
 * GET /metrics, and a page that leads there; nothing else, and no request has a body. Whoever can reach the address may ask, so
 * nobody gains much by it: the numbers are gathered once a second at most, connections are few and short, and each
 * answers one request. More of them wait in the kernel until there is room.
 *
 * Threads: the control loop's, in a process that ignores SIGPIPE.
 */
#ifndef VNAS_COMMON_METRICS_HTTP_H
#define VNAS_COMMON_METRICS_HTTP_H

#include "common/metrics.h"

struct event_base;
struct metrics_http;

enum {
	METRICS_HTTP_PORT = 2051,
	METRICS_HTTP_FRESH_MS = 1000,	   /* what was gathered is answered again for so long */
	METRICS_HTTP_CONNECTIONS_MAX = 16,
	METRICS_HTTP_LIFE_MS = 10000,	   /* of a connection, whatever its client does */
};

/**
 * metrics_http_new() - listen
 * @listen:	"127.0.0.1:2051", "[::1]:2051"
 * @fill:	puts all samples into an empty list
 *
 * Return: 0; -EADDRINUSE, -EADDRNOTAVAIL, ...: what the kernel said; -EINVAL: that is no address with a port; -ENOMEM
 */
int metrics_http_new(struct event_base *base, const char *listen, void (*fill)(struct metrics *metrics, void *arg), void *arg,
		     struct metrics_http **out);

/* NULL is allowed. */
void metrics_http_free(struct metrics_http *http);

#endif
