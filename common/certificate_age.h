/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/certificate_age.h - when a certificate is to be renewed
 *
 * A certificate is due after about two thirds of its life: some time before that, which its serial number says, so that those that
 * were made on one day are not all due at one moment. If nobody has renewed it after five sixths, something is wrong. Pure: takes the
 * time, keeps nothing.
 *
 *	issued           2/3            5/6            end
 *	  | FRESH      ... | DUE         | EXPIRING     | EXPIRED
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_CERTIFICATE_AGE_H
#define VNAS_COMMON_CERTIFICATE_AGE_H

#include "common/certificates.h"

#include <stdbool.h>

enum certificate_age { CERTIFICATE_FRESH, CERTIFICATE_DUE, CERTIFICATE_EXPIRING, CERTIFICATE_EXPIRED, CERTIFICATE_NAGES };

enum { CERTIFICATE_TIME_TEXT = 32 };

/* @now_s: wall clock */
enum certificate_age certificate_age(const struct certificates_facts *certificate, int64_t now_s);

/* "good", "due", "expiring", "expired" */
const char *certificate_age_name(enum certificate_age age);

/* After how many seconds to try again what has failed: a 256th of its life, 5 s to an hour. */
uint32_t certificate_retry_s(const struct certificates_facts *certificate);

/* Certificates that a device has asked for lately. All zero at first. */
struct certificate_asks {
	uint64_t since_ms;
	unsigned int count;
	bool is_told; /* the caller's: that it may not, since then */
};

enum { CERTIFICATE_ASKS_MAX = 60, CERTIFICATE_ASKS_MS = 60000 };

/*
 * May it ask once more? It may CERTIFICATE_ASKS_MAX times in each CERTIFICATE_ASKS_MS: signing takes milliseconds, and a write to the disk, of the
 * one thread that all devices wait for. @now_ms: monotonic clock
 */
bool certificate_may_ask(struct certificate_asks *asks, uint64_t now_ms);

/* "2031-11-24T02:00:00Z". Returns @text. */
const char *certificate_time_text(int64_t time_s, char text[static CERTIFICATE_TIME_TEXT]);

#endif
