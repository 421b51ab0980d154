/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * master/fabric_track.bpf.h - how far the two ends of a connection have come, as their segments tell in passing
 *
 * Inline; one-arm the switch does not see what devices send. Two processors may see segments of one flow at once: each number only
 * ever grows, and of two at once the smaller one may stay, until the next segment. Part of master/fabric.bpf.c.
 *
 * Source: ../shared/handoff.md, 8
 */
#ifndef VNAS_MASTER_FABRIC_TRACK_BPF_H
#define VNAS_MASTER_FABRIC_TRACK_BPF_H

#include "common/bpf_packet.h"
#include "master/fabric_map.h"

#include <bpf/bpf_helpers.h>

/* SYNs of clients, and the switch's answers, until the switch's daemon accepts the connection and makes its entry. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct fabric_ends);
	__uint(max_entries, FABRIC_MAP_OPENINGS);
} FABRIC_SYNS SEC(".maps");

enum {
	TRACK_ACK_AT = 8, /* in a TCP header */
	TRACK_OPTIONS_AT = 20,
	TRACK_PLAIN = 12, /* bytes of struct track_header without options */
	TRACK_WITH_TIME = 32, /* a header with timestamps and nothing else, as every stack sends them (RFC 7323, appendix A) */
	TRACK_OPTIONS_MAX = 16, /* NOPs among them; stacks send seven or less */
};

enum { TCP_OPTION_END, TCP_OPTION_NOP, TCP_OPTION_MSS, TCP_OPTION_SCALE, TCP_OPTION_SACK, TCP_OPTION_TIMESTAMPS = 8 };

struct track_header {
	__be32 acknowledgment;
	__u8 offset, flags;
	__be16 window, check, urgent;
	__be32 kinds; /* NOP, NOP, timestamps, length 10 */
	__be32 time;
};

static __always_inline __u32 track_later(__u32 a, __u32 b)
{
	return (__s32)(b - a) > 0 ? b : a;
}

static __always_inline void track_option(struct __sk_buff *skb, __u32 at, __u8 kind, __u8 len, struct fabric_end *end)
{
	__be16 mss = 0;
	__be32 time = 0;
	__u8 scale = 0;

	if (kind == TCP_OPTION_MSS && len == 4 && !bpf_skb_load_bytes(skb, at + 2, &mss, sizeof(mss)))
		end->mss = bpf_ntohs(mss);
	if (kind == TCP_OPTION_SCALE && len == 3 && !bpf_skb_load_bytes(skb, at + 2, &scale, sizeof(scale))) {
		end->scale = scale;
		end->flags |= FABRIC_END_SCALE;
	}
	if (kind == TCP_OPTION_SACK && len == 2)
		end->flags |= FABRIC_END_SACK;
	if (kind == TCP_OPTION_TIMESTAMPS && len == 10 && !bpf_skb_load_bytes(skb, at + 2, &time, sizeof(time))) {
		end->time = bpf_ntohl(time);
		end->flags |= FABRIC_END_TIMES;
	}
}

static __always_inline void track_options(struct __sk_buff *skb, __u32 at, __u32 after, struct fabric_end *end)
{
	for (int i = 0; i < TRACK_OPTIONS_MAX && at < after; i++) {
		__u8 option[2] = {};

		if (bpf_skb_load_bytes(skb, at, option, 1) || option[0] == TCP_OPTION_END)
			return;
		if (option[0] == TCP_OPTION_NOP) {
			at++;
			continue;
		}
		if (bpf_skb_load_bytes(skb, at, option, sizeof(option)) || option[1] < 2 || at + option[1] > after)
			return;
		track_option(skb, at, option[0], option[1], end);
		at += option[1];
	}
}

/* Not static, so that the verifier looks at it once and not at each call: the way through the options takes it long. */
__noinline int track_syn(struct __sk_buff *skb, const struct packet *p, struct fabric_end *end)
{
	__be32 acknowledgment = 0;
	__be16 window = 0;

	if (!p || !end)
		return 0; /* for the verifier, as the result is */
	__builtin_memset(end, 0, sizeof(*end));
	bpf_skb_load_bytes(skb, p->transport + TRACK_ACK_AT + offsetof(struct track_header, window), &window,
			   sizeof(window));
	end->first = p->sequence;
	end->next = p->sequence + 1 + p->sequence_len;
	end->window = bpf_ntohs(window);
	end->flags = FABRIC_END_SEEN | FABRIC_END_SYN;
	if (p->tcp_flags & TCP_FLAG_ACK) {
		bpf_skb_load_bytes(skb, p->transport + TRACK_ACK_AT, &acknowledgment, sizeof(acknowledgment));
		end->acknowledged = bpf_ntohl(acknowledgment);
		end->flags |= FABRIC_END_ACKED;
	}
	track_options(skb, p->transport + TRACK_OPTIONS_AT, ETH_HLEN + p->headers_len, end);
	return 0;
}

/* A segment that @end sent. Whoever forges one can move the numbers on: who relies on them must have another way, too. */
static __always_inline void track_segment(struct __sk_buff *skb, const struct packet *p, struct fabric_end *end)
{
	__u32 header_len = ETH_HLEN + p->headers_len - p->transport, next = p->sequence + p->sequence_len, acknowledged;
	struct track_header header = {};

	if (p->flow.protocol != IPPROTO_TCP)
		return;
	if (p->tcp_flags & TCP_FLAG_SYN) {
		if (!(end->flags & FABRIC_END_SEEN))
			track_syn(skb, p, end);
		return;
	}
	if (p->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST))
		end->flags |= FABRIC_END_CLOSED;
	if (header_len == TRACK_WITH_TIME ?
		    bpf_skb_load_bytes(skb, p->transport + TRACK_ACK_AT, &header, sizeof(header)) :
		    bpf_skb_load_bytes(skb, p->transport + TRACK_ACK_AT, &header, TRACK_PLAIN))
		return;
	end->next = end->flags & FABRIC_END_SEEN ? track_later(end->next, next) : next;
	end->flags |= FABRIC_END_SEEN;
	if (!(p->tcp_flags & TCP_FLAG_ACK))
		return;
	acknowledged = bpf_ntohl(header.acknowledgment);
	end->acknowledged = end->flags & FABRIC_END_ACKED ? track_later(end->acknowledged, acknowledged) : acknowledged;
	end->flags |= FABRIC_END_ACKED;
	end->window = bpf_ntohs(header.window);
	if (header.kinds == bpf_htonl(0x0101080a))
		end->time = bpf_ntohl(header.time);
}

/* The switch's own connections: a SYN that may be accepted. */
static __noinline void track_opening(struct __sk_buff *skb, const struct packet *p)
{
	struct fabric_ends ends = {};

	if (!p)
		return; /* for the verifier */
	track_syn(skb, p, &ends.client);
	bpf_map_update_elem(&FABRIC_SYNS, &p->flow, &ends, BPF_ANY);
}

static __always_inline void track_answer(struct __sk_buff *skb, const struct packet *p)
{
	struct fabric_ends *ends = bpf_map_lookup_elem(&FABRIC_SYNS, &p->flow);

	if (ends)
		track_segment(skb, p, &ends->server);
}

/* The connection has been accepted. */
static __always_inline void track_accepted(const struct flow_key *flow, struct fabric_ends *out)
{
	struct fabric_ends *ends = bpf_map_lookup_elem(&FABRIC_SYNS, flow);

	if (!ends)
		return;
	*out = *ends;
	bpf_map_delete_elem(&FABRIC_SYNS, flow);
}

#endif
