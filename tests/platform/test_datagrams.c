/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, calls over UDP go to a device that has not got their volume, or get lost in pieces on the way there or back, or
 * somebody crashes the switch with one.
 *
 * The fabric's program runs on single frames (tests/fuzz/frame_switch.h); tests/lab/test_datagrams.py has the whole system.
 */
#include "config.h"

#include "tests/fuzz/frame_switch.h"

#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum {
	NFS = 100003,
	NFS_ACL = 100227,
	NLM = 100021,
	MOUNT = 100005,
	VOLUME_2 = 11, /* of device 2 */
	VOLUME_3 = 0x01020304,
	VOLUME_AWAY = 13,
	CALL_MAX = 4096,
	PIECE = 1024,
};

/* A call, put together from the front. */
struct call {
	uint8_t bytes[CALL_MAX];
	size_t len;
};

static void put_u32(struct call *call, uint32_t value)
{
	value = htonl(value);
	memcpy(call->bytes + call->len, &value, sizeof(value));
	call->len += sizeof(value);
}

/* Zeros. */
static void put_opaque(struct call *call, uint32_t len)
{
	put_u32(call, len);
	call->len += (len + 3) & ~3u;
}

static void put_handle(struct call *call, uint32_t volume, uint32_t len)
{
	size_t at = call->len + 4;

	put_opaque(call, len);
	volume = htonl(volume);
	call->bytes[at] = 1;
	call->bytes[at + 1] = 2;
	memcpy(call->bytes + at + 4, &volume, sizeof(volume));
}

static struct call call_of(uint32_t program, uint32_t version, uint32_t procedure, uint32_t credentials_len)
{
	struct call call = { 0 };

	put_u32(&call, 0x12345678);
	put_u32(&call, 0);
	put_u32(&call, 2);
	put_u32(&call, program);
	put_u32(&call, version);
	put_u32(&call, procedure);
	put_u32(&call, credentials_len ? 1 : 0);
	put_opaque(&call, credentials_len);
	put_u32(&call, 0);
	put_opaque(&call, 0);
	return call;
}

static struct call nfs_call(uint32_t volume)
{
	struct call call = call_of(NFS, 3, 1, 28);

	put_handle(&call, volume, 32);
	return call;
}

static struct call lock_call(uint32_t version, uint32_t procedure, uint32_t flags, uint32_t cookie_len, uint32_t name_len)
{
	struct call call = call_of(NLM, version, procedure, 28);

	put_opaque(&call, cookie_len);
	for (uint32_t i = 0; i < flags; i++)
		put_u32(&call, 1);
	put_opaque(&call, name_len);
	put_handle(&call, VOLUME_3, 28);
	return call;
}

static struct frame_passage pass(const struct frame *frame, enum frame_port_number port, enum frame_source source)
{
	struct frame_passage p = frame_dress(frame, (uint8_t)(port | source << 2 | FRAME_TO_PORT));

	FRAME_CHECK(frame_pass(&p));
	return p;
}

/* Where a client's frame went: a device; or the switch's stack, unchanged. */
static uint32_t way_of(const struct frame_passage *p)
{
	for (uint32_t device = DEVICE_FIRST; device <= DEVICE_LAST; device++)
		if (p->verdict == TC_ACT_REDIRECT &&
		    frame_has_macs(&p->after, frame_device_mac(device), frame_switch.ports[frame_device_port(device)].mac))
			return device;
	FRAME_CHECK(p->verdict == TC_ACT_UNSPEC && memcmp(p->before.bytes, p->after.bytes, FRAME_MACS) == 0);
	return FABRIC_SWITCH;
}

static uint32_t goes_to(bool is_ipv6, const struct call *call)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_UDP, 900);
	struct frame frame = frame_udp(&flow, call->bytes, call->len);
	struct frame_passage p = pass(&frame, PORT_CLIENTS, SOURCE_CLIENT);

	FRAME_CHECK(frame_same_packet(&p.before, &p.after) && p.counted == 1);
	return way_of(&p);
}

static void test_by_volume(bool is_ipv6)
{
	struct call call = nfs_call(VOLUME_2);

	FRAME_CHECK(goes_to(is_ipv6, &call) == DEVICE_FIRST);
	call = nfs_call(VOLUME_3);
	FRAME_CHECK(goes_to(is_ipv6, &call) == DEVICE_LAST);
	call = nfs_call(VOLUME_AWAY);
	FRAME_CHECK(goes_to(is_ipv6, &call) == FABRIC_SWITCH);
	call = nfs_call(0);
	FRAME_CHECK(goes_to(is_ipv6, &call) == FABRIC_SWITCH);
	for (uint32_t procedure = 0; procedure <= 21; procedure++) {
		call = call_of(NFS, 3, procedure, 28);
		put_handle(&call, VOLUME_3, 32);
		FRAME_CHECK(goes_to(is_ipv6, &call) == (procedure ? (uint32_t)DEVICE_LAST : (uint32_t)FABRIC_SWITCH));
	}
	call = call_of(NFS_ACL, 3, 1, 28);
	put_handle(&call, VOLUME_3, 32);
	FRAME_CHECK(goes_to(is_ipv6, &call) == DEVICE_LAST);
	printf("ok: by volume\n");
}

/* The header's lengths are anybody's. */
static void test_bounds(bool is_ipv6)
{
	static const struct {
		uint32_t credentials, handle;
		bool is_found;
	} cases[] = {
		{ 0, 32, true },   { 400, 16, true },  { 399, 64, true },	{ 404, 32, false },
		{ 28, 15, false }, { 28, 65, false }, { 0xfffffffc & 1020, 32, false },
	};
	struct call call;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		call = call_of(NFS, 3, 1, cases[i].credentials);
		put_handle(&call, VOLUME_2, cases[i].handle);
		FRAME_CHECK(goes_to(is_ipv6, &call) == (cases[i].is_found ? (uint32_t)DEVICE_FIRST : (uint32_t)FABRIC_SWITCH));
	}
	for (uint32_t word = 0; word < 20; word++) { /* a length, or anything else, that is out of this world */
		call = nfs_call(VOLUME_2);
		memset(call.bytes + 4 * word, 0xff, 4);
		goes_to(is_ipv6, &call);
	}
	call = nfs_call(VOLUME_2);
	for (size_t len = call.len; len-- > 0;) { /* cut off: at the device's own peril once the volume is known */
		call.len = len;
		FRAME_CHECK(goes_to(is_ipv6, &call) == (len >= 24 + 8 + 28 + 8 + 12 ? (uint32_t)DEVICE_FIRST :
											(uint32_t)FABRIC_SWITCH));
	}
	printf("ok: bounds\n");
}

static void test_locks(bool is_ipv6)
{
	static const struct {
		uint32_t procedure, flags;
	} about_files[] = { { 1, 1 }, { 2, 2 }, { 3, 2 }, { 4, 0 }, { 6, 1 }, { 7, 2 }, { 8, 2 }, { 9, 0 }, { 20, 0 }, { 21, 0 }, { 22, 2 } };
	static const uint32_t others[] = { 0, 5, 10, 11, 12, 13, 14, 15, 16, 23, 24 };
	struct call call;

	for (size_t i = 0; i < sizeof(about_files) / sizeof(about_files[0]); i++)
		for (uint32_t version = 1; version <= 4; version++) {
			call = lock_call(version, about_files[i].procedure, about_files[i].flags, 4 + version, 11);
			FRAME_CHECK(goes_to(is_ipv6, &call) == DEVICE_LAST);
		}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		call = lock_call(4, others[i], 0, 4, 4);
		FRAME_CHECK(goes_to(is_ipv6, &call) == FABRIC_SWITCH);
	}
	call = lock_call(4, 2, 2, 1024, 0);
	FRAME_CHECK(goes_to(is_ipv6, &call) == DEVICE_LAST);
	call = lock_call(4, 2, 2, 0, 1024);
	FRAME_CHECK(goes_to(is_ipv6, &call) == DEVICE_LAST);
	call = lock_call(4, 2, 2, 1028, 0);
	FRAME_CHECK(goes_to(is_ipv6, &call) == FABRIC_SWITCH);
	call = lock_call(4, 2, 2, 0, 1028);
	FRAME_CHECK(goes_to(is_ipv6, &call) == FABRIC_SWITCH);
	printf("ok: locks\n");
}

static void test_others_business(bool is_ipv6)
{
	struct call call = call_of(MOUNT, 3, 1, 28);
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_UDP, 901), spoofed = flow, port = flow;
	struct frame frame;

	put_handle(&call, VOLUME_3, 32); /* it is no handle there */
	FRAME_CHECK(goes_to(is_ipv6, &call) == FABRIC_SWITCH);
	call = call_of(NFS, 2, 1, 28);
	put_handle(&call, VOLUME_3, 32);
	FRAME_CHECK(goes_to(is_ipv6, &call) == FABRIC_SWITCH);
	call = nfs_call(VOLUME_3);
	call.bytes[7] = 1; /* a reply */
	FRAME_CHECK(goes_to(is_ipv6, &call) == FABRIC_SWITCH);
	call = nfs_call(VOLUME_3);
	port.vip_port = htons(111);
	frame = frame_udp(&port, call.bytes, call.len);
	FRAME_CHECK(pass(&frame, PORT_CLIENTS, SOURCE_CLIENT).verdict == TC_ACT_UNSPEC);
	memcpy(spoofed.client, spoofed.vip, sizeof(spoofed.client));
	frame = frame_udp(&spoofed, call.bytes, call.len);
	FRAME_CHECK(pass(&frame, PORT_CLIENTS, SOURCE_CLIENT).verdict != TC_ACT_REDIRECT);
	frame = frame_udp(&flow, call.bytes, call.len);
	FRAME_CHECK(pass(&frame, PORT_SHARED, SOURCE_DEVICE_3).verdict == TC_ACT_UNSPEC);
	FRAME_CHECK(pass(&frame, PORT_SHARED, SOURCE_CLIENT).verdict == TC_ACT_REDIRECT);
	FRAME_CHECK(pass(&frame, PORT_DEVICES, SOURCE_DEVICE_2).verdict == TC_ACT_UNSPEC);
	printf("ok: what is no call for a device\n");
}

static struct frame piece_of(const struct flow_key *flow, uint16_t id, const struct call *call, size_t number)
{
	return frame_fragment(flow, id, call->bytes, call->len, number * PIECE, (number + 1) * PIECE);
}

static uint32_t piece_goes_to(const struct flow_key *flow, uint16_t id, const struct call *call, size_t number)
{
	struct frame frame = piece_of(flow, id, call, number);
	struct frame_passage p = pass(&frame, PORT_CLIENTS, SOURCE_CLIENT);

	FRAME_CHECK(frame_same_packet(&p.before, &p.after));
	return way_of(&p);
}

/* Each datagram has an id of its own. In order, out of order, and two at a time. */
static void test_fragments(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_UDP, 902), other = frame_flow(is_ipv6, IPPROTO_UDP, 903);
	struct call two = nfs_call(VOLUME_2), three = nfs_call(VOLUME_3), none = nfs_call(VOLUME_AWAY);

	two.len = three.len = none.len = 1900;
	FRAME_CHECK(piece_goes_to(&flow, 1, &two, 0) == DEVICE_FIRST);
	FRAME_CHECK(piece_goes_to(&flow, 2, &three, 0) == DEVICE_LAST);
	FRAME_CHECK(piece_goes_to(&flow, 1, &two, 1) == DEVICE_FIRST);
	FRAME_CHECK(piece_goes_to(&flow, 2, &three, 1) == DEVICE_LAST);
	FRAME_CHECK(piece_goes_to(&flow, 3, &none, 0) == FABRIC_SWITCH);
	FRAME_CHECK(piece_goes_to(&flow, 3, &none, 1) == FABRIC_SWITCH);

	/* The last one first: the whole datagram goes to the switch. */
	FRAME_CHECK(piece_goes_to(&flow, 4, &two, 1) == FABRIC_SWITCH);
	FRAME_CHECK(piece_goes_to(&flow, 4, &two, 0) == FABRIC_SWITCH);
	FRAME_CHECK(piece_goes_to(&flow, 5, &two, 0) == DEVICE_FIRST);

	/* The same id of another address, and of the same but for another device. */
	other.client[15] ^= 0x20;
	FRAME_CHECK(piece_goes_to(&other, 5, &three, 0) == DEVICE_LAST);
	FRAME_CHECK(piece_goes_to(&flow, 5, &two, 1) == DEVICE_FIRST);
	FRAME_CHECK(piece_goes_to(&flow, 5, &three, 0) == DEVICE_LAST);
	FRAME_CHECK(piece_goes_to(&flow, 5, &three, 1) == DEVICE_LAST);
	printf("ok: fragments\n");
}

/* Back where the client's call came from; a whole answer, and one in pieces. Only from a member. */
static void test_answers(bool is_ipv6)
{
	struct flow_key flow = frame_flow(is_ipv6, IPPROTO_UDP, 904), answer = frame_turn_round(&flow);
	struct call call = nfs_call(VOLUME_2), reply = { .len = 1900 };
	struct frame frame = frame_udp(&flow, call.bytes, call.len), pieces[3];
	struct frame_passage p = pass(&frame, PORT_CLIENTS, SOURCE_CLIENT);

	FRAME_CHECK(p.verdict == TC_ACT_REDIRECT);
	pieces[0] = frame_udp(&answer, reply.bytes, 100);
	pieces[1] = piece_of(&answer, 7, &reply, 0);
	pieces[2] = piece_of(&answer, 7, &reply, 1);
	for (int i = 0; i < 3; i++) {
		p = pass(&pieces[i], PORT_DEVICES, SOURCE_DEVICE_2);
		FRAME_CHECK(p.verdict == TC_ACT_REDIRECT && p.counted == 1 && p.traffic.sent_packets == 1);
		FRAME_CHECK(frame_has_macs(&p.after, frame.bytes + 6, frame.bytes) ||
			    memcmp(p.after.bytes + 6, frame_switch.ports[PORT_CLIENTS].mac, 6) == 0);
		FRAME_CHECK(pass(&pieces[i], PORT_DEVICES, SOURCE_CLIENT).verdict == TC_ACT_SHOT);
	}
	printf("ok: answers\n");
}

static void test_volumes_change(void)
{
	struct fabric_volume volumes[] = { { VOLUME_3, DEVICE_FIRST }, { VOLUME_2, DEVICE_FIRST } };
	struct call call = nfs_call(VOLUME_3);

	FRAME_CHECK(fabric_volumes_set(frame_switch.fabric, volumes, 2) == 0);
	FRAME_CHECK(goes_to(false, &call) == DEVICE_FIRST);
	volumes[0] = (struct fabric_volume){ VOLUME_2, DEVICE_FIRST };
	FRAME_CHECK(fabric_volumes_set(frame_switch.fabric, volumes, 1) == 0);
	FRAME_CHECK(goes_to(false, &call) == FABRIC_SWITCH);
	call = nfs_call(VOLUME_2);
	FRAME_CHECK(goes_to(false, &call) == DEVICE_FIRST);
	FRAME_CHECK(fabric_volumes_set(frame_switch.fabric, NULL, 0) == 0);
	FRAME_CHECK(goes_to(false, &call) == FABRIC_SWITCH);
	printf("ok: volumes that come and go\n");
}

static void test_family(bool is_ipv6)
{
	test_by_volume(is_ipv6);
	test_bounds(is_ipv6);
	test_locks(is_ipv6);
	test_others_business(is_ipv6);
	test_fragments(is_ipv6);
	test_answers(is_ipv6);
}

int main(void)
{
	struct fabric_volume volumes[] = { { VOLUME_3, DEVICE_LAST }, { VOLUME_2, DEVICE_FIRST } };

	frame_switch_start(NULL);
	FRAME_CHECK(fabric_volumes_set(frame_switch.fabric, volumes, 2) == 0);
	test_family(false);
	test_family(true);
	test_volumes_change();
	return 0;
}
