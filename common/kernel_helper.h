/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/kernel_helper.h - moving a live TCP connection out of and into this kernel
 *
 * The one door to TCP_REPAIR, to the node program (common/node.bpf.c, tc-BPF on clsact ingress and egress) and to the
 * parking TAP. Nothing else in the source knows how a connection is read, restored or silenced. Knows nothing of
 * messages, states of a handoff or what the bytes mean (common/tch.h).
 *
 * The order of a full handoff at the first device, step by step (../shared/handoff.md section 2, mode d):
 *	kernel_helper_hold -> kernel_helper_freeze -> (send) -> kernel_helper_relay -> kernel_helper_silence
 *	-> ... grace time ... -> kernel_helper_forget
 * or, if the second device says no: kernel_helper_release.
 * At the second device: kernel_helper_restore. Half handoffs are described at kernel_helper_share.
 *
 * Without BPF, the TAP or CAP_NET_ADMIN, kernel_helper_new() fails and the device relays only.
 *
 * Threads: all calls from one thread, the control loop's.
 */
#ifndef VNAS_COMMON_KERNEL_HELPER_H
#define VNAS_COMMON_KERNEL_HELPER_H

#include "common/flow.h"
#include "common/tcp_statistics.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct kernel_helper;

enum {
	KERNEL_HELPER_INTERFACES_MAX = 8,
	KERNEL_HELPER_INHERITED_MS = 60000, /* so long: the switch, too, may have been away */
	KERNEL_HELPER_HELD_MS = 3000, /* so long: the device that has the session by now reports it each second */
};

struct kernel_helper_options {
	const char *pin_dir; /* on a bpffs; made if missing; maps and programs stay here while the daemon restarts */
	const char *park_name; /* name of the TAP device, "vnas-park" */
	size_t interface_count;
	char interfaces[KERNEL_HELPER_INTERFACES_MAX][IFNAMSIZ]; /* where client or relayed packets come and go */
	unsigned int inherited_ms; /* how long it relays for an earlier run; 0: KERNEL_HELPER_INHERITED_MS */
	unsigned int held_ms;	   /* how long it holds for one; 0: KERNEL_HELPER_HELD_MS */
};

/* The facts about a connection that never change, read once when it is accepted or restored. */
struct kernel_helper_static {
	uint32_t mss_clamp;
	uint8_t send_wscale, receive_wscale;
	bool has_wscale, has_sack, has_timestamps;
	/*
	 * Of the socket, not of the connection: where the bytes begin that the kernel counts as acknowledged, and as received. A
	 * restored one begins with its send_unacknowledged and receive_next.
	 */
	uint32_t send_base, receive_base;
};

/* What the frozen socket had learned of the way to the client. Linux can't be told: common/tcp_repair.c. For people. */
struct kernel_helper_timers {
	uint32_t round_trip_us, round_trip_variance_us; /* smoothed; RFC 6298 */
	uint32_t retransmission_us;			/* the timeout that follows from them */
	uint32_t slow_start_threshold;			/* packets */
};

/*
 * A connection read out of the kernel. Sequence numbers in host byte order.
 * `sent` are bytes the client has not acknowledged, `unsent` bytes that never left, `received` bytes that the daemon
 * has not read: one allocation each (NULL if empty), owned by this struct.
 */
struct kernel_helper_state {
	struct flow_key flow;
	struct kernel_helper_static fixed;
	uint32_t send_unacknowledged; /* snd_una */
	uint32_t receive_next;	      /* rcv_nxt */
	uint32_t timestamp;	      /* TCP_TIMESTAMP, not before any stamp that was sent */
	uint32_t window_snd_wl1, window_snd_wnd, window_max_window, window_rcv_wnd, window_rcv_wup;
	uint32_t receive_buffer, send_buffer; /* as getsockopt says, twice what set wants */
	uint32_t congestion_window;	      /* packets; restored where common/congestion.h can */
	struct kernel_helper_timers timers;   /* not restored */
	struct tcp_statistics statistics;     /* of the frozen socket; not restored */
	uint8_t *sent, *unsent, *received;
	size_t sent_len, unsent_len, received_len;
};

/* Named counters of the node program: why a packet was held, relayed, muted, dropped. */
struct kernel_helper_counter {
	const char *name;
	uint64_t packets;
};

/**
 * kernel_helper_new() - load and attach the node program, make the TAP, take up what an earlier run left pinned
 * @base:	the loop that drains the TAP; borrowed for the helper's life
 * @options:	borrowed for the call
 * @out:	out: untouched on failure
 *
 * Entries that an earlier run of the daemon left in RELAY stay for a minute (late packets still find their way). The socket of one in
 * HOLD died with the process, silently; but another device may have the session by then. So it stays, too, until that is known
 * (kernel_helper_relay_inherited(), kernel_helper_release_inherited()), and for @held_ms at most. Says at `info` what it changed on the machine.
 *
 * Return: 0; -EPERM (capability missing), -EOPNOTSUPP (no BPF, no clsact), -ENODEV (an interface is missing, logged) or
 * what the kernel said, logged with what to do
 */
int kernel_helper_new(struct event_base *base, const struct kernel_helper_options *options,
		      struct kernel_helper **out);

/**
 * kernel_helper_free() - let go
 * @helper:	NULL is allowed
 * @for_good:	detach the programs, unpin, remove the TAP, and clsact qdiscs that nobody else uses.
 *		Otherwise (restart) all of it stays in force: what is held is lost, what is relayed goes on.
 */
void kernel_helper_free(struct kernel_helper *helper, bool for_good);

/* Do restored connections begin with the congestion window that they had? */
bool kernel_helper_restores_congestion(const struct kernel_helper *helper);

/**
 * kernel_helper_adopt() - read the static facts of an accepted connection
 * @fd:		an ESTABLISHED TCP socket
 * @out:	out: untouched on failure
 *
 * Leaves the socket as it was (with SO_REUSEADDR set again; handoff.md 5.4).
 *
 * Return: 0 or a negative errno value
 */
int kernel_helper_adopt(struct kernel_helper *helper, int fd, struct kernel_helper_static *out);

/**
 * kernel_helper_is_settled() - does nothing wait to be sent again, or to come in?
 * @fd:		its socket, not frozen
 * @restored_len: how much was `sent` when it was restored here; 0 if it was accepted here
 *
 * A freeze loses what the kernel knows of lost packets; the next device sends them again only after its first
 * retransmission timeout, a second later. So a connection that moves again before that, and again, never gets over a
 * loss.
 *
 * Return: false while something is being sent again, or what was sent before the restore is not acknowledged, or a packet
 * from the client is parked because earlier ones have not come
 */
bool kernel_helper_is_settled(struct kernel_helper *helper, int fd, const struct flow_key *flow, size_t restored_len);

/* Park incoming packets of the flow, drop outgoing ones. Return: 0 or a negative errno value. */
int kernel_helper_hold(struct kernel_helper *helper, const struct flow_key *flow);

/**
 * kernel_helper_freeze() - read a held connection until two readings agree
 * @fd:		its socket; in repair mode afterwards, also on failure (kernel_helper_release undoes it)
 * @fixed:	from kernel_helper_adopt() or kernel_helper_restore()
 * @keeps_sending: this socket will send what it has to send (kernel_helper_share()): `sent` and `unsent` are not read, only counted
 * @out:	out: to be freed with kernel_helper_state_fini(); untouched on failure
 *
 * Return: 0; -ENOTCONN if the connection is not ESTABLISHED any more (FIN or RST seen); -EAGAIN if readings never
 * agreed; -ENOMEM or what the kernel said
 */
int kernel_helper_freeze(struct kernel_helper *helper, int fd, const struct flow_key *flow,
			 const struct kernel_helper_static *fixed, bool keeps_sending, struct kernel_helper_state *out);

void kernel_helper_state_fini(struct kernel_helper_state *state);

/*
 * Undo hold and freeze: repair off, entry removed, parked packets back into our own stack in order. The connection then
 * sends by itself what it had to send; if much was unsent at the freeze, part of it only after a retransmission timeout
 * (common/tcp_repair.c, count_unsent()).
 */
void kernel_helper_release(struct kernel_helper *helper, int fd, const struct flow_key *flow);

/**
 * kernel_helper_relay() - parked packets, then all later ones, go to the new owner
 * @to_mac:	the new owner's MAC address
 * @ifindex:	the interface that leads to it
 *
 * Outgoing packets of the flow stay muted.
 *
 * Return: 0 or a negative errno value; then the flow is still held
 */
int kernel_helper_relay(struct kernel_helper *helper, const struct flow_key *flow, const uint8_t to_mac[static 6],
			unsigned int ifindex);

/*
 * kernel_helper_relay() for a flow that an earlier run held or relayed. From now on it is the caller's to forget. Return: also -ENOENT:
 * there is none
 */
int kernel_helper_relay_inherited(struct kernel_helper *helper, const struct flow_key *flow,
				  const uint8_t to_mac[static 6], unsigned int ifindex);

/*
 * What an earlier run held is nobody's any more: parked packets come into our own stack, which knows no such connection.
 * @on_flow: called for each, afterwards; NULL: not wanted
 */
void kernel_helper_release_inherited(struct kernel_helper *helper,
				     void (*on_flow)(const struct flow_key *flow, void *arg), void *arg);

/* Close a frozen socket without a packet. Closes @fd. */
void kernel_helper_silence(struct kernel_helper *helper, int fd);

/* Reset a frozen socket at the client, also if another device has spoken since: un-mute, send RST, close @fd, forget the flow. */
void kernel_helper_reset(struct kernel_helper *helper, int fd, const struct flow_key *flow);

/* Remove the flow's entry (the end of RELAY's grace time). No entry is no error. */
void kernel_helper_forget(struct kernel_helper *helper, const struct flow_key *flow);

/* What is known of a connection before it is frozen: all that kernel_helper_prepare() needs. Return: 0 or a negative errno value */
int kernel_helper_sketch(struct kernel_helper *helper, int fd, const struct flow_key *flow,
			 const struct kernel_helper_static *fixed, struct kernel_helper_state *out);

/**
 * kernel_helper_prepare() - have a socket ready for a connection that may come here
 * @fd:		out: for the next call, or kernel_helper_silence(); untouched on failure
 *
 * Saves some system calls between freeze and restore. Return: 0 or a negative errno value
 */
int kernel_helper_prepare(struct kernel_helper *helper, const struct kernel_helper_state *sketch, int *fd);

/**
 * kernel_helper_restore() - bring a connection to life here
 * @state:	as frozen elsewhere; borrowed. `unsent` and `received` are not restored: the caller sends the one and
 *		treats the other as read (handoff.md 3.5, 3.11)
 * @fd:		in: a prepared socket, or -1; out: a non-blocking socket that speaks from now on. A prepared one is closed on failure
 *
 * For a while packets come in in the order of their bytes: while the first device relays earlier ones the switch may send later
 * ones directly, and a packet that overtakes another is a loss to the client. One that is too early is parked until the
 * missing ones have come, 20 ms at most.
 * Replaces the flow's own old entry last: until the socket is there a packet is better relayed than answered with RST.
 * Called in the network namespace of the VIP.
 *
 * Return: 0; -EINVAL if @state is inconsistent; -EADDRNOTAVAIL if the VIP is not on this machine; or what the kernel
 * said
 */
int kernel_helper_restore(struct kernel_helper *helper, const struct kernel_helper_state *state, int *fd);

/*
 * Say to the client what the frozen connection had received. Its own acknowledgment may have been delayed (RFC 9293,
 * 3.8.6.3) or muted, the restored socket knows of none that it owes, and a client that waits for it would stand still until
 * its retransmission. After kernel_helper_restore().
 */
void kernel_helper_acknowledge(struct kernel_helper *helper, const struct kernel_helper_state *state);

/*
 * Half handoffs: two devices have a socket of the connection, and one of them speaks to the client (common/bpf_half.h).
 *
 *	first device:	hold, freeze, (send), share -> ... -> relay, silence (the other has all of it), or reclaim
 *	second device:	restore_half -> ... -> take_over (it has all of it), or silence and, some time later, forget
 */
enum kernel_helper_part {
	KERNEL_HELPER_SENDS = 1,    /* its socket speaks */
	KERNEL_HELPER_RECEIVES = 2, /* its socket is silent, and must be given nothing to send that the other does not send */
};

/* The device with the other half. */
struct kernel_helper_peer {
	enum kernel_helper_part part; /* ours */
	uint8_t mac[6];
	unsigned int ifindex; /* leads to it */
};

/**
 * kernel_helper_share() - the second device has its half; this one keeps the other
 * @fd:		the frozen socket: it goes on, and takes what was parked
 * @state:	as it was frozen
 *
 * From now on what comes from the client goes to both.
 *
 * Return: 0 or a negative errno value; then it is still held
 */
int kernel_helper_share(struct kernel_helper *helper, int fd, const struct kernel_helper_state *state,
			const struct kernel_helper_peer *peer);

/* It does not have it any more: this device speaks, and for itself. */
void kernel_helper_reclaim(struct kernel_helper *helper, const struct flow_key *flow,
			   const struct kernel_helper_static *fixed);

/*
 * kernel_helper_restore() for a half. If this device receives, @state says what the first one will have sent in the end, and
 * nothing is `sent`.
 */
int kernel_helper_restore_half(struct kernel_helper *helper, const struct kernel_helper_state *state,
			       const struct kernel_helper_peer *peer, int *fd);

/* The last time stamp that this device has sent in a flow of which another one has a half; 0: none, or it is unknown */
uint32_t kernel_helper_last_stamp(struct kernel_helper *helper, const struct flow_key *flow);

/**
 * kernel_helper_take_over() - the first device has fallen silent: the connection is all this device's
 * @fd:		its socket
 * @stamp:	the last time stamp that the other one has sent, or 0: the client takes no older one
 *
 * Return: 0 or a negative errno value
 */
int kernel_helper_take_over(struct kernel_helper *helper, int fd, const struct flow_key *flow,
			    const struct kernel_helper_static *fixed, uint32_t stamp);

/* The counters, in a static order. @count: out. Borrowed until the next call. */
const struct kernel_helper_counter *kernel_helper_counters(struct kernel_helper *helper, size_t *count);

#endif
