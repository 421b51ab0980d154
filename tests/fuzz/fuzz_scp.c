/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, bytes from the network crash a device, or a message has two encodings.
 *
 * Input: a message with its header, and what follows it.
 */
#include "config.h"

#include "scp/scp.h"
#include "scp/scp_message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void decode_and_encode(const struct scp_header *header, const uint8_t *bytes)
{
	uint8_t *body = malloc(header->length + !header->length), *again; /* alone, so that reading past it is seen */
	scp_message message;
	size_t len;

	memcpy(body, bytes + SCP_HEADER_BYTES, header->length);
	if (scp_body_decode(header, body, &message) == 0) {
		if (scp_message_encode(header->request, &message, &again, &len) ||
		    len != SCP_HEADER_BYTES + header->length || memcmp(again, bytes, len) != 0)
			abort();
		free(again);
		scp_message_fini(&message);
	}
	free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct scp_header header;

	if (len < SCP_HEADER_BYTES || scp_header_decode(bytes, &header) || header.length > len - SCP_HEADER_BYTES)
		return 0;
	decode_and_encode(&header, bytes);
	return 0;
}
