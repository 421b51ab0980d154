/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/spread.h"

#include "common/log.h"
#include "common/workers.h"
#include "slave/volumes.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

/* All of a directory, while it comes in parts. */
struct whole {
	LIST_ENTRY(whole) link;
	uint32_t id;
	struct spread *spread;
};

struct spread_follower {
	struct spread_follower_options options;
	LIST_HEAD(, whole) coming;
};

/* The wire */

void spread_entry_to_wire(const struct spread_entry *entry, scp_spread_entry *wire)
{
	*wire = (scp_spread_entry){
		.id = entry->id,
		.name = (char *)entry->name,
		.is_there = entry->is_there,
		.type = entry->type,
		.fileid = entry->fileid,
		.volume = entry->handle.volume,
		.backend_type = entry->handle.backend_type,
		.backend = { .backend_len = entry->handle.backend_len, .backend_val = (char *)entry->handle.backend },
	};
}

int spread_entry_from_wire(const scp_spread_entry *wire, struct spread_entry *entry)
{
	if (wire->backend.backend_len > HANDLE_BACKEND_MAX || wire->backend_type > UINT16_MAX || wire->volume == NAMESPACE_ROOT_VOLUME)
		return -EINVAL;
	*entry = (struct spread_entry){
		.id = wire->id,
		.name = wire->name,
		.is_there = wire->is_there,
		.type = wire->type,
		.fileid = wire->fileid,
		.handle = {
			.type = HANDLE_LOCAL,
			.volume = wire->volume,
			.backend_type = (uint16_t)wire->backend_type,
			.backend_len = (uint8_t)wire->backend.backend_len,
		},
	};
	memcpy(entry->handle.backend, wire->backend.backend_val, wire->backend.backend_len);
	return 0;
}

/* Following the master */

static struct whole *find_coming(struct spread_follower *follower, uint32_t id)
{
	struct whole *whole;

	LIST_FOREACH(whole, &follower->coming, link)
		if (whole->id == id)
			return whole;
	return NULL;
}

static void whole_free(struct whole *whole)
{
	LIST_REMOVE(whole, link);
	spread_free(whole->spread);
	free(whole);
}

static struct whole *whole_new(struct spread_follower *follower, uint32_t id)
{
	struct whole *whole = find_coming(follower, id);

	if (whole)
		whole_free(whole);
	whole = calloc(1, sizeof(*whole));
	if (!whole)
		return NULL;
	whole->id = id;
	whole->spread = spread_new();
	LIST_INSERT_HEAD(&follower->coming, whole, link);
	if (!whole->spread) {
		whole_free(whole);
		return NULL;
	}
	return whole;
}

static int fill(struct spread *spread, const scp_spread_update *update)
{
	struct spread_entry entry;
	int rc = 0;

	for (u_int i = 0; i < update->removed.removed_len; i++)
		spread_remove(spread, update->removed.removed_val[i]);
	for (u_int i = 0; rc == 0 && i < update->put.put_len; i++) {
		rc = spread_entry_from_wire(&update->put.put_val[i], &entry);
		if (rc == 0)
			rc = spread_put(spread, &entry);
	}
	spread_set_changed_ns(spread, update->changed_ns);
	spread_set_sequence(spread, update->sequence);
	return rc;
}

/* 0: it is whole, or not yet; or why it can't be used */
static int take_part(struct spread_follower *follower, const scp_spread_update *update, struct whole *whole)
{
	int rc = fill(whole->spread, update);

	if (rc == 0 && update->is_last) {
		rc = spreads_set(follower->options.spreads, whole->id, whole->spread);
		if (rc == 0)
			whole->spread = NULL; /* taken */
	}
	if (rc < 0 || update->is_last)
		whole_free(whole);
	return rc;
}

static int take_change(struct spread_follower *follower, const scp_spread_update *update)
{
	struct spread *spread = spreads_find(follower->options.spreads, update->spread);

	if (!spread || update->sequence != spread_sequence(spread) + 1)
		return -ESTALE;
	return fill(spread, update);
}

static int take_update(struct spread_follower *follower, const scp_spread_update *update)
{
	struct whole *whole = update->is_first ? whole_new(follower, update->spread) : find_coming(follower, update->spread);

	if (whole)
		return take_part(follower, update, whole);
	return update->is_first ? -ENOMEM : take_change(follower, update);
}

static void received_update(struct spread_follower *follower, const scp_spread_update *update)
{
	scp_message message = { .type = SCP_SPREAD_REACHED };
	scp_spread_reached *reached = &message.scp_message_u.spread_reached;
	int rc = take_update(follower, update);

	if (rc == 0 && !update->is_last)
		return;
	if (rc < 0)
		log_warn("spread", "spread=%u update=%ju can't be used: %s; all is asked for", update->spread,
			 (uintmax_t)update->sequence, strerror(-rc));
	reached->spread = update->spread;
	reached->sequence = update->sequence;
	reached->is_lost = rc < 0;
	follower->options.send(0, &message, follower->options.arg);
}

/* Listing a branch */

struct job {
	struct work work;
	struct volume *volume;
	scp_spread_listing listing;
	scp_spread_entry entries[SCP_SPREAD_ENTRIES_MAX];
	void (*done)(const scp_spread_listing *listing, void *arg);
	void *arg;
};

static void entry_fini(scp_spread_entry *entry)
{
	free(entry->name);
	free(entry->backend.backend_val);
}

static int add_entry(struct job *job, const struct backend_entry *from)
{
	const struct handle *handle = &from->found.handle;
	scp_spread_entry *entry = &job->entries[job->listing.entries.entries_len];

	*entry = (scp_spread_entry){
		.name = strdup(from->name),
		.is_there = true,
		.type = from->found.attributes.st.st_mode & S_IFMT,
		.fileid = from->found.attributes.st.st_ino,
		.volume = handle->volume,
		.backend_type = handle->backend_type,
		.backend = { .backend_len = handle->backend_len, .backend_val = malloc(HANDLE_BACKEND_MAX) },
	};
	if (!entry->name || !entry->backend.backend_val) {
		entry_fini(entry);
		return -ENOMEM;
	}
	memcpy(entry->backend.backend_val, handle->backend, handle->backend_len);
	job->listing.entries.entries_len++;
	return 0;
}

static bool on_entry(const struct backend_entry *entry, void *arg)
{
	struct job *job = arg;
	bool is_none = strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0 ||
		       /* gone since, or a file system that somebody has mounted here: no client could use it */
		       !entry->has_found || !entry->found.attributes.valid;

	if (job->listing.entries.entries_len == SCP_SPREAD_ENTRIES_MAX)
		return false;
	if (!is_none && add_entry(job, entry) < 0) {
		job->listing.result = ENOMEM;
		return false;
	}
	job->listing.cookie = entry->cookie;
	return true;
}

static void job_run(struct work *work)
{
	static const struct credentials root;
	struct job *job = (struct job *)work;
	struct backend_attributes after;
	uint64_t verifier = 0;
	bool is_last = false;
	int rc = job->volume->backend->readdir(job->volume, &root, &job->volume->root, job->listing.cookie, &verifier, true, on_entry,
					       job, &is_last, &after);

	job->listing.is_last = is_last;
	if (rc < 0)
		job->listing.result = -rc;
}

static void job_done(struct work *work)
{
	struct job *job = (struct job *)work;

	job->done(&job->listing, job->arg);
	for (u_int i = 0; i < job->listing.entries.entries_len; i++)
		entry_fini(&job->entries[i]);
	free(job);
}

static int job_begin(struct spread_follower *follower, struct volume *volume, const scp_spread_list *wanted,
		     void (*done)(const scp_spread_listing *listing, void *arg), void *arg)
{
	struct job *job = calloc(1, sizeof(*job));
	int rc;

	if (!job)
		return -ENOMEM;
	job->work = (struct work){ .lane = volume, .run = job_run, .done = job_done };
	job->volume = volume;
	job->listing.volume = wanted->volume;
	job->listing.cookie = wanted->cookie;
	job->listing.entries.entries_val = job->entries;
	job->done = done;
	job->arg = arg;
	rc = workers_submit(follower->options.workers, &job->work);
	if (rc < 0)
		free(job);
	return rc;
}

void spread_follower_list(struct spread_follower *follower, const scp_spread_list *wanted,
			  void (*done)(const scp_spread_listing *listing, void *arg), void *arg)
{
	struct volume *volume = volumes_find(follower->options.volumes, wanted->volume);
	scp_spread_listing failed = { .volume = wanted->volume };
	int rc = !volume ? -ENODEV : follower->options.is_settled(follower->options.arg) ? 0 : -EBUSY;

	if (rc == 0)
		rc = job_begin(follower, volume, wanted, done, arg);
	failed.result = -rc;
	if (rc < 0)
		done(&failed, arg);
}

struct asked {
	struct spread_follower *follower;
	uint32_t request;
};

static void tell_listing(const scp_spread_listing *listing, void *arg)
{
	struct asked *asked = arg;
	scp_message message = { .type = SCP_SPREAD_LISTING };

	message.scp_message_u.spread_listing = *listing;
	asked->follower->options.send(asked->request, &message, asked->follower->options.arg);
	free(asked);
}

static void received_list(struct spread_follower *follower, uint32_t request, const scp_spread_list *wanted)
{
	struct asked *asked = malloc(sizeof(*asked));

	if (!asked)
		return; /* the master asks again */
	*asked = (struct asked){ follower, request };
	spread_follower_list(follower, wanted, tell_listing, asked);
}

void spread_follower_received(struct spread_follower *follower, uint32_t request, const scp_message *message)
{
	if (message->type == SCP_SPREAD_UPDATE)
		received_update(follower, &message->scp_message_u.spread_update);
	else if (message->type == SCP_SPREAD_LIST)
		received_list(follower, request, &message->scp_message_u.spread_list);
}

/* Life */

struct spread_follower *spread_follower_new(const struct spread_follower_options *options)
{
	struct spread_follower *follower = calloc(1, sizeof(*follower));

	if (!follower)
		return NULL;
	follower->options = *options;
	LIST_INIT(&follower->coming);
	return follower;
}

void spread_follower_free(struct spread_follower *follower)
{
	while (follower && !LIST_EMPTY(&follower->coming))
		whole_free(LIST_FIRST(&follower->coming));
	free(follower);
}
