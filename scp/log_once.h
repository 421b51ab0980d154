/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * scp/log_once.h - log a cause once, not at each retry
 *
 * Remembers what was said lately about which object. Who makes up ever new objects (addresses) gets no more than
 * LOG_ONCE_KEEP lines a minute. Pure: the caller knows the time.
 *
 * Threads: the owner's.
 */
#ifndef VNAS_SCP_LOG_ONCE_H
#define VNAS_SCP_LOG_ONCE_H

#include <stdbool.h>
#include <stdint.h>

enum { LOG_ONCE_KEEP = 64, LOG_ONCE_KEEP_MS = 60 * 1000 };

struct log_once {
	struct log_once_entry {
		uint64_t object, text; /* hashes */
		uint64_t said_ms;      /* lately; 0: free */
	} entries[LOG_ONCE_KEEP];
};

/* Is it time to say this? Asking counts as saying. @now_ms: never 0 */
bool log_once_is_new(struct log_once *once, const char *object, const char *text, uint64_t now_ms);

/* Things have changed for the object: whatever is said next is new. */
void log_once_forget(struct log_once *once, const char *object);

#endif
