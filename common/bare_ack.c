/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/bare_ack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A header, and the timestamps option behind two NOPs (RFC 7323, appendix A). */
struct segment {
	struct tcphdr tcp;
	uint8_t nops[2], kind, len;
	uint32_t value, echo;
};

enum { TIMESTAMPS_KIND = 8, TIMESTAMPS_LEN = 10, NOP = 1, HOPS = 64 };

struct datagram {
	union {
		struct iphdr ipv4;
		struct ip6_hdr ipv6;
	} head;
	struct segment segment;
};

/* Big-endian 16-bit words, added up. */
static uint32_t sum(const void *data, size_t len, uint32_t total)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		total += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	return total;
}

/*
 * RFC 9293, 3.1. The addresses as IPv4-mapped ones: both have the same constant before the address, which counts (0xffff
 * is a zero of this arithmetic).
 */
static uint16_t tcp_checksum(const struct flow_key *flow, const struct segment *segment, size_t len)
{
	uint32_t total = IPPROTO_TCP + (uint32_t)len;

	total = sum(flow->client, sizeof(flow->client), total);
	total = sum(flow->vip, sizeof(flow->vip), total);
	total = sum(segment, len, total);
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return htons((uint16_t)~total);
}

/* Fills @segment; returns its length. */
static size_t make_segment(const struct flow_key *flow, const struct bare_ack *ack, struct segment *segment)
{
	size_t len = ack->has_timestamps ? sizeof(*segment) : sizeof(segment->tcp);

	*segment = (struct segment){
		.tcp = {
			.source = flow->vip_port,
			.dest = flow->client_port,
			.seq = htonl(ack->sequence),
			.ack_seq = htonl(ack->acknowledgment),
			.doff = (uint8_t)(len / 4) & 15,
			.ack = 1,
			.rst = ack->resets,
			.window = htons(ack->window),
		},
		.nops = { NOP, NOP },
		.kind = TIMESTAMPS_KIND,
		.len = TIMESTAMPS_LEN,
		.value = htonl(ack->timestamp),
	};
	segment->tcp.check = tcp_checksum(flow, segment, len);
	return len;
}

/* A raw socket's addresses have no ports. */
static socklen_t drop_port(struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET6) {
		((struct sockaddr_in6 *)address)->sin6_port = 0;
		return sizeof(struct sockaddr_in6);
	}
	((struct sockaddr_in *)address)->sin_port = 0;
	return sizeof(struct sockaddr_in);
}

/* The kernel fills in its length, checksum and identification (raw(7), IP_HDRINCL). */
static size_t make_ipv4(const struct sockaddr_storage *client, const struct sockaddr_storage *vip, struct iphdr *head)
{
	*head = (struct iphdr){
		.version = IPVERSION,
		.ihl = sizeof(*head) / 4,
		.frag_off = htons(IP_DF),
		.ttl = HOPS,
		.protocol = IPPROTO_TCP,
		.saddr = ((const struct sockaddr_in *)vip)->sin_addr.s_addr,
		.daddr = ((const struct sockaddr_in *)client)->sin_addr.s_addr,
	};
	return sizeof(*head);
}

static size_t make_ipv6(const struct sockaddr_storage *client, const struct sockaddr_storage *vip, size_t payload,
			struct ip6_hdr *head)
{
	*head = (struct ip6_hdr){
		.ip6_flow = htonl(6u << 28),
		.ip6_plen = htons((uint16_t)payload),
		.ip6_nxt = IPPROTO_TCP,
		.ip6_hlim = HOPS,
		.ip6_src = ((const struct sockaddr_in6 *)vip)->sin6_addr,
		.ip6_dst = ((const struct sockaddr_in6 *)client)->sin6_addr,
	};
	return sizeof(*head);
}

/* The route depends on whom it is from, which for the kernel does not follow from the header. */
static size_t name_source(const struct sockaddr_storage *vip, struct cmsghdr *control)
{
	if (vip->ss_family == AF_INET6) {
		struct in6_pktinfo info = { .ipi6_addr = ((const struct sockaddr_in6 *)vip)->sin6_addr };

		*control = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)), .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO };
		memcpy(CMSG_DATA(control), &info, sizeof(info));
		return CMSG_SPACE(sizeof(info));
	}
	struct in_pktinfo info = { .ipi_spec_dst = ((const struct sockaddr_in *)vip)->sin_addr };

	*control = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO };
	memcpy(CMSG_DATA(control), &info, sizeof(info));
	return CMSG_SPACE(sizeof(info));
}

/* Made when it is first needed. Return: the socket, or a negative errno value */
static int socket_for(struct bare_ack_sockets *sockets, sa_family_t family)
{
	int *fd = family == AF_INET6 ? &sockets->ipv6 : &sockets->ipv4;

	if (*fd < 0)
		*fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW);
	return *fd < 0 ? -errno : *fd;
}

int bare_ack_send(struct bare_ack_sockets *sockets, const struct flow_key *flow, const struct bare_ack *ack)
{
	union {
		struct cmsghdr header; /* aligns it */
		uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control = { 0 };
	struct sockaddr_storage client, vip;
	struct datagram datagram;
	struct iovec parts[2] = { { .iov_base = &datagram.head }, { .iov_base = &datagram.segment } };
	struct msghdr message = { .msg_name = &client, .msg_iov = parts, .msg_iovlen = 2, .msg_control = &control };
	int fd;

	if (flow->protocol != IPPROTO_TCP)
		return -EAFNOSUPPORT;
	flow_to_sockets(flow, &client, &vip);
	message.msg_namelen = drop_port(&client);
	message.msg_controllen = name_source(&vip, &control.header);
	parts[1].iov_len = make_segment(flow, ack, &datagram.segment);
	parts[0].iov_len = vip.ss_family == AF_INET6 ? make_ipv6(&client, &vip, parts[1].iov_len, &datagram.head.ipv6) :
						       make_ipv4(&client, &vip, &datagram.head.ipv4);
	fd = socket_for(sockets, vip.ss_family);
	if (fd < 0)
		return fd;
	if (sendmsg(fd, &message, 0) < 0)
		return errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
	return 0;
}

void bare_ack_sockets_fini(struct bare_ack_sockets *sockets)
{
	if (sockets->ipv4 >= 0)
		close(sockets->ipv4);
	if (sockets->ipv6 >= 0)
		close(sockets->ipv6);
	*sockets = BARE_ACK_NO_SOCKETS;
}
