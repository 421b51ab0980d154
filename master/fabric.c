/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/fabric.h"

#include "common/log.h"
#include "common/portmap.h"
#include "common/tc_program.h"
#include "master/fabric_internal.h"
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
_Static_assert((int)FABRIC_MAP_TURNS == (int)FABRIC_TURNS_MAX, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_MAP_SWITCH == (int)FABRIC_SWITCH, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_ENTRY_FORWARD == (int)FABRIC_FORWARD, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_ENTRY_CLOSING == (int)FABRIC_CLOSING, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_ENTRY_OPENING == (int)FABRIC_OPENING, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_MAP_FIRST_SWITCH == (int)FABRIC_FIRST_SWITCH, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_MAP_FIRST_IN_TURN == (int)FABRIC_FIRST_IN_TURN, "fabric.h and fabric_map.h");
_Static_assert((int)FABRIC_MAP_FIRST_OF_CLIENT == (int)FABRIC_FIRST_OF_CLIENT, "fabric.h and fabric_map.h");

#define COUNTER_NAME(name) #name,
static const char *const counter_names[] = { FABRIC_COUNTERS(COUNTER_NAME) };
#undef COUNTER_NAME

_Static_assert(sizeof(counter_names) / sizeof(counter_names[0]) == FABRIC_NCOUNTERS, "one name per counter");

#define IS_DROP(name) [FABRIC_COUNT_##name] = true,
static const bool is_drop[FABRIC_NCOUNTERS] = { FABRIC_DROPS(IS_DROP) };
#undef IS_DROP

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
	int flows_fd, hosts_fd, macs_fd, counts_fd, keys_fd, refusals_fd, first_fd, given_fd, volumes_fd, command_fd;
	struct ring_buffer *moves;
	void (*on_move)(const struct fabric_move *move, void *arg); /* during fabric_moves_read() */
	void *on_move_arg;
	int control; /* for interface ioctls in our network namespace */
	char *pin_dir;
	size_t port_count;
	struct port ports[PORTS_MAX];
	struct fabric_counter counters[FABRIC_NCOUNTERS];
	size_t flows, flows_seen; /* of the table, at the end of the last collection; of the one that is under way */
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
		.nfs_port = htons(options->nfs_port),
		.portmap_port = htons(PORTMAP_PORT),
		.serves_first = options->serves_first,
		.marks = options->marks,
		.dscp = options->dscp,
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
	fabric->moves = ring_buffer__new(FABRIC_MAP_FD(fabric, FABRIC_MOVES), on_move, fabric, NULL);
	return fabric->moves ? 0 : -errno;
}

static int load_program(struct fabric *fabric, const struct fabric_options *options, bool *took_up)
{
	int err;

	err = tc_open(fabric_object, (size_t)(fabric_object_end - fabric_object), "fabric", &fabric->object);
	if (!err)
		err = set_constants(fabric, options);
	if (!err)
		err = tc_set_entries(fabric->object, FABRIC_STRING(FABRIC_FLOWS), options->flows_max);
	if (!err)
		err = tc_load(fabric->object, fabric->pin_dir, took_up);
	if (err)
		return err;
	fabric->flows_fd = FABRIC_MAP_FD(fabric, FABRIC_FLOWS);
	fabric->hosts_fd = FABRIC_MAP_FD(fabric, FABRIC_HOSTS);
	fabric->macs_fd = FABRIC_MAP_FD(fabric, FABRIC_MACS);
	fabric->counts_fd = FABRIC_MAP_FD(fabric, FABRIC_COUNTS);
	fabric->keys_fd = FABRIC_MAP_FD(fabric, FABRIC_KEYS);
	fabric->refusals_fd = FABRIC_MAP_FD(fabric, FABRIC_REFUSALS);
	fabric->first_fd = FABRIC_MAP_FD(fabric, FABRIC_FIRST);
	fabric->given_fd = FABRIC_MAP_FD(fabric, FABRIC_GIVEN);
	fabric->volumes_fd = FABRIC_MAP_FD(fabric, FABRIC_VOLUMES);
	fabric->command_fd = tc_program_fd(fabric->object, "fabric_command");
	return open_moves(fabric);
}

int fabric_map_fd(struct fabric *fabric, const char *map)
{
	return tc_map_fd(fabric->object, map);
}

static const char *program_of(const struct port *port)
{
	if (port->has_clients && port->has_devices)
		return "fabric_shared";
	return port->has_clients ? "fabric_client" : "fabric_device";
}

static struct tc_place way_in(unsigned int ifindex)
{
	return (struct tc_place){ ifindex, TC_DIRECTION_INGRESS, TC_PRIORITY_FABRIC };
}

/* Behind the node program: what that drops was not sent. */
static struct tc_place way_out(unsigned int ifindex)
{
	return (struct tc_place){ ifindex, TC_DIRECTION_EGRESS, TC_PRIORITY_FABRIC_OUT };
}

static void detach_strays(struct fabric *fabric)
{
	unsigned int in[PORTS_MAX], out[PORTS_MAX];
	struct tc_place any_in = way_in(0), any_out = way_out(0);
	size_t out_count = 0;

	for (size_t i = 0; i < fabric->port_count; i++) {
		in[i] = fabric->ports[i].ifindex;
		if (fabric->ports[i].has_clients)
			out[out_count++] = fabric->ports[i].ifindex;
	}
	tc_detach_strays(&any_in, "fabric_", in, fabric->port_count);
	tc_detach_strays(&any_out, "fabric_", out, out_count);
}

static int attach_programs(struct fabric *fabric)
{
	int err = 0;

	for (size_t i = 0; !err && i < fabric->port_count; i++) {
		const struct port *port = &fabric->ports[i];
		struct tc_place in = way_in(port->ifindex), out = way_out(port->ifindex);

		err = tc_attach(fabric->object, program_of(port), &in);
		if (!err && port->has_clients)
			err = tc_attach(fabric->object, "fabric_out", &out);
	}
	if (!err)
		detach_strays(fabric);
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
	if (!err)
		err = fabric_filters_set(fabric, options->filters, options->filter_count);
	return err ? err : attach_programs(fabric);
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
	log_info("fabric", "ports=%zu vips=%zu filters=%zu %s", fabric->port_count, options->vip_count,
		 options->filter_count, took_up ? "took up the table of an earlier run" : "started with an empty table");
	*out = fabric;
	return 0;
}

static void undo_for_good(struct fabric *fabric)
{
	for (size_t i = 0; i < fabric->port_count; i++) {
		struct tc_place in = way_in(fabric->ports[i].ifindex), out = way_out(fabric->ports[i].ifindex);

		tc_detach(&out);
		tc_detach(&in);
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

int fabric_first_set(struct fabric *fabric, enum fabric_first_policy policy, const uint32_t *turns, size_t count)
{
	struct fabric_first first = { 0 };
	const uint32_t only = 0;

	if (count > FABRIC_TURNS_MAX)
		return -EINVAL;
	/* When the table of flows was full is the program's to know, and still true. */
	bpf_map_lookup_elem(fabric->first_fd, &only, &first);
	first = (struct fabric_first){ .policy = policy, .count = (uint32_t)count, .full_ns = first.full_ns };
	for (size_t i = 0; i < count; i++) {
		if (turns[i] == 0 || turns[i] == FABRIC_SWITCH || turns[i] >= FABRIC_DEVICES_MAX)
			return -EINVAL;
		first.turns[i] = (uint8_t)turns[i];
		first.takes[turns[i]] = 1;
	}
	return bpf_map_update_elem(fabric->first_fd, &only, &first, BPF_ANY);
}

uint64_t fabric_first_given(struct fabric *fabric, uint32_t device)
{
	uint64_t given = 0;

	bpf_map_lookup_elem(fabric->given_fd, &device, &given);
	return given;
}

static int compare_volumes(const void *a, const void *b)
{
	const struct fabric_volume *x = a, *y = b;

	return (x->volume > y->volume) - (x->volume < y->volume);
}

static bool has_volume(const struct fabric_volume *volumes, size_t count, uint32_t volume)
{
	const struct fabric_volume wanted = { .volume = volume };

	return count && bsearch(&wanted, volumes, count, sizeof(*volumes), compare_volumes);
}

/* A key that is deleted while the next one is asked for would begin the walk anew. */
static void forget_volumes(struct fabric *fabric, const struct fabric_volume *volumes, size_t count)
{
	uint32_t volume, next;
	int err = bpf_map_get_next_key(fabric->volumes_fd, NULL, &next);

	while (!err) {
		volume = next;
		err = bpf_map_get_next_key(fabric->volumes_fd, &volume, &next);
		if (!has_volume(volumes, count, volume))
			bpf_map_delete_elem(fabric->volumes_fd, &volume);
	}
}

int fabric_volumes_set(struct fabric *fabric, struct fabric_volume *volumes, size_t count)
{
	int err = 0;

	if (count)
		qsort(volumes, count, sizeof(*volumes), compare_volumes);
	forget_volumes(fabric, volumes, count);
	for (size_t i = 0; !err && i < count; i++)
		err = bpf_map_update_elem(fabric->volumes_fd, &volumes[i].volume, &volumes[i].device, BPF_ANY);
	return err == -E2BIG ? -ENOSPC : err;
}

int fabric_key_set(struct fabric *fabric, uint32_t device, const uint8_t key[static 16])
{
	struct fabric_key value = { .is_set = 1 };

	if (device == 0 || device == FABRIC_SWITCH || device >= FABRIC_DEVICES_MAX)
		return -EINVAL;
	memcpy(value.bytes, key, sizeof(value.bytes));
	return bpf_map_update_elem(fabric->keys_fd, &device, &value, BPF_ANY);
}

void fabric_key_forget(struct fabric *fabric, uint32_t device)
{
	const struct fabric_key none = { 0 };

	if (device < FABRIC_DEVICES_MAX)
		bpf_map_update_elem(fabric->keys_fd, &device, &none, BPF_ANY);
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

static struct fabric_flow_end end_of(const struct fabric_end *end)
{
	return (struct fabric_flow_end){
		.is_known = end->flags & FABRIC_END_SEEN,
		.has_syn = end->flags & FABRIC_END_SYN,
		.has_closed = end->flags & FABRIC_END_CLOSED,
		.first = end->first,
		.next = end->next,
		.acknowledged = end->acknowledged,
		.window = end->window,
		.mss = end->mss,
		.scale = end->scale,
		.has_sack = end->flags & FABRIC_END_SACK,
		.has_timestamps = end->flags & FABRIC_END_TIMES,
		.timestamp = end->time,
	};
}

static struct fabric_flow flow_of(const struct flow_key *key, const struct fabric_entry *entry)
{
	return (struct fabric_flow){
		.flow = *key,
		.device = entry->device,
		.generation = entry->generation,
		.state = (enum fabric_flow_state)entry->state,
		.packets = entry->packets,
		.client = end_of(&entry->ends.client),
		.server = end_of(&entry->ends.server),
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

bool fabric_flow_was_with(struct fabric *fabric, const struct flow_key *flow, uint32_t device)
{
	struct fabric_entry entry;

	if (bpf_map_lookup_elem(fabric->flows_fd, flow, &entry))
		return false;
	for (uint32_t former = entry.former; former; former >>= 8)
		if ((former & 0xff) == device)
			return true;
	return false;
}

void fabric_flow_remove(struct fabric *fabric, const struct flow_key *flow)
{
	bpf_map_delete_elem(fabric->flows_fd, flow);
}

typedef bool (*visit_entry)(const struct flow_key *key, const struct fabric_entry *entry, void *arg);

enum { GO_ON, REACHED_END, WAS_STOPPED };

/* Visits up to WALK_STEP entries. Those that come or go meanwhile may be missed or seen twice. */
static int walk_step(struct fabric *fabric, struct fabric_walk *walk, visit_entry visit, void *arg)
{
	struct fabric_entry entries[WALK_STEP];
	struct flow_key keys[WALK_STEP];
	uint32_t count = WALK_STEP;
	int err = bpf_map_lookup_batch(fabric->flows_fd, walk->is_under_way ? &walk->position : NULL, &walk->position, keys,
				       entries, &count, NULL);

	walk->is_under_way = !err;
	if (err && err != -ENOENT) {
		log_err("fabric", "the table cannot be read: %s", strerror(-err));
		return REACHED_END;
	}
	for (uint32_t i = 0; i < count; i++)
		if (!visit(&keys[i], &entries[i], arg))
			return WAS_STOPPED;
	return err ? REACHED_END : GO_ON;
}

static void walk_all(struct fabric *fabric, visit_entry visit, void *arg)
{
	struct fabric_walk walk = { 0 };

	while (walk_step(fabric, &walk, visit, arg) == GO_ON)
		;
}

/* Return: whether the end was reached */
static bool walk_part(struct fabric *fabric, struct fabric_walk *walk, visit_entry visit, void *arg)
{
	int rc = GO_ON;

	for (int i = 0; rc == GO_ON && i < FABRIC_PART / WALK_STEP + 1; i++)
		rc = walk_step(fabric, walk, visit, arg);
	return rc == REACHED_END;
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

	walk_all(fabric, show_flow, &visitor);
}

bool fabric_flows_part(struct fabric *fabric, struct fabric_walk *walk,
		       bool (*visit)(const struct fabric_flow *flow, void *arg), void *arg)
{
	struct visitor visitor = { visit, arg };

	return walk_part(fabric, walk, show_flow, &visitor);
}

struct orphaning {
	struct fabric *fabric;
	uint32_t device;
	void (*on_orphan)(const struct fabric_flow *flow, void *arg);
	void *arg;
};

static bool orphan_flow(const struct flow_key *key, const struct fabric_entry *entry, void *arg)
{
	struct orphaning *o = arg;
	struct fabric_order order = { .flow = *key, .device = FABRIC_SWITCH, .old_device = o->device };
	struct fabric_flow flow = flow_of(key, entry);

	if (entry->device != o->device)
		return true;
	command(o->fabric, &order); /* not its owner any more: the better */
	if (o->on_orphan && entry->state != FABRIC_ENTRY_CLOSING)
		o->on_orphan(&flow, o->arg);
	return true;
}

void fabric_device_remove(struct fabric *fabric, uint32_t device)
{
	const struct fabric_host none = { 0 };
	struct fabric_host old;

	if (device >= FABRIC_DEVICES_MAX)
		return;
	old = get_host(fabric, device);
	fabric_key_forget(fabric, device);
	bpf_map_update_elem(fabric->hosts_fd, &device, &none, BPF_ANY);
	if (old.ifindex)
		forget_mac(fabric, &old);
	walk_all(fabric, orphan_flow, &(struct orphaning){ .fabric = fabric, .device = device });
}

bool fabric_device_orphan(struct fabric *fabric, uint32_t device, struct fabric_walk *walk,
			  void (*on_orphan)(const struct fabric_flow *flow, void *arg), void *arg)
{
	struct orphaning o = { fabric, device, on_orphan, arg };

	return walk_part(fabric, walk, orphan_flow, &o);
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
	} else {
		c->fabric->flows_seen++;
	}
	return true;
}

bool fabric_collect(struct fabric *fabric, unsigned int age_s, struct fabric_walk *walk, size_t *removed)
{
	struct collection c = { .fabric = fabric };
	struct timespec now;
	bool is_end;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((time_t)age_s > now.tv_sec)
		return true;
	c.before_ns = (uint64_t)(now.tv_sec - (time_t)age_s) * 1000000000u + (uint64_t)now.tv_nsec;
	is_end = walk_part(fabric, walk, collect_flow, &c);
	*removed += c.removed;
	if (is_end) {
		fabric->flows = fabric->flows_seen;
		fabric->flows_seen = 0;
	}
	return is_end;
}

size_t fabric_flows_count(const struct fabric *fabric)
{
	return fabric->flows;
}

const struct fabric_counter *fabric_counters(struct fabric *fabric, size_t *count)
{
	uint64_t sums[FABRIC_NCOUNTERS];

	tc_sum_counters(fabric->counts_fd, sums, FABRIC_NCOUNTERS);
	for (size_t i = 0; i < FABRIC_NCOUNTERS; i++)
		fabric->counters[i] = (struct fabric_counter){ counter_names[i], sums[i], is_drop[i] };
	*count = FABRIC_NCOUNTERS;
	return fabric->counters;
}
