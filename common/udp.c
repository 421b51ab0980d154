/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/udp.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALLS_PER_TURN = 32 }; /* other sockets of the loop get their turn in between */

struct udp_server {
	struct rpc_server *rpc;
	struct event *event;
	int fd; /* -1: freed by its owner, some calls are still out */
	struct sockaddr_storage address;
	unsigned int calls_out;
	struct udp_counters counters;
	uint8_t datagram[UDP_DATAGRAM_MAX];
};

struct udp_call {
	struct rpc_call rpc;
	struct udp_server *server;
	socklen_t client_len;
	uint8_t record[];
};

/* Room for one packet info of either family. */
union packet_control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

static void server_collect(struct udp_server *server)
{
	if (server->fd < 0 && server->calls_out == 0)
		free(server);
}

/* The address in the packet info, with the port that we listen at. */
static void destination_get(struct msghdr *message, struct sockaddr_storage *server)
{
	struct in_pktinfo ipv4;
	struct in6_pktinfo ipv6;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&ipv4, CMSG_DATA(c), sizeof(ipv4));
			((struct sockaddr_in *)server)->sin_addr = ipv4.ipi_spec_dst;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&ipv6, CMSG_DATA(c), sizeof(ipv6));
			((struct sockaddr_in6 *)server)->sin6_addr = ipv6.ipi6_addr;
			if (IN6_IS_ADDR_LINKLOCAL(&ipv6.ipi6_addr))
				((struct sockaddr_in6 *)server)->sin6_scope_id = ipv6.ipi6_ifindex;
		}
	}
}

static void control_put(struct msghdr *message, int level, int type, const void *info, size_t len)
{
	struct cmsghdr *c = message->msg_control;

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), info, len);
	message->msg_controllen = CMSG_SPACE(len);
}

static void source_put(struct msghdr *message, const struct sockaddr_storage *server)
{
	const struct sockaddr_in6 *from6 = (const struct sockaddr_in6 *)server;
	struct in_pktinfo ipv4 = { .ipi_spec_dst = ((const struct sockaddr_in *)server)->sin_addr };
	struct in6_pktinfo ipv6 = { 0 };

	if (server->ss_family == AF_INET) {
		control_put(message, IPPROTO_IP, IP_PKTINFO, &ipv4, sizeof(ipv4));
		return;
	}
	ipv6.ipi6_addr = from6->sin6_addr;
	if (IN6_IS_ADDR_LINKLOCAL(&from6->sin6_addr))
		ipv6.ipi6_ifindex = from6->sin6_scope_id;
	control_put(message, IPPROTO_IPV6, IPV6_PKTINFO, &ipv6, sizeof(ipv6));
}

static void send_reply(struct udp_server *server, struct udp_call *call)
{
	union packet_control control = { 0 };
	struct iovec data = {
		.iov_base = call->rpc.reply + RPC_REPLY_HEADROOM,
		.iov_len = call->rpc.reply_len,
	};
	struct msghdr message = {
		.msg_name = &call->rpc.client,
		.msg_namelen = call->client_len,
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
	};

	source_put(&message, &call->rpc.server);
	if (sendmsg(server->fd, &message, MSG_DONTWAIT) < 0)
		server->counters.dropped_unsent++;
	else
		server->counters.sent++;
}

static void on_done(struct rpc_call *rpc)
{
	struct udp_call *call = rpc->transport_state;
	struct udp_server *server = call->server;

	if (rpc->reply_len > UDP_DATAGRAM_MAX)
		server->counters.dropped_long++;
	else if (rpc->reply_len && server->fd >= 0)
		send_reply(server, call);
	rpc_call_fini(rpc);
	free(call);
	server->calls_out--;
	server_collect(server);
}

static struct udp_call *call_new(struct udp_server *server, struct msghdr *message, size_t len)
{
	struct udp_call *call = malloc(sizeof(*call) + len);

	if (!call)
		return NULL;
	*call = (struct udp_call){
		.rpc = {
			.record = call->record,
			.record_len = len,
			.transport = RPC_UDP,
			.server = server->address,
			.done = on_done,
			.transport_state = call,
		},
		.server = server,
		.client_len = message->msg_namelen,
	};
	memcpy(call->record, server->datagram, len);
	memcpy(&call->rpc.client, message->msg_name, message->msg_namelen);
	destination_get(message, &call->rpc.server);
	return call;
}

/* Return: false when there is nothing more to be had now */
static bool serve_one(struct udp_server *server)
{
	union packet_control control = { 0 };
	struct sockaddr_storage client = { 0 };
	struct iovec data = { .iov_base = server->datagram, .iov_len = sizeof(server->datagram) };
	struct msghdr message = {
		.msg_name = &client,
		.msg_namelen = sizeof(client),
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t len = recvmsg(server->fd, &message, MSG_DONTWAIT);
	struct udp_call *call;

	if (len < 0)
		return errno == EINTR || errno == ECONNREFUSED; /* an ICMP error about an earlier reply */
	server->counters.received++;
	if (server->calls_out >= UDP_CALLS_MAX || !(call = call_new(server, &message, (size_t)len))) {
		server->counters.dropped_busy++;
		return true;
	}
	server->calls_out++;
	rpc_dispatch(server->rpc, &call->rpc); /* the call may be gone when this returns */
	return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct udp_server *server = arg;

	(void)fd;
	(void)what;
	/* Whoever answers may free the server: hold it. */
	server->calls_out++;
	for (int i = 0; i < CALLS_PER_TURN && server->fd >= 0; i++)
		if (!serve_one(server))
			break;
	server->calls_out--;
	server_collect(server);
}

static int socket_open(struct udp_server *server, const struct sockaddr *address, socklen_t address_len)
{
	socklen_t len = sizeof(server->address);
	bool is_ipv6 = address->sa_family == AF_INET6;
	int one = 1;

	server->fd = socket(address->sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server->fd < 0)
		return -errno;
	/* IPv4 has a socket of its own. */
	if (is_ipv6 && setsockopt(server->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0)
		return -errno;
	if (setsockopt(server->fd, is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, is_ipv6 ? IPV6_RECVPKTINFO : IP_PKTINFO, &one,
		       sizeof(one)) < 0)
		return -errno;
	if (bind(server->fd, address, address_len) < 0)
		return -errno;
	if (getsockname(server->fd, (struct sockaddr *)&server->address, &len) < 0)
		return -errno;
	return 0;
}

int udp_server_new(struct event_base *base, const struct sockaddr *address, socklen_t address_len,
		   struct rpc_server *rpc, struct udp_server **out)
{
	struct udp_server *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return -ENOMEM;
	server->rpc = rpc;
	err = socket_open(server, address, address_len);
	if (err)
		goto fail;
	server->event = event_new(base, server->fd, EV_READ | EV_PERSIST, on_readable, server);
	if (!server->event || event_add(server->event, NULL) < 0) {
		err = -ENOMEM;
		goto fail;
	}
	*out = server;
	return 0;
fail:
	udp_server_free(server);
	return err;
}

void udp_server_free(struct udp_server *server)
{
	if (!server)
		return;
	if (server->event)
		event_free(server->event);
	server->event = NULL;
	if (server->fd >= 0)
		close(server->fd);
	server->fd = -1;
	server_collect(server);
}

const struct udp_counters *udp_server_counters(const struct udp_server *server)
{
	return &server->counters;
}

const struct sockaddr_storage *udp_server_address(const struct udp_server *server)
{
	return &server->address;
}
