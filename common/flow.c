/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/flow.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* BPF programs compare and hash keys byte by byte. */
_Static_assert(sizeof(struct flow_key) == 40, "flow_key has no padding");
_Static_assert(offsetof(struct flow_key, client_port) == 32, "flow_key layout");
_Static_assert(offsetof(struct flow_key, protocol) == 36, "flow_key layout");

static const uint8_t ipv4_mapped[12] = { [10] = 0xff, [11] = 0xff };

static int address_from_socket(const struct sockaddr_storage *ss, __u8 address[16], __be16 *port)
{
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

		memcpy(address, ipv4_mapped, sizeof(ipv4_mapped));
		memcpy(address + sizeof(ipv4_mapped), &in->sin_addr, 4);
		*port = in->sin_port;
		return 0;
	}
	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

		memcpy(address, &in6->sin6_addr, 16);
		*port = in6->sin6_port;
		return 0;
	}
	return -EAFNOSUPPORT;
}

static void address_to_socket(const __u8 address[16], __be16 port, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof(*ss));
	if (memcmp(address, ipv4_mapped, sizeof(ipv4_mapped)) == 0) {
		struct sockaddr_in *in = (struct sockaddr_in *)ss;

		in->sin_family = AF_INET;
		in->sin_port = port;
		memcpy(&in->sin_addr, address + sizeof(ipv4_mapped), 4);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = port;
		memcpy(&in6->sin6_addr, address, 16);
	}
}

int flow_from_sockets(const struct sockaddr_storage *client, const struct sockaddr_storage *vip, uint8_t protocol,
		      struct flow_key *out)
{
	struct flow_key flow = { .protocol = protocol };
	int err;

	err = address_from_socket(client, flow.client, &flow.client_port);
	if (!err)
		err = address_from_socket(vip, flow.vip, &flow.vip_port);
	if (!err)
		*out = flow;
	return err;
}

int flow_address(const struct sockaddr_storage *address, uint8_t out[static 16])
{
	__be16 port;

	return address_from_socket(address, out, &port);
}

void flow_to_sockets(const struct flow_key *flow, struct sockaddr_storage *client, struct sockaddr_storage *vip)
{
	address_to_socket(flow->client, flow->client_port, client);
	address_to_socket(flow->vip, flow->vip_port, vip);
}

uint32_t flow_hash(const struct flow_key *flow)
{
	const uint8_t *bytes = (const uint8_t *)flow;
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < sizeof(*flow); i++)
		hash = (hash ^ bytes[i]) * 16777619u;
	return hash;
}

int flow_is_ipv4(const struct flow_key *flow)
{
	return memcmp(flow->client, ipv4_mapped, sizeof(ipv4_mapped)) == 0;
}

static bool is_mapped(const __u8 address[16])
{
	return memcmp(address, ipv4_mapped, sizeof(ipv4_mapped)) == 0;
}

const char *flow_address_text(const __u8 address[static 16], char text[static FLOW_ADDRESS_MAX])
{
	if (is_mapped(address))
		inet_ntop(AF_INET, address + sizeof(ipv4_mapped), text, FLOW_ADDRESS_MAX);
	else
		inet_ntop(AF_INET6, address, text, FLOW_ADDRESS_MAX);
	return text;
}

static void endpoint_text(const __u8 address[16], __be16 port, char *text, size_t size)
{
	char name[FLOW_ADDRESS_MAX];

	snprintf(text, size, is_mapped(address) ? "%s:%u" : "[%s]:%u", flow_address_text(address, name), ntohs(port));
}

static const char *protocol_text(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	default:
		return "ip";
	}
}

const char *flow_text(const struct flow_key *flow, char text[static FLOW_TEXT_MAX])
{
	char client[INET6_ADDRSTRLEN + 8], vip[INET6_ADDRSTRLEN + 8];

	endpoint_text(flow->client, flow->client_port, client, sizeof(client));
	endpoint_text(flow->vip, flow->vip_port, vip, sizeof(vip));
	snprintf(text, FLOW_TEXT_MAX, "%s %s-%s", protocol_text(flow->protocol), client, vip);
	return text;
}
