/* SPDX-License-Identifier: GPL-3.0-or-later */
/* If this fails, a volume is taken for another one, or one that was moved to another node is not known again. */
#include "config.h"

#include "common/uuid.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *text;
	int rc;
} texts[] = {
	{ "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", 0 },
	{ "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", 0 },
	{ "00000000-0000-0000-0000-000000000000", 0 },
	{ "", -EINVAL },
	{ "-", -EINVAL },
	{ "f81d4fae-7dec-11d0-a765-00a0c91e6bf", -EINVAL },
	{ "f81d4fae-7dec-11d0-a765-00a0c91e6bf60", -EINVAL },
	{ "f81d4fae-7dec-11d0-a765-00a0c91e6bf6 ", -EINVAL },
	{ " f81d4fae-7dec-11d0-a765-00a0c91e6bf6", -EINVAL },
	{ "f81d4fae7dec11d0a76500a0c91e6bf6", -EINVAL },
	{ "f8-1d4fae-7dec-11d0-a765-00a0c91e6bf6", -EINVAL },
	{ "f81d4fae-7dec-11d0-a765-00a0c91e6bg6", -EINVAL },
	{ "0x1d4fae-7dec-11d0-a765-00a0c91e6bf6", -EINVAL },
	{ "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}", -EINVAL },
};

START_TEST(parsing)
{
	static const uint8_t wanted[UUID_BYTES] = { 0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0,
						    0xa7, 0x65, 0x00, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6 };
	uint8_t uuid[UUID_BYTES], before[UUID_BYTES];

	memset(before, 0x5a, sizeof(before));
	memcpy(uuid, before, sizeof(uuid));
	ck_assert_msg(uuid_parse(texts[_i].text, uuid) == texts[_i].rc, "\"%s\"", texts[_i].text);
	if (texts[_i].rc < 0)
		ck_assert_mem_eq(uuid, before, sizeof(uuid));
	else if (texts[_i].text[0] != '0')
		ck_assert_mem_eq(uuid, wanted, sizeof(uuid));
}
END_TEST

START_TEST(made_and_read_back)
{
	uint8_t uuid[UUID_BYTES], other[UUID_BYTES], back[UUID_BYTES];
	char text[UUID_TEXT_MAX];

	ck_assert_int_eq(uuid_make(uuid), 0);
	ck_assert_int_eq(uuid_make(other), 0);
	ck_assert_mem_ne(uuid, other, sizeof(uuid));
	/* RFC 9562, 5.4 */
	ck_assert_uint_eq(uuid[6] >> 4, 4);
	ck_assert_uint_eq(uuid[8] >> 6, 2);
	ck_assert_uint_eq(strlen(uuid_text(uuid, text)), UUID_TEXT_MAX - 1);
	ck_assert_int_eq(uuid_parse(text, back), 0);
	ck_assert_mem_eq(uuid, back, sizeof(uuid));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("uuid");
	TCase *tcase = tcase_create("uuid");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, parsing, 0, sizeof(texts) / sizeof(texts[0]));
	tcase_add_test(tcase, made_and_read_back);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
