/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * common/node.bpf.c - the node program: holds, relays and mutes flows of this machine
 *
 *	          +------------------ stack ------------------+
 *	          |                     ^                     |
 *	   no entry, SYN            no target             no entry
 *	          |                     |                     v
 *	--> node_ingress -- HOLD --> (TAP ring, kernel helper) node_egress -->
 *	          |                     |                     | HOLD, RELAY: dropped
 *	        RELAY                node_park
 *	          |                     | has a target
 *	          +------> to the new owner <-----------------+ (not ours: node_egress lets pass)
 *
 * The order of packets. While some are parked, later ones must park behind them, also those that another CPU works on.
 * So a packet of a held flow is counted in the same atomic operation that tells it the flow's state (struct node_flow,
 * gate), and the state changes only if as many packets have been written back as were counted.
 *
 * ORDER is for a while after a flow has come here: earlier packets are still relayed by the old owner when the switch sends
 * later ones already. Those park until the earlier ones are in the stack, and all others park behind them. The kernel
 * helper puts them in order.
 *
 * HALF is for a connection of which another device has the other half: common/bpf_half.h.
 *
 * Everything else continues with TC_ACT_UNSPEC: the switch's fabric runs before on the same hook, others may follow.
 */
#include "common/bpf_half.h"
#include "common/bpf_packet.h"
#include "common/node_map.h"

#include <linux/errno.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow_key);
	__type(value, struct node_flow);
	__uint(max_entries, NODE_FLOWS_MAX);
} NODE_FLOWS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, NODE_NCOUNTERS);
} NODE_COUNTS SEC(".maps");

static __always_inline int count(__u32 counter, int verdict)
{
	__u64 *packets = bpf_map_lookup_elem(&NODE_COUNTS, &counter);

	if (packets)
		++*packets;
	return verdict;
}

static __always_inline int relay(struct __sk_buff *skb, const struct node_flow *flow, __u32 counter)
{
	const struct node_way *way = &flow->way;
	struct packet_macs macs;

	if (packet_age(skb))
		return count(NODE_COUNT_relay_hop_limit, TC_ACT_SHOT);
	__builtin_memcpy(macs.to, way->to_mac, ETH_ALEN);
	__builtin_memcpy(macs.from, way->from_mac, ETH_ALEN);
	if (packet_set_macs(skb, &macs))
		return count(NODE_COUNT_relay_failed, TC_ACT_SHOT);
	return count(counter, bpf_redirect(way->relay_ifindex, 0));
}

/* Only what the client sends over TCP can be held. Returns 0, or 1 + the counter of the reason to let it pass. */
static __always_inline __u32 not_ours(enum packet_kind kind, const struct packet *p)
{
	switch (kind) {
	case PACKET_FRAGMENT:
		return 1 + NODE_COUNT_in_fragment;
	case PACKET_SHORT:
		return 1 + NODE_COUNT_in_short;
	case PACKET_OTHER:
		return 1 + NODE_COUNT_in_other;
	case PACKET_SESSION:
		break;
	}
	return p->flow.protocol == IPPROTO_TCP ? 0 : 1 + NODE_COUNT_in_other;
}

static __always_inline int is_before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

/* Notes what the stack gets. */
static __always_inline void note_received(struct node_flow *entry, __u32 next_sequence)
{
	if (is_before(entry->next_sequence, next_sequence))
		entry->next_sequence = next_sequence;
}

/* In ORDER: nothing waits, and nothing is missing before it. One without bytes may come at any time. */
static __always_inline int is_next(struct node_flow *entry, const struct packet *p)
{
	__u64 gate = entry->gate;

	if (NODE_GATE_STATE(gate) != NODE_ORDER || NODE_GATE_PACKETS(gate) > entry->returned)
		return 0;
	if (p->sequence_len && is_before(entry->next_sequence, p->sequence))
		return 0;
	if (p->sequence_len)
		note_received(entry, p->sequence + p->sequence_len);
	return 1;
}

/* Half handoffs */

/* The packet is to go to the other device. */
static __always_inline long address_to_peer(struct __sk_buff *skb, const struct node_way *way)
{
	struct packet_macs macs;

	__builtin_memcpy(macs.to, way->to_mac, ETH_ALEN);
	__builtin_memcpy(macs.from, way->from_mac, ETH_ALEN);
	return packet_set_macs(skb, &macs);
}

/* What is lost on the way, the client sends again: it is not acknowledged before the other device has it. */
static __always_inline long copy_to_peer(struct __sk_buff *skb, const struct node_way *way)
{
	struct packet_macs macs;

	if (packet_get_macs(skb, &macs) || address_to_peer(skb, way))
		return -EBADMSG;
	bpf_clone_redirect(skb, way->relay_ifindex, 0);
	count(NODE_COUNT_half_copied, 0);
	return packet_set_macs(skb, &macs);
}

static __always_inline int is_from_peer(struct __sk_buff *skb, const struct node_way *way)
{
	struct packet_macs macs;

	return !packet_get_macs(skb, &macs) && packet_same_mac(macs.from, way->to_mac);
}

/* The other device's acknowledgment becomes ours. */
static __always_inline long pass_on(struct __sk_buff *skb, const struct packet *p, const struct half_tcp *tcp,
				    struct node_half *half, const struct half_common *common)
{
	struct half_stamps stamps;
	struct packet_macs macs;

	__builtin_memcpy(macs.to, half->client_mac, ETH_ALEN);
	__builtin_memcpy(macs.from, half->port_mac, ETH_ALEN);
	if (half_say(skb, p, tcp, half, common) ||
	    half_set32(skb, p, offsetof(struct half_tcp, sequence), tcp->sequence, bpf_htonl(half->send_next)) ||
	    half_mark(skb, p, tcp, 0))
		return -EBADMSG;
	if (half_read_stamps(skb, p, tcp, &stamps) &&
	    half_set32(skb, p, sizeof(*tcp) + offsetof(struct half_stamps, value), stamps.value, bpf_htonl(half->stamp)))
		return -EBADMSG;
	return half_exchange_ends(skb, p, tcp) ?: packet_set_macs(skb, &macs);
}

static __always_inline int on_exchange(struct __sk_buff *skb, const struct packet *p, const struct half_tcp *tcp,
				       struct node_flow *entry)
{
	struct node_half *half = &entry->half;
	struct half_common common;

	if (!is_from_peer(skb, &entry->way))
		return count(NODE_COUNT_half_late, TC_ACT_SHOT);
	if (!half_is_credible(half, p, tcp))
		return count(NODE_COUNT_half_forged, TC_ACT_SHOT);
	half_note_peer(half, tcp);
	count(NODE_COUNT_half_heard, 0);
	common = half_of_both(half);
	if (entry->way.part != NODE_SENDS || !half->client_ifindex || !half_is_news(half, &common))
		return TC_ACT_SHOT;
	if (pass_on(skb, p, tcp, half, &common))
		return count(NODE_COUNT_half_failed, TC_ACT_SHOT);
	return count(NODE_COUNT_half_passed_on, bpf_redirect(half->client_ifindex, 0));
}

/* A packet of the client, or what the other device says to us. */
static __always_inline int take_in_half(struct __sk_buff *skb, const struct packet *p, struct node_flow *entry)
{
	const volatile struct node_way *way = &entry->way;
	int copies = way->copies; /* first: they end together, in one store */
	struct half_tcp tcp;

	if (half_read(skb, p, &tcp))
		return count(NODE_COUNT_in_short, TC_ACT_UNSPEC);
	if (half_is_exchange(p))
		return on_exchange(skb, p, &tcp, entry);
	if (!way->part && way->relay_ifindex) /* it has just ended */
		return relay(skb, entry, NODE_COUNT_in_relayed);
	if (copies && copy_to_peer(skb, &entry->way))
		return count(NODE_COUNT_half_failed, TC_ACT_SHOT);
	note_received(entry, p->sequence + p->sequence_len);
	half_note_repeated(&entry->half, p);
	if (entry->way.part == NODE_RECEIVES && half_hide_acknowledgment(skb, p, &tcp, &entry->half))
		return count(NODE_COUNT_half_failed, TC_ACT_SHOT);
	bpf_skb_change_type(skb, PACKET_HOST);
	return count(NODE_COUNT_in_half, TC_ACT_UNSPEC);
}

/* Our stack's packets pass, but promise no more than both devices can keep. */
static __always_inline int send_for_both(struct __sk_buff *skb, const struct packet *p, const struct half_tcp *tcp,
					 struct node_half *half)
{
	struct half_common common;
	struct packet_macs macs;

	if (!packet_get_macs(skb, &macs)) {
		__builtin_memcpy(half->client_mac, macs.to, ETH_ALEN);
		__builtin_memcpy(half->port_mac, macs.from, ETH_ALEN);
		half->client_ifindex = skb->ifindex;
	}
	half_note_own(half, p, tcp);
	common = half_of_both(half);
	if (half_is_bare(p) && !half_is_news(half, &common) && common.acknowledged != half->own_acknowledged)
		return count(NODE_COUNT_half_withheld, TC_ACT_SHOT);
	if (half_say(skb, p, tcp, half, &common))
		return count(NODE_COUNT_half_failed, TC_ACT_SHOT);
	return count(NODE_COUNT_out_local, TC_ACT_UNSPEC);
}

static __always_inline int tell_peer(struct __sk_buff *skb, const struct packet *p, const struct half_tcp *tcp,
				     struct node_flow *entry)
{
	half_note_own(&entry->half, p, tcp);
	if (!half_is_bare(p)) /* the other device sends it: for our stack it is sent, and will be acknowledged */
		return count(NODE_COUNT_out_muted, TC_ACT_STOLEN);
	if (half_mark(skb, p, tcp, 1) || half_exchange_ends(skb, p, tcp) || address_to_peer(skb, &entry->way))
		return count(NODE_COUNT_half_failed, TC_ACT_SHOT);
	return count(NODE_COUNT_half_told, bpf_redirect(entry->way.relay_ifindex, 0));
}

static __always_inline int let_out_half(struct __sk_buff *skb, const struct packet *p, struct node_flow *entry)
{
	struct half_stamps stamps;
	struct half_tcp tcp;

	if (half_read(skb, p, &tcp))
		return count(NODE_COUNT_half_failed, TC_ACT_SHOT);
	if (half_read_stamps(skb, p, &tcp, &stamps))
		entry->half.stamp = bpf_ntohl(stamps.value);
	return entry->way.part == NODE_SENDS ? send_for_both(skb, p, &tcp, &entry->half) : tell_peer(skb, p, &tcp, entry);
}

SEC("tc")
int node_ingress(struct __sk_buff *skb)
{
	struct node_flow *entry;
	struct packet p;
	__u32 reason;

	if (skb->pkt_type != PACKET_HOST)
		return count(NODE_COUNT_in_elsewhere, TC_ACT_UNSPEC);
	reason = not_ours(packet_read(skb, PACKET_FROM_CLIENT, &p), &p);
	if (reason)
		return count(reason - 1, TC_ACT_UNSPEC);
	entry = bpf_map_lookup_elem(&NODE_FLOWS, &p.flow);
	if (!entry)
		return count(NODE_COUNT_in_local, TC_ACT_UNSPEC);
	if (packet_opens(&p)) {
		bpf_map_delete_elem(&NODE_FLOWS, &p.flow);
		return count(NODE_COUNT_in_reopened, TC_ACT_UNSPEC);
	}
	if (half_is_exchange(&p) && !entry->way.part) /* nothing that our stack may see */
		return count(NODE_COUNT_half_late, TC_ACT_SHOT);
	if (is_next(entry, &p))
		return count(NODE_COUNT_in_next, TC_ACT_UNSPEC);
	switch (NODE_GATE_STATE(__sync_fetch_and_add(&entry->gate, NODE_GATE_PACKET))) {
	case NODE_HOLD:
		return count(NODE_COUNT_in_parked, bpf_redirect(entry->park_ifindex, 0));
	case NODE_ORDER:
		return count(NODE_COUNT_in_too_early, bpf_redirect(entry->park_ifindex, 0));
	case NODE_RELAY:
		return relay(skb, entry, NODE_COUNT_in_relayed);
	case NODE_OPEN:
		return count(NODE_COUNT_in_local, TC_ACT_UNSPEC);
	case NODE_HALF:
		return take_in_half(skb, &p, entry);
	default:
		return count(NODE_COUNT_bad_state, TC_ACT_UNSPEC);
	}
}

/*
 * A packet that came in by another interface (skb->ingress_ifindex) is not from a socket of ours: the switch forwards
 * the new owner's replies while its own entry for the flow is still RELAY.
 */
SEC("tc")
int node_egress(struct __sk_buff *skb)
{
	struct node_flow *entry;
	struct packet p;

	if (skb->ingress_ifindex || packet_read(skb, PACKET_TO_CLIENT, &p) != PACKET_SESSION ||
	    p.flow.protocol != IPPROTO_TCP)
		return count(NODE_COUNT_out_other, TC_ACT_UNSPEC);
	entry = bpf_map_lookup_elem(&NODE_FLOWS, &p.flow);
	if (entry && entry->way.part)
		return let_out_half(skb, &p, entry);
	if (!entry || entry->way.speaks)
		return count(NODE_COUNT_out_local, TC_ACT_UNSPEC);
	return count(NODE_COUNT_out_muted, TC_ACT_SHOT);
}

/* Changes the state of a held flow, unless parked packets are still to be written back. */
static __always_inline int change_after_last(struct node_flow *entry, __u32 state)
{
	__u64 gate = entry->gate;

	if (NODE_GATE_STATE(gate) == state)
		return 0;
	if (NODE_GATE_PACKETS(gate) > entry->returned)
		return -EAGAIN;
	return __sync_val_compare_and_swap(&entry->gate, gate, state) == gate ? 0 : -EAGAIN;
}

/* Before the packet goes on: what the client sends because of it comes after it. */
static __always_inline void note_returned(struct node_flow *entry)
{
	entry->returned++;
	if (entry->next && !change_after_last(entry, entry->next))
		count(NODE_COUNT_order_by_last, 0);
}

/* A parked frame that the kernel helper wrote back. Held here again it would go round for ever. */
SEC("tc")
int node_park(struct __sk_buff *skb)
{
	struct node_flow *entry = NULL;
	struct packet p;

	if (packet_read(skb, PACKET_FROM_CLIENT, &p) == PACKET_SESSION)
		entry = bpf_map_lookup_elem(&NODE_FLOWS, &p.flow);
	if (entry && NODE_GATE_STATE(entry->gate) != NODE_ORDER)
		note_returned(entry);
	if (entry && entry->way.part)
		return take_in_half(skb, &p, entry);
	if (entry && entry->way.relay_ifindex)
		return relay(skb, entry, NODE_COUNT_park_relayed);
	bpf_skb_change_type(skb, PACKET_HOST);
	return count(NODE_COUNT_park_returned, TC_ACT_UNSPEC);
}

/* Nothing but what node_ingress parks may enter the ring: neighbour discovery and the like of our own stack may not. */
SEC("tc")
int node_park_guard(struct __sk_buff *skb)
{
	if (!skb->ingress_ifindex)
		return count(NODE_COUNT_park_foreign, TC_ACT_SHOT);
	return TC_ACT_UNSPEC;
}

/*
 * Nothing is parked, so nobody's count is lost. First the gate: the way to the other device stays the same, so a packet that
 * learns the new state can be relayed at once, and none comes only to our stack.
 */
static __always_inline int end_half(struct node_flow *entry, const struct node_order *order)
{
	entry->returned = 0;
	entry->gate = order->state;
	barrier();
	entry->way = order->way;
	entry->next = 0;
	return 0;
}

static __always_inline int obey(struct node_flow *entry, const struct node_order *order)
{
	if (order->when == NODE_LATER) {
		entry->returned += order->returned;
		note_received(entry, order->next_sequence);
		return 0;
	}
	if (order->when == NODE_PREPARE) {
		entry->half = order->half;
		return 0;
	}
	if (NODE_GATE_STATE(entry->gate) == NODE_HALF)
		return end_half(entry, order);
	entry->way = order->way;
	entry->next = order->when == NODE_AT_LAST ? order->state : 0;
	if (order->when != NODE_NOW)
		return change_after_last(entry, order->state);
	entry->gate = order->state;
	return count(NODE_COUNT_order_forced, 0);
}

/* The same thread writes packets back, so `returned` stands still. */
SEC("syscall")
int node_command(struct node_order *order)
{
	struct flow_key flow = order->flow;
	struct node_flow *entry = bpf_map_lookup_elem(&NODE_FLOWS, &flow);

	order->error = entry ? obey(entry, order) : -ENOENT;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
