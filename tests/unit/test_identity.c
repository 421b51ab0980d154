/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a client's user acts with powers or as somebody that it is not: the kernel then checks the permissions
 * of the wrong one.
 *
 * Needs root; the test of reserved blocks also a loop device and mkfs.ext4, and says so if it is left out.
 */
#include "config.h"

#include "slave/local.h"
#include "slave/local_internal.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

enum { SKIP = 77, TURNS = 2000, LINE_MAX_BYTES = 8192 };

/* Everybody that the threads below are in turn. */
static struct credentials people[] = {
	{ .uid = 1000, .gid = 1000 },
	{ .uid = 1000, .gid = 1000, .group_count = 2, .groups = { 7, 8 } },
	{ .uid = 1000, .gid = 1000, .group_count = 2, .groups = { 7, 9 } },
	{ .uid = 1000, .gid = 0 },
	{ .uid = 1001, .gid = 1000, .group_count = 1, .groups = { 0 } },
	{ .uid = 65534, .gid = 65534, .group_count = 16, .groups = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } },
	{ .uid = 0, .gid = 0 },
	{ .uid = 0, .gid = 1000 },
	{ .uid = 1000, .gid = 1000 }, /* with a set of groups, below */
	{ .uid = 1000, .gid = 1000 }, /* with another */
};
enum { PEOPLE = sizeof(people) / sizeof(people[0]) };

/* What the kernel says of the calling thread: a line of /proc/thread-self/status, behind its name. */
static const char *kernel_says(const char *name, char line[static LINE_MAX_BYTES])
{
	FILE *status = fopen("/proc/thread-self/status", "re");
	size_t len = strlen(name);

	ck_assert_ptr_nonnull(status);
	while (fgets(line, LINE_MAX_BYTES, status) && strncmp(line, name, len) != 0)
		;
	fclose(status);
	return line + len;
}

static unsigned long long effective(void)
{
	char line[LINE_MAX_BYTES];

	return strtoull(kernel_says("CapEff:", line), NULL, 16);
}

static unsigned int file_id(const char *name)
{
	char line[LINE_MAX_BYTES];
	unsigned int ids[4];

	ck_assert_int_eq(sscanf(kernel_says(name, line), "%u %u %u %u", &ids[0], &ids[1], &ids[2], &ids[3]), 4);
	return ids[3];
}

static void check_groups(const uint32_t *groups, uint32_t count)
{
	char line[LINE_MAX_BYTES], *at;
	uint32_t found = 0;

	kernel_says("Groups:", line);
	at = line + strlen("Groups:");
	for (char *end; strtoul(at, &end, 10), end != at; at = end, found++)
		ck_assert_uint_eq(strtoul(at, NULL, 10), groups[found]); /* the kernel sorts them; ours are sorted */
	ck_assert_uint_eq(found, count);
}

static void check_is(const struct credentials *who, unsigned long long powers)
{
	ck_assert_uint_eq(file_id("Uid:"), who->uid);
	ck_assert_uint_eq(file_id("Gid:"), who->gid);
	if (who->group_set)
		check_groups(who->group_set->groups, who->group_set->count);
	else
		check_groups(who->groups, who->group_count);
	ck_assert_uint_eq(effective(), who->uid ? 0 : powers);
}

/* On a thread that keeps identities: whoever was there before, and whatever was done as root in between. */
static void *take_turns(void *arg)
{
	unsigned int seed = *(unsigned int *)arg;
	unsigned long long powers = effective();

	for (int i = 0; i < TURNS; i++) {
		const struct credentials *who = &people[(unsigned int)rand_r(&seed) % PEOPLE];

		ck_assert_int_eq(local_identity_assume(who), 0);
		check_is(who, powers);
		if (rand_r(&seed) % 2) {
			local_identity_root();
			ck_assert_uint_eq(effective(), powers);
		}
		if (rand_r(&seed) % 2) {
			ck_assert_int_eq(local_identity_assume(&local_as_root), 0);
			ck_assert_uint_eq(effective(), powers);
		}
		local_identity_end();
	}
	return NULL;
}

static void people_fill(struct group_set *sets[static 2])
{
	uint32_t many[40];

	for (uint32_t i = 0; i < 40; i++)
		many[i] = 100 + i;
	sets[0] = group_set_new(many, 40);
	many[0] = 99;
	sets[1] = group_set_new(many, 40);
	people[PEOPLE - 2].group_set = sets[0];
	people[PEOPLE - 1].group_set = sets[1];
}

START_TEST(threads_are_who_they_should_be)
{
	unsigned int seeds[2] = { (unsigned int)time(NULL), (unsigned int)time(NULL) + 1 };
	struct group_set *sets[2];
	pthread_t threads[2];

	people_fill(sets);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, take_turns, &seeds[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	group_set_put(sets[0]);
	group_set_put(sets[1]);
}
END_TEST

START_TEST(the_first_thread_is_root_afterwards)
{
	unsigned long long powers = effective();
	struct group_set *sets[2];

	people_fill(sets);
	for (int i = 0; i < PEOPLE; i++) {
		ck_assert_int_eq(local_identity_assume(&people[i]), 0);
		check_is(&people[i], powers);
		local_identity_end();
		ck_assert_uint_eq(file_id("Uid:"), 0);
		ck_assert_uint_eq(file_id("Gid:"), 0);
		ck_assert_uint_eq(effective(), powers);
	}
	group_set_put(sets[0]);
	group_set_put(sets[1]);
}
END_TEST

START_TEST(what_the_kernel_refuses_leaves_root)
{
	const struct credentials none[] = {
		{ .uid = UINT32_MAX, .gid = 1 },
		{ .uid = 1, .gid = UINT32_MAX },
		{ .uid = 1, .gid = 1, .group_count = 1, .groups = { UINT32_MAX } },
	};
	unsigned long long powers = effective();

	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(local_identity_assume(&people[0]), 0);
		ck_assert_int_eq(local_identity_assume(&none[i]), -EACCES);
		ck_assert_uint_eq(file_id("Uid:"), 0);
		ck_assert_uint_eq(effective(), powers);
	}
	ck_assert_int_eq(local_identity_assume(&people[1]), 0);
	check_is(&people[1], powers);
	local_identity_end();
}
END_TEST

/* Writes until the disk is full for @who. Returns how many of 100 blocks are left. */
static unsigned long fill(struct volume *volume, const struct credentials *who)
{
	static const char block[65536];
	struct backend_set set = { .set_mode = true, .mode = 0600 };
	enum backend_stability stability = BACKEND_FILE_SYNC;
	struct backend_attributes after;
	struct backend_change change;
	struct backend_found found;
	struct statvfs facts;
	uint64_t offset = 0;
	size_t written;
	int rc;

	ck_assert_int_eq(volume->backend->create(volume, who, &volume->root, who->uid ? "user" : "root",
						 BACKEND_CREATE_GUARDED, &set, NULL, &found, &change), 0);
	while ((rc = volume->backend->write(volume, who, &found.handle, offset, block, sizeof(block), &stability,
					    &written, &change)) == 0)
		offset += written;
	ck_assert_int_eq(rc, -ENOSPC);
	ck_assert_int_eq(volume->backend->statfs(volume, who, &volume->root, &facts, &after), 0);
	return facts.f_bfree * 100 / facts.f_blocks;
}

static bool disk_make(const char *directory)
{
	char command[512];

	snprintf(command, sizeof(command),
		 "exec 2>/dev/null; truncate -s 16M %s/disk && mkfs.ext4 -qF -m 40 %s/disk && mkdir %s/mnt && "
		 "mount -o loop %s/disk %s/mnt && chmod 1777 %s/mnt",
		 directory, directory, directory, directory, directory, directory);
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && system(command) == 0;
}

START_TEST(reserved_blocks_are_roots)
{
	char directory[] = "/tmp/vnas-identity-XXXXXX", path[64];
	struct volume *volume;

	ck_assert_ptr_nonnull(mkdtemp(directory));
	if (!disk_make(directory)) {
		fprintf(stderr, "test_identity: no loop device or no mkfs.ext4: reserved blocks are not tested\n");
	} else {
		snprintf(path, sizeof(path), "%s/mnt", directory);
		ck_assert_int_eq(local_open(path, 1, 1, &volume), 0);
		ck_assert_uint_ge(fill(volume, &people[0]), 35);
		ck_assert_uint_lt(fill(volume, &people[6]), 5);
		local_close(volume);
		ck_assert_int_eq(umount(path), 0);
		rmdir(path);
	}
	snprintf(path, sizeof(path), "%s/disk", directory);
	unlink(path);
	rmdir(directory);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("identity");
	TCase *tc = tcase_create("identity");
	SRunner *runner;
	int failed;

	if (geteuid() != 0) {
		fprintf(stderr, "test_identity: skipped, missing: root\n");
		return SKIP;
	}
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, threads_are_who_they_should_be);
	tcase_add_test(tc, the_first_thread_is_root_afterwards);
	tcase_add_test(tc, what_the_kernel_refuses_leaves_root);
	tcase_add_test(tc, reserved_blocks_are_roots);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
