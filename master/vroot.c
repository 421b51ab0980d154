/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/vroot.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/uuid.h"

#include <errno.h>
#include <openssl/evp.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const char schema[] =
	"PRAGMA user_version = 1;"
	"CREATE TABLE cluster (id INTEGER NOT NULL, uuid BLOB NOT NULL, name TEXT NOT NULL, handle_key BLOB NOT NULL,"
	"	vips TEXT NOT NULL, revision INTEGER NOT NULL);"
	"CREATE TABLE counters (kind INTEGER PRIMARY KEY, last INTEGER NOT NULL);"
	"CREATE TABLE nodes (id INTEGER PRIMARY KEY, name TEXT NOT NULL, state INTEGER NOT NULL, address TEXT NOT NULL,"
	"	port INTEGER NOT NULL, mac BLOB NOT NULL, serial TEXT NOT NULL);"
	"CREATE TABLE volumes (id INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, node INTEGER NOT NULL,"
	"	path TEXT NOT NULL, root_type INTEGER NOT NULL, root BLOB NOT NULL);"
	"CREATE TABLE entries (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL,"
	"	volume INTEGER NOT NULL, changed_ns INTEGER NOT NULL, UNIQUE (parent, name));"
	"CREATE TABLE exports (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, clients TEXT NOT NULL);"
	"CREATE TABLE tokens (hash BLOB PRIMARY KEY, expires_s INTEGER NOT NULL, pending INTEGER NOT NULL);";

enum { TOKEN_BYTES = 16, HASH_BYTES = 32 };

struct vroot {
	sqlite3 *db;
	struct namespace *ns;
	void (*publish)(const ns_change *change, void *arg);
	void *publish_arg;
};

static int db_failed(sqlite3 *db, const char *what)
{
	log_err("vroot", "%s: %s; nothing was changed; check the disk that holds %s", what, sqlite3_errmsg(db),
		sqlite3_db_filename(db, NULL) ? sqlite3_db_filename(db, NULL) : "it");
	return -EIO;
}

static int db_run(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_failed(db, sql);
}

/* One value of a statement. */
struct value {
	enum { VALUE_INTEGER, VALUE_BLOB, VALUE_TEXT } type;
	sqlite3_int64 integer;
	const void *bytes;
	size_t len;
};

#define INTEGER(v) ((struct value){ .integer = (sqlite3_int64)(v) })
#define BLOB(p, n) ((struct value){ .type = VALUE_BLOB, .bytes = (p), .len = (n) })
#define TEXT(s) ((struct value){ .type = VALUE_TEXT, .bytes = (s), .len = strlen(s) })

static sqlite3_stmt *db_prepare(sqlite3 *db, const char *sql, const struct value *values, size_t count)
{
	sqlite3_stmt *statement;

	if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) {
		db_failed(db, sql);
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		const struct value *v = &values[i];

		if (v->type == VALUE_INTEGER)
			sqlite3_bind_int64(statement, (int)i + 1, v->integer);
		else if (v->type == VALUE_TEXT)
			sqlite3_bind_text(statement, (int)i + 1, v->bytes, (int)v->len, SQLITE_TRANSIENT);
		else
			sqlite3_bind_blob(statement, (int)i + 1, v->bytes, (int)v->len, SQLITE_TRANSIENT);
	}
	return statement;
}

static int db_write(sqlite3 *db, const char *sql, const struct value *values, size_t count)
{
	sqlite3_stmt *statement = db_prepare(db, sql, values, count);
	int rc;

	if (!statement)
		return -EIO;
	rc = sqlite3_step(statement) == SQLITE_DONE ? 0 : db_failed(db, sql);
	sqlite3_finalize(statement);
	return rc;
}

#define WRITE(db, sql, ...)                                              \
	db_write(db, sql, (const struct value[]){ __VA_ARGS__ },         \
		 sizeof((const struct value[]){ __VA_ARGS__ }) / sizeof(struct value))

/* Writing items */

static int put_item(sqlite3 *db, const ns_item *item)
{
	const ns_cluster *cluster = &item->ns_item_u.cluster;
	const ns_node *node = &item->ns_item_u.node;
	const ns_volume *volume = &item->ns_item_u.volume;
	const ns_entry *entry = &item->ns_item_u.entry;
	const ns_export *export = &item->ns_item_u.export_;

	switch (item->kind) {
	case NS_CLUSTER:
		return WRITE(db, "UPDATE cluster SET name = ?1, vips = ?2", TEXT(cluster->name), TEXT(cluster->vips));
	case NS_NODE:
		return WRITE(db, "REPLACE INTO nodes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", INTEGER(node->id),
			     TEXT(node->name), INTEGER(node->state), TEXT(node->address), INTEGER(node->port),
			     BLOB(node->mac, sizeof(node->mac)), TEXT(node->serial));
	case NS_VOLUME:
		return WRITE(db, "REPLACE INTO volumes VALUES (?1, ?2, ?3, ?4, ?5, ?6)", INTEGER(volume->id),
			     BLOB(volume->uuid, sizeof(volume->uuid)), INTEGER(volume->node), TEXT(volume->path),
			     INTEGER(volume->root_type), BLOB(volume->root.root_val, volume->root.root_len));
	case NS_ENTRY:
		return WRITE(db, "REPLACE INTO entries VALUES (?1, ?2, ?3, ?4, ?5)", INTEGER(entry->id),
			     INTEGER(entry->parent), BLOB(entry->name, strlen(entry->name)), INTEGER(entry->volume),
			     INTEGER(entry->changed_ns));
	case NS_EXPORT:
		return WRITE(db, "REPLACE INTO exports VALUES (?1, ?2, ?3)", INTEGER(export->id),
			     BLOB(export->path, strlen(export->path)), TEXT(export->clients));
	}
	return -EINVAL;
}

static int delete_item(sqlite3 *db, const ns_item *item)
{
	switch (item->kind) {
	case NS_NODE:
		return WRITE(db, "DELETE FROM nodes WHERE id = ?1", INTEGER(item->ns_item_u.node.id));
	case NS_VOLUME:
		return WRITE(db, "DELETE FROM volumes WHERE id = ?1", INTEGER(item->ns_item_u.volume.id));
	case NS_ENTRY:
		return WRITE(db, "DELETE FROM entries WHERE id = ?1", INTEGER(item->ns_item_u.entry.id));
	case NS_EXPORT:
		return WRITE(db, "DELETE FROM exports WHERE id = ?1", INTEGER(item->ns_item_u.export_.id));
	default:
		return -EINVAL;
	}
}

static int change_commit(struct vroot *vroot, const ns_change *change)
{
	const ns_item *item = &change->item;
	int rc = change->operation == NS_PUT ? put_item(vroot->db, item) : delete_item(vroot->db, item);

	if (rc == 0)
		rc = WRITE(vroot->db, "UPDATE cluster SET revision = ?1", INTEGER(change->revision));
	/* The replica checks the item; only what it took is committed. */
	if (rc == 0)
		rc = namespace_apply(vroot->ns, change);
	if (rc < 0) {
		db_run(vroot->db, "ROLLBACK");
		return rc;
	}
	if (db_run(vroot->db, "COMMIT") < 0) {
		/* Memory is ahead of the disk now: stop before somebody relies on it. */
		log_err("vroot", "revision=%ju is not on disk; stopping", (uintmax_t)change->revision);
		abort();
	}
	return 0;
}

int vroot_change(struct vroot *vroot, ns_operation operation, const ns_item *item)
{
	ns_change change = { .revision = namespace_revision(vroot->ns) + 1, .operation = operation };
	/* A copy: the caller's item may borrow from the very item that it replaces. */
	int rc = namespace_item_copy(item, &change.item);

	if (rc < 0)
		return rc;
	rc = db_run(vroot->db, "BEGIN IMMEDIATE");
	if (rc == 0)
		rc = change_commit(vroot, &change);
	if (rc == 0)
		vroot->publish(&change, vroot->publish_arg);
	namespace_item_fini(&change.item);
	return rc;
}

int vroot_next_id(struct vroot *vroot, ns_kind kind, uint64_t *id)
{
	static const char sql[] = "INSERT INTO counters VALUES (?1, 1) ON CONFLICT (kind) DO UPDATE SET last = last + 1"
				  " RETURNING last";
	sqlite3_stmt *statement = db_prepare(vroot->db, sql, &INTEGER(kind), 1);
	int rc = -EIO;

	if (!statement)
		return -EIO;
	if (sqlite3_step(statement) == SQLITE_ROW) {
		*id = (uint64_t)sqlite3_column_int64(statement, 0);
		rc = sqlite3_step(statement) == SQLITE_DONE ? 0 : -EIO;
	}
	if (rc < 0)
		db_failed(vroot->db, sql);
	sqlite3_finalize(statement);
	return rc;
}

/* Reading */

static char *column_text(sqlite3_stmt *statement, int column)
{
	const char *text = sqlite3_column_blob(statement, column);

	return strndup(text ? text : "", (size_t)sqlite3_column_bytes(statement, column));
}

static bool column_blob(sqlite3_stmt *statement, int column, void *out, size_t len)
{
	if ((size_t)sqlite3_column_bytes(statement, column) != len)
		return false;
	memcpy(out, sqlite3_column_blob(statement, column), len);
	return true;
}

static bool read_cluster(sqlite3_stmt *s, ns_item *item)
{
	ns_cluster *cluster = &item->ns_item_u.cluster;

	cluster->id = (u_int)sqlite3_column_int64(s, 0);
	cluster->name = column_text(s, 2);
	cluster->vips = column_text(s, 4);
	return column_blob(s, 1, cluster->uuid, sizeof(cluster->uuid)) &&
	       column_blob(s, 3, cluster->handle_key, sizeof(cluster->handle_key));
}

static bool read_node(sqlite3_stmt *s, ns_item *item)
{
	ns_node *node = &item->ns_item_u.node;

	node->id = (u_int)sqlite3_column_int64(s, 0);
	node->name = column_text(s, 1);
	node->state = (ns_node_state)sqlite3_column_int(s, 2);
	node->address = column_text(s, 3);
	node->port = (u_int)sqlite3_column_int(s, 4);
	node->serial = column_text(s, 6);
	return column_blob(s, 5, node->mac, sizeof(node->mac));
}

static bool read_volume(sqlite3_stmt *s, ns_item *item)
{
	ns_volume *volume = &item->ns_item_u.volume;
	int root_len = sqlite3_column_bytes(s, 5);

	volume->id = (u_int)sqlite3_column_int64(s, 0);
	volume->node = (u_int)sqlite3_column_int64(s, 2);
	volume->path = column_text(s, 3);
	volume->root_type = (u_int)sqlite3_column_int(s, 4);
	volume->root.root_val = malloc((size_t)root_len + 1);
	if (!volume->root.root_val || root_len > HANDLE_BACKEND_MAX)
		return false;
	volume->root.root_len = (u_int)root_len;
	return column_blob(s, 5, volume->root.root_val, (size_t)root_len) &&
	       column_blob(s, 1, volume->uuid, sizeof(volume->uuid));
}

static bool read_entry(sqlite3_stmt *s, ns_item *item)
{
	ns_entry *entry = &item->ns_item_u.entry;

	entry->id = (uint64_t)sqlite3_column_int64(s, 0);
	entry->parent = (uint64_t)sqlite3_column_int64(s, 1);
	entry->name = column_text(s, 2);
	entry->volume = (u_int)sqlite3_column_int64(s, 3);
	entry->changed_ns = (uint64_t)sqlite3_column_int64(s, 4);
	return true;
}

static bool read_export(sqlite3_stmt *s, ns_item *item)
{
	ns_export *export = &item->ns_item_u.export_;

	export->id = (u_int)sqlite3_column_int64(s, 0);
	export->path = column_text(s, 1);
	export->clients = column_text(s, 2);
	return true;
}

static const struct {
	ns_kind kind;
	const char *sql;
	bool (*read)(sqlite3_stmt *statement, ns_item *item);
} readers[] = {
	{ NS_CLUSTER, "SELECT id, uuid, name, handle_key, vips FROM cluster", read_cluster },
	{ NS_NODE, "SELECT id, name, state, address, port, mac, serial FROM nodes ORDER BY id", read_node },
	{ NS_VOLUME, "SELECT id, uuid, node, path, root_type, root FROM volumes ORDER BY id", read_volume },
	{ NS_ENTRY, "SELECT id, parent, name, volume, changed_ns FROM entries ORDER BY id", read_entry },
	{ NS_EXPORT, "SELECT id, path, clients FROM exports ORDER BY id", read_export },
};

static int snapshot_append(ns_snapshot *snapshot, const ns_item *item)
{
	ns_item *items = reallocarray(snapshot->items.items_val, snapshot->items.items_len + 1, sizeof(*items));

	if (!items)
		return -ENOMEM;
	snapshot->items.items_val = items;
	items[snapshot->items.items_len++] = *item;
	return 0;
}

static int read_kind(sqlite3 *db, size_t reader, ns_snapshot *snapshot)
{
	sqlite3_stmt *statement = db_prepare(db, readers[reader].sql, NULL, 0);
	int rc = 0, step = SQLITE_DONE;

	if (!statement)
		return -EBADMSG;
	while (rc == 0 && (step = sqlite3_step(statement)) == SQLITE_ROW) {
		ns_item item = { .kind = readers[reader].kind };

		if (!readers[reader].read(statement, &item))
			rc = -EBADMSG;
		if (rc < 0 || snapshot_append(snapshot, &item) < 0) {
			xdr_free((xdrproc_t)xdr_ns_item, (char *)&item);
			rc = rc < 0 ? rc : -ENOMEM;
		}
	}
	if (rc == 0 && step != SQLITE_DONE)
		rc = db_failed(db, readers[reader].sql);
	sqlite3_finalize(statement);
	return rc;
}

static int read_revision(sqlite3 *db, uint64_t *revision)
{
	sqlite3_stmt *statement = db_prepare(db, "SELECT revision FROM cluster", NULL, 0);
	int rc = -EBADMSG;

	if (statement && sqlite3_step(statement) == SQLITE_ROW) {
		*revision = (uint64_t)sqlite3_column_int64(statement, 0);
		rc = 0;
	}
	sqlite3_finalize(statement);
	return rc;
}

/* By way of the snapshot's bytes, so that the replica is checked as a slave's is. */
static int load(sqlite3 *db, struct namespace *ns)
{
	ns_snapshot snapshot = { 0 };
	uint64_t revision = 0;
	char *bytes = NULL;
	u_int size;
	XDR xdr;
	int rc = read_revision(db, &revision);

	snapshot.revision = revision;
	for (size_t i = 0; rc == 0 && i < sizeof(readers) / sizeof(readers[0]); i++)
		rc = read_kind(db, i, &snapshot);
	if (rc < 0)
		goto out;
	size = (u_int)xdr_sizeof((xdrproc_t)xdr_ns_snapshot, &snapshot);
	bytes = malloc(size ? size : 1);
	rc = -ENOMEM;
	if (!bytes)
		goto out;
	xdrmem_create(&xdr, bytes, size, XDR_ENCODE);
	rc = xdr_ns_snapshot(&xdr, &snapshot) ? namespace_load(ns, bytes, size) : -EBADMSG;
out:
	free(bytes);
	xdr_free((xdrproc_t)xdr_ns_snapshot, (char *)&snapshot);
	return rc;
}

/* Life */

static int db_open(const char *path, int flags, sqlite3 **db)
{
	if (sqlite3_open_v2(path, db, flags, NULL) != SQLITE_OK) {
		log_err("vroot", "%s: %s", path, *db ? sqlite3_errmsg(*db) : "no memory");
		sqlite3_close(*db);
		*db = NULL;
		return -EIO;
	}
	sqlite3_busy_timeout(*db, 5000);
	if (db_run(*db, "PRAGMA journal_mode = WAL") < 0 || db_run(*db, "PRAGMA synchronous = FULL") < 0) {
		sqlite3_close(*db);
		*db = NULL;
		return -EIO;
	}
	return 0;
}

static int fill_new(sqlite3 *db, const char *name, uint8_t cluster[static NS_UUID_BYTES])
{
	uint8_t key[NS_KEY_BYTES], mac[6] = { 0 };
	uint32_t id;
	int rc;

	if (uuid_make(cluster) < 0 || getrandom(key, sizeof(key), 0) != sizeof(key) ||
	    getrandom(&id, sizeof(id), 0) != sizeof(id))
		return -EIO;
	rc = db_run(db, schema);
	if (rc == 0)
		rc = WRITE(db, "INSERT INTO cluster VALUES (?1, ?2, ?3, ?4, '', 1)", INTEGER(id),
			   BLOB(cluster, NS_UUID_BYTES), TEXT(name), BLOB(key, sizeof(key)));
	if (rc == 0)
		rc = WRITE(db, "INSERT INTO nodes VALUES (?1, 'master', ?2, '', 0, ?3, '')", INTEGER(NAMESPACE_MASTER),
			   INTEGER(NS_NODE_APPROVED), BLOB(mac, sizeof(mac)));
	if (rc == 0)
		rc = WRITE(db, "INSERT INTO entries VALUES (?1, ?1, x'', 0, ?2)", INTEGER(NAMESPACE_ROOT_ENTRY),
			   INTEGER(clock_wall_ns()));
	/* Node 1 and entry 1 are taken. */
	if (rc == 0)
		rc = WRITE(db, "INSERT INTO counters VALUES (?1, 1), (?2, 1)", INTEGER(NS_NODE), INTEGER(NS_ENTRY));
	return rc;
}

int vroot_create(const char *path, const char *name, uint8_t cluster[static NS_UUID_BYTES])
{
	sqlite3 *db = NULL;
	mode_t mask;
	int rc;

	if (access(path, F_OK) == 0)
		return -EEXIST;
	mask = umask(0077); /* the handle key is in it */
	rc = db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
	if (rc == 0)
		rc = db_run(db, "BEGIN");
	if (rc == 0)
		rc = fill_new(db, name, cluster);
	if (rc == 0)
		rc = db_run(db, "COMMIT");
	sqlite3_close(db);
	umask(mask);
	if (rc < 0)
		unlink(path);
	return rc;
}

int vroot_open(const char *path, struct namespace *ns, void (*publish)(const ns_change *change, void *arg), void *arg,
	       struct vroot **out)
{
	struct vroot *vroot;
	int rc;

	if (access(path, F_OK) < 0)
		return -errno;
	vroot = calloc(1, sizeof(*vroot));
	if (!vroot)
		return -ENOMEM;
	vroot->ns = ns;
	vroot->publish = publish;
	vroot->publish_arg = arg;
	rc = db_open(path, SQLITE_OPEN_READWRITE, &vroot->db);
	if (rc == 0)
		rc = load(vroot->db, ns);
	if (rc < 0) {
		log_err("vroot", "%s can't be loaded: %s; restore it from a backup", path, strerror(-rc));
		vroot_close(vroot);
		return rc;
	}
	*out = vroot;
	return 0;
}

void vroot_close(struct vroot *vroot)
{
	if (!vroot)
		return;
	sqlite3_close(vroot->db);
	free(vroot);
}

/* Places */

static int put_entry(struct vroot *vroot, uint64_t parent, const char *name, uint32_t volume, uint64_t *id)
{
	ns_item item = { .kind = NS_ENTRY };
	ns_entry *entry = &item.ns_item_u.entry;
	int rc = vroot_next_id(vroot, NS_ENTRY, id);

	if (rc < 0)
		return rc;
	*entry = (ns_entry){
		.id = *id, .parent = parent, .name = (char *)name, .volume = volume, .changed_ns = clock_wall_ns()
	};
	return vroot_change(vroot, NS_PUT, &item);
}

/* A directory's time changes when an entry comes or goes. */
static int touch_directory(struct vroot *vroot, uint64_t id)
{
	const ns_entry *entry = namespace_entry(vroot->ns, id);
	ns_item item = { .kind = NS_ENTRY };

	if (!entry)
		return 0;
	item.ns_item_u.entry = *entry;
	item.ns_item_u.entry.changed_ns = clock_wall_ns();
	return vroot_change(vroot, NS_PUT, &item);
}

static int next_disk(struct vroot *vroot, char *place, size_t size)
{
	for (unsigned int n = 0;; n++) {
		snprintf(place, size, "/disk%u", n);
		if (!namespace_child(vroot->ns, NAMESPACE_ROOT_ENTRY, place + 1))
			return 0;
	}
}

/* Before any directory is made: are all of a path's names good ones? 0; -EINVAL; -ENAMETOOLONG */
static int check_place(const char *place)
{
	if (place[0] != '/' || !place[strspn(place, "/")])
		return -EINVAL; /* the root itself is no place for a volume */
	for (const char *name = place; *(name += strspn(name, "/"));) {
		size_t len = strcspn(name, "/");

		if (len > NS_NAME_MAX)
			return -ENAMETOOLONG;
		if (strncmp(name, "..", len) == 0 && len <= 2)
			return -EINVAL;
		name += len;
	}
	return 0;
}

int vroot_make_place(struct vroot *vroot, uint32_t volume, const char *place)
{
	uint64_t parent = NAMESPACE_ROOT_ENTRY, id;
	char copy[NS_TEXT_MAX], *rest = copy, *name;
	int rc;

	if (!place[0])
		next_disk(vroot, copy, sizeof(copy));
	else if ((size_t)snprintf(copy, sizeof(copy), "%s", place) >= sizeof(copy))
		return -ENAMETOOLONG;
	rc = check_place(copy);
	if (rc < 0)
		return rc;
	rest += strspn(rest, "/");
	while ((name = strsep(&rest, "/"))) {
		const ns_entry *entry;
		bool last;

		if (rest)
			rest += strspn(rest, "/");
		last = !rest || !*rest;
		entry = namespace_child(vroot->ns, parent, name);
		if (entry && last)
			return entry->volume == volume ? 0 : -EEXIST;
		if (entry && entry->volume != NAMESPACE_ROOT_VOLUME)
			return -ENOTDIR;
		if (entry) {
			parent = entry->id;
			continue;
		}
		rc = put_entry(vroot, parent, name, last ? volume : NAMESPACE_ROOT_VOLUME, &id);
		if (rc == 0)
			rc = touch_directory(vroot, parent);
		if (rc < 0 || last)
			return rc;
		parent = id;
	}
	return 0;
}

static bool has_children(struct vroot *vroot, uint64_t id)
{
	const ns_entry *entry;

	for (size_t at = 0; (entry = namespace_next_entry(vroot->ns, &at));)
		if (entry->parent == id && entry->id != id)
			return true;
	return false;
}

int vroot_remove_places(struct vroot *vroot, uint32_t volume)
{
	const ns_entry *entry;
	int rc = 0;

	while (rc == 0 && (entry = namespace_place(vroot->ns, volume))) {
		uint64_t id = entry->id, parent = entry->parent;

		/* The place itself, then directories above it that held nothing else. */
		do {
			ns_item item = { .kind = NS_ENTRY, .ns_item_u.entry = { .id = id, .name = (char *)"" } };

			entry = namespace_entry(vroot->ns, id);
			parent = entry ? entry->parent : NAMESPACE_ROOT_ENTRY;
			rc = vroot_change(vroot, NS_DELETE, &item);
			id = parent;
		} while (rc == 0 && id != NAMESPACE_ROOT_ENTRY && !has_children(vroot, id));
		if (rc == 0)
			rc = touch_directory(vroot, parent);
	}
	return rc;
}

/* Tokens: only their hash is kept */

static int token_hash(const char *secret, uint8_t hash[static HASH_BYTES])
{
	unsigned int len = HASH_BYTES;

	return EVP_Digest(secret, strlen(secret), hash, &len, EVP_sha256(), NULL) == 1 ? 0 : -EIO;
}

int vroot_token_make(struct vroot *vroot, unsigned int lifetime_s, bool pending, char secret[static VROOT_TOKEN_TEXT])
{
	uint8_t bytes[TOKEN_BYTES], hash[HASH_BYTES];
	uint64_t expires_s = clock_wall_ns() / 1000000000u + lifetime_s;

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < sizeof(bytes); i++)
		sprintf(secret + 2 * i, "%02x", bytes[i]);
	if (token_hash(secret, hash) < 0)
		return -EIO;
	return WRITE(vroot->db, "INSERT INTO tokens VALUES (?1, ?2, ?3)", BLOB(hash, sizeof(hash)), INTEGER(expires_s),
		     INTEGER(pending));
}

int vroot_token_use(struct vroot *vroot, const char *secret, bool *pending)
{
	static const char sql[] = "DELETE FROM tokens WHERE hash = ?1 RETURNING expires_s, pending";
	uint64_t expires_s = 0;
	uint8_t hash[HASH_BYTES];
	sqlite3_stmt *statement;
	int rc = -EACCES;

	if (token_hash(secret, hash) < 0)
		return -EIO;
	statement = db_prepare(vroot->db, sql, &BLOB(hash, sizeof(hash)), 1);
	if (!statement)
		return -EIO;
	if (sqlite3_step(statement) == SQLITE_ROW) {
		expires_s = (uint64_t)sqlite3_column_int64(statement, 0);
		*pending = sqlite3_column_int(statement, 1);
		rc = sqlite3_step(statement) == SQLITE_DONE ? 0 : db_failed(vroot->db, sql);
	}
	sqlite3_finalize(statement);
	if (rc == 0 && expires_s < clock_wall_ns() / 1000000000u)
		rc = -ETIME;
	return rc;
}
