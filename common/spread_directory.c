/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/spread_directory.h"

#include "common/pseudo.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { COOKIE_SELF = 1, COOKIE_PARENT = 2, COOKIE_ENTRIES = 2, DIRECTORY_BYTES = 4096 };

static const struct spreads *spreads_of(const struct volume *volume)
{
	return volume->state;
}

static nlink_t count_links(const struct spread *spread)
{
	return 2 + spread_directories(spread);
}

int spread_directory_stat(const struct spreads *spreads, uint32_t id, struct stat *st)
{
	const ns_spread *known = namespace_spread(spreads_namespace(spreads), id);
	const struct spread *spread = spreads_find(spreads, id);
	struct timespec changed;

	if (!known)
		return -ESTALE;
	if (!spread)
		return -EINPROGRESS;
	changed = (struct timespec){
		.tv_sec = (time_t)(spread_changed_ns(spread) / 1000000000),
		.tv_nsec = (long)(spread_changed_ns(spread) % 1000000000),
	};
	*st = (struct stat){
		.st_mode = S_IFDIR | (known->mode & 07777),
		.st_uid = known->uid,
		.st_gid = known->gid,
		.st_ino = NAMESPACE_SPREAD_FILEID,
		.st_nlink = count_links(spread),
		.st_size = DIRECTORY_BYTES,
		.st_blksize = DIRECTORY_BYTES,
		.st_blocks = DIRECTORY_BYTES / 512,
		.st_atim = changed,
		.st_mtim = changed,
		.st_ctim = changed,
	};
	return 0;
}

static bool is_in_group(const struct credentials *who, gid_t gid)
{
	const uint32_t *groups;
	uint32_t count;

	if (who->gid == gid)
		return true;
	count = who->group_set ? who->group_set->count : who->group_count;
	groups = who->group_set ? who->group_set->groups : who->groups;
	for (uint32_t i = 0; i < count; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* R_OK, W_OK, X_OK as the kernel would say; root may search and list anything. */
static int permissions(const struct credentials *who, const struct stat *st)
{
	if (who->uid == 0)
		return R_OK | W_OK | X_OK;
	if (who->uid == st->st_uid)
		return st->st_mode >> 6 & 7;
	return (is_in_group(who, st->st_gid) ? st->st_mode >> 3 : st->st_mode) & 7;
}

static int directory_getattr(struct volume *volume, const struct handle *object, struct stat *st)
{
	(void)object;
	return spread_directory_stat(spreads_of(volume), volume->id, st);
}

static int attributes_after(struct volume *volume, struct backend_attributes *after)
{
	int err = spread_directory_stat(spreads_of(volume), volume->id, &after->st);

	after->valid = !err;
	return err;
}

/* @needed: of the directory */
static int begin(struct volume *volume, const struct credentials *who, int needed, struct backend_attributes *after)
{
	int err = attributes_after(volume, after);

	if (!err && (permissions(who, &after->st) & needed) != needed)
		err = -EACCES;
	return err;
}

static struct backend_found entry_found(const struct spread_entry *entry)
{
	return (struct backend_found){ .handle = entry->handle };
}

static int find_parent(struct volume *volume, struct backend_found *found)
{
	const struct namespace *ns = spreads_namespace(spreads_of(volume));
	const ns_entry *place = namespace_place(ns, volume->id);
	const ns_entry *above = place ? namespace_entry(ns, place->parent) : NULL;

	if (!above)
		return -ENOENT;
	*found = (struct backend_found){ .handle = namespace_entry_handle(above) };
	return 0;
}

static int find_name(struct volume *volume, const char *name, const struct backend_attributes *self, struct backend_found *found)
{
	const struct spread_entry *entry;

	if (strcmp(name, ".") == 0) {
		*found = (struct backend_found){ .handle = volume->root, .attributes = *self };
		return 0;
	}
	if (strcmp(name, "..") == 0)
		return find_parent(volume, found);
	entry = spread_by_name(spreads_find(spreads_of(volume), volume->id), name);
	if (!entry || !entry->is_there)
		return -ENOENT;
	*found = entry_found(entry);
	return 0;
}

static int directory_lookup(struct volume *volume, const struct credentials *who, const struct handle *object, const char *name,
			    struct backend_found *found, struct backend_attributes *dir_after)
{
	int err = begin(volume, who, X_OK, dir_after);

	(void)object;
	return err ? err : find_name(volume, name, dir_after, found);
}

static int directory_access(struct volume *volume, const struct credentials *who, const struct handle *object, int wanted,
			    int *allowed, struct stat *st)
{
	int err = directory_getattr(volume, object, st);

	if (!err)
		*allowed = wanted & permissions(who, st);
	return err;
}

static int directory_readlink(struct volume *volume, const struct credentials *who, const struct handle *object, char *target,
			      struct backend_attributes *after)
{
	int err = attributes_after(volume, after);

	(void)who, (void)object, (void)target;
	return err ? err : -EINVAL;
}

static int directory_read(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
			  void *data, size_t len, size_t *got, bool *end, struct backend_attributes *after)
{
	int err = attributes_after(volume, after);

	(void)who, (void)object, (void)offset, (void)data, (void)len, (void)got, (void)end;
	return err ? err : -EINVAL;
}

static bool list_itself(struct volume *volume, uint64_t cookie, bool found, backend_entry_fn entry_fn, void *arg,
			const struct backend_attributes *self)
{
	const ns_entry *place = namespace_place(spreads_namespace(spreads_of(volume)), volume->id);
	struct backend_entry entry = { .fileid = NAMESPACE_SPREAD_FILEID, .cookie = COOKIE_SELF, .name = ".", .has_found = found };

	entry.found = (struct backend_found){ .handle = volume->root, .attributes = *self };
	if (cookie < COOKIE_SELF && !entry_fn(&entry, arg))
		return false;
	/* What is above is of another file system: its number here is that of where this one is. */
	entry = (struct backend_entry){ .fileid = place ? place->id : NAMESPACE_SPREAD_FILEID, .cookie = COOKIE_PARENT, .name = ".." };
	return cookie >= COOKIE_PARENT || entry_fn(&entry, arg);
}

/* Return: false if @entry_fn had enough */
static bool list_entries(struct volume *volume, uint64_t cookie, bool found, backend_entry_fn entry_fn, void *arg)
{
	const struct spread *spread = spreads_find(spreads_of(volume), volume->id);
	uint64_t id = cookie > COOKIE_ENTRIES ? cookie - COOKIE_ENTRIES : 0;
	const struct spread_entry *entry;

	for (; (entry = spread_after(spread, id)); id = entry->id) {
		struct backend_entry shown = {
			.fileid = entry->fileid,
			.cookie = entry->id + COOKIE_ENTRIES,
			.name = entry->name,
			.has_found = found,
		};

		if (found)
			shown.found = entry_found(entry);
		if (entry->is_there && !entry_fn(&shown, arg))
			return false;
	}
	return true;
}

static int directory_readdir(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t cookie,
			     uint64_t *verifier, bool found, backend_entry_fn entry, void *arg, bool *end,
			     struct backend_attributes *dir_after)
{
	int err = begin(volume, who, R_OK, dir_after);

	(void)object;
	if (err)
		return err;
	*verifier = 0;
	*end = list_itself(volume, cookie, found, entry, arg, dir_after) && list_entries(volume, cookie, found, entry, arg);
	return 0;
}

/* The room is the branches', each of which tells its own. */
static int directory_statfs(struct volume *volume, const struct credentials *who, const struct handle *object,
			    struct statvfs *statvfs, struct backend_attributes *after)
{
	int err = attributes_after(volume, after);

	(void)who, (void)object;
	if (!err)
		*statvfs = (struct statvfs){ .f_bsize = DIRECTORY_BYTES, .f_frsize = DIRECTORY_BYTES };
	return err;
}

static int directory_limits(struct volume *volume, const struct handle *object, struct backend_limits *limits,
			    struct backend_attributes *after)
{
	int err = attributes_after(volume, after);

	(void)object;
	if (err)
		return err;
	*limits = pseudo_directory_limits;
	return 0;
}

static int directory_commit(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
			    uint64_t len, struct backend_change *change)
{
	int err = attributes_after(volume, &change->after);

	(void)who, (void)object, (void)offset, (void)len;
	return err ? err : -EINVAL;
}

static const struct backend directory_backend = {
	.name = "spread",
	.getattr = directory_getattr,
	.lookup = directory_lookup,
	.access = directory_access,
	.readlink = directory_readlink,
	.read = directory_read,
	.readdir = directory_readdir,
	.statfs = directory_statfs,
	.limits = directory_limits,
	.commit = directory_commit,
};

void spread_directory_open(const struct spreads *spreads, const ns_spread *spread, struct volume *out)
{
	*out = (struct volume){
		.id = spread->id,
		.fsid = namespace_spread_fsid(spread),
		.root = namespace_spread_handle(spread->id),
		.backend = &directory_backend,
		.state = (void *)spreads, /* only read, through spreads_of() */
	};
}
