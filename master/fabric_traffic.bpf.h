/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * master/fabric_traffic.bpf.h - how much each client and each device sends and gets
 *
 * Sums per CPU, which master/fabric_traffic.c adds up. Part of master/fabric.bpf.c.
 */
#ifndef VNAS_MASTER_FABRIC_TRAFFIC_BPF_H
#define VNAS_MASTER_FABRIC_TRAFFIC_BPF_H

#include "common/bpf_packet.h"
#include "master/fabric_map.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct fabric_traffic);
	__uint(max_entries, FABRIC_MAP_DEVICES);
} FABRIC_DEVICE_TRAFFIC SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__type(key, struct fabric_client);
	__type(value, struct fabric_traffic);
	__uint(max_entries, FABRIC_MAP_CLIENTS);
} FABRIC_CLIENT_TRAFFIC SEC(".maps");

struct traffic_amount {
	__u64 packets, bytes;
};

/* A packet that is longer than the wire allows has one copy of its headers for all its pieces. */
static __always_inline struct traffic_amount traffic_of(struct __sk_buff *skb, const struct packet *p)
{
	struct traffic_amount amount = { 1, p->len };
	__u32 piece = skb->gso_size;

	if (piece && p->len > p->headers_len) {
		amount.packets = (p->len - p->headers_len + piece - 1) / piece;
		amount.bytes += (amount.packets - 1) * p->headers_len;
	}
	return amount;
}

static __always_inline struct fabric_traffic *traffic_of_client(const struct packet *p)
{
	struct fabric_traffic *traffic, none = {};
	struct fabric_client client;

	__builtin_memcpy(client.address, p->flow.client, sizeof(client.address));
	traffic = bpf_map_lookup_elem(&FABRIC_CLIENT_TRAFFIC, &client);
	if (traffic)
		return traffic;
	bpf_map_update_elem(&FABRIC_CLIENT_TRAFFIC, &client, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&FABRIC_CLIENT_TRAFFIC, &client);
}

/* A client's packet goes to a device. */
static __always_inline void traffic_received(struct __sk_buff *skb, const struct packet *p, __u32 device)
{
	struct traffic_amount amount = traffic_of(skb, p);
	struct fabric_traffic *traffic = bpf_map_lookup_elem(&FABRIC_DEVICE_TRAFFIC, &device);

	if (traffic) {
		traffic->received_packets += amount.packets;
		traffic->received_bytes += amount.bytes;
	}
	traffic = traffic_of_client(p);
	if (traffic) {
		traffic->received_packets += amount.packets;
		traffic->received_bytes += amount.bytes;
	}
}

/* A device's packet goes to a client. */
static __always_inline void traffic_sent(struct __sk_buff *skb, const struct packet *p, __u32 device)
{
	struct traffic_amount amount = traffic_of(skb, p);
	struct fabric_traffic *traffic = bpf_map_lookup_elem(&FABRIC_DEVICE_TRAFFIC, &device);

	if (traffic) {
		traffic->sent_packets += amount.packets;
		traffic->sent_bytes += amount.bytes;
	}
	traffic = traffic_of_client(p);
	if (traffic) {
		traffic->sent_packets += amount.packets;
		traffic->sent_bytes += amount.bytes;
	}
}

#endif
