/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/serving.h"

#include "common/log.h"
#include "common/portmap.h"
#include "common/udp.h"
#include "slave/locks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ADDRESSES_MAX = SETTINGS_VIPS_MAX > 2 ? SETTINGS_VIPS_MAX : 2,
	UDP_SERVERS_MAX = 2 * ADDRESSES_MAX,
	PORTMAP_ROWS_MAX = 48,
	PROGRAMS_MAX = 12,
};

struct serving {
	struct rpc_server rpc;
	struct rpc_program programs[PROGRAMS_MAX];
	struct portmap_row rows[PORTMAP_ROWS_MAX];
	struct serving_options options;
	struct sockaddr_storage addresses[ADDRESSES_MAX];
	size_t address_count;
	struct conn_memory *memory;  /* of both */
	struct conn_server *conns;   /* NFS: sessions */
	struct conn_server *portmap; /* its connections are nobody's session */
	struct udp_server *udp[UDP_SERVERS_MAX];
	size_t udp_count;
	bool registered; /* with the system's rpcbind */
};

struct serving *serving_new(struct file_service *files, struct locks *locks)
{
	struct serving *serving = calloc(1, sizeof(*serving));
	const struct rpc_program *programs;
	size_t count;

	if (!serving)
		return NULL;
	programs = file_service_programs(files, &count);
	if (BUG_IF(count + 4 > PROGRAMS_MAX)) {
		free(serving);
		return NULL;
	}
	memcpy(serving->programs, programs, count * sizeof(*programs));
	serving->programs[count++] = portmap_program(serving->rows);
	if (locks) {
		serving->programs[count++] = locks_nlm_program(locks);
		serving->programs[count++] = locks_nsm_program(locks);
	}
	serving->rpc.programs = serving->programs;
	return serving;
}

struct rpc_server *serving_rpc(struct serving *serving)
{
	return &serving->rpc;
}

struct conn_server *serving_conns(struct serving *serving)
{
	return serving ? serving->conns : NULL;
}

const struct conn_memory_counters *serving_memory(const struct serving *serving)
{
	return serving->memory ? conn_memory_counters(serving->memory) : NULL;
}

/* The port mapper's own connections can't be moved and are nobody's session. */
static bool portmap_on_accept(int fd, struct kernel_helper_static *fixed, void *arg)
{
	(void)fd, (void)fixed, (void)arg;
	return false;
}

static void portmap_on_work(struct conn *conn, const struct rpc_call *call, void *arg)
{
	(void)conn, (void)call, (void)arg;
}

static void portmap_on_closed(struct conn *conn, void *arg)
{
	(void)conn, (void)arg;
}

static const struct conn_handlers portmap_handlers = {
	.on_accept = portmap_on_accept,
	.on_work = portmap_on_work,
	.on_closed = portmap_on_closed,
};

static int add_address(struct serving *serving, const char *text)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *found;

	if (serving->address_count == ADDRESSES_MAX || getaddrinfo(text, NULL, &hints, &found) != 0) {
		log_err("serving", "vip=\"%s\" is not an address; name IPv4 or IPv6 addresses, no host names", text);
		return -EINVAL;
	}
	memcpy(&serving->addresses[serving->address_count++], found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

static int note_addresses(struct serving *serving, const struct serving_options *options)
{
	int rc = 0;

	serving->address_count = 0;
	for (size_t i = 0; rc == 0 && i < options->vip_count; i++)
		rc = add_address(serving, options->vips[i]);
	if (options->vip_count == 0) {
		add_address(serving, "0.0.0.0");
		add_address(serving, "::");
	}
	return rc;
}

static void note_rows(struct serving *serving, uint16_t nfs_port)
{
	const struct portmap_row *from = portmap_services;
	size_t i = 0;

	for (; from->program && i < PORTMAP_ROWS_MAX - 1; i++, from++) {
		serving->rows[i] = *from;
		if (from->port == NFS_PORT)
			serving->rows[i].port = nfs_port;
	}
	serving->rows[i] = (struct portmap_row){ 0 };
}

int serving_prepare(struct serving *serving, const struct serving_options *options)
{
	struct conn_server_options conns = {
		.base = options->base,
		.rpc = &serving->rpc,
		.self = options->self,
		.handlers = options->handlers,
		.arg = options->arg,
	};
	int rc = note_addresses(serving, options);

	if (rc < 0)
		return rc;
	note_rows(serving, options->settings->nfs_port);
	serving->options = *options;
	if (!serving->memory)
		serving->memory = conn_memory_new(options->base, options->settings->memory);
	if (!serving->memory)
		return -ENOMEM;
	conns.memory = serving->memory;
	if (!serving->conns)
		serving->conns = conn_server_new(&conns);
	conns.handlers = &portmap_handlers;
	if (!serving->portmap)
		serving->portmap = conn_server_new(&conns);
	return serving->conns && serving->portmap ? 0 : -ENOMEM;
}

static socklen_t address_with_port(const struct sockaddr_storage *address, uint16_t port, struct sockaddr_storage *out)
{
	*out = *address;
	if (address->ss_family == AF_INET6) {
		((struct sockaddr_in6 *)out)->sin6_port = htons(port);
		return sizeof(struct sockaddr_in6);
	}
	((struct sockaddr_in *)out)->sin_port = htons(port);
	return sizeof(struct sockaddr_in);
}

static int explain(const struct sockaddr_storage *address, uint16_t port, const char *protocol, int rc)
{
	char host[NI_MAXHOST] = "?";

	getnameinfo((const struct sockaddr *)address, sizeof(*address), host, sizeof(host), NULL, 0, NI_NUMERICHOST);
	log_err("serving", "%s port %u of %s: %s%s", protocol, port, host, strerror(-rc),
		rc == -EADDRINUSE ? "; another file server runs here (ss -tulpn shows it): stop it" : "");
	return rc;
}

static int listen_udp(struct serving *serving, const struct sockaddr_storage *address, uint16_t port)
{
	struct sockaddr_storage at;
	socklen_t len = address_with_port(address, port, &at);
	int rc;

	if (BUG_IF(serving->udp_count == UDP_SERVERS_MAX))
		return -ENOSPC;
	rc = udp_server_new(serving->options.base, (struct sockaddr *)&at, len, &serving->rpc,
			    &serving->udp[serving->udp_count]);
	if (rc < 0)
		return explain(address, port, "UDP", rc);
	serving->udp_count++;
	return 0;
}

static int listen_tcp(struct conn_server *server, const struct sockaddr_storage *address, uint16_t port)
{
	struct sockaddr_storage at;
	socklen_t len = address_with_port(address, port, &at);
	int rc = conn_server_listen(server, (struct sockaddr *)&at, len);

	return rc < 0 ? explain(address, port, "TCP", rc) : 0;
}

static bool use_own_portmapper(struct serving *serving)
{
	enum settings_portmapper portmapper = serving->options.settings->portmapper;
	int rc;

	if (portmapper == SETTINGS_PORTMAPPER_BUILTIN)
		return true;
	if (portmapper == SETTINGS_PORTMAPPER_NONE)
		return false;
	rc = portmap_register(PORTMAP_RPCBIND_SOCKET, serving->rows);
	serving->registered = rc == 0;
	if (rc == 0)
		log_info("serving", "registered with the rpcbind of this machine");
	else if (portmapper == SETTINGS_PORTMAPPER_RPCBIND)
		log_err("serving", "rpcbind refuses: %s; clients must name the port: mount -o port=%u,mountport=%u,tcp",
			strerror(-rc), serving->options.settings->nfs_port, serving->options.settings->nfs_port);
	return rc < 0 && portmapper == SETTINGS_PORTMAPPER_AUTO;
}

static int listen_all(struct serving *serving)
{
	uint16_t port = serving->options.settings->nfs_port;
	bool master = serving->options.settings->mode == SETTINGS_MODE_MASTER;
	bool own_portmapper = master && use_own_portmapper(serving);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < serving->address_count; i++) {
		const struct sockaddr_storage *address = &serving->addresses[i];

		rc = listen_tcp(serving->conns, address, port);
		if (rc == 0 && master)
			rc = listen_udp(serving, address, port);
		if (rc == 0 && own_portmapper)
			rc = listen_tcp(serving->portmap, address, PORTMAP_PORT);
		if (rc == 0 && own_portmapper)
			rc = listen_udp(serving, address, PORTMAP_PORT);
	}
	return rc;
}

int serving_listen(struct serving *serving)
{
	int rc = listen_all(serving);

	if (rc < 0)
		serving_stop(serving);
	return rc;
}

void serving_stop(struct serving *serving)
{
	if (!serving)
		return;
	if (serving->registered)
		portmap_unregister(PORTMAP_RPCBIND_SOCKET, serving->rows);
	serving->registered = false;
	while (serving->udp_count)
		udp_server_free(serving->udp[--serving->udp_count]);
	conn_server_free(serving->conns);
	conn_server_free(serving->portmap);
	serving->conns = serving->portmap = NULL;
}

void serving_free(struct serving *serving)
{
	serving_stop(serving);
	if (serving)
		conn_memory_free(serving->memory);
	free(serving);
}
