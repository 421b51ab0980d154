/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a new disk node asks somebody else than the master that DHCP has named, or the switch gives its own address
 * to a disk.
 */
#include "config.h"

#include "common/dhcp_option.h"
#include "master/dhcp_config.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *hex, *master; /* NULL: -EBADMSG; "": -ENOENT */
} options[] = {
	{ "01040a4d0201", "10.77.2.1" },
	{ "01:04:0a:4d:02:01", "10.77.2.1" },
	{ "1:4:a:4d:2:1", "10.77.2.1" },
	{ "01040A4D020102020802", "10.77.2.1:2050" },
	{ "1:4:a:4d:2:1:2:2:b:ea", "10.77.2.1:3050" },
	{ "0202080201040a4d0201", "10.77.2.1:2050" },
	{ "0003616263", NULL }, /* padding, then an option that is not whole */
	{ "000301610001040a4d0201ff0104", "10.77.2.1" },
	{ "630361626301040a4d0201", "10.77.2.1" }, /* another option before it */
	{ "", "" },
	{ "ff", "" },
	{ "0301aa", "" },
	{ "010400000000", "" },
	{ "02020802", "" },
	{ "01", NULL },
	{ "0104", NULL },
	{ "01040a4d02", NULL },
	{ "01030a4d02", NULL },
	{ "020108", NULL },
	{ "01040a4d020", NULL },
	{ "01040a4d020x", NULL },
	{ "1:4:a:4d:2:1:", NULL },
	{ "1::a:4d:2:1", NULL },
	{ "001:4:a:4d:2:1", NULL },
	{ "10.77.2.1", NULL },
};

START_TEST(the_master_in_option_43)
{
	char master[DHCP_OPTION_TEXT] = "untouched";
	int rc = dhcp_option_master(options[_i].hex, master);

	ck_assert_int_eq(rc, !options[_i].master ? -EBADMSG : *options[_i].master ? 0 : -ENOENT);
	ck_assert_str_eq(master, rc == 0 ? options[_i].master : "untouched");
}
END_TEST

START_TEST(an_option_that_is_too_long)
{
	char hex[2 * 300 + 1], master[DHCP_OPTION_TEXT];

	memset(hex, '0', sizeof(hex) - 1);
	hex[sizeof(hex) - 1] = '\0';
	ck_assert_int_eq(dhcp_option_master(hex, master), -EBADMSG);
}
END_TEST

#define IP(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

static const struct {
	uint32_t address;
	unsigned int bits;
	uint32_t first, last; /* 0: -ERANGE */
} ranges[] = {
	{ IP(10, 0, 1, 1), 24, IP(10, 0, 1, 128), IP(10, 0, 1, 254) },
	{ IP(10, 0, 1, 254), 24, IP(10, 0, 1, 128), IP(10, 0, 1, 253) },
	{ IP(10, 0, 1, 128), 24, IP(10, 0, 1, 129), IP(10, 0, 1, 254) },
	{ IP(10, 0, 1, 200), 24, IP(10, 0, 1, 128), IP(10, 0, 1, 199) },
	{ IP(10, 0, 1, 150), 24, IP(10, 0, 1, 151), IP(10, 0, 1, 254) },
	{ IP(10, 0, 0, 1), 16, IP(10, 0, 128, 0), IP(10, 0, 255, 254) },
	{ IP(10, 0, 1, 1), 29, IP(10, 0, 1, 4), IP(10, 0, 1, 6) },
	{ IP(10, 0, 1, 5), 29, IP(10, 0, 1, 4), IP(10, 0, 1, 4) },
	{ IP(10, 0, 1, 1), 30, 0, 0 },
	{ IP(10, 0, 1, 1), 32, 0, 0 },
	{ IP(10, 0, 1, 1), 0, 0, 0 },
};

START_TEST(what_is_given_out)
{
	uint32_t first = 0, last = 0;
	int rc = dhcp_config_range(ranges[_i].address, ranges[_i].bits, &first, &last);

	ck_assert_int_eq(rc, ranges[_i].first ? 0 : -ERANGE);
	ck_assert_uint_eq(first, ranges[_i].first);
	ck_assert_uint_eq(last, ranges[_i].last);
}
END_TEST

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

int main(void)
{
	Suite *suite = suite_create("dhcp");
	TCase *tcase = tcase_create("dhcp");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, the_master_in_option_43, 0, COUNT_OF(options));
	tcase_add_test(tcase, an_option_that_is_too_long);
	tcase_add_loop_test(tcase, what_is_given_out, 0, COUNT_OF(ranges));
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
