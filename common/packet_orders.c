/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/packet_orders.h"

#include "common/clock.h"
#include "common/node_map.h"
#include "common/park.h"
#include "common/tc_program.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum {
	END_MAX = 1000, /* attempts to end an order while more packets come, of some microseconds each */
	CHECK_MAX = 64, /* flows in one go */
	BUCKETS = 1024,
};

struct packet_order {
	LIST_ENTRY(packet_order) link;
	struct packet_orders *all;
	struct flow_key flow;
	struct event *timer;
	uint64_t until_ms;  /* monotonic clock */
	uint64_t parked_ms; /* since when the first packet waits for missing ones; 0: none does */
};

LIST_HEAD(bucket, packet_order);

struct packet_orders {
	struct event_base *base;
	struct park *park;
	int flows_fd, command_fd;
	struct bucket buckets[BUCKETS];
};

static struct bucket *bucket_of(struct packet_orders *orders, const struct flow_key *flow)
{
	return &orders->buckets[flow_hash(flow) % BUCKETS];
}

static struct packet_order *order_find(struct packet_orders *orders, const struct flow_key *flow)
{
	struct packet_order *order;

	LIST_FOREACH(order, bucket_of(orders, flow), link)
		if (memcmp(&order->flow, flow, sizeof(*flow)) == 0)
			return order;
	return NULL;
}

static void order_free(struct packet_order *order)
{
	LIST_REMOVE(order, link);
	event_free(order->timer);
	free(order);
}

static int order_command(struct packet_order *order, struct node_order *command)
{
	int err = tc_run(order->all->command_fd, command, sizeof(*command));

	return err ? err : command->error;
}

/* The node program learns of it when our stack has the packets: what comes meanwhile parks behind them. */
static void order_write(struct packet_order *order, uint32_t next_sequence)
{
	struct node_order command = { .flow = order->flow, .when = NODE_LATER, .next_sequence = next_sequence };

	command.returned = park_write_next(order->all->park, &order->flow, &command.next_sequence);
	if (command.returned)
		order_command(order, &command);
}

/* What waits comes in now, gaps or not. */
static void order_give_up(struct packet_order *order)
{
	uint32_t first;

	while (park_first_sequence(order->all->park, &order->flow, &first))
		order_write(order, first);
	order->parked_ms = 0;
}

static void order_wait(struct packet_order *order, uint64_t now_ms)
{
	uint64_t at_ms = order->parked_ms ? order->parked_ms + PACKET_ORDER_PATIENCE_MS : order->until_ms;
	uint64_t ms = at_ms > now_ms ? at_ms - now_ms : 0;

	event_add(order->timer, &(struct timeval){ .tv_sec = (time_t)(ms / 1000), .tv_usec = (long)(ms % 1000) * 1000 });
}

/* Missing packets may have come by themselves, or are among those that were parked. */
static void order_check(struct packet_order *order)
{
	uint64_t now_ms = clock_monotonic_ms();
	struct node_flow entry;
	uint32_t first;

	if (bpf_map_lookup_elem(order->all->flows_fd, &order->flow, &entry) == 0)
		order_write(order, entry.next_sequence);
	if (!park_first_sequence(order->all->park, &order->flow, &first))
		order->parked_ms = 0;
	else if (!order->parked_ms)
		order->parked_ms = now_ms;
	else if (now_ms >= order->parked_ms + PACKET_ORDER_PATIENCE_MS)
		order_give_up(order);
	order_wait(order, now_ms);
}

/* Frees @order. */
static void order_end(struct packet_order *order)
{
	struct node_order command = { .flow = order->flow, .way = { .speaks = 1 }, .state = NODE_OPEN };
	struct packet_orders *all = order->all;

	for (int i = 0; i <= END_MAX; i++) {
		park_drain(all->park);
		order_give_up(order);
		command.when = i < END_MAX ? NODE_AFTER_LAST : NODE_NOW;
		if (order_command(order, &command) != -EAGAIN)
			break; /* -ENOENT: a SYN of the client removed it */
	}
	bpf_map_delete_elem(all->flows_fd, &order->flow);
	park_forget(all->park, &order->flow);
	order_free(order);
}

static void order_on_timer(evutil_socket_t fd __attribute__((unused)), short what __attribute__((unused)), void *arg)
{
	struct packet_order *order = arg;

	if (clock_monotonic_ms() >= order->until_ms) {
		order_end(order);
		return;
	}
	park_drain(order->all->park);
	order_check(order);
}

static struct packet_order *order_new(struct packet_orders *orders, const struct flow_key *flow)
{
	struct packet_order *order = calloc(1, sizeof(*order));

	if (order)
		order->timer = evtimer_new(orders->base, order_on_timer, order);
	if (!order || !order->timer) {
		free(order);
		return NULL;
	}
	order->all = orders;
	order->flow = *flow;
	order->until_ms = clock_monotonic_ms() + PACKET_ORDER_MS;
	LIST_INSERT_HEAD(bucket_of(orders, flow), order, link);
	return order;
}

/* @entry: replaces what the map has; NULL: the entry that is there goes over to ORDER */
static int order_enter(struct packet_order *order, const struct node_flow *entry)
{
	struct node_order command = { .flow = order->flow, .way = { .speaks = 1 }, .state = NODE_ORDER };

	return entry ? bpf_map_update_elem(order->all->flows_fd, &order->flow, entry, BPF_ANY) :
		       order_command(order, &command);
}

static int order_begin(struct packet_orders *orders, const struct flow_key *flow, const struct node_flow *entry)
{
	struct packet_order *order;
	int err;

	packet_orders_forget(orders, flow);
	order = order_new(orders, flow);
	if (!order)
		return -ENOMEM;
	err = park_keep(orders->park, flow);
	if (!err)
		err = order_enter(order, entry);
	if (err)
		order_free(order);
	else
		order_wait(order, clock_monotonic_ms());
	return err;
}

int packet_orders_start(struct packet_orders *orders, const struct flow_key *flow, uint32_t next_sequence)
{
	struct node_flow entry = {
		.gate = NODE_ORDER,
		.park_ifindex = park_ifindex(orders->park),
		.way = { .speaks = 1 },
		.next_sequence = next_sequence,
	};

	return order_begin(orders, flow, &entry);
}

int packet_orders_adopt(struct packet_orders *orders, const struct flow_key *flow)
{
	return order_begin(orders, flow, NULL);
}

void packet_orders_end(struct packet_orders *orders, const struct flow_key *flow)
{
	struct packet_order *order = order_find(orders, flow);

	if (order)
		order_end(order);
}

void packet_orders_forget(struct packet_orders *orders, const struct flow_key *flow)
{
	struct packet_order *order = order_find(orders, flow);

	if (order)
		order_free(order);
}

void packet_orders_check(struct packet_orders *orders)
{
	struct flow_key waiting[CHECK_MAX];
	size_t count = park_waiting(orders->park, waiting, CHECK_MAX);
	struct packet_order *order;

	/* Others are held, which is not our affair; or have their timer. */
	for (size_t i = 0; i < count; i++) {
		order = order_find(orders, &waiting[i]);
		if (order)
			order_check(order);
	}
}

int packet_orders_new(struct event_base *base, struct park *park, int flows_fd, int command_fd,
		      struct packet_orders **out)
{
	struct packet_orders *orders = calloc(1, sizeof(*orders));

	if (!orders)
		return -ENOMEM;
	orders->base = base;
	orders->park = park;
	orders->flows_fd = flows_fd;
	orders->command_fd = command_fd;
	*out = orders;
	return 0;
}

void packet_orders_free(struct packet_orders *orders)
{
	if (!orders)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (!LIST_EMPTY(&orders->buckets[i]))
			order_free(LIST_FIRST(&orders->buckets[i]));
	free(orders);
}
