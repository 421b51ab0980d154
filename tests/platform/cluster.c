/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "tests/platform/cluster.h"

#include "tests/platform/netns.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

const struct cluster_family cluster_families[CLUSTER_FAMILIES] = {
	{ "IPv4", "10.9.0.1", "10.9.0.2" },
	{ "IPv6", "fd09::1", "fd09::2" },
};

/* The devices' own network, inline. */
static const char *const device_gateways[CLUSTER_FAMILIES] = { "10.10.0.1", "fd10::1" };

const char *cluster_switch_address(const struct cluster *c, int family)
{
	static const char *const one_arm[CLUSTER_FAMILIES] = { "10.9.0.9", "fd09::9" };

	return c->is_one_arm ? one_arm[family] : device_gateways[family];
}

static void add_address(int netns, const char *interface, const char *ipv4, const char *ipv6)
{
	netns_run(netns, "ip addr add %s dev %s && ip -6 addr add %s dev %s nodad", ipv4, interface, ipv6, interface);
}

static void connect_client(struct cluster *c)
{
	c->client = netns_new();
	if (c->is_one_arm) {
		netns_link(c->client, "eth0", c->hub, "client");
		netns_run(c->hub, "ip link set client master bridge");
	} else {
		netns_link(c->client, "eth0", c->devices[0].netns, "clients");
	}
	add_address(c->client, "eth0", "10.9.0.2/24", "fd09::2/64");
}

/* The one device that answers ARP and neighbour discovery for the VIP. */
static void connect_switch(struct cluster *c)
{
	struct cluster_device *s = &c->devices[0];

	if (c->is_one_arm) {
		s->interface = "eth0";
		netns_link(s->netns, "eth0", c->hub, "switch");
		netns_run(c->hub, "ip link set switch master bridge");
	} else {
		s->interface = "devices";
		netns_run(s->netns, "ip link add devices type bridge && ip link set devices up");
		add_address(s->netns, "devices", "10.10.0.1/24", "fd10::1/64");
	}
	connect_client(c);
	add_address(s->netns, c->is_one_arm ? "eth0" : "clients", "10.9.0.1/24", "fd09::1/64");
	if (c->is_one_arm)
		add_address(s->netns, "eth0", "10.9.0.9/24", "fd09::9/64");
}

static void connect_node(struct cluster *c, struct cluster_device *node)
{
	char ipv4[32], ipv6[32];

	node->interface = "eth0";
	netns_link(node->netns, "eth0", c->is_one_arm ? c->hub : c->devices[0].netns, node->name);
	netns_run(c->is_one_arm ? c->hub : c->devices[0].netns, "ip link set %s master %s", node->name,
		  c->is_one_arm ? "bridge" : "devices");
	snprintf(ipv4, sizeof(ipv4), "10.%d.0.1%u/24", c->is_one_arm ? 9 : 10, node->index);
	snprintf(ipv6, sizeof(ipv6), "fd%s::1%u/64", c->is_one_arm ? "09" : "10", node->index);
	add_address(node->netns, "eth0", ipv4, ipv6);
	add_address(node->netns, "lo", "10.9.0.1/32", "fd09::1/128");
	if (!c->is_one_arm)
		netns_run(node->netns, "ip route add default via %s && ip -6 route add default via %s",
			  device_gateways[0], device_gateways[1]);
}

void cluster_start_helper(struct cluster *c, struct cluster_device *d)
{
	struct kernel_helper_options options = {
		.park_name = "vnas-park",
		.interface_count = 1,
		.inherited_ms = c->inherited_ms,
		.held_ms = c->held_ms,
	};
	char pin_dir[64];

	snprintf(pin_dir, sizeof(pin_dir), NETNS_BPFFS "/%s", d->name);
	options.pin_dir = pin_dir;
	snprintf(options.interfaces[0], IFNAMSIZ, "%s", d->interface);
	if (d->index == FABRIC_SWITCH && !c->is_one_arm)
		snprintf(options.interfaces[options.interface_count++], IFNAMSIZ, "clients");
	netns_enter(d->netns);
	CHECK_OK(kernel_helper_new(c->base, &options, &d->helper));
}

static void start_device(struct cluster *c, struct cluster_device *d)
{
	netns_mac(d->netns, d->interface, d->mac);
	netns_enter(d->netns);
	d->ifindex = if_nametoindex(d->interface);
	for (int i = 0; i < CLUSTER_FAMILIES; i++)
		d->listener[i] = netns_listen(d->netns, cluster_families[i].vip, CLUSTER_PORT);
	cluster_start_helper(c, d);
}

static void configure_fabric(struct cluster *c)
{
	struct fabric_options *o = &c->fabric_options;
	struct sockaddr_storage vip;
	struct flow_key flow;

	*o = (struct fabric_options){
		.pin_dir = NETNS_BPFFS "/fabric",
		.client_port_count = 1,
		.device_port_count = 1,
		.vip_count = CLUSTER_FAMILIES,
		.flows_max = CLUSTER_FLOWS_MAX,
		.eap_port = CLUSTER_EAP_PORT,
		.nfs_port = CLUSTER_PORT,
		.cluster = CLUSTER_ID,
	};
	snprintf(o->client_ports[0], IFNAMSIZ, "%s", c->is_one_arm ? "eth0" : "clients");
	snprintf(o->device_ports[0], IFNAMSIZ, "%s", c->devices[0].interface);
	for (int i = 0; i < CLUSTER_FAMILIES; i++) {
		netns_address(cluster_families[i].vip, 0, &vip);
		CHECK_OK(flow_from_sockets(&vip, &vip, IPPROTO_TCP, &flow));
		memcpy(o->vips[i], flow.vip, sizeof(o->vips[i]));
	}
	netns_address(cluster_switch_address(c, 0), 0, &vip);
	CHECK_OK(flow_address(&vip, o->eap_address));
}

void cluster_start_fabric(struct cluster *c)
{
	netns_enter(c->devices[0].netns);
	CHECK_OK(fabric_new(&c->fabric_options, &c->fabric));
	for (int i = 1; i < CLUSTER_DEVICES; i++)
		CHECK_OK(fabric_device_set(c->fabric, c->devices[i].index, c->devices[i].mac, c->devices[0].interface));
}

void cluster_make(struct cluster *c, bool is_one_arm)
{
	static const char *const names[CLUSTER_DEVICES] = { "switch", "node-a", "node-b" };

	memset(c, 0, sizeof(*c));
	c->is_one_arm = is_one_arm;
	c->base = event_base_new();
	c->hub = netns_new();
	if (is_one_arm)
		netns_run(c->hub, "ip link add bridge type bridge && ip link set bridge up");
	for (uint32_t i = 0; i < CLUSTER_DEVICES; i++)
		c->devices[i] = (struct cluster_device){
			.name = names[i], .index = FABRIC_SWITCH + i, .netns = netns_new() };
	connect_switch(c);
	for (int i = 1; i < CLUSTER_DEVICES; i++)
		connect_node(c, &c->devices[i]);
	for (int i = 0; i < CLUSTER_DEVICES; i++)
		start_device(c, &c->devices[i]);
	configure_fabric(c);
	cluster_start_fabric(c);
}

void cluster_stop_kernel(struct cluster *c)
{
	netns_enter(c->devices[0].netns);
	fabric_free(c->fabric, true);
	c->fabric = NULL;
	for (int i = 0; i < CLUSTER_DEVICES; i++) {
		netns_enter(c->devices[i].netns);
		kernel_helper_free(c->devices[i].helper, true);
		c->devices[i].helper = NULL;
	}
}

void cluster_remove(struct cluster *c)
{
	netns_enter(c->devices[0].netns);
	fabric_free(c->fabric, true);
	for (int i = 0; i < CLUSTER_DEVICES; i++) {
		struct cluster_device *d = &c->devices[i];

		netns_enter(d->netns);
		kernel_helper_free(d->helper, true);
		netns_run(d->netns, "! tc qdisc show | grep clsact && ! ip link show vnas-park 2>/dev/null");
		for (int family = 0; family < CLUSTER_FAMILIES; family++)
			close(d->listener[family]);
		close(d->netns);
	}
	netns_run(c->client, "! ls -A " NETNS_BPFFS " | grep -v debug");
	close(c->client);
	close(c->hub);
	event_base_free(c->base);
}

void cluster_accept(struct cluster *cluster, int family, struct cluster_connection *c)
{
	struct sockaddr_storage client, vip;
	socklen_t len = sizeof(client);

	memset(c, 0, sizeof(*c));
	c->owner = &cluster->devices[0];
	c->server.fd = accept(c->owner->listener[family], (struct sockaddr *)&client, &len);
	CHECK(c->server.fd >= 0);
	len = sizeof(vip);
	CHECK(getsockname(c->server.fd, (struct sockaddr *)&vip, &len) == 0);
	CHECK_OK(flow_from_sockets(&client, &vip, IPPROTO_TCP, &c->flow));
	CHECK_OK(kernel_helper_adopt(c->owner->helper, c->server.fd, &c->fixed));
}

uint64_t cluster_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void change_owner(struct cluster *cluster, struct cluster_connection *c, struct cluster_device *to)
{
	struct fabric_flow flow = { 0 };
	uint32_t generation;

	fabric_flow_get(cluster->fabric, &c->flow, &flow);
	CHECK_OK(fabric_flow_set(cluster->fabric, &c->flow, to->index, &generation));
	CHECK(generation == flow.generation + 1);
	c->owner = to;
}

static void prepare(struct cluster_connection *c, struct cluster_device *to, int *fd)
{
	struct kernel_helper_state sketch;

	CHECK_OK(kernel_helper_sketch(c->owner->helper, c->server.fd, &c->flow, &c->fixed, &sketch));
	netns_enter(to->netns);
	CHECK_OK(kernel_helper_prepare(to->helper, &sketch, fd));
}

unsigned int cluster_move(struct cluster *cluster, struct cluster_connection *c, struct cluster_device *to)
{
	uint64_t start_us = cluster_now_us(), live_us;
	struct cluster_device *from = c->owner;
	struct kernel_helper_state state;
	static bool is_prepared;
	int fd = -1;

	is_prepared = !is_prepared;
	if (is_prepared)
		prepare(c, to, &fd);
	fabric_flow_announce(cluster->fabric, &c->flow, from->index, to->index);
	CHECK_OK(kernel_helper_hold(from->helper, &c->flow));
	CHECK_OK(kernel_helper_freeze(from->helper, c->server.fd, &c->flow, &c->fixed, false, &state));
	netns_enter(to->netns);
	CHECK_OK(kernel_helper_restore(to->helper, &state, &fd));
	live_us = cluster_now_us();
	c->fixed.send_base = state.send_unacknowledged;
	c->fixed.receive_base = state.receive_next;
	CHECK_OK(kernel_helper_relay(from->helper, &c->flow, to->mac, from->ifindex));
	change_owner(cluster, c, to);
	kernel_helper_silence(from->helper, c->server.fd);
	c->server.fd = fd;
	load_pend_first(&c->server, state.unsent, state.unsent_len);
	load_pend(&c->server, state.received, state.received_len);
	kernel_helper_state_fini(&state);
	return (unsigned int)(live_us - start_us);
}

/* What a silent socket acknowledges late, the client hears of late; and it has no answers to wait for. */
static void acknowledge_at_once(int fd)
{
	CHECK(setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 1 }, sizeof(int)) == 0);
}

/* What the second device has got to read so far; it may not answer yet. */
static void read_on(struct load_server *server)
{
	uint8_t bytes[65536];
	ssize_t len = 0;

	while (server->pending_len < LOAD_PENDING_MAX / 2 &&
	       (len = recv(server->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		load_pend(server, bytes, (size_t)len);
	CHECK(len >= 0 || errno == EAGAIN);
	acknowledge_at_once(server->fd);
}

/* Bytes that the client has not acknowledged. */
static int in_flight(int fd)
{
	int bytes;

	CHECK(ioctl(fd, SIOCOUTQ, &bytes) == 0);
	return bytes;
}

/* Sends what is pending until the client has all of it. */
static void drain(struct cluster *cluster, struct load_server *from, struct load_server *to)
{
	uint64_t until_us = cluster_now_us() + 10000000;

	while (from->pending_len || in_flight(from->fd)) {
		ssize_t len = from->pending_len ?
				      send(from->fd, from->pending, from->pending_len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

		if (len > 0) {
			from->pending_len -= (size_t)len;
			from->echoed += (uint64_t)len;
			memmove(from->pending, from->pending + len, from->pending_len);
		}
		read_on(to);
		event_base_loop(cluster->base, EVLOOP_NONBLOCK);
		CHECK(cluster_now_us() < until_us);
	}
}

static void discard(int fd)
{
	while (recv(fd, NULL, 1 << 20, MSG_TRUNC | MSG_DONTWAIT) > 0)
		;
	acknowledge_at_once(fd);
}

/* Fig. 7: the second device receives. What the first one has read it answers itself. */
static void halve_towards_devices(struct cluster *cluster, struct cluster_connection *c, struct cluster_device *to,
				  struct kernel_helper_state *state, bool reclaims)
{
	struct kernel_helper_peer first = { .part = KERNEL_HELPER_SENDS }, second = { .part = KERNEL_HELPER_RECEIVES };
	struct load_server server = { .fd = -1 };
	struct kernel_helper_state half = *state;
	uint32_t stamp;

	half.send_unacknowledged += (uint32_t)(state->sent_len + state->unsent_len + c->server.pending_len);
	half.sent_len = 0;
	memcpy(first.mac, to->mac, 6);
	memcpy(second.mac, c->owner->mac, 6);
	first.ifindex = c->owner->ifindex;
	second.ifindex = to->ifindex;
	netns_enter(to->netns);
	CHECK_OK(kernel_helper_restore_half(to->helper, &half, &second, &server.fd));
	load_pend(&server, state->received, state->received_len);
	CHECK_OK(kernel_helper_share(c->owner->helper, c->server.fd, state, &first));
	drain(cluster, &c->server, &server);
	if (reclaims) {
		kernel_helper_silence(to->helper, server.fd);
		kernel_helper_reclaim(c->owner->helper, &c->flow, &c->fixed);
		free(server.pending);
		return;
	}
	CHECK_OK(kernel_helper_relay(c->owner->helper, &c->flow, to->mac, c->owner->ifindex));
	stamp = kernel_helper_last_stamp(c->owner->helper, &c->flow);
	kernel_helper_silence(c->owner->helper, c->server.fd);
	CHECK_OK(kernel_helper_take_over(to->helper, server.fd, &c->flow, &c->fixed, stamp));
	change_owner(cluster, c, to);
	server.echoed = c->server.echoed;
	c->fixed.send_base = half.send_unacknowledged;
	c->fixed.receive_base = half.receive_next;
	free(c->server.pending);
	c->server = server;
}

/* Fig. 8: the second device sends. The first one only acknowledges. */
static void halve_towards_client(struct cluster *cluster, struct cluster_connection *c, struct cluster_device *to,
				 struct kernel_helper_state *state, uint64_t bytes)
{
	struct kernel_helper_peer first = { .part = KERNEL_HELPER_RECEIVES }, second = { .part = KERNEL_HELPER_SENDS };
	struct cluster_device *from = c->owner;
	uint64_t end = c->server.echoed + bytes;
	int old_fd = c->server.fd;

	memcpy(first.mac, to->mac, 6);
	memcpy(second.mac, from->mac, 6);
	first.ifindex = from->ifindex;
	second.ifindex = to->ifindex;
	netns_enter(to->netns);
	c->server.fd = -1;
	CHECK_OK(kernel_helper_restore_half(to->helper, state, &second, &c->server.fd));
	c->fixed.send_base = state->send_unacknowledged;
	c->fixed.receive_base = state->receive_next;
	load_pend_first(&c->server, state->unsent, state->unsent_len);
	load_pend(&c->server, state->received, state->received_len);
	CHECK_OK(kernel_helper_share(from->helper, old_fd, state, &first));
	while (c->server.echoed < end) {
		discard(old_fd);
		CHECK(load_serve(&c->server) == 1);
		event_base_loop(cluster->base, EVLOOP_NONBLOCK);
	}
	CHECK_OK(kernel_helper_relay(from->helper, &c->flow, to->mac, from->ifindex));
	CHECK_OK(kernel_helper_take_over(to->helper, c->server.fd, &c->flow, &c->fixed, 0)); /* it is who spoke */
	change_owner(cluster, c, to);
	kernel_helper_silence(from->helper, old_fd);
}

void cluster_halve(struct cluster *cluster, struct cluster_connection *c, struct cluster_device *to,
		   enum kernel_helper_part first_part, uint64_t bytes, bool reclaims)
{
	struct kernel_helper_state state;

	fabric_flow_announce(cluster->fabric, &c->flow, c->owner->index, to->index);
	CHECK_OK(kernel_helper_hold(c->owner->helper, &c->flow));
	CHECK_OK(kernel_helper_freeze(c->owner->helper, c->server.fd, &c->flow, &c->fixed,
				      first_part == KERNEL_HELPER_SENDS, &state));
	if (first_part == KERNEL_HELPER_SENDS)
		halve_towards_devices(cluster, c, to, &state, reclaims);
	else
		halve_towards_client(cluster, c, to, &state, bytes);
	kernel_helper_state_fini(&state);
}

void cluster_refuse(struct cluster *cluster __attribute__((unused)), struct cluster_connection *c)
{
	struct kernel_helper_state state;

	CHECK_OK(kernel_helper_hold(c->owner->helper, &c->flow));
	CHECK_OK(kernel_helper_freeze(c->owner->helper, c->server.fd, &c->flow, &c->fixed, false, &state));
	usleep(100);
	kernel_helper_release(c->owner->helper, c->server.fd, &c->flow);
	kernel_helper_state_fini(&state);
}

void cluster_serve(struct cluster *cluster, struct cluster_connection *c, uint64_t bytes)
{
	uint64_t end = c->server.echoed + bytes;

	while (c->server.echoed < end) {
		CHECK(load_serve(&c->server) == 1);
		event_base_loop(cluster->base, EVLOOP_NONBLOCK);
	}
}

void cluster_finish(struct cluster *cluster, struct cluster_connection *c)
{
	while (load_serve(&c->server))
		event_base_loop(cluster->base, EVLOOP_NONBLOCK);
	close(c->server.fd);
	free(c->server.pending);
}

uint64_t cluster_helper_counter(struct cluster_device *device, const char *name)
{
	const struct kernel_helper_counter *c;
	size_t count;

	c = kernel_helper_counters(device->helper, &count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(c[i].name, name) == 0)
			return c[i].packets;
	fail("no counter %s", name);
}

uint64_t cluster_fabric_counter(struct cluster *cluster, const char *name)
{
	const struct fabric_counter *c;
	size_t count;

	c = fabric_counters(cluster->fabric, &count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(c[i].name, name) == 0)
			return c[i].packets;
	fail("no counter %s", name);
}

static void print_counter(const char *name, uint64_t packets)
{
	if (packets)
		printf(" %s=%llu", name, (unsigned long long)packets);
}

void cluster_print_counters(struct cluster *cluster)
{
	const struct fabric_counter *f;
	size_t count;

	f = fabric_counters(cluster->fabric, &count);
	printf("  fabric:");
	for (size_t i = 0; i < count; i++)
		print_counter(f[i].name, f[i].packets);
	printf("\n");
	for (int d = 0; d < CLUSTER_DEVICES; d++) {
		const struct kernel_helper_counter *c = kernel_helper_counters(cluster->devices[d].helper, &count);

		printf("  %s:", cluster->devices[d].name);
		for (size_t i = 0; i < count; i++)
			print_counter(c[i].name, c[i].packets);
		printf("\n");
	}
}
