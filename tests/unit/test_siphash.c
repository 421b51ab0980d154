/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, file handles and EAP datagrams carry a hash of our own invention: perhaps one that can be forged, and
 * another release would not accept them.
 */
#include "config.h"

#include "common/siphash.h"

#include <check.h>
#include <stdlib.h>

/* Key 00 01 .. 0f, data 00 01 .. (len - 1); from the reference implementation's vectors, read as little-endian. */
static const struct {
	unsigned int len;
	uint64_t hash;
} vectors[] = {
	{ 0, 0x726fdb47dd0e0e31 },  { 1, 0x74f839c593dc67fd },	{ 2, 0x0d6c8009d9a94f5a },
	{ 3, 0x85676696d7fb7e2d },  { 8, 0x93f5f5799a932462 },	{ 15, 0xa129ca6149be45e5 },
	{ 63, 0x958a324ceb064572 },
};

START_TEST(reference_vectors)
{
	uint8_t key[SIPHASH_KEY_BYTES], data[64];

	for (unsigned int i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)i;
	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	ck_assert_uint_eq(siphash(key, data, vectors[_i].len), vectors[_i].hash);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("siphash");
	TCase *tc = tcase_create("siphash");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, reference_vectors, 0, sizeof(vectors) / sizeof(vectors[0]));
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
