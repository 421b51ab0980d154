/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The MOUNT protocol, version 3 (RFC 1813, 5) and 1 (RFC 1094, A). Version 2 is answered as 1, but for its PATHCONF.
 *
 * In versions 1 and 2 MNT is always refused: it would give a handle of 32 bytes for NFS version 2, which nobody here
 * understands. All else is the same in all versions.
 *
 * A mount is a handle in the client's hands. That there is one is noted where the client's call came in, which for a
 * path that another device had to walk is not where it was answered.
 */
#include "config.h"

#include "common/file_service_internal.h"
#include "common/mount3_xdr.h" /* made by rpcgen from common/mount3.x */
#include "common/mount_table.h"
#include "common/workers.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
	MNT_ROOM = 4 + 4 + HANDLE_MAX + 4 + 2 * 4,
	/* What a list may take: the rest of a datagram, or of a record, is for the reply's header. */
	LIST_DATAGRAM_MAX = 60000,
	LIST_MAX = RPC_DATA_MAX,
};

/* One MNT, while it is answered. */
struct mnt {
	struct file_service *service;
	struct rpc_call *call;
	char path[MOUNT3_PATH_MAX + 1];
	const char *rest; /* of the path, behind the mount point */
	struct handle handle;
	struct volume *volume;
};

static const struct {
	int err;
	mountstat3 status;
} statuses[] = {
	{ 0, MNT3_OK },
	{ EPERM, MNT3ERR_PERM },
	{ ENOENT, MNT3ERR_NOENT },
	{ ESTALE, MNT3ERR_NOENT },
	{ EIO, MNT3ERR_IO },
	{ EACCES, MNT3ERR_ACCES },
	{ ENOTDIR, MNT3ERR_NOTDIR },
	{ ELOOP, MNT3ERR_NOTDIR },
	{ EINVAL, MNT3ERR_INVAL },
	{ ENAMETOOLONG, MNT3ERR_NAMETOOLONG },
	{ EOPNOTSUPP, MNT3ERR_NOTSUPP },
};

static mountstat3 status_of(int err)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (statuses[i].err == -err)
			return statuses[i].status;
	return MNT3ERR_SERVERFAULT;
}

static void reply_void(struct rpc_call *call)
{
	struct bytes_writer out;

	if (!rpc_reply_begin(call, 0, &out))
		rpc_reply_end(call, &out);
}

static void put_text(struct bytes_writer *out, const void *text, size_t len)
{
	static const uint8_t zeros[3];

	bytes_put_be32(out, (uint32_t)len);
	bytes_put(out, text, len);
	bytes_put(out, zeros, -len & 3);
}

/* @handle is NULL on failure. */
static void reply_mnt(struct rpc_call *call, int err, const struct handle_key *key, const struct handle *handle)
{
	uint8_t bytes[HANDLE_MAX];
	struct bytes_writer out;

	if (rpc_reply_begin(call, MNT_ROOM, &out))
		return;
	bytes_put_be32(&out, status_of(err));
	if (!err) {
		put_text(&out, bytes, handle_encode(key, handle, bytes));
		bytes_put_be32(&out, 2);
		bytes_put_be32(&out, RPC_AUTH_SYS); /* the client takes the first it likes */
		bytes_put_be32(&out, RPC_AUTH_NONE);
	}
	rpc_reply_end(call, &out);
}

/* Return: 0; -EBADMSG if the arguments are no path */
static int path_decode(struct rpc_call *call, mountpath3 *path)
{
	bool decoded;
	XDR xdr;

	xdrmem_create(&xdr, (char *)call->args.p, (u_int)call->args.left, XDR_DECODE);
	decoded = xdr_mountpath3(&xdr, path);
	xdr_destroy(&xdr);
	return decoded ? 0 : -EBADMSG;
}

static int path_text(const mountpath3 *wire, char out[static MOUNT3_PATH_MAX + 1])
{
	size_t len = wire->mountpath3_len;

	if (!len || wire->mountpath3_val[0] != '/' || memchr(wire->mountpath3_val, '\0', len))
		return -EINVAL;
	memcpy(out, wire->mountpath3_val, len);
	out[len] = '\0';
	return 0;
}

/* One component below a mount point. ".." would lead out of it without the engine's knowing. */
static int step(struct mnt *mnt, const char *name, size_t len)
{
	static const struct credentials root; /* as mountd: the handle gives nothing that permissions don't */
	struct backend_attributes dir_after;
	struct backend_found found = { 0 };
	char text[NAME_MAX + 1];
	int err;

	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(text, name, len);
	text[len] = '\0';
	if (strcmp(text, "..") == 0)
		return -EACCES;
	err = mnt->volume->backend->lookup(mnt->volume, &root, &mnt->handle, text, &found, &dir_after);
	if (err)
		return err;
	if (found.attributes.valid && !S_ISDIR(found.attributes.st.st_mode))
		return -ENOTDIR;
	mnt->handle = found.handle;
	return 0;
}

static int walk_down(struct mnt *mnt)
{
	for (const char *at = mnt->rest; *at;) {
		size_t len = strcspn(at, "/");
		int err = len ? step(mnt, at, len) : 0;

		if (err)
			return err;
		at += len + (at[len] == '/');
	}
	return 0;
}

/* Return: 0; EXPORTS_UNKNOWN; -EACCES, -EINPROGRESS, -ENOMEM */
static int check_rights(struct mnt *mnt, uint32_t volume)
{
	const struct sockaddr_storage *client = &mnt->call->client;
	struct exports *exports = mnt->service->exports;
	struct export_rights rights;
	int err = volume == NAMESPACE_ROOT_VOLUME ? exports_rights(exports, volume, client, &rights) :
						    exports_rights_at(exports, volume, mnt->rest, client, &rights, NULL);

	if (err == -EACCES)
		mnt->service->counters.access_denied++;
	return err;
}

/* Finds what the path leads to in the virtual root. */
static int walk_root(struct mnt *mnt)
{
	const struct namespace *ns = mnt->service->options.ns;
	const ns_volume *volume;
	const ns_entry *entry;
	int err;

	if (!namespace_cluster(ns))
		return -EINPROGRESS;
	entry = namespace_walk(ns, mnt->path, &mnt->rest);
	if (!entry)
		return -ENOENT;
	mnt->call->volume = entry->volume;
	err = check_rights(mnt, entry->volume);
	if (err)
		return err;
	if (entry->volume == NAMESPACE_ROOT_VOLUME) {
		mnt->handle = namespace_entry_handle(entry);
		return 0;
	}
	if (namespace_spread(ns, entry->volume)) {
		mnt->handle = namespace_spread_handle(entry->volume);
		return 0;
	}
	volume = namespace_volume(ns, entry->volume);
	if (!volume)
		return -ENOENT;
	mnt->handle = namespace_volume_root(volume);
	return 0;
}

/* A MNT that another device answers. */
struct mnt_relayed {
	struct file_service *service;
	char path[];
};

/* The answer to a relayed call has the same header as all of ours: no verifier. */
static bool was_granted(const struct rpc_call *call)
{
	struct bytes_reader r = bytes_reader_init(call->reply + RPC_REPLY_HEADROOM, call->reply_len);
	uint32_t accepted, status;

	if (!call->reply_len)
		return false;
	bytes_take(&r, 5 * 4); /* xid, REPLY, MSG_ACCEPTED, AUTH_NONE, 0 */
	accepted = bytes_get_be32(&r);
	status = bytes_get_be32(&r);
	return !r.failed && accepted == RPC_ACCEPT_SUCCESS && status == MNT3_OK;
}

static void on_relayed(struct rpc_call *call, void *arg)
{
	struct mnt_relayed *relayed = arg;

	if (was_granted(call))
		mount_table_add(relayed->service->mounts, &call->client, relayed->path);
	free(relayed);
}

static void relay_mnt(const struct mnt *mnt, uint32_t node)
{
	size_t len = strlen(mnt->path) + 1;
	struct mnt_relayed *relayed = malloc(sizeof(*relayed) + len);

	if (relayed) { /* else the mount works, and is not listed */
		relayed->service = mnt->service;
		memcpy(relayed->path, mnt->path, len);
		mnt->call->on_reply = on_relayed;
		mnt->call->on_reply_arg = relayed;
	}
	file_service_relay(mnt->service, node, mnt->call);
}

static void dispatch_mnt(struct file_service *service, struct rpc_call *call);

static void finish_mnt(struct mnt *mnt, int err)
{
	struct file_service *service = mnt->service;

	if (!err && mnt->call->transport != RPC_RELAYED)
		mount_table_add(service->mounts, &mnt->call->client, mnt->path);
	reply_mnt(mnt->call, err, namespace_handle_key(service->options.ns), &mnt->handle);
}

/* A walk on a worker. */
struct mnt_work {
	struct work work;
	struct mnt mnt;
	int err;
};

static void walk_run(struct work *work)
{
	struct mnt_work *own = (struct mnt_work *)work;

	own->err = walk_down(&own->mnt);
}

static void walk_done(struct work *work)
{
	struct mnt_work *own = (struct mnt_work *)work;

	finish_mnt(&own->mnt, own->err);
	free(own);
}

/* Below a mount point a disk is asked, which may not answer. */
static void walk_and_finish(struct mnt *mnt)
{
	struct workers *workers = mnt->service->options.workers;
	struct mnt_work *own;

	if (!workers) {
		finish_mnt(mnt, walk_down(mnt));
		return;
	}
	own = malloc(sizeof(*own));
	if (own) {
		*own = (struct mnt_work){
			.work = { .lane = mnt->volume, .run = walk_run, .done = walk_done },
			.mnt = *mnt,
		};
		own->mnt.rest = own->mnt.path + (mnt->rest - mnt->path);
		if (workers_submit(workers, &own->work) == 0)
			return;
	}
	free(own);
	finish_mnt(mnt, -ENOMEM);
}

static bool is_below(const struct mnt *mnt)
{
	return mnt->rest[strspn(mnt->rest, "/")];
}

/* What is in a spread directory every device knows; what is below that, its branch does. */
static int enter_spread(struct mnt *mnt)
{
	uint32_t node;
	size_t len;
	int err = file_service_find(mnt->service, mnt->handle.volume, mnt->call->transport, &mnt->volume, &node);

	mnt->rest += strspn(mnt->rest, "/");
	len = strcspn(mnt->rest, "/");
	if (!err)
		err = step(mnt, mnt->rest, len);
	mnt->rest += len;
	return err;
}

static void answer_mnt(struct mnt *mnt)
{
	struct file_service *service = mnt->service;
	uint32_t node = 0;
	int err = walk_root(mnt);

	if (err == EXPORTS_UNKNOWN && file_service_wait(service, mnt->call, dispatch_mnt) == 0)
		return;
	/* A mount point itself needs no volume: the name space knows its handle. */
	while (!err && is_below(mnt) && mnt->handle.type == HANDLE_SPREAD) /* "." stays in it; workers must not look into it */
		err = enter_spread(mnt);
	if (!err && is_below(mnt)) {
		err = file_service_find(service, mnt->handle.volume, mnt->call->transport, &mnt->volume, &node);
		if (!err && !mnt->volume) {
			relay_mnt(mnt, node);
			return;
		}
		if (!err) {
			walk_and_finish(mnt);
			return;
		}
	}
	finish_mnt(mnt, err);
}

static void dispatch_mnt(struct file_service *service, struct rpc_call *call)
{
	struct mnt mnt = { .service = service, .call = call };
	mountpath3 path = { 0 };
	int err;

	if (path_decode(call, &path) < 0) {
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
	} else {
		err = path_text(&path, mnt.path);
		if (!err && call->version < 3)
			err = -EACCES;
		if (err)
			reply_mnt(call, err, NULL, NULL);
		else
			answer_mnt(&mnt);
	}
	xdr_free((xdrproc_t)xdr_mountpath3, &path);
}

static size_t list_max(const struct rpc_call *call)
{
	return call->transport == RPC_UDP ? LIST_DATAGRAM_MAX : LIST_MAX;
}

static size_t mounted_room(const struct mounted *mounted)
{
	return 4 + 4 + strlen(mounted->client) + 3 + 4 + strlen(mounted->path) + 3;
}

/* The newest mounts, as many as fit. */
static void dispatch_dump(struct file_service *service, struct rpc_call *call)
{
	const struct mounted *mounted = NULL;
	struct bytes_writer out;

	if (rpc_reply_begin(call, list_max(call), &out))
		return;
	while ((mounted = mount_table_next(service->mounts, mounted))) {
		if (out.left < mounted_room(mounted) + 4)
			break;
		bytes_put_be32(&out, true);
		put_text(&out, mounted->client, strlen(mounted->client));
		put_text(&out, mounted->path, strlen(mounted->path));
	}
	bytes_put_be32(&out, false);
	rpc_reply_end(call, &out);
}

static void dispatch_umnt(struct file_service *service, struct rpc_call *call)
{
	char text[MOUNT3_PATH_MAX + 1];
	mountpath3 path = { 0 };

	if (path_decode(call, &path) < 0) {
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
	} else {
		if (path_text(&path, text) == 0)
			mount_table_remove(service->mounts, &call->client, text);
		reply_void(call);
	}
	xdr_free((xdrproc_t)xdr_mountpath3, &path);
}

static void dispatch_umntall(struct file_service *service, struct rpc_call *call)
{
	mount_table_remove(service->mounts, &call->client, NULL);
	reply_void(call);
}

static void dispatch_void(struct file_service *service, struct rpc_call *call)
{
	(void)service;
	reply_void(call);
}

/* The clients of one export, without their options. */
static void put_clients(struct bytes_writer *out, struct exports *exports, const ns_export *export)
{
	char text[EXPORT_NAME_MAX + 2];

	for (size_t at = 0; exports_next_client(exports, export, &at, text);) {
		size_t len = strlen(text);

		bytes_put_be32(out, true);
		put_text(out, text, len < MOUNT3_NAME_MAX ? len : MOUNT3_NAME_MAX);
	}
	bytes_put_be32(out, false);
}

/* A client takes two bytes of text at least, and 12 bytes more than its text at most. */
static size_t export_room(const ns_export *export)
{
	return 4 + 4 + strlen(export->path) + 3 + 8 * (strlen(export->clients) + 2) + 4;
}

static size_t exports_room(const struct namespace *ns, size_t max)
{
	const ns_export *export;
	size_t room = 4;

	for (size_t at = 0; (export = namespace_next_export(ns, &at));)
		room += export_room(export);
	return room < max ? room : max;
}

static void dispatch_export(struct file_service *service, struct rpc_call *call)
{
	const struct namespace *ns = service->options.ns;
	const ns_export *export;
	struct bytes_writer out;

	if (rpc_reply_begin(call, exports_room(ns, list_max(call)), &out))
		return;
	for (size_t at = 0; (export = namespace_next_export(ns, &at));) {
		if (out.left < export_room(export) + 4)
			break;
		bytes_put_be32(&out, true);
		put_text(&out, export->path, strlen(export->path));
		put_clients(&out, service->exports, export);
	}
	bytes_put_be32(&out, false);
	rpc_reply_end(call, &out);
}

static void (*const dispatchers[MOUNT_NUMBERS])(struct file_service *service, struct rpc_call *call) = {
	[MOUNT_NULL] = dispatch_void,
	[MOUNT_MNT] = dispatch_mnt,
	[MOUNT_DUMP] = dispatch_dump,
	[MOUNT_UMNT] = dispatch_umnt,
	[MOUNT_UMNTALL] = dispatch_umntall,
	[MOUNT_EXPORT] = dispatch_export,
	[MOUNT_EXPORTALL] = dispatch_export,
};

void mount3_dispatch(const struct rpc_program *program, struct rpc_call *call)
{
	if (call->procedure >= MOUNT_NUMBERS || (call->procedure == MOUNT_EXPORTALL && call->version == 3))
		rpc_reply_error(call, RPC_ACCEPT_PROC_UNAVAIL, 0, 0);
	else
		dispatchers[call->procedure](program->state, call);
}

void mount3_unreachable(struct rpc_call *call)
{
	if (call->procedure == MOUNT_MNT)
		reply_mnt(call, -ETIMEDOUT, NULL, NULL); /* MNT3ERR_SERVERFAULT: the protocol has no "later" */
	else
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
}
