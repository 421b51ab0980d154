/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/serving.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/portmap.h"
#include "common/udp.h"
#include "slave/listeners.h"
#include "slave/locks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ADDRESSES_MAX = SETTINGS_VIPS_MAX > 2 ? SETTINGS_VIPS_MAX : 2,
	UDP_SERVERS_MAX = 2 * ADDRESSES_MAX,
	PORTMAP_ROWS_MAX = 48,
	PROGRAMS_MAX = 12,
	TURNS_MIN = 2, /* of one loop: a client that does not use its turn holds up one other */
};

/* What a loop has of its own: a service, and connections with what they hold. */
struct part {
	struct loop *loop;
	struct file_service *files;
	struct rpc_program programs[PROGRAMS_MAX];
	struct rpc_server rpc;
	struct conn_memory *memory;
};

struct serving {
	struct event_base *base;
	const struct settings *settings;
	struct part control; /* of it serving owns the loop and the memory */
	struct loops *loops;
	struct part *data; /* as many as there are data loops */
	struct portmap_row rows[PORTMAP_ROWS_MAX];
	struct serving_options options;
	struct sockaddr_storage addresses[ADDRESSES_MAX];
	size_t address_count;
	struct conn_server *conns;   /* NFS: sessions */
	struct conn_server *portmap; /* its connections are nobody's session */
	struct udp_server *udp[UDP_SERVERS_MAX];
	size_t udp_count;
	struct listeners *inherited; /* until it listens */
	bool registered; /* with the system's rpcbind */
};

/* Parts */

static void pass_on(const struct rpc_program *program, struct rpc_call *call)
{
	rpc_pass_on(call, program->state);
}

/* The same programs: files of this device are looked after here, for the rest the control loop is. */
static void take_programs(struct part *part, struct rpc_server *control)
{
	const struct rpc_program *own, *from = control->programs;
	size_t own_count, i;

	own = file_service_programs(part->files, &own_count);
	for (i = 0; from[i].number; i++) {
		bool is_here = from[i].number == NFS_PROGRAM || from[i].number == NFS_ACL_PROGRAM;

		part->programs[i] = from[i];
		part->programs[i].dispatch = pass_on;
		part->programs[i].state = control;
		for (size_t j = 0; is_here && j < own_count; j++)
			if (own[j].number == from[i].number)
				part->programs[i] = own[j];
	}
	part->rpc = (struct rpc_server){ .programs = part->programs, .loop = part->loop };
}

/* The port mapper's connections have as little as there may be; data loops share the rest. */
static size_t memory_of_data(const struct settings *settings, unsigned int loops)
{
	return (settings->memory - conn_memory_min(TURNS_MIN)) / loops;
}

static unsigned int turns_of_data(unsigned int loops)
{
	unsigned int turns = CONN_MEMORY_TURNS / loops;

	return turns > TURNS_MIN ? turns : TURNS_MIN;
}

/* One per core, as far as there is memory for the turns of each. */
static unsigned int loop_count(const struct settings *settings)
{
	unsigned int cores = settings->data_loops, count;
	cpu_set_t set;

	if (!cores)
		cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned int)CPU_COUNT(&set) : 1;
	for (count = cores; count > 1; count--)
		if (memory_of_data(settings, count) >= conn_memory_min(turns_of_data(count)))
			break;
	if (count < cores)
		log_warn("serving", "data_loops=%u instead of %u: memory=%ju is too little for more", count, cores,
			 (uintmax_t)settings->memory);
	return count;
}

static int data_part_init(struct serving *serving, struct part *part, struct loop *loop)
{
	unsigned int count = loops_count(serving->loops);

	part->loop = loop;
	part->files = file_service_new_part(serving->control.files, loop, &serving->control.rpc);
	part->memory = conn_memory_new(loop_base(loop), loop, memory_of_data(serving->settings, count), turns_of_data(count));
	if (!part->files || !part->memory)
		return -ENOMEM;
	take_programs(part, &serving->control.rpc);
	return 0;
}

static int make_data_parts(struct serving *serving)
{
	unsigned int count = loops_count(serving->loops);
	int rc = 0;

	serving->data = calloc(count, sizeof(*serving->data));
	if (!serving->data)
		return -ENOMEM;
	for (unsigned int i = 0; rc == 0 && i < count; i++)
		rc = data_part_init(serving, &serving->data[i], loops_at(serving->loops, i));
	return rc;
}

static int make_control_part(struct serving *serving, struct file_service *files, struct locks *locks)
{
	struct part *control = &serving->control;
	const struct rpc_program *programs;
	size_t count;
	int rc;

	programs = file_service_programs(files, &count);
	if (BUG_IF(count + 4 > PROGRAMS_MAX))
		return -ENOMEM;
	control->files = files;
	memcpy(control->programs, programs, count * sizeof(*programs));
	control->programs[count++] = portmap_program(serving->rows);
	if (locks) {
		control->programs[count++] = locks_nlm_program(locks);
		control->programs[count++] = locks_nsm_program(locks);
	}
	rc = loop_new(serving->base, &control->loop);
	if (rc < 0)
		return rc;
	control->rpc = (struct rpc_server){ .programs = control->programs, .loop = control->loop };
	control->memory = conn_memory_new(serving->base, NULL, 0, TURNS_MIN);
	return control->memory ? 0 : -ENOMEM;
}

struct serving *serving_new(struct event_base *base, const struct settings *settings, struct file_service *files,
			    struct locks *locks)
{
	struct serving *serving = calloc(1, sizeof(*serving));

	if (!serving)
		return NULL;
	serving->base = base;
	serving->settings = settings;
	serving->inherited = listeners_inherit();
	if (loops_new(loop_count(settings), &serving->loops) < 0 || make_control_part(serving, files, locks) < 0 ||
	    make_data_parts(serving) < 0) {
		serving_free(serving);
		return NULL;
	}
	return serving;
}

struct loops *serving_loops(struct serving *serving)
{
	return serving ? serving->loops : NULL;
}

struct rpc_server *serving_rpc(struct serving *serving)
{
	return &serving->control.rpc;
}

struct conn_server *serving_conns(struct serving *serving)
{
	return serving ? serving->conns : NULL;
}

static void add_memory(struct conn_memory_counters *sum, const struct part *part)
{
	const struct conn_memory_counters *more = conn_memory_counters(part->memory);

	sum->held += more->held;
	sum->most += more->most;
	sum->waited += more->waited;
	sum->turns += more->turns;
	sum->closed += more->closed;
	sum->refused += more->refused;
}

struct conn_memory_counters serving_memory(struct serving *serving)
{
	struct conn_memory_counters sum = { 0 };

	loops_pause(serving->loops);
	add_memory(&sum, &serving->control);
	for (unsigned int i = 0; i < loops_count(serving->loops); i++)
		add_memory(&sum, &serving->data[i]);
	loops_continue(serving->loops);
	return sum;
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

static void portmap_on_closed(uint64_t session, void *arg)
{
	(void)session, (void)arg;
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

static struct conn_part_options part_options(struct part *part)
{
	return (struct conn_part_options){ .loop = part->loop, .rpc = &part->rpc, .memory = part->memory };
}

static struct conn_server *make_conns(struct serving *serving)
{
	unsigned int count = loops_count(serving->loops);
	struct conn_part_options *parts = calloc(count, sizeof(*parts));
	struct conn_server_options options = {
		.base = serving->base,
		.self = serving->options.self,
		.handlers = serving->options.handlers,
		.arg = serving->options.arg,
		.loops = serving->loops,
		.parts = parts,
		.part_count = count,
	};
	struct conn_server *conns;

	if (!parts)
		return NULL;
	for (unsigned int i = 0; i < count; i++)
		parts[i] = part_options(&serving->data[i]);
	conns = conn_server_new(&options);
	free(parts);
	return conns;
}

static struct conn_server *make_portmap(struct serving *serving)
{
	struct conn_part_options part = part_options(&serving->control);
	struct conn_server_options options = {
		.base = serving->base,
		.self = serving->options.self,
		.handlers = &portmap_handlers,
		.parts = &part,
		.part_count = 1,
	};

	return conn_server_new(&options);
}

int serving_prepare(struct serving *serving, const struct serving_options *options)
{
	int rc = note_addresses(serving, options);

	if (rc < 0)
		return rc;
	note_rows(serving, serving->settings->nfs_port);
	serving->options = *options;
	if (!serving->conns)
		serving->conns = make_conns(serving);
	if (!serving->portmap)
		serving->portmap = make_portmap(serving);
	return serving->conns && serving->portmap ? loops_start(serving->loops) : -ENOMEM;
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
	rc = udp_server_new(serving->base, (struct sockaddr *)&at, len, &serving->control.rpc,
			    &serving->udp[serving->udp_count]);
	if (rc < 0)
		return explain(address, port, "UDP", rc);
	serving->udp_count++;
	return 0;
}

static void drop_inherited(struct serving *serving)
{
	listeners_free(serving->inherited);
	serving->inherited = NULL;
}

static int listen_tcp(struct serving *serving, struct conn_server *server, const struct sockaddr_storage *address, uint16_t port)
{
	struct sockaddr_storage at;
	socklen_t len = address_with_port(address, port, &at);
	int inherited = listeners_take(serving->inherited, (struct sockaddr *)&at);
	int rc = inherited < 0 ? conn_server_listen(server, (struct sockaddr *)&at, len) : conn_server_listen_on(server, inherited);

	if (rc == -EADDRINUSE && serving->inherited) { /* perhaps by what the daemon before had, at other addresses */
		drop_inherited(serving);
		rc = conn_server_listen(server, (struct sockaddr *)&at, len);
	}
	return rc < 0 ? explain(address, port, "TCP", rc) : 0;
}

static bool use_own_portmapper(struct serving *serving)
{
	enum settings_portmapper portmapper = serving->settings->portmapper;
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
			strerror(-rc), serving->settings->nfs_port, serving->settings->nfs_port);
	return rc < 0 && portmapper == SETTINGS_PORTMAPPER_AUTO;
}

static int listen_all(struct serving *serving)
{
	uint16_t port = serving->settings->nfs_port;
	bool master = serving->settings->mode == SETTINGS_MODE_MASTER;
	bool own_portmapper = master && use_own_portmapper(serving);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < serving->address_count; i++) {
		const struct sockaddr_storage *address = &serving->addresses[i];

		rc = listen_tcp(serving, serving->conns, address, port);
		if (rc == 0)
			rc = listen_udp(serving, address, port);
		if (rc == 0 && own_portmapper)
			rc = listen_tcp(serving, serving->portmap, address, PORTMAP_PORT);
		if (rc == 0 && own_portmapper)
			rc = listen_udp(serving, address, PORTMAP_PORT);
	}
	return rc;
}

int serving_listen(struct serving *serving)
{
	int rc = listen_all(serving);

	drop_inherited(serving);
	if (rc < 0)
		serving_stop(serving);
	return rc;
}

void serving_stop_accepting(struct serving *serving)
{
	conn_server_stop_accepting(serving->conns);
	conn_server_stop_accepting(serving->portmap);
}

int serving_leave_listeners(struct serving *serving)
{
	struct conn_server *const servers[] = { serving->conns, serving->portmap };

	return listeners_leave(servers, 2);
}

void serving_stop(struct serving *serving)
{
	if (!serving)
		return;
	if (serving->registered)
		portmap_unregister(PORTMAP_RPCBIND_SOCKET, serving->rows);
	serving->registered = false;
	if (serving->loops) {
		loops_stop(serving->loops);
		loops_open_letters(serving->loops); /* connections that were just accepted */
	}
	if (serving->control.loop)
		loop_open_letters(serving->control.loop); /* what was passed on is answered by what is there still */
	while (serving->udp_count)
		udp_server_free(serving->udp[--serving->udp_count]);
	conn_server_free(serving->conns);
	conn_server_free(serving->portmap);
	serving->conns = serving->portmap = NULL;
}

void serving_free(struct serving *serving)
{
	if (!serving)
		return;
	serving_stop(serving);
	drop_inherited(serving);
	if (serving->loops)
		loops_open_letters(serving->loops);
	for (unsigned int i = 0; serving->data && i < loops_count(serving->loops); i++) {
		conn_memory_free(serving->data[i].memory);
		file_service_free(serving->data[i].files);
	}
	conn_memory_free(serving->control.memory);
	loop_free(serving->control.loop);
	loops_free(serving->loops);
	free(serving->data);
	free(serving);
}
