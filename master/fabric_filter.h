/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/fabric_filter.h - which networks may reach which service
 *
 * Each packet is judged, of flows that exist, too, but for what members send. They are not pinned: fabric_new() begins with those
 * of its options, at one stroke with the programs that look at them.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_FABRIC_FILTER_H
#define VNAS_MASTER_FABRIC_FILTER_H

#include "common/ip_network.h"

#include <stddef.h>
#include <stdint.h>

struct fabric;

enum { FABRIC_FILTERS_MAX = 256 };

/* Bits. Of one port each: NFS, MOUNT and locks are one. */
enum fabric_service { FABRIC_NFS = 1, FABRIC_PORTMAPPER = 2, FABRIC_SCP = 4 };

struct fabric_filter_rule {
	struct ip_network network;
	uint32_t services; /* that it may reach */
};

/**
 * fabric_filters_set() - put these in force, and no others
 * @rules:	each network once; what a network was refused before is remembered if it is among them
 *
 * Each network changes at one stroke, one after the other.
 *
 * Return: 0; -EINVAL if there are too many; what the kernel said, logged: then some may be in force and others not
 */
int fabric_filters_set(struct fabric *fabric, const struct fabric_filter_rule *rules, size_t count);

/* How many packets a network was refused. 0 if there is no such filter. */
uint64_t fabric_filter_refused(struct fabric *fabric, const struct ip_network *network);

#endif
