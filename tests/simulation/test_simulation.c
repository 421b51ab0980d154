/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, there is an order of events after which a client reads wrong bytes, a request runs twice, two devices
 * speak in one connection, or a device keeps something of a session for ever.
 *
 * Devices, a switch and clients in one process, with simulated time. Real: common/tch.c, common/tch_machine.c,
 * common/tch_options.c, common/conn_moves.c. Simulated, by the functions of the same names below: the kernel (common/kernel_helper.h), connections
 * (common/conn.h), timers and the clock. Packets and messages are delayed, in order on each link only (what puts packets in order is left out: see tests/model); sessions
 * between devices break, daemons die and start again; handoffs of all kinds and predictions begin at any time, to anybody.
 *
 * A run is repeated by its seed: SEED in the environment. SIMULATION_SECONDS (default 3) says how long to go on.
 */
#include "config.h"

#include "common/conn.h"
#include "common/conn_moves.h"
#include "common/log.h"
#include "common/tch_machine.h"
#include "common/tch_options.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
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
	FD_PREPARED = 5000,  /* from here on */
	DRAIN_LOOKS_MAX = 200,
	ALL_FLAGS = TCH_FLAG_HND | TCH_FLAG_SET | TCH_FLAG_END,
	CONGESTION_WINDOW = 20,
	COPY_LOST_PERCENT = 5, /* of what devices that share a connection send to each other */
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
	bool is_exchange;
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
	bool is_exchange; /* what the device that receives says to the one that sends */
};

enum entry_state { NONE, HOLD, RELAY, HALF };

/* As struct node_flow in common/node_map.h. */
struct entry {
	enum entry_state state;
	bool inherited;
	int way; /* RELAY: the new owner; HALF: the other device */
	enum kernel_helper_part part; /* HALF: and so to the end */
	bool copies;
	uint32_t own_acknowledged, peer_acknowledged, said_acknowledged;
	struct packet parked[PARKED_MAX];
	size_t parked_count;
};

enum phase { NO_CONN, SERVING, QUIESCING, QUIET, DRAINING, DISCARDING };

/* A connection on a device: the kernel's part and the daemon's. */
struct conn {
	bool is_live, is_frozen;
	uint32_t receive_next, send_unacknowledged;
	uint8_t received[RECORDS_MAX * RECORD], sent[SEND_BUFFER];
	size_t received_len, sent_len;

	enum phase phase;
	enum conn_part_served served;
	bool in_call;
	unsigned int generation, looks; /* whether it is drained */
	int fd;
	struct conn_facts facts;
	struct flow_key flow;
	struct kernel_helper_static fixed;
	uint8_t input[RECORDS_MAX * RECORD], output[RECORDS_MAX * RECORD];
	size_t input_len, output_len;
	void (*on_quiet)(struct conn *conn, void *arg);
	void *on_quiet_arg;
};

/* A former one says nothing of what it can, a later one more than is known. */
enum version { PRESENT, FORMER, LATER, NVERSIONS };

static struct device {
	struct tch *tch;
	struct tch_server server;
	enum version version;
	bool is_dead, restores_congestion;
	struct conn conns[CONNECTIONS];
	struct entry entries[CONNECTIONS];
} devices[DEVICES];

static struct client {
	bool is_reset;
	uint32_t acknowledged, next, total; /* of what it sends */
	uint32_t received;
	uint64_t executed;
	bool was_silent[RECORDS_MAX]; /* executed by a device that did not answer */
	int owner; /* that the switch knows */
	uint16_t transaction;
} clients[CONNECTIONS];

/* Sessions, also with the switch: what was sent before the last break is lost. */
static unsigned int session_generation[DEVICES + 1][DEVICES + 1];
static bool has_broken[DEVICES + 1][DEVICES + 1]; /* [a][b]: a has still to hear of it */
static uint64_t packet_due_us[DEVICES + 1][DEVICES + 1], said_due_us[DEVICES + 1][DEVICES + 1];

static unsigned int delay_max_us, fault_percent, call_max_us;
static unsigned int events_alive, prepared_alive;
static bool has_crashed;
static bool is_mixed; /* devices are of different versions, and are not built alike */
static bool is_switch_deaf;
static unsigned int unheard;
static struct {
	unsigned long runs, given, taken, failed, reset, crashes, breaks, resets;
	unsigned long halves, predicted, again, copies_lost, left;
} sums;

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

/* What its stack sends in the flow does not reach the client. */
static bool is_silent(const struct device *device, int connection)
{
	const struct entry *entry = &device->entries[connection];

	return entry->state == HOLD || entry->state == RELAY ||
	       (entry->state == HALF && entry->part == KERNEL_HELPER_RECEIVES);
}

static void to_stack(struct device *device, int connection, const struct packet *packet)
{
	struct conn *conn = &device->conns[connection];

	if (!conn->is_live) {
		CHECK(!conn->is_frozen);
		if (!is_silent(device, connection))
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
	action->is_exchange = packet->is_exchange;
	action_at(action, later(&packet_due_us[from][to], 0));
}

/* What two devices that share a connection send to each other may be lost. */
static void peer_send(struct device *device, int connection, const struct packet *packet)
{
	if (chance(COPY_LOST_PERCENT))
		sums.copies_lost++;
	else
		packet_send(device_index(device), device->entries[connection].way, connection, packet);
}

static void half_hear(struct device *device, int connection, const struct packet *packet);

static void half_ingress(struct device *device, int connection, const struct packet *packet)
{
	if (packet->is_exchange) {
		half_hear(device, connection, packet);
		return;
	}
	if (device->entries[connection].copies)
		peer_send(device, connection, packet);
	to_stack(device, connection, packet);
}

static void node_ingress(struct action *action)
{
	struct device *device = &devices[action->device];
	struct entry *entry = &device->entries[action->connection];
	struct packet packet = { action->sequence, action->acknowledgment, action->len, action->is_exchange };

	if (entry->state == HALF) {
		if (!packet.is_exchange || action->from == entry->way)
			half_ingress(device, action->connection, &packet);
	} else if (packet.is_exchange) {
		return; /* late: nothing that a stack or anybody else may see */
	} else if (entry->state == HOLD) {
		if (entry->parked_count < PARKED_MAX)
			entry->parked[entry->parked_count++] = packet;
	} else if (entry->state == RELAY) {
		packet_send(action->device, entry->way, action->connection, &packet);
	} else {
		to_stack(device, action->connection, &packet);
	}
}

static void client_receive(struct action *action);

static void client_gets(struct device *device, int connection, uint32_t sequence, const uint8_t *bytes, size_t len,
			uint32_t acknowledgment)
{
	struct action *action = action_new(client_receive, len);

	action->connection = connection;
	action->device = device_index(device);
	action->sequence = sequence;
	action->acknowledgment = acknowledgment;
	if (len)
		memcpy(action->bytes, bytes, len);
	action_at(action, now_us + 10 + draw(delay_max_us));
}

static uint32_t of_both(const struct entry *entry)
{
	return entry->own_acknowledged < entry->peer_acknowledged ? entry->own_acknowledged : entry->peer_acknowledged;
}

static bool is_news(const struct entry *entry)
{
	return of_both(entry) > entry->said_acknowledged;
}

static void half_hear(struct device *device, int connection, const struct packet *packet)
{
	struct entry *entry = &device->entries[connection];
	const struct conn *conn = &device->conns[connection];

	if (packet->acknowledgment > entry->peer_acknowledged)
		entry->peer_acknowledged = packet->acknowledgment;
	if (entry->part != KERNEL_HELPER_SENDS || !is_news(entry))
		return;
	entry->said_acknowledged = of_both(entry);
	client_gets(device, connection, conn->send_unacknowledged + (uint32_t)conn->sent_len, NULL, 0, of_both(entry));
}

/* As the node program lets it out: it acknowledges what both have, and only one speaks to the client. */
static void half_send(struct device *device, struct conn *conn, size_t from)
{
	int connection = (int)(conn - device->conns);
	struct entry *entry = &device->entries[connection];

	if (conn->receive_next > entry->own_acknowledged)
		entry->own_acknowledged = conn->receive_next;
	if (entry->part == KERNEL_HELPER_RECEIVES) {
		peer_send(device, connection, &(struct packet){ .acknowledgment = conn->receive_next, .is_exchange = true });
		return;
	}
	if (from == conn->sent_len && !is_news(entry) && of_both(entry) != entry->own_acknowledged)
		return;
	if (is_news(entry))
		entry->said_acknowledged = of_both(entry);
	client_gets(device, connection, conn->send_unacknowledged + (uint32_t)from, conn->sent + from, conn->sent_len - from,
		    of_both(entry));
}

static void conn_send(struct device *device, struct conn *conn, size_t from)
{
	int connection = (int)(conn - device->conns);

	if (!conn->is_live)
		return;
	if (device->entries[connection].state == HALF)
		half_send(device, conn, from);
	else if (!is_silent(device, connection))
		client_gets(device, connection, conn->send_unacknowledged + (uint32_t)from, conn->sent + from,
			    conn->sent_len - from, conn->receive_next);
}

/* Clients */

static void client_send(int connection)
{
	struct client *client = &clients[connection];
	struct packet packet = { .sequence = client->next, .acknowledgment = client->received };

	if (client->is_reset)
		return;
	packet.len = draw(SEGMENT_MAX);
	if (packet.len > client->total - client->next)
		packet.len = client->total - client->next;
	client->next += (uint32_t)packet.len;
	packet_send(SWITCH, client->owner, connection, &packet);
}

/* The answer is RST, which the switch sends to whom it holds for the owner; and who shares the connection may get a copy. */
static void client_resets(int connection, struct device *speaker)
{
	conn_close(&speaker->conns[connection], false);
	for (int i = 0; i < DEVICES; i++)
		if (devices[i].entries[connection].state == HALF && chance(70))
			conn_close(&devices[i].conns[connection], false);
}

static void client_receive(struct action *action)
{
	struct client *client = &clients[action->connection];

	if (client->is_reset) {
		client_resets(action->connection, &devices[action->device]);
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
			    &(struct packet){ .sequence = client->acknowledged,
					      .acknowledgment = client->received,
					      .len = client->next - client->acknowledged });
	for (int i = 0; i < DEVICES; i++)
		if (devices[i].conns[action->connection].sent_len)
			conn_send(&devices[i], &devices[i].conns[action->connection], 0);
	next->connection = action->connection;
	action_at(next, now_us + TICK_US);
}

/* The kernel helper */

static void let_go(struct device *device, int connection, const struct entry *next)
{
	struct entry *entry = &device->entries[connection];
	size_t count = entry->parked_count;
	struct packet parked[PARKED_MAX];

	memcpy(parked, entry->parked, count * sizeof(*parked));
	*entry = *next;
	for (size_t i = 0; i < count; i++) {
		if (next->state == RELAY)
			packet_send(device_index(device), next->way, connection, &parked[i]);
		else if (next->state == HALF)
			half_ingress(device, connection, &parked[i]);
		else
			to_stack(device, connection, &parked[i]);
	}
}

bool kernel_helper_restores_congestion(const struct kernel_helper *helper)
{
	return ((const struct device *)helper)->restores_congestion;
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
			 const struct kernel_helper_static *fixed, bool keeps_sending, struct kernel_helper_state *out)
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
		.congestion_window = CONGESTION_WINDOW,
		.statistics.segments_in = 1,
		.sent = keeps_sending ? NULL : copy(conn->sent, sent_len),
		.sent_len = sent_len,
		.unsent = keeps_sending ? NULL : copy(conn->sent + sent_len, conn->sent_len - sent_len),
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
	CHECK(device->entries[connection_of(flow)].state == HOLD);
	conn->is_live = true;
	conn->is_frozen = false;
	let_go(device, connection_of(flow), &(struct entry){ .state = NONE });
}

int kernel_helper_relay(struct kernel_helper *helper, const struct flow_key *flow, const uint8_t to_mac[static 6],
			unsigned int ifindex)
{
	(void)ifindex;
	let_go(device_of_helper(helper), connection_of(flow), &(struct entry){ .state = RELAY, .way = to_mac[0] });
	return 0;
}

/* Of a switch whose daemon died: tests/lab has it. */
int kernel_helper_relay_inherited(struct kernel_helper *helper, const struct flow_key *flow,
				  const uint8_t to_mac[static 6], unsigned int ifindex)
{
	(void)helper, (void)flow, (void)to_mac, (void)ifindex;
	return -ENOENT;
}

void kernel_helper_release_inherited(struct kernel_helper *helper,
				     void (*on_flow)(const struct flow_key *flow, void *arg), void *arg)
{
	(void)helper, (void)on_flow, (void)arg;
}

void kernel_helper_silence(struct kernel_helper *helper, int fd)
{
	if (fd >= FD_PREPARED) {
		prepared_alive--;
		return;
	}
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

/* The socket, without an entry. */
static int restore(struct device *device, const struct kernel_helper_state *state, int *fd)
{
	int connection = connection_of(&state->flow);
	struct conn *conn = &device->conns[connection];

	CHECK(*fd < 0 || *fd == FD_PREPARED + connection); /* it is bound to its VIP already */
	if (*fd >= 0)
		prepared_alive--; /* taken, or closed */
	if (chance(5))
		return -EADDRNOTAVAIL;
	CHECK(!conn->is_live && !conn->is_frozen);
	conn->is_live = true;
	conn->receive_next = state->receive_next;
	conn->received_len = 0;
	conn->send_unacknowledged = state->send_unacknowledged;
	if (state->sent_len)
		memcpy(conn->sent, state->sent, state->sent_len);
	conn->sent_len = state->sent_len;
	*fd = FD_BASE + connection;
	return 0;
}

int kernel_helper_restore(struct kernel_helper *helper, const struct kernel_helper_state *state, int *fd)
{
	int err = restore(device_of_helper(helper), state, fd);

	if (!err)
		kernel_helper_forget(helper, &state->flow);
	return err;
}

static struct entry half_entry(const struct kernel_helper_state *state, const struct kernel_helper_peer *peer)
{
	return (struct entry){
		.state = HALF,
		.way = peer->mac[0],
		.part = peer->part,
		.own_acknowledged = state->receive_next,
		.peer_acknowledged = state->receive_next,
	};
}

int kernel_helper_restore_half(struct kernel_helper *helper, const struct kernel_helper_state *state,
			       const struct kernel_helper_peer *peer, int *fd)
{
	struct device *device = device_of_helper(helper);
	int err = restore(device, state, fd);

	CHECK(peer->part == KERNEL_HELPER_SENDS || !state->sent_len);
	if (!err)
		device->entries[connection_of(&state->flow)] = half_entry(state, peer);
	return err;
}

int kernel_helper_share(struct kernel_helper *helper, int fd, const struct kernel_helper_state *state,
			const struct kernel_helper_peer *peer)
{
	struct device *device = device_of_helper(helper);
	struct conn *conn = &device->conns[fd - FD_BASE];
	struct entry entry = half_entry(state, peer);

	if (chance(3))
		return -ENOMEM;
	CHECK(conn->is_frozen);
	conn->is_live = true;
	conn->is_frozen = false;
	entry.copies = true;
	let_go(device, connection_of(&state->flow), &entry);
	return 0;
}

static void say_all(struct device *device, const struct flow_key *flow)
{
	struct conn *conn = &device->conns[connection_of(flow)];

	conn_send(device, conn, conn->sent_len);
}

void kernel_helper_reclaim(struct kernel_helper *helper, const struct flow_key *flow,
			   const struct kernel_helper_static *fixed)
{
	(void)fixed;
	kernel_helper_forget(helper, flow);
	if (!device_of_helper(helper)->is_dead)
		say_all(device_of_helper(helper), flow);
}

uint32_t kernel_helper_last_stamp(struct kernel_helper *helper, const struct flow_key *flow)
{
	(void)helper, (void)flow;
	return 0;
}

int kernel_helper_take_over(struct kernel_helper *helper, int fd, const struct flow_key *flow,
			    const struct kernel_helper_static *fixed, uint32_t stamp)
{
	(void)fd, (void)fixed, (void)stamp;
	kernel_helper_forget(helper, flow);
	say_all(device_of_helper(helper), flow);
	return 0;
}

int kernel_helper_sketch(struct kernel_helper *helper, int fd, const struct flow_key *flow,
			 const struct kernel_helper_static *fixed, struct kernel_helper_state *out)
{
	(void)helper, (void)fd;
	*out = (struct kernel_helper_state){ .flow = *flow, .fixed = *fixed };
	return now_us < RUN_US && chance(3) ? -ENOMEM : 0;
}

int kernel_helper_prepare(struct kernel_helper *helper, const struct kernel_helper_state *sketch, int *fd)
{
	(void)helper;
	if (chance(10))
		return -EADDRNOTAVAIL;
	prepared_alive++;
	*fd = FD_PREPARED + connection_of(&sketch->flow);
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

/*
 * Each request runs once. What a device ran that was silent and then went, another one may ask for again, if the client has no
 * answer to it: the owner of the files remembers the call. So it does if the silent one is late.
 */
static void call_count(struct client *client, uint64_t request, bool is_silent)
{
	CHECK(request <= client->executed);
	if (request == client->executed) {
		client->was_silent[request] = is_silent;
		client->executed++;
		return;
	}
	CHECK(is_silent || (client->was_silent[request] && client->received <= request * RECORD));
	sums.again++;
}

/* The request runs now; its answer comes later. */
static void call_begin(struct device *device, struct conn *conn)
{
	int connection = (int)(conn - device->conns);
	struct action *action = action_new(call_done, 0);

	for (uint32_t i = 0; i < RECORD; i++)
		CHECK(conn->input[i] == request_byte(connection, (uint32_t)conn->facts.requests * RECORD + i));
	call_count(&clients[connection], conn->facts.requests, conn->served == CONN_RECEIVES);
	memmove(conn->input, conn->input + RECORD, conn->input_len -= RECORD);
	conn->in_call = true;
	action->device = device_index(device);
	action->connection = connection;
	action->generation = conn->generation;
	action_at(action, now_us + draw(chance(90) ? 1000 : call_max_us));
}

static void conn_work(struct device *device, struct conn *conn)
{
	if (!conn->is_live || (conn->phase != SERVING && conn->phase != DRAINING && conn->phase != DISCARDING))
		return;
	if (conn->served == CONN_RECEIVES || conn->phase == DISCARDING)
		conn_send(device, conn, conn->sent_len);
	else
		conn_flush(device, conn);
	if (conn->phase == DISCARDING)
		conn->received_len = 0;
	if (conn->phase != SERVING || conn->in_call)
		return;
	memcpy(conn->input + conn->input_len, conn->received, conn->received_len);
	conn->input_len += conn->received_len;
	conn->received_len = 0;
	if (conn->input_len >= RECORD)
		call_begin(device, conn);
}

static struct device *device_with(const struct conn *conn)
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
	conn->served = CONN_WHOLE;
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
void conn_stay(struct conn *conn) { (void)conn; /* only of what another run has left */ }
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

bool conn_write_out(struct conn *conn)
{
	CHECK(conn->phase == QUIET && conn->served == CONN_WHOLE && !conn->in_call);
	conn_flush(device_with(conn), conn);
	return chance(50); /* or the client takes its time */
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

static enum kernel_helper_part part_of(struct conn *conn)
{
	struct device *device = device_with(conn);
	const struct entry *entry = &device->entries[conn - device->conns];

	CHECK(entry->state == HALF);
	return entry->part;
}

void conn_drain(struct conn *conn)
{
	CHECK(part_of(conn) == KERNEL_HELPER_SENDS);
	conn->phase = DRAINING;
	conn->looks = 0;
	conn_kick(conn);
}

void conn_discard(struct conn *conn)
{
	CHECK(part_of(conn) == KERNEL_HELPER_RECEIVES);
	conn->phase = DISCARDING;
	conn->looks = 0;
	conn_kick(conn);
}

bool conn_is_drained(const struct conn *conn)
{
	struct device *device = device_with(conn);
	struct conn *looked_at = &device->conns[conn - device->conns];

	CHECK(conn->phase == DRAINING || conn->phase == DISCARDING);
	CHECK(++looked_at->looks <= DRAIN_LOOKS_MAX); /* all data loops stand still meanwhile */
	return conn->sent_len + (conn->phase == DRAINING ? conn->output_len : 0) == 0;
}

bool conn_is_half(const struct conn *conn) { return conn->served != CONN_WHOLE; }

void conn_take_over(struct conn *conn)
{
	conn->served = CONN_WHOLE;
	if (conn->phase == SERVING)
		conn_kick(conn);
	else
		conn_close(conn, false); /* the client had closed it */
}

void conn_state_fini(struct conn_state *state)
{
	free(state->input);
	free(state->output);
}

int conn_surrender(struct conn *conn)
{
	CHECK(conn->phase != SERVING || conn->served != CONN_WHOLE);
	conn->phase = NO_CONN;
	return conn->fd;
}

int conn_import(struct conn_server *server, int fd, const struct flow_key *flow, const struct kernel_helper_static *fixed,
		const struct conn_state *state, enum conn_part_served served, struct conn **out)
{
	struct device *device = device_of_conns(server);
	struct conn *conn = &device->conns[fd - FD_BASE];

	(void)flow, (void)fixed;
	CHECK(conn->phase == NO_CONN);
	conn_begin(device, fd - FD_BASE, &state->facts);
	conn->served = served;
	if (state->input_len > 0) /* memcpy(3) takes no NULL, not even for nothing */
		memcpy(conn->input, state->input, conn->input_len = state->input_len);
	if (state->output_len > 0)
		memcpy(conn->output, state->output, conn->output_len = state->output_len);
	conn_kick(conn);
	*out = conn;
	return 0;
}

static void closed_later(struct action *action)
{
	tch_session_closed(devices[action->device].tch, (uint64_t)action->connection);
}

/* At once, or from a data loop. */
static void tell_closed(struct device *device, int connection)
{
	struct action *action;

	if (chance(50)) {
		tch_session_closed(device->tch, (uint64_t)connection);
		return;
	}
	action = action_new(closed_later, 0);
	action->device = device_index(device);
	action->connection = connection;
	action_at(action, now_us + draw(1000));
}

void conn_close(struct conn *conn, bool reset)
{
	struct device *device = device_with(conn);
	int connection = (int)(conn - device->conns);

	if (conn->phase == NO_CONN)
		return;
	if (conn->served == CONN_RECEIVES) { /* it waits for conn_surrender(), or conn_take_over() */
		if (conn->phase != QUIET)
			tell_closed(device, connection);
		if (conn->phase != NO_CONN)
			conn->phase = QUIET;
		return;
	}
	if (reset && conn->is_live)
		reset_client(connection);
	tell_closed(device, connection);
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

/* A device is told what it can do something with, and no more. */
static void check_told(const struct device *from, const struct device *device, const struct tch_message *message)
{
	bool is_told = message->kind == TCH_KIND_HANDOFF || message->kind == TCH_KIND_HANDOFF_COMPLETE;
	struct kernel_helper_state state;
	enum tch_kind_of_handoff kind;
	struct tch_facts facts;

	CHECK(message->kind != TCH_KIND_HANDOFF || device->server.take_over);
	if (!is_told || tch_options_decode(message->options, message->options_len, &state, &facts, &kind) < 0)
		return;
	CHECK(facts.statistics.segments_in);
	if (device->version != FORMER && from->version != FORMER)
		CHECK(!state.congestion_window == !device->restores_congestion);
}

static void tch_receive(struct action *action)
{
	struct tch_message *message = &action->message;

	message->options = action->bytes;
	message->sent = message->options + message->options_len;
	message->unsent = message->sent + message->sent_len;
	message->received = message->unsent + message->unsent_len;
	if (!is_heard(action))
		return;
	check_told(&devices[action->from], &devices[action->device], message);
	tch_received(devices[action->device].tch, node_of(action->from), message);
}

static uint8_t *append(uint8_t *at, const uint8_t *bytes, size_t len)
{
	if (len)
		memcpy(at, bytes, len);
	return at + len;
}

/* As devices of these versions would say and hear it. */
static void translate(struct tch_message *message, const struct device *from, const struct device *to,
		      uint8_t options[static TCH_CAPABILITIES_BYTES])
{
	bool opens = message->kind == TCH_KIND_OPEN || message->kind == TCH_KIND_OPEN_RESPONSE;
	unsigned int can;

	if (from->version == FORMER && message->kind == TCH_KIND_ACKNOWLEDGMENT)
		message->flags &= ~(uint32_t)TCH_FLAG_END;
	if (opens && (from->version == FORMER || to->version == FORMER))
		message->options_len = 0;
	if (!opens || !message->options_len || from->version != LATER)
		return;
	CHECK(tch_capabilities_decode(message->options, message->options_len, &can) == 0);
	message->options_len = (size_t)tch_capabilities_encode(can | 0xff00ff00, options);
	message->options = options;
}

static int tch_send(uint32_t node, const struct tch_message *message, void *arg)
{
	int from = device_index(arg), to = device_of(node);
	uint8_t options[TCH_CAPABILITIES_BYTES], *at;
	struct tch_message translated;
	struct action *action;

	if (devices[from].is_dead || (has_broken[to][from] && !has_broken[from][to]))
		return -ENOTCONN;
	translated = *message;
	translate(&translated, &devices[from], &devices[to], options);
	message = &translated;
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

static int find_node(uint32_t node, bool is_special, uint8_t mac[static 6], unsigned int *ifindex, void *arg)
{
	const struct device *self = arg, *device = &devices[device_of(node)];

	if (is_special && (self->version == FORMER || device->version == FORMER) && !device->server.take_over)
		return -EOPNOTSUPP;
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
		tch_confirmed(device->tch, &device->conns[action->connection].flow, action->node,
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

/* The last announcement: does the switch know who makes it as the owner? Else it refuses. */
static struct {
	int by;
	uint32_t node;
	bool is_owner;
} announced;

static void announce_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	(void)transaction;
	announced.by = device_index(arg);
	announced.node = node;
	announced.is_owner = clients[connection_of(flow)].owner == announced.by;
}

static const struct tch_network network = {
	.send = tch_send,
	.find_node = find_node,
	.change_owner = change_owner,
	.announce_owner = announce_owner,
};

/* Mischief */

static void hear_of_loss(struct action *action)
{
	if (!has_broken[action->device][action->from])
		return;
	has_broken[action->device][action->from] = false;
	if (action->device != SWITCH && action->from != SWITCH)
		tch_node_lost(devices[action->device].tch, node_of(action->from));
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

	if (entry->inherited)
		*entry = (struct entry){ .state = NONE };
}

static void build(struct device *device)
{
	device->server = conn_moves;
	device->version = is_mixed ? (enum version)draw(NVERSIONS) : PRESENT;
	device->restores_congestion = !is_mixed || chance(50);
	if (is_mixed && chance(30))
		device->server.take_over = NULL;
}

static void start_daemon(struct device *device)
{
	const struct tch_setup setup = {
		.base = (struct event_base *)device,
		.self = node_of(device_index(device)),
		.helper = (struct kernel_helper *)device,
		.server = &device->server,
		.server_arg = device,
		.network = &network,
		.network_arg = device,
	};

	build(device);
	device->is_dead = false;
	device->tch = tch_new(&setup);
	CHECK(device->tch);
}

static void note_counters(const struct device *device)
{
	const struct tch_counters *counters = tch_counters(device->tch);

	sums.given += counters->given;
	sums.taken += counters->taken;
	sums.failed += counters->failed;
	sums.reset += counters->reset;
	sums.halves += counters->halves;
	sums.predicted += counters->predicted;
}

static void check_step(void);

static void lose_connection(struct device *device, int connection)
{
	struct conn *conn = &device->conns[connection];
	struct entry *entry = &device->entries[connection];
	struct action *action;

	if (conn->is_live && !is_silent(device, connection))
		reset_client(connection);
	conn->is_live = conn->is_frozen = false;
	conn->phase = NO_CONN;
	conn->sent_len = 0;
	if (entry->state != RELAY && !(entry->state == HALF && entry->part == KERNEL_HELPER_RECEIVES)) {
		*entry = (struct entry){ .state = NONE };
		return;
	}
	entry->inherited = true;
	action = action_new(forget_inherited, 0);
	action->device = device_index(device);
	action->connection = connection;
	action_at(action, now_us + INHERITED_US);
}

/* Its daemon dies; or it ends in peace, and until its kernel closes what it leaves it says no word that it must not. */
static void crash(struct device *device)
{
	sums.crashes++;
	has_crashed = true;
	device->is_dead = chance(50);
	note_counters(device);
	tch_free(device->tch);
	check_step();
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

static void move(struct device *device, int connection, int to)
{
	if (chance(30))
		tch_so_hnd(device->tch, (uint64_t)connection, node_of(to), true);
	else if (chance(70))
		tch_so_set(device->tch, (uint64_t)connection, node_of(to),
			      chance(50) ? TCH_FULL : (enum tch_kind_of_handoff)draw(TCH_NKINDS), NULL, NULL);
}

static void mischief(struct action *action)
{
	struct device *device = &devices[draw(DEVICES)];
	int connection = (int)draw(CONNECTIONS), other = (int)draw(DEVICES);

	(void)action;
	if (now_us > RUN_US)
		return;
	for (int i = 0; i < DEVICES; i++)
		if (devices[i].conns[connection].phase != NO_CONN && other != i)
			move(&devices[i], connection, other);
	if (chance(fault_percent) && chance(10)) { /* the client goes */
		sums.left += !clients[connection].is_reset;
		clients[connection].is_reset = true;
	}
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
			speakers += devices[i].conns[connection].is_live && !is_silent(&devices[i], connection);
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
		tch_free(devices[i].tch);
	}
	CHECK(events_alive == 0 && prepared_alive == 0);
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
	is_mixed = seed % 2;
	begin_run();
	action_at(action_new(mischief, 0), now_us);
	go_on_until(RUN_US + SETTLE_US);
	for (int connection = 0; connection < CONNECTIONS; connection++)
		check_connection(connection);
	/* Each handoff in progress and each relayed flow has a timer. */
	CHECK(events_alive == 0 && prepared_alive == 0);
	is_mixed = false;
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
	while (!tch_counters(first->tch)->given && first->conns[0].phase != NO_CONN) {
		tch_so_set(first->tch, 0, node_of(device_index(second)), (enum tch_kind_of_handoff)draw(TCH_NKINDS),
			      NULL, NULL);
		go_on_until(now_us + 10000);
	}
	unheard = 0;
	go_on_until(now_us + 10 * 1000 * TCH_ASK_MS);
	CHECK(unheard >= 9 || !tch_counters(first->tch)->given);
	conn_close(&second->conns[0], false);
	first->entries[0] = (struct entry){ .state = NONE };
	conn_begin(first, 0, &(struct conn_facts){ .session = 0 });
	unheard = 0;
	go_on_until(now_us + 10 * 1000 * TCH_ASK_MS);
	CHECK(unheard == 0);
	is_switch_deaf = false;
	end_run();
}

/* In a network that is quick. Return: whether the second device has the session of connection 0 now */
static bool hand_over(struct device *first, struct device *second, enum tch_kind_of_handoff kind)
{
	uint64_t until_us = now_us + 5000000;

	while (first->conns[0].phase != NO_CONN && !clients[0].is_reset && now_us < until_us) {
		tch_so_set(first->tch, 0, node_of(device_index(second)), kind, NULL, NULL);
		go_on_until(now_us + 10000);
	}
	return second->conns[0].phase != NO_CONN && !clients[0].is_reset;
}

/*
 * A device is prepared before the switch has heard who has the session now, so what is said of it then is refused; it must be said
 * again before that device speaks, or it will be fenced as a former owner.
 */
static void run_with_early_prediction(void)
{
	struct device *first, *second;

	begin_run();
	delay_max_us = call_max_us = 100;
	first = &devices[clients[0].owner];
	second = first == devices ? first + 1 : devices;
	is_switch_deaf = true;
	if (hand_over(first, second, TCH_FULL)) {
		tch_so_hnd(second->tch, 0, node_of(device_index(first)), true);
		is_switch_deaf = false;
		go_on_until(now_us + 3 * 1000 * TCH_ASK_MS);
		CHECK(clients[0].is_reset || clients[0].owner == device_index(second));
		if (hand_over(second, first, TCH_FULL))
			CHECK(announced.by == device_index(second) && announced.is_owner);
	}
	is_switch_deaf = false;
	end_run();
}

/* What devices of two versions could do before, they can do. */
static void run_with_versions(enum version first_version, enum version second_version, enum tch_kind_of_handoff kind)
{
	struct device *first, *second;

	begin_run();
	delay_max_us = call_max_us = 100;
	first = &devices[clients[0].owner];
	second = first == devices ? first + 1 : devices;
	first->version = first_version;
	second->version = second_version;
	tch_so_hnd(first->tch, 0, node_of(device_index(second)), true);
	go_on_until(now_us + 10000);
	hand_over(first, second, kind);
	CHECK(clients[0].is_reset || tch_counters(first->tch)->given == 1);
	CHECK(tch_counters(first->tch)->reset == 0);
	end_run();
}

static void run_with_all_versions(void)
{
	for (enum version first = 0; first < NVERSIONS; first++)
		for (enum version second = 0; second < NVERSIONS; second++)
			run_with_versions(first, second, (enum tch_kind_of_handoff)(seed % TCH_NKINDS));
}

/* The session with the second device breaks, and the first one learns of it when it wants to say Complete: nobody else speaks. */
static void run_with_complete_unsent(void)
{
	struct device *first, *second;

	begin_run();
	delay_max_us = call_max_us = 100;
	first = &devices[clients[0].owner];
	second = first == devices ? first + 1 : devices;
	tch_so_set(first->tch, 0, node_of(device_index(second)), TCH_HALF_TO_DEVICES, NULL, NULL);
	for (int i = 0; i < 1000 && first->entries[0].state != HALF; i++)
		go_on_until(now_us + 50);
	if (first->entries[0].state == HALF) { /* it has not fallen silent */
		has_broken[device_index(second)][device_index(first)] = true;
		go_on_until(now_us + 2 * 1000 * (uint64_t)TCH_HALF_MS);
		CHECK(!clients[0].is_reset && first->conns[0].phase == SERVING && tch_counters(first->tch)->reset == 0);
	}
	end_run();
}

/* What a device that is not one of ours says, and what it gets for an answer; 0: nothing. */
static enum tch_kind answer_to(enum tch_kind kind, uint32_t flags)
{
	static const uint8_t options[] = { 255, 8, 0, 1, 10, 0, 0, 1, 0 }; /* an endpoint alone */
	const struct tch_message message = {
		.kind = kind, .flags = flags, .id = 77, .session = 0, .options = options, .options_len = sizeof(options)
	};
	enum tch_kind answer = 0;
	struct action *action;

	tch_received(devices[1].tch, node_of(0), &message);
	TAILQ_FOREACH(action, &actions, link)
		if (action->run == tch_receive)
			break;
	if (action) {
		answer = action->message.kind;
		CHECK(action->device == 0 && action->message.id == message.id);
		CHECK(answer != TCH_KIND_FAIL || action->message.result == (flags == ALL_FLAGS ? -ENOENT : -EBADMSG));
		TAILQ_REMOVE(&actions, action, link);
		free(action);
	}
	return answer;
}

/* Fig. 4A: HND in all packets, SET to force a handoff, END to end it. What lacks them is nothing, but a Handoff is refused. */
static void run_with_flags(void)
{
	static const struct {
		enum tch_kind kind;
		uint32_t flags; /* too few */
		enum tch_kind answer;
	} packets[] = {
		{ TCH_KIND_HANDOFF, TCH_FLAG_HND, TCH_KIND_FAIL },
		{ TCH_KIND_HANDOFF, TCH_FLAG_SET, TCH_KIND_FAIL },
		{ TCH_KIND_HANDOFF_COMPLETE, TCH_FLAG_HND | TCH_FLAG_SET, TCH_KIND_FAIL },
		{ TCH_KIND_HANDOFF_COMPLETE, ALL_FLAGS, TCH_KIND_FAIL }, /* no update option */
		{ TCH_KIND_UPDATE, TCH_FLAG_SET | TCH_FLAG_END, 0 },
		{ TCH_KIND_FAIL, TCH_FLAG_SET | TCH_FLAG_END, 0 },
		{ 0, ALL_FLAGS, 0 },
		{ TCH_KIND_COUNT, ALL_FLAGS, 0 },
	};

	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		begin_run();
		CHECK(answer_to(TCH_KIND_OPEN, TCH_FLAG_SET | TCH_FLAG_END) == 0 && events_alive == 0);
		CHECK(answer_to(TCH_KIND_OPEN, TCH_FLAG_HND) == TCH_KIND_OPEN_RESPONSE && events_alive == 1);
		CHECK(answer_to(packets[i].kind, packets[i].flags) == packets[i].answer);
		CHECK(events_alive == !packets[i].answer); /* a refusal ends it; what is nothing leaves it as it was */
		end_run();
	}
}

static void say_of(enum tch_kind kind, int connection, uint64_t session, int from, int to)
{
	struct kernel_helper_state state = {
		.flow = { .client_port = (uint16_t)connection, .vip_port = 8, .protocol = IPPROTO_TCP },
		.fixed.mss_clamp = 1460,
	};
	const struct tch_facts facts = { .session = session };
	uint8_t options[TCH_OPTIONS_MAX];
	const struct tch_message message = {
		.kind = kind,
		.flags = ALL_FLAGS,
		.id = 78,
		.session = session,
		.options = options,
		.options_len = (size_t)tch_options_encode(&state, &facts, TCH_FULL, options),
	};

	tch_received(devices[to].tch, node_of(from), &message);
}

/* A first device that prepares for one connection and hands another over: kernel_helper_restore() gets no socket that is bound. */
static void run_with_other_flow(void)
{
	int from, to;

	begin_run();
	from = clients[0].owner;
	to = from ? 0 : 1;
	devices[from].conns[0].is_live = false;
	devices[from].conns[0].phase = NO_CONN;
	say_of(TCH_KIND_OPEN, 1, 0, from, to);
	say_of(TCH_KIND_UPDATE, 1, 0, from, to);
	say_of(TCH_KIND_HANDOFF_COMPLETE, 0, 0, from, to);
	CHECK(prepared_alive == 0);
	end_run();
}

int main(void)
{
	const char *given = getenv("SEED"), *seconds = getenv("SIMULATION_SECONDS");
	time_t end = time(NULL) + (seconds ? atoi(seconds) : 3);

	seed = given ? strtoull(given, NULL, 10) : (unsigned long long)time(NULL) * 1000000;
	log_open(given ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERR);
	printf("SEED=%llu\n", seed);
	run_with_flags();
	do {
		run_with_return();
		run_with_early_prediction();
		run_with_other_flow();
		run_with_all_versions();
		run_with_complete_unsent();
		run();
		seed++;
	} while (!given && time(NULL) < end);
	printf("%lu runs: %lu given, %lu of them halves, %lu predicted, %lu taken, %lu failed, %lu reset; %lu requests again; "
	       "%lu breaks, %lu crashes; %lu clients reset, %lu left\n",
	       sums.runs, sums.given, sums.halves, sums.predicted, sums.taken, sums.failed, sums.reset, sums.again, sums.breaks,
	       sums.crashes, sums.resets, sums.left);
	return EXIT_SUCCESS;
}
