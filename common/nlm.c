/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nlm.h"

#include "common/clock.h"
#include "common/exports.h"
#include "common/file_service_internal.h"
#include "common/flow.h"
#include "common/nlm_granted.h"
#include "common/nlm_wire.h"
#include "common/nsm.h"
#include "common/workers.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

_Static_assert(NLM_SHARE_READ == LOCK_SHARE_READ && NLM_SHARE_WRITE == LOCK_SHARE_WRITE, "the wire's bits are ours");

struct nlm_call;

struct nlm_procedure {
	unsigned int form;	/* bits of enum nlm_form */
	bool opens;		/* needs the file, not only its name */
	bool records;		/* the client is monitored */
	enum nlm_number result; /* the _RES procedure that answers it; 0: the reply does */
	nlm4_stats (*run)(struct nlm_call *own, struct lock_holder *holder);
};

/* One call, while it is answered. */
struct nlm_call {
	struct work work;
	TAILQ_ENTRY(nlm_call) link;
	struct nlm *nlm;
	const struct nlm_procedure *procedure;
	struct nlm_args args;
	struct rpc_call *call; /* NULL: answered already, the results go by a call of their own */
	struct rpc_call asker; /* what rights depend on, also when it is answered: transport, client, flavor, who */
	uint32_t version;
	uint8_t client_address[16], vip[16];

	struct handle handle, directory; /* where the file was found once; type 0: not told */
	struct volume *volume;
	struct credentials who;
	struct group_set *group_set; /* that `who` borrows, or NULL */
	struct lock_client client;
	struct lock_file_id file;
	uint64_t start, end;
	bool needs_place; /* the client's rights depend on it */
	char *place;	  /* from the volume's root */
	bool is_ready;
	int fd, err; /* what the worker found */
};

/* What a client said last of a restart of its own. */
struct reboot {
	uint8_t address[16];
	char name[LOCK_NAME_MAX + 1];
	int32_t state;
};

struct nlm {
	struct nlm_options options;
	struct lock_table *table;
	TAILQ_HEAD(, nlm_call) calls; /* in the order in which they came */
	size_t call_count;
	struct nlm_granted *granted;
	struct nlm_counters counters;
	struct reboot reboots[NLM_REBOOTS_KEPT];
	size_t reboot_next;
};

static nlm4_stats run_test(struct nlm_call *own, struct lock_holder *holder);
static nlm4_stats run_lock(struct nlm_call *own, struct lock_holder *holder);
static nlm4_stats run_cancel(struct nlm_call *own, struct lock_holder *holder);
static nlm4_stats run_unlock(struct nlm_call *own, struct lock_holder *holder);
static nlm4_stats run_share(struct nlm_call *own, struct lock_holder *holder);
static nlm4_stats run_unshare(struct nlm_call *own, struct lock_holder *holder);

/* clang-format off */
#define TEST_ROW   .form = NLM_HAS_EXCLUSIVE | NLM_TELLS_HOLDER, .opens = true, .run = run_test
#define LOCK_ROW   .form = NLM_HAS_BLOCK | NLM_HAS_EXCLUSIVE | NLM_HAS_RECLAIM, .opens = true, .run = run_lock
#define CANCEL_ROW .form = NLM_HAS_BLOCK | NLM_HAS_EXCLUSIVE, .run = run_cancel

static const struct nlm_procedure procedures[NLM_PROCEDURES] = {
	[NLM_TEST]       = { TEST_ROW },
	[NLM_LOCK]       = { LOCK_ROW, .records = true },
	[NLM_CANCEL]     = { CANCEL_ROW },
	[NLM_UNLOCK]     = { .run = run_unlock },
	[NLM_TEST_MSG]   = { TEST_ROW, .result = NLM_TEST_RES },
	[NLM_LOCK_MSG]   = { LOCK_ROW, .records = true, .result = NLM_LOCK_RES },
	[NLM_CANCEL_MSG] = { CANCEL_ROW, .result = NLM_CANCEL_RES },
	[NLM_UNLOCK_MSG] = { .run = run_unlock, .result = NLM_UNLOCK_RES },
	[NLM_SHARE]      = { .form = NLM_HAS_SHARE | NLM_HAS_RECLAIM, .opens = true, .run = run_share },
	[NLM_UNSHARE]    = { .form = NLM_HAS_SHARE | NLM_HAS_RECLAIM, .run = run_unshare },
	[NLM_NM_LOCK]    = { LOCK_ROW },
};
/* clang-format on */

const char *nlm_procedure_name(size_t procedure)
{
	static const char *const names[NLM_PROCEDURES] = {
		"NULL", "TEST", "LOCK", "CANCEL", "UNLOCK", "GRANTED", "TEST_MSG", "LOCK_MSG", "CANCEL_MSG", "UNLOCK_MSG",
		"GRANTED_MSG", "TEST_RES", "LOCK_RES", "CANCEL_RES", "UNLOCK_RES", "GRANTED_RES", "16", "17", "18", "19",
		"SHARE", "UNSHARE", "NM_LOCK", "FREE_ALL",
	};

	return names[procedure];
}

/* Arguments */

static bool is_share(const struct nlm_call *own)
{
	return own->procedure->form & NLM_HAS_SHARE;
}

static const char *caller_name(const struct nlm_call *own)
{
	return is_share(own) ? own->args.share.caller_name : own->args.lock.caller_name;
}

static const nlm_opaque *handle_of(const struct nlm_call *own)
{
	return is_share(own) ? &own->args.share.fh : &own->args.lock.fh;
}

static struct lock_request request_of(const struct nlm_call *own)
{
	const nlm_opaque *oh = is_share(own) ? &own->args.share.oh : &own->args.lock.oh;

	return (struct lock_request){
		.client = &own->client,
		.file = &own->file,
		.svid = own->args.lock.svid,
		.oh = (const uint8_t *)oh->bytes.bytes_val,
		.oh_len = oh->bytes.bytes_len,
		.exclusive = own->args.exclusive,
		.start = own->start,
		.end = own->end,
	};
}

/* -EFBIG if no file has such bytes */
static int take_range(struct nlm_call *own)
{
	const nlm4_lock *lock = &own->args.lock;

	if (lock->l_offset > INT64_MAX)
		return -EFBIG;
	own->start = lock->l_offset;
	own->end = LOCK_END;
	/* The sum fits: the length is compared with what is left. */
	if (lock->l_len && lock->l_len <= INT64_MAX - lock->l_offset)
		own->end = lock->l_offset + lock->l_len - 1;
	return 0;
}

/* Results */

static nlm4_stats status_of(int err)
{
	switch (err) {
	case 0:
		return NLM4_GRANTED;
	case -EBADMSG:
	case -ESTALE:
	case -ENOENT:
		return NLM4_STALE_FH;
	case -EFBIG:
		return NLM4_FBIG;
	case -EROFS:
		return NLM4_ROFS;
	case -EINPROGRESS:
	case -ETIMEDOUT:
	case -EBUSY:
		return NLM4_DENIED_GRACE_PERIOD; /* the only "later" of the protocol */
	case -ENOMEM:
	case -ENOSPC:
	case -ENOLCK:
	case -EMFILE:
	case -ENFILE:
	case -EIO:
		return NLM4_DENIED_NOLOCKS;
	default:
		return NLM4_FAILED;
	}
}

static nlm4_stats status_of_result(enum lock_result result)
{
	static const nlm4_stats stats[] = {
		[LOCK_GRANTED] = NLM4_GRANTED,
		[LOCK_DENIED] = NLM4_DENIED,
		[LOCK_BLOCKED] = NLM4_BLOCKED,
		[LOCK_NOLOCKS] = NLM4_DENIED_NOLOCKS,
		[LOCK_DEADLOCK] = NLM4_DEADLCK,
	};

	return stats[result];
}

static void reply_void(struct rpc_call *call)
{
	struct bytes_writer out;

	if (!rpc_reply_begin(call, 0, &out))
		rpc_reply_end(call, &out);
}

static void reply_results(struct rpc_call *call, const struct nlm_procedure *procedure, const nlm_opaque *cookie,
			  nlm4_stats status, const struct lock_holder *holder)
{
	struct bytes_writer out;

	if (rpc_reply_begin(call, NLM_RESULTS_MAX, &out))
		return;
	nlm_put_results(&out, procedure->form, call->version, cookie, status, holder);
	rpc_reply_end(call, &out);
}

/* The results of a _MSG procedure, as a call to the client. If it is lost, the client asks again. */
static void send_results(const struct nlm_call *own, nlm4_stats status, const struct lock_holder *holder)
{
	const struct client_call_way *way = &own->nlm->options.way;
	uint8_t args[NLM_RESULTS_MAX];
	struct bytes_writer w = bytes_writer_init(args, sizeof(args));
	struct client_call call = {
		.program = NLM_PROGRAM,
		.version = own->version,
		.procedure = own->procedure->result,
		.args = args,
	};
	struct client_call_done nobody = { 0 };

	nlm_put_results(&w, own->procedure->form, own->version, &own->args.cookie, status, holder);
	call.args_len = w.written;
	memcpy(call.client, own->client_address, sizeof(call.client));
	memcpy(call.vip, own->vip, sizeof(call.vip));
	way->call(&call, &nobody, way->arg);
}

static void answer(struct nlm_call *own, nlm4_stats status, const struct lock_holder *holder)
{
	struct nlm_counters *counters = &own->nlm->counters;

	counters->granted += status == NLM4_GRANTED;
	counters->blocked += status == NLM4_BLOCKED;
	counters->denied += status != NLM4_GRANTED && status != NLM4_BLOCKED;
	if (own->call)
		reply_results(own->call, own->procedure, &own->args.cookie, status, holder);
	else
		send_results(own, status, holder);
}

static void answer_nothing(struct nlm_call *own)
{
	own->nlm->counters.denied++;
	if (own->call)
		rpc_reply_nothing(own->call);
}

/* The procedures, in the loop */

static int take_fd(struct nlm_call *own)
{
	int fd = own->fd;

	own->fd = -1;
	return fd;
}

/* Others' locks may be about to be reclaimed. -EINPROGRESS: not now */
static int check_grace(const struct nlm_call *own)
{
	const struct nsm *nsm = own->nlm->options.nsm;

	if (!nsm_is_in_grace(nsm))
		return 0;
	return own->args.reclaim && nsm_may_reclaim(nsm, &own->client) ? 0 : -EINPROGRESS;
}

static nlm4_stats run_test(struct nlm_call *own, struct lock_holder *holder)
{
	struct lock_request request = request_of(own);
	int err = check_grace(own);

	if (err)
		return status_of(err);
	return status_of_result(lock_table_test(own->nlm->table, &request, take_fd(own), holder));
}

static nlm4_stats run_lock(struct nlm_call *own, struct lock_holder *holder)
{
	struct lock_request request = request_of(own);
	struct lock_caller caller = { .version = own->version };
	bool waits = own->args.block && own->procedure->records;
	int err = check_grace(own);

	(void)holder;
	memcpy(caller.vip, own->vip, sizeof(caller.vip));
	caller.handle.len = (uint8_t)handle_of(own)->bytes.bytes_len; /* it was decoded, so it fits */
	memcpy(caller.handle.bytes, handle_of(own)->bytes.bytes_val, caller.handle.len);
	/*
	 * To a client all devices are one server. Told that "it" has restarted, it reclaims locks of devices that have not, and
	 * has them still. What it has not, it has lost: nobody kept others away meanwhile.
	 */
	if (!err && own->args.reclaim && !nsm_is_in_grace(own->nlm->options.nsm) &&
	    !lock_table_holds(own->nlm->table, &request))
		err = -EINPROGRESS;
	if (err)
		return status_of(err);
	return status_of_result(
		lock_table_lock(own->nlm->table, &request, take_fd(own), waits ? &caller : NULL));
}

static nlm4_stats run_cancel(struct nlm_call *own, struct lock_holder *holder)
{
	struct lock_request request = request_of(own);

	(void)holder;
	return status_of_result(lock_table_cancel(own->nlm->table, &request));
}

static nlm4_stats run_unlock(struct nlm_call *own, struct lock_holder *holder)
{
	struct lock_request request = request_of(own);

	(void)holder;
	return status_of_result(lock_table_unlock(own->nlm->table, &request));
}

static nlm4_stats run_share(struct nlm_call *own, struct lock_holder *holder)
{
	struct lock_request request = request_of(own);
	const unsigned int bits = LOCK_SHARE_READ | LOCK_SHARE_WRITE;

	(void)holder;
	if (nsm_is_in_grace(own->nlm->options.nsm) && !own->args.reclaim)
		return NLM4_DENIED_GRACE_PERIOD; /* DOS clients are not monitored: whoever says so reclaims */
	if (own->args.share.access > bits || own->args.share.mode > bits)
		return NLM4_FAILED;
	return status_of_result(lock_table_share(own->nlm->table, &request, take_fd(own), own->args.share.access,
						 own->args.share.mode));
}

static nlm4_stats run_unshare(struct nlm_call *own, struct lock_holder *holder)
{
	struct lock_request request = request_of(own);

	(void)holder;
	lock_table_unshare(own->nlm->table, &request);
	return NLM4_GRANTED;
}

/* Calls, in order */

static void call_free(struct nlm_call *own)
{
	if (own->fd >= 0)
		close(own->fd);
	group_set_put(own->group_set);
	nlm_args_free(&own->args);
	free(own->place);
	free(own);
}

static void perform(struct nlm_call *own)
{
	struct lock_holder holder = { 0 };
	nlm4_stats status = own->err ? status_of(own->err) : own->procedure->run(own, &holder);

	/* A client that is told to wait with a reclaim gives the lock up; without an answer it asks again. */
	if (own->err && own->args.reclaim && status == NLM4_DENIED_GRACE_PERIOD)
		answer_nothing(own);
	else
		answer(own, status, &holder);
}

static bool is_same_file(const struct nlm_call *one, const struct nlm_call *other)
{
	return one->file.len == other->file.len && memcmp(one->file.bytes, other->file.bytes, one->file.len) == 0;
}

static struct nlm_call *first_for_file(const struct nlm *nlm, const struct nlm_call *like)
{
	struct nlm_call *own;

	TAILQ_FOREACH(own, &nlm->calls, link)
		if (is_same_file(own, like))
			break;
	return own;
}

/* @own is ready: carry out all that may be now. It may be gone afterwards. */
static void run_file(struct nlm *nlm, struct nlm_call *own)
{
	struct nlm_call like = { .file = own->file }, *first;

	while ((first = first_for_file(nlm, &like)) && first->is_ready) {
		TAILQ_REMOVE(&nlm->calls, first, link);
		nlm->call_count--;
		perform(first);
		call_free(first);
	}
	nlm_granted_run(nlm->granted, clock_monotonic_ms());
}

/* Rights */

/* Return: 0; EXPORTS_PLACE as long as that is not known */
static int check_rights(struct nlm_call *own)
{
	struct file_service *files = own->nlm->options.files;
	const struct rpc_call *asker = &own->asker;
	struct export_rights rights;
	int err;

	if (own->place)
		err = exports_rights_at(files->exports, own->handle.volume, own->place, &asker->client, &rights, NULL);
	else
		err = exports_rights(files->exports, own->handle.volume, &asker->client, &rights);
	if (!err) {
		own->who = asker->who;
		exports_squash(&rights, asker->flavor == RPC_AUTH_NONE, &own->who);
		err = file_service_groups(files, asker, &rights, &own->who, &own->group_set);
	}
	return err == EXPORTS_UNKNOWN ? -EINPROGRESS : err; /* it is being looked up: later */
}

/* On workers: the place, if rights depend on it; the open file; the record of a client that is new */

/* A worker does it; without workers, the loop. */
static void submit(struct nlm_call *own, void (*run)(struct work *work), void (*done)(struct work *work))
{
	struct workers *workers = own->nlm->options.workers;

	own->work = (struct work){ .lane = own->volume, .run = run, .done = done };
	if (!workers)
		run(&own->work);
	else if (workers_submit(workers, &own->work) == 0)
		return;
	else
		own->err = -ENOMEM;
	done(&own->work);
}

static void record_run(struct work *work)
{
	struct nlm_call *own = (struct nlm_call *)work;

	own->err = nsm_record(own->nlm->options.nsm, &own->client, own->vip);
}

static void record_done(struct work *work)
{
	struct nlm_call *own = (struct nlm_call *)work;

	own->is_ready = true;
	run_file(own->nlm, own);
}

static void open_run(struct work *work)
{
	struct nlm_call *own = (struct nlm_call *)work;
	const struct backend *backend = own->volume->backend;

	own->err = backend->open_locks ? backend->open_locks(own->volume, &own->who, &own->handle, &own->fd) : -EINVAL;
}

/* The file is open. A client is recorded before it gets its first lock, or a crash at this moment would lose it in silence. */
static void open_done(struct work *work)
{
	struct nlm_call *own = (struct nlm_call *)work;
	const struct nlm_options *options = &own->nlm->options;

	if (own->err || !own->procedure->records || nsm_knows(options->nsm, &own->client)) {
		record_done(work);
		return;
	}
	own->work = (struct work){ .run = record_run, .done = record_done };
	if (options->recorder && workers_submit(options->recorder, &own->work) == 0)
		return;
	record_run(work);
	record_done(work);
}

/* The directories from a file up to the volume's root may have to be read from the disk. */
static void place_run(struct work *work)
{
	struct nlm_call *own = (struct nlm_call *)work;
	const struct backend *backend = own->volume->backend;
	const struct handle *directory = own->directory.type ? &own->directory : NULL;

	own->place = malloc(PATH_MAX);
	if (!own->place)
		own->err = -ENOMEM;
	else
		own->err = backend->place ? backend->place(own->volume, &own->handle, directory, own->place) : -EACCES;
}

/* Meanwhile the volume may have gone, and rights may have changed. */
static int admit_at_place(struct nlm_call *own)
{
	struct file_service *files = own->nlm->options.files;
	uint32_t node;
	int err = files->stopping ? -EINPROGRESS : 0;

	if (!err)
		err = file_service_find(files, own->handle.volume, own->asker.transport, &own->volume, &node);
	if (!err && !own->volume)
		err = -EINPROGRESS;
	return err ? err : check_rights(own);
}

static void place_done(struct work *work)
{
	struct nlm_call *own = (struct nlm_call *)work;

	if (!own->err)
		own->err = admit_at_place(own);
	if (own->err)
		record_done(work);
	else
		submit(own, open_run, open_done);
}

/* Takes @own. */
static void begin(struct nlm_call *own)
{
	struct nlm *nlm = own->nlm;

	TAILQ_INSERT_TAIL(&nlm->calls, own, link);
	nlm->call_count++;
	if (own->needs_place)
		submit(own, place_run, place_done);
	else if (own->procedure->opens)
		submit(own, open_run, open_done);
	else
		open_done(&own->work);
}

/* Admission */

static int take_client(struct nlm_call *own)
{
	const char *name = caller_name(own);

	/* A name that can't be kept in one line of a file is none. */
	if (strlen(name) > LOCK_NAME_MAX || strchr(name, '\n'))
		return -EINVAL;
	memcpy(own->client.address, own->client_address, sizeof(own->client.address));
	snprintf(own->client.name, sizeof(own->client.name), "%s", name);
	return 0;
}

static int take_file(struct nlm_call *own)
{
	const struct namespace *ns = own->nlm->options.files->options.ns;
	const nlm_opaque *wire = handle_of(own);
	int err;

	if (!namespace_cluster(ns))
		return -EINPROGRESS; /* no key yet */
	err = handle_decode(namespace_handle_key(ns), (const uint8_t *)wire->bytes.bytes_val, wire->bytes.bytes_len,
			    &own->handle);
	if (err)
		return err;
	/* One file may have handles with different directories; a lock is on the file. */
	if (own->handle.type == HANDLE_LOCAL_IN) {
		struct handle both = own->handle;

		handle_split(&both, &own->handle, &own->directory);
	}
	own->file.len = (uint8_t)handle_encode(namespace_handle_key(ns), &own->handle, own->file.bytes);
	return 0;
}

static int take_asker(struct nlm_call *own, const struct rpc_call *call)
{
	struct flow_key flow;

	if (flow_from_sockets(&call->client, &call->server, 0, &flow) < 0)
		return -EINVAL;
	memcpy(own->client_address, flow.client, sizeof(flow.client));
	memcpy(own->vip, flow.vip, sizeof(flow.vip));
	own->asker.transport = call->transport;
	own->asker.client = call->client;
	own->asker.flavor = call->flavor;
	own->asker.who = call->who;
	return 0;
}

/* Everything that can be said in the loop. On 0 there is own->volume, or else @node to relay to. */
static int admit(struct nlm_call *own, const struct rpc_call *call, uint32_t *node)
{
	int err = take_asker(own, call);

	if (!err)
		err = take_client(own);
	if (!err)
		err = take_file(own);
	if (!err)
		err = take_range(own);
	/* Directories that are the loop's: there is nothing to open, and they are no worker's business. */
	if (!err && own->procedure->opens && (own->handle.type == HANDLE_PSEUDO || own->handle.type == HANDLE_SPREAD))
		err = -EINVAL;
	if (!err)
		err = file_service_find(own->nlm->options.files, own->handle.volume, call->transport, &own->volume, node);
	/* What a client has it may always give up. */
	if (!err && own->volume && own->procedure->opens)
		err = check_rights(own);
	own->needs_place = err == EXPORTS_PLACE;
	if (own->needs_place)
		err = 0;
	if (!err && own->volume && own->nlm->call_count >= NLM_CALLS_MAX)
		err = -EBUSY;
	return err;
}

static void dispatch_lock(struct nlm *nlm, struct rpc_call *call, const struct nlm_procedure *procedure)
{
	struct nlm_call *own = calloc(1, sizeof(*own));
	uint32_t node = 0;

	if (!own) {
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
		return;
	}
	own->fd = -1;
	own->nlm = nlm;
	own->procedure = procedure;
	own->version = call->version;
	if (!nlm_args_decode(&call->args, procedure->form, call->version, &own->args)) {
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
		call_free(own);
		return;
	}
	own->err = admit(own, call, &node);
	if (!own->err && !own->volume) {
		file_service_relay(nlm->options.files, node, call);
		call_free(own);
		return;
	}
	/* The reply of a _MSG procedure says nothing; its results go by a call of their own. */
	if (procedure->result)
		reply_void(call);
	else
		own->call = call;
	if (!own->err) {
		begin(own);
		return;
	}
	perform(own);
	call_free(own);
}

static void dispatch_free_all(struct nlm *nlm, struct rpc_call *call)
{
	struct nlm_call own = { 0 };
	nlm_notify notify = { 0 };
	bool decoded;
	XDR xdr;

	xdrmem_create(&xdr, (char *)call->args.p, (u_int)call->args.left, XDR_DECODE);
	decoded = xdr_nlm_notify(&xdr, &notify);
	xdr_destroy(&xdr);
	/* DOS clients have no states, and no status monitor that would say it again. */
	if (decoded && take_asker(&own, call) == 0)
		nlm->options.on_rebooted(own.client_address, notify.name, NLM_NO_STATE, nlm->options.arg);
	if (decoded)
		reply_void(call);
	else
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
	xdr_free((xdrproc_t)xdr_nlm_notify, (char *)&notify);
}

/* We lock nothing at others: a GRANTED is not for us. */
static void dispatch_granted(struct rpc_call *call)
{
	static const struct nlm_procedure row = { .form = NLM_HAS_EXCLUSIVE };
	struct nlm_args args;

	if (nlm_args_decode(&call->args, row.form, call->version, &args))
		reply_results(call, &row, &args.cookie, NLM4_DENIED, NULL);
	else
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
	nlm_args_free(&args);
}

static bool has_procedure(const struct rpc_call *call)
{
	if (call->procedure > NLM_GRANTED_RES && call->procedure < NLM_SHARE)
		return false;
	return call->procedure < (call->version == 1 ? NLM_GRANTED_RES + 1 : NLM_PROCEDURES);
}

static void dispatch(const struct rpc_program *program, struct rpc_call *call)
{
	struct nlm *nlm = program->state;

	if (call->version == 2) { /* there never was one */
		rpc_reply_error(call, RPC_ACCEPT_PROG_MISMATCH, program->version_low, program->version_high);
		return;
	}
	if (!has_procedure(call)) {
		rpc_reply_error(call, RPC_ACCEPT_PROC_UNAVAIL, 0, 0);
		return;
	}
	nlm->counters.calls[call->procedure]++;
	if (procedures[call->procedure].run)
		dispatch_lock(nlm, call, &procedures[call->procedure]);
	else if (call->procedure == NLM_GRANTED)
		dispatch_granted(call);
	else if (call->procedure == NLM_FREE_ALL)
		dispatch_free_all(nlm, call);
	else
		reply_void(call); /* NULL, GRANTED_MSG, and results that we never asked for */
}

void nlm_unreachable(struct rpc_call *call)
{
	const struct nlm_procedure *procedure =
		call->procedure < NLM_PROCEDURES ? &procedures[call->procedure] : &procedures[NLM_NULL];
	struct nlm_args args;

	if (!procedure->run) {
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
		return;
	}
	/* As perform(). */
	if (!nlm_args_decode(&call->args, procedure->form, call->version, &args) || args.reclaim || procedure->result)
		rpc_reply_nothing(call);
	else
		reply_results(call, procedure, &args.cookie, NLM4_DENIED_GRACE_PERIOD, NULL);
	nlm_args_free(&args);
}

/* Life */

struct nlm *nlm_new(const struct nlm_options *options)
{
	struct nlm *nlm = calloc(1, sizeof(*nlm));

	if (!nlm)
		return NULL;
	nlm->options = *options;
	TAILQ_INIT(&nlm->calls);
	nlm->granted = nlm_granted_new(&options->way, &nlm->counters);
	if (nlm->granted)
		nlm->table = lock_table_new(nlm_granted_note, nlm->granted);
	if (!nlm->table) {
		nlm_free(nlm);
		return NULL;
	}
	nlm_granted_set_table(nlm->granted, nlm->table);
	return nlm;
}

void nlm_free(struct nlm *nlm)
{
	if (!nlm)
		return;
	lock_table_free(nlm->table);
	nlm_granted_free(nlm->granted);
	free(nlm);
}

struct rpc_program nlm_program(struct nlm *nlm)
{
	return (struct rpc_program){
		.number = NLM_PROGRAM,
		.version_low = 1,
		.version_high = 4,
		.name = "nlockmgr",
		.dispatch = dispatch,
		.state = nlm,
	};
}

static bool is_used(const struct lock_client *client, void *arg)
{
	const struct nlm *nlm = arg;
	const struct nlm_call *own;

	if (lock_table_knows_client(nlm->table, client))
		return true;
	TAILQ_FOREACH(own, &nlm->calls, link)
		if (memcmp(own->client.address, client->address, sizeof(client->address)) == 0)
			return true;
	return false;
}

void nlm_tick(struct nlm *nlm, uint64_t now_ms)
{
	lock_table_retry(nlm->table);
	nlm_granted_run(nlm->granted, now_ms);
	nsm_tick(nlm->options.nsm, now_ms, is_used, nlm);
}

/* Return: whether this is old news; from now on it is */
static bool is_known_reboot(struct nlm *nlm, const uint8_t address[static 16], const char *name, int32_t state)
{
	struct reboot *reboot = NULL;

	for (size_t i = 0; i < NLM_REBOOTS_KEPT && !reboot; i++)
		if (memcmp(nlm->reboots[i].address, address, 16) == 0 &&
		    strncmp(nlm->reboots[i].name, name, LOCK_NAME_MAX) == 0)
			reboot = &nlm->reboots[i];
	if (reboot && reboot->state == state)
		return true;
	if (!reboot)
		reboot = &nlm->reboots[nlm->reboot_next++ % NLM_REBOOTS_KEPT];
	memcpy(reboot->address, address, sizeof(reboot->address));
	snprintf(reboot->name, sizeof(reboot->name), "%.*s", LOCK_NAME_MAX, name);
	reboot->state = state;
	return false;
}

void nlm_client_rebooted(struct nlm *nlm, const uint8_t address[static 16], const char *name, int32_t state)
{
	if (state != NLM_NO_STATE && is_known_reboot(nlm, address, name, state))
		return;
	nlm->counters.freed_clients += lock_table_free_client(nlm->table, address, name);
	nlm_granted_run(nlm->granted, clock_monotonic_ms());
}

static bool is_gone(const struct lock_file_id *file, void *arg)
{
	const struct file_service_options *options = arg;
	struct handle handle;

	return !namespace_cluster(options->ns) ||
	       handle_decode(namespace_handle_key(options->ns), file->bytes, file->len, &handle) < 0 ||
	       !options->find_volume(handle.volume, options->arg);
}

void nlm_follow_volumes(struct nlm *nlm)
{
	lock_table_forget_files(nlm->table, is_gone, &nlm->options.files->options);
}

const struct nlm_counters *nlm_counters(const struct nlm *nlm)
{
	return &nlm->counters;
}

const struct lock_table_counters *nlm_table_counters(const struct nlm *nlm)
{
	return lock_table_counters(nlm->table);
}
