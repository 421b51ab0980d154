/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/spread_store.h"

#include "common/log.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum { STORE_VERSION = 1 };

static const char schema[] =
	"CREATE TABLE IF NOT EXISTS spreads (id INTEGER PRIMARY KEY, last_id INTEGER NOT NULL, changed_ns INTEGER NOT NULL);"
	"CREATE TABLE IF NOT EXISTS entries (spread INTEGER NOT NULL, id INTEGER NOT NULL, name BLOB NOT NULL,"
	"	is_there INTEGER NOT NULL, type INTEGER NOT NULL, fileid INTEGER NOT NULL, volume INTEGER NOT NULL,"
	"	backend_type INTEGER NOT NULL, backend BLOB NOT NULL, PRIMARY KEY (spread, id), UNIQUE (spread, name)) WITHOUT ROWID;"
	"PRAGMA user_version = 1;";

enum statement { BEGIN, COMMIT, ROLLBACK, PUT, NOTE_ID, REMOVE, CHANGED, FORGET_ENTRIES, FORGET, LOAD, LOAD_FACTS, STATEMENTS };

static const char *const texts[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[PUT] = "REPLACE INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
	[NOTE_ID] = "INSERT INTO spreads VALUES (?1, ?2, 0) ON CONFLICT (id) DO UPDATE SET last_id = max(last_id, ?2)",
	[REMOVE] = "DELETE FROM entries WHERE spread = ?1 AND id = ?2",
	[CHANGED] = "INSERT INTO spreads VALUES (?1, 0, ?2) ON CONFLICT (id) DO UPDATE SET changed_ns = ?2",
	[FORGET_ENTRIES] = "DELETE FROM entries WHERE spread = ?1",
	[FORGET] = "DELETE FROM spreads WHERE id = ?1",
	[LOAD] = "SELECT id, name, is_there, type, fileid, volume, backend_type, backend FROM entries WHERE spread = ?1 ORDER BY id",
	[LOAD_FACTS] = "SELECT last_id, changed_ns FROM spreads WHERE id = ?1",
};

struct spread_store {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
	bool is_in_transaction, has_failed;
};

static int failed(struct spread_store *store, const char *what)
{
	log_err("spread", "%s: %s; check the disk that holds %s; it may be removed while the daemon is down, and is made anew from the volumes",
		what, sqlite3_errmsg(store->db), sqlite3_db_filename(store->db, NULL) ? sqlite3_db_filename(store->db, NULL) : "it");
	store->has_failed = true;
	return -EIO;
}

static int run(struct spread_store *store, enum statement which)
{
	sqlite3_stmt *statement = store->statements[which];
	int rc = sqlite3_step(statement) == SQLITE_DONE ? 0 : failed(store, texts[which]);

	sqlite3_reset(statement);
	return rc;
}

static void bind_number(struct spread_store *store, enum statement which, int at, uint64_t value)
{
	sqlite3_bind_int64(store->statements[which], at, (sqlite3_int64)value);
}

int spread_store_begin(struct spread_store *store)
{
	int rc = run(store, BEGIN);

	store->has_failed = rc < 0;
	store->is_in_transaction = rc == 0;
	return rc;
}

int spread_store_end(struct spread_store *store)
{
	int rc = store->has_failed ? -EIO : 0;

	if (!store->is_in_transaction)
		return rc;
	store->is_in_transaction = false;
	if (rc == 0)
		rc = run(store, COMMIT);
	if (rc < 0)
		run(store, ROLLBACK);
	return rc;
}

int spread_store_put(struct spread_store *store, uint32_t id, const struct spread_entry *entry)
{
	const uint64_t numbers[] = { id, entry->id, 0, entry->is_there, entry->type, entry->fileid, entry->handle.volume,
				     entry->handle.backend_type };
	int rc;

	for (int i = 0; i < (int)(sizeof(numbers) / sizeof(numbers[0])); i++)
		bind_number(store, PUT, i + 1, numbers[i]);
	sqlite3_bind_blob(store->statements[PUT], 3, entry->name, (int)strlen(entry->name), SQLITE_TRANSIENT);
	sqlite3_bind_blob(store->statements[PUT], 9, entry->handle.backend, entry->handle.backend_len, SQLITE_TRANSIENT);
	rc = run(store, PUT);
	bind_number(store, NOTE_ID, 1, id);
	bind_number(store, NOTE_ID, 2, entry->id);
	return rc < 0 ? rc : run(store, NOTE_ID);
}

int spread_store_remove(struct spread_store *store, uint32_t id, uint64_t entry)
{
	bind_number(store, REMOVE, 1, id);
	bind_number(store, REMOVE, 2, entry);
	return run(store, REMOVE);
}

int spread_store_changed(struct spread_store *store, uint32_t id, uint64_t changed_ns)
{
	bind_number(store, CHANGED, 1, id);
	bind_number(store, CHANGED, 2, changed_ns);
	return run(store, CHANGED);
}

int spread_store_forget(struct spread_store *store, uint32_t id)
{
	int rc = spread_store_begin(store);

	if (rc < 0)
		return rc;
	bind_number(store, FORGET_ENTRIES, 1, id);
	bind_number(store, FORGET, 1, id);
	if (run(store, FORGET_ENTRIES) == 0)
		run(store, FORGET);
	return spread_store_end(store);
}

/* Loading */

static int load_entry(sqlite3_stmt *row, struct spread *spread)
{
	struct spread_entry entry = {
		.id = (uint64_t)sqlite3_column_int64(row, 0),
		.is_there = sqlite3_column_int(row, 2),
		.type = (uint32_t)sqlite3_column_int64(row, 3),
		.fileid = (uint64_t)sqlite3_column_int64(row, 4),
		.handle = {
			.type = HANDLE_LOCAL,
			.volume = (uint32_t)sqlite3_column_int64(row, 5),
			.backend_type = (uint16_t)sqlite3_column_int(row, 6),
		},
	};
	int name_len = sqlite3_column_bytes(row, 1), handle_len = sqlite3_column_bytes(row, 7);
	char name[NS_NAME_MAX + 1];

	if (name_len > NS_NAME_MAX || handle_len > HANDLE_BACKEND_MAX)
		return -EIO;
	memcpy(name, sqlite3_column_blob(row, 1), (size_t)name_len);
	name[name_len] = '\0';
	entry.name = name;
	entry.handle.backend_len = (uint8_t)handle_len;
	if (handle_len)
		memcpy(entry.handle.backend, sqlite3_column_blob(row, 7), (size_t)handle_len);
	return spread_put(spread, &entry);
}

static int load_facts(struct spread_store *store, uint32_t id, struct spread *spread, uint64_t *last_id)
{
	sqlite3_stmt *row = store->statements[LOAD_FACTS];
	int step;

	bind_number(store, LOAD_FACTS, 1, id);
	step = sqlite3_step(row);
	*last_id = step == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(row, 0) : 0;
	spread_set_changed_ns(spread, step == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(row, 1) : 0);
	sqlite3_reset(row);
	return step == SQLITE_ROW || step == SQLITE_DONE ? 0 : failed(store, texts[LOAD_FACTS]);
}

int spread_store_load(struct spread_store *store, uint32_t id, struct spread *spread, uint64_t *last_id)
{
	sqlite3_stmt *row = store->statements[LOAD];
	int step, rc = load_facts(store, id, spread, last_id);

	bind_number(store, LOAD, 1, id);
	while (rc == 0 && (step = sqlite3_step(row)) != SQLITE_DONE)
		rc = step == SQLITE_ROW ? load_entry(row, spread) : failed(store, texts[LOAD]);
	sqlite3_reset(row);
	return rc;
}

/* Life */

static int check_version(struct spread_store *store)
{
	sqlite3_stmt *row = NULL;
	int version = -1;

	if (sqlite3_prepare_v2(store->db, "PRAGMA user_version", -1, &row, NULL) == SQLITE_OK && sqlite3_step(row) == SQLITE_ROW)
		version = sqlite3_column_int(row, 0);
	sqlite3_finalize(row);
	if (version == 0 || version == STORE_VERSION)
		return 0;
	return failed(store, "its version is not this vnasd's");
}

static int prepare(struct spread_store *store)
{
	for (int i = 0; i < STATEMENTS; i++)
		if (sqlite3_prepare_v2(store->db, texts[i], -1, &store->statements[i], NULL) != SQLITE_OK)
			return failed(store, texts[i]);
	return 0;
}

int spread_store_open(const char *path, struct spread_store **out)
{
	struct spread_store *store = calloc(1, sizeof(*store));
	int rc;

	if (!store)
		return -ENOMEM;
	if (sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK) {
		log_err("spread", "%s: %s", path, store->db ? sqlite3_errmsg(store->db) : "no memory");
		spread_store_close(store);
		return -EIO;
	}
	rc = check_version(store);
	/* NORMAL: a change that a crash of the machine loses is learned again from the branch. */
	if (rc == 0 && (sqlite3_exec(store->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL", NULL, NULL, NULL) != SQLITE_OK ||
			sqlite3_exec(store->db, schema, NULL, NULL, NULL) != SQLITE_OK))
		rc = failed(store, "its tables can't be made");
	if (rc == 0)
		rc = prepare(store);
	if (rc < 0) {
		spread_store_close(store);
		return rc;
	}
	*out = store;
	return 0;
}

void spread_store_close(struct spread_store *store)
{
	if (!store)
		return;
	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(store->statements[i]);
	sqlite3_close(store->db);
	free(store);
}
