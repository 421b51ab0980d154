/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/examination_machine.h"

#include "common/portmap.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { LISTENERS_MAX = 64, LINE_MAX_BYTES = 512, PATH_ROOM = 512, TCP_LISTENS = 0x0a, UDP_UNCONNECTED = 0x07 };

/* What to look at */

static void add_interface(struct examination_machine *machine, const char *name, bool to_clients, bool to_disks)
{
	struct examination_interface *interface = machine->interfaces;

	if (!*name)
		return;
	while (interface < machine->interfaces + machine->interface_count && strcmp(interface->name, name) != 0)
		interface++;
	if (interface == machine->interfaces + EXAMINATION_INTERFACES_MAX)
		return;
	if (interface == machine->interfaces + machine->interface_count) {
		machine->interface_count++;
		snprintf(interface->name, sizeof(interface->name), "%s", name);
	}
	interface->to_clients |= to_clients;
	interface->to_disks |= to_disks;
}

static void add_vips(struct examination_machine *machine, const char *vips)
{
	for (size_t len; *(vips += strspn(vips, " ")) && machine->vip_count < SETTINGS_VIPS_MAX; vips += len) {
		len = strcspn(vips, " ");
		snprintf(machine->vips[machine->vip_count++], SETTINGS_ADDRESS_MAX, "%.*s", (int)len, vips);
	}
}

void examination_machine_init(struct examination_machine *machine, const struct settings *settings, const char *vips)
{
	bool is_switch = settings->mode == SETTINGS_MODE_MASTER;

	*machine = (struct examination_machine){ .ports = { settings->nfs_port, settings->scp_port } };
	if (is_switch && settings->portmapper == SETTINGS_PORTMAPPER_BUILTIN)
		machine->ports[2] = PORTMAP_PORT;
	for (unsigned int i = 0; is_switch && i < settings->client_interface_count; i++)
		add_interface(machine, settings->client_interfaces[i], true, false);
	for (unsigned int i = 0; is_switch && i < settings->disk_interface_count; i++)
		add_interface(machine, settings->disk_interfaces[i], false, true);
	if (!is_switch)
		add_interface(machine, settings->interface, true, true);
	add_vips(machine, vips);
}

const char *examination_machine_inner(const struct examination_machine *machine)
{
	for (unsigned int i = 0; i < machine->interface_count; i++)
		if (machine->interfaces[i].to_disks)
			return machine->interfaces[i].name;
	return "";
}

/* The process and its kernel */

static void find_capabilities(struct examination_facts *out)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[LINE_MAX_BYTES], effective[32];

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "CapEff: %31s", effective) == 1)
			examination_put(out, "capabilities", "", "%s", effective);
	if (status)
		fclose(status);
}

static void find_process(struct examination_facts *out)
{
	struct timex timex = { .modes = 0 };
	struct rlimit limit;
	struct utsname name;

	if (uname(&name) == 0)
		examination_put(out, "kernel", "", "%s", name.release);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		examination_put(out, "nofile", "", "%llu", (unsigned long long)limit.rlim_cur);
	if (adjtimex(&timex) >= 0)
		examination_put(out, "time_service", "", "%s", timex.status & STA_UNSYNC ? "no" : "yes");
	find_capabilities(out);
}

/* Sysctls */

bool examination_sysctl(const char *name, char value[static EXAMINATION_VALUE_MAX])
{
	char path[PATH_ROOM];
	FILE *in;
	bool is_read;

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	in = fopen(path, "re");
	if (!in)
		return false;
	is_read = fgets(value, EXAMINATION_VALUE_MAX, in) != NULL;
	fclose(in);
	if (is_read)
		value[strcspn(value, "\n")] = '\0';
	for (char *p = value; is_read && (p = strchr(p, '\t'));)
		*p = ' ';
	return is_read;
}

static void find_sysctl(const char *name, struct examination_facts *out)
{
	char value[EXAMINATION_VALUE_MAX];

	if (examination_sysctl(name, value))
		examination_put(out, "sysctl", name, "%s", value);
}

/* Those that common/machine.c sets on an interface. */
static void find_sysctls_of(const char *interface, struct examination_facts *out)
{
	static const char *const names[] = { "rp_filter", "arp_ignore", "arp_announce" };
	char name[PATH_ROOM];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(name, sizeof(name), "net/ipv4/conf/%s/%s", interface, names[i]);
		find_sysctl(name, out);
	}
}

static void find_sysctls(const struct examination_machine *machine, struct examination_facts *out)
{
	static const char *const names[] = {
		"net/ipv4/ip_forward",
		"net/ipv6/conf/all/forwarding",
		"net/ipv4/ip_local_port_range",
		"net/ipv4/ip_local_reserved_ports",
		"net/core/bpf_jit_enable",
		"net/netfilter/nf_conntrack_count",
		"net/netfilter/nf_conntrack_tcp_loose",
		"net/netfilter/nf_conntrack_tcp_be_liberal",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		find_sysctl(names[i], out);
	find_sysctls_of("all", out);
	for (unsigned int i = 0; i < machine->interface_count; i++)
		find_sysctls_of(machine->interfaces[i].name, out);
}

/* Interfaces */

static int interface_ioctl(const char *interface, unsigned long request, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return -errno;
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", interface);
	if (ioctl(fd, request, ifr) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

int examination_mtu(const char *interface, unsigned int *mtu)
{
	struct ifreq ifr = { 0 };
	int rc = interface_ioctl(interface, SIOCGIFMTU, &ifr);

	if (rc == 0)
		*mtu = (unsigned int)ifr.ifr_mtu;
	return rc;
}

static const char *link_state(const char *interface)
{
	struct ifreq ifr = { 0 };

	if (interface_ioctl(interface, SIOCGIFFLAGS, &ifr) < 0)
		return "missing";
	return !(ifr.ifr_flags & IFF_UP) ? "down" : ifr.ifr_flags & IFF_RUNNING ? "up" : "no carrier";
}

static void find_interfaces(const struct examination_machine *machine, struct examination_facts *out)
{
	for (unsigned int i = 0; i < machine->interface_count; i++) {
		const struct examination_interface *interface = &machine->interfaces[i];
		unsigned int mtu;

		examination_put(out, "interface", interface->name, "%s",
				!interface->to_disks ? "clients" : !interface->to_clients ? "disks" : "both");
		examination_put(out, "link", interface->name, "%s", link_state(interface->name));
		if (examination_mtu(interface->name, &mtu) == 0)
			examination_put(out, "mtu", interface->name, "%u", mtu);
	}
}

/* Addresses */

static bool is_address(const struct sockaddr *address, const char *text)
{
	char own[INET6_ADDRSTRLEN] = "";

	if (address && address->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, own, sizeof(own));
	else if (address && address->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, own, sizeof(own));
	return strcmp(own, text) == 0;
}

/* As inet_ntop(3) writes it, by which it is compared. */
static void canonical(const char *text, char out[static INET6_ADDRSTRLEN])
{
	unsigned char bytes[16];
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;

	snprintf(out, INET6_ADDRSTRLEN, "%s", text);
	if (inet_pton(family, text, bytes) == 1)
		inet_ntop(family, bytes, out, INET6_ADDRSTRLEN);
}

static void find_vip(const struct ifaddrs *all, const char *vip, struct examination_facts *out)
{
	char places[EXAMINATION_VALUE_MAX] = "", text[INET6_ADDRSTRLEN];
	size_t len = 0;

	canonical(vip, text);
	for (const struct ifaddrs *at = all; at; at = at->ifa_next)
		if (is_address(at->ifa_addr, text) && len < sizeof(places))
			len += (size_t)snprintf(places + len, sizeof(places) - len, "%s%s", len ? " " : "", at->ifa_name);
	examination_put(out, "vip", vip, "%s", places);
}

static void find_vips(const struct examination_machine *machine, struct examination_facts *out)
{
	struct ifaddrs *all;

	if (getifaddrs(&all) < 0)
		return;
	for (unsigned int i = 0; i < machine->vip_count; i++)
		find_vip(all, machine->vips[i], out);
	freeifaddrs(all);
}

/* "fe80...01 02 40 20 80     eth0": address, index, length of the prefix, scope, flags; hexadecimal. */
static void find_duplicates(struct examination_facts *out)
{
	FILE *in = fopen("/proc/net/if_inet6", "re");
	char line[LINE_MAX_BYTES], digits[33], name[IFNAMSIZ], text[INET6_ADDRSTRLEN], subject[EXAMINATION_SUBJECT_MAX];
	struct in6_addr address;
	unsigned int flags;

	while (in && fgets(line, sizeof(line), in)) {
		if (sscanf(line, "%32s %*x %*x %*x %x %15s", digits, &flags, name) != 3 || strlen(digits) != 32 ||
		    !(flags & (IFA_F_DADFAILED | IFA_F_TENTATIVE)))
			continue;
		for (int i = 0; i < 16; i++) {
			const char pair[] = { digits[2 * i], digits[2 * i + 1], '\0' };

			address.s6_addr[i] = (uint8_t)strtoul(pair, NULL, 16);
		}
		inet_ntop(AF_INET6, &address, text, sizeof(text));
		snprintf(subject, sizeof(subject), "%s %s", text, name);
		examination_put(out, "dad", subject, "%s", flags & IFA_F_DADFAILED ? "failed" : "tentative");
	}
	if (in)
		fclose(in);
}

/* Listeners */

struct listener {
	const char *protocol; /* NULL: it is our own */
	char address[INET6_ADDRSTRLEN];
	unsigned int port;
	unsigned long inode;
};

struct listeners {
	struct listener items[LISTENERS_MAX];
	size_t count;
};

/* The kernel prints each word of an address in the byte order of the machine. */
static void decode_address(const char *digits, char text[static INET6_ADDRSTRLEN])
{
	size_t words = strlen(digits) / 8;
	uint32_t address[4] = { 0 };

	for (size_t i = 0; i < words && i < 4; i++) {
		char word[9];

		snprintf(word, sizeof(word), "%.8s", digits + 8 * i);
		address[i] = (uint32_t)strtoul(word, NULL, 16);
	}
	inet_ntop(words == 1 ? AF_INET : AF_INET6, address, text, INET6_ADDRSTRLEN);
}

static bool is_our_port(const struct examination_machine *machine, unsigned int port)
{
	for (size_t i = 0; i < EXAMINATION_PORTS_MAX; i++)
		if (port && machine->ports[i] == port)
			return true;
	return false;
}

static void read_listeners(const struct examination_machine *machine, const char *path, const char *protocol,
			   unsigned int wanted_state, struct listeners *out)
{
	FILE *in = fopen(path, "re");
	char line[LINE_MAX_BYTES], digits[33];
	struct listener found = { .protocol = protocol };
	unsigned int state;

	while (in && fgets(line, sizeof(line), in) && out->count < LISTENERS_MAX) {
		if (sscanf(line, " %*u: %32[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*d %lu", digits, &found.port, &state,
			   &found.inode) != 4 ||
		    state != wanted_state || !is_our_port(machine, found.port))
			continue;
		decode_address(digits, found.address);
		out->items[out->count++] = found;
	}
	if (in)
		fclose(in);
}

static void strike_out(struct listeners *listeners, unsigned long inode)
{
	for (size_t i = 0; i < listeners->count; i++)
		if (listeners->items[i].inode == inode)
			listeners->items[i].protocol = NULL;
}

/* The sockets that this process has. */
static void strike_out_own(struct listeners *listeners)
{
	DIR *fds = opendir("/proc/self/fd");
	char path[PATH_ROOM], target[64];
	struct dirent *entry;
	unsigned long inode;
	ssize_t len;

	while (fds && listeners->count && (entry = readdir(fds))) {
		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		if (len <= 0)
			continue;
		target[len] = '\0';
		if (sscanf(target, "socket:[%lu]", &inode) == 1)
			strike_out(listeners, inode);
	}
	if (fds)
		closedir(fds);
}

static void find_listeners(const struct examination_machine *machine, struct examination_facts *out)
{
	struct listeners listeners = { .count = 0 };
	char subject[EXAMINATION_SUBJECT_MAX];

	read_listeners(machine, "/proc/net/tcp", "tcp", TCP_LISTENS, &listeners);
	read_listeners(machine, "/proc/net/tcp6", "tcp", TCP_LISTENS, &listeners);
	read_listeners(machine, "/proc/net/udp", "udp", UDP_UNCONNECTED, &listeners);
	read_listeners(machine, "/proc/net/udp6", "udp", UDP_UNCONNECTED, &listeners);
	strike_out_own(&listeners);
	for (size_t i = 0; i < listeners.count; i++) {
		const struct listener *listener = &listeners.items[i];

		if (!listener->protocol)
			continue;
		snprintf(subject, sizeof(subject), "%s %s %u", listener->protocol, listener->address, listener->port);
		examination_put(out, "listener", subject, "%s", "");
	}
}

void examination_machine_find(const struct examination_machine *machine, struct examination_facts *out)
{
	find_process(out);
	find_sysctls(machine, out);
	find_interfaces(machine, out);
	find_vips(machine, out);
	find_duplicates(out);
	find_listeners(machine, out);
}
