/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a moved connection is restored with another's addresses or wrong sequence numbers, devices of different
 * versions do not understand each other's handoffs, or a damaged message is taken for a good one.
 */
#include "config.h"

#include "common/bytes.h"
#include "common/tch_options.h"
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
		.timers = { 0xc1c2c3c4, 0xd1d2d3d4, 0xe1e2e3e4, 0xf1f2f3f4 },
		.statistics = { 1, 2, 3, 4, 5 },
	};

	ck_assert_int_eq(inet_pton(AF_INET6, client, state.flow.client), 1);
	ck_assert_int_eq(inet_pton(AF_INET6, vip, state.flow.vip), 1);
	return state;
}

static void put_share(struct tch_items *items, uint32_t volume, uint64_t bytes, uint64_t requests)
{
	uint8_t share[20];
	struct bytes_writer w = bytes_writer_init(share, sizeof(share));

	bytes_put_be32(&w, volume);
	bytes_put_be64(&w, bytes);
	bytes_put_be64(&w, requests);
	ck_assert_int_eq(tch_items_put(items, TCH_ITEM_SHARE, NULL, share, sizeof(share)), 0);
}

static struct tch_facts sample_facts(void)
{
	struct tch_facts facts = {
		.session = 0x0000000700000003,
		.since_ns = 0x0102030405060708,
		.requests = 99,
		.handoffs = 4,
		.statistics = { 0x0a00, 0x0b00, 0x0c00, UINT64_C(0xd00000000), UINT64_C(0xe00000000) },
	};

	put_share(&facts.items, 0, 0, 9);
	put_share(&facts.items, 5, 1 << 20, 90);
	return facts;
}

static enum tch_kind_of_handoff kind;

/* By their encodings: structs have padding. Decoding is checked by this because encoding is, by golden bytes. */
static void expect_same(const struct kernel_helper_state *state, const struct tch_facts *facts,
			const struct kernel_helper_state *wanted_state, const struct tch_facts *wanted_facts)
{
	uint8_t bytes[TCH_OPTIONS_MAX], wanted[TCH_OPTIONS_MAX];
	int len = tch_options_encode(state, facts, TCH_FULL, bytes);

	ck_assert_int_gt(len, 0);
	ck_assert_int_eq(len, tch_options_encode(wanted_state, wanted_facts, TCH_FULL, wanted));
	ck_assert_mem_eq(bytes, wanted, len);
	ck_assert_mem_eq(&state->flow, &wanted_state->flow, sizeof(state->flow));
	/* What options do not carry is empty. */
	ck_assert(!state->sent && !state->unsent && !state->received);
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
	struct tch_facts facts = sample_facts(), facts_back;
	uint8_t bytes[TCH_OPTIONS_MAX];
	int len = tch_options_encode(&state, &facts, TCH_FULL, bytes);

	ck_assert_int_gt(len, 0);
	golden_hex_check(families[_i].golden, bytes, (size_t)len);
	memset(&state_back, 0xff, sizeof(state_back));
	memset(&facts_back, 0xff, sizeof(facts_back));
	ck_assert_int_eq(tch_options_decode(bytes, (size_t)len, &state_back, &facts_back, &kind), 0);
	expect_same(&state_back, &facts_back, &state, &facts);
	ck_assert_int_eq(kind, TCH_FULL);
	/* The next device has all that was counted, as that of earlier sockets. */
	ck_assert_uint_eq(facts_back.statistics.segments_in, facts.statistics.segments_in + state.statistics.segments_in);
	ck_assert_uint_eq(facts_back.statistics.bytes_out, facts.statistics.bytes_out + state.statistics.bytes_out);
	ck_assert_uint_eq(state_back.statistics.segments_in, 0);
}
END_TEST

START_TEST(half_handoffs)
{
	struct kernel_helper_state state = sample_state("fd00::2", "fd00::1"), back;
	struct tch_facts facts = sample_facts(), facts_back;
	enum tch_kind_of_handoff wanted = (enum tch_kind_of_handoff)_i;
	uint8_t bytes[TCH_OPTIONS_MAX];
	int len = tch_options_encode(&state, &facts, wanted, bytes);

	ck_assert_int_eq(tch_options_decode(bytes, (size_t)len, &back, &facts_back, &kind), 0);
	ck_assert_int_eq(kind, wanted);
	expect_same(&back, &facts_back, &state, &facts);
	/* A socket that is restored from it begins where the client's acknowledgments do. */
	ck_assert_uint_eq(back.fixed.send_base, back.send_unacknowledged);
	ck_assert_uint_eq(back.fixed.receive_base, back.receive_next);
}
END_TEST

/* Fig. 4B, boxes 470-474 and 480-484: kind, length, port, address; two NOPs, kind, length, SEQ, ACK, 32-bit aligned. */
START_TEST(layout_of_figure_4b)
{
	static const uint8_t endpoint[] = { 255, 8, 0x03, 0x21, 10, 0, 0, 2 };
	static const uint8_t update[] = { 1, 1, 254, 10, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24 };
	struct kernel_helper_state state = sample_state("::ffff:10.0.0.2", "::ffff:10.0.0.1");
	struct tch_facts facts = sample_facts();
	uint8_t bytes[TCH_OPTIONS_MAX], *at;
	int len = tch_options_encode(&state, &facts, TCH_FULL, bytes);

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
	struct tch_facts facts = sample_facts(), facts_back;
	uint8_t bytes[TCH_OPTIONS_MAX];
	int len;

	state.fixed = (struct kernel_helper_static){ .mss_clamp = 536 };
	state.fixed.has_wscale = _i == 1;
	state.fixed.has_sack = _i == 2;
	state.fixed.has_timestamps = _i == 3;
	facts.items.len = 0;
	len = tch_options_encode(&state, &facts, TCH_FULL, bytes);
	ck_assert_int_eq(tch_options_decode(bytes, (size_t)len, &back, &facts_back, &kind), 0);
	expect_same(&back, &facts_back, &state, &facts);
	ck_assert_int_eq(back.fixed.has_wscale, _i == 1);
	ck_assert_int_eq(back.fixed.has_sack, _i == 2);
	ck_assert_int_eq(back.fixed.has_timestamps, _i == 3);
}
END_TEST

START_TEST(as_much_as_fits)
{
	struct kernel_helper_state state = sample_state("fd00::2", "fd00::1"), back;
	struct tch_facts facts = sample_facts(), facts_back;
	uint8_t bytes[TCH_OPTIONS_MAX], big[240] = { 7 };
	int len;

	facts.iptos = 0xb8;
	facts.timers = (struct tch_timers){ 1, 2, 3, 4 };
	while (tch_items_put(&facts.items, TCH_ITEM_APPLICATION, "counters", big, sizeof(big)) == 0)
		;
	ck_assert_uint_gt(facts.items.len + sizeof(big) + 11, TCH_ITEMS_MAX);
	len = tch_options_encode(&state, &facts, TCH_HALF_TO_CLIENT, bytes);
	ck_assert_int_gt(len, 0);
	ck_assert_int_eq(tch_options_decode(bytes, (size_t)len, &back, &facts_back, &kind), 0);
	expect_same(&back, &facts_back, &state, &facts);
}
END_TEST

/* What a server wrote is what the next one reads, in its order; names of others are in between. */
START_TEST(items)
{
	struct kernel_helper_state state = sample_state("fd00::2", "fd00::1");
	struct tch_facts facts = { .session = 1 };
	uint8_t bytes[TCH_OPTIONS_MAX], much[255];
	struct tch_item item;
	size_t at = 0;
	int len;

	ck_assert_int_eq(tch_items_put(&facts.items, TCH_ITEM_APPLICATION, "echo", "one", 3), 0);
	ck_assert_int_eq(tch_items_put(&facts.items, TCH_ITEM_VENDOR, "echo", "two", 3), 0);
	ck_assert_int_eq(tch_items_put(&facts.items, TCH_ITEM_APPLICATION, "echo", NULL, 0), 0);
	ck_assert_int_eq(tch_items_put(&facts.items, TCH_ITEM_APPLICATION, "echo", much, 249), -EMSGSIZE);
	len = tch_options_encode(&state, &facts, TCH_FULL, bytes);
	memset(&facts, 0, sizeof(facts));
	ck_assert_int_eq(tch_options_decode(bytes, (size_t)len, &state, &facts, &kind), 0);
	ck_assert(tch_items_next(&facts.items, &at, &item) && tch_item_is(&item, TCH_ITEM_APPLICATION, "echo"));
	ck_assert(item.len == 3 && memcmp(item.bytes, "one", 3) == 0 && !tch_item_is(&item, TCH_ITEM_APPLICATION, "ech"));
	ck_assert(tch_items_next(&facts.items, &at, &item) && !tch_item_is(&item, TCH_ITEM_APPLICATION, "echo"));
	ck_assert(tch_item_is(&item, TCH_ITEM_VENDOR, "echo") && item.len == 3 && memcmp(item.bytes, "two", 3) == 0);
	ck_assert(tch_items_next(&facts.items, &at, &item) && tch_item_is(&item, TCH_ITEM_APPLICATION, "echo"));
	ck_assert(item.len == 0 && !tch_items_next(&facts.items, &at, &item));
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
	{ "a half that is none", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 245, 3, 0) },
	{ "a half that nobody knows", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 245, 3, 3) },
	{ "an item without room for its name's length", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 240, 2) },
	{ "an item whose name runs past it", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 240, 5, 3, 'a', 'b') },
	{ "an item that is all name", 0, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 239, 5, 2, 'a', 'b') },
	{ "timers too short", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 242, 6, 0, 0, 0, 1) },
	{ "a type of service", 0, OPTIONS(ENDPOINT, VIRTUAL, UPDATE, 241, 3, 0xb8) },
	{ "the client's IPv6, the VIP's IPv4", -EBADMSG, OPTIONS(ENDPOINT6, VIRTUAL, UPDATE) },
	{ "the client's IPv4, the VIP's IPv6", -EBADMSG, OPTIONS(ENDPOINT, VIRTUAL6, UPDATE) },
};

START_TEST(what_is_accepted)
{
	struct kernel_helper_state state, before;
	struct tch_facts facts, facts_before;

	memset(&state, 0x5a, sizeof(state));
	memset(&facts, 0x5a, sizeof(facts));
	memcpy(&before, &state, sizeof(before));
	memcpy(&facts_before, &facts, sizeof(facts_before));
	ck_assert_msg(tch_options_decode(cases[_i].bytes, cases[_i].len, &state, &facts, &kind) == cases[_i].rc, "%s",
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
	struct tch_facts facts;

	for (size_t len = 0; len < sizeof(least); len++) {
		int rc = tch_options_decode(least, len, &state, &facts, &kind);

		/* Between options it looks complete, but one is missing. */
		ck_assert_int_eq(rc, len == 0 || len == 8 || len == 16 ? -ENOENT : -EBADMSG);
	}
}
END_TEST

/* Devices of different versions: each hears of what it knows, and what it does not know harms nobody. */
static const struct {
	const char *what;
	int rc;
	unsigned int can;
	size_t len;
	uint8_t bytes[16];
} sayings[] = {
	{ "of this version", 0, 0x7f, OPTIONS(238, 6, 0, 0, 0, 0x7f, 0) },
	{ "nothing", -ENOENT, 0, 0, { 0 } },
	{ "nothing that this version knows of", -ENOENT, 0, OPTIONS(77, 3, 1) },
	{ "bits that nobody knows", 0, 0x80000001, OPTIONS(77, 2, 238, 6, 0x80, 0, 0, 1) },
	{ "more than bits", 0, 1, OPTIONS(238, 9, 0, 0, 0, 1, 1, 2, 3, 0) },
	{ "twice: the first counts", 0, 1, OPTIONS(238, 6, 0, 0, 0, 1, 238, 6, 0, 0, 0, 2) },
	{ "too short", -EBADMSG, 0, OPTIONS(238, 5, 0, 0, 1) },
	{ "runs past the end", -EBADMSG, 0, OPTIONS(238, 6, 0, 0, 1) },
};

START_TEST(capabilities)
{
	unsigned int can = 0x5a;

	ck_assert_msg(tch_capabilities_decode(sayings[_i].bytes, sayings[_i].len, &can) == sayings[_i].rc, "%s", sayings[_i].what);
	ck_assert_msg(can == (sayings[_i].rc ? 0x5a : sayings[_i].can), "%s: %#x", sayings[_i].what, can);
}
END_TEST

START_TEST(capabilities_are_golden)
{
	uint8_t bytes[TCH_CAPABILITIES_BYTES];
	int len = tch_capabilities_encode(TCH_CAN_FORMERLY | TCH_CAN_TELL_COMPLETED, bytes);

	ck_assert_int_eq(len, sayings[0].len);
	ck_assert_mem_eq(bytes, sayings[0].bytes, len);
}
END_TEST

/* What the other device does not count is left out, and what was never counted reads as nothing. */
START_TEST(no_statistics)
{
	struct kernel_helper_state state = sample_state("fd00::2", "fd00::1"), back;
	struct tch_facts facts = { .session = 1 }, facts_back;
	uint8_t with[TCH_OPTIONS_MAX], without[TCH_OPTIONS_MAX];
	int with_len = tch_options_encode(&state, &facts, TCH_FULL, with), len;

	state.statistics = (struct tcp_statistics){ 0 };
	len = tch_options_encode(&state, &facts, TCH_FULL, without);
	ck_assert_int_eq(len, with_len - 42);
	ck_assert_int_eq(tch_options_decode(without, (size_t)len, &back, &facts_back, &kind), 0);
	ck_assert_uint_eq(facts_back.statistics.segments_in + facts_back.statistics.bytes_out, 0);
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
	tcase_add_loop_test(tcase, half_handoffs, TCH_FULL, TCH_NKINDS);
	tcase_add_test(tcase, layout_of_figure_4b);
	tcase_add_loop_test(tcase, each_capability_alone, 0, 4);
	tcase_add_test(tcase, as_much_as_fits);
	tcase_add_test(tcase, items);
	tcase_add_loop_test(tcase, what_is_accepted, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tcase, every_cut);
	tcase_add_loop_test(tcase, capabilities, 0, sizeof(sayings) / sizeof(sayings[0]));
	tcase_add_test(tcase, capabilities_are_golden);
	tcase_add_test(tcase, no_statistics);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
