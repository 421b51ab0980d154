/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/client_caller.h"

#include "common/bytes.h"
#include "common/portmap.h"
#include "common/record.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	HEADER_BYTES = 10 * 4, /* of a call, with AUTH_NONE twice */
	MESSAGE_MAX = HEADER_BYTES + CLIENT_CALL_ARGS_MAX,
	REPLY_MAX = 512 + CLIENT_CALL_RESULTS_MAX,
	RESERVED_LOW = 600,
	RESERVED_HIGH = 1023,
	AUTH_BODY_MAX = 400,
};

/* RFC 1833 */
enum { PMAP_GETPORT = 3, RPCB_GETADDR = 3 };

enum step { ASK_UDP_PORT, ASK_TCP_PORT, ASK_OVER_TCP, CALL_UDP, CALL_TCP };

/* One call on its way. First it asks for the port, then it calls. */
struct out {
	LIST_ENTRY(out) link;
	struct client_caller *caller;
	struct client_call_done done;
	struct sockaddr_storage client;
	socklen_t client_len;
	uint8_t vip[16];
	int fd;
	struct event *ready, *timer;
	enum step step;
	unsigned int tries;
	uint32_t xid;
	uint32_t program, version, procedure;
	int result;  /* why it can't even begin */
	int unheard; /* why the port mapper was not asked over UDP in the end */
	size_t message_len;
	size_t sent; /* of the record, over TCP */
	uint8_t record[RECORD_MARK_BYTES + MESSAGE_MAX]; /* over UDP without the mark */
	struct record_reader reader;
	size_t args_len;
	uint8_t args[];
};

struct client_caller {
	struct event_base *base;
	uint16_t portmap_port;
	struct client_caller_counters counters;
	size_t count;
	LIST_HEAD(, out) calls;
};

struct client_caller *client_caller_new(struct event_base *base, uint16_t portmap_port)
{
	struct client_caller *caller = calloc(1, sizeof(*caller));

	if (!caller)
		return NULL;
	caller->base = base;
	caller->portmap_port = portmap_port;
	LIST_INIT(&caller->calls);
	return caller;
}

const struct client_caller_counters *client_caller_counters(const struct client_caller *caller)
{
	return &caller->counters;
}

static void close_socket(struct out *out)
{
	if (out->ready)
		event_free(out->ready);
	if (out->fd >= 0)
		close(out->fd);
	out->ready = NULL;
	out->fd = -1;
}

static void out_free(struct out *out)
{
	LIST_REMOVE(out, link);
	out->caller->count--;
	close_socket(out);
	if (out->timer)
		event_free(out->timer);
	record_reader_fini(&out->reader);
	free(out);
}

void client_caller_free(struct client_caller *caller)
{
	if (!caller)
		return;
	while (!LIST_EMPTY(&caller->calls))
		out_free(LIST_FIRST(&caller->calls));
	free(caller);
}

static void out_end(struct out *out, int result, const uint8_t *results, size_t len)
{
	struct client_caller_counters *counters = &out->caller->counters;

	counters->answered += result == 0;
	counters->timed_out += result == -ETIMEDOUT;
	counters->refused += result < 0 && result != -ETIMEDOUT;
	if (out->done.fn)
		out->done.fn(out->done.id, result, results, len, out->done.arg);
	out_free(out);
}

/* Addresses */

static socklen_t make_address(const uint8_t address[static 16], uint16_t port, struct sockaddr_storage *out)
{
	struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)out;
	struct sockaddr_in *ipv4 = (struct sockaddr_in *)out;

	memset(out, 0, sizeof(*out));
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)address)) {
		ipv4->sin_family = AF_INET;
		ipv4->sin_port = htons(port);
		memcpy(&ipv4->sin_addr, address + 12, 4);
		return sizeof(*ipv4);
	}
	ipv6->sin6_family = AF_INET6;
	ipv6->sin6_port = htons(port);
	memcpy(&ipv6->sin6_addr, address, 16);
	return sizeof(*ipv6);
}

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
	if (address->ss_family == AF_INET)
		((struct sockaddr_in *)address)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)address)->sin6_port = htons(port);
}

static int bind_reserved(int fd, const uint8_t vip[static 16])
{
	struct sockaddr_storage address;
	uint16_t from = RESERVED_LOW;

	if (getrandom(&from, sizeof(from), GRND_NONBLOCK) != sizeof(from))
		from = RESERVED_LOW;
	for (unsigned int i = 0; i <= RESERVED_HIGH - RESERVED_LOW; i++) {
		uint16_t port = (uint16_t)(RESERVED_LOW + (from + i) % (RESERVED_HIGH - RESERVED_LOW + 1));
		socklen_t len = make_address(vip, port, &address);

		if (bind(fd, (struct sockaddr *)&address, len) == 0)
			return 0;
		if (errno != EADDRINUSE && errno != EACCES)
			return -errno;
	}
	return bind(fd, (struct sockaddr *)&address, make_address(vip, 0, &address)) < 0 ? -errno : 0;
}

static int open_socket(const uint8_t vip[static 16], int family, int type)
{
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc;

	if (fd < 0)
		return -errno;
	/* Else connections that are over keep the few reserved ports for a minute. */
	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	rc = bind_reserved(fd, vip);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* Messages */

static void put_header(struct bytes_writer *w, uint32_t xid, uint32_t program, uint32_t version, uint32_t procedure)
{
	bytes_put_be32(w, xid);
	bytes_put_be32(w, 0); /* a call */
	bytes_put_be32(w, 2); /* of RPC version 2 */
	bytes_put_be32(w, program);
	bytes_put_be32(w, version);
	bytes_put_be32(w, procedure);
	for (int i = 0; i < 4; i++)
		bytes_put_be32(w, 0); /* AUTH_NONE: flavor and length, of credentials and verifier */
}

static void put_text(struct bytes_writer *w, const char *text)
{
	size_t len = strlen(text);

	bytes_put_be32(w, (uint32_t)len);
	bytes_put(w, text, len);
	bytes_put(w, "\0\0", -len & 3);
}

static uint32_t new_xid(void)
{
	uint32_t xid;

	/* Nobody off the path should guess it. */
	while (getrandom(&xid, sizeof(xid), 0) != sizeof(xid))
		;
	return xid;
}

static uint8_t *message_of(struct out *out)
{
	return out->record + RECORD_MARK_BYTES;
}

static bool is_rpcbind(const struct out *out)
{
	return out->client.ss_family == AF_INET6;
}

static void make_port_question(struct out *out)
{
	struct bytes_writer w = bytes_writer_init(message_of(out), MESSAGE_MAX);

	out->xid = new_xid();
	if (is_rpcbind(out)) {
		put_header(&w, out->xid, PORTMAP_PROGRAM, 3, RPCB_GETADDR);
		bytes_put_be32(&w, out->program);
		bytes_put_be32(&w, out->version);
		put_text(&w, out->step == ASK_UDP_PORT ? "udp6" : "tcp6");
		put_text(&w, "");
		put_text(&w, "");
	} else {
		put_header(&w, out->xid, PORTMAP_PROGRAM, 2, PMAP_GETPORT);
		bytes_put_be32(&w, out->program);
		bytes_put_be32(&w, out->version);
		bytes_put_be32(&w, out->step == ASK_UDP_PORT ? IPPROTO_UDP : IPPROTO_TCP);
		bytes_put_be32(&w, 0);
	}
	out->message_len = w.written;
}

static void make_call(struct out *out)
{
	struct bytes_writer w = bytes_writer_init(message_of(out), MESSAGE_MAX);

	out->xid = new_xid();
	put_header(&w, out->xid, out->program, out->version, out->procedure);
	bytes_put(&w, out->args, out->args_len);
	out->message_len = w.written;
}

int client_caller_parse_reply(uint32_t xid, const uint8_t *datagram, size_t datagram_len, const uint8_t **results,
			      size_t *len)
{
	struct bytes_reader r = bytes_reader_init(datagram, datagram_len);
	uint32_t got = bytes_get_be32(&r), type = bytes_get_be32(&r), denied, verifier, status;

	if (r.failed || got != xid || type != 1)
		return -EBADMSG;
	denied = bytes_get_be32(&r);
	if (!r.failed && denied)
		return -EPROTO;
	bytes_get_be32(&r);
	verifier = bytes_get_be32(&r);
	if (verifier > AUTH_BODY_MAX)
		return -EBADMSG;
	bytes_take(&r, (verifier + 3) / 4 * 4);
	status = bytes_get_be32(&r);
	if (r.failed)
		return -EBADMSG;
	if (status != RPC_ACCEPT_SUCCESS)
		return status == RPC_ACCEPT_PROG_UNAVAIL ? -ENOENT : -EPROTO;
	*results = r.p;
	*len = r.left;
	return 0;
}

/* "ADDRESS.P1.P2", RFC 5665: only the port is of interest. */
static int parse_universal(const char *text, uint16_t *port)
{
	const char *low = strrchr(text, '.'), *high = low;
	unsigned int p1, p2;
	int end = 0;

	while (high && high > text && high[-1] != '.')
		high--;
	if (!low || high == text || sscanf(high, "%3u.%3u%n", &p1, &p2, &end) != 2 || high[end] || p1 > 255 || p2 > 255)
		return -EBADMSG;
	*port = (uint16_t)(p1 << 8 | p2);
	return *port ? 0 : -ENOENT;
}

int client_caller_parse_port(const uint8_t *results, size_t len, int rpcbind, uint16_t *port)
{
	struct bytes_reader r = bytes_reader_init(results, len);
	uint32_t number = bytes_get_be32(&r);
	char text[128];
	const uint8_t *bytes;

	if (r.failed)
		return -EBADMSG;
	if (!number)
		return -ENOENT;
	if (!rpcbind) {
		if (number > UINT16_MAX)
			return -EBADMSG;
		*port = (uint16_t)number;
		return 0;
	}
	bytes = number < sizeof(text) ? bytes_take(&r, number) : NULL;
	if (!bytes)
		return -EBADMSG;
	memcpy(text, bytes, number);
	text[number] = '\0';
	return parse_universal(text, port);
}

/* The course of a call */

static void send_message(struct out *out)
{
	unsigned int ms = CLIENT_CALLER_FIRST_MS << out->tries;

	out->caller->counters.resent += out->tries > 0;
	out->tries++;
	/* What can't be sent now is sent again, like what was lost; what the network says comes with recv(). */
	(void)!send(out->fd, message_of(out), out->message_len, 0);
	event_add(out->timer, &(struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 });
}

static int wait_for(struct out *out, short what, event_callback_fn on_ready)
{
	if (out->ready)
		event_free(out->ready);
	out->ready = event_new(out->caller->base, out->fd, what | EV_PERSIST, on_ready, out);
	return out->ready && event_add(out->ready, NULL) == 0 ? 0 : -ENOMEM;
}

/* Over TCP */

static int received_port(struct out *out, const uint8_t *results, size_t len);

static void stream_failed(struct out *out, int rc)
{
	out_end(out, out->step == ASK_OVER_TCP ? out->unheard : rc, NULL, 0);
}

static void on_stream_readable(evutil_socket_t fd, short what, void *arg)
{
	struct out *out = arg;
	const uint8_t *record, *results = NULL;
	size_t room, record_len, len = 0;
	uint8_t *memory = record_room(&out->reader, 0, &room);
	ssize_t got = memory ? recv(fd, memory, room, 0) : 0;
	int rc;

	(void)what;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		stream_failed(out, got < 0 ? -errno : memory ? -ECONNRESET : -ENOMEM);
		return;
	}
	record_filled(&out->reader, (size_t)got);
	rc = record_next(&out->reader, REPLY_MAX, &record, &record_len);
	if (rc == 0)
		return;
	/* Nothing but the reply may come. */
	if (rc > 0)
		rc = client_caller_parse_reply(out->xid, record, record_len, &results, &len);
	if (rc == 0 && out->step == ASK_OVER_TCP)
		rc = received_port(out, results, len);
	else if (rc == 0)
		out_end(out, 0, results, len);
	if (rc < 0)
		stream_failed(out, rc);
}

/* Connected, or refused: then send() says so. */
static void on_stream_writable(evutil_socket_t fd, short what, void *arg)
{
	struct out *out = arg;
	size_t len = RECORD_MARK_BYTES + out->message_len;
	ssize_t sent = send(fd, out->record + out->sent, len - out->sent, MSG_NOSIGNAL);
	int rc = 0;

	(void)what;
	if (sent < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (sent < 0)
		rc = -errno;
	else
		out->sent += (size_t)sent;
	if (rc == 0 && out->sent == len)
		rc = wait_for(out, EV_READ, on_stream_readable);
	if (rc < 0)
		stream_failed(out, rc);
}

static int connect_stream(struct out *out)
{
	const unsigned int ms = CLIENT_CALLER_STREAM_MS;

	close_socket(out);
	out->fd = open_socket(out->vip, out->client.ss_family, SOCK_STREAM);
	if (out->fd < 0)
		return out->fd;
	if (connect(out->fd, (struct sockaddr *)&out->client, out->client_len) < 0 && errno != EINPROGRESS)
		return -errno;
	if (out->step == ASK_OVER_TCP)
		make_port_question(out);
	else
		make_call(out);
	record_mark_put(out->record, out->message_len);
	out->sent = 0;
	record_reader_fini(&out->reader);
	out->reader = (struct record_reader){ 0 };
	event_add(out->timer, &(struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 });
	return wait_for(out, EV_WRITE, on_stream_writable);
}

/* Over UDP */

/* From the port mapper to the program. */
static int turn_to(struct out *out, uint16_t port)
{
	set_port(&out->client, port);
	out->tries = 0;
	if (out->step != ASK_UDP_PORT) {
		out->step = CALL_TCP;
		return connect_stream(out);
	}
	out->step = CALL_UDP;
	if (connect(out->fd, (struct sockaddr *)&out->client, out->client_len) < 0)
		return -errno;
	make_call(out);
	send_message(out);
	return 0;
}

static void ask_port(struct out *out, enum step step)
{
	out->step = step;
	out->tries = 0;
	make_port_question(out);
	send_message(out);
}

/* The port mapper's answer. Return: 0: the call goes on */
static int received_port(struct out *out, const uint8_t *results, size_t len)
{
	uint16_t port;
	int rc = client_caller_parse_port(results, len, is_rpcbind(out), &port);

	if (rc == 0)
		return turn_to(out, port);
	if (rc != -ENOENT || out->step != ASK_UDP_PORT)
		return rc;
	ask_port(out, ASK_TCP_PORT);
	return 0;
}

/* Over UDP it is not there, or something in between lets nothing through. Without a port mapper over TCP either that is told. */
static void ask_over_tcp(struct out *out, int unheard)
{
	out->step = ASK_OVER_TCP;
	out->unheard = unheard;
	if (connect_stream(out) < 0)
		out_end(out, unheard, NULL, 0);
}

static void not_answered(struct out *out, int why)
{
	if (out->step == ASK_UDP_PORT || out->step == ASK_TCP_PORT)
		ask_over_tcp(out, why);
	else
		out_end(out, why, NULL, 0);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct out *out = arg;

	(void)fd, (void)what;
	if (out->result < 0)
		out_end(out, out->result, NULL, 0);
	else if (out->step == ASK_OVER_TCP || out->step == CALL_TCP)
		stream_failed(out, -ETIMEDOUT);
	else if (out->tries == CLIENT_CALLER_TRIES)
		not_answered(out, -ETIMEDOUT);
	else
		send_message(out);
}

static void received(struct out *out, const uint8_t *datagram, size_t datagram_len)
{
	const uint8_t *results;
	size_t len;
	int rc = client_caller_parse_reply(out->xid, datagram, datagram_len, &results, &len);

	if (rc == -EBADMSG)
		return; /* a late answer, or nobody's */
	if (rc == 0 && out->step == CALL_UDP) {
		out_end(out, 0, results, len);
		return;
	}
	if (rc == 0)
		rc = received_port(out, results, len);
	if (rc < 0)
		out_end(out, rc, NULL, 0);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct out *out = arg;
	uint8_t datagram[REPLY_MAX];
	ssize_t len = recv(fd, datagram, sizeof(datagram), 0);

	(void)what;
	if (len >= 0)
		received(out, datagram, (size_t)len);
	else if (errno == ECONNREFUSED)
		not_answered(out, -ECONNREFUSED);
	/* Other errors of the network may pass; the timer ends the call. */
}

static int start(struct out *out, const struct client_call *call)
{
	int rc;

	out->client_len = make_address(call->client, out->caller->portmap_port, &out->client);
	memcpy(out->vip, call->vip, sizeof(out->vip));
	out->fd = open_socket(out->vip, out->client.ss_family, SOCK_DGRAM);
	if (out->fd < 0)
		return out->fd;
	if (connect(out->fd, (struct sockaddr *)&out->client, out->client_len) < 0)
		return -errno;
	rc = wait_for(out, EV_READ, on_readable);
	if (rc == 0)
		ask_port(out, ASK_UDP_PORT);
	return rc;
}

void client_caller_call(const struct client_call *call, const struct client_call_done *done, void *arg)
{
	struct client_caller *caller = arg;
	struct out *out = NULL;

	if (caller->count < CLIENT_CALLER_CALLS_MAX && call->args_len <= CLIENT_CALL_ARGS_MAX)
		out = calloc(1, sizeof(*out) + call->args_len);
	if (out)
		out->timer = evtimer_new(caller->base, on_timer, out);
	if (!out || !out->timer) {
		free(out);
		caller->counters.refused++;
		if (done->fn)
			done->fn(done->id, -EAGAIN, NULL, 0, done->arg);
		return;
	}
	out->caller = caller;
	out->done = *done;
	out->fd = -1;
	out->program = call->program;
	out->version = call->version;
	out->procedure = call->procedure;
	out->args_len = call->args_len;
	memcpy(out->args, call->args, call->args_len);
	LIST_INSERT_HEAD(&caller->calls, out, link);
	caller->count++;
	caller->counters.calls++;
	out->result = start(out, call);
	if (out->result < 0) /* told in the next turn */
		event_add(out->timer, &(struct timeval){ 0 });
}
