/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, disks appear in the tree where the administrator did not want them: clients look for their files in vain, or find
 * other people's; or a mistake in the map takes volumes out of the tree that are in use.
 */
#include "config.h"

#include "master/automount.h"
#include "master/making.h"
#include "master/vroot.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VOLUMES = 4 };

static char directory[64], database[96];
static struct namespace *ns;
static struct vroot *vroot;
static struct settings settings;
static struct automount *automount;

static void on_publish(const ns_change *change, void *arg)
{
	(void)change, (void)arg;
}

/* Volume N has UUID NN..., and is on node N + 1, "nodeN". */
static void add_volume(uint32_t id)
{
	char name[16], root[] = "root";
	ns_item node = { .kind = NS_NODE, .ns_item_u.node = { id + 1, name, NS_NODE_APPROVED, (char *)"", 0, "", (char *)"" } };
	ns_item volume = { .kind = NS_VOLUME, .ns_item_u.volume = { .id = id, .node = id + 1, .path = (char *)"/srv" } };

	snprintf(name, sizeof(name), "node%u", id);
	memset(volume.ns_item_u.volume.uuid, (int)(id * 0x11), NS_UUID_BYTES);
	volume.ns_item_u.volume.root.root_val = root;
	volume.ns_item_u.volume.root.root_len = 4;
	ck_assert_int_eq(vroot_change(vroot, NS_PUT, &node), 0);
	ck_assert_int_eq(vroot_change(vroot, NS_PUT, &volume), 0);
}

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");
	uint8_t uuid[NS_UUID_BYTES];

	snprintf(directory, sizeof(directory), "%.40s/test_automount.XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(database, sizeof(database), "%s/vroot.db", directory);
	ck_assert_int_eq(vroot_create(database, "test", uuid), 0);
	ns = namespace_new();
	ck_assert_int_eq(vroot_open(database, ns, on_publish, NULL, &vroot), 0);
	for (uint32_t id = 1; id <= VOLUMES; id++)
		add_volume(id);
	settings_init(&settings);
	ck_assert_int_eq(automount_new(&settings, vroot, ns, &automount), 0);
}

static void teardown(void)
{
	char command[100];

	automount_free(automount);
	settings_fini(&settings);
	vroot_close(vroot);
	namespace_free(ns);
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	ck_assert_int_eq(system(command), 0);
}

static void configure(const char *text, struct settings *out)
{
	char why[SETTINGS_WHY_MAX] = "";
	FILE *in = fmemopen((void *)text, strlen(text), "r");

	ck_assert_ptr_nonnull(in);
	ck_assert_msg(settings_parse("f", in, out, why) == 0, "%s", why);
	fclose(in);
}

static void use(const char *text)
{
	settings_fini(&settings);
	configure(text, &settings);
}

static const uint8_t *uuid_of(uint32_t id)
{
	return (const uint8_t *)namespace_volume(ns, id)->uuid;
}

/* "/place=volume ..." in the order of entries' ids, without directories. */
static const char *tree(void)
{
	static char text[1024];
	FILE *out = fmemopen(text, sizeof(text), "w");
	char path[NS_TEXT_MAX];
	const ns_entry *entry;

	ck_assert_ptr_nonnull(out);
	text[0] = '\0';
	for (size_t at = 0; (entry = namespace_next_entry(ns, &at));)
		if (entry->volume && namespace_path(ns, entry, path) == 0)
			fprintf(out, "%s%s=%u", ftell(out) > 0 ? " " : "", path, entry->volume);
	ck_assert_int_eq(fclose(out), 0);
	return text;
}

static const struct {
	const char *serial, *name;
} names[] = {
	{ "", "" },
	{ "WD-WCC4E1", "/disk-WD-WCC4E1" },
	{ "S/N: 1.2 \xe9", "/disk-S_N__1.2__" },
	{ "..", "/disk-.." },
};

START_TEST(a_serial_number_becomes_a_name)
{
	char name[AUTOMOUNT_NAME_MAX], long_serial[SETTINGS_NAME_MAX];

	automount_serial_name(names[_i].serial, name);
	ck_assert_str_eq(name, names[_i].name);
	memset(long_serial, 'x', sizeof(long_serial) - 1);
	long_serial[sizeof(long_serial) - 1] = '\0';
	automount_serial_name(long_serial, name);
	ck_assert_uint_eq(strlen(name), AUTOMOUNT_NAME_MAX - 1);
}
END_TEST

#define UUID_2 "22222222-2222-2222-2222-222222222222"

static const struct {
	const char *maps, *serial, *node;
	int line; /* of the map that counts; 0: none */
} fitting[] = {
	{ "", "A", "n", 0 },
	{ "[map]\nplaces = /a\nnode = n", "", "n", 1 },
	{ "[map]\nplaces = /a\nnode = n", "", "nn", 0 },
	{ "[map]\nplaces = /a\nnode = n?", "", "nn", 1 },
	{ "[map]\nplaces = /a\nserial = W*", "W1", "n", 1 },
	{ "[map]\nplaces = /a\nserial = *", "", "n", 0 }, /* what has none fits no pattern */
	{ "[map]\nplaces = /a\nserial = W*\nnode = m", "W1", "n", 0 },
	{ "[map]\nplaces = /a\nuuid = " UUID_2, "", "n", 1 },
	{ "[map]\nplaces = /a\nuuid = 22222222-2222-2222-2222-222222222223", "", "n", 0 },
	{ "[map]\nplaces = /a\nnode = m\n[map]\nplaces = /b\nnode = n\n[map]\nplaces = /c\nnode = *", "", "n", 4 },
};

START_TEST(the_first_map_that_fits_counts)
{
	uint8_t uuid[NS_UUID_BYTES];
	struct automount_facts facts = { uuid, fitting[_i].serial, fitting[_i].node, false };
	const struct settings_map *map;

	memset(uuid, 0x22, sizeof(uuid));
	if (fitting[_i].maps[0])
		use(fitting[_i].maps);
	map = automount_fitting(&settings, &facts);
	ck_assert_int_eq(map ? (int)map->line : 0, fitting[_i].line);
}
END_TEST

START_TEST(names_follow_the_policy)
{
	ck_assert_int_eq(automount_place(automount, 1, ""), 0);
	use("[automount]\nnames = serial\n");
	automount_note_serial(automount, uuid_of(2), "S2");
	automount_note_serial(automount, uuid_of(3), "S2"); /* two disks of one number */
	ck_assert_int_eq(automount_place(automount, 2, ""), 0);
	ck_assert_int_eq(automount_place(automount, 3, ""), 0);
	ck_assert_int_eq(automount_place(automount, 4, "/wanted"), 0);
	ck_assert_str_eq(tree(), "/disk0=1 /disk-S2=2 /disk1=3 /wanted=4");
	automount_note_serial(automount, uuid_of(1), "S1"); /* a volume keeps its name */
	ck_assert_int_eq(automount_place(automount, 1, "/elsewhere"), 0);
	ck_assert_str_eq(tree(), "/disk0=1 /disk-S2=2 /disk1=3 /wanted=4");
}
END_TEST

START_TEST(a_disk_without_a_number_has_its_nodes)
{
	ns_item item = { .kind = NS_NODE, .ns_item_u.node = *namespace_node(ns, 2) };

	item.ns_item_u.node.serial = (char *)"BOX-1";
	ck_assert_int_eq(vroot_change(vroot, NS_PUT, &item), 0);
	ck_assert_str_eq(automount_serial(automount, namespace_volume(ns, 1)), "BOX-1");
	automount_note_serial(automount, uuid_of(1), "S1");
	ck_assert_str_eq(automount_serial(automount, namespace_volume(ns, 1)), "S1");
	automount_note_serial(automount, uuid_of(1), "");
	ck_assert_str_eq(automount_serial(automount, namespace_volume(ns, 1)), "BOX-1");
}
END_TEST

START_TEST(a_map_comes_before_wishes)
{
	use("[map]\nplaces = /home /projects/a\nnode = node2\n");
	ck_assert_int_eq(automount_place(automount, 1, "/home"), 0); /* an intruder */
	ck_assert_int_eq(automount_place(automount, 2, "/wanted"), 0);
	ck_assert_str_eq(tree(), "/home=1 /projects/a=2");
	ck_assert_ptr_nonnull(automount_map_of(automount, namespace_volume(ns, 2)));
	ck_assert_ptr_null(automount_map_of(automount, namespace_volume(ns, 1)));
	ck_assert_int_eq(vroot_move_place(vroot, namespace_place(ns, 1)->id, "/other"), 0);
	automount_apply(automount);
	ck_assert_str_eq(tree(), "/other=1 /projects/a=2 /home=2");
}
END_TEST

/* One step of a configuration's life: the trees before and after. */
static const struct reload {
	const char *before, *after, *tree;
	const char *why; /* NULL: it is put in force */
} reloads[] = {
	{ "[map]\nplaces = /a\nnode = node1", "[map]\nplaces = /b\nnode = node1", "/disk0=2 /disk1=3 /disk2=4 /b=1", NULL },
	{ "[map]\nplaces = /a\nnode = node1", "[map]\nplaces = /a /b\nnode = node1", "/a=1 /disk0=2 /disk1=3 /disk2=4 /b=1", NULL },
	{ "[map]\nplaces = /a\nnode = node1", "[automount]\nnames = number", "/a=1 /disk0=2 /disk1=3 /disk2=4", NULL },
	{ "[map]\nplaces = /a\nnode = node1\n[map]\nplaces = /b\nnode = node2",
	  "[map]\nplaces = /b\nnode = node1\n[map]\nplaces = /a\nnode = node2", "/disk0=3 /disk1=4 /b=1 /a=2", NULL }, /* they change */
	{ "[map]\nplaces = /a/b\nnode = node1", "[map]\nplaces = /a\nnode = node1", "/disk0=2 /disk1=3 /disk2=4 /a=1", NULL },
	{ "[map]\nplaces = /a\nnode = node1", "[map]\nplaces = /a/b\nnode = node1", "/disk0=2 /disk1=3 /disk2=4 /a/b=1", NULL },
	{ "[map]\nplaces = /a\nnode = node1", "[map]\nplaces = /disk0\nnode = node1", NULL,
	  "line 1: volume 1 can't be at /disk0, for volume 2 is at /disk0; move it with nasctl volume move, or with a [map] of its own" },
	{ "[map]\nplaces = /a\nnode = node1", "[map]\nplaces = /disk0/x\nnode = node1", NULL,
	  "line 1: volume 1 can't be at /disk0/x, for volume 2 is at /disk0; move it with nasctl volume move, or with a [map] of its own" },
	{ "[map]\nplaces = /a/b\nnode = node1", "[map]\nplaces = /a\nnode = node2\n[map]\nplaces = /c /a/b\nnode = node3", NULL,
	  "line 1: volume 2 can't be at /a, for volume 1 is at /a/b; move it with nasctl volume move, or with a [map] of its own" },
	{ "[map]\nplaces = /a\nnode = node1", "[map]\nplaces = /b\nnode = node*", NULL,
	  "line 1: this [map] fits the volumes 1 and 2, which can't be at one place; name one by its uuid" },
};

START_TEST(a_map_is_read_again_whole_or_not_at_all)
{
	const struct reload *step = &reloads[_i];
	char why[SETTINGS_WHY_MAX] = "", before[1024];
	struct settings fresh;

	use(step->before);
	for (uint32_t id = 1; id <= VOLUMES; id++)
		ck_assert_int_eq(automount_place(automount, id, ""), 0);
	strcpy(before, tree());
	configure(step->after, &fresh);
	ck_assert_int_eq(automount_check(automount, &fresh, why), step->why ? -EINVAL : 0);
	ck_assert_str_eq(why, step->why ? step->why : "");
	ck_assert_str_eq(tree(), before); /* asking changes nothing */
	settings_fini(&fresh);
	if (step->why)
		return;
	use(step->after);
	automount_apply(automount);
	ck_assert_str_eq(tree(), step->tree);
	automount_apply(automount);
	ck_assert_str_eq(tree(), step->tree); /* nor does doing it twice */
}
END_TEST

/* At the start nobody can be asked: what can't be is left, and no volume is lost. */
START_TEST(an_impossible_map_loses_no_volume)
{
	uint64_t before;

	use("[map]\nplaces = /b\nnode = node*\n");
	for (uint32_t id = 1; id <= VOLUMES; id++)
		ck_assert_int_eq(automount_place(automount, id, ""), 0);
	ck_assert_str_eq(tree(), "/b=1 /disk0=2 /disk1=3 /disk2=4");
	before = namespace_revision(ns);
	automount_apply(automount);
	ck_assert_uint_eq(namespace_revision(ns), before); /* nor is one away for a moment */
}
END_TEST

static const struct {
	const char *place;
	int result, line;
} patterns[] = {
	{ "/home/alice", 0, 1 },
	{ "/p/q/x y", 0, 1 },
	{ "/z/x", 0, 4 },
	{ "/home/taken", -EEXIST, 0 },
	{ "/home", -ENOENT, 0 },
	{ "/home/", -ENOENT, 0 },
	{ "/homes/alice", -ENOENT, 0 },
	{ "/home/alice/b", -ENOENT, 0 },
	{ "/p/alice", -ENOENT, 0 },
	{ "/home/..", -EINVAL, 0 },
	{ "/home/.", -EINVAL, 0 },
	{ "/home/a\nb", -EINVAL, 0 },
	{ "home", -EINVAL, 0 },
};

START_TEST(a_pattern_is_of_one_name)
{
	const struct settings_map *map = NULL;

	use("[map]\nplaces = /home/* /p/q/*\nvolume = most-room\n[map]\nplaces = /z/*\nvolume = most-room\n");
	automount_apply(automount);
	ck_assert_int_eq(vroot_make_place(vroot, 1, "/home/taken"), 0);
	ck_assert_int_eq(automount_pattern(automount, patterns[_i].place, &map), patterns[_i].result);
	ck_assert_int_eq(map ? (int)map->line : 0, patterns[_i].line);
}
END_TEST

/* Also when the last volume in it has gone elsewhere; other directories go with what was in them. */
START_TEST(the_directory_of_a_pattern_stays)
{
	const char *rest;

	use("[map]\nplaces = /home/*\nvolume = most-room\n");
	automount_apply(automount);
	ck_assert_ptr_nonnull(namespace_walk(ns, "/home", &rest));
	ck_assert_int_eq(vroot_make_place(vroot, 1, "/home/a"), 0);
	ck_assert_int_eq(vroot_make_place(vroot, 2, "/else/a"), 0);
	ck_assert_int_eq(vroot_remove_places(vroot, 1), 0);
	ck_assert_int_eq(vroot_remove_places(vroot, 2), 0);
	ck_assert_ptr_nonnull(namespace_walk(ns, "/home", &rest));
	ck_assert_ptr_null(namespace_walk(ns, "/else", &rest));
}
END_TEST

START_TEST(a_volume_is_no_directory)
{
	struct settings other;
	char why[SETTINGS_WHY_MAX];

	ck_assert_int_eq(vroot_make_place(vroot, 1, "/home"), 0);
	settings_init(&other);
	configure("[map]\nplaces = /home/*\nvolume = most-room\n", &other);
	ck_assert_int_eq(automount_check(automount, &other, why), -EINVAL);
	ck_assert_str_eq(why, "line 1: /home can't be a directory, for volume 1 is there; move it with nasctl volume move");
	settings_fini(&other);
}
END_TEST

/* Else the first directory that is made would be moved where its disk belongs. */
START_TEST(a_made_volume_is_meant_by_its_uuid_alone)
{
	uint8_t uuid[NS_UUID_BYTES];
	const struct automount_facts made = { uuid, "W1", "n", true };

	memset(uuid, 0x22, sizeof(uuid));
	use("[map]\nplaces = /a\nnode = n\nserial = W1\n[map]\nplaces = /b\nuuid = " UUID_2 "\n");
	ck_assert_uint_eq(automount_fitting(&settings, &made)->line, 5);
}
END_TEST

static const struct {
	struct making_candidate candidates[3];
	uint32_t chosen; /* 0: none */
} choices[] = {
	{ { { 0 } }, 0 },
	{ { { 1, true, 0 } }, 0 },
	{ { { 1, true, 0 }, { 2, false, 0 } }, 2 },
	{ { { 1, true, 5 }, { 2, true, 7 }, { 3, true, 6 } }, 2 },
	{ { { 1, true, 5 }, { 2, true, 5 } }, 1 },
	{ { { 1, false, 0 }, { 2, true, 1 }, { 3, false, 0 } }, 2 },
	{ { { 1, false, 0 }, { 2, false, 0 } }, 1 },
};

START_TEST(the_most_room_is_chosen)
{
	const struct making_candidate *chosen;
	size_t count = 0;

	while (count < 3 && choices[_i].candidates[count].volume)
		count++;
	chosen = making_most_room(choices[_i].candidates, count);
	ck_assert_uint_eq(chosen ? chosen->volume : 0, choices[_i].chosen);
}
END_TEST

START_TEST(strangers_do_not_fill_the_memory)
{
	uint8_t uuid[NS_UUID_BYTES] = { 0 };

	for (int i = 0; i < 1000; i++) {
		memcpy(uuid, &i, sizeof(i));
		automount_note_serial(automount, uuid, "S");
	}
	automount_note_serial(automount, uuid_of(1), "S1");
	ck_assert_str_eq(automount_serial(automount, namespace_volume(ns, 1)), "S1");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("automount");
	TCase *tcase = tcase_create("automount");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, a_serial_number_becomes_a_name, 0, sizeof(names) / sizeof(names[0]));
	tcase_add_loop_test(tcase, the_first_map_that_fits_counts, 0, sizeof(fitting) / sizeof(fitting[0]));
	tcase_add_test(tcase, names_follow_the_policy);
	tcase_add_test(tcase, a_disk_without_a_number_has_its_nodes);
	tcase_add_test(tcase, a_map_comes_before_wishes);
	tcase_add_loop_test(tcase, a_map_is_read_again_whole_or_not_at_all, 0, sizeof(reloads) / sizeof(reloads[0]));
	tcase_add_test(tcase, an_impossible_map_loses_no_volume);
	tcase_add_loop_test(tcase, a_pattern_is_of_one_name, 0, sizeof(patterns) / sizeof(patterns[0]));
	tcase_add_test(tcase, the_directory_of_a_pattern_stays);
	tcase_add_test(tcase, a_volume_is_no_directory);
	tcase_add_test(tcase, a_made_volume_is_meant_by_its_uuid_alone);
	tcase_add_loop_test(tcase, the_most_room_is_chosen, 0, sizeof(choices) / sizeof(choices[0]));
	tcase_add_test(tcase, strangers_do_not_fill_the_memory);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
