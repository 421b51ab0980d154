/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "tests/fuzz/frame_switch.h"

#include "common/tc_program.h"
#include "tests/platform/netns.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

struct frame_switch frame_switch;

static const char *const port_names[PORTS] = { "clients", "devices", "shared" };

static const uint8_t source_macs[][6] = {
	[SOURCE_DEVICE_2] = { 2, 0, 0, 0, 1, 2 },
	[SOURCE_DEVICE_3] = { 2, 0, 0, 0, 1, 3 },
	[SOURCE_CLIENT] = { 2, 0, 0, 0, 1, 9 },
};

const uint8_t *frame_device_mac(uint32_t device)
{
	return source_macs[SOURCE_DEVICE_2 + device - DEVICE_FIRST];
}

enum frame_port_number frame_device_port(uint32_t device)
{
	return device == DEVICE_FIRST ? PORT_DEVICES : PORT_SHARED;
}

static void name_port(char names[][IFNAMSIZ], size_t *count, enum frame_port_number port)
{
	snprintf(names[(*count)++], IFNAMSIZ, "%s", port_names[port]);
}

static struct fabric_options options(void)
{
	struct fabric_options o = {
		.pin_dir = NETNS_BPFFS "/fabric",
		.vip_count = 2,
		.flows_max = FRAME_SWITCH_FLOWS_MAX,
		.eap_port = FRAME_EAP_PORT,
		.nfs_port = FRAME_FLOW_PORT,
		.cluster = FRAME_CLUSTER,
	};

	name_port(o.client_ports, &o.client_port_count, PORT_CLIENTS);
	name_port(o.client_ports, &o.client_port_count, PORT_SHARED);
	name_port(o.device_ports, &o.device_port_count, PORT_DEVICES);
	name_port(o.device_ports, &o.device_port_count, PORT_SHARED);
	for (int family = 0; family < 2; family++) {
		struct flow_key flow = frame_flow(family, IPPROTO_TCP, 1);

		memcpy(o.vips[family], flow.vip, sizeof(flow.vip));
	}
	return o;
}

static int attached_program(const struct frame_port *port, enum bpf_tc_attach_point way, enum tc_priority priority)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)port->ifindex, .attach_point = way);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = priority);
	int fd;

	FRAME_CHECK(bpf_tc_query(&hook, &opts) == 0);
	fd = bpf_prog_get_fd_by_id(opts.prog_id);
	FRAME_CHECK(fd >= 0);
	return fd;
}

void frame_switch_start(const struct fabric_options *policy)
{
	struct frame_switch *s = &frame_switch;
	struct fabric_options o;

	frame_setup();
	for (enum frame_port_number i = 0; i < PORTS; i++)
		s->ports[i] = frame_port_make(port_names[i], (uint8_t)(i + 1));
	o = options();
	if (policy) {
		o.filters = policy->filters;
		o.filter_count = policy->filter_count;
		o.serves_first = policy->serves_first;
		o.marks = policy->marks;
		o.dscp = policy->dscp;
		o.flows_max = policy->flows_max ? policy->flows_max : o.flows_max;
	}
	FRAME_CHECK(fabric_new(&o, &s->fabric) == 0);
	for (uint32_t device = DEVICE_FIRST; device <= DEVICE_LAST; device++)
		FRAME_CHECK(fabric_device_set(s->fabric, device, frame_device_mac(device),
					      port_names[frame_device_port(device)]) == 0);
	for (enum frame_port_number i = 0; i < PORTS; i++) {
		s->programs[i] = attached_program(&s->ports[i], BPF_TC_INGRESS, TC_PRIORITY_FABRIC);
		s->out_programs[i] = i == PORT_DEVICES ? -1 : attached_program(&s->ports[i], BPF_TC_EGRESS,
									       TC_PRIORITY_FABRIC_OUT);
	}
}

bool frame_is_vip(const uint8_t address[static 16])
{
	struct flow_key ipv4 = frame_flow(false, IPPROTO_TCP, 1), ipv6 = frame_flow(true, IPPROTO_TCP, 1);

	return memcmp(address, ipv4.vip, 16) == 0 || memcmp(address, ipv6.vip, 16) == 0;
}

bool frame_is_from_member(const struct frame *frame)
{
	return memcmp(frame->bytes + 6, source_macs[SOURCE_DEVICE_2], 6) == 0 ||
	       memcmp(frame->bytes + 6, source_macs[SOURCE_DEVICE_3], 6) == 0;
}

bool frame_is_for_port(const struct frame_passage *p)
{
	return memcmp(p->before.bytes, frame_switch.ports[p->port].mac, 6) == 0;
}

struct frame_passage frame_dress(const struct frame *frame, uint8_t how)
{
	struct frame_passage p = { .port = (how & 3) % PORTS, .before = *frame };
	enum frame_source source = how / 4 & 3;

	if (frame->len < FRAME_MACS)
		return p;
	if (how & FRAME_TO_PORT)
		memcpy(p.before.bytes, frame_switch.ports[p.port].mac, 6);
	if (source != SOURCE_AS_IS)
		memcpy(p.before.bytes + 6, source_macs[source], 6);
	return p;
}

static uint64_t sum_of_counters(void)
{
	size_t count;
	const struct fabric_counter *counters = fabric_counters(frame_switch.fabric, &count);
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += counters[i].packets;
	return sum;
}

/* Of the switch, and of those two. */
static struct fabric_sums sum_of_traffic(void)
{
	struct fabric_sums all = { 0 };

	for (uint32_t device = FABRIC_SWITCH; device <= DEVICE_LAST; device++) {
		struct fabric_sums sums;

		FRAME_CHECK(fabric_device_sums(frame_switch.fabric, device, &sums) == 0);
		all.received_packets += sums.received_packets;
		all.received_bytes += sums.received_bytes;
		all.sent_packets += sums.sent_packets;
		all.sent_bytes += sums.sent_bytes;
	}
	return all;
}

bool frame_pass(struct frame_passage *p)
{
	int program = p->is_out ? frame_switch.out_programs[p->port] : frame_switch.programs[p->port];
	uint64_t counted = sum_of_counters();
	struct fabric_sums traffic = sum_of_traffic();

	p->after = p->before;
	p->facts = frame_facts(&p->before);
	if (program < 0 || frame_run(program, &frame_switch.ports[p->port], 0, &p->after, &p->verdict) < 0)
		return false;
	p->counted = sum_of_counters() - counted;
	p->traffic = sum_of_traffic();
	p->traffic.received_packets -= traffic.received_packets;
	p->traffic.received_bytes -= traffic.received_bytes;
	p->traffic.sent_packets -= traffic.sent_packets;
	p->traffic.sent_bytes -= traffic.sent_bytes;
	return true;
}

static bool count_flow(const struct fabric_flow *flow __attribute__((unused)), void *arg)
{
	++*(size_t *)arg;
	return true;
}

size_t frame_switch_flows(void)
{
	size_t count = 0;

	fabric_flows(frame_switch.fabric, count_flow, &count);
	return count;
}
