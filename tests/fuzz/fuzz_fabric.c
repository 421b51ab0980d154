/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a frame that anybody can send confuses the switch: it is forwarded although it is nobody's, or changed,
 * or makes an entry, or takes a session from its owner.
 *
 * The fabric as the switch loads it, with a port of each kind: clients, devices, and both. Device 2 is behind the devices'
 * port, device 3 behind the shared one. Input:
 *
 *	offset	bytes
 *	0	1	how many flows there are, modulo 8; for each of them
 *		1	bits 0-1: owner: nobody, the switch, device 2, device 3; bit 2: IPv6; bit 3: UDP
 *		2	the client's port
 *	then	3	for each frame: its length in two bytes, and bits 0-1: port; bits 2-3: source MAC: as it stands there,
 *			of device 2, of device 3, of a client; bit 4: the destination MAC is the port's
 *		...	the frame
 */
#include "config.h"

#include "common/tc_program.h"
#include "master/fabric.h"
#include "tests/fuzz/frame.h"
#include "tests/platform/netns.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLOWS_MAX = 7, FRAMES_MAX = 32, NOBODY = 0 };
enum { IS_IPV6 = 4, IS_UDP = 8, TO_PORT = 16 };
enum port_number { CLIENTS, DEVICES, SHARED, PORTS };
enum source { SOURCE_AS_IS, SOURCE_DEVICE_2, SOURCE_DEVICE_3, SOURCE_CLIENT };

struct entry {
	struct flow_key key;
	bool is_there;
	struct fabric_flow flow;
	bool client_was_seen;
	uint8_t client_mac[6];
	enum port_number client_port;
};

/* One frame's way through. */
struct passage {
	enum port_number port;
	struct frame before, after;
	struct frame_facts facts;
	int verdict;
};

static const char *const port_names[PORTS] = { "clients", "devices", "shared" };
static const enum port_number port_of_device[] = { [2] = DEVICES, [3] = SHARED };
static const uint8_t source_macs[][6] = {
	[SOURCE_DEVICE_2] = { 2, 0, 0, 0, 1, 2 },
	[SOURCE_DEVICE_3] = { 2, 0, 0, 0, 1, 3 },
	[SOURCE_CLIENT] = { 2, 0, 0, 0, 1, 9 },
};

static struct frame_port ports[PORTS];
static int programs[PORTS];
static struct fabric *fabric;

static void name_port(char names[][IFNAMSIZ], size_t *count, enum port_number port)
{
	snprintf(names[(*count)++], IFNAMSIZ, "%s", port_names[port]);
}

static struct fabric_options options(void)
{
	struct fabric_options options = { .pin_dir = NETNS_BPFFS "/fabric", .vip_count = 2, .flows_max = 2 * FLOWS_MAX };

	name_port(options.client_ports, &options.client_port_count, CLIENTS);
	name_port(options.client_ports, &options.client_port_count, SHARED);
	name_port(options.device_ports, &options.device_port_count, DEVICES);
	name_port(options.device_ports, &options.device_port_count, SHARED);
	for (int family = 0; family < 2; family++) {
		struct flow_key flow = frame_flow(family, IPPROTO_TCP, 1);

		memcpy(options.vips[family], flow.vip, sizeof(flow.vip));
	}
	return options;
}

static int attached_program(const struct frame_port *port)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)port->ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = TC_PRIORITY_FABRIC);
	int fd;

	FRAME_CHECK(bpf_tc_query(&hook, &opts) == 0);
	fd = bpf_prog_get_fd_by_id(opts.prog_id);
	FRAME_CHECK(fd >= 0);
	return fd;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct fabric_options o;

	(void)argc;
	(void)argv;
	frame_setup();
	for (enum port_number i = 0; i < PORTS; i++)
		ports[i] = frame_port_make(port_names[i], (uint8_t)(i + 1));
	o = options();
	FRAME_CHECK(fabric_new(&o, &fabric) == 0);
	for (uint32_t device = 2; device <= 3; device++)
		FRAME_CHECK(fabric_device_set(fabric, device, source_macs[device - 1],
					      port_names[port_of_device[device]]) == 0);
	for (enum port_number i = 0; i < PORTS; i++)
		programs[i] = attached_program(&ports[i]);
	return 0;
}

static struct entry *find(struct entry *entries, const struct flow_key *flow)
{
	for (int i = 0; i < FLOWS_MAX; i++)
		if (entries[i].is_there && frame_same_flow(&entries[i].key, flow))
			return &entries[i];
	return NULL;
}

static void refresh(struct entry *entry)
{
	entry->is_there = fabric_flow_get(fabric, &entry->key, &entry->flow) == 0;
}

static void set_up(struct bytes_reader *input, struct entry *entries)
{
	int count = bytes_get_u8(input) % (FLOWS_MAX + 1);

	for (int i = 0; i < count; i++) {
		uint8_t how = bytes_get_u8(input);
		uint32_t owner = how & 3, generation;

		entries[i].key = frame_flow(how & IS_IPV6, how & IS_UDP ? IPPROTO_UDP : IPPROTO_TCP, bytes_get_be16(input));
		if (owner == NOBODY || find(entries, &entries[i].key))
			continue;
		FRAME_CHECK(fabric_flow_set(fabric, &entries[i].key, owner, &generation) == 0);
		refresh(&entries[i]);
	}
}

static bool is_vip(const uint8_t address[static 16])
{
	struct flow_key ipv4 = frame_flow(false, IPPROTO_TCP, 1), ipv6 = frame_flow(true, IPPROTO_TCP, 1);

	return memcmp(address, ipv4.vip, 16) == 0 || memcmp(address, ipv6.vip, 16) == 0;
}

static bool is_from_member(const struct frame *frame)
{
	return memcmp(frame->bytes + 6, source_macs[SOURCE_DEVICE_2], 6) == 0 ||
	       memcmp(frame->bytes + 6, source_macs[SOURCE_DEVICE_3], 6) == 0;
}

/* A packet of a client to a VIP, and one that the switch has to look at. */
static bool is_from_client(const struct passage *p)
{
	bool is_relayed = p->port == SHARED && is_from_member(&p->before);

	return p->facts.is_session && memcmp(p->before.bytes, ports[p->port].mac, 6) == 0 &&
	       p->port != DEVICES && !is_relayed && is_vip(p->facts.flow.vip);
}

static uint64_t sum_of_counters(void)
{
	size_t count;
	const struct fabric_counter *counters = fabric_counters(fabric, &count);
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += counters[i].packets;
	return sum;
}

static bool count_flow(const struct fabric_flow *flow __attribute__((unused)), void *arg)
{
	++*(size_t *)arg;
	return true;
}

static void check_packet(const struct passage *p)
{
	FRAME_CHECK(p->verdict == TC_ACT_UNSPEC || p->verdict == TC_ACT_SHOT || p->verdict == TC_ACT_REDIRECT);
	FRAME_CHECK(frame_same_packet(&p->before, &p->after));
	if (p->verdict != TC_ACT_REDIRECT)
		FRAME_CHECK(memcmp(p->before.bytes, p->after.bytes, FRAME_MACS) == 0);
}

static void check_forwarded(const struct passage *p, const struct entry *entry)
{
	uint32_t owner = entry->flow.device;

	FRAME_CHECK(owner != FABRIC_SWITCH);
	FRAME_CHECK(frame_has_macs(&p->after, source_macs[owner - 1], ports[port_of_device[owner]].mac));
}

/* @entry may be NULL: then the kernel's neighbour table has the way, and fills in the MACs later. */
static void check_returned(const struct passage *p, const struct entry *entry)
{
	FRAME_CHECK(p->port != CLIENTS);
	FRAME_CHECK(is_vip(p->facts.flow.client) && is_from_member(&p->before));
	if (entry && entry->client_was_seen)
		FRAME_CHECK(frame_has_macs(&p->after, entry->client_mac, ports[entry->client_port].mac));
	else
		FRAME_CHECK(memcmp(p->before.bytes, p->after.bytes, FRAME_MACS) == 0);
}

static void check_redirect(const struct passage *p, struct entry *entries)
{
	struct flow_key turned = frame_turn_round(&p->facts.flow);
	struct entry *entry = find(entries, &p->facts.flow);

	FRAME_CHECK(p->facts.is_session && memcmp(p->before.bytes, ports[p->port].mac, 6) == 0);
	if (is_from_client(p) && entry)
		check_forwarded(p, entry);
	else
		check_returned(p, find(entries, &turned));
}

static enum fabric_flow_state state_after(const struct passage *p, const struct entry *old)
{
	if (p->facts.opens && is_from_client(p))
		return FABRIC_FORWARD;
	return p->facts.closes ? FABRIC_CLOSING : old->flow.state;
}

/* Whoever is not the client of a flow changes nothing but its count of packets, and whether it is about to close. */
static void check_entry(const struct passage *p, const struct entry *old, const struct entry *new)
{
	struct flow_key turned = frame_turn_round(&p->facts.flow);
	bool is_own = frame_same_flow(&old->key, &p->facts.flow) && is_from_client(p);
	bool is_answer = frame_same_flow(&old->key, &turned) && p->verdict == TC_ACT_REDIRECT;
	bool reopens = is_own && p->facts.opens;

	FRAME_CHECK(new->is_there);
	FRAME_CHECK(new->flow.device == (reopens ? (uint32_t)FABRIC_SWITCH : old->flow.device));
	FRAME_CHECK(new->flow.generation == old->flow.generation + reopens);
	FRAME_CHECK(new->flow.packets == old->flow.packets + (is_own || is_answer));
	if (is_own || is_answer)
		FRAME_CHECK(new->flow.state == state_after(p, old));
	else
		FRAME_CHECK(new->flow.state == old->flow.state);
}

static void check_entries(const struct passage *p, struct entry *entries)
{
	size_t count = 0, all = 0;

	for (int i = 0; i < FLOWS_MAX; i++) {
		struct entry old = entries[i];

		if (!old.is_there)
			continue;
		refresh(&entries[i]);
		check_entry(p, &old, &entries[i]);
		count++;
	}
	fabric_flows(fabric, count_flow, &all);
	FRAME_CHECK(all == count);
}

/* The way back is where the client's last packet came from. */
static void note_client(const struct passage *p, struct entry *entry)
{
	entry->client_was_seen = true;
	entry->client_port = p->port;
	memcpy(entry->client_mac, p->before.bytes + 6, sizeof(entry->client_mac));
}

static void check(const struct passage *p, struct entry *entries)
{
	struct entry *entry;

	check_packet(p);
	check_entries(p, entries);
	entry = is_from_client(p) ? find(entries, &p->facts.flow) : NULL;
	if (p->verdict == TC_ACT_REDIRECT)
		check_redirect(p, entries);
	else
		FRAME_CHECK(!entry || entry->flow.device == FABRIC_SWITCH);
	if (entry)
		note_client(p, entry);
}

static struct frame dress(struct frame frame, uint8_t how, enum port_number port)
{
	enum source source = how / 4 & 3;

	if (frame.len < FRAME_MACS)
		return frame;
	if (how & TO_PORT)
		memcpy(frame.bytes, ports[port].mac, 6);
	if (source != SOURCE_AS_IS)
		memcpy(frame.bytes + 6, source_macs[source], 6);
	return frame;
}

static void pass(struct bytes_reader *input, struct entry *entries)
{
	size_t len = bytes_get_be16(input);
	uint8_t how = bytes_get_u8(input);
	struct passage p = { .port = (how & 3) % PORTS };
	uint64_t counted = sum_of_counters();

	p.before = dress(frame_take(input, len), how, p.port);
	p.after = p.before;
	p.facts = frame_facts(&p.before);
	if (frame_run(programs[p.port], &ports[p.port], 0, &p.after, &p.verdict) < 0)
		return;
	check(&p, entries);
	FRAME_CHECK(sum_of_counters() == counted + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct bytes_reader input = bytes_reader_init(bytes, len);
	struct entry entries[FLOWS_MAX] = { 0 };

	set_up(&input, entries);
	for (int i = 0; i < FRAMES_MAX && input.left && !input.failed; i++)
		pass(&input, entries);
	for (int i = 0; i < FLOWS_MAX; i++)
		if (entries[i].is_there)
			fabric_flow_remove(fabric, &entries[i].key);
	return 0;
}
