/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * docs/examples/echo_server.c - a server whose sessions move between devices, by common/tch.h
 *
 * Sends back what it gets, at VIP, TCP port 7. After every STAY_BYTES a session goes on to the next device; every other time that
 * one is told before (SO_HND). docs/examples/README.md follows it step by step. SIGTERM resets what sessions there are and ends it,
 * SIGUSR1 ends them silently.
 *
 * On each of three machines, inline: DEVICE 1 is the switch, and INTERFACE leads to the other devices, whose addresses follow.
 */
#include "config.h"

#include "common/bytes.h"
#include "common/log.h"
#include "docs/examples/devices.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

enum { PORT = 7, STAY_BYTES = 64 * 1024, OUTPUT_MAX = 1024 * 1024, TOS = 0x20, USER_TIMEOUT_MS = 30000 };

struct session {
	LIST_ENTRY(session) link;
	struct tch_session now; /* as common/tch.h wants to see it */
	struct bufferevent *client;
	uint64_t echoed, moves_at; /* bytes */
};

static struct devices_options options;
static struct devices *devices;
static LIST_HEAD(, session) sessions = LIST_HEAD_INITIALIZER(sessions);

/* The server: what it would do without handoffs, but for move_on() */

static int session_free(void *own, void *arg __attribute__((unused))) /* its socket goes on, here or elsewhere */
{
	struct session *session = own;
	int fd = session->now.fd;

	LIST_REMOVE(session, link);
	bufferevent_free(session->client);
	free(session);
	return fd;
}

static void session_close(void *own, bool reset, void *arg)
{
	uint64_t id = ((struct session *)own)->now.id;
	int fd = session_free(own, arg);

	if (reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
	close(fd);
	tch_session_closed(devices_tch(devices), id);
}

static void on_moved(uint64_t session, uint32_t node, int result, uint32_t duration_us, void *arg __attribute__((unused)))
{
	if (result == 0)
		printf("moved session=%jx to=%u us=%u\n", (uintmax_t)session, node, duration_us);
}

static void move_on(struct session *session)
{
	struct tch *tch = devices_tch(devices);
	struct tch_timers timers = { 0 };
	struct tch_standing standing = { 0 };
	uint32_t next = options.self % DEVICES + 1;
	uint64_t id = session->now.id;

	if (session->now.handoffs % 2 && session->echoed + STAY_BYTES / 2 >= session->moves_at)
		tch_so_hnd(tch, id, next, true); /* if this fails, the handoff takes longer */
	if (session->echoed < session->moves_at || tch_so_set(tch, id, next, TCH_FULL, on_moved, NULL) < 0)
		return; /* it stays for now: the next device is away, or it is being handed off already */
	tch_so_timer(tch, id, NULL, &timers);
	tch_so_state(tch, id, &standing);
	printf("moving session=%jx state=%s to=%u tos=%d user_timeout_ms=%u echoed=%ju\n", (uintmax_t)id, standing.state, standing.node,
	       tch_so_iptos(tch, id, -1), timers.user_timeout_ms, (uintmax_t)session->echoed);
}

static void on_readable(struct bufferevent *client, void *arg)
{
	struct session *session = arg;

	session->echoed += evbuffer_get_length(bufferevent_get_input(client));
	bufferevent_write_buffer(client, bufferevent_get_input(client));
	if (evbuffer_get_length(bufferevent_get_output(client)) > OUTPUT_MAX)
		bufferevent_disable(client, EV_READ);
	move_on(session);
}

static void on_written(struct bufferevent *client, void *arg __attribute__((unused)))
{
	bufferevent_enable(client, EV_READ);
}

static void on_event(struct bufferevent *client __attribute__((unused)), short what, void *arg)
{
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		session_close(arg, false, NULL);
}

static struct session *session_new(const struct tch_session *now)
{
	struct session *session = calloc(1, sizeof(*session));

	if (session)
		session->client = bufferevent_socket_new(options.base, now->fd, 0);
	if (!session || !session->client) {
		free(session);
		return NULL;
	}
	session->now = *now;
	session->now.own = session;
	session->moves_at = STAY_BYTES;
	LIST_INSERT_HEAD(&sessions, session, link);
	bufferevent_setcb(session->client, on_readable, on_written, on_event, session);
	bufferevent_enable(session->client, EV_READ | EV_WRITE);
	return session;
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int len, void *arg)
{
	struct tch_session now;

	(void)listener, (void)len, (void)arg;
	if (devices_adopt(devices, fd, address, &now) < 0 || !session_new(&now)) {
		close(fd);
		return;
	}
	tch_so_iptos(devices_tch(devices), now.id, TOS);
	tch_so_timer(devices_tch(devices), now.id, &(struct tch_timers){ .user_timeout_ms = USER_TIMEOUT_MS }, NULL);
}

/* struct tch_server: what makes it movable */

static bool find_by(uint64_t id, const struct flow_key *flow, struct tch_session *out)
{
	struct session *session;

	LIST_FOREACH(session, &sessions, link)
		if (flow ? memcmp(&session->now.flow, flow, sizeof(*flow)) == 0 : session->now.id == id)
			break;
	if (session)
		*out = session->now;
	return session;
}

static bool find(uint64_t id, struct tch_session *out, void *arg __attribute__((unused)))
{
	return find_by(id, NULL, out);
}

static bool find_flow(const struct flow_key *flow, struct tch_session *out, void *arg __attribute__((unused)))
{
	return find_by(0, flow, out);
}

/* What was read is echoed at once: no request is ever in progress. */
static int quiesce(void *own, struct tch *tch __attribute__((unused)), void *arg __attribute__((unused)))
{
	return bufferevent_disable(((struct session *)own)->client, EV_READ | EV_WRITE);
}

static void resume(void *own, void *arg __attribute__((unused)))
{
	bufferevent_enable(((struct session *)own)->client, EV_READ | EV_WRITE);
}

static int export(void *own, struct tch_carried *out, void *arg __attribute__((unused)))
{
	struct session *session = own;
	struct evbuffer *output = bufferevent_get_output(session->client);
	uint8_t echoed[8];
	struct bytes_writer w = bytes_writer_init(echoed, sizeof(echoed));

	out->facts.session = session->now.id;
	out->facts.handoffs = session->now.handoffs;
	bytes_put_be64(&w, session->echoed);
	out->output_len = evbuffer_get_length(output);
	out->output = malloc(out->output_len + 1);
	if (!out->output || evbuffer_copyout(output, out->output, out->output_len) < 0)
		return -ENOMEM;
	return tch_items_put(&out->facts.items, TCH_ITEM_APPLICATION, "echo", echoed, sizeof(echoed));
}

static uint64_t read_echoed(const struct tch_items *items)
{
	struct tch_item item;
	size_t at = 0;

	while (tch_items_next(items, &at, &item)) {
		struct bytes_reader r = bytes_reader_init(item.bytes, item.len);

		if (tch_item_is(&item, TCH_ITEM_APPLICATION, "echo"))
			return bytes_get_be64(&r);
	}
	return 0;
}

static int import(const struct tch_session *now, const struct tch_carried *carried,
		  enum tch_kind_of_handoff kind __attribute__((unused)), void *arg) /* without take_over() only TCH_FULL */
{
	struct session *session = session_new(now);

	if (!session)
		return -ENOMEM;
	if (bufferevent_write(session->client, carried->output, carried->output_len) < 0 ||
	    bufferevent_write(session->client, carried->input, carried->input_len) < 0) {
		session_free(session, arg);
		return -ENOMEM;
	}
	session->echoed = read_echoed(&carried->facts.items) + carried->input_len;
	session->moves_at = session->echoed + STAY_BYTES;
	return 0;
}

static const struct tch_server server = {
	.find = find, .find_flow = find_flow, .quiesce = quiesce, .resume = resume,
	.export = export, .surrender = session_free, .close = session_close, .import = import,
};

/* Beginning and end */

static void on_ready(void)
{
	printf("ready\n");
}

static void on_signal(evutil_socket_t number, short what __attribute__((unused)), void *arg __attribute__((unused)))
{
	enum tch_end how = number == SIGTERM ? TCH_END_RESET : TCH_END_SILENT;
	struct session *session;

	while ((session = LIST_FIRST(&sessions)) && tch_so_terminate(devices_tch(devices), session->now.id, how) == 0)
		;
	printf("ended\n");
	if (number == SIGTERM)
		event_base_loopbreak(options.base);
}

static int serve(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct event *terminate = evsignal_new(options.base, SIGTERM, on_signal, NULL);
	struct event *silence = evsignal_new(options.base, SIGUSR1, on_signal, NULL);
	struct evconnlistener *listener;

	inet_pton(AF_INET, options.vip, &address.sin_addr);
	listener = evconnlistener_new_bind(options.base, on_connection, NULL, LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_FREE, -1,
					   (struct sockaddr *)&address, sizeof(address));
	if (!listener)
		return -errno;
	event_add(terminate, NULL);
	event_add(silence, NULL);
	event_base_dispatch(options.base);
	evconnlistener_free(listener);
	event_free(terminate);
	event_free(silence);
	return 0;
}

int main(int argc, char **argv)
{
	int rc;

	if (devices_parse(argc, argv, &options) < 0) {
		fprintf(stderr, "Usage: %s " DEVICES_USAGE "\n", argv[0]);
		return 2;
	}
	log_open(LOG_LEVEL_WARN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	options.base = event_base_new();
	options.server = &server;
	options.on_ready = on_ready;
	rc = devices_new(&options, &devices);
	if (rc == 0)
		rc = serve();
	if (rc < 0)
		fprintf(stderr, "echo_server: %s\n", strerror(-rc));
	devices_free(devices);
	event_base_free(options.base);
	return rc < 0;
}
