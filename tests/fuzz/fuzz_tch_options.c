/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a handoff message crashes a device, or the facts of a session change when they travel on.
 *
 * Input: options.
 */
#include "config.h"

#include "common/tch_options.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Every item that was accepted can be read, to the last byte. */
static void walk(const struct tch_items *items)
{
	struct tch_items again = { 0 };
	struct tch_item item;
	size_t at = 0;
	char name[256];

	while (tch_items_next(items, &at, &item)) {
		if (item.name_len)
			memcpy(name, item.name, item.name_len);
		name[item.name_len] = 0;
		if (strlen(name) != item.name_len)
			return; /* tch_items_put() has no names with NUL in them */
		if (tch_items_put(&again, item.kind, item.kind == TCH_ITEM_SHARE ? NULL : name, item.bytes, item.len))
			abort();
	}
	if (at != items->len || again.len != items->len || memcmp(again.bytes, items->bytes, items->len) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	uint8_t once[TCH_OPTIONS_MAX], twice[TCH_OPTIONS_MAX];
	struct kernel_helper_state state;
	enum tch_kind_of_handoff kind;
	struct tch_facts facts;
	int once_len, twice_len;
	unsigned int capabilities;

	tch_capabilities_decode(bytes, len, &capabilities); /* nothing can be too wrong for it */
	if (tch_options_decode(bytes, len, &state, &facts, &kind))
		return 0;
	walk(&facts.items);
	once_len = tch_options_encode(&state, &facts, kind, once);
	if (once_len < 0 || tch_options_decode(once, (size_t)once_len, &state, &facts, &kind))
		abort();
	twice_len = tch_options_encode(&state, &facts, kind, twice);
	if (twice_len != once_len || memcmp(once, twice, (size_t)once_len) != 0)
		abort();
	return 0;
}
