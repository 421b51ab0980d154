/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "scp/log_once.h"

#include <stddef.h>
#include <string.h>

/* FNV-1a. A collision hides a line, no more. */
static uint64_t hash(const char *text)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *text; text++)
		h = (h ^ (uint8_t)*text) * 0x100000001b3ull;
	return h;
}

bool log_once_is_new(struct log_once *once, const char *object, const char *text, uint64_t now_ms)
{
	struct log_once_entry said = { hash(object), hash(text), now_ms };
	struct log_once_entry *oldest = &once->entries[0];

	for (size_t i = 0; i < LOG_ONCE_KEEP; i++) {
		struct log_once_entry *entry = &once->entries[i];

		if (entry->said_ms && entry->object == said.object && entry->text == said.text) {
			entry->said_ms = now_ms; /* as long as it goes on, it is kept */
			return false;
		}
		if (entry->said_ms < oldest->said_ms)
			oldest = entry;
	}
	if (oldest->said_ms && now_ms - oldest->said_ms < LOG_ONCE_KEEP_MS)
		return false;
	*oldest = said;
	return true;
}

void log_once_forget(struct log_once *once, const char *object)
{
	uint64_t h = hash(object);

	for (size_t i = 0; i < LOG_ONCE_KEEP; i++)
		if (once->entries[i].object == h)
			once->entries[i] = (struct log_once_entry){ 0 };
}
