/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/fuzz/frame.h - frames for tc programs, without a wire
 *
 * Runs a program on a frame by BPF_PROG_TEST_RUN, and has an opinion of its own on what the frame is, which is compared
 * with what the program made of it. Ports are interfaces that are down, so that no other packet comes by.
 */
#ifndef VNAS_TESTS_FUZZ_FRAME_H
#define VNAS_TESTS_FUZZ_FRAME_H

#include "common/bytes.h"
#include "common/flow.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAME_BYTES_MAX = 2048, FRAME_MACS = 12, FRAME_FLOW_PORT = 2049 };

struct frame {
	uint8_t bytes[FRAME_BYTES_MAX]; /* from the destination MAC on */
	size_t len;
};

struct frame_port {
	unsigned int ifindex;
	uint8_t mac[6];
};

/* What a frame is if its source is the client. */
struct frame_facts {
	bool is_session; /* a whole TCP or UDP packet, of whose headers all is there; else nothing below is set */
	bool is_ipv4;
	size_t at; /* where TCP or UDP begins */
	struct flow_key flow;
	bool opens;   /* SYN without ACK */
	bool closes;  /* FIN or RST */
	uint8_t hops; /* that it may still go */
	uint32_t sequence, sequence_len;
};

/* In user space, a program's mistake is ours: say where, and abort. */
#define FRAME_CHECK(condition) ((condition) ? (void)0 : frame_fail(__FILE__, __LINE__, #condition))

void frame_fail(const char *file, int line, const char *what) __attribute__((noreturn));

/* A network namespace and a bpffs of this process's own; exits with 77 if there is none to be had, or no BPF. */
void frame_setup(void);

/* An interface, which is down; its MAC is 02:00:00:00:00:@number. */
struct frame_port frame_port_make(const char *name, uint8_t number);

/* The flow of the client, 10.77.1.11 or fd77:1::11, and its VIP, .100 or ::100. */
struct flow_key frame_flow(bool is_ipv6, uint8_t protocol, uint16_t client_port);

/* The same flow, seen from the other end. */
struct flow_key frame_turn_round(const struct flow_key *flow);

bool frame_same_flow(const struct flow_key *a, const struct flow_key *b);

/* A TCP segment of a flow, from the client, without data; sequence number and MACs 0, acknowledgment number 1. */
struct frame frame_tcp(const struct flow_key *flow, uint8_t flags);

/* A UDP datagram, the same way; as much of the payload as fits. */
struct frame frame_udp(const struct flow_key *flow, const uint8_t *payload, size_t len);

/* Bytes @offset (a multiple of 8) to @end of such a datagram's IP payload, which are UDP's header and what follows it. */
struct frame frame_fragment(const struct flow_key *flow, uint16_t id, const uint8_t *payload, size_t len, size_t offset,
			    size_t end);

/* An ICMP error of a router of the client's network, for who sent @about, with its headers up to TCP's first 8 bytes. */
struct frame frame_error(const struct frame *about, uint8_t type, uint8_t code);

struct frame_facts frame_facts(const struct frame *frame);

/* @flow: out: of the TCP segment that an ICMP error is about, as its sender's client sees it. Return: whether it is one */
bool frame_error_about(const struct frame *frame, struct flow_key *flow);

/* The TCP segment without the bit of its header by which devices tell their own. */
struct frame frame_without_mark(const struct frame *frame, const struct frame_facts *facts);

/* As much of the input as fits. */
struct frame frame_take(struct bytes_reader *input, size_t len);

/**
 * frame_run() - run a tc program once
 * @port:		where the frame comes in or goes out
 * @ingress_ifindex:	where it came in before it goes out; 0: it did not
 * @frame:		in, and out: as the program left it
 * @verdict:		out: TC_ACT_*
 *
 * Return: 0; -EINVAL if the kernel doesn't take such a short frame
 */
int frame_run(int program_fd, const struct frame_port *port, unsigned int ingress_ifindex, struct frame *frame,
	      int *verdict);

/* Is all but the MACs as it was? */
bool frame_same_packet(const struct frame *a, const struct frame *b);

bool frame_has_macs(const struct frame *frame, const uint8_t to[static 6], const uint8_t from[static 6]);

/* Is @after what a router makes of @before: one hop less, a checksum as right or wrong as it was, all else the same? */
bool frame_was_routed(const struct frame *before, const struct frame *after);

#endif
