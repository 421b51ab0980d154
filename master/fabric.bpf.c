/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * master/fabric.bpf.c - the switch's fast path: who owns a flow, and the way there and back
 *
 *	client --> VIP		entry?	no, or the switch owns it	--> next program, our stack
 *					a device owns it		--> its MAC, out of its port
 *	device --> client	entry?	the client was seen		--> its MAC, out of its port
 *	(source: a VIP)			no				--> our neighbour table, first client port
 *
 * Only MAC addresses change. In the one-arm topology clients and devices share a port and devices answer directly; a
 * packet to a VIP that carries a device's MAC was relayed to the switch as the new owner, and goes to its stack.
 *
 * The first packets of a new owner may come before its entry changes (design.md, TCH, between steps 3 and 5), so a
 * device need not own the flow it speaks for. It must be a member: what a removed device still sends is dropped.
 */
#include "common/bpf_packet.h"
#include "master/fabric_map.h"

#include <linux/errno.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow_key);
	__type(value, struct fabric_entry);
	__uint(max_entries, 1); /* user space sets it */
} FABRIC_FLOWS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct fabric_host);
	__uint(max_entries, FABRIC_MAP_DEVICES);
} FABRIC_HOSTS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct fabric_mac);
	__type(value, __u32);
	__uint(max_entries, FABRIC_MAP_DEVICES);
} FABRIC_MACS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, FABRIC_NCOUNTERS);
} FABRIC_COUNTS SEC(".maps");

const volatile struct fabric_constants constants;

/* Who is behind a port. */
enum { CLIENTS = 1, DEVICES = 2 };

static __always_inline int count(__u32 counter, int verdict)
{
	__u64 *packets = bpf_map_lookup_elem(&FABRIC_COUNTS, &counter);

	if (packets)
		++*packets;
	return verdict;
}

static __always_inline int is_vip(const __u8 address[16])
{
	__u64 words[2];

	__builtin_memcpy(words, address, sizeof(words));
	for (__u32 i = 0; i < FABRIC_MAP_VIPS; i++) {
		if (i >= constants.vip_count)
			return 0;
		if (words[0] == constants.vips[i][0] && words[1] == constants.vips[i][1])
			return 1;
	}
	return 0;
}

static __always_inline int is_member(const __u8 mac[ETH_ALEN])
{
	struct fabric_mac key = {};

	__builtin_memcpy(key.mac, mac, ETH_ALEN);
	return bpf_map_lookup_elem(&FABRIC_MACS, &key) != NULL;
}

static __always_inline int same_mac(const __u8 a[ETH_ALEN], const __u8 b[ETH_ALEN])
{
	__u16 x[3], y[3];

	__builtin_memcpy(x, a, sizeof(x));
	__builtin_memcpy(y, b, sizeof(y));
	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/* The time of the last packet counts, so that a half closed connection is not forgotten while it is in use. */
static __always_inline void follow_close(struct fabric_entry *entry, __u8 tcp_flags)
{
	if (tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST))
		entry->state = FABRIC_ENTRY_CLOSING;
	if (entry->state == FABRIC_ENTRY_CLOSING)
		entry->closing_ns = bpf_ktime_get_ns();
}

static __always_inline void learn_client(struct fabric_entry *entry, struct __sk_buff *skb,
					 const struct packet_macs *macs)
{
	if (entry->client_ifindex == skb->ifindex && same_mac(entry->client_mac, macs->from) &&
	    same_mac(entry->port_mac, macs->to))
		return;
	__builtin_memcpy(entry->client_mac, macs->from, ETH_ALEN);
	__builtin_memcpy(entry->port_mac, macs->to, ETH_ALEN);
	entry->client_ifindex = skb->ifindex;
}

static __always_inline int send_to(struct __sk_buff *skb, const __u8 to[ETH_ALEN], const __u8 from[ETH_ALEN],
				   __u32 ifindex, __u32 counter)
{
	struct packet_macs macs;

	__builtin_memcpy(macs.to, to, ETH_ALEN);
	__builtin_memcpy(macs.from, from, ETH_ALEN);
	if (packet_set_macs(skb, &macs))
		return count(FABRIC_COUNT_rewrite_failed, TC_ACT_SHOT);
	return count(counter, bpf_redirect(ifindex, 0));
}

static __always_inline int on_client_packet(struct __sk_buff *skb, const struct packet *p, struct fabric_entry *entry,
					    int behind)
{
	struct fabric_host *host;
	struct packet_macs macs;
	__u32 device;

	if (packet_get_macs(skb, &macs))
		return count(FABRIC_COUNT_short_packet, TC_ACT_UNSPEC);
	if ((behind & DEVICES) && is_member(macs.from))
		return count(FABRIC_COUNT_relayed, TC_ACT_UNSPEC);
	__sync_fetch_and_add(&entry->packets, 1);
	learn_client(entry, skb, &macs);
	if (packet_opens(p)) {
		entry->device = FABRIC_MAP_SWITCH;
		entry->state = FABRIC_ENTRY_FORWARD;
		__sync_fetch_and_add(&entry->generation, 1);
		return count(FABRIC_COUNT_client_reopened, TC_ACT_UNSPEC);
	}
	follow_close(entry, p->tcp_flags);
	device = entry->device;
	if (device == FABRIC_MAP_SWITCH)
		return count(FABRIC_COUNT_client_switch, TC_ACT_UNSPEC);
	host = bpf_map_lookup_elem(&FABRIC_HOSTS, &device);
	if (!host || !host->ifindex)
		return count(FABRIC_COUNT_client_no_device, TC_ACT_UNSPEC);
	return send_to(skb, host->mac, host->port_mac, host->ifindex, FABRIC_COUNT_client_forwarded);
}

/* @entry may be NULL: then the switch knows the client from its neighbour table only. */
static __always_inline int on_device_packet(struct __sk_buff *skb, const struct packet *p, struct fabric_entry *entry)
{
	__u32 counter = FABRIC_COUNT_device_returned, device;
	struct fabric_host *host = NULL;
	struct packet_macs macs;

	if (packet_get_macs(skb, &macs))
		return count(FABRIC_COUNT_short_packet, TC_ACT_UNSPEC);
	if (entry) {
		device = entry->device;
		host = bpf_map_lookup_elem(&FABRIC_HOSTS, &device);
	}
	if (!host || !same_mac(host->mac, macs.from)) {
		if (!is_member(macs.from))
			return count(FABRIC_COUNT_device_fenced, TC_ACT_SHOT);
		counter = FABRIC_COUNT_device_not_owner;
	}
	if (entry) {
		__sync_fetch_and_add(&entry->packets, 1);
		follow_close(entry, p->tcp_flags);
		if (entry->client_ifindex)
			return send_to(skb, entry->client_mac, entry->port_mac, entry->client_ifindex, counter);
	}
	return count(FABRIC_COUNT_device_by_route, bpf_redirect_neigh(constants.client_ifindex, NULL, 0, 0));
}

/* The same packet, seen as one from the VIP. */
static __always_inline void turn_round(struct packet *p)
{
	struct flow_key old = p->flow;

	__builtin_memcpy(p->flow.client, old.vip, sizeof(old.vip));
	__builtin_memcpy(p->flow.vip, old.client, sizeof(old.client));
	p->flow.client_port = old.vip_port;
	p->flow.vip_port = old.client_port;
}

static __always_inline int on_packet_without_entry(struct __sk_buff *skb, const struct packet *p, int behind)
{
	if (is_vip(p->flow.client))
		return behind & CLIENTS ? count(FABRIC_COUNT_client_unknown, TC_ACT_UNSPEC) :
					  count(FABRIC_COUNT_relayed, TC_ACT_UNSPEC);
	if (!is_vip(p->flow.vip))
		return count(FABRIC_COUNT_not_vip, TC_ACT_UNSPEC);
	return behind & DEVICES ? on_device_packet(skb, p, NULL) : count(FABRIC_COUNT_client_spoofed, TC_ACT_SHOT);
}

static __always_inline int on_session_packet(struct __sk_buff *skb, struct packet *p, int behind)
{
	struct fabric_entry *entry;

	if (behind & CLIENTS) {
		entry = bpf_map_lookup_elem(&FABRIC_FLOWS, &p->flow);
		if (entry)
			return on_client_packet(skb, p, entry, behind);
	}
	turn_round(p);
	if (behind & DEVICES) {
		entry = bpf_map_lookup_elem(&FABRIC_FLOWS, &p->flow);
		if (entry)
			return on_device_packet(skb, p, entry);
	}
	return on_packet_without_entry(skb, p, behind);
}

static __always_inline int on_packet(struct __sk_buff *skb, int behind)
{
	struct packet p __attribute__((aligned(8)));

	if (skb->pkt_type != PACKET_HOST)
		return count(FABRIC_COUNT_elsewhere, TC_ACT_UNSPEC);
	switch (packet_read(skb, PACKET_FROM_CLIENT, &p)) {
	case PACKET_SESSION:
		return on_session_packet(skb, &p, behind);
	case PACKET_FRAGMENT:
		return count(FABRIC_COUNT_fragment, TC_ACT_UNSPEC);
	case PACKET_SHORT:
		return count(FABRIC_COUNT_short_packet, TC_ACT_UNSPEC);
	default:
		return count(FABRIC_COUNT_other, TC_ACT_UNSPEC);
	}
}

SEC("tc")
int fabric_client(struct __sk_buff *skb)
{
	return on_packet(skb, CLIENTS);
}

SEC("tc")
int fabric_device(struct __sk_buff *skb)
{
	return on_packet(skb, DEVICES);
}

SEC("tc")
int fabric_shared(struct __sk_buff *skb)
{
	return on_packet(skb, CLIENTS | DEVICES);
}

static __always_inline void make_entry(const struct flow_key *flow, struct fabric_order *order)
{
	struct fabric_entry entry = { .device = order->device, .generation = 1, .state = FABRIC_ENTRY_FORWARD };

	order->generation = entry.generation;
	order->error = (__s32)bpf_map_update_elem(&FABRIC_FLOWS, flow, &entry, BPF_NOEXIST);
}

/* A change of owner: in place, in the entry that the programs above use. */
SEC("syscall")
int fabric_command(struct fabric_order *order)
{
	struct flow_key flow = order->flow;
	struct fabric_entry *entry = bpf_map_lookup_elem(&FABRIC_FLOWS, &flow);

	order->error = 0;
	if (!entry) {
		if (order->old_device)
			order->error = -ENOENT;
		else
			make_entry(&flow, order);
		return 0;
	}
	if (order->old_device && entry->device != order->old_device && entry->device != order->device) {
		order->error = -ESTALE;
		return 0;
	}
	entry->device = order->device;
	order->generation = __sync_fetch_and_add(&entry->generation, 1) + 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
