/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/volumes.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/stored_file.h"
#include "common/uuid.h"
#include "common/workers.h"
#include "slave/disk_identity.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* An open volume; lives as long as a worker may use it. */
struct serving {
	struct volume *volume;
	struct work tidy, close;
	bool is_tidying;
};

struct offered {
	TAILQ_ENTRY(offered) link;
	struct volume_offer offer;
	struct serving *open; /* NULL: not served */
	bool is_disk;	      /* on a disk of its own: not in the state file */
	bool has_left;	      /* the disk has */
};

struct volumes {
	char state_file[PATH_MAX];
	TAILQ_HEAD(, offered) list;
	struct workers *workers;
	struct loops *loops; /* which call volumes_find(): the list changes while they are paused */
};

static struct offered *find_uuid(const struct volumes *volumes, const uint8_t *uuid)
{
	struct offered *offered;

	TAILQ_FOREACH(offered, &volumes->list, link)
		if (memcmp(offered->offer.uuid, uuid, NS_UUID_BYTES) == 0)
			return offered;
	return NULL;
}

static struct offered *find_path(const struct volumes *volumes, const char *path)
{
	struct offered *offered;

	TAILQ_FOREACH(offered, &volumes->list, link)
		if (strcmp(offered->offer.path, path) == 0)
			return offered;
	return NULL;
}

/* "UUID PLACE PATH"; an empty place is "-"; the path is the rest of the line. */
static int volumes_save(const struct volumes *volumes)
{
	struct offered *offered;
	char uuid[UUID_TEXT_MAX];
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc;

	if (!out)
		return -ENOMEM;
	TAILQ_FOREACH(offered, &volumes->list, link)
		if (!offered->is_disk)
			fprintf(out, "%s %s %s\n", uuid_text(offered->offer.uuid, uuid),
				offered->offer.place[0] ? offered->offer.place : "-", offered->offer.path);
	fclose(out);
	rc = text ? stored_file_write(volumes->state_file, text, len) : -ENOMEM;
	free(text);
	return rc;
}

static int volumes_load_line(struct volumes *volumes, const char *line)
{
	struct offered *offered = calloc(1, sizeof(*offered));
	char uuid[UUID_TEXT_MAX];
	struct volume_offer *offer;
	const char *reason = "";
	int path_at = 0;

	if (!offered)
		return -ENOMEM;
	offer = &offered->offer;
	if (sscanf(line, "%36s %1023s %n", uuid, offer->place, &path_at) < 2 || !path_at ||
	    uuid_parse(uuid, offer->uuid) < 0 || line[path_at] != '/' ||
	    strlen(line + path_at) >= sizeof(offer->path)) {
		free(offered);
		return -EINVAL;
	}
	if (strcmp(offer->place, "-") == 0)
		offer->place[0] = '\0';
	snprintf(offer->path, sizeof(offer->path), "%s", line + path_at);
	if (local_probe(offer->path, &offer->root, &reason) < 0)
		log_err("volumes", "path=%s can't be offered: %s", offer->path, reason);
	else
		disk_serial_of(offer->path, offer->serial, sizeof(offer->serial));
	TAILQ_INSERT_TAIL(&volumes->list, offered, link);
	return 0;
}

static int volumes_load(struct volumes *volumes)
{
	uint8_t *text;
	size_t len;
	int number = 1, rc = stored_file_read(volumes->state_file, &text, &len);

	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return rc;
	for (char *rest = (char *)text, *line; rc == 0 && (line = strsep(&rest, "\n")); number++)
		if (line[0])
			rc = volumes_load_line(volumes, line);
	if (rc < 0)
		log_err("volumes", "%s:%d: not \"UUID PLACE PATH\"; mend the line, or remove it and add the volume again",
			volumes->state_file, number - 1);
	free(text);
	return rc;
}

int volumes_open(const char *state_file, struct volumes **out)
{
	struct volumes *volumes = calloc(1, sizeof(*volumes));
	int rc;

	if (!volumes)
		return -ENOMEM;
	TAILQ_INIT(&volumes->list);
	snprintf(volumes->state_file, sizeof(volumes->state_file), "%s", state_file);
	rc = volumes_load(volumes);
	if (rc < 0) {
		volumes_close(volumes);
		return rc;
	}
	*out = volumes;
	return 0;
}

void volumes_use(struct volumes *volumes, struct workers *workers, struct loops *loops)
{
	volumes->workers = workers;
	volumes->loops = loops;
}

static void list_add(struct volumes *volumes, struct offered *offered)
{
	loops_pause(volumes->loops);
	TAILQ_INSERT_TAIL(&volumes->list, offered, link);
	loops_continue(volumes->loops);
}

static void list_remove(struct volumes *volumes, struct offered *offered)
{
	loops_pause(volumes->loops);
	TAILQ_REMOVE(&volumes->list, offered, link);
	loops_continue(volumes->loops);
}

static void offered_set(struct volumes *volumes, struct offered *offered, struct serving *open)
{
	loops_pause(volumes->loops);
	offered->open = open;
	loops_continue(volumes->loops);
}

static void set_left(struct volumes *volumes, struct offered *offered, bool has_left)
{
	loops_pause(volumes->loops);
	offered->has_left = has_left;
	loops_continue(volumes->loops);
}

static struct serving *serving_of(struct work *work, size_t offset)
{
	return (struct serving *)((char *)work - offset);
}

static void close_run(struct work *work)
{
	local_close(serving_of(work, offsetof(struct serving, close))->volume);
}

static void close_done(struct work *work)
{
	free(serving_of(work, offsetof(struct serving, close)));
}

/*
 * Its disk may not answer, and work may wait for it: the volume goes when that has ended, and nobody waits. If there is no
 * memory to say so it stays open.
 */
static void offered_shut(struct volumes *volumes, struct offered *offered)
{
	struct serving *open = offered->open;

	if (!open)
		return;
	offered_set(volumes, offered, NULL);
	open->close = (struct work){ .lane = open->volume, .run = close_run, .done = close_done };
	if (volumes->workers) {
		if (workers_submit_last(volumes->workers, &open->close) < 0)
			log_err("volumes", "path=%s stays open: no memory", offered->offer.path);
		return;
	}
	close_run(&open->close);
	close_done(&open->close);
}

static void tidy_run(struct work *work)
{
	local_tidy(serving_of(work, offsetof(struct serving, tidy))->volume);
}

static void tidy_done(struct work *work)
{
	serving_of(work, offsetof(struct serving, tidy))->is_tidying = false;
}

void volumes_tidy(struct volumes *volumes)
{
	struct offered *offered;

	TAILQ_FOREACH(offered, &volumes->list, link) {
		struct serving *open = offered->open;

		if (!open || open->is_tidying || !volumes->workers)
			continue;
		open->tidy = (struct work){ .lane = open->volume, .run = tidy_run, .done = tidy_done };
		open->is_tidying = workers_submit(volumes->workers, &open->tidy) == 0;
	}
}

void volumes_close(struct volumes *volumes)
{
	struct offered *offered;

	if (!volumes)
		return;
	while ((offered = TAILQ_FIRST(&volumes->list))) {
		list_remove(volumes, offered);
		offered_shut(volumes, offered);
		free(offered);
	}
	free(volumes);
}

int volumes_add(struct volumes *volumes, const char *path, const char *place, char *why, size_t why_size)
{
	struct offered *offered = find_path(volumes, path);
	const char *reason = "";
	struct local_root root;
	int rc;

	if (path[0] != '/' || strchr(path, '\n') || strlen(path) >= PATH_MAX || strlen(place) >= NS_TEXT_MAX ||
	    strpbrk(place, " \t\n")) {
		snprintf(why, why_size, "%s: the directory must be an absolute path, the place one without spaces", path);
		return -EINVAL;
	}
	rc = local_probe(path, &root, &reason);
	if (rc < 0) {
		snprintf(why, why_size, "%s: %s", path, reason);
		return rc;
	}
	if (offered) {
		offered->offer.root = root;
		return 0;
	}
	offered = calloc(1, sizeof(*offered));
	if (!offered)
		return -ENOMEM;
	snprintf(offered->offer.path, sizeof(offered->offer.path), "%s", path);
	snprintf(offered->offer.place, sizeof(offered->offer.place), "%s", place);
	offered->offer.root = root;
	disk_serial_of(path, offered->offer.serial, sizeof(offered->offer.serial));
	list_add(volumes, offered);
	rc = uuid_make(offered->offer.uuid);
	if (rc == 0)
		rc = volumes_save(volumes);
	if (rc < 0) {
		list_remove(volumes, offered);
		free(offered);
		snprintf(why, why_size, "%s: can't be written: %s", volumes->state_file, strerror(-rc));
	}
	return rc;
}

int volumes_expect(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES], const char *path)
{
	struct offered *offered = find_uuid(volumes, uuid);

	if (offered)
		return 0;
	offered = calloc(1, sizeof(*offered));
	if (!offered)
		return -ENOMEM;
	memcpy(offered->offer.uuid, uuid, NS_UUID_BYTES);
	snprintf(offered->offer.path, sizeof(offered->offer.path), "%s", path);
	offered->is_disk = true;
	list_add(volumes, offered);
	return 0;
}

void volumes_wish(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES], const char *place)
{
	struct offered *offered = find_uuid(volumes, uuid);

	if (offered)
		snprintf(offered->offer.place, sizeof(offered->offer.place), "%s", place);
}

int volumes_arrived(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES], const char *path, char *why, size_t why_size)
{
	const char *reason = "no memory";
	struct offered *offered;
	struct local_root root;
	int rc = volumes_expect(volumes, uuid, path);

	if (rc == 0)
		rc = local_probe(path, &root, &reason);
	if (rc < 0) {
		snprintf(why, why_size, "%s: %s", path, reason);
		return rc;
	}
	offered = find_uuid(volumes, uuid);
	offered->offer.root = root;
	snprintf(offered->offer.path, sizeof(offered->offer.path), "%s", path);
	disk_serial_of(path, offered->offer.serial, sizeof(offered->offer.serial));
	set_left(volumes, offered, false);
	return 0;
}

static void leave(struct volumes *volumes, struct offered *offered)
{
	set_left(volumes, offered, true);
	offered->offer.root.backend_len = 0;
	offered_shut(volumes, offered);
}

static bool is_inside(const struct offered *inner, const struct offered *outer)
{
	size_t len = strlen(outer->offer.path);

	return inner != outer && strncmp(inner->offer.path, outer->offer.path, len) == 0 && inner->offer.path[len] == '/';
}

void volumes_leave(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES])
{
	struct offered *offered = find_uuid(volumes, uuid), *other;

	if (!offered)
		return;
	leave(volumes, offered);
	TAILQ_FOREACH(other, &volumes->list, link)
		if (other->is_disk && is_inside(other, offered))
			leave(volumes, other);
}

bool volumes_has_left(const struct volumes *volumes, const struct namespace *ns, uint32_t id)
{
	const ns_volume *volume = namespace_volume(ns, id);
	const struct offered *offered = volume ? find_uuid(volumes, (const uint8_t *)volume->uuid) : NULL;

	return offered && offered->has_left;
}

int volumes_forget(struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES])
{
	struct offered *offered = find_uuid(volumes, uuid);

	if (!offered)
		return -ENOENT;
	list_remove(volumes, offered);
	offered_shut(volumes, offered);
	free(offered);
	return volumes_save(volumes);
}

const struct volume_offer *volumes_next(const struct volumes *volumes, size_t *at)
{
	struct offered *offered = TAILQ_FIRST(&volumes->list);

	for (size_t i = 0; offered && i < *at; i++)
		offered = TAILQ_NEXT(offered, link);
	++*at;
	return offered ? &offered->offer : NULL;
}

const struct volume_offer *volumes_offer(const struct volumes *volumes, const uint8_t uuid[static NS_UUID_BYTES])
{
	const struct offered *offered = find_uuid(volumes, uuid);

	return offered ? &offered->offer : NULL;
}

/* A part of a spread directory, whose files are of one file system. */
static int join_spread(const struct namespace *ns, const ns_volume *known, struct volume *volume)
{
	const ns_branch *branch = namespace_branch_by_uuid(ns, (const uint8_t *)known->uuid);
	const ns_spread *spread = branch ? namespace_spread(ns, branch->spread) : NULL;
	struct local_branch as;

	if (!spread)
		return 0;
	as = (struct local_branch){
		.spread = spread->id,
		.fsid = namespace_spread_fsid(spread),
		.fileid_mask = namespace_branch_mask(branch),
		.mode = spread->mode,
		.uid = spread->uid,
		.gid = spread->gid,
	};
	return local_become_branch(volume, &as);
}

static int serving_open(const struct namespace *ns, const char *path, const ns_volume *volume, struct serving **out)
{
	struct serving *open = calloc(1, sizeof(*open));
	int rc = open ? local_open(path, volume->id, namespace_fsid(volume), &open->volume) : -ENOMEM;

	if (rc == 0)
		rc = join_spread(ns, volume, open->volume);
	if (rc < 0) {
		local_close(open ? open->volume : NULL);
		free(open);
		return rc;
	}
	*out = open;
	return 0;
}

static void offered_open(struct volumes *volumes, const struct namespace *ns, struct offered *offered, const ns_volume *volume)
{
	struct serving *open = NULL;
	int rc = serving_open(ns, offered->offer.path, volume, &open);

	offered_set(volumes, offered, open);
	if (rc < 0)
		log_err("volumes", "volume=%u path=%s can't be served: %s; it is tried again when the name space changes",
			volume->id, offered->offer.path, strerror(-rc));
	else
		log_info("volumes", "volume=%u path=%s is served", volume->id, offered->offer.path);
}

void volumes_follow(struct volumes *volumes, const struct namespace *ns, uint32_t self)
{
	struct offered *offered;

	TAILQ_FOREACH(offered, &volumes->list, link) {
		const ns_volume *volume = namespace_volume_by_uuid(ns, offered->offer.uuid);
		bool ours = volume && volume->node == self;

		if (offered->open && (!ours || offered->open->volume->id != volume->id)) {
			log_info("volumes", "volume=%u path=%s is not served any more", offered->open->volume->id,
				 offered->offer.path);
			offered_shut(volumes, offered);
		}
		if (ours && !offered->open && (!offered->is_disk || offered->offer.root.backend_len))
			offered_open(volumes, ns, offered, volume);
	}
}

struct volume *volumes_find(struct volumes *volumes, uint32_t id)
{
	struct offered *offered;

	TAILQ_FOREACH(offered, &volumes->list, link)
		if (offered->open && offered->open->volume->id == id)
			return offered->open->volume;
	return NULL;
}
