/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * common/bpf_half.h - packets of a connection of which two devices have a half each
 *
 *	client --> switch --> first device --copies--> second device
 *	client <-- switch <-- the one that sends <--told-- the one that receives
 *
 * Both have a socket, and both sockets receive whatever the client sends. Only one of them speaks. What it acknowledges to the
 * client is what both have received, and the window that it offers is what both have room for: so neither can fall behind, and
 * nothing that was acknowledged is missing at the other. The one that receives tells it what that is, with its own stack's
 * acknowledgments (NODE_EXCHANGE); it has sent nothing, so what the client acknowledges is hidden from it.
 *
 * Source: Fig. 7 and 8, (11)
 *
 * BPF programs only.
 */
#ifndef VNAS_COMMON_BPF_HALF_H
#define VNAS_COMMON_BPF_HALF_H

#include "common/bpf_packet.h"
#include "common/node_map.h"

#include <linux/errno.h>

/* TCP's header without options (RFC 9293, 3.1). */
struct half_tcp {
	__be16 source, dest;
	__be32 sequence, acknowledgment;
	__u8 offset, flags;
	__be16 window, check, urgent;
};

/* The first option, as all known stacks send it (RFC 7323, appendix A): two NOPs and the time stamps. */
struct half_stamps {
	__u8 nops[2], kind, length;
	__be32 value, echo;
};

enum {
	HALF_WINDOW_MAX = 0xffff << 14, /* RFC 7323, 2.3 */
	HALF_ATTEMPTS = 4,
};

static __always_inline __u32 half_later(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0 ? b : a;
}

static __always_inline __u32 half_earlier(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0 ? a : b;
}

/*
 * Locked, which is a barrier, too: two CPUs of which each notes what one device says and then reads what the other has said
 * must not both miss something, or nobody would tell the client. Nor may one take back what the other has noted. More CPUs than there
 * are attempts do not work on one connection at once.
 */
static __always_inline void half_advance(__u32 *to, __u32 value)
{
	for (int i = 0; i < HALF_ATTEMPTS; i++) {
		__u32 now = *to;

		if (__sync_val_compare_and_swap(to, now, half_later(now, value)) == now)
			return;
	}
}

static __always_inline int half_read(struct __sk_buff *skb, const struct packet *p, struct half_tcp *tcp)
{
	return bpf_skb_load_bytes(skb, p->transport, tcp, sizeof(*tcp)) ? -EBADMSG : 0;
}

/* An acknowledgment and nothing else. */
static __always_inline int half_is_bare(const struct packet *p)
{
	return p->sequence_len == 0 && !(p->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_RST)) && (p->tcp_flags & TCP_FLAG_ACK);
}

static __always_inline int half_is_exchange(const struct packet *p)
{
	return p->tcp_reserved & NODE_EXCHANGE;
}

/* Changes a field of TCP's header, and its checksum. */
static __always_inline long half_set32(struct __sk_buff *skb, const struct packet *p, __u32 at, __be32 old, __be32 new)
{
	if (old == new)
		return 0;
	return bpf_l4_csum_replace(skb, p->transport + offsetof(struct half_tcp, check), old, new, sizeof(new)) ?:
	       bpf_skb_store_bytes(skb, p->transport + at, &new, sizeof(new), 0);
}

static __always_inline long half_set16(struct __sk_buff *skb, const struct packet *p, __u32 at, __be16 old, __be16 new)
{
	if (old == new)
		return 0;
	return bpf_l4_csum_replace(skb, p->transport + offsetof(struct half_tcp, check), old, new, sizeof(new)) ?:
	       bpf_skb_store_bytes(skb, p->transport + at, &new, sizeof(new), 0);
}

/* Sets or clears the mark; the other bits of these two bytes stay. */
static __always_inline long half_mark(struct __sk_buff *skb, const struct packet *p, const struct half_tcp *tcp, int marked)
{
	__u8 offset = marked ? tcp->offset | NODE_EXCHANGE : tcp->offset & ~NODE_EXCHANGE;
	__be16 old = bpf_htons((__u16)tcp->offset << 8 | tcp->flags), new = bpf_htons((__u16)offset << 8 | tcp->flags);

	return half_set16(skb, p, offsetof(struct half_tcp, offset), old, new);
}

/* Whoever sent the packet has sent it to himself: the checksums are sums, they stay. */
static __always_inline long half_exchange_ends(struct __sk_buff *skb, const struct packet *p, const struct half_tcp *tcp)
{
	struct {
		__be16 source, dest;
	} ports = { tcp->dest, tcp->source };
	struct {
		__be32 source, dest;
	} ipv4, ipv4_back;
	struct {
		__u8 source[16], dest[16];
	} ipv6, ipv6_back;
	const __u32 at4 = ETH_HLEN + offsetof(struct iphdr, saddr), at6 = ETH_HLEN + offsetof(struct ipv6hdr, saddr);

	if (bpf_skb_store_bytes(skb, p->transport, &ports, sizeof(ports), 0))
		return -EBADMSG;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, at4, &ipv4, sizeof(ipv4)))
			return -EBADMSG;
		ipv4_back.source = ipv4.dest;
		ipv4_back.dest = ipv4.source;
		return bpf_skb_store_bytes(skb, at4, &ipv4_back, sizeof(ipv4_back), 0);
	}
	if (bpf_skb_load_bytes(skb, at6, &ipv6, sizeof(ipv6)))
		return -EBADMSG;
	__builtin_memcpy(ipv6_back.source, ipv6.dest, sizeof(ipv6.dest));
	__builtin_memcpy(ipv6_back.dest, ipv6.source, sizeof(ipv6.source));
	return bpf_skb_store_bytes(skb, at6, &ipv6_back, sizeof(ipv6_back), 0);
}

static __always_inline int half_read_stamps(struct __sk_buff *skb, const struct packet *p, const struct half_tcp *tcp,
					    struct half_stamps *stamps)
{
	if ((tcp->offset >> 4) * 4u < sizeof(*tcp) + sizeof(*stamps) ||
	    bpf_skb_load_bytes(skb, p->transport + sizeof(*tcp), stamps, sizeof(*stamps)))
		return 0;
	return stamps->kind == 8 && stamps->length == 10;
}

/* Notes what our stack says of what it has received, and how far it has sent. */
static __always_inline void half_note_own(struct node_half *half, const struct packet *p, const struct half_tcp *tcp)
{
	__u32 acknowledged = bpf_ntohl(tcp->acknowledgment);

	half_advance(&half->send_next, p->sequence + p->sequence_len);
	if (!(p->tcp_flags & TCP_FLAG_ACK))
		return;
	half_advance(&half->own_edge, acknowledged + ((__u32)bpf_ntohs(tcp->window) << (half->window_scale & 15)));
	half_advance(&half->own_acknowledged, acknowledged);
}

static __always_inline void half_note_peer(struct node_half *half, const struct half_tcp *tcp)
{
	__u32 acknowledged = bpf_ntohl(tcp->acknowledgment);

	half_advance(&half->peer_edge, acknowledged + ((__u32)bpf_ntohs(tcp->window) << (half->window_scale & 15)));
	half_advance(&half->peer_acknowledged, acknowledged);
}

/*
 * Does the other device say this? Whoever can send by its MAC could: where it is the switch, clients do. It acknowledges, and no more
 * than it had room for, and a FIN; what else has the mark must not become a packet of ours.
 */
static __always_inline int half_is_credible(const struct node_half *half, const struct packet *p, const struct half_tcp *tcp)
{
	__u32 end = half->peer_edge + 1;

	return half_is_bare(p) && (__s32)(end - bpf_ntohl(tcp->acknowledgment)) >= 0;
}

/* What both have received and have room for. */
struct half_common {
	__u32 acknowledged, edge;
};

static __always_inline struct half_common half_of_both(const struct node_half *half)
{
	return (struct half_common){
		.acknowledged = half_earlier(half->own_acknowledged, half->peer_acknowledged),
		.edge = half_earlier(half->own_edge, half->peer_edge),
	};
}

/* Does the client know it already? */
static __always_inline int half_is_news(const struct node_half *half, const struct half_common *common)
{
	return (__s32)(common->acknowledged - half->said_acknowledged) > 0 ||
	       (__s32)(common->edge - half->said_edge) > 0;
}

/*
 * The client sends again what was acknowledged: it did not hear of it. Then it has to be told again, or it would send nothing else for
 * as long as one device waits for what follows. What is behind by more than any window is nobody's.
 */
static __always_inline void half_note_repeated(struct node_half *half, const struct packet *p)
{
	__u32 behind = half->said_acknowledged - p->sequence;

	if (behind && behind <= HALF_WINDOW_MAX)
		half->said_acknowledged = p->sequence;
}

/* The packet will acknowledge what both have received. */
static __always_inline long half_say(struct __sk_buff *skb, const struct packet *p, const struct half_tcp *tcp,
				     struct node_half *half, const struct half_common *common)
{
	__s32 room = (__s32)(common->edge - common->acknowledged);
	__u32 window = room > 0 ? (__u32)room >> (half->window_scale & 15) : 0;

	if (window > 0xffff)
		window = 0xffff;
	half_advance(&half->said_acknowledged, common->acknowledged);
	half_advance(&half->said_edge, common->edge);
	return half_set32(skb, p, offsetof(struct half_tcp, acknowledgment), tcp->acknowledgment,
			  bpf_htonl(common->acknowledged)) ?:
	       half_set16(skb, p, offsetof(struct half_tcp, window), tcp->window, bpf_htons(window));
}

/* The receiving stack must see what the client acknowledges neither before nor behind what it has sent itself. */
static __always_inline long half_hide_acknowledgment(struct __sk_buff *skb, const struct packet *p,
						     const struct half_tcp *tcp, const struct node_half *half)
{
	__u32 acknowledgment = half_earlier(half_later(bpf_ntohl(tcp->acknowledgment), half->send_unacknowledged),
					    half->send_next);

	return half_set32(skb, p, offsetof(struct half_tcp, acknowledgment), tcp->acknowledgment,
			  bpf_htonl(acknowledgment));
}

#endif
