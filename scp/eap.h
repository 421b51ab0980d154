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
 * Pure; no shared state. Source: "Extended Addressing Protocol", the table of its message format.
 */
#ifndef VNAS_SCP_EAP_H
#define VNAS_SCP_EAP_H

#include "common/flow.h"

#include <stddef.h>
#include <stdint.h>

enum { EAP_VERSION = 1, EAP_BYTES = 52 };

/* The source names them: query, change connection, set or redirect. */
enum eap_operation { EAP_QUERY = 1, EAP_CHANGE = 2, EAP_SET = 3, EAP_REDIRECT = 4 };

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

#endif
