/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, the administrator sees a cool and idle disk node where nobody knows, or the figures of a disk that hangs.
 *
 * /proc and /sys are files that the test writes; room and device numbers are those of its own directory.
 */
#include "config.h"

#include "slave/load.h"

#include "common/clock.h"
#include "common/workers.h"

#include <check.h>
#include <event2/event.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { VOLUME = 7 };

static char root[64];
static struct event_base *base;
static struct workers *workers;
static struct load_meter *meter;
static struct load load;

static void setup(void)
{
	snprintf(root, sizeof(root), "/tmp/vnas-load-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	base = event_base_new();
	ck_assert_int_eq(workers_new(base, 1, &workers), 0);
	meter = load_meter_new(workers, root);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void teardown(void)
{
	workers_free(workers);
	load_meter_free(meter);
	event_base_free(base);
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void __attribute__((format(printf, 2, 3))) write_below(const char *name, const char *format, ...)
{
	char path[PATH_MAX], *slash;
	va_list args;
	FILE *out;

	snprintf(path, sizeof(path), "%s%s", root, name);
	for (slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
	out = fopen(path, "w");
	ck_assert_ptr_nonnull(out);
	va_start(args, format);
	vfprintf(out, format, args);
	va_end(args);
	fclose(out);
}

/* The device that the test's directory is on, between two others. */
static void write_disks(uint64_t busy_ms)
{
	struct stat st;

	ck_assert_int_eq(stat(root, &st), 0);
	write_below("/proc/diskstats",
		    "   7  250 loop250 1 2 3 4 5 6 7 8 9 999999 11 12 13 14 15 16 17\n"
		    " %u %u mine 1 2 3 4 5 6 7 8 9 %ju 11 12 13 14 15 16 17\n"
		    " 259  255 other 1 2 3 4 5 6 7 8 9 5 11\n", major(st.st_dev), minor(st.st_dev), (uintmax_t)busy_ms);
}

static bool has_run;

static void on_nothing(evutil_socket_t fd, short what, void *arg) { (void)fd, (void)what, (void)arg; }
static void run_nothing(struct work *work) { (void)work; }
static void note_done(struct work *work) { (void)work, has_run = true; }

/* The one worker comes to this when it has done what was submitted before. */
static void wait_for_worker(void)
{
	struct work work = { .lane = &work, .run = run_nothing, .done = note_done };
	struct event *keeps_loop = event_new(base, -1, EV_PERSIST, on_nothing, NULL);

	event_add(keeps_loop, &(struct timeval){ .tv_usec = 1000 });
	has_run = false;
	ck_assert_int_eq(workers_submit(workers, &work), 0);
	while (!has_run)
		event_base_loop(base, EVLOOP_ONCE);
	event_free(keeps_loop);
}

static void measure(void)
{
	load_meter_want(meter, VOLUME, root);
	load_meter_measure(meter);
	wait_for_worker();
	load_meter_read(meter, clock_monotonic_ms(), &load);
}

static bool knows_room(void) { return load.volume_count == 1 && load.volumes[0].knows_room; }
static bool knows_busy(void) { return load.volume_count == 1 && load.volumes[0].knows_busy; }

START_TEST(what_can_not_be_read_is_unknown)
{
	load_meter_read(meter, clock_monotonic_ms(), &load);
	ck_assert_uint_eq(load.volume_count, 0);
	measure();
	ck_assert(knows_room());
	ck_assert(!load.knows_cpu && !load.knows_temperature && !load.volumes[0].knows_busy);
	ck_assert_uint_eq(load.volumes[0].volume, VOLUME);
	ck_assert_uint_ge(load.volumes[0].size_bytes, load.volumes[0].free_bytes);
}
END_TEST

/* 40 of 100 ticks between two measurements; not what was since the machine started. */
START_TEST(cpu_is_of_the_last_time)
{
	write_below("/proc/stat", "cpu  900000 0 0 0 0 0 0 0 0 0\ncpu0 1 2 3\n");
	measure();
	ck_assert(!load.knows_cpu);
	write_below("/proc/stat", "cpu  900010 10 10 50 10 5 5 0 0 0\ncpu0 1 2 3\n");
	measure();
	ck_assert(load.knows_cpu);
	ck_assert_uint_eq(load.cpu_permille, 400);
	write_below("/proc/stat", "something else\n");
	measure();
	ck_assert(!load.knows_cpu);
}
END_TEST

START_TEST(a_busy_disk_is_seen)
{
	write_disks(1000);
	measure();
	write_disks(1000 + 3600000); /* more than can be */
	usleep(2000); /* the clock counts milliseconds */
	measure();
	ck_assert(knows_busy());
	ck_assert_uint_eq(load.volumes[0].busy_permille, 1000);
	usleep(2000);
	measure();
	ck_assert(knows_busy() && load.volumes[0].busy_permille == 0);
	write_disks(5); /* the counters began anew */
	measure();
	ck_assert(!knows_busy());
}
END_TEST

START_TEST(the_hottest_sensor_counts)
{
	write_below("/sys/class/thermal/thermal_zone0/temp", "30000\n");
	measure();
	ck_assert_int_eq(load.temperature_millicelsius, 30000);
	write_below("/sys/class/hwmon/hwmon0/temp1_input", "41000\n");
	write_below("/sys/class/hwmon/hwmon1/temp1_input", "-55500\n");
	write_below("/sys/class/hwmon/hwmon1/temp2_input", "48500\n");
	write_below("/sys/class/hwmon/hwmon1/temp3_input", "255000\n"); /* nothing is connected */
	write_below("/sys/class/hwmon/hwmon1/temp4_input", "none\n");
	measure();
	ck_assert_int_eq(load.temperature_millicelsius, 48500);
}
END_TEST

START_TEST(zero_degrees_are_not_unknown)
{
	write_below("/sys/class/hwmon/hwmon0/temp1_input", "0\n");
	measure();
	ck_assert(load.knows_temperature);
	ck_assert_int_eq(load.temperature_millicelsius, 0);
}
END_TEST

/* A disk that hangs has no figures any more, nor has a volume that is gone. */
START_TEST(old_figures_are_unknown)
{
	measure();
	ck_assert(knows_room());
	load_meter_read(meter, clock_monotonic_ms() + LOAD_STALE_MS, &load);
	ck_assert_uint_eq(load.volume_count, 0);
	load_meter_measure(meter); /* nobody has wanted it again */
	load_meter_read(meter, clock_monotonic_ms(), &load);
	ck_assert_uint_eq(load.volume_count, 0);
}
END_TEST

START_TEST(the_wire_keeps_what_is_unknown)
{
	static struct load before = {
		.knows_cpu = true,
		.cpu_permille = 0,
		.knows_clock = true,
		.clock = { .offset_ns = -3, .delay_ns = 4, .is_corrected = true },
		.volume_count = 3,
		.volumes = { { .volume = 1, .knows_busy = true, .busy_permille = 5 },
			     { .volume = 2, .knows_room = true, .free_bytes = 6, .size_bytes = 7 },
			     { .volume = 3 } },
	};
	static scp_load_volume volumes[LOAD_VOLUMES_MAX];
	scp_load wire;

	load_to_wire(&before, &wire, volumes);
	memset(&load, 0xff, sizeof(load));
	load_from_wire(&wire, &load);
	ck_assert_mem_eq(&before, &load, sizeof(load));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("load");
	TCase *tcase = tcase_create("load");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, what_can_not_be_read_is_unknown);
	tcase_add_test(tcase, cpu_is_of_the_last_time);
	tcase_add_test(tcase, a_busy_disk_is_seen);
	tcase_add_test(tcase, the_hottest_sensor_counts);
	tcase_add_test(tcase, zero_degrees_are_not_unknown);
	tcase_add_test(tcase, old_figures_are_unknown);
	tcase_add_test(tcase, the_wire_keeps_what_is_unknown);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
