/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, the session between two devices breaks when one of them reads slowly, and with it relayed calls and
 * handoffs under way; or the bytes of one message end up in another.
 *
 * Two streams over a socket pair whose buffers are small, so that most writes are cut short. What is sent counts its
 * own bytes, so a lost, repeated or changed one shows.
 */
#include "config.h"

#include "scp/tls_stream.h"

#include "common/certificates.h"

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PERIOD = 251, SOCKET_BYTES = 4096, PIECE = 3000, ROUNDS = 400 };

static const uint8_t cluster[16] = "a cluster, maybe";
static char top[64];
static struct event_base *base;
static SSL_CTX *tls;

static struct side {
	struct tls_stream *stream;
	size_t received, may_read, wrong; /* bytes */
	int error;
} sender, reader;

static size_t sent;

static uint8_t byte_at(size_t position)
{
	return (uint8_t)(position % PERIOD);
}

static void on_progress(void *arg)
{
	struct side *side = arg;
	uint8_t bytes[PIECE];

	while (side->may_read) {
		size_t want = side->may_read < sizeof(bytes) ? side->may_read : sizeof(bytes);
		ssize_t n = tls_stream_read(side->stream, bytes, want);

		if (n <= 0) {
			side->error = n == -EAGAIN ? 0 : n == 0 ? -ECONNRESET : (int)n;
			return;
		}
		for (ssize_t i = 0; i < n; i++)
			side->wrong += bytes[i] != byte_at(side->received + (size_t)i);
		side->received += (size_t)n;
		side->may_read -= (size_t)n;
	}
}

/* Let the reader take @len bytes; the sender never has anything to read, but looks for its errors. */
static void let_read(size_t len)
{
	reader.may_read += len;
	tls_stream_read_later(reader.stream);
	for (int i = 0; i < 4; i++)
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	ck_assert_msg(!sender.error && !reader.error, "%s; %s", tls_stream_why(sender.stream),
		      tls_stream_why(reader.stream));
}

static void send_bytes(size_t len)
{
	uint8_t *bytes = malloc(len);

	for (size_t i = 0; i < len; i++)
		bytes[i] = byte_at(sent + i);
	ck_assert_int_eq(tls_stream_write(sender.stream, bytes, len), 0);
	sent += len;
}

static void open_side(struct side *side, int fd, bool is_server)
{
	struct tls_stream_options options = {
		.base = base, .tls = tls, .is_server = is_server, .on_progress = on_progress, .arg = side
	};
	int size = SOCKET_BYTES;

	*side = (struct side){ .may_read = is_server ? 0 : 1 };
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	ck_assert_int_eq(tls_stream_new(&options, fd, &side->stream), 0);
}

static void set_up(void)
{
	char pki[80];
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	snprintf(top, sizeof(top), "/tmp/test_tls_stream.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(pki, sizeof(pki), "%s/pki", top);
	ck_assert_int_eq(certificates_init(pki, cluster, 36000, 3600), 0);
	ck_assert_int_eq(certificates_tls(pki, &tls), 0);
	base = event_base_new();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	open_side(&reader, fds[0], true);
	open_side(&sender, fds[1], false);
	for (int i = 0; i < 1000 && !(tls_stream_is_open(sender.stream) && tls_stream_is_open(reader.stream)); i++)
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	ck_assert(tls_stream_is_open(sender.stream) && tls_stream_is_open(reader.stream));
	sent = 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path);
}

static void tear_down(void)
{
	tls_stream_free(sender.stream);
	tls_stream_free(reader.stream);
	SSL_CTX_free(tls);
	event_base_free(base);
	nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void read_the_rest(void)
{
	for (int i = 0; i < 20000 && reader.received < sent; i++)
		let_read(sent - reader.received - reader.may_read);
	ck_assert_uint_eq(reader.received, sent);
	ck_assert_uint_eq(reader.wrong, 0);
	ck_assert_uint_eq(tls_stream_queued(sender.stream), 0);
}

/* Sizes around what is copied into the queue, what a record holds, and far more, read in no step with them. */
START_TEST(test_any_sizes)
{
	static const size_t sizes[] = { 20, 100, 900, 1500, 3000, 4095, 4096, 4097, 9000, 16384, 16385, 20000, 70000 };
	unsigned int seed = (unsigned int)_i;

	for (int i = 0; i < ROUNDS; i++) {
		if (tls_stream_queued(sender.stream) < 200000)
			send_bytes(sizes[(size_t)rand_r(&seed) % (sizeof(sizes) / sizeof(sizes[0]))]);
		if (rand_r(&seed) % 2)
			let_read((size_t)rand_r(&seed) % 30000);
	}
	read_the_rest();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tls_stream");
	TCase *any = tcase_create("any");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(any, set_up, tear_down);
	tcase_set_timeout(any, 60);
	tcase_add_loop_test(any, test_any_sizes, 0, 8);
	suite_add_tcase(suite, any);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
