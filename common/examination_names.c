/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/examination_names.h"

#include "common/siphash.h"

#include <grp.h>
#include <inttypes.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

enum { NOBODY = 65534, NO_ID = 65535, LINE_ROOM = 320 };

/* getpwent_r(3) has one position for the whole process. */
static pthread_mutex_t enumerating = PTHREAD_MUTEX_INITIALIZER;

/* What is done with each of them. */
struct listing {
	const char *area; /* "user" */
	bool one_by_one;
	size_t count;
	uint64_t digest;
	struct examination_facts *out;
};

static bool is_of_people(unsigned int id)
{
	return id >= EXAMINATION_ID_LEAST && id != NOBODY && id != NO_ID && id != UINT32_MAX;
}

/*
 * The digest is the sum of the hashes of all: the same in any order. Nobody is to be kept from making two that agree: whoever can make
 * users can do worse.
 */
static void take(struct listing *listing, const char *name, unsigned int id)
{
	static const uint8_t key[SIPHASH_KEY_BYTES];
	char line[LINE_ROOM];
	size_t len;

	if (!is_of_people(id) || listing->count++ >= EXAMINATION_NAMES_MAX)
		return;
	if (listing->one_by_one) {
		examination_put(listing->out, listing->area, name, "%u", id);
		return;
	}
	snprintf(line, sizeof(line), "%u:%s", id, name);
	len = strlen(line);
	listing->digest += siphash(key, (const uint8_t *)line, len);
}

static void finish(const struct listing *listing, const char *subject)
{
	if (!listing->one_by_one && listing->count <= EXAMINATION_NAMES_MAX)
		examination_put(listing->out, "digest", subject, "%016" PRIx64, listing->digest);
}

static void list_users(bool one_by_one, struct examination_facts *out)
{
	struct listing listing = { .area = "user", .one_by_one = one_by_one, .out = out };
	const struct passwd *user;

	setpwent();
	while (listing.count <= EXAMINATION_NAMES_MAX && (user = getpwent()))
		take(&listing, user->pw_name, user->pw_uid);
	endpwent();
	finish(&listing, "users");
}

static void list_groups(bool one_by_one, struct examination_facts *out)
{
	struct listing listing = { .area = "group", .one_by_one = one_by_one, .out = out };
	const struct group *group;

	setgrent();
	while (listing.count <= EXAMINATION_NAMES_MAX && (group = getgrent()))
		take(&listing, group->gr_name, group->gr_gid);
	endgrent();
	finish(&listing, "groups");
}

void examination_names_find(bool one_by_one, struct examination_facts *out)
{
	pthread_mutex_lock(&enumerating);
	list_users(one_by_one, out);
	list_groups(one_by_one, out);
	pthread_mutex_unlock(&enumerating);
}
