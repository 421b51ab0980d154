/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/device_commands.h"

#include "common/certificate_age.h"
#include "common/clock.h"
#include "common/conn.h"
#include "slave/device_log.h"
#include "slave/device_metrics.h"
#include "slave/uplink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *device_session_text(uint64_t session, char text[static DEVICE_SESSION_TEXT])
{
	snprintf(text, DEVICE_SESSION_TEXT, "%" PRIx32 "-%" PRIx32, (uint32_t)(session >> 32), (uint32_t)session);
	return text;
}

int device_session_parse(const char *text, uint64_t *session)
{
	uint32_t node, counter;
	int end = 0;

	if (sscanf(text, "%" SCNx32 "-%" SCNx32 "%n", &node, &counter, &end) != 2 || text[end])
		return -EINVAL;
	*session = (uint64_t)node << 32 | counter;
	return 0;
}

const char *device_address_text(const uint8_t address[static 16], uint16_t port, char text[static DEVICE_ADDRESS_TEXT])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	char host[INET6_ADDRSTRLEN] = "?";

	if (memcmp(address, mapped, sizeof(mapped)) == 0) {
		inet_ntop(AF_INET, address + 12, host, sizeof(host));
		snprintf(text, DEVICE_ADDRESS_TEXT, "%s:%u", host, port);
	} else {
		inet_ntop(AF_INET6, address, host, sizeof(host));
		snprintf(text, DEVICE_ADDRESS_TEXT, "[%s]:%u", host, port);
	}
	return text;
}

json_t *device_session_row(const struct namespace *ns, const scp_session *session, uint32_t node)
{
	const ns_node *known = namespace_node(ns, node);
	char id[DEVICE_SESSION_TEXT], client[DEVICE_ADDRESS_TEXT], vip[DEVICE_ADDRESS_TEXT];
	const scp_flow *flow = &session->flow;
	uint64_t bytes = 0;

	for (u_int i = 0; i < session->shares.shares_len; i++)
		bytes += session->shares.shares_val[i].bytes;
	return json_pack("{s:s, s:s, s:s, s:I, s:o, s:I, s:I, s:I, s:I, s:I}", "id",
			 device_session_text(session->id, id), "client",
			 device_address_text((const uint8_t *)flow->client, (uint16_t)flow->client_port, client), "vip",
			 device_address_text((const uint8_t *)flow->vip, (uint16_t)flow->vip_port, vip), "node",
			 (json_int_t)node, "node_name", admin_text(known ? known->name : "?"), "handoffs",
			 (json_int_t)session->handoffs, "last_handoff_us", (json_int_t)session->last_handoff_us,
			 "requests", (json_int_t)session->requests, "bytes", (json_int_t)bytes, "since_ns",
			 (json_int_t)session->since_ns);
}

json_t *device_session_shares(const struct namespace *ns, const scp_session *session)
{
	json_t *shares = json_array();

	for (u_int i = 0; i < session->shares.shares_len; i++) {
		const scp_volume_share *share = &session->shares.shares_val[i];
		const ns_entry *place = namespace_place(ns, share->volume);
		char path[NS_TEXT_MAX] = "/";

		if (place)
			namespace_path(ns, place, path);
		json_array_append_new(shares, json_pack("{s:I, s:o, s:I, s:I}", "volume", (json_int_t)share->volume,
							"place", admin_text(share->volume && !place ? "?" : path),
							"bytes",
							(json_int_t)share->bytes, "requests",
							(json_int_t)share->requests));
	}
	return shares;
}

/* Counters */

static void add_row(json_t *row, void *table)
{
	admin_row(table, row);
}

void device_answer_counters(struct admin_request *request, const struct metrics *metrics)
{
	json_t *table = admin_table("group:Group name:Counter value:Value");

	if (metrics && metrics_rows(metrics, add_row, table) == 0) {
		admin_answer(request, table);
		return;
	}
	json_decref(table);
	admin_error(request, "there is no memory for that now; try again later");
}

static void command_counters(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct device *device = arg;
	struct metrics *metrics = metrics_new();

	(void)argc, (void)argv;
	if (metrics)
		device_metrics_put(device->slave, device->uplink, metrics);
	device_answer_counters(request, metrics);
	metrics_free(metrics);
}

/* Policy */

static void add_option(json_t *table, const char *name, uint64_t value, const char *unit, const char *meaning)
{
	char text[32] = "off";

	if (value)
		snprintf(text, sizeof(text), "%" PRIu64 " %s", value, unit);
	admin_row(table, json_pack("{s:s, s:I, s:s, s:s}", "option", name, "value", (json_int_t)value, "setting", text,
				   "meaning", meaning));
}

void device_command_policy(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct device *device = arg;
	const struct placement_policy *policy = slave_policy(device->slave);
	json_t *table = admin_table("option:Option setting:Setting meaning:A_session_moves_to_another_device_...");

	(void)argc, (void)argv;
	add_option(table, "bytes", policy->bytes, "B", "when it has moved so much of that device's data");
	add_option(table, "elsewhere", policy->elsewhere, "B", "or so much of all others': to the one with most of it");
	add_option(table, "prepare", policy->prepare, "%", "which is prepared when it has moved so much of that");
	add_option(table, "window", policy->window_ms, "ms", "within this time");
	add_option(table, "request", policy->request, "B", "or when it is asked for by a device that served so much for it");
	add_option(table, "ratio", policy->ratio, "%", "if it is more than this, measured by this device's own data");
	add_option(table, "workload", policy->workload, "%", "that is not busier than this one by more, of one core");
	add_option(table, "stay", policy->stay_ms, "ms", "not sooner after its last move");
	add_option(table, "budget", policy->budget, "/s", "unless so many handoffs were begun in this second");
	add_option(table, "queue", policy->queue, "B", "unless more replies wait to be sent");
	add_option(table, "halve", policy->halve, "B", "at once if more is not acknowledged by the client: it gets that from here first");
	add_option(table, "per_client", policy->per_client, "(yes)", "by the data of all sessions of its client");
	admin_answer(request, table);
}

static json_t *finding_row(const scp_finding *finding)
{
	return json_pack("{s:o, s:I, s:I, s:o, s:s}", "criterion", admin_text(finding->criterion), "now",
			 (json_int_t)(finding->have < INT64_MAX ? finding->have : INT64_MAX), "limit",
			 (json_int_t)finding->limit, "unit", admin_text(finding->unit), "verdict",
			 !finding->used ? "off" : finding->met ? "for it" : "against it");
}

void device_session_facts(json_t *record, const scp_session_facts *facts)
{
	json_object_set_new(record, "tcp", json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "segments_in",
						     (json_int_t)facts->segments_in, "segments_out",
						     (json_int_t)facts->segments_out, "segments_retransmitted",
						     (json_int_t)facts->segments_retransmitted, "in_bytes",
						     (json_int_t)facts->bytes_in, "out_bytes", (json_int_t)facts->bytes_out,
						     "congestion_window", (json_int_t)facts->congestion_window, "segment_bytes",
						     (json_int_t)facts->segment_bytes, "round_trip_us",
						     (json_int_t)facts->round_trip_us));
	json_object_set_new(record, "moved", json_pack("{s:I, s:I, s:I}", "sent_bytes", (json_int_t)facts->moved_sent,
						       "unsent_bytes", (json_int_t)facts->moved_unsent, "received_bytes",
						       (json_int_t)facts->moved_received));
	json_object_set_new(record, "handoff", json_pack("{s:o, s:I}", "state", admin_text(facts->state), "node",
							 (json_int_t)facts->node));
}

void device_why_answer(struct admin_request *request, const struct namespace *ns, uint32_t node,
		       const scp_why_result *result, const char *balance)
{
	const ns_node *here = namespace_node(ns, node), *there = namespace_node(ns, result->node);
	char session[DEVICE_SESSION_TEXT];
	json_t *findings = json_array(), *record;

	for (u_int i = 0; i < result->findings.findings_len; i++)
		json_array_append_new(findings, finding_row(&result->findings.findings_val[i]));
	record = json_pack("{s:s, s:I, s:o, s:I, s:o, s:s, s:o}", "session", device_session_text(result->session, session),
			   "node", (json_int_t)node, "node_name", admin_text(here ? here->name : "?"), "candidate",
			   (json_int_t)result->node, "candidate_name",
			   admin_text(there ? there->name : "none: it moved no other device's data lately"), "decision",
			   result->moves ? "moves with its next request" : "stays", "findings", findings);
	if (record && balance)
		json_object_set_new(record, "leaves_a_busy_node", admin_text(balance));
	admin_record(request, record);
}

void device_command_reload(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct device *device = arg;
	char why[SETTINGS_WHY_MAX];
	json_t *report = NULL;

	(void)argc, (void)argv;
	if (device->reload(device->reload_arg, &report, why) < 0)
		admin_error(request, "nothing has changed: %s", why);
	else
		admin_record(request, report);
}

void device_command_stop(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct device *device = arg;

	(void)argc, (void)argv;
	admin_done(request, "stopping");
	event_base_loopexit(device->base, &(struct timeval){ .tv_usec = 50000 });
}

/* A disk node's own view */

static void command_status(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct device *device = arg;
	const ns_cluster *cluster = namespace_cluster(device->ns);
	const struct certificates_facts *certificate = slave_certificate(device->slave);
	bool serves = slave_conns(device->slave) != NULL;

	(void)argc, (void)argv;
	admin_record(request,
		     json_pack("{s:s, s:I, s:o, s:s, s:I, s:b, s:I, s:b, s:s, s:I}", "role", "slave", "node",
			       (json_int_t)slave_self(device->slave), "cluster",
			       admin_text(cluster ? cluster->name : "?"), "master",
			       uplink_is_up(device->uplink) ? "up" : "away: this node serves, changes wait", "revision",
			       (json_int_t)namespace_revision(device->ns), "serves", serves, "sessions",
			       (json_int_t)(serves ? conn_count(slave_conns(device->slave)) : 0), "handoffs",
			       slave_kernel_helper(device->slave) != NULL, "certificate",
			       certificate_age_name(certificate_age(certificate, (int64_t)(clock_wall_ns() / 1000000000u))),
			       "certificate_until_ns", (json_int_t)(certificate->expires_s * 1000000000)));
}

static void command_session_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct device *device = arg;
	json_t *table = admin_table(DEVICE_SESSION_COLUMNS);
	scp_sessions sessions;

	(void)argc, (void)argv;
	if (slave_describe_sessions(device->slave, &sessions) == 0) {
		for (u_int i = 0; i < sessions.sessions.sessions_len; i++)
			admin_row(table, device_session_row(device->ns, &sessions.sessions.sessions_val[i],
							    slave_self(device->slave)));
		xdr_free((xdrproc_t)xdr_scp_sessions, (char *)&sessions);
	}
	admin_answer(request, table);
}

static void command_why(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct device *device = arg;
	struct slave_why why;
	uint64_t session;

	(void)argc;
	why.result.result = ENOENT;
	if (device_session_parse(argv[0], &session) == 0)
		slave_why(device->slave, session, &why);
	if (why.result.result)
		admin_error(request, "there is no session \"%s\" on this device; ask the switch", argv[0]);
	else
		device_why_answer(request, device->ns, slave_self(device->slave), &why.result, NULL);
}

const struct admin_handler device_commands[] = {
	{ "status", command_status },
	{ "session list", command_session_list },
	{ "counters", command_counters },
	{ "policy", device_command_policy },
	{ "why", command_why },
	{ "log", device_command_log },
	{ "reload", device_command_reload },
	{ "stop", device_command_stop },
	{ NULL, NULL },
};
