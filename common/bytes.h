/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/bytes.h - cursors over bytes in network byte order
 *
 * A reader knows what is left and a writer knows what is free. An access past the end sets `failed`, yields
 * zeros and moves nothing, so a decoder may read a whole structure and ask once at its end.
 *
 * Ownership: both borrow their memory.
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_BYTES_H
#define VNAS_COMMON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes_reader {
	const uint8_t *p;
	size_t left;
	bool failed;
};

struct bytes_writer {
	uint8_t *p;
	size_t left;
	size_t written;
	bool failed;
};

static inline struct bytes_reader bytes_reader_init(const void *p, size_t len)
{
	return (struct bytes_reader){ .p = p, .left = len };
}

static inline struct bytes_writer bytes_writer_init(void *p, size_t len)
{
	return (struct bytes_writer){ .p = p, .left = len };
}

/* The next @len bytes, borrowed, or NULL if fewer are left. */
static inline const uint8_t *bytes_take(struct bytes_reader *r, size_t len)
{
	const uint8_t *p = r->p;

	if (r->failed || len > r->left) {
		r->failed = true;
		return NULL;
	}
	r->p += len;
	r->left -= len;
	return p;
}

static inline uint64_t bytes_get_be(struct bytes_reader *r, size_t width)
{
	const uint8_t *p = bytes_take(r, width);
	uint64_t v = 0;

	for (size_t i = 0; p && i < width; i++)
		v = v << 8 | p[i];
	return v;
}

static inline uint8_t bytes_get_u8(struct bytes_reader *r) { return (uint8_t)bytes_get_be(r, 1); }
static inline uint16_t bytes_get_be16(struct bytes_reader *r) { return (uint16_t)bytes_get_be(r, 2); }
static inline uint32_t bytes_get_be32(struct bytes_reader *r) { return (uint32_t)bytes_get_be(r, 4); }
static inline uint64_t bytes_get_be64(struct bytes_reader *r) { return bytes_get_be(r, 8); }

/* Room for @len bytes, to be filled by the caller, or NULL if there is not enough. */
static inline uint8_t *bytes_room(struct bytes_writer *w, size_t len)
{
	uint8_t *p = w->p;

	if (w->failed || len > w->left) {
		w->failed = true;
		return NULL;
	}
	w->p += len;
	w->left -= len;
	w->written += len;
	return p;
}

static inline void bytes_put_be(struct bytes_writer *w, size_t width, uint64_t v)
{
	uint8_t *p = bytes_room(w, width);

	for (size_t i = 0; p && i < width; i++)
		p[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
}

static inline void bytes_put_u8(struct bytes_writer *w, uint8_t v) { bytes_put_be(w, 1, v); }
static inline void bytes_put_be16(struct bytes_writer *w, uint16_t v) { bytes_put_be(w, 2, v); }
static inline void bytes_put_be32(struct bytes_writer *w, uint32_t v) { bytes_put_be(w, 4, v); }
static inline void bytes_put_be64(struct bytes_writer *w, uint64_t v) { bytes_put_be(w, 8, v); }

static inline void bytes_put(struct bytes_writer *w, const void *src, size_t len)
{
	uint8_t *p = bytes_room(w, len);

	if (p && len)
		memcpy(p, src, len);
}

#endif
