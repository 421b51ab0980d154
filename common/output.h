/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/output.h - what is to be written to a stream: replies in order, each in memory, with pages of a file, or both
 *
 *	|<-- len: memory -->|<-- pages: common/page_pipe.h -->|<-- pad: zeros -->|
 *
 * Many pieces leave with one system call. Knows nothing of what they say.
 *
 * Ownership: output_add() takes a piece, which its owner embeds; the piece's `release` gives it back when it is sent or
 * the output ends.
 * Threads: one at a time.
 */
#ifndef VNAS_COMMON_OUTPUT_H
#define VNAS_COMMON_OUTPUT_H

#include "common/page_pipe.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct output_piece {
	STAILQ_ENTRY(output_piece) link;
	const uint8_t *bytes; /* the owner's, until `release` */
	size_t len;
	struct page_pipe *pages; /* taken; or NULL */
	size_t pages_len;
	size_t pad; /* zeros at the end, at most 3 */
	size_t held; /* bytes of the owner's memory that `release` frees; for `held` below */
	size_t sent; /* of all three; output_add() sets it to 0 */
	void (*release)(struct output_piece *piece);
};

struct output {
	STAILQ_HEAD(, output_piece) pieces;
	size_t len;  /* bytes that are not written */
	size_t held; /* by pieces that are not released */
};

void output_init(struct output *output);

/* Releases all that is not sent. */
void output_fini(struct output *output);

/* @piece: filled but for `sent`. */
void output_add(struct output *output, struct output_piece *piece);

/* Write as much as @socket, which must not block, takes now. Return: 0; what the socket says is wrong, and never -EAGAIN */
int output_send(struct output *output, int socket);

/**
 * output_copy() - all that is not written, as bytes
 * @into:	`len` of them
 *
 * All stays, and can still be sent. Return: 0; -ENOMEM, -EMFILE, ...
 */
int output_copy(const struct output *output, uint8_t *into);

#endif
