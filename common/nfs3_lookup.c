/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nfs3_internal.h"

#include <errno.h>
#include <string.h>

static bool is_same(const struct handle *a, const struct handle *b)
{
	return a->type == b->type && a->volume == b->volume && a->backend_type == b->backend_type &&
	       a->backend_len == b->backend_len && memcmp(a->backend, b->backend, a->backend_len) == 0;
}

/* Above a volume's root is the directory of the virtual root that the volume has its place in. */
static int find_above(struct nfs3_op *op, struct backend_found *found)
{
	const struct namespace *ns = op->service->options.ns;
	const ns_entry *place = namespace_place(ns, op->volume->id);
	const ns_entry *above = place ? namespace_entry(ns, place->parent) : NULL;

	if (!above)
		return -ENOENT;
	*found = (struct backend_found){ .handle = namespace_entry_handle(above) };
	return 0;
}

/*
 * What was found lies in another volume: its attributes are given if they are here and the client may have them.
 * Return: the fsid they belong to
 */
static uint64_t cross(struct nfs3_op *op, struct backend_found *found)
{
	uint32_t id = found->handle.volume;
	struct export_rights rights;
	struct volume *volume;
	uint32_t node;

	found->attributes.valid = false;
	if (exports_rights_at(op->service->exports, id, "", &op->call->client, &rights, NULL) ||
	    file_service_find(op->service, id, op->call->transport, &volume, &node) || !volume)
		return 0;
	found->attributes.valid = !volume->backend->getattr(volume, &found->handle, &found->attributes.st);
	return volume->fsid;
}

/* The name space is the loop's, LOOKUP may run on a worker: what it may need of that is looked up before. */
void nfs3_lookup_prepare(struct nfs3_op *op)
{
	const filename3 *name = &op->args.lookup.what.name;
	struct nfs3_above *above = &op->above;

	if (op->volume->id == NAMESPACE_ROOT_VOLUME || !is_same(&op->object, &op->volume->root) || name->filename3_len != 2 ||
	    memcmp(name->filename3_val, "..", 2) != 0)
		return;
	above->is_asked = true;
	above->err = find_above(op, &above->found);
	if (!above->err)
		above->fsid = cross(op, &above->found);
}

int nfs3_lookup(struct nfs3_op *op)
{
	struct volume *volume = op->volume;
	struct backend_found found = { 0 };
	uint64_t fsid = volume->fsid;
	char name[NFS3_NAME_BYTES];
	int err = nfs3_name(&op->args.lookup.what.name, NFS3_NAME_FIND, name);

	if (err)
		return err;
	err = volume->backend->lookup(volume, &op->who, &op->object, name, &found, &op->after);
	if (!err && op->above.is_asked)
		err = op->above.err;
	if (err)
		return err;
	nfs3_leave_branch(volume, &found);
	if (op->above.is_asked) {
		found = op->above.found;
		fsid = op->above.fsid;
	} else if (found.handle.volume != volume->id && found.handle.type == HANDLE_LOCAL) {
		fsid = cross(op, &found); /* from the virtual root or a spread directory, in the loop */
	}
	nfs3_put_handle(op, &found);
	nfs3_put_attributes(&op->out, &found.attributes, fsid);
	nfs3_put_facts(op);
	return 0;
}

size_t nfs3_readlink_room(struct nfs3_op *op)
{
	(void)op;
	return 4 + NFS3_POST_OP_BYTES + 4 + PATH_MAX;
}

int nfs3_readlink(struct nfs3_op *op)
{
	char target[PATH_MAX];
	int err = op->volume->backend->readlink(op->volume, &op->who, &op->object, target, &op->after);

	if (err)
		return err;
	nfs3_put_facts(op);
	nfs3_put_opaque(&op->out, target, strlen(target));
	return 0;
}
