/* SPDX-License-Identifier: (GPL-3.0-or-later OR BSD-2-Clause OR GPL-2.0) */
/*
 * scp/eap_wire.h - an EAP datagram as the fabric's BPF program reads and writes it
 *
 * The verifier does not follow a cursor over bytes, so here the format of scp/eap.h is a packed struct. It has this one user;
 * tests/platform/test_eap.c lets both sides talk to each other.
 */
#ifndef VNAS_SCP_EAP_WIRE_H
#define VNAS_SCP_EAP_WIRE_H

#include <linux/types.h>
#include <stddef.h>

/* Repeats scp/eap.h, which is not for BPF. */
enum {
	EAP_WIRE_VERSION = 1,
	EAP_WIRE_CHANGE = 2,
	EAP_WIRE_SET = 3,
	EAP_WIRE_REQUEST = 1,
	EAP_WIRE_ANSWER = 2,
};

/* What an answer says anew. */
struct eap_wire_end {
	__u8 kind, zero;
	__be16 result;
	__be32 generation;
	__be64 counter;
	__be64 hash; /* over all before it, from the beginning of the datagram */
} __attribute__((packed));

struct eap_wire {
	__u8 head; /* version << 4 | operation */
	__u8 nonce[3];
	__u8 protocol;
	__be16 client_port, vip_port;
	__be16 transaction;
	__be32 cluster;
	__u8 family;
	__be32 device;
	__u8 client[16], vip[16];
	struct eap_wire_end end;
} __attribute__((packed));

_Static_assert(offsetof(struct eap_wire, cluster) == 11, "scp/eap.h");
_Static_assert(offsetof(struct eap_wire, end) == 52, "scp/eap.h");
_Static_assert(offsetof(struct eap_wire, end.counter) == 60, "scp/eap.h");
_Static_assert(sizeof(struct eap_wire) == 76, "scp/eap.h");

#endif
