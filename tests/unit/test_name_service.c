/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client is let in by a name that is not its own, or kept out because somebody asks too much or a name
 * server is away; or a user has another's groups.
 */
#include "config.h"

#include "common/name_service.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <grp.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ALICE = 1000, NOBODY_KNOWN = 1001 };

/* --- the name service of this machine: what takes the place of the C library's in this program --- */

static const struct {
	const char *name, *address;
} hosts[] = {
	{ "a.example", "192.0.2.1" },
	{ "a.example", "2001:db8::1" },
	{ "A.other", "192.0.2.2" },
};

static const struct {
	const char *address, *name;
} names_of_addresses[] = {
	{ "192.0.2.1", "a.example" },
	{ "2001:db8::1", "a.example" },
	{ "192.0.2.2", "A.other" },
	{ "192.0.2.66", "a.example" },	/* somebody says so of his own address */
	{ "192.0.2.67", "0xc0000243" }, /* what inet_aton(3) reads as this address */
	{ "192.0.2.68", "nowhere.example" },
};

static const struct {
	const char *netgroup, *host;
} netgroups[] = {
	{ "trusted", "a.example" },
	{ "short", "a" },
	{ "addresses", "192.0.2.9" },
};

static const gid_t alices_groups[] = { 100, 0, 200 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_away, names_hang, users_hang;
static unsigned int lookups;
static uint64_t later_ms; /* what the clock is ahead */

static bool begin_lookup(const bool *hangs)
{
	bool answers;

	pthread_mutex_lock(&mutex);
	lookups++;
	while (*hangs)
		pthread_cond_wait(&changed, &mutex);
	answers = !is_away;
	pthread_mutex_unlock(&mutex);
	return answers;
}

static void set(bool *what, bool value)
{
	pthread_mutex_lock(&mutex);
	*what = value;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

static struct addrinfo *add_address(const char *text, struct addrinfo *before)
{
	struct addrinfo *info = calloc(1, sizeof(*info));
	struct sockaddr_storage *ss = calloc(1, sizeof(*ss));

	info->ai_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	ss->ss_family = (sa_family_t)info->ai_family;
	if (info->ai_family == AF_INET6)
		inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)ss)->sin6_addr);
	else
		inet_aton(text, &((struct sockaddr_in *)ss)->sin_addr);
	info->ai_addr = (struct sockaddr *)ss;
	info->ai_next = before;
	return info;
}

int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints, struct addrinfo **found)
{
	struct in_addr number;

	(void)port;
	*found = NULL;
	if (inet_aton(name, &number))
		*found = add_address(name, NULL);
	if (*found || hints->ai_flags & AI_NUMERICHOST)
		return *found ? 0 : EAI_NONAME;
	if (!begin_lookup(&names_hang))
		return EAI_AGAIN;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
		if (strcmp(hosts[i].name, name) == 0)
			*found = add_address(hosts[i].address, *found);
	return *found ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *found)
{
	struct addrinfo *next;

	for (; found; found = next) {
		next = found->ai_next;
		free(found->ai_addr);
		free(found);
	}
}

int getnameinfo(const struct sockaddr *address, socklen_t len, char *host, socklen_t host_size, char *port,
		socklen_t port_size, int flags)
{
	char text[INET6_ADDRSTRLEN];

	(void)len, (void)port, (void)port_size;
	if (address->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof(text));
	else
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, sizeof(text));
	snprintf(host, host_size, "%s", text);
	if (flags & NI_NUMERICHOST)
		return 0;
	if (!begin_lookup(&names_hang))
		return EAI_AGAIN;
	for (size_t i = 0; i < sizeof(names_of_addresses) / sizeof(names_of_addresses[0]); i++)
		if (strcmp(names_of_addresses[i].address, text) == 0) {
			snprintf(host, host_size, "%s", names_of_addresses[i].name);
			return 0;
		}
	return EAI_NONAME;
}

int innetgr(const char *netgroup, const char *host, const char *user, const char *domain)
{
	(void)user, (void)domain;
	for (size_t i = 0; i < sizeof(netgroups) / sizeof(netgroups[0]); i++)
		if (strcmp(netgroups[i].netgroup, netgroup) == 0 && strcmp(netgroups[i].host, host) == 0)
			return 1;
	return 0;
}

int getpwuid_r(uid_t uid, struct passwd *user, char *buffer, size_t size, struct passwd **found)
{
	(void)buffer, (void)size;
	*found = NULL;
	if (!begin_lookup(&users_hang))
		return EIO;
	if (uid == ALICE) {
		*user = (struct passwd){ .pw_name = (char *)"alice", .pw_uid = ALICE, .pw_gid = 100 };
		*found = user;
	}
	return 0;
}

int getgrouplist(const char *user, gid_t group, gid_t *groups, int *count)
{
	int room = *count;

	(void)user, (void)group;
	*count = sizeof(alices_groups) / sizeof(alices_groups[0]);
	if (room < *count)
		return -1;
	memcpy(groups, alices_groups, sizeof(alices_groups));
	return *count;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, now);

	now->tv_sec += (time_t)(__atomic_load_n(&later_ms, __ATOMIC_RELAXED) / 1000);
	return rc;
}

static void pass_ms(uint64_t ms)
{
	__atomic_add_fetch(&later_ms, ms, __ATOMIC_RELAXED);
}

static unsigned int lookup_count(void)
{
	unsigned int count;

	pthread_mutex_lock(&mutex);
	count = lookups;
	pthread_mutex_unlock(&mutex);
	return count;
}

/* --- asking it --- */

static struct event_base *base;
static struct name_service *names;

static void setup(void)
{
	base = event_base_new();
	ck_assert_int_eq(name_service_new(base, &names), 0);
}

static void teardown(void)
{
	set(&names_hang, false);
	set(&users_hang, false);
	name_service_free(names);
	event_base_free(base);
}

enum asked_kind { HOST, WILDCARD, NETGROUP };

struct question {
	enum asked_kind kind;
	const char *name, *address;
};

static enum name_answer ask(const struct question *question)
{
	uint8_t address[16] = { [10] = 0xff, [11] = 0xff };

	if (inet_pton(AF_INET6, question->address, address) != 1)
		ck_assert_int_eq(inet_pton(AF_INET, question->address, address + 12), 1);
	if (question->kind == HOST)
		return name_service_is_host(names, question->name, address);
	if (question->kind == WILDCARD)
		return name_service_matches(names, address, question->name);
	return name_service_is_in_netgroup(names, address, question->name);
}

struct waiter {
	struct name_waiter link; /* first, so that one can be had from the other */
	unsigned int told;
};

static void on_told(struct name_waiter *link)
{
	((struct waiter *)link)->told++;
}

static void wait_for_answer(void)
{
	struct waiter waiter = { .link.told = on_told };

	name_service_wait(names, &waiter.link);
	while (!waiter.told)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(waiter.told, 1);
}

static enum name_answer learn(const struct question *question)
{
	enum name_answer answer = ask(question);

	if (answer != NAME_ASKED)
		return answer;
	wait_for_answer();
	return ask(question);
}

static enum name_answer learn_groups(uint32_t uid, bool without_root, struct group_set **out)
{
	enum name_answer answer = name_service_groups(names, uid, without_root, out);

	if (answer != NAME_ASKED)
		return answer;
	wait_for_answer();
	return name_service_groups(names, uid, without_root, out);
}

/* --- answers --- */

static const struct {
	struct question question;
	enum name_answer answer;
} answers[] = {
	{ { HOST, "a.example", "192.0.2.1" }, NAME_YES },
	{ { HOST, "a.example", "2001:db8::1" }, NAME_YES },
	{ { HOST, "a.example", "192.0.2.2" }, NAME_NO },
	{ { HOST, "nowhere.example", "192.0.2.1" }, NAME_NO },
	{ { WILDCARD, "*.example", "192.0.2.1" }, NAME_YES },
	{ { WILDCARD, "*.EXAMPLE", "2001:db8::1" }, NAME_YES },
	{ { WILDCARD, "a.o*", "192.0.2.2" }, NAME_YES },
	{ { WILDCARD, "b*", "192.0.2.1" }, NAME_NO },
	{ { WILDCARD, "*.example", "192.0.2.66" }, NAME_NO }, /* a.example does not agree */
	{ { WILDCARD, "*.example", "192.0.2.68" }, NAME_NO },
	{ { WILDCARD, "*x*", "192.0.2.67" }, NAME_NO },
	{ { WILDCARD, "*", "192.0.2.99" }, NAME_NO }, /* it has no name */
	{ { NETGROUP, "trusted", "192.0.2.1" }, NAME_YES },
	{ { NETGROUP, "trusted", "192.0.2.66" }, NAME_NO },
	{ { NETGROUP, "trusted", "192.0.2.2" }, NAME_NO },
	{ { NETGROUP, "short", "192.0.2.1" }, NAME_YES },
	{ { NETGROUP, "addresses", "192.0.2.9" }, NAME_YES },
};

START_TEST(what_is_a_clients_name)
{
	ck_assert_int_eq(ask(&answers[_i].question), NAME_ASKED);
	ck_assert_int_eq(learn(&answers[_i].question), answers[_i].answer);
}
END_TEST

START_TEST(what_are_a_users_groups)
{
	static const uint32_t all[] = { 100, 0, 200 }, others[] = { 100, 200 };
	struct group_set *set = NULL;

	ck_assert_int_eq(learn_groups(ALICE, false, &set), NAME_YES);
	ck_assert_uint_eq(set->count, 3);
	ck_assert_mem_eq(set->groups, all, sizeof(all));
	group_set_put(set);
	ck_assert_int_eq(learn_groups(ALICE, true, &set), NAME_YES);
	ck_assert_uint_eq(set->count, 2);
	ck_assert_mem_eq(set->groups, others, sizeof(others));
	group_set_put(set);
	ck_assert_int_eq(learn_groups(NOBODY_KNOWN, false, &set), NAME_YES);
	ck_assert_uint_eq(set->count, 0);
	group_set_put(set);
	ck_assert_uint_eq(lookup_count(), 2);
}
END_TEST

/* --- time --- */

static const struct question of_a = { HOST, "a.example", "192.0.2.1" };

START_TEST(an_old_answer_serves_while_it_is_looked_up_again)
{
	ck_assert_int_eq(learn(&of_a), NAME_YES);
	pass_ms(NAME_SERVICE_FRESH_MS / 2);
	ck_assert_int_eq(ask(&of_a), NAME_YES);
	ck_assert_uint_eq(lookup_count(), 1);
	pass_ms(NAME_SERVICE_FRESH_MS / 2);
	set(&names_hang, true);
	ck_assert_int_eq(ask(&of_a), NAME_YES);
	ck_assert_int_eq(ask(&of_a), NAME_YES);
	while (lookup_count() < 2)
		sched_yield();
	pass_ms(NAME_SERVICE_KEPT_MS);
	ck_assert_int_eq(ask(&of_a), NAME_ASKED);
	set(&names_hang, false);
	wait_for_answer();
	ck_assert_int_eq(ask(&of_a), NAME_YES);
	ck_assert_uint_eq(lookup_count(), 2);
}
END_TEST

START_TEST(a_name_server_that_is_away_takes_no_answer_back)
{
	ck_assert_int_eq(learn(&of_a), NAME_YES);
	set(&is_away, true);
	pass_ms(NAME_SERVICE_FRESH_MS);
	ck_assert_int_eq(ask(&of_a), NAME_YES);
	pass_ms(NAME_SERVICE_KEPT_MS - NAME_SERVICE_FRESH_MS);
	ck_assert_int_eq(learn(&of_a), NAME_FAILED);
	ck_assert_int_eq(ask(&of_a), NAME_FAILED); /* it is not asked all the time */
	set(&is_away, false);
	pass_ms(NAME_SERVICE_RETRY_MS);
	ck_assert_int_eq(learn(&of_a), NAME_YES);
}
END_TEST

/* --- crowds --- */

START_TEST(nobody_is_told_of_what_another_asked)
{
	struct waiter slow = { .link.told = on_told };
	struct group_set *groups;

	set(&names_hang, true);
	ck_assert_int_eq(ask(&of_a), NAME_ASKED);
	name_service_wait(names, &slow.link);
	ck_assert_int_eq(learn_groups(ALICE, false, &groups), NAME_YES);
	group_set_put(groups);
	ck_assert_uint_eq(slow.told, 0);
	set(&names_hang, false);
	while (!slow.told)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_int_eq(ask(&of_a), NAME_YES);
}
END_TEST

/* A client that makes up users, faster than they are looked up. */
START_TEST(what_is_asked_at_once_is_bounded)
{
	struct group_set *groups;

	set(&users_hang, true);
	for (uint32_t uid = 0; uid < NAME_SERVICE_ASKED_MAX; uid++)
		ck_assert_int_eq(name_service_groups(names, 10000 + uid, false, &groups), NAME_ASKED);
	ck_assert_int_eq(name_service_groups(names, ALICE, false, &groups), NAME_FAILED);
	ck_assert_int_eq(learn(&of_a), NAME_YES); /* hosts are another matter */
	ck_assert_int_eq(name_service_groups(names, 10000, false, &groups), NAME_ASKED);
	set(&users_hang, false);
	wait_for_answer();
	ck_assert_int_eq(learn_groups(ALICE, false, &groups), NAME_YES);
	group_set_put(groups);
}
END_TEST

START_TEST(those_used_last_are_kept)
{
	struct group_set *groups;
	unsigned int before;

	ck_assert_int_eq(learn(&of_a), NAME_YES);
	ck_assert_int_eq(learn_groups(ALICE, false, &groups), NAME_YES);
	group_set_put(groups);
	ck_assert_int_eq(learn_groups(NOBODY_KNOWN, false, &groups), NAME_YES);
	group_set_put(groups);
	for (uint32_t uid = 0; uid < NAME_SERVICE_ENTRIES - 1; uid++) {
		ck_assert_int_eq(learn_groups(10000 + uid, false, &groups), NAME_YES);
		group_set_put(groups);
		ck_assert_int_eq(name_service_groups(names, ALICE, false, &groups), NAME_YES);
		group_set_put(groups);
	}
	before = lookup_count();
	ck_assert_int_eq(ask(&of_a), NAME_YES);
	ck_assert_uint_eq(lookup_count(), before);
	ck_assert_int_eq(name_service_groups(names, NOBODY_KNOWN, false, &groups), NAME_ASKED);
}
END_TEST

START_TEST(who_waits_is_told_when_it_ends)
{
	struct waiter waiters[2] = { { .link.told = on_told }, { .link.told = on_told } };
	struct group_set *groups;

	ck_assert_int_eq(ask(&of_a), NAME_ASKED);
	name_service_wait(names, &waiters[0].link);
	ck_assert_int_eq(name_service_groups(names, ALICE, false, &groups), NAME_ASKED);
	name_service_wait(names, &waiters[1].link);
	name_service_stop(names);
	ck_assert_uint_eq(waiters[0].told, 1);
	ck_assert_uint_eq(waiters[1].told, 1);
	ck_assert_int_eq(name_service_groups(names, NOBODY_KNOWN, false, &groups), NAME_FAILED);
	name_service_stop(names);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("name_service");
	TCase *tc = tcase_create("name_service");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, what_is_a_clients_name, 0, sizeof(answers) / sizeof(answers[0]));
	tcase_add_test(tc, what_are_a_users_groups);
	tcase_add_test(tc, an_old_answer_serves_while_it_is_looked_up_again);
	tcase_add_test(tc, a_name_server_that_is_away_takes_no_answer_back);
	tcase_add_test(tc, nobody_is_told_of_what_another_asked);
	tcase_add_test(tc, what_is_asked_at_once_is_bounded);
	tcase_add_test(tc, those_used_last_are_kept);
	tcase_add_test(tc, who_waits_is_told_when_it_ends);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
