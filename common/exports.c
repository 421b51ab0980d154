/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/exports.h"

#include "common/log.h"
#include "common/name_service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRIVILEGED_PORTS = 1024, NO_ID = UINT32_MAX };

/* An address of either family; IPv4 is kept IPv4-mapped. */
struct address {
	uint8_t bytes[16];
	uint16_t port;
};

struct export {
	uint32_t id;
	char *path; /* without slashes at the end; "" is the whole tree */
	struct export_rule *rules;
	size_t rule_count;
};

/* What concerns a volume, by the place that counts: the export that holds its root, and those that lead into it. */
struct place {
	uint32_t volume;
	uint64_t entry;
	const struct export *whole; /* or NULL */
	size_t first, end;	    /* of exports.list */
	size_t path_len;	    /* of the volume's place, and a slash: what their paths have in front */
};

struct exports {
	const struct namespace *ns;
	struct name_service *names;
	bool is_made;
	uint64_t revision; /* of the name space, when this was made */
	struct export *list; /* by path */
	size_t count;
	struct place *places; /* by volume */
	size_t place_count;
};

/* --- the table --- */

static void table_clear(struct exports *exports)
{
	for (size_t i = 0; i < exports->count; i++) {
		free(exports->list[i].path);
		free(exports->list[i].rules);
	}
	free(exports->list);
	free(exports->places);
	exports->list = NULL;
	exports->places = NULL;
	exports->count = exports->place_count = 0;
	exports->is_made = false;
}

/* A list that exports_check() would not have let in exports to nobody: it has no rules. */
static int export_fill(const ns_export *from, struct export *out)
{
	char why[EXPORT_WHY_MAX];
	size_t len = strlen(from->path);
	int rc;

	*out = (struct export){ .id = from->id };
	rc = export_rules_parse(from->clients, &out->rules, &out->rule_count, why, sizeof(why));
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0)
		log_err("exports", "path=%s is exported to nobody: %s", from->path, why);
	while (len && from->path[len - 1] == '/')
		len--;
	out->path = strndup(from->path, len);
	if (!out->path) {
		free(out->rules);
		return -ENOMEM;
	}
	return 0;
}

static int export_compare(const void *a, const void *b)
{
	return strcmp(((const struct export *)a)->path, ((const struct export *)b)->path);
}

static int list_fill(struct exports *exports)
{
	const ns_export *export;
	size_t count = 0;

	for (size_t at = 0; namespace_next_export(exports->ns, &at);)
		count++;
	exports->list = calloc(count + 1, sizeof(*exports->list));
	if (!exports->list)
		return -ENOMEM;
	for (size_t at = 0; (export = namespace_next_export(exports->ns, &at)); exports->count++) {
		int rc = export_fill(export, &exports->list[exports->count]);

		if (rc < 0)
			return rc;
	}
	qsort(exports->list, exports->count, sizeof(*exports->list), export_compare);
	return 0;
}

/* The first position whose path is not below @path. */
static size_t list_position(const struct exports *exports, const char *path)
{
	size_t low = 0, high = exports->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(exports->list[middle].path, path) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The export with the longest path that is @path or leads to it. Shortens @path. */
static const struct export *list_longest(const struct exports *exports, char *path)
{
	for (char *slash = path + strlen(path); slash; slash = strrchr(path, '/')) {
		size_t at;

		*slash = '\0';
		at = list_position(exports, path);
		if (at < exports->count && strcmp(exports->list[at].path, path) == 0)
			return &exports->list[at];
	}
	return NULL;
}

static int place_fill(const struct exports *exports, const ns_entry *entry, struct place *out)
{
	char path[NS_TEXT_MAX + 2];
	size_t len;
	int rc = namespace_path(exports->ns, entry, path);

	if (rc < 0)
		return rc;
	len = strlen(path);
	path[len++] = '/';
	path[len] = '\0';
	*out = (struct place){ .volume = entry->volume, .entry = entry->id, .path_len = len };
	out->first = out->end = list_position(exports, path);
	while (out->end < exports->count && strncmp(exports->list[out->end].path, path, len) == 0)
		out->end++;
	path[len - 1] = '\0';
	out->whole = list_longest(exports, path);
	return 0;
}

/* By volume; of one volume's places first those that are exported, then the oldest. */
static int place_compare(const void *a, const void *b)
{
	const struct place *place_a = a, *place_b = b;

	if (place_a->volume != place_b->volume)
		return place_a->volume < place_b->volume ? -1 : 1;
	if (!place_a->whole != !place_b->whole)
		return place_a->whole ? -1 : 1;
	return place_a->entry < place_b->entry ? -1 : place_a->entry > place_b->entry;
}

static int volume_compare(const void *a, const void *b)
{
	uint32_t volume_a = ((const struct place *)a)->volume, volume_b = ((const struct place *)b)->volume;

	return volume_a < volume_b ? -1 : volume_a > volume_b;
}

/* A handle does not tell by which of a volume's places a client came: one of them decides. */
static void places_choose(struct exports *exports)
{
	size_t kept = 0;

	qsort(exports->places, exports->place_count, sizeof(*exports->places), place_compare);
	for (size_t i = 0; i < exports->place_count; i++)
		if (!kept || exports->places[kept - 1].volume != exports->places[i].volume)
			exports->places[kept++] = exports->places[i];
	exports->place_count = kept;
}

static size_t count_branches(const struct namespace *ns, uint32_t spread)
{
	const ns_branch *branch;
	size_t count = 0;

	for (size_t at = 0; (branch = namespace_next_branch(ns, &at));)
		count += branch->spread == spread;
	return count;
}

/* A branch of a spread directory has the directory's places, and the same paths below them. */
static void branches_fill(struct exports *exports, const struct place *place)
{
	const ns_branch *branch;
	const ns_volume *volume;

	for (size_t at = 0; (branch = namespace_next_branch(exports->ns, &at));) {
		volume = branch->spread == place->volume ? namespace_volume_by_uuid(exports->ns, (const uint8_t *)branch->uuid) : NULL;
		if (!volume)
			continue;
		exports->places[exports->place_count] = *place;
		exports->places[exports->place_count++].volume = volume->id;
	}
}

static int places_fill(struct exports *exports)
{
	const ns_entry *entry;
	size_t count = 0;

	for (size_t at = 0; (entry = namespace_next_entry(exports->ns, &at));)
		count += entry->volume != NAMESPACE_ROOT_VOLUME ? 1 + count_branches(exports->ns, entry->volume) : 0;
	exports->places = calloc(count + 1, sizeof(*exports->places));
	if (!exports->places)
		return -ENOMEM;
	/* A path too long to be told exports nothing. */
	for (size_t at = 0; (entry = namespace_next_entry(exports->ns, &at));)
		if (entry->volume != NAMESPACE_ROOT_VOLUME)
			if (place_fill(exports, entry, &exports->places[exports->place_count]) == 0)
				branches_fill(exports, &exports->places[exports->place_count++]);
	places_choose(exports);
	return 0;
}

/* Nothing to do but after a change of the name space. */
static int table_follow(struct exports *exports)
{
	int rc;

	if (exports->is_made && exports->revision == namespace_revision(exports->ns))
		return 0;
	table_clear(exports);
	rc = list_fill(exports);
	if (rc == 0)
		rc = places_fill(exports);
	if (rc < 0) {
		table_clear(exports);
		return rc;
	}
	exports->revision = namespace_revision(exports->ns);
	exports->is_made = true;
	return 0;
}

static const struct place *place_of(const struct exports *exports, uint32_t volume)
{
	const struct place key = { .volume = volume };

	return bsearch(&key, exports->places, exports->place_count, sizeof(key), volume_compare);
}

struct exports *exports_new(const struct namespace *ns, struct name_service *names)
{
	struct exports *exports = calloc(1, sizeof(*exports));

	if (exports) {
		exports->ns = ns;
		exports->names = names;
	}
	return exports;
}

void exports_free(struct exports *exports)
{
	if (!exports)
		return;
	table_clear(exports);
	free(exports);
}

/* --- questions --- */

static int address_of(const struct sockaddr_storage *client, struct address *out)
{
	const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)client;
	const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)client;

	switch (client->ss_family) {
	case AF_INET:
		memset(out->bytes, 0, 10);
		out->bytes[10] = out->bytes[11] = 0xff;
		memcpy(out->bytes + 12, &ipv4->sin_addr, 4);
		out->port = ntohs(ipv4->sin_port);
		return 0;
	case AF_INET6:
		memcpy(out->bytes, &ipv6->sin6_addr, sizeof(out->bytes));
		out->port = ntohs(ipv6->sin6_port);
		return 0;
	default:
		return -EACCES;
	}
}

static bool is_in_network(const struct export_rule *rule, const uint8_t address[static 16])
{
	unsigned int whole = rule->prefix_bits / 8, rest = rule->prefix_bits % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);

	if (memcmp(rule->address, address, whole) != 0)
		return false;
	return !rest || ((rule->address[whole] ^ address[whole]) & mask) == 0;
}

static enum name_answer matches(const struct exports *exports, const struct export_rule *rule,
				const struct address *client)
{
	if (rule->client == EXPORT_ANYBODY)
		return NAME_YES;
	if (!rule->name[0])
		return is_in_network(rule, client->bytes) ? NAME_YES : NAME_NO;
	if (!exports->names)
		return NAME_FAILED;
	if (rule->client == EXPORT_HOST)
		return name_service_is_host(exports->names, rule->name, client->bytes);
	if (rule->client == EXPORT_WILDCARD)
		return name_service_matches(exports->names, client->bytes, rule->name);
	return name_service_is_in_netgroup(exports->names, client->bytes, rule->name);
}

/* In the order of precedence: one of which it is not known whether it is true holds up those behind it. */
static int export_rights(const struct exports *exports, const struct export *export, const struct address *client,
			 struct export_rights *out)
{
	for (size_t i = 0; export && i < export->rule_count; i++) {
		const struct export_rule *rule = &export->rules[i];

		switch (matches(exports, rule, client)) {
		case NAME_NO:
			continue;
		case NAME_ASKED:
			return EXPORTS_UNKNOWN;
		case NAME_FAILED:
			return -EINPROGRESS;
		case NAME_YES:
			if (rule->rights.secure && client->port >= PRIVILEGED_PORTS)
				return -EACCES;
			*out = rule->rights;
			return 0;
		}
	}
	return -EACCES;
}

/* Whoever may enter any export may walk the way there, and change nothing. */
static int root_rights(const struct exports *exports, const struct address *client, struct export_rights *out)
{
	struct export_rights rights;
	int result = -EACCES;

	for (size_t i = 0; i < exports->count; i++) {
		int rc = export_rights(exports, &exports->list[i], client, &rights);

		if (rc == 0) {
			rights.may_write = false;
			*out = rights;
			return 0;
		}
		if (rc != -EACCES && result != EXPORTS_UNKNOWN)
			result = rc;
	}
	return result;
}

static bool is_same(const struct export_rights *a, const struct export_rights *b)
{
	return a->may_write == b->may_write && a->root_squash == b->root_squash && a->all_squash == b->all_squash &&
	       a->secure == b->secure && a->manage_gids == b->manage_gids && a->anonymous_uid == b->anonymous_uid &&
	       a->anonymous_gid == b->anonymous_gid;
}

/* Return: as exports_rights() */
static int place_rights(const struct exports *exports, const struct place *place, const struct address *client,
			struct export_rights *out)
{
	struct export_rights whole = { 0 }, part = { 0 };
	int rc = export_rights(exports, place->whole, client, &whole);

	if (rc == EXPORTS_UNKNOWN || rc == -EINPROGRESS)
		return rc;
	for (size_t i = place->first; i < place->end; i++) {
		int part_rc = export_rights(exports, &exports->list[i], client, &part);

		if (part_rc == EXPORTS_UNKNOWN || part_rc == -EINPROGRESS)
			return part_rc;
		if (part_rc != rc || (rc == 0 && !is_same(&whole, &part)))
			return EXPORTS_PLACE;
	}
	if (rc == 0)
		*out = whole;
	return rc;
}

int exports_rights(struct exports *exports, uint32_t volume, const struct sockaddr_storage *client,
		   struct export_rights *out)
{
	const struct place *place;
	struct address address;
	int rc = table_follow(exports);

	if (rc < 0)
		return rc;
	if (address_of(client, &address) < 0)
		return -EACCES;
	if (volume == NAMESPACE_ROOT_VOLUME)
		return root_rights(exports, &address, out);
	place = place_of(exports, volume);
	return place ? place_rights(exports, place, &address, out) : -EACCES;
}

/* Is @path, or what leads to it, @prefix? */
static bool leads_to(const char *prefix, const char *path)
{
	size_t len = strlen(prefix);

	return strncmp(prefix, path, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Into components with one slash between. Return: 0; -EACCES for ".." and what is too long */
static int path_clean(const char *path, char out[static PATH_MAX])
{
	size_t len = 0;

	while (*(path += strspn(path, "/"))) {
		size_t name_len = strcspn(path, "/");

		if (len + name_len + 2 > PATH_MAX || (name_len == 2 && memcmp(path, "..", 2) == 0))
			return -EACCES;
		if (name_len != 1 || *path != '.') {
			len += (size_t)snprintf(out + len, PATH_MAX - len, "%s%.*s", len ? "/" : "", (int)name_len, path);
		}
		path += name_len;
	}
	out[len] = '\0';
	return 0;
}

int exports_rights_at(struct exports *exports, uint32_t volume, const char *path, const struct sockaddr_storage *client,
		      struct export_rights *out, uint32_t *export_id)
{
	const struct export *deciding;
	const struct place *place;
	struct address address;
	char clean[PATH_MAX];
	int rc = table_follow(exports);

	if (rc == 0)
		rc = path_clean(path, clean);

	if (rc < 0)
		return rc;
	place = place_of(exports, volume);
	if (!place || address_of(client, &address) < 0)
		return -EACCES;
	deciding = place->whole;
	/* Longer paths come later. */
	for (size_t i = place->first; i < place->end; i++)
		if (leads_to(exports->list[i].path + place->path_len, clean))
			deciding = &exports->list[i];
	rc = export_rights(exports, deciding, &address, out);
	if (rc == 0 && export_id)
		*export_id = deciding->id;
	return rc;
}

bool exports_divide(struct exports *exports, uint32_t volume)
{
	const struct place *place = table_follow(exports) == 0 ? place_of(exports, volume) : NULL;

	return place && place->first < place->end;
}

bool exports_name(struct exports *exports, uint32_t volume, const char *path)
{
	const struct place *place = table_follow(exports) == 0 ? place_of(exports, volume) : NULL;
	char clean[PATH_MAX];

	if (!place || path_clean(path, clean) < 0)
		return false;
	for (size_t i = place->first; i < place->end; i++)
		if (leads_to(clean, exports->list[i].path + place->path_len))
			return true;
	return false;
}

static void client_text(const struct export_rule *rule, char *text)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool ipv4 = memcmp(rule->address, mapped, sizeof(mapped)) == 0 && rule->prefix_bits >= 8 * sizeof(mapped);
	char address[INET6_ADDRSTRLEN] = "";

	if (rule->client == EXPORT_ANYBODY || rule->name[0]) {
		snprintf(text, EXPORT_NAME_MAX + 2, "%s%s", rule->client == EXPORT_NETGROUP ? "@" : "",
			 rule->name[0] ? rule->name : "*");
		return;
	}
	inet_ntop(ipv4 ? AF_INET : AF_INET6, rule->address + (ipv4 ? 12 : 0), address, sizeof(address));
	if (rule->client == EXPORT_HOST)
		snprintf(text, EXPORT_NAME_MAX + 2, "%s", address);
	else
		snprintf(text, EXPORT_NAME_MAX + 2, "%s/%u", address, rule->prefix_bits - (ipv4 ? 96 : 0));
}

bool exports_next_client(struct exports *exports, const ns_export *export, size_t *at, char *text)
{
	if (table_follow(exports) < 0)
		return false;
	for (size_t i = 0; i < exports->count; i++) {
		if (exports->list[i].id != export->id)
			continue;
		if (*at == exports->list[i].rule_count)
			return false;
		client_text(&exports->list[i].rules[(*at)++], text);
		return true;
	}
	return false;
}

int exports_check(const char *clients, char *why, size_t why_size)
{
	struct export_rule *rules = NULL;
	size_t count;
	int rc = export_rules_parse(clients, &rules, &count, why, why_size);

	free(rules);
	return rc;
}

static void squash_id(uint32_t *id, bool root_squash, uint32_t anonymous)
{
	if (*id == NO_ID || (*id == 0 && root_squash))
		*id = anonymous;
}

void exports_squash(const struct export_rights *rights, bool is_nobody, struct credentials *who)
{
	if (rights->all_squash || is_nobody) {
		*who = (struct credentials){ .uid = rights->anonymous_uid, .gid = rights->anonymous_gid };
		return;
	}
	squash_id(&who->uid, rights->root_squash, rights->anonymous_uid);
	squash_id(&who->gid, rights->root_squash, rights->anonymous_gid);
	for (uint32_t i = 0; i < who->group_count; i++)
		squash_id(&who->groups[i], rights->root_squash, rights->anonymous_gid);
}
