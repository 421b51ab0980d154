/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "tests/unit/fake_volume.h"

#include "common/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Of few entries, so that a volume stays small. */
struct fake_acl {
	uint32_t count;
	struct backend_acl_entry entries[FAKE_ACL_MAX];
};

struct node {
	uint64_t id; /* 0: free. Never used again, so an old handle is stale */
	struct stat st;
	uint8_t data[FAKE_FILE_MAX]; /* a symbolic link's target too */
	uint8_t verifier[8];
	struct fake_acl acls[2]; /* by enum backend_acl_kind */
	int locks_fd; /* a file that stands for it, for locks; 0: none yet */
};

/* A name of a node in a directory. */
struct link {
	uint64_t dir, id; /* id 0: free */
	char name[NAME_MAX + 1];
};

struct fake {
	struct volume volume;
	uint64_t next_id;
	long now; /* ticks with every change */
	struct node nodes[FAKE_NODES_MAX];
	struct link links[FAKE_NODES_MAX];
};

static struct handle handle_of(const struct fake *fake, uint64_t id)
{
	struct handle handle = { .type = HANDLE_LOCAL, .volume = fake->volume.id, .backend_type = 7, .backend_len = 8 };
	struct bytes_writer w = bytes_writer_init(handle.backend, 8);

	bytes_put_be64(&w, id);
	return handle;
}

static struct node *node_by_id(struct fake *fake, uint64_t id)
{
	for (size_t i = 0; i < FAKE_NODES_MAX; i++)
		if (id && fake->nodes[i].id == id)
			return &fake->nodes[i];
	return NULL;
}

static struct node *node_of(struct volume *volume, const struct handle *handle)
{
	struct bytes_reader r = bytes_reader_init(handle->backend, handle->backend_len);

	return node_by_id(volume->state, bytes_get_be64(&r));
}

static int dir_of(struct volume *volume, const struct handle *handle, struct node **dir)
{
	*dir = node_of(volume, handle);
	if (!*dir)
		return -ESTALE;
	return S_ISDIR((*dir)->st.st_mode) ? 0 : -ENOTDIR;
}

static struct link *link_find(struct fake *fake, uint64_t dir, const char *name)
{
	for (size_t i = 0; i < FAKE_NODES_MAX; i++)
		if (fake->links[i].id && fake->links[i].dir == dir && strcmp(fake->links[i].name, name) == 0)
			return &fake->links[i];
	return NULL;
}

static bool has_links(const struct fake *fake, uint64_t dir)
{
	for (size_t i = 0; i < FAKE_NODES_MAX; i++)
		if (fake->links[i].id && fake->links[i].dir == dir)
			return true;
	return false;
}

static bool may(const struct node *node, const struct credentials *who, int wanted)
{
	unsigned int bits = node->st.st_mode;

	if (who->uid == 0)
		return true;
	if (who->uid == node->st.st_uid)
		bits >>= 6;
	else if (who->gid == node->st.st_gid)
		bits >>= 3;
	return ((unsigned int)wanted & ~bits) == 0;
}

static void touch(struct fake *fake, struct node *node)
{
	node->st.st_mtim.tv_sec = node->st.st_ctim.tv_sec = ++fake->now;
}

static void note(struct backend_attributes *attributes, const struct node *node)
{
	if (!node)
		return;
	attributes->valid = true;
	attributes->st = node->st;
}

static int fake_getattr(struct volume *volume, const struct handle *object, struct stat *st)
{
	struct node *node = node_of(volume, object);

	if (!node)
		return -ESTALE;
	*st = node->st;
	return 0;
}

static int apply(struct fake *fake, struct node *node, const struct backend_set *set)
{
	if (set->set_size && set->size > FAKE_FILE_MAX)
		return -EFBIG;
	if (set->set_size) {
		if (set->size > (uint64_t)node->st.st_size)
			memset(node->data + node->st.st_size, 0, set->size - (uint64_t)node->st.st_size);
		node->st.st_size = (off_t)set->size;
	}
	if (set->set_mode)
		node->st.st_mode = (node->st.st_mode & S_IFMT) | set->mode;
	if (set->set_uid)
		node->st.st_uid = set->uid;
	if (set->set_gid)
		node->st.st_gid = set->gid;
	touch(fake, node);
	if (set->set_atime == BACKEND_TIME_CLIENT)
		node->st.st_atim = set->atime;
	if (set->set_mtime == BACKEND_TIME_CLIENT)
		node->st.st_mtim = set->mtime;
	return 0;
}

static int fake_setattr(struct volume *volume, const struct credentials *who, const struct handle *object,
			const struct backend_set *set, const struct timespec *guard, struct backend_change *change)
{
	struct node *node = node_of(volume, object);
	int err;

	if (!node)
		return -ESTALE;
	note(&change->before, node);
	note(&change->after, node);
	if (who->uid && who->uid != node->st.st_uid)
		return -EPERM;
	if (guard && memcmp(guard, &node->st.st_ctim, sizeof(*guard)) != 0)
		return -EAGAIN;
	err = apply(volume->state, node, set);
	note(&change->after, node);
	return err;
}

static int fake_lookup(struct volume *volume, const struct credentials *who, const struct handle *object,
		       const char *name, struct backend_found *found, struct backend_attributes *dir_after)
{
	struct fake *fake = volume->state;
	struct node *dir, *node = NULL;
	struct link *link;
	int err = dir_of(volume, object, &dir);

	if (err)
		return err;
	note(dir_after, dir);
	if (!may(dir, who, X_OK))
		return -EACCES;
	link = link_find(fake, dir->id, name);
	if (strcmp(name, ".") == 0 || (strcmp(name, "..") == 0 && dir->id == FAKE_ROOT))
		node = dir;
	else if (strcmp(name, "..") == 0)
		node = node_by_id(fake, FAKE_ROOT); /* no deeper tree in tests that ask */
	else if (link)
		node = node_by_id(fake, link->id);
	if (!node)
		return -ENOENT;
	*found = (struct backend_found){ .handle = handle_of(fake, node->id) };
	note(&found->attributes, node);
	return 0;
}

static int fake_access(struct volume *volume, const struct credentials *who, const struct handle *object, int wanted,
		       int *allowed, struct stat *st)
{
	struct node *node = node_of(volume, object);

	if (!node)
		return -ESTALE;
	*allowed = 0;
	for (int bit = X_OK; bit <= R_OK; bit <<= 1)
		if ((wanted & bit) && may(node, who, bit))
			*allowed |= bit;
	*st = node->st;
	return 0;
}

static int fake_readlink(struct volume *volume, const struct credentials *who, const struct handle *object,
			 char *target, struct backend_attributes *after)
{
	struct node *node = node_of(volume, object);

	(void)who;
	if (!node)
		return -ESTALE;
	note(after, node);
	if (!S_ISLNK(node->st.st_mode))
		return -EINVAL;
	memcpy(target, node->data, (size_t)node->st.st_size);
	target[node->st.st_size] = '\0';
	return 0;
}

static int file_of(struct volume *volume, const struct credentials *who, const struct handle *object, int wanted,
		   struct node **file)
{
	*file = node_of(volume, object);
	if (!*file)
		return -ESTALE;
	return !S_ISREG((*file)->st.st_mode) ? -EINVAL : may(*file, who, wanted) ? 0 : -EACCES;
}

static int fake_read(struct volume *volume, const struct credentials *who, const struct handle *object, uint64_t offset,
		     void *data, size_t len, size_t *got, bool *end, struct backend_attributes *after)
{
	struct node *file;
	int err = file_of(volume, who, object, R_OK, &file);
	uint64_t size;

	note(after, file);
	if (err)
		return err;
	size = (uint64_t)file->st.st_size;
	*got = offset >= size ? 0 : len < size - offset ? len : size - offset;
	*end = offset + *got >= size;
	if (*got)
		memcpy(data, file->data + offset, *got);
	return 0;
}

static int fake_write(struct volume *volume, const struct credentials *who, const struct handle *object,
		      uint64_t offset, const void *data, size_t len, enum backend_stability *stability, size_t *written,
		      struct backend_change *change)
{
	struct node *file;
	int err = file_of(volume, who, object, W_OK, &file);

	note(&change->before, file);
	note(&change->after, file);
	if (err)
		return err;
	if (offset >= FAKE_FILE_MAX)
		return -EFBIG;
	*written = len < FAKE_FILE_MAX - offset ? len : FAKE_FILE_MAX - offset;
	if (*written)
		memcpy(file->data + offset, data, *written);
	if (offset + *written > (uint64_t)file->st.st_size)
		file->st.st_size = (off_t)(offset + *written);
	if (*stability == BACKEND_DATA_SYNC)
		*stability = BACKEND_FILE_SYNC;
	touch(volume->state, file);
	note(&change->after, file);
	return 0;
}

static int link_add(struct fake *fake, struct node *dir, const char *name, struct node *node)
{
	for (size_t i = 0; i < FAKE_NODES_MAX; i++) {
		struct link *link = &fake->links[i];

		if (link->id)
			continue;
		*link = (struct link){ .dir = dir->id, .id = node->id };
		strcpy(link->name, name);
		node->st.st_nlink++;
		touch(fake, dir);
		return 0;
	}
	return -ENOSPC;
}

static struct node *node_add(struct fake *fake, mode_t type, const struct credentials *who)
{
	for (size_t i = 0; i < FAKE_NODES_MAX; i++) {
		struct node *node = &fake->nodes[i];

		if (node->id)
			continue;
		*node = (struct node){ .id = fake->next_id++ };
		node->st.st_ino = node->id;
		node->st.st_mode = type | 0644;
		node->st.st_uid = who->uid;
		node->st.st_gid = who->gid;
		touch(fake, node);
		return node;
	}
	return NULL;
}

/* What the creating operations share. @existing: out: what is there already, with -EEXIST */
static int make(struct volume *volume, const struct credentials *who, const struct handle *object, const char *name,
		mode_t type, const struct backend_set *set, struct node **made, struct backend_change *change)
{
	struct fake *fake = volume->state;
	struct node *dir;
	struct link *link;
	int err = dir_of(volume, object, &dir);

	if (err)
		return err;
	note(&change->before, dir);
	note(&change->after, dir);
	if (!may(dir, who, W_OK | X_OK))
		return -EACCES;
	link = link_find(fake, dir->id, name);
	if (link) {
		*made = node_by_id(fake, link->id);
		return -EEXIST;
	}
	*made = node_add(fake, type, who);
	if (!*made)
		return -ENOSPC;
	err = set ? apply(fake, *made, set) : 0;
	if (!err)
		err = link_add(fake, dir, name, *made);
	if (err)
		(*made)->id = 0;
	note(&change->after, dir);
	return err;
}

static void found_fill(struct volume *volume, const struct node *node, struct backend_found *found)
{
	*found = (struct backend_found){ .handle = handle_of(volume->state, node->id) };
	note(&found->attributes, node);
}

static int fake_create(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		       enum backend_create_mode mode, const struct backend_set *set, const uint8_t *verifier,
		       struct backend_found *found, struct backend_change *change)
{
	struct node *made = NULL;
	int err = make(volume, who, dir, name, S_IFREG, set, &made, change);

	if (!err && verifier)
		memcpy(made->verifier, verifier, sizeof(made->verifier));
	if (err == -EEXIST && mode == BACKEND_CREATE_UNCHECKED && S_ISREG(made->st.st_mode))
		err = apply(volume->state, made, set);
	else if (err == -EEXIST && verifier && memcmp(made->verifier, verifier, sizeof(made->verifier)) == 0)
		err = 0;
	if (!err)
		found_fill(volume, made, found);
	return err;
}

static int fake_mkdir(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		      const struct backend_set *set, struct backend_found *found, struct backend_change *change)
{
	struct node *made = NULL;
	int err = make(volume, who, dir, name, S_IFDIR, set, &made, change);

	if (!err)
		found_fill(volume, made, found);
	return err;
}

static int fake_symlink(struct volume *volume, const struct credentials *who, const struct handle *dir,
			const char *name, const char *target, const struct backend_set *set,
			struct backend_found *found, struct backend_change *change)
{
	struct node *made = NULL;
	size_t len = strlen(target);
	int err;

	(void)set;
	if (len >= FAKE_FILE_MAX)
		return -ENAMETOOLONG;
	err = make(volume, who, dir, name, S_IFLNK, NULL, &made, change);
	if (err)
		return err;
	memcpy(made->data, target, len);
	made->st.st_size = (off_t)len;
	found_fill(volume, made, found);
	return 0;
}

static int fake_mknod(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		      mode_t type, uint32_t major, uint32_t minor, const struct backend_set *set,
		      struct backend_found *found, struct backend_change *change)
{
	struct node *made = NULL;
	int err = make(volume, who, dir, name, type, set, &made, change);

	if (err)
		return err;
	made->st.st_rdev = (dev_t)major << 8 | (minor & 0xff);
	found_fill(volume, made, found);
	return 0;
}

static void link_drop(struct fake *fake, struct link *link)
{
	struct node *node = node_by_id(fake, link->id);

	link->id = 0;
	if (--node->st.st_nlink == 0)
		node->id = 0;
}

static int take_away(struct volume *volume, const struct credentials *who, const struct handle *object,
		     const char *name, bool directory, struct backend_change *change)
{
	struct fake *fake = volume->state;
	struct node *dir, *node;
	struct link *link;
	int err = dir_of(volume, object, &dir);

	if (err)
		return err;
	note(&change->before, dir);
	note(&change->after, dir);
	link = link_find(fake, dir->id, name);
	if (!link)
		return -ENOENT;
	if (!may(dir, who, W_OK | X_OK))
		return -EACCES;
	node = node_by_id(fake, link->id);
	if (S_ISDIR(node->st.st_mode) != directory)
		return directory ? -ENOTDIR : -EISDIR;
	if (directory && has_links(fake, node->id))
		return -ENOTEMPTY;
	link_drop(fake, link);
	touch(fake, dir);
	note(&change->after, dir);
	return 0;
}

static int fake_remove(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		       struct backend_change *change)
{
	return take_away(volume, who, dir, name, false, change);
}

static int fake_rmdir(struct volume *volume, const struct credentials *who, const struct handle *dir, const char *name,
		      struct backend_change *change)
{
	return take_away(volume, who, dir, name, true, change);
}

static int fake_rename(struct volume *volume, const struct credentials *who, const struct handle *from_dir,
		       const char *from_name, const struct handle *to_dir, const char *to_name,
		       struct backend_change *from_change, struct backend_change *to_change)
{
	struct fake *fake = volume->state;
	struct node *from, *to;
	struct link *link, *old;
	int err = dir_of(volume, from_dir, &from);

	if (!err)
		err = dir_of(volume, to_dir, &to);
	if (err)
		return err;
	note(&from_change->before, from);
	note(&to_change->before, to);
	link = link_find(fake, from->id, from_name);
	old = link_find(fake, to->id, to_name);
	if (!link)
		return -ENOENT;
	if (!may(from, who, W_OK | X_OK) || !may(to, who, W_OK | X_OK))
		return -EACCES;
	if (S_ISDIR(node_by_id(fake, link->id)->st.st_mode) && to->id != from->id)
		return -ENOTSUP; /* no loops in this toy */
	if (old && has_links(fake, old->id))
		return -ENOTEMPTY;
	if (old && old != link)
		link_drop(fake, old);
	link->dir = to->id;
	strcpy(link->name, to_name);
	touch(fake, from);
	touch(fake, to);
	note(&from_change->after, from);
	note(&to_change->after, to);
	return 0;
}

static int fake_link(struct volume *volume, const struct credentials *who, const struct handle *object,
		     const struct handle *dir_handle, const char *name, struct backend_attributes *after,
		     struct backend_change *change)
{
	struct fake *fake = volume->state;
	struct node *dir, *node = node_of(volume, object);
	int err = dir_of(volume, dir_handle, &dir);

	if (err || !node)
		return err ? err : -ESTALE;
	note(after, node);
	note(&change->before, dir);
	note(&change->after, dir);
	if (!may(dir, who, W_OK | X_OK))
		return -EACCES;
	if (S_ISDIR(node->st.st_mode))
		return -EPERM;
	err = link_find(fake, dir->id, name) ? -EEXIST : link_add(fake, dir, name, node);
	note(after, node);
	note(&change->after, dir);
	return err;
}

/* Cookies: 1, 2 for "." and "..", then the position of the link + 3. The verifier is always 9. */
static int fake_readdir(struct volume *volume, const struct credentials *who, const struct handle *object,
			uint64_t cookie, uint64_t *verifier, bool found, backend_entry_fn entry_fn, void *arg,
			bool *end, struct backend_attributes *dir_after)
{
	struct fake *fake = volume->state;
	struct node *dir;
	int err = dir_of(volume, object, &dir);

	if (err)
		return err;
	note(dir_after, dir);
	if (!may(dir, who, R_OK))
		return -EACCES;
	if (cookie && *verifier != 9)
		return -EINVAL;
	*verifier = 9;
	*end = false;
	for (uint64_t at = cookie; at < FAKE_NODES_MAX + 2; at++) {
		struct backend_entry entry = { .fileid = dir->id, .cookie = at + 1, .name = at ? ".." : "." };
		const struct link *link = at >= 2 ? &fake->links[at - 2] : NULL;

		if (link && (link->id == 0 || link->dir != dir->id))
			continue;
		if (link) {
			entry.fileid = link->id;
			entry.name = link->name;
		}
		entry.has_found = found;
		if (found)
			found_fill(volume, node_by_id(fake, entry.fileid), &entry.found);
		if (!entry_fn(&entry, arg))
			return 0;
	}
	*end = true;
	return 0;
}

static int fake_statfs(struct volume *volume, const struct credentials *who, const struct handle *object,
		       struct statvfs *statvfs, struct backend_attributes *after)
{
	(void)who;
	note(after, node_of(volume, object));
	if (!after->valid)
		return -ESTALE;
	*statvfs = (struct statvfs){
		.f_bsize = 512,
		.f_frsize = 4096,
		.f_blocks = 1000,
		.f_bfree = 500,
		.f_bavail = 400,
		.f_files = 64,
		.f_ffree = 32,
		.f_favail = 16,
	};
	return 0;
}

static int fake_limits(struct volume *volume, const struct handle *object, struct backend_limits *limits,
		       struct backend_attributes *after)
{
	note(after, node_of(volume, object));
	if (!after->valid)
		return -ESTALE;
	*limits = (struct backend_limits){
		.link_max = 32000,
		.name_max = NAME_MAX,
		.file_size_max = FAKE_FILE_MAX,
		.time_delta.tv_nsec = 1,
		.has_links = true,
		.has_symlinks = true,
		.no_truncate = true,
		.chown_restricted = true,
		.case_preserving = true,
	};
	return 0;
}

static int fake_open_locks(struct volume *volume, const struct credentials *who, const struct handle *object, int *fd)
{
	char path[sizeof("/proc/self/fd/-2147483648")];
	struct node *file;
	int err = file_of(volume, who, object, R_OK, &file);

	if (err)
		return err;
	if (!file->locks_fd)
		file->locks_fd = memfd_create("locks", MFD_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->locks_fd);
	err = open(path, O_RDWR | O_CLOEXEC);
	if (err < 0)
		return -errno;
	*fd = err;
	return 0;
}

static int fake_commit(struct volume *volume, const struct credentials *who, const struct handle *object,
		       uint64_t offset, uint64_t len, struct backend_change *change)
{
	struct node *file;
	int err = file_of(volume, who, object, W_OK, &file);

	(void)offset;
	(void)len;
	note(&change->before, file);
	note(&change->after, file);
	return err;
}

static int fake_get_acl(struct volume *volume, const struct handle *object, enum backend_acl_kind kind,
			struct backend_acl *acl, struct backend_attributes *after)
{
	static const enum backend_acl_tag tags[] = { BACKEND_ACL_USER_OBJ, BACKEND_ACL_GROUP_OBJ, BACKEND_ACL_OTHER };
	struct node *node = node_of(volume, object);
	const struct fake_acl *stored;

	if (!node)
		return -ESTALE;
	note(after, node);
	stored = &node->acls[kind];
	acl->count = stored->count;
	memcpy(acl->entries, stored->entries, sizeof(stored->entries));
	if (stored->count || kind != BACKEND_ACL_ACCESS)
		return 0;
	for (unsigned int i = 0; i < 3; i++)
		acl->entries[i] = (struct backend_acl_entry){ tags[i], node->st.st_mode >> (6 - 3 * i) & 7, 0 };
	acl->count = 3;
	return 0;
}

static int fake_set_acl(struct volume *volume, const struct credentials *who, const struct handle *object,
			const struct backend_acl *access, const struct backend_acl *default_acl,
			struct backend_attributes *after)
{
	const struct backend_acl *acls[] = { [BACKEND_ACL_ACCESS] = access, [BACKEND_ACL_DEFAULT] = default_acl };
	struct node *node = node_of(volume, object);

	if (!node)
		return -ESTALE;
	note(after, node);
	if (who->uid && who->uid != node->st.st_uid)
		return -EPERM;
	for (size_t kind = 0; kind < 2; kind++)
		if (acls[kind] && acls[kind]->count > FAKE_ACL_MAX)
			return -ENOSPC;
	for (size_t kind = 0; kind < 2; kind++) {
		if (!acls[kind])
			continue;
		node->acls[kind].count = acls[kind]->count;
		memcpy(node->acls[kind].entries, acls[kind]->entries, sizeof(node->acls[kind].entries));
	}
	touch(volume->state, node);
	note(after, node);
	return 0;
}

/* Users up to 1000 may have 1 GiB and 100 files; the others have no quota, nor do groups. */
static int fake_quota(struct volume *volume, enum backend_quota_kind kind, uint32_t id, struct backend_quota *quota)
{
	if (kind != BACKEND_QUOTA_USER || id > 1000)
		return -ESRCH;
	*quota = (struct backend_quota){
		.byte_hard = 1 << 30,
		.byte_soft = 1 << 29,
		.bytes = fake_volume_bytes(volume),
		.file_hard = 100,
		.files = id,
		.file_grace_end = 1,
	};
	return 0;
}

/* The first name in @directory, or else any; up to the root. */
static const struct link *link_to(const struct fake *fake, uint64_t id, uint64_t directory)
{
	const struct link *any = NULL;

	for (size_t i = 0; i < FAKE_NODES_MAX; i++) {
		if (fake->links[i].id != id)
			continue;
		if (!directory || fake->links[i].dir == directory)
			return &fake->links[i];
		any = &fake->links[i];
	}
	return any;
}

static int fake_place(struct volume *volume, const struct handle *object, const struct handle *directory, char *path)
{
	const struct node *node = node_of(volume, object), *parent = directory ? node_of(volume, directory) : NULL;
	char below[PATH_MAX] = "";
	const struct link *link;

	if (!node)
		return -ESTALE;
	for (uint64_t id = node->id, in = parent ? parent->id : 0; id != FAKE_ROOT; id = link->dir, in = 0) {
		link = link_to(volume->state, id, in);
		if (!link)
			return -ESTALE;
		if (snprintf(path, PATH_MAX, "%s%s%s", link->name, *below ? "/" : "", below) >= PATH_MAX)
			return -ENAMETOOLONG;
		strcpy(below, path);
	}
	strcpy(path, below);
	return 0;
}

static const struct backend fake_backend = {
	.name = "fake",
	.getattr = fake_getattr,
	.setattr = fake_setattr,
	.lookup = fake_lookup,
	.access = fake_access,
	.readlink = fake_readlink,
	.read = fake_read,
	.write = fake_write,
	.create = fake_create,
	.mkdir = fake_mkdir,
	.symlink = fake_symlink,
	.mknod = fake_mknod,
	.remove = fake_remove,
	.rmdir = fake_rmdir,
	.rename = fake_rename,
	.link = fake_link,
	.readdir = fake_readdir,
	.place = fake_place,
	.statfs = fake_statfs,
	.limits = fake_limits,
	.commit = fake_commit,
	.get_acl = fake_get_acl,
	.set_acl = fake_set_acl,
	.quota = fake_quota,
	.open_locks = fake_open_locks,
};

struct volume *fake_volume_new(void)
{
	static const struct credentials root;
	struct fake *fake = calloc(1, sizeof(*fake));
	struct node *dir;

	if (!fake)
		abort();
	fake->next_id = FAKE_ROOT;
	fake->volume = (struct volume){ .id = 1, .fsid = FAKE_FSID, .write_verifier = 0x5678,
					.backend = &fake_backend, .state = fake };
	dir = node_add(fake, S_IFDIR, &root);
	dir->st.st_mode = S_IFDIR | 0777;
	dir->st.st_nlink = 2;
	fake->volume.root = handle_of(fake, dir->id);
	return &fake->volume;
}

void fake_volume_free(struct volume *volume)
{
	struct fake *fake = volume->state;

	for (size_t i = 0; i < FAKE_NODES_MAX; i++)
		if (fake->nodes[i].locks_fd)
			close(fake->nodes[i].locks_fd);
	free(volume->state);
}

size_t fake_volume_bytes(const struct volume *volume)
{
	const struct fake *fake = volume->state;
	size_t bytes = 0;

	for (size_t i = 0; i < FAKE_NODES_MAX; i++)
		if (fake->nodes[i].id && S_ISREG(fake->nodes[i].st.st_mode))
			bytes += (size_t)fake->nodes[i].st.st_size;
	return bytes;
}

static ns_item volume_item(uint32_t id, uint32_t node)
{
	static char root[8] = { 0, 0, 0, 0, 0, 0, 0, FAKE_ROOT };
	ns_item item = { .kind = NS_VOLUME };

	item.ns_item_u.volume = (ns_volume){ .id = id, .node = node, .path = (char *)"/srv", .root_type = 7,
					     .root = { .root_len = 8, .root_val = root } };
	memset(item.ns_item_u.volume.uuid, (int)id, NS_UUID_BYTES);
	return item;
}

static ns_item entry_item(uint64_t id, uint64_t parent, const char *name, uint32_t volume)
{
	ns_item item = { .kind = NS_ENTRY };

	item.ns_item_u.entry = (ns_entry){ .id = id, .parent = parent, .name = (char *)name, .volume = volume,
					   .changed_ns = 1700000000000000005 };
	return item;
}

static ns_item export_item(uint32_t id, const char *path, const char *clients)
{
	ns_item item = { .kind = NS_EXPORT };

	item.ns_item_u.export_ = (ns_export){ .id = id, .path = (char *)path, .clients = (char *)clients };
	return item;
}

struct namespace *fake_namespace_new(void)
{
	ns_item items[] = {
		{ .kind = NS_CLUSTER },
		volume_item(1, 1),
		volume_item(2, 2),
		volume_item(3, 1),
		entry_item(1, 1, "", 0),
		entry_item(2, 1, "disk0", 1),
		entry_item(3, 1, "projects", 0),
		entry_item(4, 3, "a", 2),
		entry_item(5, 1, "gone", 3),
		export_item(1, "/", "10.9.0.0/16(rw,insecure,no_root_squash) 10.0.0.0/8(rw)"),
		export_item(2, "/projects", "10.9.0.0/16(ro,insecure)"),
	};
	ns_snapshot snapshot = {
		.revision = 1,
		.items = { .items_len = sizeof(items) / sizeof(items[0]), .items_val = items },
	};
	ns_cluster *cluster = &items[0].ns_item_u.cluster;
	struct namespace *ns = namespace_new();
	char bytes[4096];
	XDR xdr;

	cluster->name = (char *)"test";
	cluster->vips = (char *)"";
	memset(cluster->uuid, 0xab, NS_UUID_BYTES);
	for (size_t i = 0; i < NS_KEY_BYTES; i++)
		cluster->handle_key[i] = (char)i;
	xdrmem_create(&xdr, bytes, sizeof(bytes), XDR_ENCODE);
	if (!ns || !xdr_ns_snapshot(&xdr, &snapshot) || namespace_load(ns, bytes, xdr_getpos(&xdr)) < 0)
		abort();
	return ns;
}
