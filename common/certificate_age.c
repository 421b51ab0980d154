/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/certificate_age.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RETRY_MIN_S = 5, RETRY_MAX_S = 3600, SPREAD = 256 };

/* 0 to SPREAD - 1, from what is random in a serial number. */
static int64_t spread_of(const struct certificates_facts *certificate)
{
	const char last[] = { certificate->serial[CERTIFICATES_SERIAL_TEXT - 3], certificate->serial[CERTIFICATES_SERIAL_TEXT - 2], 0 };

	return (int64_t)strtoul(last, NULL, 16) % SPREAD;
}

enum certificate_age certificate_age(const struct certificates_facts *certificate, int64_t now_s)
{
	int64_t life_s = certificate->expires_s - certificate->issued_s, age_s = now_s - certificate->issued_s;
	int64_t due_s = life_s * 2 / 3 - life_s / 12 * spread_of(certificate) / SPREAD;

	if (age_s >= life_s)
		return CERTIFICATE_EXPIRED;
	if (age_s >= life_s * 5 / 6)
		return CERTIFICATE_EXPIRING;
	return age_s >= due_s ? CERTIFICATE_DUE : CERTIFICATE_FRESH;
}

const char *certificate_age_name(enum certificate_age age)
{
	static const char *const names[CERTIFICATE_NAGES] = {
		[CERTIFICATE_FRESH] = "good",
		[CERTIFICATE_DUE] = "due",
		[CERTIFICATE_EXPIRING] = "expiring",
		[CERTIFICATE_EXPIRED] = "expired",
	};

	return names[age];
}

uint32_t certificate_retry_s(const struct certificates_facts *certificate)
{
	int64_t retry_s = (certificate->expires_s - certificate->issued_s) / 256;

	return (uint32_t)(retry_s < RETRY_MIN_S ? RETRY_MIN_S : retry_s > RETRY_MAX_S ? RETRY_MAX_S : retry_s);
}

bool certificate_may_ask(struct certificate_asks *asks, uint64_t now_ms)
{
	if (now_ms - asks->since_ms >= CERTIFICATE_ASKS_MS)
		*asks = (struct certificate_asks){ .since_ms = now_ms };
	if (asks->count == CERTIFICATE_ASKS_MAX)
		return false;
	asks->count++;
	return true;
}

const char *certificate_time_text(int64_t time_s, char text[static CERTIFICATE_TIME_TEXT])
{
	time_t time = (time_t)time_s;
	struct tm tm;

	if (!gmtime_r(&time, &tm) || !strftime(text, CERTIFICATE_TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(text, CERTIFICATE_TIME_TEXT, "?");
	return text;
}
