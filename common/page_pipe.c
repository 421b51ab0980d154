/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/page_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096 };

struct page_pipe {
	SLIST_ENTRY(page_pipe) link;
	int read_fd, write_fd;
	size_t len;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static SLIST_HEAD(, page_pipe) idle = SLIST_HEAD_INITIALIZER(idle); /* under the mutex, as the next */
static unsigned int in_use;

bool page_pipe_fits(uint64_t offset, size_t len)
{
	return offset % PAGE_BYTES == 0 && offset <= INT64_MAX - PAGE_PIPE_BYTES && len <= PAGE_PIPE_BYTES;
}

static void pipe_close(struct page_pipe *pipe)
{
	close(pipe->read_fd);
	close(pipe->write_fd);
	free(pipe);
}

static struct page_pipe *pipe_open(void)
{
	struct page_pipe *pipe = calloc(1, sizeof(*pipe));
	int fds[2];

	if (!pipe)
		return NULL;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK)) {
		free(pipe);
		return NULL;
	}
	pipe->read_fd = fds[0];
	pipe->write_fd = fds[1];
	if (fcntl(pipe->write_fd, F_SETPIPE_SZ, PAGE_PIPE_BYTES) < PAGE_PIPE_BYTES) {
		pipe_close(pipe);
		return NULL;
	}
	return pipe;
}

struct page_pipe *page_pipe_get(void)
{
	struct page_pipe *pipe = NULL;
	bool may_have;

	pthread_mutex_lock(&mutex);
	may_have = in_use < PAGE_PIPES_MAX;
	if (may_have) {
		in_use++;
		pipe = SLIST_FIRST(&idle);
		if (pipe)
			SLIST_REMOVE_HEAD(&idle, link);
	}
	pthread_mutex_unlock(&mutex);
	if (pipe || !may_have)
		return pipe;
	pipe = pipe_open();
	if (!pipe) {
		pthread_mutex_lock(&mutex);
		in_use--;
		pthread_mutex_unlock(&mutex);
	}
	return pipe;
}

void page_pipe_put(struct page_pipe *pipe)
{
	bool is_reusable;

	if (!pipe)
		return;
	is_reusable = pipe->len == 0; /* it takes longer to empty one than to make one */
	if (!is_reusable)
		pipe_close(pipe);
	pthread_mutex_lock(&mutex);
	in_use--;
	if (is_reusable)
		SLIST_INSERT_HEAD(&idle, pipe, link);
	pthread_mutex_unlock(&mutex);
}

/* For file systems whose pages can't be had: through memory. */
static ssize_t fill_by_copy(struct page_pipe *pipe, int fd, off_t at, size_t len)
{
	uint8_t *bytes = malloc(len);
	ssize_t got = bytes ? pread(fd, bytes, len, at) : -1;
	int rc = bytes ? -errno : -ENOMEM;

	if (got > 0) {
		got = write(pipe->write_fd, bytes, (size_t)got);
		rc = -errno;
	}
	free(bytes);
	return got < 0 ? rc : got;
}

ssize_t page_pipe_fill(struct page_pipe *pipe, int fd, uint64_t offset, size_t len)
{
	while (pipe->len < len) {
		off_t at = (off_t)(offset + pipe->len);
		ssize_t got = splice(fd, &at, pipe->write_fd, NULL, len - pipe->len, SPLICE_F_NONBLOCK);

		if (got < 0)
			got = errno == EINVAL ? fill_by_copy(pipe, fd, at, len - pipe->len) : -errno;
		if (got == -EINTR)
			continue;
		if (got < 0)
			return got;
		if (got == 0)
			break;
		pipe->len += (size_t)got;
	}
	return (ssize_t)pipe->len;
}

size_t page_pipe_len(const struct page_pipe *pipe)
{
	return pipe->len;
}

ssize_t page_pipe_send(struct page_pipe *pipe, int socket)
{
	ssize_t sent = splice(pipe->read_fd, NULL, socket, NULL, pipe->len, SPLICE_F_NONBLOCK);

	if (sent < 0)
		return -errno;
	pipe->len -= (size_t)sent;
	return sent;
}

static int read_all(int fd, uint8_t *into, size_t len)
{
	while (len) {
		ssize_t got = read(fd, into, len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		into += got;
		len -= (size_t)got;
	}
	return 0;
}

/* tee(2) puts references to the same pages into another pipe, which is emptied then. */
int page_pipe_copy(const struct page_pipe *pipe, uint8_t *into)
{
	struct page_pipe *copy = pipe_open();
	ssize_t len;
	int rc;

	if (!copy)
		return -ENOMEM;
	len = tee(pipe->read_fd, copy->write_fd, pipe->len, SPLICE_F_NONBLOCK);
	rc = len < 0 ? -errno : (size_t)len < pipe->len ? -EIO : read_all(copy->read_fd, into, pipe->len);
	pipe_close(copy);
	return rc;
}
