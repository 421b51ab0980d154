/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * master/fabric_fragment.bpf.h - fragments of UDP datagrams
 *
 * Only the first fragment has the ports and the call. The others go where it went, which is remembered for a while, under what IP
 * puts them together by. If one comes before the first, nobody knows yet: then all that come later go to the switch as it
 * did, whose stack puts the datagram together and relays the call. So none is lost.
 *
 * Part of master/fabric.bpf.c.
 */
#ifndef VNAS_MASTER_FABRIC_FRAGMENT_BPF_H
#define VNAS_MASTER_FABRIC_FRAGMENT_BPF_H

#include "common/bpf_packet.h"
#include "master/fabric_map.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fabric_fragment_key);
	__type(value, struct fabric_fragment);
	__uint(max_entries, FABRIC_MAP_FRAGMENTS);
} FABRIC_FRAGMENTS SEC(".maps");

/* IP identifications come round: at 30,000 datagrams a second, in two of them. */
#define FRAGMENT_NS 1000000000ull

struct fragment {
	struct fabric_fragment_key key;
	__u32 at;  /* where its part of the datagram begins */
	__u32 len; /* of the IP packet */
	int is_first;
};

/* RFC 8200, 4.5 */
struct fragment_header {
	__u8 next, reserved;
	__be16 offset;
	__be32 id;
};

static __always_inline long fragment_read_ipv4(struct __sk_buff *skb, struct fragment *f)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.ihl < 5)
		return -1;
	packet_map_ipv4(f->key.source, ip.saddr);
	packet_map_ipv4(f->key.target, ip.daddr);
	f->key.id = ip.id;
	f->key.protocol = ip.protocol;
	f->at = ETH_HLEN + ip.ihl * 4;
	f->len = bpf_ntohs(ip.tot_len);
	f->is_first = !(ip.frag_off & bpf_htons(0x1fff));
	return 0;
}

/* The fragment header comes first: others before it are not looked for (packet_read()). */
static __always_inline long fragment_read_ipv6(struct __sk_buff *skb, struct fragment *f)
{
	struct fragment_header header;
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(ip), &header, sizeof(header)))
		return -1;
	__builtin_memcpy(f->key.source, &ip.saddr, sizeof(f->key.source));
	__builtin_memcpy(f->key.target, &ip.daddr, sizeof(f->key.target));
	f->key.id = header.id;
	f->key.protocol = header.next;
	f->at = ETH_HLEN + sizeof(ip) + sizeof(header);
	f->len = sizeof(ip) + bpf_ntohs(ip.payload_len);
	f->is_first = !(header.offset & bpf_htons(0xfff8));
	return 0;
}

/* Return: 0; or that it is shorter than its headers */
static __always_inline long fragment_read(struct __sk_buff *skb, struct fragment *f)
{
	__builtin_memset(f, 0, sizeof(*f));
	return skb->protocol == bpf_htons(ETH_P_IP) ? fragment_read_ipv4(skb, f) : fragment_read_ipv6(skb, f);
}

static __always_inline void fragment_remember(const struct fragment *f, __u32 device)
{
	struct fabric_fragment where = { .device = device, .ns = bpf_ktime_get_ns() };

	bpf_map_update_elem(&FABRIC_FRAGMENTS, &f->key, &where, BPF_ANY);
}

/* Where another fragment of the datagram went. Return: 0: none has come lately */
static __always_inline __u32 fragment_device(const struct fragment *f)
{
	struct fabric_fragment *where = bpf_map_lookup_elem(&FABRIC_FRAGMENTS, &f->key);

	return where && bpf_ktime_get_ns() - where->ns < FRAGMENT_NS ? where->device : 0;
}

#endif
