/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/disks.h"

#include "common/log.h"
#include "common/settings.h"
#include "common/stored_file.h"
#include "common/workers.h"
#include "slave/child.h"
#include "slave/disk_format.h"
#include "slave/disk_scan.h"
#include "slave/volumes.h"

#include <errno.h>
#include <event2/event.h>
#include <libudev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

_Static_assert((int)SCP_DISKS_MAX == (int)DISK_PROBE_MAX, "all disks are told");
_Static_assert((int)SETTINGS_DEVICE_MAX == (int)DISK_DEVICE_MAX, "patterns of devices");

enum {
	SETTLE_MS = 200,  /* after an event of the kernel: others follow, and mkfs(8) makes some of its own */
	RETRY_MS = 2000,  /* while a volume's disk is here and can't be used */
	CHECK_MS = 5000,  /* do the file systems work? */
	WHY_MAX = 512,
};

/* One disk, as of the last scan. */
struct row {
	struct disk_facts facts;
	enum disk_health health;
	bool is_health_known;	/* asked, whatever the answer */
	char failure[WHY_MAX];	/* of the last format; empty: none, or it went well */
	bool is_let_go;		/* of a volume that was removed: it may be in use for a while */
};

struct scan_work {
	struct work work;
	struct disks *disks;
	struct disk_scan scan;
};

struct check_work {
	struct work work;
	struct disks *disks;
	struct disk_scan scan; /* nothing is scanned: which volumes there are */
	bool is_good;
};

struct health_work {
	struct work work;
	struct disks *disks;
	size_t count;
	char devices[DISK_PROBE_MAX][DISK_DEVICE_MAX];
	enum disk_health health[DISK_PROBE_MAX];
};

struct format {
	LIST_ENTRY(format) link;
	struct work work;
	struct disks *disks;
	struct child child;
	struct disk_facts facts; /* as it was when it was begun */
	bool is_ours;		 /* an unfinished format of ours is on it */
	bool is_waiting;	 /* for the end of a scan: who looks at a disk has it exclusively, too */
	char type[SETTINGS_TYPE_MAX];
	uint8_t uuid[UUID_BYTES];
	char directory[PATH_MAX];
	disks_begun on_begun;
	void *arg;
	int result;
	char why[WHY_MAX];
};

struct disks {
	struct disks_options options;
	char record_file[PATH_MAX], mounts[PATH_MAX];
	struct disk_records records;
	struct disk_volume volumes[DISK_RECORDS_MAX]; /* of the record with the same number */
	size_t forgotten_count;
	uint8_t forgotten[DISK_RECORDS_MAX][UUID_BYTES]; /* for the next scan to unmount */
	struct row rows[DISK_PROBE_MAX];
	size_t count;
	LIST_HEAD(, format) formats;
	bool is_scanning, wants_scan, is_checking, is_asking_health, is_stopping;
	struct udev *udev;
	struct udev_monitor *monitor;
	struct event *on_event, *scan_timer, *check_timer;
	scp_disk *description;
};

static struct disk_filter filter_of(const struct disks *disks)
{
	const struct settings *settings = disks->options.settings;

	return (struct disk_filter){ .count = settings->device_count, .patterns = settings->devices };
}

/* Records */

static int save_records(const struct disks *disks)
{
	int rc = disk_records_save(disks->record_file, &disks->records);

	if (rc < 0)
		log_err("disks", "%.400s can't be written: %s", disks->record_file, strerror(-rc));
	return rc;
}

static struct disk_volume *volume_of(struct disks *disks, const struct disk_record *record)
{
	return &disks->volumes[record - disks->records.list];
}

static void remove_record(struct disks *disks, const uint8_t *uuid)
{
	struct disk_record *record = disk_records_find(&disks->records, uuid);
	struct disk_volume *volume;

	if (!record)
		return;
	volume = volume_of(disks, record);
	memmove(volume, volume + 1, (size_t)(&disks->volumes[disks->records.count - 1] - volume) * sizeof(*volume));
	disk_records_remove(&disks->records, uuid);
}

static struct disk_record *add_record(struct disks *disks, const uint8_t *uuid, const char *type)
{
	struct disk_record *record = disk_records_add(&disks->records, uuid, type);

	if (record)
		*volume_of(disks, record) = (struct disk_volume){ 0 };
	return record;
}

static void volume_path(const struct disks *disks, const uint8_t *uuid, char path[static PATH_MAX])
{
	disk_scan_mount_point(disks->mounts, uuid, path);
	strcat(path, "/" DISK_VOLUME_DIRECTORY);
}

/* Rows */

static struct row *find_row(struct disks *disks, const char *device)
{
	for (size_t i = 0; i < disks->count; i++)
		if (strcmp(disks->rows[i].facts.device, device) == 0)
			return &disks->rows[i];
	return NULL;
}

static struct format *find_format(struct disks *disks, const char *device)
{
	struct format *format;

	LIST_FOREACH(format, &disks->formats, link)
		if (strcmp(format->facts.device, device) == 0)
			return format;
	return NULL;
}

static bool is_same_disk(const struct disk_facts *a, const struct disk_facts *b)
{
	return strcmp(a->device, b->device) == 0 && a->number == b->number && a->bytes == b->bytes &&
	       strcmp(a->identity.serial, b->identity.serial) == 0;
}

/* The volume that a disk is of: of one that is mounted by its number, for it may not tell its UUID any more. */
static struct disk_record *record_of(struct disks *disks, const struct row *row)
{
	for (size_t i = 0; i < disks->records.count; i++)
		if (disks->volumes[i].has_disk && disks->volumes[i].number == row->facts.number)
			return &disks->records.list[i];
	return row->facts.is_in_use ? NULL : disk_records_find(&disks->records, row->facts.uuid);
}

static enum scp_disk_state state_of(struct disks *disks, const struct row *row)
{
	struct disk_record *record = record_of(disks, row);

	if (find_format(disks, row->facts.device))
		return SCP_DISK_FORMATTING;
	if (record && !record->is_ready)
		return SCP_DISK_UNFINISHED;
	if (record)
		return volume_of(disks, record)->presence == DISK_PRESENT ? SCP_DISK_VOLUME : SCP_DISK_AWAY;
	if (row->facts.is_in_use)
		return SCP_DISK_IN_USE;
	return row->facts.holds[0] ? SCP_DISK_HOLDS : SCP_DISK_EMPTY;
}

/* Looking */

static void begin_scan(struct disks *disks);
static void format_empty_ones(struct disks *disks);
static void begin_waiting_formats(struct disks *disks);

static void scan_later(struct disks *disks, unsigned int ms)
{
	struct timeval delay = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	if (!disks->is_stopping && !evtimer_pending(disks->scan_timer, NULL))
		evtimer_add(disks->scan_timer, &delay);
}

static void take_rows(struct disks *disks, const struct disk_scan *scan)
{
	struct row *fresh = calloc(DISK_PROBE_MAX, sizeof(*fresh));

	if (!fresh)
		return;
	for (size_t i = 0; i < scan->count; i++) {
		const struct row *old = find_row(disks, scan->disks[i].device);

		if (old && is_same_disk(&old->facts, &scan->disks[i]))
			fresh[i] = *old;
		else
			log_info("disks", "device=%s serial=%s bytes=%ju is here: %s", scan->disks[i].device,
				 scan->disks[i].identity.serial[0] ? scan->disks[i].identity.serial : "none",
				 (uintmax_t)scan->disks[i].bytes,
				 scan->disks[i].holds[0] ? scan->disks[i].holds : "empty");
		fresh[i].facts = scan->disks[i];
	}
	memcpy(disks->rows, fresh, sizeof(disks->rows));
	disks->count = scan->count;
	free(fresh);
}

static void arrived(struct disks *disks, const struct disk_record *record, struct disk_volume *volume)
{
	char path[PATH_MAX], uuid[UUID_TEXT_MAX], why[WHY_MAX];

	volume_path(disks, record->uuid, path);
	if (volumes_arrived(disks->options.volumes, record->uuid, path, why, sizeof(why)) < 0) {
		log_err("disks", "disk=%s is mounted but can't be a volume: %s", uuid_text(record->uuid, uuid), why);
		volume->presence = DISK_AWAY;
		return;
	}
	volume->is_left = false;
	log_info("disks", "disk=%s is mounted at %s", uuid_text(record->uuid, uuid), path);
	disks->options.on_volumes(disks->options.arg);
}

static void left(struct disks *disks, const struct disk_record *record, struct disk_volume *volume)
{
	char uuid[UUID_TEXT_MAX];

	volume->is_left = true;
	log_err("disks", "disk=%s %s: %s; its clients get errors until it is back", uuid_text(record->uuid, uuid),
		volume->has_disk ? "is not used" : "is not here",
		volume->error == -ENOTUNIQ ? "another disk has its UUID, so one is a copy of the other: take that one away" :
					     strerror(-volume->error));
	volumes_leave(disks->options.volumes, record->uuid);
}

static void take_volumes(struct disks *disks, const struct disk_scan *scan)
{
	bool must_retry = false;

	for (size_t i = 0; i < scan->records.count; i++) {
		struct disk_record *record = disk_records_find(&disks->records, scan->records.list[i].uuid);
		struct disk_volume *volume = record ? volume_of(disks, record) : NULL;
		bool was_present = volume && volume->presence == DISK_PRESENT;

		if (!record || !record->is_ready || !scan->records.list[i].is_ready)
			continue;
		*volume = scan->volumes[i];
		if (volume->presence == DISK_PRESENT && !was_present)
			arrived(disks, record, volume);
		if (volume->presence != DISK_PRESENT && !volume->is_left)
			left(disks, record, volume);
		must_retry |= volume->presence == DISK_FAILED || (volume->presence == DISK_AWAY &&
								  (volume->has_disk || volume->error == -EBUSY));
	}
	if (must_retry)
		scan_later(disks, RETRY_MS);
}

/*
 * A disk that was ours is in use for as long as somebody has a file of it open, and one of an unfinished format while an mkfs that was
 * killed still waits for it. Nobody tells when that ends.
 */
static void look_again_at_busy(struct disks *disks)
{
	for (size_t i = 0; i < disks->count; i++) {
		struct row *row = &disks->rows[i];
		const struct disk_record *record = disk_records_find(&disks->records, row->facts.uuid);

		row->is_let_go &= row->facts.is_in_use;
		if (row->facts.is_in_use && (row->is_let_go || !row->facts.holds[0] || (record && !record->is_ready)))
			scan_later(disks, RETRY_MS);
	}
}

/* Is there a disk that can't be told not to be it? Its mkfs may not have ended yet. */
static bool may_be_in_the_making(const struct disk_scan *scan)
{
	for (size_t i = 0; i < scan->count; i++)
		if (scan->disks[i].is_in_use && !scan->disks[i].holds[0])
			return true;
	return false;
}

/* Of a format that never got as far as the file system's UUID nothing is left to remember. */
static void forget_unfinished(struct disks *disks, const struct disk_scan *scan)
{
	bool has_changed = false;

	for (size_t i = 0; i < scan->records.count && !may_be_in_the_making(scan); i++) {
		const struct disk_record *record = &scan->records.list[i];
		bool is_there = record->is_ready || scan->volumes[i].is_busy;

		for (size_t j = 0; j < scan->count && !is_there; j++)
			is_there = memcmp(scan->disks[j].uuid, record->uuid, UUID_BYTES) == 0;
		if (is_there)
			continue;
		remove_record(disks, record->uuid);
		has_changed = true;
	}
	if (has_changed)
		save_records(disks);
}

static void ask_health(struct disks *disks);

static void scan_run(struct work *work)
{
	disk_scan_run(&((struct scan_work *)work)->scan);
}

static void scan_done(struct work *work)
{
	struct scan_work *scan = (struct scan_work *)work;
	struct disks *disks = scan->disks;

	disks->is_scanning = false;
	if (!disks->is_stopping) {
		take_rows(disks, &scan->scan);
		take_volumes(disks, &scan->scan);
		forget_unfinished(disks, &scan->scan);
		look_again_at_busy(disks);
		ask_health(disks);
		if (!disks->wants_scan) /* else a disk that was empty then may be a volume by now */
			format_empty_ones(disks);
		disks->options.on_change(disks->options.arg);
	}
	free(scan);
	begin_waiting_formats(disks);
	if (disks->wants_scan)
		begin_scan(disks);
}

static bool is_being_formatted(struct disks *disks, const uint8_t *uuid)
{
	struct format *format;

	LIST_FOREACH(format, &disks->formats, link)
		if (memcmp(format->uuid, uuid, UUID_BYTES) == 0 || memcmp(format->facts.uuid, uuid, UUID_BYTES) == 0)
			return true;
	return false;
}

static void fill_scan(struct disks *disks, struct disk_scan *scan)
{
	struct format *format;

	LIST_FOREACH(format, &disks->formats, link)
		if (scan->busy_count < DISK_PROBE_MAX)
			scan->busy[scan->busy_count++] = format->facts.number;
	scan->filter = filter_of(disks);
	strcpy(scan->mounts, disks->mounts);
	scan->forgotten_count = disks->forgotten_count;
	memcpy(scan->forgotten, disks->forgotten, sizeof(scan->forgotten));
	scan->records = disks->records;
	memcpy(scan->volumes, disks->volumes, sizeof(scan->volumes));
	for (size_t i = 0; i < scan->records.count; i++)
		scan->volumes[i].is_busy = is_being_formatted(disks, scan->records.list[i].uuid);
}

static void begin_scan(struct disks *disks)
{
	struct scan_work *scan;

	disks->wants_scan = disks->is_scanning && !disks->is_stopping;
	if (disks->is_scanning || disks->is_stopping)
		return;
	scan = calloc(1, sizeof(*scan));
	if (!scan) {
		scan_later(disks, RETRY_MS);
		return;
	}
	scan->disks = disks;
	fill_scan(disks, &scan->scan);
	scan->work = (struct work){ .lane = disks, .run = scan_run, .done = scan_done };
	disks->is_scanning = workers_submit(disks->options.workers, &scan->work) == 0;
	if (disks->is_scanning) {
		disks->forgotten_count = 0;
	} else {
		free(scan);
		scan_later(disks, RETRY_MS);
	}
}

static void on_scan_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	begin_scan(arg);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct disks *disks = arg;
	struct udev_device *device;

	(void)fd, (void)what;
	while ((device = udev_monitor_receive_device(disks->monitor)))
		udev_device_unref(device);
	scan_later(disks, SETTLE_MS);
}

/* Do file systems work? */

static void check_run(struct work *work)
{
	struct check_work *check = (struct check_work *)work;

	check->is_good = disk_scan_check(&check->scan);
}

static void check_done(struct work *work)
{
	struct check_work *check = (struct check_work *)work;
	struct disks *disks = check->disks;

	disks->is_checking = false;
	if (!check->is_good)
		begin_scan(disks);
	free(check);
}

static void on_check_timer(evutil_socket_t fd, short what, void *arg)
{
	struct disks *disks = arg;
	struct check_work *check;

	(void)fd, (void)what;
	if (disks->is_checking || disks->is_scanning || disks->is_stopping || !disks->records.count)
		return;
	check = calloc(1, sizeof(*check));
	if (!check)
		return;
	check->disks = disks;
	fill_scan(disks, &check->scan);
	check->work = (struct work){ .lane = &disks->check_timer, .run = check_run, .done = check_done };
	disks->is_checking = workers_submit(disks->options.workers, &check->work) == 0;
	if (!disks->is_checking)
		free(check);
}

/* SMART: it takes its time, and nobody waits for it */

static void health_run(struct work *work)
{
	struct health_work *health = (struct health_work *)work;

	for (size_t i = 0; i < health->count; i++)
		health->health[i] = disk_health(health->devices[i]);
}

static void health_done(struct work *work)
{
	struct health_work *health = (struct health_work *)work;
	struct disks *disks = health->disks;

	disks->is_asking_health = false;
	for (size_t i = 0; i < health->count; i++) {
		struct row *row = find_row(disks, health->devices[i]);

		if (!row)
			continue;
		if (health->health[i] == DISK_HEALTH_FAILED && row->health != DISK_HEALTH_FAILED)
			log_err("disks", "device=%s serial=%s: SMART says that it is failing; replace it", row->facts.device,
				row->facts.identity.serial);
		row->health = health->health[i];
		row->is_health_known = true;
	}
	free(health);
	if (!disks->is_stopping)
		disks->options.on_change(disks->options.arg);
}

static void ask_health(struct disks *disks)
{
	struct health_work *health = disks->is_asking_health ? NULL : calloc(1, sizeof(*health));

	if (!health)
		return;
	for (size_t i = 0; i < disks->count; i++)
		if (!disks->rows[i].is_health_known)
			strcpy(health->devices[health->count++], disks->rows[i].facts.device);
	health->disks = disks;
	health->work = (struct work){ .lane = &disks->is_asking_health, .run = health_run, .done = health_done };
	disks->is_asking_health = health->count && workers_submit(disks->options.workers, &health->work) == 0;
	if (!disks->is_asking_health)
		free(health);
}

void disks_rescan(struct disks *disks)
{
	for (size_t i = 0; i < disks->count; i++)
		disks->rows[i].is_health_known = false;
	begin_scan(disks);
}

/* Formatting */

static struct format *format_of(struct work *work)
{
	return (struct format *)((char *)work - offsetof(struct format, work));
}

static void format_free(struct format *format)
{
	LIST_REMOVE(format, link);
	free(format);
}

/* Is it as it was shown, and still nothing on it that is not ours? Return: 0; -EIO, with the reason in @format */
static int check_disk(struct format *format)
{
	struct disk_facts *all = calloc(DISK_PROBE_MAX, sizeof(*all)), *found = NULL;
	struct disk_filter filter = filter_of(format->disks);
	size_t count = all ? disk_enumerate(&filter, all) : 0;
	int rc = -EIO;

	for (size_t i = 0; i < count && !found; i++)
		if (is_same_disk(&all[i], &format->facts))
			found = &all[i];
	if (found)
		disk_probe(found);
	if (!found)
		snprintf(format->why, sizeof(format->why), "%s is not the disk any more that it was", format->facts.device);
	else if (found->is_in_use)
		snprintf(format->why, sizeof(format->why), "%s is in use", format->facts.device);
	else if (found->holds[0] && !(format->is_ours && memcmp(found->uuid, format->facts.uuid, UUID_BYTES) == 0))
		snprintf(format->why, sizeof(format->why), "%s is not empty: %s; wipefs(8) would empty it", format->facts.device,
			 found->holds);
	else
		rc = 0;
	free(all);
	return rc;
}

static void check_run_first(struct work *work)
{
	struct format *format = format_of(work);

	format->result = check_disk(format);
}

static void make_volume(struct work *work)
{
	struct format *format = format_of(work);
	int rc = check_disk(format); /* once more: mkfs.ext4 overwrites what it finds, and nothing may have come meanwhile */

	if (rc == 0)
		rc = disk_format(&format->child, format->facts.device, format->type, format->uuid, format->is_ours, format->why,
				 sizeof(format->why));
	if (rc == 0) {
		rc = disk_mount(format->facts.device, format->type, format->directory);
		if (rc < 0)
			snprintf(format->why, sizeof(format->why), "it can't be mounted: %s", strerror(-rc));
	}
	if (rc == 0) {
		rc = disk_scan_furnish(format->directory);
		if (rc < 0) {
			snprintf(format->why, sizeof(format->why), "nothing can be written to it: %s", strerror(-rc));
			disk_unmount(format->directory, true);
		}
	}
	format->result = rc;
}

static void format_failed(struct disks *disks, struct format *format)
{
	struct row *row = find_row(disks, format->facts.device);

	log_err("disks", "device=%s is no volume: %s", format->facts.device, format->why);
	if (row)
		snprintf(row->failure, sizeof(row->failure), "%s", format->why);
}

static void volume_made(struct work *work)
{
	struct format *format = format_of(work);
	struct disks *disks = format->disks;
	struct disk_record *record;

	if (format->result == 0 && format->is_ours)
		remove_record(disks, format->facts.uuid);
	record = disk_records_find(&disks->records, format->uuid);
	/* It stays in the record as unfinished: the next run sees to it. */
	if (disks->is_stopping || BUG_IF(!record)) {
		format_free(format);
		return;
	}
	if (format->result == 0) {
		record->is_ready = true;
		format->result = save_records(disks);
		if (format->result < 0)
			snprintf(format->why, sizeof(format->why), "%.400s can't be written: %s", disks->record_file,
				 strerror(-format->result));
	}
	if (format->result < 0) {
		record->is_ready = false;
		format_failed(disks, format);
	} else {
		log_info("disks", "device=%s type=%s has been formatted", format->facts.device, format->type);
	}
	format_free(format);
	begin_scan(disks);
	disks->options.on_change(disks->options.arg);
}

static int record_begin(struct disks *disks, struct format *format)
{
	int rc;

	/* An unfinished one before it stays on record: until mkfs writes, that is what is on the disk. */
	if (!add_record(disks, format->uuid, format->type)) {
		snprintf(format->why, sizeof(format->why), "this node has %d disks that are volumes; it takes no more", DISK_RECORDS_MAX);
		return -ENOSPC;
	}
	rc = save_records(disks);
	if (rc < 0) {
		remove_record(disks, format->uuid);
		snprintf(format->why, sizeof(format->why), "%.400s can't be written: %s", disks->record_file, strerror(-rc));
	}
	return rc;
}

static void disk_checked(struct work *work)
{
	struct format *format = format_of(work);
	struct disks *disks = format->disks;

	if (disks->is_stopping) {
		format->result = -ECANCELED;
		snprintf(format->why, sizeof(format->why), "the daemon stops");
	}
	/* On record before the first byte is written. */
	if (format->result == 0)
		format->result = record_begin(disks, format);
	if (format->result == 0) {
		format->work = (struct work){ .lane = format, .run = make_volume, .done = volume_made };
		format->result = workers_submit(disks->options.workers, &format->work);
	}
	if (format->on_begun)
		format->on_begun(format->result, format->why, format->arg);
	if (format->result == 0) {
		log_info("disks", "device=%s serial=%s is being formatted, type=%s", format->facts.device,
			 format->facts.identity.serial, format->type);
		disks->options.on_change(disks->options.arg);
		return;
	}
	format_failed(disks, format);
	format_free(format);
	begin_scan(disks);
}

static const char *refusal(struct disks *disks, const struct row *row, char *text, size_t size)
{
	switch (state_of(disks, row)) {
	case SCP_DISK_EMPTY:
	case SCP_DISK_UNFINISHED:
		return NULL;
	case SCP_DISK_HOLDS:
		snprintf(text, size, "%s is not empty: %s; wipefs(8) would empty it", row->facts.device, row->facts.holds);
		return text;
	case SCP_DISK_FORMATTING:
		snprintf(text, size, "%s is being formatted already", row->facts.device);
		return text;
	case SCP_DISK_VOLUME:
	case SCP_DISK_AWAY:
		snprintf(text, size, "%s is a volume's", row->facts.device);
		return text;
	default:
		snprintf(text, size, "%s is in use", row->facts.device);
		return text;
	}
}

static struct format *format_new(struct disks *disks, const struct row *row, const char *type)
{
	struct format *format = calloc(1, sizeof(*format));

	if (!format || uuid_make(format->uuid) < 0) {
		free(format);
		return NULL;
	}
	format->disks = disks;
	format->facts = row->facts;
	format->is_ours = state_of(disks, row) == SCP_DISK_UNFINISHED;
	snprintf(format->type, sizeof(format->type), "%s", type);
	disk_scan_mount_point(disks->mounts, format->uuid, format->directory);
	format->work = (struct work){ .lane = format, .run = check_run_first, .done = disk_checked };
	return format;
}

void disks_format(struct disks *disks, const char *device, const char *type, disks_begun on_begun, void *arg)
{
	struct row *row = find_row(disks, device);
	char text[WHY_MAX] = "there is no such disk here; nasctl disk rescan looks for new ones";
	const char *why = row ? refusal(disks, row, text, sizeof(text)) : text;
	struct format *format = NULL;

	if (!*type)
		type = disks->options.settings->type;
	if (!why && !disk_format_is_type(type))
		why = "a disk's type is ext4 or xfs";
	if (!why) {
		format = format_new(disks, row, type);
		why = format ? NULL : "no memory";
	}
	if (why) {
		if (on_begun)
			on_begun(-EINVAL, why, arg);
		return;
	}
	row->failure[0] = '\0';
	format->on_begun = on_begun;
	format->arg = arg;
	format->is_waiting = true;
	LIST_INSERT_HEAD(&disks->formats, format, link);
	if (!disks->is_scanning)
		begin_waiting_formats(disks);
}

static void begin_waiting_formats(struct disks *disks)
{
	struct format *format, *next;

	for (format = LIST_FIRST(&disks->formats); format; format = next) {
		next = LIST_NEXT(format, link);
		if (!format->is_waiting)
			continue;
		format->is_waiting = false;
		if (disks->is_stopping || workers_submit(disks->options.workers, &format->work) < 0) {
			snprintf(format->why, sizeof(format->why), "no memory");
			format->result = -ENOMEM;
			disk_checked(&format->work);
		}
	}
}

/* One that failed is left for somebody to look at. */
static void format_empty_ones(struct disks *disks)
{
	if (disks->options.settings->format != SETTINGS_FORMAT_EMPTY)
		return;
	for (size_t i = 0; i < disks->count; i++)
		if (state_of(disks, &disks->rows[i]) == SCP_DISK_EMPTY && !disks->rows[i].failure[0])
			disks_format(disks, disks->rows[i].facts.device, "", NULL, NULL);
}

void disks_forget(struct disks *disks, const uint8_t uuid[static UUID_BYTES])
{
	if (!disk_records_find(&disks->records, uuid))
		return;
	for (size_t i = 0; i < disks->count; i++)
		disks->rows[i].is_let_go |= memcmp(disks->rows[i].facts.uuid, uuid, UUID_BYTES) == 0;
	remove_record(disks, uuid);
	save_records(disks);
	if (disks->forgotten_count < DISK_RECORDS_MAX) /* else it stays mounted until the node is restarted */
		memcpy(disks->forgotten[disks->forgotten_count++], uuid, UUID_BYTES);
	begin_scan(disks);
}

/* Describing */

static const char *note_of(const struct row *row, enum scp_disk_state state)
{
	if (row->failure[0])
		return row->failure;
	if (state == SCP_DISK_AWAY)
		return "its file system does not work, or can't be mounted; the node's log says why";
	if (state == SCP_DISK_UNFINISHED)
		return "a format was interrupted";
	return state == SCP_DISK_HOLDS || state == SCP_DISK_IN_USE ? row->facts.holds : "";
}

static void describe_row(struct disks *disks, struct row *row, scp_disk *out)
{
	enum scp_disk_state state = state_of(disks, row);

	*out = (scp_disk){
		.device = row->facts.device,
		.bytes = row->facts.bytes,
		.serial = row->facts.identity.serial,
		.model = row->facts.identity.model,
		.health = (scp_disk_health)row->health,
		.state = state,
		.note = (char *)note_of(row, state),
	};
	if (state == SCP_DISK_VOLUME || state == SCP_DISK_AWAY)
		memcpy(out->uuid, record_of(disks, row)->uuid, sizeof(out->uuid));
}

int disks_describe(struct disks *disks, scp_disks *out)
{
	u_int count = 0;

	for (size_t i = 0; i < disks->count; i++)
		describe_row(disks, &disks->rows[i], &disks->description[count++]);
	for (size_t i = 0; i < disks->records.count && count < SCP_DISKS_MAX; i++) {
		const struct disk_volume *volume = &disks->volumes[i];

		if (!disks->records.list[i].is_ready || volume->has_disk || volume->presence == DISK_UNKNOWN)
			continue;
		disks->description[count] = (scp_disk){
			.device = (char *)"", .serial = (char *)"", .model = (char *)"", .state = SCP_DISK_AWAY,
			.note = (char *)"the disk of this volume is not here",
		};
		memcpy(disks->description[count++].uuid, disks->records.list[i].uuid, UUID_BYTES);
	}
	out->disks.disks_val = disks->description;
	out->disks.disks_len = count;
	return 0;
}

/* Life */

/* Where udevd runs, after it: it knows serial numbers then. */
static int watch(struct disks *disks)
{
	const char *source = access("/run/udev/control", F_OK) == 0 ? "udev" : "kernel";

	disks->udev = udev_new();
	disks->monitor = disks->udev ? udev_monitor_new_from_netlink(disks->udev, source) : NULL;
	if (!disks->monitor || udev_monitor_filter_add_match_subsystem_devtype(disks->monitor, "block", NULL) < 0 ||
	    udev_monitor_enable_receiving(disks->monitor) < 0) {
		log_warn("disks", "disks that come are not noticed: %s; nasctl disk rescan looks for them", strerror(errno));
		return 0;
	}
	disks->on_event = event_new(disks->options.base, udev_monitor_get_fd(disks->monitor), EV_READ | EV_PERSIST, on_event, disks);
	return disks->on_event && event_add(disks->on_event, NULL) == 0 ? 0 : -ENOMEM;
}

static int expect_volumes(struct disks *disks)
{
	char path[PATH_MAX];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < disks->records.count; i++) {
		volume_path(disks, disks->records.list[i].uuid, path);
		if (disks->records.list[i].is_ready)
			rc = volumes_expect(disks->options.volumes, disks->records.list[i].uuid, path);
	}
	return rc;
}

int disks_new(const struct disks_options *options, struct disks **out)
{
	struct disks *disks = calloc(1, sizeof(*disks));
	int rc = -ENOMEM;

	if (!disks)
		return -ENOMEM;
	disks->options = *options;
	LIST_INIT(&disks->formats);
	snprintf(disks->record_file, sizeof(disks->record_file), "%.4000s/disks", options->settings->state_dir);
	snprintf(disks->mounts, sizeof(disks->mounts), "%.4000s/mnt", options->settings->state_dir);
	disks->description = calloc(SCP_DISKS_MAX, sizeof(*disks->description));
	disks->scan_timer = evtimer_new(options->base, on_scan_timer, disks);
	disks->check_timer = event_new(options->base, -1, EV_PERSIST, on_check_timer, disks);
	if (disks->description && disks->scan_timer && disks->check_timer)
		rc = disk_records_load(disks->record_file, &disks->records);
	if (rc == 0)
		rc = expect_volumes(disks);
	if (rc == 0)
		rc = watch(disks);
	if (rc < 0) {
		disks_free(disks, false);
		return rc;
	}
	event_add(disks->check_timer, &(struct timeval){ .tv_sec = CHECK_MS / 1000 });
	begin_scan(disks);
	*out = disks;
	return 0;
}

void disks_stop(struct disks *disks)
{
	struct format *format;

	disks->is_stopping = true;
	LIST_FOREACH(format, &disks->formats, link)
		child_kill(&format->child);
}

void disks_free(struct disks *disks, bool for_good)
{
	char directory[PATH_MAX];

	if (!disks)
		return;
	for (size_t i = 0; for_good && i < disks->records.count; i++) {
		disk_scan_mount_point(disks->mounts, disks->records.list[i].uuid, directory);
		disk_unmount(directory, true);
	}
	if (disks->on_event)
		event_free(disks->on_event);
	if (disks->scan_timer)
		event_free(disks->scan_timer);
	if (disks->check_timer)
		event_free(disks->check_timer);
	if (disks->monitor)
		udev_monitor_unref(disks->monitor);
	if (disks->udev)
		udev_unref(disks->udev);
	free(disks->description);
	free(disks);
}
