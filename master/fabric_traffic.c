/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/fabric_traffic.h"

#include "common/log.h"
#include "master/fabric_internal.h"
#include "master/fabric_map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)FABRIC_MAP_CLIENTS == (int)FABRIC_CLIENTS_MAX, "fabric_traffic.h and fabric_map.h");

enum { STEP = 1024 };

static struct fabric_sums sum_up(const struct fabric_traffic *per_cpu, size_t cpus)
{
	struct fabric_sums sums = { 0 };

	for (size_t i = 0; i < cpus; i++) {
		sums.received_packets += per_cpu[i].received_packets;
		sums.received_bytes += per_cpu[i].received_bytes;
		sums.sent_packets += per_cpu[i].sent_packets;
		sums.sent_bytes += per_cpu[i].sent_bytes;
	}
	return sums;
}

static struct fabric_traffic *new_values(size_t count, size_t *cpus)
{
	int number = libbpf_num_possible_cpus();

	if (number <= 0)
		return NULL;
	*cpus = (size_t)number;
	return calloc(count * *cpus, sizeof(struct fabric_traffic));
}

int fabric_device_sums(struct fabric *fabric, uint32_t device, struct fabric_sums *out)
{
	struct fabric_traffic *per_cpu;
	size_t cpus;
	int err;

	if (device >= FABRIC_DEVICES_MAX)
		return -EINVAL;
	per_cpu = new_values(1, &cpus);
	if (!per_cpu)
		return -ENOMEM;
	err = bpf_map_lookup_elem(FABRIC_MAP_FD(fabric, FABRIC_DEVICE_TRAFFIC), &device, per_cpu);
	if (!err)
		*out = sum_up(per_cpu, cpus);
	free(per_cpu);
	return err;
}

struct reading {
	struct fabric_client keys[STEP];
	struct fabric_traffic *values; /* STEP times one for each CPU */
	size_t cpus;
	struct fabric_client_sums *clients; /* FABRIC_CLIENTS_MAX; clients that come meanwhile find no room */
	size_t count;
};

static void take(struct reading *reading, uint32_t count)
{
	for (uint32_t i = 0; i < count && reading->count < FABRIC_CLIENTS_MAX; i++) {
		struct fabric_client_sums *client = &reading->clients[reading->count++];

		memcpy(client->address, reading->keys[i].address, sizeof(client->address));
		client->sums = sum_up(&reading->values[i * reading->cpus], reading->cpus);
	}
}

static int read_clients(struct reading *reading, int fd)
{
	uint32_t position;
	void *from = NULL;
	int err = 0;

	while (!err) {
		uint32_t count = STEP;

		err = bpf_map_lookup_batch(fd, from, &position, reading->keys, reading->values, &count, NULL);
		if (!err || err == -ENOENT)
			take(reading, count);
		from = &position;
	}
	return err == -ENOENT ? 0 : err;
}

static uint64_t bytes_of(const struct fabric_client_sums *client)
{
	return client->sums.received_bytes + client->sums.sent_bytes;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = bytes_of(a), y = bytes_of(b);

	return x == y ? memcmp(a, b, sizeof(((struct fabric_client_sums *)0)->address)) : x < y ? 1 : -1;
}

int fabric_client_sums(struct fabric *fabric, struct fabric_client_sums **out, size_t *count)
{
	struct reading *reading = calloc(1, sizeof(*reading));
	int err = -ENOMEM;

	if (!reading)
		return err;
	reading->values = new_values(STEP, &reading->cpus);
	reading->clients = calloc(FABRIC_CLIENTS_MAX, sizeof(*reading->clients));
	if (reading->values && reading->clients)
		err = read_clients(reading, FABRIC_MAP_FD(fabric, FABRIC_CLIENT_TRAFFIC));
	if (err && err != -ENOMEM)
		log_err("fabric", "the clients' counters cannot be read: %s", strerror(-err));
	if (!err) {
		qsort(reading->clients, reading->count, sizeof(*reading->clients), compare);
		*out = reading->clients;
		*count = reading->count;
		reading->clients = NULL;
	}
	free(reading->clients);
	free(reading->values);
	free(reading);
	return err;
}
