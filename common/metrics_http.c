/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * evhttp (libevent 2.1) neither bounds its connections nor says when one has ended, and its time-outs begin anew with each byte. So
 * this makes the bufferevents that it uses, holds a reference to each, and looks at them now and then: one without callbacks is
 * one that evhttp has freed.
 */
#include "config.h"

#include "common/metrics_http.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	LOOK_MS = 100,
	IDLE_S = 5,
	HEADERS_MAX = 8192,
	BACKLOG = 16,
};

struct reader {
	struct bufferevent *stream; /* NULL: there is none */
	uint64_t since_ms;
};

struct metrics_http {
	struct evhttp *http;
	struct evconnlistener *listener; /* of `http` */
	struct event *look;
	struct reader readers[METRICS_HTTP_CONNECTIONS_MAX];
	void (*fill)(struct metrics *metrics, void *arg);
	void *arg;
	char *text; /* gathered last; or NULL */
	size_t text_len;
	uint64_t gathered_ms;
};

/* Connections */

static void look_soon(struct metrics_http *http)
{
	if (!evtimer_pending(http->look, NULL))
		evtimer_add(http->look, &(struct timeval){ .tv_usec = LOOK_MS * 1000 });
}

static struct reader *free_place(struct metrics_http *http)
{
	for (size_t i = 0; i < METRICS_HTTP_CONNECTIONS_MAX; i++)
		if (!http->readers[i].stream)
			return &http->readers[i];
	return NULL;
}

/* Called by evhttp for each connection. NULL would have it make one of its own. */
static struct bufferevent *new_stream(struct event_base *base, void *arg)
{
	struct bufferevent *stream = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct metrics_http *http = arg;
	struct reader *reader = free_place(http);

	if (!stream || BUG_IF(!reader))
		return stream;
	bufferevent_incref(stream);
	*reader = (struct reader){ .stream = stream, .since_ms = clock_monotonic_ms() };
	if (!free_place(http))
		evconnlistener_disable(http->listener);
	look_soon(http);
	return stream;
}

static bool has_ended(struct bufferevent *stream)
{
	bufferevent_data_cb on_read, on_write;
	bufferevent_event_cb on_event;

	bufferevent_getcb(stream, &on_read, &on_write, &on_event, NULL);
	return !on_read && !on_write && !on_event;
}

static void reader_leave(struct reader *reader)
{
	bufferevent_decref(reader->stream);
	reader->stream = NULL;
}

/* To be noticed by evhttp, which closes it. */
static void end_late(const struct reader *reader)
{
	if (clock_monotonic_ms() - reader->since_ms > METRICS_HTTP_LIFE_MS)
		shutdown(bufferevent_getfd(reader->stream), SHUT_RDWR);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct metrics_http *http = arg;
	bool has_readers = false;

	(void)fd, (void)what;
	for (size_t i = 0; i < METRICS_HTTP_CONNECTIONS_MAX; i++) {
		struct reader *reader = &http->readers[i];

		if (reader->stream && has_ended(reader->stream))
			reader_leave(reader);
		if (!reader->stream)
			continue;
		end_late(reader);
		has_readers = true;
	}
	if (free_place(http))
		evconnlistener_enable(http->listener);
	if (has_readers)
		look_soon(http);
}

/* No descriptor is left, for one: not again at once, and again. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct metrics_http *http = arg;

	log_debug("metrics", "a connection can't be accepted: %s", strerror(errno));
	evconnlistener_disable(listener);
	look_soon(http);
}

/* Requests */

static int gather(struct metrics_http *http)
{
	struct metrics *metrics = metrics_new();
	char *text;
	size_t len;
	int rc = -ENOMEM;

	if (metrics) {
		http->fill(metrics, http->arg);
		rc = metrics_text(metrics, &text, &len);
	}
	metrics_free(metrics);
	if (rc < 0)
		return rc;
	free(http->text);
	http->text = text;
	http->text_len = len;
	http->gathered_ms = clock_monotonic_ms();
	return 0;
}

static void answer(struct evhttp_request *request, const char *type, const void *text, size_t len)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);

	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Connection", "close");
	if (evbuffer_add(evhttp_request_get_output_buffer(request), text, len) < 0)
		evhttp_send_error(request, HTTP_SERVUNAVAIL, NULL);
	else
		evhttp_send_reply(request, HTTP_OK, NULL, NULL);
}

static void on_metrics(struct evhttp_request *request, void *arg)
{
	struct metrics_http *http = arg;
	bool is_fresh = http->text && clock_monotonic_ms() - http->gathered_ms < METRICS_HTTP_FRESH_MS;

	if (is_fresh || gather(http) == 0)
		answer(request, METRICS_CONTENT_TYPE, http->text, http->text_len);
	else
		evhttp_send_error(request, HTTP_SERVUNAVAIL, NULL);
}

static void on_page(struct evhttp_request *request, void *arg)
{
	static const char page[] = "<!DOCTYPE html>\n<title>vnas</title>\n<a href=\"/metrics\">Metrics</a>\n";

	(void)arg;
	answer(request, "text/html; charset=utf-8", page, sizeof(page) - 1);
}

/* Start and end */

/* 0; -EINVAL */
static int take_apart(const char *listen, struct sockaddr_storage *address, int *len)
{
	*len = sizeof(*address);
	return evutil_parse_sockaddr_port(listen, (struct sockaddr *)address, len) == 0 ? 0 : -EINVAL;
}

static int start(struct metrics_http *http, struct event_base *base, const struct sockaddr_storage *address, int len)
{
	unsigned int options = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_EXEC;

	http->look = evtimer_new(base, on_look, http);
	http->http = evhttp_new(base);
	if (!http->look || !http->http)
		return -ENOMEM;
	http->listener = evconnlistener_new_bind(base, NULL, NULL, options, BACKLOG, (const struct sockaddr *)address, len);
	if (!http->listener)
		return -errno;
	if (!evhttp_bind_listener(http->http, http->listener)) {
		evconnlistener_free(http->listener);
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(http->listener, on_accept_error);
	evhttp_set_bevcb(http->http, new_stream, http);
	evhttp_set_allowed_methods(http->http, EVHTTP_REQ_GET);
	evhttp_set_max_headers_size(http->http, HEADERS_MAX);
	evhttp_set_max_body_size(http->http, 0);
	evhttp_set_timeout(http->http, IDLE_S);
	if (evhttp_set_cb(http->http, "/metrics", on_metrics, http) < 0 || evhttp_set_cb(http->http, "/", on_page, http) < 0)
		return -ENOMEM;
	return 0;
}

int metrics_http_new(struct event_base *base, const char *listen, void (*fill)(struct metrics *metrics, void *arg), void *arg,
		     struct metrics_http **out)
{
	struct sockaddr_storage address;
	struct metrics_http *http;
	int len, rc = take_apart(listen, &address, &len);

	if (rc < 0)
		return rc;
	http = calloc(1, sizeof(*http));
	if (!http)
		return -ENOMEM;
	http->fill = fill;
	http->arg = arg;
	rc = start(http, base, &address, len);
	if (rc < 0)
		metrics_http_free(http);
	else
		*out = http;
	return rc;
}

void metrics_http_free(struct metrics_http *http)
{
	if (!http)
		return;
	if (http->http)
		evhttp_free(http->http);
	for (size_t i = 0; i < METRICS_HTTP_CONNECTIONS_MAX; i++)
		if (http->readers[i].stream)
			reader_leave(&http->readers[i]);
	if (http->look)
		event_free(http->look);
	free(http->text);
	free(http);
}
