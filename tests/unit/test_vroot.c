/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, the cluster's tree is lost or damaged when the switch crashes, a volume's id is given out twice and old
 * file handles reach another's files, or a join token works more often or longer than it should.
 */
#include "config.h"

#include "master/vroot.h"

#include "common/clock.h"
#include "common/stored_file.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64], database[96];

/* A cluster, open. */
static struct namespace *ns;
static struct vroot *vroot;
static unsigned int published;
static uint64_t last_published;

static void on_publish(const ns_change *change, void *arg)
{
	ck_assert_ptr_eq(arg, &published);
	ck_assert_uint_eq(change->revision, namespace_revision(ns)); /* who is told can look it up */
	published++;
	last_published = change->revision;
}

static int open_vroot(void)
{
	ns = namespace_new();
	return vroot_open(database, ns, on_publish, &published, &vroot);
}

static void close_vroot(void)
{
	vroot_close(vroot);
	vroot = NULL;
	namespace_free(ns);
	ns = NULL;
}

static void reopen(void)
{
	close_vroot();
	ck_assert_int_eq(open_vroot(), 0);
}

static void setup(void)
{
	uint8_t uuid[NS_UUID_BYTES];
	const char *tmp = getenv("TMPDIR");

	snprintf(directory, sizeof(directory), "%.40s/test_vroot.XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(database, sizeof(database), "%s/vroot.db", directory);
	ck_assert_int_eq(vroot_create(database, "test", uuid), 0);
	ck_assert_int_eq(open_vroot(), 0);
	ck_assert_mem_eq(namespace_cluster(ns)->uuid, uuid, sizeof(uuid));
	published = 0;
}

static void teardown(void)
{
	static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
	char path[sizeof(database) + 16];

	close_vroot();
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", database, suffixes[i]);
		unlink(path);
	}
	rmdir(directory);
}

static void expect_same_on_disk(void)
{
	uint8_t *before, *after;
	size_t before_len, after_len;

	ck_assert_int_eq(namespace_snapshot(ns, &before, &before_len), 0);
	reopen();
	ck_assert_int_eq(namespace_snapshot(ns, &after, &after_len), 0);
	ck_assert_uint_eq(before_len, after_len);
	ck_assert_mem_eq(before, after, before_len);
	free(before);
	free(after);
}

static ns_item node(uint32_t id, const char *name)
{
	ns_item item = { .kind = NS_NODE };

	item.ns_item_u.node = (ns_node){ .id = id,
					 .name = (char *)name,
					 .state = NS_NODE_APPROVED,
					 .address = "fd00::7",
					 .port = 2050,
					 .mac = { 2, 0, 0, 0, 0, 7 },
					 .serial = "S/N 1 'quoted'" };
	return item;
}

static ns_item volume(uint32_t id, uint8_t uuid)
{
	static char root[48] = { 0, 1, 0, 2 };
	ns_item item = { .kind = NS_VOLUME };

	item.ns_item_u.volume = (ns_volume){ .id = id, .node = 1, .path = "/data", .root_type = 0x81 };
	item.ns_item_u.volume.uuid[0] = (char)uuid;
	item.ns_item_u.volume.root.root_val = root;
	item.ns_item_u.volume.root.root_len = sizeof(root);
	return item;
}

static ns_item entry(uint64_t id, const char *name)
{
	ns_item item = { .kind = NS_ENTRY };

	item.ns_item_u.entry = (ns_entry){ .id = id, .parent = NAMESPACE_ROOT_ENTRY, .name = (char *)name };
	return item;
}

static ns_item export(uint32_t id, const char *path)
{
	ns_item item = { .kind = NS_EXPORT };

	item.ns_item_u.export_ = (ns_export){ .id = id, .path = (char *)path, .clients = "*(rw)" };
	return item;
}

static ns_item user(uint32_t uid, const char *name)
{
	static u_int groups[] = { 0, 7, UINT32_MAX };
	ns_item item = { .kind = NS_USER };

	item.ns_item_u.user = (ns_user){
		.uid = uid, .name = (char *)name, .gid = 100, .comment = "a 'quoted' one", .password = "$y$salt$hash"
	};
	item.ns_item_u.user.groups.groups_val = groups;
	item.ns_item_u.user.groups.groups_len = sizeof(groups) / sizeof(groups[0]);
	return item;
}

static ns_item group(uint32_t gid, const char *name)
{
	return (ns_item){ .kind = NS_GROUP, .ns_item_u.group = { .gid = gid, .name = (char *)name } };
}

static ns_item class(uint32_t id, const char *name)
{
	ns_item item = { .kind = NS_CLASS };

	item.ns_item_u.class_ = (ns_class){
		.id = id, .name = (char *)name, .members = "user=1", .weight = 10, .operations = 7, .bytes = 1ULL << 40
	};
	return item;
}

static ns_item revocation(uint32_t node, uint64_t first_good)
{
	return (ns_item){ .kind = NS_REVOCATION,
			  .ns_item_u.revocation = { .node = node, .first_good = first_good, .revoked_ns = 7 } };
}

static void put(ns_item item)
{
	ck_assert_int_eq(vroot_change(vroot, NS_PUT, &item), 0);
}

/* A new cluster */

START_TEST(a_new_cluster)
{
	uint8_t uuid[NS_UUID_BYTES], zero[NS_KEY_BYTES] = { 0 };
	size_t at = 0;
	struct stat st;

	ck_assert_int_eq(vroot_create(database, "again", uuid), -EEXIST);
	ck_assert_str_eq(namespace_cluster(ns)->name, "test");
	ck_assert_uint_eq(namespace_revision(ns), 1);
	ck_assert_int_ne(memcmp(namespace_handle_key(ns)->bytes, zero, sizeof(zero)), 0);
	ck_assert_uint_eq(namespace_node(ns, NAMESPACE_MASTER)->state, NS_NODE_APPROVED);
	ck_assert_ptr_nonnull(namespace_entry(ns, NAMESPACE_ROOT_ENTRY));
	ck_assert_ptr_null(namespace_next_export(ns, &at)); /* nothing is exported unasked */
	/* The handle key is in it. */
	ck_assert_int_eq(stat(database, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(what_is_no_cluster)
{
	static const char garbage[8192] = "this is no database";
	char other[sizeof(database) + 16];
	struct vroot *none = NULL;
	struct namespace *empty = namespace_new();

	snprintf(other, sizeof(other), "%s/other.db", directory);
	ck_assert_int_eq(vroot_open(other, empty, on_publish, NULL, &none), -ENOENT);
	ck_assert_int_eq(access(other, F_OK), -1); /* and it was not made */
	ck_assert_int_eq(stored_file_write(other, garbage, sizeof(garbage)), 0);
	ck_assert_int_lt(vroot_open(other, empty, on_publish, NULL, &none), 0);
	/* An empty file: a disk that was full when the cluster was made. */
	ck_assert_int_eq(truncate(other, 0), 0);
	ck_assert_int_lt(vroot_open(other, empty, on_publish, NULL, &none), 0);
	ck_assert_ptr_null(none);
	ck_assert_ptr_null(namespace_cluster(empty));
	unlink(other);
	namespace_free(empty);
}
END_TEST

/* Changes */

START_TEST(every_kind_persists)
{
	ns_item cluster = { .kind = NS_CLUSTER, .ns_item_u.cluster = *namespace_cluster(ns) };

	cluster.ns_item_u.cluster.name = "renamed";
	cluster.ns_item_u.cluster.vips = "10.0.0.1 fd00::1";
	put(cluster);
	put(node(7, "disk7"));
	put(volume(1, 1));
	put(entry(2, "not UTF-8: \xff\xfe"));
	put(export(1, "/"));
	put(user(10000, "anna"));
	put(group(10001, "team"));
	put(class(1, "bulk"));
	put(revocation(7, INT64_MAX));
	ck_assert_uint_eq(published, 9);
	ck_assert_uint_eq(namespace_revision(ns), 10);
	expect_same_on_disk();
	ck_assert_uint_eq(namespace_user(ns, 10000)->groups.groups_len, 3);
	ck_assert_uint_eq(namespace_user(ns, 10000)->groups.groups_val[2], UINT32_MAX);
	ck_assert_str_eq(namespace_user(ns, 10000)->password, "$y$salt$hash");
	ck_assert_str_eq(namespace_group(ns, 10001)->name, "team");
	ck_assert_str_eq(namespace_cluster(ns)->name, "renamed");
	ck_assert_str_eq(namespace_node(ns, 7)->serial, "S/N 1 'quoted'");
	ck_assert_uint_eq(namespace_volume(ns, 1)->root.root_len, 48);
	ck_assert_str_eq(namespace_entry(ns, 2)->name, "not UTF-8: \xff\xfe");
}
END_TEST

START_TEST(every_kind_is_deleted)
{
	ns_item items[] = { node(7, "disk7"), volume(1, 1),	   entry(2, "d"),
			    export(1, "/"),   user(10000, "anna"), group(10001, "team"), class(1, "bulk"), revocation(7, 2) };
	size_t at = 0;

	for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
		put(items[i]);
		ck_assert_int_eq(vroot_change(vroot, NS_DELETE, &items[i]), 0);
	}
	expect_same_on_disk();
	ck_assert_ptr_null(namespace_node(ns, 7));
	ck_assert_ptr_null(namespace_volume(ns, 1));
	ck_assert_ptr_null(namespace_entry(ns, 2));
	ck_assert_ptr_null(namespace_next_export(ns, &at));
	ck_assert_ptr_null(namespace_next_user(ns, &at));
	ck_assert_ptr_null(namespace_next_group(ns, &at));
	ck_assert_ptr_null(namespace_next_class(ns, &at));
}
END_TEST

/* A cluster that was made before there were users and groups. */
START_TEST(an_old_database_gets_what_it_has_not)
{
	sqlite3 *db;

	put(export(1, "/"));
	close_vroot();
	ck_assert_int_eq(sqlite3_open(database, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, "DROP TABLE users; DROP TABLE groups; DROP TABLE classes; DROP TABLE candidates; DROP TABLE weights; DROP TABLE revocations; DROP TABLE certificates; DROP TABLE spreads; DROP TABLE branches; PRAGMA user_version = 1", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	ck_assert_int_eq(open_vroot(), 0);
	put(user(10000, "anna"));
	put(group(10001, "team"));
	put(class(1, "bulk"));
	expect_same_on_disk();
}
END_TEST

/* An item that borrows from what it replaces, as commands make them. */
START_TEST(a_change_may_borrow_from_what_it_replaces)
{
	ns_item item = node(7, "disk7");

	put(item);
	item.ns_item_u.node = *namespace_node(ns, 7);
	item.ns_item_u.node.state = NS_NODE_PENDING;
	put(item);
	ck_assert_str_eq(namespace_node(ns, 7)->name, "disk7");
	ck_assert_uint_eq(namespace_node(ns, 7)->state, NS_NODE_PENDING);
}
END_TEST

/* What the replica refuses must not stay on disk, nor take away what was there. */
START_TEST(bad_changes_leave_no_trace)
{
	ns_item bad[] = { entry(2, ".."), node(0, "x"), export(2, "/"), volume(2, 1), user(1, ""), { .kind = 99 } };
	ns_item cluster = { .kind = NS_CLUSTER, .ns_item_u.cluster = *namespace_cluster(ns) };

	put(export(1, "/"));
	put(volume(1, 1));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_lt(vroot_change(vroot, NS_PUT, &bad[i]), 0);
	ck_assert_int_lt(vroot_change(vroot, NS_DELETE, &cluster), 0);
	ck_assert_uint_eq(published, 2);
	put(node(7, "disk7"));
	ck_assert_uint_eq(last_published, 4);
	expect_same_on_disk();
}
END_TEST

START_TEST(ids_are_never_used_again)
{
	uint64_t id, last = 0;
	ns_item item;

	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(vroot_next_id(vroot, NS_VOLUME, &id), 0);
		ck_assert_uint_gt(id, last);
		last = id;
		item = volume((uint32_t)id, 1);
		put(item);
		ck_assert_int_eq(vroot_change(vroot, NS_DELETE, &item), 0);
		reopen();
	}
	/* Each kind counts alone; node 1 and entry 1 are taken. */
	ck_assert_int_eq(vroot_next_id(vroot, NS_NODE, &id), 0);
	ck_assert_uint_eq(id, 2);
	ck_assert_int_eq(vroot_next_id(vroot, NS_ENTRY, &id), 0);
	ck_assert_uint_eq(id, 2);
	ck_assert_int_eq(vroot_next_id(vroot, NS_EXPORT, &id), 0);
	ck_assert_uint_eq(id, 1);
}
END_TEST

/* Places: one step a line */

static const struct place_step {
	const char *what;
	uint32_t volume;
	const char *place; /* NULL: remove the volume's places; "-PLACE": that one alone; "OLD>NEW": move it */
	int rc;
	const char *tree; /* afterwards, "path=volume", directories without "=" */
} place_steps[] = {
	{ "the first disk", 1, "", 0, "/disk0=1" },
	{ "the second", 2, "", 0, "/disk0=1 /disk1=2" },
	{ "the first goes", 1, NULL, 0, "/disk1=2" },
	{ "its number is free", 3, "", 0, "/disk0=3 /disk1=2" },
	{ "somewhere deep", 4, "/a/b/c", 0, "/a /a/b /a/b/c=4 /disk0=3 /disk1=2" },
	{ "with slashes too many", 5, "//a//d/", 0, "/a /a/b /a/b/c=4 /a/d=5 /disk0=3 /disk1=2" },
	{ "where it is already", 5, "/a/d", 0, "/a /a/b /a/b/c=4 /a/d=5 /disk0=3 /disk1=2" },
	{ "a second place", 5, "/e", 0, "/a /a/b /a/b/c=4 /a/d=5 /disk0=3 /disk1=2 /e=5" },
	{ "where another is", 6, "/e", -EEXIST, NULL },
	{ "where a directory is", 6, "/a/b", -EEXIST, NULL },
	{ "below a mount point", 6, "/disk0/x", -ENOTDIR, NULL },
	{ "below a mount point, deeper", 6, "/a/d/x/y", -ENOTDIR, NULL },
	{ "not absolute", 6, "x", -EINVAL, NULL },
	{ "the root", 6, "/", -EINVAL, NULL },
	{ "the root, written longer", 6, "///", -EINVAL, NULL },
	{ "up", 6, "/new/../x", -EINVAL, NULL },
	{ "here", 6, "/new/./x", -EINVAL, NULL },
	{ "up at the end", 6, "/new/..", -EINVAL, NULL },
	{ "moved within its directory", 5, "/e>/f", 0, "/a /a/b /a/b/c=4 /a/d=5 /disk0=3 /disk1=2 /f=5" },
	{ "moved to where it is", 5, "/f>//f/", 0, NULL },
	{ "moved to a new directory", 5, "/f>/g/h", 0, "/a /a/b /a/b/c=4 /a/d=5 /disk0=3 /disk1=2 /g /g/h=5" },
	{ "moved, and what was above it goes", 5, "/g/h>/e", 0, "/a /a/b /a/b/c=4 /a/d=5 /disk0=3 /disk1=2 /e=5" },
	{ "moved to where another is", 5, "/e>/disk0", -EEXIST, NULL },
	{ "moved into itself", 5, "/e>/e/x", -ENOTDIR, NULL },
	{ "moved to the root", 5, "/e>/", -EINVAL, NULL },
	{ "a directory is no place to move", 0, "/a>/z", -ENOENT, NULL },
	{ "one of two places goes", 5, "-/e", 0, "/a /a/b /a/b/c=4 /a/d=5 /disk0=3 /disk1=2" },
	{ "a directory is no place", 0, "-/a", -ENOENT, NULL },
	{ "a second place again", 5, "/e", 0, "/a /a/b /a/b/c=4 /a/d=5 /disk0=3 /disk1=2 /e=5" },
	{ "all places go, directories with others stay", 5, NULL, 0, "/a /a/b /a/b/c=4 /disk0=3 /disk1=2" },
	{ "and empty ones go", 4, NULL, 0, "/disk0=3 /disk1=2" },
	{ "what has no place", 4, NULL, 0, "/disk0=3 /disk1=2" },
};

static int text_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void tree_text(char *out, size_t size)
{
	char *lines[64], path[NS_TEXT_MAX];
	const ns_entry *e;
	size_t count = 0;

	for (size_t at = 0; (e = namespace_next_entry(ns, &at));) {
		ck_assert_int_eq(namespace_path(ns, e, path), 0);
		if (e->id != NAMESPACE_ROOT_ENTRY && e->volume)
			ck_assert_int_gt(asprintf(&lines[count++], "%s=%u", path, e->volume), 0);
		else if (e->id != NAMESPACE_ROOT_ENTRY)
			lines[count++] = strdup(path);
	}
	qsort(lines, count, sizeof(lines[0]), text_compare);
	out[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_lt(strlen(out) + strlen(lines[i]) + 2, size);
		strcat(strcat(out, i ? " " : ""), lines[i]);
		free(lines[i]);
	}
}

static uint64_t entry_at(const char *path, size_t len)
{
	char copy[NS_TEXT_MAX];
	const char *rest;
	const ns_entry *entry;

	snprintf(copy, sizeof(copy), "%.*s", (int)len, path);
	entry = namespace_walk(ns, copy, &rest);
	ck_assert_ptr_nonnull(entry);
	return entry->id;
}

static int take_step(const struct place_step *step)
{
	const char *arrow = step->place ? strchr(step->place, '>') : NULL;

	if (!step->place)
		return vroot_remove_places(vroot, step->volume);
	if (arrow)
		return vroot_move_place(vroot, entry_at(step->place, (size_t)(arrow - step->place)), arrow + 1);
	if (step->place[0] == '-')
		return vroot_remove_place(vroot, entry_at(step->place + 1, strlen(step->place + 1)));
	return vroot_make_place(vroot, step->volume, step->place);
}

/* Clients learn of a change by the directory's time, and go on with a listing by the entries' ids. */
START_TEST(a_moved_place_is_the_same_entry)
{
	uint64_t root_ns, above_ns, id;

	ck_assert_int_eq(vroot_make_place(vroot, 1, "/a/b"), 0);
	ck_assert_int_eq(vroot_make_place(vroot, 2, "/a/c"), 0);
	id = entry_at("/a/b", 4);
	root_ns = namespace_entry(ns, NAMESPACE_ROOT_ENTRY)->changed_ns;
	above_ns = namespace_entry(ns, entry_at("/a", 2))->changed_ns;
	ck_assert_int_eq(vroot_move_place(vroot, id, "/b"), 0);
	ck_assert_uint_eq(entry_at("/b", 2), id);
	ck_assert_uint_gt(namespace_entry(ns, NAMESPACE_ROOT_ENTRY)->changed_ns, root_ns);
	ck_assert_uint_gt(namespace_entry(ns, entry_at("/a", 2))->changed_ns, above_ns);
}
END_TEST

START_TEST(places)
{
	char before[1024] = "", after[1024];

	for (size_t i = 0; i < sizeof(place_steps) / sizeof(place_steps[0]); i++) {
		const struct place_step *step = &place_steps[i];
		int rc = take_step(step);

		ck_assert_msg(rc == step->rc, "%s: %d", step->what, rc);
		tree_text(after, sizeof(after));
		ck_assert_msg(strcmp(after, step->tree ? step->tree : before) == 0, "%s: %s", step->what, after);
		strcpy(before, after);
	}
	expect_same_on_disk();
}
END_TEST

/* A place whose last name has @len bytes. */
static const char *long_place(const char *above, size_t len)
{
	static char place[2 * NS_TEXT_MAX];

	ck_assert_uint_lt(strlen(above) + len, sizeof(place));
	strcpy(place, above);
	memset(place + strlen(above), 'x', len);
	place[strlen(above) + len] = '\0';
	return place;
}

START_TEST(places_too_long)
{
	char before[1024], after[1024];

	tree_text(before, sizeof(before));
	ck_assert_int_eq(vroot_make_place(vroot, 1, long_place("/", NS_TEXT_MAX)), -ENAMETOOLONG);
	ck_assert_int_eq(vroot_make_place(vroot, 1, long_place("/", NS_NAME_MAX + 1)), -ENAMETOOLONG);
	ck_assert_int_eq(vroot_make_place(vroot, 1, long_place("/new/", NS_NAME_MAX + 1)), -ENAMETOOLONG);
	tree_text(after, sizeof(after));
	ck_assert_str_eq(after, before); /* no directories made for nothing */
	ck_assert_int_eq(vroot_make_place(vroot, 1, long_place("/", NS_NAME_MAX)), 0);
}
END_TEST

/* Clients notice by its time that a directory of theirs is out of date. */
START_TEST(directories_change_their_time)
{
	uint64_t before = namespace_entry(ns, NAMESPACE_ROOT_ENTRY)->changed_ns, made;

	ck_assert_int_eq(vroot_make_place(vroot, 1, "/a/b"), 0);
	made = namespace_entry(ns, NAMESPACE_ROOT_ENTRY)->changed_ns;
	ck_assert_uint_gt(made, before);
	ck_assert_int_eq(vroot_remove_places(vroot, 1), 0);
	ck_assert_uint_gt(namespace_entry(ns, NAMESPACE_ROOT_ENTRY)->changed_ns, made);
}
END_TEST

/* Tokens */

static bool file_contains(const char *path, const char *text)
{
	uint8_t *bytes;
	size_t len;
	bool found;

	if (stored_file_read(path, &bytes, &len) < 0)
		return false;
	found = memmem(bytes, len, text, strlen(text)) != NULL;
	free(bytes);
	return found;
}

START_TEST(a_token_works_once)
{
	char secret[VROOT_TOKEN_TEXT], other[VROOT_TOKEN_TEXT], wal[sizeof(database) + 8];
	bool pending = true;

	ck_assert_int_eq(vroot_token_make(vroot, 60, false, secret), 0);
	ck_assert_int_eq(vroot_token_make(vroot, 60, true, other), 0);
	ck_assert_str_ne(secret, other);
	ck_assert_uint_eq(strlen(secret), VROOT_TOKEN_TEXT - 1);
	/* Who reads the database learns no token. */
	snprintf(wal, sizeof(wal), "%s-wal", database);
	ck_assert(!file_contains(database, secret) && !file_contains(wal, secret));
	reopen();
	ck_assert_int_eq(vroot_token_use(vroot, secret, &pending), 0);
	ck_assert(!pending);
	ck_assert_int_eq(vroot_token_use(vroot, secret, &pending), -EACCES);
	ck_assert_int_eq(vroot_token_use(vroot, other, &pending), 0);
	ck_assert(pending);
	reopen();
	ck_assert_int_eq(vroot_token_use(vroot, other, &pending), -EACCES);
	ck_assert_int_eq(vroot_token_use(vroot, "", &pending), -EACCES);
}
END_TEST

START_TEST(a_token_expires)
{
	uint64_t second = clock_wall_ns() / 1000000000;
	char secret[VROOT_TOKEN_TEXT];
	bool pending;

	ck_assert_int_eq(vroot_token_make(vroot, 0, false, secret), 0);
	while (clock_wall_ns() / 1000000000 <= second + 1)
		usleep(10000);
	ck_assert_int_eq(vroot_token_use(vroot, secret, &pending), -ETIME);
	ck_assert_int_eq(vroot_token_use(vroot, secret, &pending), -EACCES);
}
END_TEST

/* Crashes */

enum { KILLS = 8, NAME_SIZE = 40 };

/* The change that makes this revision: some are put, some deleted. */
static ns_change change_of(uint64_t revision, char name[NAME_SIZE])
{
	uint64_t id = 2 + revision % 37;
	ns_change change = { .revision = revision, .operation = revision % 3 ? NS_PUT : NS_DELETE };

	snprintf(name, NAME_SIZE, "n%ju", (uintmax_t)revision);
	change.item = entry(id, name);
	return change;
}

static int ack_pipe[2];

static void on_publish_ack(const ns_change *change, void *arg)
{
	(void)arg;
	if (write(ack_pipe[1], &change->revision, sizeof(change->revision)) < 0)
		_exit(EXIT_FAILURE);
}

static void change_for_ever(void)
{
	struct namespace *own = namespace_new();
	struct vroot *v;
	char name[NAME_SIZE];

	if (vroot_open(database, own, on_publish_ack, NULL, &v) < 0)
		_exit(EXIT_FAILURE);
	for (;;) {
		ns_change change = change_of(namespace_revision(own) + 1, name);

		if (vroot_change(v, change.operation, &change.item) < 0)
			_exit(EXIT_FAILURE);
	}
}

/* Return: the last revision that was acknowledged; @before if none was */
static uint64_t kill_in_the_middle(uint64_t before)
{
	uint64_t acknowledged = before, revision;
	int status;
	pid_t pid;

	ck_assert_int_eq(pipe(ack_pipe), 0);
	pid = fork();
	if (pid == 0)
		change_for_ever();
	close(ack_pipe[1]);
	/* Somewhere in the middle of a change, soon after one was acknowledged. */
	for (int i = rand() % 30; i >= 0; i--)
		ck_assert_int_eq(read(ack_pipe[0], &acknowledged, sizeof(acknowledged)), sizeof(acknowledged));
	usleep((useconds_t)(rand() % 5000));
	kill(pid, SIGKILL);
	while (read(ack_pipe[0], &revision, sizeof(revision)) == sizeof(revision))
		acknowledged = revision;
	close(ack_pipe[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	return acknowledged;
}

START_TEST(what_was_decided_is_kept)
{
	uint8_t key[VROOT_KEY_BYTES] = { 1 }, other[VROOT_KEY_BYTES] = { 2 };
	ns_item item = { .kind = NS_NODE, .ns_item_u.node = { .id = 7, .name = "disk", .address = "", .serial = "" } };
	uint32_t node = 99;

	ck_assert_int_eq(vroot_candidate_get(vroot, key, &node), -ENOENT);
	ck_assert_int_eq(vroot_change(vroot, NS_PUT, &item), 0);
	ck_assert_int_eq(vroot_candidate_set(vroot, key, 7), 0);
	ck_assert_int_eq(vroot_candidate_set(vroot, other, 0), 0);
	reopen();
	ck_assert_int_eq(vroot_candidate_get(vroot, key, &node), 0);
	ck_assert_uint_eq(node, 7);
	ck_assert_int_eq(vroot_candidate_get(vroot, other, &node), 0);
	ck_assert_uint_eq(node, 0);
	/* A node that was removed has to apply anew. */
	ck_assert_int_eq(vroot_change(vroot, NS_DELETE, &item), 0);
	ck_assert_int_eq(vroot_candidate_get(vroot, key, &node), -ENOENT);
	ck_assert_int_eq(vroot_candidate_get(vroot, other, &node), 0);
}
END_TEST

START_TEST(an_approval_is_taken_back)
{
	const uint8_t key[VROOT_KEY_BYTES] = "the key of node 7", other[VROOT_KEY_BYTES] = "the key of node 8";
	uint32_t node = 99;

	ck_assert_int_eq(vroot_candidate_set(vroot, key, 7), 0);
	ck_assert_int_eq(vroot_candidate_set(vroot, other, 8), 0);
	ck_assert_int_eq(vroot_candidates_reject(vroot, 7), 0);
	ck_assert_int_eq(vroot_candidate_get(vroot, key, &node), 0);
	ck_assert_uint_eq(node, 0);
	ck_assert_int_eq(vroot_candidate_get(vroot, other, &node), 0);
	ck_assert_uint_eq(node, 8);
}
END_TEST

/* Certificates */

struct seen {
	struct certificates_facts certificates[64];
	size_t count;
};

static void on_certificate(const struct certificates_facts *certificate, void *arg)
{
	struct seen *seen = arg;

	ck_assert_uint_lt(seen->count, 64);
	seen->certificates[seen->count++] = *certificate;
}

static void put_certificate(uint32_t node, uint64_t number, int64_t expires_s)
{
	struct certificates_facts certificate = { .node = node, .number = number, .issued_s = 1000, .expires_s = expires_s };

	snprintf(certificate.serial, sizeof(certificate.serial), "%016jx%016x", (uintmax_t)number, node);
	ck_assert_int_eq(vroot_certificate_put(vroot, &certificate), 0);
}

static struct seen certificates(void)
{
	struct seen seen = { .count = 0 };

	ck_assert_int_eq(vroot_certificates_visit(vroot, on_certificate, &seen), 0);
	return seen;
}

START_TEST(certificates_are_listed_and_bounded)
{
	const int64_t later_s = INT32_MAX;
	struct seen seen;

	ck_assert_uint_eq(certificates().count, 0);
	put_certificate(7, 3, 2000); /* expired, and the only one */
	ck_assert_uint_eq(certificates().count, 1);
	put_certificate(7, 5, later_s);
	put_certificate(7, 4, later_s); /* a device that shows an older one */
	put_certificate(7, 4, later_s); /* ... twice */
	put_certificate(6, 1, later_s);
	seen = certificates();
	ck_assert_uint_eq(seen.count, 3);
	ck_assert_uint_eq(seen.certificates[0].node, 6);
	ck_assert_uint_eq(seen.certificates[1].number, 5);
	ck_assert_uint_eq(seen.certificates[2].number, 4);
	ck_assert_str_eq(seen.certificates[1].serial, "00000000000000050000000000000007");
	ck_assert_int_eq(seen.certificates[1].issued_s, 1000);
	ck_assert_int_eq(seen.certificates[1].expires_s, later_s);
	for (uint64_t number = 6; number < 6 + 3 * VROOT_CERTIFICATES_MAX; number++)
		put_certificate(7, number, later_s);
	seen = certificates();
	ck_assert_uint_eq(seen.count, 1 + VROOT_CERTIFICATES_MAX);
	ck_assert_uint_eq(seen.certificates[1].number, 5 + 3 * VROOT_CERTIFICATES_MAX);
	put(node(7, "disk7"));
	ck_assert_int_eq(vroot_change(vroot, NS_DELETE, &(ns_item){ .kind = NS_NODE, .ns_item_u.node = { .id = 7, .name = "",
							  .address = "", .serial = "" } }), 0);
	ck_assert_uint_eq(certificates().count, 1); /* node 6's */
}
END_TEST

/* What others have changed is seen by another connection of SQLite's. */
static int64_t data_version(sqlite3 *db)
{
	sqlite3_stmt *statement;
	int64_t version;

	ck_assert_int_eq(sqlite3_prepare_v2(db, "PRAGMA data_version", -1, &statement, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_step(statement), SQLITE_ROW);
	version = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return version;
}

/* Devices show theirs each time they connect; were each written and synced, those that come and go would stall the switch. */
START_TEST(a_certificate_that_is_known_is_not_written_again)
{
	int64_t version;
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(database, &db), SQLITE_OK);
	version = data_version(db);
	put_certificate(7, 3, INT32_MAX);
	ck_assert_int_ne(data_version(db), version);
	version = data_version(db);
	put_certificate(7, 3, INT32_MAX);
	ck_assert_int_eq(data_version(db), version);
	sqlite3_close(db);
}
END_TEST

START_TEST(rejections_are_bounded)
{
	enum { MANY = 1100, KEPT = 1024 };
	uint8_t key[VROOT_KEY_BYTES] = { 0 };
	unsigned int kept = 0;
	uint32_t node;

	key[31] = 1;
	ck_assert_int_eq(vroot_candidate_set(vroot, key, 5), 0);
	for (uint16_t i = 0; i < MANY; i++) {
		memcpy(key, &i, sizeof(i));
		key[31] = 0;
		ck_assert_int_eq(vroot_candidate_set(vroot, key, 0), 0);
	}
	for (uint16_t i = 0; i < MANY; i++) {
		memcpy(key, &i, sizeof(i));
		kept += vroot_candidate_get(vroot, key, &node) == 0;
	}
	ck_assert_uint_eq(kept, KEPT);
	memset(key, 0, sizeof(key));
	key[31] = 1;
	ck_assert_int_eq(vroot_candidate_get(vroot, key, &node), 0); /* members don't count */
	ck_assert_uint_eq(node, 5);
}
END_TEST

static void note_weight(uint32_t node, unsigned int weight, void *arg)
{
	unsigned int *weights = arg;

	ck_assert_uint_lt(node, 4);
	weights[node] = weight;
}

START_TEST(weights_are_kept)
{
	ns_item item = { .kind = NS_NODE };
	unsigned int weights[4] = { 0 };

	ck_assert_int_eq(vroot_weight_set(vroot, 2, 300), 0);
	ck_assert_int_eq(vroot_weight_set(vroot, 3, 50), 0);
	ck_assert_int_eq(vroot_weight_set(vroot, 2, 7), 0);
	reopen();
	ck_assert_int_eq(vroot_weights(vroot, note_weight, weights), 0);
	ck_assert(weights[1] == 0 && weights[2] == 7 && weights[3] == 50);

	/* With a node goes its weight. */
	item.ns_item_u.node = (ns_node){ .id = 2, .name = (char *)"two", .state = NS_NODE_APPROVED, .address = (char *)"", .serial = (char *)"" };
	ck_assert_int_eq(vroot_change(vroot, NS_PUT, &item), 0);
	ck_assert_int_eq(vroot_change(vroot, NS_DELETE, &item), 0);
	memset(weights, 0, sizeof(weights));
	ck_assert_int_eq(vroot_weights(vroot, note_weight, weights), 0);
	ck_assert(weights[2] == 0 && weights[3] == 50);
}
END_TEST

static void run_sql(const char *sql)
{
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(database, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static int version_of_database(void)
{
	sqlite3_stmt *statement;
	sqlite3 *db;
	int version;

	ck_assert_int_eq(sqlite3_open(database, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &statement, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_step(statement), SQLITE_ROW);
	version = sqlite3_column_int(statement, 0);
	sqlite3_finalize(statement);
	sqlite3_close(db);
	return version;
}

/* As vnasd made it before there were candidates. */
START_TEST(an_old_database_is_brought_up_to_date)
{
	uint8_t key[VROOT_KEY_BYTES] = { 1 };
	int latest = version_of_database();
	uint32_t node;

	ck_assert_int_eq(vroot_make_place(vroot, 1, "/projects"), 0);
	close_vroot();
	run_sql("DROP TABLE candidates; DROP TABLE classes; DROP TABLE weights; DROP TABLE revocations; DROP TABLE certificates; DROP TABLE spreads; DROP TABLE branches; PRAGMA user_version = 1");
	ck_assert_int_eq(open_vroot(), 0);
	ck_assert_int_eq(version_of_database(), latest);
	ck_assert_ptr_nonnull(namespace_child(ns, NAMESPACE_ROOT_ENTRY, "projects"));
	ck_assert_int_eq(vroot_candidate_set(vroot, key, 3), 0);
	reopen(); /* once is enough */
	ck_assert_int_eq(vroot_candidate_get(vroot, key, &node), 0);
}
END_TEST

/* All or nothing: the second step can't be done. */
START_TEST(a_step_that_fails_changes_nothing)
{
	close_vroot();
	run_sql("PRAGMA user_version = 1");
	ck_assert_int_lt(open_vroot(), 0);
	ck_assert_int_eq(version_of_database(), 1);
	namespace_free(ns);
	ns = NULL;
}
END_TEST

START_TEST(a_later_database_is_left_alone)
{
	close_vroot();
	run_sql("PRAGMA user_version = 1000");
	ck_assert_int_eq(open_vroot(), -EPROTO);
	ck_assert_int_eq(version_of_database(), 1000);
	namespace_free(ns);
	ns = NULL;
}
END_TEST

START_TEST(killed_in_the_middle)
{
	struct namespace *wanted = namespace_new();
	uint8_t *bytes, *wanted_bytes;
	size_t len, wanted_len;
	char name[NAME_SIZE];

	srand((unsigned int)clock_monotonic_ms());
	ck_assert_int_eq(namespace_snapshot(ns, &bytes, &len), 0);
	ck_assert_int_eq(namespace_load(wanted, bytes, len), 0);
	free(bytes);
	for (int i = 0; i < KILLS; i++) {
		uint64_t acknowledged;

		vroot_close(vroot);
		vroot = NULL;
		acknowledged = kill_in_the_middle(namespace_revision(ns));
		namespace_free(ns);
		ck_assert_int_eq(open_vroot(), 0);
		/* What was acknowledged is there; one more may be: it was done and could not be told. */
		ck_assert_uint_ge(namespace_revision(ns), acknowledged);
		ck_assert_uint_le(namespace_revision(ns), acknowledged + 1);
		while (namespace_revision(wanted) < namespace_revision(ns)) {
			ns_change change = change_of(namespace_revision(wanted) + 1, name);

			ck_assert_int_eq(namespace_apply(wanted, &change), 0);
		}
		ck_assert_int_eq(namespace_snapshot(ns, &bytes, &len), 0);
		ck_assert_int_eq(namespace_snapshot(wanted, &wanted_bytes, &wanted_len), 0);
		ck_assert(len == wanted_len && memcmp(bytes, wanted_bytes, len) == 0);
		free(bytes);
		free(wanted_bytes);
	}
	namespace_free(wanted);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vroot");
	TCase *tcase = tcase_create("vroot");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_new_cluster);
	tcase_add_test(tcase, what_is_no_cluster);
	tcase_add_test(tcase, every_kind_persists);
	tcase_add_test(tcase, every_kind_is_deleted);
	tcase_add_test(tcase, an_old_database_gets_what_it_has_not);
	tcase_add_test(tcase, a_change_may_borrow_from_what_it_replaces);
	tcase_add_test(tcase, bad_changes_leave_no_trace);
	tcase_add_test(tcase, ids_are_never_used_again);
	tcase_add_test(tcase, places);
	tcase_add_test(tcase, a_moved_place_is_the_same_entry);
	tcase_add_test(tcase, places_too_long);
	tcase_add_test(tcase, directories_change_their_time);
	tcase_add_test(tcase, a_token_works_once);
	tcase_add_test(tcase, a_token_expires);
	tcase_add_test(tcase, what_was_decided_is_kept);
	tcase_add_test(tcase, an_approval_is_taken_back);
	tcase_add_test(tcase, certificates_are_listed_and_bounded);
	tcase_add_test(tcase, a_certificate_that_is_known_is_not_written_again);
	tcase_add_test(tcase, rejections_are_bounded);
	tcase_add_test(tcase, weights_are_kept);
	tcase_add_test(tcase, an_old_database_is_brought_up_to_date);
	tcase_add_test(tcase, a_step_that_fails_changes_nothing);
	tcase_add_test(tcase, a_later_database_is_left_alone);
	tcase_add_test(tcase, killed_in_the_middle);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
