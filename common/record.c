/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/record.h"

#include "common/bytes.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t LAST_FRAGMENT = 0x80000000u;

static int reader_grow(struct record_reader *reader, size_t room)
{
	size_t used = reader->end - reader->start, capacity = reader->capacity;
	uint8_t *data;

	if (reader->start) {
		memmove(reader->data, reader->data + reader->start, used);
		reader->start = 0;
		reader->end = used;
	}
	if (capacity - used >= room)
		return 0;
	capacity = used + room > 2 * capacity ? used + room : 2 * capacity;
	data = realloc(reader->data, capacity);
	if (!data)
		return -ENOMEM;
	reader->data = data;
	reader->capacity = capacity;
	return 0;
}

uint8_t *record_room(struct record_reader *reader, size_t *room)
{
	if (reader->capacity - reader->end < RECORD_READ_MIN / 2 && reader_grow(reader, RECORD_READ_MIN) < 0)
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

static uint32_t mark_at(const struct record_reader *reader, size_t offset)
{
	struct bytes_reader r = bytes_reader_init(reader->data + reader->start + offset, RECORD_MARK_BYTES);

	return bytes_get_be32(&r);
}

/* Step over the marks that are here. 1 if the record is complete, 0 if not, -EMSGSIZE. */
static int reader_scan(struct record_reader *reader, size_t max)
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
	int rc = reader_scan(reader, max);

	if (rc <= 0)
		return rc;
	if (reader->marks > 1)
		reader_join(reader);
	*record = reader->data + reader->start + RECORD_MARK_BYTES;
	*len = reader->payload;
	return 1;
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

void record_reader_fini(struct record_reader *reader)
{
	free(reader->data);
	memset(reader, 0, sizeof(*reader));
}
