/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/lock_table.h - who holds which bytes of which file, and who waits for them
 *
 * Byte-range locks with the semantics of POSIX (an owner's own locks are replaced, split and merged), blocked requests in
 * the order in which they came, and the share reservations of DOS clients. An owner is a client (its address and the
 * name it calls itself by), a number and an opaque handle. The name alone would not do: two clients named "localhost" are two.
 *
 * Every lock is also taken from the kernel, as an open file description lock (fcntl(2), F_OFD_SETLK) on one descriptor
 * per file: local processes and Samba see it, and a lock of theirs is a conflict here (its owner is told as svid 0, no
 * handle). Those locks end without our being told, so somebody calls lock_table_retry() now and then.
 *
 * A request that no held lock conflicts with never waits. When locks go, waiters are looked at in order. A lock that a
 * waiter got is *granted*: it excludes others at once, but is only merged with the owner's other locks when the
 * client is known to know of it (lock_table_acknowledge()); till then it can be taken back without a trace.
 *
 * Who would wait for somebody who waits, by way of others perhaps, for him, is refused (POSIX: EDEADLK). Each lock in the
 * way is followed to all that its owner waits for, as far as LOCK_SEARCH_MAX; what local processes wait for is not known.
 *
 * Bounded: LOCK_CLIENTS_MAX, LOCK_FILES_MAX, and so many locks, waiters and shares in all, of one client and of one file.
 * Knows nothing of RPC, time and disks. fcntl() on what is not a network file system does not wait.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_LOCK_TABLE_H
#define VNAS_COMMON_LOCK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LOCK_CLIENTS_MAX = 4096,
	LOCK_FILES_MAX = 16384,
	LOCK_ENTRIES_MAX = 65536,
	LOCK_ENTRIES_OF_CLIENT_MAX = 16384,
	LOCK_ENTRIES_OF_FILE_MAX = 2048, /* what one call may cost grows with its square */
	LOCK_WAITERS_OF_FILE_MAX = 256,
	LOCK_SEARCH_MAX = 65536, /* entries that one search for a deadlock looks at; beyond that there is none */
	LOCK_NAME_MAX = 255,
	LOCK_OH_MAX = 1024,
	LOCK_FILE_ID_MAX = 64,
	LOCK_COOKIE_MAX = 32,
};

#define LOCK_END UINT64_MAX /* the last byte that a file can have, and all behind it */

enum lock_result {
	LOCK_GRANTED,
	LOCK_DENIED,
	LOCK_BLOCKED, /* will be granted by on_grant() */
	LOCK_NOLOCKS, /* a bound is reached */
	LOCK_DEADLOCK, /* it would wait for ever */
};

struct lock_client {
	uint8_t address[16]; /* IPv4-mapped */
	char name[LOCK_NAME_MAX + 1];
};

/* A file, by one of the handles that clients may have of it, always the same one. */
struct lock_file_id {
	uint8_t len;
	uint8_t bytes[LOCK_FILE_ID_MAX];
};

/* What a client asks. Everything is borrowed for the call. */
struct lock_request {
	const struct lock_client *client;
	const struct lock_file_id *file;
	uint32_t svid;
	const uint8_t *oh;
	size_t oh_len; /* at most LOCK_OH_MAX */
	bool exclusive;
	uint64_t start, end; /* first and last byte; LOCK_END: to the end of the file */
};

/* How to tell a waiter that it has its lock: kept with it, given back by on_grant(). */
struct lock_caller {
	uint8_t vip[16];
	uint32_t version;
	struct lock_file_id handle; /* as the client sent it: it knows no other */
};

/* Somebody's lock. */
struct lock_holder {
	bool exclusive;
	uint32_t svid;
	size_t oh_len;
	uint8_t oh[LOCK_OH_MAX];
	uint64_t start, end;
};

/* A waiter that got its lock. Pointers are valid during the callback. */
struct lock_grant {
	uint64_t id;
	struct lock_request request;
	struct lock_caller caller;
};

/* What a share forbids others, and what it wants itself: bits. */
enum { LOCK_SHARE_READ = 1, LOCK_SHARE_WRITE = 2 };

struct lock_table;

struct lock_table_counters {
	size_t clients, files, entries, waiters;
};

/* @on_grant must not call into the table. */
struct lock_table *lock_table_new(void (*on_grant)(const struct lock_grant *grant, void *arg), void *arg);
void lock_table_free(struct lock_table *table);

/**
 * lock_table_test() - would this lock be granted?
 * @fd:		a descriptor of the file, open for reading at least; taken, or -1 for one that is known
 * @holder:	out: on LOCK_DENIED whose lock is in the way; else untouched
 *
 * Return: LOCK_GRANTED, LOCK_DENIED, LOCK_NOLOCKS
 */
enum lock_result lock_table_test(struct lock_table *table, const struct lock_request *request, int fd,
				 struct lock_holder *holder);

/**
 * lock_table_lock() - take a lock
 * @fd:		as above, for writing if the file can be written at all; taken
 * @caller:	how a blocked request is answered; NULL: it does not wait
 *
 * Asked again for what it waits for, a request goes on waiting in its place; or, if it has been granted, that is the
 * acknowledgment.
 *
 * Return: LOCK_GRANTED, LOCK_DENIED, LOCK_NOLOCKS; with @caller LOCK_BLOCKED or LOCK_DEADLOCK instead of LOCK_DENIED
 */
enum lock_result lock_table_lock(struct lock_table *table, const struct lock_request *request, int fd,
				 const struct lock_caller *caller);

/* Whether this owner has at least this lock on all those bytes, acknowledged or not. */
bool lock_table_holds(struct lock_table *table, const struct lock_request *request);

/* No longer wait for exactly this; a grant that was not acknowledged is taken back. LOCK_DENIED: nobody waited. */
enum lock_result lock_table_cancel(struct lock_table *table, const struct lock_request *request);

/* Give up these bytes. LOCK_NOLOCKS if that would split a lock and there is no room for two. */
enum lock_result lock_table_unlock(struct lock_table *table, const struct lock_request *request);

/* The client knows of its grant, or does not want it; unknown ids are ignored. */
void lock_table_acknowledge(struct lock_table *table, uint64_t id);
void lock_table_refuse(struct lock_table *table, uint64_t id);

/* Is this grant still waiting for its acknowledgment? @out: out: as on_grant() had it, until the table changes */
bool lock_table_find_grant(struct lock_table *table, uint64_t id, struct lock_grant *out);

/**
 * lock_table_share() - reserve a file as DOS clients do
 * @fd:		taken
 * @access:	LOCK_SHARE_* that the client will use
 * @deny:	LOCK_SHARE_* that nobody else may use
 *
 * Shares exclude shares only. A second one of the same owner replaces the first.
 */
enum lock_result lock_table_share(struct lock_table *table, const struct lock_request *request, int fd,
				  unsigned int access, unsigned int deny);
void lock_table_unshare(struct lock_table *table, const struct lock_request *request);

/*
 * A client is gone: so are its locks, waiters and shares. It is known by its address, and by its name as far as that goes: a
 * host name with and without its domain is the same. @name "": every client at that address.
 *
 * Return: how many clients that were
 */
size_t lock_table_free_client(struct lock_table *table, const uint8_t address[static 16], const char *name);

/* Whether anything is kept for this client. */
bool lock_table_knows_client(const struct lock_table *table, const struct lock_client *client);

/* Look at all waiters again: others' locks may have gone. */
void lock_table_retry(struct lock_table *table);

/* Forget the files for which @is_gone says so, with all their locks: their volume is not here any more. */
void lock_table_forget_files(struct lock_table *table, bool (*is_gone)(const struct lock_file_id *file, void *arg),
			     void *arg);

const struct lock_table_counters *lock_table_counters(const struct lock_table *table);

/* Are these the same host, going by what it calls itself? "disk", "DISK", "disk.example.org" are. */
bool lock_client_is_named(const char *name, const char *other);

#endif
