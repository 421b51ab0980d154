/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/park.h - the parking TAP: packets of held flows wait here, in order
 *
 * The node program redirects packets of held flows out of a TAP device, where they queue in its ring; this module takes
 * them out, keeps them per flow in the order of their bytes, and writes them back to the same TAP. What happens to a frame that is written back (to
 * the new owner, or into our own stack) is the node program's affair. One TAP serves all flows.
 *
 * Part of the kernel helper. Threads: the control loop's.
 */
#ifndef VNAS_COMMON_PARK_H
#define VNAS_COMMON_PARK_H

#include "common/flow.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct park;

enum { PARK_BYTES_MAX = 64 << 20 }; /* kept frames of all flows together */

struct park_counters {
	uint64_t kept;		/* frames taken out of the ring for a held flow */
	uint64_t written;	/* frames written back */
	uint64_t write_failed;	/* the kernel did not take them back */
	uint64_t overflowed;	/* lost: PARK_BYTES_MAX or no memory */
	uint64_t discarded;	/* not wanted any more */
	uint64_t unreadable;	/* in the ring, but no TCP */
};

/**
 * park_open() - make the TAP device, or take up the one that is there
 * @name:	its name
 * @like:	the interface whose MAC address and MTU it gets
 * @out:	out: untouched on failure
 *
 * The device is down: its programs are to be attached before park_start(). It is persistent.
 *
 * Return: 0; -EPERM, -EBUSY (another daemon has it) or what the kernel said, logged
 */
int park_open(const char *name, const char *like, struct park **out);

/* Bring the device up. Return: 0 or a negative errno value, logged */
int park_start(struct park *park);

/* @for_good: the device goes away. Kept frames are lost. NULL is allowed. */
void park_close(struct park *park, bool for_good);

int park_fd(const struct park *park);

unsigned int park_ifindex(const struct park *park);

/* From now on keep frames of the flow. Return: 0; -ENOMEM; a flow that is kept already is no error */
int park_keep(struct park *park, const struct flow_key *flow);

/* Up to @max flows of which frames are kept, the newest first. Return: how many are in @flows */
size_t park_waiting(const struct park *park, struct flow_key *flows, size_t max);

/* Take all frames out of the ring. Those of flows that are not kept are written back at once. */
void park_drain(struct park *park);

/* Write back what is kept of the flow, in order; the flow stays kept, with nothing. */
void park_write_back(struct park *park, const struct flow_key *flow);

/**
 * park_write_next() - write back what is kept of the flow as long as it leaves no gap
 * @next_sequence: what comes next in the client's stream (host byte order); moves with what was written
 *
 * Return: how many frames
 */
unsigned int park_write_next(struct park *park, const struct flow_key *flow, uint32_t *next_sequence);

/* The TCP sequence number of the first frame that is kept of the flow, in host byte order. False: there is none. */
bool park_first_sequence(struct park *park, const struct flow_key *flow, uint32_t *sequence);

/* Keep no more frames of the flow; those still kept are lost. A flow that is not kept is no error. */
void park_forget(struct park *park, const struct flow_key *flow);

const struct park_counters *park_counters(const struct park *park);

/* What a frame is of, and where its bytes (and FIN) lie in the client's stream, in host byte order. */
struct park_frame {
	struct flow_key flow;
	uint32_t sequence, sequence_end;
};

/**
 * park_frame_read()
 * @frame:	from a client, from the Ethernet header on; may be padded
 * @out:	out: untouched on failure
 *
 * Reads what common/bpf_packet.h reads.
 *
 * Return: 0; -EBADMSG if it is not TCP, or a fragment, or too short
 */
int park_frame_read(const uint8_t *frame, size_t len, struct park_frame *out);

#endif
