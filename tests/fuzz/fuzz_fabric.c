/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a frame that anybody can send confuses the switch: it is forwarded although it is nobody's, or changed,
 * or makes an entry, or takes a session from its owner. Input:
 *
 *	offset	bytes
 *	0	1	how many flows there are, modulo 8; for each of them
 *		1	bits 0-1: owner: nobody, the switch, device 2, device 3; bit 2: IPv6; bit 3: UDP
 *		2	the client's port
 *	then	3	for each frame: its length in two bytes, and how it comes (tests/fuzz/frame_switch.h)
 *		...	the frame
 *
 * fuzz_fabric_eap has datagrams that devices sign; here nobody can.
 */
#include "config.h"

#include "tests/fuzz/frame_switch.h"

#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <string.h>

enum { FLOWS_MAX = 7, FRAMES_MAX = 32, NOBODY = 0 };
enum { IS_IPV6 = 4, IS_UDP = 8 };

struct entry {
	struct flow_key key;
	bool is_there;
	struct fabric_flow flow;
	bool client_was_seen;
	uint8_t client_mac[6];
	enum frame_port_number client_port;
};

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	frame_switch_start();
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
	entry->is_there = fabric_flow_get(frame_switch.fabric, &entry->key, &entry->flow) == 0;
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
		FRAME_CHECK(fabric_flow_set(frame_switch.fabric, &entries[i].key, owner, &generation) == 0);
		refresh(&entries[i]);
	}
}

/* A packet of a client to a VIP, and one that the switch has to look at. */
static bool is_from_client(const struct frame_passage *p)
{
	bool is_relayed = p->port == PORT_SHARED && frame_is_from_member(&p->before);

	return p->facts.is_session && frame_is_for_port(p) && p->port != PORT_DEVICES && !is_relayed &&
	       frame_is_vip(p->facts.flow.vip);
}

static void check_packet(const struct frame_passage *p)
{
	FRAME_CHECK(p->verdict == TC_ACT_UNSPEC || p->verdict == TC_ACT_SHOT || p->verdict == TC_ACT_REDIRECT);
	FRAME_CHECK(frame_same_packet(&p->before, &p->after));
	if (p->verdict != TC_ACT_REDIRECT)
		FRAME_CHECK(memcmp(p->before.bytes, p->after.bytes, FRAME_MACS) == 0);
}

static void check_forwarded(const struct frame_passage *p, const struct entry *entry)
{
	uint32_t owner = entry->flow.device;

	FRAME_CHECK(owner != FABRIC_SWITCH);
	FRAME_CHECK(frame_has_macs(&p->after, frame_device_mac(owner), frame_switch.ports[frame_device_port(owner)].mac));
}

/* @entry may be NULL: then the kernel's neighbour table has the way, and fills in the MACs later. */
static void check_returned(const struct frame_passage *p, const struct entry *entry)
{
	FRAME_CHECK(p->port != PORT_CLIENTS);
	FRAME_CHECK(frame_is_vip(p->facts.flow.client) && frame_is_from_member(&p->before));
	if (entry && entry->client_was_seen)
		FRAME_CHECK(frame_has_macs(&p->after, entry->client_mac, frame_switch.ports[entry->client_port].mac));
	else
		FRAME_CHECK(memcmp(p->before.bytes, p->after.bytes, FRAME_MACS) == 0);
}

static void check_redirect(const struct frame_passage *p, struct entry *entries)
{
	struct flow_key turned = frame_turn_round(&p->facts.flow);
	struct entry *entry = find(entries, &p->facts.flow);

	FRAME_CHECK(p->facts.is_session && frame_is_for_port(p));
	if (is_from_client(p) && entry)
		check_forwarded(p, entry);
	else
		check_returned(p, find(entries, &turned));
}

static enum fabric_flow_state state_after(const struct frame_passage *p, const struct entry *old)
{
	if (p->facts.opens && is_from_client(p))
		return FABRIC_FORWARD;
	return p->facts.closes ? FABRIC_CLOSING : old->flow.state;
}

/* Whoever is not the client of a flow changes nothing but its count of packets, and whether it is about to close. */
static void check_entry(const struct frame_passage *p, const struct entry *old, const struct entry *new)
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

static void check_entries(const struct frame_passage *p, struct entry *entries)
{
	size_t count = 0;

	for (int i = 0; i < FLOWS_MAX; i++) {
		struct entry old = entries[i];

		if (!old.is_there)
			continue;
		refresh(&entries[i]);
		check_entry(p, &old, &entries[i]);
		count++;
	}
	FRAME_CHECK(frame_switch_flows() == count);
}

/* The way back is where the client's last packet came from. */
static void note_client(const struct frame_passage *p, struct entry *entry)
{
	entry->client_was_seen = true;
	entry->client_port = p->port;
	memcpy(entry->client_mac, p->before.bytes + 6, sizeof(entry->client_mac));
}

static void check(const struct frame_passage *p, struct entry *entries)
{
	struct entry *entry;

	check_packet(p);
	check_entries(p, entries);
	entry = is_from_client(p) ? find(entries, &p->facts.flow) : NULL;
	if (p->verdict == TC_ACT_REDIRECT)
		check_redirect(p, entries);
	else
		FRAME_CHECK(!entry || entry->flow.device == FABRIC_SWITCH);
	if (is_from_client(p))
		FRAME_CHECK(p->verdict != TC_ACT_SHOT);
	if (entry)
		note_client(p, entry);
}

static void pass(struct bytes_reader *input, struct entry *entries)
{
	size_t len = bytes_get_be16(input);
	uint8_t how = bytes_get_u8(input);
	struct frame frame = frame_take(input, len);
	struct frame_passage p = frame_dress(&frame, how);

	if (!frame_pass(&p))
		return;
	FRAME_CHECK(p.counted == 1);
	check(&p, entries);
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
			fabric_flow_remove(frame_switch.fabric, &entries[i].key);
	return 0;
}
