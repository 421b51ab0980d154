/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/bench/read_load.c - read one file over and over on one TCP connection, with as little work as can be
 *
 * Usage: read_load --server ADDRESS --path PATH [OPTION...]
 *
 *   --port N       of NFS and MOUNT; default: 2049
 *   --path PATH    the file in the server's tree
 *   --size BYTES   how much of it to read, from its start; a multiple of --block; default: 256 MiB
 *   --block BYTES  of a READ, at least 8; default: 1 MiB
 *   --window W     READs outstanding; default: 8
 *   --warm-up MS   ... which are not counted; default: 300
 *   --seconds N    that are counted; 0: until SIGINT or SIGTERM; default: 2
 *   --times FILE   write the time of every answer there: microseconds of CLOCK_MONOTONIC, 8 bytes each, our byte order
 *   --wait         begin to read only when a line comes on standard input
 *
 * In the file every 8 bytes are their own offset, big endian: of each answer the status, the length and the first 8
 * bytes are checked, the rest is received and forgotten. (nfs_load checks all, which takes longer than to serve it.)
 *
 * Prints "port N" (its TCP port) once it has the file's handle, and at the end one line of JSON. A lost connection, an
 * answer that is wrong or nobody asked for, and silence for a minute are failures. Exit status: 0; 1 failure; 2 usage.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
	NFS = 100003, MOUNT = 100005, VERSION = 3, MOUNT_MNT = 1, NFS_LOOKUP = 3, NFS_READ = 6,
	AUTH_SYS = 1,
	HANDLE_MAX = 64, CALL_MAX = 512, REPLY_MAX = 2048,
	WINDOW_MAX = 64, /* the low bits of an xid are the place in the window */
	INPUT_BYTES = 256 * 1024,
	SILENCE_S = 60,
	/* An answer to READ up to the end of its first 8 bytes of data, in words. */
	W_MARK = 0, W_XID, W_REPLY, W_ACCEPTED, W_FLAVOR, W_VERIFIER, W_RPC_STATUS, W_STATUS, W_HAS_ATTRIBUTES,
	W_ATTRIBUTES, W_COUNT = W_ATTRIBUTES + 21, W_EOF, W_LENGTH, W_DATA, W_WORDS = W_DATA + 2,
	HEAD_BYTES = W_WORDS * 4,
	FAILURE_BYTES = (W_STATUS + 1) * 4,
};

/* Latencies are counted in classes 2 % wide, so that any run fits and percentiles are right to that. */
enum { CLASSES = 1024 };
static const double CLASS_RATIO = 1.02;

struct call {
	uint64_t sent_us; /* 0: not outstanding */
	uint64_t offset;
	uint32_t xid;
};

struct load {
	const char *server, *port, *path, *times_path;
	uint64_t size_bytes, block_bytes;
	unsigned int window, warm_up_ms, seconds;
	bool must_wait;

	int fd;
	unsigned int local_port;
	uint8_t handle[HANDLE_MAX];
	uint32_t handle_len;

	struct call calls[WINDOW_MAX];
	unsigned int outstanding;
	uint32_t next_turn; /* the high bits of the next xid */
	uint64_t next_offset;
	uint64_t skip_bytes; /* of the answer that is being received */
	struct call *receiving;

	uint64_t count_from_us, count_until_us; /* 0: not limited */
	uint64_t last_us, first_us;             /* counted answers */
	uint64_t reads, bytes, max_us, max_gap_us;
	uint64_t total_bytes; /* counted or not */
	uint64_t classes[CLASSES];
	uint64_t *times;
	size_t time_count, time_room;
};

static volatile sig_atomic_t must_stop;

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

__attribute__((format(printf, 2, 3), noreturn)) static void wrong(const struct load *load, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "read_load: port %u: ", load->local_port);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* ---- One call at a time, until the handle is known ---- */

struct message {
	uint8_t bytes[REPLY_MAX];
	size_t len, at;
};

static void put(struct message *m, uint32_t value)
{
	value = htobe32(value);
	memcpy(m->bytes + m->len, &value, 4);
	m->len += 4;
}

static void put_opaque(struct message *m, const void *bytes, size_t len)
{
	put(m, (uint32_t)len);
	memset(m->bytes + m->len, 0, (len + 3) / 4 * 4);
	memcpy(m->bytes + m->len, bytes, len);
	m->len += (len + 3) / 4 * 4;
}

/* The record mark is filled in by call_send(). */
static void call_begin(struct message *m, uint32_t xid, uint32_t program, uint32_t procedure)
{
	static const uint8_t credentials[20]; /* stamp, name "", uid 0, gid 0, no more groups */

	m->len = 4;
	put(m, xid);
	put(m, 0); /* CALL */
	put(m, 2);
	put(m, program);
	put(m, VERSION);
	put(m, procedure);
	put(m, AUTH_SYS);
	put_opaque(m, credentials, sizeof(credentials));
	put(m, 0); /* verifier: AUTH_NONE */
	put(m, 0);
}

static void call_send(struct load *load, struct message *m)
{
	uint32_t mark = htobe32(0x80000000U | (uint32_t)(m->len - 4));
	ssize_t sent;

	memcpy(m->bytes, &mark, 4);
	sent = send(load->fd, m->bytes, m->len, MSG_NOSIGNAL);
	if (sent != (ssize_t)m->len)
		wrong(load, "send: %s", sent < 0 ? strerror(errno) : "not all of a call was taken");
}

static void receive_exactly(struct load *load, void *into, size_t len)
{
	ssize_t got = recv(load->fd, into, len, MSG_WAITALL);

	if (got != (ssize_t)len)
		wrong(load, "no answer: %s", got < 0 ? strerror(errno) : "the connection is lost");
}

static uint32_t get(struct load *load, struct message *m)
{
	uint32_t value;

	if (m->len - m->at < 4)
		wrong(load, "an answer ends too early");
	memcpy(&value, m->bytes + m->at, 4);
	m->at += 4;
	return be32toh(value);
}

/* Sends @m and leaves the answer in it, at what the procedure itself says after its status, which must be 0. */
static void call(struct load *load, struct message *m, const char *what)
{
	uint32_t mark, status;

	call_send(load, m);
	receive_exactly(load, &mark, 4);
	mark = be32toh(mark) & 0x7fffffff;
	if (mark > sizeof(m->bytes))
		wrong(load, "%s: an answer of %" PRIu32 " bytes", what, mark);
	receive_exactly(load, m->bytes, mark);
	m->len = mark;
	m->at = (W_RPC_STATUS - W_XID) * 4;
	status = get(load, m);
	if (status)
		wrong(load, "%s: RPC status %" PRIu32, what, status);
	status = get(load, m);
	if (status)
		wrong(load, "%s: status %" PRIu32, what, status);
}

static void take_handle(struct load *load, struct message *m)
{
	load->handle_len = get(load, m);
	if (load->handle_len > HANDLE_MAX || load->handle_len > m->len - m->at)
		wrong(load, "a handle of %" PRIu32 " bytes", load->handle_len);
	memcpy(load->handle, m->bytes + m->at, load->handle_len);
}

static void find_file(struct load *load)
{
	struct message m;

	call_begin(&m, 1, MOUNT, MOUNT_MNT);
	put_opaque(&m, "/", 1);
	call(load, &m, "MNT /");
	take_handle(load, &m);
	for (const char *at = load->path + strspn(load->path, "/"); *at; at += strspn(at, "/")) {
		size_t len = strcspn(at, "/");

		call_begin(&m, 2, NFS, NFS_LOOKUP);
		put_opaque(&m, load->handle, load->handle_len);
		if (len > CALL_MAX)
			wrong(load, "%s: a name is too long", load->path);
		put_opaque(&m, at, len);
		call(load, &m, load->path);
		take_handle(load, &m);
		at += len;
	}
}

static void connect_to_server(struct load *load)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	const struct timeval silence = { .tv_sec = SILENCE_S };
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	struct addrinfo *address;
	int rc = getaddrinfo(load->server, load->port, &hints, &address), one = 1;

	if (rc)
		wrong(load, "%s: %s", load->server, gai_strerror(rc));
	load->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (load->fd < 0 || connect(load->fd, address->ai_addr, address->ai_addrlen))
		wrong(load, "connect to %s port %s: %s", load->server, load->port, strerror(errno));
	freeaddrinfo(address);
	setsockopt(load->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(load->fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
	if (getsockname(load->fd, (struct sockaddr *)&local, &len))
		wrong(load, "getsockname: %s", strerror(errno));
	load->local_port = ntohs(((struct sockaddr_in *)&local)->sin_port); /* at the same place for IPv6 */
}

/* ---- READs ---- */

static void send_read(struct load *load, unsigned int place)
{
	struct call *call = &load->calls[place];
	struct message m;

	*call = (struct call){
		.sent_us = now_us(),
		.offset = load->next_offset,
		.xid = load->next_turn++ * WINDOW_MAX + place,
	};
	load->next_offset = (load->next_offset + load->block_bytes) % load->size_bytes;
	call_begin(&m, call->xid, NFS, NFS_READ);
	put_opaque(&m, load->handle, load->handle_len);
	put(&m, (uint32_t)(call->offset >> 32));
	put(&m, (uint32_t)call->offset);
	put(&m, (uint32_t)load->block_bytes);
	call_send(load, &m);
	load->outstanding++;
}

static bool is_over(const struct load *load)
{
	return must_stop || (load->count_until_us && now_us() >= load->count_until_us);
}

static void note_time(struct load *load, uint64_t now)
{
	if (!load->times_path)
		return;
	if (load->time_count == load->time_room) {
		load->time_room = load->time_room ? load->time_room * 2 : 65536;
		load->times = realloc(load->times, load->time_room * sizeof(*load->times));
		if (!load->times)
			wrong(load, "no memory");
	}
	load->times[load->time_count++] = now;
}

static void count(struct load *load, uint64_t latency_us, uint64_t now)
{
	double upper_us = 1;
	size_t class;

	note_time(load, now);
	load->total_bytes += load->block_bytes;
	if (now < load->count_from_us || (load->count_until_us && now > load->count_until_us))
		return;
	if (!load->first_us) { /* its bytes came before the time that is measured */
		load->first_us = load->last_us = now;
		return;
	}
	for (class = 0; class < CLASSES - 1 && upper_us < (double)latency_us; class++)
		upper_us *= CLASS_RATIO;
	load->classes[class]++;
	load->reads++;
	load->bytes += load->block_bytes;
	if (latency_us > load->max_us)
		load->max_us = latency_us;
	if (now - load->last_us > load->max_gap_us)
		load->max_gap_us = now - load->last_us;
	load->last_us = now;
}

static uint32_t word(const uint8_t *head, unsigned int index)
{
	uint32_t value;

	memcpy(&value, head + (size_t)index * 4, 4);
	return be32toh(value);
}

static void check_head(struct load *load, const uint8_t *head)
{
	uint32_t mark = HEAD_BYTES - 4 + (uint32_t)((load->block_bytes - 8 + 3) / 4 * 4);
	struct call *call = &load->calls[word(head, W_XID) % WINDOW_MAX];
	uint64_t data = (uint64_t)word(head, W_DATA) << 32 | word(head, W_DATA + 1);

	if (word(head, W_REPLY) != 1 || word(head, W_ACCEPTED) || word(head, W_VERIFIER) || word(head, W_RPC_STATUS) ||
	    word(head, W_STATUS))
		wrong(load, "READ failed: reply %" PRIu32 ", RPC status %" PRIu32 ", NFS status %" PRIu32,
		      word(head, W_ACCEPTED), word(head, W_RPC_STATUS), word(head, W_STATUS));
	if (!call->sent_us || call->xid != word(head, W_XID))
		wrong(load, "an answer with xid 0x%08" PRIx32 ", which is not outstanding", word(head, W_XID));
	if (word(head, W_MARK) != (0x80000000U | mark) || word(head, W_HAS_ATTRIBUTES) != 1 ||
	    word(head, W_COUNT) != load->block_bytes || word(head, W_LENGTH) != load->block_bytes)
		wrong(load, "READ of %" PRIu64 " at %" PRIu64 ": count %" PRIu32 ", length %" PRIu32 ", record 0x%08" PRIx32,
		      load->block_bytes, call->offset, word(head, W_COUNT), word(head, W_LENGTH), word(head, W_MARK));
	if (data != call->offset)
		wrong(load, "READ at %" PRIu64 " answered with the data of %" PRIu64, call->offset, data);
	load->receiving = call;
	load->skip_bytes = mark + 4 - HEAD_BYTES;
}

static void take_answer(struct load *load)
{
	struct call *call = load->receiving;
	uint64_t now = now_us();

	load->outstanding--;
	count(load, now - call->sent_us, now);
	call->sent_us = 0;
	load->receiving = NULL;
	if (!is_over(load))
		send_read(load, (unsigned int)(call - load->calls));
}

/* Returns how many of @len bytes were used: whole heads, and all that is skipped. */
static size_t parse(struct load *load, const uint8_t *in, size_t len)
{
	size_t at = 0;

	for (;;) {
		size_t skip = load->skip_bytes < len - at ? (size_t)load->skip_bytes : len - at;

		at += skip;
		load->skip_bytes -= skip;
		if (load->skip_bytes)
			return at;
		if (load->receiving)
			take_answer(load);
		if (len - at >= FAILURE_BYTES && word(in + at, W_STATUS))
			wrong(load, "READ failed: RPC status %" PRIu32 ", NFS status %" PRIu32,
			      word(in + at, W_RPC_STATUS), word(in + at, W_STATUS));
		if (len - at < HEAD_BYTES)
			return at;
		check_head(load, in + at);
		at += HEAD_BYTES;
	}
}

static void run(struct load *load)
{
	static uint8_t in[INPUT_BYTES];
	size_t have = 0;

	load->count_from_us = now_us() + (uint64_t)load->warm_up_ms * 1000;
	if (load->seconds)
		load->count_until_us = load->count_from_us + (uint64_t)load->seconds * 1000000;
	for (unsigned int place = 0; place < load->window; place++)
		send_read(load, place);
	while (load->outstanding) {
		ssize_t got = recv(load->fd, in + have, sizeof(in) - have, 0);
		size_t used;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			wrong(load, "after %" PRIu64 " READs: %s", load->reads,
			      !got ? "ended by the server" : errno == EAGAIN ? "no answer for a minute" : strerror(errno));
		have += (size_t)got;
		used = parse(load, in, have);
		memmove(in, in + used, have - used);
		have -= used;
	}
}

/* ---- The end ---- */

static uint64_t percentile(const struct load *load, double share)
{
	double upper_us = 1, left = (double)load->reads * share;

	for (size_t i = 0; i < CLASSES; i++, upper_us *= CLASS_RATIO) {
		left -= (double)load->classes[i];
		if (left <= 0)
			break;
	}
	return (uint64_t)upper_us;
}

static void report(const struct load *load)
{
	double seconds = (double)(load->last_us - load->first_us) / 1e6;

	if (!load->reads)
		wrong(load, "not one READ in the time that is counted");
	printf("{\"bytes\": %" PRIu64 ", \"reads\": %" PRIu64 ", \"seconds\": %.6f, \"mb_per_s\": %.1f"
	       ", \"reads_per_s\": %.0f, \"p50_us\": %" PRIu64 ", \"p99_us\": %" PRIu64 ", \"max_us\": %" PRIu64
	       ", \"max_gap_us\": %" PRIu64 ", \"total_bytes\": %" PRIu64 "}\n",
	       load->bytes, load->reads, seconds, (double)load->bytes / seconds / 1e6, (double)load->reads / seconds,
	       percentile(load, 0.5), percentile(load, 0.99), load->max_us, load->max_gap_us,
	       load->total_bytes);
}

static void write_times(const struct load *load)
{
	FILE *out;

	if (!load->times_path)
		return;
	out = fopen(load->times_path, "we");
	if (!out || fwrite(load->times, sizeof(*load->times), load->time_count, out) != load->time_count || fclose(out))
		wrong(load, "%s: %s", load->times_path, strerror(errno));
}

static void wait_for_line(void)
{
	int c;

	do
		c = getchar();
	while (c != '\n' && c != EOF);
}

static void on_stop(int number)
{
	(void)number;
	must_stop = 1;
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (end == text || *end || *text == '-' || value < least || value > most) {
		fprintf(stderr, "read_load: %s: not a number from %" PRIu64 " to %" PRIu64 "\n", text, least, most);
		exit(2);
	}
	return value;
}

static void read_options(struct load *load, int argc, char **argv)
{
	static const struct option known[] = {
		{ "server", required_argument, NULL, 'S' }, { "port", required_argument, NULL, 'p' },
		{ "path", required_argument, NULL, 'f' },   { "size", required_argument, NULL, 'n' },
		{ "block", required_argument, NULL, 'b' },  { "window", required_argument, NULL, 'w' },
		{ "warm-up", required_argument, NULL, 'u' }, { "seconds", required_argument, NULL, 's' },
		{ "times", required_argument, NULL, 't' },  { "wait", no_argument, NULL, 'W' }, { NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'S': load->server = optarg; break;
		case 'p': load->port = optarg; break;
		case 'f': load->path = optarg; break;
		case 'n': load->size_bytes = number(optarg, 8, INT64_MAX); break;
		case 'b': load->block_bytes = number(optarg, 8, 1 << 20); break;
		case 'w': load->window = (unsigned int)number(optarg, 1, WINDOW_MAX); break;
		case 'u': load->warm_up_ms = (unsigned int)number(optarg, 0, 60000); break;
		case 's': load->seconds = (unsigned int)number(optarg, 0, 86400); break;
		case 't': load->times_path = optarg; break;
		case 'W': load->must_wait = true; break;
		default: exit(2);
		}
	}
	if (load->server && load->path && optind == argc && load->size_bytes % load->block_bytes == 0)
		return;
	fputs("Usage: read_load --server ADDRESS --path PATH [--port N] [--size BYTES] [--block BYTES] [--window W]\n"
	      "  [--warm-up MS] [--seconds N] [--times FILE] [--wait]\n",
	      stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	struct load load = { .port = "2049", .size_bytes = 256 << 20, .block_bytes = 1 << 20, .window = 8,
			     .warm_up_ms = 300, .seconds = 2 };
	struct sigaction stop = { .sa_handler = on_stop };

	read_options(&load, argc, argv);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	connect_to_server(&load);
	find_file(&load);
	printf("port %u\n", load.local_port);
	fflush(stdout);
	if (load.must_wait)
		wait_for_line();
	run(&load);
	report(&load);
	write_times(&load);
	free(load.times);
	close(load.fd);
	return 0;
}
