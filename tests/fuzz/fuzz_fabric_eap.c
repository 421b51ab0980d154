/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a datagram makes the switch send a session's packets elsewhere although its sender may not ask for that,
 * or has another effect than its answer says, or the answer is no packet that a stack takes; or a former owner of a session
 * still speaks to its client. Input:
 *
 *	offset	bytes
 *	0	1	how many flows there are, modulo 4; for each of them
 *		1	bits 0-1: owner: nobody, the switch, device 2, device 3; bit 2: IPv6; bit 3: UDP
 *		2	the client's port
 *	then	3	for each frame: its length in two bytes, and how it comes (tests/fuzz/frame_switch.h); bit 5: the
 *			datagram is signed with the key of the device that it names; bit 6: its counter is that device's next
 *		...	the frame
 *
 * Of other frames only that is examined; fuzz_fabric has the rest.
 */
#include "config.h"

#include "common/siphash.h"
#include "scp/eap.h"
#include "tests/fuzz/frame_switch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <string.h>

enum { FLOWS_MAX = 3, FRAMES_MAX = 32, NOBODY = 0 };
enum { IS_IPV6 = 4, IS_UDP = 8, SIGNED = 32, FRESH = 64 };

/* Offsets, in UDP and in the datagram (scp/eap.h). */
enum { UDP_LEN_AT = 4, UDP_SUM_AT = 6, UDP_BYTES = 8 };
enum { NONCE_AT = 1, KIND_AT = EAP_BYTES, RESULT_AT = 54, GENERATION_AT = 56, COUNTER_AT = 60, HASH_AT = 68 };

struct entry {
	bool is_there;
	struct fabric_flow flow;
	bool has_transaction;
	uint16_t transaction; /* of the last handoff that the switch heard of */
	bool is_former[DEVICE_LAST + 1]; /* device: it had the flow, and is not to have it again for all that is known */
};

/* What a datagram says. */
struct request {
	bool is_request;
	uint8_t operation;
	uint32_t from, cluster, device;
	struct flow_key flow;
	uint16_t transaction;
	uint64_t counter, hash;
};

static const uint8_t keys[][EAP_KEY_BYTES] = { [2] = "the key of two", [3] = "the key of three" };
static uint64_t counters[DEVICE_LAST + 1]; /* of the last datagram that was accepted */

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	frame_switch_start(NULL);
	return 0;
}

static bool is_device(uint32_t device)
{
	return device >= DEVICE_FIRST && device <= DEVICE_LAST;
}

static struct entry *find(struct entry *entries, const struct flow_key *flow)
{
	for (int i = 0; i < FLOWS_MAX; i++)
		if (entries[i].is_there && frame_same_flow(&entries[i].flow.flow, flow))
			return &entries[i];
	return NULL;
}

static void set_up(struct bytes_reader *input, struct entry *entries)
{
	int count = bytes_get_u8(input) % (FLOWS_MAX + 1);

	for (uint32_t device = DEVICE_FIRST; device <= DEVICE_LAST; device++) {
		FRAME_CHECK(fabric_key_set(frame_switch.fabric, device, keys[device]) == 0);
		counters[device] = 0;
	}
	for (int i = 0; i < count; i++) {
		uint8_t how = bytes_get_u8(input), protocol = how & IS_UDP ? IPPROTO_UDP : IPPROTO_TCP;
		struct flow_key flow = frame_flow(how & IS_IPV6, protocol, bytes_get_be16(input));
		uint32_t owner = how & 3, generation;

		if (owner == NOBODY || find(entries, &flow))
			continue;
		FRAME_CHECK(fabric_flow_set(frame_switch.fabric, &flow, owner, &generation) == 0);
		FRAME_CHECK(fabric_flow_get(frame_switch.fabric, &flow, &entries[i].flow) == 0);
		entries[i].is_there = true;
	}
}

static bool is_eap(const struct frame_facts *facts)
{
	return facts->is_session && facts->flow.protocol == IPPROTO_UDP &&
	       facts->flow.vip_port == htons(FRAME_EAP_PORT) && !frame_is_vip(facts->flow.vip);
}

static bool holds_datagram(const struct frame *frame, const struct frame_facts *facts)
{
	return frame->len >= facts->at + UDP_BYTES + EAP_DATAGRAM_BYTES;
}

static void put(uint8_t *at, uint64_t value, size_t width)
{
	struct bytes_writer w = bytes_writer_init(at, width);

	bytes_put_be(&w, width, value);
}

static void sign(struct frame *frame, uint8_t how)
{
	struct frame_facts facts = frame_facts(frame);
	uint8_t *datagram = frame->bytes + facts.at + UDP_BYTES;
	struct bytes_reader nonce = bytes_reader_init(datagram + NONCE_AT, 3);
	uint32_t from = (uint32_t)bytes_get_be(&nonce, 3);

	if (!is_eap(&facts) || !holds_datagram(frame, &facts) || !is_device(from))
		return;
	if (how & FRESH)
		put(datagram + COUNTER_AT, counters[from] + 1, 8);
	if (how & SIGNED)
		put(datagram + HASH_AT, siphash(keys[from], datagram, HASH_AT), 8);
}

static struct request read_request(const struct frame_passage *p)
{
	struct bytes_reader r = bytes_reader_init(p->before.bytes + p->facts.at + UDP_LEN_AT,
						  p->before.len - p->facts.at - UDP_LEN_AT);
	uint16_t udp_len = bytes_get_be16(&r);
	struct request request = { 0 };
	uint8_t head, kind, zero;

	bytes_take(&r, UDP_BYTES - UDP_SUM_AT);
	head = bytes_get_u8(&r);
	request.operation = head & 15;
	request.from = (uint32_t)bytes_get_be(&r, 3);
	request.flow.protocol = bytes_get_u8(&r);
	request.flow.client_port = htons(bytes_get_be16(&r));
	request.flow.vip_port = htons(bytes_get_be16(&r));
	request.transaction = bytes_get_be16(&r);
	request.cluster = bytes_get_be32(&r);
	bytes_take(&r, 1); /* the addresses are IPv4-mapped in any case */
	request.device = bytes_get_be32(&r);
	if (r.left < EAP_DATAGRAM_BYTES - 20)
		return (struct request){ 0 };
	memcpy(request.flow.client, bytes_take(&r, 16), 16);
	memcpy(request.flow.vip, bytes_take(&r, 16), 16);
	kind = bytes_get_u8(&r);
	zero = bytes_get_u8(&r);
	bytes_take(&r, COUNTER_AT - RESULT_AT);
	request.counter = bytes_get_be64(&r);
	request.hash = bytes_get_be64(&r);
	request.is_request = udp_len == UDP_BYTES + EAP_DATAGRAM_BYTES && head >> 4 == EAP_VERSION &&
			     kind == EAP_REQUEST && !zero;
	return request;
}

/* From the port and the MAC of the device that it names, with its key, for the first time, and of this cluster. */
static bool is_to_be_answered(const struct frame_passage *p, const struct request *request)
{
	const uint8_t *datagram = p->before.bytes + p->facts.at + UDP_BYTES;

	if (!request->is_request || !is_device(request->from) || p->port != frame_device_port(request->from) ||
	    memcmp(p->before.bytes + 6, frame_device_mac(request->from), 6) != 0)
		return false;
	if (request->hash != siphash(keys[request->from], datagram, HASH_AT) ||
	    request->counter <= counters[request->from])
		return false;
	counters[request->from] = request->counter;
	return request->cluster == FRAME_CLUSTER;
}

/* What the answer has to be. @entry: as it was before; NULL if there is none */
static int judge(const struct request *request, const struct entry *entry)
{
	if (request->operation != EAP_CHANGE && request->operation != EAP_SET)
		return EOPNOTSUPP;
	if (request->device != FABRIC_SWITCH && !is_device(request->device))
		return ENODEV;
	if (!entry)
		return ENOENT;
	if (entry->has_transaction && (int16_t)(request->transaction - entry->transaction) < 0)
		return ESTALE;
	if (request->operation == EAP_CHANGE && entry->flow.device == request->device)
		return 0;
	if (entry->flow.device == request->from)
		return 0;
	return request->operation == EAP_CHANGE && entry->flow.device == FABRIC_SWITCH &&
	       entry->is_former[request->from] ? ESTALE : EPERM;
}

static void note_owners(struct entry *entry, uint32_t old, uint32_t new)
{
	if (is_device(old))
		entry->is_former[old] = true;
	if (is_device(new))
		entry->is_former[new] = false;
}

/* Return: has the flow another owner now? */
static bool perform(const struct request *request, struct entry *entry)
{
	if (request->operation == EAP_SET && is_device(request->device))
		entry->is_former[request->device] = false;
	if (request->operation == EAP_SET || entry->flow.device == request->device)
		return false;
	note_owners(entry, entry->flow.device, request->device);
	entry->flow.device = request->device;
	entry->flow.generation++;
	entry->has_transaction = true;
	entry->transaction = request->transaction;
	return true;
}

static void swap(uint8_t *a, uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = a[i];

		a[i] = b[i];
		b[i] = byte;
	}
}

static uint32_t udp_sum(const struct frame *frame, size_t at)
{
	uint32_t sum = 0;

	for (size_t i = at; i < at + UDP_BYTES + EAP_DATAGRAM_BYTES; i += 2)
		sum += (uint32_t)frame->bytes[i] << 8 | frame->bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The datagram turned round, with the result in it; and a checksum that is as right as it was, or not there as before. */
static void check_answer(const struct frame_passage *p, const struct request *request, int result, uint32_t generation)
{
	struct frame expected = p->before;
	size_t at = p->facts.at, address_len = p->facts.is_ipv4 ? 4 : 16;
	uint8_t *udp = expected.bytes + at, *datagram = udp + UDP_BYTES;
	uint8_t *source = expected.bytes + (p->facts.is_ipv4 ? 26 : 22);

	swap(expected.bytes, expected.bytes + 6, 6);
	swap(source, source + address_len, address_len);
	swap(udp, udp + 2, 2);
	put(datagram + KIND_AT, EAP_ANSWER, 1);
	put(datagram + RESULT_AT, (uint64_t)result, 2);
	put(datagram + GENERATION_AT, generation, 4);
	put(datagram + HASH_AT, siphash(keys[request->from], datagram, HASH_AT), 8);
	if (udp[UDP_SUM_AT] || udp[UDP_SUM_AT + 1]) {
		memcpy(udp + UDP_SUM_AT, p->after.bytes + at + UDP_SUM_AT, 2);
		FRAME_CHECK(udp_sum(&p->before, at) == udp_sum(&p->after, at));
		FRAME_CHECK(udp[UDP_SUM_AT] || udp[UDP_SUM_AT + 1]);
	}
	FRAME_CHECK(p->verdict == TC_ACT_REDIRECT);
	FRAME_CHECK(memcmp(expected.bytes, p->after.bytes, expected.len) == 0);
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

/* The daemon hears of what was done, and of nothing else. @generation: of what was done; 0: nothing was */
static void check_moves(const struct request *request, uint32_t generation)
{
	struct moves moves = { 0 };

	fabric_moves_read(frame_switch.fabric, note_move, &moves);
	FRAME_CHECK(moves.count == !!generation);
	if (!generation)
		return;
	FRAME_CHECK(frame_same_flow(&moves.last.flow, &request->flow) && moves.last.from == request->from);
	FRAME_CHECK(moves.last.device == request->device && moves.last.generation == generation);
	FRAME_CHECK(moves.last.transaction == request->transaction);
}

static void check_entries(const struct entry *entries)
{
	struct fabric_flow now;
	size_t count = 0;

	for (int i = 0; i < FLOWS_MAX; i++) {
		if (!entries[i].is_there)
			continue;
		FRAME_CHECK(fabric_flow_get(frame_switch.fabric, &entries[i].flow.flow, &now) == 0);
		FRAME_CHECK(now.device == entries[i].flow.device && now.generation == entries[i].flow.generation);
		FRAME_CHECK(now.state == entries[i].flow.state && now.packets == entries[i].flow.packets);
		count++;
	}
	FRAME_CHECK(frame_switch_flows() == count);
}

static void check(const struct frame_passage *p, struct entry *entries)
{
	struct request request = read_request(p);
	bool is_seen = frame_is_for_port(p), is_answered = is_seen && is_to_be_answered(p, &request);
	struct entry *entry = find(entries, &request.flow);
	int result = is_answered ? judge(&request, entry) : EACCES;
	bool is_change = request.operation == EAP_CHANGE && (result == 0 || result == ESTALE || result == EPERM);
	bool is_moved = result == 0 && perform(&request, entry);

	if (is_answered) {
		check_answer(p, &request, result, is_change ? entry->flow.generation : 0);
	} else {
		FRAME_CHECK(p->verdict == (is_seen ? TC_ACT_SHOT : TC_ACT_UNSPEC));
		FRAME_CHECK(memcmp(p->before.bytes, p->after.bytes, p->before.len) == 0);
	}
	check_moves(&request, is_moved ? entry->flow.generation : 0);
	check_entries(entries);
	FRAME_CHECK(p->counted == 1);
}

/* A client that opens its connection anew: what the switch heard of its handoffs is over. */
static void note_reopening(struct entry *entry)
{
	struct fabric_flow old = entry->flow;

	FRAME_CHECK(fabric_flow_get(frame_switch.fabric, &old.flow, &entry->flow) == 0);
	if (entry->flow.generation == old.generation)
		return;
	entry->has_transaction = false;
	note_owners(entry, old.device, FABRIC_SWITCH);
}

/* An owner that signs datagrams announces the next one. */
static bool announces(const struct entry *entry)
{
	return entry->flow.device == FABRIC_SWITCH || counters[entry->flow.device] > 0;
}

/* Who had a flow has no say in it any more; whoever may be about to get it has. */
static void check_fencing(const struct frame_passage *p, struct entry *entries)
{
	struct flow_key turned = frame_turn_round(&p->facts.flow);
	struct entry *entry = p->facts.is_session ? find(entries, &turned) : NULL;

	if (!entry || !frame_is_for_port(p) || p->port == PORT_CLIENTS)
		return;
	for (uint32_t device = DEVICE_FIRST; device <= DEVICE_LAST; device++) {
		bool is_fenced = entry->is_former[device] && announces(entry);

		if (memcmp(p->before.bytes + 6, frame_device_mac(device), 6) == 0)
			FRAME_CHECK(p->verdict == (is_fenced ? TC_ACT_SHOT : TC_ACT_REDIRECT));
	}
}

static void pass(struct bytes_reader *input, struct entry *entries)
{
	size_t len = bytes_get_be16(input);
	uint8_t how = bytes_get_u8(input);
	struct frame frame = frame_take(input, len);
	struct frame_passage p = frame_dress(&frame, how);

	sign(&p.before, how);
	if (!frame_pass(&p))
		return;
	if (is_eap(&p.facts)) {
		check(&p, entries);
		return;
	}
	check_fencing(&p, entries);
	for (int i = 0; i < FLOWS_MAX; i++)
		if (entries[i].is_there)
			note_reopening(&entries[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct bytes_reader input = bytes_reader_init(bytes, len);
	struct entry entries[FLOWS_MAX] = { 0 };

	set_up(&input, entries);
	for (int i = 0; i < FRAMES_MAX && input.left && !input.failed; i++)
		pass(&input, entries);
	for (int i = 0; i < FLOWS_MAX; i++)
		if (entries[i].is_there)
			fabric_flow_remove(frame_switch.fabric, &entries[i].flow.flow);
	return 0;
}
