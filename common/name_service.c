/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/name_service.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/siphash.h"
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

enum { BUCKETS = 4096, ADDRESSES_MAX = 16, NSS_BUFFER_BYTES = 65536, SAY_AGAIN_MS = 60 * 1000 };

enum question_kind { ASK_HOST, ASK_NAME, ASK_NETGROUP, ASK_GROUPS, ASK_KINDS };

_Static_assert((int)NAME_SERVICE_ASKED_MAX < (int)NAME_SERVICE_ENTRIES, "there is an entry that is not being looked up");

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

TAILQ_HEAD(waiters, name_waiter);

struct entry {
	TAILQ_ENTRY(entry) by_use;
	LIST_ENTRY(entry) in_bucket;
	struct question question;
	bool is_asked; /* a look-up runs; only then somebody waits */
	struct waiters waiters;
	uint64_t answered_ms, tried_ms;
	struct answer *answer; /* NULL: none yet */
};

/* Those of one kind: many of one do not have another's forgotten, or wait. Its address is their lane. */
struct kind {
	TAILQ_HEAD(, entry) entries; /* used last at the end */
	size_t count;
	size_t asked_count; /* look-ups that run */
};

struct name_service {
	struct workers *workers;
	pthread_t thread;		   /* the loop's that it was made for */
	uint8_t secret[SIPHASH_KEY_BYTES]; /* clients choose uids, and many may choose addresses: not to make a bucket long */
	pthread_mutex_t mutex;
	LIST_HEAD(, entry) buckets[BUCKETS]; /* with all that is in them under the mutex */
	struct kind kinds[ASK_KINDS];	     /* under the mutex */
	struct entry *asked_last; /* for which NAME_ASKED was the loop's answer; under the mutex */
	uint64_t said_ms;	  /* when a failure was logged last, or 0; the loop's */
	bool stopping;		  /* read by others, too */
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

/* An address as the name of an address would lead back to it without anybody's agreement. */
static bool is_address(const char *name)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found;

	if (getaddrinfo(name, NULL, &hints, &found) != 0)
		return false;
	freeaddrinfo(found);
	return true;
}

/* Whoever owns the address writes its name into the DNS; the owner of the name must agree. */
static int look_up_name(const uint8_t address[static 16], struct answer *answer)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint(address, &ss);
	char name[NI_MAXHOST];
	int rc = error_of(getnameinfo((struct sockaddr *)&ss, len, name, sizeof(name), NULL, 0, NI_NAMEREQD));

	if (rc || is_address(name))
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
	case ASK_KINDS:
		break;
	}
	return -EINVAL;
}

static bool is_stopping(const struct name_service *names)
{
	return __atomic_load_n(&names->stopping, __ATOMIC_RELAXED);
}

static void lookup_run(struct work *work)
{
	struct lookup *lookup = (struct lookup *)work;

	lookup->answer->rc = is_stopping(lookup->names) ? -ECANCELED : look_up(&lookup->question, lookup->answer);
}

/* --- in a loop, with the mutex, but for what is said of others --- */

static void answer_free(struct answer *answer)
{
	if (!answer)
		return;
	group_set_put(answer->groups);
	group_set_put(answer->groups_without_root);
	free(answer);
}

static struct kind *kind_of(struct name_service *names, const struct question *question)
{
	return &names->kinds[question->kind];
}

static void entry_free(struct kind *kind, struct entry *entry)
{
	TAILQ_REMOVE(&kind->entries, entry, by_use);
	LIST_REMOVE(entry, in_bucket);
	kind->count--;
	answer_free(entry->answer);
	free(entry);
}

/* Without the mutex. Those who ask again may have to wait again. */
static void tell(struct waiters *waiters)
{
	struct name_waiter *waiter;

	while ((waiter = TAILQ_FIRST(waiters))) {
		TAILQ_REMOVE(waiters, waiter, link);
		waiter->told(waiter);
	}
}

static void question_text(const struct question *question, char *text, size_t size)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint(question->address, &ss);
	char address[INET6_ADDRSTRLEN] = "";

	getnameinfo((struct sockaddr *)&ss, len, address, sizeof(address), NULL, 0, NI_NUMERICHOST);
	if (question->kind == ASK_HOST)
		snprintf(text, size, "host=%s", question->name);
	else if (question->kind == ASK_NAME)
		snprintf(text, size, "name of address=%s", address);
	else if (question->kind == ASK_NETGROUP)
		snprintf(text, size, "address=%s in netgroup=%s", address, question->name);
	else
		snprintf(text, size, "groups of uid=%u", question->uid);
}

/* Without the mutex. Clients see a server that has them wait; what for is to be found here. */
static void say_failed(struct name_service *names, const struct question *question, int rc)
{
	char text[2 * NAME_SERVICE_NAME_MAX];
	uint64_t now_ms = clock_monotonic_ms();

	if (is_stopping(names) || (names->said_ms && now_ms - names->said_ms < SAY_AGAIN_MS))
		return;
	names->said_ms = now_ms;
	question_text(question, text, sizeof(text));
	log_warn("names", "%s: the name service does not tell: %s; clients whose rights depend on it wait", text,
		 strerror(-rc));
}

/* Takes @answer. A failure does not take the place of an answer that there is. */
static void answer_take(struct entry *entry, struct answer *answer)
{
	entry->tried_ms = clock_monotonic_ms();
	if (answer->rc && entry->answer) {
		answer_free(answer);
		return;
	}
	answer_free(entry->answer);
	entry->answer = answer;
	entry->answered_ms = entry->tried_ms;
}

static void lookup_end(struct lookup *lookup, struct waiters *waiters)
{
	struct name_service *names = lookup->names;
	struct entry *entry = lookup->entry;

	entry->is_asked = false;
	kind_of(names, &entry->question)->asked_count--;
	answer_take(entry, lookup->answer);
	if (names->asked_last == entry)
		names->asked_last = NULL;
	TAILQ_CONCAT(waiters, &entry->waiters, link);
}

/* Without the mutex. */
static void lookup_done(struct work *work)
{
	struct lookup *lookup = (struct lookup *)work;
	struct waiters waiters = TAILQ_HEAD_INITIALIZER(waiters);
	struct name_service *names = lookup->names;

	if (lookup->answer->rc)
		say_failed(names, &lookup->question, lookup->answer->rc);
	pthread_mutex_lock(&names->mutex);
	lookup_end(lookup, &waiters);
	pthread_mutex_unlock(&names->mutex);
	free(lookup);
	tell(&waiters);
}

/* A name server that does not answer holds up those who ask it, not those whose groups are in a file. */
static void ask(struct name_service *names, struct entry *entry)
{
	struct kind *kind = kind_of(names, &entry->question);
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	struct answer *answer = calloc(1, sizeof(*answer));

	if (!lookup || !answer) {
		free(lookup);
		free(answer);
		return;
	}
	*lookup = (struct lookup){
		.work = { .lane = kind, .run = lookup_run, .done = lookup_done },
		.names = names,
		.entry = entry,
		.question = entry->question,
		.answer = answer,
	};
	entry->is_asked = workers_submit(names->workers, &lookup->work) == 0;
	kind->asked_count += entry->is_asked;
	if (!entry->is_asked) {
		free(lookup);
		free(answer);
	}
}

static size_t bucket_of(const struct name_service *names, const struct question *question)
{
	size_t len = offsetof(struct question, name) + strlen(question->name);

	return siphash(names->secret, (const uint8_t *)question, (unsigned int)len) % BUCKETS;
}

/* Those that are being looked up stay. */
static void make_room(struct kind *kind)
{
	struct entry *entry, *next;

	for (entry = TAILQ_FIRST(&kind->entries); entry && kind->count >= NAME_SERVICE_ENTRIES; entry = next) {
		next = TAILQ_NEXT(entry, by_use);
		if (!entry->is_asked)
			entry_free(kind, entry);
	}
}

static struct entry *entry_new(struct name_service *names, const struct question *question)
{
	struct kind *kind = kind_of(names, question);
	struct entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	make_room(kind);
	entry->question = *question;
	TAILQ_INIT(&entry->waiters);
	LIST_INSERT_HEAD(&names->buckets[bucket_of(names, question)], entry, in_bucket);
	TAILQ_INSERT_TAIL(&kind->entries, entry, by_use);
	kind->count++;
	return entry;
}

static struct entry *entry_of(struct name_service *names, const struct question *question)
{
	struct kind *kind = kind_of(names, question);
	struct entry *entry;

	LIST_FOREACH(entry, &names->buckets[bucket_of(names, question)], in_bucket)
		if (memcmp(&entry->question, question, sizeof(*question)) == 0)
			break;
	if (!entry)
		return entry_new(names, question);
	TAILQ_REMOVE(&kind->entries, entry, by_use);
	TAILQ_INSERT_TAIL(&kind->entries, entry, by_use);
	return entry;
}

/* May it be looked up now? Not too often, not too many at once. */
static bool may_ask(struct name_service *names, const struct entry *entry, bool has_answer, uint64_t now_ms)
{
	uint64_t pause_ms = has_answer ? NAME_SERVICE_FRESH_MS : NAME_SERVICE_RETRY_MS;

	if (entry->is_asked || is_stopping(names) || kind_of(names, &entry->question)->asked_count >= NAME_SERVICE_ASKED_MAX)
		return false;
	return !entry->tried_ms || now_ms - entry->tried_ms >= pause_ms;
}

/* NAME_YES: there is an answer, in @out */
static enum name_answer find(struct name_service *names, const struct question *question, const struct answer **out)
{
	struct entry *entry = entry_of(names, question);
	uint64_t now_ms = clock_monotonic_ms();
	bool has_answer;

	if (!entry)
		return NAME_FAILED;
	has_answer = entry->answer && !entry->answer->rc && now_ms - entry->answered_ms < NAME_SERVICE_KEPT_MS;
	if (may_ask(names, entry, has_answer, now_ms))
		ask(names, entry);
	if (has_answer) {
		*out = entry->answer;
		return NAME_YES;
	}
	if (!entry->is_asked)
		return NAME_FAILED;
	if (pthread_equal(names->thread, pthread_self()))
		names->asked_last = entry;
	return NAME_ASKED;
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
	pthread_mutex_lock(&names->mutex);
	found = find(names, &question, &answer);
	if (found == NAME_YES && !has_address(answer, address))
		found = NAME_NO;
	pthread_mutex_unlock(&names->mutex);
	return found;
}

enum name_answer name_service_matches(struct name_service *names, const uint8_t address[static 16],
				      const char *wildcard)
{
	struct question question = { .kind = ASK_NAME };
	const struct answer *answer;
	enum name_answer found;

	memcpy(question.address, address, 16);
	pthread_mutex_lock(&names->mutex);
	found = find(names, &question, &answer);
	if (found == NAME_YES &&
	    (!answer->name[0] || fnmatch(wildcard, answer->name, FNM_CASEFOLD | FNM_NOESCAPE) != 0))
		found = NAME_NO;
	pthread_mutex_unlock(&names->mutex);
	return found;
}

enum name_answer name_service_is_in_netgroup(struct name_service *names, const uint8_t address[static 16],
					     const char *netgroup)
{
	struct question question = { .kind = ASK_NETGROUP };
	const struct answer *answer;
	enum name_answer found;

	memcpy(question.address, address, 16);
	name_note(&question, netgroup);
	pthread_mutex_lock(&names->mutex);
	found = find(names, &question, &answer);
	if (found == NAME_YES && !answer->is_member)
		found = NAME_NO;
	pthread_mutex_unlock(&names->mutex);
	return found;
}

enum name_answer name_service_groups(struct name_service *names, uint32_t uid, bool without_root,
				     struct group_set **out)
{
	struct question question = { .kind = ASK_GROUPS, .uid = uid };
	const struct answer *answer;
	enum name_answer found;

	pthread_mutex_lock(&names->mutex);
	found = find(names, &question, &answer);
	if (found == NAME_YES)
		*out = group_set_get(without_root ? answer->groups_without_root : answer->groups);
	pthread_mutex_unlock(&names->mutex);
	return found;
}

void name_service_wait(struct name_service *names, struct name_waiter *waiter)
{
	struct entry *entry;

	pthread_mutex_lock(&names->mutex);
	entry = names->asked_last;
	if (entry)
		TAILQ_INSERT_TAIL(&entry->waiters, waiter, link);
	pthread_mutex_unlock(&names->mutex);
	if (BUG_IF(!entry))
		waiter->told(waiter);
}

int name_service_new(struct event_base *base, struct name_service **out)
{
	struct name_service *names = calloc(1, sizeof(*names));
	int rc;

	if (!names)
		return -ENOMEM;
	names->thread = pthread_self();
	pthread_mutex_init(&names->mutex, NULL);
	for (size_t i = 0; i < ASK_KINDS; i++)
		TAILQ_INIT(&names->kinds[i].entries);
	rc = getrandom(names->secret, sizeof(names->secret), 0) == sizeof(names->secret) ? 0 : -EAGAIN;
	if (rc == 0)
		rc = workers_new(base, NAME_SERVICE_THREADS, &names->workers);
	if (rc < 0) {
		free(names);
		return rc;
	}
	*out = names;
	return 0;
}

void name_service_stop(struct name_service *names)
{
	if (!names->workers)
		return;
	__atomic_store_n(&names->stopping, true, __ATOMIC_RELAXED);
	workers_free(names->workers);
	names->workers = NULL;
}

void name_service_free(struct name_service *names)
{
	struct entry *entry;

	if (!names)
		return;
	name_service_stop(names);
	for (struct kind *kind = names->kinds; kind < names->kinds + ASK_KINDS; kind++)
		while ((entry = TAILQ_FIRST(&kind->entries)))
			entry_free(kind, entry);
	pthread_mutex_destroy(&names->mutex);
	free(names);
}
