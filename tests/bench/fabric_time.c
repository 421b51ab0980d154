/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/bench/fabric_time.c - how long the fabric's programs take for a packet, by the kernel's own statistics
 *
 *	fabric_time [FLOWS]
 *
 * Packets of random flows of a table with 1, 1000, ... FLOWS entries (default: 1,000,000), each flow owned by a device, with
 * timestamps, as when a session is served. Prints a table: medians and 99th percentiles of the means of 100 packets; they
 * include what measuring itself takes (some 20 to 50 ns). Needs root.
 */
#include "config.h"

#include "tests/fuzz/frame_switch.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 100, BATCHES = 2000, PAYLOAD = 128, OPTIONS = 12, IP_AT = 14, IPV4_TCP_AT = 34, ACK = 0x10, FLOWS_MAX = 1000000 };

static struct flow_key flow_number(uint32_t number)
{
	struct flow_key flow = frame_flow(false, IPPROTO_TCP, (uint16_t)(1 + number % 50000));

	flow.client[13] = (uint8_t)(1 + number / 50000);
	return flow;
}

/* With timestamps and a small request. */
static struct frame segment_of(const struct flow_key *flow)
{
	static const uint8_t options[] = { 1, 1, 8, 10 };
	struct frame frame = frame_tcp(flow, ACK);
	uint16_t len = 20 + 20 + OPTIONS + PAYLOAD;

	frame.bytes[IP_AT + 2] = (uint8_t)(len >> 8);
	frame.bytes[IP_AT + 3] = (uint8_t)len;
	frame.bytes[IPV4_TCP_AT + 12] = (20 + OPTIONS) / 4 << 4;
	memcpy(frame.bytes + frame.len, options, sizeof(options));
	frame.len = IP_AT + (size_t)len;
	return frame;
}

static struct bpf_prog_info read_statistics(int program)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);

	FRAME_CHECK(bpf_obj_get_info_by_fd(program, &info, &size) == 0);
	return info;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void run(bool is_back, uint32_t flows)
{
	struct flow_key flow = flow_number((uint32_t)random() % flows);
	struct flow_key turned = frame_turn_round(&flow);
	struct frame frame = segment_of(is_back ? &turned : &flow);
	struct frame_passage p = frame_dress(&frame, (uint8_t)((is_back ? PORT_DEVICES : PORT_CLIENTS) |
							       (is_back ? SOURCE_DEVICE_2 : SOURCE_CLIENT) << 2 |
							       FRAME_TO_PORT));
	int verdict;

	FRAME_CHECK(frame_run(frame_switch.programs[p.port], &frame_switch.ports[p.port], 0, &p.before, &verdict) == 0);
	FRAME_CHECK(verdict == 7); /* TC_ACT_REDIRECT */
}

static void measure(const char *what, bool is_back, uint32_t flows)
{
	static double means[BATCHES];
	int program = frame_switch.programs[is_back ? PORT_DEVICES : PORT_CLIENTS];

	for (size_t i = 0; i < BATCHES; i++) {
		struct bpf_prog_info before = read_statistics(program), after;

		for (int j = 0; j < BATCH; j++)
			run(is_back, flows);
		after = read_statistics(program);
		means[i] = (double)(after.run_time_ns - before.run_time_ns) / (double)(after.run_cnt - before.run_cnt);
	}
	qsort(means, BATCHES, sizeof(means[0]), compare);
	printf("%9u  %-18s %6.0f %6.0f\n", flows, what, means[BATCHES / 2], means[BATCHES * 99 / 100]);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* What the daemon does with the table: make entries, and go through it in parts. */
static void account(uint64_t filling_ns, uint32_t made, uint32_t flows)
{
	uint64_t longest_ns = 0, all_ns = 0;
	struct fabric_walk walk = { 0 };
	size_t removed = 0;

	for (bool is_end = false; !is_end;) {
		uint64_t start_ns = now_ns(), part_ns;

		is_end = fabric_collect(frame_switch.fabric, 60, &walk, &removed);
		part_ns = now_ns() - start_ns;
		all_ns += part_ns;
		longest_ns = part_ns > longest_ns ? part_ns : longest_ns;
	}
	printf("%9u  an entry is made in %.2f us; the table is gone through in %.1f ms, at most %.1f ms at a time\n", flows,
	       (double)filling_ns / made / 1000, (double)all_ns / 1e6, (double)longest_ns / 1e6);
}

static void fill(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		struct flow_key flow = flow_number(i);
		uint32_t generation;

		FRAME_CHECK(fabric_flow_set(frame_switch.fabric, &flow, DEVICE_FIRST, &generation) == 0);
	}
}

int main(int argc, char **argv)
{
	uint32_t most = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : FLOWS_MAX, filled = 0;
	struct fabric_options policy = { .flows_max = most };
	int statistics;

	FRAME_CHECK(most > 0 && most <= FLOWS_MAX);
	frame_switch_start(&policy);
	statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
	FRAME_CHECK(statistics >= 0);
	printf("%9s  %-18s %6s %6s\n", "flows", "packets", "p50 ns", "p99 ns");
	for (uint32_t flows = 1; filled < most; flows = flows * 1000 < most ? flows * 1000 : most) {
		uint64_t start_ns = now_ns();

		fill(filled, flows);
		account(now_ns() - start_ns, flows - filled, flows);
		filled = flows;
		measure("client to device", false, flows);
		measure("device to client", true, flows);
	}
	close(statistics);
	fabric_free(frame_switch.fabric, true);
	return 0;
}
