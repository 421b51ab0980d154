/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/fabric_traffic.h - how much each client and each device sends and gets
 *
 * Whole IP packets of NFS and the like, between clients and VIPs, as they are on the wire: what a network card cuts up counts as
 * its pieces. ICMP is not in it, nor fragments that are the switch's own, nor what devices say to each other. The sums are kept in the kernel, also
 * while no daemon runs. One-arm, devices answer clients directly, which the switch does not see.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_FABRIC_TRAFFIC_H
#define VNAS_MASTER_FABRIC_TRAFFIC_H

#include "master/fabric.h"

enum { FABRIC_CLIENTS_MAX = 16384 }; /* of more, those are forgotten that were silent the longest */

struct fabric_sums {
	uint64_t received_packets, received_bytes; /* from clients */
	uint64_t sent_packets, sent_bytes;	   /* to them */
};

struct fabric_client_sums {
	uint8_t address[16]; /* IPv4-mapped */
	struct fabric_sums sums;
};

/* Of one device, the switch itself among them. Return: 0; -EINVAL (index); -ENOMEM */
int fabric_device_sums(struct fabric *fabric, uint32_t device, struct fabric_sums *out);

/**
 * fabric_client_sums() - of all clients, who moved most bytes first
 * @out:	out: gives an array, to be freed
 *
 * Return: 0; -ENOMEM; what the kernel said, logged
 */
int fabric_client_sums(struct fabric *fabric, struct fabric_client_sums **out, size_t *count);

#endif
