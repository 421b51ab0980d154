/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, devices let their certificates expire and lose each other, or all renew them at one moment.
 */
#include "config.h"

#include "common/certificate_age.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { ISSUED_S = 1795000000, LIFE_S = 12 * 256 * 100 };

static struct certificates_facts certificate(unsigned int spread)
{
	struct certificates_facts facts = { .issued_s = ISSUED_S, .expires_s = ISSUED_S + LIFE_S };

	snprintf(facts.serial, sizeof(facts.serial), "%030x%02x", 0x2a, spread);
	return facts;
}

static const struct {
	const char *name;
	unsigned int spread; /* the last byte of the serial number */
	int64_t age_s;
	enum certificate_age age;
} cases[] = {
	{ "of this moment", 0, 0, CERTIFICATE_FRESH },
	{ "by a clock that is behind", 0, -86400, CERTIFICATE_FRESH },
	{ "before two thirds", 0, LIFE_S / 3 * 2 - 1, CERTIFICATE_FRESH },
	{ "two thirds", 0, LIFE_S / 3 * 2, CERTIFICATE_DUE },
	{ "earlier by a twenty-fourth", 128, LIFE_S / 3 * 2 - LIFE_S / 24, CERTIFICATE_DUE },
	{ "not much earlier", 128, LIFE_S / 3 * 2 - LIFE_S / 24 - 1, CERTIFICATE_FRESH },
	{ "before that, never", 255, LIFE_S / 12 * 7, CERTIFICATE_FRESH },
	{ "before five sixths", 0, LIFE_S / 6 * 5 - 1, CERTIFICATE_DUE },
	{ "five sixths", 0, LIFE_S / 6 * 5, CERTIFICATE_EXPIRING },
	{ "the last second", 0, LIFE_S - 1, CERTIFICATE_EXPIRING },
	{ "the end", 0, LIFE_S, CERTIFICATE_EXPIRED },
	{ "after a jump of the clock", 0, INT64_C(100) * LIFE_S, CERTIFICATE_EXPIRED },
};

START_TEST(certificates_get_old)
{
	struct certificates_facts facts = certificate(cases[_i].spread);

	ck_assert_msg(certificate_age(&facts, ISSUED_S + cases[_i].age_s) == cases[_i].age, "%s: %s", cases[_i].name,
		      certificate_age_name(certificate_age(&facts, ISSUED_S + cases[_i].age_s)));
}
END_TEST

/* A certificate that was cut short by its authority's end, to nothing. */
START_TEST(a_certificate_without_life_has_expired)
{
	struct certificates_facts facts = certificate(7);

	facts.expires_s = facts.issued_s;
	ck_assert_int_eq(certificate_age(&facts, ISSUED_S), CERTIFICATE_EXPIRED);
	facts.expires_s = facts.issued_s - 1000;
	ck_assert_int_eq(certificate_age(&facts, ISSUED_S), CERTIFICATE_EXPIRED);
	ck_assert_uint_eq(certificate_retry_s(&facts), 5);
}
END_TEST

START_TEST(failures_are_not_repeated_at_once)
{
	struct certificates_facts facts = certificate(0);

	ck_assert_uint_eq(certificate_retry_s(&facts), LIFE_S / 256);
	facts.expires_s = facts.issued_s + 30;
	ck_assert_uint_eq(certificate_retry_s(&facts), 5);
	facts.expires_s = facts.issued_s + INT64_C(1826) * 86400;
	ck_assert_uint_eq(certificate_retry_s(&facts), 3600);
}
END_TEST

/* The master signs on the thread that serves all devices. */
START_TEST(a_device_can_not_keep_the_master_busy)
{
	struct certificate_asks asks = { 0 };
	unsigned int allowed = 0;

	for (uint64_t now_ms = 1000000; now_ms < 1000000 + 10 * CERTIFICATE_ASKS_MS; now_ms++)
		allowed += certificate_may_ask(&asks, now_ms);
	ck_assert_uint_eq(allowed, 10 * CERTIFICATE_ASKS_MAX);
}
END_TEST

START_TEST(times_are_readable)
{
	char text[CERTIFICATE_TIME_TEXT];

	ck_assert_str_eq(certificate_time_text(0, text), "1970-01-01T00:00:00Z");
	ck_assert_str_eq(certificate_time_text(INT64_C(253402300799), text), "9999-12-31T23:59:59Z");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("certificate_age");
	TCase *tcase = tcase_create("certificate_age");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, certificates_get_old, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tcase, a_certificate_without_life_has_expired);
	tcase_add_test(tcase, failures_are_not_repeated_at_once);
	tcase_add_test(tcase, a_device_can_not_keep_the_master_busy);
	tcase_add_test(tcase, times_are_readable);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
