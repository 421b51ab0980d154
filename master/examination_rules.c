/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/examination_rules.h"

#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Findings */

void examination_findings_fini(struct examination_findings *findings)
{
	for (size_t i = 0; i < findings->count; i++) {
		free(findings->items[i].what);
		free(findings->items[i].remedy);
	}
	free(findings->items);
	*findings = (struct examination_findings){ 0 };
}

static struct examination_finding *next_finding(struct examination_findings *findings)
{
	size_t room = findings->room ? findings->room * 2 : 16;
	struct examination_finding *items;

	if (findings->count < findings->room)
		return &findings->items[findings->count];
	if (findings->count >= EXAMINATION_FINDINGS_MAX)
		return NULL;
	items = reallocarray(findings->items, room, sizeof(*items));
	if (!items)
		return NULL;
	findings->items = items;
	findings->room = room;
	return &items[findings->count];
}

void examination_found(struct examination_findings *out, enum examination_severity severity,
		       const struct examination_device *device, const char *format, ...)
{
	struct examination_finding *finding = next_finding(out);
	char *text, *end;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	end = len < 0 ? NULL : strchr(text, '\n');
	if (!finding || len < 0 || BUG_IF(!end)) {
		if (len >= 0)
			free(text);
		return;
	}
	*finding = (struct examination_finding){ .severity = severity, .examination = out->examination, .device = device };
	*end = '\0';
	finding->remedy = strdup(end + 1);
	finding->what = text;
	out->count++;
}

const char *examination_severity_name(enum examination_severity severity)
{
	static const char *const names[] = {
		[EXAMINATION_NOTE] = "note",
		[EXAMINATION_WARNING] = "warning",
		[EXAMINATION_ERROR] = "error",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == EXAMINATION_SEVERITIES, "each severity has a name");
	return names[severity];
}

bool examination_has_report(const struct examination_device *device)
{
	return examination_is(&device->facts, "report", "");
}

/* Devices together */

static bool is_up(const struct examination_device *device)
{
	const char *state = examination_value(&device->facts, "state", "");

	return state && strcmp(state, "up") == 0;
}

static const struct examination_device *find_switch(const struct examination_cluster *cluster)
{
	for (size_t i = 0; i < cluster->count; i++)
		if (cluster->devices[i].is_switch)
			return &cluster->devices[i];
	return NULL;
}

static void examine_state(const struct examination_device *device, struct examination_findings *out)
{
	const char *state = examination_value(&device->facts, "state", "");
	const char *reason = examination_value(&device->facts, "reason", "");

	if (!state)
		return;
	if (strcmp(state, "down") == 0)
		examination_found(out, EXAMINATION_ERROR, device,
				  "it is down%s%s; clients wait for its volumes\n"
				  "on that machine: systemctl status vnas-slave; if it is gone for good: nasctl node remove %u",
				  reason && *reason ? ": " : "", reason ? reason : "", device->id);
	else if (strcmp(state, "suspect") == 0 || strcmp(state, "held down") == 0)
		examination_found(out, EXAMINATION_WARNING, device, "it is %s%s%s; it gets no new work\nnasctl node show %u", state,
				  reason && *reason ? ": " : "", reason ? reason : "", device->id);
	else if (strcmp(state, "pending") == 0)
		examination_found(out, EXAMINATION_NOTE, device, "it waits to be approved\nnasctl node approve %u", device->id);
}

static void examine_report(const struct examination_device *device, struct examination_findings *out)
{
	const char *report = examination_value(&device->facts, "report", "");
	const struct examination_fact *late;

	for (size_t at = 0; (late = examination_next(&device->facts, "late", &at));)
		examination_found(out, EXAMINATION_WARNING, device, "its %s could not be examined in time\n%s", late->subject,
				  strcmp(late->subject, "names") == 0 ?
					  "on that machine: time getent passwd, and look at what /etc/nsswitch.conf names" :
					  "try again; if it stays so: nasctl log");
	if (!report || strcmp(report, "yes") == 0)
		return;
	if (strcmp(report, "old") == 0)
		examination_found(out, EXAMINATION_WARNING, device,
				  "its software is too old to be examined\non that machine: apt install vnas-disk");
	else
		examination_found(out, EXAMINATION_WARNING, device, "it was not examined: %s\nnasctl node show %u", report, device->id);
}

static void examine_devices(const struct examination_cluster *cluster, struct examination_findings *out)
{
	for (size_t i = 0; i < cluster->count; i++) {
		examine_state(&cluster->devices[i], out);
		examine_report(&cluster->devices[i], out);
	}
}

/* Both are up for the master, but one does not see the other. Of a pair that is said once. */
static void examine_members(const struct examination_cluster *cluster, struct examination_findings *out)
{
	char number[16];

	for (size_t i = 0; i < cluster->count; i++)
		for (size_t j = 0; j < i; j++) {
			const struct examination_device *later = &cluster->devices[i], *earlier = &cluster->devices[j];
			const char *state;

			snprintf(number, sizeof(number), "%u", earlier->id);
			state = examination_value(&later->facts, "member", number);
			if (!state || !is_up(later) || !is_up(earlier) || strcmp(state, "up") == 0)
				continue;
			examination_found(out, EXAMINATION_ERROR, later,
					  "it and %s don't hear each other (%s), so calls for the other's volumes wait\n"
					  "let TCP port 2050 ([network] scp_port) pass between the two",
					  earlier->name, state);
		}
}

static void examine_names(const struct examination_cluster *cluster, struct examination_findings *out)
{
	for (size_t i = 0; i < cluster->count; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(cluster->devices[i].name, cluster->devices[j].name) == 0) {
				examination_found(out, EXAMINATION_ERROR, &cluster->devices[i],
						  "node %u has the same name, so commands by name mean one of the two\n"
						  "give one another name ([vnas] name) and restart it",
						  cluster->devices[j].id);
				break;
			}
}

static void examine_versions(const struct examination_cluster *cluster, struct examination_findings *out)
{
	const struct examination_device *master = find_switch(cluster);
	const char *wanted = master ? examination_value(&master->facts, "software", "") : NULL;

	for (size_t i = 0; wanted && i < cluster->count; i++) {
		const char *software = examination_value(&cluster->devices[i].facts, "software", "");

		if (software && *software && strcmp(software, wanted) != 0)
			examination_found(out, EXAMINATION_WARNING, &cluster->devices[i],
					  "it runs %s, the switch %s\non that machine: apt install vnas-disk", software, wanted);
	}
}

/* Is a setting what it is on the switch? Unknown is not another. */
static bool is_as_on_switch(const struct examination_device *master, const struct examination_device *device, const char *setting)
{
	const char *wanted = examination_value(&master->facts, "setting", setting);
	const char *value = examination_value(&device->facts, "setting", setting);

	return !wanted || !value || strcmp(wanted, value) == 0;
}

static void examine_settings(const struct examination_cluster *cluster, struct examination_findings *out)
{
	const struct examination_device *master = find_switch(cluster);
	const char *vips = examination_value(&cluster->facts, "vips", "");

	for (size_t i = 0; master && i < cluster->count; i++) {
		const struct examination_device *device = &cluster->devices[i];
		const char *vip = examination_value(&device->facts, "setting", "vip");

		if (!is_as_on_switch(master, device, "nfs_port"))
			examination_found(out, EXAMINATION_ERROR, device,
					  "it serves another port than the switch, so no session can be handed to it\n"
					  "give [nfs] port the same value on all devices, and restart it");
		if (!is_as_on_switch(master, device, "handoff"))
			examination_found(out, EXAMINATION_WARNING, device,
					  "[network] handoff is not as on the switch, so sessions don't move to it or from it\n"
					  "give [network] handoff the same value on all devices, and restart it");
		if (vips && vip && *vip && strcmp(vip, vips) != 0)
			examination_found(out, EXAMINATION_WARNING, device,
					  "its configuration says vip = %s, the cluster's is %s, which is what counts\n"
					  "%s",
					  vip, vips, device->is_switch ? "systemctl restart vnas-master" : "take vip out of its [network]");
	}
}

const struct examination examinations[] = {
	{ "devices", .of_cluster = examine_devices },
	{ "members", .of_cluster = examine_members },
	{ "names", .of_cluster = examine_names },
	{ "versions", .of_cluster = examine_versions },
	{ "settings", .of_cluster = examine_settings },
	{ "kernel", .of_device = examine_kernel },
	{ "capabilities", .of_device = examine_capabilities },
	{ "limits", .of_device = examine_limits },
	{ "time", .of_device = examine_clock },
	{ "certificates", .of_device = examine_certificates },
	{ "service", .of_device = examine_service },
	{ "ports", .of_device = examine_ports },
	{ "local ports", .of_device = examine_local_ports },
	{ "links", .of_device = examine_links },
	{ "mtu", .of_device = examine_mtu },
	{ "paths", .of_device = examine_paths },
	{ "vips", .of_device = examine_vips },
	{ "duplicates", .of_device = examine_duplicates },
	{ "arp", .of_device = examine_arp },
	{ "reverse path", .of_device = examine_reverse_path },
	{ "forwarding", .of_device = examine_forwarding },
	{ "tracking", .of_device = examine_tracking },
	{ "volumes", .of_device = examine_volumes },
	{ "disks", .of_device = examine_disks },
	{ "ids", .of_cluster = examine_ids },
	{ .name = NULL },
};

size_t examination_count(void)
{
	return sizeof(examinations) / sizeof(examinations[0]) - 1;
}

/* Judging */

static uint32_t device_of(const struct examination_finding *finding)
{
	return finding->device ? finding->device->id : 0;
}

/* Of equals, what was found first stays first. */
static bool comes_before(const struct examination_finding *a, const struct examination_finding *b)
{
	return a->severity != b->severity ? a->severity > b->severity : device_of(a) < device_of(b);
}

/* By insertion: there are few. */
static void sort(struct examination_findings *findings)
{
	for (size_t i = 1; i < findings->count; i++) {
		struct examination_finding finding = findings->items[i];
		size_t at = i;

		for (; at > 0 && comes_before(&finding, &findings->items[at - 1]); at--)
			findings->items[at] = findings->items[at - 1];
		findings->items[at] = finding;
	}
}

void examination_judge(const struct examination_cluster *cluster, struct examination_findings *out)
{
	for (const struct examination *examination = examinations; examination->name; examination++) {
		out->examination = examination->name;
		if (examination->of_cluster)
			examination->of_cluster(cluster, out);
		for (size_t i = 0; examination->of_device && i < cluster->count; i++)
			if (examination_has_report(&cluster->devices[i]))
				examination->of_device(cluster, &cluster->devices[i], out);
	}
	sort(out);
}
