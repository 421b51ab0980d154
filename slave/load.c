/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/load.h"

#include "common/clock.h"
#include "common/workers.h"

#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

enum {
	LINE_MAX_BYTES = 512,
	/* A sensor that is not connected says such things. */
	COLDEST_MILLICELSIUS = -60000,
	HOTTEST_MILLICELSIUS = 200000,
};

/* A sum that only grows, of what was busy, and of the time in which it was. */
struct usage {
	bool is_known;
	uint64_t busy, all;
};

/* What one measurement has found. */
struct finding {
	struct usage last, now;
	bool knows_temperature, knows_room;
	int temperature_millicelsius;
	struct statvfs room;
};

/* Measurements of one thing, one after the other. */
struct probe {
	struct work work;
	struct load_meter *meter;
	void (*measure)(struct probe *probe); /* on a worker: touches `path` and `found` alone */
	char path[PATH_MAX];		      /* of a volume */
	struct finding found;		      /* the worker's, while is_running */
	bool is_running;
	uint64_t begun_ms;		      /* the last one */
	uint64_t taken_ms; /* of `known`; 0: none yet */
	struct finding known;
};

struct volume_probe {
	struct probe probe;
	LIST_ENTRY(volume_probe) link;
	uint32_t volume;
	bool is_wanted;
};

struct load_meter {
	struct workers *workers;
	const char *root;
	struct probe machine;
	LIST_HEAD(, volume_probe) volumes;
};

static FILE *open_below(const struct load_meter *meter, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s%s", meter->root, name);
	return fopen(path, "re");
}

/* "cpu  user nice system idle iowait irq softirq steal ...", ticks: proc(5). Who waits for a disk is not busy. */
static struct usage read_cpu(const struct load_meter *meter)
{
	uint64_t user, nice, system, idle, waiting, irq, softirq, steal;
	struct usage usage = { 0 };
	FILE *stat = open_below(meter, "/proc/stat");

	if (!stat)
		return usage;
	if (fscanf(stat, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
		   &user, &nice, &system, &idle, &waiting, &irq, &softirq, &steal) == 8) {
		usage.is_known = true;
		usage.busy = user + nice + system + irq + softirq + steal;
		usage.all = usage.busy + idle + waiting;
	}
	fclose(stat);
	return usage;
}

/* The milliseconds in which a block device was busy: the tenth figure behind its name (Documentation/admin-guide/iostats.rst). */
static struct usage read_disk(const struct load_meter *meter, dev_t device)
{
	struct usage usage = { 0 };
	FILE *stats = open_below(meter, "/proc/diskstats");
	char line[LINE_MAX_BYTES];
	unsigned int major, minor;
	uint64_t busy_ms;

	while (stats && !usage.is_known && fgets(line, sizeof(line), stats))
		if (sscanf(line, "%u %u %*s %*u %*u %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &major, &minor, &busy_ms) == 3 &&
		    makedev(major, minor) == device)
			usage = (struct usage){ .is_known = true, .busy = busy_ms, .all = clock_monotonic_ms() };
	if (stats)
		fclose(stats);
	return usage;
}

static bool read_sensor(const char *path, int *millicelsius)
{
	FILE *sensor = fopen(path, "re");
	bool is_read = sensor && fscanf(sensor, "%d", millicelsius) == 1;

	if (sensor)
		fclose(sensor);
	return is_read && *millicelsius >= COLDEST_MILLICELSIUS && *millicelsius <= HOTTEST_MILLICELSIUS;
}

static bool read_hottest(const struct load_meter *meter, const char *sensors, int *hottest)
{
	char pattern[PATH_MAX];
	bool is_known = false;
	int millicelsius;
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s%s", meter->root, sensors);
	if (glob(pattern, GLOB_NOSORT, NULL, &found))
		return false;
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (read_sensor(found.gl_pathv[i], &millicelsius) && (!is_known || millicelsius > *hottest)) {
			*hottest = millicelsius;
			is_known = true;
		}
	globfree(&found);
	return is_known;
}

/* A drive's sensor is in hwmon only, and asking it may wait for the drive. Machines without hwmon may have thermal zones. */
static void measure_machine(struct probe *probe)
{
	struct finding *found = &probe->found;

	found->now = read_cpu(probe->meter);
	found->knows_temperature =
		read_hottest(probe->meter, "/sys/class/hwmon/hwmon*/temp*_input", &found->temperature_millicelsius) ||
		read_hottest(probe->meter, "/sys/class/thermal/thermal_zone*/temp", &found->temperature_millicelsius);
}

/* Of a file system without a block device of its own, how busy it is stays unknown. */
static void measure_volume(struct probe *probe)
{
	struct stat root;

	probe->found.knows_room = statvfs(probe->path, &probe->found.room) == 0;
	if (stat(probe->path, &root) == 0)
		probe->found.now = read_disk(probe->meter, root.st_dev);
}

static void probe_run(struct work *work)
{
	struct probe *probe = (struct probe *)work;

	probe->found = (struct finding){ .last = probe->found.now };
	probe->measure(probe);
}

static void probe_done(struct work *work)
{
	struct probe *probe = (struct probe *)work;

	probe->is_running = false;
	probe->known = probe->found;
	probe->taken_ms = clock_monotonic_ms();
}

static void probe_init(struct probe *probe, struct load_meter *meter, void (*measure)(struct probe *))
{
	probe->work = (struct work){ .lane = probe, .run = probe_run, .done = probe_done };
	probe->meter = meter;
	probe->measure = measure;
}

static void probe_start(struct probe *probe)
{
	if (probe->is_running)
		return;
	probe->begun_ms = clock_monotonic_ms();
	probe->is_running = workers_submit(probe->meter->workers, &probe->work) == 0;
}

static bool is_fresh(const struct probe *probe, uint64_t now_ms)
{
	return probe->taken_ms && now_ms - probe->taken_ms < LOAD_STALE_MS;
}

/* Return: whether it is known how busy it was between the last two measurements */
static bool find_permille(const struct finding *known, unsigned int *permille)
{
	uint64_t busy = known->now.busy - known->last.busy, all = known->now.all - known->last.all;

	if (!known->last.is_known || !known->now.is_known || known->now.all <= known->last.all ||
	    known->now.busy < known->last.busy)
		return false;
	*permille = busy >= all ? 1000 : (unsigned int)(busy * 1000 / all);
	return true;
}

struct load_meter *load_meter_new(struct workers *workers, const char *root)
{
	struct load_meter *meter = calloc(1, sizeof(*meter));

	if (!meter)
		return NULL;
	meter->workers = workers;
	meter->root = root;
	LIST_INIT(&meter->volumes);
	probe_init(&meter->machine, meter, measure_machine);
	return meter;
}

void load_meter_free(struct load_meter *meter)
{
	struct volume_probe *volume;

	if (!meter)
		return;
	while ((volume = LIST_FIRST(&meter->volumes))) {
		LIST_REMOVE(volume, link);
		free(volume);
	}
	free(meter);
}

static struct volume_probe *find_volume(struct load_meter *meter, uint32_t id, const char *path)
{
	struct volume_probe *volume;

	LIST_FOREACH(volume, &meter->volumes, link)
		if (volume->volume == id && strcmp(volume->probe.path, path) == 0)
			return volume;
	return NULL;
}

void load_meter_want(struct load_meter *meter, uint32_t id, const char *path)
{
	struct volume_probe *volume = find_volume(meter, id, path);

	if (!volume) {
		volume = calloc(1, sizeof(*volume));
		if (!volume)
			return; /* unknown, until there is memory */
		probe_init(&volume->probe, meter, measure_volume);
		volume->volume = id;
		snprintf(volume->probe.path, sizeof(volume->probe.path), "%s", path);
		LIST_INSERT_HEAD(&meter->volumes, volume, link);
	}
	volume->is_wanted = true;
}

void load_meter_measure(struct load_meter *meter)
{
	struct volume_probe *volume, *next;

	probe_start(&meter->machine);
	for (volume = LIST_FIRST(&meter->volumes); volume; volume = next) {
		next = LIST_NEXT(volume, link);
		if (volume->is_wanted) {
			volume->is_wanted = false;
			probe_start(&volume->probe);
		} else if (!volume->probe.is_running) {
			LIST_REMOVE(volume, link);
			free(volume);
		}
	}
}

static bool is_silent(const struct probe *probe, uint64_t now_ms)
{
	return probe->is_running && now_ms > probe->begun_ms && now_ms - probe->begun_ms >= LOAD_STALE_MS;
}

static void read_volume(const struct volume_probe *volume, uint64_t now_ms, struct load_volume *out)
{
	const struct finding *known = &volume->probe.known;

	out->volume = volume->volume;
	out->is_silent = is_silent(&volume->probe, now_ms);
	if (out->is_silent)
		return;
	out->knows_busy = find_permille(known, &out->busy_permille);
	out->knows_room = known->knows_room;
	out->free_bytes = (uint64_t)known->room.f_bavail * known->room.f_frsize;
	out->size_bytes = (uint64_t)known->room.f_blocks * known->room.f_frsize;
	out->free_files = known->room.f_favail;
	out->files = known->room.f_files;
}

void load_meter_read(const struct load_meter *meter, uint64_t now_ms, struct load *out)
{
	const struct volume_probe *volume;

	memset(out, 0, sizeof(*out));
	if (is_fresh(&meter->machine, now_ms)) {
		out->knows_cpu = find_permille(&meter->machine.known, &out->cpu_permille);
		out->knows_temperature = meter->machine.known.knows_temperature;
		out->temperature_millicelsius = meter->machine.known.temperature_millicelsius;
	}
	LIST_FOREACH(volume, &meter->volumes, link)
		if ((is_fresh(&volume->probe, now_ms) || is_silent(&volume->probe, now_ms)) && out->volume_count < LOAD_VOLUMES_MAX)
			read_volume(volume, now_ms, &out->volumes[out->volume_count++]);
}

/* As SCP says it: what is unknown is not there */

static u_int *value_if(bool is_known, const unsigned int *value)
{
	return is_known ? (u_int *)(uintptr_t)value : NULL;
}

void load_to_wire(const struct load *load, scp_load *out, scp_load_volume *volumes)
{
	*out = (scp_load){
		.cpu_permille = value_if(load->knows_cpu, &load->cpu_permille),
		.temperature_millicelsius = load->knows_temperature ? (int *)(uintptr_t)&load->temperature_millicelsius : NULL,
		.clock = load->knows_clock ? (scp_clock *)(uintptr_t)&load->clock : NULL,
		.volumes = { .volumes_len = (u_int)load->volume_count, .volumes_val = volumes },
	};
	for (size_t i = 0; i < load->volume_count; i++)
		volumes[i] = (scp_load_volume){
			.volume = load->volumes[i].volume,
			.busy_permille = value_if(load->volumes[i].knows_busy, &load->volumes[i].busy_permille),
			.knows_room = load->volumes[i].knows_room,
			.free_bytes = load->volumes[i].free_bytes,
			.size_bytes = load->volumes[i].size_bytes,
		};
}

void load_from_wire(const scp_load *wire, struct load *out)
{
	memset(out, 0, sizeof(*out));
	out->knows_cpu = wire->cpu_permille;
	out->cpu_permille = wire->cpu_permille ? *wire->cpu_permille : 0;
	out->knows_temperature = wire->temperature_millicelsius;
	out->temperature_millicelsius = wire->temperature_millicelsius ? *wire->temperature_millicelsius : 0;
	out->knows_clock = wire->clock;
	if (wire->clock)
		out->clock = *wire->clock;
	for (; out->volume_count < wire->volumes.volumes_len && out->volume_count < LOAD_VOLUMES_MAX; out->volume_count++) {
		const scp_load_volume *volume = &wire->volumes.volumes_val[out->volume_count];

		out->volumes[out->volume_count] = (struct load_volume){
			.volume = volume->volume,
			.knows_busy = volume->busy_permille,
			.busy_permille = volume->busy_permille ? *volume->busy_permille : 0,
			.knows_room = volume->knows_room,
			.free_bytes = volume->free_bytes,
			.size_bytes = volume->size_bytes,
		};
	}
}
