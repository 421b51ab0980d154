/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * scp/scp_message.h - SCP messages to bytes and back
 *
 * One row per message: name, type, which way it goes, on which channel, first protocol version. Pure.
 */
#ifndef VNAS_SCP_SCP_MESSAGE_H
#define VNAS_SCP_SCP_MESSAGE_H

#include "scp/scp_xdr.h"

#include <stddef.h>
#include <stdint.h>

struct scp_header {
	scp_type type;
	uint32_t request;
	uint32_t length; /* of the body, bytes */
};

/* Return: the message's name for logs, or NULL if there is no such type */
const char *scp_message_name(scp_type type);

/**
 * scp_message_encode() - header and body
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
