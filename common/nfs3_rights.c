/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a call may do: the rights of its client in the volume, or at the places of the call's objects if an export leads into
 * the volume, and as whom.
 */
#include "config.h"

#include "common/nfs3_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool is_lookup_of_parent(const struct nfs3_op *op)
{
	const filename3 *name = &op->args.lookup.what.name;

	return op->procedure->run == nfs3_lookup && name->filename3_len == 2 &&
	       memcmp(name->filename3_val, "..", 2) == 0;
}

/* The directory above an export's root is not in the export: LOOKUP does not lead there, READDIRPLUS does not show it. */
static int check_way_up(struct nfs3_op *op, const char *path)
{
	bool is_listing = op->procedure->run == nfs3_readdirplus;
	struct export_rights rights;
	char above[PATH_MAX];
	char *slash;
	int err;

	if (!is_listing && !is_lookup_of_parent(op))
		return 0;
	strcpy(above, path);
	slash = strrchr(above, '/');
	*(slash ? slash : above) = '\0';
	err = exports_rights_at(op->service->exports, op->object.volume, above, &op->call->client, &rights, NULL);
	op->hides_parent = err != 0;
	return is_listing ? 0 : err;
}

static bool is_named_by_export(const struct nfs3_op *op, const char *directory, const filename3 *name)
{
	char path[PATH_MAX + NFS3_NAME_BYTES];

	snprintf(path, sizeof(path), "%s/%.*s", directory, (int)name->filename3_len, name->filename3_val);
	return exports_name(op->service->exports, op->object.volume, path);
}

/*
 * What the path of an export names keeps its name, and no other object gets it, for the rights are bound to it: who may write
 * around a part of a volume but not in it could open it by moving it away. The kernel guards mount points so.
 */
static int check_names(const struct nfs3_op *op, const struct nfs3_places *places)
{
	const RENAME3args *args = &op->args.rename;

	if (op->procedure->run != nfs3_rename)
		return 0;
	if (is_named_by_export(op, places->object, &args->from.name) ||
	    is_named_by_export(op, places->second, &args->to.name))
		return -EACCES;
	return 0;
}

/* What concerns two objects needs both in one export, as with knfsd. */
static int rights_at(struct nfs3_op *op, const struct nfs3_places *places)
{
	struct exports *exports = op->service->exports;
	const struct sockaddr_storage *client = &op->call->client;
	uint32_t volume = op->object.volume, id, second_id;
	struct export_rights rights;
	int err = exports_rights_at(exports, volume, places->object, client, &op->rights, &id);

	if (!err)
		err = check_way_up(op, places->object);
	if (err || !op->procedure->second)
		return err;
	err = exports_rights_at(exports, volume, places->second, client, &rights, &second_id);
	if (!err && id != second_id)
		err = -EXDEV;
	return err ? err : check_names(op, places);
}

/* The call keeps them. Return: as file_service_groups() */
static int take_groups(struct nfs3_op *op)
{
	struct group_set *set;
	int err = file_service_groups(op->service, op->call, &op->rights, &op->who, &set);

	if (err || !set)
		return err;
	group_set_put(op->call->group_set);
	op->call->group_set = set;
	return 0;
}

int nfs3_check_rights(struct nfs3_op *op, const struct nfs3_places *places)
{
	struct exports *exports = op->service->exports;
	int err = places ? rights_at(op, places) :
			   exports_rights(exports, op->object.volume, &op->call->client, &op->rights);

	if (err == -EACCES)
		op->service->counters.access_denied++;
	if (err)
		return err;
	if (op->procedure->modifies && !op->rights.may_write)
		return -EROFS;
	op->is_divided = exports_divide(exports, op->object.volume);
	op->who = op->call->who;
	exports_squash(&op->rights, op->call->flavor == RPC_AUTH_NONE, &op->who);
	return take_groups(op);
}
