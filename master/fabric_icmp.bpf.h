/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * master/fabric_icmp.bpf.h - ICMP errors about what a device has sent to a client
 *
 * A router on the way to the client sends them to the VIP: that a packet is too big, above all, without which a device would send it
 * again and again. They carry the beginning of that packet, which has the flow. What the stack of its device believes of them is that
 * stack's business (RFC 5927).
 *
 * Part of master/fabric.bpf.c.
 */
#ifndef VNAS_MASTER_FABRIC_ICMP_BPF_H
#define VNAS_MASTER_FABRIC_ICMP_BPF_H

#include "common/bpf_packet.h"

/* Types of errors about a packet: RFC 792 (a redirect is about a route); RFC 4443, 2.1. <linux/icmp.h> can't be had here. */
enum { ICMP_UNREACHABLE = 3, ICMP_TIME_EXCEEDED = 11, ICMP_PARAMETER_PROBLEM = 12, ICMP6_ERRORS_END = 128 };

enum { ICMP_HEADER = 8 };

static __always_inline int icmp_is_error(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

/* @at: where the packet's ports are */
static __always_inline long icmp_read_ports(struct __sk_buff *skb, __u32 at, struct flow_key *flow)
{
	__be16 ports[2];

	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return -1;
	flow->vip_port = ports[0];
	flow->client_port = ports[1];
	flow->protocol = IPPROTO_TCP;
	return 0;
}

static __always_inline long icmp_read_ipv4(struct __sk_buff *skb, struct flow_key *flow)
{
	struct iphdr ip, sent;
	__u8 type;
	__u32 at;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.ihl < 5 || ip.protocol != IPPROTO_ICMP ||
	    ip.frag_off & bpf_htons(0x3fff))
		return -1;
	at = ETH_HLEN + ip.ihl * 4;
	if (bpf_skb_load_bytes(skb, at, &type, sizeof(type)) || !icmp_is_error(type) ||
	    bpf_skb_load_bytes(skb, at + ICMP_HEADER, &sent, sizeof(sent)))
		return -1;
	if (sent.ihl < 5 || sent.protocol != IPPROTO_TCP || sent.frag_off & bpf_htons(0x1fff) || sent.saddr != ip.daddr)
		return -1;
	packet_map_ipv4(flow->vip, sent.saddr);
	packet_map_ipv4(flow->client, sent.daddr);
	return icmp_read_ports(skb, at + ICMP_HEADER + sent.ihl * 4, flow);
}

static __always_inline long icmp_read_ipv6(struct __sk_buff *skb, struct flow_key *flow)
{
	const __u32 at = ETH_HLEN + sizeof(struct ipv6hdr);
	struct ipv6hdr ip, sent;
	__u64 to[2], from[2];
	__u8 type;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_ICMPV6 ||
	    bpf_skb_load_bytes(skb, at, &type, sizeof(type)) || type >= ICMP6_ERRORS_END ||
	    bpf_skb_load_bytes(skb, at + ICMP_HEADER, &sent, sizeof(sent)))
		return -1;
	__builtin_memcpy(to, &ip.daddr, sizeof(to));
	__builtin_memcpy(from, &sent.saddr, sizeof(from));
	if (sent.nexthdr != IPPROTO_TCP || to[0] != from[0] || to[1] != from[1])
		return -1;
	__builtin_memcpy(flow->vip, to, sizeof(flow->vip));
	__builtin_memcpy(flow->client, &sent.daddr, sizeof(flow->client));
	return icmp_read_ports(skb, at + ICMP_HEADER + sizeof(sent), flow);
}

/* The flow of the packet that an ICMP error is about. Return: 0; or that it is none, or not about TCP */
static __always_inline long icmp_read_error(struct __sk_buff *skb, struct flow_key *flow)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	if (skb->vlan_present)
		return -1;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return icmp_read_ipv4(skb, flow);
	return skb->protocol == bpf_htons(ETH_P_IPV6) ? icmp_read_ipv6(skb, flow) : -1;
}

#endif
