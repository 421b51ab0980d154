/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/lock_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <unistd.h>

enum { BUCKETS = 1024 };

struct client {
	LIST_ENTRY(client) link;
	struct lock_client who;
	size_t entries;
	LIST_HEAD(, entry) waiters; /* entries that are WAITING */
};

enum kind { NEW, HELD, WAITING, GRANTED, SHARED };

/* A lock, a waiter or a share. Each has its owner in it: most owners have one. */
struct entry {
	TAILQ_ENTRY(entry) link;
	struct client *client;
	struct file *file;
	enum kind kind;
	uint64_t id; /* of a waiter */
	LIST_ENTRY(entry) waiter_link;
	STAILQ_ENTRY(entry) search_link;
	uint64_t search; /* the last one that came here */
	struct lock_caller caller;
	uint32_t svid;
	bool exclusive;
	unsigned int access, deny; /* of a share */
	uint64_t start, end;
	size_t oh_len;
	uint8_t oh[];
};

struct file {
	LIST_ENTRY(file) link;
	struct lock_file_id id;
	int fd;
	size_t count, waiters;
	TAILQ_HEAD(, entry) entries; /* waiters among them in the order in which they came */
};

struct lock_table {
	LIST_HEAD(, client) clients[BUCKETS];
	LIST_HEAD(, file) files[BUCKETS];
	struct lock_table_counters counters;
	uint64_t last_id, last_search;
	void (*on_grant)(const struct lock_grant *grant, void *arg);
	void *arg;
};

/* Clients and files */

static size_t bucket_of(const uint8_t *bytes, size_t len)
{
	uint32_t hash = 2166136261u; /* FNV-1a; handles can't be chosen, and addresses not many of them */

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * 16777619u;
	return hash % BUCKETS;
}

static struct client *find_client(const struct lock_table *table, const struct lock_client *who)
{
	struct client *client;

	LIST_FOREACH(client, &table->clients[bucket_of(who->address, sizeof(who->address))], link)
		if (memcmp(client->who.address, who->address, sizeof(who->address)) == 0 &&
		    strcmp(client->who.name, who->name) == 0)
			return client;
	return NULL;
}

static struct client *need_client(struct lock_table *table, const struct lock_client *who)
{
	struct client *client = find_client(table, who);

	if (client || table->counters.clients == LOCK_CLIENTS_MAX)
		return client;
	client = calloc(1, sizeof(*client));
	if (!client)
		return NULL;
	client->who = *who;
	LIST_INSERT_HEAD(&table->clients[bucket_of(who->address, sizeof(who->address))], client, link);
	table->counters.clients++;
	return client;
}

static struct file *find_file(const struct lock_table *table, const struct lock_file_id *id)
{
	struct file *file;

	LIST_FOREACH(file, &table->files[bucket_of(id->bytes, id->len)], link)
		if (file->id.len == id->len && memcmp(file->id.bytes, id->bytes, id->len) == 0)
			return file;
	return NULL;
}

/* Takes @fd, whatever comes of it. */
static struct file *need_file(struct lock_table *table, const struct lock_file_id *id, int fd)
{
	struct file *known = find_file(table, id), *file = NULL;

	if (!known && fd >= 0 && table->counters.files < LOCK_FILES_MAX)
		file = calloc(1, sizeof(*file));
	if (!file) {
		if (fd >= 0)
			close(fd);
		return known;
	}
	file->id = *id;
	file->fd = fd;
	TAILQ_INIT(&file->entries);
	LIST_INSERT_HEAD(&table->files[bucket_of(id->bytes, id->len)], file, link);
	table->counters.files++;
	return file;
}

static void put_file(struct lock_table *table, struct file *file)
{
	if (!file || file->count)
		return;
	LIST_REMOVE(file, link);
	close(file->fd); /* and with it what is left of the kernel's locks */
	free(file);
	table->counters.files--;
}

static void put_client(struct lock_table *table, struct client *client)
{
	if (!client || client->entries)
		return;
	LIST_REMOVE(client, link);
	free(client);
	table->counters.clients--;
}

/* Entries */

static bool has_room(const struct lock_table *table, const struct file *file, const struct client *client)
{
	return table->counters.entries < LOCK_ENTRIES_MAX && client->entries < LOCK_ENTRIES_OF_CLIENT_MAX &&
	       file->count < LOCK_ENTRIES_OF_FILE_MAX;
}

/* It is NEW, which nobody minds, until set_kind(). */
static struct entry *entry_new(struct lock_table *table, struct file *file, struct client *client,
			       const struct lock_request *request)
{
	struct entry *entry = malloc(sizeof(*entry) + request->oh_len);

	if (!entry)
		return NULL;
	*entry = (struct entry){
		.client = client,
		.file = file,
		.kind = NEW,
		.svid = request->svid,
		.exclusive = request->exclusive,
		.start = request->start,
		.end = request->end,
		.oh_len = request->oh_len,
	};
	if (request->oh_len)
		memcpy(entry->oh, request->oh, request->oh_len);
	TAILQ_INSERT_TAIL(&file->entries, entry, link);
	file->count++;
	client->entries++;
	table->counters.entries++;
	return entry;
}

static void set_kind(struct lock_table *table, struct entry *entry, enum kind kind)
{
	bool waited = entry->kind == WAITING, waits = kind == WAITING;

	table->counters.waiters += (size_t)waits - waited;
	entry->file->waiters += (size_t)waits - waited;
	if (waits && !waited)
		LIST_INSERT_HEAD(&entry->client->waiters, entry, waiter_link);
	else if (waited && !waits)
		LIST_REMOVE(entry, waiter_link);
	entry->kind = kind;
}

/* Its file and its client stay, for put_file() and put_client(). */
static void entry_free(struct lock_table *table, struct entry *entry)
{
	set_kind(table, entry, NEW);
	TAILQ_REMOVE(&entry->file->entries, entry, link);
	entry->file->count--;
	entry->client->entries--;
	table->counters.entries--;
	free(entry);
}

static struct lock_request request_of(const struct entry *entry)
{
	return (struct lock_request){
		.client = &entry->client->who,
		.file = &entry->file->id,
		.svid = entry->svid,
		.oh = entry->oh,
		.oh_len = entry->oh_len,
		.exclusive = entry->exclusive,
		.start = entry->start,
		.end = entry->end,
	};
}

static bool is_of_owner(const struct entry *entry, const struct lock_request *request)
{
	return entry->svid == request->svid && entry->oh_len == request->oh_len &&
	       memcmp(entry->client->who.address, request->client->address, sizeof(request->client->address)) == 0 &&
	       strcmp(entry->client->who.name, request->client->name) == 0 &&
	       (!request->oh_len || memcmp(entry->oh, request->oh, request->oh_len) == 0);
}

static bool is_lock(const struct entry *entry)
{
	return entry->kind == HELD || entry->kind == GRANTED;
}

static bool overlaps(const struct entry *entry, uint64_t start, uint64_t end)
{
	return entry->start <= end && start <= entry->end;
}

static bool excludes(const struct entry *entry, const struct lock_request *request)
{
	return is_lock(entry) && overlaps(entry, request->start, request->end) &&
	       (entry->exclusive || request->exclusive) && !is_of_owner(entry, request);
}

static struct entry *find_conflict(const struct file *file, const struct lock_request *request)
{
	struct entry *entry;

	TAILQ_FOREACH(entry, &file->entries, link)
		if (excludes(entry, request))
			return entry;
	return NULL;
}

/* A waiter, granted or not, that asked for exactly this. */
static struct entry *find_waiter(const struct file *file, const struct lock_request *request)
{
	struct entry *entry;

	TAILQ_FOREACH(entry, &file->entries, link)
		if ((entry->kind == WAITING || entry->kind == GRANTED) && entry->start == request->start &&
		    entry->end == request->end && entry->exclusive == request->exclusive && is_of_owner(entry, request))
			return entry;
	return NULL;
}

/* The kernel's locks */

static struct flock kernel_lock(short type, uint64_t start, uint64_t end)
{
	/* Length 0 is to the end; no offset can be beyond INT64_MAX. */
	return (struct flock){
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)start,
		.l_len = end >= INT64_MAX ? 0 : (off_t)(end - start + 1),
	};
}

/*
 * Return: 0; -EAGAIN if a local process is in the way; -ENOLCK. A descriptor that is not open for writing (EBADF) is one of a
 * file that nobody here can open for writing: there is nobody to exclude.
 */
static int kernel_set(const struct file *file, short type, uint64_t start, uint64_t end)
{
	struct flock lock = kernel_lock(type, start, end);

	if (fcntl(file->fd, F_OFD_SETLK, &lock) == 0 || errno == EBADF)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

static bool kernel_has_conflict(const struct file *file, const struct lock_request *request, struct lock_holder *holder)
{
	struct flock lock = kernel_lock(request->exclusive ? F_WRLCK : F_RDLCK, request->start, request->end);

	if (fcntl(file->fd, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return false;
	*holder = (struct lock_holder){
		.exclusive = lock.l_type == F_WRLCK,
		.start = (uint64_t)lock.l_start,
		.end = lock.l_len ? (uint64_t)(lock.l_start + lock.l_len - 1) : LOCK_END,
	};
	return true;
}

/* The strongest lock at a byte, and in @end the last byte up to which nothing changes. */
static short strongest_at(const struct file *file, uint64_t at, uint64_t *end)
{
	short type = F_UNLCK;
	const struct entry *entry;

	TAILQ_FOREACH(entry, &file->entries, link) {
		if (!is_lock(entry) || entry->end < at)
			continue;
		if (entry->start > at) {
			*end = *end < entry->start - 1 ? *end : entry->start - 1;
			continue;
		}
		*end = *end < entry->end ? *end : entry->end;
		if (entry->exclusive)
			type = F_WRLCK;
		else if (type == F_UNLCK)
			type = F_RDLCK;
	}
	return type;
}

/* Locks of these bytes have gone or become weaker: give back to the kernel what none needs any more. Never takes. */
static void kernel_settle(const struct file *file, uint64_t start, uint64_t end)
{
	uint64_t at = start, piece_end;

	do {
		piece_end = end;
		kernel_set(file, strongest_at(file, at, &piece_end), at, piece_end);
		at = piece_end + 1;
	} while (piece_end < end);
}

/* Changing the owner's own locks */

/*
 * Take @request's bytes out of the owner's held locks. A lock that reaches beyond on both sides becomes two.
 * Return: 0; -ENOLCK, and nothing has happened
 */
static int carve(struct lock_table *table, struct file *file, const struct lock_request *request)
{
	struct entry *entry, *next, *right = NULL;

	/* The owner's held locks never overlap each other, so at most one is split. */
	TAILQ_FOREACH(entry, &file->entries, link)
		if (entry->kind == HELD && entry->start < request->start && entry->end > request->end &&
		    is_of_owner(entry, request))
			break;
	if (entry) {
		struct lock_request rest = request_of(entry);

		rest.start = request->end + 1;
		right = has_room(table, file, entry->client) ? entry_new(table, file, entry->client, &rest) : NULL;
		if (!right)
			return -ENOLCK;
		set_kind(table, right, HELD);
		entry->end = request->start - 1;
		return 0;
	}
	for (entry = TAILQ_FIRST(&file->entries); entry; entry = next) {
		next = TAILQ_NEXT(entry, link);
		if (entry->kind != HELD || !overlaps(entry, request->start, request->end) || !is_of_owner(entry, request))
			continue;
		if (entry->start < request->start)
			entry->end = request->start - 1;
		else if (entry->end > request->end)
			entry->start = request->end + 1;
		else
			entry_free(table, entry);
	}
	return 0;
}

/* Locks of the same kind that touch become one, so that locking byte by byte takes one entry, not many. */
static void merge(struct lock_table *table, struct file *file, struct entry *into)
{
	struct lock_request owner = request_of(into);
	struct entry *entry, *next;

	for (entry = TAILQ_FIRST(&file->entries); entry; entry = next) {
		next = TAILQ_NEXT(entry, link);
		if (entry == into || entry->kind != HELD || entry->exclusive != into->exclusive ||
		    !is_of_owner(entry, &owner))
			continue;
		if (entry->end != LOCK_END && entry->end + 1 == into->start)
			into->start = entry->start;
		else if (into->end != LOCK_END && into->end + 1 == entry->start)
			into->end = entry->end;
		else
			continue;
		entry_free(table, entry);
	}
}

/* Put a lock among the owner's others. The kernel has it already. Return: 0; -ENOLCK */
static int hold(struct lock_table *table, struct file *file, struct client *client, const struct lock_request *request)
{
	struct entry *entry;

	if (!has_room(table, file, client))
		return -ENOLCK;
	entry = entry_new(table, file, client, request); /* not HELD yet: carve() would take it */
	if (!entry)
		return -ENOLCK;
	if (carve(table, file, request) < 0) {
		entry_free(table, entry);
		return -ENOLCK;
	}
	set_kind(table, entry, HELD);
	merge(table, file, entry);
	return 0;
}

/*
 * Deadlocks: a request waits for the owners of all locks in its way, and they for those in the way of theirs. Who comes
 * back to the first owner so has found a circle. Owners that are threads of one process, or descriptors of one, can end a
 * wait that others of them are in, so a circle may come undone; POSIX allows to refuse it all the same, and kernels do.
 */
struct search {
	const struct lock_request *owner; /* who would wait */
	uint64_t number;
	size_t looked_at;
	STAILQ_HEAD(, entry) waiters; /* still to be followed */
};

/* What the owner of @lock waits for is to be followed, too. */
static void follow_owner(struct search *search, const struct entry *lock)
{
	struct lock_request owner = request_of(lock);
	struct entry *waiter;

	LIST_FOREACH(waiter, &lock->client->waiters, waiter_link) {
		search->looked_at++;
		if (waiter->search == search->number || !is_of_owner(waiter, &owner))
			continue;
		waiter->search = search->number;
		STAILQ_INSERT_TAIL(&search->waiters, waiter, search_link);
	}
}

/* Return: whether the owner of the search is one of those who are in the way of @request */
static bool follow_request(struct search *search, const struct file *file, const struct lock_request *request)
{
	const struct entry *entry;

	TAILQ_FOREACH(entry, &file->entries, link) {
		if (search->looked_at++ >= LOCK_SEARCH_MAX)
			return false;
		if (!excludes(entry, request))
			continue;
		if (is_of_owner(entry, search->owner))
			return true;
		follow_owner(search, entry);
	}
	return false;
}

static bool would_deadlock(struct lock_table *table, const struct file *file, const struct lock_request *request)
{
	struct search search = { .owner = request, .number = ++table->last_search };
	bool found = false;

	STAILQ_INIT(&search.waiters);
	follow_request(&search, file, request);
	while (!found && search.looked_at < LOCK_SEARCH_MAX && !STAILQ_EMPTY(&search.waiters)) {
		const struct entry *waiter = STAILQ_FIRST(&search.waiters);
		struct lock_request waits = request_of(waiter);

		STAILQ_REMOVE_HEAD(&search.waiters, search_link);
		found = follow_request(&search, waiter->file, &waits);
	}
	return found;
}

/* Waiters */

static void run_queue(struct lock_table *table, struct file *file)
{
	struct entry *entry;

	if (!file->waiters)
		return;
	TAILQ_FOREACH(entry, &file->entries, link) {
		struct lock_request request = request_of(entry);
		struct lock_grant grant = { .id = entry->id, .request = request, .caller = entry->caller };

		if (entry->kind != WAITING || find_conflict(file, &request) ||
		    kernel_set(file, request.exclusive ? F_WRLCK : F_RDLCK, request.start, request.end) < 0)
			continue;
		set_kind(table, entry, GRANTED);
		table->on_grant(&grant, table->arg);
	}
}

/* After locks of these bytes have gone. The file may be gone, too, afterwards. */
static void released(struct lock_table *table, struct file *file, uint64_t start, uint64_t end)
{
	kernel_settle(file, start, end);
	run_queue(table, file);
	put_file(table, file);
}

static void remove_entry(struct lock_table *table, struct entry *entry)
{
	struct file *file = entry->file;
	struct client *client = entry->client;
	uint64_t start = entry->start, end = entry->end;

	entry_free(table, entry);
	put_client(table, client);
	released(table, file, start, end);
}

static enum lock_result wait_for(struct lock_table *table, struct file *file, struct client *client,
				 const struct lock_request *request, const struct lock_caller *caller)
{
	struct entry *entry = NULL;

	if (!caller)
		return LOCK_DENIED;
	if (would_deadlock(table, file, request))
		return LOCK_DEADLOCK;
	if (has_room(table, file, client) && file->waiters < LOCK_WAITERS_OF_FILE_MAX)
		entry = entry_new(table, file, client, request);
	if (!entry)
		return LOCK_NOLOCKS;
	set_kind(table, entry, WAITING);
	entry->id = ++table->last_id;
	entry->caller = *caller;
	return LOCK_BLOCKED;
}

/* The client knows of its lock. Return: 0; -ENOLCK if it splits another of the owner's and there is no room for two */
static int acknowledge(struct lock_table *table, struct entry *entry)
{
	struct lock_request request = request_of(entry);

	if (carve(table, entry->file, &request) < 0)
		return -ENOLCK;
	set_kind(table, entry, HELD);
	merge(table, entry->file, entry);
	return 0;
}

/* A request that was made before. Return: whether it was, and then @result is its answer */
static bool is_repeated(struct lock_table *table, struct file *file, const struct lock_request *request,
			const struct lock_caller *caller, enum lock_result *result)
{
	struct entry *entry = find_waiter(file, request);

	if (!entry)
		return false;
	*result = LOCK_GRANTED;
	if (entry->kind == GRANTED) {
		acknowledge(table, entry); /* where that fails it is a lock as it is */
	} else if (caller) {
		entry->caller = *caller;
		*result = LOCK_BLOCKED;
	} else {
		*result = LOCK_DENIED;
	}
	return true;
}

static enum lock_result lock(struct lock_table *table, struct file *file, struct client *client,
			     const struct lock_request *request, const struct lock_caller *caller)
{
	enum lock_result result;
	int rc;

	if (is_repeated(table, file, request, caller, &result))
		return result;
	if (find_conflict(file, request))
		return wait_for(table, file, client, request, caller);
	rc = kernel_set(file, request->exclusive ? F_WRLCK : F_RDLCK, request->start, request->end);
	if (rc == -EAGAIN)
		return wait_for(table, file, client, request, caller);
	if (rc == 0)
		rc = hold(table, file, client, request);
	kernel_settle(file, request->start, request->end);
	if (rc < 0)
		return LOCK_NOLOCKS;
	run_queue(table, file); /* a lock may have become weaker */
	return LOCK_GRANTED;
}

/* Public functions */

struct lock_table *lock_table_new(void (*on_grant)(const struct lock_grant *grant, void *arg), void *arg)
{
	struct lock_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->on_grant = on_grant;
	table->arg = arg;
	return table;
}

static void forget_file(struct lock_table *table, struct file *file)
{
	struct entry *entry;

	while ((entry = TAILQ_FIRST(&file->entries))) {
		struct client *client = entry->client;

		entry_free(table, entry);
		put_client(table, client);
	}
	put_file(table, file);
}

void lock_table_forget_files(struct lock_table *table, bool (*is_gone)(const struct lock_file_id *file, void *arg),
			     void *arg)
{
	struct file *file, *next;

	for (size_t i = 0; i < BUCKETS; i++) {
		for (file = LIST_FIRST(&table->files[i]); file; file = next) {
			next = LIST_NEXT(file, link);
			if (is_gone(&file->id, arg))
				forget_file(table, file);
		}
	}
}

static bool is_gone_always(const struct lock_file_id *file, void *arg)
{
	(void)file, (void)arg;
	return true;
}

void lock_table_free(struct lock_table *table)
{
	if (!table)
		return;
	lock_table_forget_files(table, is_gone_always, NULL);
	free(table);
}

static void describe(const struct entry *entry, struct lock_holder *holder)
{
	holder->exclusive = entry->exclusive;
	holder->svid = entry->svid;
	holder->start = entry->start;
	holder->end = entry->end;
	holder->oh_len = entry->oh_len;
	if (entry->oh_len)
		memcpy(holder->oh, entry->oh, entry->oh_len);
}

enum lock_result lock_table_test(struct lock_table *table, const struct lock_request *request, int fd,
				 struct lock_holder *holder)
{
	struct file *file = need_file(table, request->file, fd);
	enum lock_result result = LOCK_GRANTED;
	const struct entry *entry;

	if (!file)
		return LOCK_NOLOCKS;
	entry = find_conflict(file, request);
	if (entry)
		describe(entry, holder);
	if (entry || kernel_has_conflict(file, request, holder))
		result = LOCK_DENIED;
	put_file(table, file);
	return result;
}

enum lock_result lock_table_lock(struct lock_table *table, const struct lock_request *request, int fd,
				 const struct lock_caller *caller)
{
	struct file *file = need_file(table, request->file, fd);
	struct client *client = file ? need_client(table, request->client) : NULL;
	enum lock_result result = LOCK_NOLOCKS;

	if (client)
		result = lock(table, file, client, request, caller);
	put_client(table, client);
	put_file(table, file);
	return result;
}

bool lock_table_holds(struct lock_table *table, const struct lock_request *request)
{
	struct file *file = find_file(table, request->file);
	const struct entry *entry;

	if (!file)
		return false;
	/* Merged as they are, the owner's locks of one kind cover a range with one entry or not at all. */
	TAILQ_FOREACH(entry, &file->entries, link)
		if (is_lock(entry) && entry->start <= request->start && entry->end >= request->end &&
		    (entry->exclusive || !request->exclusive) && is_of_owner(entry, request))
			return true;
	return false;
}

enum lock_result lock_table_cancel(struct lock_table *table, const struct lock_request *request)
{
	struct file *file = find_file(table, request->file);
	struct entry *entry = file ? find_waiter(file, request) : NULL;

	if (!entry)
		return LOCK_DENIED;
	remove_entry(table, entry);
	return LOCK_GRANTED;
}

/* The owner unlocks what it was granted: it knows of it, whatever became of the call-back. Return: 0; -ENOLCK */
static int acknowledge_all(struct lock_table *table, struct file *file, const struct lock_request *request)
{
	struct entry *entry, *next;
	int rc = 0;

	for (entry = TAILQ_FIRST(&file->entries); entry && rc == 0; entry = next) {
		next = TAILQ_NEXT(entry, link);
		if (entry->kind != GRANTED || !overlaps(entry, request->start, request->end) ||
		    !is_of_owner(entry, request))
			continue;
		rc = acknowledge(table, entry);
		next = TAILQ_FIRST(&file->entries); /* neighbours may have been merged away */
	}
	return rc;
}

enum lock_result lock_table_unlock(struct lock_table *table, const struct lock_request *request)
{
	struct file *file = find_file(table, request->file);
	struct client *client = find_client(table, request->client);

	if (!file || !client)
		return LOCK_GRANTED;
	if (acknowledge_all(table, file, request) < 0 || carve(table, file, request) < 0)
		return LOCK_NOLOCKS;
	put_client(table, client);
	released(table, file, request->start, request->end);
	return LOCK_GRANTED;
}

static struct entry *find_grant(struct lock_table *table, uint64_t id)
{
	struct entry *entry;
	struct file *file;

	for (size_t i = 0; i < BUCKETS; i++)
		LIST_FOREACH(file, &table->files[i], link)
			TAILQ_FOREACH(entry, &file->entries, link)
				if (entry->kind == GRANTED && entry->id == id)
					return entry;
	return NULL;
}

bool lock_table_find_grant(struct lock_table *table, uint64_t id, struct lock_grant *out)
{
	struct entry *entry = find_grant(table, id);

	if (!entry)
		return false;
	*out = (struct lock_grant){ .id = id, .request = request_of(entry), .caller = entry->caller };
	return true;
}

void lock_table_acknowledge(struct lock_table *table, uint64_t id)
{
	struct entry *entry = find_grant(table, id);

	/* What was exclusive before may be shared now. */
	if (entry && acknowledge(table, entry) == 0)
		run_queue(table, entry->file);
}

void lock_table_refuse(struct lock_table *table, uint64_t id)
{
	struct entry *entry = find_grant(table, id);

	if (entry)
		remove_entry(table, entry);
}

static bool has_share_conflict(const struct file *file, const struct lock_request *request, unsigned int access,
			       unsigned int deny)
{
	const struct entry *entry;

	TAILQ_FOREACH(entry, &file->entries, link)
		if (entry->kind == SHARED && (entry->deny & access || entry->access & deny) &&
		    !is_of_owner(entry, request))
			return true;
	return false;
}

static struct entry *find_share(const struct file *file, const struct lock_request *request)
{
	struct entry *entry;

	TAILQ_FOREACH(entry, &file->entries, link)
		if (entry->kind == SHARED && is_of_owner(entry, request))
			return entry;
	return NULL;
}

enum lock_result lock_table_share(struct lock_table *table, const struct lock_request *request, int fd,
				  unsigned int access, unsigned int deny)
{
	struct file *file = need_file(table, request->file, fd);
	struct client *client = file ? need_client(table, request->client) : NULL;
	enum lock_result result = LOCK_NOLOCKS;
	struct entry *entry;

	if (client && has_share_conflict(file, request, access, deny)) {
		result = LOCK_DENIED;
	} else if (client) {
		entry = find_share(file, request);
		if (!entry && has_room(table, file, client))
			entry = entry_new(table, file, client, request);
		if (entry) {
			set_kind(table, entry, SHARED);
			entry->access = access;
			entry->deny = deny;
			result = LOCK_GRANTED;
		}
	}
	put_client(table, client);
	put_file(table, file);
	return result;
}

void lock_table_unshare(struct lock_table *table, const struct lock_request *request)
{
	struct file *file = find_file(table, request->file);
	struct entry *entry = file ? find_share(file, request) : NULL;
	struct client *client = entry ? entry->client : NULL;

	if (!entry)
		return;
	entry_free(table, entry);
	put_client(table, client);
	put_file(table, file);
}

bool lock_client_is_named(const char *name, const char *other)
{
	size_t len = strlen(name), other_len = strlen(other), shorter = len < other_len ? len : other_len;

	if (strncasecmp(name, other, shorter) != 0)
		return false;
	return len == other_len || (shorter && (len > other_len ? name : other)[shorter] == '.');
}

/* All of a client's entries in one file. The client itself stays. */
static void free_client_in_file(struct lock_table *table, struct client *client, struct file *file)
{
	struct entry *entry, *next;
	bool any = false;

	for (entry = TAILQ_FIRST(&file->entries); entry; entry = next) {
		next = TAILQ_NEXT(entry, link);
		if (entry->client != client)
			continue;
		entry_free(table, entry);
		any = true;
	}
	if (any)
		released(table, file, 0, LOCK_END);
}

static void free_client(struct lock_table *table, struct client *client)
{
	struct file *file, *next;

	for (size_t i = 0; i < BUCKETS && client->entries; i++) {
		for (file = LIST_FIRST(&table->files[i]); file; file = next) {
			next = LIST_NEXT(file, link);
			free_client_in_file(table, client, file);
		}
	}
	put_client(table, client);
}

size_t lock_table_free_client(struct lock_table *table, const uint8_t address[static 16], const char *name)
{
	struct client *client, *next;
	size_t count = 0;

	for (client = LIST_FIRST(&table->clients[bucket_of(address, 16)]); client; client = next) {
		next = LIST_NEXT(client, link);
		if (memcmp(client->who.address, address, 16) != 0 ||
		    (name[0] && !lock_client_is_named(client->who.name, name)))
			continue;
		free_client(table, client);
		count++;
	}
	return count;
}

bool lock_table_knows_client(const struct lock_table *table, const struct lock_client *client)
{
	return find_client(table, client) != NULL;
}

void lock_table_retry(struct lock_table *table)
{
	struct file *file;

	for (size_t i = 0; table->counters.waiters && i < BUCKETS; i++)
		LIST_FOREACH(file, &table->files[i], link)
			run_queue(table, file);
}

const struct lock_table_counters *lock_table_counters(const struct lock_table *table)
{
	return &table->counters;
}
