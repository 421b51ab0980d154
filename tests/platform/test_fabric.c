/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, clients' packets go to the wrong device, or replies do not come back, or a restart of the switch's
 * daemon is an outage, or a dead device still speaks to clients.
 *
 * Each case on its own, inline and one-arm where it makes a difference, IPv4 and IPv6.
 */
#include "config.h"

#include "common/log.h"
#include "master/fabric_traffic.h"
#include "tests/platform/cluster.h"
#include "tests/platform/netns.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ECHO_PORT = 4000, MESSAGE = 128, WINDOW = 16 };

static int udp_socket(int netns, const char *address, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = netns_address(address, port, &ss);
	int fd;

	netns_enter(netns);
	fd = socket(ss.ss_family, SOCK_DGRAM, 0);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&ss, len) == 0);
	return fd;
}

static void send_to(int fd, const char *address, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = netns_address(address, port, &ss);

	CHECK(sendto(fd, "request", 7, 0, (struct sockaddr *)&ss, len) == 7);
}

static bool arrives(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char bytes[16];

	return poll(&p, 1, 200) == 1 && recv(fd, bytes, sizeof(bytes), 0) == 7;
}

static struct flow_key flow_of(const struct cluster_family *f, uint16_t client_port, uint8_t protocol)
{
	struct sockaddr_storage client, vip;
	struct flow_key flow;

	netns_address(f->client, client_port, &client);
	netns_address(f->vip, protocol == IPPROTO_UDP ? ECHO_PORT : CLUSTER_PORT, &vip);
	CHECK_OK(flow_from_sockets(&client, &vip, protocol, &flow));
	return flow;
}

/* Small tables are one part. */
static size_t collect(struct cluster *c, unsigned int age_s)
{
	struct fabric_walk walk = { 0 };
	size_t removed = 0;

	CHECK(fabric_collect(c->fabric, age_s, &walk, &removed));
	return removed;
}

static void orphan(struct cluster *c, uint32_t device)
{
	struct fabric_walk walk = { 0 };

	CHECK(fabric_device_orphan(c->fabric, device, &walk, NULL, NULL));
}

/* There by the entry, back by the neighbour table at first and by the entry once the client was seen. */
static void test_forwarding(struct cluster *c, int family)
{
	const struct cluster_family *f = &cluster_families[family];
	int client = udp_socket(c->client, f->client, 5000);
	int at_switch = udp_socket(c->devices[0].netns, f->vip, ECHO_PORT);
	int at_node = udp_socket(c->devices[1].netns, f->vip, ECHO_PORT);
	struct flow_key flow = flow_of(f, 5000, IPPROTO_UDP);
	uint64_t forwarded = cluster_fabric_counter(c, "client_forwarded");
	struct fabric_flow got;
	uint32_t generation;

	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_switch));
	CHECK(fabric_flow_get(c->fabric, &flow, &got) == -ENOENT);
	send_to(at_node, f->client, 5000);
	CHECK(arrives(client));
	CHECK_OK(fabric_flow_set(c->fabric, &flow, c->devices[1].index, &generation));
	CHECK(generation == 1);
	send_to(at_node, f->client, 5000);
	CHECK(arrives(client));
	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_node));
	send_to(at_node, f->client, 5000);
	CHECK(arrives(client));
	CHECK_OK(fabric_flow_get(c->fabric, &flow, &got));
	CHECK(got.device == c->devices[1].index && got.generation == 1 && got.state == FABRIC_FORWARD);
	CHECK(got.packets == (c->is_one_arm ? 1 : 3));
	CHECK(cluster_fabric_counter(c, "client_forwarded") == forwarded + 1);
	if (!c->is_one_arm)
		CHECK(cluster_fabric_counter(c, "device_by_route") >= 2 &&
		      cluster_fabric_counter(c, "device_returned") >= 1);

	CHECK_OK(fabric_flow_set(c->fabric, &flow, FABRIC_SWITCH, &generation));
	CHECK(generation == 2);
	CHECK_OK(fabric_flow_get(c->fabric, &flow, &got));
	CHECK(got.device == FABRIC_SWITCH);
	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_switch));
	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_switch));
	fabric_flow_remove(c->fabric, &flow);
	fabric_flow_remove(c->fabric, &flow);
	close(client);
	close(at_switch);
	close(at_node);
	printf("ok: forwarding, %s\n", f->name);
}

static struct fabric_sums sums_of_device(struct cluster *c, uint32_t device)
{
	struct fabric_sums sums;

	CHECK_OK(fabric_device_sums(c->fabric, device, &sums));
	return sums;
}

/* All 0 for a client that is not known. */
static struct fabric_sums sums_of_client(struct cluster *c, const struct flow_key *flow)
{
	struct fabric_client_sums *clients;
	struct fabric_sums sums = { 0 };
	size_t count;

	CHECK_OK(fabric_client_sums(c->fabric, &clients, &count));
	for (size_t i = 0; i < count; i++)
		if (memcmp(clients[i].address, flow->client, sizeof(flow->client)) == 0)
			sums = clients[i].sums;
	free(clients);
	return sums;
}

static void check_grown(struct fabric_sums old, struct fabric_sums new, uint64_t received, uint64_t sent, uint64_t len)
{
	CHECK(new.received_packets == old.received_packets + received);
	CHECK(new.received_bytes == old.received_bytes + received * len);
	CHECK(new.sent_packets == old.sent_packets + sent);
	CHECK(new.sent_bytes == old.sent_bytes + sent * len);
}

/* Each packet once, for its device and its client, also while no daemon runs. */
static void test_traffic(struct cluster *c, int family)
{
	const struct cluster_family *f = &cluster_families[family];
	const struct cluster_device *node = &c->devices[1];
	int client = udp_socket(c->client, f->client, 5006);
	int at_switch = udp_socket(c->devices[0].netns, f->vip, ECHO_PORT);
	int at_node = udp_socket(node->netns, f->vip, ECHO_PORT);
	struct flow_key flow = flow_of(f, 5006, IPPROTO_UDP);
	struct fabric_sums of_switch = sums_of_device(c, FABRIC_SWITCH), of_node = sums_of_device(c, node->index);
	struct fabric_sums of_client = sums_of_client(c, &flow);
	uint64_t len = (family ? 40 : 20) + 8 + 7;
	uint32_t generation;

	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_switch));
	send_to(at_switch, f->client, 5006);
	send_to(at_switch, f->client, 5006);
	CHECK(arrives(client) && arrives(client));
	CHECK_OK(fabric_flow_set(c->fabric, &flow, node->index, &generation));
	fabric_free(c->fabric, false);
	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_node));
	send_to(at_node, f->client, 5006);
	CHECK(arrives(client));
	cluster_start_fabric(c);
	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_node));
	check_grown(of_switch, sums_of_device(c, FABRIC_SWITCH), 1, 2, len);
	check_grown(of_node, sums_of_device(c, node->index), 2, !c->is_one_arm, len);
	check_grown(of_client, sums_of_client(c, &flow), 3, 2 + !c->is_one_arm, len);
	CHECK(fabric_device_sums(c->fabric, FABRIC_DEVICES_MAX, &of_node) == -EINVAL);
	fabric_flow_remove(c->fabric, &flow);
	close(client);
	close(at_switch);
	close(at_node);
	printf("ok: traffic, %s\n", f->name);
}

/* A client that uses the port of a connection that another device owned gets a new one, at the switch. */
static void test_reopening(struct cluster *c, int family)
{
	const struct cluster_family *f = &cluster_families[family];
	struct flow_key flow = flow_of(f, 5001, IPPROTO_TCP);
	struct sockaddr_storage vip, client;
	socklen_t len = netns_address(f->vip, CLUSTER_PORT, &vip);
	struct fabric_flow got;
	uint32_t generation;
	int fd, server;

	CHECK_OK(fabric_flow_set(c->fabric, &flow, c->devices[2].index, &generation));
	netns_enter(c->client);
	fd = socket(vip.ss_family, SOCK_STREAM, 0);
	CHECK(bind(fd, (struct sockaddr *)&client, netns_address(f->client, 5001, &client)) == 0);
	CHECK(connect(fd, (struct sockaddr *)&vip, len) == 0);
	server = accept(c->devices[0].listener[family], NULL, NULL);
	CHECK(server >= 0);
	CHECK_OK(fabric_flow_get(c->fabric, &flow, &got));
	CHECK(got.device == FABRIC_SWITCH && got.generation == generation + 1);

	/* FIN marks the entry, the collection removes it. */
	CHECK(collect(c, 0) == 0);
	close(fd);
	CHECK(recv(server, &client, 1, 0) == 0);
	close(server);
	CHECK_OK(fabric_flow_get(c->fabric, &flow, &got));
	CHECK(got.state == FABRIC_CLOSING);
	CHECK(collect(c, 60) == 0);
	CHECK(collect(c, 0) == 1);
	CHECK(fabric_flow_get(c->fabric, &flow, &got) == -ENOENT);
	printf("ok: reopening and closing, %s\n", f->name);
}

/* A device gives away what it has, and nothing else. */
static void test_giving(struct cluster *c)
{
	struct flow_key flow = flow_of(&cluster_families[0], 5003, IPPROTO_TCP);
	uint32_t first = c->devices[1].index, second = c->devices[2].index, generation;
	struct fabric_flow got;

	CHECK_OK(fabric_flow_give(c->fabric, &flow, first, first, 1, &generation));
	CHECK(fabric_flow_give(c->fabric, &flow, second, FABRIC_SWITCH, 2, &generation) == -EPERM);
	CHECK(fabric_flow_give(c->fabric, &flow, FABRIC_SWITCH, second, 2, &generation) == -EPERM);
	CHECK(fabric_flow_give(c->fabric, &flow, first, 77, 2, &generation) == -ENODEV);
	CHECK_OK(fabric_flow_get(c->fabric, &flow, &got));
	CHECK(got.device == first && got.generation == 1);
	CHECK_OK(fabric_flow_give(c->fabric, &flow, first, second, 2, &generation));
	CHECK(fabric_flow_give(c->fabric, &flow, first, second, 2, &generation) == -EALREADY && generation == 2);
	CHECK(fabric_flow_give(c->fabric, &flow, FABRIC_SWITCH, second, 100, &generation) == -EALREADY);
	CHECK_OK(fabric_flow_get(c->fabric, &flow, &got));
	CHECK(got.device == second && got.generation == 2);
	CHECK(fabric_flow_give(c->fabric, &flow, second, first, 1, &generation) == -ESTALE);
	fabric_flow_remove(c->fabric, &flow);
	printf("ok: giving\n");
}

static bool count_flow(const struct fabric_flow *flow __attribute__((unused)), void *arg)
{
	++*(size_t *)arg;
	return true;
}

static size_t count_flows(struct cluster *c)
{
	size_t count = 0;

	fabric_flows(c->fabric, count_flow, &count);
	return count;
}

static void test_table(struct cluster *c)
{
	struct fabric_flow got;
	struct flow_key flow;
	uint32_t generation;
	uint16_t port = 6000;

	flow = flow_of(&cluster_families[0], port, IPPROTO_TCP);
	CHECK(fabric_flow_set(c->fabric, &flow, 77, &generation) == -ENODEV);
	CHECK(fabric_device_set(c->fabric, FABRIC_SWITCH, c->devices[1].mac, c->devices[0].interface) == -EINVAL);
	CHECK(fabric_device_set(c->fabric, 9, c->devices[1].mac, "lo") == -ENODEV);
	for (port = 6000; port < 6000 + CLUSTER_FLOWS_MAX; port++) {
		flow = flow_of(&cluster_families[port & 1], port, IPPROTO_TCP);
		CHECK_OK(fabric_flow_set(c->fabric, &flow, c->devices[1 + port % 2].index, &generation));
	}
	flow = flow_of(&cluster_families[0], port, IPPROTO_TCP);
	CHECK(fabric_flow_set(c->fabric, &flow, FABRIC_SWITCH, &generation) == -ENOSPC);
	CHECK(count_flows(c) == CLUSTER_FLOWS_MAX);
	orphan(c, c->devices[1].index);
	for (port = 6000; port < 6000 + CLUSTER_FLOWS_MAX; port++) {
		flow = flow_of(&cluster_families[port & 1], port, IPPROTO_TCP);
		CHECK_OK(fabric_flow_get(c->fabric, &flow, &got));
		CHECK(got.device == (port % 2 ? c->devices[2].index : (uint32_t)FABRIC_SWITCH));
		fabric_flow_remove(c->fabric, &flow);
	}
	CHECK(count_flows(c) == 0);
	printf("ok: table\n");
}

/* Packets go on flowing while no daemon runs, and the next one knows the flow. */
static void test_restart(struct cluster *c, int family)
{
	const struct cluster_family *f = &cluster_families[family];
	struct load_client load = load_start(c->client, f->vip, CLUSTER_PORT, MESSAGE, WINDOW);
	struct cluster_connection connection;
	struct load_result result;
	struct fabric_flow got;

	cluster_accept(c, family, &connection);
	cluster_serve(c, &connection, 100 * MESSAGE);
	cluster_move(c, &connection, &c->devices[1]);
	cluster_serve(c, &connection, 100 * MESSAGE);
	fabric_free(c->fabric, false);
	cluster_serve(c, &connection, 1000 * MESSAGE);
	cluster_start_fabric(c);
	CHECK_OK(fabric_flow_get(c->fabric, &connection.flow, &got));
	CHECK(got.device == c->devices[1].index && got.generation == 1);
	cluster_serve(c, &connection, 1000 * MESSAGE);
	cluster_move(c, &connection, &c->devices[2]);
	cluster_serve(c, &connection, 100 * MESSAGE);
	load_stop(&load);
	cluster_finish(c, &connection);
	result = load_wait(&load);
	CHECK(count_flows(c) == 1 && collect(c, 0) == 1);
	printf("ok: restart, %s: %llu messages, longest gap %llu us\n", f->name, (unsigned long long)result.messages,
	       (unsigned long long)result.longest_gap_us);
}

/* As when the daemon is restarted with another configuration. */
static void restart_with_filters(struct cluster *c, const struct fabric_filter_rule *rules, size_t count)
{
	c->fabric_options.filters = rules;
	c->fabric_options.filter_count = count;
	netns_enter(c->devices[0].netns);
	fabric_free(c->fabric, false);
	cluster_start_fabric(c);
}

static struct fabric_filter_rule rule_of(const char *network, uint32_t services)
{
	struct fabric_filter_rule rule = { .services = services };

	CHECK_OK(ip_network_parse(network, &rule.network));
	return rule;
}

/* In several pieces. */
static bool large_arrives(int from, int to, const char *address, uint16_t port)
{
	static char bytes[5000];
	struct sockaddr_storage ss;
	socklen_t len = netns_address(address, port, &ss);
	struct pollfd p = { .fd = to, .events = POLLIN };

	CHECK(sendto(from, bytes, sizeof(bytes), 0, (struct sockaddr *)&ss, len) == sizeof(bytes));
	return poll(&p, 1, 200) == 1 && recv(to, bytes, sizeof(bytes), 0) == sizeof(bytes);
}

/* With options for each hop, which hide the port. */
static bool optioned_arrives(int from, int to, const char *address, uint16_t port)
{
	static const uint8_t padding[8] = { 0, 0, 1, 4 };
	bool does;

	CHECK(setsockopt(from, IPPROTO_IPV6, IPV6_HOPOPTS, padding, sizeof(padding)) == 0);
	send_to(from, address, port);
	does = arrives(to);
	CHECK(setsockopt(from, IPPROTO_IPV6, IPV6_HOPOPTS, NULL, 0) == 0);
	return does;
}

/* Who may not reach a service does not, in whatever form, nor in a flow that was let through before; others do. */
static void test_filters(struct cluster *c, int family)
{
	const struct cluster_family *f = &cluster_families[family];
	const struct cluster_device *node = &c->devices[1];
	int client = udp_socket(c->client, f->client, 5007);
	int at_switch = udp_socket(c->devices[0].netns, f->vip, CLUSTER_PORT);
	int at_other_port = udp_socket(c->devices[0].netns, f->vip, ECHO_PORT);
	int at_node = udp_socket(node->netns, f->vip, CLUSTER_PORT);
	struct flow_key flow = flow_of(f, 5007, IPPROTO_UDP);
	const struct fabric_filter_rule rules[] = {
		rule_of(family ? "fd09::/64" : "10.9.0.0/24", FABRIC_PORTMAPPER | FABRIC_SCP),
		rule_of(family ? "10.0.0.0/8" : "fd00::/8", 0),
		rule_of(f->client, FABRIC_NFS),
	};
	uint64_t filtered;
	uint32_t generation;

	flow.vip_port = htons(CLUSTER_PORT);
	CHECK(large_arrives(client, at_switch, f->vip, CLUSTER_PORT));
	CHECK(!family || optioned_arrives(client, at_switch, f->vip, CLUSTER_PORT));
	CHECK_OK(fabric_flow_set(c->fabric, &flow, node->index, &generation));
	send_to(client, f->vip, CLUSTER_PORT);
	CHECK(arrives(at_node));

	restart_with_filters(c, rules, 2);
	filtered = cluster_fabric_counter(c, "client_filtered");
	send_to(client, f->vip, CLUSTER_PORT);
	CHECK(!arrives(at_node));
	CHECK(!large_arrives(client, at_switch, f->vip, CLUSTER_PORT));
	CHECK(!family || !optioned_arrives(client, at_switch, f->vip, CLUSTER_PORT));
	CHECK(cluster_fabric_counter(c, "client_filtered") == filtered + 2 + (uint64_t)family);
	CHECK(fabric_filter_refused(c->fabric, &rules[0].network) == 2 + (uint64_t)family);
	CHECK(fabric_filter_refused(c->fabric, &rules[1].network) == 0);
	CHECK(fabric_filter_refused(c->fabric, &rules[2].network) == 0);
	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_other_port));
	send_to(at_node, f->client, 5007);
	CHECK(arrives(client));

	CHECK_OK(fabric_filters_set(c->fabric, rules, 3));
	CHECK(fabric_filter_refused(c->fabric, &rules[0].network) == 2 + (uint64_t)family);
	send_to(client, f->vip, CLUSTER_PORT);
	CHECK(arrives(at_node));
	CHECK(large_arrives(client, at_switch, f->vip, CLUSTER_PORT));
	CHECK(!family || !optioned_arrives(client, at_switch, f->vip, CLUSTER_PORT));
	CHECK_OK(fabric_filters_set(c->fabric, &rules[1], 1));
	CHECK(!family || optioned_arrives(client, at_switch, f->vip, CLUSTER_PORT));
	CHECK(fabric_filter_refused(c->fabric, &rules[0].network) == 0);
	CHECK(fabric_filters_set(c->fabric, rules, FABRIC_FILTERS_MAX + 1) == -EINVAL);
	restart_with_filters(c, NULL, 0);
	fabric_flow_remove(c->fabric, &flow);
	close(client);
	close(at_switch);
	close(at_other_port);
	close(at_node);
	printf("ok: filters, %s\n", f->name);
}

/* A device that is taken for dead owns nothing any more, and cannot reach clients by the switch. */
static void test_removal(struct cluster *c)
{
	const struct cluster_family *f = &cluster_families[0];
	int client = udp_socket(c->client, f->client, 5002);
	int at_switch = udp_socket(c->devices[0].netns, f->vip, ECHO_PORT);
	int at_node = udp_socket(c->devices[1].netns, f->vip, ECHO_PORT);
	struct flow_key flow = flow_of(f, 5002, IPPROTO_UDP);
	struct fabric_flow got;
	uint32_t generation;

	CHECK_OK(fabric_flow_set(c->fabric, &flow, c->devices[1].index, &generation));
	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_node));
	fabric_device_remove(c->fabric, c->devices[1].index);
	CHECK_OK(fabric_flow_get(c->fabric, &flow, &got));
	CHECK(got.device == FABRIC_SWITCH && got.generation == generation + 1);
	send_to(client, f->vip, ECHO_PORT);
	CHECK(arrives(at_switch));
	send_to(at_node, f->client, 5002);
	CHECK(arrives(client) == c->is_one_arm);
	if (!c->is_one_arm)
		CHECK(cluster_fabric_counter(c, "device_fenced") == 1);
	CHECK(fabric_flow_set(c->fabric, &flow, c->devices[1].index, &generation) == -ENODEV);
	fabric_flow_remove(c->fabric, &flow);
	CHECK_OK(fabric_device_set(c->fabric, c->devices[1].index, c->devices[1].mac, c->devices[0].interface));
	close(client);
	close(at_switch);
	close(at_node);
	printf("ok: removal of a device\n");
}

/*
 * Who had a flow has no say in it any more: a device that comes back when it was taken for dead, or that does not know what it
 * did. But who gets it back may speak before the switch knows.
 */
static void test_fencing(struct cluster *c, int family)
{
	const struct cluster_family *f = &cluster_families[family];
	const struct cluster_device *a = &c->devices[1], *b = &c->devices[2];
	int client = udp_socket(c->client, f->client, 5004);
	int at_a = udp_socket(a->netns, f->vip, ECHO_PORT), at_b = udp_socket(b->netns, f->vip, ECHO_PORT);
	struct flow_key flow = flow_of(f, 5004, IPPROTO_UDP), unknown = flow_of(f, 5005, IPPROTO_UDP);
	uint64_t fenced = cluster_fabric_counter(c, "device_former_owner");
	uint32_t generation;

	CHECK_OK(fabric_flow_set(c->fabric, &flow, a->index, &generation));
	send_to(at_b, f->client, 5004);
	CHECK(arrives(client));
	orphan(c, a->index);
	send_to(at_a, f->client, 5004);
	CHECK(!arrives(client));
	CHECK(cluster_fabric_counter(c, "device_former_owner") == fenced + 1);
	send_to(at_b, f->client, 5004);
	CHECK(arrives(client));
	CHECK(fabric_flow_announce(c->fabric, &flow, b->index, a->index) == -EPERM);
	send_to(at_a, f->client, 5004);
	CHECK(!arrives(client));
	CHECK_OK(fabric_flow_announce(c->fabric, &flow, FABRIC_SWITCH, a->index));
	send_to(at_a, f->client, 5004);
	CHECK(arrives(client));
	CHECK_OK(fabric_flow_give(c->fabric, &flow, FABRIC_SWITCH, a->index, 3, &generation));
	CHECK_OK(fabric_flow_give(c->fabric, &flow, a->index, b->index, 4, &generation));

	/* node-b has sent no datagram with a key: it can't announce, so nobody is fenced. */
	send_to(at_a, f->client, 5004);
	CHECK(arrives(client));
	CHECK_OK(fabric_flow_give(c->fabric, &flow, b->index, FABRIC_SWITCH, 5, &generation));
	send_to(at_a, f->client, 5004);
	CHECK(!arrives(client));
	send_to(at_b, f->client, 5004);
	CHECK(!arrives(client));
	CHECK(cluster_fabric_counter(c, "device_former_owner") == fenced + 4);
	CHECK(fabric_flow_announce(c->fabric, &unknown, FABRIC_SWITCH, a->index) == -ENOENT);
	fabric_flow_remove(c->fabric, &flow);
	close(client);
	close(at_a);
	close(at_b);
	printf("ok: fencing, %s\n", f->name);
}

/* After an upgrade: a table that we would misread is replaced. */
static void test_layout(struct cluster *c)
{
	int fd;

	netns_enter(c->devices[0].netns);
	fabric_free(c->fabric, false);
	CHECK(unlink(NETNS_BPFFS "/fabric/fabric_flows") == 0);
	fd = bpf_map_create(BPF_MAP_TYPE_HASH, "fabric_flows_0", sizeof(struct flow_key), 48, 10, NULL);
	CHECK(fd >= 0);
	CHECK_OK(bpf_obj_pin(fd, NETNS_BPFFS "/fabric/fabric_flows"));
	close(fd);
	cluster_start_fabric(c);
	test_table(c);
	printf("ok: layout of another version\n");
}

static void test_topology(bool is_one_arm)
{
	struct cluster c;

	cluster_make(&c, is_one_arm);
	printf("%s\n", is_one_arm ? "one-arm" : "inline");
	for (int family = 0; family < CLUSTER_FAMILIES; family++) {
		test_forwarding(&c, family);
		test_traffic(&c, family);
		test_filters(&c, family);
		test_reopening(&c, family);
		test_restart(&c, family);
		if (!is_one_arm)
			test_fencing(&c, family);
	}
	test_giving(&c);
	test_table(&c);
	test_removal(&c);
	if (!is_one_arm)
		test_layout(&c);
	cluster_print_counters(&c);
	cluster_remove(&c);
}

int main(int argc, char **argv)
{
	log_open(argc > 1 && strcmp(argv[1], "-v") == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_ERR);
	netns_setup(true);
	test_topology(false);
	test_topology(true);
	return 0;
}
