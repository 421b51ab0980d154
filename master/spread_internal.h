/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/spread_internal.h - what the files of spread directories share
 *
 * spread.c		calls, and what devices are told
 * spread_check.c	branches compared with the index
 * spread_commands.c	nasctl spread, nasctl volume check
 */
#ifndef VNAS_MASTER_SPREAD_INTERNAL_H
#define VNAS_MASTER_SPREAD_INTERNAL_H

#include "master/spread.h"

#include "common/spread.h"
#include "master/spread_store.h"

#include <sys/queue.h>

enum { SPREAD_NODES = 256 };

/* What a branch is good for: */
enum spread_branch_state {
	SPREAD_AWAY,     /* nobody can be asked; or its disk is not there */
	SPREAD_TO_CHECK, /* as soon as what is under way there has ended */
	SPREAD_CHECKING,
	SPREAD_READY,    /* the only state in which calls are sent to it */
};

struct spread_branch {
	LIST_ENTRY(spread_branch) link;
	uint32_t id;
	enum spread_branch_state state;
	unsigned int calls; /* under way */

	/* While it is checked. */
	uint32_t request;
	struct spread *seen; /* by name */
	uint64_t seen_id;

	/* Of the last check. */
	uint64_t found, gone, conflicts;
};

/* One directory. */
struct spread_tree {
	LIST_ENTRY(spread_tree) link;
	uint32_t id;
	uint64_t last_id;     /* of an entry */
	uint32_t last_branch; /* that got a new one */
	uint64_t told[SPREAD_NODES];    /* the last update that a device was sent; 0: none */
	uint64_t reached[SPREAD_NODES]; /* that it has said it has */
};

struct spread_operation;
struct spread_inquiry; /* spread_commands.c's: who waits for checks */

struct spreading {
	struct master *master;
	struct spread_store *store;
	LIST_HEAD(, spread_tree) trees;
	LIST_HEAD(, spread_branch) branches;
	TAILQ_HEAD(, spread_operation) operations; /* in the order in which they came */
	struct event *go_on;
	struct event *again; /* each second: branches that are away */
	bool is_stopping;
	LIST_HEAD(, spread_inquiry) inquiries;
};

/* What is new in a directory, and what is gone. Names are borrowed. */
struct spread_news {
	const struct spread_entry *put;
	size_t put_count;
	const uint64_t *removed;
	size_t removed_count;
};

/* The index follows, in the store and here; devices are told. 0; -EIO: nothing has changed; -ENOMEM */
int spreading_tell(struct spreading *spreading, struct spread_tree *tree, const struct spread_news *news);

/* A directory is new: all devices are told of it. */
void spreading_send(struct spreading *spreading, uint32_t id);

struct spread_tree *spreading_tree(struct spreading *spreading, uint32_t id);
struct spread *spreading_index(struct spreading *spreading, uint32_t id);
uint64_t spreading_next_id(struct spread_tree *tree);

/* A directory or a branch is new in the name space. -ENOMEM, -EIO */
int spreading_add_tree(struct spreading *spreading, uint32_t id);
/* Before the directory leaves the name space: nothing is in it. Nothing happens if there is no such directory. */
void spreading_forget_tree(struct spreading *spreading, uint32_t id);
struct spread_branch *spreading_branch(struct spreading *spreading, uint32_t id); /* NULL: no memory for a new one */

const ns_branch *spread_branch_item(struct spreading *spreading, const struct spread_branch *branch);
/* NULL: it was not offered yet */
const ns_volume *spread_branch_volume(struct spreading *spreading, const struct spread_branch *branch);
/* Of that volume; NULL if it is none, or there is no memory */
struct spread_branch *spread_branch_of_volume(struct spreading *spreading, uint32_t volume);

/* Whoever waits may go on. Later, not now. */
void spreading_go_on(struct spreading *spreading);

/* --- spread_check.c --- */

/* It is to be compared with the index. Calls for it wait until it is. */
void spread_check_want(struct spreading *spreading, struct spread_branch *branch);

/* A call has ended there. */
void spread_check_try(struct spreading *spreading, struct spread_branch *branch);

/* It can't be asked any more. */
void spread_check_leave(struct spreading *spreading, struct spread_branch *branch);

/* Those that are away and may be back. */
void spread_check_again(struct spreading *spreading);

/* SCP_SPREAD_LISTING */
void spread_check_received(struct spreading *spreading, uint32_t node, uint32_t request, const scp_spread_listing *listing);

/* --- spread_commands.c --- */

/* A check has ended, well or not. */
void spread_commands_checked(struct spreading *spreading, const struct spread_branch *branch);
void spread_commands_stop(struct spreading *spreading);

#endif
