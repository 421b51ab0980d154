/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "scp/eap.h"

#include "common/bytes.h"
#include "common/siphash.h"

#include <errno.h>
#include <netinet/in.h>

enum { FAMILY_IPV4 = 4, FAMILY_IPV6 = 6, NONCE_MAX = (1 << 24) - 1, SIGNED_BYTES = EAP_DATAGRAM_BYTES - 8 };

_Static_assert((int)EAP_KEY_BYTES == (int)SIPHASH_KEY_BYTES, "the key is SipHash's");

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

int eap_datagram_encode(const struct eap_datagram *datagram, const uint8_t key[static EAP_KEY_BYTES],
			uint8_t out[static EAP_DATAGRAM_BYTES])
{
	struct bytes_writer w = bytes_writer_init(out + EAP_BYTES, EAP_DATAGRAM_BYTES - EAP_BYTES);
	int rc = eap_encode(&datagram->eap, out);

	if (rc < 0)
		return rc;
	bytes_put_u8(&w, (uint8_t)datagram->kind);
	bytes_put_u8(&w, 0);
	bytes_put_be16(&w, datagram->result);
	bytes_put_be32(&w, datagram->generation);
	bytes_put_be64(&w, datagram->counter);
	bytes_put_be64(&w, siphash(key, out, SIGNED_BYTES));
	return 0;
}

int eap_datagram_decode(const uint8_t *bytes, size_t len, const uint8_t key[static EAP_KEY_BYTES],
			struct eap_datagram *out)
{
	struct bytes_reader r = bytes_reader_init(bytes, len);
	struct eap_datagram datagram;
	uint8_t kind, zero;

	if (len != EAP_DATAGRAM_BYTES || eap_decode(bytes_take(&r, EAP_BYTES), EAP_BYTES, &datagram.eap))
		return -EBADMSG;
	kind = bytes_get_u8(&r);
	zero = bytes_get_u8(&r);
	datagram.kind = (enum eap_kind)kind;
	datagram.result = bytes_get_be16(&r);
	datagram.generation = bytes_get_be32(&r);
	datagram.counter = bytes_get_be64(&r);
	if (zero || (kind != EAP_REQUEST && kind != EAP_ANSWER))
		return -EBADMSG;
	if (bytes_get_be64(&r) != siphash(key, bytes, SIGNED_BYTES))
		return -EACCES;
	*out = datagram;
	return 0;
}
