/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, the switch does not know how far a connection is: nasctl shows nonsense, and a client whose device died waits for
 * its own timers.
 *
 * A real connection, at the switch and handed off, held against what its two sockets say.
 */
#include "config.h"

#include "common/log.h"
#include "master/tickle.h"
#include "tests/platform/cluster.h"
#include "tests/platform/netns.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REQUEST = 1000, REPLY = 2000, PATIENCE_MS = 3000 };

static int connect_client(struct cluster *c, int family)
{
	struct sockaddr_storage vip;
	socklen_t len = netns_address(cluster_families[family].vip, CLUSTER_PORT, &vip);
	int fd;

	netns_enter(c->client);
	fd = socket(vip.ss_family, SOCK_STREAM, 0);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&vip, len) == 0);
	return fd;
}

static void transfer(int from, int to, size_t len)
{
	char bytes[REPLY] = { 0 };

	CHECK(send(from, bytes, len, 0) == (ssize_t)len);
	while (len > 0) {
		struct pollfd p = { .fd = to, .events = POLLIN };
		ssize_t got;

		CHECK(poll(&p, 1, PATIENCE_MS) == 1);
		got = recv(to, bytes, sizeof(bytes), 0);
		CHECK(got > 0);
		len -= (size_t)got;
	}
}

static struct fabric_flow flow_now(struct cluster *c, const struct flow_key *key)
{
	struct fabric_flow flow;

	CHECK_OK(fabric_flow_get(c->fabric, key, &flow));
	return flow;
}

/* The client may take its time to acknowledge. */
static struct fabric_flow flow_at_rest(struct cluster *c, const struct flow_key *key)
{
	struct fabric_flow flow = flow_now(c, key);

	for (int i = 0; i < PATIENCE_MS && (flow.client.acknowledged != flow.server.next ||
					    flow.server.acknowledged != flow.client.next); i++) {
		usleep(1000);
		flow = flow_now(c, key);
	}
	CHECK(flow.client.acknowledged == flow.server.next && flow.server.acknowledged == flow.client.next);
	return flow;
}

static void check_syn(const struct fabric_flow *flow, int client, int family)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	CHECK(getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
	CHECK(flow->client.has_syn && flow->server.has_syn);
	CHECK(flow->client.mss == 1500 - 20 - (family ? 40 : 20) && flow->server.mss == flow->client.mss);
	CHECK(flow->client.scale == info.tcpi_rcv_wscale && flow->server.scale == info.tcpi_snd_wscale);
	CHECK(flow->client.has_sack && flow->client.has_timestamps && flow->server.has_sack && flow->server.has_timestamps);
}

static void check_bytes(const struct fabric_flow *flow, unsigned int rounds)
{
	CHECK(flow->client.next - flow->client.first == 1 + rounds * REQUEST);
	CHECK(flow->server.next - flow->server.first == 1 + rounds * REPLY);
	CHECK(flow->client.window > 0 && flow->server.window > 0 && flow->client.timestamp && flow->server.timestamp);
	CHECK(!flow->client.has_closed && !flow->server.has_closed);
}

/* The device is away without a word, and nothing of the client reaches anybody who could answer: only what fits ends it. */
static void test_death(struct cluster *c, struct cluster_connection *connection, int client)
{
	struct fabric_flow flow = flow_now(c, &connection->flow);
	struct cluster_device *device = connection->owner;
	struct pollfd p = { .fd = client, .events = POLLIN };
	char byte;

	netns_run(device->netns, "ip link set eth0 down");
	netns_enter(c->devices[0].netns);
	kernel_helper_forget(c->devices[0].helper, &connection->flow); /* as some seconds after the handoff */
	CHECK_OK(tickle_client(&flow));
	CHECK(poll(&p, 1, PATIENCE_MS) == 1);
	CHECK(recv(client, &byte, 1, 0) == -1 && errno == ECONNRESET);
}

static void test_family(int family)
{
	struct cluster_connection connection;
	struct fabric_flow flow;
	struct cluster c;
	uint32_t generation;
	int client;

	cluster_make(&c, false);
	client = connect_client(&c, family);
	cluster_accept(&c, family, &connection);
	CHECK_OK(fabric_flow_set(c.fabric, &connection.flow, FABRIC_SWITCH, &generation));
	for (unsigned int round = 1; round <= 4; round++) {
		transfer(client, connection.server.fd, REQUEST);
		transfer(connection.server.fd, client, REPLY);
		flow = flow_at_rest(&c, &connection.flow);
		check_syn(&flow, client, family);
		check_bytes(&flow, round);
		cluster_move(&c, &connection, &c.devices[1 + round % 2]);
	}
	test_death(&c, &connection, client);
	close(client);
	close(connection.server.fd);
	free(connection.server.pending);
	cluster_remove(&c);
	printf("ok: tracking, %s\n", cluster_families[family].name);
}

int main(int argc, char **argv)
{
	log_open(argc > 1 && strcmp(argv[1], "-v") == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_ERR);
	netns_setup(true);
	for (int family = 0; family < CLUSTER_FAMILIES; family++)
		test_family(family);
	return 0;
}
