/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/session_look.h"

#include "common/conn.h"
#include "common/loop.h"
#include "common/tch.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

static void look_at_socket(struct conn *conn, scp_session_facts *out)
{
	struct tcp_statistics all = { 0 };
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(conn_fd(conn), IPPROTO_TCP, TCP_INFO, &info, &len) == 0) {
		tcp_statistics_from(&info, &all);
		out->congestion_window = info.tcpi_snd_cwnd;
		out->segment_bytes = info.tcpi_snd_mss;
		out->round_trip_us = info.tcpi_rtt;
	}
	tcp_statistics_add(&all, &conn_facts(conn)->statistics);
	out->segments_in = all.segments_in;
	out->segments_out = all.segments_out;
	out->segments_retransmitted = all.segments_retransmitted;
	out->bytes_in = all.bytes_in;
	out->bytes_out = all.bytes_out;
}

static void look_at_conn(struct conn *conn, scp_session_facts *out)
{
	const struct conn_moved *moved = &conn_facts(conn)->moved;

	out->result = 0;
	out->moved_sent = moved->sent;
	out->moved_unsent = moved->unsent;
	out->moved_received = moved->received;
	look_at_socket(conn, out);
}

void session_look(struct conn_server *conns, struct loops *loops, struct tch *tch, uint64_t session,
		  scp_session_facts *out)
{
	struct tch_standing standing;
	struct conn *conn;

	*out = (scp_session_facts){ .session = session, .result = ENOENT, .state = (char *)"" };
	loops_pause(loops);
	conn = conns ? conn_find(conns, session) : NULL;
	if (conn)
		look_at_conn(conn, out);
	loops_continue(loops);
	if (conn && tch && tch_so_state(tch, session, &standing) == 0) {
		out->state = (char *)standing.state;
		out->node = standing.node;
	}
}
