/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A branch compared with the index, which is made to agree: nothing is ever removed from the branch.
 *
 *	         offered, or in doubt        no calls under way          listed to the end
 *	AWAY -----------------------> TO_CHECK -----------> CHECKING ----------------------> READY
 *	 ^  ^                                                  |                               |
 *	 |  +--------------- it can't be read: again in a second                              |
 *	 +---------------------------- its node is lost -------------------------------------+
 *
 *	on the branch    in the index              then
 *	yes              no                        it is added
 *	yes              on another branch         nothing: it stays where it is, is not shown, and an administrator is told
 *	yes              reserved, or different    the index has what the branch has
 *	no               yes                       it is taken out
 */
#include "config.h"

#include "common/log.h"
#include "master/commands_internal.h"
#include "master/spread_internal.h"
#include "slave/spread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What is to be told after a check. */
struct findings {
	struct spread_entry *put;
	uint64_t *removed;
	size_t put_count, removed_count, room;
};

static void forget_seen(struct spread_branch *branch)
{
	spread_free(branch->seen);
	branch->seen = NULL;
}

static void set_state(struct spreading *spreading, struct spread_branch *branch, enum spread_branch_state state)
{
	branch->state = state;
	if (state != SPREAD_CHECKING)
		forget_seen(branch);
	if (state == SPREAD_READY || state == SPREAD_AWAY) {
		spread_commands_checked(spreading, branch);
		spreading_go_on(spreading);
	}
}

void spread_check_leave(struct spreading *spreading, struct spread_branch *branch)
{
	set_state(spreading, branch, SPREAD_AWAY);
}

/* Asking */

static void received(struct spreading *spreading, struct spread_branch *branch, const scp_spread_listing *listing);

/* Of a branch of the master's own: as the message, with its number. */
struct own_question {
	struct spreading *spreading;
	uint32_t request;
};

static void on_own_listing(const scp_spread_listing *listing, void *arg)
{
	struct own_question *question = arg;
	struct spreading *spreading = question->spreading;
	struct spread_branch *branch = spread_branch_of_volume(spreading, listing->volume);

	if (branch && branch->state == SPREAD_CHECKING && branch->request == question->request && !spreading->is_stopping)
		received(spreading, branch, listing);
	free(question);
}

static int ask_own(struct spreading *spreading, uint32_t request, const scp_spread_list *wanted)
{
	struct own_question *question = malloc(sizeof(*question));

	if (!question)
		return -ENOMEM;
	*question = (struct own_question){ spreading, request };
	spread_follower_list(slave_spread_follower(master_slave(spreading->master)), wanted, on_own_listing, question);
	return 0;
}

static int ask(struct spreading *spreading, struct spread_branch *branch, uint64_t cookie)
{
	struct slave *slave = master_slave(spreading->master);
	const ns_volume *volume = spread_branch_volume(spreading, branch);
	scp_message message = { .type = SCP_SPREAD_LIST };
	scp_spread_list *wanted = &message.scp_message_u.spread_list;

	if (!volume)
		return -ENODEV;
	wanted->volume = volume->id;
	wanted->cookie = cookie;
	branch->request = scp_next_request(slave_scp(slave));
	if (volume->node == NAMESPACE_MASTER)
		return ask_own(spreading, branch->request, wanted);
	return scp_send(slave_scp(slave), volume->node, SCP_CONTROL, branch->request, &message);
}

void spread_check_try(struct spreading *spreading, struct spread_branch *branch)
{
	if (branch->state != SPREAD_TO_CHECK || branch->calls)
		return;
	branch->seen = spread_new();
	branch->seen_id = 0;
	branch->state = SPREAD_CHECKING;
	if (!branch->seen || ask(spreading, branch, 0) < 0)
		set_state(spreading, branch, SPREAD_AWAY);
}

void spread_check_want(struct spreading *spreading, struct spread_branch *branch)
{
	forget_seen(branch); /* what was listed may be older than what is in doubt */
	branch->request = 0;
	branch->state = SPREAD_TO_CHECK;
	spread_check_try(spreading, branch);
}

void spread_check_again(struct spreading *spreading)
{
	struct spread_branch *branch;

	LIST_FOREACH(branch, &spreading->branches, link) {
		const ns_volume *volume = branch->state == SPREAD_AWAY ? spread_branch_volume(spreading, branch) : NULL;

		if (volume && commands_node_is_up(spreading->master, volume->node))
			spread_check_want(spreading, branch);
	}
}

/* Comparing */

static bool is_same(const struct spread_entry *a, const struct spread_entry *b)
{
	return a->is_there == b->is_there && a->type == b->type && a->fileid == b->fileid &&
	       a->handle.backend_type == b->handle.backend_type && a->handle.backend_len == b->handle.backend_len &&
	       memcmp(a->handle.backend, b->handle.backend, a->handle.backend_len) == 0;
}

static void put(struct findings *findings, const struct spread_entry *seen, uint64_t id)
{
	struct spread_entry *entry = &findings->put[findings->put_count++];

	*entry = *seen;
	entry->id = id;
}

/* What the index has of the branch, and is not there, or not like that. */
static void compare_index(struct spreading *spreading, struct spread_branch *branch, const ns_volume *volume, uint32_t tree,
			  struct findings *findings)
{
	const struct spread_entry *entry, *seen;

	for (uint64_t id = 0; (entry = spread_after(spreading_index(spreading, tree), id)); id = entry->id) {
		if (entry->handle.volume != volume->id)
			continue;
		seen = spread_by_name(branch->seen, entry->name);
		if (!seen)
			findings->removed[findings->removed_count++] = entry->id;
		else if (!is_same(entry, seen))
			put(findings, seen, entry->id);
	}
}

/* What is on the branch, and the index has not. */
static void compare_branch(struct spreading *spreading, struct spread_branch *branch, struct spread_tree *tree, struct findings *findings)
{
	const struct spread_entry *known, *seen;

	branch->conflicts = 0;
	for (uint64_t id = 0; (seen = spread_after(branch->seen, id)); id = seen->id) {
		known = spread_by_name(spreading_index(spreading, tree->id), seen->name);
		if (!known) {
			put(findings, seen, spreading_next_id(tree));
		} else if (known->handle.volume != seen->handle.volume) {
			branch->conflicts++;
			log_err("spread", "spread=%u name=%s is on volume %u, too, where clients don't see it; rename one of them there",
				tree->id, seen->name, seen->handle.volume);
		}
	}
}

static int findings_init(struct findings *findings, size_t room)
{
	*findings = (struct findings){ .room = room };
	findings->put = calloc(room + 1, sizeof(*findings->put));
	findings->removed = calloc(room + 1, sizeof(*findings->removed));
	return findings->put && findings->removed ? 0 : -ENOMEM;
}

static int compare(struct spreading *spreading, struct spread_branch *branch)
{
	const ns_branch *item = spread_branch_item(spreading, branch);
	const ns_volume *volume = spread_branch_volume(spreading, branch);
	struct spread_tree *tree = item ? spreading_tree(spreading, item->spread) : NULL;
	struct findings findings = { 0 };
	int rc = tree && volume ? 0 : -ENODEV;

	if (rc == 0)
		rc = findings_init(&findings, spread_entries(branch->seen) + spread_entries(spreading_index(spreading, tree->id)));
	if (rc == 0) {
		compare_index(spreading, branch, volume, tree->id, &findings);
		compare_branch(spreading, branch, tree, &findings);
		rc = spreading_tell(spreading, tree, &(struct spread_news){ findings.put, findings.put_count, findings.removed,
									    findings.removed_count });
	}
	if (rc == 0) {
		branch->found = findings.put_count;
		branch->gone = findings.removed_count;
		if (findings.put_count || findings.removed_count)
			log_info("spread", "spread=%u volume=%u entries=%zu learned=%zu gone=%zu", tree->id, volume->id,
				 spread_entries(branch->seen), findings.put_count, findings.removed_count);
	}
	free(findings.put);
	free(findings.removed);
	return rc;
}

static int note(struct spread_branch *branch, const scp_spread_listing *listing)
{
	struct spread_entry entry;
	int rc = -(listing->result > 0 ? listing->result : 0);

	for (u_int i = 0; rc == 0 && i < listing->entries.entries_len; i++) {
		rc = spread_entry_from_wire(&listing->entries.entries_val[i], &entry);
		entry.id = ++branch->seen_id;
		if (rc == 0 && entry.handle.volume != listing->volume)
			rc = -EINVAL;
		if (rc == 0)
			rc = spread_put(branch->seen, &entry);
	}
	return rc;
}

static void received(struct spreading *spreading, struct spread_branch *branch, const scp_spread_listing *listing)
{
	int rc = note(branch, listing);

	if (rc == 0 && !listing->is_last)
		rc = ask(spreading, branch, listing->cookie);
	else if (rc == 0)
		rc = compare(spreading, branch);
	if (rc < 0)
		log_debug("spread", "volume=%u can't be compared: %s; it is tried again", listing->volume, strerror(-rc));
	if (rc < 0 || listing->is_last)
		set_state(spreading, branch, rc < 0 ? SPREAD_AWAY : SPREAD_READY);
}

void spread_check_received(struct spreading *spreading, uint32_t node, uint32_t request, const scp_spread_listing *listing)
{
	struct spread_branch *branch = spread_branch_of_volume(spreading, listing->volume);
	const ns_volume *volume = branch ? spread_branch_volume(spreading, branch) : NULL;

	if (volume && volume->node == node && branch->state == SPREAD_CHECKING && branch->request == request)
		received(spreading, branch, listing);
}
