/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, there is an order of events after which a client reads wrong bytes, a request runs twice, two devices
 * speak in one connection, or a device keeps something of a session for ever.
 *
 * Devices, a switch and clients in one process, with simulated time. Real: common/handoff.c, common/tch.c,
 * common/tch_options.c. Simulated, by the functions of the same names below: the kernel (common/kernel_helper.h), connections
 * (common/conn.h), timers and the clock. Packets and messages are delayed, in order on each link only (what puts packets in order is left out: see tests/model); sessions
 * between devices break, daemons die and start again; handoffs begin at any time, to anybody.
 *
 * A run is repeated by its seed: SEED in the environment. SIMULATION_SECONDS (default 3) says how long to go on.
 */
#include "config.h"

#include "common/handoff.h"
#include "common/log.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

enum {
	DEVICES = 4,
	SWITCH = DEVICES, /* as an end of a link */
	CONNECTIONS = 3,
	RECORD = 8, /* bytes of a request, and of its reply */
	RECORDS_MAX = 60,
	SEND_BUFFER = 24,
	SEGMENT_MAX = 20,
	PARKED_MAX = 512,
	FD_BASE = 1000,
	TICK_US = 300000,    /* what is not acknowledged is sent again */
	RUN_US = 20000000,   /* so long things happen */
	SETTLE_US = 200000000, /* then all has to come to an end */
	INHERITED_US = 60000000,
};

static unsigned long long seed, dice;
static uint64_t now_us;

#define CHECK(what)                                                                                              \
	do {                                                                                                     \
		if (!(what)) {                                                                                   \
			fprintf(stderr, "SEED=%llu, at %.6f s: %s:%d: not true: %s\n", seed, (double)now_us / 1e6, \
				__FILE__, __LINE__, #what);                                                      \
			abort();                                                                                 \
		}                                                                                                \
	} while (0)

static unsigned int draw(unsigned int below)
{
	dice = dice * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(dice >> 33) % below;
}

static bool chance(unsigned int percent) { return draw(100) < percent; }

/* What will happen */

struct action {
	TAILQ_ENTRY(action) link;
	uint64_t due_us;
	void (*run)(struct action *action);
	int device, from, connection;
	unsigned int generation; /* of the session, or of the connection on the device, that it belongs to */
	uint32_t sequence, acknowledgment, node;
	uint16_t transaction;
	size_t len;
	struct tch_message message;
	uint8_t bytes[]; /* of a packet to the client, or what the message points to */
};

static TAILQ_HEAD(action_list, action) actions = TAILQ_HEAD_INITIALIZER(actions);

static struct action *action_new(void (*run)(struct action *), size_t len)
{
	struct action *action = calloc(1, sizeof(*action) + len);

	CHECK(action);
	action->run = run;
	action->len = len;
	return action;
}

static void action_at(struct action *action, uint64_t due_us)
{
	struct action *after;

	action->due_us = due_us;
	TAILQ_FOREACH_REVERSE(after, &actions, action_list, link)
		if (after->due_us <= due_us)
			break;
	if (after)
		TAILQ_INSERT_AFTER(&actions, after, action, link);
	else
		TAILQ_INSERT_HEAD(&actions, action, link);
}

/* The cluster */

struct packet {
	uint32_t sequence, acknowledgment;
	size_t len; /* the bytes follow from their place in the stream */
};

enum entry_state { NONE, HOLD, RELAY };

struct entry {
	enum entry_state state;
	bool inherited;
	int way; /* RELAY: the new owner */
	struct packet parked[PARKED_MAX];
	size_t parked_count;
};

enum phase { NO_CONN, SERVING, QUIESCING, QUIET };

/* A connection on a device: the kernel's part and the daemon's. */
struct conn {
	bool is_live, is_frozen;
	uint32_t receive_next, send_unacknowledged;
	uint8_t received[RECORDS_MAX * RECORD], sent[SEND_BUFFER];
	size_t received_len, sent_len;

	enum phase phase;
	bool in_call;
	unsigned int generation;
	int fd;
	struct conn_facts facts;
	struct flow_key flow;
	struct kernel_helper_static fixed;
	uint8_t input[RECORDS_MAX * RECORD], output[RECORDS_MAX * RECORD];
	size_t input_len, output_len;
	void (*on_quiet)(struct conn *conn, void *arg);
	void *on_quiet_arg;
};

static struct device {
	struct handoffs *handoffs;
	bool is_dead;
	struct conn conns[CONNECTIONS];
	struct entry entries[CONNECTIONS];
} devices[DEVICES];

static struct client {
	bool is_reset;
	uint32_t acknowledged, next, total; /* of what it sends */
	uint32_t received;
	uint64_t executed;
	int owner; /* that the switch knows */
	uint16_t transaction;
} clients[CONNECTIONS];

/* Sessions, also with the switch: what was sent before the last break is lost. */
static unsigned int session_generation[DEVICES + 1][DEVICES + 1];
static bool has_broken[DEVICES + 1][DEVICES + 1]; /* [a][b]: a has still to hear of it */
static uint64_t packet_due_us[DEVICES + 1][DEVICES + 1], said_due_us[DEVICES + 1][DEVICES + 1];

static unsigned int delay_max_us, fault_percent, call_max_us;
static unsigned int events_alive;
static bool has_crashed;
static bool is_switch_deaf;
static unsigned int unheard;
static struct { unsigned long runs, given, taken, failed, reset, crashes, breaks, resets; } sums;

static uint8_t request_byte(int connection, uint32_t at) { return (uint8_t)(at * 31 + (at >> 8) + (uint32_t)connection); }
static uint8_t reply_byte(int connection, uint32_t at) { return (uint8_t)(at * 17 + (at >> 7) + 100 + (uint32_t)connection); }
static int device_index(const struct device *device) { return (int)(device - devices); }
static uint32_t node_of(int device) { return (uint32_t)device + 1; }
static int device_of(uint32_t node) { return (int)node - 1; }
static int connection_of(const struct flow_key *flow) { return flow->client_port; }
static struct device *device_of_helper(struct kernel_helper *helper) { return (struct device *)helper; }
static struct device *device_of_conns(struct conn_server *server) { return (struct device *)server; }

static uint64_t later(uint64_t *due_us, uint64_t at_least_us)
{
	uint64_t at_us = now_us + 10 + draw(delay_max_us);

	if (at_us < at_least_us)
		at_us = at_least_us;
	if (at_us < *due_us)
		at_us = *due_us;
	return *due_us = at_us;
}

/* Packets */

static void conn_work(struct device *device, struct conn *conn);

static void reset_client(int connection)
{
	sums.resets += !clients[connection].is_reset;
	clients[connection].is_reset = true;
}

static void to_stack(struct device *device, int connection, const struct packet *packet)
{
	struct conn *conn = &device->conns[connection];

	if (!conn->is_live) {
		CHECK(!conn->is_frozen);
		reset_client(connection);
		return;
	}
	while (conn->send_unacknowledged < packet->acknowledgment && conn->sent_len) {
		memmove(conn->sent, conn->sent + 1, --conn->sent_len);
		conn->send_unacknowledged++;
	}
	for (uint32_t at = packet->sequence; at < packet->sequence + packet->len; at++)
		if (at == conn->receive_next && conn->received_len < sizeof(conn->received)) {
			conn->received[conn->received_len++] = request_byte(connection, at);
			conn->receive_next++;
		}
	conn_work(device, conn);
}

static void node_ingress(struct action *action);

static void packet_send(int from, int to, int connection, const struct packet *packet)
{
	struct action *action = action_new(node_ingress, 0);

	action->device = to;
	action->from = from;
	action->connection = connection;
	action->sequence = packet->sequence;
	action->acknowledgment = packet->acknowledgment;
	action->len = packet->len;
	action_at(action, later(&packet_due_us[from][to], 0));
}

static void node_ingress(struct action *action)
{
	struct device *device = &devices[action->device];
	struct entry *entry = &device->entries[action->connection];
	struct packet packet = { action->sequence, action->acknowledgment, action->len };

	if (entry->state == HOLD) {
		if (entry->parked_count < PARKED_MAX)
			entry->parked[entry->parked_count++] = packet;
	} else if (entry->state == RELAY) {
		packet_send(action->device, entry->way, action->connection, &packet);
	} else {
		to_stack(device, action->connection, &packet);
	}
}

static void client_receive(struct action *action);

static bool is_muted(const struct device *device, int connection)
{
	enum entry_state state = device->entries[connection].state;

	return state == HOLD || state == RELAY;
}

static void conn_send(struct device *device, struct conn *conn, size_t from)
{
	int connection = (int)(conn - device->conns);
	struct action *action;

	if (!conn->is_live || is_muted(device, connection))
		return;
	action = action_new(client_receive, conn->sent_len - from);
	action->connection = connection;
	action->device = device_index(device);
	action->sequence = conn->send_unacknowledged + (uint32_t)from;
	action->acknowledgment = conn->receive_next;
	memcpy(action->bytes, conn->sent + from, action->len);
	action_at(action, now_us + 10 + draw(delay_max_us));
}

/* Clients */

static void client_send(int connection)
{
	struct client *client = &clients[connection];
	struct packet packet = { client->next, client->received, 0 };

	if (client->is_reset)
		return;
	packet.len = draw(SEGMENT_MAX);
	if (packet.len > client->total - client->next)
		packet.len = client->total - client->next;
	client->next += (uint32_t)packet.len;
	packet_send(SWITCH, client->owner, connection, &packet);
}

static void client_receive(struct action *action)
{
	struct client *client = &clients[action->connection];

	if (client->is_reset) {
		/* The answer is RST, which the switch sends to whom it holds for the owner. */
		conn_close(&devices[action->device].conns[action->connection], false);
		return;
	}
	CHECK(action->acknowledgment <= client->next);
	if (action->acknowledgment > client->acknowledged)
		client->acknowledged = action->acknowledgment;
	for (size_t i = 0; i < action->len; i++) {
		CHECK(action->bytes[i] == reply_byte(action->connection, action->sequence + (uint32_t)i));
		client->received += action->sequence + i == client->received;
	}
	if (client->next < client->total || action->len)
		client_send(action->connection);
}

/* What stays unacknowledged or unanswered is sent again. */
static void tick(struct action *action)
{
	struct client *client = &clients[action->connection];
	struct action *next = action_new(tick, 0);

	if (client->next == client->acknowledged && client->next < client->total)
		client_send(action->connection);
	else if (!client->is_reset && client->received < client->total) /* or to see whether anybody is there */
		packet_send(SWITCH, client->owner, action->connection,
			    &(struct packet){ client->acknowledged, client->received, client->next - client->acknowledged });
	for (int i = 0; i < DEVICES; i++)
		if (devices[i].conns[action->connection].sent_len)
			conn_send(&devices[i], &devices[i].conns[action->connection], 0);
	next->connection = action->connection;
	action_at(next, now_us + TICK_US);
}

/* The kernel helper */

static void let_go(struct device *device, int connection, enum entry_state state, int way)
{
	struct entry *entry = &device->entries[connection];
	size_t count = entry->parked_count;
	struct packet parked[PARKED_MAX];

	memcpy(parked, entry->parked, count * sizeof(*parked));
	*entry = (struct entry){ .state = state, .way = way };
	for (size_t i = 0; i < count; i++) {
		if (state == RELAY)
			packet_send(device_index(device), way, connection, &parked[i]);
		else
			to_stack(device, connection, &parked[i]);
	}
}

bool kernel_helper_is_settled(struct kernel_helper *helper, int fd, const struct flow_key *flow, size_t restored_len)
{
	(void)helper, (void)fd, (void)flow, (void)restored_len;
	return chance(90);
}

int kernel_helper_hold(struct kernel_helper *helper, const struct flow_key *flow)
{
	struct entry *entry = &device_of_helper(helper)->entries[connection_of(flow)];

	if (chance(2))
		return -ENOMEM;
	*entry = (struct entry){ .state = HOLD };
	return 0;
}

static uint8_t *copy(const uint8_t *bytes, size_t len)
{
	uint8_t *own = malloc(len + 1);

	CHECK(own);
	memcpy(own, bytes, len);
	return own;
}

int kernel_helper_freeze(struct kernel_helper *helper, int fd, const struct flow_key *flow,
			 const struct kernel_helper_static *fixed, struct kernel_helper_state *out)
{
	struct conn *conn = &device_of_helper(helper)->conns[fd - FD_BASE];
	size_t sent_len = conn->sent_len ? draw((unsigned int)conn->sent_len + 1) : 0;

	CHECK(conn->is_live);
	conn->is_live = false;
	conn->is_frozen = true;
	if (chance(5))
		return -EAGAIN;
	*out = (struct kernel_helper_state){
		.flow = *flow,
		.fixed = *fixed,
		.send_unacknowledged = conn->send_unacknowledged,
		.receive_next = conn->receive_next,
		.sent = copy(conn->sent, sent_len),
		.sent_len = sent_len,
		.unsent = copy(conn->sent + sent_len, conn->sent_len - sent_len),
		.unsent_len = conn->sent_len - sent_len,
		.received = copy(conn->received, conn->received_len),
		.received_len = conn->received_len,
	};
	return 0;
}

void kernel_helper_state_fini(struct kernel_helper_state *state)
{
	free(state->sent);
	free(state->unsent);
	free(state->received);
}

void kernel_helper_release(struct kernel_helper *helper, int fd, const struct flow_key *flow)
{
	struct device *device = device_of_helper(helper);
	struct conn *conn = &device->conns[fd - FD_BASE];

	if (device->is_dead)
		return;
	conn->is_live = true;
	conn->is_frozen = false;
	let_go(device, connection_of(flow), NONE, 0);
}

int kernel_helper_relay(struct kernel_helper *helper, const struct flow_key *flow, const uint8_t to_mac[static 6],
			unsigned int ifindex)
{
	(void)ifindex;
	let_go(device_of_helper(helper), connection_of(flow), RELAY, to_mac[0]);
	return 0;
}

void kernel_helper_silence(struct kernel_helper *helper, int fd)
{
	memset(&device_of_helper(helper)->conns[fd - FD_BASE].is_live, 0, 2 * sizeof(bool));
}

void kernel_helper_reset(struct kernel_helper *helper, int fd, const struct flow_key *flow)
{
	kernel_helper_forget(helper, flow);
	kernel_helper_silence(helper, fd);
	reset_client(connection_of(flow));
}

void kernel_helper_forget(struct kernel_helper *helper, const struct flow_key *flow)
{
	if (!device_of_helper(helper)->is_dead)
		device_of_helper(helper)->entries[connection_of(flow)] = (struct entry){ .state = NONE };
}

int kernel_helper_restore(struct kernel_helper *helper, const struct kernel_helper_state *state, int *fd)
{
	struct device *device = device_of_helper(helper);
	int connection = connection_of(&state->flow);
	struct conn *conn = &device->conns[connection];

	if (chance(5))
		return -EADDRNOTAVAIL;
	CHECK(!conn->is_live && !conn->is_frozen);
	conn->is_live = true;
	conn->receive_next = state->receive_next;
	conn->received_len = 0;
	conn->send_unacknowledged = state->send_unacknowledged;
	memcpy(conn->sent, state->sent, state->sent_len);
	conn->sent_len = state->sent_len;
	device->entries[connection] = (struct entry){ .state = NONE };
	*fd = FD_BASE + connection;
	return 0;
}

void kernel_helper_acknowledge(struct kernel_helper *helper, const struct kernel_helper_state *state)
{
	struct device *device = device_of_helper(helper);

	conn_send(device, &device->conns[connection_of(&state->flow)], device->conns[connection_of(&state->flow)].sent_len);
}

/* Connections */

static void conn_flush(struct device *device, struct conn *conn)
{
	size_t had = conn->sent_len, len = SEND_BUFFER - had;

	if (len > conn->output_len)
		len = conn->output_len;
	memcpy(conn->sent + had, conn->output, len);
	conn->sent_len += len;
	memmove(conn->output, conn->output + len, conn->output_len -= len);
	conn_send(device, conn, had);
}

static void call_done(struct action *action)
{
	struct device *device = &devices[action->device];
	struct conn *conn = &device->conns[action->connection];
	uint32_t at = (uint32_t)conn->facts.requests * RECORD;

	if (conn->phase == NO_CONN || conn->generation != action->generation)
		return;
	conn->in_call = false;
	conn->facts.requests++;
	CHECK(conn->output_len + RECORD <= sizeof(conn->output));
	for (uint32_t i = 0; i < RECORD; i++)
		conn->output[conn->output_len++] = reply_byte(action->connection, at + i);
	if (conn->phase == QUIESCING) {
		conn->phase = QUIET;
		conn->on_quiet(conn, conn->on_quiet_arg);
	} else {
		conn_work(device, conn);
	}
}

/* The request runs now; its answer comes later. */
static void call_begin(struct device *device, struct conn *conn)
{
	int connection = (int)(conn - device->conns);
	struct action *action = action_new(call_done, 0);

	CHECK(conn->facts.requests == clients[connection].executed);
	for (uint32_t i = 0; i < RECORD; i++)
		CHECK(conn->input[i] == request_byte(connection, (uint32_t)conn->facts.requests * RECORD + i));
	clients[connection].executed++;
	memmove(conn->input, conn->input + RECORD, conn->input_len -= RECORD);
	conn->in_call = true;
	action->device = device_index(device);
	action->connection = connection;
	action->generation = conn->generation;
	action_at(action, now_us + draw(chance(90) ? 1000 : call_max_us));
}

static void conn_work(struct device *device, struct conn *conn)
{
	if (conn->phase != SERVING || !conn->is_live)
		return;
	conn_flush(device, conn);
	if (conn->in_call)
		return;
	memcpy(conn->input + conn->input_len, conn->received, conn->received_len);
	conn->input_len += conn->received_len;
	conn->received_len = 0;
	if (conn->input_len >= RECORD)
		call_begin(device, conn);
}

static struct device *device_with(struct conn *conn)
{
	for (int i = 0; i < DEVICES; i++)
		if (conn >= devices[i].conns && conn < devices[i].conns + CONNECTIONS)
			return &devices[i];
	abort();
}

static void conn_begin(struct device *device, int connection, const struct conn_facts *facts)
{
	struct conn *conn = &device->conns[connection];

	conn->phase = SERVING;
	conn->in_call = false;
	conn->generation++;
	conn->fd = FD_BASE + connection;
	conn->facts = *facts;
	conn->flow = (struct flow_key){ .client_port = (uint16_t)connection, .vip_port = 8, .protocol = 6 };
	/* Addresses of one family, or the options are refused. */
	memset(conn->flow.client + 10, 0xff, 2);
	memset(conn->flow.vip + 10, 0xff, 2);
	conn->input_len = conn->output_len = 0;
}

static void conn_work_later(struct action *action)
{
	conn_work(&devices[action->device], &devices[action->device].conns[action->connection]);
}

static void conn_kick(struct conn *conn)
{
	struct action *action = action_new(conn_work_later, 0);

	action->device = device_index(device_with(conn));
	action->connection = (int)(conn - devices[action->device].conns);
	action_at(action, now_us);
}

struct conn *conn_find(struct conn_server *server, uint64_t session)
{
	struct device *device = device_of_conns(server);

	return device->conns[session].phase != NO_CONN ? &device->conns[session] : NULL;
}

struct conn *conn_find_flow(struct conn_server *server, const struct flow_key *flow)
{
	return conn_find(server, (uint64_t)connection_of(flow));
}

struct conn_facts *conn_facts(struct conn *conn) { return &conn->facts; }
const struct flow_key *conn_flow(const struct conn *conn) { return &conn->flow; }
const struct kernel_helper_static *conn_fixed(const struct conn *conn) { return &conn->fixed; }
bool conn_is_movable(const struct conn *conn) { return conn->phase != NO_CONN; }
int conn_fd(const struct conn *conn) { return conn->fd; }
size_t conn_restored_len(const struct conn *conn) { (void)conn; return 0; }

int conn_quiesce(struct conn *conn, void (*on_quiet)(struct conn *conn, void *arg), void *arg)
{
	if (conn->phase != SERVING)
		return -EALREADY;
	conn->phase = conn->in_call ? QUIESCING : QUIET;
	conn->on_quiet = on_quiet;
	conn->on_quiet_arg = arg;
	return conn->in_call ? -EINPROGRESS : 0;
}

void conn_resume(struct conn *conn)
{
	conn->phase = SERVING;
	conn_kick(conn);
}

int conn_export(struct conn *conn, struct conn_state *out)
{
	CHECK(conn->phase == QUIET && !conn->in_call);
	*out = (struct conn_state){
		.facts = conn->facts,
		.input = copy(conn->input, conn->input_len),
		.input_len = conn->input_len,
		.output = copy(conn->output, conn->output_len),
		.output_len = conn->output_len,
	};
	return 0;
}

void conn_state_fini(struct conn_state *state)
{
	free(state->input);
	free(state->output);
}

int conn_surrender(struct conn *conn)
{
	CHECK(conn->is_frozen);
	conn->phase = NO_CONN;
	return conn->fd;
}

int conn_import(struct conn_server *server, int fd, const struct flow_key *flow, const struct kernel_helper_static *fixed,
		const struct conn_state *state, struct conn **out)
{
	struct device *device = device_of_conns(server);
	struct conn *conn = &device->conns[fd - FD_BASE];

	(void)flow, (void)fixed;
	CHECK(conn->phase == NO_CONN);
	conn_begin(device, fd - FD_BASE, &state->facts);
	memcpy(conn->input, state->input, conn->input_len = state->input_len);
	memcpy(conn->output, state->output, conn->output_len = state->output_len);
	conn_kick(conn);
	*out = conn;
	return 0;
}

void conn_close(struct conn *conn, bool reset)
{
	struct device *device = device_with(conn);
	int connection = (int)(conn - device->conns);

	if (conn->phase == NO_CONN)
		return;
	if (reset && conn->is_live)
		reset_client(connection);
	handoffs_conn_closed(device->handoffs, (uint64_t)connection);
	conn->phase = NO_CONN;
	conn->is_live = conn->is_frozen = false;
	conn->sent_len = 0;
}

/* Timers and the clock */

struct event {
	struct action *action; /* NULL: not armed */
	event_callback_fn on_timer;
	void *arg;
};


static void event_run(struct action *action)
{
	struct event *event = *(struct event **)action->bytes;

	event->action = NULL;
	event->on_timer(-1, EV_TIMEOUT, event->arg);
}

struct event *event_new(struct event_base *base, evutil_socket_t fd, short what, event_callback_fn on_timer, void *arg)
{
	struct event *event = calloc(1, sizeof(*event));

	(void)base, (void)fd, (void)what;
	CHECK(event);
	*event = (struct event){ .on_timer = on_timer, .arg = arg };
	events_alive++;
	return event;
}

int event_del(struct event *event)
{
	if (event->action) {
		TAILQ_REMOVE(&actions, event->action, link);
		free(event->action);
	}
	event->action = NULL;
	return 0;
}

int event_add(struct event *event, const struct timeval *timeout)
{
	event_del(event);
	event->action = action_new(event_run, sizeof(event));
	memcpy(event->action->bytes, &event, sizeof(event));
	action_at(event->action, now_us + (uint64_t)timeout->tv_sec * 1000000 + (uint64_t)timeout->tv_usec);
	return 0;
}

void event_free(struct event *event)
{
	event_del(event);
	free(event);
	events_alive--;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	(void)clock;
	*now = (struct timespec){ .tv_sec = (time_t)(now_us / 1000000), .tv_nsec = (long)(now_us % 1000000) * 1000 };
	return 0;
}

/* What devices and the switch say */

static bool is_heard(const struct action *action)
{
	return action->generation == session_generation[action->from][action->device];
}

static void say(struct action *action, int from, int to, void (*run)(struct action *))
{
	action->run = run;
	action->from = from;
	action->device = to;
	action->generation = session_generation[from][to];
	if (has_broken[from][to] || has_broken[to][from])
		action->generation--;
	action_at(action, later(&said_due_us[from][to], packet_due_us[from][to]));
}

static void tch_receive(struct action *action)
{
	struct tch_message *message = &action->message;

	message->options = action->bytes;
	message->sent = message->options + message->options_len;
	message->unsent = message->sent + message->sent_len;
	message->received = message->unsent + message->unsent_len;
	if (is_heard(action))
		handoffs_received(devices[action->device].handoffs, node_of(action->from), message);
}

static uint8_t *append(uint8_t *at, const uint8_t *bytes, size_t len)
{
	if (len)
		memcpy(at, bytes, len);
	return at + len;
}

static int tch_send(uint32_t node, const struct tch_message *message, void *arg)
{
	int from = device_index(arg), to = device_of(node);
	struct action *action;
	uint8_t *at;

	if (devices[from].is_dead || (has_broken[to][from] && !has_broken[from][to]))
		return -ENOTCONN;
	action = action_new(NULL, message->options_len + message->sent_len + message->unsent_len + message->received_len);
	action->message = *message;
	at = action->bytes;
	at = append(at, message->options, message->options_len);
	at = append(at, message->sent, message->sent_len);
	at = append(at, message->unsent, message->unsent_len);
	append(at, message->received, message->received_len);
	say(action, from, to, tch_receive);
	return 0;
}

static int find_node(uint32_t node, uint8_t mac[static 6], unsigned int *ifindex, void *arg)
{
	(void)arg;
	memset(mac, 0, 6);
	mac[0] = (uint8_t)device_of(node);
	*ifindex = 1;
	return 0;
}

static struct action *question(int connection, uint32_t node, uint16_t transaction)
{
	struct action *action = action_new(NULL, 0);

	action->connection = connection;
	action->node = node;
	action->transaction = transaction;
	return action;
}

static void device_answered(struct action *action)
{
	struct device *device = &devices[action->device];

	if (is_heard(action))
		handoffs_confirmed(device->handoffs, &device->conns[action->connection].flow, action->node,
				   action->transaction);
}

/* As sessions_moved() in master/sessions.c. */
static void switch_asked(struct action *action)
{
	struct client *client = &clients[action->connection];

	if (!is_heard(action))
		return;
	if ((int16_t)(action->transaction - client->transaction) >= 0) {
		client->transaction = action->transaction;
		client->owner = device_of(action->node);
	}
	say(question(action->connection, action->node, action->transaction), SWITCH, action->from, device_answered);
}

static void change_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	if (is_switch_deaf)
		unheard++;
	else
		say(question(connection_of(flow), node, transaction), device_index(arg), SWITCH, switch_asked);
}

static const struct handoff_functions functions = { .send = tch_send, .find_node = find_node, .change_owner = change_owner };

/* Mischief */

static void hear_of_loss(struct action *action)
{
	if (!has_broken[action->device][action->from])
		return;
	has_broken[action->device][action->from] = false;
	if (action->device != SWITCH && action->from != SWITCH)
		handoffs_node_lost(devices[action->device].handoffs, node_of(action->from));
}

static void break_one_way(int from, int to, uint64_t hear_us)
{
	struct action *action = action_new(hear_of_loss, 0);

	session_generation[from][to]++;
	has_broken[to][from] = true;
	action->device = to;
	action->from = from;
	action_at(action, hear_us);
}

static void break_session(int a, int b)
{
	sums.breaks++;
	break_one_way(a, b, now_us + draw(3000000));
	break_one_way(b, a, now_us + draw(3000000));
}

static void forget_inherited(struct action *action)
{
	struct entry *entry = &devices[action->device].entries[action->connection];

	if (entry->inherited && entry->state == RELAY)
		*entry = (struct entry){ .state = NONE };
}

static void start_daemon(struct device *device)
{
	const struct handoffs_options options = {
		.base = (struct event_base *)device,
		.self = node_of(device_index(device)),
		.helper = (struct kernel_helper *)device,
		.conns = (struct conn_server *)device,
		.functions = &functions,
		.arg = device,
	};

	device->is_dead = false;
	device->handoffs = handoffs_new(&options);
	CHECK(device->handoffs);
}

static void note_counters(const struct device *device)
{
	const struct handoff_counters *counters = handoffs_counters(device->handoffs);

	sums.given += counters->given;
	sums.taken += counters->taken;
	sums.failed += counters->failed;
	sums.reset += counters->reset;
}

static void lose_connection(struct device *device, int connection)
{
	struct conn *conn = &device->conns[connection];
	struct entry *entry = &device->entries[connection];
	struct action *action;

	if (conn->is_live)
		reset_client(connection);
	conn->is_live = conn->is_frozen = false;
	conn->phase = NO_CONN;
	conn->sent_len = 0;
	if (entry->state != RELAY) {
		*entry = (struct entry){ .state = NONE };
		return;
	}
	entry->inherited = true;
	action = action_new(forget_inherited, 0);
	action->device = device_index(device);
	action->connection = connection;
	action_at(action, now_us + INHERITED_US);
}

static void crash(struct device *device)
{
	sums.crashes++;
	has_crashed = true;
	device->is_dead = true;
	note_counters(device);
	handoffs_free(device->handoffs);
	for (int connection = 0; connection < CONNECTIONS; connection++) {
		CHECK(device->conns[connection].phase != QUIESCING); /* or it would tell who is not there any more */
		lose_connection(device, connection);
	}
	start_daemon(device);
	for (int i = 0; i <= DEVICES; i++)
		if (i != device_index(device)) {
			break_session(device_index(device), i);
			has_broken[device_index(device)][i] = false;
		}
}

static void mischief(struct action *action)
{
	struct device *device = &devices[draw(DEVICES)];
	int connection = (int)draw(CONNECTIONS), other = (int)draw(DEVICES);

	(void)action;
	if (now_us > RUN_US)
		return;
	for (int i = 0; i < DEVICES; i++)
		if (devices[i].conns[connection].phase != NO_CONN && other != i && chance(60))
			handoff_start(devices[i].handoffs, (uint64_t)connection, node_of(other), NULL, NULL);
	if (chance(fault_percent))
		crash(device);
	if (chance(fault_percent) && device_index(device) != other)
		break_session(device_index(device), chance(30) ? SWITCH : other);
	action_at(action_new(mischief, 0), now_us + draw(200000));
}

/* A run */

static void begin_run(void)
{
	dice = seed;
	draw(1);
	now_us = 1000000;
	has_crashed = false;
	delay_max_us = chance(60) ? 1 + draw(1000) : 1 + draw(1500000);
	call_max_us = chance(60) ? 1 + draw(1000) : 1 + draw(3000000);
	fault_percent = chance(50) ? draw(20) : 0;
	memset(devices, 0, sizeof(devices));
	memset(clients, 0, sizeof(clients));
	memset(has_broken, 0, sizeof(has_broken));
	memset(packet_due_us, 0, sizeof(packet_due_us));
	memset(said_due_us, 0, sizeof(said_due_us));
	for (int i = 0; i < DEVICES; i++)
		start_daemon(&devices[i]);
	for (int connection = 0; connection < CONNECTIONS; connection++) {
		struct action *action = action_new(tick, 0);

		for (int i = 0; i < DEVICES; i++) { /* so that each knows its name */
			conn_begin(&devices[i], connection, &(struct conn_facts){ .session = (uint64_t)connection });
			devices[i].conns[connection].phase = NO_CONN;
		}
		clients[connection].total = RECORD * (1 + draw(RECORDS_MAX));
		clients[connection].owner = (int)draw(DEVICES);
		devices[clients[connection].owner].conns[connection].phase = SERVING;
		devices[clients[connection].owner].conns[connection].is_live = true;
		action->connection = connection;
		action_at(action, now_us);
	}
}

static void check_step(void)
{
	for (int connection = 0; connection < CONNECTIONS; connection++) {
		int speakers = 0;

		for (int i = 0; i < DEVICES; i++)
			speakers += devices[i].conns[connection].is_live;
		CHECK(speakers <= 1);
	}
}

static void check_connection(int connection)
{
	const struct client *client = &clients[connection];

	for (int i = 0; i < DEVICES; i++) {
		CHECK(devices[i].entries[connection].state == NONE && !devices[i].entries[connection].parked_count);
		CHECK(!devices[i].conns[connection].is_frozen);
		if (client->is_reset) /* TCP's keepalive ends what has nobody to talk to */
			conn_close(&devices[i].conns[connection], false);
		/* Who dies does not tell the switch any more; then the connection ends with the client's next packet. */
		CHECK(has_crashed || devices[i].conns[connection].is_live == (!client->is_reset && client->owner == i));
		CHECK(devices[i].conns[connection].is_live == (devices[i].conns[connection].phase == SERVING));
	}
	if (client->is_reset)
		return;
	CHECK(client->acknowledged == client->total && client->received == client->total);
	CHECK(client->executed == client->total / RECORD);
}

static void end_run(void)
{
	struct action *action;

	for (int i = 0; i < DEVICES; i++) {
		note_counters(&devices[i]);
		handoffs_free(devices[i].handoffs);
	}
	CHECK(events_alive == 0);
	while ((action = TAILQ_FIRST(&actions))) {
		TAILQ_REMOVE(&actions, action, link);
		free(action);
	}
	sums.runs++;
}

static void go_on_until(uint64_t end_us)
{
	struct action *action;

	while (now_us < end_us) {
		action = TAILQ_FIRST(&actions);
		TAILQ_REMOVE(&actions, action, link);
		CHECK(action->due_us >= now_us);
		now_us = action->due_us;
		action->run(action);
		free(action);
		check_step();
	}
}

static void run(void)
{
	begin_run();
	action_at(action_new(mischief, 0), now_us);
	go_on_until(RUN_US + SETTLE_US);
	for (int connection = 0; connection < CONNECTIONS; connection++)
		check_connection(connection);
	/* Each handoff in progress and each relayed flow has a timer. */
	CHECK(events_alive == 0);
	end_run();
}

/* The client crashes and comes by the same port, before the switch has heard that its old session was given away. */
static void run_with_return(void)
{
	struct device *first, *second;

	begin_run();
	is_switch_deaf = true;
	first = &devices[clients[0].owner];
	second = first == devices ? first + 1 : devices;
	while (!handoffs_counters(first->handoffs)->given && first->conns[0].phase != NO_CONN) {
		handoff_start(first->handoffs, 0, node_of(device_index(second)), NULL, NULL);
		go_on_until(now_us + 10000);
	}
	unheard = 0;
	go_on_until(now_us + 10 * 1000 * HANDOFF_ASK_MS);
	CHECK(unheard >= 9 || !handoffs_counters(first->handoffs)->given);
	conn_close(&second->conns[0], false);
	first->entries[0] = (struct entry){ .state = NONE };
	conn_begin(first, 0, &(struct conn_facts){ .session = 0 });
	unheard = 0;
	go_on_until(now_us + 10 * 1000 * HANDOFF_ASK_MS);
	CHECK(unheard == 0);
	is_switch_deaf = false;
	end_run();
}

int main(void)
{
	const char *given = getenv("SEED"), *seconds = getenv("SIMULATION_SECONDS");
	time_t end = time(NULL) + (seconds ? atoi(seconds) : 3);

	seed = given ? strtoull(given, NULL, 10) : (unsigned long long)time(NULL) * 1000000;
	log_open(given ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERR);
	printf("SEED=%llu\n", seed);
	do {
		run_with_return();
		run();
		seed++;
	} while (!given && time(NULL) < end);
	printf("%lu runs: %lu given, %lu taken, %lu failed, %lu reset; %lu breaks, %lu crashes; %lu clients reset\n", sums.runs,
	       sums.given, sums.taken, sums.failed, sums.reset, sums.breaks, sums.crashes, sums.resets);
	return EXIT_SUCCESS;
}
