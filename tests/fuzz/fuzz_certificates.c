/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a stranger who asks to join crashes the master by his request, or a damaged certificate is taken for a good one.
 *
 * Input: PEM, taken for a request and for a certificate.
 */
#include "config.h"

#include "common/certificates.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *pem = strndup((const char *)bytes, len), fingerprint[CERTIFICATES_FINGERPRINT_TEXT];
	uint8_t key[CERTIFICATES_KEY_BYTES];
	struct certificates_facts facts;
	int rc;

	if (!pem)
		abort();
	rc = certificates_request_key(pem, key);
	if (rc && rc != -EBADMSG)
		abort();
	rc = certificates_facts_of(pem, &facts);
	if (rc && rc != -EBADMSG)
		abort();
	if (rc == 0 && (!facts.node || facts.number >> 62 || strlen(facts.serial) != CERTIFICATES_SERIAL_TEXT - 1))
		abort();
	if (rc == 0 && certificates_fingerprint_of(pem, fingerprint))
		abort();
	free(pem);
	return 0;
}
