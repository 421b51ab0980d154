/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/examiner.h"

#include "common/certificates.h"
#include "common/conn_memory.h"
#include "common/examination_machine.h"
#include "common/examination_names.h"
#include "common/examination_probe.h"
#include "common/member_state.h"
#include "common/namespace.h"
#include "common/settings.h"
#include "common/workers.h"
#include "slave/load.h"
#include "slave/made_volumes.h"
#include "slave/slave.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct run;

struct examiner {
	struct examiner_options options;
	LIST_HEAD(, run) runs;
	unsigned int run_count;
	bool is_stopped;
};

/* What is done by one worker. `find` touches `facts` and what does not change while the run lasts. */
struct part {
	struct work work;
	struct run *run;
	const char *name;
	void (*find)(const struct run *run, struct examination_facts *out);
	struct examination_facts facts;
	bool is_out;
};

enum { PARTS_MAX = 4 };

struct run {
	LIST_ENTRY(run) link;
	struct examiner *examiner;
	struct examination_machine machine;
	struct examination_peers peers;
	bool is_switch, names;
	struct part parts[PARTS_MAX];
	unsigned int part_count, out_count;
	struct event *timer;
	struct examination_facts facts;
	examiner_done_fn on_done; /* NULL: it was told */
	void *arg;
};

/* Parts, on workers */

static void find_machine(const struct run *run, struct examination_facts *out)
{
	examination_machine_find(&run->machine, out);
}

static void find_addresses(const struct run *run, struct examination_facts *out)
{
	examination_probe_addresses(&run->machine, run->is_switch, out);
}

static void find_paths(const struct run *run, struct examination_facts *out)
{
	examination_probe_paths(&run->machine, &run->peers, out);
}

static void find_names(const struct run *run, struct examination_facts *out)
{
	examination_names_find(run->names, out);
}

/* What this device knows, on the control loop */

static const char *yes_or_no(bool is)
{
	return is ? "yes" : "no";
}

static void know_settings(const struct settings *settings, struct examination_facts *out)
{
	char vips[EXAMINATION_VALUE_MAX] = "";
	size_t len = 0;

	for (unsigned int i = 0; i < settings->vip_count && len < sizeof(vips); i++)
		len += (size_t)snprintf(vips + len, sizeof(vips) - len, "%s%s", i ? " " : "", settings->vips[i]);
	examination_put(out, "setting", "vip", "%s", vips);
	examination_put(out, "setting", "handoff", "%s", yes_or_no(settings->handoff));
	examination_put(out, "setting", "nfs_port", "%u", settings->nfs_port);
	examination_put(out, "setting", "scp_port", "%u", settings->scp_port);
	examination_put(out, "setting", "correct", "%s", yes_or_no(settings->correct == SETTINGS_CORRECT_AUTO));
	/* How many connections there is room for. */
	examination_put(out, "setting", "connections", "%" PRIu64, settings->memory / (CONN_MEMORY_FIXED + CONN_MEMORY_EACH));
}

static void know_members(const struct examiner_options *options, struct examination_facts *out)
{
	uint32_t self = slave_self(options->slave);
	const ns_node *node;
	char number[16];

	for (size_t at = 0; (node = namespace_next_node(options->ns, &at));) {
		if (node->id == self || !namespace_is_member(node))
			continue;
		snprintf(number, sizeof(number), "%u", node->id);
		examination_put(out, "member", number, "%s", member_state_name(slave_member(options->slave, node->id)->state));
	}
}

static const struct load_volume *find_load(const struct load *load, uint32_t volume)
{
	for (size_t i = 0; i < load->volume_count; i++)
		if (load->volumes[i].volume == volume)
			return &load->volumes[i];
	return NULL;
}

/* A made volume has the room of the one that it is inside of. */
static void know_volumes(const struct examiner_options *options, struct examination_facts *out)
{
	const ns_volume *volume;
	struct load load;
	char number[16];

	slave_load(options->slave, &load);
	for (size_t at = 0; (volume = namespace_next_volume(options->ns, &at));) {
		const struct load_volume *room = find_load(&load, volume->id);

		if (volume->node != slave_self(options->slave) || made_volumes_is_path(volume->path))
			continue;
		snprintf(number, sizeof(number), "%u", volume->id);
		if (!volumes_find(slave_volumes(options->slave), volume->id))
			examination_put(out, "volume", number, "away");
		else if (room && (room->is_silent || !room->knows_room))
			examination_put(out, "volume", number, "silent");
		else if (room) /* else it was not asked yet */
			examination_put(out, "volume", number, "room %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, room->free_bytes,
					room->size_bytes, room->free_files, room->files);
	}
}

static void put_certificate(const char *which, const struct certificates_facts *certificate, struct examination_facts *out)
{
	examination_put(out, "certificate", which, "%" PRId64 " %" PRId64, certificate->issued_s, certificate->expires_s);
}

static void know_certificates(const struct examiner_options *options, struct examination_facts *out)
{
	struct certificates_facts authority;
	char pki[PATH_MAX];

	snprintf(pki, sizeof(pki), "%.4000s/pki", options->settings->state_dir);
	put_certificate("node", slave_certificate(options->slave), out);
	if (certificates_authority_facts(pki, &authority) == 0)
		put_certificate("authority", &authority, out);
}

static void know_device(const struct examiner_options *options, struct examination_facts *out)
{
	examination_put(out, "serves", "", "%s", yes_or_no(slave_conns(options->slave) != NULL));
	examination_put(out, "handoffs", "", "%s", yes_or_no(slave_kernel_helper(options->slave) != NULL));
	know_settings(options->settings, out);
	know_certificates(options, out);
	know_members(options, out);
	know_volumes(options, out);
}

/* Those with a lower number: so each pair is tried once. */
static void find_peers(const struct examiner_options *options, struct examination_peers *peers)
{
	const ns_node *node;

	for (size_t at = 0; peers->count < EXAMINATION_PEERS_MAX && (node = namespace_next_node(options->ns, &at));)
		if (node->id < slave_self(options->slave) && namespace_is_member(node) &&
		    member_gets_work(slave_member(options->slave, node->id)) &&
		    inet_pton(AF_INET, node->address, &peers->addresses[peers->count]) == 1)
			peers->count++;
}

/* A run */

static void run_free(struct run *run)
{
	for (unsigned int i = 0; i < run->part_count; i++)
		examination_facts_fini(&run->parts[i].facts);
	examination_facts_fini(&run->facts);
	if (run->timer)
		event_free(run->timer);
	free(run);
}

static void run_tell(struct run *run)
{
	examiner_done_fn on_done = run->on_done;

	if (!on_done)
		return;
	run->on_done = NULL;
	for (unsigned int i = 0; i < run->part_count; i++)
		if (run->parts[i].is_out)
			examination_put(&run->facts, "late", run->parts[i].name, "%s", "");
	if (run->facts.is_cut)
		examination_put(&run->facts, "cut", "", "%s", "");
	on_done(&run->facts, run->arg);
}

static void run_end(struct run *run)
{
	run_tell(run);
	LIST_REMOVE(run, link);
	run->examiner->run_count--;
	run_free(run);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct run *run = arg;

	(void)fd, (void)what;
	if (run->out_count)
		run_tell(run);
	else
		run_end(run);
}

static void part_run(struct work *work)
{
	struct part *part = (struct part *)work;

	part->find(part->run, &part->facts);
}

/* What comes too late is not told. */
static void part_done(struct work *work)
{
	struct part *part = (struct part *)work;
	struct run *run = part->run;

	part->is_out = false;
	examination_facts_move(&run->facts, &part->facts);
	if (--run->out_count == 0)
		run_end(run);
}

static void add_part(struct run *run, const char *name, void (*find)(const struct run *run, struct examination_facts *out))
{
	struct part *part = &run->parts[run->part_count++];

	part->work = (struct work){ .lane = find, .run = part_run, .done = part_done };
	part->run = run;
	part->name = name;
	part->find = find;
}

static void submit_parts(struct run *run)
{
	run->out_count = 1; /* ours, until all are submitted */
	for (unsigned int i = 0; i < run->part_count; i++) {
		struct part *part = &run->parts[i];

		part->is_out = workers_submit(run->examiner->options.workers, &part->work) == 0;
		run->out_count += part->is_out;
		if (!part->is_out)
			examination_put(&run->facts, "late", part->name, "%s", "");
	}
	if (--run->out_count == 0)
		event_active(run->timer, 0, 0);
}

static void plan_run(struct run *run)
{
	const struct examiner_options *options = &run->examiner->options;
	const ns_cluster *cluster = namespace_cluster(options->ns);

	if (run->names) {
		add_part(run, "names", find_names);
		return;
	}
	run->is_switch = options->settings->mode == SETTINGS_MODE_MASTER;
	examination_machine_init(&run->machine, options->settings, cluster ? cluster->vips : "");
	find_peers(options, &run->peers);
	know_device(options, &run->facts);
	add_part(run, "machine", find_machine);
	add_part(run, "addresses", find_addresses);
	add_part(run, "paths", find_paths);
	add_part(run, "names", find_names);
}

int examiner_find(struct examiner *examiner, bool names, examiner_done_fn on_done, void *arg)
{
	struct run *run;

	if (examiner->is_stopped || examiner->run_count == EXAMINER_RUNS_MAX)
		return -EBUSY;
	run = calloc(1, sizeof(*run));
	if (!run)
		return -ENOMEM;
	run->timer = evtimer_new(examiner->options.base, on_late, run);
	if (!run->timer || evtimer_add(run->timer, &(struct timeval){ .tv_sec = EXAMINER_PATIENCE_MS / 1000 }) < 0) {
		run_free(run);
		return -ENOMEM;
	}
	run->examiner = examiner;
	run->names = names;
	run->on_done = on_done;
	run->arg = arg;
	LIST_INSERT_HEAD(&examiner->runs, run, link);
	examiner->run_count++;
	plan_run(run);
	submit_parts(run);
	return 0;
}

struct examiner *examiner_new(const struct examiner_options *options)
{
	struct examiner *examiner = calloc(1, sizeof(*examiner));

	if (!examiner)
		return NULL;
	examiner->options = *options;
	LIST_INIT(&examiner->runs);
	return examiner;
}

void examiner_stop(struct examiner *examiner)
{
	struct run *run;

	examiner->is_stopped = true;
	LIST_FOREACH(run, &examiner->runs, link)
		run_tell(run);
}

void examiner_free(struct examiner *examiner)
{
	free(examiner);
}

/* SCP */

int examination_to_wire(const struct examination_facts *facts, scp_examined *out)
{
	scp_fact *wire = calloc(facts->count + 1, sizeof(*wire));

	if (!wire)
		return -ENOMEM;
	for (size_t i = 0; i < facts->count; i++)
		wire[i] = (scp_fact){ .area = facts->items[i].area, .subject = facts->items[i].subject,
				      .value = facts->items[i].value };
	*out = (scp_examined){ .facts = { .facts_len = (u_int)facts->count, .facts_val = wire } };
	return 0;
}

void examination_from_wire(const scp_examined *wire, struct examination_facts *out)
{
	for (u_int i = 0; i < wire->facts.facts_len; i++) {
		const scp_fact *fact = &wire->facts.facts_val[i];

		examination_put(out, fact->area, fact->subject, "%s", fact->value);
	}
}
