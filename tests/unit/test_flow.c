/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, the switch and the devices look up a client's connection under different keys: packets of a handed off
 * connection go to the wrong machine, or are not sorted when they were parked.
 */
#include "config.h"

#include "common/flow.h"
#include "common/park.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct sockaddr_storage endpoint(const char *address, uint16_t port)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
	} else if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
	}
	return ss;
}

static const struct {
	const char *client, *vip, *text;
	uint8_t protocol;
	bool is_ipv4;
} cases[] = {
	{ "10.0.0.2", "10.0.0.1", "tcp 10.0.0.2:801-10.0.0.1:2049", IPPROTO_TCP, true },
	{ "10.0.0.2", "10.0.0.1", "udp 10.0.0.2:801-10.0.0.1:2049", IPPROTO_UDP, true },
	{ "2001:db8::2", "2001:db8::1", "tcp [2001:db8::2]:801-[2001:db8::1]:2049", IPPROTO_TCP, false },
	{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
	  "tcp [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:801-[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:2049",
	  IPPROTO_TCP, false },
};

START_TEST(there_and_back)
{
	struct sockaddr_storage client = endpoint(cases[_i].client, 801), vip = endpoint(cases[_i].vip, 2049);
	struct sockaddr_storage client2, vip2;
	char text[FLOW_TEXT_MAX];
	struct flow_key flow;

	ck_assert_int_eq(flow_from_sockets(&client, &vip, cases[_i].protocol, &flow), 0);
	ck_assert_str_eq(flow_text(&flow, text), cases[_i].text);
	ck_assert_int_eq(flow_is_ipv4(&flow), cases[_i].is_ipv4);
	flow_to_sockets(&flow, &client2, &vip2);
	ck_assert_mem_eq(&client, &client2, sizeof(client));
	ck_assert_mem_eq(&vip, &vip2, sizeof(vip));
}
END_TEST

/* A dual-stack listener sees IPv4 clients as ::ffff:a.b.c.d; the packet has IPv4 addresses. */
START_TEST(mapped_is_the_same_flow)
{
	struct sockaddr_storage client = endpoint("10.0.0.2", 801), vip = endpoint("10.0.0.1", 2049);
	struct sockaddr_storage client6 = endpoint("::ffff:10.0.0.2", 801), vip6 = endpoint("::ffff:10.0.0.1", 2049);
	struct flow_key flow, flow6;

	ck_assert_int_eq(flow_from_sockets(&client, &vip, IPPROTO_TCP, &flow), 0);
	ck_assert_int_eq(flow_from_sockets(&client6, &vip6, IPPROTO_TCP, &flow6), 0);
	ck_assert_mem_eq(&flow, &flow6, sizeof(flow));
}
END_TEST

START_TEST(other_families_are_refused)
{
	struct sockaddr_storage vip = endpoint("10.0.0.1", 2049), local = { .ss_family = AF_UNIX };
	struct flow_key flow = { .zero = { 7 } };

	ck_assert_int_eq(flow_from_sockets(&local, &vip, IPPROTO_TCP, &flow), -EAFNOSUPPORT);
	ck_assert_int_eq(flow_from_sockets(&vip, &local, IPPROTO_TCP, &flow), -EAFNOSUPPORT);
	ck_assert_int_eq(flow.zero[0], 7);
}
END_TEST

/* Ethernet; IPv4 with one word of options, or IPv6; TCP from 0x01020304 on, three bytes and FIN; a byte of padding. */
#define TCP 0x03, 0x21, 0x08, 0x01, 1, 2, 3, 4, 9, 9, 9, 9, 0x60, 0x11, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1
enum { END_OF_FLAGS = 14, TCP_AND_REST = 24 + 3 + 1 };
static const uint8_t ipv4_frame[] = {
	2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x46, 0, 0, 51, 0, 0, 0x40, 0, 64, IPPROTO_TCP, 0, 0,
	10, 0, 0, 2, 10, 0, 0, 1, 1, 1, 1, 1, TCP, 'a', 'b', 'c', 0,
};
static const uint8_t ipv6_frame[] = {
	2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 27, IPPROTO_TCP, 64,
	0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
	0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, TCP, 'a', 'b', 'c', 0,
};

static const struct {
	const uint8_t *frame;
	size_t len;
	const char *text;
	size_t protocol_at, fragment_at; /* 0: has none */
} frames[] = {
	{ ipv4_frame, sizeof(ipv4_frame), "tcp 10.0.0.2:801-10.0.0.1:2049", 23, 21 },
	{ ipv6_frame, sizeof(ipv6_frame), "tcp [2001:db8::2]:801-[2001:db8::1]:2049", 20, 0 },
};

/* Parked frames are sorted by this: a frame taken for another flow's would be lost or late. */
START_TEST(flow_of_a_frame)
{
	uint8_t frame[128];
	struct park_frame read;
	size_t needed = frames[_i].len - TCP_AND_REST + END_OF_FLAGS;
	char text[FLOW_TEXT_MAX];

	memcpy(frame, frames[_i].frame, frames[_i].len);
	ck_assert_int_eq(park_frame_read(frame, frames[_i].len, &read), 0);
	ck_assert_str_eq(flow_text(&read.flow, text), frames[_i].text);
	ck_assert_uint_eq(read.sequence, 0x01020304);
	ck_assert_uint_eq(read.sequence_end, 0x01020304 + 3 + 1);
	for (size_t len = 0; len < needed; len++)
		ck_assert_int_eq(park_frame_read(frame, len, &read), -EBADMSG);
	if (frames[_i].fragment_at) {
		frame[frames[_i].fragment_at] = 1;
		ck_assert_int_eq(park_frame_read(frame, frames[_i].len, &read), -EBADMSG);
		frame[frames[_i].fragment_at] = 0;
	}
	frame[frames[_i].protocol_at] = IPPROTO_UDP;
	ck_assert_int_eq(park_frame_read(frame, frames[_i].len, &read), -EBADMSG);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("flow");
	TCase *tc = tcase_create("flow");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, there_and_back, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tc, mapped_is_the_same_flow);
	tcase_add_test(tc, other_families_are_refused);
	tcase_add_loop_test(tc, flow_of_a_frame, 0, sizeof(frames) / sizeof(frames[0]));
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
