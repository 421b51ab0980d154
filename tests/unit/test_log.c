/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, the operator reads a log with missing, mixed or forged lines, or the caller of log_err() acts on the
 * errno of a write to standard error.
 */
#include "config.h"

#include "common/log.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, LINES_OF_THREAD = 2000 };

struct recent {
	unsigned int count;
	uint64_t last_time_ns;
	char first[LOG_LINE_MAX];
	char last[LOG_LINE_MAX];
};

static struct recent recent_lines(void)
{
	struct recent recent = { 0 };
	struct log_line line;

	for (uint64_t number = 0; log_next(&number, NULL, &line);) {
		if (recent.count++ == 0)
			strcpy(recent.first, line.text);
		strcpy(recent.last, line.text);
		ck_assert_uint_ge(line.time_ns, 1);
		recent.last_time_ns = line.time_ns;
	}
	return recent;
}

/* Standard error goes to a temporary file, whose text this gives back. */
static FILE *captured;

static void capture(void)
{
	captured = tmpfile();
	ck_assert_ptr_nonnull(captured);
	ck_assert_int_ge(dup2(fileno(captured), STDERR_FILENO), 0);
}

static const char *captured_text(void)
{
	static char text[1 << 20];
	ssize_t len = pread(fileno(captured), text, sizeof(text) - 1, 0);

	ck_assert_int_ge(len, 0);
	text[len] = '\0';
	return text;
}

static const struct {
	const char *name;
	int rc;
	enum log_level level;
} names[] = {
	{ "err", 0, LOG_LEVEL_ERR },	 { "warn", 0, LOG_LEVEL_WARN }, { "info", 0, LOG_LEVEL_INFO },
	{ "debug", 0, LOG_LEVEL_DEBUG }, { "Err", -EINVAL, 0 },		{ "", -EINVAL, 0 },
};

START_TEST(level_has_a_name)
{
	enum log_level level = LOG_LEVEL_ERR;

	ck_assert_int_eq(log_level_parse(names[_i].name, &level), names[_i].rc);
	ck_assert_int_eq(level, names[_i].level);
}
END_TEST

START_TEST(quiet_levels_are_left_out)
{
	capture();
	log_open(LOG_LEVEL_WARN);
	log_info("test", "not wanted");
	ck_assert_uint_eq(recent_lines().count, 0);
	log_warn("test", "session=%d wanted", 7);
	ck_assert_str_eq(captured_text(), "warn test: session=7 wanted\n");
	ck_assert_str_eq(recent_lines().last, "warn test: session=7 wanted");
}
END_TEST

START_TEST(journal_gets_priorities)
{
	setenv("JOURNAL_STREAM", "8:1", 1);
	capture();
	log_open(LOG_LEVEL_DEBUG);
	log_err("test", "a");
	log_debug("test", "b");
	ck_assert_str_eq(captured_text(), "<3>err test: a\n<7>debug test: b\n");
}
END_TEST

START_TEST(errno_survives)
{
	capture();
	log_open(LOG_LEVEL_INFO);
	errno = ENOSPC;
	log_err("test", "%m");
	ck_assert_int_eq(errno, ENOSPC);
	close(STDERR_FILENO);
	log_err("test", "unwritable");
	ck_assert_int_eq(errno, ENOSPC);
	log_debug("test", "unwanted");
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert_str_eq(recent_lines().first, "err test: No space left on device");
}
END_TEST

START_TEST(one_event_is_one_line)
{
	char longer[2 * LOG_LINE_MAX];

	capture();
	log_warn("test", "name=%s", "a\nerr fabric: forged\r\033[2J\177");
	ck_assert_str_eq(captured_text(), "warn test: name=a?err fabric: forged??[2J?\n");
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	log_warn("test", "%s", longer);
	ck_assert_uint_eq(strlen(recent_lines().last), LOG_LINE_MAX - 1);
	log_warn(longer, "%s", longer);
	ck_assert_uint_eq(strlen(recent_lines().last), LOG_LINE_MAX - 1);
}
END_TEST

START_TEST(last_lines_are_kept)
{
	capture();
	for (int i = 0; i < LOG_KEEP + 5; i++)
		log_info("test", "n=%d", i);
	ck_assert_uint_eq(recent_lines().count, LOG_KEEP);
	ck_assert_str_eq(recent_lines().first, "info test: n=5");
	ck_assert_str_eq(recent_lines().last, "info test: n=1004");
}
END_TEST

/* As one who follows the log, and then sleeps while it goes round. */
START_TEST(reader_is_told_what_he_missed)
{
	uint64_t number = log_end(), missed;
	struct log_line line;

	capture();
	ck_assert(!log_next(&number, &missed, &line));
	log_info("test", "first");
	ck_assert(log_next(&number, &missed, &line));
	ck_assert_uint_eq(missed, 0);
	ck_assert_str_eq(line.text, "info test: first");
	ck_assert_int_eq(line.level, LOG_LEVEL_INFO);
	ck_assert(!log_next(&number, &missed, &line));
	for (int i = 0; i < LOG_KEEP + 7; i++)
		log_info("test", "n=%d", i);
	ck_assert(log_next(&number, &missed, &line));
	ck_assert_uint_eq(missed, 7);
	ck_assert_str_eq(line.text, "info test: n=7");
	ck_assert(log_next(&number, &missed, &line));
	ck_assert_uint_eq(missed, 0);
	ck_assert_uint_eq(number, line.number + 1);
}
END_TEST

START_TEST(bug_says_where)
{
	capture();
	ck_assert(!BUG_IF(1 + 1 == 3));
	ck_assert_uint_eq(recent_lines().count, 0);
	ck_assert(BUG_IF(1 + 1 == 2));
	ck_assert_ptr_nonnull(strstr(recent_lines().last, "test_log.c"));
	ck_assert_ptr_nonnull(strstr(recent_lines().last, "1 + 1 == 2"));
}
END_TEST

static void *talk(void *arg)
{
	for (int i = 0; i < LINES_OF_THREAD; i++)
		log_info("test", "thread=%s end", (const char *)arg);
	return NULL;
}

START_TEST(threads_do_not_mix)
{
	static char names_of_threads[THREADS][8] = { "aaaaaa", "bbbbbb", "cccccc", "dddddd" };
	pthread_t threads[THREADS];
	unsigned int count = 0;

	capture();
	ck_assert_int_eq(lseek(STDERR_FILENO, 0, SEEK_SET), 0);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, talk, names_of_threads[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (const char *line = captured_text(); *line; line = strchr(line, '\n') + 1, count++) {
		char c = line[strlen("info test: thread=")];
		char expected[64];

		snprintf(expected, sizeof(expected), "info test: thread=%c%c%c%c%c%c end\n", c, c, c, c, c, c);
		ck_assert_int_eq(strncmp(line, expected, strlen(expected)), 0);
	}
	ck_assert_uint_eq(count, THREADS * LINES_OF_THREAD);
	ck_assert_uint_eq(recent_lines().count, LOG_KEEP);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("log");
	TCase *tcase = tcase_create("log");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, level_has_a_name, 0, sizeof(names) / sizeof(names[0]));
	tcase_add_test(tcase, quiet_levels_are_left_out);
	tcase_add_test(tcase, journal_gets_priorities);
	tcase_add_test(tcase, errno_survives);
	tcase_add_test(tcase, one_event_is_one_line);
	tcase_add_test(tcase, last_lines_are_kept);
	tcase_add_test(tcase, reader_is_told_what_he_missed);
	tcase_add_test(tcase, bug_says_where);
	tcase_add_test(tcase, threads_do_not_mix);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
