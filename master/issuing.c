/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/issuing.h"

#include "common/certificate_age.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/fabric.h"
#include "master/master.h"
#include "master/vroot.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_S = 1 };

/* SQLite has no larger number. */
#define ALL_NUMBERS ((uint64_t)INT64_MAX)

struct issuing {
	struct master *master;
	struct event *tick;
	struct certificates_facts authority;
	uint64_t retry_ms; /* monotonic; the authority is not to be renewed before */
	struct certificate_asks asks[FABRIC_DEVICES_MAX];
	char pki[PATH_MAX];
};

/* Signing */

static const uint8_t *cluster_of(const struct issuing *issuing)
{
	return (const uint8_t *)namespace_cluster(master_ns(issuing->master))->uuid;
}

static void record(struct issuing *issuing, const struct certificates_facts *certificate)
{
	if (vroot_certificate_put(master_vroot(issuing->master), certificate) < 0)
		log_err("certificates", "serial=%s node=%u is not in the list; it is good nevertheless", certificate->serial,
			certificate->node);
}

int issuing_sign(struct issuing *issuing, const char *request, uint32_t node, char *certificate, char *authority)
{
	struct certificates_terms terms = { .node = node, .life_s = master_settings(issuing->master)->certificate_life_s };
	uint8_t key[CERTIFICATES_KEY_BYTES];
	struct certificates_facts facts;
	int rc = certificates_request_key(request, key); /* before a number is used up */

	if (rc == 0)
		rc = vroot_next_id(master_vroot(issuing->master), NS_REVOCATION, &terms.number);
	if (rc == 0 && namespace_is_revoked(master_ns(issuing->master), node, terms.number))
		rc = -EKEYREVOKED;
	if (rc == 0)
		rc = certificates_sign(issuing->pki, request, cluster_of(issuing), &terms, certificate);
	if (rc == 0)
		rc = certificates_authority(issuing->pki, authority);
	if (rc == 0)
		rc = certificates_facts_of(certificate, &facts);
	if (rc == 0)
		record(issuing, &facts);
	return rc;
}

static const char *reason_of(int rc)
{
	switch (rc) {
	case 0:
		return "";
	case -EBADMSG:
		return "the certificate request is malformed";
	case -EKEYREVOKED:
		return "the device's certificates were revoked";
	case -EBUSY:
		return "the device has asked for too many certificates within a minute";
	default:
		return "the master could not sign a certificate; its log says why";
	}
}

/* A device may be in wrong hands: it may not keep the others waiting, nor fill the log. */
static bool may_ask(struct issuing *issuing, uint32_t node)
{
	struct certificate_asks *asks = &issuing->asks[node % FABRIC_DEVICES_MAX];

	if (node == NAMESPACE_MASTER || certificate_may_ask(asks, clock_monotonic_ms()))
		return true;
	if (!asks->is_told)
		log_warn("certificates", "node=%u asks for certificates all the time: it gets no more for up to a minute", node);
	asks->is_told = true;
	return false;
}

void issuing_answer(struct issuing *issuing, const char *request, uint32_t node,
		    void (*send)(const scp_certificate *answer, void *arg), void *arg)
{
	char certificate[CERTIFICATES_PEM_MAX] = "", authority[CERTIFICATES_PEM_MAX] = "";
	int rc = may_ask(issuing, node) ? issuing_sign(issuing, request, node, certificate, authority) : -EBUSY;
	const scp_certificate answer = {
		.result = -rc,
		.reason = (char *)reason_of(rc),
		.certificate = rc ? (char *)"" : certificate,
		.authority = rc ? (char *)"" : authority,
	};

	if (rc < 0 && rc != -EBUSY)
		log_warn("certificates", "node=%u gets no new certificate: %s (%s)", node, reason_of(rc), strerror(-rc));
	else if (rc == 0)
		log_info("certificates", "node=%u gets a new certificate", node);
	send(&answer, arg);
}

void issuing_note(struct issuing *issuing, const struct certificates_facts *certificate)
{
	record(issuing, certificate);
}

/* Taking back */

int issuing_revoke(struct issuing *issuing, uint32_t node, uint64_t number)
{
	struct vroot *vroot = master_vroot(issuing->master);
	const bool is_all = number >= ALL_NUMBERS;
	ns_item item = { .kind = NS_REVOCATION };
	ns_revocation *revocation = &item.ns_item_u.revocation;
	int rc = 0;

	*revocation = (ns_revocation){
		.node = node, .first_good = is_all ? ALL_NUMBERS : number + 1, .revoked_ns = clock_wall_ns()
	};
	if (namespace_is_revoked(master_ns(issuing->master), node, revocation->first_good - 1))
		return 0; /* and more, perhaps */
	/* First: what stops in between may not leave it able to move flows by datagrams, which show no certificate. */
	if (is_all && master_fabric(issuing->master))
		fabric_key_forget(master_fabric(issuing->master), node);
	/* Or its key would be let in again, as one that was approved. */
	if (is_all)
		rc = vroot_candidates_reject(vroot, node);
	if (rc == 0)
		rc = vroot_change(vroot, NS_PUT, &item);
	if (rc == 0)
		log_info("certificates", "node=%u %s revoked", node, is_all ? "all certificates were" : "former certificates were");
	return rc;
}

/* The authority itself */

int issuing_renew_authority(struct issuing *issuing)
{
	char end[CERTIFICATE_TIME_TEXT];
	int rc = certificates_renew_authority(issuing->pki, cluster_of(issuing),
					      master_settings(issuing->master)->authority_life_s);

	if (rc == 0)
		rc = certificates_authority_facts(issuing->pki, &issuing->authority);
	if (rc < 0) {
		log_err("certificates", "the authority's certificate, which is good until %s, was not renewed: %s; it is tried again",
			certificate_time_text(issuing->authority.expires_s, end), strerror(-rc));
		return rc;
	}
	log_info("certificates", "serial=%s valid until %s is the authority's certificate from now on; join tokens that were made before "
		 "are void", issuing->authority.serial, certificate_time_text(issuing->authority.expires_s, end));
	return 0;
}

static void on_own_end(int result, const char *why, void *arg)
{
	(void)result, (void)why, (void)arg; /* which the log says */
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct issuing *issuing = arg;
	uint64_t now_ms = clock_monotonic_ms();

	(void)fd, (void)what;
	if (now_ms < issuing->retry_ms ||
	    certificate_age(&issuing->authority, (int64_t)(clock_wall_ns() / 1000000000u)) < CERTIFICATE_DUE)
		return;
	if (issuing_renew_authority(issuing) == 0)
		slave_renew_certificate(master_slave(issuing->master), on_own_end, NULL);
	issuing->retry_ms = now_ms + 1000 * (uint64_t)certificate_retry_s(&issuing->authority);
}

const struct certificates_facts *issuing_authority(const struct issuing *issuing)
{
	return &issuing->authority;
}

/* Life */

int issuing_new(struct master *master, struct issuing **out)
{
	struct issuing *issuing = calloc(1, sizeof(*issuing));
	int rc = -ENOMEM;

	if (!issuing)
		return -ENOMEM;
	issuing->master = master;
	snprintf(issuing->pki, sizeof(issuing->pki), "%.4000s/pki", master_settings(master)->state_dir);
	issuing->tick = event_new(master_base(master), -1, EV_PERSIST, on_tick, issuing);
	if (issuing->tick)
		rc = certificates_authority_facts(issuing->pki, &issuing->authority);
	if (rc < 0) {
		log_err("certificates", "dir=%s has no authority that can be used: %s", issuing->pki, strerror(-rc));
		issuing_free(issuing);
		return rc;
	}
	*out = issuing;
	return 0;
}

void issuing_start(struct issuing *issuing)
{
	issuing_note(issuing, slave_certificate(master_slave(issuing->master)));
	event_add(issuing->tick, &(struct timeval){ .tv_sec = TICK_S });
}

void issuing_free(struct issuing *issuing)
{
	if (!issuing)
		return;
	if (issuing->tick)
		event_free(issuing->tick);
	free(issuing);
}
