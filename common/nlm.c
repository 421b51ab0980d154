/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nlm.h"

#include "common/clock.h"
#include "common/exports.h"
#include "common/file_service_internal.h"
#include "common/flow.h"
#include "common/nlm_xdr.h" /* made by rpcgen from common/nlm.x */
#include "common/nsm.h"
#include "common/workers.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

/* XNFS, 14.4 */
enum nlm_number {
	NLM_NULL,
	NLM_TEST,
	NLM_LOCK,
	NLM_CANCEL,
	NLM_UNLOCK,
	NLM_GRANTED,
	NLM_TEST_MSG,
	NLM_LOCK_MSG,
	NLM_CANCEL_MSG,
	NLM_UNLOCK_MSG,
	NLM_GRANTED_MSG,
	NLM_TEST_RES,
	NLM_LOCK_RES,
	NLM_CANCEL_RES,
	NLM_UNLOCK_RES,
	NLM_GRANTED_RES,
	NLM_SHARE = 20,
	NLM_UNSHARE,
	NLM_NM_LOCK,
	NLM_FREE_ALL,
};

enum {
	LAST_OF_VERSION_1 = NLM_GRANTED_RES,
	COOKIE_BYTES = 8, /* of ours */
	RESULTS_MAX = 4 + NLM_OPAQUE_MAX + 4 + 3 * 4 + NLM_OPAQUE_MAX + 2 * 8,
	GRANTED_MAX = 4 + COOKIE_BYTES + 4 + 4 + LOCK_NAME_MAX + 1 + 4 + LOCK_FILE_ID_MAX + 4 + LOCK_OH_MAX + 4 + 2 * 8,
};

_Static_assert(RESULTS_MAX <= (int)CLIENT_CALL_ARGS_MAX && GRANTED_MAX <= (int)CLIENT_CALL_ARGS_MAX, "there is room");
_Static_assert(NLM_SHARE_READ == LOCK_SHARE_READ && NLM_SHARE_WRITE == LOCK_SHARE_WRITE, "the protocol's bits are ours");

/* The arguments of all procedures; a field that a procedure does not have is zero. */
struct nlm_args {
	nlm_opaque cookie;
	bool_t block, exclusive, reclaim;
	nlm4_lock lock;
	nlm_share share;
	int32_t state;
};

enum { HAS_BLOCK = 1, HAS_EXCLUSIVE = 2, HAS_RECLAIM = 4 };

struct nlm_call;

struct nlm_procedure {
	unsigned int fields;		/* of its arguments, beside cookie and lock */
	bool is_share;			/* has a share instead of a lock */
	bool opens;			/* needs the file, not only its name */
	bool records;			/* the client is monitored */
	enum nlm_number result;		/* the _RES procedure that answers it; 0: the reply does */
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
	struct rpc_call asker; /* what rights depend on, for when it is answered already: transport, client, flavor, who */
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

/* A waiter that got its lock and does not know. */
struct pending {
	TAILQ_ENTRY(pending) link;
	uint64_t id;
	unsigned int tries;
	uint64_t next_ms;
	bool is_calling;
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
	TAILQ_HEAD(, pending) pending;
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
#define TEST_ROW   .fields = HAS_EXCLUSIVE, .opens = true, .run = run_test
#define LOCK_ROW   .fields = HAS_BLOCK | HAS_EXCLUSIVE | HAS_RECLAIM, .opens = true, .run = run_lock
#define CANCEL_ROW .fields = HAS_BLOCK | HAS_EXCLUSIVE, .run = run_cancel

static const struct nlm_procedure procedures[NLM_PROCEDURES] = {
	[NLM_TEST]       = { TEST_ROW },
	[NLM_LOCK]       = { LOCK_ROW, .records = true },
	[NLM_CANCEL]     = { CANCEL_ROW },
	[NLM_UNLOCK]     = { .run = run_unlock },
	[NLM_TEST_MSG]   = { TEST_ROW, .result = NLM_TEST_RES },
	[NLM_LOCK_MSG]   = { LOCK_ROW, .records = true, .result = NLM_LOCK_RES },
	[NLM_CANCEL_MSG] = { CANCEL_ROW, .result = NLM_CANCEL_RES },
	[NLM_UNLOCK_MSG] = { .run = run_unlock, .result = NLM_UNLOCK_RES },
	[NLM_SHARE]      = { .is_share = true, .fields = HAS_RECLAIM, .opens = true, .run = run_share },
	[NLM_UNSHARE]    = { .is_share = true, .fields = HAS_RECLAIM, .run = run_unshare },
	[NLM_NM_LOCK]    = { LOCK_ROW },
};
/* clang-format on */

/* Arguments */

static bool decode_lock(XDR *xdr, uint32_t version, nlm4_lock *out)
{
	nlm_lock narrow = { 0 };
	bool decoded;

	if (version == 4)
		return xdr_nlm4_lock(xdr, out);
	decoded = xdr_nlm_lock(xdr, &narrow);
	*out = (nlm4_lock){
		.caller_name = narrow.caller_name,
		.fh = narrow.fh,
		.oh = narrow.oh,
		.svid = narrow.svid,
		.l_offset = narrow.l_offset,
		.l_len = narrow.l_len,
	};
	return decoded;
}

static bool decode_fields(XDR *xdr, const struct nlm_procedure *procedure, uint32_t version, struct nlm_args *args)
{
	if (!xdr_nlm_opaque(xdr, &args->cookie))
		return false;
	if (procedure->is_share)
		return xdr_nlm_share(xdr, &args->share) && xdr_bool(xdr, &args->reclaim);
	if (procedure->fields & HAS_BLOCK && !xdr_bool(xdr, &args->block))
		return false;
	if (procedure->fields & HAS_EXCLUSIVE && !xdr_bool(xdr, &args->exclusive))
		return false;
	if (!decode_lock(xdr, version, &args->lock))
		return false;
	return !(procedure->fields & HAS_RECLAIM) || (xdr_bool(xdr, &args->reclaim) && xdr_int32_t(xdr, &args->state));
}

/* Free with args_free(), also on failure. */
static bool decode(const struct rpc_call *call, const struct nlm_procedure *procedure, struct nlm_args *args)
{
	bool decoded;
	XDR xdr;

	memset(args, 0, sizeof(*args));
	xdrmem_create(&xdr, (char *)call->args.p, (u_int)call->args.left, XDR_DECODE);
	decoded = decode_fields(&xdr, procedure, call->version, args);
	xdr_destroy(&xdr);
	return decoded;
}

static void args_free(struct nlm_args *args)
{
	xdr_free((xdrproc_t)xdr_nlm_opaque, (char *)&args->cookie);
	xdr_free((xdrproc_t)xdr_nlm4_lock, (char *)&args->lock);
	xdr_free((xdrproc_t)xdr_nlm_share, (char *)&args->share);
}

static const char *caller_name(const struct nlm_call *own)
{
	return own->procedure->is_share ? own->args.share.caller_name : own->args.lock.caller_name;
}

static const nlm_opaque *handle_of(const struct nlm_call *own)
{
	return own->procedure->is_share ? &own->args.share.fh : &own->args.lock.fh;
}

static struct lock_request request_of(const struct nlm_call *own)
{
	const nlm_opaque *oh = own->procedure->is_share ? &own->args.share.oh : &own->args.lock.oh;

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

/*
 * Versions 1 and 3 know no more than the first five; what is not among them is "no locks", as lockd has it. A deadlock is a conflict
 * with locks of others, which is "denied" (XNFS, 10, NLM_LOCK).
 */
static uint32_t status_in_version(nlm4_stats status, uint32_t version)
{
	if (version == 4 || status <= NLM4_DENIED_GRACE_PERIOD)
		return status;
	return status == NLM4_DEADLCK ? NLM4_DENIED : NLM4_DENIED_NOLOCKS;
}

static void put_opaque(struct bytes_writer *w, const void *bytes, size_t len)
{
	bytes_put_be32(w, (uint32_t)len);
	bytes_put(w, bytes, len);
	bytes_put(w, "\0\0", -len & 3);
}

static void put_offset(struct bytes_writer *w, uint32_t version, uint64_t value)
{
	if (version == 4)
		bytes_put_be64(w, value);
	else
		bytes_put_be32(w, value < UINT32_MAX ? (uint32_t)value : UINT32_MAX);
}

/* Length 0: to the end. */
static void put_range(struct bytes_writer *w, uint32_t version, uint64_t start, uint64_t end)
{
	put_offset(w, version, start);
	put_offset(w, version, end == LOCK_END ? 0 : end - start + 1);
}

static void put_holder(struct bytes_writer *w, uint32_t version, const struct lock_holder *holder)
{
	bytes_put_be32(w, holder->exclusive);
	bytes_put_be32(w, holder->svid);
	put_opaque(w, holder->oh, holder->oh_len);
	put_range(w, version, holder->start, holder->end);
}

static void put_results(struct bytes_writer *w, const struct nlm_procedure *procedure, uint32_t version,
			const nlm_opaque *cookie, nlm4_stats status, const struct lock_holder *holder)
{
	put_opaque(w, cookie->bytes.bytes_val, cookie->bytes.bytes_len);
	bytes_put_be32(w, status_in_version(status, version));
	if (procedure->is_share)
		bytes_put_be32(w, 0); /* a sequence number that means nothing any more */
	else if (procedure->run == run_test && status == NLM4_DENIED)
		put_holder(w, version, holder);
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

	if (rpc_reply_begin(call, RESULTS_MAX, &out))
		return;
	put_results(&out, procedure, call->version, cookie, status, holder);
	rpc_reply_end(call, &out);
}

/* The results of a _MSG procedure, as a call to the client. If it is lost, the client asks again. */
static void send_results(const struct nlm_call *own, nlm4_stats status, const struct lock_holder *holder)
{
	const struct client_call_way *way = &own->nlm->options.way;
	uint8_t args[RESULTS_MAX];
	struct bytes_writer w = bytes_writer_init(args, sizeof(args));
	struct client_call call = {
		.program = NLM_PROGRAM,
		.version = own->version,
		.procedure = own->procedure->result,
		.args = args,
	};
	struct client_call_done nobody = { 0 };

	put_results(&w, own->procedure, own->version, &own->args.cookie, status, holder);
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

/* Call-backs */

/* From within the table: only take note. */
static void on_grant(const struct lock_grant *grant, void *arg)
{
	struct nlm *nlm = arg;
	struct pending *pending = calloc(1, sizeof(*pending));

	if (!pending)
		return; /* the client asks again, which is the acknowledgment then */
	pending->id = grant->id;
	TAILQ_INSERT_TAIL(&nlm->pending, pending, link);
}

static void pending_free(struct nlm *nlm, struct pending *pending)
{
	TAILQ_REMOVE(&nlm->pending, pending, link);
	free(pending);
}

static struct pending *find_pending(struct nlm *nlm, uint64_t id)
{
	struct pending *pending;

	TAILQ_FOREACH(pending, &nlm->pending, link)
		if (pending->id == id)
			break;
	return pending;
}

static void put_granted(struct bytes_writer *w, const struct lock_grant *grant)
{
	const struct lock_request *request = &grant->request;

	bytes_put_be32(w, COOKIE_BYTES);
	bytes_put_be64(w, grant->id);
	bytes_put_be32(w, request->exclusive);
	put_opaque(w, request->client->name, strlen(request->client->name));
	put_opaque(w, grant->caller.handle.bytes, grant->caller.handle.len);
	put_opaque(w, request->oh, request->oh_len);
	bytes_put_be32(w, request->svid);
	put_range(w, grant->caller.version, request->start, request->end);
}

/* What the client says: cookie, status. Return: its status, or NLM4_FAILED if that can't be read */
static nlm4_stats granted_status(const uint8_t *results, size_t len)
{
	struct bytes_reader r = bytes_reader_init(results, len);
	uint32_t cookie_len = bytes_get_be32(&r), status;

	if (cookie_len > NLM_OPAQUE_MAX)
		return NLM4_FAILED;
	bytes_take(&r, (cookie_len + 3) / 4 * 4);
	status = bytes_get_be32(&r);
	return r.failed || status > NLM4_FAILED ? NLM4_FAILED : (nlm4_stats)status;
}

static void run_pending(struct nlm *nlm, uint64_t now_ms);

static void on_granted_answer(uint64_t id, int result, const uint8_t *results, size_t len, void *arg)
{
	struct nlm *nlm = arg;
	struct pending *pending = find_pending(nlm, id);
	nlm4_stats status = result == 0 ? granted_status(results, len) : NLM4_DENIED_GRACE_PERIOD;

	if (!pending)
		return;
	pending->is_calling = false;
	pending->next_ms = clock_monotonic_ms() + NLM_GRANT_PAUSE_MS;
	nlm->counters.call_backs_failed += result < 0;
	/* A client in its grace period, or out of reach, is asked again. */
	if (status == NLM4_DENIED_GRACE_PERIOD && pending->tries < NLM_GRANT_TRIES)
		return;
	pending_free(nlm, pending);
	if (status == NLM4_GRANTED)
		lock_table_acknowledge(nlm->table, id);
	else
		lock_table_refuse(nlm->table, id);
}

static void call_back(struct nlm *nlm, struct pending *pending, const struct lock_grant *grant)
{
	const struct client_call_way *way = &nlm->options.way;
	uint8_t args[GRANTED_MAX];
	struct bytes_writer w = bytes_writer_init(args, sizeof(args));
	struct client_call call = {
		.program = NLM_PROGRAM,
		.version = grant->caller.version,
		.procedure = NLM_GRANTED,
		.args = args,
	};
	struct client_call_done done = { .fn = on_granted_answer, .arg = nlm, .id = pending->id };

	put_granted(&w, grant);
	call.args_len = w.written;
	memcpy(call.client, grant->request.client->address, sizeof(call.client));
	memcpy(call.vip, grant->caller.vip, sizeof(call.vip));
	pending->tries++;
	pending->is_calling = true;
	nlm->counters.call_backs++;
	way->call(&call, &done, way->arg); /* may answer at once, and then @pending is gone */
}

static void run_pending(struct nlm *nlm, uint64_t now_ms)
{
	struct pending *pending, *next;
	struct lock_grant grant;

	for (pending = TAILQ_FIRST(&nlm->pending); pending; pending = next) {
		next = TAILQ_NEXT(pending, link);
		if (pending->is_calling || now_ms < pending->next_ms)
			continue;
		if (lock_table_find_grant(nlm->table, pending->id, &grant))
			call_back(nlm, pending, &grant);
		else
			pending_free(nlm, pending); /* cancelled, unlocked, or acknowledged by asking again */
	}
}

/* Calls, in order */

static void call_free(struct nlm_call *own)
{
	if (own->fd >= 0)
		close(own->fd);
	group_set_put(own->group_set);
	args_free(&own->args);
	free(own->place);
	free(own);
}

static void perform(struct nlm_call *own)
{
	struct lock_holder holder = { 0 };
	nlm4_stats status = own->err ? status_of(own->err) : own->procedure->run(own, &holder);

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
	run_pending(nlm, clock_monotonic_ms());
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
	if (!decode(call, procedure, &own->args)) {
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
	static const struct nlm_procedure row = { .fields = HAS_EXCLUSIVE };
	struct nlm_args args;

	if (decode(call, &row, &args))
		reply_results(call, &row, &args.cookie, NLM4_DENIED, NULL);
	else
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
	args_free(&args);
}

static bool has_procedure(const struct rpc_call *call)
{
	if (call->procedure > NLM_GRANTED_RES && call->procedure < NLM_SHARE)
		return false;
	return call->procedure < (call->version == 1 ? LAST_OF_VERSION_1 + 1 : NLM_PROCEDURES);
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
	/* A client that is told to wait with a reclaim gives the lock up; without an answer it asks again. */
	if (!decode(call, procedure, &args) || args.reclaim || procedure->result)
		rpc_reply_nothing(call);
	else
		reply_results(call, procedure, &args.cookie, NLM4_DENIED_GRACE_PERIOD, NULL);
	args_free(&args);
}

/* Life */

struct nlm *nlm_new(const struct nlm_options *options)
{
	struct nlm *nlm = calloc(1, sizeof(*nlm));

	if (!nlm)
		return NULL;
	nlm->options = *options;
	TAILQ_INIT(&nlm->calls);
	TAILQ_INIT(&nlm->pending);
	nlm->table = lock_table_new(on_grant, nlm);
	if (!nlm->table) {
		free(nlm);
		return NULL;
	}
	return nlm;
}

void nlm_free(struct nlm *nlm)
{
	if (!nlm)
		return;
	while (!TAILQ_EMPTY(&nlm->pending))
		pending_free(nlm, TAILQ_FIRST(&nlm->pending));
	lock_table_free(nlm->table);
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
	run_pending(nlm, now_ms);
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
	run_pending(nlm, clock_monotonic_ms());
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
