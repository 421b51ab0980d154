/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/renewal.h"

#include "common/certificate_age.h"
#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_S = 1, ANSWER_MS = 10000, REMIND_MS = 24 * 3600 * 1000, WHY_MAX = 256 };

struct renewal {
	struct renewal_options options;
	struct event *tick;
	struct certificates_facts certificate;
	bool is_asked;
	uint64_t asked_ms, retry_ms; /* monotonic; not to be tried before retry_ms */

	/* What was said last of a failure, and when. */
	char why[WHY_MAX];
	enum certificate_age said_age;
	uint64_t said_ms;

	/* The order under way; NULL: none */
	void (*on_end)(int result, const char *why, void *arg);
	void *end_arg;
};

static int64_t now_s(void)
{
	return (int64_t)(clock_wall_ns() / 1000000000u);
}

static enum certificate_age age_now(const struct renewal *renewal)
{
	return certificate_age(&renewal->certificate, now_s());
}

/* The end of a try */

static void tell_end(struct renewal *renewal, int result, const char *why)
{
	void (*on_end)(int result, const char *why, void *arg) = renewal->on_end;

	renewal->on_end = NULL;
	if (on_end)
		on_end(result, why, renewal->end_arg);
}

/* Each reason once, again when it is later than it was, and each day. */
static bool is_news(struct renewal *renewal, const char *why, enum certificate_age age)
{
	uint64_t now_ms = clock_monotonic_ms();

	if (strcmp(renewal->why, why) == 0 && renewal->said_age == age && now_ms - renewal->said_ms < REMIND_MS)
		return false;
	snprintf(renewal->why, sizeof(renewal->why), "%s", why);
	renewal->said_age = age;
	renewal->said_ms = now_ms;
	return true;
}

static void complain(struct renewal *renewal, const char *why)
{
	const struct certificates_facts *certificate = &renewal->certificate;
	enum certificate_age age = age_now(renewal);
	char end[CERTIFICATE_TIME_TEXT];

	if (!is_news(renewal, why, age))
		return;
	certificate_time_text(certificate->expires_s, end);
	switch (age) {
	case CERTIFICATE_FRESH:
	case CERTIFICATE_DUE:
		log_warn("certificates", "serial=%s valid until %s was not renewed, which is tried again: %s", certificate->serial,
			 end, why);
		break;
	case CERTIFICATE_EXPIRING:
		log_err("certificates", "serial=%s EXPIRES at %s, when the other devices will refuse this one, and was not renewed: "
			"%s", certificate->serial, end, why);
		break;
	case CERTIFICATE_EXPIRED:
	case CERTIFICATE_NAGES:
		log_err("certificates", "serial=%s HAS EXPIRED at %s by this clock, the other devices refuse this one, and it was not "
			"renewed: %s; if the clock is right, remove this node and let it join again: vnasd(8)",
			certificate->serial, end, why);
		break;
	}
}

static void failed(struct renewal *renewal, int result, const char *why)
{
	renewal->is_asked = false;
	complain(renewal, why);
	tell_end(renewal, result, why);
}

static void renewed(struct renewal *renewal, SSL_CTX *tls)
{
	char end[CERTIFICATE_TIME_TEXT];

	renewal->is_asked = false;
	renewal->why[0] = '\0';
	log_info("certificates", "serial=%s valid until %s has taken the place of this device's former certificate",
		 renewal->certificate.serial, certificate_time_text(renewal->certificate.expires_s, end));
	renewal->options.on_renewed(tls, renewal->options.arg);
	tell_end(renewal, 0, "");
}

/* Asking */

/* By the certificate that this device has now: a new one may be for seconds. */
static void note_retry(struct renewal *renewal)
{
	renewal->retry_ms = renewal->asked_ms + 1000 * (uint64_t)certificate_retry_s(&renewal->certificate);
}

static void begin(struct renewal *renewal)
{
	char request[CERTIFICATES_PEM_MAX];
	int rc = certificates_renewal_request(renewal->options.pki, request);

	renewal->asked_ms = clock_monotonic_ms();
	note_retry(renewal);
	if (rc < 0) {
		failed(renewal, rc, "no new key could be made; see above");
		return;
	}
	renewal->is_asked = true; /* before the answer, which may come at once */
	rc = renewal->options.ask(request, renewal->options.arg);
	if (rc == -ENOTCONN)
		failed(renewal, rc, "there is no session with the master");
	else if (rc == -EPROTONOSUPPORT)
		failed(renewal, rc, "the master's vnasd is too old to renew certificates; update it");
	else if (rc < 0)
		failed(renewal, rc, strerror(-rc));
}

/* A master whose clock is behind signs what nobody else takes. If both have expired, it is our clock that is wrong. */
static bool is_better(const struct renewal *renewal, const char *certificate)
{
	struct certificates_facts facts;

	return certificates_facts_of(certificate, &facts) < 0 || certificate_age(&facts, now_s()) < CERTIFICATE_EXPIRED ||
	       age_now(renewal) == CERTIFICATE_EXPIRED;
}

void renewal_connected(struct renewal *renewal)
{
	renewal->retry_ms = 0; /* the tick does it, if it is due */
}

void renewal_answered(struct renewal *renewal, const scp_certificate *answer)
{
	const char *pki = renewal->options.pki;
	SSL_CTX *tls = NULL;
	int rc;

	if (!renewal->is_asked)
		return; /* too late: there may be another key by now */
	if (answer->result) {
		failed(renewal, answer->result > 0 ? -answer->result : -EPROTO, answer->reason);
		return;
	}
	if (!is_better(renewal, answer->certificate)) {
		failed(renewal, -ETIME, "the certificate from the master has expired by this clock; are the clocks right?");
		return;
	}
	rc = certificates_renew(pki, answer->certificate, answer->authority);
	if (rc == 0)
		rc = certificates_self(pki, &renewal->certificate);
	if (rc == 0)
		rc = certificates_tls(pki, &tls);
	note_retry(renewal);
	if (rc == 0)
		renewed(renewal, tls);
	else
		failed(renewal, rc, rc == -EKEYREJECTED || rc == -EBADMSG ? "the master's answer does not fit this device's key or authority" :
									   strerror(-rc));
}

int renewal_order(struct renewal *renewal, void (*on_end)(int result, const char *why, void *arg), void *arg)
{
	if (renewal->on_end)
		return -EBUSY;
	renewal->on_end = on_end;
	renewal->end_arg = arg;
	if (!renewal->is_asked)
		begin(renewal);
	return 0;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct renewal *renewal = arg;
	uint64_t now_ms = clock_monotonic_ms();

	(void)fd, (void)what;
	if (renewal->is_asked && now_ms - renewal->asked_ms > ANSWER_MS)
		failed(renewal, -ETIMEDOUT, "the master does not answer");
	if (!renewal->is_asked && now_ms >= renewal->retry_ms && age_now(renewal) >= CERTIFICATE_DUE)
		begin(renewal);
}

/* Life */

int renewal_new(const struct renewal_options *options, struct renewal **out)
{
	struct renewal *renewal = calloc(1, sizeof(*renewal));
	int rc = -ENOMEM;

	if (!renewal)
		return -ENOMEM;
	renewal->options = *options;
	renewal->tick = event_new(options->base, -1, EV_PERSIST, on_tick, renewal);
	if (renewal->tick)
		rc = certificates_self(options->pki, &renewal->certificate);
	if (rc < 0) {
		renewal_free(renewal);
		return rc;
	}
	event_add(renewal->tick, &(struct timeval){ .tv_sec = TICK_S });
	*out = renewal;
	return 0;
}

void renewal_free(struct renewal *renewal)
{
	if (!renewal)
		return;
	tell_end(renewal, -ECANCELED, "this device is stopping");
	if (renewal->tick)
		event_free(renewal->tick);
	free(renewal);
}

const struct certificates_facts *renewal_certificate(const struct renewal *renewal)
{
	return &renewal->certificate;
}
