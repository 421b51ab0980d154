/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "tests/fuzz/frame.h"

#include "common/log.h"
#include "common/node_map.h"
#include "tests/platform/netns.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	ETHERTYPE_AT = 12,
	IP_AT = 14,
	IPV4_BYTES = 20,
	IPV4_SUM_AT = IP_AT + 10,
	IPV6_BYTES = 40,
	UDP_BYTES_SEEN = 4, /* the ports, which UDP and TCP begin with */
	TCP_BYTES_SEEN = 14,
	TCP_BYTES = 20,
	UDP_BYTES = 8,
	ICMP_BYTES = 8,
	TCP_BYTES_IN_ERROR = 8, /* RFC 792 */
	IPV6_FRAGMENT_BYTES = 8,
	ETHERTYPE_IPV4 = 0x0800,
	ETHERTYPE_IPV6 = 0x86dd,
	FRAGMENT = 0x3fff, /* more fragments, or an offset */
	FIN = 1,
	SYN = 2,
	RST = 4,
	ACK = 16,
};

void frame_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
	abort();
}

void frame_setup(void)
{
	int map;

	log_open(LOG_LEVEL_ERR);
	netns_setup(true);
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "probe", sizeof(uint32_t), sizeof(uint32_t), 1, NULL);
	if (map < 0)
		skip("no BPF: %s", strerror(-map));
	close(map);
}

struct frame_port frame_port_make(const char *name, uint8_t number)
{
	struct frame_port port = { .mac = { 2, 0, 0, 0, 0, number } };
	char command[160];

	snprintf(command, sizeof(command), "ip link add %s address 02:00:00:00:00:%02x type veth peer name %s-peer", name,
		 number, name);
	if (system(command) != 0)
		skip("no veth interfaces");
	port.ifindex = if_nametoindex(name);
	FRAME_CHECK(port.ifindex);
	return port;
}

struct flow_key frame_flow(bool is_ipv6, uint8_t protocol, uint16_t client_port)
{
	struct sockaddr_storage client, vip;
	struct flow_key flow;

	netns_address(is_ipv6 ? "fd77:1::11" : "10.77.1.11", client_port, &client);
	netns_address(is_ipv6 ? "fd77:1::100" : "10.77.1.100", FRAME_FLOW_PORT, &vip);
	FRAME_CHECK(flow_from_sockets(&client, &vip, protocol, &flow) == 0);
	return flow;
}

struct flow_key frame_turn_round(const struct flow_key *flow)
{
	struct flow_key other = *flow;

	memcpy(other.client, flow->vip, sizeof(other.client));
	memcpy(other.vip, flow->client, sizeof(other.vip));
	other.client_port = flow->vip_port;
	other.vip_port = flow->client_port;
	return other;
}

bool frame_same_flow(const struct flow_key *a, const struct flow_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static size_t put_ipv4(uint8_t *ip, const struct flow_key *flow, size_t payload_len)
{
	const size_t len = IPV4_BYTES + payload_len;

	ip[0] = 0x45;
	ip[2] = (uint8_t)(len >> 8);
	ip[3] = (uint8_t)len;
	ip[8] = 64;
	ip[9] = flow->protocol;
	memcpy(ip + 12, flow->client + 12, 4);
	memcpy(ip + 16, flow->vip + 12, 4);
	return IPV4_BYTES;
}

static size_t put_ipv6(uint8_t *ip, const struct flow_key *flow, size_t payload_len)
{
	ip[0] = 0x60;
	ip[4] = (uint8_t)(payload_len >> 8);
	ip[5] = (uint8_t)payload_len;
	ip[6] = flow->protocol;
	ip[7] = 64;
	memcpy(ip + 8, flow->client, 16);
	memcpy(ip + 24, flow->vip, 16);
	return IPV6_BYTES;
}

/* Headers up to IP's for @payload_len bytes behind them. Returns where these begin. */
static size_t put_headers(struct frame *frame, const struct flow_key *flow, size_t payload_len)
{
	uint16_t type = flow_is_ipv4(flow) ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
	uint8_t *ip = frame->bytes + IP_AT;
	size_t at;

	frame->bytes[ETHERTYPE_AT] = (uint8_t)(type >> 8);
	frame->bytes[ETHERTYPE_AT + 1] = (uint8_t)type;
	at = IP_AT + (flow_is_ipv4(flow) ? put_ipv4(ip, flow, payload_len) : put_ipv6(ip, flow, payload_len));
	frame->len = at + payload_len;
	memcpy(frame->bytes + at, &flow->client_port, 2);
	memcpy(frame->bytes + at + 2, &flow->vip_port, 2);
	return at;
}

struct frame frame_tcp(const struct flow_key *flow, uint8_t flags)
{
	struct frame frame = { 0 };
	uint8_t *tcp = frame.bytes + put_headers(&frame, flow, TCP_BYTES);

	tcp[11] = 1;
	tcp[12] = TCP_BYTES / 4 << 4;
	tcp[13] = flags;
	return frame;
}

struct frame frame_udp(const struct flow_key *flow, const uint8_t *payload, size_t len)
{
	const size_t most = FRAME_BYTES_MAX - IP_AT - IPV6_BYTES - UDP_BYTES, whole = UDP_BYTES + (len < most ? len : most);
	struct frame frame = { 0 };
	size_t at = put_headers(&frame, flow, whole);

	frame.bytes[at + 4] = (uint8_t)(whole >> 8);
	frame.bytes[at + 5] = (uint8_t)whole;
	if (whole > UDP_BYTES)
		memcpy(frame.bytes + at + UDP_BYTES, payload, whole - UDP_BYTES);
	return frame;
}

/* What makes an IP packet one part of @whole: IPv4's fields, or IPv6's header in front of the part. */
static struct frame fragment_of(const struct frame *whole, size_t at, uint16_t id, size_t offset, size_t end, bool is_last)
{
	const bool is_ipv4 = whole->bytes[ETHERTYPE_AT] == ETHERTYPE_IPV4 >> 8;
	const size_t header = is_ipv4 ? 0 : IPV6_FRAGMENT_BYTES, part = end - offset;
	const uint16_t place = (uint16_t)(is_ipv4 ? offset / 8 | (is_last ? 0 : 0x2000) : offset | !is_last);
	uint8_t *ip, *fields;
	struct frame frame = { .len = at + header + part };

	memcpy(frame.bytes, whole->bytes, at);
	memcpy(frame.bytes + at + header, whole->bytes + at + offset, part);
	ip = frame.bytes + IP_AT;
	fields = is_ipv4 ? ip + 4 : frame.bytes + at;
	if (is_ipv4) {
		ip[2] = (uint8_t)((frame.len - IP_AT) >> 8);
		ip[3] = (uint8_t)(frame.len - IP_AT);
		memcpy(fields, (uint8_t[]){ (uint8_t)(id >> 8), (uint8_t)id, (uint8_t)(place >> 8), (uint8_t)place }, 4);
	} else {
		ip[4] = (uint8_t)((header + part) >> 8);
		ip[5] = (uint8_t)(header + part);
		memcpy(fields, (uint8_t[]){ ip[6], 0, (uint8_t)(place >> 8), (uint8_t)place, 0, 0, (uint8_t)(id >> 8),
					    (uint8_t)id }, IPV6_FRAGMENT_BYTES);
		ip[6] = IPPROTO_FRAGMENT;
	}
	return frame;
}

struct frame frame_fragment(const struct flow_key *flow, uint16_t id, const uint8_t *payload, size_t len, size_t offset,
			    size_t end)
{
	struct frame whole = frame_udp(flow, payload, len);
	size_t at = IP_AT + (flow_is_ipv4(flow) ? IPV4_BYTES : IPV6_BYTES);

	if (end > whole.len - at)
		end = whole.len - at;
	FRAME_CHECK(offset <= end);
	return fragment_of(&whole, at, id, offset, end, end == whole.len - at);
}

static void map_ipv4(uint8_t out[static 16], const uint8_t address[static 4])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	memcpy(out, prefix, sizeof(prefix));
	memcpy(out + sizeof(prefix), address, 4);
}

/* Reads the IP header. @len: out: of what follows, as the header says. Returns where it begins; 0: no TCP, no UDP. */
static size_t read_ip(const struct frame *frame, struct frame_facts *facts, int *len)
{
	const uint8_t *ip = frame->bytes + IP_AT;
	unsigned int type = (unsigned int)frame->bytes[ETHERTYPE_AT] << 8 | frame->bytes[ETHERTYPE_AT + 1];
	size_t header;

	if (type == ETHERTYPE_IPV4 && frame->len >= IP_AT + IPV4_BYTES) {
		header = (size_t)(ip[0] & 15) * 4;
		if (header < IPV4_BYTES || ((ip[6] << 8 | ip[7]) & FRAGMENT))
			return 0;
		map_ipv4(facts->flow.client, ip + 12);
		map_ipv4(facts->flow.vip, ip + 16);
		facts->flow.protocol = ip[9];
		facts->hops = ip[8];
		*len = (ip[2] << 8 | ip[3]) - (int)header;
	} else if (type == ETHERTYPE_IPV6 && frame->len >= IP_AT + IPV6_BYTES) {
		header = IPV6_BYTES;
		memcpy(facts->flow.client, ip + 8, 16);
		memcpy(facts->flow.vip, ip + 24, 16);
		facts->flow.protocol = ip[6];
		facts->hops = ip[7];
		*len = ip[4] << 8 | ip[5];
	} else {
		return 0;
	}
	return facts->flow.protocol == IPPROTO_TCP || facts->flow.protocol == IPPROTO_UDP ? IP_AT + header : 0;
}

static void read_tcp(struct bytes_reader tcp, int len, size_t on_wire, struct frame_facts *facts)
{
	uint8_t flags;

	bytes_take(&tcp, 4);
	facts->sequence = bytes_get_be32(&tcp);
	bytes_take(&tcp, 4);
	len = (len > 0 ? len : (int)on_wire) - (bytes_get_u8(&tcp) >> 4) * 4; /* 0: longer than IP can say */
	flags = bytes_get_u8(&tcp);
	facts->opens = (flags & (SYN | ACK)) == SYN;
	facts->closes = flags & (FIN | RST);
	facts->sequence_len = (len > 0 ? (uint32_t)len : 0) + !!(flags & FIN);
}

struct frame_facts frame_facts(const struct frame *frame)
{
	struct frame_facts facts = { 0 };
	int len;
	size_t at = read_ip(frame, &facts, &len);
	size_t seen = facts.flow.protocol == IPPROTO_TCP ? TCP_BYTES_SEEN : UDP_BYTES_SEEN;

	if (at == 0 || frame->len < at + seen)
		return (struct frame_facts){ 0 };
	memcpy(&facts.flow.client_port, frame->bytes + at, 2);
	memcpy(&facts.flow.vip_port, frame->bytes + at + 2, 2);
	if (facts.flow.protocol == IPPROTO_TCP)
		read_tcp(bytes_reader_init(frame->bytes + at, frame->len - at), len, frame->len - at, &facts);
	facts.at = at;
	facts.is_ipv4 = frame->bytes[ETHERTYPE_AT] == ETHERTYPE_IPV4 >> 8;
	facts.is_session = true;
	return facts;
}

struct frame frame_take(struct bytes_reader *input, size_t len)
{
	struct frame frame = { .len = len < input->left ? len : input->left };

	if (frame.len > sizeof(frame.bytes))
		frame.len = sizeof(frame.bytes);
	if (frame.len)
		memcpy(frame.bytes, bytes_take(input, frame.len), frame.len);
	return frame;
}

int frame_run(int program_fd, const struct frame_port *port, unsigned int ingress_ifindex, struct frame *frame,
	      int *verdict)
{
	struct __sk_buff skb = { .ifindex = port->ifindex, .ingress_ifindex = ingress_ifindex };
	uint8_t out[2 * FRAME_BYTES_MAX];
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->bytes, .data_size_in = (uint32_t)frame->len,
		    .data_out = out, .data_size_out = sizeof(out), .ctx_in = &skb, .ctx_size_in = sizeof(skb),
		    .repeat = 1);
	int err = bpf_prog_test_run_opts(program_fd, &opts);

	if (err == -EINVAL)
		return err;
	FRAME_CHECK(!err);
	FRAME_CHECK(opts.data_size_out == frame->len);
	memcpy(frame->bytes, out, frame->len);
	*verdict = (int)opts.retval;
	return 0;
}

struct frame frame_error(const struct frame *about, uint8_t type, uint8_t code)
{
	const struct frame_facts facts = frame_facts(about);
	struct flow_key flow = { .protocol = facts.is_ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6 };
	size_t sent_len = facts.at - IP_AT + TCP_BYTES_IN_ERROR, at;
	struct frame frame = { 0 };

	FRAME_CHECK(facts.is_session);
	memcpy(flow.client, facts.flow.vip, sizeof(flow.client));
	flow.client[15] = 1;
	memcpy(flow.vip, facts.flow.client, sizeof(flow.vip));
	at = put_headers(&frame, &flow, ICMP_BYTES + sent_len);
	memset(frame.bytes + at, 0, ICMP_BYTES);
	frame.bytes[at] = type;
	frame.bytes[at + 1] = code;
	memcpy(frame.bytes + at + ICMP_BYTES, about->bytes + IP_AT, sent_len);
	return frame;
}

/* Where the IP packet in an ICMP error begins, or the end if it is none. @source: out: where an error goes */
static size_t find_in_error(const struct frame *frame, bool is_ipv4, const uint8_t **source, size_t *source_len)
{
	const uint8_t *ip = frame->bytes + IP_AT, *icmp;
	size_t header = is_ipv4 ? (size_t)(ip[0] & 15) * 4 : IPV6_BYTES, at = IP_AT + header;

	*source = is_ipv4 ? ip + 16 : ip + 24;
	*source_len = is_ipv4 ? 4 : 16;
	icmp = frame->bytes + at;
	if (frame->len < IP_AT + (is_ipv4 ? IPV4_BYTES : IPV6_BYTES) || frame->len < at + ICMP_BYTES)
		return frame->len;
	if (is_ipv4 && (header < IPV4_BYTES || ip[9] != IPPROTO_ICMP || ((ip[6] << 8 | ip[7]) & FRAGMENT) ||
			(icmp[0] != 3 && icmp[0] != 11 && icmp[0] != 12)))
		return frame->len;
	if (!is_ipv4 && (ip[6] != IPPROTO_ICMPV6 || icmp[0] > 127))
		return frame->len;
	return at + ICMP_BYTES;
}

bool frame_error_about(const struct frame *frame, struct flow_key *flow)
{
	unsigned int type = (unsigned int)frame->bytes[ETHERTYPE_AT] << 8 | frame->bytes[ETHERTYPE_AT + 1];
	const bool is_ipv4 = type == ETHERTYPE_IPV4;
	const uint8_t *source, *sent, *ports;
	size_t source_len, at, header;

	if (frame->len < IP_AT || (!is_ipv4 && type != ETHERTYPE_IPV6))
		return false;
	at = find_in_error(frame, is_ipv4, &source, &source_len);
	sent = frame->bytes + at;
	if (frame->len < at + (is_ipv4 ? IPV4_BYTES : IPV6_BYTES))
		return false;
	header = is_ipv4 ? (size_t)(sent[0] & 15) * 4 : IPV6_BYTES;
	ports = sent + header;
	if (frame->len < at + header + 4 || memcmp(source, is_ipv4 ? sent + 12 : sent + 8, source_len) != 0 ||
	    sent[is_ipv4 ? 9 : 6] != IPPROTO_TCP)
		return false;
	if (is_ipv4 && (header < IPV4_BYTES || ((sent[6] << 8 | sent[7]) & 0x1fff)))
		return false;
	*flow = (struct flow_key){ .protocol = IPPROTO_TCP };
	if (is_ipv4) {
		map_ipv4(flow->vip, sent + 12);
		map_ipv4(flow->client, sent + 16);
	} else {
		memcpy(flow->vip, sent + 8, 16);
		memcpy(flow->client, sent + 24, 16);
	}
	memcpy(&flow->vip_port, ports, 2);
	memcpy(&flow->client_port, ports + 2, 2);
	return true;
}

/* RFC 1624, 3 */
struct frame frame_without_mark(const struct frame *frame, const struct frame_facts *facts)
{
	struct frame out = *frame;
	uint8_t *tcp = out.bytes + facts->at;
	uint32_t sum = 0xffff ^ (uint32_t)(tcp[16] << 8 | tcp[17]), old = (uint32_t)(tcp[12] << 8 | tcp[13]);

	if (facts->flow.protocol != IPPROTO_TCP || out.len < facts->at + 18)
		return out;
	tcp[12] &= (uint8_t)~NODE_EXCHANGE;
	sum += 0xffff + (0xffff ^ old) + (uint32_t)(tcp[12] << 8 | tcp[13]);
	while (sum > 0xffff)
		sum = (sum >> 16) + (sum & 0xffff);
	sum ^= 0xffff;
	tcp[16] = (uint8_t)(sum >> 8);
	tcp[17] = (uint8_t)sum;
	return out;
}

bool frame_same_packet(const struct frame *a, const struct frame *b)
{
	return a->len == b->len && memcmp(a->bytes + FRAME_MACS, b->bytes + FRAME_MACS, a->len - FRAME_MACS) == 0;
}

bool frame_has_macs(const struct frame *frame, const uint8_t to[static 6], const uint8_t from[static 6])
{
	return memcmp(frame->bytes, to, 6) == 0 && memcmp(frame->bytes + 6, from, 6) == 0;
}

/* The sum over a header that is all there, with its checksum: 0xffff if that is right (RFC 1071). */
static uint32_t header_sum(const struct frame *frame)
{
	size_t len = (size_t)(frame->bytes[IP_AT] & 15) * 4;
	uint32_t sum = 0;

	for (size_t i = IP_AT; i < IP_AT + len; i += 2)
		sum += (uint32_t)frame->bytes[i] << 8 | frame->bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

bool frame_was_routed(const struct frame *before, const struct frame *after)
{
	bool is_ipv4 = before->bytes[ETHERTYPE_AT] == ETHERTYPE_IPV4 >> 8;
	size_t hops_at = is_ipv4 ? IP_AT + 8 : IP_AT + 7;
	struct frame expected = *before;

	expected.bytes[hops_at]--;
	if (is_ipv4)
		memcpy(expected.bytes + IPV4_SUM_AT, after->bytes + IPV4_SUM_AT, 2);
	return frame_same_packet(&expected, after) && (!is_ipv4 || header_sum(before) == header_sum(after));
}
