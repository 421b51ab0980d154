/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The dispatcher: what the procedures have in common happens here, once.
 *
 *	decode --> handles --> volume --> rights --> run --> reply
 *	  |           |           |          |         |
 *	GARBAGE   BADHANDLE     STALE      ACCES    failure, with the facts that were had
 *	_ARGS       XDEV       JUKEBOX     ROFS
 *	                          |          |
 *	                          |          +--> names to look up, places to find: again from the beginning
 *	                          |          +--> what may wait for a disk runs on a worker; what memory may
 *	                          |          |    know is tried here first
 *	                          |                     unless it is a duplicate: that gets the first one's answer
 *	                          +--> relay: the owner answers
 *
 * In a data loop, what is not of a volume here, and what must wait for names, is passed on to the control loop instead.
 */
#include "config.h"

#include "common/clock.h"
#include "common/duplicate_requests.h"
#include "common/nfs3_internal.h"
#include "common/page_pipe.h"
#include "common/patience.h"
#include "common/priorities.h"
#include "common/workers.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
	NFS3_ROOM = 512,	  /* the longest results without data: CREATE, RENAME */
	NFS3_WRITE_CHECKED = 256, /* bytes of arguments that tell two WRITEs apart: all but the data, and some of that */
};

#define XDR_PROC(type) ((xdrproc_t)xdr_##type)

/* clang-format off */
static const struct nfs3_procedure procedures[NFS3_PROCEDURES] = {
	[NFS3_NULL] = { .name = "NULL" },
	[NFS3_GETATTR] = { "GETATTR", .decode = nfs3_object_decode, .run = nfs3_getattr },
	[NFS3_SETATTR] = { "SETATTR", .args = XDR_PROC(SETATTR3args), .modifies = true, .waits = true, .joins = true, .facts = NFS3_CHANGE,
			   .run = nfs3_setattr },
	[NFS3_LOOKUP] = { "LOOKUP", .decode = nfs3_lookup_decode, .facts = NFS3_AFTER, .prepare = nfs3_lookup_prepare,
			  .run = nfs3_lookup },
	[NFS3_ACCESS] = { "ACCESS", .decode = nfs3_access_decode, .facts = NFS3_AFTER, .run = nfs3_access },
	[NFS3_READLINK] = { "READLINK", .decode = nfs3_object_decode, .waits = true, .facts = NFS3_AFTER, .room = nfs3_readlink_room,
			    .run = nfs3_readlink },
	[NFS3_READ] = { "READ", .decode = nfs3_read_decode, .moves_data = true, .facts = NFS3_AFTER,
			.room = nfs3_read_room, .run = nfs3_read },
	[NFS3_WRITE] = { "WRITE", .decode = nfs3_write_decode, .modifies = true, .waits = true, .joins = true, .moves_data = true,
			 .facts = NFS3_CHANGE, .run = nfs3_write },
	[NFS3_CREATE] = { "CREATE", .args = XDR_PROC(CREATE3args), .modifies = true, .waits = true, .joins = true, .facts = NFS3_CHANGE,
			  .run = nfs3_create },
	[NFS3_MKDIR] = { "MKDIR", .args = XDR_PROC(MKDIR3args), .modifies = true, .waits = true, .joins = true, .facts = NFS3_CHANGE,
			 .run = nfs3_mkdir },
	[NFS3_SYMLINK] = { "SYMLINK", .args = XDR_PROC(SYMLINK3args), .modifies = true, .waits = true, .joins = true, .facts = NFS3_CHANGE,
			   .run = nfs3_symlink },
	[NFS3_MKNOD] = { "MKNOD", .args = XDR_PROC(MKNOD3args), .modifies = true, .waits = true, .joins = true, .facts = NFS3_CHANGE,
			 .run = nfs3_mknod },
	[NFS3_REMOVE] = { "REMOVE", .decode = nfs3_remove_decode, .modifies = true, .waits = true, .joins = true, .facts = NFS3_CHANGE,
			  .run = nfs3_remove },
	[NFS3_RMDIR] = { "RMDIR", .decode = nfs3_remove_decode, .modifies = true, .waits = true, .joins = true, .facts = NFS3_CHANGE,
			 .run = nfs3_rmdir },
	[NFS3_RENAME] = { "RENAME", .args = XDR_PROC(RENAME3args), .second = offsetof(union nfs3_args, rename.to.dir),
			  .modifies = true, .waits = true, .facts = NFS3_TWO_CHANGES, .run = nfs3_rename },
	[NFS3_LINK] = { "LINK", .args = XDR_PROC(LINK3args), .second = offsetof(union nfs3_args, link.link.dir),
			.modifies = true, .waits = true, .facts = NFS3_AFTER_CHANGE, .run = nfs3_link },
	[NFS3_READDIR] = { "READDIR", .args = XDR_PROC(READDIR3args), .waits = true, .facts = NFS3_AFTER, .room = nfs3_readdir_room,
			   .run = nfs3_readdir },
	[NFS3_READDIRPLUS] = { "READDIRPLUS", .args = XDR_PROC(READDIRPLUS3args), .waits = true, .facts = NFS3_AFTER,
			       .room = nfs3_readdirplus_room, .run = nfs3_readdirplus },
	[NFS3_FSSTAT] = { "FSSTAT", .decode = nfs3_object_decode, .waits = true, .facts = NFS3_AFTER, .run = nfs3_fsstat },
	[NFS3_FSINFO] = { "FSINFO", .decode = nfs3_object_decode, .waits = true, .facts = NFS3_AFTER, .run = nfs3_fsinfo },
	[NFS3_PATHCONF] = { "PATHCONF", .decode = nfs3_object_decode, .waits = true, .facts = NFS3_AFTER, .run = nfs3_pathconf },
	[NFS3_COMMIT] = { "COMMIT", .args = XDR_PROC(COMMIT3args), .waits = true, .moves_data = true, .facts = NFS3_CHANGE,
			  .run = nfs3_commit },
};
/* clang-format on */

_Static_assert(NFS3_COMMIT + 1 == NFS3_PROCEDURES, "the table has a row for each procedure");

static const struct nfs3_procedure *find_procedure(const struct rpc_call *call)
{
	if (call->program == NFS_ACL_PROGRAM)
		return call->procedure < NFS_ACL_PROCEDURES ? &nfs_acl_procedures[call->procedure] : NULL;
	return call->procedure < NFS3_PROCEDURES ? &procedures[call->procedure] : NULL;
}

const char *file_service_procedure_name(uint32_t program, uint32_t procedure)
{
	return program == NFS_ACL_PROGRAM ? nfs_acl_procedures[procedure].name : procedures[procedure].name;
}

static enum file_service_operations operations_of(const struct nfs3_procedure *procedure)
{
	if (procedure->moves_data)
		return procedure->run == nfs3_read  ? FILE_SERVICE_READ :
		       procedure->run == nfs3_write ? FILE_SERVICE_WRITE :
						      FILE_SERVICE_COMMIT;
	if (procedure->modifies)
		return FILE_SERVICE_CHANGE;
	if (procedure->run == nfs3_readdir || procedure->run == nfs3_readdirplus)
		return FILE_SERVICE_LIST;
	return FILE_SERVICE_LOOK;
}

size_t nfs3_data_max(const struct nfs3_op *op)
{
	return op->call->transport == RPC_UDP ? NFS3_DATAGRAM_DATA_MAX : RPC_DATA_MAX;
}

static bool decode(struct nfs3_op *op)
{
	struct bytes_reader r = op->call->args;
	bool decoded;
	XDR xdr;

	if (op->procedure->decode)
		return op->procedure->decode(&r, &op->args);
	xdrmem_create(&xdr, (char *)r.p, (u_int)r.left, XDR_DECODE);
	decoded = op->procedure->args(&xdr, &op->args);
	xdr_destroy(&xdr);
	return decoded;
}

void nfs3_args_free(const struct nfs3_procedure *procedure, union nfs3_args *args)
{
	if (procedure->args)
		xdr_free(procedure->args, args);
}

/* @directory: out: untouched if the handle does not tell it */
static int take_apart(struct nfs3_op *op, const nfs_fh3 *wire, struct handle *out, struct handle *directory)
{
	const struct namespace *ns = op->service->options.ns;
	int err;

	if (!namespace_cluster(ns))
		return -EINPROGRESS; /* no key yet */
	err = handle_decode(namespace_handle_key(ns), (const uint8_t *)wire->data.data_val, wire->data.data_len, out);
	if (!err && (out->type == HANDLE_PSEUDO) != (out->volume == NAMESPACE_ROOT_VOLUME))
		err = -EBADMSG;
	if (err)
		op->service->counters.bad_handle++;
	if (!err && out->type == HANDLE_LOCAL_IN) {
		struct handle both = *out;

		handle_split(&both, out, directory);
	}
	return err;
}

static int take_handles(struct nfs3_op *op)
{
	const struct nfs3_procedure *procedure = op->procedure;
	int err;

	/* Whatever the procedure, its arguments begin with a handle. */
	err = take_apart(op, &op->args.object, &op->object, &op->object_directory);
	if (err || !procedure->second)
		return err;
	err = take_apart(op, (const nfs_fh3 *)((const char *)&op->args + procedure->second), &op->second,
			 &op->second_directory);
	if (err)
		return err;
	return op->object.volume == op->second.volume ? 0 : -EXDEV;
}

static uint32_t reply_bytes(const struct nfs3_op *op)
{
	uint32_t count;

	switch (op->call->procedure) { /* numbers that NFSACL does not have */
	case NFS3_READ:
		return op->call->data_bytes;
	case NFS3_READDIR:
		count = op->args.readdir.count;
		break;
	case NFS3_READDIRPLUS:
		count = op->args.readdirplus.maxcount;
		break;
	default:
		return 0;
	}
	return count < NFS3_DIRECTORY_MAX ? count : NFS3_DIRECTORY_MAX;
}

static void note_for_placement(struct nfs3_op *op)
{
	struct rpc_call *call = op->call;
	uint32_t count = 0;

	/* Numbers that NFSACL does not have. */
	if (call->procedure == NFS3_READ)
		count = op->args.read.count;
	else if (call->procedure == NFS3_WRITE)
		count = op->args.write.count;
	call->volume = op->object.volume;
	call->moved_data = op->procedure->moves_data;
	call->data_bytes = count < RPC_DATA_MAX ? count : RPC_DATA_MAX;
	call->reply_bytes = reply_bytes(op);
}

static bool changes_spread(const struct nfs3_op *op)
{
	return op->object.type == HANDLE_SPREAD && op->procedure->modifies;
}

/* Where a spread directory is needs no search. The master changes it, and checks the rights, too. */
static int admit_spread(struct nfs3_op *op, uint32_t *node)
{
	static const struct nfs3_places root;
	int err = nfs3_check_rights(op, &root);

	if (err || !changes_spread(op) || op->service->options.change_spread)
		return err;
	if (op->call->transport == RPC_RELAYED || !op->service->options.relay)
		return -EINPROGRESS;
	op->volume = NULL;
	*node = NAMESPACE_MASTER;
	return 0;
}

/*
 * Everything before the procedure itself. On 0 there is op->volume, or else @node to relay to: its owner checks the rights.
 * Else an enum exports_open, or why not.
 */
static int admit(struct nfs3_op *op, const struct nfs3_places *places, uint32_t *node)
{
	int err = take_handles(op);

	if (err)
		return err;
	note_for_placement(op);
	err = file_service_find(op->service, op->object.volume, op->call->transport, &op->volume, node);
	if (err)
		return err;
	op->key = *namespace_handle_key(op->service->options.ns);
	if (op->object.type == HANDLE_SPREAD)
		return admit_spread(op, node);
	return op->volume ? nfs3_check_rights(op, places) : 0;
}

/* Room for the results, which the procedure may need while it runs: READ reads into it. */
static int reply_begin(struct nfs3_op *op, int err)
{
	const struct nfs3_procedure *procedure = op->procedure;

	int rc = rpc_reply_begin(op->call, !err && procedure->room ? procedure->room(op) : NFS3_ROOM, &op->out);

	if (rc) {
		page_pipe_put(op->pages);
		op->pages = NULL;
	}
	return rc;
}

int nfs3_perform(struct nfs3_op *op, int err)
{
	struct bytes_writer start = op->out;

	bytes_put_be32(&op->out, NFS3_OK);
	if (!err)
		err = op->procedure->run(op);
	if (err)
		nfs3_put_failure(op, &start, err);
	return err;
}

void nfs3_put_failure(struct nfs3_op *op, const struct bytes_writer *start, int err)
{
	op->out = *start;
	bytes_put_be32(&op->out, nfs3_status(err));
	nfs3_put_facts(op);
}

void nfs3_reply_end(struct nfs3_op *op, int err)
{
	struct file_service_counters *counters = op->service ? &op->service->counters : NULL;

	if (counters && err == -ESTALE)
		counters->stale_handle++;
	if (counters && !err && op->call->procedure == NFS3_READ)
		counters->read_bytes += op->call->data_bytes;
	if (counters && !err && op->call->procedure == NFS3_WRITE)
		counters->written_bytes += op->call->data_bytes;
	if (counters)
		latency_note(&counters->latency[operations_of(op->procedure)], clock_monotonic_us() - op->call->since_us);
	rpc_reply_end(op->call, &op->out);
}

static void reply(struct nfs3_op *op, int err)
{
	if (reply_begin(op, err) == 0)
		nfs3_reply_end(op, nfs3_perform(op, err));
}

/* Has the operation run on a worker. Return: 0, the call is or will be answered; -ENOMEM: nothing has happened */
static int defer(struct nfs3_op *op)
{
	if (rpc_call_keep(op->call) < 0)
		return -ENOMEM;
	if (reply_begin(op, 0) < 0)
		return 0;
	/* Arguments that lead into the record must lead into the kept one. */
	if (op->procedure->decode)
		decode(op);
	if (nfs3_work_submit(op) < 0) {
		page_pipe_put(op->pages);
		op->pages = NULL;
		return -ENOMEM;
	}
	op->args = (union nfs3_args){ 0 };
	return 0;
}

/* In the loop, from memory. Return: 0, the call is answered; -ERESTART: that takes a worker */
static int attempt(struct nfs3_op *op)
{
	bool before;
	int err;

	if (reply_begin(op, 0) < 0)
		return 0;
	before = patience_set(false);
	err = nfs3_perform(op, 0);
	patience_set(before);
	if (err != -ERESTART)
		nfs3_reply_end(op, err);
	return err == -ERESTART ? err : 0;
}

/* Directories of which each device knows all: the virtual root, and spread ones. */
static bool is_of_control_loop(const struct nfs3_op *op)
{
	return op->object.type == HANDLE_PSEUDO || op->object.type == HANDLE_SPREAD;
}

/* The virtual root never waits for a disk, and what it reads, the name space, is the loop's. */
static void run_somewhere(struct nfs3_op *op)
{
	bool is_root = is_of_control_loop(op);

	if (op->procedure->prepare)
		op->procedure->prepare(op);
	if (!op->service->options.workers)
		reply(op, 0);
	else if ((is_root || !op->procedure->waits) && attempt(op) == 0)
		return;
	else if (is_root || defer(op) < 0)
		reply(op, -ENOMEM);
}

/*
 * What changes something runs once, however often it is asked for. COMMIT may be repeated as one likes. WRITE may not: a
 * second copy that comes late would undo a later WRITE. The virtual root refuses all changes, as often as they come.
 *
 * After the rights were checked: a client that has lost them gets no answer from before.
 *
 * Return: 0: it is to be run; -EALREADY: a duplicate, taken care of; -ENOMEM: it must wait
 */
static int check_duplicate(struct nfs3_op *op)
{
	struct file_service *service = op->service;
	bool moves_data = op->procedure->moves_data;

	if (!op->procedure->modifies || op->object.volume == NAMESPACE_ROOT_VOLUME)
		return 0;
	return duplicate_requests_begin(moves_data ? service->writes : service->changes, op->call,
					moves_data ? NFS3_WRITE_CHECKED : op->call->args.left);
}

static void answer(struct nfs3_op *op, const struct nfs3_places *places);

/* Once more from the beginning: much may have changed. */
static void answer_again(struct file_service *service, struct rpc_call *call, const struct nfs3_places *places)
{
	struct nfs3_op op = { .service = service, .call = call, .procedure = find_procedure(call) };

	if (decode(&op))
		answer(&op, places);
	else
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0); /* no memory: it could be decoded before */
	nfs3_args_free(op.procedure, &op.args);
}

static void on_name(struct file_service *service, struct rpc_call *call)
{
	answer_again(service, call, NULL);
}

/* Looking for the places of a call's objects, which may wait for a disk. */
struct nfs3_search {
	struct work work;
	struct nfs3_op op; /* without arguments */
	struct nfs3_places places;
	int err;
};

static int find_place(const struct nfs3_op *op, const struct handle *object, const struct handle *directory, char *path)
{
	const struct backend *backend = op->volume->backend;

	if (!backend->place)
		return -EACCES;
	return backend->place(op->volume, object, directory->type ? directory : NULL, path);
}

static void search_run(struct work *work)
{
	struct nfs3_search *search = (struct nfs3_search *)work;
	struct nfs3_op *op = &search->op;

	search->err = find_place(op, &op->object, &op->object_directory, search->places.object);
	if (!search->err && op->procedure->second)
		search->err = find_place(op, &op->second, &op->second_directory, search->places.second);
}

static void search_done(struct work *work)
{
	struct nfs3_search *search = (struct nfs3_search *)work;

	search->op.volume = NULL; /* it may have been closed since */
	if (search->op.service->stopping)
		rpc_reply_nothing(search->op.call);
	else if (search->err)
		reply(&search->op, search->err);
	else
		answer_again(search->op.service, search->op.call, &search->places);
	free(search);
}

/* Return: 0: the call is or will be answered; -ENOMEM: nothing has happened */
static int search_begin(struct nfs3_op *op)
{
	struct workers *workers = op->service->options.workers;
	struct nfs3_search *search = malloc(sizeof(*search));

	if (!search || rpc_call_keep(op->call) < 0) {
		free(search);
		return -ENOMEM;
	}
	search->work = (struct work){
		.home = op->service->loop,
		.lane = op->volume,
		.run = search_run,
		.done = search_done,
	};
	search->op = *op;
	search->op.args = (union nfs3_args){ 0 };
	if (workers && workers_submit(workers, &search->work) < 0) {
		free(search);
		return -ENOMEM;
	}
	if (!workers) {
		search_run(&search->work);
		search_done(&search->work);
	}
	return 0;
}

static uint64_t *counter_of(struct file_service *service, const struct rpc_call *call)
{
	if (call->program == NFS_ACL_PROGRAM)
		return &service->counters.nfs_acl[call->procedure];
	return &service->counters.nfs3[call->procedure];
}

static bool must_pass_on(const struct nfs3_op *op, int err)
{
	if (!op->service->control)
		return false;
	if (err)
		return err == EXPORTS_UNKNOWN;
	return !op->volume || is_of_control_loop(op);
}

/* Who answers it counts it. */
static void pass_on(struct nfs3_op *op)
{
	--*counter_of(op->service, op->call);
	rpc_pass_on(op->call, op->service->control);
}

uint32_t nfs3_data_bytes(const struct nfs3_op *op)
{
	if (op->procedure->run == nfs3_read)
		return op->args.read.count;
	return op->procedure->run == nfs3_write ? op->args.write.count : 0;
}

/* Among the work of others. 0; -EALREADY: it waits, and begins anew; -EINPROGRESS: the client should ask again; -ENOMEM */
static int take_turn(struct nfs3_op *op)
{
	const struct priorities_call call = {
		.client = &op->call->client,
		.volume = op->object.volume,
		.uid = op->call->who.uid,
		.bytes = nfs3_data_bytes(op),
		.has_waited = op->call->has_waited,
	};
	struct priorities_place place = priorities_note(op->service->priorities, &call, clock_monotonic_us);

	op->queue = place.number;
	op->weight = place.weight;
	if (!place.wait_ms)
		return 0;
	if (place.wait_ms == UINT32_MAX)
		return -EINPROGRESS;
	op->call->has_waited = true;
	return file_service_delay(op->service, op->call, place.wait_ms, on_name) == 0 ? -EALREADY : -ENOMEM;
}

static void answer(struct nfs3_op *op, const struct nfs3_places *places)
{
	uint32_t node = 0;
	int err = admit(op, places, &node);

	if (must_pass_on(op, err)) {
		pass_on(op);
		return;
	}
	if (!err && !op->volume) {
		file_service_relay(op->service, node, op->call);
		return;
	}
	if (err == EXPORTS_UNKNOWN)
		err = file_service_wait(op->service, op->call, on_name) == 0 ? -EALREADY : -ENOMEM;
	else if (err == EXPORTS_PLACE)
		err = search_begin(op) == 0 ? -EALREADY : -ENOMEM;
	if (!err)
		err = take_turn(op);
	if (!err)
		err = check_duplicate(op);
	if (!err && changes_spread(op)) {
		err = nfs3_change_spread(op);
		if (!err)
			return;
	}
	if (err == -EALREADY)
		return;
	if (err)
		reply(op, err);
	else
		run_somewhere(op);
}

static void reply_null(struct rpc_call *call)
{
	struct bytes_writer out;

	if (!rpc_reply_begin(call, 0, &out))
		rpc_reply_end(call, &out);
}

void nfs3_dispatch(const struct rpc_program *program, struct rpc_call *call)
{
	struct nfs3_op op = { .service = program->state, .call = call, .procedure = find_procedure(call) };

	if (!op.procedure) {
		rpc_reply_error(call, RPC_ACCEPT_PROC_UNAVAIL, 0, 0);
		return;
	}
	++*counter_of(op.service, call);
	if (!call->since_us)
		call->since_us = clock_monotonic_us();
	if (!op.procedure->run) {
		reply_null(call);
		return;
	}
	if (decode(&op))
		answer(&op, NULL);
	else
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
	/* The call may be gone; the arguments are ours. */
	nfs3_args_free(op.procedure, &op.args);
}

bool nfs3_runs_once(const struct rpc_call *call)
{
	const struct nfs3_procedure *procedure = find_procedure(call);

	return procedure && procedure->modifies && !procedure->moves_data;
}

void nfs3_unreachable(struct rpc_call *call)
{
	struct nfs3_op op = { .call = call, .procedure = find_procedure(call) };

	if (op.procedure && op.procedure->run)
		reply(&op, -EINPROGRESS);
	else
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
}
