/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/bench/fabric_paths.c - one stream of bytes through the fabric, and through what else may stand in its place
 *
 * Usage: fabric_paths [--rounds N] [--seconds N] [--sessions N]
 *
 *	client ==== [switch: fabric] ==== node		a connection that was handed off
 *	client ==== [bridge]         ==== node
 *	client ==== [nft DNAT]       ==== node		routed, with connection tracking
 *	client ==== [haproxy]        ==== node		mode tcp, option splice-auto
 *
 * Each in a network namespace, all by the same kind of link. The node sends as fast as it goes, the client receives and throws
 * away, for N seconds (default: 2) after a warm-up; the four take turns N times (default: 5). Sender and receiver have a CPU
 * each, or who shares with whom would be drawn anew for each connection; packets are taken in where the kernel does by itself. Then once more through the fabric with the kernel's
 * account of its programs; and N sessions (default: 10000) are restored on the node.
 *
 * Prints one line of JSON. Everything goes when the process ends. Exit status: 0; 1 failed; 2 usage; 77 needs root, BPF or a
 * program.
 */
#include "config.h"

#include "common/kernel_helper.h"
#include "common/log.h"
#include "common/tc_program.h"
#include "master/fabric.h"
#include "tests/platform/cluster.h"
#include "tests/platform/netns.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 2049, WARM_UP_MS = 300, CHUNK_BYTES = 256 * 1024, NODE = 2, FIRST_PORT = 20000, SESSIONS_MAX = 40000, MSS = 1460,
       SENDER_CPU = 0, RECEIVER_CPU = 1 };

#define VIP "10.9.0.1"

enum way { WAY_FABRIC, WAY_BRIDGE, WAY_DNAT, WAY_HAPROXY, WAYS };

/* The client connects to .1 of the first network. The node is .2 of the second; it has the VIP, too. */
static const struct {
	const char *name, *client_network, *node_network;
} ways[WAYS] = {
	[WAY_FABRIC] = { "fabric", "10.9.0", "10.10.0" },
	[WAY_BRIDGE] = { "bridge", "10.20.0", "10.20.0" },
	[WAY_DNAT] = { "dnat", "10.30.0", "10.31.0" },
	[WAY_HAPROXY] = { "haproxy", "10.40.0", "10.41.0" },
};

struct paths {
	unsigned int rounds, seconds, sessions;
	int client, node, middles[WAYS];
	int switch_listener, node_listener;
	pid_t haproxy;
	struct event_base *base;
	struct fabric *fabric;
	struct kernel_helper *switch_helper, *node_helper;
	double mb_per_s[WAYS][100];
};

static void run_on_cpu(int number)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(number, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus); /* on a machine of one core there is no other */
}

/* ---- Namespaces ---- */

static void link_way(struct paths *paths, enum way way)
{
	int middle = paths->middles[way] = netns_new();
	char to_client[IFNAMSIZ], to_node[IFNAMSIZ];

	snprintf(to_client, sizeof(to_client), "c%d", (int)way);
	snprintf(to_node, sizeof(to_node), "n%d", (int)way);
	netns_link(paths->client, to_client, middle, "clients");
	netns_link(middle, "nodes", paths->node, to_node);
	netns_run(paths->client, "ip addr add %s.3/24 dev %s", ways[way].client_network, to_client);
	if (way == WAY_BRIDGE) {
		netns_run(paths->node, "ip addr add %s.1/24 dev %s", ways[way].node_network, to_node);
		netns_run(middle, "ip link add bridge type bridge forward_delay 0 stp_state 0 && ip link set bridge up && "
				  "ip link set clients master bridge && ip link set nodes master bridge");
		return;
	}
	netns_run(paths->node, "ip addr add %s.2/24 dev %s && ip route add %s.0/24 via %s.1", ways[way].node_network, to_node,
		  ways[way].client_network, ways[way].node_network);
	netns_run(middle, "ip addr add %s.1/24 dev clients && ip addr add %s.1/24 dev nodes", ways[way].client_network,
		  ways[way].node_network);
}

static void set_up_dnat(int middle)
{
	netns_sysctl(middle, "net/ipv4/ip_forward", "1");
	netns_run(middle, "nft 'add table ip t; add chain ip t c { type nat hook prerouting priority dstnat; }; "
			  "add rule ip t c ip daddr %s.1 tcp dport %d dnat to %s.2:%d'",
		  ways[WAY_DNAT].client_network, PORT, ways[WAY_DNAT].node_network, PORT);
}

static pid_t start_haproxy(int middle)
{
	char path[] = "/tmp/vnas-haproxy-XXXXXX";
	int fd = mkstemp(path);
	pid_t pid;

	CHECK(fd >= 0);
	dprintf(fd,
		"global\n    maxconn 64\ndefaults\n    mode tcp\n    option splice-auto\n    timeout connect 5s\n"
		"    timeout client 60s\n    timeout server 60s\nlisten l\n    bind %s.1:%d\n    server s %s.2:%d\n",
		ways[WAY_HAPROXY].client_network, PORT, ways[WAY_HAPROXY].node_network, PORT);
	close(fd);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		netns_enter(middle);
		execlp("haproxy", "haproxy", "-db", "-f", path, (char *)NULL);
		_exit(127);
	}
	sleep(1); /* a connection that comes too early fails the benchmark, by name */
	unlink(path);
	return pid;
}

/* ---- The switch and the node ---- */

static void set_up_fabric(struct paths *paths)
{
	struct fabric_options options = {
		.pin_dir = NETNS_BPFFS "/fabric",
		.client_port_count = 1,
		.device_port_count = 1,
		.client_ports = { "clients" },
		.device_ports = { "nodes" },
		.vip_count = 1,
		.flows_max = 1024,
	};
	struct sockaddr_storage vip;
	uint8_t mac[6];

	netns_address(VIP, 0, &vip);
	CHECK_OK(flow_address(&vip, options.vips[0]));
	netns_run(paths->node, "ip addr add " VIP "/32 dev lo");
	netns_mac(paths->node, "n0", mac);
	netns_enter(paths->middles[WAY_FABRIC]);
	CHECK_OK(fabric_new(&options, &paths->fabric));
	CHECK_OK(fabric_device_set(paths->fabric, NODE, mac, "nodes"));
}

static struct kernel_helper *start_helper(struct paths *paths, int netns, const char *pin_dir, const char *interface)
{
	struct kernel_helper_options options = { .pin_dir = pin_dir, .park_name = "vnas-park", .interface_count = 1 };
	struct kernel_helper *helper;

	snprintf(options.interfaces[0], IFNAMSIZ, "%s", interface);
	netns_enter(netns);
	CHECK_OK(kernel_helper_new(paths->base, &options, &helper));
	return helper;
}

static void set_up(struct paths *paths)
{
	paths->client = netns_new();
	paths->node = netns_new();
	for (enum way way = 0; way < WAYS; way++)
		link_way(paths, way);
	set_up_dnat(paths->middles[WAY_DNAT]);
	paths->base = event_base_new();
	CHECK(paths->base);
	set_up_fabric(paths);
	paths->switch_helper = start_helper(paths, paths->middles[WAY_FABRIC], NETNS_BPFFS "/switch", "clients");
	paths->node_helper = start_helper(paths, paths->node, NETNS_BPFFS "/node", "n0");
	paths->switch_listener = netns_listen(paths->middles[WAY_FABRIC], VIP, PORT);
	paths->node_listener = netns_listen(paths->node, "0.0.0.0", PORT);
	paths->haproxy = start_haproxy(paths->middles[WAY_HAPROXY]);
}

static void tear_down(struct paths *paths)
{
	kill(paths->haproxy, SIGTERM);
	waitpid(paths->haproxy, NULL, 0);
	netns_enter(paths->node);
	kernel_helper_free(paths->node_helper, true);
	netns_enter(paths->middles[WAY_FABRIC]);
	kernel_helper_free(paths->switch_helper, true);
	fabric_free(paths->fabric, true);
	event_base_free(paths->base);
}

/* ---- A stream ---- */

/* MB/s of what comes, after the warm-up. */
static double receive_for(int fd, unsigned int seconds)
{
	static uint8_t buffer[CHUNK_BYTES];
	uint64_t start_us = cluster_now_us(), begin_us = start_us + WARM_UP_MS * 1000, bytes = 0, now;

	for (;;) {
		ssize_t len = recv(fd, buffer, sizeof(buffer), MSG_TRUNC);

		CHECK(len > 0);
		now = cluster_now_us();
		if (now >= begin_us)
			bytes += (uint64_t)len;
		if (now >= begin_us + (uint64_t)seconds * 1000000)
			return (double)bytes / (double)(now - begin_us);
	}
}

static pid_t start_client(const struct paths *paths, enum way way, int result)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		char address[32];
		double mb_per_s;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_on_cpu(RECEIVER_CPU);
		snprintf(address, sizeof(address), "%s.1", ways[way].client_network);
		mb_per_s = receive_for(netns_connect(paths->client, address, PORT), paths->seconds);
		CHECK(write(result, &mb_per_s, sizeof(mb_per_s)) == sizeof(mb_per_s));
		_exit(0);
	}
	return pid;
}

/* From the switch to the node. Returns the node's socket. */
static int hand_off(struct paths *paths, int fd, struct flow_key *flow)
{
	struct kernel_helper_static fixed;
	struct kernel_helper_state state;
	struct sockaddr_storage client, vip;
	socklen_t client_len = sizeof(client), vip_len = sizeof(vip);
	uint32_t generation;
	int restored = -1;

	CHECK(getpeername(fd, (struct sockaddr *)&client, &client_len) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&vip, &vip_len) == 0);
	CHECK_OK(flow_from_sockets(&client, &vip, IPPROTO_TCP, flow));
	CHECK_OK(kernel_helper_adopt(paths->switch_helper, fd, &fixed));
	CHECK_OK(kernel_helper_hold(paths->switch_helper, flow));
	CHECK_OK(kernel_helper_freeze(paths->switch_helper, fd, flow, &fixed, false, &state));
	netns_enter(paths->node);
	CHECK_OK(kernel_helper_restore(paths->node_helper, &state, &restored));
	CHECK_OK(fabric_flow_set(paths->fabric, flow, NODE, &generation));
	kernel_helper_silence(paths->switch_helper, fd);
	kernel_helper_forget(paths->switch_helper, flow);
	kernel_helper_state_fini(&state);
	return restored;
}

static void send_until_closed(int fd)
{
	static const uint8_t buffer[CHUNK_BYTES];

	while (send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) > 0)
		;
}

static void make_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	CHECK(flags >= 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0);
}

static double stream(struct paths *paths, enum way way)
{
	struct flow_key flow;
	int result[2], fd;
	double mb_per_s;
	pid_t client;

	CHECK(pipe2(result, O_CLOEXEC) == 0);
	client = start_client(paths, way, result[1]);
	close(result[1]);
	fd = accept(way == WAY_FABRIC ? paths->switch_listener : paths->node_listener, NULL, NULL);
	CHECK(fd >= 0);
	if (way == WAY_FABRIC)
		fd = hand_off(paths, fd, &flow);
	make_blocking(fd);
	send_until_closed(fd);
	close(fd);
	if (way == WAY_FABRIC) {
		kernel_helper_forget(paths->node_helper, &flow);
		fabric_flow_remove(paths->fabric, &flow);
	}
	if (read(result[0], &mb_per_s, sizeof(mb_per_s)) != sizeof(mb_per_s))
		fail("%s: the client did not finish", ways[way].name);
	close(result[0]);
	CHECK(waitpid(client, NULL, 0) == client);
	return mb_per_s;
}

static void take_turns(struct paths *paths)
{
	for (unsigned int round = 0; round < paths->rounds; round++)
		for (int i = 0; i < WAYS; i++) {
			enum way way = (enum way)((round + (unsigned int)i) % WAYS);

			paths->mb_per_s[way][round] = stream(paths, way);
		}
}

/* ---- The kernel's account ---- */

struct program {
	const char *name;
	const char *interface;
	enum tc_direction direction;
	enum tc_priority priority;
	bool is_on_node;
	uint64_t ns, packets;
};

static void read_account(const struct paths *paths, struct program *program)
{
	LIBBPF_OPTS(bpf_tc_hook, hook,
		    .attach_point = program->direction == TC_DIRECTION_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = 1, .priority = (uint32_t)program->priority);
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd;

	netns_enter(program->is_on_node ? paths->node : paths->middles[WAY_FABRIC]);
	hook.ifindex = (int)if_nametoindex(program->interface);
	CHECK_OK(bpf_tc_query(&hook, &options));
	fd = bpf_prog_get_fd_by_id(options.prog_id);
	CHECK(fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0);
	close(fd);
	program->ns = info.run_time_ns - program->ns;
	program->packets = info.run_cnt - program->packets;
}

static json_t *account(struct paths *paths)
{
	struct program programs[] = {
		{ "fabric_client", "clients", TC_DIRECTION_INGRESS, TC_PRIORITY_FABRIC, false, 0, 0 },
		{ "fabric_device", "nodes", TC_DIRECTION_INGRESS, TC_PRIORITY_FABRIC, false, 0, 0 },
		{ "node_ingress", "n0", TC_DIRECTION_INGRESS, TC_PRIORITY_NODE, true, 0, 0 },
		{ "node_egress", "n0", TC_DIRECTION_EGRESS, TC_PRIORITY_NODE, true, 0, 0 },
	};
	int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	json_t *all = json_object();

	CHECK(stats >= 0);
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		read_account(paths, &programs[i]);
	stream(paths, WAY_FABRIC);
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		read_account(paths, &programs[i]);
		json_object_set_new(all, programs[i].name, json_pack("{s:I, s:I}", "ns", (json_int_t)programs[i].ns, "packets",
								      (json_int_t)programs[i].packets));
	}
	close(stats);
	return all;
}

/* ---- Restoring many ---- */

static struct kernel_helper_state idle_session(unsigned int number)
{
	struct kernel_helper_state state = {
		.fixed = { .mss_clamp = MSS, .send_wscale = 7, .receive_wscale = 7, .has_wscale = true, .has_sack = true,
			   .has_timestamps = true },
		.send_unacknowledged = 1000 + number,
		.receive_next = 5000 + number,
		.window_snd_wl1 = 5000 + number,
		.window_snd_wnd = 65536,
		.window_max_window = 65536,
		.window_rcv_wnd = 65536,
		.window_rcv_wup = 5000 + number,
		.receive_buffer = 131072,
		.send_buffer = 87040,
		.congestion_window = 10,
	};
	struct sockaddr_storage client, vip;

	netns_address("10.9.0.3", (uint16_t)(FIRST_PORT + number), &client);
	netns_address(VIP, PORT, &vip);
	CHECK_OK(flow_from_sockets(&client, &vip, IPPROTO_TCP, &state.flow));
	return state;
}

/* Microseconds. */
static uint64_t restore_many(struct paths *paths)
{
	struct kernel_helper_state *states = calloc(paths->sessions, sizeof(*states));
	int *fds = calloc(paths->sessions, sizeof(*fds));
	uint64_t took_us;

	CHECK(states && fds);
	for (unsigned int i = 0; i < paths->sessions; i++) {
		states[i] = idle_session(i);
		fds[i] = -1;
	}
	netns_enter(paths->node);
	took_us = cluster_now_us();
	for (unsigned int i = 0; i < paths->sessions; i++)
		CHECK_OK(kernel_helper_restore(paths->node_helper, &states[i], &fds[i]));
	took_us = cluster_now_us() - took_us;
	for (unsigned int i = 0; i < paths->sessions; i++) {
		kernel_helper_silence(paths->node_helper, fds[i]);
		kernel_helper_forget(paths->node_helper, &states[i].flow);
	}
	free(states);
	free(fds);
	return took_us;
}

/* ---- What came out ---- */

static json_t *speeds(const struct paths *paths)
{
	json_t *all = json_object();

	for (int way = 0; way < WAYS; way++) {
		json_t *runs = json_array();

		for (unsigned int round = 0; round < paths->rounds; round++)
			json_array_append_new(runs, json_real(paths->mb_per_s[way][round]));
		json_object_set_new(all, ways[way].name, runs);
	}
	return all;
}

static unsigned int number(const char *text, unsigned int most)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value < 1 || value > most) {
		fputs("Usage: fabric_paths [--rounds N] [--seconds N] [--sessions N]\n", stderr);
		exit(2);
	}
	return (unsigned int)value;
}

static void parse(struct paths *paths, int argc, char **argv)
{
	static const struct option known[] = {
		{ "rounds", required_argument, NULL, 'r' },
		{ "seconds", required_argument, NULL, 's' },
		{ "sessions", required_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'r': paths->rounds = number(optarg, 100); break;
		case 's': paths->seconds = number(optarg, 3600); break;
		case 'n': paths->sessions = number(optarg, SESSIONS_MAX); break;
		default: exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	static struct paths paths = { .rounds = 5, .seconds = 2, .sessions = 10000 };
	struct rlimit files;
	json_t *result, *programs;

	parse(&paths, argc, argv);
	log_open(LOG_LEVEL_WARN);
	signal(SIGPIPE, SIG_IGN);
	netns_setup(true);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	set_up(&paths);
	run_on_cpu(SENDER_CPU);
	take_turns(&paths);
	programs = account(&paths);
	result = json_pack("{s:o, s:o, s:i, s:I}", "mb_per_s", speeds(&paths), "programs", programs, "restored",
			   (int)paths.sessions, "restore_us", (json_int_t)restore_many(&paths));
	CHECK(result && json_dumpf(result, stdout, JSON_COMPACT) == 0);
	puts("");
	json_decref(result);
	tear_down(&paths);
	return 0;
}
