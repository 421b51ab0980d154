/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client notices that its connection was moved: a wrong, lost or doubled byte, a RST, a long stall.
 *
 * One connection under load goes round between the switch and two nodes some hundred times, inline and one-arm, IPv4
 * and IPv6; now and then the second device "refuses" and the first goes on. And, step by step: what the switch already
 * sends to the new owner does not overtake what the old one still has to relay.
 */
#include "config.h"

#include "common/log.h"
#include "common/node_map.h"
#include "tests/platform/cluster.h"
#include "tests/platform/netns.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <event2/event.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * A refused handoff may cost a retransmission timeout: replies in bulk mostly, a light load once in some hundred
 * (common/kernel_helper.h); a handoff that lost packets would cost one each time. In bulk, packets overtake
 * each other also without handoffs, when two CPUs work on the connection; else, one in 12 handoffs is far too many.
 */
enum {
	HANDOFFS = 300,
	REFUSE_EVERY = 7,
	REFUSE_LEN_MAX = 4096,
	REORDERED_MAX = HANDOFFS / 12,
	TIMEOUTS_MAX = HANDOFFS / 100,
	LIGHT_BYTES_MAX = 16384,
};

struct tcp_counters {
	uint64_t resets, retransmits, probes, duplicates, timeouts, reordered;
};

static struct tcp_counters read_tcp_counters(int netns)
{
	return (struct tcp_counters){
		.resets = netns_counter(netns, "Tcp", "OutRsts"),
		.retransmits = netns_counter(netns, "Tcp", "RetransSegs"),
		.probes = netns_counter(netns, "TcpExt", "TCPLossProbes"),
		.duplicates = netns_counter(netns, "TcpExt", "TCPDSACKRecvSegs"),
		.timeouts = netns_counter(netns, "TcpExt", "TCPTimeouts"),
		.reordered = netns_counter(netns, "TcpExt", "TCPOFOQueue"),
	};
}

struct load_shape {
	size_t message_len, window;
};

static bool is_light(const struct load_shape *shape)
{
	return shape->message_len * shape->window <= LIGHT_BYTES_MAX;
}

static const char client_name[] = "client";

/*
 * What the client sent twice had arrived: it was late (the machine stalled, and a tail loss probe fired, handoff.md
 * 2.2) or overtaken by packets of another CPU. A device cannot be asked: its next owner hears of its duplicates. In
 * bulk the last packets of the old owner may be overtaken by the new one's, whose timestamps are higher (handoff.md
 * 3.8), so that the client drops them: seen once in some thousand moves, and mended after a second.
 */
static void check_tcp(const char *who, int netns, const struct tcp_counters *before, const struct load_shape *shape)
{
	struct tcp_counters now = read_tcp_counters(netns);
	uint64_t retransmits = now.retransmits - before->retransmits, probes = now.probes - before->probes;
	uint64_t duplicates = now.duplicates - before->duplicates, timeouts = now.timeouts - before->timeouts;
	uint64_t reordered = now.reordered - before->reordered;

	if (retransmits || timeouts || reordered)
		printf("  %s: %llu retransmits (%llu tail loss probes, %llu had arrived), %llu timeouts, %llu reordered\n",
		       who, (unsigned long long)retransmits, (unsigned long long)probes, (unsigned long long)duplicates,
		       (unsigned long long)timeouts, (unsigned long long)reordered);
	CHECK(now.resets == before->resets);
	if (who != client_name && shape->message_len <= REFUSE_LEN_MAX)
		CHECK(reordered <= REORDERED_MAX);
	if (is_light(shape))
		CHECK(timeouts <= TIMEOUTS_MAX);
	if (who == client_name && is_light(shape))
		CHECK(retransmits <= probes + duplicates + timeouts);
}

static void check_devices(struct cluster *cluster)
{
	static const char *const never[] = { "park_write_failed", "park_overflowed", "park_unreadable",
					     "relay_hop_limit", "relay_failed", "bad_state", "order_forced" };

	for (int i = 0; i < CLUSTER_DEVICES; i++)
		for (size_t j = 0; j < sizeof(never) / sizeof(never[0]); j++)
			CHECK(cluster_helper_counter(&cluster->devices[i], never[j]) == 0);
}

static void go_round(struct cluster *cluster, int family, const struct load_shape *shape)
{
	const struct cluster_family *f = &cluster_families[family];
	struct tcp_counters before[CLUSTER_DEVICES + 1] = { read_tcp_counters(cluster->client) };
	unsigned int moves = 0, live_us = 0;
	struct cluster_connection c;
	struct load_client load;
	struct load_result result;

	for (int i = 0; i < CLUSTER_DEVICES; i++)
		before[i + 1] = read_tcp_counters(cluster->devices[i].netns);
	load = load_start(cluster->client, f->vip, CLUSTER_PORT, shape->message_len, shape->window);
	cluster_accept(cluster, family, &c);
	for (int i = 1; i <= HANDOFFS; i++) {
		cluster_serve(cluster, &c, (1 + (size_t)i * 7 % 20) * shape->message_len);
		if (i % REFUSE_EVERY == 0 && shape->message_len <= REFUSE_LEN_MAX) {
			cluster_refuse(cluster, &c);
		} else {
			live_us += cluster_move(cluster, &c, &cluster->devices[(moves + 1) % CLUSTER_DEVICES]);
			moves++;
		}
	}
	cluster_serve(cluster, &c, 100 * shape->message_len);
	load_stop(&load);
	cluster_finish(cluster, &c);
	result = load_wait(&load);
	printf("ok: %s, %s, %zu bytes x %zu: %u moves, %u us until live, %llu messages, longest gap %llu us\n",
	       cluster->is_one_arm ? "one-arm" : "inline", f->name, shape->message_len, shape->window, moves,
	       live_us / moves, (unsigned long long)result.messages, (unsigned long long)result.longest_gap_us);
	check_tcp(client_name, cluster->client, &before[0], shape);
	for (int i = 0; i < CLUSTER_DEVICES; i++) {
		check_tcp(cluster->devices[i].name, cluster->devices[i].netns, &before[i + 1], shape);
		kernel_helper_forget(cluster->devices[i].helper, &c.flow);
	}
	check_devices(cluster);
}

static int open_flows(const char *device)
{
	char path[100];
	int fd;

	snprintf(path, sizeof(path), NETNS_BPFFS "/%s/node_flows", device);
	fd = bpf_obj_get(path);
	CHECK(fd >= 0);
	return fd;
}

static void put_half(const char *device, const struct flow_key *flow, enum node_part part)
{
	struct node_flow entry = { .gate = NODE_HALF, .way.part = part };
	int fd = open_flows(device);

	CHECK(bpf_map_update_elem(fd, flow, &entry, BPF_NOEXIST) == 0);
	close(fd);
}

static bool has_entry(const char *device, const struct flow_key *flow)
{
	int fd = open_flows(device);
	struct node_flow entry;
	bool found;

	found = bpf_map_lookup_elem(fd, flow, &entry) == 0;
	close(fd);
	return found;
}

static int connect_client(struct cluster *cluster, const struct cluster_family *f)
{
	struct sockaddr_storage vip;
	socklen_t len = netns_address(f->vip, CLUSTER_PORT, &vip);
	int fd;

	netns_enter(cluster->client);
	fd = socket(vip.ss_family, SOCK_STREAM, 0);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&vip, len) == 0);
	return fd;
}

static char receive_byte(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte = 0;

	return poll(&p, 1, 1000) == 1 && recv(fd, &byte, 1, 0) == 1 ? byte : 0;
}

/* In peace: neither side resets. */
static void close_both(int client, int server)
{
	close(client);
	CHECK(receive_byte(server) == 0);
	close(server);
}

static void wait_for_packets(struct cluster *cluster, struct cluster_device *device, const char *counter, uint64_t count)
{
	for (int i = 0; cluster_helper_counter(device, counter) < count; i++) {
		CHECK(i < 1000);
		usleep(1000);
	}
	event_base_loop(cluster->base, EVLOOP_NONBLOCK);
}

/* The slowest first device: it relays only when the switch has already sent something to the second one. */
static void go_direct_too_early(struct cluster *cluster, int family)
{
	struct cluster_device *from = &cluster->devices[1], *to = &cluster->devices[2];
	int client = connect_client(cluster, &cluster_families[family]), fd = -1;
	uint64_t reordered = netns_counter(to->netns, "TcpExt", "TCPOFOQueue");
	uint64_t parked = cluster_helper_counter(from, "in_parked"), early = cluster_helper_counter(to, "in_too_early");
	struct kernel_helper_state state;
	struct cluster_connection c;
	uint32_t generation;
	char byte;

	cluster_accept(cluster, family, &c);
	cluster_move(cluster, &c, from);
	CHECK_OK(kernel_helper_hold(from->helper, &c.flow));
	CHECK(write(client, "1", 1) == 1);
	CHECK_OK(kernel_helper_freeze(from->helper, c.server.fd, &c.flow, &c.fixed, false, &state));
	wait_for_packets(cluster, from, "in_parked", parked + 1);
	netns_enter(to->netns);
	CHECK_OK(kernel_helper_restore(to->helper, &state, &fd));
	CHECK_OK(fabric_flow_set(cluster->fabric, &c.flow, to->index, &generation));
	CHECK(write(client, "2", 1) == 1);
	wait_for_packets(cluster, to, "in_too_early", early + 1);
	CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) < 0);
	CHECK(!kernel_helper_is_settled(to->helper, fd, &c.flow, state.sent_len));

	/* Behind it all others wait, also the one that was missing. */
	CHECK_OK(kernel_helper_relay(from->helper, &c.flow, to->mac, from->ifindex));
	wait_for_packets(cluster, to, "in_too_early", early + 2);
	CHECK(receive_byte(fd) == '1' && receive_byte(fd) == '2');
	CHECK(write(client, "3", 1) == 1);
	CHECK(receive_byte(fd) == '3');
	CHECK(netns_counter(to->netns, "TcpExt", "TCPOFOQueue") == reordered);

	kernel_helper_silence(from->helper, c.server.fd);
	kernel_helper_forget(from->helper, &c.flow);
	kernel_helper_state_fini(&state);
	free(c.server.pending);
	close_both(client, fd);
	printf("ok: %s, %s: sent directly too early\n", cluster->is_one_arm ? "one-arm" : "inline",
	       cluster_families[family].name);
}

/* What was lost before it came here is TCP's affair: it gets what follows, says so, and the client sends again. */
static void lose_packet(struct cluster *cluster, int family)
{
	struct cluster_device *from = &cluster->devices[0], *to = &cluster->devices[1];
	int client = connect_client(cluster, &cluster_families[family]), fd = -1;
	uint64_t parked = cluster_helper_counter(from, "in_parked"), early = cluster_helper_counter(to, "in_too_early");
	struct kernel_helper_state state;
	struct cluster_connection c;
	uint32_t generation;
	char byte = 0;

	cluster_accept(cluster, family, &c);
	CHECK_OK(kernel_helper_hold(from->helper, &c.flow));
	CHECK(write(client, "1", 1) == 1);
	wait_for_packets(cluster, from, "in_parked", parked + 1);
	CHECK_OK(kernel_helper_freeze(from->helper, c.server.fd, &c.flow, &c.fixed, false, &state));
	netns_enter(to->netns);
	CHECK_OK(kernel_helper_restore(to->helper, &state, &fd));
	CHECK_OK(fabric_flow_set(cluster->fabric, &c.flow, to->index, &generation));
	CHECK(write(client, "2", 1) == 1);
	wait_for_packets(cluster, to, "in_too_early", early + 1);
	for (int i = 0; i < 5000 && recv(fd, &byte, 1, MSG_DONTWAIT) < 0; i++) {
		event_base_loop(cluster->base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	CHECK(byte == '1' && receive_byte(fd) == '2');

	/* The end of the order, which takes place here. */
	for (int i = 0; i < 5000 && has_entry("node-a", &c.flow); i++) {
		event_base_loop(cluster->base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	CHECK(!has_entry("node-a", &c.flow));
	kernel_helper_forget(from->helper, &c.flow);
	kernel_helper_silence(from->helper, c.server.fd);
	kernel_helper_state_fini(&state);
	close_both(client, fd);
	printf("ok: %s, %s: lost on the way\n", cluster->is_one_arm ? "one-arm" : "inline", cluster_families[family].name);
}

/* The client's own counter tells: without the acknowledgment it sends its byte again. False: it did. */
static bool acknowledges_for(struct cluster *cluster, int family)
{
	struct cluster_device *from = &cluster->devices[0], *to = &cluster->devices[1];
	int client = connect_client(cluster, &cluster_families[family]), fd = -1, unacknowledged = 1;
	uint64_t sent_again = netns_counter(cluster->client, "Tcp", "RetransSegs");
	struct kernel_helper_state state;
	struct cluster_connection c;
	uint32_t generation;

	cluster_accept(cluster, family, &c);
	CHECK(setsockopt(c.server.fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 0 }, sizeof(int)) == 0);
	CHECK(write(client, "1", 1) == 1);
	CHECK_OK(kernel_helper_hold(from->helper, &c.flow));
	CHECK_OK(kernel_helper_freeze(from->helper, c.server.fd, &c.flow, &c.fixed, false, &state));
	CHECK(state.received_len == 1);
	netns_enter(to->netns);
	CHECK_OK(kernel_helper_restore(to->helper, &state, &fd));
	kernel_helper_acknowledge(to->helper, &state);
	for (int i = 0; unacknowledged && i < 1000; i++) {
		usleep(1000);
		CHECK(ioctl(client, SIOCOUTQ, &unacknowledged) == 0);
	}
	CHECK(!unacknowledged);
	CHECK_OK(kernel_helper_relay(from->helper, &c.flow, to->mac, from->ifindex));
	CHECK_OK(fabric_flow_set(cluster->fabric, &c.flow, to->index, &generation));
	close_both(client, fd);
	kernel_helper_silence(from->helper, c.server.fd);
	kernel_helper_forget(from->helper, &c.flow);
	kernel_helper_state_fini(&state);
	return netns_counter(cluster->client, "Tcp", "RetransSegs") == sent_again;
}

/* A busy machine may be slower than a client's patience, but not each time. */
static void acknowledge(struct cluster *cluster, int family)
{
	int tries = 1;

	while (!acknowledges_for(cluster, family))
		CHECK(tries++ < 5);
	printf("ok: %s, %s: acknowledges what the first device had received\n",
	       cluster->is_one_arm ? "one-arm" : "inline", cluster_families[family].name);
}

/*
 * The second device has spoken, and is gone before it said that it has the session: so the first one does not know how far the connection
 * is. The client, which has nothing to send, hears of the end all the same.
 */
static void reset_without_knowing(struct cluster *cluster, int family)
{
	struct cluster_device *from = &cluster->devices[1], *to = &cluster->devices[2];
	int client = connect_client(cluster, &cluster_families[family]), fd = -1;
	struct pollfd p = { .fd = client, .events = POLLIN };
	struct kernel_helper_state state;
	struct cluster_connection c;
	char byte;

	cluster_accept(cluster, family, &c);
	cluster_move(cluster, &c, from);
	fabric_flow_announce(cluster->fabric, &c.flow, from->index, to->index);
	CHECK_OK(kernel_helper_hold(from->helper, &c.flow));
	CHECK_OK(kernel_helper_freeze(from->helper, c.server.fd, &c.flow, &c.fixed, false, &state));
	netns_enter(to->netns);
	CHECK_OK(kernel_helper_restore(to->helper, &state, &fd));
	CHECK(write(fd, "1", 1) == 1);
	CHECK(receive_byte(client) == '1');
	kernel_helper_silence(to->helper, fd);

	netns_enter(from->netns);
	kernel_helper_reset(from->helper, c.server.fd, &c.flow);
	CHECK(poll(&p, 1, 3000) == 1 && recv(client, &byte, 1, 0) == -1 && errno == ECONNRESET);
	close(client);
	kernel_helper_forget(to->helper, &c.flow);
	kernel_helper_forget(cluster->devices[0].helper, &c.flow);
	kernel_helper_state_fini(&state);
	free(c.server.pending);
	printf("ok: %s, %s: reset by a device that does not know how far it is\n",
	       cluster->is_one_arm ? "one-arm" : "inline", cluster_families[family].name);
}

/* Does the device forget the flow, in the time of patience? */
static bool forgets(struct cluster *cluster, const struct cluster_device *node, const struct flow_key *flow)
{
	uint64_t until_us = cluster_now_us() + 5000000;

	while (has_entry(node->name, flow) && cluster_now_us() < until_us) {
		event_base_loop(cluster->base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	return !has_entry(node->name, flow);
}

static void note_released(const struct flow_key *flow, void *arg)
{
	memcpy(arg, flow, sizeof(*flow));
}

/* As a daemon that is killed. */
static void kill_helper(struct cluster *cluster, struct cluster_device *node)
{
	netns_enter(node->netns);
	kernel_helper_free(node->helper, false);
	cluster_start_helper(cluster, node);
}

/*
 * Late packets still find their way after a restart, for some time; what was held is so until it is known who has it, or for
 * some time; and what is held anew is this run's.
 */
static void restart_helper(struct cluster *cluster)
{
	struct cluster_device *node = &cluster->devices[1];
	struct flow_key held = { .protocol = IPPROTO_TCP, .client_port = 1 }, relayed = held, returned = held;
	struct flow_key silent = held, speaking = held, claimed = held, released = { 0 };

	relayed.client_port = 2;
	returned.client_port = 3;
	silent.client_port = 4;
	speaking.client_port = 5;
	claimed.client_port = 6;
	put_half(node->name, &silent, NODE_RECEIVES);
	put_half(node->name, &speaking, NODE_SENDS);
	CHECK_OK(kernel_helper_hold(node->helper, &held));
	CHECK_OK(kernel_helper_hold(node->helper, &claimed));
	CHECK_OK(kernel_helper_hold(node->helper, &relayed));
	CHECK_OK(kernel_helper_relay(node->helper, &relayed, cluster->devices[2].mac, node->ifindex));
	CHECK_OK(kernel_helper_hold(node->helper, &returned));
	CHECK_OK(kernel_helper_relay(node->helper, &returned, cluster->devices[2].mac, node->ifindex));
	cluster->inherited_ms = 200;
	cluster->held_ms = 100;
	kill_helper(cluster, node);
	CHECK(has_entry("node-a", &held) && has_entry("node-a", &relayed) && has_entry("node-a", &returned));
	/* Of what was held one is another device's by now, and one nobody's. */
	CHECK_OK(kernel_helper_relay_inherited(node->helper, &claimed, cluster->devices[2].mac, node->ifindex));
	CHECK(kernel_helper_relay_inherited(node->helper, &claimed, cluster->devices[2].mac, node->ifindex) == -ENOENT);
	kernel_helper_release_inherited(node->helper, note_released, &released);
	CHECK(memcmp(&released, &held, sizeof(held)) == 0);
	CHECK(!has_entry("node-a", &held) && has_entry("node-a", &claimed));
	kernel_helper_forget(node->helper, &claimed);
	/* The kernel of the silent half still tries to end it, and must not be heard by the client, who is another device's. */
	CHECK(has_entry("node-a", &silent) && !has_entry("node-a", &speaking));
	CHECK_OK(kernel_helper_hold(node->helper, &returned));
	CHECK(forgets(cluster, node, &relayed) && forgets(cluster, node, &silent));
	CHECK(has_entry("node-a", &returned));
	kernel_helper_forget(node->helper, &returned);
	CHECK(!has_entry("node-a", &returned));
	CHECK_OK(kernel_helper_hold(node->helper, &held));
	kill_helper(cluster, node);
	CHECK(has_entry("node-a", &held) && forgets(cluster, node, &held));
}

int main(int argc, char **argv)
{
	static const struct load_shape shapes[] = { { 128, 1 }, { 128, 16 }, { 4096, 2 }, { 4096, 32 }, { 65536, 8 } };
	bool is_verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
	struct cluster cluster;

	log_open(is_verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
	netns_setup(true);
	for (int is_one_arm = 0; is_one_arm < 2; is_one_arm++) {
		cluster_make(&cluster, is_one_arm);
		for (int family = 0; family < CLUSTER_FAMILIES; family++) {
			go_direct_too_early(&cluster, family);
			acknowledge(&cluster, family);
			lose_packet(&cluster, family);
			reset_without_knowing(&cluster, family);
			for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
				go_round(&cluster, family, &shapes[i]);
		}
		restart_helper(&cluster);
		go_round(&cluster, 0, &shapes[0]);
		if (is_verbose)
			cluster_print_counters(&cluster);
		cluster_remove(&cluster);
	}
	return 0;
}
