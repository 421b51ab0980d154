/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client's stream crashes a device, or is cut into other records when it arrives in other pieces.
 *
 * Input: byte 0 says in what pieces the rest arrives. The records must be those that a reader who has all of it finds.
 */
#include "config.h"

#include "common/record.h"

#include "common/bytes.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX = 1000 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* The next record of @r the simple way, into @out. 1; 0 if it is not complete; -EMSGSIZE */
static int simple_next(struct bytes_reader *r, uint8_t out[static MAX], size_t *out_len)
{
	uint32_t mark;

	*out_len = 0;
	for (size_t marks = 0;; marks++) {
		const uint8_t *fragment;
		size_t len;

		mark = bytes_get_be32(r);
		if (r->failed)
			return 0;
		len = mark & 0x7fffffff;
		if (len > MAX - *out_len || marks >= RECORD_MARKS_MAX)
			return -EMSGSIZE;
		fragment = bytes_take(r, len);
		if (!fragment)
			return 0;
		memcpy(out + *out_len, fragment, len);
		*out_len += len;
		if (mark >> 31)
			return 1;
	}
}

/* Take out what is complete. Return: as record_next() */
static int drain(struct record_reader *reader, struct bytes_reader *simple)
{
	uint8_t wanted[MAX];
	const uint8_t *record;
	size_t len, wanted_len;
	int rc;

	while ((rc = record_next(reader, MAX, &record, &len)) == 1) {
		if (simple_next(simple, wanted, &wanted_len) != 1 || len != wanted_len || memcmp(record, wanted, len) != 0)
			abort();
		record_consume(reader);
	}
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static uint8_t memory[RECORD_READ_MIN];
	struct bytes_reader simple;
	struct record_reader reader = { 0 };
	uint8_t wanted[MAX];
	size_t pieces, at = 1, room;
	int rc = 0;

	if (len < 1)
		return 0;
	pieces = bytes[0] ? bytes[0] : len;
	simple = bytes_reader_init(bytes + 1, len - 1);
	while (at < len && rc == 0) {
		size_t piece = len - at < pieces ? len - at : pieces;
		uint8_t *into;

		if (at % 2)
			record_lend(&reader, memory, sizeof(memory));
		into = record_room(&reader, 0, &room);
		if (!into)
			abort();
		piece = piece < room ? piece : room;
		memcpy(into, bytes + at, piece);
		record_filled(&reader, piece);
		at += piece;
		rc = drain(&reader, &simple);
		if (record_settle(&reader))
			abort();
		memset(memory, 0xee, sizeof(memory));
	}
	if (simple_next(&simple, wanted, &room) != rc)
		abort();
	record_reader_fini(&reader);
	return 0;
}
