/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/spread_directory.h - the backend of a spread directory itself
 *
 * Answers from the index (common/spread.h), the same on every device: only the directory, for what is in it belongs to the branches'
 * volumes. Nothing can be changed through it: the functions for that are NULL, and such calls take another way (common/nfs3_spread.c).
 * Numbers that clients keep:
 *
 *	fsid	of the spread directory; its branches have the same
 *	fileid	NAMESPACE_SPREAD_FILEID; an entry's is the one that its branch gives it
 *	cookie	1 for ".", 2 for "..", id + 2 for an entry: stable, so the cookie verifier is always 0
 *
 * LOOKUP finds an entry's handle without attributes, wherever it is.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_SPREAD_DIRECTORY_H
#define VNAS_COMMON_SPREAD_DIRECTORY_H

#include "common/backend.h"
#include "common/spread.h"

/**
 * spread_directory_open() - a spread directory as a volume
 * @spreads:	borrowed as long as @out is used; from other threads only to be passed on
 * @spread:	in the name space
 * @out:	out: needs no closing; good until the name space changes
 */
void spread_directory_open(const struct spreads *spreads, const ns_spread *spread, struct volume *out);

/* What is known of the directory: -EINPROGRESS if that is nothing yet, -ESTALE if there is no such directory any more. */
int spread_directory_stat(const struct spreads *spreads, uint32_t id, struct stat *st);

#endif
