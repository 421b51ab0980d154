/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nlm_granted.h - telling waiters that they have got their locks
 *
 * A grant of the table of locks (common/lock_table.h) is called back, by NLM_GRANTED, until the client answers,
 * NLM_GRANT_TRIES times, with NLM_GRANT_PAUSE_MS between. Then the table hears what became of it: the client knows, or the
 * lock goes to the next.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_NLM_GRANTED_H
#define VNAS_COMMON_NLM_GRANTED_H

#include "common/client_call.h"
#include "common/lock_table.h"

struct nlm_counters;
struct nlm_granted;

/* @way: how to call; copied. @counters: where call-backs are counted; borrowed for life. NULL: no memory */
struct nlm_granted *nlm_granted_new(const struct client_call_way *way, struct nlm_counters *counters);
void nlm_granted_free(struct nlm_granted *granted);

/* The table whose grants these are; borrowed for life. */
void nlm_granted_set_table(struct nlm_granted *granted, struct lock_table *table);

/* `on_grant` of lock_table_new(): only takes note. @arg: the nlm_granted */
void nlm_granted_note(const struct lock_grant *grant, void *arg);

/* Call back all who are due: each second, and when the table has changed. */
void nlm_granted_run(struct nlm_granted *granted, uint64_t now_ms);

#endif
