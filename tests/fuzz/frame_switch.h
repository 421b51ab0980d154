/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/fuzz/frame_switch.h - a switch without a network: the fabric as the master loads it, for tests/fuzz/frame.h
 *
 * It has a port of each kind: clients, devices, and both, as one-arm. Device 2 is behind the devices' port, device 3
 * behind the shared one. VIPs: those of frame_flow(). EAP datagrams go to any other address.
 */
#ifndef VNAS_TESTS_FUZZ_FRAME_SWITCH_H
#define VNAS_TESTS_FUZZ_FRAME_SWITCH_H

#include "master/fabric_traffic.h"
#include "tests/fuzz/frame.h"

enum frame_port_number { PORT_CLIENTS, PORT_DEVICES, PORT_SHARED, PORTS };

enum { DEVICE_FIRST = 2, DEVICE_LAST = 3, FRAME_CLUSTER = 77, FRAME_EAP_PORT = 2050, FRAME_SWITCH_FLOWS_MAX = 16 };

/* In the byte before a frame of an input: bits 0-1 its port, bits 2-3 its source MAC, ... */
enum frame_source { SOURCE_AS_IS, SOURCE_DEVICE_2, SOURCE_DEVICE_3, SOURCE_CLIENT };
enum { FRAME_TO_PORT = 16 }; /* ... and that its destination MAC is the port's */

/* One frame's way through. */
struct frame_passage {
	enum frame_port_number port;
	bool is_out; /* our stack sends it; set by the caller */
	struct frame before, after;
	struct frame_facts facts; /* of before */
	int verdict;
	uint64_t counted; /* by how much the sum of the fabric's counters grew */
	struct fabric_sums traffic; /* by how much those of all devices together grew */
};

struct frame_switch {
	struct fabric *fabric;
	struct frame_port ports[PORTS];
	int programs[PORTS], out_programs[PORTS]; /* -1: has none */
};

extern struct frame_switch frame_switch;

/* With frame_setup(). @policy: its filters, marks and size; NULL, or 0: none, and a small one */
void frame_switch_start(const struct fabric_options *policy);

const uint8_t *frame_device_mac(uint32_t device);
enum frame_port_number frame_device_port(uint32_t device);
bool frame_is_vip(const uint8_t address[static 16]);
bool frame_is_from_member(const struct frame *frame);
bool frame_is_for_port(const struct frame_passage *p);

/* A frame as the byte @how before it says. */
struct frame_passage frame_dress(const struct frame *frame, uint8_t how);

/* Run it. Return: false if the kernel doesn't take such a short frame, or nothing looks at what goes out there */
bool frame_pass(struct frame_passage *p);

/* The number of entries in the table. */
size_t frame_switch_flows(void);

#endif
