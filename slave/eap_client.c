/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/eap_client.h"

#include "common/clock.h"
#include "common/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct ask {
	struct eap eap;
	uint64_t counter; /* 0: free */
	uint64_t asked_us; /* monotonic clock */
};

struct eap_client {
	struct event_base *base;
	eap_client_fn on_end;
	void *arg;
	int fd; /* connected to the switch; -1: no key */
	struct event *readable, *timer;
	uint8_t key[EAP_KEY_BYTES];
	uint64_t counter;
	struct ask asks[EAP_CLIENT_ASKS_MAX];
	struct eap_client_counters counters;
};

/* Return: the one with this counter, 0: one that is free; NULL if there is none */
static struct ask *find(struct eap_client *client, uint64_t counter)
{
	for (struct ask *ask = client->asks; ask < client->asks + EAP_CLIENT_ASKS_MAX; ask++)
		if (ask->counter == counter)
			return ask;
	return NULL;
}

/* It is free before the caller hears of it: he may ask again. */
static void end(struct eap_client *client, struct ask *ask, int result)
{
	struct eap eap = ask->eap;

	ask->counter = 0;
	client->on_end(&eap, result, client->arg);
}

static void arm(struct eap_client *client)
{
	event_add(client->timer, &(struct timeval){ .tv_usec = EAP_CLIENT_PATIENCE_MS * 1000 });
}

/* @before_us: when they were asked; the later ones have time. */
static void give_up(struct eap_client *client, uint64_t before_us)
{
	bool more = false;

	for (struct ask *ask = client->asks; ask < client->asks + EAP_CLIENT_ASKS_MAX; ask++) {
		if (!ask->counter)
			continue;
		if (ask->asked_us <= before_us) {
			client->counters.unanswered++;
			end(client, ask, -ETIMEDOUT);
		} else {
			more = true;
		}
	}
	if (more)
		arm(client);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	give_up(arg, clock_monotonic_us() - EAP_CLIENT_PATIENCE_MS * 1000);
}

static bool is_same_request(const struct eap *a, const struct eap *b)
{
	return a->operation == b->operation && a->device == b->device && a->transaction == b->transaction &&
	       memcmp(&a->flow, &b->flow, sizeof(a->flow)) == 0;
}

static void received(struct eap_client *client, const uint8_t *bytes, size_t len)
{
	struct eap_datagram answer;
	struct ask *ask;

	if (eap_datagram_decode(bytes, len, client->key, &answer) < 0 || answer.kind != EAP_ANSWER) {
		client->counters.forged++;
		return;
	}
	ask = find(client, answer.counter);
	if (!ask || !answer.counter || !is_same_request(&ask->eap, &answer.eap))
		return; /* late: it was asked over SCP meanwhile */
	client->counters.answered++;
	client->counters.answer_us += clock_monotonic_us() - ask->asked_us;
	end(client, ask, -(int)answer.result);
}

/* An error is that the switch has no such port, its program being away: nothing was received. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	uint8_t bytes[EAP_DATAGRAM_BYTES + 1];
	struct eap_client *client = arg;
	ssize_t len;

	(void)what;
	for (int i = 0; i < EAP_CLIENT_ASKS_MAX; i++) {
		len = recv(fd, bytes, sizeof(bytes), 0);
		if (len < 0)
			return;
		received(client, bytes, (size_t)len);
	}
}

/* The wall clock, so that the next run of this daemon with the same key goes on above; but never the same or less. */
static uint64_t next_counter(const struct eap_client *client)
{
	uint64_t now_ns = clock_wall_ns();

	return now_ns > client->counter ? now_ns : client->counter + 1;
}

int eap_client_ask(struct eap_client *client, const struct eap *eap)
{
	struct eap_datagram datagram = { .eap = *eap, .kind = EAP_REQUEST, .counter = next_counter(client) };
	struct ask *ask = find(client, 0);
	uint8_t bytes[EAP_DATAGRAM_BYTES];
	int rc;

	if (client->fd < 0)
		return -ENOKEY;
	if (!ask)
		return -EBUSY;
	rc = eap_datagram_encode(&datagram, client->key, bytes);
	if (rc < 0)
		return rc;
	client->counter = datagram.counter;
	*ask = (struct ask){ .eap = *eap, .counter = datagram.counter, .asked_us = clock_monotonic_us() };
	if (send(client->fd, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0) {
		ask->counter = 0;
		return -errno;
	}
	client->counters.asked++;
	if (!event_pending(client->timer, EV_TIMEOUT, NULL))
		arm(client);
	return 0;
}

static int connect_to(const char *address, uint16_t port, int *out)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM };
	struct addrinfo *found;
	char service[8];
	int fd, rc = 0;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(address, service, &hints, &found) != 0)
		return -EINVAL;
	fd = socket(found->ai_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0)
		rc = -errno;
	freeaddrinfo(found);
	if (rc < 0 && fd >= 0)
		close(fd);
	else if (rc == 0)
		*out = fd;
	return rc;
}

int eap_client_set_key(struct eap_client *client, const uint8_t key[static EAP_KEY_BYTES], const char *address,
		       uint16_t port)
{
	int rc;

	eap_client_forget_key(client);
	rc = connect_to(address, port, &client->fd);
	if (rc < 0)
		return rc;
	client->readable = event_new(client->base, client->fd, EV_READ | EV_PERSIST, on_readable, client);
	if (!client->readable) {
		eap_client_forget_key(client);
		return -ENOMEM;
	}
	event_add(client->readable, NULL);
	memcpy(client->key, key, sizeof(client->key));
	client->counter = 0;
	return 0;
}

void eap_client_forget_key(struct eap_client *client)
{
	if (client->readable)
		event_free(client->readable);
	client->readable = NULL;
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	explicit_bzero(client->key, sizeof(client->key));
	give_up(client, UINT64_MAX);
}

const struct eap_client_counters *eap_client_counters(const struct eap_client *client)
{
	return &client->counters;
}

int eap_client_new(struct event_base *base, eap_client_fn on_end, void *arg, struct eap_client **out)
{
	struct eap_client *client = calloc(1, sizeof(*client));

	if (!client)
		return -ENOMEM;
	client->base = base;
	client->on_end = on_end;
	client->arg = arg;
	client->fd = -1;
	client->timer = evtimer_new(base, on_timer, client);
	if (!client->timer) {
		free(client);
		return -ENOMEM;
	}
	*out = client;
	return 0;
}

void eap_client_free(struct eap_client *client)
{
	if (!client)
		return;
	for (struct ask *ask = client->asks; ask < client->asks + EAP_CLIENT_ASKS_MAX; ask++)
		ask->counter = 0; /* nobody is told any more */
	eap_client_forget_key(client);
	event_free(client->timer);
	free(client);
}
