/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_message.h"

#include "common/bytes.h"

#include <errno.h>
#include <stdlib.h>

enum { LENGTH_BYTES = 4 };

static bool fits(const struct tch_message *message)
{
	return message->options_len <= TCH_OPTIONS_MAX && message->sent_len <= TCH_MESSAGE_QUEUE_MAX &&
	       message->unsent_len <= TCH_MESSAGE_QUEUE_MAX && message->received_len <= TCH_MESSAGE_QUEUE_MAX;
}

static size_t total_len(const struct tch_message *message)
{
	return TCH_MESSAGE_HEADER + message->options_len + message->sent_len + message->unsent_len + message->received_len;
}

int tch_message_encode(const struct tch_message *message, uint8_t **out)
{
	size_t len = fits(message) ? total_len(message) : 0;
	uint8_t *bytes = len ? malloc(len) : NULL;
	struct bytes_writer w = bytes_writer_init(bytes, len);

	if (!bytes)
		return len ? -ENOMEM : -EMSGSIZE;
	bytes_put_be32(&w, (uint32_t)(len - LENGTH_BYTES));
	bytes_put_be32(&w, message->kind);
	bytes_put_be32(&w, message->flags);
	bytes_put_be64(&w, message->id);
	bytes_put_be64(&w, message->session);
	bytes_put_be32(&w, (uint32_t)message->result);
	bytes_put_be32(&w, (uint32_t)message->options_len);
	bytes_put_be32(&w, (uint32_t)message->sent_len);
	bytes_put_be32(&w, (uint32_t)message->unsent_len);
	bytes_put_be32(&w, (uint32_t)message->received_len);
	bytes_put(&w, message->options, message->options_len);
	bytes_put(&w, message->sent, message->sent_len);
	bytes_put(&w, message->unsent, message->unsent_len);
	bytes_put(&w, message->received, message->received_len);
	*out = bytes;
	return (int)len;
}

int tch_message_decode(const uint8_t *bytes, size_t len, struct tch_message *out)
{
	struct bytes_reader r = bytes_reader_init(bytes, len);
	struct tch_message message;
	size_t total;

	if (len < LENGTH_BYTES)
		return 0;
	total = (size_t)bytes_get_be32(&r) + LENGTH_BYTES;
	if (total < TCH_MESSAGE_HEADER || total > TCH_MESSAGE_MAX)
		return -EBADMSG;
	if (len < TCH_MESSAGE_HEADER)
		return 0;
	message.kind = (enum tch_kind)bytes_get_be32(&r);
	message.flags = bytes_get_be32(&r);
	message.id = bytes_get_be64(&r);
	message.session = bytes_get_be64(&r);
	message.result = (int)bytes_get_be32(&r);
	message.options_len = bytes_get_be32(&r);
	message.sent_len = bytes_get_be32(&r);
	message.unsent_len = bytes_get_be32(&r);
	message.received_len = bytes_get_be32(&r);
	if (message.kind < TCH_KIND_OPEN || message.kind >= TCH_KIND_COUNT || !fits(&message) || total_len(&message) != total)
		return -EBADMSG;
	if (len < total)
		return 0;
	message.options = bytes_take(&r, message.options_len);
	message.sent = bytes_take(&r, message.sent_len);
	message.unsent = bytes_take(&r, message.unsent_len);
	message.received = bytes_take(&r, message.received_len);
	*out = message;
	return (int)total;
}
