/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/examination_machine.h - how this machine is set up, as facts
 *
 * What vnasd needs of a machine and somebody else may have changed: sysctls, interfaces, addresses, ports, limits, capabilities. Reads
 * /proc and asks the kernel; changes nothing, and sends nothing (common/examination_probe.h does).
 *
 *	area		subject			value
 *	kernel		""			release, as uname(2) says it
 *	capabilities	""			effective ones of this process, hexadecimal
 *	nofile		""			RLIMIT_NOFILE
 *	time_service	""			yes, no: does one keep the clock?
 *	sysctl		name			value
 *	interface	name			clients, disks, both
 *	link		name			up, down, no carrier, missing
 *	mtu		name			bytes
 *	vip		address			the interfaces that have it: "lo eth0", or ""
 *	dad		address interface	failed, tentative
 *	listener	"tcp 10.0.0.1 2049"	"": a socket on one of our ports that is not this process's
 *
 * Threads: call from any; it may take a while.
 */
#ifndef VNAS_COMMON_EXAMINATION_MACHINE_H
#define VNAS_COMMON_EXAMINATION_MACHINE_H

#include "common/examination_facts.h"
#include "common/settings.h"

enum { EXAMINATION_INTERFACES_MAX = 2 * SETTINGS_INTERFACES_MAX, EXAMINATION_PORTS_MAX = 3 };

struct examination_interface {
	char name[IFNAMSIZ];
	bool to_clients, to_disks;
};

/* What is to be looked at: a copy, for settings may change meanwhile. */
struct examination_machine {
	struct examination_interface interfaces[EXAMINATION_INTERFACES_MAX];
	unsigned int interface_count;
	char vips[SETTINGS_VIPS_MAX][SETTINGS_ADDRESS_MAX];
	unsigned int vip_count;
	uint16_t ports[EXAMINATION_PORTS_MAX]; /* on which nobody else should listen; 0: none */
};

/* By the configuration of this device. @vips: the cluster's, separated by a blank */
void examination_machine_init(struct examination_machine *machine, const struct settings *settings, const char *vips);

/* The interface towards the other devices; "" if there is none. */
const char *examination_machine_inner(const struct examination_machine *machine);

void examination_machine_find(const struct examination_machine *machine, struct examination_facts *out);

/* One sysctl's first line, with a blank between its numbers. Return: false if it can't be read */
bool examination_sysctl(const char *name, char value[static EXAMINATION_VALUE_MAX]);

/* -ENODEV and others */
int examination_mtu(const char *interface, unsigned int *mtu);

#endif
