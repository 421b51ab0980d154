/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a disk node answers ARP for the virtual IP address and takes the clients away from the switch, or
 * vnasd leaves an administrator's machine changed after it has gone.
 *
 * Each case runs in a network namespace of its own; /proc/sys/net is that of the process's namespace.
 */
#include "config.h"

#include "common/log.h"
#include "common/machine.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static char folder[] = "/tmp/test_machine.XXXXXX";
static char record[sizeof(folder) + 16];

static const char *const vips[] = { "10.9.0.1", "fd00:9::1" };

static void enter_empty_machine(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	ck_assert_int_eq(system("ip link add dev v0 address 02:00:00:00:00:01 type veth peer name v1 && "
				"ip link set dev v0 up && ip link set dev v1 up"), 0);
	strcpy(folder, "/tmp/test_machine.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	sprintf(record, "%s/record", folder);
	log_open(LOG_LEVEL_ERR);
}

static void leave_machine(void)
{
	unlink(record);
	ck_assert_int_eq(rmdir(folder), 0);
}

static const char *sysctl_value(const char *name)
{
	static char value[256];
	char path[PATH_MAX];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	in = fopen(path, "r");
	ck_assert_ptr_nonnull(in);
	ck_assert_ptr_nonnull(fgets(value, sizeof(value), in));
	fclose(in);
	value[strcspn(value, "\n")] = '\0';
	return value;
}

/* With the longest possible prefix. */
static bool has_address(const char *interface, const char *address)
{
	char command[256];

	snprintf(command, sizeof(command), "ip -o address show dev %s | grep -q ' %s/%s '", interface, address,
		 strchr(address, ':') ? "128" : "32");
	return system(command) == 0;
}

static bool is_up(const char *interface)
{
	char command[256];

	snprintf(command, sizeof(command), "ip -o link show dev %s | grep -q '[<,]UP[,>]'", interface);
	return system(command) == 0;
}

static char *recorded(void)
{
	static char text[65536];
	FILE *in = fopen(record, "r");
	size_t len;

	if (!in)
		return NULL;
	len = fread(text, 1, sizeof(text) - 1, in);
	fclose(in);
	text[len] = '\0';
	return text;
}

/* What follows the first line. */
static const char *recorded_changes(void)
{
	const char *text = recorded();

	ck_assert_ptr_nonnull(text);
	ck_assert(strncmp(text, "vnas-machine-1 boot=", 20) == 0);
	return strchr(text, '\n') + 1;
}

static void write_record(const char *text)
{
	FILE *out = fopen(record, "w");

	ck_assert_ptr_nonnull(out);
	fputs(text, out);
	ck_assert_int_eq(fclose(out), 0);
}

static struct machine *opened(void)
{
	struct machine *machine = NULL;

	ck_assert_int_eq(machine_open(record, &machine), 0);
	return machine;
}

static const struct {
	const char *name, *value;
} wanted[] = {
	{ "net/ipv4/conf/all/arp_ignore", "1" },    { "net/ipv4/conf/v0/arp_ignore", "1" },
	{ "net/ipv4/conf/all/arp_announce", "2" },  { "net/ipv4/conf/v0/arp_announce", "2" },
	{ "net/ipv4/conf/all/rp_filter", "0" },	    { "net/ipv4/conf/v0/rp_filter", "0" },
	{ "net/ipv4/conf/default/rp_filter", "0" },
};

enum { WANTED_COUNT = sizeof(wanted) / sizeof(wanted[0]) };

static void set_other_values(struct machine *machine)
{
	for (size_t i = 0; i < WANTED_COUNT; i++)
		ck_assert_int_eq(machine_sysctl(machine, wanted[i].name, strstr(wanted[i].name, "rp_filter") ? "2" : "0"), 0);
}

static void check_values(bool are_ours)
{
	for (size_t i = 0; i < WANTED_COUNT; i++) {
		const char *other = strstr(wanted[i].name, "rp_filter") ? "2" : "0";

		ck_assert_msg(strcmp(sysctl_value(wanted[i].name), are_ours ? wanted[i].value : other) == 0, "%s = %s",
			      wanted[i].name, sysctl_value(wanted[i].name));
	}
}

/* The values that some distributions start with. */
static void set_up_distribution(void)
{
	struct machine *machine = opened();

	set_other_values(machine);
	machine_close(machine, 0);
	unlink(record);
	check_values(false);
}

START_TEST(slave_is_set_up_and_undone)
{
	struct machine *machine;

	set_up_distribution();
	machine = opened();
	ck_assert_int_eq(machine_setup_slave(machine, "v0", vips, 2), 0);
	check_values(true);
	ck_assert(is_up("lo"));
	ck_assert(has_address("lo", vips[0]));
	ck_assert(has_address("lo", vips[1]));
	ck_assert_int_ne(system("ip -o -6 address show dev lo | grep -q tentative"), 0);
	machine_close(machine, 1);
	check_values(false);
	ck_assert(!is_up("lo"));
	ck_assert(!has_address("lo", vips[0]));
	ck_assert(!has_address("lo", vips[1]));
	ck_assert_ptr_null(recorded());
}
END_TEST

START_TEST(slave_without_interface_is_quiet)
{
	struct machine *machine = opened();

	ck_assert_int_eq(machine_setup_slave(machine, "", vips, 1), 0);
	ck_assert_str_eq(sysctl_value("net/ipv4/conf/all/arp_ignore"), "1");
	ck_assert_str_eq(sysctl_value("net/ipv4/conf/v0/arp_ignore"), "0");
	ck_assert(has_address("lo", vips[0]));
	machine_close(machine, 1);
}
END_TEST

START_TEST(master_is_set_up_and_undone)
{
	static const char *const interfaces[] = { "v0", "v1" };
	struct machine *machine;

	set_up_distribution();
	machine = opened();
	ck_assert_int_eq(machine_setup_master(machine, "v0", interfaces, 2, vips, 2), 0);
	check_values(true);
	ck_assert_str_eq(sysctl_value("net/ipv4/conf/v1/arp_ignore"), "1");
	ck_assert(has_address("v0", vips[0]));
	ck_assert(has_address("v0", vips[1]));
	ck_assert(!has_address("v1", vips[0]));
	ck_assert(!has_address("lo", vips[0]));
	machine_close(machine, 1);
	check_values(false);
	ck_assert_str_eq(sysctl_value("net/ipv4/conf/v1/arp_ignore"), "0");
	ck_assert(!has_address("v0", vips[0]));
	ck_assert(is_up("v0"));
}
END_TEST

/* A daemon that was killed: the next one goes on, records nothing twice, and undoes what the first one did. */
START_TEST(next_run_takes_up_the_record)
{
	struct machine *machine;
	char *first;

	set_up_distribution();
	machine = opened();
	ck_assert_int_eq(machine_setup_slave(machine, "v0", vips, 2), 0);
	first = strdup(recorded());
	machine_close(machine, 0);
	check_values(true);
	machine = opened();
	ck_assert_int_eq(machine_setup_slave(machine, "v0", vips, 2), 0);
	ck_assert_str_eq(recorded(), first);
	ck_assert_int_eq(system("sysctl -qw net.ipv4.conf.all.rp_filter=1 && ip address del 10.9.0.1/32 dev lo"), 0);
	ck_assert_int_eq(machine_setup_slave(machine, "v0", vips, 2), 0);
	ck_assert_str_eq(recorded(), first);
	check_values(true);
	ck_assert(has_address("lo", vips[0]));
	machine_close(machine, 1);
	check_values(false);
	ck_assert(!has_address("lo", vips[0]));
	free(first);
}
END_TEST

START_TEST(what_is_there_is_left_alone)
{
	struct machine *machine;

	ck_assert_int_eq(system("ip link set dev lo up; ip address add 10.9.0.1/24 dev lo label lo:1;"
				"ip address add fd00:9::1/64 dev lo"), 0);
	machine = opened();
	ck_assert_int_eq(machine_address(machine, "lo", vips[0]), 0);
	ck_assert_int_eq(machine_address(machine, "lo", vips[1]), 0);
	ck_assert_int_eq(machine_sysctl(machine, "net/ipv4/conf/v0/forwarding",
					sysctl_value("net/ipv4/conf/v0/forwarding")), 0);
	ck_assert_str_eq(recorded_changes(), "");
	ck_assert_int_eq(machine_address(machine, "v0", vips[0]), 0);
	ck_assert_str_eq(recorded_changes(), "address v0 10.9.0.1\n");
	machine_close(machine, 1);
	ck_assert_int_eq(system("ip address show dev lo | grep -q 10.9.0.1/24"), 0);
	ck_assert_int_eq(system("ip address show dev lo | grep -q fd00:9::1/64"), 0);
}
END_TEST

START_TEST(mistakes_are_reported)
{
	struct machine *machine = opened();
	unsigned char mac[6];

	ck_assert_int_eq(machine_address(machine, "v9", vips[0]), -ENODEV);
	ck_assert_int_eq(machine_address(machine, "v0", "10.9.0.1/24"), -EINVAL);
	ck_assert_int_eq(machine_address(machine, "v0", ""), -EINVAL);
	ck_assert_int_eq(machine_sysctl(machine, "net/ipv4/conf/v9/arp_ignore", "1"), -ENOENT);
	ck_assert_int_eq(machine_sysctl(machine, "net/ipv4/conf/v0/forwarding", "many"), -EINVAL);
	ck_assert_int_eq(machine_setup_slave(machine, "v9", vips, 2), -ENODEV);
	ck_assert_int_eq(machine_setup_slave(machine, "a name that is too long for an interface", vips, 2), -ENODEV);
	ck_assert_int_eq(machine_setup_master(machine, "v9", NULL, 0, vips, 2), -ENODEV);
	ck_assert_int_eq(machine_mac("v9", mac), -ENODEV);
	ck_assert_int_eq(machine_mac("v0", mac), 0);
	ck_assert_mem_eq(mac, "\2\0\0\0\0\1", 6);
	machine_close(machine, 1);
}
END_TEST

static bool has_queue(const char *interface, const char *kind)
{
	char command[128];

	snprintf(command, sizeof(command), "tc qdisc show dev %s root | grep -q '^qdisc %s '", interface, kind);
	return system(command) == 0;
}

START_TEST(queue_is_changed_and_undone)
{
	struct machine *machine = opened();

	ck_assert_int_eq(machine_queue(machine, "v0"), 0);
	ck_assert(has_queue("v0", "pfifo_fast"));
	ck_assert_int_eq(machine_queue(machine, "v0"), 0);
	ck_assert_str_eq(recorded_changes(), "queue v0\n");
	machine_close(machine, 0);
	machine = opened();
	ck_assert_int_eq(machine_queue(machine, "v0"), 0);
	ck_assert_str_eq(recorded_changes(), "queue v0\n");
	ck_assert_int_eq(machine_queue(machine, "v9"), -ENODEV);
	machine_close(machine, 1);
	ck_assert(!has_queue("v0", "pfifo_fast"));
}
END_TEST

START_TEST(configured_queue_is_left_alone)
{
	struct machine *machine = opened();

	ck_assert_int_eq(system("tc qdisc add dev v0 root tbf rate 1mbit burst 10k limit 100k"), 0);
	ck_assert_int_eq(system("ip tuntap add t0 mode tap multi_queue && ip link set t0 up"), 0);
	ck_assert(has_queue("t0", "mq"));
	ck_assert_int_eq(machine_queue(machine, "v0"), 0);
	ck_assert_int_eq(machine_queue(machine, "t0"), 0);
	ck_assert(has_queue("v0", "tbf"));
	ck_assert(has_queue("t0", "mq"));
	machine_close(machine, 1);
	ck_assert(has_queue("v0", "tbf"));
	ck_assert(has_queue("t0", "mq"));
}
END_TEST

/* Cards are pulled, tunnels end. */
START_TEST(gone_interface_does_not_stop_undoing)
{
	struct machine *machine;

	set_up_distribution();
	machine = opened();
	ck_assert_int_eq(machine_setup_slave(machine, "v0", vips, 2), 0);
	ck_assert_int_eq(machine_address(machine, "v0", vips[0]), 0);
	ck_assert_int_eq(system("ip link del dev v0"), 0);
	machine_close(machine, 1);
	ck_assert_str_eq(sysctl_value("net/ipv4/conf/all/rp_filter"), "2");
	ck_assert(!has_address("lo", vips[0]));
	ck_assert_ptr_null(recorded());
}
END_TEST

START_TEST(record_of_an_earlier_boot_is_forgotten)
{
	struct machine *machine;

	write_record("vnas-machine-1 boot=01234567-89ab-cdef-0123-456789abcdef\nsysctl net/ipv4/conf/all/arp_ignore 7\n");
	machine = opened();
	ck_assert_str_eq(recorded_changes(), "");
	machine_close(machine, 1);
	ck_assert_str_eq(sysctl_value("net/ipv4/conf/all/arp_ignore"), "0");
}
END_TEST

/* The machine lost power, or the daemon was killed, in the middle of a line: its change was not made. */
START_TEST(torn_line_is_forgotten)
{
	struct machine *machine = opened();
	char *whole, text[4096];

	ck_assert_int_eq(machine_sysctl(machine, "net/ipv4/conf/all/arp_ignore", "1"), 0);
	machine_close(machine, 0);
	whole = strdup(recorded());
	snprintf(text, sizeof(text), "%.4000ssysctl net/ipv4/conf/a", whole);
	write_record(text);
	machine = opened();
	ck_assert_str_eq(recorded(), whole);
	ck_assert_int_eq(machine_sysctl(machine, "net/ipv4/conf/all/arp_announce", "2"), 0);
	ck_assert_str_eq(recorded_changes(),
			 "sysctl net/ipv4/conf/all/arp_ignore 0\nsysctl net/ipv4/conf/all/arp_announce 0\n");
	machine_close(machine, 1);
	free(whole);
	write_record("vnas-mach");
	machine = opened();
	ck_assert_str_eq(recorded_changes(), "");
	machine_close(machine, 1);
}
END_TEST

START_TEST(other_file_is_refused)
{
	struct machine *machine = NULL;
	char text[4096];

	write_record("Dear diary,\n");
	ck_assert_int_eq(machine_open(record, &machine), -EBADMSG);
	ck_assert_str_eq(recorded(), "Dear diary,\n");
	unlink(record);
	machine_close(opened(), 0);
	snprintf(text, sizeof(text), "%.4000spaint it black\n", recorded());
	write_record(text);
	ck_assert_int_eq(machine_open(record, &machine), -EBADMSG);
	ck_assert_str_eq(recorded(), text);
	ck_assert_ptr_null(machine);
	ck_assert_int_eq(machine_open("/nowhere/record", &machine), -ENOENT);
}
END_TEST

/* A change that can't be recorded is not made. */
START_TEST(full_disk_stops_changes)
{
	struct machine *machine = opened();

	ck_assert_int_eq(system("ip link set dev lo up"), 0);
	for (int fd = 3; fd < 100; fd++) {
		char path[64], target[PATH_MAX] = "";

		sprintf(path, "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof(target) - 1) > 0 && strcmp(target, record) == 0) {
			int full = open("/dev/full", O_WRONLY);

			ck_assert_int_eq(dup2(full, fd), fd);
			close(full);
		}
	}
	ck_assert_int_eq(machine_sysctl(machine, "net/ipv4/conf/all/arp_ignore", "1"), -ENOSPC);
	ck_assert_int_eq(machine_address(machine, "lo", vips[0]), -ENOSPC);
	ck_assert_str_eq(sysctl_value("net/ipv4/conf/all/arp_ignore"), "0");
	ck_assert(!has_address("lo", vips[0]));
	machine_close(machine, 1);
}
END_TEST

/* Exits 77 where network namespaces are not permitted. A child tries, so that this process stays where it is. */
static bool is_permitted(void)
{
	return system("unshare --net sh -c 'ip link set dev lo up && sysctl -qw net.ipv4.conf.all.arp_ignore=1' "
		      ">/dev/null 2>&1") == 0;
}

int main(void)
{
	Suite *suite = suite_create("machine");
	TCase *tcase = tcase_create("machine");
	SRunner *runner;
	int failed;

	if (!is_permitted()) {
		puts("skipped: needs root, network namespaces, ip and sysctl");
		return SKIPPED;
	}
	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, enter_empty_machine, leave_machine);
	tcase_add_test(tcase, slave_is_set_up_and_undone);
	tcase_add_test(tcase, slave_without_interface_is_quiet);
	tcase_add_test(tcase, master_is_set_up_and_undone);
	tcase_add_test(tcase, next_run_takes_up_the_record);
	tcase_add_test(tcase, what_is_there_is_left_alone);
	tcase_add_test(tcase, mistakes_are_reported);
	tcase_add_test(tcase, queue_is_changed_and_undone);
	tcase_add_test(tcase, configured_queue_is_left_alone);
	tcase_add_test(tcase, gone_interface_does_not_stop_undoing);
	tcase_add_test(tcase, record_of_an_earlier_boot_is_forgotten);
	tcase_add_test(tcase, torn_line_is_forgotten);
	tcase_add_test(tcase, other_file_is_refused);
	tcase_add_test(tcase, full_disk_stops_changes);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
