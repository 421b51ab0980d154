/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/namespace.h"

#include "common/bytes.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(NS_KEY_BYTES == SIPHASH_KEY_BYTES, "the handle key travels whole");

#define KIND_COUNT (NS_BRANCH + 1)

enum { CLASS_WEIGHT_MAX = 1000, BRANCH_SHIFT = 52 };

/* Items of one kind, sorted by id. */
struct item_list {
	ns_item *items;
	size_t count, capacity;
};

struct namespace {
	uint64_t revision;
	struct item_list kinds[KIND_COUNT];
	struct handle_key key;
	struct namespace_guard guard; /* without functions: there is nobody else */
};

void namespace_set_guard(struct namespace *ns, const struct namespace_guard *guard)
{
	ns->guard = guard ? *guard : (struct namespace_guard){ 0 };
}

static void before_change(struct namespace *ns)
{
	if (ns->guard.before)
		ns->guard.before(ns->guard.arg);
}

static void after_change(struct namespace *ns)
{
	if (ns->guard.after)
		ns->guard.after(ns->guard.arg);
}

static uint64_t item_id(const ns_item *item)
{
	switch (item->kind) {
	case NS_CLUSTER:
		return 0;
	case NS_NODE:
		return item->ns_item_u.node.id;
	case NS_VOLUME:
		return item->ns_item_u.volume.id;
	case NS_ENTRY:
		return item->ns_item_u.entry.id;
	case NS_EXPORT:
		return item->ns_item_u.export_.id;
	case NS_USER:
		return item->ns_item_u.user.uid;
	case NS_GROUP:
		return item->ns_item_u.group.gid;
	case NS_CLASS:
		return item->ns_item_u.class_.id;
	case NS_REVOCATION:
		return item->ns_item_u.revocation.node;
	case NS_SPREAD:
		return item->ns_item_u.spread.id;
	case NS_BRANCH:
		return item->ns_item_u.branch.id;
	}
	return 0;
}

static bool name_is_valid(const char *name)
{
	return name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* So none is there twice. */
static bool is_ascending(const ns_user *user)
{
	for (u_int i = 1; i < user->groups.groups_len; i++)
		if (user->groups.groups_val[i - 1] >= user->groups.groups_val[i])
			return false;
	return true;
}

static bool item_is_valid(const ns_item *item)
{
	const ns_entry *entry = &item->ns_item_u.entry;

	switch (item->kind) {
	case NS_CLUSTER:
		return true;
	case NS_NODE:
		return item->ns_item_u.node.id > 0;
	case NS_VOLUME:
		return item->ns_item_u.volume.id != NAMESPACE_ROOT_VOLUME;
	case NS_ENTRY:
		if (entry->id == NAMESPACE_ROOT_ENTRY)
			return entry->parent == NAMESPACE_ROOT_ENTRY && entry->volume == NAMESPACE_ROOT_VOLUME;
		return entry->id && entry->id != entry->parent && name_is_valid(entry->name);
	case NS_EXPORT:
		return item->ns_item_u.export_.path[0] == '/';
	case NS_USER:
		return item->ns_item_u.user.name[0] && is_ascending(&item->ns_item_u.user);
	case NS_GROUP:
		return item->ns_item_u.group.name[0];
	case NS_CLASS:
		return item->ns_item_u.class_.name[0] && item->ns_item_u.class_.weight > 0 &&
		       item->ns_item_u.class_.weight <= CLASS_WEIGHT_MAX;
	case NS_REVOCATION:
		return item->ns_item_u.revocation.node > 0;
	case NS_SPREAD:
		return item->ns_item_u.spread.id != NAMESPACE_ROOT_VOLUME && item->ns_item_u.spread.policy >= NS_SPREAD_MOST_ROOM &&
		       item->ns_item_u.spread.policy <= NS_SPREAD_WEIGHT;
	case NS_BRANCH:
		return item->ns_item_u.branch.id > 0 && item->ns_item_u.branch.id <= NAMESPACE_BRANCHES_MAX;
	}
	return false;
}

void namespace_item_fini(ns_item *item)
{
	xdr_free((xdrproc_t)xdr_ns_item, (char *)item);
}

/* The first position whose id is not below @id. */
static size_t list_position(const struct item_list *list, uint64_t id)
{
	size_t low = 0, high = list->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (item_id(&list->items[middle]) < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static ns_item *list_find(const struct item_list *list, uint64_t id)
{
	size_t at = list_position(list, id);

	return at < list->count && item_id(&list->items[at]) == id ? &list->items[at] : NULL;
}

/* Takes @item. */
static int list_put(struct item_list *list, ns_item *item)
{
	size_t at = list_position(list, item_id(item));

	if (at < list->count && item_id(&list->items[at]) == item_id(item)) {
		namespace_item_fini(&list->items[at]);
		list->items[at] = *item;
		return 0;
	}
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? 2 * list->capacity : 16;
		ns_item *items = reallocarray(list->items, capacity, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->capacity = capacity;
	}
	memmove(&list->items[at + 1], &list->items[at], (list->count - at) * sizeof(*list->items));
	list->items[at] = *item;
	list->count++;
	return 0;
}

static void list_delete(struct item_list *list, uint64_t id)
{
	ns_item *item = list_find(list, id);

	if (!item)
		return;
	namespace_item_fini(item);
	list->count--;
	memmove(item, item + 1, (list->count - (size_t)(item - list->items)) * sizeof(*item));
}

static void namespace_clear(struct namespace *ns)
{
	for (size_t kind = 0; kind < KIND_COUNT; kind++) {
		struct item_list *list = &ns->kinds[kind];

		for (size_t i = 0; i < list->count; i++)
			namespace_item_fini(&list->items[i]);
		free(list->items);
	}
	memset(ns, 0, sizeof(*ns));
}

struct namespace *namespace_new(void)
{
	return calloc(1, sizeof(struct namespace));
}

void namespace_free(struct namespace *ns)
{
	if (!ns)
		return;
	namespace_clear(ns);
	free(ns);
}

static void namespace_note_key(struct namespace *ns)
{
	const ns_cluster *cluster = namespace_cluster(ns);

	if (cluster)
		memcpy(ns->key.bytes, cluster->handle_key, sizeof(ns->key.bytes));
}

/* What no two items of a kind may share: orders two of them by it. */
static int item_compare(const ns_item *a, const ns_item *b)
{
	const ns_entry *entry_a = &a->ns_item_u.entry, *entry_b = &b->ns_item_u.entry;

	switch (a->kind) {
	case NS_VOLUME:
		return memcmp(a->ns_item_u.volume.uuid, b->ns_item_u.volume.uuid, NS_UUID_BYTES);
	case NS_ENTRY:
		if (entry_a->parent != entry_b->parent)
			return entry_a->parent < entry_b->parent ? -1 : 1;
		return strcmp(entry_a->name, entry_b->name);
	case NS_EXPORT:
		return strcmp(a->ns_item_u.export_.path, b->ns_item_u.export_.path);
	case NS_USER:
		return strcmp(a->ns_item_u.user.name, b->ns_item_u.user.name);
	case NS_GROUP:
		return strcmp(a->ns_item_u.group.name, b->ns_item_u.group.name);
	case NS_CLASS:
		return strcmp(a->ns_item_u.class_.name, b->ns_item_u.class_.name);
	case NS_SPREAD:
		return memcmp(a->ns_item_u.spread.uuid, b->ns_item_u.spread.uuid, NS_UUID_BYTES);
	case NS_BRANCH:
		return memcmp(a->ns_item_u.branch.uuid, b->ns_item_u.branch.uuid, NS_UUID_BYTES);
	default:
		return item_id(a) < item_id(b) ? -1 : item_id(a) > item_id(b);
	}
}

static int item_pointer_compare(const void *a, const void *b)
{
	return item_compare(*(const ns_item *const *)a, *(const ns_item *const *)b);
}

/* 0; -EBADMSG if two items are one by what they share; -ENOMEM */
static int list_check_twins(const struct item_list *list)
{
	const ns_item **sorted = calloc(list->count + 1, sizeof(*sorted));
	int rc = sorted ? 0 : -ENOMEM;

	for (size_t i = 0; sorted && i < list->count; i++)
		sorted[i] = &list->items[i];
	if (sorted)
		qsort(sorted, list->count, sizeof(*sorted), item_pointer_compare);
	for (size_t i = 1; rc == 0 && i < list->count; i++)
		if (item_compare(sorted[i - 1], sorted[i]) == 0)
			rc = -EBADMSG;
	free(sorted);
	return rc;
}

static bool list_has_twin(const struct item_list *list, const ns_item *item)
{
	for (size_t i = 0; i < list->count; i++)
		if (item_id(&list->items[i]) != item_id(item) && item_compare(&list->items[i], item) == 0)
			return true;
	return false;
}

/* Does the way up from an entry lead through directories to the root, and not to itself? */
static bool entry_is_in_tree(const struct namespace *ns, const ns_entry *entry)
{
	uint64_t id = entry->parent;

	for (int depth = 0; depth < NS_TEXT_MAX; depth++) {
		const ns_entry *above = namespace_entry(ns, id);

		if (!above || above->volume != NAMESPACE_ROOT_VOLUME)
			return false;
		if (above->id == NAMESPACE_ROOT_ENTRY)
			return true;
		if (above->id == entry->id)
			return false;
		id = above->parent;
	}
	return false;
}

static bool entry_has_children(const struct namespace *ns, uint64_t id)
{
	const ns_entry *entry;

	for (size_t at = 0; (entry = namespace_next_entry(ns, &at));)
		if (entry->parent == id && entry->id != NAMESPACE_ROOT_ENTRY)
			return true;
	return false;
}

/* Does the whole agree with itself? 0; -EBADMSG; -ENOMEM */
static int namespace_check(const struct namespace *ns)
{
	const ns_entry *entry;
	int rc = 0;

	if (!namespace_cluster(ns) || !namespace_entry(ns, NAMESPACE_ROOT_ENTRY))
		return -EBADMSG;
	for (size_t kind = 0; rc == 0 && kind < KIND_COUNT; kind++)
		rc = list_check_twins(&ns->kinds[kind]);
	for (size_t at = 0; rc == 0 && (entry = namespace_next_entry(ns, &at));)
		if (!entry_is_in_tree(ns, entry))
			rc = -EBADMSG;
	return rc;
}

static bool may_put(const struct namespace *ns, const ns_item *item)
{
	const ns_entry *entry = &item->ns_item_u.entry;

	if (!item_is_valid(item) || list_has_twin(&ns->kinds[item->kind], item))
		return false;
	if (item->kind != NS_ENTRY)
		return true;
	return entry_is_in_tree(ns, entry) &&
	       (entry->volume == NAMESPACE_ROOT_VOLUME || !entry_has_children(ns, entry->id));
}

static bool may_delete(const struct namespace *ns, const ns_item *item)
{
	const ns_entry *entry = &item->ns_item_u.entry;

	if (item->kind == NS_ENTRY)
		return entry->id != NAMESPACE_ROOT_ENTRY && !entry_has_children(ns, entry->id);
	return item->kind != NS_CLUSTER;
}

/* Takes what it can of @snapshot's items; those it took are zeroed. */
static int namespace_fill(struct namespace *ns, ns_snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->items.items_len; i++) {
		ns_item *item = &snapshot->items.items_val[i];
		int rc;

		if (!item_is_valid(item))
			return -EBADMSG;
		rc = list_put(&ns->kinds[item->kind], item);
		if (rc < 0)
			return rc;
		memset(item, 0, sizeof(*item));
		item->kind = NS_CLUSTER; /* nothing to free in it */
	}
	ns->revision = snapshot->revision;
	namespace_note_key(ns);
	return namespace_check(ns);
}

int namespace_load(struct namespace *ns, const void *bytes, size_t len)
{
	ns_snapshot snapshot = { 0 };
	struct namespace fresh = { 0 };
	XDR xdr;
	int rc = -EBADMSG;

	if (len > UINT32_MAX)
		return -EBADMSG;
	xdrmem_create(&xdr, (char *)bytes, (u_int)len, XDR_DECODE);
	if (xdr_ns_snapshot(&xdr, &snapshot))
		rc = namespace_fill(&fresh, &snapshot);
	xdr_free((xdrproc_t)xdr_ns_snapshot, (char *)&snapshot);
	if (rc < 0) {
		namespace_clear(&fresh);
		return rc;
	}
	before_change(ns);
	fresh.guard = ns->guard;
	namespace_clear(ns);
	*ns = fresh;
	after_change(ns);
	return 0;
}

/* By way of XDR, which knows what an item owns. */
int namespace_item_copy(const ns_item *item, ns_item *out)
{
	u_int size = (u_int)xdr_sizeof((xdrproc_t)xdr_ns_item, (void *)item);
	char *bytes = malloc(size);
	ns_item copy = { 0 };
	int rc = -ENOMEM;
	XDR xdr;

	if (!bytes)
		return -ENOMEM;
	xdrmem_create(&xdr, bytes, size, XDR_ENCODE);
	if (!xdr_ns_item(&xdr, (ns_item *)item)) {
		rc = -EBADMSG;
		goto out;
	}
	xdrmem_create(&xdr, bytes, size, XDR_DECODE);
	if (!xdr_ns_item(&xdr, &copy)) {
		namespace_item_fini(&copy);
		goto out;
	}
	*out = copy;
	rc = 0;
out:
	free(bytes);
	return rc;
}

static int apply(struct namespace *ns, const ns_change *change)
{
	struct item_list *list;
	ns_item item;
	int rc;

	if (change->revision != ns->revision + 1)
		return -ESTALE;
	if (change->item.kind < NS_CLUSTER || change->item.kind >= KIND_COUNT)
		return -EBADMSG;
	list = &ns->kinds[change->item.kind];
	switch (change->operation) {
	case NS_PUT:
		if (!may_put(ns, &change->item))
			return -EBADMSG;
		rc = namespace_item_copy(&change->item, &item);
		if (rc < 0)
			return rc;
		rc = list_put(list, &item);
		if (rc < 0) {
			namespace_item_fini(&item);
			return rc;
		}
		break;
	case NS_DELETE:
		if (!may_delete(ns, &change->item))
			return -EBADMSG;
		list_delete(list, item_id(&change->item));
		break;
	default:
		return -EBADMSG;
	}
	ns->revision = change->revision;
	namespace_note_key(ns);
	return 0;
}

int namespace_apply(struct namespace *ns, const ns_change *change)
{
	int rc;

	before_change(ns);
	rc = apply(ns, change);
	after_change(ns);
	return rc;
}

int namespace_snapshot(const struct namespace *ns, uint8_t **bytes, size_t *len)
{
	ns_snapshot snapshot = { .revision = ns->revision };
	size_t count = 0;
	uint8_t *out = NULL;
	u_int size;
	XDR xdr;

	for (size_t kind = 0; kind < KIND_COUNT; kind++)
		count += ns->kinds[kind].count;
	snapshot.items.items_val = calloc(count ? count : 1, sizeof(ns_item));
	if (!snapshot.items.items_val)
		return -ENOMEM;
	for (size_t kind = 0; kind < KIND_COUNT; kind++) {
		const struct item_list *list = &ns->kinds[kind];

		if (list->count)
			memcpy(&snapshot.items.items_val[snapshot.items.items_len], list->items,
			       list->count * sizeof(ns_item));
		snapshot.items.items_len += (u_int)list->count;
	}
	size = (u_int)xdr_sizeof((xdrproc_t)xdr_ns_snapshot, &snapshot);
	out = malloc(size);
	if (out) {
		xdrmem_create(&xdr, (char *)out, size, XDR_ENCODE);
		if (BUG_IF(!xdr_ns_snapshot(&xdr, &snapshot))) {
			free(out);
			out = NULL;
		}
	}
	free(snapshot.items.items_val); /* the items themselves are the lists' */
	if (!out)
		return -ENOMEM;
	*bytes = out;
	*len = size;
	return 0;
}

uint64_t namespace_revision(const struct namespace *ns)
{
	return ns->revision;
}

const ns_cluster *namespace_cluster(const struct namespace *ns)
{
	const ns_item *item = list_find(&ns->kinds[NS_CLUSTER], 0);

	return item ? &item->ns_item_u.cluster : NULL;
}

const struct handle_key *namespace_handle_key(const struct namespace *ns)
{
	return &ns->key;
}

const ns_node *namespace_node(const struct namespace *ns, uint32_t id)
{
	const ns_item *item = list_find(&ns->kinds[NS_NODE], id);

	return item ? &item->ns_item_u.node : NULL;
}

const ns_volume *namespace_volume(const struct namespace *ns, uint32_t id)
{
	const ns_item *item = list_find(&ns->kinds[NS_VOLUME], id);

	return item ? &item->ns_item_u.volume : NULL;
}

const ns_entry *namespace_entry(const struct namespace *ns, uint64_t id)
{
	const ns_item *item = list_find(&ns->kinds[NS_ENTRY], id);

	return item ? &item->ns_item_u.entry : NULL;
}

const ns_user *namespace_user(const struct namespace *ns, uint32_t uid)
{
	const ns_item *item = list_find(&ns->kinds[NS_USER], uid);

	return item ? &item->ns_item_u.user : NULL;
}

const ns_group *namespace_group(const struct namespace *ns, uint32_t gid)
{
	const ns_item *item = list_find(&ns->kinds[NS_GROUP], gid);

	return item ? &item->ns_item_u.group : NULL;
}

bool namespace_is_revoked(const struct namespace *ns, uint32_t node, uint64_t number)
{
	const ns_item *item = list_find(&ns->kinds[NS_REVOCATION], node);

	return item && number < item->ns_item_u.revocation.first_good;
}

const ns_spread *namespace_spread(const struct namespace *ns, uint32_t id)
{
	const ns_item *item = list_find(&ns->kinds[NS_SPREAD], id);

	return item ? &item->ns_item_u.spread : NULL;
}

static const ns_item *next_item(const struct namespace *ns, ns_kind kind, size_t *at)
{
	const struct item_list *list = &ns->kinds[kind];

	return *at < list->count ? &list->items[(*at)++] : NULL;
}

const ns_node *namespace_next_node(const struct namespace *ns, size_t *at)
{
	const ns_item *item = next_item(ns, NS_NODE, at);

	return item ? &item->ns_item_u.node : NULL;
}

const ns_volume *namespace_next_volume(const struct namespace *ns, size_t *at)
{
	const ns_item *item = next_item(ns, NS_VOLUME, at);

	return item ? &item->ns_item_u.volume : NULL;
}

const ns_entry *namespace_next_entry(const struct namespace *ns, size_t *at)
{
	const ns_item *item = next_item(ns, NS_ENTRY, at);

	return item ? &item->ns_item_u.entry : NULL;
}

const ns_export *namespace_next_export(const struct namespace *ns, size_t *at)
{
	const ns_item *item = next_item(ns, NS_EXPORT, at);

	return item ? &item->ns_item_u.export_ : NULL;
}

const ns_user *namespace_next_user(const struct namespace *ns, size_t *at)
{
	const ns_item *item = next_item(ns, NS_USER, at);

	return item ? &item->ns_item_u.user : NULL;
}

const ns_group *namespace_next_group(const struct namespace *ns, size_t *at)
{
	const ns_item *item = next_item(ns, NS_GROUP, at);

	return item ? &item->ns_item_u.group : NULL;
}

const ns_class *namespace_next_class(const struct namespace *ns, size_t *at)
{
	const ns_item *item = next_item(ns, NS_CLASS, at);

	return item ? &item->ns_item_u.class_ : NULL;
}

const ns_spread *namespace_next_spread(const struct namespace *ns, size_t *at)
{
	const ns_item *item = next_item(ns, NS_SPREAD, at);

	return item ? &item->ns_item_u.spread : NULL;
}

const ns_branch *namespace_next_branch(const struct namespace *ns, size_t *at)
{
	const ns_item *item = next_item(ns, NS_BRANCH, at);

	return item ? &item->ns_item_u.branch : NULL;
}

const ns_branch *namespace_branch_by_uuid(const struct namespace *ns, const uint8_t uuid[static NS_UUID_BYTES])
{
	const ns_branch *branch;

	for (size_t at = 0; (branch = namespace_next_branch(ns, &at));)
		if (memcmp(branch->uuid, uuid, NS_UUID_BYTES) == 0)
			return branch;
	return NULL;
}

const ns_node *namespace_node_by_name(const struct namespace *ns, const char *name)
{
	const ns_node *node;

	for (size_t at = 0; (node = namespace_next_node(ns, &at));)
		if (strcmp(node->name, name) == 0)
			return node;
	return NULL;
}

const ns_user *namespace_user_by_name(const struct namespace *ns, const char *name)
{
	const ns_user *user;

	for (size_t at = 0; (user = namespace_next_user(ns, &at));)
		if (strcmp(user->name, name) == 0)
			return user;
	return NULL;
}

const ns_group *namespace_group_by_name(const struct namespace *ns, const char *name)
{
	const ns_group *group;

	for (size_t at = 0; (group = namespace_next_group(ns, &at));)
		if (strcmp(group->name, name) == 0)
			return group;
	return NULL;
}

const ns_volume *namespace_volume_by_uuid(const struct namespace *ns, const uint8_t uuid[static NS_UUID_BYTES])
{
	const ns_volume *volume;

	for (size_t at = 0; (volume = namespace_next_volume(ns, &at));)
		if (memcmp(volume->uuid, uuid, NS_UUID_BYTES) == 0)
			return volume;
	return NULL;
}

const ns_entry *namespace_child(const struct namespace *ns, uint64_t parent, const char *name)
{
	const ns_entry *entry;

	for (size_t at = 0; (entry = namespace_next_entry(ns, &at));)
		if (entry->parent == parent && entry->id != NAMESPACE_ROOT_ENTRY && strcmp(entry->name, name) == 0)
			return entry;
	return NULL;
}

const ns_entry *namespace_place(const struct namespace *ns, uint32_t volume)
{
	const ns_entry *entry;

	for (size_t at = 0; volume != NAMESPACE_ROOT_VOLUME && (entry = namespace_next_entry(ns, &at));)
		if (entry->volume == volume)
			return entry;
	return NULL;
}

const ns_entry *namespace_walk(const struct namespace *ns, const char *path, const char **rest)
{
	const ns_entry *entry = namespace_entry(ns, NAMESPACE_ROOT_ENTRY);
	char name[NS_NAME_MAX + 1];

	while (entry) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len == 0 || entry->volume != NAMESPACE_ROOT_VOLUME)
			break;
		if (len > NS_NAME_MAX)
			return NULL;
		memcpy(name, path, len);
		name[len] = '\0';
		path += len;
		if (strcmp(name, ".") != 0)
			entry = namespace_child(ns, entry->id, name);
	}
	*rest = path;
	return entry;
}

int namespace_path(const struct namespace *ns, const ns_entry *entry, char *out)
{
	char *start = out + NS_TEXT_MAX - 1;

	*start = '\0';
	while (entry && entry->id != NAMESPACE_ROOT_ENTRY) {
		size_t len = strlen(entry->name);

		if (len + 1 > (size_t)(start - out))
			return -ENAMETOOLONG;
		start -= len;
		memcpy(start, entry->name, len);
		*--start = '/';
		entry = namespace_entry(ns, entry->parent);
	}
	if (*start == '\0')
		*--start = '/';
	memmove(out, start, strlen(start) + 1);
	return 0;
}

struct handle namespace_volume_root(const ns_volume *volume)
{
	struct handle handle = {
		.type = HANDLE_LOCAL,
		.volume = volume->id,
		.backend_type = (uint16_t)volume->root_type,
		.backend_len = (uint8_t)volume->root.root_len,
	};

	memcpy(handle.backend, volume->root.root_val, volume->root.root_len);
	return handle;
}

struct handle namespace_entry_handle(const ns_entry *entry)
{
	struct handle handle = { .type = HANDLE_PSEUDO, .backend_len = 8 };
	struct bytes_writer w = bytes_writer_init(handle.backend, 8);

	bytes_put_be64(&w, entry->id);
	return handle;
}

struct handle namespace_spread_handle(uint32_t spread)
{
	return (struct handle){ .type = HANDLE_SPREAD, .volume = spread };
}

static uint64_t fsid_of(const char uuid[static NS_UUID_BYTES])
{
	struct bytes_reader r = bytes_reader_init(uuid, 8);
	uint64_t fsid = bytes_get_be64(&r);

	return fsid ? fsid : 1;
}

uint64_t namespace_spread_fsid(const ns_spread *spread)
{
	return fsid_of(spread->uuid);
}

uint64_t namespace_branch_mask(const ns_branch *branch)
{
	return (uint64_t)branch->id << BRANCH_SHIFT;
}

uint64_t namespace_fsid(const ns_volume *volume)
{
	return fsid_of(volume->uuid);
}
