/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/fabric_filter.h"

#include "common/log.h"
#include "master/fabric_internal.h"
#include "master/fabric_map.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

_Static_assert((int)FABRIC_MAP_FILTERS == 2 * (int)FABRIC_FILTERS_MAX, "fabric_filter.h and fabric_map.h");
_Static_assert((int)FABRIC_SERVICE_NFS == (int)FABRIC_NFS, "fabric_filter.h and fabric_map.h");
_Static_assert((int)FABRIC_SERVICE_PORTMAPPER == (int)FABRIC_PORTMAPPER, "fabric_filter.h and fabric_map.h");
_Static_assert((int)FABRIC_SERVICE_SCP == (int)FABRIC_SCP, "fabric_filter.h and fabric_map.h");

static struct fabric_network key_of(const struct ip_network *network)
{
	struct fabric_network key = { .bits = network->bits };

	memcpy(key.address, network->address, sizeof(key.address));
	return key;
}

static bool is_known(int fd, const struct fabric_network *key, struct fabric_filter *value)
{
	return bpf_map_lookup_elem(fd, key, value) == 0 && value->bits == key->bits;
}

static int put(int fd, const struct fabric_filter_rule *rule)
{
	struct fabric_network key = key_of(&rule->network);
	struct fabric_filter value;

	if (!is_known(fd, &key, &value))
		value.refused = 0;
	value.services = rule->services;
	value.bits = key.bits;
	return bpf_map_update_elem(fd, &key, &value, BPF_ANY);
}

static bool is_among(const struct fabric_network *key, const struct fabric_filter_rule *rules, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (rules[i].network.bits == key->bits && memcmp(rules[i].network.address, key->address, 16) == 0)
			return true;
	return false;
}

static int remove_others(int fd, const struct fabric_filter_rule *rules, size_t count)
{
	struct fabric_network keys[FABRIC_MAP_FILTERS], *last = NULL;
	size_t key_count = 0;
	int err = 0;

	while (key_count < FABRIC_MAP_FILTERS && bpf_map_get_next_key(fd, last, &keys[key_count]) == 0)
		last = &keys[key_count++];
	for (size_t i = 0; !err && i < key_count; i++)
		if (!is_among(&keys[i], rules, count))
			err = bpf_map_delete_elem(fd, &keys[i]);
	return err;
}

/* The new ones first, so that nobody gets in by the way. */
int fabric_filters_set(struct fabric *fabric, const struct fabric_filter_rule *rules, size_t count)
{
	int fd = FABRIC_MAP_FD(fabric, FABRIC_FILTERS), err = 0;

	if (count > FABRIC_FILTERS_MAX)
		return -EINVAL;
	for (size_t i = 0; !err && i < count; i++)
		err = put(fd, &rules[i]);
	if (!err)
		err = remove_others(fd, rules, count);
	if (err)
		log_err("fabric", "filters=%zu can't be put in force: %s", count, strerror(-err));
	return err;
}

uint64_t fabric_filter_refused(struct fabric *fabric, const struct ip_network *network)
{
	struct fabric_network key = key_of(network);
	struct fabric_filter value;

	return is_known(FABRIC_MAP_FD(fabric, FABRIC_FILTERS), &key, &value) ? value.refused : 0;
}
