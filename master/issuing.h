/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/issuing.h - the cluster's authority at work: it signs certificates, takes them back, and keeps itself alive
 *
 * Each certificate gets the next number of the cluster. What is taken back is, of one device, all certificates below some number:
 * one item of the name space (ns_revocation), which every device has. So the list has an entry for a device at most, and never
 * forgets one that is still valid. Which certificates there are is kept in the database, for people.
 *
 * The authority's certificate is renewed in time with the same key: what it has signed remains good. A device gets it with its own
 * next certificate, which is due before the old authority ends, because no certificate is signed for longer than its authority's.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_ISSUING_H
#define VNAS_MASTER_ISSUING_H

#include "common/certificates.h"
#include "scp/scp_xdr.h"

#include <stdint.h>

struct issuing;
struct master;

/* @master: borrowed for life. 0; -ENOENT if there is no authority in <state_dir>/pki, -ENOMEM */
int issuing_new(struct master *master, struct issuing **out);
void issuing_free(struct issuing *issuing);

/* Now there is a device here, whose certificate is renewed with the authority's. */
void issuing_start(struct issuing *issuing);

/**
 * issuing_sign() - a certificate for a node
 * @request:	of the node, PEM
 * @certificate, @authority: out: CERTIFICATES_PEM_MAX bytes each
 *
 * Return: 0; -EBADMSG if it is no request of ours; -EKEYREVOKED if the node's certificates were taken back; -EIO
 */
int issuing_sign(struct issuing *issuing, const char *request, uint32_t node, char *certificate, char *authority);

/**
 * issuing_answer() - the same, as a message, to a device that may ask CERTIFICATE_ASKS_MAX times a minute
 * @send:	called once, before this returns, with what is to be said; borrowed
 */
void issuing_answer(struct issuing *issuing, const char *request, uint32_t node,
		    void (*send)(const scp_certificate *answer, void *arg), void *arg);

/* A device has shown its certificate, which may be older than the record. */
void issuing_note(struct issuing *issuing, const struct certificates_facts *certificate);

/**
 * issuing_revoke() - refuse all certificates of a node up to a number
 * @number:	the last that is bad; UINT64_MAX: all that there are, and there will be no other
 *
 * Everywhere, at once, for ever. Sessions by them end.
 *
 * Return: 0; -EIO
 */
int issuing_revoke(struct issuing *issuing, uint32_t node, uint64_t number);

/* A new certificate for the authority; this device should have a new one after that. 0; or what failed, logged */
int issuing_renew_authority(struct issuing *issuing);

/* The authority's certificate. */
const struct certificates_facts *issuing_authority(const struct issuing *issuing);

#endif
