/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client behind a narrow link hangs in the middle of an answer after its session was handed off, because nobody tells the
 * device that its packets are too big; or one with a TCP of its own kind loses packets while its session moves.
 *
 * The fabric's programs on single frames (tests/fuzz/frame_switch.h).
 */
#include "config.h"

#include "common/node_map.h"
#include "tests/fuzz/frame_switch.h"

#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum { ACK = 0x10, OFFSET_AT = 12, CLIENT_PORT = 7 };
enum { FROM_CLIENT = SOURCE_CLIENT << 2 | FRAME_TO_PORT, FROM_DEVICE = SOURCE_DEVICE_3 << 2 | FRAME_TO_PORT };

static struct frame_passage pass_by(const struct frame *frame, uint8_t how)
{
	struct frame_passage p = frame_dress(frame, how);

	FRAME_CHECK(frame_pass(&p));
	FRAME_CHECK(p.counted == 1);
	return p;
}

static bool goes_to(const struct frame_passage *p, uint32_t device)
{
	return p->verdict == TC_ACT_REDIRECT &&
	       frame_has_macs(&p->after, frame_device_mac(device), frame_switch.ports[frame_device_port(device)].mac);
}

static bool goes_to_stack(const struct frame_passage *p)
{
	return p->verdict == TC_ACT_UNSPEC && memcmp(p->before.bytes, p->after.bytes, p->before.len) == 0;
}

/* An error about what the server sent to this client. */
static struct frame error_about(const struct flow_key *flow, uint8_t type, uint8_t code)
{
	const struct flow_key answer = frame_turn_round(flow);
	const struct frame sent = frame_tcp(&answer, ACK);

	return frame_error(&sent, type, code);
}

static struct flow_key give(bool is_ipv6, uint32_t device)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, CLIENT_PORT);
	uint32_t generation;

	FRAME_CHECK(fabric_flow_set(frame_switch.fabric, &flow, device, &generation) == 0);
	return flow;
}

static void errors_go_to_the_owner(bool is_ipv6)
{
	static const uint8_t types[2][4] = { { ICMP_DEST_UNREACH, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB },
					     { ICMPV6_DEST_UNREACH, ICMPV6_PKT_TOOBIG, ICMPV6_TIME_EXCEED, ICMPV6_PARAMPROB } };
	struct flow_key flow = give(is_ipv6, DEVICE_FIRST);
	struct frame_passage p;
	struct frame frame;

	for (size_t i = 0; i < sizeof(types[0]) && types[is_ipv6][i]; i++) {
		frame = error_about(&flow, types[is_ipv6][i], 0);
		p = pass_by(&frame, PORT_CLIENTS | FROM_CLIENT);
		FRAME_CHECK(goes_to(&p, DEVICE_FIRST) && frame_same_packet(&p.before, &p.after));
	}
	give(is_ipv6, DEVICE_LAST);
	p = pass_by(&frame, PORT_SHARED | FROM_CLIENT);
	FRAME_CHECK(goes_to(&p, DEVICE_LAST));
	/* What a device relays, or has to say itself, is for the switch; and so is what is about the switch's own packets. */
	p = pass_by(&frame, PORT_SHARED | FROM_DEVICE);
	FRAME_CHECK(goes_to_stack(&p));
	give(is_ipv6, FABRIC_SWITCH);
	p = pass_by(&frame, PORT_CLIENTS | FROM_CLIENT);
	FRAME_CHECK(goes_to_stack(&p));
	fabric_flow_remove(frame_switch.fabric, &flow);
	p = pass_by(&frame, PORT_CLIENTS | FROM_CLIENT);
	FRAME_CHECK(goes_to_stack(&p));
}

/* Of what is no error, or not about what a VIP has sent, nothing is believed. */
static void others_do_not(bool is_ipv6)
{
	struct flow_key flow = give(is_ipv6, DEVICE_FIRST), other = flow;
	const size_t inner_at = is_ipv6 ? 14 + 40 + 8 : 14 + 20 + 8, inner_source_at = inner_at + (is_ipv6 ? 8 + 15 : 12 + 3);
	struct frame frame = error_about(&flow, is_ipv6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO, 0);
	struct frame_passage p = pass_by(&frame, PORT_CLIENTS | FROM_CLIENT);

	FRAME_CHECK(goes_to_stack(&p));
	other.client_port = htons(CLIENT_PORT + 1);
	frame = error_about(&other, is_ipv6 ? ICMPV6_PKT_TOOBIG : ICMP_DEST_UNREACH, 0);
	p = pass_by(&frame, PORT_CLIENTS | FROM_CLIENT);
	FRAME_CHECK(goes_to_stack(&p));
	frame = error_about(&flow, is_ipv6 ? ICMPV6_PKT_TOOBIG : ICMP_DEST_UNREACH, 0);
	frame.bytes[inner_source_at]++;
	p = pass_by(&frame, PORT_CLIENTS | FROM_CLIENT);
	FRAME_CHECK(goes_to_stack(&p));
	frame = error_about(&flow, is_ipv6 ? ICMPV6_PKT_TOOBIG : ICMP_DEST_UNREACH, 0);
	while (frame.len > inner_at) {
		frame.len -= 5;
		p = pass_by(&frame, PORT_CLIENTS | FROM_CLIENT);
		FRAME_CHECK(goes_to_stack(&p));
	}
	fabric_flow_remove(frame_switch.fabric, &flow);
}

/* Of a client it means nothing, as RFC 9293, 3.1 has it; devices tell their own packets by it (NODE_EXCHANGE). */
static void reserved_bits_mean_nothing(bool is_ipv6, uint32_t owner)
{
	struct flow_key flow = give(is_ipv6, owner);
	struct frame frame = frame_tcp(&flow, ACK), expected;
	struct frame_passage p;

	frame.bytes[frame_facts(&frame).at + OFFSET_AT] |= 0x0e;
	p = pass_by(&frame, PORT_CLIENTS | FROM_CLIENT);
	expected = frame_without_mark(&p.before, &p.facts);
	FRAME_CHECK(frame_same_packet(&p.after, &expected) && !frame_same_packet(&p.after, &p.before));
	FRAME_CHECK(owner == FABRIC_SWITCH ? p.verdict == TC_ACT_UNSPEC : goes_to(&p, owner));
	/* Of a device it does. */
	p = pass_by(&frame, PORT_SHARED | FROM_DEVICE);
	FRAME_CHECK(goes_to_stack(&p));
	fabric_flow_remove(frame_switch.fabric, &flow);
}

int main(void)
{
	frame_switch_start(NULL);
	for (int is_ipv6 = 0; is_ipv6 < 2; is_ipv6++) {
		errors_go_to_the_owner(is_ipv6);
		others_do_not(is_ipv6);
		reserved_bits_mean_nothing(is_ipv6, DEVICE_FIRST);
		reserved_bits_mean_nothing(is_ipv6, FABRIC_SWITCH);
		printf("ok: IPv%d\n", is_ipv6 ? 6 : 4);
	}
	return 0;
}
