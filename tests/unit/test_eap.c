/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, devices and switch of different versions misunderstand each other's request to move a flow, or a
 * stray datagram moves one.
 */
#include "config.h"

#include "scp/eap.h"

#include "tests/unit/golden_hex.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static struct eap sample(const char *client, const char *vip)
{
	struct eap eap = {
		.operation = EAP_CHANGE,
		.nonce = 0xabcdef,
		.transaction = 0x1234,
		.cluster = 0xdeadbeef,
		.device = 7,
		.flow = { .client_port = htons(801), .vip_port = htons(2049), .protocol = IPPROTO_TCP },
	};

	ck_assert_int_eq(inet_pton(AF_INET6, client, eap.flow.client), 1);
	ck_assert_int_eq(inet_pton(AF_INET6, vip, eap.flow.vip), 1);
	return eap;
}

static const struct {
	const char *name, *client, *vip;
} families[] = {
	{ "scp_eap_datagram_ipv4", "::ffff:10.0.0.2", "::ffff:10.0.0.1" },
	{ "scp_eap_datagram_ipv6", "fd00::2", "fd00::1" },
};

START_TEST(bytes_are_golden_and_read_back)
{
	struct eap eap = sample(families[_i].client, families[_i].vip), back;
	uint8_t bytes[EAP_BYTES];

	ck_assert_int_eq(eap_encode(&eap, bytes), 0);
	golden_hex_check(families[_i].name, bytes, sizeof(bytes));
	memset(&back, 0xff, sizeof(back));
	ck_assert_int_eq(eap_decode(bytes, sizeof(bytes), &back), 0);
	/* Field by field: the struct has padding. */
	ck_assert_uint_eq(back.operation, eap.operation);
	ck_assert_uint_eq(back.nonce, eap.nonce);
	ck_assert_uint_eq(back.transaction, eap.transaction);
	ck_assert_uint_eq(back.cluster, eap.cluster);
	ck_assert_uint_eq(back.device, eap.device);
	ck_assert_mem_eq(&back.flow, &eap.flow, sizeof(back.flow));
}
END_TEST

START_TEST(fields_that_do_not_fit_are_refused)
{
	struct eap eap = sample("fd00::2", "fd00::1");
	uint8_t bytes[EAP_BYTES];

	eap.nonce = 1 << 24;
	ck_assert_int_eq(eap_encode(&eap, bytes), -EINVAL);
	eap.nonce = (1 << 24) - 1;
	ck_assert_int_eq(eap_encode(&eap, bytes), 0);
	eap.operation = 0;
	ck_assert_int_eq(eap_encode(&eap, bytes), -EINVAL);
	eap.operation = 5;
	ck_assert_int_eq(eap_encode(&eap, bytes), -EINVAL);
	eap = sample("::ffff:10.0.0.2", "fd00::1");
	ck_assert_int_eq(eap_encode(&eap, bytes), -EINVAL);
}
END_TEST

static const struct {
	const char *what;
	size_t at;
	uint8_t value;
} wrong[] = {
	{ "version 0", 0, 0x02 },
	{ "version 2", 0, 0x22 },
	{ "operation 0", 0, 0x10 },
	{ "operation 5", 0, 0x15 },
	{ "family 0", 15, 0 },
	{ "family 6 with IPv4 addresses", 15, 6 },
	{ "client not IPv4", 20, 1 },
	{ "VIP not IPv4", 46, 0 },
};

START_TEST(wrong_bytes_are_refused)
{
	struct eap eap = sample("::ffff:10.0.0.2", "::ffff:10.0.0.1"), back = { .nonce = 99 };
	uint8_t bytes[EAP_BYTES];

	ck_assert_int_eq(eap_encode(&eap, bytes), 0);
	bytes[wrong[_i].at] = wrong[_i].value;
	ck_assert_msg(eap_decode(bytes, sizeof(bytes), &back) == -EBADMSG, "%s was accepted", wrong[_i].what);
	ck_assert_uint_eq(back.nonce, 99);
}
END_TEST

/* Found by fuzz_eap. */
START_TEST(mixed_families_are_refused)
{
	struct eap eap = sample("::ffff:10.0.0.2", "::ffff:10.0.0.1");
	uint8_t bytes[EAP_BYTES];

	ck_assert_int_eq(eap_encode(&eap, bytes), 0);
	bytes[36] = 0xfd; /* the VIP */
	for (unsigned int family = 0; family < 256; family++) {
		bytes[15] = (uint8_t)family;
		ck_assert_int_eq(eap_decode(bytes, sizeof(bytes), &eap), -EBADMSG);
	}
}
END_TEST

START_TEST(other_lengths_are_refused)
{
	struct eap eap = sample("fd00::2", "fd00::1");
	uint8_t bytes[EAP_BYTES + 1] = { 0 };

	ck_assert_int_eq(eap_encode(&eap, bytes), 0);
	for (size_t len = 0; len <= sizeof(bytes); len++)
		ck_assert_int_eq(eap_decode(bytes, len, &eap), len == EAP_BYTES ? 0 : -EBADMSG);
}
END_TEST

static const uint8_t key[EAP_KEY_BYTES] = "0123456789abcdef";

static struct eap_datagram datagram_sample(enum eap_kind kind)
{
	return (struct eap_datagram){
		.eap = sample("::ffff:10.0.0.2", "::ffff:10.0.0.1"),
		.kind = kind,
		.result = kind == EAP_ANSWER ? ESTALE : 0,
		.generation = kind == EAP_ANSWER ? 0x01020304 : 0,
		.counter = 0x1122334455667788,
	};
}

static const struct {
	const char *name;
	enum eap_kind kind;
} kinds[] = { { "scp_eap_request_signed", EAP_REQUEST }, { "scp_eap_answer_signed", EAP_ANSWER } };

START_TEST(signed_bytes_are_golden_and_read_back)
{
	struct eap_datagram datagram = datagram_sample(kinds[_i].kind), back;
	uint8_t bytes[EAP_DATAGRAM_BYTES];

	ck_assert_int_eq(eap_datagram_encode(&datagram, key, bytes), 0);
	golden_hex_check(kinds[_i].name, bytes, sizeof(bytes));
	ck_assert_int_eq(eap_datagram_decode(bytes, sizeof(bytes), key, &back), 0);
	ck_assert_uint_eq(back.eap.transaction, datagram.eap.transaction);
	ck_assert_mem_eq(&back.eap.flow, &datagram.eap.flow, sizeof(back.eap.flow));
	ck_assert_int_eq(back.kind, datagram.kind);
	ck_assert_uint_eq(back.result, datagram.result);
	ck_assert_uint_eq(back.generation, datagram.generation);
	ck_assert_uint_eq(back.counter, datagram.counter);
}
END_TEST

/* Whoever changes a bit, or has another key, is not believed. */
START_TEST(no_bit_can_be_changed)
{
	struct eap_datagram datagram = datagram_sample(EAP_REQUEST), back = { .counter = 99 };
	uint8_t bytes[EAP_DATAGRAM_BYTES], other[EAP_KEY_BYTES];

	ck_assert_int_eq(eap_datagram_encode(&datagram, key, bytes), 0);
	for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_lt(eap_datagram_decode(bytes, sizeof(bytes), key, &back), 0);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * sizeof(other); bit++) {
		memcpy(other, key, sizeof(other));
		other[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_eq(eap_datagram_decode(bytes, sizeof(bytes), other, &back), -EACCES);
	}
	for (size_t len = 0; len < sizeof(bytes); len++)
		ck_assert_int_eq(eap_datagram_decode(bytes, len, key, &back), -EBADMSG);
	ck_assert_uint_eq(back.counter, 99);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("eap");
	TCase *tcase = tcase_create("eap");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, bytes_are_golden_and_read_back, 0, sizeof(families) / sizeof(families[0]));
	tcase_add_test(tcase, fields_that_do_not_fit_are_refused);
	tcase_add_loop_test(tcase, wrong_bytes_are_refused, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_test(tcase, mixed_families_are_refused);
	tcase_add_test(tcase, other_lengths_are_refused);
	tcase_add_loop_test(tcase, signed_bytes_are_golden_and_read_back, 0, sizeof(kinds) / sizeof(kinds[0]));
	tcase_add_test(tcase, no_bit_can_be_changed);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
