/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, devices of different versions of vnas do not understand each other in the middle of an upgrade, or a
 * damaged message is taken for a good one.
 */
#include "config.h"

#include "scp/scp_message.h"

#include "common/stored_file.h"
#include "scp/scp.h"
#include "tests/unit/golden_hex.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

enum { REQUEST = 0x01020304, BODY = SCP_HEADER_BYTES };

static uint8_t mac[] = { 2, 0, 0, 0, 0, 7 }, data[] = { 1, 2, 3, 4, 5 };

static void fill_hello(scp_message *m)
{
	m->scp_message_u.hello = (scp_hello){
		.protocol_low = 1,
		.protocol_high = 1,
		.channel = SCP_RELAY,
		.node = 7,
		.cluster = "0123456789abcde",
		.software = "vnas 1.0",
		.name = "disk7",
		.address = "10.0.1.7",
		.port = 2050,
		.capabilities = SCP_CAN_HANDOFF | SCP_CAN_RELAY,
		.revision = 0x0102030405060708,
		.serial = "",
	};
	memcpy(m->scp_message_u.hello.mac, mac, sizeof(mac));
}

static void fill_refuse(scp_message *m) { m->scp_message_u.refuse.reason = "no"; }

static void fill_enrol(scp_message *m)
{
	m->scp_message_u.enrol = (scp_enrol){ .token = "secret", .name = "disk7", .request = "PEM" };
}

static void fill_apply(scp_message *m)
{
	m->scp_message_u.apply = (scp_apply){ .name = "disk7", .serial = "WD-7", .vendor_class = "vnas-disk", .request = "PEM" };
	memcpy(m->scp_message_u.apply.mac, "\x52\x54\x00\x12\x34\x56", 6);
}

static void fill_enrol_reply(scp_message *m)
{
	m->scp_message_u.enrol_reply = (scp_enrol_reply){
		.result = EACCES, .reason = "used", .node = 7, .certificate = "PEM7", .authority = "PEM0"
	};
}

static void fill_snapshot(scp_message *m)
{
	m->scp_message_u.snapshot.snapshot.snapshot_val = (char *)data;
	m->scp_message_u.snapshot.snapshot.snapshot_len = sizeof(data);
}

static void fill_change(scp_message *m)
{
	m->scp_message_u.change.change.change_val = (char *)data;
	m->scp_message_u.change.change.change_len = sizeof(data);
}

static void fill_snapshot_request(scp_message *m) { m->scp_message_u.snapshot_request.revision = 1ull << 40; }

static void fill_heartbeat(scp_message *m)
{
	m->scp_message_u.heartbeat = (scp_heartbeat){ .revision = 1,
						      .time_ns = 0x0102030405060708,
						      .sessions = 3,
						      .read_bytes = 4,
						      .written_bytes = 5,
						      .operations = 6,
						      .cpu_permille = 7 };
}

static void fill_load(scp_message *m)
{
	static scp_clock clock = { .offset_ns = -5, .delay_ns = 6, .is_corrected = true };
	static u_int busy = 7, cpu = 8;
	static int temperature = -9000;
	static scp_load_volume volumes[] = { { .volume = 1, .busy_permille = &busy },
					     { .volume = 2, .knows_room = true, .free_bytes = 3, .size_bytes = 4 } };

	m->scp_message_u.load = (scp_load){ .cpu_permille = &cpu,
					    .temperature_millicelsius = &temperature,
					    .clock = &clock,
					    .volumes = { 2, volumes } };
}

static void fill_time_request(scp_message *m) { m->scp_message_u.time_request.originate_ns = 1ull << 60; }

static void fill_time(scp_message *m)
{
	m->scp_message_u.time = (scp_time){ .originate_ns = 1ull << 60, .receive_ns = 2, .transmit_ns = 3 };
}

static scp_flow flow = {
	.client = { [10] = 0xff, 0xff, 10, 0, 0, 2 },
	.vip = { [10] = 0xff, 0xff, 10, 0, 0, 1 },
	.client_port = 801,
	.vip_port = 2049,
	.protocol = 6,
};

static void fill_sessions(scp_message *m)
{
	static scp_volume_share shares[] = { { .volume = 1, .bytes = 2, .requests = 3 },
					     { .volume = 4, .bytes = 5, .requests = 6 } };
	static scp_session sessions[2];

	for (unsigned int i = 0; i < 2; i++)
		sessions[i] = (scp_session){ .id = i + 1,
					     .flow = flow,
					     .since_ns = 9,
					     .requests = 10,
					     .handoffs = 11,
					     .last_handoff_us = 12,
					     .shares = { .shares_len = i, .shares_val = shares } };
	m->scp_message_u.sessions.sessions.sessions_val = sessions;
	m->scp_message_u.sessions.sessions.sessions_len = 2;
}

static void fill_drop_flows(scp_message *m)
{
	m->scp_message_u.drop_flows.flows.flows_val = &flow;
	m->scp_message_u.drop_flows.flows.flows_len = 1;
}

static void fill_volume_offer(scp_message *m)
{
	m->scp_message_u.volume_offer = (scp_volume_offer){ .uuid = "volume volume v",
							    .path = "/srv/a",
							    .place = "/projects/a",
							    .root_type = 1,
							    .root = { .root_len = 5, .root_val = (char *)data } };
}

static void fill_volume_open(scp_message *m)
{
	m->scp_message_u.volume_open = (scp_volume_open){ .path = "/srv/a", .place = "" };
}

static void fill_volume_close(scp_message *m) { memcpy(m->scp_message_u.volume_close.uuid, "volume volume v", 16); }

static void fill_result(scp_message *m)
{
	m->scp_message_u.result = (scp_result){ .result = ENOENT, .reason = "no such directory" };
}

static void fill_handoff_order(scp_message *m)
{
	m->scp_message_u.handoff_order = (scp_handoff_order){ .session = 5, .node = 2 };
}

static void fill_special_order(scp_message *m)
{
	m->scp_message_u.special_order = (scp_special_order){ .session = 5, .node = 2, .special = SCP_HALF_TO_CLIENT };
}

static void fill_handoff_result(scp_message *m)
{
	m->scp_message_u.handoff_result =
		(scp_handoff_result){ .session = 5, .result = 0, .reason = "", .duration_us = 900 };
}

static void fill_certificate_request(scp_message *m)
{
	m->scp_message_u.certificate_request.request = "PEM";
}

static void fill_certificate(scp_message *m)
{
	m->scp_message_u.certificate = (scp_certificate){
		.result = EIO, .reason = "no disk", .certificate = "PEM7", .authority = "PEM0"
	};
}

static void fill_why(scp_message *m)
{
	m->scp_message_u.why.session = 5;
}

static void fill_why_result(scp_message *m)
{
	static scp_finding findings[] = {
		{ .criterion = "bytes", .unit = "B", .have = 7, .limit = 1 << 20, .used = 1, .met = 0 },
		{ .criterion = "ratio", .unit = "%", .have = UINT64_MAX, .limit = 200, .used = 1, .met = 1 },
	};

	m->scp_message_u.why_result = (scp_why_result){ .session = 5, .node = 2, .findings = { 2, findings } };
}

static void fill_session_look(scp_message *m)
{
	m->scp_message_u.session_look.session = 2ull << 32 | 5;
}

static void fill_log_look(scp_message *m)
{
	m->scp_message_u.log_look = (scp_log_look){ .run = 1795486042749623038, .number = 1 << 20, .lines = 1000, .level = 2 };
}

static void fill_log_lines(scp_message *m)
{
	static scp_log_line lines[] = {
		{ 70000, 1795486042749623038, 2, "info volumes: volume=1 is served" },
		{ 70002, 1795486042749623039, 0, "" },
	};

	m->scp_message_u.log_lines = (scp_log_lines){ .run = 7, .next = 70003, .missed = 5, .lines = { 2, lines } };
}

static void fill_session_facts(scp_message *m)
{
	m->scp_message_u.session_facts = (scp_session_facts){ .session = 5,
							      .segments_in = 1,
							      .segments_out = 2,
							      .segments_retransmitted = 3,
							      .bytes_in = UINT64_MAX,
							      .bytes_out = 4,
							      .congestion_window = 10,
							      .segment_bytes = 1448,
							      .round_trip_us = 99,
							      .moved_sent = 6,
							      .moved_unsent = 7,
							      .moved_received = 8,
							      .state = "HALF_ACTIVE",
							      .node = 2 };
}

static void fill_tch(scp_message *m)
{
	m->scp_message_u.tch = (scp_tch){ .kind = TCH_HANDOFF_COMPLETE,
					  .flags = SCP_TCH_HND | SCP_TCH_SET,
					  .id = 2ull << 32 | 1,
					  .session = 5,
					  .options = { .options_len = 5, .options_val = (char *)data },
					  .sent = { .sent_len = 3, .sent_val = (char *)data },
					  .received = { .received_len = 1, .received_val = (char *)data } };
}

static void fill_eap(scp_message *m)
{
	m->scp_message_u.eap.message.message_val = (char *)data;
	m->scp_message_u.eap.message.message_len = sizeof(data);
}

static void fill_eap_reply(scp_message *m)
{
	m->scp_message_u.eap_reply.message.message_val = (char *)data;
	m->scp_message_u.eap_reply.message.message_len = sizeof(data);
	m->scp_message_u.eap_reply.generation = 4;
}

static void fill_relay_call(scp_message *m)
{
	m->scp_message_u.relay_call =
		(scp_relay_call){ .client_port = 801, .record = { .record_len = 5, .record_val = (char *)data } };
	memcpy(m->scp_message_u.relay_call.client, flow.client, 16);
	memcpy(m->scp_message_u.relay_call.server, flow.vip, 16);
}

static void fill_client_call(scp_message *m)
{
	m->scp_message_u.client_call = (scp_client_call){
		.client = { 1, 2, 3 }, .vip = { 4, 5, 6 }, .rpc_program = 100021, .rpc_version = 4, .rpc_procedure = 5,
		.args = { .args_len = 5, .args_val = (char *)data },
	};
}

static void fill_client_answer(scp_message *m)
{
	m->scp_message_u.client_answer =
		(scp_client_answer){ .result = 110, .results = { .results_len = 5, .results_val = (char *)data } };
}

static void fill_client_rebooted(scp_message *m)
{
	m->scp_message_u.client_rebooted =
		(scp_client_rebooted){ .client = { 1, 2, 3 }, .name = (char *)"client", .state = 7 };
}

static void fill_nothing(scp_message *m) { (void)m; }

static void fill_eap_key(scp_message *m)
{
	memcpy(m->scp_message_u.eap_key.key, "0123456789abcdef", sizeof(m->scp_message_u.eap_key.key));
}

static void fill_relay_reply(scp_message *m)
{
	m->scp_message_u.relay_reply =
		(scp_relay_reply){ .result = 0, .record = { .record_len = 5, .record_val = (char *)data } };
}

static void fill_volume_serial(scp_message *m)
{
	m->scp_message_u.volume_serial = (scp_volume_serial){ .uuid = "volume volume v", .serial = "WD-WCC4E1" };
}

static void fill_disks(scp_message *m)
{
	static scp_disk disks[] = {
		{ "/dev/sdb", 4000787030016, "WD-WCC4E1", "WDC WD40EFRX", SCP_DISK_HEALTH_PASSED, SCP_DISK_VOLUME, "", "volume volume v" },
		{ "/dev/sdc", 1 << 20, "", "", SCP_DISK_HEALTH_UNKNOWN, SCP_DISK_HOLDS, "ext4 \"old\"", "" },
	};

	m->scp_message_u.disks = (scp_disks){ .disks = { 2, disks } };
}

static void fill_disk_format(scp_message *m)
{
	m->scp_message_u.disk_format = (scp_disk_format){ .device = "/dev/sdb", .type = "xfs" };
}

static void fill_volume_make(scp_message *m)
{
	m->scp_message_u.volume_make = (scp_volume_make){ "volume volume n", "volume volume v", "/home/alice" };
}

static void fill_volume_unmake(scp_message *m)
{
	m->scp_message_u.volume_unmake = (scp_volume_unmake){ "volume volume n" };
}

static void fill_examine(scp_message *m) { m->scp_message_u.examine.names = true; }

static void fill_examined(scp_message *m)
{
	static scp_fact facts[] = { { "mtu", "eth0", "1500" }, { "serves", "", "yes" } };

	m->scp_message_u.examined = (scp_examined){ { 2, facts } };
}

static void fill_volume_gone(scp_message *m)
{
	m->scp_message_u.volume_gone = (scp_volume_gone){ "volume volume n" };
}

static scp_spread_entry spread_entry = {
	.id = 0x0102030405060708,
	.name = "alice",
	.is_there = true,
	.type = 040000,
	.fileid = 0x0010000000000002,
	.volume = 4,
	.backend_type = 1,
	.backend = { 8, "backend" },
};
static uint64_t spread_removed[] = { 3, 0x1112131415161718 };

static void fill_spread_update(scp_message *m)
{
	m->scp_message_u.spread_update = (scp_spread_update){
		.spread = 6,
		.sequence = 0x2122232425262728,
		.changed_ns = 0x3132333435363738,
		.is_last = true,
		.put = { 1, &spread_entry },
		.removed = { 2, spread_removed },
	};
}

static void fill_spread_reached(scp_message *m)
{
	m->scp_message_u.spread_reached = (scp_spread_reached){ 6, 0x2122232425262728, true };
}

static void fill_spread_list(scp_message *m)
{
	m->scp_message_u.spread_list = (scp_spread_list){ 4, 0x4142434445464748 };
}

static void fill_spread_listing(scp_message *m)
{
	m->scp_message_u.spread_listing = (scp_spread_listing){
		.volume = 4, .result = 5, .cookie = 0x4142434445464748, .is_last = true, .entries = { 1, &spread_entry }
	};
}

static const struct {
	scp_type type;
	void (*fill)(scp_message *message);
} samples[] = {
	{ SCP_HELLO, fill_hello },
	{ SCP_REFUSE, fill_refuse },
	{ SCP_ENROL, fill_enrol },
	{ SCP_APPLY, fill_apply },
	{ SCP_CERTIFICATE_REQUEST, fill_certificate_request },
	{ SCP_CERTIFICATE, fill_certificate },
	{ SCP_CERTIFICATE_RENEW, fill_nothing },
	{ SCP_ENROL_REPLY, fill_enrol_reply },
	{ SCP_SNAPSHOT, fill_snapshot },
	{ SCP_CHANGE, fill_change },
	{ SCP_SNAPSHOT_REQUEST, fill_snapshot_request },
	{ SCP_HEARTBEAT, fill_heartbeat },
	{ SCP_SESSIONS, fill_sessions },
	{ SCP_DROP_FLOWS, fill_drop_flows },
	{ SCP_LOAD, fill_load },
	{ SCP_TIME_REQUEST, fill_time_request },
	{ SCP_TIME, fill_time },
	{ SCP_VOLUME_OFFER, fill_volume_offer },
	{ SCP_VOLUME_OPEN, fill_volume_open },
	{ SCP_VOLUME_CLOSE, fill_volume_close },
	{ SCP_RESULT, fill_result },
	{ SCP_HANDOFF_ORDER, fill_handoff_order },
	{ SCP_HANDOFF_RESULT, fill_handoff_result },
	{ SCP_SPECIAL_ORDER, fill_special_order },
	{ SCP_WHY, fill_why },
	{ SCP_WHY_RESULT, fill_why_result },
	{ SCP_SESSION_LOOK, fill_session_look },
	{ SCP_SESSION_FACTS, fill_session_facts },
	{ SCP_LOG_LOOK, fill_log_look },
	{ SCP_LOG_LINES, fill_log_lines },
	{ SCP_TCH, fill_tch },
	{ SCP_EAP, fill_eap },
	{ SCP_EAP_REPLY, fill_eap_reply },
	{ SCP_EAP_KEY_REQUEST, fill_nothing },
	{ SCP_EAP_KEY, fill_eap_key },
	{ SCP_RELAY_CALL, fill_relay_call },
	{ SCP_RELAY_REPLY, fill_relay_reply },
	{ SCP_CLIENT_CALL, fill_client_call },
	{ SCP_CLIENT_ANSWER, fill_client_answer },
	{ SCP_CLIENT_REBOOTED, fill_client_rebooted },
	{ SCP_VOLUME_SERIAL, fill_volume_serial },
	{ SCP_DISKS, fill_disks },
	{ SCP_DISK_FORMAT, fill_disk_format },
	{ SCP_DISK_RESCAN, fill_nothing },
	{ SCP_VOLUME_MAKE, fill_volume_make },
	{ SCP_VOLUME_UNMAKE, fill_volume_unmake },
	{ SCP_VOLUME_GONE, fill_volume_gone },
	{ SCP_EXAMINE, fill_examine },
	{ SCP_EXAMINED, fill_examined },
	{ SCP_SPREAD_UPDATE, fill_spread_update },
	{ SCP_SPREAD_REACHED, fill_spread_reached },
	{ SCP_SPREAD_LIST, fill_spread_list },
	{ SCP_SPREAD_LISTING, fill_spread_listing },
};

enum { SAMPLES = sizeof(samples) / sizeof(samples[0]) };

static uint8_t *encode(int sample, size_t *len)
{
	scp_message message = { .type = samples[sample].type };
	uint8_t *bytes;

	samples[sample].fill(&message);
	ck_assert_int_eq(scp_message_encode(REQUEST, &message, &bytes, len), 0);
	return bytes;
}

/* Return: what the decoders of header and body say about a whole message */
static int decode(const uint8_t *bytes, size_t len, scp_message *out)
{
	struct scp_header header;
	int rc = scp_header_decode(bytes, &header);

	if (rc)
		return rc;
	ck_assert_uint_eq(header.length, len - SCP_HEADER_BYTES);
	return scp_body_decode(&header, bytes + SCP_HEADER_BYTES, out);
}

static const char *file_of(scp_type type, const char *prefix)
{
	static char name[64];
	size_t len = (size_t)snprintf(name, sizeof(name), "%s%s", prefix, scp_message_name(type));

	for (size_t i = 0; i < len; i++)
		name[i] = (char)tolower((unsigned char)name[i]);
	return name;
}

START_TEST(bytes_are_golden)
{
	size_t len;
	uint8_t *bytes = encode(_i, &len);

	golden_hex_check(file_of(samples[_i].type, "scp_"), bytes, len);
	free(bytes);
}
END_TEST

/* Fuzzing begins with a good message of every type: it hardly finds one by itself. */
START_TEST(fuzzer_has_an_input)
{
	const char *srcdir = getenv("srcdir");
	char path[PATH_MAX];
	scp_message message;
	uint8_t *bytes;
	size_t len;

	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/scp/%s", srcdir ? srcdir : ".",
		 file_of(samples[_i].type, ""));
	ck_assert_msg(stored_file_read(path, &bytes, &len) == 0, "%s is missing", path);
	ck_assert_uint_ge(len, SCP_HEADER_BYTES);
	ck_assert_int_eq(decode(bytes, len, &message), 0);
	ck_assert_int_eq(message.type, samples[_i].type);
	scp_message_fini(&message);
	free(bytes);
}
END_TEST

START_TEST(what_is_read_back_is_the_same)
{
	size_t len, again_len;
	uint8_t *bytes = encode(_i, &len), *again;
	struct scp_header header;
	scp_message back;

	ck_assert_int_eq(scp_header_decode(bytes, &header), 0);
	ck_assert_int_eq(header.type, samples[_i].type);
	ck_assert_uint_eq(header.request, REQUEST);
	ck_assert_int_eq(decode(bytes, len, &back), 0);
	ck_assert_int_eq(scp_message_encode(REQUEST, &back, &again, &again_len), 0);
	ck_assert_uint_eq(again_len, len);
	ck_assert_mem_eq(again, bytes, len);
	scp_message_fini(&back);
	free(again);
	free(bytes);
}
END_TEST

START_TEST(cut_and_lengthened_bodies_are_refused)
{
	size_t len;
	uint8_t *bytes = encode(_i, &len), *longer = calloc(1, len + 4);
	struct scp_header header;
	scp_message back = { .type = (scp_type)99 };

	memcpy(longer, bytes, len);
	ck_assert_int_eq(scp_header_decode(bytes, &header), 0);
	for (uint32_t n = 0; n <= len - SCP_HEADER_BYTES + 4; n++) {
		header.length = n;
		if (n != len - SCP_HEADER_BYTES)
			ck_assert_int_eq(scp_body_decode(&header, longer + SCP_HEADER_BYTES, &back), -EBADMSG);
	}
	ck_assert_int_eq(back.type, 99);
	free(longer);
	free(bytes);
}
END_TEST

/* The table has a row for each type that the union has an arm for, and for no other. */
START_TEST(table_is_complete)
{
	static char zeros[65536];
	unsigned int types = 0;

	for (uint32_t type = 0; type < 1000; type++) {
		scp_message message = { 0 };
		uint32_t be = htonl(type);
		XDR xdr;
		bool has_arm;

		memcpy(zeros, &be, sizeof(be));
		xdrmem_create(&xdr, zeros, sizeof(zeros), XDR_DECODE);
		has_arm = xdr_scp_message(&xdr, &message);
		ck_assert_msg(has_arm == (scp_message_rule((scp_type)type) != NULL), "type %u", type);
		types += has_arm;
		xdr_free((xdrproc_t)xdr_scp_message, (char *)&message);
	}
	ck_assert_uint_eq(types, SAMPLES); /* else a new type lacks its golden bytes */
	ck_assert_ptr_null(scp_message_rule((scp_type)-1));
}
END_TEST

START_TEST(messages_keep_to_their_channel)
{
	ck_assert(scp_message_may_travel(SCP_TCH, SCP_CONTROL, 1));
	ck_assert(!scp_message_may_travel(SCP_TCH, SCP_RELAY, 1));
	ck_assert(scp_message_may_travel(SCP_RELAY_CALL, SCP_RELAY, 1));
	ck_assert(scp_message_may_travel(SCP_EAP_KEY, SCP_CONTROL, 2));
	ck_assert(!scp_message_may_travel(SCP_EAP_KEY, SCP_CONTROL, 1));
	ck_assert(!scp_message_may_travel(SCP_RELAY_CALL, SCP_CONTROL, 1));
	ck_assert(!scp_message_may_travel(SCP_RELAY_CALL, SCP_RELAY, 0));
	ck_assert(!scp_message_may_travel(SCP_HELLO, (scp_channel)2, 1));
	ck_assert(!scp_message_may_travel((scp_type)99, SCP_RELAY, 1));
}
END_TEST

static const struct {
	const char *what;
	scp_type type;
	size_t at;
	uint8_t value;
} wrong[] = {
	{ "magic", SCP_REFUSE, 0, 'T' },
	{ "unknown type", SCP_REFUSE, 5, 3 },
	{ "large type", SCP_REFUSE, 4, 0xff },
	{ "reserved bytes", SCP_REFUSE, 7, 1 },
	{ "type of the body", SCP_REFUSE, BODY + 3, 10 },
	{ "length of a string", SCP_REFUSE, BODY + 7, 3 },
	{ "huge string", SCP_REFUSE, BODY + 4, 0x7f },
	{ "NUL in a string", SCP_REFUSE, BODY + 9, 0 },
	{ "padding", SCP_REFUSE, BODY + 11, 1 },
	{ "padding of opaque bytes", SCP_RELAY_REPLY, BODY + 19, 1 },
	{ "count of opaque bytes", SCP_SNAPSHOT, BODY + 4, 0x0f },
	{ "count of a list", SCP_SESSIONS, BODY + 6, 0xff },
	{ "count within a list", SCP_SESSIONS, BODY + 8 + 79, 65 },
};

START_TEST(wrong_bytes_are_refused)
{
	scp_message back;
	size_t len;
	uint8_t *bytes;
	int sample = 0;

	while (samples[sample].type != wrong[_i].type)
		sample++;
	bytes = encode(sample, &len);
	ck_assert_uint_lt(wrong[_i].at, len);
	bytes[wrong[_i].at] = wrong[_i].value;
	ck_assert_msg(decode(bytes, len, &back) == -EBADMSG, "wrong %s was accepted", wrong[_i].what);
	free(bytes);
}
END_TEST

/* A body that this type can't have is refused by its header, before anybody asks for memory for it. */
START_TEST(long_bodies_are_refused)
{
	size_t len;
	uint8_t *bytes = encode(_i, &len);
	uint32_t most = scp_message_rule(samples[_i].type)->body_max;
	struct scp_header header;

	memcpy(bytes + 12, &(uint32_t){ htonl(most) }, 4);
	ck_assert_int_eq(scp_header_decode(bytes, &header), 0);
	memcpy(bytes + 12, &(uint32_t){ htonl(most + 1) }, 4);
	ck_assert_int_eq(scp_header_decode(bytes, &header), -EBADMSG);
	free(bytes);
}
END_TEST

START_TEST(what_can_not_be_encoded_is_refused)
{
	scp_message message = { .type = SCP_REFUSE };
	char text[SCP_TEXT_MAX + 2];
	uint8_t *bytes;
	size_t len;

	memset(text, 'a', sizeof(text));
	text[SCP_TEXT_MAX + 1] = '\0';
	message.scp_message_u.refuse.reason = text;
	ck_assert_int_eq(scp_message_encode(0, &message, &bytes, &len), -EINVAL);
	text[SCP_TEXT_MAX] = '\0';
	ck_assert_int_eq(scp_message_encode(0, &message, &bytes, &len), 0);
	free(bytes);
	message.type = (scp_type)3;
	ck_assert_int_eq(scp_message_encode(0, &message, &bytes, &len), -EINVAL);
}
END_TEST

/* The largest list that the definition allows fits into what the table allows. */
START_TEST(largest_list_fits)
{
	static scp_volume_share shares[64];
	scp_session *sessions = calloc(SCP_LIST_MAX, sizeof(*sessions));
	scp_message message = { .type = SCP_SESSIONS };
	unsigned long len;

	for (size_t i = 0; i < SCP_LIST_MAX; i++) {
		sessions[i].shares.shares_val = shares;
		sessions[i].shares.shares_len = 64;
	}
	message.scp_message_u.sessions.sessions.sessions_val = sessions;
	message.scp_message_u.sessions.sessions.sessions_len = SCP_LIST_MAX;
	len = xdr_sizeof((xdrproc_t)xdr_scp_message, &message);
	ck_assert_uint_gt(len, 0);
	ck_assert_uint_le(len, scp_message_rule(SCP_SESSIONS)->body_max);
	free(sessions);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("scp_message");
	TCase *tcase = tcase_create("scp_message");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, bytes_are_golden, 0, SAMPLES);
	tcase_add_loop_test(tcase, fuzzer_has_an_input, 0, SAMPLES);
	tcase_add_loop_test(tcase, what_is_read_back_is_the_same, 0, SAMPLES);
	tcase_add_loop_test(tcase, cut_and_lengthened_bodies_are_refused, 0, SAMPLES);
	tcase_add_test(tcase, table_is_complete);
	tcase_add_test(tcase, messages_keep_to_their_channel);
	tcase_add_loop_test(tcase, wrong_bytes_are_refused, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_loop_test(tcase, long_bodies_are_refused, 0, SAMPLES);
	tcase_add_test(tcase, what_can_not_be_encoded_is_refused);
	tcase_add_test(tcase, largest_list_fits);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
