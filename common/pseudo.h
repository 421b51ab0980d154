/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/pseudo.h - the backend of the virtual root
 *
 * Answers for volume 0 from the name space replica, the same on every device: directories of mode 0755 that belong
 * to root. Nothing can be changed through it: the modifying functions are NULL, and exports_rights() never lets a
 * client write to volume 0. Numbers that clients keep:
 *
 *	fsid	the first 8 bytes of the cluster's UUID
 *	fileid	the entry's id; a mount point shows its own in READDIR, and the volume's root in LOOKUP
 *	cookie	1 for ".", 2 for "..", id + 2 for an entry: stable, so the cookie verifier is always 0
 *
 * Looking up a mount point finds the volume's root without attributes, wherever the volume is.
 *
 * Threads: the name space's.
 */
#ifndef VNAS_COMMON_PSEUDO_H
#define VNAS_COMMON_PSEUDO_H

#include "common/backend.h"
#include "common/namespace.h"

extern const struct backend pseudo_backend;

/* What holds in directories that are made of records: as most file systems have it. */
extern const struct backend_limits pseudo_directory_limits;

/**
 * pseudo_open() - the virtual root as a volume
 * @ns:		loaded; borrowed as long as @out is used
 * @out:	out: needs no closing; to be made again after each load or apply
 */
void pseudo_open(const struct namespace *ns, struct volume *out);

#endif
