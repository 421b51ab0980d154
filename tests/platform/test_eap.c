/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a device waits for the switch's daemon after each handoff, or a stranger, a device that does not have a
 * flow, or a datagram that was heard and sent again moves clients' connections.
 *
 * Real datagrams from disk nodes and a client to the switch's BPF program, inline and one-arm, IPv4 and IPv6.
 */
#include "config.h"

#include "common/log.h"
#include "scp/eap.h"
#include "tests/platform/cluster.h"
#include "tests/platform/netns.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE_MS = 1000, SILENCE_MS = 20, TRANSACTION = 0xfffe, ASKS = 1000 };

static const uint8_t keys[CLUSTER_DEVICES][EAP_KEY_BYTES] = { "", "key of node-a", "key of node-b" };

/* Who asks, and what for. */
struct asker {
	struct cluster *c;
	struct cluster_device *device;
	int fd;
	struct flow_key flow;
	uint64_t counter;
};

static int connect_from(int netns, const char *address)
{
	struct sockaddr_storage ss;
	socklen_t len = netns_address(address, CLUSTER_EAP_PORT, &ss);
	int fd;

	netns_enter(netns);
	fd = socket(ss.ss_family, SOCK_DGRAM, 0);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&ss, len) == 0);
	return fd;
}

static struct flow_key flow_of(int family)
{
	struct sockaddr_storage client, vip;
	struct flow_key flow;

	netns_address(cluster_families[family].client, 5100, &client);
	netns_address(cluster_families[family].vip, CLUSTER_PORT, &vip);
	CHECK_OK(flow_from_sockets(&client, &vip, IPPROTO_TCP, &flow));
	return flow;
}

/* The program knows one address of the switch, or takes any. */
static void listen_at(struct cluster *c, const char *address)
{
	struct sockaddr_storage ss;

	memset(c->fabric_options.eap_address, 0, sizeof(c->fabric_options.eap_address));
	if (address) {
		netns_address(address, 0, &ss);
		CHECK_OK(flow_address(&ss, c->fabric_options.eap_address));
	}
	netns_enter(c->devices[0].netns);
	fabric_free(c->fabric, false);
	cluster_start_fabric(c);
}

static struct asker asker_of(struct cluster *c, int family, struct cluster_device *device)
{
	CHECK_OK(fabric_key_set(c->fabric, device->index, keys[device->index - FABRIC_SWITCH]));
	return (struct asker){
		.c = c,
		.device = device,
		.fd = connect_from(device->netns, cluster_switch_address(c, family)),
		.flow = flow_of(family),
	};
}

static struct eap_datagram request(struct asker *a, uint32_t to, uint16_t transaction)
{
	return (struct eap_datagram){
		.eap = {
			.operation = EAP_CHANGE,
			.nonce = a->device->index,
			.transaction = transaction,
			.cluster = CLUSTER_ID,
			.device = to,
			.flow = a->flow,
		},
		.kind = EAP_REQUEST,
		.counter = ++a->counter,
	};
}

static const uint8_t *key_of(const struct asker *a)
{
	return keys[a->device->index - FABRIC_SWITCH];
}

static bool hears(int fd, int patience_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, patience_ms) == 1;
}

/* What the switch says to it; fails the test if it says nothing. */
static int answer_to(struct asker *a, const struct eap_datagram *datagram, uint32_t *generation)
{
	uint8_t bytes[EAP_DATAGRAM_BYTES + 1];
	struct eap_datagram answer;

	CHECK_OK(eap_datagram_encode(datagram, key_of(a), bytes));
	CHECK(send(a->fd, bytes, EAP_DATAGRAM_BYTES, 0) == EAP_DATAGRAM_BYTES);
	CHECK(hears(a->fd, PATIENCE_MS));
	CHECK(recv(a->fd, bytes, sizeof(bytes), 0) == EAP_DATAGRAM_BYTES);
	CHECK_OK(eap_datagram_decode(bytes, EAP_DATAGRAM_BYTES, key_of(a), &answer));
	CHECK(answer.kind == EAP_ANSWER && answer.counter == datagram->counter);
	CHECK(answer.eap.device == datagram->eap.device && answer.eap.transaction == datagram->eap.transaction);
	CHECK(memcmp(&answer.eap.flow, &datagram->eap.flow, sizeof(answer.eap.flow)) == 0);
	*generation = answer.generation;
	return answer.result;
}

static int ask(struct asker *a, uint32_t to, uint16_t transaction)
{
	struct eap_datagram datagram = request(a, to, transaction);
	uint32_t generation;

	return answer_to(a, &datagram, &generation);
}

static struct fabric_flow look(struct asker *a)
{
	struct fabric_flow flow;

	CHECK_OK(fabric_flow_get(a->c->fabric, &a->flow, &flow));
	return flow;
}

static void give_to(struct asker *a, uint32_t device)
{
	uint32_t generation;

	fabric_flow_remove(a->c->fabric, &a->flow);
	CHECK_OK(fabric_flow_set(a->c->fabric, &a->flow, device, &generation));
}

struct moves {
	size_t count;
	struct fabric_move last;
};

static void note_move(const struct fabric_move *move, void *arg)
{
	struct moves *moves = arg;

	moves->count++;
	moves->last = *move;
}

static struct moves read_moves(struct cluster *c)
{
	struct moves moves = { 0 };

	fabric_moves_read(c->fabric, note_move, &moves);
	return moves;
}

/* The mean time until an answer. */
static unsigned int answer_us(struct asker *a)
{
	uint64_t start_us = cluster_now_us();

	for (int i = 0; i < ASKS; i++)
		CHECK(ask(a, a->device->index, TRANSACTION) == 0);
	return (unsigned int)((cluster_now_us() - start_us) / ASKS);
}

/* There and back, told in order; with checksums that the receiver has to check, too. */
static void test_performed(struct cluster *c, int family, const char *offload)
{
	struct cluster_device *first = &c->devices[1], *second = &c->devices[2];
	struct asker a, b;
	struct moves moves;
	struct eap_datagram datagram;
	uint32_t generation;
	unsigned int us;

	for (int i = 1; i < CLUSTER_DEVICES; i++)
		netns_run(c->devices[i].netns, "ethtool -K eth0 rx %s tx %s >/dev/null", offload, offload);
	a = asker_of(c, family, first);
	b = asker_of(c, family, second);
	give_to(&a, first->index);
	us = answer_us(&a);
	read_moves(c);
	datagram = request(&a, second->index, TRANSACTION);
	CHECK(answer_to(&a, &datagram, &generation) == 0 && generation == 2);
	CHECK(look(&a).device == second->index && look(&a).generation == 2);
	moves = read_moves(c);
	CHECK(moves.count == 1 && moves.last.from == first->index && moves.last.device == second->index);
	CHECK(moves.last.transaction == TRANSACTION && moves.last.generation == 2);
	CHECK(memcmp(&moves.last.flow, &a.flow, sizeof(a.flow)) == 0);

	/* Asked again, because the answer was lost; by then it may have gone on, also past the end of 16 bits. */
	CHECK(ask(&a, second->index, TRANSACTION) == 0);
	CHECK(look(&a).generation == 2 && read_moves(c).count == 0);
	CHECK(ask(&b, first->index, TRANSACTION + 1) == 0);
	CHECK(ask(&a, second->index, (uint16_t)(TRANSACTION + 2)) == 0);
	CHECK(ask(&b, FABRIC_SWITCH, (uint16_t)(TRANSACTION + 3)) == 0);
	CHECK(ask(&b, first->index, TRANSACTION + 1) == ESTALE);
	CHECK(look(&a).device == FABRIC_SWITCH && look(&a).generation == 5);
	read_moves(c);
	fabric_flow_remove(c->fabric, &a.flow);
	close(a.fd);
	close(b.fd);
	printf("ok: performed, %s, checksum offload %s: an answer takes %u us\n", cluster_families[family].name, offload, us);
}

/* Answered, and not done. */
static void test_answered_with_no(struct cluster *c, int family)
{
	struct cluster_device *first = &c->devices[1], *second = &c->devices[2];
	struct asker a = asker_of(c, family, first), b = asker_of(c, family, second);
	uint64_t not_owner = cluster_fabric_counter(c, "eap_not_owner");
	struct eap_datagram other;
	uint32_t generation;

	CHECK(ask(&a, second->index, 1) == ENOENT);
	give_to(&a, first->index);
	CHECK(ask(&b, FABRIC_SWITCH, 2) == EPERM);
	CHECK(ask(&a, 77, 2) == ENODEV);
	CHECK(ask(&a, 100000, 2) == ENODEV);
	CHECK(ask(&a, 0, 2) == ENODEV);
	for (int operation = EAP_QUERY; operation <= EAP_REDIRECT; operation++) {
		other = request(&a, second->index, 2);
		other.eap.operation = (enum eap_operation)operation;
		if (operation != EAP_CHANGE && operation != EAP_SET)
			CHECK(answer_to(&a, &other, &generation) == EOPNOTSUPP);
	}
	CHECK(look(&a).device == first->index && look(&a).generation == 1);
	CHECK(cluster_fabric_counter(c, "eap_not_owner") == not_owner + 1);
	CHECK(read_moves(c).count == 0);
	close(a.fd);
	close(b.fd);
	printf("ok: answered with no, %s\n", cluster_families[family].name);
}

/* A device gave the flow away, but the switch took it back first: there is nothing to be given any more, ever. */
static void test_taken_back(struct cluster *c, int family)
{
	struct cluster_device *first = &c->devices[1], *second = &c->devices[2];
	struct asker a = asker_of(c, family, first), b = asker_of(c, family, second);
	uint64_t late = cluster_fabric_counter(c, "eap_late");
	uint32_t generation;

	give_to(&a, first->index);
	CHECK_OK(fabric_flow_set(c->fabric, &a.flow, FABRIC_SWITCH, &generation));
	CHECK(ask(&a, second->index, 1) == ESTALE);
	CHECK(cluster_fabric_counter(c, "eap_late") == late + 1);
	CHECK(ask(&b, first->index, 1) == EPERM); /* the switch may have given it to node-b, and not said so yet */
	CHECK_OK(fabric_flow_announce(c->fabric, &a.flow, FABRIC_SWITCH, first->index));
	CHECK(ask(&a, second->index, 1) == EPERM); /* and now to node-a */
	CHECK_OK(fabric_flow_give(c->fabric, &a.flow, FABRIC_SWITCH, first->index, 1, &generation));
	CHECK(ask(&a, second->index, 2) == 0);
	CHECK(look(&a).device == second->index);
	read_moves(c);
	fabric_flow_remove(c->fabric, &a.flow);
	close(a.fd);
	close(b.fd);
	printf("ok: taken back, %s\n", cluster_families[family].name);
}

/* Sends it with @key; expects that nobody hears of it but the counter. */
static void expect_dropped(struct asker *a, int fd, const struct eap_datagram *datagram, const uint8_t *key, size_t len,
			   const char *counter)
{
	uint64_t before = cluster_fabric_counter(a->c, counter);
	uint8_t bytes[2 * EAP_DATAGRAM_BYTES] = { 0 };

	CHECK_OK(eap_datagram_encode(datagram, key, bytes));
	CHECK(send(fd, bytes, len, 0) == (ssize_t)len);
	CHECK(!hears(fd, SILENCE_MS));
	if (cluster_fabric_counter(a->c, counter) != before + 1) {
		cluster_print_counters(a->c);
		fail("not counted as %s", counter);
	}
	CHECK(look(a).device == a->device->index && look(a).generation == 1);
}

static void test_dropped(struct cluster *c, int family)
{
	struct cluster_device *first = &c->devices[1], *second = &c->devices[2];
	struct asker a = asker_of(c, family, first), b = asker_of(c, family, second);
	struct eap_datagram good, bad;
	int stranger;

	give_to(&a, first->index);
	good = request(&a, first->index, 1);
	CHECK(answer_to(&a, &good, &(uint32_t){ 0 }) == 0);
	read_moves(c);
	good.eap.device = second->index;

	expect_dropped(&a, a.fd, &good, key_of(&a), EAP_DATAGRAM_BYTES, "eap_replayed");
	bad = good;
	bad.counter = 0;
	expect_dropped(&a, a.fd, &bad, key_of(&a), EAP_DATAGRAM_BYTES, "eap_replayed");
	good.counter++;
	expect_dropped(&a, a.fd, &good, key_of(&b), EAP_DATAGRAM_BYTES, "eap_forged");
	expect_dropped(&a, b.fd, &good, key_of(&a), EAP_DATAGRAM_BYTES, "eap_stranger");
	expect_dropped(&a, b.fd, &good, key_of(&b), EAP_DATAGRAM_BYTES, "eap_stranger");
	expect_dropped(&a, a.fd, &good, key_of(&a), EAP_DATAGRAM_BYTES - 1, "eap_malformed");
	expect_dropped(&a, a.fd, &good, key_of(&a), EAP_DATAGRAM_BYTES + 1, "eap_malformed");
	expect_dropped(&a, a.fd, &good, key_of(&a), 1, "eap_malformed");
	expect_dropped(&a, a.fd, &good, key_of(&a), 0, "eap_malformed");
	bad = good;
	bad.kind = EAP_ANSWER;
	expect_dropped(&a, a.fd, &bad, key_of(&a), EAP_DATAGRAM_BYTES, "eap_malformed");
	bad = good;
	bad.eap.nonce = 200;
	expect_dropped(&a, a.fd, &bad, key_of(&a), EAP_DATAGRAM_BYTES, "eap_stranger");
	bad.eap.nonce = FABRIC_SWITCH;
	expect_dropped(&a, a.fd, &bad, key_of(&a), EAP_DATAGRAM_BYTES, "eap_stranger");
	bad = good;
	bad.eap.cluster++;
	expect_dropped(&a, a.fd, &bad, key_of(&a), EAP_DATAGRAM_BYTES, "eap_other_cluster");

	/* A client who knows the key. */
	if (!c->is_one_arm)
		netns_run(c->client, "ip route replace 10.10.0.0/24 via 10.9.0.1 && ip route replace fd10::/64 via fd09::1");
	stranger = connect_from(c->client, cluster_switch_address(c, family));
	expect_dropped(&a, stranger, &good, key_of(&a), EAP_DATAGRAM_BYTES, "eap_stranger");
	close(stranger);

	/* A device that was removed. Another flow owner, for its own would go to the switch with it. */
	fabric_device_remove(c->fabric, second->index);
	good = request(&b, second->index, 9);
	expect_dropped(&a, b.fd, &good, key_of(&b), EAP_DATAGRAM_BYTES, "eap_stranger");
	CHECK_OK(fabric_device_set(c->fabric, second->index, second->mac, c->devices[0].interface));
	expect_dropped(&a, b.fd, &good, key_of(&b), EAP_DATAGRAM_BYTES, "eap_stranger");
	CHECK(read_moves(c).count == 0);
	close(a.fd);
	close(b.fd);
	printf("ok: dropped, %s\n", cluster_families[family].name);
}

static uint64_t refused(struct cluster *c)
{
	return cluster_fabric_counter(c, "eap_malformed") + cluster_fabric_counter(c, "eap_stranger") +
	       cluster_fabric_counter(c, "eap_forged");
}

/* Whatever bit is changed on the way, nothing happens. */
static void test_changed_bits(struct cluster *c, int family)
{
	struct asker a = asker_of(c, family, &c->devices[1]);
	struct eap_datagram good = request(&a, c->devices[2].index, 1);
	uint64_t before = refused(c);
	uint8_t bytes[EAP_DATAGRAM_BYTES];

	give_to(&a, a.device->index);
	CHECK_OK(eap_datagram_encode(&good, key_of(&a), bytes));
	for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(send(a.fd, bytes, sizeof(bytes), 0) == sizeof(bytes));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	CHECK(!hears(a.fd, SILENCE_MS));
	CHECK(refused(c) == before + 8 * sizeof(bytes));
	CHECK(look(&a).device == a.device->index && look(&a).generation == 1 && read_moves(c).count == 0);
	CHECK(ask(&a, c->devices[2].index, 1) == 0);
	read_moves(c);
	close(a.fd);
	printf("ok: changed bits, %s\n", cluster_families[family].name);
}

static int announce(struct asker *a, uint32_t device, uint16_t transaction)
{
	struct eap_datagram datagram = request(a, device, transaction);
	uint32_t generation;

	datagram.eap.operation = EAP_SET;
	return answer_to(a, &datagram, &generation);
}

/* A packet of the flow from a device to the client: does the switch send it on? */
static bool is_sent_on(struct asker *a, int family)
{
	uint64_t fenced = cluster_fabric_counter(a->c, "device_former_owner");
	const struct cluster_family *f = &cluster_families[family];
	struct sockaddr_storage client, vip;
	socklen_t len = netns_address(f->client, 5100, &client);
	int fd;

	netns_enter(a->device->netns);
	fd = socket(client.ss_family, SOCK_DGRAM, 0);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&vip, netns_address(f->vip, CLUSTER_PORT, &vip)) == 0);
	CHECK(sendto(fd, "reply", 5, 0, (struct sockaddr *)&client, len) == 5);
	usleep(SILENCE_MS * 1000);
	close(fd);
	return cluster_fabric_counter(a->c, "device_former_owner") == fenced;
}

/* There and back: who has given the flow away is silent until its owner says that it may come back. */
static void test_announced(struct cluster *c, int family)
{
	struct asker a = asker_of(c, family, &c->devices[1]), b = asker_of(c, family, &c->devices[2]);

	a.flow.protocol = IPPROTO_UDP;
	b.flow.protocol = IPPROTO_UDP;
	give_to(&a, a.device->index);
	CHECK(announce(&a, b.device->index, 1) == 0);
	CHECK(look(&a).device == a.device->index && look(&a).generation == 1);
	CHECK(ask(&a, b.device->index, 1) == 0);
	CHECK(is_sent_on(&a, family)); /* node-b has not shown yet that it can announce */
	CHECK(announce(&b, FABRIC_SWITCH, 2) == 0);
	CHECK(!is_sent_on(&a, family) && is_sent_on(&b, family));
	CHECK(announce(&a, a.device->index, 2) == EPERM);
	CHECK(announce(&b, a.device->index, 0) == ESTALE);
	CHECK(!is_sent_on(&a, family));
	CHECK(announce(&b, a.device->index, 2) == 0);
	CHECK(is_sent_on(&a, family) && is_sent_on(&b, family));
	CHECK(ask(&b, a.device->index, 2) == 0);
	CHECK(is_sent_on(&a, family) && !is_sent_on(&b, family));
	CHECK(read_moves(c).count == 2); /* announcements are none */
	fabric_flow_remove(c->fabric, &a.flow);
	close(a.fd);
	close(b.fd);
	printf("ok: announced, %s\n", cluster_families[family].name);
}

struct named {
	const char *reason;
	struct fabric_refusal found;
};

static void find_refusal(const struct fabric_refusal *refusal, void *arg)
{
	struct named *named = arg;

	if (strcmp(refusal->reason, named->reason) == 0)
		named->found = *refusal;
}

/* The log can say who it was. */
static void test_who_it_was(struct cluster *c)
{
	struct asker a = asker_of(c, 0, &c->devices[1]), b = asker_of(c, 0, &c->devices[2]);
	struct eap_datagram good = request(&a, b.device->index, 1);
	struct named named = { .reason = "eap_stranger" };

	give_to(&a, a.device->index);
	expect_dropped(&a, b.fd, &good, key_of(&a), EAP_DATAGRAM_BYTES, "eap_stranger");
	fabric_refusals(c->fabric, find_refusal, &named);
	CHECK(named.found.count == cluster_fabric_counter(c, "eap_stranger"));
	CHECK(named.found.device == a.device->index && memcmp(named.found.mac, b.device->mac, 6) == 0);
	CHECK(named.found.address[10] == 0xff && named.found.address[12] == 10);
	close(a.fd);
	close(b.fd);
	printf("ok: who it was\n");
}

/* Of a device whose certificates were revoked: it may be in somebody else's hands, and knows its key. */
static void test_key_forgotten(struct cluster *c)
{
	struct asker a = asker_of(c, 0, &c->devices[1]);
	struct eap_datagram good = request(&a, c->devices[2].index, 1);

	give_to(&a, a.device->index);
	fabric_key_forget(c->fabric, a.device->index);
	expect_dropped(&a, a.fd, &good, key_of(&a), EAP_DATAGRAM_BYTES, "eap_stranger");
	close(a.fd);
	a = asker_of(c, 0, &c->devices[1]);
	CHECK(ask(&a, c->devices[2].index, 1) == 0);
	read_moves(c);
	close(a.fd);
	printf("ok: key forgotten\n");
}

/* The switch's daemon is away: owners change all the same, and it hears of them when it is back. */
static void test_without_daemon(struct cluster *c)
{
	struct asker a = asker_of(c, 0, &c->devices[1]);
	struct moves moves;

	give_to(&a, a.device->index);
	netns_enter(c->devices[0].netns);
	fabric_free(c->fabric, false);
	CHECK(ask(&a, c->devices[2].index, 7) == 0);
	netns_enter(c->devices[0].netns);
	cluster_start_fabric(c);
	CHECK(look(&a).device == c->devices[2].index);
	CHECK(hears(fabric_moves_fd(c->fabric), 0));
	moves = read_moves(c);
	CHECK(moves.count == 1 && moves.last.device == c->devices[2].index && moves.last.transaction == 7);
	close(a.fd);
	printf("ok: without a daemon\n");
}

static void test_other_addresses(struct cluster *c)
{
	struct asker a = asker_of(c, 1, &c->devices[1]);
	struct eap_datagram datagram = request(&a, c->devices[2].index, 1);
	uint8_t bytes[EAP_DATAGRAM_BYTES];

	give_to(&a, a.device->index);
	listen_at(c, cluster_switch_address(c, 0));
	CHECK_OK(eap_datagram_encode(&datagram, key_of(&a), bytes));
	CHECK(send(a.fd, bytes, sizeof(bytes), 0) == sizeof(bytes));
	CHECK(hears(a.fd, PATIENCE_MS)); /* that nobody listens */
	CHECK(recv(a.fd, bytes, sizeof(bytes), 0) < 0 && errno == ECONNREFUSED);
	listen_at(c, NULL);
	CHECK(ask(&a, c->devices[2].index, 1) == 0);
	read_moves(c);
	close(a.fd);
	printf("ok: other addresses\n");
}

static void test_topology(bool is_one_arm)
{
	struct cluster c;

	cluster_make(&c, is_one_arm);
	printf("%s\n", is_one_arm ? "one-arm" : "inline");
	for (int family = CLUSTER_FAMILIES - 1; family >= 0; family--) {
		listen_at(&c, cluster_switch_address(&c, family));
		test_performed(&c, family, "on");
		test_performed(&c, family, "off");
		test_answered_with_no(&c, family);
		test_taken_back(&c, family);
		test_dropped(&c, family);
		test_changed_bits(&c, family);
		if (!is_one_arm)
			test_announced(&c, family);
	}
	test_who_it_was(&c);
	test_key_forgotten(&c);
	test_other_addresses(&c);
	test_without_daemon(&c);
	cluster_print_counters(&c);
	cluster_remove(&c);
}

int main(int argc, char **argv)
{
	log_open(argc > 1 && strcmp(argv[1], "-v") == 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERR);
	netns_setup(true);
	test_topology(false);
	test_topology(true);
	return 0;
}
