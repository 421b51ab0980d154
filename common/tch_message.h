/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tch_message.h - TCH messages in a byte stream, for servers that have no SCP
 *
 *	0	4	length of all that follows
 *	4	4	kind
 *	8	4	flags
 *	12	8	id of the handoff
 *	20	8	session
 *	28	4	result
 *	32	16	lengths of options, sent, unsent, received; then these
 *
 * Numbers are big-endian. Who carries them sees to it that only devices can send them.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_TCH_MESSAGE_H
#define VNAS_COMMON_TCH_MESSAGE_H

#include "common/tch.h"

enum {
	TCH_MESSAGE_HEADER = 48,
	TCH_MESSAGE_QUEUE_MAX = 16 * 1024 * 1024, /* of each of sent, unsent, received */
	TCH_MESSAGE_MAX = TCH_MESSAGE_HEADER + TCH_OPTIONS_MAX + 3 * TCH_MESSAGE_QUEUE_MAX,
};

/**
 * tch_message_encode() - a message as bytes
 * @out:	out: to be freed with free(); untouched on failure
 *
 * Return: their number; -ENOMEM; -EMSGSIZE if something is too long
 */
int tch_message_encode(const struct tch_message *message, uint8_t **out);

/**
 * tch_message_decode() - the message that a stream begins with
 * @out:	out: borrows from @bytes; untouched unless the result is positive
 *
 * Return: the bytes that it takes; 0 if there are not enough yet; -EBADMSG
 */
int tch_message_decode(const uint8_t *bytes, size_t len, struct tch_message *out);

#endif
