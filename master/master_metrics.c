/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/master_metrics.h"

#include "master/commands_internal.h"
#include "master/eap_service.h"
#include "master/fabric_traffic.h"
#include "master/first_device.h"
#include "master/issuing.h"
#include "master/shifting.h"
#include "slave/device_metrics.h"
#include "slave/load.h"

#include <stdio.h>
#include <string.h>

static void put_fabric(struct master *master, struct metrics *metrics)
{
	size_t count;
	const struct fabric_counter *fabric = fabric_counters(master_fabric(master), &count);

	for (size_t i = 0; i < count; i++)
		metrics_put_of(metrics, fabric[i].is_drop ? METRIC_FABRIC_DROPPED : METRIC_FABRIC_PACKETS, fabric[i].name,
			       (int64_t)fabric[i].packets);
	metrics_put(metrics, METRIC_FABRIC_FLOWS, (int64_t)fabric_flows_count(master_fabric(master)));
	metrics_put(metrics, METRIC_EAP_REFUSED, (int64_t)eap_service_refused_count(master_eap(master)));
}

/* All states, those in which there is no node, too. */
static void put_states(struct master *master, struct metrics *metrics)
{
	const char *states[MEMBER_NSTATES + 3] = { "pending", "draining", "drained" };
	int64_t counts[MEMBER_NSTATES + 3] = { 0 };
	const ns_node *node;

	for (size_t i = 0; i < MEMBER_NSTATES; i++)
		states[3 + i] = member_state_name((enum member_state)i);
	for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));)
		for (size_t i = 0; i < MEMBER_NSTATES + 3; i++)
			counts[i] += strcmp(states[i], commands_node_state(master, node)) == 0;
	for (size_t i = 0; i < MEMBER_NSTATES + 3; i++)
		metrics_put_of(metrics, METRIC_NODES, states[i], counts[i]);
}

/* Names of nodes need not differ: their numbers are a label, too. */
struct node_labels {
	char number[16];
	const char *name;
};

static struct node_labels labels_of(const ns_node *node)
{
	struct node_labels labels = { .name = node->name };

	snprintf(labels.number, sizeof(labels.number), "%u", node->id);
	return labels;
}

static void put_of(struct metrics *metrics, enum metric metric, const struct node_labels *labels, int64_t value)
{
	metrics_put_of_two(metrics, metric, labels->number, labels->name, value);
}

static void put_traffic(struct master *master, const ns_node *node, const struct node_labels *labels, struct metrics *metrics)
{
	struct fabric_sums sums;

	if (!master_fabric(master) || fabric_device_sums(master_fabric(master), node->id, &sums) < 0)
		return;
	put_of(metrics, METRIC_NODE_PACKETS_IN, labels, (int64_t)sums.received_packets);
	put_of(metrics, METRIC_NODE_BYTES_IN, labels, (int64_t)sums.received_bytes);
	put_of(metrics, METRIC_NODE_PACKETS_OUT, labels, (int64_t)sums.sent_packets);
	put_of(metrics, METRIC_NODE_BYTES_OUT, labels, (int64_t)sums.sent_bytes);
}

/* What a disk node says of itself with each heartbeat. */
static void put_beat(struct master *master, const ns_node *node, const struct node_labels *labels, struct metrics *metrics)
{
	const struct member *member = master_member(master, node->id);

	if (!member->up)
		return;
	put_of(metrics, METRIC_NODE_OPERATIONS, labels, (int64_t)member->beat.operations);
	put_of(metrics, METRIC_NODE_READ_BYTES, labels, (int64_t)member->beat.read_bytes);
	put_of(metrics, METRIC_NODE_WRITTEN_BYTES, labels, (int64_t)member->beat.written_bytes);
}

static void put_certificate(struct master *master, const ns_node *node, const struct node_labels *labels, struct metrics *metrics)
{
	const struct certificates_facts *shown = scp_certificate_of(slave_scp(master_slave(master)), node->id);

	if (shown)
		put_of(metrics, METRIC_NODE_EXPIRY, labels, shown->expires_s);
}

/* What is unknown is left out. */
static void put_node(struct master *master, const ns_node *node, struct metrics *metrics)
{
	const struct node_labels labels = labels_of(node);
	struct load own;
	const struct load *load = commands_node_load(master, node->id, &own);

	put_of(metrics, METRIC_NODE_UP, &labels, commands_node_is_up(master, node->id));
	put_of(metrics, METRIC_NODE_GIVEN, &labels, (int64_t)first_device_given(master_first_device(master), node->id));
	put_of(metrics, METRIC_NODE_SESSIONS, &labels, (int64_t)commands_node_sessions(master, node->id));
	if (load && load->knows_cpu)
		put_of(metrics, METRIC_NODE_CPU, &labels, load->cpu_permille);
	if (load && load->knows_temperature)
		put_of(metrics, METRIC_NODE_TEMPERATURE, &labels, load->temperature_millicelsius);
	if (load && load->knows_clock)
		put_of(metrics, METRIC_NODE_CLOCK, &labels, load->clock.offset_ns);
	put_certificate(master, node, &labels, metrics);
	put_beat(master, node, &labels, metrics);
	put_traffic(master, node, &labels, metrics);
}

/* Its first place; one that is just being removed has none. */
static void volume_label(const struct namespace *ns, const ns_volume *volume, char label[static NS_TEXT_MAX])
{
	const ns_entry *place = namespace_place(ns, volume->id);

	snprintf(label, NS_TEXT_MAX, "volume %u", volume->id);
	if (place)
		namespace_path(ns, place, label);
}

static void put_volume(struct master *master, const ns_volume *volume, struct metrics *metrics)
{
	const ns_node *node = namespace_node(master_ns(master), volume->node);
	char label[NS_TEXT_MAX], number[16] = "removed";
	struct load own;
	const struct load *load = node ? commands_node_load(master, node->id, &own) : NULL;

	if (node)
		snprintf(number, sizeof(number), "%u", node->id);
	volume_label(master_ns(master), volume, label);
	metrics_put_of_two(metrics, METRIC_VOLUME_UP, label, number, node && commands_node_is_up(master, node->id));
	for (size_t i = 0; load && i < load->volume_count; i++) {
		const struct load_volume *known = &load->volumes[i];

		if (known->volume != volume->id)
			continue;
		if (known->knows_busy)
			metrics_put_of_two(metrics, METRIC_VOLUME_BUSY, label, number, known->busy_permille);
		if (known->knows_room) {
			metrics_put_of_two(metrics, METRIC_VOLUME_FREE, label, number, (int64_t)known->free_bytes);
			metrics_put_of_two(metrics, METRIC_VOLUME_SIZE, label, number, (int64_t)known->size_bytes);
		}
	}
}

static void put_cluster(struct master *master, struct metrics *metrics)
{
	const ns_volume *volume;
	const ns_node *node;
	int64_t volumes = 0;

	put_states(master, metrics);
	metrics_put(metrics, METRIC_AUTHORITY_EXPIRY, issuing_authority(master_issuing(master))->expires_s);
	metrics_put(metrics, METRIC_SHIFTED, (int64_t)shifting_count(master_shifting(master)));
	for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));)
		put_node(master, node, metrics);
	for (size_t at = 0; (volume = namespace_next_volume(master_ns(master), &at)); volumes++)
		put_volume(master, volume, metrics);
	metrics_put(metrics, METRIC_VOLUMES, volumes);
}

void master_metrics_put(struct master *master, struct metrics *metrics)
{
	device_metrics_put(master_slave(master), NULL, metrics);
	if (master_fabric(master))
		put_fabric(master, metrics);
	put_cluster(master, metrics);
}
