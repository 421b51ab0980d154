/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * common/bpf_packet.h - what the BPF programs read from and write to a packet
 *
 * Reads through bpf_skb_load_bytes() and writes through bpf_skb_store_bytes(), never by direct access: packets need not
 * be linear (a large frame written to a TAP has nothing linear at all), and a program without direct writes does not
 * make the kernel copy the headers of every packet that only passes by.
 *
 * BPF programs only. Knows Ethernet, IPv4 with options, IPv6 without extension headers, TCP and UDP.
 */
#ifndef VNAS_COMMON_BPF_PACKET_H
#define VNAS_COMMON_BPF_PACKET_H

#include "common/flow.h"

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum packet_kind {
	PACKET_SESSION,	 /* TCP or UDP: struct packet is filled */
	PACKET_OTHER,	 /* ARP, ICMP, VLAN, IPv6 extension headers, ...: the stack's */
	PACKET_FRAGMENT, /* has no ports, or not the whole packet */
	PACKET_SHORT,	 /* shorter than its headers say */
};

/* Which end of the flow a packet comes from: who is source, the client or the VIP. */
enum packet_direction { PACKET_FROM_CLIENT, PACKET_TO_CLIENT };

enum { PACKET_UDP_HEADER = 8, PACKET_TCP_CHECK = 16 /* where its checksum is */ };
enum { TCP_FLAG_FIN = 0x01, TCP_FLAG_SYN = 0x02, TCP_FLAG_RST = 0x04, TCP_FLAG_ACK = 0x10 };

struct packet {
	struct flow_key flow;
	__u8 tcp_flags; /* 0 for UDP, as the three below */
	__u8 tcp_reserved; /* bits of TCP's header that are nobody's (RFC 9293, 3.1), in place */
	__u32 sequence, sequence_len; /* the bytes it carries, and FIN, in TCP's numbers (RFC 9293, 3.4) */
	__u32 len, headers_len;	      /* of the IP packet; of its headers, IP's and those of TCP or UDP */
	__u32 transport;	      /* where TCP or UDP begins in the frame */
};

struct packet_macs {
	__u8 to[ETH_ALEN];
	__u8 from[ETH_ALEN];
};

/* The first 14 bytes of TCP; UDP's ports lie in the same place. */
struct packet_ports {
	__be16 source, dest;
	__be32 sequence, acknowledgment;
	__u8 offset, flags;
} __attribute__((packed));

/* Where TCP or UDP begin, and how long they are: the frame may be padded, or larger than IP can say. */
struct packet_place {
	__u32 offset;
	__s32 len;
};

static __always_inline void packet_map_ipv4(__u8 address[16], __be32 ipv4)
{
	__builtin_memset(address, 0, 10);
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, &ipv4, 4);
}

static __always_inline enum packet_kind packet_read_ipv4(struct __sk_buff *skb, enum packet_direction direction,
							 struct flow_key *flow, struct packet_place *place)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.ihl < 5)
		return PACKET_SHORT;
	if (ip.protocol != IPPROTO_TCP && ip.protocol != IPPROTO_UDP)
		return PACKET_OTHER;
	if (ip.frag_off & bpf_htons(0x3fff))
		return PACKET_FRAGMENT;
	packet_map_ipv4(flow->client, direction == PACKET_FROM_CLIENT ? ip.saddr : ip.daddr);
	packet_map_ipv4(flow->vip, direction == PACKET_FROM_CLIENT ? ip.daddr : ip.saddr);
	flow->protocol = ip.protocol;
	place->offset = ETH_HLEN + ip.ihl * 4;
	place->len = bpf_ntohs(ip.tot_len) - ip.ihl * 4;
	return PACKET_SESSION;
}

static __always_inline enum packet_kind packet_read_ipv6(struct __sk_buff *skb, enum packet_direction direction,
							 struct flow_key *flow, struct packet_place *place)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return PACKET_SHORT;
	if (ip.nexthdr == IPPROTO_FRAGMENT)
		return PACKET_FRAGMENT;
	if (ip.nexthdr != IPPROTO_TCP && ip.nexthdr != IPPROTO_UDP)
		return PACKET_OTHER;
	__builtin_memcpy(flow->client, direction == PACKET_FROM_CLIENT ? &ip.saddr : &ip.daddr, 16);
	__builtin_memcpy(flow->vip, direction == PACKET_FROM_CLIENT ? &ip.daddr : &ip.saddr, 16);
	flow->protocol = ip.nexthdr;
	place->offset = ETH_HLEN + sizeof(ip);
	place->len = bpf_ntohs(ip.payload_len);
	return PACKET_SESSION;
}

static __always_inline void packet_read_sequence(struct __sk_buff *skb, const struct packet_place *place,
						 const struct packet_ports *ports, struct packet *p)
{
	__s32 len = place->len > 0 ? place->len : (__s32)(skb->len - place->offset);

	len -= (ports->offset >> 4) * 4;
	p->sequence = bpf_ntohl(ports->sequence);
	p->sequence_len = (len > 0 ? len : 0) + !!(ports->flags & TCP_FLAG_FIN);
}

/* Never more than is there. */
static __always_inline void packet_read_lengths(struct __sk_buff *skb, const struct packet_place *place,
						const struct packet_ports *ports, struct packet *p)
{
	__u32 start = place->offset - ETH_HLEN, most = skb->len - ETH_HLEN;

	p->headers_len = start + (p->flow.protocol == IPPROTO_TCP ? (ports->offset >> 4) * 4 : PACKET_UDP_HEADER);
	p->len = place->len > 0 && start + place->len < most ? start + place->len : most;
}

static __always_inline enum packet_kind packet_read_ports(struct __sk_buff *skb, enum packet_direction direction,
							  const struct packet_place *place, struct packet *p)
{
	struct packet_ports ports = {};
	long failed;

	if (p->flow.protocol == IPPROTO_TCP)
		failed = bpf_skb_load_bytes(skb, place->offset, &ports, sizeof(ports));
	else
		failed = bpf_skb_load_bytes(skb, place->offset, &ports, offsetof(struct packet_ports, sequence));
	if (failed)
		return PACKET_SHORT;
	p->flow.client_port = direction == PACKET_FROM_CLIENT ? ports.source : ports.dest;
	p->flow.vip_port = direction == PACKET_FROM_CLIENT ? ports.dest : ports.source;
	p->tcp_flags = ports.flags;
	p->tcp_reserved = ports.offset & 0x0e;
	packet_read_lengths(skb, place, &ports, p);
	p->transport = place->offset;
	if (p->flow.protocol == IPPROTO_TCP)
		packet_read_sequence(skb, place, &ports, p);
	return PACKET_SESSION;
}

/* What flow a packet is of, if it goes in the given direction. @p is complete for PACKET_SESSION only. */
static __always_inline enum packet_kind packet_read(struct __sk_buff *skb, enum packet_direction direction,
						    struct packet *p)
{
	enum packet_kind kind = PACKET_OTHER;
	struct packet_place place = {};

	__builtin_memset(p, 0, sizeof(*p));
	if (skb->vlan_present)
		return PACKET_OTHER;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		kind = packet_read_ipv4(skb, direction, &p->flow, &place);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		kind = packet_read_ipv6(skb, direction, &p->flow, &place);
	if (kind != PACKET_SESSION)
		return kind;
	return packet_read_ports(skb, direction, &place, p);
}

/* A SYN without ACK: the client opens a new connection, whatever the maps say about the old one. */
static __always_inline int packet_opens(const struct packet *p)
{
	return (p->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN;
}

/* Clears bits of TCP's header that a packet must not have, and keeps its checksum right. Non-zero: it is as it was. */
static __always_inline long packet_clear_reserved(struct __sk_buff *skb, const struct packet *p, __u8 bits)
{
	const __u32 at = p->transport + offsetof(struct packet_ports, offset);
	__u8 old[2], new[2];
	__be16 old_word, new_word;

	if (bpf_skb_load_bytes(skb, at, old, sizeof(old)))
		return -1;
	new[0] = old[0] & ~bits;
	new[1] = old[1];
	__builtin_memcpy(&old_word, old, sizeof(old_word));
	__builtin_memcpy(&new_word, new, sizeof(new_word));
	if (bpf_l4_csum_replace(skb, p->transport + PACKET_TCP_CHECK, old_word, new_word, sizeof(old_word)))
		return -1;
	return bpf_skb_store_bytes(skb, at, new, sizeof(new), 0);
}

static __always_inline long packet_get_macs(struct __sk_buff *skb, struct packet_macs *macs)
{
	return bpf_skb_load_bytes(skb, 0, macs, sizeof(*macs));
}

static __always_inline long packet_set_macs(struct __sk_buff *skb, const struct packet_macs *macs)
{
	return bpf_skb_store_bytes(skb, 0, macs, sizeof(*macs), 0);
}

static __always_inline int packet_same_mac(const __u8 a[ETH_ALEN], const __u8 b[ETH_ALEN])
{
	__u16 x[3], y[3];

	__builtin_memcpy(x, a, sizeof(x));
	__builtin_memcpy(y, b, sizeof(y));
	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline long packet_age_ipv4(struct __sk_buff *skb)
{
	const __u32 at = ETH_HLEN + offsetof(struct iphdr, ttl);
	struct {
		__u8 ttl, protocol;
	} old, new;
	__be16 old_word, new_word;

	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)) || old.ttl <= 1)
		return -1;
	new = old;
	new.ttl--;
	__builtin_memcpy(&old_word, &old, sizeof(old_word));
	__builtin_memcpy(&new_word, &new, sizeof(new_word));
	if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), old_word, new_word, sizeof(old_word)))
		return -1;
	return bpf_skb_store_bytes(skb, at, &new.ttl, sizeof(new.ttl), 0);
}

static __always_inline long packet_age_ipv6(struct __sk_buff *skb)
{
	const __u32 at = ETH_HLEN + offsetof(struct ipv6hdr, hop_limit);
	__u8 hops;

	if (bpf_skb_load_bytes(skb, at, &hops, sizeof(hops)) || hops <= 1)
		return -1;
	hops--;
	return bpf_skb_store_bytes(skb, at, &hops, sizeof(hops), BPF_F_RECOMPUTE_CSUM);
}

/* One hop less to live, so that devices that relay to each other by mistake stop. Non-zero: it must not go on. */
static __always_inline long packet_age(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) ? packet_age_ipv4(skb) : packet_age_ipv6(skb);
}

/* The upper six bits of a byte whose lower two are ECN's (RFC 2474, 3). */
static __always_inline long packet_set_dscp_ipv4(struct __sk_buff *skb, __u8 dscp)
{
	const __u32 at = ETH_HLEN, tos_at = ETH_HLEN + offsetof(struct iphdr, tos);
	__u8 old[2], new[2];
	__be16 old_word, new_word;

	if (bpf_skb_load_bytes(skb, at, old, sizeof(old)))
		return -1;
	new[0] = old[0];
	new[1] = dscp << 2 | (old[1] & 3);
	if (new[1] == old[1])
		return 0;
	__builtin_memcpy(&old_word, old, sizeof(old_word));
	__builtin_memcpy(&new_word, new, sizeof(new_word));
	if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), old_word, new_word, sizeof(old_word)))
		return -1;
	return bpf_skb_store_bytes(skb, tos_at, &new[1], sizeof(new[1]), 0);
}

/* Behind four bits of version, and before 20 of the flow label. */
static __always_inline long packet_set_dscp_ipv6(struct __sk_buff *skb, __u8 dscp)
{
	__be16 word;
	__u16 old, new;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &word, sizeof(word)))
		return -1;
	old = bpf_ntohs(word);
	new = (old & ~0x0fc0) | dscp << 6;
	if (new == old)
		return 0;
	word = bpf_htons(new);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &word, sizeof(word), BPF_F_RECOMPUTE_CSUM);
}

/* Non-zero: it is as it was. */
static __always_inline long packet_set_dscp(struct __sk_buff *skb, __u8 dscp)
{
	return skb->protocol == bpf_htons(ETH_P_IP) ? packet_set_dscp_ipv4(skb, dscp) : packet_set_dscp_ipv6(skb, dscp);
}

#endif
