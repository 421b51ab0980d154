/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/name_service.h"

#include "common/clock.h"
#include "common/workers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fnmatch.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BUCKETS = 4096, ADDRESSES_MAX = 16, NSS_BUFFER_BYTES = 65536 };

enum question_kind { ASK_HOST, ASK_NAME, ASK_NETGROUP, ASK_GROUPS };

/* What is asked: of an address, a name, both, or a user. The rest is zero, so that keys can be compared whole. */
struct question {
	enum question_kind kind;
	uint32_t uid;
	uint8_t address[16];
	char name[NAME_SERVICE_NAME_MAX + 1];
};

struct answer {
	int rc; /* 0, or why there is none */
	bool is_member;
	unsigned int address_count;
	uint8_t addresses[ADDRESSES_MAX][16];
	char name[NAME_SERVICE_NAME_MAX + 1]; /* empty: the address has none that leads back to it */
	struct group_set *groups, *groups_without_root;
};

struct entry {
	TAILQ_ENTRY(entry) by_use;
	LIST_ENTRY(entry) in_bucket;
	struct question question;
	bool is_asked; /* a look-up runs */
	uint64_t answered_ms, tried_ms;
	struct answer *answer; /* NULL: none yet */
};

TAILQ_HEAD(waiters, name_waiter);

struct name_service {
	struct workers *workers;
	TAILQ_HEAD(, entry) entries; /* used last at the end */
	LIST_HEAD(, entry) buckets[BUCKETS];
	size_t count;
	struct waiters waiters;
	bool stopping; /* read by the threads, too */
};

/* --- on a thread --- */

struct lookup {
	struct work work;
	struct name_service *names;
	struct entry *entry; /* stays until the answer is there */
	struct question question;
	struct answer *answer;
};

static socklen_t endpoint(const uint8_t address[static 16], struct sockaddr_storage *out)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)out;
	struct sockaddr_in *ipv4 = (struct sockaddr_in *)out;

	*out = (struct sockaddr_storage){ 0 };
	if (memcmp(address, mapped, sizeof(mapped)) == 0) {
		ipv4->sin_family = AF_INET;
		memcpy(&ipv4->sin_addr, address + sizeof(mapped), 4);
		return sizeof(*ipv4);
	}
	ipv6->sin6_family = AF_INET6;
	memcpy(&ipv6->sin6_addr, address, 16);
	return sizeof(*ipv6);
}

static int error_of(int gai)
{
	switch (gai) {
	case 0:
		return 0;
	case EAI_NONAME:
	case EAI_NODATA:
		return -ENOENT;
	case EAI_MEMORY:
		return -ENOMEM;
	default:
		return -ETIMEDOUT;
	}
}

static void note_address(struct answer *answer, const struct sockaddr *found)
{
	uint8_t *out = answer->addresses[answer->address_count];

	if (found->sa_family == AF_INET6) {
		memcpy(out, &((const struct sockaddr_in6 *)found)->sin6_addr, 16);
	} else {
		memset(out, 0, 10);
		out[10] = out[11] = 0xff;
		memcpy(out + 12, &((const struct sockaddr_in *)found)->sin_addr, 4);
	}
	answer->address_count++;
}

/* A host that does not exist has no address; that is an answer. */
static int look_up_host(const char *name, struct answer *answer)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	int rc = error_of(getaddrinfo(name, NULL, &hints, &found));

	answer->address_count = 0;
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	for (struct addrinfo *at = found; at && answer->address_count < ADDRESSES_MAX; at = at->ai_next)
		if (at->ai_family == AF_INET || at->ai_family == AF_INET6)
			note_address(answer, at->ai_addr);
	freeaddrinfo(found);
	return 0;
}

static bool has_address(const struct answer *answer, const uint8_t address[static 16])
{
	for (unsigned int i = 0; i < answer->address_count; i++)
		if (memcmp(answer->addresses[i], address, 16) == 0)
			return true;
	return false;
}

/* Whoever owns the address writes its name into the DNS; the owner of the name must agree. */
static int look_up_name(const uint8_t address[static 16], struct answer *answer)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint(address, &ss);
	char name[NI_MAXHOST];
	int rc = error_of(getnameinfo((struct sockaddr *)&ss, len, name, sizeof(name), NULL, 0, NI_NAMEREQD));

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	rc = look_up_host(name, answer);
	if (rc == 0 && has_address(answer, address) && strlen(name) <= NAME_SERVICE_NAME_MAX)
		strcpy(answer->name, name);
	return rc;
}

/* glibc's innetgr() is not safe in several threads. */
static bool is_in_netgroup(const char *netgroup, const char *host)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	int found;

	pthread_mutex_lock(&mutex);
	found = innetgr(netgroup, host, NULL, NULL);
	pthread_mutex_unlock(&mutex);
	return found;
}

static int look_up_netgroup(const struct question *question, struct answer *answer)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint(question->address, &ss);
	char text[NI_MAXHOST] = "", *dot;
	int rc;

	getnameinfo((struct sockaddr *)&ss, len, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
	answer->is_member = is_in_netgroup(question->name, text);
	if (answer->is_member)
		return 0;
	rc = look_up_name(question->address, answer);
	if (rc || !answer->name[0])
		return rc;
	answer->is_member = is_in_netgroup(question->name, answer->name);
	dot = strchr(answer->name, '.');
	if (answer->is_member || !dot)
		return 0;
	*dot = '\0';
	answer->is_member = is_in_netgroup(question->name, answer->name);
	return 0;
}

static int sets_make(const gid_t *groups, int count, struct answer *answer)
{
	uint32_t *others = calloc((size_t)count + 1, sizeof(*others));
	size_t other_count = 0;

	if (!others)
		return -ENOMEM;
	for (int i = 0; i < count; i++)
		if (groups[i] != 0)
			others[other_count++] = groups[i];
	answer->groups = group_set_new(groups, (size_t)count);
	answer->groups_without_root = group_set_new(others, other_count);
	free(others);
	return answer->groups && answer->groups_without_root ? 0 : -ENOMEM;
}

static int look_up_memberships(const struct passwd *user, struct answer *answer)
{
	int count = 64, rc = -ENOMEM;
	gid_t *groups = NULL;

	/* It says how many there are if there is no room. */
	for (int tries = 0; tries < 3; tries++) {
		gid_t *more = reallocarray(groups, (size_t)count, sizeof(*groups));

		if (!more)
			break;
		groups = more;
		if (getgrouplist(user->pw_name, user->pw_gid, groups, &count) >= 0) {
			rc = sets_make(groups, count, answer);
			break;
		}
		if (count > GROUP_SET_MAX)
			break;
	}
	free(groups);
	return rc;
}

static int look_up_groups(uint32_t uid, struct answer *answer)
{
	struct passwd user, *found = NULL;
	char *buffer = malloc(NSS_BUFFER_BYTES);
	int rc;

	if (!buffer)
		return -ENOMEM;
	rc = getpwuid_r(uid, &user, buffer, NSS_BUFFER_BYTES, &found);
	if (found)
		rc = look_up_memberships(found, answer);
	else if (rc == 0 || rc == ENOENT || rc == ESRCH)
		rc = sets_make(NULL, 0, answer);
	else
		rc = -ETIMEDOUT;
	free(buffer);
	return rc;
}

static int look_up(const struct question *question, struct answer *answer)
{
	switch (question->kind) {
	case ASK_HOST:
		return look_up_host(question->name, answer);
	case ASK_NAME:
		return look_up_name(question->address, answer);
	case ASK_NETGROUP:
		return look_up_netgroup(question, answer);
	case ASK_GROUPS:
		return look_up_groups(question->uid, answer);
	}
	return -EINVAL;
}

static void lookup_run(struct work *work)
{
	struct lookup *lookup = (struct lookup *)work;
	bool stopping = __atomic_load_n(&lookup->names->stopping, __ATOMIC_RELAXED);

	lookup->answer->rc = stopping ? -ECANCELED : look_up(&lookup->question, lookup->answer);
}

/* --- in the loop --- */

static void answer_free(struct answer *answer)
{
	if (!answer)
		return;
	group_set_put(answer->groups);
	group_set_put(answer->groups_without_root);
	free(answer);
}

static void entry_free(struct name_service *names, struct entry *entry)
{
	TAILQ_REMOVE(&names->entries, entry, by_use);
	LIST_REMOVE(entry, in_bucket);
	names->count--;
	answer_free(entry->answer);
	free(entry);
}

/* Those who come while others are told wait for the next time. */
static void tell_all(struct name_service *names)
{
	struct waiters waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct name_waiter *waiter;

	TAILQ_CONCAT(&waiters, &names->waiters, link);
	while ((waiter = TAILQ_FIRST(&waiters))) {
		TAILQ_REMOVE(&waiters, waiter, link);
		waiter->told(waiter);
	}
}

static void lookup_done(struct work *work)
{
	struct lookup *lookup = (struct lookup *)work;
	struct name_service *names = lookup->names;
	struct entry *entry = lookup->entry;

	entry->is_asked = false;
	entry->tried_ms = clock_monotonic_ms();
	if (lookup->answer->rc == 0 || !entry->answer) {
		answer_free(entry->answer);
		entry->answer = lookup->answer;
		entry->answered_ms = entry->tried_ms;
	} else {
		answer_free(lookup->answer);
	}
	free(lookup);
	tell_all(names);
}

/* A name server that does not answer holds up those who ask it, not those whose groups are in a file. */
static void ask(struct name_service *names, struct entry *entry)
{
	static const char lanes[ASK_GROUPS + 1];
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	struct answer *answer = calloc(1, sizeof(*answer));

	if (!lookup || !answer) {
		free(lookup);
		free(answer);
		return;
	}
	*lookup = (struct lookup){
		.work = { .lane = &lanes[entry->question.kind], .run = lookup_run, .done = lookup_done },
		.names = names,
		.entry = entry,
		.question = entry->question,
		.answer = answer,
	};
	entry->is_asked = workers_submit(names->workers, &lookup->work) == 0;
	if (!entry->is_asked) {
		free(lookup);
		free(answer);
	}
}

/* FNV-1a: the questions are made of the exports', of addresses and of uids, nothing that a client could choose freely. */
static size_t bucket_of(const struct question *question)
{
	const uint8_t *bytes = (const uint8_t *)question;
	size_t len = offsetof(struct question, name) + strlen(question->name);
	uint64_t hash = 14695981039346656037u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * 1099511628211u;
	return hash % BUCKETS;
}

/* Those that are being looked up stay; there are never many, as the threads are few and clients wait. */
static void make_room(struct name_service *names)
{
	struct entry *entry, *next;

	for (entry = TAILQ_FIRST(&names->entries); entry && names->count >= NAME_SERVICE_ENTRIES; entry = next) {
		next = TAILQ_NEXT(entry, by_use);
		if (!entry->is_asked)
			entry_free(names, entry);
	}
}

static struct entry *entry_of(struct name_service *names, const struct question *question)
{
	size_t bucket = bucket_of(question);
	struct entry *entry;

	LIST_FOREACH(entry, &names->buckets[bucket], in_bucket)
		if (memcmp(&entry->question, question, sizeof(*question)) == 0)
			break;
	if (entry) {
		TAILQ_REMOVE(&names->entries, entry, by_use);
	} else {
		make_room(names);
		if (names->count >= NAME_SERVICE_ENTRIES)
			return NULL;
		entry = calloc(1, sizeof(*entry));
		if (!entry)
			return NULL;
		entry->question = *question;
		LIST_INSERT_HEAD(&names->buckets[bucket], entry, in_bucket);
		names->count++;
	}
	TAILQ_INSERT_TAIL(&names->entries, entry, by_use);
	return entry;
}

/* NAME_YES: there is an answer, in @out */
static enum name_answer find(struct name_service *names, const struct question *question, const struct answer **out)
{
	struct entry *entry = entry_of(names, question);
	uint64_t now_ms = clock_monotonic_ms();
	bool has_answer, may_ask;

	if (!entry)
		return NAME_FAILED;
	has_answer = entry->answer && !entry->answer->rc && now_ms - entry->answered_ms < NAME_SERVICE_KEPT_MS;
	may_ask = !entry->tried_ms || now_ms - entry->tried_ms >= (has_answer ? NAME_SERVICE_FRESH_MS : NAME_SERVICE_RETRY_MS);
	if (!entry->is_asked && may_ask && !names->stopping)
		ask(names, entry);
	if (has_answer) {
		*out = entry->answer;
		return NAME_YES;
	}
	return entry->is_asked ? NAME_ASKED : NAME_FAILED;
}

static void name_note(struct question *question, const char *name)
{
	size_t len = strlen(name);

	memcpy(question->name, name, len < NAME_SERVICE_NAME_MAX ? len : NAME_SERVICE_NAME_MAX);
}

enum name_answer name_service_is_host(struct name_service *names, const char *host, const uint8_t address[static 16])
{
	struct question question = { .kind = ASK_HOST };
	const struct answer *answer;
	enum name_answer found;

	name_note(&question, host);
	found = find(names, &question, &answer);
	return found != NAME_YES ? found : has_address(answer, address) ? NAME_YES : NAME_NO;
}

enum name_answer name_service_matches(struct name_service *names, const uint8_t address[static 16],
				      const char *wildcard)
{
	struct question question = { .kind = ASK_NAME };
	const struct answer *answer;
	enum name_answer found;

	memcpy(question.address, address, 16);
	found = find(names, &question, &answer);
	if (found != NAME_YES)
		return found;
	if (!answer->name[0] || fnmatch(wildcard, answer->name, FNM_CASEFOLD | FNM_NOESCAPE) != 0)
		return NAME_NO;
	return NAME_YES;
}

enum name_answer name_service_is_in_netgroup(struct name_service *names, const uint8_t address[static 16],
					     const char *netgroup)
{
	struct question question = { .kind = ASK_NETGROUP };
	const struct answer *answer;
	enum name_answer found;

	memcpy(question.address, address, 16);
	name_note(&question, netgroup);
	found = find(names, &question, &answer);
	return found != NAME_YES ? found : answer->is_member ? NAME_YES : NAME_NO;
}

enum name_answer name_service_groups(struct name_service *names, uint32_t uid, bool without_root,
				     struct group_set **out)
{
	struct question question = { .kind = ASK_GROUPS, .uid = uid };
	const struct answer *answer;
	enum name_answer found = find(names, &question, &answer);

	if (found == NAME_YES)
		*out = without_root ? answer->groups_without_root : answer->groups;
	return found;
}

void name_service_wait(struct name_service *names, struct name_waiter *waiter)
{
	TAILQ_INSERT_TAIL(&names->waiters, waiter, link);
}

int name_service_new(struct event_base *base, struct name_service **out)
{
	struct name_service *names = calloc(1, sizeof(*names));
	int rc;

	if (!names)
		return -ENOMEM;
	TAILQ_INIT(&names->entries);
	TAILQ_INIT(&names->waiters);
	rc = workers_new(base, NAME_SERVICE_THREADS, &names->workers);
	if (rc < 0) {
		free(names);
		return rc;
	}
	*out = names;
	return 0;
}

void name_service_free(struct name_service *names)
{
	struct entry *entry;

	if (!names)
		return;
	__atomic_store_n(&names->stopping, true, __ATOMIC_RELAXED);
	workers_free(names->workers);
	tell_all(names);
	while ((entry = TAILQ_FIRST(&names->entries)))
		entry_free(names, entry);
	free(names);
}
