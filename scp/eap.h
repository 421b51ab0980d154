/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * scp/eap.h - the Extended Addressing Protocol: ask the switch to change where a flow goes
 *
 * The source's format, big-endian bit fields, with the addresses beside it. Offsets:
 *
 *	offset	bits	field
 *	0	4	version, EAP_VERSION
 *	0.5	4	operation, enum eap_operation
 *	1	24	nonce: identifies the asking device, its node id
 *	4	8	protocol, as in IP
 *	5	16	source port, the client's
 *	7	16	destination port, the VIP's
 *	9	16	transaction id, a sequence number of the asking device
 *	11	32	cluster id
 *	15	8	address family, 4 or 6
 *	16	32	new owner (device index) for EAP_CHANGE, the owner in an answer
 *	20	128	client address (IPv4-mapped for family 4)
 *	36	128	VIP
 *	52		end: EAP_BYTES
 *
 * It travels in SCP, or as a UDP datagram of its own that the fabric's program answers (scp/eap_wire.h). Then there follow:
 *
 *	52	8	enum eap_kind
 *	53	8	zero
 *	54	16	answer: 0 or an errno value
 *	56	32	answer to EAP_CHANGE: the flow's generation
 *	60	64	counter: each datagram that is signed with a key has a larger one; an answer has the request's
 *	68	64	SipHash-2-4 of all before, by the device's key
 *	76		end: EAP_DATAGRAM_BYTES
 *
 * Pure; no shared state. Source: "Extended Addressing Protocol", the table of its message format.
 */
#ifndef VNAS_SCP_EAP_H
#define VNAS_SCP_EAP_H

#include "common/flow.h"

#include <stddef.h>
#include <stdint.h>

enum { EAP_VERSION = 1, EAP_BYTES = 52, EAP_DATAGRAM_BYTES = 76, EAP_KEY_BYTES = 16 };

/* The source names them: query, change connection, set or redirect. */
enum eap_operation {
	EAP_QUERY = 1,
	EAP_CHANGE = 2, /* the flow is @device's now */
	EAP_SET = 3,	/* the flow's owner is about to hand it to @device, which may speak from now on */
	EAP_REDIRECT = 4,
};

struct eap {
	enum eap_operation operation;
	uint32_t nonce; /* 24 bits */
	uint16_t transaction;
	uint32_t cluster;
	uint32_t device;
	struct flow_key flow;
};

/* Return: 0; -EINVAL: a field does not fit its width */
int eap_encode(const struct eap *eap, uint8_t out[static EAP_BYTES]);

/* Return: 0; -EBADMSG: wrong length, version, operation or family. @out: untouched on failure */
int eap_decode(const uint8_t *bytes, size_t len, struct eap *out);

enum eap_kind { EAP_REQUEST = 1, EAP_ANSWER = 2 };

struct eap_datagram {
	struct eap eap;
	enum eap_kind kind;
	uint16_t result; /* the request: 0 */
	uint32_t generation;
	uint64_t counter;
};

/* Encode and sign. Return: as eap_encode() */
int eap_datagram_encode(const struct eap_datagram *datagram, const uint8_t key[static EAP_KEY_BYTES],
			uint8_t out[static EAP_DATAGRAM_BYTES]);

/* Return: 0; -EBADMSG as eap_decode(), or of no known kind; -EACCES: not signed with this key. @out: untouched on failure */
int eap_datagram_decode(const uint8_t *bytes, size_t len, const uint8_t key[static EAP_KEY_BYTES],
			struct eap_datagram *out);

#endif
