/* SPDX-License-Identifier: (GPL-3.0-or-later OR BSD-2-Clause OR GPL-2.0) */
/*
 * common/node_map.h - what the node program (common/node.bpf.c) and the kernel helper share
 *
 * Who writes: the kernel helper writes flows, the program removes one on SYN and counts. The maps are pinned and
 * outlive the daemon. Whoever changes what a field means changes the number in the map's name: a pinned map of
 * another name is not taken up.
 */
#ifndef VNAS_COMMON_NODE_MAP_H
#define VNAS_COMMON_NODE_MAP_H

#include <linux/types.h>

#define NODE_FLOWS node_flows_1
#define NODE_COUNTS node_counts_1

enum { NODE_FLOWS_MAX = 65536 };

enum node_state {
	NODE_HOLD = 1,	  /* in: park; out: drop */
	NODE_RELAY = 2,	  /* in: to the new owner; out: drop */
	NODE_RELEASE = 3, /* in: park, until those before have been written back; out: pass */
};

/* The value of NODE_FLOWS; its key is struct flow_key. */
struct node_flow {
	__u32 state;	     /* enum node_state */
	__u32 park_ifindex;  /* the parking TAP */
	__u32 relay_ifindex; /* leads to the new owner; 0: not known yet */
	__u8 to_mac[6];	     /* the new owner's */
	__u8 from_mac[6];    /* the relay interface's own */
};

/*
 * Why a packet went where it went; NODE_COUNTS is an array per CPU with one __u64 for each.
 *	in_*	from the network	out_*	from our stack		park_*	written to the TAP, or sent to it
 */
#define NODE_COUNTERS(X)                                                          \
	X(in_other)	    /* not TCP */                                            \
	X(in_elsewhere)	    /* not addressed to this machine's MAC */                \
	X(in_fragment)	    /* passed to the stack */                                \
	X(in_short)	    /* passed to the stack */                                \
	X(in_local)	    /* no entry: the stack's */                              \
	X(in_reopened)	    /* SYN removed an entry */                               \
	X(in_parked)	    /* HOLD, RELEASE */                                      \
	X(in_relayed)	    /* RELAY */                                              \
	X(out_other)	    /* not TCP, fragments, forwarded for somebody else */    \
	X(out_local)	    /* no entry, or RELEASE: sent */                         \
	X(out_muted)	    /* HOLD or RELAY: dropped */                             \
	X(park_relayed)	    /* a parked packet went on to the new owner */           \
	X(park_returned)    /* a parked packet went into our own stack */            \
	X(park_foreign)	    /* our stack tried to send by the TAP: dropped */        \
	X(relay_hop_limit)  /* dropped: relayed too often */                         \
	X(relay_failed)	    /* dropped: could not be rewritten */                    \
	X(bad_state)	    /* an entry we do not understand: passed */

#define NODE_COUNTER_ENUM(name) NODE_COUNT_##name,
enum node_counter { NODE_COUNTERS(NODE_COUNTER_ENUM) NODE_NCOUNTERS };
#undef NODE_COUNTER_ENUM

_Static_assert(sizeof(struct node_flow) == 24, "NODE_FLOWS value");

#endif
