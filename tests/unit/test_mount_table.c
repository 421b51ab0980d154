/* SPDX-License-Identifier: GPL-3.0-or-later */
/* If this fails, showmount -a shows an administrator mounts that are none, hides some, or eats the server's memory. */
#include "config.h"

#include "common/mount_table.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct mount_table *table;

static void setup(void)
{
	table = mount_table_new();
	ck_assert_ptr_nonnull(table);
}

static void teardown(void)
{
	mount_table_free(table);
}

static struct sockaddr_storage client(const char *text)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *ipv4 = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)&ss;

	ss.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	ck_assert_int_eq(inet_pton(ss.ss_family, text,
				   ss.ss_family == AF_INET ? (void *)&ipv4->sin_addr : (void *)&ipv6->sin6_addr), 1);
	return ss;
}

static void add(const char *text, const char *path)
{
	struct sockaddr_storage ss = client(text);

	mount_table_add(table, &ss, path);
}

static void take_out(const char *text, const char *path)
{
	struct sockaddr_storage ss = client(text);

	mount_table_remove(table, &ss, path);
}

/* All entries as one line. */
static const char *shown(void)
{
	const struct mounted *mounted = NULL;
	static char text[1024];
	size_t len = 0;

	text[0] = '\0';
	while ((mounted = mount_table_next(table, mounted)))
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s:%s ", mounted->client, mounted->path);
	return text;
}

static size_t count(void)
{
	const struct mounted *mounted = NULL;
	size_t entries = 0;

	while ((mounted = mount_table_next(table, mounted)))
		entries++;
	return entries;
}

START_TEST(mounts_come_and_go)
{
	ck_assert_str_eq(shown(), "");
	add("10.0.0.1", "/a");
	add("10.0.0.2", "/a");
	add("10.0.0.1", "/b");
	ck_assert_str_eq(shown(), "10.0.0.1:/b 10.0.0.2:/a 10.0.0.1:/a ");
	take_out("10.0.0.1", "/c");
	take_out("10.0.0.2", "/b");
	ck_assert_uint_eq(count(), 3);
	take_out("10.0.0.2", "/a");
	ck_assert_str_eq(shown(), "10.0.0.1:/b 10.0.0.1:/a ");
	take_out("10.0.0.1", NULL);
	ck_assert_str_eq(shown(), "");
}
END_TEST

START_TEST(a_mount_is_listed_once)
{
	add("10.0.0.1", "/a");
	add("10.0.0.1", "/b");
	add("10.0.0.1", "/a");
	ck_assert_str_eq(shown(), "10.0.0.1:/a 10.0.0.1:/b ");
}
END_TEST

START_TEST(a_mapped_address_is_the_same_client)
{
	add("::ffff:10.0.0.1", "/a");
	ck_assert_str_eq(shown(), "10.0.0.1:/a ");
	take_out("10.0.0.1", "/a");
	add("fd00::1", "/a");
	ck_assert_str_eq(shown(), "fd00::1:/a ");
}
END_TEST

START_TEST(a_client_has_so_many_mounts_and_no_more)
{
	char path[16];

	add("10.0.0.2", "/other");
	for (int i = 0; i <= MOUNT_TABLE_CLIENT_MAX; i++) {
		snprintf(path, sizeof(path), "/%d", i);
		add("10.0.0.1", path);
	}
	ck_assert_uint_eq(count(), MOUNT_TABLE_CLIENT_MAX + 1);
	take_out("10.0.0.1", "/0"); /* the oldest has gone already */
	ck_assert_uint_eq(count(), MOUNT_TABLE_CLIENT_MAX + 1);
	take_out("10.0.0.1", "/1");
	ck_assert_uint_eq(count(), MOUNT_TABLE_CLIENT_MAX);
}
END_TEST

START_TEST(many_clients_have_so_many_mounts_and_no_more)
{
	char text[INET_ADDRSTRLEN];

	for (unsigned int i = 0; i <= MOUNT_TABLE_MAX; i++) {
		snprintf(text, sizeof(text), "10.1.%hhu.%hhu", (unsigned char)(i / 256), (unsigned char)i);
		add(text, "/a");
	}
	ck_assert_uint_eq(count(), MOUNT_TABLE_MAX);
	take_out("10.1.0.0", NULL);
	ck_assert_uint_eq(count(), MOUNT_TABLE_MAX);
	take_out("10.1.0.1", NULL);
	ck_assert_uint_eq(count(), MOUNT_TABLE_MAX - 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mount_table");
	TCase *tc = tcase_create("mount_table");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, mounts_come_and_go);
	tcase_add_test(tc, a_mount_is_listed_once);
	tcase_add_test(tc, a_mapped_address_is_the_same_client);
	tcase_add_test(tc, a_client_has_so_many_mounts_and_no_more);
	tcase_add_test(tc, many_clients_have_so_many_mounts_and_no_more);
	tcase_add_checked_fixture(tc, setup, teardown);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
