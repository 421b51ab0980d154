/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a frame that anybody can send confuses the node program: it is held or relayed although it is of no held
 * flow, is lost, overtakes others or arrives changed; or a socket speaks that was to be silent.
 *
 * The node program, not attached, and its table of flows. Input:
 *
 *	offset	bytes
 *	0	1	how many flows there are, modulo 4; for each of them
 *		2	the client's port
 *		1	bits 0-2: state, enum node_state or another; bit 3: IPv6; bit 4: it speaks; bit 5: it has a way;
 *			bits 6-7: what the last parked packet changes it to: 0, RELAY, OPEN, HOLD
 *			In HALF: who speaks sends, else it receives; who has a way copies.
 *		1	how many packets were counted at the gate
 *		1	how many were written back
 *		4	the first byte that has not come in
 *	then	3	for each frame: its length in two bytes, and bits 0-1: program; bit 2: the destination MAC is the
 *			port's; bit 3: it came in by another interface
 *		...	the frame
 */
#include "config.h"

#include "common/node_map.h"
#include "common/tc_program.h"
#include "tests/fuzz/frame.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <string.h>

enum { FLOWS_MAX = 3, FRAMES_MAX = 32, OTHER_INTERFACE = 1 };
enum { STATE = 7, IS_IPV6 = 8, SPEAKS = 16, HAS_WAY = 32, NEXT_SHIFT = 6 };
enum program { INGRESS, EGRESS, PARK, PARK_GUARD, PROGRAMS };
enum { PROGRAM = 3, TO_PORT = 4, CAME_IN = 8 };

#define STRING(x) STRING_(x)
#define STRING_(x) #x

extern const char node_object[], node_object_end[]; /* embedded by common/kernel_helper.c */

struct entry {
	struct flow_key key;
	bool is_there;
	struct node_flow flow;
};

/* One frame's way through. */
struct passage {
	enum program program;
	bool came_in, is_half;
	struct frame before, after;
	struct frame_facts facts;
	int verdict;
};

static const char *const program_names[PROGRAMS] = { "node_ingress", "node_egress", "node_park", "node_park_guard" };
static const struct node_way way = { .to_mac = { 2, 0, 0, 0, 1, 2 }, .from_mac = { 2, 0, 0, 0, 1, 1 } };

static struct bpf_object *object;
static struct frame_port port;
static int programs[PROGRAMS], flows_fd, counts_fd;

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	frame_setup();
	port = frame_port_make("port", 1);
	FRAME_CHECK(tc_open(node_object, (size_t)(node_object_end - node_object), "node", &object) == 0);
	FRAME_CHECK(tc_set_entries(object, STRING(NODE_FLOWS), 2 * FLOWS_MAX) == 0);
	FRAME_CHECK(bpf_object__load(object) == 0);
	for (enum program i = 0; i < PROGRAMS; i++)
		programs[i] = tc_program_fd(object, program_names[i]);
	flows_fd = tc_map_fd(object, STRING(NODE_FLOWS));
	counts_fd = tc_map_fd(object, STRING(NODE_COUNTS));
	return 0;
}

static uint64_t sum_of_counters(void)
{
	uint64_t sums[NODE_NCOUNTERS], sum = 0;

	tc_sum_counters(counts_fd, sums, NODE_NCOUNTERS);
	for (size_t i = 0; i < NODE_NCOUNTERS; i++)
		sum += sums[i];
	return sum;
}

static void refresh(struct entry *entry)
{
	entry->is_there = bpf_map_lookup_elem(flows_fd, &entry->key, &entry->flow) == 0;
}

static void set_up_half(struct node_flow *flow, uint8_t how)
{
	flow->way.part = how & SPEAKS ? NODE_SENDS : NODE_RECEIVES;
	flow->way.copies = !!(how & HAS_WAY);
	flow->way.relay_ifindex = port.ifindex;
	flow->half = (struct node_half){
		.own_acknowledged = flow->next_sequence,
		.peer_acknowledged = flow->next_sequence,
		.said_acknowledged = flow->next_sequence,
		.client_ifindex = port.ifindex,
		.window_scale = how,
	};
}

static void set_up(struct bytes_reader *input, struct entry *entries)
{
	static const uint32_t next[] = { 0, NODE_RELAY, NODE_OPEN, NODE_HOLD };
	int count = bytes_get_u8(input) % (FLOWS_MAX + 1);

	for (int i = 0; i < count; i++) {
		uint16_t client_port = bytes_get_be16(input);
		uint8_t how = bytes_get_u8(input);
		struct node_flow *flow = &entries[i].flow;

		*flow = (struct node_flow){ .park_ifindex = port.ifindex, .next = next[how >> NEXT_SHIFT], .way = way };
		flow->way.speaks = !!(how & SPEAKS);
		flow->way.relay_ifindex = how & HAS_WAY ? port.ifindex : 0;
		flow->gate = (how & STATE) + (uint64_t)bytes_get_u8(input) * NODE_GATE_PACKET;
		flow->returned = bytes_get_u8(input);
		flow->next_sequence = bytes_get_be32(input);
		if ((how & STATE) == NODE_HALF)
			set_up_half(flow, how);
		entries[i].key = frame_flow(how & IS_IPV6, IPPROTO_TCP, client_port);
		entries[i].is_there = bpf_map_update_elem(flows_fd, &entries[i].key, flow, BPF_NOEXIST) == 0;
	}
}

static struct entry *find(struct entry *entries, const struct flow_key *flow)
{
	for (int i = 0; i < FLOWS_MAX; i++)
		if (entries[i].is_there && frame_same_flow(&entries[i].key, flow))
			return &entries[i];
	return NULL;
}

static bool is_tcp(const struct passage *p)
{
	return p->facts.is_session && p->facts.flow.protocol == IPPROTO_TCP;
}

static bool is_for_port(const struct passage *p)
{
	return memcmp(p->before.bytes, port.mac, sizeof(port.mac)) == 0;
}

static bool same_frame(const struct passage *p)
{
	return memcmp(p->before.bytes, p->after.bytes, p->before.len) == 0;
}

static bool same_flow(const struct node_flow *a, const struct node_flow *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* Whoever relays is a hop; at the last one the frame ends. */
static void check_relayed(const struct passage *p, const struct node_flow *flow)
{
	if (p->facts.hops <= 1) {
		FRAME_CHECK(p->verdict == TC_ACT_SHOT);
		return;
	}
	FRAME_CHECK(p->verdict == TC_ACT_REDIRECT);
	FRAME_CHECK(frame_was_routed(&p->before, &p->after));
	FRAME_CHECK(frame_has_macs(&p->after, flow->way.to_mac, flow->way.from_mac));
}

/* In ORDER: our stack gets it if nothing waits before it and nothing is missing before it; else it waits, too. */
static void check_ordered(const struct passage *p, const struct node_flow *old, const struct node_flow *new)
{
	bool waits = NODE_GATE_PACKETS(old->gate) > old->returned;
	bool is_early = p->facts.sequence_len && (int32_t)(old->next_sequence - p->facts.sequence) < 0;
	struct node_flow expected = *old;

	FRAME_CHECK(same_frame(p));
	FRAME_CHECK(p->verdict == (waits || is_early ? TC_ACT_REDIRECT : TC_ACT_UNSPEC));
	if (p->verdict == TC_ACT_REDIRECT)
		expected.gate += NODE_GATE_PACKET;
	else if ((int32_t)(old->next_sequence - p->facts.sequence - p->facts.sequence_len) < 0 && p->facts.sequence_len)
		expected.next_sequence = p->facts.sequence + p->facts.sequence_len;
	FRAME_CHECK(same_flow(new, &expected));
}

static void check_held(const struct passage *p, const struct node_flow *old, const struct node_flow *new)
{
	struct node_flow expected = *old;

	expected.gate += NODE_GATE_PACKET;
	FRAME_CHECK(same_flow(new, &expected));
	switch (NODE_GATE_STATE(old->gate)) {
	case NODE_HOLD:
		FRAME_CHECK(p->verdict == TC_ACT_REDIRECT && same_frame(p));
		break;
	case NODE_RELAY:
		check_relayed(p, old);
		break;
	default:
		FRAME_CHECK(p->verdict == TC_ACT_UNSPEC && same_frame(p));
	}
}

static bool is_half(const struct entry *entry)
{
	return entry && entry->flow.way.part;
}

/*
 * Both devices' acknowledgments only go forward, and the client is never told of more than both have. What he sends again he is told
 * of again.
 */
static void check_half(const struct passage *p, const struct node_flow *old, const struct node_flow *new)
{
	const struct node_half *a = &old->half, *b = &new->half;

	FRAME_CHECK(memcmp(&old->way, &new->way, sizeof(old->way)) == 0 && b->window_scale == a->window_scale);
	FRAME_CHECK((int32_t)(b->own_acknowledged - a->own_acknowledged) >= 0);
	FRAME_CHECK((int32_t)(b->peer_acknowledged - a->peer_acknowledged) >= 0);
	if (p->program != EGRESS && b->said_acknowledged == p->facts.sequence)
		return;
	FRAME_CHECK((int32_t)(b->said_acknowledged - a->said_acknowledged) >= 0);
	if (b->said_acknowledged != a->said_acknowledged)
		FRAME_CHECK((int32_t)(b->own_acknowledged - b->said_acknowledged) >= 0 &&
			    (int32_t)(b->peer_acknowledged - b->said_acknowledged) >= 0);
}

/* Who receives has no voice but to the other device, and to our stack goes nothing that is not the client's. */
static void check_half_frame(const struct passage *p, const struct node_flow *old)
{
	if (p->verdict == TC_ACT_REDIRECT && p->program == EGRESS)
		FRAME_CHECK(frame_has_macs(&p->after, old->way.to_mac, old->way.from_mac));
	if (p->verdict == TC_ACT_UNSPEC && p->program == EGRESS && !p->came_in)
		FRAME_CHECK(old->way.part == NODE_SENDS);
	FRAME_CHECK(p->after.len == p->before.len);
}

/* TCP's reserved bits (RFC 9293, 3.1). */
static bool is_exchange(const struct passage *p)
{
	return p->before.bytes[p->facts.at + 12] & NODE_EXCHANGE;
}

static void check_ingress(const struct passage *p, const struct entry *old, const struct entry *new)
{
	if (!old || !is_for_port(p)) {
		FRAME_CHECK(p->verdict == TC_ACT_UNSPEC && same_frame(p));
		FRAME_CHECK(!old || (new->is_there && same_flow(&old->flow, &new->flow)));
		return;
	}
	if (p->facts.opens) {
		FRAME_CHECK(p->verdict == TC_ACT_UNSPEC && same_frame(p) && !new->is_there);
		return;
	}
	FRAME_CHECK(new->is_there);
	if (is_half(old)) {
		check_half(p, &old->flow, &new->flow);
		check_half_frame(p, &old->flow);
		return;
	}
	if (is_exchange(p))
		FRAME_CHECK(p->verdict == TC_ACT_SHOT && same_frame(p) && same_flow(&old->flow, &new->flow));
	else if (NODE_GATE_STATE(old->flow.gate) == NODE_ORDER)
		check_ordered(p, &old->flow, &new->flow);
	else
		check_held(p, &old->flow, &new->flow);
}

static void check_egress(const struct passage *p, struct entry *entries)
{
	struct flow_key turned = frame_turn_round(&p->facts.flow);
	struct entry *entry = is_tcp(p) ? find(entries, &turned) : NULL;
	bool is_muted = entry && !entry->flow.way.speaks && !p->came_in;

	if (is_half(entry)) {
		struct node_flow old = entry->flow;

		refresh(entry);
		check_half(p, &old, &entry->flow);
		check_half_frame(p, &old);
		return;
	}
	FRAME_CHECK(p->verdict == (is_muted ? TC_ACT_SHOT : TC_ACT_UNSPEC));
	FRAME_CHECK(same_frame(p));
}

/* The hold ends with the packet that is written back last, and only if somebody waits for that. */
static void check_returned(const struct node_flow *old, const struct node_flow *new)
{
	struct node_flow expected = *old;

	if (NODE_GATE_STATE(old->gate) != NODE_ORDER) {
		expected.returned++;
		if (old->next && NODE_GATE_STATE(old->gate) != old->next &&
		    NODE_GATE_PACKETS(old->gate) <= expected.returned)
			expected.gate = old->next;
	}
	FRAME_CHECK(same_flow(new, &expected));
}

static void check_park(const struct passage *p, const struct entry *old, const struct entry *new)
{
	if (is_half(old)) {
		check_half(p, &old->flow, &new->flow);
		check_half_frame(p, &old->flow);
		return;
	}
	if (old)
		check_returned(&old->flow, &new->flow);
	if (old && old->flow.way.relay_ifindex)
		check_relayed(p, &old->flow);
	else
		FRAME_CHECK(p->verdict == TC_ACT_UNSPEC && same_frame(p));
}

static void check_guard(const struct passage *p)
{
	FRAME_CHECK(p->verdict == (p->came_in ? TC_ACT_UNSPEC : TC_ACT_SHOT));
	FRAME_CHECK(same_frame(p));
}

/*
 * Only ingress and park touch a flow, and only that of the frame; egress that of a half, which it notes itself. @own: the frame's
 * flow as it was, or NULL
 */
static void check_others(const struct passage *p, const struct entry *own, struct entry *entries)
{
	bool changes_own = p->program == INGRESS || p->program == PARK;
	struct flow_key key;
	size_t count = 0, all = 0;

	for (int i = 0; i < FLOWS_MAX; i++) {
		struct entry old = entries[i];

		if (!old.is_there)
			continue;
		if (p->program == EGRESS && is_half(&old)) { /* see check_egress() */
			count++;
			continue;
		}
		refresh(&entries[i]);
		count += entries[i].is_there;
		if (!changes_own || !own || !frame_same_flow(&old.key, &own->key))
			FRAME_CHECK(entries[i].is_there && same_flow(&old.flow, &entries[i].flow));
	}
	for (void *from = NULL; bpf_map_get_next_key(flows_fd, from, &key) == 0; from = &key)
		all++;
	FRAME_CHECK(all == count);
}

static void check(const struct passage *p, struct entry *entries)
{
	struct entry *found = is_tcp(p) ? find(entries, &p->facts.flow) : NULL;
	struct entry old = found ? *found : (struct entry){ 0 };

	check_others(p, found ? &old : NULL, entries);
	switch (p->program) {
	case INGRESS:
		check_ingress(p, found ? &old : NULL, found);
		break;
	case EGRESS:
		check_egress(p, entries);
		break;
	case PARK:
		check_park(p, found ? &old : NULL, found);
		break;
	default:
		check_guard(p);
	}
}

/*
 * Each frame once; beside it the end of a hold, a copy, what was heard. What the guard lets pass is counted where it was parked.
 */
static void check_counters(const struct passage *p, uint64_t counted)
{
	if (p->program == PARK_GUARD)
		FRAME_CHECK(counted == !p->came_in);
	else
		FRAME_CHECK(counted >= 1 && counted <= (p->program == PARK || p->is_half ? 3 : 1));
}

static void pass(struct bytes_reader *input, struct entry *entries)
{
	size_t len = bytes_get_be16(input);
	uint8_t how = bytes_get_u8(input);
	struct passage p = { .program = how & PROGRAM, .came_in = how & CAME_IN };
	uint64_t counted = sum_of_counters();

	p.before = frame_take(input, len);
	if (how & TO_PORT && p.before.len >= sizeof(port.mac))
		memcpy(p.before.bytes, port.mac, sizeof(port.mac));
	p.after = p.before;
	p.facts = frame_facts(&p.before);
	if (frame_run(programs[p.program], &port, p.came_in ? OTHER_INTERFACE : 0, &p.after, &p.verdict) < 0)
		return;
	p.is_half = is_tcp(&p) && is_half(find(entries, &p.facts.flow));
	check(&p, entries);
	check_counters(&p, sum_of_counters() - counted);
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
		bpf_map_delete_elem(flows_fd, &entries[i].key);
	return 0;
}
