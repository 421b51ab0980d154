/* SPDX-License-Identifier: (GPL-3.0-or-later OR BSD-2-Clause OR GPL-2.0) */
/*
 * master/fabric_map.h - what the fabric's BPF programs (master/fabric.bpf.c) and its user space share
 *
 * Who writes: user space writes devices, MACs and keys; flows are changed by BPF programs only, user space asks
 * fabric_command() to, so that no count and no FIN is lost in between. The maps are pinned and outlive the daemon.
 * Whoever changes what a field means changes the number in the map's name.
 */
#ifndef VNAS_MASTER_FABRIC_MAP_H
#define VNAS_MASTER_FABRIC_MAP_H

#include "common/flow.h"

#define FABRIC_FLOWS fabric_flows_7
#define FABRIC_OPENINGS fabric_open_2
#define FABRIC_SYNS fabric_syns_1
#define FABRIC_FIRST fabric_first_3
#define FABRIC_GIVEN fabric_given_1
#define FABRIC_HOMES fabric_homes_1
#define FABRIC_VOLUMES fabric_volume_1
#define FABRIC_WAYS fabric_ways_1
#define FABRIC_FRAGMENTS fabric_frag_1
#define FABRIC_HOSTS fabric_hosts_1
#define FABRIC_MACS fabric_macs_1
#define FABRIC_COUNTS fabric_count_8
#define FABRIC_KEYS fabric_keys_1
#define FABRIC_MOVES fabric_moves_1
#define FABRIC_REFUSALS fabric_refuse_3
#define FABRIC_DEVICE_TRAFFIC fabric_device_1
#define FABRIC_CLIENT_TRAFFIC fabric_client_1
#define FABRIC_FILTERS fabric_filters /* not pinned: new with the programs */

enum {
	FABRIC_MAP_DEVICES = 256, /* FABRIC_DEVICES_MAX */
	FABRIC_MAP_VIPS = 8,	  /* FABRIC_VIPS_MAX */
	FABRIC_MAP_SWITCH = 1,	  /* FABRIC_SWITCH */
	FABRIC_MAP_CLIENTS = 16384, /* FABRIC_CLIENTS_MAX */
	FABRIC_MAP_OPENINGS = 1 << 16, /* the longest not used goes first */
	FABRIC_MAP_HOMES = 1 << 16,    /* the same */
	FABRIC_MAP_FILTERS = 512,   /* twice FABRIC_FILTERS_MAX: while others take their place */
	FABRIC_MAP_ADDRESS_BITS = 128,
	FABRIC_MAP_WAYS = 1 << 14,     /* the same */
	FABRIC_MAP_FRAGMENTS = 1 << 14, /* the same */
	FABRIC_MAP_VOLUMES = 1 << 16,
	FABRIC_MAP_TURNS = 1024, /* FABRIC_TURNS_MAX */
	FABRIC_MAP_MOVES_BYTES = 1 << 20, /* more than 10,000 changes of owner, a second's worth */
};

/* OPENING: the client's last packet was a SYN. */
enum fabric_entry_state { FABRIC_ENTRY_FORWARD = 1, FABRIC_ENTRY_CLOSING = 2, FABRIC_ENTRY_OPENING = 4 };

enum fabric_end_flag {
	FABRIC_END_SEEN = 1,	/* a segment of it was */
	FABRIC_END_ACKED = 2,	/* it has acknowledged something */
	FABRIC_END_SYN = 4,	/* what only a SYN says is known */
	FABRIC_END_SCALE = 8,	/* it said so: a window scale, ... */
	FABRIC_END_SACK = 16,
	FABRIC_END_TIMES = 32,	/* timestamps */
	FABRIC_END_CLOSED = 64, /* FIN or RST */
};

/* One end of a connection, by what it has sent (master/fabric_track.bpf.h). In host byte order. */
struct fabric_end {
	__u32 first;	    /* its SYN's sequence number */
	__u32 next;	    /* behind the last byte that it sent */
	__u32 acknowledged; /* the highest */
	__u32 time;	    /* its last timestamp */
	__u16 window;	    /* the last, as on the wire */
	__u16 mss;
	__u8 scale;
	__u8 flags; /* enum fabric_end_flag */
	__u16 zero;
};

/* The value of FABRIC_SYNS; its key is struct flow_key. */
struct fabric_ends {
	struct fabric_end client, server;
};

/*
 * The value of FABRIC_FLOWS; its key is struct flow_key. FABRIC_OPENINGS has the same, of connections that were given straight to
 * a device: from the client's SYN to its next packet. SYNs can't fill FABRIC_FLOWS.
 */
struct fabric_entry {
	__u32 device; /* where packets go: index into FABRIC_HOSTS */
	__u32 generation;
	__u8 state; /* enum fabric_entry_state */
	__u8 has_transaction;
	__u16 transaction;    /* of the session's last handoff that the switch heard of */
	__u32 client_ifindex; /* where the client's last packet came in; 0: not seen yet */
	__u8 client_mac[6];   /* its source, a router's perhaps */
	__u8 port_mac[6];     /* its destination, our own */
	__u32 former;	      /* who had it before: up to four devices, a byte each, the last one lowest */
	__u64 packets;	  /* both directions, as far as they pass here */
	__u64 closing_ns; /* CLOSING: time of the last packet, CLOCK_MONOTONIC; OPENING: when @device was chosen */
	struct fabric_ends ends;
};

/* Who gets new connections. Numbers as in enum fabric_first_policy. */
enum fabric_map_first { FABRIC_MAP_FIRST_SWITCH, FABRIC_MAP_FIRST_IN_TURN, FABRIC_MAP_FIRST_OF_CLIENT };

/* The value of FABRIC_FIRST, an array of one. */
struct fabric_first {
	__u32 policy;	   /* enum fabric_map_first */
	__u32 count;	   /* of @turns */
	__u64 full_ns;	   /* when FABRIC_FLOWS had no room; new connections are the switch's for a while */
	__u32 turn;	   /* counts */
	__u8 turns[FABRIC_MAP_TURNS]; /* whose turn it is, one after the other: a device may have several */
	__u8 takes[FABRIC_MAP_DEVICES];	  /* by device: is it one of them? */
	__u32 zero;
};

/* The value of FABRIC_WAYS: where the last datagram of a client came in that went to a device. Its key is struct fabric_client. */
struct fabric_way {
	__u32 ifindex;
	__u8 client_mac[6]; /* its source, a router's perhaps */
	__u8 port_mac[6];   /* its destination, our own */
};

/* The key of FABRIC_FRAGMENTS: what IP puts a datagram together by. */
struct fabric_fragment_key {
	__u8 source[16], target[16]; /* IPv4-mapped */
	__be32 id;		     /* IPv4: 16 bits */
	__u8 protocol;
	__u8 zero[3];
};

struct fabric_fragment {
	__u64 ns; /* when it was chosen, CLOCK_MONOTONIC */
	__u32 device;
	__u32 zero;
};

/* The value of FABRIC_HOSTS, an array: where a device is. ifindex 0: no such device. */
struct fabric_host {
	__u32 ifindex;
	__u8 mac[6];
	__u8 port_mac[6]; /* the switch's own on that port */
};

/* The key of FABRIC_MACS; the value is the device's index as __u32. */
struct fabric_mac {
	__u8 mac[6];
	__u8 zero[2];
};

/* The value of FABRIC_KEYS, an array by device: what it signs EAP datagrams with (scp/eap_wire.h). */
struct fabric_key {
	__u8 bytes[16];
	__u64 counter; /* of the last datagram that was accepted */
	__u32 is_set;
	__u32 zero;
};

/* A record in FABRIC_MOVES, a ring: a device has given a flow away by a datagram. */
struct fabric_move_record {
	struct flow_key flow;
	__u32 from, device;
	__u32 generation;
	__u16 transaction;
	__u16 zero;
};

/* The value of FABRIC_REFUSALS, an array by enum fabric_map_refusal: the last packet that was refused for this reason. */
struct fabric_refusal_note {
	__u8 mac[6]; /* who sent it, as far as a MAC tells */
	__u8 zero[2];
	__u8 address[16]; /* an EAP datagram's IP source; else the client's */
	__u32 device;	  /* who an EAP datagram says it is; else whose MAC it is, 0: nobody's */
	__u32 ifindex;
};

/*
 * What clients sent and got, as IP packets on the wire: one that is to be cut up by a network card counts as its pieces. The
 * value, per CPU, of FABRIC_DEVICE_TRAFFIC, an array by device, and of FABRIC_CLIENT_TRAFFIC.
 */
struct fabric_traffic {
	__u64 received_packets, received_bytes; /* from clients */
	__u64 sent_packets, sent_bytes;
};

/*
 * The key of FABRIC_CLIENT_TRAFFIC, an LRU map: anybody may use any address; and of FABRIC_HOMES, whose value is the device that
 * a session of the client was last given to, as __u32.
 */
struct fabric_client {
	__u8 address[16];
};

/* Bits: what clients may be kept from. */
enum fabric_map_service {
	FABRIC_SERVICE_NFS = 1, /* NFS, MOUNT and locks, one port */
	FABRIC_SERVICE_PORTMAPPER = 2,
	FABRIC_SERVICE_SCP = 4, /* and EAP */
	FABRIC_SERVICE_ALL = 7,
};

/* The key of FABRIC_FILTERS, a trie: the longest prefix of a client's address decides. */
struct fabric_network {
	__u32 bits;
	__u8 address[16]; /* IPv4-mapped */
};

struct fabric_filter {
	__u32 services; /* that it may reach */
	__u32 bits;	/* of its key: a look-up may find a shorter prefix */
	__u64 refused; /* packets */
};

/* The programs' constants. */
struct fabric_constants {
	__u32 vip_count;
	__u32 client_ifindex; /* for a client that was not seen yet: our first client port */
	__u64 vips[FABRIC_MAP_VIPS][2]; /* the 16 bytes of an address, compared as two words */
	__u64 eap_address[2]; /* where EAP datagrams go; 0: any that is no VIP */
	__u32 eap_port;	      /* as in the packet; 0: nowhere; so are those below */
	__u32 nfs_port, portmap_port;
	__u32 serves_first;   /* give packets between clients and VIPs the priority that queues serve first */
	__u32 marks;	      /* set their DSCP */
	__u32 dscp;
	__u32 cluster;
};

/* What user space asks of fabric_command(). */
struct fabric_order {
	struct flow_key flow;
	__u32 device;	  /* the new owner */
	__u32 old_device; /* only if this is the owner, or the new one already; 0: whoever it is, or make an entry */
	__u32 generation; /* out */
	__s32 error;	  /* out: 0 or negative errno value */
	__u16 transaction; /* of the session's handoff, if it is one */
	__u8 has_transaction;
	__u8 announces; /* the owner stays: @device is the next one, perhaps */
	__u32 changed;	/* out: @device is not what it was before */
};

/* What was refused, and is worth a line in the log. Names of counters, too. */
#define FABRIC_REFUSAL_REASONS(X)                                                          \
	X(client_filtered)   /* dropped: its network may not reach this service */         \
	X(device_fenced)     /* dropped: to a client, from no member */                    \
	X(device_former_owner) /* dropped: to a client, from a device that had the flow before */ \
	X(eap_malformed)     /* dropped: length, version or kind */                        \
	X(eap_stranger)	     /* dropped: not from the port and MAC of the device it names, or that has no key */ \
	X(eap_forged)	     /* dropped: its hash is wrong */                              \
	X(eap_replayed)	     /* dropped: its counter was used before */                    \
	X(eap_other_cluster) /* dropped */                                                 \
	X(eap_not_owner)     /* answered EPERM: another device has the flow */

#define FABRIC_REFUSAL_ENUM(name) FABRIC_REFUSAL_##name,
enum fabric_map_refusal { FABRIC_REFUSAL_REASONS(FABRIC_REFUSAL_ENUM) FABRIC_NREFUSALS };
#undef FABRIC_REFUSAL_ENUM

/*
 * Why a packet went where it went; FABRIC_COUNTS is an array per CPU with one __u64 for each.
 *	client_*	from a client to a VIP		device_*	from a device to a client
 */
#define FABRIC_COUNTERS(X)                                                             \
	X(other)	      /* not IP, not TCP or UDP: the stack's */                  \
	X(elsewhere)	      /* not addressed to the switch's MAC */                    \
	X(fragment)	      /* passed to the stack */                                  \
	X(short_packet)	      /* passed to the stack */                                  \
	X(not_vip)	      /* no business of ours */                                  \
	X(client_unknown)     /* no entry: the switch's stack */                         \
	X(client_switch)      /* the switch owns it: its stack */                        \
	X(client_reopened)    /* SYN gave an entry to the switch */                      \
	X(client_assigned)    /* SYN, straight to a device */                            \
	X(client_forwarded)   /* to the owner */                                         \
	X(client_no_device)   /* the owner is no member: the switch's stack */           \
	X(client_datagram)    /* a call over UDP, to the device that has its volume */   \
	X(client_fragment)    /* a part of one, the same way */                          \
	X(client_fragment_early) /* it came before the first: all that follow go to the switch's stack */ \
	X(client_error)	      /* ICMP about a packet of a flow, to the flow's owner */   \
	X(client_spoofed)     /* dropped: source is a VIP */                             \
	X(relayed)	      /* from a device to the switch: its stack */               \
	X(device_returned)    /* to the client */                                        \
	X(device_not_owner)   /* to the client, by a device that is not the owner yet */ \
	X(device_unwilling)   /* dropped: RST to a SYN; when it comes again, it is the switch's */ \
	X(device_datagram)    /* to the client, where its last datagram came from */     \
	X(device_fragment)    /* to the client, a part of a datagram */                  \
	X(device_by_route)    /* to the client, by the switch's neighbour table */       \
	X(switch_sent)	      /* to a client, by the switch's own stack */               \
	X(out_other)	      /* leaves, and is nobody's answer to a client, or was counted when it came */ \
	X(rewrite_failed)     /* dropped */                                              \
	X(eap_performed)      /* a datagram changed an owner, or found it so */          \
	X(eap_announced)      /* a datagram said who may be the next owner */            \
	X(eap_late)	      /* answered ESTALE: a later handoff is known */            \
	X(eap_no_flow)	      /* answered ENOENT: no entry; the daemon decides */        \
	X(eap_no_device)      /* answered ENODEV: the new owner is no member */          \
	X(eap_unsupported)    /* answered EOPNOTSUPP: another operation */               \
	X(eap_untold)	      /* performed, but the daemon will not hear of it: no room */ \
	FABRIC_REFUSAL_REASONS(X)

/* Those of packets that went nowhere: dropped, or refused with an error. */
#define FABRIC_DROPS(X) X(client_spoofed) X(device_unwilling) X(rewrite_failed) FABRIC_REFUSAL_REASONS(X)

#define FABRIC_COUNTER_ENUM(name) FABRIC_COUNT_##name,
enum fabric_map_counter { FABRIC_COUNTERS(FABRIC_COUNTER_ENUM) FABRIC_NCOUNTERS };
#undef FABRIC_COUNTER_ENUM

_Static_assert(sizeof(struct fabric_entry) == 96, "FABRIC_FLOWS value");
_Static_assert(sizeof(struct fabric_ends) == 48, "FABRIC_SYNS value");
_Static_assert(sizeof(struct fabric_first) == 1304, "FABRIC_FIRST value");
_Static_assert(sizeof(struct fabric_client) == 16, "FABRIC_HOMES key");
_Static_assert(sizeof(struct fabric_way) == 16, "FABRIC_WAYS value");
_Static_assert(sizeof(struct fabric_fragment_key) == 40, "FABRIC_FRAGMENTS key");
_Static_assert(sizeof(struct fabric_fragment) == 16, "FABRIC_FRAGMENTS value");
_Static_assert(sizeof(struct fabric_host) == 16, "FABRIC_HOSTS value");
_Static_assert(sizeof(struct fabric_mac) == 8, "FABRIC_MACS key");
_Static_assert(sizeof(struct fabric_key) == 32, "FABRIC_KEYS value");
_Static_assert(sizeof(struct fabric_move_record) == 56, "FABRIC_MOVES record");
_Static_assert(sizeof(struct fabric_refusal_note) == 32, "FABRIC_REFUSALS value");
_Static_assert(sizeof(struct fabric_traffic) == 32, "FABRIC_DEVICE_TRAFFIC value");
_Static_assert(sizeof(struct fabric_network) == 20, "FABRIC_FILTERS key");
_Static_assert(sizeof(struct fabric_filter) == 16, "FABRIC_FILTERS value");
_Static_assert(sizeof(struct fabric_order) == 64, "fabric_command()'s context");

#endif
