/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, the switch believes that a client's session is where it is not: packets go to a device that knows nothing
 * of the connection, and the client is cut off.
 */
#include "config.h"

#include "master/sessions.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { A = 2, B = 3, C = 4, REPORTS_WITHOUT_MAX = 5 };

static struct sessions *sessions;

static void setup(void)
{
	sessions = sessions_new();
}

static void teardown(void)
{
	sessions_free(sessions);
}

/* The flow of the client with this port. */
static struct flow_key flow(uint16_t port)
{
	struct flow_key key = { .client_port = htons(port), .vip_port = htons(2049), .protocol = IPPROTO_TCP };

	inet_pton(AF_INET6, "::ffff:10.0.0.2", key.client);
	inet_pton(AF_INET6, "::ffff:10.0.0.1", key.vip);
	return key;
}

struct said {
	uint16_t port;
	uint64_t id;
	uint32_t handoffs;
};

/* A device says that it has these sessions, and no others. */
static void report(uint32_t node, size_t count, const struct said *said)
{
	scp_sessions message = { 0 };

	message.sessions.sessions_val = calloc(count + 1, sizeof(scp_session));
	message.sessions.sessions_len = (u_int)count;
	for (size_t i = 0; i < count; i++) {
		scp_session *session = &message.sessions.sessions_val[i];
		struct flow_key key = flow(said[i].port);

		session->id = said[i].id;
		session->handoffs = said[i].handoffs;
		session->since_ns = 1000 * said[i].id; /* the younger, the higher its id */
		session->flow = (scp_flow){ .client_port = said[i].port, .vip_port = 2049, .protocol = IPPROTO_TCP };
		memcpy(session->flow.client, key.client, 16);
		memcpy(session->flow.vip, key.vip, 16);
		session->shares.shares_val = calloc(1, sizeof(scp_volume_share));
		session->shares.shares_len = 1;
	}
	ck_assert_int_eq(sessions_report(sessions, node, &message), 0);
	xdr_free((xdrproc_t)xdr_scp_sessions, (char *)&message); /* what was taken must not be freed twice */
}

#define REPORT(node, ...)                                                     \
	report(node, sizeof((struct said[]){ __VA_ARGS__ }) / sizeof(struct said), (struct said[]){ __VA_ARGS__ })

static int moved(uint16_t port, uint32_t node, uint16_t transaction)
{
	struct flow_key key = flow(port);

	return sessions_moved(sessions, &key, node, transaction);
}

struct search {
	struct flow_key key;
	uint32_t node;
	size_t count;
};

static void on_entry(const struct session_entry *entry, void *arg)
{
	struct search *search = arg;

	search->count++;
	if (memcmp(&entry->flow, &search->key, sizeof(entry->flow)) == 0)
		search->node = entry->node;
}

/* The device that has the client's session; 0: unknown. */
static uint32_t node_of(uint16_t port)
{
	struct search search = { .key = flow(port) };

	sessions_visit(sessions, on_entry, &search);
	if (search.node) {
		ck_assert(sessions_is_with(sessions, &search.key, search.node));
		ck_assert(!sessions_is_with(sessions, &search.key, search.node + 1));
	}
	return search.node;
}

static size_t count(void)
{
	struct search search = { 0 };

	sessions_visit(sessions, on_entry, &search);
	return search.count;
}

START_TEST(a_report_replaces_the_last)
{
	const struct session_entry *entry;

	REPORT(A, { 801, 1, 0 }, { 802, 2, 0 });
	REPORT(B, { 803, 3, 7 });
	ck_assert_uint_eq(count(), 3);
	ck_assert_uint_eq(node_of(802), A);
	entry = sessions_find(sessions, 3);
	ck_assert_uint_eq(entry->node, B);
	ck_assert_uint_eq(entry->info.handoffs, 7);
	ck_assert_uint_eq(entry->info.shares.shares_len, 1);
	REPORT(A, { 802, 2, 0 });
	ck_assert_ptr_null(sessions_find(sessions, 1));
	ck_assert_uint_eq(node_of(801), 0);
	ck_assert_uint_eq(node_of(803), B); /* B was not asked */
	report(A, 0, NULL);
	ck_assert_uint_eq(count(), 1);
}
END_TEST

START_TEST(a_handoff_moves_it_at_once)
{
	REPORT(A, { 801, 1, 0 });
	ck_assert_int_eq(moved(801, B, 1), 0);
	ck_assert_uint_eq(node_of(801), B);
	ck_assert_uint_eq(sessions_find(sessions, 1)->node, B);
	ck_assert_uint_eq(sessions_find(sessions, 1)->info.handoffs, 1);
	/* The answer was lost and it is asked again. */
	ck_assert_int_eq(moved(801, B, 1), 0);
	/* On to C; a late repetition of the first handoff changes nothing. */
	ck_assert_int_eq(moved(801, C, 2), 0);
	ck_assert_int_eq(moved(801, B, 1), -ESTALE);
	ck_assert_uint_eq(node_of(801), C);
}
END_TEST

/* The device that gave it away had written its report before. */
START_TEST(an_old_report_does_not_undo_a_handoff)
{
	REPORT(A, { 801, 1, 0 });
	moved(801, B, 1);
	REPORT(A, { 801, 1, 0 });
	ck_assert_uint_eq(node_of(801), B);
	REPORT(A, { 802, 2, 0 });
	ck_assert_uint_eq(node_of(801), B);
}
END_TEST

/* The same, when the switch had heard nothing of the session before the handoff: it was restarted. */
START_TEST(an_old_report_does_not_undo_a_handoff_of_an_unknown_session)
{
	moved(801, B, 5);
	ck_assert_uint_eq(node_of(801), B);
	REPORT(A, { 801, 1, 4 });
	ck_assert_uint_eq(node_of(801), B);
	REPORT(B, { 801, 1, 5 });
	ck_assert_uint_eq(node_of(801), B);
	ck_assert_uint_eq(sessions_find(sessions, 1)->node, B);
}
END_TEST

/* The new owner's word comes before the switch was told. */
START_TEST(a_newer_report_moves_it)
{
	REPORT(A, { 801, 1, 0 });
	REPORT(B, { 801, 1, 1 });
	ck_assert_uint_eq(node_of(801), B);
	REPORT(A, { 801, 1, 0 });
	ck_assert_uint_eq(node_of(801), B);
	ck_assert_int_eq(moved(801, B, 1), 0);
	ck_assert_uint_eq(count(), 1);
}
END_TEST

/* The new owner may report several times without the session: its reports were on their way. Not for ever. */
/* Whoever says so first, and however often. */
START_TEST(each_handoff_is_counted_once)
{
	REPORT(A, { 801, 1, 3 }, { 802, 2, 0 });
	ck_assert_uint_eq(sessions_moves(sessions), 0); /* they were before our time */
	moved(801, B, 4);
	moved(801, B, 4);
	ck_assert_uint_eq(sessions_moves(sessions), 1);
	REPORT(B, { 801, 1, 4 });
	ck_assert_uint_eq(sessions_moves(sessions), 1);
	REPORT(C, { 801, 1, 6 });
	moved(801, A, 5); /* too late */
	ck_assert_uint_eq(sessions_moves(sessions), 3);
	moved(803, B, 9); /* one that nobody has reported */
	moved(803, B, 9);
	ck_assert_uint_eq(sessions_moves(sessions), 4);
}
END_TEST

START_TEST(a_moved_session_is_waited_for)
{
	REPORT(A, { 801, 1, 0 });
	moved(801, B, 1);
	for (int i = 0; i < REPORTS_WITHOUT_MAX; i++) {
		REPORT(B, { 900, 9, 0 });
		ck_assert_uint_eq(node_of(801), B);
	}
	REPORT(B, { 900, 9, 0 });
	ck_assert_uint_eq(node_of(801), 0);
}
END_TEST

START_TEST(once_reported_it_is_not_waited_for)
{
	REPORT(A, { 801, 1, 0 });
	moved(801, B, 1);
	REPORT(B, { 801, 1, 1 });
	report(B, 0, NULL);
	ck_assert_uint_eq(node_of(801), 0);
}
END_TEST

/* The wire has 16 bits of the count: a session that moves all day goes round. */
START_TEST(the_count_goes_round)
{
	uint32_t handoffs = 65533;

	REPORT(A, { 801, 1, handoffs });
	for (int i = 0; i < 10; i++) {
		uint32_t node = i % 2 ? A : B;

		handoffs++;
		ck_assert_int_eq(moved(801, node, (uint16_t)handoffs), 0);
		ck_assert_uint_eq(node_of(801), node);
		ck_assert_uint_eq(sessions_find(sessions, 1)->info.handoffs, handoffs);
		ck_assert_int_eq(moved(801, C, (uint16_t)(handoffs - 1)), -ESTALE);
	}
	REPORT(C, { 801, 1, 65533 });
	ck_assert_uint_eq(node_of(801), A);
	REPORT(C, { 801, 1, handoffs + 1 });
	ck_assert_uint_eq(node_of(801), C);
}
END_TEST

/* A client uses its port again: the new session's counts start at 0. */
START_TEST(a_flow_starts_anew)
{
	struct flow_key key = flow(801);

	REPORT(A, { 801, 1, 50 });
	sessions_forget(sessions, &key);
	sessions_forget(sessions, &key);
	ck_assert_uint_eq(count(), 0);
	ck_assert_int_eq(moved(801, B, 1), 0);
	ck_assert_uint_eq(node_of(801), B);
	/* And without the switch having seen the start: another session of that flow is another one. */
	REPORT(A, { 802, 2, 50 });
	REPORT(B, { 802, 3, 0 });
	ck_assert_uint_eq(node_of(802), B);
	ck_assert_ptr_null(sessions_find(sessions, 2));
}
END_TEST

START_TEST(a_session_of_a_client_that_crashed_is_outdated)
{
	struct flow_key key = flow(801), other = flow(802);

	REPORT(A, { 801, 1, 7 });
	REPORT(B, { 801, 2, 1 });
	ck_assert_uint_eq(sessions_holder(sessions, &key), B);
	REPORT(A, { 801, 1, 7 });
	ck_assert_uint_eq(sessions_holder(sessions, &key), B);
	ck_assert_uint_eq(sessions_find(sessions, 2)->info.handoffs, 1);
	ck_assert(!sessions_is_late(sessions, &key, 2));
	ck_assert_uint_eq(sessions_holder(sessions, &other), 0);
}
END_TEST

START_TEST(a_device_is_gone)
{
	REPORT(A, { 801, 1, 0 }, { 802, 2, 0 });
	REPORT(B, { 803, 3, 0 });
	moved(801, B, 1);
	ck_assert(sessions_any_with(sessions, A));
	sessions_forget_node(sessions, A);
	ck_assert(!sessions_any_with(sessions, A) && sessions_any_with(sessions, B));
	ck_assert_uint_eq(node_of(801), B);
	ck_assert_uint_eq(node_of(802), 0);
	ck_assert_uint_eq(node_of(803), B);
}
END_TEST

START_TEST(many_sessions)
{
	struct said *said = calloc(20000, sizeof(*said));

	for (size_t i = 0; i < 20000; i++)
		said[i] = (struct said){ .port = (uint16_t)(i + 1000), .id = i + 1 };
	report(A, 20000, said);
	ck_assert_uint_eq(count(), 20000);
	ck_assert_uint_eq(node_of(12345), A);
	report(A, 10000, said);
	ck_assert_uint_eq(count(), 10000);
	free(said);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sessions");
	TCase *tcase = tcase_create("sessions");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_report_replaces_the_last);
	tcase_add_test(tcase, a_handoff_moves_it_at_once);
	tcase_add_test(tcase, an_old_report_does_not_undo_a_handoff);
	tcase_add_test(tcase, an_old_report_does_not_undo_a_handoff_of_an_unknown_session);
	tcase_add_test(tcase, a_newer_report_moves_it);
	tcase_add_test(tcase, each_handoff_is_counted_once);
	tcase_add_test(tcase, a_moved_session_is_waited_for);
	tcase_add_test(tcase, once_reported_it_is_not_waited_for);
	tcase_add_test(tcase, the_count_goes_round);
	tcase_add_test(tcase, a_flow_starts_anew);
	tcase_add_test(tcase, a_session_of_a_client_that_crashed_is_outdated);
	tcase_add_test(tcase, a_device_is_gone);
	tcase_add_test(tcase, many_sessions);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
