/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * scp/backoff.h - how long to wait before the next try
 *
 * At once, then up to 0.1 s, twice as long each time, up to 5 s; each time a random part of the second half less, so that those who
 * have lost the same device at the same moment don't come back at the same moment. Pure: the caller draws the number.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_SCP_BACKOFF_H
#define VNAS_SCP_BACKOFF_H

#include <stdint.h>

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 5000 };

/* @backoff_ms: 0 at first; for the next try when it returns. @random: any number. Return: milliseconds to wait now */
unsigned int backoff_next(unsigned int *backoff_ms, uint32_t random);

#endif
