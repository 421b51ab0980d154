/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/examination_network.c - examinations of one device: its interfaces, addresses, ports and sysctls
 */
#include "config.h"

#include "master/examination_rules.h"

#include "common/portmap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_ROOM = 512 };

/* Ports */

void examine_ports(const struct examination_cluster *cluster, const struct examination_device *device,
		   struct examination_findings *out)
{
	const struct examination_fact *listener;

	(void)cluster;
	for (size_t at = 0; (listener = examination_next(&device->facts, "listener", &at));) {
		char protocol[8], address[64];
		unsigned int port;

		if (sscanf(listener->subject, "%7s %63s %u", protocol, address, &port) == 3)
			examination_found(out, EXAMINATION_WARNING, device,
					  "another program has port %u of %s (%s), which is for vnasd\n"
					  "on that machine: ss -tulpn sport = :%u shows which; stop it",
					  port, address, protocol, port);
	}
}

/* "111,2049-2050": is @port in it? */
static bool is_in_list(const char *list, unsigned int port)
{
	unsigned int low, high;

	for (; *list; list += strcspn(list, ","), list += *list == ',') {
		int count = sscanf(list, "%u-%u", &low, &high);

		if (count < 1)
			return false;
		if (port >= low && port <= (count == 2 ? high : low))
			return true;
	}
	return false;
}

static void examine_local_port(const struct examination_device *device, int64_t port, struct examination_findings *out)
{
	const char *range = examination_value(&device->facts, "sysctl", "net/ipv4/ip_local_port_range");
	const char *reserved = examination_value(&device->facts, "sysctl", "net/ipv4/ip_local_reserved_ports");
	unsigned int low, high;

	if (!range || sscanf(range, "%u %u", &low, &high) != 2 || port < low || port > high ||
	    (reserved && is_in_list(reserved, (unsigned int)port)))
		return;
	examination_found(out, EXAMINATION_WARNING, device,
			  "any program's outgoing connections may take port %" PRId64 " (net/ipv4/ip_local_port_range is %u to %u), and then "
			  "vnasd can't start\n"
			  "on that machine: sysctl -w net/ipv4/ip_local_reserved_ports=%s%s%" PRId64,
			  port, low, high, reserved ? reserved : "", reserved && *reserved ? "," : "", port);
}

void examine_local_ports(const struct examination_cluster *cluster, const struct examination_device *device,
			 struct examination_findings *out)
{
	int64_t port;

	(void)cluster;
	if (examination_number(&device->facts, "setting", "nfs_port", &port))
		examine_local_port(device, port, out);
	if (examination_number(&device->facts, "setting", "scp_port", &port))
		examine_local_port(device, port, out);
	if (device->is_switch)
		examine_local_port(device, PORTMAP_PORT, out);
}

/* Interfaces */

void examine_links(const struct examination_cluster *cluster, const struct examination_device *device,
		   struct examination_findings *out)
{
	const struct examination_fact *link;

	(void)cluster;
	for (size_t at = 0; (link = examination_next(&device->facts, "link", &at));)
		if (strcmp(link->value, "up") != 0)
			examination_found(out, EXAMINATION_ERROR, device, "its interface %s is %s\n%s", link->subject, link->value,
					  strcmp(link->value, "down") == 0 ? "on that machine: ip link set it up" :
									     "look at its cable and its name in [network]");
}

/* Of the first interface of a device for @purpose, "clients" or "disks". Return: false if it is not known */
static bool mtu_for(const struct examination_device *device, const char *purpose, const char **name, int64_t *mtu)
{
	const struct examination_fact *interface;

	for (size_t at = 0; (interface = examination_next(&device->facts, "interface", &at));)
		if (strcmp(interface->value, purpose) == 0 || strcmp(interface->value, "both") == 0) {
			*name = interface->subject;
			return examination_number(&device->facts, "mtu", interface->subject, mtu);
		}
	return false;
}

/* The switch's interfaces, of which packets of clients come in by one and leave by the other. */
struct way {
	const char *clients, *disks;
	int64_t clients_mtu, disks_mtu;
};

static bool find_way(const struct examination_cluster *cluster, struct way *way)
{
	for (size_t i = 0; i < cluster->count; i++)
		if (cluster->devices[i].is_switch)
			return mtu_for(&cluster->devices[i], "clients", &way->clients, &way->clients_mtu) &&
			       mtu_for(&cluster->devices[i], "disks", &way->disks, &way->disks_mtu);
	return false;
}

static void examine_interface(const struct way *way, const struct examination_device *device, const char *name, int64_t mtu,
			      struct examination_findings *out)
{
	if (mtu < way->clients_mtu)
		examination_found(out, EXAMINATION_ERROR, device,
				  "the MTU of %s is %" PRId64 ", that of the switch's %s %" PRId64 ": clients' packets don't fit through\n"
				  "on that machine: ip link set %s mtu %" PRId64,
				  name, mtu, way->clients, way->clients_mtu, name, way->clients_mtu);
	else if (!device->is_switch && mtu != way->disks_mtu)
		examination_found(out, EXAMINATION_WARNING, device,
				  "the MTU of %s is %" PRId64 ", that of the switch's %s %" PRId64 ", on the same network\n"
				  "on that machine: ip link set %s mtu %" PRId64,
				  name, mtu, way->disks, way->disks_mtu, name, way->disks_mtu);
}

void examine_mtu(const struct examination_cluster *cluster, const struct examination_device *device,
		 struct examination_findings *out)
{
	const struct examination_fact *interface;
	struct way way;

	if (!find_way(cluster, &way))
		return;
	for (size_t at = 0; (interface = examination_next(&device->facts, "interface", &at));) {
		int64_t mtu;

		if (examination_number(&device->facts, "mtu", interface->subject, &mtu))
			examine_interface(&way, device, interface->subject, mtu, out);
	}
}

void examine_paths(const struct examination_cluster *cluster, const struct examination_device *device,
		   struct examination_findings *out)
{
	const struct examination_fact *path;

	(void)cluster;
	for (size_t at = 0; (path = examination_next(&device->facts, "path", &at));)
		if (strcmp(path->value, "short") == 0)
			examination_found(out, EXAMINATION_ERROR, device,
					  "packets as long as its MTU don't reach %s and come back, short ones do\n"
					  "give all ports of switches and machines between the two the same MTU",
					  path->subject);
}

/* Addresses */

/* Is @name one of the interfaces of @list, which are separated by a blank? */
static bool names_interface(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (; *list; list += strcspn(list, " "), list += *list == ' ')
		if (strncmp(list, name, len) == 0 && strchr(" :", list[len]))
			return true;
	return false;
}

static void examine_vip(const struct examination_device *device, const struct examination_fact *vip, struct examination_findings *out)
{
	const struct examination_fact *interface;

	if (!*vip->value) {
		examination_found(out, EXAMINATION_ERROR, device,
				  "the VIP %s is on none of its interfaces any more\n"
				  "on that machine: systemctl restart %s puts it back; look for what takes it away",
				  vip->subject, device->is_switch ? "vnas-master" : "vnas-slave");
		return;
	}
	for (size_t at = 0; !device->is_switch && (interface = examination_next(&device->facts, "interface", &at));)
		if (names_interface(vip->value, interface->subject))
			examination_found(out, EXAMINATION_ERROR, device,
					  "the VIP %s is on its %s, so it answers for it in the switch's place\n"
					  "on that machine: ip address del %s dev %s",
					  vip->subject, interface->subject, vip->subject, interface->subject);
}

void examine_vips(const struct examination_cluster *cluster, const struct examination_device *device,
		  struct examination_findings *out)
{
	const struct examination_fact *vip;

	(void)cluster;
	for (size_t at = 0; (vip = examination_next(&device->facts, "vip", &at));)
		examine_vip(device, vip, out);
}

/* Whose MAC it is. */
static const struct examination_device *device_by_mac(const struct examination_cluster *cluster, const char *mac)
{
	for (size_t i = 0; i < cluster->count; i++) {
		const char *own = examination_value(&cluster->devices[i].facts, "mac", "");

		if (own && strcmp(own, mac) == 0)
			return &cluster->devices[i];
	}
	return NULL;
}

static void examine_answer(const struct examination_cluster *cluster, const struct examination_device *device,
			   const struct examination_fact *answer, struct examination_findings *out)
{
	const struct examination_device *other = device_by_mac(cluster, answer->value);
	char address[64], interface[64];

	if (sscanf(answer->subject, "%63s %63s", address, interface) != 2)
		return;
	if (other && other != device)
		examination_found(out, EXAMINATION_ERROR, other,
				  "it answers ARP requests for %s, an address of %s\n"
				  "on that machine: ip address shows where it has it; sysctl -w net/ipv4/conf/all/arp_ignore=1",
				  address, device->name);
	else if (!other)
		examination_found(out, EXAMINATION_ERROR, device,
				  "its address %s is another machine's on %s, too, with MAC address %s\n"
				  "give that machine another address",
				  address, interface, answer->value);
}

void examine_duplicates(const struct examination_cluster *cluster, const struct examination_device *device,
			struct examination_findings *out)
{
	const struct examination_fact *fact;

	for (size_t at = 0; (fact = examination_next(&device->facts, "answers", &at));)
		examine_answer(cluster, device, fact, out);
	for (size_t at = 0; (fact = examination_next(&device->facts, "dad", &at));)
		if (strcmp(fact->value, "failed") == 0)
			examination_found(out, EXAMINATION_ERROR, device,
					  "its IPv6 address %s is another machine's, too, so the kernel does not use it\n"
					  "give one of the two another address",
					  fact->subject);
}

/* Sysctls of interfaces, of which the larger counts: the interface's or that of all */

static bool effective(const struct examination_device *device, const char *interface, const char *key, int64_t *value)
{
	char name[NAME_ROOM];
	int64_t all;

	snprintf(name, sizeof(name), "net/ipv4/conf/%s/%s", interface, key);
	if (!examination_number(&device->facts, "sysctl", name, value))
		return false;
	snprintf(name, sizeof(name), "net/ipv4/conf/all/%s", key);
	if (examination_number(&device->facts, "sysctl", name, &all) && all > *value)
		*value = all;
	return true;
}

static void examine_arp_of(const struct examination_device *device, const char *interface, struct examination_findings *out)
{
	int64_t value;

	if (effective(device, interface, "arp_ignore", &value) && value != 1 && value != 2)
		examination_found(out, EXAMINATION_ERROR, device,
				  "arp_ignore of %s is %" PRId64 ", so it answers for %s\n"
				  "on that machine: sysctl -w net/ipv4/conf/all/arp_ignore=1, and take what sets it otherwise out of /etc/sysctl.d",
				  interface, value, value ? "too little" : "addresses of other interfaces, a VIP among them");
	if (effective(device, interface, "arp_announce", &value) && value < 2)
		examination_found(out, EXAMINATION_ERROR, device,
				  "arp_announce of %s is %" PRId64 ", so it asks others in the name of a VIP\n"
				  "on that machine: sysctl -w net/ipv4/conf/all/arp_announce=2, and take what sets it otherwise out of /etc/sysctl.d",
				  interface, value);
}

void examine_arp(const struct examination_cluster *cluster, const struct examination_device *device,
		 struct examination_findings *out)
{
	const struct examination_fact *interface;

	(void)cluster;
	for (size_t at = 0; (interface = examination_next(&device->facts, "interface", &at));)
		examine_arp_of(device, interface->subject, out);
}

/* 2, loose, lets through what comes by another way than answers go. */
void examine_reverse_path(const struct examination_cluster *cluster, const struct examination_device *device,
			  struct examination_findings *out)
{
	const struct examination_fact *interface;

	(void)cluster;
	for (size_t at = 0; (interface = examination_next(&device->facts, "interface", &at));) {
		int64_t value;

		if (effective(device, interface->subject, "rp_filter", &value) && value == 1)
			examination_found(out, EXAMINATION_ERROR, device,
					  "rp_filter of %s is strict: packets of clients that come by another way are dropped\n"
					  "on that machine: sysctl -w net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/%s/rp_filter=0, and take what "
					  "sets it out of /etc/sysctl.d",
					  interface->subject, interface->subject);
	}
}

/* Inline: is there a network of clients, and another one of disks? */
static bool has_two_networks(const struct examination_device *device)
{
	const struct examination_fact *interface;

	for (size_t at = 0; (interface = examination_next(&device->facts, "interface", &at));)
		if (strcmp(interface->value, "disks") == 0)
			return true;
	return false;
}

void examine_forwarding(const struct examination_cluster *cluster, const struct examination_device *device,
			struct examination_findings *out)
{
	static const char *const names[] = { "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding" };

	(void)cluster;
	for (size_t i = 0; device->is_switch && has_two_networks(device) && i < sizeof(names) / sizeof(names[0]); i++) {
		int64_t value;

		if (examination_number(&device->facts, "sysctl", names[i], &value) && value)
			examination_found(out, EXAMINATION_NOTE, device,
					  "it routes (%s), so clients reach the disk nodes' own addresses, past [filter]\n"
					  "on that machine: sysctl -w %s=0, if nothing else needs it",
					  names[i], names[i]);
	}
}

/* Conntrack sees a session that was handed over from the middle on, and of one that is forwarded nothing or one direction. */
void examine_tracking(const struct examination_cluster *cluster, const struct examination_device *device,
		      struct examination_findings *out)
{
	int64_t count, loose, liberal;

	(void)cluster;
	if (!examination_number(&device->facts, "sysctl", "net/netfilter/nf_conntrack_count", &count) || count == 0)
		return;
	if (examination_number(&device->facts, "sysctl", "net/netfilter/nf_conntrack_tcp_loose", &loose) && loose == 0)
		examination_found(out, EXAMINATION_WARNING, device,
				  "its firewall tracks connections, and does not know those that are handed to it\n"
				  "on that machine: sysctl -w net/netfilter/nf_conntrack_tcp_loose=1");
	else if (examination_number(&device->facts, "sysctl", "net/netfilter/nf_conntrack_tcp_be_liberal", &liberal) && liberal == 0)
		examination_found(out, EXAMINATION_NOTE, device,
				  "its firewall tracks connections: a rule that drops what is INVALID may drop sessions that move\n"
				  "on that machine: sysctl -w net/netfilter/nf_conntrack_tcp_be_liberal=1");
}
