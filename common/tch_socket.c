/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static const struct {
	int option;
	size_t offset; /* of a uint32_t in struct tch_timers */
} timer_options[] = {
	{ TCP_USER_TIMEOUT, offsetof(struct tch_timers, user_timeout_ms) },
	{ TCP_KEEPIDLE, offsetof(struct tch_timers, keepalive_idle_s) },
	{ TCP_KEEPINTVL, offsetof(struct tch_timers, keepalive_interval_s) },
	{ TCP_KEEPCNT, offsetof(struct tch_timers, keepalive_count) },
};

enum { TIMER_OPTIONS = sizeof(timer_options) / sizeof(timer_options[0]) };

int tch_socket_iptos(int fd, const struct flow_key *flow)
{
	bool ipv4 = flow_is_ipv4(flow);
	int tos;
	socklen_t len = sizeof(tos);

	if (getsockopt(fd, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS, &tos, &len) < 0)
		return -errno;
	return tos & UINT8_MAX;
}

int tch_socket_set_iptos(int fd, const struct flow_key *flow, uint8_t tos)
{
	bool ipv4 = flow_is_ipv4(flow);
	int value = tos;

	return setsockopt(fd, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS, &value, sizeof(value)) < 0 ?
		       -errno : 0;
}

int tch_socket_timers(int fd, struct tch_timers *out)
{
	struct tch_timers timers;

	for (size_t i = 0; i < TIMER_OPTIONS; i++) {
		socklen_t len = sizeof(uint32_t);

		if (getsockopt(fd, IPPROTO_TCP, timer_options[i].option, (char *)&timers + timer_options[i].offset, &len) < 0)
			return -errno;
	}
	*out = timers;
	return 0;
}

int tch_socket_set_timers(int fd, const struct tch_timers *timers)
{
	for (size_t i = 0; i < TIMER_OPTIONS; i++) {
		const uint32_t *value = (const uint32_t *)((const char *)timers + timer_options[i].offset);

		if (*value && setsockopt(fd, IPPROTO_TCP, timer_options[i].option, value, sizeof(*value)) < 0)
			return -errno;
	}
	return 0;
}

void tch_socket_look(int fd, const struct flow_key *flow, uint8_t *iptos, struct tch_timers *timers)
{
	int tos = tch_socket_iptos(fd, flow);

	*iptos = tos < 0 ? 0 : (uint8_t)tos;
	*timers = (struct tch_timers){ 0 };
	tch_socket_timers(fd, timers);
}
