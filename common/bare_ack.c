/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/bare_ack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
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

enum { TIMESTAMPS_KIND = 8, TIMESTAMPS_LEN = 10, NOP = 1 };

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

int bare_ack_send(const struct flow_key *flow, const struct bare_ack *ack)
{
	struct sockaddr_storage client, vip;
	struct segment segment;
	socklen_t len;
	size_t size;
	int fd, rc = 0;

	if (flow->protocol != IPPROTO_TCP)
		return -EAFNOSUPPORT;
	flow_to_sockets(flow, &client, &vip);
	len = drop_port(&client);
	drop_port(&vip);
	size = make_segment(flow, ack, &segment);
	/* Short-lived: while it is open, the kernel copies every TCP packet for the VIP to it. */
	fd = socket(client.ss_family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&vip, len) < 0 ||
	    sendto(fd, &segment, size, 0, (struct sockaddr *)&client, len) < 0)
		rc = errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
	close(fd);
	return rc;
}
