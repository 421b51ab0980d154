/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tcp_statistics.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

enum { STATE_CLOSED = 7 }; /* netinet/tcp.h, which cannot be included beside linux/tcp.h */

void tcp_statistics_from(const struct tcp_info *info, struct tcp_statistics *out)
{
	*out = (struct tcp_statistics){
		.segments_in = info->tcpi_segs_in,
		.segments_out = info->tcpi_segs_out,
		.segments_retransmitted = info->tcpi_total_retrans,
		.bytes_in = info->tcpi_bytes_received,
		.bytes_out = info->tcpi_bytes_acked,
	};
}

bool tcp_statistics_read(int fd, struct tcp_statistics *out)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		memset(&info, 0, sizeof(info));
	tcp_statistics_from(&info, out);
	return info.tcpi_state == STATE_CLOSED;
}

void tcp_statistics_add(struct tcp_statistics *sum, const struct tcp_statistics *more)
{
	sum->segments_in += more->segments_in;
	sum->segments_out += more->segments_out;
	sum->segments_retransmitted += more->segments_retransmitted;
	sum->bytes_in += more->bytes_in;
	sum->bytes_out += more->bytes_out;
}

void tcp_statistics_subtract(struct tcp_statistics *sum, const struct tcp_statistics *less)
{
	sum->segments_in -= less->segments_in;
	sum->segments_out -= less->segments_out;
	sum->segments_retransmitted -= less->segments_retransmitted;
	sum->bytes_in -= less->bytes_in;
	sum->bytes_out -= less->bytes_out;
}
