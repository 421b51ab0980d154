/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/made_volumes.h"

#include "common/log.h"
#include "common/stored_file.h"
#include "common/uuid.h"
#include "common/workers.h"
#include "slave/volumes.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct record {
	TAILQ_ENTRY(record) link;
	uint8_t uuid[NS_UUID_BYTES];
	uint8_t on[NS_UUID_BYTES];
	char place[NS_TEXT_MAX];
	bool is_leaving;
	bool has_failed; /* it can't be served, and that was said */
	bool is_busy;	 /* a job is about it */
};

struct made_volumes {
	struct made_volumes_options options;
	char state_file[PATH_MAX];
	TAILQ_HEAD(, record) records;
	size_t count;
	bool is_stopping;
};

/* What a worker does for a record, which may be gone when it ends. */
struct job {
	struct work work;
	struct made_volumes *made;
	uint8_t uuid[NS_UUID_BYTES];
	char directory[PATH_MAX]; /* of the volume it is on */
	struct local_root root;
	bool removes;
	int result;
	made_volumes_done done; /* NULL: nobody asked */
	void *arg;
};

bool made_volumes_is_path(const char *path)
{
	return strstr(path, "/" LOCAL_RESERVED "/") != NULL;
}

static struct record *find(const struct made_volumes *made, const uint8_t *uuid)
{
	struct record *record;

	TAILQ_FOREACH(record, &made->records, link)
		if (memcmp(record->uuid, uuid, sizeof(record->uuid)) == 0)
			return record;
	return NULL;
}

/* The directory of the volume that it is on; NULL: that is not there. */
static const char *directory_of(const struct made_volumes *made, const struct record *record)
{
	const struct volume_offer *on = volumes_offer(made->options.volumes, record->on);

	return on && on->root.backend_len ? on->path : NULL;
}

static int path_of(const struct record *record, const char *directory, char path[static PATH_MAX])
{
	char uuid[UUID_TEXT_MAX];
	int len = snprintf(path, PATH_MAX, "%s/" LOCAL_RESERVED "/%s", directory, uuid_text(record->uuid, uuid));

	return len < NS_TEXT_MAX ? 0 : -ENAMETOOLONG; /* or the master could not be told */
}

/* The record: "UUID ON STATE PLACE"; the place is the rest of the line. */

static int save(const struct made_volumes *made)
{
	char uuid[UUID_TEXT_MAX], on[UUID_TEXT_MAX], *text = NULL;
	const struct record *record;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc;

	if (!out)
		return -ENOMEM;
	TAILQ_FOREACH(record, &made->records, link)
		fprintf(out, "%s %s %s %s\n", uuid_text(record->uuid, uuid), uuid_text(record->on, on),
			record->is_leaving ? "leaving" : "made", record->place);
	rc = fclose(out) == 0 && text ? stored_file_write(made->state_file, text, len) : -ENOMEM;
	free(text);
	if (rc < 0)
		log_err("volumes", "%s can't be written: %s", made->state_file, strerror(-rc));
	return rc;
}

static struct record *record_new(struct made_volumes *made)
{
	struct record *record = calloc(1, sizeof(*record));

	if (record) {
		TAILQ_INSERT_TAIL(&made->records, record, link);
		made->count++;
	}
	return record;
}

static void record_free(struct made_volumes *made, struct record *record)
{
	TAILQ_REMOVE(&made->records, record, link);
	made->count--;
	free(record);
}

static bool is_place(const char *place)
{
	return place[0] == '/' && !strchr(place, '\n') && strlen(place) < NS_TEXT_MAX;
}

static int load_line(struct made_volumes *made, const char *line)
{
	char uuid[UUID_TEXT_MAX], on[UUID_TEXT_MAX], state[8];
	struct record *record;
	int at = 0;

	if (sscanf(line, "%36s %36s %7s %n", uuid, on, state, &at) < 3 || !at || !is_place(line + at) ||
	    (strcmp(state, "made") != 0 && strcmp(state, "leaving") != 0))
		return -EINVAL;
	record = record_new(made);
	if (!record)
		return -ENOMEM;
	record->is_leaving = strcmp(state, "leaving") == 0;
	snprintf(record->place, sizeof(record->place), "%s", line + at);
	return uuid_parse(uuid, record->uuid) < 0 || uuid_parse(on, record->on) < 0 ? -EINVAL : 0;
}

static int load(struct made_volumes *made)
{
	int number = 1, rc;
	uint8_t *text;
	size_t len;

	rc = stored_file_read(made->state_file, &text, &len);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	for (char *rest = (char *)text, *line; rc == 0 && (line = strsep(&rest, "\n")); number++)
		if (line[0])
			rc = load_line(made, line);
	if (rc < 0)
		log_err("volumes", "%s:%d: not \"UUID UUID made|leaving PLACE\"; mend the line", made->state_file, number - 1);
	free(text);
	return rc;
}

/* Coming and going with the volume it is on */

static void arrive(struct made_volumes *made, struct record *record, const char *directory)
{
	struct volumes *volumes = made->options.volumes;
	char path[PATH_MAX], why[512] = "";
	int rc = path_of(record, directory, path);

	if (rc == 0)
		rc = volumes_expect(volumes, record->uuid, path);
	volumes_wish(volumes, record->uuid, record->place);
	if (rc == 0)
		rc = volumes_arrived(volumes, record->uuid, path, why, sizeof(why));
	if (rc < 0 && !record->has_failed)
		log_err("volumes", "place=%s can't be served: %s", record->place, *why ? why : strerror(-rc));
	record->has_failed = rc < 0;
}

static void follow(struct made_volumes *made, struct record *record)
{
	const struct volume_offer *own = volumes_offer(made->options.volumes, record->uuid);
	const char *directory = directory_of(made, record);

	if (directory && !record->is_leaving && !(own && own->root.backend_len))
		arrive(made, record, directory);
}

void made_volumes_follow(struct made_volumes *made)
{
	struct record *record;

	TAILQ_FOREACH(record, &made->records, link)
		follow(made, record);
}

/* Making and removing */

static const char *reason_of(int rc)
{
	switch (-rc) {
	case ENOTEMPTY:
	case EEXIST:
		return "the directory is not empty";
	case EIO:
		return "its disk is away, or fails";
	case EPERM:
		return "there is something called " LOCAL_RESERVED " in the volume that is not vnasd's; rename it";
	default:
		return strerror(-rc);
	}
}

static void tell(made_volumes_done done, void *arg, int rc, const char *why)
{
	if (done)
		done(rc, rc < 0 ? why : "", arg);
}

static int set_leaving(struct made_volumes *made, struct record *record, bool is_leaving)
{
	int rc;

	if (record->is_leaving == is_leaving)
		return 0;
	record->is_leaving = is_leaving;
	rc = save(made);
	if (rc < 0)
		record->is_leaving = !is_leaving;
	return rc;
}

/* It is there, and stays. */
static int settle(struct made_volumes *made, struct record *record)
{
	int rc = set_leaving(made, record, false);

	if (rc == 0) {
		follow(made, record);
		made->options.on_volumes(made->options.arg);
	}
	return rc;
}

/* The record is the master's to have forgotten, perhaps at once. Whatever is offered from now on, this is not. */
static void leave(struct made_volumes *made, const uint8_t *uuid)
{
	volumes_forget(made->options.volumes, uuid);
	made->options.on_gone(uuid, made->options.arg);
}

static int begin(struct made_volumes *made, struct record *record, bool removes, made_volumes_done done, void *arg);

static int finish(struct made_volumes *made, struct record *record, const struct job *job)
{
	int rc = job->result;

	if (!job->removes && rc < 0)
		begin(made, record, true, NULL, NULL); /* what there is of it; if not now, at the next contact */
	else if (!job->removes)
		rc = settle(made, record);
	else if (rc == 0)
		leave(made, job->uuid);
	else if (rc == -ENOTEMPTY || rc == -EEXIST)
		settle(made, record);
	return rc == -EEXIST ? -ENOTEMPTY : rc;
}

static void job_run(struct work *work)
{
	struct job *job = (struct job *)((char *)work - offsetof(struct job, work));
	char name[UUID_TEXT_MAX];

	uuid_text(job->uuid, name);
	job->result = job->removes ? local_reserved_remove(job->directory, &job->root, name) :
				     local_reserved_make(job->directory, &job->root, name);
}

static void job_done(struct work *work)
{
	struct job *job = (struct job *)((char *)work - offsetof(struct job, work));
	struct made_volumes *made = job->made;
	struct record *record = made->is_stopping ? NULL : find(made, job->uuid);
	int rc = made->is_stopping ? -ECANCELED : -ENOENT;

	if (record) {
		record->is_busy = false;
		rc = finish(made, record, job);
		if (rc < 0 && rc != -ENOTEMPTY)
			log_warn("volumes", "place=%s was not %s: %s", record->place, job->removes ? "removed" : "made", reason_of(rc));
	}
	tell(job->done, job->arg, rc, reason_of(rc));
	free(job);
}

/* 0: @done will be called, when a worker has made or removed the directory. */
static int begin(struct made_volumes *made, struct record *record, bool removes, made_volumes_done done, void *arg)
{
	const char *directory = directory_of(made, record);
	struct job *job = directory ? calloc(1, sizeof(*job)) : NULL;
	int rc = job ? 0 : directory ? -ENOMEM : -EIO;

	if (made->is_stopping)
		rc = -ECANCELED;
	if (rc < 0) {
		free(job);
		return rc;
	}
	*job = (struct job){ .work = { .lane = made, .run = job_run, .done = job_done }, .made = made, .removes = removes,
			     .done = done, .arg = arg };
	memcpy(job->uuid, record->uuid, sizeof(job->uuid));
	snprintf(job->directory, sizeof(job->directory), "%s", directory);
	job->root = volumes_offer(made->options.volumes, record->on)->root;
	rc = workers_submit(made->options.workers, &job->work);
	if (rc < 0)
		free(job);
	else
		record->is_busy = true;
	return rc;
}

static int make_new(struct made_volumes *made, const uint8_t *uuid, const uint8_t *on, const char *place, made_volumes_done done,
		    void *arg)
{
	struct record *record;
	const char *directory;
	char path[PATH_MAX];
	int rc;

	if (!is_place(place))
		return -EINVAL;
	if (made->count >= MADE_VOLUMES_MAX || find(made, on)) /* never one inside another */
		return -ENOSPC;
	record = record_new(made);
	if (!record)
		return -ENOMEM;
	memcpy(record->uuid, uuid, sizeof(record->uuid));
	memcpy(record->on, on, sizeof(record->on));
	snprintf(record->place, sizeof(record->place), "%s", place);
	record->is_leaving = true;
	directory = directory_of(made, record);
	rc = directory ? path_of(record, directory, path) : -EIO;
	if (rc == 0)
		rc = save(made);
	if (rc == 0)
		rc = begin(made, record, false, done, arg);
	if (rc < 0)
		record_free(made, record);
	return rc;
}

void made_volumes_make(struct made_volumes *made, const uint8_t uuid[static NS_UUID_BYTES],
		       const uint8_t on[static NS_UUID_BYTES], const char *place, made_volumes_done done, void *arg)
{
	int rc = find(made, uuid) ? -EEXIST : make_new(made, uuid, on, place, done, arg);

	if (rc < 0)
		tell(done, arg, rc, rc == -EIO ? "the disk with the room is away" : strerror(-rc));
}

void made_volumes_unmake(struct made_volumes *made, const uint8_t uuid[static NS_UUID_BYTES], made_volumes_done done, void *arg)
{
	struct record *record = find(made, uuid);
	int rc = !record ? -ENOENT : record->is_busy ? -EBUSY : !directory_of(made, record) ? -EIO : 0;

	if (rc == 0)
		rc = set_leaving(made, record, true);
	if (rc == 0)
		rc = begin(made, record, true, done, arg);
	if (rc < 0)
		tell(done, arg, rc, rc == -EIO ? "its disk is away" : strerror(-rc));
}

void made_volumes_resume(struct made_volumes *made)
{
	struct record *record;

	TAILQ_FOREACH(record, &made->records, link)
		if (record->is_leaving && !record->is_busy)
			begin(made, record, true, NULL, NULL); /* if not, it is tried again */
}

void made_volumes_forget(struct made_volumes *made, const uint8_t uuid[static NS_UUID_BYTES])
{
	struct record *record = find(made, uuid);

	if (!record)
		return;
	record_free(made, record);
	save(made); /* if not, it is offered again, or told to be gone, and forgotten then */
}

/* Life */

/* Its clients wait until its disk has been looked for. */
static void expect(struct made_volumes *made, const struct record *record)
{
	const struct volume_offer *on = volumes_offer(made->options.volumes, record->on);
	char path[PATH_MAX];

	if (on && path_of(record, on->path, path) == 0)
		volumes_expect(made->options.volumes, record->uuid, path);
}

int made_volumes_new(const struct made_volumes_options *options, struct made_volumes **out)
{
	struct made_volumes *made = calloc(1, sizeof(*made));
	struct record *record;
	int rc;

	if (!made)
		return -ENOMEM;
	made->options = *options;
	TAILQ_INIT(&made->records);
	snprintf(made->state_file, sizeof(made->state_file), "%s", options->state_file);
	rc = load(made);
	if (rc < 0) {
		made_volumes_free(made);
		return rc;
	}
	TAILQ_FOREACH(record, &made->records, link)
		if (!record->is_leaving)
			expect(made, record);
	*out = made;
	return 0;
}

void made_volumes_stop(struct made_volumes *made)
{
	made->is_stopping = true;
}

void made_volumes_free(struct made_volumes *made)
{
	struct record *record;

	while (made && (record = TAILQ_FIRST(&made->records)))
		record_free(made, record);
	free(made);
}
