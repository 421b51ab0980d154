/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/top.h"

#include "common/clock.h"
#include "common/file_service.h"
#include "master/commands_internal.h"
#include "master/load_rows.h"
#include "master/rates.h"
#include "master/sessions.h"
#include "master/volume_commands.h"
#include "slave/load.h"

#include <event2/event.h>
#include <stdlib.h>

enum { ROUND_MS = 1000, SESSIONS_SHOWN = 50 };

struct top {
	struct master *master;
	struct event *tick; /* pending while somebody looks */
	unsigned int readers;
	struct rates *rates; /* NULL while nobody does */
	struct rate handoffs;
	json_int_t round; /* 0: rates are not known yet */
	unsigned int looks;
};

/* A look at the counters */

static struct rates_flow own_counters(struct master *master)
{
	const struct file_service_counters counters = slave_file_counters(master_slave(master));
	struct rates_flow own = { .read_bytes = counters.read_bytes, .written_bytes = counters.written_bytes };

	for (size_t i = 0; i < NFS3_PROCEDURES; i++)
		own.operations += counters.nfs3[i];
	return own;
}

/* Other devices say in each heartbeat what they have done, and when. */
static void look_at_nodes(struct top *top, uint64_t now_ms)
{
	const struct rates_flow own = own_counters(top->master);
	const ns_node *node;

	for (size_t at = 0; (node = namespace_next_node(master_ns(top->master), &at));) {
		const scp_heartbeat *beat = &master_member(top->master, node->id)->beat;
		const struct rates_flow told = { beat->operations, beat->read_bytes, beat->written_bytes, 0 };

		if (node->id == NAMESPACE_MASTER)
			rates_node(top->rates, node->id, &own, now_ms);
		else if (beat->time_ns)
			rates_node(top->rates, node->id, &told, beat->time_ns / 1000000);
	}
}

struct look {
	struct top *top;
	uint64_t now_ms;
};

static void look_at_session(const struct session_entry *entry, void *arg)
{
	const struct look *look = arg;
	struct master *master = look->top->master;
	uint64_t told_ms = entry->node == NAMESPACE_MASTER ? look->now_ms : master_member(master, entry->node)->reported_ms;

	if (entry->info.id && told_ms)
		rates_session(look->top->rates, &entry->info, entry->node, told_ms);
}

static void look_at_all(struct top *top)
{
	struct look look = { top, clock_monotonic_ms() };

	master_refresh_sessions(top->master);
	rates_begin(top->rates);
	look_at_nodes(top, look.now_ms);
	sessions_visit(master_sessions(top->master), look_at_session, &look);
	rates_end(top->rates);
	rate_note(&top->handoffs, sessions_moves(master_sessions(top->master)), look.now_ms);
}

/* Each device speaks once a second, when it likes: after two rounds all have spoken twice. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct top *top = arg;

	(void)fd, (void)what;
	look_at_all(top);
	if (++top->looks > 2)
		top->round++;
}

/* A round as a record */

static void set_flow(json_t *row, const struct rates_flow *flow)
{
	json_object_set_new(row, "operations_per_s", json_integer((json_int_t)flow->operations));
	json_object_set_new(row, "moved_bytes_per_s", json_integer((json_int_t)flow->bytes));
}

static json_t *node_row(struct top *top, const ns_node *node)
{
	struct rates_flow flow = rates_of_node(top->rates, node->id);
	struct load own;
	json_t *row;

	/* What one that is not there did last is no news. */
	if (!commands_node_is_up(top->master, node->id))
		flow = (struct rates_flow){ 0 };
	flow.bytes = flow.read_bytes + flow.written_bytes;
	row = json_pack("{s:I, s:o, s:s, s:I}", "id", (json_int_t)node->id, "name", admin_text(node->name), "state",
			commands_node_state(top->master, node), "sessions",
			(json_int_t)commands_node_sessions(top->master, node->id));
	if (row) {
		set_flow(row, &flow);
		json_object_set_new(row, "read_bytes_per_s", json_integer((json_int_t)flow.read_bytes));
		json_object_set_new(row, "written_bytes_per_s", json_integer((json_int_t)flow.written_bytes));
		load_rows_set(row, commands_node_load(top->master, node->id, &own));
	}
	return row;
}

static json_t *node_rows(struct top *top)
{
	json_t *rows = json_array();
	const ns_node *node;

	for (size_t at = 0; (node = namespace_next_node(master_ns(top->master), &at));)
		json_array_append_new(rows, node_row(top, node));
	return rows;
}

static json_t *volume_rows(struct top *top)
{
	json_t *rows = json_array();
	const ns_volume *volume;

	for (size_t at = 0; (volume = namespace_next_volume(master_ns(top->master), &at));) {
		const struct rates_flow flow = rates_of_volume(top->rates, volume->id);
		json_t *row = volume_commands_row(top->master, volume);
		struct load own;

		if (row) {
			set_flow(row, &flow);
			load_rows_set_volume(row, commands_node_load(top->master, volume->node, &own), volume->id);
		}
		json_array_append_new(rows, row);
	}
	return rows;
}

struct search {
	const struct rates_busy *busy;
	const struct session_entry *entries[SESSIONS_SHOWN]; /* of each */
	size_t count;
};

static void match_session(const struct session_entry *entry, void *arg)
{
	struct search *search = arg;

	for (size_t i = 0; i < search->count; i++)
		if (search->busy[i].session == entry->info.id)
			search->entries[i] = entry;
}

static json_t *session_rows(struct top *top)
{
	struct rates_busy busy[SESSIONS_SHOWN];
	struct search search = { .busy = busy, .count = rates_busiest(top->rates, busy, SESSIONS_SHOWN) };
	json_t *rows = json_array(), *row;

	sessions_visit(master_sessions(top->master), match_session, &search);
	for (size_t i = 0; i < search.count; i++) {
		if (!search.entries[i])
			continue; /* it has ended since */
		row = device_session_row(master_ns(top->master), &search.entries[i]->info, busy[i].node);
		if (row)
			set_flow(row, &busy[i].flow);
		json_array_append_new(rows, row);
	}
	return rows;
}

static json_t *round_record(struct top *top)
{
	json_t *nodes = node_rows(top), *row;
	json_int_t operations = 0, bytes = 0, sessions = 0;
	size_t i;

	json_array_foreach(nodes, i, row) {
		operations += json_integer_value(json_object_get(row, "operations_per_s"));
		bytes += json_integer_value(json_object_get(row, "moved_bytes_per_s"));
		sessions += json_integer_value(json_object_get(row, "sessions"));
	}
	return json_pack("{s:{s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o}}", "record", "round", top->round, "time_ns",
			 (json_int_t)clock_wall_ns(), "cluster", admin_text(namespace_cluster(master_ns(top->master))->name),
			 "operations_per_s", operations, "moved_bytes_per_s", bytes, "sessions_in_all", sessions, "handoffs_per_s",
			 (json_int_t)top->handoffs.per_s, "nodes", nodes, "volumes", volume_rows(top), "sessions",
			 session_rows(top));
}

/* Readers */

struct reader {
	struct top *top;
	json_int_t round; /* that it has seen */
};

/* The latest: one that is slow leaves rounds out. */
static json_t *next_round(void *state)
{
	struct reader *reader = state;

	if (reader->round == reader->top->round)
		return NULL;
	reader->round = reader->top->round;
	return round_record(reader->top);
}

static void end_of_reader(void *state)
{
	struct reader *reader = state;
	struct top *top = reader->top;

	free(reader);
	if (--top->readers)
		return;
	event_del(top->tick);
	rates_free(top->rates);
	top->rates = NULL;
}

/* 0; -ENOMEM */
static int first_reader(struct top *top)
{
	top->rates = rates_new();
	if (!top->rates)
		return -ENOMEM;
	top->handoffs = (struct rate){ 0 };
	top->round = 0;
	top->looks = 0;
	event_add(top->tick, &(struct timeval){ .tv_sec = ROUND_MS / 1000 });
	on_tick(-1, 0, top);
	return 0;
}

void top_command(struct admin_request *request, int argc, char **argv, void *arg)
{
	static const struct admin_source source = { .next = next_round, .end = end_of_reader };
	struct top *top = master_top(commands_master(arg));
	struct reader *reader = malloc(sizeof(*reader));

	(void)argc, (void)argv; /* what to show of it is nasctl's business */
	if (!reader || (top->readers == 0 && first_reader(top) < 0)) {
		free(reader);
		admin_error(request, "there is no memory for that now; try again later");
		return;
	}
	top->readers++;
	*reader = (struct reader){ top, 0 };
	admin_stream(request, json_pack("{s:{}}", "record"), &source, reader);
}

struct top *top_new(struct master *master)
{
	struct top *top = calloc(1, sizeof(*top));

	if (!top)
		return NULL;
	top->master = master;
	top->tick = event_new(master_base(master), -1, EV_PERSIST, on_tick, top);
	if (top->tick)
		return top;
	free(top);
	return NULL;
}

void top_free(struct top *top)
{
	if (!top)
		return;
	event_free(top->tick);
	rates_free(top->rates);
	free(top);
}
