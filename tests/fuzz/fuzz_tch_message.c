/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a message from another device crashes this one, or is read in two ways.
 *
 * Input: a stream of messages.
 */
#include "config.h"

#include "common/tch_message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* What is cut short is not taken for a message, nor refused. */
static void check_cut(const uint8_t *bytes, int len)
{
	struct tch_message message;

	for (int cut = 0; cut < len; cut += cut < TCH_MESSAGE_HEADER ? 1 : 1000)
		if (tch_message_decode(bytes, (size_t)cut, &message) != 0)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct tch_message message;
	uint8_t *again;
	int taken;

	while ((taken = tch_message_decode(bytes, len, &message)) > 0) {
		if ((size_t)taken > len || tch_message_encode(&message, &again) != taken ||
		    memcmp(again, bytes, (size_t)taken) != 0)
			abort();
		free(again);
		check_cut(bytes, taken);
		bytes += taken;
		len -= (size_t)taken;
	}
	return 0;
}
