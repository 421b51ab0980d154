/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a moved connection is restored with another's addresses or wrong sequence numbers, devices of different
 * versions do not understand each other's handoffs, or a damaged message is taken for a good one.
 */
#include "config.h"

#include "common/tch.h"
#include "tests/unit/golden_hex.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

static struct kernel_helper_state sample_state(const char *client, const char *vip)
{
	struct kernel_helper_state state = {
		.flow = { .client_port = htons(801), .vip_port = htons(2049), .protocol = IPPROTO_TCP },
		.fixed = { .mss_clamp = 1460, .send_wscale = 7, .receive_wscale = 8, .has_wscale = true, .has_sack = true,
			   .has_timestamps = true },
		.send_unacknowledged = 0x11121314,
		.receive_next = 0x21222324,
		.timestamp = 0x31323334,
		.window_snd_wl1 = 0x41424344,
		.window_snd_wnd = 0x51525354,
		.window_max_window = 0x61626364,
		.window_rcv_wnd = 0x71727374,
		.window_rcv_wup = 0x81828384,
		.receive_buffer = 0x91929394,
		.send_buffer = 0xa1a2a3a4,
		.congestion_window = 0xb1b2b3b4,
	};

	ck_assert_int_eq(inet_pton(AF_INET6, client, state.flow.client), 1);
	ck_assert_int_eq(inet_pton(AF_INET6, vip, state.flow.vip), 1);
	return state;
}

static struct conn_facts sample_facts(void)
{
	return (struct conn_facts){
		.session = 0x0000000700000003,
		.since_ns = 0x0102030405060708,
		.requests = 99,
		.handoffs = 4,
		.share_count = 2,
		.shares = { { .volume = 0, .bytes = 0, .requests = 9 }, { .volume = 5, .bytes = 1 << 20, .requests = 90 } },
	};
}

/* By their encodings: structs have padding. Decoding is checked by this because encoding is, by golden bytes. */
static void expect_same(const struct kernel_helper_state *state, const struct conn_facts *facts,
			const struct kernel_helper_state *wanted_state, const struct conn_facts *wanted_facts)
{
	uint8_t bytes[TCH_OPTIONS_MAX], wanted[TCH_OPTIONS_MAX];
	int len = tch_options_encode(state, facts, bytes);

	ck_assert_int_gt(len, 0);
	ck_assert_int_eq(len, tch_options_encode(wanted_state, wanted_facts, wanted));
	ck_assert_mem_eq(bytes, wanted, len);
	ck_assert_mem_eq(&state->flow, &wanted_state->flow, sizeof(state->flow));
	/* What options do not carry is empty. */
	ck_assert(!state->sent && !state->unsent && !state->received && !facts->last_handoff_us);
}

static const struct {
	const char *golden, *client, *vip;
} families[] = {
	{ "tch_options_ipv4", "::ffff:10.0.0.2", "::ffff:10.0.0.1" },
	{ "tch_options_ipv6", "fd00::2", "fd00::1" },
};

START_TEST(bytes_are_golden_and_read_back)
{
	struct kernel_helper_state state = sample_state(families[_i].client, families[_i].vip), state_back;
	struct conn_facts facts = sample_facts(), facts_back;
	uint8_t bytes[TCH_OPTIONS_MAX];
	int len = tch_options_encode(&state, &facts, bytes);

	ck_assert_int_gt(len, 0);
	golden_hex_check(families[_i].golden, bytes, (size_t)len);
	memset(&state_back, 0xff, sizeof(state_back));
	memset(&facts_back, 0xff, sizeof(facts_back));
	ck_assert_int_eq(tch_options_decode(bytes, (size_t)len, &state_back, &facts_back), 0);
	expect_same(&state_back, &facts_back, &state, &facts);
}
END_TEST

/* Fig. 4B, boxes 470-474 and 480-484: kind, length, port, address; two NOPs, kind, length, SEQ, ACK, 32-bit aligned. */
START_TEST(layout_of_figure_4b)
{
	static const uint8_t endpoint[] = { 255, 8, 0x03, 0x21, 10, 0, 0, 2 };
	static const uint8_t update[] = { 1, 1, 254, 10, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24 };
	struct kernel_helper_state state = sample_state("::ffff:10.0.0.2", "::ffff:10.0.0.1");
	struct conn_facts facts = sample_facts();
	uint8_t bytes[TCH_OPTIONS_MAX], *at;
	int len = tch_options_encode(&state, &facts, bytes);

	ck_assert_mem_eq(bytes, endpoint, sizeof(endpoint));
	at = memmem(bytes, (size_t)len, update, sizeof(update));
	ck_assert_ptr_nonnull(at);
	ck_assert_int_eq((at - bytes) % 4, 0);
}
END_TEST

/* What a connection did not negotiate must not be there after it moved. */
START_TEST(each_capability_alone)
{
	struct kernel_helper_state state = sample_state("fd00::2", "fd00::1"), back;
	struct conn_facts facts = sample_facts(), facts_back;
	uint8_t bytes[TCH_OPTIONS_MAX];
	int len;

	state.fixed = (struct kernel_helper_static){ .mss_clamp = 536 };
	state.fixed.has_wscale = _i == 1;
	state.fixed.has_sack = _i == 2;
	state.fixed.has_timestamps = _i == 3;
	facts.share_count = 0;
	len = tch_options_encode(&state, &facts, bytes);
	ck_assert_int_eq(tch_options_decode(bytes, (size_t)len, &back, &facts_back), 0);
	expect_same(&back, &facts_back, &state, &facts);
	ck_assert_int_eq(back.fixed.has_wscale, _i == 1);
	ck_assert_int_eq(back.fixed.has_sack, _i == 2);
	ck_assert_int_eq(back.fixed.has_timestamps, _i == 3);
}
END_TEST

START_TEST(all_shares_fit)
{
	struct kernel_helper_state state = sample_state("fd00::2", "fd00::1"), back;
	uint8_t bytes[TCH_OPTIONS_MAX + 22] = { 0 };
	struct conn_facts facts = sample_facts(), facts_back;
	int len;

	facts.share_count = CONN_SHARES_MAX;
	for (size_t i = 0; i < CONN_SHARES_MAX; i++)
		facts.shares[i] = (struct conn_share){ .volume = (uint32_t)i, .bytes = UINT64_MAX - i, .requests = i };
	len = tch_options_encode(&state, &facts, bytes);
	ck_assert_int_gt(len, 0);
	ck_assert_int_eq(tch_options_decode(bytes, (size_t)len, &back, &facts_back), 0);
	expect_same(&back, &facts_back, &state, &facts);
	/* One more share than we count is no reason to refuse the connection. */
	memcpy(bytes + len - 1, (uint8_t[]){ 246, 22, 0, 0, 0, 99 }, 6);
	ck_assert_int_eq(tch_options_decode(bytes, (size_t)len - 1 + 22, &back, &facts_back), 0);
	expect_same(&back, &facts_back, &state, &facts);
}
END_TEST

#define ENDPOINT 255, 8, 0x03, 0x21, 10, 0, 0, 2
#define VIRTUAL 251, 8, 0x08, 0x01, 10, 0, 0, 1
#define UPDATE 254, 10, 0, 0, 0, 1, 0, 0, 0, 2
#define ADDRESS6 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
#define ENDPOINT6 253, 20, 0x03, 0x21, ADDRESS6, 2
#define VIRTUAL6 252, 20, 0x08, 0x01, ADDRESS6, 1

/* The shortest that is enough. */
static const uint8_t least[] = { ENDPOINT, VIRTUAL, UPDATE };

static const struct {
	const char *what;
	int rc;
	size_t len;
	uint8_t bytes[80];
} cases[] = {
#define OPTIONS(...) sizeof((uint8_t[]){ __VA_ARGS__ }), { __VA_ARGS__ }
	{ "the shortest", 0, OPTIONS(ENDPOINT, VIRTUAL, UPDATE) },
	{ "another order", 0, OPTIONS(UPDATE, VIRTUAL, ENDPOINT) },
	{ "no-operations", 0, OPTIONS(1, 1, ENDPOINT, 1, VIRTUAL, 1, 1, UPDATE, 1) },
	{ "after the end anything", 0, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 0, 99, 99, 99) },
	{ "an unknown option", 0, OPTIONS(ENDPOINT, 77, 5, 1, 2, 3, VIRTUAL, UPDATE) },
	{ "an unknown option without a value", 0, OPTIONS(77, 2, ENDPOINT, VIRTUAL, UPDATE) },
	{ "the first of a kind counts", 0,
	  OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 255, 8, 9, 9, 9, 9, 9, 9, 254, 10, 9, 9, 9, 9, 9, 9, 9, 9) },
	{ "nothing", -ENOENT, 0, { 0 } },
	{ "only an end", -ENOENT, OPTIONS(0) },
	{ "no endpoint", -ENOENT, OPTIONS(VIRTUAL, UPDATE) },
	{ "no virtual endpoint", -ENOENT, OPTIONS(ENDPOINT, UPDATE) },
	{ "no update", -ENOENT, OPTIONS(ENDPOINT, VIRTUAL) },
	{ "the update is behind the end", -ENOENT, OPTIONS(ENDPOINT, VIRTUAL, 0, UPDATE) },
	{ "length 0", -EBADMSG, OPTIONS(77, 0, ENDPOINT, VIRTUAL, UPDATE) },
	{ "length 1", -EBADMSG, OPTIONS(77, 1, ENDPOINT, VIRTUAL, UPDATE) },
	{ "runs past the end", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 77, 3) },
	{ "a kind without a length", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 77) },
	{ "an endpoint too short", -EBADMSG, OPTIONS(255, 7, 3, 0x21, 10, 0, 0, VIRTUAL, UPDATE) },
	{ "an endpoint too long", -EBADMSG, OPTIONS(255, 9, 3, 0x21, 10, 0, 0, 2, 0, VIRTUAL, UPDATE) },
	{ "an update too short", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, 254, 6, 0, 0, 0, 1) },
	{ "a value where none belongs", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 4, 3, 1) },
	{ "the largest window scale", 0, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 3, 4, 14, 14) },
	{ "a window scale beyond RFC 7323", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 3, 4, 15, 0) },
	{ "the client's IPv6, the VIP's IPv4", -EBADMSG, OPTIONS(ENDPOINT6, VIRTUAL, UPDATE) },
	{ "the client's IPv4, the VIP's IPv6", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL6, UPDATE) },
};

START_TEST(what_is_accepted)
{
	struct kernel_helper_state state, before;
	struct conn_facts facts, facts_before;

	memset(&state, 0x5a, sizeof(state));
	memset(&facts, 0x5a, sizeof(facts));
	memcpy(&before, &state, sizeof(before));
	memcpy(&facts_before, &facts, sizeof(facts_before));
	ck_assert_msg(tch_options_decode(cases[_i].bytes, cases[_i].len, &state, &facts) == cases[_i].rc, "%s",
		      cases[_i].what);
	if (cases[_i].rc < 0) {
		ck_assert_mem_eq(&state, &before, sizeof(state));
		ck_assert_mem_eq(&facts, &facts_before, sizeof(facts));
		return;
	}
	ck_assert_uint_eq(ntohs(state.flow.client_port), 801);
	ck_assert_uint_eq(ntohs(state.flow.vip_port), 2049);
	ck_assert_uint_eq(state.flow.client[15], 2);
	ck_assert_uint_eq(state.flow.vip[15], 1);
	ck_assert_uint_eq(state.send_unacknowledged, 1);
	ck_assert_uint_eq(state.receive_next, 2);
	ck_assert_uint_eq(state.flow.protocol, IPPROTO_TCP);
}
END_TEST

/* A message that was cut short is never taken for a whole one. */
START_TEST(every_cut)
{
	struct kernel_helper_state state;
	struct conn_facts facts;

	for (size_t len = 0; len < sizeof(least); len++) {
		int rc = tch_options_decode(least, len, &state, &facts);

		/* Between options it looks complete, but one is missing. */
		ck_assert_int_eq(rc, len == 0 || len == 8 || len == 16 ? -ENOENT : -EBADMSG);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tch_options");
	TCase *tcase = tcase_create("tch_options");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, bytes_are_golden_and_read_back, 0, sizeof(families) / sizeof(families[0]));
	tcase_add_test(tcase, layout_of_figure_4b);
	tcase_add_loop_test(tcase, each_capability_alone, 0, 4);
	tcase_add_test(tcase, all_shares_fit);
	tcase_add_loop_test(tcase, what_is_accepted, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tcase, every_cut);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
