/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/record.h"

#include "common/bytes.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t LAST_FRAGMENT = 0x80000000u;

static uint32_t mark_at(const struct record_reader *reader, size_t offset)
{
	struct bytes_reader r = bytes_reader_init(reader->data + reader->start + offset, RECORD_MARK_BYTES);

	return bytes_get_be32(&r);
}

static void reader_compact(struct record_reader *reader)
{
	size_t used = reader->end - reader->start;

	if (!reader->start)
		return;
	memmove(reader->data, reader->data + reader->start, used);
	reader->start = 0;
	reader->end = used;
}

/* Memory of its own, of this size. Lent memory keeps what is in it until that was copied. */
static int reader_resize(struct record_reader *reader, size_t capacity)
{
	size_t used = reader->end - reader->start;
	uint8_t *data;

	if (!reader->is_lent) {
		reader_compact(reader);
		data = realloc(reader->data, capacity);
	} else {
		data = malloc(capacity);
	}
	if (!data)
		return -ENOMEM;
	if (reader->is_lent)
		memcpy(data, reader->data + reader->start, used);
	reader->data = data;
	reader->start = 0;
	reader->end = used;
	reader->capacity = capacity;
	reader->is_lent = false;
	return 0;
}

/* The capacity that has this room. */
static size_t grown_capacity(const struct record_reader *reader, size_t room)
{
	size_t used = reader->end - reader->start, capacity = reader->capacity;

	if (capacity - used >= room)
		return capacity;
	return used + room > 2 * used ? used + room : 2 * used;
}

static int reader_grow(struct record_reader *reader, size_t room)
{
	size_t capacity = grown_capacity(reader, room);

	if (capacity > reader->capacity)
		return reader_resize(reader, capacity);
	reader_compact(reader);
	return 0;
}

void record_lend(struct record_reader *reader, uint8_t *memory, size_t len)
{
	size_t used = reader->end - reader->start;

	if (reader->is_lent || used >= RECORD_READ_MIN / 2 || used >= len || reader->raw_len)
		return;
	if (used)
		memcpy(memory, reader->data + reader->start, used);
	free(reader->data);
	reader->data = memory;
	reader->start = 0;
	reader->end = used;
	reader->capacity = len;
	reader->is_lent = true;
}

int record_settle(struct record_reader *reader)
{
	int rc;

	if (!reader->is_lent)
		return 0;
	rc = reader->start == reader->end ? -ENODATA : reader_resize(reader, reader->end - reader->start);
	if (rc)
		record_reader_fini(reader);
	return rc == -ENODATA ? 0 : rc;
}

/* Bytes that the fragment at the front still lacks, if its mark is here; record_next() has looked at it before. */
static size_t reader_lacks(const struct record_reader *reader)
{
	size_t have = reader->end - reader->start, whole;

	if (reader->raw_len || have < reader->scanned + RECORD_MARK_BYTES)
		return 0;
	whole = reader->scanned + RECORD_MARK_BYTES + (mark_at(reader, reader->scanned) & ~LAST_FRAGMENT);
	return whole > have ? whole - have : 0;
}

bool record_is_long(const struct record_reader *reader)
{
	return reader->end - reader->start >= RECORD_READ_MIN / 2 && reader_lacks(reader);
}

/*
 * Twice as much each time: whoever only announces a megabyte gets no megabyte. What waits in the socket has come, too: with a
 * fast client most of a record has, so that little is copied from one allocation to the next.
 */
static size_t long_growth(const struct record_reader *reader, size_t coming)
{
	size_t used = reader->end - reader->start, lacks = reader_lacks(reader);
	size_t growth = coming > used ? coming : used;

	if (!reader->is_lent && reader->capacity > reader->end)
		return 0;
	return growth < lacks ? growth : lacks;
}

static uint8_t *long_room(struct record_reader *reader, size_t coming, size_t *room)
{
	size_t used = reader->end - reader->start, lacks = reader_lacks(reader);
	size_t growth = long_growth(reader, coming);

	if (growth && reader_resize(reader, used + growth) < 0)
		return NULL;
	*room = reader->capacity - reader->end;
	if (*room > lacks)
		*room = lacks;
	return reader->data + reader->end;
}

static bool has_short_room(const struct record_reader *reader)
{
	return reader->capacity - reader->end >= RECORD_READ_MIN / 2;
}

size_t record_growth(const struct record_reader *reader, size_t coming)
{
	if (record_is_long(reader))
		return long_growth(reader, coming);
	return has_short_room(reader) ? 0 : grown_capacity(reader, RECORD_READ_MIN) - reader->capacity;
}

uint8_t *record_room(struct record_reader *reader, size_t coming, size_t *room)
{
	if (record_is_long(reader))
		return long_room(reader, coming, room);
	if (!has_short_room(reader) && reader_grow(reader, RECORD_READ_MIN) < 0)
		return NULL;
	*room = reader->capacity - reader->end;
	return reader->data + reader->end;
}

void record_filled(struct record_reader *reader, size_t len)
{
	reader->end += len;
	if (reader->start == reader->end)
		record_reader_fini(reader);
}

int record_append(struct record_reader *reader, const void *bytes, size_t len)
{
	if (len == 0)
		return 0;
	if (reader->capacity - reader->end < len && reader_grow(reader, len) < 0)
		return -ENOMEM;
	memcpy(reader->data + reader->end, bytes, len);
	reader->end += len;
	return 0;
}

/* Step over the marks that are here. */
int record_scan(struct record_reader *reader, size_t max)
{
	size_t have = reader->end - reader->start;

	while (reader->raw_len == 0) {
		uint32_t mark;
		size_t len;

		if (have < reader->scanned + RECORD_MARK_BYTES)
			return 0;
		mark = mark_at(reader, reader->scanned);
		len = mark & ~LAST_FRAGMENT;
		if (len > max || reader->payload + len > max || reader->marks >= RECORD_MARKS_MAX)
			return -EMSGSIZE;
		if (have < reader->scanned + RECORD_MARK_BYTES + len)
			return 0;
		reader->scanned += RECORD_MARK_BYTES + len;
		reader->payload += len;
		reader->marks++;
		if (mark & LAST_FRAGMENT)
			reader->raw_len = reader->scanned;
	}
	return 1;
}

const uint8_t *record_front(const struct record_reader *reader, size_t *len, size_t *raw_len)
{
	*len = mark_at(reader, 0) & ~LAST_FRAGMENT;
	*raw_len = reader->raw_len;
	return reader->data + reader->start + RECORD_MARK_BYTES;
}

/* Move the fragments of a complete record together, behind the first mark. */
static void reader_join(struct record_reader *reader)
{
	uint8_t *base = reader->data + reader->start;
	size_t from = 0, to = RECORD_MARK_BYTES;

	while (from < reader->raw_len) {
		size_t len = mark_at(reader, from) & ~LAST_FRAGMENT;

		/* The mark at `from` is read before anything can be moved over it: `to` never passes it. */
		memmove(base + to, base + from + RECORD_MARK_BYTES, len);
		from += RECORD_MARK_BYTES + len;
		to += len;
	}
	reader->marks = 1; /* joined once: whoever asks again gets the same */
}

int record_next(struct record_reader *reader, size_t max, const uint8_t **record, size_t *len)
{
	int rc = record_scan(reader, max);

	if (rc <= 0)
		return rc;
	if (reader->marks > 1)
		reader_join(reader);
	*record = reader->data + reader->start + RECORD_MARK_BYTES;
	*len = reader->payload;
	return 1;
}

uint8_t *record_give(struct record_reader *reader)
{
	uint8_t *given = reader->data, *rest = NULL;
	size_t at = reader->start + reader->raw_len, rest_len = reader->end - at;

	if (reader->is_lent || reader->raw_len < RECORD_READ_MIN / 2 || rest_len > reader->raw_len / 4)
		return NULL;
	if (rest_len) {
		rest = malloc(rest_len);
		if (!rest)
			return NULL;
		memcpy(rest, given + at, rest_len);
	}
	*reader = (struct record_reader){ .data = rest, .end = rest_len, .capacity = rest_len };
	return given;
}

void record_consume(struct record_reader *reader)
{
	reader->start += reader->raw_len;
	reader->marks = reader->scanned = reader->payload = reader->raw_len = 0;
	if (reader->start == reader->end)
		record_reader_fini(reader);
}

const uint8_t *record_pending(const struct record_reader *reader, size_t *len)
{
	*len = reader->end - reader->start;
	return reader->data ? reader->data + reader->start : NULL;
}

size_t record_held(const struct record_reader *reader)
{
	return reader->is_lent ? reader->end - reader->start : reader->capacity;
}

void record_reader_fini(struct record_reader *reader)
{
	if (!reader->is_lent)
		free(reader->data);
	memset(reader, 0, sizeof(*reader));
}
