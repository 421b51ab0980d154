/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client gets at files that it was not given, or is kept from those that it was.
 */
#include "config.h"

#include "common/exports.h"
#include "tests/unit/fake_volume.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static struct sockaddr_storage endpoint(const char *address, uint16_t port)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
	} else if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
	}
	return ss;
}

/* What is said of a wrong list; NULL: it is right. */
static const struct {
	const char *clients, *why;
} lists[] = {
	{ "*", NULL },
	{ "*(rw)", NULL },
	{ " 10.0.0.1\t10.0.0.0/8(ro,insecure)  ", NULL },
	{ "10.0.0.0/255.255.255.0(rw,no_root_squash,all_squash,anonuid=5,anongid=6,secure)", NULL },
	{ "fd00::/8(rw) ::1", NULL },
	{ "0.0.0.0/0", NULL },
	{ "0.0.0.0/0.0.0.0", NULL },
	{ "10.0.0.1/32", NULL },
	{ "host.example", NULL },
	{ "*.example(rw) host?.[a-c].example @trusted(rw) host-1", NULL },
	{ "*(rw,sync,no_subtree_check,no_wdelay,sec=sys)", NULL },
	{ "-rw,insecure 10.0.0.1 10.0.0.2(ro) -ro *", NULL },
	{ "*(manage_gids)", NULL },
	{ "", "column 1: no client" },
	{ "  ", "column 3: no client" },
	{ "-rw", "column 4: no client" },
	{ "(rw)", "column 1: \"\" is no client" },
	{ "10.0.0.0/33", "column 1: \"10.0.0.0/33\" is no client" },
	{ "10.0.0.0/255.0.255.0", "is no client" },
	{ "10.0.0.0/", "is no client" },
	{ "10.0.0.0/8x", "is no client" },
	{ "10.0.0.300", "is no client" },
	{ "10.0.*", "is no client" },
	{ "fd00::/129", "is no client" },
	{ "fd00::/255.0.0.0", "is no client" },
	{ "@", "is no client" },
	{ "a/b", "is no client" },
	{ "host[a", "is no client" },
	{ "host]", "is no client" },
	{ "*(rw", "column 5: \")\" is missing" },
	{ "*(rw ro)", "column 5: \")\" is missing" },
	{ "*()", "column 3: \"\" is no option" },
	{ "*(rw,)", "column 6: \"\" is no option" },
	{ "10.0.0.1 *(rw,wr)", "column 15: \"wr\" is no option" },
	{ "*(async)", "column 3: \"async\" is refused" },
	{ "*(sec=krb5)", "\"sec=krb5\" is refused" },
	{ "*(sec=sysx)", "\"sec=sysx\" is refused" },
	{ "*(fsid=0)", "is refused" },
	{ "*(anonuid=)", "a number is missing" },
	{ "*(anonuid=-1)", "a number is missing" },
	{ "*(anonuid=4294967295)", "a number is missing" },
	{ "*(anonuid=4294967296)", "a number is missing" },
	{ "*(anongid=1x)", "a number is missing" },
	{ "*(rw)10.0.0.1", "column 6: a blank is missing" },
	{ "*,10.0.0.1", "column 2: a blank is missing" },
	{ "-rw) *", "column 4: a blank is missing" },
	{ "*(anonuid=0000000000000000000000000000000000000000000000000000000001)", NULL },
};

START_TEST(lists_are_checked)
{
	char why[EXPORT_WHY_MAX] = "";
	int rc = exports_check(lists[_i].clients, why, sizeof(why));

	ck_assert_msg(rc == (lists[_i].why ? -EINVAL : 0), "%s: %s", lists[_i].clients, why);
	if (lists[_i].why)
		ck_assert_msg(strstr(why, lists[_i].why), "%s: %s", lists[_i].clients, why);
}
END_TEST

/* One export of "/" to `clients`, asked about volume 1. */
static const struct {
	const char *clients, *client;
	uint16_t port;
	int rc;
	bool may_write, root_squash;
} questions[] = {
	{ "*", "10.0.0.1", 700, 0, false, true },
	{ "*", "10.0.0.1", 1023, 0, false, true },
	{ "*", "10.0.0.1", 1024, -EACCES, false, false },
	{ "*(insecure)", "10.0.0.1", 60000, 0, false, true },
	{ "*(rw,no_root_squash)", "fd00::1", 700, 0, true, false },
	{ "10.0.0.0/8(rw)", "10.255.0.1", 700, 0, true, true },
	{ "10.0.0.0/8(rw)", "11.0.0.1", 700, -EACCES, false, false },
	{ "10.0.0.0/8(rw)", "::ffff:10.0.0.1", 700, 0, true, true },
	{ "10.0.0.0/255.255.240.0(rw)", "10.0.15.1", 700, 0, true, true },
	{ "10.0.0.0/255.255.240.0(rw)", "10.0.16.1", 700, -EACCES, false, false },
	{ "0.0.0.0/0(rw)", "1.2.3.4", 700, 0, true, true },
	{ "0.0.0.0/0(rw)", "fd00::1", 700, -EACCES, false, false },
	{ "fd00::/9(rw)", "fd7f::1", 700, 0, true, true },
	{ "fd00::/9(rw)", "fd80::1", 700, -EACCES, false, false },
	{ "10.0.0.1(ro) *(rw)", "10.0.0.1", 700, 0, false, true },
	{ "10.0.0.1(ro) *(rw)", "10.0.0.2", 700, 0, true, true },
	/* host before network before anybody, whatever their order; exports(5) */
	{ "*(ro) 10.0.0.0/8(ro) 10.0.0.1(rw)", "10.0.0.1", 700, 0, true, true },
	{ "*(ro) 10.0.0.0/8(rw)", "10.0.0.2", 700, 0, true, true },
	{ "10.0.0.0/8(ro) 10.0.0.0/24(rw)", "10.0.0.2", 700, 0, false, true },
	{ "-rw,no_root_squash 10.0.0.1(ro) 10.0.0.2", "10.0.0.1", 700, 0, false, false },
	{ "-rw,no_root_squash 10.0.0.1(ro) 10.0.0.2", "10.0.0.2", 700, 0, true, false },
	/* without a name service a name may be anybody's */
	{ "10.0.0.1(ro) host(rw) *(ro)", "10.0.0.1", 700, 0, false, true },
	{ "host(rw) *(ro)", "10.0.0.2", 700, -EINPROGRESS, false, false },
	{ "10.0.0.1 (rw)", "10.0.0.1", 700, -EACCES, false, false },
};

static int ask(struct namespace *ns, uint32_t volume, const struct sockaddr_storage *client, struct export_rights *out)
{
	struct exports *exports = exports_new(ns, NULL);
	int rc = exports_rights(exports, volume, client, out);

	exports_free(exports);
	return rc;
}

static void export_put(struct namespace *ns, uint32_t id, const char *path, const char *clients)
{
	ns_change change = { .revision = namespace_revision(ns) + 1, .operation = NS_PUT,
			     .item = { .kind = NS_EXPORT } };

	change.item.ns_item_u.export_ = (ns_export){ .id = id, .path = (char *)path, .clients = (char *)clients };
	ck_assert_int_eq(namespace_apply(ns, &change), 0);
}

START_TEST(the_first_rule_that_matches_decides)
{
	struct sockaddr_storage client = endpoint(questions[_i].client, questions[_i].port);
	struct namespace *ns = fake_namespace_new();
	struct export_rights rights = { .anonymous_uid = 1 };

	export_put(ns, 1, "/", questions[_i].clients);
	ck_assert_msg(ask(ns, 1, &client, &rights) == questions[_i].rc, "%s", questions[_i].clients);
	ck_assert_uint_eq(rights.anonymous_uid, questions[_i].rc ? 1 : 65534);
	ck_assert_int_eq(rights.may_write, questions[_i].may_write);
	ck_assert_int_eq(rights.root_squash, questions[_i].root_squash);
	namespace_free(ns);
}
END_TEST

START_TEST(the_longest_path_decides)
{
	struct sockaddr_storage client = endpoint("10.9.0.1", 700), other = endpoint("10.0.0.1", 700);
	struct namespace *ns = fake_namespace_new();
	struct export_rights rights;

	ck_assert_int_eq(ask(ns, 2, &client, &rights), 0); /* by /projects */
	ck_assert(!rights.may_write);
	ck_assert_int_eq(ask(ns, 2, &other, &rights), -EACCES); /* though / would let it in */
	export_put(ns, 3, "/proj", "*(rw)"); /* no prefix: half a name */
	ck_assert_int_eq(ask(ns, 2, &other, &rights), -EACCES);
	export_put(ns, 3, "/projects/a/", "*(rw)");
	ck_assert_int_eq(ask(ns, 2, &other, &rights), 0);
	ck_assert(rights.may_write);
	namespace_free(ns);
}
END_TEST

START_TEST(the_virtual_root_is_for_walking)
{
	struct sockaddr_storage client = endpoint("10.0.0.1", 700), stranger = endpoint("11.0.0.1", 700),
				unprivileged = endpoint("10.0.0.1", 7000), local = { .ss_family = AF_UNIX };
	struct namespace *ns = fake_namespace_new();
	struct export_rights rights;

	ck_assert_int_eq(ask(ns, 0, &client, &rights), 0);
	ck_assert(!rights.may_write);
	ck_assert_int_eq(ask(ns, 0, &stranger, &rights), -EACCES);
	ck_assert_int_eq(ask(ns, 0, &unprivileged, &rights), -EACCES);
	ck_assert_int_eq(ask(ns, 0, &local, &rights), -EACCES);
	ck_assert_int_eq(ask(ns, 99, &client, &rights), -EACCES);
	namespace_free(ns);
}
END_TEST

START_TEST(squashing)
{
	const struct credentials said = { .uid = 0, .gid = 0, .group_count = 2, .groups = { 0, 5 } };
	struct export_rights rights = { .root_squash = true, .anonymous_uid = 11, .anonymous_gid = 12 };
	struct credentials who = said;

	exports_squash(&rights, false, &who);
	ck_assert_uint_eq(who.uid, 11);
	ck_assert_uint_eq(who.gid, 12);
	ck_assert_uint_eq(who.groups[0], 12);
	ck_assert_uint_eq(who.groups[1], 5);

	who = (struct credentials){ .uid = 1000, .gid = 100, .group_count = 1, .groups = { 5 } };
	exports_squash(&rights, false, &who);
	ck_assert_uint_eq(who.uid, 1000);
	ck_assert_uint_eq(who.gid, 100);

	rights.all_squash = true;
	exports_squash(&rights, false, &who);
	ck_assert_uint_eq(who.uid, 11);
	ck_assert_uint_eq(who.gid, 12);
	ck_assert_uint_eq(who.group_count, 0);

	rights = (struct export_rights){ 0 };
	who = said;
	exports_squash(&rights, false, &who);
	ck_assert_mem_eq(&who, &said, sizeof(who));
}
END_TEST

/* "/disk0" is volume 1; in it "home" and "home/alice" are exports of their own. */
static const struct {
	const char *client, *path;
	int rc;
	bool may_write;
	uint32_t id;
} places[] = {
	{ "10.0.0.1", "", 0, true, 1 },
	{ "10.0.0.1", "file", 0, true, 1 },
	{ "10.0.0.1", "home", 0, false, 10 },
	{ "10.0.0.1", "/home/", 0, false, 10 },
	{ "10.0.0.1", "./home//./x", 0, false, 10 },
	{ "10.0.0.1", "home2", 0, true, 1 },
	{ "10.0.0.1", "home/bob/file", 0, false, 10 },
	{ "10.0.0.1", "home/alice", -EACCES, false, 0 },
	{ "10.0.0.1", "home/../file", -EACCES, false, 0 },
	{ "10.0.0.5", "home/alice/file", 0, true, 11 },
	{ "11.0.0.1", "file", -EACCES, false, 0 },
	{ "11.0.0.1", "home/bob", 0, false, 10 },
};

static struct namespace *divided_namespace(void)
{
	struct namespace *ns = fake_namespace_new();

	export_put(ns, 10, "/disk0/home", "*(ro)");
	export_put(ns, 11, "/disk0/home/alice/", "10.0.0.5(rw)");
	export_put(ns, 12, "/disk0-other", "*(rw)");
	return ns;
}

START_TEST(the_place_decides)
{
	struct sockaddr_storage client = endpoint(places[_i].client, 700);
	struct namespace *ns = divided_namespace();
	struct exports *exports = exports_new(ns, NULL);
	struct export_rights rights = { 0 };
	uint32_t id = 0;

	ck_assert(exports_divide(exports, 1));
	ck_assert(!exports_divide(exports, 2));
	ck_assert_int_eq(exports_rights(exports, 1, &client, &rights), EXPORTS_PLACE);
	ck_assert_int_eq(exports_rights_at(exports, 1, places[_i].path, &client, &rights, &id), places[_i].rc);
	ck_assert_int_eq(rights.may_write, places[_i].may_write);
	ck_assert_uint_eq(id, places[_i].id);
	exports_free(exports);
	namespace_free(ns);
}
END_TEST

START_TEST(the_place_does_not_matter_if_rights_are_the_same)
{
	struct sockaddr_storage client = endpoint("10.0.0.1", 700), stranger = endpoint("11.0.0.1", 700);
	struct namespace *ns = fake_namespace_new();
	struct exports *exports = exports_new(ns, NULL);
	struct export_rights rights;

	export_put(ns, 10, "/disk0/home", "10.0.0.0/8(rw)");
	ck_assert_int_eq(exports_rights(exports, 1, &client, &rights), 0);
	ck_assert(rights.may_write);
	ck_assert_int_eq(exports_rights(exports, 1, &stranger, &rights), -EACCES);
	export_put(ns, 10, "/disk0/home", "10.0.0.0/8(rw,no_root_squash)"); /* counts at once */
	ck_assert_int_eq(exports_rights(exports, 1, &client, &rights), EXPORTS_PLACE);
	exports_free(exports);
	namespace_free(ns);
}
END_TEST

static void place_put(struct namespace *ns, uint64_t id, const char *name, uint32_t volume)
{
	ns_change change = {
		.revision = namespace_revision(ns) + 1,
		.operation = NS_PUT,
		.item = { .kind = NS_ENTRY, .ns_item_u.entry = { id, 1, (char *)name, volume, 0 } },
	};

	ck_assert_int_eq(namespace_apply(ns, &change), 0);
}

/* A handle does not tell by which place its client came. */
START_TEST(of_several_places_the_first_that_is_exported_decides)
{
	struct sockaddr_storage client = endpoint("12.0.0.1", 700);
	struct namespace *ns = fake_namespace_new();
	struct exports *exports = exports_new(ns, NULL);
	struct export_rights rights;
	ns_change change = { .revision = namespace_revision(ns) + 1, .operation = NS_DELETE, .item = { .kind = NS_EXPORT } };

	change.item.ns_item_u.export_ = (ns_export){ 1, (char *)"/", (char *)"" }; /* what all other places are in */
	ck_assert_int_eq(namespace_apply(ns, &change), 0);
	place_put(ns, 20, "x", 1);
	place_put(ns, 21, "y", 1);
	ck_assert_int_eq(exports_rights(exports, 1, &client, &rights), -EACCES);
	export_put(ns, 11, "/y", "*(rw)");
	ck_assert_int_eq(exports_rights(exports, 1, &client, &rights), 0);
	ck_assert(rights.may_write);
	export_put(ns, 10, "/x", "*(ro)");
	ck_assert_int_eq(exports_rights(exports, 1, &client, &rights), 0);
	ck_assert(!rights.may_write);
	export_put(ns, 12, "/disk0", "10.0.0.0/8(rw)");
	ck_assert_int_eq(exports_rights(exports, 1, &client, &rights), -EACCES);
	exports_free(exports);
	namespace_free(ns);
}
END_TEST

START_TEST(clients_are_listed)
{
	static const char *const expected[] = { "10.0.0.1", "host.example", "10.0.0.0/8", "fd00::/8",
						"::ffff:0.0.0.0/64", "*.example", "@trusted", "*" };
	struct namespace *ns = fake_namespace_new();
	struct exports *exports = exports_new(ns, NULL);
	ns_export export = { .id = 9 };
	char text[EXPORT_NAME_MAX + 2];
	size_t at = 0;

	export_put(ns, 9, "/disk0", "-rw * 10.0.0.1(ro) 10.0.0.0/255.0.0.0 @trusted *.example host.example fd00::/8 "
			    "::ffff:0:0/64");
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		ck_assert(exports_next_client(exports, &export, &at, text));
		ck_assert_str_eq(text, expected[i]);
	}
	ck_assert(!exports_next_client(exports, &export, &at, text));
	exports_free(exports);
	namespace_free(ns);
}
END_TEST

START_TEST(who_names_nobody_is_anonymous)
{
	struct export_rights rights = { .anonymous_uid = 11, .anonymous_gid = 12 };
	struct credentials who = { .uid = UINT32_MAX, .gid = UINT32_MAX, .group_count = 1, .groups = { UINT32_MAX } };

	exports_squash(&rights, false, &who);
	ck_assert_uint_eq(who.uid, 11);
	ck_assert_uint_eq(who.gid, 12);
	ck_assert_uint_eq(who.groups[0], 12);
	who = (struct credentials){ .uid = 65534, .gid = 65534, .group_count = 1 };
	exports_squash(&rights, true, &who); /* AUTH_NONE */
	ck_assert_uint_eq(who.uid, 11);
	ck_assert_uint_eq(who.gid, 12);
	ck_assert_uint_eq(who.group_count, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exports");
	TCase *tc = tcase_create("exports");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, lists_are_checked, 0, sizeof(lists) / sizeof(lists[0]));
	tcase_add_loop_test(tc, the_first_rule_that_matches_decides, 0, sizeof(questions) / sizeof(questions[0]));
	tcase_add_test(tc, the_longest_path_decides);
	tcase_add_test(tc, the_virtual_root_is_for_walking);
	tcase_add_test(tc, squashing);
	tcase_add_loop_test(tc, the_place_decides, 0, sizeof(places) / sizeof(places[0]));
	tcase_add_test(tc, of_several_places_the_first_that_is_exported_decides);
	tcase_add_test(tc, the_place_does_not_matter_if_rights_are_the_same);
	tcase_add_test(tc, clients_are_listed);
	tcase_add_test(tc, who_names_nobody_is_anonymous);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
