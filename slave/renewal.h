/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/renewal.h - this device renews its certificate in time
 *
 *	        due, or ordered               signed: stored, in use
 *	IDLE ----------------------> ASKED -----------------------------> IDLE
 *	  ^                            | refused, no answer, can't be stored
 *	  +----------------------------+ and again after certificate_retry_s()
 *
 * On a disk node and on the switch alike; how the master is asked comes as a function. Sessions that are up go on by the old
 * certificate; those that begin later have the new one. Says in the log when it does not work, the more clearly the closer the end is.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_RENEWAL_H
#define VNAS_SLAVE_RENEWAL_H

#include "common/certificates.h"
#include "scp/scp_xdr.h"

struct event_base;
struct renewal;

struct renewal_options {
	struct event_base *base;
	const char *pki; /* where the certificate is kept; borrowed for life */

	/* Have @request signed. 0: renewal_answered() will be called, perhaps before this returns; or negative errno. */
	int (*ask)(const char *request, void *arg);

	/* The new certificate is in force. Takes @tls. */
	void (*on_renewed)(SSL_CTX *tls, void *arg);
	void *arg;
};

/* Return: 0; -ENOENT if this device has no certificate; -ENOMEM */
int renewal_new(const struct renewal_options *options, struct renewal **out);

/* An order that has not ended ends with -ECANCELED. */
void renewal_free(struct renewal *renewal);

/* The master is there again: what could not be asked meanwhile is asked at once. */
void renewal_connected(struct renewal *renewal);

/* What the master says. */
void renewal_answered(struct renewal *renewal, const scp_certificate *answer);

/*
 * Renew it now. @on_end: called once, later or at once, with 0, or a negative errno value and why it has failed.
 * Return: 0; -EBUSY if an order is under way
 */
int renewal_order(struct renewal *renewal, void (*on_end)(int result, const char *why, void *arg), void *arg);

/* The certificate that this device has now. */
const struct certificates_facts *renewal_certificate(const struct renewal *renewal);

#endif
