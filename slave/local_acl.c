/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * POSIX ACLs, as the kernel keeps them in two extended attributes: a header of 4 bytes (version 2), then for each entry
 * tag (2 bytes), permissions (2) and id (4), little-endian; linux/posix_acl_xattr.h.
 */
#include "config.h"

#include "slave/local_internal.h"

#include <endian.h>
#include <errno.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>
#include <sys/xattr.h>

enum {
	HEADER_BYTES = sizeof(struct posix_acl_xattr_header),
	ENTRY_BYTES = sizeof(struct posix_acl_xattr_entry),
	ATTRIBUTE_MAX = HEADER_BYTES + BACKEND_ACL_MAX * ENTRY_BYTES,
};

static const char *const attributes[] = {
	[BACKEND_ACL_ACCESS] = "system.posix_acl_access",
	[BACKEND_ACL_DEFAULT] = "system.posix_acl_default",
};

/* What a mode says, as an ACL. */
static int acl_of_mode(const struct local_object *object, struct backend_acl *out)
{
	struct stat st;
	mode_t mode;

	if (fstat(object->fd, &st))
		return -errno;
	mode = st.st_mode;
	out->count = 3;
	out->entries[0] = (struct backend_acl_entry){ BACKEND_ACL_USER_OBJ, mode >> 6 & 7, 0 };
	out->entries[1] = (struct backend_acl_entry){ BACKEND_ACL_GROUP_OBJ, mode >> 3 & 7, 0 };
	out->entries[2] = (struct backend_acl_entry){ BACKEND_ACL_OTHER, mode & 7, 0 };
	return 0;
}

static bool has_id(enum backend_acl_tag tag)
{
	return tag == BACKEND_ACL_USER || tag == BACKEND_ACL_GROUP;
}

static int acl_decode(const char *bytes, size_t len, struct backend_acl *out)
{
	struct posix_acl_xattr_header header;
	struct posix_acl_xattr_entry entry;
	size_t count = (len - HEADER_BYTES) / ENTRY_BYTES;

	if (len < HEADER_BYTES || (len - HEADER_BYTES) % ENTRY_BYTES)
		return -EIO;
	memcpy(&header, bytes, sizeof(header));
	if (le32toh(header.a_version) != POSIX_ACL_XATTR_VERSION)
		return -EOPNOTSUPP;
	for (size_t i = 0; i < count; i++) {
		memcpy(&entry, bytes + HEADER_BYTES + i * ENTRY_BYTES, sizeof(entry));
		out->entries[i] = (struct backend_acl_entry){
			.tag = (enum backend_acl_tag)le16toh(entry.e_tag),
			.permissions = le16toh(entry.e_perm) & 7,
		};
		if (has_id(out->entries[i].tag))
			out->entries[i].id = le32toh(entry.e_id);
	}
	out->count = (uint32_t)count;
	return 0;
}

static size_t acl_encode(const struct backend_acl *acl, char bytes[static ATTRIBUTE_MAX])
{
	const struct posix_acl_xattr_header header = { .a_version = htole32(POSIX_ACL_XATTR_VERSION) };

	memcpy(bytes, &header, sizeof(header));
	for (uint32_t i = 0; i < acl->count; i++) {
		const struct backend_acl_entry *from = &acl->entries[i];
		const struct posix_acl_xattr_entry entry = {
			.e_tag = htole16(from->tag),
			.e_perm = htole16(from->permissions),
			.e_id = has_id(from->tag) ? htole32(from->id) : UINT32_MAX,
		};

		memcpy(bytes + HEADER_BYTES + i * ENTRY_BYTES, &entry, sizeof(entry));
	}
	return HEADER_BYTES + acl->count * ENTRY_BYTES;
}

static int acl_read(const struct local_object *object, enum backend_acl_kind kind, struct backend_acl *out)
{
	char path[LOCAL_FD_PATH_BYTES], bytes[ATTRIBUTE_MAX];
	ssize_t len;

	len = getxattr(local_fd_path(object->fd, path), attributes[kind], bytes, sizeof(bytes));
	if (len >= 0)
		return acl_decode(bytes, (size_t)len, out);
	/* A symbolic link has none; that is no reason to tell the client that there are none at all. */
	if (errno != ENODATA && !S_ISLNK(object->st.st_mode))
		return -errno;
	if (kind == BACKEND_ACL_ACCESS)
		return acl_of_mode(object, out);
	out->count = 0;
	return 0;
}

int local_get_acl(struct volume *volume, const struct handle *object, enum backend_acl_kind kind,
		  struct backend_acl *acl, struct backend_attributes *after)
{
	struct local_object opened;
	int rc = local_begin(volume, &local_as_root, object, &opened, after);

	return rc ? rc : local_end(&opened, after, acl_read(&opened, kind, acl));
}

static int acl_write(const struct local_object *object, enum backend_acl_kind kind, const struct backend_acl *acl)
{
	char path[LOCAL_FD_PATH_BYTES], bytes[ATTRIBUTE_MAX];
	size_t len;

	local_fd_path(object->fd, path);
	if (acl->count) {
		len = acl_encode(acl, bytes);
		return setxattr(path, attributes[kind], bytes, len, 0) ? -errno : 0;
	}
	return removexattr(path, attributes[kind]) && errno != ENODATA ? -errno : 0;
}

static int acls_write(const struct local_object *object, const struct backend_acl *access,
		      const struct backend_acl *default_acl)
{
	int rc = S_ISLNK(object->st.st_mode) ? -EINVAL : 0;

	if (!rc && access)
		rc = acl_write(object, BACKEND_ACL_ACCESS, access);
	/* That a file has no default ACL is not to be taken away. */
	if (!rc && default_acl && (default_acl->count || S_ISDIR(object->st.st_mode)))
		rc = acl_write(object, BACKEND_ACL_DEFAULT, default_acl);
	return rc;
}

int local_set_acl(struct volume *volume, const struct credentials *who, const struct handle *object,
		  const struct backend_acl *access, const struct backend_acl *default_acl,
		  struct backend_attributes *after)
{
	struct local_object opened;
	int rc = local_begin(volume, who, object, &opened, after);

	if (rc)
		return rc;
	local_change_lock(volume, &opened, NULL);
	rc = acls_write(&opened, access, default_acl);
	local_attributes_get(&opened, after);
	local_change_unlock(volume, &opened, NULL);
	local_identity_root();
	if (!rc)
		rc = local_object_sync(volume, &opened);
	return local_end(&opened, after, rc);
}
