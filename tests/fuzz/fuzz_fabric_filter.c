/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a frame reaches a service that its sender's network may not reach, or one is dropped that may, or a frame is
 * spoilt when it is marked. Input:
 *
 *	offset	bytes
 *	0	3	for each frame: its length in two bytes, and how it comes (tests/fuzz/frame_switch.h)
 *		...	the frame
 *
 * This file has its own opinion of which service a frame is for, fragments and IPv6 extension headers included.
 */
#include "config.h"

#include "tests/fuzz/frame_switch.h"

#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <string.h>

enum { FRAMES_MAX = 32, ETHERNET = 14, IPV4 = 20, IPV6 = 40, FRAGMENT_HEADER = 8, ADDRESS_BITS = 128 };
enum { FRAME_OUT = 32 }; /* in how a frame comes: our own stack sends it */
enum { PORTMAPPER_PORT = 111, EVERYTHING = FABRIC_NFS | FABRIC_PORTMAPPER | FABRIC_SCP };

static const struct {
	const char *network;
	uint32_t services;
} texts[] = {
	{ "10.77.1.0/24", FABRIC_NFS },	   { "10.77.1.8/29", FABRIC_PORTMAPPER }, { "10.77.0.0/16", 0 },
	{ "fd77:1::/64", FABRIC_SCP },	   { "fd77:1::10/124", EVERYTHING },	   { "fd77:1::11", FABRIC_PORTMAPPER },
	{ "fd00::/8", FABRIC_PORTMAPPER | FABRIC_NFS },
};

enum { RULES = sizeof(texts) / sizeof(texts[0]) };

static struct fabric_filter_rule rules[RULES];

static const struct fabric_options policy = { .filters = rules, .filter_count = RULES, .marks = true, .dscp = 21 };

/* What a frame is about, as far as filters go. */
struct aim {
	uint32_t services; /* 0: none */
	uint8_t client[16], server[16];
};

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	for (size_t i = 0; i < RULES; i++) {
		rules[i].services = texts[i].services;
		FRAME_CHECK(ip_network_parse(texts[i].network, &rules[i].network) == 0);
	}
	frame_switch_start(&policy);
	return 0;
}

static uint16_t be16_at(const struct frame *frame, size_t at)
{
	return (uint16_t)(frame->bytes[at] << 8 | frame->bytes[at + 1]);
}

/* @needed: bytes of TCP's or UDP's header without which nobody takes the packet */
static uint32_t service_of(const struct frame *frame, uint8_t protocol, size_t at, size_t needed)
{
	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || frame->len < at + needed)
		return 0;
	switch (be16_at(frame, at + 2)) {
	case FRAME_FLOW_PORT:
		return FABRIC_NFS;
	case PORTMAPPER_PORT:
		return FABRIC_PORTMAPPER;
	case FRAME_EAP_PORT:
		return FABRIC_SCP;
	default:
		return 0;
	}
}

static size_t needed_of(uint8_t protocol)
{
	return protocol == IPPROTO_TCP ? 14 : 4;
}

static struct aim aim_ipv4(const struct frame *frame)
{
	size_t header = (frame->bytes[ETHERNET] & 0xf) * 4u;
	uint16_t fragment = be16_at(frame, ETHERNET + 6);
	uint8_t protocol = frame->bytes[ETHERNET + 9];
	struct aim aim = { 0 };

	if (header < IPV4 || fragment & 0x1fff)
		return aim;
	memset(aim.client + 10, 0xff, 2);
	memset(aim.server + 10, 0xff, 2);
	memcpy(aim.client + 12, frame->bytes + ETHERNET + 12, 4);
	memcpy(aim.server + 12, frame->bytes + ETHERNET + 16, 4);
	aim.services = service_of(frame, protocol, ETHERNET + header, fragment & 0x2000 ? 4 : needed_of(protocol));
	return aim;
}

static bool is_extension(uint8_t header)
{
	return header == 0 || header == 43 || header == 44 || header == 51 || header == 60;
}

static uint32_t services_of_fragment(const struct frame *frame)
{
	size_t at = ETHERNET + IPV6;

	if (frame->len < at + FRAGMENT_HEADER || be16_at(frame, at + 2) & 0xfff8)
		return 0;
	if (is_extension(frame->bytes[at]))
		return EVERYTHING;
	return service_of(frame, frame->bytes[at], at + FRAGMENT_HEADER, 4);
}

static struct aim aim_ipv6(const struct frame *frame)
{
	uint8_t next = frame->bytes[ETHERNET + 6];
	struct aim aim = { 0 };

	memcpy(aim.client, frame->bytes + ETHERNET + 8, 16);
	memcpy(aim.server, frame->bytes + ETHERNET + 24, 16);
	if (next == IPPROTO_FRAGMENT)
		aim.services = services_of_fragment(frame);
	else if (is_extension(next))
		aim.services = EVERYTHING;
	else
		aim.services = service_of(frame, next, ETHERNET + IPV6, needed_of(next));
	return aim;
}

static struct aim aim_of(const struct frame *frame)
{
	uint16_t type = frame->len >= ETHERNET ? be16_at(frame, 12) : 0;

	if (type == 0x0800 && frame->len >= ETHERNET + IPV4)
		return aim_ipv4(frame);
	if (type == 0x86dd && frame->len >= ETHERNET + IPV6)
		return aim_ipv6(frame);
	return (struct aim){ 0 };
}

static bool is_in(const uint8_t address[static 16], const struct ip_network *network)
{
	for (unsigned int bit = 0; bit < network->bits; bit++)
		if ((address[bit / 8] ^ network->address[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return true;
}

static uint32_t allowed_to(const uint8_t client[static 16])
{
	const struct fabric_filter_rule *longest = NULL;

	for (size_t i = 0; i < RULES; i++)
		if (is_in(client, &rules[i].network) && (!longest || rules[i].network.bits > longest->network.bits))
			longest = &rules[i];
	return longest ? longest->services : EVERYTHING;
}

/* The switch has no configured address here: all that is sent to it is judged. */
static bool must_be_refused(const struct frame_passage *p)
{
	struct aim aim = aim_of(&p->before);

	if (p->is_out)
		return false;
	if (p->port == PORT_DEVICES || !frame_is_for_port(p) || (p->port == PORT_SHARED && frame_is_from_member(&p->before)))
		return false;
	return aim.services & ~allowed_to(aim.client);
}

/* Is only the DSCP another, and IPv4's checksum as right or wrong as it was? */
static bool is_marked(const struct frame_passage *p)
{
	bool is_ipv4 = be16_at(&p->before, 12) == 0x0800;
	struct frame again = p->after;
	uint16_t mask = is_ipv4 ? 0x00fc : 0x0fc0, word;
	uint32_t sum;

	if (p->verdict != TC_ACT_REDIRECT && !p->is_out)
		return false;
	word = (uint16_t)((be16_at(&again, ETHERNET) & ~mask) | (be16_at(&p->before, ETHERNET) & mask));
	sum = (uint32_t)be16_at(&again, ETHERNET) + be16_at(&again, ETHERNET + 10);
	again.bytes[ETHERNET] = (uint8_t)(word >> 8);
	again.bytes[ETHERNET + 1] = (uint8_t)word;
	if (is_ipv4) {
		FRAME_CHECK(sum % 0xffff ==
			    ((uint32_t)be16_at(&p->before, ETHERNET) + be16_at(&p->before, ETHERNET + 10)) % 0xffff);
		memcpy(again.bytes + ETHERNET + 10, p->before.bytes + ETHERNET + 10, 2);
	}
	return frame_same_packet(&p->before, &again);
}

static uint64_t refused(void)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < RULES; i++)
		sum += fabric_filter_refused(frame_switch.fabric, &rules[i].network);
	return sum;
}

static void pass(struct bytes_reader *input)
{
	size_t len = bytes_get_be16(input);
	uint8_t how = bytes_get_u8(input);
	struct frame frame = frame_take(input, len);
	struct frame_passage p = frame_dress(&frame, how);
	uint64_t before = refused();
	bool must_be;

	p.is_out = how & FRAME_OUT;
	if (!frame_pass(&p))
		return;
	must_be = must_be_refused(&p);
	FRAME_CHECK(p.counted == 1);
	FRAME_CHECK(refused() - before == must_be);
	FRAME_CHECK(!must_be || (p.verdict == TC_ACT_SHOT && !p.traffic.received_packets));
	FRAME_CHECK(frame_same_packet(&p.before, &p.after) || (!must_be && is_marked(&p)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct bytes_reader input = bytes_reader_init(bytes, len);

	for (int i = 0; i < FRAMES_MAX && input.left && !input.failed; i++)
		pass(&input);
	return 0;
}
