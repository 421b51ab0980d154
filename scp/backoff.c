/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "scp/backoff.h"

unsigned int backoff_next(unsigned int *backoff_ms, uint32_t random)
{
	unsigned int now_ms = *backoff_ms;

	*backoff_ms = now_ms ? 2 * now_ms : BACKOFF_MIN_MS;
	if (*backoff_ms > BACKOFF_MAX_MS)
		*backoff_ms = BACKOFF_MAX_MS;
	return now_ms - (now_ms ? random % (now_ms / 2 + 1) : 0);
}
