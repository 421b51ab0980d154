/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a disk node that is restarted offers its directories as new volumes or not at all, and clients' file
 * handles are stale.
 */
#include "config.h"

#include "slave/volumes.h"

#include "common/stored_file.h"
#include "common/uuid.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SKIP = 77, SELF = 7, WHY_MAX = 256 };

static char directory[64];
static struct volumes *volumes;

/* A path in the test's directory; good until the fourth one after it. */
static const char *in(const char *name)
{
	static char paths[4][PATH_MAX];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, PATH_MAX, "%s/%s", directory, name);
	return path;
}

static bool directory_make(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(directory, sizeof(directory), "%.40s/test_volumes.XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(directory);
}

static void directory_remove(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	ck_assert_int_eq(system(command), 0);
}

static void reopen(void)
{
	volumes_close(volumes);
	volumes = NULL;
	ck_assert_int_eq(volumes_open(in("state"), &volumes), 0);
}

static void setup(void)
{
	ck_assert(directory_make());
	ck_assert_int_eq(mkdir(in("one"), 0755), 0);
	ck_assert_int_eq(mkdir(in("two words"), 0755), 0);
	reopen();
}

static void teardown(void)
{
	volumes_close(volumes);
	volumes = NULL;
	directory_remove();
}

static int add(const char *path, const char *place)
{
	char why[WHY_MAX] = "";
	int rc = volumes_add(volumes, path, place, why, sizeof(why));

	ck_assert_int_eq(rc < 0, why[0] != '\0'); /* the administrator reads a reason */
	return rc;
}

static const struct volume_offer *offer(size_t number)
{
	const struct volume_offer *found = NULL;
	size_t at = 0;

	for (size_t i = 0; i <= number; i++)
		found = volumes_next(volumes, &at);
	return found;
}

/* The name space says: this volume is that node's. */
static struct namespace *assigned(const uint8_t *uuid, uint32_t id, uint32_t node)
{
	ns_item items[3] = {
		{ .kind = NS_CLUSTER, .ns_item_u.cluster = { .name = "", .vips = "" } },
		{ .kind = NS_ENTRY, .ns_item_u.entry = { .id = 1, .parent = 1, .name = "" } },
		{ .kind = NS_VOLUME, .ns_item_u.volume = { .id = id, .node = node, .path = "" } },
	};
	ns_snapshot snapshot = { .revision = 1, .items = { .items_len = 3, .items_val = items } };
	struct namespace *ns = namespace_new();
	char bytes[4096];
	XDR xdr;

	memcpy(items[2].ns_item_u.volume.uuid, uuid, NS_UUID_BYTES);
	xdrmem_create(&xdr, bytes, sizeof(bytes), XDR_ENCODE);
	ck_assert(xdr_ns_snapshot(&xdr, &snapshot));
	ck_assert_int_eq(namespace_load(ns, bytes, xdr_getpos(&xdr)), 0);
	return ns;
}

static void follow(const uint8_t *uuid, uint32_t id, uint32_t node)
{
	struct namespace *ns = assigned(uuid, id, node);

	volumes_follow(volumes, ns, SELF);
	namespace_free(ns);
}

START_TEST(offers_survive_a_restart)
{
	uint8_t uuid[NS_UUID_BYTES];

	ck_assert_ptr_null(offer(0));
	ck_assert_int_eq(add(in("one"), ""), 0);
	ck_assert_int_eq(add(in("two words"), "/projects/a"), 0);
	memcpy(uuid, offer(1)->uuid, sizeof(uuid));
	ck_assert_mem_ne(offer(0)->uuid, uuid, sizeof(uuid));
	reopen();
	ck_assert_str_eq(offer(0)->path, in("one"));
	ck_assert_str_eq(offer(0)->place, "");
	ck_assert_str_eq(offer(1)->path, in("two words"));
	ck_assert_str_eq(offer(1)->place, "/projects/a");
	ck_assert_mem_eq(offer(1)->uuid, uuid, sizeof(uuid));
	ck_assert_uint_gt(offer(1)->root.backend_len, 0);
	ck_assert_ptr_null(offer(2));
}
END_TEST

/* Else each start of the daemon would make a new volume of a directory in its configuration. */
START_TEST(added_again_it_is_the_same)
{
	uint8_t uuid[NS_UUID_BYTES];

	ck_assert_int_eq(add(in("one"), "/a"), 0);
	memcpy(uuid, offer(0)->uuid, sizeof(uuid));
	ck_assert_int_eq(add(in("one"), "/b"), 0);
	ck_assert_mem_eq(offer(0)->uuid, uuid, sizeof(uuid));
	ck_assert_str_eq(offer(0)->place, "/a");
	ck_assert_ptr_null(offer(1));
}
END_TEST

START_TEST(what_is_no_volume)
{
	char longest[NS_TEXT_MAX + 1];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	ck_assert_int_eq(add("relative", ""), -EINVAL);
	ck_assert_int_eq(add("", ""), -EINVAL);
	ck_assert_int_eq(add("/two\nlines", ""), -EINVAL);
	ck_assert_int_eq(add(in("one"), "/two words"), -EINVAL);
	ck_assert_int_eq(add(in("one"), "/two\nlines"), -EINVAL);
	ck_assert_int_eq(add(in("one"), longest), -EINVAL);
	ck_assert_int_eq(add(in("none"), ""), -ENOENT);
	ck_assert_int_eq(stored_file_write(in("file"), "x", 1), 0);
	ck_assert_int_eq(add(in("file"), ""), -ENOTDIR);
	ck_assert_ptr_null(offer(0));
	longest[NS_TEXT_MAX - 1] = '\0';
	ck_assert_int_eq(add(in("one"), longest), 0);
	reopen();
	ck_assert_str_eq(offer(0)->place, longest);
}
END_TEST

START_TEST(what_cannot_be_written_is_not_offered)
{
	ck_assert_int_eq(mkdir(in("state.new"), 0755), 0); /* in the way of the temporary file */
	ck_assert_int_lt(add(in("one"), ""), 0);
	ck_assert_ptr_null(offer(0));
}
END_TEST

START_TEST(forgotten)
{
	uint8_t uuid[NS_UUID_BYTES];

	ck_assert_int_eq(add(in("one"), ""), 0);
	ck_assert_int_eq(add(in("two words"), ""), 0);
	memcpy(uuid, offer(0)->uuid, sizeof(uuid));
	follow(uuid, 1, SELF);
	ck_assert_ptr_nonnull(volumes_find(volumes, 1));
	ck_assert_int_eq(volumes_forget(volumes, uuid), 0);
	ck_assert_ptr_null(volumes_find(volumes, 1));
	ck_assert_int_eq(volumes_forget(volumes, uuid), -ENOENT);
	reopen();
	ck_assert_str_eq(offer(0)->path, in("two words"));
	ck_assert_ptr_null(offer(1));
	ck_assert_int_eq(access(in("one"), F_OK), 0);
}
END_TEST

/* A disk that is not there today is one tomorrow, with the same UUID. */
START_TEST(a_missing_directory_stays_on_the_list)
{
	uint8_t uuid[NS_UUID_BYTES];

	ck_assert_int_eq(add(in("one"), ""), 0);
	memcpy(uuid, offer(0)->uuid, sizeof(uuid));
	ck_assert_int_eq(rename(in("one"), in("away")), 0);
	reopen();
	ck_assert_uint_eq(offer(0)->root.backend_len, 0);
	follow(uuid, 1, SELF);
	ck_assert_ptr_null(volumes_find(volumes, 1));
	ck_assert_int_eq(rename(in("away"), in("one")), 0);
	ck_assert_int_eq(add(in("one"), ""), 0);
	ck_assert_uint_gt(offer(0)->root.backend_len, 0);
	ck_assert_mem_eq(offer(0)->uuid, uuid, sizeof(uuid));
	follow(uuid, 1, SELF);
	ck_assert_ptr_nonnull(volumes_find(volumes, 1));
}
END_TEST

START_TEST(the_name_space_opens_and_shuts)
{
	static const uint8_t other[NS_UUID_BYTES] = { 9 };
	uint8_t uuid[NS_UUID_BYTES];

	ck_assert_int_eq(add(in("one"), ""), 0);
	memcpy(uuid, offer(0)->uuid, sizeof(uuid));
	follow(other, 1, SELF);
	ck_assert_ptr_null(volumes_find(volumes, 1));
	follow(uuid, 1, SELF);
	ck_assert_ptr_nonnull(volumes_find(volumes, 1));
	ck_assert_uint_eq(volumes_find(volumes, 1)->id, 1);
	follow(uuid, 1, SELF);
	/* Another id: it was removed and added while we were away. */
	follow(uuid, 2, SELF);
	ck_assert_ptr_null(volumes_find(volumes, 1));
	ck_assert_ptr_nonnull(volumes_find(volumes, 2));
	/* Its disk is in another node now. */
	follow(uuid, 2, SELF + 1);
	ck_assert_ptr_null(volumes_find(volumes, 2));
}
END_TEST

static const char *const damaged[] = {
	"no uuid here\n",
	"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\n",
	"f81d4fae-7dec-11d0-a765-00a0c91e6bf6 -\n",
	"f81d4fae-7dec-11d0-a765-00a0c91e6bf6 - relative\n",
	"f81d4fae-7dec-11d0-a765 - /data\n",
};

/* A damaged list is not taken for an empty one: volumes would come back with other UUIDs. */
START_TEST(a_damaged_list_is_refused)
{
	struct volumes *none = NULL;

	ck_assert_int_eq(stored_file_write(in("bad"), damaged[_i], strlen(damaged[_i])), 0);
	ck_assert_int_eq(volumes_open(in("bad"), &none), -EINVAL);
	ck_assert_ptr_null(none);
}
END_TEST

START_TEST(a_path_too_long_is_refused)
{
	char line[2 * PATH_MAX];
	struct volumes *none = NULL;

	memset(line, 'x', sizeof(line));
	memcpy(line, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6 - /", 40);
	ck_assert_int_eq(stored_file_write(in("bad"), line, sizeof(line)), 0);
	ck_assert_int_eq(volumes_open(in("bad"), &none), -EINVAL);
}
END_TEST

/* What is missing for this test, or NULL. */
static const char *missing(void)
{
	struct local_root root;
	const char *why = NULL;

	if (!directory_make())
		return "a directory to write to";
	if (local_probe(directory, &root, &why) == 0)
		why = NULL;
	rmdir(directory);
	return why;
}

int main(void)
{
	Suite *suite = suite_create("volumes");
	TCase *tcase = tcase_create("volumes");
	const char *lack = missing();
	SRunner *runner;
	int failed;

	if (lack) {
		fprintf(stderr, "test_volumes: skipped, missing: %s\n", lack);
		return SKIP;
	}
	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, offers_survive_a_restart);
	tcase_add_test(tcase, added_again_it_is_the_same);
	tcase_add_test(tcase, what_is_no_volume);
	tcase_add_test(tcase, what_cannot_be_written_is_not_offered);
	tcase_add_test(tcase, forgotten);
	tcase_add_test(tcase, a_missing_directory_stays_on_the_list);
	tcase_add_test(tcase, the_name_space_opens_and_shuts);
	tcase_add_loop_test(tcase, a_damaged_list_is_refused, 0, sizeof(damaged) / sizeof(damaged[0]));
	tcase_add_test(tcase, a_path_too_long_is_refused);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
