/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/ip_network.h - networks, as people write them: 10.0.0.0/8, 10.0.0.0/255.0.0.0, fd00::/8
 *
 * IPv4 and IPv6 in one form: IPv4 addresses are IPv4-mapped, and their networks have at least 96 bits.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_IP_NETWORK_H
#define VNAS_COMMON_IP_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

enum { IP_NETWORK_TEXT_MAX = 50 };

struct ip_network {
	uint8_t address[16];
	unsigned int bits; /* of the 128 */
};

/* An address alone is a network of one. Return: 0; -EINVAL, with *out untouched */
int ip_network_parse(const char *text, struct ip_network *out);

/* "10.0.0.0/8", "fd00::/8", "10.0.0.1/32". Returns @text. */
const char *ip_network_text(const struct ip_network *network, char text[static IP_NETWORK_TEXT_MAX]);

/* Is no bit of the address set behind the network's? */
bool ip_network_is_exact(const struct ip_network *network);

bool ip_network_is_same(const struct ip_network *a, const struct ip_network *b);

#endif
