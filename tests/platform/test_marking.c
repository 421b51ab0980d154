/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, the network does not know NAS packets from others, the switch's ports do not, or a packet leaves the switch with
 * a wrong checksum and is thrown away.
 *
 * The fabric's programs on single frames (tests/fuzz/frame_switch.h); tests/lab/test_marking.py has a congested port.
 */
#include "config.h"

#include "tests/fuzz/frame_switch.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum { ACK = 0x10, IP_AT = 14, ECN = 3, DSCP = 34 };

/* Of a flow that device 2 has. */
static struct flow_key owned_flow(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 7);
	uint32_t generation;

	FRAME_CHECK(fabric_flow_set(frame_switch.fabric, &flow, DEVICE_FIRST, &generation) == 0);
	return flow;
}

static uint16_t be16_at(const struct frame *frame, size_t at)
{
	return (uint16_t)(frame->bytes[at] << 8 | frame->bytes[at + 1]);
}

static void put_be16(struct frame *frame, size_t at, uint16_t value)
{
	frame->bytes[at] = (uint8_t)(value >> 8);
	frame->bytes[at + 1] = (uint8_t)value;
}

/* RFC 1071. 0: the header's checksum is right. */
static uint16_t header_sum(const struct frame *frame)
{
	uint32_t sum = 0;

	for (size_t at = 0; at < 20; at += 2)
		sum += be16_at(frame, IP_AT + at);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* With a traffic class of its own, a flow label, and a right checksum. */
static struct frame marked_frame(const struct flow_key *flow, uint8_t traffic_class)
{
	struct frame frame = frame_tcp(flow, ACK);

	if (flow_is_ipv4(flow)) {
		frame.bytes[IP_AT + 1] = traffic_class;
		put_be16(&frame, IP_AT + 10, 0);
		put_be16(&frame, IP_AT + 10, header_sum(&frame));
	} else {
		put_be16(&frame, IP_AT, (uint16_t)(6 << 12 | traffic_class << 4 | 0xa));
		put_be16(&frame, IP_AT + 2, 0xbcde);
	}
	return frame;
}

static uint8_t class_of(const struct frame *frame, bool is_ipv6)
{
	return is_ipv6 ? (uint8_t)(be16_at(frame, IP_AT) >> 4) : frame->bytes[IP_AT + 1];
}

/* Is it the same packet but for its DSCP, which is the one that was asked for? */
static bool is_marked(const struct frame *before, const struct frame *after, bool is_ipv6)
{
	struct frame again = *after;
	uint8_t was = class_of(before, is_ipv6);

	if (class_of(after, is_ipv6) != (DSCP << 2 | (was & ECN)) || (!is_ipv6 && header_sum(after) != 0))
		return false;
	if (is_ipv6) {
		put_be16(&again, IP_AT, be16_at(before, IP_AT));
	} else {
		again.bytes[IP_AT + 1] = was;
		memcpy(again.bytes + IP_AT + 10, before->bytes + IP_AT + 10, 2);
	}
	return frame_same_packet(before, &again);
}

static uint32_t priority_after(int program, const struct frame_passage *p)
{
	struct __sk_buff in = { .ifindex = frame_switch.ports[p->port].ifindex }, out = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = p->before.bytes, .data_size_in = (uint32_t)p->before.len,
		    .ctx_in = &in, .ctx_size_in = sizeof(in), .ctx_out = &out, .ctx_size_out = sizeof(out), .repeat = 1);

	FRAME_CHECK(bpf_prog_test_run_opts(program, &opts) == 0);
	return out.priority;
}

/* @from: SOURCE_CLIENT on its way to the device, a device's MAC on its way to the client */
static void check_way(const struct flow_key *flow, enum frame_port_number port, enum frame_source from, bool is_out)
{
	static const uint8_t classes[] = { 0, ECN, DSCP << 2, DSCP << 2 | 1, 0xff };
	bool is_ipv6 = !flow_is_ipv4(flow);

	for (size_t i = 0; i < sizeof(classes); i++) {
		struct frame frame = marked_frame(flow, classes[i]);
		struct frame_passage p = frame_dress(&frame, (uint8_t)(port | from << 2 | FRAME_TO_PORT));

		p.is_out = is_out;
		FRAME_CHECK(frame_pass(&p));
		FRAME_CHECK(p.verdict == (is_out ? TC_ACT_UNSPEC : TC_ACT_REDIRECT));
		FRAME_CHECK(is_marked(&p.before, &p.after, is_ipv6));
		FRAME_CHECK(priority_after(is_out ? frame_switch.out_programs[port] : frame_switch.programs[port], &p) ==
			    TC_PRIO_INTERACTIVE);
	}
}

/* What is not between a client and a VIP stays as it is. */
static void check_others(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 8);
	struct frame frame;
	struct frame_passage p;

	flow.vip[15] ^= 1;
	flow.client[15] ^= 1;
	frame = marked_frame(&flow, 0);
	for (int way = 0; way < 2; way++) {
		p = frame_dress(&frame, PORT_CLIENTS | SOURCE_CLIENT << 2 | FRAME_TO_PORT);
		p.is_out = way;
		FRAME_CHECK(frame_pass(&p) && p.verdict == TC_ACT_UNSPEC && frame_same_packet(&p.before, &p.after));
		FRAME_CHECK(priority_after(way ? frame_switch.out_programs[0] : frame_switch.programs[0], &p) == 0);
	}
}

static void test_marking(bool is_ipv6)
{
	struct flow_key flow = owned_flow(is_ipv6), back = frame_turn_round(&flow);

	check_way(&flow, PORT_CLIENTS, SOURCE_CLIENT, false);
	check_way(&flow, PORT_SHARED, SOURCE_CLIENT, false);
	check_way(&back, PORT_DEVICES, SOURCE_DEVICE_2, false);
	check_way(&back, PORT_CLIENTS, SOURCE_AS_IS, true);
	check_others(is_ipv6);
	fabric_flow_remove(frame_switch.fabric, &flow);
	printf("ok: marking, %s\n", is_ipv6 ? "IPv6" : "IPv4");
}

int main(void)
{
	static const struct fabric_options policy = { .serves_first = true, .marks = true, .dscp = DSCP };

	frame_switch_start(&policy);
	test_marking(false);
	test_marking(true);
	fabric_free(frame_switch.fabric, true);
	return 0;
}
