/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/spread.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/nfs3_xdr.h"
#include "common/spread_directory.h"
#include "master/commands_internal.h"
#include "master/making.h"
#include "master/spread_internal.h"
#include "slave/spread.h"

#include <errno.h>
#include <event2/event.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { AGAIN_S = 1 };

enum operation_state { WAITING, ASKING, TELLING };

struct spread_operation {
	TAILQ_ENTRY(spread_operation) link;
	struct spreading *spreading;
	struct spread_call *call;
	enum operation_state state;
	uint32_t branch;
	uint64_t entry;   /* that it is about */
	bool is_repeated; /* the branch's node was lost meanwhile, and has forgotten what it did: it may be asked twice */
	bool is_made;	  /* by the first time: what it is will be known when the branch was checked */
	struct rpc_call inner; /* to the branch's owner; its reply is kept until the client has its own */
	uint8_t *record;
	struct spread_result result;
	uint64_t sequence; /* of the update that the devices are told */
};

/* Choosing */

static bool may_have(const struct spread_candidate *candidate)
{
	return candidate->weight && (!candidate->knows_room || candidate->free_bytes);
}

/* Is @a the better one? Rooms that are not known come last, and of equals the first one is as good. */
static bool has_more_room(const struct spread_candidate *a, const struct spread_candidate *b)
{
	return a->knows_room && (!b->knows_room || a->free_bytes > b->free_bytes);
}

static bool comes_first(const struct spread_candidate *a, const struct spread_candidate *b, uint32_t last)
{
	return (a->branch > last) != (b->branch > last) ? a->branch > last : a->branch < b->branch;
}

static bool has_less(const struct spread_candidate *a, const struct spread_candidate *b)
{
	return (a->entries + 1) * b->weight < (b->entries + 1) * a->weight;
}

static bool is_better(ns_spread_policy policy, const struct spread_candidate *a, const struct spread_candidate *b, uint32_t last)
{
	/* Whose node tells no room may be without its disk. */
	if (a->knows_room != b->knows_room)
		return a->knows_room;
	switch (policy) {
	case NS_SPREAD_ROUND_ROBIN:
		return comes_first(a, b, last);
	case NS_SPREAD_WEIGHT:
		return has_less(a, b);
	default:
		return has_more_room(a, b);
	}
}

const struct spread_candidate *spread_choose(ns_spread_policy policy, const struct spread_candidate *candidates, size_t count,
					     uint32_t last)
{
	const struct spread_candidate *best = NULL;

	for (size_t i = 0; i < count; i++)
		if (may_have(&candidates[i]) && (!best || is_better(policy, &candidates[i], best, last)))
			best = &candidates[i];
	return best;
}

/* What there is */

struct spread_tree *spreading_tree(struct spreading *spreading, uint32_t id)
{
	struct spread_tree *tree;

	LIST_FOREACH(tree, &spreading->trees, link)
		if (tree->id == id)
			return tree;
	return NULL;
}

struct spread *spreading_index(struct spreading *spreading, uint32_t id)
{
	return spreads_find(slave_spreads(master_slave(spreading->master)), id);
}

uint64_t spreading_next_id(struct spread_tree *tree)
{
	return ++tree->last_id;
}

int spreading_add_tree(struct spreading *spreading, uint32_t id)
{
	struct spread_tree *tree = calloc(1, sizeof(*tree));
	struct spread *index = spread_new();
	int rc = tree && index ? spread_store_load(spreading->store, id, index, &tree->last_id) : -ENOMEM;

	if (rc == 0) {
		spread_set_sequence(index, 1);
		if (!spread_changed_ns(index))
			spread_set_changed_ns(index, clock_wall_ns());
		rc = spreads_set(slave_spreads(master_slave(spreading->master)), id, index);
	}
	if (rc < 0) {
		spread_free(index);
		free(tree);
		return rc;
	}
	tree->id = id;
	LIST_INSERT_HEAD(&spreading->trees, tree, link);
	return 0;
}

void spreading_forget_tree(struct spreading *spreading, uint32_t id)
{
	struct spread_tree *tree = spreading_tree(spreading, id);

	if (!tree)
		return;
	LIST_REMOVE(tree, link);
	free(tree);
	spreads_set(slave_spreads(master_slave(spreading->master)), id, NULL);
}

struct spread_branch *spreading_branch(struct spreading *spreading, uint32_t id)
{
	struct spread_branch *branch;

	LIST_FOREACH(branch, &spreading->branches, link)
		if (branch->id == id)
			return branch;
	branch = calloc(1, sizeof(*branch));
	if (!branch)
		return NULL;
	branch->id = id;
	LIST_INSERT_HEAD(&spreading->branches, branch, link);
	return branch;
}

const ns_branch *spread_branch_item(struct spreading *spreading, const struct spread_branch *branch)
{
	const ns_branch *item;

	for (size_t at = 0; (item = namespace_next_branch(master_ns(spreading->master), &at));)
		if (item->id == branch->id)
			return item;
	return NULL;
}

const ns_volume *spread_branch_volume(struct spreading *spreading, const struct spread_branch *branch)
{
	const ns_branch *item = spread_branch_item(spreading, branch);

	return item ? namespace_volume_by_uuid(master_ns(spreading->master), (const uint8_t *)item->uuid) : NULL;
}

struct spread_branch *spread_branch_of_volume(struct spreading *spreading, uint32_t id)
{
	const ns_volume *volume = namespace_volume(master_ns(spreading->master), id);
	const ns_branch *item =
		volume ? namespace_branch_by_uuid(master_ns(spreading->master), (const uint8_t *)volume->uuid) : NULL;

	return item ? spreading_branch(spreading, item->id) : NULL;
}

/* Telling the devices */

static void send_update(struct spreading *spreading, struct spread_tree *tree, uint32_t node, const scp_message *message)
{
	const scp_spread_update *update = &message->scp_message_u.spread_update;

	/* What gets lost, the next update shows, and then all of it is asked for. One that is too old to know of it is not waited for. */
	if (scp_send(slave_scp(master_slave(spreading->master)), node, SCP_CONTROL, 0, message) == 0 && update->is_last)
		tree->told[node] = update->sequence;
}

static void send_to_all(struct spreading *spreading, struct spread_tree *tree, const scp_message *message)
{
	struct scp *scp = slave_scp(master_slave(spreading->master));
	const ns_node *node;

	for (size_t at = 0; (node = namespace_next_node(master_ns(spreading->master), &at));)
		if (node->id != NAMESPACE_MASTER && node->id < SPREAD_NODES && scp_is_up(scp, node->id, SCP_CONTROL))
			send_update(spreading, tree, node->id, message);
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* A change that fits into one message. */
static int tell_some(struct spreading *spreading, struct spread_tree *tree, const struct spread_news *news)
{
	struct spread *index = spreading_index(spreading, tree->id);
	uint64_t now_ns = clock_wall_ns(), changed_ns = spread_changed_ns(index);
	scp_message message = { .type = SCP_SPREAD_UPDATE };
	scp_spread_update *update = &message.scp_message_u.spread_update;
	int rc;

	/* Always forward: clients see by it that there is something new. */
	changed_ns = now_ns > changed_ns ? now_ns : changed_ns + 1;
	update->spread = tree->id;
	update->sequence = spread_sequence(index) + 1;
	update->changed_ns = changed_ns;
	update->is_last = true;
	update->put.put_val = calloc(news->put_count + 1, sizeof(scp_spread_entry));
	if (!update->put.put_val)
		return -ENOMEM;
	spread_store_begin(spreading->store);
	for (size_t i = 0; i < news->removed_count; i++)
		spread_store_remove(spreading->store, tree->id, news->removed[i]);
	for (size_t i = 0; i < news->put_count; i++) {
		spread_store_put(spreading->store, tree->id, &news->put[i]);
		spread_entry_to_wire(&news->put[i], &update->put.put_val[update->put.put_len++]);
	}
	spread_store_changed(spreading->store, tree->id, changed_ns);
	update->removed.removed_val = (uint64_t *)(uintptr_t)news->removed;
	update->removed.removed_len = (u_int)news->removed_count;
	rc = spread_store_end(spreading->store);
	if (rc == 0)
		send_to_all(spreading, tree, &message);
	free(update->put.put_val);
	/* Now what is borrowed may be replaced. */
	for (size_t i = 0; rc == 0 && i < news->removed_count; i++)
		spread_remove(index, news->removed[i]);
	for (size_t i = 0; rc == 0 && i < news->put_count; i++)
		rc = spread_put(index, &news->put[i]);
	if (rc < 0)
		return rc;
	spread_set_changed_ns(index, changed_ns);
	spread_set_sequence(index, update->sequence);
	return 0;
}

int spreading_tell(struct spreading *spreading, struct spread_tree *tree, const struct spread_news *news)
{
	struct spread_news rest = *news;
	int rc = 0;

	while (rc == 0 && (rest.put_count || rest.removed_count)) {
		const struct spread_news some = {
			.put = rest.put,
			.put_count = least(rest.put_count, SCP_SPREAD_ENTRIES_MAX),
			.removed = rest.removed,
			.removed_count = least(rest.removed_count, SCP_SPREAD_ENTRIES_MAX),
		};

		rc = tell_some(spreading, tree, &some);
		rest.put += some.put_count;
		rest.put_count -= some.put_count;
		rest.removed += some.removed_count;
		rest.removed_count -= some.removed_count;
	}
	return rc;
}

/* All that is there, in as many messages as that takes. */
static void send_whole(struct spreading *spreading, struct spread_tree *tree, uint32_t node)
{
	const struct spread *index = spreading_index(spreading, tree->id);
	scp_spread_entry *entries = calloc(SCP_SPREAD_ENTRIES_MAX, sizeof(*entries));
	const struct spread_entry *entry = spread_after(index, 0);
	scp_message message = { .type = SCP_SPREAD_UPDATE };
	scp_spread_update *update = &message.scp_message_u.spread_update;

	tree->told[node] = tree->reached[node] = 0;
	update->spread = tree->id;
	update->sequence = spread_sequence(index);
	update->changed_ns = spread_changed_ns(index);
	update->put.put_val = entries;
	update->is_first = true;
	while (entries && !update->is_last) {
		for (update->put.put_len = 0; entry && update->put.put_len < SCP_SPREAD_ENTRIES_MAX; entry = spread_after(index, entry->id))
			spread_entry_to_wire(entry, &entries[update->put.put_len++]);
		update->is_last = !entry;
		send_update(spreading, tree, node, &message);
		update->is_first = false;
	}
	free(entries);
}

void spreading_send(struct spreading *spreading, uint32_t id)
{
	struct spread_tree *tree = spreading_tree(spreading, id);
	struct scp *scp = slave_scp(master_slave(spreading->master));

	for (uint32_t node = NAMESPACE_MASTER + 1; tree && node < SPREAD_NODES; node++)
		if (scp_is_up(scp, node, SCP_CONTROL))
			send_whole(spreading, tree, node);
}

/* Calls */

static void operation_free(struct spread_operation *operation)
{
	TAILQ_REMOVE(&operation->spreading->operations, operation, link);
	spreading_go_on(operation->spreading);
	rpc_call_fini(&operation->inner);
	free(operation->record);
	free(operation);
}

static const struct stat *look(struct spreading *spreading, uint32_t id, struct stat *st)
{
	return spread_directory_stat(slave_spreads(master_slave(spreading->master)), id, st) == 0 ? st : NULL;
}

static void operation_fail(struct spread_operation *operation, int err)
{
	struct stat st;

	spread_call_fail(operation->call, err, look(operation->spreading, operation->call->spread, &st));
	operation_free(operation);
}

static void operation_answer(struct spread_operation *operation)
{
	struct stat st;

	spread_call_answer(operation->call, &operation->result, look(operation->spreading, operation->call->spread, &st));
	operation_free(operation);
}

static void operation_drop(struct spread_operation *operation)
{
	spread_call_drop(operation->call);
	operation_free(operation);
}

/* Do all devices that the master has a session with know of it? One whose session ends is not waited for. */
static bool is_known(struct spreading *spreading, const struct spread_tree *tree, uint64_t sequence)
{
	struct scp *scp = slave_scp(master_slave(spreading->master));

	for (uint32_t node = NAMESPACE_MASTER + 1; node < SPREAD_NODES; node++)
		if (tree->told[node] >= sequence && tree->reached[node] < sequence && scp_is_up(scp, node, SCP_CONTROL))
			return false;
	return true;
}

static bool is_told(struct spread_operation *operation)
{
	const struct spread_tree *tree = spreading_tree(operation->spreading, operation->call->spread);

	return operation->state == TELLING && (!tree || is_known(operation->spreading, tree, operation->sequence));
}

static void answer_told(struct spreading *spreading)
{
	struct spread_operation *operation, *next;

	for (operation = TAILQ_FIRST(&spreading->operations); operation; operation = next) {
		next = TAILQ_NEXT(operation, link);
		if (is_told(operation))
			operation_answer(operation);
	}
}

/* The branch has done it, and the index says so: when all know, so does the client. */
static void operation_tell(struct spread_operation *operation)
{
	operation->state = TELLING;
	operation->sequence = spread_sequence(spreading_index(operation->spreading, operation->call->spread));
	if (is_told(operation))
		operation_answer(operation);
}

/* The branch knows better than the index. */
static void recheck(struct spread_operation *operation)
{
	struct spread_branch *branch = spreading_branch(operation->spreading, operation->branch);

	/* Who would be asked may be gone by then; what is in doubt, the next life of the daemon checks. */
	if (branch && !operation->spreading->is_stopping)
		spread_check_want(operation->spreading, branch);
}

/*
 * What is in its way the call has done itself, the first time: the name was free, or was there, and nobody else changes it. The owner would
 * say so if it had not forgotten.
 */
static bool has_done_it(struct spread_operation *operation)
{
	uint32_t status = operation->result.status;

	return operation->is_repeated && status == (operation->call->kind == SPREAD_CALL_MAKE ? NFS3ERR_EXIST : NFS3ERR_NOENT);
}

static int finish_make(struct spread_operation *operation, struct spread_tree *tree)
{
	const struct spread_result *result = &operation->result;
	const struct spread_entry made = {
		.id = operation->entry,
		.name = operation->call->name,
		.is_there = true,
		.type = result->type,
		.fileid = result->fileid,
		.handle = result->handle,
	};
	const struct spread_entry *known = spread_by_name(spreading_index(operation->spreading, tree->id), operation->call->name);

	if (result->status == NFS3_OK && result->has_made)
		return spreading_tell(operation->spreading, tree, &(struct spread_news){ .put = &made, .put_count = 1 });
	if (result->status == NFS3ERR_EXIST && known && known->is_there)
		return 0; /* the branch and the index agree */
	if (result->status == NFS3_OK || result->status == NFS3ERR_EXIST) {
		operation->is_made = known && !known->is_there && has_done_it(operation);
		recheck(operation); /* there is something, of which nothing is known */
	} else if (known && !known->is_there) {
		return spreading_tell(operation->spreading, tree, &(struct spread_news){ .removed = &operation->entry, .removed_count = 1 });
	}
	return 0;
}

static int finish_remove(struct spread_operation *operation, struct spread_tree *tree)
{
	if (operation->result.status != NFS3_OK && operation->result.status != NFS3ERR_NOENT)
		return 0;
	if (has_done_it(operation))
		operation->result.status = NFS3_OK;
	return spreading_tell(operation->spreading, tree, &(struct spread_news){ .removed = &operation->entry, .removed_count = 1 });
}

/* Two names of one file: nothing is done; RFC 1813, RENAME. Whether they are the branch knows. */
static int finish_rename(struct spread_operation *operation, struct spread_tree *tree)
{
	struct spread *index = spreading_index(operation->spreading, tree->id);
	const struct spread_entry *known = spread_by_name(index, operation->call->name);
	const struct spread_entry *there = spread_by_name(index, operation->call->to);
	struct spread_entry moved;

	if (has_done_it(operation))
		operation->result.status = NFS3_OK;
	if (operation->result.status == NFS3ERR_NOENT)
		recheck(operation);
	if (operation->result.status != NFS3_OK || !known || (there && there->fileid == known->fileid))
		return 0;
	moved = *known;
	moved.name = operation->call->to;
	return spreading_tell(operation->spreading, tree, &(struct spread_news){ .put = &moved, .put_count = 1 });
}

static int finish(struct spread_operation *operation, struct spread_tree *tree)
{
	switch (operation->call->kind) {
	case SPREAD_CALL_MAKE:
		return finish_make(operation, tree);
	case SPREAD_CALL_REMOVE:
		return finish_remove(operation, tree);
	case SPREAD_CALL_RENAME:
		return finish_rename(operation, tree);
	}
	return 0;
}

/* Until the branch was checked: start_made() */
static void operation_wait(struct spread_operation *operation)
{
	operation->state = WAITING;
	rpc_call_fini(&operation->inner);
	free(operation->record);
	operation->record = NULL;
}

/* The branch's owner has answered, or nobody knows. */
static void operation_answered(struct spread_operation *operation)
{
	struct spreading *spreading = operation->spreading;
	struct spread_tree *tree = spreading_tree(spreading, operation->call->spread);
	const struct rpc_call *inner = &operation->inner;
	bool is_open = !inner->reply_len || spreading->is_stopping || !tree ||
		       spread_call_result(operation->call, inner->reply + RPC_REPLY_HEADROOM, inner->reply_len, &operation->result) < 0;

	if (!is_open && finish(operation, tree) < 0) {
		recheck(operation); /* it is done, and not on record */
		is_open = true;
	} else if (is_open) {
		recheck(operation);
	}
	if (is_open)
		operation_drop(operation);
	else if (operation->is_made)
		operation_wait(operation);
	else
		operation_tell(operation);
}

static void on_answered(struct rpc_call *call)
{
	struct spread_operation *operation = (struct spread_operation *)((char *)call - offsetof(struct spread_operation, inner));
	struct spreading *spreading = operation->spreading;
	struct spread_branch *branch = spreading_branch(spreading, operation->branch);

	if (branch)
		branch->calls--;
	operation_answered(operation);
	if (branch && !spreading->is_stopping)
		spread_check_try(spreading, branch);
}

static int ask(struct spread_operation *operation, struct spread_branch *branch, const ns_volume *volume)
{
	const struct rpc_call *from = operation->call->call;
	struct rpc_call *inner = &operation->inner;
	struct handle root = namespace_volume_root(volume);
	size_t len;
	int rc = spread_call_compose(operation->call, &root, &operation->record, &len);

	if (rc < 0)
		return rc;
	*inner = (struct rpc_call){
		.record = operation->record,
		.record_len = len,
		.transport = RPC_RELAYED,
		.may_be_repeated = from->may_be_repeated,
		.client = from->client,
		.server = from->server,
		.done = on_answered,
		.xid = from->xid,
		.program = from->program,
		.version = from->version,
		.procedure = from->procedure,
	};
	operation->state = ASKING;
	operation->is_repeated = operation->is_made = false;
	operation->branch = branch->id;
	branch->calls++;
	slave_carry(master_slave(operation->spreading->master), volume->node, inner);
	return 0;
}

/* Where something new goes */

static uint64_t count_entries(const struct spread *index, uint32_t volume)
{
	const struct spread_entry *entry;
	uint64_t count = 0;

	for (uint64_t id = 0; (entry = spread_after(index, id)); id = entry->id)
		count += entry->handle.volume == volume;
	return count;
}

static struct spread_candidate candidate_of(struct spreading *spreading, const ns_branch *item, const ns_volume *volume,
					    ns_spread_policy policy)
{
	const ns_volume *on = namespace_volume_by_uuid(master_ns(spreading->master), (const uint8_t *)item->on);
	struct spread_candidate candidate = { .branch = item->id, .weight = item->weight };

	if (on)
		candidate.knows_room = making_room(spreading->master, on, &candidate.free_bytes);
	if (policy == NS_SPREAD_WEIGHT)
		candidate.entries = count_entries(spreading_index(spreading, item->spread), volume->id);
	return candidate;
}

/* 0; -EAGAIN: one that will be checked soon may have it; -EINPROGRESS: nobody is there; -ENOSPC */
static int choose(struct spreading *spreading, struct spread_tree *tree, struct spread_branch **out)
{
	const ns_spread *spread = namespace_spread(master_ns(spreading->master), tree->id);
	struct spread_candidate candidates[NAMESPACE_BRANCHES_MAX];
	const struct spread_candidate *best;
	const ns_branch *item;
	size_t count = 0;
	bool is_soon = false;

	for (size_t at = 0; spread && (item = namespace_next_branch(master_ns(spreading->master), &at));) {
		struct spread_branch *branch = item->spread == tree->id ? spreading_branch(spreading, item->id) : NULL;
		const ns_volume *volume = branch ? spread_branch_volume(spreading, branch) : NULL;

		if (!volume || !making_may_work(spreading->master, volume->node))
			continue;
		is_soon |= branch->state == SPREAD_TO_CHECK || branch->state == SPREAD_CHECKING;
		if (branch->state == SPREAD_READY)
			candidates[count++] = candidate_of(spreading, item, volume, spread->policy);
	}
	best = count ? spread_choose(spread->policy, candidates, count, tree->last_branch) : NULL;
	if (!best)
		return is_soon ? -EAGAIN : count ? -ENOSPC : -EINPROGRESS;
	tree->last_branch = best->branch;
	*out = spreading_branch(spreading, best->branch);
	return 0;
}

/* Durable against the end of this daemon before the branch is asked. Devices need not know. */
static int reserve(struct spread_operation *operation, struct spread_tree *tree, const ns_volume *volume)
{
	struct spreading *spreading = operation->spreading;
	const struct spread_entry entry = {
		.id = spreading_next_id(tree),
		.name = operation->call->name,
		.handle = namespace_volume_root(volume),
	};
	int rc = spread_entries(spreading_index(spreading, tree->id)) < SPREAD_ENTRIES_MAX ? 0 : -ENOSPC;

	if (rc == 0)
		rc = spread_store_put(spreading->store, tree->id, &entry);
	if (rc == 0)
		rc = spread_put(spreading_index(spreading, tree->id), &entry);
	operation->entry = entry.id;
	return rc;
}

/* The branch that a known entry is on. 0; -EAGAIN; -EINPROGRESS */
static int find_branch(struct spreading *spreading, const struct spread_entry *entry, struct spread_branch **out)
{
	struct spread_branch *branch = spread_branch_of_volume(spreading, entry->handle.volume);

	if (!branch || branch->state == SPREAD_AWAY)
		return -EINPROGRESS;
	if (branch->state != SPREAD_READY)
		return -EAGAIN;
	*out = branch;
	return 0;
}

/* What it has made the check has found. */
static void start_made(struct spread_operation *operation, const struct spread_entry *made)
{
	spread_call_found(operation->call, &made->handle, &operation->result);
	operation_tell(operation);
}

static int start_make(struct spread_operation *operation, struct spread_tree *tree, struct spread_branch **branch)
{
	const struct spread_entry *known = spread_by_name(spreading_index(operation->spreading, tree->id), operation->call->name);
	int rc;

	if (known) {
		operation->entry = known->id;
		rc = find_branch(operation->spreading, known, branch);
		if (rc == 0 && operation->is_made && known->is_there) {
			start_made(operation, known);
			return -EALREADY;
		}
		return rc;
	}
	rc = choose(operation->spreading, tree, branch);
	return rc < 0 ? rc : reserve(operation, tree, spread_branch_volume(operation->spreading, *branch));
}

static int start_remove(struct spread_operation *operation, struct spread_tree *tree, struct spread_branch **branch)
{
	const struct spread_entry *known = spread_by_name(spreading_index(operation->spreading, tree->id), operation->call->name);

	if (!known)
		return -ENOENT;
	operation->entry = known->id;
	return find_branch(operation->spreading, known, branch);
}

static int start_rename(struct spread_operation *operation, struct spread_tree *tree, struct spread_branch **branch)
{
	const struct spread_entry *there = spread_by_name(spreading_index(operation->spreading, tree->id), operation->call->to);
	int rc = start_remove(operation, tree, branch);

	if (rc == 0 && there && spread_branch_of_volume(operation->spreading, there->handle.volume) != *branch)
		rc = -EXDEV;
	return rc;
}

/* 0, -EALREADY: it is on its way, and may have ended; -EAGAIN: it is to wait */
static int start(struct spread_operation *operation)
{
	struct spread_tree *tree = spreading_tree(operation->spreading, operation->call->spread);
	struct spread_branch *branch = NULL;
	int rc = -ESTALE;

	if (tree && operation->call->kind == SPREAD_CALL_MAKE)
		rc = start_make(operation, tree, &branch);
	else if (tree && operation->call->kind == SPREAD_CALL_REMOVE)
		rc = start_remove(operation, tree, &branch);
	else if (tree)
		rc = start_rename(operation, tree, &branch);
	return rc < 0 ? rc : ask(operation, branch, spread_branch_volume(operation->spreading, branch));
}

static bool has_name(const struct spread_call *call, const char *name)
{
	return *name && (strcmp(call->name, name) == 0 || strcmp(call->to, name) == 0);
}

/* Is there an earlier one that uses a name of it? */
static bool is_blocked(const struct spread_operation *operation)
{
	const struct spread_call *call = operation->call;
	const struct spread_operation *other;

	TAILQ_FOREACH(other, &operation->spreading->operations, link) {
		if (other == operation)
			return false;
		if (other->call->spread == call->spread && (has_name(other->call, call->name) || has_name(other->call, call->to)))
			return true;
	}
	return false;
}

/* Return: whether it has gone on: it may be gone */
static bool try_to_start(struct spread_operation *operation)
{
	int rc = is_blocked(operation) ? -EAGAIN : start(operation);

	if (rc < 0 && rc != -EAGAIN && rc != -EALREADY)
		operation_fail(operation, rc);
	return rc != -EAGAIN;
}

static void on_go_on(evutil_socket_t fd, short what, void *arg)
{
	struct spreading *spreading = arg;
	struct spread_operation *operation, *next;

	(void)fd, (void)what;
	answer_told(spreading);
	/* What ends meanwhile is this one only: others end by events. */
	for (operation = TAILQ_FIRST(&spreading->operations); operation; operation = next) {
		next = TAILQ_NEXT(operation, link);
		if (operation->state == WAITING)
			try_to_start(operation);
	}
}

void spreading_go_on(struct spreading *spreading)
{
	if (!spreading->is_stopping)
		event_active(spreading->go_on, 0, 0);
}

void spreading_change(struct spreading *spreading, struct spread_call *call)
{
	struct spread_operation *operation = spreading->is_stopping ? NULL : calloc(1, sizeof(*operation));

	if (!operation) {
		spread_call_drop(call);
		return;
	}
	operation->spreading = spreading;
	operation->call = call;
	TAILQ_INSERT_TAIL(&spreading->operations, operation, link);
	try_to_start(operation);
}

/* Events */

void spreading_node_up(struct spreading *spreading, uint32_t node)
{
	struct spread_tree *tree;

	LIST_FOREACH(tree, &spreading->trees, link)
		send_whole(spreading, tree, node % SPREAD_NODES);
}

void spreading_node_down(struct spreading *spreading, uint32_t node)
{
	struct spread_operation *operation;
	struct spread_branch *branch;

	LIST_FOREACH(branch, &spreading->branches, link) {
		const ns_volume *volume = spread_branch_volume(spreading, branch);

		if (!volume || volume->node != node)
			continue;
		TAILQ_FOREACH(operation, &spreading->operations, link)
			operation->is_repeated |= operation->state == ASKING && operation->branch == branch->id;
		spread_check_leave(spreading, branch);
	}
	spreading_go_on(spreading);
}

bool spreading_offered(struct spreading *spreading, const uint8_t uuid[static NS_UUID_BYTES])
{
	const ns_branch *item = namespace_branch_by_uuid(master_ns(spreading->master), uuid);
	struct spread_branch *branch = item ? spreading_branch(spreading, item->id) : NULL;

	if (branch)
		spread_check_want(spreading, branch);
	return item;
}

static void received_reached(struct spreading *spreading, uint32_t node, const scp_spread_reached *reached)
{
	struct spread_tree *tree = spreading_tree(spreading, reached->spread);

	if (!tree)
		return;
	if (reached->is_lost && reached->sequence > tree->reached[node])
		send_whole(spreading, tree, node);
	else if (!reached->is_lost)
		tree->reached[node] = reached->sequence;
	spreading_go_on(spreading);
}

void spreading_received(struct spreading *spreading, uint32_t node, uint32_t request, const scp_message *message)
{
	if (node >= SPREAD_NODES)
		return;
	if (message->type == SCP_SPREAD_REACHED)
		received_reached(spreading, node, &message->scp_message_u.spread_reached);
	else if (message->type == SCP_SPREAD_LISTING)
		spread_check_received(spreading, node, request, &message->scp_message_u.spread_listing);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	spread_check_again(arg);
}

/* Life */

int spreading_new(struct master *master, const char *path, struct spreading **out)
{
	struct spreading *spreading = calloc(1, sizeof(*spreading));
	int rc;

	if (!spreading)
		return -ENOMEM;
	spreading->master = master;
	LIST_INIT(&spreading->trees);
	LIST_INIT(&spreading->branches);
	LIST_INIT(&spreading->inquiries);
	TAILQ_INIT(&spreading->operations);
	spreading->go_on = event_new(master_base(master), -1, 0, on_go_on, spreading);
	spreading->again = event_new(master_base(master), -1, EV_PERSIST, on_again, spreading);
	rc = spreading->go_on && spreading->again ? spread_store_open(path, &spreading->store) : -ENOMEM;
	if (rc < 0) {
		spreading_free(spreading);
		return rc;
	}
	*out = spreading;
	return 0;
}

int spreading_start(struct spreading *spreading)
{
	const ns_spread *spread;
	const ns_branch *item;
	int rc = 0;

	for (size_t at = 0; rc == 0 && (spread = namespace_next_spread(master_ns(spreading->master), &at));)
		rc = spreading_add_tree(spreading, spread->id);
	for (size_t at = 0; rc == 0 && (item = namespace_next_branch(master_ns(spreading->master), &at));)
		rc = spreading_branch(spreading, item->id) ? 0 : -ENOMEM;
	if (rc == 0)
		event_add(spreading->again, &(struct timeval){ .tv_sec = AGAIN_S });
	return rc;
}

void spreading_stop(struct spreading *spreading)
{
	struct spread_operation *operation, *next;

	spreading->is_stopping = true;
	for (operation = TAILQ_FIRST(&spreading->operations); operation; operation = next) {
		next = TAILQ_NEXT(operation, link);
		if (operation->state != ASKING) /* those are answered by whoever was asked, or has asked */
			operation_drop(operation);
	}
	spread_commands_stop(spreading);
}

void spreading_free(struct spreading *spreading)
{
	struct spread_branch *branch;
	struct spread_tree *tree;

	if (!spreading)
		return;
	while ((branch = LIST_FIRST(&spreading->branches))) {
		LIST_REMOVE(branch, link);
		spread_free(branch->seen);
		free(branch);
	}
	while ((tree = LIST_FIRST(&spreading->trees))) {
		LIST_REMOVE(tree, link);
		free(tree);
	}
	if (spreading->go_on)
		event_free(spreading->go_on);
	if (spreading->again)
		event_free(spreading->again);
	spread_store_close(spreading->store);
	free(spreading);
}
