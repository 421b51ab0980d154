/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/portmap.h"

#include "common/file_service.h"
#include "common/nlm.h"
#include "common/nsm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <rpc/rpc.h>
#include <rpc/rpcb_prot.h>
#include <stdio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* RFC 1833, 2.1, 2.2.1 and 3.2: the numbers that the versions share, and those that they don't */
enum {
	NUMBER_NULL = 0,
	NUMBER_SET = 1,
	NUMBER_UNSET = 2,
	NUMBER_GET = 3, /* GETPORT, GETADDR */
	NUMBER_DUMP = 4,
	NUMBER_GETTIME = 6,	/* from version 3 */
	NUMBER_GETVERSADDR = 9, /* version 4 */
};

enum {
	TEXT_MAX = 64, /* a network id, a universal address */
	STRINGS_BYTES = 3 * (4 + TEXT_MAX),
	ROW_BYTES = 4 + 2 * 4 + STRINGS_BYTES,
};

const struct portmap_row portmap_services[] = {
	{ PORTMAP_PROGRAM, 2, IPPROTO_TCP, PORTMAP_PORT },
	{ PORTMAP_PROGRAM, 2, IPPROTO_UDP, PORTMAP_PORT },
	{ PORTMAP_PROGRAM, 3, IPPROTO_TCP, PORTMAP_PORT },
	{ PORTMAP_PROGRAM, 3, IPPROTO_UDP, PORTMAP_PORT },
	{ PORTMAP_PROGRAM, 4, IPPROTO_TCP, PORTMAP_PORT },
	{ PORTMAP_PROGRAM, 4, IPPROTO_UDP, PORTMAP_PORT },
	{ NFS_PROGRAM, 3, IPPROTO_TCP, NFS_PORT },
	{ NFS_PROGRAM, 3, IPPROTO_UDP, NFS_PORT },
	{ MOUNT_PROGRAM, 1, IPPROTO_TCP, NFS_PORT },
	{ MOUNT_PROGRAM, 1, IPPROTO_UDP, NFS_PORT },
	{ MOUNT_PROGRAM, 3, IPPROTO_TCP, NFS_PORT },
	{ MOUNT_PROGRAM, 3, IPPROTO_UDP, NFS_PORT },
	{ NFS_ACL_PROGRAM, 3, IPPROTO_TCP, NFS_PORT },
	{ NFS_ACL_PROGRAM, 3, IPPROTO_UDP, NFS_PORT },
	{ RQUOTA_PROGRAM, 1, IPPROTO_TCP, NFS_PORT },
	{ RQUOTA_PROGRAM, 1, IPPROTO_UDP, NFS_PORT },
	{ RQUOTA_PROGRAM, 2, IPPROTO_TCP, NFS_PORT },
	{ RQUOTA_PROGRAM, 2, IPPROTO_UDP, NFS_PORT },
	{ NLM_PROGRAM, 1, IPPROTO_TCP, NFS_PORT },
	{ NLM_PROGRAM, 1, IPPROTO_UDP, NFS_PORT },
	{ NLM_PROGRAM, 3, IPPROTO_TCP, NFS_PORT },
	{ NLM_PROGRAM, 3, IPPROTO_UDP, NFS_PORT },
	{ NLM_PROGRAM, 4, IPPROTO_TCP, NFS_PORT },
	{ NLM_PROGRAM, 4, IPPROTO_UDP, NFS_PORT },
	{ NSM_PROGRAM, 1, IPPROTO_TCP, NFS_PORT },
	{ NSM_PROGRAM, 1, IPPROTO_UDP, NFS_PORT },
	{ 0 },
};

static const struct netid {
	const char *name;
	int family;
	uint32_t protocol;
} netids[] = {
	{ "tcp", AF_INET, IPPROTO_TCP },
	{ "tcp6", AF_INET6, IPPROTO_TCP },
	{ "udp", AF_INET, IPPROTO_UDP },
	{ "udp6", AF_INET6, IPPROTO_UDP },
};

enum { NETID_COUNT = sizeof(netids) / sizeof(netids[0]) };

/* The local address of a call; an IPv4-mapped one is IPv4. */
struct local_address {
	int family; /* AF_UNSPEC: unknown */
	char text[INET6_ADDRSTRLEN];
};

static struct local_address local_address(const struct sockaddr_storage *server)
{
	const struct in6_addr *ipv6 = &((const struct sockaddr_in6 *)server)->sin6_addr;
	const void *bytes = &((const struct sockaddr_in *)server)->sin_addr;
	struct local_address address = { .family = server->ss_family };

	if (address.family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(ipv6)) {
		address.family = AF_INET;
		bytes = ipv6->s6_addr + 12;
	} else if (address.family == AF_INET6) {
		bytes = ipv6;
	}
	if (!inet_ntop(address.family, bytes, address.text, sizeof(address.text)))
		address.family = AF_UNSPEC;
	return address;
}

/* "ADDRESS.P1.P2" */
static void universal_address(const char *address, uint16_t port, char out[static TEXT_MAX])
{
	snprintf(out, TEXT_MAX, "%s.%u.%u", address, port >> 8, port & 0xff);
}

static void put_text(struct bytes_writer *out, const char *text)
{
	size_t len = strlen(text);

	bytes_put_be32(out, (uint32_t)len);
	bytes_put(out, text, len);
	bytes_put(out, "\0\0", -len & 3);
}

/* Return: false if it is longer than any network id */
static bool take_text(struct bytes_reader *r, char out[static TEXT_MAX])
{
	uint32_t len = bytes_get_be32(r);
	const uint8_t *text;

	if (len >= TEXT_MAX)
		return false;
	text = bytes_take(r, (len + 3) / 4 * 4);
	if (!text)
		return false;
	memcpy(out, text, len);
	out[len] = '\0';
	return true;
}

/* A program that has no such version is found too: asked there, it says which it has. */
static const struct portmap_row *find_row(const struct portmap_row *rows, uint32_t program, uint32_t version,
					  uint32_t protocol, bool exactly)
{
	const struct portmap_row *any = NULL;

	for (; rows->program; rows++) {
		if (rows->program != program || rows->protocol != protocol)
			continue;
		if (rows->version == version)
			return rows;
		any = rows;
	}
	return exactly ? NULL : any;
}

static size_t count_rows(const struct portmap_row *rows)
{
	size_t count = 0;

	while (rows[count].program)
		count++;
	return count;
}

static void answer_nothing(struct rpc_call *call)
{
	struct bytes_writer out;

	if (!rpc_reply_begin(call, 0, &out))
		rpc_reply_end(call, &out);
}

static void answer_number(struct rpc_call *call, uint32_t number)
{
	struct bytes_writer out;

	if (rpc_reply_begin(call, 4, &out))
		return;
	bytes_put_be32(&out, number);
	rpc_reply_end(call, &out);
}

static void answer_getport(const struct portmap_row *rows, struct rpc_call *call)
{
	struct bytes_reader r = call->args;
	uint32_t program = bytes_get_be32(&r), version = bytes_get_be32(&r), protocol = bytes_get_be32(&r);
	const struct portmap_row *row;

	bytes_get_be32(&r); /* the port, which is what is asked for */
	if (r.failed) {
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
		return;
	}
	row = find_row(rows, program, version, protocol, false);
	answer_number(call, row ? row->port : 0);
}

static void answer_portmap_dump(const struct portmap_row *rows, struct rpc_call *call)
{
	struct bytes_writer out;

	if (rpc_reply_begin(call, count_rows(rows) * 5 * 4 + 4, &out))
		return;
	for (; rows->program; rows++) {
		bytes_put_be32(&out, true);
		bytes_put_be32(&out, rows->program);
		bytes_put_be32(&out, rows->version);
		bytes_put_be32(&out, rows->protocol);
		bytes_put_be32(&out, rows->port);
	}
	bytes_put_be32(&out, false);
	rpc_reply_end(call, &out);
}

/* The network id of this name; if there is none in the call, that of the transport it came by. */
static const struct netid *find_netid(const char *name, const struct rpc_call *call, int family)
{
	uint32_t protocol = call->transport == RPC_UDP ? IPPROTO_UDP : IPPROTO_TCP;

	for (size_t i = 0; i < NETID_COUNT; i++) {
		const struct netid *netid = &netids[i];

		if (*name ? strcmp(name, netid->name) == 0 : netid->family == family && netid->protocol == protocol)
			return netid;
	}
	return NULL;
}

static void answer_getaddr(const struct portmap_row *rows, struct rpc_call *call, bool exactly)
{
	struct local_address local = local_address(&call->server);
	struct bytes_reader r = call->args;
	uint32_t program = bytes_get_be32(&r), version = bytes_get_be32(&r);
	const struct portmap_row *row = NULL;
	char address[TEXT_MAX] = "", name[TEXT_MAX];
	const struct netid *netid;
	struct bytes_writer out;

	if (r.failed || !take_text(&r, name)) { /* the address and the owner behind it say nothing to us */
		rpc_reply_error(call, RPC_ACCEPT_GARBAGE_ARGS, 0, 0);
		return;
	}
	netid = find_netid(name, call, local.family);
	if (netid && netid->family == local.family)
		row = find_row(rows, program, version, netid->protocol, exactly);
	if (row)
		universal_address(local.text, row->port, address);
	if (rpc_reply_begin(call, 4 + TEXT_MAX, &out))
		return;
	put_text(&out, address);
	rpc_reply_end(call, &out);
}

static void put_rpcb(struct bytes_writer *out, const struct portmap_row *row, const struct netid *netid,
		     const char *address)
{
	bytes_put_be32(out, true);
	bytes_put_be32(out, row->program);
	bytes_put_be32(out, row->version);
	put_text(out, netid->name);
	put_text(out, address);
	put_text(out, "superuser");
}

static void answer_rpcb_dump(const struct portmap_row *rows, struct rpc_call *call)
{
	char address[TEXT_MAX];
	struct bytes_writer out;

	if (rpc_reply_begin(call, count_rows(rows) * 2 * ROW_BYTES + 4, &out))
		return;
	for (; rows->program; rows++) {
		for (size_t i = 0; i < NETID_COUNT; i++) {
			if (netids[i].protocol != rows->protocol)
				continue;
			universal_address(netids[i].family == AF_INET ? "0.0.0.0" : "::", rows->port, address);
			put_rpcb(&out, rows, &netids[i], address);
		}
	}
	bytes_put_be32(&out, false);
	rpc_reply_end(call, &out);
}

static void dispatch_portmap(const struct portmap_row *rows, struct rpc_call *call)
{
	switch (call->procedure) {
	case NUMBER_NULL:
		answer_nothing(call);
		break;
	case NUMBER_SET:
	case NUMBER_UNSET:
		answer_number(call, false);
		break;
	case NUMBER_GET:
		answer_getport(rows, call);
		break;
	case NUMBER_DUMP:
		answer_portmap_dump(rows, call);
		break;
	default:
		rpc_reply_error(call, RPC_ACCEPT_PROC_UNAVAIL, 0, 0);
	}
}

static void dispatch_rpcbind(const struct portmap_row *rows, struct rpc_call *call)
{
	switch (call->procedure) {
	case NUMBER_NULL:
		answer_nothing(call);
		break;
	case NUMBER_SET:
	case NUMBER_UNSET:
		answer_number(call, false);
		break;
	case NUMBER_GET:
		answer_getaddr(rows, call, false);
		break;
	case NUMBER_DUMP:
		answer_rpcb_dump(rows, call);
		break;
	case NUMBER_GETTIME:
		answer_number(call, (uint32_t)time(NULL));
		break;
	case NUMBER_GETVERSADDR:
		if (call->version >= 4) {
			answer_getaddr(rows, call, true);
			break;
		} /* fall through */
	default:
		rpc_reply_error(call, RPC_ACCEPT_PROC_UNAVAIL, 0, 0);
	}
}

static void dispatch(const struct rpc_program *program, struct rpc_call *call)
{
	if (call->version == 2)
		dispatch_portmap(program->state, call);
	else
		dispatch_rpcbind(program->state, call);
}

struct rpc_program portmap_program(const struct portmap_row *rows)
{
	return (struct rpc_program){
		.number = PORTMAP_PROGRAM,
		.version_low = 2,
		.version_high = 4,
		.name = "portmapper",
		.dispatch = dispatch,
		.state = (void *)rows, /* only read, by dispatch() */
	};
}

/* Registration: calls to rpcbind over its local socket, which tells it that we are root. */

static int local_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = PORTMAP_WAIT_S };
	int fd, err;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)); /* a full backlog does not hold us */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		err = errno == EAGAIN ? -ETIMEDOUT : -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int rpcbind_open(const char *path, CLIENT **out)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct netbuf server = { .maxlen = sizeof(address), .len = sizeof(address), .buf = &address };
	int fd = local_connect(path);

	if (fd < 0)
		return fd;
	*out = clnt_vc_create(fd, &server, RPCBPROG, RPCBVERS4, 0, 0);
	if (!*out) {
		close(fd);
		return -EPROTO;
	}
	clnt_control(*out, CLSET_FD_CLOSE, NULL);
	return 0;
}

/* Return: 0; 1 if rpcbind said no; -ETIMEDOUT; -EPROTO */
static int rpcbind_ask(CLIENT *client, rpcproc_t procedure, const struct portmap_row *row, const struct netid *netid)
{
	struct timeval wait = { .tv_sec = PORTMAP_WAIT_S };
	char address[TEXT_MAX];
	bool_t done = FALSE;
	rpcb ask = {
		.r_prog = row->program,
		.r_vers = row->version,
		.r_netid = (char *)netid->name,
		.r_addr = address,
		.r_owner = (char *)"",
	};
	enum clnt_stat status;

	universal_address(netid->family == AF_INET ? "0.0.0.0" : "::", row->port, address);
	status = clnt_call(client, procedure, (xdrproc_t)xdr_rpcb, (caddr_t)&ask, (xdrproc_t)xdr_bool, (caddr_t)&done,
			   wait);
	if (status != RPC_SUCCESS)
		return status == RPC_TIMEDOUT ? -ETIMEDOUT : -EPROTO;
	return done ? 0 : 1;
}

static int register_row(CLIENT *client, const struct portmap_row *row, const struct netid *netid, bool wanted)
{
	/* Nothing to take back is no failure. */
	int rc = rpcbind_ask(client, RPCBPROC_UNSET, row, netid);

	if (rc < 0 || !wanted)
		return rc < 0 ? rc : 0;
	rc = rpcbind_ask(client, RPCBPROC_SET, row, netid);
	return rc > 0 ? -EPERM : rc;
}

static int register_all(const char *socket_path, const struct portmap_row *rows, bool wanted)
{
	CLIENT *client;
	int err = rpcbind_open(socket_path, &client);

	if (err)
		return err;
	for (; rows->program && !err; rows++)
		for (size_t i = 0; i < NETID_COUNT && !err; i++)
			if (rows->program != PORTMAP_PROGRAM && rows->protocol == netids[i].protocol)
				err = register_row(client, rows, &netids[i], wanted);
	clnt_destroy(client);
	return err;
}

int portmap_register(const char *socket_path, const struct portmap_row *rows)
{
	return register_all(socket_path, rows, true);
}

int portmap_unregister(const char *socket_path, const struct portmap_row *rows)
{
	return register_all(socket_path, rows, false);
}
