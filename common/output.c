/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/output.h"

#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { PARTS_MAX = 64 }; /* of one system call */

static const uint8_t zeros[4];

void output_init(struct output *output)
{
	STAILQ_INIT(&output->pieces);
	output->len = output->held = 0;
}

static size_t piece_len(const struct output_piece *piece)
{
	return piece->len + piece->pages_len + piece->pad;
}

static void release_first(struct output *output)
{
	struct output_piece *piece = STAILQ_FIRST(&output->pieces);

	STAILQ_REMOVE_HEAD(&output->pieces, link);
	page_pipe_put(piece->pages);
	piece->pages = NULL;
	output->held -= piece->held;
	piece->release(piece);
}

void output_fini(struct output *output)
{
	while (!STAILQ_EMPTY(&output->pieces))
		release_first(output);
	output->len = 0;
}

void output_add(struct output *output, struct output_piece *piece)
{
	BUG_IF(piece->pad >= sizeof(zeros));
	piece->sent = 0;
	output->len += piece_len(piece);
	output->held += piece->held;
	STAILQ_INSERT_TAIL(&output->pieces, piece, link);
}

static void sent_some(struct output *output, size_t len)
{
	output->len -= len;
	while (len) {
		struct output_piece *piece = STAILQ_FIRST(&output->pieces);
		size_t left = piece_len(piece) - piece->sent;

		if (len < left) {
			piece->sent += len;
			return;
		}
		len -= left;
		release_first(output);
	}
}

/* Where the piece's pages are in it, the next byte to write being one of them. */
static bool is_at_pages(const struct output_piece *piece)
{
	return piece->pages && piece->sent >= piece->len && piece->sent < piece->len + piece->pages_len;
}

/* What of a piece is next and in memory. */
static struct iovec memory_part(const struct output_piece *piece)
{
	size_t tail = piece->len + piece->pages_len;

	if (piece->sent < piece->len)
		return (struct iovec){ (uint8_t *)piece->bytes + piece->sent, piece->len - piece->sent };
	return (struct iovec){ (uint8_t *)zeros, tail + piece->pad - piece->sent };
}

/* Parts in memory from the front on, up to pages. @more: out: whether something follows. Return: how many */
static size_t gather(const struct output *output, struct iovec parts[static PARTS_MAX], bool *more)
{
	const struct output_piece *piece;
	size_t count = 0;

	STAILQ_FOREACH(piece, &output->pieces, link) {
		bool is_tail = piece->sent >= piece->len;

		*more = true;
		if (count + 2 > PARTS_MAX || is_at_pages(piece))
			return count;
		parts[count++] = memory_part(piece);
		if (!is_tail && piece->pages_len)
			return count;
		if (!is_tail && piece->pad)
			parts[count++] = (struct iovec){ (uint8_t *)zeros, piece->pad };
	}
	*more = false;
	return count;
}

/* MSG_MORE: what follows, pages above all, shall share the packet with what stands before it. */
static ssize_t send_memory(const struct output *output, int socket)
{
	struct iovec parts[PARTS_MAX];
	struct msghdr message = { .msg_iov = parts };
	bool more = false;
	ssize_t sent;

	message.msg_iovlen = gather(output, parts, &more);
	sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
	return sent < 0 ? -errno : sent;
}

int output_send(struct output *output, int socket)
{
	while (output->len) {
		struct output_piece *first = STAILQ_FIRST(&output->pieces);
		ssize_t sent = is_at_pages(first) ? page_pipe_send(first->pages, socket) : send_memory(output, socket);

		if (sent == -EINTR)
			continue;
		if (sent == -EAGAIN)
			return 0;
		if (sent <= 0)
			return sent ? (int)sent : -EPIPE;
		sent_some(output, (size_t)sent);
	}
	return 0;
}

static int copy_piece(const struct output_piece *piece, uint8_t *into)
{
	size_t tail = piece->len + piece->pages_len, sent = piece->sent;

	if (sent < piece->len) {
		memcpy(into, piece->bytes + sent, piece->len - sent);
		into += piece->len - sent;
		sent = piece->len;
	}
	if (piece->pages && sent < tail) {
		int rc = page_pipe_copy(piece->pages, into);

		if (rc)
			return rc;
		into += tail - sent;
		sent = tail;
	}
	memset(into, 0, tail + piece->pad - sent);
	return 0;
}

int output_copy(const struct output *output, uint8_t *into)
{
	const struct output_piece *piece;

	STAILQ_FOREACH(piece, &output->pieces, link) {
		int rc = copy_piece(piece, into);

		if (rc)
			return rc;
		into += piece_len(piece) - piece->sent;
	}
	return 0;
}
