/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/dhcp_config.h"

#include "common/dhcp_option.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST_BITS = 29, LEASES_MAX = 1000, USUAL_PORT = 2050 };

struct dhcp_config {
	const char *interface;	       /* towards the disks */
	char address[16], netmask[16]; /* of the switch there, as texts */
	char first[16], last[16];      /* that are given out */
};

static int __attribute__((format(printf, 3, 4))) refuse(char *why, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, SETTINGS_WHY_MAX, format, args);
	va_end(args);
	return rc;
}

int dhcp_config_range(uint32_t address, unsigned int bits, uint32_t *first, uint32_t *last)
{
	uint32_t hosts, network;

	if (bits > SMALLEST_BITS || bits == 0)
		return -ERANGE;
	hosts = UINT32_MAX >> bits;
	network = address & ~hosts;
	*first = network + hosts / 2 + 1; /* hosts is odd */
	*last = network + hosts - 1;
	if (address < *first || address > *last)
		return 0;
	/* The larger part beside the switch's own address. */
	if (address - *first < *last - address)
		*first = address + 1;
	else
		*last = address - 1;
	return 0;
}

static void text_of(uint32_t address, char text[static 16])
{
	struct in_addr be = { .s_addr = htonl(address) };

	inet_ntop(AF_INET, &be, text, 16);
}

static bool parse(const char *text, uint32_t *address)
{
	struct in_addr be;

	if (inet_pton(AF_INET, text, &be) != 1)
		return false;
	*address = ntohl(be.s_addr);
	return true;
}

static uint32_t of(const struct sockaddr *address)
{
	return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr);
}

/* The prefix that @address has on @interface; -ENODEV */
static int find_bits(const char *interface, uint32_t address)
{
	struct ifaddrs *all;
	int bits = -ENODEV;

	if (getifaddrs(&all) < 0)
		return -errno;
	for (struct ifaddrs *one = all; one; one = one->ifa_next)
		if (one->ifa_addr && one->ifa_netmask && one->ifa_addr->sa_family == AF_INET &&
		    strcmp(one->ifa_name, interface) == 0 && of(one->ifa_addr) == address)
			bits = __builtin_popcount(of(one->ifa_netmask));
	freeifaddrs(all);
	return bits;
}

static int choose_range(struct dhcp_config *config, uint32_t address, unsigned int bits, char *const range[2], char *why)
{
	uint32_t hosts = bits < 32 ? UINT32_MAX >> bits : 0, first, last;

	if (!range && dhcp_config_range(address, bits, &first, &last) < 0)
		return refuse(why, -EINVAL, "the network of %s has too few addresses; say which to give out: nasctl dhcp config "
			      "FIRST LAST", config->address);
	if (range && (!parse(range[0], &first) || !parse(range[1], &last) || first > last ||
		      (first | hosts) != (address | hosts) || (last | hosts) != (address | hosts)))
		return refuse(why, -EINVAL, "%.100s to %.100s is no range of addresses in the network of %s", range[0], range[1],
			      config->address);
	text_of(first, config->first);
	text_of(last, config->last);
	text_of(~hosts, config->netmask);
	return 0;
}

static int choose(const struct settings *settings, char *const range[2], struct dhcp_config *config, char *why)
{
	uint32_t address;
	int bits;

	if (settings->mode != SETTINGS_MODE_MASTER && settings->mode != SETTINGS_MODE_UNSET)
		return refuse(why, -EINVAL, "this is a disk node; the switch is the DHCP server");
	if (!settings->disk_interface_count || !parse(settings->address, &address))
		return refuse(why, -EINVAL, "set disk_interfaces and address (IPv4) in [network] of vnasd.conf first");
	config->interface = settings->disk_interfaces[0];
	text_of(address, config->address);
	bits = find_bits(config->interface, address);
	if (bits <= 0)
		return refuse(why, -ENODEV, "%s does not have the address %s; give it that first", config->interface,
			      config->address);
	return choose_range(config, address, (unsigned int)bits, range, why);
}

static bool is_inline(const struct settings *settings)
{
	return settings->client_interface_count &&
	       strcmp(settings->client_interfaces[0], settings->disk_interfaces[0]) != 0;
}

static void write_text(const struct settings *settings, const struct dhcp_config *config, FILE *out)
{
	const char *class = settings->vendor_class;

	fprintf(out, "# dnsmasq as the DHCP server of vnas disk nodes; made by nasctl dhcp config\n"
		     "port=0\n"
		     "interface=%s\n"
		     "bind-dynamic\n"
		     "dhcp-authoritative\n"
		     "dhcp-range=%s,%s,%s,1h\n"
		     "dhcp-lease-max=%d\n"
		     "# Who does not ask as a vnas disk gets no answer.\n"
		     "dhcp-vendorclass=set:vnas,%s\n"
		     "dhcp-ignore=tag:!vnas\n",
		config->interface, config->first, config->last, config->netmask, LEASES_MAX, class);
	fprintf(out, "# Option 43: the master's address%s.\n"
		     "dhcp-option=vendor:%s,%d,%s\n",
		settings->scp_port == USUAL_PORT ? "" : " and SCP port", class, DHCP_OPTION_MASTER, config->address);
	if (settings->scp_port != USUAL_PORT)
		fprintf(out, "dhcp-option=vendor:%s,%d,%02x:%02x\n", class, DHCP_OPTION_PORT, settings->scp_port >> 8,
			settings->scp_port & 0xff);
	if (is_inline(settings))
		fprintf(out, "# The way to the clients leads through the switch.\ndhcp-option=option:router,%s\n",
			config->address);
	else
		fputs("# One-arm: the LAN's own router; name it if clients are in other networks.\ndhcp-option=option:router\n",
		      out);
	fputs("# The master is told.\ndhcp-script=" DHCP_DIR "/dnsmasq-hook\n", out);
}

int dhcp_config_text(const struct settings *settings, char *const range[2], char **text, char *why)
{
	struct dhcp_config config = { 0 };
	char *written = NULL;
	size_t len;
	FILE *out;
	int rc = choose(settings, range, &config, why);

	if (rc < 0)
		return rc;
	out = open_memstream(&written, &len);
	if (!out)
		return refuse(why, -ENOMEM, "no memory");
	write_text(settings, &config, out);
	if (fclose(out) != 0) {
		free(written);
		return refuse(why, -ENOMEM, "no memory");
	}
	*text = written;
	return 0;
}
