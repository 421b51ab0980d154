/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a slave serves by a name space that its master does not have, or asks for snapshots all the time.
 */
#include "config.h"

#include "common/replica.h"
#include "scp/backoff.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static struct namespace *ns;
static struct replica replica;
static uint8_t bytes[4096];

static void setup(void)
{
	ns = namespace_new();
	replica = (struct replica){ .ns = ns };
}

static void teardown(void)
{
	namespace_free(ns);
}

/* Return: the length of a snapshot in `bytes` */
static size_t snapshot_of(uint64_t revision)
{
	ns_item items[2] = { { .kind = NS_CLUSTER }, { .kind = NS_ENTRY } };
	ns_snapshot snapshot = { .revision = revision, .items = { 2, items } };
	XDR xdr;

	items[0].ns_item_u.cluster = (ns_cluster){ .id = 1, .name = "c", .vips = "" };
	items[1].ns_item_u.entry = (ns_entry){ .id = NAMESPACE_ROOT_ENTRY, .parent = NAMESPACE_ROOT_ENTRY, .name = "" };
	xdrmem_create(&xdr, (char *)bytes, sizeof(bytes), XDR_ENCODE);
	ck_assert(xdr_ns_snapshot(&xdr, &snapshot));
	return xdr_getpos(&xdr);
}

static enum replica_next take_snapshot(uint64_t revision)
{
	enum replica_next next = REPLICA_NOTHING;

	ck_assert_int_eq(replica_snapshot(&replica, bytes, snapshot_of(revision), &next), 0);
	ck_assert_uint_eq(namespace_revision(ns), revision);
	return next;
}

static enum replica_next take_change(uint64_t revision)
{
	ns_change change = { .revision = revision, .operation = NS_PUT, .item = { .kind = NS_EXPORT } };
	XDR xdr;

	change.item.ns_item_u.export_ = (ns_export){ .id = 1, .path = "/", .clients = "*(rw)" };
	xdrmem_create(&xdr, (char *)bytes, sizeof(bytes), XDR_ENCODE);
	ck_assert(xdr_ns_change(&xdr, &change));
	return replica_change(&replica, bytes, xdr_getpos(&xdr));
}

START_TEST(changes_follow_a_snapshot)
{
	replica_connected(&replica);
	ck_assert_int_eq(take_change(1), REPLICA_NOTHING); /* it would fit, but whose is it? */
	ck_assert_uint_eq(namespace_revision(ns), 0);
	ck_assert_int_eq(take_snapshot(5), REPLICA_CHANGED);
	ck_assert_int_eq(take_change(5), REPLICA_NOTHING);
	ck_assert_int_eq(take_change(6), REPLICA_CHANGED);
	ck_assert_int_eq(replica_beat(&replica, 6), REPLICA_NOTHING);
}
END_TEST

START_TEST(what_is_missing_is_asked_for_once)
{
	replica_connected(&replica);
	take_snapshot(5);
	ck_assert_int_eq(take_change(7), REPLICA_ASK);
	ck_assert_int_eq(take_change(6), REPLICA_NOTHING); /* no change counts until it has come */
	ck_assert_int_eq(take_change(8), REPLICA_NOTHING);
	ck_assert_int_eq(replica_beat(&replica, 8), REPLICA_NOTHING);
	ck_assert_int_eq(take_snapshot(8), REPLICA_CHANGED);
	ck_assert_int_eq(replica_beat(&replica, 8), REPLICA_NOTHING);
}
END_TEST

/* The last change of all may be the one that is lost. */
START_TEST(a_beat_tells_of_a_lost_change)
{
	replica_connected(&replica);
	take_snapshot(5);
	ck_assert_int_eq(replica_beat(&replica, 6), REPLICA_ASK);
	for (int i = 1; i < REPLICA_PATIENCE_BEATS; i++)
		ck_assert_int_eq(replica_beat(&replica, 6), REPLICA_NOTHING);
	ck_assert_int_eq(replica_beat(&replica, 6), REPLICA_ASK); /* the question was lost, too */
}
END_TEST

START_TEST(a_new_session_begins_anew)
{
	replica_connected(&replica);
	take_snapshot(9);
	replica_connected(&replica);
	ck_assert_int_eq(take_change(10), REPLICA_NOTHING);
	ck_assert_int_eq(take_snapshot(4), REPLICA_CHANGED); /* a master that was restored */
}
END_TEST

START_TEST(what_can_not_be_read_changes_nothing)
{
	enum replica_next next = REPLICA_NOTHING;

	replica_connected(&replica);
	take_snapshot(5);
	ck_assert_int_eq(replica_snapshot(&replica, "rubbish", 7, &next), -EBADMSG);
	ck_assert_int_eq(replica_change(&replica, "rubbish", 7), REPLICA_ASK);
	ck_assert_uint_eq(namespace_revision(ns), 5);
}
END_TEST

/* At once, then ever later, never by the same step as others, and never later than the maximum. */
START_TEST(tries_come_later_and_later)
{
	static const unsigned int most_ms[] = { 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000 };

	for (uint32_t random = 0; random < 10000; random += 7) {
		unsigned int backoff_ms = 0;

		for (size_t i = 0; i < sizeof(most_ms) / sizeof(most_ms[0]); i++) {
			unsigned int wait_ms = backoff_next(&backoff_ms, random * 2654435761u);

			ck_assert_uint_le(wait_ms, most_ms[i]);
			ck_assert_uint_ge(wait_ms, most_ms[i] / 2);
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("replica");
	TCase *tcase = tcase_create("replica");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, changes_follow_a_snapshot);
	tcase_add_test(tcase, what_is_missing_is_asked_for_once);
	tcase_add_test(tcase, a_beat_tells_of_a_lost_change);
	tcase_add_test(tcase, a_new_session_begins_anew);
	tcase_add_test(tcase, what_can_not_be_read_changes_nothing);
	tcase_add_test(tcase, tries_come_later_and_later);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
