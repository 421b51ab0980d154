/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/examining.h"

#include "common/clock.h"
#include "common/export_rules.h"
#include "common/member_state.h"
#include "master/commands_internal.h"
#include "master/examination_rules.h"
#include "slave/examiner.h"
#include "slave/load.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OWN_NAMES_MAX = 4096 /* of the cluster's users, and of its groups, are compared */ };

/* What is waited for of a device. */
struct question {
	uint32_t number; /* of the request; 0: nothing */
	bool is_own_out; /* this machine's device is at it */
};

/* One examination of the cluster. */
struct run {
	struct examining *examining;
	struct examination_cluster cluster;
	struct question *questions; /* one for each device */
	char **names;		    /* of the devices; owned */
	bool asks_names;	    /* the second time */
	bool is_over;		    /* only this machine's device has still to end */
	struct event *timer;
};

struct examining {
	struct master *master;
	struct run *run; /* NULL: none is under way */
	struct admin_request *waiting[ADMIN_CLIENTS_MAX];
	size_t waiting_count;
};

/* What the master knows itself */

static void know_state(struct master *master, const ns_node *node, struct examination_facts *out)
{
	const struct member_life *life = slave_member(master_slave(master), node->id);

	if (node->state == NS_NODE_PENDING)
		examination_put(out, "state", "", "pending");
	else if (node->id == NAMESPACE_MASTER)
		examination_put(out, "state", "", "up");
	else {
		examination_put(out, "state", "", "%s", member_state_name(life->state));
		examination_put(out, "reason", "", "%s", life->reason);
	}
}

static void know_software(struct master *master, const ns_node *node, struct examination_facts *out)
{
	if (node->id == NAMESPACE_MASTER)
		examination_put(out, "software", "", "%s", PACKAGE_STRING);
	else if (master_member(master, node->id)->up)
		examination_put(out, "software", "", "%s", master_member(master, node->id)->software);
}

static void know_clock(struct master *master, const ns_node *node, struct examination_facts *out)
{
	const struct load *load = master_load(master, node->id);

	examination_put(out, "clock", "bound_ms", "%u", master_settings(master)->clock_bound_ms);
	if (load && load->knows_clock)
		examination_put(out, "clock", "offset_ns", "%" PRId64, (int64_t)load->clock.offset_ns);
}

static void know_disks(struct master *master, const ns_node *node, struct examination_facts *out)
{
	const scp_disks *disks = master_disks(master, node->id);

	for (u_int i = 0; i < disks->disks.disks_len; i++) {
		const scp_disk *disk = &disks->disks.disks_val[i];

		if (disk->health == SCP_DISK_HEALTH_FAILED)
			examination_put(out, "disk", disk->device, "%s, serial number %s", *disk->model ? disk->model : "no model",
					*disk->serial ? disk->serial : "unknown");
	}
}

static void know_device(struct master *master, const ns_node *node, struct examination_facts *out)
{
	const uint8_t *mac = (const uint8_t *)node->mac;

	know_state(master, node, out);
	know_software(master, node, out);
	know_clock(master, node, out);
	know_disks(master, node, out);
	examination_put(out, "mac", "", "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static bool manages_gids(const struct namespace *ns)
{
	char why[EXPORT_WHY_MAX];
	const ns_export *export;
	bool does = false;

	for (size_t at = 0; !does && (export = namespace_next_export(ns, &at));) {
		struct export_rule *rules;
		size_t count;

		if (export_rules_parse(export->clients, &rules, &count, why, sizeof(why)) < 0)
			continue;
		for (size_t i = 0; i < count; i++)
			does |= rules[i].rights.manage_gids;
		free(rules);
	}
	return does;
}

static void know_names(const struct namespace *ns, struct examination_facts *out)
{
	const ns_user *user;
	const ns_group *group;
	size_t at = 0;

	for (size_t i = 0; i < OWN_NAMES_MAX && (user = namespace_next_user(ns, &at)); i++)
		examination_put(out, "user", user->name, "%u", user->uid);
	at = 0;
	for (size_t i = 0; i < OWN_NAMES_MAX && (group = namespace_next_group(ns, &at)); i++)
		examination_put(out, "group", group->name, "%u", group->gid);
}

static void know_cluster(const struct namespace *ns, struct examination_facts *out)
{
	const ns_cluster *cluster = namespace_cluster(ns);

	examination_put(out, "vips", "", "%s", cluster ? cluster->vips : "");
	examination_put(out, "manage_gids", "", "%s", manages_gids(ns) ? "yes" : "no");
	know_names(ns, out);
}

/* Of the volumes that devices have told of. */
static void know_places(const struct namespace *ns, const struct examination_device *device, struct examination_facts *out)
{
	const struct examination_fact *volume;
	char path[NS_TEXT_MAX];

	for (size_t at = 0; (volume = examination_next(&device->facts, "volume", &at));) {
		const ns_entry *place = namespace_place(ns, (uint32_t)strtoul(volume->subject, NULL, 10));

		if (place && namespace_path(ns, place, path) == 0)
			examination_put(out, "place", volume->subject, "%s", path);
	}
}

/* The answer */

static json_t *finding_row(const struct examination_finding *finding)
{
	return json_pack("{s:s, s:I, s:o, s:s, s:o, s:o}", "severity", examination_severity_name(finding->severity), "node",
			 (json_int_t)(finding->device ? finding->device->id : 0), "node_name",
			 admin_text(finding->device ? finding->device->name : ""), "examination", finding->examination, "finding",
			 admin_text(finding->what), "remedy", admin_text(finding->remedy ? finding->remedy : ""));
}

static json_t *findings_table(const struct examination_findings *findings)
{
	json_t *table = admin_table("severity:Severity node:Node node_name:Name examination:Examination finding:Finding remedy:What_to_do");

	for (size_t i = 0; i < findings->count; i++)
		admin_row(table, finding_row(&findings->items[i]));
	return table;
}

static size_t count_of(const struct examination_findings *findings, enum examination_severity severity)
{
	size_t count = 0;

	for (size_t i = 0; i < findings->count; i++)
		count += findings->items[i].severity == severity;
	return count;
}

static void print_count(FILE *out, const struct examination_findings *findings, enum examination_severity severity, const char *before)
{
	size_t count = count_of(findings, severity);

	fprintf(out, "%s%zu %s%s", before, count, examination_severity_name(severity), count == 1 ? "" : "s");
}

static void print_findings(FILE *out, const struct examination_findings *findings)
{
	for (size_t i = 0; i < findings->count; i++) {
		const struct examination_finding *finding = &findings->items[i];

		fprintf(out, "%-8s %s: %s\n%-8s   -> %s\n", examination_severity_name(finding->severity),
			finding->device ? finding->device->name : "cluster", finding->what, "", finding->remedy ? finding->remedy : "");
	}
}

/* Freed by the caller; NULL without memory */
static char *findings_text(const struct examination_cluster *cluster, const struct examination_findings *findings)
{
	char *text = NULL;
	size_t len, examined = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (size_t i = 0; i < cluster->count; i++)
		examined += examination_has_report(&cluster->devices[i]);
	print_findings(out, findings);
	fprintf(out, "%s%zu examinations of %zu device%s: ", findings->count ? "\n" : "", examination_count(), examined,
		examined == 1 ? "" : "s");
	print_count(out, findings, EXAMINATION_ERROR, "");
	print_count(out, findings, EXAMINATION_WARNING, ", ");
	print_count(out, findings, EXAMINATION_NOTE, ", ");
	fputs("\n", out);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static void answer_all(struct examining *examining, const struct examination_cluster *cluster,
		       const struct examination_findings *findings)
{
	bool is_bad = count_of(findings, EXAMINATION_ERROR) || count_of(findings, EXAMINATION_WARNING);
	char *text = findings_text(cluster, findings);

	for (size_t i = 0; i < examining->waiting_count; i++)
		admin_report(examining->waiting[i], findings_table(findings), text ? text : "", is_bad);
	examining->waiting_count = 0;
	free(text);
}

/* A run */

static void run_free(struct run *run)
{
	for (size_t i = 0; i < run->cluster.count; i++) {
		examination_facts_fini(&run->cluster.devices[i].facts);
		free(run->names[i]);
	}
	examination_facts_fini(&run->cluster.facts);
	free(run->cluster.devices);
	free(run->questions);
	free(run->names);
	if (run->timer)
		event_free(run->timer);
	free(run);
}

static void run_finish(struct run *run)
{
	const struct namespace *ns = master_ns(run->examining->master);
	struct examination_findings findings = { 0 };

	run->cluster.now_s = (int64_t)(clock_wall_ns() / 1000000000);
	for (size_t i = 0; i < run->cluster.count; i++)
		know_places(ns, &run->cluster.devices[i], &run->cluster.facts);
	examination_judge(&run->cluster, &findings);
	answer_all(run->examining, &run->cluster, &findings);
	examination_findings_fini(&findings);
}

static bool is_own_out(const struct run *run)
{
	for (size_t i = 0; i < run->cluster.count; i++)
		if (run->questions[i].is_own_out)
			return true;
	return false;
}

static void run_end(struct run *run)
{
	run_finish(run);
	run->examining->run = NULL;
	run->is_over = true;
	event_del(run->timer);
	if (!is_own_out(run))
		run_free(run);
}

/* What a question is answered by; of the second one only that it was. */
static void note_report(struct run *run, size_t index, const char *how)
{
	examination_put(&run->cluster.devices[index].facts, run->asks_names ? "names" : "report", "", "%s", how);
}

static void on_own_facts(const struct examination_facts *facts, void *arg);

static void ask_own(struct run *run, size_t index)
{
	run->questions[index].is_own_out = true;
	if (examiner_find(slave_examiner(master_slave(run->examining->master)), run->asks_names, on_own_facts, run) == 0)
		return;
	run->questions[index].is_own_out = false;
	note_report(run, index, "it is busy with another examination");
}

static void ask_other(struct run *run, size_t index)
{
	struct scp *scp = slave_scp(master_slave(run->examining->master));
	scp_message message = { .type = SCP_EXAMINE };
	uint32_t node = run->cluster.devices[index].id, number = scp_next_request(scp);
	int rc;

	message.scp_message_u.examine.names = run->asks_names;
	rc = scp_send(scp, node, SCP_CONTROL, number, &message);
	if (rc == 0)
		run->questions[index].number = number;
	else if (rc != -ENOTCONN) /* that it is away is said anyway */
		note_report(run, index, rc == -EPROTONOSUPPORT ? "old" : strerror(-rc));
}

static void ask(struct run *run, size_t index)
{
	if (run->cluster.devices[index].is_switch)
		ask_own(run, index);
	else
		ask_other(run, index);
}

static bool is_anything_out(const struct run *run)
{
	for (size_t i = 0; i < run->cluster.count; i++)
		if (run->questions[i].number || run->questions[i].is_own_out)
			return true;
	return false;
}

static void arm(struct run *run)
{
	event_add(run->timer, &(struct timeval){ .tv_sec = EXAMINING_PATIENCE_MS / 1000 });
}

static size_t index_of(const struct run *run, const struct examination_device *device)
{
	return (size_t)(device - run->cluster.devices);
}

/* All have answered, or have been given up. */
static void run_go_on(struct run *run)
{
	struct examination_device *namers[EXAMINATION_NAMERS_MAX];
	size_t count = run->asks_names ? 0 : examination_namers(&run->cluster, namers);

	run->asks_names = true;
	for (size_t i = 0; i < count; i++)
		ask(run, index_of(run, namers[i]));
	if (is_anything_out(run))
		arm(run);
	else
		run_end(run);
}

static void run_answered(struct run *run)
{
	if (!is_anything_out(run))
		run_go_on(run);
}

/* Those that have not answered: what the others said is enough for the rest. */
static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct run *run = arg;

	(void)fd, (void)what;
	for (size_t i = 0; i < run->cluster.count; i++) {
		if (run->questions[i].number || run->questions[i].is_own_out)
			note_report(run, i, "it did not answer in time");
		run->questions[i].number = 0;
	}
	if (is_own_out(run))
		run_end(run);
	else
		run_go_on(run);
}

static void on_own_facts(const struct examination_facts *facts, void *arg)
{
	struct run *run = arg;

	for (size_t i = 0; i < run->cluster.count; i++) {
		if (!run->questions[i].is_own_out)
			continue;
		run->questions[i].is_own_out = false;
		if (run->is_over) {
			run_free(run);
			return;
		}
		note_report(run, i, "yes");
		for (size_t j = 0; j < facts->count; j++)
			examination_put(&run->cluster.devices[i].facts, facts->items[j].area, facts->items[j].subject, "%s",
					facts->items[j].value);
		run_answered(run);
		return;
	}
}

/* The device that was asked by that number; or NULL */
static struct question *find_question(struct run *run, uint32_t node, uint32_t number, size_t *index)
{
	for (*index = 0; run && number && *index < run->cluster.count; ++*index)
		if (run->questions[*index].number == number && run->cluster.devices[*index].id == node)
			return &run->questions[*index];
	return NULL;
}

void examining_received(struct examining *examining, uint32_t node, uint32_t request, const scp_message *message)
{
	size_t index;
	struct question *question = find_question(examining->run, node, request, &index);

	if (!question)
		return;
	question->number = 0;
	if (message->type == SCP_EXAMINED) {
		note_report(examining->run, index, "yes"); /* before what it says itself: the first one counts */
		examination_from_wire(&message->scp_message_u.examined, &examining->run->cluster.devices[index].facts);
	} else {
		note_report(examining->run, index, message->scp_message_u.result.reason);
	}
	run_answered(examining->run);
}

void examining_node_lost(struct examining *examining, uint32_t node)
{
	struct run *run = examining->run;

	for (size_t i = 0; run && i < run->cluster.count; i++)
		if (run->cluster.devices[i].id == node && run->questions[i].number) {
			run->questions[i].number = 0;
			note_report(run, i, "it has gone meanwhile");
			run_answered(run);
			return;
		}
}

/* Beginning */

static size_t count_nodes(const struct namespace *ns)
{
	size_t count = 0;

	for (size_t at = 0; namespace_next_node(ns, &at);)
		count++;
	return count;
}

static bool run_take_devices(struct run *run)
{
	struct master *master = run->examining->master;
	size_t count = count_nodes(master_ns(master));
	const ns_node *node;

	run->cluster.devices = calloc(count + 1, sizeof(*run->cluster.devices));
	run->questions = calloc(count + 1, sizeof(*run->questions));
	run->names = calloc(count + 1, sizeof(*run->names));
	if (!run->cluster.devices || !run->questions || !run->names)
		return false;
	for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));) {
		size_t i = run->cluster.count++;

		run->names[i] = strdup(node->name);
		run->cluster.devices[i] = (struct examination_device){ .id = node->id, .name = run->names[i],
								       .is_switch = node->id == NAMESPACE_MASTER };
		if (!run->names[i])
			return false;
		know_device(master, node, &run->cluster.devices[i].facts);
	}
	know_cluster(master_ns(master), &run->cluster.facts);
	return true;
}

static struct run *run_new(struct examining *examining)
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->examining = examining;
	run->timer = evtimer_new(master_base(examining->master), on_late, run);
	if (run->timer && run_take_devices(run))
		return run;
	run_free(run);
	return NULL;
}

static void run_start(struct run *run)
{
	run->examining->run = run;
	for (size_t i = 0; i < run->cluster.count; i++)
		ask(run, i);
	if (is_anything_out(run))
		arm(run);
	else
		run_go_on(run);
}

void examining_command_check(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct examining *examining = master_examining(commands_master(arg));
	struct run *run = examining->run;

	(void)argc, (void)argv;
	if (!run)
		run = run_new(examining);
	if (!run || examining->waiting_count == ADMIN_CLIENTS_MAX) {
		admin_error(request, "%s", run ? "too many ask for this at a time; try again later" : "no memory");
		return;
	}
	examining->waiting[examining->waiting_count++] = request;
	if (!examining->run)
		run_start(run);
}

struct examining *examining_new(struct master *master)
{
	struct examining *examining = calloc(1, sizeof(*examining));

	if (examining)
		examining->master = master;
	return examining;
}

void examining_free(struct examining *examining)
{
	if (!examining)
		return;
	for (size_t i = 0; i < examining->waiting_count; i++)
		admin_error(examining->waiting[i], "vnasd is being stopped");
	if (examining->run)
		run_free(examining->run);
	free(examining);
}
