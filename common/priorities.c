/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/priorities.h"

#include "common/ip_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1000000000ULL

enum {
	BURST_MS = 100, /* so much of a limit may be used at once */
	WAIT_MAX_MS = 5000, /* more is not kept waiting here: a client that is told to come again waits itself */
};

enum member_kind { MEMBER_NETWORK, MEMBER_USER, MEMBER_EXPORT };

struct member {
	enum member_kind kind;
	struct ip_network network;
	uint32_t uid;
	const char *path; /* borrows the name space's text: up to a blank */
	size_t path_len;
};

struct class {
	uint16_t weight;
	uint64_t operations, bytes; /* a second; 0: no limit */
	size_t member_count;
	struct member members[PRIORITIES_MEMBERS_MAX];
};

/* The classes that mean all of a volume, as bits. */
struct volume_classes {
	uint32_t volume;
	uint16_t classes;
};

struct priorities {
	const struct namespace *ns;
	struct priorities_meters *meters;
	uint64_t revision; /* of the name space, when this was made */
	size_t count;
	struct class classes[PRIORITIES_MAX];
	struct volume_classes *volumes; /* by volume; NULL: no class has exports */
	size_t volume_count;
};

/* Members */

static int __attribute__((format(printf, 2, 3))) refuse(char *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, PRIORITIES_WHY_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

/* A word of @len bytes. @why may be NULL */
static int member_parse(const char *word, size_t len, struct member *out, char *why)
{
	static const char network[] = "network=", user[] = "user=", export[] = "export=/";
	char text[IP_NETWORK_TEXT_MAX] = "", scratch[PRIORITIES_WHY_MAX], *end;
	const char *value = memchr(word, '=', len);
	unsigned long long uid;

	why = why ?: scratch;
	if (value && (size_t)(word + len - value - 1) < sizeof(text))
		memcpy(text, value + 1, (size_t)(word + len - value - 1));
	if (strncmp(word, network, sizeof(network) - 1) == 0 && ip_network_parse(text, &out->network) == 0) {
		out->kind = MEMBER_NETWORK;
		return 0;
	}
	uid = strtoull(text, &end, 10);
	if (strncmp(word, user, sizeof(user) - 1) == 0 && text[0] >= '0' && text[0] <= '9' && !*end && uid < UINT32_MAX) {
		out->kind = MEMBER_USER;
		out->uid = (uint32_t)uid;
		return 0;
	}
	if (strncmp(word, export, sizeof(export) - 1) == 0) {
		out->kind = MEMBER_EXPORT;
		out->path = value + 1;
		out->path_len = (size_t)(word + len - value - 1);
		while (out->path_len && out->path[out->path_len - 1] == '/')
			out->path_len--;
		return 0;
	}
	return refuse(why, "\"%.*s\" is no member of a class; it would be network=ADDRESS/BITS, user=UID or export=PATH",
		      (int)(len < 100 ? len : 100), word);
}

static int members_parse(const char *members, struct class *out, char *why)
{
	size_t len;

	for (const char *word = members; *(word += strspn(word, " ")); word += len) {
		int rc;

		len = strcspn(word, " ");
		if (out->member_count == PRIORITIES_MEMBERS_MAX)
			return why ? refuse(why, "a class has at most %d members", PRIORITIES_MEMBERS_MAX) : -EINVAL;
		rc = member_parse(word, len, &out->members[out->member_count], why);
		if (rc < 0)
			return rc;
		out->member_count++;
	}
	return 0;
}

int priorities_check(const char *members, char why[static PRIORITIES_WHY_MAX])
{
	struct class class = { 0 };
	int rc = members_parse(members, &class, why);

	return rc ?: class.member_count ? 0 : refuse(why, "a class needs members: network=ADDRESS/BITS, user=UID or export=PATH");
}

/* The table */

/* Is a volume at @place wholly in the export? */
static bool is_inside(const struct member *member, const char *place)
{
	return member->kind == MEMBER_EXPORT && strncmp(member->path, place, member->path_len) == 0 &&
	       (place[member->path_len] == '/' || place[member->path_len] == '\0');
}

static uint16_t classes_of(const struct priorities *priorities, const char *place)
{
	uint16_t classes = 0;

	for (size_t i = 0; i < priorities->count; i++)
		for (size_t j = 0; j < priorities->classes[i].member_count; j++)
			if (is_inside(&priorities->classes[i].members[j], place))
				classes |= (uint16_t)(1u << i);
	return classes;
}

static void volumes_fill(struct priorities *priorities)
{
	const ns_volume *volume;
	char path[NS_TEXT_MAX];
	size_t count = 0;

	while (namespace_next_volume(priorities->ns, &count))
		;
	priorities->volumes = calloc(count + 1, sizeof(*priorities->volumes));
	for (size_t at = 0; priorities->volumes && (volume = namespace_next_volume(priorities->ns, &at));) {
		const ns_entry *entry = namespace_place(priorities->ns, volume->id);
		uint16_t classes = entry && namespace_path(priorities->ns, entry, path) == 0 ? classes_of(priorities, path) : 0;

		if (classes)
			priorities->volumes[priorities->volume_count++] = (struct volume_classes){ volume->id, classes };
	}
}

/* Without memory no volume is in a class: a call is served, only not in its turn. */
static void table_make(struct priorities *priorities)
{
	const ns_class *from;

	free(priorities->volumes);
	priorities->volumes = NULL;
	priorities->volume_count = priorities->count = 0;
	for (size_t at = 0; priorities->count < PRIORITIES_MAX && (from = namespace_next_class(priorities->ns, &at));) {
		struct class *class = &priorities->classes[priorities->count++];

		*class = (struct class){
			.weight = (uint16_t)from->weight, .operations = from->operations, .bytes = from->bytes
		};
		members_parse(from->members, class, NULL);
	}
	if (priorities->count)
		volumes_fill(priorities);
	priorities->revision = namespace_revision(priorities->ns);
}

struct priorities *priorities_new(const struct namespace *ns, struct priorities_meters *meters)
{
	struct priorities *priorities = calloc(1, sizeof(*priorities));

	if (priorities) {
		priorities->ns = ns;
		priorities->meters = meters;
		table_make(priorities);
	}
	return priorities;
}

void priorities_free(struct priorities *priorities)
{
	if (!priorities)
		return;
	free(priorities->volumes);
	free(priorities);
}

/* Calls */

static void client_address(const struct sockaddr_storage *client, uint8_t out[static 16])
{
	const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)client;

	memset(out, 0, 16);
	if (client->ss_family == AF_INET) {
		out[10] = out[11] = 0xff;
		memcpy(out + 12, &ipv4->sin_addr, 4);
	} else if (client->ss_family == AF_INET6) {
		memcpy(out, &((const struct sockaddr_in6 *)client)->sin6_addr, 16);
	}
}

static bool is_in_network(const struct ip_network *network, const uint8_t address[static 16])
{
	unsigned int whole = network->bits / 8, rest = network->bits % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);

	if (memcmp(network->address, address, whole) != 0)
		return false;
	return !rest || ((network->address[whole] ^ address[whole]) & mask) == 0;
}

static int volume_compare(const void *a, const void *b)
{
	uint32_t volume_a = ((const struct volume_classes *)a)->volume, volume_b = ((const struct volume_classes *)b)->volume;

	return volume_a < volume_b ? -1 : volume_a > volume_b;
}

/* Index of a class; the count if there is none. */
static size_t find_class(const struct priorities *priorities, const struct priorities_call *call)
{
	const struct volume_classes key = { .volume = call->volume }, *of_volume = NULL;
	uint8_t address[16];

	client_address(call->client, address);
	if (priorities->volume_count)
		of_volume = bsearch(&key, priorities->volumes, priorities->volume_count, sizeof(key), volume_compare);
	for (size_t i = 0; i < priorities->count; i++) {
		const struct class *class = &priorities->classes[i];

		if (of_volume && of_volume->classes & 1u << i)
			return i;
		for (size_t j = 0; j < class->member_count; j++) {
			const struct member *member = &class->members[j];

			if ((member->kind == MEMBER_NETWORK && is_in_network(&member->network, address)) ||
			    (member->kind == MEMBER_USER && member->uid == call->uid))
				return i;
		}
	}
	return priorities->count;
}

/*
 * When @amount more may go on, if @limit of it may in a second: by the time at which all that was let through is used up. What
 * several threads add at once is added one after the other. Return: nanoseconds to wait; UINT64_MAX: too long, nothing was added
 */
static uint64_t meter_add(uint64_t *used_up_ns, uint64_t amount, uint64_t limit, uint64_t now_ns)
{
	uint64_t before = __atomic_load_n(used_up_ns, __ATOMIC_RELAXED), start, wait;

	if (!limit || !amount)
		return 0;
	do {
		start = before > now_ns ? before : now_ns;
		wait = start - now_ns > BURST_MS * 1000000ULL ? start - now_ns - BURST_MS * 1000000ULL : 0;
		if (wait > WAIT_MAX_MS * 1000000ULL)
			return UINT64_MAX;
	} while (!__atomic_compare_exchange_n(used_up_ns, &before, start + amount * SECOND_NS / limit, true, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return wait;
}

static uint32_t wait_for_limits(struct priorities *priorities, size_t number, const struct class *class, uint64_t bytes,
				uint64_t now_ns)
{
	uint64_t operations = meter_add(&priorities->meters->classes[number].operations_ns, 1, class->operations, now_ns);
	uint64_t moved = operations == UINT64_MAX ? UINT64_MAX :
		meter_add(&priorities->meters->classes[number].bytes_ns, bytes, class->bytes, now_ns);
	uint64_t longer = operations > moved ? operations : moved;

	return longer == UINT64_MAX ? UINT32_MAX : (uint32_t)((longer + 999999) / 1000000);
}

struct priorities_place priorities_note(struct priorities *priorities, const struct priorities_call *call,
					uint64_t (*now_us)(void))
{
	struct priorities_place place = { .weight = PRIORITIES_WEIGHT };
	const struct class *class;
	size_t at;

	if (priorities->revision != namespace_revision(priorities->ns))
		table_make(priorities);
	if (!priorities->count)
		return place;
	at = find_class(priorities, call);
	if (at == priorities->count)
		return place;
	class = &priorities->classes[at];
	place.number = (uint8_t)(at + 1);
	place.weight = class->weight;
	if ((class->operations || class->bytes) && !call->has_waited)
		place.wait_ms = wait_for_limits(priorities, at + 1, class, call->bytes, now_us() * 1000);
	return place;
}
