/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, an administrator does not learn what has happened, learns it twice or in another order, or a cluster's history
 * fills its disk.
 */
#include "config.h"

#include "common/events.h"
#include "common/log.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[80], old[90];
static struct events *events;

static void start(void)
{
	log_open(LOG_LEVEL_ERR);
	strcpy(folder, "/tmp/test_events.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	sprintf(path, "%s/events", folder);
	sprintf(old, "%s.old", path);
	ck_assert_int_eq(events_open(path, &events), 0);
}

static void stop(void)
{
	events_close(events);
	unlink(path);
	unlink(old);
	ck_assert_int_eq(rmdir(folder), 0);
}

static void restart(void)
{
	events_close(events);
	ck_assert_int_eq(events_open(path, &events), 0);
}

static const char *text_of(uint64_t id)
{
	const struct events_entry *entry = events_next(events, &id, NULL);

	return entry ? entry->text : NULL;
}

static size_t count(void)
{
	size_t found = 0;

	for (uint64_t id = 0, last = 0; events_next(events, &id, NULL); found++, last = id)
		ck_assert(last == 0 || id == last + 1);
	return found;
}

static void append_bytes(const char *bytes)
{
	FILE *out = fopen(path, "a");

	fputs(bytes, out);
	fclose(out);
}

START_TEST(event_is_found_again)
{
	uint64_t id = 1, missed = 1;
	const struct events_entry *entry;

	ck_assert_ptr_null(events_next(events, &id, NULL));
	events_note(events, EVENTS_NODE, 3, "node=%d is down: %s", 3, "silent");
	entry = events_next(events, &id, &missed);
	ck_assert_ptr_nonnull(entry);
	ck_assert_uint_eq(entry->id, 1);
	ck_assert_uint_eq(id, 2);
	ck_assert_uint_eq(missed, 0);
	ck_assert_uint_eq(entry->node, 3);
	ck_assert_int_eq(entry->kind, EVENTS_NODE);
	ck_assert_uint_gt(entry->time_ns, 1000000000);
	ck_assert_str_eq(entry->text, "node=3 is down: silent");
	ck_assert_ptr_null(events_next(events, &id, NULL));
	events_note(NULL, EVENTS_NODE, 3, "nobody listens");
}
END_TEST

START_TEST(reader_is_told_what_he_missed)
{
	uint64_t id = 3, missed;

	for (int i = 1; i <= EVENTS_KEEP + 10; i++)
		events_note(events, EVENTS_VOLUME, 0, "n=%d", i);
	ck_assert_str_eq(events_next(events, &id, &missed)->text, "n=11");
	ck_assert_uint_eq(missed, 8);
	ck_assert_uint_eq(id, 12);
	ck_assert_uint_eq(count(), EVENTS_KEEP);
	ck_assert_uint_eq(events_end(events), EVENTS_KEEP + 11);
}
END_TEST

START_TEST(restart_goes_on)
{
	events_note(events, EVENTS_COMMAND, 0, "export set / *(rw)");
	events_note(events, EVENTS_PLACE, 2, "volume=1 is at /caf\xc3\xa9 \"x\" \\");
	restart();
	ck_assert_uint_eq(count(), 2);
	events_note(events, EVENTS_NODE, 2, "third");
	restart();
	ck_assert_str_eq(text_of(1), "export set / *(rw)");
	ck_assert_str_eq(text_of(2), "volume=1 is at /caf\xc3\xa9 \"x\" \\");
	ck_assert_str_eq(text_of(3), "third");
	ck_assert_uint_eq(events_end(events), 4);
}
END_TEST

/* Events of others' making: file names with anything in them, and as long as they like. */
START_TEST(text_is_made_harmless)
{
	char longer[2 * EVENTS_TEXT_MAX];

	memset(longer, 0x01, sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	events_note(events, EVENTS_PLACE, 1, "/a\n{\"id\":9}\033[2J");
	events_note(events, EVENTS_PLACE, 1, "caf\xe9");
	events_note(events, EVENTS_PLACE, 1, "%s", longer);
	memset(longer, 0xe2, sizeof(longer) - 1);
	events_note(events, EVENTS_PLACE, 1, "%s", longer);
	restart();
	ck_assert_uint_eq(count(), 4);
	ck_assert_str_eq(text_of(1), "/a?{\"id\":9}?[2J");
	ck_assert_str_eq(text_of(2), "caf?");
	ck_assert_uint_eq(strlen(text_of(3)), EVENTS_TEXT_MAX - 1);
	ck_assert_uint_eq(strlen(text_of(4)), EVENTS_TEXT_MAX - 1);
}
END_TEST

/* A crash in the middle of a line, and what else a file may have: the rest counts. */
static const char *const torn[] = {
	"{\"id\":2,\"time_ns\":5,\"node\":0,\"ki",
	"\n\n",
	"{\"id\":-2,\"time_ns\":5,\"node\":0,\"kind\":\"node\",\"text\":\"\"}\n",
	"{\"id\":1,\"time_ns\":5,\"node\":0,\"kind\":\"node\",\"text\":\"again\"}\n",
	"{\"id\":2,\"time_ns\":5,\"node\":0,\"kind\":\"nothing\",\"text\":\"\"}\n",
	"{\"id\":2,\"time_ns\":5,\"node\":4294967296,\"kind\":\"node\",\"text\":\"\"}\n",
	"{\"id\":9223372036854775807,\"time_ns\":5,\"node\":0,\"kind\":\"node\",\"text\":\"\"}\n",
	"[1]\n", "\x01\xff\n",
};

START_TEST(torn_line_is_left_out)
{
	events_note(events, EVENTS_NODE, 1, "before");
	append_bytes(torn[_i]);
	restart();
	ck_assert_uint_eq(events_end(events), 2);
	events_note(events, EVENTS_NODE, 1, "after");
	restart();
	ck_assert_uint_eq(count(), 2);
	ck_assert_str_eq(text_of(1), "before");
	ck_assert_str_eq(text_of(2), "after");
}
END_TEST

/* Lines that are gone in between: who reads is told so, as of those that are too old. */
START_TEST(gap_is_no_event)
{
	uint64_t id = 1, missed;

	events_note(events, EVENTS_NODE, 1, "before");
	append_bytes("{\"id\":7,\"time_ns\":5,\"node\":0,\"kind\":\"node\",\"text\":\"seventh\"}\n");
	restart();
	ck_assert_str_eq(events_next(events, &id, &missed)->text, "seventh");
	ck_assert_uint_eq(missed, 6);
	ck_assert_uint_eq(id, 8);
	ck_assert_uint_eq(count(), 1);
}
END_TEST

START_TEST(journal_is_bounded)
{
	char text[400];
	struct stat st, st_old;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 10 * EVENTS_FILE_MAX / (int)sizeof(text); i++)
		events_note(events, EVENTS_NODE, 1, "%s", text);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(stat(old, &st_old), 0);
	ck_assert_int_le(st.st_size, EVENTS_FILE_MAX);
	ck_assert_int_le(st_old.st_size, EVENTS_FILE_MAX);
	restart();
	ck_assert_uint_eq(count(), EVENTS_KEEP);
}
END_TEST

START_TEST(no_journal_is_no_failure)
{
	struct events *others;
	uint64_t id = 1;

	ck_assert_int_eq(events_open("/nowhere/events", &others), 0);
	events_note(others, EVENTS_NODE, 1, "a");
	ck_assert_str_eq(events_next(others, &id, NULL)->text, "a");
	events_close(others);
}
END_TEST

static void allow_files_of(rlim_t bytes)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The limit cuts off a line, too, as a full disk may. */
START_TEST(journal_catches_up_when_there_is_room)
{
	struct stat st;

	signal(SIGXFSZ, SIG_IGN);
	events_note(events, EVENTS_NODE, 1, "before");
	ck_assert_int_eq(stat(path, &st), 0);
	allow_files_of((rlim_t)st.st_size + 10);
	events_note(events, EVENTS_NODE, 1, "while it was full");
	events_note(events, EVENTS_NODE, 2, "still");
	allow_files_of(1 << 20);
	events_note(events, EVENTS_NODE, 3, "there is room");
	restart();
	ck_assert_str_eq(text_of(1), "before");
	ck_assert_str_eq(text_of(2), "while it was full");
	ck_assert_str_eq(text_of(3), "still");
	ck_assert_str_eq(text_of(4), "there is room");
}
END_TEST

START_TEST(kind_has_a_name)
{
	enum events_kind kind = EVENTS_KINDS;

	for (enum events_kind i = 0; i < EVENTS_KINDS; i++) {
		ck_assert_int_eq(events_kind_parse(events_kind_name(i), &kind), 0);
		ck_assert_int_eq(kind, i);
	}
	ck_assert_int_eq(events_kind_parse("", &kind), -EINVAL);
	ck_assert_int_eq(events_kind_parse("Node", &kind), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("events");
	TCase *tcase = tcase_create("events");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_test(tcase, event_is_found_again);
	tcase_add_test(tcase, reader_is_told_what_he_missed);
	tcase_add_test(tcase, restart_goes_on);
	tcase_add_test(tcase, text_is_made_harmless);
	tcase_add_loop_test(tcase, torn_line_is_left_out, 0, sizeof(torn) / sizeof(torn[0]));
	tcase_add_test(tcase, gap_is_no_event);
	tcase_add_test(tcase, journal_is_bounded);
	tcase_add_test(tcase, no_journal_is_no_failure);
	tcase_add_test(tcase, journal_catches_up_when_there_is_room);
	tcase_add_test(tcase, kind_has_a_name);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
