/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/pseudo.h"

#include "common/bytes.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { COOKIE_SELF = 1, COOKIE_PARENT = 2, COOKIE_ENTRIES = 2, DIRECTORY_BYTES = 4096 };

static const struct namespace *namespace_of(const struct volume *volume)
{
	return volume->state;
}

/* The directory that a handle names, or NULL if it is gone or has become a mount point. */
static const ns_entry *directory(const struct volume *volume, const struct handle *object)
{
	struct bytes_reader r = bytes_reader_init(object->backend, object->backend_len);
	uint64_t id = bytes_get_be64(&r);
	const ns_entry *entry;

	if (r.failed || r.left || object->type != HANDLE_PSEUDO)
		return NULL;
	entry = namespace_entry(namespace_of(volume), id);
	return entry && entry->volume == NAMESPACE_ROOT_VOLUME ? entry : NULL;
}

static bool is_child(const ns_entry *entry, const ns_entry *dir)
{
	return entry->parent == dir->id && entry->id != NAMESPACE_ROOT_ENTRY;
}

static nlink_t count_links(const struct namespace *ns, const ns_entry *dir)
{
	const ns_entry *entry;
	nlink_t links = 2;

	for (size_t at = 0; (entry = namespace_next_entry(ns, &at));)
		links += is_child(entry, dir);
	return links;
}

static void fill_stat(const struct namespace *ns, const ns_entry *dir, struct stat *st)
{
	struct timespec changed = {
		.tv_sec = (time_t)(dir->changed_ns / 1000000000),
		.tv_nsec = (long)(dir->changed_ns % 1000000000),
	};

	*st = (struct stat){
		.st_mode = S_IFDIR | 0755,
		.st_ino = dir->id,
		.st_nlink = count_links(ns, dir),
		.st_size = DIRECTORY_BYTES,
		.st_blksize = DIRECTORY_BYTES,
		.st_blocks = DIRECTORY_BYTES / 512,
		.st_atim = changed,
		.st_mtim = changed,
		.st_ctim = changed,
	};
}

static int pseudo_getattr(struct volume *volume, const struct handle *object, struct stat *st)
{
	const ns_entry *dir = directory(volume, object);

	if (!dir)
		return -ESTALE;
	fill_stat(namespace_of(volume), dir, st);
	return 0;
}

static int attributes_after(struct volume *volume, const struct handle *object, struct backend_attributes *after)
{
	int err = pseudo_getattr(volume, object, &after->st);

	after->valid = !err;
	return err;
}

static int find(const struct namespace *ns, const ns_entry *entry, struct backend_found *found)
{
	const ns_volume *volume;

	if (entry->volume == NAMESPACE_ROOT_VOLUME) {
		*found = (struct backend_found){ .handle = namespace_entry_handle(entry), .attributes.valid = true };
		fill_stat(ns, entry, &found->attributes.st);
		return 0;
	}
	if (namespace_spread(ns, entry->volume)) {
		*found = (struct backend_found){ .handle = namespace_spread_handle(entry->volume) };
		return 0;
	}
	volume = namespace_volume(ns, entry->volume);
	if (!volume)
		return -ENOENT;
	*found = (struct backend_found){ .handle = namespace_volume_root(volume) };
	return 0;
}

static int pseudo_lookup(struct volume *volume, const struct credentials *who, const struct handle *object,
			 const char *name, struct backend_found *found, struct backend_attributes *dir_after)
{
	const struct namespace *ns = namespace_of(volume);
	const ns_entry *dir = directory(volume, object);
	const ns_entry *entry;

	(void)who;
	if (!dir)
		return -ESTALE;
	attributes_after(volume, object, dir_after);
	if (strcmp(name, ".") == 0)
		entry = dir;
	else if (strcmp(name, "..") == 0)
		entry = namespace_entry(ns, dir->parent);
	else
		entry = namespace_child(ns, dir->id, name);
	return entry ? find(ns, entry, found) : -ENOENT;
}

static int pseudo_access(struct volume *volume, const struct credentials *who, const struct handle *object, int wanted,
			 int *allowed, struct stat *st)
{
	int err = pseudo_getattr(volume, object, st);

	(void)who;
	if (!err)
		*allowed = wanted & (R_OK | X_OK);
	return err;
}

static int pseudo_readlink(struct volume *volume, const struct credentials *who, const struct handle *object,
			   char *target, struct backend_attributes *after)
{
	int err = attributes_after(volume, object, after);

	(void)who;
	(void)target;
	return err ? err : -EINVAL;
}

static int pseudo_read(struct volume *volume, const struct credentials *who, const struct handle *object,
		       uint64_t offset, void *data, size_t len, size_t *got, bool *end,
		       struct backend_attributes *after)
{
	int err = attributes_after(volume, object, after);

	(void)who, (void)offset, (void)data, (void)len, (void)got, (void)end;
	return err ? err : -EINVAL;
}

/* The entries behind @cookie in the order of their cookies. Return: false if @entry_fn had enough */
static bool list(const struct namespace *ns, const ns_entry *dir, uint64_t cookie, bool found,
		 backend_entry_fn entry_fn, void *arg)
{
	const ns_entry *parent = namespace_entry(ns, dir->parent);
	struct backend_entry entry = { .fileid = dir->id, .cookie = COOKIE_SELF, .name = "." };
	const ns_entry *child;

	if (cookie < COOKIE_SELF) {
		entry.has_found = found && !find(ns, dir, &entry.found);
		if (!entry_fn(&entry, arg))
			return false;
	}
	if (cookie < COOKIE_PARENT) {
		parent = parent ? parent : dir;
		entry = (struct backend_entry){ .fileid = parent->id, .cookie = COOKIE_PARENT, .name = ".." };
		entry.has_found = found && !find(ns, parent, &entry.found);
		if (!entry_fn(&entry, arg))
			return false;
	}
	for (size_t at = 0; (child = namespace_next_entry(ns, &at));) {
		if (!is_child(child, dir) || child->id + COOKIE_ENTRIES <= cookie)
			continue;
		entry = (struct backend_entry){
			.fileid = child->id,
			.cookie = child->id + COOKIE_ENTRIES,
			.name = child->name,
		};
		/* As knfsd: what lies behind a mount point is learnt by LOOKUP. */
		entry.has_found = found && child->volume == NAMESPACE_ROOT_VOLUME && !find(ns, child, &entry.found);
		if (!entry_fn(&entry, arg))
			return false;
	}
	return true;
}

static int pseudo_readdir(struct volume *volume, const struct credentials *who, const struct handle *object,
			  uint64_t cookie, uint64_t *verifier, bool found, backend_entry_fn entry, void *arg, bool *end,
			  struct backend_attributes *dir_after)
{
	const ns_entry *dir = directory(volume, object);

	(void)who;
	if (!dir)
		return -ESTALE;
	attributes_after(volume, object, dir_after);
	*verifier = 0;
	*end = list(namespace_of(volume), dir, cookie, found, entry, arg);
	return 0;
}

static int pseudo_statfs(struct volume *volume, const struct credentials *who, const struct handle *object,
			 struct statvfs *statvfs, struct backend_attributes *after)
{
	int err = attributes_after(volume, object, after);

	(void)who;
	if (!err)
		*statvfs = (struct statvfs){ .f_bsize = DIRECTORY_BYTES, .f_frsize = DIRECTORY_BYTES };
	return err;
}

const struct backend_limits pseudo_directory_limits = {
	.link_max = INT32_MAX,
	.name_max = NAME_MAX,
	.file_size_max = INT64_MAX,
	.time_delta.tv_nsec = 1,
	.has_links = true,
	.has_symlinks = true,
	.no_truncate = true,
	.chown_restricted = true,
	.case_preserving = true,
};

static int pseudo_limits(struct volume *volume, const struct handle *object, struct backend_limits *limits,
			 struct backend_attributes *after)
{
	int err = attributes_after(volume, object, after);

	if (err)
		return err;
	*limits = pseudo_directory_limits;
	return 0;
}

static int pseudo_commit(struct volume *volume, const struct credentials *who, const struct handle *object,
			 uint64_t offset, uint64_t len, struct backend_change *change)
{
	int err = attributes_after(volume, object, &change->after);

	(void)who, (void)offset, (void)len;
	return err ? err : -EINVAL;
}

const struct backend pseudo_backend = {
	.name = "pseudo",
	.getattr = pseudo_getattr,
	.lookup = pseudo_lookup,
	.access = pseudo_access,
	.readlink = pseudo_readlink,
	.read = pseudo_read,
	.readdir = pseudo_readdir,
	.statfs = pseudo_statfs,
	.limits = pseudo_limits,
	.commit = pseudo_commit,
};

void pseudo_open(const struct namespace *ns, struct volume *out)
{
	const ns_entry *root = namespace_entry(ns, NAMESPACE_ROOT_ENTRY);
	struct bytes_reader uuid = bytes_reader_init(namespace_cluster(ns)->uuid, NS_UUID_BYTES);
	uint64_t fsid = bytes_get_be64(&uuid);

	*out = (struct volume){
		.id = NAMESPACE_ROOT_VOLUME,
		.fsid = fsid ? fsid : 1,
		.root = namespace_entry_handle(root),
		.backend = &pseudo_backend,
		.state = (void *)ns, /* only read, through namespace_of() */
	};
}
