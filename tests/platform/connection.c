/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "tests/platform/connection.h"

#include "common/tcp_repair.h"
#include "tests/platform/netns.h"

#include <netinet/in.h>

struct connection connection_make(int netns, int listener, const char *address)
{
	struct connection c = { .client = netns_connect(netns, address, 2049) };
	struct sockaddr_storage client, vip;
	socklen_t len = sizeof(client);

	c.server = accept(listener, (struct sockaddr *)&client, &len);
	CHECK(c.server >= 0);
	len = sizeof(vip);
	CHECK(getsockname(c.server, (struct sockaddr *)&vip, &len) == 0);
	CHECK_OK(flow_from_sockets(&client, &vip, IPPROTO_TCP, &c.flow));
	CHECK_OK(tcp_repair_adopt(c.server, &c.fixed));
	return c;
}
