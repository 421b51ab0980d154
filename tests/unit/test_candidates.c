/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a crowd of made-up machines keeps a real disk node from being approved, an administrator approves another
 * machine than he meant, or a rule of auto_approve lets in whom it should not.
 */
#include "config.h"

#include "common/admission.h"
#include "common/ip_network.h"
#include "master/candidates.h"
#include "master/leases.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct candidates candidates;
static uint64_t now_ms;

static void setup(void)
{
	candidates = (struct candidates){ 0 };
	now_ms = 1000000;
}

static bool is_rejected;

/* The machine that has key number @key applies. */
static const struct candidate *apply(uint8_t key, const char *name, const char *address, bool *is_new)
{
	scp_apply said = { .name = (char *)name, .serial = "", .vendor_class = "vnas-disk", .request = "" };
	struct candidate_origin origin = { .key = { key }, .address = address, .is_rejected = is_rejected };

	snprintf(origin.pair, sizeof(origin.pair), "%02x00-0000-0000-0000-0000-0000-0000-0000", key);
	return candidates_note(&candidates, &said, &origin, now_ms, is_new);
}

static size_t count(void)
{
	size_t at = 0, n = 0;

	while (candidates_next(&candidates, now_ms, &at))
		n++;
	return n;
}

static const char *spread(unsigned int i)
{
	static char address[CANDIDATES_ADDRESS_MAX];

	snprintf(address, sizeof(address), "10.0.%u.%u", i / 256, i % 256);
	return address;
}

START_TEST(who_asks_again_is_the_same)
{
	const struct candidate *first;
	bool is_new;

	first = apply(1, "disk", "10.0.0.1", &is_new);
	ck_assert(first && is_new);
	now_ms += 2000;
	ck_assert_ptr_eq(apply(1, "disk", "10.0.0.1", &is_new), first);
	ck_assert(!is_new);
	ck_assert_uint_eq(now_ms - first->first_ms, 2000);
	ck_assert_uint_eq(count(), 1);
	now_ms += CANDIDATES_SILENCE_MS;
	ck_assert_uint_eq(count(), 0);
	apply(1, "disk", "10.0.0.1", &is_new);
	ck_assert(is_new);
}
END_TEST

START_TEST(one_address_has_few_places)
{
	bool is_new;

	for (uint8_t i = 0; i < CANDIDATES_EACH; i++)
		ck_assert_ptr_nonnull(apply(i, "disk", "10.0.0.1", &is_new));
	ck_assert_ptr_null(apply(100, "disk", "10.0.0.1", &is_new));
	ck_assert_ptr_nonnull(apply(101, "disk", "10.0.0.2", &is_new));
	ck_assert_ptr_nonnull(apply(0, "disk", "10.0.0.1", &is_new));
}
END_TEST

START_TEST(a_crowd_does_not_push_out_who_waits)
{
	bool is_new;

	ck_assert_ptr_nonnull(apply(255, "disk", "10.9.0.1", &is_new));
	for (unsigned int i = 0; i < 250; i++)
		apply((uint8_t)i, "crowd", spread(i), &is_new);
	ck_assert_uint_eq(count(), CANDIDATES_MAX);
	now_ms += CANDIDATES_SILENCE_MS / 2;
	ck_assert_ptr_nonnull(apply(255, "disk", "10.9.0.1", &is_new));
	ck_assert(!is_new);
	/* The crowd was there once; when it is silent its places are free. */
	now_ms += CANDIDATES_SILENCE_MS / 2;
	ck_assert_uint_eq(count(), 1);
	ck_assert_ptr_nonnull(apply(254, "disk2", "10.9.0.2", &is_new));
}
END_TEST

START_TEST(a_name_that_two_have_means_nobody)
{
	const struct candidate *found = NULL;
	bool is_new;

	apply(0x12, "disk", "10.0.0.1", &is_new);
	ck_assert_int_eq(candidates_find(&candidates, "disk", now_ms, &found), 0);
	ck_assert_uint_eq(found->key[0], 0x12);
	apply(0x13, "disk", "10.0.0.2", &is_new);
	ck_assert_int_eq(candidates_find(&candidates, "disk", now_ms, &found), -ENOTUNIQ);
	ck_assert_int_eq(candidates_find(&candidates, "1300-0000", now_ms, &found), 0);
	ck_assert_uint_eq(found->key[0], 0x13);
	ck_assert_int_eq(candidates_find(&candidates, "1300", now_ms, &found), -ENOENT); /* too short to be meant */
	ck_assert_int_eq(candidates_find(&candidates, "", now_ms, &found), -ENOENT);
	candidates_remove(&candidates, found->key);
	ck_assert_int_eq(candidates_find(&candidates, "disk", now_ms, &found), 0);
}
END_TEST

START_TEST(who_was_rejected_is_meant_last)
{
	const struct candidate *found = NULL;
	bool is_new;

	is_rejected = true;
	apply(0x12, "disk", "10.0.0.1", &is_new);
	ck_assert_int_eq(candidates_find(&candidates, "disk", now_ms, &found), 0);
	ck_assert_uint_eq(found->key[0], 0x12);
	is_rejected = false;
	apply(0x13, "disk", "10.0.0.1", &is_new);
	ck_assert_int_eq(candidates_find(&candidates, "disk", now_ms, &found), 0);
	ck_assert_uint_eq(found->key[0], 0x13);
	ck_assert_int_eq(candidates_find(&candidates, "1200-0000", now_ms, &found), 0);
	ck_assert_uint_eq(found->key[0], 0x12);
}
END_TEST

static const struct {
	const char *name, *serial, *vendor_class;
	bool is_sound;
} applications[] = {
	{ "disk-7.lan", "WD-1", "vnas-disk:ssd", true },
	{ "d", "", "", true },
	{ "", "", "", false },
	{ "-disk", "", "", false },
	{ "disk 7", "", "", false },
	{ "disk\033[2J", "", "", false },
	{ "disk", "WD 1", "", false },
	{ "disk", "", "class\n", false },
	{ "disk", "\xc3\xa4", "", false },
	{ "0123456789012345678901234567890123456789012345678901234567890123", "", "", true },
	{ "01234567890123456789012345678901234567890123456789012345678901234", "", "", false },
};

START_TEST(texts_can_be_shown)
{
	scp_apply said = { .name = (char *)applications[_i].name, .serial = (char *)applications[_i].serial,
			   .vendor_class = (char *)applications[_i].vendor_class };

	ck_assert_int_eq(candidates_is_sound(&said), applications[_i].is_sound);
}
END_TEST

static const struct {
	const char *rule;
	bool is_rule, holds; /* of disk-7, WD-WX42, vnas-disk, 52:54:00:12:34:56 at 10.0.2.7 */
} rules[] = {
	{ "network:10.0.2.0/24", true, true },
	{ "network:10.0.2.7", true, true },
	{ "network:10.0.2.8/29", true, false },
	{ "network:10.0.2.0/29", true, true },
	{ "network:10.0.3.0/24", true, false },
	{ "network:0.0.0.0/0", true, true },
	{ "network:fd00::/8", true, false },
	{ "network:10.0.2.1/24", false, false },
	{ "vendor-class:vnas-disk", true, true },
	{ "vendor-class:vnas", true, false },
	{ "vendor-class:vnas*", true, true },
	{ "serial:wd-wx4?", true, true },
	{ "serial:WD-WX4", true, false },
	{ "mac:52:54:00:*", true, true },
	{ "mac:52:54:01:*", true, false },
	{ "name:disk-*", true, true },
	{ "network:10.0.2.0/24+serial:WD-*", true, true },
	{ "network:10.0.2.0/24+serial:XX-*", true, false },
	{ "network:10.0.3.0/24+serial:WD-*", true, false },
	{ "network:10.0.2.0/24+", false, false },
	{ "+network:10.0.2.0/24", false, false },
	{ "vendor-class", false, false },
	{ "vendor-class:", false, false },
	{ "vendor:vnas-disk", false, false },
	{ "net:10.0.2.0/24", false, false },
	{ "", false, false },
};

START_TEST(rules_of_auto_approve)
{
	struct admission_facts facts = { .mac = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 }, .name = "disk-7", .serial = "WD-WX42",
					 .vendor_class = "vnas-disk" };
	struct ip_network network;

	ck_assert_int_eq(ip_network_parse("10.0.2.7", &network), 0);
	memcpy(facts.address, network.address, sizeof(facts.address));
	ck_assert_int_eq(admission_is_rule(rules[_i].rule), rules[_i].is_rule);
	ck_assert_int_eq(admission_holds(rules[_i].rule, &facts), rules[_i].holds);
}
END_TEST

START_TEST(who_does_not_say_is_not_like_anything)
{
	struct admission_facts facts = { .name = "disk", .serial = "", .vendor_class = "" };

	ck_assert(!admission_holds("serial:*", &facts));
	ck_assert(!admission_holds("vendor-class:*", &facts));
}
END_TEST

START_TEST(leases_come_and_go)
{
	static struct leases leases;
	const uint8_t mac[6] = { 1 }, other[6] = { 2 };
	uint8_t address[16] = { 0 };
	size_t at = 0, n = 0;

	for (unsigned int i = 0; i < 2 * LEASES_MAX; i++) {
		memcpy(address, &i, sizeof(i));
		leases_add(&leases, mac, address, "disk\n", "vnas-disk", i + 1);
	}
	while (leases_next(&leases, &at))
		n++;
	ck_assert_uint_eq(n, LEASES_MAX);
	ck_assert_str_eq(leases.list[0].name, "disk?");
	ck_assert(!leases_remove(&leases, other, address)); /* it is another machine's now */
	ck_assert(leases_remove(&leases, mac, address));
	ck_assert(!leases_remove(&leases, mac, address));
	memset(address, 0, sizeof(address));
	ck_assert(!leases_remove(&leases, mac, address)); /* the oldest went */
}
END_TEST

static const struct {
	const char *text;
	int rc;
} macs[] = {
	{ "52:54:00:12:34:56", 0 }, { "52:54:00:AB:cd:ef", 0 },	    { "52:54:00:12:34", -EINVAL }, { "", -EINVAL },
	{ "52-54-00-12-34-56", -EINVAL }, { "52:54:00:12:34:56:78", -EINVAL }, { "52:54:0:12:34:56", -EINVAL },
	{ "52:54:00:12:34:5", -EINVAL },
};

START_TEST(macs_are_parsed)
{
	uint8_t mac[6] = { 9 };

	ck_assert_int_eq(leases_mac_parse(macs[_i].text, mac), macs[_i].rc);
	ck_assert_uint_eq(mac[0], macs[_i].rc ? 9 : 0x52);
}
END_TEST

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

int main(void)
{
	Suite *suite = suite_create("candidates");
	TCase *tcase = tcase_create("candidates");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, who_asks_again_is_the_same);
	tcase_add_test(tcase, one_address_has_few_places);
	tcase_add_test(tcase, a_crowd_does_not_push_out_who_waits);
	tcase_add_test(tcase, a_name_that_two_have_means_nobody);
	tcase_add_test(tcase, who_was_rejected_is_meant_last);
	tcase_add_loop_test(tcase, texts_can_be_shown, 0, COUNT_OF(applications));
	tcase_add_loop_test(tcase, rules_of_auto_approve, 0, COUNT_OF(rules));
	tcase_add_test(tcase, who_does_not_say_is_not_like_anything);
	tcase_add_test(tcase, leases_come_and_go);
	tcase_add_loop_test(tcase, macs_are_parsed, 0, COUNT_OF(macs));
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
