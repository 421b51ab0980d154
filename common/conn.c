/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/conn.h"

#include "common/clock.h"
#include "common/conn_memory.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/output.h"
#include "common/record.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	LISTEN_BACKLOG = 4096,
	ACCEPTS_PER_TURN = 64,
	READS_PER_TURN = 4,
	ACCEPT_PAUSE_MS = 100, /* after running out of descriptors */
	SPARE_CALLS_MAX = 512,
	SPARE_REPLY_MAX = 8192, /* what a spare call keeps for its next reply */
	DISCARD_MAX = 1024 * 1024,
	BUCKETS = 4096,
	CALL_BYTES = 2048,	/* what a call takes, about, with a short answer, but for its record */
	KEEPALIVE_IDLE_S = 60,
	KEEPALIVE_BETWEEN_S = 10,
	KEEPALIVE_PROBES = 6,
};

enum conn_phase { CONN_SERVING, CONN_QUIESCING, CONN_QUIET, CONN_DRAINING, CONN_DISCARDING, CONN_CLOSED };

/* One call of a connection; lives until its answer is sent, or is there and the connection is gone. */
struct conn_call {
	struct rpc_call rpc;
	struct output_piece reply;
	LIST_ENTRY(conn_call) link; /* of those in progress, or of the spare ones */
	struct conn_part *part; /* NULL if the connection is gone, as the next */
	struct conn *conn;
	struct conn_memory *orphaned; /* ... which counts what this call holds then */
	size_t expected; /* bytes of data in the answer to come */
	size_t held;	 /* while it is in progress */
	bool dispatching, answered, is_queued;
};

struct conn {
	TAILQ_ENTRY(conn) link;
	LIST_ENTRY(conn) by_session, by_flow;
	struct letter joining; /* on its way from the control loop to its own */
	struct conn_part *part;
	enum conn_phase phase;
	enum conn_part_served served;
	int fd;
	bool movable, parsing;
	bool is_young; /* or nobody has looked since: conn_is_young() */
	uint64_t young_until_ms; /* monotonic clock */
	struct event *on_read, *on_write, *on_kick;
	struct record_reader input;
	struct output output;
	LIST_HEAD(, conn_call) calls;
	size_t call_count;
	size_t expected, calls_held; /* by all of them */
	struct conn_holder holder;
	struct flow_key flow;
	struct sockaddr_storage client, local;
	struct kernel_helper_static fixed;
	struct conn_facts facts;
	size_t restored_len;
	struct tcp_statistics at_drain; /* DRAINING: the other device's session has it up to here */
	struct placement placement;
	void (*on_quiet)(struct conn *conn, void *arg);
	void *on_quiet_arg;
};

TAILQ_HEAD(conn_list, conn);
LIST_HEAD(conn_bucket, conn);

struct conn_listener {
	LIST_ENTRY(conn_listener) link;
	struct conn_server *server;
	int fd;
	struct event *on_accept, *on_resume;
};

/* The connections of a server that are in one loop. */
struct conn_part {
	struct conn_server *server;
	struct conn_part_options options;
	struct conn_list conns, graveyard;
	struct conn_bucket by_session[BUCKETS], by_flow[BUCKETS]; /* of those in `conns` */
	atomic_size_t count; /* with those that are on their way here */
	struct tcp_statistics ended;
	uint64_t resets;
	struct event *on_bury;
	LIST_HEAD(, conn_call) spare_calls; /* so that a call needs no allocation */
	size_t spare_count;
	uint8_t scratch[RECORD_READ_MIN]; /* what comes is read here, and copied if it is not whole */
};

struct conn_server {
	struct conn_server_options options;
	LIST_HEAD(, conn_listener) listeners;
	uint32_t next_session;
	uint64_t passive_opens;
	struct loop *control; /* notes go there */
	struct conn_part *parts;
};

/* What the control loop is told of a connection. */
struct note {
	struct letter letter;
	struct conn_server *server;
	uint64_t session;
};

static void conn_parse(struct conn *conn);

/* Life and death */

static void part_enter(struct conn_part *part)
{
	atomic_fetch_add_explicit(&part->count, 1, memory_order_relaxed);
}

static void part_leave(struct conn_part *part)
{
	atomic_fetch_sub_explicit(&part->count, 1, memory_order_relaxed);
}

static void conn_free(struct conn *conn)
{
	if (conn->on_read)
		event_free(conn->on_read);
	if (conn->on_write)
		event_free(conn->on_write);
	if (conn->on_kick)
		event_free(conn->on_kick);
	output_fini(&conn->output);
	record_reader_fini(&conn->input);
	free(conn);
}

static void part_bury(struct conn_part *part)
{
	struct conn *conn;

	while ((conn = TAILQ_FIRST(&part->graveyard))) {
		TAILQ_REMOVE(&part->graveyard, conn, link);
		conn_free(conn);
	}
}

static void part_on_bury(evutil_socket_t fd, short what, void *arg)
{
	struct conn_part *part = arg;

	(void)fd, (void)what;
	loop_enter(part->options.loop);
	part_bury(part);
	loop_leave(part->options.loop);
}

/* Sessions are counted from a random number on, so neighbours are in neighbouring buckets. */
static struct conn_bucket *session_bucket(struct conn_part *part, uint64_t session)
{
	return &part->by_session[session % BUCKETS];
}

static struct conn_bucket *flow_bucket(struct conn_part *part, const struct flow_key *flow)
{
	return &part->by_flow[flow_hash(flow) % BUCKETS];
}

static void conn_list_in(struct conn *conn)
{
	struct conn_part *part = conn->part;

	TAILQ_INSERT_TAIL(&part->conns, conn, link);
	LIST_INSERT_HEAD(session_bucket(part, conn->facts.session), conn, by_session);
	LIST_INSERT_HEAD(flow_bucket(part, &conn->flow), conn, by_flow);
}

static void conn_list_out(struct conn *conn)
{
	TAILQ_REMOVE(&conn->part->conns, conn, link);
	LIST_REMOVE(conn, by_session);
	LIST_REMOVE(conn, by_flow);
}

/* Out of its part's list, freed at the end of the loop turn; calls in progress will find no connection. */
static void conn_retire(struct conn *conn)
{
	struct conn_part *part = conn->part;
	struct conn_call *call;

	event_del_noblock(conn->on_read);
	event_del_noblock(conn->on_write);
	event_del_noblock(conn->on_kick);
	conn_memory_leave(&conn->holder);
	while ((call = LIST_FIRST(&conn->calls))) {
		LIST_REMOVE(call, link);
		call->conn = NULL;
		call->part = NULL;
		call->orphaned = part->options.memory;
		conn_memory_orphan(call->orphaned, call->held);
	}
	conn->phase = CONN_CLOSED;
	conn->fd = -1;
	conn_list_out(conn);
	TAILQ_INSERT_TAIL(&part->graveyard, conn, link);
	part_leave(part);
	event_active(part->on_bury, 0, 0);
}

/*
 * Tell the control loop, in its own time. Without memory it learns nothing: a handoff that waits for that runs into its own time
 * limit.
 */
static void conn_note(const struct conn *conn, void (*open)(struct letter *letter))
{
	struct conn_server *server = conn->part->server;
	struct note *note = malloc(sizeof(*note));

	if (!note)
		return;
	*note = (struct note){ .letter.open = open, .server = server, .session = conn->facts.session };
	loop_post(server->control, &note->letter);
}

static struct note note_take(struct letter *letter)
{
	struct note note = *(struct note *)letter;

	free(letter);
	return note;
}

static void closed_open(struct letter *letter)
{
	struct note note = note_take(letter);
	const struct conn_server_options *options = &note.server->options;

	options->handlers->on_closed(note.session, options->arg);
}

static void conn_tell_closed(const struct conn *conn)
{
	const struct conn_server *server = conn->part->server;

	if (loop_is_here(server->control))
		server->options.handlers->on_closed(conn->facts.session, server->options.arg);
	else
		conn_note(conn, closed_open);
}

/* Nobody may hear of it but the control loop: the client's connection is the other device's. */
static void conn_break_off(struct conn *conn)
{
	if (conn->phase == CONN_QUIET)
		return;
	event_del_noblock(conn->on_read);
	event_del_noblock(conn->on_kick);
	conn_memory_pause(&conn->holder);
	conn->phase = CONN_QUIET;
	conn_tell_closed(conn);
}

/* All of a session. Returns whether its connection has been reset. */
static bool conn_statistics(const struct conn *conn, struct tcp_statistics *out)
{
	bool is_reset = tcp_statistics_read(conn->fd, out);

	tcp_statistics_add(out, &conn->facts.statistics);
	return is_reset;
}

static void conn_count_end(const struct conn *conn, bool reset)
{
	struct conn_part *part = conn->part;
	struct tcp_statistics all;

	part->resets += conn_statistics(conn, &all) || reset;
	tcp_statistics_add(&part->ended, &all);
}

/* The session goes on elsewhere. What was drained since it left is not in it: what came in meanwhile went to both devices. */
static void conn_count_rest(const struct conn *conn)
{
	struct tcp_statistics rest;

	if (conn->phase != CONN_DRAINING)
		return;
	tcp_statistics_read(conn->fd, &rest);
	tcp_statistics_subtract(&rest, &conn->at_drain);
	rest.segments_in = rest.bytes_in = 0;
	tcp_statistics_add(&conn->part->ended, &rest);
}

void conn_close(struct conn *conn, bool reset)
{
	int fd = conn->fd;

	if (conn->phase == CONN_CLOSED)
		return;
	if (conn->served == CONN_RECEIVES) {
		conn_break_off(conn);
		return;
	}
	if (!conn_is_half(conn)) /* else the other device counts it */
		conn_count_end(conn, reset);
	conn_tell_closed(conn);
	conn_retire(conn);
	if (reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
	close(fd);
}

int conn_surrender(struct conn *conn)
{
	int fd = conn->fd;

	conn_count_rest(conn);
	conn_retire(conn);
	return fd;
}

/* Holding */

/* Only its client can help it on, or a turn. */
static bool conn_is_idle(const struct conn *conn)
{
	return conn->call_count == 0 && conn->output.len == 0;
}

static void conn_hold(struct conn *conn)
{
	conn_memory_hold(&conn->holder, record_held(&conn->input) + conn->calls_held + conn->output.held);
}

static bool conn_ask(struct conn *conn, size_t more)
{
	conn_hold(conn);
	return conn_memory_ask(&conn->holder, more, conn_is_idle(conn));
}

/* All is done that can be done now. */
static void conn_rest(struct conn *conn)
{
	if (conn->phase != CONN_SERVING)
		return;
	conn_hold(conn);
	if (conn_memory_has_turn(&conn->holder))
		conn_memory_rest(&conn->holder, conn_is_idle(conn));
}

/* Writing */

static void conn_flush(struct conn *conn)
{
	size_t before = conn->output.held;

	if (conn->served == CONN_RECEIVES) {
		conn_hold(conn);
		return;
	}
	if (output_send(&conn->output, conn->fd)) {
		conn_close(conn, false);
		return;
	}
	if (conn->output.len)
		event_add(conn->on_write, NULL);
	if (conn->output.held < before)
		conn_memory_progress(&conn->holder);
	conn_hold(conn);
}

/* What the client does not take yet is left in its requests: a handoff has to carry the answers. */
static bool conn_may_read(const struct conn *conn)
{
	size_t output = conn->output.len;

	return conn->phase == CONN_SERVING && conn->call_count < CONN_CALLS_MAX && output < CONN_OUTPUT_ENOUGH &&
	       output + conn->expected < CONN_OUTPUT_MAX && !conn_memory_waits(&conn->holder);
}

/* Room has come: parse what waits, read on. */
static void conn_continue(struct conn *conn)
{
	if (!conn_may_read(conn))
		return;
	conn_parse(conn);
	if (conn_may_read(conn))
		event_add(conn->on_read, NULL);
}

/*
 * A callback begins. Return: whether it is to go on, and end with conn_leave(): not if the control loop has closed or
 * quieted the connection while the callback was on its way
 */
static bool conn_enter(struct conn *conn)
{
	loop_enter(conn->part->options.loop);
	if (conn->phase != CONN_QUIET && conn->phase != CONN_CLOSED)
		return true;
	loop_leave(conn->part->options.loop);
	return false;
}

static void conn_leave(struct conn *conn)
{
	loop_leave(conn->part->options.loop);
}

static void conn_on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd, (void)what;
	if (!conn_enter(conn))
		return;
	conn_flush(conn);
	if (conn->phase == CONN_SERVING)
		conn_continue(conn);
	conn_rest(conn);
	conn_leave(conn);
}

static void tell_quiet(struct conn *conn)
{
	void (*on_quiet)(struct conn *, void *) = conn->on_quiet;

	conn->on_quiet = NULL;
	if (on_quiet)
		on_quiet(conn, conn->on_quiet_arg);
}

static void quiet_open(struct letter *letter)
{
	struct note note = note_take(letter);
	struct loops *loops = note.server->options.loops;
	struct conn *conn;

	loops_pause(loops);
	conn = conn_find(note.server, note.session);
	if (conn && conn->phase == CONN_QUIET)
		tell_quiet(conn);
	loops_continue(loops);
}

static void conn_became_quiet(struct conn *conn)
{
	conn->phase = CONN_QUIET;
	event_del_noblock(conn->on_write);
	if (loop_is_here(conn->part->server->control))
		tell_quiet(conn);
	else if (conn->on_quiet)
		conn_note(conn, quiet_open);
}

/* Calls */

static struct conn_call *call_new(struct conn_part *part)
{
	struct conn_call *call = LIST_FIRST(&part->spare_calls);

	if (!call)
		return calloc(1, sizeof(*call));
	LIST_REMOVE(call, link);
	part->spare_count--;
	return call;
}

/* What is kept is the memory of the reply, if it is an ordinary one. */
static void call_free(struct conn_part *part, struct conn_call *call)
{
	uint8_t *reply = call->rpc.reply;
	size_t room = call->rpc.reply_room;

	if (!part || part->spare_count >= SPARE_CALLS_MAX || room > SPARE_REPLY_MAX) {
		rpc_call_fini(&call->rpc);
		free(call);
		return;
	}
	call->rpc.reply = NULL;
	rpc_call_fini(&call->rpc);
	*call = (struct conn_call){ .rpc = { .reply = reply, .reply_room = room } };
	LIST_INSERT_HEAD(&part->spare_calls, call, link);
	part->spare_count++;
}

static void reply_release(struct output_piece *piece)
{
	struct conn_call *call = (struct conn_call *)((char *)piece - offsetof(struct conn_call, reply));

	call_free(call->part, call);
}

/* The call goes to the output with its reply. */
static void conn_queue_reply(struct conn *conn, struct conn_call *call)
{
	struct rpc_call *rpc = &call->rpc;
	size_t pages_len = rpc->pages ? page_pipe_len(rpc->pages) : 0, pad = -pages_len & 3;

	_Static_assert((int)RPC_REPLY_HEADROOM == (int)RECORD_MARK_BYTES, "the mark fits the headroom");
	record_mark_put(rpc->reply, rpc->reply_len + pages_len + pad);
	call->is_queued = true;
	call->reply = (struct output_piece){
		.bytes = rpc->reply,
		.len = RECORD_MARK_BYTES + rpc->reply_len,
		.pages = rpc->pages,
		.pages_len = pages_len,
		.pad = pad,
		.held = sizeof(*call) + rpc->reply_room,
		.release = reply_release,
	};
	rpc->pages = NULL;
	output_add(&conn->output, &call->reply);
}

static struct conn_share *facts_share(struct conn_facts *facts, uint32_t volume)
{
	struct conn_share *least = &facts->shares[0];

	for (size_t i = 0; i < facts->share_count; i++) {
		if (facts->shares[i].volume == volume)
			return &facts->shares[i];
		if (facts->shares[i].requests < least->requests)
			least = &facts->shares[i];
	}
	if (facts->share_count < CONN_SHARES_MAX)
		least = &facts->shares[facts->share_count++];
	*least = (struct conn_share){ .volume = volume };
	return least;
}

static void conn_account(struct conn *conn, const struct rpc_call *rpc)
{
	struct conn_share *share = facts_share(&conn->facts, rpc->volume);

	conn->facts.requests++;
	share->requests++;
	share->bytes += rpc->data_bytes;
}

/* If it is queued, the output releases the call: not before the next conn_flush(), which is later. */
static void call_answered(struct conn_call *call)
{
	struct conn *conn = call->conn;
	const struct conn_server_options *options = &conn->part->server->options;

	LIST_REMOVE(call, link);
	conn->call_count--;
	conn->expected -= call->expected;
	conn->calls_held -= call->held;
	call->conn = NULL;
	rpc_call_drop(&call->rpc);
	conn_account(conn, &call->rpc);
	if (call->rpc.reply_len == 0) {
		conn_close(conn, false);
		return;
	}
	conn_queue_reply(conn, call);
	options->handlers->on_work(conn, &call->rpc, options->arg);
	if (conn->parsing || conn->phase == CONN_CLOSED)
		return;
	if (conn->phase == CONN_SERVING || conn->call_count) {
		event_active(conn->on_kick, 0, 0); /* writes what else is answered in this turn of the loop, too */
		return;
	}
	conn_flush(conn);
	if (conn->phase == CONN_QUIESCING)
		conn_became_quiet(conn);
}

static void conn_on_reply(struct rpc_call *rpc)
{
	struct conn_call *call = rpc->transport_state;
	bool dispatching = call->dispatching, is_alone = !call->conn;

	call->answered = true;
	if (call->orphaned)
		conn_memory_bury(call->orphaned, call->held);
	if (!is_alone) {
		is_alone = rpc->reply_len == 0;
		call_answered(call);
	}
	if (is_alone && !dispatching)
		call_free(call->part, call);
}

/* Only while the record is the reader's. */
static uint8_t *conn_give_record(struct rpc_call *rpc)
{
	struct conn_call *call = rpc->transport_state;

	return call->conn && call->dispatching ? record_give(&call->conn->input) : NULL;
}

/* It is not answered yet, and holds something meanwhile, unless its connection is gone already. */
static void call_outstanding(struct conn_call *call)
{
	struct conn *conn = call->conn;

	if (!conn)
		return;
	call->expected = call->rpc.reply_bytes;
	call->held = CALL_BYTES + call->expected + (call->rpc.kept ? call->rpc.record_len : 0);
	conn->expected += call->expected;
	conn->calls_held += call->held;
}

/*
 * A client that has lost its connection sends again what was not answered, as soon as it has another. And what is read after a half
 * was taken back, the other device may have carried out.
 */
static bool conn_is_young(struct conn *conn)
{
	conn->is_young = conn->is_young && clock_monotonic_ms() < conn->young_until_ms;
	return conn->is_young;
}

static void conn_dispatch(struct conn *conn, const uint8_t *record, size_t len)
{
	struct conn_call *call = call_new(conn->part);

	if (!call) {
		conn_close(conn, false);
		return;
	}
	call->conn = conn;
	call->part = conn->part;
	call->rpc.record = record;
	call->rpc.record_len = len;
	call->rpc.transport = RPC_TCP;
	call->rpc.may_be_repeated = conn_is_young(conn);
	call->rpc.takes_pages = true;
	call->rpc.client = conn->client;
	call->rpc.server = conn->local;
	call->rpc.done = conn_on_reply;
	call->rpc.give_record = conn_give_record;
	call->rpc.transport_state = call;
	LIST_INSERT_HEAD(&conn->calls, call, link);
	conn->call_count++;
	call->rpc.is_passing = true;
	call->dispatching = true;
	rpc_dispatch(conn->part->options.rpc, &call->rpc);
	call->dispatching = false;
	if (!call->answered) {
		call_outstanding(call);
		rpc_send_on(&call->rpc);
	} else if (!call->is_queued) {
		call_free(call->part, call);
	}
}

/* Reading */

/* For the call whose record is complete. Its record is copied if it is not long enough to be given away. */
static bool conn_may_begin(struct conn *conn)
{
	size_t len, raw_len, more = CALL_BYTES;
	const uint8_t *record = record_front(&conn->input, &len, &raw_len);

	more += raw_len < RECORD_READ_MIN ? raw_len : 0;
	conn_hold(conn);
	if (!conn_memory_has(&conn->holder, more + RPC_DATA_MAX) &&
	    rpc_answers_long(conn->part->options.rpc, record, len))
		more += RPC_DATA_MAX;
	return conn_memory_ask(&conn->holder, more, conn_is_idle(conn));
}

static void conn_parse(struct conn *conn)
{
	const uint8_t *record;
	bool is_full;
	size_t len;
	int rc;

	conn->parsing = true;
	while (conn_may_read(conn)) {
		rc = record_scan(&conn->input, RPC_RECORD_MAX);
		if (rc == 0 || (rc > 0 && !conn_may_begin(conn)))
			break;
		if (rc > 0)
			rc = record_next(&conn->input, RPC_RECORD_MAX, &record, &len);
		if (rc < 0) {
			conn_close(conn, false);
			break;
		}
		conn_dispatch(conn, record, len);
		record_consume(&conn->input);
	}
	conn->parsing = false;
	if (conn->phase == CONN_CLOSED)
		return;
	is_full = !conn_may_read(conn);
	conn_flush(conn);
	if (conn->phase == CONN_QUIESCING && conn->call_count == 0)
		conn_became_quiet(conn);
	else if (conn->phase == CONN_SERVING && !conn_may_read(conn))
		event_del(conn->on_read);
	else if (conn->phase == CONN_SERVING && is_full)
		event_active(conn->on_kick, 0, 0); /* whole records may wait, and no event would tell */
}

/* Bytes that have arrived; asked only when memory is to be had for them. */
static size_t conn_coming(const struct conn *conn)
{
	int coming = 0;

	if (!record_is_long(&conn->input) || ioctl(conn->fd, FIONREAD, &coming) < 0)
		return 0;
	return coming > 0 ? (size_t)coming : 0;
}

/* Return: the memory to read into; NULL: there is none (ENOMEM), or not now (EAGAIN) */
static uint8_t *conn_room(struct conn *conn, size_t *room)
{
	size_t coming = record_growth(&conn->input, 0) ? conn_coming(conn) : 0;
	size_t growth = record_growth(&conn->input, coming), spare;
	uint8_t *into;

	errno = EAGAIN;
	if (!conn_ask(conn, growth ?: 1))
		return NULL;
	into = record_room(&conn->input, coming, room);
	if (!into)
		errno = ENOMEM;
	spare = conn_memory_spare(&conn->holder);
	if (into && conn->input.is_lent && *room > spare)
		*room = spare;
	return into;
}

/* Return: bytes; 0 if there is nothing now; -1: closed */
static ssize_t conn_fill(struct conn *conn, size_t *room)
{
	uint8_t *into = conn_room(conn, room);
	ssize_t got = into ? read(conn->fd, into, *room) : -1;

	if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
		record_filled(&conn->input, 0);
		return 0;
	}
	if (got <= 0) {
		conn_close(conn, false);
		return -1;
	}
	record_filled(&conn->input, (size_t)got);
	return got;
}

static void conn_read(struct conn *conn)
{
	for (int i = 0; i < READS_PER_TURN && conn_may_read(conn); i++) {
		size_t room;
		ssize_t got;

		record_lend(&conn->input, conn->part->scratch, sizeof(conn->part->scratch));
		got = conn_fill(conn, &room);
		if (got <= 0)
			return;
		conn_parse(conn);
		if ((size_t)got < room)
			return;
	}
}

/* What a silent socket acknowledges late the client hears of late, for it has no answers that say so. */
static void conn_acknowledge_at_once(struct conn *conn)
{
	setsockopt(conn->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 1 }, sizeof(int));
}

static void conn_throw_away(struct conn *conn)
{
	ssize_t got = 0;

	for (int i = 0; i < READS_PER_TURN; i++) {
		got = recv(conn->fd, NULL, DISCARD_MAX, MSG_TRUNC | MSG_DONTWAIT);
		if (got <= 0)
			break;
	}
	if (got == 0)
		event_del(conn->on_read); /* the other device says what has to be said to that */
	else if (got < 0 && errno != EAGAIN && errno != EINTR)
		conn_close(conn, false);
	else
		conn_acknowledge_at_once(conn);
}

static void conn_take_in(struct conn *conn)
{
	conn_read(conn);
	if (conn->served == CONN_RECEIVES)
		conn_acknowledge_at_once(conn);
	if (record_settle(&conn->input) < 0)
		conn_close(conn, false);
	if (conn->phase == CONN_SERVING && !conn_may_read(conn))
		event_del(conn->on_read);
	conn_rest(conn);
}

static void conn_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd, (void)what;
	if (!conn_enter(conn))
		return;
	if (conn->phase == CONN_DISCARDING)
		conn_throw_away(conn);
	else
		conn_take_in(conn);
	conn_leave(conn);
}

static void conn_on_kick(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd, (void)what;
	if (!conn_enter(conn))
		return;
	conn_flush(conn);
	if (conn->phase == CONN_SERVING)
		conn_continue(conn);
	conn_rest(conn);
	conn_leave(conn);
}

/* Taking turns */

static struct conn *holder_conn(struct conn_holder *holder)
{
	return (struct conn *)((char *)holder - offsetof(struct conn, holder));
}

/* What is here first, then what waits in the kernel: both for certain, for who has nothing to do has no turn any more. */
static void holder_on_turn(struct conn_holder *holder)
{
	struct conn *conn = holder_conn(holder);

	conn_continue(conn);
	if (conn_may_read(conn))
		conn_take_in(conn);
	conn_rest(conn);
}

/* We owe it answers, or it is about to move: what it holds is not its client's fault. */
static bool holder_on_stalled(struct conn_holder *holder)
{
	struct conn *conn = holder_conn(holder);

	if (conn->phase != CONN_SERVING || conn->call_count || conn->parsing)
		return false;
	conn_close(conn, false);
	return true;
}

static const struct conn_holder_functions holder_functions = {
	.on_turn = holder_on_turn,
	.on_stalled = holder_on_stalled,
};

/* Making */

static struct event_base *part_base(struct conn_part *part)
{
	return part->options.loop ? loop_base(part->options.loop) : part->server->options.base;
}

static struct conn *conn_new(struct conn_part *part, int fd)
{
	struct event_base *base = part_base(part);
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->part = part;
	conn->fd = fd;
	conn->is_young = true;
	conn->young_until_ms = clock_monotonic_ms() + CONN_YOUNG_MS;
	LIST_INIT(&conn->calls);
	output_init(&conn->output);
	conn->on_read = event_new(base, fd, EV_READ | EV_PERSIST, conn_on_readable, conn);
	conn->on_write = event_new(base, fd, EV_WRITE, conn_on_writable, conn);
	conn->on_kick = event_new(base, -1, 0, conn_on_kick, conn);
	if (!conn->on_read || !conn->on_write || !conn->on_kick) {
		conn_free(conn);
		return NULL;
	}
	return conn;
}

static void conn_join(struct conn *conn)
{
	struct conn_part *part = conn->part;

	conn_list_in(conn);
	conn_memory_join(part->options.memory, &conn->holder, &holder_functions);
	conn_hold(conn);
	conn->phase = CONN_SERVING;
	conn->placement.moved_ms = clock_monotonic_ms();
	event_add(conn->on_read, NULL);
}

static int conn_name(struct conn *conn)
{
	socklen_t client_len = sizeof(conn->client), local_len = sizeof(conn->local);

	if (getpeername(conn->fd, (struct sockaddr *)&conn->client, &client_len) < 0 ||
	    getsockname(conn->fd, (struct sockaddr *)&conn->local, &local_len) < 0)
		return -errno;
	return flow_from_sockets(&conn->client, &conn->local, IPPROTO_TCP, &conn->flow);
}

static size_t part_count(const struct conn_part *part)
{
	return atomic_load_explicit(&part->count, memory_order_relaxed);
}

/* Where the next connection goes. */
static struct conn_part *least_part(struct conn_server *server)
{
	struct conn_part *least = server->parts;

	for (size_t i = 1; i < server->options.part_count; i++)
		if (part_count(&server->parts[i]) < part_count(least))
			least = &server->parts[i];
	return least;
}

static void joining_open(struct letter *letter)
{
	struct conn *conn = (struct conn *)((char *)letter - offsetof(struct conn, joining));

	if (conn_memory_admits(conn->part->options.memory)) {
		conn_join(conn);
		return;
	}
	part_leave(conn->part);
	close(conn->fd);
	conn_free(conn);
}

/*
 * A client that is gone without a word is missed after two minutes, not after the system's two hours. So is one that knows nothing of
 * the connection any more, because the device that handed it to us has reset it, not having heard that we have it.
 */
static void keep_alive(int fd)
{
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){ KEEPALIVE_IDLE_S }, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){ KEEPALIVE_BETWEEN_S }, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){ KEEPALIVE_PROBES }, sizeof(int));
}

static void server_accepted(struct conn_server *server, int fd)
{
	const struct conn_server_options *options = &server->options;
	struct conn *conn = conn_new(least_part(server), fd);

	if (!conn || conn_name(conn) < 0) {
		if (conn)
			conn_free(conn);
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	keep_alive(fd);
	conn->facts.session = (uint64_t)options->self << 32 | server->next_session++;
	conn->facts.since_ns = clock_wall_ns();
	server->passive_opens++;
	conn->movable = options->handlers->on_accept(fd, &conn->fixed, options->arg);
	part_enter(conn->part);
	conn->joining.open = joining_open;
	if (conn->part->options.loop)
		loop_post(conn->part->options.loop, &conn->joining);
	else
		joining_open(&conn->joining);
}

static void listener_on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct conn_listener *listener = arg;

	(void)what;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (accepted >= 0) {
			server_accepted(listener->server, accepted);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_warn("conn", "no more connections for %d ms: accept: %s", ACCEPT_PAUSE_MS,
				 strerror(errno));
			event_del(listener->on_accept);
			event_add(listener->on_resume, &(struct timeval){ .tv_usec = ACCEPT_PAUSE_MS * 1000 });
		}
		return;
	}
}

static void listener_on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct conn_listener *listener = arg;

	(void)fd, (void)what;
	event_add(listener->on_accept, NULL);
}

static void listener_free(struct conn_listener *listener)
{
	if (listener->on_accept)
		event_free(listener->on_accept);
	if (listener->on_resume)
		event_free(listener->on_resume);
	if (listener->fd >= 0)
		close(listener->fd);
	free(listener);
}

static int listening_socket(const struct sockaddr *address, socklen_t len)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (address->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 1 }, sizeof(int));
	if (bind(fd, address, len) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

int conn_server_listen(struct conn_server *server, const struct sockaddr *address, socklen_t len)
{
	int fd = listening_socket(address, len);

	return fd < 0 ? fd : conn_server_listen_on(server, fd);
}

int conn_server_listen_on(struct conn_server *server, int fd)
{
	struct conn_listener *listener = calloc(1, sizeof(*listener));

	if (!listener) {
		close(fd);
		return -ENOMEM;
	}
	listener->server = server;
	listener->fd = fd;
	listener->on_accept = event_new(server->options.base, fd, EV_READ | EV_PERSIST, listener_on_acceptable, listener);
	listener->on_resume = evtimer_new(server->options.base, listener_on_resume, listener);
	if (!listener->on_accept || !listener->on_resume) {
		listener_free(listener);
		return -ENOMEM;
	}
	event_add(listener->on_accept, NULL);
	LIST_INSERT_HEAD(&server->listeners, listener, link);
	return 0;
}

void conn_server_stop_accepting(struct conn_server *server)
{
	struct conn_listener *listener;

	LIST_FOREACH(listener, &server->listeners, link) {
		event_del(listener->on_accept);
		event_del(listener->on_resume);
	}
}

size_t conn_server_listeners(const struct conn_server *server, int *fds, size_t max)
{
	const struct conn_listener *listener;
	size_t count = 0;

	LIST_FOREACH(listener, &server->listeners, link)
		if (count < max)
			fds[count++] = listener->fd;
	return count;
}

static int part_init(struct conn_part *part, struct conn_server *server, const struct conn_part_options *options)
{
	part->server = server;
	part->options = *options;
	LIST_INIT(&part->spare_calls);
	TAILQ_INIT(&part->conns);
	TAILQ_INIT(&part->graveyard);
	part->on_bury = event_new(part_base(part), -1, 0, part_on_bury, part);
	return part->on_bury ? 0 : -ENOMEM;
}

static int make_parts(struct conn_server *server, const struct conn_part_options *options, size_t count)
{
	int rc = 0;

	server->parts = calloc(count, sizeof(*server->parts));
	if (!server->parts)
		return -ENOMEM;
	for (server->options.part_count = 0; rc == 0 && server->options.part_count < count; server->options.part_count++)
		rc = part_init(&server->parts[server->options.part_count], server, &options[server->options.part_count]);
	return rc;
}

struct conn_server *conn_server_new(const struct conn_server_options *options)
{
	struct conn_server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->options = *options;
	server->options.parts = NULL;
	LIST_INIT(&server->listeners);
	if (make_parts(server, options->parts, options->part_count) < 0 || loop_new(options->base, &server->control) < 0) {
		conn_server_free(server);
		return NULL;
	}
	/* A restarted daemon must not give out the ids of sessions that live on elsewhere. */
	if (getrandom(&server->next_session, sizeof(server->next_session), 0) < 0)
		server->next_session = (uint32_t)clock_wall_ns();
	return server;
}

static void part_fini(struct conn_part *part)
{
	struct conn_call *call;
	struct conn *conn;

	while ((conn = TAILQ_FIRST(&part->conns))) {
		conn->served = CONN_WHOLE; /* nobody is told any more */
		conn_close(conn, false);
	}
	part_bury(part);
	while ((call = LIST_FIRST(&part->spare_calls))) {
		LIST_REMOVE(call, link);
		rpc_call_fini(&call->rpc);
		free(call);
	}
	if (part->on_bury)
		event_free(part->on_bury);
}

void conn_server_free(struct conn_server *server)
{
	struct conn_listener *listener;

	if (!server)
		return;
	while ((listener = LIST_FIRST(&server->listeners))) {
		LIST_REMOVE(listener, link);
		listener_free(listener);
	}
	for (size_t i = 0; server->parts && i < server->options.part_count; i++)
		part_fini(&server->parts[i]);
	loop_free(server->control); /* opens notes, which want the parts */
	free(server->parts);
	free(server);
}

/* Looking */

struct conn *conn_next(struct conn_server *server, struct conn *conn)
{
	struct conn_part *part = conn ? conn->part : server->parts;
	struct conn *next = conn ? TAILQ_NEXT(conn, link) : TAILQ_FIRST(&part->conns);

	while (!next && ++part < server->parts + server->options.part_count)
		next = TAILQ_FIRST(&part->conns);
	return next;
}

void conn_server_totals(struct conn_server *server, struct conn_totals *out)
{
	struct conn_totals totals = { .passive_opens = server->passive_opens };
	struct tcp_statistics all;

	for (size_t i = 0; i < server->options.part_count; i++) {
		tcp_statistics_add(&totals.tcp, &server->parts[i].ended);
		totals.established_resets += server->parts[i].resets;
	}
	for (struct conn *conn = conn_next(server, NULL); conn; conn = conn_next(server, conn)) {
		if (conn_is_half(conn))
			continue;
		conn_statistics(conn, &all);
		tcp_statistics_add(&totals.tcp, &all);
		totals.established++;
	}
	*out = totals;
}

struct conn *conn_find(struct conn_server *server, uint64_t session)
{
	for (size_t i = 0; i < server->options.part_count; i++) {
		struct conn *conn;

		LIST_FOREACH(conn, session_bucket(&server->parts[i], session), by_session)
			if (conn->facts.session == session)
				return conn;
	}
	return NULL;
}

struct conn *conn_find_flow(struct conn_server *server, const struct flow_key *flow)
{
	for (size_t i = 0; i < server->options.part_count; i++) {
		struct conn *conn;

		LIST_FOREACH(conn, flow_bucket(&server->parts[i], flow), by_flow)
			if (memcmp(&conn->flow, flow, sizeof(*flow)) == 0)
				return conn;
	}
	return NULL;
}

size_t conn_count(const struct conn_server *server)
{
	size_t count = 0;

	for (size_t i = 0; i < server->options.part_count; i++)
		count += part_count(&server->parts[i]);
	return count;
}

struct conn_facts *conn_facts(struct conn *conn)
{
	return &conn->facts;
}

const struct flow_key *conn_flow(const struct conn *conn)
{
	return &conn->flow;
}

const struct kernel_helper_static *conn_fixed(const struct conn *conn)
{
	return &conn->fixed;
}

struct placement *conn_placement(struct conn *conn)
{
	return &conn->placement;
}

bool conn_is_movable(const struct conn *conn)
{
	return conn->movable;
}

void conn_stay(struct conn *conn)
{
	conn->movable = false;
}

int conn_fd(const struct conn *conn)
{
	return conn->fd;
}

size_t conn_restored_len(const struct conn *conn)
{
	return conn->restored_len;
}

size_t conn_output_len(const struct conn *conn)
{
	return conn->output.len;
}

size_t conn_sending_len(const struct conn *conn)
{
	int outgoing = 0;

	ioctl(conn->fd, SIOCOUTQ, &outgoing);
	return conn->output.len + (size_t)outgoing;
}

/* Moving */

int conn_quiesce(struct conn *conn, void (*on_quiet)(struct conn *conn, void *arg), void *arg)
{
	if (conn->phase != CONN_SERVING)
		return -EALREADY;
	event_del_noblock(conn->on_read);
	event_del_noblock(conn->on_kick);
	conn_memory_pause(&conn->holder);
	conn->phase = CONN_QUIESCING;
	conn->on_quiet = on_quiet;
	conn->on_quiet_arg = arg;
	if (conn->call_count || conn->parsing)
		return -EINPROGRESS;
	conn->on_quiet = NULL;
	conn_became_quiet(conn);
	return 0;
}

bool conn_write_out(struct conn *conn)
{
	if (conn->phase != CONN_QUIET || conn->served != CONN_WHOLE)
		return true;
	if (output_send(&conn->output, conn->fd)) /* the freeze will find it */
		return true;
	conn_hold(conn);
	return conn_sending_len(conn) <= CONN_SENDING_FEW;
}

void conn_drain(struct conn *conn)
{
	if (conn->phase != CONN_QUIET)
		return;
	conn->phase = CONN_DRAINING;
	tcp_statistics_read(conn->fd, &conn->at_drain);
	event_active(conn->on_kick, 0, 0);
}

void conn_discard(struct conn *conn)
{
	if (conn->phase != CONN_QUIET)
		return;
	conn->phase = CONN_DISCARDING;
	event_add(conn->on_read, NULL);
}

bool conn_is_drained(const struct conn *conn)
{
	return conn_sending_len(conn) == (conn->phase == CONN_DISCARDING ? conn->output.len : 0);
}

bool conn_is_half(const struct conn *conn)
{
	return conn->served != CONN_WHOLE;
}

void conn_take_over(struct conn *conn)
{
	conn->served = CONN_WHOLE;
	if (conn->phase == CONN_SERVING)
		event_active(conn->on_kick, 0, 0);
	else
		conn_close(conn, false); /* it was broken off, and nobody would look at it again */
}

void conn_resume(struct conn *conn)
{
	if (conn->phase != CONN_QUIESCING && conn->phase != CONN_QUIET && conn->phase != CONN_DRAINING)
		return;
	if (conn->phase != CONN_QUIESCING) {
		conn->is_young = true;
		conn->young_until_ms = clock_monotonic_ms() + CONN_YOUNG_MS;
	}
	conn->phase = CONN_SERVING;
	conn->on_quiet = NULL;
	event_active(conn->on_kick, 0, 0);
}

int conn_export(struct conn *conn, struct conn_state *out)
{
	struct conn_state state = { .facts = conn->facts };
	const uint8_t *input = record_pending(&conn->input, &state.input_len);
	int rc = -ENOMEM;

	state.output_len = conn->output.len;
	state.input = malloc(state.input_len + 1);
	state.output = malloc(state.output_len + 1);
	if (state.input && state.output)
		rc = output_copy(&conn->output, state.output);
	if (rc) {
		conn_state_fini(&state);
		return rc;
	}
	if (state.input_len)
		memcpy(state.input, input, state.input_len);
	*out = state;
	return 0;
}

void conn_state_fini(struct conn_state *state)
{
	free(state->input);
	free(state->output);
	memset(state, 0, sizeof(*state));
}

static void restored_release(struct output_piece *piece)
{
	free(piece);
}

static int conn_queue_restored(struct conn *conn, const uint8_t *bytes, size_t len)
{
	struct output_piece *piece;

	if (len == 0)
		return 0;
	piece = malloc(sizeof(*piece) + len);
	if (!piece)
		return -ENOMEM;
	memcpy(piece + 1, bytes, len);
	*piece = (struct output_piece){
		.bytes = (uint8_t *)(piece + 1),
		.len = len,
		.held = sizeof(*piece) + len,
		.release = restored_release,
	};
	output_add(&conn->output, piece);
	return 0;
}

/* It was accepted elsewhere, by another clock: of one that seems to be of the future nothing has passed. */
static uint64_t young_left_ms(uint64_t since_ns)
{
	uint64_t now_ns = clock_wall_ns(), age_ms = now_ns > since_ns ? (now_ns - since_ns) / 1000000 : 0;

	return age_ms < CONN_YOUNG_MS ? CONN_YOUNG_MS - age_ms : 0;
}

int conn_import(struct conn_server *server, int fd, const struct flow_key *flow,
		const struct kernel_helper_static *fixed, const struct conn_state *state, enum conn_part_served served,
		struct conn **out)
{
	struct conn *conn;

	if (conn_find(server, state->facts.session))
		return -EEXIST;
	conn = conn_new(least_part(server), fd);
	if (!conn)
		return -ENOMEM;
	conn->flow = *flow;
	conn->fixed = *fixed;
	conn->facts = state->facts;
	conn->young_until_ms = clock_monotonic_ms() + young_left_ms(state->facts.since_ns);
	conn->restored_len = state->sent_len;
	conn->served = served;
	conn->movable = true;
	flow_to_sockets(flow, &conn->client, &conn->local);
	if (record_append(&conn->input, state->input, state->input_len) < 0 ||
	    conn_queue_restored(conn, state->output, state->output_len) < 0) {
		conn_free(conn);
		return -ENOMEM;
	}
	keep_alive(fd);
	part_enter(conn->part);
	conn_join(conn);
	event_active(conn->on_kick, 0, 0);
	*out = conn;
	return 0;
}
