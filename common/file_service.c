/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/file_service.h"

#include "common/clock.h"
#include "common/duplicate_requests.h"
#include "common/file_service_internal.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mount_table.h"
#include "common/name_service.h"
#include "common/nfs3_internal.h"
#include "common/nlm.h"
#include "common/priorities.h"
#include "common/pseudo.h"
#include "common/spread_directory.h"
#include "common/tch_machine.h"
#include "common/user_groups.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

/* Version 4 of NFS, which Linux asks for first, is answered with the range that there is: it takes 3. */
static const struct rpc_program programs[FILE_SERVICE_PROGRAMS] = {
	{ .number = NFS_PROGRAM, .version_low = 3, .version_high = 3, .name = "nfs", .dispatch = nfs3_dispatch,
	  .long_answers = 1 << NFS3_READ | 1 << NFS3_READDIR | 1 << NFS3_READDIRPLUS },
	{ .number = MOUNT_PROGRAM, .version_low = 1, .version_high = 3, .name = "mountd", .dispatch = mount3_dispatch,
	  .long_answers = 1 << MOUNT_DUMP | 1 << MOUNT_EXPORT },
	{ .number = NFS_ACL_PROGRAM, .version_low = 3, .version_high = 3, .name = "nfs_acl", .dispatch = nfs3_dispatch,
	  .long_answers = 1 << NFS_ACL_GETACL },
	{ .number = RQUOTA_PROGRAM, .version_low = 1, .version_high = 2, .name = "rquotad", .dispatch = rquota_dispatch },
};

/*
 * As many as nfsd remembers with 2 GiB of memory: the changes of several seconds under full load, of minutes under usual.
 * A client that lost its connection asks again at once; one that was cut off, when the network is back. Answers are not
 * kept longer for the sake of clients that begin anew with the same xids after a restart. A device that has a half of a connection and
 * never hears of the first one again may have carried out calls that the first one repeats when it goes on alone.
 */
enum { ANSWER_AGE_MS = 10 * 60 * 1000 };

_Static_assert(ANSWER_AGE_MS > TCH_HALF_LOST_MS + TCH_HALF_MS, "a half that comes late finds its answers");

static const struct duplicate_requests_options changes_options = {
	.entries_max = 32 * 1024,
	.bytes_max = 12 * 1024 * 1024,
	.age_max_ms = ANSWER_AGE_MS,
	.now_ms = clock_monotonic_ms,
};

static const struct duplicate_requests_options writes_options = {
	.entries_max = 16 * 1024,
	.bytes_max = 4 * 1024 * 1024,
	.age_max_ms = ANSWER_AGE_MS,
	.now_ms = clock_monotonic_ms,
};

/* 0; -ENOMEM, -EAGAIN */
static int make_shared(struct file_service *service)
{
	struct event_base *base = service->options.base;
	int rc = base ? name_service_new(base, &service->names) : 0;

	if (rc < 0)
		return rc;
	service->mounts = mount_table_new();
	service->changes = duplicate_requests_new(&changes_options);
	service->writes = duplicate_requests_new(&writes_options);
	service->meters = calloc(1, sizeof(*service->meters));
	return service->mounts && service->changes && service->writes && service->meters ? 0 : -ENOMEM;
}

static int make_own(struct file_service *service)
{
	service->exports = exports_new(service->options.ns, service->names);
	service->users = user_groups_new(service->options.ns);
	service->priorities = priorities_new(service->options.ns, service->meters);
	memcpy(service->programs, programs, sizeof(programs));
	for (size_t i = 0; i < FILE_SERVICE_PROGRAMS; i++)
		service->programs[i].state = service;
	return service->exports && service->users && service->priorities ? 0 : -ENOMEM;
}

struct file_service *file_service_new(const struct file_service_options *options)
{
	struct file_service *service = calloc(1, sizeof(*service));

	if (!service)
		return NULL;
	service->options = *options;
	LIST_INIT(&service->parts);
	LIST_INIT(&service->delayed);
	SLIST_INIT(&service->spare_works);
	if (make_shared(service) < 0 || make_own(service) < 0) {
		file_service_free(service);
		return NULL;
	}
	return service;
}

struct file_service *file_service_new_part(struct file_service *whole, struct loop *loop, struct rpc_server *control)
{
	struct file_service *service = calloc(1, sizeof(*service));

	if (!service)
		return NULL;
	service->options = whole->options;
	service->whole = whole;
	service->loop = loop;
	service->control = control;
	LIST_INIT(&service->parts);
	LIST_INIT(&service->delayed);
	SLIST_INIT(&service->spare_works);
	LIST_INSERT_HEAD(&whole->parts, service, link);
	service->names = whole->names;
	service->mounts = whole->mounts;
	service->meters = whole->meters;
	service->changes = whole->changes;
	service->writes = whole->writes;
	if (make_own(service) < 0) {
		file_service_free(service);
		return NULL;
	}
	return service;
}

/* Who waits for a time, not for an answer. */
struct delayed_call {
	LIST_ENTRY(delayed_call) link;
	struct file_service *service;
	struct rpc_call *call;
	void (*resume)(struct file_service *service, struct rpc_call *call);
	struct event *timer;
};

static void delayed_free(struct delayed_call *delayed)
{
	LIST_REMOVE(delayed, link);
	event_free(delayed->timer);
	free(delayed);
}

static void on_delay(evutil_socket_t fd, short what, void *arg)
{
	struct delayed_call delayed = *(struct delayed_call *)arg;

	(void)fd, (void)what;
	delayed_free(arg);
	delayed.resume(delayed.service, delayed.call);
}

static void end_delays(struct file_service *service)
{
	struct delayed_call *delayed;

	while ((delayed = LIST_FIRST(&service->delayed))) {
		struct rpc_call *call = delayed->call;

		delayed_free(delayed);
		rpc_reply_nothing(call);
	}
}

int file_service_delay(struct file_service *service, struct rpc_call *call, uint32_t wait_ms,
		       void (*resume)(struct file_service *service, struct rpc_call *call))
{
	struct event_base *base = service->loop ? loop_base(service->loop) : service->options.base;
	struct timeval wait = { .tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000 };
	struct delayed_call *delayed = malloc(sizeof(*delayed));

	if (!delayed)
		return -ENOMEM;
	*delayed = (struct delayed_call){ .service = service, .call = call, .resume = resume };
	delayed->timer = base ? evtimer_new(base, on_delay, delayed) : NULL;
	if (!delayed->timer || rpc_call_keep(call) < 0) {
		if (delayed->timer)
			event_free(delayed->timer);
		free(delayed);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&service->delayed, delayed, link);
	event_add(delayed->timer, &wait);
	return 0;
}

void file_service_stop(struct file_service *service)
{
	struct file_service *part;

	service->stopping = true;
	end_delays(service);
	LIST_FOREACH(part, &service->parts, link) {
		part->stopping = true;
		end_delays(part);
	}
	if (service->names && !service->whole)
		name_service_stop(service->names);
}

static void free_shared(struct file_service *service)
{
	BUG_IF(!LIST_EMPTY(&service->parts));
	name_service_free(service->names);
	mount_table_free(service->mounts);
	free(service->meters);
	duplicate_requests_free(service->changes);
	duplicate_requests_free(service->writes);
}

void file_service_free(struct file_service *service)
{
	if (!service)
		return;
	file_service_stop(service);
	nfs3_work_free_spare(service);
	exports_free(service->exports);
	user_groups_free(service->users);
	priorities_free(service->priorities);
	if (service->whole)
		LIST_REMOVE(service, link);
	else
		free_shared(service);
	free(service);
}

const struct rpc_program *file_service_programs(struct file_service *service, size_t *count)
{
	*count = FILE_SERVICE_PROGRAMS;
	return service->programs;
}

static void add_counters(struct file_service_counters *sum, const struct file_service_counters *more)
{
	for (size_t i = 0; i < NFS3_PROCEDURES; i++)
		sum->nfs3[i] += more->nfs3[i];
	for (size_t i = 0; i < NFS_ACL_PROCEDURES; i++)
		sum->nfs_acl[i] += more->nfs_acl[i];
	sum->relayed += more->relayed;
	sum->bad_handle += more->bad_handle;
	sum->stale_handle += more->stale_handle;
	sum->access_denied += more->access_denied;
	sum->read_bytes += more->read_bytes;
	sum->written_bytes += more->written_bytes;
	for (size_t i = 0; i < FILE_SERVICE_NOPERATIONS; i++)
		latency_add(&sum->latency[i], &more->latency[i]);
}

struct file_service_counters file_service_counters(const struct file_service *service)
{
	struct file_service_counters sum = service->counters;
	const struct file_service *part;

	LIST_FOREACH(part, &service->parts, link)
		add_counters(&sum, &part->counters);
	return sum;
}

bool file_service_runs_once(const struct rpc_call *call)
{
	return (call->program == NFS_PROGRAM || call->program == NFS_ACL_PROGRAM) && nfs3_runs_once(call);
}

bool file_service_is_awaited(const struct rpc_call *call)
{
	return call->program == NFS_ACL_PROGRAM && call->procedure != 0;
}

struct duplicate_requests_counters file_service_duplicates(const struct file_service *service,
							   enum file_service_cache cache)
{
	return duplicate_requests_counters(cache == FILE_SERVICE_WRITES ? service->writes : service->changes);
}

/* On any device, whichever way the call came. */
static int find_spread(struct file_service *service, const ns_spread *spread, struct volume **here)
{
	if (!service->options.spreads)
		return -EINPROGRESS;
	spread_directory_open(service->options.spreads, spread, &service->spread);
	*here = &service->spread;
	return 0;
}

/* A branch is at the place of its spread directory. */
static bool has_place(const struct namespace *ns, const ns_volume *volume)
{
	const ns_branch *branch;

	if (namespace_place(ns, volume->id))
		return true;
	branch = namespace_branch_by_uuid(ns, (const uint8_t *)volume->uuid);
	return branch && namespace_place(ns, branch->spread);
}

int file_service_find(struct file_service *service, uint32_t id, enum rpc_transport transport, struct volume **here,
		      uint32_t *node)
{
	const struct file_service_options *options = &service->options;
	const ns_spread *spread;
	const ns_volume *volume;

	*here = NULL;
	if (!namespace_cluster(options->ns))
		return -EINPROGRESS;
	if (id == NAMESPACE_ROOT_VOLUME) {
		pseudo_open(options->ns, &service->root);
		*here = &service->root;
		return 0;
	}
	volume = namespace_volume(options->ns, id);
	spread = volume ? NULL : namespace_spread(options->ns, id);
	if (spread)
		return find_spread(service, spread, here);
	/*
	 * Who relays has heard that it is ours, and where it is, which decides about rights; both may still be on their way here, by
	 * another session.
	 */
	if (transport == RPC_RELAYED && (!volume || !has_place(options->ns, volume)))
		return -EINPROGRESS;
	if (!volume)
		return -ESTALE;
	if (volume->node == options->self) {
		*here = options->find_volume(id, options->arg);
		if (!*here && options->has_left && options->has_left(id, options->arg))
			return -EIO; /* its clients are told, not kept waiting for somebody to bring it back */
		return *here ? 0 : -EINPROGRESS;
	}
	if (transport == RPC_RELAYED || !options->relay)
		return -EINPROGRESS;
	*node = volume->node;
	return 0;
}

/* Return: as file_service_groups() */
static int ask_name_service(struct file_service *service, uint32_t uid, bool without_root, struct group_set **out)
{
	if (!service->names)
		return -EINPROGRESS;
	switch (name_service_groups(service->names, uid, without_root, out)) {
	case NAME_YES:
		return 0;
	case NAME_ASKED:
		return EXPORTS_UNKNOWN;
	default:
		return -EINPROGRESS;
	}
}

int file_service_groups(struct file_service *service, const struct rpc_call *call, const struct export_rights *rights,
			struct credentials *who, struct group_set **out)
{
	struct group_set *set;
	int rc;

	*out = NULL;
	if (!rights->manage_gids || call->flavor != RPC_AUTH_SYS || who->uid != call->who.uid || rights->all_squash)
		return 0;
	rc = user_groups_find(service->users, who->uid, rights->root_squash, &set);
	if (rc == -ENOENT)
		rc = ask_name_service(service, who->uid, rights->root_squash, &set);
	if (rc == 0)
		who->group_set = *out = set;
	return rc == -ENOMEM ? -EINPROGRESS : rc;
}

void file_service_relay(struct file_service *service, uint32_t node, struct rpc_call *call)
{
	service->counters.relayed++;
	service->options.relay(node, call, service->options.arg);
}

struct waiting_call {
	struct name_waiter waiter;
	struct file_service *service;
	struct rpc_call *call;
	void (*resume)(struct file_service *service, struct rpc_call *call);
};

static void on_told(struct name_waiter *waiter)
{
	struct waiting_call waiting = *(struct waiting_call *)waiter;

	free(waiter);
	if (waiting.service->stopping)
		rpc_reply_nothing(waiting.call);
	else
		waiting.resume(waiting.service, waiting.call);
}

int file_service_wait(struct file_service *service, struct rpc_call *call,
		      void (*resume)(struct file_service *service, struct rpc_call *call))
{
	struct waiting_call *waiting = malloc(sizeof(*waiting));

	if (!waiting || rpc_call_keep(call) < 0) {
		free(waiting);
		return -ENOMEM;
	}
	*waiting = (struct waiting_call){ .waiter.told = on_told, .service = service, .call = call, .resume = resume };
	name_service_wait(service->names, &waiting->waiter);
	return 0;
}

void file_service_unreachable(struct rpc_call *call)
{
	if (call->program == NFS_PROGRAM || call->program == NFS_ACL_PROGRAM)
		nfs3_unreachable(call);
	else if (call->program == MOUNT_PROGRAM)
		mount3_unreachable(call);
	else if (call->program == NLM_PROGRAM)
		nlm_unreachable(call);
	else
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
}
