/* SPDX-License-Identifier: GPL-3.0-or-later */
/* If this fails, a datagram crashes the switch, or a request has two encodings. */
#include "config.h"

#include "scp/eap.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	uint8_t again[EAP_BYTES];
	struct eap eap;

	if (eap_decode(bytes, len, &eap))
		return 0;
	if (eap_encode(&eap, again) || memcmp(again, bytes, len) != 0)
		abort();
	return 0;
}
