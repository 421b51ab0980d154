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
	{
		{ HANDLE_LOCAL_IN, .volume = 7, .backend_type = 0x81, .backend_len = 8,
		  .backend = { 1, 2, 3, 4, 5, 6, 7, 8 } },
		24,
		{ 1, 3, 0, 0x81, 0, 0, 0, 7, 0x89, 0x24, 0xdd, 0x50, 0x1d, 0xc4, 0xb5, 0x7d, 1, 2, 3, 4, 5, 6, 7, 8 },
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

static struct handle local_handle(uint8_t fill, uint8_t len)
{
	struct handle handle = { .type = HANDLE_LOCAL, .volume = 7, .backend_type = 0x81, .backend_len = len };

	memset(handle.backend, fill, len);
	return handle;
}

START_TEST(a_file_and_its_directory_travel_together)
{
	static const uint8_t lengths[] = { 0, 1, 8, HANDLE_BACKEND_MAX / 2 };
	struct handle file = local_handle(1, lengths[_i]), directory = local_handle(2, lengths[_i]);
	struct handle both = { 0 }, back = { 0 }, back_file = { 0 }, back_directory = { 0 };
	uint8_t bytes[HANDLE_MAX];
	size_t len;

	ck_assert_int_eq(handle_join(&file, &directory, &both), 0);
	ck_assert_int_eq(both.type, HANDLE_LOCAL_IN);
	len = handle_encode(&key, &both, bytes);
	ck_assert_uint_eq(len, HANDLE_HEADER_BYTES + 2u * lengths[_i]);
	ck_assert_int_eq(handle_decode(&key, bytes, len, &back), 0);
	handle_split(&back, &back_file, &back_directory);
	ck_assert_int_eq(back_file.type, HANDLE_LOCAL);
	ck_assert_uint_eq(back_file.volume, 7);
	ck_assert_uint_eq(back_file.backend_type, 0x81);
	ck_assert_uint_eq(back_file.backend_len, lengths[_i]);
	ck_assert_mem_eq(back_file.backend, file.backend, lengths[_i]);
	ck_assert_int_eq(back_directory.type, HANDLE_LOCAL);
	ck_assert_uint_eq(back_directory.backend_len, lengths[_i]);
	ck_assert_mem_eq(back_directory.backend, directory.backend, lengths[_i]);
}
END_TEST

/* The file is the first half, its directory the second: handles that clients have say so. */
START_TEST(golden_halves)
{
	struct handle handle, file, directory;

	ck_assert_int_eq(handle_decode(&key, golden[2].bytes, golden[2].len, &handle), 0);
	handle_split(&handle, &file, &directory);
	ck_assert_uint_eq(file.backend_len, 4);
	ck_assert_mem_eq(file.backend, "\1\2\3\4", 4);
	ck_assert_uint_eq(directory.backend_len, 4);
	ck_assert_mem_eq(directory.backend, "\5\6\7\10", 4);
}
END_TEST

/* Then the client gets the file's own, and the file's place must be known without. */
START_TEST(what_does_not_fit_together_is_not_joined)
{
	struct handle file = local_handle(1, 8), both = { .volume = 99 };
	struct handle cases[] = { local_handle(2, 9), local_handle(2, 8), local_handle(2, 8), local_handle(2, 8) };
	struct handle too_long = local_handle(1, HANDLE_BACKEND_MAX / 2 + 1);

	cases[1].volume = 8;
	cases[2].backend_type = 0x82;
	cases[3].type = HANDLE_LOCAL_IN;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ck_assert_int_eq(handle_join(&file, &cases[i], &both), -EOVERFLOW);
		ck_assert_int_eq(handle_join(&cases[i], &file, &both), -EOVERFLOW);
	}
	ck_assert_int_eq(handle_join(&too_long, &too_long, &both), -EOVERFLOW);
	ck_assert_uint_eq(both.volume, 99);
}
END_TEST

/* Only whoever has the key can have made it; even so, it is not taken apart in the middle of a byte. */
START_TEST(two_have_an_even_length)
{
	struct handle odd = local_handle(1, 7), out;
	uint8_t bytes[HANDLE_MAX];
	size_t len;

	odd.type = HANDLE_LOCAL_IN;
	len = handle_encode(&key, &odd, bytes);
	ck_assert_int_eq(handle_decode(&key, bytes, len, &out), -EBADMSG);
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
	tcase_add_loop_test(tc, a_file_and_its_directory_travel_together, 0, 4);
	tcase_add_test(tc, golden_halves);
	tcase_add_test(tc, what_does_not_fit_together_is_not_joined);
	tcase_add_test(tc, two_have_an_even_length);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
