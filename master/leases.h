/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/leases.h - addresses that a DHCP server has given out, as its hook told us (`nasctl dhcp lease`, etc/dhcp)
 *
 * For people only: between the lease and the machine's application they see that it is there. Nothing is decided by it. In
 * memory; a DHCP server tells all its leases again when it starts. The oldest of LEASES_MAX goes.
 *
 * Threads: the owner's.
 */
#ifndef VNAS_MASTER_LEASES_H
#define VNAS_MASTER_LEASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEASES_MAX = 256, LEASES_TEXT_MAX = 65 };

struct lease {
	bool is_used;
	uint8_t mac[6], address[16]; /* IPv4 is mapped */
	char name[LEASES_TEXT_MAX], vendor_class[LEASES_TEXT_MAX];
	uint64_t since_ms; /* monotonic */
};

struct leases {
	struct lease list[LEASES_MAX];
};

/* "52:54:00:12:34:56", as DHCP servers write it. 0; -EINVAL, with @mac untouched */
int leases_mac_parse(const char *text, uint8_t mac[static 6]);

/* An address belongs to one machine. @name, @vendor_class: what is no visible character is kept as '?'. */
void leases_add(struct leases *leases, const uint8_t mac[static 6], const uint8_t address[static 16], const char *name,
		const char *vendor_class, uint64_t now_ms);

/* Return: whether it was there */
bool leases_remove(struct leases *leases, const uint8_t mac[static 6], const uint8_t address[static 16]);

/* One after the other; begin with *at = 0. NULL: no more */
const struct lease *leases_next(const struct leases *leases, size_t *at);

#endif
