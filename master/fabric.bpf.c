/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * master/fabric.bpf.c - the switch's fast path: who owns a flow, and the way there and back
 *
 *	client --> VIP		entry?	no, or the switch owns it	--> next program, our stack
 *					a device owns it		--> its MAC, out of its port
 *				SYN	struct fabric_first		--> a device, which owns it now, or our stack
 *	device --> switch	EAP				--> performed here, turned round as the answer
 *	device --> client	entry?	the client was seen		--> its MAC, out of its port
 *	(source: a VIP)			no				--> our neighbour table, first client port
 *	our stack --> client	counted and marked
 *
 *	client --> VIP, UDP	the call's volume is a device's		--> its MAC, out of its port; the answer comes back
 *									    as above, the client's way is remembered apart
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
#include "common/node_map.h"
#include "common/siphash.h"
#include "master/fabric_call.bpf.h"
#include "master/fabric_filter.bpf.h"
#include "master/fabric_fragment.bpf.h"
#include "master/fabric_icmp.bpf.h"
#include "master/fabric_map.h"
#include "master/fabric_track.bpf.h"
#include "master/fabric_traffic.bpf.h"
#include "scp/eap_wire.h"

#include <linux/errno.h>
#include <linux/pkt_sched.h>
#include <linux/udp.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow_key);
	__type(value, struct fabric_entry);
	__uint(max_entries, 1); /* user space sets it */
	__uint(map_flags, BPF_F_NO_PREALLOC); /* few switches ever have as many flows as they may */
} FABRIC_FLOWS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct fabric_entry);
	__uint(max_entries, FABRIC_MAP_OPENINGS);
} FABRIC_OPENINGS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct fabric_first);
	__uint(max_entries, 1);
} FABRIC_FIRST SEC(".maps");

/* By device: how many new connections it was given. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, FABRIC_MAP_DEVICES);
} FABRIC_GIVEN SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fabric_client);
	__type(value, __u32);
	__uint(max_entries, FABRIC_MAP_HOMES);
} FABRIC_HOMES SEC(".maps");

/* By volume id: the device that has it, as __u32. Others are the switch's own, or its to relay. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, FABRIC_MAP_VOLUMES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} FABRIC_VOLUMES SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fabric_client);
	__type(value, struct fabric_way);
	__uint(max_entries, FABRIC_MAP_WAYS);
} FABRIC_WAYS SEC(".maps");

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
	if (entry->client_ifindex == skb->ifindex && packet_same_mac(entry->client_mac, macs->from) &&
	    packet_same_mac(entry->port_mac, macs->to))
		return;
	__builtin_memcpy(entry->client_mac, macs->from, ETH_ALEN);
	__builtin_memcpy(entry->port_mac, macs->to, ETH_ALEN);
	entry->client_ifindex = skb->ifindex;
}

/* Between a client and a VIP. What can't be marked goes on as it is. */
static __always_inline void mark(struct __sk_buff *skb)
{
	if (constants.serves_first)
		skb->priority = TC_PRIO_INTERACTIVE;
	if (constants.marks)
		packet_set_dscp(skb, constants.dscp);
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

/*
 * New connections.
 *
 *	SYN ---> FABRIC_OPENINGS ---> the client's next packet ---> FABRIC_FLOWS
 *
 * So a flood of SYNs costs other connections that are just being opened their place at most, and they begin anew.
 */

#define OPENING_AGAIN_NS 2000000000ull	 /* a SYN that comes again: the device may have answered the first */
#define OPENING_SILENT_NS 10000000000ull /* ... or is dead */
#define FULL_NS 10000000000ull

static __always_inline struct fabric_first *first_table(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&FABRIC_FIRST, &zero);
}

static __always_inline int takes_connections(const struct fabric_first *first, __u32 device)
{
	return device < FABRIC_MAP_DEVICES && first->takes[device];
}

static __always_inline __u32 device_in_turn(struct fabric_first *first)
{
	__u32 turn = __sync_fetch_and_add(&first->turn, 1), count = first->count, device;

	if (!count)
		return FABRIC_MAP_SWITCH;
	device = first->turns[turn % count % FABRIC_MAP_TURNS];
	return takes_connections(first, device) ? device : FABRIC_MAP_SWITCH; /* the table may just be written */
}

static __always_inline __u32 device_of_client(const struct fabric_first *first, const __u8 address[16])
{
	__u32 *device = bpf_map_lookup_elem(&FABRIC_HOMES, address); /* struct fabric_client, without a copy on the stack */

	return device && takes_connections(first, *device) ? *device : FABRIC_MAP_SWITCH;
}

static __always_inline void remember_client(const struct flow_key *flow, __u32 device)
{
	bpf_map_update_elem(&FABRIC_HOMES, flow->client, &device, BPF_ANY);
}

static __always_inline void count_given(__u32 device)
{
	__u64 *given = bpf_map_lookup_elem(&FABRIC_GIVEN, &device);

	if (given)
		__sync_fetch_and_add(given, 1);
}

/* May a new connection of this flow be given to a device? */
static __always_inline int is_assignable(const struct fabric_first *first, const struct packet *p, __u64 now_ns)
{
	return first && first->policy != FABRIC_MAP_FIRST_SWITCH && first->count && p->flow.vip_port == constants.nfs_port &&
	       p->flow.protocol == IPPROTO_TCP && (!first->full_ns || now_ns - first->full_ns > FULL_NS);
}

/* Who gets the connection that this SYN opens, perhaps not for the first time? */
static __always_inline __u32 first_device(const struct fabric_entry *entry, const struct packet *p, __u64 now_ns)
{
	__u64 age_ns = entry->state == FABRIC_ENTRY_OPENING ? now_ns - entry->closing_ns : OPENING_SILENT_NS;
	struct fabric_first *first = first_table();

	if (!is_assignable(first, p, now_ns))
		return FABRIC_MAP_SWITCH;
	if (age_ns < OPENING_AGAIN_NS &&
	    (entry->device == FABRIC_MAP_SWITCH || takes_connections(first, entry->device)))
		return entry->device;
	if (first->policy == FABRIC_MAP_FIRST_IN_TURN)
		return device_in_turn(first);
	return age_ns < OPENING_SILENT_NS ? FABRIC_MAP_SWITCH : device_of_client(first, p->flow.client);
}

/* Whatever was known of the flow is over. */
static __noinline void begin_anew(struct fabric_entry *entry, const struct packet *p)
{
	__u64 now_ns = bpf_ktime_get_ns();
	__u32 old = entry->device, device = first_device(entry, p, now_ns);
	int is_again = entry->state == FABRIC_ENTRY_OPENING && device == old && entry->ends.client.first == p->sequence;

	note_owners(entry, old, device);
	if (device != old || entry->state != FABRIC_ENTRY_OPENING || now_ns - entry->closing_ns >= OPENING_AGAIN_NS) {
		entry->closing_ns = now_ns;
		count_given(device);
	}
	entry->device = device;
	entry->state = FABRIC_ENTRY_OPENING;
	entry->has_transaction = 0;
	if (!is_again) /* else the answer may be on its way, and the client's to that */
		__builtin_memset(&entry->ends, 0, sizeof(entry->ends));
	__sync_fetch_and_add(&entry->generation, 1);
}

/* The client has answered: the connection is there. */
static __always_inline void end_opening(struct fabric_entry *entry, const struct packet *p)
{
	if (entry->state != FABRIC_ENTRY_OPENING)
		return;
	entry->state = FABRIC_ENTRY_FORWARD;
	if (entry->device != FABRIC_MAP_SWITCH)
		remember_client(&p->flow, entry->device);
}

static __always_inline struct fabric_entry *make_opening(struct __sk_buff *skb, const struct packet *p, int behind)
{
	struct fabric_entry blank = { .device = FABRIC_MAP_SWITCH, .state = FABRIC_ENTRY_FORWARD };
	struct packet_macs macs;

	if (!is_assignable(first_table(), p, bpf_ktime_get_ns()) || !is_vip(p->flow.vip) || is_vip(p->flow.client) ||
	    packet_get_macs(skb, &macs) || ((behind & DEVICES) && member_of(macs.from)) ||
	    bpf_map_update_elem(&FABRIC_OPENINGS, &p->flow, &blank, BPF_NOEXIST))
		return NULL;
	return bpf_map_lookup_elem(&FABRIC_OPENINGS, &p->flow);
}

/*
 * Does the client acknowledge what the device has answered? Nobody else knows its number. Where clients and devices share a port,
 * the answer does not come by here.
 */
static __always_inline int is_acknowledged(struct __sk_buff *skb, const struct packet *p, const struct fabric_entry *entry,
					   int behind)
{
	const struct fabric_end *server = &entry->ends.server;
	__be32 acknowledgment;

	if (!(p->tcp_flags & TCP_FLAG_ACK) ||
	    bpf_skb_load_bytes(skb, p->transport + TRACK_ACK_AT, &acknowledgment, sizeof(acknowledgment)))
		return 0;
	if (behind & DEVICES)
		return 1;
	return (server->flags & FABRIC_END_SEEN) &&
	       bpf_ntohl(acknowledgment) - server->first - 1 <= server->next - server->first - 1;
}

/* Into the table, unless the device died meanwhile. Without room there the opening is good enough, as long as it lasts. */
static __always_inline struct fabric_entry *keep_opening(struct fabric_entry *entry, const struct packet *p)
{
	struct fabric_first *first = first_table();

	if (!first || !takes_connections(first, entry->device))
		return NULL;
	if (bpf_map_update_elem(&FABRIC_FLOWS, &p->flow, entry, BPF_NOEXIST)) {
		first->full_ns = bpf_ktime_get_ns();
		return entry;
	}
	bpf_map_delete_elem(&FABRIC_OPENINGS, &p->flow);
	return bpf_map_lookup_elem(&FABRIC_FLOWS, &p->flow);
}

/* A client's packet of a flow that is not in the table. Return: NULL: the switch's stack has it */
static __noinline struct fabric_entry *find_opening(struct __sk_buff *skb, const struct packet *p, int behind)
{
	struct fabric_entry *entry;

	if (p->flow.protocol != IPPROTO_TCP)
		return NULL;
	entry = bpf_map_lookup_elem(&FABRIC_OPENINGS, &p->flow);
	if (packet_opens(p))
		return entry ? entry : make_opening(skb, p, behind);
	return entry && is_acknowledged(skb, p, entry, behind) ? keep_opening(entry, p) : NULL;
}

static __always_inline int is_refusal(const struct fabric_entry *entry, const struct packet *p)
{
	return entry->state == FABRIC_ENTRY_OPENING && entry->device != FABRIC_MAP_SWITCH &&
	       (p->tcp_flags & TCP_FLAG_RST);
}

/* Nobody listens there (any more). The client shall not know, and ask the switch. */
static __always_inline int on_refusal(struct fabric_entry *entry)
{
	note_owners(entry, entry->device, FABRIC_MAP_SWITCH);
	entry->device = FABRIC_MAP_SWITCH;
	entry->closing_ns = bpf_ktime_get_ns();
	return count(FABRIC_COUNT_device_unwilling, TC_ACT_SHOT);
}

static __always_inline int on_client_packet(struct __sk_buff *skb, const struct packet *p, struct fabric_entry *entry,
					    int behind)
{
	int opens = packet_opens(p);
	struct fabric_host *host;
	struct packet_macs macs;
	__u32 device;

	if (packet_get_macs(skb, &macs))
		return count(FABRIC_COUNT_short_packet, TC_ACT_UNSPEC);
	if ((behind & DEVICES) && member_of(macs.from))
		return count(FABRIC_COUNT_relayed, TC_ACT_UNSPEC);
	__sync_fetch_and_add(&entry->packets, 1);
	learn_client(entry, skb, &macs);
	if (p->tcp_reserved & NODE_EXCHANGE) /* it means something between devices. Without all of TCP's header no stack takes it */
		packet_clear_reserved(skb, p, NODE_EXCHANGE);
	if (opens) {
		begin_anew(entry, p);
	} else {
		end_opening(entry, p);
		follow_close(entry, p->tcp_flags);
	}
	track_segment(skb, p, &entry->ends.client);
	device = entry->device;
	traffic_received(skb, p, device);
	if (device == FABRIC_MAP_SWITCH)
		return count(opens ? FABRIC_COUNT_client_reopened : FABRIC_COUNT_client_switch, TC_ACT_UNSPEC);
	host = bpf_map_lookup_elem(&FABRIC_HOSTS, &device);
	if (!host || !host->ifindex)
		return count(FABRIC_COUNT_client_no_device, TC_ACT_UNSPEC);
	mark(skb);
	return send_to(skb, host->mac, host->port_mac, host->ifindex,
		       opens ? FABRIC_COUNT_client_assigned : FABRIC_COUNT_client_forwarded);
}

/*
 * Calls over UDP. Any device answers any call; the one that has the volume need not relay it.
 */

static __always_inline __u32 device_of_volume(__u32 volume)
{
	__u32 *device = volume ? bpf_map_lookup_elem(&FABRIC_VOLUMES, &volume) : NULL;

	return device ? *device : FABRIC_MAP_SWITCH;
}

/* @at: where UDP begins */
static __always_inline __u32 device_of_datagram(struct __sk_buff *skb, __u32 at)
{
	struct packet_ports ports;

	if (bpf_skb_load_bytes(skb, at, &ports, offsetof(struct packet_ports, sequence)) ||
	    ports.dest != constants.nfs_port)
		return FABRIC_MAP_SWITCH;
	return device_of_volume(call_volume(skb, at + sizeof(struct udphdr)));
}

static __always_inline void learn_way(struct __sk_buff *skb, const __u8 client[16], const struct packet_macs *macs)
{
	struct fabric_way way = { .ifindex = skb->ifindex }, *known = bpf_map_lookup_elem(&FABRIC_WAYS, client);

	if (known && known->ifindex == way.ifindex && packet_same_mac(known->client_mac, macs->from) &&
	    packet_same_mac(known->port_mac, macs->to))
		return;
	__builtin_memcpy(way.client_mac, macs->from, ETH_ALEN);
	__builtin_memcpy(way.port_mac, macs->to, ETH_ALEN);
	bpf_map_update_elem(&FABRIC_WAYS, client, &way, BPF_ANY);
}

static __always_inline int send_datagram(struct __sk_buff *skb, const struct packet *p, const struct packet_macs *macs,
					 __u32 device, __u32 counter)
{
	struct fabric_host *host = bpf_map_lookup_elem(&FABRIC_HOSTS, &device);

	if (!host || !host->ifindex)
		return count(FABRIC_COUNT_client_no_device, TC_ACT_UNSPEC);
	learn_way(skb, p->flow.client, macs);
	traffic_received(skb, p, device);
	mark(skb);
	return send_to(skb, host->mac, host->port_mac, host->ifindex, counter);
}

static __always_inline int is_from_client(const struct packet_macs *macs, const __u8 source[16], const __u8 target[16],
					  int behind)
{
	return (behind & CLIENTS) && is_vip(target) && !is_vip(source) && !((behind & DEVICES) && member_of(macs->from));
}

/* Return: a verdict; -1: it is not for a device */
static __noinline int on_datagram(struct __sk_buff *skb, const struct packet *p, int behind)
{
	struct packet_macs macs;
	__u32 device;

	if (!p || p->flow.vip_port != constants.nfs_port || packet_get_macs(skb, &macs) ||
	    !is_from_client(&macs, p->flow.client, p->flow.vip, behind))
		return -1;
	device = device_of_datagram(skb, ETH_HLEN + p->headers_len - sizeof(struct udphdr));
	return device == FABRIC_MAP_SWITCH ? -1 : send_datagram(skb, p, &macs, device, FABRIC_COUNT_client_datagram);
}

static __always_inline int send_back(struct __sk_buff *skb, const __u8 client[16], __u32 counter)
{
	struct fabric_way *way = bpf_map_lookup_elem(&FABRIC_WAYS, client);

	if (way)
		return send_to(skb, way->client_mac, way->port_mac, way->ifindex, counter);
	return count(FABRIC_COUNT_device_by_route, bpf_redirect_neigh(constants.client_ifindex, NULL, 0, 0));
}

/* What is counted, of a fragment. */
static __always_inline struct packet packet_of_fragment(const struct fragment *f, const __u8 client[16])
{
	struct packet p = { .len = f->len };

	__builtin_memcpy(p.flow.client, client, sizeof(p.flow.client));
	return p;
}

/* The first one decides, unless a later one has come before. */
static __always_inline int on_client_fragment(struct __sk_buff *skb, const struct fragment *f,
					      const struct packet_macs *macs)
{
	__u32 known = fragment_device(f), device = known;
	struct packet p;

	if (f->is_first && known != FABRIC_MAP_SWITCH)
		device = device_of_datagram(skb, f->at);
	if (!device) {
		fragment_remember(f, FABRIC_MAP_SWITCH);
		return count(FABRIC_COUNT_client_fragment_early, TC_ACT_UNSPEC);
	}
	if (device != known)
		fragment_remember(f, device);
	if (device == FABRIC_MAP_SWITCH)
		return count(FABRIC_COUNT_fragment, TC_ACT_UNSPEC);
	p = packet_of_fragment(f, f->key.source);
	return send_datagram(skb, &p, macs, device, FABRIC_COUNT_client_fragment);
}

static __always_inline int on_device_fragment(struct __sk_buff *skb, const struct fragment *f,
					      const struct packet_macs *macs)
{
	struct packet p = packet_of_fragment(f, f->key.target);
	__u32 device = member_of(macs->from);

	if (!device) {
		note_refusal(skb, FABRIC_REFUSAL_device_fenced, macs->from, f->key.target, 0);
		return count(FABRIC_COUNT_device_fenced, TC_ACT_SHOT);
	}
	traffic_sent(skb, &p, device);
	mark(skb);
	return send_back(skb, f->key.target, FABRIC_COUNT_device_fragment);
}

static __noinline int on_fragment(struct __sk_buff *skb, int behind)
{
	struct packet_macs macs;
	struct fragment f;

	if (fragment_read(skb, &f) || packet_get_macs(skb, &macs))
		return count(FABRIC_COUNT_short_packet, TC_ACT_UNSPEC);
	if (f.key.protocol != IPPROTO_UDP)
		return count(FABRIC_COUNT_fragment, TC_ACT_UNSPEC);
	if (is_from_client(&macs, f.key.source, f.key.target, behind))
		return on_client_fragment(skb, &f, &macs);
	if ((behind & DEVICES) && is_vip(f.key.source) && !is_vip(f.key.target))
		return on_device_fragment(skb, &f, &macs);
	return count(FABRIC_COUNT_fragment, TC_ACT_UNSPEC);
}

/*
 * ICMP from a client's side, about what a device has sent. Routers have addresses of their own, so nothing is learned of the client.
 */
static __noinline int on_error(struct __sk_buff *skb, int behind)
{
	struct fabric_entry *entry;
	struct fabric_host *host;
	struct packet_macs macs;
	struct flow_key flow;
	__u32 device;

	if (icmp_read_error(skb, &flow) || !is_vip(flow.vip) || packet_get_macs(skb, &macs) ||
	    ((behind & DEVICES) && member_of(macs.from)))
		return count(FABRIC_COUNT_other, TC_ACT_UNSPEC);
	entry = bpf_map_lookup_elem(&FABRIC_FLOWS, &flow);
	if (!entry || entry->device == FABRIC_MAP_SWITCH)
		return count(FABRIC_COUNT_other, TC_ACT_UNSPEC);
	device = entry->device;
	host = bpf_map_lookup_elem(&FABRIC_HOSTS, &device);
	if (!host || !host->ifindex)
		return count(FABRIC_COUNT_client_no_device, TC_ACT_UNSPEC);
	return send_to(skb, host->mac, host->port_mac, host->ifindex, FABRIC_COUNT_client_error);
}

/* @entry may be NULL: then the switch knows the client from its datagrams, or from its neighbour table only. */
static __always_inline int on_device_packet(struct __sk_buff *skb, const struct packet *p, struct fabric_entry *entry)
{
	__u32 counter = FABRIC_COUNT_device_returned, device = 0;
	struct fabric_host *host = NULL;
	struct packet_macs macs;

	if (packet_get_macs(skb, &macs))
		return count(FABRIC_COUNT_short_packet, TC_ACT_UNSPEC);
	if (entry) {
		device = entry->device;
		host = bpf_map_lookup_elem(&FABRIC_HOSTS, &device);
	}
	if (!host || !packet_same_mac(host->mac, macs.from)) {
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
		if (counter == FABRIC_COUNT_device_returned && is_refusal(entry, p))
			return on_refusal(entry);
		follow_close(entry, p->tcp_flags);
		track_segment(skb, p, &entry->ends.server);
	}
	traffic_sent(skb, p, device);
	mark(skb);
	if (entry && entry->client_ifindex)
		return send_to(skb, entry->client_mac, entry->port_mac, entry->client_ifindex, counter);
	return send_back(skb, p->flow.client, FABRIC_COUNT_device_datagram);
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

static __always_inline int on_unknown_client(struct __sk_buff *skb, struct packet *p, int behind)
{
	struct packet_macs macs;

	if (packet_get_macs(skb, &macs))
		return count(FABRIC_COUNT_short_packet, TC_ACT_UNSPEC);
	if ((behind & DEVICES) && member_of(macs.from))
		return count(FABRIC_COUNT_relayed, TC_ACT_UNSPEC);
	turn_round(p);
	traffic_received(skb, p, FABRIC_MAP_SWITCH);
	if (packet_opens(p) && p->flow.vip_port == constants.nfs_port)
		track_opening(skb, p);
	return count(FABRIC_COUNT_client_unknown, TC_ACT_UNSPEC);
}

/* @p is turned round. */
static __always_inline int on_packet_without_entry(struct __sk_buff *skb, struct packet *p, int behind)
{
	if (is_vip(p->flow.client))
		return behind & CLIENTS ? on_unknown_client(skb, p, behind) : count(FABRIC_COUNT_relayed, TC_ACT_UNSPEC);
	if (!is_vip(p->flow.vip))
		return count(FABRIC_COUNT_not_vip, TC_ACT_UNSPEC);
	return behind & DEVICES ? on_device_packet(skb, p, NULL) : count(FABRIC_COUNT_client_spoofed, TC_ACT_SHOT);
}

/* A function of its own, beside on_eap(): what both need on the stack together is too much. */
static __noinline int on_session_packet(struct __sk_buff *skb, struct packet *p, int behind)
{
	struct fabric_entry *entry;
	int verdict;

	if (!p)
		return TC_ACT_SHOT; /* for the verifier */
	if (behind & CLIENTS) {
		entry = bpf_map_lookup_elem(&FABRIC_FLOWS, &p->flow);
		if (!entry)
			entry = find_opening(skb, p, behind);
		if (entry)
			return on_client_packet(skb, p, entry, behind);
		verdict = p->flow.protocol == IPPROTO_UDP ? on_datagram(skb, p, behind) : -1;
		if (verdict >= 0)
			return verdict;
	}
	turn_round(p);
	if (behind & DEVICES) {
		entry = bpf_map_lookup_elem(&FABRIC_FLOWS, &p->flow);
		if (!entry && p->flow.protocol == IPPROTO_TCP)
			entry = bpf_map_lookup_elem(&FABRIC_OPENINGS, &p->flow);
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
	if (entry->state == FABRIC_ENTRY_OPENING)
		entry->state = FABRIC_ENTRY_FORWARD;
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

/* Not of flows that the switch has taken back: their client's place is where it was. */
static __always_inline void remember_owner(const struct flow_key *flow, const struct fabric_order *order)
{
	if (order->changed && (order->has_transaction || order->device != FABRIC_MAP_SWITCH))
		remember_client(flow, order->device);
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

	return host && host->ifindex == skb->ifindex && packet_same_mac(host->mac, ask->macs.from);
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
	remember_owner(&order.flow, &order);
	if (order.changed)
		tell_daemon(&order);
	return answer_eap(skb, ask, key, &order, error);
}

/* Without a configured address of ours, whatever is no VIP may be one: then what we route is filtered, too. */
static __always_inline int is_to_us(const struct flow_key *flow)
{
	__u64 words[2];

	if (is_vip(flow->vip) || (!constants.eap_address[0] && !constants.eap_address[1]))
		return 1;
	__builtin_memcpy(words, flow->vip, sizeof(words));
	return words[0] == constants.eap_address[0] && words[1] == constants.eap_address[1];
}

/*
 * Return: whether the packet must not go on, and was counted. Where clients and devices share a port, members are known by their
 * MAC.
 */
static __always_inline int is_filtered(struct __sk_buff *skb, enum packet_kind kind, struct packet *p, int behind)
{
	__u32 services = filter_services(skb, &constants, kind, p);
	struct fabric_filter *filter;
	struct packet_macs macs;

	if (!services || !is_to_us(&p->flow))
		return 0;
	filter = filter_against(&p->flow, services);
	if (!filter || packet_get_macs(skb, &macs) || ((behind & DEVICES) && member_of(macs.from)))
		return 0;
	__sync_fetch_and_add(&filter->refused, 1);
	note_refusal(skb, FABRIC_REFUSAL_client_filtered, macs.from, p->flow.client, 0);
	return 1;
}

static __always_inline int on_packet(struct __sk_buff *skb, int behind)
{
	struct packet p __attribute__((aligned(8)));
	enum packet_kind kind;

	if (skb->pkt_type != PACKET_HOST)
		return count(FABRIC_COUNT_elsewhere, TC_ACT_UNSPEC);
	kind = packet_read(skb, PACKET_FROM_CLIENT, &p);
	if ((behind & CLIENTS) && is_filtered(skb, kind, &p, behind))
		return count(FABRIC_COUNT_client_filtered, TC_ACT_SHOT);
	switch (kind) {
	case PACKET_SESSION:
		return is_eap(&p) ? on_eap(skb, &p, behind) : on_session_packet(skb, &p, behind);
	case PACKET_FRAGMENT:
		return on_fragment(skb, behind);
	case PACKET_SHORT:
		return count(FABRIC_COUNT_short_packet, TC_ACT_UNSPEC);
	default:
		return behind & CLIENTS ? on_error(skb, behind) : count(FABRIC_COUNT_other, TC_ACT_UNSPEC);
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

/* Before the connection is accepted, it has no entry. */
static __always_inline void track_own(struct __sk_buff *skb, const struct packet *p)
{
	struct fabric_entry *entry = NULL;

	if (p->flow.protocol == IPPROTO_TCP)
		entry = bpf_map_lookup_elem(&FABRIC_FLOWS, &p->flow);
	if (entry)
		track_segment(skb, p, &entry->ends.server);
	else if (p->tcp_flags & TCP_FLAG_SYN)
		track_answer(skb, p);
}

/* On the way out to clients, behind the node program. What came in by a port was dealt with there. */
SEC("tc")
int fabric_out(struct __sk_buff *skb)
{
	struct packet p __attribute__((aligned(8)));

	if (skb->ingress_ifindex || packet_read(skb, PACKET_TO_CLIENT, &p) != PACKET_SESSION || !is_vip(p.flow.vip))
		return count(FABRIC_COUNT_out_other, TC_ACT_UNSPEC);
	traffic_sent(skb, &p, FABRIC_MAP_SWITCH);
	track_own(skb, &p);
	mark(skb);
	return count(FABRIC_COUNT_switch_sent, TC_ACT_UNSPEC);
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

	track_accepted(flow, &entry.ends);
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
	remember_owner(&flow, order);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
