/* SPDX-License-Identifier: GPL-3.0-or-later */
/* If this fails, a datagram crashes the switch, or a request has two encodings. */
#include "config.h"

#include "common/siphash.h"
#include "scp/eap.h"

#include <stdlib.h>
#include <string.h>

enum { HASH_BYTES = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* With the right hash, which chance does not find. */
static void try_datagram(const uint8_t *bytes)
{
	static const uint8_t key[EAP_KEY_BYTES] = { 1, 2, 3 };
	uint8_t good[EAP_DATAGRAM_BYTES], again[EAP_DATAGRAM_BYTES];
	struct eap_datagram datagram;
	uint64_t hash = siphash(key, bytes, EAP_DATAGRAM_BYTES - HASH_BYTES);

	memcpy(good, bytes, sizeof(good));
	for (int i = 1; i <= HASH_BYTES; i++, hash >>= 8)
		good[EAP_DATAGRAM_BYTES - i] = (uint8_t)hash;
	if (eap_datagram_decode(good, sizeof(good), key, &datagram))
		return;
	if (eap_datagram_encode(&datagram, key, again) || memcmp(again, good, sizeof(good)) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	uint8_t again[EAP_BYTES];
	struct eap eap;

	if (len == EAP_DATAGRAM_BYTES)
		try_datagram(bytes);
	if (eap_decode(bytes, len, &eap))
		return 0;
	if (eap_encode(&eap, again) || memcmp(again, bytes, len) != 0)
		abort();
	return 0;
}
