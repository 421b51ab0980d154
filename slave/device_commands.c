/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/device_commands.h"

#include "common/conn_memory.h"
#include "common/duplicate_requests.h"
#include "common/file_service.h"
#include "common/log.h"
#include "slave/locks.h"
#include "slave/eap_client.h"
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

void device_counter(json_t *table, const char *group, const char *name, uint64_t value)
{
	admin_row(table, json_pack("{s:s, s:s, s:I}", "group", group, "name", name, "value", (json_int_t)value));
}

static void count_files(struct slave *slave, json_t *table)
{
	const struct file_service_counters counters = slave_file_counters(slave);
	char name[16];

	for (size_t i = 0; i < NFS3_PROCEDURES; i++) {
		snprintf(name, sizeof(name), "procedure_%zu", i);
		if (counters.nfs3[i])
			device_counter(table, "nfs3", name, counters.nfs3[i]);
	}
	for (size_t i = 0; i < NFS_ACL_PROCEDURES; i++) {
		snprintf(name, sizeof(name), "procedure_%zu", i);
		if (counters.nfs_acl[i])
			device_counter(table, "nfs_acl", name, counters.nfs_acl[i]);
	}
	device_counter(table, "files", "relayed", counters.relayed);
	device_counter(table, "files", "bad_handle", counters.bad_handle);
	device_counter(table, "files", "stale_handle", counters.stale_handle);
	device_counter(table, "files", "access_denied", counters.access_denied);
	device_counter(table, "files", "read_bytes", counters.read_bytes);
	device_counter(table, "files", "written_bytes", counters.written_bytes);
}

static void count_duplicates(struct slave *slave, json_t *table)
{
	static const char *const groups[] = {
		[FILE_SERVICE_CHANGES] = "duplicate_changes",
		[FILE_SERVICE_WRITES] = "duplicate_writes",
	};

	for (enum file_service_cache cache = FILE_SERVICE_CHANGES; cache <= FILE_SERVICE_WRITES; cache++) {
		const struct duplicate_requests_counters counters = file_service_duplicates(slave_files(slave), cache);

		device_counter(table, groups[cache], "answered", counters.answered);
		device_counter(table, groups[cache], "waited", counters.waited);
		device_counter(table, groups[cache], "refused", counters.refused);
		device_counter(table, groups[cache], "entries", counters.entries);
		device_counter(table, groups[cache], "bytes", counters.bytes);
	}
}

static void count_memory(struct slave *slave, json_t *table)
{
	const struct conn_memory_counters counters = slave_memory(slave);

	device_counter(table, "memory", "held_bytes", counters.held);
	device_counter(table, "memory", "most_bytes", counters.most);
	device_counter(table, "memory", "waited", counters.waited);
	device_counter(table, "memory", "turns", counters.turns);
	device_counter(table, "memory", "closed", counters.closed);
	device_counter(table, "memory", "refused", counters.refused);
}

static void count_handoffs(struct slave *slave, json_t *table)
{
	const struct handoff_counters *counters;

	if (!slave_handoffs(slave))
		return;
	counters = handoffs_counters(slave_handoffs(slave));
	device_counter(table, "handoffs", "given", counters->given);
	device_counter(table, "handoffs", "taken", counters->taken);
	device_counter(table, "handoffs", "failed", counters->failed);
	device_counter(table, "handoffs", "reset", counters->reset);
	device_counter(table, "handoffs", "last_us", counters->last_us);
	device_counter(table, "handoffs", "sum_us", counters->sum_us);
}

static void count_locks(struct slave *slave, json_t *table)
{
	const struct lock_table_counters *held = nlm_table_counters(locks_nlm(slave_locks(slave)));
	const struct nlm_counters *nlm = nlm_counters(locks_nlm(slave_locks(slave)));
	const struct nsm_counters *nsm = nsm_counters(locks_nsm(slave_locks(slave)));
	char name[16];

	for (size_t i = 0; i < NLM_PROCEDURES; i++) {
		snprintf(name, sizeof(name), "procedure_%zu", i);
		if (nlm->calls[i])
			device_counter(table, "nlm", name, nlm->calls[i]);
	}
	device_counter(table, "nlm", "granted", nlm->granted);
	device_counter(table, "nlm", "denied", nlm->denied);
	device_counter(table, "nlm", "blocked", nlm->blocked);
	device_counter(table, "nlm", "call_backs", nlm->call_backs);
	device_counter(table, "nlm", "call_backs_failed", nlm->call_backs_failed);
	device_counter(table, "nlm", "freed_clients", nlm->freed_clients);
	device_counter(table, "locks", "clients", held->clients);
	device_counter(table, "locks", "files", held->files);
	device_counter(table, "locks", "entries", held->entries);
	device_counter(table, "locks", "waiters", held->waiters);
	device_counter(table, "nsm", "recorded", nsm->recorded);
	device_counter(table, "nsm", "notified", nsm->notified);
	device_counter(table, "nsm", "unreachable", nsm->unreachable);
	device_counter(table, "nsm", "rebooted", nsm->rebooted);
}

void device_counters(struct slave *slave, json_t *table)
{
	count_files(slave, table);
	count_duplicates(slave, table);
	count_memory(slave, table);
	count_locks(slave, table);
	count_handoffs(slave, table);
	if (slave_scp(slave)) {
		const struct scp_counters *scp = scp_counters(slave_scp(slave));

		device_counter(table, "scp", "messages_in", scp->messages_in);
		device_counter(table, "scp", "messages_out", scp->messages_out);
		device_counter(table, "scp", "bytes_in", scp->bytes_in);
		device_counter(table, "scp", "bytes_out", scp->bytes_out);
		device_counter(table, "scp", "refused", scp->refused);
		device_counter(table, "scp", "malformed", scp->malformed);
	}
	if (slave_kernel_helper(slave)) {
		size_t count;
		const struct kernel_helper_counter *node = kernel_helper_counters(slave_kernel_helper(slave), &count);

		for (size_t i = 0; i < count; i++)
			device_counter(table, "node", node[i].name, node[i].packets);
	}
}

static void eap_counters(const struct uplink *uplink, json_t *table)
{
	const struct eap_client_counters *datagrams = uplink_eap_datagrams(uplink);
	const struct uplink_eap_counters *over_scp = uplink_eap_over_scp(uplink);

	device_counter(table, "eap", "asked", datagrams->asked);
	device_counter(table, "eap", "answered", datagrams->answered);
	device_counter(table, "eap", "unanswered", datagrams->unanswered);
	device_counter(table, "eap", "forged", datagrams->forged);
	device_counter(table, "eap", "answer_us", datagrams->answer_us);
	device_counter(table, "eap", "scp_asked", over_scp->asked);
	device_counter(table, "eap", "scp_answered", over_scp->answered);
	device_counter(table, "eap", "scp_answer_us", over_scp->answer_us);
}

static void command_counters(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct device *device = arg;
	json_t *table = admin_table(DEVICE_COUNTER_COLUMNS);

	(void)argc, (void)argv;
	device_counters(device->slave, table);
	eap_counters(device->uplink, table);
	admin_answer(request, table);
}

/* The log */

struct log_lines {
	json_t *table;
	size_t skip;
};

static void count_line(uint64_t time_ns, enum log_level level, const char *line, void *arg)
{
	(void)time_ns, (void)level, (void)line;
	++*(size_t *)arg;
}

static void add_line(uint64_t time_ns, enum log_level level, const char *line, void *arg)
{
	static const char *const levels[] = { "err", "warn", "info", "debug" };
	struct log_lines *lines = arg;

	if (lines->skip) {
		lines->skip--;
		return;
	}
	admin_row(lines->table, json_pack("{s:I, s:s, s:o}", "time_ns", (json_int_t)time_ns, "level", levels[level],
					  "line", admin_text(line)));
}

void device_command_log(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct log_lines lines = { .table = admin_table("time_ns:Time line:Line") };
	size_t have = 0, want = LOG_KEEP;

	(void)arg;
	if (argc == 2 && strcmp(argv[0], "-n") == 0)
		want = strtoul(argv[1], NULL, 10);
	log_recent(count_line, &have);
	lines.skip = have > want ? have - want : 0;
	log_recent(add_line, &lines);
	admin_answer(request, lines.table);
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
	add_option(table, "window", policy->window_ms, "ms", "within this time");
	add_option(table, "ratio", policy->ratio, "%", "if it is more than this, measured by this device's own data");
	add_option(table, "workload", policy->workload, "%", "that is not busier than this one by more, of one core");
	add_option(table, "stay", policy->stay_ms, "ms", "not sooner after its last move");
	add_option(table, "budget", policy->budget, "/s", "unless so many handoffs were begun in this second");
	add_option(table, "queue", policy->queue, "B", "unless more replies wait to be sent");
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

void device_why_answer(struct admin_request *request, const struct namespace *ns, uint32_t node,
		       const scp_why_result *result)
{
	const ns_node *here = namespace_node(ns, node), *there = namespace_node(ns, result->node);
	char session[DEVICE_SESSION_TEXT];
	json_t *findings = json_array();

	for (u_int i = 0; i < result->findings.findings_len; i++)
		json_array_append_new(findings, finding_row(&result->findings.findings_val[i]));
	admin_record(request, json_pack("{s:s, s:I, s:o, s:I, s:o, s:s, s:o}", "session",
					device_session_text(result->session, session), "node", (json_int_t)node,
					"node_name", admin_text(here ? here->name : "?"), "candidate",
					(json_int_t)result->node, "candidate_name",
					admin_text(there ? there->name : "none: it moved no other device's data lately"),
					"decision", result->moves ? "moves with its next request" : "stays", "findings",
					findings));
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
	bool serves = slave_conns(device->slave) != NULL;

	(void)argc, (void)argv;
	admin_record(request,
		     json_pack("{s:s, s:I, s:o, s:s, s:I, s:b, s:I, s:b}", "role", "slave", "node",
			       (json_int_t)slave_self(device->slave), "cluster",
			       admin_text(cluster ? cluster->name : "?"), "master",
			       uplink_is_up(device->uplink) ? "up" : "away: this node serves, changes wait", "revision",
			       (json_int_t)namespace_revision(device->ns), "serves", serves, "sessions",
			       (json_int_t)(serves ? conn_count(slave_conns(device->slave)) : 0), "handoffs",
			       slave_kernel_helper(device->slave) != NULL));
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
		device_why_answer(request, device->ns, slave_self(device->slave), &why.result);
}

const struct admin_handler device_commands[] = {
	{ "status", command_status },
	{ "session list", command_session_list },
	{ "counters", command_counters },
	{ "policy", device_command_policy },
	{ "why", command_why },
	{ "log", device_command_log },
	{ "stop", device_command_stop },
	{ NULL, NULL },
};
