/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * master/fabric.bpf.c - the switch's fast path: who owns a flow, and the way there and back
 *
 *	client --> VIP		entry?	no, or the switch owns it	--> next program, our stack
 *					a device owns it		--> its MAC, out of its port
 *	device --> switch	EAP				--> performed here, turned round as the answer
 *	device --> client	entry?	the client was seen		--> its MAC, out of its port
 *	(source: a VIP)			no				--> our neighbour table, first client port
 *
 * Only MAC addresses change. In the one-arm topology clients and devices share a port and devices answer directly; a
 * packet to a VIP that carries a device's MAC was relayed to the switch as the new owner, and goes to its stack.
 *
 * The first packets of a new owner may come before its entry changes (design.md, TCH, between steps 3 and 5), so a
 * device need not own the flow it speaks for. It must be a member: what a removed device still sends is dropped. And it must not
 * have had the flow before, unless the owner has announced that it comes back: this fences a device that was taken for
 * dead, or has lost its mind.
 */
#include "common/bpf_packet.h"
#include "common/siphash.h"
#include "master/fabric_map.h"
#include "scp/eap_wire.h"

#include <linux/errno.h>
#include <linux/udp.h>

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

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct fabric_key);
	__uint(max_entries, FABRIC_MAP_DEVICES);
} FABRIC_KEYS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, FABRIC_MAP_MOVES_BYTES);
} FABRIC_MOVES SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct fabric_refusal_note);
	__uint(max_entries, FABRIC_NREFUSALS);
} FABRIC_REFUSALS SEC(".maps");

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

/* Return: the index of the device with this MAC; 0 if it is no member's */
static __always_inline __u32 member_of(const __u8 mac[ETH_ALEN])
{
	struct fabric_mac key = {};
	__u32 *device;

	__builtin_memcpy(key.mac, mac, ETH_ALEN);
	device = bpf_map_lookup_elem(&FABRIC_MACS, &key);
	return device ? *device : 0;
}

/* For the log. Of two at once, one may spoil the other's note. */
static __always_inline void note_refusal(struct __sk_buff *skb, __u32 reason, const __u8 mac[ETH_ALEN],
					 const __u8 address[16], __u32 device)
{
	struct fabric_refusal_note *note = bpf_map_lookup_elem(&FABRIC_REFUSALS, &reason);

	if (!note)
		return;
	__builtin_memcpy(note->mac, mac, ETH_ALEN);
	__builtin_memcpy(note->address, address, sizeof(note->address));
	note->device = device;
	note->ifindex = skb->ifindex;
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

static __always_inline __u32 former_without(__u32 former, __u32 device)
{
	__u32 left = 0;

	for (int shift = 24; shift >= 0; shift -= 8)
		if ((former >> shift & 0xff) != device)
			left = left << 8 | (former >> shift & 0xff);
	return left;
}

static __always_inline int is_former_owner(const struct fabric_entry *entry, __u32 device)
{
	return former_without(entry->former, device) != entry->former;
}

/* The new owner may speak, the old one not any more. What the switch sends does not come by here. */
static __always_inline void note_owners(struct fabric_entry *entry, __u32 old, __u32 new)
{
	__u32 former = former_without(entry->former, new);

	if (old != new && old != FABRIC_MAP_SWITCH)
		former = former_without(former, old) << 8 | old;
	entry->former = former;
}

/*
 * May the owner be relied on to announce the next one, who will speak before the owner changes? Then whoever had the flow
 * before and was not announced has nothing to say. A device can do it if it ever sent a datagram with its key.
 */
static __always_inline int owner_announces(const struct fabric_entry *entry)
{
	__u32 device = entry->device;
	struct fabric_key *key;

	if (device == FABRIC_MAP_SWITCH)
		return 1;
	key = bpf_map_lookup_elem(&FABRIC_KEYS, &device);
	return key && key->counter;
}

static __always_inline int on_client_packet(struct __sk_buff *skb, const struct packet *p, struct fabric_entry *entry,
					    int behind)
{
	struct fabric_host *host;
	struct packet_macs macs;
	__u32 device;

	if (packet_get_macs(skb, &macs))
		return count(FABRIC_COUNT_short_packet, TC_ACT_UNSPEC);
	if ((behind & DEVICES) && member_of(macs.from))
		return count(FABRIC_COUNT_relayed, TC_ACT_UNSPEC);
	__sync_fetch_and_add(&entry->packets, 1);
	learn_client(entry, skb, &macs);
	if (packet_opens(p)) {
		note_owners(entry, entry->device, FABRIC_MAP_SWITCH);
		entry->device = FABRIC_MAP_SWITCH;
		entry->state = FABRIC_ENTRY_FORWARD;
		entry->has_transaction = 0;
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
		device = member_of(macs.from);
		if (!device) {
			note_refusal(skb, FABRIC_REFUSAL_device_fenced, macs.from, p->flow.client, 0);
			return count(FABRIC_COUNT_device_fenced, TC_ACT_SHOT);
		}
		if (entry && is_former_owner(entry, device) && owner_announces(entry)) {
			note_refusal(skb, FABRIC_REFUSAL_device_former_owner, macs.from, p->flow.client, device);
			return count(FABRIC_COUNT_device_former_owner, TC_ACT_SHOT);
		}
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

/* A session's handoffs are counted, on the wire by 16 bits: serial numbers (RFC 1982). */
static __always_inline int is_late(const struct fabric_entry *entry, __u16 transaction)
{
	return entry->has_transaction && (__s16)(transaction - entry->transaction) < 0;
}

/*
 * Somebody asks to give what he does not have. If the switch has it back and has not announced him since, he never will: asking
 * again is in vain. Any other owner may be about to say that it gave the flow to him.
 */
static __always_inline long refuse_to_give(const struct fabric_entry *entry, __u32 device)
{
	return entry->device == FABRIC_MAP_SWITCH && is_former_owner(entry, device) ? -ESTALE : -EPERM;
}

/*
 * The one place where an owner changes by request. Whoever gives a flow must have it. The store is conditional: of two
 * requests at once, one was too late.
 */
static __always_inline long change_owner(struct fabric_entry *entry, struct fabric_order *order)
{
	__u32 owner = entry->device;

	order->generation = entry->generation;
	if (order->old_device) {
		if (order->has_transaction && is_late(entry, order->transaction))
			return -ESTALE;
		if (owner == order->device)
			return 0;
		if (owner != order->old_device)
			return refuse_to_give(entry, order->old_device);
	}
	if (!order->old_device)
		entry->device = order->device;
	else if (__sync_val_compare_and_swap(&entry->device, owner, order->device) != owner)
		return -EPERM;
	note_owners(entry, owner, order->device);
	order->changed = 1;
	entry->transaction = order->transaction;
	entry->has_transaction = order->has_transaction;
	order->generation = __sync_fetch_and_add(&entry->generation, 1) + 1;
	return 0;
}

/* The owner is about to hand the session to a device, which will speak before it is the owner. */
static __always_inline long announce_owner(struct fabric_entry *entry, const struct fabric_order *order)
{
	if (order->has_transaction && is_late(entry, order->transaction))
		return -ESTALE;
	if (entry->device != order->old_device)
		return -EPERM;
	entry->former = former_without(entry->former, order->device);
	return 0;
}

static __always_inline long obey(struct fabric_entry *entry, struct fabric_order *order)
{
	return order->announces ? announce_owner(entry, order) : change_owner(entry, order);
}

/* An EAP datagram on its way through here. */
struct eap_ask {
	struct eap_wire wire;
	struct packet_macs macs;
	__u32 udp_at; /* where its UDP header is */
	__u32 from;   /* the device that it names as its sender */
};

static __always_inline int is_eap(const struct packet *p)
{
	__u64 words[2];

	if (p->flow.protocol != IPPROTO_UDP || p->flow.vip_port != constants.eap_port || !constants.eap_port)
		return 0;
	if (!constants.eap_address[0] && !constants.eap_address[1])
		return !is_vip(p->flow.vip);
	__builtin_memcpy(words, p->flow.vip, sizeof(words));
	return words[0] == constants.eap_address[0] && words[1] == constants.eap_address[1];
}

static __always_inline int refuse(struct __sk_buff *skb, const struct packet *p, const struct eap_ask *ask, __u32 reason,
				  __u32 counter)
{
	note_refusal(skb, reason, ask->macs.from, p->flow.client, ask->from);
	return count(counter, TC_ACT_SHOT);
}

#define REFUSE(reason) refuse(skb, p, ask, FABRIC_REFUSAL_##reason, FABRIC_COUNT_##reason)

static __always_inline __u32 udp_offset(struct __sk_buff *skb)
{
	__u8 version_and_length = 0;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return ETH_HLEN + sizeof(struct ipv6hdr);
	bpf_skb_load_bytes(skb, ETH_HLEN, &version_and_length, sizeof(version_and_length));
	return ETH_HLEN + (version_and_length & 0xf) * 4;
}

/* Return: 0, or that it is no datagram of this format */
static __always_inline int read_eap(struct __sk_buff *skb, struct eap_ask *ask)
{
	const struct eap_wire *wire = &ask->wire;
	struct udphdr udp;

	ask->udp_at = udp_offset(skb);
	if (packet_get_macs(skb, &ask->macs) || bpf_skb_load_bytes(skb, ask->udp_at, &udp, sizeof(udp)) ||
	    bpf_skb_load_bytes(skb, ask->udp_at + sizeof(udp), &ask->wire, sizeof(ask->wire)))
		return -EBADMSG;
	ask->from = (__u32)wire->nonce[0] << 16 | (__u32)wire->nonce[1] << 8 | wire->nonce[2];
	if (udp.len != bpf_htons(sizeof(udp) + sizeof(*wire)) || wire->head >> 4 != EAP_WIRE_VERSION ||
	    wire->end.kind != EAP_WIRE_REQUEST || wire->end.zero)
		return -EBADMSG;
	return 0;
}

/* Does the frame come from where that device is? */
static __always_inline int is_at_home(struct __sk_buff *skb, const struct eap_ask *ask)
{
	__u32 device = ask->from;
	struct fabric_host *host = bpf_map_lookup_elem(&FABRIC_HOSTS, &device);

	return host && host->ifindex == skb->ifindex && same_mac(host->mac, ask->macs.from);
}

static __always_inline __be64 hash_of(const struct fabric_key *key, const struct eap_wire *wire)
{
	return bpf_cpu_to_be64(siphash(key->bytes, (const __u8 *)wire, offsetof(struct eap_wire, end.hash)));
}

/* Each counter once: a device that sends two at a time has to wait for the one that loses. */
static __always_inline int is_fresh(struct fabric_key *key, __u64 counter)
{
	__u64 last = key->counter;

	return counter > last && __sync_val_compare_and_swap(&key->counter, last, counter) == last;
}

static __always_inline int is_device(__u32 device)
{
	struct fabric_host *host;

	if (device == FABRIC_MAP_SWITCH)
		return 1;
	host = bpf_map_lookup_elem(&FABRIC_HOSTS, &device);
	return host && host->ifindex;
}

static __always_inline void tell_daemon(const struct fabric_order *order)
{
	struct fabric_move_record *move = bpf_ringbuf_reserve(&FABRIC_MOVES, sizeof(*move), 0);

	if (!move) {
		count(FABRIC_COUNT_eap_untold, 0);
		return;
	}
	move->flow = order->flow;
	move->from = order->old_device;
	move->device = order->device;
	move->generation = order->generation;
	move->transaction = order->transaction;
	move->zero = 0;
	bpf_ringbuf_submit(move, 0);
}

/* Only a VIP's flows have entries. Return: 0 or a negative errno value, which is the answer */
static __always_inline long perform_eap(const struct eap_ask *ask, struct fabric_order *order)
{
	const struct eap_wire *wire = &ask->wire;
	struct fabric_entry *entry;

	order->flow.protocol = wire->protocol;
	order->flow.client_port = wire->client_port;
	order->flow.vip_port = wire->vip_port;
	__builtin_memcpy(order->flow.client, wire->client, sizeof(order->flow.client));
	__builtin_memcpy(order->flow.vip, wire->vip, sizeof(order->flow.vip));
	order->device = bpf_ntohl(wire->device);
	order->old_device = ask->from;
	order->transaction = bpf_ntohs(wire->transaction);
	order->has_transaction = 1;
	order->announces = (wire->head & 0xf) == EAP_WIRE_SET;
	if ((wire->head & 0xf) != EAP_WIRE_CHANGE && !order->announces)
		return -EOPNOTSUPP;
	if (!is_device(order->device))
		return -ENODEV;
	entry = bpf_map_lookup_elem(&FABRIC_FLOWS, &order->flow);
	return entry ? obey(entry, order) : -ENOENT;
}

/* Swaps @len bytes at @a with those at @b; sums over the packet stay what they are. */
static __always_inline long swap(struct __sk_buff *skb, __u32 a, __u32 b, __u32 len)
{
	__u8 at_a[16], at_b[16];

	if (len > sizeof(at_a) || bpf_skb_load_bytes(skb, a, at_a, len) || bpf_skb_load_bytes(skb, b, at_b, len))
		return -EFAULT;
	return bpf_skb_store_bytes(skb, a, at_b, len, 0) || bpf_skb_store_bytes(skb, b, at_a, len, 0);
}

static __always_inline long swap_addresses(struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return swap(skb, ETH_HLEN + offsetof(struct iphdr, saddr), ETH_HLEN + offsetof(struct iphdr, daddr), 4);
	return swap(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), ETH_HLEN + offsetof(struct ipv6hdr, daddr), 16);
}

/* A checksum of 0 is none (RFC 768), and stays that. */
static __always_inline long replace_end(struct __sk_buff *skb, const struct eap_ask *ask, struct eap_wire_end *old)
{
	const __u32 end_at = ask->udp_at + sizeof(struct udphdr) + offsetof(struct eap_wire, end);
	const __u32 check_at = ask->udp_at + offsetof(struct udphdr, check);
	__be16 check;
	__s64 difference;

	difference = bpf_csum_diff((__be32 *)old, sizeof(*old), (__be32 *)&ask->wire.end, sizeof(ask->wire.end), 0);
	if (difference < 0 || bpf_skb_load_bytes(skb, check_at, &check, sizeof(check)) ||
	    bpf_skb_store_bytes(skb, end_at, &ask->wire.end, sizeof(ask->wire.end), 0))
		return -EFAULT;
	return check ? bpf_l4_csum_replace(skb, check_at, 0, (__u64)difference, BPF_F_MARK_MANGLED_0) : 0;
}

/* The datagram turns round and is the answer. */
static __always_inline int answer_eap(struct __sk_buff *skb, struct eap_ask *ask, const struct fabric_key *key,
				      const struct fabric_order *order, long error)
{
	struct eap_wire_end old __attribute__((aligned(4))) = ask->wire.end, *end = &ask->wire.end;
	const __u32 ports_at = ask->udp_at;

	end->kind = EAP_WIRE_ANSWER;
	end->result = bpf_htons((__u16)-error);
	end->generation = bpf_htonl(order->generation);
	end->hash = hash_of(key, &ask->wire);
	if (replace_end(skb, ask, &old) || swap_addresses(skb) || swap(skb, ports_at, ports_at + 2, 2) ||
	    swap(skb, 0, ETH_ALEN, ETH_ALEN))
		return count(FABRIC_COUNT_rewrite_failed, TC_ACT_SHOT);
	return bpf_redirect(skb->ifindex, 0);
}

static __always_inline void count_result(struct __sk_buff *skb, const struct packet *p, const struct eap_ask *ask,
					 const struct fabric_order *order, long error)
{
	switch (error) {
	case 0:
		count(order->announces ? FABRIC_COUNT_eap_announced : FABRIC_COUNT_eap_performed, 0);
		break;
	case -ESTALE:
		count(FABRIC_COUNT_eap_late, 0);
		break;
	case -ENOENT:
		count(FABRIC_COUNT_eap_no_flow, 0);
		break;
	case -ENODEV:
		count(FABRIC_COUNT_eap_no_device, 0);
		break;
	case -EPERM:
		REFUSE(eap_not_owner);
		break;
	default:
		count(FABRIC_COUNT_eap_unsupported, 0);
		break;
	}
}

/*
 * A device asks for a change of owner. Who can't prove who he is gets no answer, so that nobody can be made to send any to
 * somebody else. A function of its own: the packets of clients shall not carry its registers and stack along.
 */
static __noinline int on_eap(struct __sk_buff *skb, const struct packet *p, int behind)
{
	struct eap_ask on_stack __attribute__((aligned(8))) = {}, *ask = &on_stack;
	struct fabric_order order = {};
	struct fabric_key *key;
	long error;

	if (!p)
		return TC_ACT_SHOT; /* for the verifier */
	if (read_eap(skb, ask))
		return REFUSE(eap_malformed);
	key = bpf_map_lookup_elem(&FABRIC_KEYS, &ask->from);
	if (!(behind & DEVICES) || !key || !key->is_set || !is_at_home(skb, ask))
		return REFUSE(eap_stranger);
	if (hash_of(key, &ask->wire) != ask->wire.end.hash)
		return REFUSE(eap_forged);
	if (!is_fresh(key, bpf_be64_to_cpu(ask->wire.end.counter)))
		return REFUSE(eap_replayed);
	if (ask->wire.cluster != bpf_htonl(constants.cluster))
		return REFUSE(eap_other_cluster);
	error = perform_eap(ask, &order);
	count_result(skb, p, ask, &order, error);
	if (order.changed)
		tell_daemon(&order);
	return answer_eap(skb, ask, key, &order, error);
}

static __always_inline int on_packet(struct __sk_buff *skb, int behind)
{
	struct packet p __attribute__((aligned(8)));

	if (skb->pkt_type != PACKET_HOST)
		return count(FABRIC_COUNT_elsewhere, TC_ACT_UNSPEC);
	switch (packet_read(skb, PACKET_FROM_CLIENT, &p)) {
	case PACKET_SESSION:
		return is_eap(&p) ? on_eap(skb, &p, behind) : on_session_packet(skb, &p, behind);
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
	struct fabric_entry entry = {
		.device = order->device,
		.generation = 1,
		.state = FABRIC_ENTRY_FORWARD,
		.transaction = order->transaction,
		.has_transaction = order->has_transaction,
	};

	order->generation = entry.generation;
	order->changed = 1;
	order->error = (__s32)bpf_map_update_elem(&FABRIC_FLOWS, flow, &entry, BPF_NOEXIST);
}

/* A change of owner, or the announcement of one: in place, in the entry that the programs above use. */
SEC("syscall")
int fabric_command(struct fabric_order *order)
{
	struct flow_key flow = order->flow;
	struct fabric_entry *entry = bpf_map_lookup_elem(&FABRIC_FLOWS, &flow);

	if (entry)
		order->error = (__s32)obey(entry, order);
	else if (order->old_device)
		order->error = -ENOENT;
	else
		make_entry(&flow, order);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
