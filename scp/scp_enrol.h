/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * scp/scp_enrol.h - a machine that is in no cluster asks to become a device: one question, one answer
 *
 * The question is ENROL with a token, or APPLY without; the answer ENROL_REPLY or REFUSE. TLS, without a certificate of our
 * own. scp_join() (scp/scp.h) asks with a token and waits; slave/candidate.h applies, again and again.
 *
 * Threads: those of the event base.
 */
#ifndef VNAS_SCP_SCP_ENROL_H
#define VNAS_SCP_SCP_ENROL_H

#include "scp/scp_xdr.h"

#include <stdint.h>

enum { SCP_ENROLMENT_MS = 10000, SCP_ENROLMENT_WHY_MAX = 512 };

struct event_base;
struct scp_enrolment;

/* How it ended. All of it is borrowed for the callback. */
struct scp_enrolment_end {
	int rc;			      /* 0; -EAGAIN: not decided yet; -EACCES: no; -ETIMEDOUT, -ECONNREFUSED, -EKEYREJECTED, ... */
	const scp_enrol_reply *reply; /* NULL if none came, or a REFUSE */
	const char *authority;	      /* fingerprint of who the other end has proved to be; "": nobody */
	const char *why;	      /* a sentence, if rc is not 0 */
};

struct scp_enrolment_options {
	struct event_base *base;
	const char *address;	      /* numeric */
	uint16_t port;
	const char *fingerprint;      /* that the authority must have; NULL: any */
	const scp_message *question;  /* borrowed for the call */
	void (*on_end)(const struct scp_enrolment_end *end, void *arg); /* once, from the loop; may free the enrolment */
	void *arg;
};

/**
 * scp_enrolment_start() - connect and ask
 * @out:	out: to be freed with scp_enrolment_free()
 *
 * Return: 0, and on_end will be called within SCP_ENROLMENT_MS; -EINVAL (no numeric address, or the question can't be
 * encoded); -ENOMEM; what socket(2) said
 */
int scp_enrolment_start(const struct scp_enrolment_options *options, struct scp_enrolment **out);

/* At any time; nothing happens afterwards. NULL is fine. */
void scp_enrolment_free(struct scp_enrolment *enrolment);

enum { SCP_ADDRESS_MAX = 64 };

/**
 * scp_address_split() - take "ADDRESS[:PORT]" apart, an IPv6 address with a port in brackets
 * @address:	out: at least SCP_ADDRESS_MAX bytes; not checked to be numeric
 * @port:	out: SCP_PORT if none is given
 *
 * Return: 0; -EINVAL
 */
int scp_address_split(const char *text, char address[static SCP_ADDRESS_MAX], uint16_t *port);

#endif
