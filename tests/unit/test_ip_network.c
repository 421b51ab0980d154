/* SPDX-License-Identifier: GPL-3.0-or-later */
/* If this fails, an export or a filter means other clients than the administrator wrote. */
#include "config.h"

#include "common/ip_network.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static const struct {
	const char *text, *canonical;
	bool is_exact;
} right[] = {
	{ "10.0.0.0/8", "10.0.0.0/8", true },
	{ "10.0.0.0/255.0.0.0", "10.0.0.0/8", true },
	{ "10.0.0.1", "10.0.0.1/32", true },
	{ "0.0.0.0/0", "0.0.0.0/0", true },
	{ "0.0.0.0/0.0.0.0", "0.0.0.0/0", true },
	{ "10.0.0.1/8", "10.0.0.1/8", false },
	{ "255.255.255.255/32", "255.255.255.255/32", true },
	{ "::/0", "::/0", true },
	{ "FD00:0::/16", "fd00::/16", true },
	{ "fd00::1", "fd00::1/128", true },
	{ "fd00::1/127", "fd00::1/127", false },
	{ "::ffff:10.0.0.0/104", "10.0.0.0/8", true },
};

START_TEST(right_text)
{
	struct ip_network network, again;
	char text[IP_NETWORK_TEXT_MAX];

	ck_assert_int_eq(ip_network_parse(right[_i].text, &network), 0);
	ck_assert_str_eq(ip_network_text(&network, text), right[_i].canonical);
	ck_assert_int_eq(ip_network_is_exact(&network), right[_i].is_exact);
	ck_assert_int_eq(ip_network_parse(text, &again), 0);
	ck_assert(ip_network_is_same(&network, &again));
}
END_TEST

static const char *const wrong[] = {
	"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/ 8", "10.0.0.0/8 ",
	"10.0.0.0/255.0.255.0", "10.0.0/8", "fd00::/129", "fd00::/ffff::", "host", "10.0.0.0/8/8", "10.0.0.0/0008",
	"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb",
};

START_TEST(wrong_text)
{
	struct ip_network network = { .bits = 77 };

	ck_assert_int_eq(ip_network_parse(wrong[_i], &network), -EINVAL);
	ck_assert_uint_eq(network.bits, 77);
}
END_TEST

START_TEST(networks_differ)
{
	struct ip_network a, b;

	ck_assert_int_eq(ip_network_parse("10.0.0.0/8", &a), 0);
	ck_assert_int_eq(ip_network_parse("10.0.0.0/9", &b), 0);
	ck_assert(!ip_network_is_same(&a, &b));
	ck_assert_int_eq(ip_network_parse("11.0.0.0/8", &b), 0);
	ck_assert(!ip_network_is_same(&a, &b));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ip_network");
	TCase *tcase = tcase_create("ip_network");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, right_text, 0, sizeof(right) / sizeof(right[0]));
	tcase_add_loop_test(tcase, wrong_text, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_test(tcase, networks_differ);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
