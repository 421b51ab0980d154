/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tcp_repair.h"

#include "common/congestion.h"
#include "common/log.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef TCPI_OPT_USEC_TS
#define TCPI_OPT_USEC_TS 64 /* since Linux 6.7 */
#endif

enum {
	STATE_ESTABLISHED = 1, /* netinet/tcp.h, which cannot be included beside linux/tcp.h */
	OPTION_MAXSEG = 2,
	OPTION_WINDOW = 3,
	OPTION_SACK_PERMITTED = 4,
	OPTION_TIMESTAMP = 8,
	WSCALE_MAX = 14,
	USER_MSS_MAX = 32767, /* of TCP_MAXSEG */

	READINGS_MAX = 100,
	PEEK_SLACK = 128 * 1024, /* the send queue may begin with acknowledged bytes */
	TIMESTAMP_ADVANCE = 2,	 /* the reading lost bit 0: the clock must not go back */
	PACED_BYTES_MAX = 4 * 65536, /* that a socket sends ahead of its pace: some packets of the largest size */
	PACED_MS_MIN = 10, /* the rate may have been lower when the stamp was made */
	PACED_MS_MAX = 10000,
};

static int set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) ? -errno : 0;
}

static int get_option(int fd, int level, int option, void *value, socklen_t len)
{
	return getsockopt(fd, level, option, value, &len) ? -errno : 0;
}

static int repair_on(int fd)
{
	return set_option(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
}

/*
 * No window probe: the client would ignore it (handoff.md 3.7). Repair mode leaves SO_REUSEADDR off behind it, and a
 * restarted daemon could not bind its listener while this connection exists (5.4).
 */
static int repair_off(int fd)
{
	int err = set_option(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);

	return err ? err : set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

static int select_queue(int fd, int queue)
{
	return set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue);
}

static int get_info(int fd, struct tcp_info *info)
{
	memset(info, 0, sizeof(*info));
	return get_option(fd, IPPROTO_TCP, TCP_INFO, info, sizeof(*info));
}

/* MPTCP and upper layer protocols (kTLS) keep state that is not in the socket's queues. */
static int refuse_unmovable(int fd)
{
	char upper[16] = "";
	int protocol = 0;

	if (get_option(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, sizeof(protocol)) || protocol != IPPROTO_TCP)
		return -EOPNOTSUPP;
	if (get_option(fd, IPPROTO_TCP, TCP_ULP, upper, sizeof(upper)) == 0 && upper[0])
		return -EOPNOTSUPP;
	return 0;
}

static int read_sequence(int fd, int queue, uint32_t *sequence)
{
	int err = select_queue(fd, queue);

	return err ? err : get_option(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, sequence, sizeof(*sequence));
}

/* A new connection has sent nothing yet. It may receive meanwhile: then again. */
static int read_bases(int fd, struct tcp_info *info, uint32_t *send_base, uint32_t *receive_base)
{
	uint32_t write_next, receive_next, receive_again = 0;
	int err = 0, outgoing;

	for (int i = 0; !err && i < READINGS_MAX; i++) {
		err = read_sequence(fd, TCP_RECV_QUEUE, &receive_next);
		if (!err)
			err = get_info(fd, info);
		if (!err)
			err = read_sequence(fd, TCP_RECV_QUEUE, &receive_again);
		if (!err && receive_again == receive_next)
			break;
	}
	if (!err)
		err = receive_again == receive_next ? read_sequence(fd, TCP_SEND_QUEUE, &write_next) : -EAGAIN;
	if (!err)
		err = select_queue(fd, TCP_NO_QUEUE);
	if (!err && ioctl(fd, SIOCOUTQ, &outgoing))
		err = -errno;
	if (err)
		return err;
	*send_base = write_next - (uint32_t)outgoing - (uint32_t)info->tcpi_bytes_acked;
	*receive_base = receive_next - (uint32_t)info->tcpi_bytes_received;
	return 0;
}

int tcp_repair_adopt(int fd, struct kernel_helper_static *out)
{
	struct tcp_info info;
	uint32_t mss_clamp, send_base = 0, receive_base = 0;
	int err, err_off;

	err = refuse_unmovable(fd);
	if (err)
		return err;
	err = repair_on(fd);
	if (err)
		return err;
	/* In repair mode this is the client's limit, else the current size. */
	err = get_option(fd, IPPROTO_TCP, TCP_MAXSEG, &mss_clamp, sizeof(mss_clamp));
	if (!err)
		err = read_bases(fd, &info, &send_base, &receive_base);
	err_off = repair_off(fd);
	if (err || err_off)
		return err ? err : err_off;
	*out = (struct kernel_helper_static){
		.mss_clamp = mss_clamp,
		.send_wscale = info.tcpi_snd_wscale,
		.receive_wscale = info.tcpi_rcv_wscale,
		.has_wscale = info.tcpi_options & TCPI_OPT_WSCALE,
		.has_sack = info.tcpi_options & TCPI_OPT_SACK,
		.has_timestamps = info.tcpi_options & TCPI_OPT_TIMESTAMPS,
		.send_base = send_base,
		.receive_base = receive_base,
	};
	return 0;
}

/* What must not change while the queues are read. All in bytes or sequence numbers. */
struct reading {
	int incoming, outgoing;
	uint32_t receive_next, write_next;
};

/*
 * The numbers follow from what the kernel counts: no queue is selected, which would take twice as many calls, and is not good for the
 * one that sends (count_unsent()).
 */
static int take_reading(int fd, const struct kernel_helper_static *fixed, struct tcp_info *info, struct reading *r)
{
	int err;

	if (ioctl(fd, SIOCINQ, &r->incoming) || ioctl(fd, SIOCOUTQ, &r->outgoing))
		return -errno;
	err = get_info(fd, info);
	if (err)
		return err;
	r->receive_next = fixed->receive_base + (uint32_t)info->tcpi_bytes_received;
	r->write_next = fixed->send_base + (uint32_t)info->tcpi_bytes_acked + (uint32_t)r->outgoing;
	return 0;
}

/*
 * The last @want bytes of the selected queue. A peek at the send queue yields whole packets, also the acknowledged
 * part of the first one, and returns their length whether they fitted or not (handoff.md 3.3): @slack is for those.
 */
static int peek_queue(int fd, size_t want, size_t slack, uint8_t **out)
{
	size_t size = want + slack;

	for (int i = 0; i < 3; i++) {
		uint8_t *bytes = malloc(size);
		ssize_t len;

		if (!bytes)
			return -ENOMEM;
		len = recv(fd, bytes, size, MSG_PEEK | MSG_DONTWAIT);
		if (len >= (ssize_t)want && len <= (ssize_t)size) {
			memmove(bytes, bytes + (size_t)len - want, want);
			*out = bytes;
			return 0;
		}
		free(bytes);
		if (len < (ssize_t)want)
			return -EAGAIN;
		size = (size_t)len + slack;
	}
	return -EAGAIN;
}

static int peek_if_any(int fd, int queue, int want, uint8_t **out)
{
	int err;

	*out = NULL;
	if (want <= 0)
		return 0;
	err = select_queue(fd, queue);
	return err ? err : peek_queue(fd, (size_t)want, queue == TCP_SEND_QUEUE ? PEEK_SLACK : 0, out);
}

static int copy_bytes(const uint8_t *from, size_t len, uint8_t **out)
{
	*out = NULL;
	if (len == 0)
		return 0;
	*out = malloc(len);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, from, len);
	return 0;
}

/* The send queue falls into what the client may have and what never left. */
static int split_send_queue(const uint8_t *queue, struct kernel_helper_state *s)
{
	int err;

	err = copy_bytes(queue, s->sent_len, &s->sent);
	if (!err)
		err = copy_bytes(queue + s->sent_len, s->unsent_len, &s->unsent);
	return err;
}

static int read_queues(int fd, const struct reading *r, int unsent, bool keeps_sending, struct kernel_helper_state *s)
{
	uint8_t *queue;
	int err;

	if (unsent > r->outgoing)
		return -EAGAIN;
	err = peek_if_any(fd, TCP_RECV_QUEUE, r->incoming, &s->received);
	if (err)
		return err;
	s->received_len = s->received ? (size_t)r->incoming : 0;
	s->sent_len = (size_t)(r->outgoing - unsent);
	s->unsent_len = (size_t)unsent;
	if (keeps_sending)
		return 0;
	err = peek_if_any(fd, TCP_SEND_QUEUE, r->outgoing, &queue);
	if (!err && queue)
		err = split_send_queue(queue, s);
	free(queue);
	return err;
}

static int read_window(int fd, struct kernel_helper_state *s)
{
	struct tcp_repair_window w;
	int err = get_option(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w));

	if (err)
		return err;
	s->window_snd_wl1 = w.snd_wl1;
	s->window_snd_wnd = w.snd_wnd;
	s->window_max_window = w.max_window;
	s->window_rcv_wnd = w.rcv_wnd;
	s->window_rcv_wup = w.rcv_wup;
	return 0;
}

static uint32_t stamps_ahead_ms(const struct tcp_info *info)
{
	uint64_t rate = info->tcpi_pacing_rate, ms = rate ? (uint64_t)PACED_BYTES_MAX * 1000 / rate : 0;

	return ms > PACED_MS_MAX ? PACED_MS_MAX : PACED_MS_MIN + (uint32_t)ms;
}

/*
 * A paced socket (BBR's are) stamps what it sends, acknowledgments too, with the time at which its last packet should have
 * ended. The client has seen that stamp, and takes nothing older (RFC 7323, 5.3): the clock has to begin after it.
 *
 * Bit 0 is no time: it says that the clock counts microseconds. Set by mistake, the clock would run a thousand times too
 * fast, and after half an hour of silence the client would take the next stamp for an old one.
 */
static uint32_t next_stamp(uint32_t stamp, const struct tcp_info *info)
{
	bool counts_us = info->tcpi_options & TCPI_OPT_USEC_TS;
	uint32_t ahead = stamps_ahead_ms(info) * (counts_us ? 1000 : 1);

	return ((stamp + ahead + 1) & ~1u) | counts_us;
}

/*
 * The next device's kernel begins without them, with a retransmission timeout of 3 s until the first acknowledgment, which brings a
 * measurement: connect() in repair mode sets it last (tcp_init_metrics()), after a sockops program could have named another. Nor can
 * the threshold be set alone: TCP_BPF_SNDCWND_CLAMP limits the window, too. What may be restored, is: common/congestion.h. The
 * persist and delayed ACK timers follow from the window and from what was received; keepalive begins anew, as if a packet had come.
 */
static void note_timers(const struct tcp_info *info, struct kernel_helper_timers *timers)
{
	*timers = (struct kernel_helper_timers){
		.round_trip_us = info->tcpi_rtt,
		.round_trip_variance_us = info->tcpi_rttvar,
		.retransmission_us = info->tcpi_rto,
		.slow_start_threshold = info->tcpi_snd_ssthresh,
	};
}

static int read_rest(int fd, struct kernel_helper_state *s)
{
	int err;

	err = read_window(fd, s);
	if (!err)
		err = get_option(fd, IPPROTO_TCP, TCP_TIMESTAMP, &s->timestamp, sizeof(s->timestamp));
	if (!err)
		err = get_option(fd, SOL_SOCKET, SO_RCVBUF, &s->receive_buffer, sizeof(s->receive_buffer));
	if (!err)
		err = get_option(fd, SOL_SOCKET, SO_SNDBUF, &s->send_buffer, sizeof(s->send_buffer));
	return err;
}

static void note_info(const struct tcp_info *info, struct kernel_helper_state *s)
{
	s->congestion_window = info->tcpi_snd_cwnd;
	tcp_statistics_from(info, &s->statistics);
	note_timers(info, &s->timers);
	s->timestamp = next_stamp(s->timestamp, info);
}

/* A packet that passed the node program before the hold may still be at work on another CPU (handoff.md 3.2). */
static int read_once(int fd, int unsent, bool keeps_sending, struct kernel_helper_state *s)
{
	struct reading before = { 0 }, after = { 0 };
	struct tcp_info info;
	int err;

	err = take_reading(fd, &s->fixed, &info, &before);
	if (!err && info.tcpi_state != STATE_ESTABLISHED)
		err = -ENOTCONN;
	if (!err)
		err = read_queues(fd, &before, unsent, keeps_sending, s);
	if (!err)
		err = read_rest(fd, s);
	if (!err)
		err = take_reading(fd, &s->fixed, &info, &after);
	if (!err && info.tcpi_state != STATE_ESTABLISHED)
		err = -ENOTCONN;
	if (!err && memcmp(&before, &after, sizeof(before)) != 0)
		err = -EAGAIN;
	if (err)
		return err;
	note_info(&info, s);
	s->send_unacknowledged = before.write_next - (uint32_t)before.outgoing;
	s->receive_next = before.receive_next;
	return 0;
}

/*
 * While the send queue is selected, an ACK or a finished transmission makes the kernel take all unsent bytes for sent,
 * without sending them; only a retransmission would send them, after a second at the second device, after 200 ms here
 * if the connection stays. So the unsent bytes are counted before. What was on its way into the network before the hold
 * has left with repair mode on (both take the socket's lock), what came later was refused by the node program and
 * counts as unsent: the number cannot change. (Who enters repair mode has no queue selected.)
 */
static int count_unsent(int fd, int *unsent)
{
	return ioctl(fd, SIOCOUTQNSD, unsent) ? -errno : 0;
}

int tcp_repair_freeze(int fd, const struct flow_key *flow, const struct kernel_helper_static *fixed,
		      bool keeps_sending, struct kernel_helper_state *out)
{
	struct kernel_helper_state s = { 0 };
	int unsent, err, err_queue;

	err = repair_on(fd);
	if (!err)
		err = count_unsent(fd, &unsent);
	if (err)
		return err;
	err = -EAGAIN;
	for (int i = 0; err == -EAGAIN && i < READINGS_MAX; i++) {
		kernel_helper_state_fini(&s);
		s = (struct kernel_helper_state){ .flow = *flow, .fixed = *fixed };
		err = read_once(fd, unsent, keeps_sending, &s);
	}
	err_queue = select_queue(fd, TCP_NO_QUEUE);
	if (err || err_queue) {
		kernel_helper_state_fini(&s);
		return err ? err : err_queue;
	}
	*out = s;
	return 0;
}

static int set_sequence(int fd, int queue, uint32_t sequence)
{
	int err = select_queue(fd, queue);

	return err ? err : set_option(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, (int)sequence);
}

/* Before connect, which computes the window from it. SO_BUF_LOCK 0 gives auto-tuning back. */
static int restore_buffers(int fd, const struct kernel_helper_state *s)
{
	uint32_t send_buffer = s->send_buffer / 2; /* the kernel doubles what is set */
	int err;

	if (send_buffer < 2 * s->sent_len)
		send_buffer = (uint32_t)(2 * s->sent_len);
	err = set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, (int)(s->receive_buffer / 2));
	if (!err)
		err = set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, (int)send_buffer);
	return err ? err : set_option(fd, SOL_SOCKET, SO_BUF_LOCK, 0);
}

/*
 * Before connect, which computes the size of segments from it: the repair option MAXSEG alone is looked at only when
 * the path's MTU changes, and until then segments would be of 536 bytes.
 */
static int restore_segment_size(int fd, const struct kernel_helper_state *s)
{
	uint32_t size = s->fixed.mss_clamp < USER_MSS_MAX ? s->fixed.mss_clamp : USER_MSS_MAX;

	return set_option(fd, IPPROTO_TCP, TCP_MAXSEG, (int)size);
}

static socklen_t address_len(const struct sockaddr_storage *ss)
{
	return ss->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* Repair mode was on before: the listener at the same address is no conflict. */
static int restore_vip(int fd, const struct kernel_helper_state *s)
{
	struct sockaddr_storage client, vip;

	flow_to_sockets(&s->flow, &client, &vip);
	return bind(fd, (struct sockaddr *)&vip, address_len(&vip)) ? -errno : 0;
}

/* In repair mode connect() sends nothing. */
static int restore_client(int fd, const struct kernel_helper_state *s)
{
	struct sockaddr_storage client, vip;
	int err;

	flow_to_sockets(&s->flow, &client, &vip);
	err = set_sequence(fd, TCP_RECV_QUEUE, s->receive_next);
	if (!err)
		err = set_sequence(fd, TCP_SEND_QUEUE, s->send_unacknowledged);
	if (err)
		return err;
	return connect(fd, (struct sockaddr *)&client, address_len(&client)) ? -errno : 0;
}

static int restore_options(int fd, const struct kernel_helper_state *s)
{
	struct tcp_repair_opt options[4];
	socklen_t count = 0;

	if (s->fixed.has_wscale)
		options[count++] = (struct tcp_repair_opt){
			OPTION_WINDOW, s->fixed.send_wscale | (uint32_t)s->fixed.receive_wscale << 16 };
	if (s->fixed.has_sack)
		options[count++] = (struct tcp_repair_opt){ OPTION_SACK_PERMITTED, 0 };
	if (s->fixed.has_timestamps)
		options[count++] = (struct tcp_repair_opt){ OPTION_TIMESTAMP, 0 };
	options[count++] = (struct tcp_repair_opt){ OPTION_MAXSEG, s->fixed.mss_clamp };
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, count * (socklen_t)sizeof(options[0])))
		return -errno;
	if (!s->fixed.has_timestamps)
		return 0;
	return set_option(fd, IPPROTO_TCP, TCP_TIMESTAMP, (int)(s->timestamp + TIMESTAMP_ADVANCE));
}

/* In repair mode these count as sent: nothing leaves. */
static int restore_sent(int fd, const struct kernel_helper_state *s)
{
	size_t done = 0;
	int err = select_queue(fd, TCP_SEND_QUEUE);

	while (!err && done < s->sent_len) {
		ssize_t len = send(fd, s->sent + done, s->sent_len - done, MSG_NOSIGNAL);

		if (len > 0)
			done += (size_t)len;
		else
			err = errno == EAGAIN ? -ENOBUFS : -errno;
	}
	return err ? err : select_queue(fd, TCP_NO_QUEUE);
}

/* The last step in repair mode, so that the window never shrinks. */
static int restore_window(int fd, const struct kernel_helper_state *s)
{
	struct tcp_repair_window w = {
		.snd_wl1 = s->window_snd_wl1,
		.snd_wnd = s->window_snd_wnd,
		.max_window = s->window_max_window,
		.rcv_wnd = s->window_rcv_wnd,
		.rcv_wup = s->window_rcv_wup,
	};

	return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)) ? -errno : 0;
}

static int wake_up(int fd, const struct kernel_helper_state *s __attribute__((unused)))
{
	int err = repair_off(fd);

	return err ? err : set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

static const struct restore_step {
	const char *name;
	int (*run)(int fd, const struct kernel_helper_state *state);
} restore_steps[] = {
	{ "segment size", restore_segment_size },
	{ "VIP", restore_vip },
	{ "buffers", restore_buffers },
	{ "client", restore_client },
	{ "options", restore_options },
	{ "sent bytes", restore_sent },
	{ "window", restore_window },
	{ "wake-up", wake_up },
};

/* So many of them can be done before the connection is frozen. */
enum { PREPARED_STEPS = 2, RESTORE_STEPS = sizeof(restore_steps) / sizeof(restore_steps[0]) };

static int run_restore_steps(int fd, const struct kernel_helper_state *state, size_t from, size_t to)
{
	char text[FLOW_TEXT_MAX];
	int err;

	for (size_t i = from; i < to; i++) {
		err = restore_steps[i].run(fd, state);
		if (err) {
			log_warn("tcp_repair", "flow=\"%s\" not restored: %s: %s", flow_text(&state->flow, text),
				 restore_steps[i].name, strerror(-err));
			return err;
		}
	}
	return 0;
}

static bool is_consistent(const struct kernel_helper_state *s)
{
	return s->flow.protocol == IPPROTO_TCP && s->fixed.mss_clamp > 0 && s->fixed.mss_clamp <= UINT16_MAX &&
	       s->fixed.send_wscale <= WSCALE_MAX && s->fixed.receive_wscale <= WSCALE_MAX &&
	       (s->sent || s->sent_len == 0) && s->sent_len < INT32_MAX / 2 && s->receive_buffer <= INT32_MAX &&
	       s->send_buffer <= INT32_MAX;
}

int tcp_repair_sketch(int fd, const struct flow_key *flow, const struct kernel_helper_static *fixed,
		      struct kernel_helper_state *out)
{
	struct kernel_helper_state s = { .flow = *flow, .fixed = *fixed };
	int err;

	err = get_option(fd, SOL_SOCKET, SO_RCVBUF, &s.receive_buffer, sizeof(s.receive_buffer));
	if (!err)
		err = get_option(fd, SOL_SOCKET, SO_SNDBUF, &s.send_buffer, sizeof(s.send_buffer));
	if (!err)
		*out = s;
	return err;
}

int tcp_repair_prepare(const struct kernel_helper_state *sketch, int *out)
{
	int err, fd;

	if (!is_consistent(sketch))
		return -EINVAL;
	fd = socket(flow_is_ipv4(&sketch->flow) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = repair_on(fd);
	if (!err)
		err = run_restore_steps(fd, sketch, 0, PREPARED_STEPS);
	if (err) {
		tcp_repair_silence(fd);
		return err;
	}
	*out = fd;
	return 0;
}

int tcp_repair_restore(const struct kernel_helper_state *state, struct congestion *congestion, int prepared, int *out)
{
	int err = is_consistent(state) ? 0 : -EINVAL;

	if (!err && prepared < 0)
		err = tcp_repair_prepare(state, &prepared);
	if (!err) {
		congestion_wish(congestion, prepared, state->congestion_window); /* without, it is slow for some round trips */
		err = run_restore_steps(prepared, state, PREPARED_STEPS, RESTORE_STEPS);
	}
	if (!err)
		*out = prepared;
	else if (prepared >= 0)
		tcp_repair_silence(prepared);
	return err;
}

/* Bit 0 of what is read and written is no time: see next_stamp(). */
int tcp_repair_stamp_after(int fd, uint32_t stamp)
{
	uint32_t now, later = (stamp + TIMESTAMP_ADVANCE + 1) & ~1u;
	int err, err_off;

	err = repair_on(fd);
	if (err)
		return err;
	err = get_option(fd, IPPROTO_TCP, TCP_TIMESTAMP, &now, sizeof(now));
	if (!err && (int32_t)(now - stamp) <= 0)
		err = set_option(fd, IPPROTO_TCP, TCP_TIMESTAMP, (int)(later | (now & 1)));
	err_off = repair_off(fd);
	return err ? err : err_off;
}

int tcp_repair_thaw(int fd)
{
	return repair_off(fd);
}

/* Setting it sends what is pending, also if it is set already (tcp(7), TCP_NODELAY). */
void tcp_repair_push(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/* The kernel counts acknowledged bytes from the restore on. */
bool tcp_repair_is_settled(int fd, size_t restored_len)
{
	struct tcp_info info;

	if (get_info(fd, &info))
		return true;
	return info.tcpi_bytes_acked >= restored_len &&
	       (info.tcpi_ca_state == TCP_CA_Open || info.tcpi_ca_state == TCP_CA_CWR);
}

void tcp_repair_silence(int fd)
{
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

	repair_on(fd);
	connect(fd, &nowhere, sizeof(nowhere));
	close(fd);
}

void tcp_repair_reset(int fd)
{
	struct linger now = { .l_onoff = 1 };

	repair_off(fd);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}
