/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/ip_network.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ADDRESS_BITS = 128, IPV4_BITS = 32, MAPPED_BITS = ADDRESS_BITS - IPV4_BITS };

static const uint8_t ipv4_mapped[MAPPED_BITS / 8] = { [10] = 0xff, [11] = 0xff };

/* "24" or "255.255.255.0". Return: the bits; -EINVAL */
static int bits_parse(const char *text, unsigned int family_bits)
{
	struct in_addr mask;
	uint32_t holes;

	if (isdigit((unsigned char)*text) && strlen(text) <= 3 && !text[strspn(text, "0123456789")]) {
		int bits = atoi(text);

		return bits <= (int)family_bits ? bits : -EINVAL;
	}
	if (family_bits != IPV4_BITS || inet_pton(AF_INET, text, &mask) != 1)
		return -EINVAL;
	holes = ~ntohl(mask.s_addr);
	if (holes & (holes + 1))
		return -EINVAL;
	return IPV4_BITS - __builtin_popcount(holes);
}

/* Return: how many bits the family's addresses have; -EINVAL */
static int address_parse(const char *text, uint8_t address[static 16])
{
	memcpy(address, ipv4_mapped, sizeof(ipv4_mapped));
	if (inet_pton(AF_INET, text, address + sizeof(ipv4_mapped)) == 1)
		return IPV4_BITS;
	return inet_pton(AF_INET6, text, address) == 1 ? ADDRESS_BITS : -EINVAL;
}

int ip_network_parse(const char *text, struct ip_network *out)
{
	const char *slash = strchr(text, '/');
	char address[IP_NETWORK_TEXT_MAX];
	struct ip_network network;
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	int family_bits, bits;

	if (len >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, len);
	address[len] = '\0';
	family_bits = address_parse(address, network.address);
	if (family_bits < 0)
		return family_bits;
	bits = slash ? bits_parse(slash + 1, (unsigned int)family_bits) : family_bits;
	if (bits < 0)
		return bits;
	network.bits = (unsigned int)(bits + ADDRESS_BITS - family_bits);
	*out = network;
	return 0;
}

const char *ip_network_text(const struct ip_network *network, char text[static IP_NETWORK_TEXT_MAX])
{
	bool is_ipv4 = network->bits >= MAPPED_BITS &&
		       memcmp(network->address, ipv4_mapped, sizeof(ipv4_mapped)) == 0;
	char address[INET6_ADDRSTRLEN] = "";

	if (is_ipv4)
		inet_ntop(AF_INET, network->address + sizeof(ipv4_mapped), address, sizeof(address));
	else
		inet_ntop(AF_INET6, network->address, address, sizeof(address));
	snprintf(text, IP_NETWORK_TEXT_MAX, "%s/%u", address, network->bits - (is_ipv4 ? MAPPED_BITS : 0));
	return text;
}

bool ip_network_is_exact(const struct ip_network *network)
{
	for (unsigned int bit = network->bits; bit < ADDRESS_BITS; bit++)
		if (network->address[bit / 8] & 0x80 >> bit % 8)
			return false;
	return true;
}

bool ip_network_is_same(const struct ip_network *a, const struct ip_network *b)
{
	return a->bits == b->bits && memcmp(a->address, b->address, sizeof(a->address)) == 0;
}
