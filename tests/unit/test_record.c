/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client's request is cut at the wrong place or lost when it arrives in pieces or in fragments, or a
 * moved connection continues in the middle of a request with bytes missing.
 */
#include "config.h"

#include "common/record.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX = 1000, STREAM_MAX = 16 * 1024, RECORDS_MAX = 8 };

enum { MORE, LAST };

/* A stream as fragments, and how many records they make. */
static const struct stream {
	const char *what;
	size_t records, count;
	struct fragment {
		size_t len;
		int is_last;
	} fragments[8];
} streams[] = {
	{ "one record", 1, 1, { { 12, LAST } } },
	{ "an empty record", 1, 1, { { 0, LAST } } },
	{ "two fragments", 1, 2, { { 5, MORE }, { 7, LAST } } },
	{ "an empty first fragment", 1, 2, { { 0, MORE }, { 9, LAST } } },
	{ "an empty last fragment", 1, 2, { { 9, MORE }, { 0, LAST } } },
	{ "nothing but empty fragments", 1, 3, { { 0, MORE }, { 0, MORE }, { 0, LAST } } },
	{ "fragments shorter than a mark", 1, 4, { { 1, MORE }, { 1, MORE }, { 2, MORE }, { 1, LAST } } },
	{ "three records", 3, 3, { { 3, LAST }, { 8, LAST }, { 1, LAST } } },
	{ "an empty record between others", 3, 3, { { 3, LAST }, { 0, LAST }, { 4, LAST } } },
	{ "records in fragments", 2, 5, { { 3, MORE }, { 4, LAST }, { 0, MORE }, { 5, MORE }, { 6, LAST } } },
	{ "the longest record", 2, 2, { { MAX, LAST }, { 1, LAST } } },
	{ "the longest record in fragments", 2, 4, { { MAX - 1, MORE }, { 1, MORE }, { 0, LAST }, { 1, LAST } } },
};

enum { STREAMS = sizeof(streams) / sizeof(streams[0]) };

struct wanted {
	uint8_t bytes[STREAM_MAX];
	size_t len;
	struct {
		uint8_t bytes[2 * MAX];
		size_t len;
	} records[RECORDS_MAX];
};

/* The stream's bytes, and the records that must come out; every byte of payload is another than its neighbours. */
static struct wanted *wanted_new(const struct stream *stream)
{
	struct wanted *wanted = calloc(1, sizeof(*wanted));
	size_t record = 0;
	uint8_t next = 1;

	for (size_t i = 0; i < stream->count; i++) {
		const struct fragment *fragment = &stream->fragments[i];

		record_mark_put(wanted->bytes + wanted->len, fragment->len);
		if (!fragment->is_last)
			wanted->bytes[wanted->len] &= 0x7f;
		wanted->len += RECORD_MARK_BYTES;
		for (size_t j = 0; j < fragment->len; j++) {
			wanted->records[record].bytes[wanted->records[record].len++] = next;
			wanted->bytes[wanted->len++] = next++;
		}
		record += (size_t)fragment->is_last;
	}
	ck_assert_uint_eq(record, stream->records);
	return wanted;
}

/* Take out what is complete, the first being record @seen. Return: how many were seen now */
static size_t drain(struct record_reader *reader, const struct wanted *wanted, size_t seen)
{
	const uint8_t *record;
	size_t len;
	int rc;

	while ((rc = record_next(reader, MAX, &record, &len)) == 1) {
		ck_assert_uint_eq(len, wanted->records[seen].len);
		ck_assert(memcmp(record, wanted->records[seen].bytes, len) == 0);
		record_consume(reader);
		seen++;
	}
	ck_assert_int_eq(rc, 0);
	return seen;
}

/* As a read from a socket. */
static void feed(struct record_reader *reader, const uint8_t *bytes, size_t len)
{
	size_t room = 0;
	uint8_t *into = record_room(reader, 0, &room);

	ck_assert_ptr_nonnull(into);
	ck_assert_uint_ge(room, len ? len : 1);
	if (len)
		memcpy(into, bytes, len);
	record_filled(reader, len);
}

/* Thousands of idle connections hold no memory. */
static void expect_empty(struct record_reader *reader)
{
	size_t len = 1;

	ck_assert_ptr_null(reader->data);
	ck_assert_ptr_null(record_pending(reader, &len));
	ck_assert_uint_eq(len, 0);
}

START_TEST(every_split)
{
	struct wanted *wanted = wanted_new(&streams[_i]);

	for (size_t split = 0; split <= wanted->len; split++) {
		struct record_reader reader = { 0 };
		size_t seen;

		feed(&reader, wanted->bytes, split);
		seen = drain(&reader, wanted, 0);
		feed(&reader, wanted->bytes + split, wanted->len - split);
		ck_assert_msg(drain(&reader, wanted, seen) == streams[_i].records, "%s, split at %zu", streams[_i].what,
			      split);
		expect_empty(&reader);
	}
	free(wanted);
}
END_TEST

START_TEST(byte_by_byte)
{
	struct wanted *wanted = wanted_new(&streams[_i]);
	struct record_reader reader = { 0 };
	size_t seen = 0;

	for (size_t i = 0; i < wanted->len; i++) {
		feed(&reader, wanted->bytes + i, 1);
		seen = drain(&reader, wanted, seen);
	}
	ck_assert_uint_eq(seen, streams[_i].records);
	expect_empty(&reader);
	free(wanted);
}
END_TEST

/* Many connections read into the same memory in turn: what one leaves there is its own when the next comes. */
START_TEST(lent_memory)
{
	static uint8_t memory[RECORD_READ_MIN];
	struct wanted *wanted = wanted_new(&streams[_i]);

	for (size_t split = 0; split <= wanted->len; split++) {
		const size_t parts[] = { split, wanted->len - split };
		struct record_reader reader = { 0 };
		size_t seen = 0, at = 0, len;

		for (size_t part = 0; part < 2; at += parts[part++]) {
			record_lend(&reader, memory, sizeof(memory));
			feed(&reader, wanted->bytes + at, parts[part]);
			seen = drain(&reader, wanted, seen);
			ck_assert_int_eq(record_settle(&reader), 0);
			ck_assert(record_pending(&reader, &len) < memory ||
				  record_pending(&reader, &len) >= memory + sizeof(memory));
			memset(memory, 0xee, sizeof(memory));
		}
		ck_assert_uint_eq(seen, streams[_i].records);
		expect_empty(&reader);
	}
	free(wanted);
}
END_TEST

/*
 * A WRITE's record goes on without being copied, and whoever sends half of one, or only its mark, holds no more memory than
 * twice what was sent.
 */
START_TEST(long_records_are_given_away)
{
	enum { LONG = 1 << 20 };
	static uint8_t memory[RECORD_READ_MIN];
	uint8_t mark[RECORD_MARK_BYTES], *into, *given;
	struct record_reader reader = { 0 };
	const uint8_t *record;
	size_t room, len, sent;

	record_mark_put(mark, LONG);
	for (int round = 0; round < 3; round++) {
		record_lend(&reader, memory, sizeof(memory));
		feed(&reader, mark, sizeof(mark));
		ck_assert_int_eq(record_next(&reader, LONG, &record, &len), 0);
		for (sent = 0; sent < LONG; sent += room) {
			record_lend(&reader, memory, sizeof(memory));
			into = record_room(&reader, 0, &room);
			ck_assert_ptr_nonnull(into);
			room = room < 9999 ? room : 9999;
			memset(into, round + 1, room);
			record_filled(&reader, room);
			ck_assert_int_eq(record_settle(&reader), 0);
			ck_assert_uint_le(reader.capacity, 2 * (sent + room + sizeof(mark)));
			ck_assert_int_eq(record_next(&reader, LONG, &record, &len), sent + room == LONG);
		}
		ck_assert_uint_eq(sent, LONG);
		given = record_give(&reader);
		ck_assert_ptr_nonnull(given);
		record_consume(&reader);
		expect_empty(&reader);
		ck_assert(record >= given && record + len <= given + LONG + RECORD_MARK_BYTES);
		ck_assert(record[0] == round + 1 && memcmp(record, record + 1, LONG - 1) == 0);
		free(given);
	}
}
END_TEST

/* What waits in the socket has come, too: memory is made for it at once, and for no more than the record lacks. */
START_TEST(memory_for_what_is_coming)
{
	enum { LONG = 1 << 20, COME = 64 * 1024 };
	static uint8_t bytes[COME];
	struct record_reader reader = { 0 };
	const uint8_t *record;
	size_t room, len;

	record_mark_put(bytes, LONG);
	ck_assert_int_eq(record_append(&reader, bytes, sizeof(bytes)), 0);
	ck_assert_int_eq(record_next(&reader, LONG, &record, &len), 0);
	ck_assert(record_is_long(&reader));
	ck_assert_uint_eq(record_growth(&reader, 0), COME);
	ck_assert_uint_eq(record_growth(&reader, 5 * COME), 5 * COME);
	ck_assert_uint_eq(record_growth(&reader, 5 * LONG), LONG + RECORD_MARK_BYTES - COME);
	ck_assert_ptr_nonnull(record_room(&reader, 5 * COME, &room));
	ck_assert_uint_eq(room, 5 * COME);
	ck_assert_uint_eq(record_held(&reader), 6 * COME);
	ck_assert_uint_eq(record_growth(&reader, LONG), 0);
	record_reader_fini(&reader);
}
END_TEST

/* Short ones, and those with much behind them, are cheaper to copy: nothing happens to them. */
START_TEST(short_records_stay)
{
	struct wanted *wanted = wanted_new(&streams[7]);
	struct record_reader reader = { 0 };
	const uint8_t *record;
	size_t len;

	feed(&reader, wanted->bytes, wanted->len);
	ck_assert_int_eq(record_next(&reader, MAX, &record, &len), 1);
	ck_assert_ptr_null(record_give(&reader));
	ck_assert_uint_eq(drain(&reader, wanted, 0), streams[7].records);
	free(wanted);
}
END_TEST

/* A handoff can come at any byte: what is pending, put into another device's reader, goes on as if nothing had been. */
START_TEST(pending_bytes_continue_elsewhere)
{
	struct wanted *wanted = wanted_new(&streams[_i]);

	for (size_t split = 0; split <= wanted->len; split++) {
		struct record_reader here = { 0 }, there = { 0 };
		const uint8_t *pending;
		size_t seen, len;

		feed(&here, wanted->bytes, split);
		seen = drain(&here, wanted, 0);
		pending = record_pending(&here, &len);
		ck_assert(len == 0 || memcmp(pending, wanted->bytes + split - len, len) == 0);
		ck_assert_int_eq(record_append(&there, pending, len), 0);
		ck_assert_int_eq(record_append(&there, wanted->bytes + split, wanted->len - split), 0);
		ck_assert_uint_eq(drain(&there, wanted, seen), streams[_i].records);
		expect_empty(&there);
		record_reader_fini(&here);
	}
	free(wanted);
}
END_TEST

/* Who asks twice for a record in fragments gets it joined once. */
START_TEST(asking_again_changes_nothing)
{
	struct wanted *wanted = wanted_new(&streams[9]);
	struct record_reader reader = { 0 };
	const uint8_t *record, *again;
	size_t len, len_again;

	feed(&reader, wanted->bytes, wanted->len);
	ck_assert_int_eq(record_next(&reader, MAX, &record, &len), 1);
	ck_assert_int_eq(record_next(&reader, MAX, &again, &len_again), 1);
	ck_assert_ptr_eq(record, again);
	ck_assert_uint_eq(len, len_again);
	ck_assert_mem_eq(record, wanted->records[0].bytes, len);
	record_reader_fini(&reader);
	free(wanted);
}
END_TEST

static const struct {
	const char *what;
	uint8_t bytes[16];
	size_t len;
	int rc;
} too_long[] = {
	{ "one byte more", { 0x80, 0, 0x03, 0xe9 }, 4, -EMSGSIZE },
	{ "as much as a mark can say", { 0xff, 0xff, 0xff, 0xff }, 4, -EMSGSIZE },
	{ "the same, more to come", { 0x7f, 0xff, 0xff, 0xff }, 4, -EMSGSIZE },
	{ "together too long", { 0, 0, 0, 1, 'x', 0x80, 0, 0x03, 0xe8 }, 9, -EMSGSIZE },
	{ "half a mark says nothing yet", { 0xff, 0xff, 0xff }, 3, 0 },
};

/* A client that promises a gigabyte is refused at its first mark, before memory is given to it. */
START_TEST(too_long_is_seen_at_the_mark)
{
	struct record_reader reader = { 0 };
	const uint8_t *record;
	size_t len;

	feed(&reader, too_long[_i].bytes, too_long[_i].len);
	ck_assert_msg(record_next(&reader, MAX, &record, &len) == too_long[_i].rc, "%s", too_long[_i].what);
	ck_assert_uint_le(reader.capacity, 2 * RECORD_READ_MIN);
	record_reader_fini(&reader);
}
END_TEST

static const uint8_t empty_more[RECORD_MARK_BYTES] = { 0 }, empty_last[RECORD_MARK_BYTES] = { 0x80 };

/* Empty fragments without end would keep the parser busy and grow its memory for ever. */
START_TEST(fragments_are_counted)
{
	struct record_reader reader = { 0 };
	const uint8_t *record;
	size_t len;

	for (int i = 0; i < RECORD_MARKS_MAX + _i - 1; i++)
		ck_assert_int_eq(record_append(&reader, empty_more, sizeof(empty_more)), 0);
	ck_assert_int_eq(record_next(&reader, MAX, &record, &len), 0);
	ck_assert_int_eq(record_append(&reader, empty_last, sizeof(empty_last)), 0);
	ck_assert_int_eq(record_next(&reader, MAX, &record, &len), _i ? -EMSGSIZE : 1);
	record_reader_fini(&reader);
}
END_TEST

/* A reader that is never empty, because requests come faster than they are answered, must not grow for ever. */
START_TEST(memory_follows_what_is_pending)
{
	uint8_t bytes[RECORD_MARK_BYTES + 900] = { 0 };
	struct record_reader reader = { 0 };
	const uint8_t *record;
	size_t len;

	record_mark_put(bytes, 900);
	feed(&reader, bytes, sizeof(bytes));
	for (int i = 0; i < 10000; i++) {
		feed(&reader, bytes, sizeof(bytes));
		ck_assert_int_eq(record_next(&reader, MAX, &record, &len), 1);
		ck_assert_uint_eq(len, 900);
		record_consume(&reader);
	}
	ck_assert_uint_le(reader.capacity, 4 * RECORD_READ_MIN);
	record_reader_fini(&reader);
	expect_empty(&reader);
}
END_TEST

/* A read that brought nothing. */
START_TEST(nothing_read_holds_nothing)
{
	struct record_reader reader = { 0 };

	feed(&reader, NULL, 0);
	expect_empty(&reader);
	ck_assert_int_eq(record_append(&reader, NULL, 0), 0);
	expect_empty(&reader);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("record");
	TCase *tcase = tcase_create("record");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, every_split, 0, STREAMS);
	tcase_add_loop_test(tcase, byte_by_byte, 0, STREAMS);
	tcase_add_loop_test(tcase, lent_memory, 0, STREAMS);
	tcase_add_test(tcase, long_records_are_given_away);
	tcase_add_test(tcase, memory_for_what_is_coming);
	tcase_add_test(tcase, short_records_stay);
	tcase_add_loop_test(tcase, pending_bytes_continue_elsewhere, 0, STREAMS);
	tcase_add_test(tcase, asking_again_changes_nothing);
	tcase_add_loop_test(tcase, too_long_is_seen_at_the_mark, 0, sizeof(too_long) / sizeof(too_long[0]));
	tcase_add_loop_test(tcase, fragments_are_counted, 0, 2);
	tcase_add_test(tcase, memory_follows_what_is_pending);
	tcase_add_test(tcase, nothing_read_holds_nothing);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
