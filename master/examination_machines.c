/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/examination_machines.c - examinations of one device: its kernel, process, clock, certificates, volumes and disks
 */
#include "config.h"

#include "master/examination_rules.h"

#include <inttypes.h>
#include <linux/capability.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LEAST_KERNEL_MAJOR = 6, /* Debian 12's: what is older was never tried */
	LEAST_KERNEL_MINOR = 1,
	OTHER_DESCRIPTORS = 1024, /* beside connections: files, devices, listeners */
	HOUR_S = 3600,
	DAY_S = 24 * HOUR_S,
	LEFT_PART = 6, /* of a certificate's life: it should have been renewed before the last sixth (common/certificate_age.h) */
	FULL_PERCENT = 5,   /* free */
	CRAMPED_PERCENT = 1,
	NS_PER_MS = 1000000,
};

void examine_kernel(const struct examination_cluster *cluster, const struct examination_device *device,
		    struct examination_findings *out)
{
	const char *release = examination_value(&device->facts, "kernel", "");
	unsigned int major, minor;
	int64_t jit;

	(void)cluster;
	if (release && sscanf(release, "%u.%u", &major, &minor) == 2 &&
	    (major < LEAST_KERNEL_MAJOR || (major == LEAST_KERNEL_MAJOR && minor < LEAST_KERNEL_MINOR)))
		examination_found(out, EXAMINATION_WARNING, device,
				  "its kernel is %s; vnas is tested with %d.%d and later\n"
				  "on that machine: apt install linux-image-amd64, and reboot",
				  release, LEAST_KERNEL_MAJOR, LEAST_KERNEL_MINOR);
	if (examination_number(&device->facts, "sysctl", "net/core/bpf_jit_enable", &jit) && jit == 0)
		examination_found(out, EXAMINATION_WARNING, device,
				  "its kernel interprets BPF programs, which makes each packet dearer\n"
				  "on that machine: sysctl -w net/core/bpf_jit_enable=1");
	if (examination_is(&device->facts, "setting", "handoff") && examination_is(&device->facts, "serves", "") &&
	    !examination_is(&device->facts, "handoffs", ""))
		examination_found(out, EXAMINATION_ERROR, device,
				  "it makes and takes no handoffs, all work for other devices is relayed\n"
				  "its log says why (journalctl -u vnas-master, vnas-slave: \"tch\"); BPF and a bpffs at bpf_dir are needed");
}

/* As systemd/vnas.service.in has them, without those that are only for disks (SYS_RAWIO), the clock, and limits. */
static const struct {
	const char *name;
	unsigned int number;
} needed[] = {
	{ "CAP_CHOWN", CAP_CHOWN },
	{ "CAP_DAC_OVERRIDE", CAP_DAC_OVERRIDE },
	{ "CAP_DAC_READ_SEARCH", CAP_DAC_READ_SEARCH },
	{ "CAP_FOWNER", CAP_FOWNER },
	{ "CAP_FSETID", CAP_FSETID },
	{ "CAP_MKNOD", CAP_MKNOD },
	{ "CAP_SETUID", CAP_SETUID },
	{ "CAP_SETGID", CAP_SETGID },
	{ "CAP_NET_ADMIN", CAP_NET_ADMIN },
	{ "CAP_NET_RAW", CAP_NET_RAW },
	{ "CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE },
	{ "CAP_BPF", CAP_BPF },
	{ "CAP_PERFMON", CAP_PERFMON },
	{ "CAP_SYS_ADMIN", CAP_SYS_ADMIN },
};

void examine_capabilities(const struct examination_cluster *cluster, const struct examination_device *device,
			  struct examination_findings *out)
{
	const char *text = examination_value(&device->facts, "capabilities", "");
	uint64_t effective;
	char missing[512] = "";
	size_t len = 0;

	(void)cluster;
	if (!text || sscanf(text, "%" SCNx64, &effective) != 1)
		return;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!(effective & UINT64_C(1) << needed[i].number))
			len += (size_t)snprintf(missing + len, sizeof(missing) - len, "%s%s", len ? " " : "", needed[i].name);
	if (len)
		examination_found(out, EXAMINATION_ERROR, device,
				  "vnasd lacks %s, so what needs it fails\n"
				  "on that machine: take what changes CapabilityBoundingSet out of the unit (systemctl cat shows it)",
				  missing);
}

void examine_limits(const struct examination_cluster *cluster, const struct examination_device *device,
		    struct examination_findings *out)
{
	int64_t descriptors, connections;

	(void)cluster;
	if (!examination_number(&device->facts, "nofile", "", &descriptors) ||
	    !examination_number(&device->facts, "setting", "connections", &connections) || connections > INT32_MAX ||
	    descriptors >= connections + OTHER_DESCRIPTORS)
		return;
	examination_found(out, EXAMINATION_NOTE, device,
			  "it may have %" PRId64 " descriptors, and [nfs] memory has room for %" PRId64 " connections\n"
			  "set LimitNOFILE=%" PRId64 " in its unit, or less [nfs] memory",
			  descriptors, connections, connections + OTHER_DESCRIPTORS);
}

void examine_clock(const struct examination_cluster *cluster, const struct examination_device *device,
		   struct examination_findings *out)
{
	bool is_kept = examination_is(&device->facts, "time_service", "");
	int64_t offset_ns, bound_ms;

	(void)cluster;
	if (examination_number(&device->facts, "clock", "offset_ns", &offset_ns) &&
	    examination_number(&device->facts, "clock", "bound_ms", &bound_ms) &&
	    (offset_ns / NS_PER_MS > bound_ms || -(offset_ns / NS_PER_MS) > bound_ms))
		examination_found(out, EXAMINATION_ERROR, device,
				  "its clock is %.3f s %s the switch's, so files of one tree have times of two clocks\n"
				  "on that machine: apt install chrony, or chronyc makestep if it runs",
				  fabs((double)offset_ns) / 1e9, offset_ns < 0 ? "behind" : "ahead of");
	if (is_kept || !examination_value(&device->facts, "time_service", ""))
		return;
	if (device->is_switch)
		examination_found(out, EXAMINATION_NOTE, device,
				  "no time service keeps its clock, which all devices follow\n"
				  "on that machine: apt install chrony");
	else if (!examination_is(&device->facts, "setting", "correct"))
		examination_found(out, EXAMINATION_WARNING, device,
				  "nobody keeps its clock: there is no time service, and [time] correct is no\n"
				  "on that machine: apt install chrony, or [time] correct = auto");
}

static void examine_certificate(const struct examination_cluster *cluster, const struct examination_device *device, const char *which,
				struct examination_findings *out)
{
	const char *value = examination_value(&device->facts, "certificate", which);
	bool is_own = strcmp(which, "node") == 0;
	int64_t from_s, until_s, left_s;

	if (!value || sscanf(value, "%" SCNd64 " %" SCNd64, &from_s, &until_s) != 2 || from_s < 0 || until_s < from_s)
		return;
	left_s = until_s - cluster->now_s;
	if (left_s <= 0)
		examination_found(out, EXAMINATION_ERROR, device,
				  "%s certificate has expired, so it is refused\nsee CERTIFICATES in vnasd(8): it has to join anew",
				  is_own ? "its" : "the authority's");
	else if (left_s < (until_s - from_s) / LEFT_PART)
		examination_found(out, EXAMINATION_WARNING, device,
				  "%s certificate expires in %" PRId64 " %s, and was not renewed in time\nnasctl certificate renew %s",
				  is_own ? "its" : "the authority's", left_s >= 2 * DAY_S ? left_s / DAY_S : left_s / HOUR_S,
				  left_s >= 2 * DAY_S ? "days" : "hours", is_own ? device->name : "authority");
}

void examine_certificates(const struct examination_cluster *cluster, const struct examination_device *device,
			  struct examination_findings *out)
{
	examine_certificate(cluster, device, "node", out);
	if (device->is_switch) /* the others have the same, or get it with their next one */
		examine_certificate(cluster, device, "authority", out);
}

void examine_service(const struct examination_cluster *cluster, const struct examination_device *device,
		     struct examination_findings *out)
{
	const char *serves = examination_value(&device->facts, "serves", "");

	(void)cluster;
	if (serves && strcmp(serves, "yes") != 0)
		examination_found(out, EXAMINATION_ERROR, device,
				  "it does not serve clients\n"
				  "its log says why (journalctl -u vnas-master, vnas-slave); often another file server has the port: ss -tulpn");
}

/* Volumes */

static const char *place_of(const struct examination_cluster *cluster, const char *volume)
{
	const char *place = examination_value(&cluster->facts, "place", volume);

	return place && *place ? place : "without a place";
}

/* @left, @all: bytes or files; @all 0: there is no bound */
static void examine_room(const struct examination_device *device, const char *place, uint64_t left, uint64_t all, const char *what,
			 struct examination_findings *out)
{
	uint64_t percent = all / 100 ? left / (all / 100) : 100;

	if (all == 0 || percent >= FULL_PERCENT)
		return;
	examination_found(out, percent >= CRAMPED_PERCENT ? EXAMINATION_WARNING : EXAMINATION_ERROR, device,
			  "%s has %" PRIu64 " %% of its %s free\nremove files, or have more room: nasctl volume add, nasctl disk list",
			  place, percent, what);
}

static void examine_volume(const struct examination_device *device, const char *place, const char *state,
			   struct examination_findings *out)
{
	uint64_t free_bytes, bytes, free_files, files;

	if (strcmp(state, "away") == 0)
		examination_found(out, EXAMINATION_ERROR, device,
				  "%s is away: its disk, or directory, is not there\nnasctl disk list; nasctl volume remove gives it up", place);
	else if (strcmp(state, "silent") == 0)
		examination_found(out, EXAMINATION_ERROR, device,
				  "the file system of %s does not answer\non that machine: dmesg tells of errors of its disk", place);
	else if (sscanf(state, "room %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &free_bytes, &bytes, &free_files, &files) == 4) {
		examine_room(device, place, free_bytes, bytes, "bytes", out);
		examine_room(device, place, free_files, files, "inodes", out);
	}
}

void examine_volumes(const struct examination_cluster *cluster, const struct examination_device *device,
		     struct examination_findings *out)
{
	const struct examination_fact *volume;

	for (size_t at = 0; (volume = examination_next(&device->facts, "volume", &at));)
		examine_volume(device, place_of(cluster, volume->subject), volume->value, out);
}

void examine_disks(const struct examination_cluster *cluster, const struct examination_device *device,
		   struct examination_findings *out)
{
	const struct examination_fact *disk;

	(void)cluster;
	for (size_t at = 0; (disk = examination_next(&device->facts, "disk", &at));)
		examination_found(out, EXAMINATION_ERROR, device,
				  "%s (%s) fails by its own word (SMART)\nback up what is on it and replace it; nasctl disk list shows it",
				  disk->subject, disk->value);
}
