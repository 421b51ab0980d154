/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client notices that its connection was moved: a wrong, lost or doubled byte, a RST, a long stall.
 *
 *	client ------ hub (bridge) ------ A
 *	                   \------------- B
 *
 * A and B have the VIP on lo. The client's neighbour entry for the VIP stays A, so that whatever B owns comes by A's RELAY
 * entry: the late packets of a real handoff, all of them. One connection is moved between A and B under load; now and
 * then B "refuses" and A goes on.
 */
#include "config.h"

#include "common/kernel_helper.h"
#include "common/log.h"
#include "tests/platform/load.h"
#include "tests/platform/netns.h"

#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HANDOFFS = 400, REFUSE_EVERY = 9, PORT = 2049 };

struct node {
	const char *name;
	int netns;
	uint8_t mac[6];
	unsigned int ifindex;
	int listener[2];
	struct kernel_helper *helper;
};

struct network {
	int client, hub;
	struct node nodes[2];
	struct event_base *base;
};

static const struct family {
	const char *name, *vip;
} families[] = { { "IPv4", "10.9.0.1" }, { "IPv6", "fd09::1" } };

static void add_addresses(int netns, int number)
{
	netns_run(netns, "ip addr add 10.9.0.%d/24 dev eth0", number);
	netns_run(netns, "ip -6 addr add fd09::%d/64 dev eth0 nodad", number);
}

static void make_node(struct network *net, struct node *node, const char *name, int number)
{
	struct kernel_helper_options options = { .park_name = "vnas-park", .interface_count = 1 };
	char pin_dir[64];

	snprintf(pin_dir, sizeof(pin_dir), NETNS_BPFFS "/%s", name);
	options.pin_dir = pin_dir;
	snprintf(options.interfaces[0], IFNAMSIZ, "eth0");
	node->name = name;
	node->netns = netns_new();
	netns_link(node->netns, "eth0", net->hub, name);
	netns_run(net->hub, "ip link set %s master br0", name);
	add_addresses(node->netns, number);
	netns_run(node->netns, "ip addr add 10.9.0.1/32 dev lo && ip -6 addr add fd09::1/128 dev lo nodad");
	netns_mac(node->netns, "eth0", node->mac);
	netns_enter(node->netns);
	node->ifindex = if_nametoindex("eth0");
	CHECK_OK(kernel_helper_new(net->base, &options, &node->helper));
	for (int i = 0; i < 2; i++)
		node->listener[i] = netns_listen(node->netns, families[i].vip, PORT);
}

static void point_client_at(struct network *net, const struct node *node)
{
	const uint8_t *m = node->mac;

	for (int i = 0; i < 2; i++)
		netns_run(net->client, "ip neigh replace %s dev eth0 lladdr %02x:%02x:%02x:%02x:%02x:%02x nud permanent",
			  families[i].vip, m[0], m[1], m[2], m[3], m[4], m[5]);
}

static void make_network(struct network *net)
{
	net->base = event_base_new();
	net->hub = netns_new();
	netns_run(net->hub, "ip link add br0 type bridge && ip link set br0 up");
	net->client = netns_new();
	netns_link(net->client, "eth0", net->hub, "client");
	netns_run(net->hub, "ip link set client master br0");
	add_addresses(net->client, 2);
	make_node(net, &net->nodes[0], "node-a", 11);
	make_node(net, &net->nodes[1], "node-b", 12);
	point_client_at(net, &net->nodes[0]);
}

struct connection {
	struct load_server server;
	struct flow_key flow;
	struct kernel_helper_static fixed;
	struct node *owner, *other;
};

static void accept_connection(struct network *net, int family, struct connection *c)
{
	struct sockaddr_storage client, vip;
	socklen_t len = sizeof(client);

	memset(c, 0, sizeof(*c));
	c->owner = &net->nodes[0];
	c->other = &net->nodes[1];
	c->server.fd = accept(c->owner->listener[family], (struct sockaddr *)&client, &len);
	CHECK(c->server.fd >= 0);
	len = sizeof(vip);
	CHECK(getsockname(c->server.fd, (struct sockaddr *)&vip, &len) == 0);
	CHECK_OK(flow_from_sockets(&client, &vip, IPPROTO_TCP, &c->flow));
	CHECK_OK(kernel_helper_adopt(c->owner->helper, c->server.fd, &c->fixed));
}

static void take_over(struct connection *c, const struct kernel_helper_state *state)
{
	load_pend_first(&c->server, state->unsent, state->unsent_len);
	load_pend(&c->server, state->received, state->received_len);
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct stages {
	uint64_t freeze_us, restore_us, relay_us, silence_us;
	uint64_t moves;
};

static void move(struct connection *c, struct stages *stages)
{
	uint64_t start = now_us(), frozen, live, relayed;
	struct node *from = c->owner, *to = c->other;
	struct kernel_helper_state state;
	int fd;

	CHECK_OK(kernel_helper_hold(from->helper, &c->flow));
	CHECK_OK(kernel_helper_freeze(from->helper, c->server.fd, &c->flow, &c->fixed, &state));
	frozen = now_us();
	netns_enter(to->netns);
	CHECK_OK(kernel_helper_restore(to->helper, &state, &fd));
	live = now_us();
	CHECK_OK(kernel_helper_relay(from->helper, &c->flow, to->mac, from->ifindex));
	relayed = now_us();
	kernel_helper_silence(from->helper, c->server.fd);
	stages->freeze_us += frozen - start;
	stages->restore_us += live - frozen;
	stages->relay_us += relayed - live;
	stages->silence_us += now_us() - relayed;
	stages->moves++;
	c->server.fd = fd;
	take_over(c, &state);
	kernel_helper_state_fini(&state);
	c->owner = to;
	c->other = from;
}

/* The second device says no: the connection goes on where it was, with all it had. */
static void refuse(struct connection *c)
{
	struct kernel_helper_state state;

	CHECK_OK(kernel_helper_hold(c->owner->helper, &c->flow));
	CHECK_OK(kernel_helper_freeze(c->owner->helper, c->server.fd, &c->flow, &c->fixed, &state));
	usleep(100);
	kernel_helper_release(c->owner->helper, c->server.fd, &c->flow);
	kernel_helper_state_fini(&state);
}

static void serve_for(struct network *net, struct connection *c, uint64_t bytes)
{
	uint64_t end = c->server.echoed + bytes;

	while (c->server.echoed < end) {
		CHECK(load_serve(&c->server) == 1);
		event_base_loop(net->base, EVLOOP_NONBLOCK);
	}
}

static uint64_t counter_of(struct kernel_helper *helper, const char *name)
{
	const struct kernel_helper_counter *c;
	size_t count;

	c = kernel_helper_counters(helper, &count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(c[i].name, name) == 0)
			return c[i].packets;
	fail("no counter %s", name);
}

/* A stall of the machine lets the client's tail loss probe fire (handoff.md 2.2); nothing else may be sent twice. */
struct tcp_counters {
	uint64_t resets, retransmits, probes, duplicates, timeouts;
};

static struct tcp_counters read_tcp_counters(int netns)
{
	return (struct tcp_counters){
		.resets = netns_counter(netns, "Tcp", "OutRsts"),
		.retransmits = netns_counter(netns, "Tcp", "RetransSegs"),
		.probes = netns_counter(netns, "TcpExt", "TCPLossProbes"),
		.duplicates = netns_counter(netns, "TcpExt", "TCPDSACKRecvSegs"),
		.timeouts = netns_counter(netns, "TcpExt", "TCPTimeouts"),
	};
}

/*
 * What the client sent twice had arrived: it was late (the machine stalled, and a tail loss probe fired, handoff.md 2.2) or
 * overtaken (here, unlike behind the switch, new packets reach A while older ones still come back from B).
 */
static void check_tcp(const char *who, int netns, const struct tcp_counters *before)
{
	struct tcp_counters now = read_tcp_counters(netns);
	uint64_t retransmits = now.retransmits - before->retransmits, probes = now.probes - before->probes;
	uint64_t duplicates = now.duplicates - before->duplicates, timeouts = now.timeouts - before->timeouts;

	printf("  %s: %llu retransmits (%llu tail loss probes, %llu had arrived), %llu timeouts\n", who,
	       (unsigned long long)retransmits, (unsigned long long)probes, (unsigned long long)duplicates,
	       (unsigned long long)timeouts);
	CHECK(now.resets == before->resets);
	CHECK(timeouts == 0);
	CHECK(retransmits <= probes + duplicates);
}

static void check_nodes(struct network *net)
{
	for (int i = 0; i < 2; i++) {
		struct kernel_helper *helper = net->nodes[i].helper;

		CHECK(counter_of(helper, "park_write_failed") == 0);
		CHECK(counter_of(helper, "park_overflowed") == 0);
		CHECK(counter_of(helper, "relay_hop_limit") == 0);
		CHECK(counter_of(helper, "relay_failed") == 0);
		CHECK(counter_of(helper, "park_unreadable") == 0);
	}
}

static void print_stages(const struct stages *s)
{
	printf("  mean us: freeze %llu, restore %llu, relay %llu, silence %llu\n",
	       (unsigned long long)(s->freeze_us / s->moves), (unsigned long long)(s->restore_us / s->moves),
	       (unsigned long long)(s->relay_us / s->moves), (unsigned long long)(s->silence_us / s->moves));
}

static void finish(struct network *net, struct connection *c, struct load_client *load)
{
	load_stop(load);
	while (load_serve(&c->server))
		event_base_loop(net->base, EVLOOP_NONBLOCK);
	close(c->server.fd);
	free(c->server.pending);
}

static void ping_pong(struct network *net, int family, size_t message_len, size_t window)
{
	struct tcp_counters client = read_tcp_counters(net->client);
	struct tcp_counters nodes[2] = { read_tcp_counters(net->nodes[0].netns), read_tcp_counters(net->nodes[1].netns) };
	struct load_client load = load_start(net->client, families[family].vip, PORT, message_len, window);
	struct stages stages = { 0 };
	struct load_result result;
	struct connection c;

	accept_connection(net, family, &c);
	for (int i = 1; i <= HANDOFFS; i++) {
		serve_for(net, &c, (1 + (size_t)i * 7 % 20) * message_len);
		if (i % REFUSE_EVERY == 0)
			refuse(&c);
		else
			move(&c, &stages);
	}
	serve_for(net, &c, 100 * message_len);
	finish(net, &c, &load);
	result = load_wait(&load);
	printf("ok: %s, %zu bytes x %zu: %llu moves, %llu messages, longest gap %llu us\n", families[family].name,
	       message_len, window, (unsigned long long)stages.moves, (unsigned long long)result.messages,
	       (unsigned long long)result.longest_gap_us);
	print_stages(&stages);
	check_tcp("client", net->client, &client);
	for (int i = 0; i < 2; i++)
		check_tcp(net->nodes[i].name, net->nodes[i].netns, &nodes[i]);
	check_nodes(net);
	for (int i = 0; i < 2; i++)
		kernel_helper_forget(net->nodes[i].helper, &c.flow);
}

static void print_counters(struct node *node)
{
	const struct kernel_helper_counter *c;
	size_t count;

	c = kernel_helper_counters(node->helper, &count);
	printf("%s:", node->name);
	for (size_t i = 0; i < count; i++)
		if (c[i].packets)
			printf(" %s=%llu", c[i].name, (unsigned long long)c[i].packets);
	printf("\n");
}

static void leave_nothing(struct node *node)
{
	netns_enter(node->netns);
	kernel_helper_free(node->helper, true);
	netns_run(node->netns, "! tc qdisc show | grep clsact && ! ip link show vnas-park 2>/dev/null && ! ls -d %s/%s 2>/dev/null",
		  NETNS_BPFFS, node->name);
}

int main(int argc, char **argv)
{
	struct network net = { 0 };

	log_open(argc > 1 && strcmp(argv[1], "-v") == 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
	netns_setup(true);
	make_network(&net);
	for (int family = 0; family < 2; family++) {
		ping_pong(&net, family, 128, 1);
		ping_pong(&net, family, 128, 16);
		ping_pong(&net, family, 4096, 2);
	}
	for (int i = 0; i < 2; i++) {
		print_counters(&net.nodes[i]);
		leave_nothing(&net.nodes[i]);
	}
	event_base_free(net.base);
	return 0;
}
