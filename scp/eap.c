/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "scp/eap.h"

#include "common/bytes.h"

#include <errno.h>
#include <netinet/in.h>

enum { FAMILY_IPV4 = 4, FAMILY_IPV6 = 6, NONCE_MAX = (1 << 24) - 1 };

static bool is_mapped(const uint8_t address[static 16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(address, prefix, sizeof(prefix)) == 0;
}

/* Return: the family field that fits the addresses; 0 if they are of different families */
static uint8_t family_of(const struct flow_key *flow)
{
	if (is_mapped(flow->client) != is_mapped(flow->vip))
		return 0;
	return is_mapped(flow->client) ? FAMILY_IPV4 : FAMILY_IPV6;
}

static bool is_operation(unsigned int operation)
{
	return operation >= EAP_QUERY && operation <= EAP_REDIRECT;
}

int eap_encode(const struct eap *eap, uint8_t out[static EAP_BYTES])
{
	struct bytes_writer w = bytes_writer_init(out, EAP_BYTES);
	const struct flow_key *flow = &eap->flow;
	uint8_t family = family_of(flow);

	if (!is_operation(eap->operation) || eap->nonce > NONCE_MAX || !family)
		return -EINVAL;
	bytes_put_u8(&w, (uint8_t)(EAP_VERSION << 4 | eap->operation));
	bytes_put_be(&w, 3, eap->nonce);
	bytes_put_u8(&w, flow->protocol);
	bytes_put(&w, &flow->client_port, sizeof(flow->client_port));
	bytes_put(&w, &flow->vip_port, sizeof(flow->vip_port));
	bytes_put_be16(&w, eap->transaction);
	bytes_put_be32(&w, eap->cluster);
	bytes_put_u8(&w, family);
	bytes_put_be32(&w, eap->device);
	bytes_put(&w, flow->client, sizeof(flow->client));
	bytes_put(&w, flow->vip, sizeof(flow->vip));
	return 0;
}

int eap_decode(const uint8_t *bytes, size_t len, struct eap *out)
{
	struct bytes_reader r = bytes_reader_init(bytes, len);
	struct eap eap = { 0 };
	uint8_t head, family;

	if (len != EAP_BYTES)
		return -EBADMSG;
	head = bytes_get_u8(&r);
	eap.operation = (enum eap_operation)(head & 0xf);
	eap.nonce = (uint32_t)bytes_get_be(&r, 3);
	eap.flow.protocol = bytes_get_u8(&r);
	eap.flow.client_port = htons(bytes_get_be16(&r));
	eap.flow.vip_port = htons(bytes_get_be16(&r));
	eap.transaction = bytes_get_be16(&r);
	eap.cluster = bytes_get_be32(&r);
	family = bytes_get_u8(&r);
	eap.device = bytes_get_be32(&r);
	memcpy(eap.flow.client, bytes_take(&r, 16), 16);
	memcpy(eap.flow.vip, bytes_take(&r, 16), 16);
	if (head >> 4 != EAP_VERSION || !is_operation(eap.operation) || !family || family != family_of(&eap.flow))
		return -EBADMSG;
	*out = eap;
	return 0;
}
