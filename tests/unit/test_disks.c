/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a disk node forgets after a crash which disks it had formatted, or takes one that it had not done with for a volume;
 * a program that hangs takes the daemon along; or a failing disk is called good.
 */
#include "config.h"

#include "common/clock.h"
#include "common/stored_file.h"
#include "slave/child.h"
#include "slave/disk_format.h"
#include "slave/disk_probe.h"
#include "slave/disk_record.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[64], file[96];
static struct disk_records records;

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(directory, sizeof(directory), "%.40s/test_disks.XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(file, sizeof(file), "%s/disks", directory);
	ck_assert_int_eq(disk_records_load(file, &records), 0); /* no file: no disks */
	ck_assert_uint_eq(records.count, 0);
}

static void teardown(void)
{
	unlink(file);
	rmdir(directory);
}

START_TEST(the_record_survives)
{
	uint8_t one[UUID_BYTES] = { 1 }, two[UUID_BYTES] = { 2 };
	struct disk_records back;

	ck_assert_ptr_nonnull(disk_records_add(&records, one, "ext4"));
	ck_assert_ptr_nonnull(disk_records_add(&records, two, "xfs"));
	disk_records_find(&records, two)->is_ready = true;
	ck_assert_int_eq(disk_records_save(file, &records), 0);
	ck_assert_int_eq(disk_records_load(file, &back), 0);
	ck_assert_uint_eq(back.count, 2);
	ck_assert(!disk_records_find(&back, one)->is_ready);
	ck_assert(disk_records_find(&back, two)->is_ready);
	ck_assert_str_eq(disk_records_find(&back, two)->type, "xfs");
	disk_records_remove(&back, one);
	disk_records_remove(&back, one); /* nothing happens */
	ck_assert_uint_eq(back.count, 1);
	ck_assert_ptr_null(disk_records_find(&back, one));
	ck_assert(disk_records_find(&back, two)->is_ready);
}
END_TEST

START_TEST(a_full_record_takes_no_more)
{
	uint8_t uuid[UUID_BYTES] = { 0 };

	for (int i = 0; i < DISK_RECORDS_MAX; i++) {
		memcpy(uuid, &i, sizeof(i));
		ck_assert_ptr_nonnull(disk_records_add(&records, uuid, "ext4"));
	}
	ck_assert_ptr_null(disk_records_add(&records, uuid, "ext4"));
	ck_assert_int_eq(disk_records_save(file, &records), 0);
	ck_assert_int_eq(disk_records_load(file, &records), 0);
	ck_assert_uint_eq(records.count, DISK_RECORDS_MAX);
}
END_TEST

#define UUID "6c1aa52e-0000-4000-8000-0123456789ab"

static const char *const damaged[] = {
	"x ready ext4\n",
	UUID " ready\n",
	UUID " nearly ext4\n",
	UUID " ready ext4 more\n",
	UUID " ready ext4\n" UUID " formatting ext4\n",
	UUID " ready averyveryverylongtype\n",
};

START_TEST(a_damaged_record_is_not_guessed_at)
{
	ck_assert_int_eq(stored_file_write(file, damaged[_i], strlen(damaged[_i])), 0);
	ck_assert_int_eq(disk_records_load(file, &records), -EINVAL);
}
END_TEST

static const struct {
	const char *text;
	enum disk_health health;
} healths[] = {
	{ "{\"smart_status\":{\"passed\":true}}", DISK_HEALTH_PASSED },
	{ "{\"device\":{},\"smart_status\":{\"passed\":false,\"nvme\":{\"value\":4}}}", DISK_HEALTH_FAILED },
	{ "{\"smart_status\":{\"passed\":\"true\"}}", DISK_HEALTH_UNKNOWN },
	{ "{\"smart_status\":true}", DISK_HEALTH_UNKNOWN },
	{ "{\"smartctl\":{\"exit_status\":2}}", DISK_HEALTH_UNKNOWN },
	{ "[]", DISK_HEALTH_UNKNOWN },
	{ "{\"smart_status\":{\"passed\":true}", DISK_HEALTH_UNKNOWN },
	{ "", DISK_HEALTH_UNKNOWN },
};

START_TEST(health_is_what_smart_says)
{
	ck_assert_int_eq(disk_health_parse(healths[_i].text, strlen(healths[_i].text)), healths[_i].health);
}
END_TEST

/* Another program */

static const struct {
	const char *argv[5];
	int timeout_ms, result;
	const char *output;
} programs[] = {
	{ { "env", "sh", "-c", "echo one; echo two >&2", NULL }, -1, 0, "one\ntwo\n" },
	{ { "env", "sh", "-c", "exit 7", NULL }, -1, 7, "" },
	{ { "env", "sh", "-c", "kill -9 $$", NULL }, -1, -EINTR, "" },
	{ { "env", "sh", "-c", "read x || echo end", NULL }, -1, 0, "end\n" }, /* nobody answers its questions */
	{ { "env", "sh", "-c", "echo begun; sleep 1000", NULL }, 300, -ETIME, "begun\n" },
	{ { "env", "sh", "-c", "yes 0123456789 | head -c 1000000", NULL }, -1, 0, "0123456789\n0123456789\n0123456789\n0123456789\n0123456789\n01234567" },
	{ { "no-such-program", NULL }, -1, -ENOENT, "" },
};

START_TEST(a_program_is_run_to_its_end)
{
	struct child child = { 0 };
	char output[64];

	ck_assert_int_eq(child_run(&child, programs[_i].argv, programs[_i].timeout_ms, output, sizeof(output)), programs[_i].result);
	ck_assert_str_eq(output, programs[_i].output);
	ck_assert_int_eq(child.pid, 0);
}
END_TEST

static void *kill_soon(void *arg)
{
	struct child *child = arg;

	while (!atomic_load(&child->pid))
		usleep(1000);
	child_kill(child);
	return NULL;
}

START_TEST(a_program_can_be_ended)
{
	static const char *const argv[] = { "env", "sleep", "1000", NULL };
	struct child child = { 0 };
	char output[64];
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, kill_soon, &child), 0);
	ck_assert_int_eq(child_run(&child, argv, -1, output, sizeof(output)), -ECANCELED);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(child_run(&child, argv, -1, output, sizeof(output)), -ECANCELED); /* nor does it begin again */
}
END_TEST

/* The device is a file, which mkfs takes as well. */
static const struct {
	const char *type;
	off_t bytes;
	int result;
	const char *why; /* a part of it */
} makes[] = {
	{ "ext4", 16 << 20, 0, "" },
	{ "ext4", 4096, -EIO, "mkfs.ext4 failed: " },
	{ "xfs", 4096, -EIO, "mkfs.xfs failed: " },
	{ "btrfs", 16 << 20, -EINVAL, "" },
};

START_TEST(a_file_system_is_made_or_it_is_said_why_not)
{
	uint8_t uuid[UUID_BYTES] = { 1, 2, 3 };
	char why[256] = "";
	struct child child = { 0 };
	FILE *out = fopen(file, "w");

	ck_assert_ptr_nonnull(out);
	ck_assert_int_eq(ftruncate(fileno(out), makes[_i].bytes), 0);
	fclose(out);
	ck_assert_int_eq(disk_format(&child, file, makes[_i].type, uuid, false, why, sizeof(why)), makes[_i].result);
	ck_assert_msg(strstr(why, makes[_i].why) == why, "%s", why);
}
END_TEST

/* Somebody could still repair it: an LVM label as pvcreate(8) writes it, except for its checksum. */
START_TEST(what_is_damaged_is_something)
{
	static const char label[] = "LABELONE\1\0\0\0\0\0\0\0\0\0\0\0\40\0\0\0LVM2 0010123456789abcdefghijklmnopqrstuv";
	struct disk_facts facts = { .bytes = 16 << 20 };
	FILE *out = fopen(file, "w");

	ck_assert_ptr_nonnull(out);
	ck_assert_int_eq(ftruncate(fileno(out), (off_t)facts.bytes), 0);
	snprintf(facts.device, sizeof(facts.device), "%.63s", file);
	disk_probe(&facts);
	ck_assert_str_eq(facts.holds, "");
	ck_assert_int_eq(pwrite(fileno(out), label, sizeof(label), 512), sizeof(label));
	fclose(out);
	disk_probe(&facts);
	ck_assert_str_eq(facts.holds, "LVM2_member");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("disks");
	TCase *tcase = tcase_create("disks");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, the_record_survives);
	tcase_add_test(tcase, a_full_record_takes_no_more);
	tcase_add_loop_test(tcase, a_damaged_record_is_not_guessed_at, 0, sizeof(damaged) / sizeof(damaged[0]));
	tcase_add_loop_test(tcase, health_is_what_smart_says, 0, sizeof(healths) / sizeof(healths[0]));
	tcase_add_loop_test(tcase, a_program_is_run_to_its_end, 0, sizeof(programs) / sizeof(programs[0]));
	tcase_add_test(tcase, a_program_can_be_ended);
	tcase_add_loop_test(tcase, a_file_system_is_made_or_it_is_said_why_not, 0, sizeof(makes) / sizeof(makes[0]));
	tcase_add_test(tcase, what_is_damaged_is_something);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
