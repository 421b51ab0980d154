/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, two programs write what each believes to have for itself, or a lock stays behind that nobody has. The
 * files and the kernel's locks on them are real.
 */
#include "config.h"

#include "common/lock_table.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 2, GRANTS_MAX = 512 };

static struct lock_table *table;
static int files[FILES]; /* a descriptor of each, which never locks anything */
static struct lock_file_id ids[FILES];
static struct {
	uint64_t id;
	uint32_t svid;
} grants[GRANTS_MAX];
static size_t grant_count;

static const struct lock_client one = { .address = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1 }, .name = "one" };
static const struct lock_client two = { .address = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2 }, .name = "two" };
static const struct lock_caller caller = { .version = 4 };

static void on_grant(const struct lock_grant *grant, void *arg)
{
	(void)arg;
	ck_assert_uint_lt(grant_count, GRANTS_MAX);
	grants[grant_count].id = grant->id;
	grants[grant_count++].svid = grant->request.svid;
}

static void setup(void)
{
	table = lock_table_new(on_grant, NULL);
	ck_assert_ptr_nonnull(table);
	for (int i = 0; i < FILES; i++) {
		files[i] = memfd_create("file", MFD_CLOEXEC);
		ck_assert_int_ge(files[i], 0);
		ids[i] = (struct lock_file_id){ .len = 4, .bytes = { 'f', 'i', 'l', (uint8_t)i } };
	}
	grant_count = 0;
}

static void teardown(void)
{
	lock_table_free(table);
	for (int i = 0; i < FILES; i++)
		close(files[i]);
}

/* Another open file description of the file, as a local process would have it. */
static int reopen(int file)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", files[file]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static struct lock_request request(const struct lock_client *client, uint32_t svid, bool exclusive, uint64_t start,
				   uint64_t end)
{
	return (struct lock_request){ .client = client, .file = &ids[0], .svid = svid, .oh = (const uint8_t *)"oh",
				      .oh_len = 2, .exclusive = exclusive, .start = start, .end = end };
}

static enum lock_result lock(const struct lock_client *client, uint32_t svid, bool exclusive, uint64_t start, uint64_t end)
{
	struct lock_request what = request(client, svid, exclusive, start, end);

	return lock_table_lock(table, &what, reopen(0), NULL);
}

static enum lock_result lock_or_wait(const struct lock_client *client, uint32_t svid, bool exclusive, uint64_t start,
				     uint64_t end)
{
	struct lock_request what = request(client, svid, exclusive, start, end);

	return lock_table_lock(table, &what, reopen(0), &caller);
}

static enum lock_result unlock(const struct lock_client *client, uint32_t svid, uint64_t start, uint64_t end)
{
	struct lock_request what = request(client, svid, false, start, end);

	return lock_table_unlock(table, &what);
}

static enum lock_result cancel(const struct lock_client *client, uint32_t svid, bool exclusive, uint64_t start,
			       uint64_t end)
{
	struct lock_request what = request(client, svid, exclusive, start, end);

	return lock_table_cancel(table, &what);
}

/* Does the kernel let a local process have this lock? It does not keep it. */
static bool local_may_lock(bool exclusive, uint64_t start, uint64_t end)
{
	struct flock what = { .l_type = exclusive ? F_WRLCK : F_RDLCK, .l_start = (off_t)start,
			      .l_len = end == LOCK_END ? 0 : (off_t)(end - start + 1) };
	int fd = reopen(0);

	ck_assert_int_eq(fcntl(fd, F_OFD_GETLK, &what), 0);
	close(fd);
	return what.l_type == F_UNLCK;
}

static void check_empty(void)
{
	const struct lock_table_counters *counters = lock_table_counters(table);

	ck_assert_uint_eq(counters->clients, 0);
	ck_assert_uint_eq(counters->files, 0);
	ck_assert_uint_eq(counters->entries, 0);
	ck_assert_uint_eq(counters->waiters, 0);
	ck_assert(local_may_lock(true, 0, LOCK_END));
}

/* One line each: a lock is held by owner 1 of client one on bytes 10 to 19; is another one granted? */
static const struct {
	const char *what;
	bool held_exclusive;
	const struct lock_client *client;
	uint32_t svid;
	bool exclusive;
	uint64_t start, end;
	enum lock_result result;
} conflicts[] = {
	{ "shared, shared", false, &two, 1, false, 10, 19, LOCK_GRANTED },
	{ "shared, exclusive", false, &two, 1, true, 10, 19, LOCK_DENIED },
	{ "exclusive, shared", true, &two, 1, false, 10, 19, LOCK_DENIED },
	{ "exclusive, exclusive", true, &two, 1, true, 10, 19, LOCK_DENIED },
	{ "the same client, another process", true, &one, 2, true, 10, 19, LOCK_DENIED },
	{ "the same owner", true, &one, 1, true, 10, 19, LOCK_GRANTED },
	{ "before it", true, &two, 1, true, 0, 9, LOCK_GRANTED },
	{ "behind it", true, &two, 1, true, 20, 29, LOCK_GRANTED },
	{ "its first byte", true, &two, 1, true, 0, 10, LOCK_DENIED },
	{ "its last byte", true, &two, 1, true, 19, LOCK_END, LOCK_DENIED },
	{ "within it", true, &two, 1, true, 15, 15, LOCK_DENIED },
	{ "around it", true, &two, 1, true, 0, LOCK_END, LOCK_DENIED },
	{ "the end of the file", true, &two, 1, true, INT64_MAX, LOCK_END, LOCK_GRANTED },
};

START_TEST(who_excludes_whom)
{
	struct lock_request other = request(conflicts[_i].client, conflicts[_i].svid, conflicts[_i].exclusive,
					    conflicts[_i].start, conflicts[_i].end);
	struct lock_holder holder = { 0 };

	ck_assert_int_eq(lock(&one, 1, conflicts[_i].held_exclusive, 10, 19), LOCK_GRANTED);
	ck_assert_msg(lock_table_test(table, &other, reopen(0), &holder) == conflicts[_i].result, "%s: TEST",
		      conflicts[_i].what);
	if (conflicts[_i].result == LOCK_DENIED) {
		ck_assert_uint_eq(holder.svid, 1);
		ck_assert_uint_eq(holder.oh_len, 2);
		ck_assert_uint_eq(holder.start, 10);
		ck_assert_uint_eq(holder.end, 19);
		ck_assert(holder.exclusive == conflicts[_i].held_exclusive);
	}
	ck_assert_msg(lock_table_lock(table, &other, reopen(0), NULL) == conflicts[_i].result, "%s", conflicts[_i].what);
	unlock(&one, 1, 0, LOCK_END);
	unlock(other.client, other.svid, 0, LOCK_END);
	check_empty();
}
END_TEST

/* "localhost" is not one client, and neither is the same process number with another opaque handle one owner. */
START_TEST(owners_are_told_apart)
{
	struct lock_client there = one;
	struct lock_request other = request(&one, 1, true, 0, 9);

	there.address[15] = 9;
	ck_assert_int_eq(lock(&one, 1, true, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock(&there, 1, true, 0, 9), LOCK_DENIED);
	ck_assert_int_eq(unlock(&there, 1, 0, 9), LOCK_GRANTED);
	ck_assert(!local_may_lock(false, 0, 9));
	other.oh = (const uint8_t *)"ho";
	ck_assert_int_eq(lock_table_lock(table, &other, reopen(0), NULL), LOCK_DENIED);
	other.file = &ids[1];
	ck_assert_int_eq(lock_table_lock(table, &other, reopen(1), NULL), LOCK_GRANTED);
}
END_TEST

START_TEST(local_processes_and_clients_exclude_each_other)
{
	struct flock local = { .l_type = F_WRLCK, .l_start = 100, .l_len = 10 };
	struct lock_request what = request(&one, 1, false, 105, 200);
	struct lock_holder holder = { .svid = 5 };
	int fd = reopen(0);

	ck_assert_int_eq(lock(&one, 1, false, 10, 19), LOCK_GRANTED);
	ck_assert(!local_may_lock(true, 0, LOCK_END));
	ck_assert(local_may_lock(false, 0, LOCK_END));
	ck_assert(local_may_lock(true, 20, LOCK_END));
	ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &local), 0);
	ck_assert_int_eq(lock_table_test(table, &what, reopen(0), &holder), LOCK_DENIED);
	ck_assert(holder.exclusive && holder.svid == 0 && holder.oh_len == 0);
	ck_assert_uint_eq(holder.start, 100);
	ck_assert_uint_eq(holder.end, 109);
	ck_assert_int_eq(lock(&one, 1, false, 105, 200), LOCK_DENIED);
	ck_assert_int_eq(lock_or_wait(&one, 1, false, 105, 200), LOCK_BLOCKED);
	lock_table_retry(table);
	ck_assert_uint_eq(grant_count, 0);
	close(fd); /* the process ends */
	lock_table_retry(table);
	ck_assert_uint_eq(grant_count, 1);
	ck_assert(!local_may_lock(true, 105, 200));
}
END_TEST

START_TEST(waiters_get_it_in_the_order_in_which_they_came)
{
	ck_assert_int_eq(lock(&one, 1, true, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock_or_wait(&two, 2, true, 0, 9), LOCK_BLOCKED);
	ck_assert_int_eq(lock_or_wait(&two, 3, false, 0, 9), LOCK_BLOCKED);
	ck_assert_int_eq(lock_or_wait(&one, 4, false, 5, 9), LOCK_BLOCKED);
	ck_assert_int_eq(lock_or_wait(&two, 2, true, 0, 9), LOCK_BLOCKED); /* asks again, and keeps its place */
	ck_assert_uint_eq(lock_table_counters(table)->waiters, 3);
	unlock(&one, 1, 0, 9);
	ck_assert_uint_eq(grant_count, 1);
	ck_assert_uint_eq(grants[0].svid, 2);
	ck_assert_int_eq(lock(&one, 1, false, 0, 0), LOCK_DENIED); /* nobody has acknowledged, and yet it is held */
	ck_assert(!local_may_lock(false, 0, 0));
	lock_table_acknowledge(table, grants[0].id);
	unlock(&two, 2, 0, 9);
	ck_assert_uint_eq(grant_count, 3); /* both readers */
	ck_assert_uint_eq(grants[1].svid, 3);
	ck_assert_uint_eq(grants[2].svid, 4);
	unlock(&two, 3, 0, 9); /* without an acknowledgment: who unlocks knows */
	unlock(&one, 4, 0, 9);
	check_empty();
}
END_TEST

START_TEST(what_is_refused_or_cancelled_goes_to_the_next)
{
	ck_assert_int_eq(lock(&one, 1, true, 0, 9), LOCK_GRANTED);
	for (uint32_t svid = 2; svid <= 5; svid++)
		ck_assert_int_eq(lock_or_wait(&two, svid, true, 0, 9), LOCK_BLOCKED);
	ck_assert_int_eq(cancel(&two, 3, true, 0, 9), LOCK_GRANTED); /* waits */
	ck_assert_int_eq(cancel(&two, 3, true, 0, 9), LOCK_DENIED);
	ck_assert_int_eq(cancel(&two, 2, false, 0, 9), LOCK_DENIED); /* not what it asked for */
	unlock(&one, 1, 0, 9);
	lock_table_refuse(table, grants[0].id);
	ck_assert_uint_eq(grant_count, 2);
	ck_assert_uint_eq(grants[1].svid, 4);
	ck_assert_int_eq(cancel(&two, 4, true, 0, 9), LOCK_GRANTED); /* granted, and the call-back is on its way */
	ck_assert_uint_eq(grant_count, 3);
	ck_assert_uint_eq(grants[2].svid, 5);
	lock_table_acknowledge(table, grants[1].id); /* too late */
	ck_assert_int_eq(lock_or_wait(&two, 5, true, 0, 9), LOCK_GRANTED); /* asks again, and so it knows */
	lock_table_refuse(table, grants[2].id);
	ck_assert_int_eq(lock(&one, 1, true, 0, 9), LOCK_DENIED);
	unlock(&two, 5, 0, 9);
	check_empty();
}
END_TEST

/* A grant that is taken back leaves what the owner had before. */
START_TEST(a_refused_upgrade_leaves_the_shared_lock)
{
	ck_assert_int_eq(lock(&one, 1, false, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock(&two, 1, false, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock_or_wait(&one, 1, true, 0, 9), LOCK_BLOCKED);
	unlock(&two, 1, 0, 9);
	ck_assert_uint_eq(grant_count, 1);
	ck_assert(!local_may_lock(false, 0, 9));
	lock_table_refuse(table, grants[0].id);
	ck_assert(local_may_lock(false, 0, 9));
	ck_assert(!local_may_lock(true, 0, 9));
	ck_assert_int_eq(lock(&two, 1, false, 0, 9), LOCK_GRANTED);
}
END_TEST

/* Each would wait for the next, and the last for the first. */
START_TEST(a_circle_of_waiters_is_refused)
{
	ck_assert_int_eq(lock(&one, 1, true, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock(&two, 1, true, 10, 19), LOCK_GRANTED);
	ck_assert_int_eq(lock(&two, 2, false, 20, 29), LOCK_GRANTED);
	ck_assert_int_eq(lock_or_wait(&one, 1, true, 15, 15), LOCK_BLOCKED);
	ck_assert_int_eq(lock_or_wait(&two, 1, true, 25, LOCK_END), LOCK_BLOCKED);
	ck_assert_int_eq(lock(&two, 2, true, 0, 0), LOCK_DENIED); /* does not wait */
	ck_assert_int_eq(lock_or_wait(&two, 2, true, 0, 0), LOCK_DEADLOCK);
	ck_assert_int_eq(lock_or_wait(&two, 3, true, 0, 0), LOCK_BLOCKED); /* nobody waits for him */
	ck_assert_int_eq(lock_or_wait(&one, 1, true, 15, 15), LOCK_BLOCKED); /* asked again, he waits as before */
	ck_assert_int_eq(unlock(&two, 2, 20, 29), LOCK_GRANTED);
	ck_assert_uint_eq(grant_count, 1);
	ck_assert_uint_eq(lock_table_counters(table)->waiters, 2);
}
END_TEST

START_TEST(two_readers_who_both_would_write)
{
	ck_assert_int_eq(lock(&one, 1, false, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock(&one, 2, false, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock_or_wait(&one, 1, true, 0, 9), LOCK_BLOCKED);
	ck_assert_int_eq(lock_or_wait(&one, 2, true, 0, 9), LOCK_DEADLOCK);
	ck_assert_int_eq(cancel(&one, 1, true, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock_or_wait(&one, 2, true, 0, 9), LOCK_BLOCKED);
	ck_assert_int_eq(unlock(&one, 1, 0, 9), LOCK_GRANTED);
	ck_assert_uint_eq(grant_count, 1);
}
END_TEST

/* Through two files: the first holds the one and waits for the other. */
START_TEST(a_circle_through_two_files)
{
	struct lock_request other = request(&two, 1, true, 0, LOCK_END), mine = request(&one, 1, true, 5, 5);

	other.file = mine.file = &ids[1];
	ck_assert_int_eq(lock(&one, 1, true, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock_table_lock(table, &other, reopen(1), NULL), LOCK_GRANTED);
	ck_assert_int_eq(lock_table_lock(table, &mine, reopen(1), &caller), LOCK_BLOCKED);
	ck_assert_int_eq(lock_or_wait(&two, 1, false, 0, 0), LOCK_DEADLOCK);
	lock_table_free_client(table, one.address, "");
	ck_assert_int_eq(lock_or_wait(&two, 1, false, 0, 0), LOCK_GRANTED);
}
END_TEST

/* So many wait each for the next; does the last who would wait for the first hear of it? A longer search costs too much. */
static const struct {
	uint32_t owners;
	enum lock_result last;
} chains[] = { { 2, LOCK_DEADLOCK }, { 100, LOCK_DEADLOCK }, { LOCK_WAITERS_OF_FILE_MAX - 1, LOCK_BLOCKED } };

START_TEST(a_search_ends)
{
	uint32_t owners = chains[_i].owners;

	for (uint32_t i = 0; i < owners; i++)
		ck_assert_int_eq(lock(&one, i, true, i, i), LOCK_GRANTED);
	for (uint32_t i = 0; i + 1 < owners; i++)
		ck_assert_int_eq(lock_or_wait(&one, i, true, i + 1, i + 1), LOCK_BLOCKED);
	ck_assert_int_eq(lock_or_wait(&one, owners - 1, true, 0, 0), chains[_i].last);
}
END_TEST

START_TEST(a_client_that_is_gone_leaves_nothing)
{
	struct lock_client same_place = one;
	struct lock_request share = request(&one, 0, false, 0, LOCK_END);

	snprintf(same_place.name, sizeof(same_place.name), "other");
	ck_assert_int_eq(lock(&one, 1, true, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock(&one, 2, true, 20, 29), LOCK_GRANTED);
	ck_assert_int_eq(lock(&same_place, 1, true, 40, 49), LOCK_GRANTED);
	ck_assert_int_eq(lock_or_wait(&one, 3, true, 40, 49), LOCK_BLOCKED);
	ck_assert_int_eq(lock_or_wait(&two, 1, true, 0, 29), LOCK_BLOCKED);
	ck_assert_int_eq(lock_table_share(table, &share, reopen(0), LOCK_SHARE_READ, LOCK_SHARE_WRITE), LOCK_GRANTED);
	ck_assert_uint_eq(lock_table_free_client(table, two.address, "one"), 0);
	ck_assert_uint_eq(lock_table_free_client(table, one.address, "ONE.example.org"), 1);
	ck_assert_uint_eq(grant_count, 1);
	ck_assert(!lock_table_knows_client(table, &one));
	ck_assert(lock_table_knows_client(table, &same_place));
	ck_assert_uint_eq(lock_table_free_client(table, one.address, ""), 1);
	lock_table_free_client(table, two.address, "two");
	check_empty();
}
END_TEST

static const struct {
	const char *name, *other;
	bool same;
} names[] = {
	{ "disk", "disk", true },	  { "disk", "DISK", true },
	{ "disk", "disk.example", true }, { "disk.example", "disk", true },
	{ "disk", "disk1", false },	  { "disk.example", "disk.other", false },
	{ "a.b", "a.b.c", true },	  { "", ".x", false },
};

START_TEST(which_names_are_one_host)
{
	ck_assert_msg(lock_client_is_named(names[_i].name, names[_i].other) == names[_i].same, "\"%s\" and \"%s\"",
		      names[_i].name, names[_i].other);
}
END_TEST

/* Access and deny of a first owner and of a second. */
static const struct {
	unsigned int access, deny, other_access, other_deny;
	enum lock_result result;
} shares[] = {
	{ LOCK_SHARE_READ, 0, LOCK_SHARE_READ, 0, LOCK_GRANTED },
	{ LOCK_SHARE_READ, LOCK_SHARE_WRITE, LOCK_SHARE_READ, 0, LOCK_GRANTED },
	{ LOCK_SHARE_READ, LOCK_SHARE_WRITE, LOCK_SHARE_WRITE, 0, LOCK_DENIED },
	{ LOCK_SHARE_WRITE, 0, LOCK_SHARE_READ, LOCK_SHARE_WRITE, LOCK_DENIED },
	{ LOCK_SHARE_WRITE, 0, LOCK_SHARE_READ, LOCK_SHARE_READ, LOCK_GRANTED },
	{ 0, LOCK_SHARE_READ | LOCK_SHARE_WRITE, 0, LOCK_SHARE_READ | LOCK_SHARE_WRITE, LOCK_GRANTED },
};

START_TEST(shares_exclude_each_other)
{
	struct lock_request mine = request(&one, 0, false, 0, LOCK_END), other = request(&two, 0, false, 0, LOCK_END);

	ck_assert_int_eq(lock_table_share(table, &mine, reopen(0), shares[_i].access, shares[_i].deny), LOCK_GRANTED);
	ck_assert_int_eq(lock_table_share(table, &other, reopen(0), shares[_i].other_access, shares[_i].other_deny),
			 shares[_i].result);
	ck_assert_int_eq(lock_table_share(table, &mine, reopen(0), 0, 0), LOCK_GRANTED); /* instead of the first */
	ck_assert_int_eq(lock_table_share(table, &other, reopen(0), shares[_i].other_access, shares[_i].other_deny),
			 LOCK_GRANTED);
	lock_table_unshare(table, &mine);
	lock_table_unshare(table, &other);
	lock_table_unshare(table, &other);
	check_empty();
}
END_TEST

START_TEST(a_client_can_not_take_all_memory)
{
	uint64_t at = 0;
	uint32_t svid = 1;

	/* Every other byte, so that nothing can be merged. */
	while (lock(&one, 1, true, at, at) == LOCK_GRANTED)
		at += 2;
	ck_assert_uint_eq(lock_table_counters(table)->entries, LOCK_ENTRIES_OF_FILE_MAX);
	ck_assert_int_eq(lock(&one, 1, true, at, at), LOCK_NOLOCKS);
	ck_assert(local_may_lock(true, at, at));
	/* To unlock in the middle would need one more: refused, and nothing has changed. */
	unlock(&one, 1, 0, LOCK_END);
	for (at = 0; at < 2 * (LOCK_ENTRIES_OF_FILE_MAX - 1); at += 2)
		ck_assert_int_eq(lock(&one, 1, true, at, at), LOCK_GRANTED);
	ck_assert_int_eq(lock(&one, 1, true, 100000, 100009), LOCK_GRANTED);
	ck_assert_int_eq(unlock(&one, 1, 100005, 100005), LOCK_NOLOCKS);
	ck_assert(!local_may_lock(true, 100005, 100005));
	unlock(&one, 1, 0, LOCK_END);
	check_empty();

	ck_assert_int_eq(lock(&one, 1, true, 0, 0), LOCK_GRANTED);
	while (lock_or_wait(&two, svid, true, 0, 0) == LOCK_BLOCKED)
		svid++;
	ck_assert_uint_eq(lock_table_counters(table)->waiters, LOCK_WAITERS_OF_FILE_MAX);
	lock_table_free_client(table, two.address, "two");
	lock_table_free_client(table, one.address, "one");
	check_empty();
}
END_TEST

START_TEST(locking_byte_by_byte_takes_one_entry)
{
	for (uint64_t at = 0; at < 1000; at++)
		ck_assert_int_eq(lock(&one, 1, true, at, at), LOCK_GRANTED);
	ck_assert_uint_eq(lock_table_counters(table)->entries, 1);
}
END_TEST

static bool is_second(const struct lock_file_id *file, void *arg)
{
	(void)arg;
	return file->bytes[3] == 1;
}

START_TEST(files_of_a_volume_that_is_gone)
{
	struct lock_request second = request(&two, 1, true, 0, 9);

	second.file = &ids[1];
	ck_assert_int_eq(lock_table_lock(table, &second, reopen(1), NULL), LOCK_GRANTED);
	ck_assert_int_eq(lock(&one, 1, true, 0, 9), LOCK_GRANTED);
	lock_table_forget_files(table, is_second, NULL);
	ck_assert_uint_eq(lock_table_counters(table)->files, 1);
	ck_assert(!lock_table_knows_client(table, &two));
	ck_assert(!local_may_lock(true, 0, 9));
}
END_TEST

/* The same against a model that keeps, for each owner, a lock per byte. */
enum { BYTES = 24, OWNERS = 4, STEPS = 20000 };

static char model[OWNERS][BYTES]; /* 0, 'r' or 'w' */

static const struct lock_client *client_of(int owner)
{
	return owner % 2 ? &one : &two;
}

static bool model_allows(int owner, bool exclusive, int start, int end)
{
	for (int other = 0; other < OWNERS; other++)
		for (int at = start; at <= end; at++)
			if (other != owner && (model[other][at] == 'w' || (model[other][at] && exclusive)))
				return false;
	return true;
}

static void check_kernel(void)
{
	for (int at = 0; at < BYTES; at++) {
		bool any = false, exclusive = false;

		for (int owner = 0; owner < OWNERS; owner++) {
			any |= model[owner][at] != 0;
			exclusive |= model[owner][at] == 'w';
		}
		ck_assert(local_may_lock(true, (uint64_t)at, (uint64_t)at) == !any);
		ck_assert(local_may_lock(false, (uint64_t)at, (uint64_t)at) == !exclusive);
	}
}

START_TEST(as_a_model_has_it)
{
	unsigned int seed = (unsigned int)time(NULL);

	printf("seed %u\n", seed);
	srand(seed);
	memset(model, 0, sizeof(model));
	for (int step = 0; step < STEPS; step++) {
		int owner = rand() % OWNERS, start = rand() % BYTES, end = start + rand() % (BYTES - start);
		bool exclusive = rand() % 2;
		char kind = 0;

		if (rand() % 3) {
			bool allowed = model_allows(owner, exclusive, start, end);

			ck_assert_int_eq(lock(client_of(owner), (uint32_t)owner, exclusive, (uint64_t)start, (uint64_t)end),
					 allowed ? LOCK_GRANTED : LOCK_DENIED);
			if (!allowed)
				continue;
			kind = exclusive ? 'w' : 'r';
		} else {
			ck_assert_int_eq(unlock(client_of(owner), (uint32_t)owner, (uint64_t)start, (uint64_t)end),
					 LOCK_GRANTED);
		}
		memset(&model[owner][start], kind, (size_t)(end - start + 1));
		if (step % 16 == 0)
			check_kernel();
	}
	for (int owner = 0; owner < OWNERS; owner++)
		unlock(client_of(owner), (uint32_t)owner, 0, LOCK_END);
	check_empty();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lock_table");
	TCase *tcase = tcase_create("lock_table");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, who_excludes_whom, 0, sizeof(conflicts) / sizeof(conflicts[0]));
	tcase_add_test(tcase, owners_are_told_apart);
	tcase_add_test(tcase, local_processes_and_clients_exclude_each_other);
	tcase_add_test(tcase, waiters_get_it_in_the_order_in_which_they_came);
	tcase_add_test(tcase, what_is_refused_or_cancelled_goes_to_the_next);
	tcase_add_test(tcase, a_refused_upgrade_leaves_the_shared_lock);
	tcase_add_test(tcase, a_circle_of_waiters_is_refused);
	tcase_add_test(tcase, two_readers_who_both_would_write);
	tcase_add_test(tcase, a_circle_through_two_files);
	tcase_add_loop_test(tcase, a_search_ends, 0, sizeof(chains) / sizeof(chains[0]));
	tcase_add_test(tcase, a_client_that_is_gone_leaves_nothing);
	tcase_add_loop_test(tcase, which_names_are_one_host, 0, sizeof(names) / sizeof(names[0]));
	tcase_add_loop_test(tcase, shares_exclude_each_other, 0, sizeof(shares) / sizeof(shares[0]));
	tcase_add_test(tcase, a_client_can_not_take_all_memory);
	tcase_add_test(tcase, locking_byte_by_byte_takes_one_entry);
	tcase_add_test(tcase, files_of_a_volume_that_is_gone);
	tcase_add_test(tcase, as_a_model_has_it);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
