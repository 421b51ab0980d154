/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/conn_moves.h"

#include "common/bytes.h"
#include "common/conn.h"

#include <errno.h>

enum { SHARE_BYTES = 20 };

static bool look(struct conn *conn, struct tch_session *out)
{
	if (!conn)
		return false;
	*out = (struct tch_session){
		.own = conn,
		.id = conn_facts(conn)->session,
		.fd = conn_fd(conn),
		.flow = *conn_flow(conn),
		.fixed = *conn_fixed(conn),
		.restored_len = conn_restored_len(conn),
		.handoffs = conn_facts(conn)->handoffs,
		.is_movable = conn_is_movable(conn),
		.is_half = conn_is_half(conn),
	};
	return true;
}

static bool find(uint64_t id, struct tch_session *out, void *arg)
{
	return look(conn_find(arg, id), out);
}

static bool find_flow(const struct flow_key *flow, struct tch_session *out, void *arg)
{
	return look(conn_find_flow(arg, flow), out);
}

static void on_quiet(struct conn *conn, void *arg)
{
	tch_session_quiet(arg, conn_facts(conn)->session);
}

static int quiesce(void *session, struct tch *tch, void *arg __attribute__((unused)))
{
	return conn_quiesce(session, on_quiet, tch);
}

static bool write_out(void *session, void *arg __attribute__((unused)))
{
	return conn_write_out(session);
}

static void resume(void *session, void *arg __attribute__((unused)))
{
	conn_resume(session);
}

static int put_shares(const struct conn_facts *facts, struct tch_items *items)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < facts->share_count; i++) {
		uint8_t bytes[SHARE_BYTES];
		struct bytes_writer w = bytes_writer_init(bytes, sizeof(bytes));

		bytes_put_be32(&w, facts->shares[i].volume);
		bytes_put_be64(&w, facts->shares[i].bytes);
		bytes_put_be64(&w, facts->shares[i].requests);
		rc = tch_items_put(items, TCH_ITEM_SHARE, NULL, bytes, sizeof(bytes));
	}
	return rc;
}

static int get_shares(const struct tch_items *items, struct conn_facts *facts)
{
	struct tch_item item;
	size_t at = 0;

	while (tch_items_next(items, &at, &item)) {
		struct bytes_reader r = bytes_reader_init(item.bytes, item.len);

		if (item.kind != TCH_ITEM_SHARE)
			continue;
		if (item.len != SHARE_BYTES)
			return -EBADMSG;
		if (facts->share_count == CONN_SHARES_MAX)
			break;
		facts->shares[facts->share_count++] = (struct conn_share){
			.volume = bytes_get_be32(&r),
			.bytes = bytes_get_be64(&r),
			.requests = bytes_get_be64(&r),
		};
	}
	return 0;
}

static int export(void *session, struct tch_carried *out, void *arg __attribute__((unused)))
{
	struct conn_state state;
	int rc = conn_export(session, &state);

	if (rc)
		return rc;
	out->facts.session = state.facts.session;
	out->facts.since_ns = state.facts.since_ns;
	out->facts.requests = state.facts.requests;
	out->facts.handoffs = state.facts.handoffs;
	out->facts.statistics = state.facts.statistics;
	out->input = state.input;
	out->input_len = state.input_len;
	out->output = state.output;
	out->output_len = state.output_len;
	return put_shares(&state.facts, &out->facts.items);
}

static int surrender(void *session, void *arg __attribute__((unused)))
{
	return conn_surrender(session);
}

static void close_conn(void *session, bool reset, void *arg __attribute__((unused)))
{
	conn_close(session, reset);
}

static int import(const struct tch_session *session, const struct tch_carried *carried, enum tch_kind_of_handoff kind,
		  void *arg)
{
	static const enum conn_part_served parts[TCH_NKINDS] = {
		[TCH_FULL] = CONN_WHOLE,
		[TCH_HALF_TO_DEVICES] = CONN_RECEIVES,
		[TCH_HALF_TO_CLIENT] = CONN_SENDS,
	};
	struct conn_state state = {
		.facts = {
			.session = carried->facts.session,
			.since_ns = carried->facts.since_ns,
			.requests = carried->facts.requests,
			.handoffs = carried->facts.handoffs,
			.statistics = carried->facts.statistics,
			.moved = { session->restored_len, carried->output_len, carried->input_len },
		},
		.input = carried->input,
		.input_len = carried->input_len,
		.output = carried->output,
		.output_len = carried->output_len,
		.sent_len = session->restored_len,
	};
	struct conn *conn;
	int rc = get_shares(&carried->facts.items, &state.facts);

	if (rc == 0)
		rc = conn_import(arg, session->fd, &session->flow, &session->fixed, &state, parts[kind], &conn);
	if (rc == 0 && !session->is_movable)
		conn_stay(conn);
	return rc;
}

static void note_duration(void *session, uint32_t duration_us, void *arg __attribute__((unused)))
{
	conn_facts(session)->last_handoff_us = duration_us;
}

static void drain(void *session, void *arg __attribute__((unused)))
{
	conn_drain(session);
}

static void discard(void *session, void *arg __attribute__((unused)))
{
	conn_discard(session);
}

static bool is_drained(void *session, void *arg __attribute__((unused)))
{
	return conn_is_drained(session);
}

static void take_over(void *session, void *arg __attribute__((unused)))
{
	conn_take_over(session);
}

const struct tch_server conn_moves = {
	.find = find,
	.find_flow = find_flow,
	.quiesce = quiesce,
	.write_out = write_out,
	.resume = resume,
	.export = export,
	.surrender = surrender,
	.close = close_conn,
	.import = import,
	.note_duration = note_duration,
	.drain = drain,
	.discard = discard,
	.is_drained = is_drained,
	.take_over = take_over,
};
