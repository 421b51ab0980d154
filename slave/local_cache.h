/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/local_cache.h - open objects of a volume, by their handles
 *
 * Opening an object by its handle and closing it takes longer than most operations. So objects stay open for a while after
 * they were used, and with a file the descriptors for its data. What is in the cache is a descriptor and nothing that it
 * says: attributes and permissions are asked of the kernel each time.
 *
 * An open object keeps the space of a file that was removed. So whoever removes a name forgets the object
 * (local_cache_forget()); whoever finds that an object has no name any more does so, too; and what nobody has used for
 * LOCAL_CACHE_IDLE_MS is closed by local_cache_tidy(), which bounds what removals by others can hold. Descriptors for
 * writing go after LOCAL_CACHE_WRITE_IDLE_MS: while one is open a program can't be run, nor its file system be made
 * read-only.
 *
 * What was written and not yet synchronized may fail to reach the disk at any time. The kernel tells that to whoever has
 * the file open, and forgets it with the last descriptor. So an object with such data (local_cache_note_written()) is
 * synchronized before the cache closes a descriptor of it.
 *
 * All caches of the process together hold at most an eighth of the descriptors that it may have (and a few more while many threads
 * open data at the same moment); who is refused one by the
 * kernel empties its cache (local_cache_shrink()).
 *
 * Ownership: local_cache_get() and local_cache_add() give a counted reference; local_cache_put() takes it back.
 * Threads: any; an entry's `fd` and `key` never change, the other descriptors are had by the functions below.
 */
#ifndef VNAS_SLAVE_LOCAL_CACHE_H
#define VNAS_SLAVE_LOCAL_CACHE_H

#include "slave/local.h"

#include <stdbool.h>
#include <stdint.h>

enum { LOCAL_CACHE_IDLE_MS = 10000, LOCAL_CACHE_WRITE_IDLE_MS = 2000 };

struct local_cache;
struct local_open;

/**
 * local_cache_new() - an empty cache
 * @sync:	makes a file's data durable before its descriptor @fd is closed; it keeps the failure, if that fails
 *
 * Return: NULL: no memory
 */
struct local_cache *local_cache_new(void (*sync)(int fd, void *arg), void *arg);

/* No reference may be out. What was not synchronized is not now either: whoever wrote it knows no more of it. NULL is allowed. */
void local_cache_free(struct local_cache *cache);

/* The open object with this handle, and its descriptor (O_PATH); NULL if it is not in the cache. */
struct local_open *local_cache_get(struct local_cache *cache, const struct local_root *key, int *fd);

/**
 * local_cache_add() - keep an object that was opened
 * @fd:		its O_PATH descriptor; taken
 *
 * Return: the reference; NULL if there is no room, and then the descriptor is still the caller's
 */
struct local_open *local_cache_add(struct local_cache *cache, const struct local_root *key, int fd);

/* Without patience (common/patience.h) what should be closed now is closed by local_cache_tidy(). */
void local_cache_put(struct local_open *open);

/* The object's descriptor for reading or writing data, valid as long as the reference; -1 if there is none yet. */
int local_cache_data(struct local_open *open, int flags);

/**
 * local_cache_keep_data() - give it one
 * @fd:		opened with @flags, O_RDONLY or O_WRONLY; taken
 *
 * Return: the one to use, which may be another's
 */
int local_cache_keep_data(struct local_open *open, int flags, int fd);

/* Whether the kernel knows the object's ACL by now; it keeps it as long as the object is open. */
bool local_cache_knows_acl(const struct local_open *open);
void local_cache_note_acl(struct local_open *open);

/* Whether reading was seen to leave the time of the last access as it was, although that is old: noatime and the like. */
bool local_cache_keeps_atime(const struct local_open *open);
void local_cache_note_atime_kept(struct local_open *open);

/* After something was written that is not to be synchronized at once; before it is synchronized. With a reference. */
void local_cache_note_written(struct local_open *open);
void local_cache_note_sync(struct local_open *open);

/* The object has lost a name: close it as soon as nobody uses it. */
void local_cache_forget(struct local_cache *cache, const struct local_root *key);

/* Close what was not used for a while. Closing may wait for the disk: not in the loop. */
void local_cache_tidy(struct local_cache *cache);

/* Close everything that nobody uses now. */
void local_cache_shrink(struct local_cache *cache);

#endif
