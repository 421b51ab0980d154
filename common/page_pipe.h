/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/page_pipe.h - bytes of a file on their way to a socket, without being copied
 *
 * A pipe that holds references to pages of the page cache: splice(2) from a file puts them in, splice(2) to a socket
 * hands them on. What is in it is as long as it was when it was filled, whatever becomes of the file: a reply may promise
 * that length. The bytes themselves may still change when somebody writes to the file, as they may until a READ is
 * answered.
 *
 * There are at most PAGE_PIPES_MAX of them in the process, so that slow clients can't pin more than that many MiB of the
 * page cache: who gets none copies.
 *
 * Ownership: whoever got a pipe owns it and everything in it, and gives it back.
 * Threads: page_pipe_get() and page_pipe_put() from any; a pipe is used by one thread at a time.
 * Source: splice(2)
 */
#ifndef VNAS_COMMON_PAGE_PIPE_H
#define VNAS_COMMON_PAGE_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	PAGE_PIPES_MAX = 64,
	PAGE_PIPE_BYTES = 1024 * 1024, /* what fits, if it begins at the start of a page */
	PAGE_PIPE_MIN = 32 * 1024,     /* what is shorter is cheaper to copy */
};

struct page_pipe;

/* Whether bytes at @offset fit as they are: a page that is not whole would take the room of one that is. */
bool page_pipe_fits(uint64_t offset, size_t len);

/* An empty pipe; NULL if all are in use, or there are no descriptors. */
struct page_pipe *page_pipe_get(void);

/* Done with it, empty or not. NULL is allowed. */
void page_pipe_put(struct page_pipe *pipe);

/**
 * page_pipe_fill() - put bytes of a file into an empty pipe
 * @fd:		a regular file, open for reading
 *
 * Waits for the disk if they are not in the page cache.
 *
 * Return: how many, fewer than @len only at the end of the file; -EIO, -ENOMEM, ...
 */
ssize_t page_pipe_fill(struct page_pipe *pipe, int fd, uint64_t offset, size_t len);

/* What is in it. */
size_t page_pipe_len(const struct page_pipe *pipe);

/* Hand on as much as the socket, which must not block, takes now. Return: bytes; -EAGAIN; -EPIPE, -ECONNRESET, ... */
ssize_t page_pipe_send(struct page_pipe *pipe, int socket);

/* Copy all that is in it to @into; it stays in the pipe. 0; -ENOMEM, -EMFILE, ... */
int page_pipe_copy(const struct page_pipe *pipe, uint8_t *into);

#endif
