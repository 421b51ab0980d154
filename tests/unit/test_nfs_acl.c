/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, setfacl on a client stores other rights than the user gave, or getfacl shows what is not there. Calls as
 * such are tested in test_nfs3.c, the file system's part in test_local.c.
 */
#include "config.h"

#include "common/nfs3_internal.h"
#include "tests/unit/golden_hex.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define U BACKEND_ACL_USER_OBJ
#define USER BACKEND_ACL_USER
#define G BACKEND_ACL_GROUP_OBJ
#define GROUP BACKEND_ACL_GROUP
#define MASK BACKEND_ACL_MASK
#define O BACKEND_ACL_OTHER

static const struct stat owner = { .st_uid = 1000, .st_gid = 100 };

static const struct backend_acl plain = { 3, { { U, 7, 0 }, { G, 5, 0 }, { O, 4, 0 } } };
static const struct backend_acl full = { 7, { { U, 7, 0 }, { USER, 6, 1001 }, { USER, 0, 70000 }, { G, 5, 0 },
					      { GROUP, 4, 50 }, { MASK, 6, 0 }, { O, 0, 0 } } };

static void check_golden(const char *name, const struct backend_acl *acl, bool is_default, bool with_entries)
{
	uint8_t bytes[1024];
	struct bytes_writer w = bytes_writer_init(bytes, sizeof(bytes));

	nfs_acl_encode(&w, acl, &owner, is_default, with_entries);
	ck_assert(!w.failed);
	golden_hex_check(name, bytes, w.written);
}

START_TEST(bytes_on_the_wire)
{
	static const struct backend_acl none;

	check_golden("nfs_acl_plain", &plain, false, true);
	check_golden("nfs_acl_full", &full, false, true);
	check_golden("nfs_acl_default", &plain, true, true);
	check_golden("nfs_acl_count", &full, false, false);
	check_golden("nfs_acl_none", &none, true, true);
}
END_TEST

static const struct {
	const char *what;
	int rc;
	size_t count;
	nfs_acl_entry wire[8];
	struct backend_acl acl;
} decodings[] = {
	{ "none", 0, 0, { { 0 } }, { 0 } },
	{ "a mask that says nothing is Sun's habit", 0, 4,
	  { { U, 1000, 7 }, { G, 100, 5 }, { MASK, 0, 5 }, { O, 0, 4 } }, { 3, { { U, 7, 0 }, { G, 5, 0 }, { O, 4, 0 } } } },
	{ "another mask is one", 0, 4,
	  { { U, 1000, 7 }, { G, 100, 5 }, { MASK, 0, 4 }, { O, 0, 4 } },
	  { 4, { { U, 7, 0 }, { G, 5, 0 }, { MASK, 4, 0 }, { O, 4, 0 } } } },
	{ "a mask with named users stays", 0, 5,
	  { { U, 0, 7 }, { USER, 9, 6 }, { G, 0, 5 }, { MASK, 0, 5 }, { O, 0, 4 } },
	  { 5, { { U, 7, 0 }, { USER, 6, 9 }, { G, 5, 0 }, { MASK, 5, 0 }, { O, 4, 0 } } } },
	{ "in any order", 0, 6,
	  { { O, 0, 0 }, { MASK, 0, 7 }, { USER, 8, 1 }, { G, 0, 0 }, { USER, 7, 2 }, { U, 0, 6 } },
	  { 6, { { U, 6, 0 }, { USER, 2, 7 }, { USER, 1, 8 }, { G, 0, 0 }, { MASK, 7, 0 }, { O, 0, 0 } } } },
	{ "of a default ACL", 0, 1, { { U | NFS_ACL_TYPE_DEFAULT, 5, 7 } }, { 1, { { U, 7, 0 } } } },
	{ "Solaris' mask", 0, 1, { { MASK, 0, 0xff } }, { 1, { { MASK, 7, 0 } } } },
	{ "an unknown permission", -EINVAL, 1, { { USER, 5, 8 } }, { 0 } },
	{ "an unknown type", -EINVAL, 1, { { 0x40, 5, 7 } }, { 0 } },
	{ "two types at once", -EINVAL, 1, { { U | USER, 5, 7 } }, { 0 } },
	{ "no type", -EINVAL, 1, { { 0, 5, 7 } }, { 0 } },
};

START_TEST(what_is_understood)
{
	struct backend_acl acl;

	ck_assert_msg(nfs_acl_decode(decodings[_i].wire, decodings[_i].count, &acl) == decodings[_i].rc, "%s",
		      decodings[_i].what);
	if (decodings[_i].rc)
		return;
	ck_assert_msg(acl.count == decodings[_i].acl.count, "%s", decodings[_i].what);
	for (uint32_t i = 0; i < acl.count; i++) {
		const struct backend_acl_entry *entry = &acl.entries[i], *wanted = &decodings[_i].acl.entries[i];

		ck_assert_msg(entry->tag == wanted->tag && entry->permissions == wanted->permissions &&
				      entry->id == wanted->id, "%s: entry %u", decodings[_i].what, i);
	}
}
END_TEST

/* What is said is understood as the same, the longest too. */
START_TEST(there_and_back)
{
	static uint8_t bytes[8 + BACKEND_ACL_MAX * 12];
	static nfs_acl_entry wire[BACKEND_ACL_MAX + 1];
	struct bytes_writer w = bytes_writer_init(bytes, sizeof(bytes));
	struct backend_acl acl = { .count = BACKEND_ACL_MAX }, back;
	struct bytes_reader r;

	acl.entries[0] = (struct backend_acl_entry){ U, 7, 0 };
	for (uint32_t i = 1; i < BACKEND_ACL_MAX; i++)
		acl.entries[i] = (struct backend_acl_entry){ USER, i & 7, i };
	nfs_acl_encode(&w, &acl, &owner, true, true);
	ck_assert(!w.failed);
	ck_assert_uint_eq(w.left, 0);
	r = bytes_reader_init(bytes + 8, sizeof(bytes) - 8);
	for (size_t i = 0; i < BACKEND_ACL_MAX; i++) {
		wire[i].type = bytes_get_be32(&r);
		wire[i].id = bytes_get_be32(&r);
		wire[i].permissions = bytes_get_be32(&r);
	}
	ck_assert_int_eq(nfs_acl_decode(wire, BACKEND_ACL_MAX, &back), 0);
	ck_assert_mem_eq(&acl, &back, sizeof(acl));
	ck_assert_int_eq(nfs_acl_decode(wire, BACKEND_ACL_MAX + 1, &back), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nfs_acl");
	TCase *tc = tcase_create("nfs_acl");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, bytes_on_the_wire);
	tcase_add_loop_test(tc, what_is_understood, 0, sizeof(decodings) / sizeof(decodings[0]));
	tcase_add_test(tc, there_and_back);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
