/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client notices that two devices share its connection: a wrong, lost or doubled byte, a RST, a standstill; or
 * something was acknowledged to it that one of the two does not have.
 *
 * A connection under load goes round between the switch and two nodes. Each time the next device gets one half first, of either
 * kind, then the other; now and then it gives its half back.
 */
#include "config.h"

#include "common/log.h"
#include "tests/platform/cluster.h"
#include "tests/platform/netns.h"

#include <stdio.h>
#include <string.h>

enum { HALVES = 60, GIVE_BACK_EVERY = 5 };

static void check_devices(struct cluster *cluster)
{
	static const char *const never[] = { "half_failed", "half_forged", "relay_failed", "bad_state",
					     "park_write_failed", "park_overflowed", "park_unreadable" };

	for (int i = 0; i < CLUSTER_DEVICES; i++)
		for (size_t j = 0; j < sizeof(never) / sizeof(never[0]); j++)
			if (cluster_helper_counter(&cluster->devices[i], never[j]))
				fail("%s: %s", cluster->devices[i].name, never[j]);
}

static void go_round(struct cluster *cluster, int family, enum kernel_helper_part part, size_t message_len, size_t window)
{
	const struct cluster_family *f = &cluster_families[family];
	uint64_t resets = netns_counter(cluster->client, "Tcp", "OutRsts");
	uint64_t sent_again = netns_counter(cluster->client, "Tcp", "RetransSegs");
	struct load_client load = load_start(cluster->client, f->vip, CLUSTER_PORT, message_len, window);
	struct cluster_connection c;
	struct load_result result;
	unsigned int moves = 0;

	cluster_accept(cluster, family, &c);
	for (int i = 1; i <= HALVES; i++) {
		bool gives_back = part == KERNEL_HELPER_SENDS && i % GIVE_BACK_EVERY == 0;

		cluster_serve(cluster, &c, (1 + (size_t)i * 7 % 20) * message_len);
		cluster_halve(cluster, &c, &cluster->devices[(moves + 1) % CLUSTER_DEVICES], part, 10 * message_len,
			      gives_back);
		moves += !gives_back;
	}
	cluster_serve(cluster, &c, 100 * message_len);
	load_stop(&load);
	cluster_finish(cluster, &c);
	result = load_wait(&load);
	printf("ok: %s, %s, %s, %zu bytes x %zu: %u moves, %llu messages, longest gap %llu us, %llu sent again\n",
	       cluster->is_one_arm ? "one-arm" : "inline", f->name,
	       part == KERNEL_HELPER_SENDS ? "the first sends" : "the first receives", message_len, window, moves,
	       (unsigned long long)result.messages, (unsigned long long)result.longest_gap_us,
	       (unsigned long long)(netns_counter(cluster->client, "Tcp", "RetransSegs") - sent_again));
	CHECK(netns_counter(cluster->client, "Tcp", "OutRsts") == resets);
	for (int i = 0; i < CLUSTER_DEVICES; i++)
		kernel_helper_forget(cluster->devices[i].helper, &c.flow);
	check_devices(cluster);
}

int main(int argc, char **argv)
{
	static const struct {
		size_t message_len, window;
	} shapes[] = { { 128, 1 }, { 128, 16 }, { 4096, 8 }, { 65536, 8 } };
	bool is_verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
	struct cluster cluster;

	log_open(is_verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
	netns_setup(true);
	for (int is_one_arm = 0; is_one_arm < 2; is_one_arm++) {
		cluster_make(&cluster, is_one_arm);
		for (int family = 0; family < CLUSTER_FAMILIES; family++)
			for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
				go_round(&cluster, family, KERNEL_HELPER_SENDS, shapes[i].message_len, shapes[i].window);
				go_round(&cluster, family, KERNEL_HELPER_RECEIVES, shapes[i].message_len,
					 shapes[i].window);
			}
		if (is_verbose)
			cluster_print_counters(&cluster);
		cluster_remove(&cluster);
	}
	return 0;
}
