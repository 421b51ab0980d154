/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "tests/platform/load.h"

#include "tests/platform/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024, SILENCE_MS = 5000 };

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)((offset * 0x9e3779b97f4a7c15u) >> 56);
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct stream {
	int fd;
	uint64_t sent, received;
	uint64_t last_us, longest_gap_us;
	uint8_t buffer[CHUNK];
};

static void send_some(struct stream *s, size_t len)
{
	ssize_t done;

	if (len > CHUNK)
		len = CHUNK;
	for (size_t i = 0; i < len; i++)
		s->buffer[i] = byte_at(s->sent + i);
	done = send(s->fd, s->buffer, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (done > 0)
		s->sent += (uint64_t)done;
	else if (errno != EAGAIN)
		fail("client: send: %s", strerror(errno));
}

static void receive_some(struct stream *s)
{
	ssize_t len = recv(s->fd, s->buffer, CHUNK, MSG_DONTWAIT);
	uint64_t now = now_us();

	if (len < 0 && errno == EAGAIN)
		return;
	if (len <= 0)
		fail("client: %s after %llu bytes", len ? strerror(errno) : "end of file",
		     (unsigned long long)s->received);
	for (ssize_t i = 0; i < len; i++)
		if (s->buffer[i] != byte_at(s->received + (uint64_t)i))
			fail("client: wrong byte at %llu", (unsigned long long)s->received + (unsigned long long)i);
	s->received += (uint64_t)len;
	if (s->last_us && now - s->last_us > s->longest_gap_us)
		s->longest_gap_us = now - s->last_us;
	s->last_us = now;
}

static void run_stream(struct stream *s, int stop_fd, size_t message_len, size_t window)
{
	bool stopping = false;

	while (!stopping || s->received < s->sent) {
		size_t room = window * message_len - (size_t)(s->sent - s->received);
		struct pollfd p[2] = { { .fd = s->fd, .events = POLLIN }, { .fd = stop_fd } };

		if (!stopping && room >= message_len) {
			p[0].events |= POLLOUT;
			p[1].events |= POLLIN;
		}
		if (poll(p, stopping ? 1 : 2, SILENCE_MS) == 0)
			fail("client: nothing for %d ms after %llu bytes, %llu outstanding", SILENCE_MS,
			     (unsigned long long)s->received, (unsigned long long)(s->sent - s->received));
		if (p[1].revents & POLLHUP)
			stopping = true;
		if (p[0].revents & POLLIN)
			receive_some(s);
		if (!stopping && (p[0].revents & POLLOUT))
			send_some(s, room / message_len * message_len);
		if (p[0].revents & POLLERR)
			fail("client: connection broke after %llu bytes", (unsigned long long)s->received);
	}
}

static void run_client(int stop_fd, int result_fd, const char *address, uint16_t port, size_t message_len,
		       size_t window)
{
	struct stream *s = calloc(1, sizeof(*s));
	struct load_result result;
	char byte;

	CHECK(s);
	s->fd = netns_connect(-1, address, port);
	run_stream(s, stop_fd, message_len, window);
	shutdown(s->fd, SHUT_WR);
	if (recv(s->fd, &byte, 1, 0) != 0)
		fail("client: no end of file");
	close(s->fd);
	result = (struct load_result){ s->received, s->received / message_len, s->longest_gap_us };
	free(s);
	CHECK(write(result_fd, &result, sizeof(result)) == sizeof(result));
	_exit(0);
}

struct load_client load_start(int netns, const char *address, uint16_t port, size_t message_len, size_t window)
{
	struct load_client client;
	int stop[2], result[2];

	CHECK(pipe2(stop, O_CLOEXEC) == 0 && pipe2(result, O_CLOEXEC) == 0);
	client.pid = fork();
	CHECK(client.pid >= 0);
	if (client.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(stop[1]);
		netns_enter(netns);
		run_client(stop[0], result[1], address, port, message_len, window);
	}
	close(stop[0]);
	close(result[1]);
	client.stop_fd = stop[1];
	client.result_fd = result[0];
	return client;
}

void load_stop(struct load_client *client)
{
	close(client->stop_fd);
}

struct load_result load_wait(struct load_client *client)
{
	struct load_result result = { 0 };
	int status;

	if (read(client->result_fd, &result, sizeof(result)) != sizeof(result))
		fail("the client did not finish");
	CHECK(waitpid(client->pid, &status, 0) == client->pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(client->result_fd);
	return result;
}

static void make_room(struct load_server *server, size_t len)
{
	if (!server->pending)
		server->pending = malloc(LOAD_PENDING_MAX);
	CHECK(server->pending && server->pending_len + len <= LOAD_PENDING_MAX);
}

void load_pend(struct load_server *server, const uint8_t *bytes, size_t len)
{
	make_room(server, len);
	if (len)
		memcpy(server->pending + server->pending_len, bytes, len);
	server->pending_len += len;
}

void load_pend_first(struct load_server *server, const uint8_t *bytes, size_t len)
{
	make_room(server, len);
	if (len == 0)
		return;
	memmove(server->pending + len, server->pending, server->pending_len);
	memcpy(server->pending, bytes, len);
	server->pending_len += len;
}

static void flush_pending(struct load_server *server)
{
	ssize_t len;

	if (server->pending_len == 0)
		return;
	len = send(server->fd, server->pending, server->pending_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (len < 0 && errno != EAGAIN)
		fail("server: send: %s", strerror(errno));
	if (len <= 0)
		return;
	server->echoed += (uint64_t)len;
	server->pending_len -= (size_t)len;
	memmove(server->pending, server->pending + len, server->pending_len);
}

int load_serve(struct load_server *server)
{
	static uint8_t buffer[CHUNK];
	ssize_t len = -1;

	flush_pending(server);
	if (server->pending_len < LOAD_PENDING_MAX / 4) {
		len = recv(server->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (len < 0 && errno != EAGAIN)
			fail("server: receive: %s", strerror(errno));
		if (len > 0)
			load_pend(server, buffer, (size_t)len);
	}
	flush_pending(server);
	return len == 0 && server->pending_len == 0 ? 0 : 1;
}
