/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a switch with many clients turns new ones away, forgets those it has, keeps what is long gone, or its daemon does
 * nothing else than look at its table.
 *
 *	test_large_table [ENTRIES]
 *
 * A table that is filled to the last entry (default: 100,000) and beyond; the frames are on no wire (tests/fuzz/frame_switch.h).
 */
#include "config.h"

#include "master/flow_sweep.h"
#include "tests/fuzz/frame_switch.h"

#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { ENTRIES = 100000, PORTS_OF_CLIENT = 50000, SYN = 2, ACK = 0x10, FIN = 1 };

static struct flow_key flow_number(uint32_t number)
{
	struct flow_key flow = frame_flow(false, IPPROTO_TCP, (uint16_t)(1 + number % PORTS_OF_CLIENT));

	flow.client[13] = (uint8_t)(1 + number / PORTS_OF_CLIENT);
	return flow;
}

static int verdict_of(uint32_t number, uint8_t flags)
{
	struct flow_key flow = flow_number(number);
	struct frame frame = frame_tcp(&flow, flags);
	struct frame_passage p = frame_dress(&frame, PORT_CLIENTS | SOURCE_CLIENT << 2 | FRAME_TO_PORT);

	FRAME_CHECK(frame_pass(&p) && p.counted == 1);
	return p.verdict;
}

static int make(uint32_t number)
{
	struct flow_key flow = flow_number(number);
	uint32_t generation;

	return fabric_flow_set(frame_switch.fabric, &flow, DEVICE_FIRST, &generation);
}

/* Who is in the table goes on, who is not is the switch's, for whom there is no entry: he is served, only not handed off. */
static void test_full(uint32_t entries)
{
	for (uint32_t i = 0; i < entries; i++)
		FRAME_CHECK(make(i) == 0);
	FRAME_CHECK(make(entries) == -ENOSPC);
	FRAME_CHECK(frame_switch_flows() == entries);
	FRAME_CHECK(verdict_of(entries, SYN) == TC_ACT_UNSPEC && verdict_of(entries, ACK) == TC_ACT_UNSPEC);
	for (uint32_t i = 0; i < entries; i += entries / 100)
		FRAME_CHECK(verdict_of(i, ACK) == TC_ACT_REDIRECT);
	FRAME_CHECK(verdict_of(1, SYN) == TC_ACT_UNSPEC && verdict_of(1, ACK) == TC_ACT_UNSPEC); /* the switch's, anew */
	printf("ok: %u entries and no room for more\n", entries);
}

/* Everything is looked at once, a part at a time. Only what saw FIN goes. */
static void test_collecting(uint32_t entries)
{
	struct fabric_walk walk = { 0 };
	size_t removed = 0, parts = 1, last = 0;

	for (uint32_t i = 0; i < entries; i += 2)
		FRAME_CHECK(verdict_of(i, FIN | ACK) == TC_ACT_REDIRECT);
	for (; !fabric_collect(frame_switch.fabric, 0, &walk, &removed); parts++) {
		FRAME_CHECK(removed - last <= 2 * FABRIC_PART);
		last = removed;
	}
	FRAME_CHECK(parts >= entries / FABRIC_PART / 2);
	FRAME_CHECK(removed == (entries + 1) / 2 && frame_switch_flows() == entries / 2);
	FRAME_CHECK(fabric_flows_count(frame_switch.fabric) == entries / 2);
	FRAME_CHECK(make(entries) == 0);
	printf("ok: collected in %zu parts\n", parts);
}

static bool all_are_dead(const struct fabric_flow *flow, void *arg)
{
	(void)flow, (void)arg;
	return true;
}

static void sweep_once(struct flow_sweep *sweep, size_t *removed)
{
	while (!flow_sweep_part(sweep, frame_switch.fabric, all_are_dead, NULL, removed))
		;
}

/* No device speaks for any of them: they go, after the second look at each, however many they are. */
static void test_sweeping(void)
{
	size_t left = frame_switch_flows(), removed = 0;
	struct flow_sweep sweep = { 0 };

	sweep_once(&sweep, &removed);
	FRAME_CHECK(removed == 0 && frame_switch_flows() == left);
	for (size_t sweeps = left / FLOW_SWEEP_SUSPECTS_MAX + 2; sweeps > 0 && removed < left; sweeps--)
		sweep_once(&sweep, &removed);
	FRAME_CHECK(removed == left && frame_switch_flows() == 0);
	flow_sweep_fini(&sweep);
	printf("ok: swept\n");
}

int main(int argc, char **argv)
{
	uint32_t entries = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : ENTRIES;
	struct fabric_options policy = { .flows_max = entries };

	FRAME_CHECK(entries >= 1000);
	frame_switch_start(&policy);
	test_full(entries);
	test_collecting(entries);
	test_sweeping();
	fabric_free(frame_switch.fabric, true);
	return 0;
}
