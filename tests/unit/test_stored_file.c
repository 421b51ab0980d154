/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a node that lost power comes back without its certificate, its volumes or its replica, or with half of
 * one.
 */
#include "config.h"

#include "common/stored_file.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64];

/* A path in the test's directory; good until the fourth one after it. */
static const char *in(const char *name)
{
	static char paths[4][PATH_MAX];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, PATH_MAX, "%s/%s", directory, name);
	return path;
}

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(directory, sizeof(directory), "%.40s/test_stored.XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void teardown(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	ck_assert_int_eq(system(command), 0);
}

static void expect(const char *path, const char *wanted)
{
	uint8_t *bytes;
	size_t len;

	ck_assert_int_eq(stored_file_read(path, &bytes, &len), 0);
	ck_assert_uint_eq(len, strlen(wanted));
	ck_assert_str_eq((char *)bytes, wanted); /* a NUL follows */
	free(bytes);
}

START_TEST(written_and_read)
{
	struct stat st;

	ck_assert_int_eq(stored_file_write(in("a"), "one", 3), 0);
	expect(in("a"), "one");
	ck_assert_int_eq(chmod(in("a"), 0644), 0);
	ck_assert_int_eq(stored_file_write(in("a"), "second", 6), 0);
	expect(in("a"), "second");
	ck_assert_int_eq(stored_file_write(in("a"), NULL, 0), 0);
	expect(in("a"), "");
	ck_assert_int_eq(stat(in("a"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(access(in("a.new"), F_OK), -1);
}
END_TEST

/* What an earlier crash left does not matter. */
START_TEST(over_a_temporary_file)
{
	ck_assert_int_eq(stored_file_write(in("a.new"), "half of something longer", 24), 0);
	ck_assert_int_eq(stored_file_write(in("a"), "one", 3), 0);
	expect(in("a"), "one");
}
END_TEST

START_TEST(failures_leave_the_old_one)
{
	char longest[PATH_MAX];
	uint8_t *bytes = NULL;
	size_t len = 7;

	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	ck_assert_int_eq(stored_file_write(longest, "x", 1), -ENAMETOOLONG);
	ck_assert_int_eq(stored_file_write(in("none/a"), "x", 1), -ENOENT);
	ck_assert_int_eq(mkdir(in("d"), 0700), 0);
	ck_assert_int_eq(stored_file_write(in("d"), "x", 1), -EISDIR);
	ck_assert_int_eq(access(in("d.new"), F_OK), -1);
	ck_assert_int_eq(stored_file_read(in("none"), &bytes, &len), -ENOENT);
	ck_assert_int_eq(stored_file_read(in("d"), &bytes, &len), -EISDIR);
	ck_assert_ptr_null(bytes);
	ck_assert_uint_eq(len, 7);
}
END_TEST

START_TEST(a_huge_file_is_refused)
{
	uint8_t *bytes;
	size_t len;

	ck_assert_int_eq(stored_file_write(in("a"), "x", 1), 0);
	ck_assert_int_eq(truncate(in("a"), (1l << 30) + 1), 0); /* sparse */
	ck_assert_int_eq(stored_file_read(in("a"), &bytes, &len), -EFBIG);
}
END_TEST

START_TEST(directories)
{
	struct stat st;

	ck_assert_int_eq(stored_file_make_directory(in("a/b/c")), 0);
	ck_assert_int_eq(stored_file_make_directory(in("a/b/c")), 0);
	ck_assert_int_eq(stored_file_make_directory(in("a//b/d/")), 0);
	ck_assert_int_eq(stat(in("a/b/d"), &st), 0);
	ck_assert(S_ISDIR(st.st_mode));
	ck_assert_int_eq(stored_file_write(in("f"), "x", 1), 0);
	ck_assert_int_eq(stored_file_make_directory(in("f")), -ENOTDIR);
	ck_assert_int_eq(stored_file_make_directory(in("f/g")), -ENOTDIR);
	ck_assert_int_eq(symlink("a", in("link")), 0);
	ck_assert_int_eq(stored_file_make_directory(in("link")), 0);
}
END_TEST

enum { KILLS = 20, BIG = 256 * 1024 };

static void write_for_ever(const char *path)
{
	static uint8_t bytes[BIG];

	for (uint8_t value = 1;; value++) {
		memset(bytes, value, sizeof(bytes));
		/* Each content has its own length. */
		if (stored_file_write(path, bytes, BIG - value) < 0)
			_exit(EXIT_FAILURE);
	}
}

START_TEST(killed_in_the_middle)
{
	ck_assert_int_eq(stored_file_write(in("a"), "", 0), 0);
	for (int i = 0; i < KILLS; i++) {
		pid_t pid = fork();
		uint8_t *bytes;
		size_t len;

		if (pid == 0)
			write_for_ever(in("a"));
		usleep((useconds_t)(1000 + 700 * i));
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		ck_assert_int_eq(stored_file_read(in("a"), &bytes, &len), 0);
		for (size_t at = 0; at < len; at++)
			ck_assert(bytes[at] == bytes[0]);
		ck_assert(len == 0 || len == BIG - (size_t)bytes[0]);
		free(bytes);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("stored_file");
	TCase *tcase = tcase_create("stored_file");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, written_and_read);
	tcase_add_test(tcase, over_a_temporary_file);
	tcase_add_test(tcase, failures_leave_the_old_one);
	tcase_add_test(tcase, a_huge_file_is_refused);
	tcase_add_test(tcase, directories);
	tcase_add_test(tcase, killed_in_the_middle);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
