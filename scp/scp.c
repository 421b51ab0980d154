/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "scp/scp.h"

#include "common/log.h"
#include "scp/backoff.h"
#include "scp/scp_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	STRANGERS_MAX = 256,
	LISTEN_BACKLOG = 128,
	LISTEN_AGAIN_MS = 1000,
	STEADY_MS = 5000, /* a session that lasted so long was a good one: the next try is soon */
};

uint64_t scp_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static const char *channel_name(scp_channel channel)
{
	return channel == SCP_CONTROL ? "control" : "relay";
}

static void timer_arm(struct event *timer, unsigned int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	evtimer_add(timer, &tv);
}

/*
 * Addresses
 */

const char *scp_address_text(const struct sockaddr *address, char text[static SCP_ADDRESS_TEXT])
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
	const void *bytes = address->sa_family == AF_INET ? (const void *)&v4->sin_addr : (const void *)&v6->sin6_addr;
	int family = address->sa_family;

	if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		family = AF_INET;
		bytes = v6->sin6_addr.s6_addr + 12;
	}
	if (!inet_ntop(family, bytes, text, SCP_ADDRESS_TEXT))
		snprintf(text, SCP_ADDRESS_TEXT, "unknown");
	return text;
}

static socklen_t address_len(const struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int address_parse(const char *text, uint16_t port, struct sockaddr_storage *out)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(text, service, &hints, &found))
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	memcpy(out, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

/*
 * The reaper
 */

/* Each call may change the list, so it is searched from the start again. */
static struct scp_link *find_owing(const struct scp *scp)
{
	struct scp_link *link;

	TAILQ_FOREACH(link, &scp->links, entry)
		if (link->owes_down)
			return link;
	return NULL;
}

static void tell_downs(struct scp *scp)
{
	struct scp_link *link;

	while ((link = find_owing(scp))) {
		link->owes_down = false;
		scp->options.handlers->on_down(link->node, link->channel, link->reason, scp->options.arg);
	}
}

static void free_closed(struct scp *scp)
{
	struct scp_link *link, *next;

	for (link = TAILQ_FIRST(&scp->links); link; link = next) {
		next = TAILQ_NEXT(link, entry);
		if (link->state == LINK_CLOSED && !link->owes_down)
			scp_link_free(link);
	}
}

static void on_reap(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	tell_downs(arg);
	free_closed(arg);
}

void scp_reap_later(struct scp *scp)
{
	event_active(scp->reaper, 0, 0);
}

/*
 * Lines and peers
 */

static void line_retry(struct scp_line *line)
{
	if (!line->peer->wanted || line->peer->scp->is_stopping)
		return;
	timer_arm(line->retry, backoff_next(&line->backoff_ms, arc4random()));
}

/* Return: a socket being connected, or negative errno */
static int connect_begin(const struct sockaddr_storage *address)
{
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, address_len(address)) < 0 && errno != EINPROGRESS) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static int line_connect(struct scp_line *line)
{
	struct scp_peer *peer = line->peer;
	int fd = connect_begin(&peer->address);

	if (fd < 0)
		return fd;
	return scp_link_new(peer->scp, fd, (struct sockaddr *)&peer->address, line, &line->trying);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct scp_line *line = arg;
	struct scp *scp = line->peer->scp;
	char address[SCP_ADDRESS_TEXT];
	int rc;

	(void)fd;
	(void)what;
	if (line->up || line->trying)
		return;
	rc = line_connect(line);
	if (!rc)
		return;
	scp_address_text((struct sockaddr *)&line->peer->address, address);
	if (log_once_is_new(&scp->once, address, strerror(-rc), scp_now_ms()))
		log_warn("scp", "node=%u address=%s can't connect, trying again: %s", line->peer->node, address,
			 strerror(-rc));
	line_retry(line);
}

static struct scp_peer *peer_find(const struct scp *scp, uint32_t node)
{
	struct scp_peer *peer;

	LIST_FOREACH(peer, &scp->peers, entry)
		if (peer->node == node)
			return peer;
	return NULL;
}

static void peer_free(struct scp_peer *peer)
{
	for (int i = 0; i < SCP_CHANNELS; i++)
		if (peer->lines[i].retry)
			event_free(peer->lines[i].retry);
	free(peer);
}

static struct scp_peer *peer_new(struct scp *scp, uint32_t node)
{
	struct scp_peer *peer = calloc(1, sizeof(*peer));

	if (!peer)
		return NULL;
	peer->scp = scp;
	peer->node = node;
	for (int i = 0; i < SCP_CHANNELS; i++) {
		struct scp_line *line = &peer->lines[i];

		line->peer = peer;
		line->channel = (scp_channel)i;
		line->retry = evtimer_new(scp->options.base, on_retry, line);
		if (!line->retry) {
			peer_free(peer);
			return NULL;
		}
	}
	LIST_INSERT_HEAD(&scp->peers, peer, entry);
	return peer;
}

static struct scp_peer *peer_find_or_new(struct scp *scp, uint32_t node)
{
	struct scp_peer *peer = peer_find(scp, node);

	return peer ? peer : peer_new(scp, node);
}

static struct scp_link *link_find(const struct scp *scp, uint32_t node, scp_channel channel)
{
	struct scp_peer *peer = peer_find(scp, node);

	return peer && channel <= SCP_RELAY ? peer->lines[channel].up : NULL;
}

/*
 * What links tell
 */

/* The peer has made a new session, so it has lost the old one: only we did not know yet. */
static void line_replace(struct scp_line *line, struct scp_link *link)
{
	struct scp_link *old = line->up;
	char reason[SCP_ADDRESS_TEXT + 64];

	snprintf(reason, sizeof(reason), "replaced by a newer session from %s", link->address);
	if (line->trying == link)
		line->trying = NULL;
	if (old)
		scp_link_part(old, reason);
	line->up = link;
}

void scp_link_is_up(struct scp_link *link, const scp_hello *hello)
{
	struct scp *scp = link->scp;
	struct scp_peer *peer = link->line ? link->line->peer : peer_find_or_new(scp, link->node);

	if (!peer) {
		scp_link_close(link, "no memory");
		return;
	}
	link->line = &peer->lines[link->channel];
	line_replace(link->line, link);
	log_once_forget(&scp->once, link->address);
	log_info("scp", "node=%u channel=%s address=%s up: %s", link->node, channel_name(link->channel),
		 link->address, hello->software);
	tell_downs(scp); /* of the replaced one, before the new one is up */
	if (link->state != LINK_UP)
		return;
	link->is_announced = true;
	scp->options.handlers->on_up(link->node, link->channel, hello, scp->options.arg);
}

void scp_link_has_left(struct scp_link *link, bool was_up)
{
	struct scp_line *line = link->line;

	if (was_up)
		log_info("scp", "node=%u channel=%s address=%s down: %s", link->node, channel_name(link->channel),
			 link->address, link->reason);
	if (link->is_announced) {
		link->owes_down = true;
		scp_reap_later(link->scp);
	}
	if (!line)
		return;
	if (line->up == link)
		line->up = NULL;
	if (line->trying == link)
		line->trying = NULL;
	if (was_up && scp_now_ms() - link->up_ms >= STEADY_MS)
		line->backoff_ms = BACKOFF_MIN_MS;
	line_retry(line);
}

void scp_peer_is_silent(struct scp_peer *peer, const char *reason)
{
	for (int i = 0; i < SCP_CHANNELS; i++)
		if (peer->lines[i].up)
			scp_link_close(peer->lines[i].up, reason);
}

/*
 * Listening
 */

/* A device says who it is within milliseconds, so the newest has the best claim: a silent crowd keeps nobody out. */
static void close_oldest_stranger(struct scp *scp)
{
	struct scp_link *link;

	TAILQ_FOREACH(link, &scp->links, entry)
		if (link->is_counted) {
			scp_link_close(link, "too many sessions whose peers don't say who they are");
			return;
		}
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int len, void *arg)
{
	struct scp *scp = arg;
	struct scp_link *link;
	char text[SCP_ADDRESS_TEXT];

	(void)listener;
	(void)len;
	if (scp->strangers >= STRANGERS_MAX) {
		close_oldest_stranger(scp);
		scp->counters.refused++;
		scp_address_text(address, text);
		if (log_once_is_new(&scp->once, "strangers", "", scp_now_ms()))
			log_warn("scp", "address=%s and others crowd the port: more than %d sessions whose peers don't say "
				 "who they are; the oldest are closed", text, STRANGERS_MAX);
	}
	if (scp_link_new(scp, fd, address, NULL, &link))
		log_err("scp", "no memory for a session");
}

/* Without descriptors the listener would be ready again at once, and again. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct scp *scp = arg;
	const char *why = strerror(errno);

	if (log_once_is_new(&scp->once, "accept", why, scp_now_ms()))
		log_err("scp", "can't accept sessions: %s", why);
	evconnlistener_disable(listener);
	timer_arm(scp->listen_again, LISTEN_AGAIN_MS);
}

static void on_listen_again(evutil_socket_t fd, short what, void *arg)
{
	struct scp *scp = arg;

	(void)fd;
	(void)what;
	evconnlistener_enable(scp->listener);
}

static int listen_on(const struct sockaddr_storage *address)
{
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1, off = 0, rc;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (const struct sockaddr *)address, address_len(address)) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* Return: a listening socket, or negative errno */
static int listen_at(const char *text, uint16_t port)
{
	struct sockaddr_storage address;
	int fd;

	if (address_parse(text ? text : "::", port, &address))
		return -EINVAL;
	fd = listen_on(&address);
	if (fd != -EAFNOSUPPORT || text)
		return fd;
	/* A kernel without IPv6. */
	if (address_parse("0.0.0.0", port, &address))
		return -EINVAL;
	return listen_on(&address);
}

static const char *what_to_do(int error)
{
	switch (error) {
	case -EADDRINUSE:
		return "is another vnasd running?";
	case -EADDRNOTAVAIL:
		return "no interface of this machine has the address";
	case -EINVAL:
		return "the address must be a numeric IPv4 or IPv6 address";
	case -EACCES:
		return "ports below 1024 are for root";
	default:
		return "see the error";
	}
}

static int scp_listen(struct scp *scp)
{
	const struct scp_options *options = &scp->options;
	int fd = listen_at(options->listen_address, options->listen_port);

	if (fd < 0) {
		log_err("scp", "address=%s port=%u can't listen: %s (%s)",
			options->listen_address ? options->listen_address : "any", options->listen_port, strerror(-fd),
			what_to_do(fd));
		return fd;
	}
	scp->listener = evconnlistener_new(options->base, on_accept, scp, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
					   0, fd);
	if (!scp->listener) {
		close(fd);
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(scp->listener, on_accept_error);
	return 0;
}

uint16_t scp_port(const struct scp *scp)
{
	struct sockaddr_storage address = { 0 };
	socklen_t len = sizeof(address);

	getsockname(evconnlistener_get_fd(scp->listener), (struct sockaddr *)&address, &len);
	return ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port :
						    ((struct sockaddr_in6 *)&address)->sin6_port);
}

/*
 * The whole
 */

static void options_complete(struct scp_options *options)
{
	options->beat_ms = options->beat_ms ? options->beat_ms : SCP_BEAT_MS;
	options->silence_ms = options->silence_ms ? options->silence_ms : SCP_SILENCE_MS;
	options->hello_ms = options->hello_ms ? options->hello_ms : SCP_HELLO_MS;
}

int scp_new(const struct scp_options *options, struct scp **out)
{
	struct scp *scp = calloc(1, sizeof(*scp));
	int rc = -ENOMEM;

	if (!scp)
		return -ENOMEM;
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes with write(2), which knows no MSG_NOSIGNAL */
	scp->options = *options;
	options_complete(&scp->options);
	LIST_INIT(&scp->peers);
	TAILQ_INIT(&scp->links);
	scp->reaper = event_new(options->base, -1, 0, on_reap, scp);
	scp->listen_again = evtimer_new(options->base, on_listen_again, scp);
	if (!scp->reaper || !scp->listen_again)
		goto fail;
	rc = scp_listen(scp);
	if (rc)
		goto fail;
	*out = scp;
	return 0;
fail:
	scp_free(scp);
	return rc;
}

static void part_all(struct scp *scp, const char *reason)
{
	struct scp_link *link;

	TAILQ_FOREACH(link, &scp->links, entry) {
		scp_link_part(link, reason);
		scp_link_close(link, reason);
	}
}

void scp_free(struct scp *scp)
{
	struct scp_peer *peer;
	char reason[64];

	if (!scp)
		return;
	scp->is_stopping = true;
	snprintf(reason, sizeof(reason), "node %u is stopping", scp->options.self);
	if (scp->reaper) {
		part_all(scp, reason);
		tell_downs(scp);
		free_closed(scp);
		event_free(scp->reaper);
	}
	while ((peer = LIST_FIRST(&scp->peers))) {
		LIST_REMOVE(peer, entry);
		peer_free(peer);
	}
	if (scp->listener)
		evconnlistener_free(scp->listener);
	if (scp->listen_again)
		event_free(scp->listen_again);
	free(scp);
}

static bool is_same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	return memcmp(a, b, sizeof(*a)) == 0; /* address_parse() clears what is not used */
}

static void line_start(struct scp_line *line)
{
	if (line->up)
		return;
	if (line->trying)
		scp_link_close(line->trying, "the device has another address now");
	line->backoff_ms = 0;
	line_retry(line);
}

int scp_connect(struct scp *scp, uint32_t node, const char *address, uint16_t port)
{
	struct sockaddr_storage parsed;
	struct scp_peer *peer;

	if (node == scp->options.self || address_parse(address, port, &parsed))
		return -EINVAL;
	peer = peer_find_or_new(scp, node);
	if (!peer)
		return -ENOMEM;
	if (peer->wanted && is_same_address(&peer->address, &parsed))
		return 0;
	peer->wanted = true;
	peer->address = parsed;
	for (int i = 0; i < SCP_CHANNELS; i++)
		line_start(&peer->lines[i]);
	return 0;
}

void scp_disconnect(struct scp *scp, uint32_t node, const char *reason)
{
	struct scp_peer *peer = peer_find(scp, node);

	if (!peer)
		return;
	peer->wanted = false;
	for (int i = 0; i < SCP_CHANNELS; i++) {
		struct scp_line *line = &peer->lines[i];

		event_del(line->retry);
		if (line->trying)
			scp_link_part(line->trying, reason);
		if (line->up)
			scp_link_part(line->up, reason);
	}
}

bool scp_is_up(const struct scp *scp, uint32_t node, scp_channel channel)
{
	return link_find(scp, node, channel);
}

const struct certificates_facts *scp_certificate_of(const struct scp *scp, uint32_t node)
{
	const struct scp_link *link = link_find(scp, node, SCP_CONTROL);

	return link ? &link->certificate : NULL;
}

void scp_use_tls(struct scp *scp, SSL_CTX *tls)
{
	scp->options.tls = tls;
}

/* A link that is refused stays on the list until the reaper comes. */
void scp_review(struct scp *scp)
{
	struct scp_link *link;

	TAILQ_FOREACH(link, &scp->links, entry)
		scp_link_review(link);
}

uint64_t scp_silence_ms(const struct scp *scp, uint32_t node)
{
	struct scp_link *link = link_find(scp, node, SCP_CONTROL);

	return link ? scp_now_ms() - link->heard_ms : UINT64_MAX;
}

uint32_t scp_next_request(struct scp *scp)
{
	if (!++scp->last_request)
		scp->last_request++;
	return scp->last_request;
}

int scp_send(struct scp *scp, uint32_t node, scp_channel channel, uint32_t request, const scp_message *message)
{
	struct scp_link *link = link_find(scp, node, channel);

	if (!link)
		return -ENOTCONN;
	if (scp_message_is_for_session(message->type) || !scp_message_may_travel(message->type, channel, UINT32_MAX))
		return -EINVAL;
	if (!scp_message_may_travel(message->type, channel, link->protocol))
		return -EPROTONOSUPPORT;
	return scp_link_send(link, request, message);
}

const struct scp_counters *scp_counters(const struct scp *scp)
{
	return &scp->counters;
}
