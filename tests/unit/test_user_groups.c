/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a user of the cluster is let into files of groups that he is not in any more, or kept out of those of groups that
 * he was put into.
 */
#include "config.h"

#include "common/user_groups.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

enum { ANNA = 10001, SAME_SLOT = 1024 };

static struct namespace *ns;
static struct user_groups *users;

static void put(ns_item item)
{
	ns_change change = { .revision = namespace_revision(ns) + 1, .operation = NS_PUT, .item = item };

	ck_assert_int_eq(namespace_apply(ns, &change), 0);
}

static void put_user(uint32_t uid, const char *name, uint32_t gid, u_int *groups, u_int count)
{
	ns_item item = { .kind = NS_USER };

	item.ns_item_u.user = (ns_user){ .uid = uid, .name = (char *)name, .gid = gid, .comment = "", .password = "" };
	item.ns_item_u.user.groups.groups_val = groups;
	item.ns_item_u.user.groups.groups_len = count;
	put(item);
}

static void start(void)
{
	ns = namespace_new();
	users = user_groups_new(ns);
	put_user(ANNA, "anna", 100, (u_int[]){ 0, 7 }, 2);
}

static void stop(void)
{
	user_groups_free(users);
	namespace_free(ns);
}

static struct group_set *find(uint32_t uid, bool without_root)
{
	struct group_set *set = NULL;

	ck_assert_int_eq(user_groups_find(users, uid, without_root, &set), 0);
	return set;
}

START_TEST(all_his_groups)
{
	struct group_set *set = find(ANNA, false);

	ck_assert_uint_eq(set->count, 3);
	ck_assert_uint_eq(set->groups[0], 100);
	ck_assert_uint_eq(set->groups[1], 0);
	ck_assert_uint_eq(set->groups[2], 7);
	group_set_put(set);
	set = find(ANNA, true);
	ck_assert_uint_eq(set->count, 2);
	ck_assert_uint_eq(set->groups[1], 7);
	group_set_put(set);
}
END_TEST

START_TEST(a_stranger_has_none)
{
	struct group_set *set = NULL;

	ck_assert_int_eq(user_groups_find(users, ANNA + 1, false, &set), -ENOENT);
	ck_assert_int_eq(user_groups_find(users, 0, false, &set), -ENOENT);
	ck_assert_ptr_null(set);
}
END_TEST

/* The kernel's groups of a worker are set anew for another set: not for each call. */
START_TEST(a_set_is_made_once)
{
	struct group_set *first = find(ANNA, false), *second = find(ANNA, false);

	ck_assert_ptr_eq(first, second);
	group_set_put(first);
	group_set_put(second);
}
END_TEST

START_TEST(a_change_counts_at_once)
{
	struct group_set *before = find(ANNA, false), *after;

	put_user(ANNA, "anna", 100, (u_int[]){ 7, 8 }, 2);
	after = find(ANNA, false);
	ck_assert_uint_ne(before->serial, after->serial);
	ck_assert_uint_eq(after->groups[2], 8);
	ck_assert_uint_eq(before->groups[2], 7); /* a call that has begun keeps what it has */
	group_set_put(before);
	group_set_put(after);
}
END_TEST

START_TEST(who_was_removed_is_a_stranger)
{
	ns_change change = { .operation = NS_DELETE, .item.kind = NS_USER };
	struct group_set *set = find(ANNA, false);

	group_set_put(set);
	change.revision = namespace_revision(ns) + 1;
	change.item.ns_item_u.user = (ns_user){ .uid = ANNA, .name = "", .comment = "", .password = "" };
	ck_assert_int_eq(namespace_apply(ns, &change), 0);
	ck_assert_int_eq(user_groups_find(users, ANNA, false, &set), -ENOENT);
}
END_TEST

START_TEST(two_users_of_one_slot)
{
	put_user(ANNA + SAME_SLOT, "bert", 200, NULL, 0);
	for (int i = 0; i < 3; i++) {
		struct group_set *anna = find(ANNA, true), *bert = find(ANNA + SAME_SLOT, true);

		ck_assert_uint_eq(anna->groups[0], 100);
		ck_assert_uint_eq(bert->groups[0], 200);
		ck_assert_uint_eq(bert->count, 1);
		group_set_put(anna);
		group_set_put(bert);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("user_groups");
	TCase *tcase = tcase_create("user_groups");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_test(tcase, all_his_groups);
	tcase_add_test(tcase, a_stranger_has_none);
	tcase_add_test(tcase, a_set_is_made_once);
	tcase_add_test(tcase, a_change_counts_at_once);
	tcase_add_test(tcase, who_was_removed_is_a_stranger);
	tcase_add_test(tcase, two_users_of_one_slot);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
