/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/spread.h"

#include "common/siphash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/stat.h>

enum { BUCKETS_MIN = 64, CAPACITY_MIN = 64 };

struct node {
	LIST_ENTRY(node) link;
	struct spread_entry entry;
	char name[];
};

LIST_HEAD(bucket, node);

struct spread {
	uint8_t key[SIPHASH_KEY_BYTES]; /* clients choose the names */
	struct bucket *buckets;		/* by name */
	size_t bucket_count;		/* a power of two */
	struct node **sorted;		/* by id */
	size_t count, capacity, directories;
	uint64_t changed_ns, sequence;
};

struct known {
	LIST_ENTRY(known) link;
	uint32_t id;
	struct spread *spread;
};

struct spreads {
	const struct namespace *ns;
	LIST_HEAD(, known) list;
};

/* All of them */

struct spreads *spreads_new(const struct namespace *ns)
{
	struct spreads *spreads = calloc(1, sizeof(*spreads));

	if (!spreads)
		return NULL;
	spreads->ns = ns;
	LIST_INIT(&spreads->list);
	return spreads;
}

static void known_free(struct known *known)
{
	LIST_REMOVE(known, link);
	spread_free(known->spread);
	free(known);
}

void spreads_free(struct spreads *spreads)
{
	while (spreads && !LIST_EMPTY(&spreads->list))
		known_free(LIST_FIRST(&spreads->list));
	free(spreads);
}

const struct namespace *spreads_namespace(const struct spreads *spreads)
{
	return spreads->ns;
}

static struct known *find_known(const struct spreads *spreads, uint32_t id)
{
	struct known *known;

	LIST_FOREACH(known, &spreads->list, link)
		if (known->id == id)
			return known;
	return NULL;
}

struct spread *spreads_find(const struct spreads *spreads, uint32_t id)
{
	const struct known *known = find_known(spreads, id);

	return known ? known->spread : NULL;
}

int spreads_set(struct spreads *spreads, uint32_t id, struct spread *spread)
{
	struct known *known = find_known(spreads, id);

	if (!spread) {
		if (known)
			known_free(known);
		return 0;
	}
	if (!known) {
		known = calloc(1, sizeof(*known));
		if (!known)
			return -ENOMEM;
		known->id = id;
		LIST_INSERT_HEAD(&spreads->list, known, link);
	}
	spread_free(known->spread);
	known->spread = spread;
	return 0;
}

void spreads_follow(struct spreads *spreads)
{
	struct known *known, *next;

	for (known = LIST_FIRST(&spreads->list); known; known = next) {
		next = LIST_NEXT(known, link);
		if (!namespace_spread(spreads->ns, known->id))
			known_free(known);
	}
}

/* One of them */

struct spread *spread_new(void)
{
	struct spread *spread = calloc(1, sizeof(*spread));

	if (!spread)
		return NULL;
	spread->bucket_count = BUCKETS_MIN;
	spread->buckets = calloc(spread->bucket_count, sizeof(*spread->buckets));
	if (!spread->buckets || getrandom(spread->key, sizeof(spread->key), 0) != sizeof(spread->key)) {
		spread_free(spread);
		return NULL;
	}
	return spread;
}

void spread_free(struct spread *spread)
{
	if (!spread)
		return;
	for (size_t i = 0; i < spread->count; i++)
		free(spread->sorted[i]);
	free(spread->sorted);
	free(spread->buckets);
	free(spread);
}

static struct bucket *bucket_of(const struct spread *spread, const char *name)
{
	uint64_t hash = siphash(spread->key, (const uint8_t *)name, (unsigned int)strlen(name));

	return &spread->buckets[hash & (spread->bucket_count - 1)];
}

/* If there is no memory the lists get longer, and that is all. */
static void grow_buckets(struct spread *spread)
{
	struct bucket *buckets = calloc(2 * spread->bucket_count, sizeof(*buckets));

	if (!buckets)
		return;
	free(spread->buckets);
	spread->buckets = buckets;
	spread->bucket_count *= 2;
	for (size_t i = 0; i < spread->count; i++)
		LIST_INSERT_HEAD(bucket_of(spread, spread->sorted[i]->name), spread->sorted[i], link);
}

/* The first position whose id is not below @id. */
static size_t position(const struct spread *spread, uint64_t id)
{
	size_t low = 0, high = spread->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (spread->sorted[middle]->entry.id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct node *find_node(const struct spread *spread, const char *name)
{
	struct node *node;

	LIST_FOREACH(node, bucket_of(spread, name), link)
		if (strcmp(node->name, name) == 0)
			return node;
	return NULL;
}

static bool is_directory(const struct node *node)
{
	return node->entry.is_there && S_ISDIR(node->entry.type);
}

static int reserve(struct spread *spread)
{
	size_t capacity = spread->capacity ? 2 * spread->capacity : CAPACITY_MIN;
	struct node **sorted;

	if (spread->count < spread->capacity)
		return 0;
	if (spread->count >= SPREAD_ENTRIES_MAX)
		return -ENOSPC;
	sorted = reallocarray(spread->sorted, capacity, sizeof(struct node *));
	if (!sorted)
		return -ENOMEM;
	spread->sorted = sorted;
	spread->capacity = capacity;
	return 0;
}

static void insert(struct spread *spread, struct node *node)
{
	size_t at = position(spread, node->entry.id);

	memmove(&spread->sorted[at + 1], &spread->sorted[at], (spread->count - at) * sizeof(struct node *));
	spread->sorted[at] = node;
	spread->count++;
	spread->directories += is_directory(node);
	LIST_INSERT_HEAD(bucket_of(spread, node->name), node, link);
	if (spread->count > spread->bucket_count)
		grow_buckets(spread);
}

static bool is_name(const char *name)
{
	return name[0] && strlen(name) <= NS_NAME_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int spread_put(struct spread *spread, const struct spread_entry *entry)
{
	size_t name_bytes = strlen(entry->name) + 1;
	const struct node *same;
	struct node *node;
	int rc = is_name(entry->name) && entry->id ? reserve(spread) : -EINVAL;

	if (rc < 0)
		return rc;
	node = malloc(sizeof(*node) + name_bytes);
	if (!node)
		return -ENOMEM;
	node->entry = *entry;
	memcpy(node->name, entry->name, name_bytes);
	node->entry.name = node->name;
	spread_remove(spread, node->entry.id);
	same = find_node(spread, node->name);
	if (same)
		spread_remove(spread, same->entry.id);
	insert(spread, node);
	return 0;
}

void spread_remove(struct spread *spread, uint64_t id)
{
	size_t at = position(spread, id);
	struct node *node = at < spread->count ? spread->sorted[at] : NULL;

	if (!node || node->entry.id != id)
		return;
	spread->directories -= is_directory(node);
	spread->count--;
	memmove(&spread->sorted[at], &spread->sorted[at + 1], (spread->count - at) * sizeof(struct node *));
	LIST_REMOVE(node, link);
	free(node);
}

const struct spread_entry *spread_by_name(const struct spread *spread, const char *name)
{
	const struct node *node = find_node(spread, name);

	return node ? &node->entry : NULL;
}

const struct spread_entry *spread_after(const struct spread *spread, uint64_t id)
{
	size_t at = id < UINT64_MAX ? position(spread, id + 1) : spread->count;

	return at < spread->count ? &spread->sorted[at]->entry : NULL;
}

size_t spread_entries(const struct spread *spread)
{
	return spread->count;
}

size_t spread_directories(const struct spread *spread)
{
	return spread->directories;
}

uint64_t spread_changed_ns(const struct spread *spread)
{
	return spread->changed_ns;
}

void spread_set_changed_ns(struct spread *spread, uint64_t changed_ns)
{
	spread->changed_ns = changed_ns;
}

uint64_t spread_sequence(const struct spread *spread)
{
	return spread->sequence;
}

void spread_set_sequence(struct spread *spread, uint64_t sequence)
{
	spread->sequence = sequence;
}
