/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, users see no disks, or see other disks, names or inode numbers than through another device.
 */
#include "config.h"

#include "common/pseudo.h"
#include "tests/unit/fake_volume.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct credentials user = { .uid = 1000, .gid = 100 };
static struct namespace *ns;
static struct volume root;

static void open_root(void)
{
	ns = fake_namespace_new();
	pseudo_open(ns, &root);
}

static struct handle entry_handle(uint64_t id)
{
	ns_entry entry = { .id = id };

	return namespace_entry_handle(&entry);
}

START_TEST(attributes)
{
	struct stat st;

	open_root();
	ck_assert_uint_eq(root.fsid, 0xababababababababull);
	ck_assert_int_eq(root.backend->getattr(&root, &root.root, &st), 0);
	ck_assert_uint_eq(st.st_mode, S_IFDIR | 0755);
	ck_assert_uint_eq(st.st_ino, 1);
	ck_assert_uint_eq(st.st_nlink, 5);
	ck_assert_int_eq(st.st_mtim.tv_sec, 1700000000);
	ck_assert_int_eq(st.st_mtim.tv_nsec, 5);
	namespace_free(ns);
}
END_TEST

/* `id` is the entry found, or 0 and then the volume. */
static const struct {
	uint64_t dir;
	const char *name;
	int rc;
	uint64_t id;
	uint32_t volume;
} lookups[] = {
	{ 1, "projects", 0, 3, 0 }, { 1, "disk0", 0, 0, 1 },	 { 3, "a", 0, 0, 2 },
	{ 1, ".", 0, 1, 0 },	    { 1, "..", 0, 1, 0 },	 { 3, ".", 0, 3, 0 },
	{ 3, "..", 0, 1, 0 },	    { 1, "a", -ENOENT, 0, 0 },	 { 3, "projects", -ENOENT, 0, 0 },
	{ 9, "a", -ESTALE, 0, 0 },  { 2, "x", -ESTALE, 0, 0 }, /* a mount point is no directory of this volume */
};

START_TEST(names)
{
	struct handle dir = entry_handle(lookups[_i].dir), wanted = entry_handle(lookups[_i].id);
	struct backend_attributes after = { 0 };
	struct backend_found found = { 0 };

	open_root();
	ck_assert_int_eq(root.backend->lookup(&root, &user, &dir, lookups[_i].name, &found, &after), lookups[_i].rc);
	ck_assert_int_eq(after.valid, lookups[_i].rc != -ESTALE);
	ck_assert_uint_eq(found.handle.volume, lookups[_i].volume);
	ck_assert_int_eq(found.attributes.valid, lookups[_i].id != 0);
	if (lookups[_i].id)
		ck_assert_mem_eq(&found.handle, &wanted, sizeof(wanted));
	namespace_free(ns);
}
END_TEST

struct seen {
	char text[200];
	size_t patience;
	uint64_t last;
};

static bool on_entry(const struct backend_entry *entry, void *arg)
{
	struct seen *seen = arg;

	if (!seen->patience)
		return false;
	seen->patience--;
	seen->last = entry->cookie;
	snprintf(seen->text + strlen(seen->text), sizeof(seen->text) - strlen(seen->text), "%s=%d%s ", entry->name,
		 (int)entry->fileid, entry->has_found ? "+" : "");
	return true;
}

START_TEST(listing_in_any_pieces)
{
	for (size_t patience = 1; patience < 8; patience++) {
		struct seen seen = { 0 };
		bool end = false;

		open_root();
		while (!end) {
			struct backend_attributes after = { 0 };
			uint64_t verifier = 0;

			seen.patience = patience;
			ck_assert_int_eq(root.backend->readdir(&root, &user, &root.root, seen.last, &verifier, true,
							       on_entry, &seen, &end, &after),
					 0);
			ck_assert(after.valid);
		}
		ck_assert_str_eq(seen.text, ".=1+ ..=1+ disk0=2 projects=3+ gone=5 ");
		namespace_free(ns);
	}
}
END_TEST

START_TEST(all_may_look_and_none_may_write)
{
	struct stat st;
	int allowed = 0;

	open_root();
	ck_assert_int_eq(root.backend->access(&root, &user, &root.root, R_OK | W_OK | X_OK, &allowed, &st), 0);
	ck_assert_int_eq(allowed, R_OK | X_OK);
	ck_assert_ptr_null(root.backend->write);
	namespace_free(ns);
}
END_TEST

START_TEST(a_removed_directory_is_stale)
{
	ns_change change = { .operation = NS_DELETE, .item = { .kind = NS_ENTRY } };
	struct handle dir = entry_handle(3);
	struct stat st;

	open_root();
	ck_assert_int_eq(root.backend->getattr(&root, &dir, &st), 0);
	/* First what is in it. */
	for (uint64_t id = 4; id >= 3; id--) {
		change.revision = namespace_revision(ns) + 1;
		change.item.ns_item_u.entry.id = id;
		ck_assert_int_eq(namespace_apply(ns, &change), 0);
	}
	ck_assert_int_eq(root.backend->getattr(&root, &dir, &st), -ESTALE);
	namespace_free(ns);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pseudo");
	TCase *tc = tcase_create("pseudo");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, attributes);
	tcase_add_loop_test(tc, names, 0, sizeof(lookups) / sizeof(lookups[0]));
	tcase_add_test(tc, listing_in_any_pieces);
	tcase_add_test(tc, all_may_look_and_none_may_write);
	tcase_add_test(tc, a_removed_directory_is_stale);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
