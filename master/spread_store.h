/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/spread_store.h - what is known to be in the spread directories, kept in SQLite
 *
 * The truth is the branches'; this says what is on those that are away, and which names are reserved. So it is its own database, apart from
 * the virtual root's (master/vroot.h): changes are safe from `kill -9` of the daemon, but not each is synced: after a power failure the
 * last ones may be missing, and are learned again from the branches (master/spread_check.h). If it is lost it is made anew.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_SPREAD_STORE_H
#define VNAS_MASTER_SPREAD_STORE_H

#include "common/spread.h"

struct spread_store;

/* It is made if there is none. 0; -EIO, -ENOMEM (logged) */
int spread_store_open(const char *path, struct spread_store **out);
void spread_store_close(struct spread_store *store);

/* @spread: empty; gets what is kept. @last_id: out: ids up to this one have been given out. 0; -EIO; -ENOMEM */
int spread_store_load(struct spread_store *store, uint32_t id, struct spread *spread, uint64_t *last_id);

/* One transaction around several changes. If one fails, so does the end, and nothing has changed. */
int spread_store_begin(struct spread_store *store);
int spread_store_end(struct spread_store *store);

/* As spread_put() and spread_remove(); and when. */
int spread_store_put(struct spread_store *store, uint32_t id, const struct spread_entry *entry);
int spread_store_remove(struct spread_store *store, uint32_t id, uint64_t entry);
int spread_store_changed(struct spread_store *store, uint32_t id, uint64_t changed_ns);

/* Forget a directory. */
int spread_store_forget(struct spread_store *store, uint32_t id);

#endif
