/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/spread.h - what is in the spread directories: which entry is on which volume
 *
 * One index for each spread directory (struct ns_spread), the same on every device, so that LOOKUP and READDIR ask nobody. The truth is
 * the branches' (their root directories); the master keeps this in step with it and tells the others (master/spread.h, slave/spread.h).
 * Knows nothing of how it travels.
 *
 * An entry's id is its READDIR cookie: given out in order and once, and it stays when the entry is renamed. So a listing that has begun
 * goes on behind the last entry it has seen, whatever comes and goes.
 *
 * Ownership: what a look-up returns is borrowed until the next change.
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_SPREAD_H
#define VNAS_COMMON_SPREAD_H

#include "common/handle.h"
#include "common/namespace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SPREAD_ENTRIES_MAX = 1000000 }; /* of one directory */

struct spread;
struct spreads;

struct spread_entry {
	uint64_t id;
	const char *name;
	bool is_there; /* false: the name is reserved, for somebody is making it; clients don't see it */
	uint32_t type; /* S_IFDIR, S_IFREG, ... */
	uint64_t fileid;
	struct handle handle; /* its volume is the branch that the entry is on, or is to be */
};

/* @ns: borrowed for life. NULL without memory */
struct spreads *spreads_new(const struct namespace *ns);
void spreads_free(struct spreads *spreads);
const struct namespace *spreads_namespace(const struct spreads *spreads);

/* NULL: nothing is known of it (yet). */
struct spread *spreads_find(const struct spreads *spreads, uint32_t id);

/* Takes @spread, which replaces what there was; NULL: there is none any more. -ENOMEM: nothing has happened */
int spreads_set(struct spreads *spreads, uint32_t id, struct spread *spread);

/* Forget those that are not in the name space. */
void spreads_follow(struct spreads *spreads);

/* NULL without memory */
struct spread *spread_new(void);
void spread_free(struct spread *spread);

/**
 * spread_put() - an entry is new, or different
 * @entry:	copied; replaces the one with its id, and the one with its name
 *
 * Return: 0; -EINVAL (no name for an entry); -ENOSPC: SPREAD_ENTRIES_MAX; -ENOMEM. Nothing has changed then
 */
int spread_put(struct spread *spread, const struct spread_entry *entry);

/* Nothing happens if there is no such entry. */
void spread_remove(struct spread *spread, uint64_t id);

const struct spread_entry *spread_by_name(const struct spread *spread, const char *name);

/* The first one with a higher id, or NULL. */
const struct spread_entry *spread_after(const struct spread *spread, uint64_t id);

size_t spread_entries(const struct spread *spread);
/* Of those that are there. */
size_t spread_directories(const struct spread *spread);

/* When an entry came or went last: wall clock. */
uint64_t spread_changed_ns(const struct spread *spread);
void spread_set_changed_ns(struct spread *spread, uint64_t changed_ns);

/* The last update that this agrees with; the owner's to count. */
uint64_t spread_sequence(const struct spread *spread);
void spread_set_sequence(struct spread *spread, uint64_t sequence);

#endif
