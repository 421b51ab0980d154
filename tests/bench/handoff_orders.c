/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/bench/handoff_orders.c - order sessions around as `nasctl handoff` would, as fast as the answers come
 *
 * Usage: handoff_orders --socket PATH --nodes N,N... [--handoffs N] [--seconds N] [--pause-us N] [--rate N] [--prepare] SESSION...
 *
 *   --socket PATH   the switch's administration socket
 *   --nodes N,N...  node ids that each session visits in turn, again and again
 *   --handoffs N    over all sessions, with those that were there already; default: 1000
 *   --seconds N     no more orders after that; default: 600
 *   --pause-us N    of a session after its last node, before the first again; default: 0
 *   --rate N        handoffs per second instead: a round through the nodes begins N divided by their number times a second
 *   --prepare       have the device get ready first, and wait PREPARED_US for that
 *
 * Each session has one order outstanding. One that is refused is repeated after a millisecond; a session that is where it is
 * ordered to goes on to its next node.
 *
 * Prints a line for each order: the session's place in the arguments, node, when it was sent and when it was answered
 * (microseconds of CLOCK_MONOTONIC), and how long the handoff took by the first device's account: 0 if it was there
 * already, -1 if it was refused. Exit status: 0; 1 no answer, or more refusals in a row than PATIENCE; 2 wrong usage.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	SESSIONS_MAX = 1024,
	IN_FLIGHT_MAX = 32, /* the socket takes ADMIN_CLIENTS_MAX at a time */
	NODES_MAX = 16,
	ANSWER_MAX = 4096,
	REFUSED_PAUSE_US = 1000,
	PREPARED_US = 1000,
	PATIENCE = 2000,
	SILENCE_MS = 60000,
};

struct session {
	const char *id;
	int fd; /* of the order that is outstanding; -1: none */
	unsigned int node; /* place in the list of nodes */
	bool is_prepared;  /* for that node */
	uint64_t due_us, round_us, sent_us;
	size_t len;
	char answer[ANSWER_MAX + 1];
};

struct orders {
	struct sockaddr_un address;
	unsigned int nodes[NODES_MAX], node_count, session_count, in_flight, refused_in_a_row;
	uint64_t handoffs, done, seconds, pause_us, round_us, end_us;
	bool prepares;
	struct session sessions[SESSIONS_MAX];
};

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

__attribute__((noreturn)) static void give_up(const char *what, const char *why)
{
	fflush(stdout);
	fprintf(stderr, "handoff_orders: %s: %s\n", what, why);
	exit(1);
}

static void send_order(struct orders *orders, struct session *s)
{
	char request[256];
	int len = snprintf(request + 4, sizeof(request) - 4, "{\"command\": [\"handoff\", \"%s\", \"%u\", \"--kind\", \"%s\"]}",
			   s->id, orders->nodes[s->node], orders->prepares && !s->is_prepared ? "prepare" : "full");
	uint32_t header = htonl((uint32_t)len);

	memcpy(request, &header, sizeof(header));
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	s->len = 0;
	s->sent_us = now_us();
	if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&orders->address, sizeof(orders->address)) ||
	    send(s->fd, request, (size_t)len + 4, MSG_NOSIGNAL) != len + 4)
		give_up(orders->address.sun_path, strerror(errno));
	orders->in_flight++;
}

/* Microseconds; 0: it was there; -1: refused. */
static json_int_t duration_of(struct session *s)
{
	json_t *answer = s->len > 4 ? json_loadb(s->answer + 4, s->len - 4, 0, NULL) : NULL;
	json_t *record = json_object_get(answer, "record");
	json_int_t duration_us = record ? json_integer_value(json_object_get(record, "duration_us")) : -1;

	if (!answer)
		give_up(s->id, "the switch did not answer");
	json_decref(answer);
	return duration_us;
}

/* When the session's next order is due. */
static void go_on(struct orders *orders, struct session *s, uint64_t now)
{
	s->due_us = now;
	if (++s->node < orders->node_count)
		return;
	s->node = 0;
	s->round_us += orders->round_us;
	s->due_us = orders->round_us && s->round_us > now ? s->round_us : now + orders->pause_us;
}

static void answered(struct orders *orders, struct session *s)
{
	json_int_t took_us = duration_of(s);
	uint64_t now = now_us();

	s->answer[s->len] = '\0';
	close(s->fd);
	s->fd = -1;
	orders->in_flight--;
	if (orders->prepares && !s->is_prepared) {
		s->is_prepared = true; /* or it has just moved there by itself, which the next answer tells */
		s->due_us = now + PREPARED_US;
		return;
	}
	s->is_prepared = false;
	printf("%td %u %" PRIu64 " %" PRIu64 " %" JSON_INTEGER_FORMAT "\n", s - orders->sessions, orders->nodes[s->node],
	       s->sent_us, now, took_us);
	if (took_us < 0) {
		if (++orders->refused_in_a_row > PATIENCE)
			give_up("refused again and again, the last time", s->answer + 4);
		s->due_us = now + REFUSED_PAUSE_US;
		return;
	}
	orders->refused_in_a_row = 0;
	orders->done++;
	go_on(orders, s, now);
}

static void receive(struct orders *orders, struct session *s)
{
	ssize_t got = recv(s->fd, s->answer + s->len, ANSWER_MAX - s->len, MSG_DONTWAIT);

	if (got > 0)
		s->len += (size_t)got;
	else if (got == 0 || (errno != EAGAIN && errno != EINTR))
		answered(orders, s);
}

/* Microseconds until somebody is due; -1: nobody. */
static int64_t send_what_is_due(struct orders *orders)
{
	uint64_t now = now_us(), next = UINT64_MAX;

	for (unsigned int i = 0; i < orders->session_count; i++) {
		struct session *s = &orders->sessions[i];

		if (s->fd >= 0 || now >= orders->end_us || orders->in_flight == IN_FLIGHT_MAX || orders->done + orders->in_flight >= orders->handoffs)
			continue;
		if (s->due_us <= now)
			send_order(orders, s);
		else if (s->due_us < next)
			next = s->due_us;
	}
	return next == UINT64_MAX ? -1 : (int64_t)(next - now);
}

static bool is_over(const struct orders *orders)
{
	return orders->done >= orders->handoffs || (orders->in_flight == 0 && now_us() >= orders->end_us);
}

static void run(struct orders *orders)
{
	struct pollfd pollers[SESSIONS_MAX];
	uint64_t start_us = now_us();

	for (unsigned int i = 0; i < orders->session_count; i++)
		orders->sessions[i].due_us = orders->sessions[i].round_us = start_us;
	orders->end_us = start_us + orders->seconds * 1000000;
	while (!is_over(orders)) {
		int64_t wait_us = send_what_is_due(orders);
		struct timespec wait = { .tv_sec = wait_us / 1000000, .tv_nsec = wait_us % 1000000 * 1000 };
		struct timespec silence = { .tv_sec = SILENCE_MS / 1000 };

		for (unsigned int i = 0; i < orders->session_count; i++)
			pollers[i] = (struct pollfd){ .fd = orders->sessions[i].fd, .events = POLLIN };
		if (ppoll(pollers, orders->session_count, wait_us < 0 ? &silence : &wait, NULL) == 0 && wait_us < 0 &&
		    orders->in_flight)
			give_up("the switch", "no answer for a minute");
		for (unsigned int i = 0; i < orders->session_count; i++)
			if (pollers[i].fd >= 0 && pollers[i].revents)
				receive(orders, &orders->sessions[i]);
	}
}

static void usage(void)
{
	fputs("Usage: handoff_orders --socket PATH --nodes N,N... [--handoffs N] [--seconds N] [--pause-us N] [--rate N]\n"
	      "  [--prepare] SESSION...\n",
	      stderr);
	exit(2);
}

static uint64_t number(const char *text, char **rest)
{
	uint64_t value = strtoull(text, rest, 10);

	if (*rest == text || *text == '-')
		usage();
	return value;
}

static uint64_t whole_number(const char *text)
{
	char *rest;
	uint64_t value = number(text, &rest);

	if (*rest)
		usage();
	return value;
}

static void parse_nodes(struct orders *orders, const char *text)
{
	char *rest;

	do {
		if (orders->node_count == NODES_MAX)
			usage();
		orders->nodes[orders->node_count++] = (unsigned int)number(text, &rest);
		text = rest + 1;
	} while (*rest == ',');
	if (*rest)
		usage();
}

static void parse_sessions(struct orders *orders, char **ids, int count)
{
	if (count < 1 || count > SESSIONS_MAX)
		usage();
	for (int i = 0; i < count; i++)
		orders->sessions[orders->session_count++] = (struct session){ .id = ids[i], .fd = -1 };
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "socket", required_argument, NULL, 's' },   { "nodes", required_argument, NULL, 'n' },
		{ "handoffs", required_argument, NULL, 'h' }, { "pause-us", required_argument, NULL, 'p' },
		{ "rate", required_argument, NULL, 'r' },     { "seconds", required_argument, NULL, 't' },
		{ "prepare", no_argument, NULL, 'P' },	      { NULL, 0, NULL, 0 },
	};
	static struct orders orders = { .address.sun_family = AF_UNIX, .handoffs = 1000, .seconds = 600 };
	uint64_t rate = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 's': snprintf(orders.address.sun_path, sizeof(orders.address.sun_path), "%s", optarg); break;
		case 'n': parse_nodes(&orders, optarg); break;
		case 'h': orders.handoffs = whole_number(optarg); break;
		case 'p': orders.pause_us = whole_number(optarg); break;
		case 'r': rate = whole_number(optarg); break;
		case 'P': orders.prepares = true; break;
		case 't': orders.seconds = whole_number(optarg); break;
		default: usage();
		}
	}
	if (!orders.address.sun_path[0] || !orders.node_count)
		usage();
	if (rate)
		orders.round_us = 1000000 * orders.node_count / rate;
	parse_sessions(&orders, argv + optind, argc - optind);
	run(&orders);
	return 0;
}
