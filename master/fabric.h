/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/fabric.h - the switch's forwarding table
 *
 * One BPF program (master/fabric.bpf.c, tc-BPF on clsact ingress of the switch's ports) and its maps: flows to device
 * index, device index to port and MAC. A change of owner is one 32-bit store. Programs and maps are pinned, so packets
 * keep flowing while the daemon is down, and the next run takes the table up again. Knows nothing of RPC, of sessions
 * or of who asked over SCP (scp/eap.h).
 *
 * A flow without an entry belongs to the switch itself. Packets of flows owned by the switch, and all that is not for
 * a VIP, continue to the next program and the stack.
 *
 * A device may give its flows away by an EAP datagram (scp/eap_wire.h), which the program checks, performs and answers, also
 * while no daemon runs. fabric_moves_read() tells afterwards.
 *
 * Entries are made by fabric_flow_set() only, so a flood of SYNs makes none. The way back to a client (inline) is
 * learned from its packets once there is an entry; before, the switch's neighbour table and the first client port
 * serve. With several client ports, make the entry early: fabric_flow_set(..., FABRIC_SWITCH) when the connection is
 * accepted. In the one-arm topology the switch does not see replies: a connection that a device ends by RST leaves its
 * entry to fabric_flow_remove().
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_FABRIC_H
#define VNAS_MASTER_FABRIC_H

#include "common/flow.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FABRIC_DEVICES_MAX = 256, /* device index = node id; the switch itself is FABRIC_SWITCH */
	FABRIC_SWITCH = 1,
	FABRIC_PORTS_MAX = 8,
	FABRIC_VIPS_MAX = 8,
	FABRIC_REFUSALS_MAX = 16, /* reasons */
};

struct fabric;

struct fabric_options {
	const char *pin_dir; /* on a bpffs */
	size_t client_port_count, device_port_count; /* one-arm: the same interface in both lists */
	char client_ports[FABRIC_PORTS_MAX][IFNAMSIZ];
	char device_ports[FABRIC_PORTS_MAX][IFNAMSIZ];
	size_t vip_count;
	uint8_t vips[FABRIC_VIPS_MAX][16]; /* IPv4-mapped */
	uint32_t flows_max;		   /* entries in the table; one that is taken up keeps its size */
	uint8_t eap_address[16];	   /* where devices send EAP datagrams; all 0: any that is no VIP */
	uint16_t eap_port;		   /* 0: nowhere */
	uint32_t cluster;		   /* the cluster id in them */
};

enum fabric_flow_state { FABRIC_FORWARD = 1, FABRIC_CLOSING = 2 };

struct fabric_flow {
	struct flow_key flow;
	uint32_t device;     /* the owner, also while the old one still relays */
	uint32_t generation; /* counts changes of owner and SYNs */
	enum fabric_flow_state state;
	uint64_t packets;
};

struct fabric_counter {
	const char *name;
	uint64_t packets;
};

/**
 * fabric_new() - load, attach, pin; or take up what is pinned
 *
 * Says at `info` what it changed on the machine.
 *
 * Return: 0; -EPERM, -EOPNOTSUPP, -ENODEV or what the kernel said, logged with what to do
 */
int fabric_new(const struct fabric_options *options, struct fabric **out);

/* @for_good: detach, unpin, leave nothing behind; otherwise packets go on flowing. NULL is allowed. */
void fabric_free(struct fabric *fabric, bool for_good);

/**
 * fabric_device_set() - where a device is
 * @device:	its index, not FABRIC_SWITCH
 * @mac:	its MAC address on the device side
 * @port:	the switch's port that leads to it
 *
 * Return: 0; -EINVAL (index), -ENODEV (no such port of ours)
 */
int fabric_device_set(struct fabric *fabric, uint32_t device, const uint8_t mac[static 6], const char *port);

/**
 * fabric_key_set() - what a device signs its EAP datagrams with from now on
 *
 * Its counter begins anew. Stays in force while the daemon is away. Return: 0; -EINVAL (index)
 */
int fabric_key_set(struct fabric *fabric, uint32_t device, const uint8_t key[static 16]);

/*
 * The device is no member any more; its flows belong to the switch again. What it still sends to clients by a port of
 * the switch is dropped (inline).
 */
void fabric_device_remove(struct fabric *fabric, uint32_t device);

/**
 * fabric_flow_set() - change the owner of a flow
 *
 * @flow:	made if it has no entry
 * @device:	the new owner; FABRIC_SWITCH for the switch itself
 * @generation:	out: the new generation
 *
 * Return: 0; -ENODEV if the device is unknown; -ENOSPC if the table is full
 */
int fabric_flow_set(struct fabric *fabric, const struct flow_key *flow, uint32_t device, uint32_t *generation);

/**
 * fabric_flow_give() - the same, if its owner gives it away
 * @from:	who asks for it
 * @transaction: the number of this handoff in its session
 *
 * A flow without an entry is nobody's.
 *
 * Return: as fabric_flow_set(); -EALREADY: it is @device's, whoever gave it; -EPERM: another device than @from has the flow;
 * -ESTALE: a later handoff is known, or @from had the flow, and it is the switch's again
 */
int fabric_flow_give(struct fabric *fabric, const struct flow_key *flow, uint32_t from, uint32_t device,
		     uint16_t transaction, uint32_t *generation);

/**
 * fabric_flow_announce() - the flow's owner is about to give it away
 * @from:	the owner
 * @device:	to whom, perhaps; it speaks before fabric_flow_give() is called
 *
 * Else what it sends would be dropped if it had the flow before: who gave a flow away, or lost it, has no say in it.
 *
 * Return: 0; -ENOENT; -EPERM: another device than @from has the flow
 */
int fabric_flow_announce(struct fabric *fabric, const struct flow_key *flow, uint32_t from, uint32_t device);

/* A flow that was given away by a datagram. */
struct fabric_move {
	struct flow_key flow;
	uint32_t from, device, generation;
	uint16_t transaction;
};

/* Readable when there are moves to be read. */
int fabric_moves_fd(struct fabric *fabric);

/* Visit those since the last call, in their order; also those while no daemon ran, as far as there was room. */
void fabric_moves_read(struct fabric *fabric, void (*visit)(const struct fabric_move *move, void *arg), void *arg);

/* Packets of devices that were refused, EAP datagrams and others. */
struct fabric_refusal {
	const char *reason; /* also the name of its counter */
	uint64_t count;	    /* since the table was made */
	uint8_t mac[6];	    /* of the last one: where it came from */
	uint8_t address[16]; /* a datagram's source; the client that it was for */
	uint32_t device; /* who a datagram said it was; whose MAC it is, 0: no member's */
};

/* Visit each reason for which a packet was ever refused. */
void fabric_refusals(struct fabric *fabric, void (*visit)(const struct fabric_refusal *refusal, void *arg), void *arg);

/* Return: 0; -ENOENT if the flow has no entry */
int fabric_flow_get(struct fabric *fabric, const struct flow_key *flow, struct fabric_flow *out);

/* Remove a flow's entry; no entry is no error. */
void fabric_flow_remove(struct fabric *fabric, const struct flow_key *flow);

/* Visit every flow; @visit returns false to stop. The table may change meanwhile. */
void fabric_flows(struct fabric *fabric, bool (*visit)(const struct fabric_flow *flow, void *arg), void *arg);

/*
 * Give all flows of a device (that died) to the switch, whose stack resets them at the client's next packet. @on_orphan is
 * called for each that was not closing; NULL: nobody wants to know.
 */
void fabric_device_orphan(struct fabric *fabric, uint32_t device,
			  void (*on_orphan)(const struct flow_key *flow, void *arg), void *arg);

/* Remove entries that saw FIN or RST and no packet for @age_s seconds. Call every few seconds. Returns how many. */
size_t fabric_collect(struct fabric *fabric, unsigned int age_s);

/* The counters, in a static order. @count: out. Borrowed until the next call. */
const struct fabric_counter *fabric_counters(struct fabric *fabric, size_t *count);

#endif
