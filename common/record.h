/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/record.h - ONC RPC records in a byte stream
 *
 * Turns bytes into records. Knows nothing of sockets (common/conn.h) or of what a record says (common/rpc.h). A record
 * is one or more fragments, each behind a 32-bit mark: bit 31 says "last", the rest is its length. RFC 5531, 11.
 *
 * Bytes stay as they came until their record is complete, so that what is pending can be carried to another device at
 * any moment (record_pending()).
 *
 * Ownership: a record borrows the reader's memory; it is valid until record_consume(). An empty reader holds no memory,
 * and one that is lent some (record_lend()) needs none for records that come whole.
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_RECORD_H
#define VNAS_COMMON_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	RECORD_MARK_BYTES = 4,
	RECORD_READ_MIN = 64 * 1024,  /* room that record_room() makes at least */
	RECORD_MARKS_MAX = 16 * 1024, /* fragments in one record */
};

struct record_reader {
	uint8_t *data;
	size_t start, end, capacity;
	/* Progress in the record at `start`: marks seen, the next mark's offset from start, payload bytes so far. */
	size_t marks, scanned, payload;
	size_t raw_len; /* of the complete record at `start`, marks included; 0 if it is not complete */
	bool is_lent;	/* data is not ours */
};

static inline void record_mark_put(uint8_t mark[static RECORD_MARK_BYTES], size_t len)
{
	uint32_t value = 0x80000000u | (uint32_t)len;

	for (int i = 0; i < RECORD_MARK_BYTES; i++)
		mark[i] = (uint8_t)(value >> (24 - 8 * i));
}

/**
 * record_lend() - memory to read into, for a while
 * @memory:	@len bytes, RECORD_READ_MIN or more; many readers may use it in turn
 *
 * Does nothing while a long record is being read, which has memory of its own.
 */
void record_lend(struct record_reader *reader, uint8_t *memory, size_t len);

/* The memory that was lent is wanted back: what is pending there is copied out. 0; -ENOMEM: what was pending is lost */
int record_settle(struct record_reader *reader);

/*
 * Has a record begun that is longer than what usually comes at once? It gets memory as it comes. record_next() must have been
 * asked since the last bytes.
 */
bool record_is_long(const struct record_reader *reader);

/**
 * record_growth() - memory that record_room() would have to allocate, bytes
 * @coming:	bytes that have arrived and are not read yet, or 0 if that is not known
 *
 * For a long record at most what has come and is coming, however long it says it is. 0: there is room
 */
size_t record_growth(const struct record_reader *reader, size_t coming);

/**
 * record_room() - memory to read into
 * @coming:	as for record_growth()
 * @room:	out: its size in bytes, at least 1
 *
 * Where a long record has begun that is all: at most what it still lacks, so that it can be given away when it is
 * complete. Follow with record_filled(). Return: the memory; NULL if there is none
 */
uint8_t *record_room(struct record_reader *reader, size_t coming, size_t *room);
void record_filled(struct record_reader *reader, size_t len);

/* Append a copy. 0; -ENOMEM */
int record_append(struct record_reader *reader, const void *bytes, size_t len);

/* Is the record at the front complete? As record_next(), but nothing is given out, and nothing is changed in its bytes. */
int record_scan(struct record_reader *reader, size_t max);

/* What record_scan() has found complete: its first fragment, and (@raw_len) what it takes with its marks. */
const uint8_t *record_front(const struct record_reader *reader, size_t *len, size_t *raw_len);

/**
 * record_next() - the record at the front
 * @max:	the longest record that is wanted, bytes
 * @record, @len: out, borrowed until record_consume(); fragments were joined in place
 *
 * Return: 1; 0 if it is not complete; -EMSGSIZE if it is longer than @max or has too many fragments
 */
int record_next(struct record_reader *reader, size_t max, const uint8_t **record, size_t *len);

/**
 * record_give() - give away the memory of the record that record_next() gave
 *
 * For records that are long and alone in it; the record itself stays where it is. Follow with record_consume().
 *
 * Return: to be freed; NULL if copying the record is cheaper
 */
uint8_t *record_give(struct record_reader *reader);

/* Done with the record that record_next() gave. */
void record_consume(struct record_reader *reader);

/* All bytes that are not consumed, as they came. Only while no record is given out. */
const uint8_t *record_pending(const struct record_reader *reader, size_t *len);

/* Bytes of memory that it holds, or that record_settle() would have it hold. */
size_t record_held(const struct record_reader *reader);

void record_reader_fini(struct record_reader *reader);

#endif
