/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, devices see different trees: a client finds a directory at one device and not at the next, or a damaged
 * message from the network takes the whole tree away.
 */
#include "config.h"

#include "common/namespace.h"

#include "common/bytes.h"
#include "tests/unit/golden_hex.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static ns_item cluster(const char *name)
{
	ns_item item = { .kind = NS_CLUSTER };

	item.ns_item_u.cluster = (ns_cluster){ .id = 77, .name = (char *)name, .vips = "10.0.0.1 fd00::1" };
	memset(item.ns_item_u.cluster.handle_key, 0x4b, NS_KEY_BYTES);
	return item;
}

static ns_item node(uint32_t id, const char *name)
{
	ns_item item = { .kind = NS_NODE };

	item.ns_item_u.node = (ns_node){
		.id = id, .name = (char *)name, .state = NS_NODE_APPROVED, .address = "10.0.1.7", .port = 2050, .serial = ""
	};
	return item;
}

static ns_item volume(uint32_t id, uint32_t owner)
{
	ns_item item = { .kind = NS_VOLUME };

	item.ns_item_u.volume = (ns_volume){ .id = id, .node = owner, .path = "/data", .root_type = 1 };
	item.ns_item_u.volume.uuid[7] = (char)id;
	item.ns_item_u.volume.root.root_val = "\001\002\003\004";
	item.ns_item_u.volume.root.root_len = 4;
	return item;
}

static ns_item entry(uint64_t id, uint64_t parent, const char *name, uint32_t of_volume)
{
	ns_item item = { .kind = NS_ENTRY };

	item.ns_item_u.entry = (ns_entry){ .id = id, .parent = parent, .name = (char *)name, .volume = of_volume };
	return item;
}

static ns_item export(uint32_t id, const char *path)
{
	ns_item item = { .kind = NS_EXPORT };

	item.ns_item_u.export_ = (ns_export){ .id = id, .path = (char *)path, .clients = "*(rw)" };
	return item;
}

static ns_item user(uint32_t uid, const char *name, u_int group, u_int another)
{
	static u_int groups[2];
	ns_item item = { .kind = NS_USER };

	groups[0] = group;
	groups[1] = another;
	item.ns_item_u.user = (ns_user){ .uid = uid, .name = (char *)name, .gid = 100, .comment = "", .password = "" };
	item.ns_item_u.user.groups.groups_val = groups;
	item.ns_item_u.user.groups.groups_len = 2;
	return item;
}

static ns_item group(uint32_t gid, const char *name)
{
	return (ns_item){ .kind = NS_GROUP, .ns_item_u.group = { .gid = gid, .name = (char *)name } };
}

static ns_item class(uint32_t id, const char *name, uint32_t weight)
{
	ns_item item = { .kind = NS_CLASS };

	item.ns_item_u.class_ = (ns_class){ .id = id, .name = (char *)name, .members = "", .weight = weight };
	return item;
}

static ns_item root_entry(void)
{
	return entry(NAMESPACE_ROOT_ENTRY, NAMESPACE_ROOT_ENTRY, "", 0);
}

/* XDR of a snapshot with these items. */
static uint8_t *encode(uint64_t revision, const ns_item *items, size_t count, size_t *len)
{
	ns_snapshot snapshot = { .revision = revision };
	uint8_t *bytes;
	XDR xdr;

	snapshot.items.items_val = (ns_item *)items;
	snapshot.items.items_len = (u_int)count;
	*len = xdr_sizeof((xdrproc_t)xdr_ns_snapshot, &snapshot);
	bytes = malloc(*len);
	xdrmem_create(&xdr, (char *)bytes, (u_int)*len, XDR_ENCODE);
	ck_assert(xdr_ns_snapshot(&xdr, &snapshot));
	return bytes;
}

static int load(struct namespace *ns, uint64_t revision, const ns_item *items, size_t count)
{
	size_t len;
	uint8_t *bytes = encode(revision, items, count, &len);
	int rc = namespace_load(ns, bytes, len);

	free(bytes);
	return rc;
}

/*
 * Revision 40:	/disk0 (volume 1), /projects/a (volume 2), /projects/b, volume 3 nowhere; user anna, group team
 */
static struct namespace *sample(void)
{
	/* Not in order: what arrives is sorted. */
	const ns_item items[] = {
		entry(9, 5, "b", 0),  entry(5, 1, "projects", 0), root_entry(),	 entry(2, 1, "disk0", 1), entry(7, 5, "a", 2),
		cluster("test"),      volume(2, 7),		  volume(1, 1),	 volume(3, 7),		  node(7, "disk7"),
		node(1, "master"),    export(2, "/projects"),	  export(1, "/"),
		user(10001, "anna", 1, 2), group(10001, "team"),
	};
	struct namespace *ns = namespace_new();

	ck_assert_int_eq(load(ns, 40, items, sizeof(items) / sizeof(items[0])), 0);
	return ns;
}

static uint8_t *snapshot(const struct namespace *ns, size_t *len)
{
	uint8_t *bytes;

	ck_assert_int_eq(namespace_snapshot(ns, &bytes, len), 0);
	return bytes;
}

static void expect_unchanged(const struct namespace *ns, const uint8_t *before, size_t before_len, const char *what)
{
	size_t len;
	uint8_t *now = snapshot(ns, &len);

	ck_assert_msg(len == before_len && memcmp(now, before, len) == 0, "%s: it has changed", what);
	free(now);
}

START_TEST(a_new_one_is_empty)
{
	struct namespace *ns = namespace_new();
	const char *rest;
	size_t at = 0;

	ck_assert_ptr_null(namespace_cluster(ns));
	ck_assert_ptr_null(namespace_next_entry(ns, &at));
	ck_assert_ptr_null(namespace_walk(ns, "/", &rest));
	ck_assert_uint_eq(namespace_revision(ns), 0);
	namespace_free(ns);
	namespace_free(NULL);
}
END_TEST

START_TEST(a_snapshot_loads_to_the_same)
{
	struct namespace *ns = sample(), *other = namespace_new();
	size_t len;
	uint8_t *bytes = snapshot(ns, &len);

	ck_assert_int_eq(namespace_load(other, bytes, len), 0);
	ck_assert_uint_eq(namespace_revision(other), 40);
	expect_unchanged(other, bytes, len, "a replica of the replica");
	ck_assert_mem_eq(namespace_handle_key(other)->bytes, "KKKKKKKKKKKKKKKK", NS_KEY_BYTES);
	free(bytes);
	namespace_free(ns);
	namespace_free(other);
}
END_TEST

START_TEST(looking_up)
{
	struct namespace *ns = sample();
	uint64_t last = 0;
	size_t at = 0, count = 0;
	uint8_t uuid[NS_UUID_BYTES] = { [7] = 2 };
	const ns_entry *e;

	ck_assert_str_eq(namespace_cluster(ns)->name, "test");
	ck_assert_str_eq(namespace_node(ns, 7)->name, "disk7");
	ck_assert_ptr_null(namespace_node(ns, 8));
	ck_assert_uint_eq(namespace_node_by_name(ns, "disk7")->id, 7);
	ck_assert_ptr_null(namespace_node_by_name(ns, "disk"));
	ck_assert_uint_eq(namespace_volume(ns, 2)->node, 7);
	ck_assert_ptr_null(namespace_volume(ns, 0));
	ck_assert_uint_eq(namespace_volume_by_uuid(ns, uuid)->id, 2);
	ck_assert_str_eq(namespace_child(ns, 5, "a")->name, "a");
	ck_assert_ptr_null(namespace_child(ns, 1, "a"));
	ck_assert_ptr_null(namespace_child(ns, 1, "")); /* the root is not its own child */
	ck_assert_uint_eq(namespace_place(ns, 2)->id, 7);
	ck_assert_ptr_null(namespace_place(ns, 3));
	ck_assert_ptr_null(namespace_place(ns, NAMESPACE_ROOT_VOLUME));
	ck_assert_str_eq(namespace_user(ns, 10001)->name, "anna");
	ck_assert_uint_eq(namespace_user_by_name(ns, "anna")->uid, 10001);
	ck_assert_ptr_null(namespace_user(ns, 10002));
	ck_assert_ptr_null(namespace_user_by_name(ns, "ann"));
	ck_assert_str_eq(namespace_group(ns, 10001)->name, "team");
	ck_assert_uint_eq(namespace_group_by_name(ns, "team")->gid, 10001);
	ck_assert_ptr_null(namespace_group_by_name(ns, "anna"));
	for (; (e = namespace_next_entry(ns, &at)); count++, last = e->id)
		ck_assert_uint_gt(e->id, last);
	ck_assert_uint_eq(count, 5);
	namespace_free(ns);
}
END_TEST

/* One item of each kind, and the root directory. What is stored and sent of them must not change. */
static const struct {
	const char *name; /* of the golden change that puts it */
	ns_item item;
} golden[] = {
	{ "namespace_put_cluster",
	  { .kind = NS_CLUSTER,
	    .ns_item_u.cluster = { .id = 0x01020304,
				   .uuid = "cluster cluster",
				   .name = "test",
				   .handle_key = "key key key key",
				   .vips = "10.0.0.1 fd00::1" } } },
	{ "namespace_put_node",
	  { .kind = NS_NODE,
	    .ns_item_u.node = { .id = 7,
				.name = "disk7",
				.state = NS_NODE_APPROVED,
				.address = "10.0.1.7",
				.port = 2050,
				.mac = { 2, 0, 0, 0, 0, 7 },
				.serial = "0a1b" } } },
	{ "namespace_put_volume",
	  { .kind = NS_VOLUME,
	    .ns_item_u.volume = { .id = 3,
				  .uuid = "volume volume v",
				  .node = 7,
				  .path = "/srv/a",
				  .root_type = 0x81,
				  .root = { .root_len = 5, .root_val = "\1\2\3\4\5" } } } },
	{ "namespace_put_root",
	  { .kind = NS_ENTRY,
	    .ns_item_u.entry = { .id = NAMESPACE_ROOT_ENTRY, .parent = NAMESPACE_ROOT_ENTRY, .name = "" } } },
	{ "namespace_put_entry",
	  { .kind = NS_ENTRY,
	    .ns_item_u.entry = { .id = 0x0102030405060708,
				 .parent = NAMESPACE_ROOT_ENTRY,
				 .name = "a",
				 .volume = 3,
				 .changed_ns = 0x1112131415161718 } } },
	{ "namespace_put_export",
	  { .kind = NS_EXPORT,
	    .ns_item_u.export_ = { .id = 4, .path = "/a", .clients = "10.0.0.0/8(rw)" } } },
	{ "namespace_put_user",
	  { .kind = NS_USER,
	    .ns_item_u.user = { .uid = 10001,
				.name = "anna",
				.gid = 100,
				.groups = { .groups_len = 2, .groups_val = (u_int[]){ 10002, 10003 } },
				.comment = "Anna, room 7",
				.password = "$y$j9T$salt$hash" } } },
	{ "namespace_put_group", { .kind = NS_GROUP, .ns_item_u.group = { .gid = 10002, .name = "team" } } },
	{ "namespace_put_class",
	  { .kind = NS_CLASS,
	    .ns_item_u.class_ = { .id = 5,
				  .name = "bulk",
				  .members = "network=10.0.0.0/8 user=10001",
				  .weight = 10,
				  .operations = 0x0102030405,
				  .bytes = 0x1112131415 } } },
	{ "namespace_put_revocation",
	  { .kind = NS_REVOCATION,
	    .ns_item_u.revocation = { .node = 7, .first_good = 0x0102030405, .revoked_ns = 0x1112131415161718 } } },
	{ "namespace_put_spread",
	  { .kind = NS_SPREAD,
	    .ns_item_u.spread = { .id = 6, .uuid = "spread spread s", .policy = NS_SPREAD_WEIGHT, .mode = 01777, .uid = 10001, .gid = 100 } } },
	{ "namespace_put_branch",
	  { .kind = NS_BRANCH,
	    .ns_item_u.branch = { .id = 4095, .spread = 6, .uuid = "branch branch b", .on = "volume volume v", .weight = 50 } } },
};

enum { GOLDEN_ITEMS = sizeof(golden) / sizeof(golden[0]) };

static const uint64_t golden_revision = 0x2122232425262728;

static void expect_cluster(const ns_cluster *got, const ns_cluster *wanted)
{
	ck_assert_uint_eq(got->id, wanted->id);
	ck_assert_mem_eq(got->uuid, wanted->uuid, NS_UUID_BYTES);
	ck_assert_str_eq(got->name, wanted->name);
	ck_assert_mem_eq(got->handle_key, wanted->handle_key, NS_KEY_BYTES);
	ck_assert_str_eq(got->vips, wanted->vips);
}

static void expect_node(const ns_node *got, const ns_node *wanted)
{
	ck_assert_uint_eq(got->id, wanted->id);
	ck_assert_str_eq(got->name, wanted->name);
	ck_assert_int_eq(got->state, wanted->state);
	ck_assert_str_eq(got->address, wanted->address);
	ck_assert_uint_eq(got->port, wanted->port);
	ck_assert_mem_eq(got->mac, wanted->mac, sizeof(got->mac));
	ck_assert_str_eq(got->serial, wanted->serial);
}

static void expect_volume(const ns_volume *got, const ns_volume *wanted)
{
	ck_assert_uint_eq(got->id, wanted->id);
	ck_assert_mem_eq(got->uuid, wanted->uuid, NS_UUID_BYTES);
	ck_assert_uint_eq(got->node, wanted->node);
	ck_assert_str_eq(got->path, wanted->path);
	ck_assert_uint_eq(got->root_type, wanted->root_type);
	ck_assert_uint_eq(got->root.root_len, wanted->root.root_len);
	ck_assert_mem_eq(got->root.root_val, wanted->root.root_val, wanted->root.root_len);
}

static void expect_entry(const ns_entry *got, const ns_entry *wanted)
{
	ck_assert_uint_eq(got->id, wanted->id);
	ck_assert_uint_eq(got->parent, wanted->parent);
	ck_assert_str_eq(got->name, wanted->name);
	ck_assert_uint_eq(got->volume, wanted->volume);
	ck_assert_uint_eq(got->changed_ns, wanted->changed_ns);
}

static void expect_export(const ns_export *got, const ns_export *wanted)
{
	ck_assert_uint_eq(got->id, wanted->id);
	ck_assert_str_eq(got->path, wanted->path);
	ck_assert_str_eq(got->clients, wanted->clients);
}

static void expect_user(const ns_user *got, const ns_user *wanted)
{
	ck_assert_uint_eq(got->uid, wanted->uid);
	ck_assert_str_eq(got->name, wanted->name);
	ck_assert_uint_eq(got->gid, wanted->gid);
	ck_assert_uint_eq(got->groups.groups_len, wanted->groups.groups_len);
	ck_assert_mem_eq(got->groups.groups_val, wanted->groups.groups_val, wanted->groups.groups_len * sizeof(u_int));
	ck_assert_str_eq(got->comment, wanted->comment);
	ck_assert_str_eq(got->password, wanted->password);
}

static void expect_group(const ns_group *got, const ns_group *wanted)
{
	ck_assert_uint_eq(got->gid, wanted->gid);
	ck_assert_str_eq(got->name, wanted->name);
}

static void expect_class(const ns_class *got, const ns_class *wanted)
{
	ck_assert_uint_eq(got->id, wanted->id);
	ck_assert_str_eq(got->name, wanted->name);
	ck_assert_str_eq(got->members, wanted->members);
	ck_assert_uint_eq(got->weight, wanted->weight);
	ck_assert_uint_eq(got->operations, wanted->operations);
	ck_assert_uint_eq(got->bytes, wanted->bytes);
}

static void expect_spread(const ns_spread *got, const ns_spread *wanted)
{
	ck_assert_uint_eq(got->id, wanted->id);
	ck_assert_mem_eq(got->uuid, wanted->uuid, NS_UUID_BYTES);
	ck_assert_int_eq(got->policy, wanted->policy);
	ck_assert_uint_eq(got->mode, wanted->mode);
	ck_assert_uint_eq(got->uid, wanted->uid);
	ck_assert_uint_eq(got->gid, wanted->gid);
}

static void expect_branch(const ns_branch *got, const ns_branch *wanted)
{
	ck_assert_uint_eq(got->id, wanted->id);
	ck_assert_uint_eq(got->spread, wanted->spread);
	ck_assert_mem_eq(got->uuid, wanted->uuid, NS_UUID_BYTES);
	ck_assert_mem_eq(got->on, wanted->on, NS_UUID_BYTES);
	ck_assert_uint_eq(got->weight, wanted->weight);
}

static void expect_item(const ns_item *got, const ns_item *wanted)
{
	ck_assert_int_eq(got->kind, wanted->kind);
	switch (wanted->kind) {
	case NS_CLUSTER:
		expect_cluster(&got->ns_item_u.cluster, &wanted->ns_item_u.cluster);
		break;
	case NS_NODE:
		expect_node(&got->ns_item_u.node, &wanted->ns_item_u.node);
		break;
	case NS_VOLUME:
		expect_volume(&got->ns_item_u.volume, &wanted->ns_item_u.volume);
		break;
	case NS_ENTRY:
		expect_entry(&got->ns_item_u.entry, &wanted->ns_item_u.entry);
		break;
	case NS_EXPORT:
		expect_export(&got->ns_item_u.export_, &wanted->ns_item_u.export_);
		break;
	case NS_USER:
		expect_user(&got->ns_item_u.user, &wanted->ns_item_u.user);
		break;
	case NS_GROUP:
		expect_group(&got->ns_item_u.group, &wanted->ns_item_u.group);
		break;
	case NS_CLASS:
		expect_class(&got->ns_item_u.class_, &wanted->ns_item_u.class_);
		break;
	case NS_REVOCATION:
		ck_assert_uint_eq(got->ns_item_u.revocation.node, wanted->ns_item_u.revocation.node);
		ck_assert_uint_eq(got->ns_item_u.revocation.first_good, wanted->ns_item_u.revocation.first_good);
		ck_assert_uint_eq(got->ns_item_u.revocation.revoked_ns, wanted->ns_item_u.revocation.revoked_ns);
		break;
	case NS_SPREAD:
		expect_spread(&got->ns_item_u.spread, &wanted->ns_item_u.spread);
		break;
	case NS_BRANCH:
		expect_branch(&got->ns_item_u.branch, &wanted->ns_item_u.branch);
		break;
	}
}

/* Of the content of the golden items, whatever way it came. */
static void expect_golden(const struct namespace *ns)
{
	size_t nodes = 0, volumes = 0, entries = 0, exports = 0, users = 0, groups = 0, classes = 0;
	size_t spreads = 0, branches = 0;

	ck_assert_uint_eq(namespace_revision(ns), golden_revision);
	expect_cluster(namespace_cluster(ns), &golden[0].item.ns_item_u.cluster);
	expect_node(namespace_next_node(ns, &nodes), &golden[1].item.ns_item_u.node);
	expect_volume(namespace_next_volume(ns, &volumes), &golden[2].item.ns_item_u.volume);
	expect_entry(namespace_next_entry(ns, &entries), &golden[3].item.ns_item_u.entry);
	expect_entry(namespace_next_entry(ns, &entries), &golden[4].item.ns_item_u.entry);
	expect_export(namespace_next_export(ns, &exports), &golden[5].item.ns_item_u.export_);
	ck_assert_ptr_null(namespace_next_node(ns, &nodes));
	ck_assert_ptr_null(namespace_next_volume(ns, &volumes));
	ck_assert_ptr_null(namespace_next_entry(ns, &entries));
	expect_user(namespace_next_user(ns, &users), &golden[6].item.ns_item_u.user);
	expect_group(namespace_next_group(ns, &groups), &golden[7].item.ns_item_u.group);
	ck_assert_ptr_null(namespace_next_export(ns, &exports));
	ck_assert_ptr_null(namespace_next_user(ns, &users));
	expect_class(namespace_next_class(ns, &classes), &golden[8].item.ns_item_u.class_);
	ck_assert_ptr_null(namespace_next_group(ns, &groups));
	ck_assert_ptr_null(namespace_next_class(ns, &classes));
	ck_assert(namespace_is_revoked(ns, 7, 0x0102030404) && namespace_is_revoked(ns, 7, 0));
	ck_assert(!namespace_is_revoked(ns, 7, 0x0102030405) && !namespace_is_revoked(ns, 8, 0));
	expect_spread(namespace_next_spread(ns, &spreads), &golden[10].item.ns_item_u.spread);
	expect_branch(namespace_next_branch(ns, &branches), &golden[11].item.ns_item_u.branch);
	ck_assert_ptr_null(namespace_next_spread(ns, &spreads));
	ck_assert_ptr_null(namespace_next_branch(ns, &branches));
}

/* A disk node reads its stored replica, and its master's snapshot, with another version of the software. */
START_TEST(snapshot_is_golden)
{
	struct namespace *ns = namespace_new(), *other = namespace_new();
	ns_item items[GOLDEN_ITEMS];
	uint8_t *bytes, stored[GOLDEN_HEX_MAX];
	size_t len;

	for (size_t i = 0; i < GOLDEN_ITEMS; i++)
		items[i] = golden[i].item;
	ck_assert_int_eq(load(ns, golden_revision, items, GOLDEN_ITEMS), 0);
	bytes = snapshot(ns, &len);
	golden_hex_check("namespace_snapshot", bytes, len);
	ck_assert_int_eq(namespace_load(other, stored, golden_hex_read("namespace_snapshot", stored)), 0);
	expect_golden(other);
	free(bytes);
	namespace_free(ns);
	namespace_free(other);
}
END_TEST

static void change_is_golden(const char *name, const ns_change *wanted)
{
	uint8_t bytes[GOLDEN_HEX_MAX];
	ns_change got = { 0 };
	size_t len;
	XDR xdr;

	xdrmem_create(&xdr, (char *)bytes, sizeof(bytes), XDR_ENCODE);
	ck_assert(xdr_ns_change(&xdr, (ns_change *)wanted));
	golden_hex_check(name, bytes, xdr_getpos(&xdr));
	len = golden_hex_read(name, bytes);
	xdrmem_create(&xdr, (char *)bytes, (u_int)len, XDR_DECODE);
	ck_assert(xdr_ns_change(&xdr, &got));
	ck_assert_uint_eq(xdr_getpos(&xdr), len);
	ck_assert_uint_eq(got.revision, golden_revision);
	ck_assert_int_eq(got.operation, wanted->operation);
	expect_item(&got.item, &wanted->item);
	xdr_free((xdrproc_t)xdr_ns_change, (char *)&got);
}

START_TEST(puts_are_golden)
{
	change_is_golden(golden[_i].name, &(ns_change){ .revision = golden_revision,
							.operation = NS_PUT,
							.item = golden[_i].item });
}
END_TEST

START_TEST(deletion_is_golden)
{
	change_is_golden("namespace_delete", &(ns_change){ .revision = golden_revision,
							   .operation = NS_DELETE,
							   .item = entry(0x0102030405060708, 0, "", 0) });
}
END_TEST

static const struct {
	const char *path, *to, *rest; /* to: the entry's own path; NULL: nowhere */
} walks[] = {
	{ "/", "/", "" },
	{ "", "/", "" },
	{ "//./", "/", "" },
	{ "/projects", "/projects", "" },
	{ "projects/", "/projects", "" },
	{ "/projects//./a", "/projects/a", "" },
	{ "/projects/a/", "/projects/a", "" },
	{ "/projects/a/src/x.c", "/projects/a", "src/x.c" },
	{ "/disk0//x", "/disk0", "x" },
	{ "/disk0/../x", "/disk0", "../x" }, /* the volume's to refuse */
	{ "/projects/c", NULL, NULL },
	{ "/projects/../disk0", NULL, NULL },
	{ "/nothing/a", NULL, NULL },
};

START_TEST(walking)
{
	struct namespace *ns = sample();
	const char *rest = NULL;
	const ns_entry *e = namespace_walk(ns, walks[_i].path, &rest);
	char path[NS_TEXT_MAX];

	ck_assert_msg(!e == !walks[_i].to, "%s", walks[_i].path);
	if (e) {
		ck_assert_int_eq(namespace_path(ns, e, path), 0);
		ck_assert_str_eq(path, walks[_i].to);
		ck_assert_str_eq(rest, walks[_i].rest);
	}
	namespace_free(ns);
}
END_TEST

static void put(struct namespace *ns, ns_item item)
{
	ns_change change = { .revision = namespace_revision(ns) + 1, .operation = NS_PUT, .item = item };

	ck_assert_int_eq(namespace_apply(ns, &change), 0);
}

START_TEST(long_names_and_deep_paths)
{
	struct namespace *ns = sample();
	char name[NS_NAME_MAX + 2], path[NS_TEXT_MAX];
	const char *rest;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	ck_assert_ptr_null(namespace_walk(ns, name, &rest));
	name[NS_NAME_MAX] = '\0';
	put(ns, entry(100, 1, name, 0));
	ck_assert_uint_eq(namespace_walk(ns, name, &rest)->id, 100);
	/* 4 * 256 bytes and the end do not fit into NS_TEXT_MAX. */
	for (uint64_t id = 101; id < 104; id++)
		put(ns, entry(id, id - 1, name, 0));
	ck_assert_int_eq(namespace_path(ns, namespace_entry(ns, 102), path), 0);
	ck_assert_uint_eq(strlen(path), 3 * (NS_NAME_MAX + 1));
	ck_assert_int_eq(namespace_path(ns, namespace_entry(ns, 103), path), -ENAMETOOLONG);
	namespace_free(ns);
}
END_TEST

START_TEST(changes)
{
	struct namespace *ns = sample();
	ns_change deletion = { .operation = NS_DELETE, .item = entry(7, 0, "", 0) };

	put(ns, node(8, "disk8"));
	put(ns, node(8, "renamed"));
	ck_assert_str_eq(namespace_node(ns, 8)->name, "renamed");
	deletion.revision = 43;
	ck_assert_int_eq(namespace_apply(ns, &deletion), 0);
	ck_assert_ptr_null(namespace_entry(ns, 7));
	ck_assert_ptr_null(namespace_place(ns, 2));
	/* What is not there can be deleted: the revision counts. */
	deletion.revision = 44;
	ck_assert_int_eq(namespace_apply(ns, &deletion), 0);
	ck_assert_uint_eq(namespace_revision(ns), 44);
	namespace_free(ns);
}
END_TEST

/* The key changes with the cluster's item: handles that were given out stay valid only with the right one. */
START_TEST(the_key_follows_the_cluster)
{
	struct namespace *ns = sample();
	ns_item item = cluster("test");

	memset(item.ns_item_u.cluster.handle_key, 'q', NS_KEY_BYTES);
	put(ns, item);
	ck_assert_mem_eq(namespace_handle_key(ns)->bytes, "qqqqqqqqqqqqqqqq", NS_KEY_BYTES);
	namespace_free(ns);
}
END_TEST

/* A change that was lost or came twice is not guessed at. */
START_TEST(gaps_are_refused)
{
	static const uint64_t wrong[] = { 0, 1, 39, 40, 42, 1000, UINT64_MAX };
	struct namespace *ns = sample();
	size_t len;
	uint8_t *before = snapshot(ns, &len);

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		ns_change change = { .revision = wrong[i], .operation = NS_PUT, .item = node(8, "disk8") };

		ck_assert_int_eq(namespace_apply(ns, &change), -ESTALE);
	}
	expect_unchanged(ns, before, len, "a gap");
	free(before);
	namespace_free(ns);
}
END_TEST

static ns_item unknown_kind(void)
{
	ns_item item = node(1, "x");

	item.kind = 99;
	return item;
}

START_TEST(bad_changes_are_refused)
{
	const struct {
		const char *what;
		ns_operation operation;
		ns_item item;
	} bad[] = {
		{ "node 0", NS_PUT, node(0, "x") },
		{ "volume 0", NS_PUT, volume(0, 1) },
		{ "entry 0", NS_PUT, entry(0, 1, "x", 0) },
		{ "the root elsewhere", NS_PUT, entry(NAMESPACE_ROOT_ENTRY, 5, "x", 0) },
		{ "its own parent", NS_PUT, entry(20, 20, "x", 0) },
		{ "no name", NS_PUT, entry(20, 1, "", 0) },
		{ "a name with a slash", NS_PUT, entry(20, 1, "a/b", 0) },
		{ "this directory", NS_PUT, entry(20, 1, ".", 0) },
		{ "the directory above", NS_PUT, entry(20, 1, "..", 0) },
		{ "a parent that is not there", NS_PUT, entry(20, 999, "x", 0) },
		{ "a parent that is a mount point", NS_PUT, entry(20, 2, "x", 0) },
		{ "a name that is taken", NS_PUT, entry(20, 1, "disk0", 0) },
		{ "a directory below itself", NS_PUT, entry(5, 9, "x", 0) },
		{ "a mount point with something in it", NS_PUT, entry(5, 1, "projects", 3) },
		{ "a UUID that is taken", NS_PUT, volume(256 + 2, 7) },
		{ "an export that is there", NS_PUT, export(3, "/projects") },
		{ "the root a mount point", NS_PUT, entry(1, 1, "", 1) },
		{ "a relative export", NS_PUT, export(3, "projects") },
		{ "a user's name that is taken", NS_PUT, user(10002, "anna", 1, 2) },
		{ "a user without a name", NS_PUT, user(10002, "", 1, 2) },
		{ "a group's name that is taken", NS_PUT, group(10002, "team") },
		{ "a group without a name", NS_PUT, group(10002, "") },
		{ "a class without a name", NS_PUT, class(1, "", 1) },
		{ "a class without a weight", NS_PUT, class(1, "x", 0) },
		{ "a class that outweighs all", NS_PUT, class(1, "x", 1001) },
		{ "an unknown kind", NS_PUT, unknown_kind() },
		{ "a spread directory of no policy", NS_PUT, { .kind = NS_SPREAD, .ns_item_u.spread = { .id = 9, .policy = 4 } } },
		{ "a branch of no number", NS_PUT, { .kind = NS_BRANCH, .ns_item_u.branch = { .id = 4096, .spread = 9 } } },
		{ "an unknown operation", 9, node(8, "x") },
		{ "no cluster any more", NS_DELETE, cluster("test") },
		{ "no root any more", NS_DELETE, root_entry() },
		{ "a directory with something in it", NS_DELETE, entry(5, 1, "", 0) },
	};
	struct namespace *ns = sample();
	size_t len;
	uint8_t *before = snapshot(ns, &len);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ns_change change = { .revision = 41, .operation = bad[i].operation, .item = bad[i].item };

		ck_assert_msg(namespace_apply(ns, &change) == -EBADMSG, "%s", bad[i].what);
		expect_unchanged(ns, before, len, bad[i].what);
	}
	free(before);
	namespace_free(ns);
}
END_TEST

START_TEST(groups_of_a_user_ascend)
{
	struct namespace *ns = sample();
	ns_change change = { .revision = 41, .operation = NS_PUT };

	change.item = user(10002, "bert", 2, 1);
	ck_assert_int_eq(namespace_apply(ns, &change), -EBADMSG);
	change.item = user(10002, "bert", 2, 2);
	ck_assert_int_eq(namespace_apply(ns, &change), -EBADMSG);
	change.item = user(10002, "bert", 1, 2);
	ck_assert_int_eq(namespace_apply(ns, &change), 0);
	namespace_free(ns);
}
END_TEST

START_TEST(bad_snapshots_leave_the_old_content)
{
	const struct {
		const char *what;
		size_t count;
		ns_item items[6];
	} bad[] = {
		{ "nothing", 0, { cluster("x") } },
		{ "no cluster", 2, { root_entry(), node(1, "x") } },
		{ "no root", 2, { cluster("x"), node(1, "x") } },
		{ "a node 0", 3, { cluster("x"), root_entry(), node(0, "x") } },
		{ "a bad name", 3, { cluster("x"), root_entry(), entry(2, 1, "..", 0) } },
		{ "a lost entry", 3, { cluster("x"), root_entry(), entry(2, 9, "x", 0) } },
		{ "entries in a circle", 4, { cluster("x"), root_entry(), entry(2, 3, "x", 0), entry(3, 2, "y", 0) } },
		{ "a mount point with something in it", 4,
		  { cluster("x"), root_entry(), entry(2, 1, "x", 1), entry(3, 2, "y", 0) } },
		{ "one UUID twice", 4, { cluster("x"), root_entry(), volume(1, 1), volume(257, 1) } },
		{ "one export twice", 4, { cluster("x"), root_entry(), export(1, "/"), export(2, "/") } },
		{ "one user twice", 4, { cluster("x"), root_entry(), user(1, "x", 1, 2), user(2, "x", 1, 2) } },
		{ "one group twice", 4, { cluster("x"), root_entry(), group(1, "x"), group(2, "x") } },
		{ "one name twice", 4, { cluster("x"), root_entry(), entry(2, 1, "x", 0), entry(3, 1, "x", 0) } },
	};
	struct namespace *ns = sample();
	size_t len;
	uint8_t *before = snapshot(ns, &len);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(load(ns, 50, bad[i].items, bad[i].count) == -EBADMSG, "%s", bad[i].what);
		expect_unchanged(ns, before, len, bad[i].what);
	}
	free(before);
	namespace_free(ns);
}
END_TEST

START_TEST(every_cut_of_a_snapshot_is_refused)
{
	struct namespace *ns = sample(), *other = sample();
	size_t len;
	uint8_t *bytes = snapshot(ns, &len);

	for (size_t cut = 0; cut < len; cut++)
		ck_assert_int_eq(namespace_load(other, bytes, cut), -EBADMSG);
	expect_unchanged(other, bytes, len, "after all the cuts");
	free(bytes);
	namespace_free(ns);
	namespace_free(other);
}
END_TEST

START_TEST(handles_and_fsids)
{
	struct namespace *ns = sample();
	ns_volume none = { 0 };
	struct handle root = namespace_volume_root(namespace_volume(ns, 2));
	struct handle directory = namespace_entry_handle(namespace_entry(ns, 5));
	struct bytes_reader r = bytes_reader_init(directory.backend, directory.backend_len);

	ck_assert_int_eq(root.type, HANDLE_LOCAL);
	ck_assert_uint_eq(root.volume, 2);
	ck_assert_uint_eq(root.backend_len, 4);
	ck_assert_mem_eq(root.backend, "\001\002\003\004", 4);
	ck_assert_int_eq(directory.type, HANDLE_PSEUDO);
	ck_assert_uint_eq(directory.volume, 0);
	ck_assert_uint_eq(bytes_get_be64(&r), 5);
	ck_assert_uint_eq(namespace_fsid(namespace_volume(ns, 2)), 2);
	ck_assert_uint_eq(namespace_fsid(&none), 1); /* 0 is the virtual root's */
	namespace_free(ns);
}
END_TEST

/* What the copy owns is its own. */
START_TEST(items_are_copied_whole)
{
	struct namespace *ns = sample();
	ns_item item = { .kind = NS_VOLUME }, copy;

	item.ns_item_u.volume = *namespace_volume(ns, 2);
	ck_assert_int_eq(namespace_item_copy(&item, &copy), 0);
	namespace_free(ns);
	ck_assert_str_eq(copy.ns_item_u.volume.path, "/data");
	ck_assert_mem_eq(copy.ns_item_u.volume.root.root_val, "\001\002\003\004", 4);
	namespace_item_fini(&copy);
}
END_TEST

/* Thousands of items, in the worst order. */
START_TEST(many_items)
{
	struct namespace *ns = sample();
	char name[32];

	for (uint64_t id = 5000; id > 1000; id--) {
		snprintf(name, sizeof(name), "d%ju", (uintmax_t)id);
		put(ns, entry(id, 1, name, 0));
	}
	ck_assert_str_eq(namespace_entry(ns, 3210)->name, "d3210");
	ck_assert_uint_eq(namespace_child(ns, 1, "d4999")->id, 4999);
	namespace_free(ns);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("namespace");
	TCase *tcase = tcase_create("namespace");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, a_new_one_is_empty);
	tcase_add_test(tcase, a_snapshot_loads_to_the_same);
	tcase_add_test(tcase, snapshot_is_golden);
	tcase_add_loop_test(tcase, puts_are_golden, 0, GOLDEN_ITEMS);
	tcase_add_test(tcase, deletion_is_golden);
	tcase_add_test(tcase, looking_up);
	tcase_add_loop_test(tcase, walking, 0, sizeof(walks) / sizeof(walks[0]));
	tcase_add_test(tcase, long_names_and_deep_paths);
	tcase_add_test(tcase, changes);
	tcase_add_test(tcase, the_key_follows_the_cluster);
	tcase_add_test(tcase, gaps_are_refused);
	tcase_add_test(tcase, bad_changes_are_refused);
	tcase_add_test(tcase, groups_of_a_user_ascend);
	tcase_add_test(tcase, bad_snapshots_leave_the_old_content);
	tcase_add_test(tcase, every_cut_of_a_snapshot_is_refused);
	tcase_add_test(tcase, handles_and_fsids);
	tcase_add_test(tcase, items_are_copied_whole);
	tcase_add_test(tcase, many_items);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
