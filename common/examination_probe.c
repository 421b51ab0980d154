/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/examination_probe.h"

#include "common/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	ADDRESSES_MAX = 32,	  /* of one interface */
	ANSWERS_MAX = 16,	  /* of one interface */
	ARP_TRIES = 3,		  /* each takes its time: who else may answer is not known */
	ECHO_TRIES = 5,		  /* ends with the last answer */
	TRY_MS = 200,
	SHORT_BYTES = 64,
	FRAME_ROOM = 128,
	PACKET_MAX = 65535,
	ETHERNET_BYTES = 6,
};

static int wait_readable(int fd, uint64_t until_ms)
{
	uint64_t now_ms = clock_monotonic_ms();
	struct pollfd wanted = { .fd = fd, .events = POLLIN };

	return now_ms < until_ms ? poll(&wanted, 1, (int)(until_ms - now_ms)) : 0;
}

/* ARP */

struct owned {
	struct in_addr address;
	bool is_vip;
};

struct answer {
	struct in_addr address;
	uint8_t mac[ETHERNET_BYTES];
};

/* One interface. */
struct arp {
	const char *interface;
	unsigned int index;
	int fd;
	uint8_t mac[ETHERNET_BYTES];
	struct in_addr own; /* an address that is no VIP; 0: none */
	struct owned addresses[ADDRESSES_MAX];
	size_t address_count;
	struct answer answers[ANSWERS_MAX];
	size_t answer_count;
};

static bool is_vip(const struct examination_machine *machine, struct in_addr address)
{
	struct in_addr vip;

	for (unsigned int i = 0; i < machine->vip_count; i++)
		if (inet_pton(AF_INET, machine->vips[i], &vip) == 1 && vip.s_addr == address.s_addr)
			return true;
	return false;
}

static void note_address(struct arp *arp, const struct examination_machine *machine, bool has_vips, const struct sockaddr *address)
{
	struct owned owned;

	if (address->sa_family == AF_PACKET)
		memcpy(arp->mac, ((const struct sockaddr_ll *)address)->sll_addr, sizeof(arp->mac));
	if (address->sa_family != AF_INET || arp->address_count == ADDRESSES_MAX)
		return;
	owned.address = ((const struct sockaddr_in *)address)->sin_addr;
	owned.is_vip = is_vip(machine, owned.address);
	if (!owned.is_vip)
		arp->own = owned.address;
	if (!owned.is_vip || has_vips)
		arp->addresses[arp->address_count++] = owned;
}

static int arp_open(struct arp *arp, const struct examination_machine *machine, bool has_vips)
{
	struct sockaddr_ll local = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ARP) };
	struct ifaddrs *all;
	int rc = 0;

	arp->index = if_nametoindex(arp->interface);
	if (!arp->index)
		return -ENODEV;
	if (getifaddrs(&all) < 0)
		return -errno;
	for (const struct ifaddrs *at = all; at; at = at->ifa_next)
		if (at->ifa_addr && strcmp(at->ifa_name, arp->interface) == 0)
			note_address(arp, machine, has_vips, at->ifa_addr);
	freeifaddrs(all);
	arp->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (arp->fd < 0)
		return -errno;
	local.sll_ifindex = (int)arp->index;
	if (bind(arp->fd, (struct sockaddr *)&local, sizeof(local)) < 0) {
		rc = -errno;
		close(arp->fd);
	}
	return rc;
}

/*
 * For an address of our own a probe (RFC 5227, 2.1.1), which names no sender, so nobody changes his mind about us. To that Linux
 * doesn't answer for what it has on lo, and so not for a VIP of a disk node: for those an ordinary request.
 */
static void arp_ask(const struct arp *arp, const struct owned *owned)
{
	struct sockaddr_ll everybody = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ARP), .sll_ifindex = (int)arp->index,
					 .sll_halen = ETHERNET_BYTES };
	struct ether_arp request = { .ea_hdr = { .ar_hrd = htons(ARPHRD_ETHER), .ar_pro = htons(ETH_P_IP), .ar_hln = ETHERNET_BYTES,
						 .ar_pln = sizeof(struct in_addr), .ar_op = htons(ARPOP_REQUEST) } };

	memset(everybody.sll_addr, 0xff, ETHERNET_BYTES);
	memcpy(request.arp_sha, arp->mac, sizeof(request.arp_sha));
	if (owned->is_vip)
		memcpy(request.arp_spa, &arp->own, sizeof(request.arp_spa));
	memcpy(request.arp_tpa, &owned->address, sizeof(request.arp_tpa));
	/* One that does not get out is asked for again. */
	sendto(arp->fd, &request, sizeof(request), 0, (struct sockaddr *)&everybody, sizeof(everybody));
}

static bool is_known(const struct arp *arp, const struct answer *answer)
{
	for (size_t i = 0; i < arp->answer_count; i++)
		if (memcmp(&arp->answers[i], answer, sizeof(*answer)) == 0)
			return true;
	return arp->answer_count == ANSWERS_MAX;
}

/* Also a question of somebody who says that he has our address. */
static void arp_take(struct arp *arp, const uint8_t *frame, size_t len)
{
	struct answer answer = { 0 };
	struct ether_arp message;

	if (len < sizeof(message))
		return;
	memcpy(&message, frame, sizeof(message));
	memcpy(&answer.address, message.arp_spa, sizeof(answer.address));
	memcpy(answer.mac, message.arp_sha, sizeof(answer.mac));
	if (message.ea_hdr.ar_hrd != htons(ARPHRD_ETHER) || message.ea_hdr.ar_pro != htons(ETH_P_IP) ||
	    memcmp(answer.mac, arp->mac, sizeof(answer.mac)) == 0 || is_known(arp, &answer))
		return;
	for (size_t i = 0; i < arp->address_count; i++)
		if (arp->addresses[i].address.s_addr == answer.address.s_addr) {
			arp->answers[arp->answer_count++] = answer;
			return;
		}
}

static void arp_listen(struct arp *arp, uint64_t until_ms)
{
	uint8_t frame[FRAME_ROOM];

	while (wait_readable(arp->fd, until_ms) > 0) {
		ssize_t len = recv(arp->fd, frame, sizeof(frame), 0);

		if (len > 0)
			arp_take(arp, frame, (size_t)len);
	}
}

static void arp_tell(const struct arp *arp, struct examination_facts *out)
{
	char address[INET_ADDRSTRLEN], subject[EXAMINATION_SUBJECT_MAX];

	for (size_t i = 0; i < arp->answer_count; i++) {
		const uint8_t *mac = arp->answers[i].mac;

		inet_ntop(AF_INET, &arp->answers[i].address, address, sizeof(address));
		snprintf(subject, sizeof(subject), "%s %s", address, arp->interface);
		examination_put(out, "answers", subject, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
				mac[5]);
	}
}

void examination_probe_addresses(const struct examination_machine *machine, bool has_vips, struct examination_facts *out)
{
	struct arp arps[EXAMINATION_INTERFACES_MAX];
	size_t count = 0;

	for (unsigned int i = 0; i < machine->interface_count; i++) {
		arps[count] = (struct arp){ .interface = machine->interfaces[i].name };
		if (arp_open(&arps[count], machine, has_vips && machine->interfaces[i].to_clients) == 0)
			count++;
	}
	for (int i = 0; i < ARP_TRIES && count; i++) {
		uint64_t until_ms = clock_monotonic_ms() + TRY_MS;

		for (size_t j = 0; j < count; j++)
			for (size_t k = 0; k < arps[j].address_count; k++)
				arp_ask(&arps[j], &arps[j].addresses[k]);
		for (size_t j = 0; j < count; j++)
			arp_listen(&arps[j], until_ms);
	}
	for (size_t j = 0; j < count; j++) {
		arp_listen(&arps[j], clock_monotonic_ms() + 1); /* what came while another was listened to */
		arp_tell(&arps[j], out);
		close(arps[j].fd);
	}
}

/* Echo */

struct echo {
	int fd;
	uint16_t id;
	unsigned int mtu;
	const struct examination_peers *peers;
	bool has_short[EXAMINATION_PEERS_MAX], has_whole[EXAMINATION_PEERS_MAX];
	uint8_t packet[PACKET_MAX];
};

/* RFC 1071 */
static uint16_t checksum(const uint8_t *bytes, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	if (len % 2)
		sum += (uint32_t)bytes[len - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* @sequence: which peer, and whether it is the long one: twice the number and one. */
static void echo_ask(struct echo *echo, size_t peer, bool is_whole)
{
	size_t len = (is_whole ? echo->mtu : SHORT_BYTES) - sizeof(struct iphdr);
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr = echo->peers->addresses[peer] };
	struct icmphdr header = { .type = ICMP_ECHO };

	header.un.echo.id = htons(echo->id);
	header.un.echo.sequence = htons((uint16_t)(2 * peer + is_whole));
	memset(echo->packet, 0, len);
	memcpy(echo->packet, &header, sizeof(header));
	header.checksum = htons(checksum(echo->packet, len));
	memcpy(echo->packet, &header, sizeof(header));
	sendto(echo->fd, echo->packet, len, 0, (struct sockaddr *)&to, sizeof(to)); /* again, if it does not get out */
}

/* The whole IP packet. */
static void echo_take(struct echo *echo, size_t len)
{
	struct iphdr ip;
	struct icmphdr header;
	size_t at, sequence;

	if (len < sizeof(ip))
		return;
	memcpy(&ip, echo->packet, sizeof(ip));
	at = ip.ihl * 4u;
	if (len < at + sizeof(header))
		return;
	memcpy(&header, echo->packet + at, sizeof(header));
	sequence = ntohs(header.un.echo.sequence);
	if (header.type != ICMP_ECHOREPLY || ntohs(header.un.echo.id) != echo->id || sequence / 2 >= echo->peers->count ||
	    echo->peers->addresses[sequence / 2].s_addr != ip.saddr)
		return;
	echo->has_whole[sequence / 2] |= sequence % 2;
	echo->has_short[sequence / 2] |= !(sequence % 2);
}

static bool is_complete(const struct echo *echo)
{
	for (size_t i = 0; i < echo->peers->count; i++)
		if (!echo->has_short[i] || !echo->has_whole[i])
			return false;
	return true;
}

static void echo_listen(struct echo *echo, uint64_t until_ms)
{
	while (!is_complete(echo) && wait_readable(echo->fd, until_ms) > 0) {
		ssize_t len = recv(echo->fd, echo->packet, sizeof(echo->packet), 0);

		if (len > 0)
			echo_take(echo, (size_t)len);
	}
}

static void echo_run(struct echo *echo)
{
	for (int i = 0; i < ECHO_TRIES && !is_complete(echo); i++) {
		for (size_t peer = 0; peer < echo->peers->count; peer++) {
			if (!echo->has_short[peer])
				echo_ask(echo, peer, false);
			if (!echo->has_whole[peer])
				echo_ask(echo, peer, true);
		}
		echo_listen(echo, clock_monotonic_ms() + TRY_MS);
	}
}

static void echo_tell(const struct echo *echo, struct examination_facts *out)
{
	char address[INET_ADDRSTRLEN];

	for (size_t i = 0; i < echo->peers->count; i++) {
		inet_ntop(AF_INET, &echo->peers->addresses[i], address, sizeof(address));
		examination_put(out, "path", address, "%s", echo->has_whole[i] ? "whole" : echo->has_short[i] ? "short" : "none");
	}
}

void examination_probe_paths(const struct examination_machine *machine, const struct examination_peers *peers,
			     struct examination_facts *out)
{
	struct echo *echo = calloc(1, sizeof(*echo));

	if (!echo)
		return;
	echo->peers = peers;
	echo->id = (uint16_t)getpid();
	echo->fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
	/* Not to be cut into fragments, and whatever the kernel remembers of the path. */
	if (echo->fd >= 0 && setsockopt(echo->fd, IPPROTO_IP, IP_MTU_DISCOVER, &(int){ IP_PMTUDISC_PROBE }, sizeof(int)) == 0 &&
	    examination_mtu(examination_machine_inner(machine), &echo->mtu) == 0 && echo->mtu >= SHORT_BYTES &&
	    echo->mtu <= PACKET_MAX) {
		echo_run(echo);
		echo_tell(echo, out);
	}
	if (echo->fd >= 0)
		close(echo->fd);
	free(echo);
}
