/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, somebody who knows no more of a connection than its ports speaks in it, or ends it, while two devices share it; or
 * a client whose acknowledgment was lost waits for it in vain.
 *
 * The node program on single frames (tests/fuzz/frame.h), of a connection of which this device has the half that speaks;
 * tests/platform/test_half.c has real ones.
 */
#include "config.h"

#include "common/node_map.h"
#include "common/tc_program.h"
#include "tests/fuzz/frame.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define STRING(x) STRING_(x)
#define STRING_(x) #x

enum { FIN = 0x01, RST = 0x04, ACK = 0x10, PAYLOAD = 8 };
enum { SEQUENCE_AT = 4, ACKNOWLEDGMENT_AT = 8, OFFSET_AT = 12, WINDOW_AT = 14 }; /* in TCP's header */

enum { WINDOW = 20000, SENT = 5000 /* our stack's next sequence number */ };

#define BEGIN UINT32_C(0xfffff000) /* so that what follows goes beyond the end of TCP's numbers */

extern const char node_object[], node_object_end[]; /* embedded by common/kernel_helper.c */

static struct bpf_object *object;
static struct frame_port port;
static const uint8_t peer_mac[6] = { 2, 0, 0, 0, 1, 2 };

static void load(void)
{
	frame_setup();
	port = frame_port_make("port", 1);
	FRAME_CHECK(tc_open(node_object, (size_t)(node_object_end - node_object), "node", &object) == 0);
	FRAME_CHECK(bpf_object__load(object) == 0);
}

static int flows_fd(void)
{
	return tc_map_fd(object, STRING(NODE_FLOWS));
}

static void put_be32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get_be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Our stack has acknowledged @own bytes, the other device @peer, and so many the client was told of. */
static struct flow_key share_flow(bool is_ipv6, uint32_t own, uint32_t peer)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 7);
	struct node_flow entry = {
		.gate = NODE_HALF,
		.park_ifindex = port.ifindex,
		.way = { .relay_ifindex = port.ifindex, .speaks = 1, .part = NODE_SENDS },
		.next_sequence = BEGIN + own,
		.half = {
			.own_acknowledged = BEGIN + own,
			.own_edge = BEGIN + WINDOW + own,
			.peer_acknowledged = BEGIN + peer,
			.peer_edge = BEGIN + WINDOW + peer,
			.said_acknowledged = BEGIN + peer,
			.said_edge = BEGIN + WINDOW + peer,
			.send_unacknowledged = SENT,
			.send_next = SENT,
			.client_ifindex = port.ifindex,
		},
	};

	memcpy(entry.way.to_mac, peer_mac, sizeof(peer_mac));
	FRAME_CHECK(bpf_map_update_elem(flows_fd(), &flow, &entry, BPF_ANY) == 0);
	return flow;
}

static struct node_half half_now(const struct flow_key *flow)
{
	struct node_flow entry;

	FRAME_CHECK(bpf_map_lookup_elem(flows_fd(), flow, &entry) == 0);
	return entry.half;
}

/* From one end of a flow; with @len bytes of data, which are 0. */
static struct frame segment(const struct flow_key *flow, uint8_t flags, uint32_t sequence, uint32_t acknowledgment, size_t len)
{
	struct frame frame = frame_tcp(flow, flags);
	uint8_t *tcp = frame.bytes + frame_facts(&frame).at;
	size_t ip_len_at = flow_is_ipv4(flow) ? 16 : 18;

	put_be32(tcp + SEQUENCE_AT, sequence);
	put_be32(tcp + ACKNOWLEDGMENT_AT, acknowledgment);
	tcp[WINDOW_AT] = WINDOW >> 8;
	tcp[WINDOW_AT + 1] = WINDOW & 0xff;
	frame.bytes[ip_len_at + 1] = (uint8_t)(frame.bytes[ip_len_at + 1] + len);
	frame.len += len;
	return frame;
}

/* What the other device says, or who pretends to be it. */
static struct frame exchange(const struct flow_key *flow, uint8_t flags, uint32_t acknowledgment, size_t len)
{
	struct frame frame = segment(flow, flags, SENT, acknowledgment, len);

	frame.bytes[frame_facts(&frame).at + OFFSET_AT] |= NODE_EXCHANGE;
	return frame;
}

static int come_in(struct frame *frame, const uint8_t from[static 6])
{
	int verdict;

	memcpy(frame->bytes, port.mac, sizeof(port.mac));
	memcpy(frame->bytes + 6, from, 6);
	FRAME_CHECK(frame_run(tc_program_fd(object, "node_ingress"), &port, 0, frame, &verdict) == 0);
	return verdict;
}

/* Our stack acknowledges @acknowledgment. */
static int go_out(const struct flow_key *flow, uint8_t flags, uint32_t acknowledgment, struct frame *frame)
{
	struct flow_key turned = frame_turn_round(flow);
	int verdict;

	*frame = segment(&turned, flags, SENT, acknowledgment, 0);
	FRAME_CHECK(frame_run(tc_program_fd(object, "node_egress"), &port, 0, frame, &verdict) == 0);
	return verdict;
}

static uint32_t acknowledged_by(const struct frame *frame)
{
	return get_be32(frame->bytes + frame_facts(frame).at + ACKNOWLEDGMENT_AT);
}

/* What both have, the client hears of as soon as the other device says that it has it. */
static void test_exchange(bool is_ipv6)
{
	struct flow_key flow = share_flow(is_ipv6, 2000, 1000);
	struct frame frame = exchange(&flow, ACK, BEGIN + 1500, 0);

	FRAME_CHECK(come_in(&frame, peer_mac) == TC_ACT_REDIRECT);
	FRAME_CHECK(acknowledged_by(&frame) == BEGIN + 1500);
	FRAME_CHECK(half_now(&flow).peer_acknowledged == BEGIN + 1500);
}

/* Where the switch is the other device, the packets of clients come from its MAC, too. None of them may come back as ours. */
static void test_forged(bool is_ipv6)
{
	static const struct {
		uint8_t flags;
		size_t len;
		uint32_t acknowledged;
	} forged[] = {
		{ ACK, PAYLOAD, 1500 },
		{ ACK | RST, 0, 1500 },
		{ ACK | FIN, 0, 1500 },
		{ RST, 0, 1500 },
		{ ACK, 0, 1000 + WINDOW + 2 }, /* more than the other device had room for */
		{ ACK, 0, 0x40000000 },
	};

	for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		struct flow_key flow = share_flow(is_ipv6, 2000, 1000);
		struct frame frame = exchange(&flow, forged[i].flags, BEGIN + forged[i].acknowledged, forged[i].len);

		FRAME_CHECK(come_in(&frame, peer_mac) == TC_ACT_SHOT);
		FRAME_CHECK(half_now(&flow).peer_acknowledged == BEGIN + 1000);
		FRAME_CHECK(half_now(&flow).peer_edge == BEGIN + WINDOW + 1000);
	}
}

/*
 * The other device has no more than 1000, and the acknowledgment that said so was lost: the client sends the same again. Our stack has
 * all of it and more; what it says to that is the one chance to say 1000 again.
 */
static void test_lost_acknowledgment(bool is_ipv6)
{
	static const uint8_t client_mac[6] = { 2, 0, 0, 0, 1, 9 };
	static const uint32_t others[] = { 0, 1000, 0x40000000, 0x7fffffff, 0x80000000, 0x80000001 };
	struct flow_key flow = share_flow(is_ipv6, 2000, 1000);
	struct frame frame;

	FRAME_CHECK(go_out(&flow, ACK, BEGIN + 2000, &frame) == TC_ACT_SHOT); /* no news */
	frame = segment(&flow, ACK, BEGIN + 1000 - PAYLOAD, SENT, PAYLOAD);
	FRAME_CHECK(come_in(&frame, client_mac) == TC_ACT_UNSPEC);
	FRAME_CHECK(go_out(&flow, ACK, BEGIN + 2000, &frame) == TC_ACT_UNSPEC);
	FRAME_CHECK(acknowledged_by(&frame) == BEGIN + 1000);
	FRAME_CHECK(go_out(&flow, ACK, BEGIN + 2000, &frame) == TC_ACT_SHOT); /* once */
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		frame = segment(&flow, ACK, BEGIN + 1000 + others[i], SENT, PAYLOAD);
		FRAME_CHECK(come_in(&frame, client_mac) == TC_ACT_UNSPEC);
		FRAME_CHECK(half_now(&flow).said_acknowledged == BEGIN + 1000);
	}
}

/* The field means nothing then (RFC 9293, 3.1). */
static void test_without_acknowledgment(bool is_ipv6)
{
	struct flow_key flow = share_flow(is_ipv6, 2000, 1000);
	struct frame frame;

	go_out(&flow, RST, BEGIN + 0x40000000, &frame);
	FRAME_CHECK(half_now(&flow).own_acknowledged == BEGIN + 2000);
}

int main(void)
{
	load();
	for (int is_ipv6 = 0; is_ipv6 < 2; is_ipv6++) {
		test_exchange(is_ipv6);
		test_forged(is_ipv6);
		test_lost_acknowledgment(is_ipv6);
		test_without_acknowledgment(is_ipv6);
	}
	printf("ok: packets of halves\n");
	return 0;
}
