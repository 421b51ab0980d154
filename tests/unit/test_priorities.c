/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client that should leave room for others takes it, or one that nobody meant has to wait.
 */
#include "config.h"

#include "common/priorities.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static struct namespace *ns;
static struct priorities_meters meters;
static struct priorities *priorities;
static uint64_t now;

static uint64_t now_us(void)
{
	return now;
}

static void change(ns_operation operation, ns_item item)
{
	ns_change one = { .revision = namespace_revision(ns) + 1, .operation = operation, .item = item };

	ck_assert_int_eq(namespace_apply(ns, &one), 0);
}

static void put_class(uint32_t id, const char *members, uint32_t weight, uint64_t operations, uint64_t bytes)
{
	ns_item item = { .kind = NS_CLASS };
	char name[16];

	sprintf(name, "class%u", id);
	item.ns_item_u.class_ = (ns_class){ .id = id,
					    .name = name,
					    .members = (char *)members,
					    .weight = weight,
					    .operations = operations,
					    .bytes = bytes };
	change(NS_PUT, item);
}

/* Volume 1 at /disk0, volume 2 at /disk01. */
static void start(void)
{
	ns_item items[] = { { .kind = NS_CLUSTER }, { .kind = NS_ENTRY },  { .kind = NS_ENTRY },
			    { .kind = NS_ENTRY },   { .kind = NS_VOLUME }, { .kind = NS_VOLUME } };
	ns_snapshot snapshot = { .revision = 1, .items = { .items_len = 6, .items_val = items } };
	char bytes[2048];
	XDR xdr;

	items[0].ns_item_u.cluster = (ns_cluster){ .name = "test", .vips = "" };
	items[1].ns_item_u.entry = (ns_entry){ .id = 1, .parent = 1, .name = "" };
	items[2].ns_item_u.entry = (ns_entry){ .id = 2, .parent = 1, .name = "disk0", .volume = 1 };
	items[3].ns_item_u.entry = (ns_entry){ .id = 3, .parent = 1, .name = "disk01", .volume = 2 };
	items[4].ns_item_u.volume = (ns_volume){ .id = 1, .uuid = "1", .node = 1, .path = "/a" };
	items[5].ns_item_u.volume = (ns_volume){ .id = 2, .uuid = "2", .node = 1, .path = "/b" };
	xdrmem_create(&xdr, bytes, sizeof(bytes), XDR_ENCODE);
	ck_assert(xdr_ns_snapshot(&xdr, &snapshot));
	ns = namespace_new();
	ck_assert_int_eq(namespace_load(ns, bytes, xdr_getpos(&xdr)), 0);
	memset(&meters, 0, sizeof(meters));
	priorities = priorities_new(ns, &meters);
	now = 1000000;
}

static void stop(void)
{
	priorities_free(priorities);
	namespace_free(ns);
}

static struct sockaddr_storage client(const char *text)
{
	struct sockaddr_storage address = { .ss_family = strchr(text, ':') ? AF_INET6 : AF_INET };
	void *to = address.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&address)->sin_addr :
						  (void *)&((struct sockaddr_in6 *)&address)->sin6_addr;

	ck_assert_int_eq(inet_pton(address.ss_family, text, to), 1);
	return address;
}

static struct priorities_place note(const char *from, uint32_t volume, uint32_t uid, uint64_t bytes)
{
	struct sockaddr_storage address = client(from);
	struct priorities_call call = { .client = &address, .volume = volume, .uid = uid, .bytes = bytes };

	return priorities_note(priorities, &call, now_us);
}

static const struct {
	const char *from;
	uint32_t volume, uid;
	uint8_t number; /* of its class */
} calls[] = {
	{ "10.0.0.1", 2, 1, 1 },    { "10.0.255.1", 2, 1, 1 }, { "10.1.0.1", 2, 1, 0 },	   { "fd00::1", 2, 1, 1 },
	{ "fe00::1", 2, 1, 0 },	    { "10.1.0.1", 2, 1000, 2 }, { "10.0.0.1", 2, 1000, 1 }, { "10.1.0.1", 1, 1, 2 },
	{ "10.1.0.1", 0, 1, 0 },    { "10.1.0.1", 9, 1, 0 },	{ "0.0.0.0", 2, 0, 0 },
};

START_TEST(the_first_class_counts)
{
	struct priorities_place place;

	put_class(3, "network=10.0.0.0/16 network=fd00::/8", 10, 0, 0);
	put_class(7, "user=1000 export=/disk0/", 1000, 0, 0);
	place = note(calls[_i].from, calls[_i].volume, calls[_i].uid, 0);
	ck_assert_msg(place.number == calls[_i].number, "%s volume %u uid %u: class %u", calls[_i].from, calls[_i].volume,
		      calls[_i].uid, place.number);
	ck_assert_uint_eq(place.weight, place.number == 1 ? 10 : place.number == 2 ? 1000 : PRIORITIES_WEIGHT);
	ck_assert_uint_eq(place.wait_ms, 0);
}
END_TEST

START_TEST(an_export_of_all)
{
	put_class(1, "export=/", 10, 0, 0);
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 0).number, 1);
	ck_assert_uint_eq(note("10.0.0.1", 2, 1, 0).number, 1);
}
END_TEST

START_TEST(a_change_counts_at_once)
{
	ns_item gone = { .kind = NS_CLASS, .ns_item_u.class_ = { .id = 1, .name = "", .members = "" } };

	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 0).number, 0);
	put_class(1, "user=1", 10, 0, 0);
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 0).weight, 10);
	put_class(1, "user=1", 20, 0, 0);
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 0).weight, 20);
	change(NS_DELETE, gone);
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 0).number, 0);
}
END_TEST

/* What a class has in a second, after a burst of a tenth; whatever is asked for. */
static unsigned int let_through(uint64_t bytes, unsigned int seconds)
{
	unsigned int count = 0;
	uint64_t end = now + seconds * 1000000ULL;

	for (; now < end; now += 1000)
		if (note("10.0.0.1", 1, 1, bytes).wait_ms == 0)
			count++;
	return count;
}

START_TEST(operations_are_limited)
{
	uint32_t last = 0;

	put_class(1, "user=1", 10, 100, 0);
	/* 10 at once, the others 10 ms apart; after 5 s of them nobody is kept. */
	for (int i = 0; i < 10; i++)
		ck_assert_uint_eq(note("10.0.0.1", 1, 1, 0).wait_ms, 0);
	for (int i = 0; i < 500; i++) {
		uint32_t wait_ms = note("10.0.0.1", 1, 1, 0).wait_ms;

		ck_assert_uint_le(wait_ms - last, 10);
		last = wait_ms;
	}
	ck_assert_uint_ge(last, 4900);
	for (int i = 0; i < 20; i++)
		last = note("10.0.0.1", 1, 1, 0).wait_ms;
	ck_assert_uint_eq(last, UINT32_MAX);
	/* Another's is not touched. */
	ck_assert_uint_eq(note("10.0.0.1", 1, 2, 0).wait_ms, 0);
	now += 6000000;
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 0).wait_ms, 0);
}
END_TEST

START_TEST(bytes_are_limited)
{
	put_class(1, "user=1", 10, 0, 1000000);
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 0).wait_ms, 0);
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 1000000).wait_ms, 0);
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 1000000).wait_ms, 900);
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 0).wait_ms, 0); /* moves none */
	ck_assert_uint_eq(note("10.0.0.1", 1, 1, 1).wait_ms, 1900);
}
END_TEST

START_TEST(who_has_waited_goes_on)
{
	struct sockaddr_storage address = client("10.0.0.1");
	struct priorities_call call = { .client = &address, .volume = 1, .uid = 1, .has_waited = true };

	put_class(1, "user=1", 10, 1, 0);
	for (int i = 0; i < 100; i++)
		ck_assert_uint_eq(priorities_note(priorities, &call, now_us).wait_ms, 0);
	ck_assert_uint_gt(let_through(0, 1), 0);
}
END_TEST

static const struct {
	const char *members;
	bool is_good;
} members[] = {
	{ "network=10.0.0.0/8", true },
	{ "network=fd00::1 user=0 export=/", true },
	{ "", false },
	{ "network=", false },
	{ "network=10.0.0.0/99", false },
	{ "network=host.lab", false },
	{ "user=", false },
	{ "user=anna", false },
	{ "user=-1", false },
	{ "user=4294967295", false },
	{ "export=disk0", false },
	{ "group=1", false },
	{ "10.0.0.0/8", false },
};

START_TEST(members_are_checked)
{
	char why[PRIORITIES_WHY_MAX] = "";

	ck_assert_msg(priorities_check(members[_i].members, why) == (members[_i].is_good ? 0 : -EINVAL), "%s",
		      members[_i].members);
	ck_assert_int_eq(why[0] == '\0', members[_i].is_good);
}
END_TEST

START_TEST(many_members_are_refused)
{
	char text[PRIORITIES_MEMBERS_MAX * 8 + 16] = "", why[PRIORITIES_WHY_MAX];

	for (int i = 0; i < PRIORITIES_MEMBERS_MAX; i++)
		strcat(text, "user=1 ");
	ck_assert_int_eq(priorities_check(text, why), 0);
	strcat(text, "user=1");
	ck_assert_int_eq(priorities_check(text, why), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("priorities");
	TCase *tcase = tcase_create("priorities");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_loop_test(tcase, the_first_class_counts, 0, sizeof(calls) / sizeof(calls[0]));
	tcase_add_test(tcase, an_export_of_all);
	tcase_add_test(tcase, a_change_counts_at_once);
	tcase_add_test(tcase, operations_are_limited);
	tcase_add_test(tcase, bytes_are_limited);
	tcase_add_test(tcase, who_has_waited_goes_on);
	tcase_add_loop_test(tcase, members_are_checked, 0, sizeof(members) / sizeof(members[0]));
	tcase_add_test(tcase, many_members_are_refused);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
