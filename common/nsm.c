/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nsm.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/nsm_xdr.h" /* made by rpcgen from common/nsm.x */
#include "common/siphash.h"
#include "common/stored_file.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

enum nsm_number { SM_NULL, SM_STAT, SM_MON, SM_UNMON, SM_UNMON_ALL, SM_SIMU_CRASH, SM_NOTIFY, SM_NUMBERS };

enum {
	FIRST_PAUSE_MS = 5000,	 /* after a notice that was not answered */
	FORGET_AFTER_MS = 60000, /* without a lock */
	NOTICES_MAX = 32,	 /* on their way at once */
	COUNTER_MAX = INT32_MAX / 512 - 1,
	RECORD_MAX = INET6_ADDRSTRLEN + LOCK_NAME_MAX + 2,
};

#define SUFFIX ".client"

struct recorded {
	LIST_ENTRY(recorded) link;
	struct lock_client client;
	uint8_t vip[16];
	bool is_written; /* its file is durable; till then a worker is at it */
	uint64_t used_ms;

	/* A client of before the restart. */
	bool may_reclaim;
	bool is_told;	   /* or given up */
	bool is_being_told;
	unsigned int tries;
	uint64_t next_ms;
	uint64_t id;
};

struct nsm {
	struct nsm_options options;
	char directory[PATH_MAX];
	uint32_t counter;
	struct nsm_counters counters;
	pthread_mutex_t mutex; /* of the list and all in it; the loop alone adds notices and removes */
	pthread_cond_t written;
	LIST_HEAD(, recorded) list;
	size_t count;
	uint64_t last_id;
	unsigned int notices;
	bool in_grace, is_timed; /* the grace period has its end */
	uint64_t grace_end_ms, reach_end_ms;
};

/* The files */

static const char *address_text(const uint8_t address[static 16], char text[static INET6_ADDRSTRLEN])
{
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)address))
		inet_ntop(AF_INET, address + 12, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, address, text, INET6_ADDRSTRLEN);
	return text;
}

static int address_parse(const char *text, uint8_t out[static 16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (inet_pton(AF_INET6, text, out) == 1)
		return 0;
	memcpy(out, mapped, sizeof(mapped));
	return inet_pton(AF_INET, text, out + 12) == 1 ? 0 : -EINVAL;
}

/* Names are the clients' choice, so they are not names of files. */
static void client_path(const struct nsm *nsm, const struct lock_client *client, char path[static PATH_MAX])
{
	static const uint8_t key[SIPHASH_KEY_BYTES]; /* not against anybody: who makes them collide shares his own record */
	char address[INET6_ADDRSTRLEN];

	snprintf(path, PATH_MAX, "%.4000s/%s-%016jx" SUFFIX, nsm->directory, address_text(client->address, address),
		 (uintmax_t)siphash(key, (const uint8_t *)client->name, strlen(client->name)));
}

static int client_write(const struct nsm *nsm, const struct lock_client *client, const uint8_t vip[static 16])
{
	char path[PATH_MAX], text[RECORD_MAX], address[INET6_ADDRSTRLEN];
	int len = snprintf(text, sizeof(text), "%s %s", address_text(vip, address), client->name);

	client_path(nsm, client, path);
	return stored_file_write(path, text, (size_t)len);
}

static int client_parse(const char *file, const char *text, struct recorded *out)
{
	char address[INET6_ADDRSTRLEN], vip[INET6_ADDRSTRLEN];
	int name_at = 0;

	if (sscanf(file, "%45[^-]-", address) != 1 || sscanf(text, "%45s%n", vip, &name_at) != 1 ||
	    text[name_at] != ' ' || strlen(text + name_at + 1) > LOCK_NAME_MAX ||
	    address_parse(address, out->client.address) < 0 || address_parse(vip, out->vip) < 0)
		return -EINVAL;
	snprintf(out->client.name, sizeof(out->client.name), "%s", text + name_at + 1);
	return 0;
}

static int load_client(struct nsm *nsm, const char *file)
{
	struct recorded *recorded = calloc(1, sizeof(*recorded));
	char path[PATH_MAX];
	uint8_t *text = NULL;
	size_t len;
	int rc;

	if (!recorded)
		return -ENOMEM;
	snprintf(path, sizeof(path), "%.3800s/%.255s", nsm->directory, file);
	rc = stored_file_read(path, &text, &len);
	if (rc == 0)
		rc = client_parse(file, (const char *)text, recorded);
	free(text);
	if (rc < 0) {
		log_warn("nsm", "%s is left out: %s; that client is not told of this restart", path, strerror(-rc));
		free(recorded);
		return 0;
	}
	recorded->is_written = recorded->may_reclaim = true;
	recorded->id = ++nsm->last_id;
	LIST_INSERT_HEAD(&nsm->list, recorded, link);
	nsm->count++;
	return 0;
}

static int load_clients(struct nsm *nsm)
{
	DIR *dir = opendir(nsm->directory);
	struct dirent *entry;
	int rc = 0;

	if (!dir)
		return -errno;
	while (rc == 0 && nsm->count < LOCK_CLIENTS_MAX && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);

		if (len > strlen(SUFFIX) && strcmp(entry->d_name + len - strlen(SUFFIX), SUFFIX) == 0)
			rc = load_client(nsm, entry->d_name);
	}
	closedir(dir);
	return rc;
}

static int begin_state(struct nsm *nsm)
{
	char path[PATH_MAX], text[16];
	uint8_t *kept = NULL;
	size_t len;
	int rc;

	snprintf(path, sizeof(path), "%.4000s/state", nsm->directory);
	rc = stored_file_read(path, &kept, &len);
	if (rc == 0)
		nsm->counter = (uint32_t)strtoul((const char *)kept, NULL, 10) % COUNTER_MAX;
	else if (rc != -ENOENT)
		return rc;
	free(kept);
	nsm->counter++;
	return stored_file_write(path, text, (size_t)snprintf(text, sizeof(text), "%u\n", nsm->counter));
}

/* Life */

int nsm_new(const struct nsm_options *options, uint64_t now_ms, struct nsm **out)
{
	struct nsm *nsm = calloc(1, sizeof(*nsm));
	int rc;

	if (!nsm)
		return -ENOMEM;
	nsm->options = *options;
	snprintf(nsm->directory, sizeof(nsm->directory), "%.4000s", options->directory);
	pthread_mutex_init(&nsm->mutex, NULL);
	pthread_cond_init(&nsm->written, NULL);
	LIST_INIT(&nsm->list);
	rc = stored_file_make_directory(nsm->directory);
	if (rc == 0)
		rc = begin_state(nsm);
	if (rc == 0)
		rc = load_clients(nsm);
	if (rc < 0) {
		nsm_free(nsm);
		return rc;
	}
	nsm->in_grace = nsm->count > 0;
	nsm->reach_end_ms = now_ms + NSM_REACH_MS;
	if (nsm->in_grace)
		log_info("nsm", "state=%d clients=%zu had locks before this start: they are told, and get them back first",
			 nsm_state(nsm), nsm->count);
	*out = nsm;
	return 0;
}

void nsm_free(struct nsm *nsm)
{
	struct recorded *recorded;

	if (!nsm)
		return;
	while ((recorded = LIST_FIRST(&nsm->list))) {
		LIST_REMOVE(recorded, link);
		free(recorded);
	}
	pthread_cond_destroy(&nsm->written);
	pthread_mutex_destroy(&nsm->mutex);
	free(nsm);
}

int32_t nsm_state(const struct nsm *nsm)
{
	return (int32_t)((nsm->counter * 256 + nsm->options.self % 256) * 2 + 1);
}

const struct nsm_counters *nsm_counters(const struct nsm *nsm)
{
	return &nsm->counters;
}

/* Recording */

static struct recorded *find_recorded(const struct nsm *nsm, const struct lock_client *client)
{
	struct recorded *recorded;

	LIST_FOREACH(recorded, &nsm->list, link)
		if (memcmp(recorded->client.address, client->address, sizeof(client->address)) == 0 &&
		    strcmp(recorded->client.name, client->name) == 0)
			return recorded;
	return NULL;
}

static struct recorded *add_recorded(struct nsm *nsm, const struct lock_client *client, const uint8_t vip[static 16])
{
	struct recorded *recorded = calloc(1, sizeof(*recorded));

	if (!recorded)
		return NULL;
	recorded->client = *client;
	memcpy(recorded->vip, vip, sizeof(recorded->vip));
	recorded->id = ++nsm->last_id;
	recorded->is_told = true; /* of the restart that it has not seen */
	recorded->used_ms = clock_monotonic_ms();
	LIST_INSERT_HEAD(&nsm->list, recorded, link);
	nsm->count++;
	return recorded;
}

static void remove_recorded(struct nsm *nsm, struct recorded *recorded)
{
	LIST_REMOVE(recorded, link);
	nsm->count--;
	free(recorded);
}

/* With the mutex held, which is given up while the file is written. */
static int record_new(struct nsm *nsm, const struct lock_client *client, const uint8_t vip[static 16])
{
	struct recorded *recorded;
	int rc;

	if (nsm->count >= LOCK_CLIENTS_MAX)
		return -ENOSPC;
	recorded = add_recorded(nsm, client, vip);
	if (!recorded)
		return -ENOMEM;
	pthread_mutex_unlock(&nsm->mutex);
	rc = client_write(nsm, client, vip);
	pthread_mutex_lock(&nsm->mutex);
	/* Only what is written is ever removed by another. */
	recorded->is_written = true;
	if (rc < 0)
		remove_recorded(nsm, recorded);
	pthread_cond_broadcast(&nsm->written);
	return rc;
}

int nsm_record(struct nsm *nsm, const struct lock_client *client, const uint8_t vip[static 16])
{
	struct recorded *recorded;
	int rc = 0;

	pthread_mutex_lock(&nsm->mutex);
	while ((recorded = find_recorded(nsm, client)) && !recorded->is_written)
		pthread_cond_wait(&nsm->written, &nsm->mutex); /* as long as the disk takes */
	if (recorded)
		recorded->used_ms = clock_monotonic_ms();
	else
		rc = record_new(nsm, client, vip);
	pthread_mutex_unlock(&nsm->mutex);
	return rc;
}

bool nsm_knows(struct nsm *nsm, const struct lock_client *client)
{
	struct recorded *recorded;
	bool known;

	pthread_mutex_lock(&nsm->mutex);
	recorded = find_recorded(nsm, client);
	known = recorded && recorded->is_written;
	if (known)
		recorded->used_ms = clock_monotonic_ms();
	pthread_mutex_unlock(&nsm->mutex);
	return known;
}

/* Telling */

/* Doubled each time. */
static uint64_t pause_ms(unsigned int tries)
{
	return (uint64_t)FIRST_PAUSE_MS << (tries - 1);
}

static void on_told(uint64_t id, int result, const uint8_t *results, size_t len, void *arg)
{
	struct nsm *nsm = arg;
	struct recorded *recorded;

	(void)results, (void)len;
	pthread_mutex_lock(&nsm->mutex);
	nsm->notices--;
	LIST_FOREACH(recorded, &nsm->list, link)
		if (recorded->id == id)
			break;
	if (recorded) {
		recorded->is_being_told = false;
		recorded->is_told = result == 0 || recorded->tries == NSM_TRIES;
		nsm->counters.notified += result == 0;
		nsm->counters.unreachable += result != 0 && recorded->is_told;
	}
	pthread_mutex_unlock(&nsm->mutex);
}

static void put_text(struct bytes_writer *out, const char *text)
{
	size_t len = strlen(text);

	bytes_put_be32(out, (uint32_t)len);
	bytes_put(out, text, len);
	bytes_put(out, "\0\0", -len & 3);
}

static void tell(struct nsm *nsm, const struct recorded *recorded, uint64_t id)
{
	char name[INET6_ADDRSTRLEN];
	uint8_t args[4 + INET6_ADDRSTRLEN + 8];
	struct bytes_writer out = bytes_writer_init(args, sizeof(args));
	struct client_call call = { .program = NSM_PROGRAM, .version = 1, .procedure = SM_NOTIFY, .args = args };
	struct client_call_done done = { .fn = on_told, .arg = nsm, .id = id };

	/* The name by which clients monitor us is the address that they know. */
	put_text(&out, address_text(recorded->vip, name));
	bytes_put_be32(&out, (uint32_t)nsm_state(nsm));
	memcpy(call.client, recorded->client.address, sizeof(call.client));
	memcpy(call.vip, recorded->vip, sizeof(call.vip));
	call.args_len = out.written;
	nsm->options.way.call(&call, &done, nsm->options.way.arg);
}

/* A copy of the next one to be told, marked as being told. */
static bool take_due(struct nsm *nsm, uint64_t now_ms, struct recorded *out)
{
	struct recorded *recorded;
	bool found = false;

	pthread_mutex_lock(&nsm->mutex);
	LIST_FOREACH(recorded, &nsm->list, link) {
		if (recorded->is_told || recorded->is_being_told || now_ms < recorded->next_ms)
			continue;
		recorded->is_being_told = true;
		recorded->tries++;
		recorded->next_ms = now_ms + pause_ms(recorded->tries);
		nsm->notices++;
		*out = *recorded;
		found = true;
		break;
	}
	pthread_mutex_unlock(&nsm->mutex);
	return found;
}

static void run_grace(struct nsm *nsm, uint64_t now_ms, bool within_reach)
{
	if (!nsm->in_grace)
		return;
	if (!nsm->is_timed && (within_reach || now_ms >= nsm->reach_end_ms)) {
		nsm->is_timed = true;
		nsm->grace_end_ms = now_ms + NSM_GRACE_MS;
	}
	if (!nsm->is_timed || now_ms < nsm->grace_end_ms)
		return;
	nsm->in_grace = false;
	log_info("nsm", "the grace period is over: locks go to whoever asks");
}

static void forget_unused(struct nsm *nsm, uint64_t now_ms, bool (*is_used)(const struct lock_client *client, void *arg),
			  void *arg)
{
	struct recorded *recorded, *next;
	char path[PATH_MAX];

	pthread_mutex_lock(&nsm->mutex);
	nsm->counters.recorded = nsm->count;
	for (recorded = LIST_FIRST(&nsm->list); recorded; recorded = next) {
		next = LIST_NEXT(recorded, link);
		if (is_used(&recorded->client, arg))
			recorded->used_ms = now_ms;
		if (!recorded->is_written || !recorded->is_told || nsm->in_grace ||
		    now_ms < recorded->used_ms + FORGET_AFTER_MS)
			continue;
		client_path(nsm, &recorded->client, path);
		unlink(path); /* if a crash brings it back, one client is told in vain */
		remove_recorded(nsm, recorded);
	}
	pthread_mutex_unlock(&nsm->mutex);
}

void nsm_tick(struct nsm *nsm, uint64_t now_ms, bool (*is_used)(const struct lock_client *client, void *arg), void *arg)
{
	bool within_reach = nsm->options.may_call(nsm->options.arg);
	struct recorded due;

	run_grace(nsm, now_ms, within_reach);
	while (within_reach && nsm->notices < NOTICES_MAX && take_due(nsm, now_ms, &due))
		tell(nsm, &due, due.id);
	forget_unused(nsm, now_ms, is_used, arg);
}

bool nsm_is_in_grace(const struct nsm *nsm)
{
	return nsm->in_grace;
}

bool nsm_may_reclaim(const struct nsm *nsm, const struct lock_client *client)
{
	struct nsm *own = (struct nsm *)nsm; /* the mutex alone changes */
	const struct recorded *recorded;
	bool may;

	pthread_mutex_lock(&own->mutex);
	recorded = find_recorded(nsm, client);
	may = recorded && recorded->may_reclaim;
	pthread_mutex_unlock(&own->mutex);
	return may;
}

/* The program */

static void reply_number(struct rpc_call *call, size_t count, const uint32_t *numbers)
{
	struct bytes_writer out;

	if (rpc_reply_begin(call, count * 4, &out))
		return;
	for (size_t i = 0; i < count; i++)
		bytes_put_be32(&out, numbers[i]);
	rpc_reply_end(call, &out);
}

static void reply_stat(struct nsm *nsm, struct rpc_call *call, sm_result result)
{
	uint32_t numbers[] = { result, (uint32_t)nsm_state(nsm) };

	reply_number(call, 2, numbers);
}

static void mapped_address(const struct sockaddr_storage *from, uint8_t out[static 16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (from->ss_family == AF_INET6) {
		memcpy(out, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
		return;
	}
	memcpy(out, mapped, sizeof(mapped));
	memcpy(out + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
}

static void answer_notify(struct nsm *nsm, struct rpc_call *call)
{
	struct stat_chge change = { 0 };
	uint8_t address[16];
	bool decoded, told;
	XDR xdr;

	xdrmem_create(&xdr, (char *)call->args.p, (u_int)call->args.left, XDR_DECODE);
	decoded = xdr_stat_chge(&xdr, &change);
	if (!decoded) {
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
	} else {
		mapped_address(&call->client, address);
		nsm->counters.rebooted++;
		told = nsm->options.on_rebooted(address, change.mon_name, change.state, nsm->options.arg);
		if (told)
			reply_number(call, 0, NULL);
		else
			rpc_reply_nothing(call);
	}
	xdr_free((xdrproc_t)xdr_stat_chge, (char *)&change);
}

static void dispatch(const struct rpc_program *program, struct rpc_call *call)
{
	struct nsm *nsm = program->state;
	uint32_t state = (uint32_t)nsm_state(nsm);

	switch (call->procedure) {
	case SM_NULL:
	case SM_SIMU_CRASH: /* not by order of strangers */
		reply_number(call, 0, NULL);
		break;
	case SM_STAT:
	case SM_MON: /* we monitor for ourselves only */
		reply_stat(nsm, call, STAT_FAIL);
		break;
	case SM_UNMON:
	case SM_UNMON_ALL:
		reply_number(call, 1, &state);
		break;
	case SM_NOTIFY:
		answer_notify(nsm, call);
		break;
	default:
		rpc_reply_error(call, RPC_ACCEPT_PROC_UNAVAIL, 0, 0);
	}
}

struct rpc_program nsm_program(struct nsm *nsm)
{
	return (struct rpc_program){
		.number = NSM_PROGRAM,
		.version_low = 1,
		.version_high = 1,
		.name = "status",
		.dispatch = dispatch,
		.state = nsm,
	};
}
