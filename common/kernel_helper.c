/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parts: common/node.bpf.c (what happens to packets), common/park.c (those that wait), common/tcp_repair.c (the
 * socket), common/congestion.c (its congestion window), common/tc_program.c (getting programs into the kernel). This file puts them in the right order.
 */
#include "config.h"

#include "common/kernel_helper.h"

#include "common/bare_ack.h"
#include "common/congestion.h"
#include "common/log.h"
#include "common/node_map.h"
#include "common/packet_orders.h"
#include "common/park.h"
#include "common/tc_program.h"
#include "common/tcp_repair.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

TC_EMBED(node_object, "common/node.bpf.o");

#define STRING(x) STRING_(x)
#define STRING_(x) #x

#define COUNTER_NAME(name) #name,
static const char *const node_counter_names[] = { NODE_COUNTERS(COUNTER_NAME) };
#undef COUNTER_NAME

_Static_assert(sizeof(node_counter_names) / sizeof(node_counter_names[0]) == NODE_NCOUNTERS, "one name per counter");

static const struct {
	const char *name;
	size_t offset;
} park_counter_fields[] = {
	{ "park_kept", offsetof(struct park_counters, kept) },
	{ "park_written", offsetof(struct park_counters, written) },
	{ "park_write_failed", offsetof(struct park_counters, write_failed) },
	{ "park_overflowed", offsetof(struct park_counters, overflowed) },
	{ "park_discarded", offsetof(struct park_counters, discarded) },
	{ "park_unreadable", offsetof(struct park_counters, unreadable) },
};

enum {
	PARK_NCOUNTERS = sizeof(park_counter_fields) / sizeof(park_counter_fields[0]),
	NCOUNTERS = NODE_NCOUNTERS + PARK_NCOUNTERS,

	/*
	 * Attempts to end a hold, of some microseconds each. From the one on the last parked packet ends it on its way, and
	 * a packet that another CPU works on at that very moment may overtake it; from the other on, unconditionally.
	 */
	END_HOLD_BY_LAST = 100,
	END_HOLD_NOW = 1000,
};

struct inherited {
	struct flow_key flow;
	bool is_held;
};

struct kernel_helper {
	struct bpf_object *object;
	int flows_fd, counts_fd, command_fd;
	int control; /* for interface ioctls in our network namespace */
	struct bare_ack_sockets acks;
	struct park *park;
	struct event *on_parked;
	struct packet_orders *orders;
	struct congestion *congestion; /* NULL: not possible here */
	char *pin_dir;
	size_t interface_count;
	unsigned int interfaces[KERNEL_HELPER_INTERFACES_MAX];
	struct kernel_helper_counter counters[NCOUNTERS];

	/* Flows that an earlier run relayed or held: nobody else knows when to forget them. */
	struct inherited *inherited;
	size_t inherited_count;
	struct event *on_inherited, *on_held;
};

static int find_interfaces(struct kernel_helper *helper, const struct kernel_helper_options *options)
{
	if (options->interface_count == 0 || options->interface_count > KERNEL_HELPER_INTERFACES_MAX)
		return -EINVAL;
	for (size_t i = 0; i < options->interface_count; i++) {
		helper->interfaces[i] = if_nametoindex(options->interfaces[i]);
		if (helper->interfaces[i] == 0) {
			log_err("kernel_helper", "interface=%s does not exist", options->interfaces[i]);
			return -ENODEV;
		}
	}
	helper->interface_count = options->interface_count;
	return 0;
}

static int load_program(struct kernel_helper *helper, bool *took_up)
{
	int err;

	err = tc_open(node_object, (size_t)(node_object_end - node_object), "node", &helper->object);
	if (!err)
		err = tc_load(helper->object, helper->pin_dir, took_up);
	if (err)
		return err;
	helper->flows_fd = tc_map_fd(helper->object, STRING(NODE_FLOWS));
	helper->counts_fd = tc_map_fd(helper->object, STRING(NODE_COUNTS));
	helper->command_fd = tc_program_fd(helper->object, "node_command");
	return 0;
}

static void inherit(struct kernel_helper *helper, const struct flow_key *flow, bool is_held)
{
	size_t count = helper->inherited_count + 1;
	struct inherited *all = reallocarray(helper->inherited, count, sizeof(*all));

	if (!all)
		return; /* it stays as it is until its client opens it anew */
	helper->inherited = all;
	helper->inherited[helper->inherited_count++] = (struct inherited){ *flow, is_held };
}

/* This run has the flow itself now. Return: whether it was one */
static bool disinherit(struct kernel_helper *helper, const struct flow_key *flow)
{
	for (size_t i = 0; i < helper->inherited_count; i++)
		if (memcmp(&helper->inherited[i].flow, flow, sizeof(*flow)) == 0) {
			helper->inherited[i] = helper->inherited[--helper->inherited_count];
			return true;
		}
	return false;
}

static void forget_inherited(evutil_socket_t fd __attribute__((unused)), short what __attribute__((unused)), void *arg)
{
	struct kernel_helper *helper = arg;

	while (helper->inherited_count)
		kernel_helper_forget(helper, &helper->inherited[--helper->inherited_count].flow);
}

static void release_held(evutil_socket_t fd __attribute__((unused)), short what __attribute__((unused)), void *arg)
{
	kernel_helper_release_inherited(arg, NULL, NULL);
}

/*
 * The sockets of an earlier run died with it, silently if they were frozen. What it held may have an owner elsewhere, what it relayed
 * has.
 */
static void take_up_flows(struct kernel_helper *helper)
{
	struct flow_key key, next;
	struct node_flow entry;
	char text[FLOW_TEXT_MAX];
	int err;

	err = bpf_map_get_next_key(helper->flows_fd, NULL, &next);
	for (int i = 0; !err && i < NODE_FLOWS_MAX; i++) {
		key = next;
		err = bpf_map_get_next_key(helper->flows_fd, &key, &next);
		if (bpf_map_lookup_elem(helper->flows_fd, &key, &entry))
			continue;
		if (NODE_GATE_STATE(entry.gate) == NODE_RELAY) {
			inherit(helper, &key, false);
			continue;
		}
		if (NODE_GATE_STATE(entry.gate) == NODE_HOLD) {
			inherit(helper, &key, true);
			log_info("kernel_helper", "flow=\"%s\" was held by an earlier run: does another device have it?",
				 flow_text(&key, text));
			continue;
		}
		if (NODE_GATE_STATE(entry.gate) == NODE_HALF && entry.way.part == NODE_RECEIVES) {
			inherit(helper, &key, false); /* the kernel may still try to end it in the client's eyes */
			continue;
		}
		bpf_map_delete_elem(helper->flows_fd, &key);
	}
}

static const struct hook {
	const char *program;
	enum tc_direction direction;
} interface_hooks[] = {
	{ "node_ingress", TC_DIRECTION_INGRESS },
	{ "node_egress", TC_DIRECTION_EGRESS },
}, park_hooks[] = {
	{ "node_park", TC_DIRECTION_INGRESS },
	{ "node_park_guard", TC_DIRECTION_EGRESS },
};

enum { NHOOKS = 2 };

static struct tc_place place_of(const struct hook *hook, unsigned int ifindex)
{
	return (struct tc_place){ .ifindex = ifindex, .direction = hook->direction, .priority = TC_PRIORITY_NODE };
}

static int attach_hooks(struct kernel_helper *helper, const struct hook hooks[static NHOOKS], unsigned int ifindex)
{
	int err = 0;

	for (size_t i = 0; !err && i < NHOOKS; i++) {
		struct tc_place place = place_of(&hooks[i], ifindex);

		err = tc_attach(helper->object, hooks[i].program, &place);
	}
	return err;
}

static void detach_hooks(const struct hook hooks[static NHOOKS], unsigned int ifindex)
{
	for (size_t i = 0; i < NHOOKS; i++) {
		struct tc_place place = place_of(&hooks[i], ifindex);

		tc_detach(&place);
	}
}

/* The configuration may have named other interfaces in an earlier run. */
static void detach_strays(struct kernel_helper *helper)
{
	unsigned int keep[KERNEL_HELPER_INTERFACES_MAX + 1];

	memcpy(keep, helper->interfaces, sizeof(helper->interfaces));
	keep[helper->interface_count] = park_ifindex(helper->park);
	for (size_t i = 0; i < NHOOKS; i++) {
		struct tc_place place = place_of(&interface_hooks[i], 0);

		tc_detach_strays(&place, "node_", keep, helper->interface_count + 1);
	}
}

static int attach_program(struct kernel_helper *helper)
{
	int err;

	err = attach_hooks(helper, park_hooks, park_ifindex(helper->park));
	if (!err)
		err = park_start(helper->park);
	for (size_t i = 0; !err && i < helper->interface_count; i++)
		err = attach_hooks(helper, interface_hooks, helper->interfaces[i]);
	if (!err)
		detach_strays(helper);
	return err;
}

static void on_parked(evutil_socket_t fd __attribute__((unused)), short what __attribute__((unused)), void *arg)
{
	struct kernel_helper *helper = arg;

	park_drain(helper->park);
	packet_orders_check(helper->orders);
}

static int watch_park(struct kernel_helper *helper, struct event_base *base)
{
	helper->on_parked = event_new(base, park_fd(helper->park), EV_READ | EV_PERSIST, on_parked, helper);
	return helper->on_parked && event_add(helper->on_parked, NULL) == 0 ? 0 : -ENOMEM;
}

/* Nothing else needs it: without, a connection that moved has to find out anew how fast it may be. */
bool kernel_helper_restores_congestion(const struct kernel_helper *helper)
{
	return helper->congestion;
}

static void start_congestion(struct kernel_helper *helper)
{
	int err = congestion_new(&helper->congestion);

	if (err)
		log_info("kernel_helper", "congestion windows are not restored: %s", strerror(-err));
}

static void arm(struct event *timer, unsigned int ms)
{
	event_add(timer, &(struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 });
}

/* What their clients send again parks, as if they had just been held. */
static int keep_inherited(struct kernel_helper *helper)
{
	struct node_flow entry = { .gate = NODE_HOLD, .park_ifindex = park_ifindex(helper->park) };
	int err = 0;

	for (size_t i = 0; !err && i < helper->inherited_count; i++) {
		if (!helper->inherited[i].is_held)
			continue;
		err = park_keep(helper->park, &helper->inherited[i].flow);
		if (!err)
			err = bpf_map_update_elem(helper->flows_fd, &helper->inherited[i].flow, &entry, BPF_ANY);
	}
	return err;
}

static int start(struct kernel_helper *helper, struct event_base *base, const struct kernel_helper_options *options,
		 bool *took_up)
{
	int err;

	helper->pin_dir = strdup(options->pin_dir);
	if (!helper->pin_dir)
		return -ENOMEM;
	helper->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (helper->control < 0)
		return -errno;
	err = find_interfaces(helper, options);
	if (!err)
		err = load_program(helper, took_up);
	if (err)
		return err;
	take_up_flows(helper);
	helper->on_inherited = evtimer_new(base, forget_inherited, helper);
	helper->on_held = evtimer_new(base, release_held, helper);
	if (!helper->on_inherited || !helper->on_held)
		return -ENOMEM;
	arm(helper->on_inherited, options->inherited_ms ? options->inherited_ms : KERNEL_HELPER_INHERITED_MS);
	arm(helper->on_held, options->held_ms ? options->held_ms : KERNEL_HELPER_HELD_MS);
	err = park_open(options->park_name, options->interfaces[0], &helper->park);
	if (!err)
		err = keep_inherited(helper);
	if (!err)
		err = attach_program(helper);
	if (!err)
		err = packet_orders_new(base, helper->park, helper->flows_fd, helper->command_fd, &helper->orders);
	if (!err)
		start_congestion(helper);
	return err ? err : watch_park(helper, base);
}

int kernel_helper_new(struct event_base *base, const struct kernel_helper_options *options,
		      struct kernel_helper **out)
{
	struct kernel_helper *helper = calloc(1, sizeof(*helper));
	bool took_up = false;
	int err;

	if (!helper)
		return -ENOMEM;
	helper->control = -1;
	helper->acks = BARE_ACK_NO_SOCKETS;
	err = start(helper, base, options, &took_up);
	if (err) {
		kernel_helper_free(helper, !took_up);
		return err;
	}
	*out = helper;
	return 0;
}

static void undo_for_good(struct kernel_helper *helper)
{
	for (size_t i = 0; i < helper->interface_count; i++)
		detach_hooks(interface_hooks, helper->interfaces[i]);
	if (helper->object)
		tc_unpin(helper->object, helper->pin_dir);
}

void kernel_helper_free(struct kernel_helper *helper, bool for_good)
{
	if (!helper)
		return;
	if (for_good)
		undo_for_good(helper);
	if (helper->on_parked)
		event_free(helper->on_parked);
	if (helper->on_inherited)
		event_free(helper->on_inherited);
	if (helper->on_held)
		event_free(helper->on_held);
	packet_orders_free(helper->orders);
	congestion_free(helper->congestion);
	free(helper->inherited);
	park_close(helper->park, for_good);
	bpf_object__close(helper->object);
	if (helper->control >= 0)
		close(helper->control);
	bare_ack_sockets_fini(&helper->acks);
	free(helper->pin_dir);
	free(helper);
}

int kernel_helper_adopt(struct kernel_helper *helper __attribute__((unused)), int fd, struct kernel_helper_static *out)
{
	return tcp_repair_adopt(fd, out);
}

static int command(struct kernel_helper *helper, struct node_order *order)
{
	int err = tc_run(helper->command_fd, order, sizeof(*order));

	return err ? err : order->error;
}

static void write_back_parked(struct kernel_helper *helper, const struct flow_key *flow)
{
	park_drain(helper->park);
	park_write_back(helper->park, flow);
}

static enum node_when when_to_end_hold(int attempt)
{
	if (attempt < END_HOLD_BY_LAST)
		return NODE_AFTER_LAST;
	return attempt < END_HOLD_NOW ? NODE_AT_LAST : NODE_NOW;
}

/*
 * Sends the flow's packets on their way, parked ones first. New ones park behind them until the last was written back;
 * a packet that was counted and is not in the ring yet is in the hands of another CPU, so try again.
 *
 * A client that is answered at once may always have sent more by the time we look: then the last packet that was
 * parked changes the state on its way. And a packet may have been lost (ring full, no memory): then do not wait for it.
 */
static int end_hold(struct kernel_helper *helper, struct node_order *order)
{
	int err;

	for (int i = 0;; i++) {
		order->when = when_to_end_hold(i);
		err = command(helper, order);
		if (err != -EAGAIN)
			break;
		write_back_parked(helper, &order->flow);
	}
	if (err && err != -ENOENT) /* none: a SYN of the client removed it */
		return err;
	write_back_parked(helper, &order->flow);
	park_forget(helper->park, &order->flow);
	return 0;
}

bool kernel_helper_is_settled(struct kernel_helper *helper, int fd, const struct flow_key *flow, size_t restored_len)
{
	uint32_t first;

	return !park_first_sequence(helper->park, flow, &first) && tcp_repair_is_settled(fd, restored_len);
}

int kernel_helper_hold(struct kernel_helper *helper, const struct flow_key *flow)
{
	struct node_flow entry = { .gate = NODE_HOLD, .park_ifindex = park_ifindex(helper->park) };
	int err;

	packet_orders_end(helper->orders, flow);
	disinherit(helper, flow);
	err = park_keep(helper->park, flow);
	if (err)
		return err;
	err = bpf_map_update_elem(helper->flows_fd, flow, &entry, BPF_ANY);
	if (err)
		park_forget(helper->park, flow);
	return err;
}

int kernel_helper_freeze(struct kernel_helper *helper __attribute__((unused)), int fd, const struct flow_key *flow,
			 const struct kernel_helper_static *fixed, bool keeps_sending, struct kernel_helper_state *out)
{
	return tcp_repair_freeze(fd, flow, fixed, keeps_sending, out);
}

void kernel_helper_state_fini(struct kernel_helper_state *state)
{
	free(state->sent);
	free(state->unsent);
	free(state->received);
	state->sent = state->unsent = state->received = NULL;
	state->sent_len = state->unsent_len = state->received_len = 0;
}

/* The answers to parked packets may pass at once, while new packets still queue behind. */
void kernel_helper_release(struct kernel_helper *helper, int fd, const struct flow_key *flow)
{
	struct node_order order = { .flow = *flow, .way = { .speaks = 1 }, .state = NODE_OPEN };
	char text[FLOW_TEXT_MAX];
	int err = tcp_repair_thaw(fd);

	if (err)
		log_warn("kernel_helper", "flow=\"%s\" not thawed: %s", flow_text(flow, text), strerror(-err));
	command(helper, &order);
	tcp_repair_push(fd);
	end_hold(helper, &order);
	bpf_map_delete_elem(helper->flows_fd, flow);
}

static int interface_mac(struct kernel_helper *helper, unsigned int ifindex, uint8_t mac[static ETH_ALEN])
{
	struct ifreq ifr = { .ifr_ifindex = (int)ifindex };

	if (ioctl(helper->control, SIOCGIFNAME, &ifr) || ioctl(helper->control, SIOCGIFHWADDR, &ifr))
		return -errno;
	memcpy(mac, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	return 0;
}

int kernel_helper_relay(struct kernel_helper *helper, const struct flow_key *flow, const uint8_t to_mac[static 6],
			unsigned int ifindex)
{
	struct node_order order = { .flow = *flow, .way = { .relay_ifindex = ifindex }, .state = NODE_RELAY };
	int err;

	memcpy(order.way.to_mac, to_mac, ETH_ALEN);
	err = interface_mac(helper, ifindex, order.way.from_mac);
	if (err)
		return err;
	return end_hold(helper, &order);
}

int kernel_helper_relay_inherited(struct kernel_helper *helper, const struct flow_key *flow,
				  const uint8_t to_mac[static 6], unsigned int ifindex)
{
	return disinherit(helper, flow) ? kernel_helper_relay(helper, flow, to_mac, ifindex) : -ENOENT;
}

static void release_inherited(struct kernel_helper *helper, const struct flow_key *flow)
{
	struct node_order order = { .flow = *flow, .way = { .speaks = 1 }, .state = NODE_OPEN };
	char text[FLOW_TEXT_MAX];

	log_info("kernel_helper", "flow=\"%s\" was held by an earlier run: nobody has it", flow_text(flow, text));
	end_hold(helper, &order);
	bpf_map_delete_elem(helper->flows_fd, flow);
}

void kernel_helper_release_inherited(struct kernel_helper *helper,
				     void (*on_flow)(const struct flow_key *flow, void *arg), void *arg)
{
	size_t i = 0;

	while (i < helper->inherited_count) {
		const struct inherited inherited = helper->inherited[i];

		if (!inherited.is_held) {
			i++;
			continue;
		}
		helper->inherited[i] = helper->inherited[--helper->inherited_count];
		release_inherited(helper, &inherited.flow);
		if (on_flow)
			on_flow(&inherited.flow, arg);
	}
}

void kernel_helper_silence(struct kernel_helper *helper __attribute__((unused)), int fd)
{
	tcp_repair_silence(fd);
}

/*
 * If another device has spoken, the socket's RST has not the number that the client expects, and is ignored (RFC 5961, 3). So the client
 * is asked, too: what it says to an acknowledgment that it can't accept our stack, which has no socket for it, answers with the right one.
 */
void kernel_helper_reset(struct kernel_helper *helper, int fd, const struct flow_key *flow)
{
	int err;

	kernel_helper_forget(helper, flow);
	tcp_repair_reset(fd);
	err = bare_ack_send(&helper->acks, flow, &(struct bare_ack){ 0 });
	if (err)
		log_debug("kernel_helper", "no acknowledgment sent: %s", strerror(-err));
}

void kernel_helper_forget(struct kernel_helper *helper, const struct flow_key *flow)
{
	bpf_map_delete_elem(helper->flows_fd, flow);
	packet_orders_forget(helper->orders, flow);
	park_drain(helper->park);
	park_forget(helper->park, flow);
}

int kernel_helper_sketch(struct kernel_helper *helper __attribute__((unused)), int fd, const struct flow_key *flow,
			 const struct kernel_helper_static *fixed, struct kernel_helper_state *out)
{
	return tcp_repair_sketch(fd, flow, fixed, out);
}

int kernel_helper_prepare(struct kernel_helper *helper __attribute__((unused)), const struct kernel_helper_state *sketch,
			  int *fd)
{
	return tcp_repair_prepare(sketch, fd);
}

/*
 * The old entry goes last. Until then a packet that comes here is relayed, at worst back to the first device, which
 * parks it; without socket and entry our stack would answer it with RST.
 */
int kernel_helper_restore(struct kernel_helper *helper, const struct kernel_helper_state *state, int *fd)
{
	int err = tcp_repair_restore(state, helper->congestion, *fd, fd);

	if (err)
		return err;
	/* Without an order the client may send a packet twice; nothing else happens. */
	disinherit(helper, &state->flow);
	if (packet_orders_start(helper->orders, &state->flow, state->receive_next))
		kernel_helper_forget(helper, &state->flow);
	return 0;
}

/* Half handoffs */

_Static_assert((int)KERNEL_HELPER_SENDS == (int)NODE_SENDS && (int)KERNEL_HELPER_RECEIVES == (int)NODE_RECEIVES,
	       "a part is called the same in the node program");

static struct node_half half_of(const struct kernel_helper_state *state)
{
	uint32_t edge = state->window_rcv_wup + state->window_rcv_wnd;

	return (struct node_half){
		.own_acknowledged = state->receive_next,
		.own_edge = edge,
		.peer_acknowledged = state->receive_next,
		.peer_edge = edge,
		.said_acknowledged = state->window_rcv_wup,
		.said_edge = edge,
		.send_unacknowledged = state->send_unacknowledged,
		.send_next = state->send_unacknowledged + (uint32_t)state->sent_len,
		.stamp = state->timestamp,
		.window_scale = state->fixed.receive_wscale,
	};
}

static int way_to(struct kernel_helper *helper, const struct kernel_helper_peer *peer, struct node_way *way)
{
	*way = (struct node_way){
		.relay_ifindex = peer->ifindex,
		.speaks = peer->part == KERNEL_HELPER_SENDS,
		.part = (uint8_t)peer->part,
	};
	memcpy(way->to_mac, peer->mac, ETH_ALEN);
	return interface_mac(helper, peer->ifindex, way->from_mac);
}

int kernel_helper_share(struct kernel_helper *helper, int fd, const struct kernel_helper_state *state,
			const struct kernel_helper_peer *peer)
{
	struct node_order order = { .flow = state->flow, .state = NODE_HALF, .when = NODE_PREPARE, .half = half_of(state) };
	int err;

	err = way_to(helper, peer, &order.way);
	if (!err)
		err = command(helper, &order);
	if (!err)
		err = tcp_repair_thaw(fd);
	if (err)
		return err;
	order.way.copies = 1;
	order.when = NODE_AFTER_LAST;
	command(helper, &order);
	tcp_repair_push(fd);
	return end_hold(helper, &order);
}

/* What our stack had to keep from the client while the other device had not received as much. */
static void say_all(struct kernel_helper *helper, const struct flow_key *flow, const struct kernel_helper_static *fixed,
		    const struct node_half *half)
{
	uint32_t window = (half->own_edge - half->own_acknowledged) >> fixed->receive_wscale;
	struct bare_ack ack = {
		.sequence = half->send_next,
		.acknowledgment = half->own_acknowledged,
		.window = window < UINT16_MAX ? (uint16_t)window : UINT16_MAX,
		.has_timestamps = fixed->has_timestamps,
		.timestamp = half->stamp,
	};
	int err = bare_ack_send(&helper->acks, flow, &ack);

	if (err)
		log_debug("kernel_helper", "no acknowledgment sent: %s", strerror(-err));
}

void kernel_helper_reclaim(struct kernel_helper *helper, const struct flow_key *flow,
			   const struct kernel_helper_static *fixed)
{
	struct node_flow entry;
	bool is_known = bpf_map_lookup_elem(helper->flows_fd, flow, &entry) == 0;

	kernel_helper_forget(helper, flow);
	if (is_known)
		say_all(helper, flow, fixed, &entry.half);
}

int kernel_helper_restore_half(struct kernel_helper *helper, const struct kernel_helper_state *state,
			       const struct kernel_helper_peer *peer, int *fd)
{
	struct node_flow entry = {
		.gate = NODE_HALF,
		.park_ifindex = park_ifindex(helper->park),
		.next_sequence = state->receive_next,
		.half = half_of(state),
	};
	int err, restored;

	err = way_to(helper, peer, &entry.way);
	if (err) {
		if (*fd >= 0)
			tcp_repair_silence(*fd);
		return err;
	}
	err = tcp_repair_restore(state, helper->congestion, *fd, &restored);
	if (err)
		return err;
	disinherit(helper, &state->flow);
	packet_orders_forget(helper->orders, &state->flow);
	err = bpf_map_update_elem(helper->flows_fd, &state->flow, &entry, BPF_ANY);
	if (err)
		tcp_repair_silence(restored);
	else
		*fd = restored;
	return err;
}

uint32_t kernel_helper_last_stamp(struct kernel_helper *helper, const struct flow_key *flow)
{
	struct node_flow entry;

	return bpf_map_lookup_elem(helper->flows_fd, flow, &entry) == 0 ? entry.half.stamp : 0;
}

int kernel_helper_take_over(struct kernel_helper *helper, int fd, const struct flow_key *flow,
			    const struct kernel_helper_static *fixed, uint32_t stamp)
{
	struct node_flow entry;
	int err = 0;

	if (fixed->has_timestamps && stamp)
		err = tcp_repair_stamp_after(fd, stamp);
	if (err)
		log_debug("kernel_helper", "the clock of time stamps was not advanced: %s", strerror(-err));
	err = packet_orders_adopt(helper->orders, flow);
	if (!err)
		err = bpf_map_lookup_elem(helper->flows_fd, flow, &entry);
	if (!err && (int32_t)(stamp - entry.half.stamp) > 0 && stamp)
		entry.half.stamp = stamp;
	if (!err)
		say_all(helper, flow, fixed, &entry.half);
	return err;
}

/* What the client may still send, of what the frozen connection had offered: it may have received since then. As on the wire. */
static uint16_t window_left(const struct kernel_helper_state *state)
{
	int32_t left = (int32_t)(state->window_rcv_wup + state->window_rcv_wnd - state->receive_next);
	uint32_t window = left > 0 ? (uint32_t)left >> state->fixed.receive_wscale : 0;

	return window < UINT16_MAX ? (uint16_t)window : UINT16_MAX;
}

void kernel_helper_acknowledge(struct kernel_helper *helper, const struct kernel_helper_state *state)
{
	struct bare_ack ack = {
		.sequence = state->send_unacknowledged + (uint32_t)state->sent_len,
		.acknowledgment = state->receive_next,
		.window = window_left(state),
		.has_timestamps = state->fixed.has_timestamps,
		.timestamp = state->timestamp + 2, /* as the restored socket's: see tcp_repair.c */
	};
	const struct kernel_helper_timers *timers = &state->timers;
	int err = bare_ack_send(&helper->acks, &state->flow, &ack);
	char text[FLOW_TEXT_MAX];

	if (err)
		log_debug("kernel_helper", "no acknowledgment sent: %s", strerror(-err));
	log_debug("kernel_helper", "flow=\"%s\" had round_trip_us=%u variance_us=%u retransmission_us=%u slow_start_threshold=%u",
		  flow_text(&state->flow, text), timers->round_trip_us, timers->round_trip_variance_us,
		  timers->retransmission_us, timers->slow_start_threshold);
}

const struct kernel_helper_counter *kernel_helper_counters(struct kernel_helper *helper, size_t *count)
{
	const char *park = (const char *)park_counters(helper->park);
	uint64_t sums[NODE_NCOUNTERS];

	tc_sum_counters(helper->counts_fd, sums, NODE_NCOUNTERS);
	for (size_t i = 0; i < NODE_NCOUNTERS; i++)
		helper->counters[i] = (struct kernel_helper_counter){ node_counter_names[i], sums[i] };
	for (size_t i = 0; i < PARK_NCOUNTERS; i++) {
		struct kernel_helper_counter *c = &helper->counters[NODE_NCOUNTERS + i];

		c->name = park_counter_fields[i].name;
		memcpy(&c->packets, park + park_counter_fields[i].offset, sizeof(c->packets));
	}
	*count = NCOUNTERS;
	return helper->counters;
}
