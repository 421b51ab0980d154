/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/examination_probe.h - what only the network itself can tell, as facts
 *
 * Asks by ARP who else has our addresses, and by ICMP echo whether packets as long as the interface allows get through to the other
 * devices. Each question is asked some times, for a packet may get lost; answers are waited for for a second at most.
 *
 *	area		subject			value
 *	answers		"10.0.0.1 eth0"		the MAC of another machine that says it has the address; one fact for each
 *	path		address			whole: packets of the whole MTU pass; short: only short ones do; none: no echo comes back
 *
 * IPv4 only: of IPv6 the kernel finds duplicates itself (area "dad" of common/examination_machine.h).
 *
 * Threads: call from any; it waits.
 */
#ifndef VNAS_COMMON_EXAMINATION_PROBE_H
#define VNAS_COMMON_EXAMINATION_PROBE_H

#include "common/examination_machine.h"

#include <netinet/in.h>

enum { EXAMINATION_PEERS_MAX = 256 };

/* The other devices. */
struct examination_peers {
	size_t count;
	struct in_addr addresses[EXAMINATION_PEERS_MAX];
};

/* Of an interface to clients of the switch that is the VIPs' owner, they are asked for, too: @has_vips */
void examination_probe_addresses(const struct examination_machine *machine, bool has_vips, struct examination_facts *out);

void examination_probe_paths(const struct examination_machine *machine, const struct examination_peers *peers,
			     struct examination_facts *out);

#endif
