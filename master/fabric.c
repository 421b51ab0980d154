/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/fabric.h"

#include "common/log.h"
#include "common/tc_program.h"
#include "master/fabric_map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

TC_EMBED(fabric_object, "master/fabric.bpf.o");

_Static_assert((int)FABRIC_MAP_DEVICES == (int)FABRIC_DEVICES_MAX, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_MAP_VIPS == (int)FABRIC_VIPS_MAX, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_MAP_SWITCH == (int)FABRIC_SWITCH, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_ENTRY_FORWARD == (int)FABRIC_FORWARD, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_ENTRY_CLOSING == (int)FABRIC_CLOSING, "fabric.h and fabric_map.h");

#define STRING(x) STRING_(x)
#define STRING_(x) #x

#define COUNTER_NAME(name) #name,
static const char *const counter_names[] = { FABRIC_COUNTERS(COUNTER_NAME) };
#undef COUNTER_NAME

_Static_assert(sizeof(counter_names) / sizeof(counter_names[0]) == FABRIC_NCOUNTERS, "one name per counter");

#define REFUSAL_COUNTER(name) FABRIC_COUNT_##name,
static const enum fabric_map_counter refusal_counters[] = { FABRIC_REFUSAL_REASONS(REFUSAL_COUNTER) };
#undef REFUSAL_COUNTER

_Static_assert(sizeof(refusal_counters) / sizeof(refusal_counters[0]) == FABRIC_NREFUSALS, "one counter per reason");
_Static_assert((int)FABRIC_NREFUSALS <= (int)FABRIC_REFUSALS_MAX, "fabric.h");

enum { PORTS_MAX = 2 * FABRIC_PORTS_MAX, WALK_STEP = 256 };

struct port {
	unsigned int ifindex;
	char name[IFNAMSIZ];
	bool has_clients, has_devices;
};

struct fabric {
	struct bpf_object *object;
	int flows_fd, hosts_fd, macs_fd, counts_fd, keys_fd, refusals_fd, command_fd;
	struct ring_buffer *moves;
	void (*on_move)(const struct fabric_move *move, void *arg); /* during fabric_moves_read() */
	void *on_move_arg;
	int control; /* for interface ioctls in our network namespace */
	char *pin_dir;
	size_t port_count;
	struct port ports[PORTS_MAX];
	struct fabric_counter counters[FABRIC_NCOUNTERS];
};

static struct port *find_port(struct fabric *fabric, const char *name)
{
	for (size_t i = 0; i < fabric->port_count; i++)
		if (strcmp(fabric->ports[i].name, name) == 0)
			return &fabric->ports[i];
	return NULL;
}

static struct port *find_or_add_port(struct fabric *fabric, const char *name)
{
	struct port *port = find_port(fabric, name);

	if (port)
		return port;
	port = &fabric->ports[fabric->port_count];
	snprintf(port->name, sizeof(port->name), "%s", name);
	port->ifindex = if_nametoindex(name);
	if (port->ifindex == 0) {
		log_err("fabric", "interface=%s does not exist", name);
		return NULL;
	}
	fabric->port_count++;
	return port;
}

static int find_ports(struct fabric *fabric, const struct fabric_options *options)
{
	struct port *port;

	if (options->client_port_count == 0 || options->client_port_count > FABRIC_PORTS_MAX ||
	    options->device_port_count > FABRIC_PORTS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < options->client_port_count; i++) {
		port = find_or_add_port(fabric, options->client_ports[i]);
		if (!port)
			return -ENODEV;
		port->has_clients = true;
	}
	for (size_t i = 0; i < options->device_port_count; i++) {
		port = find_or_add_port(fabric, options->device_ports[i]);
		if (!port)
			return -ENODEV;
		port->has_devices = true;
	}
	return 0;
}

static int set_constants(struct fabric *fabric, const struct fabric_options *options)
{
	struct fabric_constants constants = {
		.vip_count = (uint32_t)options->vip_count,
		.client_ifindex = fabric->ports[0].ifindex,
		.eap_port = htons(options->eap_port),
		.cluster = options->cluster,
	};

	if (options->vip_count > FABRIC_VIPS_MAX)
		return -EINVAL;
	memcpy(constants.vips, options->vips, sizeof(constants.vips));
	memcpy(constants.eap_address, options->eap_address, sizeof(constants.eap_address));
	return tc_set_constants(fabric->object, &constants, sizeof(constants));
}

static int on_move(void *arg, void *data, size_t len)
{
	const struct fabric_move_record *record = data;
	struct fabric *fabric = arg;
	struct fabric_move move;

	if (BUG_IF(len != sizeof(*record)))
		return 0;
	move = (struct fabric_move){
		.flow = record->flow,
		.from = record->from,
		.device = record->device,
		.generation = record->generation,
		.transaction = record->transaction,
	};
	fabric->on_move(&move, fabric->on_move_arg);
	return 0;
}

static int open_moves(struct fabric *fabric)
{
	fabric->moves = ring_buffer__new(tc_map_fd(fabric->object, STRING(FABRIC_MOVES)), on_move, fabric, NULL);
	return fabric->moves ? 0 : -errno;
}

static int load_program(struct fabric *fabric, const struct fabric_options *options, bool *took_up)
{
	int err;

	err = tc_open(fabric_object, (size_t)(fabric_object_end - fabric_object), "fabric", &fabric->object);
	if (!err)
		err = set_constants(fabric, options);
	if (!err)
		err = tc_set_entries(fabric->object, STRING(FABRIC_FLOWS), options->flows_max);
	if (!err)
		err = tc_load(fabric->object, fabric->pin_dir, took_up);
	if (err)
		return err;
	fabric->flows_fd = tc_map_fd(fabric->object, STRING(FABRIC_FLOWS));
	fabric->hosts_fd = tc_map_fd(fabric->object, STRING(FABRIC_HOSTS));
	fabric->macs_fd = tc_map_fd(fabric->object, STRING(FABRIC_MACS));
	fabric->counts_fd = tc_map_fd(fabric->object, STRING(FABRIC_COUNTS));
	fabric->keys_fd = tc_map_fd(fabric->object, STRING(FABRIC_KEYS));
	fabric->refusals_fd = tc_map_fd(fabric->object, STRING(FABRIC_REFUSALS));
	fabric->command_fd = tc_program_fd(fabric->object, "fabric_command");
	return open_moves(fabric);
}

static const char *program_of(const struct port *port)
{
	if (port->has_clients && port->has_devices)
		return "fabric_shared";
	return port->has_clients ? "fabric_client" : "fabric_device";
}

static struct tc_place place_of(const struct port *port)
{
	return (struct tc_place){
		.ifindex = port->ifindex,
		.direction = TC_DIRECTION_INGRESS,
		.priority = TC_PRIORITY_FABRIC,
	};
}

static int attach_program(struct fabric *fabric)
{
	struct tc_place anywhere = place_of(&(struct port){ 0 });
	unsigned int keep[PORTS_MAX];
	int err = 0;

	for (size_t i = 0; !err && i < fabric->port_count; i++) {
		struct tc_place place = place_of(&fabric->ports[i]);

		err = tc_attach(fabric->object, program_of(&fabric->ports[i]), &place);
		keep[i] = fabric->ports[i].ifindex;
	}
	if (!err)
		tc_detach_strays(&anywhere, "fabric_", keep, fabric->port_count);
	return err;
}

static int start(struct fabric *fabric, const struct fabric_options *options, bool *took_up)
{
	int err;

	fabric->pin_dir = strdup(options->pin_dir);
	if (!fabric->pin_dir)
		return -ENOMEM;
	fabric->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fabric->control < 0)
		return -errno;
	err = find_ports(fabric, options);
	if (!err)
		err = load_program(fabric, options, took_up);
	return err ? err : attach_program(fabric);
}

int fabric_new(const struct fabric_options *options, struct fabric **out)
{
	struct fabric *fabric = calloc(1, sizeof(*fabric));
	bool took_up = false;
	int err;

	if (!fabric)
		return -ENOMEM;
	fabric->control = -1;
	err = start(fabric, options, &took_up);
	if (err) {
		fabric_free(fabric, !took_up);
		return err;
	}
	log_info("fabric", "ports=%zu vips=%zu %s", fabric->port_count, options->vip_count,
		 took_up ? "took up the table of an earlier run" : "started with an empty table");
	*out = fabric;
	return 0;
}

static void undo_for_good(struct fabric *fabric)
{
	for (size_t i = 0; i < fabric->port_count; i++) {
		struct tc_place place = place_of(&fabric->ports[i]);

		tc_detach(&place);
	}
	if (fabric->object)
		tc_unpin(fabric->object, fabric->pin_dir);
}

void fabric_free(struct fabric *fabric, bool for_good)
{
	if (!fabric)
		return;
	if (for_good)
		undo_for_good(fabric);
	ring_buffer__free(fabric->moves);
	bpf_object__close(fabric->object);
	if (fabric->control >= 0)
		close(fabric->control);
	free(fabric->pin_dir);
	free(fabric);
}

static int port_mac(struct fabric *fabric, const struct port *port, uint8_t mac[static ETH_ALEN])
{
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", port->name);
	if (ioctl(fabric->control, SIOCGIFHWADDR, &ifr))
		return -errno;
	memcpy(mac, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	return 0;
}

static struct fabric_host get_host(struct fabric *fabric, uint32_t device)
{
	struct fabric_host host;

	if (bpf_map_lookup_elem(fabric->hosts_fd, &device, &host))
		memset(&host, 0, sizeof(host));
	return host;
}

static void forget_mac(struct fabric *fabric, const struct fabric_host *host)
{
	struct fabric_mac key = { 0 };

	memcpy(key.mac, host->mac, ETH_ALEN);
	bpf_map_delete_elem(fabric->macs_fd, &key);
}

/* A member before it can own a flow, so that its first packet is not dropped. */
int fabric_device_set(struct fabric *fabric, uint32_t device, const uint8_t mac[static 6], const char *name)
{
	struct port *port = find_port(fabric, name);
	struct fabric_host host = { 0 }, old;
	struct fabric_mac key = { 0 };
	int err;

	if (device == 0 || device == FABRIC_SWITCH || device >= FABRIC_DEVICES_MAX)
		return -EINVAL;
	if (!port || !port->has_devices)
		return -ENODEV;
	memcpy(key.mac, mac, ETH_ALEN);
	memcpy(host.mac, mac, ETH_ALEN);
	host.ifindex = port->ifindex;
	err = port_mac(fabric, port, host.port_mac);
	if (err)
		return err;
	old = get_host(fabric, device);
	err = bpf_map_update_elem(fabric->macs_fd, &key, &device, BPF_ANY);
	if (!err)
		err = bpf_map_update_elem(fabric->hosts_fd, &device, &host, BPF_ANY);
	if (!err && old.ifindex && memcmp(old.mac, mac, ETH_ALEN) != 0)
		forget_mac(fabric, &old);
	return err;
}

int fabric_key_set(struct fabric *fabric, uint32_t device, const uint8_t key[static 16])
{
	struct fabric_key value = { .is_set = 1 };

	if (device == 0 || device == FABRIC_SWITCH || device >= FABRIC_DEVICES_MAX)
		return -EINVAL;
	memcpy(value.bytes, key, sizeof(value.bytes));
	return bpf_map_update_elem(fabric->keys_fd, &device, &value, BPF_ANY);
}

void fabric_device_remove(struct fabric *fabric, uint32_t device)
{
	const struct fabric_host none = { 0 };
	const struct fabric_key no_key = { 0 };
	struct fabric_host old;

	if (device >= FABRIC_DEVICES_MAX)
		return;
	old = get_host(fabric, device);
	bpf_map_update_elem(fabric->keys_fd, &device, &no_key, BPF_ANY);
	bpf_map_update_elem(fabric->hosts_fd, &device, &none, BPF_ANY);
	if (old.ifindex)
		forget_mac(fabric, &old);
	fabric_device_orphan(fabric, device, NULL, NULL);
}

/* Has the BPF program change an entry in place; the maps offer replacement only. */
static int command(struct fabric *fabric, struct fabric_order *order)
{
	int err = tc_run(fabric->command_fd, order, sizeof(*order));

	return err ? err : order->error;
}

static int set_flow(struct fabric *fabric, struct fabric_order *order, uint32_t *generation)
{
	int err;

	if (order->device == 0 || order->device >= FABRIC_DEVICES_MAX)
		return -ENODEV;
	if (order->device != FABRIC_SWITCH && get_host(fabric, order->device).ifindex == 0)
		return -ENODEV;
	err = command(fabric, order);
	if (err)
		return err == -E2BIG ? -ENOSPC : err;
	*generation = order->generation;
	return 0;
}

int fabric_flow_set(struct fabric *fabric, const struct flow_key *flow, uint32_t device, uint32_t *generation)
{
	struct fabric_order order = { .flow = *flow, .device = device };

	return set_flow(fabric, &order, generation);
}

int fabric_flow_give(struct fabric *fabric, const struct flow_key *flow, uint32_t from, uint32_t device,
		     uint16_t transaction, uint32_t *generation)
{
	struct fabric_order order = {
		.flow = *flow,
		.device = device,
		.old_device = from,
		.transaction = transaction,
		.has_transaction = 1,
	};
	int err = set_flow(fabric, &order, generation);

	if (err == -ENOENT) {
		order.old_device = 0;
		err = set_flow(fabric, &order, generation);
	}
	return err || order.changed ? err : -EALREADY;
}

int fabric_flow_announce(struct fabric *fabric, const struct flow_key *flow, uint32_t from, uint32_t device)
{
	struct fabric_order order = { .flow = *flow, .device = device, .old_device = from, .announces = 1 };

	return command(fabric, &order);
}

int fabric_moves_fd(struct fabric *fabric)
{
	return ring_buffer__epoll_fd(fabric->moves);
}

void fabric_moves_read(struct fabric *fabric, void (*visit)(const struct fabric_move *move, void *arg), void *arg)
{
	fabric->on_move = visit;
	fabric->on_move_arg = arg;
	ring_buffer__consume(fabric->moves);
}

void fabric_refusals(struct fabric *fabric, void (*visit)(const struct fabric_refusal *refusal, void *arg), void *arg)
{
	uint64_t sums[FABRIC_NCOUNTERS];

	tc_sum_counters(fabric->counts_fd, sums, FABRIC_NCOUNTERS);
	for (uint32_t i = 0; i < FABRIC_NREFUSALS; i++) {
		struct fabric_refusal refusal = {
			.reason = counter_names[refusal_counters[i]],
			.count = sums[refusal_counters[i]],
		};
		struct fabric_refusal_note note;

		if (!refusal.count || bpf_map_lookup_elem(fabric->refusals_fd, &i, &note))
			continue;
		memcpy(refusal.mac, note.mac, sizeof(refusal.mac));
		memcpy(refusal.address, note.address, sizeof(refusal.address));
		refusal.device = note.device;
		visit(&refusal, arg);
	}
}

static struct fabric_flow flow_of(const struct flow_key *key, const struct fabric_entry *entry)
{
	return (struct fabric_flow){
		.flow = *key,
		.device = entry->device,
		.generation = entry->generation,
		.state = (enum fabric_flow_state)entry->state,
		.packets = entry->packets,
	};
}

int fabric_flow_get(struct fabric *fabric, const struct flow_key *flow, struct fabric_flow *out)
{
	struct fabric_entry entry;
	int err = bpf_map_lookup_elem(fabric->flows_fd, flow, &entry);

	if (!err)
		*out = flow_of(flow, &entry);
	return err;
}

void fabric_flow_remove(struct fabric *fabric, const struct flow_key *flow)
{
	bpf_map_delete_elem(fabric->flows_fd, flow);
}

typedef bool (*visit_entry)(const struct flow_key *key, const struct fabric_entry *entry, void *arg);

/* Entries that come or go meanwhile may be missed or seen twice. */
static void walk(struct fabric *fabric, visit_entry visit, void *arg)
{
	struct fabric_entry entries[WALK_STEP];
	struct flow_key keys[WALK_STEP];
	uint64_t position;
	void *from = NULL;
	int err = 0;

	while (!err) {
		uint32_t count = WALK_STEP;

		err = bpf_map_lookup_batch(fabric->flows_fd, from, &position, keys, entries, &count, NULL);
		if (err && err != -ENOENT)
			log_err("fabric", "the table cannot be read: %s", strerror(-err));
		for (uint32_t i = 0; (!err || err == -ENOENT) && i < count; i++)
			if (!visit(&keys[i], &entries[i], arg))
				return;
		from = &position;
	}
}

struct visitor {
	bool (*visit)(const struct fabric_flow *flow, void *arg);
	void *arg;
};

static bool show_flow(const struct flow_key *key, const struct fabric_entry *entry, void *arg)
{
	struct visitor *visitor = arg;
	struct fabric_flow flow = flow_of(key, entry);

	return visitor->visit(&flow, visitor->arg);
}

void fabric_flows(struct fabric *fabric, bool (*visit)(const struct fabric_flow *flow, void *arg), void *arg)
{
	struct visitor visitor = { visit, arg };

	walk(fabric, show_flow, &visitor);
}

struct orphaning {
	struct fabric *fabric;
	uint32_t device;
	void (*on_orphan)(const struct flow_key *flow, void *arg);
	void *arg;
};

static bool orphan_flow(const struct flow_key *key, const struct fabric_entry *entry, void *arg)
{
	struct orphaning *o = arg;
	struct fabric_order order = { .flow = *key, .device = FABRIC_SWITCH, .old_device = o->device };

	if (entry->device != o->device)
		return true;
	command(o->fabric, &order); /* not its owner any more: the better */
	if (o->on_orphan && entry->state != FABRIC_ENTRY_CLOSING)
		o->on_orphan(key, o->arg);
	return true;
}

void fabric_device_orphan(struct fabric *fabric, uint32_t device,
			  void (*on_orphan)(const struct flow_key *flow, void *arg), void *arg)
{
	struct orphaning o = { fabric, device, on_orphan, arg };

	walk(fabric, orphan_flow, &o);
}

struct collection {
	struct fabric *fabric;
	uint64_t before_ns;
	size_t removed;
};

/* A SYN since the entry was read makes it alive again, with the switch as owner, as without an entry. */
static bool collect_flow(const struct flow_key *key, const struct fabric_entry *entry, void *arg)
{
	struct collection *c = arg;

	if (entry->state == FABRIC_ENTRY_CLOSING && entry->closing_ns <= c->before_ns) {
		bpf_map_delete_elem(c->fabric->flows_fd, key);
		c->removed++;
	}
	return true;
}

size_t fabric_collect(struct fabric *fabric, unsigned int age_s)
{
	struct collection c = { .fabric = fabric };
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((time_t)age_s > now.tv_sec)
		return 0;
	c.before_ns = (uint64_t)(now.tv_sec - (time_t)age_s) * 1000000000u + (uint64_t)now.tv_nsec;
	walk(fabric, collect_flow, &c);
	return c.removed;
}

const struct fabric_counter *fabric_counters(struct fabric *fabric, size_t *count)
{
	uint64_t sums[FABRIC_NCOUNTERS];

	tc_sum_counters(fabric->counts_fd, sums, FABRIC_NCOUNTERS);
	for (size_t i = 0; i < FABRIC_NCOUNTERS; i++)
		fabric->counters[i] = (struct fabric_counter){ counter_names[i], sums[i] };
	*count = FABRIC_NCOUNTERS;
	return fabric->counters;
}
