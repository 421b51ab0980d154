/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/admission.h - who becomes a device of the cluster without being asked about: `auto_approve` of vnasd.conf
 *
 *	auto_approve = network:10.0.2.0/24+vendor-class:vnas-disk, serial:WD-WX42*
 *
 * A list of rules, any of which is enough; a rule is one condition or several, joined by +, all of which must hold:
 *
 *	network:ADDRESS/BITS	it asks from there
 *	vendor-class:PATTERN	what it asked DHCP as
 *	serial:PATTERN		its serial number
 *	mac:PATTERN		its MAC address, as 52:54:00:12:34:56
 *	name:PATTERN		its name
 *
 * A PATTERN may have * and ?; letters count the same in either case. All but the network are what the machine says of itself:
 * docs/protocol.md, Joining, says what that is worth.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_ADMISSION_H
#define VNAS_COMMON_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

/* What is known of a machine. Texts are borrowed; "" if there is none. */
struct admission_facts {
	uint8_t address[16]; /* from which it asks; IPv4 is mapped */
	uint8_t mac[6];
	const char *name, *serial, *vendor_class;
};

/* Is the text a rule? */
bool admission_is_rule(const char *rule);

/* Do all conditions of the rule hold? Not of what is no rule. */
bool admission_holds(const char *rule, const struct admission_facts *facts);

#endif
