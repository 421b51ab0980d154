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

#define FABRIC_FLOWS fabric_flows_5
#define FABRIC_HOSTS fabric_hosts_1
#define FABRIC_MACS fabric_macs_1
#define FABRIC_COUNTS fabric_count_3
#define FABRIC_KEYS fabric_keys_1
#define FABRIC_MOVES fabric_moves_1
#define FABRIC_REFUSALS fabric_refuse_2

enum {
	FABRIC_MAP_DEVICES = 256, /* FABRIC_DEVICES_MAX */
	FABRIC_MAP_VIPS = 8,	  /* FABRIC_VIPS_MAX */
	FABRIC_MAP_SWITCH = 1,	  /* FABRIC_SWITCH */
	FABRIC_MAP_MOVES_BYTES = 1 << 20, /* more than 10,000 changes of owner, a second's worth */
};

enum fabric_entry_state { FABRIC_ENTRY_FORWARD = 1, FABRIC_ENTRY_CLOSING = 2 };

/* The value of FABRIC_FLOWS; its key is struct flow_key. */
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
	__u64 closing_ns; /* CLOSING: time of the last packet, CLOCK_MONOTONIC */
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

/* The programs' constants. */
struct fabric_constants {
	__u32 vip_count;
	__u32 client_ifindex; /* for a client that was not seen yet: our first client port */
	__u64 vips[FABRIC_MAP_VIPS][2]; /* the 16 bytes of an address, compared as two words */
	__u64 eap_address[2]; /* where EAP datagrams go; 0: any that is no VIP */
	__u32 eap_port;	      /* as in the packet; 0: nowhere */
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
	X(client_forwarded)   /* to the owner */                                         \
	X(client_no_device)   /* the owner is no member: the switch's stack */           \
	X(client_spoofed)     /* dropped: source is a VIP */                             \
	X(relayed)	      /* from a device to the switch: its stack */               \
	X(device_returned)    /* to the client */                                        \
	X(device_not_owner)   /* to the client, by a device that is not the owner yet */ \
	X(device_by_route)    /* to the client, by the switch's neighbour table */       \
	X(rewrite_failed)     /* dropped */                                              \
	X(eap_performed)      /* a datagram changed an owner, or found it so */          \
	X(eap_announced)      /* a datagram said who may be the next owner */            \
	X(eap_late)	      /* answered ESTALE: a later handoff is known */            \
	X(eap_no_flow)	      /* answered ENOENT: no entry; the daemon decides */        \
	X(eap_no_device)      /* answered ENODEV: the new owner is no member */          \
	X(eap_unsupported)    /* answered EOPNOTSUPP: another operation */               \
	X(eap_untold)	      /* performed, but the daemon will not hear of it: no room */ \
	FABRIC_REFUSAL_REASONS(X)

#define FABRIC_COUNTER_ENUM(name) FABRIC_COUNT_##name,
enum fabric_map_counter { FABRIC_COUNTERS(FABRIC_COUNTER_ENUM) FABRIC_NCOUNTERS };
#undef FABRIC_COUNTER_ENUM

_Static_assert(sizeof(struct fabric_entry) == 48, "FABRIC_FLOWS value");
_Static_assert(sizeof(struct fabric_host) == 16, "FABRIC_HOSTS value");
_Static_assert(sizeof(struct fabric_mac) == 8, "FABRIC_MACS key");
_Static_assert(sizeof(struct fabric_key) == 32, "FABRIC_KEYS value");
_Static_assert(sizeof(struct fabric_move_record) == 56, "FABRIC_MOVES record");
_Static_assert(sizeof(struct fabric_refusal_note) == 32, "FABRIC_REFUSALS value");
_Static_assert(sizeof(struct fabric_order) == 64, "fabric_command()'s context");

#endif
