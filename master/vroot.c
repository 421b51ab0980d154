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

/*
 * What each version of the database adds to the one before; its number, in SQLite's user_version, is how many of these it has
 * seen. A new cluster goes the same way as an old one. Never changed, only added to.
 */
static const char *const versions[] = {
	/* 1 */
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
	"CREATE TABLE tokens (hash BLOB PRIMARY KEY, expires_s INTEGER NOT NULL, pending INTEGER NOT NULL);",
	/* 2; they were made without a number for a while */
	("CREATE TABLE IF NOT EXISTS users (uid INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, gid INTEGER NOT NULL,"
	"	groups TEXT NOT NULL, comment TEXT NOT NULL, password TEXT NOT NULL);"
	"CREATE TABLE IF NOT EXISTS groups (gid INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"),
	/* 3: machines that applied without a token, and what became of them; node 0: rejected */
	"CREATE TABLE candidates (key BLOB PRIMARY KEY, node INTEGER NOT NULL, decided_s INTEGER NOT NULL);",
	/* 4 */
	("CREATE TABLE classes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, members TEXT NOT NULL,"
	 "	weight INTEGER NOT NULL, operations INTEGER NOT NULL, bytes INTEGER NOT NULL);"),
	/* 5: how much of the new connections a node gets; of others BALANCE_WEIGHT */
	"CREATE TABLE weights (node INTEGER PRIMARY KEY, weight INTEGER NOT NULL);",
	/* 6 */
	("CREATE TABLE revocations (node INTEGER PRIMARY KEY, first_good INTEGER NOT NULL, revoked_ns INTEGER NOT NULL);"
	 "CREATE TABLE certificates (serial TEXT PRIMARY KEY, node INTEGER NOT NULL, number INTEGER NOT NULL,"
	 "	issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL);"),
	/* 7 */
	("CREATE TABLE spreads (id INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, policy INTEGER NOT NULL,"
	 "	mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL);"
	 "CREATE TABLE branches (id INTEGER PRIMARY KEY, spread INTEGER NOT NULL, uuid BLOB NOT NULL UNIQUE,"
	 "	volume BLOB NOT NULL, weight INTEGER NOT NULL);"),
};

enum {
	SCHEMA_VERSION = sizeof(versions) / sizeof(versions[0]),
	TOKEN_BYTES = 16,
	HASH_BYTES = 32,
	REJECTED_MAX = 1024, /* the oldest are forgotten: they may apply again */
};

struct vroot {
	sqlite3 *db;
	struct namespace *ns;
	void (*publish)(const ns_change *change, void *arg);
	void *publish_arg;
	void (*witness)(const ns_change *change, void *arg); /* or NULL */
	void *witness_arg;
	bool (*keeps)(const char *path, void *arg);
	void *keeps_arg;
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

static int put_user(sqlite3 *db, const ns_user *user)
{
	char groups[NS_USER_GROUPS_MAX * sizeof("4294967295")] = "";
	size_t len = 0;

	for (u_int i = 0; i < user->groups.groups_len; i++)
		len += (size_t)snprintf(groups + len, sizeof(groups) - len, "%s%u", i ? " " : "", user->groups.groups_val[i]);
	return WRITE(db, "REPLACE INTO users VALUES (?1, ?2, ?3, ?4, ?5, ?6)", INTEGER(user->uid), TEXT(user->name),
		     INTEGER(user->gid), TEXT(groups), TEXT(user->comment), TEXT(user->password));
}

static int put_item(sqlite3 *db, const ns_item *item)
{
	const ns_cluster *cluster = &item->ns_item_u.cluster;
	const ns_node *node = &item->ns_item_u.node;
	const ns_volume *volume = &item->ns_item_u.volume;
	const ns_entry *entry = &item->ns_item_u.entry;
	const ns_export *export = &item->ns_item_u.export_;
	const ns_class *class = &item->ns_item_u.class_;
	const ns_revocation *revocation = &item->ns_item_u.revocation;
	const ns_spread *spread = &item->ns_item_u.spread;
	const ns_branch *branch = &item->ns_item_u.branch;

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
	case NS_USER:
		return put_user(db, &item->ns_item_u.user);
	case NS_GROUP:
		return WRITE(db, "REPLACE INTO groups VALUES (?1, ?2)", INTEGER(item->ns_item_u.group.gid),
			     TEXT(item->ns_item_u.group.name));
	case NS_CLASS:
		return WRITE(db, "REPLACE INTO classes VALUES (?1, ?2, ?3, ?4, ?5, ?6)", INTEGER(class->id),
			     TEXT(class->name), TEXT(class->members), INTEGER(class->weight), INTEGER(class->operations),
			     INTEGER(class->bytes));
	case NS_REVOCATION:
		return WRITE(db, "REPLACE INTO revocations VALUES (?1, ?2, ?3)", INTEGER(revocation->node),
			     INTEGER(revocation->first_good), INTEGER(revocation->revoked_ns));
	case NS_SPREAD:
		return WRITE(db, "REPLACE INTO spreads VALUES (?1, ?2, ?3, ?4, ?5, ?6)", INTEGER(spread->id),
			     BLOB(spread->uuid, sizeof(spread->uuid)), INTEGER(spread->policy), INTEGER(spread->mode),
			     INTEGER(spread->uid), INTEGER(spread->gid));
	case NS_BRANCH:
		return WRITE(db, "REPLACE INTO branches VALUES (?1, ?2, ?3, ?4, ?5)", INTEGER(branch->id), INTEGER(branch->spread),
			     BLOB(branch->uuid, sizeof(branch->uuid)), BLOB(branch->on, sizeof(branch->on)),
			     INTEGER(branch->weight));
	}
	return -EINVAL;
}

static int delete_item(sqlite3 *db, const ns_item *item)
{
	switch (item->kind) {
	case NS_NODE:
		return WRITE(db, "DELETE FROM nodes WHERE id = ?1", INTEGER(item->ns_item_u.node.id)) ?:
		       WRITE(db, "DELETE FROM candidates WHERE node = ?1", INTEGER(item->ns_item_u.node.id)) ?:
		       WRITE(db, "DELETE FROM weights WHERE node = ?1", INTEGER(item->ns_item_u.node.id)) ?:
		       WRITE(db, "DELETE FROM certificates WHERE node = ?1", INTEGER(item->ns_item_u.node.id));
	case NS_VOLUME:
		return WRITE(db, "DELETE FROM volumes WHERE id = ?1", INTEGER(item->ns_item_u.volume.id));
	case NS_ENTRY:
		return WRITE(db, "DELETE FROM entries WHERE id = ?1", INTEGER(item->ns_item_u.entry.id));
	case NS_EXPORT:
		return WRITE(db, "DELETE FROM exports WHERE id = ?1", INTEGER(item->ns_item_u.export_.id));
	case NS_USER:
		return WRITE(db, "DELETE FROM users WHERE uid = ?1", INTEGER(item->ns_item_u.user.uid));
	case NS_GROUP:
		return WRITE(db, "DELETE FROM groups WHERE gid = ?1", INTEGER(item->ns_item_u.group.gid));
	case NS_CLASS:
		return WRITE(db, "DELETE FROM classes WHERE id = ?1", INTEGER(item->ns_item_u.class_.id));
	case NS_REVOCATION:
		return WRITE(db, "DELETE FROM revocations WHERE node = ?1", INTEGER(item->ns_item_u.revocation.node));
	case NS_SPREAD:
		return WRITE(db, "DELETE FROM spreads WHERE id = ?1", INTEGER(item->ns_item_u.spread.id));
	case NS_BRANCH:
		return WRITE(db, "DELETE FROM branches WHERE id = ?1", INTEGER(item->ns_item_u.branch.id));
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

void vroot_set_witness(struct vroot *vroot, void (*witness)(const ns_change *change, void *arg), void *arg)
{
	vroot->witness = witness;
	vroot->witness_arg = arg;
}

int vroot_change(struct vroot *vroot, ns_operation operation, const ns_item *item)
{
	ns_change change = { .revision = namespace_revision(vroot->ns) + 1, .operation = operation };
	/* A copy: the caller's item may borrow from the very item that it replaces. */
	int rc = namespace_item_copy(item, &change.item);

	if (rc < 0)
		return rc;
	if (vroot->witness)
		vroot->witness(&change, vroot->witness_arg);
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

/* Numbers, separated by one space. */
static bool read_groups(char *text, ns_user *user)
{
	char *rest = NULL;

	/* A number and what separates it take two characters at least. */
	user->groups.groups_val = text ? calloc(strlen(text) / 2 + 1, sizeof(u_int)) : NULL;
	if (!user->groups.groups_val)
		return false;
	for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		user->groups.groups_val[user->groups.groups_len++] = (u_int)strtoul(word, NULL, 10);
	return true;
}

static bool read_user(sqlite3_stmt *s, ns_item *item)
{
	ns_user *user = &item->ns_item_u.user;
	char *groups = column_text(s, 3);
	bool ok;

	user->uid = (u_int)sqlite3_column_int64(s, 0);
	user->name = column_text(s, 1);
	user->gid = (u_int)sqlite3_column_int64(s, 2);
	user->comment = column_text(s, 4);
	user->password = column_text(s, 5);
	ok = read_groups(groups, user);
	free(groups);
	return ok;
}

static bool read_group(sqlite3_stmt *s, ns_item *item)
{
	item->ns_item_u.group.gid = (u_int)sqlite3_column_int64(s, 0);
	item->ns_item_u.group.name = column_text(s, 1);
	return true;
}

static bool read_class(sqlite3_stmt *s, ns_item *item)
{
	ns_class *class = &item->ns_item_u.class_;

	class->id = (u_int)sqlite3_column_int64(s, 0);
	class->name = column_text(s, 1);
	class->members = column_text(s, 2);
	class->weight = (u_int)sqlite3_column_int64(s, 3);
	class->operations = (uint64_t)sqlite3_column_int64(s, 4);
	class->bytes = (uint64_t)sqlite3_column_int64(s, 5);
	return true;
}

static bool read_revocation(sqlite3_stmt *s, ns_item *item)
{
	item->ns_item_u.revocation = (ns_revocation){
		.node = (u_int)sqlite3_column_int64(s, 0),
		.first_good = (uint64_t)sqlite3_column_int64(s, 1),
		.revoked_ns = (uint64_t)sqlite3_column_int64(s, 2),
	};
	return true;
}

static bool read_spread(sqlite3_stmt *s, ns_item *item)
{
	ns_spread *spread = &item->ns_item_u.spread;

	spread->id = (u_int)sqlite3_column_int64(s, 0);
	spread->policy = (ns_spread_policy)sqlite3_column_int(s, 2);
	spread->mode = (u_int)sqlite3_column_int64(s, 3);
	spread->uid = (u_int)sqlite3_column_int64(s, 4);
	spread->gid = (u_int)sqlite3_column_int64(s, 5);
	return column_blob(s, 1, spread->uuid, sizeof(spread->uuid));
}

static bool read_branch(sqlite3_stmt *s, ns_item *item)
{
	ns_branch *branch = &item->ns_item_u.branch;

	branch->id = (u_int)sqlite3_column_int64(s, 0);
	branch->spread = (u_int)sqlite3_column_int64(s, 1);
	branch->weight = (u_int)sqlite3_column_int64(s, 4);
	return column_blob(s, 2, branch->uuid, sizeof(branch->uuid)) && column_blob(s, 3, branch->on, sizeof(branch->on));
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
	{ NS_USER, "SELECT uid, name, gid, groups, comment, password FROM users ORDER BY uid", read_user },
	{ NS_GROUP, "SELECT gid, name FROM groups ORDER BY gid", read_group },
	{ NS_CLASS, "SELECT id, name, members, weight, operations, bytes FROM classes ORDER BY id", read_class },
	{ NS_REVOCATION, "SELECT node, first_good, revoked_ns FROM revocations ORDER BY node", read_revocation },
	{ NS_SPREAD, "SELECT id, uuid, policy, mode, uid, gid FROM spreads ORDER BY id", read_spread },
	{ NS_BRANCH, "SELECT id, spread, uuid, volume, weight FROM branches ORDER BY id", read_branch },
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

static int read_version(sqlite3 *db, unsigned int *version)
{
	static const char sql[] = "PRAGMA user_version";
	sqlite3_stmt *statement = db_prepare(db, sql, NULL, 0);
	int rc = -EIO;

	if (statement && sqlite3_step(statement) == SQLITE_ROW) {
		*version = (unsigned int)sqlite3_column_int(statement, 0);
		rc = 0;
	}
	sqlite3_finalize(statement);
	return rc < 0 ? db_failed(db, sql) : 0;
}

/* Within a transaction, of which the version is a part. */
static int add_versions(sqlite3 *db, unsigned int from)
{
	char sql[48];
	int rc = 0;

	for (unsigned int version = from; rc == 0 && version < SCHEMA_VERSION; version++)
		rc = db_run(db, versions[version]);
	snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", SCHEMA_VERSION);
	return rc < 0 ? rc : db_run(db, sql);
}

/* 0; -EPROTO if a later vnasd has made it; -EIO; -EBADMSG if it is none of ours */
static int bring_up_to_date(sqlite3 *db)
{
	unsigned int version = 0;
	int rc = read_version(db, &version);

	if (rc < 0 || version == SCHEMA_VERSION)
		return rc;
	if (version == 0 || version > SCHEMA_VERSION) {
		log_err("vroot", "%s has version %u, this vnasd knows 1 to %d; %s", sqlite3_db_filename(db, NULL), version,
			SCHEMA_VERSION, version ? "install the vnasd that made it, or a later one" : "is it a cluster's?");
		return version ? -EPROTO : -EBADMSG;
	}
	rc = db_run(db, "BEGIN IMMEDIATE");
	if (rc == 0)
		rc = add_versions(db, version);
	if (rc == 0)
		rc = db_run(db, "COMMIT");
	if (rc == 0)
		log_info("vroot", "%s brought from version %u to %d", sqlite3_db_filename(db, NULL), version, SCHEMA_VERSION);
	return rc;
}

static int fill_new(sqlite3 *db, const char *name, uint8_t cluster[static NS_UUID_BYTES])
{
	uint8_t key[NS_KEY_BYTES], mac[6] = { 0 };
	uint32_t id;
	int rc;

	if (uuid_make(cluster) < 0 || getrandom(key, sizeof(key), 0) != sizeof(key) ||
	    getrandom(&id, sizeof(id), 0) != sizeof(id))
		return -EIO;
	rc = add_versions(db, 0);
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
		rc = bring_up_to_date(vroot->db);
	if (rc == 0)
		rc = load(vroot->db, ns);
	if (rc < 0) {
		if (rc != -EPROTO) /* that was said, and there is nothing wrong with it */
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

/* A directory's time changes when an entry comes or goes: always forward, for clients see by it that there is something new. */
static int touch_directory(struct vroot *vroot, uint64_t id)
{
	const ns_entry *entry = namespace_entry(vroot->ns, id);
	ns_item item = { .kind = NS_ENTRY };

	if (!entry)
		return 0;
	item.ns_item_u.entry = *entry;
	item.ns_item_u.entry.changed_ns = clock_wall_ns();
	if (item.ns_item_u.entry.changed_ns <= entry->changed_ns)
		item.ns_item_u.entry.changed_ns = entry->changed_ns + 1;
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

/*
 * Make what is missing of the directories above the last name of a path.
 * @path: NS_TEXT_MAX bytes that are cut up; @name: out: the last name, in @path
 */
static int make_way(struct vroot *vroot, char *path, uint64_t *parent, const char **name)
{
	char *rest = path + strspn(path, "/");

	*parent = NAMESPACE_ROOT_ENTRY;
	while ((*name = strsep(&rest, "/"))) {
		const ns_entry *entry;
		uint64_t id;
		int rc;

		if (rest)
			rest += strspn(rest, "/");
		if (!rest || !*rest)
			return 0;
		entry = namespace_child(vroot->ns, *parent, *name);
		if (entry && entry->volume != NAMESPACE_ROOT_VOLUME)
			return -ENOTDIR;
		if (entry) {
			*parent = entry->id;
			continue;
		}
		rc = put_entry(vroot, *parent, *name, NAMESPACE_ROOT_VOLUME, &id);
		if (rc == 0)
			rc = touch_directory(vroot, *parent);
		if (rc < 0)
			return rc;
		*parent = id;
	}
	return -EINVAL;
}

/* Check a place, and make the way to it. */
static int begin_place(struct vroot *vroot, const char *place, char path[static NS_TEXT_MAX], uint64_t *parent,
		       const char **name)
{
	int rc;

	if ((size_t)snprintf(path, NS_TEXT_MAX, "%s", place) >= NS_TEXT_MAX)
		return -ENAMETOOLONG;
	rc = check_place(path);
	return rc < 0 ? rc : make_way(vroot, path, parent, name);
}

int vroot_make_place(struct vroot *vroot, uint32_t volume, const char *place)
{
	char path[NS_TEXT_MAX], disk[NS_TEXT_MAX];
	const ns_entry *entry;
	uint64_t parent, id;
	const char *name;
	int rc;

	if (!place[0])
		next_disk(vroot, disk, sizeof(disk));
	rc = begin_place(vroot, place[0] ? place : disk, path, &parent, &name);
	if (rc < 0)
		return rc;
	entry = namespace_child(vroot->ns, parent, name);
	if (entry)
		return entry->volume == volume ? 0 : -EEXIST;
	rc = put_entry(vroot, parent, name, volume, &id);
	return rc < 0 ? rc : touch_directory(vroot, parent);
}

int vroot_make_directory(struct vroot *vroot, const char *wanted)
{
	char path[NS_TEXT_MAX];
	const ns_entry *entry;
	uint64_t parent, id;
	const char *name;
	int rc = begin_place(vroot, wanted, path, &parent, &name);

	if (rc < 0)
		return rc;
	entry = namespace_child(vroot->ns, parent, name);
	if (entry)
		return entry->volume == NAMESPACE_ROOT_VOLUME ? 0 : -EEXIST;
	rc = put_entry(vroot, parent, name, NAMESPACE_ROOT_VOLUME, &id);
	return rc < 0 ? rc : touch_directory(vroot, parent);
}

void vroot_set_keeps(struct vroot *vroot, bool (*keeps)(const char *path, void *arg), void *arg)
{
	vroot->keeps = keeps;
	vroot->keeps_arg = arg;
}

static bool is_kept(struct vroot *vroot, uint64_t id)
{
	const ns_entry *entry = namespace_entry(vroot->ns, id);
	char path[NS_TEXT_MAX];

	return vroot->keeps && entry && namespace_path(vroot->ns, entry, path) == 0 && vroot->keeps(path, vroot->keeps_arg);
}

static bool has_children(struct vroot *vroot, uint64_t id)
{
	const ns_entry *entry;

	for (size_t at = 0; (entry = namespace_next_entry(vroot->ns, &at));)
		if (entry->parent == id && entry->id != id)
			return true;
	return false;
}

/* Remove directories that nothing is in any more, from @id upwards; what stays has changed. */
static int prune(struct vroot *vroot, uint64_t id)
{
	while (id != NAMESPACE_ROOT_ENTRY && !has_children(vroot, id) && !is_kept(vroot, id)) {
		const ns_entry *entry = namespace_entry(vroot->ns, id);
		ns_item item = { .kind = NS_ENTRY, .ns_item_u.entry = { .id = id, .name = (char *)"" } };
		uint64_t parent = entry ? entry->parent : NAMESPACE_ROOT_ENTRY;
		int rc = vroot_change(vroot, NS_DELETE, &item);

		if (rc < 0)
			return rc;
		id = parent;
	}
	return touch_directory(vroot, id);
}

int vroot_remove_place(struct vroot *vroot, uint64_t id)
{
	const ns_entry *entry = namespace_entry(vroot->ns, id);
	ns_item item = { .kind = NS_ENTRY, .ns_item_u.entry = { .id = id, .name = (char *)"" } };
	uint64_t parent;
	int rc;

	if (!entry || entry->volume == NAMESPACE_ROOT_VOLUME)
		return -ENOENT;
	parent = entry->parent;
	rc = vroot_change(vroot, NS_DELETE, &item);
	return rc < 0 ? rc : prune(vroot, parent);
}

int vroot_remove_places(struct vroot *vroot, uint32_t volume)
{
	const ns_entry *entry;
	int rc = 0;

	while (rc == 0 && (entry = namespace_place(vroot->ns, volume)))
		rc = vroot_remove_place(vroot, entry->id);
	return rc;
}

/* One change, so that no client ever sees the volume nowhere. */
int vroot_move_place(struct vroot *vroot, uint64_t id, const char *place)
{
	ns_item item = { .kind = NS_ENTRY };
	const ns_entry *entry, *there;
	char path[NS_TEXT_MAX];
	uint64_t parent, old_parent;
	const char *name;
	int rc = begin_place(vroot, place, path, &parent, &name);

	if (rc < 0)
		return rc;
	entry = namespace_entry(vroot->ns, id);
	if (!entry || entry->volume == NAMESPACE_ROOT_VOLUME)
		return -ENOENT;
	there = namespace_child(vroot->ns, parent, name);
	if (there)
		return there->id == id ? 0 : -EEXIST;
	old_parent = entry->parent;
	item.ns_item_u.entry = *entry;
	item.ns_item_u.entry.parent = parent;
	item.ns_item_u.entry.name = (char *)name;
	rc = vroot_change(vroot, NS_PUT, &item);
	if (rc == 0)
		rc = touch_directory(vroot, parent);
	return rc < 0 ? rc : prune(vroot, old_parent);
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

/* Candidates */

int vroot_candidate_get(struct vroot *vroot, const uint8_t key[static VROOT_KEY_BYTES], uint32_t *node)
{
	static const char sql[] = "SELECT node FROM candidates WHERE key = ?1";
	sqlite3_stmt *statement = db_prepare(vroot->db, sql, &BLOB(key, VROOT_KEY_BYTES), 1);
	int step, rc = -ENOENT;

	if (!statement)
		return -EIO;
	step = sqlite3_step(statement);
	if (step == SQLITE_ROW) {
		*node = (uint32_t)sqlite3_column_int64(statement, 0);
		rc = 0;
	} else if (step != SQLITE_DONE) {
		rc = db_failed(vroot->db, sql);
	}
	sqlite3_finalize(statement);
	return rc;
}

int vroot_candidate_set(struct vroot *vroot, const uint8_t key[static VROOT_KEY_BYTES], uint32_t node)
{
	int rc = WRITE(vroot->db, "REPLACE INTO candidates VALUES (?1, ?2, ?3)", BLOB(key, VROOT_KEY_BYTES), INTEGER(node),
		       INTEGER(clock_wall_ns() / 1000000000u));

	if (rc < 0)
		return rc;
	return WRITE(vroot->db,
		     "DELETE FROM candidates WHERE node = 0 AND key NOT IN"
		     " (SELECT key FROM candidates WHERE node = 0 ORDER BY decided_s DESC, rowid DESC LIMIT ?1)",
		     INTEGER(REJECTED_MAX));
}

int vroot_weights(struct vroot *vroot, void (*visit)(uint32_t node, unsigned int weight, void *arg), void *arg)
{
	static const char sql[] = "SELECT node, weight FROM weights";
	sqlite3_stmt *statement = db_prepare(vroot->db, sql, NULL, 0);
	int step, rc = 0;

	if (!statement)
		return -EIO;
	while ((step = sqlite3_step(statement)) == SQLITE_ROW)
		visit((uint32_t)sqlite3_column_int64(statement, 0), (unsigned int)sqlite3_column_int64(statement, 1), arg);
	if (step != SQLITE_DONE)
		rc = db_failed(vroot->db, sql);
	sqlite3_finalize(statement);
	return rc;
}

int vroot_weight_set(struct vroot *vroot, uint32_t node, unsigned int weight)
{
	return WRITE(vroot->db, "REPLACE INTO weights VALUES (?1, ?2)", INTEGER(node), INTEGER(weight));
}

int vroot_candidates_reject(struct vroot *vroot, uint32_t node)
{
	return WRITE(vroot->db, "UPDATE candidates SET node = 0, decided_s = ?2 WHERE node = ?1", INTEGER(node),
		     INTEGER(clock_wall_ns() / 1000000000u));
}

/* Certificates */

#define LAST_FIRST "number DESC, issued_s DESC, serial"

int vroot_certificate_put(struct vroot *vroot, const struct certificates_facts *certificate)
{
	int rc = WRITE(vroot->db, "INSERT OR IGNORE INTO certificates VALUES (?1, ?2, ?3, ?4, ?5)", TEXT(certificate->serial),
		       INTEGER(certificate->node), INTEGER(certificate->number), INTEGER(certificate->issued_s),
		       INTEGER(certificate->expires_s));

	if (rc < 0)
		return rc;
	rc = WRITE(vroot->db,
		   "DELETE FROM certificates WHERE node = ?1 AND expires_s < ?2 AND serial NOT IN"
		   " (SELECT serial FROM certificates WHERE node = ?1 ORDER BY " LAST_FIRST " LIMIT 1)",
		   INTEGER(certificate->node), INTEGER(clock_wall_ns() / 1000000000u));
	return rc < 0 ? rc :
			WRITE(vroot->db,
			      "DELETE FROM certificates WHERE node = ?1 AND serial NOT IN"
			      " (SELECT serial FROM certificates WHERE node = ?1 ORDER BY " LAST_FIRST " LIMIT ?2)",
			      INTEGER(certificate->node), INTEGER(VROOT_CERTIFICATES_MAX));
}

static void read_certificate(sqlite3_stmt *s, struct certificates_facts *out)
{
	*out = (struct certificates_facts){
		.node = (uint32_t)sqlite3_column_int64(s, 1),
		.number = (uint64_t)sqlite3_column_int64(s, 2),
		.issued_s = sqlite3_column_int64(s, 3),
		.expires_s = sqlite3_column_int64(s, 4),
	};
	snprintf(out->serial, sizeof(out->serial), "%s", (const char *)sqlite3_column_text(s, 0));
}

int vroot_certificates_visit(struct vroot *vroot, void (*visit)(const struct certificates_facts *certificate, void *arg), void *arg)
{
	static const char sql[] = "SELECT serial, node, number, issued_s, expires_s FROM certificates ORDER BY node, " LAST_FIRST;
	sqlite3_stmt *statement = db_prepare(vroot->db, sql, NULL, 0);
	int step, rc = 0;

	if (!statement)
		return -EIO;
	while ((step = sqlite3_step(statement)) == SQLITE_ROW) {
		struct certificates_facts certificate;

		read_certificate(statement, &certificate);
		visit(&certificate, arg);
	}
	if (step != SQLITE_DONE)
		rc = db_failed(vroot->db, sql);
	sqlite3_finalize(statement);
	return rc;
}
