/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/candidates.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_label(const char *text)
{
	const char *p = text;

	while (isgraph((unsigned char)*p))
		p++;
	return *p == '\0' && p - text < CANDIDATES_TEXT_MAX;
}

bool candidates_is_name(const char *name)
{
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr(".-_", *p))
			return false;
	return isalnum((unsigned char)name[0]) && is_label(name);
}

bool candidates_is_sound(const scp_apply *apply)
{
	return candidates_is_name(apply->name) && is_label(apply->serial) && is_label(apply->vendor_class);
}

static bool is_here(const struct candidate *candidate, uint64_t now_ms)
{
	return candidate->is_used && now_ms - candidate->heard_ms < CANDIDATES_SILENCE_MS;
}

static struct candidate *find_by_key(struct candidates *candidates, const uint8_t *key)
{
	for (size_t i = 0; i < CANDIDATES_MAX; i++) {
		struct candidate *candidate = &candidates->list[i];

		if (candidate->is_used && memcmp(candidate->key, key, sizeof(candidate->key)) == 0)
			return candidate;
	}
	return NULL;
}

/* Who is on the list stays there as long as he asks: a crowd that comes later keeps nobody out who was first. */
static struct candidate *find_room(struct candidates *candidates, const char *address, uint64_t now_ms)
{
	struct candidate *room = NULL;
	unsigned int same = 0;

	for (size_t i = 0; i < CANDIDATES_MAX; i++) {
		struct candidate *candidate = &candidates->list[i];

		if (!is_here(candidate, now_ms))
			room = room ? room : candidate;
		else
			same += strcmp(candidate->address, address) == 0;
	}
	return same < CANDIDATES_EACH ? room : NULL;
}

const struct candidate *candidates_note(struct candidates *candidates, const scp_apply *apply,
					const struct candidate_origin *origin, uint64_t now_ms, bool *is_new)
{
	struct candidate *candidate = find_by_key(candidates, origin->key);
	uint64_t first_ms = candidate && is_here(candidate, now_ms) ? candidate->first_ms : now_ms;

	*is_new = !candidate || !is_here(candidate, now_ms);
	if (!candidate)
		candidate = find_room(candidates, origin->address, now_ms);
	if (!candidate)
		return NULL;
	*candidate = (struct candidate){
		.is_used = true, .is_rejected = origin->is_rejected, .first_ms = first_ms, .heard_ms = now_ms
	};
	memcpy(candidate->key, origin->key, sizeof(candidate->key));
	memcpy(candidate->pair, origin->pair, sizeof(candidate->pair));
	memcpy(candidate->mac, apply->mac, sizeof(candidate->mac));
	snprintf(candidate->name, sizeof(candidate->name), "%s", apply->name);
	snprintf(candidate->serial, sizeof(candidate->serial), "%s", apply->serial);
	snprintf(candidate->vendor_class, sizeof(candidate->vendor_class), "%s", apply->vendor_class);
	snprintf(candidate->address, sizeof(candidate->address), "%s", origin->address);
	return candidate;
}

static bool is_meant(const struct candidate *candidate, const char *who)
{
	size_t len = strlen(who);

	return strcmp(candidate->name, who) == 0 ||
	       (len >= CANDIDATES_PREFIX && strncasecmp(candidate->pair, who, len) == 0);
}

static int find_among(const struct candidates *candidates, const char *who, bool is_rejected, uint64_t now_ms,
		      const struct candidate **out)
{
	const struct candidate *candidate, *found = NULL;

	for (size_t at = 0; (candidate = candidates_next(candidates, now_ms, &at));) {
		if (candidate->is_rejected != is_rejected || !is_meant(candidate, who))
			continue;
		if (found)
			return -ENOTUNIQ;
		found = candidate;
	}
	if (!found)
		return -ENOENT;
	*out = found;
	return 0;
}

int candidates_find(const struct candidates *candidates, const char *who, uint64_t now_ms, const struct candidate **out)
{
	int rc = find_among(candidates, who, false, now_ms, out);

	return rc == -ENOENT ? find_among(candidates, who, true, now_ms, out) : rc;
}

void candidates_remove(struct candidates *candidates, const uint8_t key[static CERTIFICATES_KEY_BYTES])
{
	struct candidate *candidate = find_by_key(candidates, key);

	if (candidate)
		candidate->is_used = false;
}

const struct candidate *candidates_next(const struct candidates *candidates, uint64_t now_ms, size_t *at)
{
	while (*at < CANDIDATES_MAX) {
		const struct candidate *candidate = &candidates->list[(*at)++];

		if (is_here(candidate, now_ms))
			return candidate;
	}
	return NULL;
}
