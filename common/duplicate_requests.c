/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/duplicate_requests.h"

#include "common/flow.h"
#include "common/log.h"
#include "common/siphash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

enum { SHARES = 64 };

/* What makes two calls the same; compared as bytes. */
struct request_key {
	uint8_t client[16];
	uint32_t xid, program, version, procedure;
	uint64_t checksum; /* of all of the above, credentials and arguments */
};

_Static_assert(sizeof(struct request_key) == 40, "request_key has no padding");

struct request {
	LIST_ENTRY(request) same_hash;
	TAILQ_ENTRY(request) older; /* in its share, unless it is in progress */
	struct share *share;
	struct request_key key;
	struct rpc_call *waiting; /* duplicates, while it is in progress; linked by next_duplicate */
	uint64_t answered_ms;
	uint8_t *reply; /* the message; NULL: in progress */
	size_t reply_len;
};

/* The answers to some of the clients: a client that asks for very much has its own forgotten, and theirs, not everybody's. */
struct share {
	struct duplicate_requests *requests;
	TAILQ_HEAD(, request) answered; /* the oldest first */
	size_t bytes;			/* of those */
};

struct duplicate_requests {
	struct duplicate_requests_options options;
	pthread_mutex_t mutex; /* for all that follows, but the secret */
	struct duplicate_requests_counters counters;
	uint8_t secret[SIPHASH_KEY_BYTES]; /* no client can make two of its calls look the same, or a list long */
	struct share shares[SHARES];	   /* by a hash of the client's address */
	size_t list_count;		   /* a power of two */
	LIST_HEAD(request_list, request) lists[];
};

struct duplicate_requests *duplicate_requests_new(const struct duplicate_requests_options *options)
{
	struct duplicate_requests *requests;
	size_t list_count = 1;

	while (list_count < options->entries_max)
		list_count *= 2;
	requests = calloc(1, sizeof(*requests) + list_count * sizeof(requests->lists[0]));
	if (!requests)
		return NULL;
	if (getrandom(requests->secret, sizeof(requests->secret), 0) != sizeof(requests->secret)) {
		free(requests);
		return NULL;
	}
	requests->options = *options;
	pthread_mutex_init(&requests->mutex, NULL);
	requests->list_count = list_count;
	for (size_t i = 0; i < SHARES; i++) {
		requests->shares[i].requests = requests;
		TAILQ_INIT(&requests->shares[i].answered);
	}
	return requests;
}

static size_t request_bytes(const struct request *request)
{
	return sizeof(*request) + request->reply_len;
}

static void request_free(struct request *request)
{
	struct duplicate_requests *requests = request->share->requests;

	LIST_REMOVE(request, same_hash);
	if (request->reply) {
		TAILQ_REMOVE(&request->share->answered, request, older);
		request->share->bytes -= request_bytes(request);
	}
	requests->counters.entries--;
	requests->counters.bytes -= request_bytes(request);
	free(request->reply);
	free(request);
}

void duplicate_requests_free(struct duplicate_requests *requests)
{
	struct request *request;

	if (!requests)
		return;
	for (size_t i = 0; i < SHARES; i++)
		while ((request = TAILQ_FIRST(&requests->shares[i].answered)))
			request_free(request);
	BUG_IF(requests->counters.entries != 0);
	pthread_mutex_destroy(&requests->mutex);
	free(requests);
}

/* Bounds */

static void forget_old(struct share *share)
{
	const struct duplicate_requests_options *options = &share->requests->options;
	uint64_t now_ms = options->now_ms();
	struct request *oldest;

	while ((oldest = TAILQ_FIRST(&share->answered)) && now_ms - oldest->answered_ms >= options->age_max_ms)
		request_free(oldest);
}

static struct share *largest_share(struct duplicate_requests *requests)
{
	struct share *largest = requests->shares;

	for (size_t i = 1; i < SHARES; i++)
		if (requests->shares[i].bytes > largest->bytes)
			largest = &requests->shares[i];
	return largest;
}

/* Forget answers until there is room. Return: whether there is */
static bool make_room(struct duplicate_requests *requests, size_t entries, size_t bytes)
{
	const struct duplicate_requests_counters *now = &requests->counters;

	while (now->entries + entries > requests->options.entries_max ||
	       now->bytes + bytes > requests->options.bytes_max) {
		struct request *oldest = TAILQ_FIRST(&largest_share(requests)->answered);

		if (!oldest)
			return false;
		request_free(oldest);
	}
	return true;
}

/* Looking */

/*
 * Who asks is told apart by what the credentials say, not by their bytes: clients put a time stamp into them. The rest
 * of AUTH_SYS, the name of the client's machine, says no more than its address.
 */
static uint64_t checksum(const struct duplicate_requests *requests, const struct request_key *key,
			 const struct rpc_call *call, size_t checked)
{
	const struct credentials *who = &call->who;
	size_t len = checked < call->args.left ? checked : call->args.left;
	const struct {
		struct request_key key;
		uint64_t args, args_len, groups;
		uint32_t flavor, uid, gid, group_count;
	} all = {
		.key = *key,
		.args = siphash(requests->secret, call->args.p, (unsigned int)len),
		.args_len = call->args.left,
		.groups = siphash(requests->secret, (const uint8_t *)who->groups,
				  who->group_count * sizeof(who->groups[0])),
		.flavor = call->flavor,
		.uid = who->uid,
		.gid = who->gid,
		.group_count = who->group_count,
	};

	_Static_assert(sizeof(all) == sizeof(struct request_key) + 40, "nothing hashed is padding");
	return siphash(requests->secret, (const uint8_t *)&all, sizeof(all));
}

static int key_make(const struct duplicate_requests *requests, const struct rpc_call *call, size_t checked,
		    struct request_key *key)
{
	int rc;

	*key = (struct request_key){
		.xid = call->xid,
		.program = call->program,
		.version = call->version,
		.procedure = call->procedure,
	};
	rc = flow_address(&call->client, key->client);
	key->checksum = checksum(requests, key, call, checked);
	return rc;
}

static struct request_list *list_of(struct duplicate_requests *requests, const struct request_key *key)
{
	return &requests->lists[key->checksum & (requests->list_count - 1)];
}

static struct share *share_of(struct duplicate_requests *requests, const struct request_key *key)
{
	return &requests->shares[siphash(requests->secret, key->client, sizeof(key->client)) % SHARES];
}

static struct request *find(struct request_list *list, const struct request_key *key)
{
	struct request *request;

	LIST_FOREACH(request, list, same_hash)
		if (memcmp(&request->key, key, sizeof(*key)) == 0)
			return request;
	return NULL;
}

/* Answering */

/* Keep the answer, if there is one; without memory for it the call is forgotten. */
static void remember(struct request *request, const struct rpc_call *call)
{
	struct share *share = request->share;
	uint8_t *reply = call->reply_len ? malloc(call->reply_len) : NULL;

	if (!reply) {
		request_free(request);
		return;
	}
	memcpy(reply, call->reply + RPC_REPLY_HEADROOM, call->reply_len);
	make_room(share->requests, 0, call->reply_len);
	request->reply = reply;
	request->reply_len = call->reply_len;
	request->answered_ms = share->requests->options.now_ms();
	share->requests->counters.bytes += request->reply_len;
	share->bytes += request_bytes(request);
	TAILQ_INSERT_TAIL(&share->answered, request, older);
}

/* The calls of others are answered without the mutex: that may lead anywhere. */
static void on_reply(struct rpc_call *call, void *arg)
{
	struct request *request = arg;
	struct duplicate_requests *requests = request->share->requests;
	struct rpc_call *waiting, *next;

	pthread_mutex_lock(&requests->mutex);
	waiting = request->waiting;
	request->waiting = NULL;
	remember(request, call);
	pthread_mutex_unlock(&requests->mutex);
	for (; waiting; waiting = next) {
		next = waiting->next_duplicate; /* the call may be gone when it is answered */
		if (call->reply_len)
			rpc_reply_whole(waiting, call->reply + RPC_REPLY_HEADROOM, call->reply_len);
		else
			rpc_reply_nothing(waiting);
	}
}

static bool is_answered(struct request *request, struct rpc_call *call)
{
	struct duplicate_requests_counters *counters = &request->share->requests->counters;

	if (request->reply) {
		counters->answered++;
		rpc_reply_copy(call, request->reply, request->reply_len);
		return true;
	}
	counters->waited++;
	call->next_duplicate = request->waiting;
	request->waiting = call;
	return false;
}

static int begin_new(struct share *share, struct request_list *list, const struct request_key *key, struct rpc_call *call)
{
	struct duplicate_requests *requests = share->requests;
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return -ENOMEM;
	if (!make_room(requests, 1, sizeof(*request))) {
		requests->counters.refused++;
		free(request);
		return -ENOMEM;
	}
	request->share = share;
	request->key = *key;
	LIST_INSERT_HEAD(list, request, same_hash);
	requests->counters.entries++;
	requests->counters.bytes += sizeof(*request);
	call->on_reply = on_reply;
	call->on_reply_arg = request;
	return 0;
}

/* With the mutex. @copied: out: it has the answer, and is to be told so */
static int begin(struct duplicate_requests *requests, const struct request_key *key, struct rpc_call *call, bool *copied)
{
	struct request_list *list = list_of(requests, key);
	struct share *share = share_of(requests, key);
	struct request *request;

	forget_old(share);
	request = find(list, key);
	if (!request)
		return begin_new(share, list, key, call);
	*copied = is_answered(request, call);
	return -EALREADY;
}

int duplicate_requests_begin(struct duplicate_requests *requests, struct rpc_call *call, size_t checked)
{
	struct request_key key;
	bool copied = false;
	int rc = key_make(requests, call, checked, &key);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&requests->mutex);
	rc = begin(requests, &key, call, &copied);
	pthread_mutex_unlock(&requests->mutex);
	if (copied)
		rpc_reply_copied(call);
	return rc;
}

struct duplicate_requests_counters duplicate_requests_counters(struct duplicate_requests *requests)
{
	struct duplicate_requests_counters counters;

	pthread_mutex_lock(&requests->mutex);
	counters = requests->counters;
	pthread_mutex_unlock(&requests->mutex);
	return counters;
}
