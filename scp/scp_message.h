/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * scp/scp_message.h - SCP messages to bytes and back
 *
 * One row per message: name, type, which way it goes, on which channel, first protocol version. Pure.
 *
 * The body is the XDR of scp_message: its discriminant repeats the type of the header. A message has one encoding only:
 * what would not encode to the same bytes again (padding that is not zero, NUL in a string) is malformed.
 */
#ifndef VNAS_SCP_SCP_MESSAGE_H
#define VNAS_SCP_SCP_MESSAGE_H

#include "scp/scp_xdr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scp_header {
	scp_type type;
	uint32_t request;
	uint32_t length; /* of the body, bytes */
};

enum scp_direction { SCP_EITHER_WAY, SCP_TO_MASTER, SCP_FROM_MASTER };

enum { SCP_ON_CONTROL = 1 << SCP_CONTROL, SCP_ON_RELAY = 1 << SCP_RELAY };

/* A row of the table of messages. */
struct scp_message_rule {
	const char *name;
	enum scp_direction direction;
	unsigned int channels;	    /* SCP_ON_CONTROL, SCP_ON_RELAY */
	unsigned int first_version; /* of the protocol */
	uint32_t body_max;	    /* bytes */
	uint32_t count_at;	    /* where the body says how long its large part is, bytes; 0: it has none there */
};

/* Return: the row, or NULL if there is no such type */
const struct scp_message_rule *scp_message_rule(scp_type type);

/* Return: the message's name for logs, or NULL if there is no such type */
const char *scp_message_name(scp_type type);

/* Whether sessions need it for themselves: HELLO, REFUSE, ENROL, ENROL_REPLY. Roles neither send nor see it. */
bool scp_message_is_for_session(scp_type type);

/* Whether a message may travel on this channel when the peers agreed on this protocol version. */
bool scp_message_may_travel(scp_type type, scp_channel channel, unsigned int protocol);

/**
 * scp_message_encode() - header and body
 * @message:	no string in it may be NULL
 * @out:	out: to be freed by the caller
 *
 * Return: 0; -EINVAL if the message can't be encoded; -ENOMEM
 */
int scp_message_encode(uint32_t request, const scp_message *message, uint8_t **out, size_t *len);

/**
 * scp_header_decode() - the first SCP_HEADER_BYTES bytes of a message
 *
 * Return: 0; -EBADMSG: wrong magic, unknown type, or a body longer than this type may have
 */
int scp_header_decode(const uint8_t *bytes, struct scp_header *out);

/**
 * scp_body_decode() - the body
 * @out:	out: to be freed with scp_message_fini(); untouched on failure
 *
 * Return: 0; -EBADMSG if it is malformed, too short or too long
 */
int scp_body_decode(const struct scp_header *header, const uint8_t *body, scp_message *out);

void scp_message_fini(scp_message *message);

#endif
