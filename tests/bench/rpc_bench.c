/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/bench/rpc_bench.c - one NFS procedure over and over, on many connections, with as little work as can be
 *
 * Usage: rpc_bench --server ADDRESS --export PATH --path PATH --operation NAME [OPTION...]
 *
 *   --port N           of NFS; default: 2049
 *   --mount-port N     of MOUNT; default: that of NFS
 *   --export PATH      what MOUNT is asked for
 *   --path PATH        the file or directory below it
 *   --operation NAME   null, getattr, lookup, access, read, read-random, write (unstable, and COMMIT after each pass),
 *                      write-stable, create-remove, readdirplus
 *   --files N          --path is a directory, and getattr, lookup and access take one of its files 0 to N-1 at a time
 *   --size BYTES       how much of the file is read or written, a multiple of --block; default: 256 MiB
 *   --block BYTES      of a READ or WRITE; default: 4096
 *   --connections N    default: 1
 *   --window W         calls outstanding on each; default: 1
 *   --rate N           calls per second, over all connections in turn; --window is 1 then. 0: as fast as it goes; default: 0
 *   --warm-up MS       ... which are not counted; default: 200
 *   --seconds N        that are counted; 0: one listing of the directory; default: 1
 *
 * Prints "ready" when all is connected, begins when a line comes on standard input, and prints one line of JSON at the
 * end. Of each answer are checked: that somebody asked for it, that it is a success, and how many bytes came. Data is
 * thrown away unseen: read_load and nfs_load look at it. Exit status: 0; 1 something was wrong; 2 wrong usage.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
	NFS = 100003, MOUNT = 100005, VERSION = 3, MOUNT_MNT = 1,
	NFS_NULL = 0, NFS_GETATTR = 1, NFS_LOOKUP = 3, NFS_ACCESS = 4, NFS_READ = 6, NFS_WRITE = 7, NFS_CREATE = 8,
	NFS_REMOVE = 12, NFS_READDIRPLUS = 17, NFS_COMMIT = 21,
	AUTH_SYS = 1, UNSTABLE = 0, FILE_SYNC = 2, ALL_RIGHTS = 0x3f,
	HANDLE_MAX = 64, CALL_MAX = 512, BLOCK_MAX = 1 << 20,
	WINDOW_MAX = 64, /* the low bits of an xid are the place in the window */
	CONNECTIONS_MAX = 20000,
	LISTING_DIRCOUNT = 1 << 20, LISTING_MAXCOUNT = 1 << 20,
	INPUT_FEW = 64 * 1024, INPUT_MANY = 4096, FEW_CONNECTIONS = 64,
	INPUT_LISTING = LISTING_MAXCOUNT + 4096,
	EVENTS = 256, SILENCE_MS = 60000,
	ANSWER_BYTES = 7 * 4, /* record mark, xid, REPLY, accepted, verifier (2), RPC status */
	ATTRIBUTES_BYTES = 21 * 4,
	READ_HEAD_BYTES = ANSWER_BYTES + 4 + 4 + ATTRIBUTES_BYTES + 3 * 4,
};

/* Latencies are counted in classes 2 % wide, so that any run fits and percentiles are right to that. */
enum { CLASSES = 1024 };
static const double CLASS_RATIO = 1.02;

struct handle {
	uint32_t len;
	uint8_t bytes[HANDLE_MAX];
};

struct call {
	uint64_t sent_us; /* 0: not outstanding */
	uint32_t xid, procedure;
};

struct connection {
	int fd;
	unsigned int number, outstanding;
	uint32_t next_turn; /* the high bits of the next xid */
	struct call *calls;
	uint8_t *in;
	size_t in_len;
	size_t skip_bytes; /* data of the answer that is being received */
	struct call *receiving;
	uint64_t cookie;   /* of the listing */
	uint8_t verifier[8];
	bool must_commit, is_done;
};

struct operation;

struct load {
	const char *server, *port, *mount_port, *export, *path;
	const struct operation *operation;
	unsigned int connection_count, window, warm_up_ms, seconds, file_count, rate;
	uint64_t size_bytes, block_bytes;

	struct handle parent, object, *files;
	char name[256];
	struct connection *connections;
	size_t in_room;
	int epoll, timer;
	unsigned int next_connection; /* to call at the timer's next tick */
	unsigned int busy; /* connections that wait for an answer */

	uint64_t next_offset, random;
	uint64_t count_from_us, count_until_us, first_us, last_us;
	uint64_t operations, max_us, total_operations, total_bytes, entries, listings;
	uint64_t classes[CLASSES];
};

/* A call that is being written, or an answer that is being read. */
struct message {
	uint8_t *bytes;
	size_t len, at;
};

struct operation {
	const char *name;
	/* Writes the call at @m, whose number it returns. */
	uint32_t (*build)(struct load *load, struct connection *c, struct call *call, struct message *m);
};

static uint8_t block[BLOCK_MAX];

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

__attribute__((format(printf, 1, 2), noreturn)) static void wrong(const char *format, ...)
{
	va_list args;

	fputs("rpc_bench: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void *must_have(void *memory)
{
	if (!memory)
		wrong("no memory");
	return memory;
}

/* xorshift64: where the next random READ is need not be unpredictable. */
static uint64_t draw(struct load *load, uint64_t below)
{
	load->random ^= load->random << 13;
	load->random ^= load->random >> 7;
	load->random ^= load->random << 17;
	return load->random % below;
}

/* ---- XDR ---- */

static void put(struct message *m, uint32_t value)
{
	value = htobe32(value);
	memcpy(m->bytes + m->len, &value, 4);
	m->len += 4;
}

static void put_long(struct message *m, uint64_t value)
{
	put(m, (uint32_t)(value >> 32));
	put(m, (uint32_t)value);
}

static void put_opaque(struct message *m, const void *bytes, size_t len)
{
	put(m, (uint32_t)len);
	memset(m->bytes + m->len, 0, (len + 3) / 4 * 4);
	memcpy(m->bytes + m->len, bytes, len);
	m->len += (len + 3) / 4 * 4;
}

static void put_handle(struct message *m, const struct handle *handle)
{
	put_opaque(m, handle->bytes, handle->len);
}

static void put_text(struct message *m, const char *text)
{
	put_opaque(m, text, strlen(text));
}

static const uint8_t *take(struct message *m, size_t len)
{
	const uint8_t *at = m->bytes + m->at;

	if (m->len - m->at < len)
		wrong("an answer ends too early");
	m->at += len;
	return at;
}

static uint32_t get(struct message *m)
{
	uint32_t value;

	memcpy(&value, take(m, 4), 4);
	return be32toh(value);
}

static uint64_t get_long(struct message *m)
{
	uint64_t high = get(m);

	return high << 32 | get(m);
}

/* The record mark is filled in by call_end(). Returns where the call begins. */
static size_t call_begin(struct message *m, uint32_t xid, uint32_t program, uint32_t procedure)
{
	static const uint8_t credentials[20]; /* stamp, name "", uid 0, gid 0, no more groups */
	size_t start = m->len;

	put(m, 0);
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
	return start;
}

static void call_end(struct message *m, size_t start, size_t data_bytes)
{
	uint32_t mark = htobe32(0x80000000U | (uint32_t)(m->len - start - 4 + data_bytes));

	memcpy(m->bytes + start, &mark, 4);
}

/* ---- One call at a time, until all handles are known ---- */

static int connect_to(const struct load *load, const char *port)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	const struct timeval silence = { .tv_sec = SILENCE_MS / 1000 };
	struct addrinfo *address;
	int rc = getaddrinfo(load->server, port, &hints, &address), one = 1, fd;

	if (rc)
		wrong("%s: %s", load->server, gai_strerror(rc));
	fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, address->ai_addr, address->ai_addrlen))
		wrong("connect to %s port %s: %s", load->server, port, strerror(errno));
	freeaddrinfo(address);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
	return fd;
}

static void send_all(int fd, struct iovec *parts, size_t count)
{
	while (count) {
		ssize_t sent = writev(fd, parts, (int)count);

		if (sent < 0)
			wrong("send: %s", strerror(errno));
		for (; count && (size_t)sent >= parts->iov_len; parts++, count--)
			sent -= (ssize_t)parts->iov_len;
		if (count) {
			parts->iov_base = (uint8_t *)parts->iov_base + sent;
			parts->iov_len -= (size_t)sent;
		}
	}
}

static void receive_exactly(int fd, void *into, size_t len)
{
	ssize_t got = recv(fd, into, len, MSG_WAITALL);

	if (got != (ssize_t)len)
		wrong("no answer: %s", got < 0 ? strerror(errno) : "the connection is lost");
}

/* Steps over the RPC header and the status, which must be a success. */
static void must_succeed(struct message *answer, const char *what)
{
	uint32_t accepted, rpc_status, status;

	take(answer, 2 * 4);
	if (get(answer) != 1)
		wrong("%s: not an answer", what);
	accepted = get(answer);
	take(answer, 2 * 4);
	rpc_status = get(answer);
	if (accepted || rpc_status)
		wrong("%s: RPC reply %" PRIu32 ", status %" PRIu32, what, accepted, rpc_status);
	status = get(answer);
	if (status)
		wrong("%s: status %" PRIu32, what, status);
}

/* Sends the call, gives the handle that its results begin with. */
static struct handle ask_handle(int fd, struct message *m, const char *what)
{
	struct iovec part = { m->bytes, m->len };
	struct handle handle;
	uint32_t mark;

	call_end(m, 0, 0);
	send_all(fd, &part, 1);
	receive_exactly(fd, &mark, 4);
	m->len = be32toh(mark) & 0x7fffffff;
	m->at = 0;
	if (m->len > CALL_MAX - 4)
		wrong("%s: an answer of %zu bytes", what, m->len);
	receive_exactly(fd, m->bytes + 4, m->len);
	m->len += 4;
	must_succeed(m, what);
	handle.len = get(m);
	if (handle.len > HANDLE_MAX)
		wrong("%s: a handle of %" PRIu32 " bytes", what, handle.len);
	memcpy(handle.bytes, take(m, handle.len), handle.len);
	return handle;
}

static struct handle look_up(int fd, const struct handle *dir, const char *name)
{
	uint8_t bytes[CALL_MAX];
	struct message m = { .bytes = bytes };

	call_begin(&m, 2, NFS, NFS_LOOKUP);
	put_handle(&m, dir);
	put_text(&m, name);
	return ask_handle(fd, &m, name);
}

static void file_name(char name[static 16], unsigned int number)
{
	snprintf(name, 16, "f%06u", number);
}

static void find_files(struct load *load, int fd)
{
	load->files = must_have(calloc(load->file_count, sizeof(*load->files)));
	load->parent = load->object;
	for (unsigned int i = 0; i < load->file_count; i++) {
		char name[16];

		file_name(name, i);
		load->files[i] = look_up(fd, &load->parent, name);
	}
}

static void find_all(struct load *load)
{
	uint8_t bytes[CALL_MAX];
	struct message m = { .bytes = bytes };
	int mount_fd = connect_to(load, load->mount_port), fd;

	call_begin(&m, 1, MOUNT, MOUNT_MNT);
	put_text(&m, load->export);
	load->object = ask_handle(mount_fd, &m, load->export);
	close(mount_fd);
	fd = connect_to(load, load->port);
	for (const char *at = load->path + strspn(load->path, "/"); *at; at += strspn(at, "/")) {
		size_t len = strcspn(at, "/");

		if (len >= sizeof(load->name))
			wrong("%s: a name is too long", load->path);
		memcpy(load->name, at, len);
		load->name[len] = '\0';
		load->parent = load->object;
		load->object = look_up(fd, &load->parent, load->name);
		at += len;
	}
	if (load->file_count)
		find_files(load, fd);
	close(fd);
}

/* ---- The operations ---- */

static const struct handle *some_file(struct load *load)
{
	return load->file_count ? &load->files[draw(load, load->file_count)] : &load->object;
}

static uint32_t build_null(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	(void)load, (void)c;
	call_begin(m, call->xid, NFS, NFS_NULL);
	return NFS_NULL;
}

static uint32_t build_getattr(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	(void)c;
	call_begin(m, call->xid, NFS, NFS_GETATTR);
	put_handle(m, some_file(load));
	return NFS_GETATTR;
}

static uint32_t build_lookup(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	char name[16];

	(void)c;
	call_begin(m, call->xid, NFS, NFS_LOOKUP);
	put_handle(m, &load->parent);
	if (load->file_count)
		file_name(name, (unsigned int)draw(load, load->file_count));
	put_text(m, load->file_count ? name : load->name);
	return NFS_LOOKUP;
}

static uint32_t build_access(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	(void)c;
	call_begin(m, call->xid, NFS, NFS_ACCESS);
	put_handle(m, some_file(load));
	put(m, ALL_RIGHTS);
	return NFS_ACCESS;
}

static void put_read(const struct load *load, const struct call *call, struct message *m, uint64_t offset)
{
	call_begin(m, call->xid, NFS, NFS_READ);
	put_handle(m, &load->object);
	put_long(m, offset);
	put(m, (uint32_t)load->block_bytes);
}

static uint64_t offset_after(struct load *load)
{
	uint64_t offset = load->next_offset;

	load->next_offset = (offset + load->block_bytes) % load->size_bytes;
	return offset;
}

static uint32_t build_read(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	(void)c;
	put_read(load, call, m, offset_after(load));
	return NFS_READ;
}

static uint64_t some_offset(struct load *load)
{
	return draw(load, load->size_bytes / load->block_bytes) * load->block_bytes;
}

static uint32_t build_read_random(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	(void)c;
	put_read(load, call, m, some_offset(load));
	return NFS_READ;
}

/* Without the data, which send_call() adds. */
static void put_write(const struct load *load, const struct call *call, struct message *m, uint64_t offset,
		      uint32_t stability)
{
	call_begin(m, call->xid, NFS, NFS_WRITE);
	put_handle(m, &load->object);
	put_long(m, offset);
	put(m, (uint32_t)load->block_bytes);
	put(m, stability);
	put(m, (uint32_t)load->block_bytes);
}

static uint32_t build_write(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	uint64_t offset = offset_after(load);

	if (c->must_commit) {
		c->must_commit = false;
		load->next_offset = 0;
		call_begin(m, call->xid, NFS, NFS_COMMIT);
		put_handle(m, &load->object);
		put_long(m, 0);
		put(m, 0);
		return NFS_COMMIT;
	}
	put_write(load, call, m, offset, UNSTABLE);
	c->must_commit = load->next_offset == 0;
	return NFS_WRITE;
}

static uint32_t build_write_stable(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	(void)c;
	put_write(load, call, m, some_offset(load), FILE_SYNC);
	return NFS_WRITE;
}

/*
 * What the last call at this place was says what the next one is. Names of this run's own: a server may remember what
 * others did with the same name (nfs-ganesha does).
 */
static uint32_t build_create_remove(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	uint32_t procedure = call->procedure == NFS_CREATE ? NFS_REMOVE : NFS_CREATE;
	char name[48];

	snprintf(name, sizeof(name), "new-%d-%u-%u", getpid(), c->number, (unsigned int)(call - c->calls));
	call_begin(m, call->xid, NFS, procedure);
	put_handle(m, &load->object);
	put_text(m, name);
	if (procedure == NFS_REMOVE)
		return procedure;
	put(m, 0); /* UNCHECKED */
	put(m, 1); /* mode */
	put(m, 0644);
	for (unsigned int i = 0; i < 5; i++) /* neither owner, group, size nor times */
		put(m, 0);
	return procedure;
}

static uint32_t build_readdirplus(struct load *load, struct connection *c, struct call *call, struct message *m)
{
	call_begin(m, call->xid, NFS, NFS_READDIRPLUS);
	put_handle(m, &load->object);
	put_long(m, c->cookie);
	memcpy(m->bytes + m->len, c->verifier, sizeof(c->verifier));
	m->len += sizeof(c->verifier);
	put(m, LISTING_DIRCOUNT);
	put(m, LISTING_MAXCOUNT);
	return NFS_READDIRPLUS;
}

static const struct operation operations[] = {
	{ "null", build_null },
	{ "getattr", build_getattr },
	{ "lookup", build_lookup },
	{ "access", build_access },
	{ "read", build_read },
	{ "read-random", build_read_random },
	{ "write", build_write },
	{ "write-stable", build_write_stable },
	{ "create-remove", build_create_remove },
	{ "readdirplus", build_readdirplus },
	{ NULL, NULL },
};

/* An entry of READDIRPLUS; the last one's cookie is where to go on. */
static void take_entry(struct connection *c, struct message *m)
{
	take(m, 8); /* fileid */
	take(m, (get(m) + 3) / 4 * 4);
	c->cookie = get_long(m);
	if (get(m))
		take(m, ATTRIBUTES_BYTES);
	if (get(m))
		take(m, (get(m) + 3) / 4 * 4);
}

static void take_listing(struct load *load, struct connection *c, struct message *m)
{
	if (get(m))
		take(m, ATTRIBUTES_BYTES);
	memcpy(c->verifier, take(m, sizeof(c->verifier)), sizeof(c->verifier));
	for (; get(m); load->entries++)
		take_entry(c, m);
	if (!get(m))
		return;
	load->listings++;
	c->cookie = 0;
	memset(c->verifier, 0, sizeof(c->verifier));
	c->is_done = load->seconds == 0;
}

/* ---- Sending ---- */

static bool is_over(const struct load *load, const struct connection *c)
{
	return c->is_done || (load->count_until_us && now_us() >= load->count_until_us);
}

/* A COMMIT is alone: before it all WRITEs of the pass are answered, and behind it the next pass begins. */
static bool must_wait(const struct connection *c)
{
	return c->outstanding && (c->must_commit || c->calls[0].procedure == NFS_COMMIT);
}

/* Calls at all free places of the window, sent together. */
static void send_calls(struct load *load, struct connection *c)
{
	static uint8_t bytes[WINDOW_MAX * CALL_MAX];
	struct message m = { .bytes = bytes };
	struct iovec parts[2 * WINDOW_MAX];
	size_t count = 0;

	for (unsigned int place = 0; place < load->window && !is_over(load, c); place++) {
		struct call *call = &c->calls[place];
		size_t start = m.len;

		if (call->sent_us)
			continue;
		if (must_wait(c))
			break;
		call->xid = c->next_turn++ * WINDOW_MAX + place;
		call->procedure = load->operation->build(load, c, call, &m);
		call->sent_us = now_us();
		c->outstanding++;
		parts[count++] = (struct iovec){ bytes + start, m.len - start };
		if (call->procedure == NFS_WRITE)
			parts[count++] = (struct iovec){ block, load->block_bytes };
		call_end(&m, start, call->procedure == NFS_WRITE ? load->block_bytes : 0);
	}
	send_all(c->fd, parts, count);
}

/* ---- Receiving ---- */

static void count(struct load *load, uint64_t latency_us, uint64_t now)
{
	double upper_us = 1;
	size_t class;

	load->total_operations++;
	if (now < load->count_from_us || (load->count_until_us && now > load->count_until_us))
		return;
	if (!load->first_us) { /* its work came before the time that is measured */
		load->first_us = load->last_us = now;
		return;
	}
	for (class = 0; class < CLASSES - 1 && upper_us < (double)latency_us; class++)
		upper_us *= CLASS_RATIO;
	load->classes[class]++;
	load->operations++;
	if (latency_us > load->max_us)
		load->max_us = latency_us;
	load->last_us = now;
}

static void answered(struct load *load, struct connection *c, struct call *call)
{
	uint64_t now = now_us();

	c->outstanding--;
	count(load, now - call->sent_us, now);
	if (call->procedure == NFS_READ || call->procedure == NFS_WRITE)
		load->total_bytes += load->block_bytes;
	call->sent_us = 0;
	c->receiving = NULL;
}

static struct call *call_of(struct connection *c, uint32_t xid, unsigned int window)
{
	uint32_t place = xid % WINDOW_MAX;

	if (place >= window || !c->calls[place].sent_us || c->calls[place].xid != xid)
		wrong("an answer with xid 0x%08" PRIx32 ", which is not outstanding", xid);
	return &c->calls[place];
}

static uint32_t word_at(const uint8_t *bytes, size_t at)
{
	uint32_t value;

	memcpy(&value, bytes + at, 4);
	return be32toh(value);
}

/* A READ's answer up to the data, which is not looked at. */
static size_t take_read(struct load *load, struct connection *c, struct message *m)
{
	uint32_t got;

	if (get(m) != 1)
		wrong("READ: an answer without attributes");
	take(m, ATTRIBUTES_BYTES);
	got = get(m);
	get(m); /* end of file */
	if (got != load->block_bytes || get(m) != got)
		wrong("READ of %" PRIu64 " bytes: got %" PRIu32, load->block_bytes, got);
	c->skip_bytes = (word_at(m->bytes, 0) & 0x7fffffff) + 4 - m->at;
	return m->at;
}

/* One answer at the front of @len bytes. Returns the bytes that were used; 0: it is not all there. */
static size_t take_answer(struct load *load, struct connection *c, uint8_t *in, size_t len)
{
	struct message m = { .bytes = in };
	struct call *call;

	if (len < ANSWER_BYTES + 4 && (len < ANSWER_BYTES || word_at(in, 0) != (0x80000000U | (ANSWER_BYTES - 4))))
		return 0;
	m.len = (word_at(in, 0) & 0x7fffffff) + 4;
	call = call_of(c, word_at(in, 4), load->window);
	if (len < m.len && (call->procedure != NFS_READ || len < READ_HEAD_BYTES))
		return 0;
	if (call->procedure == NFS_NULL) {
		answered(load, c, call);
		return m.len;
	}
	must_succeed(&m, load->operation->name);
	c->receiving = call;
	if (call->procedure == NFS_READ)
		return take_read(load, c, &m);
	if (call->procedure == NFS_READDIRPLUS)
		take_listing(load, c, &m);
	answered(load, c, call);
	return m.len;
}

static void skip(struct load *load, struct connection *c, size_t len)
{
	c->skip_bytes -= len;
	if (!c->skip_bytes && c->receiving)
		answered(load, c, c->receiving);
}

static void take_answers(struct load *load, struct connection *c)
{
	size_t at = 0, used = 1;

	while (used && at < c->in_len) {
		size_t left = c->in_len - at;

		if (c->skip_bytes) {
			used = c->skip_bytes < left ? c->skip_bytes : left;
			skip(load, c, used);
		} else {
			used = take_answer(load, c, c->in + at, left);
		}
		at += used;
	}
	memmove(c->in, c->in + at, c->in_len - at);
	c->in_len -= at;
}

/* MSG_TRUNC: the kernel throws the bytes away, tcp(7). */
static ssize_t receive_some(const struct load *load, struct connection *c)
{
	if (c->skip_bytes > load->in_room)
		return recv(c->fd, NULL, c->skip_bytes, MSG_DONTWAIT | MSG_TRUNC);
	return recv(c->fd, c->in + c->in_len, load->in_room - c->in_len, MSG_DONTWAIT);
}

static void receive(struct load *load, struct connection *c)
{
	bool is_skipped = c->skip_bytes > load->in_room;
	ssize_t got = receive_some(load, c);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
		wrong("after %" PRIu64 " answers: %s", load->total_operations,
		      got ? strerror(errno) : "the server ended the connection");
	if (is_skipped) {
		skip(load, c, (size_t)got);
	} else {
		c->in_len += (size_t)got;
		take_answers(load, c);
	}
	if (!load->rate)
		send_calls(load, c);
	if (!c->outstanding)
		load->busy--;
}

/* ---- All of them ---- */

static void connect_all(struct load *load)
{
	load->in_room = load->connection_count <= FEW_CONNECTIONS ? INPUT_FEW : INPUT_MANY;
	if (load->operation->build == build_readdirplus)
		load->in_room = INPUT_LISTING;
	load->connections = must_have(calloc(load->connection_count, sizeof(*load->connections)));
	load->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned int i = 0; i < load->connection_count; i++) {
		struct connection *c = &load->connections[i];
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

		c->number = i;
		/* Not those of the last run, which the server may remember: it would take new calls for old ones. */
		c->next_turn = (uint32_t)(now_us() * 2654435761U) + i * 65537U;
		c->fd = connect_to(load, load->port);
		c->calls = must_have(calloc(load->window, sizeof(*c->calls)));
		c->in = must_have(malloc(load->in_room));
		if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event))
			wrong("epoll_ctl: %s", strerror(errno));
	}
}

static void start_timer(struct load *load)
{
	const long period_ns = 1000000000L / (long)load->rate;
	const struct itimerspec when = {
		.it_value = { .tv_sec = period_ns / 1000000000, .tv_nsec = period_ns % 1000000000 },
		.it_interval = { .tv_sec = period_ns / 1000000000, .tv_nsec = period_ns % 1000000000 },
	};
	struct epoll_event event = { .events = EPOLLIN }; /* data.ptr NULL says that it is the timer */

	load->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (load->timer < 0 || timerfd_settime(load->timer, 0, &when, NULL) ||
	    epoll_ctl(load->epoll, EPOLL_CTL_ADD, load->timer, &event))
		wrong("timerfd: %s", strerror(errno));
}

/* As many calls as are due. A connection that still waits is passed over: its call is not made up for. */
static void on_tick(struct load *load)
{
	uint64_t due;

	if (read(load->timer, &due, sizeof(due)) != sizeof(due))
		wrong("timerfd: %s", strerror(errno));
	for (; due; due--) {
		struct connection *c = &load->connections[load->next_connection++ % load->connection_count];

		if (c->outstanding)
			continue;
		send_calls(load, c);
		load->busy += c->outstanding;
	}
}

static bool must_go_on(const struct load *load)
{
	return load->busy || (load->rate && now_us() < load->count_until_us);
}

static void start_calls(struct load *load)
{
	if (load->rate) {
		start_timer(load);
		return;
	}
	load->busy = load->connection_count;
	for (unsigned int i = 0; i < load->connection_count; i++)
		send_calls(load, &load->connections[i]);
}

static void run(struct load *load)
{
	struct epoll_event events[EVENTS];

	load->count_from_us = now_us() + (uint64_t)load->warm_up_ms * 1000;
	if (load->seconds)
		load->count_until_us = load->count_from_us + (uint64_t)load->seconds * 1000000;
	start_calls(load);
	while (must_go_on(load)) {
		int ready = epoll_wait(load->epoll, events, EVENTS, SILENCE_MS);

		if (ready == 0)
			wrong("no answer for %d s", SILENCE_MS / 1000);
		for (int i = 0; i < ready; i++) {
			if (events[i].data.ptr)
				receive(load, events[i].data.ptr);
			else
				on_tick(load);
		}
	}
}

static uint64_t percentile(const struct load *load, double share)
{
	double upper_us = 1, left = (double)load->operations * share;

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

	if (!load->operations)
		wrong("not one answer in the time that is counted");
	printf("{\"operations\": %" PRIu64 ", \"seconds\": %.6f, \"per_s\": %.0f, \"p50_us\": %" PRIu64
	       ", \"p99_us\": %" PRIu64 ", \"max_us\": %" PRIu64 ", \"total_operations\": %" PRIu64
	       ", \"total_bytes\": %" PRIu64 ", \"entries\": %" PRIu64 ", \"listings\": %" PRIu64 "}\n",
	       load->operations, seconds, (double)load->operations / seconds, percentile(load, 0.5),
	       percentile(load, 0.99), load->max_us, load->total_operations, load->total_bytes, load->entries,
	       load->listings);
}

static void wait_for_line(void)
{
	int c;

	puts("ready");
	fflush(stdout);
	do
		c = getchar();
	while (c != '\n' && c != EOF);
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (end == text || *end || *text == '-' || value < least || value > most) {
		fprintf(stderr, "rpc_bench: %s: not a number from %" PRIu64 " to %" PRIu64 "\n", text, least, most);
		exit(2);
	}
	return value;
}

static const struct operation *operation_of(const char *name)
{
	for (const struct operation *operation = operations; operation->name; operation++)
		if (strcmp(operation->name, name) == 0)
			return operation;
	fprintf(stderr, "rpc_bench: %s is no operation\n", name);
	exit(2);
}

static void read_options(struct load *load, int argc, char **argv)
{
	static const struct option known[] = {
		{ "server", required_argument, NULL, 'S' }, { "port", required_argument, NULL, 'p' },
		{ "mount-port", required_argument, NULL, 'm' }, { "export", required_argument, NULL, 'e' },
		{ "path", required_argument, NULL, 'P' },   { "operation", required_argument, NULL, 'o' },
		{ "files", required_argument, NULL, 'f' },  { "size", required_argument, NULL, 'n' },
		{ "block", required_argument, NULL, 'b' },  { "connections", required_argument, NULL, 'c' },
		{ "window", required_argument, NULL, 'w' }, { "warm-up", required_argument, NULL, 'u' },
		{ "seconds", required_argument, NULL, 's' }, { "rate", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'S': load->server = optarg; break;
		case 'p': load->port = optarg; break;
		case 'm': load->mount_port = optarg; break;
		case 'e': load->export = optarg; break;
		case 'P': load->path = optarg; break;
		case 'o': load->operation = operation_of(optarg); break;
		case 'f': load->file_count = (unsigned int)number(optarg, 0, 999999); break;
		case 'n': load->size_bytes = number(optarg, 1, INT64_MAX); break;
		case 'b': load->block_bytes = number(optarg, 4, BLOCK_MAX) / 4 * 4; break;
		case 'c': load->connection_count = (unsigned int)number(optarg, 1, CONNECTIONS_MAX); break;
		case 'w': load->window = (unsigned int)number(optarg, 1, WINDOW_MAX); break;
		case 'r': load->rate = (unsigned int)number(optarg, 0, 1000000); break;
		case 'u': load->warm_up_ms = (unsigned int)number(optarg, 0, 60000); break;
		case 's': load->seconds = (unsigned int)number(optarg, 0, 86400); break;
		default: exit(2);
		}
	}
	if (!load->mount_port)
		load->mount_port = load->port;
	if (load->server && load->export && load->path && load->operation && optind == argc &&
	    (!load->rate || (load->window == 1 && load->seconds)) &&
	    load->size_bytes % load->block_bytes == 0)
		return;
	fputs("Usage: rpc_bench --server ADDRESS --export PATH --path PATH --operation NAME [--port N]\n"
	      "  [--mount-port N] [--files N] [--size BYTES] [--block BYTES] [--connections N] [--window W]\n"
	      "  [--rate N] [--warm-up MS] [--seconds N]\n",
	      stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	struct load load = { .port = "2049", .size_bytes = 256 << 20, .block_bytes = 4096, .connection_count = 1,
			     .window = 1, .warm_up_ms = 200, .seconds = 1, .random = 88172645463325252U };

	read_options(&load, argc, argv);
	find_all(&load);
	connect_all(&load);
	wait_for_line();
	run(&load);
	report(&load);
	for (unsigned int i = 0; i < load.connection_count; i++) {
		close(load.connections[i].fd);
		free(load.connections[i].calls);
		free(load.connections[i].in);
	}
	free(load.connections);
	free(load.files);
	close(load.epoll);
	return 0;
}
