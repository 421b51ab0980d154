/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/platform/load.h - a client that checks every byte, and a server that echoes them
 *
 * The client is a process of its own: it sends a known endless stream, keeps a window of bytes outstanding, and
 * compares what comes back. The server is moved around by the test between two calls of load_serve().
 */
#ifndef VNAS_TESTS_PLATFORM_LOAD_H
#define VNAS_TESTS_PLATFORM_LOAD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { LOAD_PENDING_MAX = 4 << 20 };

struct load_client {
	pid_t pid;
	int stop_fd; /* write end: closing it ends the load */
	int result_fd;
};

struct load_result {
	uint64_t bytes;
	uint64_t messages;
	uint64_t longest_gap_us; /* between two replies */
};

/* Start a client in @netns: messages of @message_len bytes, @window of them outstanding. */
struct load_client load_start(int netns, const char *address, uint16_t port, size_t message_len, size_t window);

/* Ask the client to stop: it sends no more, and closes when all has come back. */
void load_stop(struct load_client *client);

/* Wait for the end; fails the test if the client saw a wrong byte, an error, or nothing for seconds. */
struct load_result load_wait(struct load_client *client);

struct load_server {
	int fd;
	uint64_t echoed; /* bytes */
	size_t pending_len;
	uint8_t *pending; /* read but not yet sent back */
};

/* Echo what can be echoed without waiting. Returns 0 once the client closed and everything is sent. */
int load_serve(struct load_server *server);

/* Put bytes behind those pending. */
void load_pend(struct load_server *server, const uint8_t *bytes, size_t len);

/* Put bytes before those pending. */
void load_pend_first(struct load_server *server, const uint8_t *bytes, size_t len);

#endif
