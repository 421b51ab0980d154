/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * NFSACL version 3 (common/nfs_acl.x): POSIX ACLs between the backend's words and the protocol's.
 *
 * On the wire an ACL is never shorter than four entries, if there is one at all. The three that say no more than the mode
 * does (owner, group, others) travel with a fourth, a mask that equals the group's permissions: Solaris made it so,
 * and Linux does the same in both directions, since such a mask stored in the file would show another mode's group
 * bits after the next chmod.
 */
#include "config.h"

#include "common/nfs3_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	MASK_KNOWN = NFS_ACL_ACCESS | NFS_ACL_ACCESS_COUNT | NFS_ACL_DEFAULT | NFS_ACL_DEFAULT_COUNT,
	PERMISSIONS = 07,
	ENTRY_BYTES = 3 * 4,
	ACL_BYTES = 4 + 4 + NFS_ACL_ENTRIES_MAX * ENTRY_BYTES,
	PLAIN_ENTRIES = 3, /* of an ACL that says what a mode says */
};

_Static_assert((int)NFS_ACL_ENTRIES_MAX == (int)BACKEND_ACL_MAX, "what a file has can be said");

/* From the wire */

static int entry_decode(const nfs_acl_entry *wire, struct backend_acl_entry *out)
{
	struct backend_acl_entry entry = {
		.tag = (enum backend_acl_tag)(wire->type & ~(uint32_t)NFS_ACL_TYPE_DEFAULT),
		.permissions = wire->permissions & PERMISSIONS,
	};

	switch (entry.tag) {
	case BACKEND_ACL_MASK: /* Solaris may set more bits in it */
		*out = entry;
		return 0;
	case BACKEND_ACL_USER:
	case BACKEND_ACL_GROUP:
		entry.id = wire->id;
		break;
	case BACKEND_ACL_USER_OBJ:
	case BACKEND_ACL_GROUP_OBJ:
	case BACKEND_ACL_OTHER:
		break;
	default:
		return -EINVAL;
	}
	if (wire->permissions & ~(uint32_t)PERMISSIONS)
		return -EINVAL;
	*out = entry;
	return 0;
}

/* The order in which the kernel wants them: by tag, then by id. */
static int entry_compare(const void *a, const void *b)
{
	const struct backend_acl_entry *left = a, *right = b;

	if (left->tag != right->tag)
		return left->tag < right->tag ? -1 : 1;
	return left->id < right->id ? -1 : left->id > right->id;
}

static void drop_needless_mask(struct backend_acl *acl)
{
	/* Sorted, four entries with a group and a mask are owner, group, mask, others, or the kernel will refuse them. */
	const struct backend_acl_entry *group = &acl->entries[1], *mask = &acl->entries[2];

	if (acl->count != PLAIN_ENTRIES + 1 || group->tag != BACKEND_ACL_GROUP_OBJ || mask->tag != BACKEND_ACL_MASK ||
	    group->permissions != mask->permissions)
		return;
	acl->entries[2] = acl->entries[3];
	acl->count = PLAIN_ENTRIES;
}

int nfs_acl_decode(const nfs_acl_entry *wire, size_t count, struct backend_acl *out)
{
	if (count > BACKEND_ACL_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		int err = entry_decode(&wire[i], &out->entries[i]);

		if (err)
			return err;
	}
	out->count = (uint32_t)count;
	qsort(out->entries, count, sizeof(out->entries[0]), entry_compare);
	drop_needless_mask(out);
	return 0;
}

/* To the wire */

static void put_entry(struct bytes_writer *w, uint32_t tag, uint32_t flag, uint32_t id, uint32_t permissions)
{
	bytes_put_be32(w, tag | flag);
	bytes_put_be32(w, id);
	bytes_put_be32(w, permissions);
}

/* The owner's entries say who that is; Solaris wants a 0 where there is nobody to name. */
static uint32_t id_of(const struct backend_acl_entry *entry, const struct stat *owner)
{
	switch (entry->tag) {
	case BACKEND_ACL_USER_OBJ:
		return owner->st_uid;
	case BACKEND_ACL_GROUP_OBJ:
		return owner->st_gid;
	case BACKEND_ACL_USER:
	case BACKEND_ACL_GROUP:
		return entry->id;
	default:
		return 0;
	}
}

void nfs_acl_encode(struct bytes_writer *w, const struct backend_acl *acl, const struct stat *owner, bool is_default,
		    bool with_entries)
{
	uint32_t flag = is_default ? NFS_ACL_TYPE_DEFAULT : 0;
	bool is_plain = acl->count == PLAIN_ENTRIES;
	uint32_t count = is_plain ? PLAIN_ENTRIES + 1 : acl->count;

	bytes_put_be32(w, count);
	bytes_put_be32(w, with_entries ? count : 0);
	for (uint32_t i = 0; with_entries && i < acl->count; i++) {
		const struct backend_acl_entry *entry = &acl->entries[i];

		put_entry(w, entry->tag, flag, id_of(entry, owner), entry->permissions);
		if (is_plain && entry->tag == BACKEND_ACL_GROUP_OBJ)
			put_entry(w, BACKEND_ACL_MASK, flag, 0, entry->permissions);
	}
}

/* The procedures */

static size_t getacl_room(struct nfs3_op *op)
{
	(void)op;
	return 4 + NFS3_POST_OP_BYTES + 4 + 2 * ACL_BYTES;
}

static int getacl(struct nfs3_op *op)
{
	const struct backend *backend = op->volume->backend;
	uint32_t mask = op->args.getacl.mask;
	struct backend_acl acl = { 0 }, default_acl = { 0 };
	int err = backend->get_acl ? 0 : -EOPNOTSUPP;

	if (mask & ~(uint32_t)MASK_KNOWN)
		err = -EINVAL;
	if (!err && (mask & (NFS_ACL_ACCESS | NFS_ACL_ACCESS_COUNT)))
		err = backend->get_acl(op->volume, &op->object, BACKEND_ACL_ACCESS, &acl, &op->after);
	if (!err && (mask & (NFS_ACL_DEFAULT | NFS_ACL_DEFAULT_COUNT)))
		err = backend->get_acl(op->volume, &op->object, BACKEND_ACL_DEFAULT, &default_acl, &op->after);
	if (err)
		return err;
	nfs3_put_facts(op);
	bytes_put_be32(&op->out, mask);
	nfs_acl_encode(&op->out, &acl, &op->after.st, false, mask & NFS_ACL_ACCESS);
	nfs_acl_encode(&op->out, &default_acl, &op->after.st, true, mask & NFS_ACL_DEFAULT);
	return 0;
}

static int setacl(struct nfs3_op *op)
{
	const nfs_acl_attributes *wire = &op->args.setacl.acl;
	const struct backend *backend = op->volume->backend;
	struct backend_acl acl, default_acl;
	int err = backend->set_acl ? 0 : -EOPNOTSUPP;

	if ((wire->mask & ~(uint32_t)MASK_KNOWN) || wire->access_count != wire->access.access_len ||
	    wire->default_count != wire->default_.default__len)
		err = -EINVAL;
	if (!err)
		err = nfs_acl_decode(wire->access.access_val, wire->access.access_len, &acl);
	if (!err)
		err = nfs_acl_decode(wire->default_.default__val, wire->default_.default__len, &default_acl);
	if (!err)
		err = backend->set_acl(op->volume, &op->who, &op->object, wire->mask & NFS_ACL_ACCESS ? &acl : NULL,
				       wire->mask & NFS_ACL_DEFAULT ? &default_acl : NULL, &op->after);
	if (!err)
		nfs3_put_facts(op);
	return err;
}

const struct nfs3_procedure nfs_acl_procedures[NFS_ACL_PROCEDURES] = {
	[NFS_ACL_NULL] = { .name = "NULL" },
	[NFS_ACL_GETACL] = { .name = "GETACL",
			     .args = (xdrproc_t)xdr_GETACL3args,
			     .waits = true,
			     .facts = NFS3_AFTER,
			     .room = getacl_room,
			     .run = getacl },
	[NFS_ACL_SETACL] = { .name = "SETACL",
			     .args = (xdrproc_t)xdr_SETACL3args,
			     .modifies = true,
			     .waits = true,
			     .facts = NFS3_AFTER,
			     .run = setacl },
};
