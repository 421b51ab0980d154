/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/client/rpc_load.c - the smallest calls there are, on many connections, each answered exactly once
 *
 * Usage: rpc_load --server ADDRESS [--port N] [--connections N] [--window W] [--bytes N] [--seconds N] [--times FILE]
 *
 *   --port N         of NFS; default: 2049
 *   --connections N  default: 1
 *   --window W       calls outstanding on each; default: 1
 *   --bytes N        of a call; more than the least are the machine's name in AUTH_SYS credentials; default: 44
 *   --seconds N      0: until SIGINT or SIGTERM; default: 10
 *   --times FILE     write the time of every answer there: microseconds of CLOCK_MONOTONIC, 8 bytes each, our byte order, the
 *                    highest 2 of them the number of the connection
 *
 * Calls procedure NULL of NFS version 3. An answer that nobody asked for, that comes twice, not at all (for 60 s) or is
 * not "success", and a connection that ends are failures. Where nfs_load shows that the bytes are right, this one shows
 * how long a connection stands still, with next to no work of its own.
 *
 * Prints "ports N..." once connected, and at the end one line of JSON: latencies over all calls, and the longest time
 * that any one connection had no answer. Exit status: 0; 1 something was wrong; 2 wrong usage.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	CALL_BYTES = 44,  /* record mark, xid, CALL, RPC version, program, version, procedure, 2 x AUTH_NONE */
	NAMED_BYTES = CALL_BYTES + 5 * 4, /* with AUTH_SYS: stamp, length of the name, user, group, no more groups */
	NAME_MAX_BYTES = 252,		  /* RFC 5531, appendix A: 255 */
	CALL_MAX_BYTES = NAMED_BYTES + NAME_MAX_BYTES,
	AUTH_SYS = 1,
	TIMES_CONNECTION_SHIFT = 48,
	REPLY_BYTES = 28, /* record mark, xid, REPLY, accepted, AUTH_NONE, success */
	INPUT_BYTES = 1 << 16,
	SILENCE_S = 60,
	NFS_PROGRAM = 100003,
	NFS_VERSION = 3,
};

/* Latencies are counted in classes 2 % wide, so that any run fits and percentiles are right to that. */
enum { CLASSES = 1024 };
static const double CLASS_RATIO = 1.02;

struct connection {
	int fd;
	unsigned int port;
	uint32_t next_xid;    /* low bits: the place in @sent_us */
	uint64_t *sent_us;    /* per outstanding call, 0: none */
	uint32_t *xids;	      /* ... its xid */
	uint64_t last_us;     /* when it last got an answer */
	size_t in_bytes;
	unsigned char in[INPUT_BYTES];
};

struct load {
	const char *server, *port;
	const char *times_path;
	FILE *times;
	unsigned int connection_count, window, seconds, call_bytes;
	struct connection *connections;
	uint64_t start_us, calls, max_us, max_gap_us;
	uint64_t classes[CLASSES];
};

static volatile sig_atomic_t must_stop;

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t percentile(const struct load *load, double share)
{
	double upper_us = 1, left = (double)load->calls * share;

	for (size_t i = 0; i < CLASSES; i++, upper_us *= CLASS_RATIO) {
		left -= (double)load->classes[i];
		if (left <= 0)
			break;
	}
	return (uint64_t)upper_us;
}

static void report(const struct load *load, unsigned int errors)
{
	double seconds = (double)(now_us() - load->start_us) / 1e6;

	printf("{\"calls\": %" PRIu64 ", \"errors\": %u, \"connections\": %u, \"seconds\": %.3f, \"calls_per_s\": %.0f"
	       ", \"p50_us\": %" PRIu64 ", \"p99_us\": %" PRIu64 ", \"p999_us\": %" PRIu64 ", \"max_us\": %" PRIu64
	       ", \"max_gap_us\": %" PRIu64 "}\n",
	       load->calls, errors, load->connection_count, seconds, (double)load->calls / seconds,
	       percentile(load, 0.5), percentile(load, 0.99), percentile(load, 0.999), load->max_us, load->max_gap_us);
	fflush(stdout);
}

__attribute__((format(printf, 3, 4), noreturn)) static void wrong(const struct load *load, const struct connection *c,
								    const char *format, ...)
{
	va_list args;

	fprintf(stderr, "rpc_load: port %u, after %.3f s: ", c->port, (double)(now_us() - load->start_us) / 1e6);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	report(load, 1);
	exit(1);
}

/* ---- One connection ---- */

static void connect_one(struct load *load, struct connection *c)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	struct addrinfo *address;
	int rc, one = 1;

	rc = getaddrinfo(load->server, load->port, &hints, &address);
	if (rc)
		wrong(load, c, "%s: %s", load->server, gai_strerror(rc));
	c->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		wrong(load, c, "socket: %s", strerror(errno));
	if (connect(c->fd, address->ai_addr, address->ai_addrlen))
		wrong(load, c, "connect to %s port %s: %s", load->server, load->port, strerror(errno));
	freeaddrinfo(address);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (getsockname(c->fd, (struct sockaddr *)&local, &len))
		wrong(load, c, "getsockname: %s", strerror(errno));
	c->port = ntohs(((struct sockaddr_in *)&local)->sin_port); /* at the same place for IPv6 */
	c->sent_us = calloc(load->window, sizeof(*c->sent_us));
	c->xids = calloc(load->window, sizeof(*c->xids));
	if (!c->sent_us || !c->xids)
		wrong(load, c, "no memory");
	c->next_xid = (uint32_t)c->port << 16;
}

static void send_call(const struct load *load, struct connection *c, unsigned int place)
{
	uint32_t words[CALL_MAX_BYTES / 4] = {
		htonl(0x80000000U | (load->call_bytes - 4)), htonl(c->next_xid), htonl(0), htonl(2), htonl(NFS_PROGRAM),
		htonl(NFS_VERSION),
	};
	ssize_t sent;

	if (load->call_bytes > CALL_BYTES) {
		words[7] = htonl(AUTH_SYS);
		words[8] = htonl(load->call_bytes - CALL_BYTES);
		words[10] = htonl(load->call_bytes - NAMED_BYTES); /* all other words of the credentials are 0 */
	}
	c->xids[place] = c->next_xid++;
	c->sent_us[place] = now_us();
	sent = send(c->fd, words, load->call_bytes, MSG_NOSIGNAL);
	if (sent != (ssize_t)load->call_bytes)
		wrong(load, c, "send: %s", sent < 0 ? strerror(errno) : "not all of a call was taken");
}

static void count(struct load *load, struct connection *c, uint64_t latency_us, uint64_t now)
{
	double upper_us = 1;
	size_t class;

	for (class = 0; class < CLASSES - 1 && upper_us < (double)latency_us; class++)
		upper_us *= CLASS_RATIO;
	load->classes[class]++;
	load->calls++;
	if (latency_us > load->max_us)
		load->max_us = latency_us;
	if (now - c->last_us > load->max_gap_us)
		load->max_gap_us = now - c->last_us;
	c->last_us = now;
	if (load->times) {
		uint64_t entry = now | (uint64_t)(c - load->connections) << TIMES_CONNECTION_SHIFT;

		if (fwrite(&entry, sizeof(entry), 1, load->times) != 1)
			wrong(load, c, "%s: %s", load->times_path, strerror(errno));
	}
}

/* The place in the window that is free now. */
static unsigned int take_reply(struct load *load, struct connection *c, const unsigned char *reply)
{
	uint32_t words[REPLY_BYTES / 4], xid;
	uint64_t now = now_us();

	memcpy(words, reply, sizeof(words));
	xid = ntohl(words[1]);
	if (ntohl(words[0]) != (0x80000000U | (REPLY_BYTES - 4)))
		wrong(load, c, "record mark 0x%08x instead of 0x%08x", ntohl(words[0]),
		      0x80000000U | (REPLY_BYTES - 4));
	if (ntohl(words[2]) != 1 || words[3] || words[4] || words[5] || words[6])
		wrong(load, c, "xid 0x%08x: not a success: type %u, status %u, verifier %u of %u bytes, result %u", xid,
		      ntohl(words[2]), ntohl(words[3]), ntohl(words[4]), ntohl(words[5]), ntohl(words[6]));
	for (unsigned int place = 0; place < load->window; place++)
		if (c->sent_us[place] && c->xids[place] == xid) {
			count(load, c, now - c->sent_us[place], now);
			c->sent_us[place] = 0;
			return place;
		}
	wrong(load, c, "answer with xid 0x%08x, which is %s", xid,
	      xid - ((uint32_t)c->port << 16) < c->next_xid - ((uint32_t)c->port << 16) ? "answered already" :
											    "none of ours");
}

static void receive(struct load *load, struct connection *c, bool go_on)
{
	ssize_t got = recv(c->fd, c->in + c->in_bytes, sizeof(c->in) - c->in_bytes, MSG_DONTWAIT);
	size_t at = 0;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
		wrong(load, c, "the connection is lost: %s", got ? strerror(errno) : "ended by the server");
	c->in_bytes += (size_t)got;
	for (; c->in_bytes - at >= REPLY_BYTES; at += REPLY_BYTES) {
		unsigned int place = take_reply(load, c, c->in + at);

		if (go_on)
			send_call(load, c, place);
	}
	memmove(c->in, c->in + at, c->in_bytes - at);
	c->in_bytes -= at;
}

static bool is_waiting(const struct load *load, const struct connection *c)
{
	for (unsigned int place = 0; place < load->window; place++)
		if (c->sent_us[place])
			return true;
	return false;
}

/* ---- All of them ---- */

static bool is_over(const struct load *load)
{
	return must_stop || (load->seconds && now_us() - load->start_us >= (uint64_t)load->seconds * 1000000);
}

static void check_silence(const struct load *load)
{
	uint64_t now = now_us();

	for (unsigned int i = 0; i < load->connection_count; i++)
		if (is_waiting(load, &load->connections[i]) &&
		    now - load->connections[i].last_us > (uint64_t)SILENCE_S * 1000000)
			wrong(load, &load->connections[i], "no answer for %d s", SILENCE_S);
}

static void run(struct load *load)
{
	struct pollfd *pollers = calloc(load->connection_count, sizeof(*pollers));
	unsigned int busy = load->connection_count;

	if (!pollers)
		exit(1);
	load->start_us = now_us();
	for (unsigned int i = 0; i < load->connection_count; i++) {
		pollers[i] = (struct pollfd){ .fd = load->connections[i].fd, .events = POLLIN };
		load->connections[i].last_us = load->start_us;
		for (unsigned int place = 0; place < load->window; place++)
			send_call(load, &load->connections[i], place);
	}
	while (busy) {
		bool go_on = !is_over(load);

		if (poll(pollers, load->connection_count, 1000) <= 0)
			check_silence(load);
		for (unsigned int i = 0; i < load->connection_count; i++) {
			if (pollers[i].fd < 0)
				continue;
			receive(load, &load->connections[i], go_on);
			if (!go_on && !is_waiting(load, &load->connections[i])) {
				pollers[i].fd = -1;
				busy--;
			}
		}
	}
	free(pollers);
}

static void on_stop(int number)
{
	(void)number;
	must_stop = 1;
}

static unsigned int number(const char *text, unsigned int least, unsigned int most)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || *text == '-' || value < least || value > most) {
		fprintf(stderr, "rpc_load: %s: not a number from %u to %u\n", text, least, most);
		exit(2);
	}
	return (unsigned int)value;
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "server", required_argument, NULL, 'S' }, { "port", required_argument, NULL, 'p' },
		{ "connections", required_argument, NULL, 'c' }, { "window", required_argument, NULL, 'w' },
		{ "seconds", required_argument, NULL, 's' }, { "bytes", required_argument, NULL, 'b' },
		{ "times", required_argument, NULL, 't' }, { NULL, 0, NULL, 0 },
	};
	struct load load = {
		.port = "2049", .connection_count = 1, .window = 1, .seconds = 10, .call_bytes = CALL_BYTES };
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'S': load.server = optarg; break;
		case 'p': load.port = optarg; break;
		case 'c': load.connection_count = number(optarg, 1, 10000); break;
		case 'w': load.window = number(optarg, 1, 64); break;
		case 's': load.seconds = number(optarg, 0, 1000000); break;
		case 'b': load.call_bytes = number(optarg, CALL_BYTES, CALL_MAX_BYTES); break;
		case 't': load.times_path = optarg; break;
		default: return 2;
		}
	}
	if (!load.server || optind != argc || load.call_bytes % 4 ||
	    (load.call_bytes != CALL_BYTES && load.call_bytes < NAMED_BYTES)) {
		fputs("Usage: rpc_load --server ADDRESS [--port N] [--connections N] [--window W] [--bytes N] [--seconds N]\n"
		      "  [--times FILE]\n",
		      stderr);
		return 2;
	}
	if (load.times_path) {
		load.times = fopen(load.times_path, "we");
		if (!load.times) {
			perror(load.times_path);
			return 1;
		}
	}
	signal(SIGINT, on_stop);
	signal(SIGTERM, on_stop);
	load.connections = calloc(load.connection_count, sizeof(*load.connections));
	if (!load.connections)
		return 1;
	load.start_us = now_us();
	printf("ports");
	for (unsigned int i = 0; i < load.connection_count; i++) {
		connect_one(&load, &load.connections[i]);
		printf(" %u", load.connections[i].port);
	}
	puts("");
	fflush(stdout);
	run(&load);
	report(&load, 0);
	for (unsigned int i = 0; i < load.connection_count; i++) {
		close(load.connections[i].fd);
		free(load.connections[i].sent_us);
		free(load.connections[i].xids);
	}
	free(load.connections);
	if (load.times && fclose(load.times)) {
		perror(load.times_path);
		return 1;
	}
	return 0;
}
