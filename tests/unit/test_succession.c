/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a daemon that takes over from another goes on with a session at the wrong place of its stream, or reads beyond what
 * it was left. The whole way, with a real systemd, is tests/packages/test_packages.py.
 */
#include "config.h"

#include "common/tch.h"
#include "slave/succession.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static uint8_t input[] = "half of a call", output[] = "an answer that the kernel has not taken";

static struct tch_session sample_session(void)
{
	struct tch_session session = {
		.id = 0x100000002,
		.flow = { .client_port = htons(801), .vip_port = htons(2049), .protocol = IPPROTO_TCP },
		.fixed = { .mss_clamp = 1460, .send_wscale = 7, .receive_wscale = 8, .has_wscale = true, .has_sack = true,
			   .has_timestamps = true, .send_base = 0x11121314, .receive_base = 0x21222324 },
	};

	ck_assert_int_eq(inet_pton(AF_INET6, "::ffff:10.0.0.2", session.flow.client), 1);
	ck_assert_int_eq(inet_pton(AF_INET6, "::ffff:10.0.0.1", session.flow.vip), 1);
	return session;
}

static struct tch_carried sample_carried(void)
{
	return (struct tch_carried){
		.facts = { .session = 0x100000002, .since_ns = 5, .requests = 6, .handoffs = 7, .statistics = { 1, 2, 3, 4, 5 } },
		.input = input,
		.input_len = sizeof(input),
		.output = output,
		.output_len = sizeof(output),
	};
}

static size_t encode(const struct tch_session *session, uint8_t **out)
{
	const struct tch_carried carried = sample_carried();
	size_t room = succession_encoded_max(&carried);
	long len;

	*out = malloc(room);
	ck_assert_ptr_nonnull(*out);
	len = succession_encode(session, &carried, *out, room);
	ck_assert_int_gt(len, 0);
	return (size_t)len;
}

static size_t encode_sample(uint8_t **out)
{
	const struct tch_session session = sample_session();

	return encode(&session, out);
}

START_TEST(comes_back_as_it_was)
{
	const struct tch_session session = sample_session();
	const struct tch_carried carried = sample_carried();
	struct tch_session session_back;
	struct tch_carried back;
	uint8_t *bytes;
	size_t len = encode_sample(&bytes);

	ck_assert_int_eq(succession_decode(bytes, len, &session_back, &back), (long)len);
	ck_assert_uint_eq(session_back.id, session.id);
	ck_assert_mem_eq(&session_back.flow, &session.flow, sizeof(session.flow));
	ck_assert_mem_eq(&session_back.fixed, &session.fixed, sizeof(session.fixed));
	ck_assert_uint_eq(back.facts.since_ns, carried.facts.since_ns);
	ck_assert_uint_eq(back.facts.requests, carried.facts.requests);
	ck_assert_uint_eq(back.facts.handoffs, carried.facts.handoffs);
	ck_assert_mem_eq(&back.facts.statistics, &carried.facts.statistics, sizeof(carried.facts.statistics));
	ck_assert_uint_eq(back.input_len, sizeof(input));
	ck_assert_mem_eq(back.input, input, sizeof(input));
	ck_assert_uint_eq(back.output_len, sizeof(output));
	ck_assert_mem_eq(back.output, output, sizeof(output));
	free(bytes);
}
END_TEST

/* A handoff would take one that came by another interface, say, to where its client is not. */
START_TEST(who_stays_here_is_told)
{
	struct tch_session session = sample_session(), back;
	struct tch_carried carried;
	uint8_t *bytes;
	size_t len;

	session.is_movable = _i;
	len = encode(&session, &bytes);
	ck_assert_int_eq(succession_decode(bytes, len, &back, &carried), (long)len);
	ck_assert_int_eq(back.is_movable, _i);
	free(bytes);
}
END_TEST

START_TEST(every_cut)
{
	struct tch_session session;
	struct tch_carried carried;
	uint8_t *bytes;
	size_t len = encode_sample(&bytes);

	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *part = malloc(cut + 1); /* of its own, so that a sanitizer sees who reads too far */

		ck_assert_ptr_nonnull(part);
		memcpy(part, bytes, cut);
		ck_assert_int_eq(succession_decode(part, cut, &session, &carried), -EBADMSG);
		free(part);
	}
	free(bytes);
}
END_TEST

START_TEST(too_little_room)
{
	const struct tch_session session = sample_session();
	const struct tch_carried carried = sample_carried();
	uint8_t *bytes;
	size_t len = encode_sample(&bytes);

	ck_assert_int_eq(succession_encode(&session, &carried, bytes, len - 1), -ENOSPC);
	free(bytes);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("succession");
	TCase *tcase = tcase_create("succession");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, comes_back_as_it_was);
	tcase_add_loop_test(tcase, who_stays_here_is_told, false, true + 1);
	tcase_add_test(tcase, every_cut);
	tcase_add_test(tcase, too_little_room);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
