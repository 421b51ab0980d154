/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, new connections of clients go to a device that is away, or half to one and half to another, or to none at all;
 * or whoever sends many SYNs fills the forwarding table.
 *
 * The fabric's program runs on single frames (tests/fuzz/frame_switch.h); tests/lab/test_first_device.py has the whole system.
 */
#include "config.h"

#include "tests/fuzz/frame_switch.h"

#include <errno.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16, FLOOD = 100000, HIGH_PORT = 20000 };

static const uint32_t both[] = { DEVICE_FIRST, DEVICE_LAST };

static void set_policy(enum fabric_first_policy policy, const uint32_t *devices, size_t count)
{
	FRAME_CHECK(fabric_first_set(frame_switch.fabric, policy, devices, count) == 0);
}

static struct frame_passage pass(const struct flow_key *flow, uint8_t flags, enum frame_port_number port,
				 enum frame_source source)
{
	struct frame frame = frame_tcp(flow, flags);
	struct frame_passage p = frame_dress(&frame, (uint8_t)(port | source << 2 | FRAME_TO_PORT));

	FRAME_CHECK(frame_pass(&p));
	FRAME_CHECK(p.counted == 1);
	return p;
}

/* Where a client's packet went: a device, the switch's stack, or 0. */
static uint32_t goes_to(const struct flow_key *flow, uint8_t flags)
{
	struct frame_passage p = pass(flow, flags, PORT_CLIENTS, SOURCE_CLIENT);

	for (uint32_t device = DEVICE_FIRST; device <= DEVICE_LAST; device++)
		if (p.verdict == TC_ACT_REDIRECT &&
		    frame_has_macs(&p.after, frame_device_mac(device), frame_switch.ports[frame_device_port(device)].mac))
			return device;
	return p.verdict == TC_ACT_UNSPEC ? FABRIC_SWITCH : 0;
}

/* A SYN, and what the device says to it. */
static uint32_t asks(const struct flow_key *flow)
{
	struct flow_key answer = frame_turn_round(flow);
	uint32_t device = goes_to(flow, SYN);

	if (device >= DEVICE_FIRST)
		FRAME_CHECK(pass(&answer, SYN | ACK, PORT_DEVICES, SOURCE_DEVICE_2 + device - DEVICE_FIRST).verdict ==
			    TC_ACT_REDIRECT);
	return device;
}

static uint32_t owner_of(const struct flow_key *flow)
{
	struct fabric_flow got;

	return fabric_flow_get(frame_switch.fabric, flow, &got) == 0 ? got.device : 0;
}

static void forget(const struct flow_key *flow)
{
	fabric_flow_remove(frame_switch.fabric, flow);
}

static void test_the_switch_by_default(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 1);

	FRAME_CHECK(goes_to(&flow, SYN) == FABRIC_SWITCH);
	set_policy(FABRIC_FIRST_SWITCH, both, 2);
	FRAME_CHECK(goes_to(&flow, SYN) == FABRIC_SWITCH);
	set_policy(FABRIC_FIRST_IN_TURN, both, 0);
	FRAME_CHECK(goes_to(&flow, SYN) == FABRIC_SWITCH);
	FRAME_CHECK(goes_to(&flow, ACK) == FABRIC_SWITCH);
	FRAME_CHECK(frame_switch_flows() == 0);
	printf("ok: the switch by default\n");
}

/* One after the other; and what the device says comes back, before the client is in the table and after. */
static void test_in_turn(bool is_ipv6)
{
	struct flow_key flows[4];
	uint32_t got[4];

	set_policy(FABRIC_FIRST_IN_TURN, both, 2);
	for (uint16_t i = 0; i < 4; i++) {
		struct frame_passage back;
		struct flow_key answer;

		flows[i] = frame_flow(is_ipv6, IPPROTO_TCP, (uint16_t)(100 + i));
		answer = frame_turn_round(&flows[i]);
		got[i] = goes_to(&flows[i], SYN);
		FRAME_CHECK(got[i] >= DEVICE_FIRST && owner_of(&flows[i]) == 0);
		back = pass(&answer, SYN | ACK, PORT_DEVICES, SOURCE_DEVICE_2 + got[i] - DEVICE_FIRST);
		FRAME_CHECK(back.verdict == TC_ACT_REDIRECT);
		FRAME_CHECK(memcmp(back.after.bytes + 6, frame_switch.ports[PORT_CLIENTS].mac, 6) == 0);
		FRAME_CHECK(goes_to(&flows[i], SYN) == got[i]);
		FRAME_CHECK(goes_to(&flows[i], ACK) == got[i] && owner_of(&flows[i]) == got[i]);
		FRAME_CHECK(goes_to(&flows[i], ACK) == got[i]);
		forget(&flows[i]);
	}
	FRAME_CHECK(got[0] != got[1] && got[0] == got[2] && got[1] == got[3]);
	printf("ok: in turn\n");
}

/* Who is in the list more often gets more; what is given is counted once, however often a client asks. */
static void test_several_turns(bool is_ipv6)
{
	const uint32_t turns[] = { DEVICE_LAST, DEVICE_FIRST, DEVICE_LAST, DEVICE_LAST };
	uint64_t first = fabric_first_given(frame_switch.fabric, DEVICE_FIRST), last = fabric_first_given(frame_switch.fabric, DEVICE_LAST);

	set_policy(FABRIC_FIRST_IN_TURN, turns, 4);
	for (uint16_t i = 0; i < 40; i++) {
		struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, (uint16_t)(150 + i));

		FRAME_CHECK(goes_to(&flow, SYN) == turns[i % 4] && goes_to(&flow, SYN) == turns[i % 4]);
	}
	FRAME_CHECK(fabric_first_given(frame_switch.fabric, DEVICE_FIRST) - first == 10);
	FRAME_CHECK(fabric_first_given(frame_switch.fabric, DEVICE_LAST) - last == 30);
	printf("ok: several turns\n");
}

/* A device that goes gets nothing any more, and whoever was just opening a connection there can begin anew at once. */
static void test_device_goes(bool is_ipv6)
{
	struct flow_key opening = frame_flow(is_ipv6, IPPROTO_TCP, 200), answered = frame_flow(is_ipv6, IPPROTO_TCP, 201);
	const uint32_t first = DEVICE_FIRST, last = DEVICE_LAST;

	set_policy(FABRIC_FIRST_IN_TURN, &first, 1);
	FRAME_CHECK(goes_to(&opening, SYN) == first && asks(&answered) == first);
	set_policy(FABRIC_FIRST_IN_TURN, &last, 1);
	FRAME_CHECK(goes_to(&opening, SYN) == last);
	FRAME_CHECK(goes_to(&answered, ACK) == FABRIC_SWITCH && owner_of(&answered) == 0); /* whose stack resets it */
	FRAME_CHECK(asks(&answered) == last);
	FRAME_CHECK(goes_to(&answered, ACK) == last && owner_of(&answered) == last);
	set_policy(FABRIC_FIRST_IN_TURN, both, 0);
	FRAME_CHECK(goes_to(&opening, SYN) == FABRIC_SWITCH);
	FRAME_CHECK(goes_to(&answered, ACK) == last); /* it is a session already */
	forget(&answered);
	printf("ok: a device goes\n");
}

/* Nobody listens at the device: the client does not hear of that, and its next SYN is answered by the switch. */
static void test_unwilling(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 300), answer = frame_turn_round(&flow);
	const uint32_t first = DEVICE_FIRST;

	set_policy(FABRIC_FIRST_IN_TURN, &first, 1);
	FRAME_CHECK(goes_to(&flow, SYN) == first);
	FRAME_CHECK(pass(&answer, RST | ACK, PORT_DEVICES, SOURCE_DEVICE_2).verdict == TC_ACT_SHOT);
	FRAME_CHECK(goes_to(&flow, SYN) == FABRIC_SWITCH);

	/* Once a connection is there, its reset is the client's. */
	flow = frame_flow(is_ipv6, IPPROTO_TCP, 301), answer = frame_turn_round(&flow);
	FRAME_CHECK(asks(&flow) == first && goes_to(&flow, ACK) == first);
	FRAME_CHECK(pass(&answer, RST | ACK, PORT_DEVICES, SOURCE_DEVICE_2).verdict == TC_ACT_REDIRECT);
	forget(&flow);
	printf("ok: a device that refuses\n");
}

/* A client that crashed opens its flow anew: somebody else may have it then, and there is one entry as before. */
static void test_opened_anew(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 400);
	const uint32_t first = DEVICE_FIRST, last = DEVICE_LAST;
	struct fabric_flow got;
	uint32_t generation;

	FRAME_CHECK(fabric_flow_set(frame_switch.fabric, &flow, first, &generation) == 0);
	set_policy(FABRIC_FIRST_IN_TURN, &last, 1);
	FRAME_CHECK(goes_to(&flow, SYN) == last && owner_of(&flow) == last);
	FRAME_CHECK(goes_to(&flow, SYN) == last);
	FRAME_CHECK(fabric_flow_get(frame_switch.fabric, &flow, &got) == 0 && got.state == FABRIC_OPENING);
	FRAME_CHECK(goes_to(&flow, ACK) == last);
	FRAME_CHECK(fabric_flow_get(frame_switch.fabric, &flow, &got) == 0 && got.state == FABRIC_FORWARD);
	FRAME_CHECK(got.generation == generation + 2);
	FRAME_CHECK(goes_to(&flow, FIN | ACK) == last);
	FRAME_CHECK(fabric_flow_get(frame_switch.fabric, &flow, &got) == 0 && got.state == FABRIC_CLOSING);
	forget(&flow);
	printf("ok: opened anew\n");
}

static void test_of_client(bool is_ipv6)
{
	struct flow_key old = frame_flow(is_ipv6, IPPROTO_TCP, 500), flow = frame_flow(is_ipv6, IPPROTO_TCP, 501);
	const uint32_t first = DEVICE_FIRST, last = DEVICE_LAST;
	struct flow_key stranger = flow;
	uint32_t generation;

	stranger.client[15] ^= 0x40;
	FRAME_CHECK(fabric_flow_set(frame_switch.fabric, &old, FABRIC_SWITCH, &generation) == 0);
	FRAME_CHECK(fabric_flow_give(frame_switch.fabric, &old, FABRIC_SWITCH, last, 1, &generation) == 0);
	set_policy(FABRIC_FIRST_OF_CLIENT, both, 2);
	FRAME_CHECK(asks(&flow) == last && goes_to(&flow, ACK) == last);
	FRAME_CHECK(goes_to(&stranger, SYN) == FABRIC_SWITCH);
	forget(&flow);
	set_policy(FABRIC_FIRST_OF_CLIENT, &first, 1);
	FRAME_CHECK(goes_to(&flow, SYN) == FABRIC_SWITCH);
	set_policy(FABRIC_FIRST_OF_CLIENT, both, 2);
	FRAME_CHECK(fabric_flow_give(frame_switch.fabric, &old, last, FABRIC_SWITCH, 2, &generation) == 0);
	flow = frame_flow(is_ipv6, IPPROTO_TCP, 502);
	FRAME_CHECK(goes_to(&flow, SYN) == FABRIC_SWITCH);
	forget(&old);
	printf("ok: where the client was\n");
}

static void test_others_business(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 600), other = flow, udp = flow, spoofed = flow, far = flow;

	set_policy(FABRIC_FIRST_IN_TURN, both, 2);
	other.vip_port = htons(111);
	udp.protocol = IPPROTO_UDP;
	memcpy(spoofed.client, spoofed.vip, sizeof(spoofed.client));
	far.vip[15] ^= 1;
	FRAME_CHECK(goes_to(&other, SYN) == FABRIC_SWITCH);
	FRAME_CHECK(goes_to(&udp, SYN) == FABRIC_SWITCH);
	FRAME_CHECK(goes_to(&far, SYN) != DEVICE_FIRST);
	FRAME_CHECK(goes_to(&spoofed, SYN) == FABRIC_SWITCH || goes_to(&spoofed, SYN) == 0);
	FRAME_CHECK(pass(&flow, SYN, PORT_SHARED, SOURCE_DEVICE_3).verdict == TC_ACT_UNSPEC);
	FRAME_CHECK(pass(&flow, SYN, PORT_SHARED, SOURCE_CLIENT).verdict == TC_ACT_REDIRECT);
	FRAME_CHECK(frame_switch_flows() == 0);
	printf("ok: what is no new connection of a client\n");
}

static void run(const struct flow_key *flow, uint8_t flags)
{
	struct frame frame = frame_tcp(flow, flags);
	struct frame_passage p = frame_dress(&frame, PORT_CLIENTS | SOURCE_CLIENT << 2 | FRAME_TO_PORT);

	FRAME_CHECK(frame_run(frame_switch.programs[PORT_CLIENTS], &frame_switch.ports[PORT_CLIENTS], 0, &p.before,
			      &p.verdict) == 0);
}

/* Who has not heard the device's answer can't pretend that he has, and so makes no entries. One-arm the switch does not hear it either. */
static void test_pretender(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 650), other = frame_flow(is_ipv6, IPPROTO_TCP, 651);
	struct frame_passage p;
	struct frame frame;

	set_policy(FABRIC_FIRST_IN_TURN, both, 2);
	FRAME_CHECK(goes_to(&flow, SYN) >= DEVICE_FIRST);
	FRAME_CHECK(goes_to(&flow, ACK) == FABRIC_SWITCH && owner_of(&flow) == 0);
	FRAME_CHECK(asks(&flow) >= DEVICE_FIRST);
	frame = frame_tcp(&flow, ACK);
	frame.bytes[(is_ipv6 ? 54 : 34) + 11] = 2; /* one too many */
	p = frame_dress(&frame, PORT_CLIENTS | SOURCE_CLIENT << 2 | FRAME_TO_PORT);
	FRAME_CHECK(frame_pass(&p) && p.verdict == TC_ACT_UNSPEC && owner_of(&flow) == 0);
	FRAME_CHECK(goes_to(&flow, FIN) == FABRIC_SWITCH && goes_to(&flow, RST) == FABRIC_SWITCH && owner_of(&flow) == 0);
	FRAME_CHECK(goes_to(&flow, SYN) >= DEVICE_FIRST); /* it comes again: the answer still counts */
	FRAME_CHECK(goes_to(&flow, ACK) >= DEVICE_FIRST && owner_of(&flow) >= DEVICE_FIRST);
	FRAME_CHECK(pass(&other, SYN, PORT_SHARED, SOURCE_CLIENT).verdict == TC_ACT_REDIRECT);
	FRAME_CHECK(pass(&other, ACK, PORT_SHARED, SOURCE_CLIENT).verdict == TC_ACT_REDIRECT && owner_of(&other) >= DEVICE_FIRST);
	forget(&flow);
	forget(&other);
	printf("ok: who pretends to have been answered\n");
}

static void test_flood(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 700), flood;
	uint32_t got;

	set_policy(FABRIC_FIRST_IN_TURN, both, 2);
	for (uint32_t i = 0; i < FLOOD; i++) {
		flood = frame_flow(is_ipv6, IPPROTO_TCP, (uint16_t)(i | 1));
		memcpy(flood.client + 14, &(uint16_t){ htons((uint16_t)(i >> 8)) }, 2);
		run(&flood, SYN);
	}
	FRAME_CHECK(frame_switch_flows() == 0);
	got = asks(&flow);
	FRAME_CHECK(got >= DEVICE_FIRST && goes_to(&flow, ACK) == got && owner_of(&flow) == got);
	forget(&flow);
	printf("ok: a flood of SYNs\n");
}

/* Those that are there already go on, the one that finds no room too; then it is the switch's turn. */
static void test_full_table(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_TCP, 800), next = frame_flow(is_ipv6, IPPROTO_TCP, 801);
	uint32_t got, generation;

	set_policy(FABRIC_FIRST_IN_TURN, both, 2);
	for (uint16_t i = 0; i < FRAME_SWITCH_FLOWS_MAX; i++) {
		struct flow_key other = frame_flow(is_ipv6, IPPROTO_TCP, (uint16_t)(HIGH_PORT + i));

		FRAME_CHECK(fabric_flow_set(frame_switch.fabric, &other, DEVICE_FIRST, &generation) == 0);
	}
	got = asks(&flow);
	FRAME_CHECK(got >= DEVICE_FIRST && goes_to(&flow, ACK) == got && goes_to(&flow, ACK) == got);
	FRAME_CHECK(owner_of(&flow) == 0);
	FRAME_CHECK(goes_to(&next, SYN) == FABRIC_SWITCH);
	set_policy(FABRIC_FIRST_IN_TURN, both, 2); /* which says nothing about room */
	FRAME_CHECK(goes_to(&next, SYN) == FABRIC_SWITCH);
	for (uint16_t i = 0; i < FRAME_SWITCH_FLOWS_MAX; i++) {
		struct flow_key other = frame_flow(is_ipv6, IPPROTO_TCP, (uint16_t)(HIGH_PORT + i));

		FRAME_CHECK(goes_to(&other, ACK) == DEVICE_FIRST);
		forget(&other);
	}
	FRAME_CHECK(goes_to(&flow, ACK) == got && owner_of(&flow) == got); /* now there is room */
	forget(&flow);
	printf("ok: a full table\n");
}

static void test_family(bool is_ipv6)
{
	test_the_switch_by_default(is_ipv6);
	test_in_turn(is_ipv6);
	test_several_turns(is_ipv6);
	test_device_goes(is_ipv6);
	test_unwilling(is_ipv6);
	test_opened_anew(is_ipv6);
	test_of_client(is_ipv6);
	test_others_business(is_ipv6);
	test_pretender(is_ipv6);
	test_flood(is_ipv6);
	set_policy(FABRIC_FIRST_SWITCH, NULL, 0);
}

int main(void)
{
	frame_switch_start(NULL);
	FRAME_CHECK(fabric_first_set(frame_switch.fabric, FABRIC_FIRST_IN_TURN, &(uint32_t){ FABRIC_SWITCH },
				     1) == -EINVAL);
	test_family(false);
	test_family(true);
	test_full_table(false); /* at the end: for ten seconds connections are the switch's */
	return 0;
}
