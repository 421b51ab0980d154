/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/platform/cluster.h - a client, a switch and two disk nodes in namespaces, with fabric and kernel helpers
 *
 * Inline:	client ---- clients [switch] devices (bridge) ---- node-a, node-b
 * One-arm:	client, switch, node-a, node-b on one bridge
 *
 * All run in this process, which enters the namespace of whoever acts. Every device has the VIP and listens at it.
 */
#ifndef VNAS_TESTS_PLATFORM_CLUSTER_H
#define VNAS_TESTS_PLATFORM_CLUSTER_H

#include "common/kernel_helper.h"
#include "master/fabric.h"
#include "tests/platform/load.h"

#include <stdbool.h>
#include <stdint.h>

struct event_base;

enum {
	CLUSTER_DEVICES = 3,
	CLUSTER_PORT = 2049,
	CLUSTER_EAP_PORT = 2050,
	CLUSTER_FLOWS_MAX = 64,
	CLUSTER_FAMILIES = 2,
	CLUSTER_ID = 0x1234abcd,
};

struct cluster_family {
	const char *name, *vip, *client;
};

extern const struct cluster_family cluster_families[CLUSTER_FAMILIES];

struct cluster_device {
	const char *name;
	uint32_t index; /* in the fabric */
	int netns;
	uint8_t mac[6];
	const char *interface; /* towards the other devices */
	unsigned int ifindex;
	int listener[CLUSTER_FAMILIES];
	struct kernel_helper *helper;
};

struct cluster {
	bool is_one_arm;
	int client, hub;
	struct cluster_device devices[CLUSTER_DEVICES]; /* the first is the switch */
	struct fabric_options fabric_options;
	struct fabric *fabric;
	struct event_base *base;
	unsigned int inherited_ms, held_ms; /* for helpers that start from now on */
};

struct cluster_connection {
	struct load_server server;
	struct flow_key flow;
	struct kernel_helper_static fixed;
	struct cluster_device *owner;
};

void cluster_make(struct cluster *cluster, bool is_one_arm);

/* End fabric and kernel helpers, for others that bring theirs. */
void cluster_stop_kernel(struct cluster *cluster);

/* Fails the test if anything is left on the machines. */
void cluster_remove(struct cluster *cluster);

/* Where devices reach the switch: not the VIP. */
const char *cluster_switch_address(const struct cluster *cluster, int family);

/* Start the fabric, and tell it where the devices are. */
void cluster_start_fabric(struct cluster *cluster);

/* Start a device's kernel helper. */
void cluster_start_helper(struct cluster *cluster, struct cluster_device *device);

/* Accept a connection at the switch. */
void cluster_accept(struct cluster *cluster, int family, struct cluster_connection *connection);

/* One full handoff, as common/kernel_helper.h orders the calls. Returns the microseconds until the new owner spoke. */
unsigned int cluster_move(struct cluster *cluster, struct cluster_connection *c, struct cluster_device *to);

/*
 * A half handoff: the first device goes on sending, or receiving. It serves @bytes more before it gives all of the connection to
 * the second; or, if @reclaims, the second one gives its half back.
 */
void cluster_halve(struct cluster *cluster, struct cluster_connection *c, struct cluster_device *to,
		   enum kernel_helper_part first_part, uint64_t bytes, bool reclaims);

/* A handoff that the second device refuses. */
void cluster_refuse(struct cluster *cluster, struct cluster_connection *c);

/* Echo until @bytes more have been echoed. */
void cluster_serve(struct cluster *cluster, struct cluster_connection *c, uint64_t bytes);

/* Echo until the client has closed, and close too. */
void cluster_finish(struct cluster *cluster, struct cluster_connection *c);

uint64_t cluster_helper_counter(struct cluster_device *device, const char *name);
uint64_t cluster_fabric_counter(struct cluster *cluster, const char *name);

/* Those that are not 0. */
void cluster_print_counters(struct cluster *cluster);

uint64_t cluster_now_us(void);

#endif
