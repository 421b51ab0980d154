/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/handle.h - NFS file handles
 *
 * A handle names a file on every device of the cluster, across restarts and reboots, and can't be forged. Layout
 * (docs/protocol.md has the same table):
 *
 *	offset	bytes	field
 *	0	1	version, HANDLE_VERSION
 *	1	1	type, enum handle_type
 *	2	2	the backend's handle type (handle_type of name_to_handle_at(2); 0 in the virtual root)
 *	4	4	volume id; 0 is the virtual root
 *	8	8	SipHash-2-4 with the cluster's handle key over all other bytes, in order, as a number
 *	16	0-48	the backend's own handle
 *
 * Numbers are in network byte order.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_HANDLE_H
#define VNAS_COMMON_HANDLE_H

#include "common/siphash.h"

#include <stddef.h>
#include <stdint.h>

enum {
	HANDLE_VERSION = 1,
	HANDLE_HEADER_BYTES = 16,
	HANDLE_BACKEND_MAX = 48,
	HANDLE_MAX = HANDLE_HEADER_BYTES + HANDLE_BACKEND_MAX, /* NFS3_FHSIZE, RFC 1813, 2.3.3 */
};

enum handle_type {
	HANDLE_PSEUDO = 1, /* an entry of the virtual root; the backend's handle is its 64-bit entry id */
	HANDLE_LOCAL = 2,  /* a file in a local file system of the volume's owner */
	HANDLE_LOCAL_IN = 3, /* a file and the directory it was found in: two of HANDLE_LOCAL, of one type and length */
	HANDLE_SPREAD = 4, /* a spread directory, whose id stands for the volume's; the backend's handle is empty */
};

/* A handle taken apart. */
struct handle {
	enum handle_type type;
	uint32_t volume;
	uint16_t backend_type;
	uint8_t backend_len;
	uint8_t backend[HANDLE_BACKEND_MAX];
};

struct handle_key {
	uint8_t bytes[SIPHASH_KEY_BYTES];
};

/**
 * handle_encode() - a handle as the client keeps it
 * @key:	the cluster's key
 * @handle:	borrowed
 * @out:	HANDLE_MAX bytes of room
 *
 * Return: the length in bytes, at least HANDLE_HEADER_BYTES, at most HANDLE_MAX
 */
size_t handle_encode(const struct handle_key *key, const struct handle *handle, uint8_t out[static HANDLE_MAX]);

/**
 * handle_decode() - take apart what a client sent
 * @key:	the cluster's key
 * @bytes:	borrowed
 * @len:	how many
 * @out:	untouched on failure
 *
 * Return: 0; -EBADMSG if length, version, type or hash is wrong (NFS3ERR_BADHANDLE)
 */
int handle_decode(const struct handle_key *key, const uint8_t *bytes, size_t len, struct handle *out);

/**
 * handle_join() - one handle of a file's and its directory's
 * @out:	of HANDLE_LOCAL_IN; untouched on failure
 *
 * Return: 0; -EOVERFLOW if the two don't fit, or differ in type or length
 */
int handle_join(const struct handle *file, const struct handle *directory, struct handle *out);

/* The reverse of handle_join(). */
void handle_split(const struct handle *both, struct handle *file, struct handle *directory);

#endif
