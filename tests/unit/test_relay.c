/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client is told JUKEBOX, and waits for 5 s, because its call came a moment too early or too late; or it
 * is never answered.
 *
 * The sessions between devices are fakes, so that they come and go between any two steps (tests/unit/test_scp.c has the
 * real ones). The calls are of a program that nobody knows: what is not reached is then answered SYSTEM_ERR.
 */
#include "config.h"

#include "slave/relay.h"

#include "common/file_service.h"

#include <arpa/inet.h>
#include <check.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

enum { OWNER = 2, PROGRAM = 400000, MKDIR = 9, GETACL = 1 };

struct scp {
	bool is_up[SCP_RELAY + 1];
	unsigned int sent;
	uint32_t request; /* the last one */
};

static const uint8_t record[40] = "a call", answer[24] = "its answer";
static struct event_base *base;
static struct scp scp;
static struct relay *relay;
static unsigned int answers;
static uint8_t *reply; /* the last one; NULL: none */

bool scp_is_up(const struct scp *s, uint32_t node, scp_channel channel)
{
	return node == OWNER && s->is_up[channel];
}

int scp_send(struct scp *s, uint32_t node, scp_channel channel, uint32_t request, const scp_message *message)
{
	ck_assert(scp_is_up(s, node, channel));
	ck_assert_int_eq(message->type, SCP_RELAY_CALL);
	ck_assert_mem_eq(message->scp_message_u.relay_call.record.record_val, record, sizeof(record));
	s->sent++;
	s->request = request;
	return 0;
}

uint32_t scp_next_request(struct scp *s __attribute__((unused)))
{
	static uint32_t next;

	return ++next;
}

static void on_answer(struct rpc_call *call)
{
	answers++;
	free(reply);
	reply = call->reply;
	call->reply = NULL;
	rpc_call_fini(call);
	free(call);
}

static void setup(void)
{
	static struct rpc_server no_programs;

	base = event_base_new();
	scp = (struct scp){ .is_up = { [SCP_CONTROL] = true } };
	relay = relay_new(base, &no_programs);
	relay_set_scp(relay, &scp);
	answers = 0;
}

static void teardown(void)
{
	relay_free(relay);
	event_base_free(base);
	free(reply);
	reply = NULL;
}

static struct rpc_call *new_call(void)
{
	struct rpc_call *call = calloc(1, sizeof(*call));
	struct sockaddr_in *client = (struct sockaddr_in *)&call->client, *server = (struct sockaddr_in *)&call->server;

	*client = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(700), .sin_addr.s_addr = htonl(1) };
	*server = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(2049), .sin_addr.s_addr = htonl(2) };
	call->record = record;
	call->record_len = sizeof(record);
	call->program = PROGRAM;
	call->done = on_answer;
	return call;
}

static void make_call(void)
{
	relay_call(relay, OWNER, new_call());
}

/* One that must not run twice, over a connection that is new. */
static void repeat_mkdir(void)
{
	struct rpc_call *call = new_call();

	call->program = NFS_PROGRAM;
	call->version = 3;
	call->procedure = MKDIR;
	call->may_be_repeated = true;
	relay_call(relay, OWNER, call);
}

static void ask_for_acl(void)
{
	struct rpc_call *call = new_call();

	call->program = NFS_ACL_PROGRAM;
	call->version = 3;
	call->procedure = GETACL;
	relay_call(relay, OWNER, call);
}

static void session_comes(void)
{
	scp.is_up[SCP_RELAY] = true;
	relay_node_found(relay);
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static void session_goes(void)
{
	scp.is_up[SCP_RELAY] = false;
	relay_node_lost(relay, OWNER);
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static void owner_answers(void)
{
	scp_message message = { .type = SCP_RELAY_REPLY };

	message.scp_message_u.relay_reply.record.record_val = (char *)answer;
	message.scp_message_u.relay_reply.record.record_len = sizeof(answer);
	relay_received(relay, OWNER, scp.request, &message);
}

static void check_answered(void)
{
	ck_assert_uint_eq(answers, 1);
	ck_assert_mem_eq(reply + RPC_REPLY_HEADROOM, answer, sizeof(answer));
}

static void check_unreachable(void)
{
	ck_assert_uint_eq(answers, 1);
	ck_assert_ptr_nonnull(reply);
	ck_assert_mem_ne(reply + RPC_REPLY_HEADROOM, answer, sizeof(answer));
}

START_TEST(a_call_is_carried_and_its_answer_comes_back)
{
	session_comes();
	make_call();
	ck_assert_uint_eq(scp.sent, 1);
	owner_answers();
	check_answered();
	owner_answers(); /* again: ignored */
	ck_assert_uint_eq(answers, 1);
}
END_TEST

START_TEST(a_call_waits_for_the_relay_session_of_a_device_that_is_there)
{
	make_call();
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(scp.sent + answers, 0);
	session_comes();
	ck_assert_uint_eq(scp.sent, 1);
	owner_answers();
	check_answered();
}
END_TEST

START_TEST(a_call_waits_for_that_session_no_longer_than_it_says)
{
	make_call();
	for (int i = 0; i < 2 * RELAY_CONNECT_MS / 1000 && !answers; i++)
		event_base_loop(base, EVLOOP_ONCE);
	check_unreachable();
	session_comes();
	ck_assert_uint_eq(scp.sent, 0);
}
END_TEST

START_TEST(a_device_that_is_away_is_not_waited_for)
{
	scp.is_up[SCP_CONTROL] = false;
	make_call();
	check_unreachable();
}
END_TEST

START_TEST(a_call_whose_session_is_lost_is_answered)
{
	session_comes();
	make_call();
	session_goes();
	check_unreachable();
	owner_answers(); /* too late */
	ck_assert_uint_eq(answers, 1);
}
END_TEST

START_TEST(a_call_is_answered_when_the_relay_ends)
{
	session_comes();
	make_call();
	relay_free(relay);
	relay = NULL;
	check_unreachable();
}
END_TEST

/* Another device may have sent it, and the owner run it: with another xid it would be run again. */
START_TEST(a_repeated_change_waits_for_a_device_that_is_away)
{
	scp.is_up[SCP_CONTROL] = false;
	repeat_mkdir();
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(scp.sent + answers, 0);
	session_comes();
	ck_assert_uint_eq(scp.sent, 1);
	owner_answers();
	check_answered();
}
END_TEST

START_TEST(a_repeated_change_that_can_not_wait_is_not_answered)
{
	repeat_mkdir();
	relay_free(relay);
	relay = NULL;
	ck_assert_uint_eq(answers, 1);
	ck_assert_ptr_null(reply);
}
END_TEST

/* A client that is told JUKEBOX by NFSACL tells its program of an error. */
START_TEST(an_acl_waits_for_a_device_that_is_away)
{
	scp.is_up[SCP_CONTROL] = false;
	ask_for_acl();
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(scp.sent + answers, 0);
	session_comes();
	ck_assert_uint_eq(scp.sent, 1);
	session_goes();
	ck_assert_uint_eq(answers, 0);
	session_comes();
	ck_assert_uint_eq(scp.sent, 2);
	owner_answers();
	check_answered();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("relay");
	TCase *tcase = tcase_create("calls");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, a_call_is_carried_and_its_answer_comes_back);
	tcase_add_test(tcase, a_call_waits_for_the_relay_session_of_a_device_that_is_there);
	tcase_add_test(tcase, a_call_waits_for_that_session_no_longer_than_it_says);
	tcase_add_test(tcase, a_device_that_is_away_is_not_waited_for);
	tcase_add_test(tcase, a_call_whose_session_is_lost_is_answered);
	tcase_add_test(tcase, a_call_is_answered_when_the_relay_ends);
	tcase_add_test(tcase, a_repeated_change_waits_for_a_device_that_is_away);
	tcase_add_test(tcase, a_repeated_change_that_can_not_wait_is_not_answered);
	tcase_add_test(tcase, an_acl_waits_for_a_device_that_is_away);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
