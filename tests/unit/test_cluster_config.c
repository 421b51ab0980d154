/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a cluster that is made again from its backup exports what it did not, or has lost users; or a wrong document leaves
 * half of it.
 */
#include "config.h"

#include "master/cluster_config.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH "$y$j9T$Nd2Qcme7YmAV1pqhWXhPt/$1sHe8S8nCz2oAC5lD/.tYx0x9nQ7JDyX9dLHhl.x1V9"

static struct namespace *ns;
static uint32_t last_export, last_class;

static void change(ns_operation operation, ns_item item)
{
	ns_change one = { .revision = namespace_revision(ns) + 1, .operation = operation, .item = item };

	ck_assert_int_eq(namespace_apply(ns, &one), 0);
}

static void put_export(uint32_t id, const char *path, const char *clients)
{
	change(NS_PUT, (ns_item){ .kind = NS_EXPORT,
				  .ns_item_u.export_ = { .id = id, .path = (char *)path, .clients = (char *)clients } });
	last_export = id > last_export ? id : last_export;
}

static void put_group(uint32_t gid, const char *name)
{
	change(NS_PUT, (ns_item){ .kind = NS_GROUP, .ns_item_u.group = { .gid = gid, .name = (char *)name } });
}

static void put_user(uint32_t uid, const char *name, u_int *groups, u_int count)
{
	ns_item item = { .kind = NS_USER };

	item.ns_item_u.user = (ns_user){
		.uid = uid, .name = (char *)name, .gid = 100, .comment = "one \"of\" us", .password = HASH
	};
	item.ns_item_u.user.groups.groups_val = groups;
	item.ns_item_u.user.groups.groups_len = count;
	change(NS_PUT, item);
}

static void put_class(uint32_t id, const char *name, const char *members, uint32_t weight)
{
	ns_item item = { .kind = NS_CLASS };

	item.ns_item_u.class_ = (ns_class){
		.id = id, .name = (char *)name, .members = (char *)members, .weight = weight, .operations = 50, .bytes = 1 << 20
	};
	change(NS_PUT, item);
	last_class = id > last_class ? id : last_class;
}

static void put_entry(uint64_t id, const char *name, uint32_t volume)
{
	ns_item item = { .kind = NS_ENTRY };

	item.ns_item_u.entry = (ns_entry){ .id = id, .parent = 1, .name = (char *)name, .volume = volume };
	change(NS_PUT, item);
}

/* A cluster with a volume 1 at /disk0. */
static void start(void)
{
	ns_item items[3] = { { .kind = NS_CLUSTER }, { .kind = NS_ENTRY }, { .kind = NS_VOLUME } };
	ns_snapshot snapshot = { .revision = 1, .items = { .items_len = 3, .items_val = items } };
	char bytes[1024];
	XDR xdr;

	items[0].ns_item_u.cluster = (ns_cluster){ .name = "test", .vips = "" };
	items[1].ns_item_u.entry = (ns_entry){ .id = 1, .parent = 1, .name = "" };
	items[2].ns_item_u.volume = (ns_volume){ .id = 1, .uuid = "volume volume v", .node = 7, .path = "/srv" };
	xdrmem_create(&xdr, bytes, sizeof(bytes), XDR_ENCODE);
	ck_assert(xdr_ns_snapshot(&xdr, &snapshot));
	ns = namespace_new();
	ck_assert_int_eq(namespace_load(ns, bytes, xdr_getpos(&xdr)), 0);
	last_export = last_class = 0;
	put_entry(2, "disk0", 1);
}

static void stop(void)
{
	namespace_free(ns);
}

static void fill(void)
{
	put_export(1, "/", "10.0.0.0/8(rw)");
	put_export(2, "/disk0/home", "*(ro)");
	put_group(10001, "team");
	put_user(10001, "anna", (u_int[]){ 10001, 10002 }, 2);
	put_user(10002, "bert", NULL, 0);
	put_class(1, "slow", "network=10.0.0.0/8 user=10001", 10);
	put_class(2, "fast", "export=/disk0", 1000);
}

static char *document(void)
{
	json_t *exported = cluster_config_export(ns);
	char *text = json_dumps(exported, JSON_INDENT(2));

	json_decref(exported);
	return text;
}

/* Carry out all but places, as the master does. How many steps there were. */
static size_t import(const char *text)
{
	struct cluster_config_plan plan;
	char why[CLUSTER_CONFIG_WHY_MAX];
	size_t count;

	ck_assert_msg(cluster_config_plan_make(text, ns, &plan, why) == 0, "%s", why);
	for (size_t i = 0; i < plan.count; i++) {
		struct cluster_config_step *step = &plan.steps[i];

		if (step->what == CLUSTER_CONFIG_PUT && step->item.kind == NS_EXPORT && !step->item.ns_item_u.export_.id)
			step->item.ns_item_u.export_.id = ++last_export;
		if (step->what == CLUSTER_CONFIG_PUT && step->item.kind == NS_CLASS && !step->item.ns_item_u.class_.id)
			step->item.ns_item_u.class_.id = ++last_class;
		if (step->what == CLUSTER_CONFIG_PUT || step->what == CLUSTER_CONFIG_DELETE)
			change(step->what == CLUSTER_CONFIG_PUT ? NS_PUT : NS_DELETE, step->item);
	}
	count = plan.count;
	cluster_config_plan_fini(&plan);
	return count;
}

START_TEST(what_is_exported_changes_nothing)
{
	char *text;

	fill();
	text = document();
	ck_assert_uint_eq(import(text), 0);
	free(text);
}
END_TEST

START_TEST(round_trip_into_an_empty_cluster)
{
	char *before, *after;

	put_export(1, "/disk0/home", "*(ro)");
	put_export(2, "/", "10.0.0.0/8(rw)");
	put_group(10001, "team");
	put_user(10001, "anna", (u_int[]){ 10001, 10002 }, 2);
	put_class(1, "slow", "network=10.0.0.0/8 user=10001", 10);
	put_class(2, "fast", "export=/disk0", 1000);
	before = document();
	stop();
	start();
	ck_assert_uint_eq(import(before), 6);
	after = document();
	ck_assert_str_eq(before, after);
	free(before);
	free(after);
}
END_TEST

/* Whatever was there: other exports, users with others' names and numbers. */
START_TEST(round_trip_into_another_cluster)
{
	char *wanted;

	fill();
	wanted = document();
	stop();
	start();
	put_export(1, "/disk0/home", "*(rw)");
	put_export(2, "/disk0", "*(rw)");
	put_export(3, "/", "10.0.0.0/8(rw)");
	put_user(10001, "bert", NULL, 0);
	put_user(10002, "anna", NULL, 0);
	put_user(10003, "carl", NULL, 0);
	put_group(10001, "others");
	put_group(10002, "team");
	put_class(1, "fast", "export=/disk1", 1000);
	put_class(2, "other", "user=7", 100);
	put_class(3, "slow", "network=10.0.0.0/8 user=10001", 10);
	import(wanted);
	ck_assert_uint_eq(import(wanted), 0);
	ck_assert_ptr_null(namespace_user_by_name(ns, "carl"));
	ck_assert_uint_eq(namespace_user_by_name(ns, "anna")->uid, 10001);
	ck_assert_uint_eq(namespace_group_by_name(ns, "team")->gid, 10001);
	free(wanted);
}
END_TEST

static char *classes(void)
{
	static char names[256];
	const ns_class *class;

	names[0] = '\0';
	for (size_t at = 0; (class = namespace_next_class(ns, &at));)
		sprintf(names + strlen(names), "%s%s:%u", names[0] ? " " : "", class->name, class->id);
	return names;
}

/* Which class a call is in is decided by their order. */
START_TEST(classes_come_in_their_order)
{
	char *wanted;

	put_class(1, "a", "user=1", 1);
	put_class(2, "b", "user=1", 2);
	put_class(3, "c", "user=1", 3);
	wanted = document();
	stop();
	start();
	put_class(1, "a", "user=7", 1);
	put_class(2, "c", "user=1", 3);
	put_class(3, "b", "user=1", 2);
	import(wanted);
	ck_assert_str_eq(classes(), "a:1 b:3 c:4");
	ck_assert_uint_eq(import(wanted), 0);
	free(wanted);
}
END_TEST

/* What was written before there were classes says nothing about them. */
START_TEST(no_classes_leave_classes)
{
	static const char text[] = "{\"vnas_config\": 1, \"volumes\": [], \"groups\": [], \"users\": [], \"exports\": []}";

	put_class(1, "a", "user=1", 1);
	ck_assert_uint_eq(import(text), 0);
	ck_assert_str_eq(classes(), "a:1");
}
END_TEST

/* Between the old and the new each path has the rights of one of them. */
START_TEST(exports_change_in_a_safe_order)
{
	static const char text[] = "{\"vnas_config\": 1, \"volumes\": [], \"groups\": [], \"users\": [], \"exports\": ["
				   "{\"path\": \"/\", \"clients\": \"*(rw)\"}, {\"path\": \"/disk0/b\", \"clients\": \"*(ro)\"}]}";
	struct cluster_config_plan plan;
	char why[CLUSTER_CONFIG_WHY_MAX];

	put_export(1, "/disk0/a", "*(ro)");
	ck_assert_int_eq(cluster_config_plan_make(text, ns, &plan, why), 0);
	ck_assert_uint_eq(plan.count, 3);
	ck_assert_str_eq(plan.steps[0].item.ns_item_u.export_.path, "/disk0/b");
	ck_assert_str_eq(plan.steps[1].item.ns_item_u.export_.path, "/");
	ck_assert_int_eq(plan.steps[2].what, CLUSTER_CONFIG_DELETE);
	cluster_config_plan_fini(&plan);
}
END_TEST

#define REST "\"groups\": [], \"users\": [], \"exports\": []}"
#define UUID "766f6c75-6d65-2076-6f6c-756d65207600"

START_TEST(places_follow)
{
	static const char text[] = "{\"vnas_config\": 1, \"volumes\": [{\"uuid\": \"" UUID "\", \"places\": [\"/home\"]},"
				   "{\"uuid\": \"00000000-0000-0000-0000-000000000001\", \"places\": [\"/other\"]}]," REST;
	struct cluster_config_plan plan;
	char why[CLUSTER_CONFIG_WHY_MAX];

	ck_assert_int_eq(cluster_config_plan_make(text, ns, &plan, why), 0);
	ck_assert_uint_eq(plan.count, 2);
	ck_assert_int_eq(plan.steps[0].what, CLUSTER_CONFIG_UNPLACE);
	ck_assert_uint_eq(plan.steps[0].entry, 2);
	ck_assert_int_eq(plan.steps[1].what, CLUSTER_CONFIG_PLACE);
	ck_assert_uint_eq(plan.steps[1].volume, 1);
	ck_assert_str_eq(plan.steps[1].path, "/home");
	ck_assert_uint_eq(plan.unknown_volumes, 1);
	cluster_config_plan_fini(&plan);
}
END_TEST

#define WITH(groups, users, exports)                                                                          \
	"{\"vnas_config\": 1, \"volumes\": [], \"groups\": [" groups "], \"users\": [" users "], \"exports\": [" exports "]}"

#define CLASSES(list) "{\"vnas_config\": 1, \"classes\": " list ", \"volumes\": []," REST
#define CLASS(name, members, weight, operations, bytes)                                             \
	"{\"name\": \"" name "\", \"members\": \"" members "\", \"weight\": " weight ", \"operations\": " operations \
	", \"bytes\": " bytes "}"

static const struct {
	const char *text, *why; /* why: a part of it */
} wrong[] = {
	{ "", "line 1" },
	{ "{\"vnas_config\": 1", "line 1" },
	{ "{}", "\"vnas_config\" is not 1" },
	{ "[]", "\"vnas_config\" is not 1" },
	{ "{\"vnas_config\": 2, \"volumes\": []," REST, "\"vnas_config\" is not 1" },
	{ "{\"vnas_config\": 1, " REST, "\"volumes\" is not there" },
	{ "{\"vnas_config\": 1, \"volumes\": {}," REST, "\"volumes\" is not there, or no list" },
	{ "{\"vnas_config\": 1, \"volumes\": [7]," REST, "\"volumes\", number 1: it is no object" },
	{ "{\"vnas_config\": 1, \"volumes\": [{\"uuid\": \"" UUID "\"}]," REST, "\"places\" is no list" },
	{ "{\"vnas_config\": 1, \"volumes\": [{\"uuid\": \"" UUID "\", \"places\": [\"home\"]}]," REST, "no absolute path" },
	{ WITH("{\"name\": \"Team\", \"gid\": 1}", "", ""), "\"Team\" is no name" },
	{ WITH("{\"name\": \"team\", \"gid\": 0}", "", ""), "root's" },
	{ WITH("{\"name\": \"team\", \"gid\": \"1\"}", "", ""), "team: \"-1\" is no id" },
	{ WITH("{\"name\": \"team\"}", "", ""), "\"gid\" is that of another, or not there" },
	{ WITH("{\"name\": \"team\", \"gid\": 1}, {\"name\": \"team\", \"gid\": 2}", "", ""), "number 2: \"name\" is that of another" },
	{ WITH("{\"name\": \"team\", \"gid\": 1}, {\"name\": \"other\", \"gid\": 1}", "", ""), "number 2: \"gid\" is that of" },
	{ WITH("", "{\"name\": \"anna\", \"uid\": 1, \"gid\": 1, \"password\": \"secret\"}", ""), "no hash" },
	{ WITH("", "{\"name\": \"anna\", \"uid\": 1, \"gid\": 1, \"comment\": \"a:b\"}", ""), "anna: a comment" },
	{ WITH("", "{\"name\": \"anna\", \"uid\": 1, \"gid\": 1, \"groups\": [3, 2]}", ""), "does not ascend" },
	{ WITH("", "{\"name\": \"anna\", \"uid\": 1, \"gid\": 1, \"groups\": {}}", ""), "no list" },
	{ WITH("", "{\"name\": \"anna\", \"uid\": 1}", ""), "is no id" },
	{ WITH("", "", "{\"path\": \"home\", \"clients\": \"*\"}"), "not absolute" },
	{ CLASSES("{}"), "\"classes\" is not there, or no list" },
	{ CLASSES("[{}]"), "\"name\" is that of another, or not there" },
	{ CLASSES("[" CLASS("a b", "user=1", "1", "0", "0") "]"), "a class: " },
	{ CLASSES("[" CLASS("a", "user=1", "1", "0", "0") "," CLASS("a", "user=2", "1", "0", "0") "]"), "number 2: \"name\"" },
	{ CLASSES("[" CLASS("a", "users=1", "1", "0", "0") "]"), "the class a: " },
	{ CLASSES("[" CLASS("a", "user=1", "0", "0", "0") "]"), "\"weight\" is no number from 1 to 1000" },
	{ CLASSES("[" CLASS("a", "user=1", "\"5\"", "0", "0") "]"), "\"weight\" is no number from 1 to 1000" },
	{ CLASSES("[" CLASS("a", "user=1", "5", "-1", "0") "]"), "\"operations\" is no number from 0" },
	{ CLASSES("[" CLASS("a", "user=1", "5", "1", "1000000000001") "]"), "\"bytes\" is no number from 0" },
	{ CLASSES("[7]"), "\"classes\", number 1: it is no object" },
	{ WITH("", "", "{\"path\": \"/home\", \"clients\": \"*(rx)\"}"), "the export /home" },
	{ WITH("", "", "{\"path\": \"/a\", \"clients\": \"*\"}, {\"path\": \"/a\", \"clients\": \"*\"}"), "number 2: \"path\"" },
};

START_TEST(wrong_document_is_refused)
{
	struct cluster_config_plan plan = { .count = 77 };
	char why[CLUSTER_CONFIG_WHY_MAX] = "";

	ck_assert_msg(cluster_config_plan_make(wrong[_i].text, ns, &plan, why) == -EINVAL, "%s", wrong[_i].text);
	ck_assert_msg(strstr(why, wrong[_i].why) != NULL, "%s: %s", wrong[_i].text, why);
	ck_assert_uint_eq(plan.count, 77);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cluster_config");
	TCase *tcase = tcase_create("cluster_config");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_test(tcase, what_is_exported_changes_nothing);
	tcase_add_test(tcase, round_trip_into_an_empty_cluster);
	tcase_add_test(tcase, round_trip_into_another_cluster);
	tcase_add_test(tcase, classes_come_in_their_order);
	tcase_add_test(tcase, no_classes_leave_classes);
	tcase_add_test(tcase, exports_change_in_a_safe_order);
	tcase_add_test(tcase, places_follow);
	tcase_add_loop_test(tcase, wrong_document_is_refused, 0, sizeof(wrong) / sizeof(wrong[0]));
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
