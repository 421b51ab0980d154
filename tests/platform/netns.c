/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "tests/platform/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

static void say(const char *what, const char *format, va_list args)
{
	fflush(stdout);
	fprintf(stderr, "%s: ", what);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
}

void skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("SKIP", format, args);
	va_end(args);
	exit(77);
}

void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("FAIL", format, args);
	va_end(args);
	exit(1);
}

void check_ok(const char *file, int line, const char *what, int err)
{
	if (err)
		fail("%s:%d: %s: %s", file, line, what, strerror(-err));
}

static void mount_bpffs(void)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		skip("no mount namespaces: %s", strerror(errno));
	if (mount("bpf", NETNS_BPFFS, "bpf", 0, NULL))
		skip("no bpffs at " NETNS_BPFFS ": %s", strerror(errno));
}

void netns_setup(bool with_bpf)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (geteuid() != 0)
		skip("needs root");
	if (unshare(CLONE_NEWNET))
		skip("no network namespaces: %s", strerror(errno));
	if (with_bpf)
		mount_bpffs();
}

static int current_netns(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY);

	CHECK(fd >= 0);
	return fd;
}

void netns_enter(int netns)
{
	if (setns(netns, CLONE_NEWNET))
		fail("setns: %s", strerror(errno));
}

static void write_sysctl(const char *path, const char *value)
{
	char full[256];
	int fd;

	snprintf(full, sizeof(full), "/proc/sys/%s", path);
	fd = open(full, O_WRONLY);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		fail("%s: %s", full, strerror(errno));
	close(fd);
}

void netns_sysctl(int netns, const char *path, const char *value)
{
	int back = current_netns();

	netns_enter(netns);
	write_sysctl(path, value);
	netns_enter(back);
	close(back);
}

void netns_run(int netns, const char *format, ...)
{
	int back = current_netns();
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	netns_enter(netns);
	if (system(command) != 0)
		fail("command failed: %s", command);
	netns_enter(back);
	close(back);
}

int netns_new(void)
{
	int back = current_netns(), fd;

	if (unshare(CLONE_NEWNET))
		skip("no network namespaces: %s", strerror(errno));
	fd = current_netns();
	write_sysctl("net/ipv4/conf/all/rp_filter", "0");
	write_sysctl("net/ipv4/conf/default/rp_filter", "0");
	write_sysctl("net/ipv4/conf/all/arp_ignore", "1");
	write_sysctl("net/ipv4/conf/all/arp_announce", "2");
	write_sysctl("net/ipv6/conf/default/accept_dad", "0");
	netns_enter(back);
	close(back);
	netns_run(fd, "ip link set lo up");
	return fd;
}

void netns_link(int netns_a, const char *name_a, int netns_b, const char *name_b)
{
	netns_run(netns_a, "ip link add %s type veth peer name %s netns /proc/%d/fd/%d", name_a, name_b, (int)getpid(),
		  netns_b);
	netns_run(netns_a, "ip link set %s up", name_a);
	netns_run(netns_b, "ip link set %s up", name_b);
}

void netns_mac(int netns, const char *interface, uint8_t mac[static 6])
{
	int back = current_netns(), fd;
	struct ifreq ifr = { 0 };

	netns_enter(netns);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
	CHECK(ioctl(fd, SIOCGIFHWADDR, &ifr) == 0);
	memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
	close(fd);
	netns_enter(back);
	close(back);
}

/* Lines come in pairs: "Tcp: names", "Tcp: values". */
static bool find_counter(FILE *file, const char *group, const char *name, uint64_t *value)
{
	static char names[8192], values[8192];
	char *name_rest, *value_rest, *n, *v;

	while (file && fgets(names, sizeof(names), file) && fgets(values, sizeof(values), file)) {
		n = strtok_r(names, ": \n", &name_rest);
		v = strtok_r(values, ": \n", &value_rest);
		if (!n || strcmp(n, group) != 0)
			continue;
		while ((n = strtok_r(NULL, " \n", &name_rest)) && (v = strtok_r(NULL, " \n", &value_rest))) {
			if (strcmp(n, name) == 0) {
				*value = strtoull(v, NULL, 10);
				return true;
			}
		}
	}
	return false;
}

uint64_t netns_counter(int netns, const char *group, const char *name)
{
	static const char *const files[] = { "/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat" };
	int back = current_netns();
	uint64_t value = 0;
	bool found = false;

	netns_enter(netns);
	for (int i = 0; !found && i < 2; i++) {
		FILE *file = fopen(files[i], "r");

		found = find_counter(file, group, name, &value);
		if (file)
			fclose(file);
	}
	netns_enter(back);
	close(back);
	if (!found)
		fail("no counter %s %s", group, name);
	return value;
}

socklen_t netns_address(const char *address, uint16_t port, struct sockaddr_storage *out)
{
	struct sockaddr_in *in = (struct sockaddr_in *)out;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		return sizeof(*in);
	}
	CHECK(inet_pton(AF_INET6, address, &in6->sin6_addr) == 1);
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	return sizeof(*in6);
}

int netns_listen(int netns, const char *address, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = netns_address(address, port, &ss);
	int back = current_netns(), one = 1, fd;

	netns_enter(netns);
	fd = socket(ss.ss_family, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len) || listen(fd, 64))
		fail("listen at %s: %s", address, strerror(errno));
	netns_enter(back);
	close(back);
	return fd;
}

int netns_connect(int netns, const char *address, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = netns_address(address, port, &ss);
	int back = current_netns(), fd;

	if (netns >= 0)
		netns_enter(netns);
	fd = socket(ss.ss_family, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&ss, len))
		fail("connect to %s: %s", address, strerror(errno));
	netns_enter(back);
	close(back);
	return fd;
}
