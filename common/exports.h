/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/exports.h - which client may do what where
 *
 * Rules are those of exports(5), kept in the name space: a path of the tree and a list "CLIENT(OPTION,...) ...". CLIENT
 * is an address, a network (10.0.0.0/8, 10.0.0.0/255.0.0.0, fd00::/8) or "*". Options: ro, rw, root_squash,
 * no_root_squash, all_squash, anonuid=N, anongid=N, secure, insecure. Defaults: ro, root_squash, secure. The export with
 * the longest path that is a prefix of the volume's place decides; in it the first client that matches.
 *
 * Threads: no shared state; the name space's.
 */
#ifndef VNAS_COMMON_EXPORTS_H
#define VNAS_COMMON_EXPORTS_H

#include "common/backend.h"
#include "common/namespace.h"

#include <stdbool.h>
#include <sys/socket.h>

struct export_rights {
	bool may_write;
	bool root_squash, all_squash;
	bool secure; /* only from ports below 1024 */
	uint32_t anonymous_uid, anonymous_gid; /* 65534 */
};

/**
 * exports_rights() - what a client may do in a volume
 * @volume:	volume id; NAMESPACE_ROOT_VOLUME: the virtual root, which any client of any export may walk
 * @client:	address and port
 * @out:	out: untouched on failure
 *
 * Return: 0; -EACCES if no export lets this client in, or the port is not privileged where it must be
 */
int exports_rights(const struct namespace *ns, uint32_t volume, const struct sockaddr_storage *client,
		   struct export_rights *out);

/**
 * exports_check() - is a list of clients well-formed
 * @clients:	as in ns_export
 * @why:	out: on failure what is wrong and what would be right, at least 160 bytes
 *
 * Return: 0; -EINVAL
 */
int exports_check(const char *clients, char *why, size_t why_size);

/* Squash: what identity the client's credentials become under these rights. */
void exports_squash(const struct export_rights *rights, struct credentials *who);

#endif
