/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/examination_ids.c - which users and groups have other numbers elsewhere, or are known on some devices only
 *
 * Digests of all are compared first. If they differ, one device for each digest tells its names, and these are compared: sorted by
 * name, all that have one name stand together.
 */
#include "config.h"

#include "master/examination_rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	NAMED_MAX = 5,	/* of many, so many are named */
	DIFFERENT_MAX = 16,
	LIST_ROOM = 512,
	OTHERS_ROOM = 48,
};

static const char *digest(const struct examination_device *device, const char *what)
{
	return examination_value(&device->facts, "digest", what);
}

static bool has_digests(const struct examination_device *device)
{
	return digest(device, "users") && digest(device, "groups");
}

static bool is_alike(const struct examination_device *a, const struct examination_device *b)
{
	return strcmp(digest(a, "users"), digest(b, "users")) == 0 && strcmp(digest(a, "groups"), digest(b, "groups")) == 0;
}

static bool has_one_alike(struct examination_device *const *namers, size_t count, const struct examination_device *device)
{
	for (size_t i = 0; i < count; i++)
		if (is_alike(namers[i], device))
			return true;
	return false;
}

/* Has the cluster users of its own? They may differ from those of the devices, though these are alike. */
static bool has_own(const struct examination_cluster *cluster)
{
	size_t at = 0;

	return examination_next(&cluster->facts, "user", &at) != NULL;
}

size_t examination_namers(const struct examination_cluster *cluster,
			  struct examination_device *namers[static EXAMINATION_NAMERS_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < cluster->count && count < EXAMINATION_NAMERS_MAX; i++)
		if (has_digests(&cluster->devices[i]) && !has_one_alike(namers, count, &cluster->devices[i]))
			namers[count++] = &cluster->devices[i];
	return count > 1 || has_own(cluster) ? count : 0;
}

/* One user or group of one device, or of the cluster. */
struct id {
	const char *name, *number;
	const struct examination_device *device; /* NULL: the cluster's own */
};

struct ids {
	struct id *items;
	size_t count;
	bool has_failed; /* no memory */
};

static void add_ids(struct ids *ids, const struct examination_facts *facts, const struct examination_device *device, const char *area)
{
	const struct examination_fact *fact;
	size_t count = 0;
	struct id *items;

	for (size_t at = 0; examination_next(facts, area, &at);)
		count++;
	items = reallocarray(ids->items, ids->count + count + 1, sizeof(*items));
	if (!items) {
		ids->has_failed = true;
		return;
	}
	ids->items = items;
	for (size_t at = 0; (fact = examination_next(facts, area, &at));)
		items[ids->count++] = (struct id){ .name = fact->subject, .number = fact->value, .device = device };
}

/* The cluster's own come first. */
static uint32_t device_id(const struct id *id)
{
	return id->device ? id->device->id : 0;
}

static int compare_ids(const void *a, const void *b)
{
	const struct id *left = a, *right = b;

	int order = strcmp(left->name, right->name);

	return order ? order : device_id(left) < device_id(right) ? -1 : device_id(left) > device_id(right);
}

/* From @ids on: how many have the same name. */
static size_t count_namesakes(const struct id *ids, size_t left)
{
	size_t count = 1;

	while (count < left && strcmp(ids[count].name, ids[0].name) == 0)
		count++;
	return count;
}

static const char *where(const struct id *id)
{
	return id->device ? id->device->name : "the cluster (nasctl user list)";
}

/* The first one that has another number than the first of all; NULL: none */
static const struct id *find_other(const struct id *ids, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (strcmp(ids[i].number, ids[0].number) != 0)
			return &ids[i];
	return NULL;
}

static void examine_numbers(const struct ids *ids, const char *kind, struct examination_findings *out)
{
	const char *command = strcmp(kind, "user") == 0 ? "usermod -u" : "groupmod -g";
	size_t different = 0;

	for (size_t at = 0, count; at < ids->count; at += count) {
		const struct id *first = &ids->items[at], *other;

		count = count_namesakes(first, ids->count - at);
		other = find_other(first, count);
		if (other && ++different <= DIFFERENT_MAX)
			examination_found(out, EXAMINATION_WARNING, other->device ? other->device : first->device,
					  "%s %s is %s here, %s on %s: the same files have two owners\n"
					  "on one of the machines: %s NUMBER %s, and chown the files that have the old one",
					  kind, first->name, other->device ? other->number : first->number,
					  other->device ? first->number : other->number, other->device ? where(first) : where(other),
					  command, first->name);
	}
	if (different > DIFFERENT_MAX)
		examination_found(out, EXAMINATION_WARNING, NULL,
				  "%zu more %ss have different numbers\nlet all devices ask one directory (/etc/nsswitch.conf), or nasctl user add",
				  different - DIFFERENT_MAX, kind);
}

/* Some names, and how many more: "a, b and 3 more". */
struct names {
	char text[LIST_ROOM];
	size_t len, count;
};

static void note_name(struct names *names, const char *name)
{
	if (names->count++ < NAMED_MAX && names->len < sizeof(names->text))
		names->len += (size_t)snprintf(names->text + names->len, sizeof(names->text) - names->len, "%s%.64s",
					       names->count > 1 ? ", " : "", name);
}

static bool has_one_of(const struct id *ids, size_t count, const struct examination_device *device)
{
	for (size_t i = 0; i < count; i++)
		if (!ids[i].device || ids[i].device == device) /* the cluster's are known everywhere */
			return true;
	return false;
}

/* " (1 other like it)": devices with the same digest, for which @device speaks. */
static const char *others_text(const struct examination_cluster *cluster, const struct examination_device *device,
			       char text[static OTHERS_ROOM])
{
	size_t count = 0;

	for (size_t i = 0; i < cluster->count; i++)
		count += &cluster->devices[i] != device && has_digests(&cluster->devices[i]) && is_alike(&cluster->devices[i], device);
	*text = '\0';
	if (count)
		snprintf(text, OTHERS_ROOM, " (%zu other%s like it)", count, count == 1 ? "" : "s");
	return text;
}

static void examine_missing(const struct examination_cluster *cluster, const struct ids *ids, const char *kind,
			    const struct examination_device *device, struct examination_findings *out)
{
	bool matters = examination_is(&cluster->facts, "manage_gids", "");
	struct names names = { .count = 0 };
	char more[32] = "", others[OTHERS_ROOM];

	for (size_t at = 0, count; at < ids->count; at += count) {
		count = count_namesakes(&ids->items[at], ids->count - at);
		if (!has_one_of(&ids->items[at], count, device))
			note_name(&names, ids->items[at].name);
	}
	if (names.count == 0)
		return;
	if (names.count > NAMED_MAX)
		snprintf(more, sizeof(more), " and %zu more", names.count - NAMED_MAX);
	examination_found(out, matters ? EXAMINATION_WARNING : EXAMINATION_NOTE, device,
			  "other devices have %s%s that it does not know%s: %s%s%s\n"
			  "let all devices ask one directory (/etc/nsswitch.conf), or nasctl %s add NAME",
			  kind, names.count == 1 ? "" : "s", others_text(cluster, device, others), names.text, more,
			  matters ? "; where exports say manage_gids, these have no groups there" : "", kind);
}

static void examine_kind(const struct examination_cluster *cluster, struct examination_device *const *namers, size_t count,
			 const char *kind, struct examination_findings *out)
{
	struct ids ids = { 0 };

	add_ids(&ids, &cluster->facts, NULL, kind);
	for (size_t i = 0; i < count; i++)
		add_ids(&ids, &namers[i]->facts, namers[i], kind);
	if (!ids.has_failed && ids.count) {
		qsort(ids.items, ids.count, sizeof(*ids.items), compare_ids);
		examine_numbers(&ids, kind, out);
		for (size_t i = 0; i < count; i++)
			examine_missing(cluster, &ids, kind, namers[i], out);
	}
	free(ids.items);
}

/* Those that were to tell their names, and have. */
static size_t keep_those_with_names(struct examination_device **namers, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++)
		if (examination_is(&namers[i]->facts, "names", ""))
			namers[kept++] = namers[i];
	return kept;
}

void examine_ids(const struct examination_cluster *cluster, struct examination_findings *out)
{
	struct examination_device *namers[EXAMINATION_NAMERS_MAX];
	size_t count = examination_namers(cluster, namers);

	for (size_t i = 0; i < cluster->count; i++)
		if (examination_has_report(&cluster->devices[i]) && !has_digests(&cluster->devices[i]) &&
		    !examination_value(&cluster->devices[i].facts, "late", "names"))
			examination_found(out, EXAMINATION_NOTE, &cluster->devices[i],
					  "it has too many users or groups to compare them with others'\n"
					  "nothing, if all devices ask the same directory");
	count = keep_those_with_names(namers, count);
	examine_kind(cluster, namers, count, "user", out);
	examine_kind(cluster, namers, count, "group", out);
}
