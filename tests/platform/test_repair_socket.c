/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a handed off connection cannot be restored beside the listener of the same address, or a restarted
 * daemon cannot listen while such a connection lives, or a client sees a FIN or RST from the device it left.
 *
 * One connection on lo, moved from its socket into a new one of the same namespace, without BPF.
 */
#include "config.h"

#include "common/tcp_repair.h"
#include "tests/platform/connection.h"
#include "tests/platform/netns.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* An established socket blocks a new listener unless it has SO_REUSEADDR, which repair mode takes away. */
static int replace_listener(int netns, int listener, const char *address)
{
	close(listener);
	return netns_listen(netns, address, 2049);
}

static bool is_quiet(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };

	return poll(&p, 1, 100) == 0;
}

static void expect_echo(int from, int to, const char *text)
{
	struct pollfd p = { .fd = to, .events = POLLIN };
	char got[64] = "";

	CHECK(send(from, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
	CHECK(poll(&p, 1, 2000) == 1);
	CHECK(recv(to, got, sizeof(got) - 1, 0) == (ssize_t)strlen(text));
	CHECK(strcmp(got, text) == 0);
}

static int segment_size(int fd)
{
	int size = 0;
	socklen_t len = sizeof(size);

	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &size, &len) == 0);
	return size;
}

/* What the kernel counts tells where its bytes are, without a look at its send queue. */
static void expect_same_place(struct connection *c)
{
	struct kernel_helper_state half, full;

	CHECK_OK(tcp_repair_freeze(c->server, &c->flow, &c->fixed, true, &half));
	CHECK_OK(tcp_repair_freeze(c->server, &c->flow, &c->fixed, false, &full));
	CHECK(half.send_unacknowledged == full.send_unacknowledged && half.receive_next == full.receive_next);
	CHECK(half.sent_len == full.sent_len && half.unsent_len == full.unsent_len && !half.sent && !half.unsent);
	kernel_helper_state_fini(&half);
	kernel_helper_state_fini(&full);
}

/* Leaves bytes in both queues of the server: unread ones from the client, and acknowledged ones are all gone. */
static void move(struct connection *c, struct kernel_helper_state *state)
{
	CHECK(send(c->client, "unread", 6, 0) == 6);
	usleep(1000);
	expect_same_place(c);
	CHECK_OK(tcp_repair_freeze(c->server, &c->flow, &c->fixed, false, state));
	CHECK(state->received_len == 6 && memcmp(state->received, "unread", 6) == 0);
	CHECK(state->sent_len == 0 && state->unsent_len == 0);
	tcp_repair_silence(c->server);
	CHECK(is_quiet(c->client));
	CHECK_OK(tcp_repair_restore(state, NULL, -1, &c->server));
	c->fixed.send_base = state->send_unacknowledged;
	c->fixed.receive_base = state->receive_next;
	kernel_helper_state_fini(state);
}

/* Binding without repair mode is refused, which shows that the test would notice. */
static void expect_bind_conflict(const char *address)
{
	struct sockaddr_storage ss;
	socklen_t len = netns_address(address, 2049, &ss);
	int fd = socket(ss.ss_family, SOCK_STREAM, 0);

	CHECK(bind(fd, (struct sockaddr *)&ss, len) < 0 && errno == EADDRINUSE);
	close(fd);
}

static void test_address(int netns, const char *address)
{
	int listener = netns_listen(netns, address, 2049);
	struct connection c = connection_make(netns, listener, address);
	uint64_t resets = netns_counter(netns, "Tcp", "OutRsts");
	struct kernel_helper_state state;
	int size = segment_size(c.server);

	CHECK(c.fixed.has_timestamps && c.fixed.has_sack && c.fixed.has_wscale && c.fixed.mss_clamp > 1000);
	expect_echo(c.client, c.server, "before");
	expect_bind_conflict(address);
	listener = replace_listener(netns, listener, address);
	move(&c, &state);
	expect_echo(c.client, c.server, "to the new socket");
	expect_echo(c.server, c.client, "from the new socket");
	CHECK(segment_size(c.server) == size);
	listener = replace_listener(netns, listener, address);
	CHECK(netns_counter(netns, "Tcp", "OutRsts") == resets);

	/* A connection that the client half closed is not moved; it goes on. */
	CHECK(shutdown(c.client, SHUT_WR) == 0);
	CHECK(tcp_repair_freeze(c.server, &c.flow, &c.fixed, false, &state) == -ENOTCONN);
	CHECK_OK(tcp_repair_thaw(c.server));
	expect_echo(c.server, c.client, "thawed");

	tcp_repair_reset(c.server);
	CHECK(netns_counter(netns, "Tcp", "OutRsts") == resets + 1);
	close(c.client);
	close(listener);
	printf("ok: %s\n", address);
}

/*
 * A paced socket stamps its acknowledgments with the time at which the next packet is due. The client takes none with an
 * older stamp (RFC 7323, 5), so the new socket must not be behind.
 */
static void test_paced(int netns, const char *address)
{
	static char bulk[256 * 1024];
	int listener = netns_listen(netns, address, 2049), quick = 1, rate = 1000000; /* bytes per second */
	struct connection c = connection_make(netns, listener, address);
	uint64_t rejected = netns_counter(netns, "TcpExt", "PAWSEstab");
	struct kernel_helper_state state;
	size_t got = 0;

	CHECK(setsockopt(c.server, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof(rate)) == 0);
	for (int i = 0; i < 10; i++) /* the first ones are not paced */
		expect_echo(c.server, c.client, "unpaced");
	CHECK(send(c.server, bulk, sizeof(bulk), MSG_DONTWAIT | MSG_NOSIGNAL) > 0);
	CHECK(setsockopt(c.server, IPPROTO_TCP, TCP_QUICKACK, &quick, sizeof(quick)) == 0);
	CHECK(send(c.client, "acknowledge", 11, 0) == 11);
	CHECK_OK(tcp_repair_freeze(c.server, &c.flow, &c.fixed, false, &state));
	tcp_repair_silence(c.server);
	CHECK(state.unsent_len > 0);
	CHECK_OK(tcp_repair_restore(&state, NULL, -1, &c.server));
	CHECK(send(c.server, state.unsent, state.unsent_len, MSG_NOSIGNAL) > 0);
	while (got < state.sent_len + state.unsent_len) {
		struct pollfd p = { .fd = c.client, .events = POLLIN };
		ssize_t len;

		CHECK(poll(&p, 1, 5000) == 1);
		len = recv(c.client, bulk, sizeof(bulk), 0);
		CHECK(len > 0);
		got += (size_t)len;
	}
	CHECK(netns_counter(netns, "TcpExt", "PAWSEstab") == rejected);
	kernel_helper_state_fini(&state);
	tcp_repair_reset(c.server);
	close(c.client);
	close(listener);
	printf("ok: %s, paced\n", address);
}

/* One that counts microseconds is soon so far ahead that the client takes stamps after a pause for old ones. */
static void expect_later_stamps(struct connection *c, uint32_t stamp)
{
	struct kernel_helper_state state;

	CHECK_OK(tcp_repair_stamp_after(c->server, stamp));
	CHECK_OK(tcp_repair_freeze(c->server, &c->flow, &c->fixed, true, &state));
	CHECK_OK(tcp_repair_thaw(c->server));
	CHECK((int32_t)(state.timestamp - stamp) > 0 && !(state.timestamp & 1));
	kernel_helper_state_fini(&state);
}

static void test_clock(int netns, const char *address)
{
	static const int rates[] = { 900000, 1000000 }; /* an odd and an even number of milliseconds to allow for */
	int listener = netns_listen(netns, address, 2049);
	struct connection c = connection_make(netns, listener, address);

	for (size_t i = 0; i < 2; i++) {
		struct kernel_helper_state state;

		CHECK(setsockopt(c.server, SOL_SOCKET, SO_MAX_PACING_RATE, &rates[i], sizeof(rates[i])) == 0);
		move(&c, &state);
		CHECK(!(state.timestamp & 1)); /* which would be a restored clock of microseconds, since Linux 6.7 */
		expect_later_stamps(&c, state.timestamp + 1000 + (uint32_t)i);
		expect_echo(c.client, c.server, "to the new socket");
	}
	tcp_repair_reset(c.server);
	close(c.client);
	close(listener);
	printf("ok: %s, clock\n", address);
}

int main(void)
{
	int netns;

	netns_setup(false);
	netns = netns_new();
	netns_enter(netns);
	netns_run(netns, "ip link set lo mtu 9000");
	test_address(netns, "127.0.0.1");
	test_address(netns, "::1");
	test_paced(netns, "127.0.0.1");
	test_paced(netns, "::1");
	test_clock(netns, "127.0.0.1");
	return 0;
}
