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
 * Everything else continues with TC_ACT_UNSPEC: the switch's fabric runs before on the same hook, others may follow.
 */
#include "common/bpf_packet.h"
#include "common/node_map.h"

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
	struct packet_macs macs;

	if (packet_age(skb))
		return count(NODE_COUNT_relay_hop_limit, TC_ACT_SHOT);
	__builtin_memcpy(macs.to, flow->to_mac, ETH_ALEN);
	__builtin_memcpy(macs.from, flow->from_mac, ETH_ALEN);
	if (packet_set_macs(skb, &macs))
		return count(NODE_COUNT_relay_failed, TC_ACT_SHOT);
	return count(counter, bpf_redirect(flow->relay_ifindex, 0));
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

SEC("tc")
int node_ingress(struct __sk_buff *skb)
{
	struct node_flow *entry, flow;
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
	flow = *entry;
	switch (flow.state) {
	case NODE_HOLD:
	case NODE_RELEASE:
		return count(NODE_COUNT_in_parked, bpf_redirect(flow.park_ifindex, 0));
	case NODE_RELAY:
		return relay(skb, &flow, NODE_COUNT_in_relayed);
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
	if (!entry || entry->state == NODE_RELEASE)
		return count(NODE_COUNT_out_local, TC_ACT_UNSPEC);
	return count(NODE_COUNT_out_muted, TC_ACT_SHOT);
}

/* A parked frame that the kernel helper wrote back. Held here again it would go round for ever. */
SEC("tc")
int node_park(struct __sk_buff *skb)
{
	struct node_flow *entry, flow;
	struct packet p;

	if (packet_read(skb, PACKET_FROM_CLIENT, &p) == PACKET_SESSION) {
		entry = bpf_map_lookup_elem(&NODE_FLOWS, &p.flow);
		if (entry && entry->relay_ifindex) {
			flow = *entry;
			return relay(skb, &flow, NODE_COUNT_park_relayed);
		}
	}
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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
