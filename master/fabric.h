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
 * Entries are made by fabric_flow_set() and by connections that the program gives straight to a device (fabric_first_set()), when
 * the client has answered, so a flood of SYNs makes none. The way back to a client (inline) is
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
#include "master/fabric_filter.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FABRIC_DEVICES_MAX = 256, /* device index = node id; the switch itself is FABRIC_SWITCH */
	FABRIC_SWITCH = 1,
	FABRIC_PORTS_MAX = 8,
	FABRIC_VIPS_MAX = 8,
	FABRIC_TURNS_MAX = 1024,
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
	uint16_t eap_port;		   /* 0: nowhere; that of SCP, too */
	uint16_t nfs_port;		   /* whose connections and datagrams may go straight to devices */
	bool serves_first; /* packets between clients and VIPs get the priority that queues serve first */
	bool marks;	   /* they get this DSCP, 0 to 63 */
	uint8_t dscp;
	const struct fabric_filter_rule *filters; /* each network once */
	size_t filter_count;			  /* 0: everybody may reach everything */
	uint32_t cluster;		   /* the cluster id in them */
};

enum fabric_flow_state { FABRIC_FORWARD = 1, FABRIC_CLOSING = 2, FABRIC_OPENING = 4 };

/* Who gets new connections. */
enum fabric_first_policy {
	FABRIC_FIRST_SWITCH,
	FABRIC_FIRST_IN_TURN,  /* one after the other of a list */
	FABRIC_FIRST_OF_CLIENT, /* the one that a session of the client was last given to; else the switch */
};

/* What one end of a TCP connection has sent, as far as it passed the switch. */
struct fabric_flow_end {
	bool is_known;	   /* else nothing below is */
	bool has_syn;	   /* its SYN was seen: so are @first, @mss, @scale, @has_sack, @has_timestamps */
	bool has_closed;   /* FIN or RST */
	uint32_t first;	   /* sequence number of its SYN */
	uint32_t next;	   /* behind the last byte that it sent */
	uint32_t acknowledged; /* the other one's */
	uint16_t window;   /* its last, as on the wire */
	uint16_t mss;
	uint8_t scale;
	bool has_sack, has_timestamps;
	uint32_t timestamp; /* its last */
};

struct fabric_flow {
	struct flow_key flow;
	uint32_t device;     /* the owner, also while the old one still relays */
	uint32_t generation; /* counts changes of owner and SYNs */
	enum fabric_flow_state state;
	uint64_t packets;
	struct fabric_flow_end client, server; /* inline; one-arm the server's is not known */
};

struct fabric_counter {
	const char *name;
	uint64_t packets;
	bool is_drop; /* they went nowhere */
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
 * fabric_first_set() - who gets new connections from now on, also while no daemon runs
 * @turns:	devices that may get some, by index; in turn, from the first on, so one that is there twice gets twice as many. Those that
 *		are left out get none from now on, and of connections that a client is just opening there it is asked to begin anew
 * @count:	0: the switch gets all; at most FABRIC_TURNS_MAX
 *
 * Return: 0; -EINVAL (an index, or too many)
 */
int fabric_first_set(struct fabric *fabric, enum fabric_first_policy policy, const uint32_t *turns, size_t count);

/* How many new connections a device was given, since the table was made: each with a client's SYN, also if nothing came of it. */
uint64_t fabric_first_given(struct fabric *fabric, uint32_t device);

struct fabric_volume {
	uint32_t volume, device;
};

/**
 * fabric_volumes_set() - who gets calls over UDP from now on, also while no daemon runs
 * @volumes:	those of devices that are up; is put in order. Calls that are about others, or about none, are the switch's
 *
 * Return: 0; -ENOSPC: more than 65536; some of them are the switch's
 */
int fabric_volumes_set(struct fabric *fabric, struct fabric_volume *volumes, size_t count);

/**
 * fabric_key_set() - what a device signs its EAP datagrams with from now on
 *
 * Its counter begins anew. Stays in force while the daemon is away. Return: 0; -EINVAL (index)
 */
int fabric_key_set(struct fabric *fabric, uint32_t device, const uint8_t key[static 16]);

/* The device's datagrams are a stranger's, until it has another key. */
void fabric_key_forget(struct fabric *fabric, uint32_t device);

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

/* Did the device have the flow before, and is not expected to have it again? */
bool fabric_flow_was_with(struct fabric *fabric, const struct flow_key *flow, uint32_t device);

/* Remove a flow's entry; no entry is no error. */
void fabric_flow_remove(struct fabric *fabric, const struct flow_key *flow);

/* Visit every flow; @visit returns false to stop. The table may change meanwhile. */
void fabric_flows(struct fabric *fabric, bool (*visit)(const struct fabric_flow *flow, void *arg), void *arg);

/* Where somebody is who looks at the table a part at a time. All zero: at its beginning. */
struct fabric_walk {
	uint32_t position;
	bool is_under_way;
};

/* A part that takes some milliseconds, in a table of any size. */
enum { FABRIC_PART = 2000 };

/**
 * fabric_flows_part() - visit some more flows
 *
 * FABRIC_PART, or a few more. The table may change meanwhile: what comes or goes may be missed or seen twice.
 *
 * Return: whether the end was reached; @walk is at the beginning again
 */
bool fabric_flows_part(struct fabric *fabric, struct fabric_walk *walk,
		       bool (*visit)(const struct fabric_flow *flow, void *arg), void *arg);

/**
 * fabric_device_orphan() - give flows of a device (that died) to the switch, whose stack resets them at the client's next packet
 * @walk:	all zero at first; a part of the table at a time
 * @on_orphan:	called for each that was not closing; NULL: nobody wants to know
 *
 * Return: whether the end was reached
 */
bool fabric_device_orphan(struct fabric *fabric, uint32_t device, struct fabric_walk *walk,
			  void (*on_orphan)(const struct fabric_flow *flow, void *arg), void *arg);

/**
 * fabric_collect() - remove entries that saw FIN or RST and no packet for @age_s seconds
 * @walk:	all zero at first; a part of the table at a time
 * @removed:	counts up
 *
 * Return: whether the end was reached
 */
bool fabric_collect(struct fabric *fabric, unsigned int age_s, struct fabric_walk *walk, size_t *removed);

/* Entries of the table when fabric_collect() last came to its end. */
size_t fabric_flows_count(const struct fabric *fabric);

/* The counters, in a static order. @count: out. Borrowed until the next call. */
const struct fabric_counter *fabric_counters(struct fabric *fabric, size_t *count);

#endif
