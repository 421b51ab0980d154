/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local_cache.h"

#include "common/clock.h"
#include "common/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BUCKETS = 4096,
	DESCRIPTORS_MAX = 65536,
	DESCRIPTORS_SHARE = 8,	 /* the part of the process's descriptors that may be here is one of so many */
	EVICT_LOOKS_MAX = 16,	 /* objects in use that are stepped over to find one that is not */
};

struct local_open {
	LIST_ENTRY(local_open) in_bucket;
	TAILQ_ENTRY(local_open) by_use;
	struct local_cache *cache;
	struct local_root key;
	int fd;
	bool knows_acl, keeps_atime; /* atomic */

	/* Under the cache's mutex. */
	unsigned int references;
	bool is_listed; /* can be found; else it goes with the last reference */
	bool is_written; /* by write_fd, since it was synchronized last */
	int read_fd, write_fd; /* or -1 */
	uint64_t used_ms, written_ms;
};

LIST_HEAD(local_open_bucket, local_open);
TAILQ_HEAD(local_open_list, local_open);

struct local_cache {
	unsigned int total_max; /* for all caches */
	void (*sync)(int fd, void *arg);
	void *sync_arg;
	pthread_mutex_t mutex;
	struct local_open_bucket buckets[BUCKETS];
	struct local_open_list by_use; /* the one that was not used for longest is first */
	struct local_open_list left;   /* neither listed nor used: to be closed by who has patience */
};

static unsigned int total; /* descriptors of what is listed in all caches; changes under some cache's mutex */

/* How many there may be. */
static unsigned int total_max(void)
{
	struct rlimit limit = { .rlim_cur = 1024 };

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur > (rlim_t)DESCRIPTORS_MAX * DESCRIPTORS_SHARE)
		limit.rlim_cur = (rlim_t)DESCRIPTORS_MAX * DESCRIPTORS_SHARE;
	return (unsigned int)limit.rlim_cur / DESCRIPTORS_SHARE;
}

struct local_cache *local_cache_new(void (*sync)(int fd, void *arg), void *arg)
{
	struct local_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->total_max = total_max();
	cache->sync = sync;
	cache->sync_arg = arg;
	pthread_mutex_init(&cache->mutex, NULL);
	TAILQ_INIT(&cache->by_use);
	TAILQ_INIT(&cache->left);
	return cache;
}

/* What has no name any more nobody can ask for. */
static bool has_name(const struct local_open *open)
{
	struct stat st;

	return fstat(open->fd, &st) || st.st_nlink;
}

/* Not under the mutex: the last close of a removed file gives back its blocks, which may take long. */
static void open_close(struct local_open *open)
{
	if (open->is_written && has_name(open))
		open->cache->sync(open->write_fd, open->cache->sync_arg);
	if (open->write_fd >= 0)
		close(open->write_fd);
	if (open->read_fd >= 0)
		close(open->read_fd);
	close(open->fd);
	free(open);
}

static void close_all(struct local_open_list *list)
{
	struct local_open *open;

	while ((open = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, open, by_use);
		open_close(open);
	}
}

static struct local_open_bucket *bucket_of(struct local_cache *cache, const struct local_root *key)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */

	for (size_t i = 0; i < key->backend_len; i++)
		hash = (hash ^ key->backend[i]) * 1099511628211u;
	return &cache->buckets[(hash ^ hash >> 32) % BUCKETS];
}

static bool is_key(const struct local_open *open, const struct local_root *key)
{
	return open->key.backend_type == key->backend_type && open->key.backend_len == key->backend_len &&
	       memcmp(open->key.backend, key->backend, key->backend_len) == 0;
}

static struct local_open *find(struct local_cache *cache, const struct local_root *key)
{
	struct local_open *open;

	LIST_FOREACH(open, bucket_of(cache, key), in_bucket)
		if (is_key(open, key))
			return open;
	return NULL;
}

static void total_add(int descriptors)
{
	__atomic_add_fetch(&total, (unsigned int)descriptors, __ATOMIC_RELAXED);
}

static int descriptors_of(const struct local_open *open)
{
	return 1 + (open->read_fd >= 0) + (open->write_fd >= 0);
}

/* It can't be found any more. If nobody uses it, it goes to @done, to be closed without the mutex. */
static void unlist(struct local_open *open, struct local_open_list *done)
{
	LIST_REMOVE(open, in_bucket);
	TAILQ_REMOVE(&open->cache->by_use, open, by_use);
	open->is_listed = false;
	total_add(-descriptors_of(open));
	if (!open->references)
		TAILQ_INSERT_TAIL(done, open, by_use);
}

void local_cache_free(struct local_cache *cache)
{
	struct local_open_list done = TAILQ_HEAD_INITIALIZER(done);

	if (!cache)
		return;
	while (!TAILQ_EMPTY(&cache->by_use)) {
		TAILQ_FIRST(&cache->by_use)->is_written = false;
		unlist(TAILQ_FIRST(&cache->by_use), &done);
	}
	close_all(&cache->left);
	close_all(&done);
	pthread_mutex_destroy(&cache->mutex);
	free(cache);
}

static void use(struct local_open *open)
{
	open->references++;
	open->used_ms = clock_monotonic_ms();
	TAILQ_REMOVE(&open->cache->by_use, open, by_use);
	TAILQ_INSERT_TAIL(&open->cache->by_use, open, by_use);
}

struct local_open *local_cache_get(struct local_cache *cache, const struct local_root *key, int *fd)
{
	struct local_open *open;

	pthread_mutex_lock(&cache->mutex);
	open = find(cache, key);
	if (open)
		use(open);
	pthread_mutex_unlock(&cache->mutex);
	if (open)
		*fd = open->fd;
	return open;
}

/* The object that was not used for longest. Return: whether there was one that nobody uses */
static bool evict(struct local_cache *cache, struct local_open_list *done)
{
	struct local_open *open, *next;
	int looks = 0;

	for (open = TAILQ_FIRST(&cache->by_use); open && looks < EVICT_LOOKS_MAX; open = next, looks++) {
		next = TAILQ_NEXT(open, by_use);
		if (!open->references) {
			unlist(open, done);
			return true;
		}
	}
	return false;
}

/* Return: whether there is room for one more descriptor */
static bool make_room(struct local_cache *cache, struct local_open_list *done)
{
	while (__atomic_load_n(&total, __ATOMIC_RELAXED) >= cache->total_max) {
		/* Closing may take its time. */
		if (!patience_may_wait() || !evict(cache, done))
			return false;
	}
	return true;
}

static void insert(struct local_cache *cache, struct local_open *open)
{
	LIST_INSERT_HEAD(bucket_of(cache, &open->key), open, in_bucket);
	TAILQ_INSERT_TAIL(&cache->by_use, open, by_use);
	open->is_listed = true;
	total_add(descriptors_of(open));
}

struct local_open *local_cache_add(struct local_cache *cache, const struct local_root *key, int fd)
{
	struct local_open_list done = TAILQ_HEAD_INITIALIZER(done);
	struct local_open *open = malloc(sizeof(*open));
	bool has_room;

	if (!open)
		return NULL;
	*open = (struct local_open){
		.cache = cache,
		.key = *key,
		.fd = fd,
		.references = 1,
		.read_fd = -1,
		.write_fd = -1,
		.used_ms = clock_monotonic_ms(),
	};
	pthread_mutex_lock(&cache->mutex);
	has_room = !find(cache, key) && make_room(cache, &done); /* another thread may have been faster */
	if (has_room)
		insert(cache, open);
	pthread_mutex_unlock(&cache->mutex);
	close_all(&done);
	if (has_room)
		return open;
	free(open);
	return NULL;
}

void local_cache_put(struct local_open *open)
{
	struct local_cache *cache = open->cache;
	bool may_close = patience_may_wait(), is_last;

	pthread_mutex_lock(&cache->mutex);
	is_last = --open->references == 0 && !open->is_listed;
	if (is_last && !may_close)
		TAILQ_INSERT_TAIL(&cache->left, open, by_use);
	pthread_mutex_unlock(&cache->mutex);
	if (is_last && may_close)
		open_close(open);
}

bool local_cache_knows_acl(const struct local_open *open)
{
	return __atomic_load_n(&open->knows_acl, __ATOMIC_RELAXED);
}

void local_cache_note_acl(struct local_open *open)
{
	__atomic_store_n(&open->knows_acl, true, __ATOMIC_RELAXED);
}

bool local_cache_keeps_atime(const struct local_open *open)
{
	return __atomic_load_n(&open->keeps_atime, __ATOMIC_RELAXED);
}

void local_cache_note_atime_kept(struct local_open *open)
{
	__atomic_store_n(&open->keeps_atime, true, __ATOMIC_RELAXED);
}

void local_cache_note_written(struct local_open *open)
{
	pthread_mutex_lock(&open->cache->mutex);
	open->is_written = true;
	pthread_mutex_unlock(&open->cache->mutex);
}

void local_cache_note_sync(struct local_open *open)
{
	pthread_mutex_lock(&open->cache->mutex);
	open->is_written = false;
	pthread_mutex_unlock(&open->cache->mutex);
}

static int *data_fd(struct local_open *open, int flags)
{
	return flags == O_WRONLY ? &open->write_fd : &open->read_fd;
}

int local_cache_data(struct local_open *open, int flags)
{
	int fd;

	pthread_mutex_lock(&open->cache->mutex);
	fd = *data_fd(open, flags);
	if (flags == O_WRONLY)
		open->written_ms = open->used_ms;
	pthread_mutex_unlock(&open->cache->mutex);
	return fd;
}

int local_cache_keep_data(struct local_open *open, int flags, int fd)
{
	struct local_open_list done = TAILQ_HEAD_INITIALIZER(done);
	int *kept = data_fd(open, flags), other;

	pthread_mutex_lock(&open->cache->mutex);
	other = *kept;
	if (other < 0) {
		/* If there is no room it is one too many, until the next that asks for room makes more. */
		make_room(open->cache, &done);
		total_add(open->is_listed);
		*kept = fd;
	}
	open->written_ms = open->used_ms;
	pthread_mutex_unlock(&open->cache->mutex);
	close_all(&done);
	if (other < 0)
		return fd;
	close(fd);
	return other;
}

void local_cache_forget(struct local_cache *cache, const struct local_root *key)
{
	struct local_open_list done = TAILQ_HEAD_INITIALIZER(done);
	struct local_open *open;

	pthread_mutex_lock(&cache->mutex);
	open = find(cache, key);
	if (open)
		unlist(open, &done);
	pthread_mutex_unlock(&cache->mutex);
	close_all(&done);
}

enum { CLOSE_AT_ONCE_MAX = 1024 };

struct writer {
	int fd;
	bool is_written;
};

/* Descriptors for writing that were not used for a while. Return: how many are in @writers */
static size_t take_idle_writers(struct local_cache *cache, uint64_t now, struct writer writers[static CLOSE_AT_ONCE_MAX])
{
	struct local_open *open;
	size_t count = 0;

	TAILQ_FOREACH(open, &cache->by_use, by_use) {
		if (count == CLOSE_AT_ONCE_MAX)
			break;
		if (open->write_fd < 0 || open->references || now - open->written_ms < LOCAL_CACHE_WRITE_IDLE_MS)
			continue;
		writers[count++] = (struct writer){ open->write_fd, open->is_written };
		open->write_fd = -1;
		open->is_written = false;
		total_add(-1);
	}
	return count;
}

void local_cache_tidy(struct local_cache *cache)
{
	struct local_open_list done = TAILQ_HEAD_INITIALIZER(done);
	uint64_t now = clock_monotonic_ms();
	struct local_open *open, *next;
	struct writer writers[CLOSE_AT_ONCE_MAX];
	size_t count;

	pthread_mutex_lock(&cache->mutex);
	for (open = TAILQ_FIRST(&cache->by_use); open && now - open->used_ms >= LOCAL_CACHE_IDLE_MS; open = next) {
		next = TAILQ_NEXT(open, by_use);
		if (!open->references)
			unlist(open, &done);
	}
	TAILQ_CONCAT(&done, &cache->left, by_use);
	count = take_idle_writers(cache, now, writers);
	pthread_mutex_unlock(&cache->mutex);
	close_all(&done);
	while (count) {
		if (writers[--count].is_written)
			cache->sync(writers[count].fd, cache->sync_arg);
		close(writers[count].fd);
	}
}

void local_cache_shrink(struct local_cache *cache)
{
	struct local_open_list done = TAILQ_HEAD_INITIALIZER(done);
	struct local_open *open, *next;

	pthread_mutex_lock(&cache->mutex);
	for (open = TAILQ_FIRST(&cache->by_use); open; open = next) {
		next = TAILQ_NEXT(open, by_use);
		if (!open->references)
			unlist(open, &done);
	}
	pthread_mutex_unlock(&cache->mutex);
	close_all(&done);
}
