/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client gets a reply with bytes missing, doubled or of another reply: when the network takes little at a
 * time, when the file is cut while its pages are on their way, or when the session moves with half a reply written.
 */
#include "config.h"

#include "common/output.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FILE_BYTES = 300 * 1024 + 5, STREAM_MAX = 1 << 20 };

static int file_fd, sockets[2];
static uint8_t file_bytes[FILE_BYTES], received[STREAM_MAX];
static size_t received_len, released;
static struct output output;

/* What of a reply is where. */
static const struct reply {
	size_t len, pages_len;
} replies[] = {
	{ 28, 0 }, { 132, FILE_BYTES }, { 28, 0 }, { 33, 0 }, { 132, 64 * 1024 }, { 132, 64 * 1024 + 1 }, { 28, 0 },
};

enum { REPLIES = sizeof(replies) / sizeof(replies[0]), HELD_BYTES = 1000 };

static struct output_piece pieces[REPLIES];
static uint8_t memory[REPLIES][256], wanted[STREAM_MAX];
static size_t wanted_len;

static void on_release(struct output_piece *piece)
{
	ck_assert_ptr_eq(piece, &pieces[released]);
	released++;
}

static void setup(void)
{
	char path[] = "/tmp/vnas-test-output-XXXXXX";

	for (size_t i = 0; i < FILE_BYTES; i++)
		file_bytes[i] = (uint8_t)(i * 7 + i / 251);
	file_fd = mkstemp(path);
	ck_assert_int_ge(file_fd, 0);
	unlink(path);
	ck_assert_int_eq(write(file_fd, file_bytes, FILE_BYTES), FILE_BYTES);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets), 0);
	output_init(&output);
	released = received_len = wanted_len = 0;
}

static void teardown(void)
{
	output_fini(&output);
	ck_assert_uint_eq(released, REPLIES);
	close(file_fd);
	close(sockets[0]);
	if (sockets[1] >= 0)
		close(sockets[1]);
}

static void add_all(void)
{
	for (size_t i = 0; i < REPLIES; i++) {
		size_t pad = -replies[i].pages_len & 3;

		memset(memory[i], 'a' + (int)i, sizeof(memory[i]));
		pieces[i] = (struct output_piece){ .bytes = memory[i], .len = replies[i].len,
						   .pages_len = replies[i].pages_len, .pad = pad,
						   .held = HELD_BYTES, .release = on_release };
		memcpy(wanted + wanted_len, memory[i], replies[i].len);
		wanted_len += replies[i].len;
		if (replies[i].pages_len) {
			pieces[i].pages = page_pipe_get();
			ck_assert_ptr_nonnull(pieces[i].pages);
			ck_assert_int_eq(page_pipe_fill(pieces[i].pages, file_fd, 0, replies[i].pages_len),
					 replies[i].pages_len);
			memcpy(wanted + wanted_len, file_bytes, replies[i].pages_len);
			memset(wanted + wanted_len + replies[i].pages_len, 0, pad);
			wanted_len += replies[i].pages_len + pad;
		}
		output_add(&output, &pieces[i]);
	}
	ck_assert_uint_eq(output.len, wanted_len);
}

static void receive(size_t most)
{
	ssize_t got = recv(sockets[1], received + received_len, most, 0);

	if (got > 0)
		received_len += (size_t)got;
}

static void expect_all(void)
{
	ck_assert_uint_eq(received_len, wanted_len);
	ck_assert_mem_eq(received, wanted, wanted_len);
}

/* The network takes as much at a time as was received: one byte sometimes. */
START_TEST(all_comes_in_order)
{
	static const size_t steps[] = { 1000000, 4096, 777, 60001 };

	add_all();
	while (received_len < wanted_len) {
		ck_assert_int_eq(output_send(&output, sockets[0]), 0);
		ck_assert_uint_eq(output.held, (REPLIES - released) * HELD_BYTES);
		receive(steps[_i]);
	}
	expect_all();
	ck_assert_uint_eq(output.len + output.held, 0);
}
END_TEST

/* After any number of bytes that were written, what is left is what a handoff takes along; and it can still be sent. */
START_TEST(what_is_left_can_be_copied)
{
	uint8_t *left = malloc(STREAM_MAX);

	add_all();
	while (output.len) {
		size_t before = wanted_len - output.len;

		ck_assert_int_eq(output_copy(&output, left), 0);
		ck_assert_mem_eq(left, wanted + before, output.len);
		ck_assert_int_eq(output_send(&output, sockets[0]), 0);
		receive(50000);
	}
	while (received_len < wanted_len)
		receive(STREAM_MAX);
	expect_all();
	free(left);
}
END_TEST

/* The header has promised a length: it is kept. */
START_TEST(a_file_that_is_cut_meanwhile)
{
	add_all();
	ck_assert_int_eq(ftruncate(file_fd, 0), 0);
	while (received_len < wanted_len) {
		ck_assert_int_eq(output_send(&output, sockets[0]), 0);
		receive(STREAM_MAX);
	}
	ck_assert_uint_eq(received_len, wanted_len);
}
END_TEST

START_TEST(nobody_listens_any_more)
{
	add_all();
	close(sockets[1]);
	sockets[1] = -1;
	ck_assert_int_eq(output_send(&output, sockets[0]), -EPIPE);
}
END_TEST

/* Pipes that were given back can be had again, empty, even if they were not. */
START_TEST(pipes_are_limited)
{
	struct page_pipe *all[PAGE_PIPES_MAX];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < PAGE_PIPES_MAX; i++) {
			all[i] = page_pipe_get();
			ck_assert_ptr_nonnull(all[i]);
			ck_assert_uint_eq(page_pipe_len(all[i]), 0);
			ck_assert_int_eq(page_pipe_fill(all[i], file_fd, 4096, 8192), 8192);
		}
		ck_assert_ptr_null(page_pipe_get());
		for (size_t i = 0; i < PAGE_PIPES_MAX; i++)
			page_pipe_put(all[i]);
	}
	released = REPLIES;
}
END_TEST

START_TEST(what_a_pipe_takes)
{
	struct page_pipe *pipe = page_pipe_get();
	uint8_t bytes[100];

	ck_assert(page_pipe_fits(0, PAGE_PIPE_BYTES));
	ck_assert(page_pipe_fits(4096 * 3, 5));
	ck_assert(!page_pipe_fits(0, PAGE_PIPE_BYTES + 1));
	ck_assert(!page_pipe_fits(4095, 100));
	ck_assert(!page_pipe_fits(UINT64_MAX & ~(uint64_t)4095, 100));
	ck_assert_int_eq(page_pipe_fill(pipe, file_fd, FILE_BYTES / 4096 * 4096, 4096), FILE_BYTES % 4096);
	ck_assert_int_eq(page_pipe_copy(pipe, received), 0);
	ck_assert_mem_eq(received, file_bytes + FILE_BYTES / 4096 * 4096, FILE_BYTES % 4096);
	page_pipe_put(pipe);
	pipe = page_pipe_get();
	ck_assert_int_eq(page_pipe_fill(pipe, file_fd, 1 << 20, 4096), 0); /* past the end */
	ck_assert_int_eq(page_pipe_copy(pipe, bytes), 0);
	page_pipe_put(pipe);
	released = REPLIES;
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("output");
	TCase *tc = tcase_create("output");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tc);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, all_comes_in_order, 0, 4);
	tcase_add_test(tc, what_is_left_can_be_copied);
	tcase_add_test(tc, a_file_that_is_cut_meanwhile);
	tcase_add_test(tc, nobody_listens_any_more);
	tcase_add_test(tc, pipes_are_limited);
	tcase_add_test(tc, what_a_pipe_takes);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
