/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/exports.h - which client may do what where
 *
 * The exports of the name space: a path of the tree and a list of clients (common/export_rules.h). The export with the
 * longest path that leads to an object decides; in it the first rule, in the order of precedence, that means the client. If
 * none does, the client has no rights there, whatever exports further up say.
 *
 * The path may lead into a volume. Then it depends on an object's place in the volume, as it is at the moment, which
 * export decides; unless all that concern a volume give a client the same, the place must be known (struct backend,
 * `place`).
 *
 * The lists are parsed when the name space has changed, and at no other time: a change counts from the next call on.
 *
 * Threads: no shared state; the name space's.
 */
#ifndef VNAS_COMMON_EXPORTS_H
#define VNAS_COMMON_EXPORTS_H

#include "common/backend.h"
#include "common/export_rules.h"
#include "common/namespace.h"

#include <stdbool.h>
#include <sys/socket.h>

struct exports;
struct name_service;

/* How exports_rights() can end, beside 0 and failure. */
enum exports_open {
	EXPORTS_UNKNOWN = 1, /* a name is being looked up: ask again when name_service_wait() tells */
	EXPORTS_PLACE = 2,   /* it depends on the place: exports_rights_at() */
};

/* @ns, @names: borrowed for its life; @names may be NULL, and then rules with names are not known to be true or false */
struct exports *exports_new(const struct namespace *ns, struct name_service *names);
void exports_free(struct exports *exports);

/**
 * exports_rights() - what a client may do in a volume
 * @volume:	volume id; NAMESPACE_ROOT_VOLUME: the virtual root, which any client of any export may walk
 * @client:	address and port
 * @out:	out: untouched on failure
 *
 * Return: 0; an enum exports_open; -EACCES if no export lets this client in, or the port is not privileged where it must be;
 * -EINPROGRESS if the name service does not say whether one does; -ENOMEM
 */
int exports_rights(struct exports *exports, uint32_t volume, const struct sockaddr_storage *client,
		   struct export_rights *out);

/**
 * exports_rights_at() - what a client may do at a place in a volume
 * @path:	from the volume's root, which is ""; empty components and "." mean nothing, ".." is refused
 * @export_id:	out: which export decides; two places with the same are in one export. May be NULL
 *
 * Return: as exports_rights(), but never EXPORTS_PLACE
 */
int exports_rights_at(struct exports *exports, uint32_t volume, const char *path, const struct sockaddr_storage *client,
		      struct export_rights *out, uint32_t *export_id);

/* Does an export lead into the volume? Then handles must tell where their objects are. */
bool exports_divide(struct exports *exports, uint32_t volume);

/* Does an export lead to a place in a volume, or through it? Then rights depend on its name. @path: as exports_rights_at() */
bool exports_name(struct exports *exports, uint32_t volume, const char *path);

/**
 * exports_next_client() - the clients of an export, as their administrator wrote them, without options
 * @export:	borrowed
 * @at:		0 at first
 * @text:	out: an address, network, name, wildcard, @netgroup or *; EXPORT_NAME_MAX + 2 bytes
 *
 * Return: false at the end
 */
bool exports_next_client(struct exports *exports, const ns_export *export, size_t *at, char *text);

/**
 * exports_check() - is a list of clients well-formed
 * @clients:	as in ns_export
 * @why:	out: on failure where and what is wrong and what would be right, at least EXPORT_WHY_MAX
 *
 * Return: 0; -EINVAL; -ENOMEM
 */
int exports_check(const char *clients, char *why, size_t why_size);

/*
 * Squash: what identity the client's credentials become under these rights. Ids of -1, which name nobody, become
 * anonymous, as with knfsd. @is_nobody: AUTH_NONE: there are no credentials.
 */
void exports_squash(const struct export_rights *rights, bool is_nobody, struct credentials *who);

#endif
