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

#define NODE_FLOWS node_flows_5
#define NODE_COUNTS node_counts_5

enum { NODE_FLOWS_MAX = 65536 };

enum node_state {
	NODE_HOLD = 1,	/* in: park; out: drop */
	NODE_RELAY = 2, /* in: to the new owner; out: drop */
	NODE_OPEN = 3,	/* as if there were no entry, which is about to go */
	NODE_ORDER = 4,	/* in: to our stack what follows what has come in, else park; out: pass */
	NODE_HALF = 5,	/* in: to our stack; out: as the part of the connection that this device has */
};

/* Which part of a connection a device has, in a half handoff (the source's Fig. 7 and 8). Both sockets receive. */
enum node_part {
	NODE_WHOLE = 0,
	NODE_SENDS = 1,	   /* speaks to the client, and acknowledges to it what both have received */
	NODE_RECEIVES = 2, /* is silent: tells the other device what it acknowledges */
};

/* Where parked packets go, and later ones follow. */
struct node_way {
	__u32 relay_ifindex; /* leads to the new owner, or the other half's; 0: to our own stack */
	__u8 speaks;	     /* our stack's packets pass, even in HOLD */
	__u8 part;	     /* enum node_part */
	__u8 copies;	     /* to our own stack, and to the other half's */
	__u8 zero;
	__u8 to_mac[6];	     /* the other device's */
	__u8 from_mac[6];    /* the relay interface's own */
};

/* What each of two devices has said in a connection of which each has a half. Sequence numbers in host byte order. */
struct node_half {
	__u32 own_acknowledged, own_edge;   /* by our stack, and the right edge of its window */
	__u32 peer_acknowledged, peer_edge; /* by the other's */
	__u32 said_acknowledged, said_edge; /* what the client was told */
	__u32 send_unacknowledged, send_next; /* of our stack: what the client says to the other is kept between them */
	__u32 stamp;			    /* the last time stamp of our stack */
	__u32 client_ifindex;		    /* where our stack's packets leave; 0: none has */
	__u8 client_mac[6], port_mac[6];    /* ... to whom, from whom */
	__u32 window_scale;		    /* of what devices say */
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
	__u32 next_sequence; /* ORDER, HALF: the first byte that has not come in */
	struct node_half half;
};

enum node_when {
	NODE_AFTER_LAST = 0, /* if all parked packets have been written back, else -EAGAIN */
	NODE_AT_LAST = 1,    /* the same, but the last one, when written back, will do it */
	NODE_NOW = 2,	     /* in any case */
	NODE_LATER = 3,	     /* the state stays ORDER: only take note of what has come in */
	NODE_PREPARE = 4,    /* the state stays: only take note of what will count in HALF */
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
	struct node_half half; /* NODE_PREPARE */
};

/*
 * A device that receives tells the one that sends what it acknowledges: by its own stack's bare acknowledgment, with the ends
 * exchanged, so that it goes through the network as a relayed packet of the client, and this of TCP's reserved bits set (RFC
 * 9293, 3.1), so that it is not taken for one.
 */
#define NODE_EXCHANGE 0x02

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
	X(in_half)	    /* HALF */                                               \
	X(half_copied)	    /* HALF: to the other device, too */                     \
	X(half_failed)	    /* HALF: dropped, could not be rewritten */              \
	X(half_told)	    /* HALF: what our stack acknowledges, to the other device */ \
	X(half_heard)	    /* HALF: the same from there: noted */                   \
	X(half_passed_on)   /* HALF: ... and passed on to the client */              \
	X(half_withheld)    /* HALF: the other device has not received as much */    \
	X(half_forged)	    /* dropped: a device says so, and can't mean it */       \
	X(half_late)	    /* dropped: a device says so that has no half (any more) */  \
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

_Static_assert(sizeof(struct node_flow) == 104, "NODE_FLOWS value");
_Static_assert(sizeof(struct node_order) == 136, "as node_command() takes it");

#endif
