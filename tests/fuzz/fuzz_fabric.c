/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a frame that anybody can send confuses the switch: it is forwarded although it is nobody's, or changed,
 * or makes an entry, or takes a session from its owner. Input:
 *
 *	offset	bytes
 *	0	1	bits 0-2: how many flows there are; bits 3-4: who gets new connections; bit 5: the devices have
 *			volumes 1 to 8 in turn; for each of the flows
 *		1	bits 0-1: owner: nobody, the switch, device 2, device 3; bit 2: IPv6; bit 3: UDP
 *		2	the client's port
 *	then	3	for each frame: its length in two bytes, and how it comes (tests/fuzz/frame_switch.h; bit 5:
 *			it does not come, our own stack sends it)
 *		...	the frame
 *
 * fuzz_fabric_eap has datagrams that devices sign; here nobody can.
 */
#include "config.h"

#include "tests/fuzz/frame_switch.h"
#include "tests/platform/netns.h"

#include <bpf/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <string.h>

enum { FLOWS_MAX = 7, FRAMES_MAX = 32, NOBODY = 0, POLICY_SHIFT = 3, POLICY_MASK = 3, HAS_VOLUMES = 32, VOLUMES = 8 };
enum { IS_IPV6 = 4, IS_UDP = 8 };
enum { FRAME_OUT = 32 }; /* in how a frame comes: our own stack sends it */

struct entry {
	struct flow_key key;
	bool is_there;
	struct fabric_flow flow;
	bool client_was_seen;
	uint8_t client_mac[6];
	enum frame_port_number client_port;
};

static enum fabric_first_policy policy;
static bool assigns; /* connections or calls to devices */
static int openings_fd, fragments_fd, ways_fd;

/* An IP fragment of a datagram, with all of its IP headers. */
struct piece {
	bool is_one;
	struct flow_key ends; /* addresses only */
};

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	frame_switch_start(NULL);
	openings_fd = bpf_obj_get(NETNS_BPFFS "/fabric/fabric_open");
	fragments_fd = bpf_obj_get(NETNS_BPFFS "/fabric/fabric_frag");
	ways_fd = bpf_obj_get(NETNS_BPFFS "/fabric/fabric_ways");
	FRAME_CHECK(openings_fd >= 0 && fragments_fd >= 0 && ways_fd >= 0);
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

static void set_policy(int number)
{
	const uint32_t devices[] = { DEVICE_FIRST, DEVICE_LAST };

	policy = number == FABRIC_FIRST_IN_TURN || number == FABRIC_FIRST_OF_CLIENT ? (enum fabric_first_policy)number :
										      FABRIC_FIRST_SWITCH;
	FRAME_CHECK(fabric_first_set(frame_switch.fabric, policy, devices, 2) == 0);
}

static void set_volumes(bool there_are)
{
	struct fabric_volume volumes[VOLUMES];

	for (uint32_t i = 0; i < VOLUMES; i++)
		volumes[i] = (struct fabric_volume){ i + 1, i % 2 ? DEVICE_LAST : DEVICE_FIRST };
	FRAME_CHECK(fabric_volumes_set(frame_switch.fabric, volumes, there_are ? VOLUMES : 0) == 0);
}

static void set_up(struct bytes_reader *input, struct entry *entries)
{
	uint8_t first = bytes_get_u8(input);
	int count = first & FLOWS_MAX;

	set_policy(first >> POLICY_SHIFT & POLICY_MASK);
	set_volumes(first & HAS_VOLUMES);
	assigns = policy != FABRIC_FIRST_SWITCH || first & HAS_VOLUMES;
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

/* A client's packet may lose a bit that means something between devices only. */
static void check_packet(const struct frame_passage *p)
{
	struct frame unmarked = p->before;

	if (is_from_client(p))
		unmarked = frame_without_mark(&p->before, &p->facts);
	FRAME_CHECK(p->verdict == TC_ACT_UNSPEC || p->verdict == TC_ACT_SHOT || p->verdict == TC_ACT_REDIRECT);
	FRAME_CHECK(frame_same_packet(&p->before, &p->after) || frame_same_packet(&unmarked, &p->after));
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

static struct piece piece_of(const struct frame *frame)
{
	const uint8_t *ip = frame->bytes + 14;
	const bool is_ipv4 = frame->bytes[12] == 0x08 && frame->bytes[13] == 0;
	struct piece piece = { 0 };

	if (is_ipv4 && frame->len >= 34 && (ip[0] & 15) >= 5) {
		piece.is_one = ip[9] == IPPROTO_UDP && ((ip[6] & 0x3f) || ip[7]);
		memset(piece.ends.client + 10, 0xff, 2);
		memset(piece.ends.vip + 10, 0xff, 2);
		memcpy(piece.ends.client + 12, ip + 12, 4);
		memcpy(piece.ends.vip + 12, ip + 16, 4);
	} else if (frame->bytes[12] == 0x86 && frame->bytes[13] == 0xdd && frame->len >= 62) {
		piece.is_one = ip[6] == IPPROTO_FRAGMENT && ip[40] == IPPROTO_UDP;
		memcpy(piece.ends.client, ip + 8, 16);
		memcpy(piece.ends.vip, ip + 24, 16);
	}
	return piece;
}

/* Of a device's answer: to the client if the device is a member, else nowhere. Others are the stack's without volumes. */
static bool is_answer_in_pieces(const struct frame_passage *p)
{
	struct piece piece = piece_of(&p->before);

	return piece.is_one && frame_is_for_port(p) && p->port != PORT_CLIENTS && frame_is_vip(piece.ends.client) &&
	       !frame_is_vip(piece.ends.vip);
}

static void check_answer_in_pieces(const struct frame_passage *p)
{
	FRAME_CHECK(p->verdict == (frame_is_from_member(&p->before) ? TC_ACT_REDIRECT : TC_ACT_SHOT));
}

/* ICMP that is about what a device has sent. @flow: out */
static bool is_error(const struct frame_passage *p, struct flow_key *flow)
{
	bool is_relayed = p->port == PORT_SHARED && frame_is_from_member(&p->before);

	return !p->is_out && frame_is_for_port(p) && p->port != PORT_DEVICES && !is_relayed &&
	       frame_error_about(&p->before, flow) && frame_is_vip(flow->vip);
}

static void check_error(const struct frame_passage *p, const struct entry *entry)
{
	if (entry && entry->flow.device != FABRIC_SWITCH)
		check_forwarded(p, entry);
	FRAME_CHECK(p->verdict == (entry && entry->flow.device != FABRIC_SWITCH ? TC_ACT_REDIRECT : TC_ACT_UNSPEC));
	FRAME_CHECK(!p->traffic.received_packets && !p->traffic.sent_packets);
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
		return FABRIC_OPENING;
	if (p->facts.closes)
		return FABRIC_CLOSING;
	return old->flow.state == FABRIC_OPENING && is_from_client(p) ? FABRIC_FORWARD : old->flow.state;
}

/* However segments come, a SYN apart, neither end goes back. */
static void check_end(const struct frame_passage *p, const struct fabric_flow_end *old, const struct fabric_flow_end *new)
{
	if (!old->is_known || p->facts.opens || memcmp(old, new, sizeof(*old)) == 0)
		return;
	FRAME_CHECK(new->is_known);
	FRAME_CHECK(new->has_syn != old->has_syn || new->first != old->first || (int32_t)(new->next - old->next) >= 0);
}

/* Whoever is not the client of a flow changes nothing but its count of packets, and whether it is about to close. */
static void check_entry(const struct frame_passage *p, const struct entry *old, const struct entry *new)
{
	struct flow_key turned = frame_turn_round(&p->facts.flow);
	bool is_own = !p->is_out && frame_same_flow(&old->key, &p->facts.flow) && is_from_client(p);
	bool is_answer = frame_same_flow(&old->key, &turned) && p->verdict == TC_ACT_REDIRECT;
	bool reopens = is_own && p->facts.opens;

	FRAME_CHECK(new->is_there);
	check_end(p, &old->flow.client, &new->flow.client);
	check_end(p, &old->flow.server, &new->flow.server);
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

/* What passes between a client and a VIP is counted once, with no more bytes than it has. */
static void check_traffic(const struct frame_passage *p)
{
	bool is_sent = p->verdict == TC_ACT_REDIRECT && !is_from_client(p);

	FRAME_CHECK(p->traffic.received_packets == is_from_client(p));
	FRAME_CHECK(p->traffic.sent_packets == is_sent);
	FRAME_CHECK(p->traffic.received_bytes + p->traffic.sent_bytes <= p->before.len - FRAME_MACS - 2);
	FRAME_CHECK(!is_from_client(p) == !p->traffic.received_bytes && !is_sent == !p->traffic.sent_bytes);
}

/* What our own stack sends is counted, and goes on. */
static void check_out(const struct frame_passage *p, struct entry *entries)
{
	bool is_answer = p->facts.is_session && frame_is_vip(p->facts.flow.client);

	check_entries(p, entries);
	FRAME_CHECK(p->verdict == TC_ACT_UNSPEC && p->before.len == p->after.len &&
		    memcmp(p->before.bytes, p->after.bytes, p->before.len) == 0);
	FRAME_CHECK(p->traffic.sent_packets == is_answer && !p->traffic.received_packets);
}

static void check(const struct frame_passage *p, struct entry *entries)
{
	struct flow_key flow;
	struct entry *entry;

	check_packet(p);
	check_entries(p, entries);
	if (is_error(p, &flow)) {
		check_error(p, find(entries, &flow));
		return;
	}
	if (is_answer_in_pieces(p)) {
		check_answer_in_pieces(p);
		return;
	}
	check_traffic(p);
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

/* With connections or calls for devices: who gets what depends on the turn, or on bytes. But a packet goes by the rules all the same. */
static void check_assigned(const struct frame_passage *p, size_t flows_before)
{
	size_t flows = frame_switch_flows();
	struct piece piece = piece_of(&p->before);
	struct flow_key about;

	check_packet(p);
	FRAME_CHECK(!p->is_out || p->verdict == TC_ACT_UNSPEC);
	FRAME_CHECK(flows == flows_before || (flows == flows_before + 1 && is_from_client(p) && !p->facts.opens &&
					      p->facts.flow.protocol == IPPROTO_TCP));
	if (is_from_client(p))
		FRAME_CHECK(p->verdict != TC_ACT_SHOT);
	if (p->verdict != TC_ACT_REDIRECT || is_error(p, &about))
		return;
	FRAME_CHECK(frame_is_for_port(p) && (p->facts.is_session || piece.is_one));
	if (is_from_client(p) || (piece.is_one && frame_is_vip(piece.ends.vip)))
		FRAME_CHECK(frame_has_macs(&p->after, frame_device_mac(DEVICE_FIRST),
					   frame_switch.ports[frame_device_port(DEVICE_FIRST)].mac) ||
			    frame_has_macs(&p->after, frame_device_mac(DEVICE_LAST),
					   frame_switch.ports[frame_device_port(DEVICE_LAST)].mac));
	else
		FRAME_CHECK(p->port != PORT_CLIENTS && frame_is_from_member(&p->before) &&
			    frame_is_vip(piece.is_one ? piece.ends.client : p->facts.flow.client));
}

static void pass(struct bytes_reader *input, struct entry *entries)
{
	size_t flows = assigns ? frame_switch_flows() : 0;
	size_t len = bytes_get_be16(input);
	uint8_t how = bytes_get_u8(input);
	struct frame frame = frame_take(input, len);
	struct frame_passage p = frame_dress(&frame, how);

	p.is_out = how & FRAME_OUT;
	if (!frame_pass(&p))
		return;
	FRAME_CHECK(p.counted == 1);
	if (assigns)
		check_assigned(&p, flows);
	else if (p.is_out)
		check_out(&p, entries);
	else
		check(&p, entries);
}

static bool forget_flow(const struct fabric_flow *flow, void *arg)
{
	(void)arg;
	fabric_flow_remove(frame_switch.fabric, &flow->flow);
	return true;
}

static void empty(int map_fd)
{
	struct flow_key key; /* the longest */

	while (bpf_map_get_next_key(map_fd, NULL, &key) == 0)
		bpf_map_delete_elem(map_fd, &key);
}

static void forget_all(void)
{
	fabric_flows(frame_switch.fabric, forget_flow, NULL);
	empty(fragments_fd);
	if (!assigns)
		return;
	empty(openings_fd);
	empty(ways_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct bytes_reader input = bytes_reader_init(bytes, len);
	struct entry entries[FLOWS_MAX] = { 0 };

	set_up(&input, entries);
	for (int i = 0; i < FRAMES_MAX && input.left && !input.failed; i++)
		pass(&input, entries);
	forget_all();
	return 0;
}
