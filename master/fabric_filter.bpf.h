/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * master/fabric_filter.bpf.h - which networks may reach which service
 *
 * Looks at each packet that comes from clients, whether or not there is an entry for its flow. The longest prefix that a
 * client is in decides, alone; who is in none is let through. Part of master/fabric.bpf.c.
 *
 * A packet whose port is hidden from us must not be a way around: of fragments the first is judged, without which the others
 * come to nothing; behind an IPv6 extension header we do not look, so from a network that may not reach everything such a packet
 * is refused.
 */
#ifndef VNAS_MASTER_FABRIC_FILTER_BPF_H
#define VNAS_MASTER_FABRIC_FILTER_BPF_H

#include "common/bpf_packet.h"
#include "master/fabric_map.h"

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct fabric_network);
	__type(value, struct fabric_filter);
	__uint(max_entries, FABRIC_MAP_FILTERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} FABRIC_FILTERS SEC(".maps");

enum { FILTER_IPV4_OFFSET = 0x1fff, FILTER_IPV6_OFFSET = 0xfff8 };

/* Of IPv6; linux/ipv6.h has no names for them. */
struct filter_fragment {
	__u8 next_header, zero;
	__be16 offset;
	__be32 id;
};

/* Return: the service at a port, or 0: nobody's business */
static __always_inline __u32 filter_service(const volatile struct fabric_constants *constants, __be16 port)
{
	if (port == constants->nfs_port)
		return FABRIC_SERVICE_NFS;
	if (port == constants->portmap_port)
		return FABRIC_SERVICE_PORTMAPPER;
	return port == constants->eap_port ? FABRIC_SERVICE_SCP : 0;
}

static __always_inline __u32 filter_ports(struct __sk_buff *skb, const volatile struct fabric_constants *constants, __u8 protocol,
					  __u32 offset)
{
	__be16 ports[2];

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	return bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)) ? 0 : filter_service(constants, ports[1]);
}

static __always_inline __u32 filter_hidden_ipv4(struct __sk_buff *skb, const volatile struct fabric_constants *constants,
						struct flow_key *flow)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.ihl < 5 ||
	    ip.frag_off & bpf_htons(FILTER_IPV4_OFFSET))
		return 0;
	packet_map_ipv4(flow->client, ip.saddr);
	packet_map_ipv4(flow->vip, ip.daddr);
	return filter_ports(skb, constants, ip.protocol, ETH_HLEN + ip.ihl * 4);
}

static __always_inline int filter_is_extension(__u8 next_header)
{
	return next_header == IPPROTO_HOPOPTS || next_header == IPPROTO_ROUTING || next_header == IPPROTO_DSTOPTS ||
	       next_header == IPPROTO_AH || next_header == IPPROTO_FRAGMENT;
}

static __always_inline __u32 filter_hidden_ipv6(struct __sk_buff *skb, const volatile struct fabric_constants *constants,
						struct flow_key *flow)
{
	struct filter_fragment fragment = {};
	struct ipv6hdr ip;
	__u8 next;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return 0;
	__builtin_memcpy(flow->client, &ip.saddr, sizeof(flow->client));
	__builtin_memcpy(flow->vip, &ip.daddr, sizeof(flow->vip));
	next = ip.nexthdr;
	if (next != IPPROTO_FRAGMENT)
		return filter_is_extension(next) ? FABRIC_SERVICE_ALL : 0;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(ip), &fragment, sizeof(fragment)) ||
	    fragment.offset & bpf_htons(FILTER_IPV6_OFFSET))
		return 0;
	if (filter_is_extension(fragment.next_header))
		return FABRIC_SERVICE_ALL;
	return filter_ports(skb, constants, fragment.next_header, ETH_HLEN + sizeof(ip) + sizeof(fragment));
}

/*
 * What a packet is for: services, all of which it must be allowed to reach, or 0. @p: its flow's addresses are filled in if
 * they were not.
 */
static __always_inline __u32 filter_services(struct __sk_buff *skb, const volatile struct fabric_constants *constants,
					     enum packet_kind kind, struct packet *p)
{
	if (kind == PACKET_SESSION)
		return filter_service(constants, p->flow.vip_port);
	if (kind == PACKET_SHORT)
		return 0; /* the stack takes none */
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return filter_hidden_ipv4(skb, constants, &p->flow);
	return skb->protocol == bpf_htons(ETH_P_IPV6) ? filter_hidden_ipv6(skb, constants, &p->flow) : 0;
}

/* Return: the filter that refuses this client these services; NULL: none does */
static __always_inline struct fabric_filter *filter_against(const struct flow_key *flow, __u32 services)
{
	struct fabric_network key = { .bits = FABRIC_MAP_ADDRESS_BITS };
	struct fabric_filter *filter;

	__builtin_memcpy(key.address, flow->client, sizeof(key.address));
	filter = bpf_map_lookup_elem(&FABRIC_FILTERS, &key);
	return filter && services & ~filter->services ? filter : NULL;
}

#endif
