/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/platform/connection.h - both ends of a TCP connection, one of them as the kernel helper knows it
 */
#ifndef VNAS_TESTS_PLATFORM_CONNECTION_H
#define VNAS_TESTS_PLATFORM_CONNECTION_H

#include "common/kernel_helper.h"

struct connection {
	int client, server;
	struct flow_key flow;
	struct kernel_helper_static fixed;
};

/* A client in @netns connects to @listener, which is at @address and port 2049. */
struct connection connection_make(int netns, int listener, const char *address);

#endif
