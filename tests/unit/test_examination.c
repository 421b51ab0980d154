/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, `nasctl check` says that all is well where it is not, or has administrators mend what is not broken.
 *
 * The rules are tried on facts made by hand; what finds facts, on a machine of its own: a network namespace, and a mount namespace with
 * another /etc/passwd. That takes root.
 */
#include "config.h"

#include "common/examination_facts.h"
#include "common/examination_machine.h"
#include "common/examination_names.h"
#include "common/examination_probe.h"
#include "master/examination_rules.h"
#include "slave/examiner.h"

#include <arpa/inet.h>
#include <check.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEVICES = 3, SWITCH = 0, DISK1 = 1, DISK2 = 2, CLUSTER = 3, NOW_S = 1800000000, DAY_S = 86400 };

/* Facts */

START_TEST(facts_are_found_again)
{
	struct examination_facts facts = { 0 };
	const struct examination_fact *fact;
	int64_t number = 7;
	size_t at = 0;

	examination_put(&facts, "mtu", "eth0", "%d", 1500);
	examination_put(&facts, "mtu", "eth1", "%d", 9000);
	examination_put(&facts, "serves", "", "yes");
	ck_assert_str_eq(examination_value(&facts, "mtu", "eth1"), "9000");
	ck_assert_ptr_null(examination_value(&facts, "mtu", "eth2"));
	ck_assert(examination_number(&facts, "mtu", "eth0", &number) && number == 1500);
	ck_assert(!examination_number(&facts, "serves", "", &number) && number == 1500);
	ck_assert(examination_is(&facts, "serves", "") && !examination_is(&facts, "mtu", "eth0"));
	fact = examination_next(&facts, "mtu", &at);
	ck_assert_str_eq(fact->subject, "eth0");
	fact = examination_next(&facts, "mtu", &at);
	ck_assert_str_eq(fact->subject, "eth1");
	ck_assert_ptr_null(examination_next(&facts, "mtu", &at));
	examination_facts_fini(&facts);
}
END_TEST

START_TEST(facts_can_be_shown)
{
	struct examination_facts facts = { 0 };
	char subject[2 * EXAMINATION_SUBJECT_MAX];

	memset(subject, 's', sizeof(subject) - 1);
	subject[sizeof(subject) - 1] = '\0';
	examination_put(&facts, "a", subject, "%s", "red \033[31m and\nmore");
	ck_assert_uint_eq(strlen(facts.items[0].subject), EXAMINATION_SUBJECT_MAX - 1);
	ck_assert_str_eq(facts.items[0].value, "red ?[31m and?more");
	examination_facts_fini(&facts);
}
END_TEST

START_TEST(facts_are_bounded)
{
	struct examination_facts facts = { 0 }, others = { 0 };

	for (int i = 0; i < EXAMINATION_FACTS_MAX; i++)
		examination_put(&facts, "a", "", "%d", i);
	ck_assert(!facts.is_cut);
	examination_put(&others, "b", "", "1");
	examination_facts_move(&facts, &others);
	ck_assert(facts.is_cut);
	ck_assert_uint_eq(facts.count, EXAMINATION_FACTS_MAX);
	ck_assert_uint_eq(others.count, 0);
	examination_facts_fini(&facts);
}
END_TEST

START_TEST(facts_travel)
{
	struct examination_facts facts = { 0 }, back = { 0 };
	scp_examined wire;

	examination_put(&facts, "mtu", "eth0", "1500");
	examination_put(&facts, "vip", "10.0.0.1", "%s", "");
	ck_assert_int_eq(examination_to_wire(&facts, &wire), 0);
	examination_from_wire(&wire, &back);
	ck_assert_uint_eq(back.count, 2);
	ck_assert_str_eq(examination_value(&back, "mtu", "eth0"), "1500");
	ck_assert_str_eq(examination_value(&back, "vip", "10.0.0.1"), "");
	free(wire.facts.facts_val);
	examination_facts_fini(&facts);
	examination_facts_fini(&back);
}
END_TEST

/* Rules: a healthy cluster, inline, of which one thing changes at a time */

static struct examination_device devices[DEVICES];
static struct examination_cluster cluster;

static struct examination_facts *facts_of(int who)
{
	return who == CLUSTER ? &cluster.facts : &devices[who].facts;
}

/* @value: NULL: there is no such fact */
static void set(int who, const char *area, const char *subject, const char *value)
{
	struct examination_facts *facts = facts_of(who), kept = { 0 };

	for (size_t i = 0; i < facts->count; i++)
		if (strcmp(facts->items[i].area, area) != 0 || strcmp(facts->items[i].subject, subject) != 0)
			examination_put(&kept, facts->items[i].area, facts->items[i].subject, "%s", facts->items[i].value);
	if (value)
		examination_put(&kept, area, subject, "%s", value);
	examination_facts_fini(facts);
	*facts = kept;
}

static void set_interface(int who, const char *name, const char *purpose)
{
	char sysctl[128];

	set(who, "interface", name, purpose);
	set(who, "link", name, "up");
	set(who, "mtu", name, "1500");
	snprintf(sysctl, sizeof(sysctl), "net/ipv4/conf/%s/rp_filter", name);
	set(who, "sysctl", sysctl, "0");
	snprintf(sysctl, sizeof(sysctl), "net/ipv4/conf/%s/arp_ignore", name);
	set(who, "sysctl", sysctl, "1");
	snprintf(sysctl, sizeof(sysctl), "net/ipv4/conf/%s/arp_announce", name);
	set(who, "sysctl", sysctl, "2");
}

static void set_device(int who)
{
	static const char *const names[] = { "switch", "disk1", "disk2" }, *const macs[] = { "02:00:00:00:00:01", "02:00:00:00:00:02",
											     "02:00:00:00:00:03" };
	static const struct {
		const char *area, *subject, *value;
	} common[] = {
		{ "state", "", "up" },
		{ "report", "", "yes" },
		{ "names", "", "yes" },
		{ "software", "", "vnas 0.1" },
		{ "kernel", "", "6.1.0-18-amd64" },
		{ "capabilities", "", "000001ffffffffff" },
		{ "nofile", "", "1048576" },
		{ "time_service", "", "yes" },
		{ "clock", "bound_ms", "1000" },
		{ "clock", "offset_ns", "-2000000" },
		{ "setting", "connections", "21845" },
		{ "setting", "handoff", "yes" },
		{ "setting", "correct", "yes" },
		{ "setting", "nfs_port", "2049" },
		{ "setting", "scp_port", "2050" },
		{ "setting", "vip", "" },
		{ "serves", "", "yes" },
		{ "handoffs", "", "yes" },
		{ "sysctl", "net/core/bpf_jit_enable", "1" },
		{ "sysctl", "net/ipv4/ip_local_port_range", "32768 60999" },
		{ "sysctl", "net/ipv4/ip_local_reserved_ports", "" },
		{ "sysctl", "net/ipv4/ip_forward", "0" },
		{ "sysctl", "net/netfilter/nf_conntrack_count", "0" },
		{ "sysctl", "net/netfilter/nf_conntrack_tcp_loose", "1" },
		{ "sysctl", "net/netfilter/nf_conntrack_tcp_be_liberal", "0" },
		{ "sysctl", "net/ipv4/conf/all/rp_filter", "0" },
		{ "sysctl", "net/ipv4/conf/all/arp_ignore", "1" },
		{ "sysctl", "net/ipv4/conf/all/arp_announce", "2" },
		{ "certificate", "node", "1790000000 1820000000" },
		{ "certificate", "authority", "1790000000 2100000000" },
		{ "digest", "users", "17" },
		{ "digest", "groups", "18" },
	};

	devices[who].id = (uint32_t)who + 1;
	devices[who].name = names[who];
	devices[who].is_switch = who == SWITCH;
	for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
		set(who, common[i].area, common[i].subject, common[i].value);
	set(who, "mac", "", macs[who]);
	if (who == SWITCH) {
		set_interface(who, "eth0", "clients");
		set_interface(who, "eth1", "disks");
		set(who, "vip", "10.0.0.1", "eth0");
	} else {
		set_interface(who, "eth0", "both");
		set(who, "vip", "10.0.0.1", "lo");
		set(who, "path", "10.0.1.1", "whole");
		set(who, "member", "1", "up");
		set(who, "volume", who == DISK1 ? "1" : "2", "room 500000 1000000 5000 10000");
	}
}

static void make_healthy(void)
{
	cluster = (struct examination_cluster){ .devices = devices, .count = DEVICES, .now_s = NOW_S };
	for (int i = 0; i < DEVICES; i++)
		set_device(i);
	set(DISK2, "member", "2", "up");
	set(CLUSTER, "vips", "", "10.0.0.1");
	set(CLUSTER, "place", "1", "/disk0");
	set(CLUSTER, "place", "2", "/disk1");
	set(CLUSTER, "manage_gids", "", "no");
}

static void end_cluster(void)
{
	for (int i = 0; i < DEVICES; i++)
		examination_facts_fini(&devices[i].facts);
	examination_facts_fini(&cluster.facts);
}

#define NONE NULL, EXAMINATION_NOTE, CLUSTER, NULL

/* What changes, and the one finding that there is then, or NONE */
static const struct wrong {
	struct {
		int who;
		const char *area, *subject, *value;
	} changes[4];
	const char *examination;
	enum examination_severity severity;
	int device;
	const char *text; /* of the finding, or the remedy */
} wrongs[] = {
	{ { { DISK1, "state", "", "down" }, { DISK1, "report", "", NULL }, { DISK1, "reason", "", "silent for 5 s" } },
	  "devices", EXAMINATION_ERROR, DISK1, "silent for 5 s" },
	{ { { DISK1, "state", "", "held down" } }, "devices", EXAMINATION_WARNING, DISK1, "held down" },
	{ { { DISK1, "state", "", "pending" }, { DISK1, "report", "", NULL } }, "devices", EXAMINATION_NOTE, DISK1, "node approve 2" },
	{ { { DISK1, "report", "", "old" } }, "devices", EXAMINATION_WARNING, DISK1, "too old" },
	{ { { DISK1, "report", "", "it did not answer in time" } }, "devices", EXAMINATION_WARNING, DISK1, "did not answer" },
	{ { { DISK1, "late", "names", "" }, { DISK1, "digest", "users", NULL } }, "devices", EXAMINATION_WARNING, DISK1, "getent" },
	{ { { DISK2, "member", "2", "down" } }, "members", EXAMINATION_ERROR, DISK2, "it and disk1 don't hear each other" },
	{ { { DISK2, "software", "", "vnas 0.2" } }, "versions", EXAMINATION_WARNING, DISK2, "vnas 0.2, the switch vnas 0.1" },
	{ { { DISK2, "setting", "nfs_port", "2051" } }, "settings", EXAMINATION_ERROR, DISK2, "[nfs] port" },
	{ { { DISK2, "setting", "handoff", "no" }, { DISK2, "handoffs", "", "no" } }, "settings", EXAMINATION_WARNING, DISK2, "handoff" },
	{ { { DISK2, "setting", "vip", "10.0.0.2" } }, "settings", EXAMINATION_WARNING, DISK2, "10.0.0.2" },
	{ { { DISK2, "setting", "vip", "10.0.0.1" } }, NONE },
	{ { { DISK1, "kernel", "", "5.10.0-9-amd64" } }, "kernel", EXAMINATION_WARNING, DISK1, "5.10.0" },
	{ { { DISK1, "kernel", "", "10.0.1" } }, NONE },
	{ { { DISK1, "sysctl", "net/core/bpf_jit_enable", "0" } }, "kernel", EXAMINATION_WARNING, DISK1, "bpf_jit_enable=1" },
	{ { { DISK1, "sysctl", "net/core/bpf_jit_enable", NULL } }, NONE },
	{ { { DISK1, "handoffs", "", "no" } }, "kernel", EXAMINATION_ERROR, DISK1, "no handoffs" },
	{ { { DISK1, "capabilities", "", "000001ffffffefff" } }, "capabilities", EXAMINATION_ERROR, DISK1, "CAP_NET_ADMIN" },
	{ { { DISK1, "capabilities", "", "000001fffeffffff" } }, NONE }, /* CAP_SYS_RESOURCE */
	{ { { DISK1, "nofile", "", "1024" } }, "limits", EXAMINATION_NOTE, DISK1, "LimitNOFILE=22869" },
	{ { { DISK1, "clock", "offset_ns", "1500000000" } }, "time", EXAMINATION_ERROR, DISK1, "1.500 s ahead" },
	{ { { DISK1, "clock", "offset_ns", "-1500000000" } }, "time", EXAMINATION_ERROR, DISK1, "1.500 s behind" },
	{ { { DISK1, "clock", "offset_ns", NULL } }, NONE },
	{ { { SWITCH, "time_service", "", "no" } }, "time", EXAMINATION_NOTE, SWITCH, "no time service" },
	{ { { DISK1, "time_service", "", "no" } }, NONE }, /* its daemon slews it */
	{ { { DISK1, "time_service", "", "no" }, { DISK1, "setting", "correct", "no" } },
	  "time", EXAMINATION_WARNING, DISK1, "nobody keeps its clock" },
	{ { { DISK1, "certificate", "node", "1790000000 1800259200" } }, "certificates", EXAMINATION_WARNING, DISK1, "3 days" },
	{ { { DISK1, "certificate", "node", "1790000000 1799999999" } }, "certificates", EXAMINATION_ERROR, DISK1, "expired" },
	{ { { SWITCH, "certificate", "authority", "1500000000 1801000000" } }, "certificates", EXAMINATION_WARNING, SWITCH, "authority" },
	{ { { DISK1, "certificate", "authority", "1500000000 1801000000" } }, NONE }, /* the same as the switch's; said once */
	{ { { DISK1, "certificate", "node", "nonsense" } }, NONE },
	{ { { DISK1, "serves", "", "no" } }, "service", EXAMINATION_ERROR, DISK1, "does not serve" },
	{ { { DISK1, "listener", "tcp 10.0.1.2 2049", "" } }, "ports", EXAMINATION_WARNING, DISK1, "port 2049 of 10.0.1.2" },
	{ { { DISK1, "sysctl", "net/ipv4/ip_local_port_range", "1024 60999" },
	    { DISK1, "sysctl", "net/ipv4/ip_local_reserved_ports", "2000,2040-2049" } },
	  "local ports", EXAMINATION_WARNING, DISK1, "ip_local_reserved_ports=2000,2040-2049,2050" },
	{ { { DISK1, "sysctl", "net/ipv4/ip_local_port_range", "1024 60999" },
	    { DISK1, "sysctl", "net/ipv4/ip_local_reserved_ports", "2049-2050" } }, NONE },
	{ { { DISK1, "link", "eth0", "no carrier" } }, "links", EXAMINATION_ERROR, DISK1, "eth0 is no carrier" },
	{ { { DISK1, "mtu", "eth0", "1400" } }, "mtu", EXAMINATION_ERROR, DISK1, "mtu 1500" },
	{ { { SWITCH, "mtu", "eth1", "1400" }, { DISK1, "mtu", "eth0", NULL }, { DISK2, "mtu", "eth0", NULL } },
	  "mtu", EXAMINATION_ERROR, SWITCH, "the MTU of eth1 is 1400" },
	{ { { DISK1, "mtu", "eth0", "9000" } }, "mtu", EXAMINATION_WARNING, DISK1, "on the same network" },
	{ { { SWITCH, "mtu", "eth1", "9000" }, { DISK1, "mtu", "eth0", "9000" }, { DISK2, "mtu", "eth0", "9000" } }, NONE },
	{ { { DISK1, "path", "10.0.1.1", "short" } }, "paths", EXAMINATION_ERROR, DISK1, "10.0.1.1" },
	{ { { DISK1, "path", "10.0.1.1", "none" } }, NONE }, /* echoes are often filtered */
	{ { { DISK1, "vip", "10.0.0.1", "" } }, "vips", EXAMINATION_ERROR, DISK1, "on none of its interfaces" },
	{ { { DISK1, "vip", "10.0.0.1", "lo eth0" } }, "vips", EXAMINATION_ERROR, DISK1, "ip address del 10.0.0.1 dev eth0" },
	{ { { DISK1, "vip", "10.0.0.1", "lo eth01" } }, NONE },
	{ { { SWITCH, "answers", "10.0.0.1 eth0", "02:00:00:00:00:03" } }, "duplicates", EXAMINATION_ERROR, DISK2, "10.0.0.1" },
	{ { { SWITCH, "answers", "10.0.0.1 eth0", "02:00:00:00:00:99" } }, "duplicates", EXAMINATION_ERROR, SWITCH, "02:00:00:00:00:99" },
	{ { { DISK1, "dad", "fd00::7 eth0", "failed" } }, "duplicates", EXAMINATION_ERROR, DISK1, "fd00::7" },
	{ { { DISK1, "dad", "fd00::7 eth0", "tentative" } }, NONE },
	{ { { DISK1, "sysctl", "net/ipv4/conf/all/arp_ignore", "0" }, { DISK1, "sysctl", "net/ipv4/conf/eth0/arp_ignore", "0" } },
	  "arp", EXAMINATION_ERROR, DISK1, "arp_ignore" },
	{ { { DISK1, "sysctl", "net/ipv4/conf/eth0/arp_ignore", "0" } }, NONE }, /* that of all counts */
	{ { { SWITCH, "sysctl", "net/ipv4/conf/eth0/arp_ignore", "8" } }, "arp", EXAMINATION_ERROR, SWITCH, "too little" },
	{ { { DISK1, "sysctl", "net/ipv4/conf/all/arp_announce", "0" }, { DISK1, "sysctl", "net/ipv4/conf/eth0/arp_announce", "1" } },
	  "arp", EXAMINATION_ERROR, DISK1, "arp_announce" },
	{ { { DISK1, "sysctl", "net/ipv4/conf/all/rp_filter", "1" } }, "reverse path", EXAMINATION_ERROR, DISK1, "strict" },
	{ { { DISK1, "sysctl", "net/ipv4/conf/eth0/rp_filter", "2" }, { DISK1, "sysctl", "net/ipv4/conf/all/rp_filter", "1" } }, NONE },
	{ { { SWITCH, "sysctl", "net/ipv4/ip_forward", "1" } }, "forwarding", EXAMINATION_NOTE, SWITCH, "ip_forward=0" },
	{ { { DISK1, "sysctl", "net/ipv4/ip_forward", "1" } }, NONE },
	{ { { SWITCH, "sysctl", "net/ipv4/ip_forward", "1" }, { SWITCH, "interface", "eth0", "both" },
	    { SWITCH, "interface", "eth1", NULL } }, NONE }, /* one-arm: nobody is behind it */
	{ { { DISK1, "sysctl", "net/netfilter/nf_conntrack_count", "5" } }, "tracking", EXAMINATION_NOTE, DISK1, "be_liberal=1" },
	{ { { DISK1, "sysctl", "net/netfilter/nf_conntrack_count", "5" },
	    { DISK1, "sysctl", "net/netfilter/nf_conntrack_tcp_loose", "0" } },
	  "tracking", EXAMINATION_WARNING, DISK1, "tcp_loose=1" },
	{ { { DISK1, "sysctl", "net/netfilter/nf_conntrack_count", "5" },
	    { DISK1, "sysctl", "net/netfilter/nf_conntrack_tcp_be_liberal", "1" } }, NONE },
	{ { { DISK1, "volume", "1", "room 40000 1000000 5000 10000" } }, "volumes", EXAMINATION_WARNING, DISK1, "/disk0 has 4 % of its bytes" },
	{ { { DISK1, "volume", "1", "room 500000 1000000 50 10000" } }, "volumes", EXAMINATION_ERROR, DISK1, "0 % of its inodes" },
	{ { { DISK1, "volume", "1", "room 500000 1000000 0 0" } }, NONE }, /* no bound: Btrfs */
	{ { { DISK1, "volume", "1", "silent" } }, "volumes", EXAMINATION_ERROR, DISK1, "does not answer" },
	{ { { DISK1, "volume", "9", "away" } }, "volumes", EXAMINATION_ERROR, DISK1, "away" },
	{ { { DISK1, "disk", "/dev/sdb", "WDC, serial number WD-7" } }, "disks", EXAMINATION_ERROR, DISK1, "/dev/sdb (WDC" },
	{ { { DISK1, "digest", "users", NULL } }, "ids", EXAMINATION_NOTE, DISK1, "too many" },
	{ { { DISK1, "digest", "users", "99" }, { DISK1, "user", "alice", "1002" }, { SWITCH, "user", "alice", "1001" } },
	  "ids", EXAMINATION_WARNING, DISK1, "user alice is 1002 here, 1001 on switch" },
	{ { { DISK1, "digest", "groups", "99" }, { DISK1, "group", "staff", "1002" }, { SWITCH, "group", "staff", "1001" } },
	  "ids", EXAMINATION_WARNING, DISK1, "groupmod" },
	{ { { DISK1, "digest", "users", "99" }, { DISK1, "user", "bob", "1002" } }, "ids", EXAMINATION_NOTE, SWITCH, "1 other like it" },
	{ { { DISK1, "digest", "users", "99" }, { DISK1, "user", "bob", "1002" }, { CLUSTER, "manage_gids", "", "yes" } },
	  "ids", EXAMINATION_WARNING, SWITCH, "bob" },
	{ { { CLUSTER, "user", "alice", "10001" }, { SWITCH, "user", "alice", "1001" } },
	  "ids", EXAMINATION_WARNING, SWITCH, "10001 on the cluster" },
	{ { { CLUSTER, "user", "alice", "10001" } }, NONE }, /* known everywhere by that */
};

enum { WRONGS = sizeof(wrongs) / sizeof(wrongs[0]) };

static void change(const struct wrong *wrong)
{
	for (size_t i = 0; i < 4 && wrong->changes[i].area; i++)
		set(wrong->changes[i].who, wrong->changes[i].area, wrong->changes[i].subject, wrong->changes[i].value);
}

static void say(const struct examination_findings *findings)
{
	for (size_t i = 0; i < findings->count; i++)
		printf("%s: %s -> %s\n", findings->items[i].examination, findings->items[i].what, findings->items[i].remedy);
}

START_TEST(healthy_cluster_has_no_findings)
{
	struct examination_findings findings = { 0 };

	make_healthy();
	examination_judge(&cluster, &findings);
	say(&findings);
	ck_assert_uint_eq(findings.count, 0);
	end_cluster();
}
END_TEST

START_TEST(each_wrong_thing_is_one_finding)
{
	const struct wrong *wrong = &wrongs[_i];
	struct examination_findings findings = { 0 };

	make_healthy();
	change(wrong);
	examination_judge(&cluster, &findings);
	say(&findings);
	ck_assert_msg(findings.count == (wrong->examination != NULL), "%zu findings of %s %s", findings.count, wrong->changes[0].area,
		      wrong->changes[0].value);
	if (wrong->examination) {
		ck_assert_str_eq(findings.items[0].examination, wrong->examination);
		ck_assert_int_eq(findings.items[0].severity, wrong->severity);
		ck_assert_ptr_eq(findings.items[0].device, &devices[wrong->device]);
		ck_assert_msg(strstr(findings.items[0].what, wrong->text) || strstr(findings.items[0].remedy, wrong->text), "\"%s\"",
			      wrong->text);
		ck_assert_str_ne(findings.items[0].remedy, "");
	}
	examination_findings_fini(&findings);
	end_cluster();
}
END_TEST

START_TEST(names_are_to_differ)
{
	struct examination_findings findings = { 0 };

	make_healthy();
	devices[DISK2].name = "disk1";
	examination_judge(&cluster, &findings);
	ck_assert_uint_eq(findings.count, 1);
	ck_assert_str_eq(findings.items[0].examination, "names");
	ck_assert_ptr_eq(findings.items[0].device, &devices[DISK2]);
	examination_findings_fini(&findings);
	end_cluster();
}
END_TEST

START_TEST(worst_findings_come_first)
{
	struct examination_findings findings = { 0 };

	make_healthy();
	set(SWITCH, "time_service", "", "no");
	set(DISK1, "sysctl", "net/core/bpf_jit_enable", "0");
	set(DISK2, "serves", "", "no");
	set(DISK1, "serves", "", "no");
	examination_judge(&cluster, &findings);
	ck_assert_uint_eq(findings.count, 4);
	ck_assert_ptr_eq(findings.items[0].device, &devices[DISK1]);
	ck_assert_int_eq(findings.items[0].severity, EXAMINATION_ERROR);
	ck_assert_ptr_eq(findings.items[1].device, &devices[DISK2]);
	ck_assert_int_eq(findings.items[2].severity, EXAMINATION_WARNING);
	ck_assert_int_eq(findings.items[3].severity, EXAMINATION_NOTE);
	examination_findings_fini(&findings);
	end_cluster();
}
END_TEST

/* However much a device makes up. */
START_TEST(findings_are_bounded)
{
	struct examination_findings findings = { 0 };
	char subject[64];

	make_healthy();
	for (int i = 0; i < EXAMINATION_FACTS_MAX; i++) {
		snprintf(subject, sizeof(subject), "tcp 10.0.0.1 %d", i);
		examination_put(&devices[DISK1].facts, "listener", subject, "%s", "");
	}
	examination_judge(&cluster, &findings);
	ck_assert_uint_eq(findings.count, EXAMINATION_FINDINGS_MAX);
	examination_findings_fini(&findings);
	end_cluster();
}
END_TEST

START_TEST(names_are_asked_for_only_if_digests_differ)
{
	struct examination_device *namers[EXAMINATION_NAMERS_MAX];

	make_healthy();
	ck_assert_uint_eq(examination_namers(&cluster, namers), 0);
	set(DISK2, "digest", "users", "99");
	ck_assert_uint_eq(examination_namers(&cluster, namers), 2);
	ck_assert_ptr_eq(namers[0], &devices[SWITCH]);
	ck_assert_ptr_eq(namers[1], &devices[DISK2]);
	end_cluster();
}
END_TEST

START_TEST(many_different_ids_are_summed_up)
{
	struct examination_findings findings = { 0 };
	char name[32];

	make_healthy();
	set(DISK2, "digest", "users", "99");
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "user%02d", i);
		set(SWITCH, "user", name, "2000");
		set(DISK2, "user", name, "3000");
		snprintf(name, sizeof(name), "only%02d", i);
		set(DISK2, "user", name, "4000");
	}
	examination_judge(&cluster, &findings);
	ck_assert_uint_eq(findings.count, 18);
	ck_assert_ptr_null(findings.items[0].device);
	ck_assert_ptr_nonnull(strstr(findings.items[0].what, "24 more users"));
	ck_assert_ptr_nonnull(strstr(findings.items[17].what, "only00, only01, only02, only03, only04 and 35 more"));
	examination_findings_fini(&findings);
	end_cluster();
}
END_TEST

/* Finding facts, on a machine of its own */

static void run(const char *command)
{
	ck_assert_msg(system(command) == 0, "%s", command);
}

static void enter_empty_machine(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	run("ip link set lo up && ip link add dev v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02 && "
	    "ip link set dev v0 up && ip address add 10.9.1.1/24 dev v0 && ip address add 10.9.0.1/32 dev lo");
}

static struct examination_machine node_machine(void)
{
	struct settings settings;
	struct examination_machine machine;

	settings_init(&settings);
	settings.mode = SETTINGS_MODE_SLAVE;
	strcpy(settings.interface, "v0");
	examination_machine_init(&machine, &settings, "10.9.0.1 fd00:9::1");
	settings_fini(&settings);
	return machine;
}

START_TEST(machine_is_described)
{
	struct examination_machine machine = node_machine();
	struct examination_facts facts = { 0 };
	int64_t number;

	run("ip link set v1 up mtu 1400; ip link set v0 mtu 1400; sysctl -qw net/ipv4/conf/v0/rp_filter=1; "
	    "sysctl -qw net/ipv4/ip_local_port_range='20000 30000'");
	examination_machine_find(&machine, &facts);
	ck_assert_str_eq(examination_value(&facts, "interface", "v0"), "both");
	ck_assert_str_eq(examination_value(&facts, "link", "v0"), "up");
	ck_assert_str_eq(examination_value(&facts, "mtu", "v0"), "1400");
	ck_assert_str_eq(examination_value(&facts, "sysctl", "net/ipv4/conf/v0/rp_filter"), "1");
	ck_assert_str_eq(examination_value(&facts, "vip", "10.9.0.1"), "lo");
	ck_assert_str_eq(examination_value(&facts, "vip", "fd00:9::1"), "");
	ck_assert_str_eq(examination_value(&facts, "sysctl", "net/ipv4/ip_local_port_range"), "20000 30000");
	ck_assert_ptr_nonnull(examination_value(&facts, "kernel", ""));
	ck_assert_ptr_nonnull(examination_value(&facts, "capabilities", ""));
	ck_assert_ptr_nonnull(examination_value(&facts, "time_service", ""));
	ck_assert(examination_number(&facts, "nofile", "", &number) && number > 0);
	examination_facts_fini(&facts);
	run("ip link set v1 down");
	examination_machine_find(&machine, &facts);
	ck_assert_str_eq(examination_value(&facts, "link", "v0"), "no carrier");
	examination_facts_fini(&facts);
}
END_TEST

static int listen_at(int type, const char *text, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, text, &address.sin_addr);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (type == SOCK_STREAM)
		ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

START_TEST(other_programs_listeners_are_told_from_ours)
{
	struct examination_machine machine = node_machine();
	struct examination_facts facts = { 0 };
	int ready[2], own = listen_at(SOCK_STREAM, "10.9.0.1", 2049), other = listen_at(SOCK_STREAM, "10.9.1.1", 2049);
	int other_udp = listen_at(SOCK_DGRAM, "10.9.1.1", 2049), elsewhere = listen_at(SOCK_STREAM, "10.9.1.1", 2048);
	pid_t child;
	char byte;

	ck_assert_int_eq(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		ck_assert_int_eq(write(ready[1], "", 1), 1);
		pause();
		_exit(0);
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	close(other);
	close(other_udp);
	close(elsewhere);
	examination_machine_find(&machine, &facts);
	ck_assert_ptr_nonnull(examination_value(&facts, "listener", "tcp 10.9.1.1 2049"));
	ck_assert_ptr_nonnull(examination_value(&facts, "listener", "udp 10.9.1.1 2049"));
	ck_assert_ptr_null(examination_value(&facts, "listener", "tcp 10.9.0.1 2049"));
	ck_assert_ptr_null(examination_value(&facts, "listener", "tcp 10.9.1.1 2048"));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(own);
	examination_facts_fini(&facts);
}
END_TEST

/* Another machine at the other end of the cable. Gives its process. */
static pid_t make_neighbour(const char *commands)
{
	int ready[2], moved[2];
	char byte, command[1024];
	pid_t child;

	ck_assert_int_eq(pipe(ready) | pipe(moved), 0);
	child = fork();
	if (child == 0) {
		if (unshare(CLONE_NEWNET) || write(ready[1], "", 1) != 1 || read(moved[0], &byte, 1) != 1 || system(commands))
			_exit(1);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	snprintf(command, sizeof(command), "ip link set v1 netns %d", child);
	run(command);
	ck_assert_int_eq(write(moved[1], "", 1), 1);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	return child;
}

static void find_path(const struct examination_machine *machine, struct examination_facts *facts)
{
	struct examination_peers peers = { .count = 1 };

	inet_pton(AF_INET, "10.9.1.2", &peers.addresses[0]);
	examination_probe_paths(machine, &peers, facts);
}

/* A cable that was just plugged in takes a moment. */
static void wait_for_neighbour(const struct examination_machine *machine)
{
	bool is_there = false;

	for (int i = 0; i < 20 && !is_there; i++) {
		struct examination_facts facts = { 0 };

		find_path(machine, &facts);
		is_there = strcmp(examination_value(&facts, "path", "10.9.1.2"), "none") != 0;
		examination_facts_fini(&facts);
	}
	ck_assert(is_there);
}

static void end_neighbour(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

START_TEST(addresses_of_others_are_found)
{
	struct examination_machine machine = node_machine();
	struct examination_facts facts = { 0 };
	pid_t neighbour = make_neighbour("ip link set lo up; ip link set v1 up; ip address add 10.9.1.2/24 dev v1; "
					 "ip address add 10.9.1.1/32 dev v1; ip address add 10.9.0.1/32 dev lo");

	/* It does not answer our echoes: for it we are it. */
	for (int i = 0; i < 20 && facts.count == 0; i++)
		examination_probe_addresses(&machine, false, &facts);
	ck_assert_str_eq(examination_value(&facts, "answers", "10.9.1.1 v0"), "02:00:00:00:00:02");
	ck_assert_uint_eq(facts.count, 1);
	examination_facts_fini(&facts);
	end_neighbour(neighbour);
}
END_TEST

/* On the switch the VIP is on the interface to the clients; a disk node has it on lo, and should keep quiet. */
START_TEST(who_answers_for_a_vip_is_found)
{
	struct examination_machine machine = node_machine();
	struct examination_facts facts = { 0 };
	pid_t neighbour = make_neighbour("ip link set lo up; ip link set v1 up; ip address add 10.9.1.2/24 dev v1; "
					 "ip address add 10.9.0.1/32 dev lo");

	wait_for_neighbour(&machine);
	run("ip address add 10.9.0.1/32 dev v0");
	examination_probe_addresses(&machine, true, &facts);
	ck_assert_str_eq(examination_value(&facts, "answers", "10.9.0.1 v0"), "02:00:00:00:00:02");
	examination_facts_fini(&facts);
	end_neighbour(neighbour);
}
END_TEST

START_TEST(nobody_answers_for_what_is_ours_alone)
{
	struct examination_machine machine = node_machine();
	struct examination_facts facts = { 0 };
	pid_t neighbour = make_neighbour("ip link set lo up; ip link set v1 up; ip address add 10.9.1.2/24 dev v1; "
					 "ip address add 10.9.0.1/32 dev lo; sysctl -qw net/ipv4/conf/all/arp_ignore=1");

	wait_for_neighbour(&machine);
	run("ip address add 10.9.0.1/32 dev v0");
	examination_probe_addresses(&machine, true, &facts);
	ck_assert_uint_eq(facts.count, 0);
	examination_facts_fini(&facts);
	end_neighbour(neighbour);
}
END_TEST

static const struct {
	const char *neighbour, *path;
} paths[] = {
	{ "ip link set v1 up; ip address add 10.9.1.2/24 dev v1", "whole" },
	{ "ip link set v1 up mtu 1000; ip address add 10.9.1.2/24 dev v1", "short" },
	{ "ip link set v1 up; ip address add 10.9.1.2/24 dev v1; sysctl -qw net/ipv4/icmp_echo_ignore_all=1", "none" },
};

START_TEST(paths_are_tried)
{
	struct examination_machine machine = node_machine();
	struct examination_facts facts = { 0 };
	pid_t neighbour = make_neighbour(paths[_i].neighbour);

	if (strcmp(paths[_i].path, "none") != 0)
		wait_for_neighbour(&machine);
	find_path(&machine, &facts);
	ck_assert_str_eq(examination_value(&facts, "path", "10.9.1.2"), paths[_i].path);
	examination_facts_fini(&facts);
	end_neighbour(neighbour);
}
END_TEST

static void have_users(const char *lines)
{
	char path[] = "/tmp/test_examination.XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_eq(write(fd, lines, strlen(lines)), (ssize_t)strlen(lines));
	ck_assert_int_eq(fchmod(fd, 0644), 0);
	close(fd);
	umount2("/etc/passwd", MNT_DETACH); /* those of before */
	ck_assert_int_eq(mount(path, "/etc/passwd", NULL, MS_BIND, NULL), 0);
	unlink(path);
}

#define ROOT "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"

static void find_digest(const char *users, char digest[static EXAMINATION_VALUE_MAX])
{
	struct examination_facts facts = { 0 };

	have_users(users);
	examination_names_find(false, &facts);
	ck_assert_ptr_nonnull(examination_value(&facts, "digest", "users"));
	strcpy(digest, examination_value(&facts, "digest", "users"));
	examination_facts_fini(&facts);
}

START_TEST(digests_tell_users_apart)
{
	char one[EXAMINATION_VALUE_MAX], same[EXAMINATION_VALUE_MAX], other[EXAMINATION_VALUE_MAX];

	find_digest(ROOT "alice:x:1001:1001::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n", one);
	find_digest("daemon:x:150:150::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\nalice:x:1001:1001::/home:/bin/sh\n", same);
	find_digest(ROOT "alice:x:1002:1001::/:/bin/sh\nbob:x:1001:1002::/:/bin/sh\n", other);
	ck_assert_str_eq(one, same);
	ck_assert_str_ne(one, other);
}
END_TEST

START_TEST(users_are_listed)
{
	struct examination_facts facts = { 0 };

	have_users(ROOT "alice:x:1001:1001::/:/bin/sh\n");
	examination_names_find(true, &facts);
	ck_assert_str_eq(examination_value(&facts, "user", "alice"), "1001");
	ck_assert_ptr_null(examination_value(&facts, "user", "root"));
	ck_assert_ptr_null(examination_value(&facts, "user", "nobody"));
	ck_assert_ptr_null(examination_value(&facts, "digest", "users"));
	examination_facts_fini(&facts);
}
END_TEST

/* No digest, or those of two devices might agree by what they have left out. */
START_TEST(too_many_users_have_no_digest)
{
	struct examination_facts facts = { 0 };
	char *users = malloc(64 * (EXAMINATION_NAMES_MAX + 1)), *at = users;

	for (int i = 0; i <= EXAMINATION_NAMES_MAX; i++)
		at += sprintf(at, "u%d:x:%d:1::/:/bin/sh\n", i, 2000 + i);
	have_users(users);
	examination_names_find(false, &facts);
	ck_assert_ptr_null(examination_value(&facts, "digest", "users"));
	examination_facts_fini(&facts);
	free(users);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("examination");
	TCase *rules = tcase_create("rules"), *machine;
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, rules);
	tcase_add_test(rules, facts_are_found_again);
	tcase_add_test(rules, facts_can_be_shown);
	tcase_add_test(rules, facts_are_bounded);
	tcase_add_test(rules, facts_travel);
	tcase_add_test(rules, healthy_cluster_has_no_findings);
	tcase_add_loop_test(rules, each_wrong_thing_is_one_finding, 0, WRONGS);
	tcase_add_test(rules, names_are_to_differ);
	tcase_add_test(rules, worst_findings_come_first);
	tcase_add_test(rules, findings_are_bounded);
	tcase_add_test(rules, names_are_asked_for_only_if_digests_differ);
	tcase_add_test(rules, many_different_ids_are_summed_up);
	tcase_set_timeout(rules, 60);
	if (geteuid() == 0) {
		machine = tcase_create("machine");
		suite_add_tcase(suite, machine);
		tcase_add_checked_fixture(machine, enter_empty_machine, NULL);
		tcase_add_test(machine, machine_is_described);
		tcase_add_test(machine, other_programs_listeners_are_told_from_ours);
		tcase_add_test(machine, addresses_of_others_are_found);
		tcase_add_test(machine, who_answers_for_a_vip_is_found);
		tcase_add_test(machine, nobody_answers_for_what_is_ours_alone);
		tcase_add_loop_test(machine, paths_are_tried, 0, sizeof(paths) / sizeof(paths[0]));
		tcase_add_test(machine, digests_tell_users_apart);
		tcase_add_test(machine, users_are_listed);
		tcase_add_test(machine, too_many_users_have_no_digest);
		tcase_set_timeout(machine, 60);
	} else {
		puts("without root nothing is examined but facts made by hand");
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
