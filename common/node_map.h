/* SPDX-License-Identifier: (GPL-3.0-or-later OR BSD-2-Clause OR GPL-2.0) */
/*
 * common/node_map.h - what the node program (common/node.bpf.c) and the kernel helper share
 *
 * Who writes: the kernel helper makes and removes flows and has the program change them (struct node_order), the program
 * removes one on SYN and counts. The maps are pinned and outlive the daemon. Whoever changes what a field means changes
 * the number in the map's name: a pinned map of another name is not taken up.
 */
#ifndef VNAS_COMMON_NODE_MAP_H
#define VNAS_COMMON_NODE_MAP_H

#include "common/flow.h"

#include <linux/types.h>

#define NODE_FLOWS node_flows_4
#define NODE_COUNTS node_counts_3

enum { NODE_FLOWS_MAX = 65536 };

enum node_state {
	NODE_HOLD = 1,	/* in: park; out: drop */
	NODE_RELAY = 2, /* in: to the new owner; out: drop */
	NODE_OPEN = 3,	/* as if there were no entry, which is about to go */
	NODE_ORDER = 4,	/* in: to our stack what follows what has come in, else park; out: pass */
};

/* Where parked packets go, and later ones follow. */
struct node_way {
	__u32 relay_ifindex; /* leads to the new owner; 0: to our own stack */
	__u32 speaks;	     /* our stack's packets pass, even in HOLD */
	__u8 to_mac[6];	     /* the new owner's */
	__u8 from_mac[6];    /* the relay interface's own */
};

/* The low byte of a gate is the flow's enum node_state, the rest counts the packets that have come in since HOLD. */
#define NODE_GATE_PACKET 256
#define NODE_GATE_STATE(gate) ((gate) & 255)
#define NODE_GATE_PACKETS(gate) ((gate) / NODE_GATE_PACKET)

/* The value of NODE_FLOWS; its key is struct flow_key. */
struct node_flow {
	__u64 gate;	    /* a packet is counted and learns the state in one go */
	__u64 returned;	    /* parked packets that were written back; in ORDER, those that our stack has, too */
	__u32 park_ifindex; /* the parking TAP */
	__u32 next;	    /* enum node_state: what the last of the parked packets changes to; 0: nothing */
	struct node_way way;
	__u32 next_sequence; /* ORDER: the first byte that has not come in */
};

enum node_when {
	NODE_AFTER_LAST = 0, /* if all parked packets have been written back, else -EAGAIN */
	NODE_AT_LAST = 1,    /* the same, but the last one, when written back, will do it */
	NODE_NOW = 2,	     /* in any case */
	NODE_LATER = 3,	     /* the state stays ORDER: only take note of what has come in */
};

/* What the kernel helper has the program do with a held flow: send it on its way, and change its state. */
struct node_order {
	struct flow_key flow;
	struct node_way way;
	__u32 state; /* enum node_state */
	__u32 when;  /* enum node_when */
	__u32 returned; /* NODE_LATER: so many parked packets more */
	__u32 next_sequence; /* NODE_LATER: our stack has what is before it */
	__s32 error; /* out: 0; -EAGAIN: not yet, all else is done; -ENOENT: no such flow */
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
	X(in_parked)	    /* HOLD */                                               \
	X(in_next)	    /* ORDER: it was this packet's turn */                   \
	X(in_too_early)	    /* ORDER: parked, earlier ones have not come yet */      \
	X(in_relayed)	    /* RELAY */                                              \
	X(out_other)	    /* not TCP, fragments, forwarded for somebody else */    \
	X(out_local)	    /* no entry, or it may speak: sent */                    \
	X(out_muted)	    /* HOLD or RELAY: dropped */                             \
	X(park_relayed)	    /* a parked packet went on to the new owner */           \
	X(park_returned)    /* a parked packet went into our own stack */            \
	X(park_foreign)	    /* our stack tried to send by the TAP: dropped */        \
	X(order_by_last)    /* the last parked packet ended a hold on its way back */         \
	X(order_forced)	    /* a hold ended before all parked packets were back */   \
	X(relay_hop_limit)  /* dropped: relayed too often */                         \
	X(relay_failed)	    /* dropped: could not be rewritten */                    \
	X(bad_state)	    /* an entry we do not understand: passed */

#define NODE_COUNTER_ENUM(name) NODE_COUNT_##name,
enum node_counter { NODE_COUNTERS(NODE_COUNTER_ENUM) NODE_NCOUNTERS };
#undef NODE_COUNTER_ENUM

_Static_assert(sizeof(struct node_flow) == 48, "NODE_FLOWS value");
_Static_assert(sizeof(struct node_order) == 80, "as node_command() takes it");

#endif
