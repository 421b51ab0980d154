/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a handoff message crashes a device, or the facts of a session change when they travel on.
 *
 * Input: options.
 */
#include "config.h"

#include "common/tch.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	uint8_t once[TCH_OPTIONS_MAX], twice[TCH_OPTIONS_MAX];
	struct kernel_helper_state state;
	struct conn_facts facts;
	int once_len, twice_len;

	if (tch_options_decode(bytes, len, &state, &facts))
		return 0;
	once_len = tch_options_encode(&state, &facts, once);
	if (once_len < 0 || tch_options_decode(once, (size_t)once_len, &state, &facts))
		abort();
	twice_len = tch_options_encode(&state, &facts, twice);
	if (twice_len != once_len || memcmp(once, twice, (size_t)once_len) != 0)
		abort();
	return 0;
}
