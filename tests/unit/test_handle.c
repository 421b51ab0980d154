/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, clients' handles go stale with an update of the software, or a client can make up handles and reach
 * files that it was never given.
 */
#include "config.h"

#include "common/handle.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct handle_key key = { { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } };

/* The hashes were made with OpenSSL's SipHash. */
static const struct {
	struct handle handle;
	size_t len;
	uint8_t bytes[HANDLE_MAX];
} golden[] = {
	{
		{ HANDLE_LOCAL, .volume = 7, .backend_type = 0x81, .backend_len = 5, .backend = { 1, 2, 3, 4, 5 } },
		21,
		{ 1, 2, 0, 0x81, 0, 0, 0, 7, 0x1c, 0xa9, 0xcd, 0xf3, 0x4a, 0xa2, 0xc6, 0xdc, 1, 2, 3, 4, 5 },
	},
	{
		{ HANDLE_PSEUDO, .backend_len = 8, .backend = { 0, 0, 0, 0, 0, 0, 0, 1 } },
		24,
		{ 1, 1, 0, 0, 0, 0, 0, 0, 0x20, 0x7a, 0x5a, 0x9b, 0x86, 0x19, 0xd2, 0x1a, 0, 0, 0, 0, 0, 0, 0, 1 },
	},
};

START_TEST(golden_bytes)
{
	uint8_t bytes[HANDLE_MAX];
	struct handle handle = { 0 };

	ck_assert_uint_eq(handle_encode(&key, &golden[_i].handle, bytes), golden[_i].len);
	ck_assert_mem_eq(bytes, golden[_i].bytes, golden[_i].len);
	ck_assert_int_eq(handle_decode(&key, bytes, golden[_i].len, &handle), 0);
	ck_assert_mem_eq(&handle, &golden[_i].handle, sizeof(handle));
}
END_TEST

START_TEST(no_bit_may_change)
{
	uint8_t bytes[HANDLE_MAX];
	struct handle handle = { .volume = 99 };

	for (size_t bit = 0; bit < golden[_i].len * 8; bit++) {
		memcpy(bytes, golden[_i].bytes, sizeof(bytes));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_eq(handle_decode(&key, bytes, golden[_i].len, &handle), -EBADMSG);
	}
	ck_assert_uint_eq(handle.volume, 99);
}
END_TEST

START_TEST(no_other_length)
{
	struct handle handle;

	for (size_t len = 0; len <= HANDLE_MAX + 1; len++) {
		uint8_t bytes[HANDLE_MAX + 1] = { 0 };

		memcpy(bytes, golden[_i].bytes, sizeof(golden[_i].bytes));
		ck_assert_int_eq(handle_decode(&key, bytes, len, &handle), len == golden[_i].len ? 0 : -EBADMSG);
	}
}
END_TEST

START_TEST(another_clusters_key_fails)
{
	struct handle_key other = key;
	struct handle handle;

	other.bytes[15] ^= 1;
	ck_assert_int_eq(handle_decode(&other, golden[_i].bytes, golden[_i].len, &handle), -EBADMSG);
}
END_TEST

START_TEST(longest)
{
	struct handle handle = { HANDLE_LOCAL, .volume = UINT32_MAX, .backend_len = HANDLE_BACKEND_MAX }, back;
	uint8_t bytes[HANDLE_MAX];

	memset(handle.backend, 0xee, sizeof(handle.backend));
	ck_assert_uint_eq(handle_encode(&key, &handle, bytes), HANDLE_MAX);
	ck_assert_int_eq(handle_decode(&key, bytes, HANDLE_MAX, &back), 0);
	ck_assert_mem_eq(back.backend, handle.backend, HANDLE_BACKEND_MAX);
	ck_assert_uint_eq(back.backend_len, HANDLE_BACKEND_MAX);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("handle");
	TCase *tc = tcase_create("handle");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, golden_bytes, 0, sizeof(golden) / sizeof(golden[0]));
	tcase_add_loop_test(tc, no_bit_may_change, 0, sizeof(golden) / sizeof(golden[0]));
	tcase_add_loop_test(tc, no_other_length, 0, sizeof(golden) / sizeof(golden[0]));
	tcase_add_loop_test(tc, another_clusters_key_fails, 0, sizeof(golden) / sizeof(golden[0]));
	tcase_add_test(tc, longest);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
