/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/first_device.h"

#include "common/log.h"
#include "common/settings.h"
#include "master/balance.h"
#include "master/commands_internal.h"
#include "master/fabric.h"
#include "master/master.h"
#include "master/vroot.h"
#include "slave/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)BALANCE_TURNS_MAX == (int)FABRIC_TURNS_MAX, "balance.h and fabric.h");

struct first_device {
	struct master *master;
	struct {
		unsigned int weight;
		size_t sessions; /* as it reported last */
		uint64_t given;	 /* what it had been given by then */
	} devices[FABRIC_DEVICES_MAX];
};

static enum settings_first_device policy_of(const struct first_device *first)
{
	return master_settings(first->master)->first_device;
}

unsigned int first_device_busy_permille(struct master *master, uint32_t node)
{
	const struct load *load = master_load(master, node);
	unsigned int busy;
	struct load own;

	if (node == NAMESPACE_MASTER) {
		slave_load(master_slave(master), &own);
		load = &own;
	}
	if (!load || !load->knows_cpu)
		return 1000;
	busy = load->cpu_permille;
	for (size_t i = 0; i < load->volume_count; i++)
		if (load->volumes[i].knows_busy && load->volumes[i].busy_permille > busy)
			busy = load->volumes[i].busy_permille;
	return busy;
}

uint64_t first_device_given(const struct first_device *first, uint32_t node)
{
	struct fabric *fabric = master_fabric(first->master);

	return fabric ? fabric_first_given(fabric, node) : 0;
}

static uint64_t sessions_of(const struct first_device *first, uint32_t node)
{
	return first->devices[node].sessions + first_device_given(first, node) - first->devices[node].given;
}

size_t first_device_candidates(const struct first_device *first, struct balance_device *out)
{
	size_t count = 0;

	for (uint32_t id = 0; id < FABRIC_DEVICES_MAX; id++)
		if (master_gets_work(first->master, id))
			out[count++] = (struct balance_device){
				.device = id,
				.weight = first->devices[id].weight,
				.sessions = sessions_of(first, id),
				.busy_permille = first_device_busy_permille(first->master, id),
			};
	return count;
}

static size_t one_each(const struct balance_device *devices, size_t count, uint32_t turns[static BALANCE_TURNS_MAX])
{
	for (size_t i = 0; i < count; i++)
		turns[i] = devices[i].device;
	return count;
}

void first_device_assign(struct first_device *first)
{
	struct balance_device devices[FABRIC_DEVICES_MAX];
	size_t count = first_device_candidates(first, devices);
	enum fabric_first_policy policy = FABRIC_FIRST_IN_TURN;
	uint32_t turns[BALANCE_TURNS_MAX];

	switch (policy_of(first)) {
	case SETTINGS_FIRST_WEIGHT:
		count = balance_by_weight(devices, count, turns);
		break;
	case SETTINGS_FIRST_LEAST_LOAD:
		count = balance_by_load(devices, count, turns);
		break;
	case SETTINGS_FIRST_CLIENT:
		policy = FABRIC_FIRST_OF_CLIENT;
		count = one_each(devices, count, turns);
		break;
	case SETTINGS_FIRST_ROUND_ROBIN:
		count = one_each(devices, count, turns);
		break;
	case SETTINGS_FIRST_SWITCH:
		policy = FABRIC_FIRST_SWITCH;
		count = one_each(devices, count, turns);
		break;
	}
	fabric_first_set(master_fabric(first->master), policy, turns, count);
}

void first_device_tick(struct first_device *first)
{
	if (policy_of(first) == SETTINGS_FIRST_LEAST_LOAD)
		first_device_assign(first);
}

void first_device_reported(struct first_device *first, uint32_t node, size_t sessions)
{
	first->devices[node].sessions = sessions;
	first->devices[node].given = first_device_given(first, node);
}

unsigned int first_device_weight(const struct first_device *first, uint32_t node)
{
	return first->devices[node % FABRIC_DEVICES_MAX].weight;
}

static void set_weight(uint32_t node, unsigned int weight, void *arg)
{
	struct first_device *first = arg;

	if (node < FABRIC_DEVICES_MAX && weight >= 1 && weight <= BALANCE_WEIGHT_MAX)
		first->devices[node].weight = weight;
}

struct first_device *first_device_new(struct master *master)
{
	struct first_device *first = calloc(1, sizeof(*first));

	if (!first)
		return NULL;
	first->master = master;
	for (uint32_t id = 0; id < FABRIC_DEVICES_MAX; id++)
		first->devices[id].weight = BALANCE_WEIGHT;
	if (vroot_weights(master_vroot(master), set_weight, first) < 0) {
		free(first);
		return NULL;
	}
	return first;
}

void first_device_free(struct first_device *first)
{
	free(first);
}

/* nasctl node weight */

static const char *what_it_means(const struct first_device *first)
{
	switch (policy_of(first)) {
	case SETTINGS_FIRST_WEIGHT:
	case SETTINGS_FIRST_LEAST_LOAD:
		return "";
	default:
		return "; it counts when first_device of [fabric] is \"weight\" or \"least-load\"";
	}
}

void first_device_command_weight(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	struct first_device *first = master_first_device(master);
	const ns_node *node = commands_need_node(master, request, argv[0]);
	unsigned long weight;
	uint32_t id;
	char *end;
	int rc;

	(void)argc;
	if (!node)
		return;
	weight = strtoul(argv[1], &end, 10);
	if (argv[1][0] < '0' || argv[1][0] > '9' || *end || weight < 1 || weight > BALANCE_WEIGHT_MAX ||
	    node->id == NAMESPACE_MASTER) {
		admin_error(request, "a weight is a number from 1 to %d, and of a disk node", BALANCE_WEIGHT_MAX);
		return;
	}
	id = node->id;
	rc = vroot_weight_set(master_vroot(master), id, (unsigned int)weight);
	if (rc < 0) {
		admin_error(request, "nothing has changed: %s", commands_change_problem(rc));
		return;
	}
	first->devices[id].weight = (unsigned int)weight;
	log_info("member", "node=%u weight=%lu", id, weight);
	master_assign_connections(master);
	admin_done(request, "node %u has weight %lu; %d is that of all others%s", id, weight, BALANCE_WEIGHT, what_it_means(first));
}
