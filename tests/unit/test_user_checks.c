/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a user gets a name that other programs read otherwise, root's number, or a password that is stored as it is.
 */
#include "config.h"

#include "common/user_checks.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char why[USER_CHECKS_WHY_MAX];

#define A32 "abcdefghijklmnopqrstuvwxyzabcdef"
#define SALTED "$y$j9T$Nd2Qcme7YmAV1pqhWXhPt/$"
#define HASH SALTED "1sHe8S8nCz2oAC5lD/.tYx0x9nQ7JDyX9dLHhl.x1V9"

/* A good value, or one that is refused, and is named in the reason where there is something to name. */
static const struct {
	int (*check)(const char *text, char reason[static USER_CHECKS_WHY_MAX]);
	const char *text;
	bool is_good;
} texts[] = {
	{ user_checks_name, "anna", true },
	{ user_checks_name, "_apt", true },
	{ user_checks_name, "a-b_9", true },
	{ user_checks_name, "machine$", true },
	{ user_checks_name, A32, true },
	{ user_checks_name, A32 "g", false },
	{ user_checks_name, "", false },
	{ user_checks_name, "$", false },
	{ user_checks_name, "-anna", false },
	{ user_checks_name, "1000", false },
	{ user_checks_name, "9a", false },
	{ user_checks_name, "Anna", false },
	{ user_checks_name, "an na", false },
	{ user_checks_name, "anna:", false },
	{ user_checks_name, "an$na", false },
	{ user_checks_name, "anna\n", false },
	{ user_checks_name, "\xc3\xa4nna", false },
	{ user_checks_comment, "", true },
	{ user_checks_comment, "\xc3\x84nna, room 7", true },
	{ user_checks_comment, "a:b", false },
	{ user_checks_comment, "a\nb", false },
	{ user_checks_password, HASH, true },
	{ user_checks_password, "!" HASH, true },
	{ user_checks_password, "!!" HASH, false },
	{ user_checks_password, SALTED, false },
	{ user_checks_password, "", false },
	{ user_checks_password, "!", false },
	{ user_checks_password, "*", false },
	{ user_checks_password, "secret", false },
	{ user_checks_password, "$1$salt$qJH7.N4xYta3aEG/dfqo/0", false }, /* MD5: not any more */
};

START_TEST(text_is_checked)
{
	why[0] = '\0';
	ck_assert_msg(texts[_i].check(texts[_i].text, why) == (texts[_i].is_good ? 0 : -EINVAL), "\"%s\"", texts[_i].text);
	ck_assert_int_eq(why[0] == '\0', texts[_i].is_good);
}
END_TEST

START_TEST(a_hash_is_not_repeated)
{
	ck_assert_int_eq(user_checks_password("secret", why), -EINVAL);
	ck_assert_ptr_null(strstr(why, "secret"));
}
END_TEST

START_TEST(long_comment_is_refused)
{
	char comment[257];

	memset(comment, 'x', sizeof(comment) - 1);
	comment[256] = '\0';
	ck_assert_int_eq(user_checks_comment(comment, why), -EINVAL);
	comment[255] = '\0';
	ck_assert_int_eq(user_checks_comment(comment, why), 0);
}
END_TEST

static const struct {
	const char *text;
	uint32_t id; /* 0: refused */
} ids[] = {
	{ "1", 1 },	   { "10000", 10000 }, { "4294967294", 4294967294 }, { "65533", 65533 }, { "65536", 65536 },
	{ "0", 0 },	   { "65534", 0 },     { "65535", 0 },		     { "4294967295", 0 }, { "4294967296", 0 },
	{ "-1", 0 },	   { "+1", 0 },	       { " 1", 0 },		     { "1x", 0 },	  { "", 0 },
	{ "0x10", 0 }, { "99999999999999999999", 0 },
};

START_TEST(id_is_checked)
{
	uint32_t id = 77;
	int rc = user_checks_id(ids[_i].text, &id, why);

	ck_assert_msg(rc == (ids[_i].id ? 0 : -EINVAL), "\"%s\"", ids[_i].text);
	ck_assert_uint_eq(id, ids[_i].id ? ids[_i].id : 77);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("user_checks");
	TCase *tcase = tcase_create("user_checks");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, text_is_checked, 0, sizeof(texts) / sizeof(texts[0]));
	tcase_add_test(tcase, a_hash_is_not_repeated);
	tcase_add_test(tcase, long_comment_is_refused);
	tcase_add_loop_test(tcase, id_is_checked, 0, sizeof(ids) / sizeof(ids[0]));
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
